"""Golden scripts of the machine: tests/scripts/raft, read as documentation, run as tests.

    # A comment tells the story.
    > group voters=1,2,3 index=10
    > campaign 1
    > settle
    > state
    1 leader term 1 ...

A line ``> command`` runs it; what it shows stands under it, up to the next command, comment or
blank line.  A command with ``!`` behind it shows every message on its way.  A group begins at ``index`` with term 0 for everybody.

    group voters= learners= index= options      replicas, and further ones (``empty``) that know nothing
    campaign, forget, heartbeat, election, tick (n [count])   one replica; a heartbeat's or an election timeout's ticks
    propose n data, change n steps [transition=] [drop], transfer n to, read n name
    ready n..     takes a Ready, writes, syncs, sends, applies;  take: without the sync;  sync n [count]: the sync
    deliver n..   what is on its way to n arrives;  drop n..: is lost;  settle [n..]: all of both until nothing moves
    state, log, progress, conf, disk, commands          shows what is so
"""

from __future__ import annotations

from typing import Any

from base.errors import ProposalDropped
from kvtier.raft import ConfChange, ConfState, Message, Raft, Ready, Step
from kvtier.raft.confchange import Configuration, changed, enter_joint, leave_joint, simple
from kvtier.raft.core import ROLE_NAMES
from kvtier.raft.messages import (
    ADD_LEARNER,
    ADD_VOTER,
    AUTO,
    CONF,
    EXPLICIT,
    IMPLICIT,
    REMOVE,
    UPDATE,
    Append,
    AppendReply,
    Defortify,
    Entry,
    Fortify,
    FortifyReply,
    HardState,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Vote,
    VoteReply,
    decode_conf_change,
)
from kvtier.raft.progress import STATE_NAMES
from kvtier.raft.quorum import joint_reached, joint_vote
from tests.kvtier.raft.cluster import Disk, Node, SeededRng, booted
from tests.kvtier.raft.stores import StoreLiveness, Stores

ROUNDS_MAX = 200
KINDS = {"v": ADD_VOTER, "l": ADD_LEARNER, "r": REMOVE, "u": UPDATE}
TRANSITIONS = {"auto": AUTO, "implicit": IMPLICIT, "explicit": EXPLICIT}


def show_entry(entry: Entry) -> str:
    if entry.kind == CONF:
        change = decode_conf_change(entry.data)
        letters = {kind: letter for letter, kind in KINDS.items()}
        steps = " ".join([f"{letters[step.kind]}{step.id}" for step in change.steps])
        return f"{entry.index}/{entry.term} change({steps})"
    return f"{entry.index}/{entry.term}" + (f" {entry.data.decode()}" if entry.data else "")


def show_conf(conf: ConfState) -> str:
    return Configuration(conf.voters, conf.outgoing, conf.learners, conf.learners_next, conf.auto_leave).describe()


def show_message(message: Message) -> str:
    text = f"{message.sender}->{message.to} term {message.term} "
    if isinstance(message, Append):
        entries = "".join([f" [{show_entry(entry)}]" for entry in message.entries])
        return text + f"append after {message.prev_index}/{message.prev_term} commit {message.commit}{entries}"
    if isinstance(message, AppendReply):
        if message.reject:
            return text + f"refused after {message.index}, perhaps {message.hint_index}/{message.hint_term}"
        return text + f"holds {message.index} commit {message.commit}"
    if isinstance(message, Heartbeat):
        return text + f"heartbeat commit {message.commit}" + (f" read {message.context}" if message.context else "")
    if isinstance(message, HeartbeatReply):
        return text + "heard" + (f" read {message.context}" if message.context else "")
    if isinstance(message, Vote):
        asked = "prevote" if message.pre else "vote"
        return (
            text
            + f"asks {asked} at {message.last_index}/{message.last_term}"
            + (" transfer" if message.transfer else "")
        )
    if isinstance(message, VoteReply):
        return text + ("refuses " if message.reject else "gives ") + ("prevote" if message.pre else "vote")
    if isinstance(message, InstallSnapshot):
        snapshot = message.snapshot
        return text + f"snapshot {snapshot.index}/{snapshot.term} {show_conf(snapshot.conf)}"
    if isinstance(message, FortifyReply):
        return text + (f"promises support at epoch {message.epoch}" if message.epoch else "promises nothing")
    if isinstance(message, Fortify):
        return text + "asks for support"
    if isinstance(message, Defortify):
        return text + "needs no support any more"
    return text + type(message).__name__.lower()


class Scene:
    """The replicas of one script."""

    def __init__(self) -> None:
        self.nodes: dict[int, Node] = {}
        self.network: list[Message] = []
        self.options: dict[str, Any] = {}
        self.stores: Stores | None = None
        self.is_loud = False
        self.out: list[str] = []

    # --- running ----------------------------------------------------------------

    def run(self, line: str) -> list[str]:
        """Runs one command; returns what it shows."""
        self.out = []
        self.is_loud = line.endswith("!")
        words = line.rstrip("!").split()
        named = dict([word.split("=", 1) for word in words[1:] if "=" in word])
        plain = [word for word in words[1:] if "=" not in word]
        command = getattr(self, f"do_{words[0].replace('-', '_')}")
        try:
            command(*plain, **named)
        except ProposalDropped as dropped:
            self.out.append(f"dropped: {dropped.reason}")
        for node in self.nodes.values():
            node.raft.check()
        return self.out

    def raft(self, id: str) -> Raft:
        return self.nodes[int(id)].raft

    def chosen(self, ids: tuple[str, ...]) -> list[Node]:
        return [self.nodes[int(id)] for id in ids] if ids else list(self.nodes.values())

    def show(self, text: str) -> None:
        self.out.append(text)

    def send(self, messages: list[Message]) -> None:
        for message in messages:
            if self.is_loud:
                self.show(show_message(message))
            self.network.append(message)

    # --- setting up ----------------------------------------------------------------

    def do_group(self, voters: str, learners: str = "", index: str = "10", stores: str = "no", **options: str) -> None:
        members = [int(id) for id in voters.split(",")]
        learning = [int(id) for id in learners.split(",") if id]
        self.options = {"prevote": False, "check_quorum": False, "quiet_commits": False}
        for name, value in options.items():
            self.options[name] = value == "yes" if value in ("yes", "no") else int(value)
        if stores == "yes":
            self.stores = Stores()
            self.all_support(members + learning)
        for id in members + learning:
            self.add(id, booted(members, learning, int(index), 1))
            self.nodes[id].disk.state = HardState(0, 0, int(index))
            self.nodes[id].disk.log.truncated_term = 0
            self.restart(self.nodes[id])

    def do_empty(self, *ids: str) -> None:
        for id in ids:
            self.add(int(id), Disk())

    def do_behind(self, id: str, voters: str, index: str) -> None:
        """A replica whose log ends earlier than that of the others."""
        disk = booted([int(voter) for voter in voters.split(",")], [], int(index), 0)
        disk.state = HardState(0, 0, int(index))
        self.add(int(id), disk)

    def add(self, id: int, disk: Disk) -> None:
        liveness = None if self.stores is None else StoreLiveness(self.stores, id)
        self.nodes[id] = Node(id, disk, SeededRng(id), liveness, **self.options)

    def restart(self, node: Node) -> None:
        node.durable = node.disk.copy()
        node.raft = node.start()

    def all_support(self, ids: list[int]) -> None:
        assert self.stores is not None
        for one in ids:
            for other in ids:
                self.stores.heartbeat(one, other, True)

    def do_time(self, ticks: str, *alive: str) -> None:
        """Time passes for the stores; those named heartbeat each other all the while."""
        assert self.stores is not None
        for _ in range(int(ticks)):
            self.stores.now += 1
            self.all_support([int(id) for id in alive])

    def do_crash(self, *ids: str) -> None:
        for node in self.chosen(ids):
            node.crash(0)

    # --- calls ----------------------------------------------------------------------

    def do_campaign(self, id: str) -> None:
        if not self.raft(id).campaign():
            self.show("no campaign")

    def do_forget(self, id: str) -> None:
        if not self.raft(id).forget_leader():
            self.show("nothing forgotten")

    def do_tick(self, id: str, count: str = "1") -> None:
        for _ in range(int(count)):
            self.raft(id).tick()

    def do_heartbeat(self, id: str) -> None:
        self.do_tick(id, str(self.raft(id).config.heartbeat_ticks))

    def do_election(self, id: str) -> None:
        self.do_tick(id, str(self.raft(id).config.election_ticks))

    def do_timeout(self, id: str, ticks: str) -> None:
        """Fixes what was drawn."""
        self.raft(id).election_timeout = int(ticks)

    def do_propose(self, id: str, *data: str) -> None:
        for one in data:
            self.raft(id).propose(one.encode())

    def do_change(self, id: str, *steps: str, transition: str = "auto") -> None:
        listed = [Step(KINDS[step[0]], int(step[1:])) for step in steps]
        self.raft(id).propose_conf_change(ConfChange(listed, TRANSITIONS[transition]))

    def do_transfer(self, id: str, to: str) -> None:
        self.raft(id).transfer_leader(int(to))

    def do_read(self, id: str, name: str) -> None:
        self.raft(id).read_index(name.encode())

    def do_unreachable(self, id: str, peer: str) -> None:
        self.raft(id).report_unreachable(int(peer))

    def do_snapshot_failed(self, id: str, peer: str) -> None:
        self.raft(id).report_snapshot(int(peer), False)

    def do_send_snapshot(self, id: str, to: str) -> None:
        """By hand, without the leader's progress knowing of it."""
        node = self.nodes[int(id)]
        self.send([InstallSnapshot(node.id, int(to), node.raft.term, node.disk.snapshot())])

    def do_compact(self, id: str, index: str) -> None:
        self.nodes[int(id)].disk.truncate(int(index))
        self.nodes[int(id)].durable.truncate(int(index))

    # --- Readys -----------------------------------------------------------------------

    def do_take(self, *ids: str) -> None:
        for node in self.chosen(ids):
            if node.raft.has_ready():
                self.show_ready(node, *node.take_ready())

    def show_ready(self, node: Node, ready: Ready, messages: list[Message]) -> None:
        if self.is_loud:
            parts = [f"write [{show_entry(entry)}]" for entry in ready.entries]
            if ready.must_sync and ready.hard_state is not None:
                parts.append(f"state term {ready.hard_state.term} vote {ready.hard_state.vote}")
            if ready.snapshot is not None:
                parts.append(f"install {ready.snapshot.index}")
            parts += [f"apply [{show_entry(entry)}]" for entry in ready.committed]
            parts.append("sync" if ready.must_sync else "no sync")
            self.show(f"{node.id}: " + ", ".join(parts))
        self.send(messages)

    def do_sync(self, id: str, count: str = "") -> None:
        """Ends the oldest ``count`` syncs under way, or all."""
        node = self.nodes[int(id)]
        done = node.syncing[: int(count) if count else len(node.syncing)]
        if not done:
            return
        node.settle(node.queue.index(done[-1]) + 1)
        node.syncing = node.syncing[len(done) :]
        for ready in done:
            self.send(ready.after_sync)
        node.raft.synced(done[-1].mark)

    def do_ready(self, *ids: str) -> None:
        for node in self.chosen(ids):
            if node.raft.has_ready():
                self.show_ready(node, *node.take_ready())
            self.do_sync(str(node.id))

    def do_deliver(self, *ids: str, kind: str = "") -> None:
        chosen = {node.id: True for node in self.chosen(ids)}
        arriving = [m for m in self.network if m.to in chosen and kind in ("", type(m).__name__.lower())]
        self.network = [m for m in self.network if m not in arriving]
        for message in arriving:
            self.nodes[message.to].raft.step(message)

    def do_drop(self, *ids: str) -> None:
        lost = [int(id) for id in ids]
        for message in self.network:
            if self.is_loud and (message.to in lost or not lost):
                self.show("lost: " + show_message(message))
        self.network = [m for m in self.network if lost and m.to not in lost]

    def do_settle(self, *ids: str) -> None:
        """Readys and messages of the chosen replicas until nothing moves."""
        nodes = self.chosen(ids)
        for _ in range(ROUNDS_MAX):
            before = len(self.network)
            is_idle = not any(node.raft.has_ready() or node.syncing for node in nodes)
            if is_idle and not any(message.to == node.id for message in self.network for node in nodes):
                return
            for node in nodes:
                self.do_ready(str(node.id))
            for node in nodes:
                self.do_deliver(str(node.id))
            self.network = [m for m in self.network if m.to in self.nodes or len(self.network) == before]
        raise AssertionError(f"not settled in {ROUNDS_MAX} rounds")

    # --- looking ----------------------------------------------------------------------

    def do_state(self, *ids: str) -> None:
        for node in self.chosen(ids):
            raft = node.raft
            place = (
                "voter" if raft.conf.is_voter(node.id) else "learner" if node.id in raft.conf.learners else "outside"
            )
            lead = f"lead {raft.lead}" if raft.lead else "no lead"
            promise = f" promised {raft.promise_lead}" if raft.promise_epoch else ""
            asleep = " asleep" if raft.is_quiesced else ""
            self.show(
                f"{node.id} {ROLE_NAMES[raft.role]} {place} term {raft.term} {lead} commit {raft.log.commit}{promise}{asleep}"
            )

    def do_log(self, *ids: str) -> None:
        """The log as the machine sees it."""
        for node in self.chosen(ids):
            log = node.raft.log
            entries = log.entries(log.first_index(), log.last_index() + 1, 1 << 30)
            self.show(f"{node.id}: " + " ".join([f"[{show_entry(entry)}]" for entry in entries]))

    def do_disk(self, *ids: str) -> None:
        """The durable log, and how much of it the machine knows to be so."""
        for node in self.chosen(ids):
            entries = " ".join([f"[{show_entry(entry)}]" for entry in node.durable.log.stored])
            self.show(f"{node.id}: {entries} stable {node.raft.log.stable}")

    def do_progress(self, id: str) -> None:
        raft = self.raft(id)
        for peer in sorted(raft.progress):
            p = raft.progress[peer]
            text = f"{peer} {STATE_NAMES[p.state]} match {p.match} next {p.next}"
            if p.is_learner:
                text += " learner"
            if p.state == 1 and p.inflights.count():
                text += f" inflight {p.inflights.count()}" + (" full" if p.inflights.is_full() else "")
            if p.is_paused:
                text += " paused"
            if p.snapshot_index:
                text += f" snapshot {p.snapshot_index}"
            self.show(text)

    def do_conf(self, *ids: str) -> None:
        for node in self.chosen(ids):
            self.show(f"{node.id} {node.raft.conf.describe()}")

    def do_commands(self, *ids: str) -> None:
        for node in self.chosen(ids):
            self.show(f"{node.id}: " + " ".join([data.decode() for _, data in node.disk.commands]))

    def do_reads(self, *ids: str) -> None:
        for node in self.chosen(ids):
            self.show(f"{node.id}: " + " ".join([f"{name.decode()} at {index}" for index, name in node.reads]))

    def do_lease(self, id: str) -> None:
        self.show(f"lease until {self.raft(id).lease_until()}")


class Arithmetic:
    """Commands on quorums and configurations alone."""

    def __init__(self) -> None:
        self.conf = Configuration([], [], [], [], False)

    def run(self, line: str) -> list[str]:
        words = line.split()
        named = dict([word.split("=", 1) for word in words[1:] if "=" in word])
        plain = [word for word in words[1:] if "=" not in word]
        if words[0] in ("commit", "vote"):
            return [self.decide(words[0], named)]
        return [self.change(words[0], plain, named)]

    def decide(self, what: str, named: dict[str, str]) -> str:
        voters = [int(id) for id in named["voters"].split(",") if id]
        outgoing = [int(id) for id in named.get("outgoing", "").split(",") if id]
        told = [word.split(":") for word in named.get("told", "").split(",") if word]
        if what == "commit":
            reached = joint_reached(voters, outgoing, {int(id): int(index) for id, index in told})
            return "everything" if reached == (1 << 63) - 1 else str(reached)
        return ("pending", "won", "lost")[joint_vote(voters, outgoing, {int(id): said == "y" for id, said in told})]

    def change(self, how: str, steps: list[str], named: dict[str, str]) -> str:
        listed = [Step(KINDS[step[0]], int(step[1:])) for step in steps]
        if how == "simple":
            after, reason = simple(self.conf, listed)
        elif how == "enter":
            after, reason = enter_joint(self.conf, listed, named.get("auto_leave") == "yes")
        elif how == "leave":
            after, reason = leave_joint(self.conf)
        else:
            after, reason = changed(self.conf, ConfChange(listed, TRANSITIONS[how]))
        if after is None:
            return f"cannot: {reason}"
        self.conf = after
        return after.describe()
