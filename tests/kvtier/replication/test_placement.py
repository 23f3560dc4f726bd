"""Ranges get their replicas by themselves, in different regions, and others when a node dies."""

from __future__ import annotations

import msgspec

from base.errors import KvError, SqlError
from kvtier.descriptors import ReplicaPlace
from kvtier.messages import Batch, Get, Put, Reply, Routing, Split
from kvtier.replication.constraints import Span, SpanConfig, SpanConfigs
from kvtier.replication.directory import Standing
from kvtier.replication.overview import ranges_over, replicas_by_node
from tests.kvtier.replication.cluster import Cluster
from tests.kvtier.replication.test_cluster import settle

A, M, R = b"\x03da", b"\x03dm", b"\x03dr"


def voters(cluster: Cluster, key: bytes) -> list[int]:
    """The nodes that have a range, as its leaseholder says."""
    for node in cluster.nodes.values():
        replica = node.store.ranges.find(key) if node.is_up else None
        if replica is not None and node.store.sees_to(key):
            return sorted([place.node_id for place in replica.descriptor.replicas if not place.kind])
    return []


def wait_for(cluster: Cluster, key: bytes, wanted: list[int], seconds: float = 60.0) -> None:
    """Runs until a range is where it should be."""
    for _ in range(int(seconds)):
        if voters(cluster, key) == wanted:
            return
        cluster.run_for(1.0)
    raise AssertionError(f"{voters(cluster, key)} instead of {wanted}")


def test_a_range_spreads_over_three_regions() -> None:
    cluster = Cluster(5, founders=1, regions=["east", "east", "west", "west", "north"])
    cluster.do(1, Put(A, b"1"))
    wait_for(cluster, A, [1, 3, 5])
    cluster.do(4, Put(A, b"2"))
    cluster.do(4, Split(M))
    cluster.do(2, Put(M, b"3"))
    wait_for(cluster, M, [1, 3, 5])
    assert cluster.do(2, Get(A), Get(M)).results == [b"2", b"3"]
    settle(cluster)


def test_any_node_tells_where_ranges_are() -> None:
    cluster = Cluster(4, seed=6, founders=1, regions=["a", "b", "c", "c"])
    cluster.do(1, Put(A, b"1"))
    cluster.do(1, Split(M))
    cluster.run_for(30.0)
    node = cluster.nodes[4]
    task = node.scope.spawn(ranges_over(node.store, node.router, node.sender, A, b""), "overview")
    cluster.run_for(5.0)
    left, right = task.result
    assert left.descriptor.start < A
    assert left.descriptor.end == right.descriptor.start == M
    for found in (left, right):
        nodes = sorted([place.node_id for place in found.descriptor.replicas])
        assert nodes == voters(cluster, found.descriptor.start)
        assert len(nodes) == 3
        assert found.leaseholder == cluster.leader(found.descriptor.range_id)
        assert (found.size_bytes is not None) == (4 in nodes)


def test_a_range_that_was_split_meanwhile_is_seen_to_as_it_is_now() -> None:
    """As it was it is wanting for ever, and whoever goes on seeing to it sees to nothing else: seed 45008 of registers."""
    cluster = Cluster(3, founders=1, regions=["a", "b", "c"])
    cluster.do(1, Put(A, b"1"))
    wait_for(cluster, A, [1, 2, 3])
    leader = cluster.nodes[cluster.leader() or 0]
    placement = leader.placement
    stale = leader.store.ranges.find(A)
    assert stale is not None
    seen: list[object] = []

    async def see_to(replica: object) -> bool:
        if replica is stale and not seen:
            # Its answer comes after a split, which has put another replica in its place.
            await split()
        seen.append(replica)
        assert len(seen) < 100, "the same range, again and again"
        return replica is stale

    async def split() -> None:
        reply = leader.router.send(Batch([Split(M)]))
        if not isinstance(reply, Reply):
            await reply

    placement._see_to = see_to  # type: ignore[method-assign]
    placement._well.clear()
    cluster.run_for(5.0)
    assert leader.store.ranges.find(A) is not stale
    assert seen.count(stale) == 1, "it was looked at before it was split"
    assert leader.store.ranges.find(M) in seen, "the others get their turn"


def test_a_dead_node_is_replaced() -> None:
    cluster = Cluster(4, seed=2, founders=1, regions=["a", "b", "c", "c"])
    cluster.do(1, Put(A, b"1"))
    wait_for(cluster, A, [1, 2, 3])
    cluster.nodes[3].crash()
    wait_for(cluster, A, [1, 2, 4], 90.0)
    assert cluster.do(4, Get(A)).results == [b"1"]
    cluster.nodes[3].start()
    cluster.run_for(10.0)
    assert cluster.do(3, Get(A)).results == [b"1"]


def test_a_short_absence_moves_nothing() -> None:
    cluster = Cluster(4, seed=3, founders=1, regions=["a", "b", "c", "d"])
    cluster.do(1, Put(A, b"1"))
    wait_for(cluster, A, [1, 2, 3])
    cluster.nodes[2].crash()
    cluster.run_for(5.0)
    cluster.nodes[2].start()
    cluster.run_for(20.0)
    assert voters(cluster, A) == [1, 2, 3]


def test_a_voter_is_never_given_up_because_another_is_silent() -> None:
    """Two of three left: taking one of them away would leave the range with a quorum of one and a dead one."""
    cluster = Cluster(3, seed=4, founders=1, regions=["a", "b", "c"])
    cluster.do(1, Put(A, b"1"))
    wait_for(cluster, A, [1, 2, 3])
    cluster.nodes[1].crash()
    cluster.do(2, Put(A, b"2"))
    cluster.run_for(40.0)
    assert voters(cluster, A) == [1, 2, 3]
    cluster.nodes[1].start()
    assert cluster.do(1, Get(A)).results == [b"2"]


NINE = ["a", "a", "a", "b", "b", "b", "c", "c", "c"]


def home(region: str, others: str = "abc") -> SpanConfig:
    """All voters and the lease in one region, a copy in the others."""
    return SpanConfig(3, ((region, 3),), False, tuple(others), (region,))


def ask(cluster: Cluster, *spans: Span) -> None:
    """Asks for something else on every node."""
    asked = SpanConfigs(spans)
    for node in cluster.nodes.values():
        node.placement.spans = lambda: asked


def places(cluster: Cluster, key: bytes) -> tuple[str, str, str]:
    """The regions of a range's voters, of its other replicas, and of its lease."""
    assert cluster.regions is not None
    for node in cluster.nodes.values():
        if node.is_up and node.store.sees_to(key):
            replica = node.store.ranges.find(key)
            assert replica is not None
            regions = [(cluster.regions[place.node_id - 1], place.kind) for place in replica.descriptor.replicas]
            voting = "".join(sorted(region for region, kind in regions if not kind))
            return (
                voting,
                "".join(sorted(region for region, kind in regions if kind)),
                cluster.regions[node.node_id - 1],
            )
    return "", "", ""


def wait_for_places(cluster: Cluster, key: bytes, wanted: tuple[str, str, str], seconds: float = 120.0) -> None:
    for _ in range(int(seconds)):
        if places(cluster, key) == wanted:
            return
        cluster.run_for(1.0)
    raise AssertionError(f"{places(cluster, key)} instead of {wanted}")


def test_ranges_follow_what_is_asked_of_their_keys() -> None:
    """Borders are split at, voters and leases move, and what was written is there all the time."""
    cluster = Cluster(9, seed=11, founders=1, regions=NINE)
    for key in (A, M, R):
        cluster.do(1, Put(key, key))
    wait_for_places(cluster, A, ("abc", "", "a"))
    ask(cluster, Span(M, R, home("b")))
    wait_for_places(cluster, M, ("bbb", "ac", "b"))
    assert places(cluster, A) == places(cluster, R) == ("abc", "", "a")
    for node in (1, 5, 9):
        assert cluster.do(node, Get(A), Get(M), Get(R)).results == [A, M, R]
    ask(cluster, Span(M, R, home("c")))
    wait_for_places(cluster, M, ("ccc", "ab", "c"))
    cluster.do(1, Put(M, b"moved"))
    ask(cluster, Span(M, R, SpanConfig(5, (("a", 2),), True, ("a", "b", "c"), ("a",))))
    wait_for_places(cluster, M, ("aabcc", "", "a"))
    assert cluster.do(7, Get(M)).results == [b"moved"]
    settle(cluster)


def test_a_region_that_dies_is_survived() -> None:
    cluster = Cluster(9, seed=12, founders=1, regions=NINE)
    cluster.do(1, Put(A, b"1"))
    ask(cluster, Span(b"\x03", b"\xff", SpanConfig(5, (("a", 2),), True, ("a", "b", "c"), ("a",))))
    wait_for_places(cluster, A, ("aabbc", "", "a"))
    cluster.run_for(10.0)
    for node_id in (1, 2, 3):
        cluster.nodes[node_id].crash()
    cluster.do(9, Put(A, b"2"))
    assert cluster.do(5, Get(A)).results == [b"2"]
    for node_id in (1, 2, 3):
        cluster.nodes[node_id].start()
    wait_for_places(cluster, A, ("aabbc", "", "a"))
    settle(cluster)


def test_replicas_that_do_not_vote_answer_stale_reads() -> None:
    cluster = Cluster(9, seed=13, founders=1, regions=NINE)
    cluster.do(1, Put(A, b"1"))
    ask(cluster, Span(b"\x03", b"\xff", home("a")))
    wait_for_places(cluster, A, ("aaa", "bc", "a"))
    cluster.run_for(10.0)
    node = next(node for node in cluster.nodes.values() if NINE[node.node_id - 1] == "b" and node.store.ranges.find(A))
    ts = node.store.now() - (6_000_000 << 12)
    for other in cluster.nodes.values():
        if other is not node:
            cluster.wires.cut[node.node_id, other.node_id] = cluster.wires.cut[other.node_id, node.node_id] = None
    assert cluster.do(node.node_id, Get(A), ts=ts, routing=Routing.NEAREST).results == [b"1"]


def set_standing(cluster: Cluster, asked: int, node_id: int, standing: Standing) -> BaseException | None:
    """Changes what a node is, through another; returns the error."""
    node = cluster.nodes[asked]
    task = node.scope.spawn(node.directory.set_standing(node_id, standing), "standing").observe()
    cluster.run_for(3.0)
    assert task.is_done()
    return task.error


def test_a_node_that_leaves_loses_its_replicas() -> None:
    """Also the leases: they go first.  Once gone it is not known any more, and cannot come back."""
    cluster = Cluster(4, seed=12, founders=1, regions=["a", "b", "c", "d"])
    cluster.do(1, Put(A, b"1"))
    wait_for(cluster, A, [1, 2, 3])
    cluster.do(2, Split(M))
    wait_for(cluster, M, [1, 2, 3])
    assert set_standing(cluster, 2, 1, Standing.LEAVING) is None
    for key in (A, M):
        wait_for(cluster, key, [2, 3, 4], 90.0)
    assert cluster.do(4, Get(A)).results == [b"1"]
    node = cluster.nodes[4]
    counting = node.scope.spawn(replicas_by_node(node.router), "count").observe()
    cluster.run_for(1.0)
    assert counting.result.get(1, 0) == 0
    assert counting.result[4] == counting.result[2]
    gone: list[int] = []
    cluster.nodes[3].directory.on_gone = gone.append
    assert set_standing(cluster, 2, 1, Standing.GONE) is None
    cluster.run_for(5.0)
    assert gone == [1]
    assert 1 not in cluster.nodes[3].directory.nodes
    refused = set_standing(cluster, 3, 1, Standing.ACTIVE)
    assert isinstance(refused, SqlError)
    assert "was decommissioned" in refused.message
    # Who starts again still knows.
    cluster.nodes[3].crash()
    cluster.nodes[3].start()
    assert cluster.nodes[3].directory.is_gone(1)
    cluster.run_for(1.0)


def test_what_others_know_of_the_first_range_replaces_what_led_nowhere() -> None:
    """A node was down while it moved, and came back with the address of nodes that were gone: seed 6015."""
    cluster = Cluster(5, seed=12, founders=1, regions=["a", "b", "c", "d", "e"])
    wait_for(cluster, A, [1, 2, 3])
    cluster.nodes[5].crash()
    node = cluster.nodes[4]
    known = cluster.nodes[2].directory.known()
    assert known.first is not None
    stale = msgspec.structs.replace(known.first, generation=1, replicas=(ReplicaPlace(5, 5, 1),))
    node.router.first = stale
    node.router.cache.clear()
    node.router.cache.insert(stale)
    lost = node.scope.spawn(node.directory.refresh(), "refresh").observe()
    cluster.run_for(40.0)
    assert isinstance(lost.error, KvError)
    node.directory.learn(known)
    found = node.scope.spawn(node.directory.refresh(), "refresh").observe()
    cluster.run_for(1.0)
    assert found.is_done()
    assert found.error is None
    node.directory.learn(msgspec.structs.replace(known, first=stale))
    assert node.router.first == known.first, "what is older is not news"


def test_a_node_that_leaves_can_be_taken_back() -> None:
    cluster = Cluster(3, seed=13, founders=1, regions=["a", "b", "c"])
    cluster.do(1, Put(A, b"1"))
    wait_for(cluster, A, [1, 2, 3])
    assert set_standing(cluster, 1, 3, Standing.LEAVING) is None
    cluster.run_for(10.0)
    assert voters(cluster, A) == [1, 2, 3]  # There is nobody else.
    assert set_standing(cluster, 1, 3, Standing.ACTIVE) is None
    cluster.run_for(5.0)
    assert cluster.nodes[2].directory.standing == {3: Standing.ACTIVE}
    assert isinstance(set_standing(cluster, 1, 9, Standing.LEAVING), SqlError)
