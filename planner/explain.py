"""Expressions as text, in the manner of PostgreSQL's EXPLAIN: operators in parentheses, casts as ``(x)::type``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from base.typeio import text_out, type_name
from base.types import PgType
from planner.expr import (
    AggCall,
    And,
    AnyAll,
    ArrayExpr,
    Call,
    Case,
    Coalesce,
    Col,
    Const,
    Expr,
    Field,
    InList,
    IsBool,
    IsDistinct,
    IsNull,
    Not,
    Or,
    Param,
    RowExpr,
    Subquery,
)
from planner.functions.declare import OPERATOR_SYMBOLS

NESTING_MAX: Final = 100
"""Deeper expressions end in dots."""
ITEMS_SHOWN_MAX: Final = 20
_BARE: Final = ("int2", "int4", "int8", "float4", "float8", "numeric", "bool", "oid")
_BOOLS: Final[dict[bool | None, str]] = {True: "TRUE", False: "FALSE", None: "UNKNOWN"}


def const_text(value: Any, pg_type: PgType) -> str:
    """A constant as a literal with its type."""
    if value is None:
        return f"NULL::{type_name(pg_type)}"
    if pg_type.name == "bool":
        return "true" if value else "false"
    try:
        text = text_out(pg_type, value)
    except Exception:
        # Describing must not fail: some types have no output.
        text = str(value)
    if pg_type.name in _BARE and text[0] not in "-NI":
        return text if pg_type.name in ("int4", "bool", "numeric") else f"'{text}'::{type_name(pg_type)}"
    quoted = text.replace("'", "''")
    return f"'{quoted}'::{type_name(pg_type)}"


def expr_text(expr: Expr, depth: int = 0) -> str:
    """The text of an expression."""
    if depth > NESTING_MAX:
        return "..."
    writer = _WRITERS.get(type(expr))
    return repr(type(expr)) if writer is None else writer(expr, depth + 1)


def _list(exprs: tuple[Expr, ...], depth: int) -> str:
    shown = [expr_text(item, depth) for item in exprs[:ITEMS_SHOWN_MAX]]
    if len(exprs) > ITEMS_SHOWN_MAX:
        shown.append(f"... {len(exprs) - ITEMS_SHOWN_MAX} more")
    return ", ".join(shown)


def _const(expr: Const, depth: int) -> str:
    return const_text(expr.value, expr.type)


def _param(expr: Param, depth: int) -> str:
    return f"${expr.index}"


def _col(expr: Col, depth: int) -> str:
    return expr.name or f"#{expr.id}"


def _is_cast(expr: Call) -> bool:
    name = expr.function.name
    return name in ("io_cast", "array_cast") or (
        name == expr.type.name and 1 <= len(expr.args) <= 3 and expr.args[0].type != expr.type
    )


def _call(expr: Call, depth: int) -> str:
    function = expr.function
    symbol = OPERATOR_SYMBOLS.get(function.name)
    if symbol is not None and len(expr.args) == 2:
        return f"({expr_text(expr.args[0], depth)} {symbol} {expr_text(expr.args[1], depth)})"
    if symbol is not None and len(expr.args) == 1:
        return f"({symbol} {expr_text(expr.args[0], depth)})"
    if _is_cast(expr):
        return f"({expr_text(expr.args[0], depth)})::{type_name(expr.type, expr.typmod)}"
    if function.name == expr.type.name and len(expr.args) in (2, 3):
        return f"({expr_text(expr.args[0], depth)})::{type_name(expr.type, expr.typmod)}"
    return f"{function.name}({_list(expr.args, depth)})"


def _connective(expr: And, depth: int) -> str:
    word = " OR " if isinstance(expr, Or) else " AND "
    return "(" + word.join([expr_text(arg, depth) for arg in expr.args[:ITEMS_SHOWN_MAX]]) + ")"


def _not(expr: Not, depth: int) -> str:
    return f"(NOT {expr_text(expr.arg, depth)})"


def _is_null(expr: IsNull, depth: int) -> str:
    return f"({expr_text(expr.arg, depth)} IS {'NOT ' if expr.negated else ''}NULL)"


def _is_bool(expr: IsBool, depth: int) -> str:
    return f"({expr_text(expr.arg, depth)} IS {'NOT ' if expr.negated else ''}{_BOOLS[expr.value]})"


def _is_distinct(expr: IsDistinct, depth: int) -> str:
    word = "IS NOT DISTINCT FROM" if expr.negated else "IS DISTINCT FROM"
    return f"({expr_text(expr.left, depth)} {word} {expr_text(expr.right, depth)})"


def _case(expr: Case, depth: int) -> str:
    whens = " ".join(
        [f"WHEN {expr_text(c, depth)} THEN {expr_text(r, depth)}" for c, r in expr.whens[:ITEMS_SHOWN_MAX]]
    )
    return f"CASE {whens} ELSE {expr_text(expr.default, depth)} END"


def _coalesce(expr: Coalesce, depth: int) -> str:
    return f"COALESCE({_list(expr.args, depth)})"


def _array(expr: ArrayExpr, depth: int) -> str:
    return f"ARRAY[{_list(expr.args, depth)}]"


def _row(expr: RowExpr, depth: int) -> str:
    return f"ROW({_list(expr.args, depth)})"


def _field(expr: Field, depth: int) -> str:
    fields = expr.arg.type.fields
    name = fields[expr.index][0] if expr.index < len(fields) else f"f{expr.index + 1}"
    return f"({expr_text(expr.arg, depth)}).{name}"


def _in_list(expr: InList, depth: int) -> str:
    word = "NOT IN" if expr.negated else "IN"
    return f"({expr_text(expr.left, depth)} {word} ({_list(expr.items, depth)}))"


def _any_all(expr: AnyAll, depth: int) -> str:
    symbol = OPERATOR_SYMBOLS.get(expr.operator.name, expr.operator.name)
    word = "ALL" if expr.is_all else "ANY"
    return f"({expr_text(expr.left, depth)} {symbol} {word} ({expr_text(expr.array, depth)}))"


def _subquery(expr: Subquery, depth: int) -> str:
    return f"({expr.kind} subquery)" if expr.kind != "exists" else "EXISTS(subquery)"


def _aggregate(expr: AggCall, depth: int) -> str:
    args = _list(expr.args, depth) or ("*" if expr.function.name == "count" else "")
    text = f"{expr.function.name}({'DISTINCT ' if expr.distinct else ''}{args}"
    if expr.order_by:
        keys = ", ".join([expr_text(key.expr, depth) + (" DESC" if key.descending else "") for key in expr.order_by])
        text += f" ORDER BY {keys}"
    text += ")"
    return text if expr.filter is None else f"{text} FILTER (WHERE {expr_text(expr.filter, depth)})"


_WRITERS: Final[dict[type, Callable[[Any, int], str]]] = {
    Const: _const, Param: _param, Col: _col, Call: _call, And: _connective, Or: _connective, Not: _not, IsNull: _is_null,
    IsBool: _is_bool, IsDistinct: _is_distinct, Case: _case, Coalesce: _coalesce, ArrayExpr: _array, RowExpr: _row,
    Field: _field, InList: _in_list, AnyAll: _any_all, Subquery: _subquery, AggCall: _aggregate,
}  # fmt: skip
