"""to_char, to_date, to_timestamp, to_number: values by template.  PostgreSQL 15 manual: 9.8."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Final

from base.errors import error
from base.typeio import datetimes, formatinput, formatting, numberformat
from base.typeio.calendar import TIMESTAMP_END, TIMESTAMP_MIN
from base.types import TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY
from planner.context import ExecContext
from planner.functions.declare import define
from planner.functions.registry import STABLE, Registry

UNIX_EPOCH_US: Final = 946_684_800 * datetimes.SECOND_US
"""From 1970 to 2000."""


def integer_to_char(value: int, template: str) -> str:
    return numberformat.numeric_to_char(Decimal(value), template)


def single_to_char(value: float, template: str) -> str:
    return numberformat.float_to_char(value, template, True)


def timestamptz_to_char(ctx: ExecContext, value: int, template: str) -> str | None:
    return formatting.timestamptz_to_char(value, template, ctx.timezone)


def char_to_timestamptz(ctx: ExecContext, text: str, template: str) -> int:
    return formatinput.char_to_timestamptz(text, template, ctx.timezone)


def epoch_to_timestamptz(seconds: float) -> int:
    """to_timestamp(double precision): seconds since 1970."""
    if math.isnan(seconds):
        raise error("22008", "timestamp cannot be NaN")
    if math.isinf(seconds):
        return TIMESTAMP_INFINITY if seconds > 0 else TIMESTAMP_MINUS_INFINITY
    # The whole seconds are moved first: near the year 2000 that keeps microseconds exact, as PostgreSQL does.
    value = round((seconds - UNIX_EPOCH_US / datetimes.SECOND_US) * datetimes.SECOND_US)
    if not TIMESTAMP_MIN <= value < TIMESTAMP_END:
        raise error("22008", f'timestamp out of range: "{seconds:g}"')
    return value


def register(registry: Registry) -> None:
    """Adds this family."""
    for name in ("int4", "int8"):
        define(registry, f"to_char({name}, text) text", integer_to_char, volatility=STABLE)
    define(registry, "to_char(numeric, text) text", numberformat.numeric_to_char, volatility=STABLE)
    define(registry, "to_char(float4, text) text", single_to_char, volatility=STABLE)
    define(registry, "to_char(float8, text) text", numberformat.float_to_char, volatility=STABLE)
    define(registry, "to_char(timestamp, text) text", formatting.timestamp_to_char, volatility=STABLE)
    define(registry, "to_char(timestamptz, text) text", timestamptz_to_char, needs_context=True, volatility=STABLE)
    define(registry, "to_char(interval, text) text", formatting.interval_to_char, volatility=STABLE)
    define(registry, "to_number(text, text) numeric", numberformat.char_to_numeric, volatility=STABLE)
    define(registry, "to_date(text, text) date", formatinput.char_to_date, volatility=STABLE)
    define(registry, "to_timestamp(text, text) timestamptz", char_to_timestamptz, needs_context=True, volatility=STABLE)
    define(registry, "to_timestamp(float8) timestamptz", epoch_to_timestamptz)
