"""Messages between simulated nodes: ``kvtier.rpc`` over a network on virtual time.

The streams, calls and limits are those of production, only the wire is another: bundles take
a drawn time and arrive in order, as on TCP, and a window bounds what is under way.

    crash(silent)   the machine is gone: its peers hear nothing more, and dialing it gets no answer
    crash           the process is gone: its peers see their streams reset, and dialing it is refused

Delays, cuts and losses are the ``Conditions`` of all nodes, in ``SimNodes.conditions``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from base.errors import CallFailed, KvError, PeerUnavailable
from kvtier.rpc.conditions import Conditions
from kvtier.rpc.link import Dialed
from kvtier.rpc.settings import RpcSettings
from kvtier.rpc.stream import Stream, Wire
from kvtier.rpc.transport import Callbacks, Dialer, StreamTransport
from sim.loop import Scope
from sim.streams import Draws

WINDOW_BYTES: Final = 1 << 20
"""Most that is under way in one direction of a stream; a node that stands still takes no more."""
HOP_SECONDS_MAX: Final = 0.0005
"""Longest drawn time of one way, before what the conditions add."""


class SimWire(Wire):
    """One end of a simulated connection."""

    def __init__(self, nodes: SimNodes, scope: Scope, stream: Stream) -> None:
        self.nodes = nodes
        self.scope = scope
        self.stream = stream
        self.other: SimWire | None = None
        self.arrived: deque[bytes] = deque()
        """What reached this end and is not read yet."""
        self._in_flight = 0
        self._last_arrival_ns = 0
        self._is_woken = False
        self._is_closed = False
        self._stop_timer: Callable[[], None] | None = None

    def wake(self) -> None:
        if not self._is_woken and self.scope.is_alive:
            self._is_woken = True
            self.scope.call_soon(self._pump)

    def close(self, why: str) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        if self._stop_timer is not None:
            self._stop_timer()
        other = self.other
        if other is not None and not self.stream.way.is_cut:
            self._arrive_at(other, partial(other.stream.close, "the other end closed the stream"))

    # --- sending ----------------------------------------------------------------------

    def _pump(self) -> None:
        """Sends what is due, a tick's worth in one go, until the window is full."""
        self._is_woken = False
        if self._stop_timer is not None:
            self._stop_timer()
            self._stop_timer = None
        other = self.other
        if other is None:
            return
        while self._in_flight < WINDOW_BYTES:
            bundle = self.stream.take()
            if bundle is None:
                break
            self._in_flight += len(bundle)
            self._arrive_at(other, partial(other.on_bundle, bundle))
        # What was taken may have been what reading waited for.
        self.read()
        wait_ns = self.stream.wait_ns()
        if wait_ns is not None and wait_ns > 0:
            self._stop_timer = self.scope.call_later(wait_ns / 1e9, self.wake)

    def _arrive_at(self, other: SimWire, deliver: Callable[[], None]) -> None:
        """Runs something at the other node after the time of one way, behind all that was sent before."""
        loop = self.scope.loop
        arrival_ns = loop.now_ns + round(self.nodes.rng.random() * HOP_SECONDS_MAX * 1e9)
        self._last_arrival_ns = max(self._last_arrival_ns + 1, arrival_ns)
        other.scope.call_later((self._last_arrival_ns - loop.now_ns) / 1e9, deliver)

    # --- receiving ---------------------------------------------------------------------

    def on_bundle(self, bundle: bytes) -> None:
        """Something arrived."""
        self.arrived.append(bundle)
        self.read()

    def read(self) -> None:
        """Reads what has arrived while the stream takes it; what is read makes room in the window."""
        while self.arrived and not self.stream.is_congested():
            bundle = self.arrived.popleft()
            assert self.other is not None
            self.other._in_flight -= len(bundle)
            self.stream.receive(bundle)
            self.other.wake()


class SimDialer(Dialer):
    """Connects one node to the others of its network."""

    def __init__(self, nodes: SimNodes, scope: Scope) -> None:
        self._nodes = nodes
        self._scope = scope

    def dial(self, stream: Dialed) -> None:
        nodes = self._nodes
        near = SimWire(nodes, self._scope, stream)
        stream.wire = near
        if stream.peer in nodes.silent:
            return
        target = nodes.transports.get(stream.peer)
        if target is None:
            self._scope.call_later(nodes.hop_seconds(), lambda: stream.close("connection refused"))
            return
        nodes.scopes[stream.peer].call_later(nodes.hop_seconds(), lambda: self._accept(target, near))

    def _accept(self, target: StreamTransport, near: SimWire) -> None:
        """In the other node's tick: the connection stands."""
        accepted = target.accept()
        if accepted is None:
            near.scope.call_later(self._nodes.hop_seconds(), lambda: near.stream.close("connection refused"))
            return
        far = SimWire(self._nodes, self._nodes.scopes[target.node_id], accepted)
        accepted.wire = far
        far.other = near
        near.other = far
        near.wake()


class SimTransport(StreamTransport):
    """A node's transport; others reach it once it listens."""

    nodes: SimNodes
    scope: Scope

    def appear(self) -> None:
        """Others can dial this node from now on."""
        nodes = self.nodes
        nodes.silent.pop(self.node_id, None)
        nodes.transports[self.node_id] = self
        nodes.scopes[self.node_id] = self.scope

    async def listen(self, address: str) -> int:
        self.appear()
        return await super().listen(address)

    def send(self, node_id: int, channel: str, message: bytes) -> bool:
        tell = self.nodes.tell
        if tell is not None:
            tell(self.node_id, node_id, channel, message)
        return super().send(node_id, channel, message)

    async def stop(self) -> None:
        await super().stop()
        self.nodes.transports.pop(self.node_id, None)
        self.nodes._lives.pop(self.node_id, None)


class SimNodes:
    """The network of all simulated nodes."""

    def __init__(self, rng: Draws, conditions: Conditions | None = None) -> None:
        self.rng = rng
        self.conditions = conditions if conditions is not None else Conditions()
        self.transports: dict[int, StreamTransport] = {}
        self.scopes: dict[int, Scope] = {}
        self._lives: dict[int, SimTransport] = {}
        """The transport of every node's present life, whether it listens or not."""
        self.silent: dict[int, None] = {}
        """Nodes whose machine is gone."""
        self.tell: Callable[[int, int, str, bytes], None] | None = None
        """Is told of every message (no calls), as it is handed over: (from, to, channel, message)."""

    def hop_seconds(self) -> float:
        """Draws the time of one way."""
        return self.rng.random() * HOP_SECONDS_MAX

    def make(
        self,
        node_id: int,
        cluster_id: bytes,
        scope: Scope,
        rng: Draws,
        settings: RpcSettings | None = None,
        callbacks: Callbacks | None = None,
    ) -> SimTransport:
        """Returns the transport of a node, or of its next life; its scope is the node's."""
        dialer = SimDialer(self, scope)
        transport = SimTransport(
            node_id, cluster_id, dialer, scope.clock, rng, scope, settings, self.conditions, callbacks
        )
        transport.nodes = self
        transport.scope = scope
        self._lives[node_id] = transport
        return transport

    def join(
        self,
        node_id: int,
        cluster_id: bytes,
        scope: Scope,
        rng: Draws,
        settings: RpcSettings | None = None,
        callbacks: Callbacks | None = None,
    ) -> StreamTransport:
        """Makes a transport that others reach from now on."""
        transport = self.make(node_id, cluster_id, scope, rng, settings, callbacks)
        transport.appear()
        transport.start()
        return transport

    async def ask(self, node_id: int, channel: str, message: bytes) -> bytes:
        """Asks a node that listens, for somebody who has no id yet; raises PeerUnavailable."""
        transport = self.transports.get(node_id)
        if transport is None:
            raise PeerUnavailable(0, f"node {node_id}: connection refused")
        handler = transport.strangers[channel]
        answered = self.scopes[node_id].waiter()

        async def answer() -> None:
            try:
                answered.wake(await handler(message))
            except KvError as problem:
                answered.fail(CallFailed(problem.message, sqlstate=problem.sqlstate))

        self.scopes[node_id].spawn(answer(), "stranger")
        reply: bytes = await answered.wait()
        return reply

    def crash(self, node_id: int, is_silent: bool) -> None:
        """Follows the crash of a node's scope (see the module docstring)."""
        transport = self._lives.pop(node_id, None)
        self.transports.pop(node_id, None)
        if is_silent:
            self.silent[node_id] = None
        if transport is None:
            return
        self.conditions.unwatch(transport.on_conditions)
        for stream in transport.streams:
            wire = stream.wire
            if isinstance(wire, SimWire) and wire.other is not None and not is_silent and not stream.way.is_cut:
                other = wire.other
                other.scope.call_later(self.hop_seconds(), partial(other.stream.close, "reset by peer"))
