"""A node's port for other nodes, and its way to theirs: ``kvtier.rpc`` over gRPC.

    NodeTransport.start            the server: one method for streams, one for strangers, one guard for both
    GrpcDialer.dial                one channel, so one TCP connection, per peer and class: a snapshot that fills a
                                   connection does not hold up the beats of another

Every attempt to connect has a channel of its own, made with the address and the certificates of that moment.  So
neither gRPC's backoff (up to two minutes, reliability 130) nor its cache of addresses is in the way.

grpc.aio lives in one loop of one thread, and does not survive a fork (reliability 128): the node makes this after
anything that forks, and starts other processes by exec.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, Final

# gRPC reads these when it is imported.  Its own lines on standard error, one per stranger that fails a
# handshake, are no log; set GRPC_VERBOSITY to see them.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc
import msgspec

from base.errors import AnswerLost, CallFailed, MeridianError, PeerUnavailable
from base.seams import Clock, Rng
from kvtier.rpc.conditions import Conditions
from kvtier.rpc.frames import BUNDLE_ENCODED_MAX
from kvtier.rpc.link import Dialed
from kvtier.rpc.settings import RpcSettings
from kvtier.rpc.transport import Callbacks, Dialer, StreamTransport
from node.transport.security import Guard, Security, channel_credentials, is_loopback, server_credentials
from node.transport.wires import GrpcWire
from node.world import LoopScheduler

STREAM_METHOD: Final = "/meridian.Node/Stream"
ASK_METHOD: Final = "/meridian.Node/Ask"
MESSAGE_ROOM: Final = 1024
"""Above the largest bundle, for gRPC's own framing."""
STREAMS_MAX: Final = 16
"""RPCs at a time on one connection; a node uses one."""
METADATA_BYTES_MAX: Final = 4096
HANDSHAKE_MS_MAX: Final = 10_000
KEEPALIVE_MS: Final = 10_000
"""Pings of the server on a connection: frees what a peer without power left behind.  Beats found it dead long before."""
STOP_SECONDS_MAX: Final = 2.0
"""What the server's streams get to end after they were told to."""

_LIMITS: Final = [
    ("grpc.max_receive_message_length", BUNDLE_ENCODED_MAX + MESSAGE_ROOM),
    ("grpc.max_send_message_length", BUNDLE_ENCODED_MAX + MESSAGE_ROOM),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.enable_retries", 0),
]
CHANNEL_OPTIONS: Final = [
    *_LIMITS,
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_reconnect_backoff_ms", 1000),
]
SERVER_OPTIONS: Final = [
    *_LIMITS,
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", STREAMS_MAX),
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS_MAX),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_MS),
]

Resolve = Callable[[int], str | None]
"""Node id to ``host:port``, asked at every attempt to connect; None if it is not known."""


class DialedWire(GrpcWire):
    """The end that dialed: a channel and one RPC on it."""

    def __init__(self, stream: Dialed, open_channel: Callable[[], Any], scheduler: LoopScheduler) -> None:
        super().__init__(stream)
        self._open_channel = open_channel
        self._scheduler = scheduler
        self._rpc: Any = None
        self._is_closed = False

    def close(self, why: str) -> None:
        self._is_closed = True
        self.let_go()
        if self._rpc is not None:
            self._rpc.cancel()

    async def run(self) -> None:
        """Connects, reads until the end, and closes the stream with the reason."""
        try:
            channel = self._open_channel()
        except (OSError, ValueError) as problem:
            self.stream.close(f"cannot use this node's certificate: {problem}")
            return
        writer = None
        try:
            self._rpc = channel.stream_stream(STREAM_METHOD)()
            writer = self._scheduler.spawn(self.write_all(self._rpc), f"writer to node {self.stream.peer}").observe()
            self.stream.close(await self._read())
        finally:
            if writer is not None:
                writer.cancel()
            await channel.close()

    async def _read(self) -> str:
        """Returns why the stream is over."""
        try:
            await self.read_all(self._rpc)
            if self._is_closed:
                return "closed"
            return _reason(await self._rpc.code(), await self._rpc.details())
        except grpc.RpcError as error:
            return _reason(error.code(), error.details())
        except asyncio.CancelledError:
            # By close(): the RPC was cancelled, not this task.
            if not self._is_closed:
                raise
            return "closed"


def _reason(code: Any, details: str | None) -> str:
    if code is grpc.StatusCode.OK:
        return "the other end closed the stream"
    return f"{code.name.lower().replace('_', ' ')}: {(details or 'no details')[:300]}"


class AcceptedWire(GrpcWire):
    """The end that was dialed: the RPC's handler waits until the stream is over."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self.closed: asyncio.Future[None] = self._loop.create_future()

    def close(self, why: str) -> None:
        self.let_go()
        if not self.closed.done():
            self.closed.set_result(None)


class GrpcDialer(Dialer):
    """Connects to the addresses that the resolver gives."""

    def __init__(self, resolve: Resolve, security: Security, scheduler: LoopScheduler) -> None:
        self._resolve = resolve
        self._security = security
        self._scheduler = scheduler
        self.running: dict[DialedWire, Any] = {}
        """The task of every wire; it ends soon after its stream."""

    def dial(self, stream: Dialed) -> None:
        address = self._resolve(stream.peer)
        if address is None:
            stream.close("its address is not known")
            return
        wire = DialedWire(stream, lambda: open_channel(address, self._security), self._scheduler)
        stream.wire = wire
        self.running[wire] = self._scheduler.spawn(self._run(wire), f"stream to node {stream.peer}")

    async def _run(self, wire: DialedWire) -> None:
        try:
            await wire.run()
        finally:
            self.running.pop(wire, None)


def open_channel(address: str, security: Security) -> Any:
    """Returns a fresh channel; raises OSError if a certificate cannot be read."""
    if security.is_insecure:
        return grpc.aio.insecure_channel(address, CHANNEL_OPTIONS)
    return grpc.aio.secure_channel(address, channel_credentials(security), CHANNEL_OPTIONS)


class GrpcTransport(StreamTransport):
    """The production Transport: ``listen`` once the handlers are registered, ``stop`` at the end."""

    def __init__(
        self,
        node_id: int,
        cluster_id: bytes,
        resolve: Resolve,
        security: Security,
        clock: Clock,
        rng: Rng,
        scheduler: LoopScheduler,
        settings: RpcSettings | None = None,
        conditions: Conditions | None = None,
        callbacks: Callbacks | None = None,
    ) -> None:
        self._grpc_dialer = GrpcDialer(resolve, security, scheduler)
        super().__init__(node_id, cluster_id, self._grpc_dialer, clock, rng, scheduler, settings, conditions, callbacks)
        self._security = security
        self._spawn = scheduler.spawn
        self._server: Any = None
        self._serving: list[Any] = []
        """Writers and readers of accepted streams; they end a little after their streams."""

    async def listen(self, address: str) -> int:
        """Opens the port for other nodes and returns it; port 0 takes any.

        Raises OSError if the port or a certificate cannot be used, ValueError without TLS beyond loopback.
        """
        if self._security.is_insecure and not is_loopback(address.rpartition(":")[0]):
            raise ValueError(f"without TLS nodes may talk on loopback only, not on {address}")
        guard = Guard(self._security.is_insecure, self._on_refused)
        server = grpc.aio.server(interceptors=(guard,), options=SERVER_OPTIONS)
        server.add_generic_rpc_handlers((_Methods(self._serve_stream, self._serve_stranger),))
        try:
            if self._security.is_insecure:
                port = server.add_insecure_port(address)
            else:
                port = server.add_secure_port(address, server_credentials(self._security))
        except RuntimeError as failure:
            raise OSError(f"cannot listen on {address} for other nodes: {failure}") from None
        await server.start()
        self._server = server
        self.start()
        return int(port)

    async def stop(self, drain_seconds: float = 0.0) -> None:
        """Lets calls of others end for a limited time, then ends every stream and the server."""
        if drain_seconds > 0:
            drained = self.begin_drain()
            try:
                async with asyncio.timeout(drain_seconds):
                    await drained
            except TimeoutError:
                self.note("calls of other nodes were cut off", running=self.running_calls())
        self.close()
        if self._server is not None:
            await self._server.stop(STOP_SECONDS_MAX)
        wires = [task.observe() for task in [*self._grpc_dialer.running.values(), *self._serving]]
        try:
            async with asyncio.timeout(STOP_SECONDS_MAX):
                for task in wires:
                    await task
        except TimeoutError:
            left = [task.name for task in wires if not task.is_done()]
            self.note("connections to other nodes did not close in time", left=", ".join(left))
            for task in wires:
                task.cancel()

    def _on_refused(self, peer: str, reason: str) -> None:
        self.counts["refusals"] += 1
        self.note("refused a connection", address=peer, why=reason)

    # --- methods ------------------------------------------------------------------------

    async def _serve_stream(self, _: Any, rpc: Any) -> None:
        stream = self.accept()
        if stream is None:
            await rpc.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many streams, or the node is stopping")
            return
        wire = AcceptedWire(stream)
        stream.wire = wire
        # Both end by themselves with the stream or the RPC: cancelled amid an operation of gRPC they may keep
        # the other end from hearing of the end (reliability 127).
        self._serving = [task for task in self._serving if not task.is_done()]
        self._serving.append(self._spawn(wire.write_all(rpc), "writer of a stream"))
        self._serving.append(self._spawn(self._read(wire, rpc), "reader of a stream"))
        try:
            await wire.closed
        finally:
            stream.close("the other end closed the stream")

    async def _read(self, wire: AcceptedWire, rpc: Any) -> None:
        try:
            await wire.read_all(rpc)
            wire.stream.close("the other end closed the stream")
        except (grpc.RpcError, grpc.aio.UsageError, grpc.aio.InternalError) as broken:
            wire.stream.close(f"the stream broke: {broken}"[:300])

    async def _serve_stranger(self, request: bytes, rpc: Any) -> bytes:
        try:
            channel, message = _ASKED.decode(request)
            handler = self.strangers.get(channel)
            if handler is None:
                await rpc.abort(grpc.StatusCode.UNIMPLEMENTED, f"this node does not serve {channel[:32]}")
                raise AssertionError("abort returned")
            return await handler(message)
        except MeridianError as error:
            await rpc.abort(grpc.StatusCode.ABORTED, f"{error.sqlstate} {error.message}")
        except (msgspec.MsgspecError, ValueError) as nonsense:
            await rpc.abort(grpc.StatusCode.INVALID_ARGUMENT, str(nonsense)[:300])
        raise AssertionError("abort returned")


_ASKED: Final = msgspec.msgpack.Decoder(tuple[str, bytes])


class _Methods(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """The two methods; messages are bytes as they are."""

    def __init__(self, serve_stream: Any, serve_stranger: Any) -> None:
        self._methods = {
            STREAM_METHOD: grpc.stream_stream_rpc_method_handler(serve_stream),
            ASK_METHOD: grpc.unary_unary_rpc_method_handler(serve_stranger),
        }

    def service(self, details: Any) -> Any:
        return self._methods.get(details.method)


async def ask(address: str, security: Security, channel: str, message: bytes, timeout_seconds: float) -> bytes:
    """Asks the node at an address, whoever it is; for nodes that have no id yet.

    Raises PeerUnavailable, AnswerLost and CallFailed as ``Transport.call`` does, for node 0.
    """
    link = open_channel(address, security)
    try:
        method = link.unary_unary(ASK_METHOD)
        answer: bytes = await method(msgspec.msgpack.encode((channel, message)), timeout=timeout_seconds)
        return answer
    except grpc.RpcError as error:
        code, details = error.code(), error.details() or ""
        if code is grpc.StatusCode.ABORTED:
            sqlstate, _, text = details.partition(" ")
            raise CallFailed(text, sqlstate=sqlstate) from None
        if code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN):
            raise AnswerLost(0, f"{address}: {details}") from None
        if code is grpc.StatusCode.UNAVAILABLE and not _never_connected(details):
            raise AnswerLost(0, f"{address}: {details}") from None
        raise PeerUnavailable(0, f"{address}: {_reason(code, details)}") from None
    finally:
        await link.close()


def _never_connected(details: str) -> bool:
    """True if gRPC says that it found no connection, so nothing was sent."""
    return details.startswith(("failed to connect to all addresses", "DNS resolution failed"))
