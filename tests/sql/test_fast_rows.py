"""Compiled writes of several rows against the operators they stand for: the same script on two nodes, one without compiled plans."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from node.process import Node
from sql.session import Session
from tests.inprocess import with_node
from tests.wire.frames import SYNC, Raw, bind, describe, execute, parse, query

SCHEMA = """
CREATE TABLE p (id int PRIMARY KEY, n int);
INSERT INTO p SELECT i, i FROM generate_series(1, 5) i;
CREATE TABLE t (a int, b int, s text NOT NULL, u int UNIQUE, d int CHECK (d < 9), p int REFERENCES p, k numeric(6,2), PRIMARY KEY (a, b));
CREATE INDEX t_d ON t (d);
CREATE INDEX t_s ON t (s DESC) INCLUDE (k);
CREATE TABLE plain (a int, b int, n int NOT NULL, PRIMARY KEY (a, b))
"""
STATEMENTS = {
    "two": "INSERT INTO t VALUES ($1, $2, $3, $4, $5, $6, $7), ($1, $2 + 1, $3, $4 + 1, $5 + 1, $6, 10 / $5)",
    "three": "INSERT INTO t (a, b, s, k) VALUES ($1, $2, 'x', 1), ($1, $2 + $3, 'y', 2.345), ($1, $2 + 2, 'z', NULL)",
    "plain": "INSERT INTO plain VALUES ($1, $2, $3), ($1, $2 + 1, $3), ($1 + 1, $2, $3)",
    "defaults": "INSERT INTO t (a, b, s, d) VALUES ($1, $2, 'd', DEFAULT), (DEFAULT, $2, 'd', 1)",
    "span": "UPDATE t SET d = d + 1, s = $2 WHERE a = $1",
    "range": "UPDATE t SET k = k * $2 WHERE a = $1 AND b > $3",
    "filter": "UPDATE t SET d = $3, s = s || $2 WHERE a = $1 AND s < $2",
    "numbers": "UPDATE plain SET n = n + $2 WHERE a = $1 AND b BETWEEN $3 AND 5",
    "null": "UPDATE plain SET n = NULLIF($2, 3) WHERE a >= $1",
    "parent": "UPDATE t SET p = $2 WHERE a = $1",
    "key": "UPDATE plain SET b = b + 1 WHERE a = $1",
    "delete": "DELETE FROM t WHERE a = $1",
    "empty": "DELETE FROM plain WHERE a = $1",
}
COUNTS = {"two": 7, "span": 2, "parent": 2, "null": 2, "delete": 1, "empty": 1, "key": 1, "defaults": 2}
COMMANDS = (
    "BEGIN",
    "BEGIN ISOLATION LEVEL READ COMMITTED",
    "COMMIT",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT a",
    "ROLLBACK TO a",
)
LOOKS = (
    "SELECT * FROM t ORDER BY a, b",
    "SELECT d, count(*) FROM t WHERE d > 0 GROUP BY d ORDER BY d",
    "SELECT s, k FROM t WHERE s > '' ORDER BY s, k",
    "SELECT u FROM t WHERE u > 0 ORDER BY u",
    "SELECT * FROM plain ORDER BY a, b",
)
Answer = list[tuple[str, bytes]]


def text_of(rng: Random, name: str, at: int) -> bytes | None:
    if rng.random() < 0.04:
        return None
    if (name, at) in (("two", 2), ("span", 1), ("filter", 1)):
        return rng.choice((b"x", b"y", b"longer", b"a"))
    return b"%d" % rng.choice((*range(7), *range(4), 40, -1))


def script(seed: int, count: int) -> list[list[bytes]]:
    rng = Random(seed)
    found = []
    for _ in range(count):
        if rng.random() < 0.2:
            found.append([query(rng.choice(COMMANDS))])
            continue
        name = rng.choice(list(STATEMENTS))
        values = tuple([text_of(rng, name, at) for at in range(COUNTS.get(name, 3))])
        found.append([bind(values, name=name), describe(), execute(), SYNC])
    found.append([query("ROLLBACK")])
    return found


async def start(node: Node, is_compiled: bool = True) -> Raw:
    raw = await Raw(node).open()
    raw.send(query(SCHEMA))
    await raw.until("Z")
    raw.send(*[parse(sql, name) for name, sql in STATEMENTS.items()], SYNC)
    await raw.until("Z")
    if not is_compiled:
        for prepared in session_of(raw).statements.values():
            assert prepared.entry is not None
            prepared.entry.fast = None
    return raw


def session_of(raw: Raw) -> Session:
    session = raw.connection.session
    assert isinstance(session, Session)
    return session


def play(steps: list[list[bytes]], is_compiled: bool) -> list[Answer]:
    """The answers, then what is there by every index."""
    answers: list[Answer] = []

    async def main(node: Node) -> None:
        raw = await start(node, is_compiled)
        for step in steps:
            raw.send(*step)
            answers.append(await raw.until("Z"))
        for look in LOOKS:
            raw.send(query(look))
            answers.append(await raw.until("Z"))

    with_node(main)
    return answers


@pytest.mark.parametrize("seed", range(10))
def test_several_rows_are_written_as_operators_do(seed: int) -> None:
    steps = script(seed, 300)
    expected = play(steps, False)
    actual = play(steps, True)
    for i, (one, other) in enumerate(zip(expected, actual)):
        assert other == one, (seed, i, steps[i] if i < len(steps) else LOOKS[i - len(steps)])


def test_they_are_compiled_when_they_come_again() -> None:
    async def main(node: Node) -> None:
        raw = await start(node)
        for i in range(4):
            for name, values in (
                ("two", (b"1", b"%d" % (9 * i), b"s", b"%d" % (9 * i), b"1", b"1", b"1")),
                ("span", (b"2", b"s")),
            ):
                raw.send(bind(values, name=name), execute(), SYNC)
                await raw.until("Z")
        session = session_of(raw)
        for name in ("two", "span", "filter", "range", "three", "plain", "numbers", "null"):
            entry = session.statements[name].entry
            assert entry is not None and entry.fast is not None, name
            assert (entry.fast.run.__name__, name in ("two", "span")) in (("run", True), ("trial", False)), name
        for name in ("parent", "key", "delete"):
            entry = session.statements[name].entry
            assert entry is not None and entry.fast is None, name

    with_node(main)


async def twice(node: Node, isolation: str) -> tuple[Raw, Raw]:
    """Two sessions in blocks; what the second one will do is compiled."""
    one, other = await start(node), await Raw(node).open()
    other.send(*[parse(sql, name) for name, sql in STATEMENTS.items()], SYNC)
    await other.until("Z")
    for a in (b"50", b"51", b"52"):
        await call(other, "plain", a, b"0", b"0")
        await call(other, "numbers", a, b"1", b"0")
    for raw in (one, other):
        raw.send(query(f"BEGIN ISOLATION LEVEL {isolation}"))
        await raw.until("Z")
    return one, other


async def call(raw: Raw, name: str, *values: bytes) -> Answer:
    raw.send(bind(values, name=name), execute(), SYNC)
    return await raw.until("Z")


async def ask(raw: Raw, sql: str) -> Answer:
    raw.send(query(sql))
    return await raw.until("Z")


def kinds(answer: Answer) -> str:
    return "".join([kind for kind, _ in answer])


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_an_insert_waits_for_another_of_its_keys(end: str) -> None:
    async def main(node: Node) -> None:
        one, other = await twice(node, "READ COMMITTED")
        await ask(one, "INSERT INTO plain VALUES (7, 2, 0)")
        other.send(bind((b"7", b"1", b"5"), name="plain"), execute(), SYNC)
        await ask(one, end)
        answer = await other.until("Z")
        if end == "COMMIT":
            assert kinds(answer) == "2EZ"
            assert b"Key (a, b)=(7, 2) already exists" in answer[1][1]
        else:
            assert answer[1] == ("C", b"INSERT 0 3\0")

    with_node(main)


@pytest.mark.parametrize(("change", "tag"), [("n = n + 10", b"UPDATE 2\0"), ("b = 9", b"UPDATE 1\0")])
def test_an_update_sees_rows_that_changed_while_it_waited(change: str, tag: bytes) -> None:
    async def main(node: Node) -> None:
        one, other = await twice(node, "READ COMMITTED")
        assert kinds(await ask(one, f"UPDATE plain SET {change} WHERE a = 50 AND b = 1")) == "CZ"
        other.send(bind((b"50", b"5", b"0"), name="numbers"), execute(), SYNC)
        await ask(one, "COMMIT")
        assert (await other.until("Z"))[1] == ("C", tag)
        await ask(other, "COMMIT")
        rows: list[Any] = [
            body for kind, body in await ask(one, "SELECT n FROM plain WHERE a = 50 ORDER BY b") if kind == "D"
        ]
        moved = [b"6", b"1"] if change == "b = 9" else [b"6", b"16"]
        assert [row[6:] for row in rows] == moved

    with_node(main)
