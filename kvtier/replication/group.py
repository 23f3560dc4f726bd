"""One range's Raft group as this store has it: the machine, the replica it serves, what waits for it.

    proposals     index -> Proposal: evaluated here, in the log, not yet applied
    queue         committed entries to apply, in order
    closed        what this leaseholder has promised; what a follower was promised

A proposal is in the log at (index, term) from the moment it is made, and is never made twice.  So:

    the entry applied at its index has its term    it was applied
    any entry of a later term is applied           it never will be: everything of the earlier
                                                   term that was committed stands before it
    a snapshot, or the end of the replica,         nobody here knows: its answer is lost
    comes before either                            (reliability 7)

Lease = leadership, from the application of the leader's first own entry (reliability 39) until
the time a quorum of stores supports this one.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from base.errors import AnswerLost, NotLeaseholder
from base.seams import Waiter
from kvtier.administration import RangeChange
from kvtier.change import Change
from kvtier.latches import Latch, LatchSpan, LatchTable
from kvtier.raft.core import LEADER
from kvtier.raft.machine import Raft
from kvtier.raft.messages import Entry
from kvtier.raft.storage import EngineLog
from kvtier.replica import Replica
from kvtier.replication.idle import Bucket

Sample = tuple[bytes, bytes]
"""The span of all that a batch asked for."""


class Proposal:
    """A command on its way through the log."""

    __slots__ = ("_latch", "_latches", "change", "index", "ranges", "term", "tick", "waiter")

    def __init__(
        self, change: Change, ranges: RangeChange | None, latches: LatchTable, latch: Latch, waiter: Waiter, tick: int
    ) -> None:
        self.change = change
        self.ranges = ranges
        self._latches = latches
        self._latch = latch
        self.waiter = waiter
        self.index = 0
        self.term = 0
        self.tick = tick
        """When it was made."""

    def unlatch(self) -> None:
        """The command is over: others may touch what it touched."""
        self._latches.release(self._latch)


class Group:
    """See the module docstring.

    Invariant: proposals ascend by index and are all above ``applied_index``.
    """

    def __init__(self, range_id: int, replica_id: int, raft: Raft, log: EngineLog, applied_index: int) -> None:
        self.range_id = range_id
        self.replica_id = replica_id
        self.raft = raft
        self.log = log
        self.replica: Replica | None = None
        """None until a snapshot has brought the range."""
        self.proposals: dict[int, Proposal] = {}
        self.queue: deque[Entry] = deque()
        self.applied_index = applied_index
        self.leased_term = 0
        """The term whose first entry this store, leading, has applied: its lease."""
        self.lease_start = 0
        """HLC time at which that lease began."""
        self.closed_ts = 0
        """As leaseholder, while awake: nothing is evaluated at or below this any more."""
        self.bucket: Bucket | None = None
        """As leaseholder, asleep: closed with others (``kvtier.replication.idle``)."""
        self.leads = False
        """Closed timestamps may lead the clock (``RangeDescriptor.leads``)."""
        self.is_ending_lead = False
        """As leaseholder: they shall do so no more."""
        self.marked_ts = 0
        """As leaseholder: the latest timestamp ahead of the clock up to which something was read, or must not be written."""
        self.promised: deque[tuple[int, int]] = deque()
        """As follower: (index, closed timestamp), good once the index is applied."""
        self.closed_here = 0
        """Reads at or below this are served here whoever leads; ``Closing.closed_here`` knows more."""
        self.heard_tick = 0
        """The tick at which its leader was heard of last."""
        self.batches = 0
        """As leaseholder: batches evaluated since load was last taken."""
        self.load = 0.0
        """Batches a second, the latest counting most."""
        self.samples: list[Sample] = []
        """As leaseholder: what was asked for lately (``kvtier.replication.reshaping``)."""
        self._next_sample = 0
        self.nodes: dict[int, int] = {}
        """Replica id -> node."""

    def place(self, replica: Replica) -> None:
        """The group's range is this replica's, with these members."""
        self.replica = replica
        self.leads = replica.descriptor.leads
        replica.set_logged()
        self.nodes = {place.replica_id: place.node_id for place in replica.descriptor.replicas}

    def followers(self) -> list[int]:
        """Returns the nodes of the other replicas; not of who was removed and still talks."""
        if self.replica is None:
            return []
        return [place.node_id for place in self.replica.descriptor.replicas if place.replica_id != self.replica_id]

    def leader_node(self) -> int | None:
        """Returns the node that is believed to lead; None if nobody is."""
        return self.nodes.get(self.raft.lead)

    # --- the lease ----------------------------------------------------------------------

    def is_leading(self) -> bool:
        """True if this store leads and has applied an entry of its own term."""
        return self.leased_term == self.raft.term and self.raft.role == LEADER

    def lease_end(self) -> int:
        """Returns the HLC time until which a quorum of stores supports this leader."""
        return self.raft.lease_until()

    def sample(self, spans: list[LatchSpan]) -> None:
        """Remembers what a batch asked for, in the place of the oldest that is remembered."""
        if not spans:
            return
        found = (min([span.start for span in spans]), max([span.end for span in spans]))
        if len(self.samples) < SAMPLES_MAX:
            self.samples.append(found)
        else:
            self.samples[self._next_sample] = found
        self._next_sample = (self._next_sample + 1) % SAMPLES_MAX

    # --- proposals -------------------------------------------------------------------------

    def lose_proposals(self, before_term: int) -> None:
        """Fails what was proposed in earlier terms: it is certain now that it will not be applied."""
        for index in [index for index, proposal in self.proposals.items() if proposal.term < before_term]:
            proposal = self.proposals.pop(index)
            proposal.unlatch()
            proposal.waiter.fail(NotLeaseholder(self.range_id, self.leader_node()))

    def doubt_proposals(self, node_id: int, why: str) -> None:
        """Gives up on all that is under way: others may have applied it, here it will not be seen (reliability 7)."""
        doubted, self.proposals = self.proposals, {}
        for proposal in doubted.values():
            proposal.unlatch()
            proposal.waiter.fail(AnswerLost(node_id, why))

    def answer_late(self, node_id: int, before_tick: int) -> None:
        """Answers who waits for commands made before: they wait for a quorum, and may yet be applied.

        Their latches stay.  What waits behind them was not evaluated, and may go elsewhere.
        """
        is_stuck = False
        for proposal in self.proposals.values():
            if proposal.tick >= before_tick:
                break
            is_stuck = True
            proposal.waiter.fail(AnswerLost(node_id, "its command waits for a quorum"))
        if is_stuck and self.replica is not None:
            for latch in self.replica.latches.latches:
                if latch.blockers and latch.waiter is not None:
                    latch.waiter.fail(NotLeaseholder(self.range_id, self.leader_node()))

    # --- closed timestamps -------------------------------------------------------------------

    def closed(self) -> int:
        """As leaseholder: nothing is evaluated at or below this any more."""
        bucket = self.bucket
        return self.closed_ts if bucket is None else max(self.closed_ts, bucket.closed_ts)

    def promise(self, index: int, ts: int) -> None:
        """A leaseholder's promise arrives; it counts once its index is applied (reliability 42)."""
        promised = self.promised
        if promised and promised[-1][1] >= ts:
            return
        while promised and promised[-1][0] >= index:
            # Implied by this one; a former leader's may be at an index that the log does not reach for long.
            promised.pop()
        promised.append((index, ts))
        self.keep_promises()

    def keep_promises(self) -> None:
        """Takes up the promises whose entries have been applied."""
        promised = self.promised
        while promised and promised[0][0] <= self.applied_index:
            self.closed_here = max(self.closed_here, promised.popleft()[1])
        while len(promised) > PROMISES_MAX:
            promised.pop()

    def check(self) -> None:
        """Asserts the invariants; for tests."""
        indexes = list(self.proposals)
        assert indexes == sorted(indexes), indexes
        assert not indexes or indexes[0] > self.applied_index, (indexes, self.applied_index)


SAMPLES_MAX: Final = 64
"""Batches that are remembered of a range, to find where to split it."""
PROMISES_MAX: Final = 64
"""Closed timestamps a lagging follower keeps; it takes the oldest first."""
