"""Date arithmetic against PostgreSQL: parts, truncation, age, interval arithmetic, zones, and formats."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from base.errors import MeridianError
from base.typeio import IoSettings, dateparts, datetimes, text_in, text_out
from base.types import BY_NAME

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
