"""to_timestamp and to_date with a template (PostgreSQL 15 manual, 9.8.1).

Without FX, blanks before and after fields are skipped and a separator of the template matches one
separator or blank of the input, or none.
"""

from __future__ import annotations

import re
from typing import Final

from base.errors import MeridianError, error
from base.typeio.calendar import (
    DATE_END,
    DATE_MIN,
    DAY_US,
    DAYS,
    EPOCH_JULIAN,
    MONTHS,
    UNIX_EPOCH_SECONDS,
    civil_from_days,
    days_from_civil,
    is_leap,
    is_valid_julian,
    iso_week_start,
    month_length,
)
from base.typeio.datetimes import checked_timestamp
from base.typeio.datetokens import FIELD_OVERFLOW, INT4_MAX, ZONE_OVERFLOW, into_error
from base.typeio.formatting import not_supported
from base.typeio.pictures import KEYWORD, NO_DIGITS, SEPARATOR, SPACE, Node, is_separator, parse_date_picture, roman
from base.typeio.zones import zone_or_error

_BLANKS: Final = " \t\n\v\f\r"
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_Y_YYY: Final = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]{1,9}),[ \t\n\v\f\r]*([+-]?[0-9]{1,3})")
_ISO_FIELDS: Final = frozenset(("IDDD", "ID", "IW", "IYYY", "IYY", "IY", "I"))
_GREGORIAN_FIELDS: Final = frozenset(
    ("DDD", "DD", "D", "MM", "MON", "MONTH", "RM", "WW", "W", "Y,YYY", "YYYY", "YYY", "YY", "Y")
)
_PLAIN_FIELDS: Final = {
    "HH": ("hh", 2), "HH12": ("hh", 2), "HH24": ("hh", 2), "MI": ("mi", 2), "SS": ("ss", 2), "SSSS": ("ssss", 4), "SSSSS": ("ssss", 5), "MM": ("mm", 2), "DDD": ("ddd", 3),
    "IDDD": ("ddd", 3), "DD": ("dd", 2), "D": ("d", 1), "ID": ("d", 1), "WW": ("ww", 2), "IW": ("ww", 2), "Q": ("", 1), "CC": ("cc", 2), "W": ("w", 1), "J": ("j", 1),
    "YYYY": ("year", 4), "IYYY": ("year", 4), "YYY": ("year", 3), "IYY": ("year", 3), "YY": ("year", 2), "IY": ("year", 2), "Y": ("year", 1), "I": ("year", 1), "TZM": ("tzm", 2),
}  # fmt: skip
"""Keyword -> (field, digits it takes where another number follows at once)."""


class _Reader:
    """Reads the input along the template; ``found`` holds the fields by name."""

    def __init__(self, text: str, template: str) -> None:
        self.text = text
        self.nodes = parse_date_picture(template)
        self.at = 0
        self.found: dict[str, int] = {}
        self.exact = False
        """FX."""
        self.is_iso: bool | None = None
        self.twelve_hours = False
        self.year_digits = 0
        self.zone_sign = 0
        self.skipped = 0
        """Blanks skipped beyond what the template asked for."""

    def read(self) -> None:
        for i, node in enumerate(self.nodes):
            if self.at >= len(self.text):
                return
            if not self.exact:
                self._skip_blanks()
            if node.kind != KEYWORD:
                self._literal(node)
                continue
            self._field(node, self.nodes[i + 1] if i + 1 < len(self.nodes) else None)
            if node.ordinal:
                self.at += 2
            if not self.exact:
                self.skipped = 0
                self._skip_blanks()

    def _skip_blanks(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in _BLANKS:
            self.at += 1
            self.skipped += 1

    def _literal(self, node: Node) -> None:
        if self.exact:
            self.at += 1
        elif node.kind in (SEPARATOR, SPACE):
            self.skipped -= 1
            if self.at < len(self.text) and (self.text[self.at] in _BLANKS or is_separator(self.text[self.at])):
                self.at += 1
                self.skipped += 1
        elif self.skipped > 0:
            self.skipped -= 1
        else:
            self.at += 1

    def _field(self, node: Node, following: Node | None) -> None:
        name = node.name
        if name in _ISO_FIELDS or name in _GREGORIAN_FIELDS:
            self._set_mode(name in _ISO_FIELDS)
        if name == "FX":
            self.exact = True
        elif name in ("TZ", "OF"):
            raise not_supported(node.text)
        elif name in ("A.M.", "P.M.", "AM", "PM"):
            values = ("A.M.", "P.M.") if "." in name else ("AM", "PM")
            self._set("pm", self._search(node, values), node)
            self.twelve_hours = True
        elif name in ("A.D.", "B.C.", "AD", "BC"):
            self._set("bc", self._search(node, ("A.D.", "B.C.") if "." in name else ("AD", "BC")), node)
        elif name in ("MONTH", "MON"):
            self._set("mm", self._search(node, MONTHS if name == "MONTH" else _SHORT_MONTHS) + 1, node)
        elif name == "RM":
            self._set("mm", 12 - self._search(node, _ROMAN_MONTHS), node)
        elif name in ("DAY", "DY"):
            self._set("d", self._search(node, DAYS if name == "DAY" else _SHORT_DAYS) + 1, node)
        elif name == "Y,YYY":
            self._year_comma(node)
        elif name == "TZH":
            self._zone_hour(node, following)
        elif name in ("MS", "US") or name[:2] == "FF":
            self._fraction(node, following)
        else:
            self._number_field(node, following)

    def _set_mode(self, is_iso: bool) -> None:
        if self.is_iso is not None and self.is_iso != is_iso:
            hint = "Do not mix Gregorian and ISO week date conventions in a formatting template."
            raise error("22007", "invalid combination of date conventions", hint=hint)
        self.is_iso = is_iso

    def _set(self, field: str, value: int, node: Node) -> None:
        """Zero counts as not set."""
        known = self.found.get(field, 0)
        if known not in (0, value):
            detail = "This value contradicts a previous setting for the same field type."
            raise error("22007", f'conflicting values for "{node.text}" field in formatting string', detail=detail)
        self.found[field] = value

    # --- words ------------------------------------------------------------------------------

    def _search(self, node: Node, values: tuple[str, ...]) -> int:
        """Returns the index of the value the input begins with, in any case."""
        lowered = self.text[self.at :].lower()
        for i, value in enumerate(values):
            if lowered.startswith(value.lower()):
                self.at += len(value)
                return i
        match = re.match(r"[^ \t\n\v\f\r]*", self.text[self.at :])
        assert match is not None, self.at
        detail = "The given value did not match any of the allowed values for this field."
        raise error("22007", f'invalid value "{match.group()}" for "{node.text}"', detail=detail)

    # --- numbers ----------------------------------------------------------------------------

    def _number_field(self, node: Node, following: Node | None) -> None:
        field, width = _PLAIN_FIELDS[node.name]
        start = self.at
        value = self._number(node, following, width)
        if node.name in ("YYY", "IYY", "YY", "IY", "Y", "I") and self.at - start < 4:
            value = _near_2020(value)
        if field == "year":
            self.year_digits = width
        if node.name == "ID":
            value = 1 if value >= 7 else value + 1
        if node.name in ("HH", "HH12"):
            self.twelve_hours = True
        if node.name == "TZM" and not self.zone_sign:
            self.zone_sign = 1
        if field:
            self._set(field, value, node)

    def _number(self, node: Node, following: Node | None, width: int) -> int:
        """All digits there are with FM or before something that is no digit, else just ``width`` characters."""
        while self.at < len(self.text) and self.text[self.at] in _BLANKS:
            self.at += 1
        start = self.at
        piece = self.text[start : start + width]
        if node.fill or self._ends_here(node, following):
            match = _INTEGER.match(self.text, start)
            end = match.end() if match is not None else start
        else:
            hint = 'If your source string is not fixed-width, try using the "FM" modifier.'
            if len(piece) < width:
                detail = f"Field requires {width} characters, but only {len(piece)} remain."
                raise error(
                    "22007", f'source string too short for "{node.text}" formatting field', detail=detail, hint=hint
                )
            match = _INTEGER.match(piece)
            end = start + match.end() if match is not None else start
            if start < end < start + width:
                detail = f"Field requires {width} characters, but only {end - start} could be parsed."
                raise error("22007", f'invalid value "{piece}" for "{node.text}"', detail=detail, hint=hint)
        if end == start:
            raise error("22007", f'invalid value "{piece}" for "{node.text}"', detail="Value must be an integer.")
        self.at = end
        digits = self.text[start:end]
        value = int(digits) if len(digits) <= 18 else INT4_MAX + 1
        if not -INT4_MAX - 1 <= value <= INT4_MAX:
            detail = f"Value must be in the range {-INT4_MAX - 1} to {INT4_MAX}."
            raise error("22008", f'value for "{node.text}" in source string is out of range', detail=detail)
        return value

    def _ends_here(self, node: Node, following: Node | None) -> bool:
        if node.ordinal or following is None:
            return True
        if following.kind == KEYWORD:
            return following.name in NO_DIGITS
        return not ("0" <= following.text <= "9")

    def _fraction(self, node: Node, following: Node | None) -> None:
        """``.25`` is 250 milliseconds."""
        width = {"MS": 3, "US": 6}.get(node.name) or int(node.name[2])
        start = self.at
        value = self._number(node, following, width)
        length = self.at - start
        if node.name == "MS":
            self._set("ms", value * (100 if length == 1 else 10 if length == 2 else 1), node)
        else:
            self._set("us", value * 10 ** max(6 - length, 0), node)

    def _year_comma(self, node: Node) -> None:
        match = _Y_YYY.match(self.text, self.at)
        if match is None:
            raise error("22007", f'invalid input string for "{node.text.upper()}"')
        self.at = match.end()
        self._set("year", int(match.group(1)) * 1000 + int(match.group(2)), node)
        self.year_digits = 4

    def _zone_hour(self, node: Node, following: Node | None) -> None:
        c = self.text[self.at]
        if c in "+- ":
            self.zone_sign = -1 if c == "-" else 1
            self.at += 1
        else:
            # The sign may have been taken for a separator.
            self.zone_sign = -1 if self.skipped > 0 and self.text[self.at - 1] == "-" else 1
        self._set("tzh", self._number(node, following, 2), node)


_SHORT_MONTHS: Final = tuple([name[:3] for name in MONTHS])
_SHORT_DAYS: Final = tuple([name[:3] for name in DAYS])
_ROMAN_MONTHS: Final = tuple([roman(month) for month in range(12, 0, -1)])


def _near_2020(year: int) -> int:
    if year < 70:
        return year + 2000
    if year < 100:
        return year + 1900
    if year < 520:
        return year + 2000
    return year + 1000 if year < 1000 else year


class _Result:
    """Year, month and day, the time, and the offset if the template had one."""

    __slots__ = ("day", "month", "offset", "us", "year")

    def __init__(self) -> None:
        self.year = 0
        self.month = 1
        self.day = 1
        self.us = 0
        self.offset: int | None = None


def _evaluate(text: str, template: str) -> _Result:
    reader = _Reader(text, template)
    reader.read()
    found = reader.found
    result = _Result()
    has_date = _evaluate_date(reader, result)
    if has_date:
        _check_date(text, result)
    result.us = _evaluate_time(text, reader)
    if reader.zone_sign:
        hours, minutes = found.get("tzh", 0), found.get("tzm", 0)
        if not 0 <= hours <= 15 or not 0 <= minutes < 60:
            raise into_error(ZONE_OVERFLOW, text, "timestamp")
        result.offset = reader.zone_sign * (hours * 3600 + minutes * 60)
    return result


def _overflow(text: str) -> MeridianError:
    return into_error(FIELD_OVERFLOW, text, "timestamp")


def _check_date(text: str, result: _Result) -> None:
    if not 1 <= result.month <= 12 or not 1 <= result.day <= 31:
        raise _overflow(text)
    if result.day > month_length(result.year, result.month):
        raise _overflow(text)


def _evaluate_date(reader: _Reader, result: _Result) -> bool:
    """Fills year, month and day from what was found; returns True if any of it was."""
    found = reader.found
    has_date = _evaluate_year(reader, result)
    day, day_of_year = found.get("dd", 0), found.get("ddd", 0)
    if found.get("j"):
        result.year, result.month, result.day = civil_from_days(found["j"] - EPOCH_JULIAN)
        has_date = True
    week = found.get("ww", 0)
    if week and reader.is_iso:
        weekday = found.get("d", 0)
        # Here Sunday is 1 but the last day of the week.
        days = iso_week_start(result.year) + (week - 1) * 7 + ((weekday - 2 if weekday > 1 else 6) if weekday else 0)
        result.year, result.month, result.day = civil_from_days(days)
        has_date = True
    elif week:
        day_of_year = (week - 1) * 7 + 1
    if found.get("w"):
        day = (found["w"] - 1) * 7 + 1
    if day:
        result.day = day
    if found.get("mm"):
        result.month = found["mm"]
    if day_of_year and (result.month <= 1 or result.day <= 1):
        _evaluate_day_of_year(reader, result, day_of_year)
        has_date = True
    return has_date or bool(day or found.get("mm"))


def _evaluate_year(reader: _Reader, result: _Result) -> bool:
    found = reader.found
    year, century, is_bc = found.get("year", 0), found.get("cc", 0), found.get("bc", 0)
    if year:
        if century and reader.year_digits <= 2:
            century = -century if is_bc else century
            year %= 100
            if year:
                year = year + (century - 1) * 100 if century >= 0 else (century + 1) * 100 - year + 1
            else:
                year = century * 100 + (0 if century >= 0 else 1)
        else:
            year = -year if is_bc else year
            year += 1 if year < 0 else 0
        result.year = year
        return True
    if century:
        century = -century if is_bc else century
        result.year = (century - 1) * 100 + 1 if century >= 0 else century * 100 + 1
        return True
    return False


def _evaluate_day_of_year(reader: _Reader, result: _Result, day_of_year: int) -> None:
    if not result.year and not reader.found.get("bc"):
        raise error("22007", "cannot calculate day of year without year information")
    if reader.is_iso:
        days = iso_week_start(result.year) - 1 + day_of_year
        result.year, result.month, result.day = civil_from_days(days)
        return
    first = days_from_civil(result.year, 1, 1)
    length = 366 if is_leap(result.year) else 365
    month, day = (
        (civil_from_days(first + day_of_year - 1)[1:])
        if 1 <= day_of_year <= length
        else (13 if day_of_year > 0 else 1, day_of_year)
    )
    if result.month <= 1:
        result.month = month
    if result.day <= 1:
        result.day = day


def _evaluate_time(text: str, reader: _Reader) -> int:
    found = reader.found
    hour, rest = divmod(found.get("ssss", 0), 3600)
    minute, second = divmod(rest, 60)
    second = found.get("ss") or second
    minute = found.get("mi") or minute
    hour = found.get("hh") or hour
    if reader.twelve_hours:
        if not 1 <= hour <= 12:
            hint = "Use the 24-hour clock, or give an hour between 1 and 12."
            raise error("22007", f'hour "{hour}" is invalid for the 12-hour clock', hint=hint)
        hour = hour % 12 + (12 if found.get("pm") else 0)
    us = found.get("ms", 0) * 1000 + found.get("us", 0)
    if not (0 <= hour < 24 and 0 <= minute < 60 and 0 <= second < 60 and 0 <= us < 1_000_000):
        raise _overflow(text)
    return ((hour * 60 + minute) * 60 + second) * 1_000_000 + us


def char_to_timestamptz(text: str, template: str, zone: str) -> int:
    """to_timestamp(text, template)."""
    result = _evaluate(text, template)
    if not is_valid_julian(result.year, result.month):
        raise error("22008", "timestamp out of range")
    local = days_from_civil(result.year, result.month, result.day) * DAY_US + result.us
    offset = result.offset
    if offset is None:
        offset = zone_or_error(zone).offset_of_local(local // 1_000_000 + UNIX_EPOCH_SECONDS)
    return checked_timestamp(local - offset * 1_000_000)


def char_to_date(text: str, template: str) -> int:
    """to_date(text, template)."""
    result = _evaluate(text, template)
    if is_valid_julian(result.year, result.month):
        days = days_from_civil(result.year, result.month, result.day)
        if DATE_MIN <= days < DATE_END:
            return days
    raise error("22008", f'date out of range: "{text}"')
