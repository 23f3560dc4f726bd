"""What an application can test with a simulated cluster; the examples of docs/testing.md are among these."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

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
    assert len(blocks) == 4
    for block in blocks:
        names = {}
        exec(compile(block.partition("```")[0], "docs/testing.md", "exec"), names)
        tests = [value for name, value in names.items() if name.startswith("test_")]
        assert tests
        for test in tests:
            for seed in (1, 2):
                test(seed=seed)


THREE = {"regions": ("eu", "us", "asia"), "schema": ("CREATE TABLE rows (id int PRIMARY KEY, n int)",)}


@simulated(seeds=2, **THREE)
async def test_a_region_dies_and_nothing_is_lost(cluster: Cluster):
    connection = await cluster.connect(autocommit=True, region="us")
    for number in range(5):
        await connection.execute("INSERT INTO rows VALUES (%s, 0)", (number,))
    cluster.node("eu").crash(is_silent=True)
    done = await connection.execute("INSERT INTO rows VALUES (5, 0) RETURNING id")
    assert await done.fetchone() == (5,)
    await cluster.node("eu").restart()
    other = await cluster.connect(region="eu")
    found = await other.execute("SELECT count(*) FROM rows")
    assert await found.fetchone() == (6,)


@simulated(**THREE)
async def test_a_minority_cannot_write(cluster: Cluster):
    cluster.network.partition("eu")
    alone = await cluster.connect(autocommit=True, region="eu")
    many = await cluster.connect(autocommit=True, region="us")
    await many.execute("INSERT INTO rows VALUES (1, 1)")
    with pytest.raises(psycopg.Error):
        await alone.execute("INSERT INTO rows VALUES (2, 2)")
    cluster.network.heal()
    found = await (await cluster.connect(region="asia")).execute("SELECT id FROM rows ORDER BY id")
    assert await found.fetchall() in ([(1,)], [(1,), (2,)])


@simulated(regions=("eu", "us"), nodes=2, rtt_ms={"eu": {"us": 80.0}}, schema=THREE["schema"])
async def test_round_trips_take_their_time(cluster: Cluster):
    assert [repr(node) for node in cluster.nodes] == [
        "<node 0 of eu>", "<node 0 of us>", "<node 1 of eu>", "<node 1 of us>"
    ]  # fmt: skip
    connection = await cluster.connect(autocommit=True)
    cluster.network.delay(0.3)
    started = cluster.now
    await connection.execute("INSERT INTO rows VALUES (1, 1)")
    assert cluster.now - started > 0.6, "a quorum has nodes elsewhere"
    cluster.network.heal()


@simulated(seeds=2, **THREE)
async def test_a_storm_over_a_cluster(cluster: Cluster):
    told = [0]
    cluster.storm(5.0, "crash", "partition", "one-way", "pause", "skew", "transfer", "loss")

    async def client(region: str, id: int) -> None:
        while cluster.now < 25.0:
            try:
                own = await cluster.connect(autocommit=True, region=region)
                await own.execute(
                    "INSERT INTO rows VALUES (%s, 1) ON CONFLICT (id) DO UPDATE SET n = rows.n + 1", (id,)
                )
                told[0] += 1
            except psycopg.Error:
                pass
            await cluster.sleep(0.2)

    await cluster.gather(client("eu", 1), client("us", 2))
    await cluster.heal()
    found = await (await cluster.connect()).execute("SELECT coalesce(sum(n), 0) FROM rows")
    total = await found.fetchone()
    assert total is not None and total[0] >= told[0] > 0


def test_a_fault_that_one_node_cannot_have_is_refused():
    cluster = Cluster(1)
    with pytest.raises(LookupError):
        cluster.storm(1.0, "partition")
    with pytest.raises(LookupError):
        cluster.network.lose(0.5)
    with pytest.raises(LookupError):
        cluster.network.partition("mars")
