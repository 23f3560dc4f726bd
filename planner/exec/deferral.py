"""Constraint checks put off to the commit.

A context that can do it has ``defer(check)`` and ``is_deferred(table_id, name, initially_deferred)``;
what is deferred is asked at the end of each statement, so that SET CONSTRAINTS takes effect at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from planner.context import ExecContext
from planner.exec.runtime import Run
from txn.transaction import Txn


class Deferrable(Protocol):
    """Descriptors of constraints that may be deferred."""

    @property
    def name(self) -> str: ...
    @property
    def deferrable(self) -> bool: ...
    @property
    def initially_deferred(self) -> bool: ...


class DeferredCheck:
    """A check put off: ``await check(txn, ctx)``; which constraint's, for SET CONSTRAINTS."""

    def __init__(self, table_id: int, constraint: Deferrable, check: Callable[[Run], Any]) -> None:
        self.table_id = table_id
        self.constraint = constraint
        self.check = check

    async def __call__(self, txn: Txn, ctx: ExecContext) -> None:
        await self.check(Run(txn, [], ctx))


def is_deferred(table_id: int, constraint: Deferrable, ctx: ExecContext) -> bool:
    """Whether the constraint waits for COMMIT now; SET CONSTRAINTS is known to the context."""
    if not constraint.deferrable or not hasattr(ctx, "defer"):
        return False
    asked = getattr(ctx, "is_deferred", None)
    if asked is None:
        return constraint.initially_deferred
    return bool(asked(table_id, constraint.name, constraint.initially_deferred))


def check_later(table_id: int, constraint: Deferrable, check: Callable[[Run], Any], run: Run) -> None:
    """Queues a check for the end of the statement, or for the commit."""
    if is_deferred(table_id, constraint, run.ctx):
        run.ctx.defer(DeferredCheck(table_id, constraint, check))  # type: ignore[attr-defined]  # see is_deferred
    else:
        run.checks.append(lambda: check(run))
