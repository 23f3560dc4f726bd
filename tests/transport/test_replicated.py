"""Replicated stores over the real transports: a write is where it belongs, over gRPC and in simulation."""

from __future__ import annotations

from typing import Any

import pytest

from base.errors import KvError
from base.hlc import Hlc
from kvtier.engine import MemoryEngine
from kvtier.messages import Batch, Get, Put, Reply
from kvtier.replication.founding import found
from kvtier.replication.groups import Replication
from kvtier.replication.sender import RangeSender
from kvtier.replication.settings import ReplicationSettings
from kvtier.router import Router
from kvtier.settings import StoreSettings
from kvtier.store import Store
from sim.loop import SeededRng
from tests.transport.worlds import CLUSTER, WORLDS, SimWorld, World


class Stored:
    """One store over a transport."""

    def __init__(self, world: World, transport: Any) -> None:
        node_id = transport.node_id
        clock, scheduler, rng = transport.clock, transport.scheduler, SeededRng(node_id)
        engine = MemoryEngine()
        found(engine, CLUSTER, node_id, [1, 2, 3], 1 << 12)
        self.transport = transport
        self.store = Store(engine, clock, scheduler, rng, Hlc(500_000), StoreSettings(), node_id)
        self.replication = Replication(self.store, transport, rng, ReplicationSettings())
        sender = RangeSender(node_id, self.replication.remote.ask, clock, rng)
        self.router = Router(self.store, sender.send)
        self.router.draw_range_id = self.replication.range_ids.draw
        self.replication.start()

    async def send(self, world: World, *ops: Any) -> Reply:
        """Sends a batch until somebody has the lease."""
        while True:
            try:
                reply = self.router.send(Batch(list(ops)))
                return reply if isinstance(reply, Reply) else await reply
            except KvError:
                await world.clock.sleep(0.05)


@pytest.mark.parametrize("kind", ["sim", "grpc"])
def test_three_stores_agree(kind: str) -> None:
    world = WORLDS[kind]()

    async def main(world: World) -> None:
        stored: list[Stored] = []
        for at in (1, 2, 3):
            await world.start(at, register=lambda transport: stored.append(Stored(world, transport)))
        for number, node in enumerate(stored * 3):
            await node.send(world, Put(b"key%d" % number, b"value%d" % number))
        for node in stored:
            reply = await node.send(world, *[Get(b"key%d" % number) for number in range(9)])
            assert reply.results == [b"value%d" % number for number in range(9)]
        world.conditions.partition(1, 2)
        world.conditions.partition(1, 3)
        # Two of three go on without the first.
        await stored[1].send(world, Put(b"alone", b"yes"))
        world.conditions.heal_all()
        reply = await stored[0].send(world, Get(b"alone"))
        assert reply.results == [b"yes"]
        for node in stored:
            await world.stop(node.transport)

    if isinstance(world, SimWorld):
        world.loop.steps_max = 20_000_000
    world.run(main)
    assert world.notes.bugs == []
