"""The transaction of a SELECT of one key that is its own transaction.

Such a statement needs no identity, no read set and no end: it reads at a timestamp of its own, and what it
read is protected by the timestamp cache as ever.  What cannot be read at once is no business of it: ``NotNow``
is raised, nothing was done, and the statement runs in a ``Transaction``.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from typing import Any

from base.eager import Eager
from kvtier.client import NOT_NOW, Kv
from kvtier.messages import Isolation, Lock, ScanResult, Wait
from txn.transaction import Txn


class ReadLater(Exception):  # a signal, like StopIteration
    """The answer is not there at once, or takes more than plain reads of single keys."""


class PointReader(Txn):
    """One per node: used by one statement at a time, from ``begin`` to its answer in the same tick."""

    def __init__(self, kv: Kv) -> None:
        self._kv = kv
        self.isolation = Isolation.SERIALIZABLE
        self.read_ts = 0
        self.is_read_only = True

    def begin(self) -> None:
        """Takes the timestamp of a new statement."""
        self.read_ts = self._kv.now()

    def get(self, key: bytes, lock: Lock = Lock.NONE, wait: Wait = Wait.BLOCK, projection: bytes = b"") -> Any:
        if lock:
            raise ReadLater
        value = self._kv.get_now(key, self.read_ts, b"")
        if value is NOT_NOW:
            raise ReadLater
        return value

    # --- what a transaction can besides --------------------------------------------

    def get_many(
        self, keys: list[bytes], lock: Lock = Lock.NONE, wait: Wait = Wait.BLOCK, projection: bytes = b""
    ) -> Eager[list[bytes | None]]:
        raise ReadLater

    def claim(self, keys: list[bytes], rivals: list[bytes]) -> Eager[list[bytes | None]]:
        raise ReadLater

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
        raise ReadLater

    def put(self, key: bytes, value: bytes) -> None:
        raise ReadLater

    def put_run(self, keys: list[bytes], values: list[bytes], is_distinct: bool = False) -> Eager[int]:
        raise ReadLater

    def delete(self, key: bytes) -> None:
        raise ReadLater

    def delete_span(self, start: bytes, end: bytes) -> Eager[None]:
        raise ReadLater

    def flush(self) -> Eager[None]:
        raise ReadLater

    @property
    def needs_flush(self) -> bool:
        return False

    def begin_statement(self) -> None:
        raise ReadLater

    def savepoint(self) -> int:
        raise ReadLater

    def rollback_to(self, token: int) -> None:
        raise ReadLater

    def commit(self) -> Eager[int]:
        raise ReadLater

    def rollback(self) -> Eager[None]:
        raise ReadLater

    def restart(self, error: Exception) -> Eager[bool]:
        raise ReadLater

    def retry_statement(self, error: Exception) -> Eager[bool]:
        raise ReadLater

    def refresh_to(self, ts: int) -> Eager[bool]:
        raise ReadLater
