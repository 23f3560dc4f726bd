"""What an application can test with a simulated cluster; the examples of docs/testing.md are among these."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from base.errors import FeatureNotSupported
from meridian.testing import Cluster, cluster, simulated

assert cluster, "a fixture"


async def prepare(cluster, accounts=4):
    connection = await cluster.connect(autocommit=True)
    await connection.execute("CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL CHECK (balance >= 0))")
    for number in range(accounts):
        await connection.execute("INSERT INTO accounts VALUES (%s, %s)", (number, 100))
    return connection


async def transfer(cluster, source, target, amount):
    """As an application does it: again after a conflict, a lost connection is told to the caller."""
    connection = await cluster.connect()
    while True:
        try:
            async with connection.transaction():
                await connection.execute("UPDATE accounts SET balance = balance - %s WHERE id = %s", (amount, source))
                await connection.execute("UPDATE accounts SET balance = balance + %s WHERE id = %s", (amount, target))
            return
        except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
            await cluster.sleep(0.01)


def test_a_fixture_and_a_coroutine(cluster):
    """Rows come back as psycopg gives them."""

    async def scenario():
        connection = await prepare(cluster)
        found = await connection.execute(
            "SELECT id, balance * 1.5 AS more, NULL, true, now() > %s::timestamptz FROM accounts WHERE id = %(id)s".replace(
                "%s", "%(then)s"
            ),
            {"id": 2, "then": "2020-01-01"},
        )
        assert found.columns[:2] == ["id", "more"]
        row = await found.fetchone()
        assert [str(value) for value in row] == ["2", "150.0", "None", "True", "True"]
        assert await found.fetchone() is None
        with pytest.raises(psycopg.errors.UniqueViolation, match="duplicate key"):
            await connection.execute("INSERT INTO accounts VALUES (1, 1)")
        changed = await connection.execute("UPDATE accounts SET balance = 7")
        assert (changed.rowcount, changed.statusmessage) == (4, "UPDATE 4")

    cluster.run(scenario())


@simulated(seeds=5)
async def test_transfers_keep_the_total(cluster):
    """Side by side, in an order that the seed chooses."""
    connection = await prepare(cluster)
    await cluster.gather(*[transfer(cluster, number % 4, (number + 1) % 4, 5) for number in range(8)])
    rows = await (await connection.execute("SELECT sum(balance) FROM accounts")).fetchall()
    assert rows == [(400,)]


@simulated(seeds=5)
async def test_what_was_acknowledged_survives_a_crash(cluster):
    """A client that lost its connection does not know; the row may be there."""
    connection = await cluster.connect(autocommit=True)
    await connection.execute("CREATE TABLE notes (id int PRIMARY KEY)")
    acknowledged = []

    async def write():
        for number in range(1000):
            await connection.execute("INSERT INTO notes VALUES (%s)", (number,))
            acknowledged.append(number)

    writing = cluster.spawn(write())
    await cluster.sleep(cluster.random.between(0.1, 1.0))
    cluster.node().crash()
    with pytest.raises(psycopg.OperationalError):
        await writing
    with pytest.raises(psycopg.OperationalError):
        await cluster.connect()
    await cluster.node().restart()
    connection = await cluster.connect()
    found = [row[0] async for row in await connection.execute("SELECT id FROM notes ORDER BY id")]
    assert found[: len(acknowledged)] == acknowledged
    assert len(found) <= len(acknowledged) + 1


@simulated(seeds=3)
async def test_a_storm_and_what_comes_after(cluster):
    """Faults of many kinds; then everybody gets on."""
    await prepare(cluster)
    cluster.storm(5.0, "reset", "crash", "pause", "slow-disk", "write-stall", "cut-replies")

    async def client():
        while cluster.now < 6.0:
            try:
                await transfer(cluster, cluster.random.below(4), cluster.random.below(4), 1)
            except psycopg.Error:
                await cluster.sleep(0.05)

    await cluster.gather(*[client() for _ in range(3)])
    await cluster.heal()
    connection = await cluster.connect()
    assert await (await connection.execute("SELECT sum(balance) FROM accounts")).fetchone() == (400,)


@simulated()
async def test_verbs(cluster):
    """Every fault of a node can be made and unmade."""
    connection = await prepare(cluster)
    node = cluster.node()
    node.pause()
    before = cluster.now
    reading = cluster.spawn(connection.execute("SELECT 1"))
    await cluster.sleep(2.0)
    node.resume()
    await reading
    assert cluster.now - before >= 2.0
    node.slow_disk(200)
    await connection.execute("UPDATE accounts SET balance = 1 WHERE id = 1")
    node.slow_disk(1)
    node.jump_clock(3.0)
    node.stall_disk()
    writing = cluster.spawn(connection.execute("UPDATE accounts SET balance = 2 WHERE id = 1"))
    await cluster.sleep(0.5)
    node.stall_disk(False)
    try:
        await writing
    except psycopg.Error:
        assert not connection.closed
    cluster.network.cut(requests=False)
    late = cluster.spawn(connection.execute("SELECT 2"))
    await cluster.sleep(3.0)
    assert not late.is_done()
    cluster.network.heal()
    assert await (await late).fetchall() == [(2,)]
    node.fail_sync()
    with pytest.raises(psycopg.Error):
        await connection.execute("UPDATE accounts SET balance = 3 WHERE id = 1")
    await cluster.sleep(5.0)
    await cluster.heal()
    assert node.is_up


def test_one_seed_is_one_run():
    def once(seed):
        cluster = Cluster(seed)

        async def scenario():
            await prepare(cluster)
            await cluster.gather(*[transfer(cluster, 0, number, 1) for number in (1, 2, 3)])

        cluster.run(scenario())
        return cluster.world.fingerprint()

    assert once(3) == once(3)
    assert once(3) != once(4)


def test_a_failure_names_its_seed():
    cluster = Cluster(17)

    async def scenario():
        await prepare(cluster)
        raise ValueError("of the test")

    with pytest.raises(ValueError, match="of the test") as caught:
        cluster.run(scenario())
    assert caught.value.__notes__[0].startswith("MERIDIAN_SEED=17\n")


def test_the_examples_of_the_document_run():
    """Every Python block of docs/testing.md, each test of it with two seeds."""
    blocks = Path("docs/testing.md").read_text().split("```python\n")[1:]
    assert len(blocks) == 3
    for block in blocks:
        names = {}
        exec(compile(block.partition("```")[0], "docs/testing.md", "exec"), names)
        tests = [value for name, value in names.items() if name.startswith("test_")]
        assert tests
        for test in tests:
            for seed in (1, 2):
                test(seed=seed)


def test_several_nodes_are_refused_for_now():
    with pytest.raises(FeatureNotSupported):
        Cluster(1, regions=("eu", "us"), nodes=3)
