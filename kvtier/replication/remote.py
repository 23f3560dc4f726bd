"""Requests between nodes: asking another node's store for a batch, and answering.

Whatever an answer depends on is durable before it leaves (I-2): data of replicated ranges is, once
it is applied; of ranges with one replica the answer waits for its sync.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from base.eager import Eager
from base.errors import AnswerLost, MeridianError, PeerUnavailable
from base.seams import Transport
from kvtier.messages import Batch, Reply
from kvtier.replication.rpc import (
    AnsweredError,
    decode_answer,
    decode_request,
    encode_error,
    encode_reply,
    encode_request,
)
from kvtier.store import Store

CHANNEL: Final = "kv.batch"
CALL_SECONDS_MAX: Final = 3600.0
"""A batch may wait for locks as long as its statement; a dead peer is noticed by its stream."""


class RemoteStores:
    """The stores of all nodes behind one call; this node's own is asked directly."""

    def __init__(self, store: Store, transport: Transport, is_open: Callable[[], bool]) -> None:
        """``is_open``: false while this node's clock is ahead of what others would take."""
        self._is_open = is_open
        self._store = store
        self._transport = transport
        self._node_id = store.identity.node_id
        transport.on_call(CHANNEL, self._answer)

    async def ask(self, node_id: int, batch: Batch) -> Reply:
        """Returns the reply of a node's store; raises what it raised, or a transport's error."""
        store = self._store
        if node_id == self._node_id:
            reply = store.send(batch)
            return reply if isinstance(reply, Reply) else await reply
        if not self._is_open():
            raise PeerUnavailable(node_id, "this node is being opened")
        seconds = CALL_SECONDS_MAX
        if batch.deadline_ns:
            seconds = max((batch.deadline_ns - store.clock.wall_ns()) / 1e9, 0.001)
        message = await self._transport.call(node_id, CHANNEL, encode_request(batch, store.now()), seconds)
        try:
            now, answer = decode_answer(message, batch.ops)
        except AnsweredError as answered:
            self._observe(answered.now)
            raise answered.problem from None
        except msgspec.DecodeError as nonsense:
            raise AnswerLost(node_id, f"its answer cannot be read: {nonsense}") from nonsense
        self._observe(now)
        return answer

    def _observe(self, ts: int) -> None:
        self._store.hlc.observe(ts, self._store.clock.wall_ns())

    # --- answering ------------------------------------------------------------------

    def _answer(self, node_id: int, message: bytes) -> Eager[bytes]:
        """Answers another node's request; what it cannot read closes the stream (ValueError of msgspec)."""
        request = decode_request(message)
        store = self._store
        try:
            self._observe(request.now)
            reply = store.send(request.batch)
        except MeridianError as problem:
            return encode_error(problem, store.now())
        if isinstance(reply, Reply) and not reply.unsynced:
            return encode_reply(reply, store.now())
        return self._answer_later(reply)

    async def _answer_later(self, pending: Eager[Reply]) -> bytes:
        store = self._store
        try:
            reply = pending if isinstance(pending, Reply) else await pending
            if reply.unsynced:
                durable = store.wait_durable(reply.unsynced)
                if durable is not None:
                    await durable
        except MeridianError as problem:
            return encode_error(problem, store.now())
        return encode_reply(reply, store.now())
