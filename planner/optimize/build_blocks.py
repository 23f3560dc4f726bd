"""Scans whose pages go through one generated loop: rows decoded and tested at once, or aggregated without being made.

Where an expression needs more than the entry and the parameters (a subquery, an outer column, an
answer that may have to wait) the operators stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from kvtier.messages import Lock
from planner.exec.aggregate import AggregateOp
from planner.exec.blocks import EntryLoop
from planner.exec.compile import build
from planner.exec.folding import Steps, split_arguments
from planner.exec.relational import ProjectOp
from planner.exec.runtime import Operator
from planner.exec.scan import ScanOp
from planner.expr import Expr
from planner.optimize.tree import conjoin, expr_columns, has_subquery, is_volatile, substitute

if TYPE_CHECKING:
    from planner.optimize.physical import Builder


class LazyBlock:
    """A generated function that is compiled when first called."""

    __slots__ = ("function", "make")

    def __init__(self, make: Callable[[], Callable[..., Any]]) -> None:
        self.make = make
        self.function: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        function = self.function
        if function is None:
            function = self.function = self.make()
        return function(*arguments)


def use_block(builder: Builder, operator: ScanOp) -> None:
    """Lets a scan decode and test its pages in one loop."""
    residual = operator.conditions[1]
    if operator.lock == Lock.NONE and not operator.spans.is_point and _are_simple(operator, residual):
        exprs = [builder.column(id) for id in operator.columns]
        operator.block = LazyBlock(lambda: _compile_block(operator, exprs))


def _are_simple(operator: ScanOp, exprs: Sequence[Expr]) -> bool:
    """True if only the scan's columns and parameters are read, and nothing waits or changes between two looks."""
    visible = set(operator.path.scan.columns)
    return all([not has_subquery(expr) and not is_volatile(expr) and expr_columns(expr) <= visible for expr in exprs])


def _loop(operator: ScanOp, computed: Sequence[Expr], passed: Sequence[Expr]) -> EntryLoop:
    scan = operator.path.scan
    index = operator.index if operator.fetcher.covering else operator.index.table.primary
    computed = [*computed, *operator.conditions[1]]
    return EntryLoop(index, dict(zip(scan.columns, scan.attnums)), computed, passed, {})


def _compile_block(operator: ScanOp, exprs: Sequence[Expr]) -> Callable[..., Any]:
    loop = _loop(operator, exprs, [])
    lines = loop.lines(conjoin(list(operator.conditions[1])), [f"put({loop.row(exprs)})"])
    return _define(loop, ["rows = []", "put = rows.append", *lines, "return rows"], "keys, values, params, ctx")


def use_fold(builder: Builder, operator: AggregateOp) -> None:
    """Lets an aggregate without groups step its states in the loop over a scan's pages."""
    if operator.group or len(operator.sets) != 1 or operator.with_mask:
        return
    if not operator.plans or any([plan.is_gathered for plan in operator.plans]):
        return
    arguments: list[list[Expr]] = [list(call.args) for call in operator.aggs]
    filters: list[Expr | None] = [call.filter for call in operator.aggs]
    source: Operator = operator.input
    while isinstance(source, ProjectOp):
        mapping = dict(zip(source.columns, source.exprs))
        arguments = [[substitute(expr, mapping) for expr in exprs] for exprs in arguments]
        filters = [None if expr is None else substitute(expr, mapping) for expr in filters]
        source = source.input
    if not isinstance(source, ScanOp) or source.block is None:
        return
    scan = source
    used = [expr for exprs in arguments for expr in exprs] + [expr for expr in filters if expr is not None]
    if _are_simple(scan, used):
        operator.fold_input = scan
        operator.fold = LazyBlock(lambda: _compile_fold(operator, scan, arguments, filters))


def _compile_fold(
    operator: AggregateOp, scan: ScanOp, arguments: list[list[Expr]], filters: list[Expr | None]
) -> Callable[..., Any]:
    computed, passed = split_arguments(operator.plans, arguments, filters)
    loop = _loop(scan, computed, passed)
    residual = conjoin(list(scan.conditions[1]))
    steps = Steps(operator.plans, arguments, filters, loop, residual is None)
    loop.namespace |= steps.namespace
    lines = loop.lines(residual, steps.body, whole=steps.whole) if steps.body else []
    return _define(
        loop, [*steps.resumed, *lines, f"return [{', '.join(steps.states)}]"], "keys, values, params, ctx, states"
    )


def _define(loop: EntryLoop, lines: list[str], parameters: str) -> Callable[..., Any]:
    # The loop has put the compiler's prologue where it belongs already.
    loop.compiler.prologue = []
    function: Callable[..., Any] = build(loop.compiler, "block", parameters, lines)
    return function
