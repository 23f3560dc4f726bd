"""What a transaction has read: the keys and spans a refresh must check again.

    points   key -> projection             point reads, a plain dict on the fast path
    spans    (start, end, projection)      what scans really read: up to their resume key

A projection names the columns used (``base.rows``); b"" is the whole value.  Two reads of
one key with different projections count as the whole value.

The set is bounded: past POINTS_MAX or SPANS_MAX neighbours are joined, always to a span
that covers both, so a check may fail needlessly but never pass wrongly (reliability 19).
Reads of rolled-back savepoints stay: what was seen was seen (reliability 18).

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from typing import Final

from kvtier.messages import Op, Refresh, prefix_end

POINTS_MAX: Final = 8_192
"""Point reads kept one by one; a refresh checks them in one batch of a few milliseconds."""
SPANS_MAX: Final = 512
"""Spans kept apart; also what is left after condensing."""

Span = tuple[bytes, bytes, bytes]
"""(start, end, projection)."""

NEXT_BYTE: Final = [bytes((byte + 1,)) for byte in range(255)]


def point_end(key: bytes) -> bytes:
    """Returns the end of the span that holds just ``key``; ``prefix_end`` for the usual last byte."""
    last = key[-1]
    return key[:-1] + NEXT_BYTE[last] if last < 255 else prefix_end(key)


class ReadSpans:
    """The read set of one transaction (READ COMMITTED: of one statement).

    Invariant: every key and span ever added is covered by ``points`` or ``spans``.
    """

    def __init__(self) -> None:
        self.points: dict[bytes, bytes] = {}
        """Read and extended by ``Transaction.get`` directly."""
        self.spans: list[Span] = []

    def __bool__(self) -> bool:
        return bool(self.points) or bool(self.spans)

    def add_point(self, key: bytes, projection: bytes) -> None:
        """Records a point read."""
        points = self.points
        if points.setdefault(key, projection) != projection:
            points[key] = b""
        elif len(points) > POINTS_MAX:
            self.condense()

    def add_span(self, start: bytes, end: bytes, projection: bytes) -> None:
        """Records that [start, end) was read; pages of one scan grow one span."""
        if start >= end:
            return
        spans = self.spans
        if spans:
            last_start, last_end, last_projection = spans[-1]
            if last_projection == projection and last_start <= end and start <= last_end:
                spans[-1] = (min(last_start, start), max(last_end, end), projection)
                return
        spans.append((start, end, projection))
        if len(spans) > 2 * SPANS_MAX:
            self.condense()

    def overlaps(self, start: bytes, end: bytes) -> bool:
        """True if anything in [start, end) may have been read."""
        for key in self.points:
            if start <= key < end:
                return True
        return any([first < end and start < last for first, last, _ in self.spans])

    def clear(self) -> None:
        """Forgets everything: a new attempt, or a new READ COMMITTED statement."""
        self.points.clear()
        self.spans.clear()

    def into_ops(self, from_ts: int, to_ts: int) -> list[Op]:
        """Returns the checks of all reads; ``to_ts`` 0 is the commit timestamp."""
        next_byte = NEXT_BYTE
        ops: list[Op] = []
        for key, projection in self.points.items():
            last = key[-1]
            end = key[:-1] + next_byte[last] if last < 255 else prefix_end(key)
            ops.append(Refresh(key, end, from_ts, to_ts, projection, True))
        for start, end, projection in self.spans:
            ops.append(Refresh(start, end, from_ts, to_ts, projection))
        return ops

    def condense(self, spans_max: int = SPANS_MAX) -> None:
        """Joins neighbours until at most ``spans_max`` spans and no points are left."""
        spans = [(key, point_end(key), projection) for key, projection in self.points.items()]
        spans += self.spans
        spans.sort()
        merged = _join_overlapping(spans)
        if len(merged) > spans_max:
            merged = _join_nearest(merged, spans_max)
        self.points.clear()
        self.spans = merged


def _join_overlapping(spans: list[Span]) -> list[Span]:
    """Returns disjoint spans that cover sorted ones exactly; whole value where projections differ."""
    merged = spans[:1]
    for start, end, projection in spans[1:]:
        last_start, last_end, last_projection = merged[-1]
        if start < last_end:
            merged[-1] = (last_start, max(last_end, end), projection if projection == last_projection else b"")
        else:
            merged.append((start, end, projection))
    return merged


def _join_nearest(spans: list[Span], count: int) -> list[Span]:
    """Returns ``count`` spans that cover sorted disjoint ones, widened over the smallest gaps.

    Keys sort like a tree, so the gap between two spans is wide where their common prefix is
    short: those boundaries are kept, so that reads of different tables are joined last.
    """
    gaps = [(_common_prefix(spans[i - 1][1], spans[i][0]), i) for i in range(1, len(spans))]
    gaps.sort()
    kept = sorted([index for _, index in gaps[: count - 1]])
    joined: list[Span] = []
    for first, last in zip([0, *kept], [*kept, len(spans)]):
        group = spans[first:last]
        same = all(span[2] == group[0][2] for span in group)
        joined.append((group[0][0], group[-1][1], group[0][2] if same else b""))
    return joined


def _common_prefix(one: bytes, other: bytes) -> int:
    """Returns the number of leading bytes two keys share."""
    length = min(len(one), len(other))
    for i in range(length):
        if one[i] != other[i]:
            return i
    return length
