"""POSIX time zone rules, ``EST5EDT,M3.2.0,M11.1.0``: the footer of TZif files and a zone name of its own.

IEEE Std 1003.1, 8.3, and RFC 8536 3.3.  Offsets here are seconds EAST of UTC (POSIX writes them
west), times are Unix seconds.
"""

from __future__ import annotations

import re
from typing import Final

from base.typeio.calendar import UNIX_EPOCH_DAYS, days_from_civil, is_leap, month_length, weekday

DEFAULT_RULES: Final = ("M3.2.0", "M11.1.0")
"""What a zone with a summer time but no rules gets: those of the United States."""
_SPEC: Final = re.compile(
    r"(<[^>]*>|[^\d,+\-<>\s]*)([+-]?\d{1,3}(?::\d{1,2}){0,2})"
    r"(?:(<[^>]*>|[^\d,+\-<>\s]+)([+-]?\d{1,3}(?::\d{1,2}){0,2})?"
    r"(?:,([JM\d.]+)(?:/([+-]?\d{1,3}(?::\d{1,2}){0,2}))?,([JM\d.]+)(?:/([+-]?\d{1,3}(?::\d{1,2}){0,2}))?)?)?\Z"
)
_MONTH_RULE: Final = re.compile(r"M(\d{1,2})\.([1-5])\.([0-6])\Z")


def _seconds(text: str) -> int:
    """``[+-]hh[:mm[:ss]]``."""
    parts = [int(part) for part in text.lstrip("+-").split(":")] + [0, 0]
    total = parts[0] * 3600 + parts[1] * 60 + parts[2]
    return -total if text.startswith("-") else total


class PosixZone:
    """A standard time and, maybe, a summer time with its two changes in every year."""

    __slots__ = ("end", "end_seconds", "standard", "standard_name", "start", "start_seconds", "summer", "summer_name")

    def __init__(
        self, standard_name: str, standard: int, summer_name: str, summer: int, rules: tuple[str, int, str, int] | None
    ) -> None:
        self.standard_name = standard_name
        self.standard = standard
        self.summer_name = summer_name
        self.summer = summer
        self.start = self.end = ""
        self.start_seconds = self.end_seconds = 0
        if rules is not None:
            self.start, self.start_seconds, self.end, self.end_seconds = rules

    def changes(self, year: int) -> tuple[int, int]:
        """Returns the Unix seconds at which summer time begins and ends in a year."""
        begin = _day_of_rule(self.start, year) * 86_400 + self.start_seconds - self.standard
        end = _day_of_rule(self.end, year) * 86_400 + self.end_seconds - self.summer
        return begin, end


def _day_of_rule(rule: str, year: int) -> int:
    """Returns the days from 1970-01-01."""
    match = _MONTH_RULE.match(rule)
    first = days_from_civil(year, 1, 1) + UNIX_EPOCH_DAYS
    if match is None:
        if rule[0] == "J":
            # Jn: 1..365, 29 February does not count.
            number = int(rule[1:])
            return first + number - 1 + (1 if number > 59 and is_leap(year) else 0)
        return first + int(rule)
    month, week, day = int(match.group(1)), int(match.group(2)), int(match.group(3))
    start = days_from_civil(year, month, 1)
    offset = (day - weekday(start)) % 7 + (week - 1) * 7
    if offset >= month_length(year, month):
        offset -= 7
    return start + offset + UNIX_EPOCH_DAYS


def _is_rule(rule: str) -> bool:
    match = _MONTH_RULE.match(rule)
    if match is not None:
        return 1 <= int(match.group(1)) <= 12
    if rule[:1] == "J":
        return rule[1:].isdecimal() and len(rule) <= 4 and 1 <= int(rule[1:]) <= 365
    return rule.isdecimal() and len(rule) <= 3 and int(rule) <= 365


def parse_posix_zone(spec: str) -> PosixZone | None:
    """Returns the zone of a POSIX specification, or None if it is none."""
    match = _SPEC.match(spec)
    if match is None:
        return None
    name, offset, summer_name, summer_offset, start, start_time, end, end_time = match.groups()
    standard = -_seconds(offset)
    if abs(standard) > 167 * 3600:
        return None
    if summer_name is None:
        return PosixZone(name.strip("<>"), standard, "", standard, None)
    summer = -_seconds(summer_offset) if summer_offset is not None else standard + 3600
    if start is None:
        start, end = DEFAULT_RULES
    if not (_is_rule(start) and _is_rule(end)):
        return None
    rules = (start, _seconds(start_time or "2"), end, _seconds(end_time or "2"))
    return PosixZone(name.strip("<>"), standard, summer_name.strip("<>"), summer, rules)
