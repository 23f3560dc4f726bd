"""The HTML page of one result or several, and the file it is made from.

The page is one file without scripts or anything from a network. With several results the first is what the others compare with.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Final

import msgspec

from tpcc.charts import Series, line_chart
from tpcc.checks import CheckResult
from tpcc.inputs import Kind
from tpcc.result import FORMAT, Interval, IntervalType, RunResult

RESULT_FILE: Final = "result.json"


def write_result(result: RunResult, directory: Path) -> Path:
    """Writes result.json and returns its path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / RESULT_FILE
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
    return path


def read_result(path: Path) -> RunResult:
    """Reads a result; ValueError if it is none."""
    try:
        result = msgspec.json.decode(path.read_bytes(), type=RunResult)
    except msgspec.DecodeError as failure:
        raise ValueError(f"{path} is not a result of `tpcc run`: {failure}") from failure
    if result.format != FORMAT:
        raise ValueError(f"{path} has format {result.format}; this version reads {FORMAT}")
    return result


def write_report(results: list[RunResult], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(results), encoding="utf-8")
    return path


def render(results: list[RunResult]) -> str:
    """Returns the page."""
    assert results, "a report is of at least one result"
    css = files("tpcc").joinpath("report.css").read_text(encoding="utf-8")
    body = _render_one(results[0]) if len(results) == 1 else _render_several(results)
    title = results[0].title if len(results) == 1 else f"{len(results)} runs compared"
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>TPC-C: {escape(title)}</title><style>{css}</style>"
    )
    note = '<p class="sub">Derived from TPC-C; not audited, and not comparable with published TPC-C results.</p>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}{note}</body></html>\n'


def _render_one(result: RunResult) -> str:
    parts = [
        f'<h1>{escape(result.title)}</h1><p class="sub">TPC-C mix, {escape(result.started_at)}</p>',
        _warnings(result),
        _tiles(result),
        "<h2>Throughput</h2>",
        f'<div class="charts">{_throughput(result)}</div>',
        "<h2>Transactions</h2>",
        _transactions_table(result),
        _regions(result),
        _chaos(result),
        "<h2>Latency over time</h2>",
        f'<div class="charts">{"".join([_latency(result, kind) for kind in Kind])}</div>',
        "<h2>Consistency</h2>",
        _checks(result.checks),
        _errors(result),
        "<h2>Configuration</h2>",
        _configuration([result]),
    ]
    return "".join(parts)


def _render_several(results: list[RunResult]) -> str:
    first = results[0]
    ramp = _ramp(first)
    charts = [line_chart("New-Orders", "a minute", [_series(run, run.title, _tpmc) for run in results], ramp)]
    for kind in Kind:
        series = [_series(run, run.title, _picker(kind, lambda one: one.latency.p95)) for run in results]
        charts.append(line_chart(f"{kind.value}, 95th percentile", "ms", series, ramp))
    parts = [
        f'<h1>{len(results)} runs compared</h1><p class="sub">TPC-C mix; differences are against the first</p>',
        _comparison(results),
        f'<h2>Over time</h2><div class="charts">{"".join(charts)}</div>',
        "<h2>Configuration</h2>",
        _configuration(results),
    ]
    for result in results:
        parts.append(
            f"<h2>{escape(result.title)}</h2>{_warnings(result)}{_transactions_table(result)}{_regions(result)}{_chaos(result)}"
        )
        parts.append(f"<h3>Consistency</h3>{_checks(result.checks)}{_errors(result)}")
    return "".join(parts)


def _warnings(result: RunResult) -> str:
    texts = []
    if not result.configuration.get("standard_scale"):
        texts.append("Reduced scale: not TPC-C, for tests of the runner only.")
    if result.terminals_failed:
        texts.append(f"{result.terminals_failed} terminals gave up before the end.")
    return "".join([f'<p class="warning">{escape(text)}</p>' for text in texts])


def _tiles(result: RunResult) -> str:
    new_order = result.types[0]
    tiles = [
        (f"{result.tpmc:,.1f}", "tpmC"),
        (f"{result.transactions_per_second:,.1f}", "transactions / s"),
        (f"{new_order.latency.p50:,.2f} ms", "New-Order p50"),
        (f"{new_order.latency.p95:,.2f} ms", "New-Order p95"),
        (f"{new_order.latency.p99:,.2f} ms", "New-Order p99"),
        (f"{result.new_order_40001_percent:.2f} %", "New-Orders that met 40001"),
        (f"{sum(one.counts.ambiguous for one in result.types):,}", "ambiguous commits"),
        (f"{result.client_cpu_us_per_transaction:,.0f} us", "client CPU a transaction"),
    ]
    if result.efficiency_percent is not None:
        tiles.append((f"{result.efficiency_percent:.1f} %", "of 12.86 tpmC a warehouse"))
    cells = [f'<div class="tile"><b>{value}</b><span>{escape(name)}</span></div>' for value, name in tiles]
    return f'<div class="tiles">{"".join(cells)}</div>'


Picker = Callable[[Interval], float | None]


def _series(result: RunResult, name: str, pick: Picker) -> Series:
    values = [(interval.second + 0.5, pick(interval)) for interval in result.intervals]
    return Series(name, [(second, value) for second, value in values if value is not None])


def _picker(kind: Kind, pick: Callable[[IntervalType], float]) -> Picker:
    """Returns the value of a second, or None where no transaction of this type ended."""

    def value(interval: Interval) -> float | None:
        one = interval.types.get(kind)
        return pick(one) if one is not None and one.completed else None

    return value


def _tpmc(interval: Interval) -> float:
    one = interval.types.get(Kind.NEW_ORDER)
    return 60.0 * one.completed if one else 0.0


def _all_completed(interval: Interval) -> float:
    return float(sum(one.completed for one in interval.types.values()))


def _all_retries(interval: Interval) -> float:
    return float(sum(one.retries for one in interval.types.values()))


def _ramp(result: RunResult) -> float:
    return float(result.configuration.get("ramp_seconds") or 0)


def _throughput(result: RunResult) -> str:
    orders = line_chart("New-Orders", "a minute", [_series(result, "New-Orders", _tpmc)], _ramp(result))
    series = [_series(result, "completed", _all_completed), _series(result, "retries", _all_retries)]
    return orders + line_chart("Transactions", "a second", series, _ramp(result))


def _latency(result: RunResult, kind: Kind) -> str:
    series = [
        _series(result, "p50", _picker(kind, lambda one: one.latency.p50)),
        _series(result, "p95", _picker(kind, lambda one: one.latency.p95)),
        _series(result, "p99", _picker(kind, lambda one: one.latency.p99)),
    ]
    return line_chart(kind.value, "ms", series, _ramp(result))


def _transactions_table(result: RunResult) -> str:
    headings = (
        "transaction", "completed", "mix %", "mean ms", "p50", "p90", "p95", "p99", "max", "user rollbacks", "40001", "deadlocks",
        "failed", "gave up", "ambiguous", "skipped",
    )  # fmt: skip
    rows = []
    for one in result.types:
        latency, counts = one.latency, one.counts
        milliseconds = (latency.mean, latency.p50, latency.p90, latency.p95, latency.p99, latency.max)
        numbers = (
            counts.rolled_back, counts.serialization_failures, counts.deadlocks, counts.failed, counts.exhausted, counts.ambiguous,
            counts.deliveries_skipped,
        )  # fmt: skip
        cells = [one.name, f"{one.completed:,}", f"{one.mix_percent:.2f}"]
        cells += [f"{value:,.2f}" for value in milliseconds] + [f"{number:,}" for number in numbers]
        rows.append(cells)
    return _table(headings, rows)


def _regions(result: RunResult) -> str:
    """Latencies by the region of the terminals."""
    if not result.regions:
        return ""
    rows = []
    for region in result.regions:
        for one in region.types:
            latency = one.latency
            cells = [f"{value:,.2f}" for value in (latency.p50, latency.p90, latency.p95, latency.p99, latency.max)]
            errors = one.counts.failed + one.counts.exhausted + one.counts.ambiguous
            rows.append([region.name, one.name, f"{one.completed:,}", *cells, f"{errors:,}"])
    headings = ("region", "transaction", "completed", "p50 ms", "p90", "p95", "p99", "max", "errors")
    return f"<h2>Latency by region</h2>{_table(headings, rows)}"


def _chaos(result: RunResult) -> str:
    if not result.chaos:
        return ""
    rows = [[f"{event.second:.1f}", event.what, event.failure or "done"] for event in result.chaos]
    return f"<h2>What was broken</h2>{_table(('second', 'what', ''), rows)}"


def _comparison(results: list[RunResult]) -> str:
    """One row a measure, one column a run."""
    measures: list[tuple[str, list[float]]] = [
        ("tpmC", [run.tpmc for run in results]),
        ("transactions / s", [run.transactions_per_second for run in results]),
        ("New-Orders that met 40001, %", [run.new_order_40001_percent for run in results]),
        ("client CPU a transaction, us", [run.client_cpu_us_per_transaction for run in results]),
    ]
    for position, kind in enumerate(Kind):
        types = [run.types[position] for run in results]
        measures.append((f"{kind.value} p50, ms", [one.latency.p50 for one in types]))
        measures.append((f"{kind.value} p95, ms", [one.latency.p95 for one in types]))
        measures.append((f"{kind.value} p99, ms", [one.latency.p99 for one in types]))
    rows = [[name, *[_against(value, values[0], at) for at, value in enumerate(values)]] for name, values in measures]
    rows.append(["consistency", *[_verdict(run.checks) for run in results]])
    return _table(("", *[run.title for run in results]), rows)


def _against(value: float, first: float, at: int) -> str:
    text = f"{value:,.2f}"
    return text if at == 0 or not first else f"{text} ({100 * (value - first) / first:+.1f} %)"


def _verdict(checks: list[CheckResult] | None) -> str:
    if checks is None:
        return "not checked"
    violated = [check.clause for check in checks if not check.holds]
    return f"violated: {', '.join(violated)}" if violated else f"all {len(checks)} hold"


def _checks(checks: list[CheckResult] | None) -> str:
    if checks is None:
        return '<p class="sub">The conditions were not checked.</p>'
    rows = []
    for check in checks:
        verdict = '<span class="good">holds</span>' if check.holds else '<span class="bad">violated</span>'
        rule = escape(check.rule)
        if not check.holds:
            lines = [" | ".join(check.columns), *[" | ".join(row) for row in check.rows]]
            rule += "".join([f"<br><code>{escape(line)}</code>" for line in lines]) + (" ..." if check.has_more else "")
        rows.append(f'<tr><td>{check.clause}</td><td class="text">{rule}</td><td>{verdict}</td></tr>')
    return f'<div class="scroll"><table>{"".join(rows)}</table></div>'


def _errors(result: RunResult) -> str:
    if not result.errors:
        return ""
    rows = [[f"{error.count:,}", error.kind, error.sqlstate, error.text] for error in result.errors]
    return f"<h3>Errors</h3>{_table(('count', 'transaction', 'SQLSTATE', 'the first one'), rows)}"


def _configuration(results: list[RunResult]) -> str:
    names = dict.fromkeys([name for run in results for name in (*run.configuration, *run.versions)])
    rows = []
    for name in names:
        values = [(run.configuration | run.versions).get(name, "") for run in results]
        rows.append([name.replace("_", " "), *[str(value) for value in values]])
    return _table(("", *[run.title for run in results]), rows)


def _table(headings: tuple[str, ...], rows: list[list[str]]) -> str:
    head = "".join([f"<th>{escape(heading)}</th>" for heading in headings])
    lines = ["<tr>" + "".join([f"<td>{escape(cell)}</td>" for cell in row]) + "</tr>" for row in rows]
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(lines)}</table></div>'
