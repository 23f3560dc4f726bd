"""json (kept as written, checked) and jsonb (canonical text).

Canonical text is what PostgreSQL prints: ``{"a": 1, "bb": [1.10, null]}``; keys by length, then by
bytes, the last of equal keys wins; numbers are numerics that keep their scale (1e3 is 1000, 1.10
stays); strings are escaped no more than needed.  msgspec reads valid documents; whatever it
refuses, or reads otherwise than PostgreSQL, goes to the scanner of ``jsonscan``, which knows
PostgreSQL's errors.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from json.encoder import encode_basestring as quote
from typing import Any, Final

import msgspec

from base.errors import MeridianError, error
from base.typeio.jsonscan import DEPTH_MAX, JsonScanner, depth_exceeded
from base.typeio.numeric import parse_numeric, render_numeric
from base.typeio.rejection import binary_too_short

__all__ = ["quote"]

_REFUSED: Final = (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError, MeridianError)
_JSONB_VERSION: Final = 1
_DSCALE_SAFE: Final = 16_000
"""A number of fewer characters, without exponent, fits numeric."""


def _number(text: str) -> Decimal:
    if len(text) < _DSCALE_SAFE and "e" not in text and "E" not in text:
        value = Decimal(text)
        if value:
            return value
    return parse_numeric(text)


_FLAWS: Final = (b"E-", b"E+", b":-0", b",-0", b"[-0")
"""In compact JSON: signs of a Decimal whose text is not numeric's, one with an exponent or a negative zero.

Most texts have none of them, and looking for them costs next to nothing.
"""
_FLAWED: Final = re.compile(rb"[0-9]E[+-][0-9]|[\[,:]-0(?:\.0*)?(?![0-9.])")
"""The same, precisely."""
_DECODER: Final = msgspec.json.Decoder(float_hook=_number)
_FAST_DECODER: Final = msgspec.json.Decoder(float_hook=Decimal)
_VALIDATOR: Final = msgspec.json.Decoder(type=msgspec.Raw)
_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")


def parse_json(text: str) -> str:
    """Returns the text itself if it is valid JSON."""
    try:
        _VALIDATOR.decode(text)
    except _REFUSED:
        JsonScanner(text, False).check()
    return text


def parse_jsonb(text: str) -> str:
    """Returns the canonical text."""
    if "\\u" in text or len(text) >= _DSCALE_SAFE:
        return canonical_text(decode_json(text))
    try:
        value = _FAST_DECODER.decode(text)
        if value.__class__ is dict or value.__class__ is list:
            value = _reorder(value, 1, text.isascii())
        data = _ENCODER.encode(value)
        for flaw in _FLAWS:
            if flaw in data and _FLAWED.search(data) is not None:
                return canonical_text(decode_json(text))
        if data[:2] != b"-0":
            return msgspec.json.format(data, indent=0).decode()
        return canonical_text(decode_json(text))
    except _REFUSED:
        return canonical_text(decode_json(text))


def _reorder(value: Any, depth: int, is_ascii: bool) -> Any:
    """Puts keys in canonical order, all the way down."""
    if depth > DEPTH_MAX:
        raise depth_exceeded()
    if value.__class__ is list:
        for i, item in enumerate(value):
            if item.__class__ is dict or item.__class__ is list:
                value[i] = _reorder(item, depth + 1, is_ascii)
        return value
    if is_ascii:
        # Two stable sorts in C: by text, then by length.
        keys = sorted(value)
        keys.sort(key=len)
    else:
        keys = sorted(value, key=key_order)
    ordered = {key: value[key] for key in keys}
    for key, item in ordered.items():
        if item.__class__ is dict or item.__class__ is list:
            ordered[key] = _reorder(item, depth + 1, is_ascii)
    return ordered


def decode_json(text: str) -> Any:
    """Returns dicts, lists, str, int, Decimal, bool and None; raises PostgreSQL's error for jsonb."""
    if "\\u0000" in text:
        return JsonScanner(text, True).check()
    try:
        return _DECODER.decode(text)
    except _REFUSED:
        return JsonScanner(text, True).check()


def key_order(key: str) -> tuple[int, bytes]:
    """Shorter keys first, then by bytes."""
    data = key.encode()
    return len(data), data


def canonical_text(value: Any) -> str:
    """Prints a decoded document; numbers may be int or Decimal."""
    if value.__class__ is str:
        return quote(value)
    parts: list[str] = []
    _append(value, parts.append, 0)
    return "".join(parts)


def _append(value: Any, put: Callable[[str], None], depth: int) -> None:
    kind = value.__class__
    if kind is str:
        put(quote(value))
    elif kind is dict:
        _append_object(value, put, depth)
    elif kind is list or kind is tuple:
        if depth >= DEPTH_MAX:
            raise depth_exceeded()
        separator = "["
        for item in value:
            put(separator)
            separator = ", "
            item_kind = item.__class__
            if item_kind is str:
                put(quote(item))
            elif item_kind is int:
                put(_int_text(item))
            else:
                _append(item, put, depth + 1)
        put("]" if value else "[]")
    elif kind is int:
        put(_int_text(value))
    elif kind is Decimal:
        put(render_numeric(value))
    elif value is None:
        put("null")
    elif value is True:
        put("true")
    else:
        assert value is False, f"no JSON value: {value!r}"
        put("false")


def _append_object(value: dict[str, Any], put: Callable[[str], None], depth: int) -> None:
    if depth >= DEPTH_MAX:
        raise depth_exceeded()
    if not value:
        put("{}")
        return
    keys = list(value)
    if len(keys) > 1:
        if "".join(keys).isascii():
            # Two stable sorts in C: by text, then by length.
            keys.sort()
            keys.sort(key=len)
        else:
            keys.sort(key=key_order)
    separator = "{"
    for key in keys:
        put(separator + quote(key) + ": ")
        separator = ", "
        item = value[key]
        kind = item.__class__
        if kind is str:
            put(quote(item))
        elif kind is int:
            put(_int_text(item))
        else:
            _append(item, put, depth + 1)
    put("}")


def _int_text(value: int) -> str:
    # str() of a longer int is limited by the interpreter; Decimal is not.
    return str(value) if -(10**18) < value < 10**18 else str(Decimal(value))


def send_jsonb(value: str) -> bytes:
    return b"\x01" + value.encode()


def receive_jsonb(text: str, data: bytes) -> str:
    """``text`` is what follows the version byte."""
    if not data:
        raise binary_too_short()
    if data[0] != _JSONB_VERSION:
        raise error("XX000", f"unsupported jsonb version number {data[0]}")
    return parse_jsonb(text)
