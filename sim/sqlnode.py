"""The whole node in the simulation: ``node.process.Node`` over simulated seams, and its client connections.

Bytes of a connection keep their order whatever each way's delays: what arrives takes the
oldest bytes of its queue.  Everything the node does for a connection runs in the node's scope,
so a pause holds it and a crash ends it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

import msgspec

from base.errors import MeridianError
from node.member import Member
from node.process import CLUSTER_BUFFER_BYTES_MAX, Node, NodeSettings
from sim.process import Process
from wire.connection import Connection
from wire.io import ConnectionIo

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.world import World

HIGH_WATER_BYTES: Final = 64 << 10
"""Unread bytes above which a socket tells its writer to pause."""
OPEN_RETRY_SECONDS: Final = 0.2
DRAIN_SECONDS: Final = 0.5
"""What clients have to end their transactions when the node stops."""
DRAIN_POLL_SECONDS: Final = 0.05


class SqlProcess(Process):
    """A process that runs the SQL node."""

    def __init__(self, world: World, node_id: int = 1) -> None:
        super().__init__(world, node_id)
        self.node: Node
        self.connections: dict[SimIo, None] = {}
        """Of the present generation."""

    def assemble(self) -> None:
        world = self.world
        plan = world.plan
        self.is_ready = False
        self.connections.clear()
        rng = self.stream("node")
        settings = NodeSettings(
            insecure=True, force_intents=plan.txn.force_intents, range_max_bytes=plan.store.range_max_bytes
        )
        settings.max_offset_us = self.max_offset_us
        if plan.cluster is not None:
            settings.locality = (("region", self.region),)
        make_member = None
        if world.nodes is not None:

            def make_member(node: Node) -> Member:
                return self.make_member(node.store, rng)

        self.node = Node(
            self.engine, self.scope.clock, rng, self.scope, settings, on_fatal=self._on_fatal, log_bug=self._on_bug,
            make_member=make_member,
        )  # fmt: skip
        self.node.on_stop = self.stop_soon
        self.store = self.node.store
        self.router = self.node.kv
        self.coordinator = self.node.coordinator
        self._turn_knobs()
        hop = self.attach_hop(self.router)
        self.coordinator.kv = hop
        self.coordinator.send = hop.send
        self.scope.spawn(self._open(), "open")

    def _turn_knobs(self) -> None:
        """Settings that a node is not told at start, before anything uses them."""
        plan = self.world.plan
        for settings, drawn in ((self.store.settings, plan.store), (self.coordinator.settings, plan.txn)):
            for name in drawn.__struct_fields__:
                setattr(settings, name, getattr(drawn, name))
        if self.member is not None:
            self.coordinator.settings.buffer_bytes_max = min(plan.txn.buffer_bytes_max, CLUSTER_BUFFER_BYTES_MAX)
        # Buffers of a statement or two are flushed between statements: every catalog change too.
        self.router._route_always = plan.store.route_always
        self.store.state.tscache.points_max = plan.store.cache_points_max
        self.store.state.tscache.spans_max = plan.store.cache_spans_max

    async def _open(self) -> None:
        while not self.is_ready:
            try:
                await self.node.open()
            except MeridianError as error:
                self.world.note(self.name, f"cannot open yet: {error!r}")
                if self.member is not None:
                    # Its process ends, as in production, and is started again.
                    self.crash_soon("could not open")
                    return
                await self.scope.clock.sleep(OPEN_RETRY_SECONDS)
            else:
                self.is_ready = True

    async def drain(self) -> None:
        # What ``node.listener`` does: idle clients go at once, the others after their transaction or when time is up.
        bound = self.world.now + DRAIN_SECONDS
        while (left := [io for io in self.connections if not io.is_closed]) and self.world.now < bound:
            for io in left:
                io.connection.shut_down(False)
            await self.scope.clock.sleep(DRAIN_POLL_SECONDS)
        for io in left:
            io.connection.shut_down(True)
        await self.node.drain(0.0)
        await self.node.close()

    def _on_bug(self, reference: str, text: str) -> None:
        self.world.bug(text)


class SimIo(ConnectionIo):
    """The node's end of a connection; ``receive`` and ``lose`` are the client's."""

    peer = "10.0.0.1:1"
    is_loopback = True
    is_tls = False
    certificate = b""

    def __init__(
        self, world: World, process: SqlProcess, receive: Callable[[bytes], None], lose: Callable[[str], None]
    ) -> None:
        self._world = world
        self._scope = process.scope
        self._receive = receive
        self._lose = lose
        self._outgoing: deque[bytes] = deque()
        self._incoming: deque[bytes] = deque()
        self._arrived: deque[bytes] = deque()
        self._unread = 0
        self._is_paused = False
        self.is_closed = False
        self.connection: Connection = process.node.connect(self)
        process.connections[self] = None
        self._process = process

    # --- the node's side ---------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self.is_closed:
            return
        self._outgoing.append(bytes(data))
        self._unread += len(data)
        if self._unread > HIGH_WATER_BYTES and not self._is_paused:
            self._is_paused = True
            self.connection.pause_writing()
        self._world.network.carry("replies", self._arrive)

    def _arrive(self) -> None:
        data = self._outgoing.popleft()
        self._unread -= len(data)
        if self._is_paused and self._unread <= HIGH_WATER_BYTES // 2:
            self._is_paused = False
            self._scope.call_soon(self.connection.resume_writing)
        if data:
            self._receive(data)
        else:
            self._lose("closed by the node")

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    async def start_tls(self) -> None:
        raise OSError("no TLS in the simulation")

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._process.connections.pop(self, None)
            self._outgoing.append(b"")
            self._world.network.carry("replies", self._arrive)

    def abort(self) -> None:
        self.close()

    # --- the client's side ---------------------------------------------------------

    def send(self, data: bytes) -> None:
        """The client writes."""
        self._incoming.append(data)
        self._world.network.carry("requests", self._deliver)

    def _deliver(self) -> None:
        self._arrived.append(self._incoming.popleft())
        self._scope.call_soon(self._take)

    def _take(self) -> None:
        """In the node's scope: what arrived first goes first, in whatever order the callbacks run."""
        data = self._arrived.popleft()
        if data:
            self.connection.data_received(data)
        else:
            self.connection.connection_lost()

    def hang_up(self) -> None:
        """The client is gone; the node hears of it in its time."""
        self._incoming.append(b"")
        self._world.network.carry("requests", self._deliver)


Struct = msgspec.Struct
__all__: list[Any] = ["SimIo", "SqlProcess"]
