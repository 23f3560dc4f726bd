"""Hermitage: which anomalies an isolation level lets through, by scripts of two or three connections.

After Martin Kleppmann's collection (github.com/ept/hermitage), told anew.  A script is a
list of lines, run in order::

    1 update test set value = 11 where id = 1
    2 update test set value = 12 where id = 1        ~     expected to block: go on
    1 commit
    2 commit

Every connection has its own queue, so a line behind a blocked one waits for it, as a
person at a terminal would.  A line that is not marked ``~`` is waited for up to
``PATIENCE_SECONDS`` and then taken as blocked too.  When a transaction fails, its later
lines are skipped and its end is a rollback.

What is judged is what an application can tell: did the anomaly happen?  Whether a
database prevents it by making somebody wait or by an error is its own business, but
READ COMMITTED must not fail any of these transactions, and what committed must add up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg

BLOCKED_SECONDS = 0.15
PATIENCE_SECONDS = 3.0
END_SECONDS_MAX = 15.0

Rows = list[tuple[Any, ...]]
FAILED_STATES = ("40001", "40P01")


@dataclass
class Outcome:
    """What a script showed.

    ``reads[n]`` are the answers to connection n's queries, in order; ``committed`` the
    connections whose COMMIT happened; ``final`` the table at the end.
    """

    reads: dict[int, list[Rows]] = field(default_factory=dict)
    states: dict[int, str] = field(default_factory=dict)
    committed: list[int] = field(default_factory=list)
    final: dict[int, int] = field(default_factory=dict)

    def read(self, connection: int, position: int) -> Rows | None:
        """Returns one answer, or None if the transaction had failed by then."""
        answers = self.reads.get(connection, [])
        return answers[position] if position < len(answers) else None

    def value(self, connection: int, position: int) -> Any:
        """Returns the only value of an answer, or None."""
        rows = self.read(connection, position)
        return rows[0][-1] if rows else None

    def did(self, *connections: int) -> bool:
        return all(connection in self.committed for connection in connections)


@dataclass
class Case:
    """``happened`` says whether the anomaly did; ``allowed`` are the levels that let it happen in PostgreSQL."""

    name: str
    story: str
    script: str
    happened: Callable[[Outcome], bool]
    allowed: tuple[str, ...] = ()


class Player:
    """One connection: runs its lines one after another."""

    def __init__(self, number: int, connection: psycopg.AsyncConnection[Any], outcome: Outcome) -> None:
        self.number = number
        self.connection = connection
        self.outcome = outcome
        self.latest: asyncio.Task[None] | None = None

    def play(self, statement: str) -> asyncio.Task[None]:
        self.latest = asyncio.create_task(self._play(statement, self.latest))
        return self.latest

    async def _play(self, statement: str, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await before
        has_failed = self.number in self.outcome.states
        if has_failed and statement not in ("commit", "rollback"):
            return
        try:
            cursor = await self.connection.execute(statement)
        except psycopg.Error as problem:
            self.outcome.states[self.number] = problem.sqlstate or type(problem).__name__
            return
        if cursor.description is not None:
            self.outcome.reads.setdefault(self.number, []).append(await cursor.fetchall())
        if cursor.statusmessage == "COMMIT":
            self.outcome.committed.append(self.number)


async def _prepare(connection: psycopg.AsyncConnection[Any]) -> None:
    await connection.execute("DROP TABLE IF EXISTS test")
    await connection.execute("CREATE TABLE test (id int PRIMARY KEY, value int NOT NULL)")
    await connection.execute("INSERT INTO test (id, value) VALUES (1, 10), (2, 20)")


async def _run(dsn: str, case: Case, level: str) -> Outcome:
    outcome = Outcome()
    watcher = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    await _prepare(watcher)
    lines = [line.strip().split(None, 1) for line in case.script.strip().splitlines()]
    players = {
        number: Player(number, await psycopg.AsyncConnection.connect(dsn, autocommit=True), outcome)
        for number in sorted({int(n) for n, _ in lines})
    }
    for player in players.values():
        await player.connection.execute(f"BEGIN ISOLATION LEVEL {level.upper()}")
    for number, statement in lines:
        blocks = statement.endswith("~")
        task = players[int(number)].play(statement.removesuffix("~").strip())
        await asyncio.wait([task], timeout=BLOCKED_SECONDS if blocks else PATIENCE_SECONDS)
    ends = [player.latest for player in players.values() if player.latest is not None]
    await asyncio.wait_for(asyncio.gather(*ends), END_SECONDS_MAX)
    outcome.final = dict(await (await watcher.execute("SELECT id, value FROM test")).fetchall())
    for player in players.values():
        await player.connection.close()
    await watcher.close()
    return outcome


def run_case(dsn: str, case: Case, level: str) -> Outcome:
    """Runs one script on a fresh table."""
    return asyncio.run(_run(dsn, case, level))


READ_COMMITTED = ("read committed",)
BELOW_SERIALIZABLE = ("read committed", "repeatable read")

CASES = [
    Case(
        "G0",
        "Write cycles: two transactions write the same two rows; the rows must be one's or the other's.",
        """
        1 update test set value = 11 where id = 1
        2 update test set value = 12 where id = 1 ~
        1 update test set value = 21 where id = 2
        1 commit
        2 update test set value = 22 where id = 2
        2 commit
        """,
        lambda seen: (seen.final[1], seen.final[2]) not in ((11, 21), (12, 22)),
    ),
    Case(
        "G1a",
        "Aborted reads: what was rolled back is never seen.",
        """
        1 update test set value = 101 where id = 1
        2 select value from test where id = 1 ~
        1 rollback
        2 select value from test where id = 1
        2 commit
        """,
        lambda seen: 101 in (seen.value(2, 0), seen.value(2, 1), seen.final[1]),
    ),
    Case(
        "G1b",
        "Intermediate reads: what was overwritten before its commit is never seen.",
        """
        1 update test set value = 101 where id = 1
        2 select value from test where id = 1 ~
        1 update test set value = 11 where id = 1
        1 commit
        2 select value from test where id = 1
        2 commit
        """,
        lambda seen: 101 in (seen.value(2, 0), seen.value(2, 1)),
    ),
    Case(
        "G1c",
        "Circular information flow: each sees the other's write.",
        """
        1 update test set value = 11 where id = 1
        2 update test set value = 22 where id = 2
        1 select value from test where id = 2 ~
        2 select value from test where id = 1 ~
        1 commit
        2 commit
        """,
        lambda seen: seen.did(1, 2) and seen.value(1, 0) == 22 and seen.value(2, 0) == 11,
    ),
    Case(
        "OTV",
        "Observed transaction vanishes: the third sees the first's row 1 after it saw the second's row 2.",
        """
        1 update test set value = 11 where id = 1
        1 update test set value = 19 where id = 2
        2 update test set value = 12 where id = 1 ~
        1 commit
        3 select value from test where id = 1 ~
        2 update test set value = 18 where id = 2
        3 select value from test where id = 2 ~
        2 commit
        3 select value from test where id = 2
        3 select value from test where id = 1
        3 commit
        """,
        lambda seen: seen.did(3) and (seen.value(3, 2), seen.value(3, 3)) in ((18, 11), (19, 10), (18, 10)),
    ),
    Case(
        "PMP",
        "Predicate-many-preceders: a query's answer changes within a transaction.",
        """
        1 select * from test where value = 30
        2 insert into test (id, value) values (3, 30) ~
        2 commit
        1 select * from test where value % 3 = 0
        1 commit
        """,
        lambda seen: seen.did(1, 2) and not seen.read(1, 0) and bool(seen.read(1, 1)),
        READ_COMMITTED,
    ),
    Case(
        "PMP write",
        "A delete by a value that a concurrent update moves to another row deletes neither or both wrongly.",
        """
        1 update test set value = value + 10
        2 delete from test where value = 20 ~
        1 commit
        2 commit
        """,
        lambda seen: seen.did(1, 2) and 20 in seen.final.values(),
        READ_COMMITTED,
    ),
    Case(
        "P4",
        "Lost update: both read 10, both write 11, one's increment is gone.",
        """
        1 select value from test where id = 1
        2 select value from test where id = 1
        1 update test set value = 11 where id = 1
        2 update test set value = 11 where id = 1 ~
        1 commit
        2 commit
        """,
        lambda seen: seen.did(1, 2) and seen.value(1, 0) == seen.value(2, 0) == 10,
        READ_COMMITTED,
    ),
    Case(
        "G-single",
        "Read skew: one row from before a transaction, the other from after it.",
        """
        1 select value from test where id = 1
        2 select value from test where id = 1
        2 select value from test where id = 2
        2 update test set value = 12 where id = 1 ~
        2 update test set value = 18 where id = 2
        2 commit
        1 select value from test where id = 2
        1 commit
        """,
        lambda seen: seen.did(1, 2) and (seen.value(1, 0), seen.value(1, 1)) == (10, 18),
        READ_COMMITTED,
    ),
    Case(
        "G-single dependencies",
        "Read skew over predicates: a query by value sees what another by value did not.",
        """
        1 select * from test where value % 5 = 0
        2 update test set value = 12 where value = 10 ~
        2 commit
        1 select * from test where value % 3 = 0
        1 commit
        """,
        lambda seen: seen.did(1, 2) and len(seen.read(1, 0) or []) == 2 and bool(seen.read(1, 1)),
        READ_COMMITTED,
    ),
    Case(
        "G-single write",
        "Read skew against a write: the delete acts on what the transaction's read did not show.",
        """
        1 select value from test where id = 1
        2 select * from test
        2 update test set value = 12 where id = 1 ~
        2 update test set value = 18 where id = 2
        2 commit
        1 delete from test where value = 20
        1 select value from test where id = 2
        1 commit
        """,
        lambda seen: seen.did(1, 2) and seen.value(1, 0) == 10 and seen.value(1, 1) == 18,
        READ_COMMITTED,
    ),
    Case(
        "G-single write, interleaved",
        "The delete runs into the other's uncommitted update of the same row.",
        """
        1 select value from test where id = 1
        2 select * from test
        2 update test set value = 12 where id = 1 ~
        1 delete from test where value = 20
        2 update test set value = 18 where id = 2 ~
        1 rollback
        2 commit
        """,
        lambda seen: seen.did(2) and (seen.final.get(1), seen.final.get(2)) != (12, 18),
    ),
    Case(
        "G2-item",
        "Write skew: each reads both rows and writes another one.",
        """
        1 select * from test where id in (1, 2)
        2 select * from test where id in (1, 2)
        1 update test set value = 11 where id = 1
        2 update test set value = 21 where id = 2 ~
        1 commit
        2 commit
        """,
        lambda seen: seen.did(1, 2) and seen.read(1, 0) == seen.read(2, 0),
        BELOW_SERIALIZABLE,
    ),
    Case(
        "G2",
        "Write skew over a predicate: each finds nothing and inserts what the other looked for.",
        """
        1 select * from test where value % 3 = 0
        2 select * from test where value % 3 = 0
        1 insert into test (id, value) values (3, 30)
        2 insert into test (id, value) values (4, 42) ~
        1 commit
        2 commit
        """,
        lambda seen: seen.did(1, 2) and seen.read(1, 0) == seen.read(2, 0) == [],
        BELOW_SERIALIZABLE,
    ),
    Case(
        "G2 two edges",
        "The read-only third sees the second but not the first (Fekete, O'Neil & O'Neil 2004).",
        """
        1 select * from test
        2 update test set value = value + 5 where id = 2 ~
        2 commit
        3 select * from test
        3 commit
        1 update test set value = 0 where id = 1
        1 commit
        """,
        lambda seen: (
            seen.did(1, 2, 3)
            and sorted(seen.read(1, 0) or []) == [(1, 10), (2, 20)]
            and (2, 25) in (seen.read(3, 0) or [])
        ),
        BELOW_SERIALIZABLE,
    ),
    Case(
        "uniqueness by reading",
        "Both look for a key, find none and insert it: one key, one row.",
        """
        1 select * from test where id = 3
        2 select * from test where id = 3
        1 insert into test (id, value) values (3, 31)
        2 insert into test (id, value) values (3, 32) ~
        1 commit
        2 commit
        """,
        lambda seen: seen.did(1, 2) or seen.final.get(3) not in (31, 32),
    ),
    Case(
        "locked read",
        "SELECT FOR UPDATE prevents the lost update at every level.",
        """
        1 select value from test where id = 1 for update
        2 select value from test where id = 1 for update ~
        1 update test set value = 11 where id = 1
        1 commit
        2 update test set value = value + 1 where id = 1
        2 commit
        """,
        lambda seen: seen.did(1, 2) and (seen.value(2, 0), seen.final[1]) != (11, 12),
    ),
]
