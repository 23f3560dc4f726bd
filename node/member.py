"""A node among others: replication, routing to other nodes, the directory, placement, over any transport.

    first start      founds a cluster of one, or asks a node of one for an id (``join``)
    every start      listens for the others, opens its ranges' groups, writes its row in the directory
    then             placement gives ranges their replicas, here and elsewhere

Production puts gRPC under it (``node.cluster``), the simulator its own network (``sim.process``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from msgspec import Struct, field

from base.errors import CallFailed, KvError
from base.seams import Clock, Rng, Scheduler
from kvtier.descriptors import VOTER
from kvtier.engine.contract import StoreEngine
from kvtier.opening import is_fresh
from kvtier.replication import founding
from kvtier.replication.crossings import Crossings
from kvtier.replication.directory import Directory, Known, NodeRecord, draw_node_id, remember_known
from kvtier.replication.draining import drain
from kvtier.replication.groups import Replication
from kvtier.replication.overview import ranges_over
from kvtier.replication.placement import Placement
from kvtier.replication.sender import RangeSender
from kvtier.replication.settings import ReplicationSettings
from kvtier.router import Router
from kvtier.rpc.transport import StreamTransport
from kvtier.store import Store
from node.roster import Roster
from sql.regions.topology import RangePlace

MAX_OFFSET_SECONDS: Final = 0.25
"""How far the clocks of two nodes may differ."""
JOIN_CHANNEL: Final = "cluster.join"
KNOWN_CHANNEL: Final = "kv.known"
KNOWN_SECONDS_MAX: Final = 1.0
"""How long another node may take to say what it knows."""
JOIN_ATTEMPTS: Final = 10
JOIN_PAUSE_SECONDS: Final = 1.0
DEAD_SECONDS: Final = 60.0
"""A node that has been silent for so long is replaced; what it has is copied elsewhere."""
REGISTER_PAUSE_SECONDS: Final = 0.2
ANSWERS_SECONDS_MAX: Final = 2.0
"""What others still ask of a node that stops gets so long to be answered."""
ANSWERS_POLL_SECONDS: Final = 0.01


class MemberSettings(Struct):
    """What a node is told about its place in the cluster."""

    rpc: str
    """host:port for other nodes."""
    locality: tuple[tuple[str, str], ...] = ()
    dead_seconds: float = DEAD_SECONDS
    replication: ReplicationSettings = field(default_factory=ReplicationSettings)


MakeTransport = Callable[[Callable[[int], str | None]], StreamTransport]
"""Makes a transport that does not listen yet, given what resolves a node's id to its address."""
Ask = Callable[[str, str, bytes], Awaitable[bytes]]
"""Asks whoever is at an address, on a channel; raises CallFailed, PeerUnavailable or AnswerLost."""


class Admission(Struct, array_like=True):
    """What a node that joins is told."""

    cluster_id: bytes
    node_id: int
    known: Known


class JoinFailed(Exception):
    """No node of the cluster could be asked; says why, address by address."""


_encoder = msgspec.msgpack.Encoder()
_admission_decoder = msgspec.msgpack.Decoder(Admission)
_known_decoder = msgspec.msgpack.Decoder(Known)


async def join(engine: StoreEngine, addresses: list[str], ask: Ask, clock: Clock) -> None:
    """Makes an empty store one of the cluster's; does nothing to a store that is in use.  Raises JoinFailed."""
    if not is_fresh(engine):
        return
    reasons: dict[str, str] = {}
    for attempt in range(JOIN_ATTEMPTS):
        if await join_once(engine, addresses, ask, reasons):
            return
        if attempt < JOIN_ATTEMPTS - 1:
            await clock.sleep(JOIN_PAUSE_SECONDS)
    raise JoinFailed("; ".join([f"{address}: {reason}" for address, reason in sorted(reasons.items())]))


async def join_once(engine: StoreEngine, addresses: list[str], ask: Ask, reasons: dict[str, str]) -> bool:
    """Asks every address once; True if the store belongs to a cluster now, else ``reasons`` tells why not, by address."""
    for address in addresses:
        if not is_fresh(engine):
            break
        try:
            answer = await ask(address, JOIN_CHANNEL, b"")
        except (KvError, CallFailed) as failure:
            reasons[address] = failure.message
            continue
        if is_fresh(engine):  # It may have been asked to found a cluster meanwhile.
            admission = _admission_decoder.decode(answer)
            founding.join(engine, admission.cluster_id, admission.node_id)
            remember_known(engine, admission.known)
    return not is_fresh(engine)


class Member:
    """Everything that makes a node one of several; see the module docstring."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        rng: Rng,
        scheduler: Scheduler,
        settings: MemberSettings,
        make_transport: MakeTransport,
    ) -> None:
        self.settings = settings
        self._store = store
        self.clock = clock
        self.scheduler = scheduler
        self.node_id = store.identity.node_id
        self.transport = make_transport(self._address)
        self.replication = Replication(store, self.transport, rng, settings.replication)
        self.sender = RangeSender(self.node_id, self.replication.remote.ask, clock, rng)
        self.sender.distance = self._distance
        self.router = Router(store, self.sender.send)
        self.router.draw_range_id = self.replication.range_ids.draw
        self.replication.confirm = self.router.confirm
        self.directory = Directory(store, self.router)
        self.crossings = Crossings(dict(settings.locality).get("region", ""), self.directory.region)
        self.sender.crossings = self.crossings
        self.replication.members = lambda: list(self.directory.nodes)
        self.placement = Placement(self.replication, self.directory, settings.dead_seconds)
        self.directory.on_gone = lambda node_id: self.transport.disconnect(node_id, "it was decommissioned")
        self.transport.admit = self._refusal
        self.directory.ask_others = self._ask_others
        self.transport.on_stranger(JOIN_CHANNEL, self._admit)
        self.transport.on_call(KNOWN_CHANNEL, self._tell_known)
        self.roster = Roster(self)
        self.address = settings.rpc
        """host:port where other nodes reach this one."""

    def _address(self, node_id: int) -> str | None:
        return self.directory.address(node_id)

    def _refusal(self, node_id: int) -> str | None:
        """Returns why a node that greets is turned away, None if it is not."""
        return "it was decommissioned" if self.directory.is_gone(node_id) else None

    def _distance(self, node_id: int) -> int:
        """Returns how far a node is: itself, its region, elsewhere."""
        if node_id == self.node_id:
            return 0
        return 1 if self.directory.region(node_id) == dict(self.settings.locality).get("region", "") else 2

    async def _admit(self, request: bytes) -> bytes:
        """Gives a node that joins its id and what it needs to find everybody."""
        node_id = await draw_node_id(self.router)
        return _encoder.encode(Admission(self._store.identity.cluster_id, node_id, self.directory.known()))

    def _tell_known(self, node_id: int, request: bytes) -> bytes:
        return _encoder.encode(self.directory.known())

    async def _ask_others(self) -> None:
        """Learns from every node that answers; what this one remembered may be older than the last moves."""
        for node_id in sorted(self.directory.nodes):
            if node_id == self.node_id:
                continue
            try:
                answer = await self.transport.call(node_id, KNOWN_CHANNEL, b"", KNOWN_SECONDS_MAX)
            except (KvError, CallFailed):
                continue
            self.directory.learn(_known_decoder.decode(answer))

    async def start(self, sql_address: str) -> None:
        """Listens for other nodes and takes part; returns once the directory knows where this node is."""
        port = await self.transport.listen(self.settings.rpc)
        self.address = f"{self.settings.rpc.rpartition(':')[0] or '127.0.0.1'}:{port}"
        self.replication.start()
        record = NodeRecord(self.node_id, self.address, sql_address, self.settings.locality)
        self.directory.nodes[self.node_id] = record
        while True:
            try:
                await self.directory.register(record)
                self.directory.remember()
                break
            except KvError:
                await self._ask_others()
                await self.clock.sleep(REGISTER_PAUSE_SECONDS)
        self.scheduler.spawn(self.directory.run(), "directory")
        self.scheduler.spawn(self.placement.run(), "placement")
        self.scheduler.spawn(self.replication.consistency.run(), "consistency")

    async def drain(self) -> None:
        """Hands the leases that are here to others and answers what they still ask, so that nobody misses it."""
        self.placement.stop()
        await drain(self.replication, self.placement.is_live)
        self.transport.is_draining = True  # What others ask from here on was not begun, and they are told so.
        deadline_ns = self.clock.monotonic_ns() + int(ANSWERS_SECONDS_MAX * 1e9)
        while self.transport.running_calls() and self.clock.monotonic_ns() < deadline_ns:
            await self.clock.sleep(ANSWERS_POLL_SECONDS)

    async def stop(self) -> None:
        """Leaves; the store is closed by its owner."""
        self.directory.stop()
        self.placement.stop()
        self.replication.consistency.stop()
        self.replication.stop()
        await self.transport.stop()

    async def describe_ranges(self, start: bytes, end: bytes) -> list[RangePlace]:
        """Returns the ranges that overlap [start, end), in key order; ``end`` b"" is the end of all keys."""
        found = await ranges_over(self._store, self.router, self.sender, start, end)
        return [
            RangePlace(
                descriptor.range_id, descriptor.start, descriptor.end, size, holder,
                tuple([place.node_id for place in descriptor.replicas if place.kind == VOTER]),
                tuple([place.node_id for place in descriptor.replicas if place.kind != VOTER]),
            )
            for descriptor, holder, size in found
        ]  # fmt: skip

    def rtt_ms(self, one: str, other: str) -> float | None:
        """Returns the round trip between two regions, if one of them is this node's and it has measured."""
        own = dict(self.settings.locality).get("region", "")
        if one == other:
            return 0.0
        if own not in (one, other):
            return None
        far = other if one == own else one
        times = [peer["rtt_ms"] for peer in self.transport.peers() if self.directory.region(peer["node_id"]) == far]
        return min(times, default=None)

    def is_live(self, node_id: int) -> bool:
        """True for a node that gives signs of life."""
        return self.placement.is_live(node_id)

    def metrics(self) -> dict[str, int]:
        """Returns counters by stable names."""
        leads = sum(1 for group in self.replication.led.values() if self.replication.holds_lease(group))
        return {
            "groups": len(self.replication.groups),
            "leases": leads,
            "snapshots_sent": self.replication.snapshots.sent,
            "snapshots_taken": self.replication.snapshots.taken,
            "redirects": self.sender.redirects,
            "idle_ranges": len(self.replication.closing.leading),
            "splits_by_load": self.placement.reshaping.split,
            "merges": self.placement.reshaping.merged,
            "consistency_checks": self.replication.consistency.checked,
            "consistency_mismatches": self.replication.consistency.differed,
            "inconsistent_ranges": len(self.replication.consistency.mismatches),
        }
