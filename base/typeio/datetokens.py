"""Words and lexer of date, time and interval input (PostgreSQL 15 manual, appendix B.1 and B.3).

The text is cut into fields by their first characters:

    NUMBER   digits, maybe with one point          1999, 040506.789
    DATE     digits or a word joined by - / .      1999-01-08, jan-08-1999, america/new_york
    TIME     digits and colons                     04:05:06.789
    TZ       a sign and digits, colons, - or .     +05:30, -1-2
    SPECIAL  a sign and a word                     -infinity
    STRING   a word                                january, pst
"""

from __future__ import annotations

from typing import Final

from base.errors import MeridianError, error

NUMBER: Final = 0
STRING: Final = 1
DATE: Final = 2
TIME: Final = 3
TZ: Final = 4
SPECIAL: Final = 6

FIELDS_MAX: Final = 25
TEXT_MAX: Final = 128 + 25
"""Bytes of fields and their terminators that PostgreSQL has room for."""
TOKEN_LENGTH: Final = 10
"""Words are compared by this many characters: 'microseconds' is known as 'microsecon'."""

BAD_FORMAT: Final = "22007"
FIELD_OVERFLOW: Final = "22008"
MONTH_DAY_OVERFLOW: Final = "22008 datestyle"
INTERVAL_OVERFLOW: Final = "22015"
ZONE_OVERFLOW: Final = "22009"

Field = tuple[int, str]
"""(kind, text in lower case)."""


class Reject(Exception):
    """Why a text is no date, time or interval; ``into_error`` makes it the client's."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def into_error(code: str, text: str, type_name: str) -> MeridianError:
    if code == FIELD_OVERFLOW:
        return error("22008", f'date/time field value out of range: "{text}"')
    if code == MONTH_DAY_OVERFLOW:
        hint = 'Perhaps you need a different "datestyle" setting.'
        return error("22008", f'date/time field value out of range: "{text}"', hint=hint)
    if code == INTERVAL_OVERFLOW:
        return error("22015", f'interval field value out of range: "{text}"')
    if code == ZONE_OVERFLOW:
        return error("22009", f'time zone displacement out of range: "{text}"')
    return error("22007", f'invalid input syntax for type {type_name}: "{text}"')


# --- words --------------------------------------------------------------------------

MONTH, AMPM, ADBC, DOW, UNITS, RESERVED, IGNORE, ISOTIME, DTZMOD, AGO, UNKNOWN = range(11)
"""Kinds of words."""

_MONTHS: Final = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_WEEKDAYS: Final = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"]

WORDS: Final[dict[str, tuple[int, object]]] = {
    **{name[:3]: (MONTH, i + 1) for i, name in enumerate(_MONTHS)},
    **{name: (MONTH, i + 1) for i, name in enumerate(_MONTHS)},
    "sept": (MONTH, 9),
    **{name[:3]: (DOW, i) for i, name in enumerate(_WEEKDAYS)},
    **{name: (DOW, i) for i, name in enumerate(_WEEKDAYS)},
    "tues": (DOW, 2), "weds": (DOW, 3), "thur": (DOW, 4), "thurs": (DOW, 4),
    "am": (AMPM, "am"), "pm": (AMPM, "pm"), "ad": (ADBC, "ad"), "bc": (ADBC, "bc"),
    "at": (IGNORE, 0), "on": (IGNORE, 0), "dst": (DTZMOD, 3600), "t": (ISOTIME, "time"),
    "d": (UNITS, "day"), "dow": (UNITS, "dow"), "doy": (UNITS, "doy"), "h": (UNITS, "hour"), "isodow": (UNITS, "isodow"),
    "isoyear": (UNITS, "isoyear"), "j": (UNITS, "julian"), "jd": (UNITS, "julian"), "julian": (UNITS, "julian"),
    "m": (UNITS, "month"), "mm": (UNITS, "minute"), "s": (UNITS, "second"), "y": (UNITS, "year"),
    "-infinity": (RESERVED, "early"), "infinity": (RESERVED, "late"), "epoch": (RESERVED, "epoch"), "now": (RESERVED, "now"),
    "today": (RESERVED, "today"), "tomorrow": (RESERVED, "tomorrow"), "yesterday": (RESERVED, "yesterday"), "allballs": (RESERVED, "zulu"),
}  # fmt: skip
"""Words of dates and times."""

UNIT_WORDS: Final[dict[str, tuple[int, str]]] = {
    "ago": (AGO, ""), "@": (IGNORE, ""),
    **dict.fromkeys(("c", "cent", "centuries", "century"), (UNITS, "century")),
    **dict.fromkeys(("d", "day", "days"), (UNITS, "day")),
    **dict.fromkeys(("dec", "decade", "decades", "decs"), (UNITS, "decade")),
    **dict.fromkeys(("h", "hour", "hours", "hr", "hrs"), (UNITS, "hour")),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), (UNITS, "minute")),
    **dict.fromkeys(("microsecon", "us", "usec", "usecond", "useconds", "usecs"), (UNITS, "microsecond")),
    **dict.fromkeys(("mil", "millennia", "millennium", "mils"), (UNITS, "millennium")),
    **dict.fromkeys(("millisecon", "ms", "msec", "msecond", "mseconds", "msecs"), (UNITS, "millisecond")),
    **dict.fromkeys(("mon", "mons", "month", "months"), (UNITS, "month")),
    **dict.fromkeys(("qtr", "quarter"), (UNITS, "quarter")),
    **dict.fromkeys(("s", "sec", "second", "seconds", "secs"), (UNITS, "second")),
    **dict.fromkeys(("timezone",), (UNITS, "timezone")),
    **dict.fromkeys(("timezone_h",), (UNITS, "timezone_hour")),
    **dict.fromkeys(("timezone_m",), (UNITS, "timezone_minute")),
    **dict.fromkeys(("w", "week", "weeks"), (UNITS, "week")),
    **dict.fromkeys(("y", "year", "years", "yr", "yrs"), (UNITS, "year")),
}  # fmt: skip
"""Words of intervals, and of extract()."""


# --- lexer --------------------------------------------------------------------------

_BLANKS: Final = " \t\n\v\f\r"
_DIGITS: Final = "0123456789"
_ALPHA: Final = "abcdefghijklmnopqrstuvwxyz"
_ALNUM: Final = _DIGITS + _ALPHA
_IN_TIME: Final = _DIGITS + ":."
_IN_ZONE: Final = _DIGITS + ":.-"
_IN_NAME: Final = _ALNUM + "+-/_.:"


def _run(text: str, start: int, allowed: str) -> int:
    """Returns the end of the run of allowed characters."""
    end = start
    while end < len(text) and text[end] in allowed:
        end += 1
    return end


def split_fields(text: str) -> list[Field]:
    """Cuts a text into fields; raises Reject where no field can begin."""
    source = text.lower() if text.isascii() else "".join([c.lower() if c.isascii() else c for c in text])
    fields: list[Field] = []
    size = 0
    at = 0
    while at < len(source):
        c = source[at]
        if c in _BLANKS:
            at += 1
            continue
        if c in _DIGITS:
            kind, end = _digit_field(source, at)
            field = source[at:end]
        elif c == ".":
            end = _run(source, at + 1, _DIGITS)
            kind, field = NUMBER, source[at:end]
        elif c in _ALPHA:
            kind, end = _word_field(source, at)
            field = source[at:end]
        elif c in "+-":
            kind, field, end = _signed_field(source, at)
        elif c.isascii() and c.isprintable():
            at += 1
            continue
        else:
            raise Reject(BAD_FORMAT)
        if len(fields) >= FIELDS_MAX:
            raise Reject(BAD_FORMAT)
        size += len(field) + 1
        if size > TEXT_MAX:
            raise Reject(BAD_FORMAT)
        fields.append((kind, field))
        at = end
    return fields


def _digit_field(source: str, start: int) -> tuple[int, int]:
    end = _run(source, start, _DIGITS)
    if end == len(source):
        return NUMBER, end
    joint = source[end]
    if joint == ":":
        return TIME, _run(source, end, _IN_TIME)
    if joint not in "-/.":
        return NUMBER, end
    end += 1
    if end < len(source) and source[end] in _DIGITS:
        kind = NUMBER if joint == "." else DATE
        end = _run(source, end, _DIGITS)
        # Two equal joints make a date of three parts: 08.01.1999.
        if end < len(source) and source[end] == joint:
            kind = DATE
            end = _run(source, end, _DIGITS + joint)
        return kind, end
    return DATE, _run(source, end, _ALNUM + joint)


def _word_field(source: str, start: int) -> tuple[int, int]:
    """A word, unless what follows makes it a date (jan-08-1999) or a zone (europe/paris, pst8pdt, foo+5)."""
    end = _run(source, start, _ALPHA)
    if end == len(source):
        return STRING, end
    joint = source[end]
    if joint in "-/." or ((joint == "+" or joint in _DIGITS) and source[start:end][:TOKEN_LENGTH] not in WORDS):
        return DATE, _run(source, end, _IN_NAME)
    return STRING, end


def _signed_field(source: str, start: int) -> tuple[int, str, int]:
    begin = _run(source, start + 1, _BLANKS)
    if begin < len(source) and source[begin] in _DIGITS:
        end = _run(source, begin, _IN_ZONE)
        return TZ, source[start] + source[begin:end], end
    if begin < len(source) and source[begin] in _ALPHA:
        end = _run(source, begin, _ALPHA)
        return SPECIAL, source[start] + source[begin:end], end
    raise Reject(BAD_FORMAT)


# --- numbers in fields ----------------------------------------------------------------

INT4_MAX: Final = 2**31 - 1
INT8_MAX: Final = 2**63 - 1


def scan_int(text: str, start: int = 0, limit: int = INT4_MAX) -> tuple[int, int]:
    """Reads an optional sign and digits; returns (value, end), (0, start) if there is no number."""
    at = start
    if at < len(text) and text[at] in "+-":
        at += 1
    end = _run(text, at, _DIGITS)
    if end == at:
        return 0, start
    digits = text[at:end].lstrip("0")
    value = int(digits) if 0 < len(digits) < 20 else 0 if not digits else limit + 2
    if text[start] == "-":
        value = -value
    if not -limit - 1 <= value <= limit:
        raise Reject(FIELD_OVERFLOW)
    return value, end


def fraction(text: str) -> float:
    """Reads ``.ddd`` to the end of the text; a point alone is zero."""
    if text == ".":
        return 0.0
    if len(text) < 2 or text[0] != "." or _run(text, 1, _DIGITS) != len(text):
        raise Reject(BAD_FORMAT)
    return float(text)


def fractional_us(text: str) -> int:
    """Reads ``.ddd`` as microseconds, rounded to even; 1,000,000 if it rounds up to a second."""
    return round(fraction(text) * 1_000_000)
