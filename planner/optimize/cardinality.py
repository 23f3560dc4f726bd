"""Rows and cost of logical trees, before operators are chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.expr import Const, Expr
from planner.nodes import (
    Aggregate,
    CteScan,
    Distinct,
    Filter,
    FunctionScan,
    Join,
    Limit,
    Node,
    ProjectSet,
    Scan,
    SetOp,
    Values,
    VirtualScan,
    With,
)
from planner.optimize.paths import IndexView
from planner.optimize.selectivity import ROWS_DEFAULT
from planner.optimize.tree import conjuncts, expr_columns, has_subquery

if TYPE_CHECKING:
    from planner.optimize.physical import Builder


class Cardinality:
    """Estimates for one statement; remembers nodes it has seen."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.known: dict[int, tuple[Node, float, float]] = {}

    def of(self, node: Node) -> tuple[float, float]:
        """(rows, cost)."""
        found = self.known.get(id(node))
        if found is not None and found[0] is node:
            return found[1], found[2]
        rows, cost = self._estimate(node)
        self.known[id(node)] = (node, rows, cost)
        return rows, cost

    def _estimate(self, node: Node) -> tuple[float, float]:
        if isinstance(node, Filter):
            terms = conjuncts(node.condition)
            input = node.input
            while isinstance(input, Filter):
                terms += conjuncts(input.condition)
                input = input.input
            return self._filtered(input, terms)
        if isinstance(node, Scan):
            return self._filtered(node, [])
        if isinstance(node, Join):
            return self._join(node)
        if isinstance(node, Aggregate):
            rows, cost = self.of(node.input)
            groups = 1.0
            for id in node.group:
                groups *= self.builder.estimator.distinct(self.builder.column(id), rows)
            return min(groups, max(rows, 1.0)), cost + rows
        if isinstance(node, Limit):
            rows, cost = self.of(node.input)
            count = node.limit.value if isinstance(node.limit, Const) and node.limit.value is not None else 100
            return min(rows, float(count)), cost
        return self._leaf(node)

    def _leaf(self, node: Node) -> tuple[float, float]:
        if isinstance(node, Values):
            return float(len(node.rows)), float(len(node.rows))
        if isinstance(node, (FunctionScan, VirtualScan)):
            return 100.0, 100.0
        if isinstance(node, CteScan):
            rows = self.builder.cte_rows.get(id(node.cte))
            if rows is None and node.cte.plan is not None and not node.cte.recursive:
                rows = self.of(node.cte.plan)[0]
            return rows or ROWS_DEFAULT, rows or ROWS_DEFAULT
        if isinstance(node, SetOp):
            left, right = self.of(node.left), self.of(node.right)
            return left[0] + right[0], left[1] + right[1]
        if isinstance(node, With):
            return self.of(node.input)
        inputs = node.inputs()
        if not inputs:
            return ROWS_DEFAULT, ROWS_DEFAULT
        rows, cost = self.of(inputs[0])
        if isinstance(node, ProjectSet):
            rows *= 10.0
        if isinstance(node, Distinct):
            cost += rows
        return rows, cost + 0.1 * rows

    def _filtered(self, input: Node, terms: list[Expr]) -> tuple[float, float]:
        builder = self.builder
        if isinstance(input, Scan):
            plain = [term for term in terms if not has_subquery(term)]
            path = builder.paths.best(input, builder.access(input), plain, set(input.columns))
            rest = [term for term in terms if has_subquery(term)]
            return max(path.rows * builder.estimator.terms(rest), 1e-3), path.cost
        rows, cost = self.of(input)
        return max(1.0, rows * builder.estimator.terms(terms)), cost + 0.25 * rows

    def _join(self, node: Join) -> tuple[float, float]:
        left, right = self.of(node.left), self.of(node.right)
        rows = self.builder.joins.rows(node.kind, left[0], right[0], conjuncts(node.on))
        return rows, left[1] + right[1] + left[0] + right[0] + 0.3 * rows

    def lookup(self, node: Node, terms: list[Expr], outer: set[int]) -> float | None:
        """Rows per lookup into a relation by equalities with ``outer`` columns; None if no index serves."""
        builder = self.builder
        own: list[Expr] = []
        while isinstance(node, Filter):
            own += conjuncts(node.condition)
            node = node.input
        if not isinstance(node, Scan):
            return None
        best: float | None = None
        for index in builder.access(node).indexes:
            view = IndexView(index, node, builder.statement.table_exprs.get(node.table.id))
            if not view.is_readable or not builder.paths.implied(view, own):
                continue
            path = builder.paths.match(node, view, [*terms, *own], set(node.columns))
            width = 0
            from_outer = False
            for position in path.positions:
                if position.kind == "regions":
                    width += 1
                    continue
                if position.kind != "value":
                    break
                from_outer = from_outer or bool(expr_columns(position.values[0]) & outer)
                width += 1
            if not width or not from_outer:
                continue
            if path.index.is_unique and width == path.index.width:
                rows = 1.0
            else:
                origin = builder.estimator.origins.get(node.columns[0]) if node.columns else None
                rows = (
                    max(
                        1.0,
                        (origin.rows if origin else ROWS_DEFAULT)
                        * builder.estimator.terms(path.matched[: width - path.unmatched]),
                    )
                    * (1.0 if path.covering else 3.0)
                    + 4.0
                )
            best = rows if best is None else min(best, rows)
        return best
