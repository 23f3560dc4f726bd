"""Evaluation of reads: Get, Scan, Refresh.

A plain read at timestamp T, of a key or a span:

    another's intent at or below T (or in the uncertainty interval)   Conflict
    a version in the uncertainty interval                             Uncertain
    the newest version at or below T                                  the answer

and leaves T in the timestamp cache, for every isolation level: no later write may appear
under a served read.  Locks without an intent never stop a plain read.

A locking read takes the lock first, then answers the *newest* committed version; where that
is above the transaction's read timestamp it raises WriteTooOld, with the lock held, so the
transaction refreshes and comes back to a key nobody can take from it.  READ COMMITTED
takes the newest as it is.  A locking scan locks just the rows it returns.

The lock remembers the version it read, so the commit need not look again.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from typing import Any, Final

from base.errors import BelowGcThreshold, LockNotAvailable, ReadConflict, WriteTooOld
from base.hlc import TS_MAX
from kvtier import mvcc
from kvtier.change import Conflict
from kvtier.client import NOT_NOW
from kvtier.descriptors import KEY_MAX
from kvtier.locks import NONE
from kvtier.messages import (
    SKIPPED,
    Batch,
    Get,
    Isolation,
    Lock,
    Refresh,
    Reply,
    Scan,
    ScanResult,
    TxnMeta,
    Wait,
    prefix_end,
)
from kvtier.mvcc.cached import scan_cached
from kvtier.mvcc.intents import Missing
from kvtier.mvcc.reads import newest
from kvtier.runindex import Run
from kvtier.runs import find_conflict, own_row
from kvtier.state import StoreState
from kvtier.writing import stored_size

SKIP_PAGES_MAX: Final = 10_000
"""Pages a SKIP LOCKED scan reads to find enough rows that nobody holds."""
SKIP_PAGE_ROWS_MIN: Final = 16

Segment = tuple[bytes, bytes, "Run | None"]
"""[start, end) and the transaction's run there."""


def check_readable(state: StoreState, start: bytes, end: bytes, ts: int) -> None:
    """Raises BelowGcThreshold if versions that a read at ``ts`` needs may be gone."""
    for replica in state.ranges.over(start, end):
        if ts < replica.gc_threshold:
            raise BelowGcThreshold(ts, replica.gc_threshold)


def read_batch(state: StoreState, batch: Batch) -> Reply:
    """Evaluates a batch of nothing but reads."""
    txn = batch.txn
    if txn is None:
        ts = batch.ts or state.now()
    else:
        ts = txn.read_ts
        if state.poisoned:
            state.check_alive(txn)
    reader = Reader(state, txn, ts, batch.keys_max, batch.bytes_max)
    results = [reader.read(op) for op in batch.ops]
    return Reply(results, ts, 0, reader.unsynced)


def get_locked(state: StoreState, batch: Batch, txn: TxnMeta, op: Get) -> Reply:
    """Evaluates a batch of one locking Get."""
    value = lock_plainly(state, op.key, txn, op.lock)
    if value is NOT_NOW:
        return read_batch(state, batch)
    unsynced = state.unsynced_of(op.key) if state.unsynced or state.unsynced_span_seq else 0
    return Reply([value], txn.read_ts, 0, unsynced)


def lock_plainly(state: StoreState, key: bytes, txn: TxnMeta, strength: Lock) -> Any:
    """Locks and reads a key of a store without intents; NOT_NOW, with nothing done, if that is not so easy."""
    if state.intents or state.poisoned or not state.locks.acquire(key, txn.id, strength):
        return NOT_NOW
    value, version_ts = newest(state.engine, key, state.tombstones)
    if strength == Lock.EXCLUSIVE:
        lock = state.locks.states[key]
        lock.newest_ts = version_ts
        lock.newest_size = stored_size(value)
    ts = txn.read_ts
    if version_ts > ts:
        if txn.isolation != Isolation.READ_COMMITTED or version_ts > state.hlc.latest:
            raise WriteTooOld(key, version_ts)
        state.tscache.add(key, version_ts, txn.id)
    else:
        state.tscache.add(key, ts, txn.id)
    return value


def scan_plainly(state: StoreState, start: bytes, end: bytes, reverse: bool, limit: int, ts: int) -> mvcc.Rows:
    """Reads a span of a store without intents, from what is kept of it where that is all of it."""
    if not reverse and not state.tombstones.overlap(start, end):
        rows = scan_cached(state.engine, start, end, ts, limit)
        if rows is not None:
            return rows
    return mvcc.scan(state.engine, start, end, ts, reverse, limit, 0, state.tombstones)


class Reader:
    """One batch's reads: where they read, for whom, and what is left of the limits."""

    __slots__ = (
        "_bytes_left",
        "_has_bytes_limit",
        "_keys_left",
        "_owner",
        "_state",
        "_ts",
        "_txn",
        "_uncertain_to",
        "unsynced",
    )

    def __init__(self, state: StoreState, txn: TxnMeta | None, ts: int, keys_max: int, bytes_max: int) -> None:
        self._state = state
        self._txn = txn
        self._owner = b"" if txn is None else txn.id
        self._ts = ts
        self._uncertain_to = 0 if txn is None else txn.uncertainty_limit
        self.unsynced = 0
        """Engine sequence that must be durable before the results are told to anybody."""
        self._keys_left = keys_max
        self._bytes_left = bytes_max
        self._has_bytes_limit = bytes_max > 0

    def read(self, op: Any) -> Any:
        """Evaluates one operation."""
        cls = op.__class__
        if cls is Get:
            return self._get_locking(op) if op.lock else self.get(op.key)
        if cls is Scan:
            return self._scan(op)
        assert cls is Refresh, op
        check_refresh(self._state, self._owner, op, op.to_ts or self._ts)
        return None

    # --- one key ------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        """Reads one key without locking it."""
        state = self._state
        ts = self._ts
        if ts <= state.gc_high:
            check_readable(state, key, prefix_end(key), ts)
        intents = state.intents
        if intents.points or intents.spans or intents.runs.starts:
            value = self._get_beside_intents(key)
        elif self._uncertain_to > ts:
            value = mvcc.get(state.engine, key, ts, state.tombstones, self._uncertain_to)[0]
        else:
            value = mvcc.get_value(state.engine, key, ts, state.tombstones)
        state.tscache.add(key, ts, self._owner)
        if state.unsynced or state.unsynced_span_seq:
            self._depend_on(state.unsynced_of(key))
        return value

    def _depend_on(self, seq: int) -> None:
        if seq > self.unsynced:
            self.unsynced = seq

    def _get_beside_intents(self, key: bytes) -> bytes | None:
        """Reads a key of a store that has intents: another's stops us, our own is what we see."""
        state = self._state
        horizon = max(self._ts, self._uncertain_to)
        other = state.intents.other_at(key, self._owner)
        if other is not None and other.write_ts <= horizon:
            raise Conflict(key, NONE, other, horizon)
        if self._txn is not None:
            own = own_write(state, key, self._txn)
            if not isinstance(own, Missing):
                return own
        return mvcc.get(state.engine, key, self._ts, state.tombstones, self._uncertain_to)[0]

    def _get_locking(self, op: Get) -> Any:
        """Locks a key, then reads its newest version."""
        state = self._state
        txn = self._txn
        assert txn is not None, "a lock needs a transaction"
        key = op.key
        if not self._lock(key, op.lock, op.wait):
            return SKIPPED
        if state.intents:
            own = own_write(state, key, txn)
            if not isinstance(own, Missing):
                return own
        value, version_ts = newest(state.engine, key, state.tombstones)
        self._note_newest(key, value, version_ts)
        if version_ts > self._ts and (txn.isolation != Isolation.READ_COMMITTED or version_ts > state.hlc.latest):
            # (What is ahead of the clock is not to be seen yet, whatever the isolation level.)
            raise WriteTooOld(key, version_ts)
        state.tscache.add(key, max(self._ts, version_ts), self._owner)
        self._depend_on(state.unsynced_of(key))
        return value

    def _note_newest(self, key: bytes, value: bytes | None, version_ts: int) -> None:
        """Leaves with the lock what the commit wants to know of the key."""
        lock = self._state.locks.states[key]
        if lock.exclusive == self._owner:
            lock.newest_ts = version_ts
            lock.newest_size = stored_size(value)

    def _lock(self, key: bytes, strength: Lock, wait: Wait) -> bool:
        """Takes a lock; False if it is to be skipped."""
        state = self._state
        intent = state.intents.other_at(key, self._owner) if state.intents else None
        if intent is None and state.locks.acquire(key, self._owner, strength):
            return True
        if wait == Wait.SKIP:
            return False
        if wait == Wait.NOWAIT:
            raise LockNotAvailable("could not obtain lock on row")
        raise Conflict(key, int(strength), intent)

    # --- spans --------------------------------------------------------------------

    def _limit(self, op: Scan) -> int:
        """Returns how many rows a scan may still return; 0 is none."""
        if self._has_bytes_limit and self._bytes_left <= 0:
            return 0
        return min(op.limit, self._keys_left) if op.limit else self._keys_left

    def _spend(self, keys: list[bytes], values: list[bytes]) -> None:
        self._keys_left -= len(keys)
        if self._has_bytes_limit:
            self._bytes_left -= sum([len(key) for key in keys]) + sum([len(value) for value in values])

    def _scan(self, op: Scan) -> ScanResult:
        end = op.end or KEY_MAX
        if op.start >= end:
            return ScanResult([], [], None)
        limit = self._limit(op)
        if limit <= 0:
            return ScanResult([], [], end if op.reverse else op.start)
        if self._ts <= self._state.gc_high and not op.lock:
            check_readable(self._state, op.start, end, self._ts)
        if op.lock:
            return self._scan_locking(op, end, limit)
        rows = self._rows(op.start, end, self._ts, op, limit, self._uncertain_to, False)
        result = ScanResult(rows[0], rows[1], rows[2])
        lower, upper = scanned_span(op.start, end, op.reverse, result.resume)
        intents = self._state.intents
        if intents.points or intents.spans or intents.runs.starts:
            horizon = max(self._ts, self._uncertain_to)
            others = intents.others_in(lower, upper, self._owner, horizon)
            if others:
                raise Conflict(others[0][0], NONE, others[0][1], horizon)
        self._finish_scan(lower, upper, result, self._ts)
        return result

    def _finish_scan(self, lower: bytes, upper: bytes, result: ScanResult, ts: int) -> None:
        """Protects what was read, and takes it off the limits."""
        state = self._state
        state.tscache.add_span(lower, upper, ts, self._owner)
        self._spend(result.keys, result.values)
        self._depend_on(state.unsynced_over(lower, upper))

    def _rows(
        self, start: bytes, end: bytes, ts: int, op: Scan, limit: int, uncertain_to: int, exact: bool
    ) -> mvcc.Rows:
        """Scans versions, with the transaction's own intents in their places.

        ``exact`` raises WriteTooOld where the newest is not what ``ts`` sees.
        """
        state = self._state
        txn = self._txn
        budget = max(self._bytes_left, 1) if self._has_bytes_limit else 0
        if txn is not None and state.intents and state.intents.has_any_of(txn.id):
            runs = state.intents.runs.own_over(start, end, txn.id)
            if runs:
                return self._rows_with_runs(txn, _segments(start, end, runs, op.reverse), ts, op, limit, budget, exact)
            own, own_deleted = own_writes(state, start, end, txn)
            if own or own_deleted:
                return mvcc.scan_own(
                    state.engine,
                    start,
                    end,
                    ts,
                    own,
                    own_deleted,
                    op.reverse,
                    limit,
                    budget,
                    state.tombstones,
                    uncertain_to,
                    exact,
                )
        return mvcc.scan(state.engine, start, end, ts, op.reverse, limit, budget, state.tombstones, uncertain_to, exact)

    def _rows_with_runs(
        self, txn: TxnMeta, segments: list[Segment], ts: int, op: Scan, limit: int, budget: int, exact: bool
    ) -> mvcc.Rows:
        """Scans a span piece by piece: the transaction's runs at their timestamps, the rest at ``ts``."""
        keys: list[bytes] = []
        values: list[bytes] = []
        size = 0
        for place, (start, end, run) in enumerate(segments):
            if run is None or run.is_visible_to(txn):
                left = max(budget - size, 1) if budget else 0
                part = self._segment_rows(txn, start, end, run, ts, op.reverse, limit - len(keys), left, exact)
                keys += part[0]
                values += part[1]
                if part[2] is not None:
                    return keys, values, part[2]
                if budget:
                    size += sum([len(key) for key in part[0]]) + sum([len(value) for value in part[1]])
            if len(keys) >= limit or (budget and size >= budget):
                is_last = place == len(segments) - 1
                return keys, values, None if is_last else start if op.reverse else end
        return keys, values, None

    def _segment_rows(
        self,
        txn: TxnMeta,
        start: bytes,
        end: bytes,
        run: Run | None,
        ts: int,
        reverse: bool,
        limit: int,
        budget: int,
        exact: bool,
    ) -> mvcc.Rows:
        state = self._state
        own, own_deleted = own_writes(state, start, end, txn)
        if run is not None:
            # What is deleted before the run does not concern it, and nothing in it can be newer.
            since = [span for span in state.intents.own_spans(txn) if span.seq > run.seq]
            own_deleted = [(span.start, span.end) for span in since]
            ts, exact = run.top_ts, False
        uncertain_to = 0 if exact or run is not None else self._uncertain_to
        if not (own or own_deleted):
            return mvcc.scan(
                state.engine, start, end, ts, reverse, limit, budget, state.tombstones, uncertain_to, exact
            )
        return mvcc.scan_own(
            state.engine,
            start,
            end,
            ts,
            own,
            own_deleted,
            reverse,
            limit,
            budget,
            state.tombstones,
            uncertain_to,
            exact,
        )

    def _scan_locking(self, op: Scan, end: bytes, limit: int) -> ScanResult:
        """Locks the rows a scan returns; rows it may not wait for are left out.

        Where something is newer than the read timestamp, the newest rows are locked all the same,
        and WriteTooOld comes after.
        """
        txn = self._txn
        assert txn is not None, "a lock needs a transaction"
        result = ScanResult([], [], None)
        start = op.start
        is_newest = True
        for _ in range(SKIP_PAGES_MAX):
            wanted = limit - len(result.keys)
            if op.wait == Wait.SKIP:
                wanted = max(wanted, SKIP_PAGE_ROWS_MIN)
            try:
                rows = self._rows(start, end, self._ts, op, wanted, 0, True)
            except WriteTooOld:
                is_newest = False
                rows = self._rows(start, end, TS_MAX, op, wanted, 0, False)
            rest = self._take_rows(op, rows, limit, result)
            if rest is None or len(result.keys) >= limit:
                result.resume = rest
                break
            if op.reverse:
                end = rest
            else:
                start = rest
        else:
            result.resume = end if op.reverse else start
        lower, upper = scanned_span(op.start, op.end or KEY_MAX, op.reverse, result.resume)
        if op.wait != Wait.SKIP and self._state.intents:
            # A row whose first version is still an intent has not been met above.
            others = self._state.intents.others_in(lower, upper, self._owner, self._ts)
            if others and op.wait == Wait.NOWAIT:
                raise LockNotAvailable("could not obtain lock on row")
            if others:
                raise Conflict(others[0][0], NONE, others[0][1], self._ts)
        newest = 0 if is_newest else self._check_newest(txn, lower, upper)
        self._finish_scan(lower, upper, result, max(self._ts, newest))
        return result

    def _take_rows(self, op: Scan, rows: mvcc.Rows, limit: int, result: ScanResult) -> bytes | None:
        """Locks and takes rows of a page up to the limit; returns where the rest begins."""
        keys, values, resume = rows
        for index, key in enumerate(keys):
            if len(result.keys) >= limit:
                return keys[index - 1] if op.reverse else prefix_end(keys[index - 1])
            if self._lock(key, op.lock, op.wait):
                result.keys.append(key)
                result.values.append(values[index])
        return resume

    def _check_newest(self, txn: TxnMeta, lower: bytes, upper: bytes) -> int:
        """Raises WriteTooOld if the span changed after the read timestamp; returns its last change if that is allowed."""
        state = self._state
        conflict = find_conflict(state, self._owner, lower, upper, self._ts, TS_MAX, b"")
        if conflict is None:
            return 0
        if txn.isolation != Isolation.READ_COMMITTED:
            raise WriteTooOld(conflict[0], conflict[1])
        ahead = find_conflict(state, self._owner, lower, upper, state.hlc.latest, TS_MAX, b"")
        if ahead is not None:
            raise WriteTooOld(ahead[0], ahead[1])
        return state.hlc.latest


def own_write(state: StoreState, key: bytes, txn: TxnMeta) -> bytes | Missing | None:
    """Returns what a transaction has written to a key, as an intent."""
    noted = state.intents.points.get(key)
    if noted is not None and noted.txn.id == txn.id:
        intent = mvcc.get_intent(state.engine, key)
        assert intent is not None, key
        own = mvcc.own_value(intent, txn)
        if own is not mvcc.MISSING:
            return own
    deleted_seq = 0
    for span in state.intents.own_spans(txn):
        if span.start <= key < span.end and span.seq > deleted_seq:
            deleted_seq = span.seq
    if state.intents.runs.starts:
        row = own_row(state, key, txn, deleted_seq)
        if row is not None:
            return row[0]
    return None if deleted_seq else mvcc.MISSING


def own_writes(
    state: StoreState, start: bytes, end: bytes, txn: TxnMeta
) -> tuple[dict[bytes, bytes | None], list[tuple[bytes, bytes]]]:
    """Returns a transaction's visible intents in [start, end), and the spans it deleted."""
    own: dict[bytes, bytes | None] = {}
    for key in state.intents.keys_in(start, end):
        value = own_write(state, key, txn)
        if not isinstance(value, Missing):
            own[key] = value
    return own, [(span.start, span.end) for span in state.intents.own_spans(txn)]


def _segments(start: bytes, end: bytes, runs: list[Run], reverse: bool) -> list[Segment]:
    """Cuts a span where the transaction's runs begin and end, in the order of the scan."""
    segments: list[Segment] = []
    at = start
    for run in runs:
        if at < run.start:
            segments.append((at, run.start, None))
            at = run.start
        border = min(run.end, end)
        segments.append((at, border, run))
        at = border
    if at < end:
        segments.append((at, end, None))
    if reverse:
        segments.reverse()
    return segments


def scanned_span(start: bytes, end: bytes, reverse: bool, resume: bytes | None) -> tuple[bytes, bytes]:
    """Returns the part of [start, end) that a scan has really read."""
    if resume is None:
        return start, end
    return (resume, end) if reverse else (start, resume)


def check_refresh(state: StoreState, owner: bytes, op: Refresh, to_ts: int) -> None:
    """Raises ReadConflict unless the span reads at ``to_ts`` as it did; then it counts as read there."""
    end = op.end or KEY_MAX
    if op.start >= end or to_ts <= op.from_ts:
        return
    if op.from_ts <= state.gc_high:
        check_readable(state, op.start, end, op.from_ts)
    intents = state.intents
    if intents.points or intents.spans or intents.runs.starts:
        others = intents.others_in(op.start, end, owner, to_ts)
        if others:
            raise Conflict(others[0][0], NONE, others[0][1], to_ts)
    conflict = find_conflict(state, owner, op.start, end, op.from_ts, to_ts, op.projection)
    if conflict is not None:
        raise ReadConflict(conflict[0], conflict[1])
    if op.is_held:
        return
    if op.is_point:
        state.tscache.add(op.start, to_ts, owner)
    else:
        state.tscache.add_span(op.start, end, to_ts, owner)
