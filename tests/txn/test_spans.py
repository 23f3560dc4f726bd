"""Read spans: nothing recorded may get lost when the set is condensed (reliability 19)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvtier.messages import Refresh, prefix_end
from txn import spans as spans_module
from txn.spans import SPANS_MAX, ReadSpans, point_end

keys = st.binary(min_size=1, max_size=4)


def covered(reads: ReadSpans, start: bytes, end: bytes, projection: bytes) -> bool:
    """True if one check covers [start, end) with this projection or the whole value."""
    ops = reads.into_ops(1, 2)
    return any(op.start <= start and end <= op.end and op.projection in (projection, b"") for op in ops)


@given(keys)
def test_point_end_is_prefix_end(key):
    assert point_end(key) == prefix_end(key)


@given(st.lists(st.tuples(keys, st.sampled_from([b"", b"\1", b"\2"])), max_size=40))
def test_points_are_covered(reads):
    spans = ReadSpans()
    for key, projection in reads:
        if not prefix_end(key):
            continue
        spans.add_point(key, projection)
    for key, projection in reads:
        if prefix_end(key):
            assert covered(spans, key, prefix_end(key), projection)


@given(st.lists(st.tuples(keys, keys, st.sampled_from([b"", b"\1"])), max_size=60), st.integers(1, 8))
def test_condensing_only_widens(reads, limit):
    """Whatever the bound, every span stays inside one check, and the bound holds."""
    spans = ReadSpans()
    for start, end, projection in reads:
        if start < end:
            spans.add_span(start, end, projection)
        elif prefix_end(start):
            spans.add_point(start, projection)
    before = spans.into_ops(1, 2)
    spans.condense(limit)
    assert len(spans.spans) <= limit
    for op in before:
        assert covered(spans, op.start, op.end, op.projection)


def test_two_projections_of_a_key_are_the_whole_value():
    reads = ReadSpans()
    reads.add_point(b"k", b"\1")
    reads.add_point(b"k", b"\1")
    assert reads.into_ops(5, 9) == [Refresh(b"k", b"l", 5, 9, b"\1", True)]
    reads.add_point(b"k", b"\2")
    assert reads.into_ops(5, 0) == [Refresh(b"k", b"l", 5, 0, b"", True)]


def test_pages_of_a_scan_are_one_span():
    """Ascending and descending pages grow the span they continue."""
    reads = ReadSpans()
    for start, end in ((b"a", b"c"), (b"c", b"f"), (b"f", b"z")):
        reads.add_span(start, end, b"")
    assert reads.spans == [(b"a", b"z", b"")]
    reads.clear()
    for start, end in ((b"f", b"z"), (b"c", b"f"), (b"a", b"c")):
        reads.add_span(start, end, b"")
    assert reads.spans == [(b"a", b"z", b"")]


def test_many_reads_stay_bounded():
    """A transaction that reads half a million keys keeps a few thousand checks; tables are joined last."""
    reads = ReadSpans()
    for table in (b"\1", b"\2"):
        for row in range(20_000):
            reads.add_point(table + row.to_bytes(3, "big"), b"\7")
    assert len(reads.into_ops(1, 2)) <= spans_module.POINTS_MAX + 2 * SPANS_MAX
    reads.condense()
    assert len(reads.spans) == SPANS_MAX or len(reads.spans) <= SPANS_MAX
    assert not any(start[:1] != end[:1] and end != b"\2" for start, end, _ in reads.spans)
