"""numeric: exact decimal arithmetic with PostgreSQL's result scales.

A datum is a Decimal whose exponent is minus its display scale (never positive), without
negative zero.  Sums and products are exact; division and the transcendental functions choose a
scale that gives at least 16 significant digits and no less than either input's scale, by
estimates made in base 10000 as PostgreSQL stores numbers (numeric.c: select_div_scale,
estimate_ln_dweight).  Rounding is half away from zero.

Limits: 131072 digits before the point (22003 beyond), 16383 after it (rounded).
"""

from __future__ import annotations

import math
from decimal import (
    MAX_EMAX,
    MIN_EMIN,
    ROUND_05UP,
    ROUND_CEILING,
    ROUND_DOWN,
    ROUND_FLOOR,
    ROUND_HALF_UP,
    Context,
    Decimal,
    Overflow,
)
from typing import Final, NoReturn

from base.errors import error
from base.types import NUMERIC_DIGITS_MAX
from planner.functions.arithmetic import division_by_zero
from planner.functions.declare import INLINE_NAMES, define, define_operator
from planner.functions.registry import Registry

SCALE_MAX: Final = 16_383
"""Digits after the point that a numeric can hold."""
RESULT_SCALE_MAX: Final = 1000
"""Largest scale that division and functions choose (NUMERIC_MAX_DISPLAY_SCALE)."""
ROUND_SCALE_MAX: Final = 2000
"""Bound of the second argument of round and trunc (NUMERIC_MAX_RESULT_SCALE)."""
SIGNIFICANT_MIN: Final = 16
"""NUMERIC_MIN_SIG_DIGITS."""
LOG10_E: Final = 0.434294481903252
FACTORIAL_MAX: Final = 32_177
GUARD_DIGITS: Final = 20
_BIG_BYTES: Final = 6000
"""Size of a Decimal below which it has fewer than SCALE_MAX digits."""

EXACT: Final = Context(
    prec=2 * (NUMERIC_DIGITS_MAX + SCALE_MAX),
    rounding=ROUND_HALF_UP,
    Emin=MIN_EMIN,
    Emax=MAX_EMAX,
    capitals=1,
    traps=[],
)
"""Wide enough to be exact for sums and products of any two numerics."""
BOUNDED: Final = Context(
    prec=2 * (NUMERIC_DIGITS_MAX + SCALE_MAX),
    rounding=ROUND_HALF_UP,
    Emin=MIN_EMIN,
    Emax=NUMERIC_DIGITS_MAX - 1,
    traps=[Overflow],
)
"""The same, but raises Overflow above NUMERIC_DIGITS_MAX digits."""

ZERO: Final = Decimal(0)
ONE: Final = Decimal(1)
MINUS_ONE: Final = Decimal(-1)
NAN: Final = Decimal("NaN")
INFINITY: Final = Decimal("Infinity")
MINUS_INFINITY: Final = Decimal("-Infinity")
_QUANTA: Final = tuple([Decimal(1).scaleb(-scale) for scale in range(64)])
_ROUGH: Final[dict[int, Context]] = {}


def overflow() -> NoReturn:
    raise error("22003", "value overflows numeric format")


def quantum(scale: int) -> Decimal:
    """10 to the minus scale."""
    if 0 <= scale < 64:
        return _QUANTA[scale]
    return EXACT.scaleb(ONE, -scale)


def scale_of(value: Decimal) -> int:
    """Display scale; 0 for NaN and the infinities."""
    # Printing is four times as fast as as_tuple(), which makes a tuple of the digits.
    text = str(value)
    point = text.find(".")
    if "E" not in text:
        return len(text) - point - 1 if point >= 0 else 0
    exponent = value.as_tuple().exponent
    return -exponent if isinstance(exponent, int) and exponent < 0 else 0


def rough_context(digits: int) -> Context:
    """A context of at least ``digits`` digits that rounds so that a later rounding is still right."""
    size = (max(digits, 1) + 31) // 32 * 32
    found = _ROUGH.get(size)
    if found is None:
        found = Context(prec=size, rounding=ROUND_05UP, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[])
        if size <= 4096:
            _ROUGH[size] = found
    return found


def rounded(value: Decimal, scale: int) -> Decimal:
    """Rounds half away from zero to ``scale`` digits after the point (a finite value)."""
    result = value.quantize(quantum(scale), ROUND_HALF_UP, EXACT)
    return result if result else result.copy_abs()


def add(left: Decimal, right: Decimal) -> Decimal:
    """left + right, exact."""
    try:
        return BOUNDED.add(left, right)
    except Overflow:
        overflow()


def subtract(left: Decimal, right: Decimal) -> Decimal:
    """left - right, exact."""
    try:
        return BOUNDED.subtract(left, right)
    except Overflow:
        overflow()


def multiply(left: Decimal, right: Decimal) -> Decimal:
    """left * right, exact; adding zero makes minus zero plain."""
    try:
        result = BOUNDED.fma(left, right, ZERO)
    except Overflow:
        overflow()
    if result.__sizeof__() > _BIG_BYTES and scale_of(result) > SCALE_MAX:
        return rounded(result, SCALE_MAX)
    return result


def negate(value: Decimal) -> Decimal:
    return value.copy_negate() if value else value


def digit_weight(value: Decimal) -> tuple[int, int]:
    """(weight, first digit) in base 10000 of a finite value; (0, 0) for zero."""
    if not value:
        return 0, 0
    adjusted = value.adjusted()
    weight = adjusted // 4
    if weight == 0:
        return 0, abs(int(value))
    return weight, abs(int(value.scaleb(-4 * weight, EXACT)))


def select_div_scale(dividend: Decimal, divisor: Decimal) -> int:
    """The scale of a quotient."""
    weight1, first1 = digit_weight(dividend)
    weight2, first2 = digit_weight(divisor)
    weight = weight1 - weight2
    if first1 <= first2:
        weight -= 1
    scale = max(SIGNIFICANT_MIN - weight * 4, scale_of(dividend), scale_of(divisor), 0)
    return scale if scale < RESULT_SCALE_MAX else RESULT_SCALE_MAX


def quotient(dividend: Decimal, divisor: Decimal, scale: int) -> Decimal:
    """dividend / divisor rounded once to ``scale``; both finite, the divisor not zero."""
    digits = dividend.adjusted() - divisor.adjusted() + scale + 4
    result = rounded(rough_context(digits).divide(dividend, divisor), scale)
    if result.adjusted() >= NUMERIC_DIGITS_MAX:
        overflow()
    return result


def divide(dividend: Decimal, divisor: Decimal) -> Decimal:
    """The / operator."""
    if dividend.is_finite() and divisor.is_finite():
        if not divisor:
            division_by_zero()
        return quotient(dividend, divisor, select_div_scale(dividend, divisor))
    if dividend.is_nan() or divisor.is_nan():
        return NAN
    if dividend.is_infinite():
        if not divisor:
            division_by_zero()
        return EXACT.divide(dividend, divisor)
    return ZERO


def modulo(dividend: Decimal, divisor: Decimal) -> Decimal:
    """The % operator: sign of the dividend, the larger scale."""
    if dividend.is_nan() or divisor.is_nan():
        return NAN
    if not divisor:
        division_by_zero()
    if dividend.is_infinite():
        return NAN
    if divisor.is_infinite():
        return dividend
    result = EXACT.remainder(dividend, divisor)
    return result if result else result.copy_abs()


def integer_quotient(dividend: Decimal, divisor: Decimal) -> Decimal:
    """div(): the quotient truncated to an integer."""
    if dividend.is_nan() or divisor.is_nan():
        return NAN
    if not divisor:
        division_by_zero()
    if dividend.is_infinite():
        return EXACT.divide(dividend, divisor)
    if divisor.is_infinite():
        return ZERO
    result = EXACT.divide_int(dividend, divisor)
    if result.adjusted() >= NUMERIC_DIGITS_MAX:
        overflow()
    return result if result else ZERO


def _to_scale(value: Decimal, scale: int, rounding: str) -> Decimal:
    if not value.is_finite():
        return value
    scale = max(-ROUND_SCALE_MAX, min(ROUND_SCALE_MAX, scale))
    result = value.quantize(quantum(scale), rounding, EXACT)
    if scale < 0:
        result = result.quantize(ONE, rounding, EXACT)
    if result.adjusted() >= NUMERIC_DIGITS_MAX:
        overflow()
    return result if result else result.copy_abs()


def round_to(value: Decimal, scale: int = 0) -> Decimal:
    """round(numeric [, scale])."""
    return _to_scale(value, scale, ROUND_HALF_UP)


def truncate_to(value: Decimal, scale: int = 0) -> Decimal:
    """trunc(numeric [, scale])."""
    return _to_scale(value, scale, ROUND_DOWN)


def ceiling(value: Decimal) -> Decimal:
    return _to_scale(value, 0, ROUND_CEILING)


def floor(value: Decimal) -> Decimal:
    return _to_scale(value, 0, ROUND_FLOOR)


def sign(value: Decimal) -> Decimal:
    if value.is_nan():
        return NAN
    return ONE if value > 0 else MINUS_ONE if value < 0 else ZERO


def square_root(value: Decimal) -> Decimal:
    """sqrt(numeric), rounded once."""
    if value.is_nan() or value == INFINITY:
        return value
    if value < 0:
        raise error("2201F", "cannot take square root of a negative number")
    weight, _ = digit_weight(value)
    # C's integer division truncates toward zero.
    result_weight = int((weight + 1) * 4 / 2) - 1
    scale = min(max(SIGNIFICANT_MIN - result_weight, scale_of(value), 0), RESULT_SCALE_MAX)
    return root_at(value, scale)


def root_at(value: Decimal, scale: int) -> Decimal:
    """The square root of a finite value at a scale."""
    doubled = math.isqrt(int(EXACT.multiply(value, EXACT.scaleb(Decimal(4), 2 * scale))))
    return EXACT.scaleb(Decimal((doubled + 1) // 2), -scale)


def estimate_ln_weight(value: Decimal) -> int:
    """Decimal weight of ln(value), as numeric.c's estimate_ln_dweight."""
    if Decimal("0.9") <= value <= Decimal("1.1"):
        difference = EXACT.subtract(value, ONE)
        if not difference:
            return 0
        weight, first = digit_weight(difference)
        return weight * 4 + int(math.log10(first))
    weight, _ = digit_weight(value)
    digits = int(value.scaleb(-4 * (weight - 1), EXACT))
    estimate = math.log(digits) + (weight - 1) * 4 * 2.302585092994046
    return int(math.log10(abs(estimate)))


def _check_logarithm(value: Decimal) -> None:
    if value < 0:
        raise error("2201E", "cannot take logarithm of a negative number")
    if value == 0:
        raise error("2201E", "cannot take logarithm of zero")


def _ln(value: Decimal, scale: int) -> Decimal:
    return rough_context(scale + GUARD_DIGITS + max(0, value.adjusted() // 100)).ln(value)


def natural_log(value: Decimal) -> Decimal:
    """ln(numeric)."""
    if value.is_nan():
        return value
    _check_logarithm(value)
    if value.is_infinite():
        return value
    scale = min(max(SIGNIFICANT_MIN - estimate_ln_weight(value), scale_of(value), 0), RESULT_SCALE_MAX)
    return rounded(_ln(value, scale), scale)


def log_base(base: Decimal, value: Decimal) -> Decimal:
    """log(base, numeric)."""
    if base.is_nan() or value.is_nan():
        return NAN
    _check_logarithm(base)
    _check_logarithm(value)
    if base.is_infinite():
        return NAN if value.is_infinite() else ZERO
    if value.is_infinite():
        return value
    weight = estimate_ln_weight(value) - estimate_ln_weight(base)
    scale = min(max(SIGNIFICANT_MIN - weight, scale_of(base), scale_of(value), 0), RESULT_SCALE_MAX)
    if base == 1:
        division_by_zero()
    context = rough_context(scale + 2 * GUARD_DIGITS)
    return rounded(context.divide(context.ln(value), context.ln(base)), scale)


def log10(value: Decimal) -> Decimal:
    """log(numeric), base 10."""
    return log_base(Decimal(10), value)


def exponential(value: Decimal) -> Decimal:
    """exp(numeric)."""
    if not value.is_finite():
        return ZERO if value == MINUS_INFINITY else value
    weight = max(-ROUND_SCALE_MAX, min(ROUND_SCALE_MAX, float(value) * LOG10_E))
    scale = min(max(SIGNIFICANT_MIN - int(weight), scale_of(value), 0), RESULT_SCALE_MAX)
    if value.copy_abs() >= 3 * ROUND_SCALE_MAX:
        if value > 0:
            overflow()
        return rounded(ZERO, scale)
    return rounded(rough_context(scale + max(0, int(weight)) + GUARD_DIGITS).exp(value), scale)


def power(base: Decimal, exponent: Decimal) -> Decimal:
    """base ^ exponent."""
    if not (base.is_finite() and exponent.is_finite()):
        return _special_power(base, exponent)
    if not base and exponent < 0:
        raise error("2201F", "zero raised to a negative power is undefined")
    integral = exponent == exponent.to_integral_value()
    if base < 0 and not integral:
        raise error("2201F", "a negative number raised to a non-integer power yields a complex result")
    if integral and -(2**31) <= exponent < 2**31:
        return _integer_power(base, int(exponent))
    if not base:
        return rounded(ZERO, SIGNIFICANT_MIN)
    negative = base < 0 and int(exponent) % 2 != 0
    result = _real_power(base.copy_abs(), exponent)
    return negate(result) if negative else result


def _special_power(base: Decimal, exponent: Decimal) -> Decimal:
    """NaN and infinities, as POSIX pow."""
    if base.is_nan() or exponent.is_nan():
        return ONE if (base == 1 or exponent == 0) else NAN
    if base == 1 or exponent == 0:
        return ONE
    if not base and exponent < 0:
        raise error("2201F", "zero raised to a negative power is undefined")
    if exponent.is_infinite():
        if abs(base) == 1:
            return ONE
        grows = (abs(base) > 1) == (exponent > 0)
        return INFINITY if grows else ZERO
    if exponent < 0:
        return ZERO
    odd = exponent == exponent.to_integral_value() and int(exponent) % 2 == 1
    if base < 0 and exponent != exponent.to_integral_value():
        raise error("2201F", "a negative number raised to a non-integer power yields a complex result")
    return MINUS_INFINITY if base < 0 and odd else INFINITY


def _estimate_log10(value: Decimal) -> float:
    """log10 of a positive value, from its leading sixteen digits."""
    adjusted = value.adjusted()
    return math.log10(float(value.scaleb(-adjusted, EXACT))) + adjusted


def _integer_power(base: Decimal, exponent: int) -> Decimal:
    """numeric.c's power_var_int: sixteen digits after the point, or the base's scale."""
    scale = min(max(SIGNIFICANT_MIN, scale_of(base)), RESULT_SCALE_MAX)
    weight = exponent * _estimate_log10(base.copy_abs()) if base else 0.0
    if weight > NUMERIC_DIGITS_MAX:
        overflow()
    if weight + 1 < -scale or (not base and exponent):
        return rounded(ZERO, scale)
    if exponent == 0:
        return rounded(ONE, scale)
    if exponent == -1:
        return quotient(ONE, base, scale)
    digits = max(0, int(weight)) + scale + GUARD_DIGITS
    result = rounded(rough_context(digits).power(base, exponent), scale)
    if result.adjusted() >= NUMERIC_DIGITS_MAX:
        overflow()
    return result


def _real_power(base: Decimal, exponent: Decimal) -> Decimal:
    ln_scale = max(8 - estimate_ln_weight(base), 0)
    estimate = float(EXACT.multiply(rounded(_ln(base, ln_scale), ln_scale), exponent))
    if abs(estimate) > ROUND_SCALE_MAX * 3.01:
        if estimate > 0:
            overflow()
        return rounded(ZERO, RESULT_SCALE_MAX)
    weight = int(estimate * LOG10_E)
    scale = min(max(SIGNIFICANT_MIN - weight, scale_of(base), scale_of(exponent), 0), RESULT_SCALE_MAX)
    return rounded(rough_context(scale + max(0, weight) + 2 * GUARD_DIGITS).power(base, exponent), scale)


def _common_integers(left: Decimal, right: Decimal) -> tuple[int, int, int]:
    scale = max(scale_of(left), scale_of(right))
    return int(left.scaleb(scale, EXACT)), int(right.scaleb(scale, EXACT)), scale


def greatest_divisor(left: Decimal, right: Decimal) -> Decimal:
    """gcd(numeric, numeric)."""
    if not (left.is_finite() and right.is_finite()):
        return NAN
    a, b, scale = _common_integers(left, right)
    return EXACT.scaleb(Decimal(math.gcd(a, b)), -scale)


def least_multiple(left: Decimal, right: Decimal) -> Decimal:
    """lcm(numeric, numeric)."""
    if not (left.is_finite() and right.is_finite()):
        return NAN
    a, b, scale = _common_integers(left, right)
    result = EXACT.scaleb(Decimal(math.lcm(a, b)), -scale)
    if result.adjusted() >= NUMERIC_DIGITS_MAX:
        overflow()
    return result


def factorial(n: int) -> Decimal:
    """factorial(bigint)."""
    if n < 0:
        raise error("22003", "factorial of a negative number is undefined")
    if n > FACTORIAL_MAX:
        overflow()
    return Decimal(math.factorial(n))


def scale(value: Decimal) -> int | None:
    """scale(numeric); NULL for NaN and infinities."""
    return scale_of(value) if value.is_finite() else None


def min_scale(value: Decimal) -> int | None:
    """Digits after the point that are needed."""
    if not value.is_finite():
        return None
    digits = value.as_tuple().digits
    zeros = 0
    for digit in reversed(digits):
        if digit:
            break
        zeros += 1
    return max(0, scale_of(value) - zeros) if value else 0


def trim_scale(value: Decimal) -> Decimal:
    needed = min_scale(value)
    return value if needed is None else value.quantize(quantum(needed), ROUND_DOWN, EXACT)


def width_bucket(operand: Decimal, low: Decimal, high: Decimal, count: int) -> int:
    """width_bucket(numeric, numeric, numeric, int4)."""
    if count <= 0:
        raise error("2201G", "count must be greater than zero")
    if operand.is_nan() or low.is_nan() or high.is_nan():
        raise error("2201G", "operand, lower bound, and upper bound cannot be NaN")
    if low.is_infinite() or high.is_infinite():
        raise error("2201G", "lower and upper bounds must be finite")
    if low == high:
        raise error("2201G", "lower bound cannot equal upper bound")
    bucket = _bucket(operand, low, high, count)
    if bucket > 2**31 - 1:
        raise error("22003", "integer out of range")
    return bucket


def _bucket(operand: Decimal, low: Decimal, high: Decimal, count: int) -> int:
    if low < high:
        if operand < low:
            return 0
        if operand >= high:
            return count + 1
    else:
        if operand > low:
            return 0
        if operand <= high:
            return count + 1
    part, whole = EXACT.subtract(operand, low), EXACT.subtract(high, low)
    return int(EXACT.divide_int(EXACT.multiply(part, Decimal(count)), whole)) + 1


INLINE_NAMES.update(numeric_add=add, numeric_subtract=subtract, numeric_multiply=multiply, numeric_divide=divide)


def register(registry: Registry) -> None:
    """Adds this family."""
    define_operator(registry, "+", "numeric_add(numeric, numeric) numeric", add)
    define_operator(registry, "-", "numeric_sub(numeric, numeric) numeric", subtract)
    define_operator(registry, "*", "numeric_mul(numeric, numeric) numeric", multiply)
    define_operator(registry, "/", "numeric_div(numeric, numeric) numeric", divide)
    define_operator(registry, "%", "numeric_mod(numeric, numeric) numeric", modulo)
    define_operator(registry, "^", "numeric_power(numeric, numeric) numeric", power)
    define_operator(registry, "-", "numeric_uminus(numeric) numeric", negate)
    define_operator(registry, "+", "numeric_uplus(numeric) numeric", inline="{0}")
    define_operator(registry, "@", "numeric_abs(numeric) numeric", inline="{0}.copy_abs()")
    define(registry, "numeric_inc(numeric) numeric", lambda value: add(value, ONE))
    for name, impl in (("mod", modulo), ("power", power), ("pow", power), ("div", integer_quotient), ("log", log_base)):
        define(registry, f"{name}(numeric, numeric) numeric", impl)
    define(registry, "gcd(numeric, numeric) numeric", greatest_divisor)
    define(registry, "lcm(numeric, numeric) numeric", least_multiple)
    for name, unary in (
        ("round", round_to), ("trunc", truncate_to), ("ceil", ceiling), ("ceiling", ceiling), ("floor", floor), ("sign", sign),
        ("sqrt", square_root), ("exp", exponential), ("ln", natural_log), ("log", log10), ("log10", log10), ("abs", Decimal.copy_abs), ("trim_scale", trim_scale),
    ):  # fmt: skip
        define(registry, f"{name}(numeric) numeric", unary)
    define(registry, "round(numeric, int4) numeric", round_to)
    define(registry, "trunc(numeric, int4) numeric", truncate_to)
    define(registry, "factorial(int8) numeric", factorial)
    define(registry, "scale(numeric) int4", scale)
    define(registry, "min_scale(numeric) int4", min_scale)
    define(registry, "width_bucket(numeric, numeric, numeric, int4) int4", width_bucket)
