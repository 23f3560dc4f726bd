"""The phases of planning, in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from base.types import PgType
from planner.access import TypeResolver, builtin_type
from planner.exec.datums import parse_stored
from planner.exec.physical_plan import PhysicalPlan
from planner.expr import Expr, Subquery, transform
from planner.nodes import Aggregate, Insert, LockRows, Node, Project, Scan, SetOp, Statement
from planner.optimize.build_scan import hoist_locks
from planner.optimize.cardinality import Cardinality
from planner.optimize.ctes import CteInliner
from planner.optimize.decorrelate import Decorrelator
from planner.optimize.extremes import use_index_for_extreme
from planner.optimize.fast_plan import make_fast
from planner.optimize.joinorder import JoinOrderer, flatten
from planner.optimize.normalize import Normalizer
from planner.optimize.physical import Builder
from planner.optimize.prune import prune_root
from planner.optimize.pushdown import FilterPusher
from planner.optimize.registry import builtin_operators
from planner.optimize.selectivity import Estimator
from planner.optimize.tree import WRITERS, base_scan, is_writer, map_exprs, map_tree, walk_nodes, with_inputs
from planner.schema import TableStats

StatsSource = Callable[[int], TableStats | None]


def plan(
    statement: Statement, stats: StatsSource | None = None, settings: Any = None, types: TypeResolver | None = None
) -> PhysicalPlan:
    """Plans a bound statement; ``types`` resolves user-defined types of stored columns (None: those the statement names)."""
    planner = Planner(statement, stats or _no_stats, settings, types or StatementTypes(statement))
    return planner.plan()


class StatementTypes:
    """Resolves the types of a statement's own columns, and built-in ones."""

    def __init__(self, statement: Statement) -> None:
        self.found: dict[int, PgType] = {}
        for info in statement.metadata.columns:
            self._add(info.type)

    def _add(self, pg_type: PgType) -> None:
        self.found[pg_type.oid] = pg_type
        if pg_type.elem is not None:
            self.found[pg_type.elem.oid] = pg_type.elem

    def __call__(self, oid: int) -> PgType | None:
        return self.found.get(oid) or builtin_type(oid)


def _no_stats(table_id: int) -> TableStats | None:
    return None


class Planner:
    """Plans one statement."""

    def __init__(self, statement: Statement, stats: StatsSource, settings: Any, types: TypeResolver) -> None:
        self.statement = statement
        self.metadata = statement.metadata
        self.stats = stats
        self.operators = builtin_operators()
        self.estimator = Estimator(self.operators, parse_stored)
        self.builder = Builder(statement, stats, self.operators, self.estimator, types, settings)
        self.cardinality = Cardinality(self.builder)
        self.pusher = FilterPusher(self.metadata)
        self.orderer = JoinOrderer(self.operators, self.estimator, self.cardinality.of, self.cardinality.lookup)

    def plan(self) -> PhysicalPlan:
        root = self.rewrite(self.statement.root)
        builder = self.builder
        operator = builder.aligned(builder.build(root), self.statement.root.columns)
        assert not builder.free, f"columns from nowhere: {sorted(builder.free)}"
        types = tuple([self.metadata[id].type for id in self.statement.root.columns])
        reads_only = not is_writer(root) and not any(_locks(node) for node in walk_nodes(root))
        fast = make_fast(builder, operator)
        return PhysicalPlan(
            operator, self.statement.command, self.statement.params, builder.slot_count, builder.subplans,
            reads_only, fast, self.statement.output_names, types,
        )  # fmt: skip

    def rewrite(self, root: Node) -> Node:
        """All logical rewrites."""
        self._everywhere(root, self._register)
        root = Normalizer(self.operators).tree(root)
        root = CteInliner(self.metadata).tree(root)
        root = self.pusher.tree(root)
        root = Decorrelator(self.builder, self.cardinality).tree(root)
        root = self.pusher.tree(root)
        root = self._order_joins(root)
        root = map_tree(root, lambda node: hoist_locks(node, self._key_ids))
        root = self._everywhere(root, self._extremes)
        return prune_root(root)

    def _everywhere(self, root: Node, rewrite: Callable[[Node], Node]) -> Node:
        """Rewrites a tree and the plans of all its subqueries."""

        def part(expr: Expr) -> Expr:
            if isinstance(expr, Subquery):
                return Subquery(expr.kind, map_tree(expr.plan, visit), expr.type, expr.typmod, expr.test)
            return expr

        def visit(node: Node) -> Node:
            return rewrite(map_exprs(node, lambda expr: transform(expr, part)))

        return map_tree(root, visit)

    def _register(self, node: Node) -> Node:
        """Tells the estimator of a table's columns, and the path finder of a written table's expressions."""
        if isinstance(node, WRITERS):
            self.statement.table_exprs.setdefault(node.table.id, node.exprs)
        if isinstance(node, Scan):
            unique = frozenset(
                [
                    index.columns[0].column_id
                    for index in node.table.indexes
                    if (index.unique or index.id == 1) and len(index.columns) == 1 and not index.predicate
                ]
            )
            columns = [(id, attnum, self.metadata[id].type) for id, attnum in zip(node.columns, node.attnums)]
            self.estimator.add_table(columns, self.stats(node.table.id), unique)
        return node

    def _key_ids(self, scan: Scan) -> tuple[int, ...]:
        return tuple([scan.columns[scan.attnums.index(column.column_id)] for column in scan.table.indexes[0].columns])

    def _extremes(self, node: Node) -> Node:
        return use_index_for_extreme(self.builder, node) if isinstance(node, Aggregate) else node

    # --- join order

    def _order_joins(self, node: Node) -> Node:
        """Orders every cluster of inner joins, from the top; columns may come out in another order."""

        def part(expr: Expr) -> Expr:
            if isinstance(expr, Subquery):
                return Subquery(expr.kind, self._order_exactly(expr.plan), expr.type, expr.typmod, expr.test)
            return expr

        node = map_exprs(node, lambda expr: transform(expr, part))
        relations, terms = flatten(node)
        if len(relations) > 1:
            relations = [self._order_joins(relation) for relation in relations]
            ordered = self.orderer.order(relations, [transform(term, part) for term in terms])
            # Conditions found on the way (implied equalities) go down into composite relations.
            return (
                ordered
                if all(base_scan(relation) is not None for relation in relations)
                else self.pusher.push(ordered, [])
            )
        for cte in getattr(node, "ctes", ()):
            if cte.plan is not None:
                cte.plan = self._order_exactly(cte.plan)
            if cte.step is not None:
                cte.step = self._order_exactly(cte.step)
        inputs = node.inputs()
        if not inputs:
            return node
        order = self._order_exactly if isinstance(node, (SetOp, Insert)) else self._order_joins
        return with_inputs(node, tuple([order(child) for child in inputs]))

    def _order_exactly(self, node: Node) -> Node:
        """As _order_joins, for readers that go by position."""
        ordered = self._order_joins(node)
        if ordered.columns == node.columns:
            return ordered
        return Project(ordered, node.columns, tuple([self.builder.column(id) for id in node.columns]))


def _locks(node: Node) -> bool:
    return isinstance(node, LockRows) or (isinstance(node, Scan) and bool(node.lock))
