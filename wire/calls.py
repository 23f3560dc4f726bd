"""How a client calls a prepared statement: the bytes around its parameters.

    Bind                                            Describe, if any    Execute      Sync
    | B len 00 | name 00 formats.. n | values.. | formats.. | D len 'P' 00 | E len 00 0000 | S len |
                 head                               tail, up to the end

A driver sends the same head and tail with every call of a statement.  They are parsed once, into a ``CallShape``;
after that a call is recognized by comparing them, and only its values are read.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from typing import Any, Final

from sql.api import Call, SessionApi
from wire import encode, frontend

BIND: Final = 66
EXECUTE: Final = 69
SYNC_KIND: Final = 83
DESCRIBE_PORTAL: Final = b"D\0\0\0\6P\0"
EXECUTE_ALL: Final = b"E\0\0\0\x09\0\0\0\0\0"
SYNC: Final = b"S\0\0\0\4"
HEADS_MAX: Final = 1_000
"""Statements whose calls one connection remembers; then it begins anew."""
TAILS_MAX: Final = 4
"""Ways to end one of them: text or binary results, described or not."""
ONE_ROW: Final = encode.command_complete("SELECT 1") + encode.READY["I"]
NO_ROW: Final = encode.command_complete("SELECT 0") + encode.READY["I"]


class CallShape:
    """One statement's call: what it is, how it ends, how its answer begins."""

    __slots__ = ("call", "formats_bytes", "opening", "tail")

    def __init__(self, call: Call, tail: bytes, formats_bytes: int, opening: bytes) -> None:
        self.call = call
        self.tail = tail
        """From the result formats of Bind to the end of Sync."""
        self.formats_bytes = formats_bytes
        """Bytes of the tail that still belong to Bind."""
        self.opening = opening
        """BindComplete, and what Describe asked for."""


class CallHead:
    """The part of Bind before the values, and the calls that begin with it."""

    __slots__ = ("count", "shapes")

    def __init__(self, count: int) -> None:
        self.count = count
        """Parameters."""
        self.shapes: list[CallShape] = []

    def find(self, data: bytes, tail_at: int, bind_end: int) -> CallShape | None:
        """Returns the call that ends as the bytes at ``tail_at`` do."""
        for shape in self.shapes:
            if tail_at + shape.formats_bytes == bind_end and data.startswith(shape.tail, tail_at):
                return shape
        return None

    def add(self, shape: CallShape) -> None:
        """Puts a shape in the place of an older one with its tail."""
        shapes = [old for old in self.shapes if old.tail != shape.tail]
        self.shapes = [*shapes[-TAILS_MAX + 1 :], shape]


def number_at(data: bytes, at: int) -> int:
    """Returns the 4-byte number at an offset, unsigned."""
    return data[at] << 24 | data[at + 1] << 16 | data[at + 2] << 8 | data[at + 3]


def head_end(data: bytes, at: int) -> int:
    """Returns where the head of the Bind that begins at ``at`` ends, or 0 if it is none of ours or not all there.

    Ours are those of a named statement to the unnamed portal.
    """
    size = len(data)
    if size < at + 12 or data[at + 5] != 0 or data[at + 6] == 0:
        return 0
    end = data.find(b"\0", at + 7) + 1
    if end == 0 or size < end + 4:
        return 0
    end += 4 + 2 * (data[end] << 8 | data[end + 1])
    return end if end <= size else 0


def split_values(data: bytes, at: int, count: int) -> list[Any] | None:
    """Reads the values of a Bind; returns them and, as the last item, where they end.  None if they are not all there."""
    values: list[Any] = []
    size = len(data)
    for _ in range(count):
        if size < at + 4:
            return None
        length = number_at(data, at)
        at += 4
        if length == 0xFFFFFFFF:
            values.append(None)
            continue
        if size < at + length:
            return None
        values.append(data[at : at + length])
        at += length
    values.append(at)
    return values


def learn(data: bytes, at: int, session: SessionApi) -> tuple[int, CallShape] | None:
    """Parses the call that begins at ``at``; returns (parameters, shape), or None if it is none of a known statement.

    Raises what is wrong with its Bind.
    """
    bind_end = at + 1 + number_at(data, at + 1)
    if bind_end > len(data):
        return None
    bind = frontend.parse_bind(data[at + 5 : bind_end])
    rest = bind_end
    describes = data.startswith(DESCRIBE_PORTAL, rest)
    if describes:
        rest += len(DESCRIBE_PORTAL)
    if not data.startswith(EXECUTE_ALL + SYNC, rest):
        return None
    count = len(bind.params)
    call = session.known_call(bind.statement, bind.param_formats, count, bind.result_formats)
    if call is None:
        return None
    opening = encode.BIND_COMPLETE
    if describes:
        columns = call.columns
        opening += encode.NO_DATA if columns is None else encode.row_description(columns, call.formats)
    formats_bytes = 2 + 2 * len(bind.result_formats)
    tail = data[bind_end - formats_bytes : rest + len(EXECUTE_ALL) + len(SYNC)]
    return count, CallShape(call, tail, formats_bytes, opening)
