"""Workloads: list-append, registers, bank, long fork, G2, single registers, set, queue.

Each is a class of ``clients.Workload``.  Keys are chosen so that transactions meet often.
Tables are dropped and made anew, so any database will do.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from random import Random
from typing import Any

from sim.checkers import bank, linearizable, list_append, long_fork, predicates, queue, register, sets
from sim.checkers.verdict import Verdict
from sim.histories import Op

from .clients import Failed, Level, Request, Session

MODELS = {
    "serializable": "strict-serializable",
    "repeatable read": "strong-snapshot-isolation",
    "read committed": "strong-read-committed",
}
"""What one server must keep up: nobody may read what is older than an acknowledged commit."""


class Tables:
    """A workload's tables; ``statements`` create them and their first rows."""

    tables: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()

    async def create(self, session: Session) -> None:
        for table in self.tables:
            await session.execute(f"DROP TABLE IF EXISTS {table}")
        for statement in self.statements:
            await session.execute(statement)

    def last(self) -> list[Request]:
        return []


class Transactions(Tables):
    """What list-append and registers share: random micro-operations over keys that come and go.

    Keys are spread over two tables, and read by the primary key or by a secondary index.
    """

    tables = ("cells_0", "cells_1")
    statements = tuple(
        statement
        for table in tables
        for statement in (
            f"CREATE TABLE {table} (k int PRIMARY KEY, alias int NOT NULL, v text NOT NULL)",
            f"CREATE INDEX {table}_alias ON {table} (alias)",
        )
    )
    write = ""

    def __init__(
        self,
        keys: int = 6,
        per_key: int = 40,
        operations_max: int = 4,
        model: str | None = None,
        client_side: bool = False,
    ) -> None:
        self.live = list(range(keys))
        self.next_key = keys
        self.per_key = per_key
        self.operations_max = operations_max
        self.numbers: dict[int, Iterator[int]] = {}
        self.model = model
        self.client_side = client_side
        """Appends in the client, SELECT then UPDATE: without isolation this loses updates."""

    def next(self, rng: Random, client: int) -> Request:
        return Request("txn", [self._operation(rng) for _ in range(rng.randint(1, self.operations_max))])

    def _operation(self, rng: Random) -> list[Any]:
        key = rng.choice(self.live)
        if rng.random() < 0.5:
            return ["r", key, None]
        number = next(self.numbers.setdefault(key, itertools.count(1)))
        if number == self.per_key:
            self.live[self.live.index(key)] = self.next_key
            self.next_key += 1
        return [self.write, key, number]

    def last(self) -> list[Request]:
        """Reads everything, in pieces that one transaction can hold."""
        keys = list(range(self.next_key))
        return [
            Request("txn", [["r", key, None] for key in keys[start : start + 50]]) for start in range(0, len(keys), 50)
        ]

    async def run(self, session: Session, request: Request) -> Any:
        await session.begin()
        done = []
        for position, (f, key, value) in enumerate(request.value):
            if f == "r":
                done.append([f, key, await self.read(session, key, (key + position) % 2 == 0)])
            else:
                await self.change(session, key, value)
                done.append([f, key, value])
        await session.commit()
        return done

    async def text(self, session: Session, key: int, by_alias: bool) -> str | None:
        column = "alias" if by_alias else "k"
        rows = await session.rows(f"SELECT v FROM cells_{key % 2} WHERE {column} = %s", key)
        return rows[0][0] if rows else None

    async def read(self, session: Session, key: int, by_alias: bool) -> Any:
        raise NotImplementedError

    async def change(self, session: Session, key: int, value: int) -> None:
        raise NotImplementedError


class ListAppend(Transactions):
    """Lists are comma-separated text; appends are upserts or UPDATE-else-INSERT."""

    name = "list-append"
    write = "append"

    async def read(self, session: Session, key: int, by_alias: bool) -> list[int]:
        text = await self.text(session, key, by_alias)
        return [int(part) for part in text.split(",")] if text else []

    async def change(self, session: Session, key: int, value: int) -> None:
        table = f"cells_{key % 2}"
        if self.client_side:
            old = await self.text(session, key, False)
            new = f"{old},{value}" if old else str(value)
            cursor = await session.execute(f"UPDATE {table} SET v = %s WHERE k = %s", new, key)
        elif value % 2:
            upsert = f"INSERT INTO {table} AS t (k, alias, v) VALUES (%s, %s, %s) ON CONFLICT (k) DO UPDATE SET v = t.v || ',' || excluded.v"
            await session.execute(upsert, key, key, str(value))
            return
        else:
            cursor = await session.execute(f"UPDATE {table} SET v = v || ',' || %s WHERE k = %s", str(value), key)
        if cursor.rowcount == 0:
            await session.execute(f"INSERT INTO {table} (k, alias, v) VALUES (%s, %s, %s)", key, key, str(value))

    def check(self, history: list[Op], level: Level) -> Verdict:
        return list_append.check(history, self.model or MODELS[level])


class Registers(Transactions):
    """Blind and reading writes of unique values."""

    name = "rw-register"
    write = "w"

    async def read(self, session: Session, key: int, by_alias: bool) -> int | None:
        text = await self.text(session, key, by_alias)
        return int(text) if text else None

    async def change(self, session: Session, key: int, value: int) -> None:
        table = f"cells_{key % 2}"
        upsert = f"INSERT INTO {table} (k, alias, v) VALUES (%s, %s, %s) ON CONFLICT (k) DO UPDATE SET v = excluded.v"
        await session.execute(upsert, key, key, str(value))

    def check(self, history: list[Op], level: Level) -> Verdict:
        return register.check(
            history, self.model or MODELS[level], initial_values_known=True, linearizable_keys=level == "serializable"
        )


class Bank(Tables):
    """Transfers computed by the client from what it read; half the accounts in either table."""

    name = "bank"
    tables = ("accounts_0", "accounts_1")

    def __init__(self, accounts: int = 8, balance: int = 20) -> None:
        self.accounts = accounts
        self.balance = balance
        self.statements = tuple(
            f"CREATE TABLE {table} (id int PRIMARY KEY, balance int NOT NULL)" for table in self.tables
        ) + tuple(f"INSERT INTO accounts_{account % 2} VALUES ({account}, {balance})" for account in range(accounts))

    def next(self, rng: Random, client: int) -> Request:
        if rng.random() < 0.4:
            return Request("read", None)
        source, target = rng.sample(range(self.accounts), 2)
        return Request("transfer", {"from": source, "to": target, "amount": rng.randint(1, 5)})

    def last(self) -> list[Request]:
        return [Request("read", None)]

    async def run(self, session: Session, request: Request) -> Any:
        await session.begin()
        if request.f == "read":
            rows = [row for table in self.tables for row in await session.rows(f"SELECT id, balance FROM {table}")]
            answer: Any = dict(rows)
        else:
            answer = request.value
            await self._transfer(session, answer["from"], answer["to"], answer["amount"])
        await session.commit()
        return answer

    async def _transfer(self, session: Session, source: int, target: int, amount: int) -> None:
        balances = {}
        for account in (source, target):
            ((balances[account],),) = await session.rows(
                f"SELECT balance FROM accounts_{account % 2} WHERE id = %s", account
            )
        if balances[source] < amount:
            await session.roll_back()
            raise Failed("not enough money")
        for account, change in ((source, -amount), (target, amount)):
            await session.execute(
                f"UPDATE accounts_{account % 2} SET balance = %s WHERE id = %s", balances[account] + change, account
            )

    def check(self, history: list[Op], level: Level) -> Verdict:
        return bank.check(history, total=self.accounts * self.balance)


class LongFork(Tables):
    """Single inserts, and reads of the whole group one statement per key, in either order."""

    name = "long-fork"
    tables = ("forks_0", "forks_1")
    statements = tuple(f"CREATE TABLE {table} (k int PRIMARY KEY, v int NOT NULL)" for table in tables)

    def __init__(self, group: int = 3) -> None:
        self.group = group
        self.next_key = 0
        self.unread: dict[int, int] = {}

    def next(self, rng: Random, client: int) -> Request:
        key = self.unread.pop(client, None)
        if key is None and self.unread and rng.random() < 0.5:
            key = rng.choice(list(self.unread.values()))
        if key is not None:
            first = key - key % self.group
            keys = rng.sample(range(first, first + self.group), self.group)
            return Request("txn", [["r", key, None] for key in keys])
        self.unread[client], self.next_key = self.next_key, self.next_key + 1
        return Request("txn", [["w", self.unread[client], 1]])

    async def run(self, session: Session, request: Request) -> Any:
        await session.begin()
        done = []
        for f, key, value in request.value:
            if f == "w":
                await session.execute(f"INSERT INTO forks_{key % 2} VALUES (%s, %s)", key, value)
            else:
                rows = await session.rows(f"SELECT v FROM forks_{key % 2} WHERE k = %s", key)
                value = rows[0][0] if rows else None
            done.append([f, key, value])
        await session.commit()
        return done

    def check(self, history: list[Op], level: Level) -> Verdict:
        return long_fork.check(history)


class G2(Tables):
    """Pairs of inserts that each look for the other's row by a predicate, not by its key."""

    name = "g2"
    tables = ("pairs_0", "pairs_1")
    statements = tuple(f"CREATE TABLE {table} (id int PRIMARY KEY, k int NOT NULL, v int NOT NULL)" for table in tables)

    def __init__(self) -> None:
        self.ids = itertools.count()

    def next(self, rng: Random, client: int) -> Request:
        number = next(self.ids)
        return Request("insert", [number // 2, number])

    async def run(self, session: Session, request: Request) -> Any:
        key, number = request.value
        await session.begin()
        for table in self.tables:
            if await session.rows(f"SELECT id FROM {table} WHERE k = %s AND v %% 3 = 0", key):
                await session.roll_back()
                raise Failed("the other was first")
        await session.execute(f"INSERT INTO pairs_{number % 2} VALUES (%s, %s, 30)", number, key)
        await session.commit()
        return request.value

    def check(self, history: list[Op], level: Level) -> Verdict:
        return predicates.check(history)


class SingleRegisters(Tables):
    """Reads, writes and compare-and-set of single rows, each statement its own transaction."""

    name = "register"
    tables = ("registers",)
    statements = ("CREATE TABLE registers (k int PRIMARY KEY, v int)",)

    def __init__(self, keys: int = 5, per_key: int = 120) -> None:
        self.keys, self.per_key = keys, per_key
        self.requests = itertools.count()

    def next(self, rng: Random, client: int) -> Request:
        # Keys are given up after a while, so that no search grows long.
        number = next(self.requests)
        key = number // (self.keys * self.per_key) * self.keys + number % self.keys
        f = rng.choice(["read", "write", "cas"])
        value = {"read": None, "write": rng.randint(0, 4), "cas": [rng.randint(0, 4), rng.randint(0, 4)]}[f]
        return Request(f, [key, value])

    async def run(self, session: Session, request: Request) -> Any:
        key, value = request.value
        if request.f == "read":
            rows = await (await session.at_once("SELECT v FROM registers WHERE k = %s", key)).fetchall()
            return [key, rows[0][0] if rows else None]
        if request.f == "write":
            await session.at_once(
                "INSERT INTO registers VALUES (%s, %s) ON CONFLICT (k) DO UPDATE SET v = excluded.v", key, value
            )
            return request.value
        cursor = await session.at_once("UPDATE registers SET v = %s WHERE k = %s AND v = %s", value[1], key, value[0])
        if cursor.rowcount == 0:
            raise Failed("another value")
        return request.value

    def check(self, history: list[Op], level: Level) -> Verdict:
        return linearizable.check(history, keyed=True)


class Set(Tables):
    """Unique inserts, and reads of the whole table."""

    name = "set"
    tables = ("elements",)
    statements = ("CREATE TABLE elements (id int PRIMARY KEY)",)

    def __init__(self) -> None:
        self.ids = itertools.count()

    def next(self, rng: Random, client: int) -> Request:
        return Request("read", None) if rng.random() < 0.1 else Request("add", next(self.ids))

    def last(self) -> list[Request]:
        return [Request("read", None)]

    async def run(self, session: Session, request: Request) -> Any:
        await session.begin()
        if request.f == "add":
            await session.execute("INSERT INTO elements VALUES (%s)", request.value)
            answer = request.value
        else:
            answer = [row[0] for row in await session.rows("SELECT id FROM elements")]
        await session.commit()
        return answer

    def check(self, history: list[Op], level: Level) -> Verdict:
        return sets.check_full(history, linearizable=True, initially_empty=True)


class Queue(Tables):
    """A job queue: DELETE of what FOR UPDATE SKIP LOCKED finds."""

    name = "queue"
    tables = ("jobs",)
    statements = ("CREATE TABLE jobs (id int PRIMARY KEY)",)

    def __init__(self) -> None:
        self.ids = itertools.count()

    def next(self, rng: Random, client: int) -> Request:
        return Request("enqueue", next(self.ids)) if rng.random() < 0.5 else Request("dequeue", None)

    def last(self) -> list[Request]:
        return [Request("drain", None)]

    async def run(self, session: Session, request: Request) -> Any:
        await session.begin()
        answer = request.value
        if request.f == "enqueue":
            await session.execute("INSERT INTO jobs VALUES (%s)", request.value)
        elif request.f == "dequeue":
            rows = await session.rows("SELECT id FROM jobs ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED")
            answer = rows[0][0] if rows else None
            if rows:
                await session.execute("DELETE FROM jobs WHERE id = %s", answer)
        else:
            answer = [row[0] for row in await session.rows("DELETE FROM jobs RETURNING id")]
        await session.commit()
        return answer

    def check(self, history: list[Op], level: Level) -> Verdict:
        return queue.check(history)


WORKLOADS = {
    workload.name: workload for workload in (ListAppend, Registers, Bank, LongFork, G2, SingleRegisters, Set, Queue)
}
