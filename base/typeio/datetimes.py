"""Arithmetic on dates, timestamps and intervals (PostgreSQL 15 manual, 9.9).

Datums as in ``base.types``: dates are days, timestamps microseconds from 2000-01-01, intervals
(months, days, microseconds).  A zone is given by its name.  Infinite values stay infinite.

Adding an interval adds months first (the day is cut to the month's length), then days, then
microseconds.  For timestamptz months and days are added on the clock of the zone, so a day may
have 23 or 25 hours.
"""

from __future__ import annotations

from typing import Final

from base.errors import error
from base.typeio import zoneabbreviations
from base.typeio.calendar import (
    DATE_END,
    DATE_MIN,
    DAY_US,
    HOUR_US,
    MINUTE_US,
    SECOND_US,
    TIMESTAMP_END,
    TIMESTAMP_MIN,
    UNIX_EPOCH_SECONDS,
    civil_from_days,
    days_from_civil,
    is_valid_julian,
    month_length,
)
from base.typeio.datetime import timestamp_out_of_range
from base.typeio.interval import split_quotient
from base.typeio.intervalparse import Interval
from base.typeio.zones import Zone, zone_or_error
from base.types import DATE_INFINITY, DATE_MINUS_INFINITY, TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY

__all__ = ["DAY_US", "HOUR_US", "MINUTE_US", "SECOND_US", "civil_from_days", "days_from_civil", "month_length"]

MONTH_DAYS: Final = 30
YEAR_MONTHS: Final = 12
_INT4: Final = 2**31
_INT8: Final = 2**63


def is_finite_date(days: int) -> bool:
    return DATE_MINUS_INFINITY < days < DATE_INFINITY


def is_finite_timestamp(value: int) -> bool:
    return TIMESTAMP_MINUS_INFINITY < value < TIMESTAMP_INFINITY


def checked_date(days: int) -> int:
    if not DATE_MIN <= days < DATE_END:
        raise error("22008", "date out of range")
    return days


def checked_timestamp(value: int) -> int:
    if not TIMESTAMP_MIN <= value < TIMESTAMP_END:
        raise timestamp_out_of_range()
    return value


def checked_interval(months: int, days: int, us: int) -> Interval:
    if not (-_INT4 <= months < _INT4 and -_INT4 <= days < _INT4 and -_INT8 <= us < _INT8):
        raise error("22008", "interval out of range")
    return months, days, us


# --- zones ------------------------------------------------------------------------------------


def local_to_instant(local: int, zone: Zone) -> int:
    """Reads a finite local timestamp on a zone's clock; seconds decide, so halves round down."""
    seconds = local // SECOND_US + UNIX_EPOCH_SECONDS
    return checked_timestamp(local - zone.offset_of_local(seconds) * SECOND_US)


def instant_to_local(instant: int, zone: Zone) -> int:
    """Returns what a zone's clock shows at a finite instant."""
    return instant + zone.offset_at(instant // SECOND_US + UNIX_EPOCH_SECONDS) * SECOND_US


def timestamp_to_timestamptz(value: int, zone: str) -> int:
    """timestamp AT TIME ZONE zone."""
    return local_to_instant(value, zone_or_error(zone)) if is_finite_timestamp(value) else value


def timestamptz_to_timestamp(value: int, zone: str) -> int:
    """timestamptz AT TIME ZONE zone."""
    return checked_timestamp(instant_to_local(value, zone_or_error(zone))) if is_finite_timestamp(value) else value


def timestamptz_at_zone(value: int, zone: str) -> int:
    """``timestamptz AT TIME ZONE zone`` for a zone as a user writes it: an abbreviation (PST, fixed) or a name.

    Differs from ``timestamptz_to_timestamp`` where a zone file has an abbreviation's name: CET is always +1 here.
    """
    if not is_finite_timestamp(value):
        return value
    offset = _abbreviated_offset(zone, value, False)
    return timestamptz_to_timestamp(value, zone) if offset is None else checked_timestamp(value + offset * SECOND_US)


def timestamp_at_zone(value: int, zone: str) -> int:
    """``timestamp AT TIME ZONE zone``, as above."""
    if not is_finite_timestamp(value):
        return value
    offset = _abbreviated_offset(zone, value, True)
    return timestamp_to_timestamptz(value, zone) if offset is None else checked_timestamp(value - offset * SECOND_US)


def _abbreviated_offset(zone: str, value: int, is_local: bool) -> int | None:
    """Seconds east that an abbreviation means at a time; None if it is none."""
    word = zone.lower()
    fixed = zoneabbreviations.FIXED.get(word)
    if fixed is not None:
        return fixed[0]
    name = zoneabbreviations.BY_ZONE.get(word)
    if name is None:
        return None
    where = zone_or_error(name)
    seconds = value // SECOND_US + UNIX_EPOCH_SECONDS
    if is_local:
        seconds -= where.offset_of_local(seconds)
    offset = where.offset_of_abbreviation(zone.upper(), seconds)
    return where.offset_at(seconds) if offset is None else offset


def date_to_timestamp(days: int) -> int:
    """Midnight of a date; raises 22008 for dates that no timestamp reaches."""
    if days == DATE_INFINITY:
        return TIMESTAMP_INFINITY
    if days == DATE_MINUS_INFINITY:
        return TIMESTAMP_MINUS_INFINITY
    if days * DAY_US >= TIMESTAMP_END:
        raise error("22008", "date out of range for timestamp")
    return days * DAY_US


def date_to_timestamptz(days: int, zone: str) -> int:
    return timestamp_to_timestamptz(date_to_timestamp(days), zone)


def timestamp_to_date(value: int) -> int:
    if value == TIMESTAMP_INFINITY:
        return DATE_INFINITY
    if value == TIMESTAMP_MINUS_INFINITY:
        return DATE_MINUS_INFINITY
    return value // DAY_US


def timestamptz_to_date(value: int, zone: str) -> int:
    return timestamp_to_date(timestamptz_to_timestamp(value, zone))


def timestamptz_to_timetz(value: int, zone: str) -> tuple[int, int]:
    offset = zone_or_error(zone).offset_at(value // SECOND_US + UNIX_EPOCH_SECONDS)
    return (value + offset * SECOND_US) % DAY_US, -offset


# --- timestamp and interval -----------------------------------------------------------------------


def add_months(value: int, months: int) -> int:
    """Moves a finite timestamp by months, cutting the day to the month's length."""
    days, us = divmod(value, DAY_US)
    year, month, day = civil_from_days(days)
    total = year * 12 + month - 1 + months
    year, month = total // 12, total % 12 + 1
    if not is_valid_julian(year, month):
        raise timestamp_out_of_range()
    return days_from_civil(year, month, min(day, month_length(year, month))) * DAY_US + us


def timestamp_plus_interval(value: int, interval: Interval) -> int:
    if not is_finite_timestamp(value):
        return value
    months, days, us = interval
    if months:
        value = checked_timestamp(add_months(value, months))
    if days:
        value = checked_timestamp(value + days * DAY_US)
    return checked_timestamp(value + us)


def timestamptz_plus_interval(value: int, interval: Interval, zone: str) -> int:
    """Months and days are added on the zone's clock, microseconds to the instant."""
    if not is_finite_timestamp(value):
        return value
    months, days, us = interval
    if months or days:
        where = zone_or_error(zone)
        if months:
            value = local_to_instant(add_months(instant_to_local(value, where), months), where)
        if days:
            value = local_to_instant(instant_to_local(value, where) + days * DAY_US, where)
    return checked_timestamp(value + us)


def negate_interval(interval: Interval) -> Interval:
    return checked_interval(-interval[0], -interval[1], -interval[2])


def timestamp_minus_timestamp(left: int, right: int) -> Interval:
    """Returns days and time: the difference with its 24-hour days counted."""
    if not is_finite_timestamp(left) or not is_finite_timestamp(right):
        raise error("22008", "cannot subtract infinite timestamps")
    return justify_hours((0, 0, left - right))


def date_plus_days(days: int, count: int) -> int:
    return checked_date(days + count) if is_finite_date(days) else days


def date_minus_date(left: int, right: int) -> int:
    if not is_finite_date(left) or not is_finite_date(right):
        raise error("22008", "cannot subtract infinite dates")
    return left - right


# --- age ----------------------------------------------------------------------------------------------


def age(later: int, earlier: int) -> Interval:
    """Returns the years, months, days and time from ``earlier`` to ``later``, as a person counts them.

    Days are borrowed from the month of the earlier of the two.
    """
    if not is_finite_timestamp(later) or not is_finite_timestamp(earlier):
        raise error("22008", "timestamp out of range")
    if later < earlier:
        months, days, us = age(earlier, later)
        return -months, -days, -us
    later_days, later_us = divmod(later, DAY_US)
    earlier_days, earlier_us = divmod(earlier, DAY_US)
    year, month, day = civil_from_days(later_days)
    other_year, other_month, other_day = civil_from_days(earlier_days)
    us = later_us - earlier_us
    days = day - other_day
    months = (year - other_year) * 12 + month - other_month
    if us < 0:
        us += DAY_US
        days -= 1
    while days < 0:
        days += month_length(other_year, other_month)
        months -= 1
    return months, days, us


def age_zoned(later: int, earlier: int, zone: str) -> Interval:
    """age() of timestamptz: on the clock of the zone."""
    return age(timestamptz_to_timestamp(later, zone), timestamptz_to_timestamp(earlier, zone))


# --- intervals ----------------------------------------------------------------------------------------


def make_interval(
    years: int = 0, months: int = 0, weeks: int = 0, days: int = 0, hours: int = 0, mins: int = 0, secs: float = 0.0
) -> Interval:
    us = hours * HOUR_US + mins * MINUTE_US + round(secs * SECOND_US)
    return checked_interval(years * 12 + months, weeks * 7 + days, us)


def add_intervals(left: Interval, right: Interval) -> Interval:
    return checked_interval(left[0] + right[0], left[1] + right[1], left[2] + right[2])


def subtract_intervals(left: Interval, right: Interval) -> Interval:
    return checked_interval(left[0] - right[0], left[1] - right[1], left[2] - right[2])


def interval_order(value: Interval) -> int:
    """Returns the length by which intervals compare: months of 30 days, days of 24 hours."""
    return (value[0] * MONTH_DAYS + value[1]) * DAY_US + value[2]


def justify_hours(value: Interval) -> Interval:
    """24 hours become a day; days and time get one sign."""
    months, days, us = value
    whole, us = split_quotient(us, DAY_US)
    days += whole
    if days > 0 and us < 0:
        us += DAY_US
        days -= 1
    elif days < 0 and us > 0:
        us -= DAY_US
        days += 1
    return checked_interval(months, days, us)


def justify_days(value: Interval) -> Interval:
    """30 days become a month; months and days get one sign."""
    months, days, us = value
    whole, days = split_quotient(days, MONTH_DAYS)
    months += whole
    if months > 0 and days < 0:
        days += MONTH_DAYS
        months -= 1
    elif months < 0 and days > 0:
        days -= MONTH_DAYS
        months += 1
    return checked_interval(months, days, us)


def justify_interval(value: Interval) -> Interval:
    """Both, and one sign for all parts."""
    months, days, us = value
    if (days > 0 and us > 0) or (days < 0 and us < 0):
        whole, days = split_quotient(days, MONTH_DAYS)
        months += whole
    whole, us = split_quotient(us, DAY_US)
    days += whole
    whole, days = split_quotient(days, MONTH_DAYS)
    months += whole
    if months > 0 and (days < 0 or (days == 0 and us < 0)):
        days += MONTH_DAYS
        months -= 1
    elif months < 0 and (days > 0 or (days == 0 and us > 0)):
        days -= MONTH_DAYS
        months += 1
    if days > 0 and us < 0:
        us += DAY_US
        days -= 1
    elif days < 0 and us > 0:
        us -= DAY_US
        days += 1
    return checked_interval(months, days, us)


def multiply_interval(value: Interval, factor: float) -> Interval:
    """A fraction of a month becomes days (30 a month), of a day time; never the other way."""
    return _scale(value, lambda part: part * factor, factor)


def divide_interval(value: Interval, divisor: float) -> Interval:
    if divisor == 0:
        raise error("22012", "division by zero")
    return _scale(value, lambda part: part / divisor, divisor)


def _scale(value: Interval, apply: object, operand: float) -> Interval:
    assert callable(apply)
    if operand != operand or operand in (float("inf"), float("-inf")):
        raise error("22008", "interval out of range")
    months_exact = apply(float(value[0]))
    days_exact = apply(float(value[1]))
    months, days = int(months_exact), int(days_exact)
    # The days of a fraction of a month, rounded to microseconds of a day so that 0.1 + 0.2 stays 0.3.
    rest_days = _clean((months_exact - months) * MONTH_DAYS)
    seconds = _clean(((days_exact - days) + rest_days - int(rest_days)) * 86_400)
    if abs(seconds) >= 86_400:
        days += int(seconds / 86_400)
        seconds -= int(seconds / 86_400) * 86_400
    us = round(apply(float(value[2])) + seconds * SECOND_US)
    return checked_interval(months, days + int(rest_days), us)


def _clean(value: float) -> float:
    """Rounds to six decimals."""
    return round(value * 1e6) / 1e6
