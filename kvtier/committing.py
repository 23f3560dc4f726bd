"""Evaluation of one-phase commits: a whole transaction, or writes outside one, in one engine batch.

    for every written key
        another holds its lock or an intent           Conflict
        newest version above read_ts                  WriteTooOld (first committer wins),
                                                      but READ COMMITTED goes above it
        commit_ts above the newest version and above every read by somebody else
    commit_ts must be below the deadline
    commit_ts above read_ts                           every Refresh must pass at commit_ts
    all versions at commit_ts, in one batch

The key's newest version is known without looking if the transaction holds its EXCLUSIVE lock
and read it: nobody could write since (``LockState.newest_ts``).  For the same reason such a read is
not refreshed.

Nothing is written before everything is decided: an error leaves no trace.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from typing import Any

from base.errors import ConditionFailed, FeatureNotSupported, TxnRetry, WriteTooOld
from base.hlc import TS_MAX
from kvtier import mvcc
from kvtier.change import Change
from kvtier.descriptors import KEY_MAX
from kvtier.messages import (
    Batch,
    ConditionalPut,
    Delete,
    DeleteSpan,
    EndTxn,
    Get,
    Isolation,
    Put,
    Refresh,
    Scan,
)
from kvtier.reading import Reader, check_refresh
from kvtier.state import StoreState
from kvtier.transactions import check_deadline
from kvtier.writing import Tally, conflict_over_span, newest_for_write, put_committed

Write = tuple["bytes | None", int]
"""(value, size of the newest committed value or -1)."""


class OnePhase:
    """Evaluation of one batch that commits by itself; see the module docstring."""

    __slots__ = (
        "_batch",
        "_commit_ts",
        "_end",
        "_is_first_committer",
        "_owner",
        "_read_ts",
        "_reader",
        "_spans",
        "_state",
        "_txn",
        "_writes",
    )

    def __init__(self, state: StoreState, batch: Batch, end: EndTxn | None) -> None:
        txn = batch.txn
        self._state = state
        self._batch = batch
        self._txn = txn
        self._end = end
        self._writes: dict[bytes, Write] = {}
        self._spans: list[tuple[bytes, bytes]] = []
        self._reader: Reader | None = None
        if txn is None:
            self._owner = b""
            self._read_ts = 0
            self._commit_ts = batch.ts or state.now()
            self._is_first_committer = False
        else:
            self._owner = txn.id
            self._read_ts = txn.read_ts
            self._commit_ts = txn.write_ts if txn.write_ts > txn.read_ts else txn.read_ts
            self._is_first_committer = txn.isolation != Isolation.READ_COMMITTED

    def evaluate(self) -> tuple[list[Any], Change]:
        """Returns the results and what is to be done."""
        state = self._state
        owner, read_ts, commit_ts = self._owner, self._read_ts, self._commit_ts
        is_first_committer = self._is_first_committer
        writes = self._writes
        lock_states = state.locks.states
        get_max = state.tscache.get_max
        ops = self._batch.ops
        results: list[Any] = [None] * len(ops)
        must_refresh = False
        for index, op in enumerate(ops):
            cls = op.__class__
            if cls is Put or cls is Delete:
                key: bytes = op.key  # type: ignore[union-attr]  # the class was tested
                lock = lock_states.get(key)
                if lock is not None and lock.newest_ts >= 0 and lock.exclusive == owner:
                    newest_ts = lock.newest_ts
                    newest_size = lock.newest_size
                else:
                    newest_ts, newest_size = newest_for_write(state, key, owner)
                if newest_ts > read_ts and is_first_committer:
                    raise WriteTooOld(key, newest_ts)
                if newest_ts >= commit_ts:
                    commit_ts = newest_ts + 1
                served_ts, reader = get_max(key)
                if served_ts >= commit_ts:
                    commit_ts = served_ts if reader and reader == owner else served_ts + 1
                writes[key] = (op.value if cls is Put else None, newest_size)  # type: ignore[union-attr]  # as above
            elif cls is Refresh:
                must_refresh = True
            elif cls is not EndTxn:
                self._commit_ts = commit_ts
                results[index] = self._evaluate_other(op)
                commit_ts = self._commit_ts
        self._commit_ts = commit_ts
        self._decide(must_refresh)
        return results, self._build()

    # --- one operation -------------------------------------------------------------

    def _evaluate_other(self, op: Any) -> Any:
        """Evaluates what is neither a plain write, nor a refresh, nor the end."""
        if isinstance(op, ConditionalPut):
            return self._write_conditionally(op)
        if isinstance(op, DeleteSpan):
            return self._delete_span(op)
        assert isinstance(op, Get | Scan), op
        return self._read(op)

    def _write_conditionally(self, op: ConditionalPut) -> None:
        """WriteTooOld goes before ConditionFailed (reliability 20)."""
        key = op.key
        state = self._state
        pending = self._pending(key)
        newest_ts, newest_size = newest_for_write(state, key, self._owner)
        if newest_ts > self._read_ts and self._is_first_committer:
            raise WriteTooOld(key, newest_ts)
        actual = mvcc.newest(state.engine, key, state.tombstones)[0] if pending is None else pending[0]
        if actual != op.expected:
            raise ConditionFailed(key, actual)
        self._commit_ts = max(self._commit_ts, newest_ts + 1 if newest_ts else 0)
        served_ts, reader = state.tscache.get_max(key)
        if served_ts >= self._commit_ts:
            self._commit_ts = served_ts if reader and reader == self._owner else served_ts + 1
        self._writes[key] = (op.value, newest_size)

    def _delete_span(self, op: DeleteSpan) -> None:
        """Decides a range tombstone; earlier writes of this batch inside it are gone."""
        state = self._state
        start, end = op.start, op.end or KEY_MAX
        if start >= end:
            return
        conflict_over_span(state, start, end, self._owner)
        if not self._is_first_committer:
            self._commit_ts = max(self._commit_ts, state.now())
        elif not op.is_held:
            newer = mvcc.find_conflict(state.engine, start, end, self._read_ts, TS_MAX, b"", state.tombstones)
            if newer is not None:
                raise WriteTooOld(newer[0], newer[1])
        read_ts, reader = state.tscache.get_max_span(start, end)
        if read_ts >= self._commit_ts:
            self._commit_ts = read_ts if reader and reader == self._owner else read_ts + 1
        for key in [key for key in self._writes if start <= key < end]:
            del self._writes[key]
        self._spans.append((start, end))

    def _pending(self, key: bytes) -> tuple[bytes | None] | None:
        """Returns what an earlier operation of this batch wrote to a key."""
        found = self._writes.get(key)
        if found is not None:
            return (found[0],)
        for start, end in self._spans:
            if start <= key < end:
                return (None,)
        return None

    def _read(self, op: Get | Scan) -> Any:
        """Reads in a batch that also writes; sees the writes before it."""
        if self._reader is None:
            ts = self._commit_ts if self._txn is None else self._read_ts
            self._reader = Reader(self._state, self._txn, ts, self._batch.keys_max, self._batch.bytes_max)
        if isinstance(op, Scan):
            if self._writes or self._spans:
                raise FeatureNotSupported("a scan after writes in one batch is not supported")
            return self._reader.read(op)
        pending = self._pending(op.key)
        return self._reader.read(op) if pending is None else pending[0]

    # --- all of it -----------------------------------------------------------------

    def _decide(self, must_refresh: bool) -> None:
        """Fixes the commit timestamp, or raises."""
        commit_ts = self._commit_ts
        if self._txn is None:
            return
        end = self._end
        assert end is not None, self._batch
        check_deadline(end, commit_ts)
        if commit_ts == self._read_ts:
            return
        if not end.can_forward:
            raise TxnRetry("the transaction cannot move its read timestamp", reason="cannot_forward")
        if must_refresh:
            for op in self._batch.ops:
                if isinstance(op, Refresh) and not self._has_kept(op):
                    check_refresh(self._state, self._owner, op, op.to_ts or commit_ts)
        # What was locked and not written was read, too, and nobody can check it again later.
        cache = self._state.tscache
        for key in self._state.locks.held_by(self._owner):
            if key not in self._writes:
                cache.add(key, commit_ts, self._owner)

    def _has_kept(self, op: Refresh) -> bool:
        """True for a key locked since it was read, whose newest version was not above the read: nobody could write it.

        ``_decide`` protects it from writes below the commit as all that was locked.
        """
        if not op.is_point:
            return False
        lock = self._state.locks.states.get(op.start)
        return lock is not None and lock.exclusive == self._owner and 0 <= lock.newest_ts <= op.from_ts

    def _build(self) -> Change:
        """Returns the engine batch and what follows from it."""
        state = self._state
        commit_ts = self._commit_ts
        change = Change(state.engine.batch())
        change.commit_ts = commit_ts
        batch = change.batch
        tally = Tally(state)
        if self._spans:
            for start, end in self._spans:
                mvcc.put_range_tombstone(batch, start, end, commit_ts)
            change.spans = self._spans
            tally.add_spans(self._spans)
        put_committed(state, batch, self._writes, commit_ts, tally)
        change.keys = list(self._writes)
        tally.finish(change)
        if self._txn is not None:
            change.release.append(self._owner)
        return change
