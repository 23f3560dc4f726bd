"""Transactions as the session begins, runs and retries them.

``Coordinator`` is one per node and holds what all transactions share; ``begin`` makes a
``Transaction`` and sends nothing: its id is drawn when something is locked or written, its
read timestamp is taken at the first read.

    txn = coordinator.begin(Isolation.SERIALIZABLE)
    while True:
        try:
            ... statements ...
            commit_ts = await txn.commit()
        except Retryable as error:
            if nothing_was_sent and await txn.restart(error): continue
            txn.rollback(); raise

The layers of the class, each in its own file:

    Attempt      identity, timestamps, sending, refresh          txn/attempt.py
    Reader       get, get_many, scan                             txn/reads.py
    Flusher      intents, runs, heartbeats                       txn/flushing.py
    Releaser     rollback, release, work that outlives its owner txn/releasing.py
    Committer    commit                                          txn/commit.py
    Transaction  writes, savepoints, statements, restarts        here

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from typing import Any, Final

from base.eager import Eager
from base.errors import (
    AmbiguousResult,
    ConditionFailed,
    Deadlock,
    Retryable,
    TxnAborted,
    TxnRetry,
    WriteTooOld,
)
from base.seams import Clock, Rng, Scheduler
from kvtier.client import Kv
from kvtier.messages import Batch, ConditionalPut, EndTxn, Isolation, Reply, Routing, TxnMeta, TxnStatus
from kvtier.meta import ordered
from txn.attempt import OPEN, conflict_ts_of
from txn.buffer import WriteBuffer
from txn.commit import ABORTED_MARK, COMMITTED_MARK, Committer
from txn.settings import TxnSettings
from txn.term import Term

COUNTERS: Final = (
    "refreshes",
    "restarts",
    "statement_retries",
    "flushes",
    "releases_failed",
    "heartbeats_failed",
)


class Transaction(Committer):
    """One transaction; see ``txn.transaction.Txn`` for its contract."""

    _has_savepoint: bool = False
    _has_named_savepoint: bool = False
    """One that somebody asked for; every statement of READ COMMITTED has one of its own."""
    _statement_seq: int = 0
    _statement_retries: int = 0
    _restarts: int = 0

    # --- writing ----------------------------------------------------------------

    def put(self, key: bytes, value: bytes) -> None:
        buffer = self._buffer
        if buffer is None:
            buffer = self._open_buffer()
        self._seq += 1
        buffer.write(key, value, self._seq)

    def delete(self, key: bytes) -> None:
        buffer = self._buffer
        if buffer is None:
            buffer = self._open_buffer()
        self._seq += 1
        buffer.write(key, None, self._seq)

    def delete_span(self, start: bytes, end: bytes) -> Eager[None]:
        if start < end:
            self._seq += 1
            (self._buffer or self._open_buffer()).delete_span(start, end, self._seq)
        return None

    def _open_buffer(self) -> WriteBuffer:
        self._check_open()
        assert self._may_write, "a write in a read-only transaction"
        buffer = self._buffer
        if buffer is None:
            buffer = WriteBuffer()
            self._buffer = buffer
            if self._has_savepoint:
                buffer.mark_savepoint()
        self.is_read_only = False
        self._is_plain = False
        return buffer

    @property
    def needs_flush(self) -> bool:
        buffer = self._buffer
        return buffer is not None and buffer.bytes > self._coordinator.settings.buffer_bytes_max

    def put_run(self, keys: list[bytes], values: list[bytes], is_distinct: bool = False) -> Eager[int]:
        if not self.single_store or not keys:
            return 0
        self._check_open()
        assert self._may_write, "a write in a read-only transaction"
        return self._put_run(keys, values, is_distinct)

    def flush(self) -> Eager[None]:
        buffer = self._buffer
        if buffer is None or not buffer:
            return None
        self._coordinator.counts["flushes"] += 1
        return self._flush(buffer)

    # --- savepoints -------------------------------------------------------------

    def savepoint(self) -> int:
        self._has_named_savepoint = True
        return self._mark_savepoint()

    def _mark_savepoint(self) -> int:
        self._check_open()
        self._has_savepoint = True
        if self._buffer is not None:
            self._buffer.mark_savepoint()
        self._seq += 1
        self._savepoint_seq = self._seq
        return self._seq

    def rollback_to(self, token: int) -> None:
        assert token <= self._seq, f"{token=} {self._seq=}"
        if self._buffer is not None:
            self._buffer.rollback_to(token)
        if self._flushed_seq > token:
            self._ignore(token + 1, self._seq)
        if self._run_seq > token:
            self._has_stale_runs = True
        self._seq += 1

    def _ignore(self, first: int, last: int) -> None:
        """Adds an interval of rolled-back sequence numbers, swallowing those inside or just before it."""
        meta = self._meta
        assert meta is not None, "flushed without identity"
        kept = [interval for interval in meta.ignored if interval[0] < first]
        # The number before ``first`` is a savepoint's own and belongs to no write.
        if kept and kept[-1][1] >= first - 2:
            first = kept.pop()[0]
        meta.ignored = (*kept, (first, last))

    # --- statements and retries -------------------------------------------------

    def begin_statement(self) -> None:
        if self.isolation == Isolation.READ_COMMITTED and not self._is_fixed:
            self._statement_retries = 0
            if self._buffer is not None and not self._has_named_savepoint:
                self._buffer.forget_undo()
            self._statement_seq = self._mark_savepoint()
            self._new_snapshot()

    def _new_snapshot(self) -> None:
        """The next read takes a new timestamp; what was read before no longer matters."""
        self._reads.clear()
        self.read_ts = 0

    def retry_statement(self, error: Exception) -> Eager[bool]:
        if self.isolation != Isolation.READ_COMMITTED or self._state != OPEN or self._failure is not None:
            return False
        if not isinstance(error, Retryable) or isinstance(error, (Deadlock, TxnAborted)):
            return False
        term = self._term
        if term is not None and (self.is_lapsed() or self._coordinator.kv.now() >= term.until):
            return False
        self._statement_retries += 1
        if self._statement_retries > self._coordinator.settings.statement_retries_max:
            return False
        self._coordinator.counts["statement_retries"] += 1
        self.rollback_to(self._statement_seq)
        self._new_snapshot()
        self._raise_floor(error)
        return self._pause_for_floor() if self._is_ahead(self._floor_ts) else True

    async def _pause_for_floor(self) -> bool:
        await self._wait_until_past(self._floor_ts)
        return True

    def _raise_floor(self, error: Retryable) -> None:
        """The next snapshot must be above the conflict, even where another clock is ahead of ours."""
        self._floor_ts = max(self._floor_ts, conflict_ts_of(error))

    def restart(self, error: Exception) -> Eager[bool]:
        settings = self._coordinator.settings
        if self._state != OPEN or self._is_fixed or not isinstance(error, Retryable):
            return False
        self._restarts += 1
        if self._restarts > settings.restarts_max:
            return False
        self._coordinator.counts["restarts"] += 1
        # A deadlock's victim must let go, and what was flushed or aborted needs a new name.
        must_release = self._is_flushed or self._failure is not None or isinstance(error, (Deadlock, TxnAborted))
        released: Eager[None] = self._release(TxnStatus.ABORTED) if must_release else None
        self._reset(error, must_release)
        if released is None and not must_release and self._restarts == 1 and not self._is_ahead(self._floor_ts):
            return True
        return self._pause(released)

    async def _pause(self, released: Eager[None]) -> bool:
        """Waits before another attempt: doubling, half of it drawn, so that two victims part."""
        if released is not None:
            await released
        settings = self._coordinator.settings
        seconds = min(settings.backoff_seconds * 2 ** min(self._restarts, 20), settings.backoff_seconds_max)
        await self._coordinator.clock.sleep(seconds * (0.5 + self._coordinator.rng.random() / 2))
        await self._wait_until_past(self._floor_ts)
        return True

    def _reset(self, error: Retryable, must_release: bool) -> None:
        """Forgets the attempt; locks stay unless they were released."""
        self._raise_floor(error)
        self._new_snapshot()
        self._validations.clear()
        self._first_ts = 0
        self._failure = None
        self._commit_attempts = 0
        self._deadline_ts = 0
        self._term = self._coordinator.term
        self._buffer = None
        self.is_read_only = True
        self._is_direct = self.single_store and self._routing == Routing.LEASEHOLDER
        self._is_plain = self._routing == Routing.LEASEHOLDER and not self._is_deferrable
        self._priority += 1
        meta = self._meta
        if must_release:
            self._meta = None
            self._name = b""
            self._is_locked = False
            self._is_flushed = False
            self._flushed_seq = 0
            self._run_seq = 0
            self._run_span = None
            self._has_stale_runs = False
            # New containers: the release under way still reads the old ones.
            self._intent_keys = {}
            self._intent_spans = []
            self._lock_keys = {}
            self._lock_spans = []
        elif meta is not None:
            meta.epoch += 1
            if not self._is_locked:
                meta.anchor = b""
            meta.priority = self._priority


class Coordinator:
    """What the transactions of one node share."""

    def __init__(
        self, kv: Kv, clock: Clock, scheduler: Scheduler, rng: Rng, settings: TxnSettings | None = None
    ) -> None:
        self.kv = kv
        self.send = kv.send
        self.clock = clock
        self.scheduler = scheduler
        self.rng = rng
        self.settings = settings or TxnSettings()
        self.counts = dict.fromkeys(COUNTERS, 0)
        """For metrics."""
        self.meters: dict[bytes, Any] = {}
        """What watches the batches of a transaction, by its id (``kvtier.replication.crossings``)."""
        self.term: Term | None = None
        """What transactions begin in; set by whoever holds the lease on the catalog."""

    def begin(
        self,
        isolation: Isolation = Isolation.SERIALIZABLE,
        read_only: bool = False,
        deferrable: bool = False,
        priority: int = 1,
        as_of_ts: int = 0,
        lock_timeout_ms: int = 0,
        single_statement: bool = False,
        staleness_floor: int = 0,
    ) -> Transaction:
        """Begins a transaction; sends nothing.

        ``single_statement``: one plain SELECT and nothing else, ever; its reads are not recorded.
        ``as_of_ts``: reads there, at any replica.  ``staleness_floor``: reads as of whatever timestamp
        the first replica asked can serve, but not below this.
        """
        txn = Transaction(self, isolation)
        if priority != 1:
            txn._priority = priority
        if lock_timeout_ms:
            txn._lock_timeout_ms = lock_timeout_ms
        single_store = not self.kv.max_offset_us
        if not single_store:
            txn.single_store = False
            txn._is_direct = False
            txn._term = self.term
            if deferrable and read_only and isolation == Isolation.SERIALIZABLE:
                txn._is_deferrable = True
                txn._is_plain = False
        if as_of_ts or staleness_floor:
            self._make_historical(txn, as_of_ts, staleness_floor)
        elif single_store and (single_statement or isolation == Isolation.REPEATABLE_READ):
            txn._tracks = False  # A snapshot that never moves needs no read set.
        if single_statement:
            txn._may_write = False
        return txn

    def _make_historical(self, txn: Transaction, as_of_ts: int, staleness_floor: int) -> None:
        term = self.term
        if term is not None and max(as_of_ts, self.kv.now()) >= term.until:
            raise TxnRetry("the node's lease on the catalog has run out", reason="catalog_lease")
        txn._is_fixed = True
        txn._tracks = False
        txn._may_write = False
        txn._leave_fast_path()
        txn.single_store = True  # No uncertainty: the timestamp was named, not taken.
        txn.read_ts = as_of_ts
        txn._routing = Routing.NEAREST
        if not as_of_ts:
            txn._routing = Routing.BOUNDED_STALENESS
            txn._staleness_floor = staleness_floor

    async def outcome(self, name: str) -> str:
        """Says how a named transaction ended: ``committed`` or ``aborted``, for good.

        If it has not committed yet, it never will: the answer "aborted" is written first.
        """
        key = self.settings.commit_key_prefix + ordered(name.encode())
        txn_id = self.rng.bytes(16)
        txn = self.begin()
        is_written = False
        try:
            for _ in range(self.settings.commit_attempts_max):
                ts = self.kv.now()
                meta = TxnMeta(txn_id, read_ts=ts, write_ts=ts, anchor=key, start_ts=ts)
                txn.adopt(meta)
                batch = Batch([ConditionalPut(key, ABORTED_MARK + txn_id, None, 1), EndTxn(True)], ts, meta)
                try:
                    reply = self.send(batch)
                    if not isinstance(reply, Reply):
                        await reply
                except WriteTooOld as conflict:
                    await txn._wait_until_past(conflict.existing_ts)
                    continue
                except ConditionFailed as failed:
                    return "committed" if (failed.actual or b"").startswith(COMMITTED_MARK) else "aborted"
                is_written = True
                return "aborted"
            raise AmbiguousResult(f'the outcome of transaction "{name}" is contended')
        finally:
            # If it had to wait it was given the lock, and what failed after that did not take it away.
            if not is_written:
                txn.rollback()
