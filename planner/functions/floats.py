"""float4 and float8: arithmetic and mathematical functions.

float4 values are kept rounded to single precision; results that overflow or vanish are
errors (22003), as are domain errors (2201E, 2201F, 22003); NaN and infinities pass through.
PostgreSQL 15 manual: 8.1.3, 9.3.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any, Final, NoReturn

from base.errors import error
from base.types import PgType
from planner.context import ExecContext
from planner.exec.order import order_key
from planner.functions.arithmetic import division_by_zero
from planner.functions.declare import INLINE_NAMES, define, define_operator
from planner.functions.registry import VOLATILE, Registry

_SINGLE: Final = struct.Struct("<f")
SINGLE_MAX: Final = 3.4028234663852886e38
DOUBLE_MAX: Final = 1.7976931348623157e308


def overflow() -> NoReturn:
    raise error("22003", "value out of range: overflow")


def underflow() -> NoReturn:
    raise error("22003", "value out of range: underflow")


def input_out_of_range() -> NoReturn:
    raise error("22003", "input is out of range")


def to_single(value: float) -> float:
    """Rounds a double to single precision; inf if it is too large."""
    try:
        rounded: float = _SINGLE.unpack(_SINGLE.pack(value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)
    return rounded


def _is_finite(*values: float) -> bool:
    return all(not math.isinf(value) for value in values)


def add(left: float, right: float) -> float:
    result = left + right
    if math.isinf(result) and _is_finite(left, right):
        overflow()
    return result


def subtract(left: float, right: float) -> float:
    result = left - right
    if math.isinf(result) and _is_finite(left, right):
        overflow()
    return result


def multiply(left: float, right: float) -> float:
    result = left * right
    if math.isinf(result) and _is_finite(left, right):
        overflow()
    if result == 0.0 and left != 0.0 and right != 0.0:
        underflow()
    return result


def divide(left: float, right: float) -> float:
    if right == 0.0:
        if math.isnan(left):
            return left
        division_by_zero()
    result = left / right
    if math.isinf(result) and _is_finite(left):
        overflow()
    if result == 0.0 and left != 0.0 and _is_finite(right):
        underflow()
    return result


def _single(operation: Callable[[float, float], float]) -> Callable[[float, float], float]:
    """The float4 form: computed in double, rounded once; may overflow or vanish in the rounding."""

    def compute(left: float, right: float) -> float:
        exact = operation(left, right)
        result = to_single(exact)
        if math.isinf(result) and not math.isinf(exact):
            overflow()
        if result == 0.0 and exact != 0.0:
            underflow()
        return result

    return compute


def power(base: float, exponent: float) -> float:
    """dpow: pow() with SQL's errors."""
    if base == 0 and exponent < 0:
        raise error("2201F", "zero raised to a negative power is undefined")
    if base < 0 and math.isfinite(exponent) and exponent != math.floor(exponent):
        raise error("2201F", "a negative number raised to a non-integer power yields a complex result")
    try:
        result = math.pow(base, exponent)
    except OverflowError:
        overflow()
    except ValueError:
        raise error("2201F", "a negative number raised to a non-integer power yields a complex result") from None
    if result == 0.0 and base != 0.0 and _is_finite(base, exponent):
        underflow()
    return result


def square_root(value: float) -> float:
    if value < 0:
        raise error("2201F", "cannot take square root of a negative number")
    return math.sqrt(value)


def cube_root(value: float) -> float:
    return math.cbrt(value)


def exponential(value: float) -> float:
    try:
        result = math.exp(value)
    except OverflowError:
        overflow()
    if result == 0.0 and not math.isinf(value):
        underflow()
    return result


def _logarithm(function: Callable[[float], float]) -> Callable[[float], float]:
    def compute(value: float) -> float:
        if value == 0:
            raise error("2201E", "cannot take logarithm of zero")
        if value < 0:
            raise error("2201E", "cannot take logarithm of a negative number")
        return function(value)

    return compute


def round_even(value: float) -> float:
    """rint: half to even, keeps the sign of zero."""
    if not math.isfinite(value) or abs(value) >= 2.0**52:
        return value
    return math.copysign(float(round(value)), value)


def truncate(value: float) -> float:
    if not math.isfinite(value):
        return value
    return math.copysign(float(math.trunc(value)), value)


def ceiling(value: float) -> float:
    if not math.isfinite(value):
        return value
    return math.copysign(float(math.ceil(value)), value)


def floor(value: float) -> float:
    if not math.isfinite(value):
        return value
    result = float(math.floor(value))
    return math.copysign(result, value) if result == 0 else result


def sign(value: float) -> float:
    return 1.0 if value > 0 else -1.0 if value < 0 else 0.0


def _circular(function: Callable[[float], float]) -> Callable[[float], float]:
    """sin, cos, tan: no infinities."""

    def compute(value: float) -> float:
        if math.isinf(value):
            input_out_of_range()
        return function(value)

    return compute


def cotangent(value: float) -> float:
    if math.isinf(value):
        input_out_of_range()
    tangent = math.tan(value)
    return math.copysign(math.inf, value) if tangent == 0 else 1.0 / tangent


def _arc(function: Callable[[float], float]) -> Callable[[float], float]:
    def compute(value: float) -> float:
        if value < -1 or value > 1:
            input_out_of_range()
        return function(value)

    return compute


def _hyperbolic(function: Callable[[float], float], odd: bool) -> Callable[[float], float]:
    def compute(value: float) -> float:
        try:
            return function(value)
        except OverflowError:
            return math.copysign(math.inf, value) if odd else math.inf

    return compute


def inverse_cosh(value: float) -> float:
    if value < 1:
        input_out_of_range()
    return math.acosh(value)


def inverse_tanh(value: float) -> float:
    if value < -1 or value > 1:
        input_out_of_range()
    if abs(value) == 1:
        return math.copysign(math.inf, value)
    return math.atanh(value)


# Functions of degrees are exact where the answer is, and agree with float.c in the last digit:
# they divide by the same function at 30, 45 or 60 degrees.
RADIANS_PER_DEGREE: Final = 0.0174532925199432957692
_SIN_30: Final = math.sin(30.0 * RADIANS_PER_DEGREE)
_ONE_MINUS_COS_60: Final = 1.0 - math.cos(60.0 * RADIANS_PER_DEGREE)
_ASIN_HALF: Final = math.asin(0.5)
_ACOS_HALF: Final = math.acos(0.5)
_ATAN_ONE: Final = math.atan(1.0)


def _sine_to_30(degrees: float) -> float:
    return (math.sin(degrees * RADIANS_PER_DEGREE) / _SIN_30) / 2.0


def _cosine_to_60(degrees: float) -> float:
    return 1.0 - ((1.0 - math.cos(degrees * RADIANS_PER_DEGREE)) / _ONE_MINUS_COS_60) / 2.0


def _sine_quadrant(degrees: float) -> float:
    return _sine_to_30(degrees) if degrees <= 30 else _cosine_to_60(90.0 - degrees)


def _cosine_quadrant(degrees: float) -> float:
    return _cosine_to_60(degrees) if degrees <= 60 else _sine_to_30(90.0 - degrees)


_TAN_45: Final = _sine_quadrant(45.0) / _cosine_quadrant(45.0)
_COT_45: Final = _cosine_quadrant(45.0) / _sine_quadrant(45.0)


def _angle(value: float) -> float | None:
    """An angle in (-360, 360); None for NaN."""
    if math.isinf(value):
        input_out_of_range()
    return None if math.isnan(value) else math.fmod(value, 360.0)


def sine_degrees(value: float) -> float:
    angle, result_sign = _angle(value), 1.0
    if angle is None:
        return value
    if angle < 0:
        angle, result_sign = -angle, -1.0
    if angle > 180:
        angle, result_sign = 360 - angle, -result_sign
    if angle > 90:
        angle = 180 - angle
    return result_sign * _sine_quadrant(angle)


def cosine_degrees(value: float) -> float:
    angle, result_sign = _angle(value), 1.0
    if angle is None:
        return value
    angle = abs(angle)
    if angle > 180:
        angle = 360 - angle
    if angle > 90:
        angle, result_sign = 180 - angle, -1.0
    return result_sign * _cosine_quadrant(angle)


def _tangent_angle(angle: float) -> tuple[float, float]:
    """(angle in the first quadrant, sign) for tangent and cotangent."""
    result_sign = 1.0
    if angle < 0:
        angle, result_sign = -angle, -1.0
    if angle > 180:
        angle, result_sign = 360 - angle, -result_sign
    if angle > 90:
        angle, result_sign = 180 - angle, -result_sign
    return angle, result_sign


def tangent_degrees(value: float) -> float:
    angle = _angle(value)
    if angle is None:
        return value
    angle, result_sign = _tangent_angle(angle)
    cosine = _cosine_quadrant(angle)
    if cosine == 0:
        return math.copysign(math.inf, result_sign)
    return result_sign * ((_sine_quadrant(angle) / cosine) / _TAN_45) + 0.0


def cotangent_degrees(value: float) -> float:
    angle = _angle(value)
    if angle is None:
        return value
    angle, result_sign = _tangent_angle(angle)
    sine = _sine_quadrant(angle)
    if sine == 0:
        return math.copysign(math.inf, result_sign)
    return result_sign * ((_cosine_quadrant(angle) / sine) / _COT_45) + 0.0


def _arcsine_quadrant(value: float) -> float:
    if value <= 0.5:
        return (math.asin(value) / _ASIN_HALF) * 30.0
    return 90.0 - (math.acos(value) / _ACOS_HALF) * 60.0


def _arccosine_quadrant(value: float) -> float:
    if value <= 0.5:
        return 90.0 - (math.asin(value) / _ASIN_HALF) * 30.0
    return (math.acos(value) / _ACOS_HALF) * 60.0


def arcsine_degrees(value: float) -> float:
    if value < -1 or value > 1:
        input_out_of_range()
    if math.isnan(value):
        return value
    return _arcsine_quadrant(value) if value >= 0 else -_arcsine_quadrant(-value)


def arccosine_degrees(value: float) -> float:
    if value < -1 or value > 1:
        input_out_of_range()
    if math.isnan(value):
        return value
    return _arccosine_quadrant(value) if value >= 0 else 90.0 + _arcsine_quadrant(-value)


def arctangent_degrees(value: float) -> float:
    return (math.atan(value) / _ATAN_ONE) * 45.0


def arctangent2_degrees(y: float, x: float) -> float:
    return (math.atan2(y, x) / _ATAN_ONE) * 45.0


def to_degrees(radians: float) -> float:
    return divide(radians, RADIANS_PER_DEGREE)


def to_radians(degrees: float) -> float:
    return multiply(degrees, RADIANS_PER_DEGREE)


def width_bucket(operand: float, low: float, high: float, count: int) -> int:
    """width_bucket(float8, float8, float8, int4)."""
    if count <= 0:
        raise error("2201G", "count must be greater than zero")
    if math.isnan(operand) or math.isnan(low) or math.isnan(high):
        raise error("2201G", "operand, lower bound, and upper bound cannot be NaN")
    if math.isinf(low) or math.isinf(high):
        raise error("2201G", "lower and upper bounds must be finite")
    if low == high:
        raise error("2201G", "lower bound cannot equal upper bound")
    if low < high:
        bucket = (
            0 if operand < low else count + 1 if operand >= high else int((operand - low) / (high - low) * count) + 1
        )
    else:
        bucket = (
            0 if operand > low else count + 1 if operand <= high else int((low - operand) / (low - high) * count) + 1
        )
    if bucket > 2**31 - 1:
        raise error("22003", "integer out of range")
    return bucket


def _bucket_by_thresholds(types: tuple[PgType, ...], result: PgType) -> tuple[Callable[..., Any], str]:
    """width_bucket(operand, thresholds): the number of thresholds not above the operand."""
    key = order_key(types[0])

    def count(operand: Any, thresholds: tuple[Any, ...]) -> int:
        if any(item is None for item in thresholds):
            raise error("22004", "thresholds array must not contain NULLs")
        if thresholds and thresholds[0].__class__ is tuple:
            raise error("2202E", "thresholds must be one-dimensional array")
        values = thresholds if key is None else tuple([key(item) for item in thresholds])
        wanted = operand if key is None else key(operand)
        low, high = 0, len(values)
        while low < high:
            middle = (low + high) // 2
            if wanted < values[middle]:
                high = middle
            else:
                low = middle + 1
        return low

    return count, ""


def _random(ctx: ExecContext) -> float:
    return ctx.random()


INLINE_NAMES.update(float_add=add, float_subtract=subtract, float_multiply=multiply)

_UNARY: Final[tuple[tuple[str, Callable[[float], float]], ...]] = (
    ("round", round_even), ("trunc", truncate), ("ceil", ceiling), ("ceiling", ceiling), ("floor", floor), ("sign", sign),
    ("sqrt", square_root), ("dsqrt", square_root), ("cbrt", cube_root), ("exp", exponential), ("ln", _logarithm(math.log)),
    ("log", _logarithm(math.log10)), ("log10", _logarithm(math.log10)), ("abs", abs), ("degrees", to_degrees), ("radians", to_radians),
    ("sin", _circular(math.sin)), ("cos", _circular(math.cos)), ("tan", _circular(math.tan)), ("cot", cotangent),
    ("asin", _arc(math.asin)), ("acos", _arc(math.acos)), ("atan", math.atan), ("sinh", _hyperbolic(math.sinh, True)),
    ("cosh", _hyperbolic(math.cosh, False)), ("tanh", math.tanh), ("asinh", math.asinh), ("acosh", inverse_cosh), ("atanh", inverse_tanh),
    ("sind", sine_degrees), ("cosd", cosine_degrees), ("tand", tangent_degrees), ("cotd", cotangent_degrees),
    ("asind", arcsine_degrees), ("acosd", arccosine_degrees), ("atand", arctangent_degrees),
)  # fmt: skip


def _inline_sum(symbol: str, function: str) -> str:
    """Fast where the result is finite; the function decides otherwise."""
    return f"(_t if {-DOUBLE_MAX!r} <= (_t := {{0}} {symbol} {{1}}) <= {DOUBLE_MAX!r} else {function}({{0}}, {{1}}))"


def _register_operators(registry: Registry) -> None:
    operations = (("+", "pl", add), ("-", "mi", subtract), ("*", "mul", multiply), ("/", "div", divide))
    inlines = {"+": _inline_sum("+", "float_add"), "-": _inline_sum("-", "float_subtract")}
    for symbol, suffix, operation in operations:
        define_operator(registry, symbol, f"float4{suffix}(float4, float4) float4", _single(operation))
        for left, right, prefix in (
            ("float8", "float8", "float8"),
            ("float4", "float8", "float48"),
            ("float8", "float4", "float84"),
        ):
            inline = inlines.get(symbol, "")
            define_operator(registry, symbol, f"{prefix}{suffix}({left}, {right}) float8", operation, inline=inline)
    for name in ("float4", "float8"):
        define_operator(registry, "-", f"{name}um({name}) {name}", inline="(-{0})")
        define_operator(registry, "+", f"{name}up({name}) {name}", inline="{0}")
        define_operator(registry, "@", f"{name}abs({name}) {name}", inline="abs({0})")
    define_operator(registry, "^", "dpow(float8, float8) float8", power)
    define_operator(registry, "|/", "dsqrt(float8) float8", square_root)
    define_operator(registry, "||/", "dcbrt(float8) float8", cube_root)


def register(registry: Registry) -> None:
    """Adds this family."""
    _register_operators(registry)
    for name, function in _UNARY:
        if name != "dsqrt":
            define(registry, f"{name}(float8) float8", function)
    define(registry, "abs(float4) float4", inline="abs({0})")
    define(registry, "power(float8, float8) float8", power)
    define(registry, "pow(float8, float8) float8", power)
    define(registry, "atan2(float8, float8) float8", math.atan2)
    define(registry, "atan2d(float8, float8) float8", arctangent2_degrees)
    define(registry, "pi() float8", lambda: math.pi)
    define(registry, "width_bucket(float8, float8, float8, int4) int4", width_bucket)
    define(registry, "width_bucket(anycompatible, anycompatiblearray) int4", specialize=_bucket_by_thresholds)
    define(registry, "random() float8", _random, needs_context=True, volatility=VOLATILE)
