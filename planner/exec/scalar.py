"""Compiled expressions as the operators use them: over a batch, with the frame as parameters.

A thin front of ``planner.exec.compile``: it chooses the cheapest form (a plain slice of
columns needs no generated code) and builds hash and sort keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from base.types import PgType
from planner.exec.order import KeyFunction, equality_key, order_key, sort_positions
from planner.exec.runtime import Row, Rows, RowsFunction, Run, evaluate
from planner.expr import Col, Const, Expr, Param, SortKey


def pick_rows(positions: Sequence[int]) -> RowsFunction:
    """Rows cut down to some positions, in order."""
    if not positions:
        return lambda rows, frame, ctx: [()] * len(rows)
    if len(positions) == 1:
        at = positions[0]
        return lambda rows, frame, ctx: [(row[at],) for row in rows]
    pick = itemgetter(*positions)
    return lambda rows, frame, ctx: list(map(pick, rows))


def layout_of(columns: tuple[int, ...]) -> dict[int, int | str]:
    """Column id to position, as the expression compiler wants it."""
    return {id: i for i, id in enumerate(columns)}


def column_positions(exprs: Sequence[Expr], columns: tuple[int, ...]) -> list[int] | None:
    """Positions if every expression is a plain column of the input, else None."""
    out: list[int] = []
    for expr in exprs:
        if not isinstance(expr, Col) or expr.id not in columns:
            return None
        out.append(columns.index(expr.id))
    return out


class Lazy:
    """A compiled function that is compiled when first called: most plans that have a compiled
    point form never run their operators."""

    __slots__ = ("function", "make")

    def __init__(self, make: Callable[[], Callable[..., Any]]) -> None:
        self.make = make
        self.function: Callable[..., Any] | None = None

    def __call__(self, rows: Any, frame: Any, ctx: Any) -> Any:
        function = self.function
        if function is None:
            function = self.function = self.make()
        return function(rows, frame, ctx)


class LiteralRow:
    """One row of VALUES that is all constants and parameters: nothing to compile, however many rows there are."""

    __slots__ = ("spec",)

    def __init__(self, exprs: Sequence[Expr]) -> None:
        self.spec: list[tuple[bool, Any]] = []
        """(is a parameter, its frame position or the constant)."""
        for expr in exprs:
            if isinstance(expr, Param):
                self.spec.append((True, expr.index - 1))
            else:
                assert isinstance(expr, Const), expr
                self.spec.append((False, expr.value))

    def __call__(self, rows: Rows, frame: Any, ctx: Any) -> Rows:
        return [tuple([frame[value] if is_param else value for is_param, value in self.spec])] * len(rows)


class KeyMaker:
    """Computes hash keys of rows: a tuple (or single value) per row, None if a key is NULL.

    With ``nulls_equal`` NULL is a value like others (GROUP BY, DISTINCT, set operations).
    """

    def __init__(
        self,
        exprs: Sequence[Expr],
        types: Sequence[PgType],
        columns: tuple[int, ...],
        compile_rows: Callable[..., RowsFunction],
        nulls_equal: bool,
    ) -> None:
        self.width = len(exprs)
        self.transforms = [equality_key(pg_type) for pg_type in types]
        self.plain = not any(self.transforms)
        self.nulls_equal = nulls_equal
        positions = column_positions(exprs, columns)
        self.positions = positions
        self.rows_of: RowsFunction = pick_rows(positions) if positions is not None else compile_rows(exprs, columns)

    async def keys(self, rows: Rows, run: Run) -> list[Any]:
        """One key per row; None where a key column is NULL (unless nulls are equal)."""
        if self.width == 1 and self.plain and self.positions is not None:
            at = self.positions[0]
            return [row[at] for row in rows]
        found = await evaluate(self.rows_of, rows, run)
        return self.finish(found)

    def finish(self, found: Rows) -> list[Any]:
        """Turns computed key rows into keys."""
        if self.width == 1:
            transform = self.transforms[0]
            if transform is None:
                return [row[0] for row in found]
            return [None if row[0] is None else transform(row[0]) for row in found]
        if not self.plain:
            found = [self._transform(row) for row in found]
        if self.nulls_equal:
            return found
        return [None if None in row else row for row in found]

    def _transform(self, row: Row) -> Row:
        return tuple([value if value is None or f is None else f(value) for f, value in zip(self.transforms, row)])


class Sorter:
    """Sorts rows by compiled keys."""

    def __init__(
        self, keys: Sequence[SortKey], columns: tuple[int, ...], compile_rows: Callable[..., RowsFunction]
    ) -> None:
        exprs = [key.expr for key in keys]
        self.directions = [(key.descending, key.nulls_first) for key in keys]
        self.transforms: list[KeyFunction | None] = [order_key(key.expr.type) for key in keys]
        positions = column_positions(exprs, columns)
        self.rows_of: RowsFunction = pick_rows(positions) if positions is not None else compile_rows(exprs, columns)

    async def sort(self, rows: Rows, run: Run) -> Rows:
        return (await self.sort_with_keys(rows, run))[0]

    async def sort_with_keys(self, rows: Rows, run: Run) -> tuple[Rows, Rows]:
        """Returns the rows in order, and their key tuples in the same order."""
        if not self.directions or len(rows) < 2:
            return rows, (await evaluate(self.rows_of, rows, run)) if rows else []
        keys = await evaluate(self.rows_of, rows, run)
        columns = [list(column) for column in zip(*keys)]
        order = sort_positions(columns, self.directions, self.transforms)
        return [rows[i] for i in order], [keys[i] for i in order]

    def not_worse(self, rows: Rows, keys: Rows, worst: Any) -> Rows:
        """Rows whose first key does not come after ``worst`` (not NULL); NULLs are kept, to be sorted out later."""
        transform = self.transforms[0]
        if transform is not None:
            worst = transform(worst)
            keys = [(None if key[0] is None else transform(key[0]),) for key in keys]
        if self.directions[0][0]:
            return [row for row, key in zip(rows, keys) if key[0] is None or key[0] >= worst]
        return [row for row, key in zip(rows, keys) if key[0] is None or key[0] <= worst]
