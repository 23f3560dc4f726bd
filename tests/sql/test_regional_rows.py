"""A REGIONAL BY ROW table answers as a plain one does, wherever its rows are: random statements against both."""

from __future__ import annotations

import random

import pytest

from node.process import Node
from sql.regions.topology import NodePlace
from tests.inprocess import Client, with_node

REGIONS = ("a", "b", "c")
STATEMENTS = 150
TABLES = [
    ("plain", "", ""),
    ("spread", "", "LOCALITY REGIONAL BY ROW"),
    (
        "placed",
        ", home crdb_internal_region NOT NULL GENERATED ALWAYS AS"
        " (CASE id % 3 WHEN 0 THEN 'a'::crdb_internal_region WHEN 1 THEN 'b' ELSE 'c' END) STORED",
        "LOCALITY REGIONAL BY ROW AS home",
    ),
]
"""(table, column of its own, locality): rows anywhere, and rows whose key tells where they are."""


def statement(rng: random.Random, table: str, region: str) -> str:
    """One statement; ``region`` is where a row goes to that it writes, "" for wherever it is written."""
    id, email, n = rng.randint(1, 12), f"'e{rng.randint(1, 12)}'", rng.randint(0, 3)
    column, value = (", crdb_region", f", '{region}'") if region else ("", "")
    moves = f", crdb_region = '{region}'" if region else ""
    insert = f"INSERT INTO {table} (id, email, n{column}) VALUES ({id}, {email}, {n}{value})"
    two = f"INSERT INTO {table} (id, email, n{column}) VALUES ({id}, {email}, {n}{value}), ({id + 1}, NULL, {n}{value})"
    return rng.choice(
        [
            insert,
            two,
            f"{insert} ON CONFLICT (id) DO UPDATE SET email = excluded.email, n = t.n + 1{moves} RETURNING id, n".replace("t.n", f"{table}.n"),
            f"{insert} ON CONFLICT (email) DO UPDATE SET n = {table}.n + 1 RETURNING id, email, n",
            f"{insert} ON CONFLICT DO NOTHING",
            f"UPDATE {table} SET n = n + 1{moves} WHERE id = {id} RETURNING id, n",
            f"UPDATE {table} SET id = {id + 1} WHERE id = {id}",
            f"UPDATE {table} SET email = {email} WHERE id = {id}",
            f"UPDATE {table} SET id = id + 1{moves} WHERE email = {email} RETURNING id, email",
            f"DELETE FROM {table} WHERE id = {id}",
            f"DELETE FROM {table} WHERE email = {email} RETURNING id",
            f"SELECT id, email, n FROM {table} WHERE id = {id}",
            f"SELECT id, email, n FROM {table} WHERE id IN ({id}, {id + 2}, {id + 5}) ORDER BY id",
            f"SELECT id, email, n FROM {table} WHERE email = {email} FOR UPDATE",
            f"SELECT id FROM {table} WHERE n = {n} ORDER BY id",
            f"SELECT id FROM {table} WHERE n >= {n} ORDER BY n, id DESC LIMIT 3",
            f"SELECT l.id, r.id FROM {table} l JOIN {table} r ON r.id = l.n + 1 WHERE l.id < 6 ORDER BY 1, 2",
        ]
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_where_rows_are_makes_no_difference(seed: int) -> None:
    async def body(node: Node) -> None:
        node.sql.topology = lambda: [NodePlace(i, (("region", region),)) for i, region in enumerate(REGIONS, 1)]
        client = Client(node)
        await client.until_ready()
        await client.run("ALTER DATABASE defaultdb PRIMARY REGION a")
        await client.run("ALTER DATABASE defaultdb ADD REGION b")
        await client.run("ALTER DATABASE defaultdb ADD REGION c")
        for table, column, locality in TABLES:
            await client.run(f"CREATE TABLE {table} (id int PRIMARY KEY, email text UNIQUE, n int{column}) {locality}")
            await client.run(f"CREATE INDEX {table}_n ON {table} (n)")
        rng = random.Random(seed)
        (session,) = node.sql.sessions.values()
        for _ in range(STATEMENTS):
            session.context.region = rng.choice(REGIONS)
            shape, region = rng.randrange(1 << 30), rng.choice(("", *REGIONS))
            expected = await client.run(statement(random.Random(shape), "plain", ""))
            for table, home in (("spread", region), ("placed", "")):
                sql = statement(random.Random(shape), table, home)
                assert [line.replace(table, "plain") for line in await client.run(sql)] == expected, sql
        for table, column in (("spread", "crdb_region"), ("placed", "home")):
            assert await client.run(f"SELECT id, email, n FROM {table} ORDER BY id") == await client.run(
                "SELECT * FROM plain ORDER BY id"
            )
            assert (await client.run(f"SELECT count(DISTINCT {column}) > 1 FROM {table}"))[1] == "t"

    with_node(body)
