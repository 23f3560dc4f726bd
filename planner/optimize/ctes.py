"""CTEs that are read once, and have no effects, become part of the query that reads them.

PostgreSQL 15 manual 7.8.3: a side-effect-free, non-recursive WITH query referenced once is folded
into the parent; MATERIALIZED prevents it.
"""

from __future__ import annotations

from planner.expr import Expr, Subquery, transform
from planner.nodes import Cte, CteScan, Metadata, Node, Project, With
from planner.optimize.pushdown import FilterPusher
from planner.optimize.tree import cte_uses, has_effects, map_exprs, map_tree


class CteInliner:
    """Inlines CTEs of one statement."""

    def __init__(self, metadata: Metadata) -> None:
        self.pusher = FilterPusher(metadata)
        self.inline: dict[int, Cte] = {}

    def tree(self, root: Node) -> Node:
        uses = cte_uses(root)
        self._choose(root, uses)
        return map_tree(root, self._node) if self.inline else root

    def _choose(self, root: Node, uses: dict[int, int]) -> None:
        def visit(node: Node) -> Node:
            if isinstance(node, With):
                for cte in node.ctes:
                    if may_inline(cte, uses.get(id(cte), 0)):
                        self.inline[id(cte)] = cte
            map_exprs(node, visit_expr)
            return node

        def visit_expr(expr: Expr) -> Expr:
            return transform(
                expr, lambda part: (map_tree(part.plan, visit), part)[1] if isinstance(part, Subquery) else part
            )

        map_tree(root, visit)

    def _node(self, node: Node) -> Node:
        node = map_exprs(node, lambda expr: transform(expr, self._part))
        if isinstance(node, CteScan) and id(node.cte) in self.inline:
            plan = node.cte.plan
            assert plan is not None
            plan = map_tree(plan, self._node)
            return Project(plan, node.columns, tuple([self.pusher.column(column) for column in plan.columns]))
        if isinstance(node, With):
            kept = tuple([cte for cte in node.ctes if id(cte) not in self.inline])
            return With(kept, node.input) if kept else node.input
        return node

    def _part(self, part: Expr) -> Expr:
        if isinstance(part, Subquery):
            return Subquery(part.kind, map_tree(part.plan, self._node), part.type, part.typmod, part.test)
        return part


def may_inline(cte: Cte, uses: int) -> bool:
    """True if folding the CTE into its one reader cannot be told apart."""
    if cte.recursive or cte.plan is None or cte.materialized is True or uses != 1:
        return False
    return not has_effects(cte.plan)
