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

_BLANKS: Final = " \t\n\v\f\r"
_FLOAT: Final = re.compile(
    r"[ \t\n\v\f\r]*([+-]?(?:(?P<decimal>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<hex>0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)(?:[pP][+-]?[0-9]+)?)"
    r"|(?P<word>(?i:infinity|inf|nan(?:\([A-Za-z0-9_]*\))?))))[ \t\n\v\f\r]*\Z"
)
_HEX_PREFIX: Final = re.compile(r"[ \t\n\v\f\r]*[+-]?0[xX]")
_DIGITS_MAX: Final = 2000
"""More significant digits than this cannot change a double; they are cut, keeping one non-zero."""
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
    if not decimal or single == double or double == 0:
        return single
    other = math.nextafter(double, math.inf if single < double else -math.inf)
    del other
    step = single - double
    neighbour = double - step
    try:
        if round_to_single(neighbour) != neighbour or len(decimal) > _DIGITS_MAX:
            return single
    except OverflowError:
        return single
    exact = Fraction(Decimal(decimal))
    middle = Fraction(double)
    if exact == middle:
        return single
    return max(single, neighbour) if exact > middle else min(single, neighbour)


def render_float8(value: float) -> str:
    """Shortest text; repr is the same digits, with its own idea of when to use an exponent."""
    text = repr(value)
    if text.endswith(".0"):
        text = text[:-2]
        # Python prints 16 digits before the point, PostgreSQL 15.
        if len(text) > 15 and len(text.lstrip("-")) > 15:
            return _exponent_form(text)
        return text
    if text == "inf":
        return "Infinity"
    if text == "-inf":
        return "-Infinity"
    if text == "nan":
        return "NaN"
    if 1e15 <= abs(value) < 1e16:
        return _exponent_form(text)
    return text


def _exponent_form(text: str) -> str:
    """``1234567890123456`` or ``1234567890123456.5`` as ``1.234567890123456e+15``."""
    sign = "-" if text[0] == "-" else ""
    whole, _, fraction = text.lstrip("-").partition(".")
    digits = (whole + fraction).rstrip("0")
    mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
    return f"{sign}{mantissa}e+{len(whole) - 1:02d}"


def render_float4(value: float) -> str:
    """Shortest text that reads back as the same single."""
    if value != value:
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    for digits in range(6, 10):
        text = format(value, f".{digits}g")
        if _reads_back(text, value):
            break
    if digits > 6:
        return _place_single(_closest_shorter(value, text, digits))
    return text


def _reads_back(text: str, value: float) -> bool:
    try:
        return round_to_single(float(text)) == value
    except OverflowError:
        return False


def _closest_shorter(value: float, text: str, digits: int) -> str:
    """At powers of two the interval that reads back is lopsided: a shorter neighbour may be inside it."""
    mantissa, exponent = math.frexp(abs(value))
    del exponent
    if mantissa != 0.5:
        return text
    shorter = Decimal(format(value, f".{digits - 2}e"))
    unit = Decimal(1).scaleb(shorter.adjusted() - (digits - 2))
    for candidate in (shorter + unit.copy_sign(shorter), shorter - unit.copy_sign(shorter)):
        if _reads_back(str(candidate), value):
            return str(float(candidate))
    return text


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
