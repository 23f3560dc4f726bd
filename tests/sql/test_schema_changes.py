"""Schema changes on a cluster: every node plans with the newest descriptors, whoever changes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from base.keys import index_span, table_span
from planner.access import table_access
from planner.schema import TableDesc
from sql.agreement.keeper import LEASE_SECONDS
from sql.catalog.cache import scan_all
from tests.sql.cluster import Client, Cluster

QUICK_SECONDS = 3.0
"""Virtual time of a statement that waits for nobody who is gone."""


def run(body: Callable[[Cluster], Awaitable[None]], seed: int = 0, explore: bool = False) -> None:
    """Runs a test on three nodes."""
    cluster = Cluster(seed, explore)

    async def main() -> None:
        await cluster.grow(3)
        await body(cluster)
        cluster.check_bugs()

    cluster.loop.run(main())


class Asked:
    """A query whose answer is looked at later."""

    def __init__(self, cluster: Cluster, client: Client, sql: str) -> None:
        self.answer: list[str] = []
        self._task = cluster.loop.main.spawn(self._run(client, sql), "query")

    async def _run(self, client: Client, sql: str) -> None:
        self.answer = await client.run(sql)

    @property
    def is_done(self) -> bool:
        return bool(self._task.is_done())

    async def done(self) -> list[str]:
        await self._task
        return self.answer


async def every_way(cluster: Cluster, table: str, nodes: tuple[int, ...] = (1, 2, 3)) -> None:
    """Asserts that on every node the table and each of its indexes give the same rows, and that no entry is left over."""
    expected: list[str] | None = None
    for node_id in nodes:
        client = await cluster.connect(node_id)
        rows = await client.run(f"SELECT * FROM {table} ORDER BY id")
        assert not rows[0].startswith("ERROR"), rows
        expected = expected or rows
        assert rows == expected, (node_id, rows, expected)
        state = cluster.nodes[node_id].node.catalog.state
        desc = next(d for d in state.by_id.values() if isinstance(d, TableDesc) and d.kind == "r" and d.name == table)
        names = {column.id: column.name for column in desc.columns}
        await client.run("SET enable_seqscan = off")
        for index in desc.indexes[1:]:
            column = names[index.columns[0].column_id]
            at = rows[0].split("|").index(column)
            by_value: dict[str, list[str]] = {}
            for row in rows[1:-1]:
                by_value.setdefault(row.split("|")[at], []).append(row)
            for value in sorted(by_value):
                condition = f"{column} = '{value}'" if value else f"{column} IS NULL"
                plan = await client.run(f"EXPLAIN SELECT * FROM {table} WHERE {condition}")
                assert any(index.name in line for line in plan), (index.name, plan)
                found = await client.run(f"SELECT * FROM {table} WHERE {condition} ORDER BY id")
                assert found[1:-1] == by_value[value], (node_id, index.name, value, found, by_value[value])
            entries = await scan_all(
                cluster.nodes[node_id].node.kv, *index_span(desc.key_prefix_table or desc.id, index.id)
            )
            assert len(entries) == len(rows) - 2, (node_id, index.name, len(entries), len(rows) - 2)
        client.close()


async def check_stored(cluster: Cluster, table: str) -> None:
    """Asserts that every node sees the same rows, and that each index has exactly their entries."""
    expected: dict[bytes, bytes] | None = None
    for node_id in (1, 2, 3):
        node = cluster.nodes[node_id].node
        desc = next(
            d
            for d in node.catalog.state.by_id.values()
            if isinstance(d, TableDesc) and d.kind == "r" and d.name == table
        )
        access = table_access(desc)
        stored = await scan_all(node.kv, *access.span())
        entries = dict(stored)
        for index in access.secondary:
            entries.update([index.entry(access.decode_row(key, value), ()) for key, value in stored])
        assert dict(await scan_all(node.kv, *table_span(access.key_id))) == entries, node_id
        expected = expected if expected is not None else entries
        assert entries == expected, node_id


def test_a_change_is_everywhere_when_it_is_answered() -> None:
    async def body(cluster: Cluster) -> None:
        one, two, three = [await cluster.connect(id) for id in (1, 2, 3)]
        assert await one.run("CREATE TABLE t (id int PRIMARY KEY, v int)") == ["(CREATE TABLE)"]
        assert await two.run("INSERT INTO t VALUES (1, 10)") == ["(INSERT 0 1)"]
        assert await three.run("ALTER TABLE t ADD COLUMN w int DEFAULT 7") == ["(ALTER TABLE)"]
        assert await one.run("SELECT * FROM t") == ["id|v|w", "1|10|7", "(SELECT 1)"]
        assert await two.run("INSERT INTO t VALUES (2, 20, 21)") == ["(INSERT 0 1)"]
        assert await one.run("CREATE INDEX ON t (v)") == ["(CREATE INDEX)"]
        assert await three.run("SELECT w FROM t WHERE v = 20") == ["w", "21", "(SELECT 1)"]
        await every_way(cluster, "t")
        assert await two.run("ALTER TABLE t ALTER COLUMN v TYPE text") == ["(ALTER TABLE)"]
        assert await three.run("INSERT INTO t VALUES (3, 'x', 1)") == ["(INSERT 0 1)"]
        await every_way(cluster, "t")
        assert await two.run("DROP TABLE t") == ["(DROP TABLE)"]
        assert (await one.run("SELECT * FROM t"))[0].startswith("ERROR 42P01")
        assert await three.run("CREATE TABLE t (x text)") == ["(CREATE TABLE)"]
        assert await one.run("SELECT * FROM t") == ["x", "(SELECT 0)"]

    run(body)


def test_roles_databases_schemas_and_types_are_everywhere() -> None:
    async def body(cluster: Cluster) -> None:
        one, two, three = [await cluster.connect(id) for id in (1, 2, 3)]
        assert await one.run("CREATE ROLE bob LOGIN") == ["(CREATE ROLE)"]
        assert await one.run("CREATE DATABASE shop") == ["(CREATE DATABASE)"]
        bob = await cluster.connect(3, "shop", "bob")
        assert await bob.run("SELECT current_user, current_database()") == [
            "current_user|current_database", "bob|shop", "(SELECT 1)",
        ]  # fmt: skip
        assert (await two.run("DROP DATABASE shop"))[0].startswith("ERROR 55006")
        await one.run("CREATE TABLE secret (a int)")
        assert (await (await cluster.connect(2, user="bob")).run("SELECT * FROM secret"))[0].startswith("ERROR 42501")
        await three.run("GRANT SELECT ON secret TO bob")
        assert await (await cluster.connect(2, user="bob")).run("SELECT * FROM secret") == ["a", "(SELECT 0)"]
        bob.close()
        await cluster.sleep(1.0)
        assert await two.run("DROP DATABASE shop") == ["(DROP DATABASE)"]
        await one.run("CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE TABLE m (id int PRIMARY KEY, v mood)")
        assert await two.run("INSERT INTO m VALUES (1, 'sad')") == ["(INSERT 0 1)"]
        assert await three.run("ALTER TYPE mood ADD VALUE 'so-so' AFTER 'sad'") == ["(ALTER TYPE)"]
        assert await one.run("INSERT INTO m VALUES (2, 'so-so')") == ["(INSERT 0 1)"]
        assert await two.run("SELECT v FROM m ORDER BY v") == ["v", "sad", "so-so", "(SELECT 2)"]

    run(body)


def test_a_change_waits_for_the_writers_of_every_node() -> None:
    """... and writers wait for the change; what readers see is never wrong."""

    async def body(cluster: Cluster) -> None:
        one, two, three, reader = [await cluster.connect(id) for id in (1, 2, 3, 3)]
        await one.run("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)")
        await two.run("BEGIN")
        await two.run("INSERT INTO t VALUES (2, 2)")
        index = Asked(cluster, one, "CREATE INDEX t_v ON t (v)")
        await cluster.sleep(30.0)
        assert not index.is_done
        late = Asked(cluster, three, "INSERT INTO t VALUES (3, 3)")
        assert await reader.run("SELECT * FROM t") == ["id|v", "1|1", "(SELECT 1)"]
        await cluster.sleep(5.0)
        assert not late.is_done
        assert await two.run("COMMIT") == ["(COMMIT)"]
        assert await index.done() == ["(CREATE INDEX)"]
        assert await late.done() == ["(INSERT 0 1)"]
        await every_way(cluster, "t")
        for running in cluster.nodes.values():
            assert not running.node.sql.agreement.keeper.kept, running.node_id  # type: ignore[union-attr]

    run(body)


def test_a_rolled_back_or_cancelled_change_lets_writers_go_on() -> None:
    async def body(cluster: Cluster) -> None:
        one, two = [await cluster.connect(id) for id in (1, 2)]
        await one.run("CREATE TABLE t (id int PRIMARY KEY, v int)")
        await one.run("BEGIN")
        await one.run("ALTER TABLE t ADD COLUMN w int")
        late = Asked(cluster, two, "INSERT INTO t VALUES (1, 1)")
        await cluster.sleep(2.0)
        assert not late.is_done
        await one.run("ROLLBACK")
        began = cluster.seconds()
        assert await late.done() == ["(INSERT 0 1)"]
        assert cluster.seconds() - began < QUICK_SECONDS
        await two.run("BEGIN")
        await two.run("UPDATE t SET v = 2")
        await one.run("SET lock_timeout = '500ms'")
        assert (await one.run("ALTER TABLE t ADD COLUMN w int"))[0].startswith("ERROR 55P03")
        await one.run("SET lock_timeout = 0; SET statement_timeout = '500ms'")
        assert (await one.run("DROP TABLE t"))[0].startswith("ERROR 57014")
        three = await cluster.connect(3)
        began = cluster.seconds()
        assert await three.run("INSERT INTO t VALUES (5, 5)") == ["(INSERT 0 1)"]
        assert cluster.seconds() - began < QUICK_SECONDS
        await two.run("COMMIT")
        await every_way(cluster, "t")

    run(body)


def test_locks_of_tables_hold_on_every_node() -> None:
    async def body(cluster: Cluster) -> None:
        one, two, three = [await cluster.connect(id) for id in (1, 2, 3)]
        await one.run("CREATE TABLE t (id int PRIMARY KEY)")
        await one.run("BEGIN")
        await one.run("LOCK TABLE t IN EXCLUSIVE MODE")
        await two.run("BEGIN")
        assert (await two.run("LOCK TABLE t IN EXCLUSIVE MODE NOWAIT"))[0].startswith("ERROR 55P03")
        await two.run("ROLLBACK")
        late = Asked(cluster, three, "INSERT INTO t VALUES (1)")
        await cluster.sleep(1.0)
        assert not late.is_done
        assert await one.run("COMMIT") == ["(COMMIT)"]
        assert await late.done() == ["(INSERT 0 1)"]
        assert await two.run("TRUNCATE t") == ["(TRUNCATE TABLE)"]
        assert await three.run("INSERT INTO t VALUES (1)") == ["(INSERT 0 1)"]
        assert await one.run("SELECT * FROM t") == ["id", "1", "(SELECT 1)"]

    run(body)


# --- who waits for whom ---------------------------------------------------------------


def test_two_changes_of_one_table_follow_each_other() -> None:
    async def body(cluster: Cluster) -> None:
        clients = [await cluster.connect(id) for id in (1, 2, 3)]
        await clients[0].run("CREATE TABLE t (id int PRIMARY KEY)")
        asked = [Asked(cluster, client, f"ALTER TABLE t ADD COLUMN c{i} int") for i, client in enumerate(clients)]
        for one in asked:
            assert await one.done() == ["(ALTER TABLE)"]
        rows = await clients[0].run("SELECT * FROM t")
        assert sorted(rows[0].split("|")) == ["c0", "c1", "c2", "id"]
        same = [Asked(cluster, client, "CREATE TABLE u (id int)") for client in clients]
        answers = sorted([(await one.done())[0] for one in same])
        assert answers[0] == "(CREATE TABLE)"
        assert all(answer.startswith("ERROR 42P07") for answer in answers[1:]), answers

    run(body)


@pytest.mark.parametrize("nodes", [(1, 2), (2, 2), (3, 1)])
def test_changes_that_wait_for_each_other_do_not_for_ever(nodes: tuple[int, int]) -> None:
    async def body(cluster: Cluster) -> None:
        first, second = [await cluster.connect(id) for id in nodes]
        await first.run("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)")
        await first.run("BEGIN")
        await second.run("BEGIN")
        await first.run("ALTER TABLE a ADD COLUMN x int")
        await second.run("ALTER TABLE b ADD COLUMN x int")
        one = Asked(cluster, first, "ALTER TABLE b ADD COLUMN y int")
        other = Asked(cluster, second, "ALTER TABLE a ADD COLUMN y int")
        await cluster.until(lambda: one.is_done or other.is_done, 20.0)
        failed, waits, loser = (one, other, first) if one.is_done else (other, one, second)
        assert failed.answer[0].startswith("ERROR 40"), failed.answer
        await loser.run("ROLLBACK")
        assert await waits.done() == ["(ALTER TABLE)"]

    run(body)


def test_a_writer_and_a_change_that_wait_for_each_other_do_not_for_ever() -> None:
    async def body(cluster: Cluster) -> None:
        changer, writer = [await cluster.connect(id) for id in (1, 2)]
        await changer.run("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)")
        await changer.run("BEGIN")
        await writer.run("BEGIN")
        await changer.run("ALTER TABLE a ADD COLUMN x int")
        await writer.run("INSERT INTO b VALUES (1)")
        change = Asked(cluster, changer, "ALTER TABLE b ADD COLUMN y int")
        await cluster.sleep(1.0)
        write = Asked(cluster, writer, "INSERT INTO a VALUES (1)")
        await cluster.until(lambda: write.is_done or change.is_done, 20.0)
        assert (write if write.is_done else change).answer[0].startswith("ERROR 40")
        await (writer if write.is_done else changer).run("ROLLBACK")
        await write.done()
        await change.done()
        # Both hold the table as writers and want it for themselves.
        await changer.run("ROLLBACK")
        await writer.run("ROLLBACK")
        await changer.run("BEGIN")
        await writer.run("BEGIN")
        await changer.run("INSERT INTO a VALUES (11)")
        await writer.run("INSERT INTO a VALUES (12)")
        one, other = [Asked(cluster, client, "ALTER TABLE a ADD COLUMN z int") for client in (changer, writer)]
        await cluster.until(lambda: one.is_done or other.is_done, 20.0)
        failed, waits, loser = (one, other, changer) if one.is_done else (other, one, writer)
        assert failed.answer[0].startswith("ERROR 40"), failed.answer
        await loser.run("ROLLBACK")
        assert await waits.done() == ["(ALTER TABLE)"]

    run(body)


# --- nodes that are gone ----------------------------------------------------------------


def test_a_node_that_died_is_waited_out_and_learns_what_it_missed() -> None:
    async def body(cluster: Cluster) -> None:
        one, three = [await cluster.connect(id) for id in (1, 3)]
        await one.run("CREATE TABLE t (id int PRIMARY KEY, v int)")
        await three.run("BEGIN")
        await three.run("INSERT INTO t VALUES (1, 1)")
        cluster.crash(3)
        began = cluster.seconds()
        assert await one.run("CREATE INDEX t_v ON t (v)") == ["(CREATE INDEX)"]
        assert cluster.seconds() - began < LEASE_SECONDS + 10.0
        began = cluster.seconds()
        assert await one.run("ALTER TABLE t ADD COLUMN w int") == ["(ALTER TABLE)"]
        assert cluster.seconds() - began < QUICK_SECONDS
        await cluster.restart(3)
        three = await cluster.connect(3)
        assert await three.run("INSERT INTO t VALUES (2, 2, 2)") == ["(INSERT 0 1)"]
        await every_way(cluster, "t")

    run(body)


@pytest.mark.parametrize("when", [0.0, 0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.05])
def test_a_change_whose_node_dies_leaves_nothing_behind(when: float) -> None:
    """Whether it had committed or not: writers go on, all nodes have the same, and it can be made again."""

    async def body(cluster: Cluster) -> None:
        one, two = [await cluster.connect(id) for id in (1, 2)]
        await one.run(
            "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT g, g % 7 FROM generate_series(1, 300) g"
        )
        Asked(cluster, one, "CREATE INDEX t_v ON t (v)")
        await cluster.sleep(when)
        cluster.crash(1)
        began = cluster.seconds()
        assert await two.run("INSERT INTO t VALUES (1000, 3)") == ["(INSERT 0 1)"]
        assert cluster.seconds() - began < LEASE_SECONDS + 15.0
        await every_way(cluster, "t", (2, 3))
        again = await two.run("CREATE INDEX IF NOT EXISTS t_v ON t (v)")
        assert again[-1] == "(CREATE INDEX)", again
        await cluster.restart(1)
        assert await (await cluster.connect(1)).run("DELETE FROM t WHERE v = 3 AND id < 100") == ["(DELETE 14)"]
        await every_way(cluster, "t")

    run(body)


def test_a_node_that_is_cut_off_can_do_nothing_with_an_old_catalog() -> None:
    """Its lease runs out, its writers lose, and it learns of the change before it goes on."""

    async def body(cluster: Cluster) -> None:
        one, three, idle, named = [await cluster.connect(id) for id in (1, 3, 3, 3)]
        await one.run("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)")
        await three.run("BEGIN")
        assert await three.run("INSERT INTO t VALUES (2, 2)") == ["(INSERT 0 1)"]
        assert await idle.run("SELECT * FROM t") == ["id|v", "1|1", "(SELECT 1)"]
        for other in (1, 2):
            cluster.network.conditions.cut(3, other)
            cluster.network.conditions.cut(other, 3)
        assert await one.run("CREATE INDEX t_v ON t (v)") == ["(CREATE INDEX)"]
        assert await one.run("INSERT INTO t VALUES (3, 3)") == ["(INSERT 0 1)"]
        assert await one.run("CREATE TABLE young (a int)") == ["(CREATE TABLE)"]
        cut = Asked(cluster, idle, "SELECT * FROM t")
        await cluster.sleep(2.0)
        assert not cut.is_done
        young = Asked(cluster, named, "SELECT * FROM young")
        cluster.network.conditions.heal_all()
        answer = await three.run("COMMIT")
        assert answer[0].startswith("ERROR 40001"), answer
        assert await young.done() == ["a", "(SELECT 0)"]
        assert (await cut.done())[-1] in ("(SELECT 2)",), cut.answer
        assert await three.run("INSERT INTO t VALUES (4, 4)") == ["(INSERT 0 1)"]
        await every_way(cluster, "t")

    run(body)


# --- what has no table ------------------------------------------------------------------


def test_sequences_give_no_value_twice_and_setval_reaches_all() -> None:
    async def body(cluster: Cluster) -> None:
        clients = [await cluster.connect(id) for id in (1, 2, 3)]
        await clients[0].run(
            "CREATE TABLE t (id serial PRIMARY KEY, n int); CREATE SEQUENCE s INCREMENT 5 MINVALUE 0 START 0"
        )
        for step in range(40):
            for client in clients:
                assert await client.run(f"INSERT INTO t (n) VALUES ({step})") == ["(INSERT 0 1)"]
        assert await clients[1].run("SELECT count(DISTINCT id) FROM t") == ["count", "120", "(SELECT 1)"]
        values = [int((await client.run("SELECT nextval('s')"))[1]) for client in clients for _ in range(50)]
        assert len(set(values)) == len(values)
        assert min(values) == 0
        assert all(value % 5 == 0 for value in values)
        assert await clients[1].run("SELECT setval('s', 100000)") == ["setval", "100000", "(SELECT 1)"]
        values = [int((await client.run("SELECT nextval('s')"))[1]) for client in clients for _ in range(5)]
        assert len(set(values)) == len(values)
        assert min(values) == 100_005
        await clients[2].run("ALTER SEQUENCE s RESTART WITH 7")
        assert (await clients[0].run("SELECT nextval('s')"))[1] == "7"
        await clients[0].run("CREATE SEQUENCE few MAXVALUE 5")
        given = [(await client.run("SELECT nextval('few')"))[-2:][0] for client in clients for _ in range(2)]
        assert given[:2] == ["1", "2"]
        assert all(answer.startswith("ERROR 2200H") for answer in given[2:]), given

    run(body)


def test_hidden_row_ids_differ_between_nodes() -> None:
    async def body(cluster: Cluster) -> None:
        clients = [await cluster.connect(id) for id in (1, 2, 3)]
        await clients[0].run("CREATE TABLE t (n int)")
        asked = [Asked(cluster, client, "INSERT INTO t SELECT g FROM generate_series(1, 500) g") for client in clients]
        for one in asked:
            assert await one.done() == ["(INSERT 0 500)"]
        assert await clients[2].run("SELECT count(DISTINCT rowid) FROM t") == ["count", "1500", "(SELECT 1)"]

    run(body)


def test_temporary_tables_of_sessions_with_one_number_do_not_meet() -> None:
    async def body(cluster: Cluster) -> None:
        clients = [await cluster.connect(id) for id in (1, 2, 3)]
        for number, client in enumerate(clients):
            assert await client.run(f"CREATE TEMP TABLE t AS SELECT {number} AS n") == ["(SELECT 1)"]
        for number, client in enumerate(clients):
            assert await client.run("SELECT n FROM t") == ["n", str(number), "(SELECT 1)"]
        cluster.crash(2)
        await cluster.restart(2)
        assert await clients[0].run("SELECT n FROM t") == ["n", "0", "(SELECT 1)"]
        assert await clients[2].run("SELECT n FROM t") == ["n", "2", "(SELECT 1)"]
        names = await clients[0].run("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'pg_temp_%'")
        assert names == ["count", "2", "(SELECT 1)"]

    run(body)


def test_statistics_are_known_everywhere_and_made_by_one_node() -> None:
    async def body(cluster: Cluster) -> None:
        clients = [await cluster.connect(id) for id in (1, 2, 3)]
        await clients[0].run("CREATE TABLE t (id int PRIMARY KEY, v int)")
        await clients[2].run("INSERT INTO t SELECT g, g % 3 FROM generate_series(1, 400) g")
        table_id = int((await clients[1].run("SELECT 't'::regclass::oid"))[1])
        servers = [cluster.nodes[id].node.sql for id in (1, 2, 3)]
        await cluster.until(lambda: all(table_id in server.catalog.stats for server in servers), 30.0)
        assert [server.catalog.stats[table_id].rows for server in servers] == [400.0, 400.0, 400.0]
        assert [server.autostats.analyses for server in servers] == [1, 0, 0]
        await clients[1].run("INSERT INTO t SELECT g, g % 3 FROM generate_series(401, 1000) g; ANALYZE t")
        await cluster.until(lambda: all(server.catalog.stats[table_id].rows == 1000.0 for server in servers), 30.0)

    run(body)
