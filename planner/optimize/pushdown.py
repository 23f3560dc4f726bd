"""Filters move towards the tables; outer joins that cannot keep their NULL rows become inner.

    Filter over        goes
    Project            below, its columns replaced by their expressions (unless volatile)
    inner/cross Join   to the side that has all its columns; else into the condition
    left Join          left side: filter of the left rows; ON: terms of right columns go right
    Aggregate          below, terms over group columns (plain GROUP BY only)
    Window             below, terms over partition columns
    Distinct, Sort     below
    SetOp              into both sides
    Limit, LockRows    not at all

A volatile term never moves, nor does any past a Limit.
"""

from __future__ import annotations

from collections.abc import Sequence

from planner.expr import Col, Expr, Subquery, transform
from planner.nodes import Aggregate, Distinct, Filter, Join, Metadata, Node, Project, SetOp, Sort, Window, With
from planner.optimize.operators import rejects_null
from planner.optimize.tree import (
    any_part,
    conjoin,
    conjuncts,
    expr_columns,
    filtered,
    free_columns,
    is_volatile,
    map_exprs,
    substitute,
    with_inputs,
)


class FilterPusher:
    """Pushes filters within one statement."""

    def __init__(self, metadata: Metadata) -> None:
        self.metadata = metadata

    def tree(self, node: Node) -> Node:
        """The tree with every filter as far down as it may go."""
        return self.push(self._inside(node), [])

    def _inside(self, node: Node) -> Node:
        """Pushes inside the plans of subquery expressions."""
        return map_exprs(node, self._expr)

    def _expr(self, expr: Expr) -> Expr:
        return transform(expr, self._part)

    def _part(self, part: Expr) -> Expr:
        if isinstance(part, Subquery):
            return Subquery(part.kind, self.tree(part.plan), part.type, part.typmod, part.test)
        return part

    def push(self, node: Node, terms: list[Expr]) -> Node:
        """The node with ``terms`` applied to its rows, each as deep as possible."""
        if isinstance(node, Filter):
            return self.push(self._inside(node.input), terms + [self._expr(term) for term in conjuncts(node.condition)])
        movable = [term for term in terms if not is_volatile(term)]
        stuck = [term for term in terms if is_volatile(term)]
        if isinstance(node, Join):
            return filtered(self._join(node, movable), stuck)
        if isinstance(node, Project):
            return self._project(node, movable, stuck)
        if isinstance(node, Sort) or (isinstance(node, Distinct) and node.on is None):
            return filtered(with_inputs(node, (self.push(self._inside(node.inputs()[0]), movable),)), stuck)
        if isinstance(node, Distinct):
            return self._over(node, movable, stuck, set(node.on or ()))
        if isinstance(node, Aggregate):
            allowed = set(node.group) if node.group and node.grouping_sets is None else set()
            return self._over(node, movable, stuck, allowed)
        if isinstance(node, Window):
            return self._over(node, movable, stuck, {e.id for e in node.partition_by if isinstance(e, Col)})
        if isinstance(node, SetOp):
            return filtered(self._set(node, movable), stuck)
        return self._other(node, terms)

    def _other(self, node: Node, terms: list[Expr]) -> Node:
        if isinstance(node, With):
            for cte in node.ctes:
                if cte.plan is not None:
                    cte.plan = self.tree(cte.plan)
                if cte.step is not None:
                    cte.step = self.tree(cte.step)
            return with_inputs(node, (self.push(self._inside(node.input), terms),))
        inputs = node.inputs()
        if inputs:
            node = with_inputs(node, tuple([self.tree(child) for child in inputs]))
        return filtered(node, terms)

    def _project(self, node: Project, movable: list[Expr], stuck: list[Expr]) -> Node:
        mapping = dict(zip(node.columns, node.exprs))
        volatile = {column for column, expr in mapping.items() if is_volatile(expr)}
        down: list[Expr] = []
        for term in movable:
            if expr_columns(term) & volatile:
                stuck = [*stuck, term]
            else:
                down.append(substitute(term, mapping))
        return filtered(Project(self.push(self._inside(node.input), down), node.columns, node.exprs), stuck)

    def _over(self, node: Node, movable: list[Expr], stuck: list[Expr], allowed: set[int]) -> Node:
        """Passes only the terms over ``allowed`` columns."""
        (input,) = node.inputs()
        visible = set(node.columns) - allowed
        down = [term for term in movable if expr_columns(term) & allowed and not expr_columns(term) & visible]
        stay = [term for term in movable if term not in down]
        return filtered(with_inputs(node, (self.push(self._inside(input), down),)), stay + stuck)

    def _set(self, node: SetOp, terms: list[Expr]) -> Node:
        sides: list[Node] = []
        for side in (node.left, node.right):
            mapping: dict[int, Expr] = {
                column: self.column(source) for column, source in zip(node.columns, side.columns)
            }
            sides.append(self.push(self._inside(side), [substitute(term, mapping) for term in terms]))
        return SetOp(node.kind, node.all, sides[0], sides[1], node.columns)

    def column(self, id: int) -> Col:
        """A reference to a column of the statement."""
        info = self.metadata[id]
        return Col(id, info.type, info.typmod, info.name)

    def _join(self, join: Join, terms: list[Expr]) -> Node:
        join = simplify_outer(join, terms)
        on = [self._expr(term) for term in conjuncts(join.on)]
        left_columns, right_columns = set(join.left.columns), set(join.right.columns)
        down_left: list[Expr] = []
        down_right: list[Expr] = []
        above: list[Expr] = []
        if join.kind == "inner":
            on, terms = (
                on + [term for term in terms if not is_correlated(term)],
                [term for term in terms if is_correlated(term)],
            )
        for term in terms:
            used = expr_columns(term)
            if is_correlated(term):
                above.append(term)
            elif not used & right_columns and join.kind in ("left", "semi", "anti"):
                down_left.append(term)
            elif not used & left_columns and join.kind == "right":
                down_right.append(term)
            else:
                above.append(term)
        kept: list[Expr] = []
        for term in on:
            used = expr_columns(term)
            if is_volatile(term):
                kept.append(term)
            elif (
                not used & left_columns
                and join.kind in ("inner", "left", "semi", "anti")
                and (used & right_columns or join.kind != "inner")
            ):
                down_right.append(term)
            elif not used & right_columns and join.kind in ("inner", "right", "semi"):
                down_left.append(term)
            else:
                kept.append(term)
        left = self.push(self._inside(join.left), down_left)
        right = self.push(self._inside(join.right), down_right)
        return filtered(Join(join.kind, left, right, conjoin(kept), join.lateral), above)


def is_correlated(term: Expr) -> bool:
    """True if the term runs a query per row: better after the joins, whose answers are remembered by row values."""
    return any_part(term, lambda part: isinstance(part, Subquery) and bool(free_columns(part.plan)))


def simplify_outer(join: Join, terms: Sequence[Expr]) -> Join:
    """Turns an outer join into a stronger one where the filter above drops the NULL rows anyway."""
    kind = join.kind
    left, right = set(join.left.columns), set(join.right.columns)
    if kind in ("left", "full") and any(rejects_null(term, right) for term in terms):
        kind = "inner" if kind == "left" else "right"
    if kind in ("right", "full") and any(rejects_null(term, left) for term in terms):
        kind = "inner" if kind == "right" else "left"
    return join if kind == join.kind else Join(kind, join.left, join.right, join.on, join.lateral)
