"""Types of expressions: implicit, assignment and explicit casts, constants, common types.

An unknown literal is a Const of type UNKNOWN whose value is its text (None for NULL); an
untyped parameter is a Param of type UNKNOWN.  Both take whatever type they are coerced to.
"""

from __future__ import annotations

from collections.abc import Sequence

from base import typeio
from base.errors import InternalError, MeridianError, error
from base.typeio import type_name
from base.types import BOOL, INT4, INT8, INTERVAL, NUMERIC, RECORD, TEXT, UNKNOWN, PgType
from planner.expr import ArrayExpr, Call, Const, Expr, Param, RowExpr
from planner.functions.coercion import find_cast, select_common_type, typmod_cast
from planner.functions.registry import Function, Registry
from sql.binder.context import BindContext, placed


class _NeedsClock(Exception):
    """A literal such as 'now' was met: it is read when the statement runs."""


def _no_clock() -> int:
    raise _NeedsClock


def _same(value: object) -> object:
    return value


_RELABELS: dict[tuple[int, int], Function] = {}


def relabel(source: PgType, target: PgType) -> Function:
    """The function behind a binary-coercible cast."""
    key = (source.oid, target.oid)
    found = _RELABELS.get(key)
    if found is None or found.arg_types[0] is not source or found.result is not target:
        found = _RELABELS[key] = Function("relabel", (source,), target, _same, inline="{0}")
    return found


def is_unknown(expr: Expr) -> bool:
    return expr.type.oid == UNKNOWN.oid


# --- constants ----------------------------------------------------------------------------


def constant(ctx: BindContext, text: str | None, target: PgType, typmod: int, explicit: bool, position: int) -> Expr:
    """Reads a literal's text as a value of ``target``."""
    if text is None:
        return Const(None, target, typmod)
    try:
        # Interval input itself obeys the typmod; the other types are cut to length afterwards.
        value = typeio.text_in(target, typmod if target.oid == INTERVAL.oid else -1, text, ctx.io, _no_clock)
        if typmod >= 0:
            value = typeio.apply_typmod(target, typmod, value, explicit)
    except _NeedsClock:
        return _read_at_run_time(ctx, text, target, typmod, position)
    except MeridianError as failure:
        raise placed(failure, position) from None
    found = Const(value, target, typmod)
    if ctx.written is not None:
        whole = typeio.text_in(target, typmod if target.oid == INTERVAL.oid else -1, text, ctx.io, _no_clock)
        ctx.written.note(found, "literal", Const(whole, target), explicit)
    return found


def _read_at_run_time(ctx: BindContext, text: str, target: PgType, typmod: int, position: int) -> Expr:
    cast = find_cast(ctx.registry, TEXT, target, "e")
    if cast is None or cast.function is None:
        raise InternalError(f"no run-time reader of {type_name(target)}")
    read = Call(cast.function, _cast_args(cast.function, Const(text, TEXT), -1, True), target)
    return apply_typmod(ctx.registry, read, typmod, True)


# --- casts --------------------------------------------------------------------------------


def coerce(
    ctx: BindContext, expr: Expr, target: PgType, context: str = "i", typmod: int = -1, position: int = -1
) -> Expr | None:
    """Returns ``expr`` as ``target`` in a cast context (i, a, e), or None if there is no such cast."""
    found = _coerced(ctx, expr, target, context, typmod, position)
    if ctx.written is not None and found is not None and found is not expr and not is_unknown(expr):
        ctx.written.note(found, "cast", expr, context == "e")
    return found


def _coerced(ctx: BindContext, expr: Expr, target: PgType, context: str, typmod: int, position: int) -> Expr | None:
    if expr.type.oid == target.oid and target.oid != RECORD.oid:
        if expr.type.oid == UNKNOWN.oid:
            return expr
        return apply_typmod(ctx.registry, expr, typmod, context == "e")
    if expr.type.oid == UNKNOWN.oid:
        if target.kind == "p":
            # "any", cstring and record take a literal as it is.
            return resolve_unknown(ctx, expr, position) if isinstance(expr, Const) else expr
        if isinstance(expr, Const):
            return constant(ctx, expr.value, target, typmod, context == "e", position)
        if isinstance(expr, Param):
            return apply_typmod(ctx.registry, ctx.decide_param(expr, target, position), typmod, context == "e")
        # A column of a subquery whose literal stayed unknown is text.
        expr = Call(relabel(UNKNOWN, TEXT), (expr,), TEXT)
    if target.oid == RECORD.oid:
        return expr if expr.type.oid == RECORD.oid or expr.type.kind == "c" else None
    if isinstance(expr, ArrayExpr) and target.is_array and target.elem is not None:
        items = [
            coerce(ctx, arg, target if arg.type.is_array else target.elem, context, typmod, position)
            for arg in expr.args
        ]
        if all(item is not None for item in items):
            return ArrayExpr(tuple([item for item in items if item is not None]), target, typmod)
        return None
    if isinstance(expr, RowExpr) and target.kind == "c":
        return _coerce_row(ctx, expr, target, context, position)
    return _cast(ctx, expr, target, context, typmod)


def _cast(ctx: BindContext, expr: Expr, target: PgType, context: str, typmod: int) -> Expr | None:
    cast = find_cast(ctx.registry, expr.type, target, context)
    if cast is None:
        return None
    if cast.function is None:
        done: Expr = _relabelled(expr, target)
    else:
        done = Call(cast.function, _cast_args(cast.function, expr, typmod, context == "e"), target)
        if len(cast.function.arg_types) > 1:
            return _with_typmod(done, typmod)
    return apply_typmod(ctx.registry, done, typmod, context == "e")


def _relabelled(expr: Expr, target: PgType) -> Expr:
    if isinstance(expr, Const):
        return Const(expr.value, target)
    return Call(relabel(expr.type, target), (expr,), target)


def _cast_args(function: Function, expr: Expr, typmod: int, explicit: bool) -> tuple[Expr, ...]:
    """A cast function may also take the typmod, and whether the cast is explicit."""
    count = len(function.arg_types)
    if count == 1:
        return (expr,)
    if count == 2:
        return (expr, Const(typmod, INT4))
    return (expr, Const(typmod, INT4), Const(explicit, BOOL))


def _with_typmod(expr: Expr, typmod: int) -> Expr:
    expr.typmod = typmod
    return expr


def _coerce_row(ctx: BindContext, expr: RowExpr, target: PgType, context: str, position: int) -> Expr | None:
    if len(expr.args) != len(target.fields):
        return None
    items: list[Expr] = []
    for arg, (_, field) in zip(expr.args, target.fields):
        item = coerce(ctx, arg, field, context, -1, position)
        if item is None:
            return None
        items.append(item)
    return RowExpr(tuple(items), target)


def apply_typmod(registry: Registry, expr: Expr, typmod: int, explicit: bool) -> Expr:
    """Adds the length coercion that makes ``expr`` fit a typmod."""
    if typmod < 0 or expr.typmod == typmod:
        return expr
    if isinstance(expr, Const):
        return Const(typeio.apply_typmod(expr.type, typmod, expr.value, explicit), expr.type, typmod)
    cast = typmod_cast(registry, expr.type)
    if cast is None or cast.function is None:
        if expr.type.is_array and expr.type.elem is not None:
            return _array_typmod(registry, expr, typmod, explicit)
        return expr
    return Call(cast.function, _cast_args(cast.function, expr, typmod, explicit), expr.type, typmod)


def _array_typmod(registry: Registry, expr: Expr, typmod: int, explicit: bool) -> Expr:
    """Length coercion of every element, by the array's own text-free path."""
    pg_type = expr.type
    if not typeio.has_typmod(pg_type.elem) if pg_type.elem is not None else True:
        return expr

    def fit(value: object) -> object:
        return typeio.apply_typmod(pg_type, typmod, value, explicit)

    return Call(Function("array_typmod", (pg_type,), pg_type, fit), (expr,), pg_type, typmod)


def implicit(ctx: BindContext, expr: Expr, target: PgType, position: int = -1) -> Expr:
    """Implicit coercion that the resolver promised to exist."""
    found = coerce(ctx, expr, target, "i", -1, position)
    if found is None:
        raise placed(error("42804", f"cannot cast type {type_name(expr.type)} to {type_name(target)}"), position)
    return found


def explicit_cast(
    ctx: BindContext, expr: Expr, target: PgType, typmod: int, position: int, value_position: int
) -> Expr:
    """CAST(expr AS target)."""
    found = coerce(ctx, expr, target, "e", typmod, value_position)
    if found is None:
        raise placed(error("42846", f"cannot cast type {type_name(expr.type)} to {type_name(target)}"), position)
    return found


def boolean(ctx: BindContext, expr: Expr, clause: str, position: int) -> Expr:
    """Coerces to boolean, or says ``argument of WHERE must be type boolean, not type integer``."""
    return required(ctx, expr, BOOL, clause, position)


def required(ctx: BindContext, expr: Expr, target: PgType, clause: str, position: int) -> Expr:
    """Coerces to a type that a clause demands."""
    found = coerce(ctx, expr, target, "a", -1, position)
    if found is None:
        raise placed(
            error("42804", f"argument of {clause} must be type {type_name(target)}, not type {type_name(expr.type)}"),
            position,
        )
    return found


def resolve_unknown(ctx: BindContext, expr: Expr, position: int = -1) -> Expr:
    """An output that is still an unknown literal or parameter becomes text."""
    if expr.type.oid != UNKNOWN.oid:
        return expr
    found = coerce(ctx, expr, TEXT, "i", -1, position)
    assert found is not None, f"{expr=}"
    return found


# --- common types -------------------------------------------------------------------------


def common(
    ctx: BindContext, exprs: Sequence[Expr], context: str, positions: Sequence[int]
) -> tuple[list[Expr], PgType, int]:
    """Coerces expressions to their common type (manual 10.5); returns them, the type and the shared typmod."""
    try:
        chosen = select_common_type(ctx.registry, [expr.type for expr in exprs], context)
    except MeridianError as failure:
        raise placed(failure, _first_other(exprs, positions)) from None
    typmod = exprs[0].typmod
    if any(expr.type != chosen or expr.typmod != typmod for expr in exprs):
        typmod = -1
    out: list[Expr] = []
    for expr, position in zip(exprs, positions):
        found = coerce(ctx, expr, chosen, "i", -1, position)
        if found is None:
            raise placed(
                error("42846", f"{context} could not convert type {type_name(expr.type)} to {type_name(chosen)}"),
                position,
            )
        out.append(found)
    return out, chosen, typmod


def _first_other(exprs: Sequence[Expr], positions: Sequence[int]) -> int:
    """Position of the first expression whose category differs from the first known one."""
    first: Expr | None = None
    for expr, position in zip(exprs, positions):
        if is_unknown(expr):
            continue
        if first is None:
            first = expr
        elif expr.type.category != first.type.category:
            return position
    return positions[0] if positions else -1


def number(text: str) -> Const:
    """A numeric literal: int4, int8 or numeric, by its size."""
    from decimal import Decimal

    digits = text[1:] if text[:1] in "+-" else text
    if digits.isdigit() and len(digits) <= 19:
        value = int(text)
        if -(2**31) <= value < 2**31:
            return Const(value, INT4)
        if -(2**63) <= value < 2**63:
            return Const(value, INT8)
    value_text = typeio.text_in(NUMERIC, -1, text)
    assert isinstance(value_text, Decimal), f"{value_text=}"
    return Const(value_text, NUMERIC)
