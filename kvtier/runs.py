"""Runs: writing rows by bulk, before their transaction has committed.

An intent costs a record, an entry in memory and a resolution, each, for every row.  A run
is one intent over a span and the rows in it are versions from the beginning:

    data    r1@T  r2@T  r3@T ..          written as any committed version is
    lock    "r" start -> end, transaction, T, seq           in the same engine batch

A transaction may take a span for a run where nothing is or ever was: no version of any
age, no other's lock or intent, no point intent of its own.  From then on the run is an intent over
all of its span: whoever reads there at or above T, locks or writes waits for the
transaction.  Below T there is nothing to see.  What follows:

    commit at T     the record goes; the rows are there already
    commit later    the rows are moved first (``settle``), a step at a time, under the run
    abort, crash    one range deletion in the engine: the span is as empty as it was
    savepoints      a run is visible or rolled back as a whole, by its sequence number
    own reads       at the run's timestamp inside of it, where nothing else can be
    own writes      point intents over the run; they resolve to the same timestamp
    own deletions   of a span, after the run: ``settle`` removes the rows they cover

Rows that arrive out of order grow the transaction's run instead, as long as what lies
between is empty: an index made in the transaction takes its entries in any order.

Invariant: at a commit every run of the transaction is settled at exactly the commit timestamp.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from base.errors import TxnAborted
from base.keys import is_ascending
from base.seams import CF_DATA
from kvtier import mvcc
from kvtier.change import Change
from kvtier.engine.batch import PUT
from kvtier.intents import is_ignored
from kvtier.messages import Isolation, PutRun, ResolveIntents, SettleRuns, TxnMeta, TxnStatus, prefix_end
from kvtier.mvcc.runs import (
    delete_stored_run,
    has_version,
    is_span_empty,
    move_versions,
    only_version,
    put_stored_run,
)
from kvtier.mvcc.versions import PLAIN_ABOVE, SUFFIX, into_stored, suffix_of
from kvtier.runindex import Run
from kvtier.state import StoreState
from kvtier.writing import Tally

SETTLE_ROWS_MAX: Final = 4_096
"""Rows moved by one command, a few milliseconds."""
SETTLE_RUNS_MAX: Final = 500
"""Runs looked at by one command."""


# --- writing ---------------------------------------------------------------------------


def put_run(state: StoreState, txn: TxnMeta, op: PutRun, change: Change) -> int:
    """Writes a run, or grows one; returns its timestamp, 0 if the rows must be written one by one."""
    if state.finished.outcome(txn.id) == 0:
        raise TxnAborted(reason="aborted_record")
    keys = op.keys
    start, end = keys[0], prefix_end(keys[-1])
    runs = state.intents.runs.over(start, end) if state.intents.runs.starts else []
    if not _is_free(state, txn, op, runs, start, end):
        return 0
    write_ts = _timestamp(state, txn, start, end)
    if not write_ts:
        return 0
    lowest = highest = write_ts
    for run in runs:
        start, end = min(start, run.start), max(end, run.end)
        lowest, highest = min(lowest, run.write_ts), max(highest, run.top_ts)
        delete_stored_run(change.batch, run.start)
    put_stored_run(change.batch, start, end, txn, lowest, highest, op.seq)
    _put_rows(state, op, write_ts, change)
    change.runs.append(Run(_copy(txn), start, end, lowest, highest, op.seq))
    return write_ts


def _copy(txn: TxnMeta) -> TxnMeta:
    """Returns what a run keeps of its transaction; the coordinator's own object changes."""
    return TxnMeta(
        txn.id,
        txn.isolation,
        txn.epoch,
        txn.seq,
        txn.read_ts,
        txn.write_ts,
        priority=txn.priority,
        anchor=txn.anchor,
        start_ts=txn.start_ts,
    )


def _is_free(state: StoreState, txn: TxnMeta, op: PutRun, runs: list[Run], start: bytes, end: bytes) -> bool:
    """True if nothing is in the span, but for runs of the transaction that may grow."""
    intents = state.intents
    if intents.points and intents.keys_in(start, end):
        return False
    for span in intents.spans:
        if span.txn.id != txn.id and span.start < end and start < span.end:
            return False
    if state.locks.states and state.locks.blocked_key(start, end, txn.id) is not None:
        return False
    at = start
    for run in runs:
        if run.txn.id != txn.id or run.seq <= op.floor_seq or not run.is_visible_to(txn):
            return False
        if _was_deleted_since(state, txn, run):
            return False
        if at < run.start and not is_span_empty(state.engine, at, run.start):
            return False
        at = max(at, run.end)
    if at < end and not is_span_empty(state.engine, at, end):
        return False
    return not runs or op.is_distinct or not has_version(state.engine, op.keys)


def _was_deleted_since(state: StoreState, txn: TxnMeta, run: Run) -> bool:
    return any(
        [span.seq > run.seq and span.start < run.end and run.start < span.end for span in state.intents.own_spans(txn)]
    )


def _timestamp(state: StoreState, txn: TxnMeta, start: bytes, end: bytes) -> int:
    """Returns a timestamp above every read that was served in the span; 0 if the span changed too late for us."""
    write_ts = max(txn.write_ts, txn.read_ts)
    if state.tombstones.starts:
        deleted_ts = state.tombstones.newest_in(start, end)
        if deleted_ts > txn.read_ts and txn.isolation != Isolation.READ_COMMITTED:
            return 0
        write_ts = max(write_ts, deleted_ts + 1)
    read_ts, reader = state.tscache.get_max_span(start, end)
    if read_ts >= write_ts:
        write_ts = read_ts if reader and reader == txn.id else read_ts + 1
    return write_ts


def _put_rows(state: StoreState, op: PutRun, write_ts: int, change: Change) -> None:
    suffix = suffix_of(write_ts)
    keys, values = op.keys, op.values
    assert is_ascending(keys), f"keys of a run must ascend: {keys[0]=} {keys[-1]=}"
    if min(values) <= PLAIN_ABOVE:
        values = [value if value > PLAIN_ABOVE else into_stored(value) for value in values]
    change.batch.ops += [(PUT, CF_DATA, key + suffix, value) for key, value in zip(keys, values)]
    tally = Tally(state)
    first, count = 0, len(keys)
    while first < count:
        replica = state.replica_of(keys[first])
        last = count if keys[-1] < replica.end else bisect_left(keys, replica.end, first)
        delta = tally.of(replica)
        rows = last - first
        size = sum(map(len, keys[first:last])) + sum(map(len, values[first:last]))
        delta[0] += rows
        delta[1] += size
        delta[2] += rows
        delta[3] += size + SUFFIX * rows
        first = last
    tally.finish(change)


# --- settling --------------------------------------------------------------------------


def settle(state: StoreState, txn: TxnMeta, op: SettleRuns, change: Change) -> bytes | None:
    """Does a bounded step of what ``SettleRuns`` says; returns where to go on, None if all is done."""
    tally = Tally(state)
    rows_left = SETTLE_ROWS_MAX
    resume: bytes | None = None
    for count, run in enumerate(state.intents.runs.own_over(op.start, op.end, txn.id)):
        if count == SETTLE_RUNS_MAX or rows_left <= 0:
            resume = run.start
            break
        if not run.is_visible_to(txn):
            _remove(run, change, tally)
        elif op.to_ts and _remove_deleted(state, txn, run, change, tally):
            # The rows left are moved by the next step, which does not see the removed ones.
            resume = run.start
            break
        elif op.to_ts and (run.write_ts != op.to_ts or run.top_ts != op.to_ts):
            resume, moved = move_versions(
                state.engine, change.batch, max(run.start, op.start), run.end, op.to_ts, rows_left
            )
            rows_left -= moved
            _note_moved(run, op.to_ts if resume is None else run.write_ts, op.to_ts, change)
            if resume is not None:
                break
    tally.finish(change)
    return resume


def _note_moved(run: Run, lowest: int, highest: int, change: Change) -> None:
    assert highest >= run.top_ts, f"{highest=} {run.top_ts=}"
    put_stored_run(change.batch, run.start, run.end, run.txn, lowest, highest, run.seq)
    change.runs.append(Run(run.txn, run.start, run.end, lowest, highest, run.seq))


def _remove_deleted(state: StoreState, txn: TxnMeta, run: Run, change: Change, tally: Tally) -> bool:
    """Removes the rows of a run that a later deletion of the transaction covers; True if there were any."""
    found = False
    for span in state.intents.own_spans(txn):
        start, end = max(span.start, run.start), min(span.end, run.end)
        if span.seq > run.seq and start < end and not is_span_empty(state.engine, start, end):
            change.batch.delete_range(CF_DATA, start, end)
            tally.add_spans([(start, end)])
            found = True
    return found


def _remove(run: Run, change: Change, tally: Tally) -> None:
    """Empties a run and gives its span back."""
    change.batch.delete_range(CF_DATA, run.start, run.end)
    tally.add_spans([(run.start, run.end)])
    delete_stored_run(change.batch, run.start)
    change.runs_gone.append((run.start, run.end, run.txn.id))


# --- resolving -------------------------------------------------------------------------


def resolve_runs(
    state: StoreState, op: ResolveIntents, start: bytes, end: bytes, status: TxnStatus, change: Change, tally: Tally
) -> bool:
    """Ends the runs of a finished transaction that start in [start, end); True if there were any."""
    if status < TxnStatus.COMMITTED:
        return False
    found = False
    for run in state.intents.runs.own_over(start, end, op.txn.id):
        if run.start < start:
            continue
        found = True
        is_kept = status == TxnStatus.COMMITTED and run.txn.epoch == op.txn.epoch
        if not is_kept or is_ignored(run.seq, op.txn.ignored):
            _remove(run, change, tally)
            continue
        assert run.write_ts == op.commit_ts == run.top_ts, (run.start, run.write_ts, run.top_ts, op.commit_ts)
        delete_stored_run(change.batch, run.start)
        change.runs_gone.append((run.start, run.end, run.txn.id))
        change.spans.append((run.start, run.end))
    return found


def are_settled(state: StoreState, txn: TxnMeta, commit_ts: int) -> bool:
    """True if the transaction can commit at a timestamp: no run of it has rows elsewhere."""
    if not state.intents.runs.starts:
        return True
    return all([run.write_ts == commit_ts == run.top_ts for run in state.intents.runs.of(txn.id)])


# --- the transaction's own reads -----------------------------------------------------------


def own_row(state: StoreState, key: bytes, txn: TxnMeta, deleted_seq: int) -> tuple[bytes | None] | None:
    """Returns (value or None,) if a key is in a run of the transaction; ``deleted_seq`` numbers its deletion there."""
    run = state.intents.runs.at(key)
    if run is None or run.txn.id != txn.id:
        return None
    if run.seq < deleted_seq or not run.is_visible_to(txn):
        return (None,)
    return (only_version(state.engine, key),)


def find_conflict(
    state: StoreState, owner: bytes, start: bytes, end: bytes, from_ts: int, to_ts: int, projection: bytes
) -> tuple[bytes, int] | None:
    """As ``mvcc.find_conflict``, blind to the owner's runs: nobody else wrote there since they began."""
    for run in state.intents.runs.own_over(start, end, owner):
        if start < run.start:
            found = mvcc.find_conflict(state.engine, start, run.start, from_ts, to_ts, projection, state.tombstones)
            if found is not None:
                return found
        start = max(start, run.end)
    if start >= end:
        return None
    return mvcc.find_conflict(state.engine, start, end, from_ts, to_ts, projection, state.tombstones)
