"""Evaluation of Split, Unsplit, Merge, CollectGarbage and Checksum.

Split and Merge change descriptors, the meta entries and the range states in one engine
batch, so no key is ever in two ranges or in none.  Locks, intents and the timestamp
cache are per store and stay (reliability 3, 4); the garbage threshold goes to both
halves, and to a merged range the higher one (reliability 29).

The statistics of a split range are counted again for the left half; the right half has
the rest.  A range tombstone across the border is cut in two.

NB: the meta ranges must be in this store; the changes of remote ones need a transaction.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from base.errors import SqlError
from base.seams import CF_LOCAL
from kvtier import mvcc
from kvtier.change import Change
from kvtier.descriptors import KEY_MAX, RangeDescriptor, encode_descriptor
from kvtier.engine.batch import OpBatch
from kvtier.messages import SPLIT_KEYS_MAX, Checksum, CollectGarbage, Merge, Split, Unsplit
from kvtier.meta import entry_keys, split_allowed
from kvtier.opening import NEXT_RANGE_ID_KEY, put_range
from kvtier.replica import RangeState, Replica, pack_stats, state_key, stats_key
from kvtier.state import StoreState
from kvtier.writing import Tally, count_version, stored_size

GC_VERSIONS_MAX: Final = 5_000
"""Versions one CollectGarbage looks at: a few milliseconds; the result says where to go on."""

Counts = tuple[int, int, int, int]
"""(live keys, live bytes, versions, total bytes)."""


class MetaEdit:
    """The meta entries that one split or merge changes, and what they do to the statistics."""

    def __init__(self, state: StoreState, now: int) -> None:
        self._state = state
        self._now = now
        self._values: dict[bytes, bytes | None] = {}

    def put(self, descriptor: RangeDescriptor) -> None:
        """Enters a descriptor."""
        for key in entry_keys(descriptor):
            self._values[key] = encode_descriptor(descriptor)

    def drop(self, descriptor: RangeDescriptor) -> None:
        """Takes a descriptor's entries out, but for those put already."""
        for key in entry_keys(descriptor):
            self._values.setdefault(key, None)

    def write(self, change: Change, fresh: list[RangeDescriptor], counts: list[Counts]) -> list[Counts]:
        """Writes the entries; returns the statistics of the fresh ranges with them counted."""
        tally = Tally(self._state)
        deltas = [[0, 0, 0, 0] for _ in fresh]
        for key, value in self._values.items():
            before = stored_size(mvcc.newest(self._state.engine, key, self._state.tombstones)[0])
            mvcc.put_version(change.batch, key, self._now, value)
            for descriptor, delta in zip(fresh, deltas):
                if descriptor.contains(key):
                    count_version(delta, len(key), before, stored_size(value))
                    break
            else:
                tally.add(key, before, stored_size(value))
        tally.finish(change)
        return [(c[0] + d[0], c[1] + d[1], c[2] + d[2], c[3] + d[3]) for c, d in zip(counts, deltas)]


class RangeChange:
    """A Change and what it does to the map of ranges."""

    def __init__(self, change: Change) -> None:
        self.change = change
        self.removed: list[Replica] = []
        self.states: list[tuple[RangeState, Counts, bool]] = []
        """Ranges as they are now, with statistics and whether those are an estimate."""
        self.raised: list[tuple[Replica, int]] = []
        """New garbage thresholds."""
        self.subsumed: tuple[int, int, int] | None = None
        """(range id, index, term): that range's log ends there, and is taken in (``kvtier.replication.merging``)."""
        self.swept: tuple[Replica, int, bytes] | None = None
        """How far a garbage collection at a threshold has come."""

    def put(self, state: RangeState, counts: Counts, is_estimate: bool) -> None:
        """Writes a range as it will be."""
        batch = self.change.batch
        put_range(batch, state)
        batch.put(CF_LOCAL, stats_key(state.descriptor.range_id), pack_stats(*counts, is_estimate))
        self.states.append((state, counts, is_estimate))

    def install(self, state: StoreState) -> None:
        """Brings the map of ranges up to date."""
        seq = state.engine.write_seq()
        if self.swept is not None:
            swept_replica, threshold, swept_to = self.swept
            swept_replica.swept_threshold = threshold
            swept_replica.swept_to = swept_to
        for replica, threshold in self.raised:
            replica.gc_threshold = threshold
            state.gc_high = max(state.gc_high, threshold)
        for replica in self.removed:
            state.ranges.remove(replica)
        for range_state, counts, is_estimate in self.states:
            replica = Replica(range_state, state.scheduler)
            replica.count(*counts)
            replica.is_estimate = is_estimate
            replica.last_write_seq = seq
            state.ranges.add(replica)
            state.gc_high = max(state.gc_high, replica.gc_threshold)


def evaluate(
    state: StoreState, op: Split | Unsplit | Merge | CollectGarbage | Checksum, now: int, with_meta: bool
) -> tuple[RangeChange | None, Any]:
    """Returns what is to be done (None: nothing) and the result; for ``with_meta`` see ``split``."""
    if isinstance(op, Split):
        return split(state, op, now, with_meta)
    if isinstance(op, Unsplit):
        return unsplit(state, op, now, with_meta)
    if isinstance(op, Merge):
        return merge(state, op.key, now, with_meta)
    if isinstance(op, CollectGarbage):
        return collect(state, op)
    return None, checksum(state, op)


def split(
    state: StoreState, op: Split, now: int, with_meta: bool, floor: int = 0
) -> tuple[RangeChange | None, RangeDescriptor]:
    """Divides a range; what is right of a key is new.  Result: the descriptor that begins at the last key.

    ``floor``: no lease of the halves may begin below this.

    ``with_meta`` changes the meta entries in the same batch; they must be in this store.
    """
    replica = state.replica_of(op.key)
    places = _places(state, replica, op)
    if not places:
        old = replica.descriptor
        return (None, old) if old.is_sticky or not op.is_sticky else _restate(state, replica, True, now, with_meta)
    old = replica.descriptor
    change = RangeChange(Change(state.engine.batch()))
    batch = change.change.batch
    generation = old.generation + 1
    ends = [*[key for key, _ in places[1:]], old.end]
    fresh = [msgspec.structs.replace(old, generation=generation, end=places[0][0])]
    for (key, range_id), end in zip(places, ends):
        fresh.append(
            msgspec.structs.replace(
                old, generation=generation, range_id=range_id or _next_range_id(state, batch, len(fresh) - 1),
                start=key, end=end, is_sticky=op.is_sticky,
            )
        )  # fmt: skip
    mvcc.split_range_tombstones(batch, state.tombstones, places[0][0])
    counts = _divide(state, replica, [key for key, _ in places])
    if with_meta:
        meta = MetaEdit(state, now)
        for descriptor in fresh:
            meta.put(descriptor)
        meta.drop(old)
        counts = meta.write(change.change, fresh, counts)
    change.removed = [replica]
    lease_start = max(replica.lease_start, floor)
    for descriptor, counted in zip(fresh, counts):
        change.put(RangeState(descriptor, replica.gc_threshold, lease_start), counted, replica.is_estimate)
    change.change.commit_ts = now
    return change, fresh[-1]


def _places(state: StoreState, replica: Replica, op: Split) -> list[tuple[bytes, int]]:
    """Returns the keys that divide this range, with the ids of what begins there; raises SqlError for a bad one."""
    wanted = [(op.key, op.range_id), *op.more]
    if len(wanted) > SPLIT_KEYS_MAX:
        raise SqlError(f"cannot split at more than {SPLIT_KEYS_MAX} keys at once", sqlstate="54000")
    at = b""
    for key, _ in wanted:
        if not split_allowed(key) or key <= at:
            raise SqlError(f"no range may begin at {key!r}", sqlstate="22023")
        at = key
    if op.key == replica.start:
        # Only that it stays may be new about it.
        return []
    if state.tombstones.overlap(replica.start, replica.end):
        return wanted[:1]  # Range tombstones are cut in two, not in many.
    return [place for place in wanted if place[0] < replica.end]


def unsplit(state: StoreState, op: Unsplit, now: int, with_meta: bool) -> tuple[RangeChange | None, RangeDescriptor]:
    """Lets the range that begins at a key be merged with its left neighbour again."""
    replica = state.replica_of(op.key)
    if replica.start != op.key or not replica.descriptor.is_sticky:
        return None, replica.descriptor
    return _restate(state, replica, False, now, with_meta)


def _restate(
    state: StoreState, replica: Replica, is_sticky: bool, now: int, with_meta: bool
) -> tuple[RangeChange, RangeDescriptor]:
    """Returns a range's next generation, that differs in whether its start stays a border."""
    after = replica.state()
    after = msgspec.structs.replace(after, descriptor=msgspec.structs.replace(after.descriptor, is_sticky=is_sticky))
    change = restated(replica, after, MetaEdit(state, now) if with_meta else None)
    change.change.commit_ts = now
    return change, change.states[0][0].descriptor


def restated(replica: Replica, state: RangeState, meta: MetaEdit | None = None) -> RangeChange:
    """Returns the change of a range's own state; its next generation, so that who waits for it routes again."""
    change = RangeChange(Change(OpBatch()))
    descriptor = msgspec.structs.replace(state.descriptor, generation=replica.generation + 1)
    counts = replica.counts()
    if meta is not None:
        meta.put(descriptor)
        counts = meta.write(change.change, [descriptor], [counts])[0]
    change.removed = [replica]
    change.put(msgspec.structs.replace(state, descriptor=descriptor), counts, replica.is_estimate)
    return change


def _next_range_id(state: StoreState, batch: OpBatch, drawn: int) -> int:
    """Returns the next id of a store that numbers its own ranges; ``drawn`` of them in this batch already."""
    stored = state.engine.get(CF_LOCAL, NEXT_RANGE_ID_KEY)
    assert stored is not None, "a store without range ids"
    range_id = int.from_bytes(stored, "big") + drawn
    batch.put(CF_LOCAL, NEXT_RANGE_ID_KEY, (range_id + 1).to_bytes(8, "big"))
    return range_id


def _divide(state: StoreState, replica: Replica, keys: list[bytes]) -> list[Counts]:
    """Counts what lies before each key; what is right of the last one has the rest."""
    rest = replica.counts()
    found: list[Counts] = []
    for start, end in zip([replica.start, *keys], keys):
        part = mvcc.stats(state.engine, start, end, state.tombstones).as_tuple()
        found.append(part)
        rest = (
            max(rest[0] - part[0], 0), max(rest[1] - part[1], 0), max(rest[2] - part[2], 0), max(rest[3] - part[3], 0)
        )  # fmt: skip
    return [*found, rest]


def merge(state: StoreState, key: bytes, now: int, with_meta: bool) -> tuple[RangeChange | None, RangeDescriptor]:
    """Joins the range that begins at (or holds) a key with its right neighbour.  Result: its descriptor.

    ``with_meta`` changes the meta entries in the same batch; they must be in this store.
    """
    left = state.replica_of(key)
    right = state.ranges.find(left.end) if left.end < KEY_MAX else None
    if right is None:
        raise SqlError("the last range has no right neighbour", sqlstate="22023")
    if left.descriptor.replicas and len(left.descriptor.replicas) != len(right.descriptor.replicas):
        raise SqlError("ranges with different replicas cannot be merged", sqlstate="55000")
    change = RangeChange(Change(state.engine.batch()))
    batch = change.change.batch
    generation = max(left.generation, right.generation) + 1
    joined = msgspec.structs.replace(left.descriptor, generation=generation, end=right.end)
    both = [one + other for one, other in zip(left.counts(), right.counts())]
    counts = (both[0], both[1], both[2], both[3])
    if with_meta:
        meta = MetaEdit(state, now)
        meta.put(joined)
        meta.drop(left.descriptor)
        meta.drop(right.descriptor)
        counts = meta.write(change.change, [joined], [counts])[0]
    batch.delete(CF_LOCAL, state_key(right.range_id))
    batch.delete(CF_LOCAL, stats_key(right.range_id))
    threshold = max(left.gc_threshold, right.gc_threshold)
    change.removed = [left, right]
    change.put(
        RangeState(joined, threshold, max(left.lease_start, right.lease_start)),
        counts,
        left.is_estimate or right.is_estimate,
    )
    change.change.commit_ts = now
    return change, joined


def collect(state: StoreState, op: CollectGarbage) -> tuple[RangeChange | None, bytes | None]:
    """Raises the threshold, or (in a later command) removes versions; result: where to go on, None when done.

    The first call for a threshold only raises it, so that reads fail before anything is
    gone; its result is the start (reliability 29).
    """
    end = op.end or KEY_MAX
    replicas = state.replicas_over(op.start, end)
    change = RangeChange(Change(state.engine.batch()))
    low = [replica for replica in replicas if replica.gc_threshold < op.threshold]
    if low:
        for replica in low:
            put_range(change.change.batch, msgspec.structs.replace(replica.state(), gc_threshold=op.threshold))
            change.raised.append((replica, op.threshold))
        return change, op.start
    replica = replicas[0]
    upper = min(end, replica.end)
    _, resume, sweep = mvcc.collect_garbage(
        state.engine, op.start, upper, op.threshold, GC_VERSIONS_MAX, state.tombstones, change.change.batch
    )
    delta = [0, 0, -sweep.removed, -sweep.bytes_freed, replica.is_estimate]
    is_first = op.start <= replica.start
    if is_first or (op.start <= replica.swept_to and op.threshold == replica.swept_threshold):
        change.swept = (replica, op.threshold, resume or upper)
        if resume is None and upper == replica.end:
            # Nothing is left below the threshold in the whole range for a range tombstone to hide.
            batch = change.change.batch
            mvcc.drop_range_tombstones(batch, replica.start, replica.end, op.threshold, state.tombstones)
    if change.change.batch.ops:
        change.change.deltas.append((replica, delta))
    return change, (upper if resume is None and upper < end else resume)


def checksum(state: StoreState, op: Checksum) -> tuple[bytes, dict[str, int]]:
    """Returns the digest of a span and what it holds, counted."""
    end = op.end or KEY_MAX
    counted = mvcc.stats(state.engine, op.start, end, state.tombstones)
    return mvcc.checksum(state.engine, op.start, end), {
        "live_count": counted.live_count,
        "live_bytes": counted.live_bytes,
        "version_count": counted.version_count,
        "total_bytes": counted.total_bytes,
    }
