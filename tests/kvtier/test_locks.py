"""The lock table: order, compatibility, upgrades, deadlocks, and clean queues."""

from __future__ import annotations

import random

import pytest

from base.errors import Deadlock
from kvtier.locks import EXCLUSIVE, NONE, SHARE, LockRequest, LockTable, LockTableFull
from kvtier.messages import TxnMeta
from tests.kvtier.kvloop import Loop


def txn(name: str, age: int = 10, priority: int = 1) -> TxnMeta:
    """A transaction; a greater ``age`` value began later."""
    return TxnMeta(name.encode(), start_ts=age, priority=priority)


A, B, C, D = txn("a", 1), txn("b", 2), txn("c", 3), txn("d", 4)


def table() -> LockTable:
    return LockTable(Loop())


def lock(locks: LockTable, owner: TxnMeta, key: bytes, strength: int) -> LockRequest | None:
    """Takes the lock, or returns the place in its queue."""
    request = None if locks.acquire(key, owner.id, strength) else locks.enqueue(key, owner, strength)
    locks.check()
    return request


def test_exclusive_excludes_and_is_reentrant():
    locks = table()
    assert lock(locks, A, b"k", EXCLUSIVE) is None
    assert lock(locks, A, b"k", EXCLUSIVE) is None
    assert lock(locks, A, b"k", SHARE) is None
    request = lock(locks, B, b"k", EXCLUSIVE)
    assert request is not None
    assert not request.is_granted
    locks.release_txn(A.id)
    locks.check()
    assert request.is_granted
    assert request.waiter.is_done()
    assert locks.holds_exclusive(b"k", B.id)
    locks.release_txn(B.id)
    assert len(locks) == 0
    assert locks.waiters() == 0


def test_shares_are_compatible_but_do_not_overtake():
    """A share behind a waiting exclusive waits too, or writers would starve."""
    locks = table()
    assert lock(locks, A, b"k", SHARE) is None
    assert lock(locks, B, b"k", SHARE) is None
    writer = lock(locks, C, b"k", EXCLUSIVE)
    late = lock(locks, D, b"k", SHARE)
    assert writer is not None
    assert late is not None
    locks.release_txn(A.id)
    assert not writer.is_granted
    locks.release_txn(B.id)
    assert writer.is_granted
    assert not late.is_granted
    locks.release_txn(C.id)
    assert late.is_granted


def test_all_shares_at_the_head_are_woken_together():
    locks = table()
    lock(locks, A, b"k", EXCLUSIVE)
    shares = [lock(locks, owner, b"k", SHARE) for owner in (B, C)]
    writer = lock(locks, D, b"k", EXCLUSIVE)
    locks.release_txn(A.id)
    locks.check()
    assert [request.is_granted for request in shares if request] == [True, True]
    assert writer is not None
    assert not writer.is_granted


def test_only_one_exclusive_waiter_is_woken():
    """reliability 30: waking all of them is a thundering herd."""
    locks = table()
    lock(locks, A, b"k", EXCLUSIVE)
    waiting = [lock(locks, txn(f"w{n}"), b"k", EXCLUSIVE) for n in range(5)]
    for served in range(5):
        holder = locks.states[b"k"].exclusive
        locks.release_txn(holder)
        assert [request.is_granted for request in waiting if request] == [n <= served for n in range(5)]


def test_upgrade_of_the_only_share_is_immediate_and_goes_before_the_queue():
    locks = table()
    lock(locks, A, b"k", SHARE)
    waiting = lock(locks, B, b"k", EXCLUSIVE)
    assert lock(locks, A, b"k", EXCLUSIVE) is None
    assert waiting is not None
    assert not waiting.is_granted
    locks.release_txn(A.id)
    assert waiting.is_granted


def test_upgrade_waits_for_other_shares_only():
    locks = table()
    lock(locks, A, b"k", SHARE)
    lock(locks, B, b"k", SHARE)
    writer = lock(locks, C, b"k", EXCLUSIVE)
    upgrade = lock(locks, A, b"k", EXCLUSIVE)
    locks.release_txn(B.id)
    locks.check()
    assert upgrade is not None
    assert writer is not None
    assert upgrade.is_granted
    assert not writer.is_granted


def test_readers_get_nothing_and_are_all_woken():
    locks = table()
    locks.show_intent(b"k", A.id)
    readers = [lock_none(locks, owner) for owner in (B, C)]
    writer = locks.enqueue(b"k", D, EXCLUSIVE)
    locks.release_key(b"k", A.id)
    locks.check()
    assert all(reader.waiter.is_done() for reader in readers)
    assert not any(reader.is_granted for reader in readers)
    assert writer.is_granted


def lock_none(locks: LockTable, owner: TxnMeta) -> LockRequest:
    return locks.enqueue(b"k", owner, NONE)


def test_deadlock_of_two_kills_the_younger():
    locks = table()
    lock(locks, A, b"x", EXCLUSIVE)
    lock(locks, B, b"y", EXCLUSIVE)
    assert lock(locks, A, b"y", EXCLUSIVE) is not None
    with pytest.raises(Deadlock):
        lock(locks, B, b"x", EXCLUSIVE)
    locks.check()
    assert locks.waiters() == 1


def test_deadlock_victim_may_be_the_one_already_waiting():
    locks = table()
    lock(locks, A, b"x", EXCLUSIVE)
    lock(locks, B, b"y", EXCLUSIVE)
    victim = lock(locks, B, b"x", EXCLUSIVE)
    survivor = lock(locks, A, b"y", EXCLUSIVE)
    assert victim is not None
    assert survivor is not None
    assert victim.waiter.is_done()
    assert not victim.is_granted
    assert not survivor.waiter.is_done()


def test_priority_goes_before_age():
    locks = table()
    old_low, young_high = txn("old", 1, priority=0), txn("young", 9, priority=5)
    lock(locks, old_low, b"x", EXCLUSIVE)
    lock(locks, young_high, b"y", EXCLUSIVE)
    assert lock(locks, young_high, b"x", EXCLUSIVE) is not None
    with pytest.raises(Deadlock):
        lock(locks, old_low, b"y", EXCLUSIVE)


def test_two_upgrades_are_a_deadlock():
    """FOR SHARE, FOR SHARE, UPDATE, UPDATE: the classic."""
    locks = table()
    lock(locks, A, b"k", SHARE)
    lock(locks, B, b"k", SHARE)
    upgrade = lock(locks, A, b"k", EXCLUSIVE)
    with pytest.raises(Deadlock):
        lock(locks, B, b"k", EXCLUSIVE)
    locks.release_txn(B.id)
    assert upgrade is not None
    assert upgrade.is_granted


def test_deadlock_through_the_queue_order():
    """C waits behind B in a queue, B waits for C elsewhere: neither holder is involved."""
    locks = table()
    lock(locks, A, b"k", EXCLUSIVE)
    lock(locks, C, b"z", EXCLUSIVE)
    assert lock(locks, B, b"k", EXCLUSIVE) is not None
    assert lock(locks, B, b"z", EXCLUSIVE) is not None
    with pytest.raises(Deadlock):
        lock(locks, C, b"k", EXCLUSIVE)


def test_ring_of_twenty():
    locks = table()
    ring = [txn(f"t{n:02}", n) for n in range(20)]
    for n, owner in enumerate(ring):
        lock(locks, owner, b"%d" % n, EXCLUSIVE)
    for n, owner in enumerate(ring[:-1]):
        assert lock(locks, owner, b"%d" % (n + 1), EXCLUSIVE) is not None
    with pytest.raises(Deadlock):
        lock(locks, ring[-1], b"0", EXCLUSIVE)


def test_cancelled_waiter_leaves_a_clean_queue():
    """The share behind a cancelled exclusive becomes compatible at once."""
    locks = table()
    lock(locks, A, b"k", SHARE)
    writer = lock(locks, B, b"k", EXCLUSIVE)
    late = lock(locks, C, b"k", SHARE)
    assert writer is not None
    assert late is not None
    locks.cancel(writer)
    locks.check()
    assert late.is_granted
    assert locks.waiters() == 0


def test_the_table_has_a_limit():
    locks = LockTable(Loop(), limit=2)
    locks.acquire(b"1", A.id, EXCLUSIVE)
    locks.acquire(b"2", A.id, SHARE)
    with pytest.raises(LockTableFull) as caught:
        locks.acquire(b"3", A.id, SHARE)
    assert caught.value.sqlstate == "53200"


def test_drop_span_frees_and_wakes():
    locks = table()
    lock(locks, A, b"b", EXCLUSIVE)
    lock(locks, A, b"z", EXCLUSIVE)
    waiting = lock(locks, B, b"b", EXCLUSIVE)
    locks.drop_span(b"a", b"c")
    locks.check()
    assert waiting is not None
    assert waiting.waiter.is_done()
    assert locks.keys_held(A.id) == [b"z"]


@pytest.mark.parametrize("seed", range(20))
def test_random_life_keeps_the_invariants(seed: int):
    """Takes, cancels and releases at random; in the end everything is free and nobody waits."""
    draw = random.Random(seed)
    locks = table()
    owners = [txn(f"t{n}", n) for n in range(6)]
    requests: dict[bytes, LockRequest] = {}
    for _ in range(400):
        owner = draw.choice(owners)
        request = requests.get(owner.id)
        if request is not None and not request.waiter.is_done():
            if draw.random() < 0.2:
                locks.cancel(request)
                del requests[owner.id]
            elif draw.random() < 0.1:
                locks.cancel(request)
                locks.release_txn(owner.id)
                del requests[owner.id]
        elif draw.random() < 0.25:
            locks.release_txn(owner.id)
        else:
            key = b"k%d" % draw.randrange(3)
            strength = draw.choice([SHARE, EXCLUSIVE])
            try:
                if not locks.acquire(key, owner.id, strength):
                    requests[owner.id] = locks.enqueue(key, owner, strength)
            except Deadlock:
                locks.release_txn(owner.id)
        locks.check()
        assert_someone_runs(locks, owners, requests)
        for other in owners:
            blocked = locks.blocked_key(b"k1", b"k3", other.id)
            expected = [key for key in (b"k1", b"k2") if locks.blocks(key, other.id)]
            assert blocked in expected if expected else blocked is None
    for owner in owners:
        request = requests.get(owner.id)
        if request is not None:
            locks.cancel(request)
        locks.release_txn(owner.id)
    assert len(locks) == 0
    assert locks.waiters() == 0


def assert_someone_runs(locks: LockTable, owners: list[TxnMeta], requests: dict[bytes, LockRequest]) -> None:
    """Not all who hold something wait: a missed deadlock."""
    waiting = {name for name, request in requests.items() if not request.waiter.is_done()}
    holding = {owner.id for owner in owners if locks.keys_held(owner.id)}
    assert not waiting or holding - waiting
