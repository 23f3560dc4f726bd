"""MVCC against a slow honest model: versions in dicts, reads by looking at all of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import Uncertain, WriteTooOld
from base.hlc import TS_MAX
from base.seams import CF_DATA
from kvtier import mvcc
from kvtier.engine import MemoryEngine, RocksEngine, StoreEngine
from kvtier.messages import TxnMeta, prefix_end
from kvtier.mvcc.tombstones import RangeTombstones, record_key
from kvtier.mvcc.versions import from_stored, into_stored
from tests.kvtier.mvcc_model import BORDERS, KEYS, World, random_history, random_span


@pytest.fixture(params=["memory", "rocks"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made: StoreEngine = MemoryEngine() if request.param == "memory" else RocksEngine(str(tmp_path / "store"), 8 << 20)
    yield World(made)
    made.close()


# --- golden cases ----------------------------------------------------------------------


@given(st.one_of(st.none(), st.binary(max_size=40), st.integers(0, 40).map(bytes)))
def test_stored_values_come_back(value: bytes | None) -> None:
    assert from_stored(into_stored(value)) == value
    assert into_stored(None) == b""


@given(st.lists(st.integers(0, 40).map(bytes), min_size=2, max_size=2, unique=True))
def test_stored_values_are_distinct(values: list[bytes]) -> None:
    assert into_stored(values[0]) != into_stored(values[1])


@given(st.binary(max_size=5), st.integers(0, TS_MAX), st.integers(0, TS_MAX))
def test_newer_versions_sort_first(key: bytes, one: int, other: int) -> None:
    assert mvcc.split_version(mvcc.version_key(key, one)) == (key, one)
    assert (mvcc.version_key(key, one) < mvcc.version_key(key, other)) == (one > other)


def test_the_picture_of_the_package(world: World) -> None:
    world.commit(10, (b"k", b"v1"))
    world.commit(20, (b"k", b"v2"))
    world.commit(30, (b"k", None))
    world.commit(40, (b"k", b"v3"))
    world.commit(45, (b"a", b"z", "delete"))
    engine, tombstones = world.engine, world.tombstones
    seen = [mvcc.get_value(engine, b"k", ts, tombstones) for ts in (9, 10, 15, 25, 35, 42, 45, 99)]
    assert seen == [None, b"v1", b"v1", b"v2", None, b"v3", None, None]
    assert mvcc.get(engine, b"k", 35, tombstones) == (None, 30)
    assert mvcc.newest(engine, b"k", tombstones) == (None, 45)
    assert mvcc.newest_ts(engine, b"k") == 40
    assert mvcc.newest_ts(engine, b"nothing") == 0


def test_empty_values_are_not_deletions(world: World) -> None:
    world.commit(10, (b"a", b""), (b"b", None), (b"c", b"\x00"))
    assert mvcc.get(world.engine, b"a", 10) == (b"", 10)
    assert mvcc.get(world.engine, b"b", 10) == (None, 10)
    assert mvcc.scan(world.engine, b"a", b"", 10)[:2] == ([b"a", b"c"], [b"", b"\x00"])


def test_within_a_transaction_the_later_write_wins(world: World) -> None:
    world.commit(5, (b"b1", b"old"), (b"d", b"old"))
    world.commit(10, (b"b1", b"before"), (b"a", b"c", "delete"), (b"bb", b"after"))
    assert world.rows(b"", b"", 10) == [(b"bb", b"after"), (b"d", b"old")]
    assert world.rows(b"", b"", 9) == [(b"b1", b"old"), (b"d", b"old")]


def test_uncertain_reads(world: World) -> None:
    world.commit(10, (b"k", b"v1"))
    world.commit(20, (b"k", b"v2"))
    engine = world.engine
    assert mvcc.get(engine, b"k", 15, uncertainty_limit=19) == (b"v1", 10)
    for limit in (20, 25):
        with pytest.raises(Uncertain) as caught:
            mvcc.get(engine, b"k", 15, uncertainty_limit=limit)
        assert caught.value.value_ts == 20
        for reverse in (False, True):
            with pytest.raises(Uncertain) as caught:
                mvcc.scan(engine, b"a", b"z", 15, reverse, uncertainty_limit=limit)
            assert (caught.value.key, caught.value.value_ts) == (b"k", 20)
    world.commit(30, (b"a", b"z", "delete"))
    with pytest.raises(Uncertain):
        mvcc.get(engine, b"k", 25, world.tombstones, 30)
    assert mvcc.get(engine, b"other", 25, world.tombstones, 30) == (None, 0), "nothing was there to delete"


def test_locking_reads_refuse_what_is_newer(world: World) -> None:
    world.commit(10, (b"k", b"v1"))
    world.commit(20, (b"k", None))
    with pytest.raises(WriteTooOld) as caught:
        mvcc.get(world.engine, b"k", 15, fail_on_newer=True)
    assert caught.value.existing_ts == 20
    assert mvcc.get(world.engine, b"k", 20, fail_on_newer=True) == (None, 20)
    for reverse in (False, True):
        with pytest.raises(WriteTooOld) as caught:
            mvcc.scan(world.engine, b"a", b"z", 15, reverse, fail_on_newer=True)
        assert caught.value.existing_ts == 20


def test_many_versions_cost_a_jump_and_are_right(world: World) -> None:
    for ts in range(1, 60):
        world.commit(ts, (b"a", b"%d" % ts), (b"b", b"%d" % ts if ts % 7 else None))
    for ts in (1, 6, 7, 13, 14, 30, 54, 55, 59, 80):
        for reverse in (False, True):
            expected = world.model.scan(b"", b"", ts)
            assert world.rows(b"", b"", ts, reverse) == (expected[::-1] if reverse else expected)


def test_a_projection_decides_what_is_a_conflict(world: World) -> None:
    world.commit(10, (b"a", b"same"), (b"b1", b"one"), (b"c", b"x"))
    world.commit(20, (b"a", b"same"))
    engine = world.engine
    assert mvcc.find_conflict(engine, b"a", b"z", 15, 30) is None, "the version says the same"
    assert mvcc.find_newer(engine, b"a", b"z", 15) == (b"a", 20)
    assert mvcc.find_newer(engine, b"b", b"z", 15) is None
    world.commit(30, (b"b1", b"two"), (b"bb", b"phantom"))
    assert mvcc.find_conflict(engine, b"a", b"z", 15, 29) is None
    assert mvcc.find_conflict(engine, b"a", b"z", 15, 30) == (b"b1", 30)
    assert mvcc.find_conflict(engine, b"b2", b"z", 15, 30) == (b"bb", 30)
    world.commit(40, (b"c", b"d", "delete"))
    assert mvcc.find_conflict(engine, b"c", b"z", 30, 40, b"", world.tombstones) == (b"c", 40)
    assert mvcc.find_newer(engine, b"c", b"cc", 30, world.tombstones) == (b"c", 40)
    world.commit(50, (b"c", b"x"))
    assert mvcc.find_conflict(engine, b"c", b"z", 30, 50, b"", world.tombstones) is None, "deleted and back again"


def test_garbage_by_example(world: World) -> None:
    for ts in (5, 10, 20, 30, 40):
        world.commit(ts, (b"a", b"v"))
    world.commit(10, (b"b", b"v"))
    world.commit(20, (b"b", None))
    world.commit(40, (b"b", b"v"))
    batch, resume, sweep = mvcc.collect_garbage(world.engine, b"", b"", 25, 1000)
    assert resume is None
    assert [mvcc.split_version(op[2]) for op in batch.ops] == [(b"a", 10), (b"a", 5), (b"b", 10), (b"b", 20)]
    assert sweep.removed == 4
    world.write(batch)
    assert mvcc.collect_garbage(world.engine, b"", b"", 25, 1000)[2].removed == 0


# --- range tombstones ------------------------------------------------------------------


def test_fragments(world: World) -> None:
    world.commit(30, (b"a", b"m", "delete"))
    world.commit(20, (b"f", b"t", "delete"))
    tombstones = world.tombstones
    assert [tombstones.covering(key, 99) for key in (b"a", b"f", b"m", b"t", b"A")] == [30, 30, 20, 0, 0]
    assert [tombstones.covering(key, 25) for key in (b"a", b"f", b"m")] == [0, 20, 20]
    assert tombstones.newest_in(b"n", b"z") == 20
    assert not tombstones.overlap(b"t", b"")
    again = RangeTombstones()
    again.load(world.engine)
    assert again.records() == tombstones.records() == [(b"a", b"m", 30), (b"f", b"t", 20)]
    assert again.starts == tombstones.starts == [b"a", b"f", b"m"]
    batch = world.engine.batch()
    mvcc.split_range_tombstones(batch, tombstones, b"g")
    world.write(batch)
    assert tombstones.records() == [(b"a", b"g", 30), (b"f", b"g", 20), (b"g", b"m", 30), (b"g", b"t", 20)]
    assert [tombstones.covering(key, 99) for key in (b"a", b"f", b"g", b"m", b"t")] == [30, 30, 30, 20, 0]


def test_a_split_keeps_the_longest_of_a_transactions_spans(world: World) -> None:
    """Seed 266 of 60 virtual seconds: [c, e) became [c, d) when [b, d) of the same timestamp was cut at c."""
    world.commit(30, (b"c", b"e", "delete"), (b"b", b"d", "delete"), (b"a", b"f", "delete"))
    batch = world.engine.batch()
    mvcc.split_range_tombstones(batch, world.tombstones, b"c")
    world.write(batch)
    assert [world.tombstones.covering(key, 99) for key in (b"a", b"b", b"c", b"d", b"e", b"f")] == [30] * 5 + [0]
    again = RangeTombstones()
    again.load(world.engine)
    assert again.records() == world.tombstones.records()


def test_a_batch_keeps_the_longest_of_two_spans_with_one_start(world: World) -> None:
    batch = world.engine.batch()
    mvcc.put_range_tombstone(batch, b"a", b"f", 30)
    mvcc.put_range_tombstone(batch, b"a", b"c", 30)
    world.write(batch)
    assert world.tombstones.records() == [(b"a", b"f", 30)]


@given(st.lists(st.tuples(st.binary(max_size=3), st.integers(0, 3)), min_size=2, max_size=8))
def test_records_sort_by_start_then_newest_first(records: list[tuple[bytes, int]]) -> None:
    ordered = sorted(records, key=lambda record: record_key(*record))
    assert ordered == sorted(records, key=lambda record: (record[0], -record[1]))


def test_fragments_agree_with_a_list() -> None:
    chance = random.Random(3)
    for _ in range(60):
        world = World(MemoryEngine())
        spans: list[tuple[bytes, bytes, int]] = []
        for ts in range(1, 12):
            start, end = sorted(chance.sample(BORDERS, 2))
            if chance.random() < 0.8:
                world.commit(ts, (start, end, "delete"))
                spans.append((start, end, ts))
            elif spans:
                gone = spans.pop(chance.randrange(len(spans)))
                batch = world.engine.batch()
                mvcc.drop_range_tombstones(batch, gone[0], gone[1], 0, world.tombstones)
                assert not batch.ops
                batch.delete(3, record_key(gone[0], gone[2]))
                batch.touches_tombstones = True
                world.write(batch)
            for key in BORDERS:
                limit = chance.randrange(13)
                expected = max((at for lower, upper, at in spans if lower <= key < upper and at <= limit), default=0)
                assert world.tombstones.covering(key, limit) == expected
                found = max((at for lower, upper, at in spans if lower < end and start < upper), default=0)
                assert world.tombstones.newest_in(start, end) == found
                assert world.tombstones.overlap(start, end) == (found > 0)


# --- random tapes ------------------------------------------------------------------------


def assert_reads_agree(world: World, chance: random.Random, floor: int, until: int, rounds: int) -> None:
    model = world.model
    for _ in range(rounds):
        ts = chance.randrange(floor, until + 2)
        key = chance.choice(KEYS)
        expected = model.at(key, ts)
        assert mvcc.get_value(world.engine, key, ts, world.tombstones) == expected[0]
        start, end = random_span(chance)
        reverse = chance.random() < 0.5
        rows = model.scan(start, end, ts)[:: -1 if reverse else 1]
        limit, bytes_max = chance.choice([(0, 0), (1, 0), (2, 0), (3, 0), (0, 1), (0, 30), (5, 20)])
        assert world.rows(start, end, ts, reverse, limit, bytes_max) == rows, (start, end, ts, reverse, limit)


def assert_conflicts_agree(world: World, chance: random.Random, floor: int, until: int, rounds: int) -> None:
    model, engine, tombstones = world.model, world.engine, world.tombstones
    for _ in range(rounds):
        from_ts, to_ts = sorted((chance.randrange(floor, until + 1), chance.randrange(floor, until + 1)))
        start, end = random_span(chance)
        changed = [
            key
            for key in KEYS
            if start <= key and (not end or key < end) and model.at(key, from_ts)[0] != model.at(key, to_ts)[0]
        ]
        found = mvcc.find_conflict(engine, start, end, from_ts, to_ts, b"", tombstones)
        assert found == ((changed[0], model.at(changed[0], to_ts)[1]) if changed else None)
        key = chance.choice(KEYS)
        value, newest = model.at(key, TS_MAX)
        assert mvcc.newest(engine, key, tombstones) == (value, newest)
        assert mvcc.newest_ts(engine, key, tombstones) == newest
        try:
            assert mvcc.get(engine, key, from_ts, tombstones, fail_on_newer=True) == model.at(key, from_ts)
            assert newest <= from_ts
        except WriteTooOld as error:
            assert error.existing_ts == newest > from_ts
        check_uncertain(world, key, from_ts, to_ts)
        check_scan_refusals(world, start, end, from_ts, to_ts, chance.random() < 0.5)


def check_uncertain(world: World, key: bytes, ts: int, limit: int) -> None:
    model = world.model
    has_version = any(ts < at <= limit for at in model.versions.get(key, ()))
    hides = model.at(key, ts)[0] is not None and model.at(key, limit)[1] > ts
    try:
        got = mvcc.get(world.engine, key, ts, world.tombstones, limit)
        assert got[0] == model.at(key, ts)[0]
        assert not has_version
        assert not hides
    except Uncertain as error:
        assert has_version or hides
        assert ts < error.value_ts <= limit


def check_scan_refusals(world: World, start: bytes, end: bytes, ts: int, limit: int, reverse: bool) -> None:
    """A scan refuses exactly if a key it meets has a newer version, or a row of it is hidden later."""
    model = world.model
    for exact, horizon in ((False, limit), (True, TS_MAX)):
        newer = [
            key
            for key in KEYS
            if start <= key
            and (not end or key < end)
            and (
                any(ts < at <= horizon for at in model.versions.get(key, ()))
                or (model.at(key, ts)[0] is not None and model.at(key, horizon)[1] > ts)
            )
        ]
        try:
            rows = mvcc.scan(world.engine, start, end, ts, reverse, 0, 0, world.tombstones, limit, exact)
            assert not newer
            assert list(zip(rows[0], rows[1])) == model.scan(start, end, ts)[:: -1 if reverse else 1]
        except (Uncertain, WriteTooOld) as error:
            assert newer
            assert error.key == newer[-1 if reverse else 0]
            assert isinstance(error, WriteTooOld) == exact
            if isinstance(error, WriteTooOld):
                assert error.existing_ts == model.at(error.key, TS_MAX)[1]


def test_keys_are_prefix_free() -> None:
    assert not [(one, other) for one in KEYS for other in KEYS if one != other and other.startswith(one)]


@pytest.mark.parametrize("seed", range(40))
def test_reads_agree_with_the_model(seed: int) -> None:
    chance = random.Random(seed)
    world = World(MemoryEngine())
    until = chance.choice([3, 10, 40])
    random_history(world, chance, until, chance.choice([0, 0.15]))
    assert_reads_agree(world, chance, 0, until, 60)
    assert_conflicts_agree(world, chance, 0, until, 60)


@pytest.mark.parametrize("seed", range(3))
def test_reads_agree_with_the_model_over_rocks(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    world = World(RocksEngine(str(tmp_path / "store"), 8 << 20))
    random_history(world, chance, 30, 0.15)
    assert_reads_agree(world, chance, 0, 30, 60)
    world.engine.compact()
    assert_reads_agree(world, chance, 0, 30, 60)
    assert_conflicts_agree(world, chance, 0, 30, 60)
    world.engine.close()


@pytest.mark.parametrize("seed", range(40))
def test_garbage_is_invisible(seed: int) -> None:
    """Nothing a read at or above the threshold sees changes, at any point between two steps."""
    chance = random.Random(seed)
    world = World(MemoryEngine())
    until = 30
    random_history(world, chance, until, chance.choice([0, 0.2]))
    threshold = chance.randrange(until)
    position: bytes | None = b""
    calls = 0
    while position is not None:
        batch, position, sweep = mvcc.collect_garbage(
            world.engine, position, b"", threshold, chance.choice([1, 4, 7, 50]), world.tombstones
        )
        assert sweep.removed == len(batch)
        world.write(batch)
        assert_reads_agree(world, chance, threshold, until, 8)
        calls += 1
        assert calls < 1000, "no progress"
    batch = world.engine.batch()
    dropped = mvcc.drop_range_tombstones(batch, b"", b"", threshold, world.tombstones)
    world.write(batch)
    assert dropped == sum(ts <= threshold for _, _, ts in world.model.spans if _ is not None)
    assert_reads_agree(world, chance, threshold, until, 40)
    for key in KEYS:
        left = [ts for _, ts in _versions(world.engine, key) if ts <= threshold]
        assert len(left) == (world.model.at(key, threshold)[0] is not None)


def _versions(engine: StoreEngine, key: bytes) -> list[tuple[bytes, int]]:
    found = []
    cursor = engine.point_iterator(CF_DATA)
    cursor.seek(key)
    stored = cursor.key()
    while stored is not None and stored[:-8] == key:
        found.append(mvcc.split_version(stored))
        cursor.next()
        stored = cursor.key()
    return found


@pytest.mark.parametrize("seed", range(20))
def test_surveys_count_right(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    world = World(MemoryEngine())
    random_history(world, chance, 20, 0.1)
    start, end = random_span(chance)
    survey = mvcc.Survey(start, end, world.tombstones)
    while not survey.advance(world.engine, chance.randrange(1, 9)):
        pass
    inside = [key for key in world.model.versions if start <= key and (not end or key < end)]
    live = world.model.scan(start, end, TS_MAX)
    versions = [(key, ts) for key in inside for ts in world.model.versions[key]]
    assert survey.stats.as_tuple() == mvcc.stats(world.engine, start, end, world.tombstones).as_tuple()
    assert survey.stats.live_count == len(live)
    assert survey.stats.live_bytes == sum(len(key) + len(into_stored(value)) for key, value in live)
    assert survey.stats.version_count == len(versions)
    assert survey.stats.newest_ts == max((ts for _, ts in versions), default=0)
    middle = survey.middle()
    assert middle == mvcc.split_key(world.engine, start, end)
    if len(inside) < 2:
        assert middle is None
    else:
        assert middle in inside[0:] and middle != min(inside)
        halves = [mvcc.stats(world.engine, *span).total_bytes for span in ((start, middle), (middle, end))]
        assert sum(halves) == survey.stats.total_bytes
        largest = max(mvcc.stats(world.engine, key, prefix_end(key)).total_bytes for key in inside)
        assert abs(halves[0] - halves[1]) <= 2 * largest


def test_split_candidates_stay_few() -> None:
    engine = MemoryEngine()
    batch = engine.batch()
    for number in range(9000):
        mvcc.put_version(batch, b"%06d" % number, 1, b"v" * (1 + number % 50))
    engine.write(batch)
    middle = mvcc.split_key(engine, b"", b"")
    assert middle is not None
    assert 4450 <= int(middle) <= 4550


def test_checksums_see_everything_replicated(tmp_path: Path) -> None:
    digests = []
    for engine in (MemoryEngine(), RocksEngine(str(tmp_path / "store"), 8 << 20)):
        world = World(engine)
        random_history(world, random.Random(5), 20, 0.1)
        whole = mvcc.checksum(engine, b"", b"")
        parts = [mvcc.checksum(engine, b"", b"b"), mvcc.checksum(engine, b"b", b"")]
        stepped = mvcc.SpanDigest(engine, b"", b"")
        batch = engine.batch()
        mvcc.write_intent(batch, b"c\x05\x05", TxnMeta(b"t"), 50, 1, b"v", None)
        world.write(batch)
        while not stepped.advance(3):
            pass
        assert stepped.digest() == whole, "the digest shows the moment it began"
        assert mvcc.checksum(engine, b"", b"b") == parts[0]
        assert mvcc.checksum(engine, b"b", b"") != parts[1]
        world.commit(60, (b"a", b"b", "delete"))
        assert mvcc.checksum(engine, b"", b"b") != parts[0]
        unfinished = mvcc.SpanDigest(engine, b"", b"")
        unfinished.advance(1)
        unfinished.close()
        assert engine.stats()["open_iterators"] == 0
        digests.append([whole, *parts])
        engine.close()
    assert digests[0] == digests[1]
