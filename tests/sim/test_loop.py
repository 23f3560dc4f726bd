"""The deterministic loop: order, time, cancellation, scopes (reliability 143-149)."""

from __future__ import annotations

from asyncio import CancelledError

import pytest

from base.eager import Suspended, run_eagerly
from sim.loop import Loop, Stuck, TaskFailed


async def finished(suspended: Suspended) -> object:
    """Waits for the end of what was left waiting."""
    return await suspended


def test_equal_deadlines_fire_in_order_of_creation():
    """reliability 144: asyncio fires 0,2,6,5,... for equal deadlines."""
    loop, fired = Loop(), []

    async def main():
        for number in range(8):
            loop.main.call_later(1.0, lambda number=number: fired.append(number))
        await loop.main.clock.sleep(2)

    loop.run(main())
    assert fired == list(range(8))


def test_time_is_virtual_and_jumps():
    """An hour of sleep takes no real time; steps take no virtual time."""
    loop = Loop()

    async def main():
        before = loop.main.clock.wall_ns()
        await loop.main.clock.sleep(3600)
        return loop.main.clock.wall_ns() - before

    assert loop.run(main()) == 3600 * 10**9
    assert loop.steps < 10


def test_a_lost_wakeup_is_found():
    """Nobody can wake the waiter: the run fails with the task's name instead of hanging."""
    loop = Loop()

    async def main():
        await loop.main.waiter().wait()

    with pytest.raises(Stuck, match="main/orphan"):
        loop.run(main(), name="orphan")


def test_an_unobserved_failure_stops_the_run():
    """reliability 135: a background task's exception is never dropped."""
    loop = Loop()

    async def broken():
        raise ValueError("boom")

    async def main():
        loop.main.spawn(broken(), "broken")
        await loop.main.clock.sleep(1)

    with pytest.raises(TaskFailed, match="broken"):
        loop.run(main())


def test_an_awaited_failure_belongs_to_the_awaiter():
    loop = Loop()

    async def broken():
        raise ValueError("boom")

    async def main():
        try:
            await loop.main.spawn(broken(), "broken")
        except ValueError as error:
            return str(error)

    assert loop.run(main()) == "boom"


def test_cancel_raises_where_the_task_waits():
    """The waiter of a cancelled task is over; a later wake does nothing."""
    loop, story = Loop(), []
    event = loop.main.waiter()

    async def waits():
        try:
            await event.wait()
        except CancelledError:
            story.append("cancelled")
            raise

    async def main():
        task = loop.main.spawn(waits(), "waits")
        await loop.main.clock.sleep(1)
        task.cancel()
        await loop.main.clock.sleep(1)
        assert task.is_done()
        assert event.is_done()
        event.wake("late")

    loop.run(main())
    assert story == ["cancelled"]


def test_a_cancel_is_not_swallowed_by_a_wake_in_the_same_tick():
    """reliability 132: asyncio.wait_for loses the cancellation here."""
    loop, story = Loop(), []
    event = loop.main.waiter()

    async def waits():
        story.append(await event.wait())
        await loop.main.clock.sleep(10)
        story.append("not reached")

    async def main():
        task = loop.main.spawn(waits(), "waits")
        await loop.main.clock.sleep(1)
        event.wake("woken")
        task.cancel()
        await loop.main.clock.sleep(20)
        return task.error

    assert isinstance(loop.run(main()), CancelledError)
    assert story == []


def test_a_crash_runs_no_cleanup():
    """reliability 148: power loss; finally blocks that touch disks must not run."""
    loop, story = Loop(), []
    node = loop.scope("node1")

    async def works():
        try:
            await node.clock.sleep(5)
            story.append("finished")
        finally:
            story.append("cleanup")

    async def main():
        node.spawn(works(), "works")
        node.call_later(3, lambda: story.append("timer"))
        await loop.main.clock.sleep(1)
        node.crash()
        node.spawn(works(), "after death")
        await loop.main.clock.sleep(10)

    loop.run(main())
    assert story == []


def test_a_paused_scope_sleeps_through_its_timers():
    """A pause delays everything of the node, but not time itself."""
    loop, story = Loop(), []
    node = loop.scope("node1")

    async def main():
        for second in (1, 2):
            node.call_later(second, lambda second=second: story.append((second, node.clock.monotonic_ns() // 10**9)))
        node.pause()
        await loop.main.clock.sleep(30)
        node.resume()
        await loop.main.clock.sleep(1)

    loop.run(main())
    assert story == [(1, 30), (2, 30)]


def test_scopes_have_their_own_clocks():
    loop = Loop()
    fast = loop.scope("fast")
    fast.clock.offset_ns, fast.clock.drift_ppm = 1_000, 100

    async def main():
        await loop.main.clock.sleep(1)
        return fast.clock.wall_ns() - loop.main.clock.wall_ns()

    assert loop.run(main()) == 1_000 + 100_000


def test_blocking_calls_answer_later_and_inline():
    loop, story = Loop(seed=5), []

    async def main():
        assert await loop.main.run_blocking(lambda: story.append("ran") or 7) == 7
        return loop.now_ns

    assert 0 < loop.run(main()) <= 2_000_000
    assert story == ["ran"]


def interleaving(seed: int, explore: bool) -> tuple[str, int]:
    loop, story = Loop(seed, explore), []

    async def worker(name: str) -> None:
        for _ in range(6):
            story.append(name)
            await loop.main.clock.sleep(loop.rng.below(3))

    async def main() -> None:
        for task in [loop.main.spawn(worker(name), name) for name in "abcd"]:
            await task

    loop.run(main())
    return "".join(story), loop.digest


def test_one_seed_one_run():
    """reliability 149: same seed, same trace; exploring seeds differ from one another."""
    for seed in range(10):
        assert interleaving(seed, True) == interleaving(seed, True)
    assert len({interleaving(seed, True)[0] for seed in range(10)}) > 5
    assert interleaving(1, False) == interleaving(1, False)


def test_run_for_stops_at_the_end_of_the_time():
    loop, story = Loop(), []
    loop.main.call_later(1, lambda: story.append(1))
    loop.main.call_later(3, lambda: story.append(3))
    loop.run_for(2)
    assert story == [1]
    assert loop.now_ns == 2 * 10**9
    loop.run_for(2)
    assert story == [1, 3]


def test_an_interrupted_wait_raises_what_the_interrupter_says():
    """A suspended statement is cancelled through ``base.eager.Suspended``, as the connection does it."""
    loop = Loop(0)
    waiter = loop.main.waiter()

    async def statement() -> str:
        try:
            await waiter.wait()
        except ValueError:
            return "interrupted"
        return "woken"

    coroutine = statement()
    suspended = Suspended(coroutine, run_eagerly(coroutine))
    task = loop.main.spawn(finished(suspended), "statement")
    loop.settle()
    suspended.interrupt(ValueError())
    loop.settle()
    assert task.result == "interrupted"


def test_a_wait_interrupted_before_it_began_is_interrupted():
    """Seed 22: the client hung up between a statement's suspension and its task's first step; its locks stayed."""
    loop = Loop()
    seen = []

    async def statement():
        try:
            await loop.main.waiter().wait()
        except TimeoutError as error:
            seen.append(str(error))

    coroutine = statement()
    suspended = Suspended(coroutine, run_eagerly(coroutine))

    async def main():
        task = loop.main.spawn(finished(suspended), "statement")
        suspended.interrupt(TimeoutError("client is gone"))
        await task

    loop.run(main())
    assert seen == ["client is gone"]


def test_of_two_interruptions_at_once_the_first_is_seen():
    """Seed 50 of 60 seconds: a cancel request, then the loss of the client; the session kept its locks for ever."""
    loop = Loop()
    waiter = loop.main.waiter()

    async def statement() -> str:
        try:
            await waiter.wait()
        except TimeoutError as error:
            return str(error)
        return "woken"

    coroutine = statement()
    suspended = Suspended(coroutine, run_eagerly(coroutine))
    task = loop.main.spawn(finished(suspended), "statement")
    loop.settle()
    suspended.interrupt(TimeoutError("canceled"))
    suspended.interrupt(TimeoutError("client is gone"))
    loop.settle()
    assert task.result == "canceled"
