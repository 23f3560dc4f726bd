"""The world of one run: the loop, the nodes, the networks, the clients, the clock on the wall.

set up     no faults; the workload loads its rows
grow       (clusters) the other nodes join the first, and ranges get their replicas
storm      ``plan.seconds`` of virtual time with faults while clients work
calm       faults end, nodes that are down are started; every client must get something done
rest       clients stop; within a bound nothing is left of any transaction
verdict    final reads, served reads again, the workload's checkers
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from base import faults
from kvtier.rpc.wan import LatencyMatrix
from sim.histories import Recorder
from sim.invariants import SERVED_MAX, Served
from sim.journal import Journal
from sim.loop import Loop, Task
from sim.network import Network
from sim.plan import Plan
from sim.process import Process
from sim.streams import Draws, Streams
from sim.transport import SimNodes

CALM_DWELL_SECONDS: Final = 0.02
CHECK_SECONDS: Final = 0.5
"""Invariants are checked this often."""


STEPS_PER_SECOND_MAX: Final = 40_000
"""More steps a virtual second are a livelock: busy runs take a tenth of it."""


class World:
    """See the module docstring."""

    def __init__(self, plan: Plan, journal: Journal, make_process: Callable[[World, int], Process] = Process) -> None:
        self.plan = plan
        self.journal = journal
        self.streams = Streams(plan.seed)
        self.loop = Loop(plan.seed, plan.knobs.explore)
        cluster = plan.cluster
        count = 1 if cluster is None else cluster.nodes
        self.loop.steps_max = int(STEPS_PER_SECOND_MAX * (plan.seconds + 60) * count)
        self.history = Recorder()
        self.is_calm = True
        """No faults: before the storm and after it."""
        self.is_over = False
        """Clients stop after what they are doing."""
        self.recent_ts: deque[int] = deque(maxlen=8)
        """Timestamps at which transactions have read lately."""
        self.served: list[Served] = []
        self.bugs: list[str] = []
        self.served_count = 0
        self.served_ts = 0
        self._sample = self.streams.stream("sample")
        self.faults_struck: dict[str, int] = {}
        self.points_hit: dict[str, int] = {}
        self._points_rng = self.streams.stream("points")
        self.network = Network(self)
        self.regions: dict[int, str] = {}
        """Node -> its region."""
        self.nodes: SimNodes | None = None
        """The network between nodes, if there are several."""
        if cluster is not None:
            self.nodes = SimNodes(self.streams.stream("nodes"))
            matrix = LatencyMatrix(cluster.rtt_ms, cluster.local_rtt_ms)
            self.regions = {number: cluster.region_of(number) for number in range(1, count + 1)}
            self.nodes.conditions.set_latency(matrix, self.region_of)
        self._make_process = make_process
        self._made = count
        self.processes = [make_process(self, number) for number in range(1, count + 1)]
        self.process = self.processes[0]
        """The node that founded the cluster, or the only one; once that is gone, another."""
        self.gone: list[Process] = []
        """Nodes that were decommissioned."""
        self.operations: list[Task] = []
        """What operators have under way (``sim.membership``)."""

    # --- time ------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Virtual seconds since the start."""
        return self.loop.now_ns / 1e9

    def after(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls back outside the node; returns a function that cancels it."""
        return self.loop.main.call_later(seconds, callback)

    async def sleep(self, seconds: float) -> None:
        await self.loop.main.clock.sleep(seconds)

    @property
    def dwell_seconds(self) -> float:
        """Longest pause within a transaction."""
        return min(self.plan.knobs.dwell_seconds, CALM_DWELL_SECONDS) if self.is_calm else self.plan.knobs.dwell_seconds

    # --- notes -----------------------------------------------------------------------

    def note(self, who: str, what: str) -> None:
        """Writes into the journal and the digest."""
        self.journal.note(self.loop.now_ns, who, what)

    def detail(self, who: str, what: str) -> None:
        """Writes into the journal if somebody wants details."""
        self.journal.detail(self.loop.now_ns, who, what)

    def record(self, type: str, process: int, f: str, value: Any, error: str = "") -> None:
        """Writes one event of the history."""
        self.history.add(type, process, f, value, error, self.loop.now_ns)
        self.note(f"client{process}", f"{type} {f} {value!r} {error}")

    def serve(self, served: Served) -> None:
        """Remembers the reads of a committed transaction, or of a sample of them."""
        self.served_count += 1
        if served.ts > self.served_ts:
            self.served_ts = served.ts
        if not served.reads:
            return
        if len(self.served) < SERVED_MAX:
            self.served.append(served)
        else:
            place = self._sample.below(self.served_count)
            if place < SERVED_MAX:
                self.served[place] = served

    def bug(self, text: str) -> None:
        """A client met an internal error of the node."""
        self.bugs.append(text)
        self.note("node", f"internal error {text.strip().splitlines()[-1]}")

    # --- the nodes ---------------------------------------------------------------------

    def choose(self, rng: Draws) -> Process:
        """Returns the node that a client talks to next."""
        if len(self.processes) == 1:
            return self.process
        # Until they have joined there is only the founder.
        return rng.pick([process for process in self.processes if process.generation])

    def region_of(self, node_id: int) -> str:
        """Returns the region of a node."""
        return self.regions.get(node_id, "")

    def add_process(self, place: int) -> Process:
        """Makes a machine for a node that will join; it counts among ``processes`` once it has."""
        self._made += 1
        process = self._make_process(self, self._made)
        process.place = place
        return process

    def take_away(self, process: Process) -> None:
        """Takes the machine of a decommissioned node."""
        process.is_gone = True
        process.crash("decommissioned")
        self.processes.remove(process)
        self.gone.append(process)
        if process is self.process:
            self.process = self.processes[0]

    def running(self) -> list[Process]:
        """Returns the nodes whose disk has not failed."""
        return [process for process in self.processes if process.is_up and process.store.failure is None]

    # --- fault points --------------------------------------------------------------------

    def arm_points(self) -> None:
        """Lets the fault points of the layers ask this run."""
        faults.arm(self._decide if self.plan.knobs.points else None)

    def _decide(self, name: str) -> bool:
        odds = self.plan.knobs.points.get(name, 0.0)
        if self.is_calm or not odds or not self._points_rng.chance(odds):
            return False
        self.points_hit[name] = self.points_hit.get(name, 0) + 1
        return True

    def fingerprint(self) -> str:
        """Returns what two runs of one seed must agree on."""
        disks = [process.disk.rng for process in self.processes]
        draws = [rng.below(1 << 32) for rng in (self.loop.rng, self.network.rng, *disks)]
        return f"{self.loop.digest:08x}-{self.journal.digest:08x}-{self.loop.steps:x}-{'-'.join([f'{draw:08x}' for draw in draws])}"
