"""SCRAM-SHA-256 authentication, server side (RFC 5802, RFC 7677; chapter 55.3).

The exchange for a role that does not exist, or has no password, runs to its end with a made-up salt derived from a
server secret, and fails there: nobody learns which roles exist.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Final

from base.errors import SqlError
from base.seams import Rng

MECHANISM: Final = "SCRAM-SHA-256"
MECHANISM_PLUS: Final = "SCRAM-SHA-256-PLUS"
MESSAGE_BYTES_MAX: Final = 4096
ITERATIONS_MOCK: Final = 4096
NONCE_BYTES: Final = 18
_CLIENT_FIRST: Final = re.compile(
    r"(?P<header>(?P<flag>n|y|p=[A-Za-z0-9.-]+),,)(?P<bare>n=[^,]*,r=(?P<nonce>[\x21-\x2b\x2d-\x7e]+)(?:,[A-Za-z]=[^,]*)*)"
)
"""client-first-message; no authorization identity, and no mandatory extension (m=)."""
_CLIENT_FINAL: Final = re.compile(
    r"(?P<unproven>c=(?P<binding>[A-Za-z0-9+/=]+),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]+)(?:,[A-Za-z]=[^,]*)*),p=(?P<proof>[A-Za-z0-9+/=]+)"
)


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
    """One login: ``first`` then ``final``.

    Names as in RFC 5802: the authentication message is client-first-bare, server-first and
    client-final-without-proof, joined by commas.  The user name inside it is ignored, as PostgreSQL does: libpq
    sends none, the startup packet has it.
    """

    def __init__(self, user: str, secret: str | None, server_secret: bytes, rng: Rng, certificate: bytes) -> None:
        self.user = user
        self.is_known = secret is not None
        self._binding = channel_binding(certificate)
        self._secret = parse_secret(secret) if secret is not None else mock_secret(user, server_secret)
        self._nonce = base64.b64encode(rng.bytes(NONCE_BYTES)).decode()
        self._bound = b""
        """What the client must repeat, with the channel's data: the gs2-header."""
        self._messages = ""

    def mechanisms(self) -> bytes:
        """Body of AuthenticationSASL."""
        names = [MECHANISM_PLUS, MECHANISM] if self._binding is not None else [MECHANISM]
        return b"".join(name.encode() + b"\0" for name in names) + b"\0"

    def first(self, body: bytes) -> bytes:
        """SASLInitialResponse -> server-first-message."""
        end = body.find(b"\0")
        if end < 0 or len(body) < end + 5:
            raise _malformed("The message has no mechanism or no length.")
        mechanism = body[:end].decode("ascii", "replace")
        length = int.from_bytes(body[end + 1 : end + 5], "big", signed=True)
        data = body[end + 5 :]
        if length != len(data) or length > MESSAGE_BYTES_MAX:
            raise _malformed("Message length does not match input length.")
        if mechanism not in (MECHANISM, MECHANISM_PLUS) or (mechanism == MECHANISM_PLUS and self._binding is None):
            raise SqlError("client selected an invalid SASL authentication mechanism", sqlstate="08P01")
        found = _CLIENT_FIRST.fullmatch(_text(data))
        if found is None:
            raise _malformed("The client-first-message is not as RFC 5802 says.")
        self._check_binding_flag(found["flag"], mechanism == MECHANISM_PLUS)
        self._bound = found["header"].encode()
        if mechanism == MECHANISM_PLUS:
            self._bound += self._binding or b""
        self._nonce = found["nonce"] + self._nonce
        salt, _, _, iterations = self._secret
        reply = f"r={self._nonce},s={base64.b64encode(salt).decode()},i={iterations}"
        self._messages = f"{found['bare']},{reply}"
        return reply.encode()

    def _check_binding_flag(self, flag: str, is_plus: bool) -> None:
        """Compares what the client says about channel binding with the mechanism it chose."""
        if is_plus != flag.startswith("p"):
            raise _malformed(
                "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data."
                if is_plus
                else "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel binding data."
            )
        if is_plus and flag != "p=tls-server-end-point":
            raise SqlError(f'unsupported SCRAM channel-binding type "{flag[2:]}"', sqlstate="08P01")
        if flag == "y" and self._binding is not None:
            # The client could bind but was made to think that we cannot: somebody edited our offer.
            raise SqlError(
                "SCRAM channel binding negotiation error",
                sqlstate="28000",
                detail="The client supports SCRAM channel binding but thinks the server does not.  However, this server does support channel binding.",
            )

    def final(self, body: bytes) -> bytes:
        """SASLResponse -> server-final-message; raises 28P01 if the proof is wrong."""
        assert self._messages, "the client-final-message came first"
        found = _CLIENT_FINAL.fullmatch(_text(body)) if len(body) <= MESSAGE_BYTES_MAX else None
        if found is None:
            raise _malformed("The client-final-message is not as RFC 5802 says.")
        if found["binding"] != base64.b64encode(self._bound).decode():
            raise SqlError("SCRAM channel binding check failed", sqlstate="28000")
        if found["nonce"] != self._nonce:
            raise SqlError("invalid SCRAM response", sqlstate="08P01", detail="Nonce does not match.")
        _, stored_key, server_key, _ = self._secret
        signed = f"{self._messages},{found['unproven']}".encode()
        try:
            proof = base64.b64decode(found["proof"], validate=True)
        except ValueError:
            raise _malformed("Malformed proof in client-final-message.") from None
        signature = hmac.digest(stored_key, signed, "sha256")
        client_key = bytes([a ^ b for a, b in zip(proof, signature)])
        is_proven = hmac.compare_digest(hashlib.sha256(client_key).digest(), stored_key)
        if not is_proven or len(proof) != len(signature) or not self.is_known:
            raise SqlError(f'password authentication failed for user "{self.user}"', sqlstate="28P01")
        return b"v=" + base64.b64encode(hmac.digest(server_key, signed, "sha256"))


def _malformed(detail: str) -> SqlError:
    return SqlError("malformed SCRAM message", sqlstate="08P01", detail=detail)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _malformed("The message is not UTF-8.") from None
