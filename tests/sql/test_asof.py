"""AS OF SYSTEM TIME against timestamps the server told: no clock of the test's own."""

from __future__ import annotations

from node.process import Node
from tests.inprocess import Client, with_node


def test_reads_as_of_the_timestamps_told() -> None:
    """A number, its hexadecimal form and a transaction's own time all name the same moment."""

    async def body(node: Node) -> None:
        client = Client(node)
        await client.until_ready()
        await client.run("CREATE TABLE t (a int PRIMARY KEY, v int)")
        await client.run("INSERT INTO t VALUES (1, 10)")
        before = node.sql.kv.now()
        await client.run("UPDATE t SET v = 11 WHERE a = 1")
        told = [str(before), f"'{before}'", f"'{before:016x}'"]
        for written in told:
            assert await client.run(f"SELECT v FROM t AS OF SYSTEM TIME {written}") == ["v", "10", "(SELECT 1)"]
            assert await client.run(f"SELECT v FROM t AS OF SYSTEM TIME {written} WHERE a = 1") == [
                "v",
                "10",
                "(SELECT 1)",
            ]
        assert await client.run(f"BEGIN AS OF SYSTEM TIME {before}") == ["(BEGIN)"]
        assert await client.run("SELECT v FROM t WHERE a = 1") == ["v", "10", "(SELECT 1)"]
        assert await client.run("COMMIT") == ["(COMMIT)"]
        assert await client.run("SELECT v FROM t WHERE a = 1") == ["v", "11", "(SELECT 1)"]

    with_node(body)
