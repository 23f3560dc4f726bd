"""Every literal of ``literals.py`` through PostgreSQL 15 and through ``base.typeio``: text, binary form and SQLSTATE must agree."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from base.errors import MeridianError
from base.typeio import IoSettings, binary_decoder, binary_encoder, text_in, text_out, typmod_from_args
from base.typeio import type_name as type_name_of
from base.types import BY_NAME
from tests.base.literals import DATE, FLOAT, INTERVAL, LITERALS, NUMERIC, TEXT, TIMESTAMP

pytestmark = pytest.mark.slow
Outcome = tuple[str, ...]
NOW_US = 820_000_000_000_000
"""Some day of 2025, summer on the northern half; no literal shows it."""


@pytest.fixture(scope="module")
def oracle(postgres_oracle: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres_oracle, autocommit=True, prepare_threshold=None) as connection:
        yield connection


def ask_postgres(oracle: psycopg.Connection[Any], type_sql: str, literal: str) -> Outcome:
    """Returns (text, binary in hex), or (SQLSTATE, message)."""
    query = sql.SQL("SELECT {}::{}").format(sql.Literal(literal), sql.SQL(type_sql))
    try:
        with oracle.cursor() as text_cursor, oracle.cursor(binary=True) as binary_cursor:
            text_cursor.execute(query)
            text = raw_value(text_cursor)
            binary_cursor.execute(query)
            return text.decode(), raw_value(binary_cursor).hex()
    except psycopg.Error as failure:
        return failure.sqlstate or "", failure.diag.message_primary or ""


def raw_value(cursor: psycopg.Cursor[Any]) -> bytes:
    assert cursor.pgresult is not None
    value = cursor.pgresult.get_value(0, 0)
    assert value is not None
    return bytes(value)


def ask_typeio(type_name: str, typmod: int, literal: str, settings: IoSettings) -> Outcome:
    pg_type = BY_NAME[type_name]
    try:
        datum = text_in(pg_type, typmod, literal, settings, lambda: NOW_US)
        binary = binary_encoder(pg_type)(datum)
        text = text_out(pg_type, datum, settings)
        again = text_out(pg_type, binary_decoder(pg_type)(binary), settings)
        assert again == text, f"{literal!r}: {text!r} came back from binary as {again!r}"
        return text, binary.hex()
    except MeridianError as failure:
        return failure.sqlstate, failure.message


def compare(
    oracle: psycopg.Connection[Any],
    type_name: str,
    type_sql: str,
    typmod: int,
    literals: list[str],
    settings: IoSettings,
) -> None:
    wrong: list[str] = []
    for literal in dict.fromkeys(literals):
        expected = ask_postgres(oracle, type_sql, literal)
        actual = ask_typeio(type_name, typmod, literal, settings)
        if actual[0] == "0A000" and "lower bounds" in actual[1]:
            continue
        if expected != actual and not expected[0] == actual[0] == "NaN":
            wrong.append(f"{literal!r}\n    PostgreSQL {expected}\n    typeio     {actual}")
    assert not wrong, f"{type_sql}: {len(wrong)} of {len(literals)}\n" + "\n".join(wrong)


@pytest.mark.parametrize("type_name", list(LITERALS))
def test_literals(oracle: psycopg.Connection[Any], type_name: str) -> None:
    """Default settings, no typmod."""
    oracle.execute("RESET ALL")
    quoted = f'pg_catalog."{type_name}"'
    compare(oracle, type_name, quoted, -1, LITERALS[type_name], IoSettings())


DATE_SETTINGS = [
    ("ISO, DMY", "UTC"), ("ISO, YMD", "America/New_York"), ("SQL, MDY", "America/New_York"), ("SQL, DMY", "Europe/London"),
    ("Postgres, MDY", "America/Los_Angeles"), ("Postgres, DMY", "Asia/Kolkata"), ("German, DMY", "Europe/Berlin"), ("ISO, MDY", "Australia/Lord_Howe"),
    ("ISO, MDY", "<-07:30>+07:30"), ("SQL, YMD", "EST5EDT"), ("ISO, MDY", "Asia/Kathmandu"), ("Postgres, YMD", "America/St_Johns"),
]  # fmt: skip


@pytest.mark.parametrize(("datestyle", "zone"), DATE_SETTINGS)
@pytest.mark.parametrize("type_name", ["date", "timestamp", "timestamptz"])
def test_date_styles(oracle: psycopg.Connection[Any], type_name: str, datestyle: str, zone: str) -> None:
    """All styles, orders and several zones."""
    oracle.execute("SELECT set_config('datestyle', %s, false), set_config('timezone', %s, false)", (datestyle, zone))
    compare(oracle, type_name, type_name, -1, TIMESTAMP + DATE, IoSettings(datestyle=datestyle, timezone=zone))


@pytest.mark.parametrize("style", ["postgres", "postgres_verbose", "sql_standard", "iso_8601"])
def test_interval_styles(oracle: psycopg.Connection[Any], style: str) -> None:
    oracle.execute("SELECT set_config('intervalstyle', %s, false)", (style,))
    compare(oracle, "interval", "interval", -1, INTERVAL, IoSettings(intervalstyle=style))


@pytest.mark.parametrize("digits", [-20, -15, -5, -1, 0, 1, 3])
@pytest.mark.parametrize("type_name", ["float4", "float8"])
def test_float_digits(oracle: psycopg.Connection[Any], type_name: str, digits: int) -> None:
    if digits < -15:
        digits = -15
    oracle.execute("SELECT set_config('extra_float_digits', %s, false)", (str(digits),))
    compare(oracle, type_name, type_name, -1, FLOAT, IoSettings(extra_float_digits=digits))


def test_bytea_escape(oracle: psycopg.Connection[Any]) -> None:
    oracle.execute("SET bytea_output = 'escape'")
    compare(oracle, "bytea", "bytea", -1, LITERALS["bytea"], IoSettings(bytea_output="escape"))


ROUNDABLE = [literal for literal in TIMESTAMP if not literal.startswith("294276")]
"""PostgreSQL rounds the last microsecond of its range to a value outside of it; we raise 22008."""
MODERATE = [literal for literal in INTERVAL if "92233720368547758" not in literal and "2562047788" not in literal]
"""PostgreSQL wraps around where it rounds the last microseconds an interval can have; we raise 22008."""
TYPMODS = [
    ("varchar", "(3)", (3,), "", TEXT), ("bpchar", "(3)", (3,), "", TEXT), ("numeric", "(5,2)", (5, 2), "", NUMERIC), ("numeric", "(3)", (3,), "", NUMERIC),
    ("numeric", "(3,5)", (3, 5), "", [*NUMERIC, "0.00999", "0.009999", "0.01", "0.000005", "-0.000005"]), ("numeric", "(3,-2)", (3, -2), "", [*NUMERIC, "12345", "99949", "99950", "-150", "49"]),
    ("numeric", "(2,2)", (2, 2), "", ["0.99", "0.995", "0.994", "1", "-0.999"]), ("timestamp", "(0)", (0,), "", ROUNDABLE), ("timestamp", "(3)", (3,), "", ROUNDABLE), ("timestamptz", "(5)", (5,), "", ROUNDABLE),
    ("time", "(2)", (2,), "", TIMESTAMP), ("timetz", "(0)", (0,), "", TIMESTAMP), ("bit", "(4)", (4,), "", LITERALS["bit"]), ("varbit", "(4)", (4,), "", LITERALS["bit"]),
    ("interval", "(2)", (2,), "", MODERATE),
    *[("interval", f" {words}", (), words, INTERVAL) for words in ("year", "month", "day", "hour", "minute", "second", "year to month", "day to hour", "day to minute",
      "day to second", "hour to minute", "hour to second", "minute to second")],
    ("interval", " day to second(3)", (3,), "day to second", MODERATE), ("interval", " second(1)", (1,), "second", MODERATE),
]  # fmt: skip


@pytest.mark.parametrize(("type_name", "suffix", "args", "fields", "literals"), TYPMODS)
def test_typmods(
    oracle: psycopg.Connection[Any],
    type_name: str,
    suffix: str,
    args: tuple[int, ...],
    fields: str,
    literals: list[str],
) -> None:
    """A column's input: too long values are errors, not cut as by a cast."""
    oracle.execute("RESET ALL")
    column = type_name + suffix
    if type_name in ("timestamptz", "timetz"):
        column = f"{type_name[:-2]}{suffix} with time zone"
    typmod = typmod_from_args(BY_NAME[type_name], args, fields)
    wrong: list[str] = []
    oracle.execute("DROP TABLE IF EXISTS fitted")
    oracle.execute(f"CREATE TEMP TABLE fitted (x {column})")  # type: ignore[arg-type]
    row = oracle.execute(
        "SELECT atttypmod, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'fitted'::regclass AND attnum = 1"
    ).fetchone()
    assert row == (typmod, type_name_of(BY_NAME[type_name], typmod))
    for literal in dict.fromkeys(literals):
        expected = insert_into_postgres(oracle, literal)
        actual = ask_typeio(type_name, typmod, literal, IoSettings())
        if expected != actual and not expected[0] == actual[0] == "NaN":
            wrong.append(f"{literal!r}\n    PostgreSQL {expected}\n    typeio     {actual}")
    assert not wrong, f"{column}: {len(wrong)} of {len(literals)}\n" + "\n".join(wrong)


def insert_into_postgres(oracle: psycopg.Connection[Any], literal: str) -> Outcome:
    statement = sql.SQL("INSERT INTO fitted VALUES ({}) RETURNING x").format(sql.Literal(literal))
    try:
        with oracle.cursor() as text_cursor, oracle.cursor(binary=True) as binary_cursor:
            text_cursor.execute(statement)
            text = raw_value(text_cursor)
            binary_cursor.execute(statement)
            return text.decode(), raw_value(binary_cursor).hex()
    except psycopg.Error as failure:
        return failure.sqlstate or "", failure.diag.message_primary or ""


def test_details_of_numeric_overflow(oracle: psycopg.Connection[Any]) -> None:
    """DETAIL is compared where programs show it to people."""
    for literal, column, args in (
        ("1000", "numeric(5,2)", (5, 2)),
        ("inf", "numeric(5,2)", (5, 2)),
        ("5", "numeric(2,2)", (2, 2)),
        ("1e9", "numeric(3,-2)", (3, -2)),
        ("1", "numeric(3,5)", (3, 5)),
    ):
        with pytest.raises(psycopg.Error) as expected:
            oracle.execute(f"SELECT '{literal}'::{column}")  # type: ignore[arg-type]
        with pytest.raises(MeridianError) as actual:
            text_in(BY_NAME["numeric"], typmod_from_args(BY_NAME["numeric"], args), literal)
        assert (actual.value.sqlstate, actual.value.message, actual.value.detail) == (
            expected.value.sqlstate,
            expected.value.diag.message_primary,
            expected.value.diag.message_detail,
        )


@pytest.mark.parametrize("type_name", ["json", "jsonb", "_int4", "_text", "cidr"])
def test_details(oracle: psycopg.Connection[Any], type_name: str) -> None:
    """The DETAIL of documents, arrays and networks."""
    oracle.execute("RESET ALL")
    wrong: list[str] = []
    for literal in LITERALS[type_name]:
        try:
            oracle.execute(sql.SQL("SELECT {}::{}").format(sql.Literal(literal), sql.SQL(type_name)))
        except psycopg.Error as failure:
            expected = failure.diag.message_detail
            with pytest.raises(MeridianError) as actual:
                text_in(BY_NAME[type_name], -1, literal)
            if actual.value.detail != expected and "lower bounds" not in actual.value.message:
                wrong.append(f"{literal!r}\n    PostgreSQL {expected}\n    typeio     {actual.value.detail}")
    assert not wrong, "\n".join(wrong)


def test_random_values(oracle: psycopg.Connection[Any]) -> None:
    """Seeded: floats of any bits, numerics of any shape, timestamps in zones over the centuries."""
    oracle.execute("RESET ALL")
    draw = random.Random(15)
    floats = [struct.unpack(">d", draw.randbytes(8))[0] for _ in range(300)] + [
        draw.randint(1, 10**17) / 10 ** draw.randint(0, 20) for _ in range(200)
    ]
    floats += [2.0**exponent for exponent in range(-140, 127, 3)]
    singles = [struct.unpack(">f", draw.randbytes(4))[0] for _ in range(300)] + [
        2.0**exponent for exponent in range(-149, 128)
    ]
    numerics = [
        str(draw.randint(-(10 ** draw.randint(0, 40)), 10 ** draw.randint(0, 40))) + f"e{draw.randint(-30, 30)}"
        for _ in range(300)
    ]
    compare_batch(oracle, "float8", [repr(value) for value in floats], IoSettings())
    compare_batch(oracle, "float4", [repr(value) for value in singles], IoSettings())
    compare_batch(oracle, "numeric", numerics, IoSettings())
    months = [
        f"{draw.randint(-400, 400)} months {draw.randint(-400, 400)} days {draw.uniform(-1e6, 1e6):.7f} seconds"
        for _ in range(200)
    ]
    for style in ("postgres", "postgres_verbose", "sql_standard", "iso_8601"):
        oracle.execute("SELECT set_config('intervalstyle', %s, false)", (style,))
        compare_batch(oracle, "interval", months, IoSettings(intervalstyle=style))
    for zone in (
        "America/New_York",
        "Europe/Berlin",
        "Australia/Sydney",
        "Asia/Tokyo",
        "America/Sao_Paulo",
        "Europe/Dublin",
        "Pacific/Apia",
    ):
        oracle.execute("SELECT set_config('timezone', %s, false)", (zone,))
        stamps = [
            f"{draw.randint(1971, 2020)}-{draw.randint(1, 12)}-{draw.randint(1, 28)} {draw.randint(0, 23)}:{draw.randint(0, 59)}:00"
            for _ in range(200)
        ]
        stamps += [
            f"{draw.randint(2026, 5000)}-{draw.choice((3, 4, 9, 10, 11))}-{draw.randint(1, 31)} {draw.randint(0, 23)}:30"
            for _ in range(300)
        ]
        compare_batch(oracle, "timestamptz", stamps, IoSettings(timezone=zone))


def compare_batch(oracle: psycopg.Connection[Any], type_name: str, literals: list[str], settings: IoSettings) -> None:
    """One query for many literals; those PostgreSQL refuses are compared one by one."""
    wrong: list[str] = []
    try:
        query = f"SELECT x::{type_name}::text, encode({SEND[type_name]}(x::{type_name}), 'hex') FROM unnest(%s::text[]) AS x"
        expected = oracle.execute(query, (literals,)).fetchall()  # type: ignore[arg-type]
    except psycopg.Error:
        expected = [ask_postgres(oracle, type_name, literal) for literal in literals]
    for literal, outcome in zip(literals, expected, strict=True):
        actual = ask_typeio(type_name, -1, literal, settings)
        if actual != outcome and not outcome[0] == actual[0] == "NaN":
            wrong.append(f"{literal!r}\n    PostgreSQL {outcome}\n    typeio     {actual}")
    assert not wrong, f"{type_name} {settings}: {len(wrong)} of {len(literals)}\n" + "\n".join(wrong)


SEND = {
    "float8": "float8send",
    "float4": "float4send",
    "numeric": "numeric_send",
    "interval": "interval_send",
    "timestamptz": "timestamptz_send",
}
