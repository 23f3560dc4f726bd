"""What an engine keeps of spans that are read often, against scans of the engine itself."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from base.errors import StorageFailure
from base.seams import CF_DATA
from kvtier import mvcc
from kvtier.engine.contract import StoreEngine
from kvtier.engine.memory import MemoryEngine
from kvtier.engine.rocks import RocksEngine
from kvtier.engine.spancache import ASKED_MAX, FILL_ROWS_MAX, SpanCache
from kvtier.messages import KEYS_MAX
from kvtier.mvcc.cached import scan_cached
from kvtier.mvcc.versions import put_version, version_key

KEYS = [bytes((letter, digit)) for letter in b"abcdef" for digit in b"0123"]
BORDERS = [b"a", *KEYS, b"c1\x00", b"e3\xff", b"g"]


def write(engine: StoreEngine, ts: int, values: dict[bytes, bytes | None]) -> None:
    batch = engine.batch()
    for key, value in values.items():
        put_version(batch, key, ts, value)
    engine.write(batch)


def ask(engine: StoreEngine, start: bytes, end: bytes, ts: int, limit: int = KEYS_MAX) -> mvcc.Rows | None:
    """The second time a span is kept."""
    scan_cached(engine, start, end, ts, limit)
    return scan_cached(engine, start, end, ts, limit)


def test_a_span_is_kept_when_it_is_asked_for_again() -> None:
    engine = MemoryEngine()
    write(engine, 10, {b"a1": b"1", b"b": b"2", b"c": b"3"})
    assert scan_cached(engine, b"a", b"c", 20, 9) is None
    assert scan_cached(engine, b"a", b"c", 20, 9) == ([b"a1", b"b"], [b"1", b"2"], None)
    assert engine.spans.page_over(b"b") is not None
    assert engine.spans.page_over(b"c") is None
    write(engine, 30, {b"a1": None, b"b": b"4", b"a2": b"5", b"d": b"6"})
    assert scan_cached(engine, b"a", b"c", 30, 9) == ([b"a2", b"b"], [b"5", b"4"], None)
    assert scan_cached(engine, b"a", b"c", 29, 9) == ([b"a1", b"b"], [b"1", b"2"], None)
    assert scan_cached(engine, b"a", b"c", 9, 9) == ([], [], None)
    assert scan_cached(engine, b"a", b"c", 30, 1) == ([b"a2"], [b"5"], b"a3")
    assert scan_cached(engine, b"b", b"c", 30, 1) == ([b"b"], [b"4"], None), "nothing can follow"
    engine.spans.check()


def test_a_page_goes_with_the_newest_version_of_one_of_its_keys() -> None:
    engine = MemoryEngine()
    write(engine, 10, {b"a": b"1"})
    write(engine, 20, {b"a": b"2"})
    ask(engine, b"a", b"c", 30)
    batch = engine.batch()
    batch.delete(CF_DATA, version_key(b"a", 10))
    engine.write(batch)
    assert engine.spans.page_over(b"a") is not None, "an older version"
    batch = engine.batch()
    batch.delete(CF_DATA, version_key(b"a", 20))
    engine.write(batch)
    assert engine.spans.page_over(b"a") is None
    assert scan_cached(engine, b"a", b"c", 30, 9) == ([], [], None)
    batch = engine.batch()
    batch.delete_range(CF_DATA, b"x", b"y")
    engine.write(batch)
    assert engine.spans.page_over(b"a") is None, "nobody looks what a deleted span holds"


def test_what_is_long_is_not_kept() -> None:
    engine = MemoryEngine()
    write(engine, 10, {b"a%04d" % i: b"v" for i in range(FILL_ROWS_MAX + 1)})
    assert ask(engine, b"a", b"b", 20) is None
    assert ask(engine, b"a", b"b", 20, 5) is not None
    assert len(engine.spans) == 5


def test_only_so_many_places_are_remembered() -> None:
    cache = SpanCache()
    assert not cache.wants(b"first.")
    for i in range(ASKED_MAX):
        cache.wants(b"%d." % i)
    assert not cache.wants(b"first."), "forgotten"
    assert cache.wants(b"first!")


def test_an_engine_that_failed_answers_nothing() -> None:
    engine = MemoryEngine()
    write(engine, 10, {b"a": b"1"})
    ask(engine, b"a", b"c", 30)
    engine.fail("write", OSError())
    assert scan_cached(engine, b"a", b"c", 30, 9) is None
    with pytest.raises(StorageFailure):
        mvcc.scan(engine, b"a", b"c", 30)


def random_run(engine: StoreEngine, chance: random.Random, steps: int) -> None:
    clock = 10
    for _ in range(steps):
        kind = chance.randrange(12)
        clock += 1
        if kind < 4:
            # Also below what is there: a run that moves, a follower that catches up.
            ts = clock if chance.random() < 0.8 else chance.randrange(1, clock)
            values = (None, b"", b"\0", b"\0\0", b"\0v", b"v%d" % clock, b"w" * chance.choice((1, 40)))
            write(engine, ts, {key: chance.choice(values) for key in chance.sample(KEYS, chance.randrange(1, 6))})
        elif kind == 4:
            batch = engine.batch()
            for key in chance.sample(KEYS, 2):
                batch.delete(CF_DATA, version_key(key, chance.randrange(max(1, clock - 8), clock + 1)))
            engine.write(batch)
        elif kind == 5 and chance.random() < 0.2:
            lower, upper = sorted(chance.sample(KEYS, 2))
            batch = engine.batch()
            batch.delete_range(CF_DATA, version_key(lower, clock), upper)
            engine.write(batch)
        else:
            start, end = sorted(chance.sample(BORDERS, 2))
            ts = clock if chance.random() < 0.6 else chance.randrange(1, clock + 1)
            limit = chance.choice((KEYS_MAX, KEYS_MAX, 1, 2, 5))
            found = scan_cached(engine, start, end, ts, limit)
            if found is not None:
                assert found == mvcc.scan(engine, start, end, ts, False, limit), (start, end, ts, limit)
        engine.spans.check()


@pytest.mark.parametrize("seed", range(40))
def test_pages_answer_as_the_engine_does(seed: int) -> None:
    chance = random.Random(seed)
    engine = MemoryEngine()
    engine.spans = SpanCache(chance.choice((32 << 20, 2_000, 6_000)), chance.choice((256, 2, 5)))
    random_run(engine, chance, 400)
    assert engine.spans.fills > 0


def test_pages_answer_as_rocksdb_does(tmp_path: Path) -> None:
    engine = RocksEngine(str(tmp_path / "store"))
    engine.spans = SpanCache(6_000, 5)
    random_run(engine, random.Random(7), 600)
    engine.close()
