"""The assembled node, on a memory engine: what it tells its layers, /healthz and /metrics."""

from __future__ import annotations

import pytest

from base.errors import SqlError
from base.keys import table_span
from node.metrics import metrics_text
from node.process import Node, session_defaults
from node.status import figures, parse
from tests.inprocess import Client, with_node


def test_session_defaults_are_checked_and_normalised() -> None:
    assert session_defaults({"Statement_Timeout": "30s", "timezone": "europe/berlin"})["statement_timeout"] == "30s"
    for name, value, sqlstate in (("nonsense", "1", "42704"), ("statement_timeout", "soon", "22023")):
        with pytest.raises(SqlError) as caught:
            session_defaults({name: value})
        assert caught.value.sqlstate == sqlstate


def test_metrics_count_what_was_done() -> None:
    async def body(node: Node) -> None:
        before = parse(metrics_text(node).decode())
        client = Client(node)
        await client.until_ready()
        await client.run("create table t (a int primary key)")
        await client.run("insert into t values (1)")
        values = parse(metrics_text(node).decode())
        assert values["meridian_statements_total"] - before["meridian_statements_total"] == 2
        assert values['meridian_connections{state="idle"}'] == 1
        assert values["meridian_bugs_total"] == 0
        assert values["meridian_store_ranges"] == 1
        shown = dict(figures(node.health(), values))
        assert shown["connections"] == "1 of 500 (0 active, 0 transaction, 1 idle)"
        assert shown["bugs"].startswith("0 ")

    with_node(body)


def test_health_tells_of_draining() -> None:
    async def body(node: Node) -> None:
        assert node.health()["status"] == "ok"
        await node.drain(0)
        assert node.health()["status"] == "draining"

    with_node(body)


def test_ranges_are_described_in_key_order() -> None:
    async def body(node: Node) -> None:
        client = Client(node)
        await client.until_ready()
        await client.run("create table t (a int primary key)")
        await client.run("alter table t split at values (10), (20)")
        everything = await node.describe_ranges(b"", b"")
        assert len(everything) == 3
        assert [found.start for found in everything[1:]] == [found.end for found in everything[:-1]]
        assert {(found.leaseholder, found.voters, found.non_voters) for found in everything} == {(1, (1,), ())}
        assert await node.describe_ranges(everything[1].start, everything[1].end) == everything[1:2]

    with_node(body)


def test_versions_are_kept_as_long_as_the_most_patient_table_there_wants() -> None:
    async def body(node: Node) -> None:
        client = Client(node)
        await client.until_ready()
        await client.run("create table short (a int primary key)")
        await client.run("create table patient (a int primary key)")
        await client.run("alter table short configure zone using gc.ttlseconds = 600")
        await client.run("alter table patient configure zone using gc.ttlseconds = 90000")
        tables = {t.name: t for t in node.catalog.state.by_id.values() if t.name in ("short", "patient")}
        assert node.retention_seconds(*table_span(tables["short"].id)) == 600
        assert node.retention_seconds(*table_span(tables["patient"].id)) == 90_000
        assert node.retention_seconds(b"", b"\xff" * 8) == 90_000
        assert node.retention_seconds(b"", b"\x01") == node.store.settings.gc_seconds

    with_node(body)


def test_a_node_alone_shows_itself_and_cannot_leave() -> None:
    async def body(node: Node) -> None:
        client = Client(node)
        await client.until_ready()
        assert f"1||127.0.0.1:{node.port}||t|active|1|1" in await client.run("show nodes")
        assert (await client.run("alter node 1 decommission"))[0].startswith("ERROR 55000")

    with_node(body)
