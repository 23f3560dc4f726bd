"""Subqueries as values, and comparisons of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from base.errors import error
from base.types import BOOL
from planner.expr import And, Call, Col, Expr, IsNull, Not, Or, Subquery, transform, walk
from planner.functions.registry import VOLATILE
from planner.nodes import Project
from sql.binder.coerce import boolean, is_unknown
from sql.binder.tree import form_of, position_of
from sql.parse import forms

if TYPE_CHECKING:
    from sql.binder.expressions import ExprBinder
    from sql.binder.queries import BoundQuery


def _bind(binder: ExprBinder, node: exp.Expr) -> BoundQuery:
    """Binds a query in parentheses, correlated with the binder's scope."""
    return binder.queries.subquery(node, binder.scope, binder.source)


def scalar(binder: ExprBinder, node: exp.Expr) -> Expr:
    """SCALAR((SELECT one column))."""
    found = _bind(binder, node.expressions[0])
    if len(found.columns) != 1:
        raise error("42601", "subquery must return only one column", position=position_of(node) + 1)
    column = found.columns[0]
    return Subquery("scalar", found.node, column.type, column.typmod)


def exists(binder: ExprBinder, node: exp.Expr) -> Expr:
    return Subquery("exists", _bind(binder, node).node, BOOL)


def array(binder: ExprBinder, node: exp.Expr) -> Expr:
    """ARRAY(SELECT ..)."""
    found = _bind(binder, node)
    if len(found.columns) != 1:
        raise error("42601", "subquery must return only one column", position=position_of(node) + 1)
    element = found.columns[0].type
    pg_type = element if element.is_array else element.array_type
    if pg_type is None:
        from base.typeio import type_name

        raise error(
            "42704", f"could not find array type for data type {type_name(element)}", position=position_of(node) + 1
        )
    return Subquery("array", found.node, pg_type, found.columns[0].typmod)


def quantified(binder: ExprBinder, symbol: str, kind: str, left_node: exp.Expr, query: exp.Expr, position: int) -> Expr:
    """left op ANY/ALL (SELECT ..), also of rows."""
    found = _bind(binder, query)
    is_row = form_of(left_node) == forms.ROW
    left_nodes = left_node.expressions if is_row else [left_node]
    if len(found.columns) > len(left_nodes):
        raise error("42601", "subquery has too many columns", position=position + 1)
    if len(found.columns) < len(left_nodes):
        raise error("42601", "subquery has too few columns", position=position + 1)
    lefts = [binder.bind(node) for node in left_nodes]
    rights: list[Expr] = [Col(c.id, c.type, c.typmod, c.name) for c in found.columns]
    test = compare_rows(binder, symbol, lefts, rights, position, [position_of(node) for node in left_nodes])
    if test.type.oid != BOOL.oid:
        raise error(
            "42804",
            "row comparison operator must yield type boolean, not type " + test.type.name,
            position=position + 1,
        )
    return Subquery(kind, found.node, BOOL, -1, test)


# --- rows -----------------------------------------------------------------------------------------


def row_items(binder: ExprBinder, node: exp.Expr) -> list[Expr]:
    return [binder.bind(item) for item in node.expressions]


def row_comparison(binder: ExprBinder, symbol: str, left: exp.Expr, right: exp.Expr, position: int) -> Expr:
    """(a, b) op (c, d), or with a subquery on the right."""
    if form_of(right) == forms.SCALAR:
        return _row_of_subquery(binder, symbol, left, right.expressions[0], position)
    if form_of(left) != forms.ROW or form_of(right) != forms.ROW:
        return binder.operator(symbol, binder.bind(left), binder.bind(right), position)
    lefts, rights = row_items(binder, left), row_items(binder, right)
    if len(lefts) != len(rights):
        raise error("42601", "unequal number of entries in row expressions", position=position + 1)
    if not lefts:
        raise error("0A000", "cannot compare rows of zero length", position=position + 1)
    return compare_rows(binder, symbol, lefts, rights, position, [position_of(item) for item in left.expressions])


def _row_of_subquery(binder: ExprBinder, symbol: str, left: exp.Expr, right: exp.Expr, position: int) -> Expr:
    """(a, b) = (SELECT ..): the one row, as a scalar subquery of the comparison's result."""
    found = _bind(binder, right)
    lefts = row_items(binder, left) if form_of(left) == forms.ROW else [binder.bind(left)]
    if len(found.columns) != len(lefts):
        few = "few" if len(found.columns) < len(lefts) else "many"
        raise error("42601", f"subquery has too {few} columns", position=position + 1)
    rights: list[Expr] = [Col(c.id, c.type, c.typmod, c.name) for c in found.columns]
    test = compare_rows(binder, symbol, lefts, rights, position, [-1] * len(lefts))
    id = binder.ctx.add_column("?column?", BOOL)
    return Subquery("scalar", Project(found.node, (id,), (test,)), BOOL)


def compare_rows(
    binder: ExprBinder, symbol: str, lefts: list[Expr], rights: list[Expr], position: int, places: list[int]
) -> Expr:
    """Row comparison by PostgreSQL's rules: = and <> column by column, < and its kin lexicographically."""
    at = [(place, -1) for place in places]
    if len(lefts) == 1:
        return binder.operator(symbol, lefts[0], rights[0], position, at[0])
    if symbol in ("=", "<>"):
        tests = [
            boolean(binder.ctx, binder.operator(symbol, a, b, position, p), "AND", position)
            for a, b, p in zip(lefts, rights, at)
        ]
        return And(tuple(tests)) if symbol == "=" else Or(tuple(tests))
    if symbol not in ("<", "<=", ">", ">="):
        raise error(
            "0A000", f"could not determine interpretation of row comparison operator {symbol}", position=position + 1,
            hint="Row comparison operators must be associated with btree operator families.",
        )  # fmt: skip
    strict = symbol[0]
    found = binder.operator(symbol, lefts[-1], rights[-1], position, at[-1])
    for left, right, place in zip(reversed(lefts[:-1]), reversed(rights[:-1]), reversed(at[:-1])):
        less = binder.operator(strict, left, right, position, place)
        equal = binder.operator("=", left, right, position, place)
        found = Or((less, And((equal, found))))
    return found


def row_distinct(binder: ExprBinder, left: exp.Expr, right: exp.Expr, negated: bool, position: int) -> Expr:
    lefts, rights = row_items(binder, left), row_items(binder, right)
    if len(lefts) != len(rights):
        raise error("42601", "unequal number of entries in row expressions", position=position + 1)
    tests: list[Expr] = []
    for a, b in zip(lefts, rights):
        if is_unknown(a) and is_unknown(b):
            tests.append(Not(And((IsNull(a), IsNull(b)))))
        else:
            tests.append(binder.distinct(a, b, False, position))
    found: Expr = tests[0] if len(tests) == 1 else Or(tuple(tests))
    return Not(found) if negated else found


# --- evaluation once --------------------------------------------------------------------------------


def is_volatile(expr: Expr) -> bool:
    """True if the expression calls a volatile function (outside subqueries)."""
    found = False

    def visit(part: Expr) -> None:
        nonlocal found
        if isinstance(part, Call) and part.function.volatility == VOLATILE:
            found = True

    walk(expr, visit)
    return found


def evaluated_once(binder: ExprBinder, shared: Expr, expr: Expr) -> Expr:
    """``expr`` with its volatile sub-expression ``shared`` taken out as a column of the select list's input.

    NB: where there is no such place (inside WHERE, or an aggregate's argument) it is evaluated each time it occurs.
    """
    from sql.binder.calls import take_out

    column = take_out(binder, "case", shared)
    if column is None:
        return expr
    return transform(expr, lambda part: column if part is shared else part)
