"""Read indexes: linearizable reads without writing to the log (Raft thesis 6.4).

    read at commit index 7 --> heartbeat (context n) --> answered by a quorum --> "serve once 7 is applied"

The answers prove that no later leader had been elected when the read arrived, so that 7
is at least what anybody was told before.  Reads are numbered; a heartbeat carries the
newest number and its answer stands for all of them, so "up to which read has a quorum
answered" is the arithmetic of commit indexes once more.  All reads of one tick share a
round.

A leader that has not committed anything in its term does not know what is committed, and
lets reads wait until it has.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from base.errors import ProposalDropped
from kvtier.raft import leases, quorum
from kvtier.raft.config import READS_MAX
from kvtier.raft.core import LEADER, Core, PendingRead
from kvtier.raft.messages import HeartbeatReply, ReadIndex, ReadIndexReply
from kvtier.raft.ready import ReadState


def read_index(core: Core, context: bytes) -> None:
    """Asks for the index a read has to wait for; the answer comes as a ReadState with the same context.

    Raises ProposalDropped where nobody can be asked.  An answer may never come: ask again
    with another context (reliability 36).
    """
    if core.role == LEADER:
        _begin(core, core.id, context)
    elif core.lead != 0:
        core.messages.append(ReadIndex(core.id, core.lead, core.term, context))
    else:
        raise ProposalDropped("no leader")


def take_read_index(core: Core, message: ReadIndex) -> None:
    """As leader: reads for a follower; when full, it asks again."""
    if len(core.reads) + len(core.early_reads) < READS_MAX:
        _begin(core, message.sender, message.context)


def _begin(core: Core, sender: int, context: bytes) -> None:
    if len(core.reads) + len(core.early_reads) >= READS_MAX:
        raise ProposalDropped("too many reads", core.lead)
    if core.log.term(core.log.commit) != core.term:
        core.early_reads.append((sender, context))
        return
    if core.is_alone() or (core.config.lease_reads and leases.has_certain_support(core)):
        _answer(core, sender, core.log.commit, context)
        return
    core.read_number += 1
    core.reads.append(PendingRead(core.read_number, core.log.commit, context, sender))
    core.read_acks[core.id] = core.read_number
    core.needs_heartbeat = True


def begin_early(core: Core) -> None:
    """The term's first entry is committed: the reads that waited for it go on."""
    waiting = core.early_reads
    core.early_reads = []
    for sender, context in waiting:
        _begin(core, sender, context)


def take_heartbeat_reply(core: Core, reply: HeartbeatReply) -> None:
    """As leader: a follower still follows; what it has not got yet is sent again."""
    progress = core.progress.get(reply.sender)
    if progress is None:
        return
    progress.is_active = True
    progress.is_paused = False
    if reply.commit > progress.match_commit:
        progress.match_commit = reply.commit
    if progress.match < core.log.last_index() or progress.state == 0:
        progress.wants_ping = True
        core.needs_flush = True
    if reply.context > core.read_acks.get(reply.sender, 0):
        core.read_acks[reply.sender] = reply.context
        advance_reads(core)


def advance_reads(core: Core) -> None:
    """Answers the reads that a quorum has confirmed."""
    if not core.reads:
        return
    number = quorum.joint_reached(core.conf.voters, core.conf.outgoing, core.read_acks)
    count = 0
    for read in core.reads:
        if read.number > number:
            break
        _answer(core, read.sender, read.index, read.context)
        count += 1
    if count:
        del core.reads[:count]


def _answer(core: Core, sender: int, index: int, context: bytes) -> None:
    if sender == core.id:
        core.read_states.append(ReadState(index, context))
    else:
        core.messages.append(ReadIndexReply(core.id, sender, core.term, index, context))
