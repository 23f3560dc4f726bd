"""Locks: who may hold one, and until when."""

from __future__ import annotations

from typing import Any

import kvtier.reading
from kvtier.change import Change
from kvtier.committing import OnePhase
from kvtier.locks import LockTable
from kvtier.messages import Batch, Wait
from kvtier.store import Store
from sim.mutants.registry import Replacement, mutant


@mutant
def lock_released_before_apply() -> list[Replacement]:
    """A commit is evaluated, frees its locks, and is applied a moment later (31)."""
    commit = Store._commit

    def early(self: Store, batch: Batch, end: Any) -> Any:
        if batch.txn is None or end is None or end.commit_key:
            return commit(self, batch, end)
        results, change = OnePhase(self.state, batch, end).evaluate()
        self.state.locks.release_txn(batch.txn.id)
        change.release.clear()
        return later(self, batch, results, change)

    async def later(self: Store, batch: Batch, results: list[Any], change: Change) -> Any:
        await self.clock.sleep(0.0005)
        assert batch.txn is not None, "tested above"
        seq = self.apply(change)
        reply = self.group.reply(kvtier.reading.Reply(results, batch.txn.read_ts, change.commit_ts), seq)
        return reply if isinstance(reply, kvtier.reading.Reply) else await reply

    return [(Store, "_commit", early)]


@mutant
def skip_locked_takes_locked() -> list[Replacement]:
    """SKIP LOCKED returns rows that others hold."""
    lock = kvtier.reading.Reader._lock

    def take(self: Any, key: bytes, strength: Any, wait: Wait) -> bool:
        return lock(self, key, strength, wait) or wait == Wait.SKIP

    def note_nothing(self: Any, key: bytes, value: Any, version_ts: int) -> None: ...

    return [(kvtier.reading.Reader, "_lock", take), (kvtier.reading.Reader, "_note_newest", note_nothing)]


@mutant
def locks_do_not_exclude() -> list[Replacement]:
    """FOR UPDATE gives the lock to whoever asks."""

    def granted(self: LockTable, key: bytes, txn_id: bytes, strength: int) -> bool:
        acquire(self, key, txn_id, strength)
        return True

    acquire = LockTable.acquire
    return [
        (LockTable, "acquire", granted),
        (LockTable, "blocks", lambda self, key, txn_id: False),
        (kvtier.reading.Reader, "_note_newest", lambda self, key, value, version_ts: None),
    ]
