"""Counting how often a statement waits for other regions."""

from __future__ import annotations

import pytest

from base.errors import SqlError
from kvtier.descriptors import LEARNER, RangeDescriptor, ReplicaPlace
from kvtier.messages import Batch, EndTxn, Get, Heartbeat, Op, Put, TxnMeta
from kvtier.replication.crossings import Crossings, Meter

REGIONS = {1: "a", 2: "a", 3: "b", 4: "c"}
TXN = TxnMeta(b"t" * 16)


def range_on(*nodes: int, learners: tuple[int, ...] = ()) -> RangeDescriptor:
    places = [ReplicaPlace(node, node, node) for node in nodes]
    return RangeDescriptor(
        1, 1, b"", b"\xff", (*places, *[ReplicaPlace(node, node, node, LEARNER) for node in learners])
    )


def cost(node_id: int, *ops: Op, descriptor: RangeDescriptor | None = None) -> int:
    """What one batch counts, sent from region a."""
    crossings, meter = Crossings("a", REGIONS.__getitem__), Meter(lambda: 0)
    crossings.meters[TXN.id] = meter
    entered = crossings.enter(descriptor or range_on(1, 2, 3), node_id, Batch(list(ops), txn=TXN))
    if entered is not None:
        entered.leave()
    return meter.round_trips


def test_what_a_batch_costs() -> None:
    assert cost(1, Get(b"k")) == 0
    assert cost(3, Get(b"k")) == 1
    assert cost(1, Put(b"k", b"v")) == 0  # Two of three votes are at home.
    assert cost(3, Put(b"k", b"v")) == 2  # There, and back for a vote.
    assert cost(1, Put(b"k", b"v"), descriptor=range_on(1, 3, 4)) == 1
    assert cost(1, Put(b"k", b"v"), descriptor=range_on(1, learners=(3, 4))) == 0
    assert cost(1, EndTxn(True, intents=(b"k",)), descriptor=range_on(1, 3, 4)) == 1
    assert cost(1, Heartbeat(b"k", 1), descriptor=range_on(1, 3, 4)) == 0
    assert cost(3, EndTxn(False, intents=(b"k",))) == 0  # Nobody waits for the end of what failed.


def test_what_is_under_way_together_counts_once() -> None:
    now = 0
    meter = Meter(lambda: now)
    meter.enter(1, ["b"])
    meter.enter(2, ["c", "a"])
    now = 5
    meter.leave()
    assert meter.round_trips == 2
    meter.leave()
    now = 10
    meter.enter(1, ["b"])
    now = 12
    meter.leave()
    assert (meter.round_trips, meter.waited_ns, meter.regions) == (3, 7, {"b": 2, "c": 1, "a": 1})
    meter.restart(0)
    assert (meter.round_trips, meter.waited_ns, meter.regions) == (0, 0, {})


def test_a_limit_refuses_before_anything_is_sent() -> None:
    meter = Meter(lambda: 0, 1)
    meter.enter(1, ["b"])
    meter.enter(1, ["c"])
    with pytest.raises(SqlError, match="more than 1 round trips between regions"):
        meter.enter(2, ["b", "c"])
    meter.leave()
    meter.leave()
    with pytest.raises(SqlError, match="more than 1 round trips between regions"):
        meter.enter(1, ["b"])
    assert meter.round_trips == 1


def test_nobody_else_is_counted() -> None:
    crossings = Crossings("a", REGIONS.__getitem__)
    assert crossings.enter(range_on(3), 3, Batch([Get(b"k")], txn=TXN)) is None
    assert crossings.enter(range_on(3), 3, Batch([Get(b"k")])) is None
