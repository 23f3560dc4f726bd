"""Rows and entries made by generated loops against those made a row at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from planner.access import TableAccess, table_access
from planner.exec.rewrite import entry_maker, row_rewriter
from planner.schema import TableDesc
from tests.base.datums import CASES
from tests.planner.algebra import make_index, make_table

KEY_TYPES = ("int4", "int8", "text", "numeric", "uuid", "bool", "timestamptz")
TYPES = (*KEY_TYPES, "int2", "float8", "bytea", "interval", "jsonb", "varchar", "date", "int4[]")

Case = tuple[list[str], list[tuple[Any, ...]], list[int], list[int]]


@st.composite
def tables(draw: st.DrawFn) -> Case:
    """Column types, the first three of which may be keys; rows; the key columns of two tables over them."""
    names = [draw(st.sampled_from(KEY_TYPES)) for _ in range(3)]
    names += draw(st.lists(st.sampled_from([name for name in TYPES if name in CASES]), max_size=4))
    keys = [CASES[name][1] for name in names[:3]]
    others = [st.none() | CASES[name][1] for name in names[3:]]
    rows = draw(st.lists(st.tuples(*keys, *others), min_size=1, max_size=5))
    old, new = (draw(st.permutations([1, 2, 3])) for _ in range(2))
    return names, rows, old[: draw(st.integers(1, 3))], new[: draw(st.integers(1, 3))]


def table(id: int, names: Sequence[str], key: Sequence[int], descending: bool = False) -> TableDesc:
    columns = ", ".join(
        [f"c{i} {CASES[name][0].name}{' not null' if i <= 3 else ''}" for i, name in enumerate(names, 1)]
    )
    primary = ", ".join([f"c{i}{' desc' if descending else ''}" for i in key])
    width = len(names)
    indexes = [
        make_index(2, "plain", [width, 1]),
        make_index(3, "unique", [width], unique=True),
        make_index(4, "covering", [2], include=tuple(range(1, width + 1))),
        make_index(5, "both", [1, width], unique=True, include=tuple({width: 0, 3: 0}), descending=True),
        make_index(6, "nulls", [width], unique=True, nulls_not_distinct=True),
        make_index(7, "deferrable", [width], unique=True, deferrable=True),
    ]
    return make_table(id, f"t{id}", columns, primary, [i for i in indexes if indexable(names, i.columns)])


def indexable(names: Sequence[str], columns: Sequence[Any]) -> bool:
    return all(names[column.column_id - 1] in KEY_TYPES for column in columns)


def stored(access: TableAccess, rows: Sequence[tuple[Any, ...]]) -> tuple[list[bytes], list[bytes]]:
    return [access.key_of_row(row) for row in rows], [access.value_of_row(row) for row in rows]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(tables(), st.booleans())
def test_loops_make_what_rows_make(case: Case, descending: bool) -> None:
    names, rows, old_key, new_key = case
    old = table_access(table(1, names, old_key))
    new = table_access(table(2, names, new_key, descending))
    rewrite = row_rewriter(old, new)
    assert rewrite is not None
    assert rewrite(*stored(old, rows)) == stored(new, rows)
    for index in new.secondary:
        make = entry_maker(index)
        assert make is not None
        made = make(*stored(new, rows))
        assert list(zip(*made)) == [index.entry(row, ()) for row in rows]


def test_what_loops_leave_to_rows() -> None:
    """Another type, a column the old rows lack, a predicate, an expression."""
    old = table_access(make_table(1, "old", "a int8, b text", "a"))
    assert row_rewriter(old, table_access(make_table(2, "new", "a int8, b varchar", "a"))) is None
    assert row_rewriter(old, table_access(make_table(3, "new", "a int8, b text, c int8", "a"))) is None
    partial = make_index(2, "partial", [2], predicate="b > 'x'")
    assert entry_maker(table_access(make_table(4, "t", "a int8, b text", "a", [partial])).secondary[0]) is None
    expression = make_index(2, "expression", [0])
    assert entry_maker(table_access(make_table(5, "t", "a int8, b text", "a", [expression])).secondary[0]) is None
