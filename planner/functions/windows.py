"""Window functions: ranks, lag and lead, values of a frame.  PostgreSQL 15 manual: 9.22.

Each takes a ``planner.exec.window.Partition`` and returns one datum per row, in order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from base.errors import error
from planner.functions.declare import parse_signature
from planner.functions.registry import Registry, WindowFunction

if TYPE_CHECKING:
    from planner.exec.window import Partition


def row_number(partition: Partition) -> list[Any]:
    return list(range(1, partition.count + 1))


def rank(partition: Partition) -> list[Any]:
    return [partition.group_starts[group] + 1 for group in partition.groups]


def dense_rank(partition: Partition) -> list[Any]:
    return [group + 1 for group in partition.groups]


def percent_rank(partition: Partition) -> list[Any]:
    if partition.count <= 1:
        return [0.0] * partition.count
    return [partition.group_starts[group] / (partition.count - 1) for group in partition.groups]


def cume_dist(partition: Partition) -> list[Any]:
    return [partition.group_starts[group + 1] / partition.count for group in partition.groups]


def ntile(partition: Partition) -> list[Any]:
    """The argument of the partition's first row counts; NULL until one is not NULL."""
    buckets = next((args[0] for args in partition.args if args[0] is not None), None)
    if buckets is None:
        return [None] * partition.count
    if buckets <= 0:
        raise error("22014", "argument of ntile must be greater than zero")
    size, larger = divmod(partition.count, buckets)
    out: list[Any] = []
    for bucket in range(1, min(buckets, partition.count) + 1):
        out += [bucket] * (size + (1 if bucket <= larger else 0))
    first = next(i for i, args in enumerate(partition.args) if args[0] is not None)
    return [None] * first + out[: partition.count - first]


def _shifted(partition: Partition, direction: int) -> list[Any]:
    """lag and lead: (value [, offset [, default]])."""
    args, count = partition.args, partition.count
    out: list[Any] = []
    for i in range(count):
        own = args[i]
        offset = own[1] if len(own) > 1 else 1
        if offset is None:
            out.append(None)
            continue
        at = i + direction * offset
        out.append(args[at][0] if 0 <= at < count else own[2] if len(own) > 2 else None)
    return out


def lag(partition: Partition) -> list[Any]:
    return _shifted(partition, -1)


def lead(partition: Partition) -> list[Any]:
    return _shifted(partition, 1)


def first_value(partition: Partition) -> list[Any]:
    out: list[Any] = []
    for i in range(partition.count):
        ranges = partition.ranges(i)
        out.append(partition.args[ranges[0][0]][0] if ranges else None)
    return out


def last_value(partition: Partition) -> list[Any]:
    out: list[Any] = []
    for i in range(partition.count):
        ranges = partition.ranges(i)
        out.append(partition.args[ranges[-1][1] - 1][0] if ranges else None)
    return out


def nth_value(partition: Partition) -> list[Any]:
    out: list[Any] = []
    for i in range(partition.count):
        nth = partition.args[i][1]
        if nth is None:
            out.append(None)
            continue
        if nth <= 0:
            raise error("22016", "argument of nth_value must be greater than zero")
        out.append(_nth(partition, i, nth))
    return out


def _nth(partition: Partition, i: int, nth: int) -> Any:
    for start, end in partition.ranges(i):
        if nth <= end - start:
            return partition.args[start + nth - 1][0]
        nth -= end - start
    return None


def register(registry: Registry) -> None:
    """Adds this family."""
    for signature, impl, uses_frame in (
        ("row_number() int8", row_number, False),
        ("rank() int8", rank, False),
        ("dense_rank() int8", dense_rank, False),
        ("percent_rank() float8", percent_rank, False),
        ("cume_dist() float8", cume_dist, False),
        ("ntile(int4) int4", ntile, False),
        ("lag(anyelement) anyelement", lag, False),
        ("lag(anyelement, int4) anyelement", lag, False),
        ("lag(anycompatible, int4, anycompatible) anycompatible", lag, False),
        ("lead(anyelement) anyelement", lead, False),
        ("lead(anyelement, int4) anyelement", lead, False),
        ("lead(anycompatible, int4, anycompatible) anycompatible", lead, False),
        ("first_value(anyelement) anyelement", first_value, True),
        ("last_value(anyelement) anyelement", last_value, True),
        ("nth_value(anyelement, int4) anyelement", nth_value, True),
    ):
        name, arg_types, result, _, _, _ = parse_signature(signature)
        registry.add_window(WindowFunction(name, arg_types, result, impl, uses_frame=uses_frame))
