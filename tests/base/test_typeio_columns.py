"""Whole columns of fields against the same fields one by one: the same datums to the last digit, or the same error."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from base import types as t
from base.errors import MeridianError
from base.typeio import text_parser
from base.typeio.columns import column_parser
from base.typeio.numeric import numeric_typmod
from base.typeio.settings import IoSettings
from base.types import PgType

ODD = (
    "",
    " ",
    " 7",
    "7 ",
    "+7",
    "-",
    "--7",
    "7-",
    "1_000",
    "0x1f",
    "1e3",
    "NaN",
    "-Infinity",
    ".5",
    "5.",
    "\u0661\u0662",
    "é",
    "a" * 9,
)
NUMBERS = (
    "0",
    "-0",
    "-0.00",
    "0.00",
    "00.50",
    "1.5",
    "-1.25",
    "99.99",
    "999.99",
    "9999",
    "32767",
    "32768",
    "-32768",
    "2147483648",
)
COLUMNS = {
    "int2": (t.INT2, -1),
    "int4": (t.INT4, -1),
    "int8": (t.INT8, -1),
    "numeric": (t.NUMERIC, -1),
    "numeric(5,2)": (t.NUMERIC, numeric_typmod(5, 2)),
    "numeric(2,2)": (t.NUMERIC, numeric_typmod(2, 2)),
    "numeric(3)": (t.NUMERIC, numeric_typmod(3)),
    "numeric(2,4)": (t.NUMERIC, numeric_typmod(2, 4)),
    "numeric(3,-2)": (t.NUMERIC, numeric_typmod(3, -2)),
    "text": (t.TEXT, -1),
    "varchar": (t.VARCHAR, -1),
    "varchar(4)": (t.VARCHAR, 8),
    "char(4)": (t.BPCHAR, 8),
    "bpchar": (t.BPCHAR, -1),
    "bool": (t.BOOL, -1),
    "date": (t.DATE, -1),
    "timestamptz(3)": (t.TIMESTAMPTZ, 3),
}
SPECIAL = {
    "bool": ("t", "off", "true"),
    "date": ("2026-01-31", "infinity"),
    "timestamptz(3)": ("2026-01-31 10:00:00.0015+01",),
}


def outcome(run: Any) -> Any:
    try:
        return repr(run())
    except MeridianError as error:
        return error.sqlstate, str(error), error.detail


@pytest.mark.parametrize("name", sorted(COLUMNS))
def test_columns_read_as_their_fields(name: str) -> None:
    pg_type: PgType
    pg_type, typmod = COLUMNS[name]
    parse = text_parser(pg_type, typmod, IoSettings())
    parse_column = column_parser(pg_type, typmod, parse)
    plain = st.sampled_from((*NUMBERS, *SPECIAL.get(name, ()))) | st.integers(-(10**6), 10**6).map(str)
    decimals = st.decimals(-1000, 1000, places=2).map(str)
    digits = st.integers(0, 99).map(lambda n: f"{n:02d}"), st.integers(0, 99).map(lambda n: f"0.{n:02d}")
    any_field = st.one_of(plain, decimals, *digits, st.sampled_from(ODD))
    # Most columns are of one kind.
    kinds = [plain, decimals, *digits, any_field]
    columns = st.sampled_from(kinds).flatmap(lambda kind: st.lists(st.none() | kind, max_size=12))

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(columns)
    def check(fields: list[str | None]) -> None:
        expected = outcome(lambda: [None if field is None else parse(field) for field in fields])
        found = outcome(lambda: parse_column(fields))
        assert found == expected, fields

    check()
