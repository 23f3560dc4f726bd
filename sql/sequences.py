"""Sequences: not transactional, never rolled back, never giving a value twice.

The store holds, per sequence, a *ceiling*: no value beyond it has been given out.  A node
takes values from a block below the ceiling without touching the store; a crash loses the rest of the
block (gaps, as in PostgreSQL), never repeats one.  Blocks grow while a sequence is busy.

    stored: | last: i64 | is_called: u8 |      last = the ceiling
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable
from typing import Any, Final

from base.eager import Eager
from base.errors import MeridianError, SqlError
from kvtier.client import Kv
from kvtier.messages import Batch, Get, Put, Reply
from planner.schema import SequenceDesc
from sql.catalog.keys import sequence_key

_STATE: Final = struct.Struct(">qB")
BLOCK_MIN: Final = 32
BLOCK_MAX: Final = 4096


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
        """Claims a block and returns (next value, the sync of the claim); None if the state must be loaded first.

        The claim is in the log before anything that uses the value, so a commit that depends on it is durable after
        it; what is told to a client without a commit waits for the sync.
        """
        state = self._known.get(id)
        if state is None:
            reply = self.kv.send(Batch([Get(sequence_key(id))]))
            if not isinstance(reply, Reply):
                return None
            state = self._learn(id, desc, reply)
        value = self._following(state, desc, name)
        limit = desc.maximum if desc.increment > 0 else desc.minimum
        steps = min(state.block, abs(limit - value) // abs(desc.increment))
        ceiling = value + steps * desc.increment
        # A store that refuses does so here, before anybody has a value of the block.
        claim = self.kv.send(Batch([Put(sequence_key(id), _STATE.pack(ceiling, True))]))
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

    async def load(self, id: int, desc: SequenceDesc) -> None:
        """Reads a sequence's state where that takes waiting."""
        await self._load(id, desc)

    async def set_value(self, id: int, value: int, is_called: bool, desc: SequenceDesc, name: str) -> int:
        """setval()."""
        if not desc.minimum <= value <= desc.maximum:
            raise SqlError(
                f'setval: value {value} is out of bounds for sequence "{name}" ({desc.minimum}..{desc.maximum})',
                sqlstate="22003",
            )
        self._known[id] = _Sequence(value, is_called)
        await self._store(id, value, is_called)
        return value

    async def current(self, id: int, desc: SequenceDesc) -> tuple[int, bool]:
        """Returns (last value, is_called), as selecting from the sequence shows them."""
        state = await self._load(id, desc)
        return state.last, state.is_called

    def known(self, id: int) -> tuple[int, bool] | None:
        """Returns (last value, is_called) if the state is in memory."""
        state = self._known.get(id)
        return None if state is None else (state.last, state.is_called)

    def last_known(self, id: int) -> int | None:
        """Returns the last value given out, if this node gave one (pg_sequences.last_value)."""
        state = self._known.get(id)
        return state.last if state is not None and state.is_called else None

    def forget(self, id: int) -> None:
        """After DROP or a rolled-back CREATE."""
        self._known.pop(id, None)

    async def release(self) -> None:
        """Gives unused parts of blocks back, at a clean shutdown."""
        for id, state in self._known.items():
            if state.is_called and state.last != state.ceiling:
                await self._store(id, state.last, True)

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
        last, is_called = (desc.start, 0) if raw is None else _STATE.unpack(raw)
        # Two sessions may load at once; the first one in wins.
        return self._known.setdefault(id, _Sequence(last, bool(is_called)))

    async def _store(self, id: int, last: int, is_called: bool) -> None:
        reply = self.kv.send(Batch([Put(sequence_key(id), _STATE.pack(last, is_called))]))
        if not isinstance(reply, Reply):
            await reply
