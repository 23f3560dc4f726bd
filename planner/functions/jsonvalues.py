"""JSON text and JSON values.

A json datum is its text as written; a jsonb datum is canonical text (objects sorted by key length then
bytes, one space after ``:`` and ``,``).  A piece of canonical text is canonical, so reading from
either type cuts text and decodes nothing else (``members``, ``items``).  Values, where whole documents must be
taken apart, are dict, list, str, bool, None, int and Decimal (which keeps a number's scale).
"""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from base.errors import error
from base.typeio.json import canonical_text, decode_json, quote

__all__ = ["as_text", "decode", "encode", "items", "kind", "members", "pairs", "piece", "quote"]

_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_SCANNER: Final = json.JSONDecoder()
_BLANKS: Final = " \t\n\r"

decode = decode_json
"""The value of a JSON text; raises what reading it as jsonb would."""
encode = canonical_text
"""Canonical jsonb text of a value."""


def kind(text: str) -> str:
    """``object``, ``array``, ``string``, ``number``, ``boolean`` or ``null``, from the first character."""
    first = text.lstrip(_BLANKS)[0]
    return _KINDS.get(first, "number")


_KINDS: Final = {"{": "object", "[": "array", '"': "string", "t": "boolean", "f": "boolean", "n": "null"}


def members(text: str) -> dict[str, Any] | None:
    """An object's members as raw pieces; None if the text is no object.  Of equal keys the last counts."""
    try:
        return _MEMBERS.decode(text)
    except msgspec.ValidationError:
        return None


def items(text: str) -> list[Any] | None:
    """An array's items as raw pieces; None if the text is no array."""
    try:
        return _ITEMS.decode(text)
    except msgspec.ValidationError:
        return None


def piece(raw: Any) -> str:
    """The text of a raw piece."""
    return bytes(raw).decode()


def as_text(text: str) -> str | None:
    """What ``->>`` gives: strings unquoted, null as NULL, the rest as it is."""
    if text[0] == '"':
        value: str = decode_json(text)
        return value
    return None if text == "null" else text


def pairs(text: str) -> list[tuple[str, str]]:
    """An object's members in the order written, with repeated keys, as (key, raw text)."""
    out: list[tuple[str, str]] = []
    at = _skip(text, text.index("{") + 1)
    while text[at] != "}":
        key, at = _scan(text, at)
        at = _skip(text, at)
        assert text[at] == ":", f"{text=} {at=}"
        start = _skip(text, at + 1)
        _, end = _scan(text, start)
        out.append((key, text[start:end]))
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return out


def _scan(text: str, at: int) -> tuple[Any, int]:
    try:
        return _SCANNER.raw_decode(text, at)
    except RecursionError:
        raise error("54001", "stack depth limit exceeded") from None


def _skip(text: str, at: int) -> int:
    while text[at] in _BLANKS:
        at += 1
    return at
