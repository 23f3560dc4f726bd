"""result.json: all numbers of a run, and how they follow from the counts."""

from __future__ import annotations

from typing import Final

import msgspec

from tpcc.checks import CheckResult
from tpcc.histogram import Histogram
from tpcc.inputs import Kind
from tpcc.metrics import Second, SeenError, TypeCounts, merge_types

FORMAT: Final = 1
PERCENTILES: Final = (50.0, 90.0, 95.0, 99.0)
TPMC_PER_WAREHOUSE_MAX: Final = 12.86
"""What keying and think times let a warehouse's ten terminals reach (4.2.2)."""

Configuration = dict[str, str | int | float | bool | None]


class Latency(msgspec.Struct):
    """Milliseconds."""

    mean: float = 0
    p50: float = 0
    p90: float = 0
    p95: float = 0
    p99: float = 0
    max: float = 0


class TypeResult(msgspec.Struct):
    """One transaction type in the measured time."""

    name: str
    completed: int
    mix_percent: float
    latency: Latency
    counts: TypeCounts


class IntervalType(msgspec.Struct):
    completed: int
    retries: int
    errors: int
    latency: Latency


class Interval(msgspec.Struct):
    """One second; of the ramp if it is not measured."""

    second: int
    measured: bool
    types: dict[str, IntervalType]


class RegionResult(msgspec.Struct):
    """The terminals of one region in the measured time."""

    name: str
    tpmc: float
    types: list[TypeResult]


class ChaosEvent(msgspec.Struct):
    """Something that was broken or mended while the run went on."""

    second: float
    what: str
    failure: str = ""
    """Why it could not be done; "" if it was."""


class RunResult(msgspec.Struct):
    title: str
    started_at: str
    """UTC, ISO 8601."""
    configuration: Configuration
    versions: dict[str, str]
    measured_seconds: float
    tpmc: float
    """Completed New-Orders a minute, user rollbacks among them."""
    new_orders_committed_per_minute: float
    transactions_per_second: float
    new_order_40001_percent: float
    """New-Orders that met at least one 40001."""
    efficiency_percent: float | None
    """Of the 12.86 tpmC a warehouse may reach; only with keying and think times."""
    client_cpu_us_per_transaction: float
    terminals_failed: int
    types: list[TypeResult]
    intervals: list[Interval]
    errors: list[SeenError]
    checks: list[CheckResult] | None = None
    """None if they were not asked."""
    regions: list[RegionResult] = []
    """Where terminals are at home in regions."""
    chaos: list[ChaosEvent] = []
    format: int = FORMAT


def summarize_latency(histogram: Histogram) -> Latency:
    p50, p90, p95, p99 = (value / 1_000 for value in histogram.percentiles(PERCENTILES))
    return Latency(round(histogram.mean_us / 1_000, 3), p50, p90, p95, p99, histogram.max_us / 1_000)


def summarize_types(seconds: dict[int, Second], first: int, last: int) -> list[TypeResult]:
    """Sums the seconds in [first, last), all five types in their order."""
    sums: Second = {}
    for second in range(first, last):
        merge_types(sums, seconds.get(second, {}))
    return summarize_sums(sums)


def summarize_sums(found: Second) -> list[TypeResult]:
    """Returns all five types in their order."""
    sums = {kind.value: found.get(kind.value, TypeCounts()) for kind in Kind}
    completed = sum(counts.completed for counts in sums.values())
    return [
        TypeResult(
            name=name,
            completed=counts.completed,
            mix_percent=round(100 * counts.completed / max(completed, 1), 2),
            latency=summarize_latency(counts.latency),
            counts=counts,
        )
        for name, counts in sums.items()
    ]


def summarize_second(second: int, ramp: int, types: Second) -> Interval:
    return Interval(
        second,
        second >= ramp,
        {
            name: IntervalType(
                completed=counts.completed,
                retries=counts.serialization_failures + counts.deadlocks,
                errors=counts.failed + counts.exhausted + counts.ambiguous,
                latency=summarize_latency(counts.latency),
            )
            for name, counts in sorted(types.items())
        },
    )


def summarize_run(
    *,
    title: str,
    started_at: str,
    configuration: Configuration,
    versions: dict[str, str],
    seconds: dict[int, Second],
    ramp: int,
    measured_seconds: int,
    cpu_seconds: float,
    terminals_failed: int,
    errors: list[SeenError],
    regions: dict[str, Second] | None = None,
) -> RunResult:
    """Computes every number from the counts; seconds before the ramp's end and after the measured time do not count."""
    end = ramp + measured_seconds
    types = summarize_types(seconds, ramp, end)
    new_order = next(one for one in types if one.name == Kind.NEW_ORDER).counts
    completed = sum(one.completed for one in types)
    finished = sum(one.counts.finished for one in types)
    length = max(measured_seconds, 1)
    tpmc = new_order.completed * 60 / length
    efficiency = None
    if configuration.get("wait"):
        efficiency = round(100 * tpmc / (TPMC_PER_WAREHOUSE_MAX * int(configuration["warehouses"] or 1)), 2)
    return RunResult(
        title=title,
        started_at=started_at,
        configuration=configuration,
        versions=versions,
        measured_seconds=measured_seconds,
        tpmc=round(tpmc, 1),
        new_orders_committed_per_minute=round(new_order.committed * 60 / length, 1),
        transactions_per_second=round(completed / length, 1),
        new_order_40001_percent=round(100 * new_order.met_40001 / max(new_order.finished, 1), 2),
        efficiency_percent=efficiency,
        client_cpu_us_per_transaction=round(cpu_seconds * 1e6 / max(finished, 1), 1),
        terminals_failed=terminals_failed,
        types=types,
        intervals=[summarize_second(second, ramp, seconds.get(second, {})) for second in range(end)],
        errors=sorted(errors, key=lambda error: -error.count),
        regions=[_summarize_region(name, types, length) for name, types in sorted((regions or {}).items())],
    )


def _summarize_region(name: str, sums: Second, seconds: int) -> RegionResult:
    types = summarize_sums(sums)
    new_orders = next(one.completed for one in types if one.name == Kind.NEW_ORDER)
    return RegionResult(name, round(new_orders * 60 / seconds, 1), types)
