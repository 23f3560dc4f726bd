"""What all writes share: conflicts on the way in, and the statistics they change.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from base.seams import CF_DATA
from kvtier import mvcc
from kvtier.change import Change, Conflict
from kvtier.engine.batch import PUT, OpBatch
from kvtier.locks import EXCLUSIVE
from kvtier.mvcc.versions import PLAIN_ABOVE, into_stored, suffix_of
from kvtier.replica import Replica
from kvtier.state import StoreState


def check_write(state: StoreState, key: bytes, owner: bytes) -> None:
    """Raises Conflict if another transaction's lock or intent is on a key."""
    intents = state.intents
    if intents.points or intents.spans or intents.runs.starts:
        other = intents.other_at(key, owner)
        if other is not None:
            raise Conflict(key, EXCLUSIVE, other)
    if key in state.locks.states and state.locks.blocks(key, owner):
        raise Conflict(key, EXCLUSIVE)


def newest_for_write(state: StoreState, key: bytes, owner: bytes) -> tuple[int, int]:
    """Returns (timestamp, size or -1) of a key's newest committed value, once it may be written."""
    check_write(state, key, owner)
    value, newest_ts = mvcc.newest(state.engine, key, state.tombstones)
    return newest_ts, stored_size(value)


def stored_size(value: bytes | None) -> int:
    """Returns the bytes a value takes in a version; -1 for None."""
    if value is None:
        return -1
    return len(value) if value > PLAIN_ABOVE else len(into_stored(value))


def conflict_over_span(state: StoreState, start: bytes, end: bytes, owner: bytes) -> None:
    """Raises Conflict if another transaction's lock or intent is inside [start, end)."""
    if state.intents:
        others = state.intents.others_in(start, end, owner, (1 << 64) - 1)
        if others:
            raise Conflict(others[0][0], EXCLUSIVE, others[0][1])
    locked = state.locks.blocked_key(start, end, owner)
    if locked is not None:
        raise Conflict(locked, EXCLUSIVE)


def count_version(delta: list[int], size: int, old_size: int, new_size: int) -> None:
    """Adds one version of a key of ``size`` bytes to a delta; value sizes of -1 are "absent"."""
    delta[2] += 1
    if old_size >= 0:
        delta[0] -= 1
        delta[1] -= size + old_size
    if new_size >= 0:
        delta[0] += 1
        delta[1] += size + new_size
        delta[3] += size + 8 + new_size
    else:
        delta[3] += size + 8


class Tally:
    """The change of the statistics of the ranges a batch writes to."""

    __slots__ = ("_deltas", "_state")

    def __init__(self, state: StoreState) -> None:
        self._state = state
        self._deltas: dict[int, tuple[Replica, list[int]]] = {}

    def of(self, replica: Replica) -> list[int]:
        """Returns the delta of a range: the four counts, and whether they are an estimate."""
        found = self._deltas.get(replica.range_id)
        if found is None:
            found = self._deltas[replica.range_id] = (replica, [0, 0, 0, 0, replica.is_estimate])
        return found[1]

    def add(self, key: bytes, old_size: int, new_size: int) -> None:
        """Counts one new version; a size of -1 is "absent"."""
        count_version(self.of(self._state.replica_of(key)), len(key), old_size, new_size)

    def add_spans(self, spans: list[tuple[bytes, bytes]]) -> None:
        """Notes range tombstones: how much was alive under them nobody counts."""
        for start, end in spans:
            for replica in self._state.ranges.over(start, end):
                self.guess(replica)

    def guess(self, replica: Replica) -> None:
        """Makes a range's statistics an estimate."""
        self.of(replica)[4] = 1

    def finish(self, change: Change) -> None:
        """Adds the deltas to the change."""
        change.deltas.extend(self._deltas.values())


def put_committed(
    state: StoreState, batch: OpBatch, writes: dict[bytes, tuple[bytes | None, int]], commit_ts: int, tally: Tally
) -> None:
    """Puts versions at one timestamp: key -> (value, size of the value before or -1), and counts them."""
    suffix = suffix_of(commit_ts)
    append = batch.ops.append
    start = end = b""
    delta: list[int] = []
    for key, (value, old_size) in writes.items():
        if key >= end or key < start:
            replica = state.replica_of(key)
            start, end = replica.start, replica.end
            delta = tally.of(replica)
        size = len(key)
        # As ``count_version``, spelled out: this is the hot loop of every commit.
        delta[2] += 1
        if old_size >= 0:
            delta[0] -= 1
            delta[1] -= size + old_size
        if value is None:
            append((PUT, CF_DATA, key + suffix, b""))
            delta[3] += size + 8
        else:
            stored = value if value > PLAIN_ABOVE else into_stored(value)
            append((PUT, CF_DATA, key + suffix, stored))
            size += len(stored)
            delta[0] += 1
            delta[1] += size
            delta[3] += size + 8
