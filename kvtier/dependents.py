"""Who waits for a transaction, as the store of its record has heard: deadlocks across stores.

Within one store the lock table finds every cycle at once.  Where lock tables of several stores
make up the cycle, none of them sees it.  So whoever waits says so, now and then, at the record
of whom it waits for, together with all who wait for itself::

    T1 waits for T2 (store A)      at T2's record:  T1
    T2 waits for T3 (store B)      at T3's record:  T2, T1
    T3 waits for T1 (store C)      at T1's record:  T3, T2, T1     T1 asks, and finds T2: a cycle

One that finds the holder it waits for among its own dependents is in a cycle, and gives way if its id is
the higher of the two: in every cycle somebody's is.  What was heard fades after a few rounds, so that
a wait that ended breaks nobody.  CockroachDB's transaction wait queue does it so (reliability 30).
"""

from __future__ import annotations

from typing import Final

from base.hlc import LOGICAL_BITS

DEPENDENTS_MAX: Final = 1_000
"""Waiters remembered for one transaction; deadlocks among more end by lock_timeout."""
TRANSACTIONS_MAX: Final = 10_000
FADE_SECONDS: Final = 5
_FADE: Final = (FADE_SECONDS * 1_000_000) << LOGICAL_BITS


class Dependents:
    """See the module docstring; times are HLC timestamps."""

    def __init__(self) -> None:
        self._by_txn: dict[bytes, dict[bytes, int]] = {}

    def note(self, txn_id: bytes, waiters: list[bytes], now: int) -> None:
        """Remembers that these wait for a transaction, directly or through others."""
        known = self._by_txn.get(txn_id)
        if known is None:
            if len(self._by_txn) >= TRANSACTIONS_MAX:
                self._by_txn.clear()
            known = self._by_txn[txn_id] = {}
        for waiter in waiters:
            if len(known) < DEPENDENTS_MAX or waiter in known:
                known[waiter] = now

    def of(self, txn_id: bytes, now: int) -> tuple[bytes, ...]:
        """Returns who was heard to wait for a transaction lately, in the order they were heard of first."""
        known = self._by_txn.get(txn_id)
        if known is None:
            return ()
        for waiter in [waiter for waiter, heard in known.items() if now - heard > _FADE]:
            del known[waiter]
        if not known:
            del self._by_txn[txn_id]
        return tuple(known)

    def forget(self, txn_id: bytes) -> None:
        """The transaction has ended."""
        self._by_txn.pop(txn_id, None)
