"""One replica of a range's Raft group, as a pure machine.

    step(message)  tick()  propose(data)  read_index(context) ...      what happens
                          |
                          v
                       ready()                                         what to do about it
                          |
                          v
                    synced(mark)  applied(index)                       that it is done

No call here does any input or output, looks at a clock or draws a number but from the
Rng handed in; the same calls give the same Readys.  ``kvtier.raft.ready`` says in which
order a Ready is handled; a driver that handles one wholly before it takes the next calls
``advance()`` in place of ``synced`` and ``applied``.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from base.seams import Rng
from kvtier.raft import (
    election,
    following,
    leading,
    leases,
    membership,
    proposals,
    reading,
    replication,
    sleeping,
    transfer,
)
from kvtier.raft.config import Config
from kvtier.raft.core import FOLLOWER, LEADER, Core, become_follower, check
from kvtier.raft.liveness import Liveness
from kvtier.raft.logstorage import LogStorage
from kvtier.raft.messages import (
    NORMAL,
    TAG_APPEND,
    TAG_APPEND_REPLY,
    TAG_DEFORTIFY,
    TAG_FORTIFY,
    TAG_FORTIFY_REPLY,
    TAG_HEARTBEAT,
    TAG_HEARTBEAT_REPLY,
    TAG_READ_INDEX,
    TAG_READ_INDEX_REPLY,
    TAG_SNAPSHOT,
    TAG_TIMEOUT_NOW,
    TAG_VOTE,
    TAG_VOTE_REPLY,
    Append,
    AppendReply,
    ConfChange,
    ConfState,
    Defortify,
    Fortify,
    FortifyReply,
    HardState,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    ReadIndex,
    ReadIndexReply,
    Vote,
    VoteReply,
)
from kvtier.raft.ready import Mark, ReadState, Ready


class Raft(Core):
    """See the module docstring."""

    def __init__(
        self,
        config: Config,
        storage: LogStorage,
        state: HardState,
        conf: ConfState,
        applied: int,
        rng: Rng,
        liveness: Liveness | None = None,
    ) -> None:
        """A replica as its storage knows it.

        ``state`` is the hard state last synced, ``conf`` and ``applied`` what the state
        machine holds.  Without ``liveness`` there are no leases and only a group of one sleeps.
        """
        super().__init__(config, storage, state, conf, applied, rng, liveness)
        self._saved = self.hard_state()
        self._ready_number = 0
        self._sync_number = 0
        """Of the last Ready that asked for a sync."""
        self._synced_number = 0
        self._last_ready: Ready | None = None

    # --- what happens ----------------------------------------------------------------

    def step(self, message: Message) -> None:
        """Takes a message addressed to this replica."""
        assert message.to == self.id, f"{message.to=} {self.id=}"
        self.wake()
        if message.term > self.term:
            if not self._meet_later_term(message):
                return
        elif message.term < self.term:
            self._meet_earlier_term(message)
            return
        kind = message.KIND
        if kind in (TAG_APPEND, TAG_HEARTBEAT, TAG_SNAPSHOT, TAG_FORTIFY):
            self._hear_leader(message, kind)
        elif self.role == LEADER and kind in (
            TAG_APPEND_REPLY, TAG_HEARTBEAT_REPLY, TAG_FORTIFY_REPLY, TAG_READ_INDEX
        ):  # fmt: skip
            self._hear_follower(message, kind)
        elif kind == TAG_VOTE:
            assert isinstance(message, Vote)
            election.take_vote(self, message)
        elif kind == TAG_VOTE_REPLY:
            assert isinstance(message, VoteReply)
            election.take_vote_reply(self, message)
        elif kind == TAG_TIMEOUT_NOW:
            if self.role == FOLLOWER:
                election.campaign_for_transfer(self)
        elif kind == TAG_READ_INDEX_REPLY:
            assert isinstance(message, ReadIndexReply)
            self.read_states.append(ReadState(message.index, message.context))
        elif kind == TAG_DEFORTIFY and self.role != LEADER:
            assert isinstance(message, Defortify)
            leases.take_defortify(self, message)

    def _meet_later_term(self, message: Message) -> bool:
        """Goes over to the message's term if it calls for that; False if it is to be ignored."""
        kind = message.KIND
        if kind == TAG_VOTE:
            assert isinstance(message, Vote)
            # One whom we promised support and who campaigns has given up its lease.
            is_former_lead = self.promise_lead == message.sender and self.lease_max == 0
            is_free = message.transfer or is_former_lead or leases.is_superseded(self, message)
            if not is_free and leases.is_leased(self):
                return False
            if message.pre:
                return True
        elif kind == TAG_VOTE_REPLY:
            assert isinstance(message, VoteReply)
            if message.pre and not message.reject:
                return True
        is_lead = kind in (TAG_APPEND, TAG_HEARTBEAT, TAG_SNAPSHOT, TAG_FORTIFY)
        become_follower(self, message.term, message.sender if is_lead else 0)
        return True

    def _meet_earlier_term(self, message: Message) -> None:
        """Tells one who lags of our term, where it would else be stuck (reliability 57)."""
        kind = message.KIND
        if kind in (TAG_APPEND, TAG_HEARTBEAT, TAG_SNAPSHOT, TAG_FORTIFY):
            if self.config.check_quorum or self.config.prevote or self.liveness is not None:
                self.messages.append(AppendReply(self.id, message.sender, self.term, 0, 0, True))
        elif kind == TAG_VOTE:
            assert isinstance(message, Vote)
            if message.pre:
                self.messages.append(VoteReply(self.id, message.sender, self.term, True, True))

    def _hear_leader(self, message: Message, kind: int) -> None:
        assert self.role != LEADER, f"two leaders in term {self.term}: {self.id} and {message.sender}"
        if self.role != FOLLOWER or self.lead != message.sender:
            assert self.lead == 0, f"two leaders in term {self.term}: {self.lead} and {message.sender}"
            become_follower(self, self.term, message.sender)
        self.election_elapsed = 0
        if kind == TAG_APPEND:
            assert isinstance(message, Append)
            following.take_append(self, message)
        elif kind == TAG_HEARTBEAT:
            assert isinstance(message, Heartbeat)
            following.take_heartbeat(self, message)
        elif kind == TAG_SNAPSHOT:
            assert isinstance(message, InstallSnapshot)
            following.take_snapshot(self, message)
        else:
            assert isinstance(message, Fortify)
            leases.take_fortify(self, message)

    def _hear_follower(self, message: Message, kind: int) -> None:
        if kind == TAG_APPEND_REPLY:
            assert isinstance(message, AppendReply)
            replication.take_append_reply(self, message)
            if self.transferee == message.sender:
                transfer.maybe_hand_over(self)
        elif kind == TAG_HEARTBEAT_REPLY:
            assert isinstance(message, HeartbeatReply)
            reading.take_heartbeat_reply(self, message)
        elif kind == TAG_READ_INDEX:
            assert isinstance(message, ReadIndex)
            reading.take_read_index(self, message)
        else:
            assert isinstance(message, FortifyReply)
            leases.take_fortify_reply(self, message)

    def tick(self) -> None:
        """Lets one unit of time pass; nothing happens while asleep."""
        if self.is_quiesced:
            return
        if self.role == LEADER:
            leading.tick(self)
        else:
            election.tick(self)
        self.idle_ticks += 1
        if self.idle_ticks >= self.config.quiesce_ticks and not self.has_ready() and sleeping.may_sleep(self):
            self.is_quiesced = True
            self.log.trim(0)

    def wake(self) -> None:
        """Ends sleep: the support given to, or had from, a member's store has begun or ended."""
        self.is_quiesced = False
        self.idle_ticks = 0

    def propose(self, data: bytes) -> int:
        """Appends data as leader; returns its index.  ``ProposalDropped`` as ``proposals.propose`` says."""
        self.wake()
        return proposals.propose(self, data, NORMAL)

    def propose_conf_change(self, change: ConfChange) -> int:
        """Proposes a change of the members; returns its index.  ``ProposalDropped`` as ``membership.propose_change``."""
        self.wake()
        return membership.propose_change(self, change)

    def transfer_leader(self, to: int) -> None:
        """Hands leadership over to a voter once it holds the whole log; until then proposals are dropped."""
        self.wake()
        transfer.transfer(self, to)

    def read_index(self, context: bytes) -> None:
        """Asks which index a read has to wait for; a ``ReadState`` with the same context answers."""
        self.wake()
        reading.read_index(self, context)

    def learn_committed(self, index: int, term: int) -> bool:
        """Is told by others than the leader that an entry is committed; False if it is not here."""
        if not self.log.has(index, term):
            return False
        self.wake()
        self.log.commit_to(index)
        return True

    def campaign(self) -> bool:
        """Begins an election now; False if the state or a promise forbids it."""
        self.wake()
        return election.hup(self)

    def forget_leader(self) -> bool:
        """As follower: knows no leader any more, so that it votes for others; False if it promised not to."""
        self.wake()
        if self.role != FOLLOWER or self.lead == 0 or leases.is_promised(self):
            return False
        # The election timeout goes on: forgetting does not put off an election that is due.
        self.lead = 0
        leases.lose_promise(self)
        return True

    def report_unreachable(self, id: int) -> None:
        """A message to a member was dropped on its way out."""
        if self.role == LEADER:
            replication.unreachable(self, id)

    def report_snapshot(self, id: int, is_sent: bool) -> None:
        """The bulk data of a snapshot has been delivered, or could not be."""
        if self.role == LEADER:
            replication.snapshot_ended(self, id, is_sent)

    def report_snapshot_progress(self, id: int) -> None:
        """A snapshot on its way to a member moves."""
        if id in self.progress:
            self.progress[id].snapshot_ticks = 0

    # --- what to do about it -----------------------------------------------------------

    def _flush(self) -> None:
        """As leader: turns what was noted since the last Ready into messages."""
        if not self.needs_flush and not self.needs_heartbeat and not self.early_reads:
            return
        if self.early_reads and self.log.term(self.log.commit) == self.term:
            reading.begin_early(self)
        if self.needs_heartbeat:
            self.needs_heartbeat = False
            replication.send_heartbeats(self, True)
        if self.needs_flush:
            replication.flush(self)

    def _is_saved(self) -> bool:
        """True if term, vote and promise are as last handed out."""
        saved = self._saved
        return (
            saved.term == self.term
            and saved.vote == self.vote
            and saved.lead == self.promise_lead
            and saved.lead_epoch == self.promise_epoch
        )

    def has_ready(self) -> bool:
        """True if ``ready`` would give something to do."""
        if self.role == LEADER:
            self._flush()
        log = self.log
        return (
            len(self.messages) > 0
            or len(self.after_sync) > 0
            or len(self.read_states) > 0
            or log.handed < log.last_index()
            or log.has_committed()
            or (log.snapshot is not None and not log.is_snapshot_handed)
            or not self._is_saved()
            or self._saved.commit != log.commit
        )

    def ready(self) -> Ready:
        """Hands out everything there is to do; each thing once."""
        if self.role == LEADER:
            self._flush()
        log = self.log
        self._ready_number += 1
        entries = log.take_unhanded()
        snapshot = log.take_snapshot()
        ready = Ready(self._mark())
        ready.entries = entries
        ready.snapshot = snapshot
        ready.must_sync = len(entries) > 0 or snapshot is not None or not self._is_saved()
        if ready.must_sync or self._saved.commit != log.commit:
            self._saved = ready.hard_state = self.hard_state()
        ready.messages = self.messages
        self.messages = []
        if self.after_sync:
            if ready.must_sync or self._sync_number > self._synced_number:
                ready.must_sync = True
                ready.after_sync = self.after_sync
            else:
                # All they depend on is durable.
                ready.messages.extend(self.after_sync)
            self.after_sync = []
        if ready.must_sync:
            self._sync_number = self._ready_number
        ready.committed = log.take_committed(self.config.apply_bytes_max)
        ready.read_states = self.read_states
        self.read_states = []
        self._last_ready = ready
        return ready

    def _mark(self) -> Mark:
        log = self.log
        return Mark(
            self._ready_number,
            self.term,
            self.promise_epoch if self.promise_lead == self.id else 0,
            log.accepted_term,
            log.handed,
            log.snapshot.index if log.snapshot is not None else 0,
        )

    # --- that it is done -----------------------------------------------------------------

    def is_syncing(self) -> bool:
        """True while a Ready that was handed out waits for its sync."""
        return self._sync_number > self._synced_number

    def synced(self, mark: Mark) -> None:
        """What the mark's Ready, and every one before it, asked to write is durable."""
        if mark.number <= self._synced_number:
            return
        self._synced_number = mark.number
        if mark.number >= self._sync_number:
            self.log.acknowledge_all()
        else:
            self.log.acknowledge(mark.accepted_term, mark.index, mark.snapshot_index)
        if mark.promise_epoch:
            leases.own_promise_durable(self, mark.promise_epoch)
        election.own_vote_durable(self, mark.term)
        if self.role == LEADER:
            replication.own_entries_durable(self)

    def applied(self, index: int) -> None:
        """The state machine holds everything up to ``index``."""
        self.log.applied_to(index)
        membership.maybe_leave_joint(self)

    def apply_conf_change(self, change: ConfChange) -> ConfState | None:
        """Makes a change effective, when its entry is applied; returns what to keep with the applied state.

        None: the change cannot be made from the configuration of now, on any replica; nothing changed.
        """
        return membership.apply_change(self, change)

    def advance(self) -> None:
        """The last Ready is handled wholly: synced, sent and applied."""
        ready = self._last_ready
        if ready is None:
            return
        self._last_ready = None
        if ready.must_sync:
            self.synced(ready.mark)
        if ready.committed:
            self.applied(ready.committed[-1].index)

    # --- looking at it ---------------------------------------------------------------------

    def lease_until(self) -> int:
        """As leader: the end of our lease, in the time of store liveness; 0: none.  Never moves back."""
        return leases.lease_until(self)

    def truncatable_to(self) -> int:
        """The index up to which the log may be truncated without harm to a follower that is heard from.

        What is not applied stays, and what a follower may yet need, probing, catching up or behind a
        snapshot (reliability 68); followers that are silent do not hold the log.
        """
        index = self.log.applied
        if self.role == LEADER:
            for id in self.peers:
                progress = self.progress[id]
                if progress.is_active or leases.is_supporter(self, id):
                    index = min(index, max(progress.match, progress.snapshot_index))
        return index

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation, after every call."""
        check(self)
