"""SCRAM-SHA-256 verifiers of passwords (RFC 5802, RFC 7677), as PostgreSQL stores them."""

from __future__ import annotations

import base64
from typing import Final

from base.seams import Rng

ITERATIONS: Final = 4096
SALT_BYTES: Final = 16


def scram_secret_of(password: str, rng: Rng) -> str:
    """Returns ``SCRAM-SHA-256$4096:<salt>$<StoredKey>:<ServerKey>``; a verifier is taken as it is."""
    if password.startswith("SCRAM-SHA-256$"):
        return password
    from scramp import ScramMechanism

    mechanism = ScramMechanism("SCRAM-SHA-256")
    salt, stored_key, server_key, iterations = mechanism.make_auth_info(
        password, iteration_count=ITERATIONS, salt=rng.bytes(SALT_BYTES)
    )
    salt64, stored64, server64 = (base64.b64encode(part).decode() for part in (salt, stored_key, server_key))
    return f"SCRAM-SHA-256${iterations}:{salt64}${stored64}:{server64}"
