"""Automatic ANALYZE: when a table is due, what it costs, and that it stays away where it must."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from node.process import Node, session_defaults
from planner.schema import TableStats
from sql import autostats
from tests.inprocess import Client, with_node


@pytest.fixture(autouse=True)
def _without_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autostats, "DELAY_SECONDS", 0.0)


async def connected(node: Node) -> Client:
    client = Client(node)
    await client.until_ready()
    return client


async def until_analyzed(node: Node, count: int) -> None:
    async with asyncio.timeout(10):
        while node.sql.autostats.analyses < count or node.sql.autostats.is_waiting:
            await asyncio.sleep(0.001)


def stats_of(node: Node, name: str) -> TableStats | None:
    for desc in node.catalog.state.by_id.values():
        if getattr(desc, "kind", "") == "r" and desc.name == name:
            return node.catalog.stats.get(desc.id)
    raise AssertionError(name)


async def is_quiet(node: Node) -> bool:
    """True if nothing is due: neither a timer nor a task of the background."""
    for _ in range(5):
        await asyncio.sleep(0)
    return not node.sql.autostats.is_waiting and not node.sql.autostats.due


def test_statistics_follow_the_rows() -> None:
    async def body(node: Node) -> None:
        client = await connected(node)
        await client.run("CREATE TABLE t (a int PRIMARY KEY, b int)")
        await client.run("INSERT INTO t SELECT g, g % 3 FROM generate_series(1, 50) g")
        assert await is_quiet(node), "fifty changes are not more than the threshold"
        assert await client.run("SELECT n_mod_since_analyze, last_autoanalyze FROM pg_stat_user_tables") == [
            "n_mod_since_analyze|last_autoanalyze", "50|NULL", "(SELECT 1)",
        ]  # fmt: skip
        await client.run("INSERT INTO t VALUES (51, 0)")
        await until_analyzed(node, 1)
        stats = stats_of(node, "t")
        assert stats is not None
        assert (stats.rows, stats.columns[2].distinct) == (51.0, 3.0)
        # From now on a tenth of the rows on top.
        node.sql.autostats.rests_until_ns.clear()
        await client.run("UPDATE t SET b = 9")
        assert await is_quiet(node)
        await client.run("DELETE FROM t WHERE a <= 5")
        await until_analyzed(node, 2)
        stats = stats_of(node, "t")
        assert stats is not None
        assert (stats.rows, stats.columns[2].distinct) == (46.0, 1.0)
        client.close()

    with_node(body)


def test_single_statements_count_and_what_is_rolled_back_does_not() -> None:
    async def body(node: Node) -> None:
        client = await connected(node)
        await client.run("CREATE TABLE t (a int PRIMARY KEY)")
        await client.run("BEGIN; INSERT INTO t SELECT generate_series(1, 1000); ROLLBACK")
        assert node.sql.autostats.changes.get(table_id(node), 0) == 0
        for i in range(30):
            await client.run(f"INSERT INTO t VALUES ({i})")
        await client.run("BEGIN")
        for i in range(30, 60):
            await client.run(f"INSERT INTO t VALUES ({i})")
        assert await is_quiet(node)
        await client.run("COMMIT")
        await until_analyzed(node, 1)
        stats = stats_of(node, "t")
        assert stats is not None
        assert stats.rows == 60.0
        client.close()

    with_node(body)


def table_id(node: Node) -> int:
    return next(d.id for d in node.catalog.state.by_id.values() if getattr(d, "kind", "") == "r")


def test_a_users_analyze_ends_the_nodes_own() -> None:
    """Loads are followed by ANALYZE: the node's slow scan of the same rows would go on for nothing."""

    async def body(node: Node) -> None:
        client = await connected(node)
        auto = node.sql.autostats
        await client.run("CREATE TABLE t (a int PRIMARY KEY)")
        await client.run("INSERT INTO t SELECT generate_series(1, 20000)")
        async with asyncio.timeout(10):
            while auto.running is None:
                await asyncio.sleep(0)
        await client.run("ANALYZE t")
        running = auto.running
        assert running is None or running.context.canceled
        async with asyncio.timeout(10):
            while auto.is_waiting:
                await asyncio.sleep(0.001)
        assert auto.analyses == 0, "it was ended before it had seen every page"
        stats = stats_of(node, "t")
        assert stats is not None and stats.rows == 20000.0
        client.close()

    with_node(body)


def test_a_plan_is_made_again() -> None:
    """A join of a table thought to be empty changes its plan once it is known not to be."""

    async def body(node: Node) -> None:
        client = await connected(node)
        await client.run("CREATE TABLE t (a int PRIMARY KEY, b int); CREATE INDEX ON t (b)")
        before = await client.run("EXPLAIN (COSTS ON) SELECT * FROM t WHERE b = 1")
        await client.run("INSERT INTO t SELECT g, 1 FROM generate_series(1, 5000) g")
        await until_analyzed(node, 1)
        after = await client.run("EXPLAIN (COSTS ON) SELECT * FROM t WHERE b = 1")
        assert "rows=5000" in "\n".join(after), after
        assert before != after
        client.close()

    with_node(body)


def test_it_can_be_turned_off() -> None:
    async def body(node: Node) -> None:
        client = await connected(node)
        await client.run("CREATE TABLE t (a int PRIMARY KEY) WITH (autovacuum_enabled = false)")
        await client.run("INSERT INTO t SELECT generate_series(1, 1000)")
        async with asyncio.timeout(10):
            while not await is_quiet(node):
                await asyncio.sleep(0.001)
        assert stats_of(node, "t") is None
        assert await client.run("SET autovacuum = off") == ['ERROR 55P02: parameter "autovacuum" cannot be changed now']
        client.close()

    with_node(body)

    async def off(node: Node) -> None:
        client = await connected(node)
        await client.run("CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000)")
        assert await is_quiet(node)
        assert stats_of(node, "t") is None
        client.close()

    with_node(off, defaults={"autovacuum": "off"})
    assert session_defaults({"autovacuum": "off"})["autovacuum"] == "off"


def test_a_scan_leaves_time_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """After each page but the last, and after each column, it sleeps nine times as long as that took."""
    slept: list[float] = []

    async def body(node: Node) -> None:
        client = await connected(node)
        await client.run("CREATE TABLE t (a int PRIMARY KEY)")

        async def sleep(seconds: float) -> None:
            if seconds:
                # Zero is what long scans of anybody do: they let the loop run.
                slept.append(seconds)

        monkeypatch.setattr(node.clock, "sleep", sleep)
        # Every look at the clock takes 10 ms.
        ticks = iter(range(0, 10**15, 10_000_000))
        monkeypatch.setattr(node.clock, "monotonic_ns", lambda: next(ticks))
        await client.run("INSERT INTO t SELECT generate_series(1, 6500)")
        await until_analyzed(node, 1)
        client.close()

    with_node(body)
    assert slept == pytest.approx([0.09, 0.09, 0.09, 0.09])


def test_a_stopping_node_waits_for_no_scan() -> None:
    async def body(node: Node) -> None:
        client = await connected(node)
        await client.run("CREATE TABLE t (a int PRIMARY KEY)")
        await client.run("INSERT INTO t SELECT generate_series(1, 5000)")
        found: Any = node.sql.autostats
        async with asyncio.timeout(10):
            while found.running is None:
                await asyncio.sleep(0)
        client.close()
        await node.drain(1.0)
        async with asyncio.timeout(10):
            while found.running is not None:
                await asyncio.sleep(0)
        assert found.analyses == 0

    with_node(body)
