"""The Window operator: sorts its input into partitions and adds one column per call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from planner.exec.order import equality_key
from planner.exec.relational import UnaryOperator
from planner.exec.runtime import (
    Buffered,
    Operator,
    Row,
    Rows,
    RowsFunction,
    Run,
    ScalarFunction,
    Stream,
    account,
    drain,
    evaluate,
    evaluate_scalar,
)
from planner.exec.scalar import Sorter
from planner.exec.window import FrameSpec, Partition, window_column
from planner.expr import AggCall, SortKey


class WindowCall:
    """Where one call finds its arguments and its filter in the computed rows."""

    def __init__(self, call: AggCall, args: list[int], filter: int | None) -> None:
        self.function = call.function
        self.args = args
        self.filter = filter


class WindowOp(UnaryOperator):
    """One window definition.  ``values_of`` computes arguments, then filters, of all calls."""

    def __init__(
        self, input: Operator, columns: tuple[int, ...], calls: list[WindowCall], values_of: RowsFunction,
        partition_by: Sequence[SortKey], order_by: Sequence[SortKey], sorter: Sorter, spec: FrameSpec,
        offsets: tuple[ScalarFunction | None, ScalarFunction | None],
    ) -> None:  # fmt: skip
        self.input = input
        self.columns = columns
        self.calls = calls
        self.values_of = values_of
        self.partition_by = partition_by
        self.order_by = order_by
        self.sorter = sorter
        self.spec = spec
        self.offsets = offsets
        self.equals = [equality_key(key.expr.type) for key in partition_by]

    def title(self) -> str:
        return "WindowAgg"

    def details(self) -> list[tuple[str, Any]]:
        return []

    def open(self, run: Run) -> Stream:
        return WindowStream(self, run)


class WindowStream(Buffered):
    def __init__(self, operator: WindowOp, run: Run) -> None:
        super().__init__()
        self.operator = operator
        self.run = run

    async def fill(self) -> Rows:
        operator, run = self.operator, self.run
        rows = await drain(run.open(operator.input), run)
        if not rows:
            return rows
        rows, keys = await operator.sorter.sort_with_keys(rows, run)
        values = await evaluate(operator.values_of, rows, run)
        account(run.ctx, values)
        offsets = tuple([None if f is None else await evaluate_scalar(f, (), run) for f in operator.offsets])
        out: Rows = []
        for start, end in self._partitions(keys):
            run.ctx.check_interrupt()
            out += self._compute(rows, keys, values, start, end, (offsets[0], offsets[1]))
        return out

    def _partitions(self, keys: Rows) -> list[tuple[int, int]]:
        """Bounds of the runs of rows with equal partition keys."""
        width = len(self.operator.partition_by)
        if not width:
            return [(0, len(keys))]
        bounds: list[tuple[int, int]] = []
        start = 0
        last: Row | None = None
        for i, row in enumerate(keys):
            key = tuple([v if v is None or f is None else f(v) for v, f in zip(row[:width], self.operator.equals)])
            if i and key != last:
                bounds.append((start, i))
                start = i
            last = key
        bounds.append((start, len(keys)))
        return bounds

    def _compute(self, rows: Rows, keys: Rows, values: Rows, start: int, end: int, offsets: tuple[Any, Any]) -> Rows:
        operator, ctx = self.operator, self.run.ctx
        width = len(operator.partition_by)
        order_columns = [[keys[i][width + k] for i in range(start, end)] for k in range(len(operator.order_by))]
        partition = Partition(operator.spec, end - start, order_columns, offsets)
        columns: list[list[Any]] = []
        for call in operator.calls:
            args = [tuple([values[i][at] for at in call.args]) for i in range(start, end)]
            included = None if call.filter is None else [values[i][call.filter] is True for i in range(start, end)]
            columns.append(window_column(call.function, partition, args, included, ctx))
        return [(*rows[start + i], *[column[i] for column in columns]) for i in range(end - start)]
