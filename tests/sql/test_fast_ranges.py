"""Compiled ranges against the operators they stand for: random tables, layouts, NULLs, writes and queries.

There are two honest answers to a query, and every byte of the rows must be the same, in text and in binary:

    WITH q AS MATERIALIZED (query) SELECT * FROM q                        is never a compiled range
    WITH q AS MATERIALIZED (SELECT * FROM t FOR UPDATE) query over q      has no generated loop over entries at all
"""

from __future__ import annotations

from random import Random

import pytest

from node.process import Node
from tests.inprocess import Client, with_node
from tests.wire.frames import SYNC, bind, describe, execute, parse

TYPES = {
    "int4": ("0", "1", "-1", "7", "2147483647", "-2147483648"),
    "int8": ("0", "3", "-3", "9223372036854775807"),
    "int2": ("0", "5", "-5"),
    "text": ("''", "'a'", "'b'", "'ab '", "'éa'", "'漢字'", "repeat('x', 300)"),
    "varchar": ("''", "'long'", "repeat('y', 70000)"),
    "varchar(9)": ("''", "'a'", "'B'", "'ü'"),
    "char(5)": ("''", "'a'", "'ab'", "'é'"),
    "bool": ("true", "false"),
    "numeric(8,3)": ("0", "1.5", "-2.250", "99999.999"),
    "float8": ("0", "1.5", "'NaN'", "'-Infinity'"),
    "date": ("'2024-02-29'", "'0044-03-15 BC'"),
    "timestamptz": ("'2024-02-29 12:00:00+00'", "'infinity'"),
    "interval": ("'1 mon'", "'30 days'", "'1 day 2 hours'"),
    "bytea": ("'\\x'", "'\\x00ff'"),
    "uuid": ("'00000000-0000-0000-0000-000000000001'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"),
    "jsonb": ("'{}'", "'{\"a\": [1, null]}'", "'3'"),
    "int4[]": ("'{}'", "'{1,NULL,3}'"),
}
KEYS = ("int4", "int8", "text", "varchar(9)", "int2")
NUMBERS = ("int4", "int8", "int2", "numeric(8,3)", "float8")
UNORDERED = ("jsonb",)


class Table:
    """One random table, as SQL."""

    def __init__(self, rng: Random, number: int) -> None:
        self.rng = rng
        self.name = f"t{number}"
        self.columns: dict[str, str] = {}
        self.not_null: list[str] = []
        for name in "abc"[: rng.randrange(1, 4)]:
            self.columns[name] = rng.choice(KEYS)
        self.key = list(self.columns)
        for name in "defghi"[: rng.randrange(1, 7)]:
            self.columns[name] = rng.choice(sorted(TYPES))
            if rng.random() < 0.3:
                self.not_null.append(name)

    def literal(self, column: str) -> str:
        if column not in self.key and column not in self.not_null and self.rng.random() < 0.25:
            return "NULL"
        return self.rng.choice(TYPES[self.columns[column]])

    def create(self) -> list[str]:
        rng = self.rng
        columns = [
            f"{name} {kind}{' NOT NULL' if name in self.not_null else ''}" for name, kind in self.columns.items()
        ]
        found = [f"CREATE TABLE {self.name} ({', '.join(columns)}, PRIMARY KEY ({', '.join(self.key)}))"]
        if rng.random() < 0.7:
            wanted = rng.sample(sorted(self.columns), min(2, len(self.columns)))
            wanted = [name for name in wanted if self.columns[name] in KEYS]
            include = f" INCLUDE ({rng.choice(sorted(self.columns))})" if rng.random() < 0.4 else ""
            if wanted:
                found.append(
                    f"CREATE INDEX {self.name}_x ON {self.name} ({', '.join([name + rng.choice(['', ' DESC']) for name in wanted])}){include}"
                )
        return found

    def insert(self) -> str:
        names = sorted(self.columns)
        rows = ", ".join(
            [f"({', '.join([self.literal(name) for name in names])})" for _ in range(self.rng.randrange(1, 12))]
        )
        return f"INSERT INTO {self.name} ({', '.join(names)}) VALUES {rows} ON CONFLICT DO NOTHING"

    def change(self) -> str:
        """A write of some rows."""
        others = [name for name in self.columns if name not in self.key]
        where = f"WHERE {self.key[0]} >= {self.literal(self.key[0])}"
        if self.rng.random() < 0.3:
            return f"DELETE FROM {self.name} {where}"
        name = self.rng.choice(others)
        return f"UPDATE {self.name} SET {name} = {self.literal(name)} {where}"

    def alter(self) -> str:
        """ADD COLUMN with or without a default, or DROP COLUMN."""
        rng = self.rng
        others = [name for name in self.columns if name not in self.key]
        if len(others) > 2 and rng.random() < 0.3:
            name = rng.choice(others)
            del self.columns[name]
            return f"ALTER TABLE {self.name} DROP COLUMN {name} CASCADE"
        name = f"z{len(self.columns)}{rng.randrange(1000)}"
        self.columns[name] = rng.choice(sorted(TYPES))
        default = f" DEFAULT {rng.choice(TYPES[self.columns[name]])}" if rng.random() < 0.6 else ""
        if default and rng.random() < 0.5:
            default += " NOT NULL"
            self.not_null.append(name)
        return f"ALTER TABLE {self.name} ADD COLUMN {name} {self.columns[name]}{default}"

    # --- queries

    def query(self) -> str:
        rng = self.rng
        roll = rng.random()
        where = f"FROM {self.name} WHERE {self._where()}"
        if roll < 0.25:
            return f"SELECT {', '.join([self._aggregate() for _ in range(rng.randrange(1, 4))])} {where}"
        if roll < 0.45:
            names = rng.sample(sorted(self.columns), min(len(self.columns), rng.randrange(1, 3)))
            order = self._order([name for name in names if self.columns[name] not in UNORDERED])
            return (
                f"SELECT DISTINCT {', '.join(names)} {where}{order}{self._limit() if len(names) == 1 and order else ''}"
            )
        outputs = [self._output() for _ in range(rng.randrange(1, 5))]
        names = rng.sample(sorted(self.columns), min(len(self.columns), rng.randrange(1, 3)))
        order = self._order([*names, *self.key]) if rng.random() < 0.6 else ""
        return f"SELECT {', '.join(outputs)} {where}{order}{self._limit() if rng.random() < 0.4 else ''}"

    def _where(self) -> str:
        rng = self.rng
        first = self.key[0] if rng.random() < 0.7 else rng.choice(sorted(self.columns))
        kind = self.columns[first]
        low, high = rng.choice(TYPES[kind]), rng.choice(TYPES[kind])
        choices = [f"{first} BETWEEN {low} AND {high}", f"{first} >= {low}", f"{first} < {high}", f"{first} = {low}"]
        terms = [rng.choice(choices)]
        if kind in ("int4", "int2", "int8") and rng.random() < 0.1:
            terms = [f"{first} BETWEEN -100000000000::int8 AND 100000000000::int8"]
        if rng.random() < 0.4:
            other = rng.choice(sorted(self.columns))
            terms.append(
                rng.choice(
                    [f"{other} IS NOT NULL", f"{other} IS NULL", f"{other} <> {rng.choice(TYPES[self.columns[other]])}"]
                )
            )
        return " AND ".join(terms)

    def _output(self) -> str:
        rng = self.rng
        name = rng.choice(sorted(self.columns))
        kind = self.columns[name]
        if kind == "int4" and rng.random() < 0.3:
            return f"{name}::int8 + 1"
        if kind == "text" and rng.random() < 0.3:
            return f"{name} || '!'"
        return name

    def _aggregate(self) -> str:
        rng = self.rng
        name = rng.choice(sorted(self.columns))
        kind = self.columns[name]
        choices = [
            "count(*)",
            f"count({name})",
            f"count({name}) FILTER (WHERE {self.key[0]} IS NOT NULL AND {name} IS NOT NULL)",
        ]
        if kind in NUMBERS:
            choices += [f"sum({name})", f"avg({name})", f"max({name}) * 0"]
        if kind not in ("bool", "uuid", "bytea", "jsonb"):
            choices += [f"min({name})", f"max({name})"]
        if kind == "bool":
            choices.append(f"bool_or({name})")
        return rng.choice(choices)

    def _order(self, names: list[str]) -> str:
        rng = self.rng
        if not names:
            return ""
        keys = [
            f"{name}{rng.choice(['', '', ' DESC', ' NULLS FIRST', ' DESC NULLS LAST'])}"
            for name in dict.fromkeys(names)
        ]
        return f" ORDER BY {', '.join(keys)}"

    def _limit(self) -> str:
        rng = self.rng
        return f" LIMIT {rng.randrange(6)}" + (f" OFFSET {rng.randrange(4)}" if rng.random() < 0.4 else "")


async def rows_of(client: Client, sql: str, format: int) -> list[bytes]:
    """The DataRow bodies of a statement, or its error."""
    client.connection.data_received(parse(sql) + bind(results=(format,)) + describe() + execute() + SYNC)
    messages = await client.until_ready()
    errors = [b"error " + body for kind, body in messages if kind == "E"]
    return errors or [body for kind, body in messages if kind == "D"]


async def check_query(client: Client, table: Table, format: int) -> None:
    sql = table.query()
    honest = f"WITH q AS MATERIALIZED ({sql}) SELECT * FROM q"
    found, expected = await rows_of(client, sql, format), await rows_of(client, honest, format)
    if " ORDER BY " not in sql and " LIMIT " not in sql:
        found, expected = sorted(found), sorted(expected)
    assert found == expected, sql
    # Equal datums may print differently: whichever comes first by the index that is read.
    if " LIMIT " not in sql and " DISTINCT " not in sql and "interval" not in table.columns.values():
        locked = sql.replace(f"FROM {table.name} ", "FROM q ")
        honest = f"WITH q AS MATERIALIZED (SELECT * FROM {table.name} FOR UPDATE) {locked}"
        assert sorted(found) == sorted(await rows_of(client, honest, format)), sql
    assert not found or not found[0].startswith(b"error"), (sql, found)


async def check_table(node: Node, rng: Random, number: int) -> None:
    table = Table(rng, number)
    client = Client(node)
    await client.until_ready()

    async def done(sql: str) -> None:
        answer = await client.run(sql)
        assert not any(line.startswith("ERROR") for line in answer), (sql, answer)

    for sql in table.create():
        await done(sql)
    for _ in range(3):
        for _ in range(2):
            await done(table.insert())
        for _ in range(6):
            await check_query(client, table, rng.randrange(2))
        await done(f"BEGIN ISOLATION LEVEL {rng.choice(['SERIALIZABLE', 'REPEATABLE READ', 'READ COMMITTED'])}")
        for _ in range(3):
            await done(rng.choice([table.insert, table.change])())
            for _ in range(3):
                await check_query(client, table, rng.randrange(2))
        await done(rng.choice(["COMMIT", "ROLLBACK"]))
        await done(table.alter())
    client.close()


@pytest.mark.parametrize("block", range(4))
def test_compiled_ranges_answer_as_their_operators(block: int) -> None:
    async def body(node: Node) -> None:
        for number in range(6):
            await check_table(node, Random(block * 100 + number), number)
        plans = list(node.sql.plans._entries.values())
        encoded = [entry for entry in plans if entry.fast is not None and entry.runs]
        aggregates = [
            entry for entry in plans if entry.fast is not None and entry.fast.kind == "range" and not entry.fast.encodes
        ]
        assert len(encoded) > 50
        assert len(aggregates) > 10

    with_node(body)


def test_what_a_filter_leaves_out_is_not_computed() -> None:
    """In a compiled range, in a scan of the table, and by groups."""

    async def body(node: Node) -> None:
        client = Client(node)
        await client.until_ready()
        await client.run("CREATE TABLE d (a int PRIMARY KEY, b int NOT NULL)")
        await client.run("INSERT INTO d VALUES (1, 0), (2, 5), (3, 2)")
        total = "SELECT sum(10 / b) FILTER (WHERE b <> 0) FROM d"
        for where in ("", " WHERE a BETWEEN 1 AND 9", " GROUP BY a > 0"):
            assert (await client.run(total + where))[1] == "7"
            assert (await client.run("SELECT sum(10 / b) FROM d" + where))[0] == "ERROR 22012: division by zero"

    with_node(body)
