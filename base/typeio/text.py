"""Text and binary form of the character types and of bytea.

The encoding is UTF-8.  A zero byte is in no text.  ``bpchar`` datums are padded to their length.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from base.errors import MeridianError, error
from base.typeio.rejection import invalid_syntax

NAME_BYTES_MAX: Final = 63
_TYPMOD_OFFSET: Final = 4
LENGTH_MAX: Final = 10_485_760
"""Of varchar(n) and char(n)."""


# --- UTF-8 ------------------------------------------------------------------------------


def decode_utf8(data: bytes) -> str:
    """Raises 22021 for bytes that are no UTF-8, or zero."""
    try:
        text = data.decode()
    except UnicodeDecodeError as failure:
        raise invalid_encoding(data, failure.start) from None
    if "\0" in text:
        raise invalid_encoding(data, data.index(0))
    return text


def invalid_encoding(data: bytes, at: int) -> MeridianError:
    """Names the bytes that the first one announces."""
    first = data[at]
    length = 1 if first < 0xC0 or first >= 0xF8 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    shown = " ".join([f"0x{byte:02x}" for byte in data[at : at + length]])
    return error("22021", f'invalid byte sequence for encoding "UTF8": {shown}')


def encode_utf8(text: str) -> bytes:
    return text.encode()


def same_text(text: str) -> str:
    return text


# --- typmod -------------------------------------------------------------------------------


def length_typmod(length: int, name: str) -> int:
    """Returns the typmod of varchar(n), char(n); raises 22023."""
    if length < 1:
        raise error("22023", f"length for type {name} must be at least 1")
    if length > LENGTH_MAX:
        raise error("22023", f"length for type {name} cannot exceed {LENGTH_MAX}")
    return length + _TYPMOD_OFFSET


def apply_varchar_typmod(text: str, typmod: int, explicit: bool) -> str:
    """Blanks beyond the length are dropped, other characters only by an explicit cast."""
    length = typmod - _TYPMOD_OFFSET
    if length < 0 or len(text) <= length:
        return text
    if not explicit and text[length:].strip(" "):
        raise error("22001", f"value too long for type character varying({length})")
    return text[:length]


def apply_bpchar_typmod(text: str, typmod: int, explicit: bool) -> str:
    """Pads with blanks to the length."""
    length = typmod - _TYPMOD_OFFSET
    if length < 0:
        return text
    if len(text) <= length:
        return text.ljust(length)
    if not explicit and text[length:].strip(" "):
        raise error("22001", f"value too long for type character({length})")
    return text[:length]


# --- name, "char" -------------------------------------------------------------------------


def parse_name(text: str) -> str:
    """Cuts to 63 bytes, at a character."""
    if len(text) <= NAME_BYTES_MAX // 4:
        return text
    data = text.encode()
    return text if len(data) <= NAME_BYTES_MAX else data[:NAME_BYTES_MAX].decode(errors="ignore")


def parse_char(text: str) -> str:
    """The first byte; one that is no ASCII is kept as the character of its number."""
    octal = _OCTAL_CHAR.match(text)
    if octal is not None:
        return chr(int(octal.group(1), 8))
    return text[:1] if text[:1].isascii() else chr(text.encode()[0])


_OCTAL_CHAR: Final = re.compile(r"\\([0-3][0-7]{2})\Z")


def render_char(value: str) -> str:
    if value in ("", "\0"):
        return ""
    return value if value.isascii() else f"\\{ord(value):03o}"


def send_char(value: str) -> bytes:
    return bytes([ord(value)]) if value else b"\0"


def receive_char(data: bytes) -> str:
    if len(data) != 1:
        raise error(
            "08P01" if not data else "22P03",
            "insufficient data left in message" if not data else "incorrect binary data format",
        )
    return "" if data == b"\0" else chr(data[0])


# --- bytea ----------------------------------------------------------------------------------

_HEX_BLANKS: Final = b" \t\n\r"
_ESCAPED: Final = re.compile(rb"\\(?:\\|([0-3][0-7]{2}))")
_HEX_DIGITS: Final = frozenset("0123456789abcdefABCDEF")


def parse_bytea(text: str) -> bytes:
    if text.startswith("\\x"):
        return _parse_hex(text)
    data = text.encode()
    if b"\\" not in data:
        return data
    parts: list[bytes] = []
    at = 0
    while True:
        slash = data.find(b"\\", at)
        if slash < 0:
            parts.append(data[at:])
            return b"".join(parts)
        parts.append(data[at:slash])
        match = _ESCAPED.match(data, slash)
        if match is None:
            raise error("22P02", "invalid input syntax for type bytea")
        octal = match.group(1)
        parts.append(b"\\" if octal is None else bytes([int(octal, 8)]))
        at = match.end()


def _parse_hex(text: str) -> bytes:
    digits = text[2:]
    try:
        # bytes.fromhex skips more kinds of blanks than PostgreSQL.
        if "\v" not in digits and "\f" not in digits:
            return bytes.fromhex(digits)
    except ValueError:
        pass
    at = 0
    while at < len(digits):
        if digits[at] in " \t\n\r":
            at += 1
            continue
        for c in digits[at : at + 2]:
            if c not in _HEX_DIGITS:
                raise error("22023", f'invalid hexadecimal digit: "{c}"')
        if at + 1 == len(digits):
            raise error("22023", "invalid hexadecimal data: odd number of digits")
        at += 2
    raise AssertionError(f"valid hex was refused: {text!r}")


def render_bytea_hex(value: bytes) -> str:
    return "\\x" + value.hex()


def encode_bytea_hex(value: bytes) -> bytes:
    return b"\\x" + value.hex().encode("ascii")


_ESCAPES: Final = tuple(["\\\\" if b == 0x5C else chr(b) if 0x20 <= b <= 0x7E else f"\\{b:03o}" for b in range(256)])


def render_bytea_escape(value: bytes) -> str:
    return "".join([_ESCAPES[b] for b in value])


def bytea_renderer(bytea_output: str) -> Callable[[bytes], str]:
    return render_bytea_hex if bytea_output == "hex" else render_bytea_escape


def same_bytes(value: bytes) -> bytes:
    return value


# --- bool -------------------------------------------------------------------------------------

_BLANKS: Final = " \t\n\v\f\r"
_BOOLS: Final = {
    **{"true"[:n]: True for n in range(1, 5)},
    **{"false"[:n]: False for n in range(1, 6)},
    **{"yes"[:n]: True for n in range(1, 4)},
    **{"no"[:n]: False for n in range(1, 3)},
    "on": True, "off": False, "of": False, "1": True, "0": False,
}  # fmt: skip


def parse_bool(text: str) -> bool:
    """t, true, y, yes, on, 1 and their opposites, in any case, by any unambiguous beginning."""
    value = _BOOLS.get(text)
    if value is None:
        value = _BOOLS.get(text.strip(_BLANKS).lower())
        if value is None:
            raise invalid_syntax("boolean", text)
    return value


def render_bool(value: bool) -> str:
    return "t" if value else "f"


def encode_bool(value: bool) -> bytes:
    return b"t" if value else b"f"


def send_bool(value: bool) -> bytes:
    return b"\x01" if value else b"\x00"


def receive_bool(data: bytes) -> bool:
    if len(data) != 1:
        raise error(
            "08P01" if not data else "22P03",
            "insufficient data left in message" if not data else "incorrect binary data format",
        )
    return data != b"\x00"
