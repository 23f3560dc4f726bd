"""What the crash harness writes to: a SQL server or the tiny writer, behind one small face.

Transaction n writes ``parts_of(n)`` rows (n, part, payload), spread over two tables, and
on a SQL server sets its worker's row of ``progress`` to n.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any

import psycopg

from .clients import UNKNOWN_STATES
from .servers import SERVERS, Server

WRITE_SECONDS_MAX = 20.0

Contents = dict[int, dict[int, str]]
"""transaction -> part -> payload."""


class NotWritten(Exception):
    """The transaction surely did not happen."""


class MaybeWritten(Exception):
    """The connection ended before the answer."""


def parts_of(transaction: int) -> int:
    return 1 + transaction % 4


def payload_of(transaction: int, part: int) -> str:
    """Returns 5 to some 800 characters, so that rows and records cross block borders."""
    return f"{transaction}.{part}." + "x" * (transaction * 37 % 800)


class Writer:
    """One worker's connection."""

    async def write(self, worker: int, transaction: int) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


class Target:
    """A server to crash; ``store`` is the directory the disk shim watches."""

    def __init__(self, server: Server) -> None:
        self.server = server

    async def create(self, workers: int) -> None:
        """Makes the tables on the first start."""

    async def connect(self) -> Writer:
        raise NotImplementedError

    async def read(self, first: int) -> tuple[Contents, dict[int, int]]:
        """Returns all rows of transactions from ``first`` on, and the last transaction per worker."""
        raise NotImplementedError


def is_unknown(problem: psycopg.Error) -> bool:
    """True if a COMMIT that met this error may have happened.

    PostgreSQL panics with 58030 where its log cannot be synced: what was written may still be found after recovery.
    """
    if problem.sqlstate is None or problem.sqlstate in UNKNOWN_STATES:
        return True
    return problem.diag.severity_nonlocalized in ("FATAL", "PANIC")


class SqlWriter(Writer):
    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self.connection = connection

    async def write(self, worker: int, transaction: int) -> None:
        is_committing = False
        try:
            async with asyncio.timeout(WRITE_SECONDS_MAX):
                await self.connection.execute("BEGIN")
                for part in range(parts_of(transaction)):
                    insert = f"INSERT INTO writes_{part % 2} (txn, part, payload) VALUES (%s, %s, %s)"
                    await self.connection.execute(insert, (transaction, part, payload_of(transaction, part)))
                await self.connection.execute("UPDATE progress SET txn = %s WHERE worker = %s", (transaction, worker))
                is_committing = True
                cursor = await self.connection.execute("COMMIT")
            if cursor.statusmessage != "COMMIT":
                raise NotWritten(str(cursor.statusmessage))
        except psycopg.Error as problem:
            if is_committing and is_unknown(problem):
                raise MaybeWritten(str(problem)) from None
            await self._roll_back()
            raise NotWritten(str(problem)) from None
        except TimeoutError:
            # Dead, or this whole machine stood still; what was not to be committed is not there.
            await self.connection.close()
            why = f"no answer in {WRITE_SECONDS_MAX:g} s"
            raise (MaybeWritten if is_committing else NotWritten)(why) from None

    async def _roll_back(self) -> None:
        try:
            if not self.connection.closed:
                await self.connection.execute("ROLLBACK")
        except psycopg.Error:
            await self.connection.close()

    async def close(self) -> None:
        await self.connection.close()


class SqlTarget(Target):
    async def create(self, workers: int) -> None:
        async with await self._connection() as connection:
            for table in ("writes_0", "writes_1"):
                await connection.execute(
                    f"CREATE TABLE {table} (txn int, part int, payload text NOT NULL, PRIMARY KEY (txn, part))"
                )
            await connection.execute("CREATE TABLE progress (worker int PRIMARY KEY, txn int NOT NULL)")
            for worker in range(workers):
                await connection.execute("INSERT INTO progress VALUES (%s, -1)", (worker,))

    async def _connection(self) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(self.server.dsn, autocommit=True, connect_timeout=10)

    async def connect(self) -> Writer:
        return SqlWriter(await self._connection())

    async def read(self, first: int) -> tuple[Contents, dict[int, int]]:
        contents: Contents = {}
        async with await self._connection() as connection:
            for table in ("writes_0", "writes_1"):
                cursor = await connection.execute(f"SELECT txn, part, payload FROM {table} WHERE txn >= %s", (first,))
                for transaction, part, payload in await cursor.fetchall():
                    contents.setdefault(transaction, {})[part] = payload
            progress = dict(await (await connection.execute("SELECT worker, txn FROM progress")).fetchall())
        return contents, progress


class TinyServer(Server):
    """The tiny writer as a process."""

    name = "tiny"

    def __init__(self, directory: Path, mode: str) -> None:
        super().__init__(directory)
        self.mode = mode

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.real.tiny_writer", self.mode, str(self.store), str(self.port)]

    def answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True


class TinyConnection(Writer):
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def write(self, worker: int, transaction: int) -> None:
        rows = [f"{transaction}:{part}:{payload_of(transaction, part)}" for part in range(parts_of(transaction))]
        try:
            self.writer.write(f"w {' '.join(rows)}\n".encode())
            await self.writer.drain()
            answer = await self.reader.readline()
        except OSError as problem:
            raise MaybeWritten(str(problem)) from None
        if answer != b"ok\n":
            raise MaybeWritten("no answer")

    async def close(self) -> None:
        self.writer.close()


class TinyTarget(Target):
    async def connect(self) -> Writer:
        return TinyConnection(*await asyncio.open_connection("127.0.0.1", self.server.port))

    async def read(self, first: int) -> tuple[Contents, dict[int, int]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        writer.write(b"r\n")
        contents: Contents = {}
        while (line := await reader.readline()) != b"end\n":
            transaction, part, payload = line.decode().strip().split(":")
            if int(transaction) >= first:
                contents.setdefault(int(transaction), {})[int(part)] = payload
        writer.close()
        return contents, {}


TINY_MODES = ("synced", "unsynced", "buffered", "split", "ignored")
TARGETS = (*SERVERS, *(f"tiny-{mode}" for mode in TINY_MODES))


def make_target(name: str, directory: Path) -> Target:
    """Returns the target of that name on a directory of its own."""
    if name.startswith("tiny-"):
        return TinyTarget(TinyServer(directory, name.removeprefix("tiny-")))
    return SqlTarget(SERVERS[name](directory))
