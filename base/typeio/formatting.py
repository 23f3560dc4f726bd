"""to_char of timestamps and intervals (PostgreSQL 15 manual, 9.8.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from base.errors import MeridianError, error
from base.typeio.calendar import (
    DAY_US,
    DAYS,
    EPOCH_JULIAN,
    MONTHS,
    UNIX_EPOCH_SECONDS,
    civil_from_days,
    day_of_year,
    days_from_civil,
    iso_week_start,
    iso_year_and_week,
    weekday,
)
from base.typeio.datetimes import is_finite_timestamp
from base.typeio.interval import split_fields, split_quotient
from base.typeio.intervalparse import Interval
from base.typeio.pictures import KEYWORD, Node, ordinal_ending, parse_date_picture, roman
from base.typeio.zones import zone_or_error


class Moment:
    """What a template can print: a point of time on a clock, or the fields of an interval."""

    __slots__ = (
        "abbreviation",
        "day",
        "day_of_year",
        "days",
        "hour",
        "is_interval",
        "minute",
        "month",
        "offset",
        "second",
        "us",
        "year",
    )

    def __init__(self, is_interval: bool) -> None:
        self.is_interval = is_interval
        self.days = 0
        self.year = self.month = self.day = self.day_of_year = 0
        self.hour = self.minute = self.second = self.us = 0
        self.offset = 0
        """Seconds east of UTC."""
        self.abbreviation = ""

    def printed_year(self) -> int:
        """1 BC is 1; intervals keep their sign."""
        return self.year if self.is_interval or self.year > 0 else 1 - self.year

    def iso(self) -> tuple[int, int]:
        """(year, week) of ISO 8601."""
        return iso_year_and_week(self.days)


def _moment_of_timestamp(local: int) -> Moment:
    moment = Moment(False)
    moment.days, us = divmod(local, DAY_US)
    moment.year, moment.month, moment.day = civil_from_days(moment.days)
    moment.day_of_year = day_of_year(moment.year, moment.month, moment.day)
    moment.hour, us = divmod(us, 3_600_000_000)
    moment.minute, us = divmod(us, 60_000_000)
    moment.second, moment.us = divmod(us, 1_000_000)
    return moment


def timestamp_to_char(value: int, template: str) -> str | None:
    """None for an infinite timestamp or an empty template."""
    if not template or not is_finite_timestamp(value):
        return None
    return _render(_moment_of_timestamp(value), template)


def timestamptz_to_char(value: int, template: str, zone: str) -> str | None:
    if not template or not is_finite_timestamp(value):
        return None
    offset, _, abbreviation = zone_or_error(zone).at(value // 1_000_000 + UNIX_EPOCH_SECONDS)
    moment = _moment_of_timestamp(value + offset * 1_000_000)
    moment.offset = offset
    moment.abbreviation = abbreviation
    return _render(moment, template)


def interval_to_char(value: Interval, template: str) -> str | None:
    if not template:
        return None
    moment = Moment(True)
    moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second, moment.us = split_fields(value)
    moment.day_of_year = value[0] * 30 + value[1]
    # The day of the week of an interval means nothing; PostgreSQL counts from a Monday in the year 0.
    moment.days = days_from_civil(moment.year, 1, 1)
    return _render(moment, template)


def _render(moment: Moment, template: str) -> str:
    parts: list[str] = []
    for node in parse_date_picture(template):
        if node.kind != KEYWORD:
            parts.append(node.text)
            continue
        printed = _PRINTERS[node.name](moment, node)
        if node.ordinal and printed and node.name in _NUMERIC:
            printed += ordinal_ending(printed, node.ordinal)
        parts.append(printed)
    return "".join(parts)


# --- printers -----------------------------------------------------------------------------------


def _padded(value: int, width: int, node: Node) -> str:
    """Zero-padded, with room for a minus sign, unless FM."""
    if node.fill:
        return str(value)
    return f"{value:0{width if value >= 0 else width + 1}d}"


def _no_interval(moment: Moment) -> None:
    if moment.is_interval:
        hint = "Intervals are not tied to specific calendar dates."
        raise error("22007", "invalid format specification for an interval value", hint=hint)


def _cased(text: str, node: Node) -> str:
    """As the keyword is written: MONTH, Month, month."""
    if node.text.isupper():
        return text.upper()
    return text.lower() if node.text.islower() else text


def _name(text: str, width: int, node: Node) -> str:
    cased = _cased(text, node)
    return cased if node.fill or node.localized else cased.ljust(width)


def _hour12(moment: Moment, node: Node) -> str:
    hour = moment.hour
    rest = abs(hour) % 12 or 12
    return _padded(-rest if hour < 0 and abs(hour) % 12 else rest, 2, node)


def _meridian(moment: Moment, node: Node) -> str:
    text = "PM" if split_quotient(moment.hour, 24)[1] >= 12 else "AM"
    return _cased(f"{text[0]}.{text[1]}." if "." in node.text else text, node)


def _era(moment: Moment, node: Node) -> str:
    _no_interval(moment)
    text = "BC" if moment.year <= 0 else "AD"
    return _cased(f"{text[0]}.{text[1]}." if "." in node.text else text, node)


def _month_name(moment: Moment, node: Node) -> str:
    _no_interval(moment)
    return _name(MONTHS[moment.month - 1], 9, node) if moment.month else ""


def _month_short(moment: Moment, node: Node) -> str:
    _no_interval(moment)
    return _cased(MONTHS[moment.month - 1][:3], node) if moment.month else ""


def _day_name(moment: Moment, node: Node) -> str:
    _no_interval(moment)
    return _name(DAYS[weekday(moment.days)], 9, node)


def _day_short(moment: Moment, node: Node) -> str:
    _no_interval(moment)
    return _cased(DAYS[weekday(moment.days)][:3], node)


def _roman_month(moment: Moment, node: Node) -> str:
    month = moment.month
    if month == 0:
        if not moment.is_interval or moment.year == 0:
            return ""
        month = 12 if moment.year >= 0 else 1
    elif month < 0:
        month += 13
    letters = roman(month)
    text = letters.lower() if node.text.islower() else letters
    return text if node.fill else text.ljust(4)


def _zone_name(moment: Moment, node: Node) -> str:
    _no_interval(moment)
    return moment.abbreviation.lower() if node.text == "tz" else moment.abbreviation


def _zone_hour(moment: Moment, node: Node) -> str:
    _no_interval(moment)
    return f"{'+' if moment.offset >= 0 else '-'}{abs(moment.offset) // 3600:02d}"


def _zone_minute(moment: Moment, node: Node) -> str:
    _no_interval(moment)
    return f"{abs(moment.offset) % 3600 // 60:02d}"


def _zone_offset(moment: Moment, node: Node) -> str:
    _no_interval(moment)
    hours, rest = divmod(abs(moment.offset), 3600)
    text = f"{'+' if moment.offset >= 0 else '-'}{hours if node.fill else f'{hours:02d}'}"
    return f"{text}:{rest // 60:02d}" if rest // 60 else text


def _century(moment: Moment, node: Node) -> str:
    year = moment.year
    if moment.is_interval:
        century = split_quotient(year, 100)[0]
    else:
        century = (year - 1) // 100 + 1 if year > 0 else split_quotient(year, 100)[0] - 1
    return _padded(century, 2, node) if -99 <= century <= 99 else str(century)


def _year_comma(moment: Moment, node: Node) -> str:
    thousands, rest = split_quotient(moment.printed_year(), 1000)
    return f"{thousands},{rest:03d}"


def _year(digits: int) -> Callable[[Moment, Node], str]:
    def render(moment: Moment, node: Node) -> str:
        year = moment.printed_year()
        return _padded(year if digits == 4 else split_quotient(year, 10**digits)[1], digits, node)

    return render


def _iso_year(digits: int) -> Callable[[Moment, Node], str]:
    def render(moment: Moment, node: Node) -> str:
        year = moment.year if moment.is_interval else moment.iso()[0]
        year = year if moment.is_interval or year > 0 else 1 - year
        return _padded(year if digits == 4 else split_quotient(year, 10**digits)[1], digits, node)

    return render


def _fraction(digits: int) -> Callable[[Moment, Node], str]:
    def render(moment: Moment, node: Node) -> str:
        return _padded_always(split_quotient(moment.us, 10 ** (6 - digits))[0], digits)

    return render


def _padded_always(value: int, width: int) -> str:
    return f"{value:0{width}d}"


def _unsigned(value: int, width: int, node: Node) -> str:
    """Zero-padded without room for a sign."""
    return str(value) if node.fill else _padded_always(value, width)


def _iso_day_of_year(moment: Moment, node: Node) -> str:
    year = moment.iso()[0]
    return _padded(moment.days - iso_week_start(year) + 1, 3, node)


def _quarter(moment: Moment, node: Node) -> str:
    return str(split_quotient(moment.month - 1, 3)[0] + 1) if moment.month else ""


def _julian(moment: Moment, node: Node) -> str:
    days = days_from_civil(moment.year, moment.month, moment.day) if moment.is_interval else moment.days
    return str(days + EPOCH_JULIAN)


_PRINTERS: Final[dict[str, Callable[[Moment, Node], str]]] = {
    "FX": lambda moment, node: "",
    "A.M.": _meridian, "P.M.": _meridian, "AM": _meridian, "PM": _meridian,
    "A.D.": _era, "B.C.": _era, "AD": _era, "BC": _era,
    "HH": _hour12, "HH12": _hour12, "HH24": lambda moment, node: _padded(moment.hour, 2, node),
    "MI": lambda moment, node: _padded(moment.minute, 2, node), "SS": lambda moment, node: _padded(moment.second, 2, node),
    "MS": _fraction(3), "US": _fraction(6), "FF1": _fraction(1), "FF2": _fraction(2), "FF3": _fraction(3), "FF4": _fraction(4),
    "FF5": _fraction(5), "FF6": _fraction(6),
    "SSSS": lambda moment, node: str(moment.hour * 3600 + moment.minute * 60 + moment.second),
    "SSSSS": lambda moment, node: str(moment.hour * 3600 + moment.minute * 60 + moment.second),
    "TZ": _zone_name, "TZH": _zone_hour, "TZM": _zone_minute, "OF": _zone_offset,
    "MONTH": _month_name, "MON": _month_short, "MM": lambda moment, node: _padded(moment.month, 2, node), "RM": _roman_month,
    "DAY": _day_name, "DY": _day_short, "DDD": lambda moment, node: _unsigned(moment.day_of_year, 3, node), "IDDD": _iso_day_of_year,
    "DD": lambda moment, node: _unsigned(moment.day, 2, node), "D": lambda moment, node: _day_number(moment, 1), "ID": lambda moment, node: _day_number(moment, 0),
    "WW": lambda moment, node: _unsigned(split_quotient(moment.day_of_year - 1, 7)[0] + 1, 2, node), "IW": lambda moment, node: _padded(moment.iso()[1], 2, node),
    "W": lambda moment, node: str(split_quotient(moment.day - 1, 7)[0] + 1), "Q": _quarter, "CC": _century, "Y,YYY": _year_comma,
    "YYYY": _year(4), "YYY": _year(3), "YY": _year(2), "Y": _year(1), "IYYY": _iso_year(4), "IYY": _iso_year(3), "IY": _iso_year(2), "I": _iso_year(1),
    "J": _julian,
}  # fmt: skip
_NUMERIC: Final = frozenset(_PRINTERS) - frozenset(
    (
        "FX",
        "A.M.",
        "P.M.",
        "AM",
        "PM",
        "A.D.",
        "B.C.",
        "AD",
        "BC",
        "TZ",
        "TZH",
        "TZM",
        "OF",
        "MONTH",
        "MON",
        "RM",
        "DAY",
        "DY",
    )
)


def _day_number(moment: Moment, sunday: int) -> str:
    """D counts from Sunday = 1, ID from Monday = 1."""
    _no_interval(moment)
    day = weekday(moment.days)
    return str(day + 1) if sunday else str(day or 7)


def not_supported(name: str) -> MeridianError:
    return error("0A000", f'formatting field "{name}" is only supported in to_char')
