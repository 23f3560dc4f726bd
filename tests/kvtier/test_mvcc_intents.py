"""Intents of several transactions, with savepoints, epochs and deleted spans, against their logs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from base.hlc import TS_MAX
from base.seams import CF_LOCK
from kvtier import mvcc
from kvtier.engine import MemoryEngine, RocksEngine, StoreEngine
from kvtier.messages import TxnMeta, TxnStatus, prefix_end
from tests.kvtier.mvcc_model import KEYS, VALUES, Model, World, random_history, random_span


@pytest.fixture(params=["memory", "rocks"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made: StoreEngine = MemoryEngine() if request.param == "memory" else RocksEngine(str(tmp_path / "store"), 8 << 20)
    yield World(made)
    made.close()


# --- intents -----------------------------------------------------------------------------


def test_history_of_an_intent(world: World) -> None:
    """The picture of kvtier.mvcc.intents."""
    engine = world.engine
    txn = TxnMeta(b"t1", anchor=b"k", priority=7, read_ts=5, write_ts=10)
    for seq, value in ((3, b"x"), (5, None), (9, b"y")):
        batch = engine.batch()
        mvcc.write_intent(batch, b"k", txn, 10, seq, value, mvcc.get_intent(engine, b"k"))
        engine.write(batch)
    intent = mvcc.get_intent(engine, b"k")
    assert intent is not None
    meta = intent.meta()
    assert (meta.id, meta.anchor, meta.priority, meta.write_ts, meta.seq) == (b"t1", b"k", 7, 10, 9)

    def seen(seq: int, *ignored: tuple[int, int]) -> object:
        assert intent is not None
        return mvcc.own_value(intent, TxnMeta(b"t1", seq=seq, ignored=ignored))

    assert [seen(2), seen(3), seen(4), seen(7), seen(9)] == [mvcc.MISSING, b"x", b"x", None, b"y"]
    assert seen(7, (4, 6)) == b"x"
    assert seen(9, (1, 10)) is mvcc.MISSING
    assert mvcc.own_value(intent, TxnMeta(b"t1", seq=9, epoch=1)) is mvcc.MISSING
    txn.ignored = ((8, 10), (4, 6))
    batch = engine.batch()
    assert mvcc.resolve_intent(engine, batch, b"k", txn, TxnStatus.COMMITTED, 33) == intent
    engine.write(batch)
    assert mvcc.get(engine, b"k", 99) == (b"x", 33)
    assert mvcc.get_intent(engine, b"k") is None
    assert mvcc.resolve_intent(engine, engine.batch(), b"k", txn, TxnStatus.COMMITTED, 33) is None


def test_replays_and_timestamps_that_never_go_back(world: World) -> None:
    engine = world.engine
    txn = TxnMeta(b"t1")
    batch = engine.batch()
    first = mvcc.write_intent(batch, b"k", txn, 50, 1, b"x", None)
    again = mvcc.write_intent(batch, b"k", txn, 40, 1, b"x", first)
    assert (again.write_ts, again.history) == (50, [(1, b"x")])
    with pytest.raises(AssertionError, match="replay differs"):
        mvcc.write_intent(batch, b"k", txn, 40, 1, b"other", first)
    restarted = mvcc.write_intent(batch, b"k", TxnMeta(b"t1", epoch=1), 60, 1, b"z", again)
    assert (restarted.epoch, restarted.history) == (1, [(1, b"z")])
    with pytest.raises(AssertionError):
        mvcc.write_intent(batch, b"k", TxnMeta(b"t2"), 60, 1, b"z", again)


def test_pushing_and_rolling_back(world: World) -> None:
    engine = world.engine
    txn = TxnMeta(b"t1")
    batch = engine.batch()
    first = mvcc.write_intent(batch, b"k", txn, 10, 1, b"x", None)
    mvcc.write_intent(batch, b"k", txn, 10, 2, b"y", first)
    mvcc.write_intent(batch, b"only", txn, 10, 2, b"y", None)
    engine.write(batch)
    batch = engine.batch()
    mvcc.resolve_intent(engine, batch, b"k", txn, TxnStatus.PENDING, 70)
    engine.write(batch)
    pushed = mvcc.get_intent(engine, b"k")
    assert pushed is not None
    assert (pushed.write_ts, pushed.history) == (70, [(1, b"x"), (2, b"y")])
    txn.ignored = ((2, 2),)
    batch = engine.batch()
    for key in (b"k", b"only"):
        mvcc.resolve_intent(engine, batch, key, txn, TxnStatus.PENDING)
    engine.write(batch)
    assert [(key, intent.history) for key, intent in mvcc.intents_in(engine, b"", b"")] == [(b"k", [(1, b"x")])]
    batch = engine.batch()
    mvcc.resolve_intent(engine, batch, b"k", txn, TxnStatus.ABORTED)
    engine.write(batch)
    assert mvcc.intents_in(engine, b"", b"") == []
    assert mvcc.get(engine, b"k", 99) == (None, 0)


class OpenTxn:
    """A transaction of the tape and its honest log: (seq, start, end or b"" for a key, value)."""

    def __init__(self, number: int) -> None:
        self.meta = TxnMeta(b"txn%d" % number)
        self.log: list[tuple[int, bytes, bytes, bytes | None]] = []

    def view(self, model: Model, ts: int, seq: int) -> dict[bytes, bytes | None]:
        """What the transaction sees of every key."""
        rows = {key: model.at(key, ts)[0] for key in KEYS}
        for at, start, end, value in self.log:
            if at <= seq and not any(lower <= at <= upper for lower, upper in self.meta.ignored):
                for key in KEYS:
                    if key == start or (end and start <= key < end):
                        rows[key] = value
        return rows


class Tape:
    """Several transactions on keys of their own (latches would see to that), over one history."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.world = World(MemoryEngine())
        random_history(self.world, self.chance, 10, 0.1)
        self.now = 10
        self.numbers = 3
        third = len(KEYS) // 3
        self.areas = [KEYS[at * third : (at + 1) * third] for at in range(3)]
        self.open = [OpenTxn(number) for number in range(3)]

    def run(self, steps: int) -> None:
        for _ in range(steps):
            at = self.chance.randrange(3)
            action = self.chance.choice(
                [
                    self.put,
                    self.put,
                    self.put,
                    self.delete_span,
                    self.roll_back,
                    self.restart,
                    self.end,
                    self.look,
                    self.look,
                ]
            )
            action(at)
            self.world.tombstones.check()

    def put(self, at: int) -> None:
        txn, engine = self.open[at], self.world.engine
        txn.meta.seq += 1
        key, value = self.chance.choice(self.areas[at]), self.chance.choice(VALUES)
        batch = engine.batch()
        mvcc.write_intent(batch, key, txn.meta, self.now, txn.meta.seq, value, mvcc.get_intent(engine, key))
        self.world.write(batch)
        txn.log.append((txn.meta.seq, key, b"", value))

    def delete_span(self, at: int) -> None:
        txn, engine = self.open[at], self.world.engine
        start, end = sorted(self.chance.choices(self.areas[at], k=2))
        end = prefix_end(end)
        txn.meta.seq += 1
        batch = engine.batch()
        mvcc.write_span_intent(engine, batch, start, end, txn.meta, self.now, txn.meta.seq)
        self.world.write(batch)
        txn.log.append((txn.meta.seq, start, end, None))

    def roll_back(self, at: int) -> None:
        meta = self.open[at].meta
        if meta.seq:
            lower = self.chance.randrange(1, meta.seq + 1)
            meta.ignored = (*meta.ignored, (lower, meta.seq))
            if self.chance.random() < 0.3:
                self.resolve(at, TxnStatus.PENDING, 0)

    def restart(self, at: int) -> None:
        txn = self.open[at]
        if self.chance.random() < 0.3:
            txn.meta.epoch += 1
            txn.meta.seq = 0
            txn.meta.ignored = ()
            txn.log.clear()

    def resolve(self, at: int, status: TxnStatus, ts: int) -> None:
        engine, meta = self.world.engine, self.open[at].meta
        batch = engine.batch()
        lower, upper = self.areas[at][0], prefix_end(self.areas[at][-1])
        points = [key for key, intent in mvcc.intents_in(engine, lower, upper) if intent.txn_id == meta.id]
        if self.chance.random() < 0.5:
            mvcc.resolve_span_intents(engine, batch, lower, upper, meta, status, ts)
        for key in points:
            assert mvcc.resolve_intent(engine, batch, key, meta, status, ts) is not None
            if self.chance.random() < 0.3:
                self.world.write(batch)
                batch = engine.batch()
        if self.chance.random() < 0.5:
            self.world.write(batch)
            batch = engine.batch()
        mvcc.resolve_span_intents(engine, batch, lower, upper, meta, status, ts)
        self.world.write(batch)

    def end(self, at: int) -> None:
        self.now += 1
        txn, model = self.open[at], self.world.model
        commits = self.chance.random() < 0.7
        if commits:
            before = {key: model.at(key, TS_MAX)[0] for key in KEYS}
            self.resolve(at, TxnStatus.COMMITTED, self.now)
            for key, value in txn.view(model, TS_MAX, txn.meta.seq).items():
                if value != before[key] or value is None:
                    model.put(key, self.now, value)
        else:
            self.resolve(at, TxnStatus.ABORTED, 0)
        assert mvcc.intents_in(self.world.engine, self.areas[at][0], prefix_end(self.areas[at][-1])) == []
        self.open[at] = OpenTxn(self.numbers)
        self.numbers += 1
        for key in KEYS:
            assert mvcc.get(self.world.engine, key, TS_MAX, self.world.tombstones)[0] == model.at(key, TS_MAX)[0], key

    def look(self, at: int) -> None:
        txn, engine, tombstones = self.open[at], self.world.engine, self.world.tombstones
        seq = txn.meta.seq
        txn.meta.seq = self.chance.randrange(seq + 1)
        view = txn.view(self.world.model, self.now, txn.meta.seq)
        reverse, limit = self.chance.random() < 0.5, self.chance.randrange(4)
        start, end = random_span(self.chance)
        expected = [
            (key, value)
            for key, value in sorted(view.items())
            if value is not None and start <= key and (not end or key < end)
        ]
        rows: list[tuple[bytes, bytes]] = []
        resume: bytes | None = b""
        lower, upper = start, end
        while resume is not None:
            own, deleted = mvcc.own_writes(engine, lower, upper, txn.meta)
            keys, values, resume = mvcc.scan_own(
                engine, lower, upper, self.now, own, deleted, reverse, limit, 0, tombstones
            )
            assert not limit or len(keys) <= limit
            rows.extend(zip(keys, values))
            lower, upper = (lower, resume or b"") if reverse else (resume or b"", upper)
        assert rows == expected[:: -1 if reverse else 1]
        txn.meta.seq = seq


@pytest.mark.parametrize("seed", range(60))
def test_transactions_agree_with_their_logs(seed: int) -> None:
    Tape(seed).run(80)


def test_other_intents_are_found(world: World) -> None:
    engine = world.engine
    batch = engine.batch()
    mvcc.write_intent(batch, b"b", TxnMeta(b"t1"), 10, 1, b"v", None)
    mvcc.write_intent(batch, b"d", TxnMeta(b"t2"), 10, 1, b"v", None)
    mvcc.write_span_intent(engine, batch, b"x", b"z", TxnMeta(b"t3"), 10, 1)
    engine.write(batch)
    assert [key for key, _ in mvcc.intents_in(engine, b"a", b"z")] == [b"b", b"d"]
    assert [key for key, _ in mvcc.intents_in(engine, b"a", b"z", 1)] == [b"b"]
    assert [key for key, _ in mvcc.span_intents_in(engine, b"y", b"zz")] == [b"x"]
    assert mvcc.span_intents_in(engine, b"z", b"") == []
    assert mvcc.get_span_intent(engine, b"y") is None
    assert len(list(_all(engine, CF_LOCK))) == 3


def _all(engine: StoreEngine, cf: int) -> Iterator[bytes]:
    cursor = engine.point_iterator(cf)
    cursor.seek(b"")
    while (key := cursor.key()) is not None:
        yield key
        cursor.next()
