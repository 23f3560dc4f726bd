"""Replicas are compared where they have applied the same, and a difference is told."""

from __future__ import annotations

from typing import Any

from base.seams import CF_DATA
from kvtier.engine.batch import OpBatch
from kvtier.messages import Batch, Put, Split
from kvtier.replication.consistency import Mismatch
from tests.kvtier.replication.cluster import Cluster

KEYS = [b"\x03d%03d" % number for number in range(50)]


def filled(seed: int) -> tuple[Cluster, int, list[Mismatch]]:
    cluster = Cluster(3, seed=seed)
    leader = cluster.wait_for_leader()
    for key in KEYS:
        cluster.do(leader, Put(key, key))
    cluster.do(leader, Split(b"\x03d"))
    cluster.run_for(2.0)
    told: list[Mismatch] = []
    for node in cluster.nodes.values():
        node.replication.consistency.on_mismatch = told.append
    return cluster, leader, told


def check_all(cluster: Cluster, node_id: int) -> dict[str, int]:
    node = cluster.nodes[node_id]
    task = node.scope.spawn(node.replication.consistency.check_all(), "check").observe()
    while not task.is_done():
        cluster.run_for(0.5)
    assert task.error is None, task.error
    found: Any = task.result
    return dict(found)


def test_equal_replicas_are_equal_also_while_they_are_written() -> None:
    cluster, leader, told = filled(81)
    node = cluster.nodes[leader]

    async def write() -> None:
        for key in KEYS * 3:
            reply = node.router.send(Batch([Put(key, key + b"+")]))
            if not hasattr(reply, "results"):
                await reply  # type: ignore[misc]  # not a Reply, so it is awaitable

    node.scope.spawn(write(), "writer")
    assert check_all(cluster, leader) == {"equal": 2, "different": 0, "skipped": 0}
    assert told == []


def test_a_replica_that_differs_is_told_of() -> None:
    cluster, leader, told = filled(82)
    other = next(node_id for node_id in cluster.nodes if node_id != leader)
    engine = cluster.nodes[other].engine
    iterator = engine.iterator(CF_DATA, KEYS[7], KEYS[8])
    iterator.seek(KEYS[7])
    batch = OpBatch()
    batch.put(CF_DATA, iterator.key(), iterator.value() + b"!")
    iterator.close()
    engine.write(batch)
    assert check_all(cluster, leader) == {"equal": 1, "different": 1, "skipped": 0}
    (mismatch,) = told
    digests = {node_id: digest for node_id, digest, _ in mismatch.digests}
    assert len(dict.fromkeys(digests.values())) == 2
    assert [node_id for node_id in digests if digests[node_id] != digests[leader]] == [other]
    consistency = cluster.nodes[leader].replication.consistency
    assert list(consistency.mismatches) == [mismatch.range_id]
    assert (consistency.checked, consistency.differed) == (2, 1)


def test_a_store_that_is_down_is_left_out() -> None:
    cluster, leader, told = filled(83)
    other = next(node_id for node_id in cluster.nodes if node_id != leader)
    cluster.nodes[other].crash()
    assert check_all(cluster, leader) == {"equal": 2, "different": 0, "skipped": 0}
    assert told == []
