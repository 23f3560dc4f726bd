"""A planned statement and its execution: what the session holds.

    plan(statement, stats, settings) -> PhysicalPlan            planner.optimize
    plan.open(txn, params, ctx) -> Cursor
    cursor.fetch(max_rows) -> Eager[list of rows]               [] at the end
    plan.fast.run(txn, params, ctx) -> Eager[list of rows]      point statements only

A plan holds no state of an execution and may run many times, also at once.  Writing
statements do all their work in the first ``fetch``, which then gives the RETURNING rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from base.eager import Eager
from base.types import PgType
from planner.context import ExecContext
from planner.exec.fast import FastPlan
from planner.exec.runtime import BATCH_ROWS, Counter, Operator, Row, Rows, Run, Stream, drive
from planner.exec.subplan import SubPlan, make_runners
from txn.transaction import Txn


class PhysicalPlan:
    """Operators and what is known of the statement."""

    def __init__(
        self, root: Operator, command: str, params: tuple[PgType, ...], slot_count: int, subplans: Sequence[SubPlan],
        is_read_only: bool, fast: FastPlan | None, names: tuple[str, ...], types: tuple[PgType, ...],
    ) -> None:  # fmt: skip
        self.root = root
        self.command = command
        self.params = params
        self.slot_count = slot_count
        self.subplans = tuple(subplans)
        self.is_read_only = is_read_only
        """True if it neither writes nor locks rows."""
        self.fast = fast
        self.output_names = names
        self.output_types = types
        self.is_writer = command in ("INSERT", "UPDATE", "DELETE", "MERGE")

    def open(
        self, txn: Txn, params: tuple[Any, ...], ctx: ExecContext, clock: Callable[[], int] | None = None
    ) -> Cursor:
        """Starts an execution; nothing is read before the first fetch.  ``clock`` (monotonic ns): count for EXPLAIN ANALYZE."""
        assert len(params) == len(self.params), f"{len(params)=} {len(self.params)=}"
        frame = [*params, *([None] * (self.slot_count - len(params)))]
        run = Run(txn, frame, ctx, clock)
        make_runners(self.subplans, run)
        return Cursor(self, run)


class Cursor:
    """One execution of a plan."""

    def __init__(self, plan: PhysicalPlan, run: Run) -> None:
        self.plan = plan
        self.run = run
        self.stream: Stream | None = None
        self.rest: Rows = []
        self.ended = False

    @property
    def affected(self) -> int:
        """Rows inserted, updated or deleted so far (not by CTEs or cascades)."""
        return self.run.affected

    @property
    def counters(self) -> dict[int, Counter]:
        """What EXPLAIN ANALYZE counted, by id of operator."""
        return self.run.counters or {}

    def fetch(self, max_rows: int = 0) -> Eager[list[Row]]:
        """At most ``max_rows`` rows (0: as many as come at once, BATCH_ROWS at most); fewer only at the end."""
        found: Eager[list[Row]] = drive(self._fetch(max_rows))
        return found

    async def _fetch(self, max_rows: int) -> Rows:
        wanted = max_rows or BATCH_ROWS
        rows, self.rest = self.rest, []
        while not self.ended and len(rows) < (wanted if max_rows else 1):
            if self.stream is None:
                self.stream = self.run.open(self.plan.root)
            batch = await self.stream.next()
            if not batch:
                self.ended = True
                self.stream.close()
            elif rows:
                rows = rows + batch
            else:
                rows = batch
        if len(rows) > wanted:
            rows, self.rest = rows[:wanted], rows[wanted:]
        return rows if rows.__class__ is list else list(rows)

    def close(self) -> None:
        """Gives up what is held; may be called at any time, more than once."""
        if self.stream is not None and not self.ended:
            self.stream.close()
        self.ended = True
        self.rest = []
