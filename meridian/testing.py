"""Simulated clusters for the tests of applications: virtual time, faults on demand, one seed one run.

The whole database runs in the test's process, the real code on simulated disks, clocks and
networks (``sim``).  A test is a coroutine; what it awaits takes virtual time::

    from meridian.testing import simulated

    @simulated(seeds=20)
    async def test_a_transfer_survives_a_crash(cluster):
        bank = await cluster.connect()
        await bank.execute("CREATE TABLE accounts (id int PRIMARY KEY, balance int)")
        await bank.commit()
        ...
        cluster.node().crash()

``simulated`` makes one pytest test a seed of it; ``cluster`` is the fixture for tests that are
functions and call ``cluster.run(coroutine)``.  A failure names its seed; ``MERIDIAN_SEED=7 pytest
-k name`` runs that seed alone, again and again the same.

``@simulated(regions=("eu", "us"), nodes=2)`` has two nodes in each of two regions.  Their schema may be
given with ``schema=``: it is made while the first node is alone.

Inside there is no asyncio: await only what ``cluster`` and its connections return, run things side by
side with ``gather`` and wait with ``sleep``.  At the end the invariants of the store are checked.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, Final
from zlib import crc32

import pytest

from base import faults
from kvtier.rpc.conditions import Conditions
from meridian.client import AsyncConnection, connect
from sim.cluster import ClusterWatch, grow
from sim.disk import SLOW_FACTOR
from sim.invariants import Violation, check_any_time
from sim.journal import Journal
from sim.loop import Task
from sim.nemesis import Nemesis
from sim.plan import CLUSTER_KINDS, KINDS, ClusterPlan, Fault, Knobs, Plan, draw_faults
from sim.sqlnode import SqlProcess
from sim.streams import Draws, Streams
from sim.world import World

SEED_VARIABLE: Final = "MERIDIAN_SEED"
STORY_LINES: Final = 30
STORY_COLUMNS: Final = 160
RTT_MS: Final = (10.0, 200.0)
"""Between which round trips between regions are drawn."""
DEAD_SECONDS: Final = 60.0
"""A node that is silent for so long is replaced, where there is another to take its replicas."""
TIMEOUT_SECONDS: Final = 60.0
"""A client gives a connection up after so much virtual time without an answer."""


class Node:
    """One node of the cluster, and what can happen to it."""

    def __init__(self, cluster: Cluster, region: str, number: int, process: SqlProcess) -> None:
        self._cluster = cluster
        self.region = region
        self.number = number
        self._process = process

    def __repr__(self) -> str:
        return f"<node {self.number} of {self.region}>"

    @property
    def is_up(self) -> bool:
        """True if it accepts connections."""
        return self._process.is_up and self._process.is_ready

    def crash(self, is_silent: bool = False) -> None:
        """Cuts the power: what was not synced is lost, in part or whole; it stays down until ``restart``.

        ``is_silent``: its peers hear nothing of it, as when a machine loses its power; else their connections break.
        """
        self._process.is_silent = is_silent
        self._process.crash("by the test")

    async def restart(self) -> None:
        """Starts it on the disk as it is, and waits until it accepts connections."""
        self._process.restart()
        while not self.is_up:
            await self._cluster.sleep(0.01)

    def pause(self) -> None:
        """Stops it as SIGSTOP does; time goes on."""
        self._process.scope.pause()

    def resume(self) -> None:
        self._process.scope.resume()

    def fail_sync(self) -> None:
        """The next sync of its disk fails; the node ends itself and must be restarted."""
        self._process.engine.faults.sync_fails = True

    def fill_disk(self, is_full: bool = True) -> None:
        """Writes find no space until it is taken back."""
        self._process.is_full = is_full
        self._process.apply_disk_faults()

    def stall_disk(self, is_stalled: bool = True) -> None:
        """Writes are refused for the time being."""
        self._process.is_stalled = is_stalled
        self._process.apply_disk_faults()

    def slow_disk(self, factor: float = SLOW_FACTOR) -> None:
        """Syncs take this many times as long; 1 is as usual."""
        self._process.disk.slowness = factor

    def jump_clock(self, seconds: float) -> None:
        """Its wall clock steps, forwards or back."""
        process = self._process
        process.set_clock(process.clock_offset_ns + int(seconds * 1e9), process.clock_drift_ppm)

    def skew(self, seconds: float, drift_ppm: int = 0) -> None:
        """Its wall clock is off by so much, and drifts; of several nodes, one that is off by 0.2 s stops itself."""
        self._process.set_clock(int(seconds * 1e9), drift_ppm)

    def isolate(self) -> None:
        """Cuts it off from all other nodes, not from clients, until ``network.heal``."""
        network = self._cluster.network
        for other in self._cluster.nodes:
            if other is not self:
                network.cut_link(self, other)
                network.cut_link(other, self)


class Network:
    """What lies between clients and nodes, and between nodes."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def cut(self, requests: bool = True, replies: bool = True) -> None:
        """Holds what clients send, or what they are answered, until ``heal``."""
        network = self._cluster.world.network
        for way, is_cut in (("requests", requests), ("replies", replies)):
            if is_cut:
                network.set_cut(way, True)

    def reset(self) -> None:
        """Breaks every connection."""
        self._cluster.world.network.reset_all("reset by the test")

    # --- between nodes ------------------------------------------------------------

    def partition(self, *regions: str) -> None:
        """Separates these regions from the others: no message between nodes crosses, until ``heal``."""
        for name in regions:
            self._cluster.node(name)
        for one in self._cluster.nodes:
            for other in self._cluster.nodes:
                if (one.region in regions) != (other.region in regions):
                    self.cut_link(one, other)

    def cut_link(self, source: Node, target: Node) -> None:
        """What one node sends to another does not arrive, until ``heal``; the other direction stays."""
        self._conditions().cut(source._process.node_id, target._process.node_id)

    def lose(self, odds: float) -> None:
        """Loses single messages between nodes with these odds, until ``heal``."""
        conditions = self._conditions()
        self._each_link(lambda one, other: conditions.set_loss(one, other, odds, with_calls=False))

    def delay(self, seconds: float) -> None:
        """Everything between nodes takes so much longer, each way, until ``heal``."""
        conditions = self._conditions()
        self._each_link(lambda one, other: conditions.set_extra_delay(one, other, seconds))

    def _each_link(self, change: Callable[[int, int], None]) -> None:
        ids = [node._process.node_id for node in self._cluster.nodes]
        for one in ids:
            for other in ids:
                if one != other:
                    change(one, other)

    def _conditions(self) -> Conditions:
        nodes = self._cluster.world.nodes
        if nodes is None:
            raise LookupError("one node alone has no network to others")
        return nodes.conditions

    def heal(self) -> None:
        """Ends all of this; what was held from and to clients is delivered."""
        for way in ("requests", "replies"):
            self._cluster.world.network.set_cut(way, False)
        if self._cluster.world.nodes is not None:
            self._conditions().heal_all()
            self.delay(0.0)


class Cluster:
    """A simulated cluster; see the module docstring.

    ``regions`` are names, ``nodes`` is how many each has.  ``rtt_ms``: round trips between regions in
    milliseconds, each pair once; drawn if they are not given.  ``schema``: statements that one node runs before
    the others join, which takes less virtual time than a schema change on all of them.
    """

    def __init__(
        self,
        seed: int,
        regions: tuple[str, ...] = ("local",),
        nodes: int = 1,
        timeout_seconds: float = TIMEOUT_SECONDS,
        trace: bool = False,
        schema: tuple[str, ...] = (),
        rtt_ms: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        self.seed = seed
        streams = Streams(seed)
        self.random: Draws = streams.stream("test")
        """Draws for the test itself: the same for a seed."""
        draws = streams.stream("knobs")
        knobs = Knobs(
            latency_seconds=draws.spread(0.0001, 0.02),
            latency_tail=draws.pick((0.0, 0.01)),
            sync_seconds=draws.spread(0.0001, 0.01),
            timeout_seconds=timeout_seconds,
        )
        plan = Plan(seed, "testing", knobs=knobs)
        if len(regions) * nodes > 1:
            plan.cluster = _plan_cluster(streams.stream("cluster"), regions, nodes, rtt_ms)
        self._schema = schema
        self._journal = Journal(echo=trace, detailed=True)
        self.world = World(plan, self._journal, SqlProcess)
        self.world.is_calm = plan.cluster is not None
        self.nodes: list[Node] = []
        for place, process in enumerate(self.world.processes):
            assert isinstance(process, SqlProcess), process
            self.nodes.append(Node(self, regions[place % len(regions)], place // len(regions), process))
        self.network = Network(self)
        self._watch = ClusterWatch(self.world)
        self._nemesis = Nemesis(self.world, [bytes((number,)) for number in range(16, 240, 7)])

    # --- running ------------------------------------------------------------------

    def run(self, scenario: Coroutine[Any, Any, Any]) -> Any:
        """Starts the cluster, runs a coroutine to its end, and checks the invariants of the store."""
        try:
            result = self.world.loop.run(self._main(scenario))
            self._check()
        except BaseException as error:
            story = [line[:STORY_COLUMNS] for line in self._journal.story([], STORY_LINES)]
            error.add_note("\n".join([f"{SEED_VARIABLE}={self.seed}", *story]))
            raise
        finally:
            faults.arm(None)
        return result

    async def _main(self, scenario: Coroutine[Any, Any, Any]) -> Any:
        process = self.world.process
        try:
            if not process.start():
                raise Violation("a fresh node starts", "it does not")
            await process.open()
            for statement in self._schema:
                connection = await connect(process, "root", "defaultdb", True)
                await connection.execute(statement)
                await connection.close()
            if self.world.nodes is not None:
                await grow(self.world)
        except BaseException:
            scenario.close()
            raise
        self.world.is_calm = False
        return await scenario

    def _check(self) -> None:
        if self.world.bugs:
            raise Violation("no internal errors", self.world.bugs[0])
        for process in self.world.running():
            check_any_time(process)
        self._watch.check()

    # --- time ---------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Virtual seconds since the start."""
        return self.world.now

    async def sleep(self, seconds: float) -> None:
        """Waits in virtual time."""
        await self.world.sleep(seconds)

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str = "test") -> Task:
        """Runs a coroutine beside the others; awaiting what is returned gives its result."""
        return self.world.loop.main.spawn(coroutine, name).observe()

    async def gather(self, *coroutines: Coroutine[Any, Any, Any]) -> list[Any]:
        """Runs coroutines side by side; returns their results in order, or raises the first error when all have ended."""
        tasks = [self.spawn(coroutine) for coroutine in coroutines]
        errors: list[BaseException] = []
        results = []
        for task in tasks:
            try:
                results.append(await task)
            except BaseException as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return results

    # --- clients and nodes ----------------------------------------------------------

    async def connect(
        self, user: str = "root", database: str = "defaultdb", autocommit: bool = False, region: str = ""
    ) -> AsyncConnection:
        """Opens a connection to a node, of the region if one is named; raises psycopg.OperationalError.

        Of several nodes it is the first that is up.
        """
        near = [node for node in self.nodes if region in ("", node.region)] or [self.node(region)]
        node = next((node for node in near if node.is_up), near[0])
        return await connect(node._process, user, database, autocommit)

    def node(self, region: str = "", number: int = 0) -> Node:
        """Returns a node of a region (the first if none is named)."""
        found = [node for node in self.nodes if region in ("", node.region) and node.number == number]
        if not found:
            raise LookupError(f"no node {number} in region {region!r}")
        return found[0]

    # --- weather --------------------------------------------------------------------

    def storm(self, seconds: float, *kinds: str) -> None:
        """Lets faults of these kinds (all, if none is named) strike at drawn moments of the next seconds.

        A node that crashes is restarted.  Kinds: see ``python -m sim --help``.
        """
        known = KINDS if self.world.nodes is None else CLUSTER_KINDS
        for kind in kinds:
            if kind not in known:
                raise LookupError(f"no fault {kind!r}; there are {', '.join(known)}")
        for fault in draw_faults(self.random, kinds or known, seconds):
            self.world.after(fault.at, functools.partial(self._strike, fault))

    def _strike(self, fault: Fault) -> None:
        if self.world.running():
            self._nemesis.strike(fault)

    async def heal(self) -> None:
        """Ends every fault, and waits until every node accepts connections."""
        self._nemesis.heal()
        for node in self.nodes:
            await node.restart()


def _plan_cluster(
    draws: Draws, regions: tuple[str, ...], nodes: int, rtt_ms: Mapping[str, Mapping[str, float]] | None
) -> ClusterPlan:
    """Returns the cluster with given or drawn distances."""
    plan = ClusterPlan(len(regions) * nodes, len(regions), regions, dead_seconds=DEAD_SECONDS)
    for at, one in enumerate(regions):
        plan.rtt_ms[one] = {other: draws.between(*RTT_MS) for other in regions[at + 1 :]}
    if rtt_ms is not None:
        plan.rtt_ms = {one: dict(row) for one, row in rtt_ms.items()}
    return plan


# --- pytest -------------------------------------------------------------------------


def chosen_seeds(count: int) -> list[int]:
    """Returns 1 to ``count``, or the seed that the environment names."""
    named = os.environ.get(SEED_VARIABLE)
    return [int(named)] if named else list(range(1, count + 1))


def simulated(
    seeds: int = 1,
    regions: tuple[str, ...] = ("local",),
    nodes: int = 1,
    schema: tuple[str, ...] = (),
    rtt_ms: Mapping[str, Mapping[str, float]] | None = None,
) -> Callable[[Callable[..., Coroutine[Any, Any, None]]], Callable[..., None]]:
    """Makes a test function of a coroutine function whose first parameter is the cluster; once for every seed.

    The other parameters are ``Cluster``'s.
    """

    def decorate(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
        signature = inspect.signature(test)
        names = list(signature.parameters.values())[1:]

        def run(seed: int, **arguments: Any) -> None:
            cluster = Cluster(seed, regions, nodes, schema=schema, rtt_ms=rtt_ms)
            cluster.run(test(cluster, **arguments))

        run.__name__ = test.__name__
        run.__doc__ = test.__doc__
        run.__module__ = test.__module__
        seed = inspect.Parameter("seed", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        run.__signature__ = signature.replace(parameters=[seed, *names], return_annotation=None)  # type: ignore[attr-defined]  # pytest reads it
        marked: Callable[..., None] = pytest.mark.parametrize("seed", chosen_seeds(seeds))(run)
        return marked

    return decorate


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster of one node whose seed comes from the test's name, or from MERIDIAN_SEED."""
    named = os.environ.get(SEED_VARIABLE)
    yield Cluster(int(named) if named else crc32(request.node.name.encode()))


__all__ = ["AsyncConnection", "Cluster", "Network", "Node", "cluster", "simulated"]
