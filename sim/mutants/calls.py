"""Reads without a transaction, and whole calls."""

from __future__ import annotations

from typing import Any

from kvtier.state import StoreState
from kvtier.store import Store
from kvtier.tscache import TimestampCache
from sim.mutants.registry import Replacement, mutant
from sql.calls import CallPath
from txn.point import PointReader


@mutant
def point_reads_ignore_intents() -> list[Replacement]:
    """A read of one key does not look whether a committed write is still an intent."""
    return [(StoreState, "is_plain_at", lambda self, ts: True)]


@mutant
def point_reads_leave_no_trace() -> list[Replacement]:
    """A read of one key is not served in the timestamp cache: a write slips in below it."""

    def get_now(self: Store, key: bytes, ts: int, owner: bytes) -> Any:
        cache, self.state.tscache = self.state.tscache, TimestampCache()
        try:
            return right(self, key, ts, owner)
        finally:
            self.state.tscache = cache

    right = Store.get_now
    return [(Store, "get_now", get_now)]


@mutant
def reader_keeps_its_timestamp() -> list[Replacement]:
    """The node's one reader of single keys takes a timestamp for its first statement only."""

    def begin(self: PointReader) -> None:
        self.read_ts = self.read_ts or self._kv.now()

    return [(PointReader, "begin", begin)]


@mutant
def calls_keep_old_plans() -> list[Replacement]:
    """A whole call goes on with its plan after the table has changed."""
    return [(CallPath, "is_current", lambda self, known: self.block.status != "E")]


@mutant
def calls_are_told_by_their_name() -> list[Replacement]:
    """A Bind of a known statement's name runs whatever was prepared under that name before."""

    def known(self: CallPath, call: Any) -> bool:
        is_old = call.entry is not None and call.entry.generation != self.state().generation
        return self.block.status != "E" and not is_old and (call.prepared is None or call.name in self.statements)

    return [(CallPath, "is_current", known)]
