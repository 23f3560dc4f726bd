"""Compiled point plans: a statement on one row, or a short range, as one generated function.

    run(txn, params, ctx) -> rows            usual case: no cursor, no stream, no coroutine
                          -> awaitable       where the transaction must wait
                          -> None            (kind "range" only) the answer is longer than one page:
                                             nothing was done; open a cursor instead

``planner.optimize.fast_plan`` writes the functions.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from base.eager import Eager
from planner.context import ExecContext
from planner.exec.runtime import Row
from txn.transaction import Txn

FastRun = Callable[[Txn, tuple[Any, ...], ExecContext], Eager["list[Row] | None"]]


class FastPlan:
    """A compiled statement."""

    __slots__ = ("kind", "returns_rows", "run", "source", "uses_context")

    def __init__(self, kind: str, run: FastRun, returns_rows: bool, source: str, uses_context: bool = True) -> None:
        self.kind = kind
        """point, range, insert, update, delete."""
        self.run = run
        """Rows of the result; for writes without RETURNING one empty tuple per row written."""
        self.returns_rows = returns_rows
        self.source = source
        """The generated source, for tests and for reading."""
        self.uses_context = uses_context
        """False if ``run`` never looks at its context."""

    def affected(self, rows: list[Row]) -> int:
        """Rows written, given the result of ``run`` of a write."""
        return len(rows)
