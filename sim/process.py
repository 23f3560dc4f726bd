"""The simulated process: a disk that survives, and a node on it that does not.

    start    the real node code over the scope's clock, scheduler and randomness
    crash    power failure: the scope ends without cleanup, unsynced writes are lost in part
    die      what the node does itself when its disk fails; then it is restarted
    join     an empty disk becomes a node of the cluster, as ``meridian start --join`` does
    stop     it drains and ends in order, as after SIGTERM, and is started again; nothing is lost with it

``Process`` runs the KV tier with transactions; ``sim.sqlnode`` puts SQL on top.  In a cluster both
have replication and routing by ``node.member``, as production has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from base.errors import MeridianError, Overloaded, StorageFailure
from base.hlc import Hlc
from kvtier.engine.memory import MemoryEngine
from kvtier.engine.recent import RecentWrites
from kvtier.messages import Batch, Op, Reply
from kvtier.replication.consistency import Mismatch
from kvtier.replication.constraints import Span, SpanConfig, SpanConfigs
from kvtier.replication.lives import OldDisk
from kvtier.router import Router
from kvtier.rpc.settings import RpcSettings
from kvtier.rpc.transport import Callbacks
from kvtier.store import Store
from node.member import MAX_OFFSET_SECONDS, Member, MemberSettings, join
from node.process import CLUSTER_BUFFER_BYTES_MAX
from sim.disk import Disk, NodeScope
from sim.hops import HopKv
from sim.invariants import Violation, check_any_time, check_restarted
from sim.streams import Draws
from txn.coordinator import Coordinator

if TYPE_CHECKING:
    from sim.world import World

START_RETRY_SECONDS: Final = 0.5
"""A node that could not start is started again after this, as a service manager does."""
OPEN_POLL_SECONDS: Final = 0.01


def _on_mismatch(found: Mismatch) -> None:
    raise Violation("replicas are equal where a node compares them", f"{found}")


class Process:
    """One node of the simulated world."""

    def __init__(self, world: World, node_id: int = 1) -> None:
        plan = world.plan
        self.world = world
        self.node_id = node_id
        """Of a node that joins, once it has joined, what the cluster says."""
        self.place = node_id
        """Says its region: that of the founders' node of this id."""
        self.name = "node" if plan.cluster is None else f"node{node_id}"
        """Who writes its notes."""
        self.engine = MemoryEngine()
        disk = "disk" if plan.cluster is None else f"disk of {self.name}"
        self.disk = Disk(world.streams.stream(disk), plan.knobs.sync_seconds, plan.knobs.sync_tail)
        self.disk.on_armed = lambda: self.crash_soon("at a sync")
        self.clock_offset_ns = 0
        self.clock_drift_ppm = 0
        self.generation = 0
        self.is_up = False
        self.is_ready = False
        """Up, and open for clients."""
        self.is_gone = False
        """Decommissioned: it is never started again."""
        self.is_silent = False
        """Its crashes are those of a machine, of which the others hear nothing."""
        self.is_restored = False
        """Its disk is in an earlier state than it was in: it may have forgotten what it promised."""
        self.is_condemned = False
        """It was told so, and never starts again."""
        self.is_full = False
        self.is_stalled = False
        self.crashes = 0
        self.served_ts = 0
        """The latest timestamp that a client of this node was told."""
        self.on_started: Callable[[Process], None] | None = None
        """Looks at what the disk kept, before the node says a word."""
        self.counts: dict[str, int] = {}
        """Counters of generations that have ended."""
        self.scope: NodeScope
        self.store: Store
        self.router: Router
        self.member: Member | None = None
        self.hop: HopKv
        self.coordinator: Coordinator

    def stream(self, what: str) -> Draws:
        """Returns the draws of one purpose in this generation."""
        streams = self.world.streams
        if self.world.plan.cluster is None:
            return streams.stream(f"{what}{self.generation}")
        return streams.stream(f"{what} of {self.name}.{self.generation}")

    # --- life ----------------------------------------------------------------------

    def start(self) -> bool:
        """Starts the node on the disk as it is; False if it could not."""
        world = self.world
        self._begin_generation()
        try:
            self.assemble()
        except (StorageFailure, Overloaded) as failure:
            world.note(self.name, f"could not start: {failure}")
            self.scope.crash()
            if world.nodes is not None:
                world.nodes.crash(self.node_id, False)
            self.engine = self.engine.crash(self.stream("crash"))
            world.after(START_RETRY_SECONDS, self.restart)
            return False
        self.is_up = True
        world.note(self.name, f"started, generation {self.generation}")
        if self.is_restored:
            check_any_time(self)
            return True
        check_restarted(self)
        if self.on_started is not None:
            self.on_started(self)
        return True

    def _begin_generation(self) -> None:
        world = self.world
        self.generation += 1
        name = f"node{self.generation}" if world.plan.cluster is None else f"{self.name}.{self.generation}"
        self.scope = NodeScope(world.loop, name, self.disk, self.crash_soon)
        self.set_clock(self.clock_offset_ns, self.clock_drift_ppm)
        self.apply_disk_faults()

    async def join(self, other: Process) -> None:
        """Makes an empty disk that of a new node of the cluster, and starts it."""
        if self.generation:
            self.scope.crash()  # Of an attempt that came to nothing.
        self._begin_generation()

        async def ask(address: str, channel: str, message: bytes) -> bytes:
            assert self.world.nodes is not None, "one node alone"
            return await self.world.nodes.ask(other.node_id, channel, message)

        await self.scope.spawn(join(self.engine, [other.name], ask, self.scope.clock), "join").observe()
        self.scope.crash()
        self.start()

    def assemble(self) -> None:
        """Puts the layers together."""
        world = self.world
        plan = world.plan
        scope = self.scope
        rng = self.stream("node")
        txn_settings = msgspec.structs.replace(plan.txn)
        self.engine.recent = RecentWrites(plan.knobs.recent_keys_max)
        self.store = Store(
            self.engine,
            scope.clock,
            scope,
            rng,
            Hlc(self.max_offset_us),
            msgspec.structs.replace(plan.store),
            on_fatal=self._on_fatal,
        )
        if world.nodes is None:
            self.router = Router(self.store)
            self.is_ready = True
        else:
            member = self.make_member(self.store, rng)
            self.router = member.router
            txn_settings.buffer_bytes_max = min(txn_settings.buffer_bytes_max, CLUSTER_BUFFER_BYTES_MAX)
            scope.spawn(self._take_part(member), "open")
        self.coordinator = Coordinator(self.attach_hop(self.router), scope.clock, scope, rng, txn_settings)

    @property
    def max_offset_us(self) -> int:
        """How far clocks may differ; 0 for a node that is alone."""
        return 0 if self.world.nodes is None else round(MAX_OFFSET_SECONDS * 1e6)

    @property
    def region(self) -> str:
        """The region it is in; "" for a node that is alone."""
        cluster = self.world.plan.cluster
        return "" if cluster is None else cluster.region_of(self.place)

    def make_member(self, store: Store, rng: Draws) -> Member:
        """Makes the node one of several, over the simulated network."""
        nodes, cluster = self.world.nodes, self.world.plan.cluster
        assert nodes is not None, "one node alone"
        assert cluster is not None, "one node alone"
        settings = MemberSettings(
            self.name,
            (("region", self.region),),
            cluster.dead_seconds,
            msgspec.structs.replace(cluster.replication),
        )
        scope, identity = self.scope, store.identity
        self.node_id = identity.node_id
        self.world.regions[self.node_id] = self.region
        rpc = RpcSettings(max_offset_seconds=MAX_OFFSET_SECONDS)
        callbacks = Callbacks(self._on_note, self._on_bug_between, self._on_stray)
        self.member = Member(
            store, scope.clock, rng, scope, settings,
            lambda resolve: nodes.make(
                self.node_id, identity.cluster_id, scope, self.stream("transport"), rpc, callbacks
            ),
        )  # fmt: skip
        self.member.roster.on_stop = self.stop_soon
        self.member.replication.consistency.on_mismatch = _on_mismatch
        if cluster.leading:
            spans = SpanConfigs([Span(start, end, SpanConfig(leads=True)) for start, end in cluster.leading])
            self.member.placement.spans = lambda: spans
            store.cleanup.divides = lambda start, end: spans.border(start, end) is not None
        return self.member

    async def _take_part(self, member: Member) -> None:
        await member.start("")
        self.is_ready = True

    async def open(self) -> None:
        """Waits until a started node is ready for clients."""
        while not self.is_ready:
            await self.world.sleep(OPEN_POLL_SECONDS)

    def begin_storm(self) -> None:
        """The hop loses and delays from now on."""
        knobs = self.world.plan.knobs
        self.hop.set_odds(knobs.hop_delay, knobs.hop_loss)

    def attach_hop(self, router: Router) -> HopKv:
        """Returns the router behind a hop that delays and loses."""
        world = self.world
        knobs = world.plan.knobs
        tell = (lambda what: world.detail("kv", what)) if world.journal.detailed else None
        is_calm = world.is_calm
        self.hop = HopKv(
            router,
            self.scope.clock,
            self.stream("hop"),
            0.0 if is_calm else knobs.hop_delay,
            0.0 if is_calm else knobs.hop_loss,
            tell,
        )
        return self.hop

    # --- what the node tells -----------------------------------------------------------

    def _on_fatal(self, failure: BaseException) -> None:
        self.world.note(self.name, f"fatal: {failure}")
        if isinstance(failure, OldDisk):
            if not self.is_restored:
                raise Violation("a disk that nobody touched is not called old", f"{self.name}: {failure}")
            self.is_condemned = True
        self.crash_soon("the disk failed")

    def _on_note(self, event: str, **fields: Any) -> None:
        self.world.detail(self.name, f"{event} {fields}")

    def _on_bug_between(self, bug: BaseException) -> str:
        self.world.bug(f"{self.name}, asked by another: {bug!r}")
        return ""

    def _on_stray(self, why: str) -> None:
        self.world.note(self.name, f"its clock is wrong: {why}")
        self.crash_soon("its clock is wrong")

    # --- crashes -------------------------------------------------------------------

    def crash_soon(self, why: str, down_seconds: float = 0.0) -> None:
        """Cuts the power in this instant, somewhere among what is ready to run; it comes back after a time."""
        generation = self.generation
        world = self.world

        def strike() -> None:
            if self.generation == generation and self.is_up:
                self.crash(why)
                world.after(max(world.plan.knobs.restart_seconds, down_seconds), self.restart)

        world.loop.main.call_soon(strike)

    def crash(self, why: str) -> None:
        """Cuts the power."""
        if not self.is_up:
            return
        world = self.world
        self.is_up = self.is_ready = False
        self.crashes += 1
        self.collect_counts()
        world.note(self.name, f"crash: {why}")
        self.scope.crash()
        if world.nodes is not None:
            world.nodes.crash(self.node_id, self.is_silent)
        self.engine = self.engine.crash(self.stream("crash"))
        world.network.reset_all("the node was lost", self)

    def restart(self) -> None:
        """Starts a node that is down."""
        if not self.is_up and not self.is_gone and not self.is_condemned:
            self.start()

    def restore(self, image: MemoryEngine) -> None:
        """Cuts the power, and puts an earlier state of the disk in the place of what there is."""
        self.crash("its disk is restored")
        self.is_restored = True
        self.engine = image
        self.world.after(self.world.plan.knobs.restart_seconds, self.restart)

    def stop_soon(self) -> None:
        """Lets the node drain and end in order; a supervisor starts it again."""
        if self.is_ready and self.member is not None:
            self.is_ready = False  # It takes no new clients.
            self.world.note(self.name, "stops")
            self.scope.spawn(self._stop(), "stop")

    async def _stop(self) -> None:
        try:
            await self.drain()
        except (StorageFailure, Overloaded) as failure:
            self.world.note(self.name, f"could not stop in order: {failure}")
        self.crash_soon("stopped")

    async def drain(self) -> None:
        """Ends in order; the store is closed afterwards."""
        assert self.member is not None, self.name
        await self.member.drain()
        self.world.network.reset_all("the node stops", self)
        await self.member.stop()
        self.store.close()

    def collect_counts(self) -> None:
        """Adds up what this generation counted."""
        metrics = self.store.state.locks.deadlocks
        counted = [
            ("deadlocks", metrics),
            ("syncs", self.store.group.syncs),
            ("recovered", self.store.cleanup.recovered),
            ("resolved", self.store.cleanup.resolved),
            ("route_mismatches", self.router.mismatches),
            ("hop_delays", self.hop.delays),
            ("hop_losses", self.hop.losses),
            *self.coordinator.counts.items(),
        ]
        if self.member is not None:
            counted += [
                ("snapshots_sent", self.member.replication.snapshots.sent),
                ("snapshots_taken", self.member.replication.snapshots.taken),
                ("redirects", self.member.sender.redirects),
            ]
        for name, value in counted:
            self.counts[name] = self.counts.get(name, 0) + value

    # --- faults ----------------------------------------------------------------------

    def set_clock(self, offset_ns: int, drift_ppm: int) -> None:
        """Bends the wall clock, now and after restarts."""
        self.clock_offset_ns = offset_ns
        self.clock_drift_ppm = drift_ppm
        self.scope.clock.offset_ns = offset_ns
        self.scope.clock.drift_ppm = drift_ppm

    def apply_disk_faults(self) -> None:
        """Makes the engine as full or stalled as the disk is."""
        self.engine.faults.disk_full = self.is_full
        self.engine.faults.write_stalls = self.is_stalled

    # --- access for nemesis and checks ---------------------------------------------------

    def command(self, op: Op) -> None:
        """Sends an administrative command; nobody waits for it."""
        if self.is_up:
            self.scope.spawn(self._command(op), "command")

    async def _command(self, op: Op) -> None:
        try:
            reply = self.router.send(Batch([op]))
            if not isinstance(reply, Reply):
                await reply
        except MeridianError as error:
            self.world.note(self.name, f"{type(op).__name__} failed: {error!r}")
