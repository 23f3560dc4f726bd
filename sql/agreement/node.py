"""Everything a node needs to agree with others on the catalog, in one hand."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from base.errors import ConditionFailed, MeridianError, Retryable, SqlError, TxnRetry
from base.seams import Clock, Rng, Scheduler, Transport, Waiter
from kvtier.messages import Batch, ConditionalPut, Get, Isolation, Lock
from sql.agreement.fences import Fences, SchemaChange
from sql.agreement.keeper import ATTEMPTS_MAX, Keeper
from sql.catalog.cache import call
from sql.catalog.changes import Change, settled, stamp
from sql.catalog.keys import filled_key
from txn.coordinator import Coordinator

if TYPE_CHECKING:
    from sql.server import SqlServer

CHANGED_ROWS: Final = "kv.changed-rows"
SESSIONS: Final = "kv.sessions"
CALL_SECONDS_MAX: Final = 5.0
ROWS_MAX: Final = 2**63 - 1
_COUNT: Final = struct.Struct(">IQ")
"""Table, rows."""


class Agreement:
    """What ``SqlServer.agreement`` is on a node of a cluster; see the package."""

    def __init__(
        self,
        server: SqlServer,
        coordinator: Coordinator,
        transport: Transport,
        node_id: int,
        peers: Callable[[], list[int]],
        is_live: Callable[[int], bool],
        clock: Clock,
        rng: Rng,
        scheduler: Scheduler,
    ) -> None:
        """``peers``: the other nodes of the cluster.  ``coordinator``: for transactions that need no lease."""
        self.keeper = Keeper(server, coordinator, transport, node_id, peers, clock, rng, scheduler)
        self.fences = Fences(self.keeper, clock, rng, scheduler)
        self.node_id = node_id
        self._server = server
        self._kv = server.kv
        self._transport = transport
        self._peers = peers
        self._is_live = is_live
        self._scheduler = scheduler
        transport.on_message(CHANGED_ROWS, self._on_changed_rows)
        transport.on_call(SESSIONS, self._on_sessions)

    async def before_names(self) -> None:
        """Makes sure, before names are looked up, that they mean what they mean everywhere."""
        if not self.keeper.holds():
            await self.keeper.current()

    async def before_retry(self, error: Retryable) -> None:
        """Makes sure that what runs again runs under a lease, and with the catalog that its conflict was about."""
        if not self.keeper.holds():
            await self.keeper.current()
        elif error.reason == "schema_change":
            await self.keeper.catch_up()

    # --- statistics -----------------------------------------------------------------

    def hand_over(self, table_id: int, rows: int) -> bool:
        """Tells the node that analyzes, the first that lives, of changed rows; False where that is this one."""
        for node_id in sorted([*self._peers(), self.node_id]):
            if node_id == self.node_id:
                return False
            if self._is_live(node_id):
                self._transport.send(node_id, CHANGED_ROWS, _COUNT.pack(table_id, min(rows, ROWS_MAX)))
                return True
        return False

    def _on_changed_rows(self, node_id: int, message: bytes) -> None:
        table_id, rows = _COUNT.unpack(message) if len(message) == _COUNT.size else (0, 0)
        if table_id:
            self._server.autostats.add(table_id, rows)

    # --- sessions --------------------------------------------------------------------

    async def sessions_elsewhere(self, database_id: int) -> int:
        """Counts other nodes' sessions in a database; raises 55006 where a node that may have some cannot be asked."""
        count = 0
        for lease in await self.keeper.others(self._kv.now()):
            try:
                answer = await self._transport.call(
                    lease.node_id, SESSIONS, database_id.to_bytes(4, "big"), CALL_SECONDS_MAX
                )
            except MeridianError as problem:
                raise SqlError(
                    f"node {lease.node_id} does not say who is using the database: {problem.message}", sqlstate="55006"
                ) from None
            count += int.from_bytes(answer, "big")
        return count

    def _on_sessions(self, node_id: int, message: bytes) -> bytes:
        database_id = int.from_bytes(message, "big")
        found = [session for session in self._server.sessions.values() if session.database_id == database_id]
        return len(found).to_bytes(4, "big")

    # --- the catalog -------------------------------------------------------------------

    async def new_index_id(self, prefix: int, least: int) -> int:
        """Returns an index id, not below ``least``, that nobody ever filled under a key prefix, nor tried to."""
        kv, key = self._kv, filled_key(prefix)
        while True:
            raw: bytes | None = (await call(kv, Batch([Get(key)]))).results[0]
            id = max(least, 0 if raw is None else int.from_bytes(raw, "big") + 1)
            try:
                await call(kv, Batch([ConditionalPut(key, id.to_bytes(4, "big"), raw)]))
            except ConditionFailed:
                continue
            return id

    async def change(self, what: Change, puts: list[tuple[bytes, bytes]]) -> int:
        """Writes rows of the catalog and logs it, as a transaction of its own; returns the version that this made."""
        for _ in range(ATTEMPTS_MAX):
            txn = self.keeper.coordinator.begin(Isolation.SERIALIZABLE)
            try:
                for key, value in puts:
                    await settled(txn.get(key, Lock.EXCLUSIVE))
                    txn.put(key, value)
                version = await stamp(txn, what)
                await settled(txn.commit())
                return version
            except Retryable:
                await self.keeper.catch_up()
            finally:
                txn.rollback()
        raise TxnRetry("could not serialize access due to concurrent schema change", reason="schema_change")

    async def change_everywhere(self, what: Change, puts: list[tuple[bytes, bytes]]) -> None:
        """The same, and waits until every node has seen it."""
        change = self.fences.begin()
        try:
            change.version = await self.change(what, puts)
            await self.keeper.catch_up()
            await self.announce(change, is_private=False)
        finally:
            self.fences.end(change)

    async def announce(self, change: SchemaChange, is_private: bool) -> bool:
        """Waits until every node has a committed change, unless it concerns nobody; goes on to its end unwatched."""
        if is_private and not change.tables:
            return True
        waiter = self._scheduler.waiter()
        self._scheduler.spawn(self._announce(change, waiter), "announce")
        told: bool = await waiter.wait()
        return told

    async def _announce(self, change: SchemaChange, waiter: Waiter) -> None:
        waiter.wake(await self.fences.announce(change))
