"""Removing versions that no read at or above a threshold can see.

For one key, newest first, with threshold 25:

    v@40   v@30   v@20   v@10   v@5         keep 40, 30, 20; remove 10, 5
    v@40   del@20 v@10                      keep 40;         remove 20, 10
    v@30   v@20   (range tombstone @22)     keep 30;         remove 20

A deletion is removed together with, never before, the versions it hides: a call that
stops in the middle of a key leaves the deletion for last.

Point deletions only: a native range deletion would also take versions that are written
between evaluation and application of the command.
"""

from __future__ import annotations

from typing import Final

from base.seams import CF_DATA, CF_LOCAL
from kvtier.engine.batch import OpBatch
from kvtier.engine.contract import StoreEngine
from kvtier.mvcc.tombstones import NO_TOMBSTONES, RangeTombstones, record_key
from kvtier.mvcc.versions import SUFFIX, suffix_of, ts_of

LIMIT_MIN: Final = 4
"""A call must get past a jump, a kept version and a withheld one to make progress."""


class GarbageSweep:
    """The state of one pass: the key under way and what is garbage so far."""

    __slots__ = ("_batch", "_cuts", "_found_visible", "_threshold", "_withheld", "bytes_freed", "removed", "user")

    def __init__(self, batch: OpBatch, threshold: int, cuts: RangeTombstones | None) -> None:
        self._batch = batch
        self._threshold = threshold
        self._cuts = cuts
        self.user = b""
        self._found_visible = False
        self._withheld: list[tuple[bytes, int]] = []
        """Deletions (or what a range tombstone hides) that go once all below them has gone."""
        self.removed = 0
        self.bytes_freed = 0

    def meet(self, found: bytes, stored: bytes) -> None:
        """Takes a version at or below the threshold; those of a key come newest first."""
        user = found[:-SUFFIX]
        if user != self.user:
            self.finish_key()
            self.user = user
            self._found_visible = False
        if self._found_visible:
            self._remove(found, len(stored))
            return
        self._found_visible = True
        cover = self._cuts.covering(user, self._threshold) if self._cuts is not None else 0
        if not stored or cover > ts_of(found[-SUFFIX:]):
            self._withheld.append((found, len(stored)))

    def finish_key(self) -> None:
        """Every version of the key was met."""
        for found, size in self._withheld:
            self._remove(found, size)
        self._withheld.clear()

    def _remove(self, found: bytes, size: int) -> None:
        self._batch.delete(CF_DATA, found)
        self.removed += 1
        self.bytes_freed += len(found) + size


def collect_garbage(
    engine: StoreEngine,
    start: bytes,
    end: bytes,
    threshold: int,
    limit: int,
    tombstones: RangeTombstones = NO_TOMBSTONES,
    batch: OpBatch | None = None,
) -> tuple[OpBatch, bytes | None, GarbageSweep]:
    """Returns (batch of deletions, resume key or None when done, counts of the sweep).

    Looks at no more than ``limit`` versions (at least LIMIT_MIN).  The threshold of the range must
    have been raised to ``threshold`` by an earlier command (reliability 29).
    """
    batch = engine.batch() if batch is None else batch
    sweep = GarbageSweep(batch, threshold, tombstones if tombstones.overlap(start, end) else None)
    below = suffix_of(threshold)
    limit = max(limit, LIMIT_MIN)
    cursor = engine.point_iterator(CF_DATA)
    cursor.seek(start)
    found = cursor.key()
    while found is not None:
        user = found[:-SUFFIX]
        if end and user >= end:
            break
        if limit <= 0:
            if user != sweep.user:
                sweep.finish_key()
            return batch, user, sweep
        limit -= 1
        if user < start:
            cursor.next()
        elif found[-SUFFIX:] < below:
            cursor.seek(user + below)
        else:
            stored = cursor.value()
            assert stored is not None, f"{found=}"
            sweep.meet(found, stored)
            cursor.next()
        found = cursor.key()
    if found is None:
        cursor.status()
    sweep.finish_key()
    return batch, None, sweep


def drop_range_tombstones(batch: OpBatch, start: bytes, end: bytes, threshold: int, tombstones: RangeTombstones) -> int:
    """Removes the range tombstones of [start, end) that have nothing left to hide; returns how many.

    To be called only after a whole pass of ``collect_garbage`` over [start, end) at
    ``threshold`` has been applied: then no version below them is left inside.
    """
    dropped = 0
    for lower, upper, ts in tombstones.records(start, end):
        if ts <= threshold and start <= lower and (not end or (upper and upper <= end)):
            batch.delete(CF_LOCAL, record_key(lower, ts))
            batch.touches_tombstones = True
            dropped += 1
    return dropped
