"""Aggregates, window functions and set-returning functions of one query level.

They are found while expressions are bound, taken out of them, and replaced by columns::

    SELECT a, sum(b) + 1 FROM t GROUP BY a     ->   Project [a, #5 + 1]
                                                      Aggregate group [a], #5 = sum(b)
"""

from __future__ import annotations

from planner.expr import AggCall, Expr, SortKey
from planner.nodes import WindowFrame


class WindowDefinition:
    """One window: calls over equal definitions share a Window node."""

    __slots__ = ("calls", "columns", "frame", "order_by", "partition_by")

    def __init__(self, partition_by: tuple[Expr, ...], order_by: tuple[SortKey, ...], frame: WindowFrame) -> None:
        self.partition_by = partition_by
        self.order_by = order_by
        self.frame = frame
        self.calls: list[AggCall] = []
        self.columns: list[int] = []


class QueryState:
    """What the expressions of one SELECT contain."""

    def __init__(self) -> None:
        self.aggs: list[AggCall] = []
        self.agg_columns: list[int] = []
        self.windows: list[WindowDefinition] = []
        self.sets: list[list[tuple[int, Expr]]] = []
        """Set-returning calls (and what must be computed once) by level: level 1 uses the results of level 0."""
        self.grouping_calls: list[tuple[int, tuple[Expr, ...], int]] = []
        """GROUPING(..): (column id, arguments, position)."""
        self.agg_ids: set[int] = set()
        self.window_ids: set[int] = set()
        self.set_ids: dict[int, int] = {}
        """Column id of a set-returning call -> its level."""
        self.named_windows: dict[str, object] = {}
        self.has_group = False
        self.clause = "SELECT"
        """Where the expression being bound stands: decides which of the three may appear, and what errors call it."""
