"""Text and binary form of the integer types and of the 32-bit identifiers.

PostgreSQL 15: blanks around, an optional sign, decimal digits; nothing else.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from base.typeio.rejection import invalid_syntax, out_of_range, wrong_length
from base.typeio.text import decode_utf8

_INTEGER: Final = re.compile(r"[ \t\n\v\f\r]*([+-]?)0*([0-9]+)[ \t\n\v\f\r]*\Z")
_DIGITS_MAX: Final = 20
"""No 64-bit integer has more digits without leading zeros; int() of endless digits is quadratic."""
_INT2: Final = struct.Struct(">h")
_INT4: Final = struct.Struct(">i")
_INT8: Final = struct.Struct(">q")
_UINT4: Final = struct.Struct(">I")
_UINT8: Final = struct.Struct(">Q")


def _parse(text: str, lower: int, upper: int, name: str) -> int:
    match = _INTEGER.match(text)
    if match is None:
        raise invalid_syntax(name, text)
    digits = match.group(2)
    if len(digits) <= _DIGITS_MAX:
        value = -int(digits) if match.group(1) == "-" else int(digits)
        if lower <= value <= upper:
            return value
    raise out_of_range(name, text)


def parse_int2(text: str) -> int:
    if len(text) < 5 and text.isdigit() and text.isascii():
        return int(text)
    return _parse(text, -0x8000, 0x7FFF, "smallint")


def parse_int4(text: str) -> int:
    if len(text) < 10 and text.isdigit() and text.isascii():
        return int(text)
    return _parse(text, -0x80000000, 0x7FFFFFFF, "integer")


def parse_int8(text: str) -> int:
    if len(text) < 19 and text.isdigit() and text.isascii():
        return int(text)
    return _parse(text, -0x8000000000000000, 0x7FFFFFFFFFFFFFFF, "bigint")


def parse_oid(text: str) -> int:
    """A negative number is its two's complement, as strtoul has it."""
    return _parse(text, -0x80000000, 0xFFFFFFFF, "oid") & 0xFFFFFFFF


def parse_xid(text: str) -> int:
    """xid and cid: as much of a number as there is, in 32 bits, without complaint."""
    return _leading_number(text) & 0xFFFFFFFF


def parse_xid8(text: str) -> int:
    return _leading_number(text) & 0xFFFFFFFFFFFFFFFF


_LEADING: Final = re.compile(r"[ \t\n\v\f\r]*([+-]?)([0-9]*)")


def _leading_number(text: str) -> int:
    match = _LEADING.match(text)
    assert match is not None, text
    digits = match.group(2).lstrip("0")
    if not digits:
        return 0
    if len(digits) > _DIGITS_MAX or int(digits) > 0xFFFFFFFFFFFFFFFF:
        return 0xFFFFFFFFFFFFFFFF
    return -int(digits) if match.group(1) == "-" else int(digits)


def decode_int2(data: bytes) -> int:
    if len(data) < 5 and data.isdigit():
        return int(data)
    return parse_int2(decode_utf8(data))


def decode_int4(data: bytes) -> int:
    if len(data) < 10 and data.isdigit():
        return int(data)
    return parse_int4(decode_utf8(data))


def decode_int8(data: bytes) -> int:
    if len(data) < 19 and data.isdigit():
        return int(data)
    return parse_int8(decode_utf8(data))


def encode_int(value: int) -> bytes:
    return b"%d" % value


def send_int2(value: int) -> bytes:
    return _INT2.pack(value)


def send_int4(value: int) -> bytes:
    return _INT4.pack(value)


def send_int8(value: int) -> bytes:
    return _INT8.pack(value)


def send_oid(value: int) -> bytes:
    return _UINT4.pack(value)


def send_uint8(value: int) -> bytes:
    return _UINT8.pack(value)


def receive_int2(data: bytes) -> int:
    if len(data) != 2:
        raise wrong_length(data, 2)
    value: int = _INT2.unpack(data)[0]
    return value


def receive_int4(data: bytes) -> int:
    if len(data) != 4:
        raise wrong_length(data, 4)
    value: int = _INT4.unpack(data)[0]
    return value


def receive_int8(data: bytes) -> int:
    if len(data) != 8:
        raise wrong_length(data, 8)
    value: int = _INT8.unpack(data)[0]
    return value


def receive_oid(data: bytes) -> int:
    if len(data) != 4:
        raise wrong_length(data, 4)
    value: int = _UINT4.unpack(data)[0]
    return value


def receive_uint8(data: bytes) -> int:
    if len(data) != 8:
        raise wrong_length(data, 8)
    value: int = _UINT8.unpack(data)[0]
    return value
