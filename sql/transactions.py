"""The transaction block of a session: BEGIN to COMMIT, implicit blocks, savepoints, DDL drafts.

    I idle --BEGIN--> T --error--> E --ROLLBACK or COMMIT--> I
    I --any statement--> implicit block --end of the Query or Sync--> I

Everything that must end with the transaction hangs here: the Txn, the catalog draft, table locks, SET,
savepoints, deferred constraint checks.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from base.errors import MeridianError, Retryable, SqlError, TxnRetry
from base.seams import Waiter
from kvtier.messages import Isolation, Lock
from kvtier.replication.crossings import Meter
from sql.catalog.changes import Change, News, read_back, settled, version_of
from sql.catalog.draft import Draft, Snapshot
from sql.lockcycles import acquire
from sql.plancache import PlanEntry
from txn.coordinator import Transaction

if TYPE_CHECKING:
    from sql.agreement.fences import SchemaChange
    from sql.catalog.state import CatalogState
    from sql.session import Session

SAVEPOINTS_MAX: Final = 10_000
FIND_OUT_ATTEMPTS_MAX: Final = 10
"""How often what became of a schema change is asked for."""
LEVELS: Final = {
    "serializable": Isolation.SERIALIZABLE,
    "repeatable read": Isolation.REPEATABLE_READ,
    "read committed": Isolation.READ_COMMITTED,
    "read uncommitted": Isolation.READ_COMMITTED,
}


class Savepoint(NamedTuple):
    name: str
    token: int
    draft: Snapshot | None
    settings: tuple[dict[str, str], dict[str, str]]
    cursors: tuple[str, ...]
    scrapped: int
    dropped: int
    deferred: tuple[list[Any], int]
    """Constraint checks put off by then: a list that is only appended to, and how many of it."""
    constraint_modes: dict[tuple[int, str], bool]


class TransactionBlock:
    """See the module docstring."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.status = "I"
        self.is_implicit = True
        self.txn: Transaction | None = None
        self.draft: Draft | None = None
        self.base: CatalogState | None = None
        """The catalog before the first DDL, or the first wait for it."""
        self.savepoints: list[Savepoint] = []
        self.locked_tables: dict[int, None] = {}
        self.change: SchemaChange | None = None
        """What a schema change holds on other nodes."""
        self.entry: PlanEntry | None = None
        """The latest statement that was planned."""
        self.as_of_ts: int | None = None
        self.past: CatalogState | None = None
        """The catalog at the transaction's snapshot, where it reads tables that were changed since."""
        self.meter: Meter | None = None
        """Counts round trips between regions, where the session limits them or EXPLAIN ANALYZE asks."""
        self.has_modes = False
        """BEGIN named modes: the settings show them until the block ends."""
        self.was_told = False
        """True once the client was told a result of this transaction: it can no longer be run again here."""
        self.commit_ts = 0
        self.syncs: list[Any] = []
        """Tasks whose end a commit waits for: syncs of what this transaction told without writing it itself."""
        self.scrapped: list[tuple[bytes, bytes]] = []
        """Key spans written outside the transaction, to be cleared if it rolls back."""
        self.rubbish: list[tuple[bytes, bytes]] = []
        self.dropped: list[tuple[bytes, bytes]] = []
        """Spans to clear after the commit, by ``drop_span``."""
        """Such spans of what ROLLBACK TO SAVEPOINT undid, to be cleared in any case."""

    @property
    def is_open(self) -> bool:
        return self.txn is not None

    @property
    def has_something(self) -> bool:
        """True if an end of the block has anything to do."""
        return self.txn is not None or self.session.settings.has_changes

    def ensure(self) -> Transaction:
        """Returns the transaction, starting an implicit one if none is open."""
        txn = self.txn
        if txn is None:
            txn = self.start()
        return txn

    def can_commit_now(self) -> bool:
        """True where a commit is the transaction's own and nothing else."""
        session = self.session
        is_plain = not (session.has_holdable or session.has_on_commit) and self.change is None
        is_clean = not (self.syncs or self.rubbish or self.dropped)
        return self.draft is None and is_clean and not session.context.deferred and is_plain

    def can_roll_back_now(self) -> bool:
        """True where a rollback is the transaction's own and nothing else."""
        return not (self.scrapped or self.rubbish)

    def finish_rollback(self) -> None:
        """Ends the block after its transaction rolled back by itself (see ``can_roll_back_now``)."""
        self._finish(committed=False)

    def finish_commit(self, commit_ts: int) -> None:
        """Ends the block after its transaction committed by itself (see ``can_commit_now``)."""
        self.commit_ts = commit_ts
        self._finish(committed=True)

    def start(self) -> Transaction:
        """Begins the transaction of this block with the session's characteristics."""
        session = self.session
        settings = session.settings
        if self.status == "I":
            settings.begin_transaction()
        return self.start_txn()

    def start_txn(self) -> Transaction:
        """Begins the transaction with the characteristics set so far."""
        session = self.session
        settings = session.settings
        isolation = LEVELS[settings["transaction_isolation"]]
        lock_timeout = session.lock_timeout_ms
        self.txn = session.server.coordinator.begin(
            isolation,
            read_only=settings["transaction_read_only"] == "on",
            as_of_ts=self.as_of_ts or 0,
            lock_timeout_ms=lock_timeout,
        )
        if session.max_wan_hops >= 0:
            self.measure()
        return self.txn

    def measure(self) -> Meter:
        """Counts from now on how often this transaction waits for other regions."""
        if self.meter is None:
            session = self.session
            self.meter = Meter(session.server.clock.monotonic_ns, session.max_wan_hops)
            self.ensure().watch(self.meter)
        return self.meter

    def read_as_of(self, ts: int) -> None:
        """AS OF SYSTEM TIME of a statement or of BEGIN: the transaction reads there and writes nothing."""
        if self.as_of_ts == ts:
            return
        if self.txn is not None:
            raise SqlError(
                "inconsistent AS OF SYSTEM TIME timestamp: the transaction reads at another time already",
                sqlstate="0A000",
                hint="Use BEGIN AS OF SYSTEM TIME.",
            )
        if self.status == "I":
            self.session.settings.begin_transaction()
        self.as_of_ts = ts
        self.session.settings.set("transaction_read_only", "on", is_local=True)
        self.start_txn()

    # --- explicit blocks -------------------------------------------------------

    def begin(self, modes: dict[str, str] | None) -> None:
        """BEGIN; inside a block it only warns, as PostgreSQL does."""
        if self.status == "T" and not self.is_implicit:
            self.session.notice("WARNING", SqlError("there is already a transaction in progress", sqlstate="25001"))
            return
        session = self.session
        session.context.transaction_time = session.context.statement_time
        self.status = "T"
        self.is_implicit = False
        if self.txn is not None:
            self.set_modes(modes or {})
            return
        session.settings.begin_transaction()
        if modes:
            session.settings.set_modes(modes)
            self.has_modes = True

    def set_modes(self, modes: dict[str, str]) -> None:
        """SET TRANSACTION (and the modes of BEGIN): keys isolation, read_only, deferrable."""
        settings = self.session.settings
        isolation = modes.get("isolation")
        if isolation is not None and isolation != settings["transaction_isolation"]:
            if self.txn is not None:
                raise SqlError("SET TRANSACTION ISOLATION LEVEL must be called before any query", sqlstate="25001")
            settings.set("transaction_isolation", isolation, is_local=True)
        read_only = modes.get("read_only")
        if read_only is not None:
            if read_only == "off" and settings["transaction_read_only"] == "on" and self.txn is not None:
                raise SqlError("transaction read-write mode must be set before any query", sqlstate="25001")
            settings.set("transaction_read_only", read_only, is_local=True)
        if "deferrable" in modes:
            settings.set("transaction_deferrable", modes["deferrable"], is_local=True)

    async def commit(self) -> str:
        """Ends the block; returns the tag: COMMIT, or ROLLBACK of a failed transaction."""
        if self.status == "E":
            await self.rollback()
            return "ROLLBACK"
        if self.txn is not None:
            await self._commit_txn(self.txn)
        if self.rubbish:
            # An index made again may have taken its id and place.
            await self._clear([span for span in self.rubbish if span not in self.scrapped])
        if self.dropped:
            # Not within the transaction: until the catalog is published, others read by the old one.
            await self._clear(self.dropped)
        self._finish(committed=True)
        return "COMMIT"

    async def _commit_txn(self, txn: Transaction) -> None:
        """Commits, and publishes what became of the catalog."""
        session = self.session
        catalog = session.server.catalog
        moved: list[int] = []
        waiter: Waiter | None = None
        try:
            await session.before_commit()
            for sync in self.syncs:
                failure = await sync
                if failure is not None:
                    raise failure
            draft = self.draft
            if draft is not None or self.change is not None:
                await self._stamp(txn)
            if draft is not None:
                waiter = session.server.scheduler.waiter()
                catalog.begin_commit(waiter)
                moved = draft.moved
                catalog.begin_move(moved)
            committed = txn.commit()
            if not isinstance(committed, int):
                session.is_committing = True
                committed = await committed
            self.commit_ts = committed
            is_private = self._is_private()
            if draft is not None and not draft.is_empty:
                session.server.publish(draft.descs, draft.roles, committed, session)
        except MeridianError as error:
            # A restartable transaction is left open for the session, which may run it again.
            if not (isinstance(error, Retryable) and session.may_run_again()):
                if txn.state == "ambiguous":
                    # What was written for it may be in use: it is left where it is.
                    self.scrapped, self.rubbish = [], []
                    await self._find_out()
                await self.rollback()
            raise
        finally:
            session.is_committing = False
            catalog.end_move(moved)
            if waiter is not None:
                catalog.end_commit(waiter)
        if self.change is not None:
            await self._announce(self.change, is_private)

    async def _find_out(self) -> None:
        """Publishes what is stored after a commit of unknown outcome, before its table locks go.

        Of several nodes the log of changes tells; one that is alone would go on with a catalog that its next life
        does not have, and leave an index without entries.
        """
        server, draft = self.session.server, self.draft
        if server.agreement is not None or draft is None or draft.is_empty:
            return
        change = Change(tuple(draft.descs), tuple(draft.roles))
        for _ in range(FIND_OUT_ATTEMPTS_MAX):
            news = await self._stored(change)
            if news is not None:
                server.publish(news.descs, news.roles, news.ts, self.session)
                return

    async def _stored(self, change: Change) -> News | None:
        """Returns what is stored of what a change names; None if that cannot be read now."""
        txn = self.session.server.coordinator.begin(Isolation.SERIALIZABLE)
        try:
            news = await read_back(txn, change)
            await settled(txn.commit())
            return news
        except MeridianError:
            return None
        finally:
            txn.rollback()

    async def _stamp(self, txn: Transaction) -> None:
        """Makes a schema change one that other nodes can learn, as the last step before its commit."""
        agreement, catalog, draft = self.session.server.agreement, self.session.server.catalog, self.draft
        if agreement is None:
            if draft is not None and not draft.is_empty:
                await version_of(txn, Lock.EXCLUSIVE)
                await catalog.settle()
                draft.require_sound(catalog.state)
            return
        if self.change is None:
            self.change = agreement.fences.begin()
        await agreement.fences.stamp(txn, self.change, self.draft)

    async def _announce(self, change: SchemaChange, is_private: bool) -> None:
        """Waits until all nodes have a committed change; nothing it dropped is emptied before."""
        session = self.session
        agreement = session.server.agreement
        assert agreement is not None, change
        if change.version == session.server.catalog.version + 1:
            session.server.catalog.version = change.version
        session.is_committing = True
        try:
            if not await agreement.announce(change, is_private):
                self.dropped, self.rubbish = [], []
        finally:
            session.is_committing = False

    def _is_private(self) -> bool:
        """True if nothing was changed but the session's own temporary objects."""
        draft, schema = self.draft, self.session.temp_schema_id
        if draft is None or draft.roles or not schema:
            return False
        known = self.session.server.catalog.state.by_id
        for id, desc in draft.descs.items():
            found = desc if desc is not None else known.get(id)
            if found is not None and id != schema and getattr(found, "schema_id", 0) != schema:
                return False
        return True

    async def rollback(self) -> None:
        """Ends the block, undoing everything; never raises for the transaction's sake."""
        txn = self.txn
        if txn is not None:
            done = txn.rollback()
            if done is not None:
                # A cancel request that comes now must not leave locks behind.
                self.session.is_committing = True
                try:
                    await done
                finally:
                    self.session.is_committing = False
        if self.scrapped or self.rubbish:
            await self._clear([*self.scrapped, *self.rubbish])
        self._finish(committed=False)

    async def _clear(self, spans: list[tuple[bytes, bytes]]) -> None:
        """Deletes spans nobody reads any more; where that fails only their space is lost.

        Each by a transaction that reads now: one whose answer is lost may be applied later, and must then
        find that the place was taken again by an index of the same id, and leave it alone.
        """
        for start, end in spans:
            txn = self.session.server.coordinator.begin(Isolation.SERIALIZABLE)
            try:
                deleted = txn.delete_span(start, end)
                if deleted is not None:
                    await deleted
                committed = txn.commit()
                if not isinstance(committed, int):
                    await committed
            except MeridianError:
                released = txn.rollback()
                if released is not None:
                    await released

    def _finish(self, committed: bool) -> None:
        session = self.session
        statements = session.statements_done if self.draft is None else 0
        if self.meter is not None:
            self.meter = None
            if self.txn is not None:
                self.txn.unwatch()
        self.txn = None
        self.draft = self.base = None
        self.status = "I"
        self.is_implicit = True
        self.as_of_ts = None
        self.past = None
        self.was_told = False
        if self.syncs:
            self.syncs = []
        if self.scrapped:
            self.scrapped = []
        if self.rubbish:
            self.rubbish = []
        if self.dropped:
            self.dropped = []
        if self.savepoints:
            self.savepoints.clear()
        self.entry = None
        if self.change is not None:
            self._end_change()
        if self.locked_tables:
            if committed:
                session.server.autostats.note(self.locked_tables, session.context.changes, statements)
            session.server.table_locks.release_all(session, list(self.locked_tables))
            self.locked_tables.clear()
        if session.context.changes:
            session.context.changes = {}
        session.after_transaction(committed)
        if self.has_modes:
            # After what a rollback brings back, which was saved within the block.
            self.has_modes = False
            session.settings.begin_transaction()

    def fail(self) -> None:
        """A statement of an explicit block failed: only ROLLBACK (TO) and COMMIT are accepted now."""
        assert self.status in ("T", "E"), self.status
        self.status = "E"

    # --- savepoints ------------------------------------------------------------

    def _require_block(self, command: str) -> None:
        if self.status == "I" or self.is_implicit:
            raise SqlError(f"{command} can only be used in transaction blocks", sqlstate="25P01")

    def savepoint(self, name: str) -> None:
        self._require_block("SAVEPOINT")
        if len(self.savepoints) >= SAVEPOINTS_MAX:
            raise SqlError("too many savepoints", sqlstate="54000")
        txn = self.ensure()
        draft = self.draft.snapshot() if self.draft is not None else None
        self.savepoints.append(
            Savepoint(
                name,
                txn.savepoint(),
                draft,
                self.session.settings.snapshot(),
                tuple(self.session.portals),
                len(self.scrapped),
                len(self.dropped),
                (self.session.context.deferred, len(self.session.context.deferred)),
                dict(self.session.context.constraint_modes),
            )
        )

    def _find(self, name: str) -> int:
        for i in range(len(self.savepoints) - 1, -1, -1):
            if self.savepoints[i].name == name:
                return i
        raise SqlError(f'savepoint "{name}" does not exist', sqlstate="3B001")

    def release(self, name: str) -> None:
        self._require_block("RELEASE SAVEPOINT")
        del self.savepoints[self._find(name) :]

    def rollback_to(self, name: str) -> None:
        """Undoes what came after the savepoint, keeps the savepoint, and heals a failed block."""
        self._require_block("ROLLBACK TO SAVEPOINT")
        i = self._find(name)
        savepoint = self.savepoints[i]
        del self.savepoints[i + 1 :]
        self.ensure().rollback_to(savepoint.token)
        if self.draft is not None:
            if savepoint.draft is None:
                self.draft = None
            else:
                self.draft.restore(savepoint.draft)
        session = self.session
        if session.settings.has_changes:
            session.settings.restore(savepoint.settings)
            session.apply_settings()
        session.close_cursors_but(savepoint.cursors)
        self.rubbish.extend(self.scrapped[savepoint.scrapped :])
        del self.scrapped[savepoint.scrapped :]
        del self.dropped[savepoint.dropped :]
        checks, count = savepoint.deferred
        self.session.context.deferred = checks[:count]
        self.session.context.constraint_modes = dict(savepoint.constraint_modes)
        self.status = "T"

    # --- what statements ask for -----------------------------------------------

    def ddl(self) -> Draft:
        """Returns the catalog draft, making the first statement of DDL start one."""
        txn = self.ensure()
        if self.draft is None:
            self.draft = Draft(self.session.server.catalog, txn, self._first_state())
        return self.draft

    def _first_state(self) -> CatalogState:
        if self.base is None:
            self.base = self.session.server.catalog.state
        return self.base

    def wait_for(self, sync: Awaitable[Any]) -> None:
        """Lets the commit wait for a sync that goes on meanwhile."""
        self.syncs.append(self.session.server.scheduler.spawn(_outcome(sync), "sync"))

    def scrap(self, start: bytes, end: bytes) -> None:
        """Remembers a span that DDL fills directly: rubbish unless this transaction commits."""
        self.scrapped.append((start, end))

    def drop_span(self, start: bytes, end: bytes) -> None:
        """Remembers a span whose table or index is dropped: cleared once the commit is published."""
        self.dropped.append((start, end))

    async def lock_table(self, table_id: int, name: str, exclusive: bool = False, nowait: bool = False) -> None:
        """Takes a table lock until the transaction ends."""
        txn = self.ensure()
        self.locked_tables[table_id] = None
        if exclusive:
            self._first_state()
        session = self.session
        timeout_ms, agreement = session.lock_timeout_ms, session.server.agreement
        if exclusive and agreement is not None and self.is_shared(table_id):
            if self.change is None:
                self.change = agreement.fences.begin()
            await agreement.fences.hold(session, self.change, table_id, name, timeout_ms, nowait)
        else:
            await acquire(session.server, session, txn.identity, table_id, exclusive, timeout_ms, nowait, name)

    def is_shared(self, table_id: int) -> bool:
        """True for a table that other nodes may write: it was committed, and is not this session's own."""
        desc = self.session.server.catalog.state.table_by_id(table_id)
        return desc is not None and desc.schema_id != self.session.temp_schema_id

    def unlock(self) -> None:
        """Gives up all table locks of a transaction that begins anew: they may be worth nothing, or in the way."""
        if self.change is not None:
            self._end_change()
        if self.locked_tables:
            self.session.server.table_locks.release_all(self.session, list(self.locked_tables))
            self.locked_tables.clear()

    def _end_change(self) -> None:
        agreement, change = self.session.server.agreement, self.change
        assert agreement is not None, change
        assert change is not None
        self.change = None
        agreement.fences.end(change)

    def spoil(self, spans: list[tuple[int, bytes, bytes]]) -> None:
        """Some (table id, start, end) are not maintained any more: whoever has read there cannot commit any more."""
        txn, entry = self.txn, self.entry
        if txn is None:
            return
        for table_id, start, end in spans:
            is_used = entry is not None and table_id in entry.statement.tables
            if is_used or txn.has_read(start, end) or self._has_open(table_id):
                txn.set_deadline(1)
                return

    def _has_open(self, table_id: int) -> bool:
        return any([portal.is_open_on(table_id) for portal in self.session.portals.values()])

    async def move_past(self, modified_ts: int) -> None:
        """A descriptor newer than this transaction's snapshot is to be used: the snapshot must move up."""
        txn = self.ensure()
        if txn.read_ts == 0 or modified_ts < txn.read_ts:
            return
        moved = txn.refresh_to(self.session.server.kv.now())
        if not isinstance(moved, bool):
            moved = await moved
        if not moved:
            raise TxnRetry("could not serialize access due to concurrent schema change", reason="schema_change")


async def _outcome(awaitable: Awaitable[Any]) -> MeridianError | None:
    """Returns the error of a sync instead of raising it: the commit that waits for it will."""
    try:
        await awaitable
    except MeridianError as error:
        return error
    return None
