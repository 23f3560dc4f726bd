"""One node: every layer put together over the production seams.

RocksEngine -> Store -> Router -> Coordinator -> Catalog, SqlServer -> Connections on a Listener
"""

from __future__ import annotations

import ssl
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from msgspec import Struct

from base.errors import SqlError
from base.hlc import Hlc
from base.keys import table_span
from base.seams import Clock, Rng, Scheduler, Transport
from base.typeio.datetime import canonical_zone
from kvtier.engine.contract import StoreEngine
from kvtier.router import Router
from kvtier.settings import StoreSettings
from kvtier.store import Store
from node.listener import Listener
from node.timing import Timing
from planner.functions import builtin_registry
from planner.schema import TableDesc
from sql.agreement.node import Agreement
from sql.catalog.cache import Catalog
from sql.pgcatalog import register_functions
from sql.regions.spans import CatalogSpans
from sql.regions.topology import Locality, NodePlace, NodesApi, NodeStatus, RangePlace
from sql.server import SqlServer
from sql.settings import Settings, builtin_defaults, canonical
from sql.temporary import drop_leftovers
from txn.coordinator import Coordinator
from txn.settings import TxnSettings
from wire.connection import Connection
from wire.io import ConnectionIo
from wire.opening import ConnectionSettings

if TYPE_CHECKING:
    from kvtier.replication.constraints import SpanConfigs
    from kvtier.replication.crossings import Crossings
    from kvtier.replication.directory import Directory
    from kvtier.replication.groups import Replication
    from kvtier.replication.placement import Placement
    from node.faults import Faults

SERVER_PARAMETERS: Final = ("autovacuum",)
"""What a node's configuration may set and a session may not."""
SECRET_BYTES: Final = 32
SESSIONS_CLOSE_SECONDS_MAX: Final = 2.0
"""How long the sessions of closed connections may take to roll back."""
SESSIONS_POLL_SECONDS: Final = 0.02
CLUSTER_BUFFER_BYTES_MAX: Final = 1 << 20
"""Writes of one transaction that are kept until its commit, where that must fit into messages and log entries."""


class NodeSettings(Struct):
    """What a node is told at start."""

    host: str = "127.0.0.1"
    port: int = 26257
    insecure: bool = False
    defaults: dict[str, str] = {}
    connections_max: int = 500
    force_intents: bool = False
    """Commit every transaction by intents and a record, even where one batch would do."""
    range_max_bytes: int = 512 << 20
    merge_ranges: bool = True
    split_requests: float = 2_500.0
    """Batches a second above which a replicated range is split; 0: never."""
    max_offset_us: int = 0
    """How far the clocks of two nodes may differ; 0 for a node that is alone."""
    locality: Locality = ()


def session_defaults(given: dict[str, str]) -> dict[str, str]:
    """Returns the SQL parameters of a new session; raises SqlError if one that was given is unknown or wrong."""
    defaults = builtin_defaults()
    checked = Settings(defaults, lambda name, value: None, canonical_zone)
    for name, value in given.items():
        checked.set(name, value, force=canonical(name) in SERVER_PARAMETERS)
    return {**defaults, **{canonical(name): checked[canonical(name)] for name in given}}


class RosterApi(Protocol):
    """What an operator asks about nodes (``node.roster.Roster``)."""

    on_stop: Callable[[], None]

    async def status(self) -> list[NodeStatus]: ...
    async def drain(self, node_id: int) -> None: ...
    async def decommission(self, node_id: int) -> int: ...
    async def recommission(self, node_id: int) -> None: ...


class MemberApi(Protocol):
    """What makes a node one of several, as the node sees it (``node.member.Member``)."""

    router: Router
    directory: Directory

    @property
    def transport(self) -> Transport: ...

    placement: Placement
    replication: Replication
    crossings: Crossings
    address: str

    @property
    def roster(self) -> RosterApi: ...

    async def start(self, sql_address: str) -> None: ...
    async def drain(self) -> None: ...
    async def stop(self) -> None: ...
    def is_live(self, node_id: int) -> bool: ...
    def rtt_ms(self, one: str, other: str) -> float | None: ...
    async def describe_ranges(self, start: bytes, end: bytes) -> list[RangePlace]: ...
    def metrics(self) -> dict[str, int]: ...


MakeMember = Callable[["Node"], MemberApi]


class Node:
    """An assembled node; ``start`` opens it for clients, ``stop`` drains it."""

    def __init__(
        self,
        engine: StoreEngine,
        clock: Clock,
        rng: Rng,
        scheduler: Scheduler,
        settings: NodeSettings,
        on_fatal: Callable[[BaseException], None] | None = None,
        log_bug: Callable[[str, str], None] | None = None,
        sync_timing: Timing | None = None,
        make_member: MakeMember | None = None,
    ) -> None:
        """``make_member``: makes the node one of a cluster (``node.cluster``)."""
        self.engine = engine
        self.clock = clock
        self.rng = rng
        self.scheduler = scheduler
        self.settings = settings
        self.log_bug = log_bug
        self.sync_timing = sync_timing if sync_timing is not None else Timing()
        self.bugs_met = 0
        self.faults: Faults | None = None
        """What POST /faults does; only in a demonstration."""
        self.is_draining = False
        self.started_ns = clock.monotonic_ns()
        self.hlc = Hlc(settings.max_offset_us)
        store_settings = StoreSettings(
            range_max_bytes=settings.range_max_bytes,
            merge_automatically=settings.merge_ranges,
            split_requests=settings.split_requests,
        )
        self.store = Store(engine, clock, scheduler, rng, self.hlc, store_settings, on_fatal=on_fatal)
        self.member = None if make_member is None else make_member(self)
        self.kv = Router(self.store) if self.member is None else self.member.router
        txn_settings = TxnSettings(force_intents=settings.force_intents)
        if self.member is not None:
            txn_settings.buffer_bytes_max = CLUSTER_BUFFER_BYTES_MAX
        self.coordinator = Coordinator(self.kv, clock, scheduler, rng, txn_settings)
        if self.member is not None:
            self.member.crossings.meters = self.coordinator.meters
        self.catalog = Catalog(self.kv)
        self._spans = CatalogSpans()
        registry = builtin_registry()
        register_functions(registry)
        defaults = session_defaults(settings.defaults)
        self.sql = SqlServer(
            self.kv, self.coordinator, self.catalog, registry, clock, rng, scheduler, defaults, settings.connections_max
        )
        self.sql.sequences.is_shared = self.member is not None
        self.sql.describe_ranges = self.describe_ranges
        self.sql.locality = settings.locality
        self.sql.topology = self.topology
        if self.member is not None:
            self.sql.rtt_ms = self.member.rtt_ms
        self.sql.nodes = Nodes(self)
        self.sql.stored_bytes = self.stored_bytes
        self.store.cleanup.retention_of = self.retention_seconds
        self.store.cleanup.divides = self._divides
        self.on_stop: Callable[[], None] = lambda: None
        """Set by who runs the node: drains it and ends the process, as SIGTERM does."""
        if self.member is not None:
            self.member.roster.on_stop = self._asked_to_stop
        self.connection_settings = ConnectionSettings(
            settings.insecure, False, not settings.insecure, rng.bytes(SECRET_BYTES)
        )
        self.listener: Listener | None = None
        self.port = 0

    # --- life ---------------------------------------------------------------------

    async def open(self) -> None:
        """Loads the catalog; the node can then serve connections made by ``connect``."""
        if self.member is not None:
            self.member.placement.spans = self.spans
            await self.member.start(f"{self.settings.host}:{self.settings.port}")
            await self._agree(self.member)
        else:
            await self.catalog.load()
        await drop_leftovers(self.sql)

    async def _agree(self, member: MemberApi) -> None:
        """Reads the catalog that the nodes have in common, and takes a lease on it."""
        await self.catalog.prepare()
        if self.sql.agreement is None:
            # Of transactions that need no lease: they are what makes it.
            coordinator = Coordinator(self.coordinator.kv, self.clock, self.scheduler, self.rng, TxnSettings())
            node_id = self.store.identity.node_id
            agreement = Agreement(
                self.sql, coordinator, member.transport, node_id,
                lambda: [id for id in member.directory.nodes if id != node_id], member.is_live,
                self.clock, self.rng, self.scheduler,
            )  # fmt: skip
            self.sql.agree(agreement)
        assert self.sql.agreement is not None, "agreed"
        await self.sql.agreement.keeper.start()

    def _asked_to_stop(self) -> None:
        self.on_stop()

    async def start(self, tls: ssl.SSLContext | None = None, certificate: bytes = b"") -> int:
        """Opens the client port and returns it."""
        await self.open()
        self.connection_settings.has_tls = tls is not None
        self.listener = Listener(self.connect, tls, certificate)
        self.port = await self.listener.start(self.settings.host, self.settings.port)
        return self.port

    def connect(self, io: ConnectionIo) -> Connection:
        """Makes the connection of a new client."""
        return Connection(self.sql, io, self.scheduler, self.rng, self.connection_settings, self._on_bug)

    async def drain(self, seconds: float, is_hurried: Callable[[], bool] = lambda: False) -> None:
        """Lets running transactions end, closes every connection, gives sequences back."""
        self.is_draining = True
        self.sql.autostats.stop()
        if self.listener is not None:
            await self.listener.drain(seconds, is_hurried)
        deadline_ns = self.clock.monotonic_ns() + int(SESSIONS_CLOSE_SECONDS_MAX * 1e9)
        while self.sql.sessions and self.clock.monotonic_ns() < deadline_ns:
            await self.clock.sleep(SESSIONS_POLL_SECONDS)
        if self.store.failure is None:
            await self.sql.sequences.release()
        if self.member is not None:
            await self.member.drain()

    async def close(self) -> None:
        """Leaves the cluster and closes the store; nobody may be served any more."""
        if self.sql.agreement is not None:
            self.sql.agreement.keeper.stop()
        if self.member is not None:
            await self.member.stop()
        self.store.close()

    async def stop(self, drain_seconds: float = 10.0) -> None:
        """Drains, then closes the store."""
        await self.drain(drain_seconds)
        await self.close()

    # --- what the layers ask the node -----------------------------------------------

    async def describe_ranges(self, start: bytes, end: bytes) -> list[RangePlace]:
        """Returns the ranges that overlap [start, end), in key order; ``end`` b"" is the end of all keys."""
        if self.member is not None:
            return await self.member.describe_ranges(start, end)
        ranges = self.store.ranges
        node_id = self.store.identity.node_id
        return [
            RangePlace(replica.range_id, replica.start, replica.end, replica.total_bytes, node_id, (node_id,))
            for replica in (ranges.over(start, end) if end else ranges.all())
        ]

    def spans(self) -> SpanConfigs | None:
        """Returns what regions and localities ask of the key space; None before the catalog is there."""
        state = self.catalog.state
        return self._spans.of(state) if state.by_id else None

    def _divides(self, start: bytes, end: bytes) -> bool:
        """True if a border inside a span is wanted, or nobody knows yet."""
        spans = self.spans()
        return spans is None or spans.border(start, end) is not None

    def topology(self) -> list[NodePlace]:
        """Returns the nodes of the cluster, this one too, by id."""
        if self.member is None:
            return [NodePlace(self.store.identity.node_id, self.settings.locality)]
        nodes = self.member.directory.nodes
        return [NodePlace(id, nodes[id].locality, self.member.is_live(id)) for id in sorted(nodes)]

    def stored_bytes(self) -> int:
        """Returns the bytes of the store: its files, and what is in memory before them."""
        stats = self.engine.stats()
        return stats.get("sst_bytes", 0) + stats.get("memtable_bytes", 0)

    def retention_seconds(self, start: bytes, end: bytes) -> float:
        """Returns how long versions in [start, end) are kept: the longest of the tables that lie there."""
        longest = 0.0
        for table in self.catalog.state.by_id.values():
            if isinstance(table, TableDesc) and table.gc_seconds > longest:
                first, last = table_span(table.key_prefix_table or table.id)
                if first < end and start < last:
                    longest = float(table.gc_seconds)
        return longest or self.store.settings.gc_seconds

    # --- health -----------------------------------------------------------------------

    def uptime_seconds(self) -> float:
        return (self.clock.monotonic_ns() - self.started_ns) / 1e9

    def health(self) -> dict[str, Any]:
        """Returns what /healthz says: ``status`` is ok, draining or failed."""
        failure = self.store.failure
        status = "failed" if failure is not None else "draining" if self.is_draining else "ok"
        return {
            "status": status,
            "connections": len(self.sql.sessions),
            "uptime_seconds": round(self.uptime_seconds(), 3),
            "cluster_id": self.store.identity.cluster_id.hex(),
            "node_id": self.store.identity.node_id,
        }

    def _on_bug(self, bug: BaseException) -> str:
        self.bugs_met += 1
        reference = self.rng.bytes(6).hex()
        if self.log_bug is not None:
            self.log_bug(reference, "".join(traceback.format_exception(bug)))
        return reference


class Nodes(NodesApi):
    """What SQL asks about nodes: of the cluster's, or of this one that is alone."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def _roster(self) -> RosterApi:
        if self._node.member is None:
            raise SqlError("this node is not part of a cluster", sqlstate="55000", hint="Start it with --rpc.")
        return self._node.member.roster

    async def status(self) -> list[NodeStatus]:
        node = self._node
        if node.member is not None:
            return await node.member.roster.status()
        ranges = len(node.store.ranges.all())
        state = "draining" if node.is_draining else "active"
        address = f"{node.settings.host}:{node.port}"
        return [
            NodeStatus(node.store.identity.node_id, "", address, node.settings.locality, True, state, ranges, ranges)
        ]

    async def drain(self, node_id: int) -> None:
        await self._roster().drain(node_id)

    async def decommission(self, node_id: int) -> int:
        return await self._roster().decommission(node_id)

    async def recommission(self, node_id: int) -> None:
        await self._roster().recommission(node_id)
