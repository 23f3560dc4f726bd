"""The production seams: system clocks, OS randomness, one uvloop event loop.

    SystemClock    wall time, boot-relative monotonic time, sleeping
    SystemRng      the operating system's randomness
    LoopScheduler  tasks, timers and events of the one loop; blocking calls in one thread

Only here and in the listeners of ``node`` is asyncio imported.  What the loop promises:

* A task owned by the node that ends with an exception nobody awaits, and a callback that
  raises, stop the node: ``run`` ends with that exception (reliability 135).
* Blocking calls run one after another in a single dedicated thread.  There is one kind of
  them, the disk sync, and two at a time would only wait for each other.  Cancelling
  whoever awaits one does not stop it (reliability 134).
* Everything awaited is a future of this loop, so a coroutine may be driven by
  ``base.eager.run_eagerly`` outside any task; ``asyncio.sleep(0)``, which yields
  nothing to wait for, is not used.

A loop that is closed leaves no task running and no thread.
"""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import signal
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Generator
from queue import SimpleQueue
from typing import Any, Final, TypeVar

import uvloop

from base.eager import Suspended
from base.seams import Clock, Rng, Scheduler, Waiter
from node.timing import Timing

T = TypeVar("T")

_BOOT_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""CLOCK_MONOTONIC may stand still while the machine is suspended, and leases would
outlive it (reliability 37)."""
_FLOAT_BITS: Final = 53
RANDOM_AHEAD_BYTES: Final = 4096
RANDOM_SHORT_BYTES: Final = 32
"""Identifiers of transactions are that short."""
STOP_SECONDS_MAX: Final = 5.0
"""How long tasks may take to end after they were cancelled at the loop's end."""
STOP_POLL_SECONDS: Final = 0.005


class SystemClock(Clock):
    """The machine's clocks."""

    def wall_ns(self) -> int:
        return time.time_ns()

    def monotonic_ns(self) -> int:
        return time.clock_gettime_ns(_BOOT_CLOCK)

    def sleep(self, seconds: float) -> Awaitable[None]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(max(seconds, 0.0), _finish, future, None)
        future.add_done_callback(lambda _: timer.cancel())
        return future


class SystemRng(Rng):
    """Unpredictable bytes and numbers of the operating system; short ones from what was fetched ahead."""

    def __init__(self) -> None:
        self._ahead = b""
        self._at = 0

    def bytes(self, n: int) -> bytes:
        if n > RANDOM_SHORT_BYTES:
            return os.urandom(n)
        end = self._at + n
        if end > len(self._ahead):
            # A system call an identifier would give the interpreter to another thread each time.
            self._ahead = os.urandom(RANDOM_AHEAD_BYTES)
            self._at, end = 0, n
        taken = self._ahead[self._at : end]
        self._at = end
        return taken

    def below(self, n: int) -> int:
        return secrets.randbelow(n)

    def random(self) -> float:
        return secrets.randbits(_FLOAT_BITS) / (1 << _FLOAT_BITS)


def _finish(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _is_of_another_loop(error: RuntimeError) -> bool:
    """True for gRPC's poller, which serves all loops of a process, and met what belonged to one that is closed."""
    frames = traceback.extract_tb(error.__traceback__)
    return "closed" in str(error) and any("completion_queue" in frame.filename for frame in frames)


class LoopWaiter(Waiter):
    """A one-shot event over a future of the loop."""

    __slots__ = ("_future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._future: asyncio.Future[Any] = loop.create_future()

    def wake(self, value: Any = None) -> None:
        _finish(self._future, value)

    def fail(self, error: BaseException) -> None:
        if not self._future.done():
            self._future.set_exception(error)
            # Nobody may be waiting yet, or ever: that is no error of the loop's.
            self._future.exception()

    def is_done(self) -> bool:
        return self._future.done()

    def wait(self) -> Awaitable[Any]:
        return self._future


class LoopTask:
    """A task owned by the node; awaiting it gives its result, and makes its failure the awaiter's."""

    __slots__ = ("_is_observed", "_scheduler", "_task", "_watchers", "name")

    def __init__(self, scheduler: LoopScheduler, coroutine: Coroutine[Any, Any, Any], name: str) -> None:
        self.name = name
        self._scheduler = scheduler
        self._is_observed = False
        self._watchers: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[Any] = scheduler.loop.create_task(coroutine, name=name)
        self._task.add_done_callback(self._ended)

    def cancel(self) -> None:
        """Raises CancelledError where the task waits."""
        self._task.cancel()

    def is_done(self) -> bool:
        return self._task.done()

    def observe(self) -> LoopTask:
        """The caller will look at the outcome itself: a failure does not stop the node."""
        self._is_observed = True
        return self

    def __await__(self) -> Generator[Any, None, Any]:
        self._is_observed = True
        if not self._task.done():
            # Not the task itself: whoever stops waiting must not cancel it.
            watcher = self._scheduler.loop.create_future()
            self._watchers.append(watcher)
            yield from watcher
        return self._task.result()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._scheduler.tasks.pop(self, None)
        for watcher in self._watchers:
            _finish(watcher, None)
        self._watchers.clear()
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._is_observed:
            self._scheduler.stop(error)


class _Resumption:
    """Drives a suspended coroutine from the callbacks of the futures it waits for."""

    __slots__ = ("_ended", "_scheduler", "_suspended", "name")

    def __init__(
        self, scheduler: LoopScheduler, suspended: Suspended, name: str, ended: Callable[[BaseException | None], None]
    ) -> None:
        self.name = name
        self._scheduler = scheduler
        self._suspended = suspended
        self._ended = ended
        scheduler.resumptions[self] = None
        suspended.waiting_for.add_done_callback(self._step)

    def _step(self, _: asyncio.Future[Any]) -> None:
        suspended = self._suspended
        error: BaseException | None = None
        try:
            suspended.step(None)
        except StopIteration:
            pass
        except BaseException as problem:
            error = problem
        else:
            suspended.waiting_for.add_done_callback(self._step)
            return
        del self._scheduler.resumptions[self]
        self._ended(error)
        if error is not None and not isinstance(error, asyncio.CancelledError):
            self._scheduler.stop(error)

    def cancel(self) -> None:
        """Raises CancelledError where the coroutine waits."""
        self._suspended.interrupt(asyncio.CancelledError())


class LoopScheduler(Scheduler):
    """Tasks and timers of one loop; made and ended by ``run``."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.tasks: dict[LoopTask, None] = {}
        """Strong references: the loop itself keeps only weak ones (reliability 135)."""
        self.resumptions: dict[_Resumption, None] = {}
        self.failure: BaseException | None = None
        self._stopped: asyncio.Future[None] = loop.create_future()
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self.blocking = Timing()
        """How long blocking calls took, without their wait for the thread."""
        loop.set_exception_handler(self._on_loop_error)

    def waiter(self) -> Waiter:
        return LoopWaiter(self.loop)

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> LoopTask:
        task = LoopTask(self, coroutine, name)
        self.tasks[task] = None
        return task

    def go_on(self, suspended: Suspended, name: str, ended: Callable[[BaseException | None], None]) -> None:
        _Resumption(self, suspended, name, ended)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        return self.loop.call_later(max(seconds, 0.0), callback).cancel

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.loop.call_soon(callback)

    def run_blocking(self, function: Callable[[], T]) -> Awaitable[T]:
        future: asyncio.Future[T] = self.loop.create_future()
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve_calls, name="blocking", daemon=True)
            self._thread.start()
        self._calls.put(lambda: self._call_blocking(function, future))
        return future

    def watch(self, file: int, callback: Callable[[], None]) -> None:
        self.loop.add_reader(file, callback)

    def unwatch(self, file: int) -> None:
        self.loop.remove_reader(file)

    def _serve_calls(self) -> None:
        """The thread: an executor's future, locks and callbacks would cost more than a short sync."""
        while True:
            call = self._calls.get()
            if call is None:
                return
            call()

    def _call_blocking(self, function: Callable[[], T], future: asyncio.Future[T]) -> None:
        begin = time.perf_counter()
        try:
            result = function()
        except BaseException as error:
            self.blocking.note(time.perf_counter() - begin)
            self.loop.call_soon_threadsafe(_fail, future, error)
        else:
            self.blocking.note(time.perf_counter() - begin)
            self.loop.call_soon_threadsafe(_finish, future, result)

    def on_signal(self, callback: Callable[[], None]) -> None:
        """Calls back in a tick when the process is asked to end (SIGINT, SIGTERM)."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self.loop.add_signal_handler(number, callback)

    def stop(self, error: BaseException) -> None:
        """Ends ``run`` with this error; the first one counts."""
        if self.failure is None:
            self.failure = error
            _finish(self._stopped, None)

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, RuntimeError) and _is_of_another_loop(error):
            return
        # A callback of ours raised.  What a transport reports concerns one peer.
        if error is not None and "handle" in context:
            self.stop(error)
        else:
            loop.default_exception_handler(context)

    async def run_until_stopped(self, main: Coroutine[Any, Any, T]) -> T:
        """Runs the main coroutine; raises what stopped the node if that happens first."""
        task = self.loop.create_task(main, name="main")
        either: list[asyncio.Future[Any]] = [task, self._stopped]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if self.failure is not None:
            task.cancel()
            await asyncio.wait([task], timeout=STOP_SECONDS_MAX)
            raise self.failure
        return task.result()

    async def close(self) -> None:
        """Cancels what still runs, waits for it a limited time, and ends the thread."""
        for resumption in list(self.resumptions):
            resumption.cancel()
        rest = [task.observe() for task in self.tasks]
        for task in rest:
            task.cancel()
        pending = [task._task for task in rest]
        if pending:
            await asyncio.wait(pending, timeout=STOP_SECONDS_MAX)
        deadline = self.loop.time() + STOP_SECONDS_MAX
        while self.resumptions and self.loop.time() < deadline:
            await asyncio.sleep(STOP_POLL_SECONDS)
        if self._thread is not None:
            self._calls.put(None)
            self._thread.join()


def run(main: Callable[[LoopScheduler], Coroutine[Any, Any, T]]) -> T:
    """Runs a program on a fresh loop: ``main`` gets its scheduler; returns what it returns."""

    async def supervise() -> T:
        scheduler = LoopScheduler(asyncio.get_running_loop())
        try:
            return await scheduler.run_until_stopped(main(scheduler))
        finally:
            await scheduler.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(supervise())


def freeze_start_up() -> None:
    """Takes everything alive out of garbage collection, once start-up is over.

    A full collection over 1.5 million objects stops the loop for 0.2 s (reliability 138).
    """
    gc.collect()
    gc.freeze()
