"""Decoding of single fields of a date or time into a growing ``Fields`` record.

Which number is year, month or day is decided by DateStyle's order, by the number of digits, and
by what has been found before (PostgreSQL 15 manual, appendix B.1).
"""

from __future__ import annotations

from typing import Final

from base.typeio.calendar import EPOCH_JULIAN, civil_from_days, days_from_civil, month_length
from base.typeio.datetokens import (
    BAD_FORMAT,
    FIELD_OVERFLOW,
    IGNORE,
    INT4_MAX,
    INT8_MAX,
    MONTH,
    MONTH_DAY_OVERFLOW,
    TOKEN_LENGTH,
    WORDS,
    ZONE_OVERFLOW,
    Reject,
    fraction,
    fractional_us,
    scan_int,
)

HAS_YEAR: Final = 1
HAS_MONTH: Final = 2
HAS_DAY: Final = 4
HAS_DATE: Final = 7
HAS_HOUR: Final = 8
HAS_MINUTE: Final = 16
HAS_SECOND: Final = 32
HAS_SUBSECOND: Final = 64
HAS_SECONDS: Final = HAS_SECOND | HAS_SUBSECOND
HAS_TIME: Final = HAS_HOUR | HAS_MINUTE | HAS_SECONDS
HAS_ZONE: Final = 128
HAS_DST: Final = 256
HAS_DAY_OF_YEAR: Final = 512
HAS_WEEKDAY: Final = 1024
HAS_AMPM: Final = 2048
HAS_ERA: Final = 4096
HAS_RESERVED: Final = 8192

ZONE_HOUR_MAX: Final = 15
TIME_END_US: Final = 86_400_000_000


class Fields:
    """What has been read so far; ``found`` says which of it, by the HAS_ bits."""

    __slots__ = ("day", "day_of_year", "found", "has_text_month", "hour", "is_julian", "minute", "month", "order", "second",
                 "two_digit_year", "us", "year", "zone")  # fmt: skip

    def __init__(self, order: str) -> None:
        self.order = order
        """MDY, DMY or YMD."""
        self.found = 0
        self.year = 0
        self.month = 0
        self.day = 0
        self.hour = 0
        self.minute = 0
        self.second = 0
        self.us = 0
        self.day_of_year = 0
        self.zone = 0
        """Seconds WEST of UTC, as in timetz."""
        self.two_digit_year = False
        self.has_text_month = False
        self.is_julian = False

    def add(self, mask: int) -> None:
        """Notes what a field gave; the same thing twice is an error."""
        if self.found & mask:
            raise Reject(BAD_FORMAT)
        self.found |= mask

    def set_date(self, days: int) -> None:
        self.year, self.month, self.day = civil_from_days(days)

    def set_time(self, us: int) -> None:
        self.hour, rest = divmod(us, 3_600_000_000)
        self.minute, rest = divmod(rest, 60_000_000)
        self.second, self.us = divmod(rest, 1_000_000)

    def time_us(self) -> int:
        return ((self.hour * 60 + self.minute) * 60 + self.second) * 1_000_000 + self.us

    def days(self) -> int:
        return days_from_civil(self.year, self.month, self.day)


def decode_time(fields: Fields, text: str) -> int:
    """``hh:mm[:ss[.f]]``; ``mm:ss.f`` is minutes and seconds."""
    hour, minute, second, us = split_time(text, False)
    if hour > INT4_MAX:
        raise Reject(FIELD_OVERFLOW)
    fields.hour, fields.minute, fields.second, fields.us = hour, minute, second, us
    return HAS_TIME


def split_time(text: str, minute_to_second: bool) -> tuple[int, int, int, int]:
    """Returns (hour, minute, second, microseconds); two numbers are minutes and seconds if asked or with a fraction."""
    hour, end = scan_int(text, 0, INT8_MAX)
    if end >= len(text) or text[end] != ":":
        raise Reject(BAD_FORMAT)
    minute, end = scan_int(text, end + 1)
    second = us = 0
    if end == len(text):
        if minute_to_second:
            hour, minute, second = 0, _narrow(hour), minute
    elif text[end] == ".":
        us = fractional_us(text[end:])
        hour, minute, second = 0, _narrow(hour), minute
    elif text[end] == ":":
        second, end = scan_int(text, end + 1)
        if end < len(text):
            us = fractional_us(text[end:])
    else:
        raise Reject(BAD_FORMAT)
    if hour < 0 or not 0 <= minute <= 59 or not 0 <= second <= 60 or not 0 <= us <= 1_000_000:
        raise Reject(FIELD_OVERFLOW)
    return hour, minute, second, us


def _narrow(value: int) -> int:
    if value > INT4_MAX:
        raise Reject(FIELD_OVERFLOW)
    return value


def check_time(fields: Fields) -> None:
    """24:00:00 is the last time of a day; seconds may be 60."""
    if fields.hour > 24 or fields.hour < 0 or not 0 <= fields.minute <= 59 or not 0 <= fields.second <= 60:
        raise Reject(FIELD_OVERFLOW)
    if fields.time_us() > TIME_END_US:
        raise Reject(FIELD_OVERFLOW)


def decode_offset(text: str) -> int:
    """``+hh[[:]mm[:ss]]``; returns seconds WEST of UTC."""
    if not text or text[0] not in "+-":
        raise Reject(BAD_FORMAT)
    try:
        hour, end = scan_int(text, 1)
        minute = second = 0
        if end < len(text) and text[end] == ":":
            minute, end = scan_int(text, end + 1)
            if end < len(text) and text[end] == ":":
                second, end = scan_int(text, end + 1)
        elif end == len(text) and len(text) > 3:
            hour, minute = divmod(hour, 100)
    except Reject:
        raise Reject(ZONE_OVERFLOW) from None
    if not 0 <= hour <= ZONE_HOUR_MAX or not 0 <= minute < 60 or not 0 <= second < 60:
        raise Reject(ZONE_OVERFLOW)
    if end != len(text):
        raise Reject(BAD_FORMAT)
    east = hour * 3600 + minute * 60 + second
    return east if text[0] == "-" else -east


def decode_run_together(fields: Fields, text: str, found: int) -> int:
    """``yymmdd``, ``yyyymmdd``, ``hhmm``, ``hhmmss[.f]``, by length and by what is there already."""
    whole, point, part = text.partition(".")
    length = len(whole)
    if point:
        fields.us = round(float("." + part) * 1_000_000) if part.isdecimal() else _no_digits(part)
    elif found & HAS_DATE != HAS_DATE and length >= 6:
        fields.day = scan_int(whole[-2:])[0]
        fields.month = scan_int(whole[-4:-2])[0]
        fields.year = scan_int(whole[:-4])[0]
        fields.two_digit_year = fields.two_digit_year or length == 6
        return HAS_DATE
    if found & HAS_TIME != HAS_TIME and length in (4, 6):
        fields.hour = scan_int(whole[:2])[0]
        fields.minute = scan_int(whole[2:4])[0]
        fields.second = scan_int(whole[4:])[0] if length == 6 else 0
        return HAS_TIME
    raise Reject(BAD_FORMAT)


def _no_digits(part: str) -> int:
    if part:
        raise Reject(BAD_FORMAT)
    return 0


def decode_number(fields: Fields, text: str, found: int) -> int:
    """One number of a date: year, month, day, or day of the year; or a run-together time after the date."""
    value, end = scan_int(text)
    if end == 0:
        raise Reject(BAD_FORMAT)
    if end < len(text) and text[end] == ".":
        if end > 2:
            return decode_run_together(fields, text, found | HAS_DATE)
        fields.us = fractional_us(text[end:])
    elif end < len(text):
        raise Reject(BAD_FORMAT)
    length = len(text)
    known = found & HAS_DATE
    if length == 3 and known == HAS_YEAR and 1 <= value <= 366:
        fields.day_of_year = value
        return HAS_DAY_OF_YEAR | HAS_MONTH | HAS_DAY
    if known == HAS_DATE:
        return decode_run_together(fields, text, found)
    mask = _place_number(fields, value, length, known)
    if mask == HAS_YEAR:
        fields.two_digit_year = length <= 2
    return mask


def _place_number(fields: Fields, value: int, length: int, known: int) -> int:
    if known == 0:
        is_year = length >= 3 or fields.order == "YMD"
        mask = HAS_YEAR if is_year else HAS_DAY if fields.order == "DMY" else HAS_MONTH
    elif known == HAS_MONTH:
        is_year = fields.has_text_month and (length >= 3 or fields.order == "YMD")
        mask = HAS_YEAR if is_year else HAS_DAY
    elif known == HAS_YEAR | HAS_MONTH:
        mask = HAS_DAY
        if fields.has_text_month and length >= 3 and fields.two_digit_year:
            # DD-MON-YYYY under YMD: what was taken for the year is the day.
            fields.day, fields.year = fields.year, value
            fields.two_digit_year = False
            return HAS_DAY
    elif known in (HAS_YEAR, HAS_DAY):
        mask = HAS_MONTH
    elif known == HAS_MONTH | HAS_DAY:
        mask = HAS_YEAR
    else:
        raise Reject(BAD_FORMAT)
    if mask == HAS_YEAR:
        fields.year = value
    elif mask == HAS_MONTH:
        fields.month = value
    else:
        fields.day = value
    return mask


def decode_date(fields: Fields, text: str, found: int) -> int:
    """A date joined by - / or .; a month's name is taken first, being unambiguous."""
    parts = _date_parts(text)
    gained = 0
    numbers: list[str] = []
    for part in parts:
        if not part[0].isalpha():
            numbers.append(part)
            continue
        kind, value = WORDS.get(part[:TOKEN_LENGTH], (-1, 0))
        if kind == IGNORE:
            continue
        if kind != MONTH or found & HAS_MONTH or not isinstance(value, int):
            raise Reject(BAD_FORMAT)
        fields.month = value
        fields.has_text_month = True
        found |= HAS_MONTH
        gained |= HAS_MONTH
    for part in numbers:
        mask = decode_number(fields, part, found)
        if found & mask:
            raise Reject(BAD_FORMAT)
        found |= mask
        gained |= mask
    if found & ~(HAS_DAY_OF_YEAR | HAS_ZONE) != HAS_DATE:
        raise Reject(BAD_FORMAT)
    return gained


def _date_parts(text: str) -> list[str]:
    """Runs of digits and runs of letters."""
    parts: list[str] = []
    at = 0
    while at < len(text):
        start = at
        if text[at].isdecimal():
            while at < len(text) and text[at].isdecimal():
                at += 1
        elif text[at].isalpha():
            while at < len(text) and text[at].isalpha():
                at += 1
        else:
            at += 1
            continue
        parts.append(text[start:at])
    return parts


def set_julian(fields: Fields, value: int) -> None:
    fields.set_date(value - EPOCH_JULIAN)
    fields.is_julian = True


def decode_julian(fields: Fields, text: str) -> int:
    """A Julian day, whose fraction is the time."""
    value, end = scan_int(text)
    if value < 0:
        raise Reject(FIELD_OVERFLOW)
    set_julian(fields, value)
    if end == len(text):
        return HAS_DATE
    fields.set_time(int(fraction(text[end:]) * TIME_END_US))
    return HAS_DATE | HAS_TIME


def validate_date(fields: Fields, is_bc: bool) -> None:
    """Settles two-digit years, BC and days of the year; raises Reject for dates that do not exist."""
    found = fields.found
    if found & HAS_YEAR and not fields.is_julian:
        if is_bc:
            if fields.year <= 0:
                raise Reject(FIELD_OVERFLOW)
            fields.year = 1 - fields.year
        elif fields.two_digit_year:
            if fields.year < 70:
                fields.year += 2000
            elif fields.year < 100:
                fields.year += 1900
        elif fields.year <= 0:
            raise Reject(FIELD_OVERFLOW)
    if found & HAS_DAY_OF_YEAR:
        fields.set_date(days_from_civil(fields.year, 1, 1) + fields.day_of_year - 1)
    if found & HAS_MONTH and not 1 <= fields.month <= 12:
        raise Reject(MONTH_DAY_OVERFLOW)
    if found & HAS_DAY and not 1 <= fields.day <= 31:
        raise Reject(MONTH_DAY_OVERFLOW)
    if found & HAS_DATE == HAS_DATE and fields.day > month_length(fields.year, fields.month):
        raise Reject(FIELD_OVERFLOW)
