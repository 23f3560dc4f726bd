"""A scheduler on virtual time for tests: one thread, FIFO, or in an order drawn from a seed."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

from base.seams import Clock, Rng, Scheduler, Waiter


class Cancelled(BaseException):
    """What a cancelled task gets, as asyncio.CancelledError is a BaseException."""


class LoopWaiter(Waiter):
    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.task: Task | None = None

    def wake(self, value: Any = None) -> None:
        if not self.done:
            self.done = True
            self.value = value
            self._resume()

    def fail(self, error: BaseException) -> None:
        if not self.done:
            self.done = True
            self.error = error
            self._resume()

    def _resume(self) -> None:
        if self.task is not None:
            self.loop.ready.append(self.task.step)
            self.task = None

    def is_done(self) -> bool:
        return self.done

    def wait(self) -> Awaitable[Any]:
        return self

    def __await__(self) -> Generator[Any, None, Any]:
        if not self.done:
            yield self
        if self.error is not None:
            raise self.error
        return self.value


class Task:
    def __init__(self, loop: Loop, coroutine: Coroutine[Any, Any, Any], name: str) -> None:
        self.loop = loop
        self.coroutine = coroutine
        self.name = name
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.waiting_on: LoopWaiter | None = None
        self.cancelling = False
        self.owned = False

    def step(self) -> None:
        if self.done:
            return
        self.waiting_on = None
        try:
            if self.cancelling:
                self.cancelling = False
                waiter = self.coroutine.throw(Cancelled())
            else:
                waiter = self.coroutine.send(None)
        except StopIteration as stop:
            self.done, self.result = True, stop.value
            return
        except BaseException as error:
            self.done, self.error = True, error
            if self.owned and not isinstance(error, Cancelled):
                self.loop.failures.append(error)
            return
        if waiter.done:
            self.loop.ready.append(self.step)
        else:
            self.waiting_on = waiter
            waiter.task = self

    def cancel(self) -> None:
        if self.done:
            return
        self.cancelling = True
        if self.waiting_on is not None:
            self.waiting_on.task = None
            self.waiting_on.done = True
            self.waiting_on = None
        self.loop.ready.append(self.step)


class Loop(Scheduler, Clock):
    """Scheduler and clock in one; time stands still until nothing else can run."""

    def __init__(self, seed: int | None = None) -> None:
        self.time_ns = 1_700_000_000_000_000_000
        self.ready: deque[Callable[[], None]] = deque()
        self.timers: list[tuple[int, int, list[Callable[[], None] | None]]] = []
        self.count = 0
        self.failures: list[BaseException] = []
        self.tasks: list[Task] = []
        self.random = random.Random(seed) if seed is not None else None

    def waiter(self) -> Waiter:
        return LoopWaiter(self)

    def start(self, coroutine: Coroutine[Any, Any, Any], name: str = "test") -> Task:
        """Runs a task whose error the test looks at."""
        task = Task(self, coroutine, name)
        self.tasks = [other for other in self.tasks if not other.done]
        self.tasks.append(task)
        self.ready.append(task.step)
        return task

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> Any:
        task = self.start(coroutine, name)
        task.owned = True
        return task

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        cell: list[Callable[[], None] | None] = [callback]
        self.count += 1
        heapq.heappush(self.timers, (self.time_ns + int(seconds * 1e9), self.count, cell))

        def cancel() -> None:
            cell[0] = None

        return cancel

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.ready.append(callback)

    async def run_blocking(self, function: Callable[[], Any]) -> Any:
        await self.sleep(0.0004)
        return function()

    def wall_ns(self) -> int:
        return self.time_ns

    def monotonic_ns(self) -> int:
        return self.time_ns

    def sleep(self, seconds: float) -> Awaitable[None]:
        waiter = self.waiter()
        self.call_later(seconds, waiter.wake)
        return waiter.wait()

    def tick(self) -> bool:
        """Runs one callback; False if nothing is left now."""
        if not self.ready:
            return False
        if self.random is not None and len(self.ready) > 1:
            self.ready.rotate(-self.random.randrange(len(self.ready)))
        self.ready.popleft()()
        if self.failures:
            raise self.failures[0]
        return True

    def advance(self) -> bool:
        """Jumps to the next timer; False if there is none."""
        while self.timers:
            when, _, cell = heapq.heappop(self.timers)
            if cell[0] is not None:
                self.time_ns = max(self.time_ns, when)
                cell[0]()
                return True
        return False

    def discard(self) -> None:
        """Throws all tasks away: the machine crashed."""
        self.ready.clear()
        self.timers.clear()
        for task in self.tasks:
            task.done = True
            task.coroutine.close()

    def settle(self) -> None:
        """Runs all that can run without time passing."""
        while self.tick():
            pass

    def run(self, seconds: float = 3600.0) -> None:
        """Runs until nothing is left to do, or so much virtual time has passed."""
        limit = self.time_ns + int(seconds * 1e9)
        while True:
            self.settle()
            if not self.timers or self.timers[0][0] > limit or not self.advance():
                self.settle()
                return

    def finish(self, awaited: Any, seconds: float = 60.0) -> Any:
        """Returns an Eager's value, running the loop as long as it takes."""
        if not hasattr(awaited, "__await__"):
            return awaited

        async def main() -> Any:
            return await awaited

        task = self.start(main())
        limit = self.time_ns + int(seconds * 1e9)
        while not task.done and self.time_ns <= limit:
            if not self.tick() and not self.advance():
                break
        assert task.done, f"still waiting: {awaited!r}"
        if task.error is not None:
            raise task.error
        return task.result


class SeededRng(Rng):
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def bytes(self, n: int) -> bytes:
        return self._random.randbytes(n)

    def below(self, n: int) -> int:
        return self._random.randrange(n)

    def random(self) -> float:
        return self._random.random()
