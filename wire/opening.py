"""How a connection begins: StartupMessage, TLS, SCRAM-SHA-256 (chapters 55.2.1 and 55.3), until its session is there.

    startup --SSLRequest--> startup (TLS) --StartupMessage--> auth --ok--> ready

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Final

from base.errors import SqlError
from base.seams import Rng, Scheduler
from sql.api import Server, SessionApi
from wire import encode, frontend, startup
from wire.auth import ScramExchange
from wire.copyinput import CopyInput
from wire.io import ConnectionIo

AUTHENTICATION_SECONDS: Final = 15.0


class ConnectionSettings:
    """What the node decides for all connections."""

    def __init__(self, trust_loopback: bool, has_tls: bool, require_tls: bool, server_secret: bytes) -> None:
        self.trust_loopback = trust_loopback
        """--insecure: no password from loopback addresses."""
        self.has_tls = has_tls
        self.require_tls = require_tls
        self.server_secret = server_secret
        """Salts the mock exchange of unknown roles."""


class Opening(CopyInput):
    """A connection until its client is logged in."""

    def __init__(
        self, server: Server, io: ConnectionIo, scheduler: Scheduler, rng: Rng, settings: ConnectionSettings
    ) -> None:
        super().__init__(io, scheduler)
        self.server = server
        self.rng = rng
        self.settings = settings
        self.session: SessionApi | None = None
        self._busy = False
        self._startup: startup.Startup | None = None
        self._exchange: ScramExchange | None = None
        self._exchange_step = ""
        self._asked_tls = self._asked_gss = False
        self._cancel_timer: Callable[[], None] = scheduler.call_later(
            AUTHENTICATION_SECONDS, self._authentication_timeout
        )

    @abstractmethod
    def _process(self) -> None:
        """Handles the whole messages of the input buffer."""

    @abstractmethod
    def _ready(self, session: SessionApi) -> None:
        """Sends what there is, and ReadyForQuery."""

    @abstractmethod
    def _close(self) -> None:
        """Sends what there is, and closes."""

    @abstractmethod
    def connection_lost(self) -> None:
        """The client is gone: whatever runs is interrupted, the session closes."""

    def _startup_packet(self) -> bool:
        buffer = self._input
        if len(buffer) < 4:
            return False
        length = int.from_bytes(buffer[:4], "big")
        startup.check_length(length)
        if len(buffer) < length:
            return False
        code = int.from_bytes(buffer[4:8], "big")
        body = bytes(buffer[8:length])
        del buffer[:length]
        if code == startup.CANCEL_REQUEST:
            self.server.cancel(*startup.parse_cancel(body))
            self._close()
            return False
        if code == startup.SSL_REQUEST:
            return self._ssl_request()
        if code == startup.GSS_REQUEST:
            if self._asked_gss:
                raise frontend.violation("duplicate GSSENCRequest")
            self._asked_gss = True
            self.io.write(b"N")
            return True
        self._startup = startup.parse_startup(code, body)
        self._begin_authentication(self._startup)
        return True

    def _ssl_request(self) -> bool:
        if self._asked_tls or self.io.is_tls:
            raise frontend.violation("duplicate SSLRequest")
        self._asked_tls = True
        if not self.settings.has_tls:
            self.io.write(b"N")
            return True
        if self._input:
            # CVE-2021-23214: bytes sent before the handshake would pass as if they had been encrypted.
            raise SqlError("received unencrypted data after SSL request", sqlstate="08P01")
        self.io.write(b"S")
        self._busy = True
        self.scheduler.spawn(self._upgrade(), "tls handshake")
        return False

    async def _upgrade(self) -> None:
        try:
            await self.io.start_tls()
        except OSError:
            self.io.abort()
            self.connection_lost()
            return
        finally:
            self._busy = False
        self._process()

    def _begin_authentication(self, packet: startup.Startup) -> None:
        self.state = "auth"
        if packet.minor > 0 or packet.unknown:
            self._put(encode.negotiate_protocol(0, packet.unknown))
        if self.settings.require_tls and not self.io.is_tls and not self.io.is_loopback:
            raise SqlError("connection requires TLS", sqlstate="28000", hint="Connect with sslmode=require.")
        if self.settings.trust_loopback and self.io.is_loopback:
            self._authenticated()
            return
        secret = self.server.scram_secret(packet.user)
        assert secret is None or isinstance(secret, str)
        self._exchange = ScramExchange(packet.user, secret, self.settings.server_secret, self.rng, self.io.certificate)
        self._exchange_step = "first"
        self._put(encode.authentication(10, self._exchange.mechanisms()))
        self._flush()

    def _auth_message(self, kind: int, body: bytes) -> None:
        if kind == 88:  # Terminate
            self._close()
            return
        if kind != 112 or self._exchange is None:
            raise frontend.violation(f"expected SASL response, got message type {kind}")
        if self._exchange_step == "first":
            self._put(encode.authentication(11, self._exchange.first(body)))
            self._exchange_step = "final"
            self._flush()
            return
        answer = self._exchange.final(body)
        self._exchange = None
        self._put(encode.authentication(12, answer))
        self._authenticated()

    def _authenticated(self) -> None:
        packet = self._startup
        assert packet is not None
        session = self.server.open_session(packet.user, packet.database, packet.options, self)
        assert isinstance(session, SessionApi)
        self._cancel_timer()
        self.session = session
        self.state = "ready"
        self._put(encode.AUTHENTICATION_OK)
        for name, value in self.server.parameter_statuses(session):
            self._put(encode.parameter_status(name, value))
        self._put(encode.backend_key_data(session.pid, session.cancel_key))
        self._ready(session)

    def _authentication_timeout(self) -> None:
        if self.state in ("startup", "auth"):
            self.io.abort()
            self.connection_lost()
