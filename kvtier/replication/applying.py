"""Applying committed entries, in log order, one engine batch each.

    entry                        the batch                                then
    b""                          applied index                            the leader's lease begins
    a command                    its operations, applied index            memory follows; its proposer is answered
    a change of the members      the range's state, applied index         the machine takes it up

The applied index is in the batch of what was applied (reliability 52).  An engine that takes no
writes for now leaves the entry at the head of the queue.  Where this store has proposed the
command it applies what it evaluated; everybody else what the bytes say, which is the same
(``kvtier.command``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from base.errors import Overloaded
from kvtier.administration import RangeChange
from kvtier.change import Change
from kvtier.command import change_of, decode_command, range_change_of
from kvtier.descriptors import RangeDescriptor, decode_descriptor
from kvtier.engine.batch import OpBatch
from kvtier.opening import put_range
from kvtier.raft.core import LEADER
from kvtier.raft.messages import CONF, ConfChange, Entry, decode_conf_change
from kvtier.replication.applied import put_applied
from kvtier.replication.closing import LEAD_SECONDS_MAX
from kvtier.replication.group import Group, Proposal
from kvtier.replication.liveness import ticks_of
from kvtier.replication.members import members_changed
from kvtier.replication.merging import joined, prepare
from kvtier.replication.splitting import open_right_half, put_right_half
from kvtier.replication.stores import clock_reading

if TYPE_CHECKING:
    from kvtier.replication.groups import Replication
    from kvtier.store import Store

STALL_RETRY_SECONDS: Final = 0.005
"""Pause before applying is tried again on an engine that takes no writes."""


class Applier:
    """See the module docstring."""

    def __init__(self, store: Store, replication: Replication) -> None:
        self._store = store
        self._replication = replication

    def run(self, group: Group) -> None:
        """Applies what is in the group's queue."""
        queue = group.queue
        while queue:
            try:
                self._apply(group, queue[0])
            except Overloaded:
                self._store.scheduler.call_later(STALL_RETRY_SECONDS, lambda: self._try_again(group))
                return
            queue.popleft()
        self._follow_role(group)

    def _try_again(self, group: Group) -> None:
        if self._replication.groups.get(group.range_id) is not group or not self._replication.is_running():
            return
        if self._replication.is_stalled:
            # The log first: a split must not write below what its right half has still to write.
            self._store.scheduler.call_later(STALL_RETRY_SECONDS, lambda: self._try_again(group))
        else:
            self.run(group)
            self._replication.activate(group)
            self._replication.pump_soon()

    def _apply(self, group: Group, entry: Entry) -> None:
        assert entry.index == group.applied_index + 1, (entry.index, group.applied_index)
        if entry.kind == CONF:
            self._apply_members(group, entry)
        else:
            self._apply_command(group, entry)
        group.lose_proposals(entry.term)
        group.keep_promises()

    def _note_applied(self, group: Group, entry: Entry) -> None:
        group.applied_index = entry.index
        group.raft.applied(entry.index)

    # --- commands -----------------------------------------------------------------------

    def _apply_command(self, group: Group, entry: Entry) -> None:
        store = self._store
        proposal: Proposal | None = group.proposals.get(entry.index)
        if proposal is not None and proposal.term != entry.term:
            proposal = None
        ranges: RangeChange | None = None
        if not entry.data:
            change = Change(OpBatch())
        elif proposal is not None:
            change, ranges = proposal.change, proposal.ranges
        else:
            command = decode_command(entry.data)
            if command.ranges is not None and command.ranges.subsumed is not None:
                prepare(self._replication, OpBatch(), command.ranges.subsumed, group.range_id, entry.index)
            change = change_of(command, store.state)
            ranges = range_change_of(command, change, store.state)
        written = len(change.batch.ops)
        right: Group | None = None
        if ranges is not None and ranges.subsumed is not None:
            right = prepare(self._replication, change.batch, ranges.subsumed, group.range_id, entry.index)
        if ranges is not None:
            for state, _, _ in ranges.states:
                if state.descriptor.range_id != group.range_id:
                    put_right_half(self._replication, change.batch, state)
        put_applied(change.batch, group.range_id, entry.index, entry.term)
        try:
            store.apply(change, ranges, True)
        except Overloaded:
            del change.batch.ops[written:]
            raise
        if ranges is not None:
            old = group.replica
            self._install(group, ranges)
            if right is not None and old is not None:
                is_leading = self._replication.holds_lease(group)
                joined(self._replication, group, right, is_leading)
                if is_leading:
                    self._replication.publisher.drop(old.descriptor)
        self._note_applied(group, entry)
        if change.is_check:
            self._replication.consistency.begin(group, entry.index)
        if proposal is not None:
            del group.proposals[entry.index]
            proposal.unlatch()
            proposal.waiter.wake()
        if not entry.data:
            self._maybe_begin_lease(group, entry.term)

    def _install(self, group: Group, ranges: RangeChange) -> None:
        """Brings the map of ranges up to date, and the groups with it."""
        store = self._store
        ranges.install(store.state)
        replica = store.ranges.get(group.range_id)
        assert replica is not None, group.range_id
        self._replication.place(group, replica)
        is_leading = self._replication.holds_lease(group)
        for state, _, _ in ranges.states:
            if state.descriptor.range_id != group.range_id:
                open_right_half(self._replication, state.descriptor.range_id, is_leading)
            if is_leading:
                self._replication.publisher.enter(state.descriptor)
        # Now that each knows its log: the last replica of several is not alone, and the store not the whole cluster.
        store.note_ranges()

    # --- members ------------------------------------------------------------------------

    def _apply_members(self, group: Group, entry: Entry) -> None:
        """A change of the members, if it was made from the descriptor that is still the range's."""
        store = self._store
        replica = group.replica
        assert replica is not None, group.range_id
        change = decode_conf_change(entry.data)
        batch = OpBatch()
        descriptor: RangeDescriptor | None = None
        if change.context:
            descriptor = decode_descriptor(change.context)
            if descriptor.generation != replica.generation + 1:
                descriptor = None
                change = ConfChange()
        if descriptor is not None:
            put_range(batch, msgspec.structs.replace(replica.state(), descriptor=descriptor))
        put_applied(batch, group.range_id, entry.index, entry.term)
        store.apply(_logged(batch), None, True)
        if descriptor is not None:
            replica.set_descriptor(descriptor)
            store.note_ranges()
            self._replication.place(group, replica)
        self._note_applied(group, entry)
        group.raft.apply_conf_change(change)
        proposal = group.proposals.get(entry.index)
        if proposal is not None and proposal.term == entry.term:
            del group.proposals[entry.index]
            proposal.unlatch()
            proposal.waiter.wake()
        members_changed(self._replication, group, self._replication.holds_lease(group))

    # --- the lease -----------------------------------------------------------------------

    def _maybe_begin_lease(self, group: Group, term: int) -> None:
        """The first entry of a term is applied: if it is ours, the lease begins now (reliability 39).

        Nothing may be written below what earlier leaseholders have served.  They served up to the end of
        their leases; this store's clock is past that, because it was told so with the votes.
        """
        raft = group.raft
        if raft.role != LEADER or raft.term != term:
            return
        store = self._store
        replica = group.replica
        assert replica is not None, group.range_id
        group.leased_term = term
        start = group.lease_start = clock_reading(store)
        floor = max(start, replica.lease_start)
        if group.leads:
            # It may have promised, and been marked, ahead of its clock (``kvtier.replication.closing``).
            floor = max(floor, start + ticks_of(LEAD_SECONDS_MAX))
        store.state.tscache.add_span(replica.start, replica.end, floor, b"")
        group.marked_ts = max(group.marked_ts, floor)
        group.is_ending_lead = False
        group.closed_ts = max(group.closed_ts, self._replication.closing.closed_here(group))
        self._replication.led[group.range_id] = group
        self._replication.closing.begin(group)
        store.cleanup.resume()
        self._replication.publisher.enter(replica.descriptor)

    def _follow_role(self, group: Group) -> None:
        """A leader that is none any more: its locks are gone, who waits for them must ask elsewhere."""
        if group.leased_term and not group.is_leading():
            group.leased_term = 0
            group.load, group.batches = 0.0, 0
            del self._replication.led[group.range_id]
            replica = group.replica
            if replica is not None:
                self._store.state.locks.drop_span(replica.start, replica.end)


def _logged(batch: OpBatch) -> Change:
    return Change(batch)
