"""The proleptic Gregorian calendar in integers, for any year.

Days count from 2000-01-01 (a date datum).  Years are astronomical: 0 is 1 BC, -1 is 2 BC.
The conversion counts years from March and days in eras of 400 years (146,097 days), so leap
days fall at the end of a counted year.
"""

from __future__ import annotations

from typing import Final

EPOCH_JULIAN: Final = 2_451_545
"""Julian day number of 2000-01-01."""
UNIX_EPOCH_DAYS: Final = 10_957
"""Days from 1970-01-01 to 2000-01-01."""
UNIX_EPOCH_SECONDS: Final = UNIX_EPOCH_DAYS * 86_400
DAY_US: Final = 86_400_000_000
HOUR_US: Final = 3_600_000_000
MINUTE_US: Final = 60_000_000
SECOND_US: Final = 1_000_000

DATE_MIN: Final = -EPOCH_JULIAN
"""4714-11-24 BC, Julian day 0."""
DATE_END: Final = 2_145_031_949
"""Days of 5874898-01-01, the first date that is out of range."""
TIMESTAMP_MIN: Final = DATE_MIN * DAY_US
TIMESTAMP_END: Final = 9_223_371_331_200_000_000
"""294277-01-01, the first timestamp that is out of range."""

_MONTH_DAYS: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DAYS_BEFORE: Final = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)
MONTHS: Final = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
DAYS: Final = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")


def days_from_civil(year: int, month: int, day: int) -> int:
    """Returns the days from 2000-01-01; a day beyond its month goes on into the next ones."""
    if month <= 2:
        year -= 1
        month += 9
    else:
        month -= 3
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * month + 2) // 5 + day - 1
    return era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 730_425


def civil_from_days(days: int) -> tuple[int, int, int]:
    """Returns (year, month, day); the inverse of days_from_civil."""
    days += 730_425
    era = days // 146_097
    day_of_era = days - era * 146_097
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month + 2) // 5 + 1
    if month < 10:
        return year_of_era + era * 400, month + 3, day
    return year_of_era + era * 400 + 1, month - 9, day


def is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def month_length(year: int, month: int) -> int:
    return 29 if month == 2 and is_leap(year) else _MONTH_DAYS[month - 1]


def day_of_year(year: int, month: int, day: int) -> int:
    """1 on the first of January."""
    return _DAYS_BEFORE[month - 1] + day + (1 if month > 2 and is_leap(year) else 0)


def weekday(days: int) -> int:
    """0 is Sunday; 2000-01-01 was a Saturday."""
    return (days + 6) % 7


def iso_week_start(year: int) -> int:
    """Returns the Monday of ISO week 1 of an ISO year: the week with 4 January in it."""
    fourth = days_from_civil(year, 1, 4)
    return fourth - (weekday(fourth) + 6) % 7


def iso_year_and_week(days: int) -> tuple[int, int]:
    year = civil_from_days(days)[0]
    start = iso_week_start(year)
    if days < start:
        year -= 1
        start = iso_week_start(year)
    else:
        following = iso_week_start(year + 1)
        if days >= following:
            year += 1
            start = following
    return year, (days - start) // 7 + 1


def is_valid_julian(year: int, month: int) -> bool:
    """The months for which PostgreSQL computes day numbers."""
    if year < -4713 or (year == -4713 and month < 11):
        return False
    return year < 5_874_898 or (year == 5_874_898 and month < 6)
