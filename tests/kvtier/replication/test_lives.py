"""A store whose disk was put back to an earlier state is noticed, and one whose disk was not is left alone."""

from __future__ import annotations

import pytest

from kvtier.messages import Get, Put
from kvtier.replication.lives import OldDisk
from tests.kvtier.replication.cluster import Cluster

A = b"\x03da"


def busy(cluster: Cluster, node_id: int, prefix: bytes) -> None:
    for number in range(5):
        cluster.do(node_id, Put(A, b"%s%d" % (prefix, number)))


@pytest.mark.parametrize("others_restart", [False, True])
def test_a_store_with_an_old_disk_ends_for_good(others_restart: bool) -> None:
    cluster = Cluster(3, seed=4)
    leader = cluster.wait_for_leader()
    old, other = [node_id for node_id in cluster.nodes if node_id != leader]
    busy(cluster, leader, b"before")
    node = cluster.nodes[old]
    image = node.engine.image()
    cluster.run_for(2.0)
    busy(cluster, leader, b"after")
    cluster.run_for(6.0)  # What was heard is on the disks of the others.
    node.crash()
    if others_restart:
        for node_id in (leader, other):
            cluster.nodes[node_id].engine.sync()
            cluster.nodes[node_id].crash()
            cluster.nodes[node_id].start()
    node.engine = image
    node.start()
    cluster.run_for(3.0)
    assert [type(failure) for failure in node.fatal] == [OldDisk]
    assert "later state of this disk" in str(node.fatal[0])
    node.crash()
    with pytest.raises(OldDisk):
        node.start()
    node.is_up = False
    node.scope.crash()
    assert cluster.do(other, Get(A)).results == [b"after4"]


def test_a_store_that_only_crashed_is_what_it_was() -> None:
    cluster = Cluster(3, seed=5)
    for turn in range(6):
        for node in cluster.nodes.values():
            busy(cluster, cluster.wait_for_leader(), b"turn%d" % turn)
            node.crash()
            cluster.run_for(0.2)
            node.start()
    cluster.run_for(5.0)
    assert [node.fatal for node in cluster.nodes.values()] == [[], [], []]
    assert cluster.do(1, Get(A)).results == [b"turn54"]


def test_an_old_disk_that_has_all_that_was_told_is_none() -> None:
    """Nothing was written since: nothing of it was promised, and it takes part."""
    cluster = Cluster(3, seed=6)
    cluster.wait_for_leader()
    busy(cluster, 1, b"before")
    cluster.run_for(5.0)
    node = cluster.nodes[3]
    image = node.engine.image()
    node.crash()
    node.engine = image
    node.start()
    busy(cluster, 1, b"after")
    cluster.run_for(5.0)
    assert node.fatal == []
