"""Whom a batch is sent to, and what a lost answer leaves known."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from base.errors import (
    AmbiguousResult,
    AnswerLost,
    MeridianError,
    NotLeaseholder,
    PeerUnavailable,
    RangeMismatch,
    RangeUnavailable,
    TxnAborted,
)
from kvtier.descriptors import RangeDescriptor, ReplicaPlace
from kvtier.messages import Batch, EndTxn, Get, Op, Put, Reply, TxnMeta
from kvtier.replication.sender import RangeSender
from sim.loop import Loop, SeededRng

RANGE = RangeDescriptor(1, 1, b"", b"\xff", (ReplicaPlace(1, 1, 1), ReplicaPlace(2, 2, 2), ReplicaPlace(3, 3, 3)), 4)
TXN = TxnMeta(b"t" * 16, anchor=b"a")
ONE_PHASE: list[Op] = [Put(b"a", b"1", 1), EndTxn(True)]
WITH_INTENTS: list[Op] = [EndTxn(True, intents=(b"a",))]

Answer = Reply | MeridianError


def send(answers: Callable[[int, int], Answer], ops: list[Op], txn: TxnMeta | None = TXN) -> tuple[object, list[int]]:
    """Sends a batch; ``answers`` says what a node answers to the n-th question.  Returns result or error, who was asked."""
    loop = Loop(1)
    asked: list[int] = []

    async def ask(node_id: int, batch: Batch) -> Reply:
        asked.append(node_id)
        answer = answers(node_id, len(asked))
        if isinstance(answer, MeridianError):
            raise answer
        return answer

    def asking(node_id: int, batch: Batch) -> Awaitable[Reply]:
        return ask(node_id, batch)

    sender = RangeSender(2, asking, loop.main.clock, SeededRng(1))

    async def run() -> object:
        try:
            return await sender.send(RANGE, Batch(ops, txn=txn))
        except MeridianError as problem:
            return problem

    return loop.run(run()), asked


def test_the_nearest_is_asked_first_and_then_whom_it_names() -> None:
    reply = Reply([None], 7)
    result, asked = send(lambda node, n: reply if node == 3 else NotLeaseholder(1, 3), [Get(b"a")])
    assert (result, asked) == (reply, [2, 3])


def test_dead_nodes_are_passed_over() -> None:
    reply = Reply([None], 7)
    result, asked = send(lambda node, n: reply if node == 3 else PeerUnavailable(node, "dead"), [Get(b"a")])
    assert (result, asked) == (reply, [2, 1, 3])


def test_a_range_without_leaseholder_is_unavailable_after_a_while() -> None:
    result, asked = send(lambda node, n: NotLeaseholder(1), [Get(b"a")])
    assert isinstance(result, RangeUnavailable)
    assert len(asked) > 30


def test_a_commit_in_one_phase_is_never_sent_twice() -> None:
    """Reliability 6, 10023: the first may have been applied."""
    result, asked = send(lambda node, n: AnswerLost(node, "gone"), ONE_PHASE)
    assert isinstance(result, AmbiguousResult)
    assert asked == [2]


@pytest.mark.parametrize(
    "then", [NotLeaseholder(1), TxnAborted(reason="possible_replay"), PeerUnavailable(1, "dead")], ids=repr
)
def test_after_a_lost_commit_only_success_is_believed(then: MeridianError) -> None:
    """Bank, seed 121: a commit whose answer was lost was told as failed when its range stayed unavailable."""
    result, _ = send(lambda node, n: AnswerLost(node, "gone") if n == 1 else then, WITH_INTENTS)
    assert isinstance(result, AmbiguousResult)
    reply = Reply([None], 7)
    result, asked = send(lambda node, n: AnswerLost(node, "gone") if n == 1 else reply, WITH_INTENTS)
    assert (result, asked) == (reply, [2, 1])


def test_intents_may_be_sent_again() -> None:
    reply = Reply([None], 7)
    result, asked = send(lambda node, n: AnswerLost(node, "gone") if n == 1 else reply, [Put(b"a", b"1", 1)])
    assert (result, asked) == (reply, [2, 1])


def test_a_replica_that_lags_is_passed_over() -> None:
    """Its older descriptor must not replace the newer one, or the two would take turns."""
    older = RangeDescriptor(1, 0, b"", b"\xff", RANGE.replicas[:2], 3)
    reply = Reply([None], 7)
    result, asked = send(lambda node, n: reply if node == 1 else RangeMismatch((older,)), [Get(b"a")])
    assert (result, asked) == (reply, [2, 1])
    newer = RangeDescriptor(1, 2, b"", b"m", RANGE.replicas, 4)
    result, asked = send(lambda node, n: RangeMismatch((newer,)), [Get(b"a")])
    assert isinstance(result, RangeMismatch)
    assert asked == [2]
