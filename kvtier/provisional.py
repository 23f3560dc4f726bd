"""Evaluation of intents: writing, proving, pushing and resolving them.

The general path of a transaction that one batch cannot hold: it spans stores, or is too
large to be buffered, or is told to (so that one node exercises it).

Writing an intent obeys the rules of a one-phase commit (``kvtier.committing``), at the
transaction's provisional timestamp, which goes back to the coordinator with the reply.
All intents of a batch get one timestamp.

Resolving turns an intent into a version at the commit timestamp, or removes it.  An aborted
transaction whose intents were removed is *poisoned* in this store: it must not read
its own missing writes as absent (reliability 15).

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

import msgspec

from base.errors import ConditionFailed, FeatureNotSupported, TxnAborted, WriteTooOld
from base.hlc import TS_MAX
from base.seams import CF_DATA, CF_LOCAL
from kvtier import mvcc
from kvtier.change import Change
from kvtier.descriptors import KEY_MAX
from kvtier.engine.batch import PUT
from kvtier.messages import (
    ConditionalPut,
    Delete,
    DeleteSpan,
    Isolation,
    Put,
    QueryIntent,
    ResolveIntents,
    TxnMeta,
    TxnStatus,
)
from kvtier.mvcc.intents import Missing, span_ends
from kvtier.reading import own_write
from kvtier.runindex import SpanIntent
from kvtier.runs import find_conflict, resolve_runs
from kvtier.state import StoreState
from kvtier.transactions import POISON_PREFIX
from kvtier.writing import Tally, conflict_over_span, newest_for_write, stored_size


class Provisional:
    """The intents of one batch: first all are decided, then all written."""

    __slots__ = ("_change", "_points", "_spans", "_state", "_txn", "write_ts")

    def __init__(self, state: StoreState, txn: TxnMeta, change: Change) -> None:
        outcome = state.finished.outcome(txn.id)
        if outcome == 0:
            raise TxnAborted(reason="aborted_record")
        self._state = state
        self._txn = txn
        self._change = change
        self._points: list[tuple[bytes, bytes | None, int]] = []
        self._spans: list[DeleteSpan] = []
        self.write_ts = max(txn.write_ts, txn.read_ts)

    def add(self, op: Put | Delete | ConditionalPut | DeleteSpan) -> None:
        """Decides one write; moves the provisional timestamp above what is in its way."""
        if isinstance(op, DeleteSpan):
            self._add_span(op)
            return
        key = op.key
        newest_ts, _ = newest_for_write(self._state, key, self._txn.id)
        runs = self._state.intents.runs
        if runs.starts and runs.at(key) is not None:
            newest_ts = 0  # The run is ours, or there had been a conflict; what is in it is, too.
        self._move_above(key, newest_ts)
        if isinstance(op, ConditionalPut):
            self._check_condition(op)
        self._points.append((key, None if isinstance(op, Delete) else op.value, op.seq))

    def _move_above(self, key: bytes, newest_ts: int) -> None:
        txn = self._txn
        if newest_ts > txn.read_ts and txn.isolation != Isolation.READ_COMMITTED:
            raise WriteTooOld(key, newest_ts)
        self.write_ts = max(self.write_ts, newest_ts + 1 if newest_ts else 0)
        self._move_above_read(self._state.tscache.get_max(key))

    def _move_above_read(self, read: tuple[int, bytes]) -> None:
        read_ts, reader = read
        if read_ts >= self.write_ts:
            self.write_ts = read_ts if reader and reader == self._txn.id else read_ts + 1

    def _check_condition(self, op: ConditionalPut) -> None:
        actual: bytes | Missing | None = self.pending(op.key)
        if isinstance(actual, Missing):
            seen = msgspec.structs.replace(self._txn, seq=max(op.seq - 1, 0))
            actual = own_write(self._state, op.key, seen)
        if isinstance(actual, Missing):
            actual = mvcc.newest(self._state.engine, op.key, self._state.tombstones)[0]
        if actual == op.expected:
            return
        # A replay finds its own write (reliability 8).
        mine = own_write(self._state, op.key, msgspec.structs.replace(self._txn, seq=op.seq))
        if not (isinstance(self.pending(op.key), Missing) and mine == op.value and not isinstance(mine, Missing)):
            raise ConditionFailed(op.key, actual)

    def pending(self, key: bytes) -> bytes | Missing | None:
        """Returns what an earlier operation of this batch wrote to a key."""
        for written, value, _ in reversed(self._points):
            if written == key:
                return value
        if any(span.start <= key < (span.end or KEY_MAX) for span in self._spans):
            return None
        return mvcc.MISSING

    def _add_span(self, op: DeleteSpan) -> None:
        state = self._state
        txn = self._txn
        start, end = op.start, op.end or KEY_MAX
        if start >= end:
            return
        if self._points:
            raise FeatureNotSupported("a span deletion after other intents in one batch is not supported")
        conflict_over_span(state, start, end, txn.id)
        if txn.isolation == Isolation.READ_COMMITTED:
            self.write_ts = max(self.write_ts, state.now())
        elif not op.is_held:
            newer = find_conflict(state, txn.id, start, end, txn.read_ts, TS_MAX, b"")
            if newer is not None:
                raise WriteTooOld(newer[0], newer[1])
        self._move_above_read(state.tscache.get_max_span(start, end))
        self._spans.append(op)

    def write(self) -> list[bytes]:
        """Puts the intents into the change; returns the keys written."""
        state, change = self._state, self._change
        txn = msgspec.structs.replace(self._txn, write_ts=self.write_ts)
        written: dict[bytes, mvcc.Intent] = {}
        for span in self._spans:
            start, end = span.start, span.end or KEY_MAX
            for key, point in mvcc.write_span_intent(
                state.engine, change.batch, start, end, txn, self.write_ts, span.seq
            ):
                written[key] = point
                change.intents.append((key, txn, self.write_ts, span.seq))
            change.span_intents.append(SpanIntent(txn, start, end, self.write_ts, span.seq))
        for key, value, seq in self._points:
            prior = written.get(key)
            if prior is None and key in state.intents.points:
                prior = mvcc.get_intent(state.engine, key)
            written[key] = mvcc.write_intent(change.batch, key, txn, self.write_ts, seq, value, prior)
            change.intents.append((key, txn, self.write_ts, seq))
        return list(dict.fromkeys([key for key, _, _ in self._points]))


def query_intent(state: StoreState, op: QueryIntent) -> bool:
    """Is the write there, at or below the staged timestamp?  If not, it never will be (reliability 11)."""
    txn = op.txn
    noted = state.intents.points.get(op.key)
    if noted is not None and noted.txn.id == txn.id and noted.txn.epoch == txn.epoch and noted.write_ts <= txn.write_ts:
        intent = mvcc.get_intent(state.engine, op.key)
        assert intent is not None, op.key
        if any(seq == op.seq for seq, _ in intent.history):
            return True
    for span in state.intents.spans:
        if span.txn.id == txn.id and span.start == op.key and span.seq == op.seq and span.write_ts <= txn.write_ts:
            return True
    state.tscache.add(op.key, max(txn.write_ts, txn.read_ts), b"")
    return False


def resolve(state: StoreState, op: ResolveIntents, change: Change) -> None:
    """Resolves (or, PENDING, pushes) the intents of a transaction that are here."""
    status = TxnStatus(op.status)
    tally = Tally(state)
    removed = False
    for key in op.keys:
        noted = state.intents.points.get(key)
        if noted is None or noted.txn.id != op.txn.id:
            continue
        if status == TxnStatus.PENDING:
            mvcc.resolve_intent(state.engine, change.batch, key, op.txn, status, op.commit_ts)
            change.intents.append((key, noted.txn, max(noted.write_ts, op.commit_ts), noted.seq))
            continue
        _resolve_point(state, op, key, status, change, tally)
        removed = True
    for start, end in op.spans:
        removed = _resolve_spans(state, op, start, end, status, change, tally) or removed
        if state.intents.runs.starts:
            removed = resolve_runs(state, op, start, end or KEY_MAX, status, change, tally) or removed
    tally.finish(change)
    if status >= TxnStatus.COMMITTED:
        change.release.append(op.txn.id)
    if status == TxnStatus.ABORTED and removed:
        change.batch.put(CF_LOCAL, POISON_PREFIX + op.txn.id, state.hlc.latest.to_bytes(8, "big"))
        change.poisoned.append(op.txn.id)


def _resolve_point(
    state: StoreState, op: ResolveIntents, key: bytes, status: TxnStatus, change: Change, tally: Tally
) -> None:
    old_value, old_ts = mvcc.newest(state.engine, key, state.tombstones)
    mvcc.resolve_intent(state.engine, change.batch, key, op.txn, status, op.commit_ts)
    change.resolved.append((key, op.txn.id))
    kind, cf, _, stored = change.batch.ops[-1]
    if kind == PUT and cf == CF_DATA:
        tally.add(key, stored_size(old_value), len(stored) if stored else -1)
        if old_ts == op.commit_ts:
            # It replaces the version of a run; what that one counted stays.
            tally.guess(state.replica_of(key))
        change.keys.append(key)


def _resolve_spans(
    state: StoreState, op: ResolveIntents, start: bytes, end: bytes, status: TxnStatus, change: Change, tally: Tally
) -> bool:
    end = end or KEY_MAX
    found = mvcc.resolve_span_intents(state.engine, change.batch, start, end, op.txn, status, op.commit_ts)
    if not found or status == TxnStatus.PENDING:
        return False
    change.resolved_spans.append((start, end, op.txn.id))
    if status == TxnStatus.COMMITTED:
        for lower, intent in found:
            upper = max(span_ends(intent))
            change.spans.append((lower, upper))
            tally.add_spans([(lower, upper)])
    return True
