"""What every Transport promises, over real gRPC and over the simulated network."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec
import pytest

from base.errors import (
    AnswerLost,
    CallFailed,
    MessageTooLarge,
    Overloaded,
    PeerUnavailable,
    QueryCanceled,
    WriteTooOld,
)
from base.seams import MESSAGE_BYTES_MAX
from kvtier.rpc.transport import StreamTransport
from kvtier.rpc.wan import LatencyMatrix
from tests.transport.worlds import SETTINGS, SHORT_SILENCE, WORLDS, Inbox, World

Main = Callable[[World], Coroutine[Any, Any, Any]]


@pytest.fixture(params=["sim", "grpc"])
def run(request: pytest.FixtureRequest) -> Callable[[Main], Any]:
    """Runs the body of a test in one of the worlds; no test may leave a bug behind."""
    world = WORLDS[request.param]()

    def run_in_world(main: Main) -> Any:
        result = world.run(main)
        assert world.notes.bugs == []
        return result

    return run_in_world


def echo(transport: StreamTransport) -> None:
    """Every node of a pair answers ``kv.echo``."""
    transport.on_call("kv.echo", lambda node_id, message: message)


def test_messages_arrive_in_order_and_once(run: Any) -> None:
    async def main(world: World) -> None:
        one, two = await world.pair()
        inbox = Inbox(world, two, "raft.a", "raft.b")
        expected = []
        for number in range(2000):
            channel = "raft.a" if number % 3 else "raft.b"
            expected.append((1, channel, b"%d" % number))
            assert one.send(2, channel, b"%d" % number)
            if number % 100 == 0:
                await world.clock.sleep(0.001)
        assert await inbox.until(2000) == expected

    run(main)


def test_a_tick_leaves_in_one_bundle(run: Any) -> None:
    async def main(world: World) -> None:
        one, two = await world.pair(msgspec.structs.replace(SETTINGS, beat_seconds=30.0), echo)
        inbox = Inbox(world, two, "kv.x")
        await one.call(2, "kv.echo", b"", 10)
        before = one.counts["bundles_sent"]
        for _ in range(500):
            one.send(2, "kv.x", b"x" * 100)
        await inbox.until(500)
        assert one.counts["bundles_sent"] - before == 1

    run(main)


def test_both_directions_and_answers_at_once(run: Any) -> None:
    async def main(world: World) -> None:
        one, two = await world.pair(register=echo)
        pending = [one.call(2, "kv.echo", b"%d" % at, 10) for at in range(100)]
        backwards = [two.call(1, "kv.echo", b"%d" % at, 10) for at in range(100)]
        assert [await call for call in pending] == [b"%d" % at for at in range(100)]
        assert [await call for call in backwards] == [b"%d" % at for at in range(100)]

    run(main)


def test_large_messages_travel_in_chunks(run: Any) -> None:
    """4 MB go in bundles of 128 KB at most, and small messages behind them keep their place (reliability 125)."""
    big = bytes(range(256)) * (4 << 12)

    async def main(world: World) -> None:
        one, two = await world.pair(register=echo)
        inbox = Inbox(world, two, "kv.x", "raft.x")
        assert await one.call(2, "kv.echo", big, 30) == big
        assert one.counts["bundles_sent"] >= len(big) // (128 << 10)
        for message in (b"before", big, b"between", big, b"after"):
            assert one.send(2, "kv.x", message)
        assert one.send(2, "raft.x", b"beside")
        got = await inbox.until(6)
        kv = [message for _, channel, message in got if channel == "kv.x"]
        assert kv == [b"before", big, b"between", big, b"after"]
        assert (1, "raft.x", b"beside") in got

    run(main)


def test_too_large_is_refused(run: Any) -> None:
    async def main(world: World) -> None:
        one, two = await world.pair(register=echo)
        two.on_call("kv.big", lambda node_id, message: bytes(MESSAGE_BYTES_MAX + 1))
        with pytest.raises(MessageTooLarge):
            await one.call(2, "kv.echo", bytes(MESSAGE_BYTES_MAX + 1), 10)
        with pytest.raises(MessageTooLarge):
            one.send(2, "kv.x", bytes(MESSAGE_BYTES_MAX + 1))
        with pytest.raises(CallFailed) as failed:
            await one.call(2, "kv.big", b"", 10)
        assert failed.value.sqlstate == "54000"
        largest = bytes(MESSAGE_BYTES_MAX)
        assert await one.call(2, "kv.echo", largest, 30) == largest

    run(main)


def test_full_queue_refuses(run: Any) -> None:
    """A peer that takes nothing costs bounded memory, and nobody waits for it (reliability 126)."""
    settings = msgspec.structs.replace(SETTINGS, queue_frames_max=100, queue_bytes_max=50_000)

    async def main(world: World) -> None:
        one, two = await world.pair(settings, echo)
        inbox = Inbox(world, two, "kv.x")
        await one.call(2, "kv.echo", b"", 10)
        world.conditions.cut(1, 2)
        assert [one.send(2, "kv.x", b"") for _ in range(150)] == [True] * 100 + [False] * 50
        with pytest.raises(PeerUnavailable):
            await one.call(2, "kv.echo", b"", 10)
        world.conditions.heal(1, 2)
        await inbox.until(100)
        world.conditions.cut(1, 2)
        taken = sum(one.send(2, "kv.x", bytes(10_000)) for _ in range(10))
        assert taken == 4
        assert one.stats()["queued_bytes"] <= 50_000
        assert one.counts["dropped"] == 56
        world.conditions.heal(1, 2)
        assert len(await inbox.until(104)) == 104

    run(main)


def test_answers_that_are_not_taken_stop_the_reading(run: Any) -> None:
    settings = msgspec.structs.replace(SETTINGS, answer_bytes_max=300_000, silence_seconds=30.0)

    async def main(world: World) -> None:
        one, two = await world.pair(settings)
        served = []

        def blow_up(node_id: int, message: bytes) -> bytes:
            served.append(message)
            return bytes(100_000)

        two.on_call("kv.blow", blow_up)
        await one.call(2, "kv.blow", b"", 20)
        world.conditions.cut(2, 1)
        # Each request fills a bundle of its own.
        pending = [one.call(2, "kv.blow", bytes(100_000), 20) for _ in range(40)]
        stuck = two.stats
        while len(served) < 4:
            await world.clock.sleep(0.01)
        await world.clock.sleep(0.2)
        assert len(served) <= 6, "the node reads calls although its answers are not taken"
        assert stuck()["calls_running"] <= 5
        world.conditions.heal(2, 1)
        for call in pending:
            assert await call == bytes(100_000)

    run(main)


def test_errors_of_handlers_reach_the_caller(run: Any) -> None:
    def fail(node_id: int, message: bytes) -> bytes:
        if message == b"now":
            raise WriteTooOld(b"k", 7)
        return msgspec.msgpack.decode(message, type=bytes)

    async def main(world: World) -> None:
        one, two = await world.pair(register=echo)

        async def fail_later(node_id: int, message: bytes) -> bytes:
            await world.clock.sleep(0.001)
            raise QueryCanceled("too late")

        two.on_call("kv.fail", fail)
        two.on_call("kv.later", fail_later)
        raised = await world.outcome(one.call(2, "kv.fail", b"now", 10))
        assert isinstance(raised, CallFailed)
        assert raised.sqlstate == "40001"
        raised = await world.outcome(one.call(2, "kv.later", b"", 10))
        assert (raised.sqlstate, raised.message) == ("57014", "too late")
        raised = await world.outcome(one.call(2, "kv.fail", b"\xc1", 10))
        assert raised.sqlstate == "08P01"
        raised = await world.outcome(one.call(2, "kv.unknown", b"", 10))
        assert isinstance(raised, PeerUnavailable)
        assert await one.call(2, "kv.echo", b"still well", 10) == b"still well"
        assert one.counts["dials"] == 1

    run(main)


def test_a_bug_in_a_handler_is_told_and_harms_one_call(run: Any) -> None:
    async def main(world: World) -> None:
        one, two = await world.pair(register=echo)

        def break_down(node_id: int, message: bytes) -> bytes:
            raise KeyError("nothing")

        two.on_call("kv.broken", break_down)
        raised = await world.outcome(one.call(2, "kv.broken", b"", 10))
        assert (raised.sqlstate, raised.message) == ("XX000", "internal error f00d")
        assert [repr(bug) for bug in world.notes.bugs] == ["KeyError('nothing')"]
        world.notes.bugs.clear()
        assert await one.call(2, "kv.echo", b"x", 10) == b"x"

    run(main)


def test_nonsense_ends_its_stream_alone(run: Any) -> None:
    """A message that its handler cannot read closes that stream, with a line; others go on."""

    async def main(world: World) -> None:
        one, two = await world.pair(register=echo)
        three = await world.start(3, register=echo)
        two.on_message("raft.strict", lambda node_id, message: msgspec.msgpack.decode(message, type=int))
        for node in (one, three):
            await node.call(2, "kv.echo", b"", 10)
        gone: list[int] = []
        lost = world.scheduler.waiter()
        one.on_disconnect(lambda node_id: (gone.append(node_id), lost.wake()))
        one.send(2, "raft.strict", b"\xc1\xc1")
        await lost.wait()
        assert gone == [2]
        assert "bad message from a node {'node': 1, 'stream': 'raft'" in world.notes.text()
        assert await one.call(2, "kv.echo", b"a", 10) == b"a"
        assert await three.call(2, "kv.echo", b"b", 10) == b"b"
        assert one.counts["dials"] == 2
        assert three.counts["dials"] == 1

    run(main)


def test_deadlines_tell_whether_it_may_have_happened(run: Any) -> None:
    """Unanswered is one thing, unsent another (reliability 131)."""

    async def main(world: World) -> None:
        one, two = await world.pair(register=echo)
        cancelled = world.scheduler.waiter()

        async def never(node_id: int, message: bytes) -> bytes:
            try:
                await world.scheduler.waiter().wait()
            finally:
                cancelled.wake()
            return b""

        two.on_call("kv.never", never)
        # Connecting may take longer than a short deadline on a busy machine.
        await one.call(2, "kv.echo", b"", 30)
        with pytest.raises(AnswerLost):
            await one.call(2, "kv.never", b"", 0.5)
        await cancelled.wait()
        world.conditions.cut(1, 2)
        with pytest.raises(PeerUnavailable):
            await one.call(2, "kv.echo", b"", 0.1)
        world.conditions.heal(1, 2)
        assert await one.call(2, "kv.echo", b"x", 10) == b"x"
        assert one.stats()["calls_waiting"] == 0

    run(main)


def test_cancelling_the_caller_cancels_the_handler(run: Any) -> None:
    async def main(world: World) -> None:
        one, two = await world.pair(register=echo)
        begun, cancelled = world.scheduler.waiter(), world.scheduler.waiter()

        async def never(node_id: int, message: bytes) -> bytes:
            begun.wake()
            try:
                await world.scheduler.waiter().wait()
            finally:
                cancelled.wake()
            return b""

        two.on_call("kv.never", never)

        async def ask() -> bytes:
            return await one.call(2, "kv.never", b"", 100)

        task = world.spawn(ask())
        await begun.wait()
        task.cancel()
        await cancelled.wait()
        assert two.stats()["calls_running"] == 0
        assert one.stats()["calls_waiting"] == 0
        assert await one.call(2, "kv.echo", b"x", 10) == b"x"

    run(main)


def test_too_many_calls_are_refused(run: Any) -> None:
    settings = msgspec.structs.replace(SETTINGS, calls_running_max=3)

    async def main(world: World) -> None:
        one, two = await world.pair(settings)
        release = world.scheduler.waiter()

        async def wait(node_id: int, message: bytes) -> bytes:
            await release.wait()
            return b"done"

        two.on_call("kv.wait", wait)
        pending = [one.call(2, "kv.wait", b"", 10) for _ in range(5)]
        refused = [await world.outcome(call) for call in pending[3:]]
        assert [type(error) for error in refused] == [Overloaded, Overloaded]
        release.wake()
        assert [await call for call in pending[:3]] == [b"done"] * 3

    run(main)


def test_a_peer_that_stops_and_comes_back(run: Any) -> None:
    """Calls under way are lost or unavailable, never stuck; the next life is found at its new address."""

    async def main(world: World) -> None:
        one, two = await world.pair(register=echo)
        begun, lost = world.scheduler.waiter(), world.scheduler.waiter()
        one.on_disconnect(lambda node_id: lost.wake())

        async def never(node_id: int, message: bytes) -> bytes:
            begun.wake()
            await world.scheduler.waiter().wait()
            return b""

        two.on_call("kv.never", never)
        under_way = one.call(2, "kv.never", b"", 30)
        await begun.wait()
        await world.stop(two)
        assert isinstance(await world.outcome(under_way), AnswerLost)
        await lost.wait()
        with pytest.raises(PeerUnavailable):
            await one.call(2, "kv.echo", b"", 30)
        two = await world.start(2, register=echo)
        await reach(world, one, 2)
        assert await one.call(2, "kv.echo", b"x", 30) == b"x"

    run(main)


async def reach(world: World, transport: StreamTransport, node_id: int) -> None:
    """Waits until a peer can be called again; the contract's backoff is bounded, so this ends."""
    while True:
        try:
            await transport.call(node_id, "kv.echo", b"", 10)
            return
        except (PeerUnavailable, AnswerLost):
            await world.clock.sleep(0.02)


def test_wrong_cluster_and_wrong_node_are_refused(run: Any) -> None:
    """reliability 4.2 (60): both ends check, before any message is looked at."""

    async def main(world: World) -> None:
        one, two = await world.pair(register=echo)
        stranger = await world.start(3, cluster=b"another cluster!", register=echo)
        inbox = Inbox(world, two, "kv.x")
        stranger.send(2, "kv.x", b"intruder")
        raised = await world.outcome(stranger.call(2, "kv.echo", b"", 10))
        assert isinstance(raised, PeerUnavailable)
        assert "another cluster" in str(raised)
        assert inbox.got == []
        assert two.counts["refusals"] == 1
        assert await one.call(2, "kv.echo", b"x", 10) == b"x"

    run(main)


def test_partition_is_noticed_and_heals(run: Any) -> None:
    async def main(world: World) -> None:
        one, two = await world.pair(SHORT_SILENCE, echo)
        await one.call(2, "kv.echo", b"", 10)
        noticed = {1: world.scheduler.waiter(), 2: world.scheduler.waiter()}
        one.on_disconnect(lambda node_id: noticed[1].wake())
        two.on_disconnect(lambda node_id: noticed[2].wake())
        world.conditions.partition(1, 2)
        under_way = one.call(2, "kv.echo", b"", 30)
        await noticed[1].wait()
        await noticed[2].wait()
        assert isinstance(await world.outcome(under_way), PeerUnavailable)
        assert not one.is_connected(2, "kv")
        world.conditions.heal_all()
        await reach(world, one, 2)
        assert await two.call(1, "kv.echo", b"y", 10) == b"y"

    run(main)


def test_nothing_old_arrives_after_a_partition(run: Any) -> None:
    """What was queued for a stream that broke is dropped, not delivered behind newer messages (reliability 130)."""

    async def main(world: World) -> None:
        one, two = await world.pair(SHORT_SILENCE, echo)
        inbox = Inbox(world, two, "kv.x")
        await one.call(2, "kv.echo", b"", 10)
        noticed = world.scheduler.waiter()
        one.on_disconnect(lambda node_id: noticed.wake())
        world.conditions.cut(1, 2)
        for number in range(10):
            assert one.send(2, "kv.x", b"old %d" % number)
        await noticed.wait()
        assert not one.send(2, "kv.x", b"refused while it waits")
        world.conditions.heal_all()
        await reach(world, one, 2)
        one.send(2, "kv.x", b"new")
        assert [message for _, _, message in await inbox.until(1)] == [b"new"]

    run(main)


def test_one_way_loss_lets_the_other_way_pass(run: Any) -> None:
    """The partition that no stream notices: signs of life pass, messages of one direction do not."""

    async def main(world: World) -> None:
        one, two = await world.pair(register=echo)
        at_one, at_two = Inbox(world, one, "raft.x"), Inbox(world, two, "raft.x")
        await two.call(1, "kv.echo", b"", 30)
        world.conditions.set_loss(1, 2, 1.0)
        for number in range(5):
            assert one.send(2, "raft.x", b"%d" % number)
            assert two.send(1, "raft.x", b"%d" % number)
        await at_one.until(5)
        with pytest.raises(AnswerLost):
            await one.call(2, "kv.echo", b"", 0.1)
        with pytest.raises(AnswerLost):
            await two.call(1, "kv.echo", b"", 0.5)
        assert at_two.got == []
        world.conditions.heal(1, 2)
        one.send(2, "raft.x", b"through")
        assert [message for _, _, message in await at_two.until(1)] == [b"through"]

    run(main)


def test_latency_between_regions_is_honest(run: Any) -> None:
    matrix = LatencyMatrix({"us": {"eu": 60.0}})
    regions = {1: "us", 2: "eu"}

    async def main(world: World) -> None:
        one, two = await world.pair(register=echo)
        inbox = Inbox(world, two, "kv.x")
        await one.call(2, "kv.echo", b"", 10)
        # Real time is another matter on a machine that does other things too; too early is wrong everywhere.
        slack = 2 if world.kind == "sim" else 35
        assert await round_trip(world, one) < slack
        world.conditions.set_latency(matrix, regions.get)
        spent = await round_trip(world, one)
        assert 60 <= spent < 60 + slack, "half of it each way, and little more"
        # Order holds even where the delay gets shorter on the way.
        one.send(2, "kv.x", b"slow")
        world.conditions.set_latency(None, regions.get)
        one.send(2, "kv.x", b"fast")
        assert [message for _, _, message in await inbox.until(2)] == [b"slow", b"fast"]
        world.conditions.set_extra_delay(2, 1, 0.04)
        assert 40 <= await round_trip(world, one) < 40 + slack

    run(main)


async def round_trip(world: World, transport: StreamTransport) -> float:
    """Returns the shortest of several calls, in milliseconds."""
    best = 1e9
    for _ in range(8):
        begin_ns = world.clock.monotonic_ns()
        await transport.call(2, "kv.echo", b"", 10)
        best = min(best, (world.clock.monotonic_ns() - begin_ns) / 1e6)
    return best


def test_beats_measure_the_clocks(run: Any) -> None:
    async def main(world: World) -> None:
        one, _two = await world.pair(register=echo)
        world.conditions.set_extra_delay(1, 2, 0.02)
        world.conditions.set_extra_delay(2, 1, 0.02)
        await one.call(2, "kv.echo", b"", 10)
        while not one.peers():
            await world.clock.sleep(0.05)
        (peer,) = one.peers()
        assert peer["node_id"] == 2
        assert peer["rtt_ms"] >= 40
        assert abs(peer["offset_ms"]) <= peer["error_ms"]
        assert world.notes.strays == []

    run(main)


def test_drain_lets_calls_end(run: Any) -> None:
    async def main(world: World) -> None:
        one, two = await world.pair(register=echo)
        begun, release = world.scheduler.waiter(), world.scheduler.waiter()

        async def wait(node_id: int, message: bytes) -> bytes:
            begun.wake()
            await release.wait()
            return b"done"

        two.on_call("kv.wait", wait)
        running = one.call(2, "kv.wait", b"", 10)
        await begun.wait()
        drained = two.begin_drain()
        with pytest.raises(PeerUnavailable):
            await one.call(2, "kv.echo", b"", 10)
        release.wake()
        assert await running == b"done"
        await drained

    run(main)


def test_forgetting_a_peer(run: Any) -> None:
    async def main(world: World) -> None:
        one, _two = await world.pair(register=echo)
        await one.call(2, "kv.echo", b"", 10)
        one.disconnect(2)
        assert one.stats()["streams"] == 0
        assert one.peers() == []
        assert await one.call(2, "kv.echo", b"again", 10) == b"again"

    run(main)


def test_four_nodes_talk_to_each_other(run: Any) -> None:
    async def main(world: World) -> None:
        nodes = [await world.start(at, register=echo) for at in (1, 2, 3, 4)]
        calls: list[Awaitable[bytes]] = []
        for node in nodes:
            for other in nodes:
                if other is not node:
                    calls += [node.call(other.node_id, "kv.echo", b"%d" % at, 20) for at in range(20)]
        assert [await call for call in calls] == [b"%d" % at for at in range(20)] * 12

    run(main)
