"""Casts between types, length coercions, and I/O conversions.

A line of ``define_cast`` is a row of pg_cast with the function behind it; relabellings (binary
coercible types) have none.  I/O conversions (any type to and from strings) and array casts
(element by element) are made on demand (``coercion.find_cast``).  PostgreSQL 15 manual: 4.2.9, 38.12 (CREATE CAST).
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from base.errors import error
from base.typeio import apply_typmod
from base.typeio.floats import parse_float4
from base.typeio.json import parse_jsonb
from base.typeio.numeric import parse_numeric
from base.typeio.text import parse_char, parse_name
from base.types import BOOL, BY_NAME, INT4, PgType
from planner.context import ExecContext
from planner.exec.membership import flattener
from planner.functions import floats, json
from planner.functions.arithmetic import BOUNDS, WORDS, wrap
from planner.functions.coercion import IoCasts, install_makers
from planner.functions.conversion import Printer, Reader, text_volatility
from planner.functions.declare import INLINE_NAMES, define
from planner.functions.registry import IMMUTABLE, STABLE, Cast, Function, Registry

REG_TYPES: Final = (
    "regproc", "regprocedure", "regoper", "regoperator", "regclass", "regtype", "regrole", "regnamespace", "regcollation", "regconfig", "regdictionary",
)  # fmt: skip


def define_cast(
    registry: Registry, context: str, signature: str, impl: Callable[..., Any] | None = None, **options: Any
) -> None:
    """Adds a conversion function and the cast from its first argument to its result."""
    function = define(registry, signature, impl, **options)
    registry.add_cast(Cast(function.arg_types[0], function.result, context, function))


def define_relabel(registry: Registry, context: str, source: str, target: str) -> None:
    """Adds a cast that changes the type but not the datum."""
    registry.add_cast(Cast(BY_NAME[source], BY_NAME[target], context, None))


# --- numbers ---------------------------------------------------------------------------


def range_checked(target: str) -> str:
    """Template: an integer that must fit."""
    lower, upper = BOUNDS[target]
    return f"({{0}} if {lower} <= {{0}} <= {upper} else {target}_overflow())"


def float_to_integer(target: str) -> Callable[[float], int]:
    lower, upper = BOUNDS[target]
    word = WORDS[target]

    def convert(value: float) -> int:
        if math.isfinite(value):
            rounded = round(value)
            if lower <= rounded <= upper:
                return rounded
        raise error("22003", f"{word} out of range")

    return convert


def numeric_to_integer(target: str) -> Callable[[Decimal], int]:
    lower, upper = BOUNDS[target]
    word = WORDS[target]

    def convert(value: Decimal) -> int:
        if value.is_nan():
            raise error("0A000", f"cannot convert NaN to {word}")
        if value.is_infinite():
            raise error("0A000", f"cannot convert infinity to {word}")
        if value.adjusted() > 20:
            raise error("22003", f"{word} out of range")
        rounded = int(value.to_integral_value("ROUND_HALF_UP"))
        if lower <= rounded <= upper:
            return rounded
        raise error("22003", f"{word} out of range")

    return convert


def float_to_numeric(digits: int) -> Callable[[float], Decimal]:
    """By way of ``digits`` significant digits, as float8_numeric."""

    def convert(value: float) -> Decimal:
        if math.isnan(value):
            return Decimal("NaN")
        if math.isinf(value):
            return Decimal("Infinity") if value > 0 else Decimal("-Infinity")
        return parse_numeric(f"{value:.{digits}g}")

    return convert


def numeric_to_double(value: Decimal) -> float:
    result = float(value)
    if math.isinf(result) and not value.is_infinite():
        raise error("22003", f'"{value:f}" is out of range for type double precision')
    return result


def numeric_to_single(value: Decimal) -> float:
    if not value.is_finite():
        return float(value)
    return parse_float4(format(value, "f"))


def double_to_single(value: float) -> float:
    result = floats.to_single(value)
    if math.isinf(result) and not math.isinf(value):
        floats.overflow()
    if result == 0.0 and value != 0.0:
        floats.underflow()
    return result


def int8_to_oid(value: int) -> int:
    if not 0 <= value < 2**32:
        raise error("22003", "OID out of range")
    return value


INLINE_NAMES.update(Decimal=Decimal)


def _register_numbers(registry: Registry) -> None:
    for source, target, context in (
        ("int2", "int4", "i"), ("int2", "int8", "i"), ("int4", "int8", "i"), ("int4", "int2", "a"), ("int8", "int4", "a"), ("int8", "int2", "a"),
    ):  # fmt: skip
        define_cast(
            registry,
            context,
            f"{target}({source}) {target}",
            inline="{0}" if source < target else range_checked(target),
        )
    for source in BOUNDS:
        for target in ("float4", "float8"):
            if target == "float4":
                define_cast(registry, "i", f"float4({source}) float4", lambda value: floats.to_single(float(value)))
            else:
                define_cast(registry, "i", f"float8({source}) float8", inline="float({0})")
        define_cast(registry, "i", f"numeric({source}) numeric", inline="Decimal({0})")
        for name in ("float4", "float8"):
            define_cast(registry, "a", f"{source}({name}) {source}", float_to_integer(source))
        define_cast(registry, "a", f"{source}(numeric) {source}", numeric_to_integer(source))
    define_cast(registry, "i", "float8(float4) float8", inline="{0}")
    define_cast(registry, "a", "float4(float8) float4", double_to_single)
    define_cast(registry, "i", "float8(numeric) float8", numeric_to_double)
    define_cast(registry, "i", "float4(numeric) float4", numeric_to_single)
    define_cast(registry, "a", "numeric(float8) numeric", float_to_numeric(15))
    define_cast(registry, "a", "numeric(float4) numeric", float_to_numeric(6))
    define_cast(registry, "e", "bool(int4) bool", inline="({0} != 0)")
    define_cast(registry, "e", "int4(bool) int4", inline="(1 if {0} else 0)")


# --- strings, identifiers ------------------------------------------------------------------


def bits_from_int(width: int) -> Callable[..., str]:
    """int to bit(n): the low n bits, sign extended; without a length, bit(1)."""

    def convert(value: int, length: int = 1) -> str:
        length = length if length > 0 else 1
        return f"{value & ((1 << length) - 1):0{length}b}"

    return convert


def int_from_bits(width: int) -> Callable[[str], int]:
    def convert(value: str) -> int:
        if len(value) > width:
            raise error("22003", f"{'integer' if width == 32 else 'bigint'} out of range")
        return wrap(int(value, 2), width) if value else 0

    return convert


def char_to_int(value: str) -> int:
    return wrap(ord(value[0]), 8) if value else 0


def int_to_char(value: int) -> str:
    if not -128 <= value <= 127:
        raise error("22003", '"char" out of range')
    return "" if value == 0 else chr(value & 255)


def inet_text(value: str) -> str:
    """text(inet) always shows the length of the prefix."""
    return value if "/" in value else value + ("/128" if ":" in value else "/32")


def inet_to_cidr(value: str) -> str:
    return str(ipaddress.ip_interface(value).network)


def _register_strings(registry: Registry) -> None:
    for source, target, context in (
        ("text", "varchar", "i"),
        ("varchar", "text", "i"),
        ("text", "bpchar", "i"),
        ("varchar", "bpchar", "i"),
    ):
        define_relabel(registry, context, source, target)
    for target in ("text", "varchar"):
        trimmed = '{0}.rstrip(" ")'
        if target == "text":
            define_cast(registry, "i", "text(bpchar) text", inline=trimmed)
        else:
            registry.add_cast(
                Cast(
                    BY_NAME["bpchar"],
                    BY_NAME["varchar"],
                    "i",
                    Function("text", (BY_NAME["bpchar"],), BY_NAME["varchar"], _trim_blanks, inline=trimmed),
                )
            )
    for source in ("text", "varchar", "bpchar"):
        define_cast(registry, "i", f"name({source}) name", parse_name)
        define_cast(registry, "a", f"char({source}) char", parse_char)
    define_cast(registry, "i", "text(name) text", inline="{0}")
    define_cast(registry, "a", "varchar(name) varchar", inline="{0}")
    define_cast(registry, "a", "bpchar(name) bpchar", inline="{0}")
    define_cast(registry, "i", "text(char) text", inline="{0}")
    define_cast(registry, "a", "bpchar(char) bpchar", inline="{0}")
    registry.add_cast(Cast(BY_NAME["char"], BY_NAME["varchar"], "a", None))
    define_cast(registry, "e", "int4(char) int4", char_to_int)
    define_cast(registry, "e", "char(int4) char", int_to_char)
    for target in ("text", "varchar", "bpchar"):
        shown = '("true" if {0} else "false")'
        function = Function("text", (BOOL,), BY_NAME[target], lambda value: "true" if value else "false", inline=shown)
        registry.add_cast(Cast(BOOL, BY_NAME[target], "a", function))
    define(registry, "text(bool) text", inline='("true" if {0} else "false")')


def _trim_blanks(value: str) -> str:
    return value.rstrip(" ")


def _register_oids(registry: Registry) -> None:
    define_relabel(registry, "i", "int4", "oid")
    define_relabel(registry, "a", "oid", "int4")
    define_cast(registry, "i", "oid(int8) oid", int8_to_oid)
    define_cast(registry, "a", "int8(oid) int8", inline="{0}")
    define_relabel(registry, "i", "int2", "oid")
    for name in REG_TYPES:
        for source in ("int2", "int4", "oid"):
            define_relabel(registry, "i", source, name)
        registry.add_cast(
            Cast(BY_NAME["int8"], BY_NAME[name], "i", Function("oid", (BY_NAME["int8"],), BY_NAME[name], int8_to_oid))
        )
        define_relabel(registry, "i", name, "oid")
        define_relabel(registry, "a", name, "int4")
        define_relabel(registry, "a", name, "int8")
    for first, second in (("regproc", "regprocedure"), ("regoper", "regoperator")):
        define_relabel(registry, "i", first, second)
        define_relabel(registry, "i", second, first)
    for source in ("text", "varchar"):
        function = make_io(BY_NAME[source], BY_NAME["regclass"])
        registry.add_cast(Cast(BY_NAME[source], BY_NAME["regclass"], "i", function))
    define_cast(registry, "e", "xid(xid8) xid", inline="({0} & 4294967295)")


def _register_rest(registry: Registry) -> None:
    for name, width in (("int4", 32), ("int8", 64)):
        define_cast(registry, "e", f"{name}(bit) {name}", int_from_bits(width))
        define_cast(registry, "e", f"bit({name}, int4) bit", bits_from_int(width))
    define_relabel(registry, "i", "bit", "varbit")
    define_relabel(registry, "i", "varbit", "bit")
    define_relabel(registry, "i", "cidr", "inet")
    define_cast(registry, "a", "cidr(inet) cidr", inet_to_cidr)
    define_cast(registry, "a", "text(inet) text", inet_text)
    for source in ("inet", "cidr"):
        for target in ("text", "varchar", "bpchar"):
            function = Function("text", (BY_NAME[source],), BY_NAME[target], inet_text)
            registry.add_cast(Cast(BY_NAME[source], BY_NAME[target], "a", function))
    registry.add_cast(
        Cast(
            BY_NAME["json"], BY_NAME["jsonb"], "a", Function("jsonb", (BY_NAME["json"],), BY_NAME["jsonb"], parse_jsonb)
        )
    )
    define_relabel(registry, "a", "jsonb", "json")
    define_cast(registry, "e", "bool(jsonb) bool", json.to_bool)
    define_cast(registry, "e", "numeric(jsonb) numeric", json.to_numeric("numeric"))
    for name, word in WORDS.items():
        define_cast(registry, "e", f"{name}(jsonb) {name}", _composed(json.to_numeric(word), numeric_to_integer(name)))
    define_cast(
        registry, "e", "float8(jsonb) float8", _composed(json.to_numeric("double precision"), numeric_to_double)
    )
    define_cast(registry, "e", "float4(jsonb) float4", _composed(json.to_numeric("real"), numeric_to_single))


def _composed(first: Callable[[Any], Any], second: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: second(first(value))


# --- lengths ---------------------------------------------------------------------------------


class LengthCoercion:
    """(value, typmod, explicit) -> value that fits."""

    def __init__(self, pg_type: PgType) -> None:
        self.type = pg_type

    def __call__(self, value: Any, typmod: int, explicit: bool = False) -> Any:
        return apply_typmod(self.type, typmod, value, explicit)


def _register_lengths(registry: Registry) -> None:
    for name, has_explicit in (
        ("varchar", True), ("bpchar", True), ("bit", True), ("varbit", True), ("numeric", False), ("timestamp", False), ("timestamptz", False),
        ("time", False), ("timetz", False), ("interval", False),
    ):  # fmt: skip
        pg_type = BY_NAME[name]
        args = (pg_type, INT4, BOOL) if has_explicit else (pg_type, INT4)
        function = registry.add(Function(name, args, pg_type, LengthCoercion(pg_type)))
        registry.add_cast(Cast(pg_type, pg_type, "i", function))


# --- made on demand ----------------------------------------------------------------------------


def make_io(source: PgType, target: PgType) -> Function:
    """The function of an I/O conversion: prints the source, reads the target."""
    if target.category == "S" and target.name in ("text", "varchar", "bpchar"):
        printer = Printer(source)
        impl: Callable[..., Any] = printer if printer.needs_context else printer.render or printer
        return Function(
            "io_cast", (source,), target, impl, needs_context=printer.needs_context, volatility=text_volatility(source)
        )
    reader = Reader(target)
    if source.category == "S":
        impl = reader if reader.needs_context else reader.parse or reader
        return Function(
            "io_cast", (source,), target, impl, needs_context=reader.needs_context, volatility=text_volatility(target)
        )
    printer = Printer(source)
    volatility = STABLE if STABLE in (text_volatility(source), text_volatility(target)) else IMMUTABLE
    return Function(
        "io_cast", (source,), target, _ThroughText(printer, reader), needs_context=True, volatility=volatility
    )


class _ThroughText:
    """Prints one type and reads another: any type to name or "char"."""

    def __init__(self, printer: Printer, reader: Reader) -> None:
        self.printer = printer
        self.reader = reader

    def __call__(self, ctx: ExecContext, value: Any) -> Any:
        return self.reader(ctx, self.printer(ctx, value))


class _ArrayCast:
    """Casts the elements of an array, at any depth."""

    def __init__(self, element: PgType, function: Function) -> None:
        self.is_nested = flattener(element).is_nested
        self.function = function

    def plain(self, array: tuple[Any, ...]) -> tuple[Any, ...]:
        return self._apply((), array)

    def contextual(self, ctx: ExecContext, array: tuple[Any, ...]) -> tuple[Any, ...]:
        return self._apply((ctx,), array)

    def _apply(self, lead: tuple[Any, ...], array: tuple[Any, ...]) -> tuple[Any, ...]:
        impl, strict = self.function.impl, self.function.strict
        out: list[Any] = []
        for item in array:
            if self.is_nested(item):
                out.append(self._apply(lead, item))
            else:
                out.append(None if item is None and strict else impl(*lead, item))
        return tuple(out)


def make_array(source: PgType, target: PgType, element: Cast) -> Function:
    """The function of a cast between array types."""
    assert source.elem is not None
    function = element.function
    assert function is not None
    cast = _ArrayCast(source.elem, function)
    impl = cast.contextual if function.needs_context else cast.plain
    return Function(
        "array_cast", (source,), target, impl, needs_context=function.needs_context, volatility=function.volatility
    )


install_makers(IoCasts(make_io, make_array))


def register(registry: Registry) -> None:
    """Adds this family; casts of date and time types are in ``datetime``."""
    _register_numbers(registry)
    _register_strings(registry)
    _register_oids(registry)
    _register_rest(registry)
    _register_lengths(registry)
