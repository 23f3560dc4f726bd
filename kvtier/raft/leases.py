"""Promises of support, and the lease that a quorum of them is.

A leader asks every member to promise support (Fortify); a follower whose store supports
the leader's writes the epoch into its hard state and says so.  From then on, as long as
that support lasts, it neither votes for anybody else nor campaigns.  The lease ends when
a quorum's support ends; ``lease_until`` says when, and never less than it said before.

    promised by     L until 90     A until 80     B no          lease until 80

Rules, each with the trap it is for:

* The promise is durable before it is told (reliability 38), the leader's own too.
* The end of a lease never moves back (reliability 35).  After a change of the
  configuration the new quorum may support us for less long than the old one did; any two
  neighbouring configurations share a voter, so the old end still holds, but a second
  change waits until the new quorum has caught up (``may_change``).
* One who led keeps its own promise until the lease it told has passed, whatever term it
  is in by now, and only then frees its followers (Defortify), until it hears of a leader.
* A leader that was removed may leave a follower, cut off since, with a promise to it while
  its store lives on.  Who leads or led a later term shows by its log that the promise is
  void (``is_superseded``).
* A leader that hands over gives up its lease first: the vote that it asks for passes all
  promises.  What it served until then, the store has put into the log before.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from kvtier.raft import quorum
from kvtier.raft.core import LEADER, Core
from kvtier.raft.messages import Defortify, Fortify, FortifyReply, Vote


def is_promised(core: Core) -> bool:
    """True while we may neither vote nor campaign, because a leader counts on us."""
    liveness = core.liveness
    if liveness is None:
        return False
    if core.lease_max > 0:
        if not liveness.has_passed(core.lease_max):
            return True
        if core.promise_lead == core.id and core.role != LEADER:
            _clear(core)
        if core.role != LEADER:
            core.lease_max = 0
    if core.promise_epoch == 0:
        return False
    if core.promise_lead == core.id and not core.is_promise_restored:
        return False
    return liveness.supports(core.promise_lead, core.promise_epoch)


def is_leased(core: Core) -> bool:
    """True while candidates are to be ignored: a promise is out, or the leader was heard of lately (thesis 6.2)."""
    if is_promised(core):
        return True
    if core.promise_epoch > 0 and core.role != LEADER:
        return False
    return core.config.check_quorum and core.lead != 0 and core.election_elapsed < core.config.election_ticks


def is_superseded(core: Core, ask: Vote) -> bool:
    """True if the log of who asks for our vote proves that the leader we promised support has had a successor.

    A promise is made to the leader of our term and ends with that term (``core.reset``).  An entry of a
    later term was written by a leader of that term, whom a quorum elected; so the lease that ours was a
    part of had run out or was handed over by then.  We have only not heard of it, and the one we promised
    support cannot tell us if it was removed since: its store lives, and goes on being supported.
    """
    return ask.last_term > core.term and core.promise_lead != core.id


def promise_self(core: Core) -> None:
    """A leader supports itself; ``own_promise_durable`` follows with the sync."""
    liveness = core.liveness
    if liveness is None:
        return
    epoch = liveness.epoch_of(core.id)
    if epoch == 0 or (core.promise_lead == core.id and core.promise_epoch == epoch and core.id in core.fortified):
        return
    core.promise_lead = core.id
    core.promise_epoch = epoch
    core.is_promise_restored = False
    core.fortified.pop(core.id, None)


def own_promise_durable(core: Core, epoch: int) -> None:
    """A hard state that promises support to ourselves at ``epoch`` has been synced."""
    if core.role == LEADER and core.promise_lead == core.id and core.promise_epoch == epoch:
        core.fortified[core.id] = epoch


def fortify(core: Core) -> None:
    """Asks every member without a promise that holds; every heartbeat asks again.

    Not before the changes of the members are applied that it found in its log: they may remove it.
    """
    if core.liveness is None or core.log.applied < core.inherited_change:
        return
    promise_self(core)
    for id in core.peers:
        if not is_supporter(core, id):
            core.messages.append(Fortify(core.id, id, core.term))


def is_supporter(core: Core, id: int) -> bool:
    """True while a member's promise to us holds."""
    liveness = core.liveness
    epoch = core.fortified.get(id, 0)
    if liveness is None or epoch == 0:
        return False
    return not liveness.has_passed(liveness.supported_until(id, epoch))


def take_fortify(core: Core, message: Fortify) -> None:
    """As follower: promises support to the leader of our term, if our store supports its store."""
    liveness = core.liveness
    epoch = 0 if liveness is None else liveness.epoch_of(message.sender)
    if epoch == 0:
        core.messages.append(FortifyReply(core.id, message.sender, core.term, 0))
        return
    core.promise_lead = message.sender
    core.promise_epoch = epoch
    core.is_promise_restored = False
    core.after_sync.append(FortifyReply(core.id, message.sender, core.term, epoch))


def take_fortify_reply(core: Core, message: FortifyReply) -> None:
    """As leader: notes a promise; a lower epoch is an old message."""
    if message.sender in core.progress and message.epoch > core.fortified.get(message.sender, 0):
        core.fortified[message.sender] = message.epoch


def take_defortify(core: Core, message: Defortify) -> None:
    """As follower: the one who led this term does so no more."""
    if core.lead == message.sender:
        core.lead = 0
    if core.promise_lead == message.sender:
        _clear(core)
        core.election_elapsed = max(core.election_elapsed, core.config.election_ticks)


def lose_promise(core: Core) -> bool:
    """Forgets a promise whose support has ended; True if there was one.

    What is left of the election timeout is then its random part: nobody waits for a
    leader whose store is known to be gone.
    """
    if core.promise_epoch == 0 or is_promised(core):
        return False
    _clear(core)
    core.election_elapsed = max(core.election_elapsed, core.config.election_ticks)
    return True


def _clear(core: Core) -> None:
    core.promise_lead = 0
    core.promise_epoch = 0
    core.is_promise_restored = False


def tick_defortify(core: Core) -> None:
    """Frees the followers of a term we led, once our lease is over and until a leader is known."""
    if core.defortify_term == 0:
        return
    if core.lead != 0:
        core.defortify_term = 0
        return
    liveness = core.liveness
    assert liveness is not None
    if core.lease_max > 0 and not liveness.has_passed(core.lease_max):
        return
    for id in core.peers:
        core.messages.append(Defortify(core.id, id, core.defortify_term))


def support_until(core: Core) -> int:
    """Until when a quorum of the configuration supports us as leader; 0: not."""
    liveness = core.liveness
    if liveness is None or core.role != LEADER:
        return 0
    untils: dict[int, int] = {}
    for id in core.fortified:
        untils[id] = liveness.supported_until(id, core.fortified[id])
    return quorum.joint_reached(core.conf.voters, core.conf.outgoing, untils)


def has_support(core: Core) -> bool:
    """True while a quorum supports us."""
    liveness = core.liveness
    if liveness is None or not core.fortified:
        return False
    return not liveness.has_passed(support_until(core))


def has_certain_support(core: Core) -> bool:
    """True while a quorum supports us whichever clock one asks: no other leader can have been elected."""
    liveness = core.liveness
    if liveness is None or not core.fortified:
        return False
    return liveness.is_certain(support_until(core))


def lease_until(core: Core) -> int:
    """The end of our lease; 0 before an entry of our term is applied (reliability 39)."""
    if core.role != LEADER or core.log.term(core.log.applied) != core.term:
        return 0
    until = support_until(core)
    if until > core.lease_max:
        core.lease_max = until
    return core.lease_max


def may_change(core: Core) -> bool:
    """True if the lease told so far is covered by the voters of now, so that they may change again."""
    liveness = core.liveness
    if liveness is None or core.lease_max == 0:
        return True
    return support_until(core) >= core.lease_max or liveness.has_passed(core.lease_max)
