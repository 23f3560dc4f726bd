"""What DDL asks for before it changes a table: nobody uses it, nobody else writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from base.errors import SqlError, TxnRetry
from base.keys import table_span
from planner.schema import TableDesc

if TYPE_CHECKING:
    from sql.session import Session


async def lock_exclusively(session: Session, table: TableDesc, command: str) -> TableDesc:
    """Takes the exclusive lock of a table and returns its newest descriptor: it may have changed during the wait."""
    require_unused(session, table, command)
    await session.block.lock_table(table.id, table.name, exclusive=True)
    current = session.state().table_by_id(table.id)
    if current is None:
        raise SqlError(f'relation "{table.name}" does not exist', sqlstate="42P01")
    if current.kind == "r":
        await _show_all(session, current)
    return current


async def _show_all(session: Session, table: TableDesc) -> None:
    """Makes sure that the transaction's snapshot shows every row that was committed before the lock was had."""
    held = session.block.ensure().hold_span(*table_span(table.key_prefix_table or table.id))
    if not isinstance(held, bool):
        held = await held
    if not held:
        raise TxnRetry("could not serialize access due to concurrent update", reason="table_written")


def require_unused(session: Session, table: TableDesc, command: str) -> None:
    """Raises 55006 if a cursor of this session reads the table, or constraint checks of its rows wait for the commit."""
    if any(check.table_id == table.id for check in session.context.deferred):
        raise SqlError(f'cannot {command} "{table.name}" because it has pending trigger events', sqlstate="55006")
    for portal in session.portals.values():
        if portal.is_open_on(table.id):
            raise SqlError(
                f'cannot {command} "{table.name}" because it is being used by active queries in this session',
                sqlstate="55006",
            )
