"""Columns of a page at once: what one decode after the other gives, or nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base import rows
from base.rows import Layout, RowCodec
from base.types import BY_NAME, PgType

TYPES: dict[str, Any] = {
    "int2": st.integers(-(2**15), 2**15 - 1),
    "int4": st.integers(-(2**31), 2**31 - 1),
    "int8": st.integers(-(2**63), 2**63 - 1),
    "text": st.text(max_size=30),
    "bytea": st.binary(max_size=30),
    "float8": st.floats(allow_nan=False),
}


@pytest.fixture(autouse=True)
def _taking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "TAKES_COLUMNS", True)


def type_named(name: str) -> PgType:
    return BY_NAME[name]


@st.composite
def pages(draw: Any) -> tuple[RowCodec, list[str], list[tuple[Any, ...]], list[int], bool]:
    """A codec, its columns' types, rows, the columns wanted, and whether text is wanted as bytes."""
    names = draw(st.lists(st.sampled_from(sorted(TYPES)), min_size=1, max_size=12))
    layout = Layout(draw(st.integers(0, 300)), tuple((i + 1, type_named(name)) for i, name in enumerate(names)))
    nulls = draw(st.booleans())
    value = [st.none() | TYPES[name] if nulls else TYPES[name] for name in names]
    page = draw(st.lists(st.tuples(*value), max_size=8))
    wanted = draw(st.lists(st.sampled_from(range(1, len(names) + 1)), min_size=1, unique=True))
    return RowCodec({}, layout), names, page, wanted, draw(st.booleans())


@given(pages())
def test_it_is_what_decoding_gives(case: tuple[RowCodec, list[str], list[tuple[Any, ...]], list[int], bool]) -> None:
    codec, names, page, wanted, as_bytes = case
    stored = [id for id in wanted if names[id - 1] == "text"] if as_bytes else []
    taker = codec.column_taker(wanted, stored)
    may = all(names[id - 1] in ("int2", "int4", "int8", "text") for id in wanted)
    assert (taker is not None) == may
    if taker is None:
        return
    taken = taker.take([codec.encode(row) for row in page])
    columns = [[row[id - 1] for row in page] for id in wanted]
    if any(None in column for column in columns):
        assert taken is None, "NULLs are left to the loop over rows"
        return
    for at, id in enumerate(wanted):
        if id in stored:
            columns[at] = [text.encode() for text in columns[at]]
    assert taken == columns


def two_columns() -> RowCodec:
    return RowCodec({}, Layout(1, ((1, type_named("int4")), (2, type_named("text")), (3, type_named("text")))))


@pytest.mark.parametrize("damage", ["cut", "longer", "other layout", "empty", "wide"])
def test_a_page_with_anything_unusual_is_not_taken(damage: str) -> None:
    codec = two_columns()
    usual, value = codec.encode((7, "a", "b")), codec.encode((8, "c", "d" * 3))
    taker = codec.column_taker([1, 2], [2])
    assert taker is not None
    assert taker.take([usual, value]) == [[7, 8], [b"a", b"c"]]
    unusual = {
        "cut": value[:-1],
        "longer": value + b"x",
        "other layout": bytes([value[0] + 1]) + value[1:],
        "empty": b"",
        "wide": codec.encode((8, "c", "d" * 70_000)),
    }[damage]
    assert taker.take([usual, unusual]) is None
    assert taker.take([unusual, usual]) is None


def test_every_shorter_value_is_refused() -> None:
    codec = two_columns()
    value = codec.encode((-1, "some", "text"))
    for wanted in ([1], [2], [3], [3, 1]):
        taker = codec.column_taker(wanted)
        assert taker is not None
        assert all(taker.take([value[:size]]) is None for size in range(len(value)))


def test_text_that_is_no_utf_8_is_left_to_the_loop_that_tells_of_it() -> None:
    codec = two_columns()
    value = codec.encode((1, "aa", "b")).replace(b"aa", b"\xff\xfe")
    taker = codec.column_taker([2])
    assert taker is not None and taker.take([value]) is None
