"""Materialized views: a table with a query, which REFRESH fills anew.

The rows lie as those of any table, under a hidden key; indexes and ANALYZE work as there.  While it is filled the
statement's own draft says so (``REFRESHING`` among the options): then FROM means the view's query, under the names and
rights of its owner, and INSERT INTO may write the rows.  That draft is never published: the command ends with another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from base.errors import MeridianError, SqlError
from base.keys import table_span
from base.typeio import type_name
from planner.schema import REFRESHING, UNPOPULATED, TableDesc
from sql.analyze import Analyzer
from sql.commands import handles
from sql.commands.copying import quoted
from sql.ddl.drop import delete_span
from sql.ddl.locking import lock_exclusively
from sql.ddl.tables import create
from sql.parse import parse
from sql.parse import statements as ast
from sql.parse.statements import CreateMaterializedView, RefreshMaterializedView
from sql.portals import QueryPortal

if TYPE_CHECKING:
    from sql.session import Session

HIDDEN_OPTIONS: Final = (REFRESHING, UNPOPULATED)


@handles(CreateMaterializedView)
async def create_materialized(session: Session, statement: CreateMaterializedView, portal: QueryPortal) -> None:
    bound = Analyzer(session).view_query(statement.query)
    names = list(bound.names)
    if len(statement.columns) > len(names):
        raise SqlError("too many column names were specified", sqlstate="42601")
    names[: len(statement.columns)] = statement.columns
    columns = ", ".join(
        f"{quoted(name)} {type_name(pg_type, typmod)}" for name, (pg_type, typmod) in zip(names, bound.types)
    )
    target = f"{quoted(statement.name.schema)}." if statement.name.schema is not None else ""
    exists = "IF NOT EXISTS " if statement.if_not_exists else ""
    definition = parse(f"CREATE TABLE {exists}{target}{quoted(statement.name.name)} ({columns})")[0].statement
    assert isinstance(definition, ast.CreateTable)
    definition.options = statement.options
    table = await create(session, definition)
    if table is None:
        session.sink.complete("CREATE MATERIALIZED VIEW")
        return
    options = {**table.options, "search_path": session.view().path_text(), UNPOPULATED: "true"}
    table = await session.block.ddl().update_table(
        table, kind="m", view_query=statement.query.text, depends_on=bound.depends_on, options=options
    )
    if not statement.with_data:
        session.sink.complete("CREATE MATERIALIZED VIEW")
        return
    session.sink.complete(f"SELECT {await _fill(session, table)}")


@handles(RefreshMaterializedView)
async def refresh(session: Session, statement: RefreshMaterializedView, portal: QueryPortal) -> None:
    table = session.view().relation(statement.name)
    assert table is not None
    if table.kind != "m":
        raise SqlError(f'"{table.name}" is not a materialized view', sqlstate="0A000")
    session.view().require_owner("materialized view", table.name, table.owner)
    if statement.concurrently:
        _require_concurrent(session, table, statement)
    table = await lock_exclusively(session, table, "REFRESH MATERIALIZED VIEW")
    draft = session.block.ddl()
    await delete_span(session, *table_span(table.key_prefix_table or table.id))
    options = {**table.options, UNPOPULATED: "true"}
    table = await draft.update_table(table, key_prefix_table=await draft.new_id(), options=options)
    if statement.with_data:
        await _fill(session, table)
    session.sink.complete("REFRESH MATERIALIZED VIEW")


def _require_concurrent(session: Session, table: TableDesc, statement: RefreshMaterializedView) -> None:
    """PostgreSQL compares rows by such an index; here the old rows stay to be read until the commit in any case."""
    if not statement.with_data:
        text = "REFRESH options CONCURRENTLY and WITH NO DATA cannot be used together"
        raise SqlError(text, sqlstate="42601")
    if UNPOPULATED in table.options:
        raise SqlError("CONCURRENTLY cannot be used when the materialized view is not populated", sqlstate="0A000")
    columns = [
        i for i in table.indexes if i.oid and i.unique and not i.predicate and all(c.column_id for c in i.columns)
    ]
    if not columns:
        name = f"{session.view().schema_name(table.schema_id)}.{table.name}"
        raise SqlError(
            f'cannot refresh materialized view "{name}" concurrently',
            sqlstate="55000",
            hint="Create a unique index with no WHERE clause on one or more columns of the materialized view.",
        )


async def _fill(session: Session, table: TableDesc) -> int:
    """Inserts the query's rows into the empty view; returns how many."""
    draft = session.block.ddl()
    kept = {name: value for name, value in table.options.items() if name not in HIDDEN_OPTIONS}
    table = await draft.update_table(table, options={**kept, REFRESHING: "true"})
    name = f"{quoted(session.view().schema_name(table.schema_id))}.{quoted(table.name)}"
    insert = parse(f"INSERT INTO {name} SELECT * FROM {name}")[0]
    source = QueryPortal("", insert, await Analyzer(session).entry(insert, ()), (), (), ())
    try:
        await session.start_portal(source)
        while await source.next_rows(0):
            pass
    except MeridianError as failure:
        if failure.sqlstate == "23505":
            # In PostgreSQL the indexes are built when the rows are there.
            failure.message = f'could not create unique index "{failure.constraint}"'
            failure.detail = (failure.detail or "").replace("already exists.", "is duplicated.")
        raise
    current = session.state().table_by_id(table.id)
    assert current is not None
    await draft.update_table(current, options=kept)
    return source.affected
