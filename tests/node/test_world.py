"""The production loop: eager driving, failures that stop it, blocking calls off the loop."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from base.eager import Done, Suspended, run_eagerly
from node.world import LoopScheduler, SystemClock, SystemRng, run


async def finished(suspended: Suspended) -> Any:
    """Waits for the end of what was left waiting."""
    return await suspended


def test_main_returns_its_result() -> None:
    async def main(scheduler: LoopScheduler) -> int:
        result: int = await scheduler.spawn(answer(), "answer")
        return result

    async def answer() -> int:
        await SystemClock().sleep(0)
        return 42

    assert run(main) == 42


def test_clocks_go_forward() -> None:
    async def main(scheduler: LoopScheduler) -> int:
        clock = SystemClock()
        before = clock.monotonic_ns()
        await clock.sleep(0.01)
        assert clock.wall_ns() > 1_700_000_000_000_000_000
        return clock.monotonic_ns() - before

    assert run(main) >= 9_000_000


def test_randomness_has_its_range() -> None:
    rng = SystemRng()
    assert len(rng.bytes(16)) == 16
    assert rng.bytes(16) != rng.bytes(16)
    assert sorted({rng.below(3) for _ in range(200)}) == [0, 1, 2]
    assert all(0 <= rng.random() < 1 for _ in range(100))


def test_an_unexpected_exception_stops_the_node() -> None:
    async def fails() -> None:
        raise ValueError("bug")

    async def main(scheduler: LoopScheduler) -> None:
        scheduler.spawn(fails(), "fails")
        await SystemClock().sleep(60)

    with pytest.raises(ValueError, match="bug"):
        run(main)


def test_a_failing_callback_stops_the_node() -> None:
    def fails() -> None:
        raise ValueError("bug in a callback")

    async def main(scheduler: LoopScheduler) -> None:
        scheduler.call_later(0, fails)
        await SystemClock().sleep(60)

    with pytest.raises(ValueError, match="bug in a callback"):
        run(main)


def test_an_awaited_failure_is_the_awaiters() -> None:
    async def fails() -> None:
        await SystemClock().sleep(0.001)
        raise ValueError("expected")

    async def main(scheduler: LoopScheduler) -> str:
        task = scheduler.spawn(fails(), "fails")
        try:
            await task
        except ValueError as error:
            return str(error)
        return ""

    assert run(main) == "expected"


def test_blocking_calls_run_one_by_one_in_one_thread() -> None:
    async def main(scheduler: LoopScheduler) -> list[int]:
        first = scheduler.run_blocking(threading.get_ident)
        second = scheduler.run_blocking(threading.get_ident)
        return [await first, await second]

    threads = run(main)
    assert threads[0] == threads[1] != threading.get_ident()


def test_a_waiter_hands_over_a_value_or_an_error() -> None:
    async def main(scheduler: LoopScheduler) -> None:
        waiter = scheduler.waiter()
        scheduler.call_soon(lambda: waiter.wake("value"))
        assert not waiter.is_done()
        assert await waiter.wait() == "value"
        waiter.fail(ValueError("too late"))
        failing = scheduler.waiter()
        failing.fail(ValueError("nobody waits"))
        with pytest.raises(ValueError, match="nobody waits"):
            await failing.wait()
        cancel = scheduler.call_later(0.001, lambda: pytest.fail("cancelled timer fired"))
        cancel()
        await SystemClock().sleep(0.005)

    run(main)


def test_a_coroutine_driven_eagerly_goes_on_as_a_task() -> None:
    """What a connection does with a statement that has to wait (base.eager)."""
    events: list[Any] = []

    async def statement(scheduler: LoopScheduler, waiter: Any) -> str:
        events.append("started")
        events.append(await waiter.wait())
        await SystemClock().sleep(0)
        events.append(await scheduler.run_blocking(lambda: "blocked"))
        return "done"

    async def main(scheduler: LoopScheduler) -> str:
        waiter = scheduler.waiter()
        coroutine = statement(scheduler, waiter)
        waiting = run_eagerly(coroutine)
        assert not isinstance(waiting, Done)
        assert events == ["started"]
        task = scheduler.spawn(finished(Suspended(coroutine, waiting)), "statement")
        scheduler.call_later(0.001, lambda: waiter.wake("woken"))
        result: str = await task
        return result

    assert run(main) == "done"
    assert events == ["started", "woken", "blocked"]


def test_an_interruption_is_raised_where_the_statement_waits() -> None:
    async def statement(waiter: Any) -> str:
        try:
            await waiter.wait()
        except TimeoutError as error:
            return f"interrupted by {error}"
        return "not interrupted"

    async def main(scheduler: LoopScheduler) -> str:
        coroutine = statement(scheduler.waiter())
        suspended = Suspended(coroutine, run_eagerly(coroutine))
        task = scheduler.spawn(finished(suspended), "statement")
        scheduler.call_later(0.001, lambda: suspended.interrupt(TimeoutError("statement_timeout")))
        result: str = await task
        return result

    assert run(main) == "interrupted by statement_timeout"


def test_what_grpc_finds_for_another_loop_stops_nobody() -> None:
    """Its poller serves all loops of a process, and tells whichever runs of one that is closed."""
    source = compile("raise RuntimeError('Event loop is closed')", "aio/completion_queue.pyx.pxi", "exec")

    async def main(scheduler: LoopScheduler) -> str:
        scheduler.call_soon(lambda: exec(source))
        await SystemClock().sleep(0.01)
        return "goes on"

    assert run(main) == "goes on"


def test_random_bytes_are_never_given_twice() -> None:
    rng = SystemRng()
    seen = [rng.bytes(n) for n in (16, 32, 1, 100) * 1000]
    assert [len(taken) for taken in seen] == [16, 32, 1, 100] * 1000
    long_enough = [taken for taken in seen if len(taken) >= 16]
    assert len(set(long_enough)) == len(long_enough)


def test_a_suspended_coroutine_goes_on_without_a_task() -> None:
    """Values, failures of what it waits for, interruptions: each reaches the coroutine where it waits."""
    story: list[Any] = []

    async def statement(scheduler: LoopScheduler, waiters: list[Any], suspended: list[Suspended]) -> None:
        story.append(await waiters[0].wait())
        scheduler.call_soon(lambda: waiters[1].fail(ValueError("failed")))
        try:
            await waiters[1].wait()
        except ValueError as error:
            story.append(str(error))
        scheduler.call_soon(lambda: suspended[0].interrupt(TimeoutError("interrupted")))
        try:
            await waiters[2].wait()
        except TimeoutError as error:
            story.append(str(error))
        story.append(await scheduler.run_blocking(lambda: "blocked"))

    async def main(scheduler: LoopScheduler) -> None:
        waiters = [scheduler.waiter() for _ in range(3)]
        ended = scheduler.waiter()
        suspended: list[Suspended] = []
        coroutine = statement(scheduler, waiters, suspended)
        suspended.append(Suspended(coroutine, run_eagerly(coroutine)))
        scheduler.go_on(suspended[0], "statement", ended.wake)
        assert len(scheduler.resumptions) == 1
        assert not scheduler.tasks
        waiters[0].wake("woken")
        assert await ended.wait() is None
        assert not scheduler.resumptions

    run(main)
    assert story == ["woken", "failed", "interrupted", "blocked"]


def test_a_bug_in_what_goes_on_stops_the_node() -> None:
    errors: list[BaseException | None] = []

    async def statement(waiter: Any) -> None:
        await waiter.wait()
        raise ValueError("bug")

    async def main(scheduler: LoopScheduler) -> None:
        waiter = scheduler.waiter()
        coroutine = statement(waiter)
        scheduler.go_on(Suspended(coroutine, run_eagerly(coroutine)), "statement", errors.append)
        waiter.wake()
        await SystemClock().sleep(60)

    with pytest.raises(ValueError, match="bug"):
        run(main)
    assert [str(error) for error in errors] == ["bug"]


def test_what_waits_at_the_end_is_cancelled() -> None:
    story: list[str] = []

    async def statement(waiter: Any) -> None:
        try:
            await waiter.wait()
        finally:
            story.append("rolled back")

    async def main(scheduler: LoopScheduler) -> None:
        coroutine = statement(scheduler.waiter())
        scheduler.go_on(
            Suspended(coroutine, run_eagerly(coroutine)), "statement", lambda error: story.append(repr(error))
        )

    run(main)
    assert story == ["rolled back", "CancelledError()"]


def test_what_still_runs_at_the_end_is_cancelled() -> None:
    ended: list[str] = []

    async def service() -> None:
        try:
            await SystemClock().sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def main(scheduler: LoopScheduler) -> None:
        scheduler.spawn(service(), "service")
        await SystemClock().sleep(0.001)

    run(main)
    assert ended == ["cancelled"]
