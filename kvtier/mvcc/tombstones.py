"""Range tombstones: DELETE of a span, TRUNCATE and DROP in O(1).

A record [start, end) at R says that every version below R inside is deleted as of R.

    stored (CF_LOCAL)   b"t\\0" | escaped start | 0x00 0x01 | 2^64-1 - ts  ->  end
    escaped: 0x00 becomes 0x00 0xff, so records sort by start, then newest first

A store has few (each is removed once the garbage below it is collected), so all are kept
in memory, cut into fragments that do not overlap:

    records     [a ........ m) @30
                     [f ........ t) @20
    fragments   [a .. f) [30]   [f .. m) [30, 20]   [m .. t) [20]

``covering`` is a bisect and a look at a short list.  Reads test ``starts`` first: a store
without range tombstones pays one truth test.

Invariant: fragments ascend, do not overlap, are not empty; stamps descend strictly.
Invariant: what is in memory is what is stored; ``apply`` follows every engine write whose
batch has ``touches_tombstones`` set, before anything else is read.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

from base.seams import CF_DATA, CF_LOCAL
from kvtier.engine.batch import DELETE, PUT, RANGE_TOMBSTONE_PREFIX, OpBatch
from kvtier.engine.contract import StoreEngine
from kvtier.mvcc.versions import SUFFIX, suffix_of, ts_of

_KEYSPACE_END: Final = RANGE_TOMBSTONE_PREFIX[:-1] + b"\x01"
_TERMINATOR: Final = b"\x00\x01"

Record = tuple[bytes, bytes, int]
"""(start, end, timestamp)."""


class RangeTombstones:
    """The range tombstones of one store; see the module docstring."""

    __slots__ = ("_ends", "_records", "_stamps", "starts")

    def __init__(self) -> None:
        self.starts: list[bytes] = []
        """Fragment starts; empty means there are no range tombstones at all."""
        self._ends: list[bytes] = []
        self._stamps: list[list[int]] = []
        self._records: dict[tuple[bytes, int], bytes] = {}
        """(start, ts) -> end."""

    def load(self, engine: StoreEngine) -> None:
        """Takes what is stored, instead of what was known."""
        self._records.clear()
        cursor = engine.point_iterator(CF_LOCAL)
        cursor.seek(RANGE_TOMBSTONE_PREFIX)
        key = cursor.key()
        while key is not None and key < _KEYSPACE_END:
            end = cursor.value()
            assert end is not None, f"{key=}"
            self._records[_decode_key(key)] = end
            cursor.next()
            key = cursor.key()
        if key is None:
            cursor.status()
        self._rebuild()

    def apply(self, batch: OpBatch) -> None:
        """Follows a batch that was written to the engine."""
        if not batch.touches_tombstones:
            return
        removed = False
        for kind, cf, key, value in batch.ops:
            if cf != CF_LOCAL:
                continue
            if kind == PUT:
                if key.startswith(RANGE_TOMBSTONE_PREFIX):
                    start, ts = _decode_key(key)
                    removed = removed or self._records.get((start, ts), value) > value
                    self._records[start, ts] = value
                    self._carve(start, value, ts)
            elif kind == DELETE:
                if key.startswith(RANGE_TOMBSTONE_PREFIX):
                    removed = self._records.pop(_decode_key(key), None) is not None or removed
            else:
                gone = [at for at in self._records if key <= record_key(*at) < value]
                for at in gone:
                    del self._records[at]
                removed = removed or bool(gone)
        if removed:
            self._rebuild()

    def records(self, start: bytes = b"", end: bytes = b"") -> list[Record]:
        """Returns the records that overlap [start, end), in order; end b"" is unbounded."""
        found = [
            (lower, upper, ts)
            for (lower, ts), upper in self._records.items()
            if start < upper and (not end or lower < end)
        ]
        return sorted(found)

    def covering(self, key: bytes, ts: int) -> int:
        """Returns the newest tombstone at or below ``ts`` over a key, or 0."""
        at = bisect_right(self.starts, key) - 1
        if at < 0 or key >= self._ends[at]:
            return 0
        for stamp in self._stamps[at]:
            if stamp <= ts:
                return stamp
        return 0

    def overlap(self, start: bytes, end: bytes) -> bool:
        """True if some tombstone touches [start, end); end b"" is unbounded."""
        if not self.starts:
            return False
        at = bisect_right(self.starts, start) - 1
        if at >= 0 and start < self._ends[at]:
            return True
        return at + 1 < len(self.starts) and (not end or self.starts[at + 1] < end)

    def newest_in(self, start: bytes, end: bytes) -> int:
        """Returns the newest tombstone that touches [start, end), or 0."""
        newest = 0
        at = max(bisect_right(self.starts, start) - 1, 0)
        while at < len(self.starts) and (not end or self.starts[at] < end):
            if self._ends[at] > start and self._stamps[at][0] > newest:
                newest = self._stamps[at][0]
            at += 1
        return newest

    def __len__(self) -> int:
        """Number of records."""
        return len(self._records)

    def _rebuild(self) -> None:
        self.starts, self._ends, self._stamps = [], [], []
        for start, ts in sorted(self._records):
            self._carve(start, self._records[start, ts], ts)

    def _carve(self, start: bytes, end: bytes, ts: int) -> None:
        """Adds one record to the fragments it overlaps, cutting and filling gaps."""
        if start >= end:
            return
        self._cut(start)
        self._cut(end)
        at = bisect_left(self.starts, start)
        position = start
        while position < end:
            if at < len(self.starts) and self.starts[at] == position:
                stamps = self._stamps[at]
                if ts not in stamps:
                    self._stamps[at] = sorted([*stamps, ts], reverse=True)
            else:
                gap_end = min(self.starts[at], end) if at < len(self.starts) else end
                self.starts.insert(at, position)
                self._ends.insert(at, gap_end)
                self._stamps.insert(at, [ts])
            position = self._ends[at]
            at += 1

    def _cut(self, key: bytes) -> None:
        """Makes ``key`` a fragment border if it lies inside one."""
        at = bisect_right(self.starts, key) - 1
        if at < 0 or self.starts[at] == key or self._ends[at] <= key:
            return
        self.starts.insert(at + 1, key)
        self._ends.insert(at + 1, self._ends[at])
        self._stamps.insert(at + 1, list(self._stamps[at]))
        self._ends[at] = key

    def check(self) -> None:
        """Asserts the invariants."""
        assert len(self.starts) == len(self._ends) == len(self._stamps), "lengths"
        for at, start in enumerate(self.starts):
            assert start < self._ends[at], f"{start=}"
            assert at == 0 or self._ends[at - 1] <= start, f"{start=}"
            assert self._stamps[at] == sorted(set(self._stamps[at]), reverse=True), f"{self._stamps[at]=}"


NO_TOMBSTONES: Final = RangeTombstones()
"""For reads where there are none; never changed."""


def record_key(start: bytes, ts: int) -> bytes:
    """Returns the local key of a record."""
    return RANGE_TOMBSTONE_PREFIX + start.replace(b"\x00", b"\x00\xff") + _TERMINATOR + suffix_of(ts)


def _decode_key(stored: bytes) -> tuple[bytes, int]:
    escaped = stored[len(RANGE_TOMBSTONE_PREFIX) : -SUFFIX - len(_TERMINATOR)]
    return escaped.replace(b"\x00\xff", b"\x00"), ts_of(stored[-SUFFIX:])


def put_range_tombstone(batch: OpBatch, start: bytes, end: bytes, ts: int) -> None:
    """Deletes [start, end) as of ``ts``.

    Versions at the same timestamp earlier in this batch belong to the same transaction and
    are deleted too; those later in the batch stay.
    """
    assert start < end, f"{start=} {end=}"
    suffix = suffix_of(ts)
    stored = record_key(start, ts)
    reach = end
    for kind, cf, key, value in list(batch.ops):
        if cf == CF_DATA and kind == PUT and key[-SUFFIX:] == suffix and start <= key[:-SUFFIX] < end:
            batch.put(CF_DATA, key, b"")
        elif cf == CF_LOCAL and kind == PUT and key == stored and value > reach:
            reach = value
    batch.put(CF_LOCAL, stored, reach)
    batch.touches_tombstones = True


def split_range_tombstones(batch: OpBatch, tombstones: RangeTombstones, key: bytes) -> None:
    """Cuts the records that reach across ``key`` in two, for a range split there.

    With it every record lies in one range, and belongs to the range of its start.
    """
    reach: dict[int, bytes] = {}
    for start, end, ts in tombstones.records():
        # One transaction may have deleted several spans across the key, and one that begins at it.
        if start < key < end:
            batch.put(CF_LOCAL, record_key(start, ts), key)
        if start <= key < end and end > reach.get(ts, b""):
            reach[ts] = end
    for ts, end in reach.items():
        batch.put(CF_LOCAL, record_key(key, ts), end)
        batch.touches_tombstones = True


def tombstone_span(start: bytes, end: bytes) -> tuple[bytes, bytes]:
    """Returns the span of CF_LOCAL that holds the records starting in [start, end)."""
    lower = RANGE_TOMBSTONE_PREFIX + start.replace(b"\x00", b"\x00\xff")
    upper = RANGE_TOMBSTONE_PREFIX + end.replace(b"\x00", b"\x00\xff") if end else _KEYSPACE_END
    return lower, upper
