"""Background work of a store, and no timer while there is nothing to do.

    resolve   a finished record's intents, in batches; then the record goes (reliability 13)
    watch     while records or intents exist: who has not been heard of is finished by us
    sweep     some time after a write: garbage below the threshold, ranges too large or too small

All of it goes through the ordinary commands, so it obeys the same rules as everybody, and in
small steps, so that no tick is long.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgspec

from base.errors import KvError
from base.hlc import LOGICAL_BITS
from base.seams import CF_LOCAL
from kvtier import mvcc
from kvtier.change import Change
from kvtier.descriptors import DATA_START, META1
from kvtier.messages import (
    Batch,
    CollectGarbage,
    Merge,
    Op,
    Push,
    QueryIntent,
    Recover,
    Reply,
    ResolveIntents,
    Split,
    TxnMeta,
    TxnStatus,
)
from kvtier.meta import split_allowed
from kvtier.opening import local_rows
from kvtier.pace import Pace
from kvtier.records import TxnRecord
from kvtier.replica import Replica
from kvtier.transactions import COMMIT_KEY_PREFIX, POISON_PREFIX, drop_record, is_expired

if TYPE_CHECKING:
    from kvtier.store import Store

RESOLVE_KEYS_MAX: Final = 500
"""Intents resolved by one command, about 5 ms (reliability 17: one by one took minutes)."""
RETRY_SECONDS: Final = 1.0
"""After a failed attempt to resolve: another store could not be asked."""
SWEEP_SHARE_INVERSE: Final = 10
"""A sweep takes at most one part in so many of the loop's time."""
RECOUNT_SECONDS: Final = 600.0
"""A range that is written all the time is counted again this often at most: its counts stay estimates."""
RECOUNT_NS: Final = int(RECOUNT_SECONDS * 1e9)
"""Between two steps of a sweep: the loop serves what has come in."""

FORGET_MAX: Final = 10_000
"""Outcomes looked at by one sweep."""
RANGES_PER_TICK: Final = 200
"""Ranges a sweep looks at before it lets others run."""

RetentionOf = Callable[[bytes, bytes], float]
"""Seconds that overwritten versions of [start, end) are kept."""


class Cleanup:
    """See the module docstring."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: dict[bytes, None] = {}
        self._is_draining = False
        self._is_sweeping = False
        self._cancel_watch: Callable[[], None] | None = None
        self._cancel_sweep: Callable[[], None] | None = None
        self._is_stopped = False
        self._noted: dict[int, int] = {}
        """Range with garbage -> HLC time from which what was there when it was noted can go."""
        self._recounted_ns: dict[int, int] = {}
        """When ranges that are estimates still were counted last."""
        self._cold: dict[int, int] = {}
        """Range -> since when it is fit to be merged with its left neighbour."""
        self.divides: Callable[[bytes, bytes], bool] = _divides_nothing
        """May be replaced: true if placement wants a border somewhere inside a span."""
        self._forgotten_to: dict[bytes, bytes] = {}
        self.retention_of: RetentionOf = lambda start, end: store.settings.gc_seconds
        """May be replaced: tables, backups and changefeeds keep versions longer."""
        self.resolved = 0
        self.recovered = 0

    def resume(self) -> None:
        """Takes up what was left when the store was closed."""
        state = self._store.state
        for record in list(state.records.values()):
            self.enqueue(record.id)
        if state.records or state.intents:
            self.watch()
        self.note_write()

    def stop(self) -> None:
        """Starts nothing more."""
        self._is_stopped = True
        for cancel in (self._cancel_watch, self._cancel_sweep):
            if cancel is not None:
                cancel()

    async def _send(self, op: Op) -> Any:
        """Sends one operation; returns its result."""
        reply = self._store.kv.send(Batch([op], admission=1))
        if reply.__class__ is not Reply:
            reply = await reply  # type: ignore[misc]  # not a Reply, so it is awaitable
        return reply.results[0]

    def _spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        self._store.scheduler.spawn(coroutine, name)

    # --- resolving ------------------------------------------------------------------

    def enqueue(self, txn_id: bytes) -> None:
        """Sees to a record that has become final or STAGING."""
        self._queue[txn_id] = None
        self.watch()
        if not self._is_draining and not self._is_stopped:
            self._is_draining = True
            self._store.scheduler.call_later(
                self._store.settings.resolve_delay_seconds, lambda: self._spawn(self._drain(), "resolve")
            )

    async def _drain(self) -> None:
        try:
            while self._queue and not self._is_stopped:
                txn_id = next(iter(self._queue))
                del self._queue[txn_id]
                record = self._store.state.records.get(txn_id)
                if record is None or not record.is_final() or not self._store.sees_to(record.anchor):
                    continue
                try:
                    await self._finish(record)
                except KvError:
                    self._store.scheduler.call_later(RETRY_SECONDS, lambda again=txn_id: self.enqueue(again))  # type: ignore[misc]  # the loop's value is bound
        finally:
            self._is_draining = False

    async def _finish(self, record: TxnRecord) -> None:
        """Resolves all intents of a finished transaction, waits until that is durable, drops the record."""
        txn = record.meta()
        status = int(record.status)
        keys = record.intents
        for first in range(0, len(keys), RESOLVE_KEYS_MAX):
            await self._send(ResolveIntents(keys[first : first + RESOLVE_KEYS_MAX], (), txn, status, record.write_ts))
        if record.intent_spans:
            await self._send(ResolveIntents((), record.intent_spans, txn, status, record.write_ts))
        # One log: the deletion of the record is durable after the resolutions in this store.
        if self._store.state.records.get(record.id) is not record or self._store.failure is not None:
            return
        change = Change(self._store.engine.batch())
        change.is_transactional = True
        drop_record(change, record)
        dropped = self._store.submit(record.anchor, change)
        if dropped is not None:
            await dropped
        self.resolved += 1

    # --- watching ---------------------------------------------------------------------

    def watch(self) -> None:
        """There are records or intents: somebody may abandon them."""
        if self._cancel_watch is None and not self._is_stopped:
            self._cancel_watch = self._store.scheduler.call_later(
                self._store.settings.txn_expiry_seconds, lambda: self._spawn(self._watch(), "watch records")
            )

    async def _watch(self) -> None:
        """Finishes what was abandoned; comes back while there is anything to watch."""
        store = self._store
        try:
            now = store.now()
            for record in list(store.state.records.values()):
                if not store.sees_to(record.anchor):
                    continue
                if record.is_final():
                    # The lease was not here for a moment when it came up, but was not lost either.
                    self.enqueue(record.id)
                elif is_expired(store.state, record.heartbeat, now):
                    await self._finish_abandoned(record)
            for txn in store.state.intents.transactions():
                last_seen = max(txn.start_ts, txn.write_ts)
                if self._is_orphan(txn) and is_expired(store.state, last_seen, now):
                    await self._finish_orphan(txn)
        except KvError:
            pass  # A store that cannot be asked now is asked next time.
        self._cancel_watch = None
        if store.state.records or store.state.intents:
            self.watch()

    async def _finish_abandoned(self, record: TxnRecord) -> None:
        if record.status == TxnStatus.PENDING:
            await self._send(Push(record.anchor, record.meta(), 0, False))
        else:
            await self.recover(record)

    def _is_orphan(self, txn: TxnMeta) -> bool:
        """True for intents we see to whose transaction has no record here."""
        store = self._store
        if txn.id in store.state.records:
            return False
        keys = store.state.intents.keys_of(txn.id) or [start for start, _ in store.state.intents.spans_of(txn.id)]
        return any(store.sees_to(key) for key in keys)

    async def _finish_orphan(self, txn: TxnMeta) -> None:
        """Ends intents whose transaction has no record in this store."""
        keys = self._store.state.intents.keys_of(txn.id)
        spans = self._store.state.intents.spans_of(txn.id)
        anchor = txn.anchor or (keys[0] if keys else spans[0][0])
        outcome = await self._send(Push(anchor, txn, 0, False))
        if outcome.status >= TxnStatus.COMMITTED:
            txn = msgspec.structs.replace(txn, ignored=outcome.ignored or txn.ignored)
            for first in range(0, len(keys), RESOLVE_KEYS_MAX):
                part = tuple(keys[first : first + RESOLVE_KEYS_MAX])
                await self._send(ResolveIntents(part, (), txn, int(outcome.status), outcome.commit_ts))
            if spans:
                await self._send(ResolveIntents((), tuple(spans), txn, int(outcome.status), outcome.commit_ts))

    async def recover(self, record: TxnRecord) -> None:
        """Decides an abandoned STAGING transaction: committed if every write is there (reliability 11)."""
        txn = record.meta()
        is_committed = True
        for key, seq in record.in_flight:
            if not await self._send(QueryIntent(key, txn, seq)):
                is_committed = False
                break
        await self._send(Recover(record.anchor, txn, is_committed))
        self.recovered += 1

    # --- sweeping -----------------------------------------------------------------------

    def note_write(self) -> None:
        """There may be garbage, or a range too large, some time from now."""
        if self._cancel_sweep is None and not self._is_stopped:
            self._sweep_later(self._store.settings.gc_interval_seconds)

    def _sweep_later(self, seconds: float) -> None:
        self._cancel_sweep = self._store.scheduler.call_later(seconds, lambda: self._spawn(self.sweep(), "sweep"))

    async def sweep(self) -> None:
        """Goes over all ranges once; comes back by itself when noted garbage can be collected."""
        if self._is_sweeping:
            return
        self._is_sweeping = True
        self._cancel_sweep = None
        store = self._store
        pace = Pace(store.clock, SWEEP_SHARE_INVERSE)
        try:
            for count, replica in enumerate(store.ranges.all()):
                if self._is_stopped or store.failure is not None:
                    return
                if count % RANGES_PER_TICK == RANGES_PER_TICK - 1:
                    await pace.rest()
                if store.ranges.get(replica.range_id) is replica:
                    await self._look_at(replica)
            self._forget_outcomes()
        except KvError:
            pass  # Overloaded, or the range moved: the next sweep sees it again.
        finally:
            self._is_sweeping = False
        for kept in (self._noted, self._recounted_ns, self._cold):
            for range_id in [range_id for range_id in kept if store.ranges.get(range_id) is None]:
                del kept[range_id]
        waits = [((ready - store.hlc.latest) >> LOGICAL_BITS) / 1e6 for ready in self._noted.values()]
        now_ns = store.clock.monotonic_ns()
        waits += [store.settings.merge_after_seconds - (now_ns - since) / 1e9 for since in self._cold.values()]
        if waits and self._cancel_sweep is None and not self._is_stopped:
            self._sweep_later(max(min(waits), store.settings.gc_interval_seconds))

    def _forget_outcomes(self) -> None:
        """Deletes what was kept for those who may ask again, once nobody will; some rows at a time."""
        store = self._store
        horizon = store.hlc.latest - (int(store.settings.outcome_seconds * 1e6) << LOGICAL_BITS)
        change = Change(store.engine.batch())
        change.is_transactional = True
        for prefix in (COMMIT_KEY_PREFIX, POISON_PREFIX):
            rows = islice(local_rows(store.engine, prefix, self._forgotten_to.get(prefix, b"")), FORGET_MAX + 1)
            self._forgotten_to[prefix] = b""
            for count, (key, stored) in enumerate(rows):
                if count == FORGET_MAX:
                    self._forgotten_to[prefix] = key
                    break
                if int.from_bytes(stored, "big") < horizon:
                    change.batch.delete(CF_LOCAL, prefix + key)
                    if prefix == POISON_PREFIX:
                        change.forgotten.append(key)
        if change.batch.ops:
            store.apply(change)

    async def _look_at(self, replica: Replica) -> None:
        settings = self._store.settings
        if not self._store.sees_to(replica.start):
            return
        if replica.is_estimate:
            await self._count_again(replica)
        if self._has_garbage(replica):
            await self._collect_if_old(replica)
        if replica.live_bytes > settings.range_max_bytes:
            await self._split(replica)
        elif settings.merge_automatically and replica.is_alone:
            await self._merge(replica)

    def _has_garbage(self, replica: Replica) -> bool:
        garbage = replica.total_bytes - replica.live_bytes - 8 * replica.live_count
        overlaps = self._store.state.tombstones.overlap(replica.start, replica.end)
        return overlaps or garbage >= self._store.settings.gc_min_bytes

    async def _collect_if_old(self, replica: Replica) -> None:
        """Collects once all garbage that was there when it was first noted is old enough.

        So every pass frees much, and garbage lives at most twice its retention.
        """
        noted = self._noted
        now = self._store.now()
        ready = noted.get(replica.range_id)
        if ready is None:
            retention = self.retention_of(replica.start, replica.end)
            noted[replica.range_id] = now + (int(retention * 1e6) << LOGICAL_BITS)
        elif now >= ready:
            del noted[replica.range_id]
            await self.collect(replica.start, replica.end)
            if self._has_garbage(replica):
                await self._collect_if_old(replica)

    async def collect(self, start: bytes, end: bytes) -> None:
        """Removes the versions of [start, end) that are older than its retention."""
        store = self._store
        threshold = store.now() - (int(self.retention_of(start, end) * 1e6) << LOGICAL_BITS)
        at: bytes | None = start if threshold > 0 else None
        pace = Pace(store.clock, SWEEP_SHARE_INVERSE)
        while at is not None and not self._is_stopped:
            replica = store.ranges.find(at)
            if replica is None:
                return  # It moved; where it went it is collected too.
            stop = min(end, replica.end)  # It may have been split meanwhile.
            at = await self._send(CollectGarbage(at, stop, threshold))
            if at is None and stop < end:
                at = stop
            await pace.rest()

    async def _count_again(self, replica: Replica) -> None:
        """Recounts a range whose statistics a range tombstone made an estimate.

        They are exact afterwards if nothing was written meanwhile, and off by what was if not.
        """
        store = self._store
        now_ns = store.clock.monotonic_ns()
        if self._recounted_ns.get(replica.range_id, now_ns - RECOUNT_NS) > now_ns - RECOUNT_NS:
            return
        self._recounted_ns[replica.range_id] = now_ns
        seq = replica.last_write_seq
        guesses = replica.guesses
        old = replica.counts()
        survey = await self._survey(replica)
        if store.ranges.get(replica.range_id) is not replica:
            return
        # Writes of replicated ranges do not pass ``last_write_seq``; every write counts a version, though, or is a
        # guess, which is looked for when this is proposed: then all is applied that was evaluated before.
        is_unchanged = replica.last_write_seq == seq and replica.counts() == old
        counted = survey.stats.as_tuple()
        change = Change(store.engine.batch())
        change.deltas.append((replica, [*[new - before for new, before in zip(counted, old)], 0]))
        if is_unchanged:
            change.counted.append(replica)
            change.counted_from = guesses
        counting = store.submit(replica.start, change)
        if counting is not None:
            await counting
        if change.counted:
            self._recounted_ns.pop(replica.range_id, None)

    async def _survey(self, replica: Replica) -> mvcc.Survey:
        """Reads all of a range, a little at a time."""
        store = self._store
        survey = mvcc.Survey(replica.start, replica.end, store.state.tombstones)
        pace = Pace(store.clock, SWEEP_SHARE_INVERSE)
        while not survey.advance(store.engine):
            await pace.rest()
        return survey

    async def _split(self, replica: Replica) -> None:
        """Divides a range in the middle of its bytes."""
        middle = (await self._survey(replica)).middle()
        if middle is not None and split_allowed(middle) and replica.start < middle < replica.end:
            await self._send(Split(middle))

    async def _merge(self, replica: Replica) -> None:
        """Joins a range with its right neighbour, once the two have been small for long enough.

        A border that was made by hand stays, and so does one that placement wants.
        """
        store = self._store
        right = store.ranges.find(replica.end)
        if right is None or not right.is_alone or replica.end <= DATA_START:
            return
        if right.descriptor.is_sticky or not store.are_small(replica, right) or self.divides(replica.start, right.end):
            self._cold.pop(right.range_id, None)
            return
        now_ns = store.clock.monotonic_ns()
        since = self._cold.setdefault(right.range_id, now_ns)
        if now_ns - since >= int(store.settings.merge_after_seconds * 1e9):
            await self._send(Merge(max(replica.start, META1)))


def _divides_nothing(start: bytes, end: bytes) -> bool:
    return False
