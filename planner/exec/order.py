"""Python keys that order and equate datums as PostgreSQL's default operator classes do.

``order_key(type)`` gives a function datum -> sortable key, or None where the datum is its own
key.  ``equality_key(type)`` likewise for hashing: equal datums, and only they, have equal keys.
NULL never reaches these functions; ``sort_rows`` and the hash operators treat it themselves.

    bpchar    trailing blanks do not count          numeric, float   NaN is equal to itself, above all
    interval  1 mon = 30 days, 1 day = 24 hours     arrays           element by element, NULL highest
    enum      by declared position                  jsonb            Object > Array > Boolean > Number > String > Null

PostgreSQL 15 manual: 8.5.4, 8.14.4, 8.16.5, 9.24.6.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

from base.arrays import flatten_array, holds_tuple, is_composite
from base.types import PgType

KeyFunction = Callable[[Any], Any]

DAY_US: Final = 86_400_000_000
NAN_KEY: Final = (1, 0)


def _float_order(value: float) -> tuple[int, float]:
    return (0, value) if value == value else NAN_KEY  # NaN differs from itself


def _float_equal(value: float) -> Any:
    return value if value == value else "NaN"


def _numeric_order(value: Decimal) -> tuple[int, Any]:
    return NAN_KEY if value.is_nan() else (0, value)


def _numeric_equal(value: Decimal) -> Any:
    return "NaN" if value.is_nan() else value


def _bpchar(value: str) -> str:
    return value.rstrip(" ")


def interval_order(value: tuple[int, int, int]) -> int:
    """The interval in microseconds, with months of 30 days."""
    months, days, microseconds = value
    return (months * 30 + days) * DAY_US + microseconds


def _timetz_order(value: tuple[int, int]) -> tuple[int, int]:
    return (value[0] + value[1] * 1_000_000, value[1])


def _inet_order(value: str) -> tuple[int, int, int, int]:
    interface = ipaddress.ip_interface(value)
    return (interface.version, int(interface.network.network_address), interface.network.prefixlen, int(interface.ip))


def _json_number(text: str) -> Decimal:
    return Decimal(text)


def _json_key(value: Any) -> tuple[Any, ...]:
    if value is None:
        return (1,)
    if isinstance(value, str):
        return (2, value)
    if isinstance(value, bool):
        return (4, value)
    if isinstance(value, Decimal):
        return (3, value)
    if isinstance(value, list):
        # An empty array sorts below everything else at top level (a documented oddity).
        return (0,) if not value else (5, len(value), tuple([_json_key(item) for item in value]))
    pairs = sorted(value.items(), key=lambda pair: (len(pair[0].encode()), pair[0]))
    return (6, len(pairs), tuple([(key, _json_key(item)) for key, item in pairs]))


def jsonb_order(value: str) -> tuple[Any, ...]:
    """Orders canonical jsonb text as jsonb_cmp does."""
    return _json_key(json.loads(value, parse_int=_json_number, parse_float=_json_number))


class _ElementKey:
    """Orders arrays of one element type: element by element, NULL above values, shorter first, then by shape."""

    def __init__(self, elem: PgType, element: KeyFunction | None) -> None:
        self.element = element
        self.scalar_tuple = holds_tuple(elem)
        self.composite = is_composite(elem)

    def __call__(self, value: tuple[Any, ...]) -> tuple[Any, ...]:
        element = self.element
        items, shape = (value, [len(value)]) if self.composite else flatten_array(value, self.scalar_tuple)
        keys = [NAN_KEY if item is None else (0, item if element is None else element(item)) for item in items]
        return (tuple(keys), tuple(shape))


class _RowKey:
    """Orders composite values field by field."""

    def __init__(self, fields: tuple[KeyFunction | None, ...]) -> None:
        self.fields = fields

    def __call__(self, value: tuple[Any, ...]) -> tuple[Any, ...]:
        out: list[Any] = []
        for i, item in enumerate(value):
            function = self.fields[i] if i < len(self.fields) else None
            if item is None:
                out.append(NAN_KEY)
            else:
                out.append((0, item if function is None else function(item)))
        return tuple(out)


class _EnumKey:
    def __init__(self, pg_type: PgType) -> None:
        self.pg_type = pg_type

    def __call__(self, value: str) -> int:
        return self.pg_type.enum_physical[value]


_ORDER: Final[dict[str, KeyFunction]] = {
    "float4": _float_order, "float8": _float_order, "numeric": _numeric_order, "bpchar": _bpchar,
    "interval": interval_order, "timetz": _timetz_order, "inet": _inet_order, "cidr": _inet_order, "jsonb": jsonb_order,
}  # fmt: skip
_EQUAL: Final[dict[str, KeyFunction]] = {
    "float4": _float_equal, "float8": _float_equal, "numeric": _numeric_equal, "bpchar": _bpchar,
    "interval": interval_order, "jsonb": jsonb_order,
}  # fmt: skip


def order_key(pg_type: PgType) -> KeyFunction | None:
    """Returns the key function of the type's default order; None: the datum itself."""
    if pg_type.kind == "e":
        return _EnumKey(pg_type)
    if pg_type.is_array and pg_type.elem is not None:
        return _ElementKey(pg_type.elem, order_key(pg_type.elem))
    if pg_type.kind == "c" or pg_type.name == "record":
        return _RowKey(tuple([order_key(field) for _, field in pg_type.fields]))
    return _ORDER.get(pg_type.name)


def equality_key(pg_type: PgType) -> KeyFunction | None:
    """Returns the key function for hashing; None: the datum itself."""
    if pg_type.is_array and pg_type.elem is not None:
        element = equality_key(pg_type.elem)
        return None if element is None else _ElementKey(pg_type.elem, element)
    if pg_type.kind == "c" or pg_type.name == "record":
        return _RowKey(tuple([equality_key(field) for _, field in pg_type.fields]))
    return _EQUAL.get(pg_type.name)


def sort_positions(
    columns: Sequence[list[Any]], directions: Sequence[tuple[bool, bool]], transforms: Sequence[KeyFunction | None]
) -> list[int]:
    """Returns row numbers in order: one stable pass per key, the last key first.

    ``directions[i]`` is (descending, nulls first).
    """
    count = len(columns[0]) if columns else 0
    positions = list(range(count))
    for i in range(len(columns) - 1, -1, -1):
        descending, nulls_first = directions[i]
        keys = sortable(columns[i], transforms[i], descending == nulls_first)
        positions.sort(key=keys.__getitem__, reverse=descending)
    return positions


def sortable(column: list[Any], transform: KeyFunction | None, nulls_high: bool) -> list[Any]:
    """A key column as sortable values; NULLs above (or below) all others."""
    if None not in column:
        return column if transform is None else [transform(value) for value in column]
    null_key, rank = ((1, 0), 0) if nulls_high else ((0, 0), 1)
    if transform is None:
        return [null_key if value is None else (rank, value) for value in column]
    return [null_key if value is None else (rank, transform(value)) for value in column]
