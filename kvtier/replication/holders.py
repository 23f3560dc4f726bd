"""Who holds locks on this leaseholder, and whether they are still alive.

Locks are in memory here, their transactions' coordinators anywhere.  One whose node died would keep
its locks for ever: nobody ends it.  So whoever waits for a lock looks, from time to time, at
the record of its holder, as waiters for intents do; a transaction that was not heard of for
long enough is aborted there, and its locks here are freed.  The same round finds deadlocks whose
locks are in several stores (``kvtier.dependents``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from base.errors import Deadlock, MeridianError
from kvtier.change import Conflict
from kvtier.messages import Batch, Push, PushResult, Reply, TxnMeta, TxnStatus

if TYPE_CHECKING:
    from kvtier.store import Store

WATCH_SECONDS: Final = 1.0
"""Between two looks at the holder of what is waited for; most waits are over long before."""
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
    """Looks after the holders of a lock or intent while somebody waits for it."""

    def __init__(self, store: Store, holders: LockHolders, conflict: Conflict, waiter: TxnMeta | None) -> None:
        self._store = store
        self._holders = holders
        self._conflict = conflict
        self._waiter = waiter
        self._cancel: Callable[[], None] | None = None
        self._is_stopped = False

    def start(self) -> None:
        """Looks again after a while."""
        self._cancel = self._store.scheduler.call_later(WATCH_SECONDS, self._fire)

    def stop(self) -> None:
        """The wait is over."""
        self._is_stopped = True
        if self._cancel is not None:
            self._cancel()

    def _fire(self) -> None:
        if not self._is_stopped:
            self._store.scheduler.spawn(self._look(), "lock watch")

    async def _look(self) -> None:
        try:
            dependents = await self._dependents()
            for holder in self._holding():
                if self._waiter is not None and holder.id in dependents and self._waiter.id > holder.id:
                    self._give_way(holder)
                    return
                if await self._has_ended(holder, dependents):
                    self._store.state.locks.release_txn(holder.id)
        except MeridianError:
            pass  # Some record's range cannot be asked now: ask again later.
        if not self._is_stopped:
            self.start()

    def _holding(self) -> list[TxnMeta]:
        """Returns who is in the way: the intent's transaction, or the lock's holders that are known."""
        intent = self._conflict.intent
        if intent is not None:
            return [intent.txn]
        mine = b"" if self._waiter is None else self._waiter.id
        return [holder for holder in self._holders.of_key(self._conflict.key) if holder.id != mine]

    async def _dependents(self) -> tuple[bytes, ...]:
        """Returns who waits for the waiter."""
        waiter = self._waiter
        if waiter is None or not waiter.anchor:
            return ()
        result = await self._push(Push(waiter.anchor, waiter, 0, False, self._store.now(), query=True))
        return result.dependents

    async def _has_ended(self, holder: TxnMeta, dependents: tuple[bytes, ...]) -> bool:
        pusher = b"" if self._waiter is None else self._waiter.id
        anchor = holder.anchor or self._conflict.key
        result = await self._push(Push(anchor, holder, 0, False, self._store.now(), pusher, dependents))
        return result.status >= TxnStatus.COMMITTED

    async def _push(self, push: Push) -> PushResult:
        reply = self._store.kv.send(Batch([push]))
        if not isinstance(reply, Reply):
            reply = await reply
        result: PushResult = reply.results[0]
        return result

    def _give_way(self, holder: TxnMeta) -> None:
        """Ends the wait: it would never end by itself."""
        locks = self._store.state.locks
        locks.deadlocks += 1
        state = locks.states.get(self._conflict.key)
        if state is None or self._waiter is None:
            return
        for request in [*state.queue, *state.readers]:
            if request.txn_id == self._waiter.id:
                request.waiter.fail(Deadlock(self._conflict.key, holder.id))
