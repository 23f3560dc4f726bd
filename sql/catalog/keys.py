"""Where the catalog lives in the key space.

All under the SYSTEM prefix, below every table (``base.keys``), so that the ranges holding it
sort first.  Every key is fixed-width or ends with a terminator, so none is a prefix of another.

| key | value |
| --- | --- |
| 03 'd' id:u32 | a descriptor, msgpack of the tagged union in ``sql.catalog.state`` |
| 03 'n' kind parent:u32 schema:u32 name 00 | id:u32, claims a name (unique even between concurrent DDL) |
| 03 'i' | next id: u32 |
| 03 'q' id:u32 | sequence state: last value i64, is_called |
| 03 's' id:u32 | TableStats, msgpack |
| 03 'u' name 00 | a role, msgpack |
| 03 'v' | catalog format version |
| 03 'a' 'v' | the catalog's version: how many changes there were, u64 (``sql.catalog.changes``) |
| 03 'a' 'c' version:u64 | what that change was, msgpack of a Change |
| 03 'a' 'l' node:u32 | what a node knows and until when, msgpack of a LeaseRow (``sql.agreement``) |
| 03 'a' 'f' table:u32 | who keeps all others from writing a table, msgpack of a FenceRow |
| 03 'a' 'x' prefix:u32 | the highest index id ever filled under a key prefix, u16 |
"""

from __future__ import annotations

from typing import Final

_PREFIX: Final = b"\x03"
NEXT_ID_KEY: Final = _PREFIX + b"i"
FORMAT_KEY: Final = _PREFIX + b"v"
VERSION_KEY: Final = _PREFIX + b"av"
FIRST_USER_ID: Final = 16_384
"""Ids below belong to PostgreSQL's own objects (FirstNormalObjectId)."""


def descriptor_key(id: int) -> bytes:
    return _PREFIX + b"d" + id.to_bytes(4, "big")


def descriptor_span() -> tuple[bytes, bytes]:
    return _PREFIX + b"d", _PREFIX + b"e"


def name_key(kind: str, database_id: int, schema_id: int, name: str) -> bytes:
    """``kind``: r relation, t type, s schema, d database."""
    return (
        _PREFIX
        + b"n"
        + kind.encode()
        + database_id.to_bytes(4, "big")
        + schema_id.to_bytes(4, "big")
        + name.encode()
        + b"\x00"
    )


def sequence_key(id: int) -> bytes:
    return _PREFIX + b"q" + id.to_bytes(4, "big")


def stats_key(id: int) -> bytes:
    return _PREFIX + b"s" + id.to_bytes(4, "big")


def stats_span() -> tuple[bytes, bytes]:
    return _PREFIX + b"s", _PREFIX + b"t"


def role_key(name: str) -> bytes:
    return _PREFIX + b"u" + name.encode() + b"\x00"


def role_span() -> tuple[bytes, bytes]:
    return _PREFIX + b"u", _PREFIX + b"v"


def change_key(version: int) -> bytes:
    return _PREFIX + b"ac" + version.to_bytes(8, "big")


def lease_key(node_id: int) -> bytes:
    return _PREFIX + b"al" + node_id.to_bytes(4, "big")


def lease_span() -> tuple[bytes, bytes]:
    return _PREFIX + b"al", _PREFIX + b"am"


def fence_key(table_id: int) -> bytes:
    return _PREFIX + b"af" + table_id.to_bytes(4, "big")


def fence_span() -> tuple[bytes, bytes]:
    return _PREFIX + b"af", _PREFIX + b"ag"


def filled_key(prefix: int) -> bytes:
    return _PREFIX + b"ax" + prefix.to_bytes(4, "big")
