"""Machines over real log storage: the memory engine, crashed at any time, loses nothing that was acknowledged.

The driver here is the shortest honest one: it shows what a store does with a Ready.
"""

from __future__ import annotations

import random

import pytest

from base.errors import ProposalDropped
from base.seams import CF_LOCAL, Engine, Rng
from kvtier.engine.memory import MemoryEngine
from kvtier.raft import LEADER, Config, ConfState, Mark, Message, Raft, Snapshot
from kvtier.raft.messages import decode_message, encode
from kvtier.raft.storage import EngineLog, begin, create
from tests.kvtier.raft.cluster import SeededRng

RANGE = 5
MEMBERS = [1, 2, 3]
STEPS = 2500


def applied_of(engine: Engine) -> int:
    stored = engine.get(CF_LOCAL, b"applied")
    return 0 if stored is None else int(stored)


class Replica:
    """One store with one replica."""

    def __init__(self, id: int, rng: Rng) -> None:
        self.id = id
        self.rng = rng
        self.engine = MemoryEngine()
        batch = self.engine.batch()
        create(self.engine, batch, RANGE, id)
        begin(self.engine, batch, RANGE, 10, 5)
        batch.put(CF_LOCAL, b"applied", b"10")
        self.engine.write(batch)
        self.engine.sync()
        self.start()

    def start(self) -> None:
        self.log = EngineLog(self.engine, RANGE, self.snapshot)
        self.waiting: list[tuple[Mark, list[Message]]] = []
        applied = applied_of(self.engine)
        config = Config(self.id, tail_bytes_max=500, prevote=False, check_quorum=False)
        self.raft = Raft(config, self.log, self.log.hard_state(), ConfState(MEMBERS), applied, self.rng)

    def snapshot(self) -> Snapshot | None:
        """The whole state, as the bulk data of a small range."""
        applied = applied_of(self.engine)
        rows = [b"%s=%s" % (key[1:], self.engine.get(CF_LOCAL, key)) for key in self.rows()]
        return Snapshot(applied, self.log.term(applied), ConfState(MEMBERS), b",".join(rows))

    def rows(self) -> list[bytes]:
        iterator = self.engine.iterator(CF_LOCAL, b"r", b"s")
        keys = []
        iterator.seek(b"r")
        while iterator.valid():
            keys.append(iterator.key())
            iterator.next()
        iterator.close()
        return keys

    def state(self) -> dict[bytes, bytes | None]:
        return {key: self.engine.get(CF_LOCAL, key) for key in self.rows()}

    def handle(self) -> list[Message]:
        """Writes and applies one Ready; returns what may be sent now."""
        ready = self.raft.ready()
        batch = self.engine.batch()
        if ready.snapshot is not None:
            batch.delete_range(CF_LOCAL, b"r", b"s")
            for row in ready.snapshot.data.split(b","):
                if row:
                    key, value = row.split(b"=")
                    batch.put(CF_LOCAL, b"r" + key, value)
            batch.put(CF_LOCAL, b"applied", b"%d" % ready.snapshot.index)
        self.log.write(batch, ready)
        for entry in ready.committed:
            if entry.data:
                batch.put(CF_LOCAL, b"r" + entry.data, b"%d" % entry.index)
            batch.put(CF_LOCAL, b"applied", b"%d" % entry.index)
        self.engine.write(batch)
        if ready.committed:
            self.raft.applied(ready.committed[-1].index)
        if ready.must_sync:
            self.waiting.append((ready.mark, ready.after_sync))
        return ready.messages

    def sync(self) -> list[Message]:
        """One sync for all that was written."""
        self.engine.sync()
        messages = [message for _, messages in self.waiting for message in messages]
        if self.waiting:
            self.raft.synced(self.waiting[-1][0])
        self.waiting = []
        return messages

    def crash(self) -> None:
        self.engine = self.engine.crash(self.rng)
        self.start()

    def truncate(self) -> None:
        """Up to what is applied and durable as applied."""
        if self.engine.synced_seq() == self.engine.write_seq():
            batch = self.engine.batch()
            self.log.truncate(batch, min(self.raft.truncatable_to(), self.raft.log.applied))
            self.engine.write(batch)


class Network:
    """Messages as bytes, in order, some lost."""

    def __init__(self, rng: random.Random, loss: float) -> None:
        self.rng = rng
        self.loss = loss
        self.queue: list[bytes] = []

    def send(self, messages: list[Message]) -> None:
        self.queue += [encode(message) for message in messages if self.rng.random() >= self.loss]

    def deliver(self, replicas: dict[int, Replica], count: int) -> None:
        arriving, self.queue = self.queue[:count], self.queue[count:]
        for encoded in arriving:
            message = decode_message(encoded)
            replicas[message.to].raft.step(message)


def calm(replicas: dict[int, Replica], network: Network) -> None:
    """Time passes without faults until all is done."""
    network.loss = 0.0
    for _ in range(60):
        for replica in replicas.values():
            replica.raft.tick()
        for _ in range(20):
            for replica in replicas.values():
                if replica.raft.has_ready():
                    network.send(replica.handle())
                network.send(replica.sync())
            network.deliver(replicas, 1000)


@pytest.mark.parametrize("seed", range(12))
def test_what_was_applied_anywhere_is_applied_everywhere(seed: int) -> None:
    """Reliability 49, 50, 52: log, hard state and applied state survive together or not at all."""
    rng = random.Random(seed)
    replicas = {id: Replica(id, SeededRng(seed * 10 + id)) for id in MEMBERS}
    network = Network(rng, 0.03)
    told: dict[bytes, bytes | None] = {}
    proposed = 0
    for _ in range(STEPS):
        replica = replicas[rng.choice(MEMBERS)]
        draw = rng.random()
        if draw < 0.004:
            replica.crash()
        elif draw < 0.08:
            replica.raft.tick()
        elif draw < 0.22 and replica.raft.role == LEADER:
            try:
                proposed += 1
                replica.raft.propose(b"%d" % proposed)
            except ProposalDropped:
                pass
        elif draw < 0.25:
            replica.truncate()
        elif draw < 0.5:
            if replica.raft.has_ready():
                network.send(replica.handle())
        elif draw < 0.7:
            network.send(replica.sync())
            # What is durable and applied has been told to clients: it must never be contradicted.
            told.update(replica.state())
        else:
            network.deliver(replicas, rng.choice([1, 2, 8]))
        replica.raft.check()
    calm(replicas, network)
    states = [replica.state() for replica in replicas.values()]
    assert states[0] == states[1] == states[2]
    assert all(states[0].get(key) == value for key, value in told.items()), f"{seed=}"
    assert len(told) > 10, f"{seed=} {len(told)=}"
