"""A transaction as the executor and the session see it.

The final shape of the class; ``txn/coordinator.py`` and its neighbours implement it.

Every method that may have to wait returns ``Eager``: the result itself when it is there
(the usual case: local, uncontended), else an awaitable.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from mypy_extensions import mypyc_attr

from base.eager import Eager
from kvtier.messages import SKIPPED, Isolation, Lock, ScanResult, Wait

__all__ = ["SKIPPED", "Txn"]


@mypyc_attr(allow_interpreted_subclasses=True)
class Txn(ABC):
    """One transaction.  Reads see its own buffered writes; nothing is sent before it must be."""

    isolation: Isolation
    read_ts: int
    is_read_only: bool
    """True until something was written."""

    @abstractmethod
    def get(
        self, key: bytes, lock: Lock = Lock.NONE, wait: Wait = Wait.BLOCK, projection: bytes = b""
    ) -> Eager[bytes | None]:
        """Reads one key.  ``projection`` (base.rows) names the columns used; narrows refresh.

        Lock.EXCLUSIVE and SHARE return the newest committed value, after moving the transaction's
        read timestamp if need be (refresh), or raise a Retryable; READ COMMITTED just reads the newest.
        With Wait.SKIP a locked key gives ``SKIPPED``.
        """

    @abstractmethod
    def get_many(
        self, keys: list[bytes], lock: Lock = Lock.NONE, wait: Wait = Wait.BLOCK, projection: bytes = b""
    ) -> Eager[list[bytes | None]]:
        """Reads several keys in one batch; results in order."""

    @abstractmethod
    def claim(self, keys: list[bytes], rivals: list[bytes]) -> Eager[list[bytes | None]]:
        """Locks keys that are to be written, and reads them and what must not be there beside them, in one batch.

        SERIALIZABLE only reads the rivals, because the commit checks that they are still absent; weaker levels lock them,
        too, in all ranges at once.  Of two that claim the same key in the same moment each may get a part of it; one of
        them is then the victim of a deadlock.
        """

    @abstractmethod
    def scan(
        self,
        start: bytes,
        end: bytes,
        *,
        reverse: bool = False,
        limit: int = 0,
        lock: Lock = Lock.NONE,
        wait: Wait = Wait.BLOCK,
        projection: bytes = b"",
    ) -> Eager[ScanResult]:
        """Reads a page of [start, end); go on from ``resume`` (reverse: with end=resume)."""

    def scan_many(
        self, spans: list[tuple[bytes, bytes]], limit: int, projection: bytes = b""
    ) -> Eager[list[ScanResult]]:
        """Reads a page of each span, at most ``limit`` rows of each, in one batch where that saves round trips.

        A page may be empty before its span's end: go on from ``resume`` until there is none.
        """
        return self._scan_each(spans, limit, projection)

    async def _scan_each(self, spans: list[tuple[bytes, bytes]], limit: int, projection: bytes) -> list[ScanResult]:
        pages: list[ScanResult] = []
        for start, end in spans:
            page = self.scan(start, end, limit=limit, projection=projection)
            pages.append(page if isinstance(page, ScanResult) else await page)
        return pages

    @abstractmethod
    def put(self, key: bytes, value: bytes) -> None:
        """Buffers a write.  The caller has read the key with a lock in this transaction, or knows it is its own."""

    @abstractmethod
    def delete(self, key: bytes) -> None:
        """Buffers a deletion."""

    @abstractmethod
    def delete_span(self, start: bytes, end: bytes) -> Eager[None]:
        """Removes every key of the span as of this transaction (range tombstone at commit)."""

    def hold_span(self, start: bytes, end: bytes) -> Eager[bool]:
        """Takes the caller's word that from now on nobody else writes in the span before this transaction ends.

        True if the snapshot shows all that was written there, or could be moved so that it does; then what is read and deleted
        in the span need not be looked at again, whatever its size.
        """
        raise NotImplementedError

    @abstractmethod
    def put_run(self, keys: list[bytes], values: list[bytes], is_distinct: bool = False) -> Eager[int]:
        """Writes new rows by bulk, at once, where that is possible; returns how many, from the first on.

        Keys ascend strictly.  Rows written so did not exist and are locked as any row written is; the caller
        writes the others with get and put.  ``is_distinct``: this transaction never wrote one of the keys.
        """

    @abstractmethod
    def flush(self) -> Eager[None]:
        """Writes the buffer as intents now; needed only past the buffer's limit (``needs_flush``)."""

    @property
    @abstractmethod
    def needs_flush(self) -> bool:
        """True when the buffer is past its limit; executors call flush() between batches of rows."""

    @abstractmethod
    def begin_statement(self) -> None:
        """Starts a statement: a new snapshot under READ COMMITTED, a retry point."""

    @abstractmethod
    def savepoint(self) -> int:
        """Returns a token for rollback_to."""

    @abstractmethod
    def rollback_to(self, token: int) -> None:
        """Undoes the writes since the savepoint (locks stay)."""

    @abstractmethod
    def commit(self) -> Eager[int]:
        """Ends the transaction; returns the commit timestamp once it is durable.  Raises Retryable or AmbiguousResult."""

    @abstractmethod
    def rollback(self) -> Eager[None]:
        """Ends the transaction and releases its locks; never raises."""

    @abstractmethod
    def restart(self, error: Exception) -> Eager[bool]:
        """After a Retryable: begins a new attempt at a new timestamp, keeping locks; False if it must be given up.
        The caller runs all its statements again."""

    @abstractmethod
    def retry_statement(self, error: Exception) -> Eager[bool]:
        """READ COMMITTED after a Retryable: undoes the statement's writes, takes a new snapshot; the caller runs it again."""

    def watch(self, meter: Any) -> None:  # noqa: B027  # one store has no other regions
        """Has a meter count the batches that go to other regions, where there are any."""

    def unwatch(self) -> None:  # noqa: B027  # as above
        """Has nobody count any more."""

    @abstractmethod
    def refresh_to(self, ts: int) -> Eager[bool]:
        """Tries to move the read timestamp to ``ts``: True if every read so far is the same there."""
