"""COPY's three formats: what a writer writes a reader reads, however the bytes are cut."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sql.copyformat import CopyOptions, reader, writer

FIELD = st.none() | st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
AWKWARD = st.none() | st.text(alphabet="\\N.\n\r\t,\";'| x", max_size=6)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """Cuts the data into pieces of these sizes, over and over."""
    pieces, at, turn = [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        pieces.append(data[at : at + size])
        at, turn = at + size, turn + 1
    return pieces


def read_all(options: CopyOptions, pieces: list[bytes]) -> list[list[Any]]:
    source = reader(options)
    rows: list[list[Any]] = []
    for piece in pieces:
        rows.extend(source.feed(piece))
    rows.extend(source.finish())
    return rows


def written(options: CopyOptions, rows: list[list[bytes | None]]) -> bytes:
    output = writer(options, ["a", "b"])
    return output.header + b"".join([output.row(row) for row in rows]) + output.trailer


@pytest.mark.parametrize("form", ["text", "csv"])
@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.lists(FIELD | AWKWARD, min_size=2, max_size=2), max_size=8),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
)
def test_text_formats_round_trip(form: str, rows: list[list[str | None]], sizes: list[int]) -> None:
    data = written(
        CopyOptions({"format": form}, False), [[None if f is None else f.encode() for f in row] for row in rows]
    )
    assert read_all(CopyOptions({"format": form}, True), cut(data, sizes)) == rows


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.lists(st.none() | st.binary(max_size=9), min_size=2, max_size=2), max_size=8),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
)
def test_binary_round_trips(rows: list[list[bytes | None]], sizes: list[int]) -> None:
    data = written(CopyOptions({"format": "binary"}, False), rows)
    assert read_all(CopyOptions({"format": "binary"}, True), cut(data, sizes)) == rows
