"""Snapshots between stores: a range's image sent in chunks, and taken in so that a crash loses nothing.

    leaseholder                                    follower
    image opened, raft message held back
    chunk 0 .. n-1   -------- call, one at a time --> staged:  b"z" + range + number -> operations
    last chunk, with the raft message and header --> step(message): does the machine want it?
                                                   marker:  b"m" + range -> header       \\  one batch,
                                                   log and hard state of the snapshot     /  with the Ready
                                                   erase, copy the staged chunks a few a tick,
                                                   state + applied index, no marker, no staging
                                                   what else the Ready asked for

The log of the engine has one order, so whatever a crash leaves is a prefix of this: no marker,
and the staged chunks are rubbish; or a marker, and the copy is made again from what is
staged (reliability 67).  The acknowledgement leaves after the sync of all of it.

While it is copied the range is not in the map of ranges, and nothing is asked of its machine.  An engine
that takes no writes for a moment delays the copy.  Of a sender that died a store keeps no more than
INCOMING_SECONDS_MAX, and nothing over a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from kvtier.replication.merging import is_subsumed_by, put_end

if TYPE_CHECKING:
    from kvtier.replication.groups import Replication
    from kvtier.store import Store

CHANNEL: Final = "snapshot.chunk"
STAGING_PREFIX: Final = b"z"
STAGING_END: Final = b"{"
MARKER_PREFIX: Final = b"m"
STALL_RETRY_SECONDS: Final = 0.005
"""Pause before writing is tried again on an engine that takes no writes."""
CHUNK_SECONDS_MAX: Final = 10.0
"""A chunk that is not taken by then ends the snapshot; raft tries again (reliability 68)."""
INCOMING_MAX: Final = 16
"""Snapshots a store takes in at once."""
INCOMING_SECONDS_MAX: Final = 3 * CHUNK_SECONDS_MAX
"""A snapshot of which nothing came for so long has no sender any more."""
OUTGOING_MAX: Final = 16
"""Snapshots a store sends at once; each pins the engine's files."""
OPERATIONS_MAX: Final = 1 << 16
CHUNKS_PER_STEP: Final = 16
"""Staged chunks copied in one tick: 1.5 MB, some milliseconds."""
COPY_PAUSE_SECONDS: Final = 0.001


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

    __slots__ = ("header", "next_number", "token", "touched_ns")

    def __init__(self, token: bytes, now_ns: int) -> None:
        self.token = token
        self.touched_ns = now_ns
        self.next_number = 0
        self.header: Header | None = None
        """Set once the machine has accepted it."""


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
        self._installing: dict[int, Header] = {}
        self._free_ns = 0
        """When the next chunk may leave: all snapshots share one rate."""
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
        if replica is None or message.snapshot.index != group.applied_index or key in self._outgoing or len(self._outgoing) >= OUTGOING_MAX:  # fmt: skip
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
                encoded = _encoder.encode(Chunk(group.range_id, token, number, operations))
                await self._wait_turn(len(encoded))
                await self._transport.call(node_id, CHANNEL, encoded, CHUNK_SECONDS_MAX)
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

    async def _wait_turn(self, size: int) -> None:
        """Waits until so many bytes may leave."""
        now_ns = self._store.clock.monotonic_ns()
        turn_ns = max(now_ns, self._free_ns)
        self._free_ns = turn_ns + size * 1_000_000_000 // self._replication.settings.snapshot_bytes_per_second
        if turn_ns > now_ns:
            await self._store.clock.sleep((turn_ns - now_ns) / 1e9)

    # --- taking in ------------------------------------------------------------------------

    def _take_chunk(self, node_id: int, encoded: bytes) -> bytes:
        """Stages one chunk; the last one makes the raft machine decide."""
        chunk = _chunk_decoder.decode(encoded)
        now_ns = self._store.clock.monotonic_ns()
        batch = OpBatch()
        self._forget_abandoned(now_ns, batch)
        incoming = self._incoming.get(chunk.range_id)
        if chunk.range_id in self._installing or (incoming is not None and incoming.header is not None):
            raise Overloaded(f"a snapshot of range {chunk.range_id} is being taken in")
        if chunk.number == 0 and (incoming is None or incoming.token != chunk.token):
            if incoming is None and len(self._incoming) >= INCOMING_MAX:
                raise Overloaded(f"{INCOMING_MAX} snapshots are on their way in")
            incoming = Incoming(chunk.token, now_ns)
        if incoming is None or incoming.token != chunk.token or incoming.next_number != chunk.number:
            raise Overloaded(f"chunk {chunk.number} of a snapshot of range {chunk.range_id} is out of place")
        if chunk.number == 0:
            _unstage(batch, chunk.range_id)
        if chunk.header is None:
            batch.put(CF_LOCAL, _staging_key(chunk.range_id, chunk.number), _encoder.encode(chunk.operations))
        if not self._replication.write(batch):
            raise Overloaded("the engine takes no writes now")
        self._incoming[chunk.range_id] = incoming
        incoming.next_number += 1
        incoming.touched_ns = now_ns
        if chunk.header is not None:
            self._offer(node_id, chunk, chunk.header, incoming)
        return b""

    def _forget_abandoned(self, now_ns: int, batch: OpBatch) -> None:
        """Drops what was staged by senders of which nothing is heard any more."""
        for range_id, incoming in list(self._incoming.items()):
            if incoming.header is None and now_ns - incoming.touched_ns > INCOMING_SECONDS_MAX * 1e9:
                del self._incoming[range_id]
                _unstage(batch, range_id)

    def _offer(self, node_id: int, chunk: Chunk, header: Header, incoming: Incoming) -> None:
        """Hands the raft message to the machine, unless another replica holds part of the range."""
        message = decode_message(chunk.message)
        if not isinstance(message, InstallSnapshot):
            raise msgspec.ValidationError("the message of a snapshot is another one")
        start, end = header.state.descriptor.start, header.state.descriptor.end
        here = [other.range_id for other in self._store.ranges.over(start, end)]
        here += [
            range_id
            for range_id, other in self._installing.items()
            if other.state.descriptor.start < end and start < other.state.descriptor.end
        ]
        for range_id in here:
            other_here = self._store.ranges.get(range_id)
            if other_here is not None and is_subsumed_by(other_here, header.state):
                continue
            if range_id != chunk.range_id:
                # It will be split, or is to be removed; then there will be room (reliability 65).
                raise Overloaded(f"range {range_id} is in the way of a snapshot of range {chunk.range_id}")
        self._replication.take_snapshot(node_id, chunk.range_id, message)
        group = self._replication.groups.get(chunk.range_id)
        if group is not None and group.raft.log.snapshot is not None:
            incoming.header = header
        else:
            # It holds as much already.  If this cannot be written now, the next snapshot or start removes it.
            del self._incoming[chunk.range_id]
            rest = OpBatch()
            _unstage(rest, chunk.range_id)
            self._replication.write(rest)

    def mark(self, group: Group, snapshot: Snapshot, batch: OpBatch) -> None:
        """Adds the marker to the batch that carries the log and hard state of an accepted snapshot."""
        header = self._incoming[group.range_id].header
        assert header is not None, group.range_id
        assert header.index == snapshot.index, (header.index, snapshot.index)
        batch.put(CF_LOCAL, MARKER_PREFIX + group.range_id.to_bytes(8, "big"), _encoder.encode(header))

    def forget(self, range_id: int) -> None:
        """The replica goes: a snapshot that its machine had accepted is not waited for."""
        self._incoming.pop(range_id, None)

    def is_installing(self, range_id: int) -> bool:
        """True while the image of a range is copied into its place."""
        return range_id in self._installing

    def install(self, group: Group, then: Callable[[], None]) -> None:
        """Begins to copy the staged image into its place, after the marker was written; calls back at the end."""
        header = self._incoming.pop(group.range_id).header
        assert header is not None, group.range_id
        self._installing[group.range_id] = header
        group.queue.clear()
        group.doubt_proposals(self._store.identity.node_id, "a snapshot has overtaken its command")
        group.replica = None
        self._store.scheduler.spawn(self._install(group, header, then), "install snapshot")

    async def _install(self, group: Group, header: Header, then: Callable[[], None]) -> None:
        store = self._store
        for count, batch in enumerate(self._batches(header)):
            while not self._replication.write(batch):
                if not self._replication.is_running():
                    return  # The next start goes on.
                await store.clock.sleep(STALL_RETRY_SECONDS)
            if count % CHUNKS_PER_STEP == CHUNKS_PER_STEP - 1:
                await store.clock.sleep(COPY_PAUSE_SECONDS)
                if not self._replication.is_running():
                    return
        replica = self._place(header)
        del self._installing[group.range_id]
        self.taken += 1
        self._replication.place(group, replica)
        group.applied_index = header.index
        group.keep_promises()
        then()

    def resume(self) -> None:
        """Finishes what a crash interrupted, and forgets what was staged; called before any group is opened."""
        engine = self._store.engine
        for _, stored in list(local_rows(engine, MARKER_PREFIX)):
            header = _header_decoder.decode(stored)
            for batch in self._batches(header):
                engine.write(batch)
            self._place(header)
        rest = OpBatch()
        rest.delete_range(CF_LOCAL, STAGING_PREFIX, STAGING_END)
        engine.write(rest)

    def _batches(self, header: Header) -> Iterator[OpBatch]:
        """Yields what replaces all that is here of a range by the staged image; each must be written before the next.

        The result is the same however often it is begun.
        """
        store = self._store
        state = store.state
        descriptor = header.state.descriptor
        old = state.ranges.get(descriptor.range_id)
        spans = [(descriptor.start, descriptor.end)]
        ends = OpBatch()
        for other in state.ranges.over(descriptor.start, descriptor.end):
            if other.range_id != descriptor.range_id:
                # Taken in by a merge that this replica has not seen; its data are in the image.
                assert is_subsumed_by(other, header.state), (other.descriptor, descriptor)
                put_end(ends, other.range_id, descriptor.range_id, header.index)
                group = self._replication.groups.get(other.range_id)
                if group is not None:
                    self._replication.forget(group)
                    group.doubt_proposals(store.identity.node_id, "its range was merged")
                state.ranges.remove(other)
                spans.append((other.start, other.end))
        if ends.ops:
            yield ends
        if old is not None:
            spans.append((old.start, old.end))
            state.ranges.remove(old)
            store.note_ranges()
        for start, end in spans:
            batch = OpBatch()
            erase(batch, state, start, end)
            yield batch
            forget(state, start, end)
            state.locks.drop_span(start, end)
        number = 0
        while True:
            stored = store.engine.get(CF_LOCAL, _staging_key(descriptor.range_id, number))
            if stored is None:
                break
            yield OpBatch.of(_operations_decoder.decode(stored))
            number += 1
        final = OpBatch()
        put_range(final, header.state)
        final.put(CF_LOCAL, stats_key(descriptor.range_id), header.stats)
        put_applied(final, descriptor.range_id, header.index, header.term)
        final.delete(CF_LOCAL, MARKER_PREFIX + descriptor.range_id.to_bytes(8, "big"))
        _unstage(final, descriptor.range_id)
        yield final

    def _place(self, header: Header) -> Replica:
        """Takes up in memory what was copied."""
        store = self._store
        state = store.state
        replica = Replica(header.state, store.scheduler)
        replica.load_stats(header.stats)
        state.ranges.add(replica)
        state.gc_high = max(state.gc_high, replica.gc_threshold)
        remember(state, replica.start, replica.end)
        store.note_ranges()
        return replica


def _staging_key(range_id: int, number: int) -> bytes:
    return STAGING_PREFIX + range_id.to_bytes(8, "big") + number.to_bytes(8, "big")


def _unstage(batch: OpBatch, range_id: int) -> None:
    batch.delete_range(CF_LOCAL, _staging_key(range_id, 0), _staging_key(range_id + 1, 0))
