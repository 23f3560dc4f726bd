"""Newest versions that are kept, against all versions of all keys."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from base.errors import StorageFailure
from kvtier import mvcc
from kvtier.engine import MemoryEngine, RocksEngine, StoreEngine
from kvtier.engine.newest import VALUE_BYTES_MAX, NewestVersions
from kvtier.mvcc.versions import suffix_of
from tests.kvtier.mvcc_model import BORDERS, KEYS, VALUES, World


@pytest.fixture(params=["memory", "rocks"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> StoreEngine:
    return MemoryEngine() if request.param == "memory" else RocksEngine(str(tmp_path / "store"), 8 << 20)


@pytest.mark.parametrize("seed", range(40))
def test_what_is_kept_is_the_newest(seed: int) -> None:
    chance = random.Random(seed)
    newest = NewestVersions(chance.choice((1, 2, 5, 100)))
    versions: dict[bytes, dict[bytes, bytes]] = {}
    found = 0
    for step in range(400):
        key = b"k%d" % chance.randrange(8)
        held = versions.setdefault(key, {})
        draw = chance.random()
        if draw < 0.5:
            # Timestamps in no order: intents are resolved, and runs written, below what is there.
            suffix = suffix_of(chance.randrange(1, 60))
            held[suffix] = b"x" * (VALUE_BYTES_MAX + 1) if chance.random() < 0.1 else b"%d" % step
            newest.put(key, suffix, held[suffix])
        elif draw < 0.6 and held:
            del held[chance.choice(sorted(held))]
            newest.forget(key)
        elif draw < 0.62:
            newest.clear()
        elif held:
            newest.note(key, min(held), held[min(held)])
        for other, at in versions.items():
            entry = newest.find(other)
            assert entry is None or entry == (min(at), at[min(at)])
            found += entry is not None
    assert found or newest._keys_max == 1


def test_two_generations_are_the_bound() -> None:
    newest = NewestVersions(3)
    for i in range(10):
        newest.note(b"%d" % i, suffix_of(1), b"v")
        newest.put(b"0", suffix_of(i + 2), b"w")
        assert len(newest) <= 6
    assert newest.find(b"0") == (suffix_of(11), b"w"), "what is written again and again stays"
    assert newest.find(b"1") is None


@pytest.mark.parametrize("seed", range(8))
def test_engines_keep_it_so(engine: StoreEngine, seed: int) -> None:
    """Reads that leave versions behind, between writes, deletions and collected garbage, read what the model does."""
    chance = random.Random(seed)
    world = World(engine)
    engine.recent.newest = NewestVersions(chance.choice((2, 24)))
    for ts in range(10, 150):
        draw = chance.random()
        if draw < 0.1:
            start, end = sorted(chance.sample(BORDERS, 2))
            world.commit(ts, (start, end, "delete"))
        elif draw < 0.2:
            key = chance.choice(KEYS)
            history = world.model.versions.get(key)
            if history:
                gone = chance.choice(sorted(history))
                del history[gone]
                batch = engine.batch()
                batch.delete(0, mvcc.version_key(key, gone))
                world.write(batch)
        elif draw < 0.25:
            key = chance.choice(KEYS)
            world.model.versions.pop(key, None)
            batch = engine.batch()
            batch.delete_range(0, key, key + b"\xff" * 9)
            world.write(batch)
        else:
            # Behind the newest one, too, as what is resolved late.
            world.commit(ts - chance.choice((0, 0, 9)), (chance.choice(KEYS), chance.choice(VALUES)))
        for key in chance.sample(KEYS, 6):
            assert mvcc.newest(engine, key, world.tombstones) == world.model.at(key, ts)
            at = chance.randrange(1, ts + 1)
            assert mvcc.get_value(engine, key, at, world.tombstones) == world.model.at(key, at)[0]
    engine.close()


def test_nothing_is_read_from_an_engine_that_failed(engine: StoreEngine) -> None:
    World(engine).commit(10, (b"k", b"v"))
    assert mvcc.newest(engine, b"k") == (b"v", 10)
    engine.fail("sync", OSError("broken"))
    with pytest.raises(StorageFailure):
        mvcc.newest(engine, b"k")
    with pytest.raises(StorageFailure):
        mvcc.get_value(engine, b"k", 20)
    engine.close()
