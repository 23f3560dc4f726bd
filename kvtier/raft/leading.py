"""Being leader: taking office, and the duties of time.

A new leader begins its term with an empty entry; with it, what earlier terms left in the
log is committed (Raft paper 5.4.2).  It keeps its office while it hears from a quorum:
by answers within an election timeout, or by the promises that its lease rests on.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from kvtier.raft import leases, membership, proposals, quorum, replication
from kvtier.raft.core import LEADER, UNBOUNDED, Core, become_follower, reset
from kvtier.raft.messages import CONF, NORMAL


def become_leader(core: Core) -> None:
    """Takes office in the term we were elected for."""
    reset(core, core.term)
    core.role = LEADER
    core.lead = core.id
    log = core.log
    core.pending_conf_index = log.last_index()
    log.accepted_term = core.term
    own = core.progress.get(core.id)
    if own is not None:
        own.become_replicate()
        own.is_active = True
    for entry in log.entries(log.commit + 1, log.last_index() + 1, UNBOUNDED):
        if entry.data:
            core.uncommitted.add(entry.index, len(entry.data))
        if entry.kind == CONF:
            core.inherited_change = entry.index
    proposals.add_entry(core, b"", NORMAL)
    leases.fortify(core)
    replication.own_entries_durable(core)


def tick(core: Core) -> None:
    """The duties of a leader at every tick."""
    core.election_elapsed += 1
    core.heartbeat_elapsed += 1
    config = core.config
    if core.liveness is not None:
        if leases.has_support(core):
            core.had_support = True
        elif core.had_support and config.check_quorum:
            become_follower(core, core.term, 0)
            return
    if core.election_elapsed >= config.election_ticks:
        core.election_elapsed = 0
        if config.check_quorum and not has_quorum(core):
            become_follower(core, core.term, 0)
            return
        # Who was told to take over should have by now.
        core.transferee = 0
    replication.tick_snapshots(core)
    if core.heartbeat_elapsed >= config.heartbeat_ticks:
        core.heartbeat_elapsed = 0
        leases.fortify(core)
        replication.send_heartbeats(core, len(core.reads) > 0)
        membership.maybe_leave_joint(core)


def has_quorum(core: Core) -> bool:
    """True if a quorum was heard from since the last time, or promises support."""
    heard: dict[int, bool] = {core.id: True}
    for id in core.peers:
        progress = core.progress[id]
        heard[id] = progress.is_active or leases.is_supporter(core, id)
        progress.is_active = False
    return quorum.joint_vote(core.conf.voters, core.conf.outgoing, heard) == quorum.WON
