"""Elections: when to campaign, whom to vote for, who has won.

Prevote first asks whether an election would be won, without touching term or vote, so
that a replica that was cut off disturbs nobody when it comes back (thesis 9.6,
reliability 58).  A vote is asked for, and our own vote counts, only when our new term and
vote are durable: else a crash could let us lead one term twice.

A learner votes if asked: its asking voter may know of a promotion that it has yet to apply.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from typing import Final

from kvtier.raft import leading, leases, quorum
from kvtier.raft.core import (
    CANDIDATE,
    LEADER,
    PRECANDIDATE,
    Core,
    become_candidate,
    become_follower,
    become_precandidate,
)
from kvtier.raft.messages import CONF, Vote, VoteReply

SCAN_BYTES: Final = 1 << 20
"""Read at once when looking for configuration changes that are not applied."""


def tick(core: Core) -> None:
    """The passing of time for one who does not lead."""
    core.election_elapsed += 1
    core.heartbeat_elapsed += 1
    if core.heartbeat_elapsed >= core.config.heartbeat_ticks:
        core.heartbeat_elapsed = 0
        leases.tick_defortify(core)
    if leases.is_promised(core):
        core.election_elapsed = 0
        return
    leases.lose_promise(core)
    if core.election_elapsed >= core.election_timeout and core.is_promotable():
        core.election_elapsed = 0
        hup(core)


def hup(core: Core) -> bool:
    """Campaigns unless something forbids it; True if a campaign began."""
    if core.role == LEADER or not core.is_promotable() or has_unapplied_change(core):
        return False
    if leases.is_promised(core):
        return False
    if core.config.prevote:
        precampaign(core)
    else:
        campaign(core, False)
    return True


def campaign_for_transfer(core: Core) -> None:
    """The leader told us to take over: no prevote, and leases do not stand in the way."""
    if core.role != LEADER and core.is_promotable() and not has_unapplied_change(core):
        campaign(core, True)


def has_unapplied_change(core: Core) -> bool:
    """True if we may yet learn that the voters are others: one who does not know must not be elected."""
    lower = core.log.applied + 1
    upper = core.log.commit + 1
    while lower < upper:
        page = core.log.entries(lower, upper, SCAN_BYTES)
        for entry in page:
            if entry.kind == CONF:
                return True
        lower += len(page)
    return False


def precampaign(core: Core) -> None:
    become_precandidate(core)
    _ask(core, core.term + 1, True, False)
    _count(core, core.id, True)


def campaign(core: Core, is_transfer: bool) -> None:
    """Our own vote is counted by ``own_vote_durable``."""
    become_candidate(core)
    _ask(core, core.term, False, is_transfer)


def _ask(core: Core, term: int, is_pre: bool, is_transfer: bool) -> None:
    last = core.log.last_index()
    last_term = core.log.last_term()
    for id in core.conf.all_voters():
        if id != core.id:
            ask = Vote(core.id, id, term, last, last_term, is_pre, is_transfer)
            if is_pre:
                core.messages.append(ask)
            else:
                core.after_sync.append(ask)


def own_vote_durable(core: Core, term: int) -> None:
    """A hard state of ``term`` has been synced."""
    if core.role == CANDIDATE and core.term == term and core.id not in core.votes:
        _count(core, core.id, True)


def take_vote(core: Core, ask: Vote) -> None:
    """Votes once in a term, for one whose log holds all that ours may have committed."""
    is_free = core.vote == 0 and core.lead == 0
    may = core.vote == ask.sender or is_free or (ask.pre and ask.term > core.term)
    if not may or not core.log.is_up_to_date(ask.last_index, ask.last_term):
        commit = core.log.commit
        commit_term = core.log.term(commit)
        core.messages.append(VoteReply(core.id, ask.sender, core.term, ask.pre, True, commit, max(commit_term, 0)))
    elif ask.pre:
        core.messages.append(VoteReply(core.id, ask.sender, ask.term, True, False))
    else:
        core.election_elapsed = 0
        core.vote = ask.sender
        core.after_sync.append(VoteReply(core.id, ask.sender, core.term, False, False))


def take_vote_reply(core: Core, reply: VoteReply) -> None:
    """Counts an answer to the campaign that is on.

    What the other knows to be committed is so here too, if we hold it.  It may be the end of
    a joint configuration: those who know of it are no voters any more and do not campaign,
    and their longer logs refuse the one voter that does not know (seed 2053 of the schedules).
    """
    if reply.commit_term > 0 and core.role != LEADER and core.log.has(reply.commit, reply.commit_term):
        core.log.commit_to(reply.commit)
    if reply.pre:
        # A prevote is granted for the term after ours.
        if core.role == PRECANDIDATE and (reply.reject or reply.term == core.term + 1):
            _count(core, reply.sender, not reply.reject)
    elif core.role == CANDIDATE:
        _count(core, reply.sender, not reply.reject)


def _count(core: Core, id: int, granted: bool) -> None:
    if id not in core.votes:
        core.votes[id] = granted
    result = quorum.joint_vote(core.conf.voters, core.conf.outgoing, core.votes)
    if result == quorum.WON:
        if core.role == PRECANDIDATE:
            campaign(core, False)
        else:
            leading.become_leader(core)
    elif result == quorum.LOST:
        # A prevote that is lost leaves the term as it was.
        become_follower(core, core.term, 0)
