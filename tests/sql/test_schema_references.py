"""Schema changes of objects that only refer to each other: whoever is later sees it, and nothing refers to what is gone.

PostgreSQL has the later one wait for the earlier one's transaction; here the one that commits later cannot, or, if it
is a statement of its own, runs again and gives the error of that order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import pytest

from node.process import Node
from sql.catalog.references import dangling
from tests.inprocess import Client, with_node
from tests.sql.cluster import Cluster
from tests.sql.test_schema_changes import run


class Pair(NamedTuple):
    """Two statements of which only one can have happened first."""

    set_up: str
    refer: str
    remove: str
    refused: str
    """SQLSTATE of ``remove`` after ``refer``."""
    missing: str
    """SQLSTATE of ``refer`` after ``remove``."""


PAIRS = {
    "schema of a table": Pair("CREATE SCHEMA s", "CREATE TABLE s.t (id int PRIMARY KEY)", "DROP SCHEMA s", "2BP01", "3F000"),
    "schema of a type": Pair("CREATE SCHEMA s", "CREATE TYPE s.e AS ENUM ('a')", "DROP SCHEMA s", "2BP01", "3F000"),
    "schema of a moved table": Pair(
        "CREATE SCHEMA s; CREATE TABLE t (id int PRIMARY KEY)", "ALTER TABLE t SET SCHEMA s", "DROP SCHEMA s", "2BP01", "3F000"
    ),
    "type of a column": Pair("CREATE TYPE e AS ENUM ('a')", "CREATE TABLE t (v e)", "DROP TYPE e", "2BP01", "42704"),
    "type of an added column": Pair(
        "CREATE TYPE e AS ENUM ('a'); CREATE TABLE t (id int)", "ALTER TABLE t ADD COLUMN v e[]", "DROP TYPE e", "2BP01", "42704"
    ),
    "sequence of a default": Pair(
        "CREATE SEQUENCE q", "CREATE TABLE t (id bigint DEFAULT nextval('q'))", "DROP SEQUENCE q", "2BP01", "42P01"
    ),
    "sequence of a later default": Pair(
        "CREATE SEQUENCE q; CREATE TABLE t (id bigint)", "ALTER TABLE t ALTER COLUMN id SET DEFAULT nextval('q')",
        "DROP SEQUENCE q", "2BP01", "42P01",
    ),
    "table of a view": Pair("CREATE TABLE t (a int, b int)", "CREATE VIEW v AS SELECT a FROM t", "DROP TABLE t", "2BP01", "42P01"),
    "view of a view": Pair(
        "CREATE TABLE t (a int); CREATE VIEW v AS SELECT a FROM t", "CREATE VIEW w AS SELECT a FROM v", "DROP VIEW v", "2BP01", "42P01"
    ),
    "column of a view": Pair(
        "CREATE TABLE t (a int, b int)", "CREATE VIEW v AS SELECT a FROM t", "ALTER TABLE t DROP COLUMN a", "2BP01", "42703"
    ),
    "table of a foreign key": Pair(
        "CREATE TABLE t (a int PRIMARY KEY)", "CREATE TABLE u (a int REFERENCES t)", "DROP TABLE t", "2BP01", "42P01"
    ),
    "column of a foreign key": Pair(
        "CREATE TABLE t (id int PRIMARY KEY, a int UNIQUE)", "CREATE TABLE u (a int REFERENCES t (a))",
        "ALTER TABLE t DROP COLUMN a", "2BP01", "42703",
    ),
    "grantee": Pair("CREATE ROLE r; CREATE TABLE t (a int)", "GRANT SELECT ON t TO r", "DROP ROLE r", "2BP01", "42704"),
    "owner": Pair("CREATE ROLE r; CREATE TABLE t (a int)", "ALTER TABLE t OWNER TO r", "DROP ROLE r", "2BP01", "42704"),
    "renamed owner": Pair(
        "CREATE ROLE r; CREATE TABLE t (a int)", "ALTER TABLE t OWNER TO r", "ALTER ROLE r RENAME TO r2", "", "42704"
    ),
}  # fmt: skip


def story(body: Callable[[Node, Client, Client], Awaitable[None]]) -> None:
    """Runs a test with two sessions; no reference may dangle after it."""

    async def main(node: Node) -> None:
        clients = [Client(node), Client(node)]
        for client in clients:
            await client.until_ready()
        await body(node, *clients)
        assert dangling(node.catalog.state) == []

    with_node(main)


def is_error(answer: list[str], *states: str) -> bool:
    return any(answer[0].startswith(f"ERROR {state}") for state in states)


@pytest.mark.parametrize("name", PAIRS)
def test_one_after_the_other(name: str) -> None:
    """What the pairs mean: in either order the second one is refused."""
    pair = PAIRS[name]

    async def body(node: Node, one: Client, two: Client) -> None:
        await one.run(pair.set_up)
        await one.run("BEGIN")
        assert not is_error(await one.run(pair.remove), ""), pair
        assert is_error(await one.run(pair.refer), pair.missing)
        await one.run("ROLLBACK")
        assert not is_error(await one.run(pair.refer), "")
        assert is_error(await two.run(pair.remove), pair.refused) == bool(pair.refused)

    story(body)


@pytest.mark.parametrize("alone", [False, True], ids=["both in blocks", "one alone"])
@pytest.mark.parametrize("order", ["refer first", "remove first"])
@pytest.mark.parametrize("name", PAIRS)
def test_two_sessions(name: str, order: str, alone: bool) -> None:
    pair = PAIRS[name]
    first, second = (pair.refer, pair.remove) if order == "refer first" else (pair.remove, pair.refer)

    async def body(node: Node, one: Client, two: Client) -> None:
        await one.run(pair.set_up)
        await one.run("BEGIN")
        assert not is_error(await one.run(first), "")
        if not alone:
            await two.run("BEGIN")
        other = asyncio.ensure_future(two.run(second))
        # It waits for the first one's end where both lock a table, and is done at once where they do not.
        await asyncio.wait([other], timeout=0.05)
        committed = [await one.run("COMMIT")]
        answer = await other
        if not alone:
            committed.append(await two.run("COMMIT"))
        assert committed[0] == ["(COMMIT)"] or is_error(committed[0], "40001"), committed
        done = [committed[0] == ["(COMMIT)"], not is_error(answer, "") and committed[-1] != ["(ROLLBACK)"]]
        if not alone:
            done[1] = done[1] and committed[1] == ["(COMMIT)"]
        assert done in ([True, False], [False, True]), (committed, answer)
        if is_error(answer, ""):
            refused = pair.refused if second == pair.remove else pair.missing
            assert is_error(answer, *([] if alone and refused else ["40001"]), *([refused] if refused else [])), answer

    story(body)


def test_a_statement_that_is_alone_gives_the_error_of_the_later_one() -> None:
    """Both commit in the same moment: the one that comes second runs again, by itself."""

    async def body(node: Node, one: Client, two: Client) -> None:
        await one.run("CREATE SCHEMA s")
        answers = await asyncio.gather(one.run("DROP SCHEMA s"), two.run("CREATE TABLE s.t (id int)"))
        assert ["(CREATE TABLE)"] in answers or ["(DROP SCHEMA)"] in answers
        assert [is_error(answer, "2BP01", "3F000") for answer in answers].count(True) == 1, answers

    story(body)


def test_what_does_not_touch_is_left_alone() -> None:
    async def body(node: Node, one: Client, two: Client) -> None:
        await one.run("CREATE SCHEMA s; CREATE TABLE t (a int, b int); CREATE TYPE e AS ENUM ('a')")
        await one.run("BEGIN; CREATE TABLE s.u (id int); CREATE VIEW v AS SELECT a FROM t")
        assert await two.run("ALTER TABLE t ADD COLUMN c int") == ["(ALTER TABLE)"]
        assert await two.run("DROP TYPE e; CREATE TABLE s.w (id int)") == ["(DROP TYPE)", "(CREATE TABLE)"]
        assert await one.run("COMMIT") == ["(COMMIT)"]
        assert await two.run("SELECT * FROM v") == ["a", "(SELECT 0)"]

    story(body)


def test_two_changes_of_one_role() -> None:
    """Neither brings back what the other has changed."""

    async def body(node: Node, one: Client, two: Client) -> None:
        await one.run("CREATE ROLE r")
        await one.run("BEGIN; CREATE TABLE t (id int)")
        assert await two.run("ALTER ROLE r CREATEDB") == ["(ALTER ROLE)"]
        assert is_error(await one.run("ALTER ROLE r CREATEROLE"), "40001")
        await one.run("ROLLBACK")
        rows = await two.run("SELECT rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = 'r'")
        assert rows[1] == "t|f"

    story(body)


def test_a_renamed_role_keeps_what_it_has() -> None:
    async def body(node: Node, one: Client, two: Client) -> None:
        await one.run("CREATE ROLE r; CREATE ROLE m; GRANT r TO m; CREATE TABLE t (a int); CREATE TABLE u (a int)")
        await one.run("ALTER TABLE t OWNER TO r; GRANT SELECT ON u TO r; ALTER ROLE r RENAME TO r2")
        assert (await one.run("SELECT tableowner FROM pg_tables WHERE tablename = 't'"))[1] == "r2"
        assert is_error(await one.run("DROP ROLE r2"), "2BP01")

    story(body)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE t DROP COLUMN a CASCADE",
        "ALTER TABLE u DROP COLUMN a",
        "ALTER TABLE u DROP CONSTRAINT u_a_fkey",
        "ALTER TABLE t DROP CONSTRAINT t_a_key CASCADE",
    ],
)
def test_a_referenced_table_forgets_who_has_no_key_any_more(change: str) -> None:
    """Seed 8 of sql-ddl: the columns of a foreign key went, and its table stayed known to the other for ever."""

    async def body(node: Node, one: Client, two: Client) -> None:
        await one.run(
            "CREATE TABLE t (id int PRIMARY KEY, a int UNIQUE); CREATE TABLE u (a int REFERENCES t (a), b int)"
        )
        await one.run("ALTER TABLE u ADD FOREIGN KEY (b) REFERENCES t")
        assert await one.run(change) == ["(ALTER TABLE)"]
        assert dangling(node.catalog.state) == []
        assert await one.run("INSERT INTO t (id) VALUES (1)") == ["(INSERT 0 1)"]
        assert is_error(await one.run("INSERT INTO u (b) VALUES (2)"), "23503")
        await one.run("ALTER TABLE u DROP COLUMN b")
        assert await one.run("DROP TABLE t") == ["(DROP TABLE)"]

    story(body)


def test_a_key_that_goes_takes_the_foreign_keys_to_it_along() -> None:
    async def body(node: Node, one: Client, two: Client) -> None:
        await one.run("CREATE TABLE t (id int PRIMARY KEY, a int UNIQUE); CREATE TABLE u (a int REFERENCES t (a))")
        assert await one.run("ALTER TABLE t DROP CONSTRAINT t_a_key CASCADE") == ["(ALTER TABLE)"]

    story(body)


# --- several gateways ------------------------------------------------------------------

REGION = Pair(
    "ALTER DATABASE defaultdb PRIMARY REGION node1; ALTER DATABASE defaultdb ADD REGION node2",
    "CREATE TABLE t (id int PRIMARY KEY) LOCALITY REGIONAL BY TABLE IN node2",
    "ALTER DATABASE defaultdb DROP REGION node2", "2BP01", "42P12",
)  # fmt: skip
DISTANT = {
    name: PAIRS[name]
    for name in ("schema of a table", "type of a column", "sequence of a default", "column of a view", "grantee")
}


@pytest.mark.parametrize("order", ["refer first", "remove first", "at once"])
def test_two_gateways(order: str) -> None:
    async def body(cluster: Cluster) -> None:
        one, two = await cluster.connect(1), await cluster.connect(2)
        for name, pair in {**DISTANT, "region of a table": REGION}.items():
            for statement in pair.set_up.split("; "):
                assert not is_error(await one.run(statement), ""), statement
            if order == "at once":
                tasks = [
                    cluster.loop.main.spawn(client.run(sql), "ddl")
                    for client, sql in ((one, pair.refer), (two, pair.remove))
                ]
                answers = [await task for task in tasks]
                assert [is_error(answer, "") for answer in answers].count(True) == 1, (name, answers)
                assert is_error(answers[0], pair.missing) or is_error(answers[1], pair.refused), (name, answers)
            else:
                first, second = (pair.refer, pair.remove) if order == "refer first" else (pair.remove, pair.refer)
                await one.run("BEGIN")
                assert not is_error(await one.run(first), ""), name
                task = cluster.loop.main.spawn(two.run(second), "ddl")
                await cluster.sleep(1.0)
                committed = await one.run("COMMIT")
                answer = await task
                assert (committed == ["(COMMIT)"]) == is_error(answer, ""), (name, committed, answer)
            for node_id in (1, 2, 3):
                assert dangling(cluster.nodes[node_id].node.catalog.state) == [], (name, node_id)
            await one.run("DROP VIEW IF EXISTS v")
            await one.run("DROP TABLE IF EXISTS t")
            await one.run("DROP SCHEMA IF EXISTS s CASCADE")

    run(body)
