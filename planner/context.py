"""What a running statement knows of its session: handed to every function that asks for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import Any

from base.errors import FeatureNotSupported, QueryCanceled, error
from base.typeio import IoSettings
from base.types import BY_OID, PgType


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
    region: str = ""
    """Where this node is; "" is nowhere."""

    @property
    def io(self) -> IoSettings:
        """Settings of text input and output; a session answers with the one it keeps."""
        defaults = IoSettings()
        return IoSettings(
            datestyle=self.setting("datestyle") or defaults.datestyle,
            intervalstyle=self.setting("intervalstyle") or defaults.intervalstyle,
            timezone=self.timezone,
            extra_float_digits=int(self.setting("extra_float_digits") or defaults.extra_float_digits),
            bytea_output=self.setting("bytea_output") or defaults.bytea_output,
        )

    @abstractmethod
    def clock_time(self) -> int:
        """clock_timestamp()."""

    @abstractmethod
    def random(self) -> float:
        """random(); seedable by setseed."""

    @abstractmethod
    def set_seed(self, seed: float) -> None:
        """setseed()."""

    @abstractmethod
    def random_bytes(self, n: int) -> bytes:
        """For gen_random_uuid()."""

    @abstractmethod
    def setting(self, name: str) -> str | None:
        """A configuration parameter's text, or None if unknown."""

    def cursor_key(self, cursor: str, table_oid: int) -> tuple[Any, ...]:
        """Primary key of the row of a table that an open cursor stands on: WHERE CURRENT OF."""
        raise error("34000", f'cursor "{cursor}" does not exist')

    @abstractmethod
    def set_setting(self, name: str, value: str, is_local: bool) -> str:
        """set_config()."""

    @abstractmethod
    def catalog(self) -> Any:
        """The session's ``sql.catalog`` view, for pg_get_*, to_regclass and reg* I/O."""

    def schema_name(self, schema_id: int) -> str | None:
        """Returns a schema's name for the fields of an error, or None where there is no catalog."""
        return None

    @abstractmethod
    def nextval(self, sequence_oid: int) -> int:
        """Next value of a sequence; may raise ``NeedsAwait`` so that the executor fetches a block and runs again."""

    @abstractmethod
    def currval(self, sequence_oid: int) -> int: ...

    @abstractmethod
    def setval(self, sequence_oid: int, value: int, is_called: bool) -> int: ...

    @abstractmethod
    def lastval(self) -> int: ...

    def sleep(self, seconds: float) -> Awaitable[Any] | None:
        """pg_sleep(): what to await, or None when the wait that this same call asked for has just passed."""
        raise FeatureNotSupported("pg_sleep is not supported here")

    @abstractmethod
    def check_interrupt(self) -> None:
        """Raises QueryCanceled if the statement was cancelled or timed out; call it every few thousand rows."""

    def end_turn(self) -> Awaitable[None] | None:
        """Returns what to await between two batches if the statement has kept all others waiting for long enough."""
        return None

    @abstractmethod
    def notice(self, severity: str, message: str) -> None:
        """Queues a NoticeResponse."""

    @abstractmethod
    def count_changes(self, table_oid: int, rows: int) -> None:
        """Rows of a table were written: what automatic ANALYZE goes by."""

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


class FixedContext(ExecContext):
    """A context without a session: a clock that stands still, numbers that repeat, settings in a dict."""

    def __init__(self, now: int = 0, timezone: str = "UTC", **settings: str) -> None:
        self.statement_time = now
        self.transaction_time = now
        self.user = "root"
        self.session_user = "root"
        self.database = "test"
        self.search_path = ("public",)
        self.timezone = timezone
        self.settings = settings
        self.notices: list[tuple[str, str]] = []
        self.sequences: dict[int, int] = {}
        self.last_sequence = 0
        self.memory_used = 0
        self.memory_max = 1 << 30
        self.is_canceled = False
        self._io: IoSettings | None = None
        self._state = 1

    @property
    def io(self) -> IoSettings:
        if self._io is None or self._io.timezone != self.timezone:
            self._io = super().io
        return self._io

    def clock_time(self) -> int:
        return self.statement_time

    def random(self) -> float:
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self._state >> 11) / 2**53

    def set_seed(self, seed: float) -> None:
        self._state = int((seed + 1) * 2**51)

    def random_bytes(self, n: int) -> bytes:
        return bytes([int(self.random() * 256) for _ in range(n)])

    def setting(self, name: str) -> str | None:
        return self.settings.get(name.lower())

    def set_setting(self, name: str, value: str, is_local: bool) -> str:
        self.settings[name.lower()] = value
        self._io = None
        if name.lower() == "timezone":
            self.timezone = value
        return value

    def catalog(self) -> Any:
        return None

    def nextval(self, sequence_oid: int) -> int:
        value = self.sequences[sequence_oid] = self.sequences.get(sequence_oid, 0) + 1
        self.last_sequence = sequence_oid
        return value

    def currval(self, sequence_oid: int) -> int:
        if sequence_oid not in self.sequences:
            raise error("55000", f"currval of sequence {sequence_oid} is not yet defined in this session")
        return self.sequences[sequence_oid]

    def setval(self, sequence_oid: int, value: int, is_called: bool) -> int:
        self.sequences[sequence_oid] = value if is_called else value - 1
        return value

    def lastval(self) -> int:
        if not self.last_sequence:
            raise error("55000", "lastval is not yet defined in this session")
        return self.sequences[self.last_sequence]

    def check_interrupt(self) -> None:
        if self.is_canceled:
            raise QueryCanceled("canceling statement due to user request")

    def notice(self, severity: str, message: str) -> None:
        self.notices.append((severity, message))

    def count_changes(self, table_oid: int, rows: int) -> None:
        pass

    def type_by_oid(self, oid: int) -> PgType | None:
        return BY_OID.get(oid)

    def memory(self, delta_bytes: int) -> None:
        self.memory_used += delta_bytes
        if self.memory_used > self.memory_max:
            raise error("53200", "out of memory")
