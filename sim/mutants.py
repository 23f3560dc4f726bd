"""Historical bugs that can be switched on by name; the simulator must find each (reliability 3.3).

A mutant is a function that puts wrong versions of a few functions in place of the right ones;
``mutated`` takes them out again.  This is the one place of the project that replaces code at run
time, and it works on the pure build only: compiled callers do not see it.

They are bugs others had, or that we could have made: the number is the trap in reliability.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import kvtier.committing
import kvtier.dispatch
import kvtier.reading
import kvtier.runs
import kvtier.store
import kvtier.tscache
from base.errors import AmbiguousResult, MeridianError, TxnRetry
from kvtier import mvcc
from kvtier.change import Change
from kvtier.cleanup import Cleanup
from kvtier.commit_group import CommitGroup
from kvtier.committing import OnePhase
from kvtier.engine.recent import RecentWrites
from kvtier.intents import IntentIndex
from kvtier.locks import LockTable
from kvtier.messages import Batch, Delete, Put, ResolveIntents, TxnStatus, Wait
from kvtier.records import Finished, TxnRecord
from kvtier.state import StoreState
from kvtier.store import Store
from kvtier.transactions import drop_record
from kvtier.tscache import TimestampCache
from sql.calls import CallPath
from txn.attempt import COMMITTED
from txn.buffer import WriteBuffer
from txn.commit import Committer
from txn.coordinator import Transaction
from txn.point import PointReader
from txn.spans import ReadSpans

Replacement = tuple[Any, str, Any]
"""(module or class, attribute, what to put there)."""
Mutant = Callable[[], list[Replacement]]

MUTANTS: Final[dict[str, Mutant]] = {}
HOMES: Final[dict[str, tuple[str, ...]]] = {
    "cache-forgets-all": ("spans", "set"),
    "cache-low-water-off": ("predicates", "set"),
    "split-loses-cache": ("set",),
    "tie-keeps-owner": ("registers",),
    "refresh-skipped": ("predicates", "sql-ddl"),
    "refresh-without-spans": ("predicates", "sql-ddl"),
    "refresh-leaves-no-trace": ("registers", "set"),
    "prefix-is-a-point": ("set",),
    "first-committer-loses": ("bank", "sql-bank"),
    "acknowledged-before-sync": ("set", "savepoints"),
    "unsynced-reads-told": ("set", "registers", "sql-sequence"),
    "failed-sync-tried-again": ("set", "queue"),
    "clock-bound-not-kept": ("spans", "bank"),
    "lock-released-before-apply": ("bank", "sql-bank"),
    "skip-locked-takes-locked": ("queue",),
    "locks-do-not-exclude": ("bank", "sql-bank"),
    "resolution-is-a-no-op": ("spans",),
    "record-dropped-early": ("sql-index", "bank"),
    "readers-ignore-intents": ("spans",),
    "locking-scan-ignores-intents": ("savepoints",),
    "aborted-may-commit": ("list-append", "savepoints"),
    "savepoints-resolved-anyway": ("savepoints", "sql-append"),
    "flush-sends-latest-only": ("savepoints",),
    "savepoint-rollback-forgotten": ("savepoints",),
    "limit-before-merge": ("savepoints",),
    "scans-ignore-tombstones": ("spans",),
    "reads-below-the-threshold": ("savepoints",),
    "overlapping-spans-stay": ("savepoints",),
    "ambiguous-commit-tried-again": ("sql-sequence", "named-commits"),
    "ambiguous-commit-taken-for-done": ("named-commits",),
    "name-not-remembered": ("named-commits",),
    "point-reads-ignore-intents": ("sql-registers",),
    "point-reads-leave-no-trace": ("registers",),
    "reader-keeps-its-timestamp": ("sql-registers",),
    "calls-keep-old-plans": ("sql-registers",),
    "calls-are-told-by-their-name": ("sql-registers",),
    "run-over-rows": ("sql-copy",),
    "run-below-reads": ("sql-copy",),
    "run-of-an-aborted-transaction-stays": ("sql-copy",),
    "recent-tops-fall": ("predicates", "set"),
}
"""Workloads that look at what a mutant breaks: what ``hunt`` chooses from, so that a hunt is short."""


def mutant(make: Mutant) -> Mutant:
    """Registers a mutant under its function's name."""
    MUTANTS[make.__name__.replace("_", "-")] = make
    return make


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """Has the named bug inside; "" is none."""
    with replaced(MUTANTS[name]() if name else []):
        yield


@contextmanager
def replaced(replacements: list[Replacement]) -> Iterator[None]:
    """Has what is wrong in the place of what is right inside."""
    before = [(owner, attribute, owner.__dict__[attribute]) for owner, attribute, _ in replacements]
    for owner, attribute, wrong in replacements:
        setattr(owner, attribute, wrong)
    try:
        yield
    finally:
        for owner, attribute, right in before:
            setattr(owner, attribute, right)


# --- the timestamp cache and refresh -----------------------------------------------


@mutant
def cache_forgets_all() -> list[Replacement]:
    """A write may slip in below a read that was served: no timestamp cache (1)."""
    return [
        (TimestampCache, "get_max", lambda self, key: (0, b"")),
        (TimestampCache, "get_max_span", lambda self, start, end: (0, b"")),
    ]


@mutant
def cache_low_water_off() -> list[Replacement]:
    """Dropping a generation of the timestamp cache does not raise its low water (1)."""
    return [(TimestampCache, "raise_low_water", lambda self, ts: None)]


@mutant
def split_loses_cache() -> list[Replacement]:
    """A split leaves the right-hand side without the reads served there (3)."""
    administer = Store._administer

    def wrong(self: Store, op: Any) -> Any:
        key = getattr(op, "key", b"")
        cache = self.state.tscache
        for points in (cache._points, cache._points_old):
            for read in [read for read in points if key and read >= key]:
                del points[read]
        if key:
            cache._spans.__init__()
            cache._spans_old.__init__()
        return administer(self, op)

    return [(Store, "_administer", wrong)]


@mutant
def tie_keeps_owner() -> list[Replacement]:
    """Of two readers at one timestamp the later owns it, and writes at it (5)."""

    def add(self: TimestampCache, key: bytes, ts: int, txn: bytes) -> None:
        right(self, key, ts, txn)
        if self._points.get(key, (0, b""))[0] == ts:
            self._points[key] = (ts, txn)

    right = TimestampCache.add
    return [
        (TimestampCache, "add", add),
        (kvtier.tscache, "combine", lambda one, other: one if one[0] > other[0] else other),
    ]


@mutant
def refresh_skipped() -> list[Replacement]:
    """A transaction moves its timestamp without looking at what it has read (18)."""

    def nothing(state: Any, owner: bytes, op: Any, to_ts: int) -> None: ...

    return [
        (kvtier.committing, "check_refresh", nothing),
        (kvtier.dispatch, "check_refresh", nothing),
        (kvtier.reading, "check_refresh", nothing),
    ]


@mutant
def refresh_without_spans() -> list[Replacement]:
    """A refresh checks the keys that were read and not the spans: phantoms (19)."""
    into_ops = ReadSpans.into_ops

    def keys_only(self: ReadSpans, from_ts: int, to_ts: int) -> list[Any]:
        return [op for op in into_ops(self, from_ts, to_ts) if op.is_point]

    return [(ReadSpans, "into_ops", keys_only)]


@mutant
def refresh_leaves_no_trace() -> list[Replacement]:
    """A refreshed read does not count as served at its new timestamp."""
    check = kvtier.reading.check_refresh

    def untraced(state: StoreState, owner: bytes, op: Any, to_ts: int) -> None:
        cache = state.tscache
        state.tscache = TimestampCache()
        try:
            check(state, owner, op, to_ts)
        finally:
            state.tscache = cache

    return [(kvtier.committing, "check_refresh", untraced), (kvtier.dispatch, "check_refresh", untraced)]


@mutant
def prefix_is_a_point() -> list[Replacement]:
    """A refreshed scan of a prefix protects one key; ours, found by seed 8."""
    check = kvtier.reading.check_refresh

    def pointed(state: StoreState, owner: bytes, op: Any, to_ts: int) -> None:
        is_prefix = op.end == kvtier.reading.prefix_end(op.start)
        op.is_point = op.is_point or is_prefix
        check(state, owner, op, to_ts)

    return [(kvtier.committing, "check_refresh", pointed), (kvtier.dispatch, "check_refresh", pointed)]


@mutant
def first_committer_loses() -> list[Replacement]:
    """A write does not notice that the key changed since it was read: lost update (20)."""
    init = OnePhase.__init__

    def careless(self: OnePhase, state: Any, batch: Batch, end: Any) -> None:
        init(self, state, batch, end)
        self._is_first_committer = False

    get_locked = kvtier.reading.get_locked

    def blind(state: Any, batch: Batch, txn: Any, op: Any) -> Any:
        try:
            return get_locked(state, batch, txn, op)
        except kvtier.reading.WriteTooOld:
            value = mvcc.get(state.engine, op.key, txn.read_ts, state.tombstones)[0]
            return kvtier.reading.Reply([value], txn.read_ts)

    return [(OnePhase, "__init__", careless), (kvtier.store, "get_locked", blind)]


# --- durability ----------------------------------------------------------------------


@mutant
def acknowledged_before_sync() -> list[Replacement]:
    """A commit is told to its client before it is durable."""
    return [(CommitGroup, "reply", lambda self, reply, seq: reply)]


@mutant
def unsynced_reads_told() -> list[Replacement]:
    """A read-only transaction tells what is not yet durable."""

    def at_once(self: Committer) -> int:
        self._unsynced = 0
        return int(commit_reads(self))  # type: ignore[arg-type]  # nothing is waited for

    commit_reads = Committer._commit_reads
    return [(Committer, "_commit_reads", at_once)]


@mutant
def failed_sync_tried_again() -> list[Replacement]:
    """After a sync that failed the next ones say that all is well, though the kernel dropped the pages (section 0, 5)."""

    async def sync(self: CommitGroup) -> None:
        engine: Any = self._engine
        # The switch stays on: what is behind the hole in the log is not found again either.
        await self._scheduler.run_blocking(engine.write_seq if engine.faults.sync_fails else engine.sync)
        self._end()

    return [(CommitGroup, "_sync", sync)]


@mutant
def clock_bound_not_kept() -> list[Replacement]:
    """A restarted node may give timestamps out again (28)."""

    def unbounded(self: Store, ts: int) -> None:
        self.state.ts_free = ts + 2 * self._hlc_step

    return [(Store, "_extend_hlc_bound", unbounded)]


# --- locks -----------------------------------------------------------------------------


@mutant
def lock_released_before_apply() -> list[Replacement]:
    """A commit is evaluated, frees its locks, and is applied a moment later (31)."""
    commit = Store._commit

    def early(self: Store, batch: Batch, end: Any) -> Any:
        if batch.txn is None or end is None or end.commit_key:
            return commit(self, batch, end)
        results, change = OnePhase(self.state, batch, end).evaluate()
        self.state.locks.release_txn(batch.txn.id)
        change.release.clear()
        return later(self, batch, results, change)

    async def later(self: Store, batch: Batch, results: list[Any], change: Change) -> Any:
        await self.clock.sleep(0.0005)
        assert batch.txn is not None, "tested above"
        seq = self.apply(change)
        reply = self.group.reply(kvtier.reading.Reply(results, batch.txn.read_ts, change.commit_ts), seq)
        return reply if isinstance(reply, kvtier.reading.Reply) else await reply

    return [(Store, "_commit", early)]


@mutant
def skip_locked_takes_locked() -> list[Replacement]:
    """SKIP LOCKED returns rows that others hold."""
    lock = kvtier.reading.Reader._lock

    def take(self: Any, key: bytes, strength: Any, wait: Wait) -> bool:
        return lock(self, key, strength, wait) or wait == Wait.SKIP

    def note_nothing(self: Any, key: bytes, value: Any, version_ts: int) -> None: ...

    return [(kvtier.reading.Reader, "_lock", take), (kvtier.reading.Reader, "_note_newest", note_nothing)]


@mutant
def locks_do_not_exclude() -> list[Replacement]:
    """FOR UPDATE gives the lock to whoever asks."""

    def granted(self: LockTable, key: bytes, txn_id: bytes, strength: int) -> bool:
        acquire(self, key, txn_id, strength)
        return True

    acquire = LockTable.acquire
    return [
        (LockTable, "acquire", granted),
        (LockTable, "blocks", lambda self, key, txn_id: False),
        (kvtier.reading.Reader, "_note_newest", lambda self, key, value, version_ts: None),
    ]


# --- intents and records -----------------------------------------------------------------


@mutant
def resolution_is_a_no_op() -> list[Replacement]:
    """Intents are "resolved" without being touched, and the record goes (13)."""

    async def finish(self: Cleanup, record: TxnRecord) -> None:
        change = Change(self._store.engine.batch())
        change.is_transactional = True
        drop_record(change, record)
        self._store.apply(change)

    def nothing(state: Any, op: Any, change: Any) -> None: ...

    return [(Cleanup, "_finish", finish), (kvtier.dispatch, "resolve", nothing)]


@mutant
def record_dropped_early() -> list[Replacement]:
    """A committed transaction's record is dropped before its intents are resolved (13)."""
    enqueue = Cleanup.enqueue

    def drop(self: Cleanup, txn_id: bytes) -> None:
        record = self._store.state.records.get(txn_id)
        if record is not None and record.status == TxnStatus.COMMITTED:
            change = Change(self._store.engine.batch())
            change.is_transactional = True
            drop_record(change, record)
            self._store.apply(change)
            self._store.state.finished._outcomes.pop(txn_id, None)
        enqueue(self, txn_id)

    return [(Cleanup, "enqueue", drop)]


@mutant
def readers_ignore_intents() -> list[Replacement]:
    """Scans do not look whether an intent is in their way."""
    return [(IntentIndex, "others_in", lambda self, start, end, txn_id, upto_ts: [])]


@mutant
def locking_scan_ignores_intents() -> list[Replacement]:
    """A locking scan misses a row whose first version is still an intent; ours, found by seed 12."""
    scan_locking = kvtier.reading.Reader._scan_locking
    others_in = IntentIndex.others_in

    def unseeing(self: Any, op: Any, end: bytes, limit: int) -> Any:
        IntentIndex.others_in = lambda self, start, end, txn_id, upto_ts: []  # type: ignore[method-assign]
        try:
            return scan_locking(self, op, end, limit)
        finally:
            IntentIndex.others_in = others_in  # type: ignore[method-assign]

    return [(kvtier.reading.Reader, "_scan_locking", unseeing)]


@mutant
def aborted_may_commit() -> list[Replacement]:
    """An abandoned transaction commits although its record says ABORTED (12)."""

    finished = kvtier.dispatch.finished_commit_ts

    def unknown(state: Any, txn: Any) -> Any:
        record = state.records.get(txn.id)
        if record is not None and record.status == TxnStatus.ABORTED:
            del state.records[txn.id]
        state.finished._outcomes.pop(txn.id, None)
        return finished(state, txn)

    def outcome(self: Finished, txn_id: bytes) -> int | None:
        return right(self, txn_id) or None

    right = Finished.outcome
    return [
        (kvtier.dispatch, "finished_commit_ts", unknown),
        (Finished, "outcome", outcome),
        (Finished, "may_begin", lambda self, txn: True),
        (StoreState, "check_alive", lambda self, txn: None),
    ]


@mutant
def savepoints_resolved_anyway() -> list[Replacement]:
    """What a savepoint rolled back after it was flushed is committed with the rest (32)."""

    def forget(self: Transaction, first: int, last: int) -> None: ...

    return [(Transaction, "_ignore", forget)]


# --- the write buffer ------------------------------------------------------------------


@mutant
def flush_sends_latest_only() -> list[Replacement]:
    """A flush under a savepoint sends only the newest version of each key (21)."""

    def latest(self: WriteBuffer) -> list[Any]:
        ops: list[Any] = []
        for key, (value, seq) in self.entries.items():
            ops.append(Delete(key, seq) if value is None else Put(key, value, seq))
        ops += [op for op in into_flush_ops(self) if not isinstance(op, Put | Delete)]
        ops.sort(key=lambda op: op.seq)
        return ops

    into_flush_ops = WriteBuffer.into_flush_ops
    return [(WriteBuffer, "into_flush_ops", latest)]


@mutant
def savepoint_rollback_forgotten() -> list[Replacement]:
    """ROLLBACK TO leaves the buffered writes."""
    return [(WriteBuffer, "rollback_to", lambda self, seq: None)]


@mutant
def limit_before_merge() -> list[Replacement]:
    """A page's LIMIT is spent before buffered deletions are taken out of it (22)."""

    def cut(self: WriteBuffer, start: bytes, end: bytes, reverse: bool, limit: int, page: Any) -> Any:
        found = merge_page(self, start, end, reverse, limit, page)
        if page.resume is not None and len(found.keys) < len(page.keys):
            found.resume = None
        return found

    merge_page = WriteBuffer.merge_page
    return [(WriteBuffer, "merge_page", cut)]


# --- versions --------------------------------------------------------------------------


@mutant
def scans_ignore_tombstones() -> list[Replacement]:
    """A scan does not see that a span was deleted."""
    scan = mvcc.scan

    def unseeing(*arguments: Any) -> Any:
        return scan(*arguments[:7], mvcc.NO_TOMBSTONES, *arguments[8:])

    return [(mvcc, "scan", unseeing)]


@mutant
def reads_below_the_threshold() -> list[Replacement]:
    """A read below the garbage threshold is served from what is left (29)."""
    return [(kvtier.reading, "check_readable", lambda state, start, end, ts: None)]


@mutant
def overlapping_spans_stay() -> list[Replacement]:
    """Resolving one deleted span leaves an overlapping one in the index; ours, found by seed 49."""

    def remove(self: IntentIndex, start: bytes, end: bytes, txn_id: bytes) -> None:
        self.spans = [
            span for span in self.spans if not (span.txn.id == txn_id and start <= span.start and span.end <= end)
        ]

    return [(IntentIndex, "remove_spans", remove)]


# --- ambiguity -------------------------------------------------------------------------


@mutant
def ambiguous_commit_tried_again() -> list[Replacement]:
    """A commit whose outcome is unknown is run again (6, 8)."""
    reopen = Committer._reopen

    def again(self: Committer, error: MeridianError) -> MeridianError | None:
        if isinstance(error, AmbiguousResult):
            return reopen(self, TxnRetry("trying again", reason="blind"))
        return reopen(self, error)

    return [(Committer, "_reopen", again)]


@mutant
def ambiguous_commit_taken_for_done() -> list[Replacement]:
    """A commit whose outcome is unknown is told as committed."""

    def done(self: Committer, error: MeridianError) -> MeridianError | None:
        if isinstance(error, AmbiguousResult):
            self._state = COMMITTED
            return None
        return reopen(self, error)

    reopen = Committer._reopen
    return [(Committer, "_reopen", done)]


@mutant
def name_not_remembered() -> list[Replacement]:
    """A named transaction's outcome is not written: a repetition counts twice."""

    def nothing(self: Committer, row: list[bytes]) -> list[Any]:
        return []

    def unnamed(self: Committer, name: str) -> None:
        self._commit_key = ""

    return [(Committer, "_outcome_ops", nothing), (Committer, "set_commit_key", unnamed)]


# --- reads without a transaction, whole calls ---------------------------------------------


@mutant
def point_reads_ignore_intents() -> list[Replacement]:
    """A read of one key does not look whether a committed write is still an intent."""
    return [(StoreState, "is_plain_at", lambda self, ts: True)]


@mutant
def point_reads_leave_no_trace() -> list[Replacement]:
    """A read of one key is not served in the timestamp cache: a write slips in below it."""

    def get_now(self: Store, key: bytes, ts: int, owner: bytes) -> Any:
        cache, self.state.tscache = self.state.tscache, TimestampCache()
        try:
            return right(self, key, ts, owner)
        finally:
            self.state.tscache = cache

    right = Store.get_now
    return [(Store, "get_now", get_now)]


@mutant
def reader_keeps_its_timestamp() -> list[Replacement]:
    """The node's one reader of single keys takes a timestamp for its first statement only."""

    def begin(self: PointReader) -> None:
        self.read_ts = self.read_ts or self._kv.now()

    return [(PointReader, "begin", begin)]


@mutant
def calls_keep_old_plans() -> list[Replacement]:
    """A whole call goes on with its plan after the table has changed."""
    return [(CallPath, "is_current", lambda self, known: self.block.status != "E")]


@mutant
def calls_are_told_by_their_name() -> list[Replacement]:
    """A Bind of a known statement's name runs whatever was prepared under that name before."""

    def known(self: CallPath, call: Any) -> bool:
        is_old = call.entry is not None and call.entry.generation != self.state().generation
        return self.block.status != "E" and not is_old and (call.prepared is None or call.name in self.statements)

    return [(CallPath, "is_current", known)]


# --- runs ------------------------------------------------------------------------------


@mutant
def run_over_rows() -> list[Replacement]:
    """A run is taken although rows, intents or locks are in its span."""
    return [(kvtier.runs, "_is_free", lambda *arguments: True)]


@mutant
def run_below_reads() -> list[Replacement]:
    """A run is written below a read that was served in its span."""

    def timestamp(state: StoreState, txn: Any, start: bytes, end: bytes) -> int:
        cache, state.tscache = state.tscache, TimestampCache()
        try:
            return right(state, txn, start, end)
        finally:
            state.tscache = cache

    right = kvtier.runs._timestamp
    return [(kvtier.runs, "_timestamp", timestamp)]


@mutant
def run_of_an_aborted_transaction_stays() -> list[Replacement]:
    """The rows of a run whose transaction was rolled back are not removed."""

    def remove(run: Any, change: Change, tally: Any) -> None:
        kvtier.runs.delete_stored_run(change.batch, run.start)
        change.runs_gone.append((run.start, run.end, run.txn.id))

    return [(kvtier.runs, "_remove", remove)]


# --- what was written lately -----------------------------------------------------------


@mutant
def recent_tops_fall() -> list[Replacement]:
    """A batch with an old timestamp hides newer ones before it from a refresh."""

    def note(self: RecentWrites, ops: list[Any]) -> None:
        batches = list(self._batches)
        self._batches.clear()
        right(self, ops)
        batches.extend(self._batches)
        self._batches.clear()
        self._batches.extend(batches)

    right = RecentWrites.note
    return [(RecentWrites, "note", note)]


__all__ = ["MUTANTS", "ResolveIntents", "mutated", "replaced"]
