"""Arrays as nested tuples: their elements in storage order, and their shape.

An array datum is a tuple, with tuples inside for more dimensions (``base.types``).
Some element types are tuples themselves; how far nesting means dimensions is
decided here, for keys and rows alike.
"""

from __future__ import annotations

from typing import Any

from base import types as t
from base.types import PgType


def storage_type(pg_type: PgType) -> PgType:
    """Returns the type whose form a value has on disk: a domain's base."""
    while pg_type.kind == "d" and pg_type.base is not None:
        pg_type = pg_type.base
    return pg_type


def holds_tuple(element: PgType) -> bool:
    """True where the datum of a type is itself a tuple, so that nesting does not tell dimensions."""
    return storage_type(element).oid in (t.INTERVAL.oid, t.TIMETZ.oid, t.INT2VECTOR.oid, t.OIDVECTOR.oid)


def is_composite(pg_type: PgType) -> bool:
    return pg_type.kind == "c" or pg_type.oid == t.RECORD.oid


def flatten_array(value: tuple[Any, ...], scalar_tuple: bool) -> tuple[tuple[Any, ...], list[int]]:
    """Returns the elements in storage order and the lengths of the dimensions (none if empty).

    An inner array is a tuple, and never empty.  Where the elements are tuples too
    (``scalar_tuple``: of integers) a tuple of integers, or an empty one, is an element.
    """
    lengths: list[int] = []
    while value:
        lengths.append(len(value))
        first = value[0]
        if not isinstance(first, tuple):
            break
        if scalar_tuple and (not first or isinstance(first[0], int)):
            break
        value = tuple([item for inner in value for item in inner])
    for i in range(len(lengths) - 1, 0, -1):
        assert lengths[i] % lengths[i - 1] == 0, f"ragged array {value!r}"
        lengths[i] //= lengths[i - 1]
    return value, lengths


def nest_array(elements: list[Any], lengths: list[int]) -> tuple[Any, ...]:
    """The inverse of flatten_array."""
    for length in lengths[:0:-1]:
        elements = [tuple(elements[i : i + length]) for i in range(0, len(elements), length)]
    return tuple(elements)
