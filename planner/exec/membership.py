"""IN lists, ANY and ALL: sets where equality hashes, loops elsewhere.

A set answers for NULL too: ``make_members`` gives the set without NULLs and what a value that is
not in it gets: False, or None (unknown) if there was a NULL.  PostgreSQL 15 manual: 9.24.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from base.errors import error
from base.types import PgType
from planner.exec.order import equality_key
from planner.functions.registry import Function

Key = Callable[[Any], Any]
ARRAY_DIMENSIONS_MAX: Final = 6

_HASHED_EQUALITY: Final = frozenset(
    [
        "booleq", "byteaeq", "chareq", "nameeq", "texteq", "nameeqtext", "texteqname", "bpchareq", "oideq", "tideq", "xideq", "cideq",
        "int2eq", "int4eq", "int8eq", "int24eq", "int42eq", "int28eq", "int82eq", "int48eq", "int84eq", "float4eq", "float8eq",
        "float48eq", "float84eq", "numeric_eq", "date_eq", "time_eq", "timestamp_eq", "timestamptz_eq", "interval_eq", "uuid_eq",
        "biteq", "varbiteq", "pg_lsn_eq", "xid8eq", "jsonb_eq", "enum_eq", "array_eq", "oidvectoreq",
    ]
)  # fmt: skip
"""Equality functions under which datums of one type are equal exactly if their equality keys are."""


def itself(value: Any) -> Any:
    """The key of a datum that is its own key."""
    return value


def membership_key(pg_type: PgType, equal: Function) -> Key | None:
    """The key function with which a set can stand for ``equal``; None if it cannot."""
    if equal.name not in _HASHED_EQUALITY:
        return None
    return equality_key(pg_type) or itself


def make_members(values: Sequence[Any] | None, key: Key) -> tuple[frozenset[Any], bool | None]:
    """Returns (keys of the values that are not NULL, what a non-member gets); of a NULL array, (empty, None)."""
    if values is None:
        return frozenset(), None
    present = [value for value in values if value is not None]
    keys = present if key is itself else [key(value) for value in present]
    return frozenset(keys), (False if len(present) == len(values) else None)


def in_members(value: Any, members: frozenset[Any], unknown: bool | None, key: Key) -> bool | None:
    """``value = ANY (array)`` for an array made into a set; an empty array is FALSE even for NULL."""
    if value is None:
        return False if not members and unknown is False else None
    return True if key(value) in members else unknown


Flat = Callable[[tuple[Any, ...]], Sequence[Any]]


class ArrayForm:
    """How the datums of one element type lie in an array: what is a further dimension, what an element."""

    __slots__ = ("is_nested",)

    def __init__(self, is_nested: Callable[[Any], bool]) -> None:
        self.is_nested = is_nested

    def flat(self, array: tuple[Any, ...]) -> Sequence[Any]:
        """The elements of an array of any dimensions, in storage order."""
        if not array or not self.is_nested(array[0]):
            return array
        out: list[Any] = []
        for inner in array:
            out.extend(self.flat(inner))
        return out

    def flat_or_null(self, array: tuple[Any, ...] | None) -> Sequence[Any] | None:
        return None if array is None else self.flat(array)


def _tuple_is_dimension(item: Any) -> bool:
    return item.__class__ is tuple


def _deep_tuple_is_dimension(item: Any) -> bool:
    """Elements are tuples of numbers: a dimension holds tuples (or NULLs)."""
    return item.__class__ is tuple and bool(item) and (item[0] is None or item[0].__class__ is tuple)


def _never_dimension(item: Any) -> bool:
    """Rows hold anything: arrays of them have one dimension."""
    return False


_PLAIN: Final = ArrayForm(_tuple_is_dimension)
_TUPLES: Final = ArrayForm(_deep_tuple_is_dimension)
_ROWS: Final = ArrayForm(_never_dimension)


def flattener(element: PgType) -> ArrayForm:
    """The form of arrays of an element type."""
    if element.kind == "c" or element.name == "record":
        return _ROWS
    if element.name in ("interval", "timetz", "int2vector", "oidvector"):
        return _TUPLES
    return _PLAIN


def any_match(operator: Callable[..., Any], left: Any, items: Sequence[Any] | None) -> bool | None:
    """``left op ANY (array)``, the array's elements given."""
    if items is None:
        return None
    answer: bool | None = False
    for item in items:
        verdict = None if left is None or item is None else operator(left, item)
        if verdict:
            return True
        if verdict is None:
            answer = None
    return answer


def all_match(operator: Callable[..., Any], left: Any, items: Sequence[Any] | None) -> bool | None:
    """``left op ALL (array)``."""
    if items is None:
        return None
    answer: bool | None = True
    for item in items:
        verdict = None if left is None or item is None else operator(left, item)
        if verdict is False:
            return False
        if verdict is None:
            answer = None
    return answer


def with_context(impl: Callable[..., Any], ctx: Any) -> Callable[..., Any]:
    return partial(impl, ctx)


def stack_arrays(items: tuple[Any, ...]) -> tuple[Any, ...]:
    """ARRAY[..] of arrays: one more dimension; all must have the same shape.  NULLs and empty arrays make it empty."""
    present = [item for item in items if item]
    if not present:
        return ()
    if len(present) != len(items) or any(shape(item) != shape(items[0]) for item in items):
        raise error("2202E", "multidimensional arrays must have array expressions with matching dimensions")
    if len(shape(items[0])) >= ARRAY_DIMENSIONS_MAX:
        raise error(
            "54000",
            f"number of array dimensions ({len(shape(items[0])) + 1}) exceeds the maximum allowed ({ARRAY_DIMENSIONS_MAX})",
        )
    return items


def shape(array: Any) -> tuple[int, ...]:
    """Lengths of the dimensions; () of an empty array."""
    out: list[int] = []
    while array.__class__ is tuple and array:
        out.append(len(array))
        array = array[0]
    return tuple(out)


def row_null(row: tuple[Any, ...] | None) -> bool:
    """``row IS NULL``: the row itself or all its fields."""
    return row is None or all(field is None for field in row)


def row_not_null(row: tuple[Any, ...] | None) -> bool:
    """``row IS NOT NULL``: no field is NULL."""
    return row is not None and all(field is not None for field in row)


MEMBERSHIP_NAMES: Final[dict[str, Any]] = {
    "make_members": make_members, "in_members": in_members, "any_match": any_match, "all_match": all_match,
    "with_context": with_context, "stack_arrays": stack_arrays, "row_null": row_null, "row_not_null": row_not_null,
}  # fmt: skip
"""What generated code may name."""
