"""TRUNCATE moves a table to an empty place: who reads what before, beside and after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from base.keys import table_span
from node.process import Node
from planner.schema import TableDesc
from sql.catalog.cache import scan_all
from tests.inprocess import Client, render, with_node

ROWS = 3_000


def table_of(node: Node, name: str) -> TableDesc:
    return next(d for d in node.catalog.state.by_id.values() if isinstance(d, TableDesc) and d.name == name)


async def count(client: Client, table: str = "t", suffix: str = "") -> str:
    shown = await client.run(f"SELECT count(*) FROM {table} {suffix}")
    return shown[1] if shown[0] == "count" else shown[0]


async def load(client: Client, rows: int = ROWS) -> None:
    client.send("COPY t FROM STDIN", [f"{i}\tvalue {i}" for i in range(rows)])
    assert render(await client.until_ready()) == [f"(COPY {rows})"]


def story(run: Callable[[Node, Client, Client], Awaitable[None]]) -> None:
    async def main(node: Node) -> None:
        client, other = Client(node), Client(node)
        await client.until_ready()
        await other.until_ready()
        await client.run("CREATE TABLE t (id int PRIMARY KEY, v text)")
        await client.run("CREATE INDEX t_v ON t (v)")
        await client.run("CREATE TABLE u (id int PRIMARY KEY)")
        await load(client)
        await run(node, client, other)
        client.close()
        other.close()

    # Scans in the background would only make what runs beside the stories uncertain.
    with_node(main, defaults={"autovacuum": "off"})


def test_truncate_and_load_in_one_transaction() -> None:
    """The rows of the load are runs, whatever was in the table; the old place is empty after the commit."""

    async def run(node: Node, client: Client, other: Client) -> None:
        for _ in range(2):
            old = table_of(node, "t")
            await client.run("BEGIN")
            assert await client.run("TRUNCATE t") == ["(TRUNCATE TABLE)"]
            assert await count(client) == "0"
            await load(client)
            assert len(node.store.state.intents.points) < 50
            assert await count(client) == await count(other) == str(ROWS)
            assert await client.run("COMMIT") == ["(COMMIT)"]
            assert table_of(node, "t").key_prefix_table != old.key_prefix_table
            assert await scan_all(node.kv, *table_span(old.key_prefix_table or old.id)) == []
            assert await count(client) == await count(other) == str(ROWS)
            assert await count(other, suffix="WHERE v >= 'value 2'") == await count(
                client, suffix="WHERE v >= 'value 2'"
            )

    story(run)


def test_truncate_rolls_back() -> None:
    async def run(node: Node, client: Client, other: Client) -> None:
        await client.run("BEGIN")
        await client.run("INSERT INTO t VALUES (-1, 'more')")
        await client.run("SAVEPOINT s")
        await client.run("TRUNCATE t")
        await load(client, ROWS // 2)
        assert await count(client) == str(ROWS // 2)
        await client.run("ROLLBACK TO s")
        assert await count(client) == str(ROWS + 1)
        await client.run("TRUNCATE t")
        await client.run("ROLLBACK")
        assert await count(client) == await count(other) == str(ROWS)

    story(run)


def test_older_snapshots_read_the_rows() -> None:
    async def run(node: Node, client: Client, other: Client) -> None:
        before = node.kv.now()
        await other.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        await other.run("SELECT 1 FROM u")
        await client.run("TRUNCATE t")
        await client.run("ALTER TABLE t ADD COLUMN w int DEFAULT 7")
        assert await count(client, suffix=f"AS OF SYSTEM TIME {before}") == str(ROWS)
        shown = await client.run(f"SELECT * FROM t AS OF SYSTEM TIME {before} WHERE id = 5")
        assert shown == ["id|v", "5|value 5", "(SELECT 1)"]
        assert await client.run("SELECT * FROM t WHERE id = 5") == ["id|v|w", "(SELECT 0)"]
        assert await count(other) == str(ROWS)
        assert await other.run("SELECT * FROM t WHERE id = 5") == ["id|v", "5|value 5", "(SELECT 1)"]
        await other.run("COMMIT")
        assert await count(other) == "0"
        await client.run(f"BEGIN AS OF SYSTEM TIME {before}")
        assert await client.run("SELECT v FROM t WHERE id = 5") == ["v", "value 5", "(SELECT 1)"]
        await client.run("COMMIT")

    story(run)


@pytest.mark.parametrize("level", ["SERIALIZABLE", "REPEATABLE READ"])
def test_what_was_read_before_conflicts(level: str) -> None:
    """A transaction that has read the rows, or whose snapshot shows them, goes on beyond TRUNCATE."""

    async def run(node: Node, client: Client, other: Client) -> None:
        await other.run(f"BEGIN ISOLATION LEVEL {level}")
        seen = "t" if level == "SERIALIZABLE" else "u"
        await other.run(f"SELECT count(*) FROM {seen}")
        await client.run("TRUNCATE t")
        await client.run("INSERT INTO u VALUES (1)")
        if level == "SERIALIZABLE":
            # What it writes is newer than TRUNCATE, so it cannot have been there before.
            assert (await other.run("DELETE FROM u WHERE id = 1"))[0].startswith("ERROR 40001")
        else:
            assert (await count(other)).startswith("ERROR 40001")

    story(run)


def test_nobody_begins_between_commit_and_publication() -> None:
    """Statements over a table that moves wait; those over others do not."""

    async def run(node: Node, client: Client, other: Client) -> None:
        for _ in range(3):  # The third time the whole call is known.
            assert await other.run("SELECT v FROM t WHERE id = 5") == ["v", "value 5", "(SELECT 1)"]
        moved = [table_of(node, "t").id]
        node.catalog.begin_move(moved)
        other.send("SELECT v FROM t WHERE id = 5")
        with pytest.raises(TimeoutError):
            await other.until_ready(0.1)
        assert await count(client, "u") == "0"
        node.catalog.end_move(moved)
        assert render(await other.until_ready()) == ["v", "value 5", "(SELECT 1)"]
        assert node.catalog.moving == {}

    story(run)


def test_identities_and_references() -> None:
    async def run(node: Node, client: Client, other: Client) -> None:
        await client.run("CREATE TABLE p (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int)")
        await client.run("CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p)")
        for _ in range(2):
            await client.run("INSERT INTO p (n) VALUES (1), (2)")
            await client.run("INSERT INTO c VALUES (1, (SELECT max(id) FROM p))")
            assert (await client.run("TRUNCATE p"))[0].startswith("ERROR 0A000")
            assert await client.run("TRUNCATE p RESTART IDENTITY CASCADE") == [
                'NOTICE: truncate cascades to table "c"',
                "(TRUNCATE TABLE)",
            ]
        assert await client.run("INSERT INTO p (n) VALUES (3) RETURNING id") == ["id", "1", "(INSERT 0 1)"]
        assert (await client.run("INSERT INTO c VALUES (1, 2)"))[0].startswith("ERROR 23503")
        assert await client.run("INSERT INTO c VALUES (1, 1)") == ["(INSERT 0 1)"]

    story(run)
