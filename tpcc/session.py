"""One connection as the transaction bodies see it.

Statement by statement each call is a round trip, as in most runners. Pipelined, a batch travels together and its answers come
back together; bodies are written in batches, so both run the same statements in the same order.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

import psycopg
from psycopg.pq import ExecStatus
from psycopg.types.numeric import Int4BinaryDumper

APPLICATION_NAME: Final = "meridian tpcc"
PREPARED_MAX: Final = 200
"""Above the 45 statements of a run: none is ever evicted."""
CONNECT_SECONDS_MAX: Final = 10
REOPEN_SECONDS_MAX: Final = 60.0
REOPEN_PAUSE_SECONDS: Final = 0.5

ISOLATIONS: Final = ("serializable", "repeatable read", "read committed")

Call = tuple[str, Sequence[object]]
Loader = Callable[[bytes], Any]
"""Makes a value of a column's text."""


class Answer(NamedTuple):
    rows: list[tuple[Any, ...]]
    row_count: int
    """Rows returned or changed."""


class Session(ABC):
    """A connection and its transaction. Errors are ``psycopg.Error``, with SQLSTATE where the server gave one."""

    @abstractmethod
    def begin(self) -> None: ...

    @abstractmethod
    def batch(self, calls: Sequence[Call]) -> list[Answer]:
        """Runs statements in order; the first error ends the batch."""

    @abstractmethod
    def commit(self) -> None: ...

    @abstractmethod
    def rollback(self) -> None: ...

    @abstractmethod
    def connect(self) -> None:
        """Opens the connection, anew if there was one."""

    @abstractmethod
    def close(self) -> None: ...

    @property
    @abstractmethod
    def is_open(self) -> bool: ...

    def execute(self, sql: str, *parameters: object) -> Answer:
        return self.batch([(sql, parameters)])[0]


class ServerSession(Session):
    """What statement-by-statement and pipelined sessions of a server share."""

    def __init__(self, dsn: str, isolation: str) -> None:
        assert isolation in ISOLATIONS, f"{isolation=}"
        self._dsn = dsn
        self._begin = f"BEGIN ISOLATION LEVEL {isolation.upper()}"
        self._connection: Any = None

    def connect(self) -> None:
        self.close()
        self._connection = open_connection(self._dsn)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    @property
    def is_open(self) -> bool:
        return self._connection is not None and not self._connection.closed


def open_session(dsn: str, isolation: str, is_pipelined: bool) -> ServerSession:
    """Returns a session that is yet to connect."""
    return PipelinedSession(dsn, isolation) if is_pipelined else StatementSession(dsn, isolation)


class Prepared:
    """A statement prepared on one connection, and how to read its columns."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.loaders: list[Loader] | None = None


class StatementSession(ServerSession):
    """A round trip for each statement, through psycopg's wrapper of libpq.

    A cursor costs 45 us of CPU a statement more (two thirds of all the client's), which a machine that runs server and client
    would take from the server. libpq waits without the interpreter's lock.
    """

    def connect(self) -> None:
        super().connect()
        self._libpq: Any = self._connection.pgconn
        self._prepared: dict[str, Prepared] = {}
        self._begin_bytes = self._begin.encode()

    def begin(self) -> None:
        self._command(self._begin_bytes)

    def commit(self) -> None:
        self._command(b"COMMIT")

    def rollback(self) -> None:
        self._command(b"ROLLBACK")

    def batch(self, calls: Sequence[Call]) -> list[Answer]:
        return [self._run(sql, parameters) for sql, parameters in calls]

    def _run(self, sql: str, parameters: Sequence[object]) -> Answer:
        prepared = self._prepared.get(sql) or self._prepare(sql, parameters)
        values = [_DUMPERS[type(value)](value) for value in parameters]
        result = self._checked(self._libpq.exec_prepared, prepared.name, values)
        if result.status != ExecStatus.TUPLES_OK:
            return Answer([], result.command_tuples or 0)
        loaders = prepared.loaders
        if loaders is None:
            types = [result.ftype(column) for column in range(result.nfields)]
            loaders = prepared.loaders = [_LOADERS.get(oid, bytes.decode) for oid in types]
        count = result.ntuples
        value_at = result.get_value
        rows = [tuple([_load(load, value_at(row, at)) for at, load in enumerate(loaders)]) for row in range(count)]
        return Answer(rows, count)

    def _prepare(self, sql: str, parameters: Sequence[object]) -> Prepared:
        name = f"tpcc_{len(self._prepared)}".encode()
        types = [_TYPE_OIDS.get(type(value), 0) for value in parameters]
        self._checked(self._libpq.prepare, name, sql.encode(), types)
        prepared = self._prepared[sql] = Prepared(name)
        return prepared

    def _command(self, sql: bytes) -> None:
        self._checked(self._libpq.exec_, sql)

    def _checked(self, call: Callable[..., Any], *arguments: object) -> Any:
        """Calls libpq and raises what the server answered, or that there is no server."""
        try:
            result = call(*arguments)
        except MemoryError:
            # libpq gives no result at all on a connection it knows to be dead.
            raise psycopg.OperationalError("the connection is lost") from None
        if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
            raise psycopg.errors.error_from_result(result)
        return result


def _load(load: Loader, value: bytes | None) -> Any:
    return None if value is None else load(value)


_INT4: Final = 23
_NUMERIC: Final = 1700
_TIMESTAMPTZ: Final = 1184

_TYPE_OIDS: Final[dict[type, int]] = {int: _INT4, Decimal: _NUMERIC, datetime: _TIMESTAMPTZ}
_DUMPERS: Final[dict[type, Callable[[Any], bytes]]] = {
    int: lambda value: b"%d" % value,
    Decimal: lambda value: str(value).encode(),
    datetime: lambda value: str(value.isoformat()).encode(),
    str: str.encode,
}
_LOADERS: Final[dict[int, Loader]] = {
    20: int,
    21: int,
    _INT4: int,
    _NUMERIC: lambda value: Decimal(value.decode()),
}
"""By type OID; other types, times among them, stay text: nothing here computes with them."""


class PipelinedSession(ServerSession):
    """A round trip for each batch, and BEGIN with the first one, through psycopg's pipeline mode.

    Integers are always sent as int4: psycopg would pick int2, int4 or int8 by the value, and prepare a statement for each combination.
    """

    def __init__(self, dsn: str, isolation: str) -> None:
        super().__init__(dsn, isolation)
        self._must_begin = False
        self._cursors: list[Any] = []

    def connect(self) -> None:
        super().connect()
        self._connection.adapters.register_dumper(int, Int4BinaryDumper)
        self._connection.prepare_threshold = 0
        self._connection.prepared_max = PREPARED_MAX
        self._cursors = []

    def begin(self) -> None:
        self._must_begin = True

    def commit(self) -> None:
        self._connection.execute("COMMIT", prepare=False)

    def rollback(self) -> None:
        self._must_begin = False
        self._connection.execute("ROLLBACK", prepare=False)

    def batch(self, calls: Sequence[Call]) -> list[Answer]:
        while len(self._cursors) < len(calls):
            self._cursors.append(self._connection.cursor())
        with self._connection.pipeline():
            if self._must_begin:
                self._must_begin = False
                self._connection.execute(self._begin, prepare=False)
            for cursor, (sql, parameters) in zip(self._cursors, calls):
                cursor.execute(sql, parameters)
        return [_take(cursor) for cursor in self._cursors[: len(calls)]]


def _take(cursor: Any) -> Answer:
    rows = cursor.fetchall() if cursor.description is not None else []
    return Answer(rows, cursor.rowcount)


def open_connection(dsn: str) -> Any:
    """Returns a connection that takes ``$n`` and begins transactions only when told to."""
    return psycopg.connect(
        dsn,
        autocommit=True,
        cursor_factory=psycopg.RawCursor,
        application_name=APPLICATION_NAME,
        connect_timeout=CONNECT_SECONDS_MAX,
    )


def reopen_connection(dsns: Sequence[str]) -> Any:
    """Returns a connection to whichever server answers, also where some have only just been mended."""
    deadline = time.monotonic() + REOPEN_SECONDS_MAX
    while True:
        for dsn in dsns:
            try:
                return open_connection(dsn)
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
        time.sleep(REOPEN_PAUSE_SECONDS)
