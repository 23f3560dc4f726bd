"""MERGE as an operator: reads its whole input, decides each row by the first WHEN clause that fits, then writes.

    input row ── old row there? ── WHEN MATCHED [AND ..]      update, delete, nothing
                                └─ WHEN NOT MATCHED [AND ..]  insert, nothing

The rows of a batch are written clause by clause, deletes before the others, so that a key freed by the statement may
be taken by it.  A target row that two source rows would change is 21000, whatever they would do.
"""

from __future__ import annotations

from base.errors import error
from planner.exec.modify import ModifyOp, ModifyStream
from planner.exec.runtime import BATCH_ROWS, Operator, Rows, RowsFunction, Run, Stream, drain, evaluate
from planner.exec.write import TableWriter


class MergePart:
    """One WHEN clause: ``condition`` gives one-column rows of booleans, ``new`` complete rows of the table."""

    __slots__ = ("condition", "is_matched", "kind", "new")

    def __init__(self, kind: str, is_matched: bool, condition: RowsFunction | None, new: RowsFunction | None) -> None:
        self.kind = kind
        self.is_matched = is_matched
        self.condition = condition
        self.new = new


class MergeOp(ModifyOp):
    """``old_of`` picks the target's row out of the input: NULLs where there is none."""

    verb = "Merge"

    def __init__(self, input: Operator, writer: TableWriter, old_of: RowsFunction, parts: list[MergePart]) -> None:
        super().__init__(input, writer, (), None)
        self.old_of = old_of
        self.parts = parts
        self.write_order = sorted(range(len(parts)), key=lambda i: parts[i].kind != "delete")

    def open(self, run: Run) -> Stream:
        return MergeStream(self, run)


class MergeStream(ModifyStream):
    operator: MergeOp

    async def fill(self) -> Rows:
        operator, run = self.operator, self.run
        rows = await drain(run.open(operator.input), run)
        seen: set[bytes] = set()
        for at in range(0, len(rows), BATCH_ROWS):
            await self._write(rows[at : at + BATCH_ROWS], seen)
            run.ctx.check_interrupt()
        return await self.end()

    async def _write(self, batch: Rows, seen: set[bytes]) -> None:
        operator = self.operator
        access = operator.writer.access
        at = access.position[access.key_attnums[0]]
        old = operator.old_of(batch, self.run.frame, self.run.ctx)
        chosen = await self._choose(batch, [row[at] is not None for row in old])
        for number in operator.write_order:
            places = chosen[number]
            if places:
                await self._apply(operator.parts[number], [batch[i] for i in places], [old[i] for i in places], seen)

    async def _choose(self, batch: Rows, matched: list[bool]) -> list[list[int]]:
        """Places in the batch by the clause that takes them."""
        undecided = list(range(len(batch)))
        chosen: list[list[int]] = []
        for part in self.operator.parts:
            fitting = [i for i in undecided if matched[i] == part.is_matched]
            if part.condition is not None and fitting:
                verdicts = await evaluate(part.condition, [batch[i] for i in fitting], self.run)
                fitting = [i for i, verdict in zip(fitting, verdicts) if verdict[0] is True]
            chosen.append(fitting)
            taken = set(fitting)
            undecided = [i for i in undecided if i not in taken]
        return chosen

    async def _apply(self, part: MergePart, rows: Rows, old: Rows, seen: set[bytes]) -> None:
        writer, run = self.operator.writer, self.run
        if part.kind == "nothing":
            return
        if part.is_matched:
            self._claim(old, seen)
        if part.kind == "delete":
            await writer.delete(old, run)
        else:
            assert part.new is not None, part.kind
            new = await writer.complete(await evaluate(part.new, rows, run), run)
            if part.kind == "update":
                await writer.update(old, new, run)
            else:
                await writer.insert(new, run)
        await self.give([], len(rows))

    def _claim(self, old: Rows, seen: set[bytes]) -> None:
        """No row of the target is changed twice."""
        for row in old:
            key = self.operator.writer.access.key_of_row(row)
            if key in seen:
                raise error(
                    "21000",
                    "MERGE command cannot affect row a second time",
                    hint="Ensure that not more than one source row matches any one target row.",
                )
            seen.add(key)
