"""Arrays: subscripts, slices, building, searching, unnesting.

An array datum is a tuple (nested for more dimensions) with lower bound 1; int2vector and
oidvector count from 0.  Whether a tuple inside is a further dimension or an element depends on the
element type (intervals and records are tuples themselves): ``Elements`` knows.

PostgreSQL 15 manual: 8.15, 9.19.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from base.errors import MeridianError, error
from base.types import PgType
from planner.exec.membership import ARRAY_DIMENSIONS_MAX, Flat, flattener
from planner.exec.order import equality_key
from planner.functions.declare import define, define_operator
from planner.functions.registry import Registry, Specializer

Array = tuple[Any, ...]
ELEMENTS_MAX: Final = 134_217_727
"""PostgreSQL's MaxArraySize."""
FILL_MAX: Final = 10_000_000
"""Most elements array_fill makes."""
BOUND_MIN: Final = -(2**31)
BOUND_MAX: Final = 2**31 - 1
"""What the binder passes for the omitted bounds of a slice."""


class Elements:
    """How the elements of one array type are told from dimensions, and compared."""

    __slots__ = ("flat", "is_nested", "key")

    def __init__(self, pg_type: PgType) -> None:
        assert pg_type.elem is not None, f"{pg_type} is no array"
        shape_of = flattener(pg_type.elem)
        self.flat: Flat = shape_of.flat
        self.is_nested: Callable[[Any], bool] = shape_of.is_nested
        self.key = equality_key(pg_type.elem)

    def shape(self, array: Array) -> tuple[int, ...]:
        """Lengths of the dimensions; () of an empty array."""
        out: list[int] = []
        level: Any = array
        while level:
            out.append(len(level))
            if not self.is_nested(level[0]):
                break
            level = level[0]
        return tuple(out)

    def keys(self, array: Array) -> list[Any]:
        """Equality keys of all elements, None for NULL."""
        key, items = self.key, self.flat(array)
        return list(items) if key is None else [None if item is None else key(item) for item in items]

    def key_of(self, value: Any) -> Any:
        return value if value is None or self.key is None else self.key(value)


def typed(make: Callable[[Elements], Callable[..., Any]]) -> Specializer:
    """Specializes by the array type, which is the first argument that is one."""

    def specialize(types: tuple[PgType, ...], result: PgType) -> tuple[Callable[..., Any], str]:
        array = next(t for t in (*types, result) if t.category == "A")
        return make(Elements(array)), ""

    return specialize


# --- subscripts ----------------------------------------------------------------------


def specialize_subscript(types: tuple[PgType, ...], result: PgType) -> tuple[Callable[..., Any], str]:
    """array[i][j]..: NULL outside the bounds or with the wrong number of subscripts."""
    base = 0 if types[0].oid in (22, 30) else 1
    elements = Elements(types[0])

    def subscript(array: Array, *subscripts: int) -> Any:
        item: Any = array
        is_array = True
        for at in subscripts:
            if not is_array or not 0 <= at - base < len(item):
                return None
            item = item[at - base]
            is_array = elements.is_nested(item)
        return None if is_array else item

    def subscript_one(array: Array, at: int) -> Any:
        if not 0 <= at - base < len(array):
            return None
        item = array[at - base]
        return None if elements.is_nested(item) else item

    return (subscript_one if len(types) == 2 else subscript), ""


def make_slice(elements: Elements) -> Callable[..., Any]:
    """array[l:u][l:u]..; what lies outside is left out, and nothing at all gives an empty array."""

    def part(item: Any, bounds: tuple[int, ...]) -> Array:
        lower, upper = max(bounds[0], 1), bounds[1]
        chosen: Array = item[lower - 1 : upper] if upper >= lower else ()
        rest = bounds[2:]
        return tuple([part(inner, rest) for inner in chosen]) if rest else chosen

    def cut(array: Array, *bounds: int) -> Any:
        if len(bounds) // 2 > len(elements.shape(array)):
            return ()
        found = part(array, bounds)
        return found if found and (not elements.is_nested(found[0]) or found[0]) else ()

    return cut


# --- shape ---------------------------------------------------------------------------


def make_length(elements: Elements) -> Callable[..., Any]:
    def length(array: Array, dimension: int) -> int | None:
        shape = elements.shape(array)
        return shape[dimension - 1] if 1 <= dimension <= len(shape) else None

    return length


def specialize_bound(upper: bool) -> Specializer:
    """array_lower and array_upper; int2vector and oidvector start at 0."""

    def specialize(types: tuple[PgType, ...], result: PgType) -> tuple[Callable[..., Any], str]:
        base = 0 if types[0].oid in (22, 30) else 1
        elements = Elements(types[0])

        def bound(array: Array, dimension: int) -> int | None:
            shape = elements.shape(array)
            if not 1 <= dimension <= len(shape):
                return None
            return shape[dimension - 1] + base - 1 if upper else base

        return bound, ""

    return specialize


def make_dimension_count(elements: Elements) -> Callable[..., Any]:
    return lambda array: len(elements.shape(array)) or None


def make_dimensions(elements: Elements) -> Callable[..., Any]:
    return lambda array: "".join([f"[1:{length}]" for length in elements.shape(array)]) or None


def make_cardinality(elements: Elements) -> Callable[..., Any]:
    return lambda array: len(elements.flat(array))


def make_subscripts(elements: Elements) -> Callable[..., Any]:
    def subscripts(array: Array, dimension: int, reverse: bool = False) -> Iterator[int]:
        shape = elements.shape(array)
        if not 1 <= dimension <= len(shape):
            return iter(())
        numbers = range(1, shape[dimension - 1] + 1)
        return reversed(numbers) if reverse else iter(numbers)

    return subscripts


def specialize_subscripts(types: tuple[PgType, ...], result: PgType) -> tuple[Callable[..., Any], str]:
    """generate_subscripts: like make_subscripts, from 0 for vectors."""
    if types[0].oid not in (22, 30):
        return make_subscripts(Elements(types[0])), ""

    def subscripts(array: Array, dimension: int, reverse: bool = False) -> Iterator[int]:
        numbers = range(len(array)) if dimension == 1 else range(0)
        return reversed(numbers) if reverse else iter(numbers)

    return subscripts, ""


# --- building ------------------------------------------------------------------------


def _one_dimensional(elements: Elements, array: Array) -> Array:
    if array and elements.is_nested(array[0]):
        raise error("22000", "argument must be empty or one-dimensional array")
    return array


def make_append(elements: Elements) -> Callable[..., Any]:
    return lambda array, value: (*_one_dimensional(elements, array or ()), value)


def make_prepend(elements: Elements) -> Callable[..., Any]:
    return lambda value, array: (value, *_one_dimensional(elements, array or ()))


def incompatible(detail: str) -> MeridianError:
    return error("2202E", "cannot concatenate incompatible arrays", detail=detail)


def make_concatenate(elements: Elements) -> Callable[..., Any]:
    """array_cat: of equal dimensions one after the other, or a part of one less as another item."""

    def concatenate(left: Array | None, right: Array | None) -> Array | None:
        if not left:
            return right if right is not None and (right or left is None) else left
        if not right:
            return left
        a, b = elements.shape(left), elements.shape(right)
        if len(a) == len(b):
            if a[1:] != b[1:]:
                raise incompatible("Arrays with differing element dimensions are not compatible for concatenation.")
            return left + right
        if abs(len(a) - len(b)) != 1:
            raise incompatible(f"Arrays of {len(a)} and {len(b)} dimensions are not compatible for concatenation.")
        longer, shorter = (a, b) if len(a) > len(b) else (b, a)
        if longer[1:] != shorter:
            raise incompatible("Arrays with differing dimensions are not compatible for concatenation.")
        return (*left, right) if len(a) > len(b) else (left, *right)

    return concatenate


def stack(items: Array, message: str) -> Array:
    """Arrays of one shape as an array of one more dimension."""
    first = _lengths(items[0])
    if any(_lengths(item) != first for item in items[1:]):
        raise error("2202E", message)
    if len(first) >= ARRAY_DIMENSIONS_MAX:
        raise error(
            "54000",
            f"number of array dimensions ({len(first) + 1}) exceeds the maximum allowed ({ARRAY_DIMENSIONS_MAX})",
        )
    return items


def _lengths(item: Any) -> tuple[int, ...]:
    out: list[int] = []
    while item.__class__ is tuple and item:
        out.append(len(item))
        item = item[0]
    return tuple(out)


def fill(value: Any, lengths: Array, lower_bounds: Array | None = None) -> Array:
    """array_fill; lower bounds other than 1 do not exist here."""
    if lower_bounds is not None and any(bound != 1 for bound in lower_bounds):
        raise error("0A000", "array lower bounds other than 1 are not supported")
    if any(length is None for length in lengths):
        raise error("22004", "dimension values cannot be null")
    if len(lengths) > ARRAY_DIMENSIONS_MAX:
        raise error(
            "54000", f"number of array dimensions ({len(lengths)}) exceeds the maximum allowed ({ARRAY_DIMENSIONS_MAX})"
        )
    total = 1
    for length in lengths:
        if length < 0:
            raise error("54000", f"array size exceeds the maximum allowed ({ELEMENTS_MAX})")
        total *= length
    if total > FILL_MAX:
        raise error("54000", f"array size exceeds the maximum allowed ({ELEMENTS_MAX})")
    if not lengths or total == 0:
        return ()
    filled: Any = value
    for length in reversed(lengths):
        filled = (filled,) * length
    return tuple(filled)


def trim(array: Array, count: int) -> Array:
    if not 0 <= count <= len(array):
        raise error("2202E", f"number of elements to trim must be between 0 and {len(array)}")
    return array[: len(array) - count]


# --- searching -----------------------------------------------------------------------


def _searchable(elements: Elements, array: Array) -> list[Any]:
    if array and elements.is_nested(array[0]):
        raise error("0A000", "searching for elements in multidimensional arrays is not supported")
    return elements.keys(array)


def make_position(elements: Elements) -> Callable[..., Any]:
    """Not strict: a NULL can be searched for."""

    def position(array: Array | None, value: Any, start: int | None = 1) -> int | None:
        if array is None:
            return None
        if start is None:
            raise error("22004", "initial position must not be null")
        try:
            return _searchable(elements, array).index(elements.key_of(value), max(start, 1) - 1) + 1
        except ValueError:
            return None

    return position


def make_positions(elements: Elements) -> Callable[..., Any]:
    def positions(array: Array | None, value: Any) -> Array | None:
        if array is None:
            return None
        wanted = elements.key_of(value)
        return tuple([i for i, key in enumerate(_searchable(elements, array), 1) if key == wanted])

    return positions


def make_remove(elements: Elements) -> Callable[..., Any]:
    def remove(array: Array | None, value: Any) -> Array | None:
        if array is None:
            return None
        if array and elements.is_nested(array[0]):
            raise error("0A000", "removing elements from multidimensional arrays is not supported")
        wanted = elements.key_of(value)
        return tuple([item for item, key in zip(array, elements.keys(array)) if key != wanted])

    return remove


def make_replace(elements: Elements) -> Callable[..., Any]:
    def replace(array: Array | None, old: Any, new: Any) -> Array | None:
        if array is None:
            return None
        wanted = elements.key_of(old)

        def change(items: Array) -> Array:
            return tuple(
                [
                    change(item) if elements.is_nested(item) else (new if elements.key_of(item) == wanted else item)
                    for item in items
                ]
            )

        return change(array)

    return replace


def make_contains(elements: Elements) -> Callable[..., Any]:
    """left @> right: every element of right, none of them NULL, is in left."""

    def contains(left: Array, right: Array) -> bool:
        if not right:
            return True
        have = set(elements.keys(left))
        return all(key is not None and key in have for key in elements.keys(right))

    return contains


def make_contained(elements: Elements) -> Callable[..., Any]:
    contains = make_contains(elements)
    return lambda left, right: contains(right, left)


def make_overlaps(elements: Elements) -> Callable[..., Any]:
    def overlaps(left: Array, right: Array) -> bool:
        have = set(elements.keys(left))
        return any(key is not None and key in have for key in elements.keys(right))

    return overlaps


def make_unnest(elements: Elements) -> Callable[..., Any]:
    return elements.flat


def _register_building(registry: Registry) -> None:
    define_operator(
        registry, "||", "array_append(anycompatiblearray, anycompatible) anycompatiblearray", strict=False, specialize=typed(make_append)
    )  # fmt: skip
    define_operator(
        registry,
        "||",
        "array_prepend(anycompatible, anycompatiblearray) anycompatiblearray",
        strict=False,
        specialize=specialize_prepend,
    )
    define_operator(
        registry, "||", "array_cat(anycompatiblearray, anycompatiblearray) anycompatiblearray", strict=False, specialize=typed(make_concatenate)
    )  # fmt: skip
    define(registry, "array_fill(anyelement, int4[]) anyarray", fill, strict=False)
    define(registry, "array_fill(anyelement, int4[], int4[]) anyarray", fill, strict=False)
    define(registry, "trim_array(anyarray, int4) anyarray", trim)


def specialize_prepend(types: tuple[PgType, ...], result: PgType) -> tuple[Callable[..., Any], str]:
    """The array is the second argument, whatever the first is."""
    return make_prepend(Elements(types[1])), ""


def _register_shape(registry: Registry) -> None:
    define(registry, "array_length(anyarray, int4) int4", specialize=typed(make_length))
    define(registry, "array_lower(anyarray, int4) int4", specialize=specialize_bound(False))
    define(registry, "array_upper(anyarray, int4) int4", specialize=specialize_bound(True))
    define(registry, "array_ndims(anyarray) int4", specialize=typed(make_dimension_count))
    define(registry, "array_dims(anyarray) text", specialize=typed(make_dimensions))
    define(registry, "cardinality(anyarray) int4", specialize=typed(make_cardinality))
    define(registry, "generate_subscripts(anyarray, int4) setof int4", specialize=specialize_subscripts)
    define(registry, "generate_subscripts(anyarray, int4, bool) setof int4", specialize=specialize_subscripts)
    define(registry, "unnest(anyarray) setof anyelement", specialize=typed(make_unnest))
    for count in range(1, ARRAY_DIMENSIONS_MAX + 1):
        define(
            registry,
            f"array_subscript(anyarray, {', '.join(['int4'] * count)}) anyelement",
            specialize=specialize_subscript,
        )
        define(
            registry, f"array_slice(anyarray, {', '.join(['int4'] * 2 * count)}) anyarray", specialize=typed(make_slice)
        )


def register(registry: Registry) -> None:
    """Adds this family."""
    _register_building(registry)
    _register_shape(registry)
    define(
        registry,
        "array_position(anycompatiblearray, anycompatible) int4",
        strict=False,
        specialize=typed(make_position),
    )
    define(
        registry,
        "array_position(anycompatiblearray, anycompatible, int4) int4",
        strict=False,
        specialize=typed(make_position),
    )
    define(
        registry,
        "array_positions(anycompatiblearray, anycompatible) int4[]",
        strict=False,
        specialize=typed(make_positions),
    )
    define(
        registry,
        "array_remove(anycompatiblearray, anycompatible) anycompatiblearray",
        strict=False,
        specialize=typed(make_remove),
    )
    define(
        registry, "array_replace(anycompatiblearray, anycompatible, anycompatible) anycompatiblearray", strict=False, specialize=typed(make_replace)
    )  # fmt: skip
    define_operator(registry, "@>", "arraycontains(anyarray, anyarray) bool", specialize=typed(make_contains))
    define_operator(registry, "<@", "arraycontained(anyarray, anyarray) bool", specialize=typed(make_contained))
    define_operator(registry, "&&", "arrayoverlap(anyarray, anyarray) bool", specialize=typed(make_overlaps))
