"""Builds table scans and row locks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kvtier.messages import Lock, Wait
from planner.exec.locking import LockRowsOp, LockTarget
from planner.exec.runtime import Operator
from planner.exec.scan import BoundPosition, Fetcher, ScanOp, SpanMaker
from planner.expr import Col, Expr, SortKey
from planner.nodes import Aggregate, Distinct, Filter, Join, LockRows, Node, Project, Scan, SetOp, Sort, Window
from planner.optimize.build_blocks import use_block
from planner.optimize.paths import COST_REQUEST, COST_SEEK, Path, Position
from planner.optimize.tree import base_scan, conjuncts, expr_columns, has_subquery, made_columns, walk_nodes

if TYPE_CHECKING:
    from base.arrays import holds_tuple
    from planner.access import IndexAccess
    from planner.optimize.physical import Builder
else:
    from base.arrays import holds_tuple


class ScanBuilder:
    """Part of the Builder."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder

    def scan(self, scan: Scan, terms: Sequence[Expr], order: Sequence[SortKey], limit: float | None) -> Operator:
        """The cheapest way to read a table; a locked one ends in LockRows unless its keys are given."""
        path = self.best_path(scan, terms, order, limit)
        if not scan.lock:
            return self.from_path(path, order)
        if path.is_point and path.index.is_primary:
            return self.from_path(path, order, lock_terms=tuple(terms))
        access = self.builder.access(scan)
        keys = tuple([scan.columns[scan.attnums.index(attnum)] for attnum in access.key_attnums])
        input = self.from_path(path, order)
        tested = [term for term in terms if not has_subquery(term)]
        return self.locked(input, [(scan, keys, scan.lock, scan.wait)], tested, set(scan.columns))

    def best_path(self, scan: Scan, terms: Sequence[Expr], order: Sequence[SortKey], limit: float | None) -> Path:
        return self.builder.paths.best(scan, self.builder.access(scan), terms, set(scan.columns), order, limit)

    def from_path(self, path: Path, order: Sequence[SortKey], lock_terms: tuple[Expr, ...] | None = None) -> ScanOp:
        """The operator of a path; with ``lock_terms`` rows are read under the scan's lock and tested in full."""
        builder, scan = self.builder, path.scan
        positions = [self._bound(position, path.index) for position in path.positions]
        residual = path.residual if lock_terms is None else lock_terms
        used = tuple(sorted(set(scan.attnums)))
        fetcher = Fetcher(path.index, scan.attnums, used, path.covering)
        spans = SpanMaker(path.index, positions, path.is_point)
        keep = builder.filter_function(residual, scan.columns) if residual else None
        lock, wait = (Lock(scan.lock), Wait(scan.wait)) if lock_terms is not None else (Lock.NONE, Wait.BLOCK)
        operator = ScanOp(
            scan.columns,
            path.index,
            fetcher,
            spans,
            keep,
            scan.alias,
            (path.matched, residual),
            path.reverse,
            lock,
            wait,
        )
        operator.order = self._order_of(path, order)
        operator.path = path
        use_block(builder, operator)
        operator.is_single = path.is_unique and all(position.kind == "value" for position in path.positions)
        startup = COST_REQUEST + COST_SEEK
        operator.estimate(path.rows, path.cost, min(startup, path.cost))
        return operator

    def _order_of(self, path: Path, order: Sequence[SortKey]) -> tuple[tuple[int, bool, bool], ...]:
        if path.ordered:
            from planner.optimize.operators import strip_relabel

            wanted = [(strip_relabel(key.expr), key) for key in order]
            if all(isinstance(expr, Col) for expr, _ in wanted):
                return tuple(
                    [(expr.id, key.descending, key.nulls_first) for expr, key in wanted if isinstance(expr, Col)]
                )
        return ()

    def _bound(self, position: Position, index: IndexAccess) -> BoundPosition:
        builder = self.builder
        values = [builder.scalar_function(value) for value in position.values]
        lower = None if position.lower is None else builder.scalar_function(position.lower)
        upper = None if position.upper is None else builder.scalar_function(position.upper)
        bound = BoundPosition(position.kind, values, lower, position.lower_inclusive, upper, position.upper_inclusive)
        if position.kind == "regions":
            bound.regions = index.regions
        if position.kind == "array":
            elem = position.values[0].type.elem
            bound.scalar_tuple = elem is not None and holds_tuple(elem)
        return bound

    # --- locks

    def lock_rows(self, node: LockRows, order: Sequence[SortKey], limit: float | None) -> Operator:
        """LockRows of the binder: each target's columns are found by its scan."""
        scans = {(part.alias, part.table.id): part for part in walk_nodes(node.input) if isinstance(part, Scan)}
        targets = []
        for alias, table, keys, lock, wait in node.targets:
            targets.append((scans[alias, table.id], keys, lock, wait))
        if len(targets) == 1 and base_scan(node.input) is targets[0][0]:
            scan, _, lock, wait = targets[0]
            terms: list[Expr] = []
            part = node.input
            while isinstance(part, Filter):
                terms += conjuncts(part.condition)
                part = part.input
            return self.scan(Scan(scan.table, scan.columns, scan.attnums, scan.alias, lock, wait), terms, order, limit)
        input = self.builder.build(node.input, order, limit)
        return self.locked(input, targets, testable_terms(node.input), made_columns(node.input))

    def locked(
        self,
        input: Operator,
        targets: Sequence[tuple[Scan, tuple[int, ...], int, int]],
        terms: Sequence[Expr],
        inner: set[int],
        is_optional: bool = False,
    ) -> Operator:
        """LockRows over the input; ``terms`` hold below it, ``inner`` are the columns made there.

        ``is_optional``: the targets are outer joined, and ``terms`` are the join's.
        """
        builder = self.builder
        columns = input.columns
        locks: list[LockTarget] = []
        for scan, keys, lock, wait in targets:
            seen = [(attnum, columns.index(id)) for id, attnum in zip(scan.columns, scan.attnums) if id in columns]
            positions = [columns.index(id) for id in keys]
            attnums = tuple([attnum for attnum, _ in seen])
            locks.append(
                LockTarget(
                    builder.access(scan),
                    positions,
                    attnums,
                    [at for _, at in seen],
                    Lock(lock),
                    Wait(wait),
                    is_optional,
                )
            )
        available = set(columns)
        outer_free = builder.free
        builder.free = set()
        kept = [term for term in terms if expr_columns(term) & inner <= available]
        recheck = builder.filter_function(kept, columns) if kept else None
        builder.free |= outer_free
        operator = LockRowsOp(input, locks, recheck)
        operator.estimate(input.rows, input.cost + 3.0 * input.rows, input.startup_cost)
        return operator


def testable_terms(node: Node) -> list[Expr]:
    """Conditions below that every row of the tree fulfils, without subqueries."""
    found: list[Expr] = []
    if isinstance(node, Filter):
        found += conjuncts(node.condition)
    if isinstance(node, Join) and node.kind == "inner":
        found += conjuncts(node.on)
    if isinstance(node, (Filter, Project, Sort)) or (isinstance(node, Join) and node.kind == "inner"):
        for child in node.inputs():
            found += testable_terms(child)
    return [term for term in found if not has_subquery(term)]


def hoist_locks(node: Node, keys_of: Any) -> Node:
    """Moves the lock of a single-table query above its sort, so that LIMIT stops the locking, too.

    Sort(Project(Filter(Scan FOR UPDATE)))  becomes  Project(LockRows(Sort(Filter(Scan))))
    """
    from planner.optimize.tree import substitute

    if not isinstance(node, Sort):
        return node
    projects: list[Project] = []
    inner: Node = node.input
    while isinstance(inner, (Project, Filter)) and base_scan(inner) is None:
        if isinstance(inner, Filter):
            return node
        projects.append(inner)
        inner = inner.input
    scan = base_scan(inner)
    if scan is None or not scan.lock:
        return node
    keys = node.keys
    for project in projects:
        mapping = dict(zip(project.columns, project.exprs))
        keys = tuple([SortKey(substitute(key.expr, mapping), key.descending, key.nulls_first) for key in keys])
    unlocked = Scan(scan.table, scan.columns, scan.attnums, scan.alias)
    target = (scan.alias, scan.table, keys_of(scan), scan.lock, scan.wait)
    result: Node = LockRows(Sort(_replace_scan(inner, unlocked), keys), (target,))
    for project in reversed(projects):
        result = Project(result, project.columns, project.exprs)
    return result


def _replace_scan(node: Node, scan: Scan) -> Node:
    if isinstance(node, Filter):
        return Filter(_replace_scan(node.input, scan), node.condition)
    return scan


BLOCKING = (Aggregate, Distinct, SetOp, Window)
