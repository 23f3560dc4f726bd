"""Column pruning: every node keeps only the columns that something above it reads.

Set operations, CTEs and the inputs of writes are positional and keep all of theirs; what is
below them is pruned by what they themselves read.
"""

from __future__ import annotations

from collections.abc import Iterable

from planner.expr import Expr, Subquery, transform
from planner.nodes import (
    Aggregate,
    CteScan,
    Delete,
    Distinct,
    Filter,
    Insert,
    Join,
    Limit,
    LockRows,
    Merge,
    Node,
    Project,
    ProjectSet,
    Scan,
    SetOp,
    Sort,
    Update,
    VirtualScan,
    Window,
    With,
)  # fmt: skip
from planner.optimize.tree import add_columns, is_volatile, map_exprs, node_exprs, with_inputs


def prune_root(node: Node) -> Node:
    """Prunes a whole query, whose columns are all wanted."""
    return prune(node, set(node.columns))


def _prune_subqueries(expr: Expr) -> Expr:
    def rewrite(part: Expr) -> Expr:
        if isinstance(part, Subquery):
            plan = prune_root(part.plan) if part.kind != "exists" else prune(part.plan, set())
            return Subquery(part.kind, plan, part.type, part.typmod, part.test)
        return part

    return transform(expr, rewrite)


def _reads(exprs: Iterable[Expr], wanted: set[int]) -> set[int]:
    found = set(wanted)
    for expr in exprs:
        add_columns(expr, found)
    return found


def prune(node: Node, wanted: set[int]) -> Node:
    """The node giving at least ``wanted``, and little more."""
    node = map_exprs(node, _prune_subqueries)
    if isinstance(node, Scan):
        return _prune_scan(node, wanted)
    if isinstance(node, VirtualScan):
        kept = [i for i, id in enumerate(node.columns) if id in wanted]
        return VirtualScan(
            node.relation,
            tuple([node.columns[i] for i in kept]),
            tuple([node.positions[i] for i in kept]),
            node.alias,
            node.filters,
        )
    if isinstance(node, CteScan):
        return node
    if isinstance(node, Filter):
        return with_inputs(node, (prune(node.input, _reads([node.condition], wanted)),))
    if isinstance(node, Project):
        return _prune_project(node, wanted)
    if isinstance(node, Join):
        return _prune_join(node, wanted)
    if isinstance(node, Aggregate):
        return _prune_aggregate(node, wanted)
    if isinstance(node, Sort):
        return with_inputs(node, (prune(node.input, _reads([key.expr for key in node.keys], wanted)),))
    if isinstance(node, Limit):
        extra = _tie_columns(node.input) if node.with_ties else set()
        return with_inputs(node, (prune(node.input, wanted | extra),))
    if isinstance(node, Window):
        return _prune_window(node, wanted)
    if isinstance(node, LockRows):
        return with_inputs(node, (prune(node.input, wanted | {id for target in node.targets for id in target[2]}),))
    if isinstance(node, Distinct):
        return with_inputs(
            node, (prune(node.input, set(node.input.columns) if node.on is None else wanted | set(node.on)),)
        )
    return _prune_positional(node, wanted)


def _tie_columns(node: Node) -> set[int]:
    while isinstance(node, (Project, LockRows)):
        node = node.input
    return _reads([key.expr for key in node.keys], set()) if isinstance(node, Sort) else set()


def _prune_positional(node: Node, wanted: set[int]) -> Node:
    if isinstance(node, With):
        for cte in node.ctes:
            if cte.plan is not None:
                cte.plan = prune_root(cte.plan)
            if cte.step is not None:
                cte.step = prune_root(cte.step)
        return with_inputs(node, (prune(node.input, wanted),))
    if isinstance(node, SetOp):
        return with_inputs(node, (prune_root(node.left), prune_root(node.right)))
    if isinstance(node, Insert):
        return with_inputs(node, (prune_root(node.input),))
    if isinstance(node, (Update, Delete)):
        exprs = list(node.returning[1]) if node.returning is not None else []
        if isinstance(node, Update):
            exprs += [expr for _, expr in node.sets]
        return with_inputs(node, (prune(node.input, _reads(exprs, set(node.old)) & (set(node.input.columns))),))
    if isinstance(node, Merge):
        reads = _reads(node_exprs(node), set(node.old))
        return with_inputs(node, (prune(node.input, reads & set(node.input.columns)),))
    if isinstance(node, ProjectSet):
        return with_inputs(node, (prune(node.input, _reads(node.exprs, set())),))
    inputs = node.inputs()
    return with_inputs(node, tuple([prune_root(child) for child in inputs])) if inputs else node


def _prune_scan(node: Scan, wanted: set[int]) -> Scan:
    kept = [i for i, id in enumerate(node.columns) if id in wanted]
    if node.lock:
        keys = {column.column_id for column in node.table.indexes[0].columns}
        kept = [i for i, id in enumerate(node.columns) if id in wanted or node.attnums[i] in keys]
    if len(kept) == len(node.columns):
        return node
    columns, attnums = tuple([node.columns[i] for i in kept]), tuple([node.attnums[i] for i in kept])
    return Scan(node.table, columns, attnums, node.alias, node.lock, node.wait)


def _prune_project(node: Project, wanted: set[int]) -> Node:
    kept = [i for i, id in enumerate(node.columns) if id in wanted or is_volatile(node.exprs[i])]
    exprs = tuple([node.exprs[i] for i in kept])
    return Project(prune(node.input, _reads(exprs, set())), tuple([node.columns[i] for i in kept]), exprs)


def _prune_join(node: Join, wanted: set[int]) -> Node:
    needed = _reads([node.on] if node.on is not None else [], wanted)
    right = prune(node.right, needed & set(node.right.columns))
    # A lateral right side reads columns of the left one.
    from planner.optimize.tree import free_columns

    left = prune(node.left, (needed | free_columns(right)) & set(node.left.columns))
    return Join(node.kind, left, right, node.on, node.lateral)


def _prune_aggregate(node: Aggregate, wanted: set[int]) -> Node:
    kept = [i for i, id in enumerate(node.agg_columns) if id in wanted]
    aggs = tuple([node.aggs[i] for i in kept])
    input = prune(node.input, _reads(aggs, set(node.group)))
    return Aggregate(
        input, node.group, tuple([node.agg_columns[i] for i in kept]), aggs, node.grouping_sets, node.grouping_column
    )


def _prune_window(node: Window, wanted: set[int]) -> Node:
    exprs = [*node.calls, *node.partition_by, *[key.expr for key in node.order_by]]
    exprs += [bound[1] for bound in (node.frame.start, node.frame.end) if bound[1] is not None]
    return with_inputs(node, (prune(node.input, _reads(exprs, wanted - set(node.window_columns))),))
