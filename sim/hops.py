"""A hop between coordinator and store: batches take time, and get lost.

In one process the store answers in the same tick and never loses anything.  The protocol above
must not depend on that, so a run may put this in between::

    delay     the reply comes later
    lost      a batch that may end a transaction: evaluated, but AmbiguousResult
              any other batch: Overloaded, not evaluated

A batch that ends a transaction always arrives: locks of a transaction whose end got lost are
in this process's memory alone, and nobody else could free them.  Losing it waits for nodes.

``Overloaded`` is what admission control answers, so every caller has to live with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from base.eager import Eager
from base.errors import AmbiguousResult, Overloaded
from base.seams import Clock
from kvtier.client import NOT_NOW, Kv
from kvtier.messages import Batch, EndTxn, Heartbeat, Lock, Put, Reply, TxnMeta
from sim.streams import ODDS_PARTS, Draws

DELAY_SECONDS_MAX: Final = 0.02


class HopKv(Kv):
    """A Kv in front of another; ``tell`` gets every batch and what came of it, if set."""

    def __init__(
        self, inner: Kv, clock: Clock, rng: Draws, delay: float, loss: float, tell: Callable[[str], None] | None
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._rng = rng
        self.set_odds(delay, loss)
        self._tell = tell
        self.max_offset_us = inner.max_offset_us
        self.delays = 0
        self.losses = 0

    def set_odds(self, delay: float, loss: float) -> None:
        """From now on batches are delayed and lost with these odds."""
        self._loss_parts = int(loss * ODDS_PARTS)
        self._delay_parts = self._loss_parts + int(delay * ODDS_PARTS)

    def send(self, batch: Batch) -> Eager[Reply]:
        if self._tell is not None:
            return self._send_told(batch, self._tell)
        return self._send(batch)

    def _send(self, batch: Batch) -> Eager[Reply]:
        if self._delay_parts:
            draw = self._rng.below(ODDS_PARTS)
            if draw < self._loss_parts:
                self.losses += 1
                return self._lose(batch)
            if draw < self._delay_parts:
                self.delays += 1
                return self._delay(batch)
        return self._inner.send(batch)

    async def _delay(self, batch: Batch) -> Reply:
        await self._clock.sleep(self._rng.random() * DELAY_SECONDS_MAX)
        reply = self._inner.send(batch)
        if not isinstance(reply, Reply):
            reply = await reply
        await self._clock.sleep(self._rng.random() * DELAY_SECONDS_MAX)
        return reply

    async def _lose(self, batch: Batch) -> Reply:
        last = batch.ops[-1]
        if isinstance(last, EndTxn) and not last.commit:
            # Giving up locks that only memory knows: in one process this cannot get lost.
            return await self._delay(batch)
        if not isinstance(last, EndTxn) and batch.txn is not None:
            raise Overloaded("the store refuses work")
        reply = self._inner.send(batch)
        if not isinstance(reply, Reply):
            await reply
        await self._clock.sleep(self._rng.random() * DELAY_SECONDS_MAX)
        raise AmbiguousResult("the connection to the store was lost")

    def get_now(self, key: bytes, ts: int, owner: bytes) -> Any:
        """A read that would be delayed or lost must be sent as a batch."""
        if self._delay_parts and self._rng.below(ODDS_PARTS) < self._delay_parts:
            return NOT_NOW
        value = self._inner.get_now(key, ts, owner)
        if self._tell is not None and value is not NOT_NOW:
            self._tell(f"read {key.hex()} at {ts} -> {value!r}")
        return value

    def scan_now(self, start: bytes, end: bytes, reverse: bool, limit: int, ts: int, owner: bytes) -> Any:
        if self._delay_parts and self._rng.below(ODDS_PARTS) < self._delay_parts:
            return NOT_NOW
        found = self._inner.scan_now(start, end, reverse, limit, ts, owner)
        if self._tell is not None and found is not NOT_NOW:
            self._tell(f"scan {start.hex()} to {end.hex()} at {ts} -> {found!r}")
        return found

    def lock_now(self, key: bytes, txn: TxnMeta, strength: Lock) -> Any:
        if self._delay_parts and self._rng.below(ODDS_PARTS) < self._delay_parts:
            return NOT_NOW
        value = self._inner.lock_now(key, txn, strength)
        if self._tell is not None and value is not NOT_NOW:
            self._tell(f"lock {key.hex()} by {txn.id.hex()[:8]} -> {value!r}")
        return value

    def wait_durable(self, seq: int) -> Eager[None]:
        return self._inner.wait_durable(seq)

    def now(self) -> int:
        return self._inner.now()

    def is_local(self, keys: list[bytes]) -> bool:
        return self._inner.is_local(keys)

    # --- telling -----------------------------------------------------------------

    def _send_told(self, batch: Batch, tell: Callable[[str], None]) -> Eager[Reply]:
        what = describe(batch)
        try:
            reply = self._send(batch)
        except Exception as error:
            tell(f"{what} raised {error!r}")
            raise
        if isinstance(reply, Reply):
            tell(f"{what} -> {_describe_reply(reply)}")
            return reply
        return self._await_told(reply, what, tell)

    async def _await_told(self, pending: object, what: str, tell: Callable[[str], None]) -> Reply:
        tell(f"{what} waits")
        try:
            reply: Reply = await pending  # type: ignore[misc]  # not a Reply, so it is awaitable
        except Exception as error:
            tell(f"{what} raised {error!r}")
            raise
        tell(f"{what} -> {_describe_reply(reply)}")
        return reply


def describe(batch: Batch) -> str:
    """Returns a batch as one line."""
    txn = batch.txn
    who = "no txn" if txn is None else f"txn {txn.id.hex()[:8]} read {txn.read_ts:x} write {txn.write_ts:x}"
    return f"{who} [{'; '.join([_describe_op(op) for op in batch.ops])}]"


def _describe_op(op: object) -> str:
    words = [type(op).__name__]
    if isinstance(op, Heartbeat | Put):
        words.append(repr(op.key))
    for name in ("start", "end", "keys", "value", "in_flight", "intents", "commit", "status", "seq", "to_ts", "pushee"):
        value = getattr(op, name, None)
        if value:
            words.append(f"{name}={value.id.hex()[:8] if name == 'pushee' else value!r:.60}")
    key = getattr(op, "key", None)
    if (key is not None and len(words) == 1) or (key is not None and not isinstance(op, Heartbeat | Put)):
        words.insert(1, repr(key))
    lock = getattr(op, "lock", Lock.NONE)
    if lock:
        words.append(lock.name.lower())
    return " ".join(words)


def _describe_reply(reply: Reply) -> str:
    shown = [repr(result)[:80] for result in reply.results if result is not None]
    return f"ts {reply.ts:x} write {reply.write_ts:x}{' staged' if reply.staged else ''} {' '.join(shown)}"
