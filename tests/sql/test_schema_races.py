"""Schema changes of one node beside transactions that began before them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from node.process import Node
from tests.inprocess import Client, with_node


def story(run: Callable[[Client, Client], Awaitable[None]]) -> None:
    """Runs a test with two sessions."""

    async def main(node: Node) -> None:
        clients = [Client(node), Client(node)]
        for client in clients:
            await client.until_ready()
        await run(*clients)

    with_node(main)


@pytest.mark.parametrize("change", ["CREATE INDEX t_v ON t (v)", "ALTER TABLE t ALTER COLUMN v TYPE bigint"])
@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE", "READ COMMITTED"])
def test_a_change_misses_no_row_that_its_snapshot_does_not_show(level: str, change: str) -> None:
    async def run(changer: Client, writer: Client) -> None:
        await changer.run("CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE u (id int PRIMARY KEY)")
        await writer.run("INSERT INTO t VALUES (1, 1)")
        await changer.run(f"BEGIN ISOLATION LEVEL {level}")
        await changer.run("SELECT * FROM u")
        await writer.run("INSERT INTO t VALUES (2, 2)")
        answer = [await changer.run(change), await changer.run("COMMIT")]
        await writer.run("SET enable_seqscan = off")
        assert await writer.run("SELECT id FROM t WHERE v = 2") == ["id", "2", "(SELECT 1)"]
        assert answer[0][0].startswith("ERROR 40001") == (level == "REPEATABLE READ"), answer

    story(run)


def test_who_has_read_by_an_index_that_goes_does_not_commit() -> None:
    """Its reads would be checked where nobody writes any more: a row that came later would not be seen."""

    async def run(reader: Client, other: Client) -> None:
        await other.run(
            "CREATE TABLE t (id int PRIMARY KEY, v int); CREATE INDEX t_v ON t (v); CREATE TABLE u (n int PRIMARY KEY)"
        )
        await other.run("INSERT INTO t SELECT g, g FROM generate_series(1, 500) g")
        await reader.run("SET enable_seqscan = off")
        await reader.run("BEGIN ISOLATION LEVEL SERIALIZABLE")
        assert await reader.run("SELECT count(*) FROM t WHERE v = 1000") == ["count", "0", "(SELECT 1)"]
        assert await other.run("DROP INDEX t_v") == ["(DROP INDEX)"]
        # What it has read, and has not: both make it impossible to order the two.
        await other.run("BEGIN; SELECT count(*) FROM u; INSERT INTO t VALUES (1000, 1000); COMMIT")
        await reader.run("INSERT INTO u VALUES (1)")
        assert (await reader.run("COMMIT"))[0].startswith("ERROR 40001")

    story(run)


def test_who_reads_another_table_is_left_alone() -> None:
    async def run(reader: Client, other: Client) -> None:
        await other.run(
            "CREATE TABLE t (id int PRIMARY KEY, v int); CREATE INDEX t_v ON t (v); CREATE TABLE u (n int PRIMARY KEY)"
        )
        await reader.run("BEGIN ISOLATION LEVEL SERIALIZABLE")
        await reader.run("SELECT * FROM u")
        await reader.run("INSERT INTO u VALUES (1)")
        assert await other.run("DROP INDEX t_v; DROP TABLE t") == ["(DROP INDEX)", "(DROP TABLE)"]
        assert await reader.run("COMMIT") == ["(COMMIT)"]

    story(run)
