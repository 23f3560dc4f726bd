"""LockRows: locks the rows that a query has found, and looks at them again.

Placed below LIMIT and above filters, joins and sorts, so only rows that will be given are locked
(FOR UPDATE SKIP LOCKED LIMIT 1 locks one).  A locked read gives the newest version.  If
that differs from what was found (READ COMMITTED), the row's columns are replaced and every
condition of the query that is over the columns at hand is tested again, as PostgreSQL's
EvalPlanQual does.
"""

from __future__ import annotations

from typing import Any

from kvtier.messages import Lock, Wait
from planner.access import TableAccess
from planner.exec.relational import UnaryOperator, bounds_of
from planner.exec.runtime import BATCH_ROWS, Operator, Row, Rows, RowsFunction, Run, ScalarFunction, Stream, evaluate
from planner.exec.scan import get_many
from txn.transaction import SKIPPED


class LockTarget:
    """One table to lock: where its key columns are in a row, and which columns to look at again."""

    def __init__(
        self,
        access: TableAccess,
        key_positions: list[int],
        attnums: tuple[int, ...],
        positions: list[int],
        lock: Lock,
        wait: Wait,
        is_optional: bool = False,
    ) -> None:
        self.access = access
        self.key_positions = key_positions
        self.positions = positions
        """Of the table's columns in a row, matching ``attnums``."""
        self.decode = access.decoder(attnums)
        self.projection = access.projection(attnums)
        self.lock = lock
        self.wait = wait
        self.is_optional = is_optional
        """Outer joined (MERGE): a row of it that is gone or fits no more leaves NULLs behind, not nothing."""


class LockRowsOp(UnaryOperator):
    """``recheck`` keeps the rows whose conditions still hold; None: there is nothing to test."""

    def __init__(self, input: Operator, targets: list[LockTarget], recheck: RowsFunction | None) -> None:
        self.input = input
        self.columns = input.columns
        self.order = input.order
        self.targets = targets
        self.recheck = recheck
        self.limit: tuple[ScalarFunction | None, ScalarFunction | None] | None = None
        """LIMIT and OFFSET above: rows are locked so many at a time."""

    def title(self) -> str:
        return "LockRows"

    def open(self, run: Run) -> Stream:
        return LockRowsStream(self, run)


class LockRowsStream(Stream):
    def __init__(self, operator: LockRowsOp, run: Run) -> None:
        self.operator = operator
        self.run = run
        self.input = run.open(operator.input)
        self.pending: Rows = []
        self.step = 0

    async def _step(self) -> int:
        if self.operator.limit is None:
            return BATCH_ROWS
        count, skip = await bounds_of(*self.operator.limit, self.run)
        return BATCH_ROWS if count is None else max(1, min(count + skip, BATCH_ROWS))

    async def next(self) -> Rows:
        if not self.step:
            self.step = await self._step()
        while True:
            rows = self.pending or await self.input.next()
            if not rows:
                return rows
            self.pending = rows[self.step :]
            rows = rows[: self.step]
            for target in self.operator.targets:
                rows = await self._lock(target, rows)
                if not rows:
                    break
            if rows:
                return rows
            self.run.ctx.check_interrupt()

    async def _lock(self, target: LockTarget, rows: Rows) -> Rows:
        """Locks the target's rows; drops those that are gone, locked elsewhere or no longer wanted."""
        encode = target.access.key_codec.encode
        keys: list[bytes | None] = []
        for row in rows:
            values = [row[position] for position in target.key_positions]
            keys.append(None if values[0] is None else encode(values))
        wanted = list(dict.fromkeys([key for key in keys if key is not None]))
        found = dict(zip(wanted, await get_many(self.run, wanted, target.lock, target.wait, target.projection)))
        out: Rows = []
        changed: Rows = []
        for row, key in zip(rows, keys):
            if key is None:
                out.append(row)
                continue
            value = found[key]
            if value is None or value is SKIPPED:
                if target.is_optional:
                    out.append(_without(target, row))
                continue
            fresh = self._refreshed(target, row, key, value)
            if fresh is row:
                out.append(row)
            else:
                changed.append(fresh)
                out.append(fresh)
        if changed and self.operator.recheck is not None:
            kept = {id(row) for row in await evaluate(self.operator.recheck, changed, self.run)}
            dropped = {id(row) for row in changed if id(row) not in kept}
            if target.is_optional:
                return [_without(target, row) if id(row) in dropped else row for row in out]
            out = [row for row in out if id(row) not in dropped]
        return out

    def _refreshed(self, target: LockTarget, row: Row, key: bytes, value: Any) -> Row:
        """The row with the newest columns of the target; the same object if nothing changed."""
        newest = target.decode(key, value)
        if newest == tuple([row[position] for position in target.positions]):
            return row
        fresh = list(row)
        for position, datum in zip(target.positions, newest):
            fresh[position] = datum
        return tuple(fresh)

    def close(self) -> None:
        self.input.close()


def _without(target: LockTarget, row: Row) -> Row:
    """The row with NULLs for the target's columns."""
    bare = list(row)
    for position in target.positions:
        bare[position] = None
    return tuple(bare)
