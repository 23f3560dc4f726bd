"""CREATE TABLE AS and SELECT INTO: a table made of a query's columns and rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from base.errors import FeatureNotSupported, SqlError
from base.typeio import type_name
from base.types import TEXT, UNKNOWN
from sql.analyze import Analyzer
from sql.commands.copying import quoted
from sql.ddl.tables import create
from sql.parse import ParsedStatement, parse
from sql.parse import statements as ast
from sql.portals import QueryPortal

if TYPE_CHECKING:
    from sql.session import Session


async def create_as(session: Session, statement: ast.CreateTableAs, portal: QueryPortal) -> None:
    """Plans the query, makes the table, inserts the rows in the same transaction."""
    if not isinstance(statement.query, ast.Query):
        raise FeatureNotSupported("CREATE TABLE AS EXECUTE is not supported")
    parsed = ParsedStatement(statement.query, statement.query_text, statement.query_position)
    entry = await Analyzer(session).entry(parsed, ())
    assert entry.columns is not None
    names = [column.name for column in entry.columns]
    if len(statement.columns) > len(names):
        raise SqlError("too many column names were specified", sqlstate="42601")
    names[: len(statement.columns)] = statement.columns
    types = [type_name(TEXT if c.type == UNKNOWN else c.type, c.typmod) for c in entry.columns]
    columns = ", ".join(f"{quoted(name)} {type_text}" for name, type_text in zip(names, types))
    target = f"{quoted(statement.name.schema)}." if statement.name.schema is not None else ""
    target += quoted(statement.name.name)
    exists = "IF NOT EXISTS " if statement.if_not_exists else ""
    definition = parse(f"CREATE TABLE {exists}{target} ({columns})")[0].statement
    assert isinstance(definition, ast.CreateTable)
    definition.is_temporary = statement.is_temporary
    if await create(session, definition) is None:
        session.sink.complete("CREATE TABLE AS")
        return
    count = 0
    if statement.with_data:
        insert = parse(f"INSERT INTO {target} {statement.query_text}")[0]
        source = QueryPortal("", insert, await Analyzer(session).entry(insert, ()), portal.params, (), ())
        await session.start_portal(source)
        while await source.next_rows(0):
            pass
        count = source.affected
    session.sink.complete(f"SELECT {count}")
