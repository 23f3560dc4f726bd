"""Sequences: not transactional, never rolled back, never giving a value twice.

The store holds, per sequence, a *ceiling*: no value beyond it has been given out.  A node
takes values from a block below the ceiling without touching the store; a crash loses the rest of the
block (gaps, as in PostgreSQL), never repeats one.  Blocks grow while a sequence is busy.

    stored: | last: i64 | is_called: u8 |      last = the ceiling

A node alone claims a block by writing a new ceiling, and goes on.  One of several (``is_shared``) claims it by
replacing the ceiling it has read, and waits until that is done: nobody else can have the same block.  Between nodes values
are in no order, as between PostgreSQL's sessions with CACHE.  setval() has reached all nodes when it is told.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final

from base.eager import Eager
from base.errors import AmbiguousResult, ConditionFailed, MeridianError, Overloaded, SqlError
from kvtier.client import Kv
from kvtier.messages import Batch, ConditionalPut, Get, Op, Put, Reply
from planner.schema import SequenceDesc
from sql.catalog.changes import Change
from sql.catalog.keys import sequence_key

if TYPE_CHECKING:
    from sql.agreement.node import Agreement

STATE: Final = struct.Struct(">qB")
BLOCK_MIN: Final = 32
BLOCK_MAX: Final = 4096
CLAIMS_MAX: Final = 100
"""Times that a claim is begun again because another node was faster."""


class _Sequence:
    """``last`` was given out (or, not ``is_called``, comes next); up to ``ceiling`` may be given without asking."""

    __slots__ = ("block", "ceiling", "is_called", "last")

    def __init__(self, last: int, is_called: bool) -> None:
        self.last = last
        self.is_called = is_called
        self.ceiling = last
        self.block = BLOCK_MIN


class Sequences:
    """All sequences of one node."""

    def __init__(self, kv: Kv) -> None:
        self.kv = kv
        self._known: dict[int, _Sequence] = {}
        self.is_shared = False
        """True if other nodes may take values, too."""
        self.agreement: Agreement | None = None
        """Of these nodes."""
        self._forgotten = 0
        """Grows with every ``forget``: a claim that was under way then is worth nothing."""
        self._peeked: dict[int, tuple[int, bool]] = {}

    def try_next(self, id: int, desc: SequenceDesc, name: str) -> int | None:
        """Returns the next value, or None if ``refill`` is needed."""
        state = self._known.get(id)
        if state is None:
            return None
        value = self._following(state, desc, name)
        inside = value <= state.ceiling if desc.increment > 0 else value >= state.ceiling
        wrapped = state.is_called and (value < state.last if desc.increment > 0 else value > state.last)
        if not inside or wrapped or not state.is_called:
            return None
        state.last = value
        return value

    def refill(self, id: int, desc: SequenceDesc, name: str) -> tuple[int, Awaitable[Any]] | None:
        """Claims a block and returns (next value, the sync of the claim); None if ``claim`` must be awaited first.

        The claim is in the log before anything that uses the value, so a commit that depends on it is durable after
        it; what is told to a client without a commit waits for the sync.
        """
        if self.is_shared:
            return None
        state = self._known.get(id)
        if state is None:
            reply = self.kv.send(Batch([Get(sequence_key(id))]))
            if not isinstance(reply, Reply):
                return None
            state = self._learn(id, desc, reply)
        value = self._following(state, desc, name)
        ceiling = _ceiling(value, state.block, desc)
        # A store that refuses does so here, before anybody has a value of the block.
        claim = self.kv.send(Batch([Put(sequence_key(id), STATE.pack(ceiling, True))]))
        state.block = min(state.block * 2, BLOCK_MAX)
        state.last, state.is_called = value, True
        state.ceiling = ceiling
        return value, self._claimed(id, state, claim)

    async def _claimed(self, id: int, state: _Sequence, claim: Eager[Reply]) -> None:
        """Waits for a claim; one that failed is asked for again, above all that was given out."""
        try:
            if not isinstance(claim, Reply):
                await claim
        except MeridianError:
            if self._known.get(id) is state:
                state.ceiling = state.last
            raise

    async def claim(self, id: int, desc: SequenceDesc, name: str) -> None:
        """Makes ready what ``try_next`` or ``refill`` need: the state, and among several nodes a block of its own."""
        if self.is_shared:
            await self._claim_shared(id, desc, name)
        else:
            await self._load(id, desc)

    async def _claim_shared(self, id: int, desc: SequenceDesc, name: str) -> None:
        before = self._known.get(id)
        block = BLOCK_MIN if before is None else before.block
        key = sequence_key(id)
        for _ in range(CLAIMS_MAX):
            forgotten = self._forgotten
            raw: bytes | None = (await self._send(Get(key))).results[0]
            last, is_called = (desc.start, 0) if raw is None else STATE.unpack(raw)
            value = self._following(_Sequence(last, bool(is_called)), desc, name)
            ceiling = _ceiling(value, block, desc)
            try:
                await self._send(ConditionalPut(key, STATE.pack(ceiling, True), raw))
            except (ConditionFailed, AmbiguousResult):
                continue  # Perhaps it was done: then that block is lost, as in a crash.
            if self._forgotten != forgotten:
                continue
            if self._known.get(id) is before:
                state = self._known[id] = _Sequence(value - desc.increment, True)
                state.ceiling = ceiling
                state.block = min(block * 2, BLOCK_MAX)
            return
        raise Overloaded(f'too many nodes take values from sequence "{name}"')

    async def _send(self, op: Op) -> Reply:
        reply = self.kv.send(Batch([op]))
        return reply if isinstance(reply, Reply) else await reply

    async def load(self, id: int, desc: SequenceDesc) -> None:
        """Reads a sequence's state where that takes waiting; ``known`` has it then."""
        if self.is_shared:
            self._peeked[id] = await self.current(id, desc)
        else:
            await self._load(id, desc)

    async def set_value(self, id: int, value: int, is_called: bool, desc: SequenceDesc, name: str) -> int:
        """setval()."""
        if not desc.minimum <= value <= desc.maximum:
            raise SqlError(
                f'setval: value {value} is out of bounds for sequence "{name}" ({desc.minimum}..{desc.maximum})',
                sqlstate="22003",
            )
        if self.agreement is not None:
            row = (sequence_key(id), STATE.pack(value, is_called))
            await self.agreement.change_everywhere(Change(sequences=(id,)), [row])
            return value
        self._known[id] = _Sequence(value, is_called)
        await self._store(id, value, is_called)
        return value

    async def current(self, id: int, desc: SequenceDesc) -> tuple[int, bool]:
        """Returns (last value, is_called), as selecting from the sequence shows them."""
        if self.is_shared:
            raw: bytes | None = (await self._send(Get(sequence_key(id)))).results[0]
            last, is_called = (desc.start, 0) if raw is None else STATE.unpack(raw)
            return last, bool(is_called)
        state = await self._load(id, desc)
        return state.last, state.is_called

    def known(self, id: int) -> tuple[int, bool] | None:
        """Returns (last value, is_called) if the state is in memory; among several nodes once after each ``load``."""
        if self.is_shared:
            return self._peeked.pop(id, None)
        state = self._known.get(id)
        return None if state is None else (state.last, state.is_called)

    def last_known(self, id: int) -> int | None:
        """Returns the last value given out, if this node gave one (pg_sequences.last_value)."""
        state = self._known.get(id)
        return state.last if state is not None and state.is_called else None

    def forget(self, id: int) -> None:
        """After DROP or a rolled-back CREATE."""
        self._known.pop(id, None)
        self._forgotten += 1

    def forget_all(self) -> None:
        """Any of them may have been set elsewhere."""
        self._known.clear()
        self._forgotten += 1

    async def release(self) -> None:
        """Gives unused parts of blocks back, at a clean shutdown."""
        for id, state in self._known.items():
            if not state.is_called or state.last == state.ceiling:
                continue
            if not self.is_shared:
                await self._store(id, state.last, True)
                continue
            stored = STATE.pack(state.ceiling, True)
            try:
                await self._send(ConditionalPut(sequence_key(id), STATE.pack(state.last, True), stored))
            except MeridianError:
                pass  # Another node has a later block, or nobody answers: the values are lost.

    def _following(self, state: _Sequence, desc: SequenceDesc, name: str) -> int:
        if not state.is_called:
            return state.last
        value = state.last + desc.increment
        if desc.minimum <= value <= desc.maximum:
            return value
        if not desc.cycle:
            bound, limit = ("maximum", desc.maximum) if desc.increment > 0 else ("minimum", desc.minimum)
            raise SqlError(f'nextval: reached {bound} value of sequence "{name}" ({limit})', sqlstate="2200H")
        return desc.minimum if desc.increment > 0 else desc.maximum

    async def _load(self, id: int, desc: SequenceDesc) -> _Sequence:
        state = self._known.get(id)
        if state is None:
            reply = self.kv.send(Batch([Get(sequence_key(id))]))
            state = self._learn(id, desc, reply if isinstance(reply, Reply) else await reply)
        return state

    def _learn(self, id: int, desc: SequenceDesc, reply: Reply) -> _Sequence:
        raw = reply.results[0]
        last, is_called = (desc.start, 0) if raw is None else STATE.unpack(raw)
        # Two sessions may load at once; the first one in wins.
        return self._known.setdefault(id, _Sequence(last, bool(is_called)))

    async def _store(self, id: int, last: int, is_called: bool) -> None:
        reply = self.kv.send(Batch([Put(sequence_key(id), STATE.pack(last, is_called))]))
        if not isinstance(reply, Reply):
            await reply


def _ceiling(value: int, block: int, desc: SequenceDesc) -> int:
    """Returns the last value of a block that begins at a value."""
    limit = desc.maximum if desc.increment > 0 else desc.minimum
    return value + min(block, abs(limit - value) // abs(desc.increment)) * desc.increment
