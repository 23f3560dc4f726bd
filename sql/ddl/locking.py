"""What DDL asks for before it changes a table: nobody uses it, nobody else writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from base.errors import SqlError, TxnRetry
from base.keys import table_span
from planner.schema import TableDesc, TypeDesc

if TYPE_CHECKING:
    from sql.session import Session

INDEX_ID_MAX: Final = 2**16 - 1
"""Two bytes of every key."""


async def lock_exclusively(session: Session, table: TableDesc, command: str) -> TableDesc:
    """Takes the exclusive lock of a table and returns its newest descriptor: it may have changed during the wait.

    So may its rows, which the transaction must not miss.
    """
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


async def new_index_id(session: Session, table: TableDesc) -> int:
    """Returns the id of a new index; its entries' place was never written by anybody.

    In a cluster the remains of a lost attempt may still be on their way there from another node.
    """
    agreement = session.server.agreement
    id = table.next_index_id
    if agreement is not None and session.block.is_shared(table.id):
        id = await agreement.new_index_id(table.key_prefix_table or table.id, id)
    if id > INDEX_ID_MAX:
        raise SqlError(f'table "{table.name}" has had too many indexes', sqlstate="54000")
    return id


async def lock_users(session: Session, desc: TypeDesc) -> None:
    """Keeps writers away from the tables that have columns of a type, where other nodes may not know its new labels.

    One node alone has them all in the tick in which they can first be written.
    """
    if session.server.agreement is None:
        return
    for table in session.state().tables(desc.database_id):
        if table.kind == "r" and any(column.type_oid in (desc.id, desc.array_oid) for column in table.columns):
            await session.block.lock_table(table.id, table.name, exclusive=True)


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
