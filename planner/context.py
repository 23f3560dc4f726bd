"""What a running statement knows of its session: handed to every function that asks for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import Any

from base.types import PgType


class ExecContext(ABC):
    """Implemented by ``sql.session``; tests use ``planner.context.FixedContext``.

    Times are PostgreSQL timestamptz datums (microseconds since 2000-01-01 UTC).
    """

    statement_time: int
    transaction_time: int
    user: str
    session_user: str
    database: str
    search_path: tuple[str, ...]
    """Effective path, without pg_catalog unless named."""
    timezone: str

    @abstractmethod
    def clock_time(self) -> int:
        """clock_timestamp()."""

    @abstractmethod
    def random(self) -> float:
        """random(); seedable by setseed."""

    @abstractmethod
    def random_bytes(self, n: int) -> bytes:
        """For gen_random_uuid()."""

    @abstractmethod
    def setting(self, name: str) -> str | None:
        """A configuration parameter's text, or None if unknown."""

    @abstractmethod
    def set_setting(self, name: str, value: str, is_local: bool) -> str:
        """set_config()."""

    @abstractmethod
    def catalog(self) -> Any:
        """The session's ``sql.catalog`` view, for pg_get_*, to_regclass and reg* I/O."""

    @abstractmethod
    def nextval(self, sequence_oid: int) -> int:
        """Next value of a sequence; may raise ``NeedsAwait`` so that the executor fetches a block and runs again."""

    @abstractmethod
    def currval(self, sequence_oid: int) -> int: ...

    @abstractmethod
    def setval(self, sequence_oid: int, value: int, is_called: bool) -> int: ...

    @abstractmethod
    def lastval(self) -> int: ...

    @abstractmethod
    def check_interrupt(self) -> None:
        """Raises QueryCanceled if the statement was cancelled or timed out; call it every few thousand rows."""

    @abstractmethod
    def notice(self, severity: str, message: str) -> None:
        """Queues a NoticeResponse."""

    @abstractmethod
    def type_by_oid(self, oid: int) -> PgType | None:
        """Built-in or user-defined type."""

    @abstractmethod
    def memory(self, delta_bytes: int) -> None:
        """Accounts for memory held by sorts, hashes and aggregates; raises 53200 past the limit."""


class NeedsAwait(Exception):
    """Raised by a context method that cannot answer without waiting (a sequence block, pg_sleep, an advisory lock).

    The executor awaits ``awaitable`` and evaluates the expression again; it is an internal
    signal and never reaches a client.
    """

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        super().__init__("needs await")
        self.awaitable = awaitable
