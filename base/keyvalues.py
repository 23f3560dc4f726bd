"""Scalar values inside keys: bytes that compare as the values do.

The forms are described in ``base.keytypes``; here are the conversions that take more
than an addition.  A decoder takes (buffer, position) and returns (value, position after it).

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

import ipaddress
import struct
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from typing import Final

from base.errors import StorageFailure
from base.types import NUMERIC_DIGITS_MAX, PgType

INVERT: Final = bytes(255 - i for i in range(256))
"""Translation table that inverts every bit: descending order of bytes."""
TERMINATOR: Final = b"\x00\x01"

_UINT32 = struct.Struct(">I")
_DOUBLE = struct.Struct(">d")
_DOUBLE_BITS = struct.Struct(">Q")
_SINGLE = struct.Struct(">f")
_SINGLE_BITS = struct.Struct(">I")
_TIMETZ = struct.Struct(">QI")

# --- fixed-width types ---------------------------------------------------------

FLOAT8_NAN: Final = 0xFFF8_0000_0000_0000
FLOAT4_NAN: Final = 0xFFC0_0000


def float8_bits(value: float) -> int:
    """Returns 64 bits that order as PostgreSQL orders float8: -0 equals 0, NaN is the largest."""
    if value != value:
        return FLOAT8_NAN
    bits: int = _DOUBLE_BITS.unpack(_DOUBLE.pack(value + 0.0))[0]
    return bits ^ 0xFFFF_FFFF_FFFF_FFFF if bits >> 63 else bits | 1 << 63


def bits_float8(bits: int) -> float:
    bits = bits ^ 1 << 63 if bits >> 63 else bits ^ 0xFFFF_FFFF_FFFF_FFFF
    value: float = _DOUBLE.unpack(_DOUBLE_BITS.pack(bits))[0]
    return value


def float4_bits(value: float) -> int:
    """As float8_bits, for single precision; OverflowError if the value does not fit."""
    if value != value:
        return FLOAT4_NAN
    bits: int = _SINGLE_BITS.unpack(_SINGLE.pack(value + 0.0))[0]
    return bits ^ 0xFFFF_FFFF if bits >> 31 else bits | 1 << 31


def bits_float4(bits: int) -> float:
    bits = bits ^ 1 << 31 if bits >> 31 else bits ^ 0xFFFF_FFFF
    value: float = _SINGLE.unpack(_SINGLE_BITS.pack(bits))[0]
    return value


DAY_US: Final = 86_400_000_000
MONTH_DAYS: Final = 30


def interval_bytes(value: tuple[int, int, int]) -> bytes:
    """Returns the 12-byte span in microseconds that PostgreSQL's interval_cmp compares."""
    months, days, microseconds = value
    return ((months * MONTH_DAYS + days) * DAY_US + microseconds + (1 << 95)).to_bytes(12, "big")


def bytes_interval(key: bytes) -> tuple[int, int, int]:
    """Returns a justified interval that compares equal to the encoded one."""
    days, microseconds = divmod(int.from_bytes(key, "big") - (1 << 95), DAY_US)
    months, days = divmod(days, MONTH_DAYS)
    return months, days, microseconds


def timetz_bytes(value: tuple[int, int]) -> bytes:
    """Orders by the UTC instant, then by zone, as timetz_cmp does."""
    microseconds, west = value
    return _TIMETZ.pack(microseconds + west * 1_000_000 + (1 << 63), west + (1 << 31))


def bytes_timetz(key: bytes) -> tuple[int, int]:
    utc, zone = _TIMETZ.unpack(key)
    west = zone - (1 << 31)
    return utc - (1 << 63) - west * 1_000_000, west


class EnumLabels:
    """Physical integers back to labels; a label added later is found on the second look."""

    __slots__ = ("_labels", "_type")

    def __init__(self, pg_type: PgType) -> None:
        self._type = pg_type
        self._labels: dict[int, str] = {}

    def label(self, physical: int) -> str:
        found = self._labels.get(physical)
        if found is None:
            self._labels = {number: label for label, number in self._type.enum_physical.items()}
            found = self._labels.get(physical)
            if found is None:
                raise StorageFailure(
                    f"no label of enum {self._type.name} has the internal value {physical}", sqlstate="XX001"
                )
        return found


# --- varying types -------------------------------------------------------------


def decode_bytes(key: bytes, start: int) -> tuple[bytes, int]:
    end = key.index(TERMINATOR, start)
    return key[start:end].replace(b"\x00\xff", b"\x00"), end + 2


def encode_bytes(value: bytes) -> bytes:
    return value.replace(b"\x00", b"\x00\xff") + TERMINATOR


def decode_text(key: bytes, start: int) -> tuple[str, int]:
    end = key.index(TERMINATOR, start)
    return key[start:end].replace(b"\x00\xff", b"\x00").decode(), end + 2


def encode_text(value: str) -> bytes:
    return value.encode().replace(b"\x00", b"\x00\xff") + TERMINATOR


EXACT: Final = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
NUMERIC_ZERO: Final = b"\x80"
NUMERIC_NAN: Final = b"\xff"
NUMERIC_INFINITY: Final = b"\xfe"
NUMERIC_MINUS_INFINITY: Final = b"\x01"
EXPONENT_SMALL: Final = 40
"""Exponents within +-40 are part of the lead byte."""
_LEAD_TINY: Final = 0x82
_LEAD_MIDDLE: Final = 0x83 + EXPONENT_SMALL
_LEAD_HUGE: Final = _LEAD_MIDDLE + EXPONENT_SMALL + 1
_EXPONENT_BIAS: Final = 1 << 23
_NEXT = bytes((i + 1) & 255 for i in range(256))
_PREVIOUS = bytes((i - 1) & 255 for i in range(256))


def encode_numeric(value: Decimal) -> bytes:
    """Returns bytes that order as numbers do, whatever their scale.

    A positive number is 0.d1d2d3.. x 10^e with d1 not 0: a lead byte that carries e
    if it is small, else says that three bytes of biased exponent follow; then two digits
    a byte in BCD plus 1; then 00.  A negative number is the inversion of its
    absolute value.  01 -Infinity < 2B..7D negative < 80 zero < 82..D4 positive < FE Infinity < FF NaN.
    """
    if not value.is_finite():
        if value.is_nan():
            return NUMERIC_NAN
        return NUMERIC_MINUS_INFINITY if value.is_signed() else NUMERIC_INFINITY
    if not value:
        return NUMERIC_ZERO
    digits = "".join(map(str, value.as_tuple().digits)).rstrip("0")
    if len(digits) & 1:
        digits += "0"
    exponent = value.adjusted() + 1
    if -EXPONENT_SMALL <= exponent <= EXPONENT_SMALL:
        lead = bytes((_LEAD_MIDDLE + exponent,))
    else:
        lead = bytes((_LEAD_TINY if exponent < 0 else _LEAD_HUGE,)) + (exponent + _EXPONENT_BIAS).to_bytes(3, "big")
    key = lead + bytes.fromhex(digits).translate(_NEXT) + b"\x00"
    return key.translate(INVERT) if value.is_signed() else key


_NUMERIC_SPECIAL: Final[dict[int, Decimal]] = {
    NUMERIC_ZERO[0]: Decimal(0),
    NUMERIC_NAN[0]: Decimal("NaN"),
    NUMERIC_INFINITY[0]: Decimal("Infinity"),
    NUMERIC_MINUS_INFINITY[0]: Decimal("-Infinity"),
}


def decode_numeric(key: bytes, start: int) -> tuple[Decimal, int]:
    """Returns an equal number without trailing fractional zeros."""
    lead = key[start]
    special = _NUMERIC_SPECIAL.get(lead)
    if special is not None:
        return special, start + 1
    if lead < NUMERIC_ZERO[0]:
        end = key.index(b"\xff", start + (4 if lead in (255 - _LEAD_TINY, 255 - _LEAD_HUGE) else 1))
        value, _ = decode_numeric(key[start : end + 1].translate(INVERT), 0)
        return value.copy_negate(), end + 1
    if lead in (_LEAD_TINY, _LEAD_HUGE):
        exponent = int.from_bytes(key[start + 1 : start + 4], "big") - _EXPONENT_BIAS
        if abs(exponent) > NUMERIC_DIGITS_MAX:
            raise ValueError(f"numeric with exponent {exponent}")
        start += 4
    else:
        exponent = lead - _LEAD_MIDDLE
        start += 1
    end = key.index(b"\x00", start)
    digits = key[start:end].translate(_PREVIOUS).hex()
    if exponent < len(digits):
        digits = digits[: max(exponent, 1)] + digits[max(exponent, 1) :].rstrip("0")
    scale = min(exponent - len(digits), 0)
    integer = digits + "0" * (exponent - len(digits))
    return EXACT.scaleb(Decimal(integer), scale), end + 1


IPV4: Final = 4
IPV6: Final = 6


def encode_inet(value: str) -> bytes:
    """Orders as network_cmp: family, network bits, mask length, then the whole address."""
    interface = ipaddress.ip_interface(value)
    network = interface.network
    return b"".join(
        (bytes((interface.version,)), network.network_address.packed, bytes((network.prefixlen,)), interface.packed)
    )


def _decode_network(key: bytes, start: int, always_mask: bool) -> tuple[str, int]:
    size = {IPV4: 4, IPV6: 16}[key[start]]
    mask = key[start + 1 + size]
    end = start + 2 + 2 * size
    address = str(ipaddress.ip_address(key[end - size : end]))
    return (f"{address}/{mask}" if always_mask or mask != size * 8 else address), end


def decode_inet(key: bytes, start: int) -> tuple[str, int]:
    return _decode_network(key, start, False)


def decode_cidr(key: bytes, start: int) -> tuple[str, int]:
    return _decode_network(key, start, True)


_VECTOR_BIAS: Final = 1 << 31


def encode_vector(value: tuple[int, ...]) -> bytes:
    """int2vector and oidvector: shorter ones first, as btoidvectorcmp; 5 bytes each hold either's range."""
    return _UINT32.pack(len(value)) + b"".join([(number + _VECTOR_BIAS).to_bytes(5, "big") for number in value])


def decode_vector(key: bytes, start: int) -> tuple[tuple[int, ...], int]:
    end = start + 4 + 5 * int(_UINT32.unpack_from(key, start)[0])
    if end > len(key):
        raise ValueError(f"vector ends at {end} of {len(key)} bytes")
    return tuple([int.from_bytes(key[i : i + 5], "big") - _VECTOR_BIAS for i in range(start + 4, end, 5)]), end
