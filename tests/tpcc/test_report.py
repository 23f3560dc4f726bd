"""From counts to numbers to pages."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from tpcc.charts import Series, line_chart, nice_step
from tpcc.checks import CheckResult
from tpcc.cli import app
from tpcc.inputs import Kind
from tpcc.metrics import ERROR_KINDS_MAX, Delta, Recorder, Second, SeenError, TypeCounts
from tpcc.output import describe_interval, describe_result
from tpcc.report import read_result, render, write_result
from tpcc.result import RunResult, summarize_run


def counts(latencies_ms: list[int], **fields: int) -> TypeCounts:
    made = TypeCounts(committed=len(latencies_ms), **fields)
    for latency in latencies_ms:
        made.latency.record(latency * 1_000)
    return made


def seconds() -> dict[int, Second]:
    """One second of ramp, two measured, and a late one."""
    return {
        0: {"new-order": counts([9] * 50)},
        1: {"new-order": counts([4] * 30, serialization_failures=7, met_40001=3), "payment": counts([2] * 30)},
        2: {
            "new-order": counts([6] * 29, rolled_back=1),
            "delivery": counts([20] * 3, deliveries_skipped=2, ambiguous=1),
        },
        3: {"new-order": counts([99] * 50)},
    }


def result(title: str = "server A", **overrides: object) -> RunResult:
    made = summarize_run(
        title=title,
        started_at="2026-01-02T03:04:05+00:00",
        configuration={"warehouses": 2, "connections": 8, "ramp_seconds": 1, "wait": False, "standard_scale": True},
        versions={"server": "PostgreSQL 15 <test>"},
        seconds=seconds(),
        ramp=1,
        measured_seconds=2,
        cpu_seconds=0.094,
        terminals_failed=0,
        errors=[SeenError("payment", "42P01", "no & table", 3)],
    )
    return msgspec.structs.replace(made, **overrides)


def test_numbers_follow_from_the_measured_seconds() -> None:
    made = result()
    assert made.tpmc == 60 * 60 / 2
    assert made.new_orders_committed_per_minute == 59 * 60 / 2
    assert made.transactions_per_second == 93 / 2
    assert made.new_order_40001_percent == 5.0
    assert made.client_cpu_us_per_transaction == 1_000.0
    assert [one.completed for one in made.types] == [60, 30, 0, 3, 0]
    assert abs(made.types[0].latency.p50 - 4) < 0.02
    assert abs(made.types[0].latency.p99 - 6) < 0.03
    assert made.types[0].latency.max == 6
    assert [interval.measured for interval in made.intervals] == [False, True, True]
    assert made.efficiency_percent is None


def test_efficiency_is_of_what_the_waits_allow() -> None:
    made = summarize_run(
        title="", started_at="", configuration={"warehouses": 10, "wait": True}, versions={}, ramp=0, measured_seconds=60,
        seconds={5: {"new-order": counts([1] * 64)}}, cpu_seconds=0, terminals_failed=0, errors=[],
    )  # fmt: skip
    assert made.efficiency_percent == 49.77


def test_recorder_hands_over_everything_once() -> None:
    recorder = Recorder()
    recorder.record(3, Kind.PAYMENT, counts([5]))
    recorder.record(3, Kind.PAYMENT, counts([7]))
    recorder.record_error(Kind.PAYMENT, "40003", "first")
    recorder.record_error(Kind.PAYMENT, "40003", "second")
    taken = recorder.take()
    assert taken.seconds[3]["payment"] == counts([5, 7])
    assert [(error.text, error.count) for error in taken.errors.values()] == [("first", 2)]
    assert recorder.take() == Delta()


def test_deltas_survive_their_journey() -> None:
    recorder = Recorder()
    recorder.record(0, Kind.NEW_ORDER, counts([1, 2, 3]))
    taken = recorder.take()
    assert msgspec.json.decode(msgspec.json.encode(taken), type=Delta) == taken


def test_kinds_of_errors_are_bounded() -> None:
    recorder = Recorder()
    for number in range(ERROR_KINDS_MAX + 20):
        recorder.record_error(Kind.PAYMENT, "", f"error {number}")
    errors = recorder.take().errors
    assert len(errors) == ERROR_KINDS_MAX + 1
    assert errors["other"].count == 20


def test_result_survives_its_file(tmp_path: Path) -> None:
    made = result()
    path = write_result(made, tmp_path / "new")
    assert read_result(path) == made
    path.write_text("{}")
    with pytest.raises(ValueError, match="is not a result"):
        read_result(path)


class Balanced(HTMLParser):
    """Collects text; fails on a tag that is not closed, and on anything from a network."""

    VOID = ("meta", "line", "rect", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert not {name for name, _ in attributes} & {"src", "href"}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def words(page: str) -> list[str]:
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    return parser.text


def test_page_has_the_numbers() -> None:
    checks = [
        CheckResult("3.3.2.1", "W_YTD = sum(D_YTD)", False, ["w_id"], [["17<"]]),
        CheckResult("3.3.2.2", "fine", True),
    ]
    text = words(render([result(checks=checks)]))
    for expected in (
        "1,800.0",
        "46.5",
        "5.00 %",
        "1,000 us",
        "server A",
        "violated",
        "holds",
        "17<",
        "no & table",
        "42P01",
    ):
        assert expected in text, expected
    assert "PostgreSQL 15 <test>" in text


def test_page_of_several_compares() -> None:
    first, second = result(), result("server B", tpmc=2_700.0, checks=[])
    text = words(render([first, second]))
    assert "2 runs compared" in text
    assert "2,700.00 (+50.0 %)" in text
    assert "not checked" in text


def test_page_of_nothing_measured() -> None:
    nothing = summarize_run(
        title="none", started_at="", configuration={}, versions={}, ramp=0, measured_seconds=0,
        seconds={}, cpu_seconds=0, terminals_failed=2, errors=[],
    )  # fmt: skip
    text = words(render([nothing]))
    assert "2 terminals gave up before the end." in text
    assert "Reduced scale: not TPC-C, for tests of the runner only." in text


def test_report_command(tmp_path: Path) -> None:
    path = write_result(result(), tmp_path)
    made = CliRunner().invoke(app, ["report", str(path), str(path), "--html", str(tmp_path / "both.html")])
    assert made.exit_code == 0, made.output
    assert "2 runs compared" in (tmp_path / "both.html").read_text()


def test_lines_of_progress() -> None:
    made = result()
    assert describe_interval(made.intervals[1]).startswith(
        "tpmC   1,800     60 tx/s  p50 4.0 p95 4.0 ms  retries 7  errors 0"
    )
    assert describe_interval(made.intervals[0]).endswith("(ramp)")
    assert describe_result(made)[0] == (
        "tpmC 1,800.0 (1,770.0 committed, 1 rolled back by the user), 46.5 transactions/s over 2 s"
    )


@pytest.mark.parametrize(("rough", "step"), [(0, 1), (0.3, 0.5), (1, 1), (1.1, 2), (2.1, 2.5), (26, 50), (730, 1_000)])
def test_axes_have_nice_steps(rough: float, step: float) -> None:
    assert nice_step(rough) == pytest.approx(step)


def test_chart_stays_in_its_frame() -> None:
    chart = line_chart("t", "ms", [Series("a", [(0, 0), (9.5, 100)]), Series("b", [(0, 50)])], shaded_until=20)
    assert 'points="64.0,206.0 748.0,12.0"' in chart
    assert 'width="684.0"' in chart
    assert words(chart).count("a") == 2  # In the legend and on the line.
