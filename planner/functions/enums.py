"""enum_first, enum_last, enum_range: of the argument's type, whatever its value.  PostgreSQL 15 manual: 9.10."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from base.errors import error
from base.types import PgType
from planner.functions.declare import define
from planner.functions.registry import Registry

Specialized = tuple[Callable[..., Any], str]


def ordered_labels(pg_type: PgType) -> tuple[str, ...]:
    """The labels in the type's order."""
    return (
        tuple(sorted(pg_type.enum_labels, key=pg_type.enum_physical.__getitem__))
        if pg_type.enum_physical
        else pg_type.enum_labels
    )


def _labels_or_error(pg_type: PgType) -> tuple[str, ...]:
    labels = ordered_labels(pg_type)
    if not labels:
        raise error("55000", f"enum {pg_type.name} contains no values")
    return labels


def specialize_first(types: tuple[PgType, ...], result: PgType) -> Specialized:
    return (lambda value: _labels_or_error(types[0])[0]), ""


def specialize_last(types: tuple[PgType, ...], result: PgType) -> Specialized:
    return (lambda value: _labels_or_error(types[0])[-1]), ""


def specialize_range(types: tuple[PgType, ...], result: PgType) -> Specialized:
    """All labels, or those between two (NULL: open)."""

    def labels(low: str | None, high: str | None = None) -> tuple[str, ...]:
        found = ordered_labels(types[0])
        if len(types) == 1:
            return found
        start = 0 if low is None else found.index(low)
        end = len(found) if high is None else found.index(high) + 1
        return found[start:end]

    return labels, ""


def register(registry: Registry) -> None:
    """Adds this family."""
    define(registry, "enum_first(anyenum) anyenum", specialize=specialize_first, strict=False)
    define(registry, "enum_last(anyenum) anyenum", specialize=specialize_last, strict=False)
    define(registry, "enum_range(anyenum) anyarray", specialize=specialize_range, strict=False)
    define(registry, "enum_range(anyenum, anyenum) anyarray", specialize=specialize_range, strict=False)
