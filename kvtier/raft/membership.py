"""Changing the members of a group while it works.

A change is an entry; it takes effect on each replica when that replica *applies* it.
One is in flight at a time: the next is taken only when the one before is applied
(``pending_conf_index``), and a new leader assumes that its whole log may be one.  A joint
configuration that leaves by itself is left by whoever leads when it is applied, and a
leader that could not propose that (a crash, a transfer) is followed by one that does
(reliability 60).

A leader that may have a lease is never removed: others may apply the removal before it
does, and would no longer count on it while it still counts on its lease; and one that was
cut off would keep a promise whose end nobody is left to tell.  It hands over first, while
joint by itself to a voter of the incoming half (reliability 59).  A change that it finds in
its log when it is elected may remove it too: until that is applied it asks for no promise
(``leases.fortify``), so that it has no lease then.

Hence, wherever promises are used: no replica is removed by a leader of the term in which it
led with promises.  The log of whoever can be elected afterwards says so to those who still
keep one (``leases.is_superseded``).

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from base.errors import ProposalDropped
from kvtier.raft import leases, proposals, reading, replication, transfer
from kvtier.raft.confchange import Configuration, changed, is_leaving
from kvtier.raft.core import LEADER, Core, become_follower
from kvtier.raft.messages import CONF, ConfChange, ConfState, encode


def propose_change(core: Core, change: ConfChange) -> int:
    """Proposes a change; returns its index.

    Raises ProposalDropped as ``propose`` does, and: "change in flight", "already joint",
    "not joint", "lease not covered", "hand over first", or why the change cannot be made.
    """
    if core.role == LEADER and core.config.validates_changes:
        if core.pending_conf_index > core.log.applied:
            raise ProposalDropped("change in flight", core.id)
        if core.conf.is_joint() and not is_leaving(change):
            raise ProposalDropped("already joint", core.id)
        if not core.conf.is_joint() and is_leaving(change):
            raise ProposalDropped("not joint", core.id)
        after, reason = changed(core.conf, change)
        if after is None:
            raise ProposalDropped(reason, core.id)
        if core.liveness is not None and not after.is_voter(core.id):
            raise ProposalDropped("hand over first", core.id)
        if not leases.may_change(core):
            raise ProposalDropped("lease not covered", core.id)
    index = proposals.propose(core, encode(change), CONF)
    core.pending_conf_index = index
    return index


def apply_change(core: Core, change: ConfChange) -> ConfState | None:
    """Makes an applied change effective; None, on every replica alike, if it cannot be made from here."""
    after, _ = changed(core.conf, change)
    if after is None:
        return None
    switch(core, after)
    return core.conf.into_state()


def switch(core: Core, conf: Configuration) -> None:
    """Goes over to another configuration."""
    core.conf = conf
    members = conf.members()
    for id in list(core.progress):
        if id not in members:
            del core.progress[id]
            del core.matches[id]
            core.fortified.pop(id, None)
            core.read_acks.pop(id, None)
    for id in members:
        if id not in core.progress:
            core.add_progress(id)
            # Until the next check of the quorum it counts as heard from, and may be sent a snapshot.
            core.progress[id].is_active = True
        core.progress[id].is_learner = id in conf.learners
    core.list_peers()
    if core.role != LEADER:
        return
    if not conf.is_voter(core.id) and core.config.step_down_on_removal:
        become_follower(core, core.term, 0)
        return
    if core.transferee != 0 and not conf.is_voter(core.transferee):
        core.transferee = 0
    leases.fortify(core)
    replication.own_entries_durable(core)
    replication.maybe_commit(core)
    reading.advance_reads(core)
    core.needs_flush = True


def maybe_leave_joint(core: Core) -> None:
    """Proposes to leave a joint configuration that leaves by itself, once that is applied."""
    if not core.conf.auto_leave or core.role != LEADER or core.pending_conf_index > core.log.applied:
        return
    if core.transferee != 0 or core.id not in core.progress or not leases.may_change(core):
        # Tried again with the next heartbeat.
        return
    if core.liveness is not None and core.id not in core.conf.voters:
        transfer.transfer_to_incoming(core)
        return
    # Never refused for its size: it is what lets the group get out.
    core.pending_conf_index = proposals.add_entry(core, encode(ConfChange()), CONF)
