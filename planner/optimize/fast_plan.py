"""Compiles point statements: see planner.exec.fast.

A statement qualifies by the shape of its operators and by what its table asks for; whatever does
not fit runs through its operators, with the same answer (tests compare the two).

    point   [Limit] [Project] Scan of one key of the primary or a unique index
    range   [Limit] [Project] Scan of one span, answered by one page
    insert  VALUES with one row
    update  by primary key; no key column, unique index or foreign key column changes
    delete  by primary key, of a table nobody references
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.exec.fast import FastPlan
from planner.exec.modify import DeleteOp, InsertOp, UpdateOp
from planner.exec.relational import LimitOp, ProjectOp
from planner.exec.runtime import Operator
from planner.exec.scan import ScanOp
from planner.expr import Expr
from planner.optimize.fast_read import compile_point, compile_range
from planner.optimize.fast_write import compile_delete, compile_insert, compile_update
from planner.optimize.tree import substitute

if TYPE_CHECKING:
    from planner.optimize.physical import Builder


def make_fast(builder: Builder, root: Operator) -> FastPlan | None:
    """The compiled form of a statement, if it has one."""
    if builder.slot_count != len(builder.statement.params):
        # Subqueries and outer columns live in hidden slots of a frame.
        return None
    if isinstance(root, InsertOp):
        return compile_insert(builder, root)
    if isinstance(root, UpdateOp):
        return compile_update(builder, root)
    if isinstance(root, DeleteOp):
        return compile_delete(builder, root)
    return _read(builder, root)


def _read(builder: Builder, root: Operator) -> FastPlan | None:
    exprs: list[Expr] = [builder.column(id) for id in root.columns]
    limit: LimitOp | None = None
    operator = root
    while not isinstance(operator, ScanOp):
        if isinstance(operator, ProjectOp):
            mapping = dict(zip(operator.columns, operator.exprs))
            exprs = [substitute(expr, mapping) for expr in exprs]
        elif isinstance(operator, LimitOp) and limit is None and operator.ties is None:
            limit = operator
        else:
            return None
        operator = operator.input
    if operator.is_single and operator.spans.is_point:
        return compile_point(builder, operator, exprs, limit)
    return compile_range(builder, operator, exprs, limit)
