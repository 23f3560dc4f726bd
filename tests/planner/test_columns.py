"""Statements over spans whose rows are taken by column, and the same by rows: equal answers."""

from __future__ import annotations

import pytest

from base import rows
from node.process import Node
from tests.inprocess import Client, with_node

SETUP = (
    "CREATE TABLE t (a int PRIMARY KEY, b int NOT NULL, c char(10) NOT NULL, d text, e int8, f float8, g int2 NOT NULL)",
    "INSERT INTO t SELECT i, i * 7919 % 50 - 25, 'x' || i % 7, CASE WHEN i % 40 = 39 THEN NULL ELSE repeat('é', i % 5) END,"
    " CASE WHEN i < 60 THEN i::int8 << 40 END, i / 4.0, -i FROM generate_series(1, 100) i",
    "ALTER TABLE t ADD COLUMN h int NOT NULL DEFAULT 5",
    "UPDATE t SET h = a WHERE a BETWEEN 20 AND 45",
)
SELECTS = (
    "SELECT c FROM t WHERE a BETWEEN {0} AND {1}",
    "SELECT b, g FROM t WHERE a BETWEEN {0} AND {1}",
    "SELECT a, b FROM t WHERE a BETWEEN {0} AND {1}",
    "SELECT c FROM t WHERE a BETWEEN {0} AND {1} ORDER BY c",
    "SELECT DISTINCT c FROM t WHERE a BETWEEN {0} AND {1} ORDER BY c",
    "SELECT d, d || c FROM t WHERE a BETWEEN {0} AND {1}",
    "SELECT h FROM t WHERE a BETWEEN {0} AND {1} AND b > 0",
    "SELECT b + 1 FROM t WHERE a BETWEEN {0} AND {1} LIMIT 3 OFFSET 1",
    "SELECT sum(b), count(*), count(d), min(b), max(g), avg(b), sum(f) FROM t WHERE a BETWEEN {0} AND {1}",
    "SELECT sum(b), min(b), max(b) FROM t WHERE a BETWEEN {0} AND {1}",
    "SELECT count('abc'), sum(7), min('abc'::text), sum(b) FROM t WHERE a BETWEEN {0} AND {1}",
    "SELECT count('abc'), count(1.5), max('abc'::text), sum(b) FROM t",
    "SELECT max(d), sum(e) FROM t WHERE a BETWEEN {0} AND {1}",
    "SELECT sum(b) FILTER (WHERE g < -30), min(d) FROM t WHERE a BETWEEN {0} AND {1}",
    "SELECT sum(b), min(c), count(e) FROM t WHERE g % 2 = 0 AND a > {0} - {1}",
    "SELECT sum(h), min(h), max(d) FROM t WHERE a > {0} - {1}",
)
SPANS = ((1, 30), (20, 45), (35, 42), (60, 100), (200, 300))


async def answers(node: Node) -> list[list[str]]:
    client = Client(node)
    await client.until_ready()
    for statement in SETUP:
        await client.run(statement)
    found = []
    for select in SELECTS:
        for span in SPANS:
            # The third time a compiled plan answers.
            found += [await client.run(select.format(*span)) for _ in range(3)]
    client.close()
    return found


def test_both_ways_answer_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[bool, list[list[str]]] = {}

    async def body(node: Node) -> None:
        found[rows.TAKES_COLUMNS] = await answers(node)

    for way in (False, True):
        monkeypatch.setattr(rows, "TAKES_COLUMNS", way)
        with_node(body)
    assert found[True] == found[False]
    assert len({str(answer) for answer in found[True]}) > len(SELECTS) * 2, "answers differ among the spans"
