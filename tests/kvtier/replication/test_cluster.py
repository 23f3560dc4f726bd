"""Three stores, one range: writes are everywhere, leaders are replaced, nothing acknowledged is lost."""

from __future__ import annotations

import pytest

from base.errors import RangeUnavailable
from kvtier import mvcc
from kvtier.messages import Batch, Get, Put, Reply, Routing
from kvtier.replication.applied import get_applied
from tests.kvtier.replication.cluster import Cluster

A, B, C = b"\x03a", b"\x03b", b"\x03c"


def applied(cluster: Cluster) -> dict[int, dict[int, int]]:
    """Range -> node -> index applied."""
    found: dict[int, dict[int, int]] = {}
    for node in cluster.nodes.values():
        if node.is_up:
            for replica in node.store.ranges.all():
                found.setdefault(replica.range_id, {})[node.node_id] = get_applied(node.engine, replica.range_id)[0]
    return found


def check_equal(cluster: Cluster) -> None:
    """Replicas that have applied the same are the same, byte for byte (reliability I5)."""
    for range_id, by_node in applied(cluster).items():
        by_index: dict[int, tuple[bytes, dict[str, int]]] = {}
        for node_id, index in by_node.items():
            node = cluster.nodes[node_id]
            replica = node.store.ranges.get(range_id)
            assert replica is not None
            digest = mvcc.checksum(node.engine, replica.start, replica.end), replica.stats()
            assert by_index.setdefault(index, digest) == digest, (range_id, node_id, index)


def settle(cluster: Cluster) -> None:
    """Waits until everybody has applied everything, then compares."""
    for _ in range(300):
        cluster.run_for(0.1)
        ranges = applied(cluster)
        if all(cluster.leader(range_id) for range_id in ranges) and all(
            len(set(by_node.values())) == 1 for by_node in ranges.values()
        ):
            break
    else:
        raise AssertionError(f"replicas do not catch up: {applied(cluster)}")
    check_equal(cluster)


def test_a_write_is_on_every_replica() -> None:
    cluster = Cluster()
    cluster.wait_for_leader()
    cluster.do(1, Put(A, b"one"))
    cluster.do(2, Put(B, b"two"))
    for node in cluster.nodes:
        assert cluster.do(node, Get(A), Get(B)).results == [b"one", b"two"]
    settle(cluster)


def test_another_leads_when_the_leader_is_gone() -> None:
    """A dead leaseholder blocks its range no longer than its support lasts, and an election."""
    cluster = Cluster()
    old = cluster.wait_for_leader()
    cluster.do(old, Put(A, b"one"))
    cluster.nodes[old].crash()
    started = cluster.loop.now_ns
    other = next(node for node in cluster.nodes if node != old)
    cluster.do(other, Put(B, b"two"))
    seconds = (cluster.loop.now_ns - started) / 1e9
    assert seconds < 5.0, seconds
    assert cluster.do(other, Get(A), Get(B)).results == [b"one", b"two"]
    cluster.nodes[old].start()
    settle(cluster)


def test_a_leader_that_is_cut_off_serves_no_stale_read() -> None:
    """Reliability 36, 38: its lease ends by its own clock before another begins."""
    cluster = Cluster()
    old = cluster.wait_for_leader()
    cluster.do(old, Put(A, b"old"))
    cluster.wires.partition(old)
    other = next(node for node in cluster.nodes if node != old)
    cluster.do(other, Put(A, b"new"))
    group = cluster.nodes[old].replication.groups[1]
    assert not cluster.nodes[old].replication.holds_lease(group)
    with pytest.raises(RangeUnavailable):
        cluster.do(old, Get(A))
    cluster.wires.heal()
    assert cluster.do(old, Get(A)).results == [b"new"]
    settle(cluster)


def test_without_a_quorum_nothing_is_acknowledged() -> None:
    cluster = Cluster()
    leader = cluster.wait_for_leader()
    for node in cluster.nodes:
        if node != leader:
            cluster.nodes[node].crash()
    cluster.run_for(5.0)
    assert cluster.leader() is None
    with pytest.raises(RangeUnavailable):
        cluster.do(leader, Put(A, b"lonely"))
    for node in cluster.nodes.values():
        if not node.is_up:
            node.start()
    cluster.do(leader, Put(B, b"again"))
    settle(cluster)


def test_all_nodes_lose_their_power() -> None:
    """What was acknowledged is there after everybody has lost what was not synced."""
    cluster = Cluster(seed=3)
    for round in range(5):
        node = cluster.wait_for_leader()
        for i in range(10):
            cluster.do(1 + i % 3, Put(b"\x03%d/%d" % (round, i), b"v%d" % i))
        for each in cluster.nodes.values():
            each.crash()
        for each in cluster.nodes.values():
            each.start()
        del node
    cluster.wait_for_leader()
    for round in range(5):
        for i in range(10):
            assert cluster.do(1, Get(b"\x03%d/%d" % (round, i))).results == [b"v%d" % i], (round, i)
    settle(cluster)


def test_a_replica_far_behind_gets_a_snapshot() -> None:
    cluster = Cluster()
    leader = cluster.wait_for_leader()
    lagging = next(node for node in cluster.nodes if node != leader)
    cluster.nodes[lagging].crash()
    cluster.settings.log_entries_max = 5
    for i in range(40):
        cluster.do(leader, Put(b"\x03%03d" % i, b"x" * 10_000))
    cluster.run_for(5.0)
    group = cluster.nodes[cluster.wait_for_leader()].replication.groups[1]
    assert group.log.first_index() > 20, "the log was not truncated"
    cluster.nodes[lagging].start()
    settle(cluster)
    assert cluster.nodes[lagging].replication.snapshots.taken == 1


def test_followers_serve_reads_below_the_closed_timestamp() -> None:
    cluster = Cluster()
    leader = cluster.wait_for_leader()
    cluster.do(leader, Put(A, b"one"))
    ts = cluster.nodes[leader].store.now()
    cluster.run_for(6.0)
    for node_id, node in cluster.nodes.items():
        replica = node.store.ranges.get(1)
        assert replica is not None
        batch = Batch([Get(A)], ts=ts, routing=Routing.NEAREST, range_id=1, generation=replica.generation)
        reply = node.store.send(batch)
        assert isinstance(reply, Reply), node_id
        assert reply.results == [b"one"], node_id


def test_a_paused_leader_wakes_up_without_a_lease() -> None:
    """Reliability 36: a process that was stopped for longer than its lease must not answer from it."""
    cluster = Cluster()
    old = cluster.wait_for_leader()
    cluster.do(old, Put(A, b"old"))
    cluster.nodes[old].scope.pause()
    cluster.run_for(8.0)
    other = next(node for node in cluster.nodes if node != old)
    cluster.do(other, Put(A, b"new"))
    cluster.nodes[old].scope.resume()
    assert cluster.do(old, Get(A)).results == [b"new"]
    settle(cluster)


def test_idle_groups_sleep_and_wake_when_their_leader_dies() -> None:
    """Reliability 74: nobody ticks for an idle range, and yet its leader's death is noticed."""
    cluster = Cluster()
    leader = cluster.wait_for_leader()
    cluster.do(leader, Put(A, b"one"))
    cluster.run_for(10.0)
    assert [node.replication.ticker.awake_count() for node in cluster.nodes.values()] == [0, 0, 0]
    cluster.nodes[leader].crash()
    other = next(node for node in cluster.nodes if node != leader)
    started = cluster.loop.now_ns
    assert cluster.do(other, Get(A)).results == [b"one"]
    assert (cluster.loop.now_ns - started) / 1e9 < 5.0
    cluster.nodes[leader].start()
    cluster.do(other, Put(B, b"two"))
    settle(cluster)
