"""Text and binary form of records and row types.

Text: ``(1,"a b",)``; nothing between commas is NULL, quotes and backslashes are doubled.  Binary:
| fields 4 | per field: type OID 4, length 4 or -1, value |.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

from base.errors import MeridianError, error
from base.typeio.rejection import bad_binary, binary_too_short

DEPTH_MAX: Final = 100
"""Row types inside row types; the reading of a value recurses by its type, so this is no attack surface."""
_BLANKS: Final = " \t\n\v\f\r"
_NEEDS_QUOTES: Final = re.compile(r'[\s(),"\\]')
_DOUBLED: Final = re.compile(r'(["\\])')
_COUNT: Final = struct.Struct(">i")
_FIELD: Final = struct.Struct(">Ii")


def _malformed(text: str, detail: str) -> MeridianError:
    return error("22P02", f'malformed record literal: "{text}"', detail=detail)


def split_record(text: str, count: int) -> list[str | None]:
    """Returns the texts of the fields; raises 22P02 unless there are ``count``."""
    at = _skip(text, 0)
    if text[at : at + 1] != "(":
        raise _malformed(text, "Missing left parenthesis.")
    at += 1
    values: list[str | None] = []
    for i in range(count):
        if i:
            if text[at : at + 1] != ",":
                if at >= len(text):
                    raise _malformed(text, "Unexpected end of input.")
                raise _malformed(text, "Too few columns.")
            at += 1
        if text[at : at + 1] in (",", ")"):
            values.append(None)
        else:
            value, at = _field(text, at)
            values.append(value)
    if text[at : at + 1] != ")":
        raise _malformed(text, "Too many columns." if at < len(text) else "Unexpected end of input.")
    if _skip(text, at + 1) < len(text):
        raise _malformed(text, "Junk after right parenthesis.")
    return values


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANKS:
        at += 1
    return at


def _field(text: str, at: int) -> tuple[str, int]:
    """Reads up to a comma or parenthesis outside quotes; quotes may open anywhere."""
    parts: list[str] = []
    in_quotes = False
    while in_quotes or text[at : at + 1] not in (",", ")"):
        if at >= len(text):
            raise _malformed(text, "Unexpected end of input.")
        c = text[at]
        at += 1
        if c == "\\":
            if at >= len(text):
                raise _malformed(text, "Unexpected end of input.")
            parts.append(text[at])
            at += 1
        elif c == '"':
            if not in_quotes:
                in_quotes = True
            elif text[at : at + 1] == '"':
                parts.append('"')
                at += 1
            else:
                in_quotes = False
        else:
            parts.append(c)
    return "".join(parts), at


def record_parser(parsers: Sequence[Callable[[str], Any]]) -> Callable[[str], tuple[Any, ...]]:
    count = len(parsers)

    def parse(text: str) -> tuple[Any, ...]:
        values = split_record(text, count)
        return tuple([None if value is None else read(value) for read, value in zip(parsers, values)])

    return parse


def quote_field(text: str) -> str:
    if text and _NEEDS_QUOTES.search(text) is None:
        return text
    return '"' + _DOUBLED.sub(r"\1\1", text) + '"'


def record_renderer(renderers: Sequence[Callable[[Any], str]]) -> Callable[[tuple[Any, ...]], str]:
    def render(value: tuple[Any, ...]) -> str:
        assert len(value) == len(renderers), f"{len(value)=} {len(renderers)=}"
        return (
            "("
            + ",".join(["" if item is None else quote_field(show(item)) for show, item in zip(renderers, value)])
            + ")"
        )

    return render


def record_sender(fields: Sequence[tuple[int, Callable[[Any], bytes]]]) -> Callable[[tuple[Any, ...]], bytes]:
    """``fields``: (type OID, sender)."""

    def send_record(value: tuple[Any, ...]) -> bytes:
        assert len(value) == len(fields), f"{len(value)=} {len(fields)=}"
        parts = [_COUNT.pack(len(fields))]
        for (oid, send), item in zip(fields, value):
            if item is None:
                parts.append(_FIELD.pack(oid, -1))
            else:
                data = send(item)
                parts.append(_FIELD.pack(oid, len(data)))
                parts.append(data)
        return b"".join(parts)

    return send_record


def record_receiver(fields: Sequence[tuple[int, str, Callable[[bytes], Any]]]) -> Callable[[bytes], tuple[Any, ...]]:
    """``fields``: (type OID, type name, receiver)."""

    def receive_record(data: bytes) -> tuple[Any, ...]:
        if len(data) < 4:
            raise binary_too_short()
        count: int = _COUNT.unpack_from(data)[0]
        if count != len(fields):
            raise error("42804", f"wrong number of columns: {count}, expected {len(fields)}")
        values: list[Any] = []
        at = 4
        for i, (oid, name, receive) in enumerate(fields):
            if len(data) < at + 8:
                raise binary_too_short()
            found, size = _FIELD.unpack_from(data, at)
            at += 8
            if found != oid:
                raise error(
                    "42804", f"binary data has type {found} instead of expected {oid} ({name}) in record column {i + 1}"
                )
            if size < -1 or len(data) < at + max(size, 0):
                raise error("22P03", "insufficient data left in message")
            if size < 0:
                values.append(None)
            else:
                values.append(receive(data[at : at + size]))
                at += size
        if at != len(data):
            raise bad_binary()
        return tuple(values)

    return receive_record
