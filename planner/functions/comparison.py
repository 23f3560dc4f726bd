"""Comparison operators of every ordered type, and greatest, least, num_nulls.

Plain types compare as their datums do.  The rest goes through keys (``planner.exec.order``):

    float, numeric   NaN equals itself and is above all      bpchar     trailing blanks do not count
    interval, timetz by length, by instant                   jsonb      by PostgreSQL's jsonb order
    arrays, records  element by element, NULL above all      enums      by position

PostgreSQL 15 manual: 9.2, 8.5.4, 8.14.4, 9.19, 9.24.6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from base.errors import error
from base.types import BY_NAME, PgType
from planner.exec.order import interval_order, jsonb_order, order_key
from planner.functions.declare import INLINE_NAMES, define, define_operator
from planner.functions.registry import Registry, Specializer

SYMBOLS: Final = {
    "eq": ("=", "=="),
    "ne": ("<>", "!="),
    "lt": ("<", "<"),
    "le": ("<=", "<="),
    "gt": (">", ">"),
    "ge": (">=", ">="),
}
"""Suffix of the function's name -> (SQL operator, Python operator)."""
PLAIN: Final = (
    ("bool", "bool"), ("bytea", "bytea"), ("char", "char"), ("name", "name"), ("oid", "oid"), ("tid", "tid"),
    ("oidvector", "oidvector"), ("date", "date_"), ("time", "time_"), ("timestamp", "timestamp_"),
    ("timestamptz", "timestamptz_"), ("uuid", "uuid_"), ("bit", "bit"), ("varbit", "varbit"), ("pg_lsn", "pg_lsn_"), ("xid8", "xid8"),
)  # fmt: skip
"""(type, prefix of the function names) of types whose datums compare as they are."""
INTEGERS: Final = ("int2", "int4", "int8")


_WITH_NAN: Final = {
    "==": "({0} != {0} and {1} != {1})",
    "!=": "({0} == {0} or {1} == {1})",
    "<": "({1} != {1} and {0} == {0})",
    "<=": "{1} != {1}",
    ">": "({0} != {0} and {1} == {1})",
    ">=": "{0} != {0}",
}
"""The verdict where a side is NaN, which is the only value that differs from itself in Python."""


def float_template(python: str) -> str:
    """Comparisons of floats: Python says False (for != True) of every NaN, SQL puts it on top."""
    if python == "!=":
        return f"({{0}} != {{1}} and {_WITH_NAN[python]})"
    return f"({{0}} {python} {{1}} or {_WITH_NAN[python]})"


def numeric_template(python: str) -> str:
    """Comparisons of Decimals, which may not be ordered at all with a NaN."""
    if python in ("==", "!="):
        return float_template(python)
    return f"({{0}} {python} {{1}} if {{0}} == {{0}} and {{1}} == {{1}} else {_WITH_NAN[python]})"


def key_template(key: str, python: str) -> str:
    """Comparison through a key function named in INLINE_NAMES; equal datums need no key."""
    if python == "==":
        return f"({{0}} == {{1}} or {key}({{0}}) == {key}({{1}}))"
    if python == "!=":
        return f"({{0}} != {{1}} and {key}({{0}}) != {key}({{1}}))"
    return f"{key}({{0}}) {python} {key}({{1}})"


INLINE_NAMES.update(interval_order=interval_order, jsonb_order=jsonb_order)


def _register_inline(
    registry: Registry, left: str, right: str, prefix: str, template: Callable[[str], str], separator: str = ""
) -> None:
    for suffix, (symbol, python) in SYMBOLS.items():
        define_operator(registry, symbol, f"{prefix}{separator}{suffix}({left}, {right}) bool", inline=template(python))


def _plain(python: str) -> str:
    return f"{{0}} {python} {{1}}"


def _integer_prefix(left: str, right: str) -> str:
    return left if left == right else f"int{left[3]}{right[3]}"


def _register_scalars(registry: Registry) -> None:
    for name, prefix in PLAIN:
        _register_inline(registry, name, name, prefix, _plain)
    for left in INTEGERS:
        for right in INTEGERS:
            _register_inline(registry, left, right, _integer_prefix(left, right), _plain)
    _register_text(registry)
    for left, right, prefix in (("float4", "float4", "float4"), ("float4", "float8", "float48"), ("float8", "float4", "float84"), ("float8", "float8", "float8")):  # fmt: skip
        _register_inline(registry, left, right, prefix, float_template)
    _register_inline(registry, "numeric", "numeric", "numeric_", numeric_template)
    _register_inline(
        registry, "interval", "interval", "interval_", lambda python: key_template("interval_order", python)
    )
    _register_inline(registry, "jsonb", "jsonb", "jsonb_", lambda python: key_template("jsonb_order", python))
    for name, prefix in (("timetz", "timetz_"), ("inet", "network_")):
        _register_keyed(registry, name, prefix)
    for left, right in (("xid", "xid"), ("xid", "int4")):
        suffix = "int4" if right == "int4" else ""
        define_operator(registry, "=", f"xideq{suffix}({left}, {right}) bool", inline="{0} == {1}")
        define_operator(registry, "<>", f"xidneq{suffix}({left}, {right}) bool", inline="{0} != {1}")
    define_operator(registry, "=", "cideq(cid, cid) bool", inline="{0} == {1}")
    define_operator(registry, "=", "aclitemeq(aclitem, aclitem) bool", inline="{0} == {1}")


def _register_text(registry: Registry) -> None:
    for suffix, (symbol, python) in SYMBOLS.items():
        separator = "" if suffix in ("eq", "ne") else "_"
        define_operator(registry, symbol, f"text{separator}{suffix}(text, text) bool", inline=_plain(python))
        define_operator(registry, symbol, f"name{suffix}text(name, text) bool", inline=_plain(python))
        define_operator(registry, symbol, f"text{suffix}name(text, name) bool", inline=_plain(python))
        bpchar = f'{{0}}.rstrip(" ") {python} {{1}}.rstrip(" ")'
        define_operator(registry, symbol, f"bpchar{suffix}(bpchar, bpchar) bool", inline=bpchar)
        if suffix in ("lt", "le", "gt", "ge"):
            define_operator(registry, f"~{symbol}~", f"text_pattern_{suffix}(text, text) bool", inline=_plain(python))
            define_operator(registry, f"~{symbol}~", f"bpchar_pattern_{suffix}(bpchar, bpchar) bool", inline=bpchar)


class KeyComparison:
    """One comparison through keys: ``key(a) <python operator> key(b)``."""

    def __init__(self, suffix: str, key: Callable[[Any], Any]) -> None:
        self.key = key
        self.suffix = suffix

    def __call__(self, left: Any, right: Any) -> bool:
        a, b = self.key(left), self.key(right)
        try:
            return bool(_COMPARE[self.suffix](a, b))
        except TypeError:
            raise error("42804", "cannot compare dissimilar column types") from None


_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}


def _same(value: Any) -> Any:
    return value


def _register_keyed(registry: Registry, name: str, prefix: str) -> None:
    key = order_key(BY_NAME[name]) or _same
    for suffix, (symbol, _) in SYMBOLS.items():
        define_operator(registry, symbol, f"{prefix}{suffix}({name}, {name}) bool", KeyComparison(suffix, key))


def by_type(suffix: str) -> Specializer:
    """Specializes a comparison of arrays, records or enums to its actual type."""

    def specialize(types: tuple[PgType, ...], result: PgType) -> tuple[Callable[..., Any], str]:
        pg_type = types[0]
        if suffix in ("eq", "ne") and (
            pg_type.kind == "e" or (pg_type.elem is not None and order_key(pg_type.elem) is None)
        ):
            return _COMPARE[suffix], f"{{0}} {SYMBOLS[suffix][1]} {{1}}"
        return KeyComparison(suffix, order_key(pg_type) or _same), ""

    return specialize


def _register_generic(registry: Registry) -> None:
    for suffix, (symbol, _) in SYMBOLS.items():
        for name, prefix in (("anyarray", "array_"), ("record", "record_"), ("anyenum", "enum_")):
            define_operator(registry, symbol, f"{prefix}{suffix}({name}, {name}) bool", specialize=by_type(suffix))
        image = define(registry, f"record_image_{suffix}(record, record) bool", specialize=by_type(suffix))
        registry.add_operator(f"*{symbol}", image)


class _Extreme:
    """greatest and least: of a tuple of datums, the NULLs left out."""

    def __init__(self, key: Callable[[Any], Any] | None, choose: Callable[..., Any]) -> None:
        self.key = key
        self.choose = choose

    def __call__(self, values: tuple[Any, ...]) -> Any:
        present = [value for value in values if value is not None]
        if not present:
            return None
        return self.choose(present, key=self.key)


def _extreme(choose: Callable[..., Any]) -> Specializer:
    def specialize(types: tuple[PgType, ...], result: PgType) -> tuple[Callable[..., Any], str]:
        return _Extreme(order_key(result), choose), ""

    return specialize


def _count_nulls(types: tuple[PgType, ...], result: PgType) -> tuple[Callable[..., Any], str]:
    return (lambda *values: sum(1 for value in values if value is None)), ""


def _count_values(types: tuple[PgType, ...], result: PgType) -> tuple[Callable[..., Any], str]:
    return (lambda *values: sum(1 for value in values if value is not None)), ""


def register(registry: Registry) -> None:
    """Adds this family."""
    _register_scalars(registry)
    _register_generic(registry)
    # GREATEST and LEAST are grammar in PostgreSQL; here the binder calls them as functions.
    define(registry, "greatest(variadic anycompatiblearray) anycompatible", strict=False, specialize=_extreme(max))
    define(registry, "least(variadic anycompatiblearray) anycompatible", strict=False, specialize=_extreme(min))
    define(registry, "num_nulls(variadic any) int4", strict=False, specialize=_count_nulls)
    define(registry, "num_nonnulls(variadic any) int4", strict=False, specialize=_count_values)
