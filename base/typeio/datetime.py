"""Text and binary form of date, time, timetz, timestamp and timestamptz.

Output follows DateStyle (PostgreSQL 15 manual, 8.5.2); ISO is the one that is made fast.  Input has
a fast path for ``yyyy-mm-dd[ T]hh:mm:ss[.f][zone offset]`` and ``dateparse`` for all other forms.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from datetime import datetime
from typing import Final

from base.errors import MeridianError, error
from base.typeio.calendar import (
    DATE_END,
    DATE_MIN,
    DAY_US,
    DAYS,
    MONTHS,
    TIMESTAMP_END,
    TIMESTAMP_MIN,
    UNIX_EPOCH_DAYS,
    UNIX_EPOCH_SECONDS,
    civil_from_days,
    days_from_civil,
    is_valid_julian,
    month_length,
    weekday,
)
from base.typeio.dateparse import DateTimeReader
from base.typeio.datetokens import Reject, into_error
from base.typeio.rejection import wrong_length
from base.typeio.settings import IoSettings, NowUs
from base.typeio.zones import Zone, canonical_zone, zone_or_error
from base.types import DATE_INFINITY, DATE_MINUS_INFINITY, TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY

__all__ = ["canonical_zone"]

DAYS_CACHED_MAX: Final = 4096
_INT4: Final = struct.Struct(">i")
_INT8: Final = struct.Struct(">q")
_TIMETZ: Final = struct.Struct(">qi")
_EPOCH_TIMESTAMP: Final = -UNIX_EPOCH_SECONDS * 1_000_000

_TAIL: Final = re.compile(r"(?:\.([0-9]{1,6}))?(Z|[+-][0-9]{2}(?::?[0-9]{2})?)?\Z", re.ASCII)
"""Fraction and zone offset of the timestamps that are read fast."""
_EPOCH: Final = datetime(2000, 1, 1)  # noqa: DTZ001  # a calendar for the fast path; zones are ours
_FAST_DATE: Final = re.compile(r"([1-9][0-9]{3})-([0-9]{2})-([0-9]{2})\Z", re.ASCII)

_HOUR_MINUTE: Final = tuple([f"{h:02d}:{m:02d}:" for h in range(25) for m in range(60)])
_SECOND: Final = tuple([f"{s:02d}" for s in range(61)])
_HOUR_MINUTE_BYTES: Final = tuple([text.encode("ascii") for text in _HOUR_MINUTE])
_SECOND_BYTES: Final = tuple([text.encode("ascii") for text in _SECOND])


# --- input ------------------------------------------------------------------------------


def date_parser(settings: IoSettings, now_us: NowUs) -> Callable[[str], int]:
    """Returns the reader of date."""
    order = settings.date_order
    zone = zone_or_error(settings.timezone)

    def parse(text: str) -> int:
        match = _FAST_DATE.match(text)
        if match is not None:
            year, month, day = int(match.group(1)), int(match.group(2)), int(match.group(3))
            if 1 <= month <= 12 and 1 <= day <= month_length(year, month):
                return days_from_civil(year, month, day)
        return _parse_date(text, DateTimeReader(order, False, zone, now_us))

    return parse


def _parse_date(text: str, reader: DateTimeReader) -> int:
    try:
        reader.read_datetime(text)
    except Reject as reject:
        raise into_error(reject.code, text, "date") from None
    if reader.outcome:
        return {"epoch": -UNIX_EPOCH_DAYS, "late": DATE_INFINITY, "early": DATE_MINUS_INFINITY}[reader.outcome]
    fields = reader.fields
    if is_valid_julian(fields.year, fields.month):
        days = fields.days()
        if DATE_MIN <= days < DATE_END:
            return days
    raise error("22008", f'date out of range: "{text}"')


def timestamp_parser(settings: IoSettings, now_us: NowUs, with_zone: bool) -> Callable[[str], int]:
    """Returns the reader of timestamp, or of timestamptz."""
    order = settings.date_order
    zone = zone_or_error(settings.timezone)

    def parse(text: str) -> int:
        value = _fast_timestamp(text, zone if with_zone else None)
        if value is not None:
            return value
        return _parse_timestamp(text, DateTimeReader(order, with_zone, zone, now_us), with_zone)

    return parse


def _fast_timestamp(text: str, zone: Zone | None) -> int | None:
    """Reads ``yyyy-mm-dd[ T]hh:mm:ss`` and what ``_TAIL`` describes; None for all that needs an error or the long way."""
    if len(text) < 19 or text[4] != "-" or text[7] != "-" or text[13] != ":" or text[10] not in " T" or text[16] != ":":
        return None
    try:
        since = datetime.fromisoformat(text[:19]) - _EPOCH
    except ValueError:
        return None
    seconds = since.days * 86_400 + since.seconds
    us = 0
    offset = None
    if len(text) > 19:
        match = _TAIL.match(text, 19)
        if match is None:
            return None
        part, offset = match.groups()
        if part:
            us = int(part.ljust(6, "0"))
    if zone is None:
        return seconds * 1_000_000 + us if offset is None else None
    if offset is None:
        seconds -= zone.offset_of_local(seconds + UNIX_EPOCH_SECONDS)
    elif offset not in ("+00", "Z", "+00:00"):
        hours = int(offset[1:3])
        minutes = int(offset[-2:]) if len(offset) > 3 else 0
        if hours > 15 or minutes > 59:
            return None
        east = hours * 3600 + minutes * 60
        seconds -= east if offset[0] == "+" else -east
    return seconds * 1_000_000 + us


def _parse_timestamp(text: str, reader: DateTimeReader, with_zone: bool) -> int:
    try:
        reader.read_datetime(text)
    except Reject as reject:
        raise into_error(reject.code, text, "timestamp with time zone" if with_zone else "timestamp") from None
    if reader.outcome:
        return {"epoch": _EPOCH_TIMESTAMP, "late": TIMESTAMP_INFINITY, "early": TIMESTAMP_MINUS_INFINITY}[
            reader.outcome
        ]
    fields = reader.fields
    if is_valid_julian(fields.year, fields.month):
        value = fields.days() * DAY_US + fields.time_us()
        if with_zone:
            value += fields.zone * 1_000_000
        if TIMESTAMP_MIN <= value < TIMESTAMP_END:
            return value
    raise error("22008", f'timestamp out of range: "{text}"')


def time_parser(settings: IoSettings, now_us: NowUs) -> Callable[[str], int]:
    """Returns the reader of time; a time zone is read and dropped."""
    order = settings.date_order
    zone = zone_or_error(settings.timezone)

    def parse(text: str) -> int:
        reader = DateTimeReader(order, False, zone, now_us)
        try:
            reader.read_time(text)
        except Reject as reject:
            raise into_error(reject.code, text, "time") from None
        return reader.fields.time_us()

    return parse


def timetz_parser(settings: IoSettings, now_us: NowUs) -> Callable[[str], tuple[int, int]]:
    order = settings.date_order
    zone = zone_or_error(settings.timezone)

    def parse(text: str) -> tuple[int, int]:
        reader = DateTimeReader(order, True, zone, now_us)
        try:
            reader.read_time(text)
        except Reject as reject:
            raise into_error(reject.code, text, "time with time zone") from None
        return reader.fields.time_us(), reader.fields.zone

    return parse


# --- output -------------------------------------------------------------------------------


def iso_date(days: int) -> str:
    """``yyyy-mm-dd``, without era; a finite date."""
    year, month, day = civil_from_days(days)
    if year <= 0:
        year = 1 - year
    return f"{year:04d}-{month:02d}-{day:02d}"


def is_before_christ(days: int) -> bool:
    return days < -730_119


def time_text(us: int) -> str:
    """``hh:mm:ss[.f]`` without trailing zeros."""
    minutes, rest = divmod(us, 60_000_000)
    seconds, part = divmod(rest, 1_000_000)
    text = _HOUR_MINUTE[minutes] + _SECOND[seconds]
    if part:
        return text + f".{part:06d}".rstrip("0")
    return text


def offset_text(east: int) -> str:
    """``+hh[:mm[:ss]]``."""
    sign = "-" if east < 0 else "+"
    hours, rest = divmod(abs(east), 3600)
    if not rest:
        return f"{sign}{hours:02d}"
    minutes, seconds = divmod(rest, 60)
    if seconds:
        return f"{sign}{hours:02d}:{minutes:02d}:{seconds:02d}"
    return f"{sign}{hours:02d}:{minutes:02d}"


def styled_date(days: int, style: str, order: str) -> str:
    """A finite date in a DateStyle, without era."""
    if style == "ISO":
        return iso_date(days)
    year, month, day = civil_from_days(days)
    if year <= 0:
        year = 1 - year
    if style == "German":
        return f"{day:02d}.{month:02d}.{year:04d}"
    joint = "/" if style == "SQL" else "-"
    first, second = (day, month) if order == "DMY" else (month, day)
    return f"{first:02d}{joint}{second:02d}{joint}{year:04d}"


def date_renderer(settings: IoSettings) -> Callable[[int], str]:
    style, order = settings.date_format, settings.date_order
    known: dict[int, str] = {}

    def render(days: int) -> str:
        text = known.get(days)
        if text is not None:
            return text
        if days == DATE_INFINITY:
            return "infinity"
        if days == DATE_MINUS_INFINITY:
            return "-infinity"
        text = styled_date(days, style, order)
        if is_before_christ(days):
            text += " BC"
        if len(known) >= DAYS_CACHED_MAX:
            known.clear()
        known[days] = text
        return text

    return render


class IsoTimestamp:
    """Prints timestamps in DateStyle ISO.

    Remembers the dates it has printed, and the offset of the zone with the instants it holds for: the rows of
    a query are mostly near each other.
    """

    __slots__ = ("known", "lower", "offset", "suffix", "upper", "zone")

    def __init__(self, zone: Zone | None) -> None:
        self.zone = zone
        """None prints the value as it is, without zone."""
        self.known: dict[int, bytes] = {}
        """Days -> ``yyyy-mm-dd ``; dates before Christ are never in it."""
        self.offset = 0
        self.suffix = b""
        self.lower = 0 if zone is not None else -TIMESTAMP_INFINITY
        self.upper = 0 if zone is not None else TIMESTAMP_INFINITY

    def encode(self, value: int) -> bytes:
        """The text of a timestamp or timestamptz."""
        seconds, us = divmod(value, 1_000_000)
        if not self.lower <= seconds < self.upper:
            self._enter(seconds)
        days, seconds = divmod(seconds + self.offset, 86_400)
        date = self.known.get(days)
        if date is None:
            if not TIMESTAMP_MIN <= value < TIMESTAMP_END:
                return b"infinity" if value > 0 else b"-infinity"
            date = self._date(days)
        minutes, seconds = divmod(seconds, 60)
        if us:
            text = (
                date + _HOUR_MINUTE_BYTES[minutes] + _SECOND_BYTES[seconds] + (b".%06d" % us).rstrip(b"0") + self.suffix
            )
        else:
            text = date + _HOUR_MINUTE_BYTES[minutes] + _SECOND_BYTES[seconds] + self.suffix
        return text + b" BC" if days < -730_119 else text

    def render(self, value: int) -> str:
        return self.encode(value).decode("ascii")

    def _enter(self, seconds: int) -> None:
        """Finds the offset in force, and how long it is."""
        assert self.zone is not None, seconds
        self.offset, lower, upper = self.zone.span_at(seconds + UNIX_EPOCH_SECONDS)
        self.lower = lower - UNIX_EPOCH_SECONDS
        self.upper = upper - UNIX_EPOCH_SECONDS
        self.suffix = offset_text(self.offset).encode("ascii")

    def _date(self, days: int) -> bytes:
        date = iso_date(days).encode("ascii") + b" "
        if not is_before_christ(days):
            if len(self.known) >= DAYS_CACHED_MAX:
                self.known.clear()
            self.known[days] = date
        return date


class StyledTimestamp:
    """Prints timestamps in the DateStyles SQL, Postgres and German, where zones have names."""

    __slots__ = ("order", "style", "zone")

    def __init__(self, style: str, order: str, zone: Zone | None) -> None:
        self.style = style
        self.order = order
        self.zone = zone

    def render(self, value: int) -> str:
        if value in (TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY):
            return "infinity" if value > 0 else "-infinity"
        suffix = ""
        if self.zone is not None:
            offset, _, abbreviation = self.zone.at(value // 1_000_000 + UNIX_EPOCH_SECONDS)
            value += offset * 1_000_000
            suffix = " " + abbreviation[:10]
        days, us = divmod(value, DAY_US)
        if self.style == "Postgres":
            text = self._postgres(days, us) + suffix
        else:
            text = f"{styled_date(days, self.style, self.order)} {time_text(us)}{suffix}"
        return text + " BC" if is_before_christ(days) else text

    def _postgres(self, days: int, us: int) -> str:
        """``Sat Jan 01 12:00:00 2000``."""
        year, month, day = civil_from_days(days)
        if year <= 0:
            year = 1 - year
        month_name = MONTHS[month - 1][:3]
        middle = f"{day:02d} {month_name}" if self.order == "DMY" else f"{month_name} {day:02d}"
        return f"{DAYS[weekday(days)][:3]} {middle} {time_text(us)} {year:04d}"

    def encode(self, value: int) -> bytes:
        return self.render(value).encode("ascii")


def timestamp_printer(settings: IoSettings, with_zone: bool) -> IsoTimestamp | StyledTimestamp:
    zone = zone_or_error(settings.timezone) if with_zone else None
    style = settings.date_format
    if style == "ISO":
        return IsoTimestamp(zone)
    return StyledTimestamp(style, settings.date_order, zone)


def render_timetz(value: tuple[int, int]) -> str:
    return time_text(value[0]) + offset_text(-value[1])


# --- binary -----------------------------------------------------------------------------


def receive_date(data: bytes) -> int:
    if len(data) != 4:
        raise wrong_length(data, 4)
    days: int = _INT4.unpack(data)[0]
    if not DATE_MIN <= days < DATE_END and days not in (DATE_INFINITY, DATE_MINUS_INFINITY):
        raise error("22008", "date out of range")
    return days


def timestamp_out_of_range() -> MeridianError:
    return error("22008", "timestamp out of range")


def receive_timestamp(data: bytes) -> int:
    if len(data) != 8:
        raise wrong_length(data, 8)
    value: int = _INT8.unpack(data)[0]
    if not TIMESTAMP_MIN <= value < TIMESTAMP_END and value not in (TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY):
        raise timestamp_out_of_range()
    return value


def receive_time(data: bytes) -> int:
    if len(data) != 8:
        raise wrong_length(data, 8)
    value: int = _INT8.unpack(data)[0]
    if not 0 <= value <= DAY_US:
        raise error("22008", "time out of range")
    return value


def send_timetz(value: tuple[int, int]) -> bytes:
    return _TIMETZ.pack(value[0], value[1])


def receive_timetz(data: bytes) -> tuple[int, int]:
    if len(data) != 12:
        raise wrong_length(data, 12)
    us, zone = _TIMETZ.unpack(data)
    if not 0 <= us <= DAY_US:
        raise error("22008", "time out of range")
    if not -16 * 3600 < zone < 16 * 3600:
        raise error("22009", "time zone displacement out of range")
    return us, zone


# --- typmod -----------------------------------------------------------------------------

_STEPS: Final = (1_000_000, 100_000, 10_000, 1_000, 100, 10, 1)


def round_timestamp(value: int, precision: int) -> int:
    """Rounds to a number of decimals of a second, halves away from the epoch; raises 22008 at the ends of the range."""
    if not 0 <= precision < 6 or value in (TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY):
        return value
    step = _STEPS[precision]
    half = step // 2
    rounded = (value + half) // step * step if value >= 0 else -((-value + half) // step * step)
    if not TIMESTAMP_MIN <= rounded < TIMESTAMP_END:
        raise timestamp_out_of_range()
    return rounded


def round_time(value: int, precision: int) -> int:
    """Rounds to a number of decimals of a second; 24:00:00 may come out."""
    if not 0 <= precision < 6:
        return value
    step = _STEPS[precision]
    return (value + step // 2) // step * step


def apply_timetz_typmod(value: tuple[int, int], precision: int) -> tuple[int, int]:
    return round_time(value[0], precision), value[1]
