"""A replica's log in the engine's raft family.

    | range 8B | index 8B |                  an entry                     index >= 1, top bit 0
    | range 8B | FF x 8 | 01 |               hard state, one record       (reliability 49)
    | range 8B | FF x 8 | 02 |               truncated state (index, term)
    | range 8B | FF x 8 | 03 |               replica id                   written when the replica is made
    | range 8B | FF x 8 | 04 |               tombstone: the least replica id that may come here again

Everything is read by its exact key, never by a seek across what was truncated: the
deleted entries of a long life lie before the first one, and a seek would wade through
them.  Only opening seeks, once and from behind, for the last entry.

Writes go into a batch of the caller, which belongs to the same tick: the log, what is
applied, and the state machine change together or not at all.  A batch that the engine
would not take (``Overloaded``) is written again before anything else is put into one.

Replica ids only grow.  A message for an id below the tombstone, or below the id that is
here, is for a replica that was removed; taking it would bring back one that has
forgotten its votes (reliability 61, 62).

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from base.seams import CF_RAFT, Engine, WriteBatch
from kvtier.raft.logstorage import ENTRY_OVERHEAD, LogStorage
from kvtier.raft.messages import (
    Entry,
    HardState,
    Snapshot,
    Truncated,
    decode_entry,
    decode_hard_state,
    decode_term,
    decode_truncated,
    encode,
)
from kvtier.raft.ready import Ready

STATE: Final = b"\xff\xff\xff\xff\xff\xff\xff\xff\x01"
TRUNCATED: Final = b"\xff\xff\xff\xff\xff\xff\xff\xff\x02"
REPLICA: Final = b"\xff\xff\xff\xff\xff\xff\xff\xff\x03"
TOMBSTONE: Final = b"\xff\xff\xff\xff\xff\xff\xff\xff\x04"
FIRST_STATE: Final = b"\xff\xff\xff\xff\xff\xff\xff\xff\x00"
"""Between the entries and the rest."""

DELETES_MAX: Final = 256
"""Entries deleted one by one; more are deleted as a range, which costs every later read a little."""


def prefix_of(range_id: int) -> bytes:
    return range_id.to_bytes(8, "big")


class EngineLog(LogStorage):
    """The stored log of one range's replica.

    Invariant: entries (truncated index, last index] are in the engine, and none outside.
    """

    def __init__(self, engine: Engine, range_id: int, snapshots: Callable[[], Snapshot | None]) -> None:
        """``snapshots`` gives what ``snapshot()`` answers."""
        self.range_id = range_id
        self._engine = engine
        self._prefix = prefix_of(range_id)
        self._snapshots = snapshots
        found = engine.get(CF_RAFT, self._prefix + TRUNCATED)
        truncated = Truncated() if found is None else decode_truncated(found)
        self._truncated_index: int = truncated.index
        self._truncated_term: int = truncated.term
        self._last = self._find_last()

    def _find_last(self) -> int:
        lower = self._key(self._truncated_index + 1)
        iterator = self._engine.iterator(CF_RAFT, lower, self._prefix + FIRST_STATE)
        iterator.seek_for_prev(self._prefix + FIRST_STATE)
        last = self._truncated_index
        if iterator.valid():
            last = int.from_bytes(iterator.key()[8:], "big")
        iterator.check()
        iterator.close()
        return last

    def _key(self, index: int) -> bytes:
        return self._prefix + index.to_bytes(8, "big")

    # --- reading -------------------------------------------------------------------

    def first_index(self) -> int:
        return self._truncated_index + 1

    def last_index(self) -> int:
        return self._last

    def term(self, index: int) -> int:
        if index == self._truncated_index:
            return self._truncated_term
        if index < self._truncated_index or index > self._last:
            return -1
        return decode_term(self._stored(index))

    def _stored(self, index: int) -> bytes:
        stored = self._engine.get(CF_RAFT, self._key(index))
        assert stored is not None, f"{self.range_id=} {index=} {self._truncated_index=} {self._last=}"
        return stored

    def entries(self, lower: int, upper: int, bytes_max: int) -> list[Entry]:
        assert lower > self._truncated_index, f"{lower=} {self._truncated_index=}"
        assert upper - 1 <= self._last, f"{upper=} {self._last=}"
        found: list[Entry] = []
        size = 0
        for index in range(lower, upper):
            entry = decode_entry(self._stored(index))
            size += len(entry.data) + ENTRY_OVERHEAD
            if size > bytes_max and found:
                break
            found.append(entry)
        return found

    def snapshot(self) -> Snapshot | None:
        return self._snapshots()

    def hard_state(self) -> HardState:
        """The hard state last written; the zero one for a replica that never wrote any."""
        return hard_state_of(self._engine, self.range_id)

    # --- writing ---------------------------------------------------------------------

    def write(self, batch: WriteBatch, ready: Ready) -> None:
        """Puts what a Ready asks to persist into the batch, the snapshot's bulk data excepted."""
        if ready.snapshot is not None:
            self.install(batch, ready.snapshot)
        if ready.entries:
            self._append(batch, ready.entries)
        if ready.hard_state is not None and ready.must_sync:
            # Alone, what is committed is not worth a write: nobody was promised it, and what is applied tells most of it.
            batch.put(CF_RAFT, self._prefix + STATE, encode(ready.hard_state))

    def _append(self, batch: WriteBatch, entries: list[Entry]) -> None:
        first = entries[0].index
        last = entries[-1].index
        assert self._truncated_index < first <= self._last + 1, f"{first=} {self._truncated_index=} {self._last=}"
        for entry in entries:
            batch.put(CF_RAFT, self._key(entry.index), encode(entry))
        self._delete(batch, last + 1, self._last + 1)
        self._last = last

    def install(self, batch: WriteBatch, snapshot: Snapshot) -> None:
        """Voids the log: it goes on behind the snapshot."""
        self._delete(batch, self._truncated_index + 1, self._last + 1)
        self._set_truncated(batch, snapshot.index, snapshot.term)
        self._last = snapshot.index

    def truncate(self, batch: WriteBatch, index: int) -> None:
        """Forgets the entries up to ``index``, which must be applied and durable as applied."""
        if index <= self._truncated_index:
            return
        assert index <= self._last, f"{index=} {self._last=}"
        term = self.term(index)
        self._delete(batch, self._truncated_index + 1, index + 1)
        self._set_truncated(batch, index, term)

    def _set_truncated(self, batch: WriteBatch, index: int, term: int) -> None:
        batch.put(CF_RAFT, self._prefix + TRUNCATED, encode(Truncated(index, term)))
        self._truncated_index = index
        self._truncated_term = term

    def _delete(self, batch: WriteBatch, lower: int, upper: int) -> None:
        if upper - lower > DELETES_MAX:
            batch.delete_range(CF_RAFT, self._key(lower), self._key(upper))
            return
        for index in range(lower, upper):
            batch.delete(CF_RAFT, self._key(index))


# --- replicas come and go -----------------------------------------------------------


def hard_state_of(engine: Engine, range_id: int) -> HardState:
    """The hard state last written for a range, by whichever replica is here."""
    found = engine.get(CF_RAFT, prefix_of(range_id) + STATE)
    return HardState() if found is None else decode_hard_state(found)


def replica_id_of(engine: Engine, range_id: int) -> int:
    """The id of the replica that is here; 0: none."""
    return _number(engine.get(CF_RAFT, prefix_of(range_id) + REPLICA))


def tombstone_of(engine: Engine, range_id: int) -> int:
    """The least replica id of the range that may be made here; 0: any."""
    return _number(engine.get(CF_RAFT, prefix_of(range_id) + TOMBSTONE))


def _number(stored: bytes | None) -> int:
    return 0 if stored is None else int.from_bytes(stored, "big")


def may_create(engine: Engine, range_id: int, replica_id: int) -> bool:
    """False for a replica that was removed from here, or is older than the one here."""
    return replica_id >= max(tombstone_of(engine, range_id), replica_id_of(engine, range_id), 1)


def create(engine: Engine, batch: WriteBatch, range_id: int, replica_id: int) -> None:
    """Writes down that a replica is here, before it votes for the first time."""
    assert may_create(engine, range_id, replica_id), f"{range_id=} {replica_id=}"
    batch.put(CF_RAFT, prefix_of(range_id) + REPLICA, replica_id.to_bytes(8, "big"))


def begin(engine: Engine, batch: WriteBatch, range_id: int, index: int, term: int) -> HardState:
    """Begins the log of a range whose state came otherwise than by this log: a bootstrap, a split.

    What an uninitialised replica has promised here already, its term and vote, stays
    (reliability 65).  Returns the hard state that is written.
    """
    state = hard_state_of(engine, range_id)
    if term > state.term:
        state = HardState(term)
    state = HardState(state.term, state.vote, max(state.commit, index), state.lead, state.lead_epoch)
    prefix = prefix_of(range_id)
    batch.put(CF_RAFT, prefix + STATE, encode(state))
    batch.put(CF_RAFT, prefix + TRUNCATED, encode(Truncated(index, term)))
    return state


def destroy(batch: WriteBatch, range_id: int, next_replica_id: int) -> None:
    """Removes a replica's log and state; only ids from ``next_replica_id`` on may come here again."""
    prefix = prefix_of(range_id)
    batch.delete_range(CF_RAFT, prefix, prefix + TOMBSTONE)
    batch.put(CF_RAFT, prefix + TOMBSTONE, next_replica_id.to_bytes(8, "big"))
