"""A client of the PostgreSQL protocol on simulated connections: simple and extended queries, text format."""

from __future__ import annotations

import struct
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from base.seams import Waiter
from sim.network import ConnectionLost, Link, Refused
from sim.sqlnode import SimIo, SqlProcess
from sim.workloads.base import Client, Outcome

if TYPE_CHECKING:
    from sim.process import Process
    from sim.world import World

CONFLICT: Final = "40001"
CANCEL_CODE: Final = 80877102
PREPARED_MAX: Final = 5
"""Statements of a connection: few, so that names are used for one statement after another."""
UNKNOWN_STATES: Final = ("40003", "57P01", "58030", "XX000")
"""SQLSTATEs after which the outcome of a COMMIT is not known."""


class SqlFailure(Exception):
    """The node answered with an error."""

    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(f"{sqlstate} {message}")
        self.sqlstate = sqlstate
        self.message = message


class PipelineLost(ConnectionLost):
    """The connection went in the middle of a pipeline; ``answered`` has the segments that were answered."""

    def __init__(self, why: str, answered: list[list[Answer]]) -> None:
        super().__init__(why)
        self.answered = answered


Row = tuple[str | None, ...]
Answer = tuple[bytes, bytes]
"""(kind, body) of a message of the node."""


class Step:
    """One statement of a pipeline: Parse, Bind, Describe if wanted, and Execute, or several of at most ``page`` rows."""

    def __init__(self, sql: str, *parameters: Any, describe: bool = False, page: int = 0, executes: int = 1) -> None:
        self.sql = sql
        self.parameters = parameters
        self.describe = describe
        self.page = page
        self.executes = executes

    def encode(self) -> bytes:
        """Returns its messages, with unnamed statement and portal."""
        values = b"".join([_value(value) for value in self.parameters])
        data = _message(b"P", b"\0" + self.sql.encode() + b"\0\0\0")
        data += _message(b"B", b"\0\0" + struct.pack("!hh", 0, len(self.parameters)) + values + struct.pack("!h", 0))
        if self.describe:
            data += _message(b"D", b"P\0")
        return data + _message(b"E", b"\0" + struct.pack("!i", self.page)) * self.executes


class SqlConnection(Link):
    """One session."""

    def __init__(
        self, world: World, name: str, user: str = "root", database: str = "defaultdb", process: Process | None = None
    ) -> None:
        """``process``: the node to connect to; the first if none is named."""
        self._world = world
        self.process = process if process is not None else world.process
        self._name = name
        self._user = user
        self._database = database
        self._buffer = bytearray()
        self._waiter: Waiter | None = None
        self._io: SimIo | None = None
        self._pid_and_key = b""
        self.status = "I"
        self.lost = ""
        self.tag = ""
        self.columns: list[tuple[str, int]] = []
        """(name, type oid) of the last result."""
        self._prepared: dict[str, str] = {}
        self._names = 0
        """Names that were given: one whose Parse may have failed is not used again."""
        self.insists = False
        """Runs a statement again that fails by a conflict; for statements outside of blocks."""

    # --- life ----------------------------------------------------------------------

    async def open(self) -> None:
        """Connects and logs in."""
        process = self.process
        assert isinstance(process, SqlProcess), process
        if not process.is_up or not process.is_ready:
            raise Refused
        self._io = SimIo(self._world, process, self._receive, self.fail)
        names = f"user\0{self._user}\0database\0{self._database}\0\0"
        body = struct.pack("!i", 3 << 16) + names.encode()
        await self._exchange(struct.pack("!i", len(body) + 4) + body)

    def close(self) -> None:
        """Says good-bye."""
        if self._io is not None and not self.lost:
            self._io.send(b"X\0\0\0\4")
            self._io.hang_up()
        self._leave("closed")

    def _leave(self, why: str) -> None:
        self.lost = self.lost or why
        self._world.network.idle.pop(self, None)

    def fail(self, why: str) -> None:
        if not self.lost:
            self._leave(why)
            if self._io is not None:
                self._io.hang_up()
        if self._waiter is not None:
            self._waiter.fail(ConnectionLost(why))

    def cancel(self) -> None:
        """Sends a cancel request on a connection of its own."""
        process = self.process
        if self._pid_and_key and isinstance(process, SqlProcess) and process.is_ready:
            io = SimIo(self._world, process, lambda data: None, lambda why: None)
            io.send(struct.pack("!ii", 16, CANCEL_CODE) + self._pid_and_key)
            io.hang_up()

    def _receive(self, data: bytes) -> None:
        self._buffer += data
        if self._waiter is not None:
            self._waiter.wake()

    # --- statements ------------------------------------------------------------------

    async def run(self, sql: str, *parameters: Any) -> list[Row]:
        """Runs a statement; with parameters by the extended protocol.  Returns the rows as text."""
        if self.lost:
            raise ConnectionLost(self.lost)
        if self._world.journal.detailed:
            self._world.detail(self._name, f"sql {sql} {parameters or ''}")
        if parameters:
            try:
                return await self._exchange(self._extended(sql, parameters))
            except SqlFailure:
                # Its plan may be what is wrong; the next use prepares it anew.
                self._prepared.pop(sql, None)
                raise
        while True:
            try:
                return await self._exchange(_message(b"Q", sql.encode() + b"\0"))
            except SqlFailure as failure:
                if not self.insists or failure.sqlstate != CONFLICT:
                    raise

    def _extended(self, sql: str, parameters: tuple[Any, ...]) -> bytes:
        """Parse once, then Bind, Execute, Sync."""
        data = b""
        name = self._prepared.get(sql)
        if name is None:
            if len(self._prepared) == PREPARED_MAX:
                # The oldest gives its name to another statement.
                name = self._prepared.pop(next(iter(self._prepared)))
                data = _message(b"C", f"S{name}\0".encode())
            else:
                self._names += 1
                name = f"s{self._names}"
            self._prepared[sql] = name
            data += _message(b"P", f"{name}\0{sql}\0".encode() + b"\0\0")
        values = b"".join([_value(value) for value in parameters])
        bind = f"\0{name}\0".encode() + struct.pack("!hh", 0, len(parameters)) + values + struct.pack("!h", 0)
        return data + _message(b"B", bind) + _message(b"E", b"\0" + struct.pack("!i", 0)) + _message(b"S", b"")

    async def query(self, sql: str, values: list[bytes | None], oids: list[int]) -> list[tuple[bytes | None, ...]]:
        """Runs a statement with typed parameters; returns the rows as the bytes of their text."""
        if self.lost:
            raise ConnectionLost(self.lost)
        types = struct.pack(f"!h{len(oids)}i", len(oids), *oids)
        sent = b"".join([b"\xff\xff\xff\xff" if v is None else struct.pack("!i", len(v)) + v for v in values])
        data = _message(b"P", b"\0" + sql.encode() + b"\0" + types)
        data += _message(b"B", b"\0\0" + struct.pack("!hh", 0, len(values)) + sent + struct.pack("!h", 0))
        data += _message(b"D", b"P\0") + _message(b"E", b"\0" + struct.pack("!i", 0)) + _message(b"S", b"")
        self.columns = []
        return await self._exchange_raw(data)

    async def _exchange(self, data: bytes) -> list[Row]:
        rows = await self._exchange_raw(data)
        return [tuple([None if field is None else field.decode() for field in row]) for row in rows]

    async def _exchange_raw(self, data: bytes) -> list[tuple[bytes | None, ...]]:
        """Sends and reads up to ReadyForQuery; returns the rows."""
        rows: list[tuple[bytes | None, ...]] = []
        failure = await self._converse(data, lambda kind, body: rows.append(fields_of(body)) if kind == b"D" else None)
        if failure is not None:
            raise failure
        return rows

    # --- COPY --------------------------------------------------------------------------

    async def copy_in(self, sql: str, pieces: list[bytes], ending: bytes = b"") -> None:
        """Sends the data of COPY FROM STDIN; ``ending`` is the reason of a CopyFail, b"" ends well."""
        self._check_open(sql)

        def take(kind: bytes, body: bytes) -> None:
            if kind == b"G" and self._io is not None and not self.lost:
                for piece in pieces:
                    self._io.send(_message(b"d", piece))
                self._io.send(_message(b"f", ending + b"\0") if ending else _message(b"c", b""))

        failure = await self._converse(_message(b"Q", sql.encode() + b"\0"), take)
        if failure is not None:
            raise failure

    async def copy_out(self, sql: str) -> bytes:
        """Runs COPY TO STDOUT; returns its data."""
        self._check_open(sql)
        pieces: list[bytes] = []
        failure = await self._converse(
            _message(b"Q", sql.encode() + b"\0"), lambda kind, body: pieces.append(body) if kind == b"d" else None
        )
        if failure is not None:
            raise failure
        return b"".join(pieces)

    # --- pipelines -----------------------------------------------------------------------

    async def pipeline(self, segments: list[list[Step]]) -> list[list[Answer]]:
        """Sends the segments in one go, a Sync after each; returns, for each, what came before its ReadyForQuery.

        Raises PipelineLost if the connection goes.
        """
        self._check_open("; ".join([step.sql for steps in segments for step in steps]))
        data = b"".join([b"".join([step.encode() for step in steps]) + _message(b"S", b"") for steps in segments])
        answered: list[list[Answer]] = []
        current: list[Answer] = []

        def take(kind: bytes, body: bytes) -> None:
            nonlocal current
            current.append((kind, body))
            if kind == b"Z":
                answered.append(current)
                current = []

        try:
            await self._converse(data, take, len(segments))
        except ConnectionLost as lost:
            raise PipelineLost(str(lost), answered) from None
        return answered

    def _check_open(self, sql: str) -> None:
        if self.lost:
            raise ConnectionLost(self.lost)
        if self._world.journal.detailed:
            self._world.detail(self._name, f"sql {sql}")

    # --- messages ------------------------------------------------------------------------

    async def _converse(self, data: bytes, take: Callable[[bytes, bytes], None], rounds: int = 1) -> SqlFailure | None:
        """Sends, and hands on what comes up to the last ReadyForQuery; the patience of a client bounds it.

        Returns the last error that the node answered with.
        """
        world = self._world
        assert self._io is not None, "not connected"
        world.network.idle.pop(self, None)
        world.network.links[self] = None
        timeout = 60.0 if world.is_calm else world.plan.knobs.timeout_seconds
        stop = world.after(timeout, lambda: self.fail("timeout"))
        self._io.send(data)
        failure: SqlFailure | None = None
        try:
            while rounds:
                kind, body = await self._next_message()
                take(kind, body)
                if kind == b"T":
                    self.columns = _columns(body)
                elif kind == b"C":
                    self.tag = body[:-1].decode()
                elif kind == b"E":
                    failure = failure_of(body)
                elif kind == b"K":
                    self._pid_and_key = body
                elif kind == b"Z":
                    self.status = body.decode()
                    rounds -= 1
        finally:
            stop()
            world.network.links.pop(self, None)
            if not self.lost:
                world.network.idle[self] = None
        return failure

    async def _next_message(self) -> tuple[bytes, bytes]:
        buffer = self._buffer
        while True:
            if len(buffer) >= 5:
                length = int.from_bytes(buffer[1:5], "big") + 1
                if len(buffer) >= length:
                    message = bytes(buffer[:1]), bytes(buffer[5:length])
                    del buffer[:length]
                    return message
            if self.lost:
                raise ConnectionLost(self.lost)
            self._waiter = self._world.loop.main.waiter()
            try:
                await self._waiter.wait()
            finally:
                self._waiter = None


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _value(value: Any) -> bytes:
    """Returns a parameter as Bind has it, in text."""
    if value is None:
        return b"\xff\xff\xff\xff"
    text = str(value).encode()
    return struct.pack("!i", len(text)) + text


def fields_of(body: bytes) -> tuple[bytes | None, ...]:
    """Returns the fields of a DataRow."""
    fields: list[bytes | None] = []
    at = 2
    for _ in range(int.from_bytes(body[:2], "big")):
        length = int.from_bytes(body[at : at + 4], "big", signed=True)
        at += 4
        fields.append(None if length < 0 else body[at : at + length])
        at += max(length, 0)
    return tuple(fields)


def _columns(body: bytes) -> list[tuple[str, int]]:
    """Reads a RowDescription: | name 0 | table 4B | column 2B | type 4B | size 2B | modifier 4B | format 2B | each."""
    columns = []
    at = 2
    for _ in range(int.from_bytes(body[:2], "big")):
        end = body.index(b"\0", at)
        columns.append((body[at:end].decode(), int.from_bytes(body[end + 7 : end + 11], "big")))
        at = end + 19
    return columns


def failure_of(body: bytes) -> SqlFailure:
    """Reads an ErrorResponse."""
    fields = {part[:1]: part[1:].decode() for part in body.split(b"\0") if part}
    return SqlFailure(fields[b"C"], fields[b"M"])


SqlBody = Callable[[SqlConnection], Coroutine[Any, Any, Any]]


class SqlSession:
    """A workload client's connection, opened again whenever it was lost."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._connection: SqlConnection | None = None

    async def transact(self, f: str, asked: Any, body: SqlBody, isolation: str = "serializable") -> Outcome:
        """Runs a transaction and records it; the ok value is what ``body`` returned."""
        client = self._client
        world = client.world
        process = client.process
        world.record("invoke", process, f, asked)
        outcome = await self._run(body, isolation)
        value = asked if outcome.status != "ok" or outcome.value is None else outcome.value
        world.record(outcome.status, process, f, value, outcome.error)
        client.note(outcome)
        if outcome.error == "refused":
            await world.sleep(0.05)
        return outcome

    async def _run(self, body: SqlBody, isolation: str) -> Outcome:
        is_committing = False
        try:
            connection = await self._connected()
            if isolation:
                await connection.run(f"BEGIN ISOLATION LEVEL {isolation.upper()}")
            else:
                is_committing = True  # Each statement is a transaction of its own.
            value = await body(connection)
            if isolation:
                is_committing = True
                await connection.run("COMMIT")
                if connection.tag == "ROLLBACK":
                    return Outcome("fail", error="rolled back")
        except Refused:
            return Outcome("fail", error="refused")
        except ConnectionLost as lost:
            self._connection = None
            return Outcome("info" if is_committing else "fail", error=str(lost))
        except SqlFailure as failure:
            is_unknown = is_committing and failure.sqlstate in UNKNOWN_STATES
            is_unknown = is_unknown or (is_committing and failure.sqlstate == "57014")
            await self._roll_back()
            return Outcome("info" if is_unknown else "fail", error=str(failure))
        return Outcome("ok", value)

    async def _connected(self) -> SqlConnection:
        if self._connection is None or self._connection.lost:
            self._connection = None
            client = self._client
            connection = SqlConnection(client.world, f"client{client.number}", process=client.world.choose(client.rng))
            await connection.open()
            self._connection = connection
        return self._connection

    async def _roll_back(self) -> None:
        """Leaves a failed transaction; a connection that cannot even do that is given up."""
        connection = self._connection
        if connection is not None and connection.status != "I":
            try:
                await connection.run("ROLLBACK")
            except (SqlFailure, ConnectionLost):
                connection.close()
                self._connection = None
