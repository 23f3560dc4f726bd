"""What an engine knows of its latest writes, against a list of all of them."""

from __future__ import annotations

import random

import pytest

from base.hlc import TS_MAX
from base.seams import CF_DATA, CF_LOCAL
from kvtier.engine.batch import OpBatch
from kvtier.engine.memory import MemoryEngine
from kvtier.engine.recent import ASKED_MAX, RecentWrites
from kvtier.mvcc.versions import put_version, version_key

KEYS = [bytes((letter, digit)) for letter in b"abc" for digit in b"012"]


def batch_of(*versions: tuple[bytes, int]) -> OpBatch:
    batch = OpBatch()
    for key, ts in versions:
        put_version(batch, key, ts, b"v")
    return batch


def test_nothing_is_known_before_a_store_opens() -> None:
    recent = RecentWrites()
    assert recent.may_have(b"a", b"b", TS_MAX - 1)
    recent.open(100, 0)
    assert not recent.may_have(b"a", b"b", 100)
    assert recent.may_have(b"a", b"b", 99)
    recent.open(100, 5)
    assert recent.may_have(b"a", b"b", 100 + (5 << 12) - 1)
    assert not recent.may_have(b"a", b"b", 100 + (5 << 12))


def test_engines_note_their_versions_and_nothing_else() -> None:
    engine = MemoryEngine()
    engine.recent.open(10, 0)
    batch = engine.batch()
    batch.put(CF_LOCAL, version_key(b"k", 20), b"")
    batch.delete(CF_DATA, version_key(b"k", 20))
    engine.write(batch)
    assert not engine.recent.may_have(b"", b"", 10)
    engine.write(batch_of((b"k", 20)))
    assert engine.recent.may_have(b"", b"", 10)
    assert engine.recent.may_have(b"k", b"l", 19)
    assert not engine.recent.may_have(b"k", b"l", 20)
    assert not engine.recent.may_have(b"l", b"", 10)


def test_many_changes_are_not_gathered() -> None:
    recent = RecentWrites()
    recent.open(10, 0)
    for i in range(ASKED_MAX + 1):
        recent.note(batch_of((b"k%d" % i, 20)).ops)
    assert recent.may_have(b"a", b"b", 10), "perhaps"
    assert not recent.may_have(b"a", b"b", 20)


@pytest.mark.parametrize("seed", range(30))
def test_no_change_is_overlooked(seed: int) -> None:
    """And what is above every timestamp that was dropped is known exactly, if batches come in order."""
    chance = random.Random(seed)
    recent = RecentWrites(chance.choice((0, 3, 10, 8192)))
    recent.open(5, 0)
    written: list[tuple[bytes, int]] = []
    clock = 5
    in_order = chance.random() < 0.5
    for _ in range(60):
        clock += 1
        ts = clock if in_order else max(6, clock - chance.randrange(8))
        batch = [(key, ts) for key in chance.sample(KEYS, chance.randrange(3))]
        recent.note(batch_of(*batch).ops)
        written += batch
        for _ in range(3):
            start, end = sorted((chance.choice(KEYS), chance.choice([*KEYS, b"d"])))
            asked = chance.randrange(clock + 2)
            changed = any(start <= key < end and version > asked for key, version in written)
            found = recent.may_have(start, end, asked)
            assert found or not changed
            if in_order and asked >= recent.floor:
                assert found == changed
