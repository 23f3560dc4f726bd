"""Builds subqueries inside expressions: see planner.exec.subplan.

What a subquery reads of outer queries is *near* (columns of the row at hand: arguments of the
call) or *far* (further out: slots that an enclosing apply or runner has filled).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from base.types import ANY, PgType
from planner.exec.compile import compile_scalar
from planner.exec.scalar import layout_of
from planner.exec.subplan import SubPlan, invoke_function
from planner.expr import Call, Col, Expr, Param, Subquery
from planner.optimize.operators import strip_relabel
from planner.optimize.tree import expr_columns, free_columns, is_volatile, node_exprs, walk_nodes

if TYPE_CHECKING:
    from planner.optimize.physical import Builder


def build_subquery(builder: Builder, expr: Subquery, columns: tuple[int, ...]) -> Expr:
    """The call that stands for a subquery over these input columns."""
    outer_free, builder.free = builder.free, set()
    inner = builder.build(expr.plan, limit=1.0 if expr.kind == "exists" else None)
    root = builder.aligned(inner, expr.plan.columns)
    plan_free = builder.free
    plan = SubPlan(f"SubPlan {len(builder.subplans) + 1}", expr.kind, root, builder.new_slot(), expr.type)
    plan.is_volatile = any(is_volatile(e) for node in walk_nodes(expr.plan) for e in node_exprs(node))
    builder.subplans.append(plan)
    args, test_free = _test(builder, plan, expr, columns)
    builder.free = outer_free
    inner_free = sorted(plan_free | test_free)
    near = [id for id in inner_free if id in columns]
    far = [id for id in inner_free if id not in columns]
    builder.free |= set(far)
    plan.outer_slots = tuple([builder.slot_of(id) for id in far])
    plan.is_rows_fixed = not (plan_free & set(columns)) and not plan.is_volatile
    if args is None:
        plan.bindings = tuple([builder.slot_of(id) for id in near])
        args = [builder.column(id) for id in near]
    runner = Param(plan.slot + 1, ANY)
    return Call(invoke_function(plan.label), (runner, *args), expr.type, expr.typmod)


def _test(
    builder: Builder, plan: SubPlan, expr: Subquery, columns: tuple[int, ...]
) -> tuple[list[Expr] | None, set[int]]:
    """Compiles the test of any/all: (arguments of the call if it is looked up in a set, outer columns it reads)."""
    if expr.test is None:
        return None, set()
    saved, builder.free = builder.free, set()
    hashed = _hashable(builder, expr)
    args: list[Expr] | None = None
    if hashed is not None and not plan.is_volatile and not free_columns(expr.plan) & set(columns):
        plan.hashed = True
        plan.hash_type = hashed[1]
        args = [builder.lower(hashed[0], columns)]
    else:
        own = expr.plan.columns
        plan.test = compile_scalar(builder.lower(expr.test, own), layout_of(own))
    found, builder.free = builder.free, saved
    return args, found


def _hashable(builder: Builder, expr: Subquery) -> tuple[Expr, PgType] | None:
    """(outer value, type) of ``value = column`` over a one-column subquery."""
    if expr.kind != "any" or len(expr.plan.columns) != 1 or expr.test is None:
        return None
    compared = builder.operators.comparison(expr.test)
    if compared is None or compared[0] != "=":
        return None
    _, left, right = compared
    own = expr.plan.columns[0]
    for value, column in ((left, strip_relabel(right)), (right, strip_relabel(left))):
        if isinstance(column, Col) and column.id == own and own not in expr_columns(value):
            return value, value.type
    return None
