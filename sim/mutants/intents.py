"""What is stored: intents and records, versions and tombstones, runs."""

from __future__ import annotations

from typing import Any

import kvtier.dispatch
import kvtier.reading
import kvtier.runs
from kvtier import mvcc
from kvtier.change import Change
from kvtier.cleanup import Cleanup
from kvtier.intents import IntentIndex
from kvtier.messages import TxnStatus
from kvtier.records import Finished, TxnRecord
from kvtier.state import StoreState
from kvtier.transactions import drop_record
from kvtier.tscache import TimestampCache
from sim.mutants.registry import Replacement, mutant
from txn.coordinator import Transaction

# --- intents and records ---------------------------------------------------------------


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
