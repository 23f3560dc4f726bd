"""What a crash may have done to the end of a store's logs, and what to make of it before RocksDB reads them.

A power loss takes any part of what was not synced: the end is cut at any byte, blocks in it are
zeros or garbage, a later block is there and an earlier one is not.  RocksDB has no good answer:
with ``tolerate_corrupted_tail_records`` it refuses a store whose last record is whole in length and
not in content, and passes silently over a block of zeros; with ``point_in_time`` it drops
synced batches behind a damaged one and opens "fine" (reliability 110).  So ``mend`` looks first::

    batches     1..40     41..60      xx     66..70  <- watermark: synced to 40
                synced    whole       lost   whole
                                    ^ the log is cut here: what follows was never acknowledged

    batches     1..20 xx 26..40  41..60  <- watermark: synced to 40
                      ^ the store is damaged: it does not open

Batches are lost where the sequence numbers have a gap or the log ends in something else than a
batch.  If a watermark (``kvtier.engine.wal``) says that they were synced, that is damage; if none
does, it is the torn end.  NB: the watermark is written with the first batch after a sync, so
damage to the batches of the very last sync, if nothing was written after it, is taken for a torn end.

Closed logs are synced by RocksDB before a memtable that they hold is a table on disk, because the store has
several families; so a log that is not needed any more is no exception to the rule.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

from base.errors import StorageFailure
from kvtier.engine import wal
from kvtier.engine.wal import BLOCK_BYTES, Logged

WINDOW_BYTES: Final = 8 * BLOCK_BYTES
"""Read from a log's end at first; four times as much while the watermark is not in sight."""


class _Tail(NamedTuple):
    """The end of one log, from ``base`` on."""

    path: Path
    base: int
    size: int
    batches: list[Logged]


class _Gap(NamedTuple):
    """Where the logs stop to be whole; ``lost`` is the first sequence number that is missing, 0 if unknown."""

    log: int
    offset: int
    lost: int


def mend(directory: Path) -> int:
    """Cuts what a crash left behind the last whole batch; returns how many bytes that was.

    Raises StorageFailure if synced batches are missing.
    """
    tails, synced = _read_tails(directory)
    gap = _find_gap(tails)
    if gap is None:
        return 0
    path = tails[gap.log].path
    following = [
        batch for tail in tails[gap.log :] for batch in tail.batches if batch.start >= gap.offset or tail.path != path
    ]
    lost = gap.lost or (following[0].first - 1 if following else 0)
    if lost and lost <= synced:
        raise StorageFailure(
            f"could not open store directory {directory}: log {path.name} is damaged at byte {gap.offset}: batches from number {lost} are missing, and were synced up to {synced}"
        )
    return _cut(tails[gap.log :], gap.offset)


def _read_tails(directory: Path) -> tuple[list[_Tail], int]:
    """Returns the ends of the logs, oldest first, from a synced batch on; and the watermark."""
    tails: list[_Tail] = []
    synced = 0
    for path in sorted(directory.glob("*.log"), key=lambda path: int(path.stem), reverse=True):
        window = WINDOW_BYTES
        while True:
            tail = _read_tail(path, window)
            synced = max([synced, *[batch.synced for batch in tail.batches]])
            is_enough = bool(tail.batches) and tail.batches[0].first <= synced
            if is_enough or tail.base == 0:
                break
            window *= 4
        tails.insert(0, tail)
        if is_enough:
            break
    return tails, synced


def _read_tail(path: Path, window: int) -> _Tail:
    size = path.stat().st_size
    base = max(0, size - window) // BLOCK_BYTES * BLOCK_BYTES
    with path.open("rb") as file:
        file.seek(base)
        data = file.read(size - base)
    return _Tail(path, base, size, list(wal.batches(data, base)))


def _find_gap(tails: list[_Tail]) -> _Gap | None:
    """Returns the first place behind which batches are missing, None if the logs are whole."""
    expected = 0
    for number, tail in enumerate(tails):
        # A window may begin in the middle of a batch; a log does not.
        end = tail.batches[0].start if tail.base and tail.batches else tail.base
        for batch in tail.batches:
            if not wal.follows(end, batch.start) or expected not in (0, batch.first):
                return _Gap(number, end, expected)
            end, expected = batch.end, batch.next
        if end != tail.size:
            return _Gap(number, end, expected)
    return None


def _cut(tails: list[_Tail], offset: int) -> int:
    """Ends the first log at a place and empties the others; the cut is synced, or a second crash could undo it."""
    total = 0
    for tail in tails:
        with tail.path.open("r+b") as file:
            file.truncate(offset)
            os.fsync(file.fileno())
        total += tail.size - offset
        offset = 0
    return total
