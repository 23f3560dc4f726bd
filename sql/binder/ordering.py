"""ORDER BY, DISTINCT, LIMIT and row locks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlglot import exp

from base.errors import error
from base.types import INT8
from kvtier.messages import Lock, Wait
from planner.expr import Col, Expr, SortKey
from planner.nodes import Join, Limit, LockRows, Node, Sort
from planner.schema import TableDesc
from sql.binder.calls import directions, require_sortable
from sql.binder.coerce import required, resolve_unknown
from sql.binder.context import Source
from sql.binder.equality import expr_key
from sql.binder.scope import RangeItem, Scope
from sql.binder.targets import Target
from sql.binder.tree import form_of, position_of
from sql.parse import forms

if TYPE_CHECKING:
    from sql.binder.expressions import ExprBinder
    from sql.binder.queries import BoundQuery, OutColumn, QueryBinder

LockTarget = tuple[str, TableDesc, tuple[int, ...], int, int]


class OrderItem:
    """One ORDER BY key: a target and a direction."""

    __slots__ = ("descending", "nulls_first", "target")

    def __init__(self, target: Target, descending: bool, nulls_first: bool) -> None:
        self.target = target
        self.descending = descending
        self.nulls_first = nulls_first


def bind_order(binder: ExprBinder, order: exp.Expr | None, targets: list[Target]) -> list[OrderItem]:
    """Binds ORDER BY; expressions that are no outputs are added to ``targets`` as hidden ones."""
    if order is None:
        return []
    items: list[OrderItem] = []
    for ordered in order.expressions:
        target = find_target(binder, ordered.this, targets, "ORDER BY")
        target.expr = resolve_unknown(binder.ctx, target.expr, target.position)
        require_sortable(binder, target.expr.type, position_of(ordered.this))
        items.append(OrderItem(target, *directions(ordered)))
    return items


def find_target(binder: ExprBinder, node: exp.Expr, targets: list[Target], clause: str) -> Target:
    """The target that an ORDER BY or DISTINCT ON item means: by name, by number, or by equal expression."""
    position = position_of(node)
    visible = [target for target in targets if not target.is_hidden]
    if isinstance(node, exp.Column) and not node.args.get("table") and not isinstance(node.this, exp.Star):
        found = [target for target in visible if target.name == node.name]
        if found:
            if any(expr_key(target.expr) != expr_key(found[0].expr) for target in found[1:]):
                raise error("42702", f'{clause} "{node.name}" is ambiguous', position=position + 1)
            return found[0]
    if isinstance(node, exp.Literal):
        text = str(node.this)
        if node.args.get("is_string") or not text.isdigit():
            raise error("42601", f"non-integer constant in {clause}", position=position + 1)
        if not 1 <= int(text) <= len(visible):
            raise error("42P10", f"{clause} position {text} is not in select list", position=position + 1)
        return visible[int(text) - 1]
    expr = binder.bind(node)
    key = expr_key(expr)
    for target in targets:
        if expr_key(target.expr) == key:
            return target
    target = Target("?column?", expr, node, position, True)
    targets.append(target)
    return target


def sort_keys(items: Sequence[OrderItem], by_column: bool) -> tuple[SortKey, ...]:
    """Keys over the computed columns, or over the expressions themselves."""
    keys: list[SortKey] = []
    for item in items:
        expr = item.target.expr
        if by_column:
            expr = Col(item.target.id, expr.type, expr.typmod, item.target.name)
        keys.append(SortKey(expr, item.descending, item.nulls_first))
    return tuple(keys)


def order_set_operation(queries: QueryBinder, query: BoundQuery, node: exp.Expr, source: Source) -> BoundQuery:
    """ORDER BY of UNION and its kin: output names and numbers only."""
    order = node.args.get("order")
    if order is None:
        return query
    keys: list[SortKey] = []
    for ordered in order.expressions:
        column = _set_column(query.columns, ordered.this)
        expr: Expr = Col(column.id, column.type, column.typmod, column.name)
        keys.append(SortKey(expr, *directions(ordered)))
    query.node = Sort(query.node, tuple(keys))
    return query


def _set_column(columns: Sequence[OutColumn], node: exp.Expr) -> OutColumn:
    position = position_of(node)
    if isinstance(node, exp.Literal) and not node.args.get("is_string") and str(node.this).isdigit():
        number = int(str(node.this))
        if not 1 <= number <= len(columns):
            raise error("42P10", f"ORDER BY position {number} is not in select list", position=position + 1)
        return columns[number - 1]
    if isinstance(node, exp.Column) and not node.args.get("table"):
        found = [column for column in columns if column.name == node.name]
        if len(found) > 1:
            raise error("42702", f'ORDER BY "{node.name}" is ambiguous', position=position + 1)
        if found:
            return found[0]
        raise error("42703", f'column "{node.name}" does not exist', position=position + 1)
    raise error(
        "0A000", "invalid UNION/INTERSECT/EXCEPT ORDER BY clause", position=position + 1,
        detail="Only result column names can be used, not expressions or functions.",
        hint="Add the expression/function to every SELECT, or move the UNION into a FROM clause.",
    )  # fmt: skip


# --- LIMIT ------------------------------------------------------------------------------------------


def bind_limits(
    queries: QueryBinder, node: exp.Expr, scope: Scope | None, source: Source
) -> tuple[Expr | None, Expr | None, bool]:
    """(limit, offset, with ties)."""
    from sql.binder.expressions import ExprBinder

    outer = Scope(scope)
    limit = offset = None
    ties = False
    offset_node, limit_node = node.args.get("offset"), node.args.get("limit")
    if offset_node is not None:
        offset = _count(ExprBinder(queries.ctx, source, outer, queries, "OFFSET"), offset_node.expression, "OFFSET")
    if limit_node is not None:
        value = limit_node.expression
        if form_of(value) == forms.TIES:
            ties, value = True, value.expressions[0]
            if not node.args.get("order"):
                raise error("42601", "WITH TIES cannot be specified without ORDER BY clause")
        limit = _count(ExprBinder(queries.ctx, source, outer, queries, "LIMIT"), value, "LIMIT")
    return limit, offset, ties


def _count(binder: ExprBinder, node: exp.Expr, clause: str) -> Expr:
    for column in node.find_all(exp.Column):
        if column.find_ancestor(exp.Subquery) is None:
            raise error("42P10", f"argument of {clause} must not contain variables", position=position_of(column) + 1)
    return required(binder.ctx, binder.bind(node), INT8, clause, position_of(node))


def limit_clause(
    queries: QueryBinder, query: BoundQuery, node: exp.Expr, scope: Scope | None, source: Source
) -> BoundQuery:
    """LIMIT and OFFSET of a set operation."""
    limit, offset, ties = bind_limits(queries, node, scope, source)
    if limit is not None or offset is not None:
        query.node = Limit(query.node, limit, offset, ties)
    return query


# --- FOR UPDATE -------------------------------------------------------------------------------------


def lock_name(lock: exp.Expr) -> str:
    """FOR UPDATE, FOR NO KEY UPDATE, FOR SHARE, FOR KEY SHARE."""
    if lock.args.get("update"):
        return "FOR NO KEY UPDATE" if lock.args.get("key") else "FOR UPDATE"
    return "FOR KEY SHARE" if lock.args.get("key") else "FOR SHARE"


def lock_targets(scope: Scope, node: Node, locks: Sequence[exp.Expr]) -> tuple[LockTarget, ...]:
    """The tables to lock, each with the strongest of its clauses."""
    nullable = _nullable_columns(node)
    chosen: dict[str, tuple[RangeItem, Lock, Wait]] = {}
    for lock in locks:
        strength = Lock.EXCLUSIVE if lock.args.get("update") else Lock.SHARE
        wait = {None: Wait.BLOCK, True: Wait.NOWAIT, False: Wait.SKIP}[lock.args.get("wait")]
        name = lock_name(lock)
        for item in _lock_items(scope, lock, name):
            if item.scan is not None and any(id in nullable for id in item.scan.columns):
                raise error("0A000", f"{name} cannot be applied to the nullable side of an outer join")
            known = chosen.get(item.alias)
            if known is not None:
                strength = max(strength, known[1])
                wait = wait if wait is not Wait.BLOCK else known[2]
            chosen[item.alias] = (item, Lock(strength), wait)
    found: list[LockTarget] = []
    for item, strength, wait in chosen.values():
        assert item.table is not None, f"{item.alias=}"
        ids = {c.attnum: c.id for c in (*item.columns, *item.hidden)}
        key = tuple([ids[column.column_id] for column in item.table.indexes[0].columns])
        found.append((item.alias, item.table, key, int(strength), int(wait)))
    return tuple(found)


def _lock_items(scope: Scope, lock: exp.Expr, name: str) -> list[RangeItem]:
    wanted = lock.expressions
    if not wanted:
        return [item for item in scope.items if item.scan is not None]
    found: list[RangeItem] = []
    for table in wanted:
        items = [item for item in scope.items if item.alias == table.name]
        if not items:
            raise error(
                "42P01",
                f'relation "{table.name}" in {name} clause not found in FROM clause',
                position=position_of(table) + 1,
            )
        if items[0].scan is None:
            raise error(
                "0A000",
                f"{name} cannot be applied to a function, subquery or WITH query",
                position=position_of(table) + 1,
            )
        found.append(items[0])
    return found


def _nullable_columns(node: Node) -> set[int]:
    """Columns on the nullable sides of outer joins."""
    found: set[int] = set()
    if isinstance(node, Join):
        if node.kind in ("left", "full"):
            found.update(node.right.columns)
        if node.kind in ("right", "full"):
            found.update(node.left.columns)
    for child in node.inputs():
        found.update(_nullable_columns(child))
    return found


def lock_rows(node: Node, targets: tuple[LockTarget, ...]) -> Node:
    return LockRows(node, targets) if targets else node
