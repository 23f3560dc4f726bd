"""The leader's side of the log: what to send to whom, what came back, what is committed.

Nothing is sent where it arises.  Proposals, acknowledgements and commits only note that
there is something (``needs_flush``); ``flush`` runs once when the Ready is taken, and one
append per follower then carries all of it.

An entry is committed when a quorum holds it durably and it is of the leader's own term;
earlier ones are committed with it (Raft paper 5.4.2, figure 8).  The leader's own copy
counts when its own sync is acknowledged, and not before (reliability 50).

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from kvtier.raft import quorum
from kvtier.raft.core import LEADER, Core
from kvtier.raft.logstorage import ENTRY_OVERHEAD
from kvtier.raft.messages import Append, AppendReply, Heartbeat, InstallSnapshot
from kvtier.raft.progress import PROBE, REPLICATE, SNAPSHOT, Progress


def flush(core: Core) -> None:
    """Sends every follower what it may be sent now."""
    core.needs_flush = False
    for id in core.peers:
        send_appends(core, core.progress[id])


def send_appends(core: Core, progress: Progress) -> None:
    """Sends appends as far as the window is open."""
    log = core.log
    last = log.last_index()
    if progress.state == REPLICATE:
        while progress.next <= last and not progress.inflights.is_full():
            if not _send_append(core, progress, True):
                return
        if progress.wants_ping or (progress.sent_commit < log.commit and progress.sent_commit < progress.next - 1):
            # The first tells a follower that lost appends to say so, whether the window is open or not.
            _send_append(core, progress, False)
    elif progress.can_send() and _send_append(core, progress, True):
        progress.is_paused = True


def _send_append(core: Core, progress: Progress, with_entries: bool) -> bool:
    """Sends one append from ``next`` on, or a snapshot if the log begins later; False if that was needed."""
    log = core.log
    previous = progress.next - 1
    term = log.term(previous)
    if term < 0 or progress.next < log.first_index():
        _send_snapshot(core, progress)
        return False
    is_news = with_entries or progress.wants_ping or progress.state != REPLICATE
    append = Append(core.id, progress.id, core.term, previous, term, log.commit)
    append.is_quiet = core.config.quiet_commits and not is_news
    if with_entries and progress.next <= log.last_index():
        append.entries = log.entries(progress.next, log.last_index() + 1, core.config.append_bytes_max)
        if progress.state == REPLICATE:
            size = 0
            for entry in append.entries:
                size += len(entry.data) + ENTRY_OVERHEAD
            progress.next += len(append.entries)
            progress.inflights.add(progress.next - 1, size)
    progress.wants_ping = False
    progress.sent_commit = min(log.commit, progress.next - 1)
    core.messages.append(append)
    return True


def _send_snapshot(core: Core, progress: Progress) -> None:
    """Sends a snapshot, to one who answers at all and if there is one to send."""
    if not progress.is_active:
        return
    snapshot = core.log.storage.snapshot()
    if snapshot is None:
        # Asked again after the next answer.
        progress.is_paused = True
        return
    assert snapshot.index >= core.log.first_index() - 1, f"{snapshot.index=} {core.log.first_index()=}"
    progress.become_snapshot(snapshot.index)
    core.messages.append(InstallSnapshot(core.id, progress.id, core.term, snapshot))


def send_heartbeats(core: Core, to_all: bool) -> None:
    """Tells followers that we lead; without ``to_all`` those whose stores say so and who know all are left in peace."""
    context = core.read_number if core.reads else 0
    for id in core.peers:
        progress = core.progress[id]
        if to_all or needs_heartbeat(core, progress):
            commit = min(progress.match, core.log.commit)
            core.messages.append(Heartbeat(core.id, id, core.term, commit, context))


def needs_heartbeat(core: Core, progress: Progress) -> bool:
    """False for a follower that promised support, holds the whole log and knows all that is committed."""
    if progress.match < core.log.last_index() or progress.match_commit < core.log.commit:
        return True
    liveness = core.liveness
    epoch = core.fortified.get(progress.id, 0)
    if liveness is None or epoch == 0:
        return True
    return liveness.has_passed(liveness.supported_until(progress.id, epoch))


def take_append_reply(core: Core, reply: AppendReply) -> None:
    """Notes how far a follower's log agrees."""
    progress = core.progress.get(reply.sender)
    if progress is None:
        return
    progress.is_active = True
    if reply.commit > progress.match_commit:
        progress.match_commit = reply.commit
    if reply.reject:
        _take_refusal(core, progress, reply)
    else:
        _take_acknowledgement(core, progress, reply.index)


def _take_refusal(core: Core, progress: Progress, reply: AppendReply) -> None:
    hint = reply.hint_index
    if reply.hint_term > 0:
        # Below the hint only our entries of terms up to the hint's can be in the follower's log.
        hint = core.log.last_at_or_below(hint, reply.hint_term)
    if progress.refuse(reply.index, hint):
        if progress.state == REPLICATE:
            progress.become_probe()
        core.needs_flush = True


def _take_acknowledgement(core: Core, progress: Progress, index: int) -> None:
    assert index <= core.log.last_index(), f"{progress.id=} {index=} {core.log.last_index()=}"
    is_news = progress.acknowledge(index)
    if not is_news and not (progress.match == index and progress.state == PROBE):
        return
    if progress.state == PROBE:
        progress.become_replicate()
    elif progress.state == SNAPSHOT:
        if progress.match + 1 >= core.log.first_index():
            # It caught up, by this snapshot or by another way: go on with the log.
            progress.become_replicate()
    else:
        progress.inflights.free_to(index)
    core.matches[progress.id] = progress.match
    maybe_commit(core)
    core.needs_flush = True


def maybe_commit(core: Core) -> bool:
    """Commits what a quorum holds, if it is of our term."""
    index = quorum.joint_reached(core.conf.voters, core.conf.outgoing, core.matches)
    log = core.log
    if index <= log.commit or index > log.last_index() or log.term(index) != core.term:
        return False
    log.commit_to(index)
    core.uncommitted.free_to(index)
    core.needs_flush = True
    return True


def own_entries_durable(core: Core) -> None:
    """Our own copy counts up to what our storage acknowledged."""
    assert core.role == LEADER
    progress = core.progress.get(core.id)
    if progress is None or core.log.stable <= progress.match:
        return
    progress.match = core.log.stable
    progress.next = max(progress.next, progress.match + 1)
    core.matches[core.id] = progress.match
    maybe_commit(core)


def unreachable(core: Core, id: int) -> None:
    """A message to a follower was surely lost: probe instead of running ahead."""
    progress = core.progress.get(id)
    if progress is None:
        return
    # It may have restarted, and not know any more how much is committed.
    progress.match_commit = 0
    if progress.state == REPLICATE:
        progress.become_probe()


def snapshot_ended(core: Core, id: int, is_sent: bool) -> None:
    """A snapshot was delivered or failed; wait for an answer before sending more."""
    progress = core.progress.get(id)
    if progress is None or progress.state != SNAPSHOT:
        return
    if not is_sent:
        progress.snapshot_index = 0
    progress.become_probe()
    progress.is_paused = True


def tick_snapshots(core: Core) -> None:
    """Gives up snapshots that have stalled (reliability 68)."""
    for id in core.peers:
        progress = core.progress[id]
        if progress.state == SNAPSHOT:
            progress.snapshot_ticks += 1
            if progress.snapshot_ticks > core.config.snapshot_ticks_max:
                snapshot_ended(core, id, False)
