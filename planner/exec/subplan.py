"""Subqueries inside expressions.

The planner replaces ``Subquery`` by a call of ``INVOKE`` on a *runner*, which lives in a
hidden slot of the frame for the length of a run::

    a < (SELECT max(x) FROM t WHERE t.k = o.k)   becomes   a < invoke($runner, o.k)

The runner writes the outer values into their slots, runs the plan and keeps the answer by
those values (reliability: one evaluation per distinct outer row, and lazily: a subquery in a
CASE branch that is not taken never runs).  If the plan must wait, the runner raises
NeedsAwait; the operator awaits it and evaluates the row again, which then finds the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from base.eager import Suspended
from base.types import ANY, PgType
from planner.context import NeedsAwait
from planner.exec.order import equality_key
from planner.exec.relational import too_many_rows
from planner.exec.runtime import Operator, Rows, Run, ScalarFunction, drain, drive, evaluate_scalar
from planner.functions.registry import VOLATILE, Function

MEMO_MAX: Final = 65_536
"""Most answers kept per subquery and run."""


def _invoke(runner: Any, *values: Any) -> Any:
    return runner.call(values)


def invoke_function(label: str) -> Function:
    """The function that stands for a subquery in a compiled expression; never strict."""
    return Function(label, (ANY,), ANY, _invoke, strict=False, volatility=VOLATILE)


class SubPlan:
    """A subquery as planned.  ``bindings``: frame slots for the call's arguments, in order;
    ``outer_slots``: slots further out that its answer depends on."""

    def __init__(self, label: str, kind: str, root: Operator, slot: int, pg_type: PgType) -> None:
        self.label = label
        self.kind = kind
        self.root = root
        self.slot = slot
        self.type = pg_type
        self.bindings: tuple[int, ...] = ()
        self.outer_slots: tuple[int, ...] = ()
        self.is_rows_fixed = False
        """any/all: the rows do not depend on the outer row, only the test does."""
        self.test: ScalarFunction | None = None
        self.hashed = False
        """any by equality with one column: the single argument is looked up in a set."""
        self.hash_type: PgType | None = None
        self.is_volatile = False

    def runner(self, run: Run) -> SubPlanRunner:
        return HashedRunner(self, run) if self.hashed else SubPlanRunner(self, run)


class SubPlanRunner:
    """Answers calls of one subquery during one run."""

    def __init__(self, plan: SubPlan, run: Run) -> None:
        self.plan = plan
        self.run = run
        self.memo: dict[Any, Any] = {}
        self.rows: Rows | None = None
        self.rows_key: Any = None

    def call(self, values: tuple[Any, ...]) -> Any:
        """The subquery's value for these outer values."""
        key = self._key(values)
        memo = self.memo
        if key in memo:
            return memo.pop(key)[0] if self.plan.is_volatile else memo[key][0]
        answer = drive(self._answer(values))
        if isinstance(answer, Suspended):
            raise NeedsAwait(self._remember(key, answer))
        if not self.plan.is_volatile:
            self._keep(key, answer)
        return answer

    def _key(self, values: tuple[Any, ...]) -> Any:
        frame = self.run.frame
        if not self.plan.outer_slots:
            return values
        return values + tuple([frame[slot] for slot in self.plan.outer_slots])

    async def _remember(self, key: Any, answer: Suspended) -> None:
        self._keep(key, await answer)

    def _keep(self, key: Any, answer: Any) -> None:
        if len(self.memo) >= MEMO_MAX:
            self.memo.clear()
        self.memo[key] = (answer,)

    async def _answer(self, values: tuple[Any, ...]) -> Any:
        frame = self.run.frame
        for slot, value in zip(self.plan.bindings, values):
            frame[slot] = value
        kind = self.plan.kind
        if kind in ("any", "all"):
            return await self._quantified(values)
        stream = self.run.open(self.plan.root)
        try:
            if kind == "exists":
                return bool(await stream.next())
            if kind == "array":
                return tuple([row[0] for row in await drain(stream, self.run)])
            return await self._scalar(stream)
        finally:
            stream.close()

    async def _scalar(self, stream: Any) -> Any:
        rows = await stream.next()
        if not rows:
            return None
        if len(rows) > 1 or await stream.next():
            raise too_many_rows()
        row = rows[0]
        return row[0] if len(row) == 1 else row

    async def _fixed_rows(self) -> Rows:
        """The rows of an any/all subquery, kept while they do not depend on the outer row."""
        key = self._key(())
        if self.plan.is_rows_fixed and self.rows is not None and key == self.rows_key:
            return self.rows
        stream = self.run.open(self.plan.root)
        self.rows = await drain(stream, self.run)
        self.rows_key = key
        stream.close()
        return self.rows

    async def _quantified(self, values: tuple[Any, ...]) -> Any:
        """Three-valued OR (any) or AND (all) of the test over the rows."""
        assert self.plan.test is not None
        rows = await self._fixed_rows()
        frame = self.run.frame
        for slot, value in zip(self.plan.bindings, values):
            frame[slot] = value
        decisive = self.plan.kind == "any"
        answer: bool | None = not decisive
        for row in rows:
            found = await evaluate_scalar(self.plan.test, row, self.run)
            if found is None:
                answer = None
            elif found == decisive:
                return decisive
        return answer


class HashedRunner(SubPlanRunner):
    """``value IN (uncorrelated subquery)`` by a set of its values."""

    def __init__(self, plan: SubPlan, run: Run) -> None:
        super().__init__(plan, run)
        self.values: set[Any] | None = None
        self.set_rows: Rows | None = None
        self.has_null = False
        assert plan.hash_type is not None
        self.transform = equality_key(plan.hash_type)

    async def _quantified(self, values: tuple[Any, ...]) -> Any:
        rows = await self._fixed_rows()
        if self.values is None or self.set_rows is not rows:
            self._build(rows)
        assert self.values is not None
        value = values[0]
        if not rows:
            return False
        if value is None:
            return None
        if (value if self.transform is None else self.transform(value)) in self.values:
            return True
        return None if self.has_null else False

    def _build(self, rows: Rows) -> None:
        found = [row[0] for row in rows]
        self.has_null = None in found
        transform = self.transform
        self.values = {value if transform is None else transform(value) for value in found if value is not None}
        self.set_rows = rows


def make_runners(subplans: Sequence[SubPlan], run: Run) -> None:
    """Puts a fresh runner of every subquery into its slot."""
    for plan in subplans:
        run.frame[plan.slot] = plan.runner(run)
