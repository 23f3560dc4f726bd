"""SPLIT AT and what takes it back."""

from __future__ import annotations

from kvtier.descriptors import KEY_MAX
from node.process import Node
from tests.inprocess import Client, with_node


def borders_by_hand(node: Node) -> list[bytes]:
    descriptors = [replica.descriptor for replica in node.store.ranges.over(b"", KEY_MAX)]
    return sorted([descriptor.start for descriptor in descriptors if descriptor.is_sticky])


def test_unsplit_all_gives_up_the_borders_of_one_index() -> None:
    async def body(node: Node) -> None:
        client = Client(node)
        await client.until_ready()
        await client.run(
            "CREATE TABLE t (a int PRIMARY KEY, b int); CREATE INDEX i ON t (b); CREATE TABLE u (a int PRIMARY KEY)"
        )
        await client.run("ALTER TABLE t SPLIT AT VALUES (1), (2), (3)")
        assert await client.run("ALTER INDEX t@i SPLIT AT VALUES (5)") == ["(ALTER INDEX)"]
        assert await client.run("ALTER INDEX i SPLIT AT VALUES (6)") == ["(ALTER INDEX)"]
        await client.run("ALTER TABLE u SPLIT AT VALUES (7)")
        before = borders_by_hand(node)
        assert len(before) == 6
        assert await client.run("ALTER TABLE t UNSPLIT AT VALUES (2)") == ["(ALTER TABLE)"]
        assert len(borders_by_hand(node)) == 5
        assert await client.run("ALTER TABLE t UNSPLIT ALL") == ["(ALTER TABLE)"]
        assert borders_by_hand(node) == before[3:]
        await client.run("ALTER INDEX t@i UNSPLIT ALL")
        assert borders_by_hand(node) == before[5:]
        client.close()

    with_node(body)
