"""UPDATE t SET a[2] = .., j['k'] = ..: a column's new value with one part of it replaced.

The binder makes the functions for a column's type; they take the old value, the new part and the subscripts.
PostgreSQL 15 manual: 8.15.4 (arrays), 8.14.5 (jsonb).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from base.errors import error
from base.types import INT4, JSONB, PgType
from planner.functions.arrays import Array, Elements
from planner.functions.jsonvalues import decode, encode
from planner.functions.registry import Function

ELEMENTS_MAX: Final = 134_217_727
"""As PostgreSQL's MaxArraySize for eight-byte elements."""
JSON_ITEMS_MAX: Final = 1_000_000
"""Longest array that a far subscript may make of a short one."""


def _bounds_error() -> Exception:
    return error("2202E", "array subscript out of range")


def item_assigner(array: PgType, count: int) -> Function:
    """a[i].. = value, with ``count`` subscripts."""
    assert array.elem is not None, f"{array=}"
    elements = Elements(array)

    def assign(old: Array | None, value: Any, *at: int | None) -> Array:
        places = [place for place in at if place is not None]
        if len(places) != len(at):
            raise error("22004", "array subscript in assignment must not be null")
        if not old:
            if any(place != 1 for place in places):
                raise error("0A000", "array lower bounds other than 1 are not supported")
            found: Any = value
            for _ in places:
                found = (found,)
            return found  # type: ignore[no-any-return]  # nested tuples
        if len(elements.shape(old)) != len(places):
            raise error("2202E", "wrong number of array subscripts")
        return _extended(old, value, places[0]) if len(places) == 1 else _replaced(old, value, places)

    arg_types = (array, array.elem, *(INT4,) * count)
    return Function("array_set_element", arg_types, array, assign, strict=False)


def _extended(old: Array, value: Any, place: int) -> Array:
    """One dimension grows upwards; what lies between is NULL."""
    if place < 1:
        raise error("0A000", "array lower bounds other than 1 are not supported")
    if place > ELEMENTS_MAX:
        raise error("54000", f"array size exceeds the maximum allowed ({ELEMENTS_MAX})")
    if place > len(old):
        return (*old, *(None,) * (place - 1 - len(old)), value)
    return (*old[: place - 1], value, *old[place:])


def _replaced(old: Any, value: Any, places: list[int]) -> Array:
    """More dimensions keep their shape."""
    place = places[0]
    if not 1 <= place <= len(old):
        raise _bounds_error()
    inner = value if len(places) == 1 else _replaced(old[place - 1], value, places[1:])
    return (*old[: place - 1], inner, *old[place:])


def slice_assigner(array: PgType) -> Function:
    """a[l:u] = array, of one dimension; a bound left out is NULL here."""
    elements = Elements(array)

    def assign(old: Array | None, new: Array | None, lower: int | None, upper: int | None) -> Array:
        if new is None:
            return old or ()
        have: Array = old or ()
        if len(elements.shape(have)) > 1:
            raise error("0A000", "assignment to a slice of an array of several dimensions is not supported")
        if not have and (lower is None or upper is None):
            raise error(
                "2202E", "array slice subscript must provide both boundaries",
                detail="When assigning to a slice of an empty array value, slice boundaries must be fully specified.",
            )  # fmt: skip
        first, last = 1 if lower is None else lower, len(have) if upper is None else upper
        if first > last + 1:
            raise error("2202E", "upper bound cannot be less than lower bound")
        if first < 1 or (not have and first != 1):
            raise error("0A000", "array lower bounds other than 1 are not supported")
        if last > ELEMENTS_MAX:
            raise error("54000", f"array size exceeds the maximum allowed ({ELEMENTS_MAX})")
        given = elements.flat(new)
        if len(given) < last - first + 1:
            raise error("2202E", "source array too small")
        gap = (None,) * max(0, first - 1 - len(have))
        return (*have[: first - 1], *gap, *given[: last - first + 1], *have[last:])

    return Function("array_set_slice", (array, array, INT4, INT4), array, assign, strict=False)


def json_assigner(kinds: tuple[PgType, ...]) -> Function:
    """j['a'][0] = value; ``kinds`` int4 or text, by subscript: they decide what is made where nothing is."""
    numbers = [kind == INT4 for kind in kinds]

    def assign(old: str | None, value: str | None, *path: Any) -> str:
        if any(step is None for step in path):
            raise error("22004", "jsonb subscript in assignment must not be null")
        root: Any = None if old is None else decode(old)
        if root is None:
            root = [] if numbers[0] else {}
        elif not isinstance(root, (dict, list)):
            raise _scalar_error()
        _set_in(root, path, 0, numbers, None if value is None else decode(value))
        return encode(root)

    return Function("jsonb_set_element", (JSONB, JSONB, *kinds), JSONB, assign, strict=False)


def _scalar_error() -> Exception:
    detail = "The path assumes key is a composite object, but it is a scalar value."
    return error("22023", "cannot replace existing key", detail=detail)


def _set_in(holder: Any, path: tuple[Any, ...], level: int, numbers: list[bool], value: Any) -> None:
    """Sets the place ``path[level:]`` inside an object or array, making what is not there."""
    is_last = level + 1 == len(path)
    read, write = (
        _object_place(holder, path[level]) if isinstance(holder, dict) else _array_place(holder, path[level], level)
    )
    if is_last:
        write(value)
        return
    inner = read()
    if inner is None:
        inner = [] if numbers[level + 1] else {}
        write(inner)
    elif not isinstance(inner, (dict, list)):
        raise _scalar_error()
    _set_in(inner, path, level + 1, numbers, value)


Place = tuple[Callable[[], Any], Callable[[Any], None]]


def _object_place(holder: dict[str, Any], step: Any) -> Place:
    key = str(step)
    return (lambda: holder.get(key)), (lambda value: holder.__setitem__(key, value))


def _array_place(holder: list[Any], step: Any, level: int) -> Place:
    try:
        at = int(step)
    except ValueError:
        raise error("22P02", f'path element at position {level + 1} is not an integer: "{step}"') from None
    if at < 0:
        if -at > len(holder):
            raise error("22023", f"path element at position {level + 1} is out of range: {at}")
        at += len(holder)
    if at - len(holder) > JSON_ITEMS_MAX:
        raise error("54000", f"a jsonb array cannot grow by more than {JSON_ITEMS_MAX} items at once")
    holder.extend([None] * (at + 1 - len(holder)))
    return (lambda: holder[at]), (lambda value: holder.__setitem__(at, value))
