"""Time zones: offsets of instants and of local times, for any year.

A zone is the TZif data of the ``tzdata`` package (RFC 8536): a table of changes, then a POSIX rule
for all later years.  ``zoneinfo`` itself stops at the year 9999; PostgreSQL does not.  Offsets are
seconds EAST of UTC; instants are Unix seconds.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from functools import lru_cache
from importlib import resources
from typing import Final

from base.errors import error
from base.typeio.calendar import UNIX_EPOCH_DAYS, civil_from_days
from base.typeio.posixzone import PosixZone, parse_posix_zone

ZONES_CACHED_MAX: Final = 1024
_NAME: Final = re.compile(r"[A-Za-z0-9_+\-/]{1,100}\Z")
_HOURS: Final = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+))\Z")
_FOREVER: Final = 2**62

ZoneInfo = tuple[int, bool, str]
"""(offset east in seconds, is summer time, abbreviation)."""
Boundary = tuple[int, int, int]
"""(offset before, instant of the change, offset after)."""


class Zone:
    """One time zone.  ``changes[i]`` is the instant from which ``infos[i]`` holds."""

    __slots__ = ("_from", "_hit", "_until", "changes", "first", "first_standard", "infos", "is_fixed", "name", "rule")

    def __init__(
        self,
        name: str,
        first: ZoneInfo,
        first_standard: ZoneInfo,
        changes: list[int],
        infos: list[ZoneInfo],
        rule: PosixZone | None,
    ) -> None:
        self.name = name
        self.first = first
        """Holds before the first change."""
        self.first_standard = first_standard
        self.changes = changes
        self.infos = infos
        self.rule = rule
        self.is_fixed = not changes and (rule is None or not rule.start)
        # The last answer and the instants it is good for: rows of a query are mostly near each other.
        self._from = 0
        self._until = 0
        self._hit = first

    def offset_at(self, instant: int) -> int:
        """Returns the offset in force at an instant."""
        if self._from <= instant < self._until:
            return self._hit[0]
        return self.at(instant)[0]

    def span_at(self, instant: int) -> tuple[int, int, int]:
        """Returns (offset, from, until): the offset in force and the instants it surely holds for."""
        return self.at(instant)[0], self._from, self._until

    def at(self, instant: int) -> ZoneInfo:
        """Returns offset, summer time and abbreviation in force at an instant."""
        if self._from <= instant < self._until:
            return self._hit
        position = bisect_right(self.changes, instant)
        if position < len(self.changes) or self.rule is None or not self.rule.start:
            self._from = self.changes[position - 1] if position else -_FOREVER
            self._until = self.changes[position] if position < len(self.changes) else _FOREVER
            self._hit = self.infos[position - 1] if position else self._before_all()
        else:
            self._by_rule(instant)
        return self._hit

    def _before_all(self) -> ZoneInfo:
        if not self.changes and self.rule is not None:
            return (self.rule.standard, False, self.rule.standard_name)
        return self.first

    def _by_rule(self, instant: int) -> None:
        rule = self.rule
        assert rule is not None, self.name
        self._from = self.changes[-1] if self.changes else -_FOREVER
        self._until = _FOREVER
        for at, is_summer in self._rule_changes(instant):
            if at <= instant:
                if at >= self._from:
                    self._from = at
                self._hit = (
                    (rule.summer, True, rule.summer_name) if is_summer else (rule.standard, False, rule.standard_name)
                )
            else:
                self._until = at
                return

    def _rule_changes(self, instant: int) -> list[tuple[int, bool]]:
        """Returns the changes of the years around an instant, in order: (instant, to summer time)."""
        assert self.rule is not None, self.name
        year = civil_from_days(instant // 86_400 - UNIX_EPOCH_DAYS)[0]
        found: list[tuple[int, bool]] = []
        for y in range(year - 1, year + 3):
            begin, end = self.rule.changes(y)
            found.append((begin, True))
            found.append((end, False))
        found.sort()
        return found

    def next_boundary(self, instant: int) -> Boundary | None:
        """Returns the first change after an instant, or None if there is none."""
        changes = self.changes
        if changes and instant < changes[0]:
            return self.first_standard[0], changes[0], self.infos[0][0]
        position = bisect_right(changes, instant)
        if position < len(changes):
            return self.infos[position - 1][0], changes[position], self.infos[position][0]
        rule = self.rule
        if rule is None or not rule.start:
            return None
        for at, is_summer in self._rule_changes(instant):
            if at > instant:
                before = self.at(instant)[0]
                return before, at, rule.summer if is_summer else rule.standard
        raise AssertionError(f"no change after {instant} in {self.name}")

    def offset_of_local(self, local: int) -> int:
        """Returns the offset to read a local time with (seconds of the clock on the wall since 1970).

        A time that a change skips or repeats is read in standard time, as PostgreSQL does: the skipped
        hour of spring counts on from before, the repeated hour of autumn is the second one.
        """
        if self.is_fixed:
            return self.at(local)[0]
        boundary = self.next_boundary(local - 86_400)
        if boundary is None:
            return self.at(local - 86_400)[0]
        before, instant, after = boundary
        by_before = local - before
        by_after = local - after
        if by_before < instant and by_after < instant:
            return before
        if by_before > instant and by_after >= instant:
            return after
        return before if by_before > by_after else after

    def offset_of_abbreviation(self, abbreviation: str, instant: int) -> int | None:
        """Returns what an abbreviation (upper case) meant in this zone at or before an instant, or else after it."""
        position = bisect_right(self.changes, instant)
        if self.at(instant)[2] == abbreviation:
            return self._hit[0]
        for info in reversed(self.infos[:position]):
            if info[2] == abbreviation:
                return info[0]
        if self.first[2] == abbreviation:
            return self.first[0]
        for info in self.infos[position:]:
            if info[2] == abbreviation:
                return info[0]
        return None


UTC: Final = Zone("UTC", (0, False, "UTC"), (0, False, "UTC"), [], [], None)


# --- finding zones ----------------------------------------------------------------


@lru_cache(maxsize=1)
def zone_names() -> dict[str, str]:
    """Returns the names of all zones by their lower case."""
    text = resources.files("tzdata").joinpath("zones").read_text("ascii")
    return {name.lower(): name for name in text.split()}


@lru_cache(maxsize=ZONES_CACHED_MAX)
def find_zone(name: str) -> Zone | None:
    """Returns a zone by its name in any case, or by a POSIX specification; None if it is neither."""
    canonical = zone_names().get(name.lower())
    if canonical == "UTC":
        return UTC
    if canonical is not None:
        return _load(canonical)
    return _posix(name)


def _posix(name: str) -> Zone | None:
    rule = parse_posix_zone(name.upper() if "<" not in name else name)
    if rule is None:
        return None
    info = (rule.standard, False, rule.standard_name)
    return Zone(name.upper() if "<" not in name else name, info, info, [], [], rule)


def zone_or_error(name: str) -> Zone:
    """Raises 22023 for a zone that does not exist."""
    zone = find_zone(name)
    if zone is None:
        raise error("22023", f'time zone "{name}" not recognized')
    return zone


def fixed_zone(offset: int) -> Zone:
    """Returns the zone of a fixed offset, named as PostgreSQL names it: ``<+03>-03``."""
    name = _offset_text(offset)
    found = find_zone(f"<{name}>{_offset_text(-offset)}")
    assert found is not None, offset
    return found


def _offset_text(offset: int) -> str:
    sign = "-" if offset < 0 else "+"
    hours, rest = divmod(abs(offset), 3600)
    minutes, seconds = divmod(rest, 60)
    text = f"{sign}{hours:02d}"
    if minutes or seconds:
        text += f":{minutes:02d}"
    if seconds:
        text += f":{seconds:02d}"
    return text


def canonical_zone(value: str) -> str | None:
    """Returns the name under which SHOW prints the zone of ``SET timezone = value``, or None if it is none.

    A bare number means hours EAST of UTC, unlike in POSIX specifications.
    """
    match = _HOURS.match(value)
    if match is not None:
        hours = float(match.group(1))
        return fixed_zone(int(hours * 3600)).name if abs(hours) <= 167 else None
    zone = find_zone(value)
    return None if zone is None else zone.name


# --- TZif -----------------------------------------------------------------------------


def _load(name: str) -> Zone:
    package, _, last = ("tzdata/zoneinfo/" + name).rpartition("/")
    data = resources.files(package.replace("/", ".")).joinpath(last).read_bytes()
    return parse_tzif(name, data)


def parse_tzif(name: str, data: bytes) -> Zone:
    """Reads the 64-bit block and the footer of a version 2+ file."""
    assert data[:4] == b"TZif", name
    assert data[4:5] >= b"2", name
    isut, isstd, leap, times, types, chars = struct.unpack_from(">6I", data, 20)
    at = 44 + times * 5 + types * 6 + chars + leap * 8 + isstd + isut
    isut, isstd, leap, times, types, chars = struct.unpack_from(">6I", data, at + 20)
    at += 44
    changes = list(struct.unpack_from(f">{times}q", data, at))
    at += times * 8
    indexes = data[at : at + times]
    at += times
    raw = [struct.unpack_from(">iBB", data, at + i * 6) for i in range(types)]
    at += types * 6
    text = data[at : at + chars]
    at += chars + leap * 12 + isstd + isut
    infos: list[ZoneInfo] = []
    for offset, is_summer, start in raw:
        infos.append((offset, bool(is_summer), text[start : text.index(b"\0", start)].decode("ascii")))
    footer = data[at + 1 : data.index(b"\n", at + 1)].decode("ascii")
    first_standard = next((info for info in infos if not info[1]), infos[0])
    rule = parse_posix_zone(footer) if footer else None
    return Zone(name, infos[0], first_standard, changes, [infos[i] for i in indexes], rule)
