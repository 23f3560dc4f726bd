"""The stored form of a run, and the versions inside one.

    lock family   b"r" | start  ->  StoredRun

The rows of a run are versions in the data family, written before their transaction has
committed: whoever reads there asks the index of runs first (``kvtier.runs``).
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from base.seams import CF_DATA, CF_LOCK
from kvtier.engine.batch import DELETE, PUT, OpBatch
from kvtier.engine.contract import StoreEngine
from kvtier.messages import Isolation, TxnMeta
from kvtier.mvcc.versions import SUFFIX, from_stored, suffix_of

RUN_PREFIX: Final = b"r"
_RUNS_END: Final = b"s"


class StoredRun(Struct, array_like=True):
    """What is kept of a run beside its start."""

    txn_id: bytes
    epoch: int
    end: bytes
    write_ts: int
    top_ts: int
    seq: int
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
            seq=self.seq,
            read_ts=self.write_ts,
            write_ts=self.write_ts,
            priority=self.priority,
            anchor=self.anchor,
            start_ts=self.start_ts,
        )


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(StoredRun)


def put_stored_run(
    batch: OpBatch, start: bytes, end: bytes, txn: TxnMeta, write_ts: int, top_ts: int, seq: int
) -> None:
    """Writes the record of a run."""
    stored = StoredRun(
        txn.id, txn.epoch, end, write_ts, top_ts, seq, txn.anchor, txn.isolation, txn.priority, txn.start_ts
    )
    batch.put(CF_LOCK, RUN_PREFIX + start, _encoder.encode(stored))


def delete_stored_run(batch: OpBatch, start: bytes) -> None:
    """Removes the record of a run."""
    batch.delete(CF_LOCK, RUN_PREFIX + start)


def stored_runs(engine: StoreEngine, start: bytes = b"", end: bytes = b"") -> list[tuple[bytes, StoredRun]]:
    """Returns (start, run) of the runs that start in [start, end), in order; ``end`` b"" is unbounded."""
    found: list[tuple[bytes, StoredRun]] = []
    upper = RUN_PREFIX + end if end else _RUNS_END
    cursor = engine.point_iterator(CF_LOCK)
    cursor.seek(RUN_PREFIX + start)
    key = cursor.key()
    while key is not None and key < upper:
        found.append((key[1:], _decoder.decode(cursor.value())))  # type: ignore[arg-type]  # positioned
        cursor.next()
        key = cursor.key()
    if key is None:
        cursor.status()
    return found


def is_span_empty(engine: StoreEngine, start: bytes, end: bytes) -> bool:
    """True if there is no version at all in [start, end), not even a deleted one."""
    cursor = engine.point_iterator(CF_DATA)
    cursor.seek(start)
    found = cursor.key()
    if found is None:
        cursor.status()
        return True
    return found >= end


def has_version(engine: StoreEngine, keys: list[bytes]) -> bool:
    """True if one of the keys has a version of any kind."""
    cursor = engine.point_iterator(CF_DATA)
    seek, key_of = cursor.seek, cursor.key
    for key in keys:
        seek(key)
        found = key_of()
        if found is None:
            cursor.status()
            return False  # The keys ascend: nothing is above this one.
        if found[:-SUFFIX] == key:
            return True
    return False


def only_version(engine: StoreEngine, key: bytes) -> bytes | None:
    """Returns the value of a key of a run, which has one version at most."""
    cursor = engine.point_iterator(CF_DATA)
    cursor.seek(key)
    found = cursor.key()
    if found is None:
        cursor.status()
        return None
    if found[:-SUFFIX] != key:
        return None
    return from_stored(cursor.value())  # type: ignore[arg-type]  # positioned


def move_versions(
    engine: StoreEngine, batch: OpBatch, start: bytes, end: bytes, to_ts: int, limit: int
) -> tuple[bytes | None, int]:
    """Moves versions of [start, end), one a key, to a timestamp; returns (first key left or None, how many)."""
    suffix = suffix_of(to_ts)
    append = batch.ops.append
    cursor = engine.point_iterator(CF_DATA)
    cursor.seek(start)
    found = cursor.key()
    moved = 0
    while found is not None and found < end:
        if moved == limit:
            return found[:-SUFFIX], moved
        if found[-SUFFIX:] != suffix:
            value = cursor.value()
            assert value is not None, f"{found=}"
            append((DELETE, CF_DATA, found, b""))
            append((PUT, CF_DATA, found[:-SUFFIX] + suffix, value))
            moved += 1
        cursor.next()
        found = cursor.key()
    if found is None:
        cursor.status()
    return None, moved
