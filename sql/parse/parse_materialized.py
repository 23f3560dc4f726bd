"""CREATE and REFRESH MATERIALIZED VIEW: their syntax."""

from __future__ import annotations

from base.errors import error
from sql.parse.cursor import Cursor
from sql.parse.parse_table import storage_options
from sql.parse.query import parse_query_prefix
from sql.parse.statements import CreateMaterializedView, RefreshMaterializedView, SqlExpr


def parse_create_materialized(cursor: Cursor) -> CreateMaterializedView:
    """From the word after CREATE."""
    cursor.expect("materialized")
    cursor.expect("view")
    exists = cursor.accept("if", "not", "exists")
    name = cursor.qualified()
    columns = cursor.wrapped_names() if cursor.is_punct("(") else ()
    if cursor.accept("using"):
        cursor.name()
    options = storage_options(cursor) if cursor.accept("with") else {}
    if cursor.accept("tablespace"):
        cursor.name()
    cursor.expect("as")
    first = cursor.index
    query, cursor.index = parse_query_prefix(cursor.sql, cursor.lexemes, first, cursor.stop)
    start = cursor.lexemes[first].start
    if query.command != "SELECT" or query.into is not None:
        raise error("42601", f'syntax error at or near "{cursor.lexemes[first].text}"', position=start + 1)
    text = cursor.text_between(first, cursor.index)
    body = SqlExpr(text, query.tree, start, tuple(query.types))
    return CreateMaterializedView(name, columns, body, _with_data(cursor), exists, options)


def _with_data(cursor: Cursor) -> bool:
    if not cursor.accept("with"):
        return True
    has_data = not cursor.accept("no")
    cursor.expect("data")
    return has_data


def REFRESH(cursor: Cursor) -> RefreshMaterializedView:  # an entry of the dispatch table
    """REFRESH MATERIALIZED VIEW [CONCURRENTLY] name [WITH [NO] DATA]."""
    cursor.advance()
    cursor.expect("materialized")
    cursor.expect("view")
    concurrently = cursor.accept("concurrently")
    name = cursor.qualified()
    return RefreshMaterializedView(name, concurrently, _with_data(cursor))
