"""Compiles point statements: see planner.exec.fast.

A statement qualifies by the shape of its operators and by what its table asks for; whatever does
not fit runs through its operators, with the same answer (tests compare the two).

    point   [Limit] [Project] Scan of one key of the primary or a unique index
    range   Scan of one span, answered by one page, with what planner.optimize.fast_range takes above it
    insert  VALUES with one row, or a few (planner.optimize.fast_rows)
    update  by primary key, or of one span of it; no key column, unique index or foreign key column changes
    delete  by primary key, of a table nobody references
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.exec.aggregate import AggregateOp
from planner.exec.fast import FastPlan
from planner.exec.modify import DeleteOp, InsertOp, UpdateOp
from planner.exec.relational import UnaryOperator
from planner.exec.runtime import Operator
from planner.exec.scan import ScanOp
from planner.optimize.fast_range import Shape, compile_range
from planner.optimize.fast_read import compile_point
from planner.optimize.fast_rows import compile_insert_rows, compile_update_rows
from planner.optimize.fast_write import compile_delete, compile_insert, compile_update

if TYPE_CHECKING:
    from planner.optimize.physical import Builder


def make_fast(builder: Builder, root: Operator) -> FastPlan | None:
    """The compiled form of a statement, if it has one."""
    if builder.slot_count != len(builder.statement.params):
        # Subqueries and outer columns live in hidden slots of a frame.
        return None
    if isinstance(root, InsertOp):
        return compile_insert(builder, root) or compile_insert_rows(builder, root)
    if isinstance(root, UpdateOp):
        return compile_update(builder, root) or compile_update_rows(builder, root)
    if isinstance(root, DeleteOp):
        return compile_delete(builder, root)
    return _read(builder, root)


def _read(builder: Builder, root: Operator) -> FastPlan | None:
    shape = Shape(root.columns, builder.column)
    operator = root
    while not isinstance(operator, ScanOp):
        if not isinstance(operator, (UnaryOperator, AggregateOp)) or not shape.add(operator):
            return None
        operator = operator.input
    if operator.is_single and operator.spans.is_point:
        is_plain = not shape.sort and shape.distinct is None and shape.aggregate is None
        return compile_point(operator, shape.exprs, shape.limit) if is_plain else None
    return compile_range(operator, shape)
