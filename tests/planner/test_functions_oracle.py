"""Expressions evaluated by us and by PostgreSQL 15: value, type, SQLSTATE.

``expressions/*.sql`` hold one expression a line.  Aggregates and window frames are drawn at random, by seed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from base.errors import MeridianError
from base.typeio import text_in, text_out, type_name
from base.types import BY_NAME, FLOAT8, INT4, NUMERIC, TEXT, UNKNOWN
from planner.context import FixedContext
from planner.exec.compile import compile_scalar
from planner.exec.order import order_key, sort_positions
from planner.exec.window import FrameSpec, Partition, window_column
from planner.expr import Col, Const, SortKey
from planner.functions import builtin_registry
from planner.functions.calls import coerce
from planner.functions.coercion import find_cast
from planner.functions.resolve import resolve_aggregate, resolve_window
from planner.nodes import WindowFrame
from tests.planner.minisql import MiniSql

REGISTRY = builtin_registry()
FILES = sorted((Path(__file__).parent / "expressions").glob("*.sql"))


@pytest.fixture(scope="module")
def postgres(postgres_oracle: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres_oracle, autocommit=True) as connection:
        yield connection


def ours(sql: str, ctx: FixedContext) -> tuple[str, ...]:
    try:
        expr = MiniSql(REGISTRY, sql).parse()
        if expr.type == UNKNOWN:
            expr = coerce(REGISTRY, expr, TEXT)
        value = compile_scalar(expr, {})((), (), ctx)
    except MeridianError as failure:
        return ("error", failure.sqlstate)
    return (shown(expr.type, value, ctx), type_name(expr.type))


def shown(pg_type: Any, value: Any, ctx: FixedContext) -> str:
    """As a cast to text shows it."""
    if value is None:
        return "NULL"
    if pg_type.name == "bool":
        return "true" if value else "false"
    if pg_type.name == "bpchar":
        value = value.rstrip(" ")
    if pg_type.name == "inet" and "/" not in value:
        return f"{value}/{128 if ':' in value else 32}"
    return text_out(pg_type, value, ctx.io)


def theirs(sql: str, connection: psycopg.Connection[Any]) -> tuple[str, ...]:
    try:
        row = connection.execute(
            f"SELECT coalesce(x::text, 'NULL'), pg_typeof(x)::text FROM (SELECT {sql} AS x) s"
        ).fetchone()  # type: ignore[call-overload]
    except psycopg.Error as failure:
        return ("error", failure.sqlstate or "")
    assert row is not None
    return tuple(row)


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_expressions_agree(file: Path, zone: str, postgres: psycopg.Connection[Any]) -> None:
    postgres.execute(f"SET timezone = '{zone}'")  # type: ignore[call-overload]
    ctx = FixedContext(timezone=zone)
    lines = [line.strip() for line in file.read_text().splitlines()]
    differences = []
    for sql in lines:
        if not sql or sql.startswith("--"):
            continue
        own, other = ours(sql, ctx), theirs(sql, postgres)
        if own != other:
            differences.append(f"{sql}\n    ours   {own}\n    theirs {other}")
    assert not differences, "\n".join(differences)


# --- aggregates --------------------------------------------------------------------

NUMBERS = ("1", "2", "-3", "4", None, "7")
AGGREGATES: list[tuple[str, tuple[str, ...], list[tuple[str | None, ...]]]] = [
    (name, (type_name,), [(value,) for value in values])
    for type_name in ("int2", "int4", "int8", "numeric", "float4", "float8")
    for name in ("sum", "avg", "min", "max", "count", "stddev", "stddev_pop", "variance", "var_pop")
    for values in (NUMBERS, ("5",), (None,))
]
AGGREGATES += [
    (name, ("numeric",), [(value,) for value in values])
    for name in ("sum", "avg", "variance", "stddev", "min", "max")
    for values in (("1.10", "2.2005", "3"), ("NaN", "1"), ("inf", "1"), ("1.0", "1.00"))
]
AGGREGATES += [
    (name, ("interval",), [("1 day",), ("2 hours 3 min",), ("1 mon",), ("30 days",)])
    for name in ("sum", "avg", "min", "max")
]
AGGREGATES += [
    (name, (type_name,), [(value,) for value in values])
    for name in ("min", "max", "count", "array_agg", "json_agg", "jsonb_agg")
    for type_name, values in (
        ("text", ("b", "a", None, "a")),
        ("date", ("2020-01-01", "2019-01-01")),
        ("timestamptz", ("2020-01-01 01:02:03",)),
        ("_int4", ("{1,2}", "{1,1}")),
        ("float8", ("1", "NaN", "2")),
        ("bpchar", ("a", "b ")),
    )
]
AGGREGATES += [
    (name, ("float8", "float8"), rows)
    for name in (
        "corr", "covar_pop", "covar_samp", "regr_avgx", "regr_avgy", "regr_count", "regr_intercept", "regr_r2", "regr_slope", "regr_sxx",
        "regr_sxy", "regr_syy",
    )
    for rows in ([("1", "2"), ("2", "4.5"), ("3", "5.5"), (None, "1"), ("4", "9")], [("1", "2")], [("1", "2"), ("1", "3")])
]  # fmt: skip
AGGREGATES += [(name, ("bool",), [("t",), ("f",), (None,)]) for name in ("bool_and", "bool_or", "every")]
AGGREGATES += [(name, ("int4",), [("12",), ("10",), (None,)]) for name in ("bit_and", "bit_or", "bit_xor")]
AGGREGATES += [
    ("string_agg", ("text", "text"), [("a", ","), (None, ","), ("b", "-")]),
    ("json_object_agg", ("text", "int4"), [("a", "1"), ("b", None)]),
    ("jsonb_object_agg", ("text", "numeric"), [("b", "1.50"), ("a", None)]),
]


def run_aggregate(
    name: str, types: tuple[str, ...], rows: list[tuple[str | None, ...]], ctx: FixedContext
) -> tuple[str, ...]:
    given = [BY_NAME[type_name] for type_name in types]
    resolved = resolve_aggregate(REGISTRY, name, given)
    aggregate = resolved.function
    lead = (ctx,) if aggregate.needs_context else ()
    casts = [find_cast(REGISTRY, have, want, "i") for have, want in zip(given, resolved.arg_types)]

    def datum(text: str | None, i: int) -> Any:
        if text is None:
            return None
        value = text_in(given[i], -1, text)
        cast = casts[i]
        return value if cast is None or cast.function is None else cast.function.impl(value)

    def run(part: list[tuple[Any, ...]]) -> Any:
        state = aggregate.init()
        for row in part:
            if not aggregate.strict or None not in row:
                state = aggregate.step(*lead, state, *row)
        return state

    data = [tuple([datum(text, i) for i, text in enumerate(row)]) for row in rows]
    value = aggregate.final(*lead, run(data))
    if aggregate.combine is not None and "float" not in types[0]:
        middle = len(data) // 2
        combined = aggregate.final(*lead, aggregate.combine(run(data[:middle]), run(data[middle:])))
        assert repr(combined) == repr(value), f"{name}{types}: partial states combine to another result"
    return (shown(resolved.result, value, ctx), type_name(resolved.result))


def test_aggregates_agree(postgres: psycopg.Connection[Any]) -> None:
    postgres.execute("SET timezone = 'UTC'")
    differences = []
    for name, types, rows in AGGREGATES:
        values = ", ".join([f"({', '.join(['NULL' if v is None else repr(v) for v in row])})" for row in rows])
        columns = ", ".join([f"c{i}" for i in range(len(types))])
        args = ", ".join([f"c{i}::text::{t}" for i, t in enumerate(types)])
        sql = f"SELECT coalesce(({name}({args}))::text, 'NULL'), pg_typeof({name}({args}))::text FROM (VALUES {values}) t({columns})"
        other = tuple(postgres.execute(sql).fetchone())  # type: ignore[call-overload]
        own = run_aggregate(name, types, rows, FixedContext())
        if own != other:
            differences.append(f"{name}{types} {rows}\n    ours   {own}\n    theirs {other}")
    assert not differences, "\n".join(differences)


# --- windows -----------------------------------------------------------------------

BOUNDS = ("unbounded_preceding", "preceding", "current", "following", "unbounded_following")
CALLS = (
    ("sum", "v"), ("avg", "v"), ("min", "v"), ("max", "f"), ("count", "*"), ("count", "v"), ("first_value", "v"), ("last_value", "id"),
    ("nth_value", "id, 2"), ("rank", ""), ("dense_rank", ""), ("row_number", ""), ("percent_rank", ""), ("cume_dist", ""), ("ntile", "3"),
    ("lag", "id"), ("lead", "id, 2"), ("lag", "id, 1, -1"), ("sum", "id"), ("array_agg", "id"), ("variance", "id"), ("stddev", "id"),
)  # fmt: skip
TYPES = {"v": NUMERIC, "f": FLOAT8, "id": INT4}
PLACES = {"id": 0, "v": 3, "f": 4}


class Case:
    """One random window call over columns (id, p, o, v, f)."""

    def __init__(self, rng: random.Random) -> None:
        self.name, self.args = rng.choice(CALLS)
        self.mode = rng.choice(["rows", "range", "groups"])
        self.start = rng.randrange(4)
        self.end = rng.randrange(max(self.start, 1), 5)
        self.offsets = (rng.randrange(4), rng.randrange(4))
        self.exclude = rng.choice(["no others", "no others", "current row", "group", "ties"])
        self.descending, self.nulls_first = rng.random() < 0.5, rng.random() < 0.5
        self.is_filtered = self.name in ("sum", "avg", "count", "min", "max") and rng.random() < 0.2
        offsets_used = self.start in (1, 3) or self.end in (1, 3)
        # Peers come in no certain order: what depends on it gets a second key, which RANGE with offsets forbids.
        depends = (
            self.mode == "rows"
            or self.exclude in ("current row", "ties")
            or self.name not in ("sum", "avg", "count", "min", "max", "rank", "dense_rank")
        )
        if depends and self.mode == "range" and offsets_used:
            self.mode = "groups"
        self.has_second_key = depends or (rng.random() < 0.3 and not (self.mode == "range" and offsets_used))

    def order_sql(self) -> str:
        first = f"o {'DESC' if self.descending else 'ASC'} NULLS {'FIRST' if self.nulls_first else 'LAST'}"
        return first + (", id" if self.has_second_key else "")

    def sql(self) -> str:
        start, end = [
            (f"{self.offsets[i]} " if at in (1, 3) else "")
            + ("current row" if at == 2 else BOUNDS[at].replace("_", " "))
            for i, at in enumerate((self.start, self.end))
        ]
        condition = " FILTER (WHERE mod(id, 2) = 0)" if self.is_filtered else ""
        frame = f"{self.mode} BETWEEN {start} AND {end} EXCLUDE {self.exclude}"
        over = f"OVER (PARTITION BY p ORDER BY {self.order_sql()} {frame})"
        return (
            f"SELECT id, ({self.name}({self.args}){condition} {over})::text FROM w ORDER BY p, {self.order_sql()}, id"
        )

    def run(self, rows: list[tuple[Any, ...]]) -> list[tuple[int, str | None]]:
        names = [] if self.args in ("", "*") else [arg.strip() for arg in self.args.split(",")]
        resolved = resolve_window(REGISTRY, self.name, [TYPES.get(name, INT4) for name in names])
        keys = [SortKey(Col(1, INT4), self.descending, self.nulls_first)] + (
            [SortKey(Col(2, INT4))] if self.has_second_key else []
        )
        bounds = [
            (BOUNDS[at], Const(self.offsets[i], INT4) if at in (1, 3) else None)
            for i, at in enumerate((self.start, self.end))
        ]
        spec = FrameSpec(REGISTRY, WindowFrame(self.mode, bounds[0], bounds[1], self.exclude), keys)
        offsets = tuple([self.offsets[i] if at in (1, 3) else None for i, at in enumerate((self.start, self.end))])
        out: list[tuple[int, str | None]] = []
        for number in sorted({row[1] for row in rows}):
            part = [row for row in rows if row[1] == number]
            columns = [[row[2] for row in part], [row[0] for row in part]]
            order = sort_positions(
                columns, [(self.descending, self.nulls_first), (False, False)], [order_key(INT4), None]
            )
            part = [part[i] for i in order]
            ordering = [[row[2] for row in part]] + ([[row[0] for row in part]] if self.has_second_key else [])
            partition = Partition(spec, len(part), ordering, offsets)  # type: ignore[arg-type]
            args = [tuple([row[PLACES[name]] if name in PLACES else int(name) for name in names]) for row in part]
            included = [row[0] % 2 == 0 for row in part] if self.is_filtered else None
            column = window_column(resolved.function, partition, args, included, None)
            out += [
                (row[0], None if value is None else text_out(resolved.result, value))
                for row, value in zip(part, column)
            ]
        return out


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_window_frames_agree(seed: int, postgres: psycopg.Connection[Any]) -> None:
    rng = random.Random(seed)
    rows = [
        (
            i,
            rng.randrange(3),
            rng.choice([None, *range(8)]),
            None if rng.random() < 0.15 else Decimal(rng.randrange(100)) / 10,
            rng.random(),
        )
        for i in range(40)
    ]
    postgres.execute("DROP TABLE IF EXISTS w")
    postgres.execute("CREATE TEMP TABLE w (id int, p int, o int, v numeric, f float8)")
    with postgres.cursor() as cursor:
        cursor.executemany("INSERT INTO w VALUES (%s, %s, %s, %s, %s)", rows)
    for _ in range(120):
        case = Case(rng)
        assert case.run(rows) == postgres.execute(case.sql()).fetchall(), case.sql()  # type: ignore[call-overload]
