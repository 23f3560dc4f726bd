"""The simple operators: filter, project, limit, distinct, set operations, values."""

from __future__ import annotations

from collections import Counter as MultiSet
from typing import Any

from base.errors import error
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
    int_argument,
)
from planner.exec.scalar import KeyMaker, Sorter
from planner.expr import Expr


class UnaryOperator(Operator):
    """An operator over one input."""

    input: Operator

    def children(self) -> tuple[Operator, ...]:
        return (self.input,)


class FilterOp(UnaryOperator):
    """Rows for which the condition is true."""

    def __init__(self, input: Operator, condition: Expr, keep: RowsFunction) -> None:
        self.input = input
        self.columns = input.columns
        self.order = input.order
        self.condition = condition
        self.keep = keep

    def title(self) -> str:
        return "Filter"

    def details(self) -> list[tuple[str, Any]]:
        return [("Filter", self.condition)]

    def open(self, run: Run) -> Stream:
        return FilterStream(self.keep, run.open(self.input), run)


class FilterStream(Stream):
    def __init__(self, keep: RowsFunction, input: Stream, run: Run) -> None:
        self.keep = keep
        self.input = input
        self.run = run

    async def next(self) -> Rows:
        while True:
            rows = await self.input.next()
            if not rows:
                return rows
            kept = await evaluate(self.keep, rows, self.run)
            if kept:
                return kept
            self.run.ctx.check_interrupt()

    def close(self) -> None:
        self.input.close()


class ProjectOp(UnaryOperator):
    """Computes a new row per row."""

    def __init__(
        self, input: Operator, columns: tuple[int, ...], exprs: tuple[Expr, ...], compute: RowsFunction
    ) -> None:
        self.input = input
        self.columns = columns
        self.exprs = exprs
        self.compute = compute

    def title(self) -> str:
        return "Project"

    def details(self) -> list[tuple[str, Any]]:
        return [("Output", self.exprs)]

    def open(self, run: Run) -> Stream:
        return ProjectStream(self.compute, run.open(self.input), run)


class ProjectStream(Stream):
    def __init__(self, compute: RowsFunction, input: Stream, run: Run) -> None:
        self.compute = compute
        self.input = input
        self.run = run

    async def next(self) -> Rows:
        rows = await self.input.next()
        return await evaluate(self.compute, rows, self.run) if rows else rows

    def close(self) -> None:
        self.input.close()


class ValuesOp(Operator):
    """Literal rows: each a compiled projection of the empty row."""

    def __init__(self, columns: tuple[int, ...], exprs: list[tuple[Expr, ...]], rows_of: list[RowsFunction]) -> None:
        self.columns = columns
        self.exprs = exprs
        self.rows_of = rows_of

    def title(self) -> str:
        return "Result" if len(self.exprs) == 1 else "Values Scan"

    def open(self, run: Run) -> Stream:
        return ValuesStream(self, run)


class ValuesStream(Stream):
    def __init__(self, operator: ValuesOp, run: Run) -> None:
        self.operator = operator
        self.run = run
        self.position = 0

    async def next(self) -> Rows:
        functions = self.operator.rows_of[self.position : self.position + BATCH_ROWS]
        self.position += len(functions)
        out: Rows = []
        for function in functions:
            out += await evaluate(function, [()], self.run)
        return out


class LimitOp(UnaryOperator):
    """LIMIT/OFFSET; ``sorter`` given for WITH TIES: it tells which keys are equal."""

    def __init__(
        self, input: Operator, limit: ScalarFunction | None, offset: ScalarFunction | None, ties: Sorter | None
    ) -> None:
        self.input = input
        self.columns = input.columns
        self.order = input.order
        self.limit = limit
        self.offset = offset
        self.ties = ties
        self.exprs: tuple[Expr | None, Expr | None] = (None, None)
        """The bound LIMIT and OFFSET."""

    def title(self) -> str:
        return "Limit"

    def open(self, run: Run) -> Stream:
        return LimitStream(self, run)


async def bounds_of(limit: ScalarFunction | None, offset: ScalarFunction | None, run: Run) -> tuple[int | None, int]:
    """Evaluates LIMIT and OFFSET."""
    count = int_argument(await evaluate_scalar(limit, (), run), "LIMIT", "2201W") if limit else None
    skip = int_argument(await evaluate_scalar(offset, (), run), "OFFSET", "2201X") if offset else None
    return count, skip or 0


class LimitStream(Stream):
    def __init__(self, operator: LimitOp, run: Run) -> None:
        self.operator = operator
        self.run = run
        self.input: Stream | None = None
        self.left: int | None = None
        self.skip = 0
        self.last_key: Row | None = None
        self.ended = False

    async def next(self) -> Rows:
        if self.ended:
            return []
        if self.input is None:
            self.left, self.skip = await bounds_of(self.operator.limit, self.operator.offset, self.run)
            if self.left == 0:
                self.ended = True
                return []
            self.input = self.run.open(self.operator.input)
        while True:
            rows = await self.input.next()
            if not rows:
                self.ended = True
                return rows
            rows = await self._cut(rows)
            if rows or self.ended:
                return rows

    async def _cut(self, rows: Rows) -> Rows:
        if self.skip:
            if self.skip >= len(rows):
                self.skip -= len(rows)
                return []
            rows, self.skip = rows[self.skip :], 0
        if self.left is None:
            return rows
        if self.last_key is not None:
            return await self._ties(rows)
        if len(rows) < self.left:
            self.left -= len(rows)
            return rows
        kept = rows[: self.left]
        if self.operator.ties is None:
            self._end()
            return kept
        self.last_key = await self._key(kept[-1])
        return kept + await self._ties(rows[self.left :])

    async def _key(self, row: Row) -> Row:
        assert self.operator.ties is not None
        key = (await evaluate(self.operator.ties.rows_of, [row], self.run))[0]
        transforms = self.operator.ties.transforms
        return tuple([value if value is None or f is None else f(value) for f, value in zip(transforms, key)])

    async def _ties(self, rows: Rows) -> Rows:
        kept: Rows = []
        for row in rows:
            if await self._key(row) != self.last_key:
                self._end()
                break
            kept.append(row)
        return kept

    def _end(self) -> None:
        self.ended = True
        self.close()

    def close(self) -> None:
        if self.input is not None:
            self.input.close()


class DistinctOp(UnaryOperator):
    """First row of each key, in input order."""

    def __init__(self, input: Operator, keys: KeyMaker, on: tuple[int, ...] | None) -> None:
        self.input = input
        self.columns = input.columns
        self.order = input.order
        self.keys = keys
        self.on = on

    def title(self) -> str:
        return "HashAggregate" if self.on is None else "Unique"

    def open(self, run: Run) -> Stream:
        return DistinctStream(self, run.open(self.input), run)


class DistinctStream(Stream):
    def __init__(self, operator: DistinctOp, input: Stream, run: Run) -> None:
        self.keys = operator.keys
        self.input = input
        self.run = run
        self.seen: set[Any] = set()

    async def next(self) -> Rows:
        seen = self.seen
        while True:
            rows = await self.input.next()
            if not rows:
                return rows
            out: Rows = []
            for key, row in zip(await self.keys.keys(rows, self.run), rows):
                if key not in seen:
                    seen.add(key)
                    out.append(row)
            if out:
                account(self.run.ctx, out)
                return out
            self.run.ctx.check_interrupt()

    def close(self) -> None:
        self.input.close()


class AppendOp(Operator):
    """UNION ALL: one input after the other."""

    def __init__(self, inputs: tuple[Operator, ...], columns: tuple[int, ...]) -> None:
        self.inputs = inputs
        self.columns = columns

    def children(self) -> tuple[Operator, ...]:
        return self.inputs

    def title(self) -> str:
        return "Append"

    def open(self, run: Run) -> Stream:
        return AppendStream(self, run)


class AppendStream(Stream):
    def __init__(self, operator: AppendOp, run: Run) -> None:
        self.operator = operator
        self.run = run
        self.at = 0
        self.current: Stream | None = None

    async def next(self) -> Rows:
        while self.at < len(self.operator.inputs):
            if self.current is None:
                self.current = self.run.open(self.operator.inputs[self.at])
            rows = await self.current.next()
            if rows:
                return rows
            self.current.close()
            self.current = None
            self.at += 1
        return []

    def close(self) -> None:
        if self.current is not None:
            self.current.close()


class SetOpOp(Operator):
    """INTERSECT and EXCEPT, [ALL], by counting equal rows of the right side."""

    def __init__(
        self,
        kind: str,
        all: bool,
        left: Operator,
        right: Operator,
        columns: tuple[int, ...],
        keys: tuple[KeyMaker, KeyMaker],
    ) -> None:
        self.kind = kind
        self.all = all
        self.left = left
        self.right = right
        self.columns = columns
        self.keys = keys

    def children(self) -> tuple[Operator, ...]:
        return (self.left, self.right)

    def title(self) -> str:
        return f"HashSetOp {self.kind.capitalize()}{' All' if self.all else ''}"

    def open(self, run: Run) -> Stream:
        return SetOpStream(self, run)


class SetOpStream(Buffered):
    def __init__(self, operator: SetOpOp, run: Run) -> None:
        super().__init__()
        self.operator = operator
        self.run = run

    async def fill(self) -> Rows:
        operator, run = self.operator, self.run
        right = await drain(run.open(operator.right), run)
        counts = MultiSet(await operator.keys[1].keys(right, run))
        left = await drain(run.open(operator.left), run)
        keys = await operator.keys[0].keys(left, run)
        if operator.all:
            return self._all(left, keys, counts)
        wanted = operator.kind == "intersect"
        seen: set[Any] = set()
        out: Rows = []
        for key, row in zip(keys, left):
            if key not in seen and (key in counts) == wanted:
                seen.add(key)
                out.append(row)
        return out

    def _all(self, left: Rows, keys: list[Any], counts: MultiSet[Any]) -> Rows:
        is_intersect = self.operator.kind == "intersect"
        out: Rows = []
        for key, row in zip(keys, left):
            if counts[key] > 0:
                counts[key] -= 1
                if is_intersect:
                    out.append(row)
            elif not is_intersect:
                out.append(row)
        return out


class SortOp(UnaryOperator):
    """Sorts; with ``top`` (LIMIT and OFFSET above) keeps only as many rows as can be asked for."""

    def __init__(self, input: Operator, sorter: Sorter, keys: tuple[Any, ...]) -> None:
        self.input = input
        self.columns = input.columns
        self.sorter = sorter
        self.keys = keys
        self.top: tuple[ScalarFunction | None, ScalarFunction | None] | None = None

    def title(self) -> str:
        return "Sort"

    def details(self) -> list[tuple[str, Any]]:
        return [("Sort Key", self.keys)]

    def open(self, run: Run) -> Stream:
        return SortStream(self, run)


class SortStream(Buffered):
    def __init__(self, operator: SortOp, run: Run) -> None:
        super().__init__()
        self.operator = operator
        self.run = run

    async def fill(self) -> Rows:
        operator, run = self.operator, self.run
        if operator.top is not None:
            limit, offset = await bounds_of(*operator.top, run)
            if limit is not None:
                return await self._top(limit + offset)
        rows = await drain(run.open(operator.input), run)
        return await operator.sorter.sort(rows, run)

    async def _top(self, count: int) -> Rows:
        """Keeps the first ``count`` in order, cutting whenever twice as many have gathered."""
        if count == 0:
            return []
        run, sorter = self.run, self.operator.sorter
        input = run.open(self.operator.input)
        kept: Rows = []
        charged = 0
        worst: Any = None
        while True:
            batch = await input.next()
            if not batch:
                return (await sorter.sort(kept, run))[:count]
            if worst is not None:
                batch = sorter.not_worse(batch, await evaluate(sorter.rows_of, batch, run), worst)
            kept = kept + batch
            if len(kept) > charged:
                account(run.ctx, kept[charged:])
                charged = len(kept)
            if len(kept) >= 2 * count + BATCH_ROWS:
                rows, keys = await sorter.sort_with_keys(kept, run)
                kept, worst = rows[:count], keys[count - 1][0]
            run.ctx.check_interrupt()


def too_many_rows() -> Exception:
    """The error of a scalar subquery with more than one row."""
    return error("21000", "more than one row returned by a subquery used as an expression")
