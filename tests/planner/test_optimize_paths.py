"""Index paths: random single-table queries over every kind of bound, order and limit, also through the compiled plans."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from base.types import BY_NAME, PgType
from planner.context import FixedContext
from planner.exec.relational import SortOp
from planner.exec.runtime import Operator
from planner.exec.scan import ScanOp
from planner.expr import And, AnyAll, Col, Const, Expr, InList, IsNull, Or, Param, SortKey
from planner.nodes import Filter, Limit, Node, Project, Scan, Sort
from planner.optimize import plan
from planner.schema import TableStats
from tests.planner.algebra import Query, const, equal_of, fill, make_index, make_table, op, query, run, settle
from tests.planner.model_txn import ModelTxn
from tests.planner.reference import Reference

INT8 = BY_NAME["int8"]
TEXT = BY_NAME["text"]
TABLES = (
    make_table(33001, "p", "a int8, b int8, c text, d int8 not", "a, b", [make_index(2, "p_d", [4]), make_index(3, "p_cd", [3, 4])]),
    make_table(33002, "q", "a int4, b int8, c text, d int8 not", "b desc, a", [make_index(2, "q_a", [1], unique=True), make_index(3, "q_cd", [3, 4], descending=True)]),
    make_table(33003, "o", "a int8, b int8, c text, d int8 not", "c, d", [make_index(2, "o_ab", [1, 2], unique=True, include=(3,))]),
)  # fmt: skip
LETTERS = ("", "a", "b", "ba")


def random_rows(rng: Random, number: int) -> list[tuple[Any, ...]]:
    keys = ((0, 1), (1, 0), (2, 3))[number]
    rows: dict[Any, tuple[Any, ...]] = {}
    unique: set[Any] = set()
    for _ in range(rng.randrange(25)):
        row: list[Any] = [rng.randrange(-3, 4), rng.randrange(-3, 4), rng.choice(LETTERS), rng.randrange(-3, 4)]
        for i in range(3):
            if i not in keys and rng.random() < 0.2:
                row[i] = None
        mark = row[0] if number == 1 else (row[0], row[1])
        if number in (1, 2) and mark in unique and mark is not None and None not in (row[0], row[1]):
            continue
        unique.add(mark)
        rows[tuple([row[i] for i in keys])] = tuple(row)
    return list(rows.values())


class Maker:
    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.query = Query("int8", "text", "int8", "_int8")
        self.number = rng.randrange(3)
        self.scan = self.query.scan(TABLES[self.number])

    def value(self, pg_type: PgType) -> Expr:
        rng = self.rng
        if pg_type.name == "text":
            return Param(2, TEXT) if rng.random() < 0.4 else const(rng.choice(LETTERS), "text")
        if rng.random() < 0.4:
            return Param(rng.choice((1, 3)), INT8)
        return Const(None, INT8) if rng.random() < 0.04 else const(rng.choice((-9, -3, -2, -1, 0, 1, 2, 3, 2**40)))

    def term(self) -> Expr:
        rng = self.rng
        column = self.query.col(self.scan, rng.randrange(4))
        roll = rng.random()
        if roll < 0.45:
            return op("=", column, self.value(column.type))
        if roll < 0.75:
            pair = (column, self.value(column.type))
            return op(rng.choice(("<", "<=", ">", ">=")), *(pair if rng.random() < 0.8 else pair[::-1]))
        if roll < 0.85:
            wide = Col(column.id, column.type) if column.type.name != "int4" else column
            items = tuple(
                [
                    self.value(column.type) if column.type.name != "int4" else const(rng.randrange(-3, 4), "int4")
                    for _ in range(3)
                ]
            )
            return InList(wide, items, equal_of(column.type), False)
        if roll < 0.9 and column.type.name == "int8":
            return AnyAll(column, equal_of(INT8), Param(4, BY_NAME["_int8"]), False)
        if roll < 0.95:
            return Or((op("=", column, self.value(column.type)), op("=", column, self.value(column.type))))
        return IsNull(column, rng.random() < 0.5)

    def root(self) -> tuple[Node, tuple[SortKey, ...], bool]:
        rng = self.rng
        terms = tuple([self.term() for _ in range(rng.randrange(4))])
        node: Node = self.scan
        if terms:
            node = Filter(node, And(terms) if len(terms) > 1 else terms[0])
        keys: tuple[SortKey, ...] = ()
        if rng.random() < 0.6:
            ids = rng.sample(range(4), rng.randrange(1, 5))
            flip = rng.random() < 0.5
            keys = tuple([SortKey(self.query.col(self.scan, i), flip if rng.random() < 0.9 else not flip) for i in ids])
            node = Sort(node, keys)
        limited = rng.random() < 0.5
        if rng.random() < 0.5:
            ids = rng.sample(range(4), rng.randrange(1, 4))
            exprs = tuple([self.query.col(self.scan, i) for i in ids])
            node = Project(node, tuple([self.query.fresh("o", e.type) for e in exprs]), exprs)
        if limited:
            node = Limit(
                node, rng.choice((const(3), Param(3, INT8), const(1))), const(1) if rng.random() < 0.3 else None
            )
        return node, keys, limited


def ordered_keys(rows: list[tuple[Any, ...]], root: Node, keys: tuple[SortKey, ...]) -> list[tuple[Any, ...]]:
    """The sort columns that are in the output, row by row: equal for every right answer."""
    sources = list(root.columns)
    if isinstance(root, Limit):
        root = root.input
    if isinstance(root, Project):
        sources = [e.id for e in root.exprs if isinstance(e, Col)]
    at = []
    for key in keys:
        assert isinstance(key.expr, Col)
        if key.expr.id not in sources:
            break
        at.append(sources.index(key.expr.id))
    return [tuple([row[i] for i in at]) for row in rows]


def drive(result: Any) -> Any:
    if not hasattr(result, "send"):
        return settle(result)
    try:
        while True:
            result.send(None)
    except StopIteration as stop:
        return stop.value


def check_one(seed: int) -> str:
    rng = Random(seed)
    data = {table.id: random_rows(rng, i) for i, table in enumerate(TABLES)}
    maker = Maker(rng)
    root, keys, limited = maker.root()
    params = (
        rng.choice((None, -2, 0, 1, 2)),
        rng.choice((None, "a", "b")),
        rng.randrange(4),
        rng.choice((None, (), (1, None, 1, -1), (2,))),
    )
    everything = Reference(data, params).rows(root.input if limited and isinstance(root, Limit) else root)
    expected = Reference(data, params).rows(root)
    txn = ModelTxn(page_rows=rng.choice((0, 0, 1, 2)), suspends=rng.random() < 0.3)
    for table in TABLES:
        fill(table, data[table.id], txn)
    stats = {table.id: TableStats(rows=float(10 ** rng.randrange(6))) for table in TABLES}
    planned = plan(maker.query.statement(root), stats.get)
    answers = [run(planned, txn, params, rng.choice((0, 1, 2)))]
    if planned.fast is not None:
        fast = drive(planned.fast.run(txn, params, FixedContext()))
        if fast is not None:
            answers.append(fast)
    for actual in answers:
        assert ordered_keys(actual, root, keys) == ordered_keys(expected, root, keys), f"{seed=}"
        if limited:
            assert len(actual) == len(expected), f"{seed=}"
            left = [repr(row) for row in everything]
            for row in actual:
                left.remove(repr(row))
        else:
            assert sorted(map(repr, actual)) == sorted(map(repr, expected)), f"{seed=}"
    return planned.fast.kind if planned.fast is not None and len(answers) == 2 else ""


@pytest.mark.parametrize("block", range(5))
def test_random_conditions_orders_and_limits(block: int) -> None:
    kinds = [check_one(seed) for seed in range(block * 200, block * 200 + 200)]
    assert "point" in kinds
    assert "range" in kinds


@pytest.mark.slow
def test_more_random_conditions() -> None:
    for seed in range(100_000, 104_000):
        check_one(seed)


# --- golden plans ----------------------------------------------------------------------


BIG = {table.id: TableStats(rows=1e6) for table in TABLES}


def scan_of(operator: Operator) -> ScanOp:
    while not isinstance(operator, ScanOp):
        operator = operator.children()[0]
    return operator


def planned_title(made: Query, root: Node) -> str:
    return scan_of(plan(made.statement(root), BIG.get).root).title()


def test_equality_on_the_whole_key_is_a_point() -> None:
    made = Query("int8", "int8")
    scan = made.scan(TABLES[0])
    both = And((op("=", made.col(scan, "b"), Param(2, INT8)), op("=", made.col(scan, "a"), Param(1, INT8))))
    found = plan(made.statement(Filter(scan, both)), BIG.get)
    assert scan_of(found.root).spans.is_point
    assert found.fast is not None
    assert found.fast.kind == "point"


def test_order_by_the_key_needs_no_sort_in_either_direction() -> None:
    for descending in (False, True):
        made = Query()
        scan = made.scan(TABLES[0])
        keys = (SortKey(made.col(scan, "a"), descending), SortKey(made.col(scan, "b"), descending))
        root = plan(made.statement(Sort(scan, keys)), BIG.get).root
        assert isinstance(root, ScanOp)
        assert root.reverse == descending


def test_mixed_directions_are_sorted() -> None:
    made = Query()
    scan = made.scan(TABLES[0])
    keys = (SortKey(made.col(scan, "a")), SortKey(made.col(scan, "b"), True))
    assert isinstance(plan(made.statement(Sort(scan, keys)), BIG.get).root, SortOp)


def test_limit_reads_only_what_it_needs() -> None:
    made = Query()
    scan = made.scan(TABLES[0])
    root = Limit(Sort(scan, (SortKey(made.col(scan, "d")),)), const(2), None)
    txn = ModelTxn()
    fill(TABLES[0], [(i, i, "c", i) for i in range(100)], txn)
    txn.reads.clear()
    assert query(made.statement(root), txn, stats=BIG) == [(0, 0, "c", 0), (1, 1, "c", 1)]
    assert txn.reads == ["scan", "get_many 2"]


def test_a_covering_index_is_read_alone() -> None:
    made = Query()
    scan = made.scan(TABLES[0])
    root = Project(
        Filter(scan, op("=", made.col(scan, "d"), const(3))), (made.fresh("a", INT8),), (made.col(scan, "a"),)
    )
    assert planned_title(made, root) == "Index Only Scan using p_d on p"


def test_a_partial_index_serves_only_what_it_holds() -> None:
    partial = make_index(2, "w_open", [2], predicate="c > 2")
    table = make_table(33100, "w", "a int8, b int8, c int8", "a", [partial])

    def title(bound: int) -> str:
        made = Query()
        scan = made.scan(table)
        both = And((op("=", made.col(scan, "b"), const(1)), op(">", made.col(scan, "c"), const(bound))))
        statement = made.statement(Filter(scan, both))
        exprs = made.row_exprs(table)
        exprs.index_predicates[2] = op(">", Col(exprs.row[2], INT8), const(2))
        statement.table_exprs[table.id] = exprs
        return scan_of(plan(statement, {table.id: TableStats(rows=1e6)}.get).root).title()

    assert title(5) == "Index Scan using w_open on w"
    assert title(2) == "Index Scan using w_open on w"
    assert title(1) == "Seq Scan on w"


def test_out_of_range_parameters_match_nothing() -> None:
    made = Query("int8")
    scan: Scan = made.scan(TABLES[1])
    statement = made.statement(Filter(scan, op("=", made.col(scan, "a"), Param(1, INT8))))
    txn = ModelTxn()
    fill(TABLES[1], [(1, 1, "x", 1)], txn)
    found = plan(statement, BIG.get)
    assert run(found, txn, (2**40,)) == []
    assert found.fast is not None
    assert found.fast.run(txn, (2**40,), FixedContext()) == []
