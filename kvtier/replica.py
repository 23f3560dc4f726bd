"""A range as its replica keeps it, and the map of a store's ranges.

A replica has the bounds, the garbage threshold and the statistics of its range.  What
concerns single keys (locks, intents, the timestamp cache) is kept per store, so a split
or a merge moves none of it (reliability 3: the right-hand side has the same locks,
timestamp cache and threshold as before because they are the same objects).

Persistent in the local family:

    b"r" + range id 8 B  -> RangeState   descriptor, thresholds
    b"s" + range id 8 B  -> statistics   | live keys | live bytes | versions | total bytes |, 8 B each

The statistics change in the same engine batch as the data they count (reliability 116).
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from typing import Final

import msgspec
from msgspec import Struct

from base.seams import Scheduler
from kvtier.descriptors import RangeDescriptor
from kvtier.latches import LatchTable

STATE_PREFIX: Final = b"r"
STATS_PREFIX: Final = b"s"
_ID = struct.Struct(">Q")
_STATS = struct.Struct(">qqqqq")
pack_stats = _STATS.pack


class RangeState(Struct, array_like=True):
    """What of a replica changes rarely."""

    descriptor: RangeDescriptor
    gc_threshold: int = 0
    lease_start: int = 0
    merging: bytes = b""
    """Not empty: nothing is served any more, for the range that holds this key may take this one in."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(RangeState)


class Replica:
    """See the module docstring.

    Invariant: ``start``, ``end`` and ``generation`` are the descriptor's.
    """

    __slots__ = (
        "descriptor",
        "end",
        "gc_threshold",
        "generation",
        "guesses",
        "is_alone",
        "is_estimate",
        "is_logged",
        "last_write_seq",
        "latches",
        "lease_start",
        "live_bytes",
        "live_count",
        "merging",
        "range_id",
        "start",
        "stats_key",
        "swept_threshold",
        "swept_to",
        "total_bytes",
        "version_count",
    )

    def __init__(self, state: RangeState, scheduler: Scheduler) -> None:
        descriptor = state.descriptor
        self.descriptor = descriptor
        self.range_id = descriptor.range_id
        self.start = descriptor.start
        self.end = descriptor.end
        self.generation = descriptor.generation
        self.is_alone = len(descriptor.replicas) == 1
        """No other replica, and no log: what is written here need be written nowhere else."""
        self.is_logged = False
        """Its writes go through a log, even if it is the last one left of several replicas."""
        self.gc_threshold = state.gc_threshold
        self.lease_start = state.lease_start
        self.merging = state.merging
        self.latches = LatchTable(scheduler)
        self.live_count = 0
        self.live_bytes = 0
        self.version_count = 0
        self.total_bytes = 0
        self.is_estimate = False
        """True after a range tombstone, until the range is counted again."""
        self.guesses = 0
        """How many changes were applied here, since this start, that left the statistics an estimate."""
        self.last_write_seq = 0
        """Engine sequence of the last write of data into this range, since the store opened."""
        self.stats_key = stats_key(descriptor.range_id)
        self.swept_threshold = 0
        self.swept_to = b""
        """A pass of garbage collection at that threshold has come from the start to this key."""

    def set_descriptor(self, descriptor: RangeDescriptor) -> None:
        """Takes new bounds or replicas."""
        assert descriptor.range_id == self.range_id, (descriptor, self.range_id)
        assert descriptor.generation > self.generation, (descriptor, self.generation)
        self.descriptor = descriptor
        self.start = descriptor.start
        self.end = descriptor.end
        self.generation = descriptor.generation
        self.is_alone = len(descriptor.replicas) == 1 and not self.is_logged

    def set_logged(self) -> None:
        """From now on, and for good, everything is written by way of a log."""
        self.is_logged = True
        self.is_alone = False

    def state(self) -> RangeState:
        """Returns the stored form of what changes rarely."""
        return RangeState(self.descriptor, self.gc_threshold, self.lease_start, self.merging)

    def count(self, live_count: int, live_bytes: int, version_count: int, total_bytes: int) -> None:
        """Adds to the statistics."""
        self.live_count += live_count
        self.live_bytes += live_bytes
        self.version_count += version_count
        self.total_bytes += total_bytes

    def counts(self) -> tuple[int, int, int, int]:
        """Returns (live keys, live bytes, versions, total bytes)."""
        return self.live_count, self.live_bytes, self.version_count, self.total_bytes

    def encode_sum(self, delta: list[int], is_counted: bool = False) -> bytes:
        """Returns the stored form of the statistics after a change: the four counts and "is an estimate".

        What is an estimate stays one until it ``is_counted``: the change may have been evaluated before it was one.
        """
        return pack_stats(
            self.live_count + delta[0],
            self.live_bytes + delta[1],
            self.version_count + delta[2],
            self.total_bytes + delta[3],
            delta[4] or (self.is_estimate and not is_counted),
        )

    def load_stats(self, stored: bytes) -> None:
        """Takes the stored statistics."""
        counts = _STATS.unpack(stored)
        self.live_count, self.live_bytes, self.version_count, self.total_bytes = counts[:4]
        self.is_estimate = bool(counts[4])

    def stats(self) -> dict[str, int]:
        """Returns the statistics by stable names."""
        return {
            "live_count": self.live_count,
            "live_bytes": self.live_bytes,
            "version_count": self.version_count,
            "total_bytes": self.total_bytes,
        }


def state_key(range_id: int) -> bytes:
    """Returns the local key of a replica's state."""
    return STATE_PREFIX + _ID.pack(range_id)


def stats_key(range_id: int) -> bytes:
    """Returns the local key of a replica's statistics."""
    return STATS_PREFIX + _ID.pack(range_id)


def encode_state(state: RangeState) -> bytes:
    """Returns the stored form."""
    return _encoder.encode(state)


def decode_state(stored: bytes) -> RangeState:
    """Raises msgspec.ValidationError on anything else."""
    return _decoder.decode(stored)


class RangeMap:
    """The replicas of a store by key.

    Invariant: sorted by start, without overlap.
    """

    def __init__(self) -> None:
        self._starts: list[bytes] = []
        self._replicas: list[Replica] = []
        self._by_id: dict[int, Replica] = {}
        self._last: Replica | None = None

    def find(self, key: bytes) -> Replica | None:
        """Returns the replica whose range holds a key."""
        last = self._last
        if last is not None and last.start <= key < last.end:
            return last
        index = bisect_right(self._starts, key) - 1
        if index < 0:
            return None
        found = self._replicas[index]
        if key >= found.end:
            return None
        self._last = found
        return found

    def get(self, range_id: int) -> Replica | None:
        """Returns a replica by its range's id."""
        return self._by_id.get(range_id)

    def over(self, start: bytes, end: bytes) -> list[Replica]:
        """Returns the replicas that overlap [start, end), in order."""
        first = bisect_right(self._starts, start) - 1
        if first < 0 or self._replicas[first].end <= start:
            first += 1
        return self._replicas[first : bisect_left(self._starts, end)]

    def before(self, start: bytes) -> Replica | None:
        """Returns the replica whose range ends where another one begins."""
        index = bisect_left(self._starts, start) - 1
        if index < 0 or self._replicas[index].end != start:
            return None
        return self._replicas[index]

    def add(self, replica: Replica) -> None:
        """Takes a replica in; its range must not overlap another's."""
        assert not self.over(replica.start, replica.end), replica.descriptor
        index = bisect_left(self._starts, replica.start)
        self._starts.insert(index, replica.start)
        self._replicas.insert(index, replica)
        self._by_id[replica.range_id] = replica
        self._last = None

    def remove(self, replica: Replica) -> None:
        """Forgets a replica."""
        index = bisect_left(self._starts, replica.start)
        assert self._replicas[index] is replica, replica.descriptor
        del self._starts[index]
        del self._replicas[index]
        del self._by_id[replica.range_id]
        self._last = None

    def all(self) -> list[Replica]:
        """Returns all replicas in key order."""
        return list(self._replicas)

    def __len__(self) -> int:
        """Number of replicas."""
        return len(self._replicas)

    def check(self) -> None:
        """Asserts the invariants; for tests."""
        assert self._starts == [replica.start for replica in self._replicas], "starts"
        for left, right in zip(self._replicas, self._replicas[1:]):
            assert left.end <= right.start, (left.descriptor, right.descriptor)
