"""Random queries over small random tables: the executor against the naive reference (tests.planner.reference)."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from base.types import BOOL, BY_NAME
from planner.expr import And, Case, Coalesce, Col, Expr, InList, IsNull, Not, Or, Param, SortKey, Subquery
from planner.nodes import Aggregate, Cte, CteScan, Distinct, Filter, Join, Limit, Node, Project, SetOp, Sort, With
from planner.optimize import plan
from planner.schema import TableDesc, TableStats
from tests.planner.algebra import Query, agg, const, equal_of, fill, make_index, make_table, op, query, run, settle
from tests.planner.model_txn import ModelTxn
from tests.planner.reference import Reference

INT8 = BY_NAME["int8"]
TEXTS = ("", "a", "ab", "b", "zz")

TABLES = (
    make_table(
        30001,
        "r",
        "a int8, b int8, c text, d int8",
        "a",
        [make_index(2, "r_b", [2]), make_index(3, "r_cd", [3, 4], descending=True)],
    ),
    make_table(
        30002, "s", "x int8, y int8, z text", "x, y desc", [make_index(2, "s_y", [2], unique=False, include=(3,))]
    ),
    make_table(
        30003,
        "u",
        "k int8, v int8, w text",
        "k",
        [make_index(2, "u_v", [2], unique=True), make_index(3, "u_wv", [3, 2])],
    ),
    make_table(30004, "m", "n numeric, o int4, p text", "n, p"),
)


def random_rows(rng: Random, table: TableDesc) -> list[tuple[Any, ...]]:
    """Up to 14 rows; keys and unique columns never twice."""
    from decimal import Decimal

    rows: dict[Any, tuple[Any, ...]] = {}
    seen: set[Any] = set()
    for _ in range(rng.randrange(15)):
        row: list[Any] = []
        for column in table.columns:
            value: Any = rng.randrange(-2, 7)
            if column.type_oid == BY_NAME["text"].oid:
                value = rng.choice(TEXTS)
            elif column.type_oid == BY_NAME["numeric"].oid:
                value = Decimal(value) / 4
            row.append(None if column.nullable and rng.random() < 0.2 else value)
        if table.name == "u":
            if row[1] in seen and row[1] is not None:
                continue
            seen.add(row[1])
        key = tuple([row[column.column_id - 1] for column in table.indexes[0].columns])
        rows[key] = tuple(row)
    return list(rows.values())


class Maker:
    """Makes random bound trees."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.query = Query("int8", "text")

    def columns(self, ids: tuple[int, ...], type_name: str) -> list[Col]:
        return [self.query.col(id) for id in ids if self.query.metadata[id].type.name == type_name]

    def value(self, ids: tuple[int, ...], type_name: str = "int8", depth: int = 2) -> Expr:
        rng = self.rng
        found = self.columns(ids, type_name)
        if found and rng.random() < 0.6:
            return rng.choice(found)
        if rng.random() < 0.2:
            return Param(1, INT8) if type_name == "int8" else Param(2, BY_NAME["text"])
        if depth and rng.random() < 0.4 and type_name == "int8":
            left, right = self.value(ids, type_name, depth - 1), self.value(ids, type_name, depth - 1)
            if rng.random() < 0.3:
                return Coalesce((left, right), INT8)
            if rng.random() < 0.2:
                return Case(((self.condition(ids, 0), left),), right, INT8)
            return op(rng.choice("+-"), left, right)
        return const(rng.randrange(-2, 7)) if type_name == "int8" else const(rng.choice(TEXTS), "text")

    def condition(self, ids: tuple[int, ...], depth: int = 2) -> Expr:
        rng = self.rng
        roll = rng.random()
        if depth and roll < 0.3:
            parts = tuple([self.condition(ids, depth - 1) for _ in range(rng.randrange(2, 4))])
            return And(parts) if rng.random() < 0.6 else Or(parts)
        if depth and roll < 0.36:
            return Not(self.condition(ids, depth - 1))
        if roll < 0.44:
            return IsNull(self.value(ids, rng.choice(("int8", "text"))), rng.random() < 0.5)
        if roll < 0.52:
            items = tuple([self.value((), "int8", 0) for _ in range(rng.randrange(1, 4))])
            return InList(self.value(ids), items, equal_of(INT8), rng.random() < 0.3)
        if depth and roll < 0.68:
            return self.subquery_test(ids)
        name = rng.choice(("int8", "int8", "text"))
        symbol = rng.choice(("=", "=", "=", "<", "<=", ">", ">=", "<>"))
        return op(symbol, self.value(ids, name), self.value(ids, name))

    def subquery_test(self, ids: tuple[int, ...]) -> Expr:
        rng = self.rng
        inner: Node = self.query.scan(rng.choice(TABLES[:3]), "q")
        if rng.random() < 0.8:
            condition = self.condition(inner.columns + ids, 1)
            near, far = self.columns(inner.columns, "int8"), self.columns(ids, "int8")
            if far and rng.random() < 0.6:
                equal = op("=", rng.choice(near), rng.choice(far))
                condition = equal if rng.random() < 0.5 else And((equal, condition))
            inner = Filter(inner, condition)
        kind = rng.random()
        if kind < 0.35:
            test: Expr = Subquery("exists", inner, BOOL)
            return Not(test) if rng.random() < 0.4 else test
        source = rng.choice(self.columns(inner.columns, "int8"))
        if kind < 0.7:
            column = self.query.fresh("q", INT8)
            plan_node = Project(inner, (column,), (source,))
            test = Subquery("any", plan_node, BOOL, test=op("=", self.value(ids), self.query.col(column)))
            return Not(test) if rng.random() < 0.3 else test
        name = rng.choice(("count", "max", "min", "sum"))
        call = agg(name, source)
        total = self.query.fresh("t", call.type)
        grouped = Aggregate(inner, (), (total,), (call,))
        value = Subquery("scalar", grouped, call.type)
        return op(
            rng.choice(("=", "<", ">")),
            value,
            const(rng.randrange(4), call.type.name) if call.type.name != "numeric" else self._numeric(),
        )

    def _numeric(self) -> Expr:
        from decimal import Decimal

        return const(Decimal(self.rng.randrange(8)), "numeric")

    def relation(self, depth: int) -> Node:
        rng = self.rng
        if depth == 0 or rng.random() < 0.25:
            node: Node = self.query.scan(rng.choice(TABLES))
            return Filter(node, self.condition(node.columns, 1)) if rng.random() < 0.4 else node
        roll = rng.random()
        if roll < 0.55:
            left, right = self.relation(depth - 1), self.relation(depth - 1)
            kind = rng.choice(("inner", "inner", "inner", "left", "right", "full"))
            both = left.columns + right.columns
            on: Expr = self.condition(both, 1)
            a, b = self.columns(left.columns, "int8"), self.columns(right.columns, "int8")
            if a and b and rng.random() < 0.8:
                equal = op("=", rng.choice(a), rng.choice(b))
                on = equal if rng.random() < 0.7 else And((equal, on))
            joined: Node = Join(kind, left, right, on)
            return Filter(joined, self.condition(both, 1)) if rng.random() < 0.4 else joined
        if roll < 0.65:
            return self.aggregate(self.relation(depth - 1))
        if roll < 0.75:
            return Distinct(self.project(self.relation(depth - 1)))
        if roll < 0.85:
            return self.set_operation(depth)
        if roll < 0.92:
            left = self.relation(depth - 1)
            inner = self.query.scan(rng.choice(TABLES[:3]))
            right = Filter(inner, self.condition(inner.columns + left.columns, 1))
            return Join(rng.choice(("inner", "left")), left, right, None, lateral=True)
        return self.cte(depth)

    def project(self, input: Node) -> Node:
        ids, exprs = [], []
        for _ in range(self.rng.randrange(1, 4)):
            name = self.rng.choice(("int8", "text"))
            exprs.append(self.value(input.columns, name))
            ids.append(self.query.fresh("e", BY_NAME[name]))
        return Project(input, tuple(ids), tuple(exprs))

    def aggregate(self, input: Node) -> Node:
        rng = self.rng
        numbers = self.columns(input.columns, "int8")
        group = tuple(dict.fromkeys([rng.choice(input.columns) for _ in range(rng.randrange(3))]))
        calls = [agg("count")]
        if numbers:
            calls.append(agg(rng.choice(("max", "min", "sum", "count")), rng.choice(numbers)))
            calls.append(agg("count", rng.choice(numbers), distinct=True, filter=self.condition(input.columns, 0)))
        ids = tuple([self.query.fresh("g", call.type) for call in calls])
        sets = None
        if len(group) == 2 and rng.random() < 0.3:
            sets = ((0, 1), (0,), ())
        return Aggregate(input, group, ids, tuple(calls), sets)

    def set_operation(self, depth: int) -> Node:
        sides = []
        for _ in range(2):
            inner = self.relation(depth - 1)
            ids = (self.query.fresh("l", INT8), self.query.fresh("m", BY_NAME["text"]))
            sides.append(Project(inner, ids, (self.value(inner.columns), self.value(inner.columns, "text"))))
        ids = (self.query.fresh("u", INT8), self.query.fresh("w", BY_NAME["text"]))
        return SetOp(
            self.rng.choice(("union", "intersect", "except")), self.rng.random() < 0.5, sides[0], sides[1], ids
        )

    def cte(self, depth: int) -> Node:
        plan_node = self.project(self.relation(depth - 1))
        shared = Cte("c", plan_node, plan_node.columns)
        scans = []
        for _ in range(self.rng.randrange(1, 3)):
            ids = tuple([self.query.fresh("c", self.query.metadata[id].type) for id in plan_node.columns])
            scans.append(CteScan(shared, ids, "c"))
        body: Node = scans[0]
        if len(scans) == 2:
            both = scans[0].columns + scans[1].columns
            body = Join("inner", scans[0], scans[1], self.condition(both, 1))
        return With((shared,), body)

    def root(self) -> tuple[Node, bool]:
        """A whole query, and whether its rows come in a fully determined order."""
        rng = self.rng
        node = self.relation(rng.randrange(1, 4))
        if rng.random() < 0.6:
            node = Project(node, node.columns, tuple([self.query.col(id) for id in node.columns]))
        if rng.random() < 0.5:
            keys = []
            for id in node.columns:
                descending = rng.random() < 0.4
                keys.append(SortKey(self.query.col(id), descending, rng.random() < 0.5 if rng.random() < 0.3 else None))
            rng.shuffle(keys)
            node = Sort(node, tuple(keys))
            if rng.random() < 0.5:
                node = Limit(node, const(rng.randrange(5)), const(rng.randrange(3)) if rng.random() < 0.4 else None)
            return node, True
        return node, False


def canonical(rows: list[tuple[Any, ...]]) -> list[str]:
    return sorted([repr(row) for row in rows])


def random_stats(rng: Random) -> dict[int, TableStats]:
    """Wrong statistics on purpose: they must change plans, never answers."""
    return {table.id: TableStats(rows=float(10 ** rng.randrange(7))) for table in TABLES if rng.random() < 0.7}


def check_one(seed: int) -> None:
    rng = Random(seed)
    data = {table.id: random_rows(rng, table) for table in TABLES}
    maker = Maker(rng)
    root, is_ordered = maker.root()
    params = (rng.randrange(-1, 6), rng.choice(TEXTS))
    expected = Reference(data, params).rows(root)
    txn = ModelTxn(page_rows=rng.choice((0, 1, 3)), suspends=rng.random() < 0.3)
    for table in TABLES:
        fill(table, data[table.id], txn)
    planned = plan(maker.query.statement(root), random_stats(rng).get)
    actual = run(planned, txn, params, rng.choice((0, 1, 4)))
    if is_ordered:
        assert actual == expected, f"{seed=}"
    assert canonical(actual) == canonical(expected), f"{seed=}"
    if planned.fast is not None:
        found = planned.fast.run(txn, params, None)  # type: ignore[arg-type]
        found = settle(found) if not hasattr(found, "send") else _drive(found)
        assert found is None or canonical(found) == canonical(expected), f"fast {seed=}"


def _drive(coroutine: Any) -> Any:
    try:
        while True:
            coroutine.send(None)
    except StopIteration as stop:
        return stop.value


@pytest.mark.parametrize("block", range(6))
def test_random_queries_agree_with_the_reference(block: int) -> None:
    for seed in range(block * 40, block * 40 + 40):
        check_one(seed)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_more_random_queries_agree_with_the_reference(block: int) -> None:
    for seed in range(10_000 + block * 250, 10_000 + block * 250 + 250):
        check_one(seed)


def test_query_helper_runs_a_scan() -> None:
    made = Query()
    scan = made.scan(TABLES[0])
    txn = ModelTxn()
    fill(TABLES[0], [(1, 2, "a", None)], txn)
    assert query(made.statement(scan), txn) == [(1, 2, "a", None)]
