"""What was read when: the timestamp cache, refresh, and what was written lately."""

from __future__ import annotations

from typing import Any

import kvtier.committing
import kvtier.dispatch
import kvtier.reading
import kvtier.store
import kvtier.tscache
from kvtier import mvcc
from kvtier.committing import OnePhase
from kvtier.engine.newest import NewestVersions
from kvtier.engine.recent import RecentWrites
from kvtier.engine.spancache import Page
from kvtier.messages import Batch
from kvtier.state import StoreState
from kvtier.store import Store
from kvtier.tscache import TimestampCache
from sim.mutants.registry import Replacement, mutant
from txn.spans import ReadSpans

# --- the timestamp cache and refresh ---------------------------------------------------


@mutant
def cache_forgets_all() -> list[Replacement]:
    """A write may slip in below a read that was served: no timestamp cache (1)."""
    return [
        (TimestampCache, "get_max", lambda self, key: (0, b"")),
        (TimestampCache, "get_max_span", lambda self, start, end: (0, b"")),
    ]


@mutant
def cache_low_water_off() -> list[Replacement]:
    """Dropping a generation of the timestamp cache does not raise its low water (1)."""
    return [(TimestampCache, "raise_low_water", lambda self, ts: None)]


@mutant
def split_loses_cache() -> list[Replacement]:
    """A split leaves the right-hand side without the reads served there (3)."""
    administer = Store._administer

    def wrong(self: Store, op: Any) -> Any:
        key = getattr(op, "key", b"")
        cache = self.state.tscache
        for points in (cache._points, cache._points_old):
            for read in [read for read in points if key and read >= key]:
                del points[read]
        if key:
            cache._spans.__init__()
            cache._spans_old.__init__()
        return administer(self, op)

    return [(Store, "_administer", wrong)]


@mutant
def tie_keeps_owner() -> list[Replacement]:
    """Of two readers at one timestamp the later owns it, and writes at it (5)."""

    def add(self: TimestampCache, key: bytes, ts: int, txn: bytes) -> None:
        right(self, key, ts, txn)
        if self._points.get(key, (0, b""))[0] == ts:
            self._points[key] = (ts, txn)

    right = TimestampCache.add
    return [
        (TimestampCache, "add", add),
        (kvtier.tscache, "combine", lambda one, other: one if one[0] > other[0] else other),
    ]


@mutant
def refresh_skipped() -> list[Replacement]:
    """A transaction moves its timestamp without looking at what it has read (18)."""

    def nothing(state: Any, owner: bytes, op: Any, to_ts: int) -> None: ...

    return [
        (kvtier.committing, "check_refresh", nothing),
        (kvtier.dispatch, "check_refresh", nothing),
        (kvtier.reading, "check_refresh", nothing),
    ]


@mutant
def refresh_without_spans() -> list[Replacement]:
    """A refresh checks the keys that were read and not the spans: phantoms (19)."""
    into_ops = ReadSpans.into_ops

    def keys_only(self: ReadSpans, from_ts: int, to_ts: int) -> list[Any]:
        return [op for op in into_ops(self, from_ts, to_ts) if op.is_point]

    return [(ReadSpans, "into_ops", keys_only)]


@mutant
def refresh_leaves_no_trace() -> list[Replacement]:
    """A refreshed read does not count as served at its new timestamp."""
    check = kvtier.reading.check_refresh

    def untraced(state: StoreState, owner: bytes, op: Any, to_ts: int) -> None:
        cache = state.tscache
        state.tscache = TimestampCache()
        try:
            check(state, owner, op, to_ts)
        finally:
            state.tscache = cache

    return [(kvtier.committing, "check_refresh", untraced), (kvtier.dispatch, "check_refresh", untraced)]


@mutant
def prefix_is_a_point() -> list[Replacement]:
    """A refreshed scan of a prefix protects one key; ours, found by seed 8."""
    check = kvtier.reading.check_refresh

    def pointed(state: StoreState, owner: bytes, op: Any, to_ts: int) -> None:
        is_prefix = op.end == kvtier.reading.prefix_end(op.start)
        op.is_point = op.is_point or is_prefix
        check(state, owner, op, to_ts)

    return [(kvtier.committing, "check_refresh", pointed), (kvtier.dispatch, "check_refresh", pointed)]


@mutant
def first_committer_loses() -> list[Replacement]:
    """A write does not notice that the key changed since it was read: lost update (20)."""
    init = OnePhase.__init__

    def careless(self: OnePhase, state: Any, batch: Batch, end: Any) -> None:
        init(self, state, batch, end)
        self._is_first_committer = False

    get_locked = kvtier.reading.get_locked

    def blind(state: Any, batch: Batch, txn: Any, op: Any) -> Any:
        try:
            return get_locked(state, batch, txn, op)
        except kvtier.reading.WriteTooOld:
            value = mvcc.get(state.engine, op.key, txn.read_ts, state.tombstones)[0]
            return kvtier.reading.Reply([value], txn.read_ts)

    return [(OnePhase, "__init__", careless), (kvtier.store, "get_locked", blind)]


# --- what was written lately -----------------------------------------------------------


@mutant
def recent_tops_fall() -> list[Replacement]:
    """A batch with an old timestamp hides newer ones before it from a refresh."""

    def note(self: RecentWrites, ops: list[Any]) -> None:
        batches = list(self._batches)
        self._batches.clear()
        right(self, ops)
        batches.extend(self._batches)
        self._batches.clear()
        self._batches.extend(batches)

    right = RecentWrites.note
    return [(RecentWrites, "note", note)]


@mutant
def kept_spans_miss_new_keys() -> list[Replacement]:
    """What is kept of a span follows the keys it has, but not those that come to it."""

    def put(self: Page, key: bytes, suffix: bytes, stored: bytes) -> int:
        return right(self, key, suffix, stored) if key in self.keys else 0

    right = Page.put
    return [(Page, "put", put)]


@mutant
def newest_not_told() -> list[Replacement]:
    """A locked key that is written again is still read as it was when it was locked first."""

    def put(self: NewestVersions, key: bytes, suffix: bytes, stored: bytes) -> None:
        return

    return [(NewestVersions, "put", put)]
