"""Locks of a transaction that has committed: freed by the commit where they are in its range, asked for elsewhere."""

from __future__ import annotations

from kvtier.messages import Isolation, Lock, Split, TransferLease
from tests.kvtier.replication.cluster import Cluster
from tests.kvtier.replication.test_deadlocks import value_of

A, B, M = b"\x03da", b"\x03db", b"\x03dm"


def batches(cluster: Cluster) -> list[int]:
    """What leaseholders have evaluated so far, of the range of A and of that of M."""
    found = {A: 0, M: 0}
    for node in cluster.nodes.values():
        for group in node.replication.groups.values():
            for key in found:
                if group.replica is not None and group.replica.start <= key < group.replica.end and group.is_leading():
                    found[key] = group.batches
    return [found[A], found[M]]


def test_locks_of_other_ranges_alone_are_asked_to_be_freed() -> None:
    """A commit's own locks went with it, and were then looked for by one more batch of every transaction."""
    cluster = Cluster()
    cluster.wait_for_leader()
    cluster.do(1, Split(M))
    cluster.run_for(2.0)
    cluster.do(1, TransferLease(A, 1))
    cluster.do(1, TransferLease(M, 3))
    cluster.run_for(2.0)

    async def write(locked: list[bytes]) -> None:
        txn = cluster.nodes[2].coordinator.begin(Isolation.SERIALIZABLE)
        for key in locked:
            await value_of(txn.get(key, Lock.EXCLUSIVE))
        txn.put(A, b"1")
        await value_of(txn.commit())

    def run(locked: list[bytes]) -> list[int]:
        before = batches(cluster)
        cluster.nodes[2].scope.spawn(write(locked), "write")
        cluster.run_for(1.0)
        for node in cluster.nodes.values():
            assert not len(node.store.state.locks), (node.node_id, locked)
        return [late - early for early, late in zip(before, batches(cluster))]

    run([A, M])  # Ranges are found.
    assert run([A]) == [2, 0]
    assert run([A, B]) == [3, 0]
    _, there = run([A, M])
    assert there >= 2  # The lock, and its end.
