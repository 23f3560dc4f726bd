"""hashtext, hashint4 and hashint8 with PostgreSQL's values: Bob Jenkins' lookup3 hash (2006).

Applications use them for advisory locks and for buckets, so the numbers must be the known ones.
"""

from __future__ import annotations

from typing import Final

from planner.functions.declare import define
from planner.functions.registry import Registry

_MASK: Final = 0xFFFFFFFF
_SEED: Final = 0x9E3779B9 + 3923095


def _rotate(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (32 - bits))) & _MASK


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    """Stirs three words reversibly."""
    a = (a - c) & _MASK ^ _rotate(c, 4)
    c = (c + b) & _MASK
    b = (b - a) & _MASK ^ _rotate(a, 6)
    a = (a + c) & _MASK
    c = (c - b) & _MASK ^ _rotate(b, 8)
    b = (b + a) & _MASK
    a = (a - c) & _MASK ^ _rotate(c, 16)
    c = (c + b) & _MASK
    b = (b - a) & _MASK ^ _rotate(a, 19)
    a = (a + c) & _MASK
    c = (c - b) & _MASK ^ _rotate(b, 4)
    b = (b + a) & _MASK
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    """The last stirring; gives the hash."""
    c = ((c ^ b) - _rotate(b, 14)) & _MASK
    a = ((a ^ c) - _rotate(c, 11)) & _MASK
    b = ((b ^ a) - _rotate(a, 25)) & _MASK
    c = ((c ^ b) - _rotate(b, 16)) & _MASK
    a = ((a ^ c) - _rotate(c, 4)) & _MASK
    b = ((b ^ a) - _rotate(a, 14)) & _MASK
    return ((c ^ b) - _rotate(b, 24)) & _MASK


def hash_bytes(data: bytes) -> int:
    """hash_any: an unsigned 32-bit hash."""
    a = b = c = (_SEED + len(data)) & _MASK
    at = 0
    while len(data) - at >= 12:
        a = (a + int.from_bytes(data[at : at + 4], "little")) & _MASK
        b = (b + int.from_bytes(data[at + 4 : at + 8], "little")) & _MASK
        c = (c + int.from_bytes(data[at + 8 : at + 12], "little")) & _MASK
        a, b, c = _mix(a, b, c)
        at += 12
    rest = data[at:]
    a = (a + int.from_bytes(rest[:4], "little")) & _MASK
    b = (b + int.from_bytes(rest[4:8], "little")) & _MASK
    # The lowest byte of c is reserved for the length.
    c = (c + (int.from_bytes(rest[8:], "little") << 8)) & _MASK
    return _final(a, b, c)


def hash_word(value: int) -> int:
    """hash_uint32."""
    start = (_SEED + 4) & _MASK
    return _final((start + value) & _MASK, start, start)


def _signed(value: int) -> int:
    return value - (1 << 32) if value >> 31 else value


def hash_text(text: str) -> int:
    return _signed(hash_bytes(text.encode()))


def hash_int4(value: int) -> int:
    return _signed(hash_word(value & _MASK))


def hash_int8(value: int) -> int:
    """Folded so that equal int4 and int8 hash alike."""
    low, high = value & _MASK, (value >> 32) & _MASK
    return _signed(hash_word(low ^ (high if value >= 0 else ~high & _MASK)))


def register(registry: Registry) -> None:
    """Adds this family."""
    define(registry, "hashtext(text) int4", hash_text)
    define(registry, "hashint2(int2) int4", hash_int4)
    define(registry, "hashint4(int4) int4", hash_int4)
    define(registry, "hashint8(int8) int4", hash_int8)
