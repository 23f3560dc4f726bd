"""Tables rebuilt and indexes filled by DDL, over more rows than one chunk: what is stored in the end, row by row."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from base.keys import index_prefix, index_span, table_span
from kvtier.messages import Batch, Put
from node.process import Node
from planner.access import TableAccess, table_access
from planner.schema import TableDesc
from sql.catalog.cache import call, scan_all
from sql.ddl.backfill import CHUNK_ROWS
from tests.inprocess import Client, with_node

ROWS = 2 * CHUNK_ROWS + 500
PRIME = 7919
DISTINCT = ROWS - CHUNK_ROWS - 1
"""Values of column c: those of the last chunk repeat those of the first."""


def desc_of(node: Node, name: str) -> TableDesc:
    return next(d for d in node.catalog.state.by_id.values() if isinstance(d, TableDesc) and d.name == name)


async def check_stored(node: Node, name: str, rows: int = ROWS) -> TableAccess:
    """Every index of a table holds exactly the entries of its rows, and nothing lies beside them."""
    access = table_access(desc_of(node, name))
    kv = node.kv
    stored = await scan_all(kv, *access.span())
    assert len(stored) == rows
    expected = dict(stored)
    for index in access.secondary:
        entries = [index.entry(access.decode_row(key, value), ()) for key, value in stored]
        expected.update(entries)
    assert dict(await scan_all(kv, *table_span(access.key_id))) == expected
    return access


def story(run: Callable[[Node, Client], Awaitable[None]]) -> None:
    async def main(node: Node) -> None:
        client = Client(node)
        await client.until_ready()
        await client.run("CREATE TABLE t (a int NOT NULL, b text, c int, d numeric)")
        await client.run(
            f"INSERT INTO t SELECT i * {PRIME} % 10007, 'b' || i, i % {DISTINCT}, i FROM generate_series(1, {ROWS}) i"
        )
        await run(node, client)
        client.close()

    with_node(main)


def test_a_primary_key_in_another_order() -> None:
    async def run(node: Node, client: Client) -> None:
        await client.run("CREATE INDEX t_b ON t (b) INCLUDE (d)")
        await client.run("CREATE UNIQUE INDEX t_d ON t (d, a)")
        before = await client.run("SELECT * FROM t ORDER BY a")
        old = desc_of(node, "t")
        assert await client.run("ALTER TABLE t ADD PRIMARY KEY (a)") == ["(ALTER TABLE)"]
        access = await check_stored(node, "t")
        assert access.key_id != (old.key_prefix_table or old.id)
        assert await scan_all(node.kv, *table_span(old.key_prefix_table or old.id)) == []
        assert await client.run("SELECT * FROM t ORDER BY a") == before

    story(run)


def test_duplicates_in_different_chunks() -> None:
    async def run(node: Node, client: Client) -> None:
        for sql in (
            "CREATE UNIQUE INDEX u ON t (c)",
            "ALTER TABLE t ADD UNIQUE (c)",
            "ALTER TABLE t ADD PRIMARY KEY (c)",
        ):
            shown = await client.run(sql)
            assert shown[0].startswith("ERROR 23505: could not create unique index"), shown
            assert "is duplicated" in shown[1]
            await check_stored(node, "t")
        await client.run("UPDATE t SET c = NULL WHERE c < 1000")
        shown = await client.run("ALTER TABLE t ADD PRIMARY KEY (c)")
        assert shown[0] == 'ERROR 23502: column "c" of relation "t" contains null values'
        assert await client.run("CREATE UNIQUE INDEX u ON t (c) WHERE c > 2001") == ["(CREATE INDEX)"]
        assert await client.run("CREATE UNIQUE INDEX v ON t ((c * 2), d)") == ["(CREATE INDEX)"]
        shown = await client.run("INSERT INTO t VALUES (20000, 'more', 2002, 1)")
        assert shown[0] == 'ERROR 23505: duplicate key value violates unique constraint "u"'

    story(run)


def test_rolled_back_and_made_again() -> None:
    """The ids of what is rolled back are given again: nothing of it may be left."""

    async def run(node: Node, client: Client) -> None:
        await client.run("BEGIN")
        await client.run("CREATE INDEX one ON t (b)")
        await client.run("ROLLBACK")
        await client.run("BEGIN")
        await client.run("SAVEPOINT s")
        await client.run("CREATE INDEX two ON t (c)")
        await client.run("ALTER TABLE t ADD PRIMARY KEY (a)")
        await client.run("ROLLBACK TO s")
        await client.run("CREATE INDEX three ON t (d)")
        await client.run("INSERT INTO t VALUES (20000, 'more', 1, 1)")
        await client.run("DELETE FROM t WHERE d <= 2000")
        assert await client.run("SELECT count(*) FROM t WHERE d > 2100") == ["count", str(ROWS - 2100), "(SELECT 1)"]
        await client.run("CREATE INDEX four ON t (c)")
        await client.run("ALTER TABLE t ADD PRIMARY KEY (a)")
        await client.run("INSERT INTO t VALUES (20001, 'more', 1, 1)")
        await client.run("DELETE FROM t WHERE a < 1000")
        left = int((await client.run("SELECT count(*) FROM t"))[1])
        assert await client.run("COMMIT") == ["(COMMIT)"]
        await check_stored(node, "t", left)
        assert await client.run("SELECT count(*) FROM t") == ["count", str(left), "(SELECT 1)"]

    story(run)


def test_over_what_a_crash_left() -> None:
    """Where something lies in the way the entries are written past the transaction, and cleared if it rolls back."""

    async def run(node: Node, client: Client) -> None:
        desc = desc_of(node, "t")
        span = index_span(desc.id, desc.next_index_id)
        kv = node.kv
        await call(kv, Batch([Put(index_prefix(desc.id, desc.next_index_id) + b"left", b"over")]))
        await client.run("BEGIN")
        assert await client.run("CREATE INDEX i ON t (b)") == ["(CREATE INDEX)"]
        assert len(await scan_all(kv, *span)) == ROWS
        await client.run("ROLLBACK")
        assert await scan_all(kv, *span) == []
        await call(kv, Batch([Put(index_prefix(desc.id, desc.next_index_id) + b"left", b"over")]))
        shown = await client.run("CREATE UNIQUE INDEX i ON t (c)")
        assert shown[0].startswith("ERROR 23505"), shown
        await client.run("CREATE UNIQUE INDEX i ON t (a)")
        await check_stored(node, "t")

    story(run)


@pytest.mark.parametrize("level", ["SERIALIZABLE", "READ COMMITTED", "REPEATABLE READ"])
@pytest.mark.parametrize(
    "ddl",
    ["ALTER TABLE t ADD PRIMARY KEY (a)", "CREATE INDEX t_c ON t (c)", "ALTER TABLE t ALTER d TYPE int", "TRUNCATE t"],
)
def test_rows_committed_after_the_snapshot(level: str, ddl: str) -> None:
    """What others wrote between a transaction's snapshot and its lock on the table is rebuilt and indexed, too."""

    async def run(node: Node, client: Client) -> None:
        other = Client(node)
        await other.until_ready()
        await client.run("CREATE TABLE u (x int)")
        await client.run(f"BEGIN ISOLATION LEVEL {level}")
        await client.run("SELECT count(*) FROM u")
        await other.run("INSERT INTO t VALUES (-1, 'more', -1, 1)")
        shown = await client.run(ddl)
        if level == "REPEATABLE READ":
            assert shown[0].startswith("ERROR 40001"), shown
            await client.run("ROLLBACK")
        else:
            assert not shown[0].startswith("ERROR"), shown
            assert await client.run("COMMIT") == ["(COMMIT)"]
        is_gone = ddl == "TRUNCATE t" and level != "REPEATABLE READ"
        await check_stored(node, "t", 0 if is_gone else ROWS + 1)
        other.close()

    story(run)
