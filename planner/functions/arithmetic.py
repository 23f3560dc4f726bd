"""Integers: arithmetic with overflow checks, bits, gcd and the like.

Results are checked against the type's bounds (22003); division truncates toward zero and the
remainder has the dividend's sign, as in C.  Shift counts are taken modulo the width, as
PostgreSQL on every common machine does.  PostgreSQL 15 manual: 9.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, NoReturn

from base.errors import error
from planner.functions.declare import INLINE_NAMES, define, define_operator
from planner.functions.registry import Registry

BOUNDS: Final = {"int2": (-(2**15), 2**15 - 1), "int4": (-(2**31), 2**31 - 1), "int8": (-(2**63), 2**63 - 1)}
WORDS: Final = {"int2": "smallint", "int4": "integer", "int8": "bigint"}
WIDTHS: Final = {"int2": 32, "int4": 32, "int8": 64}
"""Bits in which shifts happen (int2 is shifted as a C int)."""


def division_by_zero() -> NoReturn:
    raise error("22012", "division by zero")


def int2_overflow() -> NoReturn:
    raise error("22003", "smallint out of range")


def int4_overflow() -> NoReturn:
    raise error("22003", "integer out of range")


def int8_overflow() -> NoReturn:
    raise error("22003", "bigint out of range")


def int_divide(dividend: int, divisor: int) -> int:
    """Divides toward zero."""
    if divisor == 0:
        division_by_zero()
    quotient = abs(dividend) // abs(divisor)
    return quotient if (dividend < 0) == (divisor < 0) else -quotient


def int_modulo(dividend: int, divisor: int) -> int:
    """The remainder with the sign of the dividend."""
    if divisor == 0:
        division_by_zero()
    remainder = abs(dividend) % abs(divisor)
    return -remainder if dividend < 0 else remainder


def wrap(value: int, bits: int) -> int:
    """Two's complement of ``bits`` bits."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


INLINE_NAMES.update(
    division_by_zero=division_by_zero,
    int2_overflow=int2_overflow,
    int4_overflow=int4_overflow,
    int8_overflow=int8_overflow,
    int_divide=int_divide,
    int_modulo=int_modulo,
    wrap=wrap,
)


def checked(name: str, template: str) -> str:
    """A template whose value must fit the integer type."""
    lower, upper = BOUNDS[name]
    return f"(_t if {lower} <= (_t := {template}) <= {upper} else {name}_overflow())"


def _prefix(left: str, right: str) -> str:
    return left if left == right else f"int{left[3]}{right[3]}"


def _register_binary(registry: Registry) -> None:
    for left in BOUNDS:
        for right in BOUNDS:
            result = max(left, right)
            prefix, types = _prefix(left, right), f"({left}, {right}) {result}"
            define_operator(registry, "+", f"{prefix}pl{types}", inline=checked(result, "{0} + {1}"))
            define_operator(registry, "-", f"{prefix}mi{types}", inline=checked(result, "{0} - {1}"))
            define_operator(registry, "*", f"{prefix}mul{types}", inline=checked(result, "{0} * {1}"))
            divide = "({0} // {1} if {0} >= 0 and {1} > 0 else " + checked(result, "int_divide({0}, {1})") + ")"
            define_operator(registry, "/", f"{prefix}div{types}", inline=divide)


def _register_one_type(registry: Registry, name: str) -> None:
    lower, _ = BOUNDS[name]
    bits = WIDTHS[name]
    modulo = "({0} % {1} if {0} >= 0 and {1} > 0 else int_modulo({0}, {1}))"
    define_operator(registry, "%", f"{name}mod({name}, {name}) {name}", inline=modulo)
    define(registry, f"mod({name}, {name}) {name}", inline=modulo)
    negate = f"(-{{0}} if {{0}} != {lower} else {name}_overflow())"
    define_operator(registry, "-", f"{name}um({name}) {name}", inline=negate)
    define_operator(registry, "+", f"{name}up({name}) {name}", inline="{0}")
    absolute = f"(abs({{0}}) if {{0}} != {lower} else {name}_overflow())"
    define_operator(registry, "@", f"{name}abs({name}) {name}", inline=absolute)
    define(registry, f"abs({name}) {name}", inline=absolute)
    define_operator(registry, "&", f"{name}and({name}, {name}) {name}", inline="({0} & {1})")
    define_operator(registry, "|", f"{name}or({name}, {name}) {name}", inline="({0} | {1})")
    define_operator(registry, "#", f"{name}xor({name}, {name}) {name}", inline="({0} ^ {1})")
    define_operator(registry, "~", f"{name}not({name}) {name}", inline="(~{0})")
    width = int(name[3]) * 8
    define_operator(
        registry, "<<", f"{name}shl({name}, int4) {name}", inline=f"wrap({{0}} << ({{1}} & {bits - 1}), {width})"
    )
    define_operator(registry, ">>", f"{name}shr({name}, int4) {name}", inline=f"({{0}} >> ({{1}} & {bits - 1}))")
    define(registry, f"{name}larger({name}, {name}) {name}", inline="max({0}, {1})")
    define(registry, f"{name}smaller({name}, {name}) {name}", inline="min({0}, {1})")


def _checker(name: str, function: Callable[..., int]) -> Callable[..., int]:
    lower, upper = BOUNDS[name]
    word = WORDS[name]

    def check(*args: Any) -> int:
        value = function(*args)
        if lower <= value <= upper:
            return value
        raise error("22003", f"{word} out of range")

    return check


def register(registry: Registry) -> None:
    """Adds this family."""
    _register_binary(registry)
    for name in BOUNDS:
        _register_one_type(registry, name)
    for name in ("int4", "int8"):
        define(registry, f"gcd({name}, {name}) {name}", _checker(name, math.gcd))
        define(registry, f"lcm({name}, {name}) {name}", _checker(name, math.lcm))
