"""TRUNCATE: the table's rows are in another, empty place from now on, whatever their number.

The old place is deleted by one range tombstone in the same transaction: who has read there and goes on conflicts with it, and
older snapshots, with the catalog of their time, still read the rows.  In a cluster the rows are deleted where they are: another
node's readers may not know of the new place for a moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from base.errors import SqlError
from base.keys import table_span
from planner.schema import TableDesc
from sql.commands import handles
from sql.ddl.drop import delete_span
from sql.ddl.locking import lock_exclusively
from sql.parse import statements as ast

if TYPE_CHECKING:
    from sql.portals import QueryPortal
    from sql.session import Session


@handles(ast.Truncate)
async def truncate(session: Session, statement: ast.Truncate, portal: QueryPortal) -> None:
    view = session.view()
    tables: dict[int, TableDesc] = {}
    for name in statement.tables:
        table = view.table(name)
        view.require(table, "D")
        tables[table.id] = table
    _add_referencing(session, tables, statement.cascade)
    for table in tables.values():
        table = await lock_exclusively(session, table, "TRUNCATE")
        await delete_span(session, *table_span(table.key_prefix_table or table.id))
        if session.server.agreement is None:
            draft = session.block.ddl()
            await draft.update_table(table, key_prefix_table=await draft.new_id())
        stats = session.server.catalog.stats.get(table.id)
        session.context.count_changes(table.id, int(stats.rows) + 1 if stats is not None else 1)
        if statement.restart_identity:
            await _restart(session, table)
    session.sink.complete("TRUNCATE TABLE")


def _add_referencing(session: Session, tables: dict[int, TableDesc], cascade: bool) -> None:
    """A table that others refer to can only go together with them."""
    pending = list(tables.values())
    while pending:
        table = pending.pop()
        for id in table.inbound:
            other = session.state().table_by_id(id)
            if other is None or other.id in tables:
                continue
            if not cascade:
                raise SqlError(
                    "cannot truncate a table referenced in a foreign key constraint",
                    sqlstate="0A000",
                    detail=f'Table "{other.name}" references "{table.name}".',
                    hint=f'Truncate table "{other.name}" at the same time, or use TRUNCATE ... CASCADE.',
                )
            session.notice("NOTICE", SqlError(f'truncate cascades to table "{other.name}"', sqlstate="00000"))
            tables[other.id] = other
            pending.append(other)


async def _restart(session: Session, table: TableDesc) -> None:
    for desc in session.state().tables(session.database_id):
        if desc.sequence is not None and desc.sequence.owner_table == table.id:
            await session.server.sequences.set_value(desc.id, desc.sequence.start, False, desc.sequence, desc.name)
