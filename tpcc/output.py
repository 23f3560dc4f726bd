"""What the commands print: bars on a terminal, plain lines elsewhere, or one JSON object a line."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from typing import Final

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from tpcc.checks import CheckResult
from tpcc.inputs import Kind
from tpcc.result import Interval, RunResult

PLAIN_LOAD_SECONDS: Final = 2.0
"""Between two plain lines of a load."""

BAR_WIDTH: Final = 24
TABLE_WIDTH: Final = 132


class Output(ABC):
    """Where a command tells how it goes."""

    @abstractmethod
    def note(self, text: str) -> None: ...

    @abstractmethod
    def fail(self, text: str) -> None: ...

    @abstractmethod
    def begin_load(self, totals: dict[str, int]) -> None:
        """``totals`` are rows by kind of part; kinds already loaded are told by ``advance_load``."""

    @abstractmethod
    def advance_load(self, kind: str, rows: int) -> None: ...

    @abstractmethod
    def end_load(self) -> None: ...

    @abstractmethod
    def show_interval(self, interval: Interval, seconds: int) -> None:
        """Shows one second of a run that lasts ``seconds`` with its ramp."""

    @abstractmethod
    def show_result(self, result: RunResult) -> None: ...

    @abstractmethod
    def show_checks(self, checks: list[CheckResult]) -> None: ...


def choose_output(as_json: bool) -> Output:
    if as_json:
        return JsonOutput()
    return BarOutput() if sys.stdout.isatty() else PlainOutput()


class JsonOutput(Output):
    """One object a line, each with its event."""

    def note(self, text: str) -> None:
        self._emit("note", text=text)

    def fail(self, text: str) -> None:
        self._emit("error", text=text)

    def begin_load(self, totals: dict[str, int]) -> None:
        self._emit("load-begin", rows=totals)

    def advance_load(self, kind: str, rows: int) -> None:
        self._emit("load-progress", kind=kind, rows=rows)

    def end_load(self) -> None:
        self._emit("load-end")

    def show_interval(self, interval: Interval, seconds: int) -> None:
        self._emit("interval", interval=interval, seconds=seconds)

    def show_result(self, result: RunResult) -> None:
        # The series has been told second by second.
        self._emit("result", result=msgspec.structs.replace(result, intervals=[]))

    def show_checks(self, checks: list[CheckResult]) -> None:
        for check in checks:
            self._emit("check", check=check)

    def _emit(self, event: str, **fields: object) -> None:
        line = msgspec.json.encode({"event": event, **fields})
        print(line.decode(), flush=True)


class PlainOutput(Output):
    """Lines for logs; also what a terminal shows between bars."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        # A narrower terminal wraps the table's lines; rich would leave out its columns.
        self._console.width = max(self._console.width, TABLE_WIDTH)
        self._errors = Console(stderr=True, highlight=False)
        self._totals: dict[str, int] = {}
        self._loaded: dict[str, int] = {}
        self._told_at = 0.0

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def fail(self, text: str) -> None:
        self._errors.print(text, markup=False, style="red", soft_wrap=True)

    def begin_load(self, totals: dict[str, int]) -> None:
        self._totals = totals
        self._loaded = dict.fromkeys(totals, 0)

    def advance_load(self, kind: str, rows: int) -> None:
        self._loaded[kind] += rows
        now = time.monotonic()
        if now - self._told_at >= PLAIN_LOAD_SECONDS:
            self._told_at = now
            done, total = sum(self._loaded.values()), sum(self._totals.values())
            self.note(f"loaded {done:,} of {total:,} rows")

    def end_load(self) -> None:
        self.note(f"loaded {sum(self._loaded.values()):,} rows")

    def show_interval(self, interval: Interval, seconds: int) -> None:
        self.note(f"{interval.second + 1:>5} of {seconds} s  {describe_interval(interval)}")

    def show_result(self, result: RunResult) -> None:
        self._console.print(result_table(result))
        for line in describe_result(result):
            self.note(line)

    def show_checks(self, checks: list[CheckResult]) -> None:
        for check in checks:
            self._console.print(
                f"{check.clause:<9} {'holds   ' if check.holds else 'VIOLATED'}  {check.rule}", markup=False
            )
            if not check.holds:
                self._show_violations(check)

    def _show_violations(self, check: CheckResult) -> None:
        self.note(f"          {' | '.join(check.columns)}")
        for row in check.rows:
            self.note(f"          {' | '.join(row)}")
        if check.has_more:
            self.note("          and more")


class BarOutput(PlainOutput):
    """Bars while loading, a bar over the run's lines."""

    def __init__(self) -> None:
        super().__init__()
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def begin_load(self, totals: dict[str, int]) -> None:
        super().begin_load(totals)
        columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=self._console)
        self._tasks = {kind: self._progress.add_task(kind, total=rows) for kind, rows in totals.items()}
        self._progress.start()

    def advance_load(self, kind: str, rows: int) -> None:
        assert self._progress is not None, "begin_load comes first"
        self._loaded[kind] += rows
        self._progress.advance(self._tasks[kind], rows)

    def end_load(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        super().end_load()

    def show_interval(self, interval: Interval, seconds: int) -> None:
        filled = BAR_WIDTH * (interval.second + 1) // seconds
        bar = "━" * filled + "─" * (BAR_WIDTH - filled)
        style = "cyan" if interval.measured else "dim"
        self._console.print(f"[{style}]{bar}[/]  {interval.second + 1:>4} s  {describe_interval(interval)}")


def describe_interval(interval: Interval) -> str:
    """One line: throughput, the New-Order's latency, retries and errors."""
    completed = sum(one.completed for one in interval.types.values())
    retries = sum(one.retries for one in interval.types.values())
    errors = sum(one.errors for one in interval.types.values())
    new_order = interval.types.get(Kind.NEW_ORDER)
    orders = new_order.completed if new_order else 0
    latency = f"p50 {new_order.latency.p50:.1f} p95 {new_order.latency.p95:.1f} ms" if new_order else "no new-order"
    phase = "" if interval.measured else "  (ramp)"
    return f"tpmC {orders * 60:>7,}  {completed:>5,} tx/s  {latency}  retries {retries}  errors {errors}{phase}"


def result_table(result: RunResult) -> Table:
    """One row a transaction type."""
    table = Table(box=None, pad_edge=False)
    table.add_column("transaction")
    headings = (
        "count",
        "mix %",
        "mean ms",
        "p50",
        "p90",
        "p95",
        "p99",
        "max",
        "40001",
        "deadlocks",
        "failed",
        "ambiguous",
    )
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for one in result.types:
        latency, counts = one.latency, one.counts
        numbers = (latency.mean, latency.p50, latency.p90, latency.p95, latency.p99, latency.max)
        table.add_row(
            one.name,
            f"{one.completed:,}",
            f"{one.mix_percent:.1f}",
            *[f"{number:,.1f}" for number in numbers],
            *[
                f"{n:,}"
                for n in (
                    counts.serialization_failures,
                    counts.deadlocks,
                    counts.failed + counts.exhausted,
                    counts.ambiguous,
                )
            ],
        )
    return table


def describe_result(result: RunResult) -> list[str]:
    """The lines under the table."""
    new_order = next(one.counts for one in result.types if one.name == Kind.NEW_ORDER)
    delivery = next(one.counts for one in result.types if one.name == Kind.DELIVERY)
    lines = [
        f"tpmC {result.tpmc:,.1f} ({result.new_orders_committed_per_minute:,.1f} committed, {new_order.rolled_back} rolled back by"
        f" the user), {result.transactions_per_second:,.1f} transactions/s over {result.measured_seconds:g} s",
        f"{result.new_order_40001_percent:.2f} % of New-Orders met 40001; {delivery.deliveries_skipped} deliveries skipped",
        f"client CPU {result.client_cpu_us_per_transaction:,.0f} us a transaction",
    ]
    for region in result.regions:
        latency = region.types[0].latency
        lines.append(
            f"{region.name}: tpmC {region.tpmc:,.1f}, New-Order p50 {latency.p50:,.1f} p95 {latency.p95:,.1f} p99 {latency.p99:,.1f} ms"
        )
    lines += [
        f"{event.second:6.1f} s  {event.what}{'  FAILED: ' + event.failure if event.failure else ''}"
        for event in result.chaos
    ]
    if result.efficiency_percent is not None:
        lines.append(f"efficiency {result.efficiency_percent:.1f} % of what the waits allow")
    if not result.configuration.get("standard_scale"):
        lines.append("reduced scale: not TPC-C, for tests of the runner only")
    if result.terminals_failed:
        lines.append(f"{result.terminals_failed} terminals gave up")
    lines += [f"{error.count} x {error.kind} {error.sqlstate} {error.text}" for error in result.errors]
    return lines
