"""Resolution by the rules of chapter 10, and functions against plain models."""

from __future__ import annotations

import re
import warnings
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from base.errors import MeridianError
from base.types import (
    ANYELEMENT,
    BOOL,
    BPCHAR,
    BY_NAME,
    DATE,
    FLOAT8,
    INT2,
    INT4,
    INT8,
    JSONB,
    NUMERIC,
    TEXT,
    TIMESTAMP,
    TIMESTAMPTZ,
    UNKNOWN,
    VARCHAR,
    PgType,
    array_of,
)
from planner.context import FixedContext
from planner.exec.compile import compile_scalar, compile_set
from planner.exec.order import order_key
from planner.exec.window import FrameAggregation, FrameSpec, Partition
from planner.expr import Call, Col, Const, SortKey
from planner.functions import builtin_registry, numeric
from planner.functions.are import compile_pattern
from planner.functions.calls import call, coerce
from planner.functions.coercion import find_cast, select_common_type
from planner.functions.declare import define, define_operator, parse_signature
from planner.functions.jsonrecord import to_record_function
from planner.functions.like import like, like_escape
from planner.functions.numeric import quotient, root_at, select_div_scale
from planner.functions.registry import Function, Registry
from planner.functions.resolve import resolve_aggregate, resolve_function, resolve_operator, resolve_window
from planner.nodes import WindowFrame
from tests.planner.minisql import MiniSql

REGISTRY = builtin_registry()
CTX = FixedContext()


def evaluate(sql: str) -> Any:
    return compile_scalar(MiniSql(REGISTRY, sql).parse(), {})((), (), CTX)


def refused(function: Any, *args: Any) -> tuple[str, str, str | None]:
    with pytest.raises(MeridianError) as failure:
        function(*args)
    return failure.value.sqlstate, failure.value.message, failure.value.hint


# --- operators and functions by chapter 10 --------------------------------------------


@pytest.mark.parametrize(
    "symbol,left,right,chosen",
    [
        ("+", INT4, INT4, "int4pl"),
        ("+", INT4, INT8, "int48pl"),
        ("+", INT4, FLOAT8, "float8pl"),
        ("+", INT4, NUMERIC, "numeric_add"),
        ("+", INT4, UNKNOWN, "int4pl"),
        ("||", UNKNOWN, UNKNOWN, "textcat"),
        ("||", INT4, UNKNOWN, "anytextcat"),
        ("||", VARCHAR, VARCHAR, "textcat"),
        ("=", VARCHAR, UNKNOWN, "texteq"),
        ("=", BPCHAR, UNKNOWN, "bpchareq"),
        ("<", INT2, INT8, "int28lt"),
        ("=", array_of(INT4), array_of(INT4), "array_eq"),
        ("<", DATE, TIMESTAMPTZ, "date_lt_timestamptz"),
        ("-", TIMESTAMP, UNKNOWN, "timestamp_mi"),
        ("->", JSONB, UNKNOWN, "jsonb_object_field"),
        ("@>", UNKNOWN, JSONB, "jsonb_contains"),
    ],
)
def test_operators_resolve(symbol: str, left: PgType, right: PgType, chosen: str) -> None:
    assert resolve_operator(REGISTRY, symbol, left, right).function.name == chosen


def test_operators_that_do_not_exist() -> None:
    hint = "No operator matches the given name and argument types. You might need to add explicit type casts."
    assert refused(resolve_operator, REGISTRY, "+", INT4, TEXT) == (
        "42883",
        "operator does not exist: integer + text",
        hint,
    )
    prefix = "No operator matches the given name and argument type. You might need to add an explicit type cast."
    assert refused(resolve_operator, REGISTRY, "-", None, TEXT) == ("42883", "operator does not exist: - text", prefix)
    state, message, _ = refused(resolve_operator, REGISTRY, "+", UNKNOWN, UNKNOWN)
    assert (state, message) == ("42725", "operator is not unique: unknown + unknown")


@pytest.mark.parametrize(
    "name,types,arg_types,result",
    [
        ("abs", (INT2,), (INT2,), INT2),
        ("abs", (UNKNOWN,), (FLOAT8,), FLOAT8),
        ("round", (INT4,), (FLOAT8,), FLOAT8),
        ("round", (NUMERIC, INT4), (NUMERIC, INT4), NUMERIC),
        ("length", (VARCHAR,), (TEXT,), INT4),
        ("substr", (UNKNOWN, INT4), (TEXT, INT4), TEXT),
        ("array_append", (array_of(INT4), INT8), (array_of(INT8), INT8), array_of(INT8)),
        ("array_position", (array_of(TEXT), UNKNOWN), (array_of(TEXT), TEXT), INT4),
        ("date", (UNKNOWN,), (DATE,), DATE),
        ("text", (INT4,), (INT4,), TEXT),
        ("generate_series", (INT4, INT8), (INT8, INT8), INT8),
    ],
)
def test_functions_resolve(name: str, types: tuple[PgType, ...], arg_types: tuple[PgType, ...], result: PgType) -> None:
    resolved = resolve_function(REGISTRY, name, types)
    assert resolved.arg_types == arg_types
    assert resolved.result == result


def test_functions_that_do_not_exist() -> None:
    hint = "No function matches the given name and argument types. You might need to add explicit type casts."
    assert refused(resolve_function, REGISTRY, "frob", (INT4, UNKNOWN)) == (
        "42883",
        "function frob(integer, unknown) does not exist",
        hint,
    )
    assert refused(resolve_function, REGISTRY, "lpad", (TEXT,))[0] == "42883"
    state, message, _ = refused(resolve_aggregate, REGISTRY, "sum", (TEXT,))
    assert (state, message) == ("42883", "function sum(text) does not exist")


def test_variadic_arguments_are_packed_or_spread() -> None:
    """A typed VARIADIC parameter becomes one array; "any" stays as it is written."""
    packed = resolve_function(REGISTRY, "jsonb_extract_path", (JSONB, UNKNOWN, UNKNOWN))
    assert (packed.pack_from, packed.arg_types) == (1, (JSONB, TEXT, TEXT))
    given = resolve_function(REGISTRY, "jsonb_extract_path", (JSONB, array_of(TEXT)), variadic=True)
    assert (given.pack_from, given.arg_types) == (-1, (JSONB, array_of(TEXT)))
    assert evaluate("concat('a', 1, NULL, true)") == "a1t"
    assert evaluate("concat(VARIADIC ARRAY['a', 'b'])") == "ab"
    assert refused(resolve_function, REGISTRY, "concat", (INT4,), True)[0] == "42804"


def test_aggregates_and_windows_resolve() -> None:
    assert resolve_aggregate(REGISTRY, "sum", (INT4,)).result == INT8
    assert resolve_aggregate(REGISTRY, "sum", (INT8,)).result == NUMERIC
    assert resolve_aggregate(REGISTRY, "avg", (INT2,)).result == NUMERIC
    assert resolve_aggregate(REGISTRY, "max", (VARCHAR,)).result == TEXT
    assert resolve_aggregate(REGISTRY, "array_agg", (INT4,)).result == array_of(INT4)
    assert resolve_aggregate(REGISTRY, "count", ()).result == INT8
    assert resolve_window(REGISTRY, "lag", (TEXT, INT4)).result == TEXT
    assert resolve_window(REGISTRY, "sum", (INT4,)).result == INT8


@pytest.mark.parametrize(
    "types,common",
    [((INT4, INT8), INT8), ((INT4, NUMERIC, INT2), NUMERIC), ((UNKNOWN, DATE), DATE), ((UNKNOWN, UNKNOWN), TEXT), ((VARCHAR, TEXT), VARCHAR), ((DATE, TIMESTAMPTZ), TIMESTAMPTZ), ((NUMERIC, FLOAT8), FLOAT8)],
)  # fmt: skip
def test_common_types(types: tuple[PgType, ...], common: PgType) -> None:
    assert select_common_type(REGISTRY, types, "UNION") == common


def test_types_without_a_common_one() -> None:
    assert refused(select_common_type, REGISTRY, (INT4, BOOL), "CASE")[:2] == (
        "42804",
        "CASE types integer and boolean cannot be matched",
    )


@pytest.mark.parametrize(
    "source,target,context,found",
    [
        (INT4, INT8, "i", True), (INT8, INT4, "i", False), (INT8, INT4, "a", True), (INT4, BOOL, "a", False), (INT4, BOOL, "e", True),
        (INT4, TEXT, "i", False), (INT4, TEXT, "a", True), (TEXT, INT4, "a", False), (TEXT, INT4, "e", True), (JSONB, INT4, "e", True),
        (DATE, TIMESTAMP, "i", True), (TIMESTAMP, DATE, "i", False), (DATE, INT4, "e", False), (VARCHAR, TEXT, "i", True),
        (array_of(INT4), array_of(INT8), "i", True), (array_of(INT4), array_of(BOOL), "a", False), (array_of(TEXT), array_of(INT4), "e", True),
    ],
)  # fmt: skip
def test_casts_by_context(source: PgType, target: PgType, context: str, found: bool) -> None:
    assert (find_cast(REGISTRY, source, target, context) is not None) is found


# --- enums, records, registering more ------------------------------------------------


def mood() -> PgType:
    """Declared order sad, ok, happy; 'ok' was added between the others."""
    pg_type = PgType(20_001, "mood", 4, "E", 20_002, kind="e", enum_labels=("sad", "ok", "happy"), namespace="public")
    pg_type.enum_physical = {"sad": 1, "happy": 2, "ok": 1 << 10}
    pg_type.enum_physical = {"sad": 10, "ok": 15, "happy": 20}
    array = PgType(20_002, "_mood", -1, "A", elem=pg_type, namespace="public")
    pg_type.array_type = array
    return pg_type


def test_enums_compare_by_position() -> None:
    pg_type = mood()
    less = resolve_operator(REGISTRY, "<", pg_type, pg_type).function
    assert less.impl("sad", "happy")
    assert less.impl("ok", "happy")
    assert not less.impl("happy", "ok")
    equal = resolve_operator(REGISTRY, "=", pg_type, UNKNOWN)
    assert equal.arg_types == (pg_type, pg_type)
    assert resolve_function(REGISTRY, "enum_range", (pg_type,)).function.impl(None) == ("sad", "ok", "happy")
    biggest = resolve_aggregate(REGISTRY, "max", (pg_type,)).function
    assert biggest.final(biggest.step(biggest.step(None, "happy"), "ok")) == "happy"


def test_specialized_copies_are_kept_per_type() -> None:
    first = resolve_operator(REGISTRY, "<", array_of(INT4), array_of(INT4)).function
    assert resolve_operator(REGISTRY, "<", array_of(INT4), array_of(INT4)).function is first
    assert resolve_operator(REGISTRY, "<", array_of(TEXT), array_of(TEXT)).function is not first
    old, new = mood(), mood()
    assert resolve_operator(REGISTRY, "<", old, old).function is not resolve_operator(REGISTRY, "<", new, new).function


def test_rows_from_json() -> None:
    function = to_record_function("jsonb_to_recordset", (("a", INT4), ("b", array_of(TEXT)), ("c", JSONB)))
    text = '[{"a": "1", "b": ["x", null]}, {"c": {"k": 1.50}}]'
    rows = compile_set(Call(function, (Const(text, JSONB),), function.result), {})((), (), CTX)
    assert list(rows) == [(1, ("x", None), None), (None, None, '{"k": 1.50}')]


def test_more_functions_may_be_registered() -> None:
    registry = Registry()
    define(registry, "twice(int4) int4", lambda value: value * 2)
    define_operator(registry, "+!", "grow(int4, anyelement) anyelement", inline="{1}")
    assert resolve_function(registry, "twice", (INT4,)).function.impl(4) == 8
    assert resolve_operator(registry, "+!", INT4, BOOL).result == BOOL
    signature = parse_signature("json_each(json) setof record(key text, value json)")
    assert (signature.returns_set, [name for name, _ in signature.out_fields]) == (True, ["key", "value"])
    assert parse_signature("f(anyelement, variadic text[]) anyelement").arg_types == (ANYELEMENT, array_of(TEXT))


def test_every_builtin_is_well_formed() -> None:
    """Templates name each argument, and polymorphic results have an argument to come from."""
    for functions in REGISTRY.functions.values():
        for function in functions:
            assert isinstance(function, Function)
            if function.inline and function.specialize is None:
                for i in range(len(function.arg_types)):
                    assert f"{{{i}}}" in function.inline, f"{function!r}: {function.inline}"
            if function.result.kind == "p" and function.result.name.startswith("any"):
                assert any(t.name.startswith("any") for t in function.arg_types), repr(function)


# --- numeric against fractions -----------------------------------------------------------

DECIMALS = st.decimals(min_value=-(10**12), max_value=10**12, allow_nan=False, allow_infinity=False, places=6).map(
    lambda d: d if d else abs(d)
)


@settings(max_examples=300, deadline=None)
@given(left=DECIMALS, right=DECIMALS)
def test_division_is_rounded_once(left: Decimal, right: Decimal) -> None:
    """Half away from zero at PostgreSQL's scale, with at least 16 significant digits."""
    if not right:
        return
    scale = select_div_scale(left, right)
    exact = Fraction(left) / Fraction(right)
    scaled = abs(exact) * 10**scale
    wanted = int(scaled + Fraction(1, 2)) * (1 if exact >= 0 else -1)
    found = quotient(left, right, scale)
    assert Fraction(found) == Fraction(wanted, 10**scale)
    assert -found.as_tuple().exponent == scale  # type: ignore[operator]
    assert not exact or abs(exact) < 10 ** -(scale - 4) or scale + len(str(int(abs(exact)))) >= 16


@settings(max_examples=200, deadline=None)
@given(left=DECIMALS, right=DECIMALS)
def test_sums_and_products_are_exact(left: Decimal, right: Decimal) -> None:
    assert Fraction(numeric.add(left, right)) == Fraction(left) + Fraction(right)
    product = numeric.multiply(left, right)
    assert Fraction(product) == Fraction(left) * Fraction(right)
    assert not str(product).startswith("-0") or product
    if right:
        whole = int(Fraction(left) / Fraction(right))
        assert Fraction(numeric.modulo(left, right)) == Fraction(left) - whole * Fraction(right)


@settings(max_examples=100, deadline=None)
@given(value=DECIMALS.map(abs), scale=st.integers(0, 20))
def test_square_roots_are_rounded_once(value: Decimal, scale: int) -> None:
    found, half = Fraction(root_at(value, scale)), Fraction(1, 2 * 10**scale)
    assert max(found - half, Fraction(0)) ** 2 <= Fraction(value) <= (found + half) ** 2


@pytest.mark.parametrize(
    "sql,state",
    [("10.0 ^ 131072", "22003"), ("1e131071 * 10", "22003"), ("factorial(40000)", "22003"), ("exp(10000.0)", "22003"), ("10.0 ^ (10.0 ^ 10.0)", "22003"), ("repeat('x', 1000000000)", "54000"), ("lpad('x', 2000000000)", "54000")],
)  # fmt: skip
def test_results_too_large_are_refused_before_they_are_made(sql: str, state: str) -> None:
    assert refused(evaluate, sql)[0] == state


# --- patterns against models ---------------------------------------------------------------


def like_model(text: str, pattern: str) -> bool:
    """The definition: try every way."""
    if not pattern:
        return not text
    if pattern[0] == "%":
        return any(like_model(text[i:], pattern[1:]) for i in range(len(text) + 1))
    return bool(text) and (pattern[0] == "_" or pattern[0] == text[0]) and like_model(text[1:], pattern[1:])


@settings(max_examples=400, deadline=None)
@given(text=st.text("ab", max_size=8), pattern=st.text("ab%_", max_size=8))
def test_like_agrees_with_its_definition(text: str, pattern: str) -> None:
    assert like(text, pattern) is like_model(text, pattern)


def test_like_is_linear_where_backtracking_is_not() -> None:
    assert not like("a" * 5000 + "c", "%a" * 30 + "b")
    assert like("x" + "a" * 5000, "%a%a%a%a_")


@settings(max_examples=200, deadline=None)
@given(pattern=st.text("a#%", max_size=8))
def test_like_escape_keeps_the_meaning(pattern: str) -> None:
    """An escaped character is itself; a lone escape at the end stays."""
    plain = re.sub("#(.)", lambda match: "\\" + match.group(1), pattern)
    if not plain.endswith("#"):
        assert like_escape(pattern, "#") == plain


@settings(max_examples=300, deadline=None)
@given(text=st.text("ab1 ", max_size=10), pattern=st.text("ab1.*+?()|[]^$ ", max_size=8))
def test_regular_expressions_agree_with_python_where_both_take_them(text: str, pattern: str) -> None:
    """Whether there is a match does not depend on greediness; only the accepted syntax differs."""
    if re.search(r"\[\]|\[\^\]|\?\?|\*\?|\+\?|[*+?]{2}|\(\?|\(\*|\|\*", pattern):
        return
    theirs_pattern = pattern.replace("$", r"\Z").replace("^", r"\A") if "[" not in pattern else pattern
    try:
        ours = compile_pattern(pattern).matches(text)
        with warnings.catch_warnings():
            # Python warns of "[[", which it may give another meaning one day.
            warnings.simplefilter("ignore", FutureWarning)
            theirs = re.compile(theirs_pattern, re.DOTALL)
    except (MeridianError, re.error):
        return
    assert ours is (theirs.search(text) is not None)


def test_patterns_cannot_hang() -> None:
    assert not compile_pattern("(a+)+$").matches("a" * 5000 + "b")
    assert not compile_pattern("(a|aa)+$").matches("a" * 5000 + "b")


def test_alternatives_match_leftmost_longest() -> None:
    match = compile_pattern("a|ab|abc").find("xabcd")
    assert match.group(0) == "abc"


# --- windows against the definition ----------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(st.one_of(st.none(), st.integers(-5, 5)), max_size=12),
    start=st.integers(-3, 3),
    length=st.integers(0, 4),
    name=st.sampled_from(["sum", "avg", "min", "max", "count", "bit_xor"]),
)
def test_moving_aggregates_equal_those_computed_anew(
    values: list[int | None], start: int, length: int, name: str
) -> None:
    """Running, undoing and the two stacks give what every frame on its own gives."""
    bounds = [
        ("preceding", Const(-n, INT4)) if n < 0 else ("following", Const(n, INT4)) for n in (start, start + length)
    ]
    spec = FrameSpec(REGISTRY, WindowFrame("rows", bounds[0], bounds[1]), [SortKey(Col(1, INT4))])
    offsets = (abs(start), abs(start + length))
    partition = Partition(spec, len(values), [list(range(len(values)))], offsets)
    aggregate = resolve_aggregate(REGISTRY, name, (INT4,)).function
    work = FrameAggregation(aggregate, partition, [(value,) for value in values], None, None)
    assert work.column() == work._anew()
    if values and aggregate.combine is not None:
        starts, ends = partition.frames()
        assert work._two_stacks(starts, ends) == work._anew()


# --- literals ---------------------------------------------------------------------------------


def test_literals_that_depend_on_the_session_are_read_when_the_statement_runs() -> None:
    assert isinstance(coerce(REGISTRY, Const("2020-01-01", UNKNOWN), DATE), Const)
    assert isinstance(coerce(REGISTRY, Const("now", UNKNOWN), TIMESTAMPTZ), Call)
    assert isinstance(coerce(REGISTRY, Const("2020-01-01 00:00", UNKNOWN), TIMESTAMPTZ), Call)
    assert isinstance(coerce(REGISTRY, Const("2020-01-01 00:00+02", UNKNOWN), TIMESTAMPTZ), Const)
    late = compile_scalar(coerce(REGISTRY, Const("now", UNKNOWN), TIMESTAMPTZ), {})
    assert late((), (), FixedContext(now=77)) == 77


def test_lengths_are_applied_after_the_cast() -> None:
    assert evaluate("'abcdef'::varchar(3)") == "abc"
    assert evaluate("'{1.234,5}'::numeric(4,1)[]") == (Decimal("1.2"), Decimal("5.0"))
    assert refused(coerce, REGISTRY, Const(True, BOOL), DATE, "e")[:2] == ("42846", "cannot cast type boolean to date")


def test_session_functions_ask_the_context() -> None:
    ctx = FixedContext(now=123, search_path="x", work_mem="4MB")
    assert compile_scalar(call(REGISTRY, "current_setting", [Const("work_mem", TEXT)]), {})((), (), ctx) == "4MB"
    assert compile_scalar(call(REGISTRY, "now", []), {})((), (), ctx) == 123
    assert compile_scalar(call(REGISTRY, "current_schemas", [Const(True, BOOL)]), {})((), (), ctx) == (
        "pg_catalog",
        "public",
    )
    uuid = compile_scalar(call(REGISTRY, "gen_random_uuid", []), {})((), (), ctx)
    assert (len(uuid), uuid[6] >> 4, uuid[8] >> 6) == (16, 4, 2)
    assert (
        refused(compile_scalar(call(REGISTRY, "current_setting", [Const("nope", TEXT)]), {}), (), (), ctx)[0] == "42704"
    )


def test_order_keys_exist_for_every_ordered_type() -> None:
    """What has a < orders by its key as the operator says."""
    for name, low, high in (
        ("interval", (0, 1, 0), (1, 0, 0)),
        ("bpchar", "a ", "b"),
        ("numeric", Decimal(1), Decimal("NaN")),
    ):
        pg_type = BY_NAME[name]
        key = order_key(pg_type)
        assert key is not None
        assert key(low) < key(high)
        assert resolve_operator(REGISTRY, "<", pg_type, pg_type).function.impl(low, high)
