"""Load, run and check against PostgreSQL, at a reduced scale; and each condition against data broken on purpose."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from tpcc.checks import check, list_conditions
from tpcc.cli import app
from tpcc.database import read_population, read_versions
from tpcc.loading import LoadFailed, LoadPlan, PartLoader, load
from tpcc.output import PlainOutput
from tpcc.population import Recipe, list_parts
from tpcc.report import read_result
from tpcc.running import Run, RunPlan
from tpcc.scale import reduced
from tpcc.schema import FOREIGN_KEYS, INDEXES, TABLES
from tpcc.session import open_connection, open_session

SCALE = reduced(100)
TERMINALS = CliRunner()


@pytest.fixture(scope="module")
def dsn(postgres_oracle: str) -> str:
    """A server with two warehouses loaded by two processes."""
    load(LoadPlan(postgres_oracle, warehouses=2, processes=2, drop=True, scale=SCALE), PlainOutput())
    return postgres_oracle


@pytest.fixture
def connection(dsn: str) -> Iterator[Any]:
    with open_connection(dsn) as opened:
        yield opened


def violated(connection: Any) -> list[str]:
    return [result.clause for result in check(connection, SCALE) if not result.holds]


def rows_of(connection: Any, table: str) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4").fetchall()
    return rows


def test_load_counts(connection: Any) -> None:
    counts = {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}
    lines = counts.pop("order_line")
    assert counts == {
        "warehouse": 2, "district": 20, "customer": 600, "history": 600, "orders": 600, "new_order": 180, "item": 1_000, "stock": 2_000,
    }  # fmt: skip
    assert lines == connection.execute("SELECT sum(o_ol_cnt) FROM orders").fetchone()[0]
    assert violated(connection) == []


def test_load_again_does_nothing_and_goes_on_where_it_stopped(dsn: str, connection: Any) -> None:
    plan = LoadPlan(dsn, warehouses=2, scale=SCALE)
    assert load(plan, PlainOutput()) == 0
    before = rows_of(connection, "stock")
    connection.execute("UPDATE tpcc_config SET value = 'loading' WHERE name = 'state'")
    connection.execute("DELETE FROM tpcc_loaded WHERE part = 'stock/2/0'")
    connection.execute("DELETE FROM stock WHERE s_w_id = 2")
    assert load(plan, PlainOutput()) == 1_000
    assert rows_of(connection, "stock") == before
    assert violated(connection) == []


def test_load_refuses_another_population(dsn: str) -> None:
    with pytest.raises(LoadFailed, match="the database holds 2 warehouses of seed 1"):
        load(LoadPlan(dsn, warehouses=3, scale=SCALE), PlainOutput())


def test_part_is_loaded_once(dsn: str, connection: Any) -> None:
    """As after a COMMIT whose answer was lost."""
    recipe = Recipe(1, 2, *_rest_of_recipe(connection))
    loader = PartLoader(lambda: open_connection(dsn), recipe)
    before = rows_of(connection, "item")
    loader.load(list_parts(2, SCALE)[0])
    loader.close()
    assert rows_of(connection, "item") == before


def _rest_of_recipe(connection: Any) -> tuple[Any, ...]:
    from tpcc.database import read_recipe

    found = read_recipe(connection)
    assert found is not None
    return found[0].loaded_at, found[0].constants, found[0].scale


def test_indexes_and_foreign_keys(postgres_oracle: str) -> None:
    with open_connection(postgres_oracle) as connection:
        connection.execute("DROP SCHEMA IF EXISTS with_keys CASCADE")
        connection.execute("CREATE SCHEMA with_keys")
    other = f"{postgres_oracle} options='-c search_path=with_keys'"
    plan = LoadPlan(other, warehouses=1, processes=1, indexes_first=True, foreign_keys=True, scale=SCALE)
    load(plan, PlainOutput())
    with open_connection(other) as connection:
        names = "SELECT conname FROM pg_constraint WHERE contype = 'f' AND connamespace = 'with_keys'::regnamespace"
        assert sorted(name for (name,) in connection.execute(names).fetchall()) == sorted(FOREIGN_KEYS)
        indexes = "SELECT indexname FROM pg_indexes WHERE schemaname = 'with_keys'"
        assert {name for (name,) in connection.execute(indexes).fetchall()} >= set(INDEXES)
        assert violated(connection) == []


BREAKS = {
    "3.3.2.1": "UPDATE warehouse SET w_ytd = w_ytd + 1 WHERE w_id = 2",
    "3.3.2.2": "UPDATE district SET d_next_o_id = d_next_o_id + 1 WHERE d_w_id = 1 AND d_id = 3",
    "3.3.2.3": "DELETE FROM new_order WHERE no_w_id = 1 AND no_d_id = 4 AND no_o_id = 25",
    "3.3.2.4": "DELETE FROM order_line WHERE ol_w_id = 2 AND ol_d_id = 5 AND ol_o_id = 6 AND ol_number = 1",
    "3.3.2.5": "UPDATE orders SET o_carrier_id = 3 WHERE o_w_id = 1 AND o_d_id = 6 AND o_id = 30",
    "3.3.2.6": "UPDATE orders SET o_ol_cnt = o_ol_cnt + 1 WHERE o_w_id = 1 AND o_d_id = 7 AND o_id = 8",
    "3.3.2.7": "UPDATE order_line SET ol_delivery_d = NULL WHERE ol_w_id = 2 AND ol_d_id = 8 AND ol_o_id = 9 AND ol_number = 2",
    "3.3.2.8": "UPDATE history SET h_w_id = 1, h_d_id = 1 WHERE h_w_id = 2 AND h_d_id = 9 AND h_c_id = 1",
    "3.3.2.9": "UPDATE history SET h_d_id = 2 WHERE h_w_id = 1 AND h_d_id = 10 AND h_c_id = 2",
    "3.3.2.10": "UPDATE customer SET c_balance = c_balance - 5, c_ytd_payment = c_ytd_payment + 5 WHERE c_w_id = 1 AND c_d_id = 1 AND c_id = 3",
    "3.3.2.11": "UPDATE customer SET c_delivery_cnt = 1 WHERE c_w_id = 2 AND c_d_id = 2 AND c_id = 4",
    "3.3.2.12": "UPDATE customer SET c_ytd_payment = 0 WHERE c_w_id = 1 AND c_d_id = 3 AND c_id = 5",
}


class Unsaved:
    """The connection inside a transaction: the check's own BEGIN and ROLLBACK are left out."""

    closed = False

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, sql: str, *arguments: object, **options: object) -> Any:
        if sql.startswith(("BEGIN", "ROLLBACK")):
            return None
        return self._connection.execute(sql, *arguments, **options)


@pytest.mark.parametrize("clause", BREAKS)
def test_each_condition_finds_what_is_broken(connection: Any, clause: str) -> None:
    assert violated(connection) == []
    connection.execute("BEGIN")
    assert connection.execute(BREAKS[clause]).rowcount >= 1
    results = {result.clause: result for result in check(Unsaved(connection), SCALE)}
    connection.execute("ROLLBACK")
    broken = results[clause]
    assert not broken.holds
    assert broken.rows
    assert len(broken.rows[0]) == len(broken.columns)


def test_every_condition_has_its_break() -> None:
    assert [condition.clause for condition in list_conditions(SCALE)] == list(BREAKS)


def test_check_command_exits_with_one(dsn: str, connection: Any) -> None:
    assert TERMINALS.invoke(app, ["check", "--dsn", dsn]).exit_code == 0
    connection.execute(BREAKS["3.3.2.1"])
    try:
        result = TERMINALS.invoke(app, ["check", "--dsn", dsn])
    finally:
        connection.execute("UPDATE warehouse SET w_ytd = w_ytd - 1 WHERE w_id = 2")
    assert result.exit_code == 1
    assert "VIOLATED  W_YTD = sum(D_YTD)" in result.output
    assert "2 | 3001.00 | 3000.00" in result.output


def test_run_without_a_load_says_so(postgres_oracle: str) -> None:
    empty = f"{postgres_oracle} options='-c search_path=pg_temp'"
    result = TERMINALS.invoke(app, ["run", "--dsn", empty])
    assert result.exit_code == 1


def test_both_sessions_read_alike(dsn: str) -> None:
    answers = []
    for is_pipelined in (False, True):
        session = open_session(dsn, "repeatable read", is_pipelined)
        session.connect()
        session.begin()
        read = ("SELECT i_id, i_price FROM item WHERE i_id < $1 ORDER BY i_id", (4,))
        write = ("UPDATE item SET i_im_id = i_im_id WHERE i_id = $1", (2,))
        answers.append(session.batch([read, write, read]))
        with pytest.raises(psycopg.errors.DivisionByZero):
            session.execute("SELECT 1 / $1::integer", 0)
        session.rollback()
        assert session.is_open
        session.close()
    assert answers[0] == answers[1]
    assert [answer.row_count for answer in answers[0]] == [3, 1, 3]


def test_dead_connection_is_an_error_not_a_hang(dsn: str, connection: Any) -> None:
    session = open_session(dsn, "serializable", False)
    session.connect()
    session.begin()
    (pid,) = session.execute("SELECT pg_backend_pid() + $1", 0).rows[0]
    connection.execute("SELECT pg_terminate_backend($1::integer)", [pid])
    for _ in range(2):
        with pytest.raises(psycopg.Error):
            session.commit()
        assert not session.is_open
    session.connect()
    session.begin()
    session.rollback()
    session.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("isolation", "pipeline"), [("serializable", False), ("read committed", False), ("read committed", True)]
)
def test_run_keeps_all_conditions(dsn: str, connection: Any, isolation: str, pipeline: bool) -> None:
    plan = RunPlan((dsn,), connections=4, duration_seconds=5, ramp_seconds=0, isolation=isolation, pipeline=pipeline)
    result = Run(plan, read_population(connection), read_versions(connection), PlainOutput()).execute()
    counts = {one.name: one.counts for one in result.types}
    assert result.tpmc > 0
    assert all(one.completed > 0 for one in counts.values())
    assert all(one.failed + one.ambiguous + one.exhausted == 0 for one in counts.values()), result.errors
    assert sum(
        interval.types["new-order"].completed for interval in result.intervals if "new-order" in interval.types
    ) == (counts["new-order"].completed)
    assert violated(connection) == []
    if isolation == "read committed":
        assert not any(one.serialization_failures + one.deadlocks for one in counts.values())


@pytest.mark.slow
def test_run_command_writes_its_result(dsn: str, tmp_path: Path) -> None:
    arguments = ["run", "--dsn", dsn, "--connections", "2", "--processes", "1", "--duration", "1", "--ramp", "0"]
    result = TERMINALS.invoke(app, [*arguments, "--output", str(tmp_path), "--title", "a <title>"])
    assert result.exit_code == 0, result.output
    read = read_result(tmp_path / "result.json")
    assert read.checks is not None
    assert all(one.holds for one in read.checks)
    page = (tmp_path / "report.html").read_text()
    assert "a &lt;title&gt;" in page
    assert f"{read.tpmc:,.1f}" in page


@pytest.mark.slow
def test_interrupt_ends_a_run_with_what_was_measured(dsn: str, connection: Any) -> None:
    arguments = [
        "run",
        "--dsn",
        dsn,
        "--connections",
        "2",
        "--processes",
        "2",
        "--duration",
        "60",
        "--ramp",
        "0",
        "--json",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "tpcc.cli", *arguments],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    assert b'"second":0' in first
    os.killpg(process.pid, signal.SIGINT)  # As a terminal does: parent and clients alike.
    rest = process.stdout.read()
    process.stdout.close()
    assert process.wait() == 0
    assert b'"event":"result"' in rest
    assert rest.count(b'"event":"check"') == 12
    assert violated(connection) == []
