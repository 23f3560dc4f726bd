"""extract, date_part, date_trunc and date_bin over ``base.typeio.dateparts``.  PostgreSQL 15 manual: 9.9.1 - 9.9.3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from base.typeio import dateparts
from planner.context import ExecContext
from planner.functions.declare import define
from planner.functions.registry import STABLE, Registry


def extract_timestamptz(ctx: ExecContext, field: str, value: int) -> Any:
    return dateparts.extract_timestamptz(field, value, ctx.timezone)


def part_timestamptz(ctx: ExecContext, field: str, value: int) -> float | None:
    return dateparts.into_date_part(dateparts.extract_timestamptz(field, value, ctx.timezone))


def _as_float(extract: Callable[[str, Any], Any]) -> Callable[[str, Any], float | None]:
    return lambda field, value: dateparts.into_date_part(extract(field, value))


def truncate_timestamptz(ctx: ExecContext, field: str, value: int) -> int:
    return dateparts.trunc_timestamptz(field, value, ctx.timezone)


def register(registry: Registry) -> None:
    """Adds this family; EXTRACT(field FROM x) is ``extract(text, x)``."""
    plain: tuple[tuple[str, Callable[[str, Any], Any]], ...] = (
        ("timestamp", dateparts.extract_timestamp),
        ("date", dateparts.extract_date),
        ("time", dateparts.extract_time),
        ("timetz", dateparts.extract_timetz),
        ("interval", dateparts.extract_interval),
    )
    for name, extract in plain:
        define(registry, f"extract(text, {name}) numeric", extract)
        if name == "date":
            define(registry, "date_part(text, date) float8", dateparts.date_part_date)
        elif name == "interval":
            define(registry, "date_part(text, interval) float8", dateparts.date_part_interval)
        else:
            define(registry, f"date_part(text, {name}) float8", _as_float(extract))
    define(registry, "extract(text, timestamptz) numeric", extract_timestamptz, needs_context=True, volatility=STABLE)
    define(registry, "date_part(text, timestamptz) float8", part_timestamptz, needs_context=True, volatility=STABLE)
    define(registry, "date_trunc(text, timestamp) timestamp", dateparts.trunc_timestamp)
    define(registry, "date_trunc(text, interval) interval", dateparts.trunc_interval)
    define(
        registry,
        "date_trunc(text, timestamptz) timestamptz",
        truncate_timestamptz,
        needs_context=True,
        volatility=STABLE,
    )
    define(registry, "date_trunc(text, timestamptz, text) timestamptz", dateparts.trunc_timestamptz, volatility=STABLE)
    for name in ("timestamp", "timestamptz"):
        define(registry, f"date_bin(interval, {name}, {name}) {name}", dateparts.date_bin)
