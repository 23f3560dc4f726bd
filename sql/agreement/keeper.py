"""The node's lease on the catalog: renewed in the background, together with all that it promises.

    every RENEW_SECONDS, and whenever somebody says "look", in one transaction:
        the catalog's version is not ours   read the changes, publish them, begin again
        fences                              keep new ones (writers end first), let go of those that went
        our lease                           write it: version, fences kept, end = now + LEASE_SECONDS

A lease that was lost (the node stood still, or could reach nobody) begins a new term: transactions of the old one can
commit nothing, so the fences that are there are kept at once, over the heads of their writers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from base.errors import Deadlock, MeridianError, QueryCanceled, Retryable, StorageFailure, TxnRetry
from base.hlc import LOGICAL_BITS
from base.seams import Clock, Rng, Scheduler, Transport, Waiter
from kvtier.messages import Batch, Isolation, Lock, Scan, ScanResult, TxnMeta
from sql.agreement.rows import LOCKED, FenceRow, LeaseRow, decode_fence, decode_lease, encode_row
from sql.catalog import keys
from sql.catalog.cache import call
from sql.catalog.changes import News, read_news, read_span, settled, version_of
from sql.lockcycles import acquire
from txn.coordinator import Coordinator, Transaction
from txn.term import Term

if TYPE_CHECKING:
    from sql.server import SqlServer

LEASE_SECONDS: Final = 12.0
"""What a schema change waits for a node that is gone; also how long a node may be cut off without losing transactions."""
RENEW_SECONDS: Final = 3.0
RETRY_SECONDS: Final = 0.3
ATTEMPTS_MAX: Final = 10
"""Of one renewal that meets the catalog's changes."""
CURRENT_SECONDS_MAX: Final = 20.0
"""How long a transaction waits for its node to get the lease back."""
POLL_SECONDS: Final = 0.2
"""Looks at rows of others are at most this far apart, if no message says when."""
ASK_AGAIN_NS: Final = 1_000_000_000
"""A node that was asked to look and has not done what was hoped for is asked again after this: a message may be lost."""
CHANNEL: Final = "kv.catalog"
LOOK: Final = b"?"
DONE: Final = b"!"


class Foreign:
    """The holder of table locks for one schema change of another node."""

    def __init__(self, row: FenceRow) -> None:
        self.change_id = row.change_id
        self.known_as = row.txn_id

    def __repr__(self) -> str:
        return f"schema change {self.change_id.hex()}"


class Kept:
    """A fence of another node's, here."""

    def __init__(self, row: FenceRow, holder: Foreign) -> None:
        self.row = row
        self.holder = holder
        self.is_kept = False
        self.is_refused = False
        self.is_gone = False


class Keeper:
    """See the module docstring."""

    def __init__(
        self,
        server: SqlServer,
        coordinator: Coordinator,
        transport: Transport,
        node_id: int,
        peers: Callable[[], list[int]],
        clock: Clock,
        rng: Rng,
        scheduler: Scheduler,
    ) -> None:
        """``coordinator``: for transactions that need no lease.  ``peers``: the other nodes of the cluster."""
        self.server = server
        self.catalog = server.catalog
        self.coordinator = coordinator
        self.node_id = node_id
        self.incarnation = b""
        self.changes: dict[bytes, None] = {}
        """Schema changes of this node that are under way."""
        self.waiting: dict[bytes, int] = {}
        """Those of them that wait for the fence of a table."""
        self.kept: dict[int, Kept] = {}
        """Fences of others, by table."""
        self.renewals = 0
        self.terms = 0
        self._transport = transport
        self._peers = peers
        self._clock = clock
        self._rng = rng
        self._scheduler = scheduler
        self._holders: dict[bytes, Foreign] = {}
        self._is_loaded = False
        self._is_stopped = False
        self._is_poked = False
        self._sleeper: Waiter | None = None
        self._watchers: dict[Waiter, None] = {}
        self._asked: dict[int, None] = {}
        transport.on_message(CHANNEL, self._on_message)

    # --- life -----------------------------------------------------------------------

    async def start(self) -> None:
        """Returns once the node has read the catalog and holds its lease; renews it from then on."""
        while not self.holds():
            try:
                await self.renew()
            except StorageFailure:
                raise
            except MeridianError:
                await self._clock.sleep(RETRY_SECONDS)
        self._scheduler.spawn(self._run(), "catalog lease")

    def stop(self) -> None:
        """Renews no more; what runs has what is left of the lease."""
        self._is_stopped = True
        self.poke()

    async def _run(self) -> None:
        pause = RENEW_SECONDS
        while True:
            if not self._is_poked:
                self._sleeper = waiter = self._scheduler.waiter()
                cancel = self._scheduler.call_later(pause, waiter.wake)
                await waiter.wait()
                cancel()
            if self._is_stopped:
                return
            self._is_poked = False
            pause = RENEW_SECONDS
            try:
                await self.renew()
            except StorageFailure:
                return
            except MeridianError:
                pause = RETRY_SECONDS

    def poke(self) -> None:
        """Lets the lease be renewed, and everything be looked at, right now."""
        self._is_poked = True
        if self._sleeper is not None:
            self._sleeper.wake()

    # --- messages ---------------------------------------------------------------------

    def _on_message(self, node_id: int, message: bytes) -> None:
        if message == LOOK:
            self._asked[node_id] = None
            self.poke()
        else:
            self.wake_watchers()

    def ask(self, nodes: list[int], asked_ns: dict[int, int] | None = None) -> None:
        """Asks nodes to look at the rows now; they say when they have.

        ``asked_ns``: when the caller asked each of them before; not again so soon, or two nodes keep each other busy.
        """
        now_ns = self._clock.monotonic_ns()
        for node_id in nodes:
            if node_id == self.node_id:
                continue
            if asked_ns is not None:
                if now_ns - asked_ns.get(node_id, -ASK_AGAIN_NS) < ASK_AGAIN_NS:
                    continue
                asked_ns[node_id] = now_ns
            self._transport.send(node_id, CHANNEL, LOOK)

    def tell_all(self) -> None:
        """Asks everybody."""
        self.ask(self._peers())

    def wake_watchers(self) -> None:
        """Something may have changed for those who wait for rows of others."""
        watchers, self._watchers = self._watchers, {}
        for waiter in watchers:
            waiter.wake()

    async def wait_for_news(self, seconds: float = POLL_SECONDS) -> None:
        """Returns when rows of others may have changed, at the latest after a time."""
        waiter = self._scheduler.waiter()
        self._watchers[waiter] = None
        cancel = self._scheduler.call_later(seconds, waiter.wake)
        try:
            await waiter.wait()
        finally:
            cancel()
            self._watchers.pop(waiter, None)

    # --- the lease --------------------------------------------------------------------

    def holds(self) -> bool:
        """True while transactions may begin here."""
        term = self.server.coordinator.term
        return term is not None and self.catalog.kv.now() < term.until

    async def current(self) -> None:
        """Waits a while for the node to hold its lease."""
        give_up_ns = self._clock.monotonic_ns() + int(CURRENT_SECONDS_MAX * 1e9)
        while not self.holds() and self._clock.monotonic_ns() < give_up_ns:
            self.poke()
            await self.wait_for_news()

    async def renew(self) -> None:
        """Looks at everything and writes the lease; raises what kept it from doing so."""
        for _ in range(ATTEMPTS_MAX):
            txn = self.coordinator.begin(Isolation.SERIALIZABLE)
            try:
                fences = await self._renew_in(txn)
            except Retryable:
                continue
            finally:
                txn.rollback()
            if fences is None:
                await self.catch_up()
                continue
            self.renewals += 1
            self._tell_done()
            if fences:
                await self._clear_away(fences)
            return
        raise TxnRetry("the catalog changes too fast for this node", reason="catalog_lease")

    async def _renew_in(self, txn: Transaction) -> list[FenceRow] | None:
        """Returns the fences there are; None if the catalog must be caught up with first."""
        version = await version_of(txn)
        if not self._is_loaded or version != self.catalog.version:
            return None
        fences = [decode_fence(value) for _, value in await read_span(txn, *keys.fence_span())]
        if version != self.catalog.version:
            return None  # A session of this node has published meanwhile; what we read is older.
        term = self.server.coordinator.term
        is_new = term is None or txn.read_ts >= term.until
        if is_new:
            self.incarnation = self._rng.bytes(8)
        self._follow(fences, is_new)
        until = txn.read_ts + (int(LEASE_SECONDS * 1e6) << LOGICAL_BITS)
        txn.put(keys.lease_key(self.node_id), encode_row(self._row(until, version)))
        if term is not None and not is_new:
            txn.set_deadline(term.until)
        await settled(txn.commit())
        if term is None or is_new:
            self.terms += 1
            self.server.coordinator.term = Term(until)
        else:
            term.until = until
        return fences

    def _row(self, until: int, version: int) -> LeaseRow:
        kept = {table_id: found.row.change_id for table_id, found in self.kept.items() if found.is_kept}
        refused = {table_id: found.row.change_id for table_id, found in self.kept.items() if found.is_refused}
        return LeaseRow(self.node_id, self.incarnation, until, version, kept, refused, dict(self.waiting))

    def _tell_done(self) -> None:
        asked, self._asked = self._asked, {}
        for node_id in dict.fromkeys([*asked, *(found.row.node_id for found in self.kept.values())]):
            if node_id != self.node_id:
                self._transport.send(node_id, CHANNEL, DONE)
        self.wake_watchers()

    async def read_leases(self, ts: int) -> list[LeaseRow]:
        """Returns the leases of all nodes as of a timestamp; one that is over then never comes to life again unseen."""
        rows: ScanResult = (await call(self.catalog.kv, Batch([Scan(*keys.lease_span())], ts=ts))).results[0]
        return [decode_lease(value) for value in rows.values]

    async def others(self, ts: int) -> list[LeaseRow]:
        """Returns the leases of other nodes that hold at a timestamp."""
        return [lease for lease in await self.read_leases(ts) if lease.node_id != self.node_id and lease.until > ts]

    # --- the catalog --------------------------------------------------------------------

    async def catch_up(self) -> None:
        """Reads what was changed elsewhere and publishes it here."""
        catalog = self.catalog
        while True:
            before = catalog.publications
            txn = self.coordinator.begin(Isolation.SERIALIZABLE)
            try:
                news = await read_news(txn, catalog.version if self._is_loaded else None, catalog.state)
                await settled(txn.commit())
            finally:
                txn.rollback()
            if catalog.publications == before:
                break
        self._publish(news)

    def _publish(self, news: News) -> None:
        server, catalog = self.server, self.catalog
        if news.descs or news.roles:
            server.publish(news.descs, news.roles, news.ts)
        for table_id, stats in news.stats.items():
            if stats is not None:
                catalog.stats[table_id] = stats
                server.plans.forget_table(table_id)
                server.autostats.analyzed(table_id)
        if news.sequences is None:
            server.sequences.forget_all()
        else:
            for id in news.sequences:
                server.sequences.forget(id)
        catalog.version = news.version
        self._is_loaded = True

    # --- fences of others ---------------------------------------------------------------

    def is_own(self, row: FenceRow) -> bool:
        """True for a fence of a schema change in this node's present term."""
        return row.node_id == self.node_id and row.incarnation == self.incarnation

    def _follow(self, fences: list[FenceRow], is_new: bool) -> None:
        """Keeps exactly the fences of others that there are."""
        current = {row.table_id: row for row in fences if not self.is_own(row)}
        for table_id, found in list(self.kept.items()):
            row = current.get(table_id)
            if row is None or row.change_id != found.row.change_id:
                self._let_go(found)
        for table_id, row in current.items():
            kept = self.kept.get(table_id)
            if kept is None:
                kept = self.kept[table_id] = Kept(row, self._holder(row))
                if not is_new:
                    self._scheduler.spawn(self._keep(kept), "fence")
            if is_new and not kept.is_kept:
                self.server.table_locks.seize(kept.holder, table_id)
                kept.is_kept, kept.is_refused = True, False

    def _holder(self, row: FenceRow) -> Foreign:
        holder = self._holders.get(row.change_id)
        if holder is None:
            holder = self._holders[row.change_id] = Foreign(row)
        return holder

    async def _keep(self, kept: Kept) -> None:
        """Waits for the writers that are there, then says that there are no more."""
        try:
            owner = TxnMeta(kept.row.txn_id, anchor=kept.row.anchor)
            await acquire(self.server, kept.holder, lambda: owner, kept.row.table_id, exclusive=True)
        except Deadlock:
            kept.is_refused = True
        except QueryCanceled:
            return
        else:
            if kept.is_gone:
                self.server.table_locks.release_all(kept.holder, [kept.row.table_id])
                return
            kept.is_kept = True
        self.poke()

    def _let_go(self, kept: Kept) -> None:
        table_id = kept.row.table_id
        kept.is_gone = True
        del self.kept[table_id]
        self.server.table_locks.withdraw(kept.holder, table_id)
        self.server.table_locks.release_all(kept.holder, [table_id])
        if all(other.holder is not kept.holder for other in self.kept.values()):
            self._holders.pop(kept.row.change_id, None)

    # --- fences that nobody takes away ------------------------------------------------------

    async def _clear_away(self, fences: list[FenceRow]) -> None:
        """Removes fences whose schema change is over, one way or the other."""
        idle = [row for row in fences if not (self.is_own(row) and row.change_id in self.changes)]
        if not idle:
            return
        ts = self.catalog.kv.now()
        leases = await self.read_leases(ts)
        is_removed = False
        for row in idle:
            if self.is_over(row, leases, ts):
                is_removed = await self.remove(row) or is_removed
        if is_removed:
            self.poke()
            self.tell_all()

    def is_over(self, row: FenceRow, leases: list[LeaseRow], ts: int) -> bool:
        """True if a fence stands for nothing any more: the change is lost, or everybody has it."""
        if self.is_own(row):
            if row.change_id in self.changes:
                return False
        elif any(lease.incarnation == row.incarnation and lease.until > ts for lease in leases):
            return False
        return row.state == LOCKED or all(lease.version >= row.version or lease.until <= ts for lease in leases)

    async def remove(self, row: FenceRow) -> bool:
        """Takes a fence away that was found to be over; False if it is another one by now."""
        for _ in range(ATTEMPTS_MAX):
            txn = self.coordinator.begin(Isolation.SERIALIZABLE)
            try:
                raw = await settled(txn.get(keys.fence_key(row.table_id), Lock.EXCLUSIVE))
                if raw is None or decode_fence(raw) != row:
                    return False
                txn.delete(keys.fence_key(row.table_id))
                await settled(txn.commit())
                return True
            except Retryable:
                continue
            finally:
                txn.rollback()
        return False
