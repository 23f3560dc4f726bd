"""The deterministic event loop: virtual time, one thread, one seed.

The Scheduler, Clock and Rng seams of a simulated cluster.  The same seed gives the
same run, step for step (reliability 143-149), because nothing here depends on real
time, on object addresses or on hashing::

    ready queue   FIFO, or in *explore* mode a drawn pick: every order the seed asks for
    timers        one heap of (when, tie, seq): equal deadlines fire in order of
                  creation, or in drawn order when exploring (asyncio's heap does not)
    time          jumps to the next timer when nothing is ready; a step takes no time
    blocking      ``run_blocking`` runs inline and answers after a drawn delay

A *scope* is one simulated node: its own clock (offset, drift), its own pause flag and
its own crash boundary.  ``crash`` drops every handle and task of the scope *without*
running their ``finally`` blocks, as a power failure does: their coroutines are buried
(kept alive, never closed), and what a buried coroutine might still call does nothing.

If every task waits and no timer is left, nobody can ever wake them: ``run`` raises
``Stuck`` with the names of the waiting tasks, which finds lost wake-ups and
undetected deadlocks.

``digest`` is a rolling checksum of all steps; two runs of one seed must agree on it.
"""

from __future__ import annotations

import heapq
from asyncio import CancelledError
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from random import Random
from typing import Any, Final, TypeVar
from zlib import crc32

from base.seams import Clock, Rng, Scheduler, Waiter

T = TypeVar("T")

NEVER_NS: Final = 1 << 62
STEPS_MAX: Final = 50_000_000
"""Steps of one run; more means a livelock."""
WALL_START_NS: Final = 1_767_225_600_000_000_000
"""2026-01-01T00:00:00Z: wall time at virtual time 0."""
BLOCKING_SECONDS_MAX: Final = 0.002
"""Longest drawn delay of a blocking call (a disk sync)."""


class Stuck(Exception):
    """Every task waits and no timer is left."""


class TaskFailed(Exception):
    """A spawned task ended with an exception nobody awaited; the node would have stopped."""


class SeededRng(Rng):
    """All randomness of a run, from its seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._bits = self._random.getrandbits

    def bytes(self, n: int) -> bytes:
        return self._random.randbytes(n)

    def below(self, n: int) -> int:
        # As ``Random.randrange`` draws it; half a million times in a run of a minute.
        assert n > 0, n
        bits = self._bits
        width = n.bit_length()
        found = bits(width)
        while found >= n:
            found = bits(width)
        return found

    def random(self) -> float:
        return self._random.random()


class Handle:
    """One callback in the ready queue or the heap, tagged with its scope."""

    __slots__ = ("callback", "is_cancelled", "scope", "stamp")

    def __init__(self, callback: Callable[[], None], scope: Scope, stamp: bytes) -> None:
        """``stamp``: what the digest gets of its step, from ``Scope.stamp``."""
        self.callback = callback
        self.scope = scope
        self.stamp = stamp
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class SimWaiter(Waiter):
    """A one-shot event; what every suspended coroutine here ultimately yields."""

    __slots__ = ("_done", "_error", "_scope", "_tasks", "_value")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._tasks: list[Task] = []

    def wake(self, value: Any = None) -> None:
        if not self._done:
            self._value = value
            self._finish()

    def fail(self, error: BaseException) -> None:
        if not self._done:
            self._error = error
            self._finish()

    def cancel(self) -> bool:
        """Ends the wait of whoever awaits this with CancelledError; False if it is over already."""
        if self._done:
            return False
        self.fail(CancelledError())
        return True

    def is_done(self) -> bool:
        return self._done

    def error(self) -> BaseException | None:
        """Returns what the wait ends with, None for a value."""
        return self._error

    def wait(self) -> Awaitable[Any]:
        return self

    def __await__(self) -> Generator[SimWaiter, None, Any]:
        if not self._done:
            yield self
        assert self._done, "resumed before the event"
        if self._error is not None:
            raise self._error
        return self._value

    def _finish(self) -> None:
        self._done = True
        for task in self._tasks:
            task.resume(self._error)
        self._tasks.clear()

    def add(self, task: Task) -> None:
        """Registers a task to resume; called by the task itself."""
        self._tasks.append(task)

    def forget(self, task: Task) -> None:
        """A cancelled task no longer waits here; nobody else does: the event is over."""
        self._tasks.remove(task)
        if not self._tasks:
            self._done = True
            self._error = CancelledError()


class Watcher:
    """Somebody who looks on as time passes, without being a part of what happens."""

    __slots__ = ("due_ns", "every_ns", "look")

    def __init__(self, look: Callable[[], None], every_ns: int) -> None:
        self.look = look
        self.every_ns = every_ns
        self.due_ns = 0


class Task:
    """A coroutine that the loop drives; awaiting a task gives its result."""

    __slots__ = (
        "_cancel_requested",
        "_is_observed",
        "_thrown",
        "_waiting",
        "coroutine",
        "end",
        "error",
        "is_started",
        "name",
        "result",
        "scope",
        "stamp",
    )

    def __init__(self, coroutine: Coroutine[Any, Any, Any], scope: Scope, name: str) -> None:
        self.coroutine = coroutine
        self.scope = scope
        self.name = name
        self.stamp = scope.stamp(name)
        self.end = SimWaiter(scope)
        self.result: Any = None
        self.error: BaseException | None = None
        self._waiting: SimWaiter | None = None
        self._thrown: BaseException | None = None
        self._cancel_requested = False
        self._is_observed = False
        self.is_started = False

    def is_done(self) -> bool:
        return self.end.is_done()

    def is_waiting(self) -> bool:
        """True while suspended on an event that has not happened."""
        return self._waiting is not None

    def cancel(self) -> None:
        """Raises CancelledError where the task waits, in the next tick."""
        if self.end.is_done() or self._cancel_requested:
            return
        self._cancel_requested = True
        if self._waiting is not None:
            self._waiting.forget(self)
            self.resume()

    def resume(self, error: BaseException | None = None) -> None:
        """Puts the task's next step in the ready queue; an error is thrown in where it waits, as asyncio does."""
        self._waiting = None
        self._thrown = error
        self.scope.loop.enqueue(Handle(self.step, self.scope, self.stamp))

    def step(self) -> None:
        """Runs until the next suspension or the end."""
        self.is_started = True
        try:
            if self._cancel_requested:
                self._cancel_requested = False
                self._thrown = None
                event = self.coroutine.throw(CancelledError())
            elif self._thrown is not None:
                error, self._thrown = self._thrown, None
                event = self.coroutine.throw(error)
            else:
                event = self.coroutine.send(None)
        except StopIteration as stop:
            self.result = stop.value
            self._end(None)
        except BaseException as error:
            self._end(error)
        else:
            assert event.__class__ is SimWaiter, f"{self.name} awaits something foreign: {event!r}"
            if event.is_done():
                self.resume(event.error())
            else:
                self._waiting = event
                event.add(self)
                if self._cancel_requested:
                    event.forget(self)
                    self.resume()

    def _end(self, error: BaseException | None) -> None:
        self.error = error
        self.scope.tasks.pop(self, None)
        if error is None:
            self.end.wake(self.result)
            return
        if not self._is_observed and not isinstance(error, CancelledError):
            self.scope.task_failed(self.name, error)
        self.end.fail(error)

    def __await__(self) -> Generator[SimWaiter, None, Any]:
        self._is_observed = True
        return (yield from self.end.__await__())

    def observe(self) -> Task:
        """The caller will look at ``error`` itself: a failure does not stop the run."""
        self._is_observed = True
        return self


class SimClock(Clock):
    """A scope's clocks: virtual time, bent by an offset and a drift."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._started_ns = scope.loop.now_ns
        self.offset_ns = 0
        self.drift_ppm = 0

    def wall_ns(self) -> int:
        now = self._scope.loop.now_ns
        return WALL_START_NS + now + self.offset_ns + now * self.drift_ppm // 1_000_000

    def monotonic_ns(self) -> int:
        return self._scope.loop.now_ns - self._started_ns

    def sleep(self, seconds: float) -> Awaitable[None]:
        waiter = SimWaiter(self._scope)
        self._scope.call_later(seconds, waiter.wake)
        return waiter


class Scope(Scheduler):
    """One simulated node's share of the loop; implements its Scheduler."""

    def __init__(self, loop: Loop, name: str) -> None:
        self.loop = loop
        self.name = name
        self._tag = name.encode()
        self._timer = self.stamp("timer")
        self._soon = self.stamp("soon")
        self.is_alive = True
        self.is_paused = False
        self.tasks: dict[Task, None] = {}
        self._parked: list[Handle] = []
        self.clock = SimClock(self)

    def waiter(self) -> Waiter:
        return SimWaiter(self)

    def stamp(self, name: str) -> bytes:
        """Returns what the digest gets of a step of this scope."""
        return b"%s %s" % (self._tag, name.encode())

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> Task:
        task = Task(coroutine, self, name)
        if not self.is_alive:
            coroutine.close()  # Not started yet, so nothing of it runs.
            return task
        self.tasks[task] = None
        self.loop.enqueue(Handle(task.step, self, task.stamp))
        return task

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        handle = Handle(callback, self, self._timer)
        self.loop.schedule(max(0, round(seconds * 1e9)), handle)
        return handle.cancel

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.loop.enqueue(Handle(callback, self, self._soon))

    async def run_blocking(self, function: Callable[[], T]) -> T:
        """Runs the call inline, at the start or at the end of its delay as drawn: callers may rely on neither."""
        rng = self.loop.rng
        is_early = rng.below(2) == 0
        seconds = rng.random() * BLOCKING_SECONDS_MAX
        if is_early:
            result = function()
            await self.clock.sleep(seconds)
            return result
        await self.clock.sleep(seconds)
        return function()

    def crash(self) -> None:
        """Power failure: nothing of this scope runs again, not even cleanup (reliability 148)."""
        self.is_alive = False
        for task in self.tasks:
            if task.is_started:
                self.loop.bury(task)
            else:
                task.coroutine.close()
        self.tasks.clear()
        self._parked.clear()

    def task_failed(self, name: str, error: BaseException) -> None:
        """A task ended with an exception that nobody awaits: the run stops."""
        self.loop.failures.append((name, error))

    def callback_failed(self, error: Exception) -> bool:
        """A callback has raised; True if that is taken care of, else the run stops."""
        return False

    def pause(self) -> None:
        """Stops the scope's steps, as SIGSTOP or a live migration does; time goes on."""
        self.is_paused = True

    def resume(self) -> None:
        """Lets the parked steps run, in the order they became due."""
        self.is_paused = False
        for handle in self._parked:
            self.loop.enqueue(handle)
        self._parked.clear()

    def park(self, handle: Handle) -> None:
        self._parked.append(handle)


class Loop:
    """Virtual time, the timer heap and the ready queue of all scopes."""

    def __init__(self, seed: int = 0, explore: bool = False) -> None:
        self.rng = SeededRng(seed)
        self.explore = explore
        self.now_ns = 0
        self.steps = 0
        self.steps_max = STEPS_MAX
        self.digest = 0
        self.failures: list[tuple[str, BaseException]] = []
        self._sequence = 0
        self._timers: list[tuple[int, int, int, Handle]] = []
        self._ready: deque[Handle] = deque()
        self._choices: list[Handle] = []
        self._graveyard: list[Task] = []
        self._watchers: list[Watcher] = []
        self._watch_ns = NEVER_NS
        """When the next of them wants to look."""
        self.scopes: list[Scope] = []
        self.main = self.scope("main")

    def scope(self, name: str) -> Scope:
        """Returns a fresh scope; a restarted node gets a new one."""
        scope = Scope(self, name)
        self.scopes.append(scope)
        return scope

    def enqueue(self, handle: Handle) -> None:
        """Makes a handle ready now."""
        if self.explore:
            self._choices.append(handle)
        else:
            self._ready.append(handle)

    def schedule(self, delay_ns: int, handle: Handle) -> None:
        """Makes a handle ready after a delay."""
        self._sequence += 1
        tie = self.rng.below(1 << 20) if self.explore else 0
        heapq.heappush(self._timers, (self.now_ns + delay_ns, tie, self._sequence, handle))

    def watch(self, look: Callable[[], None], seconds: float = 0.0) -> Callable[[], None]:
        """Calls back before time moves on, this often or (0) whenever it does; returns what ends that.

        It is no step, draws nothing, and so the run is the same whether anybody looks or not.
        """
        watcher = Watcher(look, round(seconds * 1e9))
        self._watchers.append(watcher)
        self._watch_ns = 0

        def end() -> None:
            if watcher in self._watchers:
                self._watchers.remove(watcher)

        return end

    def _show(self, next_ns: int) -> None:
        """Lets those look whose time has come."""
        due_ns = NEVER_NS
        for watcher in list(self._watchers):
            if watcher.due_ns <= next_ns:
                watcher.look()
                watcher.due_ns = next_ns + watcher.every_ns
        for watcher in self._watchers:
            due_ns = min(due_ns, watcher.due_ns)
        self._watch_ns = due_ns

    def bury(self, task: Task) -> None:
        """Keeps a crashed task alive for ever, so that its ``finally`` blocks never run while the run lasts."""
        self._graveyard.append(task)

    def run(self, coroutine: Coroutine[Any, Any, T], name: str = "main") -> T:
        """Drives everything until this coroutine ends; returns its result or raises its error."""
        task = self.main.spawn(coroutine, name).observe()
        while not task.is_done():
            if not self.step():
                raise Stuck(self._waiting_names())
        if task.error is not None:
            raise task.error
        result: T = task.result
        return result

    def run_for(self, seconds: float) -> None:
        """Drives everything due within this much virtual time, then advances to its end."""
        end_ns = self.now_ns + round(seconds * 1e9)
        while self._has_ready() or (self._timers and self._timers[0][0] <= end_ns):
            self.step()
        self.now_ns = end_ns

    def settle(self) -> None:
        """Runs ready steps until none is left, without advancing time."""
        while self._has_ready():
            self.step()

    def step(self) -> bool:
        """Runs one handle, advancing time if none is ready; False if nothing is left to do."""
        if self.failures:
            name, error = self.failures[0]
            raise TaskFailed(f"{name}: {error!r}") from error
        ready: deque[Handle] | list[Handle] = self._choices if self.explore else self._ready
        if not ready and not self._advance():
            return False
        handle = self._pick()
        self.steps += 1
        assert self.steps <= self.steps_max, f"livelock: {self.steps} steps at {self.now_ns} ns"
        scope = handle.scope
        if handle.is_cancelled or not scope.is_alive:
            return True
        if scope.is_paused:
            scope.park(handle)
            return True
        self.digest = crc32(b"%d %s" % (self.now_ns, handle.stamp), self.digest)
        try:
            handle.callback()
        except Exception as error:
            if not scope.callback_failed(error):
                raise
        return True

    def _has_ready(self) -> bool:
        return bool(self._ready) or bool(self._choices)

    def _advance(self) -> bool:
        """Moves time to the next timer and everything due with it to the ready queue."""
        timers = self._timers
        while timers and timers[0][3].is_cancelled:
            heapq.heappop(timers)
        if not timers:
            return False
        next_ns = timers[0][0]
        if next_ns >= self._watch_ns:
            self._show(next_ns)
            if self._has_ready():
                return True  # Whoever looked has done something about it.
        self.now_ns = next_ns
        while timers and timers[0][0] == self.now_ns:
            self.enqueue(heapq.heappop(timers)[3])
        return True

    def _pick(self) -> Handle:
        if not self.explore:
            return self._ready.popleft()
        choices = self._choices
        index = self.rng.below(len(choices)) if len(choices) > 1 else 0
        choices[index], choices[-1] = choices[-1], choices[index]
        return choices.pop()

    def _waiting_names(self) -> str:
        return "; ".join(f"{scope.name}/{task.name}" for scope in self.scopes for task in scope.tasks)
