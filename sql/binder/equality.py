"""When two expressions are the same: for GROUP BY, DISTINCT and ORDER BY.

``expr_key`` maps an expression to a hashable value that is equal for equal expressions.
"""

from __future__ import annotations

from typing import Any

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
    Param,
    RowExpr,
    SortKey,
    Subquery,
)


def expr_key(expr: Expr) -> Any:
    """A hashable key; equal keys mean the same value (for functions that are not volatile)."""
    if isinstance(expr, Col):
        return ("col", expr.id)
    if isinstance(expr, Const):
        return ("const", expr.type.oid, type(expr.value).__name__, _value_key(expr.value), expr.typmod)
    if isinstance(expr, Param):
        return ("param", expr.index, expr.type.oid)
    return (
        type(expr).__name__,
        expr.type.oid,
        expr.typmod,
        *_own(expr),
        *[expr_key(child) for child in expr.children()],
    )


def _value_key(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return str(value) if isinstance(value, float) else value


def _own(expr: Expr) -> tuple[Any, ...]:
    """What a node says beyond its children."""
    if isinstance(expr, Call):
        return (id(expr.function),)
    if isinstance(expr, IsNull):
        return (expr.negated,)
    if isinstance(expr, IsBool):
        return (expr.value, expr.negated)
    if isinstance(expr, (IsDistinct, InList)):
        return (id(expr.equal), expr.negated)
    if isinstance(expr, AnyAll):
        return (id(expr.operator), expr.is_all)
    if isinstance(expr, Field):
        return (expr.index,)
    if isinstance(expr, AggCall):
        return (id(expr.function), expr.distinct, None if expr.filter is None else expr_key(expr.filter), sort_keys_key(expr.order_by),
                tuple([expr_key(arg) for arg in expr.args]))  # fmt: skip
    if isinstance(expr, Subquery):
        return (id(expr),)
    assert isinstance(expr, (And, Not, Case, Coalesce, ArrayExpr, RowExpr)), f"{expr=}"
    return ()


def sort_keys_key(keys: tuple[SortKey, ...]) -> Any:
    return tuple([(expr_key(key.expr), key.descending, key.nulls_first) for key in keys])


def same(left: Expr, right: Expr) -> bool:
    return left is right or bool(expr_key(left) == expr_key(right))
