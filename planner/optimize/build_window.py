"""Builds the Window operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.exec.runtime import Operator
from planner.exec.scalar import Sorter
from planner.exec.window import FrameSpec
from planner.exec.window_op import WindowCall, WindowOp
from planner.expr import Expr, SortKey
from planner.nodes import Window
from planner.optimize.registry import builtin_registry

if TYPE_CHECKING:
    from planner.optimize.physical import Builder


def build_window(builder: Builder, node: Window) -> Operator:
    """A sort into partitions, then the calls."""
    input = builder.build(node.input)
    exprs: list[Expr] = []
    calls: list[WindowCall] = []
    for call in node.calls:
        args = list(range(len(exprs), len(exprs) + len(call.args)))
        exprs += call.args
        filter_at = None
        if call.filter is not None:
            filter_at = len(exprs)
            exprs.append(call.filter)
        calls.append(WindowCall(call, args, filter_at))
    partition_by = [SortKey(expr) for expr in node.partition_by]
    sorter = Sorter([*partition_by, *node.order_by], input.columns, builder.rows_function)
    spec = FrameSpec(builtin_registry(), node.frame, node.order_by)
    offsets = tuple(
        [
            None if bound[1] is None else builder.scalar_function(bound[1])
            for bound in (node.frame.start, node.frame.end)
        ]
    )
    operator = WindowOp(
        input, input.columns + node.window_columns, calls, builder.rows_function(exprs, input.columns),
        partition_by, node.order_by, sorter, spec, (offsets[0], offsets[1]),
    )  # fmt: skip
    cost = input.cost + input.rows * (2.0 + len(calls))
    operator.estimate(input.rows, cost, cost)
    return operator
