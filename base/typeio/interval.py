"""Text and binary form of interval, and its typmod.

| style | 1 year 2 months, 3 days, -4:05:06.7 |
| --- | --- |
| postgres | 1 year 2 mons 3 days -04:05:06.7 |
| postgres_verbose | @ 1 year 2 mons 3 days -4 hours -5 mins -6.7 secs |
| sql_standard | +1-2 +3 -4:05:06.7 |
| iso_8601 | P1Y2M3DT-4H-5M-6.7S |
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from base.errors import error
from base.typeio.calendar import HOUR_US, MINUTE_US, SECOND_US
from base.typeio.intervalparse import (
    FULL_RANGE,
    RANGE_DAY,
    RANGE_HOUR,
    RANGE_MINUTE,
    RANGE_MONTH,
    RANGE_SECOND,
    RANGE_YEAR,
    Interval,
    parse_interval,
)
from base.typeio.rejection import wrong_length
from base.typeio.settings import IoSettings

FULL_PRECISION: Final = 0xFFFF
_INTERVAL: Final = struct.Struct(">qii")
_STEPS: Final = (1_000_000, 100_000, 10_000, 1_000, 100, 10, 1)

RANGES: Final = {
    "year": RANGE_YEAR,
    "month": RANGE_MONTH,
    "day": RANGE_DAY,
    "hour": RANGE_HOUR,
    "minute": RANGE_MINUTE,
    "second": RANGE_SECOND,
    "year to month": RANGE_YEAR | RANGE_MONTH,
    "day to hour": RANGE_DAY | RANGE_HOUR,
    "day to minute": RANGE_DAY | RANGE_HOUR | RANGE_MINUTE,
    "day to second": RANGE_DAY | RANGE_HOUR | RANGE_MINUTE | RANGE_SECOND,
    "hour to minute": RANGE_HOUR | RANGE_MINUTE,
    "hour to second": RANGE_HOUR | RANGE_MINUTE | RANGE_SECOND,
    "minute to second": RANGE_MINUTE | RANGE_SECOND,
}
"""Field restrictions as written, to the mask in the typmod."""
RANGE_NAMES: Final = {mask: name for name, mask in RANGES.items()}
FULL_RANGE_MASK: Final = FULL_RANGE


# --- input and typmod -------------------------------------------------------------------


def interval_parser(settings: IoSettings, typmod: int) -> Callable[[str], Interval]:
    is_sql_standard = settings.intervalstyle == "sql_standard"
    field_range = FULL_RANGE if typmod < 0 else (typmod >> 16) & 0x7FFF

    def parse(text: str) -> Interval:
        return parse_interval(text, field_range, is_sql_standard)

    return parse


def pack_typmod(field_range: int, precision: int) -> int:
    return ((field_range & 0x7FFF) << 16) | (precision & 0xFFFF)


def apply_interval_typmod(value: Interval, typmod: int) -> Interval:
    """Drops the fields finer than the type's last one, and rounds seconds to its precision."""
    if typmod < 0:
        return value
    field_range = (typmod >> 16) & 0x7FFF
    precision = typmod & 0xFFFF
    months, days, us = value
    if field_range not in (FULL_RANGE, RANGE_SECOND) and not field_range & RANGE_SECOND:
        if field_range & RANGE_MINUTE:
            us = _truncate(us, MINUTE_US)
        elif field_range & RANGE_HOUR:
            us = _truncate(us, HOUR_US)
        elif field_range & RANGE_DAY:
            us = 0
        else:
            us = days = 0
            if not field_range & RANGE_MONTH:
                months = _truncate(months, 12)
    if precision != FULL_PRECISION:
        if not 0 <= precision <= 6:
            raise error("22023", f"interval({precision}) precision must be between 0 and 6")
        step = _STEPS[precision]
        us = (us + step // 2) // step * step if us >= 0 else -((-us + step // 2) // step * step)
        if not -(2**63) <= us < 2**63:
            raise error("22008", "interval out of range")
    return months, days, us


def _truncate(value: int, unit: int) -> int:
    """Towards zero."""
    return value // unit * unit if value >= 0 else -(-value // unit * unit)


# --- output -----------------------------------------------------------------------------


def split_quotient(value: int, unit: int) -> tuple[int, int]:
    """divmod that rounds towards zero, as C does."""
    if value >= 0:
        return divmod(value, unit)
    quotient, rest = divmod(-value, unit)
    return -quotient, -rest


def split_fields(value: Interval) -> tuple[int, int, int, int, int, int, int]:
    """Returns (years, months, days, hours, minutes, seconds, microseconds); those of a kind share their sign."""
    years, months = split_quotient(value[0], 12)
    hours, rest = split_quotient(value[2], HOUR_US)
    minutes, rest = split_quotient(rest, MINUTE_US)
    seconds, us = split_quotient(rest, SECOND_US)
    return years, months, value[1], hours, minutes, seconds, us


def _seconds_text(seconds: int, us: int, padded: bool) -> str:
    """The absolute value, without trailing zeros."""
    text = f"{abs(seconds):02d}" if padded else str(abs(seconds))
    return text + f".{abs(us):06d}".rstrip("0") if us else text


def render_postgres(value: Interval) -> str:
    years, months, days, hours, minutes, seconds, us = split_fields(value)
    parts: list[str] = []
    after_negative = False
    for amount, unit in ((years, "year"), (months, "mon"), (days, "day")):
        if amount:
            # A positive part after a negative one needs its sign to be read back.
            sign = "+" if after_negative and amount > 0 else ""
            parts.append(f"{sign}{amount} {unit}{'' if amount == 1 else 's'}")
            after_negative = amount < 0
    if not parts or value[2]:
        sign = "-" if value[2] < 0 else "+" if after_negative else ""
        parts.append(f"{sign}{abs(hours):02d}:{abs(minutes):02d}:{_seconds_text(seconds, us, True)}")
    return " ".join(parts)


def render_verbose(value: Interval) -> str:
    years, months, days, hours, minutes, seconds, us = split_fields(value)
    parts = ["@"]
    is_ago = False
    is_first = True
    for amount, unit in ((years, "year"), (months, "mon"), (days, "day"), (hours, "hour"), (minutes, "min")):
        if not amount:
            continue
        # The first part decides: the others are relative to "ago".
        if is_first:
            is_ago = amount < 0
            is_first = False
            amount = abs(amount)
        elif is_ago:
            amount = -amount
        parts.append(f"{amount} {unit}{'' if amount == 1 else 's'}")
    if seconds or us:
        negative = seconds < 0 or us < 0
        if is_first:
            is_ago = negative
            is_first = False
            negative = False
        elif is_ago:
            negative = not negative
        plural = "" if abs(seconds) == 1 and us == 0 else "s"
        parts.append(f"{'-' if negative else ''}{_seconds_text(seconds, us, False)} sec{plural}")
    if is_first:
        parts.append("0")
    return " ".join(parts) + (" ago" if is_ago else "")


def render_sql_standard(value: Interval) -> str:
    years, months, days, hours, minutes, seconds, us = split_fields(value)
    amounts = (years, months, days, hours, minutes, seconds, us)
    has_negative = any(amount < 0 for amount in amounts)
    has_positive = any(amount > 0 for amount in amounts)
    has_year_month = bool(value[0])
    has_day_time = bool(value[1] or value[2])
    clock = f"{abs(hours)}:{abs(minutes):02d}:{_seconds_text(seconds, us, True)}"
    if not has_negative and not has_positive:
        return "0"
    if (has_negative and has_positive) or (has_year_month and has_day_time):
        # Not a standard interval: every part gets its sign.
        year_sign = "-" if value[0] < 0 else "+"
        day_sign = "-" if days < 0 else "+"
        time_sign = "-" if value[2] < 0 else "+"
        return f"{year_sign}{abs(years)}-{abs(months)} {day_sign}{abs(days)} {time_sign}{clock}"
    sign = "-" if has_negative else ""
    if has_year_month:
        return f"{sign}{abs(years)}-{abs(months)}"
    if days:
        return f"{sign}{abs(days)} {clock}"
    return sign + clock


def render_iso(value: Interval) -> str:
    years, months, days, hours, minutes, seconds, us = split_fields(value)
    if value == (0, 0, 0):
        return "PT0S"
    parts = ["P"]
    parts += [f"{amount}{unit}" for amount, unit in ((years, "Y"), (months, "M"), (days, "D")) if amount]
    if value[2]:
        parts.append("T")
        parts += [f"{amount}{unit}" for amount, unit in ((hours, "H"), (minutes, "M")) if amount]
        if seconds or us:
            parts.append(f"{'-' if seconds < 0 or us < 0 else ''}{_seconds_text(seconds, us, False)}S")
    return "".join(parts)


_RENDERERS: Final[dict[str, Callable[[Interval], str]]] = {
    "postgres": render_postgres,
    "postgres_verbose": render_verbose,
    "sql_standard": render_sql_standard,
    "iso_8601": render_iso,
}


def interval_renderer(settings: IoSettings) -> Callable[[Interval], str]:
    return _RENDERERS[settings.intervalstyle]


# --- binary -----------------------------------------------------------------------------


def send_interval(value: Interval) -> bytes:
    return _INTERVAL.pack(value[2], value[1], value[0])


def receive_interval(data: bytes) -> Interval:
    if len(data) != 16:
        raise wrong_length(data, 16)
    us, days, months = _INTERVAL.unpack(data)
    return months, days, us
