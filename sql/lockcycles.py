"""Deadlocks that table locks and rows make up together.

    A: UPDATE t                             writes t, and has a row of it
    B: UPDATE u                             the same of u
    A: UPDATE u          waits for B's row
    B: ALTER TABLE t     waits for A, who writes t

The storage tier knows who waits for a row, the table locks who waits for a table, and nobody sees the cycle.  So who
has waited for a table for a while asks the record of its own transaction who waits for that, directly or through
others (``kvtier.dependents``), and gives way if that is whom it waits for itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from base.errors import Deadlock, MeridianError
from kvtier.client import Kv
from kvtier.messages import Batch, Push, TxnMeta
from sql.catalog.cache import call

if TYPE_CHECKING:
    from sql.server import SqlServer

LOOK_SECONDS: Final = 1.0
"""PostgreSQL's deadlock_timeout: most waits are over before."""


async def dependents_of(kv: Kv, txn: TxnMeta) -> tuple[bytes, ...]:
    """Returns the ids of the transactions that wait for what this one has locked or written."""
    if not txn.anchor:
        return ()
    reply = await call(kv, Batch([Push(txn.anchor, txn, 0, False, kv.now(), query=True)]))
    found: tuple[bytes, ...] = reply.results[0].dependents
    return found


async def acquire(
    server: SqlServer,
    holder: Any,
    identity: Callable[[], TxnMeta],
    table_id: int,
    exclusive: bool,
    timeout_ms: int = 0,
    nowait: bool = False,
    name: str = "",
) -> None:
    """Takes a table's lock (``TableLocks.acquire``) for a transaction, whose deadlocks with rows are found as well."""
    locks = server.table_locks
    if locks.try_exclusive(holder, table_id) if exclusive else locks.try_write(holder, table_id):
        return
    wait = TableWait(server, holder, table_id, identity)
    try:
        await locks.acquire(holder, table_id, exclusive, timeout_ms, nowait, name)
    finally:
        wait.stop()


class TableWait:
    """Looks, while a holder waits for a table's lock, whether whoever is in its way waits for it."""

    def __init__(self, server: SqlServer, holder: Any, table_id: int, identity: Callable[[], TxnMeta]) -> None:
        """``holder``, and any other holder of table locks, has ``known_as``: its transaction's id."""
        self._server = server
        self._holder = holder
        self._table_id = table_id
        self._identity = identity
        self._is_stopped = False
        self._cancel = server.scheduler.call_later(LOOK_SECONDS, self._fire)

    def stop(self) -> None:
        """The wait is over."""
        self._is_stopped = True
        self._cancel()

    def _fire(self) -> None:
        self._server.scheduler.spawn(self._look(), "table lock watch")

    async def _look(self) -> None:
        server = self._server
        dependents: tuple[bytes, ...] = ()
        try:
            if self._holder.known_as:
                dependents = await dependents_of(server.kv, self._identity())
        except MeridianError:
            pass  # The record's range cannot be asked now.
        if self._is_stopped:
            return
        if any(other.known_as in dependents for other in server.table_locks.blocking(self._holder)):
            server.table_locks.fail(self._holder, self._table_id, Deadlock(b""))
        else:
            self._cancel = server.scheduler.call_later(LOOK_SECONDS, self._fire)
