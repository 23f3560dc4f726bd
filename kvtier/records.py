"""Transaction records: the one place that says whether a transaction committed.

                 heartbeat                      all in-flight writes proven
    (none) ----> PENDING ----------> STAGING ---------------------------> COMMITTED
       |            |                   |                                      |
       |            | push, rollback    | recovery prevented a write           | every intent
       v            v                   v                                      v resolved
      EndTxn     ABORTED <--------------+                                  (deleted)

A record exists only for transactions that hold intents or must outlive a coordinator;
one-phase commits never have one.  It lives in the local family of the store of its
anchor key, and a copy of every record is kept in memory.

A record is deleted only after every intent it answers for has been resolved and that
resolution has been applied (reliability 13): an intent without a record means "abandoned
before the record was written", and is aborted.

``Finished`` remembers transactions that ended, so that a message that arrives late or twice
cannot bring one back (reliability 6, 14).  It is bounded: a transaction that began
at or before ``low_water`` and has no record may have been forgotten, and may not create one.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from kvtier.messages import Isolation, TxnMeta, TxnStatus

FINISHED_MAX: Final = 50_000
"""Finished transactions remembered: about 10 MB, some seconds of commits at full speed."""


class TxnRecord(Struct, array_like=True):
    """The stored form; see the module docstring."""

    id: bytes
    anchor: bytes
    status: TxnStatus
    epoch: int
    isolation: Isolation
    priority: int
    start_ts: int
    write_ts: int
    """PENDING: lower bound of the commit timestamp (pushes raise it).  COMMITTED, STAGING: the commit timestamp."""
    heartbeat: int
    """HLC time of the last sign of life."""
    in_flight: tuple[tuple[bytes, int], ...] = ()
    intents: tuple[bytes, ...] = ()
    intent_spans: tuple[tuple[bytes, bytes], ...] = ()
    ignored: tuple[tuple[int, int], ...] = ()
    """Sequence numbers rolled back by savepoints (reliability 32)."""
    commit_key: str = ""
    """The client's name for the transaction."""

    def is_final(self) -> bool:
        """True if COMMITTED or ABORTED."""
        return self.status >= TxnStatus.COMMITTED

    def meta(self) -> TxnMeta:
        """Returns what ranges need to know to resolve this transaction's intents."""
        return TxnMeta(
            self.id,
            self.isolation,
            self.epoch,
            read_ts=self.write_ts,
            write_ts=self.write_ts,
            priority=self.priority,
            anchor=self.anchor,
            ignored=self.ignored,
            start_ts=self.start_ts,
        )

    def keys(self) -> tuple[bytes, ...]:
        """Returns the keys of all its intents, proven or in flight."""
        return self.intents + tuple([key for key, _ in self.in_flight])


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(TxnRecord)


def encode_record(record: TxnRecord) -> bytes:
    """Returns the stored form."""
    return _encoder.encode(record)


def decode_record(stored: bytes) -> TxnRecord:
    """Raises msgspec.ValidationError on anything else."""
    return _decoder.decode(stored)


def new_record(txn: TxnMeta, status: TxnStatus, now: int) -> TxnRecord:
    """Returns the first record of a transaction."""
    return TxnRecord(
        txn.id,
        txn.anchor,
        status,
        txn.epoch,
        txn.isolation,
        txn.priority,
        begin_of(txn),
        max(txn.write_ts, txn.read_ts),
        now,
        ignored=txn.ignored,
    )


def begin_of(txn: TxnMeta) -> int:
    """Returns the timestamp that says how old a transaction is."""
    return txn.start_ts or txn.read_ts


class Finished:
    """Outcomes of ended transactions, the oldest forgotten first."""

    def __init__(self, low_water: int, limit: int = FINISHED_MAX) -> None:
        self.low_water = low_water
        self._limit = limit
        self._outcomes: dict[bytes, tuple[int, int]] = {}
        """Transaction -> (commit timestamp or 0 if aborted, HLC time noted)."""

    def add(self, txn_id: bytes, commit_ts: int, now: int) -> None:
        """Remembers an outcome; ``commit_ts`` 0 is aborted.  Committed is never overwritten."""
        outcomes = self._outcomes
        if txn_id in outcomes and outcomes[txn_id][0]:
            return
        outcomes[txn_id] = (commit_ts, now)
        if len(outcomes) > self._limit:
            oldest = next(iter(outcomes))
            noted = outcomes.pop(oldest)[1]
            if noted > self.low_water:
                self.low_water = noted

    def outcome(self, txn_id: bytes) -> int | None:
        """Returns the commit timestamp, 0 for aborted, or None if nothing is remembered."""
        found = self._outcomes.get(txn_id)
        return None if found is None else found[0]

    def may_begin(self, txn: TxnMeta) -> bool:
        """True if a transaction without record certainly never ended before."""
        return txn.id not in self._outcomes and begin_of(txn) > self.low_water
