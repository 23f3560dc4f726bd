"""ANALYZE, and what PostgreSQL needs and this storage does by itself: VACUUM, REINDEX, CLUSTER, CHECKPOINT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from base.errors import FeatureNotSupported, SqlError
from planner.access import table_access
from planner.schema import TableDesc, TableStats
from planner.statistics import analyze_table
from sql.commands import handles
from sql.parse import statements as ast

if TYPE_CHECKING:
    from sql.portals import QueryPortal
    from sql.session import Session


@handles(ast.Analyze)
async def analyze(session: Session, statement: ast.Analyze, portal: QueryPortal) -> None:
    if statement.tables:
        found = [_own_table(session, name, "analyze") for name, _ in statement.tables]
        tables = [table for table in found if table is not None]
    else:
        tables = [
            t
            for t in session.state().tables(session.database_id)
            if t.kind in ("r", "m") and session.view().owns(t.owner)
        ]
    for table in tables:
        await collect(session, table)
    session.sink.complete("ANALYZE")


async def collect(session: Session, table: TableDesc) -> TableStats:
    """Samples a table and keeps what was found; plans made before are made again."""
    access = table_access(table, session.state().type_by_oid)
    stats: Any = await analyze_table(access, session.block.ensure(), session.context)
    await session.server.save_stats(table.id, stats)
    session.server.autostats.analyzed(table.id)
    return stats  # type: ignore[no-any-return]  # TableStats


@handles(ast.Maintenance)
async def maintenance(session: Session, statement: ast.Maintenance, portal: QueryPortal) -> None:
    if statement.command == "VACUUM" and session.is_in_block:
        raise SqlError("VACUUM cannot run inside a transaction block", sqlstate="25001")
    for name in statement.tables:
        if statement.command == "REINDEX":
            _check_reindexed(session, statement.kind, name)
            continue
        table = (
            _own_table(session, name, "vacuum")
            if statement.command == "VACUUM"
            else session.view().table(name, kinds="rm")
        )
        if table is not None and statement.analyze:
            await collect(session, table)
    session.sink.complete(statement.command)


def _own_table(session: Session, name: ast.Name, verb: str) -> TableDesc | None:
    """The table; None for what has no rows of its own: catalogs, and with a warning views and sequences."""
    found = session.view().find_relation(name.schema, name.name)
    if found is not None and not isinstance(found, TableDesc):
        return None
    table = session.view().relation(name)
    assert table is not None, f"{name=}"
    if table.kind in ("r", "m"):
        return table
    text = f'skipping "{table.name}" --- cannot {verb} non-tables or special system tables'
    session.notice("WARNING", SqlError(text, sqlstate="01000"))
    return None


def _check_reindexed(session: Session, kind: str, name: ast.Name) -> None:
    """REINDEX has nothing to do; its object must exist all the same."""
    view = session.view()
    if kind in ("database", "system"):
        if name.name != session.database:
            raise SqlError("can only reindex the currently open database", sqlstate="0A000")
    elif kind == "schema":
        if not view.schema_exists(name.name):
            raise SqlError(f'schema "{name.name}" does not exist', sqlstate="3F000")
    elif kind == "index":
        if view.index(name) is None:
            raise SqlError(f'relation "{name}" does not exist', sqlstate="42P01")
    elif isinstance(view.find_relation(name.schema, name.name), TableDesc) or not view.find_relation(
        name.schema, name.name
    ):
        view.table(name, '"{name}" is not a table or materialized view', kinds="rm")


@handles(ast.CreateExtension)
async def create_extension(session: Session, statement: ast.CreateExtension, portal: QueryPortal) -> None:
    if statement.name != "plpgsql":
        raise FeatureNotSupported(f'extension "{statement.name}" is not available')
    session.sink.complete("CREATE EXTENSION")


@handles(ast.CancelJob)
async def cancel_job(session: Session, statement: ast.CancelJob, portal: QueryPortal) -> None:
    raise FeatureNotSupported(
        f"{statement.action.upper()} {statement.kind.upper()} is not supported", hint="Use pg_cancel_backend(pid)."
    )
