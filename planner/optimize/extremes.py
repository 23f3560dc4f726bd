"""min and max read one end of an index.

    Aggregate(min(a))  over x     becomes     Aggregate(min(a)) over Limit 1 (Sort a (x where a is not null))

Only where an index gives that order; the aggregate stays, and sees one row at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from base.types import INT8
from planner.expr import Col, Const, IsNull, SortKey
from planner.nodes import Aggregate, Filter, Limit, Node, Sort
from planner.optimize.tree import base_scan, conjuncts, has_subquery

if TYPE_CHECKING:
    from planner.optimize.physical import Builder


def use_index_for_extreme(builder: Builder, node: Aggregate) -> Node:
    """The aggregate over one row, if it is a single min or max and an index has it first."""
    if node.group or len(node.aggs) != 1 or node.grouping_sets is not None:
        return node
    call = node.aggs[0]
    if call.function.name not in ("min", "max") or call.filter is not None or len(call.args) != 1:
        return node
    column = call.args[0]
    scan = base_scan(node.input)
    if scan is None or scan.lock or not isinstance(column, Col) or column.id not in scan.columns:
        return node
    terms = [term for part in _filters(node.input) for term in conjuncts(part.condition)]
    if any(has_subquery(term) for term in terms):
        return node
    key = SortKey(column, call.function.name == "max", call.function.name == "max")
    present = IsNull(column, True)
    path = builder.paths.best(scan, builder.access(scan), [*terms, present], set(scan.columns), [key], 1.0)
    if not path.ordered:
        return node
    first = Limit(Sort(Filter(node.input, present), (key,)), Const(1, INT8), None)
    return Aggregate(first, node.group, node.agg_columns, node.aggs)


def _filters(node: Node) -> list[Filter]:
    found = []
    while isinstance(node, Filter):
        found.append(node)
        node = node.input
    return found
