"""bytea, uuid and bit strings; encode, decode and hashes.  PostgreSQL 15 manual: 9.5, 9.6, 9.14."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from typing import Final

from base.errors import error
from base.typeio.text import parse_bytea, render_bytea_escape
from planner.context import ExecContext
from planner.functions.arithmetic import wrap
from planner.functions.declare import define, define_operator
from planner.functions.registry import VOLATILE, Registry
from planner.functions.strings import check_length

BASE64_LINE: Final = 76


def substring(value: bytes, start: int) -> bytes:
    return value[max(start, 1) - 1 :]


def substring_length(value: bytes, start: int, length: int) -> bytes:
    if length < 0:
        raise error("22011", "negative substring length not allowed")
    return value[max(start, 1) - 1 : max(start + length, 1) - 1]


def overlay(value: bytes, replacement: bytes, start: int, length: int | None = None) -> bytes:
    if start <= 0:
        raise error("22011", "negative substring length not allowed")
    end = start + (len(replacement) if length is None else length)
    return substring_length(value, 1, start - 1) + replacement + substring(value, end)


def position(value: bytes, wanted: bytes) -> int:
    return value.find(wanted) + 1


def trim_both(value: bytes, characters: bytes) -> bytes:
    return value.strip(characters) if characters else value


def trim_left(value: bytes, characters: bytes) -> bytes:
    return value.lstrip(characters) if characters else value


def trim_right(value: bytes, characters: bytes) -> bytes:
    return value.rstrip(characters) if characters else value


def _index_error(index: int, length: int) -> Exception:
    return error("2202E", f"index {index} out of valid range, 0..{length - 1}")


def get_byte(value: bytes, index: int) -> int:
    if not 0 <= index < len(value):
        raise _index_error(index, len(value))
    return value[index]


def set_byte(value: bytes, index: int, new: int) -> bytes:
    if not 0 <= index < len(value):
        raise _index_error(index, len(value))
    return value[:index] + bytes((new & 255,)) + value[index + 1 :]


def get_bit(value: bytes, index: int) -> int:
    """Bits count from the least significant of the first byte."""
    if not 0 <= index < 8 * len(value):
        raise _index_error(index, 8 * len(value))
    return (value[index // 8] >> (index % 8)) & 1


def set_bit(value: bytes, index: int, new: int) -> bytes:
    if not 0 <= index < 8 * len(value):
        raise _index_error(index, 8 * len(value))
    if new not in (0, 1):
        raise error("22023", "new bit must be 0 or 1")
    old = value[index // 8]
    changed = old | (1 << (index % 8)) if new else old & ~(1 << (index % 8))
    return set_byte(value, index // 8, changed)


def bit_count(value: bytes) -> int:
    return int.from_bytes(value, "big").bit_count()


# --- encode, decode, hashes ------------------------------------------------------------


def _format_error(name: str) -> Exception:
    return error("22023", f'unrecognized encoding: "{name}"')


def encode(value: bytes, name: str) -> str:
    """Text form of bytes: hex, base64 (lines of 76) or escape."""
    form = name.lower()
    if form == "hex":
        return value.hex()
    if form == "base64":
        text = base64.b64encode(value).decode()
        return "\n".join([text[i : i + BASE64_LINE] for i in range(0, len(text), BASE64_LINE)])
    if form == "escape":
        return render_bytea_escape(value)
    raise _format_error(name)


def decode(text: str, name: str) -> bytes:
    form = name.lower()
    if form == "hex":
        return parse_bytea("\\x" + text)
    if form == "base64":
        return _decode_base64(text)
    if form == "escape":
        return parse_bytea(text) if not text.startswith("\\x") else _escape_error()
    raise _format_error(name)


def _escape_error() -> bytes:
    raise error("22P02", "invalid input syntax for type bytea")


def _decode_base64(text: str) -> bytes:
    compact = text.translate({9: None, 10: None, 13: None, 32: None})
    for char in compact:
        if not (char.isascii() and (char.isalnum() or char in "+/=")):
            raise error("22023", f'invalid symbol "{char}" found while decoding base64 sequence')
    try:
        return base64.b64decode(compact, validate=True)
    except binascii.Error:
        raise error(
            "22023",
            "invalid base64 end sequence",
            hint="Input data is missing padding, is truncated, or is otherwise corrupted.",
        ) from None


def md5_text(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def md5_bytes(value: bytes) -> str:
    return hashlib.md5(value, usedforsecurity=False).hexdigest()


def _digest(algorithm: str) -> Callable[[bytes], bytes]:
    return lambda value: hashlib.new(algorithm, value).digest()


def convert_to(text: str, encoding: str) -> bytes:
    try:
        return text.encode(_codec(encoding))
    except UnicodeEncodeError as failure:
        char = text[failure.start].encode()
        sequence = " ".join([f"0x{byte:02x}" for byte in char])
        raise error(
            "22P05",
            f'character with byte sequence {sequence} in encoding "UTF8" has no equivalent in encoding "{encoding.upper()}"',
        ) from None


def convert_from(value: bytes, encoding: str) -> str:
    codec = _codec(encoding)
    try:
        return value.decode(codec)
    except UnicodeDecodeError as failure:
        raise error(
            "22021", f'invalid byte sequence for encoding "{encoding.upper()}": 0x{value[failure.start]:02x}'
        ) from None


_CODECS: Final = {
    "utf8": "utf-8", "unicode": "utf-8", "utf-8": "utf-8", "latin1": "latin-1", "iso88591": "latin-1", "latin9": "iso8859-15", "sql_ascii": "utf-8",
    "win1252": "cp1252", "windows1252": "cp1252", "win1251": "cp1251", "win1250": "cp1250", "koi8r": "koi8-r", "euc_jp": "euc-jp", "sjis": "shift_jis",
    "gbk": "gbk", "gb18030": "gb18030", "big5": "big5", "euc_kr": "euc-kr", "uhc": "cp949", "latin2": "iso8859-2", "latin5": "iso8859-9",
}  # fmt: skip


def _codec(encoding: str) -> str:
    codec = _CODECS.get(encoding.lower())
    if codec is None:
        raise error("22023", f'invalid encoding name "{encoding}"')
    return codec


# --- uuid and bit strings ----------------------------------------------------------------


def random_uuid(ctx: ExecContext) -> bytes:
    """Version 4."""
    value = bytearray(ctx.random_bytes(16))
    value[6] = value[6] & 0x0F | 0x40
    value[8] = value[8] & 0x3F | 0x80
    return bytes(value)


def _bitwise(word: str, operation: Callable[[int, int], int]) -> Callable[[str, str], str]:
    def compute(left: str, right: str) -> str:
        if len(left) != len(right):
            raise error("22026", f"cannot {word} bit strings of different sizes")
        return f"{operation(int(left, 2), int(right, 2)):0{len(left)}b}" if left else left

    return compute


def bit_not(value: str) -> str:
    return value.translate({48: "1", 49: "0"})


def shift_left(value: str, count: int) -> str:
    if count < 0:
        return shift_right(value, -count)
    count = min(count, len(value))
    return value[count:] + "0" * count


def shift_right(value: str, count: int) -> str:
    if count < 0:
        return shift_left(value, -count)
    count = min(count, len(value))
    return "0" * count + value[: len(value) - count]


def bits_to_int(bits: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if len(value) > bits:
            raise error("22003", "integer out of range" if bits == 32 else "bigint out of range")
        return wrap(int(value, 2), bits) if value else 0

    return read


def bit_string_get(value: str, index: int) -> int:
    if not 0 <= index < len(value):
        raise error("2202E", f"bit index {index} out of valid range (0..{len(value) - 1})")
    return int(value[index])


def bit_string_set(value: str, index: int, new: int) -> str:
    if not 0 <= index < len(value):
        raise error("2202E", f"bit index {index} out of valid range (0..{len(value) - 1})")
    if new not in (0, 1):
        raise error("22023", "new bit must be 0 or 1")
    return f"{value[:index]}{new}{value[index + 1 :]}"


def bit_substring(value: str, start: int, length: int | None = None) -> str:
    if length is None:
        return value[max(start, 1) - 1 :]
    if length < 0:
        raise error("22011", "negative substring length not allowed")
    return value[max(start, 1) - 1 : max(start + length, 1) - 1]


def concatenate(left: bytes, right: bytes) -> bytes:
    check_length(len(left) + len(right))
    return left + right


def _register_bytea(registry: Registry) -> None:
    define_operator(registry, "||", "byteacat(bytea, bytea) bytea", concatenate)
    for name in ("length", "octet_length"):
        define(registry, f"{name}(bytea) int4", inline="len({0})")
    define(registry, "bit_length(bytea) int4", inline="len({0}) * 8")
    for name in ("substring", "substr"):
        define(registry, f"{name}(bytea, int4) bytea", substring)
        define(registry, f"{name}(bytea, int4, int4) bytea", substring_length)
    define(registry, "overlay(bytea, bytea, int4) bytea", overlay)
    define(registry, "overlay(bytea, bytea, int4, int4) bytea", overlay)
    define(registry, "position(bytea, bytea) int4", position)
    for name, trim in (("btrim", trim_both), ("ltrim", trim_left), ("rtrim", trim_right)):
        define(registry, f"{name}(bytea, bytea) bytea", trim)
    define(registry, "get_byte(bytea, int4) int4", get_byte)
    define(registry, "set_byte(bytea, int4, int4) bytea", set_byte)
    define(registry, "get_bit(bytea, int8) int4", get_bit)
    define(registry, "set_bit(bytea, int8, int4) bytea", set_bit)
    define(registry, "bit_count(bytea) int8", bit_count)


def _register_codes(registry: Registry) -> None:
    define(registry, "encode(bytea, text) text", encode)
    define(registry, "decode(text, text) bytea", decode)
    define(registry, "md5(text) text", md5_text)
    define(registry, "md5(bytea) text", md5_bytes)
    for algorithm in ("sha224", "sha256", "sha384", "sha512"):
        define(registry, f"{algorithm}(bytea) bytea", _digest(algorithm))
    define(registry, "convert_to(text, name) bytea", convert_to)
    define(registry, "convert_from(bytea, name) text", convert_from)
    define(registry, "gen_random_uuid() uuid", random_uuid, needs_context=True, volatility=VOLATILE)


def _register_bits(registry: Registry) -> None:
    operations: tuple[tuple[str, str, str, Callable[[int, int], int]], ...] = (
        ("&", "bitand", "AND", lambda a, b: a & b),
        ("|", "bitor", "OR", lambda a, b: a | b),
        ("#", "bitxor", "XOR", lambda a, b: a ^ b),
    )
    for symbol, name, word, operation in operations:
        define_operator(registry, symbol, f"{name}(bit, bit) bit", _bitwise(word, operation))
    define_operator(registry, "~", "bitnot(bit) bit", bit_not)
    define_operator(registry, "<<", "bitshiftleft(bit, int4) bit", shift_left)
    define_operator(registry, ">>", "bitshiftright(bit, int4) bit", shift_right)
    define_operator(registry, "||", "bitcat(varbit, varbit) varbit", inline="({0} + {1})")
    for name in ("length", "bit_length"):
        define(registry, f"{name}(bit) int4", inline="len({0})")
    define(registry, "octet_length(bit) int4", inline="(len({0}) + 7) // 8")
    define(registry, "bit_count(bit) int8", inline='{0}.count("1")')
    define(registry, "get_bit(bit, int4) int4", bit_string_get)
    define(registry, "set_bit(bit, int4, int4) bit", bit_string_set)
    define(registry, "substring(bit, int4) bit", bit_substring)
    define(registry, "substring(bit, int4, int4) bit", bit_substring)
    define(registry, "position(bit, bit) int4", inline="({0}.find({1}) + 1)")


def register(registry: Registry) -> None:
    """Adds this family."""
    _register_bytea(registry)
    _register_codes(registry)
    _register_bits(registry)
