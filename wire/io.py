"""What a connection needs of its socket: implemented by ``node`` (asyncio) and by the simulator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable


class ConnectionIo(ABC):
    """One client's byte stream."""

    peer: str
    """Address for messages and logs."""
    is_loopback: bool
    is_tls: bool
    certificate: bytes
    """DER of the certificate served on this connection, for channel binding; b"" without TLS."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Hands bytes to the socket; never blocks.  Above its high-water mark it calls ``Connection.pause_writing``."""

    @abstractmethod
    def pause_reading(self) -> None: ...

    @abstractmethod
    def resume_reading(self) -> None: ...

    @abstractmethod
    def start_tls(self) -> Awaitable[None]:
        """Upgrades after SSLRequest; raises OSError if the handshake fails."""

    @abstractmethod
    def close(self) -> None:
        """Sends what was written, then closes."""

    @abstractmethod
    def abort(self) -> None:
        """Closes at once."""
