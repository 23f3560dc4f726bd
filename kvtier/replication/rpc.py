"""Batches between nodes: a request and its one answer.

    request   | HLC now | batch |
    answer    | HLC now | error or None | results, ts, write_ts, staged |

Both carry the sender's clock, so causality goes with the message (``Hlc.observe``).  Results are
decoded by the operation they answer, never by what the bytes claim to be.  An error
travels as its name and fields and is raised at the other end as the class it was; what is not
of the family (a bug there) arrives as InternalError without its text.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from base import errors
from base.errors import InternalError, MeridianError, RangeMismatch
from kvtier.descriptors import RangeDescriptor
from kvtier.messages import (
    SKIPPED,
    Batch,
    ChangeReplicas,
    Checksum,
    ClosePolicy,
    CollectGarbage,
    Get,
    Heartbeat,
    Merge,
    Op,
    Push,
    PushResult,
    PutRun,
    QueryIntent,
    Recover,
    Reply,
    Scan,
    ScanResult,
    SettleRuns,
    Split,
    TxnStatus,
    Unsplit,
)


class Request(Struct, array_like=True):
    """A batch on its way to the node of a replica."""

    now: int
    batch: Batch


class WireError(Struct, array_like=True):
    """An error on its way back."""

    name: str
    fields: dict[str, Any]
    descriptors: list[RangeDescriptor] = []


class Answer(Struct, array_like=True):
    """The reply to a request, or its error."""

    now: int
    error: WireError | None
    results: list[msgspec.Raw] = []
    ts: int = 0
    write_ts: int = 0
    staged: bool = False


SKIPPED_MARK: Final = True
"""A skipped row in the place of bytes or None."""

_RESULT_TYPES: Final[dict[type, Any]] = {
    Get: bytes | bool | None,
    Scan: ScanResult,
    Heartbeat: TxnStatus,
    Push: PushResult,
    QueryIntent: bool,
    Recover: TxnStatus,
    Split: RangeDescriptor,
    Unsplit: RangeDescriptor,
    Merge: RangeDescriptor,
    ChangeReplicas: RangeDescriptor,
    ClosePolicy: RangeDescriptor,
    PutRun: bool,
    SettleRuns: bytes | None,
    CollectGarbage: bytes | None,
    Checksum: tuple[bytes, dict[str, int]],
}
_result_decoders: Final = {op: msgspec.msgpack.Decoder(kind) for op, kind in _RESULT_TYPES.items()}
_encoder = msgspec.msgpack.Encoder()
_request_decoder = msgspec.msgpack.Decoder(Request)
_answer_decoder = msgspec.msgpack.Decoder(Answer)

ERRORS: Final[dict[str, type[MeridianError]]] = {
    name: found for name, found in vars(errors).items() if isinstance(found, type) and issubclass(found, MeridianError)
}
"""Every error that can travel, by name."""


def encode_request(batch: Batch, now: int) -> bytes:
    """Returns the message that asks for a batch."""
    return _encoder.encode(Request(now, batch))


def decode_request(message: bytes) -> Request:
    """Raises msgspec.ValidationError on anything else."""
    return _request_decoder.decode(message)


def encode_reply(reply: Reply, now: int) -> bytes:
    """Returns the answer that carries a reply; what it depends on must be durable by now."""
    results = [SKIPPED_MARK if result is SKIPPED else result for result in reply.results]
    return _encoder.encode(
        [now, None, results, reply.ts, reply.write_ts, reply.staged],
    )


def encode_error(problem: BaseException, now: int) -> bytes:
    """Returns the answer that raises an error at the other end."""
    if not isinstance(problem, MeridianError) or type(problem).__name__ not in ERRORS:
        problem = InternalError("internal error on another node")
    fields = {name: value for name, value in vars(problem).items() if isinstance(value, str | int | bytes | None)}
    descriptors: list[RangeDescriptor] = []
    if isinstance(problem, RangeMismatch):
        descriptors = [found for found in problem.descriptors if isinstance(found, RangeDescriptor)]
    return _encoder.encode(Answer(now, WireError(type(problem).__name__, fields, descriptors)))


def decode_answer(message: bytes, ops: list[Op]) -> tuple[int, Reply]:
    """Returns the sender's clock and the reply to a batch of these operations, or raises its error.

    Raises msgspec.ValidationError on anything that is no answer to them.
    """
    answer = _answer_decoder.decode(message)
    if answer.error is not None:
        raise AnsweredError(answer.now, _revive(answer.error))
    if len(answer.results) != len(ops):
        raise msgspec.ValidationError(f"{len(answer.results)} results for {len(ops)} operations")
    results = [_result(op, raw) for op, raw in zip(ops, answer.results)]
    return answer.now, Reply(results, answer.ts, answer.write_ts, 0, answer.staged)


class AnsweredError(Exception):
    """An answer that is an error, with the clock that came with it."""

    def __init__(self, now: int, problem: MeridianError) -> None:
        super().__init__(problem)
        self.now = now
        self.problem = problem


def _result(op: Op, raw: msgspec.Raw) -> Any:
    decoder = _result_decoders.get(type(op))
    if decoder is None:
        return None
    found = decoder.decode(raw)
    return SKIPPED if found is SKIPPED_MARK and isinstance(op, Get) else found


def _revive(wire: WireError) -> MeridianError:
    """Builds the error that was raised, without running its constructor on what came from outside."""
    kind = ERRORS.get(wire.name, InternalError)
    problem = kind.__new__(kind)
    Exception.__init__(problem, str(wire.fields.get("message", wire.name)))
    MeridianError.__init__(problem, str(wire.fields.get("message", wire.name)))
    for name, value in wire.fields.items():
        setattr(problem, name, value)
    if isinstance(problem, RangeMismatch):
        problem.descriptors = tuple(wire.descriptors)
    return problem
