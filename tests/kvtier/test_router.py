"""No key is skipped or doubled at a border, whatever splits and merges meanwhile."""

from __future__ import annotations

import random

import msgspec
import pytest

from base.errors import RangeMismatch, SqlError
from kvtier.descriptors import KEY_MAX
from kvtier.messages import (
    Batch,
    Checksum,
    CollectGarbage,
    Delete,
    DeleteSpan,
    EndTxn,
    Get,
    Lock,
    Merge,
    Put,
    Refresh,
    ResolveIntents,
    Scan,
    Split,
    TxnStatus,
    prefix_end,
)
from kvtier.settings import StoreSettings
from tests.kvtier.kvcase import Case, k


def routed(**fields) -> Case:
    """A case whose router looks ranges up and cuts batches although one store has everything."""
    return Case(StoreSettings(route_always=True, **fields))


def borders(case: Case) -> list[bytes]:
    return [replica.start for replica in case.state.ranges.all()]


def test_split_and_merge_change_descriptors_and_meta():
    case = routed()
    case.put(a=b"1", m=b"2", z=b"3")
    right = case.send(Split(k("m"))).results[0]
    assert (right.range_id, right.generation, right.start, right.end) == (2, 2, k("m"), KEY_MAX)
    assert borders(case) == [b"", k("m")]
    assert case.scan("a", "zz") == {"a": b"1", "m": b"2", "z": b"3"}
    assert case.send(Split(k("m"))).results[0] == right
    case.send(Merge(k("a")))
    assert borders(case) == [b""]
    case.kv.cache.clear()
    assert case.scan("a", "zz") == {"a": b"1", "m": b"2", "z": b"3"}
    case.check()


def test_what_cannot_be_split_or_merged():
    case = routed()
    with pytest.raises(SqlError):
        case.send(Split(b"\x01x"))
    with pytest.raises(SqlError):
        case.send(Merge(k("a")))


def test_splits_survive_a_restart():
    case = routed()
    case.put(a=b"1", m=b"2")
    case.send(Split(k("m")))
    case.crash()
    assert borders(case) == [b"", k("m")]
    assert case.scan("a", "z") == {"a": b"1", "m": b"2"}


def test_splits_inside_meta2():
    """The two hops: META1 says where the META2 ranges are."""
    case = routed()
    names = [f"{n:03}" for n in range(0, 100, 10)]
    case.put(**dict.fromkeys(names, b"1"))
    for name in names:
        case.send(Split(k(name)))
    case.send(Split(b"\x02" + k("030")))
    case.send(Split(b"\x02" + k("070")))
    case.send(Split(b"\x03"))
    case.kv.cache.clear()
    assert case.scan("000", "999") == dict.fromkeys(names, b"1")
    case.kv.cache.clear()
    assert [case.get(k(name)) for name in reversed(names)] == [b"1"] * len(names)
    assert case.scan("000", "999", reverse=True) == dict.fromkeys(names, b"1")
    case.check()


def test_an_outdated_descriptor_is_a_mismatch_and_costs_one_retry():
    case = routed()
    case.put(a=b"1", z=b"2")
    old = case.kv.cache.find(k("a"))
    case.send(Split(k("m")))
    case.kv.cache.clear()
    case.kv.cache.insert(old)
    before = case.kv.mismatches
    assert case.get(k("z")) == b"2"
    assert case.kv.mismatches == before + 1
    with pytest.raises(RangeMismatch):
        case.store.send(Batch([Get(k("a"))], range_id=old.range_id, generation=old.generation))


def test_limits_across_borders():
    case = routed()
    case.put(**{f"{n:02}": b"%d" % n for n in range(10)})
    for name in ("03", "05", "06"):
        case.send(Split(k(name)))
    page = case.send(Scan(k("00"), k("99"), limit=4)).results[0]
    assert page.values == [b"0", b"1", b"2", b"3"]
    rest = case.send(Scan(page.resume, k("99"), limit=100)).results[0]
    assert rest.values == [b"%d" % n for n in range(4, 10)]
    back = case.send(Scan(k("00"), k("99"), True, limit=6)).results[0]
    assert back.values == [b"%d" % n for n in range(9, 3, -1)]
    rest = case.send(Scan(k("00"), back.resume, True)).results[0]
    assert rest.values == [b"3", b"2", b"1", b"0"]
    both = case.send(Scan(k("00"), k("04")), Scan(k("04"), k("99")), keys_max=6).results
    assert both[0].values == [b"0", b"1", b"2", b"3"]
    assert both[1].values == [b"4", b"5"]
    assert case.send(Scan(both[1].resume, k("99"))).results[0].values == [b"6", b"7", b"8", b"9"]


def test_scans_that_are_sent_at_once_end_at_borders():
    case = routed()
    case.put(**{f"{n:02}": b"%d" % n for n in range(10)})
    for name in ("03", "06"):
        case.send(Split(k(name)))
    spans = [("00", "02"), ("01", "05"), ("03", "06"), ("05", "99"), ("04", "05")]
    pages = case.send(*[Scan(k(start), k(end)) for start, end in spans], at_once=True).results
    assert [page.values for page in pages] == [
        [b"0", b"1"],
        [b"1", b"2"],
        [b"3", b"4", b"5"],
        [b"5"],
        [b"4"],
    ]
    assert [page.resume for page in pages] == [None, k("03"), None, k("06"), None]
    pages = case.send(Scan(k("00"), k("99"), limit=2), Get(k("07")), at_once=True).results
    assert (pages[0].values, pages[0].resume, pages[1]) == ([b"0", b"1"], k("02"), b"7")


@pytest.mark.parametrize("seed", range(6))
def test_scans_that_are_sent_at_once_find_what_is_there(seed: int):
    """Ranges are split and merged, with caches that do not know it, while spans are paged through together."""
    model = Model(seed)
    for _ in range(25):
        model.step()
    draw, case = model.draw, model.case
    wanted = [(start, end) for start, end in [model.span() for _ in range(8)] if start < end]
    found: list[list[bytes]] = [[] for _ in wanted]
    left = [(at, start, end) for at, (start, end) in enumerate(wanted)]
    ts = case.kv.now()
    while left:
        scans = [Scan(start, end, limit=draw.choice([1, 2, 5])) for _, start, end in left]
        pages = case.send(*scans, ts=ts, at_once=True, bytes_max=draw.choice([0, 8])).results
        for (at, _, _), page in zip(left, pages):
            found[at] += page.keys
        left = [(at, page.resume, end) for (at, _, end), page in zip(left, pages) if page.resume is not None]
        case.send(Split(draw.choice(model.keys)))
        inner = borders(case)[:-1]
        if inner and draw.random() < 0.3:
            case.send(Merge(draw.choice(inner)))
    assert found == [[key for key in sorted(model.rows) if start <= key < end] for start, end in wanted]


def test_a_commit_over_several_ranges_is_one_batch():
    case = routed()
    case.send(Split(k("m")))
    txn = case.txn()
    case.get(k("a"), txn, Lock.EXCLUSIVE)
    case.get(k("z"), txn, Lock.EXCLUSIVE)
    written = case.engine.write_seq()
    case.send(Put(k("a"), b"1", 1), Put(k("z"), b"2", 2), EndTxn(True), txn=txn)
    assert case.engine.write_seq() == written + 1
    assert case.kv.is_local([k("a"), k("z")])
    assert not case.state.intents


def test_a_commit_that_is_cut_ends_last():
    """As with ranges elsewhere: the parts become intents, EndTxn names them."""
    case = routed()
    case.send(Split(k("m")))
    txn = case.txn()
    case.get(k("b"), txn)
    refresh = Refresh(k("b"), prefix_end(k("b")), txn.read_ts)
    case.send(Get(k("z")))
    batch = Batch([refresh, Put(k("a"), b"1", 1), Put(k("z"), b"2", 2), EndTxn(True)], txn=txn)
    reply = case.loop.finish(case.kv._send_parts(batch))
    assert reply.write_ts > txn.read_ts
    case.loop.run()
    assert case.scan("a", "zz") == {"a": b"1", "z": b"2"}
    assert not case.state.intents


def test_a_cut_commit_whose_reads_changed_fails():
    case = routed()
    case.send(Split(k("m")))
    txn = case.txn()
    case.get(k("b"), txn)
    case.put(b=b"new")
    case.send(Get(k("z")))
    refresh = Refresh(k("b"), prefix_end(k("b")), txn.read_ts)
    batch = Batch([refresh, Put(k("a"), b"1", 1), Put(k("z"), b"2", 2), EndTxn(True)], txn=txn)
    with pytest.raises(Exception, match="could not serialize"):
        case.loop.finish(case.kv._send_parts(batch))
    case.send(EndTxn(False, intents=(k("a"), k("z"))), txn=msgspec.structs.replace(txn, anchor=k("a")))
    case.loop.run()
    assert case.scan("a", "zz") == {"b": b"new"}


def test_resolving_over_borders():
    case = routed()
    txn = case.txn(anchor=k("a"))
    case.send(Put(k("a"), b"1", 1), Put(k("z"), b"1", 2), txn=txn)
    case.send(Split(k("m")))
    case.send(ResolveIntents((k("a"), k("z")), (), txn, int(TxnStatus.COMMITTED), txn.write_ts))
    assert not case.state.intents
    assert case.scan("a", "zz") == {"a": b"1", "z": b"1"}


def test_a_split_keeps_locks_reads_and_the_threshold():
    """reliability 3: the right half must know what the left half knew."""
    case = routed()
    late = case.txn()
    holder = case.txn()
    case.get(k("y"), holder, Lock.EXCLUSIVE)
    read = case.send(Get(k("z")))
    case.state.replica_of(k("a")).gc_threshold = 77
    case.send(Split(k("m")))
    assert case.state.replica_of(k("z")).gc_threshold == 77
    assert case.state.locks.holds_exclusive(k("y"), holder.id)
    assert case.send(Put(k("z"), b"1", 1), EndTxn(True), txn=late).write_ts > read.ts


def test_a_large_range_splits_by_itself():
    case = Case(StoreSettings(range_max_bytes=20_000, gc_interval_seconds=1))
    case.put(**{f"{n:04}": b"x" * 100 for n in range(400)})
    for _ in range(6):
        case.loop.run(30)
        case.put(poke=b"1")
    case.loop.run(30)
    assert len(case.state.ranges) >= 2
    assert all(replica.live_bytes <= 40_000 for replica in case.state.ranges.all())
    assert len(case.scan("0000", "9999")) == 400


def test_statistics_agree_with_a_recount():
    """reliability 116"""
    case = routed()
    draw = random.Random(1)
    for round_ in range(30):
        ops = [Put(k(f"{draw.randrange(40):02}"), b"v" * draw.randrange(20)) for _ in range(draw.randrange(1, 5))]
        ops.append(Delete(k(f"{draw.randrange(40):02}")))
        case.send(*ops)
        if round_ == 10:
            case.send(Split(k("20")))
        if round_ == 20:
            case.send(Split(k("30")))
            case.send(Merge(k("00")))
    for replica in case.state.ranges.all():
        if replica:
            counted = case.send(Checksum(replica.start, replica.end)).results[0][1]
            assert replica.stats() == counted


# --- the model ----------------------------------------------------------------------------


class Model:
    """A flat dict beside a store whose ranges change all the time."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.case = routed()
        self.rows: dict[bytes, bytes] = {}
        self.keys = [k(f"{n:02}") for n in range(30)]

    def span(self) -> tuple[bytes, bytes]:
        start, end = sorted(self.draw.sample(range(31), 2))
        return k(f"{start:02}"), k(f"{end:02}")

    def step(self) -> None:
        """One random act, checked at once."""
        draw, case = self.draw, self.case
        act = draw.randrange(10)
        if act == 0:
            case.send(Split(draw.choice(self.keys)))
        elif act == 1:
            inner = [start for start in borders(case) if start != borders(case)[-1]]
            if inner:
                case.send(Merge(draw.choice(inner)))
        elif act == 2:
            start, end = self.span()
            case.send(DeleteSpan(start, end))
            self.rows = {key: value for key, value in self.rows.items() if not start <= key < end}
        elif act < 6:
            self.write()
        elif act < 7:
            wanted = draw.sample(self.keys, 5)
            got = case.send(*[Get(key) for key in wanted]).results
            assert got == [self.rows.get(key) for key in wanted]
        else:
            self.scan()
        if draw.random() < 0.1:
            case.kv.cache.clear()

    def write(self) -> None:
        ops = []
        for key in self.draw.sample(self.keys, self.draw.randrange(1, 6)):
            if self.draw.random() < 0.25:
                ops.append(Delete(key))
                self.rows.pop(key, None)
            else:
                value = b"%d" % self.draw.randrange(1000)
                ops.append(Put(key, value))
                self.rows[key] = value
        self.case.send(*ops)

    def scan(self) -> None:
        """Pages through a span with random limits, both directions."""
        start, end = self.span()
        reverse = self.draw.random() < 0.5
        want = [(key, self.rows[key]) for key in sorted(self.rows, reverse=reverse) if start <= key < end]
        got = []
        ts = self.case.kv.now()
        lower, upper = start, end
        for _ in range(100):
            limit = self.draw.choice([0, 1, 2, 5])
            bytes_max = self.draw.choice([0, 0, 8])
            page = self.case.send(Scan(lower, upper, reverse, limit), ts=ts, bytes_max=bytes_max).results[0]
            got += zip(page.keys, page.values)
            assert not limit or len(page.keys) <= limit
            if page.resume is None:
                break
            lower, upper = (lower, page.resume) if reverse else (page.resume, upper)
            if self.draw.random() < 0.2:
                self.case.send(Split(self.draw.choice(self.keys)))
        assert got == want


@pytest.mark.parametrize("seed", range(12))
def test_random_splits_and_batches_against_a_flat_model(seed: int):
    model = Model(seed)
    for _ in range(60):
        model.step()
        model.case.kv.cache.check()
    model.case.check()
    case = model.case
    case.crash(seed)
    rows = case.send(Scan(k("00"), k("99"))).results[0]
    assert dict(zip(rows.keys, rows.values)) == model.rows


def test_pieces_of_a_garbage_collection_go_alone_into_a_merged_range() -> None:
    """Simulator, seed 164 of 60 seconds: two ranges were merged between the cutting and the sending."""
    case = Case(StoreSettings(route_always=True))
    case.put(b=b"1", x=b"2")
    case.send(Split(k("m")))
    assert case.scan("a", "z") == {"b": b"1", "x": b"2"}
    case.loop.finish(case.store.send(Batch([Merge(k("b"))])))
    case.send(CollectGarbage(k("a"), k("z"), 1))
    assert case.scan("a", "z") == {"b": b"1", "x": b"2"}
