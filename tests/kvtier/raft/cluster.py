"""A group of machines in one process, with disks that forget and a network that the test owns.

A disk is a queue of writes over what is durable: a sync makes the queue durable, a crash
keeps a prefix of it, as a write-ahead log does.  Applied state is written through the same
queue, so that it never gets ahead of the log after a crash.
"""

from __future__ import annotations

import random
from typing import Any

from base.seams import Rng
from kvtier.raft import Config, ConfState, Entry, HardState, MemoryLog, Message, Raft, Ready, Snapshot
from kvtier.raft.liveness import Liveness
from kvtier.raft.messages import CONF, decode_conf_change


class SeededRng(Rng):
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def bytes(self, n: int) -> bytes:
        return self._random.randbytes(n)

    def below(self, n: int) -> int:
        return self._random.randrange(n)

    def random(self) -> float:
        return self._random.random()


class DiskLog(MemoryLog):
    """Gives a snapshot of what is applied now, unless one was put there."""

    def __init__(self, disk: Disk) -> None:
        super().__init__()
        self.disk = disk
        self.is_busy = False
        """No snapshot can be had."""

    def snapshot(self) -> Snapshot | None:
        if self.is_busy:
            return None
        return self.image if self.image is not None else self.disk.snapshot()


class Disk:
    """Log, hard state and applied state of one replica."""

    def __init__(self) -> None:
        self.log = DiskLog(self)
        self.state = HardState()
        self.conf = ConfState()
        self.applied = 0
        self.commands: list[tuple[int, bytes]] = []
        """What the state machine was told: (index, data) of every entry with data."""

    def copy(self) -> Disk:
        other = Disk()
        other.log.truncated_index = self.log.truncated_index
        other.log.truncated_term = self.log.truncated_term
        other.log.stored = list(self.log.stored)
        other.log.image = self.log.image
        other.state, other.conf, other.applied = self.state, self.conf, self.applied
        other.commands = list(self.commands)
        return other

    def write(self, ready: Ready) -> None:
        """Step 1 of a Ready."""
        if ready.snapshot is not None:
            self.install(ready.snapshot)
        self.log.append(ready.entries)
        if ready.hard_state is not None:
            self.state = ready.hard_state

    def install(self, snapshot: Snapshot) -> None:
        self.log.install(snapshot)
        self.log.image = None
        self.conf = snapshot.conf
        self.applied = snapshot.index
        self.commands = decode_commands(snapshot.data)

    def apply(self, entry: Entry, conf: ConfState | None) -> None:
        assert entry.index == self.applied + 1, f"{entry.index=} {self.applied=}"
        self.applied = entry.index
        if conf is not None:
            self.conf = conf
        if entry.data and entry.kind != CONF:
            self.commands.append((entry.index, entry.data))

    def snapshot(self) -> Snapshot:
        term = self.log.term(self.applied)
        return Snapshot(self.applied, term, self.conf, encode_commands(self.commands))

    def truncate(self, index: int) -> None:
        """Forgets the log up to ``index``."""
        self.log.truncate(min(index, self.applied))


def encode_commands(commands: list[tuple[int, bytes]]) -> bytes:
    return b"".join([b"%d:%d:%s" % (index, len(data), data) for index, data in commands])


def decode_commands(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        index, size, rest = data.split(b":", 2)
        found.append((int(index), rest[: int(size)]))
        data = rest[int(size) :]
    return found


class Node:
    """One replica: its machine, its disk, and the Readys that are being synced."""

    def __init__(self, id: int, disk: Disk, rng: Rng, liveness: Liveness | None = None, **options: Any) -> None:
        self.id = id
        self.rng = rng
        self.liveness = liveness
        self.options = options
        self.disk = disk
        self.durable = disk.copy()
        self.queue: list[Any] = []
        """Writes that are not durable: a Ready or (entry, conf)."""
        self.syncing: list[Ready] = []
        self.reads: list[tuple[int, bytes]] = []
        self.raft = self.start()

    def start(self) -> Raft:
        disk = self.disk
        config = Config(self.id, **self.options)
        return Raft(config, disk.log, disk.state, disk.conf, disk.applied, self.rng, self.liveness)

    def take_ready(self) -> tuple[Ready, list[Message]]:
        """Writes and applies a Ready; returns it and the messages that may leave now."""
        ready = self.raft.ready()
        self.write(ready)
        if ready.must_sync:
            self.syncing.append(ready)
        self.apply(ready)
        return ready, ready.messages

    def write(self, ready: Ready) -> None:
        self.disk.write(ready)
        self.queue.append(ready)

    def apply(self, ready: Ready) -> None:
        for entry in ready.committed:
            conf = self.raft.apply_conf_change(decode_conf_change(entry.data)) if entry.kind == CONF else None
            self.disk.apply(entry, conf)
            self.queue.append((entry, conf))
        if ready.committed:
            self.raft.applied(ready.committed[-1].index)
        self.reads += [(read.index, read.context) for read in ready.read_states]

    def settle(self, count: int | None = None) -> None:
        """Makes the first ``count`` queued writes durable."""
        count = len(self.queue) if count is None else count
        for write in self.queue[:count]:
            if isinstance(write, Ready):
                self.durable.write(write)
            else:
                self.durable.apply(*write)
        del self.queue[:count]

    def sync(self) -> list[Message]:
        """Syncs everything; returns the messages that waited for it."""
        self.settle()
        messages: list[Message] = []
        for ready in self.syncing:
            messages += ready.after_sync
        if self.syncing:
            self.raft.synced(self.syncing[-1].mark)
        self.syncing = []
        return messages

    def handle(self) -> list[Message]:
        """Takes a Ready and syncs it; returns all messages."""
        _, messages = self.take_ready()
        return messages + self.sync()

    def crash(self, kept: int) -> None:
        """Loses every unsynced write but the first ``kept``, and starts anew."""
        self.settle(kept)
        self.queue = []
        self.syncing = []
        self.disk = self.durable.copy()
        self.raft = self.start()


def booted(voters: list[int], learners: list[int] | None = None, index: int = 1, term: int = 1) -> Disk:
    """A disk whose state machine begins, with these members, at an index."""
    disk = Disk()
    disk.log.truncated_index = index
    disk.log.truncated_term = term
    disk.conf = ConfState(voters, [], learners or [])
    disk.applied = index
    disk.state = HardState(term, 0, index)
    return disk


class Group:
    """Nodes that hear each other at once: the quiet network of simple tests."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = {node.id: node for node in nodes}

    def settle(self, rounds_max: int = 1000) -> None:
        """Runs until nobody has anything to do."""
        for _ in range(rounds_max):
            messages: list[Message] = []
            for node in self.nodes.values():
                while node.raft.has_ready() or node.syncing:
                    messages += node.handle()
                    node.raft.check()
            if not messages:
                return
            for message in messages:
                if message.to in self.nodes:
                    self.nodes[message.to].raft.step(message)
                    self.nodes[message.to].raft.check()
        raise AssertionError(f"not settled after {rounds_max} rounds")


def group(voters: int, seed: int = 0, **options: Any) -> Group:
    ids = list(range(1, voters + 1))
    return Group([Node(id, booted(ids), SeededRng(seed + id), **options) for id in ids])
