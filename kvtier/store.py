"""A store: one engine, the ranges in it, and everything that guards them.

    send(batch)
       |  evaluate: reads | one-phase commit | intents, records | administration
       |       Conflict -----> wait for the lock or the intent, then evaluate again
       |  apply: one engine batch, then the state in memory
       v
    Reply, at once; a commit's after its sync

Evaluating and applying are synchronous and happen in the tick the batch came in, so on
ranges whose only replica is here no latch is needed and nothing is ever half done.

Locks are freed when a commit is *applied*, before it is durable.  Whoever reads its keys
then is told so (``Reply.unsynced``) and must not tell anybody outside before that sync;
whoever commits after it is durable after it, because the log has one order.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from base.eager import Eager
from base.errors import (
    AmbiguousResult,
    FeatureNotSupported,
    LockNotAvailable,
    MeridianError,
    NotLeaseholder,
    Overloaded,
    QueryCanceled,
    StorageFailure,
)
from base.hlc import LOGICAL_BITS, Hlc
from base.seams import CF_LOCAL, Clock, Rng, Scheduler
from kvtier import administration
from kvtier.administration import RangeChange
from kvtier.change import Change, Conflict
from kvtier.cleanup import RESOLVE_KEYS_MAX, Cleanup
from kvtier.client import NOT_NOW, Kv
from kvtier.commit_group import CommitGroup
from kvtier.committing import OnePhase
from kvtier.descriptors import DATA_START, KEY_MAX, META1, RangeDescriptor
from kvtier.dispatch import END, KINDS, OTHER, READ, General, is_one_phase
from kvtier.engine.batch import PUT
from kvtier.engine.contract import StoreEngine
from kvtier.intents import Intent
from kvtier.locks import NONE, LockRequest
from kvtier.messages import (
    KEYS_MAX,
    Batch,
    ChangeReplicas,
    Checksum,
    CollectGarbage,
    EndTxn,
    Get,
    Lock,
    Merge,
    Push,
    PushResult,
    Reply,
    ResolveIntents,
    ScanResult,
    Split,
    TxnMeta,
    TxnStatus,
    Unsplit,
)
from kvtier.mvcc.reads import get_value
from kvtier.opening import HLC_BOUND_KEY, StoreIdentity, bootstrap, is_fresh, load
from kvtier.reading import get_locked, lock_plainly, read_batch, scan_plainly, scanned_span
from kvtier.replica import Replica
from kvtier.runindex import Run, SpanIntent
from kvtier.settings import StoreSettings
from kvtier.state import StoreState
from kvtier.transactions import named_outcome, put_outcome

ANONYMOUS: Final = TxnMeta(b"")
"""Who waits for a batch outside transactions: it holds nothing, so it can be in no deadlock."""


FOREIGN_AHEAD_US: Final = 5_000_000
"""No version that another node wrote is further above our clock when we open: ten times any offset a cluster lets in."""


class Store(Kv):
    """See the module docstring.  As a Kv it is its own client, for one-store programs."""

    def __init__(
        self,
        engine: StoreEngine,
        clock: Clock,
        scheduler: Scheduler,
        rng: Rng,
        hlc: Hlc,
        settings: StoreSettings | None = None,
        node_id: int = 1,
        on_fatal: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.settings = settings if settings is not None else StoreSettings()
        self.engine = engine
        self.clock = clock
        self.scheduler = scheduler
        self.hlc = hlc
        self.max_offset_us = 0
        self._on_fatal = on_fatal
        self.failure: BaseException | None = None
        if is_fresh(engine):
            bootstrap(engine, rng, node_id, hlc.now(clock.wall_ns()))
        bound = engine.get(CF_LOCAL, HLC_BOUND_KEY)
        hlc.forward(int.from_bytes(bound or b"", "big"))
        self.state = StoreState(engine, clock, scheduler, hlc, self.settings)
        self.identity: StoreIdentity = load(self.state, scheduler)
        self.ranges = self.state.ranges
        self.group = CommitGroup(engine, scheduler, self.fail)
        self.state.synced_seq = self.group.synced_seq
        self.group.on_synced.append(self.state.note_synced)
        self.kv: Kv = self
        """Where questions about other keys go: the router once there is one."""
        self.on_change: Callable[[Change, RangeChange | None], None] | None = None
        """Told of every change before it is applied; what it raises keeps the change from happening."""
        self.serve_replicated: Callable[[Replica, Batch], Eager[Reply]] = self._refuse_replicated
        """Serves batches of ranges with several replicas (``kvtier.replication``)."""
        self.leads: Callable[[Replica], bool] = _leads_nothing
        """True for a range with several replicas whose lease is here."""
        self.submit_logged: Callable[[Replica, Change], Eager[None]] = _refuse_change
        """Puts a change into the log of such a range."""
        self.change_replicas: Callable[[Replica, ChangeReplicas], RangeDescriptor] = _refuse_replicas
        """Gives a range that is here alone its second replica."""
        self.publish: Callable[[RangeChange], None] = _publishes_nothing
        """Tells the directory, where it is not here alone, what has become of ranges that are."""
        self.is_whole = False
        """True if every range of the cluster is here alone: nothing need be routed."""
        self.note_ranges()
        # Other nodes may have written what we hold, by their clocks.
        ahead_us = 10 * hlc.max_offset_us if self.is_whole else max(10 * hlc.max_offset_us, FOREIGN_AHEAD_US)
        engine.recent.open(max(hlc.latest, hlc.now(clock.wall_ns())), ahead_us)
        self._hlc_bound = 0
        self._hlc_bound_seq = 0
        self._hlc_bound_synced = 0
        self._hlc_step = int(self.settings.hlc_bound_seconds * 1e6) << LOGICAL_BITS
        self.state.on_ts_beyond = self._extend_hlc_bound
        self._extend_hlc_bound(hlc.latest)
        self.cleanup = Cleanup(self)
        self.cleanup.resume()

    # --- Kv ---------------------------------------------------------------------

    def send(self, batch: Batch) -> Eager[Reply]:
        if batch.range_id:
            replica = self.state.check_address(batch.range_id, batch.generation)
            if not replica.is_alone:
                return self.serve_replicated(replica, batch)
        try:
            ops = batch.ops
            if len(ops) == 1:
                op = ops[0]
                if op.__class__ is Get:
                    if not op.lock:
                        return self._get(batch, op.key)
                    if batch.txn is not None:
                        return get_locked(self.state, batch, batch.txn, op)
            return self._evaluate(batch)
        except Conflict as conflict:
            return self._wait_and_retry(batch, conflict)

    def get_now(self, key: bytes, ts: int, owner: bytes) -> Any:
        """``_get`` without its batch and reply."""
        state = self.state
        if not state.is_plain_at(ts) or (owner and state.poisoned):
            return NOT_NOW
        if state.unsynced_span_seq or key in state.unsynced:
            return NOT_NOW
        value = get_value(state.engine, key, ts, state.tombstones)
        state.tscache.add(key, ts, owner)
        return value

    def scan_now(self, start: bytes, end: bytes, reverse: bool, limit: int, ts: int, owner: bytes) -> Any:
        state = self.state
        if not state.is_plain_at(ts) or (owner and state.poisoned) or start >= end:
            return NOT_NOW
        rows = scan_plainly(state, start, end, reverse, min(limit or KEYS_MAX, KEYS_MAX), ts)
        lower, upper = scanned_span(start, end, reverse, rows[2])
        state.tscache.add_span(lower, upper, ts, owner)
        return ScanResult(rows[0], rows[1], rows[2]), state.unsynced_over(lower, upper)

    def lock_now(self, key: bytes, txn: TxnMeta, strength: Lock) -> Any:
        state = self.state
        if state.unsynced_span_seq or key in state.unsynced:
            return NOT_NOW
        return lock_plainly(state, key, txn, strength)

    def wait_durable(self, seq: int) -> Eager[None]:
        return self.group.wait(seq)

    def now(self) -> int:
        ts = self.hlc.now(self.clock.wall_ns())
        if ts > self.state.ts_free:
            self._extend_hlc_bound(ts)
        return ts

    def is_local(self, keys: list[bytes]) -> bool:
        return self.is_whole or all(self.covers_alone(key, key + b"\0") for key in keys)

    def sees_to(self, key: bytes) -> bool:
        """True if the background work of a key's range is this store's."""
        replica = self.ranges.find(key)
        return replica is not None and (replica.is_alone or self.leads(replica))

    def submit(self, key: bytes, change: Change) -> Eager[None]:
        """Applies a change to the range of a key, through its log if it has one."""
        replica = self.state.replica_of(key)
        if not replica.is_alone:
            return self.submit_logged(replica, change)
        self.apply(change)
        return None

    def _refuse_replicated(self, replica: Replica, batch: Batch) -> Reply:
        """A store opened without replication holds no lease on what has other replicas."""
        raise NotLeaseholder(replica.range_id)

    # --- ranges -------------------------------------------------------------------

    def _check_address(self, batch: Batch) -> None:
        """Raises RangeMismatch if a batch was addressed by an outdated descriptor."""
        self.state.check_address(batch.range_id, batch.generation)

    def covers_alone(self, start: bytes, end: bytes) -> bool:
        """True if all of [start, end) is in ranges whose only replica is here."""
        at = start
        for replica in self.ranges.over(start, end):
            if replica.start > at or not replica.is_alone:
                return False
            at = replica.end
        return at >= end

    def note_ranges(self) -> None:
        """Looks again whether this store is the whole cluster."""
        self.is_whole = self.covers_alone(b"", KEY_MAX)

    def are_small(self, left: Replica, right: Replica) -> bool:
        """True if two ranges together are so small that they may be merged, and are not split again at once."""
        limit = min(self.settings.range_min_bytes, self.settings.range_max_bytes // 2)
        return left.total_bytes + right.total_bytes < limit

    # --- evaluation -----------------------------------------------------------------

    def _get(self, batch: Batch, key: bytes) -> Reply:
        """The fast path of the whole database: one plain Get."""
        state = self.state
        txn = batch.txn
        if txn is None:
            ts = batch.ts or self.now()
            owner = b""
        else:
            ts = txn.read_ts
            owner = txn.id
            if ts < txn.uncertainty_limit or state.poisoned:
                return read_batch(state, batch)
        if not state.is_plain_at(ts):
            return read_batch(state, batch)
        value = get_value(state.engine, key, ts, state.tombstones)
        state.tscache.add(key, ts, owner)
        unsynced = state.unsynced_of(key) if state.unsynced or state.unsynced_span_seq else 0
        return Reply([value], ts, 0, unsynced)

    def _evaluate(self, batch: Batch) -> Eager[Reply]:
        kinds = 0
        for op in batch.ops:
            kinds |= KINDS[op.__class__]
        if kinds == READ:
            return read_batch(self.state, batch)
        if self.failure is not None:
            raise self.failure
        last = batch.ops[-1]
        if not kinds & OTHER:
            if batch.txn is None:
                return self._commit(batch, None)
            if kinds & END:
                assert isinstance(last, EndTxn), f"EndTxn is not the last operation: {batch.ops!r}"
                if is_one_phase(self.state, batch.txn, last):
                    return self._commit(batch, last)
        if len(batch.ops) == 1 and isinstance(last, Split | Unsplit | Merge | CollectGarbage | Checksum):
            return self._administer(last)
        if isinstance(last, ChangeReplicas):
            return Reply([self.change_replicas(self.state.replica_of(last.key), last)])
        return self._evaluate_general(batch)

    def _commit(self, batch: Batch, end: EndTxn | None) -> Eager[Reply]:
        """Evaluates and applies a one-phase commit; the reply comes after its sync."""
        txn = batch.txn
        if end is not None and end.commit_key:
            assert txn is not None, batch
            done = named_outcome(self.state, end.commit_key, txn.id)
            if done:
                return self._reply_named(batch, done)
        results, change = OnePhase(self.state, batch, end).evaluate()
        if end is not None and end.commit_key:
            put_outcome(change, end.commit_key, change.commit_ts)
        read_ts = change.commit_ts if txn is None else txn.read_ts
        if not change.batch.ops:
            self.apply(change)
            return Reply(results, read_ts, change.commit_ts)
        seq = self.apply(change)
        self.cleanup.note_write()
        return self.group.reply(Reply(results, read_ts, change.commit_ts), seq)

    def _reply_named(self, batch: Batch, commit_ts: int) -> Eager[Reply]:
        """Answers a commit whose name has committed before: it is not applied again."""
        assert batch.txn is not None, batch
        self.state.locks.release_txn(batch.txn.id)
        return self.group.reply(Reply([None] * len(batch.ops), batch.txn.read_ts, commit_ts), self.engine.write_seq())

    def _evaluate_general(self, batch: Batch) -> Eager[Reply]:
        """Evaluates anything else: intents, records, ends with a record."""
        general = General(self.state, batch)
        reply = general.evaluate()
        change = general.change
        if not change.batch.ops and not change.release:
            return reply
        seq = self.apply(change)
        self.cleanup.note_write()
        if general.must_sync:
            return self.group.reply(reply, seq)
        reply.unsynced = max(reply.unsynced, seq if change.batch.ops else 0)
        return reply

    def _administer(self, op: Split | Unsplit | Merge | CollectGarbage | Checksum) -> Eager[Reply]:
        now = self.now()
        # Once the directory has other replicas, it is written through its log, like that of any other node's ranges.
        has_meta = self.covers_alone(META1, DATA_START)
        change, result = administration.evaluate(self.state, op, now, has_meta)
        if change is None:
            return Reply([result], now)
        seq = self.apply_ranges(change)
        if not has_meta:
            self.publish(change)
        return self.group.reply(Reply([result], now), seq)

    # --- application ------------------------------------------------------------------

    def apply_ranges(self, change: RangeChange) -> int:
        """Applies a change of the map of ranges; returns the engine sequence."""
        seq = self.apply(change.change, change)
        change.install(self.state)
        self.note_ranges()
        return seq

    def apply(self, change: Change, ranges: RangeChange | None = None, is_logged: bool = False) -> int:
        """Writes the batch and brings the memory up to date; returns the engine sequence.

        ``is_logged``: the change comes from a range's log, so it is durable wherever the log is.
        """
        state = self.state
        batch = change.batch
        if change.commit_ts > state.ts_free:
            self._extend_hlc_bound(change.commit_ts)
        if self.on_change is not None:
            self.on_change(change, ranges)
        for replica, delta in change.deltas:
            batch.ops.append((PUT, CF_LOCAL, replica.stats_key, replica.encode_sum(delta, replica in change.counted)))
        if batch.ops:
            try:
                self.engine.write(batch)
            except StorageFailure as failure:
                self.fail(failure)
                raise AmbiguousResult("the outcome of the write is unknown", detail=str(failure)) from failure
        seq = self.engine.write_seq()
        if batch.touches_tombstones:
            state.tombstones.apply(batch)
        for replica, delta in change.deltas:
            replica.count(delta[0], delta[1], delta[2], delta[3])
            if delta[4]:
                replica.is_estimate = True
                replica.guesses += 1
            if not is_logged:
                replica.last_write_seq = seq
        for replica in change.counted:
            replica.is_estimate = False
        if change.keys and not is_logged:
            state.note_unsynced(seq, change.keys)
        if change.spans and not is_logged:
            state.unsynced_span_seq = seq
        if change.commit_ts > self.hlc.latest and (is_logged or self._is_own_time(change.commit_ts)):
            self.hlc.forward(change.commit_ts)
        if change.is_transactional:
            self._apply_transactional(change)
        for txn_id in change.release:
            state.locks.release_txn(txn_id)
        return seq

    def _is_own_time(self, commit_ts: int) -> bool:
        """False for a commit that a GLOBAL table has moved ahead of the clock: clocks do not follow those."""
        return not self.hlc.max_offset_us or commit_ts <= self.hlc.now(self.clock.wall_ns())

    def _apply_transactional(self, change: Change) -> None:
        """Follows what changed in intents and records."""
        state = self.state
        for key, txn, write_ts, seq in change.intents:
            state.intents.add(key, txn, write_ts, seq)
        for span in change.span_intents:
            state.intents.add_span(span)
        for run in change.runs:
            state.intents.runs.add(run)
        if change.intents or change.span_intents or change.runs or change.records:
            self.cleanup.watch()
        for record in change.records:
            state.records[record.id] = record
            if record.is_final() or record.status == TxnStatus.STAGING:
                self.cleanup.enqueue(record.id)
        for txn_id in change.records_dropped:
            state.records.pop(txn_id, None)
        for txn_id, commit_ts in change.finished:
            state.finished.add(txn_id, commit_ts, self.hlc.latest)
        for txn_id in change.poisoned:
            state.poison(txn_id, self.hlc.latest)
        for txn_id in change.forgotten:
            state.poisoned.pop(txn_id, None)
        for start, end, txn_id in change.resolved_spans:
            state.intents.remove_spans(start, end, txn_id)
            for key in state.locks.shown_in(start, end, txn_id):
                state.locks.release_key(key, txn_id)
        for start, end, txn_id in change.runs_gone:
            state.intents.runs.remove(start, txn_id)
            for key in state.locks.shown_in(start, end, txn_id):
                state.locks.release_key(key, txn_id)
        for key, txn_id in change.resolved:
            state.intents.remove(key, txn_id)
            state.locks.release_key(key, txn_id)

    # --- waiting ------------------------------------------------------------------------

    async def _wait_and_retry(self, batch: Batch, conflict: Conflict) -> Reply:
        """Waits for what is in the way and evaluates again, until nothing is."""
        if batch.txn is None and not batch.ts and conflict.strength == NONE:
            # The read stays where it is, or it would run after every intent it has pushed.
            batch = msgspec.structs.replace(batch, ts=conflict.read_ts)
        while True:
            await self.wait_out(batch.txn, conflict, batch.deadline_ns)
            if batch.range_id:
                self._check_address(batch)
            elif not self.is_whole and self.kv is not self:
                # A range may have got other replicas meanwhile: it is written through its log.
                routed = self.kv.send(batch)
                return routed if isinstance(routed, Reply) else await routed
            try:
                reply = self._evaluate(batch)
            except Conflict as next_conflict:
                conflict = next_conflict
                continue
            if reply.__class__ is not Reply:
                reply = await reply  # type: ignore[misc]  # not a Reply, so it is awaitable
            return reply

    async def wait_out(self, txn: TxnMeta | None, conflict: Conflict, deadline_ns: int) -> None:
        """Waits until a conflict may be over."""
        key = conflict.key
        if conflict.intent is not None:
            if await self._push_aside(conflict):
                return
            still = self.state.intents.other_at(key, b"" if txn is None else txn.id)
            if still is None:
                return
            self.state.locks.show_intent(key, still.txn.id)
        if key not in self.state.locks.states:
            return
        waiting = txn if txn is not None else ANONYMOUS
        request = self.state.locks.enqueue(key, waiting, conflict.strength if txn is not None else NONE)
        stops = self._set_timers(request, conflict, waiting.lock_timeout_ms, deadline_ns)
        try:
            await request.waiter.wait()
        except BaseException:
            self.state.locks.cancel(request)
            raise
        finally:
            for stop in stops:
                stop()

    def _set_timers(
        self, request: LockRequest, conflict: Conflict, timeout_ms: int, deadline_ns: int
    ) -> list[Callable[[], None]]:
        """Returns the cancel functions of the timers of one wait."""
        stops: list[Callable[[], None]] = []
        if deadline_ns:
            seconds = max(deadline_ns - self.clock.wall_ns(), 0) / 1e9
            over = QueryCanceled("canceling statement due to statement timeout")
            stops.append(self.scheduler.call_later(seconds, lambda: request.waiter.fail(over)))
        if timeout_ms:
            late = LockNotAvailable("canceling statement due to lock timeout")
            stops.append(self.scheduler.call_later(timeout_ms / 1000, lambda: request.waiter.fail(late)))
        if conflict.intent is not None:
            watch = IntentWatch(self, conflict, request)
            watch.start()
            stops.append(watch.stop)
        return stops

    async def _push_aside(self, conflict: Conflict) -> bool:
        """Asks the record of the intent in the way; True if the intent moved or is gone."""
        intent = conflict.intent
        assert intent is not None, conflict
        pushee = intent.txn
        # Moving a run costs a write of all its rows: a reader waits instead.
        can_move = conflict.strength == NONE and not isinstance(intent, Run)
        push = Push(pushee.anchor or conflict.key, pushee, conflict.read_ts + 1 if can_move else 0, False)
        push.now = self.now()
        reply = self.kv.send(Batch([push]))
        if reply.__class__ is not Reply:
            reply = await reply  # type: ignore[misc]  # not a Reply, so it is awaitable
        outcome: PushResult = reply.results[0]
        if outcome.status == TxnStatus.STAGING:
            return False
        if outcome.status == TxnStatus.PENDING and not (can_move and outcome.commit_ts > conflict.read_ts):
            return False
        resolution = self._resolution(conflict, intent, outcome)
        if resolution is None:
            return True
        if self.state.replica_of(conflict.key).is_alone:
            general = General(self.state, Batch([resolution]))
            general.evaluate()
            self.apply(general.change)
            return True
        reply = self.kv.send(Batch([resolution]))
        if reply.__class__ is not Reply:
            await reply  # type: ignore[misc]  # not a Reply, so it is awaitable
        return True

    def _resolution(
        self, conflict: Conflict, intent: Intent | SpanIntent, outcome: PushResult
    ) -> ResolveIntents | None:
        """Returns what resolves the intent that is in the way; one that was pushed is moved here and now.

        The intents right behind it go with it: a scan over thousands would begin anew for each (reliability 17).
        The rest of the transaction's is for the background.
        """
        txn = msgspec.structs.replace(intent.txn, ignored=outcome.ignored or intent.txn.ignored)
        if outcome.status == TxnStatus.PENDING:
            intent.write_ts = max(intent.write_ts, outcome.commit_ts)
            return None
        intents = self.state.intents
        status = int(outcome.status)
        if isinstance(intent, Run):
            span = (intent.start, intents.runs.end_of_neighbours(intent, RESOLVE_KEYS_MAX))
            return ResolveIntents((), (span,), txn, status, outcome.commit_ts)
        if isinstance(intent, SpanIntent):
            return ResolveIntents((), ((intent.start, intent.end),), txn, status, outcome.commit_ts)
        keys = intents.neighbours(conflict.key, self.state.replica_of(conflict.key).end, intent.txn, RESOLVE_KEYS_MAX)
        return ResolveIntents(tuple(keys), (), txn, status, outcome.commit_ts)

    # --- life -----------------------------------------------------------------------------

    def fail(self, failure: BaseException) -> None:
        """The disk failed: nothing may be told from this state any more."""
        if self.failure is not None:
            return
        self.failure = failure
        self.group.fail(failure)
        if self._on_fatal is not None:
            self._on_fatal(failure)

    def _extend_hlc_bound(self, ts: int) -> None:
        """Sees to it that no timestamp is given out above the bound that is on disk (reliability 28).

        A new bound is written and synced while half of the old one is still ahead.  If the clock is
        faster than that sync (at the start, after a jump), the timestamp waits for the disk right here:
        a read at it may be served at once, and a later start must not give it out again.
        """
        if self.group.synced_seq >= self._hlc_bound_seq:
            self._hlc_bound_synced = self._hlc_bound
        try:
            if ts + self._hlc_step > self._hlc_bound:
                self._write_hlc_bound(ts)
            if ts >= self._hlc_bound_synced:
                self.engine.sync()
                self._hlc_bound_synced = self._hlc_bound
            elif self._hlc_bound_synced < self._hlc_bound:
                self.group.join(self._hlc_bound_seq)
        except StorageFailure as failure:
            self.fail(failure)
            raise
        self.state.ts_free = min(self._hlc_bound_synced, self._hlc_bound - self._hlc_step)

    def _write_hlc_bound(self, ts: int) -> None:
        bound = ts + 2 * self._hlc_step
        batch = self.engine.batch()
        batch.put(CF_LOCAL, HLC_BOUND_KEY, bound.to_bytes(8, "big"))
        try:
            self.engine.write(batch)
        except Overloaded:
            if ts >= self._hlc_bound:
                raise
            return
        self._hlc_bound = bound
        self._hlc_bound_seq = self.engine.write_seq()

    def close(self) -> None:
        """Persists the clock and closes the engine; nobody may be waiting."""
        self.cleanup.stop()
        self.group.close()
        if self.failure is None:
            batch = self.engine.batch()
            batch.put(CF_LOCAL, HLC_BOUND_KEY, (self.hlc.latest + 1).to_bytes(8, "big"))
            self.engine.write(batch)
            self.engine.sync()
        self.engine.close()

    def metrics(self) -> dict[str, int]:
        """Returns counters and sizes by stable names."""
        state = self.state
        return {
            "ranges": len(state.ranges),
            "locks": len(state.locks),
            "lock_waiters": state.locks.waiters(),
            "deadlocks": state.locks.deadlocks,
            "intents": len(state.intents.points),
            "runs": len(state.intents.runs),
            "records": len(state.records),
            "timestamp_cache_entries": len(state.tscache),
            "syncs": self.group.syncs,
            "commits": self.group.commits,
            **self.engine.stats(),
        }


def _leads_nothing(replica: Replica) -> bool:
    return False


def _publishes_nothing(change: RangeChange) -> None:
    """A store opened without replication holds the directory itself."""


def _refuse_replicas(replica: Replica, op: ChangeReplicas) -> RangeDescriptor:
    raise FeatureNotSupported("replicas on other nodes need a node that was started for a cluster")


def _refuse_change(replica: Replica, change: Change) -> Eager[None]:
    raise NotLeaseholder(replica.range_id)


class IntentWatch:
    """Looks after the holder of an intent somebody waits for: it may have been abandoned."""

    def __init__(self, store: Store, conflict: Conflict, request: LockRequest) -> None:
        self._store = store
        self._conflict = conflict
        self._request = request
        self._cancel: Callable[[], None] | None = None
        self._is_stopped = False

    def start(self) -> None:
        """Looks again after the time a transaction may be silent."""
        self._cancel = self._store.scheduler.call_later(self._store.settings.txn_expiry_seconds, self._fire)

    def stop(self) -> None:
        """The wait is over."""
        self._is_stopped = True
        if self._cancel is not None:
            self._cancel()
            self._cancel = None

    def _fire(self) -> None:
        self._cancel = None
        if not self._is_stopped and not self._request.waiter.is_done():
            self._store.scheduler.spawn(self._look(), "intent watch")

    async def _look(self) -> None:
        """Pushes again; a removed intent wakes the waiter through the lock table."""
        store = self._store
        still = store.state.intents.other_at(self._conflict.key, self._request.txn_id)
        if still is not None:
            self._conflict.intent = still
            try:
                moved = await store._push_aside(self._conflict)
            except MeridianError:
                moved = False  # The record's store cannot be asked now: ask again later.
            if moved and self._request.strength == NONE:
                store.state.locks.wake_all(self._conflict.key)
        if not self._is_stopped:
            self.start()
