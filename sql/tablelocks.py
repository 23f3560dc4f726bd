"""Table-level locks: DDL against writers, and LOCK TABLE.

Rows are protected by the storage tier; these locks only keep a statement that writes a
table apart from one that changes its shape or rebuilds it, as PostgreSQL's ROW EXCLUSIVE and
(ACCESS) EXCLUSIVE locks do (chapter 13.3.1).  Readers take none: they read a snapshot with the descriptor of that time.

Held until the transaction ends.  A wait that would close a cycle of sessions raises Deadlock.

Invariant: a table has either any number of writers or one exclusive holder (who may write too); a lock that was
seized stands beside writers that cannot commit.

In a cluster a holder may be a schema change of another node (``sql.agreement``).

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from typing import Any, Final

from base.errors import Deadlock, LockNotAvailable, QueryCanceled
from base.seams import Scheduler, Waiter

WAITERS_MAX: Final = 10_000


class TableLocks:
    """The locks of one node; a holder is any hashable object (a session)."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._writers: dict[int, dict[Any, None]] = {}
        self._exclusive: dict[int, Any] = {}
        self._queue: list[tuple[Any, int, bool, Waiter]] = []

    def try_write(self, holder: Any, table_id: int) -> bool:
        """Takes the writer's lock if nothing stands against it.  Fast: two dictionary look-ups."""
        owner = self._exclusive.get(table_id)
        if owner is not None and owner is not holder:
            return False
        if self._queue and any(t == table_id and exclusive and w is not holder for w, t, exclusive, _ in self._queue):
            return False
        writers = self._writers.get(table_id)
        if writers is None:
            self._writers[table_id] = {holder: None}
        else:
            writers[holder] = None
        return True

    def try_exclusive(self, holder: Any, table_id: int) -> bool:
        owner = self._exclusive.get(table_id)
        if owner is holder:
            return True
        if owner is not None:
            return False
        if any(other is not holder for other in self._writers.get(table_id, ())):
            return False
        self._exclusive[table_id] = holder
        return True

    async def acquire(
        self, holder: Any, table_id: int, exclusive: bool, timeout_ms: int = 0, nowait: bool = False, name: str = ""
    ) -> None:
        """Waits for the lock; raises Deadlock, or LockNotAvailable after ``timeout_ms`` (0: never) or with ``nowait``."""
        attempt = self.try_exclusive if exclusive else self.try_write
        while not attempt(holder, table_id):
            if nowait:
                raise LockNotAvailable(f'could not obtain lock on relation "{name}"')
            self._check_cycle(holder, table_id)
            waiter = self._scheduler.waiter()
            entry = (holder, table_id, exclusive, waiter)
            self._queue.append(entry)
            cancel = None
            if timeout_ms:
                failure = LockNotAvailable("canceling statement due to lock timeout")
                cancel = self._scheduler.call_later(timeout_ms / 1000, lambda w=waiter, f=failure: w.fail(f))  # type: ignore[misc]
            try:
                await waiter.wait()
            finally:
                if entry in self._queue:
                    self._queue.remove(entry)
                if cancel is not None:
                    cancel()

    def seize(self, holder: Any, table_id: int) -> None:
        """Takes the exclusive lock over the heads of all others: of transactions that cannot commit any more."""
        self._exclusive[table_id] = holder

    def withdraw(self, holder: Any, table_id: int) -> None:
        """Ends a wait of the holder's for this table; whoever waits there meets QueryCanceled."""
        self.fail(holder, table_id, QueryCanceled("the lock is not wanted any more"))

    def release_all(self, holder: Any, table_ids: list[int]) -> None:
        """Gives up the holder's locks on these tables and wakes whoever waits for them."""
        for table_id in table_ids:
            if self._exclusive.get(table_id) is holder:
                del self._exclusive[table_id]
            writers = self._writers.get(table_id)
            if writers is not None:
                writers.pop(holder, None)
                if not writers:
                    del self._writers[table_id]
        if self._queue:
            freed = dict.fromkeys(table_ids)
            waiting, self._queue = self._queue, [e for e in self._queue if e[1] not in freed]
            for _, table_id, _, waiter in waiting:
                if table_id in freed:
                    waiter.wake()

    def _holders(self, table_id: int) -> list[Any]:
        holders = list(self._writers.get(table_id, ()))
        if table_id in self._exclusive:
            holders.append(self._exclusive[table_id])
        return holders

    def _check_cycle(self, holder: Any, table_id: int) -> None:
        if self._leads_to([h for h in self._holders(table_id) if h is not holder], holder):
            raise Deadlock(b"")

    def fail(self, holder: Any, table_id: int, error: BaseException) -> None:
        """Ends a wait of the holder's for this table with an error."""
        for other, wanted, _, waiter in self._queue:
            if other is holder and wanted == table_id:
                waiter.fail(error)

    def blocking(self, holder: Any) -> list[Any]:
        """Returns everybody a holder waits for, directly or through others."""
        found: list[Any] = []
        pending = [holder]
        while pending:
            waiting = pending.pop()
            for other, table_id, _, _ in self._queue:
                if other is not waiting:
                    continue
                for owner in self._holders(table_id):
                    if owner is not holder and not any(owner is known for known in found):
                        found.append(owner)
                        pending.append(owner)
        return found

    def waits_for(self, holder: Any, other: Any) -> bool:
        """True if a holder waits for another one, or for somebody who does."""
        return self._leads_to([holder], other)

    def _leads_to(self, pending: list[Any], holder: Any) -> bool:
        """Walks who waits for whom."""
        seen: list[Any] = []
        while pending:
            other = pending.pop()
            if other is holder:
                return True
            if any(other is s for s in seen):
                continue
            seen.append(other)
            pending.extend(h for w, t, _, _ in self._queue if w is other for h in self._holders(t) if h is not other)
        return False
