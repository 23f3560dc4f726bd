"""Expressions stored with tables: checks, generated columns, index expressions and predicates, defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from base.errors import MeridianError, error
from base.typeio import type_name
from base.types import REGCLASS, PgType
from planner.expr import Const, Expr
from planner.nodes import TableExprs
from planner.schema import ColumnDesc, TableDesc
from sql.binder.coerce import coerce
from sql.binder.context import Source, placed
from sql.binder.expressions import ExprBinder
from sql.binder.from_clause import column_type
from sql.binder.scope import RangeItem, Scope, ScopeColumn
from sql.parse.statements import SqlExpr
from sql.parse.stored import parse_stored_expression

if TYPE_CHECKING:
    from sql.binder.queries import QueryBinder


def row_item(queries: QueryBinder, table: TableDesc, alias: str) -> RangeItem:
    """A row of a table under fresh ids: the new row, the row found, the row proposed."""
    columns: list[ScopeColumn] = []
    hidden: list[ScopeColumn] = []
    for column in table.columns:
        pg_type = column_type(queries, column.type_oid)
        id = queries.ctx.add_column(column.name, pg_type, column.typmod, table.id, column.id, column.nullable)
        (hidden if column.hidden else columns).append(ScopeColumn(column.name, id, pg_type, column.typmod, column.id))
    item = RangeItem(alias, columns)
    item.hidden = hidden
    item.table, item.table_oid = table, table.id
    return item


def row_ids(item: RangeItem) -> tuple[int, ...]:
    """Ids of all columns, in the table's order."""
    assert item.table is not None, f"{item.alias=}"
    by_attnum = {c.attnum: c.id for c in (*item.columns, *item.hidden)}
    return tuple([by_attnum[column.id] for column in item.table.columns])


def stored(queries: QueryBinder, text: str, scope: Scope, clause: str) -> Expr:
    """Binds stored text; its errors carry no position."""
    parsed = parse_stored_expression(text)
    return bind_text(queries, parsed, scope, clause, False)


def bind_text(queries: QueryBinder, parsed: SqlExpr, scope: Scope, clause: str, is_top: bool) -> Expr:
    """Binds an expression of DDL.  ``is_top``: it is the client's own text, positions count."""
    binder = ExprBinder(queries.ctx, Source(parsed.types, (), is_top), scope, queries, clause)
    try:
        return binder.bind(parsed.tree)
    except MeridianError as failure:
        if not is_top:
            failure.position = None
        raise


def stored_condition(queries: QueryBinder, text: str, scope: Scope, clause: str) -> Expr:
    from sql.binder.coerce import boolean

    return boolean(queries.ctx, stored(queries, text, scope, clause), clause, -1)


def bind_table_exprs(queries: QueryBinder, table: TableDesc, alias: str | None = None) -> tuple[TableExprs, RangeItem]:
    """All expressions that writing a table needs, over one fresh row; and that row."""
    item = row_item(queries, table, alias or table.name)
    exprs = TableExprs(row_ids(item))
    scope = Scope(None, [item], item.columns)
    exprs.checks = tuple(
        [
            (check.name, stored_condition(queries, check.expression, scope, "check constraints"))
            for check in sorted(table.checks, key=lambda check: check.name.encode())
        ]
    )
    for column in table.columns:
        if column.generated:
            pg_type = column_type(queries, column.type_oid)
            value = stored(queries, column.generated, scope, "column generation expressions")
            exprs.generated[column.id] = assigned(queries, value, column, pg_type, -1)
    for index in table.indexes:
        if index.predicate:
            exprs.index_predicates[index.id] = stored_condition(queries, index.predicate, scope, "index predicates")
        if any(part.expression for part in index.columns):
            exprs.index_exprs[index.id] = tuple(
                [
                    stored(queries, part.expression, scope, "index expressions") if part.expression else None
                    for part in index.columns
                ]
            )
    return exprs, item


def assigned(queries: QueryBinder, value: Expr, column: ColumnDesc, pg_type: PgType, position: int) -> Expr:
    """A value as it is stored in a column: assignment cast, then the column's typmod."""
    found = coerce(queries.ctx, value, pg_type, "a", column.typmod, position)
    if found is None:
        raise placed(
            error(
                "42804", f'column "{column.name}" is of type {type_name(pg_type)} but expression is of type {type_name(value.type)}',
                hint="You will need to rewrite or cast the expression.",
            ),
            position,
        )  # fmt: skip
    return found


def default_value(queries: QueryBinder, column: ColumnDesc) -> Expr:
    """What a column gets that is not given a value."""
    pg_type = column_type(queries, column.type_oid)
    if column.identity and column.sequence_id:
        binder = ExprBinder(queries.ctx, Source((), (), False), Scope(None), queries, "DEFAULT expressions")
        value: Expr = binder.function("nextval", (Const(column.sequence_id, REGCLASS),))
    elif column.default:
        value = stored(queries, column.default, Scope(None), "DEFAULT expressions")
    else:
        return Const(None, pg_type, column.typmod)
    return assigned(queries, value, column, pg_type, -1)
