"""GROUP BY, aggregates, HAVING.

Grouped expressions become columns: plain columns keep their ids, others are computed below the
Aggregate.  Everything above it is then rewritten over those columns, and a column that is neither grouped nor
in an aggregate is 42803 unless the primary key of its table is grouped.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from sqlglot import exp

from base.errors import FeatureNotSupported, error
from base.types import INT4
from planner.expr import AggCall, Col, Const, Expr, SortKey
from planner.nodes import Aggregate, ColumnInfo, Node, Project
from planner.schema import PRIMARY_INDEX_ID
from sql.binder.calls import require_equality
from sql.binder.coerce import resolve_unknown
from sql.binder.context import BindContext
from sql.binder.equality import expr_key
from sql.binder.scope import RangeItem, Scope
from sql.binder.targets import Target
from sql.binder.tree import form_of, position_of
from sql.parse import forms

if TYPE_CHECKING:
    from sql.binder.expressions import ExprBinder
    from sql.binder.query_state import QueryState

GROUPING_SETS_MAX: Final = 4096
"""As PostgreSQL."""
CUBE_MAX: Final = 12


class Grouping:
    """The grouped expressions of a query and the sets over them (None: one plain GROUP BY)."""

    def __init__(self) -> None:
        self.exprs: list[Expr] = []
        self.keys: list[Any] = []
        self.sets: list[tuple[int, ...]] | None = None
        self.ids: list[int] = []
        self.mask: int | None = None

    def add(self, expr: Expr) -> int:
        """Position of an expression among the grouped ones."""
        key = expr_key(expr)
        for i, known in enumerate(self.keys):
            if known == key:
                return i
        self.exprs.append(expr)
        self.keys.append(key)
        return len(self.keys) - 1


# --- reading GROUP BY -----------------------------------------------------------------------------


def bind_group(binder: ExprBinder, nodes: Sequence[exp.Expr], targets: list[Target]) -> Grouping:
    """Binds the items of GROUP BY."""
    grouping = Grouping()
    plain: list[int] = []
    dimensions: list[list[tuple[int, ...]]] = []
    for node in nodes:
        if form_of(node) in (forms.ROLLUP, forms.CUBE, forms.SETS, forms.EMPTY):
            dimensions.append(_sets(binder, node, targets, grouping))
        else:
            plain.extend(_element(binder, node, targets, grouping))
    if not dimensions:
        return grouping
    combined: list[tuple[int, ...]] = []
    for chosen in product(*dimensions):
        positions = dict.fromkeys(plain)
        for part in chosen:
            positions.update(dict.fromkeys(part))
        combined.append(tuple(sorted(positions)))
        if len(combined) > GROUPING_SETS_MAX:
            raise error("54001", f"too many grouping sets present (maximum {GROUPING_SETS_MAX})")
    grouping.sets = combined
    return grouping


def _element(binder: ExprBinder, node: exp.Expr, targets: list[Target], grouping: Grouping) -> list[int]:
    """Positions of one element: an expression, or a parenthesised list of them."""
    if form_of(node) == forms.EMPTY:
        return []
    if form_of(node) == forms.ROW:
        return [grouping.add(_expression(binder, item, targets)) for item in node.expressions]
    return [grouping.add(_expression(binder, node, targets))]


def _sets(binder: ExprBinder, node: exp.Expr, targets: list[Target], grouping: Grouping) -> list[tuple[int, ...]]:
    form = form_of(node)
    if form == forms.EMPTY:
        return [()]
    if form == forms.SETS:
        found: list[tuple[int, ...]] = []
        for item in node.expressions:
            if form_of(item) in (forms.ROLLUP, forms.CUBE, forms.SETS):
                found.extend(_sets(binder, item, targets, grouping))
            else:
                found.append(tuple(_element(binder, item, targets, grouping)))
        return found
    elements = [tuple(_element(binder, item, targets, grouping)) for item in node.expressions]
    if form == forms.ROLLUP:
        return [_flat(elements[:count]) for count in range(len(elements), -1, -1)]
    if len(elements) > CUBE_MAX:
        raise error("54011", f"CUBE is limited to {CUBE_MAX} elements", position=position_of(node) + 1)
    size = len(elements)
    return [
        _flat([elements[i] for i in range(size) if bits >> (size - 1 - i) & 1])
        for bits in range((1 << size) - 1, -1, -1)
    ]


def _flat(elements: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(dict.fromkeys([position for element in elements for position in element]))


def _expression(binder: ExprBinder, node: exp.Expr, targets: list[Target]) -> Expr:
    """One grouped expression: an ordinal, an input column, an output name, or any expression."""
    position = position_of(node)
    if isinstance(node, exp.Literal):
        found = _ordinal(node, targets, position)
    elif isinstance(node, exp.Column) and not node.args.get("table"):
        found = _named(binder, node, targets)
    else:
        found = binder.bind(node)
    found = resolve_unknown(binder.ctx, found, position)
    require_equality(binder, found.type, position)
    state = binder.scope.state
    if state is not None and isinstance(found, Col):
        if found.id in state.agg_ids:
            raise error("42803", "aggregate functions are not allowed in GROUP BY", position=position + 1)
        if found.id in state.window_ids:
            raise error("42P20", "window functions are not allowed in GROUP BY", position=position + 1)
        if found.id in state.set_ids:
            raise FeatureNotSupported("GROUP BY of a set-returning function is not supported", position=position + 1)
    return found


def _ordinal(node: exp.Expr, targets: list[Target], position: int) -> Expr:
    text = str(node.this)
    if node.args.get("is_string") or not text.isdigit():
        raise error("42601", "non-integer constant in GROUP BY", position=position + 1)
    number = int(text)
    if not 1 <= number <= len(targets):
        raise error("42P10", f"GROUP BY position {number} is not in select list", position=position + 1)
    return targets[number - 1].expr


def _named(binder: ExprBinder, node: exp.Expr, targets: list[Target]) -> Expr:
    """A bare name: an input column of this level first, then an output name (SQL:1999 over SQL92)."""
    name = node.name
    if any(c.name == name for c in binder.scope.columns):
        return binder.bind(node)
    found = [target for target in targets if target.name == name]
    if not found:
        return binder.bind(node)
    if any(expr_key(target.expr) != expr_key(found[0].expr) for target in found[1:]):
        raise error("42702", f'GROUP BY "{name}" is ambiguous', position=position_of(node) + 1)
    return found[0].expr


# --- building the plan ------------------------------------------------------------------------------


def build_aggregate(ctx: BindContext, node: Node, scope: Scope, state: QueryState, grouping: Grouping) -> Node:
    """The Aggregate over ``node``, computing grouped expressions below it where they are not columns."""
    computed: list[tuple[int, Expr]] = []
    for expr in grouping.exprs:
        if isinstance(expr, Col) and expr.id in node.columns:
            grouping.ids.append(expr.id)
        else:
            id = ctx.metadata.add(ColumnInfo("?column?", expr.type, expr.typmod))
            computed.append((id, expr))
            grouping.ids.append(id)
    if computed:
        passed = [Col(id, ctx.metadata[id].type, ctx.metadata[id].typmod, ctx.metadata[id].name) for id in node.columns]
        ids = node.columns + tuple([id for id, _ in computed])
        node = Project(node, ids, (*passed, *[expr for _, expr in computed]))
    dependent = [] if grouping.sets is not None else _dependent_columns(scope, grouping)
    if grouping.sets is not None and state.grouping_calls:
        grouping.mask = ctx.add_column("grouping", INT4)
    group = tuple(grouping.ids) + tuple(dependent)
    return Aggregate(
        node,
        group,
        tuple(state.agg_columns),
        tuple(state.aggs),
        None if grouping.sets is None else tuple(grouping.sets),
        grouping.mask,
    )


def _dependent_columns(scope: Scope, grouping: Grouping) -> list[int]:
    """Columns of tables whose primary key is grouped: they have one value per group."""
    grouped = set(grouping.ids)
    found: list[int] = []
    for item in scope.items:
        if _has_key(item, grouped):
            found.extend(c.id for c in (*item.columns, *item.hidden) if c.id not in grouped)
    return found


def _has_key(item: RangeItem, grouped: set[int]) -> bool:
    table = item.table
    if table is None or table.kind != "r" or not table.indexes:
        return False
    primary = table.indexes[0]
    if primary.id != PRIMARY_INDEX_ID:
        return False
    ids = {c.attnum: c.id for c in (*item.columns, *item.hidden)}
    return all(column.column_id in ids and ids[column.column_id] in grouped for column in primary.named)


class Regrouper:
    """Rewrites expressions of the select list, HAVING, ORDER BY and windows over the Aggregate's output."""

    def __init__(
        self,
        ctx: BindContext,
        binder: ExprBinder,
        scope: Scope,
        state: QueryState,
        grouping: Grouping,
        available: Sequence[int],
    ) -> None:
        self.ctx = ctx
        self.binder = binder
        self.scope = scope
        self.grouping = grouping
        self.available = set(available)
        self.mapping = {key: (id, expr) for key, id, expr in zip(grouping.keys, grouping.ids, grouping.exprs)}
        self.grouping_calls = {id: (args, position) for id, args, position in state.grouping_calls}

    def rewrite(self, expr: Expr, node: exp.Expr | None) -> Expr:
        """``node`` is where errors point to."""
        found = self.mapping.get(expr_key(expr)) if self.mapping else None
        if found is not None:
            id, grouped = found
            return Col(id, grouped.type, grouped.typmod, self.ctx.metadata[id].name)
        if isinstance(expr, Col):
            return self._column(expr, node)
        children = expr.children()
        if not children:
            return expr
        new = tuple([self.rewrite(child, node) for child in children])
        return expr.with_children(new) if any(a is not b for a, b in zip(new, children)) else expr

    def _column(self, expr: Col, node: exp.Expr | None) -> Expr:
        call = self.grouping_calls.get(expr.id)
        if call is not None:
            return self._grouping_value(*call)
        if expr.id in self.available or not self.scope.owns(expr.id):
            return expr
        raise self.ungrouped(expr.id, node, expr.name)

    def ungrouped(self, id: int, node: exp.Expr | None, name: str) -> Exception:
        label = name
        for item in self.scope.items:
            if any(c.id == id for c in (*item.columns, *item.hidden)):
                column = next(c for c in (*item.columns, *item.hidden) if c.id == id)
                label = f"{item.alias}.{column.name}"
                name = column.name
        position = -1
        if node is not None:
            position = next((position_of(c) for c in node.find_all(exp.Column) if c.name == name), position_of(node))
        text = f'column "{label}" must appear in the GROUP BY clause or be used in an aggregate function'
        return error("42803", text, position=position + 1 if position >= 0 else None)

    def check_outer(self, refs: Sequence[tuple[int, int, str]]) -> None:
        """Columns of this level that subqueries use must be grouped too."""
        for id, position, name in refs:
            if id not in self.available:
                label = (
                    name
                    if "." in name
                    else next(
                        (f"{i.alias}.{name}" for i in self.scope.items if any(c.id == id for c in i.columns)), name
                    )
                )
                text = f'subquery uses ungrouped column "{label}" from outer query'
                raise error("42803", text, position=position + 1)

    def keys(self, keys: Sequence[SortKey], node: exp.Expr | None = None) -> tuple[SortKey, ...]:
        return tuple([SortKey(self.rewrite(key.expr, node), key.descending, key.nulls_first) for key in keys])

    def call(self, call: AggCall) -> AggCall:
        """A window function's call: its arguments are over the Aggregate's output."""
        args = tuple([self.rewrite(arg, None) for arg in call.args])
        condition = None if call.filter is None else self.rewrite(call.filter, None)
        return AggCall(call.function, args, call.type, call.typmod, call.distinct, condition, self.keys(call.order_by))

    def _grouping_value(self, args: tuple[Expr, ...], position: int) -> Expr:
        """GROUPING(a, b) from the Aggregate's bit mask, in which the first grouped expression is the highest bit."""
        positions: list[int] = []
        for arg in args:
            key = expr_key(arg)
            if key not in self.grouping.keys:
                text = "arguments to GROUPING must be grouping expressions of the associated query level"
                raise error("42803", text, position=position + 1)
            positions.append(self.grouping.keys.index(key))
        if self.grouping.mask is None:
            return Const(0, INT4)
        count = len(self.grouping.ids)
        mask = Col(self.grouping.mask, INT4, -1, "grouping")
        total: Expr | None = None
        for i, at in enumerate(positions):
            bit = self._int_op("&", self._int_op(">>", mask, count - 1 - at), 1)
            term = self._int_op("<<", bit, len(positions) - 1 - i)
            total = term if total is None else self.binder.operator("|", total, term, -1)
        assert total is not None, f"{args=}"
        return total

    def _int_op(self, symbol: str, left: Expr, right: int) -> Expr:
        return self.binder.operator(symbol, left, Const(right, INT4), -1)


def rewrite_state(state: QueryState, regrouper: Regrouper) -> None:
    """Windows and set-returning calls, over the Aggregate's output."""
    for window in state.windows:
        window.calls = [regrouper.call(call) for call in window.calls]
        window.partition_by = tuple([regrouper.rewrite(expr, None) for expr in window.partition_by])
        window.order_by = regrouper.keys(window.order_by)
    for level in state.sets:
        for i, (id, expr) in enumerate(level):
            level[i] = (id, regrouper.rewrite(expr, None))
