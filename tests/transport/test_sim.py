"""The simulated network alone: crashes, standstills, and one run per seed."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from base.errors import AnswerLost, PeerUnavailable
from tests.transport.test_contract import echo, reach
from tests.transport.worlds import SETTINGS, Inbox, SimWorld, World

CALM = msgspec.structs.replace(SETTINGS, beat_seconds=1.0, silence_seconds=3.0, backoff_seconds_max=1.0)


def crash(world: SimWorld, node: Any, is_silent: bool) -> None:
    world.scope_of(node).crash()
    world.nodes.crash(node.node_id, is_silent)


@pytest.mark.parametrize("is_silent", [False, True])
def test_a_crash_is_noticed(is_silent: bool) -> None:
    """A process that dies resets its connections; a machine without power says nothing, and is found silent."""
    world = SimWorld()

    async def main(world: World) -> None:
        assert isinstance(world, SimWorld)
        one, two = await world.pair(CALM, echo)
        await one.call(2, "kv.echo", b"", 10)
        begun = world.scheduler.waiter()

        async def never(node_id: int, message: bytes) -> bytes:
            begun.wake()
            await world.scope_of(two).waiter().wait()
            return b""

        two.on_call("kv.never", never)
        under_way = one.call(2, "kv.never", b"", 100)
        await begun.wait()
        crash_ns = world.clock.monotonic_ns()
        crash(world, two, is_silent)
        assert isinstance(await world.outcome(under_way), AnswerLost)
        noticed = (world.clock.monotonic_ns() - crash_ns) / 1e9
        assert 3 <= noticed <= 4.1 if is_silent else noticed < 0.01
        raised = await world.outcome(one.call(2, "kv.echo", b"", 100))
        assert isinstance(raised, PeerUnavailable)
        await world.start(2, CALM, register=echo)
        await reach(world, one, 2)
        assert (world.clock.monotonic_ns() - crash_ns) / 1e9 <= noticed + 1.1

    world.run(main)


def test_a_node_that_stands_still_takes_nothing_and_loses_nothing() -> None:
    """Paused for less than the silence: everything arrives, in order; meanwhile the sender is bounded."""
    settings = msgspec.structs.replace(CALM, silence_seconds=30.0, queue_bytes_max=1 << 20)
    world = SimWorld()

    async def main(world: World) -> None:
        assert isinstance(world, SimWorld)
        one, two = await world.pair(settings, echo)
        inbox = Inbox(world, two, "kv.x")
        await one.call(2, "kv.echo", b"", 10)
        world.scope_of(two).pause()
        taken = []
        for number in range(1000):
            if one.send(2, "kv.x", b"%d " % number + bytes(10_000)):
                taken.append(number)
            await world.clock.sleep(0.001)
        assert len(taken) < 300
        assert one.stats()["queued_bytes"] <= 1 << 20
        world.scope_of(two).resume()
        got = await inbox.until(len(taken))
        assert [int(message.split()[0]) for _, _, message in got] == taken

    world.run(main)


def test_a_restarted_node_hears_nothing_of_its_last_life() -> None:
    world = SimWorld()

    async def main(world: World) -> None:
        assert isinstance(world, SimWorld)
        one, two = await world.pair(CALM, echo)
        await one.call(2, "kv.echo", b"", 10)
        for number in range(100):
            one.send(2, "kv.x", b"old %d" % number)
        crash(world, two, True)
        two = await world.start(2, CALM, register=echo)
        inbox = Inbox(world, two, "kv.x")
        await world.clock.sleep(0.1)
        assert inbox.got == []
        await world.clock.sleep(5.0)
        await reach(world, one, 2)
        one.send(2, "kv.x", b"new")
        assert [message for _, _, message in await inbox.until(1)] == [b"new"]

    world.run(main)


def busy(seed: int) -> tuple[int, int, list[tuple[int, int, int]]]:
    """Three nodes under partitions, losses, delays and restarts; returns what identifies the run.

    The last part is what arrived: (from, to, number), where numbers only grow.
    """
    world = SimWorld(seed)
    got: list[tuple[int, int, int]] = []

    def register(node: Any) -> None:
        echo(node)
        node.on_message("raft.x", lambda source, message: got.append((source, node.node_id, int(message))))

    async def main(world: World) -> None:
        assert isinstance(world, SimWorld)
        nodes = {at: await world.start(at, CALM, register=register) for at in (1, 2, 3)}
        draws = world.streams.stream("test")
        for step in range(400):
            one, other = draws.pick([1, 2, 3]), draws.pick([1, 2, 3])
            what = draws.below(20)
            if one == other:
                await world.clock.sleep(draws.between(0, 0.5))
            elif what == 0:
                world.conditions.partition(one, other)
            elif what == 1:
                world.conditions.set_loss(one, other, 0.3)
            elif what == 2:
                world.conditions.heal_all()
            elif what == 3:
                crash(world, nodes[one], draws.chance(0.5))
                nodes[one] = await world.start(one, CALM, register=register)
            elif what == 4:
                world.conditions.set_extra_delay(one, other, draws.between(0, 0.2))
            else:
                nodes[one].send(other, "raft.x", b"%d" % step)
                world.spawn(ignore(world, nodes[one].call(other, "kv.echo", b"", 1.0)))
        await world.clock.sleep(2.0)

    world.run(main)
    assert world.notes.bugs == []
    return world.loop.digest, world.loop.steps, got


async def ignore(world: World, call: Any) -> None:
    await world.outcome(call)


def test_a_seed_gives_one_run() -> None:
    first, again, other = busy(7), busy(7), busy(8)
    assert first == again
    assert first[0] != other[0]


@pytest.mark.parametrize("seed", range(20))
def test_order_holds_whatever_happens(seed: int) -> None:
    """Of two messages from one node to another the later one never arrives first, across partitions and lives."""
    _digest, _steps, got = busy(seed)
    assert got
    for pair in sorted({(source, target) for source, target, _ in got}):
        numbers = [number for source, target, number in got if (source, target) == pair]
        assert all(earlier < later for earlier, later in itertools.pairwise(numbers)), pair
