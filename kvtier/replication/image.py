"""The image of a range: everything a store keeps of it, as operations on an engine.

A snapshot is the image of the leaseholder's replica, cut into chunks::

    data family    versions of [start, end)
    lock family    intents of keys, of spans and of runs that begin in [start, end)
    local family   range tombstones, records of transactions anchored in [start, end),
                   poisoned transactions and named commits (of the whole store: they are few
                   and cannot be told apart), the statistics
    header         the range's state (descriptor, thresholds), the index it is applied to

``RangeImage`` opens its iterators in one tick, so all of it is of one moment, however slowly
it is then read (reliability 112: it must not be kept for long).

Taking an image in is not one engine batch, it may be large: a marker is made durable first,
then what was there is erased and the chunks are written as they come, and the last batch
removes the marker together with writing the applied index.  A store that finds a marker when it
opens erases the range and waits for another snapshot (reliability 67).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from base.seams import CF_LOCAL, EngineIterator
from kvtier.engine.batch import PUT, OpBatch, Operation
from kvtier.engine.contract import StoreEngine
from kvtier.mvcc.survey import engine_spans
from kvtier.opening import load_intents, local_rows
from kvtier.records import TxnRecord, decode_record
from kvtier.replica import state_key, stats_key
from kvtier.replication.applied import applied_key
from kvtier.state import StoreState
from kvtier.transactions import COMMIT_KEY_PREFIX, POISON_PREFIX, RECORD_PREFIX, record_key

CHUNK_BYTES: Final = 96 << 10
"""Target size of a chunk: below the transport's 128 KB with its frame (design.md section 3)."""


class RangeImage:
    """What a snapshot is made of, read chunk by chunk; see the module docstring."""

    def __init__(self, state: StoreState, start: bytes, end: bytes) -> None:
        engine = state.engine
        self._local = _local_rows_of(state, start, end)
        self._iterators: list[tuple[int, EngineIterator]] = []
        for cf, lower, upper in engine_spans(start, end):
            iterator = engine.iterator(cf, lower, upper)
            iterator.seek(lower)
            self._iterators.append((cf, iterator))

    def chunks(self) -> Iterator[list[Operation]]:
        """Yields the image as puts, some CHUNK_BYTES a time, and closes it at the end."""
        chunk: list[Operation] = []
        size = 0
        try:
            for operation in self._operations():
                chunk.append(operation)
                size += len(operation[2]) + len(operation[3]) + 16
                if size >= CHUNK_BYTES:
                    yield chunk
                    chunk, size = [], 0
            if chunk:
                yield chunk
        finally:
            self.close()

    def _operations(self) -> Iterator[Operation]:
        for key, value in self._local:
            yield (PUT, CF_LOCAL, key, value)
        for cf, iterator in self._iterators:
            while iterator.valid():
                yield (PUT, cf, iterator.key(), iterator.value())
                iterator.next()
            iterator.check()

    def close(self) -> None:
        """Releases what it pins."""
        for _, iterator in self._iterators:
            iterator.close()
        self._iterators = []


def _local_rows_of(state: StoreState, start: bytes, end: bytes) -> list[tuple[bytes, bytes]]:
    """Returns the rows of the local family that go with a range, but for its tombstones."""
    rows: list[tuple[bytes, bytes]] = []
    for record in records_in(state, start, end):
        stored = state.engine.get(CF_LOCAL, record_key(record.id))
        assert stored is not None, record
        rows.append((record_key(record.id), stored))
    for prefix in (POISON_PREFIX, COMMIT_KEY_PREFIX):
        rows.extend([(prefix + key, value) for key, value in local_rows(state.engine, prefix)])
    return rows


def records_in(state: StoreState, start: bytes, end: bytes) -> list[TxnRecord]:
    """Returns the records of transactions anchored in [start, end)."""
    return [record for record in state.records.values() if start <= record.anchor < end]


def erase(batch: OpBatch, state: StoreState, start: bytes, end: bytes) -> None:
    """Removes a range's image from the engine; its local rows by id (state, log) are the caller's."""
    for cf, lower, upper in engine_spans(start, end):
        assert upper is not None, (start, end)
        batch.delete_range(cf, lower, upper)
    for record in records_in(state, start, end):
        batch.delete(CF_LOCAL, record_key(record.id))
    batch.touches_tombstones = True


def erase_rows_of(batch: OpBatch, range_id: int) -> None:
    """Removes a range's state, its applied place and its statistics."""
    batch.delete(CF_LOCAL, applied_key(range_id))
    batch.delete(CF_LOCAL, state_key(range_id))
    batch.delete(CF_LOCAL, stats_key(range_id))


def forget(state: StoreState, start: bytes, end: bytes) -> None:
    """Forgets what memory holds of a range that was erased."""
    for key in state.intents.keys_in(start, end):
        state.intents.remove(key, state.intents.points[key].txn.id)
    for txn in state.intents.transactions():
        state.intents.remove_spans(start, end, txn.id)
    for run in state.intents.runs.over(start, end):
        if run.start >= start:
            state.intents.runs.remove(run.start, run.txn.id)
    for record in records_in(state, start, end):
        del state.records[record.id]
    state.tombstones.load(state.engine)


def remember(state: StoreState, start: bytes, end: bytes) -> None:
    """Loads what an image brought: intents, records, tombstones, poisoned transactions."""
    engine: StoreEngine = state.engine
    state.tombstones.load(engine)
    load_intents(state, start, end)
    for _, stored in local_rows(engine, RECORD_PREFIX):
        record = decode_record(stored)
        if start <= record.anchor < end:
            state.records[record.id] = record
    for txn_id, stored in local_rows(engine, POISON_PREFIX):
        if txn_id not in state.poisoned:
            state.poison(txn_id, int.from_bytes(stored, "big"))
    # What ended here before is not in the image: nobody older may begin now (reliability 14).
    state.finished.low_water = max(state.finished.low_water, state.hlc.latest)
