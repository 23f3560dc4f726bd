"""What a schema change does where there are other nodes: fences around its tables, and its publication.

    hold       before a table is changed: nobody writes it any more, on any node
    stamp      with the commit: the fences are still there, and say from now on what they wait for
    announce   after the commit, before it is told: every node has the change, then writers go on

See the package for the whole of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from base.errors import Deadlock, LockNotAvailable, MeridianError, Retryable, TxnRetry
from base.seams import Clock, Rng, Scheduler
from kvtier.messages import Isolation, Lock, TxnMeta
from planner.schema import TableDesc
from sql.agreement.keeper import ATTEMPTS_MAX, POLL_SECONDS, RETRY_SECONDS, Keeper
from sql.agreement.rows import PUBLISHED, FenceRow, decode_fence, encode_row
from sql.catalog import keys
from sql.catalog.changes import Change, read_span, settled, stamp, state_of
from sql.lockcycles import acquire, dependents_of
from txn.transaction import Txn

if TYPE_CHECKING:
    from sql.catalog.draft import Draft
    from sql.session import Session

CHANGE_ID_BYTES: Final = 8
DEADLOCK_SECONDS: Final = 1.0
"""How long a schema change waits for another one before it asks whether they wait for each other."""
ANNOUNCE_SECONDS_MAX: Final = 60.0
"""How long a committed change waits to hear that everybody has it; a node that is gone has lost its lease long before."""


class SchemaChange:
    """What one transaction's schema change holds."""

    def __init__(self, id: bytes) -> None:
        self.id = id
        self.tables: dict[int, None] = {}
        """Fenced in."""
        self.version = 0
        """The catalog's with the change, from its stamp on."""


class Fences:
    """The schema changes of one node; see the module docstring."""

    def __init__(self, keeper: Keeper, clock: Clock, rng: Rng, scheduler: Scheduler) -> None:
        self.keeper = keeper
        self._clock = clock
        self._rng = rng
        self._scheduler = scheduler

    def begin(self) -> SchemaChange:
        """Begins a schema change; ``end`` it whatever becomes of it."""
        change = SchemaChange(self._rng.bytes(CHANGE_ID_BYTES))
        self.keeper.changes[change.id] = None
        return change

    def end(self, change: SchemaChange) -> None:
        """The transaction is over: what is left of its fences goes."""
        self.keeper.changes.pop(change.id, None)
        if change.tables:
            self.keeper.poke()

    # --- before: nobody writes --------------------------------------------------------

    async def hold(
        self, session: Session, change: SchemaChange, table_id: int, name: str, timeout_ms: int, nowait: bool
    ) -> None:
        """Returns once nobody but the session writes the table; raises Deadlock or LockNotAvailable."""
        keeper = self.keeper
        give_up_ns = self._clock.monotonic_ns() + timeout_ms * 1_000_000 if timeout_ms else 0
        is_new = table_id not in change.tables
        change.tables[table_id] = None
        try:
            if is_new:
                await self._claim(session, change, table_id, name, give_up_ns, nowait)
                keeper.tell_all()
            identity = session.block.ensure().identity
            await acquire(session.server, session, identity, table_id, True, timeout_ms, nowait, name)
            if is_new:
                await self._wait_for_all(session, change, table_id, give_up_ns)
        except BaseException:
            if is_new:
                change.tables.pop(table_id, None)
                self._scheduler.spawn(self._give_back(change, table_id), "fence")
            raise

    async def _claim(
        self, session: Session, change: SchemaChange, table_id: int, name: str, give_up_ns: int, nowait: bool
    ) -> None:
        """Puts up the fence; waits for the schema change that has one there."""
        keeper = self.keeper
        began_ns = self._clock.monotonic_ns()
        try:
            while True:
                await keeper.current()
                other = await self._try_claim(change, table_id, session.block.ensure().identity())
                if other is None:
                    return
                ts = keeper.catalog.kv.now()
                if keeper.is_over(other, await keeper.read_leases(ts), ts) and await keeper.remove(other):
                    continue
                if nowait:
                    raise LockNotAvailable(f'could not obtain lock on relation "{name}"')
                now_ns = self._clock.monotonic_ns()
                if change.id not in keeper.waiting:
                    keeper.waiting[change.id] = table_id
                    keeper.poke()
                if now_ns - began_ns > DEADLOCK_SECONDS * 1e9:
                    await self._check_cycle(session, change, other)
                await self._wait(give_up_ns)
        finally:
            keeper.waiting.pop(change.id, None)

    async def _try_claim(self, change: SchemaChange, table_id: int, owner: TxnMeta) -> FenceRow | None:
        """Puts up the fence and returns None, or returns the one that stands there."""
        keeper = self.keeper
        for _ in range(ATTEMPTS_MAX):
            term, incarnation = keeper.server.coordinator.term, keeper.incarnation
            txn = keeper.coordinator.begin(Isolation.SERIALIZABLE)
            try:
                raw = await settled(txn.get(keys.fence_key(table_id), Lock.EXCLUSIVE))
                if raw is not None:
                    found = decode_fence(raw)
                    # Of a claim of ours whose answer was lost.
                    is_ours = found.change_id == change.id and keeper.is_own(found)
                    return None if is_ours else found
                row = FenceRow(table_id, change.id, keeper.node_id, incarnation, txn_id=owner.id, anchor=owner.anchor)
                txn.put(keys.fence_key(table_id), encode_row(row))
                txn.set_deadline(term.until)
                await settled(txn.commit())
                return None
            except Retryable:
                await keeper.current()
            finally:
                txn.rollback()
        raise TxnRetry("could not serialize access due to concurrent schema change", reason="schema_change")

    async def _wait_for_all(self, session: Session, change: SchemaChange, table_id: int, give_up_ns: int) -> None:
        """Returns once every other node keeps the fence, or has lost its lease."""
        keeper = self.keeper
        asked_ns: dict[int, int] = {}
        while True:
            ts = keeper.catalog.kv.now()
            missing: list[int] = []
            for lease in await keeper.others(ts):
                if lease.refused.get(table_id) == change.id:
                    raise Deadlock(b"")
                if lease.kept.get(table_id) != change.id:
                    missing.append(lease.node_id)
            if not missing:
                return
            txn = session.block.txn
            if txn is not None and txn.is_lapsed():
                raise TxnRetry("the node's lease on the catalog has run out", reason="catalog_lease")
            keeper.ask(missing, asked_ns)
            await self._wait(give_up_ns)

    async def _wait(self, give_up_ns: int) -> None:
        seconds = POLL_SECONDS
        if give_up_ns:
            seconds = min(seconds, (give_up_ns - self._clock.monotonic_ns()) / 1e9)
            if seconds <= 0:
                raise LockNotAvailable("canceling statement due to lock timeout")
        await self.keeper.wait_for_news(seconds)

    async def _check_cycle(self, session: Session, change: SchemaChange, other: FenceRow) -> None:
        """Raises Deadlock if whoever has the fence waits, in the end, for this session, its fences or its rows."""
        keeper = self.keeper
        if other.txn_id in await dependents_of(keeper.server.kv, session.block.ensure().identity()):
            raise Deadlock(b"")
        for kept in keeper.kept.values():
            if kept.row.change_id == other.change_id:
                if keeper.server.table_locks.waits_for(kept.holder, session):
                    raise Deadlock(b"")
                break
        waiting: dict[bytes, int] = dict(keeper.waiting)
        for lease in await keeper.others(keeper.catalog.kv.now()):
            waiting.update(lease.waiting)
        txn = keeper.coordinator.begin(Isolation.SERIALIZABLE)
        try:
            rows = [decode_fence(value) for _, value in await read_span(txn, *keys.fence_span())]
        finally:
            txn.rollback()
        owners = {row.table_id: row.change_id for row in rows}
        cycle, at = [change.id], other.change_id
        while at not in cycle:
            cycle.append(at)
            owner = owners.get(waiting.get(at, 0))
            if owner is None:
                return
            at = owner
        # All of them find the cycle; one of them must give way.
        if at == change.id and change.id == max(cycle):
            raise Deadlock(b"")

    async def _give_back(self, change: SchemaChange, table_id: int) -> None:
        """Takes down a fence that was of no use; what cannot be done now the keeper does later."""
        keeper = self.keeper
        for _ in range(ATTEMPTS_MAX):
            txn = keeper.coordinator.begin(Isolation.SERIALIZABLE)
            try:
                raw = await settled(txn.get(keys.fence_key(table_id), Lock.EXCLUSIVE))
                if raw is None or decode_fence(raw).change_id != change.id:
                    return
                txn.delete(keys.fence_key(table_id))
                await settled(txn.commit())
                break
            except MeridianError:
                await self._clock.sleep(RETRY_SECONDS)
            finally:
                txn.rollback()
        keeper.tell_all()

    # --- with the commit ------------------------------------------------------------------

    async def stamp(self, txn: Txn, change: SchemaChange, draft: Draft | None) -> None:
        """Makes the transaction a version of the catalog; raises TxnRetry if it has lost a fence, or what it refers to."""
        change.version = 0
        if draft is not None and not draft.is_empty:
            sequences = [id for id, desc in draft.descs.items() if isinstance(desc, TableDesc) and desc.kind == "S"]
            change.version = await stamp(
                txn, Change(tuple(draft.descs), tuple(draft.roles), sequences=tuple(sequences))
            )
            catalog = self.keeper.catalog
            draft.require_sound(await state_of(txn, change.version - 1, catalog.version, catalog.state))
        for table_id in change.tables:
            key = keys.fence_key(table_id)
            raw = await settled(txn.get(key, Lock.EXCLUSIVE))
            row = None if raw is None else decode_fence(raw)
            if row is None or row.change_id != change.id:
                raise TxnRetry("could not serialize access due to concurrent schema change", reason="fence_lost")
            if change.version:
                txn.put(key, encode_row(msgspec.structs.replace(row, state=PUBLISHED, version=change.version)))
            else:
                txn.delete(key)

    # --- after it -------------------------------------------------------------------------

    async def announce(self, change: SchemaChange) -> bool:
        """Returns once every node that can run anything has the change; False if that took too long to hear."""
        if not change.version:
            self.keeper.tell_all()
            change.tables.clear()
            return True
        give_up_ns = self._clock.monotonic_ns() + int(ANNOUNCE_SECONDS_MAX * 1e9)
        asked_ns: dict[int, int] = {}
        while True:
            try:
                if await self._is_everywhere(change.version, asked_ns):
                    await self._take_down(change)
                    return True
            except Retryable:
                pass
            except MeridianError:
                await self._clock.sleep(RETRY_SECONDS)
            if self._clock.monotonic_ns() > give_up_ns:
                return False

    async def _is_everywhere(self, version: int, asked_ns: dict[int, int]) -> bool:
        """Asks those who are behind; False after a pause if there are any."""
        keeper = self.keeper
        behind = [lease.node_id for lease in await keeper.others(keeper.catalog.kv.now()) if lease.version < version]
        if not behind:
            return True
        keeper.ask(behind, asked_ns)
        await keeper.wait_for_news()
        return False

    async def _take_down(self, change: SchemaChange) -> None:
        """Removes the fences of a change that everybody has."""
        if not change.tables:
            return
        keeper = self.keeper
        txn = keeper.coordinator.begin(Isolation.SERIALIZABLE)
        try:
            for table_id in change.tables:
                raw = await settled(txn.get(keys.fence_key(table_id), Lock.EXCLUSIVE))
                if raw is not None and decode_fence(raw).change_id == change.id:
                    txn.delete(keys.fence_key(table_id))
            await settled(txn.commit())
        finally:
            txn.rollback()
        change.tables.clear()
        keeper.tell_all()
