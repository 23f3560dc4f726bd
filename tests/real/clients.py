"""Concurrent clients: each runs one transaction after another and writes down what it was told.

What an error means depends on when it came::

    before COMMIT was sent     any error, a lost connection too        fail: it did not happen
    after COMMIT was sent      40003, or the connection was lost       info: nobody knows
                               COMMIT answered ROLLBACK, or another     fail
                               SQLSTATE

A client that does not know goes on as a new process with a new connection, as Jepsen's do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

import psycopg

from sim.checkers.verdict import Verdict
from sim.histories import Op, Recorder

STATEMENT_SECONDS_MAX = 20.0
"""Longer is a hang, which the run reports."""
UNKNOWN_STATES = ("40003", "08007", "57P01", "57P02")
RECONNECT_SECONDS = 0.05

Level = str
"""serializable, repeatable read or read committed."""


class Failed(Exception):
    """The transaction did not happen."""


class Unknown(Exception):
    """It may have happened."""


class Session:
    """One connection; transactions at one isolation level."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], level: Level) -> None:
        self.connection = connection
        self.level = level
        self.is_committing = False

    async def begin(self) -> None:
        self.is_committing = False
        await self.execute(f"BEGIN ISOLATION LEVEL {self.level.upper()}")

    async def execute(self, statement: str, *values: object) -> psycopg.AsyncCursor[Any]:
        return await asyncio.wait_for(self.connection.execute(statement, values or None), STATEMENT_SECONDS_MAX)

    async def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = await (await self.execute(statement, *values)).fetchall()
        return found

    async def commit(self) -> None:
        self.is_committing = True
        cursor = await self.execute("COMMIT")
        if cursor.statusmessage != "COMMIT":
            raise Failed(f"COMMIT answered {cursor.statusmessage}")

    async def at_once(self, statement: str, *values: object) -> psycopg.AsyncCursor[Any]:
        """Runs one statement as its own transaction."""
        self.is_committing = True
        return await self.execute(statement, *values)

    async def roll_back(self) -> None:
        if not self.connection.closed:
            await self.execute("ROLLBACK")


@dataclass
class Request:
    """What a client asks: the history's ``f`` and ``value``."""

    f: str
    value: Any


class Workload(Protocol):
    """Tables, requests, how to run one, and who judges the history."""

    name: str

    async def create(self, session: Session) -> None: ...

    def next(self, rng: Random, client: int) -> Request: ...

    def last(self) -> list[Request]: ...

    async def run(self, session: Session, request: Request) -> Any:
        """Runs a request; returns the value as answered.  Must begin and commit by itself."""
        ...

    def check(self, history: list[Op], level: Level) -> Verdict: ...


@dataclass
class Run:
    """A finished run."""

    history: list[Op]
    hangs: list[str] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    """SQLSTATE -> count of failed or unknown transactions."""

    def count(self, type: str) -> int:
        return sum(op.type == type for op in self.history)


class Clients:
    """A number of clients of one workload on one DSN."""

    def __init__(self, dsn: str, workload: Workload, level: Level, count: int, seed: int) -> None:
        self.dsn = dsn
        self.workload = workload
        self.level = level
        self.count = count
        self.seed = seed
        self.recorder = Recorder()
        self.run = Run(self.recorder.history)
        self.next_process = count

    async def execute(self, seconds: float, until: Callable[[], bool] | None = None) -> Run:
        """Creates the tables, runs all clients for some time, and then the workload's last requests."""
        first = Session(await self._connect(), self.level)
        await self.workload.create(first)
        deadline = time.monotonic() + seconds
        await asyncio.gather(*(self._client(number, deadline, until) for number in range(self.count)))
        for request in self.workload.last():
            await self._one(self.next_process, first, request)
        await first.connection.close()
        return self.run

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(self.dsn, autocommit=True, connect_timeout=10)

    async def _client(self, number: int, deadline: float, until: Callable[[], bool] | None) -> None:
        rng, process = Random(f"{self.seed}/{number}"), number
        session: Session | None = None
        while time.monotonic() < deadline and not (until is not None and until()):
            if session is None or session.connection.closed:
                try:
                    session = Session(await self._connect(), self.level)
                except psycopg.OperationalError:
                    await asyncio.sleep(RECONNECT_SECONDS)
                    continue
            if not await self._one(process, session, self.workload.next(rng, number)):
                process, self.next_process = self.next_process, self.next_process + 1
                await session.connection.close()
        if session is not None:
            await session.connection.close()

    async def _one(self, process: int, session: Session, request: Request) -> bool:
        """Runs one request and records it; returns False if its outcome is unknown."""
        recorder = self.recorder
        session.is_committing = False
        recorder.invoke(process, request.f, request.value)
        try:
            answer = await self.workload.run(session, request)
        except (Failed, psycopg.Error, TimeoutError) as problem:
            state = getattr(problem, "sqlstate", None) or type(problem).__name__
            self.run.errors[state] = self.run.errors.get(state, 0) + 1
            if isinstance(problem, TimeoutError):
                self.run.hangs.append(f"{request.f} {request.value} after {STATEMENT_SECONDS_MAX} s")
            if self._is_unknown(session, problem):
                recorder.info(process, request.f, request.value, str(problem))
                return False
            recorder.fail(process, request.f, request.value, str(problem))
            await self._clean(session, problem)
            return True
        recorder.ok(process, request.f, answer)
        return True

    @staticmethod
    def _is_unknown(session: Session, problem: Exception) -> bool:
        if not session.is_committing or isinstance(problem, Failed):
            return False
        state = getattr(problem, "sqlstate", None)
        return state is None or state in UNKNOWN_STATES

    @staticmethod
    async def _clean(session: Session, problem: Exception) -> None:
        try:
            if isinstance(problem, TimeoutError):
                await session.connection.close()
            else:
                await session.roll_back()
        except (psycopg.Error, TimeoutError):
            await session.connection.close()


def run_workload(
    dsn: str,
    workload: Workload,
    level: Level,
    clients: int = 8,
    seconds: float = 3.0,
    seed: int = 1,
    until: Callable[[], bool] | None = None,
) -> Run:
    """Runs a workload in a loop of its own; ``until`` ends it early."""
    return asyncio.run(Clients(dsn, workload, level, clients, seed).execute(seconds, until))
