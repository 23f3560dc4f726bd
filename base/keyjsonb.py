"""jsonb inside keys, in PostgreSQL's btree order (manual, 8.14.4).

Object > Array > Boolean > Number > String > Null; of two containers of a kind the one
with more members is greater; then members decide in storage order: keys by length,
then bytes.  As in PostgreSQL, an empty array at the top is below everything.

| value | bytes |
| --- | --- |
| top-level [] | 00 |
| null | 01 |
| string | 02, text as in keys |
| number | 03, numeric as in keys |
| false, true | 04, 05 |
| array | 10, count 4, elements |
| object | 11, count 4, per pair: key as text, value |
"""

from __future__ import annotations

import json
import struct
from decimal import Decimal
from typing import Any, Final

from base.errors import SqlError, StorageFailure
from base.keyvalues import decode_numeric, decode_text, encode_numeric, encode_text

_COUNT = struct.Struct(">I")
_DECODER = json.JSONDecoder(parse_float=Decimal, parse_int=Decimal)
_TOP_EMPTY_ARRAY: Final = b"\x00"
_NULL: Final = b"\x01"
_STRING: Final = b"\x02"
_NUMBER: Final = b"\x03"
_FALSE: Final = b"\x04"
_TRUE: Final = b"\x05"
_ARRAY: Final = b"\x10"
_OBJECT: Final = b"\x11"


def encode_jsonb(value: str) -> bytes:
    """Takes jsonb's output text."""
    try:
        document = _DECODER.decode(value)
        if document == [] and isinstance(document, list):
            return _TOP_EMPTY_ARRAY
        parts: list[bytes] = []
        _append(document, parts)
    except RecursionError:
        raise SqlError("stack depth limit exceeded", sqlstate="54001") from None
    return b"".join(parts)


def storage_order(key: str) -> tuple[int, bytes]:
    """Sort key of object keys: shorter first, then by bytes."""
    encoded = key.encode()
    return len(encoded), encoded


def _append(value: Any, parts: list[bytes]) -> None:
    if value is None:
        parts.append(_NULL)
    elif value is True or value is False:
        parts.append(_TRUE if value else _FALSE)
    elif isinstance(value, str):
        parts.append(_STRING + encode_text(value))
    elif isinstance(value, Decimal):
        parts.append(_NUMBER + encode_numeric(value))
    elif isinstance(value, list):
        parts.append(_ARRAY + _COUNT.pack(len(value)))
        for element in value:
            _append(element, parts)
    else:
        parts.append(_OBJECT + _COUNT.pack(len(value)))
        for key in sorted(value, key=storage_order):
            parts.append(encode_text(key))
            _append(value[key], parts)


def decode_jsonb(key: bytes, start: int) -> tuple[str, int]:
    """Returns text of an equal document; numbers lose trailing fractional zeros."""
    if key[start] == _TOP_EMPTY_ARRAY[0]:
        return "[]", start + 1
    parts: list[str] = []
    end = _read(key, start, parts)
    return "".join(parts), end


def _read(key: bytes, start: int, parts: list[str]) -> int:
    """Appends the text of the value at ``start`` and returns where it ends."""
    tag = key[start : start + 1]
    start += 1
    if tag == _STRING:
        text, start = decode_text(key, start)
        parts.append(json.dumps(text, ensure_ascii=False))
    elif tag == _NUMBER:
        number, start = decode_numeric(key, start)
        parts.append(format(number, "f"))
    elif tag in _WORDS:
        parts.append(_WORDS[tag])
    elif tag in (_ARRAY, _OBJECT):
        start = _read_members(key, start, parts, tag == _OBJECT)
    else:
        raise StorageFailure(f"unknown jsonb tag {tag!r} in a key", sqlstate="XX001")
    return start


_WORDS: Final[dict[bytes, str]] = {_NULL: "null", _FALSE: "false", _TRUE: "true"}


def _read_members(key: bytes, start: int, parts: list[str], is_object: bool) -> int:
    count: int = _COUNT.unpack_from(key, start)[0]
    start += 4
    parts.append("{" if is_object else "[")
    for i in range(count):
        if i:
            parts.append(", ")
        if is_object:
            name, start = decode_text(key, start)
            parts.append(json.dumps(name, ensure_ascii=False) + ": ")
        start = _read(key, start, parts)
    parts.append("}" if is_object else "]")
    return start
