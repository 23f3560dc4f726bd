"""The client port: asyncio sockets around ``wire.Connection``."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Callable
from typing import Final, cast

from node.outbox import Outbox, Sender
from wire.connection import Connection
from wire.io import ConnectionIo

WRITE_HIGH_BYTES: Final = 1 << 20
"""Output waiting for a slow reader above this pauses the statement that makes it."""
BACKLOG: Final = 512
SOCKETS_MAX: Final = 2_000
"""Open client sockets, logged in or not; more are closed at once."""
DRAIN_POLL_SECONDS: Final = 0.02
CLOSE_SECONDS_MAX: Final = 1.0
"""How long a client may take to read its last message."""


class _SocketIo(ConnectionIo):
    def __init__(self, listener: Listener, protocol: ClientProtocol, transport: asyncio.Transport) -> None:
        self._outbox = listener.outbox
        self._protocol = protocol
        self._tls = listener.tls
        self._certificate = listener.certificate
        self.is_tls = False
        peer = transport.get_extra_info("peername")
        self.peer = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "local"
        self.is_loopback = not isinstance(peer, tuple) or ipaddress.ip_address(peer[0].split("%")[0]).is_loopback
        self.certificate = b""

        self._use(transport)

    def _use(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        # On the instance: one call less for every answer.
        self.write = Sender(self._outbox, transport.write).write  # type: ignore[method-assign]

    def write(self, data: bytes) -> None:
        raise AssertionError("replaced by the sender's")

    def pause_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    async def start_tls(self) -> None:
        assert self._tls is not None
        self._outbox.flush()
        loop = asyncio.get_running_loop()
        upgraded = await loop.start_tls(self._transport, self._protocol, self._tls, server_side=True)
        if upgraded is None:
            raise ConnectionError("the client closed the connection during the TLS handshake")
        self._use(upgraded)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        self.is_tls = True
        self.certificate = self._certificate

    def close(self) -> None:
        self._outbox.flush()
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()


class ClientProtocol(asyncio.Protocol):
    """Hands socket events to a Connection."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.connection: Connection | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        listener = self._listener
        socket_transport = cast(asyncio.Transport, transport)
        if len(listener.protocols) >= SOCKETS_MAX:
            socket_transport.abort()
            return
        socket_transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        self.connection = listener.connect(_SocketIo(listener, self, socket_transport))
        listener.protocols[id(self)] = self
        # The transport looks its callback up once: here, and after the upgrade to TLS.
        self.data_received = self.connection.data_received  # type: ignore[method-assign]
        socket_transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        if self.connection is not None:
            self.connection.data_received(data)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        if self.connection is not None:
            self.connection.pause_writing()

    def resume_writing(self) -> None:
        if self.connection is not None:
            self.connection.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._listener.protocols.pop(id(self), None)
        if self.connection is not None:
            self.connection.connection_lost()


class Listener:
    """One listening address."""

    def __init__(
        self, connect: Callable[[ConnectionIo], Connection], tls: ssl.SSLContext | None, certificate: bytes
    ) -> None:
        self.connect = connect
        self.tls = tls
        self.certificate = certificate
        self.outbox: Outbox
        """Of the loop that ``start`` runs on."""
        self.protocols: dict[int, ClientProtocol] = {}
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listens; returns the port (useful with port 0).  Raises OSError if it is taken."""
        loop = asyncio.get_running_loop()
        self.outbox = Outbox(loop.call_soon)
        self._server = await loop.create_server(lambda: ClientProtocol(self), host, port, backlog=BACKLOG)
        return int(self._server.sockets[0].getsockname()[1])

    async def drain(self, seconds: float, is_hurried: Callable[[], bool] = lambda: False) -> None:
        """Takes no new clients and closes idle ones; the others have ``seconds`` to end their transactions."""
        if self._server is not None:
            self._server.close()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self._shut_down(False) and loop.time() < deadline and not is_hurried():
            await asyncio.sleep(DRAIN_POLL_SECONDS)
        self._shut_down(True)
        deadline = loop.time() + CLOSE_SECONDS_MAX
        while self.protocols and loop.time() < deadline:
            await asyncio.sleep(DRAIN_POLL_SECONDS)
        for protocol in list(self.protocols.values()):
            if protocol.connection is not None:
                protocol.connection.io.abort()
        await asyncio.sleep(0)

    def _shut_down(self, also_busy: bool) -> bool:
        """Tells every client that may go; returns whether some remain."""
        for protocol in list(self.protocols.values()):
            if protocol.connection is not None:
                protocol.connection.shut_down(also_busy)
        return bool(self.protocols)
