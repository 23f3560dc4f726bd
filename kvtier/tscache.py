"""Timestamp cache: the highest timestamp each key was read at.

A write must never slip in below a read already served (design.md section 5).  So
every read leaves its timestamp here, and a write takes a timestamp above what it
finds, unless the read was its own transaction's.

    points   key -> (ts, owner)                     a dict
    spans    [start, end) -> (ts, owner)            a step function over the keys

Both live in two generations.  When the young one is full it becomes the old one
and the old one is dropped; ``low_water`` rises to the highest timestamp dropped.
A key that is found nowhere was read at most at ``low_water``.

Invariants: an answer is never lower than the highest timestamp added for the key,
and never goes back.  Where two owners read at the same timestamp there is no owner
(reliability 5): the owner is who may write *at* that timestamp.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

POINTS_MAX: Final = 200_000
"""Entries of one generation of points; about 30 MB with keys of 40 bytes."""
SPANS_MAX: Final = 8_192
"""Steps of one generation of spans; inserting into the list moves 64 KiB at most."""
EXACT_POINTS_MAX: Final = 20_000
"""Points that ``get_max_span`` compares one by one; above that it answers an upper bound."""

Read = tuple[int, bytes]
"""(timestamp, owner); owner b"" is nobody."""

NOTHING: Final[Read] = (0, b"")


def combine(one: Read, other: Read) -> Read:
    """Returns the later read; of two equally late by different owners, one without owner."""
    if one[0] != other[0]:
        return one if one[0] > other[0] else other
    return one if one[1] == other[1] else (one[0], b"")


class SpanSteps:
    """A step function key -> Read: step i holds for [bounds[i], bounds[i + 1]).

    Invariant: bounds[0] is b"", bounds ascend strictly, neighbours differ in value.
    """

    def __init__(self) -> None:
        self.bounds: list[bytes] = [b""]
        self.reads: list[Read] = [NOTHING]

    def at(self, key: bytes) -> Read:
        """Returns the read over one key."""
        return self.reads[bisect_right(self.bounds, key) - 1]

    def over(self, start: bytes, end: bytes) -> Read:
        """Returns the latest read over any key of [start, end); end b"" is no end."""
        first = bisect_right(self.bounds, start) - 1
        last = bisect_left(self.bounds, end) if end else len(self.bounds)
        found = NOTHING
        for read in self.reads[first:last]:
            found = combine(found, read)
        return found

    def add(self, start: bytes, end: bytes, read: Read) -> None:
        """Raises the function over [start, end) to ``read``; end b"" is no end."""
        bounds = self.bounds
        reads = self.reads
        first = bisect_right(bounds, start) - 1
        last = bisect_left(bounds, end, first) if end else len(bounds)
        if bounds[first] == start and last == first + 1 and (last == len(bounds) or bounds[last] == end):
            if (
                first > 0
                and last < len(bounds)
                and read[0] > reads[first][0]
                and read != reads[first - 1]
                and read != reads[last]
            ):
                reads[first] = read  # The same scan again, later: the usual case.
                return
        covered_bounds = [start] + bounds[first + 1 : last]
        covered_reads = [combine(old, read) for old in reads[first:last]]
        if bounds[first] < start:
            covered_bounds.insert(0, bounds[first])
            covered_reads.insert(0, reads[first])
        if end and (last == len(bounds) or bounds[last] != end):
            covered_bounds.append(end)
            covered_reads.append(reads[last - 1])
        self._replace(first, last, covered_bounds, covered_reads)

    def _replace(self, first: int, last: int, new_bounds: list[bytes], new_reads: list[Read]) -> None:
        """Puts steps in place of [first, last), joining neighbours of equal value."""
        if first > 0:
            first -= 1
            new_bounds.insert(0, self.bounds[first])
            new_reads.insert(0, self.reads[first])
        if last < len(self.bounds):
            new_bounds.append(self.bounds[last])
            new_reads.append(self.reads[last])
            last += 1
        kept_bounds = new_bounds[:1]
        kept_reads = new_reads[:1]
        for index in range(1, len(new_bounds)):
            if new_reads[index] != kept_reads[-1]:
                kept_bounds.append(new_bounds[index])
                kept_reads.append(new_reads[index])
        self.bounds[first:last] = kept_bounds
        self.reads[first:last] = kept_reads

    def check(self) -> None:
        """Asserts the invariant; for tests."""
        assert self.bounds[0] == b"", self.bounds[0]
        assert len(self.bounds) == len(self.reads), (len(self.bounds), len(self.reads))
        for index in range(1, len(self.bounds)):
            assert self.bounds[index - 1] < self.bounds[index], self.bounds[index]
            assert self.reads[index - 1] != self.reads[index], self.bounds[index]


class TimestampCache:
    """See the module docstring."""

    def __init__(self, low_water: int = 0, points_max: int = POINTS_MAX, spans_max: int = SPANS_MAX) -> None:
        self.low_water = low_water
        self.points_max = points_max
        self.spans_max = spans_max
        self.rotations = 0
        self._points: dict[bytes, Read] = {}
        self._points_old: dict[bytes, Read] = {}
        self._points_top = 0
        """Highest timestamp ever added to the young points (and at least their low water)."""
        self._points_old_top = 0
        self._spans = SpanSteps()
        self._spans_old = SpanSteps()
        self._spans_top = 0
        self._spans_old_top = 0

    def add(self, key: bytes, ts: int, txn: bytes) -> None:
        """Records that ``txn`` (b"" outside transactions) read one key at ``ts``."""
        points = self._points
        found = points.get(key)
        if found is None or ts > found[0]:
            points[key] = (ts, txn)
            if ts > self._points_top:
                self._points_top = ts
            if len(points) > self.points_max:
                self._rotate_points()
        elif ts == found[0] and txn != found[1]:
            points[key] = (ts, b"")

    def add_span(self, start: bytes, end: bytes, ts: int, txn: bytes) -> None:
        """Records that ``txn`` read [start, end) at ``ts``; end b"" is no end."""
        if start >= end and end:
            return
        self._spans.add(start, end, (ts, txn))
        if ts > self._spans_top:
            self._spans_top = ts
        if len(self._spans.bounds) > self.spans_max:
            self._rotate_spans()

    def get_max(self, key: bytes) -> Read:
        """Returns the latest read over a key and its owner."""
        best = self.low_water
        owner = b""
        found = self._points.get(key)
        if found is not None and found[0] >= best:
            owner = found[1] if found[0] > best else b""
            best = found[0]
        if self._points_old_top >= best:
            found = self._points_old.get(key)
            if found is not None and found[0] >= best:
                owner = found[1] if found[0] > best or found[1] == owner else b""
                best = found[0]
        if self._spans_top >= best:
            found = self._spans.at(key)
            if found[0] >= best:
                owner = found[1] if found[0] > best or found[1] == owner else b""
                best = found[0]
        if self._spans_old_top >= best:
            found = self._spans_old.at(key)
            if found[0] >= best:
                owner = found[1] if found[0] > best or found[1] == owner else b""
                best = found[0]
        return (best, owner)

    def get_max_span(self, start: bytes, end: bytes) -> Read:
        """Returns the latest read over any key of a span, or an upper bound without owner.

        NB: points are compared one by one up to EXACT_POINTS_MAX; only range tombstones ask.
        """
        best = combine((self.low_water, b""), self._spans.over(start, end))
        best = combine(best, self._spans_old.over(start, end))
        if len(self._points) + len(self._points_old) > EXACT_POINTS_MAX:
            return combine(best, (max(self._points_top, self._points_old_top), b""))
        for points in (self._points, self._points_old):
            for key, read in points.items():
                if start <= key and (key < end or not end):
                    best = combine(best, read)
        return best

    def raise_low_water(self, ts: int) -> None:
        """Freezes everything at or below ``ts``: a new lease, a restart (reliability 1)."""
        if ts > self.low_water:
            self.low_water = ts

    def __len__(self) -> int:
        """Number of points and steps held."""
        return len(self._points) + len(self._points_old) + len(self._spans.bounds) + len(self._spans_old.bounds)

    def _rotate_points(self) -> None:
        self.raise_low_water(self._points_old_top)
        self._points_old = self._points
        self._points_old_top = self._points_top
        self._points = {}
        self._points_top = 0
        self.rotations += 1

    def _rotate_spans(self) -> None:
        self.raise_low_water(self._spans_old_top)
        self._spans_old = self._spans
        self._spans_old_top = self._spans_top
        self._spans = SpanSteps()
        self._spans_top = 0
        self.rotations += 1
