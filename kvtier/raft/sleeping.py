"""Quiescence: a group with nothing to do costs nothing.

What ticks are for, a group needs no more once its members have promised support to its
leader: heartbeats, because stores heartbeat each other; election timeouts, because a
follower that promised does not campaign; checks of the quorum, because the loss of support
is told.  So each replica falls asleep by itself after a few idle ticks:

    leader     everybody promised, holds the whole log, knows all of it to be committed
               (but for those whose store is down: their return wakes the group)
    follower   promised, and has applied what it knows to be committed
    alone      a single voter without learners

and any call wakes it: a message, a proposal, a read.  The driver ticks only those that
are awake, and calls ``wake`` on every group with a member on a store when the support
given to or had from that store begins or ends (reliability 74).

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from kvtier.raft import leases, replication
from kvtier.raft.core import FOLLOWER, LEADER, Core


def may_sleep(core: Core) -> bool:
    """True if no tick could do anything until somebody calls."""
    log = core.log
    if log.applied < log.commit or log.stable < log.last_index() or log.snapshot is not None:
        return False
    if core.role == FOLLOWER:
        return core.lead != 0 and core.promise_lead == core.lead and leases.is_promised(core)
    if core.role != LEADER or log.commit < log.last_index():
        return False
    if core.transferee != 0 or core.reads or core.early_reads or core.conf.auto_leave:
        return False
    return _may_leader_sleep(core)


def _may_leader_sleep(core: Core) -> bool:
    if not core.peers:
        return core.conf.is_voter(core.id)
    liveness = core.liveness
    if liveness is None or not leases.has_support(core):
        return False
    for id in core.peers:
        if replication.needs_heartbeat(core, core.progress[id]) and liveness.epoch_of(id) != 0:
            return False
    return True
