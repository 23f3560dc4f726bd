"""Making a new store, and loading one into memory.

A fresh store begins with one range that covers everything, the meta ranges included, and
with a name of its own.  The local family, by first byte:

    b"h"  upper bound of the clock      b"k"  named commits        b"p"  poisoned transactions
    b"i"  identity                      b"r"  range states         b"s"  range statistics
    b"n"  next range id                 b"t"  range tombstones     b"x"  transaction records
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import Struct

from base.seams import CF_LOCAL, Rng, Scheduler
from kvtier import mvcc
from kvtier.descriptors import KEY_MAX, RangeDescriptor, ReplicaPlace, encode_descriptor
from kvtier.engine.batch import OpBatch
from kvtier.engine.contract import StoreEngine
from kvtier.messages import TxnMeta
from kvtier.meta import entry_keys
from kvtier.mvcc.intents import intents_in, span_intents_in
from kvtier.records import decode_record
from kvtier.replica import STATE_PREFIX, RangeState, Replica, decode_state, encode_state, state_key
from kvtier.runindex import Run, SpanIntent
from kvtier.state import StoreState
from kvtier.transactions import POISON_PREFIX, RECORD_PREFIX

IDENTITY_KEY: Final = b"i"
HLC_BOUND_KEY: Final = b"h"
NEXT_RANGE_ID_KEY: Final = b"n"


class StoreIdentity(Struct, array_like=True):
    """Who a store is; never changes."""

    cluster_id: bytes
    node_id: int
    store_id: int


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(StoreIdentity)


def is_fresh(engine: StoreEngine) -> bool:
    """True if the engine holds no store yet."""
    return engine.get(CF_LOCAL, IDENTITY_KEY) is None


def bootstrap(engine: StoreEngine, rng: Rng, node_id: int, now: int) -> None:
    """Writes a new store: identity and one range over everything; durable on return."""
    batch = OpBatch()
    identity = StoreIdentity(rng.bytes(16), node_id, node_id)
    put_identity(batch, identity)
    put_first_range(batch, RangeDescriptor(1, 1, b"", KEY_MAX, (ReplicaPlace(node_id, identity.store_id, 1),)), now)
    engine.write(batch)
    engine.sync()


def put_identity(batch: OpBatch, identity: StoreIdentity) -> None:
    """Writes who a store is."""
    batch.put(CF_LOCAL, IDENTITY_KEY, _encoder.encode(identity))


def put_first_range(batch: OpBatch, descriptor: RangeDescriptor, now: int) -> None:
    """Writes the one range a cluster begins with, and its meta entries."""
    put_range(batch, RangeState(descriptor))
    put_meta(batch, descriptor, now)
    batch.put(CF_LOCAL, NEXT_RANGE_ID_KEY, (descriptor.range_id + 1).to_bytes(8, "big"))


def put_range(batch: OpBatch, state: RangeState) -> None:
    """Writes a range's state."""
    batch.put(CF_LOCAL, state_key(state.descriptor.range_id), encode_state(state))


def put_meta(batch: OpBatch, descriptor: RangeDescriptor, now: int) -> None:
    """Writes a descriptor's meta entries, as of ``now``."""
    for key in entry_keys(descriptor):
        mvcc.put_version(batch, key, now, encode_descriptor(descriptor))


def local_rows(engine: StoreEngine, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """Yields the local keys (without the one-byte prefix) from ``start`` on, and their values, of one kind."""
    iterator = engine.iterator(CF_LOCAL, prefix, bytes((prefix[0] + 1,)))
    iterator.seek(prefix + start)
    try:
        while iterator.valid():
            yield iterator.key()[1:], iterator.value()
            iterator.next()
        iterator.check()
    finally:
        iterator.close()


def load(state: StoreState, scheduler: Scheduler) -> StoreIdentity:
    """Loads ranges, intents, records and tombstones; returns the store's identity."""
    engine = state.engine
    for _, stored in local_rows(engine, STATE_PREFIX):
        replica = Replica(decode_state(stored), scheduler)
        stored_stats = engine.get(CF_LOCAL, replica.stats_key)
        if stored_stats is None:
            replica.count(*mvcc.stats(engine, replica.start, replica.end).as_tuple())
        else:
            replica.load_stats(stored_stats)
        state.ranges.add(replica)
        state.gc_high = max(state.gc_high, replica.gc_threshold)
    for _, stored in local_rows(engine, RECORD_PREFIX):
        record = decode_record(stored)
        state.records[record.id] = record
    for txn_id, stored in local_rows(engine, POISON_PREFIX):
        state.poison(txn_id, int.from_bytes(stored, "big"))
    state.tombstones.load(engine)
    load_intents(state)
    identity = engine.get(CF_LOCAL, IDENTITY_KEY)
    assert identity is not None, "a store without identity"
    return _decoder.decode(identity)


def load_intents(state: StoreState, start: bytes = b"", end: bytes = b"") -> None:
    """Enters the stored intents of [start, end) into the index; b"" is no end."""
    shared: dict[tuple[bytes, int], TxnMeta] = {}
    for key, intent in intents_in(state.engine, start, end):
        txn = shared.setdefault((intent.txn_id, intent.epoch), intent.meta())
        state.intents.add(key, txn, intent.write_ts, intent.history[-1][0])
    for lower, intent in span_intents_in(state.engine, start, end):
        txn = shared.setdefault((intent.txn_id, intent.epoch), intent.meta())
        for seq, upper in intent.history:
            if upper is not None:
                state.intents.add_span(SpanIntent(txn, lower, upper, intent.write_ts, seq))
    for lower, run in mvcc.stored_runs(state.engine, start, end):
        txn = shared.setdefault((run.txn_id, run.epoch), run.meta())
        state.intents.runs.add(Run(txn, lower, run.end, run.write_ts, run.top_ts, run.seq))
