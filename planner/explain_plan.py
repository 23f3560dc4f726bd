"""Plans as EXPLAIN prints them: PostgreSQL's tree of nodes, with costs, and with counters after ANALYZE.

    Nested Loop  (cost=4.00..21.40 rows=1 width=16)
      ->  Seq Scan on a  (cost=..)
            Filter: (x = 5)
      ->  Index Scan using b_pkey on b  (cost=..)

Projections are not nodes of their own; a filter is a line of the node below it, as in PostgreSQL.
"""

from __future__ import annotations

from typing import Any, Final

from planner.exec.physical_plan import Cursor, PhysicalPlan
from planner.exec.relational import FilterOp, ProjectOp
from planner.exec.runtime import Counter, Operator
from planner.exec.source import WithOp
from planner.explain import expr_text
from planner.expr import Expr, SortKey

WIDTH_VARYING: Final = 32
"""Assumed bytes of a value of varying length."""
DEPTH_MAX: Final = 500


class Shown:
    """One node as it is printed: an operator with the filters and projections above it folded in."""

    def __init__(self, operator: Operator) -> None:
        self.filters: list[Expr] = []
        self.top = operator
        """The uppermost folded operator: its rows are the node's."""
        while isinstance(operator, (FilterOp, ProjectOp)):
            if isinstance(operator, FilterOp):
                self.filters.append(operator.condition)
            operator = operator.input
        self.operator = operator

    def children(self) -> list[tuple[str, Operator]]:
        """(heading or "", child)."""
        if isinstance(self.operator, WithOp):
            named = [(f"CTE {name}", plan) for name, (_, plan, _) in zip(self.operator.names, self.operator.ctes)]
            return [*named, ("", self.operator.input)]
        return [("", child) for child in self.operator.children()]

    def details(self) -> list[tuple[str, str]]:
        lines = [(label, detail_text(value)) for label, value in self.operator.details()]
        return lines + [("Filter", expr_text(condition)) for condition in self.filters]


def detail_text(value: Any) -> str:
    """An expression, sort key or list of them as text."""
    if isinstance(value, Expr):
        return expr_text(value)
    if isinstance(value, SortKey):
        direction = " DESC" if value.descending else ""
        nulls = (
            "" if value.nulls_first == value.descending else (" NULLS FIRST" if value.nulls_first else " NULLS LAST")
        )
        return expr_text(value.expr) + direction + nulls
    if isinstance(value, (list, tuple)):
        texts = [detail_text(item) for item in value]
        return " AND ".join(texts) if value and isinstance(value[0], str) else ", ".join(texts)
    return str(value)


def _width(plan: PhysicalPlan, operator: Operator) -> int:
    """Estimated bytes per row."""
    if operator is plan.root:
        return sum(t.length if t.length > 0 else WIDTH_VARYING for t in plan.output_types)
    return 8 * len(operator.columns)


def _actual(counter: Counter | None, timing: bool) -> str:
    if counter is None or not counter.loops:
        return " (never executed)"
    loops = counter.loops
    times = ""
    if timing:
        times = f"time={max(counter.startup, 0) / loops / 1e6:.3f}..{counter.nanoseconds / loops / 1e6:.3f} "
    return f" (actual {times}rows={round(counter.rows / loops)} loops={loops})"


def explain(
    plan: PhysicalPlan, cursor: Cursor | None = None, costs: bool = True, timing: bool = True, verbose: bool = False
) -> list[str]:
    """Lines of EXPLAIN; with a cursor that has run with a clock, of EXPLAIN ANALYZE."""
    lines: list[str] = []
    _write(plan, plan.root, "", "", lines, cursor, (costs, timing, verbose), 0)
    for subplan in plan.subplans:
        lines.append(f"  {subplan.label}")
        _write(plan, subplan.root, "    ", "->  ", lines, cursor, (costs, timing, verbose), 0)
    return lines


def _write(
    plan: PhysicalPlan,
    operator: Operator,
    indent: str,
    arrow: str,
    lines: list[str],
    cursor: Cursor | None,
    options: tuple[bool, bool, bool],
    depth: int,
) -> None:
    shown = Shown(operator)
    if isinstance(shown.operator, WithOp) and not shown.filters:
        _write_with(plan, shown.operator, indent, arrow, lines, cursor, options, depth)
        return
    costs, timing, verbose = options
    line = indent + arrow + shown.operator.title()
    if costs:
        line += f"  (cost={shown.operator.startup_cost:.2f}..{shown.top.cost:.2f} rows={max(1, round(shown.top.rows))} width={_width(plan, shown.top)})"
    if cursor is not None:
        line += _actual(cursor.counters.get(id(shown.top)), timing)
    lines.append(line)
    inner = indent + " " * len(arrow) + "  "
    lines += [f"{inner}{label}: {text}" for label, text in shown.details() if label != "Output" or verbose]
    if cursor is not None:
        counter = cursor.counters.get(id(shown.operator))
        if counter is not None and counter.batches and not shown.operator.children():
            lines.append(f"{inner}KV Batches: {counter.batches}")
    if depth < DEPTH_MAX:
        for _, child in shown.children():
            _write(plan, child, inner, "->  ", lines, cursor, options, depth + 1)


def _write_with(
    plan: PhysicalPlan,
    operator: WithOp,
    indent: str,
    arrow: str,
    lines: list[str],
    cursor: Cursor | None,
    options: tuple[bool, bool, bool],
    depth: int,
) -> None:
    """The query first, then its CTEs under their headings."""
    _write(plan, operator.input, indent, arrow, lines, cursor, options, depth + 1)
    inner = indent + " " * len(arrow) + "  "
    for name, (_, cte, _) in zip(operator.names, operator.ctes):
        lines.append(f"{inner}CTE {name}")
        _write(plan, cte, inner + "  ", "->  ", lines, cursor, options, depth + 1)


def explain_json(plan: PhysicalPlan, cursor: Cursor | None = None) -> dict[str, Any]:
    """EXPLAIN (FORMAT JSON): what stands under "Plan"; subqueries are among the root's Plans."""
    tree = _node_json(plan, plan.root, cursor)
    for subplan in plan.subplans:
        node = {"Parent Relationship": "SubPlan", "Subplan Name": subplan.label} | _node_json(
            plan, subplan.root, cursor
        )
        tree.setdefault("Plans", []).append(node)
    return tree


def _node_json(plan: PhysicalPlan, operator: Operator, cursor: Cursor | None) -> dict[str, Any]:
    shown = Shown(operator)
    title = shown.operator.title()
    node: dict[str, Any] = {
        "Node Type": title.split(" on ")[0].split(" using ")[0],
        "Title": title,
        "Startup Cost": round(shown.operator.startup_cost, 2),
        "Total Cost": round(shown.top.cost, 2),
        "Plan Rows": max(1, round(shown.top.rows)),
        "Plan Width": _width(plan, shown.top),
    }
    node |= dict(shown.details())
    counter = cursor.counters.get(id(shown.top)) if cursor is not None else None
    if counter is not None and counter.loops:
        node |= {
            "Actual Startup Time": round(max(counter.startup, 0) / counter.loops / 1e6, 3),
            "Actual Total Time": round(counter.nanoseconds / counter.loops / 1e6, 3),
            "Actual Rows": round(counter.rows / counter.loops),
            "Actual Loops": counter.loops,
            "KV Batches": counter.batches,
        }
    children = [_node_json(plan, child, cursor) for _, child in shown.children()]
    if children:
        node["Plans"] = children
    return node
