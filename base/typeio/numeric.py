"""Text and binary form of numeric, and its typmod.

A numeric is a Decimal whose exponent is minus its dscale: 1.10 keeps two digits, and no exponent
is positive.  There is no negative zero.  At most 131,072 digits before the point and 16,383 after.

Binary: | ndigits 2 | weight 2 | sign 2 | dscale 2 | ndigits base-10000 digits, 2 each |, the first
digit worth 10000**weight, without zeros at either end.
"""

from __future__ import annotations

import re
import struct
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, ROUND_DOWN, ROUND_HALF_UP, Context, Decimal
from functools import lru_cache
from typing import Final

from base.errors import MeridianError, error
from base.typeio.rejection import bad_binary, binary_too_short, invalid_syntax
from base.types import NUMERIC_DIGITS_MAX

DSCALE_MAX: Final = 16_383
TYPMOD_PRECISION_MAX: Final = 1000
TYPMOD_SCALE_MAX: Final = 1000
_TYPMOD_OFFSET: Final = 4
"""VARHDRSZ: PostgreSQL adds it to the typmods of all variable-length types."""
_EXPONENT_LIMIT: Final = (2**31 - 1) // 2
EXACT: Final = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, rounding=ROUND_HALF_UP, traps=[])
"""Never rounds but where told to (quantize), half away from zero."""

_NUMERIC: Final = re.compile(
    r"[ \t\n\v\f\r]*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:[eE][ \t\n\v\f\r]*([+-]?[0-9]+))?[ \t\n\v\f\r]*\Z"
)
_SPECIAL: Final = re.compile(r"[ \t\n\v\f\r]*(?:(nan)|([+-]?)inf(?:inity)?)[ \t\n\v\f\r]*\Z", re.IGNORECASE)
NAN: Final = Decimal("NaN")
INFINITY: Final = Decimal("Infinity")
MINUS_INFINITY: Final = Decimal("-Infinity")
_HEADER: Final = struct.Struct(">HhHH")
_SIGN_NEGATIVE: Final = 0x4000
_SIGN_NAN: Final = 0xC000
_SIGN_INFINITY: Final = 0xD000
_SIGN_MINUS_INFINITY: Final = 0xF000
_SEND_SPECIAL: Final = {
    "NaN": _HEADER.pack(0, 0, _SIGN_NAN, 0),
    "Infinity": _HEADER.pack(0, 0, _SIGN_INFINITY, 0x20),
    "-Infinity": _HEADER.pack(0, 0, _SIGN_MINUS_INFINITY, 0x20),
}


def overflows_format() -> MeridianError:
    return error("22003", "value overflows numeric format")


def parse_numeric(text: str, typmod: int = -1) -> Decimal:
    """Reads a numeric and rounds it to its typmod."""
    match = _NUMERIC.match(text)
    if match is None:
        return apply_typmod(_parse_special(text), typmod)
    digits, exponent_text = match.groups()
    if exponent_text is None:
        value = Decimal(digits)
        if value and len(digits) < DSCALE_MAX:
            return value if typmod < 0 else apply_typmod(value, typmod)
    else:
        value = _scale(digits, exponent_text)
    return apply_typmod(checked(value), typmod)


def _scale(digits: str, exponent_text: str) -> Decimal:
    exponent = int(exponent_text) if len(exponent_text.lstrip("+-0")) <= 10 else _EXPONENT_LIMIT
    if abs(exponent) >= _EXPONENT_LIMIT:
        raise overflows_format()
    return Decimal(f"{digits}E{exponent}")


def _parse_special(text: str) -> Decimal:
    match = _SPECIAL.match(text)
    if match is None:
        raise invalid_syntax("numeric", text)
    if match.group(1):
        return NAN
    return MINUS_INFINITY if match.group(2) == "-" else INFINITY


def checked(value: Decimal) -> Decimal:
    """Returns the value as a datum: no positive exponent, no negative zero, inside the format's limits."""
    if not value.is_finite():
        return value if not value.is_nan() else NAN
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int), value
    if exponent < -DSCALE_MAX:
        raise overflows_format()
    if not value:
        return Decimal((0, (0,), min(exponent, 0)))
    if value.adjusted() >= NUMERIC_DIGITS_MAX:
        raise overflows_format()
    if exponent > 0:
        return value.quantize(Decimal(1), context=EXACT)
    return value


def render_numeric(value: Decimal) -> str:
    text = str(value)
    if "E" in text:
        text = format(value, "f")
    if text[0] == "-" and not value:
        return text[1:]
    return text


def encode_numeric(value: Decimal) -> bytes:
    text = str(value)
    if "E" in text or text[0] == "-":
        text = render_numeric(value)
    return text.encode()


# --- typmod ---------------------------------------------------------------------


def numeric_typmod(precision: int, scale: int = 0) -> int:
    """Returns the typmod of numeric(precision, scale); raises 22023."""
    if not 1 <= precision <= TYPMOD_PRECISION_MAX:
        raise error("22023", f"NUMERIC precision {precision} must be between 1 and {TYPMOD_PRECISION_MAX}")
    if not -TYPMOD_SCALE_MAX <= scale <= TYPMOD_SCALE_MAX:
        raise error("22023", f"NUMERIC scale {scale} must be between -{TYPMOD_SCALE_MAX} and {TYPMOD_SCALE_MAX}")
    return ((precision << 16) | (scale & 0x7FF)) + _TYPMOD_OFFSET


def precision_and_scale(typmod: int) -> tuple[int, int]:
    """The scale is an 11-bit two's complement number."""
    packed = typmod - _TYPMOD_OFFSET
    return (packed >> 16) & 0xFFFF, ((packed & 0x7FF) ^ 1024) - 1024


@lru_cache(maxsize=2 * TYPMOD_SCALE_MAX + 1)
def _unit(scale: int) -> Decimal:
    """10**-scale, with that scale."""
    return Decimal((0, (1,), -scale))


def apply_typmod(value: Decimal, typmod: int) -> Decimal:
    """Rounds half away from zero to the scale; raises 22003 if the precision is exceeded."""
    if typmod < _TYPMOD_OFFSET or value.is_nan():
        return value
    precision, scale = precision_and_scale(typmod)
    if value.is_infinite():
        raise error(
            "22003",
            "numeric field overflow",
            detail=f"A field with precision {precision}, scale {scale} cannot hold an infinite value.",
        )
    # A value of far too many digits must not be written out only to be refused.
    if value and value.adjusted() >= precision - scale:
        raise _field_overflow(precision, scale)
    unit = _unit(scale)
    if value and value.same_quantum(unit):
        return value
    rounded = value.quantize(unit, context=EXACT)
    if rounded and rounded.adjusted() >= precision - scale:
        raise _field_overflow(precision, scale)
    if scale < 0:
        rounded = rounded.quantize(Decimal(1), context=EXACT)
    return rounded if rounded else Decimal((0, (0,), -max(scale, 0)))


def _field_overflow(precision: int, scale: int) -> MeridianError:
    power = precision - scale
    limit = f"10^{power}" if power else "1"
    return error(
        "22003",
        "numeric field overflow",
        detail=f"A field with precision {precision}, scale {scale} must round to an absolute value less than {limit}.",
    )


# --- binary ---------------------------------------------------------------------


def send_numeric(value: Decimal) -> bytes:
    text = render_numeric(value)
    if text[-1] not in "0123456789":
        return _SEND_SPECIAL[text]
    sign = 0
    if text[0] == "-":
        sign = _SIGN_NEGATIVE
        text = text[1:]
    whole, _, fraction = text.partition(".")
    dscale = len(fraction)
    whole = whole.lstrip("0")
    digits = whole.zfill(-(-len(whole) // 4) * 4) + fraction + "000"[: -dscale % 4]
    groups = [int(digits[i : i + 4]) for i in range(0, len(digits), 4)]
    weight = -(-len(whole) // 4) - 1
    first = 0
    last = len(groups)
    while last and groups[last - 1] == 0:
        last -= 1
    while first < last and groups[first] == 0:
        first += 1
    if first == last:
        return _HEADER.pack(0, 0, 0, dscale)
    return struct.pack(f">HhHH{last - first}H", last - first, weight - first, sign, dscale, *groups[first:last])


def receive_numeric(data: bytes, typmod: int = -1) -> Decimal:
    """Validates every field before anything is built from it."""
    if len(data) < 8:
        raise binary_too_short()
    count, weight, sign, dscale = _HEADER.unpack_from(data)
    if sign not in (0, _SIGN_NEGATIVE, _SIGN_NAN, _SIGN_INFINITY, _SIGN_MINUS_INFINITY):
        raise error("22P03", 'invalid sign in external "numeric" value')
    if dscale > DSCALE_MAX:
        raise error("22P03", 'invalid scale in external "numeric" value')
    if len(data) < 8 + 2 * count:
        raise binary_too_short()
    if len(data) > 8 + 2 * count:
        raise bad_binary()
    groups = struct.unpack_from(f">{count}H", data, 8)
    if count and max(groups) > 9999:
        raise error("22P03", 'invalid digit in external "numeric" value')
    if (
        sign <= _SIGN_NEGATIVE
        and count <= _SMALL_GROUPS_MAX
        and -_SMALL_GROUPS_MAX < weight < _SMALL_GROUPS_MAX
        and dscale <= 4 * _SMALL_GROUPS_MAX
    ):
        return apply_typmod(_compose_small(groups, weight, sign != 0, dscale), typmod)
    if sign == _SIGN_NAN:
        return NAN
    if sign in (_SIGN_INFINITY, _SIGN_MINUS_INFINITY):
        return apply_typmod(INFINITY if sign == _SIGN_INFINITY else MINUS_INFINITY, typmod)
    return checked(apply_typmod(_compose(groups, weight, sign == _SIGN_NEGATIVE, dscale), typmod))


_SMALL_GROUPS_MAX: Final = 8


def _compose_small(groups: tuple[int, ...], weight: int, negative: bool, dscale: int) -> Decimal:
    """As ``_compose``, in integers: the common case."""
    number = 0
    for group in groups:
        number = number * 10_000 + group
    shift = dscale + 4 * (weight - len(groups) + 1)
    number = number * 10**shift if shift >= 0 else number // 10**-shift
    return Decimal(-number if negative else number).scaleb(-dscale, EXACT)


def _compose(groups: tuple[int, ...], weight: int, negative: bool, dscale: int) -> Decimal:
    """Digits that the dscale would hide are cut off, as PostgreSQL does."""
    unit = Decimal((0, (1,), -dscale))
    if not any(groups):
        return Decimal((0, (0,), -dscale))
    digits = "".join([f"{group:04d}" for group in groups])
    value = Decimal(f"{'-' if negative else ''}{digits}E{(weight - len(groups) + 1) * 4}")
    if value.adjusted() >= NUMERIC_DIGITS_MAX:
        raise overflows_format()
    return value.quantize(unit, rounding=ROUND_DOWN, context=EXACT)
