"""Dates, times, timestamps, intervals: operators, casts and functions over ``base.typeio``'s primitives.

What depends on the session's zone takes the context and is stable.  PostgreSQL 15 manual: 9.9.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from base.errors import error
from base.typeio import datetimes as dt
from base.typeio.datetime import round_timestamp
from base.types import DATE_INFINITY, DATE_MINUS_INFINITY, TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY
from planner.context import ExecContext
from planner.functions.aggregates import define_aggregate, either, itself, nothing
from planner.functions.casts import define_cast
from planner.functions.comparison import SYMBOLS
from planner.functions.declare import define, define_operator
from planner.functions.registry import STABLE, VOLATILE, Registry

Interval = tuple[int, int, int]
TimeTz = tuple[int, int]
DAY_US: Final = dt.DAY_US
SECOND_US: Final = dt.SECOND_US

# --- arithmetic ------------------------------------------------------------------------


def minus(interval: Interval) -> Interval:
    return dt.negate_interval(interval)


def timestamp_minus_interval(value: int, interval: Interval) -> int:
    return dt.timestamp_plus_interval(value, minus(interval))


def timestamptz_plus(ctx: ExecContext, value: int, interval: Interval) -> int:
    return dt.timestamptz_plus_interval(value, interval, ctx.timezone)


def timestamptz_minus(ctx: ExecContext, value: int, interval: Interval) -> int:
    return dt.timestamptz_plus_interval(value, minus(interval), ctx.timezone)


def date_plus_interval(days: int, interval: Interval) -> int:
    return dt.timestamp_plus_interval(dt.date_to_timestamp(days), interval)


def date_minus_interval(days: int, interval: Interval) -> int:
    return dt.timestamp_plus_interval(dt.date_to_timestamp(days), minus(interval))


def date_minus_days(days: int, count: int) -> int:
    return dt.date_plus_days(days, -count)


def date_plus_time(days: int, time: int) -> int:
    midnight = dt.date_to_timestamp(days)
    return dt.checked_timestamp(midnight + time) if dt.is_finite_timestamp(midnight) else midnight


def date_plus_timetz(days: int, time: TimeTz) -> int:
    midnight = dt.date_to_timestamp(days)
    return (
        dt.checked_timestamp(midnight + time[0] + time[1] * SECOND_US) if dt.is_finite_timestamp(midnight) else midnight
    )


def time_plus_interval(time: int, interval: Interval) -> int:
    return (time + interval[2]) % DAY_US


def time_minus_interval(time: int, interval: Interval) -> int:
    return (time - interval[2]) % DAY_US


def time_minus_time(left: int, right: int) -> Interval:
    return (0, 0, left - right)


def timetz_plus_interval(time: TimeTz, interval: Interval) -> TimeTz:
    return ((time[0] + interval[2]) % DAY_US, time[1])


def timetz_minus_interval(time: TimeTz, interval: Interval) -> TimeTz:
    return ((time[0] - interval[2]) % DAY_US, time[1])


def _swapped(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda left, right: function(right, left)


def _register_arithmetic(registry: Registry) -> None:
    plain: tuple[tuple[str, str, Callable[..., Any]], ...] = (
        ("+", "date_pli(date, int4) date", dt.date_plus_days),
        ("+", "integer_pl_date(int4, date) date", _swapped(dt.date_plus_days)),
        ("-", "date_mii(date, int4) date", date_minus_days),
        ("-", "date_mi(date, date) int4", dt.date_minus_date),
        ("+", "date_pl_interval(date, interval) timestamp", date_plus_interval),
        ("-", "date_mi_interval(date, interval) timestamp", date_minus_interval),
        ("+", "interval_pl_date(interval, date) timestamp", _swapped(date_plus_interval)),
        ("+", "datetime_pl(date, time) timestamp", date_plus_time),
        ("+", "timedate_pl(time, date) timestamp", _swapped(date_plus_time)),
        ("+", "datetimetz_pl(date, timetz) timestamptz", date_plus_timetz),
        ("+", "timetzdate_pl(timetz, date) timestamptz", _swapped(date_plus_timetz)),
        ("+", "timestamp_pl_interval(timestamp, interval) timestamp", dt.timestamp_plus_interval),
        ("+", "interval_pl_timestamp(interval, timestamp) timestamp", _swapped(dt.timestamp_plus_interval)),
        ("-", "timestamp_mi_interval(timestamp, interval) timestamp", timestamp_minus_interval),
        ("-", "timestamp_mi(timestamp, timestamp) interval", dt.timestamp_minus_timestamp),
        ("-", "timestamptz_mi(timestamptz, timestamptz) interval", dt.timestamp_minus_timestamp),
        ("+", "time_pl_interval(time, interval) time", time_plus_interval),
        ("+", "interval_pl_time(interval, time) time", _swapped(time_plus_interval)),
        ("-", "time_mi_interval(time, interval) time", time_minus_interval),
        ("-", "time_mi_time(time, time) interval", time_minus_time),
        ("+", "timetz_pl_interval(timetz, interval) timetz", timetz_plus_interval),
        ("+", "interval_pl_timetz(interval, timetz) timetz", _swapped(timetz_plus_interval)),
        ("-", "timetz_mi_interval(timetz, interval) timetz", timetz_minus_interval),
        ("+", "interval_pl(interval, interval) interval", dt.add_intervals),
        ("-", "interval_mi(interval, interval) interval", dt.subtract_intervals),
        ("*", "interval_mul(interval, float8) interval", dt.multiply_interval),
        ("*", "mul_d_interval(float8, interval) interval", _swapped(dt.multiply_interval)),
        ("/", "interval_div(interval, float8) interval", dt.divide_interval),
    )
    for symbol, signature, impl in plain:
        define_operator(registry, symbol, signature, impl)
    define_operator(registry, "-", "interval_um(interval) interval", minus)
    define_operator(
        registry,
        "+",
        "timestamptz_pl_interval(timestamptz, interval) timestamptz",
        timestamptz_plus,
        needs_context=True,
        volatility=STABLE,
    )
    define_operator(
        registry, "+", "interval_pl_timestamptz(interval, timestamptz) timestamptz",
        lambda ctx, interval, value: timestamptz_plus(ctx, value, interval), needs_context=True, volatility=STABLE,
    )  # fmt: skip
    define_operator(
        registry,
        "-",
        "timestamptz_mi_interval(timestamptz, interval) timestamptz",
        timestamptz_minus,
        needs_context=True,
        volatility=STABLE,
    )


# --- comparison between types -------------------------------------------------------------


class _Comparison:
    """date, timestamp and timestamptz with each other: both sides are made instants first."""

    def __init__(self, suffix: str, left: str, right: str) -> None:
        self.suffix = suffix
        zoned = "timestamptz" in (left, right)
        self.left = _INSTANT[left, zoned]
        self.right = _INSTANT[right, zoned]

    def _verdict(self, left: int, right: int) -> bool:
        order = (left > right) - (left < right)
        return order in _ACCEPTED[self.suffix]

    def plain(self, left: int, right: int) -> bool:
        return self._verdict(self.left(left, ""), self.right(right, ""))

    def zoned(self, ctx: ExecContext, left: int, right: int) -> bool:
        return self._verdict(self.left(left, ctx.timezone), self.right(right, ctx.timezone))


_ACCEPTED: Final = {"eq": (0,), "ne": (-1, 1), "lt": (-1,), "le": (-1, 0), "gt": (1,), "ge": (0, 1)}


def _unchanged(value: int, zone: str) -> int:
    return value


def _date_instant(value: int, zone: str) -> int:
    """Midnight, without a limit: dates reach further than timestamps."""
    return value * DAY_US if dt.is_finite_date(value) else dt.date_to_timestamp(value)


def _date_zoned_instant(value: int, zone: str) -> int:
    local = _date_instant(value, zone)
    return dt.timestamp_to_timestamptz(local, zone) if abs(local) < TIMESTAMP_INFINITY // 2 else local


_INSTANT: Final[dict[tuple[str, bool], Callable[[int, str], int]]] = {
    ("date", False): _date_instant,
    ("timestamp", False): _unchanged,
    ("date", True): _date_zoned_instant,
    ("timestamp", True): dt.timestamp_to_timestamptz,
    ("timestamptz", True): _unchanged,
}


def _register_comparison(registry: Registry) -> None:
    names = ("date", "timestamp", "timestamptz")
    for left in names:
        for right in names:
            if left == right:
                continue
            for suffix, (symbol, _) in SYMBOLS.items():
                compare = _Comparison(suffix, left, right)
                signature = f"{left}_{suffix}_{right}({left}, {right}) bool"
                if "timestamptz" in (left, right):
                    define_operator(registry, symbol, signature, compare.zoned, needs_context=True, volatility=STABLE)
                else:
                    define_operator(registry, symbol, signature, compare.plain)


# --- casts -----------------------------------------------------------------------------------


def timestamp_to_time(value: int) -> int | None:
    return value % DAY_US if dt.is_finite_timestamp(value) else None


def timestamptz_to_time(ctx: ExecContext, value: int) -> int | None:
    return timestamp_to_time(dt.timestamptz_to_timestamp(value, ctx.timezone))


def timestamptz_to_timetz(ctx: ExecContext, value: int) -> TimeTz | None:
    return dt.timestamptz_to_timetz(value, ctx.timezone) if dt.is_finite_timestamp(value) else None


def time_to_timetz(ctx: ExecContext, time: int) -> TimeTz:
    """With the zone's offset at the transaction's start."""
    return (time, dt.timestamptz_to_timetz(ctx.transaction_time, ctx.timezone)[1])


def _register_casts(registry: Registry) -> None:
    define_cast(registry, "i", "timestamp(date) timestamp", dt.date_to_timestamp)
    define_cast(registry, "a", "date(timestamp) date", dt.timestamp_to_date)
    define_cast(registry, "a", "time(timestamp) time", timestamp_to_time)
    define_cast(registry, "i", "interval(time) interval", lambda time: (0, 0, time))
    define_cast(registry, "a", "time(interval) time", lambda interval: interval[2] % DAY_US)
    define_cast(registry, "a", "time(timetz) time", lambda time: time[0])
    zoned: tuple[tuple[str, str, Callable[..., Any]], ...] = (
        ("i", "timestamptz(date) timestamptz", lambda ctx, days: dt.date_to_timestamptz(days, ctx.timezone)),
        (
            "i",
            "timestamptz(timestamp) timestamptz",
            lambda ctx, value: dt.timestamp_to_timestamptz(value, ctx.timezone),
        ),
        ("a", "timestamp(timestamptz) timestamp", lambda ctx, value: dt.timestamptz_to_timestamp(value, ctx.timezone)),
        ("a", "date(timestamptz) date", lambda ctx, value: dt.timestamptz_to_date(value, ctx.timezone)),
        ("a", "time(timestamptz) time", timestamptz_to_time),
        ("a", "timetz(timestamptz) timetz", timestamptz_to_timetz),
        ("i", "timetz(time) timetz", time_to_timetz),
    )
    for context, signature, impl in zoned:
        define_cast(registry, context, signature, impl, needs_context=True, volatility=STABLE)


# --- the time now ------------------------------------------------------------------------------


def _rounded(value: int, precision: int) -> int:
    return round_timestamp(value, min(max(precision, 0), 6))


def _register_now(registry: Registry) -> None:
    def stable(signature: str, impl: Callable[..., Any], volatility: str = STABLE) -> None:
        define(registry, signature, impl, needs_context=True, volatility=volatility)

    for name in ("now", "transaction_timestamp", "current_timestamp"):
        stable(f"{name}() timestamptz", lambda ctx: ctx.transaction_time)
    stable("current_timestamp(int4) timestamptz", lambda ctx, precision: _rounded(ctx.transaction_time, precision))
    stable("statement_timestamp() timestamptz", lambda ctx: ctx.statement_time)
    stable("clock_timestamp() timestamptz", lambda ctx: ctx.clock_time(), VOLATILE)
    stable("current_date() date", lambda ctx: dt.timestamptz_to_date(ctx.transaction_time, ctx.timezone))
    stable("localtimestamp() timestamp", lambda ctx: dt.timestamptz_to_timestamp(ctx.transaction_time, ctx.timezone))
    stable(
        "localtimestamp(int4) timestamp",
        lambda ctx, precision: _rounded(dt.timestamptz_to_timestamp(ctx.transaction_time, ctx.timezone), precision),
    )
    stable("localtime() time", lambda ctx: timestamptz_to_time(ctx, ctx.transaction_time))
    stable(
        "localtime(int4) time",
        lambda ctx, precision: _rounded(timestamptz_to_time(ctx, ctx.transaction_time) or 0, precision) % DAY_US,
    )
    stable("current_time() timetz", lambda ctx: dt.timestamptz_to_timetz(ctx.transaction_time, ctx.timezone))
    stable("current_time(int4) timetz", _current_time)


def _current_time(ctx: ExecContext, precision: int) -> TimeTz:
    time, west = dt.timestamptz_to_timetz(ctx.transaction_time, ctx.timezone)
    return (_rounded(time, precision) % DAY_US, west)


# --- zones, age, make_*, overlaps, series --------------------------------------------------------


def zone_of_interval(interval: Interval) -> str:
    """A zone given as an interval east of UTC."""
    if interval[0] or interval[1]:
        raise error("22023", "interval time zone must not include months or days")
    seconds = interval[2] // SECOND_US
    sign = "-" if seconds >= 0 else "+"
    hours, rest = divmod(abs(seconds), 3600)
    # POSIX zones count west of UTC.
    return f"<{'+' if seconds >= 0 else '-'}{hours:02d}:{rest // 60:02d}:{rest % 60:02d}>{sign}{hours:02d}:{rest // 60:02d}:{rest % 60:02d}"


def timetz_at_zone(ctx: ExecContext, zone: str, time: TimeTz) -> TimeTz:
    west = dt.timestamptz_to_timetz(ctx.transaction_time, zone)[1]
    return ((time[0] + (time[1] - west) * SECOND_US) % DAY_US, west)


def _register_zones(registry: Registry) -> None:
    define(
        registry, "timezone(text, timestamptz) timestamp", lambda zone, value: dt.timestamptz_to_timestamp(value, zone)
    )
    define(
        registry, "timezone(text, timestamp) timestamptz", lambda zone, value: dt.timestamp_to_timestamptz(value, zone)
    )
    define(
        registry,
        "timezone(interval, timestamptz) timestamp",
        lambda zone, value: dt.timestamptz_to_timestamp(value, zone_of_interval(zone)),
    )
    define(
        registry,
        "timezone(interval, timestamp) timestamptz",
        lambda zone, value: dt.timestamp_to_timestamptz(value, zone_of_interval(zone)),
    )
    define(registry, "timezone(text, timetz) timetz", timetz_at_zone, needs_context=True, volatility=STABLE)
    define(
        registry, "timezone(interval, timetz) timetz", lambda ctx, zone, time: timetz_at_zone(ctx, zone_of_interval(zone), time),
        needs_context=True, volatility=STABLE,
    )  # fmt: skip


def make_date(year: int, month: int, day: int) -> int:
    """Negative years are BC."""
    if year == 0 or not 1 <= month <= 12 or not 1 <= day <= dt.month_length(year if year > 0 else year + 1, month):
        raise error("22008", f"date field value out of range: {year}-{month:02d}-{day:02d}")
    if not -4713 <= year <= 5_874_897:
        raise error("22008", f"date out of range: {year}-{month:02d}-{day:02d}")
    return dt.checked_date(dt.days_from_civil(year if year > 0 else year + 1, month, day))


def make_time(hour: int, minute: int, seconds: float) -> int:
    us = round(seconds * SECOND_US) if seconds == seconds and abs(seconds) < 1e6 else -1  # NaN
    total = hour * dt.HOUR_US + minute * dt.MINUTE_US + us
    if not (0 <= minute <= 59 and 0 <= us <= 60 * SECOND_US and 0 <= hour <= 24 and total <= DAY_US):
        raise error("22008", f"time field value out of range: {hour}:{minute:02d}:{seconds:02g}")
    return total


def make_timestamp(year: int, month: int, day: int, hour: int, minute: int, seconds: float) -> int:
    days = make_date(year, month, day)
    return dt.checked_timestamp(dt.date_to_timestamp(days) + make_time(hour, minute, seconds))


def make_timestamptz(
    ctx: ExecContext, year: int, month: int, day: int, hour: int, minute: int, seconds: float, zone: str = ""
) -> int:
    return dt.timestamp_to_timestamptz(make_timestamp(year, month, day, hour, minute, seconds), zone or ctx.timezone)


def make_interval(
    years: int = 0,
    months: int = 0,
    weeks: int = 0,
    days: int = 0,
    hours: int = 0,
    minutes: int = 0,
    seconds: float = 0.0,
) -> Interval:
    return dt.make_interval(years, months, weeks, days, hours, minutes, seconds)


def overlaps(start1: int | None, end1: int | None, start2: int | None, end2: int | None) -> bool | None:
    """(s1, e1) OVERLAPS (s2, e2): half-open, the ends in either order; a point counts as itself."""
    first, second = _ordered(start1, end1), _ordered(start2, end2)
    if first is None or second is None:
        return None
    (s1, e1), (s2, e2) = first, second
    if s1 > s2:
        return _starts_inside(s1, e2, e1)
    if s1 < s2:
        return _starts_inside(s2, e1, e2)
    if e1 is None or e2 is None:
        return None
    return True


def _starts_inside(start: int, end: int | None, own_end: int | None) -> bool | None:
    """The later start lies before the earlier period's end (None: not known)."""
    if end is None:
        return None
    if start < end:
        return True
    return None if own_end is None else False


def _ordered(start: int | None, end: int | None) -> tuple[int, int | None] | None:
    if start is None:
        return None if end is None else (end, None)
    if end is None:
        return (start, None)
    return (start, end) if start <= end else (end, start)


_PERIOD_ENDS: Final[dict[str, Callable[..., int]]] = {
    "timestamp": lambda ctx, start, length: dt.timestamp_plus_interval(start, length),
    "timestamptz": lambda ctx, start, length: dt.timestamptz_plus_interval(start, length, ctx.timezone),
    "time": lambda ctx, start, length: time_plus_interval(start, length),
}
"""How a period given by its length ends, by type."""


def _periods(plus: Callable[..., int], first: bool, second: bool) -> Callable[..., bool | None]:
    """OVERLAPS where the first, the second or both periods are given by start and length."""

    def end_of(ctx: ExecContext, start: int | None, end: Any, is_length: bool) -> int | None:
        if not is_length:
            return end  # type: ignore[no-any-return]  # a datum of the type of the start
        return None if start is None or end is None else plus(ctx, start, end)

    def run(ctx: ExecContext, start1: int | None, end1: Any, start2: int | None, end2: Any) -> bool | None:
        return overlaps(start1, end_of(ctx, start1, end1, first), start2, end_of(ctx, start2, end2, second))

    return run


def _register_making(registry: Registry) -> None:
    define(registry, "make_date(int4, int4, int4) date", make_date)
    define(registry, "make_time(int4, int4, float8) time", make_time)
    define(registry, "make_timestamp(int4, int4, int4, int4, int4, float8) timestamp", make_timestamp)
    for zone in ("", ", text"):
        define(
            registry, f"make_timestamptz(int4, int4, int4, int4, int4, float8{zone}) timestamptz", make_timestamptz,
            needs_context=True, volatility=STABLE,
        )  # fmt: skip
    types = ("int4",) * 6 + ("float8",)
    for count in range(8):
        define(registry, f"make_interval({', '.join(types[:count])}) interval", make_interval)
    for name in ("timestamp", "timestamptz", "time", "date"):
        define(registry, f"overlaps({name}, {name}, {name}, {name}) bool", overlaps, strict=False)
        plus = _PERIOD_ENDS.get(name)
        for first, second in (("interval", name), (name, "interval"), ("interval", "interval")):
            if plus is not None:
                signature = f"overlaps({name}, {first}, {name}, {second}) bool"
                run = _periods(plus, first == "interval", second == "interval")
                define(registry, signature, run, strict=False, needs_context=True, volatility=STABLE)


def _register_age(registry: Registry) -> None:
    define(registry, "age(timestamp, timestamp) interval", dt.age)
    define(
        registry,
        "age(timestamptz, timestamptz) interval",
        lambda ctx, a, b: dt.age_zoned(a, b, ctx.timezone),
        needs_context=True,
        volatility=STABLE,
    )
    define(
        registry,
        "age(timestamp) interval",
        lambda ctx, value: dt.age(_today(ctx), value),
        needs_context=True,
        volatility=STABLE,
    )
    define(
        registry, "age(timestamptz) interval",
        lambda ctx, value: dt.age(_today(ctx), dt.timestamptz_to_timestamp(value, ctx.timezone)), needs_context=True, volatility=STABLE,
    )  # fmt: skip
    define(registry, "justify_hours(interval) interval", dt.justify_hours)
    define(registry, "justify_days(interval) interval", dt.justify_days)
    define(registry, "justify_interval(interval) interval", dt.justify_interval)
    define(registry, "isfinite(date) bool", lambda value: DATE_MINUS_INFINITY < value < DATE_INFINITY)
    for name in ("timestamp", "timestamptz"):
        define(registry, f"isfinite({name}) bool", lambda value: TIMESTAMP_MINUS_INFINITY < value < TIMESTAMP_INFINITY)
    define(registry, "isfinite(interval) bool", lambda value: True)


def _today(ctx: ExecContext) -> int:
    """Midnight of the current date, on the zone's clock."""
    return dt.date_to_timestamp(dt.timestamptz_to_date(ctx.transaction_time, ctx.timezone))


def series(start: int, stop: int, step: Interval) -> Iterator[int]:
    """generate_series(timestamp, timestamp, interval)."""
    return _series(start, stop, step, dt.timestamp_plus_interval)


def series_zoned(ctx: ExecContext, start: int, stop: int, step: Interval) -> Iterator[int]:
    zone = ctx.timezone
    return _series(start, stop, step, lambda value, interval: dt.timestamptz_plus_interval(value, interval, zone))


def _series(start: int, stop: int, step: Interval, add: Callable[[int, Interval], int]) -> Iterator[int]:
    length = dt.interval_order(step)
    if length == 0:
        raise error("22023", "step size cannot equal zero")
    return _count(start, stop, step, length > 0, add)


def _count(start: int, stop: int, step: Interval, up: bool, add: Callable[[int, Interval], int]) -> Iterator[int]:
    value = start
    while (value <= stop) if up else (value >= stop):
        yield value
        value = add(value, step)


# --- aggregates ------------------------------------------------------------------------------------


def _sum_step(state: Interval | None, value: Interval) -> Interval:
    return value if state is None else dt.add_intervals(state, value)


def _average_step(state: list[Any], value: Interval) -> list[Any]:
    """[number of values, their sum]."""
    state[0] += 1
    state[1] = dt.add_intervals(state[1], value)
    return state


def _average_final(state: list[Any]) -> Interval | None:
    return dt.divide_interval(state[1], float(state[0])) if state[0] else None


def _register_aggregates(registry: Registry) -> None:
    define_aggregate(registry, "sum(interval) interval", nothing, _sum_step, itself, combine=either(_sum_step))
    define_aggregate(
        registry, "avg(interval) interval", lambda: [0, (0, 0, 0)], _average_step, _average_final,
        combine=lambda left, right: [left[0] + right[0], dt.add_intervals(left[1], right[1])],
    )  # fmt: skip


def register(registry: Registry) -> None:
    """Adds this family."""
    _register_aggregates(registry)
    _register_arithmetic(registry)
    _register_comparison(registry)
    _register_casts(registry)
    _register_now(registry)
    _register_zones(registry)
    _register_making(registry)
    _register_age(registry)
    define(registry, "generate_series(timestamp, timestamp, interval) setof timestamp", series)
    define(
        registry, "generate_series(timestamptz, timestamptz, interval) setof timestamptz", series_zoned, needs_context=True, volatility=STABLE
    )  # fmt: skip
