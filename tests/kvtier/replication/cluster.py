"""A cluster of stores on a virtual-time loop, with a network that can be broken."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from base.eager import Eager
from base.errors import AnswerLost, CallFailed, ClockTooFar, KvError, MeridianError, PeerUnavailable
from base.hlc import Hlc
from base.seams import Transport
from kvtier.engine import MemoryEngine
from kvtier.messages import Batch, Op, Reply
from kvtier.replication.directory import Directory, NodeRecord
from kvtier.replication.founding import found, join
from kvtier.replication.groups import Replication
from kvtier.replication.placement import Placement
from kvtier.replication.sender import RangeSender
from kvtier.replication.settings import ReplicationSettings
from kvtier.router import Router
from kvtier.settings import StoreSettings
from kvtier.store import Store
from sim.loop import Loop, Scope, SeededRng
from txn.coordinator import Coordinator

CLUSTER_ID = b"c" * 16
MAX_OFFSET_US = 500_000
DEAD_SECONDS = 10.0


class Wires:
    """Who can reach whom, and how long it takes."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.cut: dict[tuple[int, int], None] = {}
        self.seconds = 0.001
        self.ends: dict[int, Wire] = {}
        self.loss = 0.0

    def can_reach(self, source: int, target: int) -> bool:
        return (source, target) not in self.cut and self.ends[target].scope.is_alive

    def delay(self) -> float:
        return self.seconds * (0.5 + self.loop.rng.random())

    def partition(self, node: int) -> None:
        """Cuts a node off, both ways."""
        for other in self.ends:
            self.cut[node, other] = None
            self.cut[other, node] = None

    def heal(self) -> None:
        self.cut.clear()


class Wire(Transport):
    """One node's end; in order per pair, lost when the pair is cut."""

    def __init__(self, wires: Wires, node_id: int, scope: Scope) -> None:
        self.wires = wires
        self.node_id = node_id
        self.scope = scope
        self._messages: dict[str, Callable[[int, bytes], None]] = {}
        self._calls: dict[str, Callable[[int, bytes], Eager[bytes]]] = {}
        self._free_ns: dict[int, int] = {}
        self._broken: list[Callable[[int], None]] = []
        wires.ends[node_id] = self

    def _carry(
        self, target: int, deliver: Callable[[Wire], None], loss: float = 0.0, lost: Callable[[], None] | None = None
    ) -> None:
        wires = self.wires
        arrival = max(wires.loop.now_ns + int(wires.delay() * 1e9), self._free_ns.get(target, 0))
        self._free_ns[target] = arrival

        def arrive() -> None:
            end = wires.ends[target]
            if wires.can_reach(self.node_id, target) and not (loss and wires.loop.rng.random() < loss):
                # The receiver takes it in a step of its own: it may be paused.
                end.scope.call_soon(lambda: deliver(end))
            elif lost is not None:
                lost()

        wires.loop.main.call_later((arrival - wires.loop.now_ns) / 1e9, arrive)

    def send(self, node_id: int, channel: str, message: bytes) -> bool:
        assert node_id != self.node_id, channel

        def take(end: Wire) -> None:
            try:
                end._messages[channel](self.node_id, message)
            except ClockTooFar:
                pass  # A stream is closed for it: a node just started may be ahead by the bound of its clock.

        self._carry(node_id, take, self.wires.loss)
        return True

    def on_message(self, channel: str, handler: Callable[[int, bytes], None]) -> None:
        self._messages[channel] = handler

    async def _call(self, node_id: int, channel: str, message: bytes, timeout_seconds: float) -> bytes:
        if not self.wires.can_reach(self.node_id, node_id):
            await self.scope.clock.sleep(self.wires.delay())
            raise PeerUnavailable(node_id, "no stream")
        waiter = self.scope.waiter()

        def lost() -> None:
            waiter.fail(AnswerLost(node_id, "the stream broke"))

        def answered(answer: bytes | MeridianError) -> None:
            def finish(end: Wire) -> None:
                if isinstance(answer, MeridianError):
                    waiter.fail(CallFailed(answer.message, sqlstate=answer.sqlstate))
                else:
                    waiter.wake(answer)

            self.wires.ends[node_id]._carry(self.node_id, finish, lost=lost)

        def serve(end: Wire) -> None:
            async def run() -> None:
                try:
                    answer: Any = end._calls[channel](self.node_id, message)
                    if not isinstance(answer, bytes):
                        answer = await answer
                except MeridianError as error:
                    answer = error
                answered(answer)

            end.scope.spawn(run(), f"serve {channel}")

        self._carry(node_id, serve, lost=lost)
        generation = self.wires.ends[node_id]

        def watch() -> None:
            broken = self.wires.ends[node_id] is not generation or not self.wires.can_reach(self.node_id, node_id)
            if broken or not self.wires.can_reach(node_id, self.node_id):
                waiter.fail(AnswerLost(node_id, "the stream broke"))
            elif not waiter.is_done():
                self.scope.call_later(0.5, watch)

        self.scope.call_later(0.5, watch)
        self.scope.call_later(timeout_seconds, lambda: waiter.fail(AnswerLost(node_id, "timeout")))
        answer: bytes = await waiter.wait()
        return answer

    def call(self, node_id: int, channel: str, message: bytes, timeout_seconds: float) -> Awaitable[bytes]:
        return self._call(node_id, channel, message, timeout_seconds)

    def on_call(self, channel: str, handler: Callable[[int, bytes], Eager[bytes]]) -> None:
        self._calls[channel] = handler

    def on_disconnect(self, handler: Callable[[int], None]) -> None:
        self._broken.append(handler)

    def tell_broken(self, node_id: int) -> None:
        """The stream to a node broke."""
        for handler in self._broken:
            handler(node_id)


class Node:
    """One store with its replication and its router."""

    def __init__(self, cluster: Cluster, node_id: int) -> None:
        self.cluster = cluster
        self.node_id = node_id
        self.engine = MemoryEngine()
        self.generation = 0
        self.offset_ns = 0
        self.is_up = False
        self.fatal: list[BaseException] = []

    def start(self) -> None:
        cluster = self.cluster
        self.generation += 1
        self.is_up = True
        self.scope = cluster.loop.scope(f"node{self.node_id}.{self.generation}")
        rng = SeededRng(cluster.seed * 1000 + self.node_id * 100 + self.generation)
        self.wire = Wire(cluster.wires, self.node_id, self.scope)
        self.store = Store(
            self.engine, self.scope.clock, self.scope, rng, Hlc(MAX_OFFSET_US), StoreSettings(), self.node_id,
            on_fatal=self.fatal.append,
        )  # fmt: skip
        self.replication = Replication(self.store, self.wire, rng, cluster.settings)
        self.sender = RangeSender(self.node_id, self.replication.remote.ask, self.scope.clock, rng)
        self.router = Router(self.store, self.sender.send)
        self.replication.confirm = self.router.confirm
        self.router.draw_range_id = self.replication.range_ids.draw
        if self.node_id != 1:
            first = self.cluster.nodes[1].store.ranges.find(b"")
            self.router.first = first.descriptor if first is not None else None
        self.coordinator = Coordinator(self.router, self.scope.clock, self.scope, rng)
        self.replication.start()
        if self.cluster.regions is not None:
            self.place(self.cluster.regions)

    def place(self, regions: list[str]) -> None:
        """Keeps a directory and sees to replicas."""
        self.directory = Directory(self.store, self.router)
        self.replication.members = lambda: list(self.directory.nodes)
        self.placement = Placement(self.replication, self.directory, DEAD_SECONDS)
        record = NodeRecord(self.node_id, f"node{self.node_id}", "", (("region", regions[self.node_id - 1]),))

        async def run() -> None:
            while True:
                try:
                    await self.directory.register(record)
                    break
                except KvError:
                    await self.scope.clock.sleep(0.5)
            self.scope.spawn(self.directory.run(), "directory")
            self.scope.spawn(self.placement.run(), "placement")

        self.scope.spawn(run(), "register")

    def boot(self) -> None:
        """Starts with the clock as wrong as before."""
        self.start()
        self.scope.clock.offset_ns = self.offset_ns

    def crash(self) -> None:
        """Power failure: unsynced writes are lost, or a part of them."""
        self.is_up = False
        self.scope.crash()
        for node_id, end in self.cluster.wires.ends.items():
            if node_id != self.node_id:
                end.scope.call_soon(lambda end=end: end.tell_broken(self.node_id))  # type: ignore[misc]  # bound
        self.engine = self.engine.crash(SeededRng(self.generation))


class Cluster:
    """Nodes 1..n; the first range has a replica on each."""

    def __init__(
        self,
        count: int = 3,
        seed: int = 1,
        settings: ReplicationSettings | None = None,
        founders: int = 0,
        regions: list[str] | None = None,
    ) -> None:
        """``founders``: how many of the nodes the first range begins on; 0 is all.  ``regions``: place by them."""
        self.regions = regions
        self.seed = seed
        self.loop = Loop(seed)
        self.wires = Wires(self.loop)
        self.settings = settings or ReplicationSettings()
        self.nodes = {node_id: Node(self, node_id) for node_id in range(1, count + 1)}
        for node in self.nodes.values():
            if not founders or node.node_id <= founders:
                found(node.engine, CLUSTER_ID, node.node_id, list(self.nodes)[: founders or count], 1 << 12)
            else:
                join(node.engine, CLUSTER_ID, node.node_id)
        for node in self.nodes.values():
            node.start()

    def run_for(self, seconds: float) -> None:
        """Lets virtual time pass; a failed task or assertion fails the test."""
        self.loop.run_for(seconds)
        assert not self.loop.failures, self.loop.failures

    def do(self, node_id: int, *ops: Op, **header: Any) -> Reply:
        """Sends a batch through a node's router and waits for the reply."""
        node = self.nodes[node_id]

        async def run() -> Reply:
            reply = node.router.send(Batch(list(ops), **header))
            return reply if isinstance(reply, Reply) else await reply

        task = node.scope.spawn(run(), "client").observe()
        end = self.loop.now_ns + 120 * 10**9
        while not task.is_done() and self.loop.now_ns < end:
            self.run_for(0.01)
        assert task.is_done(), "no answer in two minutes"
        if task.error is not None:
            raise task.error
        reply: Reply = task.result
        return reply

    def leader(self, range_id: int = 1) -> int | None:
        """The node that holds a range's lease now."""
        holders = [
            node.node_id
            for node in self.nodes.values()
            if node.is_up
            and range_id in node.replication.groups
            and node.replication.holds_lease(node.replication.groups[range_id])
        ]
        assert len(holders) <= 1, holders
        return holders[0] if holders else None

    def wait_for_leader(self, range_id: int = 1, seconds: float = 30.0) -> int:
        """Runs until somebody holds the lease."""
        end = self.loop.now_ns + int(seconds * 1e9)
        while self.loop.now_ns < end:
            found_leader = self.leader(range_id)
            if found_leader is not None:
                return found_leader
            self.run_for(0.05)
        raise AssertionError(f"no leaseholder of range {range_id} in {seconds} s")
