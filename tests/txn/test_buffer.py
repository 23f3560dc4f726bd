"""The write buffer against a plain dict, and merged scans against sorting everything."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kvtier.messages import Delete, DeleteSpan, Put, ScanResult
from txn.buffer import WriteBuffer

KEYS = [b"%c" % letter for letter in range(ord("a"), ord("m"))]
key = st.sampled_from(KEYS)
write = st.tuples(st.just("write"), key, st.one_of(st.none(), st.binary(min_size=1, max_size=2)))
span = st.tuples(st.just("span"), key, key)
mark = st.tuples(st.just("mark"))
back = st.tuples(st.just("back"), st.integers(0, 5))
read = st.tuples(st.just("read"))
steps = st.lists(st.one_of(write, write, write, span, mark, back, read), max_size=40)


class Model:
    """What the transaction sees: the store's rows with every write applied in order."""

    def __init__(self, rows):
        self.history = [(0, dict(rows))]

    @property
    def rows(self):
        return self.history[-1][1]

    def apply(self, seq, step):
        rows = dict(self.rows)
        if step[0] == "write":
            rows.pop(step[1], None)
            if step[2] is not None:
                rows[step[1]] = step[2]
        else:
            rows = {key: value for key, value in rows.items() if not step[1] <= key < step[2]}
        self.history.append((seq, rows))

    def rollback_to(self, seq):
        while self.history[-1][0] > seq:
            self.history.pop()


def page_of(rows, start, end, reverse, limit):
    """A store's page."""
    found = sorted([key for key in rows if start <= key < end], reverse=reverse)
    resume = None
    if limit and len(found) > limit:
        resume = found[limit - 1] if reverse else found[limit - 1] + b"\0"
        found = found[:limit]
    return ScanResult(found, [rows[key] for key in found], resume)


def scan_all(buffer, rows, start, end, reverse, limit):
    """Every page of a merged scan; the limit holds for each."""
    found = []
    while True:
        page = buffer.merge_page(start, end, reverse, limit, page_of(rows, start, end, reverse, limit))
        assert not limit or len(page.keys) <= limit
        found += list(zip(page.keys, page.values))
        if page.resume is None:
            return found
        if reverse:
            assert page.resume < end or page.keys == []
            end = page.resume
        else:
            assert page.resume > start
            start = page.resume


@settings(max_examples=300)
@given(st.dictionaries(key, st.binary(min_size=1, max_size=2)), steps, key, key, st.booleans(), st.integers(0, 4))
def test_buffer_against_model(rows, script, start, end, reverse, limit):
    """Any script of writes, span deletions and savepoints; then gets, and scans in both directions."""
    buffer, model, savepoints = WriteBuffer(), Model(rows), []
    for seq, step in enumerate(script, 1):
        if step[0] == "write":
            buffer.write(step[1], step[2], seq)
            model.apply(seq, step)
        elif step[0] == "span" and step[1] < step[2]:
            buffer.delete_span(step[1], step[2], seq)
            model.apply(seq, step)
        elif step[0] == "mark":
            buffer.mark_savepoint()
            savepoints.append(seq)
        elif step[0] == "back" and savepoints:
            del savepoints[step[1] + 1 :]
            buffer.rollback_to(savepoints[-1])
            model.rollback_to(savepoints[-1])
        elif step[0] == "read":
            buffer.keys_in(b"a", b"z")
    for name in KEYS:
        entry = buffer.lookup(name)
        assert (rows.get(name) if entry is None else entry[0]) == model.rows.get(name)
    expected = sorted([item for item in model.rows.items() if start <= item[0] < end], reverse=reverse)
    assert scan_all(buffer, rows, start, end, reverse, limit) == expected
    assert replay(rows, buffer.into_commit_ops()) == model.rows
    assert replay(rows, buffer.into_flush_ops()) == model.rows


def replay(rows, ops):
    """Applies operations in the order they are sent."""
    rows = dict(rows)
    for op in ops:
        if isinstance(op, DeleteSpan):
            rows = {key: value for key, value in rows.items() if not op.start <= key < op.end}
        elif isinstance(op, Delete):
            rows.pop(op.key, None)
        else:
            rows[op.key] = op.value
    return rows


def test_flush_sends_what_a_rollback_may_uncover():
    """reliability 21: the version a savepoint protects goes out with the one that replaced it."""
    buffer = WriteBuffer()
    buffer.write(b"k", b"before", 1)
    buffer.mark_savepoint()
    buffer.write(b"k", b"after", 3)
    buffer.write(b"n", b"new", 4)
    assert buffer.into_commit_ops() == [Put(b"k", b"after", 3), Put(b"n", b"new", 4)]
    assert buffer.into_flush_ops() == [Put(b"k", b"before", 1), Put(b"k", b"after", 3), Put(b"n", b"new", 4)]


def test_a_put_over_a_deleted_span_stands():
    """Spans go first into the commit batch, and take the keys buffered before them away."""
    buffer = WriteBuffer()
    buffer.write(b"c", b"old", 1)
    buffer.delete_span(b"a", b"m", 2)
    buffer.write(b"d", b"new", 3)
    assert buffer.into_commit_ops() == [DeleteSpan(b"a", b"m", 2), Put(b"d", b"new", 3)]
    assert buffer.lookup(b"c") == (None, 2)
    assert buffer.lookup(b"z") is None
    assert buffer.covers(b"b", b"c")
    assert not buffer.covers(b"b", b"z")


def test_bytes_never_fall_below_what_is_held():
    buffer = WriteBuffer()
    for number in range(100):
        buffer.write(b"k%d" % (number % 10), bytes(1000), number)
    assert 10_000 <= buffer.bytes < 13_000
    buffer.mark_savepoint()
    for number in range(100):
        buffer.write(b"k%d" % (number % 10), bytes(1000), 100 + number)
    assert buffer.bytes > 110_000


def test_undo_is_kept_only_for_savepoints_that_may_come_back():
    """READ COMMITTED marks a savepoint for each statement; without a named one only the last of them counts."""
    buffer = WriteBuffer()
    buffer.mark_savepoint()
    for seq in range(1, 100):
        buffer.forget_undo()
        buffer.write(b"k", b"%d" % seq, seq)
    assert buffer.entries == {b"k": (b"99", 99)}
    assert len(buffer.into_flush_ops()) == 2
    buffer.rollback_to(98)
    assert buffer.entries == {b"k": (b"98", 98)}
