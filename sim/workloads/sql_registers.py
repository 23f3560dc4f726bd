"""Rows read and written by their key, one statement at a time: the shortest ways through the node.

A prepared statement's Bind, Execute and Sync are taken as one call (``wire.calls``, ``sql.calls``), its SELECT
of one key runs without a transaction (``txn.point``).  Whatever the way, each row is a linearizable register.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sim.checkers import linearizable
from sim.invariants import Violation
from sim.sqlclient import SqlConnection
from sim.workloads.base import Client
from sim.workloads.sql import SqlWorkload


class SqlRegisters(SqlWorkload):
    """Unique values, so that the check needs no search; columns come and go, so that plans grow old."""

    name = "sql-registers"
    schema = (
        "CREATE TABLE even (k int PRIMARY KEY, v int, other text)",
        "CREATE TABLE odd (k int PRIMARY KEY, v int, other text)",
    )
    KEYS: ClassVar[int] = 4
    TABLES: ClassVar[tuple[str, ...]] = ("even", "odd")
    """Two, so that a statement that is taken for another finds nothing."""
    READS: ClassVar[tuple[str, ...]] = (
        "SELECT v FROM {table} WHERE k = $1::int",
        "SELECT v FROM {table} WHERE k IN ($1::int, 99)",
        "SELECT max(v) FROM {table} WHERE k BETWEEN $1::int AND $1::int",
    )
    WRITES: ClassVar[tuple[str, ...]] = (
        "INSERT INTO {table} (k, v) VALUES ($1::int, $2::int) ON CONFLICT (k) DO UPDATE SET v = excluded.v",
        "UPDATE {table} SET v = $2::int WHERE k = $1::int",
        "UPDATE {table} SET v = $2::int, other = 'x' WHERE k = $1::int RETURNING v",
    )

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self.written = 0

    async def fill(self, connection: SqlConnection) -> None:
        for key in range(self.KEYS):
            await connection.run(f"INSERT INTO {self.TABLES[key % 2]} VALUES ({key}, 0)")

    async def operate(self, client: Client) -> None:
        rng = client.rng
        if rng.chance(0.06):
            await (self._change_table(client) if rng.chance(0.5) else self._look(client))
            return
        key = rng.below(self.KEYS)
        reads = rng.chance(0.6)
        statement = rng.pick(self.READS[:1] * 3 + self.READS if reads else self.WRITES)
        statement = statement.replace("{table}", self.TABLES[key % 2])
        parameters = [key]
        if not reads:
            self.written += 1
            parameters.append(self.written)
        is_simple = rng.chance(0.3)
        if is_simple:
            for number, parameter in enumerate(parameters):
                statement = statement.replace(f"${number + 1}::int", str(parameter))
            parameters = []

        async def body(connection: SqlConnection) -> list[Any]:
            rows = await connection.run(statement, *parameters)
            if not reads:
                return [key, value]
            return [key, int(rows[0][0] or 0) if rows else None]

        value = self.written
        asked = [key, None if reads else value]
        level = "" if rng.chance(0.8) else self.mixed(client)
        await self.session(client).transact("read" if reads else "write", asked, body, level)

    async def _change_table(self, client: Client) -> None:
        number = client.rng.below(2)
        table = client.rng.pick(self.TABLES)
        statement = client.rng.pick(
            (
                f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS x{number} int DEFAULT 7",
                f"ALTER TABLE {table} DROP COLUMN IF EXISTS x{number}",
                f"CREATE INDEX IF NOT EXISTS {table}_v{number} ON {table} (v)",
                f"DROP INDEX IF EXISTS {table}_v{number}",
            )
        )

        async def body(connection: SqlConnection) -> None:
            await connection.run(statement)

        await self.session(client).transact("change", statement, body, "")

    async def _look(self, client: Client) -> None:
        outcome = await self.session(client).transact("look", None, _missing, "repeatable read")
        self._object(outcome.value if outcome.status == "ok" else [])

    async def finish(self) -> None:
        self._object(await self.must_sql(_missing))

    def _object(self, missing: list[Any]) -> None:
        if missing:
            raise Violation("every way to a row agrees", f"not found by value: {missing}", ("change",))

    def check(self) -> None:
        operations = [op for op in self.world.history.history if op.f in ("read", "write")]
        self.judge(linearizable.check(operations, keyed=True, initial=0))


async def _missing(connection: SqlConnection) -> list[Any]:
    """Returns rows that are not found by their value: by an index, if there is one now."""
    missing = []
    for table in SqlRegisters.TABLES:
        for k, v in await connection.run(f"SELECT k, v FROM {table}"):
            found = await connection.run(f"SELECT k FROM {table} WHERE v = {v}")
            if (k,) not in found:
                missing.append((k, v, found))
    return missing
