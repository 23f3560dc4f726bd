"""SCRAM-SHA-256 authentication, server side (RFC 5802, RFC 7677; chapter 55.3).

The exchange for a role that does not exist, or has no password, runs to its end with a made-up salt derived from a
server secret, and fails there: nobody learns which roles exist.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any, Final

from base.errors import SqlError
from base.seams import Rng

MECHANISM: Final = "SCRAM-SHA-256"
MECHANISM_PLUS: Final = "SCRAM-SHA-256-PLUS"
MESSAGE_BYTES_MAX: Final = 4096
ITERATIONS_MOCK: Final = 4096
NONCE_BYTES: Final = 18


def channel_binding(certificate: bytes) -> bytes | None:
    """Returns the tls-server-end-point data of a certificate (RFC 5929): None where it is undefined (Ed25519)."""
    if not certificate:
        return None
    # A heavy import, and only logins over TLS need it.
    from cryptography import x509

    algorithm = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    if algorithm is None:
        return None
    name = "sha256" if algorithm.name in ("md5", "sha1") else algorithm.name
    return hashlib.new(name, certificate).digest()


def mock_secret(user: str, server_secret: bytes) -> tuple[bytes, bytes, bytes, int]:
    """Returns (salt, stored key, server key, iterations) for a role without a password; never matches."""
    salt = hmac.digest(server_secret, b"salt " + user.encode(), "sha256")[:16]
    stored = hmac.digest(server_secret, b"stored " + user.encode(), "sha256")
    server = hmac.digest(server_secret, b"server " + user.encode(), "sha256")
    return salt, stored, server, ITERATIONS_MOCK


def parse_secret(secret: str) -> tuple[bytes, bytes, bytes, int]:
    """Splits ``SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>``."""
    _, parameters, keys = secret.split("$")
    iterations, salt = parameters.split(":")
    stored, server = keys.split(":")
    return base64.b64decode(salt), base64.b64decode(stored), base64.b64decode(server), int(iterations)


class ScramExchange:
    """One login: ``first`` then ``final``."""

    def __init__(self, user: str, secret: str | None, server_secret: bytes, rng: Rng, certificate: bytes) -> None:
        self.user = user
        self.is_known = secret is not None
        self._binding = channel_binding(certificate)
        self._secret = parse_secret(secret) if secret is not None else mock_secret(user, server_secret)
        self._nonce = base64.b64encode(rng.bytes(NONCE_BYTES)).decode()
        self._server: Any = None

    def mechanisms(self) -> bytes:
        """Body of AuthenticationSASL."""
        names = [MECHANISM_PLUS, MECHANISM] if self._binding is not None else [MECHANISM]
        return b"".join(name.encode() + b"\0" for name in names) + b"\0"

    def first(self, body: bytes) -> bytes:
        """SASLInitialResponse -> server-first-message."""
        end = body.find(b"\0")
        if end < 0 or len(body) < end + 5:
            raise SqlError("malformed SCRAM message", sqlstate="08P01")
        mechanism = body[:end].decode("ascii", "replace")
        length = int.from_bytes(body[end + 1 : end + 5], "big", signed=True)
        data = body[end + 5 :]
        if length != len(data) or length > MESSAGE_BYTES_MAX:
            raise SqlError("malformed SCRAM message", sqlstate="08P01")
        if mechanism not in (MECHANISM, MECHANISM_PLUS) or (mechanism == MECHANISM_PLUS and self._binding is None):
            raise SqlError("client selected an invalid SASL authentication mechanism", sqlstate="08P01")
        if mechanism == MECHANISM and self._binding is not None and data.startswith(b"y"):
            # The client could bind but was made to think that we cannot: somebody edited our offer.
            raise SqlError(
                "SCRAM channel binding negotiation error",
                sqlstate="28000",
                detail="The client supports SCRAM channel binding but thinks the server does not.  However, this server does support channel binding.",
            )
        from scramp import ScramException, ScramMechanism

        salt, stored, server, iterations = self._secret
        binding = ("tls-server-end-point", self._binding) if mechanism == MECHANISM_PLUS else None
        exchange: Any = ScramMechanism(mechanism).make_server(
            lambda user: (salt, stored, server, iterations), channel_binding=binding, s_nonce=self._nonce
        )
        self._server = exchange
        try:
            exchange.set_client_first(_text(data))
            reply: str = exchange.get_server_first()
            return reply.encode()
        except (ScramException, ValueError, IndexError, KeyError) as problem:
            raise SqlError("malformed SCRAM message", sqlstate="08P01") from problem

    def final(self, body: bytes) -> bytes:
        """SASLResponse -> server-final-message; raises 28P01 if the proof is wrong."""
        from scramp import ScramException

        assert self._server is not None
        failure = SqlError(f'password authentication failed for user "{self.user}"', sqlstate="28P01")
        if len(body) > MESSAGE_BYTES_MAX:
            raise SqlError("malformed SCRAM message", sqlstate="08P01")
        try:
            self._server.set_client_final(_text(body))
            answer = self._server.get_server_final()
        except (ScramException, ValueError, IndexError, KeyError):
            raise failure from None
        if not self.is_known:
            raise failure
        return str(answer).encode()


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise SqlError("malformed SCRAM message", sqlstate="08P01") from None
