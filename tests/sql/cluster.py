"""Several whole nodes on a virtual-time loop, for tests of what they must agree on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from kvtier.descriptors import VOTER
from kvtier.engine.memory import MemoryEngine
from kvtier.rpc.settings import RpcSettings
from kvtier.rpc.transport import Callbacks
from node.member import MAX_OFFSET_SECONDS, Member, MemberSettings, join
from node.process import Node, NodeSettings
from sim.loop import Loop, Scope
from sim.streams import Streams
from sim.transport import SimNodes
from tests.inprocess import message, query, render, take_messages
from wire.connection import Connection
from wire.io import ConnectionIo

DEAD_SECONDS = 3600.0
REPLICAS_SECONDS_MAX = 120.0


class Io(ConnectionIo):
    """A client that is in the same place as its node."""

    peer = "pipe"
    is_loopback = True
    is_tls = False
    certificate = b""

    def __init__(self) -> None:
        self.received = bytearray()
        self.is_closed = False
        self.arrived: Callable[[], None] = lambda: None

    def write(self, data: bytes) -> None:
        self.received += data
        self.arrived()

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    async def start_tls(self) -> None:
        raise OSError("no TLS on a pipe")

    def close(self) -> None:
        self.is_closed = True
        self.arrived()

    abort = close


class Client:
    """One session of one node, in the simple protocol."""

    def __init__(self, cluster: Cluster, member: Running, database: str = "defaultdb", user: str = "root") -> None:
        self._loop = cluster.loop
        self.member = member
        self.io = Io()
        self.connection: Connection = member.node.connect(self.io)
        body = b"\0\3\0\0" + f"user\0{user}\0database\0{database}\0\0".encode()
        self._give((len(body) + 4).to_bytes(4, "big") + body)

    def _give(self, data: bytes) -> None:
        self.member.scope.call_soon(lambda: self.connection.data_received(data))

    async def until_ready(self) -> list[tuple[str, bytes]]:
        """Returns the messages up to ReadyForQuery, or up to the end of the connection or of its node."""
        found: list[tuple[str, bytes]] = []
        while True:
            if take_messages(self.io.received, found):
                return found
            if self.io.is_closed or not self.member.scope.is_alive:
                return found
            waiter = self._loop.main.waiter()
            self.io.arrived = waiter.wake
            self.member.watchers[waiter] = None
            await waiter.wait()

    async def run(self, sql: str) -> list[str]:
        """Returns what psql -A -t would show; nothing if the node died."""
        self._give(query(sql))
        return render(await self.until_ready())

    def close(self) -> None:
        self._give(message(b"X", b""))


class Running:
    """One life of one node."""

    def __init__(self, cluster: Cluster, node_id: int, engine: MemoryEngine, generation: int) -> None:
        self.node_id = node_id
        self.generation = generation
        self.engine = engine
        self.watchers: dict[Any, None] = {}
        self.bugs: list[str] = []
        self.is_open = False
        """Serves clients."""
        self.scope: Scope = cluster.loop.scope(f"node{node_id}.{generation}")
        self.scope.clock.offset_ns = cluster.offsets_ns.get(node_id, 0)
        rng = cluster.streams.stream(f"node{node_id}.{generation}")
        settings = NodeSettings(insecure=True, max_offset_us=round(MAX_OFFSET_SECONDS * 1e6))
        self.member: Member

        def make(node: Node) -> Member:
            name = f"node{node_id}"
            self.member = Member(
                node.store, self.scope.clock, rng, self.scope, MemberSettings(name, (("region", name),), DEAD_SECONDS),
                lambda resolve: cluster.network.make(
                    node_id, node.store.identity.cluster_id, self.scope, cluster.streams.stream(f"rpc{node_id}.{generation}"),
                    RpcSettings(max_offset_seconds=MAX_OFFSET_SECONDS), Callbacks(),
                ),
            )  # fmt: skip
            return self.member

        self.node = Node(
            engine, self.scope.clock, rng, self.scope, settings,
            log_bug=lambda reference, text: self.bugs.append(text), make_member=make,
        )  # fmt: skip


class Cluster:
    """Nodes 1..n; the first founds the cluster."""

    def __init__(self, seed: int = 0, explore: bool = False) -> None:
        self.loop = Loop(seed, explore)
        self.loop.steps_max = 4_000_000
        self.streams = Streams(seed)
        self.network = SimNodes(self.streams.stream("network"))
        self.offsets_ns: dict[int, int] = {}
        self.nodes: dict[int, Running] = {}

    # --- life -----------------------------------------------------------------------

    async def grow(self, count: int) -> None:
        """Starts nodes 1..count and waits until every range has its replicas."""
        await self.start(1)
        for node_id in range(2, count + 1):
            await self.join(node_id)
        await self.until(self._has_replicas, REPLICAS_SECONDS_MAX)

    def _has_replicas(self) -> bool:
        target = 3 if len(self.nodes) >= 3 else 1
        found = [replica.descriptor.replicas for replica in self.nodes[1].node.store.ranges.all()]
        return all(len(places) == target and all(place.kind == VOTER for place in places) for places in found)

    async def start(self, node_id: int, engine: MemoryEngine | None = None) -> Running:
        """Starts a node, for the first time or again, and waits until it is open."""
        before = self.nodes.get(node_id)
        generation = before.generation + 1 if before is not None else 1
        running = self.nodes[node_id] = Running(self, node_id, engine or MemoryEngine(), generation)
        await self._in(running, running.node.open())
        running.is_open = True
        return running

    async def join(self, node_id: int) -> Running:
        """Makes a fresh node one of the cluster's."""
        engine = MemoryEngine()
        scope = self.loop.scope(f"join{node_id}")
        await scope.spawn(
            join(engine, ["node1"], lambda address, channel, body: self.network.ask(1, channel, body), scope.clock), "join"
        )  # fmt: skip
        scope.crash()
        return await self.start(node_id, engine)

    def crash(self, node_id: int, is_silent: bool = False) -> None:
        """kill -9."""
        running = self.nodes[node_id]
        running.scope.crash()
        self.network.crash(node_id, is_silent)
        for waiter in running.watchers:
            waiter.wake()

    async def restart(self, node_id: int) -> Running:
        """Starts a node that crashed, on what its disk has."""
        running = self.nodes[node_id]
        engine = running.engine.crash(self.streams.stream(f"crash{node_id}.{running.generation}"))
        return await self.start(node_id, engine)

    async def _in(self, running: Running, work: Awaitable[Any]) -> None:
        """Runs something in a node's scope."""

        async def run() -> None:
            await work

        await running.scope.spawn(run(), "open")

    # --- clients ----------------------------------------------------------------------

    async def connect(self, node_id: int, database: str = "defaultdb", user: str = "root") -> Client:
        """Returns a session of a node, ready for queries."""
        client = Client(self, self.nodes[node_id], database, user)
        await client.until_ready()
        return client

    async def sleep(self, seconds: float) -> None:
        await self.loop.main.clock.sleep(seconds)

    async def until(self, condition: Callable[[], bool], seconds_max: float) -> None:
        """Waits until something is so."""
        give_up_ns = self.loop.now_ns + int(seconds_max * 1e9)
        while not condition():
            assert self.loop.now_ns < give_up_ns, f"not within {seconds_max} s"
            await self.sleep(0.1)

    def seconds(self) -> float:
        """Virtual time."""
        return self.loop.now_ns / 1e9

    def check_bugs(self) -> None:
        """Asserts that no node met an internal error."""
        for running in self.nodes.values():
            assert not running.bugs, running.bugs[0]
