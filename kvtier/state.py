"""The state of a store that evaluation reads and ``apply`` changes.

One object, so that the evaluators (``reading``, ``committing``, ``transactions``,
``administration``) are plain functions of (state, batch) and none knows the store around
it.  Everything here can be built again from the engine, but for the unreplicated
locks and the timestamp cache, whose loss ``low_water`` covers.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from base.errors import RangeMismatch, TxnAborted
from base.hlc import Hlc
from base.seams import Clock, Scheduler
from kvtier.dependents import Dependents
from kvtier.descriptors import RangeDescriptor
from kvtier.engine.contract import StoreEngine
from kvtier.intents import IntentIndex
from kvtier.locks import LockTable
from kvtier.messages import TxnMeta
from kvtier.mvcc import RangeTombstones
from kvtier.records import Finished, TxnRecord
from kvtier.replica import RangeMap, Replica
from kvtier.settings import StoreSettings
from kvtier.tscache import TimestampCache

POISONED_MAX: Final = 10_000
"""Aborted transactions a store still turns away; the oldest is forgotten first."""


class StoreState:
    """See the module docstring."""

    def __init__(
        self, engine: StoreEngine, clock: Clock, scheduler: Scheduler, hlc: Hlc, settings: StoreSettings
    ) -> None:
        self.engine = engine
        self.clock = clock
        self.scheduler = scheduler
        self.hlc = hlc
        self.settings = settings
        self.ranges = RangeMap()
        self.locks = LockTable(scheduler, settings.locks_max)
        self.intents = IntentIndex()
        self.tombstones = RangeTombstones()
        self.tscache = TimestampCache(hlc.latest, settings.cache_points_max, settings.cache_spans_max)
        self.records: dict[bytes, TxnRecord] = {}
        self.finished = Finished(hlc.latest)
        self.dependents = Dependents()
        self.poisoned: dict[bytes, int] = {}
        """Transaction -> HLC time at which its intents were taken away (reliability 15)."""
        self.gc_high = 0
        """Highest garbage threshold of any range: reads above it need no look."""
        self.unsynced: dict[bytes, int] = {}
        """Key -> engine sequence of its last write, while that is not durable."""
        self._unsynced_order: deque[tuple[int, list[bytes]]] = deque()
        self.unsynced_span_seq = 0
        """Engine sequence of the last range tombstone, while that is not durable."""
        self.synced_seq = 0
        self.ts_free = 0
        """Timestamps above this may be given out only after a look at the bound on disk."""
        self.on_ts_beyond: Callable[[int], None] | None = None

    def now(self) -> int:
        """Returns a fresh timestamp."""
        ts = self.hlc.now(self.clock.wall_ns())
        if ts > self.ts_free and self.on_ts_beyond is not None:
            self.on_ts_beyond(ts)
        return ts

    def is_plain_at(self, ts: int) -> bool:
        """True if what any key holds at ``ts`` is what its versions say: no intent of any kind, no garbage."""
        intents = self.intents
        return not (ts <= self.gc_high or intents.points or intents.spans or intents.runs.starts)

    def replica_of(self, key: bytes) -> Replica:
        """Returns the replica that holds a key; RangeMismatch if none is here."""
        replica = self.ranges.find(key)
        if replica is None:
            raise RangeMismatch(())
        return replica

    def replica_by_id(self, range_id: int) -> Replica:
        """Returns the replica of a range; RangeMismatch if none is here."""
        replica = self.ranges.get(range_id)
        if replica is None:
            raise RangeMismatch(())
        return replica

    def replicas_over(self, start: bytes, end: bytes) -> list[Replica]:
        """Returns the replicas that cover [start, end) without gap; RangeMismatch if they do not."""
        found = self.ranges.over(start, end)
        at = start
        for replica in found:
            if replica.start > at:
                break
            at = replica.end
        if at < end:
            raise RangeMismatch(tuple([replica.descriptor for replica in found]))
        return found

    def check_address(self, range_id: int, generation: int) -> Replica:
        """Returns the replica a batch was addressed to; RangeMismatch if it has changed since."""
        replica = self.ranges.get(range_id)
        if replica is None:
            raise RangeMismatch(())
        if replica.generation != generation:
            raise self.mismatch(replica)
        return replica

    def mismatch(self, replica: Replica) -> RangeMismatch:
        """Returns the error that tells who asked wrongly what this range, and the next, are now."""
        neighbour = self.ranges.find(replica.end)
        known: tuple[RangeDescriptor, ...] = (replica.descriptor,)
        return RangeMismatch(known + ((neighbour.descriptor,) if neighbour is not None else ()))

    def check_alive(self, txn: TxnMeta) -> None:
        """Raises TxnAborted for a transaction whose intents a pusher removed (reliability 15)."""
        if txn.id in self.poisoned:
            raise TxnAborted(reason="pushed")

    def poison(self, txn_id: bytes, now: int) -> None:
        """Turns a transaction away from now on; bounded, the oldest is forgotten."""
        self.poisoned.pop(txn_id, None)
        self.poisoned[txn_id] = now
        while len(self.poisoned) > POISONED_MAX:
            del self.poisoned[next(iter(self.poisoned))]

    # --- what is not yet durable -------------------------------------------------

    def note_unsynced(self, seq: int, keys: list[bytes]) -> None:
        """Remembers that these keys were written by batch ``seq``."""
        unsynced = self.unsynced
        for key in keys:
            unsynced[key] = seq
        self._unsynced_order.append((seq, keys))

    def note_synced(self, seq: int) -> None:
        """Forgets what is durable now."""
        self.synced_seq = seq
        if self.unsynced_span_seq <= seq:
            self.unsynced_span_seq = 0
        order = self._unsynced_order
        unsynced = self.unsynced
        while order and order[0][0] <= seq:
            for key in order.popleft()[1]:
                if unsynced.get(key, seq + 1) <= seq:
                    del unsynced[key]

    def unsynced_of(self, key: bytes) -> int:
        """Returns the sequence a value of this key depends on, 0 if it is durable."""
        seq = max(self.unsynced.get(key, 0), self.unsynced_span_seq)
        return seq if seq > self.synced_seq else 0

    def unsynced_over(self, start: bytes, end: bytes) -> int:
        """Returns the sequence a scan of [start, end) may depend on, 0 if all is durable."""
        seq = 0
        for replica in self.ranges.over(start, end):
            if replica.last_write_seq > seq:
                seq = replica.last_write_seq
        return seq if seq > self.synced_seq else 0
