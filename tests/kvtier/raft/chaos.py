"""A group under a random schedule: everything that may go wrong, checked after every step.

The world draws one event at a time: a message arrives, is lost, is doubled, overtakes
another; a replica ticks, takes a Ready, syncs some of what it wrote, applies, crashes and
loses the rest; links break one way; members change, leadership is handed over, reads are
asked, logs truncated, stores lose support of each other.

Checked after every step (Raft paper, figure 3, and what our leases and reads promise):

    election safety        one leader a term, and never twice the same term
    votes                  one vote a term, whatever crashes
    log matching           an entry's (index, term) decides its data and its predecessor's term
    leader completeness    a new leader's log holds the last committed entry
    state machine safety   an index is applied with one entry everywhere
    commit                 monotone; what a leader commits is durable at a quorum
    leases                 no two at a time; none is ended by an election it should prevent
    reads                  an index at least as high as what was committed when asked

At the end everything is healed, and the group must agree and go on within a bound of ticks.
"""

from __future__ import annotations

import random
from typing import Any

from base.errors import ProposalDropped
from kvtier.raft import LEADER, ConfChange, Message, Ready, Step
from kvtier.raft.messages import (
    ADD_LEARNER,
    ADD_VOTER,
    AUTO,
    CONF,
    EXPLICIT,
    IMPLICIT,
    REMOVE,
    Vote,
    VoteReply,
    decode_conf_change,
    decode_message,
    encode,
)
from kvtier.raft.quorum import WON, joint_vote
from tests.kvtier.raft.cluster import Disk, Node, SeededRng, booted
from tests.kvtier.raft.stores import StoreLiveness, Stores

MOODS = ["calm", "elections", "members", "reads", "leases"]
TICKS = [1] * 15 + [12]
IN_FLIGHT_MAX = 60
HEAL_TICKS = 400


class ChaosNode(Node):
    """A replica whose driver is as lazy as it may be: what it took it applies, and syncs, some time."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.incarnation = 0
        self.unapplied: list[Ready] = []
        self.commit_seen = 0
        self.is_up = True

    def crash(self, kept: int) -> None:
        self.unapplied = []
        self.incarnation += 1
        super().crash(kept)
        self.commit_seen = 0


class Checker:
    """What has been seen so far, of which nothing may be contradicted."""

    def __init__(self) -> None:
        self.leaders: dict[int, tuple[int, int]] = {}
        self.votes: dict[tuple[int, int], int] = {}
        self.entries: dict[tuple[int, int], tuple[int, int, bytes]] = {}
        self.committed: dict[int, int] = {}
        self.commit_max = 0
        self.applied: dict[int, tuple[int, bytes]] = {}
        self.leases: dict[int, tuple[int, int]] = {}
        """Term -> (leader, latest end told)."""
        self.transfers: dict[int, bool] = {}
        self.reads: dict[bytes, int] = {}
        self.elections = 0
        self.reads_answered = 0
        self.leases_seen = 0

    def sent(self, message: Message) -> None:
        if isinstance(message, VoteReply) and not message.pre and not message.reject:
            before = self.votes.setdefault((message.term, message.sender), message.to)
            assert before == message.to, f"{message.sender} voted twice in {message.term}: {before}, {message.to}"
        if isinstance(message, Vote) and not message.pre:
            before = self.votes.setdefault((message.term, message.sender), message.sender)
            assert before == message.sender, f"{message.sender} voted for {before} and campaigns in {message.term}"
            if message.transfer:
                self.transfers[message.term] = True

    def entry_taken(self, node: ChaosNode, ready: Ready) -> None:
        for entry in ready.entries:
            content = (node.raft.log.term(entry.index - 1), entry.kind, entry.data)
            known = self.entries.setdefault((entry.index, entry.term), content)
            if content[0] >= 0:
                assert known == content, f"log matching: {entry.index=} {entry.term=} {known=} {content=}"

    def entry_applied(self, index: int, term: int, data: bytes) -> None:
        known = self.applied.setdefault(index, (term, data))
        assert known == (term, data), f"state machine safety: {index=} {known=} {(term, data)=}"


class World:
    """See the module docstring."""

    def __init__(self, seed: int, mood: str = "", with_codec: bool = False) -> None:
        """``mood`` is one of MOODS, what this world has most of; drawn if not given."""
        self.seed = seed
        self.random = rng = random.Random(seed)
        self.with_codec = with_codec
        self.checker = Checker()
        self.network: list[Message] = []
        self.blocked: dict[tuple[int, int], bool] = {}
        self.loss = rng.choice([0.0, 0.02, 0.1])
        self.mood = mood or rng.choice(MOODS)
        has_stores = rng.random() < 0.3 if self.mood != "leases" else True
        self.stores: Stores | None = Stores() if has_stores else None
        self.proposed = 0
        voters = rng.randint(3, 5)
        learners = rng.randint(0, 1)
        spares = rng.randint(0, 2)
        ids = list(range(1, voters + learners + spares + 1))
        options = self.drawn_options()
        options["quiet_commits"] = seed % 4 != 0
        self.nodes: dict[int, ChaosNode] = {}
        for id in ids:
            is_member = id <= voters + learners
            disk = booted(ids[:voters], ids[voters : voters + learners]) if is_member else Disk()
            liveness = None if self.stores is None else StoreLiveness(self.stores, id)
            self.nodes[id] = ChaosNode(id, disk, SeededRng(seed * 100 + id), liveness, **options)
            if self.stores is not None:
                self.stores.offsets[id] = rng.randint(-1, 1)
        self.events = self.drawn_events()

    def drawn_options(self) -> dict[str, Any]:
        rng = self.random
        return {
            "election_ticks": rng.choice([5, 10]),
            "heartbeat_ticks": rng.choice([1, 2]),
            "prevote": rng.random() < (0.2 if self.mood in ("elections", "reads") else 0.7),
            "check_quorum": rng.random() < (0.2 if self.mood in ("elections", "reads") else 0.7),
            "lease_reads": self.stores is not None and rng.random() < (0.9 if self.mood == "leases" else 0.5),
            "inflight_max": rng.choice([1, 3, 256]),
            "append_bytes_max": rng.choice([1, 60, 1 << 16]),
            "apply_bytes_max": rng.choice([1, 100, 1 << 20]),
            "tail_bytes_max": rng.choice([0, 1 << 16]),
            "snapshot_ticks_max": 20,
            "quiesce_ticks": rng.choice([2, 6]),
        }

    def drawn_events(self) -> list[tuple[Any, float]]:
        """Each kind of event with how often it comes in this world."""
        draw = self.random.choice
        mood = self.mood
        is_stormy = mood in ("elections", "reads")
        return [
            (self.deliver, 50.0),
            (self.tick, draw([1.5, 5.0])),
            (self.take, 25.0),
            (self.sync, draw([5.0, 20.0])),
            (self.apply, draw([3.0, 12.0])),
            (self.propose, draw([3.0, 9.0])),
            (self.read, 8.0 if mood == "reads" else 3.0 if mood == "leases" else 1.0),
            (self.change, 4.0 if mood == "members" else draw([0.0, 0.3])),
            (self.transfer, draw([0.0, 0.5])),
            (self.truncate, draw([0.0, 1.0])),
            (self.crash, 0.0 if mood == "calm" else draw([0.1, 1.0])),
            (self.block, 0.0 if mood == "calm" else draw([0.2, 0.8])),
            (self.unblock, draw([1.0, 3.0])),
            (self.campaign, draw([0.5, 1.5]) if is_stormy else draw([0.0, 0.4])),
            (self.disturb, 0.4),
            (self.pass_time, 4.0 if self.stores is not None else 0.0),
        ]

    # --- events ---------------------------------------------------------------------

    def some(self) -> ChaosNode:
        return self.nodes[self.random.choice(list(self.nodes))]

    def leader(self) -> ChaosNode | None:
        leaders = [node for node in self.nodes.values() if node.raft.role == LEADER]
        return self.random.choice(leaders) if leaders else None

    def send(self, messages: list[Message]) -> None:
        for message in messages:
            self.checker.sent(message)
            if self.blocked.get((message.sender, message.to)) or self.random.random() < self.loss:
                continue
            self.network.append(message)
            if self.random.random() < self.loss / 4:
                self.network.append(message)
        while len(self.network) > IN_FLIGHT_MAX:
            self.network.pop(self.random.randrange(len(self.network)))

    def deliver(self) -> None:
        """One message or many arrive."""
        for _ in range(self.random.choice([1, 1, 4, 16])):
            if not self.network:
                return
            # Mostly in order; else any message overtakes.
            place = 0 if self.random.random() < 0.7 else self.random.randrange(len(self.network))
            message = self.network.pop(place)
            if message.to not in self.nodes:
                continue
            if self.with_codec:
                message = decode_message(encode(message))
            node = self.nodes[message.to]
            node.raft.step(message)
            self.check(node)

    def tick(self) -> ChaosNode:
        """Time passes for one replica; sometimes a pause makes it a lot."""
        node = self.some()
        for _ in range(self.random.choice(TICKS)):
            node.raft.tick()
        return node

    def take(self) -> None:
        """Some of the replicas take their Readys."""
        for node in self.nodes.values():
            if self.random.random() < 0.4 and node.raft.has_ready():
                self.take_of(node)
                self.check(node)

    def take_of(self, node: ChaosNode) -> ChaosNode:
        ready = node.raft.ready()
        self.checker.entry_taken(node, ready)
        if ready.snapshot is not None:
            # Installing is applying: what was taken before is void.
            self.apply_of(node)
        node.write(ready)
        if ready.must_sync:
            node.syncing.append(ready)
        if ready.committed:
            node.unapplied.append(ready)
        self.send(ready.messages)
        for read in ready.read_states:
            if read.context in self.checker.reads:
                asked = self.checker.reads[read.context]
                assert read.index >= asked, f"stale read: {read.index=} {asked=}"
                self.checker.reads_answered += 1
        return node

    def sync(self) -> None:
        """Some of the syncs under way end."""
        for node in self.nodes.values():
            if node.syncing and self.random.random() < 0.4:
                self.sync_of(node, self.random.randint(1, len(node.syncing)))
                self.check(node)

    def sync_of(self, node: ChaosNode, count: int) -> None:
        """Makes the first ``count`` Readys durable, with whatever was written between them."""
        last = node.syncing[count - 1]
        node.settle(node.queue.index(last) + 1)
        done, node.syncing = node.syncing[:count], node.syncing[count:]
        for ready in done:
            self.send(ready.after_sync)
        node.raft.synced(last.mark)

    def apply(self) -> None:
        """Some of the replicas apply what they were given."""
        for node in self.nodes.values():
            if node.unapplied and self.random.random() < 0.4:
                self.apply_of(node)
                self.check(node)

    def apply_of(self, node: ChaosNode) -> None:
        for ready in node.unapplied:
            for entry in ready.committed:
                self.checker.entry_applied(entry.index, entry.term, entry.data)
                conf = None
                if entry.kind == CONF:
                    conf = node.raft.apply_conf_change(decode_conf_change(entry.data))
                node.disk.apply(entry, conf)
                node.queue.append((entry, conf))
            node.raft.applied(ready.committed[-1].index)
        node.unapplied = []

    def propose(self) -> ChaosNode | None:
        node = self.leader()
        if node is None:
            return None
        try:
            for _ in range(self.random.choice([1, 1, 3])):
                self.proposed += 1
                node.raft.propose(b"%d" % self.proposed)
        except ProposalDropped:
            pass
        return node

    def read(self) -> ChaosNode:
        node = self.some()
        context = b"%d" % len(self.checker.reads)
        try:
            node.raft.read_index(context)
        except ProposalDropped:
            return node
        self.checker.reads[context] = self.checker.commit_max
        return node

    def change(self) -> ChaosNode | None:
        node = self.leader()
        if node is None:
            return None
        rng = self.random
        if node.raft.conf.is_joint() and rng.random() < 0.7:
            change = ConfChange()
        else:
            ids = rng.sample(list(self.nodes), rng.randint(1, min(3, len(self.nodes))))
            steps = [Step(rng.choice([ADD_VOTER, ADD_VOTER, ADD_LEARNER, REMOVE]), id) for id in ids]
            change = ConfChange(steps, rng.choice([AUTO, IMPLICIT, EXPLICIT]))
        try:
            node.raft.propose_conf_change(change)
        except ProposalDropped:
            pass
        return node

    def transfer(self) -> ChaosNode | None:
        node = self.leader()
        if node is None:
            return None
        try:
            node.raft.transfer_leader(self.some().id)
        except ProposalDropped:
            pass
        return node

    def truncate(self) -> ChaosNode:
        node = self.some()
        # Truncation follows the sync of what was applied, as the store does it.
        index = self.random.randint(0, node.durable.applied)
        for disk in (node.disk, node.durable):
            if index <= disk.applied and index <= disk.log.last_index():
                disk.truncate(index)
        return node

    def crash(self) -> ChaosNode:
        node = self.some()
        node.crash(self.random.randint(0, len(node.queue)))
        if self.stores is not None:
            self.stores.restart(node.id)
        return node

    def block(self) -> None:
        ids = list(self.nodes)
        if self.random.random() < 0.5:
            self.blocked[self.random.choice(ids), self.random.choice(ids)] = True
            return
        side = self.random.sample(ids, self.random.randint(1, len(ids) // 2))
        for one in ids:
            for other in ids:
                if (one in side) != (other in side):
                    self.blocked[one, other] = True

    def unblock(self) -> None:
        if self.random.random() < 0.5:
            self.blocked.clear()
        elif self.blocked:
            del self.blocked[self.random.choice(list(self.blocked))]

    def campaign(self) -> ChaosNode:
        node = self.some()
        node.raft.campaign()
        return node

    def disturb(self) -> ChaosNode:
        node = self.some()
        draw = self.random.randrange(3)
        if draw == 0:
            node.raft.forget_leader()
        elif draw == 1:
            node.raft.report_unreachable(self.some().id)
        else:
            node.raft.report_snapshot(self.some().id, self.random.random() < 0.5)
        return node

    def pass_time(self) -> None:
        """Time goes on for stores; some pair exchanges a heartbeat."""
        assert self.stores is not None
        if self.random.random() < 0.3:
            self.stores.now += 1
        for _ in range(6):
            one, other = self.some().id, self.some().id
            self.exchange(one, other)

    def exchange(self, one: int, other: int) -> None:
        assert self.stores is not None
        if not self.blocked.get((one, other)):
            knows = (one, other) in self.stores.had
            self.stores.heartbeat(one, other, not self.blocked.get((other, one)))
            if knows != ((one, other) in self.stores.had):
                self.nodes[one].raft.wake()
                self.nodes[other].raft.wake()

    # --- checks ---------------------------------------------------------------------

    def check(self, node: ChaosNode) -> None:
        raft = node.raft
        raft.check()
        checker = self.checker
        log = raft.log
        assert log.commit >= node.commit_seen, f"commit went back: {node.commit_seen} to {log.commit}"
        for index in range(node.commit_seen + 1, log.commit + 1):
            term = log.term(index)
            if term >= 0:
                known = checker.committed.setdefault(index, term)
                assert known == term, f"{index=} was committed in term {known} and {term}"
        if raft.role == LEADER:
            if raft.term not in checker.leaders:
                self.check_new_leader(node)
            assert checker.leaders[raft.term] == (node.id, node.incarnation), f"two leaders in {raft.term}"
            if log.commit > node.commit_seen:
                self.check_durable(node)
            self.check_lease(node)
        checker.commit_max = max(checker.commit_max, log.commit)
        node.commit_seen = log.commit

    def check_new_leader(self, node: ChaosNode) -> None:
        checker = self.checker
        checker.elections += 1
        term = node.raft.term
        checker.leaders[term] = (node.id, node.incarnation)
        last = checker.commit_max
        if last in checker.committed:
            found = node.raft.log.term(last)
            assert found == checker.committed[last], f"leader completeness: {last=} {found=} in {term=}"
        if self.stores is None:
            return
        for earlier, (holder, until) in checker.leases.items():
            is_given_up = any(earlier < transfer <= term for transfer in checker.transfers)
            if earlier < term and holder != node.id and not is_given_up:
                assert self.stores.clock(holder) >= until, f"elected in {term} under the lease of {earlier}"

    def check_durable(self, node: ChaosNode) -> None:
        """What a leader says is committed is on a quorum of disks."""
        index = node.raft.log.commit
        term = self.checker.committed.get(index)
        votes = {}
        for other in self.nodes.values():
            log = other.durable.log
            votes[other.id] = log.truncated_index >= index or log.term(index) == term
        conf = node.raft.conf
        assert joint_vote(conf.voters, conf.outgoing, votes) == WON, f"{index=} is not durable at a quorum: {votes}"

    def check_lease(self, node: ChaosNode) -> None:
        if self.stores is None or self.random.random() < 0.5:
            return
        until = node.raft.lease_until()
        if until == 0:
            return
        term = node.raft.term
        _, before = self.checker.leases.get(term, (node.id, 0))
        assert until >= before, f"lease went back: {before} to {until}"
        self.checker.leases[term] = (node.id, until)
        self.checker.leases_seen += 1
        if self.stores.clock(node.id) >= until:
            return
        for later in self.checker.leaders:
            if later > term and later in self.checker.leases:
                holder, other = self.checker.leases[later]
                assert self.stores.clock(holder) >= other, f"leases of {term} and {later} at one time"

    # --- running ----------------------------------------------------------------------

    def run(self, steps: int) -> None:
        events = [event for event, _ in self.events]
        weights = [weight for _, weight in self.events]
        for event in self.random.choices(events, weights, k=steps):
            touched = event()
            if touched is not None:
                self.check(touched)

    def heal(self) -> None:
        """Takes every fault away; the members must then agree and go on."""
        self.blocked.clear()
        self.loss = 0.0
        marker = b""
        for tick in range(HEAL_TICKS):
            self.calm_round(tick)
            leader = self.newest_leader()
            if leader is None or leader.raft.conf.auto_leave:
                continue
            if not marker:
                try:
                    leader.raft.propose(b"healed")
                    marker = b"healed"
                except ProposalDropped:
                    pass
                self.check(leader)
                continue
            members = [self.nodes[id] for id in leader.raft.conf.members()]
            told = [node.disk.commands for node in members]
            if told[0] and told[0][-1][1] == marker and all(one == told[0] for one in told):
                return
            if tick % 50 == 49:
                marker = b""
        raise AssertionError(f"{self.seed=}: no progress in {HEAL_TICKS} ticks: {self.describe()}")

    def newest_leader(self) -> ChaosNode | None:
        leaders = [node for node in self.nodes.values() if node.raft.role == LEADER]
        return max(leaders, key=lambda node: node.raft.term) if leaders else None

    def calm_round(self, tick: int) -> None:
        """One tick of everybody, then messages until it is quiet."""
        if self.stores is not None:
            self.stores.now += 1
            for one in self.nodes:
                for other in self.nodes:
                    self.exchange(one, other)
        leader = self.newest_leader()
        members = None if leader is None else leader.raft.conf.members()
        for node in self.nodes.values():
            # Who was removed is taken away: it may never learn of it by itself.
            if members is None or node.id in members:
                node.raft.tick()
                self.check(node)
        for _ in range(30):
            for node in self.nodes.values():
                if node.raft.has_ready():
                    self.take_of(node)
                if node.syncing:
                    self.sync_of(node, len(node.syncing))
                self.apply_of(node)
                self.check(node)
            if not self.network:
                return
            arriving, self.network = self.network, []
            for message in arriving:
                if message.to in self.nodes:
                    self.nodes[message.to].raft.step(message)
                    self.check(self.nodes[message.to])

    def describe(self) -> str:
        return "; ".join(
            f"{node.id}: role {node.raft.role} term {node.raft.term} lead {node.raft.lead} commit {node.raft.log.commit} "
            f"applied {node.raft.log.applied} last {node.raft.log.last_index()} {node.raft.conf.describe()} "
            f"promise {node.raft.promise_lead}@{node.raft.promise_epoch}"
            for node in self.nodes.values()
        )
