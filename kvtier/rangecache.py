"""What a gateway knows about ranges: descriptors by key, maybe out of date.

Sorted by start key.  Of two descriptors that overlap the higher generation is right and
the other is dropped, so the cache never holds two answers for a key; it may hold
none.  A wrong answer costs one RangeMismatch, never a wrong result (reliability 73).

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

from kvtier.descriptors import RangeDescriptor

DESCRIPTORS_MAX: Final = 100_000
"""About 30 MB; past it the cache starts again from nothing."""


class RangeCache:
    """See the module docstring."""

    def __init__(self, limit: int = DESCRIPTORS_MAX) -> None:
        self._limit = limit
        self._starts: list[bytes] = []
        self._descriptors: list[RangeDescriptor] = []
        self._last: RangeDescriptor | None = None

    def find(self, key: bytes) -> RangeDescriptor | None:
        """Returns the descriptor that is believed to cover a key."""
        last = self._last
        if last is not None and last.start <= key < last.end:
            return last
        index = bisect_right(self._starts, key) - 1
        if index < 0:
            return None
        found = self._descriptors[index]
        if key >= found.end:
            return None
        self._last = found
        return found

    def find_before(self, end: bytes) -> RangeDescriptor | None:
        """Returns the descriptor that is believed to cover the keys just below ``end``."""
        index = bisect_left(self._starts, end) - 1
        if index < 0:
            return None
        found = self._descriptors[index]
        return found if end <= found.end else None

    def insert(self, descriptor: RangeDescriptor) -> None:
        """Takes a descriptor in, unless a newer one overlaps it."""
        if len(self._starts) >= self._limit:
            self.clear()
        first = bisect_right(self._starts, descriptor.start) - 1
        if first < 0 or self._descriptors[first].end <= descriptor.start:
            first += 1
        last = bisect_left(self._starts, descriptor.end)
        overlapping = self._descriptors[first:last]
        if any(other.generation > descriptor.generation for other in overlapping):
            return
        self._starts[first:last] = [descriptor.start]
        self._descriptors[first:last] = [descriptor]
        self._last = None

    def evict(self, descriptor: RangeDescriptor) -> None:
        """Forgets a descriptor that proved wrong."""
        index = bisect_left(self._starts, descriptor.start)
        if index < len(self._starts) and self._descriptors[index] == descriptor:
            del self._starts[index]
            del self._descriptors[index]
        self._last = None

    def clear(self) -> None:
        """Forgets everything."""
        self._starts.clear()
        self._descriptors.clear()
        self._last = None

    def __len__(self) -> int:
        """Number of descriptors held."""
        return len(self._starts)

    def check(self) -> None:
        """Asserts the invariants; for tests."""
        assert self._starts == [descriptor.start for descriptor in self._descriptors], "starts"
        for left, right in zip(self._descriptors, self._descriptors[1:]):
            assert left.end <= right.start, (left, right)
