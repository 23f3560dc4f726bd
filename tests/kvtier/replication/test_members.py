"""Ranges get replicas, lose them, are split and change hands, while they are written to."""

from __future__ import annotations

import pytest

from base.errors import SqlError
from kvtier.descriptors import RangeDescriptor, ReplicaPlace
from kvtier.messages import Batch, ChangeReplicas, Get, Members, Put, Scan, Split, TransferLease
from kvtier.raft import leases
from kvtier.replication.leaving import is_removed
from kvtier.replication.members import place_on
from tests.kvtier.replication.cluster import Cluster

A, M, Z = b"\x03da", b"\x03dm", b"\x03dz"


def add(cluster: Cluster, key: bytes, node: int) -> None:
    """Gives a range a voting replica on a node."""
    cluster.do(1, ChangeReplicas(key, node, Members.ADD))
    for _ in range(100):
        cluster.run_for(0.2)
        replica = cluster.nodes[node].store.ranges.find(key)
        if replica is not None:
            break
    cluster.do(1, ChangeReplicas(key, node, Members.PROMOTE))


def grown(seed: int = 1) -> Cluster:
    """One store's range, then three."""
    cluster = Cluster(3, seed, founders=1)
    cluster.do(1, Put(A, b"before"))
    add(cluster, A, 2)
    add(cluster, A, 3)
    return cluster


def test_one_store_becomes_three() -> None:
    cluster = grown()
    cluster.do(1, Put(Z, b"after"))
    for node in cluster.nodes:
        assert cluster.do(node, Get(A), Get(Z)).results == [b"before", b"after"]
    cluster.nodes[1].crash()
    assert cluster.do(2, Get(A)).results == [b"before"]
    cluster.do(3, Put(M, b"without the first"))
    cluster.nodes[1].start()
    assert cluster.do(1, Get(M)).results == [b"without the first"]


def test_what_is_written_while_a_learner_catches_up_reaches_it() -> None:
    cluster = Cluster(2, 5, founders=1)
    for i in range(50):
        cluster.do(1, Put(b"\x03%03d" % i, b"x" * 5_000))
    cluster.do(1, ChangeReplicas(A, 2, Members.ADD))
    for i in range(50, 80):
        cluster.do(1, Put(b"\x03%03d" % i, b"y"))
    cluster.run_for(5.0)
    cluster.do(1, ChangeReplicas(A, 2, Members.PROMOTE))
    cluster.do(1, TransferLease(A, 2))
    assert cluster.wait_for_leader() == 2
    assert len(cluster.do(2, Scan(b"\x030", b"\x031")).results[0].keys) == 80


def test_a_split_range_is_two_groups_with_leaders() -> None:
    cluster = grown()
    cluster.do(1, Put(A, b"1"), Put(Z, b"2"))
    right = cluster.do(2, Split(M)).results[0]
    assert (right.start, len(right.replicas)) == (M, 3)
    assert cluster.do(3, Get(A)).results == [b"1"]
    assert cluster.do(3, Get(Z)).results == [b"2"]
    cluster.do(1, Put(A, b"3"))
    cluster.do(2, Put(Z, b"4"))
    assert cluster.do(3, Scan(A, b"\x04")).results[0].values == [b"3", b"4"]
    cluster.run_for(3.0)
    for node in cluster.nodes.values():
        assert [replica.start for replica in node.store.ranges.all()] == [b"", M], node.node_id
    cluster.nodes[cluster.wait_for_leader()].crash()
    survivor = next(node.node_id for node in cluster.nodes.values() if node.is_up)
    assert cluster.do(survivor, Scan(A, b"\x04")).results[0].values == [b"3", b"4"]


def test_splits_survive_a_crash_of_everybody() -> None:
    """Reliability 52: the right half's log is written with the split."""
    cluster = grown(7)
    for name in (b"\x03dc", b"\x03df", b"\x03dk"):
        cluster.do(1, Put(name, name))
        cluster.do(1, Split(name))
    for node in cluster.nodes.values():
        node.crash()
    for node in cluster.nodes.values():
        node.start()
    for name in (b"\x03dc", b"\x03df", b"\x03dk"):
        assert cluster.do(3, Get(name)).results == [name]
    cluster.do(2, Put(b"\x03dd", b"new"))
    assert cluster.do(1, Get(b"\x03dd")).results == [b"new"]


def test_a_lease_goes_where_it_is_sent() -> None:
    cluster = grown()
    for target in (2, 3, 1, 2):
        cluster.do(1, TransferLease(A, target))
        assert cluster.wait_for_leader() == target
        cluster.do(3, Put(A, b"led by %d" % target))
    assert cluster.do(1, Get(A)).results == [b"led by 2"]


def test_a_removed_replica_is_gone_for_good() -> None:
    """Reliability 61, 62: its id never comes back, and nothing of the range is left there."""
    cluster = grown()
    cluster.do(1, TransferLease(A, 1))
    assert cluster.wait_for_leader() == 1
    cluster.do(1, ChangeReplicas(A, 3, Members.REMOVE))
    for _ in range(100):
        cluster.run_for(0.5)
        if cluster.nodes[3].store.ranges.find(A) is None:
            break
    assert cluster.nodes[3].store.ranges.find(A) is None
    assert 1 not in cluster.nodes[3].replication.groups
    cluster.do(3, Put(A, b"from outside"))
    assert cluster.do(3, Get(A)).results == [b"from outside"]
    add(cluster, A, 3)
    replica = cluster.nodes[3].store.ranges.find(A)
    assert replica is not None
    place = place_on(replica.descriptor, 3)
    assert place is not None
    assert place.replica_id == 4


def test_a_store_that_stopped_before_it_took_a_removed_replica_out_starts() -> None:
    """Its descriptor on disk does not name it any more: seed 3028 of sql-orders."""
    cluster = grown()
    cluster.do(1, TransferLease(A, 1))
    assert cluster.wait_for_leader() == 1
    store, first = cluster.nodes[3].store, cluster.nodes[1]

    async def change() -> None:
        await first.router.send(Batch([ChangeReplicas(A, 3, Members.REMOVE)]))  # type: ignore[misc]  # it waits

    first.scope.spawn(change(), "change")
    while (replica := store.ranges.find(A)) is not None and place_on(replica.descriptor, 3) is not None:
        cluster.loop.step()
    assert store.ranges.find(A) is not None, "or this shows nothing"
    cluster.nodes[3].engine.sync()
    cluster.nodes[3].crash()
    cluster.nodes[3].start()
    cluster.run_for(5.0)
    assert cluster.nodes[3].store.ranges.find(A) is None
    assert cluster.do(3, Get(A)).results == [b"before"]
    add(cluster, A, 3)
    assert cluster.nodes[3].replication.groups[1].replica_id == 4


@pytest.mark.parametrize("members", [Members.REMOVE, Members.DEMOTE])
def test_a_leaseholder_hands_over_before_it_is_removed(members: Members) -> None:
    """Reliability 59: who takes the lease makes the change, and whoever asked need not know."""
    cluster = grown(5)
    cluster.do(1, TransferLease(A, 2))
    assert cluster.wait_for_leader() == 2
    cluster.do(1, ChangeReplicas(A, 2, members))
    assert cluster.wait_for_leader() != 2
    cluster.run_for(2.0)
    assert (cluster.nodes[2].store.ranges.find(A) is None) == (members == Members.REMOVE)
    cluster.do(2, Put(A, b"by another"))
    assert cluster.do(3, Get(A)).results == [b"by another"]


def test_a_leaseholder_that_nobody_can_succeed_keeps_its_replica() -> None:
    cluster = grown(5)
    cluster.do(1, TransferLease(A, 1))
    assert cluster.wait_for_leader() == 1
    cluster.do(1, ChangeReplicas(A, 3, Members.REMOVE))
    cluster.do(1, ChangeReplicas(A, 2, Members.DEMOTE))
    with pytest.raises(SqlError, match="would have no voter left"):
        cluster.do(1, ChangeReplicas(A, 1, Members.REMOVE))
    assert cluster.do(1, Get(A)).results == [b"before"]


def test_a_follower_is_not_bound_to_a_leader_that_was_removed() -> None:
    """Cut off from the others while the lease moved and its old holder was removed: seed 202 of sql-tpcc."""
    cluster = grown(5)
    cluster.do(1, TransferLease(A, 1))
    assert cluster.wait_for_leader() == 1
    cluster.nodes[1].replication.members = lambda: [1, 2, 3]  # Its store lives on, and asks for support.
    cluster.run_for(2.0)
    cluster.wires.partition(3)
    cluster.do(1, TransferLease(A, 2))
    cluster.do(2, ChangeReplicas(A, 1, Members.REMOVE))
    cluster.run_for(0.1)
    assert cluster.nodes[1].store.ranges.find(A) is None
    cluster.nodes[2].crash()
    cluster.wires.heal()
    raft = cluster.nodes[3].replication.groups[1].raft
    assert (raft.promise_lead, leases.is_promised(raft)) == (1, True), "or this shows nothing"
    cluster.nodes[2].start()
    cluster.run_for(10.0)
    cluster.do(2, Put(A, b"led again"))
    assert cluster.do(3, Get(A)).results == [b"led again"]


@pytest.mark.parametrize(
    ("op", "message"),
    [
        (ChangeReplicas(A, 2, Members.ADD), "range 1 has a replica on node 2 already"),
        (ChangeReplicas(A, 9, Members.REMOVE), "range 1 has no replica on node 9"),
        (TransferLease(A, 9), "range 1 has no replica on node 9"),
    ],
)
def test_changes_that_make_no_sense_are_refused(op: ChangeReplicas, message: str) -> None:
    cluster = grown()
    with pytest.raises(SqlError, match=message):
        cluster.do(1, op)


def test_a_replica_that_missed_its_removal_asks_and_goes() -> None:
    """Reliability 62: it was cut off when it was removed, nobody sends it anything, and yet it ends."""
    cluster = grown(3)
    cluster.do(1, TransferLease(A, 1))
    assert cluster.wait_for_leader() == 1
    cluster.wires.partition(3)
    cluster.do(1, ChangeReplicas(A, 3, Members.REMOVE))
    cluster.run_for(5.0)
    assert cluster.nodes[3].store.ranges.find(A) is not None
    cluster.wires.heal()
    cluster.run_for(20.0)
    assert cluster.nodes[3].store.ranges.find(A) is None
    assert not cluster.nodes[3].replication.groups
    cluster.do(1, Put(A, b"later"))
    assert cluster.do(3, Get(A)).results == [b"later"]
    add(cluster, A, 3)


def test_a_replica_that_is_cut_off_stays() -> None:
    """Reliability 63: silence alone removes nobody, not even a learner that waits for its snapshot."""
    cluster = grown(4)
    cluster.wires.partition(3)
    cluster.run_for(40.0)
    cluster.wires.heal()
    cluster.run_for(20.0)
    assert cluster.nodes[3].store.ranges.find(A) is not None
    assert [node.store.ranges.find(A) is not None for node in cluster.nodes.values()] == [True, True, True]


def test_what_proves_that_a_replica_is_gone() -> None:
    places = (ReplicaPlace(1, 1, 1), ReplicaPlace(2, 2, 4))
    descriptor = RangeDescriptor(7, 9, b"a", b"b", places, 5)
    assert [is_removed(descriptor, replica_id) for replica_id in range(1, 7)] == [
        False,
        True,
        True,
        False,
        False,
        False,
    ]


def test_the_last_of_several_replicas_keeps_its_log() -> None:
    """A range that shrank to one replica grows again, also after a restart: seed 11 of long-fork on a cluster."""
    cluster = grown()
    if cluster.wait_for_leader() != 1:
        cluster.do(1, TransferLease(A, 1))
    cluster.run_for(1.0)
    assert cluster.wait_for_leader() == 1
    cluster.do(1, ChangeReplicas(A, 3, Members.REMOVE))
    cluster.do(1, ChangeReplicas(A, 2, Members.REMOVE))
    cluster.do(1, Put(M, b"alone"))
    cluster.nodes[1].crash()
    cluster.nodes[1].start()
    assert cluster.do(1, Get(M)).results == [b"alone"]
    cluster.do(1, Put(Z, b"again"))
    add(cluster, A, 2)
    cluster.do(1, TransferLease(A, 2))
    assert cluster.do(2, Get(A), Get(M), Get(Z)).results == [b"before", b"alone", b"again"]


def test_a_split_of_the_last_replica_keeps_to_its_log() -> None:
    """Seed 44004 of three nodes, with merges: for a moment its ranges looked alone, and were written past their logs."""
    cluster = grown()
    if cluster.wait_for_leader() != 1:
        cluster.do(1, TransferLease(A, 1))
    cluster.run_for(1.0)
    assert cluster.wait_for_leader() == 1
    cluster.do(1, ChangeReplicas(A, 3, Members.REMOVE))
    cluster.do(1, ChangeReplicas(A, 2, Members.REMOVE))
    cluster.do(1, Split(M))
    store = cluster.nodes[1].store
    assert not any(replica.is_alone for replica in store.ranges.all())
    assert not store.is_whole
    index = cluster.nodes[1].replication.groups[1].applied_index
    cluster.do(1, Put(A, b"after"))
    assert cluster.nodes[1].replication.groups[1].applied_index > index
    add(cluster, A, 2)
    assert cluster.do(2, Get(A)).results == [b"after"]


def test_a_replica_that_was_replaced_unheard_makes_way() -> None:
    """Removed and added again while it was cut off, a node's old replica goes when the new one is spoken to.

    Its leaseholder tells the node of closed timestamps, so it was never silent, and stayed: seed 5 of bank on a cluster.
    """
    cluster = grown()
    if cluster.wait_for_leader() == 3:
        cluster.do(1, TransferLease(A, 1))
        cluster.run_for(1.0)
    cluster.wires.partition(3)
    cluster.do(1, ChangeReplicas(A, 3, Members.REMOVE))
    cluster.do(1, ChangeReplicas(A, 3, Members.ADD))
    cluster.wires.heal()
    cluster.run_for(5.0)
    cluster.do(1, ChangeReplicas(A, 3, Members.PROMOTE))
    cluster.do(1, Put(M, b"later"))
    cluster.run_for(5.0)
    replica = cluster.nodes[3].store.ranges.find(A)
    assert replica is not None
    place = place_on(replica.descriptor, 3)
    assert place is not None and place.replica_id == cluster.nodes[3].replication.groups[1].replica_id == 4, replica
