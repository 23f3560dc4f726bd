"""The row executor: operators over batches of tuples, and compiled point statements.

plan(statement, stats, settings)        -> PhysicalPlan
PhysicalPlan.open(txn, params, ctx)     -> Cursor;  Cursor.fetch(max_rows) -> Eager[rows]
PhysicalPlan.fast.run(txn, params, ctx) -> Eager[rows | None]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from planner.access import TypeResolver
    from planner.exec.physical_plan import PhysicalPlan
    from planner.nodes import Statement
    from planner.optimize.planning import StatsSource


def plan(
    statement: Statement, stats: StatsSource | None = None, settings: Any = None, types: TypeResolver | None = None
) -> PhysicalPlan:
    """Plans a bound statement; see ``planner.optimize``, which is imported late because it builds on this package."""
    from planner.optimize.planning import plan as plan_statement

    return plan_statement(statement, stats, settings, types)
