"""Leases and replicas spread over the nodes, and then stay where they are."""

from __future__ import annotations

import random

import pytest

from kvtier.messages import Get, Put, Split
from kvtier.replication.allocation import DEAD, NodeState, Replicas
from kvtier.replication.balancing import LeaseHere, leases_to_hand, swap_of, tolerance
from kvtier.replication.constraints import Span, SpanConfig, SpanConfigs
from kvtier.replication.envelope import Figures
from kvtier.replication.settings import ReplicationSettings
from tests.kvtier.replication.cluster import Cluster
from tests.kvtier.replication.test_cluster import settle

KEYS = [b"\x03d%02d" % number for number in range(24)]


def test_counts_that_differ_little_move_nothing() -> None:
    leases = [LeaseHere(number, 0.0, (2, 3)) for number in range(10)]
    assert leases_to_hand(1, {1: Figures(10), 2: Figures(8), 3: Figures(7)}, leases) == []
    moved = leases_to_hand(1, {1: Figures(10), 2: Figures(8), 3: Figures(5)}, leases)
    assert [node_id for _, node_id in moved] == [3]


def test_a_hot_range_goes_to_the_idle_node_and_a_single_hot_one_stays() -> None:
    figures = {1: Figures(5, 5, 900.0), 2: Figures(5, 5, 100.0)}
    leases = [LeaseHere(1, 800.0, (2,)), LeaseHere(2, 100.0, (2,)), LeaseHere(3, 0.0, (2,))]
    # The hottest would only carry the heat over: the second hottest goes.
    assert leases_to_hand(1, figures, leases) == [(2, 2)]
    assert leases_to_hand(1, figures, leases[:1]) == []
    assert leases_to_hand(2, figures, [LeaseHere(4, 50.0, (1,))]) == []


@pytest.mark.parametrize("seed", range(100))
def test_leases_come_to_rest(seed: int) -> None:
    """From anywhere, with figures that are a round old, moves end, and end within the tolerances."""
    rng = random.Random(seed)
    nodes = list(range(1, rng.randint(2, 6) + 1))
    holder = {range_id: rng.choice(nodes[: rng.randint(1, len(nodes))]) for range_id in range(rng.randint(1, 80))}
    load = {range_id: rng.choice([0.0, 0.0, 5.0, 40.0, 200.0]) for range_id in holder}

    def figures() -> dict[int, Figures]:
        return {
            node: Figures(
                sum(place == node for place in holder.values()), 0,
                sum(load[range_id] for range_id, place in holder.items() if place == node),
            )
            for node in nodes
        }  # fmt: skip

    quiet = 0
    for _ in range(300):
        told = figures()
        moves = [
            (range_id, heir)
            for node in nodes
            for range_id, heir in leases_to_hand(
                node, told,
                [
                    LeaseHere(range_id, load[range_id], tuple(other for other in nodes if other != node))
                    for range_id, place in holder.items()
                    if place == node
                ],
            )
        ]  # fmt: skip
        holder.update(moves)
        quiet = 0 if moves else quiet + 1
        if quiet == 2:
            break
    assert quiet == 2, figures()
    counts = [found.leases for found in figures().values()]
    loads = [found.load for found in figures().values()]
    assert max(counts) - min(counts) < tolerance(len(holder) / len(nodes)) or max(loads) - min(loads) > 0


def test_a_replica_goes_to_the_emptier_node_if_that_is_as_good() -> None:
    nodes = [NodeState(node_id, "r") for node_id in (1, 2, 3, 4)]
    counts = {1: 20, 2: 20, 3: 18, 4: 0}
    anywhere = lambda swapped: True  # noqa: E731
    assert swap_of(counts, Replicas((1, 2, 3)), 1, nodes, anywhere) == Replicas((1, 3, 4))
    assert swap_of(counts, Replicas((1, 2, 3)), 2, nodes, anywhere) == Replicas((2, 3, 4))
    assert swap_of(counts, Replicas((1, 2, 3)), 1, nodes, lambda swapped: False) is None
    assert swap_of({**counts, 4: 17}, Replicas((1, 2, 3)), 1, nodes, anywhere) is None
    dead = [*nodes[:3], NodeState(4, "r", "", DEAD)]
    assert swap_of(counts, Replicas((1, 2, 3)), 1, dead, anywhere) is None


# --- whole stores ------------------------------------------------------------------------------


def counts(cluster: Cluster) -> tuple[dict[int, int], dict[int, int]]:
    """Leases and replicas by node, as they are."""
    leases, replicas = {}, {}
    for node_id, node in cluster.nodes.items():
        groups = node.replication.groups.values()
        leases[node_id] = sum([node.replication.holds_lease(group) for group in groups])
        replicas[node_id] = len(node.store.ranges.all())
    return leases, replicas


def divided(cluster: Cluster) -> None:
    cluster.do(1, Put(KEYS[0], b"0"))
    cluster.run_for(15.0)
    for key in KEYS:
        cluster.do(1, Split(key))
        cluster.do(1, Put(key, b"0"))


def test_leases_spread_by_count_and_stay() -> None:
    cluster = Cluster(3, seed=31, founders=1, regions=["a", "b", "c"])
    divided(cluster)
    cluster.run_for(60.0)
    leases, _ = counts(cluster)
    assert max(leases.values()) - min(leases.values()) <= 4, leases
    handed = [node.placement.balancing.handed for node in cluster.nodes.values()]
    cluster.run_for(60.0)
    assert [node.placement.balancing.handed for node in cluster.nodes.values()] == handed
    settle(cluster)


def test_leases_stay_in_the_region_that_is_preferred() -> None:
    cluster = Cluster(3, seed=32, founders=1, regions=["a", "a", "b"])
    spans = SpanConfigs([Span(b"\x03d", b"\x03e", SpanConfig(3, (), False, (), ("a",)))])
    for node in cluster.nodes.values():
        node.placement.spans = lambda: spans
    divided(cluster)
    cluster.run_for(90.0)
    leases, _ = counts(cluster)
    assert leases[3] <= 3, leases
    assert abs(leases[1] - leases[2]) <= 5, leases


def test_a_new_node_gets_its_share_of_replicas() -> None:
    """While keys are read and written through all nodes, none of which fails or is slow."""
    settings = ReplicationSettings(snapshot_bytes_per_second=1 << 20)
    cluster = Cluster(4, seed=33, founders=1, regions=["r", "r", "r", "r"], settings=settings)
    late = cluster.nodes[4]
    late.crash()
    divided(cluster)
    cluster.run_for(20.0)
    late.start()
    slowest = 0.0
    for number in range(400):
        key = KEYS[number % len(KEYS)]
        began_ns = cluster.loop.now_ns
        cluster.do(1 + number % 3, Put(key, b"%d" % number))
        assert cluster.do(1 + (number + 1) % 3, Get(key)).results == [b"%d" % number]
        slowest = max(slowest, (cluster.loop.now_ns - began_ns) / 1e6)
        cluster.run_for(0.5)
    leases, replicas = counts(cluster)
    assert max(replicas.values()) - min(replicas.values()) <= 5, replicas
    assert max(leases.values()) - min(leases.values()) <= 5, leases
    assert slowest < 300.0
    moved = [node.placement.balancing.swapped for node in cluster.nodes.values()]
    cluster.run_for(60.0)
    assert sum([node.placement.balancing.swapped for node in cluster.nodes.values()]) - sum(moved) <= 1
    settle(cluster)
