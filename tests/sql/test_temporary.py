"""What becomes of temporary tables when their session ends, by itself or in a crash; the rest is in scripts/postgres/temporary."""

from __future__ import annotations

import asyncio

from kvtier.engine.memory import MemoryEngine
from node.process import Node, NodeSettings
from node.world import LoopScheduler, SystemClock, SystemRng, run
from planner.schema import SchemaDesc
from tests.inprocess import Client, with_node


def temporary_schemas(node: Node) -> list[str]:
    found = [d.name for d in node.catalog.state.by_id.values() if isinstance(d, SchemaDesc)]
    return [name for name in found if name.startswith("pg_temp_")]


async def connected(node: Node) -> Client:
    client = Client(node)
    await client.until_ready()
    return client


async def until_gone(node: Node) -> None:
    async with asyncio.timeout(10):
        while node.sql.sessions:
            await asyncio.sleep(0)


def test_they_go_with_their_session() -> None:
    async def body(node: Node) -> None:
        client = await connected(node)
        await client.run("CREATE TEMP TABLE t (a serial PRIMARY KEY); INSERT INTO t DEFAULT VALUES")
        await client.run("BEGIN; CREATE TEMP VIEW v AS SELECT * FROM t")
        assert len(temporary_schemas(node)) == 1
        client.close()
        await until_gone(node)
        assert temporary_schemas(node) == []
        other = await connected(node)
        assert await other.run("SELECT count(*) FROM pg_class WHERE relname IN ('t', 'v', 't_a_seq')") == [
            "count",
            "0",
            "(SELECT 1)",
        ]
        other.close()

    with_node(body)


def test_a_session_sees_only_its_own_in_the_same_text() -> None:
    """Two sessions send the same text: their plans must not be mixed up."""

    async def body(node: Node) -> None:
        first, second = await connected(node), await connected(node)
        for client, value in ((first, 1), (second, 2)):
            await client.run(f"CREATE TEMP TABLE t (a int PRIMARY KEY); INSERT INTO t VALUES ({value})")
        for _ in range(2):
            assert await first.run("SELECT a FROM t WHERE a > 0") == ["a", "1", "(SELECT 1)"]
            assert await second.run("SELECT a FROM t WHERE a > 0") == ["a", "2", "(SELECT 1)"]
            assert await first.run("SELECT a FROM t WHERE a = 2") == ["a", "(SELECT 0)"]
            assert await second.run("SELECT a FROM t WHERE a = 2") == ["a", "2", "(SELECT 1)"]
        schema = (await first.run("SELECT nspname FROM pg_namespace WHERE oid = pg_my_temp_schema()"))[1]
        refusal = ["ERROR 0A000: cannot access temporary tables of other sessions"]
        assert await second.run(f"SELECT * FROM {schema}.t") == refusal
        assert await second.run(f"DELETE FROM {schema}.t") == refusal
        first.close()
        second.close()

    with_node(body)


def test_a_crash_leaves_none() -> None:
    """The session of before the crash cannot drop them; the start of the node does."""

    async def main(scheduler: LoopScheduler) -> None:
        async def started(engine: MemoryEngine) -> Node:
            node = Node(engine, SystemClock(), SystemRng(), scheduler, NodeSettings(insecure=True))
            await node.open()
            return node

        engine = MemoryEngine()
        before = await started(engine)
        client = await connected(before)
        await client.run("CREATE TEMP TABLE t (a int PRIMARY KEY); INSERT INTO t VALUES (1); CREATE TABLE kept (a int)")
        assert len(temporary_schemas(before)) == 1
        after = await started(engine.crash(SystemRng()))
        assert temporary_schemas(after) == []
        other = await connected(after)
        assert await other.run("SELECT relname FROM pg_class WHERE relname IN ('t', 'kept')") == [
            "relname",
            "kept",
            "(SELECT 1)",
        ]

    run(main)
