"""What nodes have promised each other, remembered beside them: they must keep it, whatever happens to them.

Every message between stores is read as it is handed to the network.  What a correct node says is durable by
then, so it counts whether or not it arrives (reliability 3.2, I1 and I3).

    votes     a replica votes once in a term; after a restart it knows its term and whom it voted for
    entries   what it said it holds is in its log after a restart
    support   a store stands by another until its own clock has passed what it promised; an epoch that it has
              withdrawn it supports never again
    closed    no entry that is proposed after a promise writes at or below it; followers serve no more than
              what was promised at an index they have applied
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, Final

from base.seams import CF_DATA
from kvtier.command import decode_command
from kvtier.descriptors import DATA_START
from kvtier.engine.batch import PUT
from kvtier.mvcc.versions import SUFFIX, ts_of
from kvtier.raft.messages import NORMAL, AppendReply, Entry, Vote, VoteReply, decode_message
from kvtier.raft.storage import EngineLog, replica_id_of
from kvtier.replication.envelope import CHANNEL, Closed, decode_envelope
from sim.invariants import Violation

if TYPE_CHECKING:
    from kvtier.raft.messages import Message
    from kvtier.replication.envelope import Envelope
    from kvtier.replication.group import Group
    from kvtier.replication.idle import Idle
    from kvtier.replication.liveness import Supported
    from sim.process import Process

APPEND_OR_VOTE: Final = (AppendReply, Vote, VoteReply)


class Told:
    """What one replica has said."""

    __slots__ = ("index", "index_term", "term", "vote")

    def __init__(self) -> None:
        self.term = 0
        """The highest in which it voted, and for whom."""
        self.vote = 0
        self.index_term = 0
        """The highest in which it said that it holds the log, and up to where."""
        self.index = 0


class SaidIdle:
    """What one store has told another of the idle ranges that it leads, as it was said, not as it arrived."""

    def __init__(self) -> None:
        self._members: dict[int, tuple[int, int, int]] = {}
        """Range -> (bucket, term, index)."""
        self._buckets: dict[int, int] = {}

    def hear(self, idle: Idle) -> list[Closed]:
        """Takes a message; returns what it promises, range by range."""
        if idle.is_whole:
            self._members.clear()
            self._buckets.clear()
        for range_id in idle.left:
            self._members.pop(range_id, None)
        for range_id, bucket_id, term, index in idle.entered:
            self._members[range_id] = bucket_id, term, index
        self._buckets.update(dict(idle.closings))
        return [
            Closed(range_id, term, index, self._buckets.get(bucket_id, 0))
            for range_id, (bucket_id, term, index) in self._members.items()
        ]


class Promises:
    """See the module docstring."""

    def __init__(self) -> None:
        self._told: dict[tuple[int, int, int], Told] = {}
        """(Node, range, replica id)."""
        self._support: dict[tuple[int, int], tuple[int, int]] = {}
        """(Supporter, supported) -> (epoch, expiration)."""
        self._withdrawn: dict[tuple[int, int], int] = {}
        """(Supporter, once supported) -> the least epoch that may be supported."""
        self._closed: dict[int, list[tuple[int, int, int]]] = {}
        """Range -> (term, index, the highest timestamp closed up to there), ascending."""
        self._idle: dict[tuple[int, int], SaidIdle] = {}
        """By sender and receiver."""
        self._have_led: dict[tuple[str, int], None] = {}
        """(Node's life, range): what it has closed itself it need not be told."""
        self._broken: Violation | None = None

    # --- what is said ---------------------------------------------------------------

    def hear(self, source: int, target: int, channel: str, message: bytes) -> None:
        """Takes a message between nodes; what it breaks is told later, not to the node that is sending."""
        if channel == CHANNEL and self._broken is None:
            try:
                self._hear(source, target, decode_envelope(message))
            except Violation as violation:
                self._broken = violation

    def check_heard(self) -> None:
        """Raises what was broken by what was said."""
        if self._broken is not None:
            raise self._broken

    def _hear(self, source: int, target: int, envelope: Envelope) -> None:
        for item in envelope.items:
            said = decode_message(item.message)
            if isinstance(said, APPEND_OR_VOTE):
                self._hear_raft(source, item.range_id, said)
        if envelope.supported is not None:
            self._hear_support(source, target, envelope.supported)
        for closed in envelope.closed:
            self._hear_closed(closed)
        if envelope.idle is not None:
            idle = self._idle.setdefault((source, target), SaidIdle())
            for closed in idle.hear(envelope.idle):
                self._hear_closed(closed)

    def _hear_raft(self, node_id: int, range_id: int, said: Message) -> None:
        told = self._told.setdefault((node_id, range_id, said.sender), Told())
        if isinstance(said, AppendReply):
            if not said.reject and (said.term, said.index) > (told.index_term, told.index):
                told.index_term, told.index = said.term, said.index
        elif isinstance(said, Vote):
            if not said.pre:
                self._hear_vote(told, range_id, said.sender, said.term, said.sender)
        elif isinstance(said, VoteReply) and not said.pre and not said.reject:
            self._hear_vote(told, range_id, said.sender, said.term, said.to)

    def _hear_vote(self, told: Told, range_id: int, voter: int, term: int, candidate: int) -> None:
        if term < told.term:
            return  # Of an earlier campaign, sent again.
        if term == told.term and candidate != told.vote:
            raise Violation(
                "a replica votes once in a term",
                f"range {range_id}: replica {voter} in term {term} for {told.vote}, then for {candidate}",
            )
        told.term, told.vote = term, candidate

    def _hear_support(self, source: int, target: int, supported: Supported) -> None:
        pair = source, target
        if not supported.expiration:
            self._withdrawn[pair] = max(self._withdrawn.get(pair, 0), supported.epoch)
            return
        if supported.epoch < self._withdrawn.get(pair, 0):
            raise Violation(
                "an epoch that was withdrawn is not supported again",
                f"node {source} supports node {target} at {supported.epoch}, after {self._withdrawn[pair]}",
            )
        given = supported.epoch, supported.expiration
        self._support[pair] = max(self._support.get(pair, (0, 0)), given)

    def _hear_closed(self, closed: Closed) -> None:
        promised = self._closed.setdefault(closed.range_id, [])
        place = bisect_left(promised, (closed.term, closed.index + 1, 0))
        before = promised[place - 1][2] if place else 0
        if closed.ts > before:
            insort(promised, (closed.term, closed.index, closed.ts))
            for later in range(place + 1, len(promised)):
                term, index, ts = promised[later]
                promised[later] = term, index, max(ts, closed.ts)

    # --- what must hold ---------------------------------------------------------------

    def check_restarted(self, process: Process) -> None:
        """A node that has just started, from what its disk kept, knows what it has said."""
        engine = process.engine
        for (node_id, range_id, replica_id), told in self._told.items():
            if node_id != process.node_id or replica_id_of(engine, range_id) != replica_id:
                continue
            log = EngineLog(engine, range_id, lambda: None)  # It makes no snapshot.
            state = log.hard_state()
            who = f"{process.name} range {range_id}"
            if (state.term, state.vote) < (told.term, 0) or (state.term == told.term and state.vote != told.vote):
                raise Violation(
                    "a vote is known after a restart",
                    f"{who}: for {told.vote} in term {told.term}, but it has term {state.term} and vote {state.vote}",
                )
            # A leader of a later term may have cut the log, and was not answered yet.
            if state.term < told.index_term or (state.term == told.index_term and log.last_index() < told.index):
                raise Violation(
                    "entries that were acknowledged are there after a restart",
                    f"{who}: up to {told.index} in term {told.index_term}, but it has {log.last_index()} in {state.term}",
                )

    def check_support(self, process: Process) -> None:
        """Support stands until the supporter's clock has passed the time it was promised for."""
        assert process.member is not None, process.name
        if process.is_restored:
            return
        stores = process.member.replication.stores
        now = process.store.hlc.latest
        for (source, target), (epoch, expiration) in self._support.items():
            if source != process.node_id or now > expiration:
                continue
            stands, is_given = stores.support_for(target, now)
            # Just after a start it counts everybody as supported, at whatever epoch.
            if not is_given:
                raise Violation(
                    "support stands as long as was promised",
                    f"{process.name} of node {target}: epoch {epoch} until {expiration:x}, at {now:x} it has {stands}",
                )

    def check_follower(self, process: Process, range_id: int, group: Group) -> None:
        """What a follower serves was closed at an index that it has applied."""
        life = process.scope.name, range_id
        if group.is_leading():
            self._have_led[life] = None
        if not group.closed_here or life in self._have_led:
            return
        allowed = 0
        for _, index, ts in self._closed.get(range_id, ()):
            if index <= group.applied_index:
                allowed = max(allowed, ts)
        if group.closed_here > allowed:
            raise Violation(
                "followers serve what was closed at an index they have applied",
                f"{process.name} range {range_id}: {group.closed_here:x}, applied {group.applied_index}: {allowed:x}",
            )

    def check_entry(self, range_id: int, entry: Entry) -> None:
        """What an entry writes is above all that was closed before it was proposed (reliability 43)."""
        if entry.kind != NORMAL or not entry.data:
            return
        promised = self._closed.get(range_id)
        place = 0 if promised is None else bisect_left(promised, (entry.term, entry.index, 0))
        if promised is None or not place:
            return
        closed = promised[place - 1][2]
        command = decode_command(entry.data)
        resolved = dict.fromkeys([key for key, _ in command.resolved])
        written = [
            (key[:-SUFFIX], ts_of(key[-SUFFIX:]))
            for kind, family, key, _ in command.ops
            if kind == PUT and family == CF_DATA and key >= DATA_START and key[:-SUFFIX] not in resolved
        ]
        written += [(key, write_ts) for key, _, write_ts, _ in command.intents if key >= DATA_START]
        for key, ts in written:
            if ts <= closed:
                raise Violation(
                    "nothing is written below what is closed",
                    f"range {range_id} index {entry.index}: {key!r} at {ts:x}, closed {closed:x}",
                )
