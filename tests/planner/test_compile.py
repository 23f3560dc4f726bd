"""The expression compiler against a plain tree walk, and its edges."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from base.errors import MeridianError
from base.types import BOOL, FLOAT8, INT4, NUMERIC, TEXT, array_of
from planner.context import FixedContext
from planner.exec.compile import (
    ExprCompiler,
    build,
    compile_batch,
    compile_filter_batch,
    compile_predicate,
    compile_projection,
    compile_projection_batch,
    compile_scalar,
    compile_scalars_batch,
    compile_set,
    contains_volatile,
    fold,
    is_constant,
)
from planner.expr import (
    And,
    AnyAll,
    ArrayExpr,
    Call,
    Case,
    Coalesce,
    Col,
    Const,
    Expr,
    Field,
    InList,
    IsBool,
    IsDistinct,
    IsNull,
    Not,
    Or,
    Param,
    RowExpr,
)
from planner.functions import builtin_registry
from planner.functions.calls import call, compare_rows, operate
from planner.functions.registry import Function
from planner.functions.resolve import resolve_operator
from tests.planner.honest import Honest

REGISTRY = builtin_registry()
EQUAL = resolve_operator(REGISTRY, "=", INT4, INT4).function
LESS = resolve_operator(REGISTRY, "<", INT4, INT4).function
LAYOUT = {10: 0, 11: 1, 12: 2}
CTX = FixedContext()


def column(id: int) -> Col:
    return Col(id, INT4, name=f"c{id}")


def integer(value: int | None) -> Const:
    return Const(value, INT4)


INTEGERS = st.one_of(st.none(), st.integers(-3, 3), st.sampled_from([2**31 - 1, -(2**31)]))
LEAVES = st.one_of(
    st.sampled_from([10, 11, 12]).map(column),
    INTEGERS.map(integer),
    st.sampled_from([1, 2]).map(lambda i: Param(i, INT4)),
)


def number_nodes(numbers: st.SearchStrategy[Expr], booleans: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    return st.one_of(
        numbers,
        st.tuples(st.sampled_from("+-*/%"), numbers, numbers).map(lambda t: operate(REGISTRY, t[0], t[1], t[2])),
        st.tuples(booleans, numbers, numbers).map(lambda t: Case(((t[0], t[1]),), t[2], INT4)),
        st.lists(numbers, min_size=1, max_size=3).map(lambda items: Coalesce(tuple(items), INT4)),
        numbers.map(lambda n: Field(RowExpr((n, n), INT4), 1, INT4)),
    )


def boolean_nodes(numbers: st.SearchStrategy[Expr], booleans: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    several = st.lists(booleans, min_size=2, max_size=4).map(tuple)
    items = st.lists(numbers, min_size=1, max_size=4).map(tuple)
    return st.one_of(
        st.tuples(st.sampled_from(["=", "<", ">=", "<>"]), numbers, numbers).map(
            lambda t: operate(REGISTRY, t[0], t[1], t[2])
        ),
        several.map(And),
        several.map(Or),
        booleans.map(Not),
        st.tuples(numbers, st.booleans()).map(lambda t: IsNull(t[0], t[1])),
        st.tuples(booleans, st.sampled_from([True, False, None]), st.booleans()).map(
            lambda t: IsBool(t[0], t[1], t[2])
        ),
        st.tuples(numbers, numbers, st.booleans()).map(lambda t: IsDistinct(t[0], t[1], EQUAL, t[2])),
        st.tuples(numbers, items, st.booleans()).map(lambda t: InList(t[0], t[1], EQUAL, t[2])),
        st.tuples(numbers, items, st.booleans()).map(
            lambda t: AnyAll(t[0], LESS if t[2] else EQUAL, ArrayExpr(t[1], array_of(INT4)), t[2])
        ),
        st.sampled_from([True, False, None]).map(lambda v: Const(v, BOOL)),
    )


def trees(depth: int) -> tuple[st.SearchStrategy[Expr], st.SearchStrategy[Expr]]:
    numbers: st.SearchStrategy[Expr] = LEAVES
    booleans: st.SearchStrategy[Expr] = st.sampled_from([True, False, None]).map(lambda v: Const(v, BOOL))
    for _ in range(depth):
        numbers, booleans = number_nodes(numbers, booleans), boolean_nodes(numbers, booleans)
    return numbers, booleans


NUMBERS, BOOLEANS = trees(3)
ROWS = st.tuples(INTEGERS, INTEGERS, INTEGERS)


def outcome(function: Any, *args: Any) -> Any:
    """The value, or the SQLSTATE of the error."""
    try:
        return function(*args)
    except MeridianError as failure:
        return failure.sqlstate


@settings(max_examples=250, deadline=None)
@given(expr=st.one_of(NUMBERS, BOOLEANS), row=ROWS, params=st.tuples(INTEGERS, INTEGERS))
def test_compiled_values_are_those_of_the_tree_walk(expr: Expr, row: tuple[Any, ...], params: tuple[Any, ...]) -> None:
    """Values and errors agree; folding may only remove errors in what is never needed."""
    honest = Honest(dict(zip(LAYOUT, row)), params)
    wanted = outcome(honest.value, expr)
    compiler = ExprCompiler(LAYOUT)
    plain = build(compiler, "plain", "row, params, ctx", [f"return {compiler.source(expr)}"])
    assert outcome(plain, row, params, CTX) == wanted
    if not isinstance(wanted, str):
        assert compile_scalar(expr, LAYOUT)(row, params, CTX) == wanted
        assert compile_scalars_batch(expr, LAYOUT)([row, row], params, CTX) == [wanted, wanted]


@settings(max_examples=250, deadline=None)
@given(expr=BOOLEANS, row=ROWS, params=st.tuples(INTEGERS, INTEGERS))
def test_truth_and_falsity_are_two_valued(expr: Expr, row: tuple[Any, ...], params: tuple[Any, ...]) -> None:
    """WHERE keeps exactly the rows for which the condition is TRUE (it may stop before an error that a value would meet)."""
    wanted = outcome(Honest(dict(zip(LAYOUT, row)), params).value, expr)
    if isinstance(wanted, str):
        return
    compiler = ExprCompiler(LAYOUT)
    falsity = build(compiler, "falsity", "row, params, ctx", [f"return {compiler.falsity(expr)}"])
    assert bool(compile_predicate(expr, LAYOUT)(row, params, CTX)) is (wanted is True)
    assert bool(falsity(row, params, CTX)) is (wanted is False)
    assert compile_filter_batch(expr, LAYOUT)([row], params, CTX) == ([row] if wanted is True else [])


@settings(max_examples=100, deadline=None)
@given(expr=st.one_of(NUMBERS, BOOLEANS), row=ROWS, params=st.tuples(INTEGERS, INTEGERS))
def test_columns_may_live_in_local_variables(expr: Expr, row: tuple[Any, ...], params: tuple[Any, ...]) -> None:
    """A layout may name Python variables; hoisted functions get them as arguments."""
    compiler = ExprCompiler({10: "a", 11: "b", 12: "c"})
    function = build(compiler, "local", "row, params, ctx", ["a, b, c = row", f"return {compiler.source(expr)}"])
    assert outcome(function, row, params, CTX) == outcome(Honest(dict(zip(LAYOUT, row)), params).value, expr)


def test_every_argument_is_evaluated_once() -> None:
    calls: list[int] = []

    def count(value: int) -> int:
        calls.append(value)
        return value

    counted = Function("count_calls", (INT4,), INT4, count, volatility="v")
    arg = Call(counted, (column(10),), INT4)
    compile_scalar(operate(REGISTRY, "/", arg, integer(2)), LAYOUT)((7, 0, 0), (), CTX)
    compile_scalar(InList(arg, (column(11), column(12)), EQUAL), LAYOUT)((7, 0, 0), (), CTX)
    compile_scalar(IsDistinct(arg, column(11), EQUAL), LAYOUT)((7, 0, 0), (), CTX)
    assert calls == [7, 7, 7]


def test_a_null_argument_does_not_hide_the_error_of_a_later_one() -> None:
    """NULL + 1/0 raises, as in PostgreSQL, which evaluates all arguments first."""
    failing = operate(REGISTRY, "/", integer(1), column(11))
    expr = operate(REGISTRY, "+", column(10), failing)
    assert outcome(compile_scalar(expr, LAYOUT), (None, 0, 0), (), CTX) == "22012"


def test_case_guards_what_it_does_not_take() -> None:
    guarded = Case(
        ((operate(REGISTRY, "=", column(11), integer(0)), integer(0)),),
        operate(REGISTRY, "/", integer(1), column(11)),
        INT4,
    )
    assert compile_scalar(guarded, LAYOUT)((0, 0, 0), (), CTX) == 0
    never = Case(((Const(False, BOOL), operate(REGISTRY, "/", integer(1), integer(0))),), integer(5), INT4)
    assert compile_scalar(never, LAYOUT)((0, 0, 0), (), CTX) == 5


@pytest.mark.parametrize("depth", [1, 24, 25, 26, 60, 100])
def test_deep_expressions_are_split_into_functions(depth: int) -> None:
    """CPython allows 200 nested parentheses; we allow what the recursion limit does."""
    total: Expr = column(10)
    for _ in range(depth):
        total = operate(REGISTRY, "+", total, column(11))
    assert compile_scalar(total, LAYOUT)((1, 2, 0), (), CTX) == 1 + 2 * depth
    assert compile_scalars_batch(total, LAYOUT)([(1, 2, 0)], (), CTX) == [1 + 2 * depth]
    negated: Expr = operate(REGISTRY, "=", column(10), integer(1))
    for _ in range(depth):
        negated = Not(IsBool(negated, True))
    assert bool(compile_predicate(negated, LAYOUT)((1, 2, 0), (), CTX)) is (depth % 2 == 0)


def test_expressions_too_deep_are_refused() -> None:
    total: Expr = column(10)
    for _ in range(20_000):
        total = Not(total)
    with pytest.raises(MeridianError) as refused:
        compile_scalar(total, LAYOUT)
    assert refused.value.sqlstate == "54001"


def test_wide_expressions() -> None:
    """Thousands of terms, WHENs and IN items compile flat."""
    terms = tuple([operate(REGISTRY, "<>", column(10), integer(i)) for i in range(2000)])
    assert compile_predicate(And(terms), LAYOUT)((5000, 0, 0), (), CTX)
    assert compile_scalar(Or(tuple([Not(t) for t in terms])), LAYOUT)((None, 0, 0), (), CTX) is None
    whens = tuple([(operate(REGISTRY, "=", column(10), integer(i)), integer(-i)) for i in range(1000)])
    assert compile_scalar(Case(whens, integer(7), INT4), LAYOUT)((999, 0, 0), (), CTX) == -999
    items = tuple([integer(i) for i in range(0, 20_000, 2)])
    member = compile_filter_batch(InList(column(10), items, EQUAL), LAYOUT)
    assert member([(4, 0, 0), (5, 0, 0), (None, 0, 0)], (), CTX) == [(4, 0, 0)]


def test_parameter_lists_become_sets_once_per_batch() -> None:
    params = tuple(range(100))
    expr = InList(column(10), tuple([Param(i + 1, INT4) for i in range(100)]), EQUAL)
    rows = [(50, 0, 0), (100, 0, 0), (None, 0, 0)]
    assert compile_scalars_batch(expr, LAYOUT)(rows, params, CTX) == [True, False, None]
    assert compile_scalars_batch(expr, LAYOUT)(rows, (None, *params[1:]), CTX) == [True, None, None]
    anyone = AnyAll(column(10), EQUAL, Param(1, array_of(INT4)), False)
    assert compile_scalars_batch(anyone, LAYOUT)(rows, ((50, 51),), CTX) == [True, False, None]
    assert compile_scalars_batch(anyone, LAYOUT)(rows, (None,), CTX) == [None, None, None]
    assert compile_scalars_batch(anyone, LAYOUT)(rows, ((),), CTX) == [False, False, False]


NAN, DNAN = float("nan"), Decimal("NaN")


@pytest.mark.parametrize(
    "pg_type,values", [(FLOAT8, [1.0, float("inf"), NAN]), (NUMERIC, [Decimal("1.0"), Decimal("Infinity"), DNAN])]
)
def test_nan_is_equal_to_itself_and_above_all(pg_type: Any, values: list[Any]) -> None:
    a, b = Col(10, pg_type), Col(11, pg_type)
    for symbol, verdicts in (
        ("<", (False, True, True, False)),
        ("=", (True, False, False, True)),
        (">=", (True, False, False, True)),
        ("<>", (False, True, True, False)),
    ):
        compare = compile_scalar(operate(REGISTRY, symbol, a, b), LAYOUT)
        found = tuple(
            [
                compare((x, y, None), (), CTX)
                for x, y in (
                    (values[0], values[0]),
                    (values[0], values[1]),
                    (values[1], values[2]),
                    (values[2], values[2]),
                )
            ]
        )
        assert found == verdicts, symbol
    equal = resolve_operator(REGISTRY, "=", pg_type, pg_type).function
    member = compile_scalar(InList(a, (Const(values[0], pg_type), Const(values[2], pg_type)), equal), LAYOUT)
    assert [member((v, None, None), (), CTX) for v in values] == [True, False, True]


def test_members_of_a_set_compare_by_value() -> None:
    """1.0 and 1.00 are one numeric; text is itself."""
    equal = resolve_operator(REGISTRY, "=", NUMERIC, NUMERIC).function
    member = compile_scalar(InList(Col(10, NUMERIC), (Const(Decimal("1.00"), NUMERIC),), equal), LAYOUT)
    assert member((Decimal("1.0"), 0, 0), (), CTX) is True
    assert member((Decimal("1.1"), 0, 0), (), CTX) is False


def test_row_comparison_is_three_valued() -> None:
    less = compare_rows(REGISTRY, "<", [column(10), column(11)], [column(12), integer(5)])
    function = compile_scalar(less, LAYOUT)
    assert function((1, 9, 2), (), CTX) is True
    assert function((2, 4, 2), (), CTX) is True
    assert function((2, None, 2), (), CTX) is None
    assert function((3, None, 2), (), CTX) is False


def test_constants_never_reach_the_source() -> None:
    compiler = ExprCompiler({10: 0})
    text = compiler.source(operate(REGISTRY, "||", Const("__import__('os')", TEXT), Col(10, TEXT)))
    assert "import" not in text


def test_folding() -> None:
    """Immutable calls of constants are computed; failing ones stay; stable and volatile ones too."""
    assert isinstance(fold(operate(REGISTRY, "+", integer(1), integer(2))), Const)
    assert isinstance(fold(operate(REGISTRY, "/", integer(1), integer(0))), Call)
    assert isinstance(fold(call(REGISTRY, "random", [])), Call)
    assert isinstance(fold(call(REGISTRY, "now", [])), Call)
    kept = fold(And((operate(REGISTRY, "=", column(10), integer(1)), Const(True, BOOL))))
    assert isinstance(kept, Call)
    false = fold(And((operate(REGISTRY, "=", column(10), integer(1)), Const(False, BOOL))))
    assert isinstance(false, Const)
    assert false.value is False
    null = fold(operate(REGISTRY, "+", column(10), integer(None)))
    assert isinstance(null, Const)
    assert null.value is None


def test_questions_about_expressions() -> None:
    assert contains_volatile(operate(REGISTRY, "+", call(REGISTRY, "random", []), Const(1.0, FLOAT8)))
    assert not contains_volatile(operate(REGISTRY, "+", column(10), integer(1)))
    assert is_constant(operate(REGISTRY, "+", Param(1, INT4), integer(1)))
    assert is_constant(call(REGISTRY, "now", []))
    assert not is_constant(call(REGISTRY, "random", []))
    assert not is_constant(column(10))


def test_projections_and_sets() -> None:
    exprs = [operate(REGISTRY, "+", column(10), column(11)), column(12)]
    assert compile_projection(exprs, LAYOUT)((1, 2, 3), (), CTX) == (3, 3)
    assert compile_projection_batch(exprs, LAYOUT)([(1, 2, 3), (None, 2, 4)], (), CTX) == [(3, 3), (None, 4)]
    condition = operate(REGISTRY, "<", column(12), Param(1, INT4))
    assert compile_batch(condition, exprs, LAYOUT)([(1, 2, 3), (1, 2, 9)], (5,), CTX) == [(3, 3)]
    numbers = call(REGISTRY, "generate_series", [integer(1), column(10)])
    assert list(compile_set(numbers, LAYOUT)((3, 0, 0), (), CTX)) == [1, 2, 3]
    assert list(compile_set(numbers, LAYOUT)((None, 0, 0), (), CTX)) == []


def test_expressions_print_as_explain_does() -> None:
    expr = And((operate(REGISTRY, "<", column(10), integer(5)), Not(IsNull(column(11)))))
    assert repr(expr) == "((c10 < 5) AND (NOT (c11 IS NULL)))"
    assert repr(InList(column(10), (integer(1), integer(2)), EQUAL)) == "(c10 IN (1, 2))"
