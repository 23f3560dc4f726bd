"""Borders follow load and size: hot ranges are divided, small cold neighbours joined, what hands have made stays."""

from __future__ import annotations

from typing import Any

from kvtier.messages import Get, Put, Split, Unsplit
from kvtier.replication.constraints import Span, SpanConfig, SpanConfigs
from kvtier.replication.reshaping import INTERVAL_SECONDS, LOOKS, split_key
from kvtier.settings import StoreSettings
from tests.kvtier.replication.cluster import Cluster
from tests.kvtier.replication.test_cluster import settle

KEYS = [b"\x03d%02d" % number for number in range(40)]
MERGE_AFTER_SECONDS = 20.0


def reshaped(seed: int, **settings: Any) -> Cluster:
    """Three nodes with placement, whose ranges change soon."""
    cluster = Cluster(3, seed=seed, regions=["a", "a", "a"])
    for node in cluster.nodes.values():
        node.store.settings = StoreSettings(merge_after_seconds=MERGE_AFTER_SECONDS, **settings)
    cluster.wait_for_leader()
    return cluster


def starts(cluster: Cluster) -> list[bytes]:
    """The borders between data, on every node alike."""
    found = [[replica.start for replica in node.store.ranges.all()] for node in cluster.nodes.values()]
    assert all(borders == found[0] for borders in found), found
    return [start for start in found[0] if start > b"\x03d"]


def test_a_border_halves_what_was_asked_for() -> None:
    points = [(b"\x03%02d" % number, b"\x03%02d\x00" % number) for number in range(64)]
    assert split_key(points, b"\x03") == b"\x0332"
    assert split_key(points[:20], b"\x03") is None  # Too few to tell.
    assert split_key([points[5]] * 64, b"\x03") is None  # One hot key.
    assert split_key([points[0]] * 60 + points[:4], b"\x03") is None
    whole = [(b"\x0300", b"\x0399")] * 64
    assert split_key(whole, b"\x03") is None  # Each would ask both halves.
    assert split_key(points[:32] + whole[:32], b"\x03") is None
    found = split_key(points[:56] + whole[:8], b"\x03")
    assert found is not None
    assert b"\x0320" <= found <= b"\x0336"


def test_small_cold_neighbours_are_joined() -> None:
    cluster = reshaped(71)
    leader = cluster.wait_for_leader()
    for key in KEYS[:6]:
        cluster.do(leader, Split(key))
        cluster.do(leader, Put(key, key))
    cluster.run_for(MERGE_AFTER_SECONDS / 2)
    assert starts(cluster) == KEYS[:6]
    cluster.run_for(MERGE_AFTER_SECONDS + 30 * INTERVAL_SECONDS)
    assert starts(cluster) == []
    assert cluster.do(2, *[Get(key) for key in KEYS[:6]]).results == KEYS[:6]
    settle(cluster)


def test_what_hands_have_split_stays_until_it_is_given_up() -> None:
    cluster = reshaped(72)
    leader = cluster.wait_for_leader()
    last = cluster.do(leader, Split(KEYS[0], is_sticky=True, more=((KEYS[1], 0), (KEYS[2], 0)))).results[0]
    assert (last.start, last.is_sticky) == (KEYS[2], True)
    cluster.do(leader, Split(KEYS[3]))
    for node in cluster.nodes.values():
        node.placement.spans = lambda: SpanConfigs([Span(KEYS[5], KEYS[6], SpanConfig(lease_regions=("a",)))])
    cluster.run_for(MERGE_AFTER_SECONDS + LOOKS * INTERVAL_SECONDS)
    # Those that placement wants are made, and stay, too.
    assert starts(cluster) == [KEYS[0], KEYS[1], KEYS[2], KEYS[5], KEYS[6]]
    assert not cluster.do(1, Unsplit(KEYS[1])).results[0].is_sticky
    assert not cluster.do(1, Unsplit(KEYS[2] + b"x")).results[0].start > KEYS[2]
    cluster.run_for(MERGE_AFTER_SECONDS + LOOKS * INTERVAL_SECONDS)
    assert starts(cluster) == [KEYS[0], KEYS[2], KEYS[5], KEYS[6]]
    # Whoever splits by hand where there is a border already keeps it from going.
    cluster.do(1, Split(KEYS[5], is_sticky=True))
    for node in cluster.nodes.values():
        node.placement.spans = SpanConfigs
    cluster.run_for(MERGE_AFTER_SECONDS + LOOKS * INTERVAL_SECONDS)
    assert starts(cluster) == [KEYS[0], KEYS[2], KEYS[5]]
    settle(cluster)


def test_a_hot_range_is_divided_and_stays_so_while_it_is_warm() -> None:
    cluster = reshaped(73, split_requests=20.0)
    leader = cluster.wait_for_leader()
    cluster.do(leader, Split(b"\x03d", is_sticky=True))
    for key in KEYS:
        cluster.do(leader, Put(key, key))
    # Every node has its replicas before it is asked for their borders.
    for _ in range(100):
        if all([len(node.store.ranges.all()) == 2 for node in cluster.nodes.values()]):
            break
        cluster.run_for(0.1)
    for number in range(1_500):
        cluster.do(1 + number % 3, Get(KEYS[number * 7 % len(KEYS)]))
        cluster.run_for(0.01)
        if starts(cluster):
            break
    (border,) = starts(cluster)
    assert KEYS[8] <= border <= KEYS[32]
    settle(cluster)


def test_splits_in_bulk_make_all_ranges_at_once() -> None:
    cluster = Cluster(3, seed=74)
    leader = cluster.wait_for_leader()
    for key in KEYS:
        cluster.do(leader, Put(key, key))
    before = cluster.nodes[leader].replication.groups[1].applied_index
    last = cluster.do(leader, Split(KEYS[1], more=tuple([(key, 0) for key in KEYS[2:]]))).results[0]
    assert last.start == KEYS[-1]
    cluster.run_for(2.0)
    assert starts(cluster) == KEYS[1:]
    for node in cluster.nodes.values():
        ids = [replica.range_id for replica in node.store.ranges.all()]
        assert len(dict.fromkeys(ids)) == len(ids) == len(KEYS)
        for key in KEYS[1:-1]:
            replica = node.store.ranges.find(key)
            assert replica is not None
            assert (replica.live_count, replica.is_estimate) == (1, False)
    # One command, and what the meta ranges were told.
    assert cluster.nodes[leader].replication.groups[1].applied_index - before < 20
    assert cluster.do(2, *[Get(key) for key in KEYS]).results == KEYS
    settle(cluster)
