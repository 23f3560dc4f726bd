"""Evaluation on transaction records: heartbeat, push, recovery, and the end with a record.

Who asks what of a record:

    coordinator   Heartbeat while it lives, EndTxn at the end
    a waiter      Push, when it met an intent
    a recoverer   QueryIntent on every in-flight write, then Recover

Push, by what the record says:

    none, young          PENDING: the transaction has not written one yet
    none, old            aborted: it was abandoned before it wrote one
    PENDING, alive       moved above the reader if it is not SERIALIZABLE (its commit needs no
                         refresh), else left alone: the pusher waits in the key's queue
    PENDING, expired     ABORTED
    STAGING, alive       left alone
    STAGING, expired     left alone, but the store starts recovery
    final                the pusher resolves the intent it met

Whether a missing record means "not yet" or "no longer" is decided by ``Finished`` (reliability 14).

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from typing import Final

import msgspec

from base.errors import TxnAborted, TxnRetry
from base.hlc import LOGICAL_BITS
from base.seams import CF_LOCAL
from kvtier.change import Change
from kvtier.messages import (
    EndTxn,
    Heartbeat,
    Isolation,
    Push,
    PushResult,
    Recover,
    TxnMeta,
    TxnStatus,
)
from kvtier.records import TxnRecord, begin_of, encode_record, new_record
from kvtier.state import StoreState

RECORD_PREFIX: Final = b"x"
COMMIT_KEY_PREFIX: Final = b"k"
POISON_PREFIX: Final = b"p"


def record_key(txn_id: bytes) -> bytes:
    """Returns the local key of a transaction's record."""
    return RECORD_PREFIX + txn_id


def commit_key_key(commit_key: str) -> bytes:
    """Returns the local key of a named commit's outcome."""
    return COMMIT_KEY_PREFIX + commit_key.encode()


def named_outcome(state: StoreState, commit_key: str, txn_id: bytes) -> int:
    """Returns the timestamp a commit of this name got, 0 if there was none.

    Raises TxnRetry while another transaction of this name is between STAGING and COMMITTED.
    """
    for record in state.records.values():
        if record.commit_key == commit_key and record.id != txn_id and record.status == TxnStatus.STAGING:
            raise TxnRetry(f'a transaction named "{commit_key}" is committing', reason="commit_key_in_use")
    return int.from_bytes(state.engine.get(CF_LOCAL, commit_key_key(commit_key)) or b"", "big")


def put_outcome(change: Change, commit_key: str, commit_ts: int) -> None:
    """Keeps the outcome of a named commit."""
    change.batch.put(CF_LOCAL, commit_key_key(commit_key), commit_ts.to_bytes(8, "big"))


def put_record(change: Change, record: TxnRecord) -> None:
    """Writes a record."""
    change.batch.put(CF_LOCAL, record_key(record.id), encode_record(record))
    change.records.append(record)


def drop_record(change: Change, record: TxnRecord) -> None:
    """Deletes the record of a transaction none of whose intents is left (reliability 13)."""
    change.batch.delete(CF_LOCAL, record_key(record.id))
    change.records_dropped.append(record.id)


def is_expired(state: StoreState, last_sign_of_life: int, now: int) -> bool:
    """True if a transaction last heard of then may be finished by anyone."""
    return now - last_sign_of_life > int(state.settings.txn_expiry_seconds * 1e6) << LOGICAL_BITS


def require_new(state: StoreState, txn: TxnMeta) -> None:
    """Raises TxnAborted unless a transaction without a record certainly never ended."""
    if not state.finished.may_begin(txn):
        raise TxnAborted(reason="possible_replay")


def heartbeat(state: StoreState, op: Heartbeat, txn: TxnMeta, change: Change) -> TxnStatus:
    """Renews a record, or writes the first one; returns its status."""
    record = state.records.get(txn.id)
    if record is None:
        outcome = state.finished.outcome(txn.id)
        if outcome is not None:
            return TxnStatus.COMMITTED if outcome else TxnStatus.ABORTED
        require_new(state, txn)
        put_record(change, new_record(_anchored(txn, op.key), TxnStatus.PENDING, op.now))
        return TxnStatus.PENDING
    if record.is_final() or op.now <= record.heartbeat:
        return record.status
    put_record(change, msgspec.structs.replace(record, heartbeat=op.now))
    return record.status


def _anchored(txn: TxnMeta, key: bytes) -> TxnMeta:
    return txn if txn.anchor else msgspec.structs.replace(txn, anchor=key)


def push(state: StoreState, op: Push, change: Change) -> PushResult:
    """Evaluates a push, and notes who waits; see the table in the module docstring."""
    now = op.now or state.now()
    if op.query:
        record = state.records.get(op.pushee.id)
        status = TxnStatus.PENDING if record is None else record.status
        waiting = dict.fromkeys([*state.dependents.of(op.pushee.id, now), *state.locks.dependents(op.pushee.id)])
        return PushResult(status, dependents=tuple(waiting))
    result = _push(state, op, change, now)
    if op.pusher:
        if result.status >= TxnStatus.COMMITTED:
            state.dependents.forget(op.pushee.id)
        else:
            state.dependents.note(op.pushee.id, [op.pusher, *op.dependents], now)
    return result


def _push(state: StoreState, op: Push, change: Change, now: int) -> PushResult:
    pushee = op.pushee
    record = state.records.get(pushee.id)
    if record is None:
        outcome = state.finished.outcome(pushee.id)
        if outcome is not None:
            return PushResult(TxnStatus.COMMITTED if outcome else TxnStatus.ABORTED, outcome)
        last_seen = max(begin_of(pushee), pushee.write_ts)
        if not state.finished.may_begin(pushee) or op.abort or is_expired(state, last_seen, now):
            return _abort(new_record(_anchored(pushee, op.key), TxnStatus.ABORTED, now), change)
        record = new_record(_anchored(pushee, op.key), TxnStatus.PENDING, last_seen)
    if record.status != TxnStatus.PENDING:
        commit_ts = record.write_ts if record.status == TxnStatus.COMMITTED else 0
        return PushResult(record.status, commit_ts, record.ignored)
    if op.abort or is_expired(state, record.heartbeat, now):
        return _abort(msgspec.structs.replace(record, status=TxnStatus.ABORTED), change)
    if op.push_to > record.write_ts and record.isolation != Isolation.SERIALIZABLE:
        put_record(change, msgspec.structs.replace(record, write_ts=op.push_to))
        return PushResult(TxnStatus.PENDING, op.push_to)
    return PushResult(TxnStatus.PENDING, record.write_ts)


def _abort(record: TxnRecord, change: Change) -> PushResult:
    put_record(change, record)
    change.finished.append((record.id, 0))
    change.release.append(record.id)
    return PushResult(TxnStatus.ABORTED)


def recover(state: StoreState, op: Recover, change: Change) -> TxnStatus:
    """Finishes a STAGING record by what was found of its in-flight writes (reliability 11)."""
    record = state.records.get(op.txn.id)
    if record is None:
        outcome = state.finished.outcome(op.txn.id)
        return TxnStatus.COMMITTED if outcome else TxnStatus.ABORTED
    if record.is_final():
        assert record.status == TxnStatus.COMMITTED or not op.implicitly_committed, f"aborted but committed: {record!r}"
        return record.status
    if record.status == TxnStatus.PENDING:
        # The coordinator went on at a higher epoch or timestamp: what was queried is out of date.
        return record.status
    if op.implicitly_committed:
        finish_commit(record, record.write_ts, change)
        return TxnStatus.COMMITTED
    if record.write_ts > op.txn.write_ts or record.epoch > op.txn.epoch:
        return record.status  # Staged again meanwhile.
    put_record(change, msgspec.structs.replace(record, status=TxnStatus.ABORTED, in_flight=(), intents=record.keys()))
    change.finished.append((record.id, 0))
    change.release.append(record.id)
    return TxnStatus.ABORTED


def finish_commit(record: TxnRecord, commit_ts: int, change: Change) -> None:
    """Makes a record COMMITTED, all of its writes being proven."""
    done = msgspec.structs.replace(
        record, status=TxnStatus.COMMITTED, write_ts=commit_ts, in_flight=(), intents=record.keys()
    )
    put_record(change, done)
    change.finished.append((record.id, commit_ts))
    change.release.append(record.id)
    if record.commit_key:
        put_outcome(change, record.commit_key, commit_ts)
    change.commit_ts = commit_ts


def finished_commit_ts(state: StoreState, txn: TxnMeta) -> int | None:
    """Returns the commit timestamp if the transaction has committed; raises TxnAborted if it was aborted."""
    record = state.records.get(txn.id)
    if record is not None and record.is_final():
        if record.status == TxnStatus.COMMITTED:
            return record.write_ts
        raise TxnAborted(reason="aborted_record")
    outcome = state.finished.outcome(txn.id)
    if outcome == 0:
        raise TxnAborted(reason="aborted_record")
    return outcome


def end_commit(state: StoreState, txn: TxnMeta, end: EndTxn, commit_ts: int, change: Change) -> bool:
    """Writes a STAGING (True) or COMMITTED (False) record at a timestamp the caller has checked."""
    record = state.records.get(txn.id)
    now = state.now()
    if record is None:
        require_new(state, txn)
        record = new_record(txn, TxnStatus.PENDING, now)
    record = msgspec.structs.replace(
        record,
        epoch=txn.epoch,
        write_ts=commit_ts,
        heartbeat=max(now, record.heartbeat),
        in_flight=end.in_flight,
        intents=end.intents,
        intent_spans=end.intent_spans,
        ignored=txn.ignored,
        commit_key=end.commit_key,
    )
    if end.in_flight:
        put_record(change, msgspec.structs.replace(record, status=TxnStatus.STAGING))
        change.commit_ts = commit_ts
        return True
    finish_commit(record, commit_ts, change)
    return False


def commit_floor(state: StoreState, txn: TxnMeta) -> int:
    """Returns the lowest commit timestamp the record's pushes and staging allow."""
    record = state.records.get(txn.id)
    return max(txn.write_ts, txn.read_ts, record.write_ts if record is not None else 0)


def check_deadline(end: EndTxn, commit_ts: int) -> None:
    """Raises TxnRetry if the commit would come too late."""
    if end.deadline and commit_ts >= end.deadline:
        raise TxnRetry(f"commit timestamp {commit_ts} is past the deadline {end.deadline}", reason="deadline")


def end_abort(state: StoreState, txn: TxnMeta, end: EndTxn, change: Change) -> None:
    """Rolls a transaction back: a record as long as intents are left, its locks at once."""
    change.release.append(txn.id)
    record = state.records.get(txn.id)
    is_committed = record.status == TxnStatus.COMMITTED if record is not None else state.finished.outcome(txn.id)
    if is_committed:
        raise TxnRetry("the transaction has already committed", reason="already_committed")
    keys = dict.fromkeys(end.intents + tuple([key for key, _ in end.in_flight]))
    keys.update(dict.fromkeys(state.intents.keys_of(txn.id)))
    if record is not None:
        keys.update(dict.fromkeys(record.keys()))
    spans = dict.fromkeys(end.intent_spans + tuple(state.intents.spans_of(txn.id)))
    if record is None and not keys and not spans:
        return
    if record is None:
        record = new_record(txn, TxnStatus.PENDING, state.now())
    put_record(
        change,
        msgspec.structs.replace(
            record, status=TxnStatus.ABORTED, in_flight=(), intents=tuple(keys), intent_spans=tuple(spans)
        ),
    )
    change.finished.append((txn.id, 0))
