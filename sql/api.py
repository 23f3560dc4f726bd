"""What ``wire`` asks of a session, and what a session asks of ``wire``.

A session never sees the protocol and the connection never sees a plan.  Rows cross
this seam as encoded DataRow messages made by an encoder that ``wire`` built for the result's
types and formats, so that a compiled plan can call it (or unroll it) per row.

All methods that return ``Eager[...]`` answer at once on the fast path.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from mypy_extensions import mypyc_attr

from base.eager import Eager
from base.errors import MeridianError
from base.typeio import IoSettings
from base.types import PgType
from planner.exec.fast import EncodedRows, RowFormat


class ResultColumn(NamedTuple):
    """One column of RowDescription."""

    name: str
    type: PgType
    typmod: int = -1
    table_oid: int = 0
    attnum: int = 0


RowEncoder = Callable[[Sequence[Any]], bytes]
"""A row of datums -> a whole DataRow message (type byte, length, fields)."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Sink(ABC):
    """Where a session puts what a statement gives; implemented by the connection.

    Calls only append to the output buffer.  ``full`` becomes true above the high-water mark; the
    session then awaits ``drain()`` before it makes more rows (reliability.md 101).
    """

    full: bool

    @abstractmethod
    def encoder(self, columns: Sequence[ResultColumn], formats: Sequence[int], settings: IoSettings) -> RowEncoder:
        """Returns the (cached) encoder for a result; ``formats`` as in Bind: none, one for all, or one each.
        ``settings`` decide text output (time zone, DateStyle...)."""

    def row_format(
        self, columns: Sequence[ResultColumn], formats: Sequence[int], settings: IoSettings
    ) -> RowFormat | None:
        """Returns the same for a compiled plan, which writes it into its own loop; None asks for whole rows."""
        return None

    @abstractmethod
    def describe(self, columns: Sequence[ResultColumn] | None, formats: Sequence[int] = ()) -> None:
        """RowDescription, or NoData for None."""

    @abstractmethod
    def rows(self, encoded: bytes, count: int) -> None:
        """Appends DataRow messages."""

    @abstractmethod
    def complete(self, tag: str) -> None:
        """CommandComplete: ``SELECT 3``, ``INSERT 0 1``..."""

    @abstractmethod
    def empty(self) -> None:
        """EmptyQueryResponse."""

    @abstractmethod
    def suspended(self) -> None:
        """PortalSuspended."""

    @abstractmethod
    def notice(self, severity: str, error: MeridianError) -> None:
        """NoticeResponse."""

    @abstractmethod
    def parameter_status(self, name: str, value: str) -> None: ...

    @abstractmethod
    def notification(self, pid: int, channel: str, payload: str) -> None: ...

    @abstractmethod
    def copy_in(self, overall_format: int, column_formats: Sequence[int]) -> None:
        """CopyInResponse; data then arrives through ``read_copy``."""

    @abstractmethod
    def read_copy(self) -> Awaitable[bytes | None]:
        """The next CopyData body, None after CopyDone; raises QueryCanceled (57014) on CopyFail."""

    @abstractmethod
    def end_copy(self) -> None:
        """The session stops reading a COPY before its end; what still comes of it is dropped."""

    @abstractmethod
    def copy_out(self, overall_format: int, column_formats: Sequence[int]) -> None:
        """CopyOutResponse."""

    @abstractmethod
    def copy_data(self, chunk: bytes) -> None:
        """One CopyData message (the sink frames it)."""

    @abstractmethod
    def copy_done(self) -> None: ...

    @abstractmethod
    def drain(self) -> Awaitable[None]:
        """Waits until the client has read enough."""

    @abstractmethod
    def position(self) -> int:
        """How many bytes this connection has put out so far, sent or still in the buffer."""

    @abstractmethod
    def rewind(self, position: int) -> bool:
        """Takes back everything after ``position``; False if some of it was already handed to the socket.

        This is what lets a session run a statement again after a 40001 without the client noticing.
        """


@mypyc_attr(allow_interpreted_subclasses=True)
class Prepared(ABC):
    """A parsed statement."""

    param_types: tuple[PgType, ...]
    columns: tuple[ResultColumn, ...] | None
    """None where the statement returns no rows."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Portal(ABC):
    """A bound statement."""

    prepared: Prepared
    columns: tuple[ResultColumn, ...] | None
    formats: tuple[int, ...]


@mypyc_attr(allow_interpreted_subclasses=True)
class Call(ABC):
    """A prepared statement as one client binds it, the parameters' values left open."""

    columns: tuple[ResultColumn, ...] | None
    formats: tuple[int, ...]
    count: int
    """Parameters."""
    is_point: bool
    """``answer`` is worth trying."""
    tag: str
    """Command tag, up to the number of rows if it ``counts`` them."""
    counts: bool
    opening: bytes
    """For the connection: how answers begin, once it knows."""
    completions: dict[int, bytes]
    """For the connection: how they end, by the number of rows."""


@mypyc_attr(allow_interpreted_subclasses=True)
class SessionApi(ABC):
    """One client's session.  Statements and portals are named; "" is the unnamed one."""

    pid: int
    cancel_key: bytes
    interrupt: Callable[[MeridianError], None] | None
    """Set by the connection while a call of this session is suspended: raises an error at its wait
    (``base.eager.Suspended.interrupt``); None while nothing waits."""

    @property
    @abstractmethod
    def transaction_status(self) -> str:
        """``I`` idle, ``T`` in a transaction block, ``E`` in a failed one."""

    @abstractmethod
    def simple_query(self, sql: str, sink: Sink) -> Eager[None]:
        """Runs a Query message: one implicit transaction around its statements.

        Raises the first error (after rolling back as PostgreSQL would); the connection sends it and ReadyForQuery.
        """

    @abstractmethod
    def known_query(self, sql: str) -> tuple[Call, list[str]] | None:
        """Returns the call and the parameters' texts of a Query that is one compiled statement; None for any other."""

    @abstractmethod
    def run_query(self, known: Call, params: Sequence[str], sql: str) -> Eager[None]:
        """As ``simple_query`` of the statement that ``known_query`` knew."""

    @abstractmethod
    def parse(self, name: str, sql: str, param_oids: Sequence[int]) -> Eager[None]: ...

    @abstractmethod
    def bind(
        self,
        portal: str,
        statement: str,
        param_formats: Sequence[int],
        params: Sequence[bytes | None],
        result_formats: Sequence[int],
    ) -> Eager[None]:
        """Decodes parameters (``base.typeio``) and makes a portal."""

    @abstractmethod
    def known_call(
        self, statement: str, param_formats: tuple[int, ...], param_count: int, formats: tuple[int, ...]
    ) -> Call | None:
        """Returns what is the same in every Bind of a compiled statement with these formats; None for any other."""

    @abstractmethod
    def is_current(self, known: Call) -> bool:
        """True while ``known`` may be bound: ``bind`` would find just that."""

    @abstractmethod
    def answer(self, known: Call, params: Sequence[Any]) -> bytes | None:
        """Bind, Execute and Sync, or a Query, that is a SELECT of one key: its DataRow, or b"" without a row.

        None, with nothing done, where it takes the usual way: in a transaction, after an error...
        """

    @abstractmethod
    def run_call(self, known: Call, params: Sequence[Any]) -> Eager[EncodedRows | None]:
        """Bind and Execute, or a Query, of a current call inside a block, or of BEGIN: its rows and their number.

        None, with nothing done, where it takes the usual way.  An awaitable puts rows and tag into the sink itself,
        and those of a Query with their description.  What it raises is an error of Execute.
        """

    @abstractmethod
    def bind_call(self, known: Call, params: Sequence[bytes | None]) -> None:
        """As ``bind`` to the unnamed portal, of a call that is current."""

    @abstractmethod
    def describe_statement(self, name: str) -> Eager[Prepared]: ...

    @abstractmethod
    def describe_portal(self, name: str) -> Eager[Portal]: ...

    @abstractmethod
    def execute(self, portal: str, max_rows: int, sink: Sink) -> Eager[None]:
        """Runs a portal, at most ``max_rows`` rows if not 0; ends with complete, suspended or empty on the sink."""

    @abstractmethod
    def close_statement(self, name: str) -> None: ...

    @abstractmethod
    def close_portal(self, name: str) -> None: ...

    @abstractmethod
    def sync(self) -> Eager[None]:
        """Ends the implicit transaction of the extended protocol: commit, or nothing inside a block.  May raise."""

    @abstractmethod
    def explain(self, error: MeridianError) -> None:
        """Completes an error, whose client is about to be told, with what only the session knows."""

    @abstractmethod
    def fail(self, error: MeridianError) -> Eager[None]:
        """Told of every error the connection sends (also its own, such as a bad Bind): aborts the transaction."""

    @abstractmethod
    def cancel(self) -> None:
        """A CancelRequest with the right key: interrupts the running statement only."""

    @abstractmethod
    def suspended(self) -> None:
        """Told by the connection when a call of this session has to wait: statement_timeout starts to count."""

    @abstractmethod
    def idle_timeout_seconds(self) -> float:
        """How long the client may stay idle in the current state; 0 is for ever."""

    @abstractmethod
    def close(self) -> Eager[None]:
        """The client is gone: rolls back, releases everything."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Server(ABC):
    """What a connection needs before there is a session; implemented by ``sql.server``."""

    @abstractmethod
    def scram_secret(self, user: str) -> Eager[str | None]:
        """``SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`` of a role that may log in, or None.
        The connection then runs a mock exchange so that nobody learns which roles exist."""

    @abstractmethod
    def open_session(self, user: str, database: str, options: dict[str, str], sink: Sink) -> Eager[SessionApi]:
        """Raises 3D000 (no such database), 28000 (role does not exist), 53300 (too many connections)."""

    @abstractmethod
    def cancel(self, pid: int, key: bytes) -> None:
        """Silently ignores a wrong key."""

    @abstractmethod
    def parameter_statuses(self, session: SessionApi) -> list[tuple[str, str]]:
        """What is sent after authentication (ecosystem.md 2.2)."""
