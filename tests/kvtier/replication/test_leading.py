"""Ranges closed ahead of the clock, as those of GLOBAL tables are: reads of now at every replica, and whoever leads them next."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from base.errors import SqlError
from base.hlc import EPOCH_UNIX_US, LOGICAL_BITS
from kvtier.messages import ClosePolicy, Get, Isolation, Lock, Merge, Split, TransferLease
from kvtier.replication.settings import ReplicationSettings
from tests.kvtier.replication.cluster import Cluster
from txn.coordinator import Transaction

A = b"\x03a"
M = b"\x03m"
Z = b"\x03z"
READ_SECONDS = 0.005


def leading(seed: int = 1) -> Cluster:
    """Three nodes, whose keys from M on lead the clock."""
    cluster = Cluster(seed=seed, settings=ReplicationSettings(closed_lead_seconds=0.9))
    cluster.wait_for_leader()
    cluster.do(1, Split(M))
    cluster.do(1, ClosePolicy(M, True))
    cluster.run_for(2.0)
    return cluster


def run(cluster: Cluster, node_id: int, body: Callable[[Transaction], Awaitable[Any]], **options: Any) -> Any:
    """Runs a transaction of a node; returns (what the body returned, its commit timestamp, the seconds it took)."""
    node = cluster.nodes[node_id]

    async def main() -> Any:
        txn = node.coordinator.begin(**options)
        began = cluster.loop.now_ns
        found = await body(txn)
        commit_ts = txn.commit()
        ts = commit_ts if isinstance(commit_ts, int) else await commit_ts
        return found, ts, (cluster.loop.now_ns - began) / 1e9

    task = node.scope.spawn(main(), "client").observe()
    for _ in range(3_000):
        if task.is_done():
            break
        cluster.run_for(0.01)
    assert task.is_done()
    if task.error is not None:
        raise task.error
    return task.result


def put(cluster: Cluster, node_id: int, *keys: bytes, value: bytes = b"1") -> int:
    """Writes keys in one transaction; returns its commit timestamp."""

    async def body(txn: Transaction) -> None:
        for key in keys:
            await value_of(txn.get(key, Lock.EXCLUSIVE))
            txn.put(key, value)

    ts: int = run(cluster, node_id, body)[1]
    return ts


def get(cluster: Cluster, node_id: int, key: bytes, lock: Lock = Lock.NONE, **options: Any) -> Any:
    """Reads a key in a transaction; returns (value, seconds)."""
    value, _, seconds = run(cluster, node_id, lambda txn: value_of(txn.get(key, lock)), **options)
    return value, seconds


async def value_of(eager: Any) -> Any:
    return await eager if hasattr(eager, "__await__") else eager


def range_of(cluster: Cluster, key: bytes) -> int:
    replica = cluster.nodes[1].store.ranges.find(key)
    assert replica is not None
    return replica.range_id


def promised(cluster: Cluster, key: bytes) -> int:
    """Returns the latest timestamp at which any replica would answer now."""
    range_id = range_of(cluster, key)
    groups = [node.replication.groups[range_id] for node in cluster.nodes.values() if node.is_up]
    return max(max(group.closed_ts, group.closed_here) for group in groups)


def wall(cluster: Cluster, node_id: int = 1) -> int:
    node = cluster.nodes[node_id]
    ts: int = (node.scope.clock.wall_ns() // 1000 - EPOCH_UNIX_US) << LOGICAL_BITS
    return ts


def test_every_replica_answers_reads_of_now() -> None:
    cluster = leading()
    cluster.wires.seconds = 0.05
    cluster.run_for(1.0)
    put(cluster, 2, Z, value=b"new")
    for node_id in cluster.nodes:
        get(cluster, node_id, Z)
        assert get(cluster, node_id, Z)[0] == b"new"
        assert get(cluster, node_id, Z)[1] < READ_SECONDS, node_id
    # What is locked is asked of the leaseholder.
    follower = next(node for node in cluster.nodes if node != cluster.leader(range_of(cluster, Z)))
    assert get(cluster, follower, Z, Lock.EXCLUSIVE)[1] > READ_SECONDS


def test_what_was_told_is_seen_everywhere_at_once() -> None:
    cluster = leading(2)
    for number in range(6):
        writer = 1 + number % 3
        ts = put(cluster, writer, Z, value=b"%d" % number)
        assert ts <= wall(cluster)
        for node_id in cluster.nodes:
            assert get(cluster, node_id, Z)[0] == b"%d" % number


def test_whoever_sees_a_value_early_waits_for_it() -> None:
    """A clock that is ahead sees a write before the others do, and must not tell before they would see it, too."""
    cluster = leading(3)
    node = cluster.nodes[3]
    node.scope.clock.offset_ns = 200_000_000
    cluster.run_for(1.0)
    body_done: list[int] = []

    async def write() -> None:
        txn = cluster.nodes[1].coordinator.begin()
        await value_of(txn.get(Z, Lock.EXCLUSIVE))
        txn.put(Z, b"early")
        body_done.append(await value_of(txn.commit()))

    task = cluster.nodes[1].scope.spawn(write(), "writer").observe()
    early = False
    while not task.is_done():
        value, seconds = get(cluster, 3, Z)
        if value == b"early":
            early = early or seconds > READ_SECONDS
            assert get(cluster, 1, Z)[0] == get(cluster, 2, Z)[0] == b"early"
    assert early, "nobody had to wait"


def test_clocks_do_not_follow_what_is_ahead() -> None:
    cluster = leading(4)
    for number in range(5):
        put(cluster, 1 + number % 3, A, Z)
    for node_id, node in cluster.nodes.items():
        assert node.store.hlc.latest <= wall(cluster, node_id) + (1 << LOGICAL_BITS), node_id


def transfer(cluster: Cluster, range_id: int) -> None:
    holder = cluster.leader(range_id)
    cluster.do(1, TransferLease(Z, 1 if holder != 1 else 2))


def crash(cluster: Cluster, range_id: int) -> None:
    holder = cluster.leader(range_id)
    assert holder is not None
    cluster.nodes[holder].crash()


def crash_all(cluster: Cluster, range_id: int) -> None:
    for node in cluster.nodes.values():
        node.crash()
    for node in cluster.nodes.values():
        node.start()


def split(cluster: Cluster, range_id: int) -> None:
    cluster.do(1, Split(Z))


def stop(cluster: Cluster, range_id: int) -> None:
    """The range leads no more, and its lease goes elsewhere."""
    for _ in range(30):
        try:
            cluster.do(1, ClosePolicy(Z, False))
        except SqlError as refused:
            assert refused.sqlstate == "55000"
            cluster.run_for(0.1)
        else:
            break
    transfer(cluster, range_id)


@pytest.mark.parametrize("event", [transfer, crash, crash_all, split, stop])
def test_the_next_leaseholder_writes_above_what_was_promised(event: Callable[[Cluster, int], None]) -> None:
    for seed in range(5, 8):
        cluster = leading(seed)
        put(cluster, 1, Z)
        before = promised(cluster, Z)
        assert before > wall(cluster)
        event(cluster, range_of(cluster, Z))
        node_id = next(node for node in cluster.nodes if cluster.nodes[node].is_up)
        assert put(cluster, node_id, Z, value=b"2") > before, seed
        replica = cluster.nodes[node_id].store.ranges.find(Z)
        assert replica is not None
        assert replica.descriptor.leads == (event is not stop)


def test_a_policy_ends_when_its_promises_are_past() -> None:
    cluster = leading(8)
    before = promised(cluster, Z)
    with pytest.raises(SqlError, match="closed until"):
        cluster.do(1, ClosePolicy(Z, False))
    cluster.run_for(1.0)
    cluster.do(1, ClosePolicy(Z, False))
    assert wall(cluster) > before
    # Writes are told at once again.
    put(cluster, 1, Z)
    assert run(cluster, 1, _write(Z))[2] < 0.1


def _write(*keys: bytes) -> Callable[[Transaction], Awaitable[None]]:
    async def body(txn: Transaction) -> None:
        for key in keys:
            await value_of(txn.get(key, Lock.EXCLUSIVE))
            txn.put(key, b"written")

    return body


def test_a_range_that_was_checked_ahead_of_the_clock_keeps_its_lease_until_then() -> None:
    """What a transaction read beside a GLOBAL table stays as it was until its commit, also for the next leaseholder."""
    cluster = leading(9)
    put(cluster, 1, A, value=b"read")
    home = range_of(cluster, A)
    found: list[int] = []

    async def main() -> None:
        txn = cluster.nodes[1].coordinator.begin()
        assert await value_of(txn.get(A)) == b"read"
        await value_of(txn.get(Z, Lock.EXCLUSIVE))
        txn.put(Z, b"follows")
        found.append(await value_of(txn.commit()))

    task = cluster.nodes[1].scope.spawn(main(), "client").observe()
    while not any(node.replication.groups[home].marked_ts > wall(cluster) for node in cluster.nodes.values()):
        assert not task.is_done()
        cluster.run_for(0.001)
    holder = cluster.leader(home)
    with pytest.raises(SqlError, match="ahead of the clock"):
        cluster.do(1, TransferLease(A, 1 if holder != 1 else 2))
    marked = max(node.replication.groups[home].marked_ts for node in cluster.nodes.values())
    assert run(cluster, 2, _write(A))[1] > marked
    cluster.run_for(2.0)
    assert task.is_done()
    cluster.do(1, TransferLease(A, 1 if holder != 1 else 2))


def test_what_is_ahead_is_locked_only_in_its_time() -> None:
    """READ COMMITTED locks the newest version, but tells of none before its time."""
    cluster = leading(10)
    put(cluster, 1, Z, value=b"old")
    task = cluster.nodes[1].scope.spawn(_commit(cluster, Z), "writer").observe()
    cluster.run_for(0.1)
    assert not task.is_done(), "the writer waits"
    value, seconds = get(cluster, 2, Z, Lock.EXCLUSIVE, isolation=Isolation.READ_COMMITTED)
    assert value == b"ahead"
    assert seconds > 0.3
    cluster.run_for(0.1)
    assert task.is_done()


async def _commit(cluster: Cluster, key: bytes) -> None:
    txn = cluster.nodes[1].coordinator.begin()
    await value_of(txn.get(key, Lock.EXCLUSIVE))
    txn.put(key, b"ahead")
    await value_of(txn.commit())


def test_whoever_holds_a_span_sees_what_its_writer_did_not_wait_for() -> None:
    """A schema change begins when nobody writes the table any more; a client that left has written ahead of the clock."""
    cluster = leading(12)
    put(cluster, 1, Z, value=b"old")
    task = cluster.nodes[1].scope.spawn(_commit(cluster, Z), "writer").observe()
    cluster.run_for(0.1)
    assert not task.is_done(), "the writer waits"
    task.cancel()

    async def hold(txn: Transaction) -> Any:
        await value_of(txn.get(A))
        assert await value_of(txn.hold_span(M, b"\x03zz"))
        return await value_of(txn.get(Z))

    assert run(cluster, 2, hold)[0] == b"ahead"


def test_only_ranges_that_are_closed_alike_are_merged() -> None:
    cluster = leading(11)
    with pytest.raises(SqlError, match="not closed alike"):
        cluster.do(1, Merge(A))
    put(cluster, 1, Z)
    cluster.do(1, Split(Z))
    put(cluster, 1, Z)
    for _ in range(20):
        try:
            cluster.do(1, Merge(M))
        except SqlError:
            cluster.run_for(0.2)
        else:
            break
    before = promised(cluster, Z)
    assert put(cluster, 2, Z, value=b"merged") > before
    assert get(cluster, 3, Z)[0] == b"merged"
    assert cluster.do(1, Get(M)).results == [None]
