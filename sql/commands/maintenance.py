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
        tables = [session.view().table(name) for name, _ in statement.tables]
    else:
        tables = [
            t for t in session.state().tables(session.database_id) if t.kind == "r" and session.view().owns(t.owner)
        ]
    for table in tables:
        await collect(session, table)
    session.sink.complete("ANALYZE")


async def collect(session: Session, table: TableDesc) -> TableStats:
    """Samples a table and keeps what was found; plans made before are made again."""
    access = table_access(table, session.state().type_by_oid)
    stats: Any = await analyze_table(access, session.block.ensure(), session.context)
    await session.server.catalog.save_stats(table.id, stats)
    session.server.plans.forget_table(table.id)
    session.server.autostats.analyzed(table.id)
    return stats  # type: ignore[no-any-return]  # TableStats


@handles(ast.Maintenance)
async def maintenance(session: Session, statement: ast.Maintenance, portal: QueryPortal) -> None:
    if statement.command == "VACUUM" and session.is_in_block:
        raise SqlError("VACUUM cannot run inside a transaction block", sqlstate="25001")
    for name in statement.tables:
        table = session.view().table(name)
        if statement.analyze:
            await collect(session, table)
    session.sink.complete(statement.command)


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
