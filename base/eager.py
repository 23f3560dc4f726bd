"""Calls that usually answer at once.

The fast path awaits nothing (design.md section 3).  A function that normally has
its answer now, and only sometimes must wait, returns ``Eager[T]``: either the
``T`` itself or an awaitable of it.  The caller tests for the concrete result
class, never for "is it a coroutine" (a compiled coroutine is another class)::

    reply = kv.send(batch)
    if reply.__class__ is not Reply:
        reply = await reply

``run_eagerly`` drives a coroutine with ``send(None)`` until it ends or suspends, so
a whole statement can be answered in the tick it arrived in.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, TypeVar, Union, cast

T = TypeVar("T")

Eager = Union[T, Awaitable[T]]


class Done:
    """A finished coroutine's value, to tell it from a suspended one."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def run_eagerly(coroutine: Coroutine[Any, Any, T]) -> Done | Any:
    """Runs until the first suspension; returns Done(value), or the future it waits for.

    When a future is returned the caller owns the coroutine and goes on with
    ``scheduler.go_on(Suspended(coroutine, future), name, ended)``.
    Exceptions of the coroutine propagate.
    """
    try:
        return coroutine.send(None)
    except StopIteration as stop:
        return Done(stop.value)


def now_or_fail(value: Eager[T], kind: type) -> T:
    """Returns a value that must not have had to wait; for tests and synchronous callers."""
    assert isinstance(value, kind), f"suspended: {value!r}"
    return cast(T, value)


class Suspended:
    """A coroutine that ``run_eagerly`` left waiting.

    Await it, or hand it to ``Scheduler.go_on``, which drives it by ``step``.  ``interrupt`` makes the
    coroutine see an error at the point where it waits (query cancel, timeouts), by cancelling only the
    future it waits for.
    """

    __slots__ = ("coroutine", "interruption", "waiting_for")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], waiting_for: Any) -> None:
        self.coroutine = coroutine
        self.waiting_for = waiting_for
        self.interruption: BaseException | None = None

    def interrupt(self, error: BaseException) -> None:
        """Raises ``error`` inside the coroutine at its current wait; nothing if it already goes on.

        The first of two that come before it goes on is the one it sees.
        """
        if self.interruption is not None:
            return
        self.interruption = error
        if not self.waiting_for.cancel():
            self.interruption = None

    def step(self, error: BaseException | None) -> None:
        """Goes on to the next suspension, after ``waiting_for`` is done.

        Raises StopIteration with the result at the end, or what the coroutine raises.
        ``error`` is thrown in where it waits; None lets it look at ``waiting_for`` itself.
        """
        if self.interruption is not None:
            error, self.interruption = self.interruption, None
        if error is None:
            self.waiting_for = self.coroutine.send(None)
        else:
            self.waiting_for = self.coroutine.throw(error)

    def __await__(self) -> Generator[Any, Any, Any]:
        while True:
            thrown: BaseException | None = None
            try:
                yield self.waiting_for
            except GeneratorExit:
                self.coroutine.close()
                raise
            except BaseException as error:  # cancellation too: the coroutine must see it
                thrown = error
            try:
                self.step(thrown)
            except StopIteration as stop:
                return stop.value
