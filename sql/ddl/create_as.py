"""CREATE TABLE AS and SELECT INTO: a table made of a query's columns and rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from base.errors import SqlError
from base.typeio import type_name
from base.types import TEXT, UNKNOWN, PgType
from sql.analyze import Analyzer
from sql.commands.copying import quoted
from sql.commands.prepared import arguments
from sql.ddl.tables import create
from sql.parse import ParsedStatement, parse
from sql.parse import statements as ast
from sql.portals import QueryPortal

if TYPE_CHECKING:
    from sql.session import Session


async def create_as(session: Session, statement: ast.CreateTableAs, portal: QueryPortal) -> None:
    """Plans the query, makes the table, inserts the rows in the same transaction."""
    types: tuple[PgType, ...] = ()
    query, text, values = statement.query, statement.query_text, portal.params
    if isinstance(query, ast.Execute):
        prepared, values = await arguments(session, query)
        if prepared.parsed is None or not isinstance(prepared.parsed.statement, ast.Query):
            raise SqlError("prepared statement is not a SELECT", sqlstate="42809")
        query, text, types = prepared.parsed.statement, prepared.sql, prepared.param_types
    entry = await Analyzer(session).entry(ParsedStatement(query, text, statement.query_position), types)
    assert entry.columns is not None
    names = [column.name for column in entry.columns]
    if len(statement.columns) > len(names):
        raise SqlError("too many column names were specified", sqlstate="42601")
    names[: len(statement.columns)] = statement.columns
    written = [type_name(TEXT if c.type == UNKNOWN else c.type, c.typmod) for c in entry.columns]
    columns = ", ".join(f"{quoted(name)} {type_text}" for name, type_text in zip(names, written))
    target = f"{quoted(statement.name.schema)}." if statement.name.schema is not None else ""
    target += quoted(statement.name.name)
    exists = "IF NOT EXISTS " if statement.if_not_exists else ""
    definition = parse(f"CREATE TABLE {exists}{target} ({columns})")[0].statement
    assert isinstance(definition, ast.CreateTable)
    definition.is_temporary, definition.on_commit = statement.is_temporary, statement.on_commit
    definition.options = statement.options
    if await create(session, definition) is None:
        session.sink.complete("CREATE TABLE AS")
        return
    count = 0
    if statement.with_data:
        insert = parse(f"INSERT INTO {target} {text}")[0]
        source = QueryPortal("", insert, await Analyzer(session).entry(insert, types), values, (), ())
        await session.start_portal(source)
        while await source.next_rows(0):
            pass
        count = source.affected
    session.sink.complete(f"SELECT {count}" if statement.with_data else "CREATE TABLE AS")
