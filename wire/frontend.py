"""Frontend messages (chapter 55.7): from a message's body to its fields.

Every count and length is checked against the body before anything is allocated for it.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from base.errors import SqlError

_SHORT: Final = struct.Struct("!H")
_INT: Final = struct.Struct("!i")


class Parse(NamedTuple):
    name: str
    sql: str
    param_oids: tuple[int, ...]


class Bind(NamedTuple):
    portal: str
    statement: str
    param_formats: tuple[int, ...]
    params: list[bytes | None]
    result_formats: tuple[int, ...]


def violation(message: str) -> SqlError:
    return SqlError(message, sqlstate="08P01")


def text_at(body: bytes, at: int) -> tuple[str, int]:
    """Reads a NUL-terminated string; returns it and where the next field starts."""
    end = body.find(b"\0", at)
    if end == at:
        return "", end + 1
    if end < 0:
        raise violation("invalid string in message")
    try:
        return body[at:end].decode(), end + 1
    except UnicodeDecodeError as problem:
        bad = body[at + problem.start : at + problem.start + 1]
        raise SqlError(f'invalid byte sequence for encoding "UTF8": 0x{bad.hex()}', sqlstate="22021") from None


def parse_query(body: bytes) -> str:
    sql, end = text_at(body, 0)
    if end != len(body):
        raise violation("invalid message format")
    return sql


def parse_parse(body: bytes) -> Parse:
    name, at = text_at(body, 0)
    sql, at = text_at(body, at)
    if len(body) < at + 2:
        raise violation("insufficient data left in message")
    (count,) = _SHORT.unpack_from(body, at)
    if len(body) != at + 2 + 4 * count:
        raise violation("invalid message format")
    return Parse(name, sql, struct.unpack_from(f"!{count}I", body, at + 2))


def _formats(body: bytes, at: int) -> tuple[tuple[int, ...], int]:
    if body[at : at + 2] == b"\0\0":
        return (), at + 2
    if len(body) < at + 2:
        raise violation("insufficient data left in message")
    (count,) = _SHORT.unpack_from(body, at)
    at += 2
    if len(body) < at + 2 * count:
        raise violation("insufficient data left in message")
    return struct.unpack_from(f"!{count}h", body, at), at + 2 * count


def parse_bind(body: bytes) -> Bind:
    portal, at = text_at(body, 0)
    statement, at = text_at(body, at)
    param_formats, at = _formats(body, at)
    size = len(body)
    if size < at + 2:
        raise violation("insufficient data left in message")
    (count,) = _SHORT.unpack_from(body, at)
    at += 2
    if size < at + 4 * count:
        raise violation("insufficient data left in message")
    params: list[bytes | None] = []
    unpack = _INT.unpack_from
    for _ in range(count):
        if size < at + 4:
            raise violation("insufficient data left in message")
        (length,) = unpack(body, at)
        at += 4
        if length == -1:
            params.append(None)
            continue
        if length < 0 or size < at + length:
            raise violation("insufficient data left in message")
        params.append(body[at : at + length])
        at += length
    if body[at:] == b"\0\0":
        return Bind(portal, statement, param_formats, params, ())
    result_formats, at = _formats(body, at)
    if at != size:
        raise violation("invalid message format")
    return Bind(portal, statement, param_formats, params, result_formats)


def parse_target(body: bytes) -> tuple[str, str]:
    """Describe and Close: ('S' or 'P', name)."""
    if body == b"P\0":
        return "P", ""
    kind = body[:1]
    name, end = text_at(body, 1)
    if kind not in (b"S", b"P") or end != len(body):
        raise violation("invalid message format")
    return kind.decode(), name


def parse_execute(body: bytes) -> tuple[str, int]:
    """Returns (portal, max rows); a negative limit is none."""
    if body == b"\0\0\0\0\0":
        return "", 0
    name, at = text_at(body, 0)
    if len(body) != at + 4:
        raise violation("invalid message format")
    return name, max(_INT.unpack_from(body, at)[0], 0)
