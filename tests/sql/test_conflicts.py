"""DETAIL of conflicts: keys of every kind of index in words, and what is not shown to whom."""

from __future__ import annotations

import asyncio

import pytest

from base.errors import Deadlock, ReadConflict, TxnAborted, TxnRetry, WriteTooOld
from kvtier.messages import Batch, Scan
from node.process import Node
from sql.conflicts import HINT, explain
from sql.session import Session
from tests.inprocess import Client, with_node

SCHEMA = """
CREATE TABLE t (a int, b text, c timestamptz, n numeric, PRIMARY KEY (b, a));
CREATE UNIQUE INDEX u ON t (c DESC, n);
CREATE INDEX i ON t (n);
CREATE INDEX e ON t (lower(b));
INSERT INTO t VALUES (7, 'it''s', '2024-01-02 03:04:05Z', 1.50), (8, repeat('x', 100), NULL, NULL);
CREATE TABLE nokey (z int);
INSERT INTO nokey VALUES (1);
"""


async def keys_of(node: Node, name: str) -> list[bytes]:
    """Every key of a table, in order: the primary index, then the others as they were made."""
    table = next(d for d in node.catalog.state.by_id.values() if getattr(d, "kind", "") == "r" and d.name == name)
    from base.keys import table_span

    reply = node.kv.send(Batch([Scan(*table_span(table.id), limit=100)]))
    if asyncio.iscoroutine(reply):
        reply = await reply
    return list(reply.results[0].keys)


def test_keys_become_words() -> None:
    async def body(node: Node) -> None:
        client = Client(node)
        await client.until_ready()
        for line in SCHEMA.strip().split(";\n"):
            shown = await client.run(line)
            assert not shown[0].startswith("ERROR"), shown
        session = client.connection.session
        assert isinstance(session, Session)
        seen = []
        for key in [*await keys_of(node, "t"), *await keys_of(node, "nokey"), b"\x03system", b""]:
            error = ReadConflict(key, 5)
            explain(session, error)
            assert error.detail is not None
            assert error.hint == HINT
            seen.append((error.table, error.detail.split(" was read")[0]))
        long = "x" * 64 + "..."
        assert seen == [
            ("t", """Key (b, a)=(it's, 7) of table "t\""""),
            ("t", f'Key (b, a)=({long}, 8) of table "t"'),
            ("t", 'Key (c, n)=(null, null) of table "t"'),
            ("t", 'Key (c, n)=(2024-01-02 03:04:05+00, 1.5) of table "t"'),
            ("t", 'Key (n)=(1.5) of table "t"'),
            ("t", 'Key (n)=(null) of table "t"'),
            ("t", 'A key of table "t"'),
            ("t", 'A key of table "t"'),
            ("nokey", 'A key of table "nokey"'),
            (None, "A key"),
            (None, "A key"),
        ]
        # Who may not read the table sees no values of it.
        await client.run("CREATE ROLE other LOGIN; SET ROLE other")
        error = WriteTooOld((await keys_of(node, "t"))[0], 5)
        explain(session, error)
        assert (
            error.detail
            == 'A key of table "t" was written by a transaction that committed at 5, after this one had begun.'
        )
        client.close()

    with_node(body)


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (TxnAborted(), "Another transaction aborted this one."),
        (TxnRetry("x", reason="deadline"), "The transaction could not commit before its deadline."),
        (TxnRetry("x", reason="something_new"), "The reason is something_new."),
        (Deadlock(b""), "Transactions wait for each other."),
    ],
)
def test_reasons_without_a_key(error: TxnRetry, detail: str) -> None:
    async def body(node: Node) -> None:
        client = Client(node)
        await client.until_ready()
        assert isinstance(client.connection.session, Session)
        error.detail = error.hint = None
        explain(client.connection.session, error)
        assert (error.detail, error.hint) == (detail, HINT)
        client.close()

    with_node(body)
