"""extract, date_part, date_trunc and date_bin (PostgreSQL 15 manual, 9.9.1 - 9.9.3).

extract gives numeric: seconds and epoch with six decimals, milliseconds with three, the rest whole.
Of an infinite timestamp the parts that only grow (year, epoch...) are infinite, the others NULL.
"""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Final

from base.errors import MeridianError, error
from base.typeio.calendar import (
    DAY_US,
    EPOCH_JULIAN,
    HOUR_US,
    MINUTE_US,
    SECOND_US,
    UNIX_EPOCH_DAYS,
    civil_from_days,
    day_of_year,
    days_from_civil,
    iso_year_and_week,
    weekday,
)
from base.typeio.datetimes import (
    checked_timestamp,
    date_to_timestamp,
    instant_to_local,
    is_finite_date,
    is_finite_timestamp,
    local_to_instant,
)
from base.typeio.datetokens import RESERVED, TOKEN_LENGTH, UNIT_WORDS, UNITS, WORDS
from base.typeio.interval import split_fields, split_quotient
from base.typeio.intervalparse import Interval
from base.typeio.numeric import EXACT, INFINITY, MINUS_INFINITY
from base.typeio.zones import zone_or_error

_GROWING: Final = frozenset(("year", "decade", "century", "millennium", "julian", "isoyear", "epoch"))
_TIME_FIELDS: Final = frozenset(("microsecond", "millisecond", "second", "minute", "hour"))
_DATE_FIELDS: Final = frozenset(
    (
        "day",
        "month",
        "quarter",
        "week",
        "year",
        "decade",
        "century",
        "millennium",
        "julian",
        "isoyear",
        "dow",
        "isodow",
        "doy",
    )
)
_ZONE_FIELDS: Final = frozenset(("timezone", "timezone_hour", "timezone_minute"))
_MILLI: Final = Decimal("0.001")
_MICRO: Final = Decimal("0.000001")
_DIVISION: Final = Context(prec=60)
_SIGNIFICANT_DIGITS_MIN: Final = 16
"""Of a numeric division."""


def unit_name(written: str, type_name: str) -> str:
    """Returns the unit of time a word means (``hrs``, ``Hour`` -> hour); raises 22023 if none."""
    word = written.lower()
    kind, value = UNIT_WORDS.get(word[:TOKEN_LENGTH], (-1, ""))
    if kind != UNITS:
        raise error("22023", f'unit "{word}" not recognized for type {type_name}')
    return value


def field_name(written: str, type_name: str) -> str:
    """Returns the field a word means: a unit, or dow, doy, isodow, isoyear, julian, epoch; raises 22023 if none.

    Words like 'now' are no fields, but known to timestamps.
    """
    word = written.lower()
    kind, value = UNIT_WORDS.get(word[:TOKEN_LENGTH], (-1, ""))
    if kind == UNITS:
        return value
    special, unit = WORDS.get(word[:TOKEN_LENGTH], (-1, ""))
    if special == UNITS or (special == RESERVED and (unit == "epoch" or type_name.startswith(("timestamp", "date")))):
        return str(unit)
    raise error("22023", f'unit "{word}" not recognized for type {type_name}')


def _unsupported(written: str, type_name: str, detail: str | None = None) -> MeridianError:
    return error("0A000", f'unit "{written.lower()}" not supported for type {type_name}', detail=detail)


def _scaled(value: int, unit: Decimal) -> Decimal:
    return EXACT.multiply(Decimal(value), unit)


# --- parts ------------------------------------------------------------------------------------


def _date_part(field: str, days: int) -> Decimal:
    if field == "julian":
        return Decimal(days + EPOCH_JULIAN)
    if field == "dow":
        return Decimal(weekday(days))
    if field == "isodow":
        return Decimal(weekday(days) or 7)
    if field == "week":
        return Decimal(iso_year_and_week(days)[1])
    if field == "isoyear":
        year = iso_year_and_week(days)[0]
        return Decimal(year if year > 0 else year - 1)
    year, month, day = civil_from_days(days)
    if field == "year":
        return Decimal(year if year > 0 else year - 1)
    if field == "month":
        return Decimal(month)
    if field == "day":
        return Decimal(day)
    if field == "quarter":
        return Decimal((month - 1) // 3 + 1)
    if field == "doy":
        return Decimal(day_of_year(year, month, day))
    if field == "decade":
        return Decimal(year // 10)
    # There is no year 0: the first century begins in the year 1.
    unit = 100 if field == "century" else 1000
    return Decimal((year + unit - 1) // unit if year > 0 else -((unit - 1 - (year - 1)) // unit))


def _time_part(field: str, us: int) -> Decimal:
    if field == "hour":
        return Decimal(us // HOUR_US)
    if field == "minute":
        return Decimal(us // MINUTE_US % 60)
    part = us % MINUTE_US
    if field == "microsecond":
        return Decimal(part)
    return _scaled(part, _MILLI if field == "millisecond" else _MICRO)


def _infinite(field: str, positive: bool) -> Decimal | None:
    if field not in _GROWING:
        return None
    return INFINITY if positive else MINUS_INFINITY


def extract_timestamp(written: str, value: int) -> Decimal | None:
    name = "timestamp without time zone"
    field = field_name(written, name)
    if field in _ZONE_FIELDS and not is_finite_timestamp(value):
        return None
    if field not in _DATE_FIELDS and field not in _TIME_FIELDS and field != "epoch":
        raise _unsupported(written, name)
    if not is_finite_timestamp(value):
        return _infinite(field, value > 0)
    return _local_part(field, value, value)


def extract_timestamptz(written: str, value: int, zone: str) -> Decimal | None:
    name = "timestamp with time zone"
    field = field_name(written, name)
    if field not in _DATE_FIELDS and field not in _TIME_FIELDS and field not in _ZONE_FIELDS and field != "epoch":
        raise _unsupported(written, name)
    if not is_finite_timestamp(value):
        return _infinite(field, value > 0)
    local = instant_to_local(value, zone_or_error(zone))
    if field in _ZONE_FIELDS:
        return _zone_part(field, (local - value) // SECOND_US)
    return _local_part(field, local, value)


def _local_part(field: str, local: int, instant: int) -> Decimal:
    if field == "epoch":
        return _scaled(instant + UNIX_EPOCH_DAYS * DAY_US, _MICRO)
    days, us = divmod(local, DAY_US)
    if field in _TIME_FIELDS:
        return _time_part(field, us)
    if field == "julian":
        return _julian(days, us)
    return _date_part(field, days)


def _julian(days: int, us: int) -> Decimal:
    """The day and, as its fraction, the time; with as many decimals as PostgreSQL's numeric division gives.

    That is 16 digits after the first base-10000 digit the quotient can have; the divisor, a day, is 864|0000|0000.
    """
    weight = (len(str(us)) - 1) // 4
    first_digit = us // 10_000**weight
    quotient_weight = weight - 2 - (1 if first_digit <= 864 else 0)
    scale = _SIGNIFICANT_DIGITS_MIN - 4 * quotient_weight
    part = _DIVISION.divide(Decimal(us), Decimal(DAY_US)).quantize(Decimal((0, (1,), -scale)), context=EXACT)
    return EXACT.add(Decimal(days + EPOCH_JULIAN), part)


def _zone_part(field: str, east: int) -> Decimal:
    if field == "timezone":
        return Decimal(east)
    hours, rest = split_quotient(east, 3600)
    return Decimal(hours) if field == "timezone_hour" else Decimal(split_quotient(rest, 60)[0])


def extract_date(written: str, days: int) -> Decimal | None:
    field = field_name(written, "date")
    if field not in _DATE_FIELDS and field != "epoch":
        raise _unsupported(written, "date")
    if not is_finite_date(days):
        return _infinite(field, days > 0)
    return Decimal((days + UNIX_EPOCH_DAYS) * 86_400) if field == "epoch" else _date_part(field, days)


def extract_time(written: str, us: int) -> Decimal:
    name = "time without time zone"
    field = field_name(written, name)
    if field == "epoch":
        return _scaled(us, _MICRO)
    if field not in _TIME_FIELDS:
        raise _unsupported(written, name)
    return _time_part(field, us)


def extract_timetz(written: str, value: tuple[int, int]) -> Decimal:
    name = "time with time zone"
    field = field_name(written, name)
    us, west = value
    if field == "epoch":
        return _scaled(us + west * SECOND_US, _MICRO)
    if field in _ZONE_FIELDS:
        return _zone_part(field, -west)
    if field not in _TIME_FIELDS:
        raise _unsupported(written, name)
    return _time_part(field, us)


def extract_interval(written: str, value: Interval) -> Decimal:
    field = field_name(written, "interval")
    if field == "epoch":
        return _scaled(_interval_seconds(value) * SECOND_US + value[2], _MICRO)
    years, months, days, hours, minutes, seconds, us = split_fields(value)
    sub = seconds * SECOND_US + us
    whole = {
        "microsecond": sub, "minute": minutes, "hour": hours, "day": days, "month": months, "quarter": split_quotient(months, 3)[0] + 1,
        "year": years, "decade": split_quotient(years, 10)[0], "century": split_quotient(years, 100)[0], "millennium": split_quotient(years, 1000)[0],
    }  # fmt: skip
    if field == "millisecond":
        return _scaled(sub, _MILLI)
    if field == "second":
        return _scaled(sub, _MICRO)
    if field not in whole:
        raise _unsupported(written, "interval")
    return Decimal(whole[field])


def _interval_seconds(value: Interval) -> int:
    """Years of 365.25 days, months of 30, in quarters of a day."""
    years, months = split_quotient(value[0], 12)
    return (1461 * years + 120 * months + 4 * value[1]) * 21_600


def date_part_date(written: str, days: int) -> float | None:
    """date_part() of a date is that of its midnight: hours are zero, not an error as in extract()."""
    return into_date_part(extract_timestamp(written, date_to_timestamp(days)))


def date_part_interval(written: str, value: Interval) -> float | None:
    """date_part() of an interval sums its epoch in double precision."""
    if field_name(written, "interval") != "epoch":
        return into_date_part(extract_interval(written, value))
    years, months = split_quotient(value[0], 12)
    return value[2] / 1e6 + 365.25 * 86_400 * years + 30.0 * 86_400 * months + 86_400.0 * value[1]


def into_date_part(value: Decimal | None) -> float | None:
    """date_part() of the other types is extract() in double precision."""
    return None if value is None else float(value)


# --- date_trunc ---------------------------------------------------------------------------------

_STEPS: Final = {
    "microsecond": 1,
    "millisecond": 1000,
    "second": SECOND_US,
    "minute": MINUTE_US,
    "hour": HOUR_US,
    "day": DAY_US,
}


def _truncate_local(field: str, written: str, local: int, name: str) -> int:
    step = _STEPS.get(field)
    if step is not None:
        return local // step * step
    days = local // DAY_US
    year, month, _ = civil_from_days(days)
    if field == "week":
        return (days - (weekday(days) + 6) % 7) * DAY_US
    if field == "month":
        return days_from_civil(year, month, 1) * DAY_US
    if field == "quarter":
        return days_from_civil(year, (month - 1) // 3 * 3 + 1, 1) * DAY_US
    if field == "year":
        first = year
    elif field == "decade":
        first = year // 10 * 10
    elif field in ("century", "millennium"):
        unit = 100 if field == "century" else 1000
        first = (
            (year + unit - 1) // unit * unit - (unit - 1) if year > 0 else -((unit - 1 - (year - 1)) // unit) * unit + 1
        )
    else:
        raise _unsupported(written, name)
    return days_from_civil(first, 1, 1) * DAY_US


def trunc_timestamp(written: str, value: int) -> int:
    name = "timestamp without time zone"
    if not is_finite_timestamp(value):
        return value
    field = unit_name(written, name)
    return checked_timestamp(_truncate_local(field, written, value, name))


def trunc_timestamptz(written: str, value: int, zone: str) -> int:
    """Truncates on the zone's clock; less than a day keeps its offset."""
    name = "timestamp with time zone"
    if not is_finite_timestamp(value):
        return value
    field = unit_name(written, name)
    where = zone_or_error(zone)
    local = instant_to_local(value, where)
    truncated = _truncate_local(field, written, local, name)
    if field in _TIME_FIELDS:
        return checked_timestamp(truncated - (local - value))
    return local_to_instant(truncated, where)


def trunc_interval(written: str, value: Interval) -> Interval:
    field = unit_name(written, "interval")
    months, days, us = value
    step = _STEPS.get(field)
    if field == "day":
        return months, days, 0
    if step is not None:
        return months, days, split_quotient(us, step)[0] * step
    unit = {"month": 1, "quarter": 3, "year": 12, "decade": 120, "century": 1200, "millennium": 12_000}.get(field)
    if unit is None:
        raise _unsupported(written, "interval", "Months usually have fractional weeks." if field == "week" else None)
    return split_quotient(months, unit)[0] * unit, 0, 0


def date_bin(stride: Interval, value: int, origin: int) -> int:
    """Returns the start of the bin, counted from the origin, that holds a value."""
    if not is_finite_timestamp(value):
        return value
    if not is_finite_timestamp(origin):
        raise error("22008", "origin out of range")
    if stride[0]:
        raise error("0A000", "timestamps cannot be binned into intervals containing months or years")
    length = stride[1] * DAY_US + stride[2]
    if length <= 0:
        raise error("22008", "stride must be greater than zero")
    return checked_timestamp(origin + (value - origin) // length * length)
