"""Group commit: one sync for all that was written before it began.

    write, write, write | sync ........ | sync ......
                          write, write -^ these join the next

Batches are written unsynced on the loop, which is fast; durability is one blocking
``engine.sync()`` off the loop for everything written before it started (design.md
section 3, reliability 108).  A commit waits for the first sync that began after its
write.  The order of the log is the order of the writes, so what a transaction depends on
is durable no later than itself.

A sync that fails says nothing about what is on disk, and a second try would lie
(reliability 5 of section 0): every waiter gets AmbiguousResult, ``on_fatal`` ends the process,
nothing is accepted any more.

When nobody writes any more, the engine is asked to note what the last sync covered: after
a crash that tells damaged batches from batches that were never synced.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from typing import Any, Final

from base.eager import Done, Eager, Suspended, run_eagerly
from base.errors import AmbiguousResult, Overloaded, StorageFailure
from base.seams import Scheduler, Waiter
from kvtier.engine.contract import StoreEngine
from kvtier.messages import Reply

MARK_SECONDS: Final = 0.1
"""From the last sync to the mark; a busy store marks with its next write anyway."""
WAITING_MAX: Final = 100_000
"""Commits that may wait for syncs; more than any number of sessions."""


class DurableReply:
    """A reply to be given after its sync; the sync comes whether anybody waits or not."""

    __slots__ = ("_reply", "_waiter")

    def __init__(self, reply: Reply, waiter: Waiter) -> None:
        self._reply = reply
        self._waiter = waiter

    def __await__(self) -> Generator[Any, Any, Reply]:
        yield from self._waiter.wait().__await__()
        return self._reply


class CommitGroup:
    """Syncs an engine on demand; see the module docstring.

    Invariant: ``synced_seq`` <= engine.write_seq(); all waiting sequences are above ``synced_seq``.
    """

    def __init__(self, engine: StoreEngine, scheduler: Scheduler, on_fatal: Callable[[BaseException], None]) -> None:
        self._engine = engine
        self._scheduler = scheduler
        self._on_fatal = on_fatal
        self._waiting: deque[tuple[int, Waiter]] = deque()
        self._is_running = False
        self._is_marking = False
        self.failure: BaseException | None = None
        self.synced_seq: int = engine.write_seq()
        """Everything up to this engine sequence is durable (the engine was opened from disk)."""
        self.on_synced: list[Callable[[int], None]] = []
        """Called with the new ``synced_seq`` after each sync, before the waiters are woken."""
        self.syncs = 0
        self.commits = 0
        self._covered = 0
        """Up to where the sync that is under way makes everything durable."""
        if engine.sync_event >= 0:
            scheduler.watch(engine.sync_event, self._on_event)

    def wait(self, seq: int) -> Eager[None]:
        """Returns None if ``seq`` is durable, else an awaitable that ends after its sync."""
        if seq <= self.synced_seq:
            return None
        return self.join(seq).wait()

    def reply(self, reply: Reply, seq: int) -> Eager[Reply]:
        """Returns a reply that tells of batch ``seq``: at once if that is durable, else after its sync."""
        if seq <= self.synced_seq:
            return reply
        return DurableReply(reply, self.join(seq))

    def join(self, seq: int) -> Waiter:
        """Returns a waiter woken once ``seq`` is durable, and sees to it that a sync begins."""
        waiter = self._scheduler.waiter()
        if self.failure is not None:
            waiter.fail(ambiguous(self.failure))
            return waiter
        assert len(self._waiting) < WAITING_MAX, len(self._waiting)
        self._waiting.append((seq, waiter))
        if not self._is_running:
            self._is_running = True
            self._scheduler.call_soon(self._begin)
        return waiter

    def is_syncing(self) -> bool:
        """True while a sync is under way or asked for."""
        return self._is_running

    def _begin(self) -> None:
        """Begins a sync for all who wait; from ``join`` a tick later, so that commits of one tick share it."""
        if not self._waiting or self.failure is not None:
            self._is_running = False
            self._mark_later()
            return
        self._covered = self._engine.write_seq()
        self.commits += len(self._waiting)
        try:
            is_begun = self._engine.begin_sync()
        except StorageFailure as failure:
            self.fail(failure)
            return
        if not is_begun:
            coroutine = self._sync()
            waiting_for = run_eagerly(coroutine)
            if waiting_for.__class__ is not Done:
                self._scheduler.go_on(Suspended(coroutine, waiting_for), "commit group", _ended)

    async def _sync(self) -> None:
        try:
            await self._scheduler.run_blocking(self._engine.sync)
        except StorageFailure as failure:
            self.fail(failure)
            return
        self._end()

    def _on_event(self) -> None:
        """The engine says that the sync it began is over."""
        if self.failure is not None:
            return
        try:
            is_over = self._engine.end_sync()
        except StorageFailure as failure:
            self.fail(failure)
            return
        if is_over:
            self._end()

    def _end(self) -> None:
        self.syncs += 1
        self._advance(self._covered)
        self._begin()

    def _mark_later(self) -> None:
        if not self._is_marking:
            self._is_marking = True
            self._scheduler.call_later(MARK_SECONDS, self._mark)

    def _mark(self) -> None:
        self._is_marking = False
        try:
            if self.failure is None:
                self._engine.mark_synced()
        except Overloaded:
            return  # The next write or sync will do.
        except StorageFailure as failure:
            self.fail(failure)

    def _advance(self, covered: int) -> None:
        """Notes that everything up to ``covered`` is durable and wakes whom it concerns."""
        self.synced_seq = covered
        for callback in self.on_synced:
            callback(covered)
        waiting = self._waiting
        # Sequences were appended in the order of the writes, but a reader may wait for an older one.
        for _ in range(len(waiting)):
            entry = waiting.popleft()
            if entry[0] <= covered:
                entry[1].wake()
            else:
                waiting.append(entry)

    def close(self) -> None:
        """Stops watching the engine, which is about to be closed."""
        if self._engine.sync_event >= 0:
            self._scheduler.unwatch(self._engine.sync_event)

    def fail(self, failure: BaseException) -> None:
        """Ends everything: what was written may or may not be on disk."""
        self._is_running = False
        if self.failure is not None:
            return
        self.failure = failure
        waiting = list(self._waiting)
        self._waiting.clear()
        for _, waiter in waiting:
            waiter.fail(ambiguous(failure))
        self._on_fatal(failure)


def _ended(error: BaseException | None) -> None:
    """The scheduler stops the node for an error; nothing else is to be done."""


def ambiguous(failure: BaseException) -> AmbiguousResult:
    """Returns the error of a commit whose sync failed."""
    return AmbiguousResult("the outcome of the commit is unknown", detail=f"syncing the log failed: {failure}")
