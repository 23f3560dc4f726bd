"""INSERT, UPDATE and DELETE as operators: run to the end at the first ``next``, then give RETURNING rows.

UPDATE, DELETE and INSERT from a query first read their whole input, so that no row is
found twice because it was moved (the Halloween problem); VALUES stream.
"""

from __future__ import annotations

from typing import Any

from base.errors import MeridianError, error
from planner.access import TableAccess
from planner.exec.relational import UnaryOperator
from planner.exec.runtime import (
    BATCH_ROWS,
    Buffered,
    Operator,
    Row,
    Rows,
    RowsFunction,
    Run,
    Stream,
    account,
    drain,
    evaluate,
)
from planner.exec.upsert import Upsert
from planner.exec.write import TableWriter, failing_row


class ModifyOp(UnaryOperator):
    """Base: the writer, RETURNING, and whether rows count for the command tag (not in CTEs)."""

    verb = ""

    def __init__(
        self, input: Operator, writer: TableWriter, columns: tuple[int, ...], returning: RowsFunction | None
    ) -> None:
        self.input = input
        self.writer = writer
        self.columns = columns
        self.returning = returning
        self.checks: list[tuple[str, RowsFunction]] = []
        """WITH CHECK OPTION: (view, function giving one-column rows of booleans) of new rows."""
        self.counts = True

    def title(self) -> str:
        return f"{self.verb} on {self.writer.access.desc.name}"


class ModifyStream(Buffered):
    """Shared by the three: counts, gathers RETURNING, ends the statement."""

    def __init__(self, operator: ModifyOp, run: Run) -> None:
        super().__init__()
        self.operator = operator
        self.run = run
        self.returned: Rows = []

    async def give(self, rows: Rows, count: int) -> None:
        """Counts written rows; ``rows`` are what RETURNING expressions see."""
        if self.operator.counts:
            self.run.affected += count
        self.run.ctx.count_changes(self.operator.writer.access.desc.id, count)
        if self.operator.returning is not None and rows:
            out = await evaluate(self.operator.returning, rows, self.run)
            account(self.run.ctx, out)
            self.returned += out

    async def check(self, rows: Rows) -> None:
        """Raises 44000 if a new row would not be seen through the view it was written through."""
        operator, run = self.operator, self.run
        for view, function in operator.checks:
            for row, verdict in zip(rows, await evaluate(function, rows, run)):
                if verdict[0] is not True:
                    text = f'new row violates check option for view "{view}"'
                    raise error("44000", text, detail=failing_row(row, operator.writer.access, run.ctx))

    async def end(self) -> Rows:
        await self.run.finish_statement()
        return self.returned


class InsertOp(ModifyOp):
    """``streams``: the input does not read tables, so rows are written as they come."""

    verb = "Insert"

    def __init__(
        self, input: Operator, writer: TableWriter, columns: tuple[int, ...], returning: RowsFunction | None,
        positions: list[int | None], streams: bool, upsert: Upsert | None, drawn: frozenset[int] = frozenset(),
    ) -> None:  # fmt: skip
        super().__init__(input, writer, columns, returning)
        self.positions = positions
        """Per table column its place in the input; None if it is computed later."""
        self.arrange = arrange_rows(positions)
        self.streams = streams
        self.upsert = upsert
        self.drawn = drawn
        """Ids of unique indexes over values that are drawn here."""
        self.homes: tuple[str, ...] | None = ()
        """Of a REGIONAL BY ROW table: regions that are named for the rows, "" for the client's; None for any."""

    def open(self, run: Run) -> Stream:
        return InsertStream(self, run)

    def details(self) -> list[tuple[str, Any]]:
        if self.upsert is None:
            return []
        return [("Conflict Resolution", "UPDATE" if self.upsert.update is not None else "NOTHING")]


class InsertStream(ModifyStream):
    operator: InsertOp
    done = 0
    """Rows written by earlier batches."""

    async def fill(self) -> Rows:
        operator, run = self.operator, self.run
        input = run.open(operator.input)
        if operator.streams:
            while batch := await input.next():
                await self._write(batch)
        else:
            rows = await drain(input, run)
            for at in range(0, len(rows), BATCH_ROWS):
                await self._write(rows[at : at + BATCH_ROWS])
        input.close()
        return await self.end()

    async def _write(self, batch: Rows) -> None:
        operator, run = self.operator, self.run
        rows = operator.arrange(batch, run.frame, run.ctx)
        try:
            rows = await operator.writer.complete(rows, run)
            if operator.upsert is not None:
                rows = await operator.upsert.apply(rows, run)
            else:
                await operator.writer.insert(rows, run, operator.drawn)
        except MeridianError as problem:
            if problem.row is not None:
                problem.row += self.done
            raise
        self.done += len(batch)
        await self.check(rows)
        await self.give(rows, len(rows))
        await run.breathe()


class UpdateOp(ModifyOp):
    """``old_of`` picks the old row out of the input, ``new_of`` computes the new one."""

    verb = "Update"

    def __init__(
        self, input: Operator, writer: TableWriter, columns: tuple[int, ...], returning: RowsFunction | None,
        old_of: RowsFunction, new_of: RowsFunction,
    ) -> None:  # fmt: skip
        super().__init__(input, writer, columns, returning)
        self.old_of = old_of
        self.new_of = new_of
        self.changed: frozenset[int] = frozenset()
        """Columns that SET names."""

    def open(self, run: Run) -> Stream:
        return UpdateStream(self, run)


class UpdateStream(ModifyStream):
    operator: UpdateOp

    async def fill(self) -> Rows:
        operator, run = self.operator, self.run
        rows = await drain(run.open(operator.input), run)
        seen: set[bytes] = set()
        for at in range(0, len(rows), BATCH_ROWS):
            await self._write(rows[at : at + BATCH_ROWS], seen)
        return await self.end()

    async def _write(self, batch: Rows, seen: set[bytes]) -> None:
        operator, run = self.operator, self.run
        old = operator.old_of(batch, run.frame, run.ctx)
        batch, old = first_of_each(batch, old, operator.writer.access, seen)
        if not batch:
            return
        new = await evaluate(operator.new_of, batch, run)
        new = await operator.writer.complete(new, run)
        await operator.writer.update(old, new, run)
        await self.check(new)
        await self.give(
            [after + row for after, row in zip(new, batch)] if operator.returning is not None else [], len(new)
        )
        await run.breathe()


def first_of_each(batch: Rows, old: Rows, access: TableAccess, seen: set[bytes]) -> tuple[Rows, Rows]:
    """Drops rows already written by this statement (the first match wins) and rows made of NULLs by outer joins."""
    at = access.position[access.key_attnums[0]]
    kept_batch: Rows = []
    kept_old: Rows = []
    for row, before in zip(batch, old):
        if before[at] is None:
            continue
        key = access.key_of_row(before)
        if key not in seen:
            seen.add(key)
            kept_batch.append(row)
            kept_old.append(before)
    return kept_batch, kept_old


class DeleteOp(ModifyOp):
    """``old_of`` picks the old row out of the input."""

    verb = "Delete"

    def __init__(
        self,
        input: Operator,
        writer: TableWriter,
        columns: tuple[int, ...],
        returning: RowsFunction | None,
        old_of: RowsFunction,
    ) -> None:
        super().__init__(input, writer, columns, returning)
        self.old_of = old_of

    def open(self, run: Run) -> Stream:
        return DeleteStream(self, run)


class DeleteStream(ModifyStream):
    operator: DeleteOp

    async def fill(self) -> Rows:
        operator, run = self.operator, self.run
        rows = await drain(run.open(operator.input), run)
        seen: set[bytes] = set()
        for at in range(0, len(rows), BATCH_ROWS):
            batch = rows[at : at + BATCH_ROWS]
            old = operator.old_of(batch, run.frame, run.ctx)
            batch, old = first_of_each(batch, old, operator.writer.access, seen)
            if batch:
                await operator.writer.delete(old, run)
                await self.give(batch, len(batch))
            await run.breathe()
        return await self.end()


def arrange_rows(positions: list[int | None]) -> RowsFunction:
    """Reorders input rows to table order; None marks a column computed later."""

    def arrange(rows: Rows, frame: Any, ctx: Any) -> Rows:
        return [tuple([None if at is None else row[at] for at in positions]) for row in rows]

    if positions == list(range(len(positions))):
        return lambda rows, frame, ctx: rows
    return arrange


Pair = tuple[Row, Row]
