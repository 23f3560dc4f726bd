"""Serving a batch on a replica of a range with several.

    leaseholder   latch -> evaluate -> propose -> (log) -> applied -> unlatch, reply
    follower      reads whose uncertainty ends at or below its closed timestamp; everything else: NotLeaseholder

The evaluators are those of a range with one replica; only what comes after differs.  From
evaluation until the command is applied its spans stay latched, so that nothing is evaluated
on a state about to change (reliability 31).  The latch belongs to the proposal, not to the
request: a client that leaves, or a deadline, takes nothing away from it.

Locks and the timestamp cache are the leaseholder's and change at evaluation.  A batch whose
proposal is lost (another leader's entry took its place) had no effect but on these, and may be
sent again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from base.eager import Done, Eager, Suspended, run_eagerly
from base.errors import NotLeaseholder, Overloaded, SqlError, TxnRetry
from kvtier import administration
from kvtier.administration import RangeChange
from kvtier.change import Change, Conflict
from kvtier.committing import OnePhase
from kvtier.descriptors import KEY_MAX
from kvtier.dispatch import END, KINDS, OTHER, READ, WRITE, General, is_one_phase
from kvtier.latches import LatchSpan
from kvtier.messages import (
    Batch,
    ChangeReplicas,
    Checksum,
    ClosePolicy,
    CollectGarbage,
    EndTxn,
    Get,
    Members,
    Merge,
    PutRun,
    QueryIntent,
    Refresh,
    Reply,
    Routing,
    Scan,
    Split,
    TransferLease,
    TxnStatus,
    Unsplit,
    is_followed,
    prefix_end,
)
from kvtier.raft.messages import ConfChange
from kvtier.reading import read_batch
from kvtier.replica import Replica
from kvtier.replication.closing import LEAD_SECONDS_MAX
from kvtier.replication.draining import hand_over
from kvtier.replication.holders import LockHolders, LockWatch
from kvtier.replication.liveness import ticks_of
from kvtier.replication.members import changed, conf_change, transfer_lease
from kvtier.replication.merging import merge_right
from kvtier.replication.stores import clock_reading
from kvtier.router import spans_of
from kvtier.transactions import named_outcome, put_outcome

if TYPE_CHECKING:
    from kvtier.replication.group import Group
    from kvtier.replication.groups import Replication
    from kvtier.store import Store

SAMPLE_EVERY: Final = 8
"""Of so many batches one is remembered, to find where a busy range is to be split."""
ADMINISTRATION: Final = (Split, Unsplit, Merge, ChangeReplicas, TransferLease, ClosePolicy, CollectGarbage, Checksum)


class Evaluated:
    """What a batch will answer, and what must happen first (None: nothing)."""

    __slots__ = ("change", "members", "ranges", "reply")

    def __init__(
        self,
        reply: Reply,
        change: Change | None = None,
        ranges: RangeChange | None = None,
        members: ConfChange | None = None,
    ) -> None:
        self.reply = reply
        self.change = change
        self.ranges = ranges
        self.members = members


class Serving:
    """See the module docstring."""

    def __init__(self, store: Store, replication: Replication) -> None:
        self._store = store
        self._replication = replication
        self._holders = LockHolders(store)

    def send(self, replica: Replica, batch: Batch) -> Eager[Reply]:
        """Answers a batch whose address has been checked."""
        coroutine = self._serve(replica, batch)
        outcome = run_eagerly(coroutine)
        if outcome.__class__ is Done:
            reply: Reply = outcome.value
            return reply
        return Suspended(coroutine, outcome)

    async def _serve(self, replica: Replica, batch: Batch) -> Reply:
        store = self._store
        state = store.state
        while True:
            group = self._replication.group_of(replica)
            spans = latch_spans(batch, replica)
            if not contains(replica, spans):
                raise state.mismatch(replica)
            if not self._replication.holds_lease(group):
                return self._follow(group, replica, batch)
            if isinstance(batch.ops[0], Merge):
                return await self._merge(group, replica, batch)
            latch = replica.latches.acquire(spans)
            try:
                if latch.waiter is not None:
                    await latch.waiter.wait()
                    store.state.check_address(batch.range_id, batch.generation)
                    if not self._replication.holds_lease(group):
                        raise NotLeaseholder(replica.range_id, group.leader_node())
                if replica.merging:
                    raise Overloaded(f"range {replica.range_id} is being merged")
                group.batches += 1
                if group.batches % SAMPLE_EVERY == 0:
                    group.sample(spans)
                try:
                    done = self._evaluate(group, replica, batch)
                    self._keep_marks(group, replica, batch, done)
                finally:
                    # Whatever came of it: it may have locked some of its keys before it met a conflict.
                    self._note_holder(batch)
            except Conflict as conflict:
                replica.latches.release(latch)
                if batch.txn is None and not batch.ts and not conflict.strength:
                    batch = msgspec.structs.replace(batch, ts=conflict.read_ts)
                await self._wait(batch, conflict)
                replica = store.state.check_address(batch.range_id, batch.generation)
                continue
            except BaseException:
                replica.latches.release(latch)
                raise
            if done.members is not None:
                await self._replication.proposals.propose_members(group, done.members, latch)
                return done.reply
            if done.change is None:
                replica.latches.release(latch)
                return done.reply
            await self._replication.proposals.propose(group, done.change, done.ranges, latch)
            store.cleanup.note_write()
            return done.reply

    async def _merge(self, group: Group, replica: Replica, batch: Batch) -> Reply:
        """A merge is not evaluated in one go: both ranges are latched, and the right one's log ends first."""
        latch = replica.latches.acquire(latch_spans(batch, replica))
        try:
            if latch.waiter is not None:
                await latch.waiter.wait()
                self._store.state.check_address(batch.range_id, batch.generation)
        except BaseException:
            replica.latches.release(latch)
            raise
        joined = await merge_right(self._replication, group, replica, latch)
        return Reply([joined], self._store.now())

    async def _wait(self, batch: Batch, conflict: Conflict) -> None:
        watch = LockWatch(self._store, self._holders, conflict, batch.txn)
        watch.start()
        try:
            await self._store.wait_out(batch.txn, conflict, batch.deadline_ns)
        finally:
            watch.stop()
            # It may have been given the lock, and never come to be evaluated again.
            self._note_holder(batch)

    def _note_holder(self, batch: Batch) -> None:
        if batch.txn is not None:
            self._holders.note(batch.txn)

    # --- evaluation -----------------------------------------------------------------

    def _evaluate(self, group: Group, replica: Replica, batch: Batch) -> Evaluated:
        """Evaluates on the leaseholder, with the latch held."""
        store = self._store
        state = store.state
        if store.failure is not None:
            raise store.failure
        kinds = 0
        for op in batch.ops:
            kinds |= KINDS[op.__class__]
        ts = read_timestamp(batch)
        if ts > group.lease_end():
            # Nothing is served above the lease (reliability 2): a timestamp so far ahead waits for its extension.
            raise NotLeaseholder(replica.range_id, group.leader_node())
        if kinds == READ:
            reply = read_batch(state, batch)
            if reply.ts > group.lease_end():
                # The process was stopped since the lease was looked at (reliability 36).
                raise NotLeaseholder(replica.range_id, group.leader_node())
            return Evaluated(reply)
        batch = self._above_closed(group, batch, kinds)
        last = batch.ops[-1]
        if not kinds & OTHER:
            if batch.txn is None:
                return self._commit(batch, None)
            if kinds & END and isinstance(last, EndTxn) and is_one_phase(state, batch.txn, last):
                return self._commit(batch, last)
        if len(batch.ops) == 1 and isinstance(last, ADMINISTRATION):
            return self._administer(group, replica, last)
        general = General(state, batch)
        reply = general.evaluate()
        change = general.change
        if not change.batch.ops:
            for txn_id in change.release:
                state.locks.release_txn(txn_id)
            return Evaluated(reply)
        return Evaluated(reply, change)

    def _above_closed(self, group: Group, batch: Batch, kinds: int) -> Batch:
        """Moves what a transaction writes above what was closed: a follower may have read there (reliability 43).

        What writes nothing here stays where it is, and so does a commit whose record is STAGING: its intents were
        in the log before what is closed now, where followers meet them.  To move it would commit reads that
        nobody has checked up to there, and values that others have already seen lower.
        """
        closed = group.closed()
        txn = batch.txn
        if txn is None:
            if batch.ts > closed or (not batch.ts and (not kinds & WRITE or closed <= self._store.hlc.latest)):
                return batch
            return msgspec.structs.replace(batch, ts=closed + 1)
        if txn.write_ts > closed:
            return batch
        end = batch.ops[-1]
        if not kinds & WRITE and not isinstance(end, PutRun):
            return batch
        if isinstance(end, EndTxn):
            record = self._store.state.records.get(txn.id)
            if record is not None and record.status == TxnStatus.STAGING and record.epoch == txn.epoch:
                return batch
            if not end.can_forward and closed >= txn.read_ts:
                reason = "cannot_forward" if closed <= self._store.hlc.latest else "closed_ahead"
                raise TxnRetry("the transaction cannot move its read timestamp", reason=reason)
        return msgspec.structs.replace(batch, txn=msgspec.structs.replace(txn, write_ts=closed + 1))

    def _keep_marks(self, group: Group, replica: Replica, batch: Batch, done: Evaluated) -> None:
        """Sees to it that what was just read or written ahead of the clock is respected by the next leaseholder, too.

        No clock follows such timestamps, so the log does not bring them (``kvtier.replication.closing``).
        """
        reach = reach_of(batch, done)
        if reach <= self._store.hlc.latest:
            return
        now = clock_reading(self._store)
        if reach <= now:
            return
        if not group.leads and group.raft.transferee:
            raise NotLeaseholder(replica.range_id, group.leader_node())
        if reach > min(group.lease_end(), now + ticks_of(LEAD_SECONDS_MAX)):
            # In a while it is not so far ahead any more.
            raise NotLeaseholder(replica.range_id, group.leader_node())
        group.marked_ts = max(group.marked_ts, reach)
        if done.change is not None and done.change.commit_ts > now:
            done.change.commit_ts = 0

    def _commit(self, batch: Batch, end: EndTxn | None) -> Evaluated:
        state = self._store.state
        txn = batch.txn
        if end is not None and end.commit_key:
            assert txn is not None, batch
            done = named_outcome(state, end.commit_key, txn.id)
            if done:
                state.locks.release_txn(txn.id)
                return Evaluated(Reply([None] * len(batch.ops), txn.read_ts, done))
        results, change = OnePhase(state, batch, end).evaluate()
        if end is not None and end.commit_key:
            put_outcome(change, end.commit_key, change.commit_ts)
        read_ts = change.commit_ts if txn is None else txn.read_ts
        reply = Reply(results, read_ts, change.commit_ts)
        if change.batch.ops:
            return Evaluated(reply, change)
        for txn_id in change.release:
            state.locks.release_txn(txn_id)
        return Evaluated(reply)

    def _administer(self, group: Group, replica: Replica, op: Any) -> Evaluated:
        now = self._store.now()
        ranges: RangeChange | None
        if isinstance(op, ChangeReplicas):
            if op.node_id == self._replication.node_id and op.members in (Members.REMOVE, Members.DEMOTE):
                hand_over(self._replication, group)
            after, replica_id = changed(replica.descriptor, op.node_id, op.members)
            return Evaluated(Reply([after], now), members=conf_change(after, replica_id, op.members))
        if isinstance(op, TransferLease):
            transfer_lease(self._replication, group, op.node_id)
            return Evaluated(Reply([None], now))
        if isinstance(op, ClosePolicy):
            ranges, result = self._change_policy(group, replica, op)
        elif isinstance(op, Split):
            ranges, result = administration.split(self._store.state, op, now, False, group.marked_ts)
        else:
            ranges, result = administration.evaluate(self._store.state, op, now, False)
        reply = Reply([result], now)
        if ranges is None or not ranges.change.batch.ops:
            return Evaluated(reply)
        return Evaluated(reply, ranges.change, ranges)

    def _change_policy(self, group: Group, replica: Replica, op: ClosePolicy) -> tuple[RangeChange | None, Any]:
        state = replica.state()
        group.is_ending_lead = not op.leads
        if op.leads == state.descriptor.leads:
            return None, state.descriptor
        until = max(group.closed_ts, group.marked_ts)
        if not op.leads and until >= clock_reading(self._store):
            raise SqlError(f"range {replica.range_id} is closed until {until:x}", sqlstate="55000")
        descriptor = msgspec.structs.replace(state.descriptor, leads=op.leads)
        change = administration.restated(replica, msgspec.structs.replace(state, descriptor=descriptor))
        return change, change.states[0][0].descriptor

    # --- followers ------------------------------------------------------------------------

    def _follow(self, group: Group, replica: Replica, batch: Batch) -> Reply:
        """Answers reads below the closed timestamp; an intent in the way is for the leaseholder.

        A value in the uncertainty of a read may have been told of before it began, so that has to be closed, too.
        """
        refused = NotLeaseholder(replica.range_id, group.leader_node())
        if batch.routing == Routing.LEASEHOLDER or not is_followed(batch):
            raise refused
        ts = read_timestamp(batch)
        horizon = horizon_of(batch)
        if not ts or (horizon > group.closed_here and horizon > self._replication.closing.closed_here(group)):
            raise refused
        try:
            return read_batch(self._store.state, batch)
        except Conflict:
            raise refused from None


def read_timestamp(batch: Batch) -> int:
    """Returns where a batch reads; 0: wherever its range's clock stands."""
    txn = batch.txn
    if txn is None:
        return batch.ts
    return txn.read_ts


def horizon_of(batch: Batch) -> int:
    """Returns the latest timestamp that the answer to a batch of reads depends on."""
    txn = batch.txn
    horizon = batch.ts if txn is None else max(txn.read_ts, txn.uncertainty_limit)
    for op in batch.ops:
        if isinstance(op, Refresh) and op.to_ts > horizon:
            horizon = op.to_ts
    return horizon


def reach_of(batch: Batch, done: Evaluated) -> int:
    """Returns the latest timestamp at which an evaluated batch wrote something, or keeps others from writing."""
    reach = done.reply.write_ts
    if done.change is not None and done.change.commit_ts > reach:
        reach = done.change.commit_ts
    for op in batch.ops:
        if isinstance(op, Refresh):
            if op.to_ts > reach and not op.is_held:
                reach = op.to_ts
        elif isinstance(op, QueryIntent) and op.txn.write_ts > reach:
            reach = op.txn.write_ts
    return reach


def contains(replica: Replica, spans: list[LatchSpan]) -> bool:
    """True if everything a batch touches is the range's: whoever sent it may have been told wrongly."""
    for span in spans:
        if not replica.start <= span.start < replica.end:
            return False
        if span.end > replica.end and span.end != prefix_end(span.start):
            return False
    return True


def latch_spans(batch: Batch, replica: Replica) -> list[LatchSpan]:
    """Returns what a batch touches; commands about the whole range exclude everybody."""
    spans: list[LatchSpan] = []
    for op in batch.ops:
        if isinstance(op, ADMINISTRATION):
            spans.append(LatchSpan(replica.start, replica.end, not isinstance(op, Checksum)))
        is_write = not (KINDS[op.__class__] == READ and not (isinstance(op, Get | Scan) and op.lock))
        for start, end in spans_of(op, batch.txn):
            spans.append(LatchSpan(start, end or KEY_MAX, is_write))
    return spans
