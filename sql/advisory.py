"""Advisory locks (PostgreSQL chapter 13.3.5), within one node.

A key is a 64-bit integer, or two 32-bit ones, per database.  Session locks count how often they were taken and last
until released or the session ends; transaction locks last until the transaction ends.
"""

from __future__ import annotations

from typing import Any, Final

from base.errors import Deadlock, SqlError
from base.seams import Scheduler, Waiter

LOCKS_MAX: Final = 100_000
Key = tuple[int, ...]


class _Held:
    __slots__ = ("exclusive", "session_count", "txn_count")

    def __init__(self, exclusive: bool) -> None:
        self.exclusive = exclusive
        self.session_count = 0
        self.txn_count = 0


class AdvisoryLocks:
    """All advisory locks of one node.  Holders are sessions."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._held: dict[Key, dict[Any, _Held]] = {}
        self._queue: list[tuple[Any, Key, bool, Waiter]] = []

    def try_lock(self, holder: Any, key: Key, exclusive: bool, for_txn: bool) -> bool:
        """Takes the lock if no other session stands against it."""
        holders = self._held.get(key)
        if holders is None:
            if len(self._held) >= LOCKS_MAX:
                raise SqlError("out of shared memory", sqlstate="53200", hint="Too many advisory locks are held.")
            holders = self._held[key] = {}
        if any(h is not holder and (exclusive or lock.exclusive) for h, lock in holders.items()):
            return False
        lock = holders.setdefault(holder, _Held(exclusive))
        lock.exclusive = lock.exclusive or exclusive
        if for_txn:
            lock.txn_count += 1
        else:
            lock.session_count += 1
        return True

    async def lock(self, holder: Any, key: Key, exclusive: bool, for_txn: bool) -> None:
        """Waits for the lock; raises Deadlock where the wait would close a cycle."""
        while not self.try_lock(holder, key, exclusive, for_txn):
            self._check_cycle(holder, key)
            waiter = self._scheduler.waiter()
            entry = (holder, key, exclusive, waiter)
            self._queue.append(entry)
            try:
                await waiter.wait()
            finally:
                if entry in self._queue:
                    self._queue.remove(entry)

    def unlock(self, holder: Any, key: Key, exclusive: bool) -> bool:
        """pg_advisory_unlock: False if the session did not hold it."""
        lock = self._held.get(key, {}).get(holder)
        if lock is None or lock.session_count == 0 or lock.exclusive != exclusive:
            return False
        lock.session_count -= 1
        self._drop_if_free(holder, key, lock)
        return True

    def release_txn(self, holder: Any) -> None:
        self._release(holder, session=False)

    def release_session(self, holder: Any) -> None:
        """pg_advisory_unlock_all, DISCARD ALL, disconnect: session locks (transaction locks end with their transaction)."""
        self._release(holder, session=True)

    def held(self) -> list[tuple[Key, Any, bool]]:
        """For pg_locks."""
        return [
            (key, holder, lock.exclusive) for key, holders in self._held.items() for holder, lock in holders.items()
        ]

    def _release(self, holder: Any, session: bool) -> None:
        for key in [key for key, holders in self._held.items() if holder in holders]:
            lock = self._held[key][holder]
            if session:
                lock.session_count = 0
            else:
                lock.txn_count = 0
            self._drop_if_free(holder, key, lock)

    def _drop_if_free(self, holder: Any, key: Key, lock: _Held) -> None:
        if lock.session_count or lock.txn_count:
            return
        del self._held[key][holder]
        if not self._held[key]:
            del self._held[key]
        for entry in [e for e in self._queue if e[1] == key]:
            entry[3].wake()

    def _check_cycle(self, holder: Any, key: Key) -> None:
        seen: list[Any] = []
        pending = [h for h in self._held.get(key, ()) if h is not holder]
        while pending:
            other = pending.pop()
            if other is holder:
                raise Deadlock(b"")
            if any(other is s for s in seen):
                continue
            seen.append(other)
            pending.extend(
                h for w, k, _, _ in self._queue if w is other for h in self._held.get(k, ()) if h is not other
            )
