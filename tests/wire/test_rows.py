"""DataRows as a plan's loop writes them against the encoder of whole rows."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from base.rowtypes import value_form
from base.typeio import IoSettings
from planner.exec.fast import FieldSource
from tests.base.datums import CASES
from wire.rows import row_encoder, row_format

FAST = settings(max_examples=150, deadline=None)
# Types that have binary output, too.
NAMES = sorted([name for name in CASES if name not in ("mood", "point3", "_point3")])


@st.composite
def rows_and_fields(draw: st.DrawFn) -> tuple[list[Any], list[Any], list[int], list[bool], list[bool]]:
    """(types, datums, formats, given as stored bytes, may be NULL)."""
    names = draw(st.lists(st.sampled_from(NAMES), max_size=5))
    types = [CASES[name][0] for name in names]
    datums = [draw(st.none() | CASES[name][1]) for name in names]
    formats = [draw(st.integers(0, 1)) for _ in names]
    takes = row_format(types, formats, IoSettings())
    stored = [takes.takes_stored(i) and value_form(types[i]).is_text and draw(st.booleans()) for i in range(len(names))]
    nullable = [datum is None or draw(st.booleans()) for datum in datums]
    return types, datums, formats, stored, nullable


def inlined(types: list[Any], datums: list[Any], formats: list[int], stored: list[bool], nullable: list[bool]) -> bytes:
    scope: dict[str, Any] = {}
    fields = [FieldSource(f"v{i}", stored[i], nullable[i]) for i in range(len(types))]
    lines, pieces = row_format(types, formats, IoSettings()).source(fields, scope)
    for i, datum in enumerate(datums):
        scope[f"v{i}"] = datum.encode() if stored[i] and datum is not None else datum
    exec("\n".join(lines), scope)
    return b"".join([eval(piece, scope) for piece in pieces])


@FAST
@given(rows_and_fields())
def test_the_loop_writes_what_the_encoder_writes(
    case: tuple[list[Any], list[Any], list[int], list[bool], list[bool]],
) -> None:
    types, datums, formats, stored, nullable = case
    try:
        expected = row_encoder(types, formats, IoSettings())(datums)
    except Exception as error:  # a type without binary output
        expected = repr(error).encode()
    try:
        found = inlined(types, datums, formats, stored, nullable)
    except Exception as error:
        found = repr(error).encode()
    assert found == expected


def test_golden_row_of_one_text() -> None:
    expected = "44 0000000d 0001 00000003 c3a962"
    types = [CASES["text"][0]]
    assert inlined(types, ["éb"], [0], [True], [False]) == bytes.fromhex(expected.replace(" ", ""))
    assert inlined(types, [None], [1], [True], [True]) == row_encoder(types, [1], IoSettings())([None])


def test_long_fields_are_not_kept_in_the_tables() -> None:
    text = "x" * 10_000
    types = [CASES["text"][0]]
    assert inlined(types, [text], [0], [False], [False]) == row_encoder(types, [0], IoSettings())([text])
