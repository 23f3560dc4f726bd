"""Bugs that a Raft may have, to be put into the machine one at a time; the random schedules must find each.

Each is a list of (module or class, name, wrong version).  They replace functions at run
time, so they work on the pure build only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kvtier.raft import (
    election,
    following,
    leading,
    leases,
    membership,
    proposals,
    quorum,
    reading,
    replication,
    transfer,
)
from kvtier.raft.core import LEADER, PRECANDIDATE, Core, become_follower
from kvtier.raft.log import RaftLog
from kvtier.raft.machine import Raft
from kvtier.raft.messages import Append, AppendReply, Defortify, HardState, TimeoutNow, Vote, VoteReply

Patch = tuple[Any, str, Any]


def vote_not_persisted() -> list[Patch]:
    """Reliability 49; hashicorp/raft 661."""

    def hard_state(self: Core) -> HardState:
        return HardState(self.term, 0, self.log.commit, self.promise_lead, self.promise_epoch)

    return [(Core, "hard_state", hard_state)]


def vote_told_before_its_sync() -> list[Patch]:
    """Reliability 49."""
    honest = election.take_vote

    def take_vote(core: Core, ask: Vote) -> None:
        honest(core, ask)
        core.messages += core.after_sync
        core.after_sync = []

    return [(election, "take_vote", take_vote)]


def append_acknowledged_before_its_sync() -> list[Patch]:
    """Reliability 49, 50."""

    def acknowledge(core: Core, to: int, index: int) -> None:
        core.messages.append(AppendReply(core.id, to, core.term, index, core.log.commit))

    return [(following, "acknowledge", acknowledge)]


def own_entry_counts_at_once() -> list[Patch]:
    """Reliability 50."""
    honest = proposals.add_entry

    def add_entry(core: Core, data: bytes, kind: int) -> int:
        index = honest(core, data, kind)
        if core.id in core.progress:
            core.progress[core.id].match = core.matches[core.id] = index
            replication.maybe_commit(core)
        return index

    return [(proposals, "add_entry", add_entry)]


def own_vote_counts_at_once() -> list[Patch]:
    """A candidate that asks and counts before its vote for itself is durable."""
    honest = election.campaign

    def campaign(core: Core, is_transfer: bool) -> None:
        honest(core, is_transfer)
        core.messages += core.after_sync
        core.after_sync = []
        election.own_vote_durable(core, core.term)

    return [(election, "campaign", campaign)]


def older_terms_committed_by_counting() -> list[Patch]:
    """Raft paper, figure 8."""

    def maybe_commit(core: Core) -> bool:
        index = min(quorum.joint_reached(core.conf.voters, core.conf.outgoing, core.matches), core.log.last_index())
        if not core.log.commit_to(index):
            return False
        core.uncommitted.free_to(index)
        core.needs_flush = True
        return True

    return [(replication, "maybe_commit", maybe_commit)]


def prevote_taken_for_a_vote() -> list[Patch]:
    """A precandidate that leads as soon as it has prevotes."""
    honest = election._count

    def count(core: Core, id: int, granted: bool) -> None:
        if core.role == PRECANDIDATE:
            core.votes[id] = granted
            if quorum.joint_vote(core.conf.voters, core.conf.outgoing, core.votes) == quorum.WON:
                leading.become_leader(core)
            return
        honest(core, id, granted)

    return [(election, "_count", count)]


def joint_commit_by_one_half() -> list[Patch]:
    return [(quorum, "joint_reached", lambda voters, outgoing, values: quorum.reached(voters, values))]


def joint_vote_by_one_half() -> list[Patch]:
    return [(quorum, "joint_vote", lambda voters, outgoing, votes: quorum.vote(voters, votes))]


def half_is_a_majority() -> list[Patch]:
    """An even number of voters decides with half of them."""

    def reached(voters: list[int], values: dict[int, int]) -> int:
        got = sorted(values.get(voter, 0) for voter in voters)
        return got[len(got) - max(1, (len(got) + 1) // 2)] if got else quorum.UNLIMITED

    return [(quorum, "reached", reached)]


def learners_count() -> list[Patch]:
    """A learner's copy counts as a voter's does."""

    def maybe_commit(core: Core) -> bool:
        members = core.conf.members()
        index = quorum.joint_reached(members, [], core.matches)
        if index <= core.log.commit or core.log.term(index) != core.term:
            return False
        core.log.commit_to(index)
        core.uncommitted.free_to(index)
        core.needs_flush = True
        return True

    return [(replication, "maybe_commit", maybe_commit)]


def late_acknowledgement_counts() -> list[Patch]:
    """The ABA race: an acknowledgement counts for whatever stands at its index now."""

    def acknowledge(self: RaftLog, accepted_term: int, index: int, snapshot_index: int) -> bool:
        if self.snapshot is not None and snapshot_index == self.snapshot.index and self.is_snapshot_handed:
            self.snapshot = None
            self.applied_to(snapshot_index)
        index = min(index, self.handed)
        if index <= self.stable:
            return False
        self.stable = index
        return True

    return [(RaftLog, "acknowledge", acknowledge)]


def any_log_gets_the_vote() -> list[Patch]:
    """Raft paper 5.4.1."""
    return [(RaftLog, "is_up_to_date", lambda self, last_index, last_term: True)]


def longer_log_gets_the_vote() -> list[Patch]:
    """Compares lengths before terms."""
    return [(RaftLog, "is_up_to_date", lambda self, last_index, last_term: last_index >= self.last_index())]


def what_agrees_is_cut() -> list[Patch]:
    """An old append cuts off what a newer one brought."""
    honest = RaftLog.accept

    def accept(self: RaftLog, term: int, prev_index: int, prev_term: int, entries: Any) -> int:
        agreed = honest(self, term, prev_index, prev_term, entries)
        if agreed >= 0:
            self._cut_from(max(agreed, self.commit) + 1)
        return agreed

    return [(RaftLog, "accept", accept)]


def whole_log_acknowledged() -> list[Patch]:
    """A follower claims what it holds, not what agrees."""
    honest = following.take_append

    def take_append(core: Core, append: Append) -> None:
        honest(core, append)
        for reply in core.after_sync:
            if isinstance(reply, AppendReply):
                reply.index = core.log.last_index()

    return [(following, "take_append", take_append)]


def commit_beyond_what_agrees() -> list[Patch]:
    """A follower believes the leader's commit index for a tail that the leader has not confirmed."""

    def take_append(core: Core, append: Append) -> None:
        log = core.log
        if append.prev_index < log.commit:
            following.acknowledge(core, append.sender, log.commit)
            return
        agreed = log.accept(append.term, append.prev_index, append.prev_term, append.entries)
        if agreed < 0:
            honest(core, append)
            return
        log.commit_to(min(append.commit, log.last_index()))
        following.acknowledge(core, append.sender, agreed)

    honest = following.take_append
    return [(following, "take_append", take_append)]


def two_changes_in_flight() -> list[Patch]:
    """Reliability 60: voters change again before the first change is applied."""
    honest = membership.propose_change

    def propose_change(core: Core, change: Any) -> int:
        core.pending_conf_index = 0
        return honest(core, change)

    return [(membership, "propose_change", propose_change)]


def candidate_with_unapplied_change() -> list[Patch]:
    return [
        (election, "has_unapplied_change", lambda core: False),
        (membership, "propose_change", two_changes_in_flight()[0][2]),
    ]


def voters_changed_at_once() -> list[Patch]:
    """Several voters change without a joint configuration."""
    from kvtier.raft import confchange

    honest = confchange.changed

    def changed(conf: Any, change: Any) -> Any:
        after, reason = honest(conf, change)
        if after is not None and after.is_joint() and not conf.is_joint():
            after, reason = confchange.leave_joint(after)
        return after, reason

    return [(membership, "changed", changed)]


def reads_without_a_round() -> list[Patch]:
    """Thesis 6.4: a leader that was deposed does not know it."""

    def begin(core: Core, sender: int, context: bytes) -> None:
        if core.log.term(core.log.commit) != core.term:
            core.early_reads.append((sender, context))
            return
        reading._answer(core, sender, core.log.commit, context)

    return [(reading, "_begin", begin)]


def reads_before_the_first_commit() -> list[Patch]:
    """Reliability 39: a new leader does not know yet what is committed."""
    honest = reading._begin

    def begin(core: Core, sender: int, context: bytes) -> None:
        if core.log.term(core.log.commit) == core.term:
            honest(core, sender, context)
            return
        core.read_number += 1
        core.reads.append(reading.PendingRead(core.read_number, core.log.commit, context, sender))
        core.read_acks[core.id] = core.read_number
        core.needs_heartbeat = True

    return [(reading, "_begin", begin)]


def promises_do_not_hold() -> list[Patch]:
    """Reliability 38: a follower that supports the leader's store votes for another."""
    return [(leases, "is_promised", lambda core: False)]


def promise_not_persisted() -> list[Patch]:
    """Reliability 38: across its restart."""

    def hard_state(self: Core) -> HardState:
        return HardState(self.term, self.vote, self.log.commit)

    return [
        (Core, "hard_state", hard_state),
        (Raft, "_is_saved", lambda self: (self._saved.term, self._saved.vote) == (self.term, self.vote)),
    ]


def lease_end_goes_back() -> list[Patch]:
    """Reliability 35."""

    def lease_until(core: Core) -> int:
        if core.role != LEADER or core.log.term(core.log.applied) != core.term:
            return 0
        core.lease_max = leases.support_until(core)
        return core.lease_max

    return [(leases, "lease_until", lease_until)]


def followers_freed_under_the_lease() -> list[Patch]:
    """One who led frees its followers while its lease still runs."""

    def tick_defortify(core: Core) -> None:
        if core.defortify_term:
            core.messages += [Defortify(core.id, id, core.defortify_term) for id in core.peers]

    return [(leases, "tick_defortify", tick_defortify)]


def lease_kept_after_handing_over() -> list[Patch]:
    def maybe_hand_over(core: Core) -> None:
        to = core.transferee
        if to and core.matches.get(to, 0) == core.log.last_index():
            core.messages.append(TimeoutNow(core.id, to, core.term))

    return [(transfer, "maybe_hand_over", maybe_hand_over)]


def any_candidate_voids_a_promise() -> list[Patch]:
    """Reliability 38: whether or not its log shows that another has led since."""
    return [(leases, "is_superseded", lambda core, ask: core.promise_lead != core.id)]


def promise_to_a_removed_leader_stays() -> list[Patch]:
    return [(leases, "is_superseded", lambda core, ask: False)]


def promises_asked_for_before_inherited_changes() -> list[Patch]:
    """Reliability 59: a leader has a lease although its log may remove it."""
    honest = leases.fortify

    def fortify(core: Core) -> None:
        core.inherited_change = 0
        honest(core)

    return [(leases, "fortify", fortify)]


def refusal_taken_for_agreement() -> list[Patch]:
    def take_refusal(core: Core, progress: Any, reply: AppendReply) -> None:
        replication._take_acknowledgement(core, progress, min(reply.hint_index, core.log.last_index()))

    return [(replication, "_take_refusal", take_refusal)]


def votes_of_an_old_campaign_count() -> list[Patch]:
    """Answers are counted whatever term they are of."""
    honest = Raft._meet_earlier_term

    def meet(self: Raft, message: Any) -> None:
        if isinstance(message, VoteReply) and not message.pre:
            election.take_vote_reply(self, message)
            return
        honest(self, message)

    return [(Raft, "_meet_earlier_term", meet)]


def appends_taken_at_any_place() -> list[Patch]:
    """The follower does not check what stands before."""

    def has(self: RaftLog, index: int, term: int) -> bool:
        return index <= self.last_index()

    return [(RaftLog, "has", has)]


def deposed_leader_goes_on() -> list[Patch]:
    """A leader that hears of a later term only takes over its number."""

    def become(core: Core, term: int, lead: int) -> None:
        if core.role == LEADER and term > core.term and lead == 0:
            core.term = term
            return
        become_follower(core, term, lead)

    from kvtier.raft import machine

    return [(machine, "become_follower", become)]


MUTANTS = [
    vote_not_persisted, vote_told_before_its_sync, append_acknowledged_before_its_sync, own_entry_counts_at_once,
    own_vote_counts_at_once, prevote_taken_for_a_vote, joint_commit_by_one_half, half_is_a_majority, learners_count,
    any_log_gets_the_vote, longer_log_gets_the_vote, what_agrees_is_cut, voters_changed_at_once,
    reads_before_the_first_commit, promises_do_not_hold,
    any_candidate_voids_a_promise, followers_freed_under_the_lease, refusal_taken_for_agreement, appends_taken_at_any_place, deposed_leader_goes_on,
]  # fmt: skip
"""Found by random schedules within a few worlds."""

RARE = [
    older_terms_committed_by_counting, joint_vote_by_one_half,
    two_changes_in_flight, candidate_with_unapplied_change, reads_without_a_round, lease_kept_after_handing_over,
    votes_of_an_old_campaign_count, late_acknowledgement_counts, promise_not_persisted,
    lease_end_goes_back, promise_to_a_removed_leader_stays, promises_asked_for_before_inherited_changes,
]  # fmt: skip
"""Need a story told to its end: tests/scripts/raft tells them."""

BY_HAND = [whole_log_acknowledged, commit_beyond_what_agrees]
"""Need a message that a leader of ours hardly ever sends."""


@contextmanager
def mutated(patches: list[Patch]) -> Iterator[None]:
    """Puts wrong versions in place, and takes them out again."""
    honest = [(place, name, getattr(place, name)) for place, name, _ in patches]
    try:
        for place, name, wrong in patches:
            setattr(place, name, wrong)
        yield
    finally:
        for place, name, right in honest:
            setattr(place, name, right)
