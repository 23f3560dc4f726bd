"""Transactions that wait for each other in different stores: one of them gives way."""

from __future__ import annotations

from typing import Any

from base.errors import Deadlock
from kvtier.dependents import DEPENDENTS_MAX, FADE_SECONDS, Dependents
from kvtier.messages import Isolation, Lock, Split, TransferLease
from kvtier.replication.liveness import ticks_of
from tests.kvtier.replication.cluster import Cluster

A, M = b"\x03da", b"\x03dm"


async def value_of(eager: Any) -> Any:
    return await eager if hasattr(eager, "__await__") else eager


def test_a_cycle_over_two_stores_ends() -> None:
    cluster = Cluster()
    cluster.wait_for_leader()
    cluster.do(1, Split(M))
    cluster.run_for(2.0)
    cluster.do(1, TransferLease(A, 1))
    cluster.do(1, TransferLease(M, 2))
    cluster.run_for(2.0)
    outcomes: list[str] = []

    async def cross(node_id: int, first: bytes, second: bytes) -> None:
        node = cluster.nodes[node_id]
        txn = node.coordinator.begin(Isolation.SERIALIZABLE)
        await value_of(txn.get(first, Lock.EXCLUSIVE))
        await node.scope.clock.sleep(0.5)
        try:
            await value_of(txn.get(second, Lock.EXCLUSIVE))
        except Deadlock:
            outcomes.append("deadlock")
            await value_of(txn.rollback())
            return
        await value_of(txn.commit())
        outcomes.append("done")

    cluster.nodes[1].scope.spawn(cross(1, A, M), "one")
    cluster.nodes[2].scope.spawn(cross(2, M, A), "other")
    cluster.run_for(8.0)
    assert sorted(outcomes) == ["deadlock", "done"]


def test_a_batch_that_met_a_conflict_is_known_for_what_it_has_locked() -> None:
    """Its node was lost while it waited for its second key, and the first stayed locked: bank, seed 5 of five nodes."""
    cluster = Cluster()
    cluster.wait_for_leader()
    cluster.do(1, TransferLease(A, 1))
    cluster.run_for(2.0)
    locked: list[str] = []

    async def hold() -> None:
        txn = cluster.nodes[1].coordinator.begin(Isolation.SERIALIZABLE)
        await value_of(txn.get(M, Lock.EXCLUSIVE))
        await cluster.nodes[1].scope.clock.sleep(60.0)
        await value_of(txn.rollback())

    async def lock_both() -> None:
        txn = cluster.nodes[2].coordinator.begin(Isolation.SERIALIZABLE)
        await value_of(txn.get_many([A, M], Lock.EXCLUSIVE))
        locked.append("both")

    async def lock_first() -> None:
        txn = cluster.nodes[1].coordinator.begin(Isolation.SERIALIZABLE)
        await value_of(txn.get(A, Lock.EXCLUSIVE))
        locked.append("first")
        await value_of(txn.rollback())

    cluster.nodes[1].scope.spawn(hold(), "hold")
    cluster.run_for(0.5)
    cluster.nodes[2].scope.spawn(lock_both(), "lock both")
    cluster.run_for(0.5)
    cluster.nodes[2].crash()
    cluster.run_for(1.0)
    cluster.nodes[1].scope.spawn(lock_first(), "lock first")
    cluster.run_for(30.0)
    assert locked == ["first"]


def test_what_was_heard_fades() -> None:
    dependents = Dependents()
    dependents.note(b"holder", [b"one", b"two"], 1000)
    assert dependents.of(b"holder", 1000) == (b"one", b"two")
    late = 1000 + ticks_of(FADE_SECONDS)
    dependents.note(b"holder", [b"two"], late)
    assert dependents.of(b"holder", late + 1) == (b"two",)
    assert dependents.of(b"nobody", late) == ()


def test_the_waiters_of_one_transaction_are_bounded() -> None:
    dependents = Dependents()
    dependents.note(b"holder", [b"%d" % number for number in range(DEPENDENTS_MAX + 5)], 1)
    assert len(dependents.of(b"holder", 1)) == DEPENDENTS_MAX
