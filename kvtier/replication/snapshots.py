"""Snapshots between stores: a range's image sent in chunks, and taken in so that a crash loses nothing.

    leaseholder                                    follower
    image opened, raft message held back
    chunk 0 .. n-1   -------- call, one at a time --> staged:  b"z" + range + number -> operations
    last chunk, with the raft message and header --> step(message): does the machine want it?
                                                   marker:  b"m" + range -> header       \\  one batch,
                                                   log and hard state of the snapshot     /  with the Ready
                                                   erase, copy the staged chunks,
                                                   state + applied index, no marker, no staging

The log of the engine has one order, so whatever a crash leaves is a prefix of this: no marker,
and the staged chunks are rubbish; or a marker, and the copy is made again from what is
staged (reliability 67).  The acknowledgement leaves after the sync of all of it.

NB: the copy is made in one tick; about 0.1 s for 64 MB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta, Struct

from base.errors import MeridianError, Overloaded
from base.seams import CF_LOCAL, Transport
from kvtier.descriptors import LEARNER, RangeDescriptor
from kvtier.engine.batch import OpBatch, Operation
from kvtier.opening import local_rows, put_range
from kvtier.raft.messages import ConfState, InstallSnapshot, Snapshot, decode_message, encode
from kvtier.replica import RangeState, Replica, stats_key
from kvtier.replication.applied import get_applied, put_applied
from kvtier.replication.group import Group
from kvtier.replication.image import RangeImage, erase, forget, remember

if TYPE_CHECKING:
    from kvtier.replication.groups import Replication
    from kvtier.store import Store

CHANNEL: Final = "snapshot.chunk"
STAGING_PREFIX: Final = b"z"
MARKER_PREFIX: Final = b"m"
CHUNK_SECONDS_MAX: Final = 10.0
"""A chunk that is not taken by then ends the snapshot; raft tries again (reliability 68)."""
INCOMING_MAX: Final = 16
"""Snapshots a store takes in at once."""
OPERATIONS_MAX: Final = 1 << 16


class Header(Struct, array_like=True):
    """What goes with the image: the range and where its log stands."""

    state: RangeState
    stats: bytes
    index: int
    term: int


class Chunk(Struct, array_like=True, omit_defaults=True):
    """One piece of an image; the last one has the header and the raft message."""

    range_id: int
    token: bytes
    number: int
    operations: Annotated[list[Operation], Meta(max_length=OPERATIONS_MAX)]
    header: Header | None = None
    message: bytes = b""


class Incoming:
    """A snapshot on its way in."""

    __slots__ = ("header", "next_number", "token")

    def __init__(self, token: bytes) -> None:
        self.token = token
        self.next_number = 0
        self.header: Header | None = None


_encoder = msgspec.msgpack.Encoder()
_chunk_decoder = msgspec.msgpack.Decoder(Chunk)
_header_decoder = msgspec.msgpack.Decoder(Header)
_operations_decoder = msgspec.msgpack.Decoder(list[Operation])


def conf_of(descriptor: RangeDescriptor) -> ConfState:
    """Returns the raft configuration that a descriptor describes."""
    voters = sorted([place.replica_id for place in descriptor.replicas if place.kind != LEARNER])
    learners = sorted([place.replica_id for place in descriptor.replicas if place.kind == LEARNER])
    return ConfState(voters=voters, learners=learners)


class Snapshots:
    """See the module docstring."""

    def __init__(self, store: Store, transport: Transport, replication: Replication) -> None:
        self._store = store
        self._transport = transport
        self._replication = replication
        self._outgoing: dict[tuple[int, int], None] = {}
        self._incoming: dict[int, Incoming] = {}
        self.sent = 0
        self.taken = 0
        transport.on_call(CHANNEL, self._take_chunk)

    # --- sending ------------------------------------------------------------------------

    def describe(self, group: Group) -> Snapshot | None:
        """Returns the snapshot that could be sent now, without its image."""
        if group.replica is None:
            return None
        index, term = get_applied(self._store.engine, group.range_id)
        assert index == group.applied_index, (index, group.applied_index)
        return Snapshot(index, term, conf_of(group.replica.descriptor))

    def send(self, group: Group, node_id: int, message: InstallSnapshot) -> None:
        """Sends the image and then the message; the range must stand where the message says."""
        key = (group.range_id, message.to)
        replica = group.replica
        if replica is None or message.snapshot.index != group.applied_index or key in self._outgoing:
            group.raft.report_snapshot(message.to, False)
            return
        self._outgoing[key] = None
        header = Header(
            replica.state(),
            replica.encode_sum([0, 0, 0, 0, replica.is_estimate]),
            message.snapshot.index,
            message.snapshot.term,
        )
        image = RangeImage(self._store.state, replica.start, replica.end)
        self._store.scheduler.spawn(self._send(group, node_id, message, header, image), "snapshot")

    async def _send(
        self, group: Group, node_id: int, message: InstallSnapshot, header: Header, image: RangeImage
    ) -> None:
        token = self._replication.rng.bytes(8)
        number = 0
        is_sent = False
        try:
            for operations in image.chunks():
                chunk = Chunk(group.range_id, token, number, operations)
                await self._transport.call(node_id, CHANNEL, _encoder.encode(chunk), CHUNK_SECONDS_MAX)
                group.raft.report_snapshot_progress(message.to)
                number += 1
            last = Chunk(group.range_id, token, number, [], header, encode(message))
            await self._transport.call(node_id, CHANNEL, _encoder.encode(last), CHUNK_SECONDS_MAX)
            is_sent = True
            self.sent += 1
        except MeridianError:
            pass  # Reported below: the machine probes, and sends another one if it must.
        finally:
            image.close()
            del self._outgoing[group.range_id, message.to]
        if self._replication.groups.get(group.range_id) is group:
            group.raft.report_snapshot(message.to, is_sent)
            self._replication.activate(group)
            self._replication.pump_soon()

    # --- taking in ------------------------------------------------------------------------

    def _take_chunk(self, node_id: int, encoded: bytes) -> bytes:
        """Stages one chunk; the last one makes the raft machine decide."""
        chunk = _chunk_decoder.decode(encoded)
        incoming = self._incoming.get(chunk.range_id)
        if chunk.number == 0 and (incoming is None or incoming.token != chunk.token):
            if incoming is None and len(self._incoming) >= INCOMING_MAX:
                raise Overloaded(f"{INCOMING_MAX} snapshots are on their way in")
            incoming = self._incoming[chunk.range_id] = Incoming(chunk.token)
        if incoming is None or incoming.token != chunk.token or incoming.next_number != chunk.number:
            raise Overloaded(f"chunk {chunk.number} of a snapshot of range {chunk.range_id} is out of place")
        incoming.next_number += 1
        batch = OpBatch()
        if chunk.number == 0:
            _unstage(batch, chunk.range_id)
        if chunk.header is None:
            batch.put(CF_LOCAL, _staging_key(chunk.range_id, chunk.number), _encoder.encode(chunk.operations))
        self._store.engine.write(batch)
        if chunk.header is not None:
            incoming.header = chunk.header
            self._offer(node_id, chunk, chunk.header)
        return b""

    def _offer(self, node_id: int, chunk: Chunk, header: Header) -> None:
        """Hands the raft message to the machine, unless another replica holds part of the range."""
        message = decode_message(chunk.message)
        if not isinstance(message, InstallSnapshot):
            raise msgspec.ValidationError("the message of a snapshot is another one")
        start, end = header.state.descriptor.start, header.state.descriptor.end
        for other in self._store.ranges.over(start, end):
            if other.range_id != chunk.range_id:
                # It will be split, or is to be removed; then there will be room (reliability 65).
                raise Overloaded(f"range {other.range_id} is in the way of a snapshot of range {chunk.range_id}")
        self._replication.take_snapshot(node_id, chunk.range_id, message)

    def is_complete(self, range_id: int, snapshot: Snapshot) -> bool:
        """True if the image of this snapshot is staged."""
        incoming = self._incoming.get(range_id)
        return incoming is not None and incoming.header is not None and incoming.header.index == snapshot.index

    def mark(self, group: Group, snapshot: Snapshot, batch: OpBatch) -> None:
        """Adds the marker to the batch that carries the log and hard state of an accepted snapshot."""
        incoming = self._incoming.get(group.range_id)
        assert incoming is not None, group.range_id
        header = incoming.header
        assert header is not None, group.range_id
        assert header.index == snapshot.index, (header.index, snapshot.index)
        batch.put(CF_LOCAL, MARKER_PREFIX + group.range_id.to_bytes(8, "big"), _encoder.encode(header))

    def install(self, group: Group) -> None:
        """Copies the staged image into its place, after the marker was written."""
        incoming = self._incoming.pop(group.range_id)
        assert incoming.header is not None, group.range_id
        self.taken += 1
        replica = self._copy(incoming.header)
        group.place(replica)
        group.queue.clear()
        group.applied_index = incoming.header.index
        group.doubt_proposals(self._store.identity.node_id, "a snapshot has overtaken its command")
        group.keep_promises()

    def resume(self) -> None:
        """Finishes what a crash interrupted; called before any group is opened."""
        for _, stored in list(local_rows(self._store.engine, MARKER_PREFIX)):
            self._copy(_header_decoder.decode(stored))

    def _copy(self, header: Header) -> Replica:
        """Replaces what is here of a range by the staged image; the same result however often it is done."""
        store = self._store
        state = store.state
        descriptor = header.state.descriptor
        old = state.ranges.get(descriptor.range_id)
        spans = [(descriptor.start, descriptor.end)]
        if old is not None:
            spans.append((old.start, old.end))
            state.ranges.remove(old)
        for start, end in spans:
            batch = OpBatch()
            erase(batch, state, start, end)
            store.engine.write(batch)
            forget(state, start, end)
            state.locks.drop_span(start, end)
        prefix = STAGING_PREFIX + descriptor.range_id.to_bytes(8, "big")
        for key, stored in list(local_rows(store.engine, STAGING_PREFIX, prefix[1:])):
            if not key.startswith(prefix[1:]):
                break
            store.engine.write(OpBatch.of(_operations_decoder.decode(stored)))
        final = OpBatch()
        put_range(final, header.state)
        final.put(CF_LOCAL, stats_key(descriptor.range_id), header.stats)
        put_applied(final, descriptor.range_id, header.index, header.term)
        final.delete(CF_LOCAL, MARKER_PREFIX + descriptor.range_id.to_bytes(8, "big"))
        _unstage(final, descriptor.range_id)
        store.engine.write(final)
        replica = Replica(header.state, store.scheduler)
        replica.load_stats(header.stats)
        state.ranges.add(replica)
        state.gc_high = max(state.gc_high, replica.gc_threshold)
        remember(state, descriptor.start, descriptor.end)
        store.note_ranges()
        return replica


def _staging_key(range_id: int, number: int) -> bytes:
    return STAGING_PREFIX + range_id.to_bytes(8, "big") + number.to_bytes(8, "big")


def _unstage(batch: OpBatch, range_id: int) -> None:
    batch.delete_range(CF_LOCAL, _staging_key(range_id, 0), _staging_key(range_id + 1, 0))
