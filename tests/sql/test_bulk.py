"""COPY in batches large enough for runs against the same rows inserted a few at a time: same answers, same tables.

Two tables of one shape get the same rows in the same order inside one transaction with savepoints, one by COPY and one by
INSERTs below the size from which bulk is tried.  What one refuses the other must refuse with the same error, and in the end rows and
every index must be equal.
"""

from __future__ import annotations

import random

import pytest

from node.process import Node
from planner.exec.write import RUN_ROWS_MIN
from tests.inprocess import Client, render, with_node

INSERT_ROWS = 150
SCHEMA = "CREATE TABLE {0} (id int PRIMARY KEY, u int UNIQUE, n int, t text CHECK (t <> 'refused'))"
INDEXES = ("CREATE INDEX {0}_n ON {0} (n)", "CREATE INDEX {0}_t ON {0} (t) WHERE n > 50")

Row = tuple[int, int | None, int, str]


def draw_rows(rng: random.Random) -> list[Row]:
    """Rows of a few hundred ids more than a run needs, in order or not, now and then with something wrong."""
    count = RUN_ROWS_MIN + rng.randrange(100)
    first = rng.randrange(0, 8000)
    ids = list(range(first, first + count)) if rng.random() < 0.6 else rng.sample(range(8000), count)
    if rng.random() < 0.2:
        ids[rng.randrange(count)] = ids[rng.randrange(count)]
    stride = rng.choice([1, 1, 7, 11])
    rows: list[Row] = [(i, i * stride % 8009 if rng.random() < 0.9 else None, i % 100, f"t{i % 13}") for i in ids]
    if rng.random() < 0.1:
        at = rng.randrange(count)
        rows[at] = (*rows[at][:3], "refused")
    return rows


def rows_refused(rows: list[Row]) -> bool:
    return any(row[3] == "refused" for row in rows)


async def copy(client: Client, table: str, rows: list[Row]) -> list[str]:
    """Returns what COPY answers, without the row that a message shows and the line it came from."""
    lines = ["\t".join(["\\N" if value is None else str(value) for value in row]) for row in rows]
    client.send(f"COPY {table} FROM STDIN", lines)
    shown = comparable(render(await client.until_ready()), table)
    return [line for line in shown if not line.startswith("CONTEXT: COPY")]


async def insert(client: Client, table: str, rows: list[Row]) -> list[str]:
    for first in range(0, len(rows), INSERT_ROWS):
        part = rows[first : first + INSERT_ROWS]
        values = ", ".join([f"({i}, {'NULL' if u is None else u}, {n}, '{t}')" for i, u, n, t in part])
        shown = comparable(await client.run(f"INSERT INTO {table} VALUES {values}"), table)
        if shown[0].startswith("ERROR"):
            return shown
    return [f"(COPY {len(rows)})"]


def comparable(shown: list[str], table: str) -> list[str]:
    return [line.replace(table, "x") for line in shown]


async def contents(client: Client, table: str) -> list[list[str]]:
    """The table by its primary key and by each index."""
    return [
        await client.run(f"SELECT * FROM {table} ORDER BY id"),
        await client.run(f"SELECT id, u FROM {table} WHERE u >= 0 ORDER BY u"),
        await client.run(f"SELECT n, count(*), sum(id) FROM {table} GROUP BY n ORDER BY n"),
        await client.run(f"SELECT t, count(*) FROM {table} WHERE n > 50 GROUP BY t ORDER BY t"),
    ]


async def change(client: Client, rng: random.Random, table_names: tuple[str, str]) -> None:
    """The same UPDATE or DELETE of both tables."""
    low = rng.randrange(8000)
    high = low + rng.randrange(600)
    what = rng.choice(["UPDATE {0} SET n = n + 1, t = 'changed'", "DELETE FROM {0}"])
    shown = [await client.run(f"{what.format(name)} WHERE id BETWEEN {low} AND {high}") for name in table_names]
    assert shown[0] == shown[1]


async def story(node: Node, seed: int) -> None:
    rng = random.Random(seed)
    client = Client(node)
    await client.until_ready()
    names = ("fast", "slow")
    for name in names:
        await client.run(SCHEMA.format(name))
        for index in INDEXES:
            await client.run(index.format(name))
    for _ in range(3):
        await client.run(f"BEGIN ISOLATION LEVEL {rng.choice(['SERIALIZABLE', 'READ COMMITTED', 'REPEATABLE READ'])}")
        for _ in range(rng.randrange(1, 5)):
            await client.run("SAVEPOINT s")
            rows = draw_rows(rng)
            copied = await copy(client, "fast", rows)
            failed = copied[0].startswith("ERROR")
            if failed:
                await client.run("ROLLBACK TO s")
                await client.run("SAVEPOINT s")
            inserted = await insert(client, "slow", rows)
            if rows_refused(rows):
                # CHECK comes before uniqueness within a batch, and their batches differ.
                copied, inserted = [copied[0][:5]], [inserted[0][:5]]
            assert copied == inserted, seed
            if failed or rng.random() < 0.2:
                await client.run("ROLLBACK TO s")
            if rng.random() < 0.4:
                await change(client, rng, names)
        if rng.random() < 0.5:
            assert await contents(client, "fast") == await contents(client, "slow")
        await client.run("COMMIT" if rng.random() < 0.8 else "ROLLBACK")
        assert await contents(client, "fast") == await contents(client, "slow")
    client.close()


@pytest.mark.parametrize("seed", range(6))
def test_copy_equals_inserts(seed: int) -> None:
    with_node(lambda node: story(node, seed))
