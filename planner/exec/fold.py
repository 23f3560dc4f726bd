"""Constant folding, and questions about expressions that planning asks.

An immutable call of constants becomes its value; if computing it raises, it stays, and
raises if it is ever evaluated (PostgreSQL reports some such errors when planning; a CASE that
guards the call is right either way).  Stable and volatile functions are never folded.
"""

from __future__ import annotations

from typing import Any, Final

from base.types import BOOL
from planner.expr import (
    AggCall,
    And,
    ArrayExpr,
    Call,
    Case,
    Coalesce,
    Col,
    Const,
    Expr,
    IsBool,
    IsNull,
    Not,
    Or,
    Param,
    RowExpr,
    Subquery,
    transform,
    walk,
)
from planner.functions.registry import IMMUTABLE, VOLATILE

FOLDED_SIZE_MAX: Final = 1_000_000
"""Characters or bytes of a folded value; ``repeat('x', 5e7)`` is better computed where it is used."""


def fold(expr: Expr) -> Expr:
    """Returns an equal expression with constant parts computed."""
    return transform(expr, _fold_one)


def _fold_one(expr: Expr) -> Expr:
    if isinstance(expr, Call):
        return _fold_call(expr)
    if isinstance(expr, And):
        return _fold_connective(expr)
    if isinstance(expr, Not) and isinstance(expr.arg, Const):
        return Const(None if expr.arg.value is None else not expr.arg.value, BOOL)
    if (
        isinstance(expr, IsNull)
        and isinstance(expr.arg, Const)
        and expr.arg.type.category != "C"
        and expr.arg.type.name != "record"
    ):
        return Const((expr.arg.value is None) != expr.negated, BOOL)
    if isinstance(expr, IsBool) and isinstance(expr.arg, Const):
        return Const((expr.arg.value is expr.value) != expr.negated, BOOL)
    if isinstance(expr, Case):
        return _fold_case(expr)
    if isinstance(expr, Coalesce):
        return _fold_coalesce(expr)
    if isinstance(expr, (ArrayExpr, RowExpr)):
        return _fold_items(expr)
    return expr


def _fold_call(expr: Call) -> Expr:
    function = expr.function
    if function.returns_set:
        return expr
    values: list[Any] = []
    constant = True
    for arg in expr.args:
        if not isinstance(arg, Const):
            constant = False
        elif arg.value is None and function.strict:
            return Const(None, expr.type, expr.typmod)
        else:
            values.append(arg.value)
    if not constant or function.volatility != IMMUTABLE or function.needs_context:
        return expr
    try:
        value = function.impl(*values)
    except Exception:
        # Whatever it raises, it raises again where it is evaluated, if it is.
        return expr
    if isinstance(value, (str, bytes, tuple)) and len(value) > FOLDED_SIZE_MAX:
        return expr
    return Const(value, expr.type, expr.typmod)


def _fold_connective(expr: And) -> Expr:
    """One constant that decides decides all; those that do not matter go."""
    decides = isinstance(expr, Or)
    if any(isinstance(arg, Const) and arg.value is decides for arg in expr.args):
        return Const(decides, BOOL)
    kept = tuple([arg for arg in expr.args if not (isinstance(arg, Const) and arg.value is (not decides))])
    if not kept:
        return Const(not decides, BOOL)
    if len(kept) == 1:
        return kept[0]
    if all(isinstance(arg, Const) for arg in kept):
        return Const(None, BOOL)
    return expr if len(kept) == len(expr.args) else expr.with_children(kept)


def _fold_case(expr: Case) -> Expr:
    whens: list[tuple[Expr, Expr]] = []
    default = expr.default
    for condition, result in expr.whens:
        if isinstance(condition, Const):
            if condition.value is True:
                default = result
                break
            continue
        whens.append((condition, result))
    if not whens:
        return default
    return expr if len(whens) == len(expr.whens) else Case(tuple(whens), default, expr.type, expr.typmod)


def _fold_coalesce(expr: Coalesce) -> Expr:
    kept: list[Expr] = []
    for arg in expr.args:
        if isinstance(arg, Const):
            if arg.value is None:
                continue
            kept.append(arg)
            break
        kept.append(arg)
    if not kept:
        return Const(None, expr.type, expr.typmod)
    if len(kept) == 1:
        return kept[0]
    return expr if len(kept) == len(expr.args) else Coalesce(tuple(kept), expr.type, expr.typmod)


def _fold_items(expr: ArrayExpr | RowExpr) -> Expr:
    """Rows and one-dimensional arrays of constants."""
    if not all(isinstance(arg, Const) for arg in expr.args):
        return expr
    if isinstance(expr, ArrayExpr) and expr.args and expr.args[0].type.is_array:
        return expr
    return Const(tuple([arg.value for arg in expr.args if isinstance(arg, Const)]), expr.type, expr.typmod)


def plan_expressions(plan: Any) -> list[Expr]:
    """Every expression held directly or in tuples and lists by a plan tree's nodes."""
    found: list[Expr] = []
    pending: list[Any] = [plan]
    while pending:
        node = pending.pop()
        pending.extend(node.inputs())
        for cls in type(node).__mro__:
            for slot in getattr(cls, "__slots__", ()):
                _collect(getattr(node, slot, None), found)
    return found


def _collect(value: Any, found: list[Expr]) -> None:
    if isinstance(value, Expr):
        found.append(value)
    elif isinstance(value, (tuple, list)):
        for item in value:
            _collect(item, found)
    elif hasattr(value, "expr"):
        _collect(value.expr, found)


def contains_volatile(expr: Expr) -> bool:
    """True if evaluating twice may give two answers or have two effects; looks into subqueries."""
    found = False

    def visit(node: Expr) -> None:
        nonlocal found
        if isinstance(node, Call) and node.function.volatility == VOLATILE:
            found = True
        elif isinstance(node, AggCall):
            found = found or any(contains_volatile(arg) for arg in node.args)
        elif isinstance(node, Subquery):
            found = found or any(contains_volatile(inner) for inner in plan_expressions(node.plan))

    walk(expr, visit)
    return found


def is_constant(expr: Expr) -> bool:
    """True if the value is the same for every row of one execution: no column, subquery, aggregate or volatile call."""
    constant = True

    def visit(node: Expr) -> None:
        nonlocal constant
        if isinstance(node, (Col, Subquery, AggCall)) or (
            isinstance(node, Call) and (node.function.volatility == VOLATILE or node.function.returns_set)
        ):
            constant = False

    walk(expr, visit)
    return constant


def contains_param(expr: Expr) -> bool:
    """True if a ``$n`` occurs."""
    found = False

    def visit(node: Expr) -> None:
        nonlocal found
        if isinstance(node, Param):
            found = True

    walk(expr, visit)
    return found
