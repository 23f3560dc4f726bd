"""Warehouses over regions, terminals at home in them, and what is broken meanwhile."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from sql.regions.topology import NodePlace
from tests.inprocess import Client, with_node
from tpcc.chaos import Chaos, parse_breakage
from tpcc.inputs import Kind
from tpcc.metrics import Delta, Recorder, TypeCounts
from tpcc.output import describe_result
from tpcc.regions import WAREHOUSE_COLUMNS, region_of, warehouses_of
from tpcc.report import render
from tpcc.result import ChaosEvent, summarize_run
from tpcc.running import RunFailed, RunPlan, plan_terminals
from tpcc.schema import INDEXES, TABLES, create_statements

REGIONS = ("a", "b", "c")


def test_warehouses_are_dealt_round_robin() -> None:
    assert [region_of(number, REGIONS) for number in range(1, 6)] == ["a", "b", "c", "a", "b"]
    assert warehouses_of("b", REGIONS, 7) == [2, 5]
    assert sorted(WAREHOUSE_COLUMNS) == sorted(name for name in TABLES if name != "item")


def test_terminals_are_at_home_in_their_servers_region() -> None:
    plan = RunPlan(("dsn a", "dsn c", "dsn a2"), connections=7, regions=("a", "c", "a"))
    terminals = plan_terminals(plan, 6, REGIONS)
    assert [(one.number, one.dsn, one.region) for one in terminals] == [
        (0, "dsn a", "a"), (1, "dsn c", "c"), (2, "dsn a2", "a"), (3, "dsn a", "a"), (4, "dsn c", "c"),
        (5, "dsn a2", "a"), (6, "dsn a", "a"),
    ]  # fmt: skip
    # Region a has warehouses 1 and 4 for five terminals, c has 3 and 6 for two.
    assert [one.home for one in terminals] == [(1,), (3,), (4,), (1,), (6,), (4,), (1,)]
    assert [one.district for one in terminals] == [1, 1, 1, 2, 1, 2, 3]
    few = plan_terminals(RunPlan(("dsn a",), connections=1, regions=("a",)), 6, REGIONS)
    assert few[0].home == (1, 4)
    with pytest.raises(RunFailed, match="no warehouse is at home in c"):
        plan_terminals(RunPlan(("dsn c",), regions=("c",)), 2, REGIONS)


def test_rows_are_where_their_warehouse_is_and_statements_ask_there_alone() -> None:
    async def body(node: Any) -> None:
        node.sql.topology = lambda: [NodePlace(i, (("region", region),)) for i, region in enumerate(REGIONS, 1)]
        client = Client(node)
        await client.until_ready()
        for statement in ("PRIMARY REGION a", "ADD REGION b", "ADD REGION c"):
            await client.run(f"ALTER DATABASE defaultdb {statement}")
        for statement in [*create_statements(REGIONS), *INDEXES.values()]:
            found = await client.run(statement)
            assert not any("ERROR" in line for line in found), (statement, found)
        await client.run("INSERT INTO warehouse (w_id) SELECT generate_series(1, 6)")
        assert await client.run("SELECT string_agg(home::text, '' ORDER BY w_id) FROM warehouse") == await client.run(
            "SELECT 'abcabc' AS string_agg"
        )
        for statement in (
            "SELECT c_id FROM customer WHERE c_w_id = 2 AND c_d_id = 1 AND c_last = 'x' ORDER BY c_first",
            "SELECT o_id FROM orders WHERE o_w_id = 2 AND o_d_id = 1 AND o_c_id = 3 ORDER BY o_id DESC LIMIT 1",
            "SELECT no_o_id FROM new_order WHERE no_w_id = 2 AND no_d_id = 1 ORDER BY no_o_id LIMIT 1",
            "UPDATE district SET d_ytd = d_ytd + 1 WHERE d_w_id = 2 AND d_id = 1",
        ):
            plan = await client.run(f"EXPLAIN (COSTS OFF) {statement}")
            assert not any("Regions:" in line or "Seq Scan" in line for line in plan), plan

    with_node(body)


def counts(*latencies_ms: int) -> TypeCounts:
    made = TypeCounts(committed=len(latencies_ms))
    for latency in latencies_ms:
        made.latency.record(latency * 1000)
    return made


def test_latencies_are_told_by_region() -> None:
    recorder = Recorder()
    recorder.record(0, Kind.NEW_ORDER, counts(500))  # Not measured.
    recorder.record(1, Kind.NEW_ORDER, counts(4), "us")
    recorder.record(2, Kind.NEW_ORDER, counts(90, 90, 90), "eu")
    delta = Delta()
    delta.merge(recorder.take())
    recorder.record(2, Kind.PAYMENT, counts(7), "us")
    delta.merge(recorder.take())
    made = summarize_run(
        title="t", started_at="", configuration={"standard_scale": True}, versions={}, seconds=delta.seconds, ramp=1,
        measured_seconds=2, cpu_seconds=0, terminals_failed=0, errors=[], regions=delta.regions,
    )  # fmt: skip
    assert [(region.name, region.tpmc) for region in made.regions] == [("eu", 90.0), ("us", 30.0)]
    assert [one.completed for one in made.regions[1].types] == [1, 1, 0, 0, 0]
    assert abs(made.regions[0].types[0].latency.p50 - 90) < 1
    made.chaos = [ChaosEvent(3.5, "stop <it>"), ChaosEvent(6, "start it", "exit code 1")]
    page = render([made])
    assert "Latency by region" in page
    assert "stop &lt;it&gt;" in page
    lines = describe_result(made)
    assert any(line.startswith("eu: tpmC 90.0") for line in lines)
    assert any("start it  FAILED: exit code 1" in line for line in lines)


@pytest.mark.parametrize("text", ["", "kill it", "kill it =>", "=> start it"])
def test_what_breaks_needs_what_mends(text: str) -> None:
    with pytest.raises(ValueError, match="to mend what the first broke"):
        parse_breakage(text)


def test_what_is_broken_at_the_end_is_mended(tmp_path: Path) -> None:
    file = tmp_path / "broken"
    chaos = Chaos((parse_breakage(f"touch {file} => rm {file}; exit 3"),), 1, 0.0, 3600.0)
    chaos.start()
    deadline = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    events = chaos.stop()
    assert not file.exists()
    assert [event.failure for event in events[:2]] == ["", "exit code 3"]
