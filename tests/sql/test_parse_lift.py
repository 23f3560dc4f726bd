"""Lifting literals never changes what a statement means."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from base import typeio
from base.errors import MeridianError
from base.types import BY_NAME
from planner.expr import Call, Const, Expr, Param
from planner.functions import builtin_registry
from sql.binder import Binder
from sql.parse import lift_literals, parse
from tests.sql.fixture_catalog import sample
from tests.sql.plan_text import plan_text


@pytest.mark.parametrize(
    ("sql", "shape", "values"),
    [
        ("SELECT a FROM t WHERE a = 5;", "SELECT a FROM t WHERE a = $1;", [("int4", "5")]),
        ("UPDATE t SET a = a + 17 WHERE b = 'it''s'", "UPDATE t SET a = a + $1 WHERE b = $2", [("int4", "17"), ("unknown", "it's")]),
        ("SELECT 3000000000, 1.5, 99999999999999999999", "SELECT $1, $2, $3",
         [("int8", "3000000000"), ("numeric", "1.5"), ("numeric", "99999999999999999999")]),
        ("INSERT INTO t (a, b) VALUES (1, 'x'), (-2, NULL)", "INSERT INTO t (a, b) VALUES ($1, $2), (-$3, NULL)",
         [("int4", "1"), ("unknown", "x"), ("int4", "2")]),
        ("select a from t order by 1 limit 10", "select a from t order by 1 limit $1", [("int4", "10")]),
        ("select * from t where d > date '2020-01-01' and a = 1", "select * from t where d > date '2020-01-01' and a = $1", [("int4", "1")]),
        ("select '5'::int + 1", "select '5'::int + $1", [("int4", "1")]),
        ("select a::numeric(10,2) from t where a = 1", "select a::numeric(10,2) from t where a = $1", [("int4", "1")]),
        ("delete from t where b like 'x%' and a = 3", "delete from t where b like 'x%' and a = $1", [("int4", "3")]),
    ],
)  # fmt: skip
def test_shapes(sql: str, shape: str, values: list[tuple[str, str]]) -> None:
    assert lift_literals(sql) == (shape, values)


@pytest.mark.parametrize(
    "sql",
    [
        "select 1 from t group by 1", "select distinct 1 from t", "select 1 union select 2", "create table t (a int default 1)",
        "select $1 + 1", "select 1; select 2", "select E'a'", "select 'a' 'b'", "select 1 -- x", "select 1 /* x */", "with x as (select 1) select 2",
        "select cast(1 as numeric(10,2))", "select sum(a) over (order by b rows 5 preceding) from t", "select 1a", "set x = 1", "select -2147483648",
        "select nextval('s')", "select U&'x'", "select $$x$$", "select count(*) from t having count(*) > 1", "select a1.b2 from t3", "",
    ],
)  # fmt: skip
def test_left_alone(sql: str) -> None:
    assert lift_literals(sql) is None


# --- binding lifted = binding literal ---------------------------------------------------------------


@functools.cache
def binder() -> Binder:
    return Binder(sample(), builtin_registry())


def unlifted_text(sql: str) -> str:
    return plan_text(binder().bind(parse(sql)[0].statement), fold_casts)  # type: ignore[arg-type]


def fold_casts(expr: Expr) -> Expr:
    """An implicit cast of a constant has its value on both sides."""
    if (
        isinstance(expr, Call)
        and expr.args
        and all(isinstance(arg, Const) for arg in expr.args)
        and expr.function.volatility == "i"
    ):
        return Const(
            expr.function.impl(*[arg.value for arg in expr.args if isinstance(arg, Const)]), expr.type, expr.typmod
        )
    return expr


def lifted_text(shape: str, values: list[tuple[str, str]]) -> str:
    types = [None if name == "unknown" else BY_NAME[name] for name, _ in values]
    statement = binder().bind(parse(shape)[0].statement, types)  # type: ignore[arg-type]

    def constant(expr: Expr) -> Expr:
        if isinstance(expr, Param):
            return Const(typeio.text_in(expr.type, -1, values[expr.index - 1][1]), expr.type, expr.typmod)
        return fold_casts(expr)

    return plan_text(statement, constant)


INTEGER = st.integers(0, 10**20).map(str)
NUMERIC = st.decimals(0, 10**6, places=2).map(str)
TEXT = st.text(" abc'1", max_size=6).map(lambda text: "'" + text.replace("'", "''") + "'")
NUMBER = st.one_of(INTEGER, NUMERIC)
LITERAL = st.one_of(INTEGER, NUMERIC, TEXT)
TEMPLATES = [
    "select a + {n} from t where b = {t} and a > {n}", "select {l}, a from t where c = {n} limit {i}", "update t set b = {t}, c = {n} where a = {i}",
    "insert into t (a, b, c) values ({i}, {t}, {n})", "delete from t where a in ({i}, {i}, {n})", "select coalesce(b, {t}), case when a > {n} then {t} else b end from t",
    "select b || {t} from t where a between {n} and {n}", "select a from t where c * {n} > {n} or b <> {t} order by a limit {i} offset {i}",
    "select j -> {t}, e[{i}] from t where a = {i}", "select greatest(a, {n}), nullif(b, {t}) from t where not a = -{i}",
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(TEMPLATES), st.data())
def test_binding_lifted_is_binding_literal(template: str, data: st.DataObject) -> None:
    sql = template
    for mark, strategy in (("{n}", NUMBER), ("{t}", TEXT), ("{l}", LITERAL), ("{i}", INTEGER)):
        while mark in sql:
            sql = sql.replace(mark, data.draw(strategy), 1)
    lifted = lift_literals(sql)
    if lifted is None:
        return
    try:
        expected = unlifted_text(sql)
    except MeridianError:
        # A literal that does not fit (22003..): the lifted form says so when the value is read.
        return
    assert lifted_text(*lifted) == expected
