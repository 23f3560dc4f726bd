"""The internal function names by which the shaper tells the binder what an expression is.

Each begins with NUL, which no SQL text can contain.  Arguments (``..`` repeats, [] optional):

| form | arguments |
| --- | --- |
| OP | symbol, left, right, (symbol, right).. from left to right; a prefix operator: PREFIX symbol, operand |
| AND OR | two or more;  NOT: one |
| QUANTIFIED | symbol, "any" or "all", left, array or (query) |
| IN | "in" or "not in", left, item..;  INSUB: the same with (query);  INRAW: with the number of a raw list |
| BETWEEN | "between", "not between", with " symmetric", then value, low, high |
| IS | "null", "not true".., operand;  DISTINCT: "distinct" or "not distinct", left, right |
| CAST | operand, number of a type in the query's type list [, "literal" for ``date '..'``] |
| COLLATE | operand, name [, schema];  ZONE: operand, zone |
| LIKE_ESCAPE | pattern, escape;  SIMILAR: pattern [, escape] |
| SUBSCRIPT | base, then per bracket: "i", index or "s", low, high (EMPTY where left out) |
| FIELD | base, name;  STAR: base |
| CASE | flags ("s" simple, "e" else), [operand,] (when, then).., [default] |
| NULL TRUE FALSE | none;  SCALAR: (query), a subquery as a value |
| ARRAY | item..;  ARRAYSUB: (query);  ROW: item..;  EXISTS: (query) |
| NAMED | name, value;  VARIADIC: value |
| KEYWORD | "current_timestamp".. [, precision] |
| DEFAULT, EMPTY, NOTHING | none |
| COALESCE NULLIF GREATEST LEAST GROUPING | as in SQL |
| ROLLUP CUBE SETS | item..;  EMPTY is () |
| ORDINALITY | call;  ROWS: call..;  COLDEFS: call, name.. (see ``column_with_type``) |
| TIES | count of FETCH FIRST .. WITH TIES |
| OVERLAPS | row, row |
| WHEN | "matched" or "not matched", condition or EMPTY, then "nothing", "delete", "update" and SET_ONE or SET_ROW..,
  or "insert", overriding, number of columns, columns.., values.. (none: DEFAULT VALUES) |
"""

from __future__ import annotations

from typing import Final

PREFIX_MARK: Final = "\0"
OP: Final = "\0op"
PREFIX: Final = "\0prefix"
AND: Final = "\0and"
OR: Final = "\0or"
NOT: Final = "\0not"
QUANTIFIED: Final = "\0quantified"
IN: Final = "\0in"
INSUB: Final = "\0insub"
INRAW: Final = "\0inraw"
BETWEEN: Final = "\0between"
IS: Final = "\0is"
DISTINCT: Final = "\0distinct"
CAST: Final = "\0cast"
COLLATE: Final = "\0collate"
ZONE: Final = "\0zone"
LIKE_ESCAPE: Final = "\0like_escape"
SIMILAR: Final = "\0similar"
SUBSCRIPT: Final = "\0subscript"
FIELD: Final = "\0field"
STAR: Final = "\0star"
CASE: Final = "\0case"
ARRAY: Final = "\0array"
ARRAYSUB: Final = "\0arraysub"
ROW: Final = "\0row"
EXISTS: Final = "\0exists"
NAMED: Final = "\0named"
VARIADIC: Final = "\0variadic"
KEYWORD: Final = "\0keyword"
DEFAULT: Final = "\0default"
EMPTY: Final = "\0empty"
NOTHING: Final = "\0nothing"
COALESCE: Final = "\0coalesce"
NULLIF: Final = "\0nullif"
GREATEST: Final = "\0greatest"
LEAST: Final = "\0least"
GROUPING: Final = "\0grouping"
ROLLUP: Final = "\0rollup"
CUBE: Final = "\0cube"
SETS: Final = "\0sets"
ORDINALITY: Final = "\0ordinality"
ROWS: Final = "\0rows"
COLDEFS: Final = "\0coldefs"
TIES: Final = "\0ties"
OVERLAPS: Final = "\0overlaps"
BITS: Final = "\0bits"
NULL: Final = "\0null"
TRUE: Final = "\0true"
FALSE: Final = "\0false"
SCALAR: Final = "\0scalar"
WHEN: Final = "\0when"
VALUES_ALIAS: Final = "\0values"
"""Alias of the VALUES behind a bare VALUES query."""


def column_with_type(name: str, type_number: int) -> str:
    """A column definition (``a int``) as one identifier."""
    return f"{name}\0{type_number}"


def split_column(text: str) -> tuple[str, int | None]:
    """Undoes ``column_with_type``; the number is None where there was no type."""
    name, mark, number = text.partition("\0")
    return name, int(number) if mark else None


USING_ALIAS: Final = "\0using"
"""USING (a, b) AS j: the alias comes as one more name, behind this mark."""
SET_TARGET: Final = "\0target"
SET_ONE: Final = "\0set"
SET_ROW: Final = "\0setrow"
SET_PART: Final = "\0setpart"
"""UPDATE .. SET arrives as ``SET_TARGET = SET_ONE(value, 'column')`` or ``SET_ROW(value, 'column', ..)``;
``column[i] = ..`` as ``SET_PART(value, 'column', subscripts as of SUBSCRIPT..)``."""
