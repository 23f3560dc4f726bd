"""Latches are granted first come first served, and two commands never wait for each other."""

from __future__ import annotations

import random

import pytest

from base.errors import Overloaded
from kvtier.latches import Latch, LatchSpan, LatchTable
from tests.kvtier.kvloop import Loop


def write(start: bytes, end: bytes) -> LatchSpan:
    return LatchSpan(start, end, True)


def read(start: bytes, end: bytes) -> LatchSpan:
    return LatchSpan(start, end, False)


def test_reads_share_and_writes_exclude():
    latches = LatchTable(Loop())
    first = latches.acquire([read(b"a", b"c")])
    second = latches.acquire([read(b"b", b"d")])
    writer = latches.acquire([write(b"b", b"c")])
    beside = latches.acquire([write(b"x", b"y")])
    assert not first.blockers
    assert not second.blockers
    assert not beside.blockers
    assert writer.waiter is not None
    latches.release(first)
    assert not writer.waiter.is_done()
    latches.release(second)
    assert writer.waiter.is_done()


def test_a_waiting_write_is_not_overtaken_by_a_read():
    latches = LatchTable(Loop())
    first = latches.acquire([read(b"a", b"b")])
    writer = latches.acquire([write(b"a", b"b")])
    late = latches.acquire([read(b"a", b"b")])
    assert late.blockers == [writer]
    latches.release(first)
    latches.release(writer)
    assert late.waiter is not None
    assert late.waiter.is_done()


def test_borders_do_not_touch():
    latches = LatchTable(Loop())
    latches.acquire([write(b"a", b"b")])
    assert not latches.acquire([write(b"b", b"c")]).blockers


def test_giving_up_while_waiting_unblocks_those_behind():
    latches = LatchTable(Loop())
    holder = latches.acquire([read(b"a", b"b")])
    given_up = latches.acquire([write(b"a", b"b")])
    behind = latches.acquire([read(b"a", b"b")])
    latches.release(given_up)
    assert behind.waiter is not None
    assert behind.waiter.is_done()
    latches.release(holder)
    latches.release(behind)
    assert latches.latches == []


def test_the_table_has_a_limit():
    latches = LatchTable(Loop(), limit=1)
    latches.acquire([read(b"a", b"b")])
    with pytest.raises(Overloaded):
        latches.acquire([read(b"a", b"b")])


@pytest.mark.parametrize("seed", range(10))
def test_held_latches_never_conflict_and_all_get_their_turn(seed: int):
    draw = random.Random(seed)
    latches = LatchTable(Loop())
    under_way: list[Latch] = []
    for _ in range(300):
        if under_way and draw.random() < 0.5:
            held = [latch for latch in under_way if not latch.blockers]
            assert held, "everybody waits"
            done = draw.choice(held)
            under_way.remove(done)
            latches.release(done)
        else:
            start = draw.randrange(8)
            span = LatchSpan(b"%d" % start, b"%d" % (start + draw.randrange(1, 3)), draw.random() < 0.5)
            under_way.append(latches.acquire([span]))
        held = [latch for latch in under_way if not latch.blockers]
        for one in held:
            for other in held:
                assert one is other or not one.conflicts(other)
