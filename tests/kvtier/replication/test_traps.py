"""Traps of replicated ranges, one scenario each, in the order of reliability.md."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from base.errors import AmbiguousResult, KvError, Overloaded, RangeMismatch, RangeUnavailable, Retryable
from base.seams import CF_DATA, CF_LOCAL
from kvtier import mvcc
from kvtier.descriptors import DATA_START, META1, META2, decode_descriptor
from kvtier.engine.batch import PUT
from kvtier.messages import (
    Batch,
    ConditionalPut,
    Delete,
    DeleteSpan,
    EndTxn,
    Get,
    Heartbeat,
    Isolation,
    Lock,
    Merge,
    Op,
    Put,
    Reply,
    Routing,
    Scan,
    Split,
    TransferLease,
    TxnMeta,
)
from kvtier.meta import ordered
from kvtier.opening import local_rows
from kvtier.replica import Replica
from kvtier.replication.group import Group
from kvtier.replication.groups import GIVE_UP_SECONDS
from kvtier.replication.settings import ReplicationSettings
from kvtier.replication.snapshots import CHANNEL, INCOMING_MAX, INCOMING_SECONDS_MAX, STAGING_PREFIX, Chunk
from tests.kvtier.replication.cluster import Cluster, Node
from tests.kvtier.replication.test_cluster import settle
from tests.kvtier.replication.test_histories import value_of
from tests.kvtier.replication.test_members import add
from txn.coordinator import Transaction

A, B = b"\x03a", b"\x03b"


def begin(cluster: Cluster, node_id: int, *ops: Op) -> Any:
    """Sends a batch through a node's router; the task is given back at once."""
    node = cluster.nodes[node_id]

    async def run() -> Reply:
        reply = node.router.send(Batch(list(ops)))
        return reply if isinstance(reply, Reply) else await reply

    return node.scope.spawn(run(), "client").observe()


def others(cluster: Cluster, node_id: int) -> list[int]:
    return [other for other in cluster.nodes if other != node_id]


def group_of(cluster: Cluster, node_id: int, range_id: int = 1) -> Group:
    return cluster.nodes[node_id].replication.groups[range_id]


def test_a_snapshot_overtakes_a_commit() -> None:
    """Reliability 7: whether a command was applied is not known to whom a snapshot brings past it.

    The leader's command reaches the others, their acknowledgements do not reach the leader; they commit
    it without it, and go on until it needs a snapshot.
    """
    cluster = Cluster(seed=11)
    old = cluster.wait_for_leader()
    cluster.do(old, Put(B, b"before"))
    cluster.settings.log_entries_max = 5
    for other in others(cluster, old):
        cluster.wires.cut[other, old] = None
    put = begin(cluster, old, ConditionalPut(A, b"once", None))
    cluster.run_for(0.05)
    cluster.wires.partition(old)
    other = others(cluster, old)[0]
    assert cluster.do(other, Get(A)).results == [b"once"]
    for number in range(40):
        cluster.do(other, Put(B, b"%d" % number))
    cluster.run_for(3.0)
    assert not put.is_done()
    cluster.wires.heal()
    settle(cluster)
    assert cluster.nodes[old].replication.snapshots.taken == 1
    assert isinstance(put.error, AmbiguousResult), put.error


def test_a_promise_above_the_log_gives_way_to_later_ones() -> None:
    """Reliability 42: a former leader's promise may name an index that the next leader's log reaches late."""
    cluster = Cluster()
    cluster.wait_for_leader()
    group = group_of(cluster, 1)
    here = group.applied_index
    before = group.closed_here
    group.promise(here + 5, before + 10)
    group.promise(here, before + 20)
    assert group.closed_here == before + 20
    group.promise(here, before + 15)
    assert (group.closed_here, len(group.promised)) == (before + 20, 0)


def test_support_is_withdrawn_although_the_disk_stalls() -> None:
    """Reliability 40: an engine that takes no writes for a moment delays the withdrawal, and no more."""
    cluster = Cluster()
    old = cluster.wait_for_leader()
    cluster.do(old, Put(A, b"one"))
    cluster.nodes[old].crash()
    for other in others(cluster, old):
        cluster.nodes[other].engine.faults.write_stalls = True
    cluster.loop.run_for(4.0)
    for other in others(cluster, old):
        cluster.nodes[other].engine.faults.write_stalls = False
    cluster.loop.failures.clear()
    assert cluster.do(others(cluster, old)[0], Get(A)).results == [b"one"]


def test_snapshots_without_a_sender_leave_room_for_others() -> None:
    """Reliability 68, 69: what a dead sender has staged is dropped after a while, and at the next start."""
    cluster = Cluster(seed=4)
    leader = cluster.wait_for_leader()
    node = cluster.nodes[others(cluster, leader)[0]]

    def offer(range_id: int) -> None:
        chunk = Chunk(range_id, b"t" * 8, 0, [(PUT, CF_DATA, A, b"x")])
        node.wire._calls[CHANNEL](leader, msgspec.msgpack.encode(chunk))

    for range_id in range(100, 100 + INCOMING_MAX):
        offer(range_id)
    with pytest.raises(Overloaded):
        offer(200)
    cluster.run_for(INCOMING_SECONDS_MAX + 1.0)
    offer(200)
    assert len(list(local_rows(node.engine, STAGING_PREFIX))) == 1
    cluster.run_for(1.0)
    node.crash()
    node.start()
    assert not list(local_rows(node.engine, STAGING_PREFIX))


def behind(seed: int) -> tuple[Cluster, int, int]:
    """Returns a cluster, its leader, and a node that was down while the log was truncated; 6 MB."""
    cluster = Cluster(seed=seed)
    leader = cluster.wait_for_leader()
    lagging = others(cluster, leader)[0]
    cluster.nodes[lagging].crash()
    cluster.settings.log_entries_max = 5
    for number in range(60):
        cluster.do(leader, Put(b"\x03%03d" % number, b"x" * 100_000))
    cluster.run_for(5.0)
    return cluster, leader, lagging


def until_installing(cluster: Cluster, node_id: int) -> None:
    """Runs until a snapshot is being copied there."""
    cluster.nodes[node_id].start()
    for _ in range(20_000):
        if cluster.nodes[node_id].replication.snapshots.is_installing(1):
            return
        cluster.run_for(0.0005)
    raise AssertionError("no snapshot came")


def test_a_stall_in_the_middle_of_a_snapshot() -> None:
    """An engine that takes no writes for a moment delays the copy; the other groups go on."""
    cluster, _, lagging = behind(21)
    until_installing(cluster, lagging)
    node = cluster.nodes[lagging]
    node.engine.faults.write_stalls = True
    cluster.run_for(0.3)
    assert node.replication.snapshots.is_installing(1)
    node.engine.faults.write_stalls = False
    cluster.run_for(3.0)
    settle(cluster)
    assert node.replication.snapshots.taken == 1


@pytest.mark.parametrize("seed", range(31, 35))
def test_a_crash_in_the_middle_of_a_snapshot(seed: int) -> None:
    """Reliability 67: the copy is made again from what is staged, or the snapshot sent again."""
    cluster, _, lagging = behind(seed)
    until_installing(cluster, lagging)
    cluster.nodes[lagging].crash()
    cluster.nodes[lagging].start()
    cluster.run_for(3.0)
    settle(cluster)
    assert not list(local_rows(cluster.nodes[lagging].engine, STAGING_PREFIX))


@pytest.mark.parametrize(
    ("isolation", "writes_elsewhere"),
    [
        (Isolation.READ_COMMITTED, False),
        (Isolation.READ_COMMITTED, True),
        (Isolation.REPEATABLE_READ, False),
        (Isolation.REPEATABLE_READ, True),
        (Isolation.SERIALIZABLE, True),
    ],
)
def test_a_lock_that_went_with_its_lease(isolation: Isolation, writes_elsewhere: bool) -> None:
    """Reliability 22, 23: a row locked FOR UPDATE was changed by another after the lock was lost.

    No commit, or one that comes before the other's: then what was locked and read still holds there.
    """
    cluster = Cluster(seed=8)
    old = cluster.wait_for_leader()
    cluster.do(old, Put(A, b"free"))
    other = others(cluster, old)[0]
    txn = cluster.nodes[old].coordinator.begin(isolation)
    run_txn(cluster, old, txn, lambda: txn.get(A, Lock.EXCLUSIVE))
    cluster.do(old, TransferLease(A, other))
    cluster.run_for(5.0)
    assert cluster.wait_for_leader() == other
    taken = cluster.do(other, Put(A, b"taken"))
    if writes_elsewhere:
        txn.put(B, b"mine")
    try:
        run_txn(cluster, old, txn, txn.commit)
    except Retryable:
        return
    assert isolation != Isolation.READ_COMMITTED, "it commits now, whatever it has read at"
    assert txn.read_ts <= txn.commit_ts < taken.write_ts


def run_txn(cluster: Cluster, node_id: int, txn: Transaction, call: Callable[[], Any]) -> Any:
    """Waits for one call on a transaction of a node."""

    async def run() -> Any:
        found = call()
        return await found if hasattr(found, "__await__") else found

    task = cluster.nodes[node_id].scope.spawn(run(), "client").observe()
    for _ in range(1000):
        cluster.run_for(0.02)
        if task.is_done():
            break
    if task.error is not None:
        raise task.error
    return task.result


def test_what_waits_for_a_quorum_is_answered_in_the_end() -> None:
    """A command in the log may yet be applied; what waits behind it was not even looked at."""
    cluster = Cluster(seed=9)
    leader = cluster.wait_for_leader()
    cluster.do(leader, Put(A, b"before"))
    for other in others(cluster, leader):
        cluster.nodes[other].crash()
    first = begin(cluster, leader, Put(A, b"first"))
    second = begin(cluster, leader, Put(A, b"second"))
    cluster.run_for(2 * GIVE_UP_SECONDS + 5.0)
    assert isinstance(first.error, AmbiguousResult), first.error
    assert isinstance(second.error, RangeUnavailable), second.error
    for other in others(cluster, leader):
        cluster.nodes[other].start()
    assert cluster.do(leader, Get(A)).results[0] in (b"before", b"first")
    cluster.do(leader, Put(A, b"third"))
    settle(cluster)


def test_a_recount_is_not_made_of_what_changed_meanwhile() -> None:
    """A replicated range's statistics stay exact although it is written to while it is counted again."""
    cluster = Cluster(seed=12)
    leader = cluster.wait_for_leader()
    for number in range(5):
        cluster.do(leader, *[Put(b"\x03b%d/%04d" % (number, row), b"v") for row in range(1_000)])
    node = cluster.nodes[leader]
    replica = node.store.ranges.get(1)
    assert replica is not None
    replica.is_estimate = True
    counting = node.scope.spawn(node.store.cleanup._count_again(replica), "count")
    writes = [begin(cluster, leader, Put(b"\x03a%04d" % number, b"new")) for number in range(20)]
    cluster.run_for(2.0)
    assert counting.is_done()
    assert all(write.is_done() for write in writes)
    assert replica.counts() == tuple(mvcc.stats(node.engine, replica.start, replica.end).as_tuple())


def test_garbage_of_replicated_ranges_is_collected() -> None:
    """Long after the lease began: a write to a replicated range makes its leaseholder sweep, too."""
    cluster = Cluster(seed=13)
    leader = cluster.wait_for_leader()
    for node in cluster.nodes.values():
        settings = node.store.settings
        settings.gc_seconds, settings.gc_interval_seconds, settings.gc_min_bytes = 5.0, 2.0, 100
    cluster.run_for(2_000.0)
    for number in range(50):
        cluster.do(leader, Put(A, b"%d" % number * 10))
    cluster.run_for(60.0)
    assert cluster.leader() == leader
    for node in cluster.nodes.values():
        assert mvcc.stats(node.engine, b"\x03", b"\x04").as_tuple()[2] < 5, node.node_id
    settle(cluster)


def test_replicated_ranges_are_split_by_size() -> None:
    cluster = Cluster(seed=14)
    leader = cluster.wait_for_leader()
    for node in cluster.nodes.values():
        node.store.settings.range_max_bytes = 100_000
        node.store.settings.gc_interval_seconds = 2.0
    for number in range(40):
        cluster.do(leader, Put(b"\x03%02d" % number, b"x" * 5_000))
    cluster.run_for(70.0)
    assert [len(node.store.ranges) >= 2 for node in cluster.nodes.values()] == [True, True, True]
    assert len(cluster.do(leader, Scan(b"\x030", b"\x034")).results[0].keys) == 40
    settle(cluster)


def test_a_write_that_waited_while_its_range_became_replicated() -> None:
    """It was addressed to nobody, because one store had everything; afterwards it must go through the log."""
    cluster = Cluster(2, 15, founders=1)
    cluster.do(1, Put(A, b"one"))
    txn = cluster.nodes[1].coordinator.begin()
    run_txn(cluster, 1, txn, lambda: txn.get(A, Lock.EXCLUSIVE))
    put = begin(cluster, 1, Put(A, b"two"))
    cluster.run_for(0.5)
    assert not put.is_done()
    add(cluster, A, 2)
    run_txn(cluster, 1, txn, txn.rollback)
    cluster.run_for(5.0)
    assert put.is_done()
    assert put.error is None, put.error
    cluster.do(1, TransferLease(A, 2))
    assert cluster.wait_for_leader() == 2
    assert cluster.do(2, Get(A)).results == [b"two"]
    settle(cluster)


def test_a_recount_and_a_split_at_once() -> None:
    """What a recount found is added to the range it counted, not to a half of it."""
    cluster = Cluster(seed=16)
    leader = cluster.wait_for_leader()
    node = cluster.nodes[leader]
    for number in range(20):
        cluster.do(leader, Put(b"\x03%02d" % number, b"v"))
    cluster.do(leader, Split(b"\x03", 76))
    settle(cluster)
    leader = cluster.wait_for_leader(76)
    node = cluster.nodes[leader]
    replica = node.store.ranges.get(76)
    assert replica is not None
    split = begin(cluster, leader, Split(b"\x0310", 77))
    group = group_of(cluster, leader, 76)
    while not any(proposal.ranges for proposal in group.proposals.values()):
        cluster.run_for(0.0001)
    replica.is_estimate = True
    node.scope.spawn(count(node, replica), "count")
    cluster.run_for(3.0)
    assert split.error is None, split.error
    cluster.do(leader, Put(b"\x0319", b"synced"))
    for each in cluster.nodes.values():
        each.crash()
        each.start()
    cluster.wait_for_leader(76)
    settle(cluster)
    left = node.store.ranges.get(76)
    assert left is not None
    assert left.counts() == tuple(mvcc.stats(node.engine, left.start, left.end).as_tuple())


async def count(node: Node, replica: Replica) -> None:
    """Counts a range again; it may have moved."""
    try:
        await node.store.cleanup._count_again(replica)
    except KvError:
        pass  # The sweep that counts would come again.


def test_a_directory_that_knows_half_of_a_split() -> None:
    """Reliability 73: the right half is published, the left one not yet; no key may be skipped (bank, seed 345)."""
    cluster = Cluster(seed=17)
    leader = cluster.wait_for_leader()
    cluster.do(leader, Put(A, b"left"))
    cluster.do(leader, Put(b"\x03z", b"right"))
    cluster.do(leader, Split(b"\x03"))
    cluster.do(leader, Split(b"\x03m"))
    cluster.run_for(3.0)
    entry = META2 + ordered(b"\x03m")
    cluster.do(leader, Delete(entry))
    node = cluster.nodes[others(cluster, leader)[0]]
    node.router.cache.clear()
    scan = begin(cluster, node.node_id, Scan(b"\x03a", b"\x04"))
    cluster.run_for(0.5)
    assert not scan.is_done()
    left = node.store.ranges.find(A)
    assert left is not None
    cluster.nodes[leader].replication.publisher.enter(left.descriptor)
    cluster.run_for(5.0)
    assert scan.error is None, scan.error
    assert scan.result.results[0].values[0] == b"left"


CLOSED_SECONDS = 2.0
"""Longer than closed timestamps trail, shorter than transactions live without a sign."""


def closing_early() -> Cluster:
    return Cluster(settings=ReplicationSettings(closed_lag_seconds=0.5))


def closed_over(cluster: Cluster, txn: TxnMeta) -> None:
    """Lets time pass until the leaseholder has closed what lies above a transaction."""
    cluster.run_for(CLOSED_SECONDS)
    leader = cluster.wait_for_leader()
    assert group_of(cluster, leader).closed() > txn.write_ts


def test_43_a_commit_of_what_was_written_below_closed_stays_where_it_is() -> None:
    """It has read at its timestamp, and nobody checked its reads any higher: seed 20 of the SQL ones on a cluster."""
    cluster = closing_early()
    node_id = cluster.wait_for_leader()
    cluster.do(node_id, Put(A, b"old"))
    ts = cluster.nodes[node_id].store.now()
    txn = TxnMeta(b"t" * 16, read_ts=ts, write_ts=ts, anchor=B, start_ts=ts)
    assert cluster.do(node_id, Get(A), txn=txn).results == [b"old"]
    assert cluster.do(node_id, Put(B, b"from old", 1), txn=txn).write_ts == ts
    cluster.do(node_id, Put(A, b"new"))
    closed_over(cluster, txn)
    cluster.do(node_id, Heartbeat(B, cluster.nodes[node_id].store.now()), txn=txn)
    end = EndTxn(True, intents=(B,), can_forward=False)
    assert cluster.do(node_id, end, txn=txn).write_ts == ts


def test_43_a_staged_commit_is_made_final_where_it_was_staged() -> None:
    cluster = closing_early()
    node_id = cluster.wait_for_leader()
    ts = cluster.nodes[node_id].store.now()
    txn = TxnMeta(b"t" * 16, read_ts=ts, write_ts=ts, anchor=A, start_ts=ts)
    staging = (Put(A, b"staged", 1), EndTxn(True, in_flight=((A, 1),)))
    reply = cluster.do(node_id, *staging, txn=txn)
    assert reply.staged and reply.write_ts == ts
    closed_over(cluster, txn)
    # Sent once more, because the answer was lost.
    assert cluster.do(node_id, *staging, txn=txn).write_ts == ts
    assert cluster.do(node_id, EndTxn(True, intents=(A,)), txn=txn).write_ts == ts


def test_43_a_write_below_closed_that_cannot_be_moved_is_refused() -> None:
    cluster = closing_early()
    node_id = cluster.wait_for_leader()
    ts = cluster.nodes[node_id].store.now()
    txn = TxnMeta(b"t" * 16, read_ts=ts, write_ts=ts, anchor=A, start_ts=ts)
    closed_over(cluster, txn)
    with pytest.raises(Retryable, match="cannot move its read timestamp"):
        cluster.do(node_id, Put(A, b"late", 1), EndTxn(True, in_flight=((B, 2),), can_forward=False), txn=txn)
    assert cluster.do(node_id, Put(A, b"late", 1), txn=txn).write_ts > ts


def test_a_commit_that_closed_timestamps_overtake() -> None:
    """Checking its reads takes longer than they trail, each time: seed 3046 of sql-tpcc, whose load never ended."""
    cluster = Cluster(settings=ReplicationSettings(closed_lag_seconds=0.02, closed_interval_seconds=0.01))
    leader = cluster.wait_for_leader()
    cluster.do(leader, Put(A, b"read"))
    cluster.do(leader, Split(B))
    cluster.do(leader, TransferLease(A, others(cluster, leader)[0]))
    cluster.run_for(3.0)
    cluster.wires.seconds = 0.2
    txn = cluster.nodes[leader].coordinator.begin()
    assert run_txn(cluster, leader, txn, lambda: txn.get(A)) == b"read"
    txn.put(B, b"written")
    run_txn(cluster, leader, txn, txn.commit)
    assert cluster.do(leader, Get(B)).results == [b"written"]


def test_a_commit_that_was_not_waited_for_is_not_torn() -> None:
    """Whoever gives up waiting aborts; that it had committed was taken for an abort: index, seed 6023 on five nodes.

    A heartbeat has written a record, so the commit leaves intents, one of them on a key that is locked.
    """
    cluster = Cluster()
    for each in cluster.nodes.values():
        each.store.settings.resolve_delay_seconds = 5.0
    leader = cluster.wait_for_leader()
    cluster.do(leader, Put(A, b"old"), Put(B, b"old"))
    node = cluster.nodes[others(cluster, leader)[0]]
    txn = node.coordinator.begin()
    assert run_txn(cluster, node.node_id, txn, lambda: txn.get(A, Lock.EXCLUSIVE)) == b"old"
    cluster.run_for(3 * node.coordinator.settings.heartbeat_seconds)
    assert cluster.nodes[leader].store.state.records
    txn.put(A, b"new")
    txn.put(B, b"new")
    commit = txn.commit()
    assert not isinstance(commit, int)
    task = node.scope.spawn(_wait(commit), "commit").observe()
    group = group_of(cluster, leader)
    while not group.proposals:
        cluster.run_for(0.0001)
    task.cancel()
    cluster.run_for(2.0)
    assert cluster.do(leader, Get(A), Get(B)).results == [b"new", b"new"]


async def _wait(commit: Awaitable[int]) -> int:
    return await commit


def test_a_range_of_one_replica_is_split_where_the_directory_has_several() -> None:
    """Its entries went past the directory's log, and one replica of that had them: registers, seed 15."""
    cluster = Cluster(2, 18, founders=1)
    cluster.do(1, Put(A, b"left"), Put(B, b"right"))
    cluster.do(1, Split(A))
    add(cluster, META1, 2)
    cluster.do(1, Split(B))
    cluster.do(1, Merge(A))
    cluster.do(1, Split(B + b"m"))
    cluster.run_for(3.0)
    digests = [mvcc.checksum(node.engine, META1, DATA_START) for node in cluster.nodes.values()]
    assert digests[0] == digests[1]
    assert cluster.do(2, Get(A), Get(B)).results == [b"left", b"right"]
    found = cluster.do(2, Scan(META2, DATA_START)).results[0].values
    directory = {descriptor.start: descriptor for descriptor in map(decode_descriptor, found)}
    here = {replica.start: replica.descriptor for replica in cluster.nodes[1].store.ranges.all()}
    assert directory == here


def ask(cluster: Cluster, source: int, target: int, batch: Batch) -> Any:
    """Asks a node's store for an addressed batch, past every router."""
    node = cluster.nodes[source]
    task = node.scope.spawn(node.replication.remote.ask(target, batch), "ask").observe()
    cluster.run_for(2.0)
    return task


@pytest.mark.parametrize("routing", list(Routing))
def test_keys_outside_the_addressed_range_are_refused(routing: Routing) -> None:
    """What lies in another range is neither read nor written, whoever says it lies here."""
    cluster = Cluster()
    leader = cluster.wait_for_leader()
    cluster.do(leader, Put(B, b"right"))
    right = cluster.do(leader, Split(B)).results[0]
    cluster.run_for(3.0)
    left = cluster.nodes[leader].store.ranges.find(A)
    assert left is not None
    for op in (Get(B), Put(B, b"wrong"), Scan(A, B + b"z"), Delete(B), Split(B + b"a")):
        for target in cluster.nodes:
            batch = Batch([op], range_id=left.range_id, generation=left.generation, routing=routing)
            refused = ask(cluster, leader, target, batch).error
            assert isinstance(refused, RangeMismatch), (op, refused)
            assert left.descriptor in refused.descriptors
    assert cluster.do(leader, Get(B)).results == [b"right"]
    # A router that believed so learns better and asks again.
    router = cluster.nodes[leader].router
    router.cache.insert(msgspec.structs.replace(left.descriptor, end=right.end))
    assert router.cache.find(B).range_id == left.range_id  # type: ignore[union-attr]  # just put there
    assert cluster.do(leader, Get(B)).results == [b"right"]
    assert router.cache.find(B).range_id == right.range_id  # type: ignore[union-attr]  # learnt


def test_read_committed_commits_at_what_it_checked() -> None:
    """The commit was put above the timestamp of its checks, each time: seed 4 of queue on a cluster."""
    cluster = Cluster()
    node_id = cluster.wait_for_leader()
    cluster.do(node_id, Put(A, b"job"))
    node = cluster.nodes[node_id]

    async def main() -> int:
        txn = node.coordinator.begin(Isolation.READ_COMMITTED)
        await value_of(txn.scan(A, B, limit=1, lock=Lock.EXCLUSIVE))
        txn.delete(A)
        commit_ts: int = await value_of(txn.commit())
        return commit_ts

    task = node.scope.spawn(main(), "client").observe()
    cluster.run_for(5.0)
    assert task.error is None and task.result > 0, task.error


def test_a_recount_and_a_deletion_under_way() -> None:
    """A deletion that was evaluated before a recount, and is applied after it began, leaves an estimate.

    Seed 3005 of 60 virtual seconds of `spans` on three nodes.
    """
    cluster = Cluster(seed=17)
    leader = cluster.wait_for_leader()
    node = cluster.nodes[leader]
    for number in range(20):
        cluster.do(leader, Put(b"\x03%02d" % number, b"v"))
    replica = node.store.ranges.get(1)
    assert replica is not None
    replica.is_estimate = True
    deletion = begin(cluster, leader, DeleteSpan(b"\x03", b"\x0310"))
    group = group_of(cluster, leader, 1)
    while not group.proposals:
        cluster.run_for(0.0001)
    node.scope.spawn(node.store.cleanup._count_again(replica), "count")
    cluster.run_for(3.0)
    assert deletion.error is None, deletion.error
    counted = tuple(mvcc.stats(node.engine, replica.start, replica.end, node.store.state.tombstones).as_tuple())
    assert replica.is_estimate or replica.counts() == counted


def test_a_recount_that_waits_behind_a_deletion() -> None:
    """A deletion that is evaluated while a recount waits to be proposed leaves an estimate, in the engine too.

    Seed 6026 of 20 virtual seconds of `spans` on five nodes.
    """
    cluster = Cluster(seed=18)
    leader = cluster.wait_for_leader()
    node = cluster.nodes[leader]
    for number in range(20):
        cluster.do(leader, Put(b"\x03%02d" % number, b"v"))
    replica = node.store.ranges.get(1)
    assert replica is not None
    replica.is_estimate = True
    cleanup = node.store.cleanup
    survey = cleanup._survey
    tasks = []

    async def surveyed(surveying: Replica) -> mvcc.Survey:
        found = await survey(surveying)
        # One is in the log, the other waits for its latch and is evaluated after the recount has looked.
        tasks.append(begin(cluster, leader, Put(b"\x0305", b"w")))
        while not group_of(cluster, leader, 1).proposals:
            await node.store.clock.sleep(0.0001)
        tasks.append(begin(cluster, leader, DeleteSpan(b"\x03", b"\x0310")))
        await node.store.clock.sleep(0.0001)
        return found

    setattr(cleanup, "_survey", surveyed)
    node.scope.spawn(cleanup._count_again(replica), "count")
    cluster.run_for(3.0)
    assert len(tasks) == 2 and not any(task.error for task in tasks), tasks
    counted = mvcc.stats(node.engine, replica.start, replica.end, node.store.state.tombstones).as_tuple()
    assert replica.counts() != counted, "the deletion came too early"
    assert replica.is_estimate
    stored = Replica(replica.state(), node.store.scheduler)
    stored.load_stats(node.engine.get(CF_LOCAL, replica.stats_key) or b"")
    assert stored.is_estimate and stored.counts() == replica.counts()
