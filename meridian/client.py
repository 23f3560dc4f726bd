"""A client of a simulated cluster that looks like psycopg's AsyncConnection.

Placeholders are psycopg's (``%s``, ``%(name)s``), values are converted by psycopg's own adapters,
errors are psycopg's classes by SQLSTATE.  A connection begins a transaction with its first
statement unless ``autocommit``.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.adapt import PyFormat, Transformer

from sim.network import ConnectionLost, Refused
from sim.sqlclient import SqlConnection, SqlFailure

if TYPE_CHECKING:
    from sim.process import Process

TEXT: Final = psycopg.pq.Format.TEXT
_PLACEHOLDER: Final = re.compile(r"%(?:%|[sbt]|\((\w+)\)[sbt])")
Parameters = Sequence[Any] | Mapping[str, Any]


class Cursor:
    """The result of one statement, whole."""

    def __init__(self, rows: list[tuple[Any, ...]], names: list[str], tag: str) -> None:
        self._rows = rows
        self._at = 0
        self.columns = names
        self.statusmessage = tag
        last = tag.rpartition(" ")[2]
        self.rowcount = int(last) if last.isdigit() else -1

    async def fetchone(self) -> tuple[Any, ...] | None:
        """Returns the next row, or None at the end."""
        if self._at >= len(self._rows):
            return None
        self._at += 1
        return self._rows[self._at - 1]

    async def fetchall(self) -> list[tuple[Any, ...]]:
        """Returns the rows that are left."""
        rows, self._at = self._rows[self._at :], len(self._rows)
        return rows

    async def __aiter__(self) -> AsyncIterator[tuple[Any, ...]]:
        for row in await self.fetchall():
            yield row


class AsyncConnection:
    """See the module docstring."""

    def __init__(self, connection: SqlConnection, autocommit: bool) -> None:
        self._connection = connection
        self.autocommit = autocommit
        self._depth = 0
        self._transformer = Transformer()

    @property
    def closed(self) -> bool:
        """True once the connection is closed or lost."""
        return bool(self._connection.lost)

    async def execute(self, query: str, params: Parameters | None = None) -> Cursor:
        """Runs a statement; raises a psycopg error, OperationalError if the connection is lost."""
        if not self.autocommit and self._connection.status == "I":
            await self._send("BEGIN")
        return await self._send(query, params)

    async def _send(self, query: str, params: Parameters | None = None) -> Cursor:
        connection = self._connection
        sql, values = _into_positional(query, params)
        oids, data = self._dump(values)
        try:
            rows = await connection.query(sql, data, oids)
        except SqlFailure as failure:
            error = psycopg.errors.lookup(failure.sqlstate)(failure.message)
            raise error from failure
        except ConnectionLost as lost:
            raise psycopg.OperationalError(f"the connection is lost: {lost}") from lost
        return Cursor(self._load(rows), [name for name, _ in connection.columns], connection.tag)

    def _dump(self, values: list[Any]) -> tuple[list[int], list[bytes | None]]:
        oids: list[int] = []
        data: list[bytes | None] = []
        for value in values:
            if value is None:
                oids.append(0)
                data.append(None)
                continue
            dumper = self._transformer.get_dumper(value, PyFormat.TEXT)
            dumped = dumper.dump(value)
            oids.append(dumper.oid)
            data.append(None if dumped is None else bytes(dumped))
        return oids, data

    def _load(self, rows: list[tuple[bytes | None, ...]]) -> list[tuple[Any, ...]]:
        loaders = [self._transformer.get_loader(oid, TEXT) for _, oid in self._connection.columns]
        return [
            tuple([None if field is None else loader.load(field) for loader, field in zip(loaders, row)])
            for row in rows
        ]

    async def commit(self) -> None:
        """Commits; raises InFailedSqlTransaction's kin if the server rolled back instead."""
        if self._connection.status != "I":
            await self._send("COMMIT")

    async def rollback(self) -> None:
        if self._connection.status != "I" and not self.closed:
            await self._send("ROLLBACK")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Commits at the end of the block, or rolls back what the block did if it raises; blocks nest as savepoints."""
        is_outer = self._connection.status == "I"
        name = f"block{self._depth}"
        await self._send("BEGIN" if is_outer else f"SAVEPOINT {name}")
        self._depth += 1
        try:
            yield
        except BaseException:
            self._depth -= 1
            if not self.closed and self._connection.status != "I":
                await self._send("ROLLBACK" if is_outer else f"ROLLBACK TO SAVEPOINT {name}")
            raise
        self._depth -= 1
        await self._send("COMMIT" if is_outer else f"RELEASE SAVEPOINT {name}")

    def cancel(self) -> None:
        """Asks the server to cancel the statement that runs."""
        self._connection.cancel()

    async def close(self) -> None:
        self._connection.close()


async def connect(process: Process, user: str, database: str, autocommit: bool) -> AsyncConnection:
    """Opens a connection to a node; raises psycopg.OperationalError."""
    connection = SqlConnection(process.world, user, user, database, process)
    try:
        await connection.open()
    except Refused as refused:
        raise psycopg.OperationalError("connection refused") from refused
    except ConnectionLost as lost:
        raise psycopg.OperationalError(f"the connection is lost: {lost}") from lost
    except SqlFailure as failure:
        raise psycopg.OperationalError(failure.message) from failure
    return AsyncConnection(connection, autocommit)


def _into_positional(query: str, params: Parameters | None) -> tuple[str, list[Any]]:
    """Returns the statement with $1, $2, .. and the values; without parameters % is no placeholder."""
    if params is None:
        return query, []
    values: list[Any] = [] if isinstance(params, Mapping) else list(params)
    places: dict[str, int] = {}
    count = 0

    def place(match: re.Match[str]) -> str:
        nonlocal count
        if match[0] == "%%":
            return "%"
        name = match[1]
        if name is None:
            count += 1
            return f"${count}"
        if not isinstance(params, Mapping):
            raise psycopg.ProgrammingError("named placeholders need a mapping")
        if name not in places:
            values.append(params[name])
            places[name] = len(values)
        return f"${places[name]}"

    sql = _PLACEHOLDER.sub(place, query)
    if not isinstance(params, Mapping) and count != len(values):
        raise psycopg.ProgrammingError(f"the query has {count} placeholders but {len(values)} parameters were passed")
    return sql, values
