"""Reading of dates, times and timestamps in every form PostgreSQL takes (manual, appendix B.1).

Two drivers over the same fields: ``read_datetime`` (date, timestamp, timestamptz) and
``read_time`` (time, timetz, which may have a date only to settle a zone).
"""

from __future__ import annotations

from typing import Final

from base.typeio import zoneabbreviations
from base.typeio.calendar import UNIX_EPOCH_DAYS, UNIX_EPOCH_SECONDS
from base.typeio.datefields import (
    HAS_AMPM,
    HAS_DATE,
    HAS_DAY,
    HAS_DST,
    HAS_ERA,
    HAS_HOUR,
    HAS_MINUTE,
    HAS_MONTH,
    HAS_RESERVED,
    HAS_SECOND,
    HAS_SECONDS,
    HAS_TIME,
    HAS_WEEKDAY,
    HAS_YEAR,
    HAS_ZONE,
    Fields,
    check_time,
    decode_date,
    decode_julian,
    decode_number,
    decode_offset,
    decode_run_together,
    decode_time,
    set_julian,
    validate_date,
)
from base.typeio.datetokens import (
    ADBC,
    AMPM,
    BAD_FORMAT,
    DATE,
    DOW,
    DTZMOD,
    FIELD_OVERFLOW,
    IGNORE,
    ISOTIME,
    MONTH,
    NUMBER,
    RESERVED,
    TIME,
    TOKEN_LENGTH,
    TZ,
    UNITS,
    WORDS,
    Reject,
    fractional_us,
    scan_int,
    split_fields,
)
from base.typeio.settings import NowUs
from base.typeio.zones import Zone, find_zone, zone_or_error

_UNIT_MASKS: Final = {
    "year": HAS_YEAR,
    "month": HAS_MONTH,
    "day": HAS_DAY,
    "hour": HAS_HOUR,
    "minute": HAS_MINUTE,
    "second": HAS_SECOND,
}


class DateTimeReader:
    """One reading: the fields, and what they mean together."""

    __slots__ = ("abbreviation", "abbreviation_zone", "fields", "is_bc", "meridian", "named_zone", "now_us", "outcome", "session_zone", "unit",
                 "wants_zone")  # fmt: skip

    def __init__(self, order: str, wants_zone: bool, session_zone: Zone, now_us: NowUs) -> None:
        self.fields = Fields(order)
        self.wants_zone = wants_zone
        """False for types without zone: one that is written is read and dropped, the session's is not asked for."""
        self.session_zone = session_zone
        self.now_us = now_us
        self.outcome = ""
        """'', or epoch, late or early: the fields then mean nothing."""
        self.unit = ""
        """A label waiting for its number: j, y, m, d, h, mm, s, t."""
        self.meridian = ""
        self.is_bc = False
        self.named_zone: Zone | None = None
        self.abbreviation = ""
        self.abbreviation_zone: Zone | None = None

    # --- date, timestamp, timestamptz ---------------------------------------------

    def read_datetime(self, text: str) -> None:
        """Fills ``fields`` (zone included) or ``outcome``."""
        tokens = split_fields(text)
        fields = self.fields
        for i, (kind, field) in enumerate(tokens):
            if kind == DATE:
                mask = self._date_field(field)
            elif kind == TIME:
                self._expect_time()
                mask = decode_time(fields, field)
                check_time(fields)
            elif kind == TZ:
                fields.zone = decode_offset(field)
                mask = HAS_ZONE
            elif kind == NUMBER:
                mask = self._labelled_number(field, fields.found) if self.unit else self._bare_number(field)
            else:
                mask = self._word(i, field, tokens)
            fields.add(mask)
        validate_date(fields, self.is_bc)
        self._apply_meridian()
        if self.outcome:
            return
        if fields.found & HAS_DATE != HAS_DATE:
            raise Reject(BAD_FORMAT)
        self._settle_zone(HAS_DATE)

    def _date_field(self, field: str) -> int:
        fields = self.fields
        if self.unit == "julian":
            value, end = scan_int(field)
            set_julian(fields, value)
            fields.zone = decode_offset(field[end:])
            self.unit = ""
            return HAS_DATE | HAS_TIME | HAS_ZONE
        if not self.unit and fields.found & (HAS_MONTH | HAS_DAY) != HAS_MONTH | HAS_DAY:
            return decode_date(fields, field, fields.found)
        # A second date: a run-together time with its zone (040506-08), or the name of a zone.
        if not (field[0].isdecimal() or self.unit):
            self.named_zone = zone_or_error(field)
            return HAS_ZONE
        self._expect_time()
        if fields.found & HAS_TIME == HAS_TIME:
            raise Reject(BAD_FORMAT)
        return self._time_with_offset(field, fields.found)

    def _time_with_offset(self, field: str, found: int) -> int:
        split = field.find("-")
        if split < 0:
            raise Reject(BAD_FORMAT)
        self.fields.zone = decode_offset(field[split:])
        return decode_run_together(self.fields, field[:split], found) | HAS_ZONE

    def _expect_time(self) -> None:
        """A label before a time can only be the T of ISO 8601."""
        if self.unit not in ("", "time"):
            raise Reject(BAD_FORMAT)
        self.unit = ""

    def _labelled_number(self, field: str, found: int) -> int:
        unit = self.unit
        self.unit = ""
        value, end = scan_int(field)
        if end < len(field) and (field[end] != "." or unit not in ("julian", "time", "second")):
            raise Reject(BAD_FORMAT)
        fields = self.fields
        if unit == "julian":
            return decode_julian(fields, field)
        if unit == "time":
            mask = decode_run_together(fields, field, found | HAS_DATE)
            if mask != HAS_TIME:
                raise Reject(BAD_FORMAT)
            return mask
        if unit == "month" and found & HAS_MONTH and found & HAS_HOUR:
            unit = "minute"
        mask = _UNIT_MASKS.get(unit, 0)
        if not mask:
            raise Reject(BAD_FORMAT)
        setattr(fields, unit, value)
        if unit == "second" and end < len(field):
            fields.us = fractional_us(field[end:])
            return HAS_SECONDS
        return mask

    def _bare_number(self, field: str) -> int:
        fields = self.fields
        found = fields.found
        point = field.find(".")
        if point >= 0 and not found & HAS_DATE:
            return decode_date(fields, field, found)
        if point > 2:
            return decode_run_together(fields, field, found)
        if len(field) >= 6 and not (found & HAS_DATE and found & HAS_TIME):
            return decode_run_together(fields, field, found)
        return decode_number(fields, field, found)

    # --- words -----------------------------------------------------------------------

    def _word(self, i: int, field: str, tokens: list[tuple[int, str]]) -> int:
        mask = self._zone_word(field)
        if mask:
            return mask
        kind, value = WORDS.get(field[:TOKEN_LENGTH], (-1, ""))
        fields = self.fields
        if kind == IGNORE:
            return 0
        if kind == RESERVED:
            return self._reserved(str(value))
        if kind == MONTH and isinstance(value, int):
            mask = HAS_MONTH
            if (
                fields.found & HAS_MONTH
                and not fields.has_text_month
                and not fields.found & HAS_DAY
                and 1 <= fields.month <= 31
            ):
                # The number before was the day: 8 January.
                fields.day = fields.month
                mask = HAS_DAY
            fields.has_text_month = True
            fields.month = value
            return mask
        if kind == DTZMOD:
            return self._daylight()
        if kind == AMPM:
            self.meridian = str(value)
            return HAS_AMPM
        if kind == ADBC:
            self.is_bc = value == "bc"
            return HAS_ERA
        if kind == DOW:
            return HAS_WEEKDAY
        if kind == UNITS:
            self.unit = str(value)
            return 0
        if kind == ISOTIME:
            if fields.found & HAS_DATE != HAS_DATE:
                raise Reject(BAD_FORMAT)
            return self._iso_time(i, tokens)
        return self._zone_name(field)

    def _iso_time(self, i: int, tokens: list[tuple[int, str]]) -> int:
        if i + 1 >= len(tokens) or tokens[i + 1][0] not in (NUMBER, TIME, DATE):
            raise Reject(BAD_FORMAT)
        self.unit = "time"
        return 0

    def _zone_name(self, field: str) -> int:
        zone = find_zone(field)
        if zone is None:
            raise Reject(BAD_FORMAT)
        self.named_zone = zone
        return HAS_ZONE

    def _daylight(self) -> int:
        self.fields.zone -= 3600
        return HAS_DST

    def _zone_word(self, field: str) -> int:
        """An abbreviation; returns 0 if the word is none."""
        fixed = zoneabbreviations.FIXED.get(field)
        if fixed is not None:
            self.fields.zone = -fixed[0]
            return HAS_ZONE
        name = zoneabbreviations.BY_ZONE.get(field)
        if name is None:
            return 0
        self.abbreviation = field.upper()
        self.abbreviation_zone = zone_or_error(name)
        return HAS_ZONE

    def _reserved(self, word: str) -> int:
        fields = self.fields
        if word in ("epoch", "late", "early"):
            self.outcome = word
            return HAS_RESERVED
        self.outcome = ""
        if word == "zulu":
            fields.set_time(0)
            fields.zone = 0
            return HAS_TIME | HAS_ZONE
        days, us, offset = self._now()
        if word == "now":
            fields.set_date(days)
            fields.set_time(us)
            fields.zone = -offset
            return HAS_DATE | HAS_TIME | HAS_ZONE
        fields.set_date(days + {"yesterday": -1, "today": 0, "tomorrow": 1}[word])
        return HAS_DATE

    def _now(self) -> tuple[int, int, int]:
        """Returns (days, microseconds of the day, offset east) of the current time in the session's zone."""
        now = self.now_us()
        offset = self.session_zone.offset_at(now // 1_000_000 + UNIX_EPOCH_SECONDS)
        days, us = divmod(now + offset * 1_000_000, 86_400_000_000)
        return days, us, offset

    # --- the end -----------------------------------------------------------------------

    def _apply_meridian(self) -> None:
        fields = self.fields
        if self.meridian and fields.hour > 12:
            raise Reject(FIELD_OVERFLOW)
        if self.meridian == "am" and fields.hour == 12:
            fields.hour = 0
        elif self.meridian == "pm" and fields.hour != 12:
            fields.hour += 12

    def _settle_zone(self, date_needed: int) -> None:
        """Finds the offset a named zone, an abbreviation or the session's zone has at the time read."""
        fields = self.fields
        has_dst = fields.found & HAS_DST
        if self.named_zone is not None:
            if has_dst:
                raise Reject(BAD_FORMAT)
            if self.named_zone.is_fixed:
                fields.zone = -self.named_zone.at(0)[0]
                return
            if fields.found & date_needed != HAS_DATE:
                raise Reject(BAD_FORMAT)
            fields.zone = -self.named_zone.offset_of_local(self._local_seconds())
        elif self.abbreviation_zone is not None:
            if has_dst:
                raise Reject(BAD_FORMAT)
            fields.zone = -self._abbreviated(self.abbreviation_zone)
        elif not fields.found & HAS_ZONE:
            if has_dst:
                raise Reject(BAD_FORMAT)
            if fields.found & HAS_DATE not in (0, HAS_DATE):
                raise Reject(BAD_FORMAT)
            if not self.wants_zone:
                return
            if self.session_zone.is_fixed:
                fields.zone = -self.session_zone.at(0)[0]
                return
            fields.zone = -self.session_zone.offset_of_local(self._local_seconds())

    def _abbreviated(self, zone: Zone) -> int:
        local = self._local_seconds()
        instant = local - zone.offset_of_local(local)
        offset = zone.offset_of_abbreviation(self.abbreviation, instant)
        return zone.at(instant)[0] if offset is None else offset

    def _local_seconds(self) -> int:
        """The local time read, on today's date if there is none, in seconds since 1970."""
        fields = self.fields
        if not fields.found & HAS_DATE:
            days = self._now()[0]
        elif fields.found & HAS_DATE != HAS_DATE:
            raise Reject(BAD_FORMAT)
        else:
            days = fields.days()
        return (days + UNIX_EPOCH_DAYS) * 86_400 + (fields.hour * 60 + fields.minute) * 60 + fields.second

    # --- time, timetz -------------------------------------------------------------------

    def read_time(self, text: str) -> None:
        """Fills the time of ``fields`` and, with a zone, its offset."""
        tokens = split_fields(text)
        fields = self.fields
        for i, (kind, field) in enumerate(tokens):
            if kind == DATE:
                mask = self._time_date_field(i, field, tokens)
            elif kind == TIME:
                self._expect_time()
                mask = decode_time(fields, field)
            elif kind == TZ:
                fields.zone = decode_offset(field)
                mask = HAS_ZONE
            elif kind == NUMBER:
                mask = self._time_number(i, field, tokens)
            else:
                mask = self._time_word(i, field, tokens)
            fields.add(mask)
        validate_date(fields, self.is_bc)
        self._apply_meridian()
        check_time(fields)
        if fields.found & HAS_TIME != HAS_TIME:
            raise Reject(BAD_FORMAT)
        self._settle_zone(HAS_DATE)

    def _time_date_field(self, i: int, field: str, tokens: list[tuple[int, str]]) -> int:
        fields = self.fields
        if i == 0 and len(tokens) >= 2 and (tokens[-1][0] == DATE or tokens[1][0] == TIME):
            return decode_date(fields, field, fields.found)
        if field[0].isdecimal():
            if fields.found & HAS_TIME == HAS_TIME:
                raise Reject(BAD_FORMAT)
            return self._time_with_offset(field, fields.found | HAS_DATE)
        self.named_zone = zone_or_error(field)
        return HAS_ZONE

    def _time_number(self, i: int, field: str, tokens: list[tuple[int, str]]) -> int:
        fields = self.fields
        found = fields.found
        if self.unit:
            return self._labelled_number(field, found)
        point = field.find(".")
        if point >= 0:
            if i == 0 and len(tokens) >= 2 and tokens[-1][0] == DATE:
                return decode_date(fields, field, found)
            if point <= 2:
                raise Reject(BAD_FORMAT)
            return decode_run_together(fields, field, found | HAS_DATE)
        if len(field) > 4:
            return decode_run_together(fields, field, found | HAS_DATE)
        return decode_number(fields, field, found | HAS_DATE)

    def _time_word(self, i: int, field: str, tokens: list[tuple[int, str]]) -> int:
        kind, value = WORDS.get(field[:TOKEN_LENGTH], (-1, ""))
        if kind == RESERVED:
            if value == "now":
                self.fields.set_time(self._now()[1])
                return HAS_TIME
            if value == "zulu":
                return self._reserved("zulu")
            raise Reject(BAD_FORMAT)
        if kind in (MONTH, DOW):
            raise Reject(BAD_FORMAT)
        if kind == ISOTIME:
            return self._iso_time(i, tokens)
        return self._word(i, field, tokens)
