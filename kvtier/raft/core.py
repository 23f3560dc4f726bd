"""The state of one replica's machine, and the moves between its roles.

                 timeout              prevote won            vote won
    FOLLOWER ------------> PRECANDIDATE --------> CANDIDATE ----------> LEADER
        ^                        |                    |                    |
        +------ lost, higher term, a leader is heard --+-- no quorum ------+

Everything here is plain state; the modules beside this one are its behaviour, each a
subject: ``election``, ``replication``, ``following``, ``leading``, ``membership``,
``reading``, ``leases``.  Only they write these fields, and only inside a step of the
machine (``machine.Raft``).

Invariants (``check``):
* a term has at most one leader; a replica votes once in a term (its hard state says for whom);
* only the leader has progress beyond a fresh one, reads under way, a transferee;
* what is committed is never cut, in any role.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from typing import Final

from base.seams import Rng
from kvtier.raft.confchange import Configuration, from_state
from kvtier.raft.config import Config
from kvtier.raft.liveness import Liveness
from kvtier.raft.log import RaftLog
from kvtier.raft.logstorage import LogStorage
from kvtier.raft.messages import ConfState, HardState, Message
from kvtier.raft.progress import Progress, Window
from kvtier.raft.ready import ReadState

FOLLOWER: Final = 0
PRECANDIDATE: Final = 1
CANDIDATE: Final = 2
LEADER: Final = 3
ROLE_NAMES: Final = ("follower", "precandidate", "candidate", "leader")

UNBOUNDED: Final = 1 << 62


class PendingRead:
    """A read index that waits until a quorum has answered a heartbeat sent after it."""

    def __init__(self, number: int, index: int, context: bytes, sender: int) -> None:
        self.number = number
        self.index = index
        self.context = context
        self.sender = sender
        """Who asked: ourselves or a follower."""


class Core:
    """See the module docstring."""

    def __init__(
        self,
        config: Config,
        storage: LogStorage,
        state: HardState,
        conf: ConfState,
        applied: int,
        rng: Rng,
        liveness: Liveness | None,
    ) -> None:
        self.config = config
        self.id = config.id
        self.rng = rng
        self.liveness = liveness
        self.log = RaftLog(storage, state.commit, applied, config.tail_bytes_max)
        self.role = FOLLOWER
        self.term: int = state.term
        self.vote: int = state.vote
        self.lead = 0
        """The leader of this term, 0 while unknown."""
        self.promise_lead: int = state.lead
        self.promise_epoch: int = state.lead_epoch
        """Support promised: as a follower to the leader, as a leader to ourselves; 0: none."""
        self.is_promise_restored = state.lead == config.id
        """We led before a restart: how long our lease lasted, only our store's promise to itself knows."""
        if state.lead != config.id and state.lead_epoch > 0:
            self.lead = state.lead

        self.conf: Configuration = from_state(conf)
        self.progress: dict[int, Progress] = {}
        self.peers: list[int] = []
        """All members but ourselves, ascending."""
        self.matches: dict[int, int] = {}
        """``progress[id].match`` of every member, for the arithmetic of the quorum."""

        self.messages: list[Message] = []
        self.after_sync: list[Message] = []
        self.read_states: list[ReadState] = []

        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.election_timeout = 0
        """Drawn anew with every term and role."""
        self.votes: dict[int, bool] = {}
        self.transferee = 0
        self.pending_conf_index = 0
        """No configuration change is proposed before this is applied."""
        self.inherited_change = 0
        """Leader: the last change of the members that was in its log, not applied, when it was elected; 0: none."""
        self.uncommitted = Window(UNBOUNDED, UNBOUNDED)
        self.needs_flush = False
        """Leader: there may be appends to send."""

        self.reads: list[PendingRead] = []
        self.read_number = 0
        self.read_acks: dict[int, int] = {}
        self.early_reads: list[tuple[int, bytes]] = []
        """(asker, context) of reads before the term's first commit."""
        self.needs_heartbeat = False
        """Leader: a read waits for a round of heartbeats."""

        self.fortified: dict[int, int] = {}
        """Leader: the epoch at which each member promised support."""
        self.had_support = False
        """Leader: a quorum has supported us in this term."""
        self.lease_max = 0
        """The latest end of a lease we ever told; outlives our leadership."""
        self.defortify_term = 0
        """The term we led in and whose followers are still to be freed; 0: none."""

        self.is_quiesced = False
        self.idle_ticks = 0
        for id in self.conf.members():
            self.add_progress(id)
        self.list_peers()
        reset(self, self.term)

    def add_progress(self, id: int) -> None:
        """Begins to follow a member's progress, from the end of the log."""
        config = self.config
        progress = Progress(
            id,
            self.log.last_index() + 1,
            id in self.conf.learners,
            config.inflight_max,
            config.inflight_bytes_max,
        )
        self.progress[id] = progress
        self.matches[id] = 0

    def list_peers(self) -> None:
        self.peers = sorted([id for id in self.progress if id != self.id])

    def is_promotable(self) -> bool:
        """True if we may become leader: a voter, with its log in place."""
        return self.conf.is_voter(self.id) and self.log.snapshot is None

    def hard_state(self) -> HardState:
        return HardState(self.term, self.vote, self.log.commit, self.promise_lead, self.promise_epoch)

    def is_alone(self) -> bool:
        """True for the only voter of a group."""
        voters = self.conf.voters
        return len(voters) == 1 and not self.conf.outgoing and voters[0] == self.id


def reset(core: Core, term: int) -> None:
    """Forgets what belongs to a role; what belongs to a term too, if it changes."""
    if term != core.term:
        assert term > core.term, f"{term=} {core.term=}"
        core.term = term
        core.vote = 0
        core.lead = 0
        if core.promise_lead != core.id:
            # Whoever leads a later term was elected by a quorum that no longer supported the old leader.
            core.promise_lead = 0
            core.promise_epoch = 0
    core.election_elapsed = 0
    core.heartbeat_elapsed = 0
    core.election_timeout = core.config.election_ticks + core.rng.below(core.config.election_ticks)
    core.votes.clear()
    core.transferee = 0
    core.pending_conf_index = 0
    core.inherited_change = 0
    core.uncommitted.clear()
    core.needs_flush = False
    core.needs_heartbeat = False
    core.reads.clear()
    core.read_acks.clear()
    core.early_reads.clear()
    core.fortified.clear()
    core.had_support = False
    next = core.log.last_index() + 1
    for id in core.progress:
        progress = core.progress[id]
        if progress.match or progress.is_active or progress.next != next or progress.state or progress.is_paused:
            core.add_progress(id)


def become_follower(core: Core, term: int, lead: int) -> None:
    """Follows ``lead`` (0: unknown) in ``term``."""
    if core.role == LEADER and core.fortified:
        core.defortify_term = core.term
    reset(core, term)
    core.role = FOLLOWER
    core.lead = lead
    if core.promise_lead != lead and core.promise_lead != core.id:
        core.promise_lead = 0
        core.promise_epoch = 0


def become_precandidate(core: Core) -> None:
    """Asks whether an election would be won; term and vote stay (thesis 9.6)."""
    assert core.role != LEADER
    core.role = PRECANDIDATE
    core.votes.clear()
    # Whoever asks for a vote has no leader: else it would refuse others in its name (reliability 57).
    core.lead = 0
    core.election_elapsed = 0
    core.election_timeout = core.config.election_ticks + core.rng.below(core.config.election_ticks)


def become_candidate(core: Core) -> None:
    """Raises the term and votes for itself; the vote counts when it is durable."""
    assert core.role != LEADER
    reset(core, core.term + 1)
    core.role = CANDIDATE
    core.vote = core.id


def check(core: Core) -> None:
    """Asserts the invariants that one replica can see."""
    core.log.check()
    core.conf.check()
    members = core.conf.members()
    assert sorted(core.progress) == members, f"{sorted(core.progress)=} {members=}"
    assert core.peers == [id for id in members if id != core.id], f"{core.peers=}"
    for id in members:
        core.progress[id].check()
        assert core.matches[id] == core.progress[id].match, f"{id=} {core.matches[id]=}"
        assert core.progress[id].is_learner == (id in core.conf.learners), f"{id=}"
    assert core.log.term(core.log.last_index()) <= core.term, f"{core.log.last_term()=} {core.term=}"
    if core.role == LEADER:
        assert core.lead == core.id, f"{core.lead=}"
        assert core.log.accepted_term == core.term, f"{core.log.accepted_term=} {core.term=}"
        for id in members:
            assert core.matches[id] <= core.log.last_index(), f"{id=} {core.matches[id]=}"
        size = 0
        for entry in core.log.entries(core.log.commit + 1, core.log.last_index() + 1, UNBOUNDED):
            size += len(entry.data)
        assert core.uncommitted.bytes == size, f"{core.uncommitted.bytes=} {size=}"
    else:
        assert not core.reads
        assert core.transferee == 0, f"{core.transferee=}"
    if core.role in (CANDIDATE, PRECANDIDATE):
        assert core.lead == 0, f"{core.lead=}"
    if core.role == CANDIDATE:
        assert core.vote == core.id, f"{core.vote=}"
    if core.promise_epoch == 0:
        assert core.promise_lead == 0, f"{core.promise_lead=}"
