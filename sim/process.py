"""The simulated process: a disk that survives, and a node on it that does not.

    start    the real node code over the scope's clock, scheduler and randomness
    crash    power failure: the scope ends without cleanup, unsynced writes are lost in part
    die      what the node does itself when its disk fails; then it is restarted

``Process`` runs the KV tier with transactions; ``sim.sqlnode`` puts SQL on top.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from base.errors import MeridianError, Overloaded, StorageFailure
from base.hlc import Hlc
from kvtier.engine.memory import MemoryEngine
from kvtier.messages import Batch, Op, Reply
from kvtier.router import Router
from kvtier.store import Store
from sim.disk import Disk, NodeScope
from sim.hops import HopKv
from sim.invariants import check_restarted
from txn.coordinator import Coordinator

if TYPE_CHECKING:
    from sim.world import World

START_RETRY_SECONDS: Final = 0.5
"""A node that could not start is started again after this, as a service manager does."""


class Process:
    """One node of the simulated world."""

    def __init__(self, world: World) -> None:
        plan = world.plan
        self.world = world
        self.engine = MemoryEngine()
        self.disk = Disk(world.streams.stream("disk"), plan.knobs.sync_seconds, plan.knobs.sync_tail)
        self.disk.on_armed = lambda: world.crash_soon("at a sync")
        self.clock_offset_ns = 0
        self.clock_drift_ppm = 0
        self.generation = 0
        self.is_up = False
        self.is_full = False
        self.is_stalled = False
        self.crashes = 0
        self.counts: dict[str, int] = {}
        """Counters of generations that have ended."""
        self.scope: NodeScope
        self.store: Store
        self.router: Router
        self.hop: HopKv
        self.coordinator: Coordinator

    # --- life ----------------------------------------------------------------------

    def start(self) -> bool:
        """Starts the node on the disk as it is; False if it could not."""
        world = self.world
        self.generation += 1
        self.scope = NodeScope(world.loop, f"node{self.generation}", self.disk)
        self.set_clock(self.clock_offset_ns, self.clock_drift_ppm)
        self.apply_disk_faults()
        try:
            self.assemble()
        except (StorageFailure, Overloaded) as failure:
            world.note("node", f"could not start: {failure}")
            self.scope.crash()
            self.engine = self.engine.crash(world.streams.stream(f"crash{self.generation}"))
            world.after(START_RETRY_SECONDS, self.restart)
            return False
        self.is_up = True
        world.note("node", f"started, generation {self.generation}")
        check_restarted(world)
        return True

    def assemble(self) -> None:
        """Puts the layers together."""
        world = self.world
        plan = world.plan
        scope = self.scope
        rng = world.streams.stream(f"node{self.generation}")
        self.store = Store(
            self.engine,
            scope.clock,
            scope,
            rng,
            Hlc(),
            msgspec.structs.replace(plan.store),
            on_fatal=self._on_fatal,
        )
        self.router = Router(self.store)
        self.coordinator = Coordinator(
            self.attach_hop(self.router), scope.clock, scope, rng, msgspec.structs.replace(plan.txn)
        )

    async def open(self) -> None:
        """Makes a started node ready for clients."""

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
            world.streams.stream(f"hop{self.generation}"),
            0.0 if is_calm else knobs.hop_delay,
            0.0 if is_calm else knobs.hop_loss,
            tell,
        )
        return self.hop

    def _on_fatal(self, failure: BaseException) -> None:
        self.world.note("node", f"fatal: {failure}")
        self.world.crash_soon("the disk failed")

    def crash(self, why: str) -> None:
        """Cuts the power."""
        if not self.is_up:
            return
        world = self.world
        self.is_up = False
        self.crashes += 1
        self.collect_counts()
        world.note("node", f"crash: {why}")
        self.scope.crash()
        self.engine = self.engine.crash(world.streams.stream(f"crash{self.generation}"))
        world.on_node_lost()

    def restart(self) -> None:
        """Starts a node that is down."""
        if not self.is_up:
            self.start()

    def collect_counts(self) -> None:
        """Adds up what this generation counted."""
        metrics = self.store.state.locks.deadlocks
        for name, value in (
            ("deadlocks", metrics),
            ("syncs", self.store.group.syncs),
            ("recovered", self.store.cleanup.recovered),
            ("resolved", self.store.cleanup.resolved),
            ("route_mismatches", self.router.mismatches),
            ("hop_delays", self.hop.delays),
            ("hop_losses", self.hop.losses),
            *self.coordinator.counts.items(),
        ):
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
            self.world.note("node", f"{type(op).__name__} failed: {error!r}")
