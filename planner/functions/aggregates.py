"""Aggregates: count, sum, avg, min, max, statistics, boolean, bits, strings, arrays, ordered sets.

Results have PostgreSQL's types and scales: sum(int4) is int8, sum(int8) and avg of integers are
numeric, avg(numeric) has the scale of a division.  Float statistics use Youngs and Cramer's
updates as float.c does, so their last digits agree.  PostgreSQL 15 manual: 9.21.

States are small lists that ``step`` changes in place, or plain datums (None: nothing yet).
``final`` never changes a state; ``combine`` may use up both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from base.errors import error
from base.types import PgType
from planner.exec.order import equality_key, order_key
from planner.functions import floats, numeric
from planner.functions.arithmetic import BOUNDS, int8_overflow
from planner.functions.arrays import stack
from planner.functions.declare import parse_signature
from planner.functions.registry import Aggregate, Registry
from planner.functions.strings import check_length

ORDERED_TYPES: Final = (
    "int8", "int4", "int2", "oid", "float4", "float8", "date", "time", "timetz", "timestamp", "timestamptz", "interval", "text", "numeric",
    "anyarray", "bpchar", "tid", "anyenum", "inet", "pg_lsn", "xid8",
)  # fmt: skip
"""What min and max are defined for."""


def define_aggregate(
    registry: Registry,
    signature: str,
    init: Callable[[], Any],
    step: Callable[..., Any],
    final: Callable[..., Any],
    **options: Any,
) -> Aggregate:
    """Adds an aggregate declared as ``name(types) result``."""
    name, arg_types, result, variadic, _, _ = parse_signature(signature)
    aggregate = Aggregate(name, arg_types, result, init, step, final, variadic=variadic, **options)
    registry.add_aggregate(aggregate)
    return aggregate


def nothing() -> None:
    """The state before the first row of aggregates whose state is a datum."""
    return None


def itself(state: Any) -> Any:
    return state


def no_final(state: Any, *args: Any) -> Any:
    raise AssertionError("an aggregate was finished without being specialized")


def either(combine: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Combines two states of which one may be None."""

    def merge(left: Any, right: Any) -> Any:
        if left is None:
            return right
        return left if right is None else combine(left, right)

    return merge


# --- count, sum, avg ---------------------------------------------------------------


def zero() -> int:
    return 0


def count_step(state: int, *args: Any) -> int:
    return state + 1


def count_back(state: int, *args: Any) -> int:
    return state - 1


def add_plain(left: Any, right: Any) -> Any:
    return left + right


def sum_step(state: Any, value: Any) -> Any:
    return value if state is None else state + value


def int_sum_final(state: int | None) -> int | None:
    if state is not None and not -(2**63) <= state < 2**63:
        int8_overflow()
    return state


def int_sum_numeric_final(state: int | None) -> Decimal | None:
    return None if state is None else Decimal(state)


def float_sum_step(state: float | None, value: float) -> float:
    return value if state is None else floats.add(state, value)


def single_sum_step(state: float | None, value: float) -> float:
    if state is None:
        return value
    result = floats.to_single(state + value)
    if math.isinf(result) and not math.isinf(state) and not math.isinf(value):
        floats.overflow()
    return result


def numeric_sum_step(state: Decimal | None, value: Decimal) -> Decimal:
    return value if state is None else numeric.add(state, value)


def pair() -> list[Any]:
    """[number of values, their sum]."""
    return [0, 0]


def pair_step(state: list[Any], value: Any) -> list[Any]:
    state[0] += 1
    state[1] += value
    return state


def pair_back(state: list[Any], value: Any) -> list[Any]:
    state[0] -= 1
    state[1] -= value
    return state


def pair_combine(left: list[Any], right: list[Any]) -> list[Any]:
    return [left[0] + right[0], left[1] + right[1]]


def pair_sum_final(state: list[Any]) -> int | None:
    return int_sum_final(state[1]) if state[0] else None


def pair_sum_numeric_final(state: list[Any]) -> Decimal | None:
    return Decimal(state[1]) if state[0] else None


def int_average(state: list[Any]) -> Decimal | None:
    return numeric.divide(Decimal(state[1]), Decimal(state[0])) if state[0] else None


def numeric_pair() -> list[Any]:
    return [0, numeric.ZERO]


def numeric_pair_step(state: list[Any], value: Decimal) -> list[Any]:
    state[0] += 1
    state[1] = numeric.add(state[1], value)
    return state


def numeric_pair_combine(left: list[Any], right: list[Any]) -> list[Any]:
    return [left[0] + right[0], numeric.add(left[1], right[1])]


def numeric_average(state: list[Any]) -> Decimal | None:
    return numeric.divide(state[1], Decimal(state[0])) if state[0] else None


def float_average(state: list[Any]) -> float | None:
    return state[1] / state[0] if state[0] else None


def float_pair_step(state: list[Any], value: float) -> list[Any]:
    state[0] += 1
    state[1] = floats.add(state[1], value)
    return state


def _register_sums(registry: Registry) -> None:
    define_aggregate(
        registry, "count() int8", zero, count_step, itself, combine=add_plain, inverse=count_back, strict=False
    )
    define_aggregate(registry, "count(any) int8", zero, count_step, itself, combine=add_plain, inverse=count_back)
    for name in ("int2", "int4"):
        define_aggregate(
            registry, f"sum({name}) int8", pair, pair_step, pair_sum_final, combine=pair_combine, inverse=pair_back
        )
    define_aggregate(
        registry, "sum(int8) numeric", pair, pair_step, pair_sum_numeric_final, combine=pair_combine, inverse=pair_back
    )
    for name in BOUNDS:
        define_aggregate(
            registry, f"avg({name}) numeric", pair, pair_step, int_average, combine=pair_combine, inverse=pair_back
        )
    define_aggregate(registry, "sum(float4) float4", nothing, single_sum_step, itself, combine=either(single_sum_step))
    define_aggregate(registry, "sum(float8) float8", nothing, float_sum_step, itself, combine=either(float_sum_step))
    define_aggregate(
        registry, "sum(numeric) numeric", nothing, numeric_sum_step, itself, combine=either(numeric_sum_step)
    )
    for name in ("float4", "float8"):
        define_aggregate(registry, f"avg({name}) float8", pair, float_pair_step, float_average, combine=pair_combine)
    define_aggregate(
        registry, "avg(numeric) numeric", numeric_pair, numeric_pair_step, numeric_average, combine=numeric_pair_combine
    )


# --- min, max ----------------------------------------------------------------------


def plain_min(state: Any, value: Any) -> Any:
    return value if state is None or value < state else state


def plain_max(state: Any, value: Any) -> Any:
    return value if state is None or value > state else state


def keyed_extreme(key: Callable[[Any], Any], is_max: bool, keeps_first: bool) -> Callable[[Any, Any], Any]:
    """Steps over (key, datum) pairs; of equal datums (1.0 and 1.00) the last counts, or the first."""

    def step(state: Any, value: Any) -> Any:
        own = key(value)
        if state is None:
            return (own, value)
        if own == state[0]:
            return state if keeps_first else (own, value)
        return (own, value) if (own > state[0]) == is_max else state

    return step


def keyed_final(state: Any) -> Any:
    return None if state is None else state[1]


def _extreme_combine(is_max: bool, keeps_first: bool) -> Callable[[Any, Any], Any]:
    def merge(left: Any, right: Any) -> Any:
        if left[0] == right[0]:
            return left if keeps_first else right
        return right if (right[0] > left[0]) == is_max else left

    return either(merge)


def specialize_extreme(entry: Aggregate, types: tuple[PgType, ...], result: PgType) -> Aggregate:
    """min or max of an actual type."""
    is_max = entry.name == "max"
    key = order_key(types[0])
    if key is None:
        plain = plain_max if is_max else plain_min
        return Aggregate(entry.name, types, result, nothing, plain, itself, oid=entry.oid, combine=either(plain))
    keeps_first = types[0].name == "bpchar"
    step, combine = keyed_extreme(key, is_max, keeps_first), _extreme_combine(is_max, keeps_first)
    return Aggregate(entry.name, types, result, nothing, step, keyed_final, oid=entry.oid, combine=combine)


def _register_extremes(registry: Registry) -> None:
    for name in ("min", "max"):
        for type_name in ORDERED_TYPES:
            define_aggregate(
                registry,
                f"{name}({type_name}) {type_name}",
                nothing,
                plain_max,
                no_final,
                specialize=specialize_extreme,
            )


# --- booleans, bits, strings, arrays -------------------------------------------------


def bool_and_step(state: bool | None, value: bool) -> bool:
    return value if state is None else state and value


def bool_or_step(state: bool | None, value: bool) -> bool:
    return value if state is None else state or value


def bit_string_step(operation: Callable[[int, int], int]) -> Callable[[str | None, str], str]:
    """Over bit(n): all of one length."""

    def step(state: str | None, value: str) -> str:
        if state is None:
            return value
        if len(state) != len(value):
            raise error("22026", "cannot combine bit strings of different sizes")
        return f"{operation(int(state, 2), int(value, 2)):0{len(value)}b}" if value else value

    return step


_BITS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "bit_and": lambda left, right: left & right,
    "bit_or": lambda left, right: left | right,
    "bit_xor": lambda left, right: left ^ right,
}


def new_list() -> list[Any]:
    return []


def string_step(state: list[Any], value: Any, delimiter: Any) -> list[Any]:
    """Keeps delimiter and value alternating; the first delimiter is not used."""
    if value is not None:
        state.append(delimiter)
        state.append(value)
    return state


def _string_final(empty: Any) -> Callable[[list[Any]], Any]:
    def final(state: list[Any]) -> Any:
        if not state:
            return None
        pieces = [piece for piece in state[1:] if piece is not None]
        check_length(sum(map(len, pieces)))
        return empty.join(pieces)

    return final


def list_step(state: list[Any], value: Any) -> list[Any]:
    state.append(value)
    return state


def array_final(state: list[Any]) -> Any:
    return tuple(state) if state else None


def stacked_final(state: list[Any]) -> Any:
    """array_agg of arrays: one more dimension."""
    if not state:
        return None
    for item in state:
        if item is None:
            raise error("22004", "cannot accumulate null arrays")
        if not item:
            raise error("2202E", "cannot accumulate empty arrays")
    return stack(tuple(state), "cannot accumulate arrays of different dimensionality")


def _register_collections(registry: Registry) -> None:
    for name, step in (("bool_and", bool_and_step), ("every", bool_and_step), ("bool_or", bool_or_step)):
        define_aggregate(registry, f"{name}(bool) bool", nothing, step, itself, combine=either(step))
    for name, operation in _BITS.items():
        combine = either(operation)
        for type_name in BOUNDS:
            define_aggregate(registry, f"{name}({type_name}) {type_name}", nothing, combine, itself, combine=combine)
        bits = bit_string_step(operation)
        define_aggregate(registry, f"{name}(bit) bit", nothing, bits, itself, combine=either(bits))
    define_aggregate(
        registry,
        "string_agg(text, text) text",
        new_list,
        string_step,
        _string_final(""),
        combine=add_plain,
        strict=False,
    )
    define_aggregate(
        registry,
        "string_agg(bytea, bytea) bytea",
        new_list,
        string_step,
        _string_final(b""),
        combine=add_plain,
        strict=False,
    )
    define_aggregate(
        registry, "array_agg(anynonarray) anyarray", new_list, list_step, array_final, combine=add_plain, strict=False
    )
    define_aggregate(
        registry, "array_agg(anyarray) anyarray", new_list, list_step, stacked_final, combine=add_plain, strict=False
    )


# --- ordered sets --------------------------------------------------------------------


def _check_percentile(fraction: float) -> None:
    if not 0 <= fraction <= 1:
        raise error("22003", f"percentile value {fraction:g} is not between 0 and 1")


def discrete(state: list[Any], fraction: float | None) -> Any:
    """percentile_disc over sorted values."""
    if fraction is None:
        return None
    _check_percentile(fraction)
    if not state:
        return None
    return state[max(math.ceil(fraction * len(state)), 1) - 1]


def continuous(state: list[Any], fraction: float | None) -> Any:
    """percentile_cont over sorted floats."""
    if fraction is None:
        return None
    _check_percentile(fraction)
    if not state:
        return None
    place = fraction * (len(state) - 1)
    low, high = state[math.floor(place)], state[math.ceil(place)]
    return low if low == high else low + (place - math.floor(place)) * (high - low)


def several(single: Callable[[list[Any], float | None], Any]) -> Callable[[list[Any], Any], Any]:
    """The form that takes an array of fractions and gives an array of the same shape."""

    def final(state: list[Any], fractions: Any) -> Any:
        if fractions is None or not state:
            return None
        return tuple([final(state, item) if item.__class__ is tuple else single(state, item) for item in fractions])

    return final


def specialize_mode(entry: Aggregate, types: tuple[PgType, ...], result: PgType) -> Aggregate:
    key = equality_key(types[0])

    def final(state: list[Any]) -> Any:
        best, best_count, first, current, count = None, 0, None, None, 0
        for i, value in enumerate(state):
            own = value if key is None else key(value)
            if i and own == current:
                count += 1
            else:
                first, current, count = value, own, 1
            if count > best_count:
                best, best_count = first, count
        return best

    return Aggregate(entry.name, types, result, new_list, list_step, final, ordered_set=True)


def _register_ordered_sets(registry: Registry) -> None:
    def define_ordered(signature: str, final: Callable[..., Any], **options: Any) -> None:
        define_aggregate(registry, signature, new_list, list_step, final, ordered_set=True, **options)

    define_ordered("percentile_cont(float8, float8) float8", continuous, direct_args=1)
    define_ordered("percentile_cont(float8[], float8) float8[]", several(continuous), direct_args=1)
    define_ordered("percentile_disc(float8, anyelement) anyelement", discrete, direct_args=1)
    define_ordered("percentile_disc(float8[], anyelement) anyarray", several(discrete), direct_args=1)
    define_ordered("mode(anyelement) anyelement", no_final, specialize=specialize_mode)


def register(registry: Registry) -> None:
    """Adds this family."""
    _register_sums(registry)
    _register_extremes(registry)
    _register_collections(registry)
    _register_ordered_sets(registry)
