"""Rows: golden bytes, round trips over layouts, projections against full decoding, corruption."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from base import types as t
from base.errors import FeatureNotSupported, InternalError, StorageFailure
from base.keys import KeyCodec, KeyColumn, index_prefix
from base.projection import projected_equal
from base.rows import Layout, RowCodec, make_row_decoder
from base.rowtypes import value_form
from tests.base.datums import CASES, MOOD

FAST = settings(max_examples=40, deadline=None, derandomize=True)


def codec_of(*types: t.PgType, id: int = 1, missing: dict[int, Any] | None = None) -> RowCodec:
    layout = Layout(id, tuple(enumerate(types, 1)))
    return RowCodec({id: layout}, layout, missing)


# --- golden bytes --------------------------------------------------------------


def test_golden_row() -> None:
    codec = codec_of(t.INT4, t.TEXT, t.BOOL, t.TEXT, id=5)
    value = codec.encode((7, "ab", None, "c"))
    header, bitmap, fixed, ends, varying = "0500", "04", "07000000 00", "0e00 0f00", "6162 63"
    assert value.hex() == (header + bitmap + fixed + ends + varying).replace(" ", "")


def test_golden_row_without_varying_columns() -> None:
    assert codec_of(t.INT2, t.INT2).encode((1, None)).hex(" ") == "01 00 02 01 00 00 00"


def test_long_rows_have_wide_offsets() -> None:
    codec = codec_of(t.TEXT, t.INT4, t.TEXT)
    value = codec.encode(("a" * 70_000, 3, "b"))
    assert value[:2] == bytes.fromhex("0180")
    assert codec.decoder((3, 2, 1))(value) == ("b", 3, "a" * 70_000)
    limit = 0xFFFF - len(codec.encode(("", 3, "")))
    assert codec.encode(("a" * limit, 3, ""))[:2] == bytes.fromhex("0100")
    assert codec.encode(("a" * (limit + 1), 3, ""))[:2] == bytes.fromhex("0180")


@pytest.mark.parametrize(
    ("pg_type", "datum", "stored"),
    [
        (t.BOOL, True, "01"),
        (t.INT8, -2, "fe ff ff ff ff ff ff ff"),
        (t.OID, 2**32 - 1, "ff ff ff ff"),
        (t.INTERVAL, (1, -1, 2), "01 00 00 00 ff ff ff ff 02 00 00 00 00 00 00 00"),
        (t.TIMETZ, (1, -3600), "01 00 00 00 00 00 00 00 f0 f1 ff ff"),
        (MOOD, "ok", "07 00 00 00"),
        (t.NUMERIC, Decimal("1.50"), "31 2e 35 30"),
        (t.array_of(t.INT2), (1, None, 3), "81 03 00 00 00 02 01 00 03 00"),
        (t.array_of(t.TEXT), ("ab", ""), "01 02 00 00 00 02 00 00 00 00 00 00 00 61 62"),
        (t.array_of(t.INT2), ((1,), (2,)), "02 02 00 00 00 01 00 00 00 01 00 02 00"),
        (t.array_of(t.INT2), (), "00"),
    ],
)
def test_golden_values(pg_type: t.PgType, datum: Any, stored: str) -> None:
    codec = codec_of(pg_type)
    value = codec.encode((datum,))
    assert value.hex(" ").endswith(stored)
    assert codec.decoder((1,))(value) == (datum,)


# --- round trips ---------------------------------------------------------------


@st.composite
def layout_and_rows(draw: st.DrawFn) -> tuple[RowCodec, list[tuple[Any, ...]]]:
    names = draw(st.lists(st.sampled_from(sorted(CASES)), min_size=1, max_size=10))
    pools = [st.none() | st.sampled_from(draw(st.lists(CASES[name][1], min_size=1, max_size=2))) for name in names]
    rows = draw(st.lists(st.tuples(*pools), min_size=2, max_size=4))
    return codec_of(*(CASES[name][0] for name in names)), rows


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_type_comes_back_exactly(name: str) -> None:
    codec = codec_of(t.BOOL, CASES[name][0], t.TEXT)
    decode = codec.decoder((2, 3))

    @settings(max_examples=30, deadline=None, derandomize=True)
    @given(CASES[name][1])
    def check(datum: Any) -> None:
        assert repr(decode(codec.encode((True, datum, "x")))) == repr((datum, "x"))

    check()


@FAST
@given(layout_and_rows(), st.data())
def test_any_columns_of_any_rows(case: tuple[RowCodec, list[tuple[Any, ...]]], data: st.DataObject) -> None:
    codec, rows = case
    column_ids = data.draw(st.lists(st.integers(1, len(rows[0])), max_size=6))
    decode = codec.decoder(column_ids)
    for row in rows:
        assert repr(decode(codec.encode(row))) == repr(tuple(row[i - 1] for i in column_ids))


@FAST
@given(layout_and_rows(), st.data())
def test_stored_text_is_the_datum_in_utf8(case: tuple[RowCodec, list[tuple[Any, ...]]], data: st.DataObject) -> None:
    """As stored bytes or as datum, in the newest layout, in an old one, and where the layout lacks the column."""
    codec, rows = case
    texts = [column_id for column_id, pg_type in codec.write.columns if value_form(pg_type).is_text]
    stored = data.draw(st.sets(st.sampled_from(texts))) if texts else set()
    newer = Layout(2, ((99, t.TEXT), *codec.write.columns[1:]))
    later = RowCodec({1: codec.write, 2: newer}, newer, {99: "späte", 1: None})
    for reader, wanted in ((codec, list(range(1, len(rows[0]) + 1))), (later, [99, *range(1, len(rows[0]) + 1)])):
        as_bytes = stored | ({99} if 99 in wanted else set())
        lines, variables, names = reader.decode_source("value", wanted, "r", as_bytes)
        for row in rows:
            scope = {**names, "value": codec.encode(row)}
            exec("\n".join(lines), scope)
            for column_id, variable, datum in zip(wanted, variables, reader.decoder(wanted)(codec.encode(row))):
                if column_id in as_bytes and datum is not None:
                    datum = datum.encode()
                assert repr(scope[variable]) == repr(datum)


def test_old_layouts_give_missing_values() -> None:
    """Column 2 was dropped; 3 was added with a default and 4 without."""
    old = Layout(1, ((1, t.INT4), (2, t.TEXT)))
    new = Layout(2, ((1, t.INT4), (3, t.NUMERIC), (4, t.TEXT)))
    codec = RowCodec({1: old, 2: new}, new, {3: Decimal("0.50")})
    old_row = RowCodec({1: old}, old).encode((7, "gone"))
    decode = codec.decoder((4, 3, 1))
    assert decode(old_row) == (None, Decimal("0.50"), 7)
    assert decode(codec.encode((8, None, "x"))) == ("x", None, 8)
    assert codec.decoder((2,))(old_row) == ("gone",)


def test_old_layout_longer_and_shorter_than_the_new() -> None:
    short = Layout(1, ((1, t.BOOL),))
    long = Layout(2, tuple((i, t.INT8) for i in range(2, 9)) + ((1, t.BOOL),))
    short_row = RowCodec({}, short).encode((True,))
    long_row = RowCodec({}, long).encode((1, 2, 3, 4, 5, 6, 7, False))
    for write in (short, long):
        codec = RowCodec({1: short, 2: long}, write)
        assert codec.decoder((1, 8))(short_row) == (True, None)
        assert codec.decoder((1, 8))(long_row) == (False, 7)


def test_row_of_no_columns() -> None:
    codec = codec_of()
    assert codec.encode(()) == bytes.fromhex("0100")
    assert codec.decoder(())(codec.encode(())) == ()


def test_sources_can_be_inlined_side_by_side() -> None:
    left, right = codec_of(t.INT4, t.TEXT), codec_of(t.NUMERIC, t.TEXT)
    left_lines, left_values, left_names = left.decode_source("x", (2, 1), "l")
    right_lines, right_values, right_names = right.decode_source("y", (1,), "r")
    scope = left_names | right_names | {"x": left.encode((1, "a")), "y": right.encode((Decimal("2.0"), "b"))}
    exec("\n".join(left_lines + right_lines), scope)
    assert [eval(value, scope) for value in left_values + right_values] == ["a", 1, Decimal("2.0")]
    lines, expression, names = left.encode_source(["p", "q"], "z")
    scope = names | {"p": None, "q": "text"}
    exec("\n".join(lines), scope)
    assert eval(expression, scope) == left.encode((None, "text"))


def test_row_decoder_takes_key_columns_from_the_key() -> None:
    """Columns 1 and 2 are the primary key and are not in the row value at all."""
    key_codec = KeyCodec(
        index_prefix(100, 1), [KeyColumn(t.INT4, nullable=False), KeyColumn(t.TEXT, True, nullable=False)]
    )
    layout = Layout(1, ((3, t.INT8), (4, t.TEXT)))
    row_codec = RowCodec({1: layout}, layout)
    key, value = key_codec.encode((5, "k")), row_codec.encode((9, "v"))
    decode = make_row_decoder(key_codec, {1: 0, 2: 1}, row_codec, (4, 2, 1, 3, 2))
    assert decode(key, value) == ("v", "k", 5, 9, "k")
    assert make_row_decoder(key_codec, {1: 0, 2: 1}, row_codec, (1,))(key, b"") == (5,)
    assert make_row_decoder(key_codec, {1: 0, 2: 1}, row_codec, (3,))(b"", value) == (9,)
    assert make_row_decoder(key_codec, {}, row_codec, ())(b"", b"") == ()
    with pytest.raises(StorageFailure, match="corrupt row value of 3 bytes at key 10"):
        decode(key, value[:3])


RESTORABLE = sorted(name for name, case in CASES.items() if KeyColumn(case[0]).form.restorable)


@FAST
@given(layout_and_rows(), st.lists(st.sampled_from(RESTORABLE), min_size=1, max_size=3), st.data())
def test_row_decoder_agrees_with_the_row(
    case: tuple[RowCodec, list[tuple[Any, ...]]], key_names: list[str], data: st.DataObject
) -> None:
    """Key columns have ids from 101, in any order among the wanted ones."""
    row_codec, rows = case
    key_codec = KeyCodec(b"p", [KeyColumn(CASES[name][0], data.draw(st.booleans())) for name in key_names], b"\0")
    key_row = tuple([data.draw(st.none() | CASES[name][1]) for name in key_names])
    positions = {101 + i: i for i in range(len(key_names))}
    known = dict(enumerate(rows[0], 1)) | {101 + i: datum for i, datum in enumerate(key_row)}
    wanted = data.draw(st.lists(st.sampled_from(sorted(known)), max_size=6))
    decode = make_row_decoder(key_codec, positions, row_codec, wanted)
    assert repr(decode(key_codec.encode(key_row), row_codec.encode(rows[0]))) == repr(tuple([known[i] for i in wanted]))


def test_row_decoder_refuses_lossy_key_columns() -> None:
    key_codec = KeyCodec(b"", [KeyColumn(t.NUMERIC)])
    with pytest.raises(AssertionError):
        make_row_decoder(key_codec, {1: 0}, codec_of(t.NUMERIC), (1,))


def test_fields_tell_where_columns_lie() -> None:
    layout = Layout(1, ((1, t.TEXT), (2, t.INT4), (3, t.TIMESTAMP), (4, t.NUMERIC)))
    assert [(field.offset, field.varying) for field in layout.fields.values()] == [(0, 0), (3, -1), (7, -1), (0, 1)]
    assert (layout.fields[3].null_byte, layout.fields[3].null_mask) == (2, 4)
    assert (layout.offsets_at, layout.varying_at(False), layout.varying_at(True)) == (15, 19, 23)


def test_types_without_storage_are_refused() -> None:
    with pytest.raises(FeatureNotSupported, match="stored values of type record"):
        Layout(1, ((1, t.RECORD),))
    with pytest.raises(FeatureNotSupported, match="stored values of type anyelement"):
        Layout(1, ((1, t.ANYELEMENT),))


# --- projections ---------------------------------------------------------------


@settings(max_examples=60, deadline=None, derandomize=True)
@given(layout_and_rows(), st.data())
def test_projection_agrees_with_full_decoding(
    case: tuple[RowCodec, list[tuple[Any, ...]]], data: st.DataObject
) -> None:
    codec, rows = case
    column_ids = data.draw(st.lists(st.integers(1, len(rows[0]) + 1), max_size=4))
    projection = codec.projection(column_ids)
    decode = codec.decoder([i for i in column_ids if i <= len(rows[0])])
    for a in rows:
        for b in rows:
            old, new = codec.encode(a), codec.encode(b)
            assert projected_equal(old, new, projection) == (repr(decode(old)) == repr(decode(new))), (a, b)


def _evolved() -> tuple[RowCodec, RowCodec]:
    """Codecs that write the old and the new layout of one table; both know both."""
    old = Layout(1, ((1, t.INT4), (2, t.TEXT), (3, t.INT8)))
    new = Layout(2, ((3, t.INT8), (1, t.INT4), (4, t.TEXT), (2, t.TEXT), (5, t.INT4)))
    missing = {4: "none", 5: None}
    return RowCodec({1: old, 2: new}, old, missing), RowCodec({1: old, 2: new}, new, missing)


SMALL = st.none() | st.integers(0, 1)
WORDS = st.none() | st.sampled_from(["none", "a", "a" * 70_000])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.tuples(SMALL, WORDS, SMALL),
    st.tuples(SMALL, SMALL, WORDS, WORDS, SMALL),
    st.lists(st.integers(1, 5), unique=True),
)
def test_projection_across_layouts(old_row: tuple[Any, ...], new_row: tuple[Any, ...], column_ids: list[int]) -> None:
    write_old, write_new = _evolved()
    old, new = write_old.encode(old_row), write_new.encode(new_row)
    decode = write_new.decoder(column_ids)
    equal = decode(old) == decode(new)
    for projection in (write_old.projection(column_ids), write_new.projection(column_ids)):
        assert projected_equal(old, new, projection) == equal
        assert projected_equal(new, old, projection) == equal


def test_projection_compares_presence() -> None:
    codec = codec_of(t.INT4, t.INT4)
    a, b = codec.encode((1, 2)), codec.encode((1, 3))
    nothing = codec.projection(())
    assert nothing != b""
    assert projected_equal(a, b, nothing)
    assert projected_equal(None, None, nothing)
    assert not projected_equal(a, None, nothing)
    assert not projected_equal(None, b, nothing)


def test_empty_projection_compares_whole_values() -> None:
    assert projected_equal(b"same", b"same", b"")
    assert not projected_equal(b"one", b"other", b"")


def test_unknown_layouts_compare_whole_values() -> None:
    known, unknown = codec_of(t.INT4, t.INT4, id=1), codec_of(t.INT4, t.INT4, id=2)
    projection = known.projection((1,))
    assert not projected_equal(unknown.encode((1, 2)), unknown.encode((1, 3)), projection)
    assert projected_equal(unknown.encode((1, 2)), unknown.encode((1, 2)), projection)
    assert not projected_equal(known.encode((1, 2)), unknown.encode((1, 2)), projection)


def test_types_must_agree_across_layouts() -> None:
    number, date = Layout(1, ((1, t.INT4),)), Layout(2, ((1, t.DATE),))
    codec = RowCodec({1: number, 2: date}, date)
    old, new = RowCodec({}, number).encode((5,)), codec.encode((5,))
    assert not projected_equal(old, new, codec.projection((1,)))


def test_zero_is_not_null() -> None:
    codec = codec_of(t.INT4, t.TEXT, t.INT4)
    projection = codec.projection((1, 2))
    assert not projected_equal(codec.encode((0, "", 1)), codec.encode((None, "", 1)), projection)
    assert not projected_equal(codec.encode((0, "", 1)), codec.encode((0, None, 1)), projection)
    assert projected_equal(codec.encode((None, "", 1)), codec.encode((None, "", 2)), projection)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff",
        b"\x91\x94\x01\x02\x03",
        b"\x91\x94\xff\x02\x03\x90",
        b"text",
        b"\x91\x94\xce\xff\xff\xff\xff\x02\x03\x90",
    ],
)
def test_malformed_projections_are_refused(garbage: bytes) -> None:
    with pytest.raises(InternalError, match="malformed projection"):
        projected_equal(b"\1\0a", b"\1\0b", garbage)


@FAST
@given(layout_and_rows(), st.data())
def test_truncated_values_are_never_equal(case: tuple[RowCodec, list[tuple[Any, ...]]], data: st.DataObject) -> None:
    codec, rows = case
    projection = codec.projection(data.draw(st.lists(st.integers(1, len(rows[0])), min_size=1)))
    value = codec.encode(rows[0])
    cut = value[: data.draw(st.integers(0, len(value) - 1))]
    assert not projected_equal(value, cut, projection)
    assert not projected_equal(cut, value, projection)


# --- corruption ----------------------------------------------------------------


@FAST
@given(layout_and_rows(), st.data())
def test_garbage_is_corruption(case: tuple[RowCodec, list[tuple[Any, ...]]], data: st.DataObject) -> None:
    """Wrong lengths always; flipped bytes either decode to something or are refused clearly."""
    codec, rows = case
    decode = codec.decoder(range(1, len(rows[0]) + 1))
    value = codec.encode(rows[0])
    for bad in (value[: data.draw(st.integers(0, len(value) - 1))], value + b"\0"):
        with pytest.raises(StorageFailure, match="corrupt row value"):
            decode(bad)
    at = data.draw(st.integers(0, len(value) - 1))
    flipped = value[:at] + bytes((value[at] ^ data.draw(st.integers(1, 255)),)) + value[at + 1 :]
    try:
        decode(flipped)
    except StorageFailure:
        pass


@pytest.mark.parametrize("value", [b"", b"\1", b"\7\0\0", b"\7\x80\0"])
def test_unknown_layouts_are_corruption(value: bytes) -> None:
    with pytest.raises(StorageFailure, match="corrupt row value"):
        codec_of(t.INT4, t.TEXT).decoder((1, 2))(value)
