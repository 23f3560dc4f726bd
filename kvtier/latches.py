"""Latches: short exclusion between commands of one range that are under way.

Evaluating and applying a command has no await inside, so on a range with one replica
commands exclude each other by themselves and no latch is ever taken.  A range with
several replicas applies a command later, when its log entry is committed; from
evaluation until then the command's spans stay latched, or another one would be evaluated
on a state about to change (reliability 31).

    acquire(spans)  -> Latch, maybe with earlier latches to wait for
    release(latch)  -> wakes those that waited for it alone

A latch waits for every *earlier* overlapping latch of which one of the two writes, whether
that one is held or itself waiting: so the order is first come first served and two
commands can never wait for each other.

NB: overlap is tested against every latch under way; fine under 1,000 commands.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from typing import Final

from base.errors import Overloaded
from base.seams import Scheduler, Waiter

LATCHES_MAX: Final = 4_096
"""Commands under way in one range."""


class LatchSpan:
    """[start, end) that a command reads or writes."""

    __slots__ = ("end", "is_write", "start")

    def __init__(self, start: bytes, end: bytes, is_write: bool) -> None:
        self.start = start
        self.end = end
        self.is_write = is_write


class Latch:
    """One command's spans, held or waiting."""

    __slots__ = ("blockers", "spans", "waiter")

    def __init__(self, spans: list[LatchSpan]) -> None:
        self.spans = spans
        self.blockers: list[Latch] = []
        """Earlier latches still to be released; empty means held."""
        self.waiter: Waiter | None = None

    def conflicts(self, other: Latch) -> bool:
        """True if a span of each overlap and one of the two writes."""
        for mine in self.spans:
            for theirs in other.spans:
                if (mine.is_write or theirs.is_write) and mine.start < theirs.end and theirs.start < mine.end:
                    return True
        return False


class LatchTable:
    """The latches of one range, oldest first."""

    def __init__(self, scheduler: Scheduler, limit: int = LATCHES_MAX) -> None:
        self._scheduler = scheduler
        self._limit = limit
        self.latches: list[Latch] = []
        """Empty on the fast path; tested by callers before anything is built."""

    def acquire(self, spans: list[LatchSpan]) -> Latch:
        """Takes the latches, or a place behind the earlier ones (``latch.waiter`` is then set)."""
        if len(self.latches) >= self._limit:
            raise Overloaded(f"{self._limit} commands of one range are under way")
        latch = Latch(spans)
        latch.blockers = [other for other in self.latches if other.conflicts(latch)]
        if latch.blockers:
            latch.waiter = self._scheduler.waiter()
        self.latches.append(latch)
        return latch

    def release(self, latch: Latch) -> None:
        """Gives up a latch, held or waiting, and wakes those it was the last obstacle of."""
        self.latches.remove(latch)
        for other in self.latches:
            if latch in other.blockers:
                other.blockers.remove(latch)
                if not other.blockers and other.waiter is not None:
                    other.waiter.wake()
