"""Who holds locks on this leaseholder, and whether they are still alive.

Locks are in memory here, their transactions' coordinators anywhere.  One whose node died would keep
its locks for ever: nobody ends it.  So whoever waits for a lock looks, from time to time, at
the record of its holder, as waiters for intents do; a transaction that was not heard of for
long enough is aborted there, and its locks here are freed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from base.errors import MeridianError
from kvtier.change import Conflict
from kvtier.messages import Batch, Push, Reply, TxnMeta, TxnStatus

if TYPE_CHECKING:
    from kvtier.store import Store

HOLDERS_SLACK: Final = 1_000
"""Ended transactions that may be remembered before they are looked for and forgotten."""


class LockHolders:
    """Transactions that have taken locks here, as they said of themselves."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._metas: dict[bytes, TxnMeta] = {}

    def note(self, txn: TxnMeta) -> None:
        """Remembers a transaction whose batch was evaluated here, if it holds anything."""
        locks = self._store.state.locks
        if not locks.held_by(txn.id):
            self._metas.pop(txn.id, None)
            return
        self._metas[txn.id] = msgspec.structs.replace(txn)
        if len(self._metas) > 2 * len(locks) + HOLDERS_SLACK:
            self._metas = {txn_id: meta for txn_id, meta in self._metas.items() if locks.held_by(txn_id)}

    def of_key(self, key: bytes) -> list[TxnMeta]:
        """Returns the holders of a key's lock that are known."""
        state = self._store.state.locks.states.get(key)
        if state is None:
            return []
        return [self._metas[txn_id] for txn_id in (state.exclusive, *state.sharers) if txn_id in self._metas]


class LockWatch:
    """Looks after the holders of a lock while somebody waits for it."""

    def __init__(self, store: Store, holders: LockHolders, conflict: Conflict) -> None:
        self._store = store
        self._holders = holders
        self._key = conflict.key
        self._cancel: Callable[[], None] | None = None
        self._is_stopped = False

    def start(self) -> None:
        """Looks again after the time a transaction may be silent."""
        self._cancel = self._store.scheduler.call_later(self._store.settings.txn_expiry_seconds, self._fire)

    def stop(self) -> None:
        """The wait is over."""
        self._is_stopped = True
        if self._cancel is not None:
            self._cancel()

    def _fire(self) -> None:
        if not self._is_stopped:
            self._store.scheduler.spawn(self._look(), "lock watch")

    async def _look(self) -> None:
        for holder in self._holders.of_key(self._key):
            try:
                if await self._has_ended(holder):
                    self._store.state.locks.release_txn(holder.id)
            except MeridianError:
                pass  # The record's range cannot be asked now: ask again later.
        if not self._is_stopped:
            self.start()

    async def _has_ended(self, holder: TxnMeta) -> bool:
        push = Push(holder.anchor or self._key, holder, 0, False, self._store.now())
        reply = self._store.kv.send(Batch([push]))
        if not isinstance(reply, Reply):
            reply = await reply
        status: TxnStatus = reply.results[0].status
        return status >= TxnStatus.COMMITTED
