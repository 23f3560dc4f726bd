"""The log in the engine against a log in a list, with crashes that keep a prefix of the unsynced writes."""

from __future__ import annotations

import copy
import random

import pytest

from base.seams import CF_RAFT
from kvtier.engine.memory import MemoryEngine
from kvtier.raft import Entry, HardState, MemoryLog, Snapshot
from kvtier.raft.messages import ConfState
from kvtier.raft.ready import Mark, Ready
from kvtier.raft.storage import (
    EngineLog,
    begin,
    create,
    destroy,
    hard_state_of,
    may_create,
    replica_id_of,
    tombstone_of,
)
from tests.kvtier.raft.cluster import SeededRng

RANGE = 7


def nothing() -> Snapshot | None:
    return None


class Model:
    """What the log should hold after each batch."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        self.state = HardState()

    def copy(self) -> Model:
        other = Model()
        other.log.truncated_index, other.log.truncated_term = self.log.truncated_index, self.log.truncated_term
        other.log.stored = list(self.log.stored)
        other.state = copy.copy(self.state)
        return other

    def seen(self) -> list[object]:
        return [self.log.first_index(), self.log.last_index(), self.log.term(self.log.truncated_index), self.log.stored, self.state]  # fmt: skip


def seen(engine: MemoryEngine) -> list[object]:
    log = EngineLog(engine, RANGE, nothing)
    first, last = log.first_index(), log.last_index()
    entries = log.entries(first, last + 1, 1 << 30) if last >= first else []
    assert [entry.term for entry in entries] == [log.term(index) for index in range(first, last + 1)]
    return [first, last, log.term(first - 1), entries, log.hard_state()]


def drawn_ready(rng: random.Random, model: Model, number: int) -> Ready:
    """A Ready that cuts and grows the log somewhere."""
    ready = Ready(Mark(number, 0, 0, 0, 0, 0))
    log = model.log
    if rng.random() < 0.1:
        ready.snapshot = Snapshot(log.last_index() + rng.randrange(3) + 1, model.state.term, ConfState())
        log.install(ready.snapshot)
    if rng.random() < 0.8:
        first = rng.randint(max(log.first_index(), log.last_index() - 5), log.last_index() + 1)
        count = rng.choice([1, 1, 2, 5, 400])
        ready.entries = [Entry(number, first + i, rng.randbytes(rng.randrange(20))) for i in range(count)]
        log.append(ready.entries)
    if rng.random() < 0.5:
        model.state = ready.hard_state = HardState(number, rng.randrange(5), log.last_index(), 1, rng.randrange(3))
        ready.must_sync = True
    return ready


@pytest.mark.parametrize("seed", range(40))
def test_what_was_synced_survives_and_the_rest_is_a_prefix(seed: int) -> None:
    """Reliability 49: hard state and entries of one batch are there together or not at all."""
    rng = random.Random(seed)
    engine = MemoryEngine()
    model = Model()
    for life in range(4):
        log = EngineLog(engine, RANGE, nothing)
        history = [model.copy()]
        synced = 0
        for step in range(rng.randrange(1, 12)):
            batch = engine.batch()
            if rng.random() < 0.2 and model.log.last_index() > 0:
                index = rng.randint(model.log.truncated_index, model.log.last_index())
                model.log.truncate(index)
                log.truncate(batch, index)
            else:
                log.write(batch, drawn_ready(rng, model, life * 100 + step + 1))
            engine.write(batch)
            history.append(model.copy())
            assert seen(engine) == model.seen()
            if rng.random() < 0.3:
                engine.sync()
                synced = len(history) - 1
        engine = engine.crash(SeededRng(seed + life))
        found = seen(engine)
        alive = [i for i in range(synced, len(history)) if history[i].seen() == found]
        assert alive, f"{seed=} {life=}"
        model = history[alive[0]].copy()


def test_reads_are_cut_at_the_bytes_asked_for() -> None:
    engine = MemoryEngine()
    log = EngineLog(engine, RANGE, nothing)
    ready = Ready(Mark(1, 0, 0, 0, 0, 0))
    ready.entries = [Entry(1, index, b"x" * 84) for index in range(1, 6)]
    batch = engine.batch()
    log.write(batch, ready)
    engine.write(batch)
    assert [entry.index for entry in log.entries(1, 6, 300)] == [1, 2, 3]
    assert [entry.index for entry in log.entries(2, 6, 1)] == [2]
    assert log.term(0) == 0
    assert log.term(6) == -1


def test_a_removed_replica_does_not_come_back() -> None:
    """Reliability 61, 62: ids only grow, and the tombstone outlives the replica and a crash."""
    engine = MemoryEngine()
    batch = engine.batch()
    create(engine, batch, RANGE, 3)
    engine.write(batch)
    assert replica_id_of(engine, RANGE) == 3
    assert not may_create(engine, RANGE, 2)
    batch = engine.batch()
    destroy(batch, RANGE, 5)
    engine.write(batch)
    engine.sync()
    engine = engine.crash(SeededRng(1))
    assert [may_create(engine, RANGE, id) for id in (3, 4, 5)] == [False, False, True]
    assert (replica_id_of(engine, RANGE), tombstone_of(engine, RANGE)) == (0, 5)


def test_a_split_keeps_the_vote_that_was_given_before_it() -> None:
    """Reliability 65: messages for the right-hand side may arrive before the split is applied."""
    engine = MemoryEngine()
    log = EngineLog(engine, RANGE, nothing)
    ready = Ready(Mark(1, 0, 0, 0, 0, 0))
    ready.hard_state = HardState(12, 3)
    ready.must_sync = True
    batch = engine.batch()
    log.write(batch, ready)
    engine.write(batch)
    batch = engine.batch()
    begin(engine, batch, RANGE, 10, 5)
    engine.write(batch)
    assert hard_state_of(engine, RANGE) == HardState(12, 3, 10)
    log = EngineLog(engine, RANGE, nothing)
    assert (log.first_index(), log.last_index(), log.term(10)) == (11, 10, 5)


def test_ranges_do_not_see_each_other() -> None:
    engine = MemoryEngine()
    for range_id in (6, RANGE, 8):
        log = EngineLog(engine, range_id, nothing)
        ready = Ready(Mark(1, 0, 0, 0, 0, 0))
        ready.entries = [Entry(1, index, b"%d" % range_id) for index in range(1, range_id)]
        ready.hard_state = HardState(1, 0, 1)
        ready.must_sync = True
        batch = engine.batch()
        log.write(batch, ready)
        engine.write(batch)
    batch = engine.batch()
    destroy(batch, RANGE, 2)
    engine.write(batch)
    assert [EngineLog(engine, range_id, nothing).last_index() for range_id in (6, RANGE, 8)] == [5, 0, 7]
    assert [hard_state_of(engine, range_id).term for range_id in (6, RANGE, 8)] == [1, 0, 1]
    assert engine.get(CF_RAFT, b"\x00") is None


def test_what_is_committed_alone_is_not_written() -> None:
    """It comes with the next entries; after a crash what is applied, or the leader, tells of it (``RaftLog``)."""
    engine = MemoryEngine()
    log = EngineLog(engine, RANGE, lambda: None)
    ready = Ready(Mark(1, 0, 0, 0, 0, 0))
    ready.entries = [Entry(1, 1, b"a")]
    ready.hard_state = HardState(1, 2, 0)
    ready.must_sync = True
    batch = engine.batch()
    log.write(batch, ready)
    engine.write(batch)
    ready = Ready(Mark(2, 0, 0, 0, 0, 0))
    ready.hard_state = HardState(1, 2, 1)
    batch = engine.batch()
    log.write(batch, ready)
    engine.write(batch)
    assert log.hard_state() == HardState(1, 2, 0)
