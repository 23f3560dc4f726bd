"""Intents: what a transaction has written and not yet committed.

One intent per key, in the lock family, with the history of what the transaction wrote
there, so that rolling back to a savepoint restores the earlier value (reliability 32):

    history    (3, b"x")  (5, None)  (9, b"y")          sequence number, value
    reads of the transaction at seq 7, nothing ignored      -> None (deleted)
    ... with (4, 6) ignored                                 -> b"x"
    commit with (8, 10) and (4, 6) ignored                  -> version b"x"
    commit with (1, 10) ignored                             -> no version at all

A deleted span is one intent at the span's start, with (seq, end) as history; the
transaction's own point intents inside get (seq, None) appended, so that a point intent's
history alone always says what its key holds, and order within the transaction survives.

An intent belongs to an epoch.  A transaction that restarted does not see what its earlier
epochs wrote, and overwrites it.

Functions write into a batch and change nothing else; keeping an index of intents in memory
is the store's affair.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from base.seams import CF_LOCK
from kvtier.engine.batch import OpBatch
from kvtier.engine.contract import StoreEngine
from kvtier.messages import Isolation, TxnMeta, TxnStatus
from kvtier.mvcc.tombstones import put_range_tombstone
from kvtier.mvcc.versions import put_version

POINT_PREFIX: Final = b"i"
SPAN_PREFIX: Final = b"s"
"""Prefixes b"i" and b"s" of CF_LOCK are ours; b"r" is that of runs."""
_POINTS_END: Final = b"j"
_SPANS_END: Final = b"t"
HISTORY_MAX: Final = 10_000
"""Writes of one transaction to one key that are remembered; only savepoints need more than one."""

Ignored = tuple[tuple[int, int], ...]


class Missing:
    """The class of MISSING: a transaction has nothing visible of its own at a key."""


MISSING: Final = Missing()


class Intent(Struct, array_like=True):
    """The stored form; ``history`` ascends by sequence number and is not empty.

    In an intent over a span the values of the history are span ends, and None never occurs.
    """

    txn_id: bytes
    epoch: int
    write_ts: int
    history: list[tuple[int, bytes | None]]
    anchor: bytes = b""
    isolation: Isolation = Isolation.SERIALIZABLE
    priority: int = 1
    start_ts: int = 0

    def meta(self) -> TxnMeta:
        """Returns what is known of the transaction, for pushing it and for an index."""
        return TxnMeta(
            self.txn_id,
            self.isolation,
            self.epoch,
            seq=self.history[-1][0],
            read_ts=self.write_ts,
            write_ts=self.write_ts,
            priority=self.priority,
            anchor=self.anchor,
            start_ts=self.start_ts,
        )


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Intent)


def is_ignored(seq: int, ignored: Ignored) -> bool:
    """True if a savepoint rolled this sequence number back."""
    return any([lower <= seq <= upper for lower, upper in ignored])  # compiles to a plain loop


# --- reading ---------------------------------------------------------------------------


def get_intent(engine: StoreEngine, key: bytes) -> Intent | None:
    """Returns the intent of a key."""
    stored = engine.get(CF_LOCK, POINT_PREFIX + key)
    return None if stored is None else _decoder.decode(stored)


def get_span_intent(engine: StoreEngine, start: bytes) -> Intent | None:
    """Returns the intent over spans that start at exactly ``start``."""
    stored = engine.get(CF_LOCK, SPAN_PREFIX + start)
    return None if stored is None else _decoder.decode(stored)


def intents_in(engine: StoreEngine, start: bytes, end: bytes, limit: int = 0) -> list[tuple[bytes, Intent]]:
    """Returns (key, intent) of [start, end), in order; ``end`` b"" is unbounded, ``limit`` 0 no limit."""
    return _read(engine, POINT_PREFIX + start, POINT_PREFIX + end if end else _POINTS_END, limit)


def span_intents_in(engine: StoreEngine, start: bytes, end: bytes) -> list[tuple[bytes, Intent]]:
    """Returns (span start, intent) of the intents over spans that overlap [start, end)."""
    found = _read(engine, SPAN_PREFIX, SPAN_PREFIX + end if end else _SPANS_END, 0)
    return [(lower, intent) for lower, intent in found if max(span_ends(intent)) > start]


def span_ends(intent: Intent) -> list[bytes]:
    """Returns the ends of a span intent's history."""
    return [end for _, end in intent.history if end is not None]


def _read(engine: StoreEngine, lower: bytes, upper: bytes, limit: int) -> list[tuple[bytes, Intent]]:
    found: list[tuple[bytes, Intent]] = []
    cursor = engine.point_iterator(CF_LOCK)
    cursor.seek(lower)
    key = cursor.key()
    while key is not None and key < upper:
        found.append((key[1:], _decoder.decode(cursor.value())))  # type: ignore[arg-type]  # positioned
        if len(found) == limit:
            return found
        cursor.next()
        key = cursor.key()
    if key is None:
        cursor.status()
    return found


def own_value(intent: Intent, txn: TxnMeta) -> bytes | Missing | None:
    """Returns what the transaction itself sees at the key of its intent; None is a deletion.

    MISSING if nothing of the history is visible (another epoch, later, or rolled back):
    then the committed value is.
    """
    assert intent.txn_id == txn.id, f"{intent=} {txn=}"
    if intent.epoch != txn.epoch:
        return MISSING
    for seq, value in reversed(intent.history):
        if seq <= txn.seq and not is_ignored(seq, txn.ignored):
            return value
    return MISSING


def own_writes(
    engine: StoreEngine, start: bytes, end: bytes, txn: TxnMeta
) -> tuple[dict[bytes, bytes | None], list[tuple[bytes, bytes]]]:
    """Returns what ``scan_own`` wants: the transaction's visible values and deleted spans of [start, end)."""
    values: dict[bytes, bytes | None] = {}
    for key, intent in intents_in(engine, start, end):
        if intent.txn_id == txn.id:
            value = own_value(intent, txn)
            if not isinstance(value, Missing):
                values[key] = value
    deleted: list[tuple[bytes, bytes]] = []
    for lower, intent in span_intents_in(engine, start, end):
        if intent.txn_id == txn.id and intent.epoch == txn.epoch:
            for seq, upper in intent.history:
                if upper is not None and seq <= txn.seq and not is_ignored(seq, txn.ignored):
                    deleted.append((lower, upper))
    return values, deleted


# --- writing ---------------------------------------------------------------------------


def write_intent(
    batch: OpBatch, key: bytes, txn: TxnMeta, write_ts: int, seq: int, value: bytes | None, prior: Intent | None
) -> Intent:
    """Writes a value (None: a deletion) as an intent; returns it.

    ``prior`` is the key's intent, which must be the transaction's own or None.  A write
    that is already in the history is a replay and changes nothing.  The timestamp never
    goes back (reliability 20).
    """
    intent = _extended(txn, write_ts, seq, value, prior)
    batch.put(CF_LOCK, POINT_PREFIX + key, _encoder.encode(intent))
    return intent


def _extended(txn: TxnMeta, write_ts: int, seq: int, value: bytes | None, prior: Intent | None) -> Intent:
    history: list[tuple[int, bytes | None]] = [(seq, value)]
    if prior is not None:
        assert prior.txn_id == txn.id, f"{prior=} {txn=}"
        assert prior.epoch <= txn.epoch, f"{prior=} {txn=}"
        write_ts = max(write_ts, prior.write_ts)
        if prior.epoch == txn.epoch:
            history = _appended(prior.history, seq, value, txn.ignored)
    return Intent(txn.id, txn.epoch, write_ts, history, txn.anchor, txn.isolation, txn.priority, txn.start_ts)


def _appended(
    history: list[tuple[int, bytes | None]], seq: int, value: bytes | None, ignored: Ignored
) -> list[tuple[int, bytes | None]]:
    last = history[-1][0]
    if seq <= last:
        same = [entry for entry in history if entry[0] == seq]
        assert same == [(seq, value)], f"replay differs or out of order: {seq=} {value=} {history=}"
        return history
    # What is rolled back can never come back: dropping it keeps histories short.
    kept = [entry for entry in history if not is_ignored(entry[0], ignored)]
    assert len(kept) < HISTORY_MAX, f"{len(kept)=}"
    return [*kept, (seq, value)]


def write_span_intent(
    engine: StoreEngine, batch: OpBatch, start: bytes, end: bytes, txn: TxnMeta, write_ts: int, seq: int
) -> list[tuple[bytes, Intent]]:
    """Writes the deletion of [start, end) as an intent; returns the point intents it changed.

    No other transaction's intent may be inside.  Own intents written earlier in the same
    batch are not seen: write them first, or in another batch.
    """
    assert start < end, f"{start=} {end=}"
    prior = get_span_intent(engine, start)
    intent = _extended(txn, write_ts, seq, end, prior)
    batch.put(CF_LOCK, SPAN_PREFIX + start, _encoder.encode(intent))
    changed: list[tuple[bytes, Intent]] = []
    for key, point in intents_in(engine, start, end):
        assert point.txn_id == txn.id, f"{key=} {point=}"
        if point.history[-1][0] < seq or point.epoch < txn.epoch:
            changed.append((key, write_intent(batch, key, txn, write_ts, seq, None, point)))
    return changed


# --- resolving -------------------------------------------------------------------------


def resolve_intent(
    engine: StoreEngine, batch: OpBatch, key: bytes, txn: TxnMeta, status: TxnStatus, commit_ts: int = 0
) -> Intent | None:
    """Ends, moves or rolls back the transaction's intent at a key; returns it, or None if there was none.

    COMMITTED: the newest value of the transaction's epoch that is not in ``txn.ignored``
    becomes a version at ``commit_ts``.  ABORTED: removed.  PENDING: what is ignored leaves
    the history, and the timestamp rises to ``commit_ts`` (a push).
    """
    intent = get_intent(engine, key)
    if intent is None or intent.txn_id != txn.id:
        return None
    if status == TxnStatus.PENDING:
        _keep_pending(batch, POINT_PREFIX + key, intent, txn, commit_ts)
        return intent
    batch.delete(CF_LOCK, POINT_PREFIX + key)
    if status == TxnStatus.COMMITTED and intent.epoch == txn.epoch:
        for _, value in reversed(_kept(intent, txn.ignored)):
            put_version(batch, key, commit_ts, value)
            break
    return intent


def resolve_span_intents(
    engine: StoreEngine,
    batch: OpBatch,
    start: bytes,
    end: bytes,
    txn: TxnMeta,
    status: TxnStatus,
    commit_ts: int = 0,
) -> list[tuple[bytes, Intent]]:
    """Does to the transaction's span intents that start in [start, end) what ``resolve_intent`` does.

    COMMITTED writes range tombstones at ``commit_ts``.  Returns (span start, intent) of each.
    The point intents inside are resolved on their own, before or after.
    """
    found = [
        (lower, intent)
        for lower, intent in _read(engine, SPAN_PREFIX + start, SPAN_PREFIX + end if end else _SPANS_END, 0)
        if intent.txn_id == txn.id
    ]
    for lower, intent in found:
        if status == TxnStatus.PENDING:
            _keep_pending(batch, SPAN_PREFIX + lower, intent, txn, commit_ts)
            continue
        batch.delete(CF_LOCK, SPAN_PREFIX + lower)
        if status == TxnStatus.COMMITTED and intent.epoch == txn.epoch:
            kept = Intent(intent.txn_id, 0, 0, _kept(intent, txn.ignored))
            if kept.history:
                _put_tombstone(batch, lower, max(span_ends(kept)), commit_ts)
    return found


def _put_tombstone(batch: OpBatch, start: bytes, end: bytes, ts: int) -> None:
    # Point intents know by their history whether they come after the deletion: versions
    # of this batch must stay as they are, so the record goes in beside them.
    record = OpBatch()
    put_range_tombstone(record, start, end, ts)
    batch.extend(record)


def _kept(intent: Intent, ignored: Ignored) -> list[tuple[int, bytes | None]]:
    return [entry for entry in intent.history if not is_ignored(entry[0], ignored)]


def _keep_pending(batch: OpBatch, stored_key: bytes, intent: Intent, txn: TxnMeta, push_ts: int) -> None:
    history = _kept(intent, txn.ignored) if intent.epoch == txn.epoch else intent.history
    if not history:
        batch.delete(CF_LOCK, stored_key)
        return
    if len(history) == len(intent.history) and push_ts <= intent.write_ts:
        return
    moved = Intent(
        intent.txn_id,
        intent.epoch,
        max(intent.write_ts, push_ts),
        history,
        intent.anchor,
        intent.isolation,
        intent.priority,
        intent.start_ts,
    )
    batch.put(CF_LOCK, stored_key, _encoder.encode(moved))
