"""Batches, replies and errors travel between nodes and arrive as they were."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from base import errors
from base.errors import InternalError, NotLeaseholder, RangeMismatch, WriteTooOld
from kvtier.descriptors import RangeDescriptor, ReplicaPlace
from kvtier.messages import (
    SKIPPED,
    Batch,
    Checksum,
    CollectGarbage,
    Get,
    Heartbeat,
    Op,
    Push,
    PushResult,
    Put,
    QueryIntent,
    Reply,
    Scan,
    ScanResult,
    TxnMeta,
    TxnStatus,
)
from kvtier.replication.rpc import (
    AnsweredError,
    decode_answer,
    decode_request,
    encode_error,
    encode_reply,
    encode_request,
)

TXN = TxnMeta(b"t" * 16, anchor=b"\x03a", ignored=((1, 2),))
DESCRIPTOR = RangeDescriptor(7, 3, b"\x03a", b"\x03b", (ReplicaPlace(1, 1, 1), ReplicaPlace(2, 2, 2, 1)), 3)
RESULTS: list[tuple[Op, Any]] = [
    (Get(b"k"), b"v"),
    (Get(b"k"), None),
    (Get(b"k"), SKIPPED),
    (Scan(b"a", b"b"), ScanResult([b"a"], [b"1"], b"a\x01")),
    (Put(b"k", b"v"), None),
    (Heartbeat(b"k", 1), TxnStatus.PENDING),
    (Push(b"k", TXN, 5, True), PushResult(TxnStatus.COMMITTED, 9, ((3, 4),))),
    (QueryIntent(b"k", TXN, 1), True),
    (CollectGarbage(b"a", b"b", 7), b"aa"),
    (Checksum(b"a", b"b"), (b"d" * 16, {"live_count": 2})),
]


@given(st.lists(st.sampled_from(RESULTS), max_size=8), st.integers(0, 1 << 62))
def test_replies_arrive_as_they_were(pairs: list[tuple[Op, Any]], ts: int) -> None:
    ops = [op for op, _ in pairs]
    request = decode_request(encode_request(Batch(ops, ts, TXN), 5))
    assert (request.now, request.batch) == (5, Batch(ops, ts, TXN))
    reply = Reply([result for _, result in pairs], ts, ts + 1, 0, True)
    assert decode_answer(encode_reply(reply, 6), ops) == (6, reply)


@pytest.mark.parametrize(
    "problem", [WriteTooOld(b"k", 77), NotLeaseholder(3, 4), NotLeaseholder(3), RangeMismatch((DESCRIPTOR,))]
)
def test_errors_are_raised_as_what_they_were(problem: errors.MeridianError) -> None:
    with pytest.raises(AnsweredError) as raised:
        decode_answer(encode_error(problem, 8), [])
    assert raised.value.now == 8
    assert type(raised.value.problem) is type(problem)
    assert vars(raised.value.problem) == vars(problem)


def test_a_bug_over_there_tells_nothing_of_itself() -> None:
    with pytest.raises(AnsweredError) as raised:
        decode_answer(encode_error(ValueError("a secret"), 8), [])
    assert type(raised.value.problem) is InternalError
    assert "secret" not in str(vars(raised.value.problem))


@given(st.binary(max_size=200))
def test_nonsense_is_refused(message: bytes) -> None:
    for decode in (decode_request, lambda found: decode_answer(found, [Get(b"k")])):
        with pytest.raises((msgspec.DecodeError, AnsweredError)):
            decode(message)


def test_results_that_do_not_fit_the_operations_are_refused() -> None:
    answer = encode_reply(Reply([5], 1), 1)
    with pytest.raises(msgspec.ValidationError):
        decode_answer(answer, [Get(b"k")])
    with pytest.raises(msgspec.ValidationError):
        decode_answer(answer, [])
