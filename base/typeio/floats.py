"""Text and binary form of float4 and float8.

Output is the shortest decimal that reads back as the same value (PostgreSQL 12 and later), in
exponent form below 1e-4 and from 1e15 (float8) or 1e6 (float4) on; with ``extra_float_digits``
<= 0 it is rounded to 15 (6) digits plus that many.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Final

from base.errors import error
from base.typeio.rejection import invalid_syntax, wrong_length

_FLOAT: Final = re.compile(
    r"[ \t\n\v\f\r]*([+-]?(?:(?P<decimal>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<hex>0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)(?:[pP][+-]?[0-9]+)?)"
    r"|(?P<word>(?i:infinity|inf|nan(?:\([A-Za-z0-9_]*\))?))))[ \t\n\v\f\r]*\Z"
)
_HEX_PREFIX: Final = re.compile(r"[ \t\n\v\f\r]*[+-]?0[xX]")
_DIGITS_MAX: Final = 2000
"""More significant digits than this cannot change a double; they are cut, keeping one non-zero."""
_EXACT_INTEGER_MAX: Final = 2.0**53
_TIE_MAX: Final = 1e41
"""No larger double has a tie beside it that 17 digits can write: 5**24 does not fit its 54 bits."""
_SINGLE_NORMAL_MIN: Final = 2.0**-126
_FLOAT8: Final = struct.Struct(">d")
_FLOAT4: Final = struct.Struct(">f")


def parse_float8(text: str) -> float:
    match = _FLOAT.match(text)
    if match is None:
        raise invalid_syntax("double precision", text)
    number = match.group(1)
    if match.group("word"):
        return _word(number)
    if match.group("hex"):
        try:
            value = float.fromhex(number)
        except OverflowError:
            value = math.inf
        nonzero = any(c in "123456789abcdefABCDEF" for c in re.split("[pP]", number)[0][2:])
    else:
        value = float(number)
        nonzero = _has_digits(number)
    if math.isinf(value) or (value == 0 and nonzero):
        raise error("22003", f'"{number}" is out of range for type double precision')
    return value


def parse_float4(text: str) -> float:
    match = _FLOAT.match(text)
    if match is None:
        raise invalid_syntax("real", text)
    number = match.group(1)
    if match.group("word"):
        return _word(number)
    try:
        double = float.fromhex(number) if match.group("hex") else float(number)
        value = _nearest_single(double, number if match.group("decimal") else "")
    except OverflowError:
        value = math.inf
    nonzero = double != 0 or _has_digits(number) if match.group("decimal") else double != 0
    if math.isinf(value) or (value == 0 and nonzero):
        raise error("22003", f'"{number}" is out of range for type real')
    return value


def _word(number: str) -> float:
    lowered = number.lower()
    if "nan" in lowered:
        return math.nan
    return -math.inf if lowered[0] == "-" else math.inf


def _has_digits(number: str) -> bool:
    """True if the mantissa is not zero."""
    return any(c in "123456789" for c in re.split("[eE]", number)[0])


def round_to_single(value: float) -> float:
    """Rounds a double to single precision; raises OverflowError where only infinity is near."""
    single: float = _FLOAT4.unpack(_FLOAT4.pack(value))[0]
    return single


def _nearest_single(double: float, decimal: str) -> float:
    """Rounds what ``decimal`` writes to single precision once, not by way of the double.

    Two roundings differ only where the double lies exactly between two singles while the text does not.
    """
    single = round_to_single(double)
    if not decimal or single == double or len(decimal) > _DIGITS_MAX:
        return single
    other = double - (single - double)
    if not _is_single(other):
        return single
    exact = Fraction(Decimal(decimal))
    middle = Fraction(double)
    if exact == middle:
        return single
    return max(single, other) if exact > middle else min(single, other)


def _is_single(value: float) -> bool:
    try:
        return round_to_single(value) == value
    except OverflowError:
        return False


def render_float8(value: float) -> str:
    """Shortest text; repr is the same digits, with its own idea of when to use an exponent."""
    text = repr(value)
    if value >= _EXACT_INTEGER_MAX or value <= -_EXACT_INTEGER_MAX:
        return _render_large(value, text)
    if text.endswith(".0"):
        text = text[:-2]
    if value >= 1e15 or value <= -1e15:
        return _exponent_form(text)
    return "NaN" if text == "nan" else text


def _render_large(value: float, text: str) -> str:
    """From 2**53 on: repr may be the middle between two doubles, which reads back only by the rule of
    ties; PostgreSQL then writes one digit more."""
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if abs(value) < _TIE_MAX:
        exact, written = int(value), int(Decimal(text))
        if written != exact and abs(written - exact) * 2 == int(math.ulp(value)):
            digits = len(text.split("e")[0].replace(".", "").lstrip("-").rstrip("0"))
            text = format(value, f".{digits}e")
    return _exponent_form(text) if "e" not in text else text


def _exponent_form(text: str) -> str:
    """``1234567890123456`` or ``1234567890123456.5`` as ``1.234567890123456e+15``."""
    sign = "-" if text[0] == "-" else ""
    whole, _, part = text.lstrip("-").partition(".")
    digits = (whole + part).rstrip("0")
    mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
    return f"{sign}{mantissa}e+{len(whole) - 1:02d}"


def render_float4(value: float) -> str:
    """Shortest text that reads back as the same single."""
    if value != value:
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    text = ""
    # Below the normal numbers there is less precision: 1e-45 says all there is.
    first = 6 if abs(value) >= _SINGLE_NORMAL_MIN else 1
    for digits in range(first, 10):
        text = format(value, f".{digits}g")
        if _reads_back(text, value):
            break
        shorter = _lopsided(value, digits)
        if shorter:
            text = shorter
            break
    return _place_single(text) if value else text


def _reads_back(text: str, value: float) -> bool:
    """True if the nearest single is the value, and not by the rule of ties only."""
    double = float(text)
    try:
        if round_to_single(double) != value:
            return False
    except OverflowError:
        return False
    return double == value or not _is_single(double - (value - double))


def _lopsided(value: float, digits: int) -> str:
    """At powers of two the numbers that read back reach twice as far up as down: a neighbour of the nearest
    text of so many digits may be among them."""
    if math.frexp(abs(value))[0] != 0.5:
        return ""
    nearest = Decimal(format(value, f".{digits - 1}e"))
    unit = Decimal(1).scaleb(nearest.adjusted() - (digits - 1))
    away = nearest + unit.copy_sign(nearest)
    return str(away) if _reads_back(str(away), value) else ""


def _place_single(text: str) -> str:
    """Writes digits in PostgreSQL's choice of plain (1e-4 <= x < 1e6) or exponent form."""
    number = Decimal(text).normalize()
    exponent = number.adjusted()
    if -4 <= exponent < 6:
        return format(number, "f")
    digits = "".join(map(str, number.as_tuple().digits))
    sign = "-" if number.is_signed() else ""
    mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
    return f"{sign}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def float_renderer(single: bool, extra_float_digits: int) -> Callable[[float], str]:
    """Returns the text form under a setting of extra_float_digits."""
    if extra_float_digits > 0:
        return render_float4 if single else render_float8
    digits = max((6 if single else 15) + extra_float_digits, 1)

    def render(value: float) -> str:
        if value != value:
            return "NaN"
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        return format(value, f".{digits}g")

    return render


def send_float8(value: float) -> bytes:
    return _FLOAT8.pack(value)


def send_float4(value: float) -> bytes:
    return _FLOAT4.pack(value)


def receive_float8(data: bytes) -> float:
    if len(data) != 8:
        raise wrong_length(data, 8)
    value: float = _FLOAT8.unpack(data)[0]
    return value


def receive_float4(data: bytes) -> float:
    if len(data) != 4:
        raise wrong_length(data, 4)
    value: float = _FLOAT4.unpack(data)[0]
    return value
