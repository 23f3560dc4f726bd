"""A store that stops hands its leases away first: nobody waits, nothing fails."""

from __future__ import annotations

from typing import Any

import pytest

from base.errors import KvError, SqlError
from kvtier.messages import Batch, ConditionalPut, Get, Put, Reply, Split, TransferLease
from kvtier.replication.draining import drain
from tests.kvtier.replication.cluster import Cluster
from tests.kvtier.replication.test_cluster import settle

KEYS = [b"\x03d%c" % letter for letter in b"adgjmpsv"]


def divided(seed: int) -> tuple[Cluster, int]:
    """Eight ranges and more, all led by one node."""
    cluster = Cluster(seed=seed)
    leader = cluster.wait_for_leader()
    for key in KEYS:
        cluster.do(leader, Split(key))
        cluster.do(leader, Put(key, b"0"))
    cluster.run_for(1.0)
    assert leases(cluster, leader) == len(KEYS) + 1
    return cluster, leader


def leases(cluster: Cluster, node_id: int) -> int:
    replication = cluster.nodes[node_id].replication
    return sum([replication.holds_lease(group) for group in replication.groups.values()])


def start_draining(cluster: Cluster, node_id: int) -> Any:
    node = cluster.nodes[node_id]
    is_live = lambda other: other == node_id or node.replication.stores.is_known(other)  # noqa: E731  # as placement says
    return node.scope.spawn(drain(node.replication, is_live), "drain").observe()


class Counting:
    """Adds one to a counter, again and again, through a node, and times each."""

    def __init__(self, cluster: Cluster, node_id: int, key: bytes) -> None:
        self.cluster = cluster
        self.node_id = node_id
        self.key = key
        self.count = 0
        self.errors: list[KvError] = []
        self.slowest_ms = 0.0
        self.is_over = False
        self.task = cluster.nodes[node_id].scope.spawn(self.run(), "count").observe()

    async def send(self, op: Any) -> Reply:
        reply = self.cluster.nodes[self.node_id].router.send(Batch([op]))
        return reply if isinstance(reply, Reply) else await reply

    async def run(self) -> None:
        clock = self.cluster.nodes[self.node_id].scope.clock
        while not self.is_over:
            began_ns = self.cluster.loop.now_ns
            value = str(self.count).encode()
            try:
                await self.send(ConditionalPut(self.key, str(self.count + 1).encode(), value))
            except KvError as problem:
                self.errors.append(problem)
                return
            self.count += 1
            self.slowest_ms = max(self.slowest_ms, (self.cluster.loop.now_ns - began_ns) / 1e6)
            await clock.sleep(0.002)


def test_leases_go_before_the_node_does() -> None:
    """What is written through others meanwhile neither fails nor waits for an election timeout."""
    cluster, leader = divided(seed=21)
    others = [node_id for node_id in cluster.nodes if node_id != leader]
    counting = [Counting(cluster, others[place % 2], key) for place, key in enumerate(KEYS)]
    cluster.run_for(1.0)
    drained = start_draining(cluster, leader)
    cluster.run_for(2.0)
    assert drained.is_done()
    assert drained.result == 0
    assert leases(cluster, leader) == 0
    assert min(leases(cluster, node_id) for node_id in others) >= 3
    cluster.nodes[leader].crash()
    cluster.run_for(3.0)
    for one in counting:
        one.is_over = True
    cluster.run_for(1.0)
    assert [one.errors for one in counting] == [[]] * len(KEYS)
    assert all(one.task.is_done() for one in counting)
    assert max(one.slowest_ms for one in counting) < 200.0
    for one in counting:
        assert cluster.do(one.node_id, Get(one.key)).results == [str(one.count).encode()]
        assert one.count > 500
    cluster.nodes[leader].start()
    settle(cluster)


def test_a_draining_node_gets_no_lease() -> None:
    cluster, leader = divided(seed=22)
    other = next(node_id for node_id in cluster.nodes if node_id != leader)
    start_draining(cluster, other)
    cluster.run_for(1.0)
    assert list(cluster.nodes[leader].replication.draining) == [other]
    with pytest.raises(SqlError, match="draining"):
        cluster.do(leader, TransferLease(KEYS[0], other))
    drained = start_draining(cluster, leader)
    cluster.run_for(2.0)
    third = next(node_id for node_id in cluster.nodes if node_id not in (leader, other))
    assert drained.result == 0
    assert leases(cluster, third) == len(KEYS) + 1
    cluster.nodes[other].crash()
    cluster.nodes[other].start()
    cluster.run_for(2.0)
    assert other not in cluster.nodes[third].replication.draining


def test_who_is_left_alone_keeps_its_leases() -> None:
    cluster, leader = divided(seed=23)
    for node_id in cluster.nodes:
        if node_id != leader:
            cluster.nodes[node_id].crash()
    cluster.loop.run_for(5.0)
    drained = start_draining(cluster, leader)
    cluster.run_for(1.0)
    assert drained.is_done()
