"""Long statements let others have their turn between two batches."""

from __future__ import annotations

import pytest

from node.process import Node
from tests.inprocess import Client, render, with_node

ROWS = 60_000
LONG = {
    "function": f"SELECT count(*) FROM generate_series(1, {20 * ROWS})",
    "scan": "SELECT count(*) FROM t a WHERE v || 'x' = 'x'",
    "insert": f"INSERT INTO t SELECT i, 'w' FROM generate_series({ROWS + 1}, {3 * ROWS}) i",
    "update": "UPDATE t SET v = 'w'",
    "delete": "DELETE FROM t",
    "index": "CREATE INDEX ON t (v)",
    "analyze": "ANALYZE t",
}


@pytest.mark.parametrize("name", sorted(LONG))
def test_others_are_served_meanwhile(name: str) -> None:
    async def body(node: Node) -> None:
        client, other = Client(node), Client(node)
        await client.until_ready()
        await other.until_ready()
        await client.run("CREATE TABLE t (id int PRIMARY KEY, v text)")
        await client.run(f"INSERT INTO t SELECT i, 'v' FROM generate_series(1, {ROWS}) i")
        await client.run("CREATE TABLE u (id int PRIMARY KEY)")
        client.send(LONG[name])
        assert not client.io.received
        for i in range(3):
            assert await other.run(f"INSERT INTO u VALUES ({i})") == ["(INSERT 0 1)"]
            assert not client.io.received, "the long statement was over"
        assert not render(await client.until_ready(60))[0].startswith("ERROR")
        client.close()
        other.close()

    with_node(body, defaults={"autovacuum": "off"})
