"""Writing through simple views: what a statement names is a view, what it writes is the table below.

A view is updatable if its query takes some columns of one table, or of one updatable view, and filters its rows
(PostgreSQL's CREATE VIEW, "Updatable Views").  Then a row of the table, be it the one found, the new one or the one
proposed, is seen through the view's own select list:

    row of the table --innermost view--> .. --outermost view--> names that the statement uses

Each view's WHERE limits the rows that UPDATE and DELETE find; with CHECK OPTION it must hold for new rows, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
from sqlglot import exp

from base.errors import MeridianError, error
from planner.expr import And, Col, Expr
from planner.nodes import Filter, Node
from planner.schema import ColumnDesc, TableDesc
from sql.binder.context import VIEW_DEPTH_MAX, Source
from sql.binder.expressions import ExprBinder
from sql.binder.from_clause import alias_of, rename_columns
from sql.binder.scope import RangeItem, Scope, ScopeColumn
from sql.binder.targets import bind_targets, resolve_targets
from sql.parse.stored import parse_stored_query

if TYPE_CHECKING:
    from sql.binder.catalog_view import CatalogView
    from sql.binder.queries import QueryBinder

_NOT_ONE = "Views that do not select from a single table or view are not automatically updatable."
NO_COLUMNS = "Views that have no updatable columns are not automatically updatable."
_VERBS = {
    "a": ("insert into", "inserting into", "INSERT"),
    "w": ("update", "updating", "UPDATE"),
    "d": ("delete from", "deleting from", "DELETE"),
}
_RETURNED = ("aggregate functions", "window functions", "set-returning functions")
Checks = tuple[tuple[str, Expr], ...]
"""(view, condition over the new row's ids), the innermost view's first."""


class OpenView:
    """One view on the way down: its query, and the names it was made under."""

    def __init__(self, view: TableDesc, tree: exp.Expr, source: Source, catalog: CatalogView) -> None:
        self.view = view
        self.tree = tree
        self.source = source
        self.catalog = catalog

    @property
    def relation(self) -> exp.Expr:
        found: exp.Expr = self.tree.args["from_"].this
        return found

    @contextmanager
    def names(self, queries: QueryBinder) -> Iterator[None]:
        """Binds as the view's creator would."""
        ctx = queries.ctx
        before = ctx.catalog, ctx.check_as
        ctx.catalog, ctx.check_as = self.catalog, self.view.owner
        ctx.view_depth += 1
        try:
            yield
        except MeridianError as failure:
            failure.position = None
            raise
        finally:
            ctx.view_depth -= 1
            ctx.catalog, ctx.check_as = before

    def through(self, queries: QueryBinder, row: RangeItem) -> tuple[RangeItem, Expr | None]:
        """A row of what the view reads, as the view shows it; and the view's condition on it."""
        alias, columns = alias_of(self.relation)
        inner = RangeItem(alias or self.relation.name, [*row.columns])
        inner.hidden, inner.table, inner.table_oid = row.hidden, row.table, row.table_oid
        rename_columns(inner, columns)
        binder = ExprBinder(queries.ctx, self.source, Scope(None, [inner], inner.columns), queries, "SELECT")
        with self.names(queries):
            targets = bind_targets(binder, self.tree.expressions)
            resolve_targets(queries.ctx, targets)
            where = self.tree.args.get("where")
            condition = None if where is None else binder.condition(where.this, "WHERE")
        shown: list[ScopeColumn] = []
        for described, target in zip(self.view.columns, targets):
            found, name = target.expr, described.name
            if isinstance(found, Col):
                shown.append(ScopeColumn(name, found.id, found.type, found.typmod, described.id))
            else:
                shown.append(ScopeColumn(name, -1, found.type, found.typmod, described.id, found))
        item = RangeItem(self.view.name, shown)
        item.table, item.table_oid = self.view, self.view.id
        return item, condition


class Target:
    """The table that a statement writes, and the names it has in the statement."""

    def __init__(self, table: TableDesc, views: list[OpenView]) -> None:
        self.table = table
        self.views = views
        """From the one that was named down to the one over the table; none if the table was named."""
        self.names = table
        """Columns by the names that assignments use, with the table's attnums; 0 is no column of the table."""

    def through(self, queries: QueryBinder, row: RangeItem, alias: str) -> tuple[RangeItem, list[Expr | None]]:
        """A row of the table under the statement's names; the conditions of the views, the outermost first."""
        if not self.views:
            return row, []
        conditions: list[Expr | None] = []
        item = row
        for view in reversed(self.views):
            item, condition = view.through(queries, item)
            conditions.append(condition)
        item.alias = alias
        conditions.reverse()
        return item, conditions

    def filtered(self, plan: Node, conditions: list[Expr | None]) -> Node:
        """The rows that all views show."""
        terms = [condition for condition in reversed(conditions) if condition is not None]
        if not terms:
            return plan
        return Filter(plan, terms[0] if len(terms) == 1 else And(tuple(terms)))

    def checks(self, conditions: list[Expr | None]) -> Checks:
        """What WITH CHECK OPTION demands of a new row, given the views' conditions on it."""
        found: list[tuple[str, Expr]] = []
        is_cascaded = False
        for opened, condition in zip(self.views, conditions):
            option = opened.view.options.get("check_option", "")
            if condition is not None and (option or is_cascaded):
                found.append((opened.view.name, condition))
            is_cascaded = is_cascaded or option == "cascaded"
        return tuple(reversed(found))

    def read(self, queries: QueryBinder) -> None:
        """Notes that the statement reads what it writes."""
        queries.ctx.use_table(self.views[0].view if self.views else self.table, "r")


def open_view(queries: QueryBinder, view: TableDesc, letter: str, position: int) -> Target:
    """The table below a view; raises 55000 if the view, or one below it, is not updatable."""
    ctx = queries.ctx
    views: list[OpenView] = []
    catalog, check_as = ctx.catalog, ctx.check_as
    current = view
    try:
        while current.kind == "v":
            if len(views) >= VIEW_DEPTH_MAX:
                raise error("54001", "stack depth limit exceeded", position=position + 1)
            ctx.use_table(current, letter)
            opened, problem = open_query(queries, current)
            if problem:
                raise _not_updatable(current, letter, problem)
            ctx.catalog, ctx.check_as = opened.catalog, current.owner
            views.append(opened)
            relation = opened.relation
            schema = relation.args.get("db")
            found = ctx.catalog.find_relation(schema.name if schema is not None else None, relation.name)
            assert isinstance(found, TableDesc), f"{found=}"
            current = found
        ctx.view_depth += 1
        ctx.use_table(current, letter)
        ctx.use_table(current, "r")
        ctx.view_depth -= 1
    finally:
        ctx.catalog, ctx.check_as = catalog, check_as
    target = Target(current, views)
    target.names = _named(queries, target)
    if letter != "d" and not any(column.id for column in target.names.columns):
        raise _not_updatable(view, letter, NO_COLUMNS)
    return target


def updatable_columns(queries: QueryBinder, view: TableDesc) -> tuple[str, ...]:
    """Names of a view's columns that can be written; none if the view is not updatable."""
    try:
        target = open_view(queries, view, "w", -1)
    except MeridianError:
        return ()
    return tuple([column.name for column in target.names.columns if column.id])


def view_problem(queries: QueryBinder, view: TableDesc) -> str:
    """Why a view (that need not be in the catalog yet) is not updatable, or ""."""
    problem = open_query(queries, view)[1]
    if problem or updatable_columns(queries, view):
        return problem
    return NO_COLUMNS


def _not_updatable(view: TableDesc, letter: str, problem: str) -> MeridianError:
    verb, doing, event = _VERBS[letter]
    return error(
        "55000", f'cannot {verb} view "{view.name}"', detail=problem,
        hint=f"To enable {doing} the view, provide an INSTEAD OF {event} trigger or an unconditional ON {event} DO INSTEAD rule.",
    )  # fmt: skip


def open_query(queries: QueryBinder, view: TableDesc) -> tuple[OpenView, str]:
    """A view's query, and why it cannot be written through, or ""."""
    query = parse_stored_query(view.view_query)
    catalog = queries.ctx.catalog.for_view(view)
    opened = OpenView(view, query.tree, Source(query.types, query.raw_lists, False), catalog)
    return opened, _problem(queries, opened)


def _problem(queries: QueryBinder, opened: OpenView) -> str:
    """PostgreSQL's reasons, in its order."""
    tree, args = opened.tree, opened.tree.args
    if not isinstance(tree, exp.Select):
        what = "UNION, INTERSECT, or EXCEPT" if isinstance(tree, exp.SetOperation) else ""
        return f"Views containing {what} are not automatically updatable." if what else _NOT_ONE
    for words, what in (
        (("distinct",), "DISTINCT"), (("group",), "GROUP BY"), (("having",), "HAVING"), (("with_",), "WITH"),
        (("limit", "offset"), "LIMIT or OFFSET"),
    ):  # fmt: skip
        if any(args.get(word) is not None for word in words):
            return f"Views containing {what} are not automatically updatable."
    returned = _returned(queries, opened)
    if returned:
        return f"Views that return {returned} are not automatically updatable."
    clause = args.get("from_")
    if clause is None or args.get("joins") or not isinstance(clause.this, exp.Table) or clause.this.args.get("joins"):
        return _NOT_ONE
    relation = clause.this
    schema = relation.args.get("db")
    if isinstance(relation.this, exp.Anonymous):
        return _NOT_ONE
    found = opened.catalog.find_relation(schema.name if schema is not None else None, relation.name)
    return "" if isinstance(found, TableDesc) and found.kind in "rv" else _NOT_ONE


def _returned(queries: QueryBinder, opened: OpenView) -> str:
    """What the select list has that is no value of one row."""
    registry = queries.ctx.registry
    found: set[str] = set()
    for item in opened.tree.expressions:
        for node in item.walk(prune=lambda part: isinstance(part, exp.Query)):
            if isinstance(node, exp.Window):
                found.add("window functions")
            elif isinstance(node, (exp.Filter, exp.WithinGroup)):
                found.add("aggregate functions")
            elif isinstance(node, exp.Anonymous) and not isinstance(node.parent, exp.Window):
                if node.name in registry.aggregates:
                    found.add("aggregate functions")
                elif any(function.returns_set for function in registry.functions.get(node.name, ())):
                    found.add("set-returning functions")
    return next((what for what in _RETURNED if what in found), "")


def _named(queries: QueryBinder, target: Target) -> TableDesc:
    """The table with the columns that the outermost view shows."""
    from sql.binder.table_exprs import row_item

    row = row_item(queries, target.table, target.table.name)
    by_id = {column.id: column.attnum for column in row.columns}
    shown, _ = target.through(queries, row, "")
    described = {column.id: column for column in target.table.columns}
    columns: list[ColumnDesc] = []
    for column in shown.columns:
        attnum = by_id.get(column.id, 0) if column.expr is None else 0
        if attnum:
            columns.append(msgspec.structs.replace(described[attnum], name=column.name))
        else:
            columns.append(ColumnDesc(id=0, name=column.name, type_oid=column.type.oid, typmod=column.typmod))
    return msgspec.structs.replace(target.table, name=target.views[0].view.name, columns=tuple(columns))
