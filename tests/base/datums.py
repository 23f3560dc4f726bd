"""Random datums of every SQL type, and slow honest comparisons of them.

The comparators follow PostgreSQL's C functions (numeric_cmp, interval_cmp_internal, network_cmp,
bit_cmp, array_cmp, compareJsonbContainers...) step by step, not the encodings.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from base import types as t
from base.types import PgType

Compare = Callable[[Any, Any], int]

MOOD = PgType(16500, "mood", 4, "E", 16501, kind="e", enum_labels=("sad", "ok", "happy"))
MOOD.enum_physical = {"sad": -(2**30), "ok": 7, "happy": 2**30}
POINT = PgType(16510, "point3", -1, "C", 16511, kind="c", fields=(("a", t.INT4), ("b", t.TEXT)))
POINTS = PgType(16511, "_point3", -1, "A", elem=POINT)
EMAIL = PgType(16520, "email", -1, "S", kind="d", base=t.TEXT)


def compare(a: Any, b: Any) -> int:
    return (a > b) - (a < b)


def compare_float(a: float, b: float) -> int:
    if a != a or b != b:
        return (a != a) - (b != b)
    return compare(a, b)


def compare_numeric(a: Decimal, b: Decimal) -> int:
    if a.is_nan() or b.is_nan():
        return a.is_nan() - b.is_nan()
    return compare(a, b)


def compare_text(a: str, b: str) -> int:
    return compare(a.encode(), b.encode())


def compare_bpchar(a: str, b: str) -> int:
    return compare_text(a.rstrip(" "), b.rstrip(" "))


def compare_interval(a: tuple[int, int, int], b: tuple[int, int, int]) -> int:
    def span(months: int, days: int, microseconds: int) -> int:
        return microseconds + (days + months * 30) * 24 * 3600 * 1_000_000

    return compare(span(*a), span(*b))


def compare_timetz(a: tuple[int, int], b: tuple[int, int]) -> int:
    return compare(a[0] + a[1] * 1_000_000, b[0] + b[1] * 1_000_000) or compare(a[1], b[1])


def compare_bit(a: str, b: str) -> int:
    def pack(bits: str) -> bytes:
        padded = bits + "0" * (-len(bits) % 8)
        return bytes(int(padded[i : i + 8], 2) for i in range(0, len(padded), 8))

    shared = min(len(pack(a)), len(pack(b)))
    return compare(pack(a)[:shared], pack(b)[:shared]) or compare(len(a), len(b))


def compare_inet(a: str, b: str) -> int:
    x, y = ipaddress.ip_interface(a), ipaddress.ip_interface(b)
    if x.version != y.version:
        return compare(x.version, y.version)
    size = x.max_prefixlen
    x_bits, y_bits = f"{int(x.ip):0{size}b}", f"{int(y.ip):0{size}b}"
    shared = min(x.network.prefixlen, y.network.prefixlen)
    return (
        compare(x_bits[:shared], y_bits[:shared])
        or compare(x.network.prefixlen, y.network.prefixlen)
        or compare(x_bits, y_bits)
    )


def compare_mood(a: str, b: str) -> int:
    return compare(MOOD.enum_labels.index(a), MOOD.enum_labels.index(b))


def compare_vector(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    return compare(len(a), len(b)) or compare(a, b)


def nulls_last(inner: Compare) -> Compare:
    def compare_nullable(a: Any, b: Any) -> int:
        if a is None or b is None:
            return (a is None) - (b is None)
        return inner(a, b)

    return compare_nullable


def compare_array(element: Compare) -> Compare:
    """array_cmp over arrays of scalars: elements, then number of dimensions, then lengths."""

    def flatten(value: tuple[Any, ...]) -> tuple[list[Any], list[int]]:
        if not value:
            return [], []
        if isinstance(value[0], tuple):
            inner = [flatten(item) for item in value]
            return [x for items, _ in inner for x in items], [len(value), *inner[0][1]]
        return list(value), [len(value)]

    def compare_arrays(a: Any, b: Any) -> int:
        (x, x_shape), (y, y_shape) = flatten(a), flatten(b)
        for i in range(min(len(x), len(y))):
            order = nulls_last(element)(x[i], y[i])
            if order:
                return order
        return compare(len(x), len(y)) or compare(len(x_shape), len(y_shape)) or compare(x_shape, y_shape)

    return compare_arrays


def compare_one_dimension(element: Compare) -> Compare:
    def compare_arrays(a: tuple[Any, ...], b: tuple[Any, ...]) -> int:
        orders = [nulls_last(element)(x, y) for x, y in zip(a, b)]
        return next((order for order in orders if order), 0) or compare(len(a), len(b))

    return compare_arrays


def compare_point(a: tuple[Any, ...], b: tuple[Any, ...]) -> int:
    return nulls_last(compare)(a[0], b[0]) or nulls_last(compare_text)(a[1], b[1])


def compare_jsonb(a: str, b: str) -> int:
    """compareJsonbContainers, with its exception for an empty array at the top."""
    x, y = (json.loads(text, parse_int=Decimal, parse_float=Decimal) for text in (a, b))
    if (x == [] and isinstance(x, list)) or (y == [] and isinstance(y, list)):
        return (y == [] and isinstance(y, list)) - (x == [] and isinstance(x, list))
    return _compare_json(x, y)


def _compare_json(a: Any, b: Any) -> int:
    def rank(value: Any) -> int:
        kinds = [type(None), str, Decimal, bool, list, dict]
        return kinds.index(type(value))

    if rank(a) != rank(b):
        return compare(rank(a), rank(b))
    if isinstance(a, str):
        return compare_text(a, b)
    if isinstance(a, list):
        orders = [_compare_json(x, y) for x, y in zip(a, b)]
        return compare(len(a), len(b)) or next((order for order in orders if order), 0)
    if isinstance(a, dict):
        if len(a) != len(b):
            return compare(len(a), len(b))
        for x, y in zip(_pairs(a), _pairs(b)):
            order = compare_text(x[0], y[0]) or _compare_json(x[1], y[1])
            if order:
                return order
        return 0
    return 0 if a is None else compare(a, b)


def _pairs(value: dict[str, Any]) -> list[tuple[str, Any]]:
    return sorted(value.items(), key=lambda pair: (len(pair[0].encode()), pair[0].encode()))


# --- strategies ----------------------------------------------------------------


def integers(bits: int, signed: bool = True) -> st.SearchStrategy[int]:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return st.integers(low, high) | st.sampled_from([low, high, 0 if low else 1, low + 1, high - 1]) | st.integers(0, 3)


TEXTS = st.text(alphabet="ab \x00\x01\x02\xff\u20ac\U0001f600", max_size=4)
BYTES = st.binary(max_size=5) | st.lists(st.sampled_from([0, 1, 2, 254, 255]), max_size=5).map(bytes)
DIGITS = st.integers(-10_000, 10_000)
NUMERICS = (
    st.builds(lambda n, scale: Decimal(n).scaleb(-scale), DIGITS, st.integers(0, 6))
    | st.decimals(allow_nan=False, allow_infinity=False, places=3)
    | st.builds(
        lambda n, scale: Decimal(f"{n}E{scale}"), DIGITS, st.sampled_from([-16383, -60, -42, -41, -40, -39, -38])
    )
    | st.builds(
        lambda n, zeros: Decimal(f"{n}{'0' * zeros}"), DIGITS, st.sampled_from([34, 35, 36, 37, 38, 39, 40, 41, 100])
    )
    | st.sampled_from(
        [Decimal("NaN"), Decimal("Infinity"), Decimal("-Infinity"), Decimal(0), Decimal("0.00"), Decimal("1.0")]
    )
).filter(lambda value: bool(value) or not value.is_signed())
FLOATS = st.floats() | st.sampled_from([0.0, -0.0, float("nan"), float("inf"), -float("inf")])
SINGLES = st.floats(width=32)
INTERVALS = st.tuples(integers(32), integers(32), integers(64)) | st.tuples(
    st.integers(-2, 2), st.integers(-60, 60), st.sampled_from([0, 1, 86_400_000_000, -86_400_000_000])
)
TIMETZS = st.tuples(st.integers(0, 86_400_000_000), st.integers(-57540, 57540)) | st.sampled_from(
    [(3_600_000_000, 0), (0, 3600), (7_200_000_000, -3600)]
)
BITS = st.text(alphabet="01", max_size=18)


def _inet(value: tuple[int, int, bool]) -> str:
    number, mask, is_six = value
    if is_six:
        return f"{ipaddress.IPv6Address(number << 100 | number)}" + ("" if mask >= 128 else f"/{mask}")
    return f"{ipaddress.IPv4Address(number << 8 | number & 255)}" + ("" if mask >= 32 else f"/{mask}")


INETS = st.tuples(st.integers(0, 1 << 20), st.sampled_from([0, 8, 16, 24, 31, 32, 64, 127, 128]), st.booleans()).map(
    _inet
)
JSON_LEAVES = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([1.5, 1e30, -0.25]) | st.text("ab", max_size=2)
)
JSON = st.recursive(
    JSON_LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=6,
)
JSONBS = JSON.map(lambda value: json.dumps(value, ensure_ascii=False))


def arrays(element: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    """Of one or two dimensions, with NULLs."""
    maybe = element | st.none()
    flat = st.lists(maybe, max_size=4).map(tuple)
    square = st.integers(1, 2).flatmap(
        lambda width: st.lists(st.lists(maybe, min_size=width, max_size=width).map(tuple), min_size=1, max_size=2).map(
            tuple
        )
    )
    return flat | square


SMALL = st.integers(0, 2)
POINT_ROWS = st.tuples(st.none() | SMALL, st.none() | st.text("ab", max_size=2))

CASES: dict[str, tuple[PgType, st.SearchStrategy[Any], Compare]] = {
    "bool": (t.BOOL, st.booleans(), compare),
    "int2": (t.INT2, integers(16), compare),
    "int4": (t.INT4, integers(32), compare),
    "int8": (t.INT8, integers(64), compare),
    "oid": (t.OID, integers(32, False), compare),
    "xid8": (t.XID8, integers(64, False), compare),
    "date": (t.DATE, integers(32), compare),
    "timestamptz": (t.TIMESTAMPTZ, integers(64), compare),
    "float4": (t.FLOAT4, SINGLES, compare_float),
    "float8": (t.FLOAT8, FLOATS, compare_float),
    "numeric": (t.NUMERIC, NUMERICS, compare_numeric),
    "text": (t.TEXT, TEXTS, compare_text),
    "domain": (EMAIL, TEXTS, compare_text),
    "bpchar": (t.BPCHAR, TEXTS, compare_bpchar),
    "bytea": (t.BYTEA, BYTES, compare),
    "uuid": (t.UUID, st.binary(min_size=16, max_size=16), compare),
    "interval": (t.INTERVAL, INTERVALS, compare_interval),
    "timetz": (t.TIMETZ, TIMETZS, compare_timetz),
    "varbit": (t.VARBIT, BITS, compare_bit),
    "inet": (t.INET, INETS, compare_inet),
    "enum": (MOOD, st.sampled_from(MOOD.enum_labels), compare_mood),
    "jsonb": (t.JSONB, JSONBS, compare_jsonb),
    "int4[]": (t.array_of(t.INT4), arrays(SMALL), compare_array(compare)),
    "text[]": (t.array_of(t.TEXT), arrays(TEXTS), compare_array(compare_text)),
    "numeric[]": (t.array_of(t.NUMERIC), arrays(NUMERICS), compare_array(compare_numeric)),
    "interval[]": (
        t.array_of(t.INTERVAL),
        st.lists(INTERVALS | st.none(), max_size=3).map(tuple),
        compare_one_dimension(compare_interval),
    ),
    "oidvector": (t.OIDVECTOR, st.lists(integers(32, False), max_size=3).map(tuple), compare_vector),
    "row": (POINT, POINT_ROWS, compare_point),
    "row[]": (POINTS, st.lists(POINT_ROWS | st.none(), max_size=3).map(tuple), compare_one_dimension(compare_point)),
}
"""Name to (type, strategy, comparator) of every kind of key column."""
