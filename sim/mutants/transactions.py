"""The coordinator's side: the write buffer, and commits whose outcome is unknown."""

from __future__ import annotations

from typing import Any

from base.errors import AmbiguousResult, MeridianError, TxnRetry
from kvtier.messages import Delete, Put
from sim.mutants.registry import Replacement, mutant
from txn.attempt import COMMITTED
from txn.buffer import WriteBuffer
from txn.commit import Committer

# --- the write buffer ------------------------------------------------------------------


@mutant
def flush_sends_latest_only() -> list[Replacement]:
    """A flush under a savepoint sends only the newest version of each key (21)."""

    def latest(self: WriteBuffer) -> list[Any]:
        ops: list[Any] = []
        for key, (value, seq) in self.entries.items():
            ops.append(Delete(key, seq) if value is None else Put(key, value, seq))
        ops += [op for op in into_flush_ops(self) if not isinstance(op, Put | Delete)]
        ops.sort(key=lambda op: op.seq)
        return ops

    into_flush_ops = WriteBuffer.into_flush_ops
    return [(WriteBuffer, "into_flush_ops", latest)]


@mutant
def savepoint_rollback_forgotten() -> list[Replacement]:
    """ROLLBACK TO leaves the buffered writes."""
    return [(WriteBuffer, "rollback_to", lambda self, seq: None)]


@mutant
def limit_before_merge() -> list[Replacement]:
    """A page's LIMIT is spent before buffered deletions are taken out of it (22)."""

    def cut(self: WriteBuffer, start: bytes, end: bytes, reverse: bool, limit: int, page: Any) -> Any:
        found = merge_page(self, start, end, reverse, limit, page)
        if page.resume is not None and len(found.keys) < len(page.keys):
            found.resume = None
        return found

    merge_page = WriteBuffer.merge_page
    return [(WriteBuffer, "merge_page", cut)]


# --- ambiguity -------------------------------------------------------------------------


@mutant
def ambiguous_commit_tried_again() -> list[Replacement]:
    """A commit whose outcome is unknown is run again (6, 8)."""
    reopen = Committer._reopen

    def again(self: Committer, error: MeridianError) -> MeridianError | None:
        if isinstance(error, AmbiguousResult):
            return reopen(self, TxnRetry("trying again", reason="blind"))
        return reopen(self, error)

    return [(Committer, "_reopen", again)]


@mutant
def ambiguous_commit_taken_for_done() -> list[Replacement]:
    """A commit whose outcome is unknown is told as committed."""

    def done(self: Committer, error: MeridianError) -> MeridianError | None:
        if isinstance(error, AmbiguousResult):
            self._state = COMMITTED
            return None
        return reopen(self, error)

    reopen = Committer._reopen
    return [(Committer, "_reopen", done)]


@mutant
def name_not_remembered() -> list[Replacement]:
    """A named transaction's outcome is not written: a repetition counts twice."""

    def nothing(self: Committer, row: list[bytes]) -> list[Any]:
        return []

    def unnamed(self: Committer, name: str) -> None:
        self._commit_key = ""

    return [(Committer, "_outcome_ops", nothing), (Committer, "set_commit_key", unnamed)]
