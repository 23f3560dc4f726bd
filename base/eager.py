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
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, TypeVar, Union

T = TypeVar("T")

Eager = Union[T, Awaitable[T]]


class Done:
    """A finished coroutine's value, to tell it from a suspended one."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def run_eagerly(coroutine: Coroutine[Any, Any, T]) -> "Done | Any":
    """Runs until the first suspension; returns Done(value), or the future it waits for.

    When a future is returned the caller owns the coroutine and goes on with
    ``scheduler.spawn(resume(coroutine, future), name)``.
    Exceptions of the coroutine propagate.
    """
    try:
        return coroutine.send(None)
    except StopIteration as stop:
        return Done(stop.value)


def now_or_fail(value: Eager[T], kind: type) -> T:
    """Returns a value that must not have had to wait; for tests and synchronous callers."""
    assert isinstance(value, kind), f"suspended: {value!r}"
    return value


class _Resumed:
    """Awaits what an eagerly driven coroutine was suspended on, then drives the rest of it."""

    __slots__ = ("coroutine", "suspended_on")

    def __init__(self, coroutine: Coroutine[Any, Any, T], suspended_on: Any) -> None:
        self.coroutine = coroutine
        self.suspended_on = suspended_on

    def __await__(self) -> Generator[Any, Any, Any]:
        yielded = self.suspended_on
        coroutine = self.coroutine
        while True:
            try:
                value = yield yielded
            except BaseException as error:  # cancellation too: the coroutine must see it
                try:
                    yielded = coroutine.throw(error)
                except StopIteration as stop:
                    return stop.value
            else:
                try:
                    yielded = coroutine.send(value)
                except StopIteration as stop:
                    return stop.value


async def resume(coroutine: Coroutine[Any, Any, T], suspended_on: Any) -> T:
    """Goes on with a coroutine that ``run_eagerly`` left suspended; hand it to ``Scheduler.spawn``."""
    return await _Resumed(coroutine, suspended_on)
