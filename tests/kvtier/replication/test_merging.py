"""Two ranges become one, on every replica, whatever happens on the way."""

from __future__ import annotations

from typing import Any

import pytest

from base.errors import KvError, MeridianError, SqlError
from kvtier.descriptors import encode_descriptor
from kvtier.messages import Batch, ConditionalPut, Get, Merge, Put, Reply, Scan, Split, TransferLease
from kvtier.meta import entry_keys
from kvtier.replication.merging import end_of
from kvtier.replication.overview import ranges_over
from kvtier.replication.settings import ReplicationSettings
from tests.kvtier.replication.cluster import Cluster
from tests.kvtier.replication.test_cluster import settle

A, M, T = b"\x03da", b"\x03dm", b"\x03dt"


def divided(seed: int, count: int = 3, settings: ReplicationSettings | None = None) -> tuple[Cluster, int]:
    """Ranges that begin at A, M and T, with something in each."""
    cluster = Cluster(count, seed=seed, settings=settings)
    leader = cluster.wait_for_leader()
    for key in (A, M, T):
        cluster.do(leader, Split(key))
        cluster.do(leader, Put(key, key))
    cluster.run_for(1.0)
    return cluster, leader


def begin(cluster: Cluster, node_id: int, *ops: Any) -> Any:
    """Sends a batch through a node's router; the task is given back at once."""
    node = cluster.nodes[node_id]

    async def run() -> Reply:
        reply = node.router.send(Batch(list(ops)))
        return reply if isinstance(reply, Reply) else await reply

    return node.scope.spawn(run(), "client").observe()


def starts(cluster: Cluster, node_id: int) -> list[bytes]:
    return [replica.start for replica in cluster.nodes[node_id].store.ranges.all()]


def test_neighbours_become_one_range() -> None:
    cluster, leader = divided(51)
    other = next(node_id for node_id in cluster.nodes if node_id != leader)
    cluster.do(other, Get(M))
    right = cluster.nodes[leader].store.ranges.find(M)
    assert right is not None
    joined = cluster.do(other, Merge(A)).results[0]
    assert (joined.start, joined.end) == (A, T)
    cluster.run_for(2.0)
    for node_id, node in cluster.nodes.items():
        assert starts(cluster, node_id) == [b"", A, T]
        assert right.range_id not in node.replication.groups
        assert end_of(node.engine, right.range_id) is not None
        # Routers that knew the right one learn.
        assert cluster.do(node_id, Get(A), Get(M), Get(T)).results == [A, M, T]
    node = cluster.nodes[other]
    task = node.scope.spawn(ranges_over(node.store, node.router, node.sender, b"", b""), "overview").observe()
    cluster.run_for(2.0)
    assert [found.descriptor.start for found in task.result] == [b"", A, T]
    cluster.do(other, Put(M, b"after"))
    cluster.do(leader, Split(M))
    assert cluster.do(other, Scan(A, T + b"z")).results[0].values == [A, b"after", T]
    settle(cluster)


def test_an_entry_that_nobody_withdrew_misleads_nobody_for_long() -> None:
    """Its node stopped just after the merge: seed 3041 of savepoints."""
    cluster, leader = divided(58)
    other = next(node_id for node_id in cluster.nodes if node_id != leader)
    left = cluster.nodes[leader].store.ranges.find(A)
    assert left is not None
    key, entry = entry_keys(left.descriptor)[0], encode_descriptor(left.descriptor)
    for start in (A, A):
        cluster.do(leader, Merge(start))
    cluster.run_for(2.0)
    assert starts(cluster, other) == [b"", A]
    assert cluster.do(leader, Get(key)).results == [None]
    cluster.do(leader, ConditionalPut(key, entry, None))
    cluster.nodes[other].crash()
    cluster.nodes[other].start()
    assert cluster.do(other, Scan(A, T + b"z")).results[0].values == [A, M, T], "who knows nothing reads on"
    assert cluster.do(leader, Get(key)).results == [entry]
    cluster.do(leader, TransferLease(A, other))
    cluster.run_for(5.0)
    assert cluster.do(leader, Get(key)).results == [None], "whoever takes a lease tidies up"


def test_a_merge_brings_the_other_lease_here() -> None:
    cluster, leader = divided(52)
    other = next(node_id for node_id in cluster.nodes if node_id != leader)
    cluster.do(leader, TransferLease(M, other))
    cluster.run_for(1.0)
    assert cluster.do(leader, Get(M)).results == [M]
    cluster.do(leader, Merge(A))
    assert starts(cluster, leader) == [b"", A, T]
    assert cluster.do(other, Get(M)).results == [M]
    settle(cluster)


def test_what_cannot_be_merged_says_so_and_goes_on() -> None:
    """A replica that does not answer ends the merge before, or after, the right range is frozen."""
    cluster, leader = divided(53)
    with pytest.raises(SqlError, match="last range"):
        cluster.do(leader, Merge(T))
    away = next(node_id for node_id in cluster.nodes if node_id != leader)
    cluster.wires.partition(away)
    merging = begin(cluster, leader, Merge(A))
    cluster.run_for(4.0)
    assert isinstance(merging.error, MeridianError), merging.error
    assert starts(cluster, leader) == [b"", A, M, T]
    cluster.do(leader, Put(M, b"still"))
    cluster.wires.heal()
    cluster.run_for(3.0)
    cluster.do(leader, Merge(A))
    assert cluster.do(away, Get(M)).results == [b"still"]
    settle(cluster)


class Counting:
    """Adds one to a counter again and again; what was acknowledged, or may have been, is known."""

    def __init__(self, cluster: Cluster, node_id: int, key: bytes) -> None:
        self.cluster = cluster
        self.node_id = node_id
        self.key = key
        self.sure = 0
        self.is_over = False
        cluster.nodes[node_id].scope.spawn(self.run(), "count").observe()

    async def send(self, op: Any) -> Reply:
        reply = self.cluster.nodes[self.node_id].router.send(Batch([op]))
        return reply if isinstance(reply, Reply) else await reply

    async def run(self) -> None:
        clock = self.cluster.nodes[self.node_id].scope.clock
        while not self.is_over:
            try:
                found = (await self.send(Get(self.key))).results[0]
                value = int(found) if found and found.isdigit() else 0
                assert value >= self.sure, (value, self.sure)
                await self.send(ConditionalPut(self.key, str(value + 1).encode(), found))
                self.sure = value + 1
            except KvError:
                pass
            await clock.sleep(0.01)


@pytest.mark.parametrize("step", range(24))
def test_a_power_cut_at_any_step(step: int) -> None:
    """The leaseholder of both, or a follower, loses its power soon after a merge began."""
    cluster, leader = divided(100 + step)
    others = [node_id for node_id in cluster.nodes if node_id != leader]
    victim = leader if step % 4 else others[0]
    watching = others[1]
    counters = [Counting(cluster, watching, key) for key in (A, M)]
    cluster.run_for(0.2)
    merging = begin(cluster, leader, Merge(A))
    cluster.run_for(step * 0.0007)
    cluster.nodes[victim].crash()
    cluster.run_for(1.0)
    cluster.nodes[victim].start()
    cluster.run_for(8.0)
    for counter in counters:
        counter.is_over = True
    cluster.run_for(2.0)
    for counter in counters:
        assert counter.sure > 2
        assert int(cluster.do(watching, Get(counter.key)).results[0]) >= counter.sure
    settle(cluster)
    found = [starts(cluster, node_id) for node_id in cluster.nodes]
    assert found[0] == found[1] == found[2]
    assert found[0] in ([b"", A, T], [b"", A, M, T])
    for node in cluster.nodes.values():
        assert not any(replica.merging for replica in node.store.ranges.all())
    if merging.is_done() and merging.error is None:
        assert found[0] == [b"", A, T]
    else:
        cluster.do(watching, Merge(A)) if len(found[0]) == 4 else None
    settle(cluster)


@pytest.mark.parametrize("seed", range(6))
def test_a_replica_that_was_away_during_the_merge(seed: int) -> None:
    """It comes to the merge late: by its log, or, where that was dropped, by a snapshot of the joined range."""
    cluster, leader = divided(60 + seed, settings=ReplicationSettings(log_entries_max=5 if seed % 2 else 2_000))
    away = next(node_id for node_id in cluster.nodes if node_id != leader)
    merging = begin(cluster, leader, Merge(A))
    # It has the right range's last entry, and perhaps does not know that it is committed.
    right = cluster.nodes[leader].store.ranges.find(M)
    assert right is not None
    for _ in range(200):
        cluster.run_for(0.0002)
        here = cluster.nodes[leader].store.ranges.find(M)
        if merging.is_done() or (here is not None and here.merging):
            break
    cluster.run_for(0.0002 * seed)
    cluster.wires.partition(away)
    cluster.run_for(3.0)
    there = next(node_id for node_id in cluster.nodes if node_id not in (leader, away))
    for number in range(60):
        cluster.do(there, Put(M, b"%d" % number))
        cluster.do(there, Put(A, b"%d" % number))
    cluster.run_for(15.0 if seed % 3 else 2.0)
    if seed % 2:
        cluster.nodes[away].crash()
        cluster.nodes[away].start()
    cluster.wires.heal()
    settle(cluster)
    cluster.run_for(15.0)
    settle(cluster)
    assert starts(cluster, away) == starts(cluster, leader)
    assert cluster.do(away, Get(A), Get(M)).results == [b"59", b"59"]


def test_merges_and_splits_under_load() -> None:
    cluster, leader = divided(71)
    counters = [Counting(cluster, 1 + place, key) for place, key in enumerate((A, M, T))]
    done = 0
    for number in range(30):
        for op in (Merge(A), Split(M)) if number % 2 else (Merge(M), Merge(A), Split(T), Split(M)):
            try:
                cluster.do(1 + number % 3, op)
                done += 1
            except MeridianError:
                pass  # A lease was on its way.
        if number % 7 == 3:
            cluster.do(leader, TransferLease(M, 1 + number % 3))
            cluster.run_for(0.5)
    for counter in counters:
        counter.is_over = True
    cluster.run_for(2.0)
    assert done > 40
    for counter in counters:
        assert counter.sure > 20
        assert int(cluster.do(1, Get(counter.key)).results[0]) >= counter.sure
    settle(cluster)


@pytest.mark.parametrize("seed", range(4))
def test_a_replica_that_was_away_when_the_joined_range_was_split_again(seed: int) -> None:
    """The old right range is in the way of the new one, and no snapshot takes it in: it asks, and goes."""
    cluster, leader = divided(80 + seed, settings=ReplicationSettings(log_entries_max=5))
    away = next(node_id for node_id in cluster.nodes if node_id != leader)
    old = cluster.nodes[leader].store.ranges.find(M)
    assert old is not None
    merging = begin(cluster, leader, Merge(A))
    for _ in range(400):
        cluster.run_for(0.0002)
        replica = cluster.nodes[away].store.ranges.find(M)
        if merging.is_done() or (seed % 2 and replica is not None and replica.merging):
            break
        group = cluster.nodes[leader].replication.groups.get(old.range_id)
        if not seed % 2 and group is not None and group.replica is not None and group.replica.merging:
            break
    cluster.wires.partition(away)
    cluster.run_for(3.0)
    there = next(node_id for node_id in cluster.nodes if node_id not in (leader, away))
    if starts(cluster, there) != [b"", A, T]:
        cluster.wires.heal()
        cluster.run_for(5.0)
        return  # The merge was given up in time.
    cluster.do(there, Split(M))
    for number in range(60):
        cluster.do(there, Put(M, b"%d" % number))
        cluster.do(there, Put(A, b"%d" % number))
    cluster.wires.heal()
    cluster.run_for(30.0)
    settle(cluster)
    assert starts(cluster, away) == [b"", A, M, T]
    assert old.range_id not in cluster.nodes[away].replication.groups
    assert cluster.do(away, Get(A), Get(M)).results == [b"59", b"59"]


def test_the_range_of_the_meta_entries_brings_the_other_lease_here() -> None:
    """Seed 42008 of three nodes: latched, it was asked where the lease of its neighbour was, and waited for itself."""
    cluster, leader = divided(54)
    other = next(node_id for node_id in cluster.nodes if node_id != leader)
    cluster.do(leader, TransferLease(A, other))
    cluster.run_for(1.0)
    for node in cluster.nodes.values():
        node.router.cache.evict(node.store.ranges.find(A).descriptor)  # type: ignore[union-attr]  # every node has one
    assert cluster.do(leader, Merge(b"\x01")).results[0].end == M
    assert cluster.do(other, Get(A)).results == [A]
    settle(cluster)
