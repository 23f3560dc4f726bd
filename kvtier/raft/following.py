"""The follower's side of the log: appends, heartbeats and snapshots of the term's leader.

What is acknowledged is durable first: acknowledgements go to ``after_sync``.  A refusal
promises nothing and goes at once.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from kvtier.raft import membership
from kvtier.raft.confchange import from_state
from kvtier.raft.core import Core
from kvtier.raft.messages import Append, AppendReply, Heartbeat, HeartbeatReply, InstallSnapshot, Snapshot


def acknowledge(core: Core, to: int, index: int) -> None:
    """Says, once it is so, that we hold the leader's log up to ``index``."""
    core.after_sync.append(AppendReply(core.id, to, core.term, index, core.log.commit))


def take_append(core: Core, append: Append) -> None:
    """Adds a leader's entries, or says where the logs may agree."""
    log = core.log
    if append.prev_index < log.commit:
        # Old: what is committed agrees with any leader's log.
        if not append.is_quiet:
            acknowledge(core, append.sender, log.commit)
        return
    agreed = log.accept(append.term, append.prev_index, append.prev_term, append.entries)
    if agreed >= 0:
        log.commit_to(min(append.commit, agreed))
        if not append.is_quiet:
            acknowledge(core, append.sender, agreed)
        return
    # The last place that can agree is before prev_index, in a term not above prev_term.
    hint = log.last_at_or_below(min(append.prev_index, log.last_index()), append.prev_term)
    term = log.term(hint)
    core.messages.append(
        AppendReply(
            core.id, append.sender, core.term, append.prev_index, log.commit, True, hint, term if term > 0 else 0
        )
    )


def take_heartbeat(core: Core, heartbeat: Heartbeat) -> None:
    """Learns what is committed of the log we acknowledged."""
    core.log.commit_to(heartbeat.commit)
    core.messages.append(HeartbeatReply(core.id, heartbeat.sender, core.term, core.log.commit, heartbeat.context))


def take_snapshot(core: Core, message: InstallSnapshot) -> None:
    """Replaces the log if the snapshot is ahead of what we know to be committed."""
    snapshot = message.snapshot
    if _restore(core, snapshot, message.term):
        acknowledge(core, message.sender, core.log.last_index())
    else:
        acknowledge(core, message.sender, core.log.commit)


def _restore(core: Core, snapshot: Snapshot, term: int) -> bool:
    log = core.log
    if snapshot.index <= log.commit:
        return False
    conf = from_state(snapshot.conf)
    if core.id not in conf.members():
        # Misrouted: it would make us a member of a group that does not know us.
        return False
    if log.has(snapshot.index, snapshot.term):
        # The entries are here: only that they are committed is news.
        log.commit_to(snapshot.index)
        return False
    log.restore(snapshot, term)
    membership.switch(core, conf)
    return True
