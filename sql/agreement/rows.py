"""The rows that nodes agree by; see the package."""

from __future__ import annotations

import msgspec
from msgspec import Struct

LOCKED = 0
"""The change is being made."""
PUBLISHED = 1
"""It has committed; the fence goes once every node has it."""


class LeaseRow(Struct, array_like=True, frozen=True):
    """What one node has promised."""

    node_id: int
    incarnation: bytes
    """Of the term: drawn anew whenever a lease was lost, so that what began before is known to be over."""
    until: int
    """HLC timestamp: nothing that runs on the node is read or committed at or after it."""
    version: int
    """The catalog's, that the node plans with."""
    kept: dict[int, bytes] = {}
    """Table -> schema change: no transaction of this node writes the table."""
    refused: dict[int, bytes] = {}
    """The same, where keeping it would be a deadlock."""
    waiting: dict[bytes, int] = {}
    """Schema change of this node -> the table whose fence it waits for."""


class FenceRow(Struct, array_like=True, frozen=True):
    """Who keeps writers away from a table."""

    table_id: int
    change_id: bytes
    """Of the schema change's transaction."""
    node_id: int
    incarnation: bytes
    state: int = LOCKED
    version: int = 0
    """Of the catalog with the change, once that is published."""
    txn_id: bytes = b""
    """Of the schema change, with the anchor that it had when it put up the fence: who waits for it there is in a
    deadlock if it waits for them."""
    anchor: bytes = b""


_encoder = msgspec.msgpack.Encoder()
_lease_decoder = msgspec.msgpack.Decoder(LeaseRow)
_fence_decoder = msgspec.msgpack.Decoder(FenceRow)


def encode_row(row: LeaseRow | FenceRow) -> bytes:
    """Returns the stored form."""
    return _encoder.encode(row)


def decode_lease(data: bytes) -> LeaseRow:
    """Raises msgspec.ValidationError on anything else."""
    return _lease_decoder.decode(data)


def decode_fence(data: bytes) -> FenceRow:
    """Raises msgspec.ValidationError on anything else."""
    return _fence_decoder.decode(data)
