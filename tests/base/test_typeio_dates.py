"""Date arithmetic against PostgreSQL: parts, truncation, age, interval arithmetic, zones, and formats."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from base.errors import MeridianError
from base.typeio import IoSettings, dateparts, datetimes, formatinput, formatting, numberformat, text_in, text_out
from base.types import BY_NAME

pytestmark = pytest.mark.slow
UNITS = [
    "microseconds", "milliseconds", "second", "minute", "hour", "day", "week", "month", "quarter", "year", "decade", "century", "millennium", "epoch", "julian",
    "isoyear", "dow", "isodow", "doy", "timezone", "timezone_hour", "timezone_minute", "HOURS", "y", "fortnight", "d", "ago", "now", "today",
]  # fmt: skip
STAMPS = [
    "2001-02-16 20:38:40.12", "2000-01-01", "1999-12-31 23:59:59.999999", "0001-01-01", "0001-12-31 BC", "0100-06-01 BC", "0099-06-01 BC", "4713-01-01 BC", "2004-02-29 12:00", "294276-12-30 23:59",
    "1970-01-01", "1900-01-01", "1901-01-01", "2005-01-02", "2006-01-01", "2021-03-14 07:30", "2021-11-07 05:30", "infinity", "-infinity", "2010-01-01", "0010-01-01 BC", "0011-05-05 BC",
]  # fmt: skip
TIMES = ["00:00", "24:00", "13:14:15.678901"]
TIMETZS = ["13:14:15.678901+05:30", "00:00-03", "24:00-15:59:59"]
INTERVALS = [
    "1 year 2 mons 3 days 04:05:06.789", "-1 year -2 mons -3 days -04:05:06.789", "1 mon -1 day", "0", "25:00:00", "-25:30:00", "35 days", "-35 days", "14 mons", "1 mon -31 days 24:00", "999 years",
    "1 day -1 hour", "-1 day 1 hour", "1 mon -1 hour", "-1 mon 1 day", "1000 hours", "-1 mon -1 day 48:00",
]  # fmt: skip


@pytest.fixture(scope="module")
def oracle(postgres_oracle: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres_oracle, autocommit=True, prepare_threshold=None) as connection:
        connection.execute("SET timezone = 'America/New_York'")
        yield connection


def expected(oracle: psycopg.Connection[Any], expression: str) -> str:
    try:
        row = oracle.execute(f"SELECT ({expression})::text").fetchone()  # type: ignore[arg-type]
    except psycopg.Error as failure:
        return f"{failure.sqlstate} {failure.diag.message_primary}"
    assert row is not None
    return str(row[0])


def actual(type_name: str, function: Callable[[], Any]) -> str:
    try:
        value = function()
    except MeridianError as failure:
        return f"{failure.sqlstate} {failure.message}"
    return "None" if value is None else text_out(BY_NAME[type_name], value, SETTINGS)


SETTINGS = IoSettings(timezone="America/New_York")
ZONE = SETTINGS.timezone


def datum(type_name: str, literal: str) -> Any:
    return text_in(BY_NAME[type_name], -1, literal, SETTINGS)


def check(oracle: psycopg.Connection[Any], cases: list[tuple[str, str, Callable[[], Any]]]) -> None:
    """Cases: (SQL expression, type of the result, our function)."""
    wrong: list[str] = []
    for expression, type_name, function in cases:
        theirs, ours = expected(oracle, expression), actual(type_name, function)
        if theirs != ours:
            wrong.append(f"{expression}\n    PostgreSQL {theirs}\n    typeio     {ours}")
    assert not wrong, f"{len(wrong)} of {len(cases)}\n" + "\n".join(wrong)


PARTS: list[tuple[str, list[str], Callable[[str, Any], Any]]] = [
    ("timestamp", STAMPS, dateparts.extract_timestamp),
    ("timestamptz", STAMPS, lambda unit, value: dateparts.extract_timestamptz(unit, value, ZONE)),
    ("date", STAMPS, dateparts.extract_date),
    ("time", TIMES, dateparts.extract_time),
    ("timetz", TIMETZS, dateparts.extract_timetz),
    ("interval", INTERVALS, dateparts.extract_interval),
]


@pytest.mark.parametrize(("type_name", "literals", "function"), PARTS, ids=[part[0] for part in PARTS])
def test_extract(
    oracle: psycopg.Connection[Any], type_name: str, literals: list[str], function: Callable[[str, Any], Any]
) -> None:
    special = {"date": dateparts.date_part_date, "interval": dateparts.date_part_interval}
    date_part = special.get(type_name, lambda unit, value: dateparts.into_date_part(function(unit, value)))
    cases: list[tuple[str, str, Callable[[], Any]]] = []
    for literal in literals:
        value = datum(type_name, literal)
        for unit in UNITS:
            cases.append(
                (f"extract({unit} from {type_name} '{literal}')", "numeric", lambda u=unit, v=value: function(u, v))
            )
            cases.append(
                (
                    f"date_part('{unit}', {type_name} '{literal}')",
                    "float8",
                    lambda u=unit, v=value: date_part(u, v),
                )
            )
    check(oracle, cases)


def test_date_trunc(oracle: psycopg.Connection[Any]) -> None:
    cases: list[tuple[str, str, Callable[[], Any]]] = []
    for unit in UNITS:
        for literal in STAMPS:
            stamp, zoned = datum("timestamp", literal), datum("timestamptz", literal)
            cases.append(
                (
                    f"date_trunc('{unit}', timestamp '{literal}')",
                    "timestamp",
                    lambda u=unit, v=stamp: dateparts.trunc_timestamp(u, v),
                )
            )
            cases.append(
                (
                    f"date_trunc('{unit}', timestamptz '{literal}')",
                    "timestamptz",
                    lambda u=unit, v=zoned: dateparts.trunc_timestamptz(u, v, ZONE),
                )
            )
            cases.append(
                (
                    f"date_trunc('{unit}', timestamptz '{literal}', 'Asia/Kolkata')",
                    "timestamptz",
                    lambda u=unit, v=zoned: dateparts.trunc_timestamptz(u, v, "Asia/Kolkata"),
                )
            )
        for literal in INTERVALS:
            interval = datum("interval", literal)
            cases.append(
                (
                    f"date_trunc('{unit}', interval '{literal}')",
                    "interval",
                    lambda u=unit, v=interval: dateparts.trunc_interval(u, v),
                )
            )
    check(oracle, cases)


def test_date_bin(oracle: psycopg.Connection[Any]) -> None:
    cases: list[tuple[str, str, Callable[[], Any]]] = []
    for stride in ("15 minutes", "1 day", "7 days", "-1 day", "1 month", "0", "1 day 1 hour", "1 microsecond"):
        for literal in STAMPS[:16]:
            for origin in ("2001-01-01", "1999-12-31 00:07"):
                s, v, o = datum("interval", stride), datum("timestamp", literal), datum("timestamp", origin)
                sql = f"date_bin('{stride}', timestamp '{literal}', timestamp '{origin}')"
                cases.append((sql, "timestamp", lambda s=s, v=v, o=o: dateparts.date_bin(s, v, o)))
    check(oracle, cases)


def test_plus_interval(oracle: psycopg.Connection[Any]) -> None:
    cases: list[tuple[str, str, Callable[[], Any]]] = []
    stamps = [
        *STAMPS,
        "2000-01-31",
        "2020-02-29",
        "2021-03-13 02:30",
        "2021-11-06 01:30",
        "2021-03-14 01:59:59.5",
        "1999-12-31 20:00:00.000001",
    ]
    for literal in stamps:
        stamp, zoned = datum("timestamp", literal), datum("timestamptz", literal)
        for step in INTERVALS:
            interval = datum("interval", step)
            cases.append(
                (
                    f"timestamp '{literal}' + interval '{step}'",
                    "timestamp",
                    lambda v=stamp, i=interval: datetimes.timestamp_plus_interval(v, i),
                )
            )
            cases.append(
                (
                    f"timestamptz '{literal}' + interval '{step}'",
                    "timestamptz",
                    lambda v=zoned, i=interval: datetimes.timestamptz_plus_interval(v, i, ZONE),
                )
            )
    check(oracle, cases)


def test_differences(oracle: psycopg.Connection[Any]) -> None:
    draw = random.Random(7)
    stamps = [
        f"{draw.randint(1990, 2010)}-{draw.randint(1, 12)}-{draw.randint(1, 28)} {draw.randint(0, 23)}:{draw.randint(0, 59)}"
        for _ in range(40)
    ]
    stamps += ["2000-01-31", "2000-02-29", "2001-03-01", "2000-03-31 12:00", "0001-01-01 BC"]
    cases: list[tuple[str, str, Callable[[], Any]]] = []
    for left in stamps:
        right = draw.choice(stamps)
        a, b = datum("timestamp", left), datum("timestamp", right)
        az, bz = datum("timestamptz", left), datum("timestamptz", right)
        cases.append(
            (f"age(timestamp '{left}', timestamp '{right}')", "interval", lambda a=a, b=b: datetimes.age(a, b))
        )
        cases.append(
            (
                f"age(timestamptz '{left}', timestamptz '{right}')",
                "interval",
                lambda a=az, b=bz: datetimes.age_zoned(a, b, ZONE),
            )
        )
        cases.append(
            (
                f"timestamp '{left}' - timestamp '{right}'",
                "interval",
                lambda a=a, b=b: datetimes.timestamp_minus_timestamp(a, b),
            )
        )
    check(oracle, cases)


def test_intervals(oracle: psycopg.Connection[Any]) -> None:
    cases: list[tuple[str, str, Callable[[], Any]]] = []
    draw = random.Random(8)
    literals = INTERVALS + [
        f"{draw.randint(-40, 40)} mons {draw.randint(-99, 99)} days {draw.randint(-99, 99)}:{draw.randint(0, 59)}:{draw.randint(0, 59)}"
        for _ in range(60)
    ]
    for literal in literals:
        value = datum("interval", literal)
        for name, function in (
            ("hours", datetimes.justify_hours),
            ("days", datetimes.justify_days),
            ("interval", datetimes.justify_interval),
        ):
            cases.append((f"justify_{name}(interval '{literal}')", "interval", lambda f=function, v=value: f(v)))
        for factor in (0.5, -1.5, 3, 0.1, 1.123456789, 1e10):
            cases.append(
                (
                    f"interval '{literal}' * {factor}::float8",
                    "interval",
                    lambda f=factor, v=value: datetimes.multiply_interval(v, f),
                )
            )
            cases.append(
                (
                    f"interval '{literal}' / {factor}::float8",
                    "interval",
                    lambda f=factor, v=value: datetimes.divide_interval(v, f),
                )
            )
    cases.append(("interval '1 day' / 0", "interval", lambda: datetimes.divide_interval((0, 1, 0), 0.0)))
    check(oracle, cases)


def test_at_time_zone(oracle: psycopg.Connection[Any]) -> None:
    cases: list[tuple[str, str, Callable[[], Any]]] = []
    for zone in ("Europe/Berlin", "PST", "EDT", "CET", "MSK", "UTC", "Nowhere", "GMT+3", "EST5EDT", "utc", "z", "vet"):
        for literal in STAMPS:
            stamp, zoned = datum("timestamp", literal), datum("timestamptz", literal)
            cases.append(
                (
                    f"timestamptz '{literal}' AT TIME ZONE '{zone}'",
                    "timestamp",
                    lambda z=zone, v=zoned: datetimes.timestamptz_at_zone(v, z),
                )
            )
            cases.append(
                (
                    f"timestamp '{literal}' AT TIME ZONE '{zone}'",
                    "timestamptz",
                    lambda z=zone, v=stamp: datetimes.timestamp_at_zone(v, z),
                )
            )
    check(oracle, cases)


DATE_TEMPLATES = [
    "YYYY-MM-DD HH24:MI:SS.US", "Day, DD Month YYYY HH12:MI:SS AM", "DAY day Dy DY dy D ID", "MONTH month Mon MON mon MM RM rm", "FMDay, FMDD FMMonth FMYYYY", "Y,YYY YYY YY Y CC", "IYYY IYY IY I IW IDDD", "WW W Q J DDD",
    "SSSS SSSSS MS US FF1 FF2 FF3 FF4 FF5 FF6", "HH HH12 HH24 am a.m. P.M. pm", "AD a.d. BC b.c.", "TZ tz TZH TZM OF", "DDth DDTH Dth YYYYth HH24th", "FMHH24:FMMI:FMSS", "\"text YYYY\" YYYY \\\"q\\\" 'x'", "FXYYYY", "TMMonth TMDay", "yyyy-mm-dd hh24:mi:ss",
    "Hh24 Yyyy", "FMMM FMDDD FMWW FMRM FMQ FMOF", "x y z", "\"unclosed YYYY", "é YYYY", "YYYYMMDDHH24MISS", "FMYY FMY FMCC FMIW FMID", "FM", "DD FM", "J\"th\" Jth Qth",
]  # fmt: skip
INTERVAL_TEMPLATES = [
    "YYYY-MM-DD HH24:MI:SS.US", "HH HH12 HH24 MI SS MS US", "Y,YYY YYY YY Y CC", "DDD DD", "RM rm Q", "SSSS SSSSS", "FMHH24:FMMI:FMSS", "MONTH", "Day", "TZ", "AM", "AD", "OF", "WW", "FMYYYY FMMM",
]  # fmt: skip


def test_timestamp_to_char(oracle: psycopg.Connection[Any]) -> None:
    cases: list[tuple[str, str, Callable[[], Any]]] = []
    for template in DATE_TEMPLATES:
        for literal in STAMPS:
            stamp, zoned = datum("timestamp", literal), datum("timestamptz", literal)
            quoted = template.replace("'", "''")
            cases.append(
                (
                    f"to_char(timestamp '{literal}', '{quoted}')",
                    "text",
                    lambda t=template, v=stamp: formatting.timestamp_to_char(v, t),
                )
            )
            cases.append(
                (
                    f"to_char(timestamptz '{literal}', '{quoted}')",
                    "text",
                    lambda t=template, v=zoned: formatting.timestamptz_to_char(v, t, ZONE),
                )
            )
    for template in INTERVAL_TEMPLATES:
        for literal in INTERVALS:
            value = datum("interval", literal)
            cases.append(
                (
                    f"to_char(interval '{literal}', '{template}')",
                    "text",
                    lambda t=template, v=value: formatting.interval_to_char(v, t),
                )
            )
    check(oracle, cases)


PARSED = [
    ("2000-01-02 03:04:05", "YYYY-MM-DD HH24:MI:SS"), ("05 Dec 2000", "DD Mon YYYY"), ("05 December 2000", "DD Month YYYY"), ("20000102", "YYYYMMDD"), ("2000-1-2", "YYYY-MM-DD"), ("2000 1 2", "YYYY-MM-DD"), ("2000/1/2", "YYYY-MM-DD"), ("00-1-2", "YY-MM-DD"),
    ("99-1-2", "YY-MM-DD"), ("995-1-2", "YYY-MM-DD"), ("5-1-2", "Y-MM-DD"), ("1,999-1-2", "Y,YYY-MM-DD"), ("2000-366", "YYYY-DDD"), ("2001-366", "YYYY-DDD"), ("2000-60", "YYYY-DDD"), ("2006-42-4", "IYYY-IW-ID"), ("2006-42-7", "IYYY-IW-ID"), ("2006-42", "IYYY-IW"), ("2006-290", "IYYY-IDDD"),
    ("2451187", "J"), ("2000-01-02 12:00 AM", "YYYY-MM-DD HH12:MI AM"), ("2000-01-02 12:00 PM", "YYYY-MM-DD HH12:MI PM"), ("2000-01-02 13:00 PM", "YYYY-MM-DD HH12:MI PM"), ("2000-01-02 0:00 PM", "YYYY-MM-DD HH:MI PM"), ("2000-01-02 03:04:05.5", "YYYY-MM-DD HH24:MI:SS.MS"),
    ("2000-01-02 03:04:05.05", "YYYY-MM-DD HH24:MI:SS.MS"), ("2000-01-02 03:04:05.123456", "YYYY-MM-DD HH24:MI:SS.US"), ("2000-01-02 03:04:05.12", "YYYY-MM-DD HH24:MI:SS.US"), ("2000-01-02 03:04:05.12", "YYYY-MM-DD HH24:MI:SS.FF3"), ("3661", "SSSS"), ("2000-02-30", "YYYY-MM-DD"), ("2000-13-01", "YYYY-MM-DD"),
    ("2000-00-01", "YYYY-MM-DD"), ("0000-01-01", "YYYY-MM-DD"), ("-44-02-01", "YYYY-MM-DD"), ("44-02-01 BC", "YYYY-MM-DD BC"), ("0044-02-01 bc", "YYYY-MM-DD AD"), ("2000-01-02 25:00", "YYYY-MM-DD HH24:MI"), ("2000-01-02 10:60", "YYYY-MM-DD HH24:MI"), ("abc", "YYYY"), ("20x0", "YYYY"), ("2000-01", "YYYY-MM-DD"), ("", "YYYY"),
    ("2000-01-02 10:00 +05", "YYYY-MM-DD HH24:MI TZH"), ("2000-01-02 10:00 -05:30", "YYYY-MM-DD HH24:MI TZH:TZM"), ("2000-01-02 10:00-05", "YYYY-MM-DD HH24:MITZH"), ("2000-01-02 10:00 PST", "YYYY-MM-DD HH24:MI TZ"), ("2000-01-02 10:00 +16", "YYYY-MM-DD HH24:MI TZH"), ("Foo 2000", "Mon YYYY"), ("jan 2000", "MON YYYY"), ("JANUARY 2000", "Month YYYY"),
    ("Saturday 2000-01-01", "Day YYYY-MM-DD"), ("Sat 2000-01-02", "Dy YYYY-MM-DD"), ("XII 2000", "RM YYYY"), ("viii 2000", "rm YYYY"), ("2000-20-01", "YYYY-WW-DD"), ("2000 01 3", "YYYY MM W"), ("20 05", "CC YY"), ("20", "CC"), ("2 05 BC", "CC YY BC"), ("2000 4", "YYYY Q"), ("2000-01-01", "FXYYYY-MM-DD"), ("2000/01/01", "FXYYYY-MM-DD"), ("2000- 01-01", "FXYYYY-MM-DD"),
    ("200001", "FXYYYYMM"), ("20001", "YYYYMM"), ("2000  01", "YYYY MM"), ("2000   01", "YYYY  MM"), ("2000", "YYYY MM"), ("  2000-01-02", "YYYY-MM-DD"), ("2000-01-02xyz", "YYYY-MM-DD"), ("1st 2000", "DDth YYYY"), ("year 2000", "\"year\" YYYY"), ("2000 2000", "YYYY YYYY"), ("2000 2001", "YYYY YYYY"), ("2000-01 2", "YYYY-MM IW"), ("99999999999", "YYYY"), ("9999999", "YYYY"),
    ("100 01", "DDD YYYY"), ("100", "DDD"), ("2018-11-02T12:34:56.025", "YYYY-MM-DD\"T\"HH24:MI:SS.MS"), ("20181102T123456", "YYYYMMDDTHH24MISS"), ("10:11", "HH24:MI"), ("97/Feb/16", "YY/Mon/DD"), ("97/Feb/16", "YYMonDD"), ("1985 January 12", "YYYY FMMonth DD"), ("15 \"text between quote marks\" 98 54 45", "HH24 \"\\\"text between quote marks\\\"\" YY MI SS"),
    ("05121445482000", "MMDDHH24MISSYYYY"), ("2000January09Sunday", "YYYYFMMonthDDFMDay"), ("19971116", "YYYYMMDD"), ("20000-1116", "YYYY-MMDD"), ("9-1116", "Y-MMDD"), ("95-1116", "YY-MMDD"), ("995-1116", "YYY-MMDD"), ("2005426", "YYYYWWD"), ("2005300", "YYYYDDD"), ("2005527", "IYYYIWID"), ("  20050302", "YYYYMMDD"), ("2011-12-18 11:38 -05", "YYYY-MM-DD HH12:MI TZH"),
    ("2011-12-18 11:38 20", "YYYY-MM-DD HH12:MI TZM"), ("2011x-12x-18", "YYYYx-MMx-DD"), ("2011 x12 x18", "YYYYxMMxDD"), ("2000+   JUN", "YYYY/MON"), ("2000 +JUN", "YYYY//MON"), ("2000   +  JUN", "YYYY MON"), ("1997-01-01", "YYYY OF"), ("2000-01-01 xM", "YYYY-MM-DD AM"),
]  # fmt: skip


def test_to_timestamp_and_to_date(oracle: psycopg.Connection[Any]) -> None:
    cases: list[tuple[str, str, Callable[[], Any]]] = []
    for text, template in PARSED:
        cases.append(
            (
                f"to_timestamp('{text}', '{template}')",
                "timestamptz",
                lambda s=text, t=template: formatinput.char_to_timestamptz(s, t, ZONE),
            )
        )
        cases.append(
            (f"to_date('{text}', '{template}')", "date", lambda s=text, t=template: formatinput.char_to_date(s, t))
        )
    check(oracle, cases)


NUMBERS = [
    "0",
    "1",
    "-1",
    "0.1",
    "-0.1",
    "12",
    "123",
    "-485",
    "485.8",
    "148.5",
    "1485",
    "3148.5",
    "12.45",
    "12.4",
    "-12.45",
    "1234567.891",
    "0.00045",
    "-0.00045",
    "99.999",
    "482",
    "5.2",
    "-5.2",
    "100000000000000",
    "NaN",
    "Infinity",
    "4000",
    "1999",
    "0.5",
    "-0.5",
    "1e20",
    "1234.5678",
]
NUMBER_TEMPLATES = [
    "999", "S999", "999S", "999MI", "MI999", "PL999", "999PL", "SG999", "999SG", "FM999", "FM999.99", "999.99", "0.9", "FM0.9", "9.99", "FM9.99", ".99", "FM.99", "99.99", "FM99.99", "0999", "FM0999", "999.990", "FM999.990", "000.00", "FM000.00", "9 9 9", "9,999", "9G999", "9G999D99", "999,999,999", "FM999,999,999.99",
    "\"Good number:\"999", "\"Pre:\"999\" Post:\" .999", "999PR", "FM999PR", "9,999.99PR", "999TH", "999th", "FM999th", "RN", "FMRN", "rn", "FMrn", "L999", "99V999", "99V9", "9.99EEEE", "9.9EEEE", "9EEEE", "999D9S", "S999D99", "999.99S", "FM999.99S", "SG9.9", "9.9SG", "FM9.9MI", "MI9.9", "B9", "B0.9", "999.", "FM999.", "FM9.0", "9.0", "0", "9",
    "FM0", "000000000000000000000", "99999999999999999999999", "S0.9", "0S", "9S9", "99.9PR", "S", "MI", "x9x", "999999.99", "FM999999.00", "FM999990.099", "C9", "SP9", "9 SP", "9.9.9", "9SS", "S9PL", "9PR9", "9EEEE9", "FM9EEEE", "99V9.9", "9.9V9", "PR9", "S9PR", "9,99,9", ",9,9", "0,000,009", "FM0,000,009",
]  # fmt: skip


@pytest.mark.parametrize("type_name", ["numeric", "float8"])
def test_number_to_char(oracle: psycopg.Connection[Any], type_name: str) -> None:
    function = numberformat.numeric_to_char if type_name == "numeric" else numberformat.float_to_char
    cases: list[tuple[str, str, Callable[[], Any]]] = []
    for template in NUMBER_TEMPLATES:
        for literal in NUMBERS:
            value = datum(type_name, literal)
            cases.append(
                (f"to_char({type_name} '{literal}', '{template}')", "text", lambda t=template, v=value: function(v, t))
            )
    check(oracle, cases)


def test_to_number(oracle: psycopg.Connection[Any]) -> None:
    texts = [
        ("12,454.8-", "99G999D9S"), ("-34,338,492", "99G999G999"), ("-34,338,492.654,878", "99G999G999D999G999"), ("<564646.654564>", "999999.999999PR"), ("0.00001-", "9.999999S"), ("5.01-", "FM9.999999S"), ("5.01-", "FM9.999999MI"), ("5 4 4 4 4 8 . 7 8", "9 9 9 9 9 9 . 9 9"),
        (".01", "FM9.99"), (".0", "99999999.99999999"), ("0", "99.99"), (".-01", "S99.99"), (".01-", "99.99S"), (" . 0 1-", " 9 9 . 9 9 S"), ("34,50", "999,99"), ("123,000", "999G"), ("123456", "999G999"), ("$1234.56", "L9,999.99"), ("$1234.56", "L99,999.99"), ("$1,234.56", "L9,999.99"), ("1234.56", "L9,999.99"),
        ("1,234.56", "L9,999.99"), ("42nd", "99th"), ("", "999"), ("abc", "999"), ("123", ""), ("12345", "999"), ("1.5", "9V9"), ("15", "9V9"), ("123.456", "999.9"), ("-1", "9"), ("+1", "9"), ("- 1", "9"), ("1-", "9"), ("1-", "9S"), ("1-", "9MI"), ("1-", "99PL"), ("1+", "99MI"), ("1-", "99SG"), ("1-", "99PR"), ("1-", "99"), ("1-", "999.9"), ("1.5-", "9.99"), ("1+", "99"), ("1-", "9SG"), ("+1", "PL9"), ("-1", "SG9"), ("-1", "MI9"), ("XII", "RN"), ("1e5", "9EEEE"), ("  12", "99"), ("1 2", "99"),
    ]  # fmt: skip
    check(
        oracle,
        [
            (f"to_number('{s}', '{t}')", "numeric", lambda s=s, t=t: numberformat.char_to_numeric(s, t))
            for s, t in texts
        ],
    )
