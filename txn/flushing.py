"""What a transaction writes before it ends: intents of a buffer that grew too large, runs of a load; and its heartbeats.

    flush    every version of the buffer as an intent, in order, in bounded batches
    run      rows in the order of their keys, into a span that holds none, as a block (``kvtier.runs``)

From its first intent on others may meet the transaction, so it shows that it lives.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from base.errors import MeridianError, Overloaded, TxnAborted
from base.faults import fault
from kvtier.messages import (
    Batch,
    Delete,
    DeleteSpan,
    Heartbeat,
    Isolation,
    Lock,
    Op,
    Put,
    PutRun,
    Reply,
    SettleRuns,
    TxnMeta,
    TxnStatus,
)
from txn.attempt import COMMITTING, OPEN
from txn.buffer import WriteBuffer
from txn.reads import Reader
from txn.spans import point_end

FLUSH_OPS_MAX: Final = 4_096
"""Intents of one batch, besides the bound on its bytes."""
STALL_ATTEMPTS_MAX: Final = 3_000
"""Attempts of one bulk write while the store refuses writes: five minutes at the longest pause."""
SETTLE_PAUSE_SECONDS: Final = 0.001
"""Between two steps of settling runs: the loop serves what has come in."""


class Flusher(Reader):
    """The part of ``Transaction`` that writes before the end."""

    _flushed_seq: int = 0
    _run_span: tuple[bytes, bytes] | None = None
    """Covers every run of the transaction."""
    _run_seq: int = 0
    """Of the latest run."""
    _savepoint_seq: int = 0
    """Of the latest savepoint: what came after it can only be rolled back together."""
    _has_stale_runs: bool = False
    """A savepoint's rollback left rows in the store that must go before anything else is written."""
    _stop_timer: Callable[[], None] | None = None

    # --- intents ----------------------------------------------------------------

    async def _flush(self, buffer: WriteBuffer) -> None:
        """Writes every version of the buffer as intents, in order, in bounded batches (reliability 21)."""
        if not self.read_ts:
            self._start()
        if self._has_stale_runs:
            await self._settle_runs(0)
        ops = buffer.into_flush_ops()
        meta = self._ensure_meta(self._first_key(ops))
        self._is_flushed = True
        self._is_direct = False
        self._flushed_seq = self._seq
        for op in ops:
            if isinstance(op, DeleteSpan):
                self._intent_spans.append((op.start, op.end))
                op.is_held = self._is_held(op.start, op.end)
                if self.isolation == Isolation.SERIALIZABLE and not op.is_held:
                    # A row that appears in the span before we commit must not survive its deletion.
                    self._reads.add_span(op.start, op.end, b"")
            elif isinstance(op, (Put, Delete)):
                self._intent_keys[op.key] = None
        self._start_heartbeat()
        chunks = _chunks(ops, self._coordinator.settings.flush_bytes_max)
        for place, chunk in enumerate(chunks):
            if place:
                await self._coordinator.clock.sleep(0)  # The loop serves others, and our heartbeat.
            reply = self._perform(chunk, meta.anchor, Lock.NONE)
            if not isinstance(reply, Reply):
                await reply
        buffer.clear()

    def _first_key(self, writes: list[Op]) -> bytes:
        if not writes:
            return b""
        op = writes[0]
        return op.start if isinstance(op, DeleteSpan) else op.key  # type: ignore[union-attr]  # a write

    # --- runs -------------------------------------------------------------------

    def _spans_written(self) -> list[tuple[bytes, bytes]]:
        """Returns spans that hold whatever is to be resolved beside point intents."""
        return self._intent_spans if self._run_span is None else [*self._intent_spans, self._run_span]

    async def _put_run(self, keys: list[bytes], values: list[bytes], is_distinct: bool) -> int:
        buffer = self._buffer
        start, end = keys[0], point_end(keys[-1])
        if buffer is not None and (buffer.touches(start, end) or buffer.has_span_in(*self._covered_with(start, end))):
            # The store decides by what it knows: a deleted span may lie over a run that this one grows.
            await self._flush(buffer)
        if self._has_stale_runs:
            await self._settle_runs(0)
        if not self.read_ts:
            self._start()
        meta = self._ensure_meta(keys[0])
        done = 0
        for first, last in _slices(keys, values, self._coordinator.settings.flush_bytes_max):
            self._seq += 1
            op = PutRun(keys[first:last], values[first:last], self._seq, self._savepoint_seq, is_distinct)
            before = self._note_run(op)
            reply = await self._send_patiently(op, meta)
            if not reply.results[0]:
                self._run_span, self._is_flushed = before
                break
            self._note_reply(reply)
            self._run_seq = self._flushed_seq = self._seq
            self.is_read_only = False
            self._leave_fast_path()
            self._start_heartbeat()
            done = last
            # The loop serves others, and our heartbeat: silent for too long we would be taken for dead.
            await self._coordinator.clock.sleep(0)
        return done

    def _note_run(self, op: PutRun) -> tuple[tuple[bytes, bytes] | None, bool]:
        """Remembers, before it is sent, that there is something to resolve; returns what was known before."""
        before = (self._run_span, self._is_flushed)
        self._run_span = self._covered_with(op.keys[0], point_end(op.keys[-1]))
        self._is_flushed = True
        return before

    def _covered_with(self, start: bytes, end: bytes) -> tuple[bytes, bytes]:
        """Returns what covers a span and every run of the transaction."""
        span = self._run_span
        return (start, end) if span is None else (min(start, span[0]), max(end, span[1]))

    async def _send_patiently(self, op: Op, meta: TxnMeta) -> Reply:
        """Sends bulk; where the disk falls behind, waits for it, because a load may be slow but not fail for it."""
        settings = self._coordinator.settings
        for attempt in range(STALL_ATTEMPTS_MAX):
            meta.seq = self._seq
            try:
                reply = self._send(Batch([op], self.read_ts, meta))
                return reply if isinstance(reply, Reply) else await reply
            except Overloaded:
                await self._coordinator.clock.sleep(
                    min(settings.backoff_seconds * 2 ** min(attempt, 20), settings.backoff_seconds_max)
                )
            self._check_open()
        raise Overloaded("the storage engine has not taken writes for too long")

    async def _settle_runs(self, to_ts: int) -> None:
        """Makes the runs in the store what this transaction still sees of them, and moves them to ``to_ts``."""
        assert self._run_span is not None, "no runs to settle"
        assert self._meta is not None, "runs without identity"
        at, end = self._run_span
        while True:
            reply = await self._send_patiently(SettleRuns(at, end, to_ts), self._meta)
            resume: bytes | None = reply.results[0]
            if resume is None:
                break
            at = resume
            await self._coordinator.clock.sleep(SETTLE_PAUSE_SECONDS)
        self._has_stale_runs = False

    # --- heartbeats -------------------------------------------------------------

    def _start_heartbeat(self) -> None:
        """From the first intent on, or the first lock that others cannot see released, we show that we live."""
        if self._stop_timer is None:
            interval = self._coordinator.settings.heartbeat_seconds
            self._stop_timer = self._coordinator.scheduler.call_later(interval, self._beat)

    def _stop_heartbeat(self) -> None:
        if self._stop_timer is not None:
            self._stop_timer()
            self._stop_timer = None

    def _beat(self) -> None:
        """Sends one heartbeat; the next is due an interval after its answer."""
        if self._stop_timer is None or self._meta is None:
            return
        self._coordinator.scheduler.spawn(self._beat_once(self._meta), "heartbeat")

    async def _beat_once(self, meta: TxnMeta) -> None:
        status: Any = TxnStatus.PENDING
        try:
            if not fault("txn.heartbeat.skipped"):
                # Even asking for the time may be refused, by a disk that cannot keep the clock's bound.
                reply = self._send(Batch([Heartbeat(meta.anchor, self._coordinator.kv.now())], 0, meta))
                if not isinstance(reply, Reply):
                    reply = await reply
                status = reply.results[0]
        except TxnAborted:
            status = TxnStatus.ABORTED
        except MeridianError:
            self._coordinator.counts["heartbeats_failed"] += 1
        if self._stop_timer is None or meta is not self._meta:
            return
        self._stop_timer = None
        if status == TxnStatus.ABORTED and self._state == OPEN:
            self._failure = TxnAborted()
            self._leave_fast_path()
        elif self._state in (OPEN, COMMITTING):
            self._start_heartbeat()


def _chunks(ops: list[Op], bytes_max: int) -> list[list[Op]]:
    """Cuts writes into batches of bounded size, keeping their order; a span deletion begins its own."""
    chunks: list[list[Op]] = [[]]
    size = 0
    for op in ops:
        size += 64 + (len(op.value) if isinstance(op, Put) else 0)
        is_full = size > bytes_max or len(chunks[-1]) >= FLUSH_OPS_MAX
        if chunks[-1] and (is_full or isinstance(op, DeleteSpan)):
            chunks.append([])
            size = 64
        chunks[-1].append(op)
    return chunks


def _slices(keys: list[bytes], values: list[bytes], bytes_max: int) -> list[tuple[int, int]]:
    """Cuts rows into [first, last) of bounded bytes and number."""
    if len(keys) <= FLUSH_OPS_MAX and sum(map(len, keys)) + sum(map(len, values)) <= bytes_max:
        return [(0, len(keys))]
    slices: list[tuple[int, int]] = []
    first = size = 0
    for index in range(len(keys)):
        size += len(keys[index]) + len(values[index])
        if size > bytes_max or index - first == FLUSH_OPS_MAX:
            if index > first:
                slices.append((first, index))
            first = index
            size = len(keys[index]) + len(values[index])
    slices.append((first, len(keys)))
    return slices
