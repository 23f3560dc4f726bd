"""What a power failure may take: syncs and the bound of the clock."""

from __future__ import annotations

from typing import Any

from kvtier.commit_group import CommitGroup
from kvtier.store import Store
from sim.mutants.registry import Replacement, mutant
from txn.commit import Committer


@mutant
def acknowledged_before_sync() -> list[Replacement]:
    """A commit is told to its client before it is durable."""
    return [(CommitGroup, "reply", lambda self, reply, seq: reply)]


@mutant
def unsynced_reads_told() -> list[Replacement]:
    """A read-only transaction tells what is not yet durable."""

    def at_once(self: Committer) -> int:
        self._unsynced = 0
        return int(commit_reads(self))  # type: ignore[arg-type]  # nothing is waited for

    commit_reads = Committer._commit_reads
    return [(Committer, "_commit_reads", at_once)]


@mutant
def failed_sync_tried_again() -> list[Replacement]:
    """After a sync that failed the next ones say that all is well, though the kernel dropped the pages (section 0, 5)."""

    async def sync(self: CommitGroup) -> None:
        engine: Any = self._engine
        # The switch stays on: what is behind the hole in the log is not found again either.
        await self._scheduler.run_blocking(engine.write_seq if engine.faults.sync_fails else engine.sync)
        self._end()

    return [(CommitGroup, "_sync", sync)]


@mutant
def clock_bound_not_kept() -> list[Replacement]:
    """A restarted node may give timestamps out again (28)."""

    def unbounded(self: Store, ts: int) -> None:
        self.state.ts_free = ts + 2 * self._hlc_step

    return [(Store, "_extend_hlc_bound", unbounded)]
