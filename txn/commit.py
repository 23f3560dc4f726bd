"""How a transaction commits: in one phase, in parallel, in two rounds.

    read-only            nothing is sent; waits until what it saw is durable
    one-phase            every key in this store and nothing flushed: one batch
                         [Refresh of all reads.., writes.., EndTxn], no intent ever exists
    parallel             intents and a STAGING record in one round.  Committed as soon as all
                         of it succeeded at the staged timestamp (implicit commit); the record is
                         made explicit and the intents are resolved in the background
    two rounds           what a parallel commit falls back to when a timestamp was pushed, and
                         what runs (kvtier.runs) need, which are settled at the timestamp first:
                         intents, refresh to the highest of their timestamps, explicit EndTxn.
                         A batch with EndTxn is never sent twice as it was (reliability 9)

What can go wrong with the batch that ends the transaction::

    an error of the store     nothing was committed; the transaction is open again: restart or roll back
    AmbiguousResult           state ``ambiguous``: never retried, never aborted by us (reliability 6-8)
    the task is cancelled     one-phase: ambiguous, locks are released all the same;
                              otherwise the rest runs on in a task of the node (reliability 133)

A *named* transaction (``set_commit_key``) writes one more row, its outcome, in the same
batch, on condition that it does not exist.  If it does, an earlier attempt has committed, and
this one is answered with success without being applied: a client that does not know how its
COMMIT ended just runs the whole transaction again.  Asking (``Coordinator.outcome``) is reading that
row, or writing "aborted" into it first.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final

from base.eager import Eager
from base.errors import (
    AmbiguousResult,
    ConditionFailed,
    KvError,
    MeridianError,
    TxnAborted,
    TxnRetry,
    WriteTooOld,
)
from base.faults import fault
from base.hlc import LOGICAL_BITS
from kvtier.messages import (
    Batch,
    ConditionalPut,
    Delete,
    DeleteSpan,
    EndTxn,
    Isolation,
    Lock,
    Op,
    Put,
    Refresh,
    Reply,
    TxnMeta,
    TxnStatus,
)
from kvtier.meta import ordered
from txn.attempt import AMBIGUOUS, COMMITTED, COMMITTING, OPEN
from txn.flushing import FLUSH_OPS_MAX
from txn.releasing import Releaser
from txn.spans import point_end

COMMITTED_MARK: Final = b"C"
ABORTED_MARK: Final = b"A"
"""First byte of an outcome row; the transaction's id follows."""

CHECKS_THERE_MAX: Final = 100
"""Reads that are looked at one by one, whether they can be checked with the commit."""


class Committer(Releaser):
    """The ending half of ``Transaction``."""

    _commit_key: str = ""
    _deadline_ts: int = 0

    def set_commit_key(self, name: str) -> None:
        """Names the transaction; its outcome can be asked for later by that name."""
        self._commit_key = name

    def set_deadline(self, ts: int) -> None:
        """The commit timestamp must stay below this (a descriptor it used was replaced there; reliability 81)."""
        self._deadline_ts = ts if not self._deadline_ts else min(ts, self._deadline_ts)

    def _deadline(self) -> int:
        """Returns what the commit timestamp must stay below; 0 for nothing."""
        term = self._term
        if term is None:
            return self._deadline_ts
        return term.until if not self._deadline_ts else min(term.until, self._deadline_ts)

    # --- commit -----------------------------------------------------------------

    def commit(self) -> Eager[int]:
        self._check_open()
        has_writes = bool(self._buffer) or self._is_flushed or bool(self._commit_key)
        if not has_writes and not (self._is_locked and self._validations and not self.single_store):
            return self._commit_reads()
        self._leave_fast_path()
        if self._is_flushed or self._coordinator.settings.force_intents or not self._fits_one_batch():
            self._state = COMMITTING
            return self._own(self._commit_parallel(), "commit")
        if self.single_store or not self._has_checks() or self._has_checks_there():
            return self._commit_one_phase()
        self._state = COMMITTING
        return self._own(self._commit_refreshed(), "commit")

    def _fits_one_batch(self) -> bool:
        """True if one store holds every written key as its only replica."""
        if self.single_store:
            return True
        buffer = self._buffer
        keys: list[bytes] = []
        if buffer is not None:
            if buffer.spans:
                return False
            keys += buffer.entries
        if self._meta is not None and self._meta.anchor:
            keys.append(self._meta.anchor)  # EndTxn goes there.
        return self._coordinator.kv.is_local(keys + self._commit_key_row())

    def _has_checks_there(self) -> bool:
        """True if what must be checked is in the range that is written to: then it is checked with the commit."""
        buffer = self._buffer
        keys = [] if buffer is None else list(buffer.entries)[:1]
        ops = self._checks(0)
        if not keys or len(ops) > CHECKS_THERE_MAX:
            return False
        for op in ops:
            assert isinstance(op, Refresh), op
            keys.append(op.start)
            if not op.is_point:
                if not op.end:
                    return False
                keys.append(op.end)
        return self._coordinator.kv.is_local(keys)

    def _commit_reads(self) -> Eager[int]:
        """Ends a transaction that wrote nothing."""
        self._state = COMMITTED
        self._leave_fast_path()
        self.commit_ts = self.read_ts
        if self._is_locked:
            self._release(TxnStatus.COMMITTED)
        if self._unsynced:
            durable = self._coordinator.kv.wait_durable(self._unsynced)
            if durable is not None:
                return self._confirm_later(durable)
        return self.commit_ts if self.single_store else self._confirm()

    async def _confirm_later(self, durable: Awaitable[None]) -> int:
        await durable
        confirmed = self._confirm()
        return confirmed if isinstance(confirmed, int) else await confirmed

    def _confirm(self) -> Eager[int]:
        """Commit-wait: a timestamp ahead of our clock is told to nobody before its time (reliability 27)."""
        if not self.single_store:
            ahead_us = (self.commit_ts >> LOGICAL_BITS) - self._wall_us()
            if ahead_us > 0:
                return self._confirm_after(ahead_us)
        return self.commit_ts

    async def _confirm_after(self, ahead_us: int) -> int:
        while ahead_us > 0:
            await self._coordinator.clock.sleep(ahead_us / 1e6)
            ahead_us = (self.commit_ts >> LOGICAL_BITS) - self._wall_us()
        return self.commit_ts

    def _note_committed(self, commit_ts: int) -> None:
        self.commit_ts = commit_ts
        self._state = COMMITTED
        self._stop_heartbeat()

    # --- one phase --------------------------------------------------------------

    def _commit_one_phase(self) -> Eager[int]:
        batch = self._one_phase_batch(True)
        self._state = COMMITTING
        try:
            reply = self._send(batch)
        except MeridianError as error:
            return self._retry_one_phase(error)
        if isinstance(reply, Reply):
            self._note_committed(reply.write_ts or reply.ts)
            return self._confirm()
        return self._await_one_phase(reply)

    async def _await_one_phase(self, pending: Awaitable[Reply]) -> int:
        try:
            reply = await pending
        except MeridianError as error:
            again = self._retry_one_phase(error)
            return again if isinstance(again, int) else await again
        except BaseException:
            self._state = AMBIGUOUS
            self._release(TxnStatus.ABORTED, is_certain=False)
            raise
        self._note_committed(reply.write_ts or reply.ts)
        self._release_remote(TxnStatus.COMMITTED)
        confirmed = self._confirm()
        return confirmed if isinstance(confirmed, int) else await confirmed

    def _retry_one_phase(self, error: MeridianError) -> Eager[int]:
        """Refreshes and sends again after a definite WriteTooOld; anything else goes up."""
        failure = self._reopen(error)
        if failure is None:
            return self._finish_repeated()
        self._commit_attempts += 1
        if isinstance(error, WriteTooOld) and self._commit_attempts < self._coordinator.settings.commit_attempts_max:
            return self._commit_one_phase_again(error)
        if self._state == AMBIGUOUS:
            self._release(TxnStatus.ABORTED, is_certain=False)
        raise failure

    async def _commit_one_phase_again(self, error: WriteTooOld) -> int:
        if not await self._advance(error):
            raise error
        again = self._commit_one_phase()
        return again if isinstance(again, int) else await again

    _commit_attempts: int = 0

    def _reopen(self, error: MeridianError) -> MeridianError | None:
        """After a failed end: open again if nothing can have been committed.

        Returns what to raise; None if this is a named transaction that had committed before.
        """
        if isinstance(error, KvError) and not isinstance(error, AmbiguousResult):
            self._state = OPEN
        else:
            self._state = AMBIGUOUS
        if not isinstance(error, ConditionFailed):
            return error
        if (error.actual or b"").startswith(ABORTED_MARK):
            return TxnAborted(f'transaction "{self._commit_key}" was cancelled by an inquiry', reason="outcome_asked")
        return None

    def _finish_repeated(self) -> int:
        """Ends a repetition of a named transaction: it has no effect, the earlier one stands."""
        self._release(TxnStatus.ABORTED)
        self._state = COMMITTED
        self.commit_ts = self._coordinator.kv.now()
        return self.commit_ts

    def _one_phase_batch(self, can_forward: bool) -> Batch:
        """Returns the batch that is the whole commit."""
        if not self.read_ts:
            self._start()
        row = self._commit_key_row()
        buffer = self._buffer
        ops = self._checks(0) if can_forward else []
        writes: list[Op] = [] if buffer is None else buffer.into_commit_ops()
        if self._held:
            for op in writes:
                if isinstance(op, DeleteSpan):
                    op.is_held = self._is_held(op.start, op.end)
        ops += self._outcome_ops(row)
        ops += writes
        anchor = row[0] if row else self._first_key(writes)
        # What cannot be moved commits exactly where its reads were checked.
        meta = self._commit_meta(anchor) if can_forward else self._ensure_meta(anchor)
        meta.seq = self._seq
        self._is_locked = True  # Waiting for a key gives its lock, also if the commit then fails.
        ops.append(EndTxn(True, self._deadline(), can_forward=can_forward, commit_key=self._commit_key))
        return Batch(ops, self.read_ts, meta)

    def _commit_meta(self, anchor: bytes) -> TxnMeta:
        """Returns the identity to commit with; READ COMMITTED commits now, whatever it has read at."""
        meta = self._ensure_meta(anchor)
        if self.isolation == Isolation.READ_COMMITTED and self._run_span is None:
            # (A run was put above everything it met, and moving it would cost a write of all its rows.)
            if not self.read_ts:
                self._start()
            meta.write_ts = max(meta.write_ts, self._coordinator.kv.now())
        meta.seq = self._seq
        return meta

    def _checks(self, to_ts: int) -> list[Op]:
        """Returns what must be the same at the commit timestamp (0) as when it was read."""
        ops: list[Op] = []
        if self.isolation == Isolation.SERIALIZABLE and (not to_ts or to_ts > self.read_ts):
            ops = self._reads.into_ops(self.read_ts, to_ts)
        for key, ts in self._validations.items():
            if not to_ts or to_ts > ts:
                ops.append(Refresh(key, point_end(key), ts, to_ts, b"", True))
        return ops

    def _commit_key_row(self) -> list[bytes]:
        if not self._commit_key:
            return []
        return [self._coordinator.settings.commit_key_prefix + ordered(self._commit_key.encode())]

    def _outcome_ops(self, row: list[bytes]) -> list[Op]:
        return [ConditionalPut(key, COMMITTED_MARK + self._ensure_meta(key).id, None, self._next_seq()) for key in row]

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq

    async def _commit_refreshed(self) -> int:
        """One phase where reads lie in other ranges: commits at exactly the timestamp at which all was read.

        Only where something was read or written above it, reads are refreshed to a newer one first; where that
        does not help, intents come first.
        """
        is_checked = self._is_read_at_once()
        for _ in range(self._coordinator.settings.commit_attempts_max):
            if not is_checked:
                await self._check_at(max(self._coordinator.kv.now(), self.read_ts))
            is_checked = False
            batch = self._one_phase_batch(False)
            try:
                reply = self._send(batch)
                if not isinstance(reply, Reply):
                    reply = await reply
            except TxnRetry as error:
                if error.reason == "closed_ahead":
                    # No refresh catches up with what is closed there; intents stay where they were put.
                    return await self._commit_parallel()
                continue
            except WriteTooOld as conflict:
                await self._wait_until_past(conflict.existing_ts)
                continue
            self._note_committed(reply.write_ts or reply.ts)
            self._release_remote(TxnStatus.COMMITTED)
            return await self._confirmed()
        # What takes longer than closed timestamps trail is overtaken each time; intents keep the place they have.
        return await self._commit_parallel()

    def _is_read_at_once(self) -> bool:
        """True if everything was read at the read timestamp, and nothing stands against writing there so far."""
        meta = self._meta
        return (
            self.isolation == Isolation.SERIALIZABLE
            and not self._validations
            and self.read_ts > 0
            and (meta is None or meta.write_ts <= self.read_ts)
        )

    async def _check_at(self, ts: int) -> None:
        """Moves the transaction to ``ts`` for its commit, or raises ReadConflict."""
        ops = self._checks(ts)
        if ops:
            reply = self._send(self._batch(ops))
            if not isinstance(reply, Reply):
                reply = await reply
            self._note_reply(reply)
        for key in self._validations:
            self._validations[key] = max(ts, self._validations[key])
        if self.isolation != Isolation.REPEATABLE_READ:
            self._set_read_ts(max(ts, self.read_ts))
        elif self._meta is not None:
            self._meta.write_ts = max(self._meta.write_ts, ts)

    async def _confirmed(self) -> int:
        confirmed = self._confirm()
        return confirmed if isinstance(confirmed, int) else await confirmed

    # --- parallel commit --------------------------------------------------------

    async def _commit_parallel(self) -> int:
        """Stages everything in one round; see the module docstring."""
        if not self.read_ts:
            self._start()
        buffer = self._buffer
        if self._has_stale_runs:
            await self._settle_runs(0)
        if buffer is not None and buffer.spans:
            await self._flush(buffer)  # A span cannot be in flight.
        row = self._commit_key_row()
        writes: list[Op] = [] if buffer is None else buffer.into_commit_ops()
        writes += self._outcome_ops(row)
        meta = self._commit_meta(self._first_key(writes))
        staged_ts = await self._check_pushed(meta)
        in_flight = self._note_intents(writes)
        if fault("txn.commit.two-rounds") or self._run_span is not None:
            return await self._commit_in_two_rounds(meta, writes)
        proven = tuple([key for key in self._intent_keys if key not in in_flight])
        end = self._end_ops(True, tuple(in_flight.items()), proven, not self._has_checks())
        try:
            reply = await self._send_end(meta, writes + end)
        except TxnRetry:
            return await self._commit_in_two_rounds(meta, writes)
        commit_ts = max(staged_ts, reply.write_ts)
        if not reply.staged or commit_ts == staged_ts:
            return await self._finish_commit(meta, commit_ts, reply.staged)
        # Some write was pushed above the staged timestamp: not committed yet.
        meta.write_ts = commit_ts
        return await self._commit_explicitly(meta)

    def _has_checks(self) -> bool:
        """True if the commit timestamp cannot move without a refresh."""
        return bool(self._validations) or (self.isolation == Isolation.SERIALIZABLE and bool(self._reads))

    async def _check_pushed(self, meta: TxnMeta) -> int:
        """Refreshes if a range has moved the write timestamp already; returns the timestamp to stage at."""
        if meta.write_ts > self.read_ts or self._validations:
            await self._check_at(meta.write_ts)
        return meta.write_ts

    def _note_intents(self, writes: list[Op]) -> dict[bytes, int]:
        """Remembers, before they are sent, the intents to resolve; returns key -> seq of the batch's writes."""
        in_flight: dict[bytes, int] = {}
        for op in writes:
            assert isinstance(op, (Put, Delete, ConditionalPut)), repr(op)
            in_flight[op.key] = op.seq
            self._intent_keys[op.key] = None
        self._is_flushed = True
        return in_flight

    def _end_ops(
        self, commit: bool, in_flight: tuple[tuple[bytes, int], ...], proven: tuple[bytes, ...], can_forward: bool
    ) -> list[Op]:
        spans = tuple(self._spans_written())
        return [EndTxn(commit, self._deadline(), in_flight, proven, spans, can_forward, self._commit_key)]

    async def _send_end(self, meta: TxnMeta, ops: list[Op]) -> Reply:
        """Sends a batch that may commit."""
        meta.seq = self._seq
        reply = self._send(Batch(ops, self.read_ts, meta))
        return reply if isinstance(reply, Reply) else await reply

    async def _commit_in_two_rounds(self, meta: TxnMeta, writes: list[Op]) -> int:
        """Intents first, then EndTxn: after a push, or where a try at one round has failed (reliability 9)."""
        for first in range(0, len(writes), FLUSH_OPS_MAX):
            if first:
                await self._coordinator.clock.sleep(0)
            reply = self._perform(writes[first : first + FLUSH_OPS_MAX], meta.anchor, Lock.NONE)
            if not isinstance(reply, Reply):
                await reply
        return await self._commit_explicitly(meta)

    async def _commit_explicitly(self, meta: TxnMeta) -> int:
        """All intents are there: refreshes to their highest timestamp and writes the COMMITTED record."""
        for _ in range(self._coordinator.settings.commit_attempts_max):
            await self._check_at(meta.write_ts)
            has_runs = self._run_span is not None
            if has_runs:
                await self._settle_runs(meta.write_ts)
            end = self._end_ops(True, (), tuple(self._intent_keys), not self._has_checks() and not has_runs)
            try:
                reply = await self._send_end(meta, end)
            except TxnRetry:
                meta.write_ts = max(meta.write_ts, self._coordinator.kv.now())
                continue
            return await self._finish_commit(meta, max(meta.write_ts, reply.write_ts), False)
        raise TxnRetry("could not commit at the refreshed timestamp", reason="pushed")

    async def _finish_commit(self, meta: TxnMeta, commit_ts: int, is_staged: bool) -> int:
        """The transaction is committed: tells the caller, and makes it plain to all in the background."""
        meta.write_ts = commit_ts
        self._note_committed(commit_ts)
        self._coordinator.scheduler.spawn(self._make_explicit(meta, commit_ts, is_staged), "resolve")
        return await self._confirmed()

    async def _make_explicit(self, meta: TxnMeta, commit_ts: int, is_staged: bool) -> None:
        """COMMITTED record, then intents; whoever meets what this leaves behind recovers it."""
        if is_staged:
            if fault("txn.explicit.skipped"):
                return
            end = self._end_ops(True, (), tuple(self._intent_keys), False)
            if not await self._try(Batch(end, self.read_ts, meta)):
                return
        await self._resolve(meta, TxnStatus.COMMITTED, commit_ts, self._remainder())
