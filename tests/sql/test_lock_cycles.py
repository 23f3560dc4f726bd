"""Deadlocks of which one wait is for a table and another for a row (``sql.lockcycles``)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kvtier.messages import Isolation, Lock
from node.process import Node
from tests.inprocess import Client, with_node
from tests.sql.cluster import Cluster

TABLES = (
    "CREATE ROLE r; CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE u (id int PRIMARY KEY, v int);"
    "INSERT INTO t VALUES (1, 1); INSERT INTO u VALUES (1, 1)"
)
STORIES = {
    # What the one has done, what the other waits for while the one waits for the last.
    "descriptor": (
        ("BEGIN", "GRANT SELECT ON t TO r"),
        ("BEGIN",),
        "ALTER TABLE t ADD COLUMN b int",
        "ALTER TABLE t ADD COLUMN a int",
    ),
    "rows": (
        ("BEGIN", "UPDATE u SET v = 2"),
        ("BEGIN", "UPDATE t SET v = 2"),
        "UPDATE u SET v = 3",
        "ALTER TABLE t ADD COLUMN a int",
    ),
}


def check(first: list[str], second: list[str]) -> None:
    """Whoever waits for the table gives way, and so the other goes on."""
    assert first[0].startswith("ERROR 40P01"), first
    assert not second[0].startswith("ERROR"), second


@pytest.mark.parametrize("name", STORIES)
@pytest.mark.parametrize("places", [(1, 1), (1, 2), (3, 1)])
def test_in_a_cluster(name: str, places: tuple[int, int]) -> None:
    """Both waited until a client gave up: seed 6207 of sql-ddl."""
    cluster = Cluster()

    async def main() -> None:
        await cluster.grow(3)
        one, other = [await cluster.connect(place) for place in places]
        await one.run(TABLES)
        await cluster.sleep(10.0)
        before, before_other, waits, last = STORIES[name]
        for statement in before:
            await one.run(statement)
        for statement in before_other:
            await other.run(statement)
        told: list[Any] = []

        async def wait() -> None:
            told.append(await other.run(waits))

        cluster.loop.main.spawn(wait(), "other")
        await cluster.sleep(0.5)
        began = cluster.seconds()
        first = await one.run(last)
        assert cluster.seconds() - began < 10.0
        await one.run("ROLLBACK")
        await cluster.until(lambda: bool(told), 10.0)
        check(first, told[0])
        cluster.check_bugs()

    cluster.loop.run(main())


def test_a_name_is_no_snapshot() -> None:
    """A schema change says who it is before it has its fence; what it reads begins after: seed 7052 of sql-queue."""

    async def main(node: Node) -> None:
        txn = node.coordinator.begin(Isolation.REPEATABLE_READ)
        name = txn.identity().id
        assert (txn.read_ts, txn.known_as, txn.identity().id) == (0, name, name)
        txn.put(b"\x05test", b"x")
        found = txn.get(b"\x05other", Lock.EXCLUSIVE)
        assert found is None
        assert txn.read_ts
        assert txn.known_as == name
        assert txn.identity().anchor
        txn.rollback()

    with_node(main)


@pytest.mark.parametrize("name", STORIES)
def test_on_one_node(name: str) -> None:
    async def main(node: Node) -> None:
        one, other = Client(node), Client(node)
        for client in (one, other):
            await client.until_ready()
        await one.run(TABLES)
        before, before_other, waits, last = STORIES[name]
        for statement in before:
            await one.run(statement)
        for statement in before_other:
            await other.run(statement)
        waiting = asyncio.ensure_future(other.run(waits))
        await asyncio.sleep(0.05)
        async with asyncio.timeout(10.0):
            first = await one.run(last)
            await one.run("ROLLBACK")
            check(first, await waiting)

    with_node(main)
