"""Rows that do not come from tables: functions, catalog relations, CTEs, set-returning projections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from base.errors import error
from planner.exec.relational import UnaryOperator
from planner.exec.runtime import (
    BATCH_ROWS,
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
from planner.exec.scalar import KeyMaker
from planner.expr import Expr

RECURSION_ROWS_MAX: Final = 50_000_000
"""Most rows a recursive query may make before it is stopped."""


class FunctionScanOp(Operator):
    """ROWS FROM: functions side by side, the shorter padded with NULLs.

    ``returns_set[i]`` tells whether call i gives an iterable; ``functions`` compute the call's value.
    """

    def __init__(
        self,
        columns: tuple[int, ...],
        calls: tuple[Expr, ...],
        functions: list[ScalarFunction],
        returns_set: list[bool],
        widths: tuple[int, ...],
        ordinality: bool,
    ) -> None:
        self.columns = columns
        self.calls = calls
        self.functions = functions
        self.returns_set = returns_set
        self.widths = widths
        self.ordinality = ordinality

    def title(self) -> str:
        return "Function Scan"

    def details(self) -> list[tuple[str, Any]]:
        return [("Function Call", self.calls)]

    def open(self, run: Run) -> Stream:
        return FunctionScanStream(self, run)


def set_rows(value: Any, is_set: bool, width: int) -> Iterator[Row]:
    """A call's value as rows of ``width`` columns."""
    if not is_set:
        items: Iterable[Any] = (value,)
    else:
        items = () if value is None else value
    if width == 1:
        for item in items:
            yield (item,)
    else:
        for item in items:
            yield (None,) * width if item is None else tuple(item)


def zip_rows(parts: list[Iterator[Row]], widths: tuple[int, ...], ordinality: bool) -> Iterator[Row]:
    """Joins several sets row by row until the longest ends."""
    if len(parts) == 1 and not ordinality:
        yield from parts[0]
        return
    number = 0
    while True:
        found = [next(part, None) for part in parts]
        if all(row is None for row in found):
            return
        number += 1
        row: Row = ()
        for part_row, width in zip(found, widths):
            row += part_row if part_row is not None else (None,) * width
        yield row + (number,) if ordinality else row


class FunctionScanStream(Stream):
    def __init__(self, operator: FunctionScanOp, run: Run) -> None:
        self.operator = operator
        self.run = run
        self.rows: Iterator[Row] | None = None

    async def next(self) -> Rows:
        if self.rows is None:
            operator = self.operator
            parts = []
            for function, is_set, width in zip(operator.functions, operator.returns_set, operator.widths):
                value = await evaluate_scalar(function, (), self.run)
                parts.append(set_rows(value, is_set, width))
            self.rows = zip_rows(parts, operator.widths, operator.ordinality)
        await self.run.breathe()
        return list(islice(self.rows, BATCH_ROWS))


class ProjectSetOp(UnaryOperator):
    """Projection with set-returning functions: one row per longest set, NULL padded.

    ``compute`` evaluates every expression once per row; the sets among them (``is_set``) are iterables.
    """

    def __init__(
        self,
        input: Operator,
        columns: tuple[int, ...],
        exprs: tuple[Expr, ...],
        compute: RowsFunction,
        is_set: list[bool],
    ) -> None:
        self.input = input
        self.columns = columns
        self.exprs = exprs
        self.compute = compute
        self.is_set = is_set

    def title(self) -> str:
        return "ProjectSet"

    def open(self, run: Run) -> Stream:
        return ProjectSetStream(self, run)


class ProjectSetStream(Stream):
    def __init__(self, operator: ProjectSetOp, run: Run) -> None:
        self.operator = operator
        self.run = run
        self.input = run.open(operator.input)
        self.pending: list[Row] = []
        self.current: Iterator[Row] | None = None

    async def next(self) -> Rows:
        while True:
            if self.current is not None:
                out = list(islice(self.current, BATCH_ROWS))
                if out:
                    await self.run.breathe()
                    return out
                self.current = None
            if not self.pending:
                rows = await self.input.next()
                if not rows:
                    return []
                self.pending = (await evaluate(self.operator.compute, rows, self.run))[::-1]
            self.current = self._expand(self.pending.pop())

    def _expand(self, row: Row) -> Iterator[Row]:
        is_set = self.operator.is_set
        sets = [iter(value if value is not None else ()) if many else None for value, many in zip(row, is_set)]
        while True:
            any_left = False
            out: list[Any] = []
            for value, items in zip(row, sets):
                if items is None:
                    out.append(value)
                    continue
                item = next(items, _END)
                any_left = any_left or item is not _END
                out.append(None if item is _END else item)
            if not any_left:
                return
            yield tuple(out)

    def close(self) -> None:
        self.input.close()


_END: Final = object()


class VirtualScanOp(Operator):
    """A catalog relation; ``filters``: (column position, compiled value) equalities it may use."""

    def __init__(
        self,
        relation: Any,
        alias: str,
        columns: tuple[int, ...],
        positions: tuple[int, ...],
        filters: tuple[tuple[int, ScalarFunction], ...],
        pick: RowsFunction,
    ) -> None:
        self.relation = relation
        self.alias = alias
        self.columns = columns
        self.positions = positions
        self.filters = filters
        self.pick = pick

    def title(self) -> str:
        return f"Virtual Scan on {self.alias}"

    def open(self, run: Run) -> Stream:
        return VirtualScanStream(self, run)


class VirtualScanStream(Buffered):
    def __init__(self, operator: VirtualScanOp, run: Run) -> None:
        super().__init__()
        self.operator = operator
        self.run = run

    async def fill(self) -> Rows:
        operator, run = self.operator, self.run
        if operator.filters:
            wanted = {position: await evaluate_scalar(value, (), run) for position, value in operator.filters}
            rows = operator.relation.rows(run.ctx, wanted)
        else:
            rows = operator.relation.rows(run.ctx)
        if hasattr(rows, "__await__"):
            rows = await rows
        found = list(rows)
        run.ctx.check_interrupt()
        return operator.pick(found, run.frame, run.ctx)


class WithOp(UnaryOperator):
    """Defines CTE buffers for its input; data-modifying CTEs run to their end first, in order.

    ``ctes``: (id(Cte), plan, is data-modifying).  The others are filled when first read.
    """

    def __init__(self, input: Operator, ctes: tuple[tuple[int, Operator, bool], ...]) -> None:
        self.input = input
        self.columns = input.columns
        self.order = input.order
        self.ctes = ctes
        self.names: tuple[str, ...] = ()
        """For EXPLAIN."""

    def children(self) -> tuple[Operator, ...]:
        return (*[plan for _, plan, _ in self.ctes], self.input)

    def title(self) -> str:
        return "With"

    def open(self, run: Run) -> Stream:
        return WithStream(self, run)


class WithStream(Stream):
    """With data-modifying CTEs everything reads the state before the statement: their writes are
    held back until the whole statement has run (PostgreSQL 15 manual 7.8.4)."""

    def __init__(self, operator: WithOp, run: Run) -> None:
        self.operator = operator
        self.run = run
        self.input: Stream | None = None
        self.rows: Rows | None = None
        self.is_writer = any(is_writer for _, _, is_writer in operator.ctes)

    async def next(self) -> Rows:
        if self.input is None:
            run = self.run
            for key, plan, _ in self.operator.ctes:
                run.ctes[key] = CteBuffer(plan, run)
            if self.is_writer:
                self.rows = await self._run_writers()
            self.input = run.open(self.operator.input) if self.rows is None else _NOTHING
        if self.rows is not None:
            out, self.rows = self.rows[:BATCH_ROWS], self.rows[BATCH_ROWS:]
            return out
        return await self.input.next()

    async def _run_writers(self) -> Rows:
        run = self.run
        is_outermost = run.held is None
        if is_outermost:
            run.held = {}
        rows = await drain(run.open(self.operator.input), run)
        for key, _, is_writer in self.operator.ctes:
            if is_writer:
                await run.ctes[key].all_rows()
        if is_outermost:
            await run.release()
            await run.finish_statement()
        return rows

    def close(self) -> None:
        if self.input is not None:
            self.input.close()


class _Nothing(Stream):
    async def next(self) -> Rows:
        return []


_NOTHING: Final = _Nothing()


class CteBuffer:
    """Rows of a CTE, read once and shared; grows as its readers ask."""

    def __init__(self, plan: Operator, run: Run) -> None:
        self.plan = plan
        self.run = run
        self.rows: Rows = []
        self.stream: Stream | None = None
        self.ended = False

    async def batch(self, start: int) -> Rows:
        """Rows from ``start`` on; [] when there are no more."""
        while start >= len(self.rows) and not self.ended:
            if self.stream is None:
                self.stream = self.run.open(self.plan)
            batch = await self.stream.next()
            if not batch:
                self.ended = True
                self.stream.close()
            account(self.run.ctx, batch)
            self.rows += batch
        return self.rows[start : start + BATCH_ROWS]

    async def all_rows(self) -> Rows:
        while not self.ended:
            await self.batch(len(self.rows))
        return self.rows


class CteScanOp(Operator):
    """Reads a CTE's buffer, or the working table inside its own recursive term."""

    def __init__(self, key: int, columns: tuple[int, ...], alias: str, name: str) -> None:
        self.key = key
        self.columns = columns
        self.alias = alias
        self.name = name

    def title(self) -> str:
        return f"CTE Scan on {self.name}" + (f" {self.alias}" if self.alias and self.alias != self.name else "")

    def open(self, run: Run) -> Stream:
        return CteScanStream(run.ctes[self.key])


class CteScanStream(Stream):
    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer
        self.position = 0

    async def next(self) -> Rows:
        rows: Rows = await self.buffer.batch(self.position)
        self.position += len(rows)
        return rows


class WorkingTable:
    """What the recursive term sees of its own CTE: the rows of the last step."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    async def batch(self, start: int) -> Rows:
        return self.rows[start : start + BATCH_ROWS]


class RecursiveOp(Operator):
    """WITH RECURSIVE: the first term's rows, then the step over the rows just made, until none is new."""

    def __init__(
        self, key: int, first: Operator, step: Operator, columns: tuple[int, ...], keys: KeyMaker | None
    ) -> None:
        self.key = key
        self.first = first
        self.step = step
        self.columns = columns
        self.keys = keys
        """For UNION without ALL: drops rows seen before."""

    def children(self) -> tuple[Operator, ...]:
        return (self.first, self.step)

    def title(self) -> str:
        return "Recursive Union"

    def open(self, run: Run) -> Stream:
        return RecursiveStream(self, run)


class RecursiveStream(Stream):
    def __init__(self, operator: RecursiveOp, run: Run) -> None:
        self.operator = operator
        self.run = run
        self.seen: set[Any] = set()
        self.working: Rows | None = None
        self.pending: Rows = []
        self.total = 0

    async def next(self) -> Rows:
        if not self.pending:
            self.pending = await self._advance()
        out, self.pending = self.pending[:BATCH_ROWS], self.pending[BATCH_ROWS:]
        return out

    async def _advance(self) -> Rows:
        operator, run = self.operator, self.run
        if self.working is None:
            rows = await drain(run.open(operator.first), run)
        elif not self.working:
            return []
        else:
            outer = run.ctes.get(operator.key)
            run.ctes[operator.key] = WorkingTable(self.working)
            rows = await drain(run.open(operator.step), run)
            run.ctes[operator.key] = outer
        if operator.keys is not None:
            rows = await self._new_rows(rows)
        self.working = rows
        self.total += len(rows)
        run.ctx.check_interrupt()
        if self.total > RECURSION_ROWS_MAX:
            raise error("54001", f"recursive query made more than {RECURSION_ROWS_MAX} rows")
        return rows

    async def _new_rows(self, rows: Rows) -> Rows:
        assert self.operator.keys is not None
        out: Rows = []
        for key, row in zip(await self.operator.keys.keys(rows, self.run), rows):
            if key not in self.seen:
                self.seen.add(key)
                out.append(row)
        return out
