"""Handing leadership over (Raft thesis 3.10).

    leader: catches the transferee up, takes no proposals meanwhile
            TimeoutNow ----> transferee: campaigns at once, its vote passes all promises
            steps down, if it has a lease: that ends here

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from base.errors import ProposalDropped
from kvtier.raft.core import LEADER, Core, become_follower
from kvtier.raft.messages import TimeoutNow


def transfer(core: Core, to: int) -> None:
    """Hands leadership over as soon as ``to`` holds the whole log; given up after an election timeout.

    Raises ProposalDropped: "not leader", "no such voter".
    """
    if core.role != LEADER:
        raise ProposalDropped("not leader", core.lead)
    if not core.conf.is_voter(to) or to in core.conf.learners_next:
        raise ProposalDropped("no such voter", core.id)
    if to == core.id:
        core.transferee = 0
        return
    if to == core.transferee:
        return
    core.transferee = to
    core.election_elapsed = 0
    maybe_hand_over(core)
    core.needs_flush = core.role == LEADER


def maybe_hand_over(core: Core) -> None:
    """Tells the transferee to campaign, once it holds everything."""
    to = core.transferee
    if to == 0 or core.matches.get(to, 0) != core.log.last_index():
        return
    core.messages.append(TimeoutNow(core.id, to, core.term))
    if core.fortified:
        # The vote it asks for passes our followers' promises: our lease ends here.
        become_follower(core, core.term, 0)


def transfer_to_incoming(core: Core) -> None:
    """Hands over to the voter of the incoming half that holds most, if none is on its way."""
    best = 0
    for id in core.conf.voters:
        if id != core.id and (best == 0 or core.matches[id] > core.matches[best]):
            best = id
    if best != 0 and core.transferee == 0:
        transfer(core, best)
