"""Text and binary form of bit and varbit: a string of '0' and '1'.

Binary: | number of bits 4 | bytes, first bit highest, zero-padded |.
"""

from __future__ import annotations

import struct
from typing import Final

from base.errors import error
from base.typeio.rejection import bad_binary, binary_too_short

BITS_MAX: Final = 83_886_080
"""Of bit(n) and varbit(n)."""
_LENGTH: Final = struct.Struct(">i")


def parse_bits(text: str) -> str:
    """``0101``, ``B0101`` or ``X1F``."""
    if text[:1] in ("x", "X"):
        for c in text[1:]:
            if c not in "0123456789abcdefABCDEF":
                raise error("22P02", f'"{c}" is not a valid hexadecimal digit')
        return "".join([f"{int(c, 16):04b}" for c in text[1:]])
    digits = text[1:] if text[:1] in ("b", "B") else text
    if digits.strip("01"):
        for c in digits:
            if c not in "01":
                raise error("22P02", f'"{c}" is not a valid binary digit')
    return digits


def bits_typmod(length: int, name: str) -> int:
    if length < 1:
        raise error("22023", f"length for type {name} must be at least 1")
    if length > BITS_MAX:
        raise error("22023", f"length for type {name} cannot exceed {BITS_MAX}")
    return length


def apply_bit_typmod(value: str, typmod: int, explicit: bool) -> str:
    """An explicit cast cuts or pads on the right."""
    if typmod <= 0 or len(value) == typmod:
        return value
    if not explicit:
        raise error("22026", f"bit string length {len(value)} does not match type bit({typmod})")
    return value[:typmod].ljust(typmod, "0")


def apply_varbit_typmod(value: str, typmod: int, explicit: bool) -> str:
    if typmod <= 0 or len(value) <= typmod:
        return value
    if not explicit:
        raise error("22001", f"bit string too long for type bit varying({typmod})")
    return value[:typmod]


def send_bits(value: str) -> bytes:
    size = (len(value) + 7) // 8
    padded = value.ljust(size * 8, "0")
    return _LENGTH.pack(len(value)) + (int(padded, 2).to_bytes(size, "big") if size else b"")


def receive_bits(data: bytes) -> str:
    if len(data) < 4:
        raise binary_too_short()
    length: int = _LENGTH.unpack_from(data)[0]
    if not 0 <= length <= 2**31 - 1 - 8:
        raise error("22P03", "invalid length in external bit string")
    size = (length + 7) // 8
    if len(data) < 4 + size:
        raise binary_too_short()
    if len(data) > 4 + size:
        raise bad_binary()
    return "".join([f"{byte:08b}" for byte in data[4:]])[:length]
