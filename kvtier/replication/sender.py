"""From an addressed batch to the replica that answers it.

    leaseholder known?   ask it; else ask the replicas, nearest first
    NotLeaseholder       ask whom it names, else the next
    RangeMismatch        the router's to learn from; one that only lags itself: ask the next
    not delivered        ask the next
    no answer            ask the next if repeating is harmless, else AmbiguousResult (reliability 6, 8, 131)
    nobody               wait a little, begin again, until the deadline: RangeUnavailable

Once the answer to a commit was lost, only success says what became of it: whatever else a repetition
meets (an aborted record, a range that moved, nobody at all) may be the trace of the first one.

A cached leaseholder that does not answer is forgotten at once: a cache that only ever learns from
answers would ask a dead node for ever (reliability 41).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from base.errors import (
    AmbiguousResult,
    AnswerLost,
    KvError,
    NotLeaseholder,
    Overloaded,
    PeerUnavailable,
    RangeMismatch,
    RangeUnavailable,
)
from base.seams import Clock, Rng
from kvtier.descriptors import RangeDescriptor
from kvtier.messages import Batch, ConditionalPut, Delete, DeleteSpan, EndTxn, Put, Reply, Routing, is_followed
from kvtier.replication.crossings import Crossings

GIVE_UP_SECONDS: Final = 15.0
"""After this a range without a leaseholder is told to be unavailable; several elections fit in."""
BACKOFF_SECONDS: Final = 0.02
BACKOFF_SECONDS_MAX: Final = 0.5
LEASEHOLDERS_MAX: Final = 100_000
"""Leaseholders remembered; past it the memory starts again from nothing."""

Ask = Callable[[int, Batch], Awaitable[Reply]]
"""Sends an addressed batch to a node (this one, too) and returns its reply, or raises what it raised."""


class RangeSender:
    """See the module docstring."""

    def __init__(self, node_id: int, ask: Ask, clock: Clock, rng: Rng) -> None:
        self._node_id = node_id
        self._ask = ask
        self._clock = clock
        self._rng = rng
        self._leaseholders: dict[int, int] = {}
        self.distance: Callable[[int], int] = lambda node_id: 0 if node_id == self._node_id else 1
        """How far a node is, for whom to ask first."""
        self.crossings: Crossings | None = None
        """Who watches what is sent to other regions."""
        self.redirects = 0

    def leaseholder(self, range_id: int) -> int | None:
        """Returns who answered for a range last, if that is known."""
        return self._leaseholders.get(range_id)

    async def send(self, descriptor: RangeDescriptor, batch: Batch) -> Reply:
        """Returns the reply of a replica of the range."""
        delivery = Delivery(batch)
        try:
            return await self._send(descriptor, batch, delivery)
        except KvError as problem:
            if delivery.is_commit_lost and not isinstance(problem, AmbiguousResult):
                raise AmbiguousResult("the outcome of the commit is unknown", detail=problem.message) from problem
            raise

    async def _send(self, descriptor: RangeDescriptor, batch: Batch, delivery: Delivery) -> Reply:
        give_up_ns = self._clock.monotonic_ns() + int(GIVE_UP_SECONDS * 1e9)
        pause = BACKOFF_SECONDS
        while True:
            reply = await self._ask_around(descriptor, batch, delivery)
            if reply is not None:
                return reply
            now_ns = self._clock.monotonic_ns()
            if now_ns > give_up_ns or (batch.deadline_ns and self._clock.wall_ns() > batch.deadline_ns):
                raise RangeUnavailable(descriptor.range_id)
            await self._clock.sleep(pause * (0.5 + self._rng.random()))
            pause = min(pause * 2, BACKOFF_SECONDS_MAX)

    async def _ask_around(self, descriptor: RangeDescriptor, batch: Batch, delivery: Delivery) -> Reply | None:
        """Asks every replica once, and whom they name; None if nobody answers."""
        range_id = descriptor.range_id
        is_near = is_for_any(descriptor, batch)
        order = self._order(descriptor, is_near)
        asked: list[int] = []
        mismatches = 0
        while order:
            node_id = order.pop(0)
            asked.append(node_id)
            crossings = self.crossings
            meter = crossings.enter(descriptor, node_id, batch) if crossings is not None and crossings.meters else None
            try:
                reply = await self._ask(node_id, batch)
            except NotLeaseholder as refusal:
                self.redirects += 1
                self._forget(range_id, node_id)
                named = refusal.leaseholder
                if named is not None and named not in asked:
                    order = [named, *[other for other in order if other != named]]
            except (PeerUnavailable, Overloaded):
                self._forget(range_id, node_id)
            except RangeMismatch as mismatch:
                if mismatch.descriptors and not is_behind(mismatch, descriptor):
                    raise
                mismatches += 1
                self._forget(range_id, node_id)
            except AnswerLost as silence:
                self._forget(range_id, node_id)
                delivery.answer_lost(silence)
            else:
                if not is_near:
                    self._learn(range_id, node_id)
                return reply
            finally:
                if meter is not None:
                    meter.leave()
        if mismatches == len(asked):
            raise RangeMismatch(())
        return None

    def _order(self, descriptor: RangeDescriptor, is_near: bool) -> list[int]:
        """Returns the nodes to ask, the likeliest first; ties by id, so that runs repeat."""
        nodes = [place.node_id for place in descriptor.replicas]
        nodes.sort(key=lambda node_id: (self.distance(node_id), node_id))
        leaseholder = self._leaseholders.get(descriptor.range_id)
        if not is_near and leaseholder in nodes:
            nodes.remove(leaseholder)
            nodes.insert(0, leaseholder)
        return nodes

    def _learn(self, range_id: int, node_id: int) -> None:
        if len(self._leaseholders) >= LEASEHOLDERS_MAX:
            self._leaseholders.clear()
        self._leaseholders[range_id] = node_id

    def _forget(self, range_id: int, node_id: int) -> None:
        if self._leaseholders.get(range_id) == node_id:
            del self._leaseholders[range_id]


class Delivery:
    """What is known of one batch's way: whether it may have been applied without an answer."""

    __slots__ = ("_batch", "is_commit_lost")

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self.is_commit_lost = False
        """A commit was delivered, perhaps, and its answer lost."""

    def answer_lost(self, silence: AnswerLost) -> None:
        """Notes a lost answer; AmbiguousResult if the batch must not be sent again."""
        if not is_repeatable(self._batch):
            raise AmbiguousResult("the outcome of the commit is unknown", detail=silence.message) from silence
        end = self._batch.ops[-1]
        self.is_commit_lost = self.is_commit_lost or (isinstance(end, EndTxn) and end.commit)


def is_for_any(descriptor: RangeDescriptor, batch: Batch) -> bool:
    """True if the nearest replica is to be asked first, whoever holds the lease."""
    if batch.routing == Routing.PRESENT:
        return descriptor.leads and is_followed(batch)
    return batch.routing != Routing.LEASEHOLDER


def is_behind(mismatch: RangeMismatch, descriptor: RangeDescriptor) -> bool:
    """True if a replica refused an address because it has not heard of the range's last change yet."""
    return any(
        known.range_id == descriptor.range_id and known.generation < descriptor.generation
        for known in mismatch.descriptors
        if isinstance(known, RangeDescriptor)
    )


def is_repeatable(batch: Batch) -> bool:
    """True if a batch may be sent again although the first one may have been applied.

    Intents are told apart by (transaction, sequence number), records know that they are final.  What
    commits in one phase leaves nothing that a repetition could recognize.
    """
    end = batch.ops[-1]
    if isinstance(end, EndTxn) and end.commit:
        return bool(end.in_flight or end.intents or end.intent_spans)
    return batch.txn is not None or not any(
        isinstance(op, Put | Delete | ConditionalPut | DeleteSpan) for op in batch.ops
    )
