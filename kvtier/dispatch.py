"""Which evaluation a batch gets, and the general one that takes anything.

reads only                                 ``reading.read_batch``
writes outside a transaction               ``committing.OnePhase``
... EndTxn, nothing written before         ``committing.OnePhase``
everything else                            ``General``: intents, records, in order
Split, Merge, CollectGarbage, ...          ``administration``, each alone in its batch

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from base.errors import FeatureNotSupported, TxnRetry
from kvtier.change import Change
from kvtier.messages import (
    Batch,
    ChangeReplicas,
    Checksum,
    ClosePolicy,
    CollectGarbage,
    ConditionalPut,
    Delete,
    DeleteSpan,
    EndTxn,
    Get,
    Heartbeat,
    Merge,
    Push,
    Put,
    PutRun,
    QueryIntent,
    Recover,
    Refresh,
    Reply,
    ResolveIntents,
    Scan,
    SettleRuns,
    Split,
    TransferLease,
    TxnMeta,
    TxnStatus,
    Unsplit,
)
from kvtier.mvcc.intents import Missing
from kvtier.provisional import Provisional, query_intent, resolve
from kvtier.reading import Reader, check_refresh
from kvtier.runs import are_settled, put_run, settle
from kvtier.state import StoreState
from kvtier.transactions import (
    check_deadline,
    commit_floor,
    end_abort,
    end_commit,
    finished_commit_ts,
    heartbeat,
    named_outcome,
    push,
    recover,
)

READ: Final = 1
WRITE: Final = 2
END: Final = 4
OTHER: Final = 8
KINDS: Final[dict[type, int]] = {
    Get: READ,
    Scan: READ,
    Refresh: READ,
    Put: WRITE,
    Delete: WRITE,
    ConditionalPut: WRITE,
    DeleteSpan: WRITE,
    PutRun: OTHER,
    SettleRuns: OTHER,
    EndTxn: END,
    Heartbeat: OTHER,
    Push: OTHER,
    QueryIntent: OTHER,
    Recover: OTHER,
    ResolveIntents: OTHER,
    Split: OTHER,
    Unsplit: OTHER,
    Merge: OTHER,
    ChangeReplicas: OTHER,
    TransferLease: OTHER,
    ClosePolicy: OTHER,
    CollectGarbage: OTHER,
    Checksum: OTHER,
}


def is_one_phase(state: StoreState, txn: TxnMeta, end: EndTxn) -> bool:
    """True if a commit's batch is all the transaction ever wrote."""
    if not end.commit or end.in_flight or end.intents or end.intent_spans:
        return False
    if state.records and txn.id in state.records:
        return False
    intents = state.intents
    if intents.points or intents.spans or intents.runs.starts:
        return not intents.has_any_of(txn.id)
    return True


class General:
    """Evaluation of a batch of any operations but administration; see the module docstring."""

    def __init__(self, state: StoreState, batch: Batch) -> None:
        self._state = state
        self._batch = batch
        self._txn = batch.txn
        self._provisional: Provisional | None = None
        self._reader: Reader | None = None
        self._late_refreshes: list[Refresh] = []
        self._run_ts = 0
        self.change = Change(state.engine.batch())
        self.change.is_transactional = True
        self.must_sync = False
        """True if the reply says that something was decided: it is given after the sync."""

    def evaluate(self) -> Reply:
        """Returns the reply; ``change`` is what is to be done."""
        batch, txn = self._batch, self._txn
        if txn is not None and self._state.poisoned and not isinstance(batch.ops[-1], EndTxn | Heartbeat):
            self._state.check_alive(txn)
        ts = txn.read_ts if txn is not None else batch.ts or self._state.now()
        reply = Reply([], ts)
        for op in batch.ops:
            if isinstance(op, EndTxn):
                self._end(op, reply)
                reply.results.append(None)
            else:
                reply.results.append(self._one(op, ts))
        if self._provisional is not None and not isinstance(batch.ops[-1], EndTxn):
            self._provisional.write()
            reply.write_ts = self._provisional.write_ts
        reply.write_ts = max(reply.write_ts, self._run_ts)
        if self._reader is not None:
            reply.unsynced = self._reader.unsynced
        return reply

    def _one(self, op: Any, ts: int) -> Any:
        state, change = self._state, self.change
        if isinstance(op, Put | Delete | ConditionalPut | DeleteSpan):
            if self._provisional is None:
                assert self._txn is not None, f"writes outside a transaction with other operations: {self._batch.ops!r}"
                self._provisional = Provisional(state, self._txn, change)
            self._provisional.add(op)
            return None
        if isinstance(op, Get | Scan | Refresh):
            return self._read(op, ts)
        if isinstance(op, QueryIntent):
            return query_intent(state, op)
        if isinstance(op, ResolveIntents):
            resolve(state, op, change)
            return None
        if isinstance(op, Push):
            return push(state, op, change)
        if isinstance(op, PutRun):
            assert self._txn is not None, "a run of no transaction"
            self._run_ts = put_run(state, self._txn, op, change)
            return self._run_ts > 0
        if isinstance(op, SettleRuns):
            assert self._txn is not None, "runs of no transaction"
            return settle(state, self._txn, op, change)
        self.must_sync = True
        if isinstance(op, Recover):
            return recover(state, op, change)
        if isinstance(op, Heartbeat):
            self.must_sync = False
            assert self._txn is not None, "a heartbeat of no transaction"
            return heartbeat(state, op, self._txn, change)
        raise FeatureNotSupported(
            f"{op.__class__.__name__} together with other operations in one batch is not supported"
        )

    def _read(self, op: Get | Scan | Refresh, ts: int) -> Any:
        if isinstance(op, Refresh) and op.to_ts == 0 and isinstance(self._batch.ops[-1], EndTxn):
            self._late_refreshes.append(op)
            return None
        if self._provisional is not None:
            if isinstance(op, Scan):
                raise FeatureNotSupported("a scan after writes in one batch is not supported")
            if isinstance(op, Get):
                pending = self._provisional.pending(op.key)
                if not isinstance(pending, Missing):
                    return pending
        if self._reader is None:
            self._reader = Reader(self._state, self._txn, ts, self._batch.keys_max, self._batch.bytes_max)
        return self._reader.read(op)

    # --- the end of a transaction with intents or a record ---------------------------------

    def _end(self, end: EndTxn, reply: Reply) -> None:
        txn = self._txn
        assert txn is not None, "EndTxn outside a transaction"
        if not end.commit:
            end_abort(self._state, txn, end, self.change)
            return
        self.must_sync = True
        done = finished_commit_ts(self._state, txn)
        if done is not None:
            reply.write_ts = done
            self.change.release.append(txn.id)
            return
        named = named_outcome(self._state, end.commit_key, txn.id) if end.commit_key else 0
        if named:
            # Committed before under this name: what this attempt wrote goes away.
            self._provisional = None
            end_abort(self._state, txn, end, self.change)
            reply.write_ts = named
            return
        self._commit(txn, end, reply)

    def _commit(self, txn: TxnMeta, end: EndTxn, reply: Reply) -> None:
        state = self._state
        commit_ts = commit_floor(state, txn)
        if self._provisional is not None:
            self._provisional.write_ts = max(self._provisional.write_ts, commit_ts)
            commit_ts = self._provisional.write_ts
        check_deadline(end, commit_ts)
        if commit_ts > txn.read_ts:
            if not end.can_forward and commit_ts > max(txn.write_ts, txn.read_ts):
                raise TxnRetry("the transaction cannot move its read timestamp", reason="cannot_forward")
            for op in self._late_refreshes:
                check_refresh(state, txn.id, op, commit_ts)
            for key in state.locks.held_by(txn.id):
                state.tscache.add(key, commit_ts, txn.id)
        assert are_settled(state, txn, commit_ts), f"a run is not at {commit_ts=}"
        end = self._with_own_writes(txn, end)
        reply.staged = end_commit(state, txn, end, commit_ts, self.change)
        reply.write_ts = commit_ts

    def _with_own_writes(self, txn: TxnMeta, end: EndTxn) -> EndTxn:
        """Writes the batch's intents; names them, and all that is known here, in the end."""
        listed = dict.fromkeys([key for key, _ in end.in_flight])
        keys = dict.fromkeys(end.intents)
        spans = dict.fromkeys(end.intent_spans)
        if self._provisional is not None:
            keys.update(dict.fromkeys(self._provisional.write()))
            spans.update(dict.fromkeys([(span.start, span.end) for span in self.change.span_intents]))
        keys.update(dict.fromkeys(self._state.intents.keys_of(txn.id)))
        spans.update(dict.fromkeys(self._state.intents.spans_of(txn.id)))
        return msgspec.structs.replace(
            end, intents=tuple([key for key in keys if key not in listed]), intent_spans=tuple(spans)
        )


__all__ = ["END", "KINDS", "OTHER", "READ", "WRITE", "General", "TxnStatus", "is_one_phase"]
