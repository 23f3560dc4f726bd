"""From an evaluated command to the log, and the wait until it is applied.

A proposal keeps its latch from evaluation until it is over, however its proposer fares.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from base.eager import Eager
from base.errors import NotLeaseholder, Overloaded, ProposalDropped, SqlError
from kvtier.administration import RangeChange
from kvtier.change import Change
from kvtier.command import encode_command
from kvtier.engine.batch import OpBatch
from kvtier.latches import Latch, LatchSpan
from kvtier.raft.messages import ConfChange
from kvtier.replica import Replica
from kvtier.replication.group import Group, Proposal

if TYPE_CHECKING:
    from kvtier.replication.groups import Replication


class Proposals:
    """See the module docstring."""

    def __init__(self, replication: Replication) -> None:
        self._replication = replication
        self._store = replication.store

    async def propose_members(self, group: Group, change: ConfChange, latch: Latch) -> None:
        """Puts a change of the members into the log and waits until it is applied."""
        await self._propose(group, Change(OpBatch()), None, latch, lambda: group.raft.propose_conf_change(change))

    async def propose(self, group: Group, change: Change, ranges: RangeChange | None, latch: Latch) -> None:
        """Puts a command into the log and waits until it is applied.

        The latch is the proposal's from here on.  Raises NotLeaseholder if the command certainly
        was not, and will not be, applied.
        """
        await self._propose(group, change, ranges, latch, lambda: group.raft.propose(encode_command(change, ranges)))

    async def _propose(
        self, group: Group, change: Change, ranges: RangeChange | None, latch: Latch, append: Callable[[], int]
    ) -> None:
        replica = group.replica
        assert replica is not None, group.range_id
        proposal = Proposal(
            change, ranges, replica.latches, latch, self._store.scheduler.waiter(), self._replication.ticks
        )
        try:
            index = append()
        except ProposalDropped as dropped:
            proposal.unlatch()
            if dropped.reason == "too large":
                raise SqlError("the command is too large for the log of its range", sqlstate="54000") from dropped
            if dropped.reason == "uncommitted tail full":
                raise Overloaded(f"too much of range {group.range_id} waits for a quorum") from dropped
            raise NotLeaseholder(group.range_id, group.leader_node()) from dropped
        proposal.index = index
        proposal.term = group.raft.term
        group.proposals[index] = proposal
        self._replication.proposing[group.range_id] = group
        self._replication.activate(group)
        self._replication.pump_soon()
        await proposal.waiter.wait()

    def submit(self, replica: Replica, change: Change) -> Eager[None]:
        """Puts a change of the store's own into a range's log, if the lease is here."""
        group = self._replication.group_of(replica)
        if not self._replication.holds_lease(group):
            raise NotLeaseholder(replica.range_id, group.leader_node())
        if replica.merging:
            raise NotLeaseholder(replica.range_id)
        return self._submit(group, replica, change)

    async def _submit(self, group: Group, replica: Replica, change: Change) -> None:
        # Statistics are of the range as it was counted: no split may come between.
        spans = [LatchSpan(replica.start, replica.end, True)] if change.deltas else []
        latch = replica.latches.acquire(spans)
        try:
            if latch.waiter is not None:
                await latch.waiter.wait()
                if self._store.ranges.get(replica.range_id) is not replica or not self._replication.holds_lease(group):
                    raise NotLeaseholder(replica.range_id, group.leader_node())
        except BaseException:
            replica.latches.release(latch)
            raise
        # All that was evaluated is applied now, also what came while this waited.
        change.counted = [counted for counted in change.counted if counted.guesses == change.counted_from]
        await self.propose(group, change, None, latch)
