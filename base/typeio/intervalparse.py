"""Reading of intervals: PostgreSQL's words, the SQL standard's fields, and ISO 8601 (manual, 8.5.4).

Fields are read from the right, so that a unit is known before its number.  A fraction of a unit
goes into smaller ones: of years into months, of months and weeks into days (30 a month), of
days into time; each is rounded once.
"""

from __future__ import annotations

import re
from typing import Final

from base.errors import error
from base.typeio.calendar import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from base.typeio.datefields import split_time
from base.typeio.datetokens import (
    AGO,
    BAD_FORMAT,
    DATE,
    FIELD_OVERFLOW,
    IGNORE,
    INT4_MAX,
    INT8_MAX,
    INTERVAL_OVERFLOW,
    NUMBER,
    TIME,
    TOKEN_LENGTH,
    TZ,
    UNIT_WORDS,
    UNITS,
    Reject,
    fraction,
    into_error,
    scan_int,
    split_fields,
)

RANGE_YEAR: Final = 1 << 2
RANGE_MONTH: Final = 1 << 1
RANGE_DAY: Final = 1 << 3
RANGE_HOUR: Final = 1 << 10
RANGE_MINUTE: Final = 1 << 11
RANGE_SECOND: Final = 1 << 12
FULL_RANGE: Final = 0x7FFF
_MINUTE_TO_SECOND: Final = RANGE_MINUTE | RANGE_SECOND

# Bits of what has been found; seconds are three things so that '1 s 5 ms' passes and '1.5 s 5 ms' does not.
_HAS: Final = {
    "microsecond": 1, "millisecond": 2, "second": 4, "minute": 8, "hour": 16, "day": 32, "week": 64, "month": 128, "year": 256,
    "decade": 512, "century": 1024, "millennium": 2048,
}  # fmt: skip
_HAS_SECONDS: Final = 1 | 2 | 4
_HAS_TIME: Final = 4 | 8 | 16 | 1 | 2
_TIME_UNITS: Final = {"microsecond": 1, "millisecond": 1000, "second": SECOND_US, "minute": MINUTE_US, "hour": HOUR_US}
_YEAR_UNITS: Final = {"year": 1, "decade": 10, "century": 100, "millennium": 1000}

Interval = tuple[int, int, int]
"""(months, days, microseconds)."""


class IntervalFields:
    """Sums of what has been read; every sum stays inside the width PostgreSQL has for it."""

    __slots__ = ("days", "months", "us", "years")

    def __init__(self) -> None:
        self.years = 0
        self.months = 0
        self.days = 0
        self.us = 0

    def add_us(self, value: int, part: float, scale: int) -> None:
        self.us = _fit(self.us + _fit(value * scale, INT8_MAX), INT8_MAX)
        self.add_fraction_us(part, scale)

    def add_fraction_us(self, part: float, scale: int) -> None:
        """Rounds half towards zero."""
        scaled = part * scale
        us = int(scaled)
        rest = scaled - us
        if rest > 0.5:
            us += 1
        elif rest < -0.5:
            us -= 1
        self.us = _fit(self.us + us, INT8_MAX)

    def add_days(self, value: int, part: float, scale: int) -> None:
        self.days = _fit(self.days + _fit(_fit(value, INT4_MAX) * scale, INT4_MAX), INT4_MAX)
        if scale == 1:
            self.add_fraction_us(part, DAY_US)
        else:
            self.add_fraction_days(part, scale)

    def add_fraction_days(self, part: float, scale: int) -> None:
        scaled = part * scale
        days = int(scaled)
        self.days = _fit(self.days + days, INT4_MAX)
        self.add_fraction_us(scaled - days, DAY_US)

    def add_months(self, value: int, part: float) -> None:
        self.months = _fit(self.months + _fit(value, INT4_MAX), INT4_MAX)
        self.add_fraction_days(part, 30)

    def add_years(self, value: int, part: float, scale: int) -> None:
        self.years = _fit(self.years + _fit(_fit(value, INT4_MAX) * scale, INT4_MAX), INT4_MAX)
        self.months = _fit(self.months + round(part * scale * 12), INT4_MAX)

    def negate(self) -> None:
        for value in (self.us, self.days, self.months, self.years):
            if value in (-INT8_MAX - 1, -INT4_MAX - 1):
                raise Reject(FIELD_OVERFLOW)
        self.us, self.days, self.months, self.years = -self.us, -self.days, -self.months, -self.years

    def into_interval(self) -> Interval:
        months = self.years * 12 + self.months
        if not -INT4_MAX - 1 <= months <= INT4_MAX:
            raise error("22008", "interval out of range")
        return months, self.days, self.us


def _fit(value: int, limit: int) -> int:
    if not -limit - 1 <= value <= limit:
        raise Reject(FIELD_OVERFLOW)
    return value


def parse_interval(text: str, field_range: int, is_sql_standard: bool) -> Interval:
    """Reads an interval; ``field_range`` (of the typmod) says what a number without unit is."""
    try:
        try:
            fields = _read_words(text, field_range, is_sql_standard)
        except Reject as reject:
            if reject.code != BAD_FORMAT:
                raise
            fields = _read_iso(text)
    except Reject as reject:
        code = INTERVAL_OVERFLOW if reject.code == FIELD_OVERFLOW else reject.code
        raise into_error(code, text, "interval") from None
    return fields.into_interval()


# --- words and standard fields -----------------------------------------------------------


def _read_words(text: str, field_range: int, is_sql_standard: bool) -> IntervalFields:
    tokens = split_fields(text)
    # SQL standard: a sign before the first field is the sign of all, if no other has one.
    negative = (
        is_sql_standard and bool(tokens) and tokens[0][1][0] == "-" and all(t[1][0] not in "+-" for t in tokens[1:])
    )
    fields = IntervalFields()
    found = 0
    unit = ""
    is_ago = False
    for kind, field in reversed(tokens):
        if kind == TIME or (kind == TZ and ":" in field[1:]):
            mask = _time_field(fields, field, field_range, negative, kind == TZ)
            if mask:
                unit = "day"
        else:
            mask = 0
        if not mask:
            if kind in (TZ, DATE, NUMBER):
                unit, mask = _number_field(fields, field, unit or _default_unit(field_range), negative)
                # '1 2' of hours, or '3 4 hours', are days and hours.
                unit = "day" if unit == "hour" else unit
            else:
                word, value = UNIT_WORDS.get(field[:TOKEN_LENGTH], (-1, ""))
                if word == IGNORE:
                    continue
                if word not in (UNITS, AGO):
                    raise Reject(BAD_FORMAT)
                is_ago = is_ago or word == AGO
                unit = value or "second" if word == UNITS else unit
        if found & mask:
            raise Reject(BAD_FORMAT)
        found |= mask
    if not found:
        raise Reject(BAD_FORMAT)
    if is_ago:
        fields.negate()
    return fields


def _default_unit(field_range: int) -> str:
    """The last field of the type, SECOND if it has none."""
    if field_range == FULL_RANGE or field_range & RANGE_SECOND:
        return "second"
    for bit, unit in (
        (RANGE_MINUTE, "minute"),
        (RANGE_HOUR, "hour"),
        (RANGE_DAY, "day"),
        (RANGE_MONTH, "month"),
        (RANGE_YEAR, "year"),
    ):
        if field_range & bit:
            return unit
    return "second"


def _time_field(fields: IntervalFields, field: str, field_range: int, negative: bool, signed: bool) -> int:
    """Returns 0 where a signed field turns out to be no time."""
    try:
        hour, minute, second, part = split_time(field[1:] if signed else field, field_range == _MINUTE_TO_SECOND)
        us = _fit(hour * HOUR_US + minute * MINUTE_US + second * SECOND_US + part, INT8_MAX)
    except Reject:
        if signed:
            return 0
        raise
    if (signed and field[0] == "-") or (negative and us > 0):
        us = -us
    fields.us = us
    return _HAS_TIME


def _number_field(fields: IntervalFields, field: str, unit: str, negative: bool) -> tuple[str, int]:
    """Adds a number in its unit; returns (unit, mask)."""
    value, end = scan_int(field, 0, INT8_MAX)
    part = 0.0
    minus = field[0] == "-"
    if end < len(field) and field[end] == "-":
        months, stop = scan_int(field, end + 1)
        if not 0 <= months < 12:
            raise Reject(FIELD_OVERFLOW)
        if stop < len(field):
            raise Reject(BAD_FORMAT)
        unit = "month"
        value = _fit(value * 12 + (-months if minus else months), INT8_MAX)
    elif end < len(field):
        part = fraction(field[end:])
        if minus:
            part = -part
    if negative:
        value, part = -abs(value), -abs(part)
    return unit, _add_unit(fields, value, part, unit)


def _add_unit(fields: IntervalFields, value: int, part: float, unit: str) -> int:
    if unit in _TIME_UNITS:
        fields.add_us(value, part, _TIME_UNITS[unit])
        return _HAS_SECONDS if unit == "second" and part else _HAS[unit]
    if unit == "day":
        fields.add_days(value, part, 1)
    elif unit == "week":
        fields.add_days(value, part, 7)
    elif unit == "month":
        fields.add_months(value, part)
    elif unit in _YEAR_UNITS:
        fields.add_years(value, part, _YEAR_UNITS[unit])
    else:
        raise Reject(BAD_FORMAT)
    return _HAS[unit]


# --- ISO 8601 ------------------------------------------------------------------------------

_ISO_NUMBER: Final = re.compile(r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_ISO_LIMIT: Final = 1e15


class _IsoText:
    """The text after P, and how far it has been read."""

    __slots__ = ("at", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def number(self) -> tuple[int, float]:
        """Reads a number; returns its whole part and its fraction."""
        match = _ISO_NUMBER.match(self.text, self.at)
        if match is None:
            raise Reject(BAD_FORMAT)
        self.at = match.end()
        value = float(match.group())
        if not -_ISO_LIMIT <= value <= _ISO_LIMIT:
            raise Reject(FIELD_OVERFLOW)
        whole = int(value)
        return whole, value - whole

    def peek(self) -> str:
        return self.text[self.at] if self.at < len(self.text) else ""


def _read_iso(text: str) -> IntervalFields:
    """``P1Y2M3DT4H5M6S`` and the alternative formats ``P0001-02-03T04:05:06``, ``P00010203T040506``."""
    if len(text) < 2 or text[0] != "P":
        raise Reject(BAD_FORMAT)
    source = _IsoText(text[1:])
    fields = IntervalFields()
    in_date = True
    has_field = False
    while source.peek():
        if source.peek() == "T":
            in_date = has_field = False
            source.at += 1
            continue
        start = source.at
        value, part = source.number()
        unit = source.peek()
        source.at += 1
        if in_date and unit in ("", "T", "-"):
            if _iso_alternative_date(source, fields, value, part, unit, start, has_field):
                return fields
            in_date = has_field = False
            continue
        if not in_date and unit in ("", ":"):
            _iso_alternative_time(source, fields, value, part, unit, start, has_field)
            return fields
        name = (_ISO_DATE_UNITS if in_date else _ISO_TIME_UNITS).get(unit)
        if name is None:
            raise Reject(BAD_FORMAT)
        _add_unit(fields, value, part, name)
        has_field = True
    return fields


_ISO_DATE_UNITS: Final = {"Y": "year", "M": "month", "W": "week", "D": "day"}
_ISO_TIME_UNITS: Final = {"H": "hour", "M": "minute", "S": "second"}


def _whole_width(text: str, start: int) -> int:
    """Digits of the whole part of the number at a position."""
    match = re.match(r"-?(\d*)", text[start:], re.ASCII)
    assert match is not None, text
    return len(match.group(1))


def _iso_alternative_date(
    source: _IsoText, fields: IntervalFields, value: int, part: float, unit: str, start: int, has_field: bool
) -> bool:
    """Returns True at the end of the text, False at T."""
    if unit != "-" and _whole_width(source.text, start) == 8 and not has_field:
        sign = -1 if value < 0 else 1
        rest = abs(value)
        fields.add_years(sign * (rest // 10_000), 0.0, 1)
        fields.add_months(sign * (rest // 100 % 100), 0.0)
        fields.add_days(sign * (rest % 100), part, 1)
        return unit == ""
    if has_field:
        raise Reject(BAD_FORMAT)
    fields.add_years(value, part, 1)
    for add in (fields.add_months, None):
        if unit == "":
            return True
        if unit == "T":
            return False
        if unit != "-":
            raise Reject(BAD_FORMAT)
        value, part = source.number()
        if add is not None:
            add(value, part)
        else:
            fields.add_days(value, part, 1)
        unit = source.peek()
        source.at += 1
    if unit not in ("", "T"):
        raise Reject(BAD_FORMAT)
    return unit == ""


def _iso_alternative_time(
    source: _IsoText, fields: IntervalFields, value: int, part: float, unit: str, start: int, has_field: bool
) -> None:
    if unit == "" and _whole_width(source.text, start) == 6 and not has_field:
        sign = -1 if value < 0 else 1
        rest = abs(value)
        fields.add_us(sign * (rest // 10_000), 0.0, HOUR_US)
        fields.add_us(sign * (rest // 100 % 100), 0.0, MINUTE_US)
        fields.add_us(sign * (rest % 100), 0.0, SECOND_US)
        fields.add_fraction_us(part, 1)
        return
    if has_field:
        raise Reject(BAD_FORMAT)
    fields.add_us(value, part, HOUR_US)
    for scale in (MINUTE_US, SECOND_US):
        if unit == "":
            return
        if unit != ":":
            raise Reject(BAD_FORMAT)
        value, part = source.number()
        fields.add_us(value, part, scale)
        unit = source.peek()
        source.at += 1
    if unit != "":
        raise Reject(BAD_FORMAT)
