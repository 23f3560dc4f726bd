"""How a transaction gives up what it holds, and the work of its end that outlives whoever asked for it.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, Final, TypeVar

from base.eager import Eager
from base.errors import MeridianError, Overloaded
from base.faults import fault
from base.seams import Waiter
from kvtier.messages import Batch, EndTxn, Reply, ResolveIntents, TxnMeta, TxnStatus
from txn.attempt import ABORTED, COMMITTING, OPEN
from txn.flushing import Flusher

T = TypeVar("T")

RELEASE_ATTEMPTS_MAX: Final = 10_000
"""Attempts to release locks while the store refuses writes: a quarter of an hour at the longest pause."""
RESOLVE_KEYS_MAX: Final = 4_096
"""Intents resolved by one batch."""

ResolvePart = tuple[tuple[bytes, ...], tuple[tuple[bytes, bytes], ...]]
"""(keys, spans) of one ResolveIntents."""


class Owned:
    """Awaitable result of a task of the node; nobody has to await it."""

    def __init__(self, waiter: Waiter) -> None:
        self._waiter = waiter

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._waiter.wait().__await__()


class Releaser(Flusher):
    """The part of ``Transaction`` that rolls back and releases."""

    _is_abandoned: bool = False
    """Rolled back by its owner while its commit was under way in a task of the node."""

    @abstractmethod
    def _reopen(self, error: MeridianError) -> MeridianError | None:
        """After a failed commit: returns what to raise, None if it has committed before under its name."""

    @abstractmethod
    def _finish_repeated(self) -> int:
        """The transaction has committed before under its name."""

    # --- releasing --------------------------------------------------------------

    def rollback(self) -> Eager[None]:
        if self._state == COMMITTING:
            self._is_abandoned = True
        if self._state != OPEN:
            return None
        self._state = ABORTED
        self._leave_fast_path()
        return self._release(TxnStatus.ABORTED)

    def adopt(self, meta: TxnMeta) -> None:
        """Takes over what a batch sent under this identity may have locked; ``rollback`` gives it up."""
        self._meta = meta
        self._is_locked = True

    def _release(self, status: TxnStatus, is_certain: bool = True) -> Eager[None]:
        """Gives up locks and, aborting, intents; never raises.  Awaiting it is optional: the node finishes it.

        If it is not certain that it has not committed, nothing is resolved before its record says so: where a
        heartbeat had written a record, a commit in one phase leaves intents, which are the committed values.
        """
        self._stop_heartbeat()
        meta = self._meta
        if meta is None or not (self._is_locked or self._is_flushed):
            return None
        keys = tuple(self._intent_keys)
        spans = tuple(self._spans_written())
        batch = Batch([EndTxn(status == TxnStatus.COMMITTED, intents=keys, intent_spans=spans)], 0, meta)
        rest = self._remainder() if self._is_flushed or not self.single_store else ()
        try:
            reply = self._send(batch)
        except Overloaded:
            return self._own(self._release_later(batch, meta, status, rest, is_certain), "release")
        except MeridianError:
            self._coordinator.counts["releases_failed"] += 1
            return self._own(self._resolve(meta, status, 0, rest), "release") if rest and is_certain else None
        if isinstance(reply, Reply) and not rest:
            return None
        return self._own(self._finish_release(reply, batch, meta, status, rest, is_certain), "release")

    async def _release_later(
        self, batch: Batch, meta: TxnMeta, status: TxnStatus, rest: tuple[ResolvePart, ...], is_certain: bool
    ) -> None:
        """The store takes no writes for now; nobody else knows of the locks, so it is asked until it does."""
        self._coordinator.counts["releases_failed"] += 1
        settings = self._coordinator.settings
        for attempt in range(RELEASE_ATTEMPTS_MAX):
            await self._coordinator.clock.sleep(
                min(settings.backoff_seconds * 2 ** min(attempt, 20), settings.backoff_seconds_max)
            )
            try:
                reply = self._send(batch)
                if not isinstance(reply, Reply):
                    await reply
            except Overloaded:
                continue
            except MeridianError:
                self._coordinator.counts["releases_failed"] += 1
                break
            is_certain = True
            break
        if is_certain:
            await self._resolve(meta, status, 0, rest)

    async def _finish_release(
        self,
        reply: Eager[Reply],
        batch: Batch,
        meta: TxnMeta,
        status: TxnStatus,
        rest: tuple[ResolvePart, ...],
        is_certain: bool,
    ) -> None:
        try:
            if not isinstance(reply, Reply):
                await reply
        except Overloaded:
            await self._release_later(batch, meta, status, rest, is_certain)
            return
        except MeridianError:
            self._coordinator.counts["releases_failed"] += 1
            if not is_certain:
                return
        await self._resolve(meta, status, 0, rest)

    def _release_remote(self, status: TxnStatus) -> None:
        """After a one-phase commit: frees locks that other stores hold for us; the commit has freed those of its own."""
        if self._lock_keys or self._lock_spans:
            meta = self._meta
            assert meta is not None, "locks without identity"
            if self._are_locks_at(meta.anchor):
                return
            self._coordinator.scheduler.spawn(self._resolve(meta, status, self.commit_ts, self._remainder()), "release")

    def _are_locks_at(self, anchor: bytes) -> bool:
        """True if all locks are in the range of a key, as far as is known here: else their waiters look after us."""
        keys = [anchor, *self._lock_keys]
        for start, end in self._lock_spans:
            if not end:
                return False
            keys += (start, end)
        return self._coordinator.kv.is_local(keys)

    def _remainder(self) -> tuple[ResolvePart, ...]:
        """Returns intents to resolve and locks to free, in parts of bounded size (reliability 17)."""
        keys = list({**self._intent_keys, **self._lock_keys})
        spans = tuple(self._spans_written() + self._lock_spans)
        parts: list[ResolvePart] = []
        for first in range(0, max(len(keys), 1), RESOLVE_KEYS_MAX):
            parts.append((tuple(keys[first : first + RESOLVE_KEYS_MAX]), spans))
            spans = ()
        return tuple(parts)

    async def _resolve(self, meta: TxnMeta, status: TxnStatus, commit_ts: int, parts: tuple[ResolvePart, ...]) -> None:
        """Resolves intents and frees locks, one batch a part."""
        if fault("txn.resolve.skipped"):
            return
        for place, (keys, spans) in enumerate(parts):
            if place:
                await self._coordinator.clock.sleep(0)
            if keys or spans:
                await self._try(Batch([ResolveIntents(keys, spans, meta, int(status), commit_ts)]))

    async def _try(self, batch: Batch) -> bool:
        """Sends what others would finish if we cannot; False if it failed."""
        try:
            reply = self._send(batch)
            if not isinstance(reply, Reply):
                await reply
        except MeridianError:
            self._coordinator.counts["releases_failed"] += 1
            return False
        return True

    # --- work that outlives its caller ------------------------------------------

    def _own(self, coroutine: Coroutine[Any, Any, T], name: str) -> Awaitable[T]:
        """Runs a coroutine in a task of the node and returns an awaitable of its result (reliability 133)."""
        waiter = self._coordinator.scheduler.waiter()
        self._coordinator.scheduler.spawn(self._run_owned(coroutine, waiter), name)
        return Owned(waiter)

    async def _run_owned(self, coroutine: Coroutine[Any, Any, Any], waiter: Waiter) -> None:
        try:
            result = await coroutine
        except MeridianError as error:
            failure = await self._fail_owned(error)
            if failure is None:
                waiter.wake(self.commit_ts)
            else:
                waiter.fail(failure)
        else:
            waiter.wake(result)

    async def _fail_owned(self, error: MeridianError) -> MeridianError | None:
        """After a failed commit: open again for its owner, or rolled back if the owner has left.

        Returns what to raise, None if it turned out to have committed before under its name.
        """
        if self._state != COMMITTING:
            return error
        failure = self._reopen(error)
        if failure is None:
            self._finish_repeated()
        elif self._state == OPEN and self._is_abandoned:
            self._state = ABORTED
            released = self._release(TxnStatus.ABORTED)
            if released is not None:
                await released
        return failure
