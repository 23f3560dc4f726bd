"""Input and output of types: golden cases, round trips of any value, and input that means harm.

What PostgreSQL itself answers is in test_typeio_oracle.py; these need no server.
"""

from __future__ import annotations

import math
import struct
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from base import types as t
from base.errors import FeatureNotSupported, MeridianError
from base.typeio import (
    IoSettings,
    RegResolver,
    apply_typmod,
    binary_decoder,
    binary_encoder,
    calendar,
    column_type_name,
    datestyle_from_text,
    json,
    text_decoder,
    text_encoder,
    text_in,
    text_out,
    type_name,
    typmod_from_args,
)
from base.typeio.datetime import canonical_zone
from base.typeio.zones import find_zone
from base.types import BY_NAME, PgType

QUICK = limits(max_examples=40, deadline=None)
MOOD = PgType(100_001, "mood", 4, "E", kind="e", enum_labels=("sad", "ok", "happy"))
PAIR = PgType(100_002, "pair", -1, "C", kind="c", fields=(("a", t.INT4), ("b", t.TEXT)))
MOODS = PgType(100_003, "_mood", -1, "A", elem=MOOD)
PAIRS = PgType(100_004, "_pair", -1, "A", elem=PAIR)


# --- golden cases -----------------------------------------------------------------------------

GOLDEN: list[tuple[PgType, str, Any, str]] = [
    (t.INT4, " 42 ", 42, "42"),
    (t.FLOAT8, "1e15", 1e15, "1e+15"),
    (t.FLOAT8, "-0", -0.0, "-0"),
    (t.FLOAT4, "0.1", struct.unpack(">f", struct.pack(">f", 0.1))[0], "0.1"),
    (t.NUMERIC, "1.10", Decimal("1.10"), "1.10"),
    (t.NUMERIC, "1e3", Decimal(1000), "1000"),
    (t.NUMERIC, "0.00000000001", Decimal("1E-11"), "0.00000000001"),
    (t.BOOL, "yes", True, "t"),
    (t.DATE, "January 8, 1999", -358, "1999-01-08"),
    (t.DATE, "0044-03-15 BC", -746_117, "0044-03-15 BC"),
    (t.TIMESTAMP, "1999-01-08 04:05:06.7", -30_916_493_300_000, "1999-01-08 04:05:06.7"),
    (t.TIMESTAMPTZ, "2000-07-01 12:00 America/New_York", 15_782_400_000_000, "2000-07-01 16:00:00+00"),
    (t.TIMESTAMP, "infinity", t.TIMESTAMP_INFINITY, "infinity"),
    (t.TIMETZ, "04:05:06-08", (14_706_000_000, 28_800), "04:05:06-08"),
    (t.INTERVAL, "1 day -02:03:04", (0, 1, -7_384_000_000), "1 day -02:03:04"),
    (t.INTERVAL, "P1Y2M3DT4H", (14, 3, 14_400_000_000), "1 year 2 mons 3 days 04:00:00"),
    (
        t.UUID,
        "{A0EEBC999C0B4EF8BB6D6BB9BD380A11}",
        bytes.fromhex("a0eebc999c0b4ef8bb6d6bb9bd380a11"),
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    ),
    (t.BYTEA, "\\xDEADbeef", b"\xde\xad\xbe\xef", "\\xdeadbeef"),
    (t.JSONB, '{"bb": 1e3, "a": [1.10, "\\u00e9"], "a": null}', '{"a": null, "bb": 1000}', '{"a": null, "bb": 1000}'),
    (t.JSON, ' {"a" : 1}', ' {"a" : 1}', ' {"a" : 1}'),
    (t.INET, "10.1.2.3/8", "10.1.2.3/8", "10.1.2.3/8"),
    (t.CIDR, "10", "10.0.0.0/8", "10.0.0.0/8"),
    (t.VARBIT, "X1F", "00011111", "00011111"),
    (t.array_of(t.INT4), "{1,NULL,3}", (1, None, 3), "{1,NULL,3}"),
    (t.array_of(t.TEXT), '{{"a b",NULL},{"NULL",""}}', (("a b", None), ("NULL", "")), '{{"a b",NULL},{"NULL",""}}'),
    (t.array_of(t.INTERVAL), '{{"1 day"},{NULL}}', (((0, 1, 0),), (None,)), '{{"1 day"},{NULL}}'),
    (t.INT2VECTOR, "1 2 3", (1, 2, 3), "1 2 3"),
    (t.REGCLASS, "-", 0, "-"),
    (t.REGCLASS, "1259", 1259, "1259"),
    (MOOD, "ok", "ok", "ok"),
    (MOODS, "{sad,NULL}", ("sad", None), "{sad,NULL}"),
    (PAIR, '(1,"a ""b""")', (1, 'a "b"'), '(1,"a ""b""")'),
    (PAIR, "(,)", (None, None), "(,)"),
    (PAIRS, '{"(1,x)",NULL}', ((1, "x"), None), '{"(1,x)",NULL}'),
]


@pytest.mark.parametrize(("pg_type", "literal", "datum", "printed"), GOLDEN, ids=[f"{g[0]}-{g[1]}" for g in GOLDEN])
def test_golden(pg_type: PgType, literal: str, datum: Any, printed: str) -> None:
    """Text in, datum, text out; then the same through bytes and through the binary form."""
    settings = IoSettings()
    assert text_in(pg_type, -1, literal) == datum
    assert text_out(pg_type, datum) == printed
    assert text_encoder(pg_type, settings)(datum) == printed.encode()
    assert text_decoder(pg_type, -1, settings)(literal.encode()) == datum
    assert binary_decoder(pg_type)(binary_encoder(pg_type)(datum)) == datum


REJECTED = [
    (t.INT4, "x", "22P02", 'invalid input syntax for type integer: "x"'),
    (t.INT4, "99999999999", "22003", 'value "99999999999" is out of range for type integer'),
    (t.INT4, "1_000", "22P02", 'invalid input syntax for type integer: "1_000"'),
    (t.FLOAT8, "1e400", "22003", '"1e400" is out of range for type double precision'),
    (t.NUMERIC, "1e999999999", "22003", "value overflows numeric format"),
    (t.DATE, "2000-02-30", "22008", 'date/time field value out of range: "2000-02-30"'),
    (t.TIMESTAMP, "yesterdays", "22007", 'invalid input syntax for type timestamp: "yesterdays"'),
    (t.JSONB, '"\\u0000"', "22P05", "unsupported Unicode escape sequence"),
    (t.JSONB, "[" * 100_000, "54001", "stack depth limit exceeded"),
    (t.JSON, "[" * 100_000, "54001", "stack depth limit exceeded"),
    (t.array_of(t.INT4), "{" * 100_000, "54000", "number of array dimensions (7) exceeds the maximum allowed (6)"),
    (MOOD, "angry", "22P02", 'invalid input value for enum mood: "angry"'),
    (t.RECORD, "(1)", "0A000", "input of anonymous composite types is not implemented"),
]


@pytest.mark.parametrize(
    ("pg_type", "literal", "sqlstate", "message"), REJECTED, ids=[f"{r[0]}-{r[1][:20]}" for r in REJECTED]
)
def test_rejected(pg_type: PgType, literal: str, sqlstate: str, message: str) -> None:
    with pytest.raises(MeridianError) as failure:
        text_in(pg_type, -1, literal)
    assert (failure.value.sqlstate, failure.value.message) == (sqlstate, message)


def test_invalid_utf8_names_the_bytes() -> None:
    for data, shown in (
        (b"a\xff", "0xff"),
        (b"\xe2\x28\xa1", "0xe2 0x28 0xa1"),
        (b"a\0b", "0x00"),
        (b"\xed\xa0\x80", "0xed 0xa0 0x80"),
    ):
        with pytest.raises(MeridianError) as failure:
            text_decoder(t.TEXT, -1, IoSettings())(data)
        assert (failure.value.sqlstate, failure.value.message) == (
            "22021",
            f'invalid byte sequence for encoding "UTF8": {shown}',
        )


def test_long_numbers_pass_the_interpreter_limit() -> None:
    """int() and str() of more than 4,300 digits raise ValueError in Python; nothing of ours does."""
    digits = "9" * 100_000
    assert text_out(t.NUMERIC, text_in(t.NUMERIC, -1, digits)) == digits
    assert text_in(t.JSONB, -1, digits[:10_000]) == digits[:10_000]
    numeric = text_in(t.NUMERIC, -1, digits)
    assert binary_decoder(t.NUMERIC)(binary_encoder(t.NUMERIC)(numeric)) == numeric
    for pg_type in (t.INT4, t.INT8, t.OID, t.MONEY, t.DATE, t.TIMESTAMP, t.INTERVAL):
        with pytest.raises(MeridianError):
            text_in(pg_type, -1, digits)
    assert text_in(t.FLOAT8, -1, "0." + "0" * 5000 + "1e5001") == 1.0
    assert text_in(t.INT4, -1, "0" * 5000 + "7") == 7


def test_now_needs_a_clock() -> None:
    """'now' is the time handed in, on the clock of the session's zone."""
    settings = IoSettings(timezone="Asia/Tokyo")
    noon = 820_022_400_000_000  # 2025-12-26 00:00 UTC
    assert text_in(t.TIMESTAMPTZ, -1, "now", settings, lambda: noon) == noon
    assert text_out(t.TIMESTAMP, text_in(t.TIMESTAMP, -1, "now", settings, lambda: noon)) == "2025-12-26 09:00:00"
    assert text_out(t.DATE, text_in(t.DATE, -1, "tomorrow", settings, lambda: noon)) == "2025-12-27"
    assert text_out(t.TIMETZ, text_in(t.TIMETZ, -1, "10:00", settings, lambda: noon)) == "10:00:00+09"
    with pytest.raises(MeridianError):
        text_in(t.TIMESTAMPTZ, -1, "now")


def test_a_record_without_field_types_is_guessed() -> None:
    assert text_out(t.RECORD, (1, "a b", None, True, Decimal("1.50"), (2, "x"))) == '(1,"a b",,t,1.50,"(2,x)")'


def test_reg_types_ask_the_resolver() -> None:
    class Names(RegResolver):
        def name_of(self, type_oid: int, oid: int) -> str | None:
            return {1259: "pg_class"}.get(oid)

        def oid_of(self, type_oid: int, name: str) -> int:
            return {"pg_class": 1259}[name]

    settings = IoSettings(regs=Names())
    assert text_in(t.REGCLASS, -1, "pg_class", settings) == 1259
    assert text_out(t.REGCLASS, 1259, settings) == "pg_class"
    assert text_out(t.REGCLASS, 99, settings) == "99"
    assert text_encoder(t.array_of(t.REGCLASS), settings)((1259, 0)) == b"{pg_class,-}"


def test_lower_bounds_other_than_one_are_refused() -> None:
    assert text_in(t.array_of(t.INT4), -1, "[1:2]={5,6}") == (5, 6)
    with pytest.raises(FeatureNotSupported):
        text_in(t.array_of(t.INT4), -1, "[0:1]={5,6}")


# --- names and typmods ----------------------------------------------------------------------------

NAMES = [
    (t.VARCHAR, (10,), "", "character varying(10)"), (t.BPCHAR, (3,), "", "character(3)"), (t.NUMERIC, (10, 2), "", "numeric(10,2)"), (t.NUMERIC, (5, -2), "", "numeric(5,-2)"),
    (t.TIMESTAMPTZ, (3,), "", "timestamp(3) with time zone"), (t.TIME, (0,), "", "time(0) without time zone"), (t.INTERVAL, (), "year to month", "interval year to month"),
    (t.INTERVAL, (3,), "day to second", "interval day to second(3)"), (t.INTERVAL, (2,), "", "interval(2)"), (t.BIT, (4,), "", "bit(4)"), (t.VARBIT, (4,), "", "bit varying(4)"), (t.INT4, (), "", "integer"),
    (t.array_of(t.VARCHAR), (5,), "", "character varying(5)[]"), (t.TIMESTAMP, (), "", "timestamp without time zone"), (t.CHAR, (), "", '"char"'), (MOOD, (), "", "mood"),
]  # fmt: skip


@pytest.mark.parametrize(("pg_type", "args", "fields", "name"), NAMES, ids=[n[3] for n in NAMES])
def test_type_names(pg_type: PgType, args: tuple[int, ...], fields: str, name: str) -> None:
    assert type_name(pg_type, typmod_from_args(pg_type, args, fields)) == name


def test_names_of_columns() -> None:
    """What \\d prints: a bare character would declare character(1)."""
    assert type_name(t.BPCHAR) == "character"
    assert column_type_name(t.BPCHAR, -1) == "bpchar"
    assert column_type_name(t.array_of(t.BIT), -1) == '"bit"[]'
    assert column_type_name(t.BPCHAR, 7) == "character(3)"


def test_casts_cut_and_assignments_complain() -> None:
    typmod = typmod_from_args(t.VARCHAR, [3])
    assert apply_typmod(t.VARCHAR, typmod, "abcdef", explicit=True) == "abc"
    assert apply_typmod(t.VARCHAR, typmod, "abc   ") == "abc"
    with pytest.raises(MeridianError, match=r"value too long for type character varying\(3\)"):
        apply_typmod(t.VARCHAR, typmod, "abcdef")
    assert apply_typmod(t.BPCHAR, typmod, "a") == "a  "
    assert apply_typmod(t.BIT, 4, "10", explicit=True) == "1000"
    assert apply_typmod(t.array_of(t.NUMERIC), typmod_from_args(t.NUMERIC, [3, 1]), (Decimal("1.25"), None)) == (
        Decimal("1.3"),
        None,
    )
    assert apply_typmod(t.VARCHAR, typmod, None) is None


def test_wrong_typmods() -> None:
    for pg_type, args, sqlstate in (
        (t.VARCHAR, (0,), "22023"),
        (t.NUMERIC, (1001,), "22023"),
        (t.NUMERIC, (1, 2, 3), "22023"),
        (t.INT4, (1,), "42601"),
        (t.TIMESTAMP, (-1,), "22023"),
    ):
        with pytest.raises(MeridianError) as failure:
            typmod_from_args(pg_type, args)
        assert failure.value.sqlstate == sqlstate


# --- settings ---------------------------------------------------------------------------------------


def test_datestyle() -> None:
    assert datestyle_from_text("german") == "German, DMY"
    assert datestyle_from_text("sql, dmy") == "SQL, DMY"
    assert datestyle_from_text("ymd", "Postgres, MDY") == "Postgres, YMD"
    assert datestyle_from_text("iso, sql") is None
    assert datestyle_from_text("martian") is None


def test_zone_names() -> None:
    """A bare number is hours east; POSIX names count west."""
    expected = {
        "europe/BERLIN": "Europe/Berlin",
        "utc": "UTC",
        "-7": "<-07>+07",
        "5.5": "<+05:30>-05:30",
        "EST5EDT": "EST5EDT",
        "Mars/Base": None,
        "../etc/passwd": None,
        "": None,
    }
    assert {name: canonical_zone(name) for name in expected} == expected


def test_zones_over_the_centuries() -> None:
    """Before the first change, in the table, and by the rule after it, far beyond the year 9999."""
    zone = find_zone("America/New_York")
    assert zone is not None
    day = 86_400
    for date, expected in (
        ((1800, 1, 1), -17_762),
        ((1990, 7, 1), -14_400),
        ((2050, 1, 1), -18_000),
        ((50_000, 7, 1), -14_400),
    ):
        seconds = (calendar.days_from_civil(*date) + calendar.UNIX_EPOCH_DAYS) * day
        assert zone.offset_at(seconds) == expected


# --- round trips ------------------------------------------------------------------------------------

_TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=20)
_NUMERIC = st.decimals(allow_nan=False, allow_infinity=False).map(
    lambda d: text_in(t.NUMERIC, -1, format(d, "f")) if abs(d.adjusted()) < 1000 else Decimal(1)
)
_INT4 = st.integers(-(2**31), 2**31 - 1)
_US = st.integers(0, 86_400_000_000)
_STAMP = st.integers(calendar.TIMESTAMP_MIN + calendar.DAY_US, calendar.TIMESTAMP_END - calendar.DAY_US)
_INTERVAL = st.tuples(_INT4, _INT4, st.integers(-(2**62), 2**62))
STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(), "int2": st.integers(-(2**15), 2**15 - 1), "int4": _INT4, "int8": st.integers(-(2**63), 2**63 - 1), "oid": st.integers(0, 2**32 - 1), "float8": st.floats(allow_nan=False),
    "float4": st.floats(width=32, allow_nan=False), "numeric": _NUMERIC, "text": _TEXT, "bytea": st.binary(max_size=20), "uuid": st.binary(min_size=16, max_size=16),
    "date": st.integers(calendar.DATE_MIN, calendar.DATE_END - 1), "timestamp": _STAMP, "timestamptz": _STAMP, "time": _US, "timetz": st.tuples(_US, st.integers(-57_599, 57_599)), "interval": _INTERVAL,
    "varbit": st.text("01", max_size=30), "pg_lsn": st.integers(0, 2**64 - 1), "money": st.integers(-(2**63), 2**63 - 1),
}  # fmt: skip
ZONES = ["UTC", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "<+03:30>-03:30", "Europe/Dublin"]


@QUICK
@given(st.data())
@pytest.mark.parametrize("name", list(STRATEGIES))
def test_round_trips(name: str, data: st.DataObject) -> None:
    """Every value comes back from its text, its binary form, and both inside an array."""
    pg_type = BY_NAME[name]
    settings = IoSettings(timezone=data.draw(st.sampled_from(ZONES)))
    value = data.draw(STRATEGIES[name])
    assert text_decoder(pg_type, -1, settings)(text_encoder(pg_type, settings)(value)) == value
    assert binary_decoder(pg_type)(binary_encoder(pg_type)(value)) == value
    array_type = t.array_of(pg_type)
    row = (value, None, value)
    for array in (row, (row, row), ()):
        assert text_decoder(array_type, -1, settings)(text_encoder(array_type, settings)(array)) == array
        assert binary_decoder(array_type)(binary_encoder(array_type)(array)) == array


@QUICK
@given(_INTERVAL, st.sampled_from(["postgres", "postgres_verbose", "sql_standard", "iso_8601"]))
def test_intervals_in_all_styles(value: tuple[int, int, int], style: str) -> None:
    settings = IoSettings(intervalstyle=style)
    assert text_in(t.INTERVAL, -1, text_out(t.INTERVAL, value, settings), settings) == value


@QUICK
@given(_STAMP, st.sampled_from(["ISO, YMD", "SQL, MDY", "SQL, DMY", "Postgres, MDY", "Postgres, DMY", "German, DMY"]))
def test_timestamps_in_all_styles(value: int, datestyle: str) -> None:
    settings = IoSettings(datestyle=datestyle)
    assert text_in(t.TIMESTAMP, -1, text_out(t.TIMESTAMP, value, settings), settings) == value


@QUICK
@given(st.tuples(st.one_of(st.none(), _INT4), st.one_of(st.none(), _TEXT)))
def test_records(value: tuple[Any, ...]) -> None:
    assert text_in(PAIR, -1, text_out(PAIR, value)) == value
    assert binary_decoder(PAIR)(binary_encoder(PAIR)(value)) == value


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | _TEXT | st.decimals(-(10**9), 10**9, places=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)


@QUICK
@given(_JSON)
def test_jsonb_is_canonical(document: Any) -> None:
    """The canonical text reads back as the same document and as the same text; both printers agree."""
    printed = json.canonical_text(document)
    assert json.parse_jsonb(printed) == printed
    assert json.canonical_text(json.decode_json(printed)) == printed
    assert json.parse_json(printed) == printed


@QUICK
@given(st.integers(-2_400_000, 2_400_000))
def test_calendar(days: int) -> None:
    year, month, day = calendar.civil_from_days(days)
    assert calendar.days_from_civil(year, month, day) == days
    assert calendar.day_of_year(year, month, day) == days - calendar.days_from_civil(year, 1, 1) + 1
    iso_year, week = calendar.iso_year_and_week(days)
    assert 0 <= days - calendar.iso_week_start(iso_year) - (week - 1) * 7 < 7


def test_nan_comes_back() -> None:
    for pg_type in (t.FLOAT4, t.FLOAT8, t.NUMERIC):
        for value in (
            text_in(pg_type, -1, "NaN"),
            binary_decoder(pg_type)(binary_encoder(pg_type)(text_in(pg_type, -1, "NaN"))),
        ):
            assert math.isnan(value)
            assert text_out(pg_type, value) == "NaN"


# --- harmful binary input -----------------------------------------------------------------------------

HARMFUL = [
    (t.INT4, "00", "08P01"), (t.INT4, "0000000000", "22P03"), (t.UUID, "00" * 15, "08P01"), (t.BOOL, "", "08P01"),
    (t.NUMERIC, "ffff000000000000", "08P01"), (t.NUMERIC, "0001000000000000", "08P01"), (t.NUMERIC, "00010000000000002710", "22P03"), (t.NUMERIC, "0000000012340000", "22P03"), (t.NUMERIC, "0000000000004000", "22P03"),
    (t.NUMERIC, "000000000000", "08P01"), (t.NUMERIC, "00010000000000000001ff", "22P03"), (t.NUMERIC, "80000000", "08P01"),
    (t.DATE, "7ffffffe", "22008"), (t.TIMESTAMP, "7ffffffffffffffe", "22008"), (t.TIME, "000000141dd76001", "22008"), (t.TIME, "ffffffffffffffff", "22008"), (t.TIMETZ, "0000000000000000000186a0", "22009"),
    (t.array_of(t.INT4), "00000007000000000000001700000001", "54000"), (t.array_of(t.INT4), "ffffffff0000000000000017", "22P03"), (t.array_of(t.INT4), "000000010000000000000017ffffffff00000001", "54000"),
    (t.array_of(t.INT4), "0000000200000000000000170001000000000001" + "0001000000000001", "54000"), (t.array_of(t.INT4), "0000000100000000000000177fffffff00000001", "54000"), (t.array_of(t.INT4), "00000001000000000000001707ffffff00000001", "08P01"),
    (t.array_of(t.INT4), "000000010000000000000019" + "0000000100000001" + "0000000400000001", "42804"), (t.array_of(t.INT4), "000000010000000000000017" + "0000000100000001" + "7fffffff00000001", "22P03"), (t.array_of(t.INT4), "000000010000000000000017" + "0000000100000001" + "fffffffe00000001", "22P03"),
    (t.array_of(t.INT4), "0000000100000002" + "00000017" + "0000000100000001" + "ffffffff", "22P03"), (t.array_of(t.INT4), "", "08P01"), (t.array_of(t.INT4), "000000010000000000000017" + "0000000100000001" + "ffffffff00", "22P03"),
    (t.JSONB, "027b7d", "XX000"), (t.JSONB, "", "08P01"), (t.JSONB, "017b", "22P02"), (t.TEXT, "ff", "22021"), (t.TEXT, "6100", "22021"), (t.VARBIT, "ffffffff", "22P03"), (t.VARBIT, "7fffffff", "22P03"), (t.VARBIT, "0000000900", "08P01"),
    (t.INET, "0220", "08P01"), (t.INET, "0920000401020304", "22P03"), (t.INET, "0221000401020304", "22P03"), (t.INET, "0220000501020304", "22P03"), (t.CIDR, "0208010401020304", "22P03"), (PAIR, "00000003", "42804"), (PAIR, "0000000200000019ffffffff", "42804"),
    (PAIR, "000000020000001700000008", "22P03"), (MOOD, "78", "22P02"),
]  # fmt: skip


@pytest.mark.parametrize(("pg_type", "data", "sqlstate"), HARMFUL, ids=[f"{h[0]}-{h[1][:30]}" for h in HARMFUL])
def test_harmful_binary(pg_type: PgType, data: str, sqlstate: str) -> None:
    """Wrong lengths, counts, digits and signs: an error, at once and without great allocation."""
    with pytest.raises(MeridianError) as failure:
        binary_decoder(pg_type)(bytes.fromhex(data))
    assert failure.value.sqlstate == sqlstate


@QUICK
@given(st.sampled_from(sorted(BY_NAME)), st.binary(max_size=60))
def test_any_bytes_are_a_value_or_an_error(name: str, data: bytes) -> None:
    """No input makes a decoder fail otherwise than with an error for the client."""
    pg_type = BY_NAME[name]
    for make in (lambda: binary_decoder(pg_type), lambda: text_decoder(pg_type, -1, IoSettings())):
        try:
            value = make()(data)
        except MeridianError:
            continue
        if pg_type.kind == "b":
            text_encoder(pg_type, IoSettings())(value)
            binary_encoder(pg_type)(value)


@QUICK
@given(
    st.sampled_from(
        [
            "date",
            "timestamp",
            "timestamptz",
            "time",
            "timetz",
            "interval",
            "json",
            "jsonb",
            "_text",
            "inet",
            "numeric",
            "float4",
        ]
    ),
    st.data(),
)
def test_any_text_is_a_value_or_an_error(name: str, data: st.DataObject) -> None:
    """Words and signs that mean something to the parsers, in any order."""
    pieces = [
        "1",
        "12",
        "2000",
        "-",
        "+",
        ":",
        ".",
        "/",
        " ",
        "jan",
        "pst",
        "bc",
        "t",
        "p",
        "P",
        "T",
        "day",
        "ago",
        "e",
        "{",
        "}",
        '"',
        "\\",
        "[",
        "]",
        ",",
        "infinity",
        "j",
        "am",
        "msk",
        "1:2",
        "é",
        "null",
        "0x",
        "::",
    ]
    text = "".join(data.draw(st.lists(st.sampled_from(pieces), max_size=10)))
    try:
        value = text_in(BY_NAME[name], -1, text, IoSettings(timezone="Europe/Moscow"), lambda: 0)
    except MeridianError:
        return
    text_out(BY_NAME[name], value)
