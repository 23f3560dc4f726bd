"""Who may talk to whom: certificates of both ends, checked on every stream by one rule that denies by default.

With TLS (always, but for ``insecure`` on loopback) both ends show a certificate of the cluster's authority, TLS 1.2
or later.  An authority signs nodes and SQL users alike, so the role counts: the common name must be ``node``
(no user can have that name).  Which node it is, and of which cluster, the greeting says (``kvtier.rpc.frames``).

The files are read again for every new connection: a renewed certificate needs no restart.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any, Final

import grpc
from msgspec import Struct

NODE_COMMON_NAME: Final = b"node"


class Security(Struct, frozen=True):
    """PEM files of a node; all empty where there is no TLS."""

    ca: str = ""
    certificate: str = ""
    key: str = ""

    @property
    def is_insecure(self) -> bool:
        return not self.ca

    def read(self) -> tuple[bytes, bytes, bytes]:
        """Returns (authority, certificate, key); raises OSError."""
        return Path(self.ca).read_bytes(), Path(self.certificate).read_bytes(), Path(self.key).read_bytes()


def files_of(directory: str | Path) -> Security:
    """Returns the files as ``meridian cert`` names them in a directory."""
    place = Path(directory)
    return Security(str(place / "ca.crt"), str(place / "node.crt"), str(place / "node.key"))


def channel_credentials(security: Security) -> Any:
    """Returns what a dialing node shows and trusts, as the files are now."""
    ca, certificate, key = security.read()
    return grpc.ssl_channel_credentials(ca, key, certificate)


class _Reloading:
    """Gives gRPC the server's certificate again whenever the files have changed.

    Called by gRPC's thread at every handshake.  Files that cannot be read, or are half written, leave
    what was there before.
    """

    def __init__(self, security: Security) -> None:
        self._security = security
        self._last = security.read()

    def configuration(self) -> Any:
        ca, certificate, key = self._last
        return grpc.ssl_server_certificate_configuration([(key, certificate)], ca)

    def fetch(self) -> Any:
        try:
            now = self._security.read()
        except OSError:
            return None
        if now == self._last:
            return None
        self._last = now
        return self.configuration()


def server_credentials(security: Security) -> Any:
    """Returns what a node shows to those who dial it, and demands of them; raises OSError."""
    reloading = _Reloading(security)
    return grpc.dynamic_ssl_server_credentials(
        reloading.configuration(), reloading.fetch, require_client_authentication=True
    )


def is_loopback(host: str) -> bool:
    """True for the addresses that only this machine can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def objection(context: Any, is_insecure: bool) -> str | None:
    """Returns why the other end of an RPC may not call, or None."""
    if is_insecure:
        # "ipv4:127.0.0.1:40312" or "ipv6:%5B::1%5D:40312"
        host = context.peer().partition(":")[2].rpartition(":")[0].replace("%5B", "").replace("%5D", "")
        return None if is_loopback(host) else "without TLS only this machine may connect"
    shown = context.auth_context()
    if shown.get("transport_security_type") != [b"ssl"]:
        return "no TLS"
    if list(shown.get("x509_common_name", [])) != [NODE_COMMON_NAME]:
        return "the certificate is not that of a node"
    return None


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Stands before every method of the server, those added later too: nothing is served unchecked."""

    def __init__(self, is_insecure: bool, on_refused: Any) -> None:
        self._is_insecure = is_insecure
        self._on_refused = on_refused

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        if handler is None:
            return None
        if handler.request_streaming and handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(self._guarded(handler.stream_stream))
        assert not handler.request_streaming, f"{details.method} has no guard"
        assert not handler.response_streaming, f"{details.method} has no guard"
        return grpc.unary_unary_rpc_method_handler(self._guarded(handler.unary_unary))

    def _guarded(self, serve: Any) -> Any:
        async def check_then_serve(request: Any, context: Any) -> Any:
            reason = objection(context, self._is_insecure)
            if reason is not None:
                self._on_refused(context.peer(), reason)
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, reason)
            return await serve(request, context)

        return check_then_serve
