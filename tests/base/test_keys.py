"""Keys: golden bytes, order against slow comparators, round trips, spans."""

from __future__ import annotations

import struct
from decimal import Decimal
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from base import types as t
from base.errors import FeatureNotSupported, SqlError, StorageFailure
from base.keys import (
    RANGE_ERRORS,
    KeyCodec,
    KeyColumn,
    index_prefix,
    index_span,
    prefix_end,
    split_prefix,
    table_span,
)
from tests.base.datums import CASES, EMAIL, MOOD, compare, nulls_last

FAST = settings(max_examples=30, deadline=None, derandomize=True)
P = index_prefix(100, 1)


def one(pg_type: t.PgType, **options: Any) -> KeyCodec:
    return KeyCodec(b"", [KeyColumn(pg_type, **options)])


def hex_of(pg_type: t.PgType, value: Any, **options: Any) -> str:
    return one(pg_type, **{"nullable": False, **options}).encode((value,)).hex(" ")


# --- golden bytes --------------------------------------------------------------


def test_prefix_is_seven_bytes() -> None:
    assert P.hex(" ") == "10 00 00 00 64 00 01"
    assert split_prefix(P + b"rest") == (100, 1)
    assert table_span(100) == (bytes.fromhex("1000000064"), bytes.fromhex("1000000065"))
    assert index_span(100, 0xFFFF) == (bytes.fromhex("1000000064ffff"), bytes.fromhex("1000000065"))


@pytest.mark.parametrize(
    ("pg_type", "value", "expected"),
    [
        (t.BOOL, True, "01"),
        (t.INT2, -1, "7f ff"),
        (t.INT4, 1, "80 00 00 01"),
        (t.INT8, -(2**63), "00 00 00 00 00 00 00 00"),
        (t.OID, 16384, "00 00 40 00"),
        (t.FLOAT8, 1.0, "bf f0 00 00 00 00 00 00"),
        (t.FLOAT8, -0.0, "80 00 00 00 00 00 00 00"),
        (t.FLOAT8, -1.0, "40 0f ff ff ff ff ff ff"),
        (t.TEXT, "a\0b", "61 00 ff 62 00 01"),
        (t.BPCHAR, "ab   ", "61 62 00 01"),
        (t.BYTEA, b"", "00 01"),
        (t.NUMERIC, Decimal("0.00"), "80"),
        (t.NUMERIC, Decimal("123.450"), "ae 13 35 51 00"),
        (t.NUMERIC, Decimal("-123.45"), "51 ec ca ae ff"),
        (t.NUMERIC, Decimal("NaN"), "ff"),
        (t.INTERVAL, (1, 0, 0), "80 00 00 00 00 00 02 5b 7f 3d 40 00"),
        (t.INTERVAL, (0, 30, 0), "80 00 00 00 00 00 02 5b 7f 3d 40 00"),
        (MOOD, "ok", "80 00 00 07"),
        (t.array_of(t.INT2), (1, None), "02 80 01 03 01 01 00 00 00 02"),
        (t.array_of(t.INT2), (), "01 00"),
        (t.VARBIT, "101", "31 30 31 00 01"),
        (t.INET, "10.1.0.7/8", "04 0a 00 00 00 08 0a 01 00 07"),
        (t.JSONB, "[]", "00"),
        (t.JSONB, '{"a": null}', "11 00 00 00 01 61 00 01 01"),
    ],
)
def test_golden_bytes(pg_type: t.PgType, value: Any, expected: str) -> None:
    assert hex_of(pg_type, value) == expected


def test_null_tags() -> None:
    assert hex_of(t.INT2, 1, nullable=True) == "02 80 01"
    assert hex_of(t.INT2, None, nullable=True) == "f0"
    assert hex_of(t.INT2, None, nullable=True, descending=True) == "01"
    assert hex_of(t.INT2, None, nullable=True, nulls_first=True) == "01"
    assert hex_of(t.INT2, None, nullable=True, descending=True, nulls_first=False) == "f0"


def test_descending_inverts_the_value_and_not_the_tag() -> None:
    assert hex_of(t.INT2, 1, nullable=True, descending=True) == "02 7f fe"
    assert hex_of(t.TEXT, "a", descending=True) == "9e ff fe"


def test_fixed_columns_share_one_pack_call() -> None:
    codec = KeyCodec(P, [KeyColumn(t.INT4, nullable=False), KeyColumn(t.INT8, nullable=False)])
    expression, namespace = codec.encode_source(["a", "b"])
    assert expression.startswith("key_pack_7sIQ(")
    assert expression.count("(") == 1
    key = eval(expression, dict(namespace), {"a": 3, "b": 4})
    assert key == P + bytes.fromhex("80000003 8000000000000004")
    assert key == codec.encode((3, 4))


# --- properties of single columns ------------------------------------------------


@st.composite
def column_and_values(draw: st.DrawFn) -> tuple[str, list[Any]]:
    name = draw(st.sampled_from(sorted(CASES)))
    values = draw(st.lists(CASES[name][1] | st.none(), min_size=2, max_size=6))
    return name, values


@pytest.mark.parametrize("name", sorted(CASES))
def test_order_of_keys_is_order_of_values(name: str) -> None:
    pg_type, strategy, compare_values = CASES[name]
    ascending = one(pg_type, nullable=False)
    descending = one(pg_type, nullable=False, descending=True)

    @FAST
    @given(st.lists(strategy, min_size=2, max_size=6))
    def check(values: list[Any]) -> None:
        for a, b in combinations(values, 2):
            order = compare_values(a, b)
            assert compare(ascending.encode((a,)), ascending.encode((b,))) == order, (a, b)
            assert compare(descending.encode((a,)), descending.encode((b,))) == -order, (a, b)

    check()


@pytest.mark.parametrize("name", sorted(CASES))
def test_round_trip(name: str) -> None:
    pg_type, strategy, compare_values = CASES[name]

    @FAST
    @given(strategy, st.booleans())
    def check(value: Any, descending: bool) -> None:
        codec = KeyCodec(P, [KeyColumn(pg_type, descending), KeyColumn(pg_type, descending, nullable=False)], b"\0")
        decoded = codec.decode(codec.encode((value, value)))
        assert codec.decode(codec.encode((None, value))) == (None, decoded[0]) or decoded[0] != decoded[0]
        if codec.restorable[0]:
            assert decoded == (value, value)
            assert repr(decoded) == repr((value, value))
        else:
            assert compare_values(decoded[0], value) == 0, (decoded, value)
            assert codec.encode(decoded) == codec.encode((value, value))

    check()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(column_and_values(), st.booleans(), st.sampled_from([None, True, False]))
def test_nulls_go_where_the_column_says(
    case: tuple[str, list[Any]], descending: bool, nulls_first: bool | None
) -> None:
    name, values = case
    codec = one(CASES[name][0], descending=descending, nulls_first=nulls_first)
    first = descending if nulls_first is None else nulls_first
    for a in values:
        for b in values:
            order = nulls_last(CASES[name][2])(a, b)
            if a is None or b is None:
                order = -order if first else order
            elif descending:
                order = -order
            assert compare(codec.encode((a,)), codec.encode((b,))) == order, (a, b)


# --- properties of whole keys ------------------------------------------------------


@st.composite
def codec_and_rows(draw: st.DrawFn) -> tuple[KeyCodec, list[str], list[tuple[Any, ...]]]:
    """A codec of one to four columns and some rows that often share leading values."""
    names = draw(st.lists(st.sampled_from(sorted(CASES)), min_size=1, max_size=4))
    columns = []
    strategies = []
    for name in names:
        nullable = draw(st.booleans())
        columns.append(
            KeyColumn(CASES[name][0], draw(st.booleans()), nullable, draw(st.sampled_from([None, True, False])))
        )
        pool = draw(st.lists(CASES[name][1] | st.none() if nullable else CASES[name][1], min_size=1, max_size=2))
        strategies.append(st.sampled_from(pool))
    rows = draw(st.lists(st.tuples(*strategies), min_size=2, max_size=5))
    return KeyCodec(P, columns, draw(st.sampled_from([b"", b"\0"]))), names, rows


def compare_rows(codec: KeyCodec, names: list[str], a: tuple[Any, ...], b: tuple[Any, ...]) -> int:
    """The honest model: column by column."""
    for column, name, x, y in zip(codec.columns, names, a, b):
        order = nulls_last(CASES[name][2])(x, y)
        flip = column.nulls_first if x is None or y is None else column.descending
        if order:
            return -order if flip else order
    return 0


@settings(max_examples=60, deadline=None, derandomize=True)
@given(codec_and_rows())
def test_rows_order_decode_and_are_prefix_free(case: tuple[KeyCodec, list[str], list[tuple[Any, ...]]]) -> None:
    codec, names, rows = case
    for a in rows:
        decoded = codec.decode(codec.encode(a))
        assert codec.encode(decoded) == codec.encode(a)
        assert compare_rows(codec, names, decoded, a) == 0
        for b in rows:
            key_a, key_b = codec.encode(a), codec.encode(b)
            assert compare(key_a, key_b) == compare_rows(codec, names, a, b)
            if key_a != key_b:
                assert not key_b.startswith(key_a)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(codec_and_rows(), st.data())
def test_decode_source_reads_any_selection(
    case: tuple[KeyCodec, list[str], list[tuple[Any, ...]]], data: st.DataObject
) -> None:
    codec, _, rows = case
    wanted = data.draw(st.lists(st.sampled_from(range(len(codec.columns))), unique=True))
    lines, values, namespace = codec.decode_source("key", wanted, "x")
    for row in rows:
        scope = dict(namespace, key=codec.encode(row))
        exec("\n".join(lines), scope)
        full = codec.decode(scope["key"])
        assert repr([eval(value, scope) for value in values]) == repr([full[position] for position in wanted])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(codec_and_rows(), st.data())
def test_span_holds_exactly_the_rows_with_that_prefix(
    case: tuple[KeyCodec, list[str], list[tuple[Any, ...]]], data: st.DataObject
) -> None:
    codec, names, rows = case
    length = data.draw(st.integers(0, len(codec.columns)))
    start, end = codec.span(rows[0][:length])
    for row in rows:
        inside = compare_rows(codec, names, row[:length], rows[0][:length]) == 0
        assert (start <= codec.encode(row) < end) == inside


@settings(max_examples=100, deadline=None, derandomize=True)
@given(codec_and_rows(), st.data())
def test_range_span_holds_exactly_the_rows_between(
    case: tuple[KeyCodec, list[str], list[tuple[Any, ...]]], data: st.DataObject
) -> None:
    codec, names, rows = case
    length = data.draw(st.integers(0, len(codec.columns) - 1))
    lower, upper = data.draw(st.sampled_from(rows))[length], data.draw(st.sampled_from(rows))[length]
    lower_inclusive, upper_inclusive = data.draw(st.booleans()), data.draw(st.booleans())
    prefix = rows[0][:length]
    start, end = codec.range_span(prefix, lower, lower_inclusive, upper, upper_inclusive)
    assert start <= end
    compare_values = CASES[names[length]][2]
    for row in rows:
        value = row[length]
        inside = compare_rows(codec, names, row[:length], prefix) == 0 and value is not None
        if inside and lower is not None:
            order = compare_values(value, lower)
            inside = order > 0 or (order == 0 and lower_inclusive)
        if inside and upper is not None:
            order = compare_values(value, upper)
            inside = order < 0 or (order == 0 and upper_inclusive)
        assert (start <= codec.encode(row) < end) == inside, (row, lower, upper)
    names_of = [f"v{i}" for i in range(length)]
    bounds = (None if lower is None else "low", lower_inclusive, None if upper is None else "high", upper_inclusive)
    lines, scope = codec.range_source(names_of, *bounds)
    scope |= dict(zip(names_of, prefix)) | {"low": lower, "high": upper}
    exec("\n".join(lines), scope)
    assert (scope["start"], scope["end"]) == (start, end) or (start == end and scope["start"] >= scope["end"])


@pytest.mark.parametrize("nullable", [True, False])
@pytest.mark.parametrize("descending", [True, False])
def test_range_span_clamps_bounds_out_of_range(nullable: bool, descending: bool) -> None:
    codec = KeyCodec(P, [KeyColumn(t.INT4, descending, nullable)])
    extremes = [codec.encode((value,)) for value in (-(2**31), 0, 2**31 - 1)]
    everything = codec.range_span((), None, True, None, True)
    assert codec.range_span((), -(2**40), True, 2**40, False) == everything
    assert all(everything[0] <= key < everything[1] for key in extremes)
    for bounds in ((2**40, True, None, True), (None, True, -(2**40), True), (2**80, True, 2**81, True)):
        start, end = codec.range_span((), *bounds)
        assert start == end


def test_float_bound_beyond_float4_is_clamped() -> None:
    codec = KeyCodec(P, [KeyColumn(t.FLOAT4, nullable=False)])
    start, end = codec.range_span((), 1e300, True, None, True)
    assert start == end


# --- refusals --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pg_type", "value"),
    [(t.INT2, 2**15), (t.INT4, -(2**31) - 1), (t.INT4, 2**63), (t.INT8, 2**64), (t.OID, -1), (t.FLOAT4, 1e300)],
)
@pytest.mark.parametrize("descending", [True, False])
def test_out_of_range_raises(pg_type: t.PgType, value: Any, descending: bool) -> None:
    with pytest.raises(RANGE_ERRORS):
        one(pg_type, descending=descending).encode((value,))
    with pytest.raises(RANGE_ERRORS):
        one(pg_type, descending=descending, nullable=False).encode((value,))


def test_unordered_types_have_no_keys() -> None:
    with pytest.raises(
        SqlError, match='data type json has no default operator class for access method "btree"'
    ) as caught:
        KeyColumn(t.JSON)
    assert caught.value.sqlstate == "42704"
    with pytest.raises(FeatureNotSupported):
        KeyColumn(t.RECORD)


def test_deeply_nested_jsonb_is_too_complex() -> None:
    with pytest.raises(SqlError) as caught:
        one(t.JSONB).encode(("[" * 50_000 + "]" * 50_000,))
    assert caught.value.sqlstate == "54001"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(codec_and_rows(), st.data())
def test_garbage_is_corruption(case: tuple[KeyCodec, list[str], list[tuple[Any, ...]]], data: st.DataObject) -> None:
    """Truncated keys always; flipped bytes either decode to something or are refused clearly."""
    codec, _, rows = case
    key = codec.encode(rows[0])
    cut = data.draw(st.integers(len(P), len(key) - 1))
    with pytest.raises(StorageFailure):
        codec.decode(key[:cut])
    with pytest.raises(StorageFailure):
        codec.decode(key + b"\0")
    at = data.draw(st.integers(len(P), len(key) - 1))
    flipped = key[:at] + bytes((key[at] ^ data.draw(st.integers(1, 255)),)) + key[at + 1 :]
    try:
        codec.decode(flipped)
    except StorageFailure:
        pass


def test_which_types_are_restorable() -> None:
    lossy = {name for name, (pg_type, _, _) in CASES.items() if not one(pg_type).restorable[0]}
    assert lossy == {"numeric", "float4", "float8", "bpchar", "interval", "inet", "jsonb", "numeric[]", "interval[]"}
    assert one(EMAIL).restorable == (True,)


def test_numeric_with_many_digits() -> None:
    huge = Decimal("1" * 6000)
    codec = one(t.NUMERIC, nullable=False)
    assert codec.decode(codec.encode((huge,))) == (huge,)
    assert codec.encode((huge,)) < codec.encode((huge.copy_abs().next_plus(_exact()),))


def _exact() -> Any:
    from base.keyvalues import EXACT

    context = EXACT.copy()
    context.prec = 6001
    return context


def test_enum_label_added_later() -> None:
    mood = t.PgType(16600, "mood2", 4, "E", kind="e")
    mood.enum_physical = {"a": 0}
    codec = one(mood, nullable=False)
    assert codec.decode(codec.encode(("a",))) == ("a",)
    mood.enum_physical["b"] = 10
    assert codec.decode(codec.encode(("b",))) == ("b",)
    with pytest.raises(StorageFailure, match="no label of enum mood2"):
        codec.decode(struct.pack(">I", 5 + 2**31))


def test_parent_key_is_no_prefix_of_its_children() -> None:
    """Interleaving: parent rows end with 00, children continue with 01 and their table id."""
    parent = KeyCodec(P, [KeyColumn(t.INT4, nullable=False)], suffix=b"\0")
    child = KeyCodec(parent.encode_prefix((1,)) + b"\x01" + struct.pack(">I", 200), [KeyColumn(t.INT4, nullable=False)])
    assert parent.encode((1,)) < child.encode((-5,)) < parent.encode((2,))
    assert not child.encode((7,)).startswith(parent.encode((1,)))


@given(st.binary(max_size=4) | st.lists(st.just(255), max_size=4).map(bytes), st.binary(max_size=4))
@FAST
def test_prefix_end(prefix: bytes, rest: bytes) -> None:
    end = prefix_end(prefix)
    if end:
        assert prefix + rest < end
        assert prefix + b"\xff" * 9 < end
        assert end[:-1] + bytes((end[-1] - 1,)) == prefix[: len(end)]
    else:
        assert prefix.strip(b"\xff") == b""
