"""Backend messages (PostgreSQL 15, chapter 55.7): plain functions from values to bytes.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from base.errors import MeridianError
from sql.api import ResultColumn

_LENGTH: Final = struct.Struct("!i")
_SHORT: Final = struct.Struct("!h")
_COLUMN: Final = struct.Struct("!IhIhih")

AUTHENTICATION_OK: Final = b"R\x00\x00\x00\x08\x00\x00\x00\x00"
PARSE_COMPLETE: Final = b"1\x00\x00\x00\x04"
BIND_COMPLETE: Final = b"2\x00\x00\x00\x04"
CLOSE_COMPLETE: Final = b"3\x00\x00\x00\x04"
NO_DATA: Final = b"n\x00\x00\x00\x04"
EMPTY_QUERY: Final = b"I\x00\x00\x00\x04"
PORTAL_SUSPENDED: Final = b"s\x00\x00\x00\x04"
COPY_DONE: Final = b"c\x00\x00\x00\x04"
READY: Final = {"I": b"Z\x00\x00\x00\x05I", "T": b"Z\x00\x00\x00\x05T", "E": b"Z\x00\x00\x00\x05E"}


def message(kind: bytes, body: bytes) -> bytes:
    """Returns a message: type, length, body."""
    return kind + _LENGTH.pack(len(body) + 4) + body


def authentication(code: int, rest: bytes = b"") -> bytes:
    """Authentication request: 10 SASL, 11 SASL continue, 12 SASL final."""
    return message(b"R", _LENGTH.pack(code) + rest)


def parameter_status(name: str, value: str) -> bytes:
    return message(b"S", name.encode() + b"\0" + value.encode() + b"\0")


def backend_key_data(pid: int, key: bytes) -> bytes:
    return message(b"K", _LENGTH.pack(pid) + key)


def negotiate_protocol(minor: int, unknown: Sequence[str]) -> bytes:
    names = b"".join(name.encode() + b"\0" for name in unknown)
    return message(b"v", _LENGTH.pack(minor) + _LENGTH.pack(len(unknown)) + names)


def command_complete(tag: str) -> bytes:
    return message(b"C", tag.encode() + b"\0")


def row_description(columns: Sequence[ResultColumn], formats: Sequence[int]) -> bytes:
    """``formats`` as in Bind: none (all text), one for all, or one each."""
    parts = [_SHORT.pack(len(columns))]
    for i, column in enumerate(columns):
        code = formats[i] if len(formats) > 1 else formats[0] if formats else 0
        parts.append(column.name.encode() + b"\0")
        parts.append(
            _COLUMN.pack(column.table_oid, column.attnum, column.type.oid, column.type.length, column.typmod, code)
        )
    return message(b"T", b"".join(parts))


def parameter_description(oids: Sequence[int]) -> bytes:
    return message(b"t", struct.pack(f"!H{len(oids)}I", len(oids), *oids))


def notification(pid: int, channel: str, payload: str) -> bytes:
    return message(b"A", _LENGTH.pack(pid) + channel.encode() + b"\0" + payload.encode() + b"\0")


def copy_response(kind: bytes, overall: int, formats: Sequence[int]) -> bytes:
    """``kind`` G (in) or H (out)."""
    return message(kind, struct.pack(f"!bh{len(formats)}h", overall, len(formats), *formats))


def copy_data(chunk: bytes) -> bytes:
    return message(b"d", chunk)


CACHED_PLAN_CHANGED: Final = "cached plan must not change result type"
_FIELDS: Final = (
    ("detail", b"D"),
    ("hint", b"H"),
    ("context", b"W"),
    ("schema", b"s"),
    ("table", b"t"),
    ("column", b"c"),
    ("datatype", b"d"),
    ("constraint", b"n"),
)


def _report(kind: bytes, severity: str, error: MeridianError) -> bytes:
    name = severity.encode()
    parts = [b"S" + name, b"V" + name, b"C" + error.sqlstate.encode(), b"M" + _text(error.message)]
    for attribute, code in _FIELDS:
        value = getattr(error, attribute, None)
        if value:
            parts.append(code + _text(value))
    if error.position is not None and error.position > 0:
        parts.append(b"P" + str(error.position).encode())
    if error.message == CACHED_PLAN_CHANGED:
        # asyncpg knows by this routine of PostgreSQL's that it must prepare the statement again.
        parts.append(b"RRevalidateCachedQuery")
    return message(kind, b"\0".join(parts) + b"\0\0")


def _text(value: str) -> bytes:
    return value.replace("\0", "\\0").encode("utf-8", "replace")


def error_response(error: MeridianError, severity: str = "ERROR") -> bytes:
    return _report(b"E", severity, error)


def notice_response(error: MeridianError, severity: str) -> bytes:
    return _report(b"N", severity, error)
