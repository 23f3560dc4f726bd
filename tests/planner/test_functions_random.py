"""Random expressions, drawn by seed, evaluated by us and by PostgreSQL 15.

A ``{kind}`` in a shape is replaced by a random value of that kind.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from planner.context import FixedContext
from tests.planner.test_functions_oracle import ours, theirs

CASES_PER_FAMILY = 250
TEXTS = (
    "abc",
    "aXbXc",
    "foobar",
    "Hello World",
    "",
    "a",
    "aa",
    "abcabc",
    "a.b",
    "12 34",
    "a\nb",
    "tEST",
    "%_",
    "a\\b",
    "xyz xyz",
)
DOCUMENTS = (
    '{"a":1,"b":[1,2,{"c":null}]}', "[1,2,3]", '"str"', "1.50", "null", "true", "[]", "{}", '{"a":{"b":{"c":[1,"x",null]}},"z":"e"}', "[[1,2],[3]]",
    '[{"a":1},{"b":2}]', '{"b":1,"a":2,"aa":3}',
)  # fmt: skip
MOMENTS = (
    "timestamp '2020-02-29 12:34:56.789'", "timestamptz '2020-03-08 07:30:00+00'", "timestamptz '2020-11-01 05:30:00+00'",
    "timestamp '1999-12-31 23:59:59'", "timestamptz '1900-01-01 00:00+00'", "timestamp '0044-03-15 00:00:00 BC'", "timestamptz '2021-07-04 00:00+00'",
)  # fmt: skip
DATES = ("date '2020-02-29'", "date '1999-12-31'", "date '2021-03-14'", "date 'infinity'", "date '0001-01-01 BC'")
INTERVALS = (
    "1 day",
    "-3 days",
    "1 mon",
    "-13 mons 5 days",
    "2 hours",
    "1 year 2 mons 3 days 04:05:06.789",
    "-1 day +02:00",
    "100 days",
    "0",
)
ARRAYS = ("array[1,2,3]", "'{}'::int[]", "array[3,null,1]", "array[[1,2],[3,4]]", "array[2]", "'{1,2,null}'::int[]")
ATOMS = (
    "a",
    "b",
    "c",
    "x",
    ".",
    "[ab]",
    "[^a]",
    r"\d",
    r"\w",
    r"\s",
    "(a|b)",
    "(ab)",
    "(?:b|c)",
    "^",
    "$",
    "o",
    r"\m",
    r"\M",
    r"\y",
    "(.)",
)
FIELDS = [
    "century",
    "day",
    "decade",
    "dow",
    "doy",
    "epoch",
    "hour",
    "isodow",
    "isoyear",
    "julian",
    "microseconds",
    "millennium",
    "milliseconds",
    "minute",
    "month",
    "quarter",
    "second",
    "week",
    "year",
    "timezone",
]
UNITS = [
    "microseconds",
    "milliseconds",
    "second",
    "minute",
    "hour",
    "day",
    "week",
    "month",
    "quarter",
    "year",
    "decade",
    "century",
    "millennium",
]

SHAPES = {
    "numeric": (
        "{n} + {n}", "{n} - {n}", "{n} * {n}", "{n} / {n}", "{n} / {s}", "{n} % {n}", "div({n},{n})", "round({n},({i})::int)", "trunc({n},({i})::int)",
        "ceil({n})", "floor({n})", "sqrt({n})", "sqrt(abs({n}))", "ln(abs({n}))", "log(abs({n}))", "log(abs({s}),abs({n}))", "exp({s})", "{s} ^ {s}",
        "abs({s}) ^ {s}", "{n} ^ ({i})", "gcd({n},{n})", "lcm({s},{s})", "{n}::int", "{n}::int8", "{n}::float8", "{n}::float4", "{n}::numeric(12,3)",
        "width_bucket({n},{s},{s},5)", "trim_scale({n})", "min_scale({n})", "scale({n})", "{n} < {n}", "sign({n})",
    ),
    "float": (
        "{f} + {f}", "{f} - {f}", "{f} * {f}", "{f} / {f}", "{fn}({f})", "{fn}({f})", "power({f},{f})", "atan2({f},{f})", "{f}::int", "{f}::numeric",
        "{f}::float4", "{f} < {f}", "{f} = {f}", "{f} >= {f}", "atan2d({f},{f})",
    ),
    "string": (
        "{t} ~ {r}", "{t} ~* {r}", "regexp_match({t},{r})", r"regexp_replace({t},{r},'<\1\&>','g')", "regexp_split_to_array({t},{r})",
        "regexp_count({t},{r})", "regexp_instr({t},{r})", "substring({t},{r})", "{t} like {l}", "{t} ilike {l}", "substring({t},({i})::int,({i})::int)",
        "left({t},({i})::int)", "right({t},({i})::int)", "lpad({t},({i})::int,{t})", "rpad({t},({i})::int,{t})", "overlay({t},{t},({i})::int,({i})::int)",
        "split_part({t},{t},({i})::int)", "translate({t},{t},{t})", "replace({t},{t},{t})", "btrim({t},{t})", "initcap({t})", "strpos({t},{t})",
        "string_to_array({t},{t})", "repeat({t},({i})::int)", "quote_literal({t}::text)", "quote_ident({t})", "{t}::varchar(3)", "similar_to_escape({l})",
    ),
    "datetime": (
        "{m} + {v}", "{m} - {v}", "{d} + {v}", "{d} - {d}", "{v} + {v}", "{v} * {s}", "{v} / 7.5", '"extract"(\'{field}\',{m})', "date_part('{field}',{v})",
        '"extract"(\'{field}\',{d})', "date_trunc('{unit}',{m})", "date_trunc('{unit}',{v})", "age({m},{m})", "{m} < {d}", "{m} = {m}", "{v} < {v}",
        "timezone('America/New_York',{m})", "timezone(interval '-5 hours',{m})", "{m}::date", "{m}::time", "{m}::text", "justify_interval({v})",
        "to_json({m})", "{m} - {m}", "greatest({m},{d})", "date_bin('1 day',{m},timestamp '2001-01-01')",
    ),
    "json": (
        "{j} -> '{k}'::text", "{j} -> ({i})", "{j} ->> '{k}'::text", "{b} ->> ({i})", "{j} #> {p}", "{b} #>> {p}", "{b} @> {b}", "{b} <@ {b}", "{b} || {b}",
        "{b} - '{k}'::text", "{b} - ({i})", "{b} #- {p}", "jsonb_set({b},{p},{b},true)", "jsonb_set({b},{p},{b},false)", "jsonb_insert({b},{p},{b},true)",
        "jsonb_strip_nulls({b})", "jsonb_pretty({b})", "jsonb_typeof({b})", "jsonb_array_length({b})", "{b} = {b}", "{b} < {b}", "{b} ? '{k}'", "{b}::int",
        "{b}::numeric", "{j}::jsonb", "{b}::text", "to_jsonb({j})", "json_build_object('k',{j})", "jsonb_build_array({j},1.50,null)",
    ),
    "array": (
        "{a} || {a}", "{a} || ({i})", "({i}) || {a}", "{a} @> {a}", "{a} && {a}", "{a} = {a}", "{a} < {a}", "({a})[{i}]", "({a})[{i}:{i}]",
        "({a})[{i}:{i}][{i}:{i}]", "array_position({a},({i}))", "array_positions({a},({i}))", "array_remove({a},({i}))", "array_replace({a},({i}),9)",
        "array_to_string({a},',','N')", "array_length({a},({i}))", "array_dims({a})", "cardinality({a})", "{a}::text[]", "({i}) = any({a})",
        "({i}) <> all({a})", "({i}) < all({a})", "array_append({a},({i}))", "array_prepend(({i}),{a})", "trim_array({a},({i}))", "to_json({a})",
        "array[{a},{a}]", "array_upper({a},1)",
    ),
}  # fmt: skip
FUNCTIONS = [
    "abs",
    "ceil",
    "floor",
    "round",
    "trunc",
    "sign",
    "sqrt",
    "cbrt",
    "exp",
    "ln",
    "log10",
    "sin",
    "cos",
    "tan",
    "cot",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "sind",
    "cosd",
    "tand",
    "cotd",
    "asind",
    "acosd",
    "atand",
    "degrees",
    "radians",
]


class Values:
    """Draws values by kind."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def fill(self, shape: str) -> str:
        return re.sub(r"\{([a-z]+)\}", lambda match: self.draw(match.group(1)), shape)

    def draw(self, kind: str) -> str:
        rng = self.rng
        plain = {
            "m": MOMENTS,
            "d": DATES,
            "a": ARRAYS,
            "field": FIELDS,
            "unit": UNITS,
            "fn": FUNCTIONS,
            "k": ("a", "b", "c", "z"),
        }
        if kind in plain:
            return rng.choice(plain[kind])
        if kind in ("n", "s"):
            return f"({self.number() if kind == 'n' else self.small()})::numeric"
        if kind == "f":
            special = ("'nan'", "'inf'", "'-inf'", "0", "1e300", "1e-300", "-1e308", self.number(), self.small())
            return f"({rng.choice(special)})::{rng.choice(['float8', 'float8', 'float4'])}"
        if kind == "i":
            return str(rng.randrange(-4, 8))
        if kind == "t":
            return f"'{rng.choice(TEXTS)}'"
        if kind == "v":
            return f"interval '{rng.choice(INTERVALS)}'"
        if kind in ("j", "b"):
            return f"'{rng.choice(DOCUMENTS)}'::{'jsonb' if kind == 'b' else rng.choice(['json', 'jsonb'])}"
        if kind == "p":
            return (
                "'{"
                + ",".join([rng.choice(["a", "b", "c", "0", "1", "-1", "2", "z"]) for _ in range(rng.randrange(4))])
                + "}'"
            )
        if kind == "l":
            return (
                "'"
                + "".join(
                    [rng.choice(["a", "b", "c", "%", "_", "X", "o", r"\%", "%"]) for _ in range(rng.randrange(1, 6))]
                )
                + "'"
            )
        assert kind == "r", kind
        # Without non-greedy quantifiers: mixtures of both kinds match by rules that are PostgreSQL's own.
        return (
            "'"
            + "".join(
                [
                    rng.choice(ATOMS) + rng.choice(["", "", "", "*", "+", "?", "{2}", "{1,2}"])
                    for _ in range(rng.randrange(1, 6))
                ]
            )
            + "'"
        )

    def number(self) -> str:
        rng = self.rng
        if rng.random() < 0.1:
            return rng.choice(
                [
                    "0",
                    "0.000",
                    "1",
                    "-1",
                    "1.0",
                    "10",
                    "0.1",
                    "'NaN'::numeric",
                    "'inf'::numeric",
                    "9999",
                    "10000",
                    "0.00001",
                ]
            )
        scale = rng.randrange(12)
        digits = str(rng.randrange(10 ** rng.randrange(1, 20))).rjust(scale + 1, "0")
        text = f"{digits[:-scale]}.{digits[-scale:]}" if scale else digits
        return ("-" if rng.random() < 0.3 else "") + text

    def small(self) -> str:
        return self.rng.choice(["", "-"]) + str(self.rng.randrange(100)) + self.rng.choice(["", ".5", ".25", ".123456"])


@pytest.fixture(scope="module")
def postgres(postgres_oracle: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres_oracle, autocommit=True) as connection:
        connection.execute("SET timezone = 'America/New_York'")
        yield connection


@pytest.mark.parametrize("family", list(SHAPES))
def test_random_expressions_agree(family: str, postgres: psycopg.Connection[Any]) -> None:
    values = Values(20_151_007)
    ctx = FixedContext(timezone="America/New_York")
    differences = []
    for _ in range(CASES_PER_FAMILY):
        sql = values.fill(values.rng.choice(SHAPES[family]))
        own, other = ours(sql, ctx), theirs(sql, postgres)
        if own != other:
            differences.append(f"{sql}\n    ours   {own}\n    theirs {other}")
    assert not differences, "\n".join(differences)
