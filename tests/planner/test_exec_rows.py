"""Golden cases of operators: CTEs, recursion, locks, windows, statistics, EXPLAIN."""

from __future__ import annotations

from typing import Any

import pytest

from base.errors import MeridianError
from base.types import BOOL, BY_NAME
from kvtier.messages import Isolation, Lock, Wait
from planner.access import table_access
from planner.context import FixedContext
from planner.exec.locking import LockRowsOp
from planner.exec.runtime import drive
from planner.explain_plan import explain, explain_json
from planner.expr import AggCall, Case, Col, Const, Expr, Param, SortKey, Subquery
from planner.functions.resolve import resolve_window
from planner.nodes import (
    Aggregate,
    Cte,
    CteScan,
    Delete,
    Distinct,
    Filter,
    Insert,
    Join,
    Limit,
    LockRows,
    Node,
    Project,
    SetOp,
    Sort,
    Update,
    Values,
    Window,
    WindowFrame,
    With,
)  # fmt: skip
from planner.optimize import plan
from planner.optimize.registry import builtin_registry
from planner.schema import TableStats
from planner.statistics import analyze_table
from tests.planner.algebra import Query, agg, call, const, fill, make_index, make_table, op, query, run, settle
from tests.planner.model_txn import ModelTxn

INT8 = BY_NAME["int8"]
JOBS = make_table(34001, "jobs", "id int8, state text, rank int8", "id", [make_index(2, "jobs_state", [2])])
OTHER = make_table(34002, "other", "id int8, v int8", "id")


def jobs(count: int = 6) -> ModelTxn:
    txn = ModelTxn()
    fill(JOBS, [(i, "ready" if i % 2 else "done", 10 - i) for i in range(count)], txn)
    return txn


def one_row(made: Query) -> Values:
    return Values([(const(1),)], (made.fresh("n", INT8),))


def counting(made: Query, until: int, union_all: bool = True) -> tuple[Cte, Node]:
    """WITH RECURSIVE t(n) AS (VALUES (1) UNION [ALL] SELECT n + 1 FROM t WHERE n < until)."""
    first = one_row(made)
    cte = Cte("t", first, first.columns)
    cte.recursive = True
    cte.union_all = union_all
    inner = CteScan(cte, (made.fresh("n", INT8),), "t")
    out = (made.fresh("n", INT8),)
    cte.step = Project(
        Filter(inner, op("<", made.col(inner), const(until))), out, (op("+", made.col(inner), const(1)),)
    )
    return cte, CteScan(cte, (made.fresh("n", INT8),), "t")


def test_recursion_counts() -> None:
    made = Query()
    cte, scan = counting(made, 5)
    assert query(made.statement(With((cte,), scan)), ModelTxn()) == [(1,), (2,), (3,), (4,), (5,)]


def test_recursion_without_end_stops_at_the_limit() -> None:
    made = Query()
    cte, scan = counting(made, 2**40)
    assert query(made.statement(With((cte,), Limit(scan, const(3), None))), ModelTxn()) == [(1,), (2,), (3,)]


def test_union_drops_what_was_seen_and_so_ends() -> None:
    made = Query()
    first = one_row(made)
    cte = Cte("t", first, first.columns)
    cte.recursive, cte.union_all = True, False
    inner = CteScan(cte, (made.fresh("n", INT8),), "t")
    out = (made.fresh("n", INT8),)
    cte.step = Project(inner, out, (op("%", op("+", made.col(inner), const(1)), const(4)),))
    scan = CteScan(cte, (made.fresh("n", INT8),), "t")
    assert query(made.statement(With((cte,), scan)), ModelTxn()) == [(1,), (2,), (3,), (0,)]


def test_data_modifying_ctes_see_one_snapshot_and_all_run() -> None:
    made = Query()
    txn = jobs(4)
    scan = made.scan(JOBS)
    returning = ((made.fresh("id", INT8),), (made.col(scan, "id"),))
    gone = Delete(
        JOBS, Filter(scan, op(">=", made.col(scan, "id"), const(2))), scan.columns, made.row_exprs(JOBS), returning
    )
    cte = Cte("gone", gone, gone.columns)
    row = Values(
        [(const(9), const("new", "text"), const(0))], tuple([made.fresh("v", t) for t in (INT8, BY_NAME["text"], INT8)])
    )
    silent = Cte("silent", Insert(JOBS, row, (1, 2, 3), made.row_exprs(JOBS), None, None), ())
    seen = made.scan(JOBS, "seen")
    read = CteScan(cte, (made.fresh("g", INT8),), "gone")
    total = made.fresh("n", INT8)
    counted = Aggregate(Join("inner", seen, read, None), (), (total,), (agg("count"),))
    # Four rows are seen, though two of them are deleted and one is inserted by the same statement.
    assert query(made.statement(With((cte, silent), counted)), txn) == [(8,)]
    made = Query()
    assert sorted(row[0] for row in query(made.statement(made.scan(JOBS)), txn)) == [0, 1, 9]


def test_a_cte_read_twice_runs_once() -> None:
    made = Query()
    txn = jobs()
    scan = made.scan(JOBS)
    inner = Project(scan, (made.fresh("i", INT8),), (made.col(scan, "id"),))
    cte = Cte("c", inner, inner.columns)
    a, b = CteScan(cte, (made.fresh("a", INT8),), "a"), CteScan(cte, (made.fresh("b", INT8),), "b")
    root = With((cte,), Join("inner", a, b, op("=", made.col(a), made.col(b))))
    txn.reads.clear()
    assert len(query(made.statement(root), txn)) == 6
    assert txn.reads == ["scan"]


# --- locks ---------------------------------------------------------------------------


def ready_jobs(made: Query, wait: Wait = Wait.BLOCK, limit: Expr | None = None) -> Node:
    """SELECT id FROM jobs WHERE state = 'ready' ORDER BY rank FOR UPDATE [LIMIT n]."""
    scan = made.scan(JOBS, lock=int(Lock.EXCLUSIVE), wait=int(wait))
    found = Filter(scan, op("=", made.col(scan, "state"), const("ready", "text")))
    columns = (made.fresh("id", INT8), made.fresh("rank", INT8))
    node: Node = Sort(
        Project(found, columns, (made.col(scan, "id"), made.col(scan, "rank"))), (SortKey(made.col(columns[1])),)
    )
    return node if limit is None else Limit(node, limit, None)


@pytest.mark.parametrize("limit", [const(1), Param(1, INT8)])
def test_for_update_with_limit_locks_only_what_it_gives(limit: Expr) -> None:
    made = Query("int8")
    txn = jobs()
    txn.locks.clear()
    assert query(made.statement(ready_jobs(made, limit=limit)), txn, (1,)) == [(5, 5)]
    assert len(txn.locks) == 1


def test_skip_locked_passes_over_locked_rows() -> None:
    made = Query()
    txn = jobs()
    access = table_access(JOBS)
    txn.locked_elsewhere = {access.key_codec.encode((5,))}
    assert query(made.statement(ready_jobs(made, Wait.SKIP, const(1))), txn) == [(3, 7)]


def test_rows_changed_meanwhile_are_looked_at_again() -> None:
    txn = jobs()
    txn.isolation = Isolation.READ_COMMITTED
    access = table_access(JOBS)
    # 5 is no longer ready, 3 has another rank, 1 is gone.
    txn.newer = {
        access.key_of_row((5, "", 0)): access.value_of_row((5, "done", 5)),
        access.key_of_row((3, "", 0)): access.value_of_row((3, "ready", 77)),
        access.key_of_row((1, "", 0)): None,
    }
    made = Query()
    assert query(made.statement(ready_jobs(made)), txn) == [(3, 77)]
    made = Query()
    scan = made.scan(JOBS)
    exprs = made.row_exprs(JOBS)
    returning = ((made.fresh("r", INT8),), (Col(exprs.row[2], INT8),))
    found = Filter(scan, op("=", made.col(scan, "state"), const("ready", "text")))
    node = Update(JOBS, found, scan.columns, ((3, op("+", made.col(scan, "rank"), const(1))),), exprs, returning)
    assert query(made.statement(node, "UPDATE"), txn) == [(78,)]


def test_locks_of_a_join_name_their_table() -> None:
    made = Query()
    txn = jobs()
    fill(OTHER, [(1, 1), (3, 3)], txn)
    txn.locks.clear()
    a, b = made.scan(JOBS), made.scan(OTHER)
    joined = Join("left", a, b, op("=", made.col(a, "id"), made.col(b, "v")))
    node = LockRows(joined, (("other", OTHER, (b.columns[0],), int(Lock.SHARE), 0),))
    found = plan(made.statement(node))
    assert isinstance(found.root, LockRowsOp)
    assert not found.is_read_only
    assert len(run(found, txn)) == 6
    access = table_access(OTHER)
    assert sorted(txn.locks) == [(access.key_codec.encode((i,)), Lock.SHARE) for i in (1, 3)]


# --- subqueries ------------------------------------------------------------------------


def test_a_scalar_subquery_with_two_rows_is_an_error_only_if_asked() -> None:
    made = Query("bool")
    txn = jobs()
    scan = made.scan(JOBS)
    inner = Project(scan, (made.fresh("i", INT8),), (made.col(scan, "id"),))
    value = Subquery("scalar", inner, INT8)
    lazy = Case(((Param(1, BOOL), value),), const(-1), INT8)
    root = Project(Values([()], ()), (made.fresh("x", INT8),), (lazy,))
    found = plan(made.statement(root))
    assert run(found, txn, (False,)) == [(-1,)]
    with pytest.raises(MeridianError, match="more than one row returned by a subquery used as an expression"):
        run(found, txn, (True,))


def test_an_uncorrelated_subquery_runs_once() -> None:
    made = Query()
    txn = jobs()
    scan, inner = made.scan(JOBS), made.scan(JOBS, "i")
    top = made.fresh("m", INT8)
    value = Subquery("scalar", Aggregate(inner, (), (top,), (agg("max", made.col(inner, "rank")),)), INT8)
    txn.reads.clear()
    assert query(made.statement(Filter(scan, op("=", made.col(scan, "rank"), value))), txn) == [(0, "done", 10)]
    assert txn.reads == ["scan", "scan"]


def test_count_of_nothing_is_zero_after_decorrelation() -> None:
    made = Query()
    txn = jobs(3)
    fill(OTHER, [(1, 0), (2, 0)], txn)
    scan, inner = made.scan(JOBS), made.scan(OTHER)
    total = made.fresh("n", INT8)
    matching = Filter(inner, op("=", made.col(inner, "v"), made.col(scan, "id")))
    value = Subquery("scalar", Aggregate(matching, (), (total,), (agg("count"),)), INT8)
    root = Project(scan, (made.fresh("id", INT8), made.fresh("n", INT8)), (made.col(scan, "id"), value))
    statement = made.statement(root)
    found = plan(statement, {JOBS.id: TableStats(rows=1e5), OTHER.id: TableStats(rows=1e5)}.get)
    assert not found.subplans
    assert sorted(run(found, txn)) == [(0, 2), (1, 0), (2, 0)]


# --- windows, aggregates, sets -----------------------------------------------------------


def test_windows_number_rows_within_partitions() -> None:
    made = Query()
    txn = jobs()
    scan = made.scan(JOBS)
    found = resolve_window(builtin_registry(), "row_number", ())
    number = made.fresh("n", INT8)
    frame = WindowFrame("range", ("unbounded_preceding", None), ("current", None))
    order = (SortKey(made.col(scan, "rank")),)
    window = Window(scan, (number,), (AggCall(found.function, (), INT8),), (made.col(scan, "state"),), order, frame)
    rows = query(made.statement(window), txn)
    assert [(row[0], row[3]) for row in sorted(rows)] == [(0, 3), (1, 3), (2, 2), (3, 2), (4, 1), (5, 1)]


def test_min_reads_one_row_of_an_index() -> None:
    made = Query()
    txn = jobs()
    scan = made.scan(JOBS)
    column = made.fresh("m", INT8)
    root = Aggregate(scan, (), (column,), (agg("max", made.col(scan, "id")),))
    found = plan(made.statement(root), {JOBS.id: TableStats(rows=1e6)}.get)
    txn.reads.clear()
    assert run(found, txn) == [(5,)]
    assert explain(found, costs=False)[1:] == [
        "  ->  Limit",
        "        ->  Index Scan Backward using jobs_pkey on jobs",
        "              Filter: (id IS NOT NULL)",
    ]


def test_with_ties_gives_all_equal_rows() -> None:
    made = Query()
    txn = ModelTxn()
    fill(OTHER, [(i, i // 3) for i in range(9)], txn)
    scan = made.scan(OTHER)
    root = Limit(Sort(scan, (SortKey(made.col(scan, "v")),)), const(4), None, with_ties=True)
    assert sorted(row[0] for row in query(made.statement(root), txn)) == [0, 1, 2, 3, 4, 5]


def test_negative_limit_is_refused() -> None:
    made = Query("int8")
    scan = made.scan(OTHER)
    with pytest.raises(MeridianError) as caught:
        query(made.statement(Limit(scan, Param(1, INT8), None)), ModelTxn(), (-1,))
    assert (caught.value.sqlstate, caught.value.message) == ("2201W", "LIMIT must not be negative")


def test_distinct_on_keeps_the_first_of_each() -> None:
    made = Query()
    txn = ModelTxn()
    fill(OTHER, [(i, i % 3) for i in range(9)], txn)
    scan = made.scan(OTHER)
    keys = (SortKey(made.col(scan, "v")), SortKey(made.col(scan, "id"), True))
    assert query(made.statement(Distinct(Sort(scan, keys), (scan.columns[1],))), txn) == [(6, 0), (7, 1), (8, 2)]


def test_except_all_counts() -> None:
    made = Query()

    def side(values: list[int]) -> Values:
        return Values([(const(value),) for value in values], (made.fresh("v", INT8),))

    root = SetOp("except", True, side([1, 1, 1, 2]), side([1, 3]), (made.fresh("r", INT8),))
    assert query(made.statement(root), ModelTxn()) == [(1,), (1,), (2,)]


def test_what_must_wait_is_waited_for() -> None:
    class Slow(FixedContext):
        ready = False

        def nextval(self, sequence_oid: int) -> int:
            from planner.context import NeedsAwait

            if not self.ready:
                raise NeedsAwait(self._fetch())
            self.ready = False
            return 7

        async def _fetch(self) -> None:
            self.ready = True

    made = Query()
    nextval = call("nextval", const(1, "regclass"))
    assert nextval.type == INT8
    values: list[tuple[Expr, ...]] = [(nextval, const(1)), (op("+", nextval, const(1)), const(2))]
    rows = Values(values, (made.fresh("a", INT8), made.fresh("b", INT8)))
    txn = ModelTxn()
    cursor = plan(made.statement(Insert(OTHER, rows, (1, 2), made.row_exprs(OTHER), None, None), "INSERT")).open(
        txn, (), Slow()
    )
    assert settle(cursor.fetch(0)) == []
    assert cursor.affected == 2
    made = Query()
    assert query(made.statement(made.scan(OTHER)), txn) == [(7, 1), (8, 2)]


# --- statistics and EXPLAIN ------------------------------------------------------------------


def analyzed(rows: list[tuple[Any, ...]], sample: int = 30_000) -> TableStats:
    txn = ModelTxn(page_rows=7)
    fill(JOBS, rows, txn)
    stats = settle(drive(analyze_table(table_access(JOBS), txn, FixedContext(), sample)))
    assert isinstance(stats, TableStats)
    return stats


def test_analyze_finds_common_values_and_bounds() -> None:
    stats = analyzed([(i, "ready" if i % 10 else None, i // 2) for i in range(1000)])
    assert stats.rows == 1000
    assert stats.columns[1].distinct == 1000
    assert stats.columns[1].histogram[0] == "0"
    assert stats.columns[1].histogram[-1] == "999"
    assert stats.columns[2].most_common == (("ready", 0.9),)
    assert abs(stats.columns[2].null_fraction - 0.1) < 1e-9
    assert stats.columns[3].distinct == 500


def test_analyze_of_a_sample_is_close() -> None:
    stats = analyzed([(i, f"s{i % 40}", i % 100) for i in range(4000)], 500)
    assert stats.rows == 4000
    assert 20 <= stats.columns[2].distinct <= 60
    assert stats.columns[1].distinct == 4000


def test_statistics_choose_the_plan() -> None:
    stats = analyzed([(i, "rare" if i == 77 else "common", i) for i in range(2000)])

    def title(state: str) -> str:
        made = Query()
        scan = made.scan(JOBS)
        root = Filter(scan, op("=", made.col(scan, "state"), const(state, "text")))
        return plan(made.statement(root), {JOBS.id: stats}.get).root.title()

    assert title("rare") == "Index Scan using jobs_state on jobs"
    assert title("common") == "Seq Scan on jobs"


def test_explain_prints_postgresqls_tree() -> None:
    made = Query()
    a, b = made.scan(JOBS, "a"), made.scan(OTHER, "b")
    joined = Join("inner", a, b, op("=", made.col(a, "rank"), made.col(b, "id")))
    root = Filter(joined, op("=", made.col(a, "id"), Const(5, INT8)))
    found = plan(made.statement(root), {JOBS.id: TableStats(rows=1e5), OTHER.id: TableStats(rows=1e5)}.get)
    assert explain(found, costs=False) == [
        "Nested Loop",
        "  ->  Index Scan using jobs_pkey on jobs a",
        "        Index Cond: (id = '5'::bigint)",
        "  ->  Index Scan using other_pkey on other b",
        "        Index Cond: (rank = id)",
    ]
    txn = jobs()
    fill(OTHER, [(5, 1)], txn)
    ticks = iter(range(0, 10**9, 1000))
    cursor = found.open(txn, (), FixedContext(), lambda: next(ticks))
    while settle(cursor.fetch(0)):
        pass
    lines = explain(found, cursor, costs=False)
    assert lines[0].endswith("rows=1 loops=1)")
    assert explain_json(found, cursor)["Plans"][0]["Actual Rows"] == 1
