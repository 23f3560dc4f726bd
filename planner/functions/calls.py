"""Builds typed calls from resolved functions: casts in place, literals read, VARIADIC packed.

    coerce(registry, expr, target, context)      expr as a value of another type
    call(registry, name, args)                   f(a, b)
    operate(registry, symbol, left, right)       a + b, - a
    compare_rows(registry, symbol, left, right)  (a, b) < (c, d)

The binder may use these, or do the same with positions for its errors.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from base.errors import error
from base.typeio import apply_typmod, has_typmod, text_parser, type_name
from base.types import BOOL, INT4, RECORD, TEXT, UNKNOWN, PgType
from planner.expr import And, ArrayExpr, Call, Const, Expr, Or, RowExpr
from planner.functions.coercion import find_cast, typmod_cast
from planner.functions.conversion import DEFAULT_SETTINGS, Reader, text_volatility, uses_settings
from planner.functions.registry import STABLE, Cast, Function, Registry
from planner.functions.resolve import Resolved, resolve_function, resolve_operator

_FIXED: Final = {
    "date": re.compile(r"[1-9]\d{3}-\d\d-\d\d", re.ASCII),
    "timestamp": re.compile(r"[1-9]\d{3}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?)?", re.ASCII),
    "timestamptz": re.compile(r"[1-9]\d{3}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?([+-]\d\d(:\d\d)?|Z)", re.ASCII),
}
"""Literals that mean the same in every session."""


def coerce(registry: Registry, expr: Expr, target: PgType, context: str = "i", typmod: int = -1) -> Expr:
    """Casts to a type and then to its length; raises 42846 where there is no such cast in this context."""
    if expr.type.oid == UNKNOWN.oid:
        return fit(registry, read_literal(expr, target), typmod, context)
    if expr.type.oid == target.oid:
        return fit(registry, expr, typmod, context)
    if isinstance(expr, RowExpr) and target.kind == "c":
        return _coerce_row(registry, expr, target, context)
    cast = find_cast(registry, expr.type, target, context)
    if cast is None:
        raise error("42846", f"cannot cast type {type_name(expr.type)} to {type_name(target)}")
    return fit(registry, apply_cast(cast, expr, target, typmod), typmod, context)


def apply_cast(cast: Cast, expr: Expr, target: PgType, typmod: int = -1) -> Expr:
    """The call behind a cast; a relabelling of a constant just changes its type."""
    function = cast.function
    if function is None:
        if isinstance(expr, Const):
            return Const(expr.value, target)
        return Call(relabel(expr.type, target), (expr,), target)
    args: tuple[Expr, ...] = (expr,)
    if len(function.arg_types) > 1:
        # int -> bit(n) needs the length while converting.
        args += (Const(typmod, INT4),)
    if len(function.arg_types) > 2:
        args += (Const(True, BOOL),)
    return Call(function, args, target)


def relabel(source: PgType, target: PgType) -> Function:
    """A function that changes only the type."""
    return Function(target.name, (source,), target, _same, inline="{0}")


def _same(value: Any) -> Any:
    return value


def read_literal(expr: Expr, target: PgType) -> Expr:
    """An unknown literal as a constant of the target type.

    Where its meaning may depend on the session ('now', DateStyle, reg* names) it becomes a call that reads it when
    the statement runs.
    """
    if not isinstance(expr, Const) or expr.value is None or target.oid == UNKNOWN.oid:
        if isinstance(expr, Const):
            return Const(None if expr.value is None else expr.value, target)
        raise error("42804", f"cannot read a {type_name(expr.type)} expression as {type_name(target)}")
    if target.kind == "p":
        return Const(expr.value, TEXT)
    if uses_settings(target) and text_volatility(target) == STABLE and not _is_fixed(expr.value, target):
        reader = Reader(target)
        function = Function("io_cast", (TEXT,), target, reader, needs_context=True, volatility=STABLE)
        return Call(function, (Const(expr.value, TEXT),), target)
    return Const(text_parser(target, -1, DEFAULT_SETTINGS)(expr.value), target)


def _is_fixed(text: str, target: PgType) -> bool:
    pattern = _FIXED.get(target.name)
    return pattern is not None and pattern.fullmatch(text) is not None


def fit(registry: Registry, expr: Expr, typmod: int, context: str = "i") -> Expr:
    """Applies a typmod: varchar(n), numeric(p,s), timestamp(p).., also to the elements of an array."""
    if typmod < 0 or expr.typmod == typmod:
        return expr
    element = expr.type.elem if expr.type.is_array else expr.type
    if element is None or not has_typmod(element):
        return expr
    explicit = Const(context == "e", BOOL)
    if expr.type.is_array:
        function = Function(expr.type.name, (expr.type, INT4, BOOL), expr.type, _LengthOf(expr.type))
        return Call(function, (expr, Const(typmod, INT4), explicit), expr.type, typmod)
    cast = typmod_cast(registry, expr.type)
    assert cast is not None, f"no length coercion of {expr.type}"
    assert cast.function is not None
    args: tuple[Expr, ...] = (expr, Const(typmod, INT4), explicit)
    return Call(cast.function, args[: len(cast.function.arg_types)], expr.type, typmod)


class _LengthOf:
    def __init__(self, pg_type: PgType) -> None:
        self.type = pg_type

    def __call__(self, value: Any, typmod: int, explicit: bool) -> Any:
        return apply_typmod(self.type, typmod, value, explicit)


def _coerce_row(registry: Registry, expr: RowExpr, target: PgType, context: str) -> Expr:
    if len(expr.args) != len(target.fields):
        raise error(
            "42846", f"cannot cast type {type_name(RECORD)} to {type_name(target)}", detail="Input has too few columns."
        )
    fields = [coerce(registry, arg, field, context) for arg, (_, field) in zip(expr.args, target.fields)]
    return RowExpr(tuple(fields), target)


def build(registry: Registry, resolved: Resolved, args: Sequence[Expr]) -> Call:
    """The call of a resolved function with its arguments cast (and packed where VARIADIC)."""
    fitted = [
        coerce(registry, arg, want) if want.kind != "p" or want.oid == arg.type.oid else _as_text(arg)
        for arg, want in zip(args, resolved.arg_types)
    ]
    if resolved.pack_from >= 0:
        packed = ArrayExpr(tuple(fitted[resolved.pack_from :]), resolved.function.arg_types[-1])
        fitted = [*fitted[: resolved.pack_from], packed]
    return Call(resolved.function, tuple(fitted), resolved.result)


def _as_text(arg: Expr) -> Expr:
    return read_literal(arg, TEXT) if arg.type.oid == UNKNOWN.oid else arg


def call(registry: Registry, name: str, args: Sequence[Expr], variadic: bool = False) -> Call:
    """Resolves and builds a function call."""
    return build(registry, resolve_function(registry, name, [arg.type for arg in args], variadic), args)


def operate(registry: Registry, symbol: str, left: Expr | None, right: Expr) -> Call:
    """Resolves and builds an operator."""
    resolved = resolve_operator(registry, symbol, None if left is None else left.type, right.type)
    return build(registry, resolved, (right,) if left is None else (left, right))


def compare_rows(registry: Registry, symbol: str, left: Sequence[Expr], right: Sequence[Expr]) -> Expr:
    """``ROW(..) op ROW(..)``: equal if all pairs are; ordered by the first pair that is not equal."""
    if len(left) != len(right):
        raise error("42601", "unequal number of entries in row expressions")
    if not left:
        raise error("0A000", "cannot compare rows of zero length")
    pairs = list(zip(left, right))
    if symbol == "=":
        return _joined(And, [operate(registry, "=", a, b) for a, b in pairs])
    if symbol in ("<>", "!="):
        return _joined(Or, [operate(registry, "<>", a, b) for a, b in pairs])
    if symbol not in ("<", "<=", ">", ">="):
        raise error("0A000", f"could not determine interpretation of row comparison operator {symbol}")
    strict = symbol[0]
    found: Expr = operate(registry, symbol, *pairs[-1])
    for a, b in reversed(pairs[:-1]):
        found = Or((operate(registry, strict, a, b), And((operate(registry, "=", a, b), found))))
    return found


def _joined(kind: type[And], parts: list[Call]) -> Expr:
    return parts[0] if len(parts) == 1 else kind(tuple(parts))
