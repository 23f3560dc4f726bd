"""INSERT, UPDATE, DELETE and ON CONFLICT against a list of rows; every index checked against the rows after each statement."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from base.errors import MeridianError
from base.types import BY_NAME
from planner.access import table_access
from planner.context import FixedContext
from planner.expr import And, Col, Expr, IsNull
from planner.nodes import Delete, Filter, Insert, Join, Node, OnConflict, Project, TableExprs, Update, Values
from planner.optimize import plan
from planner.schema import ForeignKeyDesc, TableDesc
from tests.planner.algebra import Query, call, const, fill, make_index, make_table, op, run, settle
from tests.planner.model_txn import ModelTxn

INT8 = BY_NAME["int8"]
TEXT = BY_NAME["text"]
ITEMS = make_table(
    31001, "items", "a int8, b int8, c text, d int8 not", "a",
    [make_index(2, "items_b", [2], unique=True), make_index(3, "items_c", [3, 4]), make_index(4, "items_d", [4], include=(2,)),
     make_index(5, "items_part", [3], predicate="d > 2")],
)  # fmt: skip


def items_exprs(query: Query) -> TableExprs:
    """The partial index's predicate and a CHECK, over the row's ids."""
    exprs = query.row_exprs(ITEMS)
    d = Col(exprs.row[3], INT8)
    exprs.index_predicates[5] = op(">", d, const(2))
    exprs.checks = (("items_small", op("<", d, const(9))),)
    return exprs


def expected_store(rows: list[tuple[Any, ...]]) -> dict[bytes, bytes]:
    """Every key and value that these rows have."""
    access = table_access(ITEMS)
    out: dict[bytes, bytes] = {}
    for row in rows:
        out[access.key_of_row(row)] = access.value_of_row(row)
        for index in access.secondary:
            if index.desc.id != 5 or row[3] > 2:
                key, value = index.entry(row, ())
                out[key] = value
    return out


def execute(
    query: Query, root: Node, command: str, txn: ModelTxn, params: tuple[Any, ...] = (), fast: bool = False
) -> tuple[int, list[tuple[Any, ...]]]:
    """(affected, returned rows)."""
    statement = query.statement(root, command)
    planned = plan(statement)
    if fast and planned.fast is not None:
        rows = planned.fast.run(txn, params, FixedContext())
        if not isinstance(rows, list):
            rows = _drive(rows)
        assert rows is not None
        return planned.fast.affected(rows), rows if planned.fast.returns_rows else []
    cursor = planned.open(txn, params, FixedContext())
    out: list[tuple[Any, ...]] = []
    while rows := settle(cursor.fetch(0)):
        out += rows
    return cursor.affected, out


def _drive(coroutine: Any) -> Any:
    try:
        while True:
            coroutine.send(None)
    except StopIteration as stop:
        return stop.value


class Model:
    """Rows of ITEMS as a list, with its constraints spelled out."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.refused: str | None = None
        """Constraint or SQLSTATE that must refuse the statement at hand."""

    def conflict(self, row: tuple[Any, ...], others: list[tuple[Any, ...]]) -> str | None:
        if any(other[0] == row[0] for other in others):
            return "items_pkey"
        if row[1] is not None and any(other[1] == row[1] for other in others):
            return "items_b"
        return None

    def fault(self, row: tuple[Any, ...]) -> str | None:
        if row[0] is None or row[3] is None:
            return "23502"
        return "23514" if row[3] >= 9 else None


def random_row(rng: Random) -> tuple[Any, ...]:
    b = None if rng.random() < 0.3 else rng.randrange(12)
    d = None if rng.random() < 0.03 else rng.randrange(9 if rng.random() < 0.95 else 12)
    return (rng.randrange(10), b, rng.choice((None, "x", "y", "z")), d)


def values_node(query: Query, rows: list[tuple[Any, ...]]) -> Values:
    names = ("int8", "int8", "text", "int8")
    exprs: list[tuple[Expr, ...]] = [tuple([const(value, name) for value, name in zip(row, names)]) for row in rows]
    return Values(exprs, tuple([query.fresh("v", BY_NAME[name]) for name in names]))


def where(query: Query, scan: Node, rng: Random) -> tuple[Expr, Any]:
    """A condition and its Python form."""
    roll = rng.random()
    k = rng.randrange(10)
    if roll < 0.5:
        return op("=", query.col(scan, "a"), const(k)), lambda row: row[0] == k
    if roll < 0.7:
        return op("=", query.col(scan, "b"), const(k)), lambda row: row[1] == k
    if roll < 0.85:
        both = And((op(">=", query.col(scan, "d"), const(k % 5)), op("=", query.col(scan, "c"), const("x", "text"))))
        return both, lambda row: row[3] >= k % 5 and row[2] == "x"
    return IsNull(query.col(scan, "b")), lambda row: row[1] is None


def step(rng: Random, model: Model, txn: ModelTxn) -> None:
    """One random statement on both; a refused one changes neither."""
    roll = rng.random()
    before = dict(txn.store)
    try:
        if roll < 0.45:
            expected, actual = insert(rng, model, txn)
        elif roll < 0.65:
            expected, actual = upsert(rng, model, txn)
        elif roll < 0.88:
            expected, actual = update(rng, model, txn)
        else:
            expected, actual = delete(rng, model, txn)
        assert actual == expected
    except MeridianError as error:
        assert model.refused == (error.constraint or error.sqlstate), f"{error.message} {model.refused=}"
        txn.store.clear()
        txn.store.update(before)
    else:
        assert model.refused is None, model.refused
    assert dict(txn.store) == expected_store(model.rows)


def insert(rng: Random, model: Model, txn: ModelTxn) -> tuple[int, int]:
    rows = [random_row(rng) for _ in range(rng.choice((1, 1, 1, 3)))]
    model.refused = next((fault for row in rows if (fault := model.fault(row))), None)
    if model.refused == "23514":
        model.refused = "items_small"
    if any(model.fault(row) == "23502" for row in rows):
        model.refused = "23502"
    added = list(model.rows)
    if model.refused is None:
        for row in rows:
            model.refused = model.conflict(row, added)
            if model.refused:
                break
            added.append(row)
    query = Query()
    node = Insert(ITEMS, values_node(query, rows), (1, 2, 3, 4), items_exprs(query), None, None)
    affected, _ = execute(query, node, "INSERT", txn, fast=True)
    model.rows = added
    return len(rows), affected


def upsert(rng: Random, model: Model, txn: ModelTxn) -> tuple[int, int]:
    rows = [row for row in [random_row(rng) for _ in range(rng.choice((1, 3)))] if model.fault(row) is None]
    if not rows:
        model.refused = None
        return 0, 0
    arbiter = rng.choice((0, 1))
    nothing = rng.random() < 0.4
    now, written, model.refused = list(model.rows), 0, None
    touched: set[Any] = set()
    for row in rows:
        found = next((other for other in now if other[arbiter] == row[arbiter] and row[arbiter] is not None), None)
        if found is None:
            model.refused = model.conflict(row, now)
            if model.refused:
                break
            now.append(row)
            touched.add(row[0])
            written += 1
        elif not nothing:
            if found[0] in touched:
                model.refused = "21000"
                break
            if row[3] > 6:
                continue
            now[now.index(found)] = (found[0], found[1], row[2], found[3])
            touched.add(found[0])
            written += 1
    query = Query()
    existing = tuple([query.fresh("e", t) for t in (INT8, INT8, TEXT, INT8)])
    excluded = tuple([query.fresh("x", t) for t in (INT8, INT8, TEXT, INT8)])
    index = ITEMS.indexes[arbiter]
    sets = None if nothing else ((3, Col(excluded[2], TEXT)),)
    condition = None if nothing else op("<=", Col(excluded[3], INT8), const(6))
    conflict = OnConflict((index,), sets, condition, existing, excluded)
    node = Insert(ITEMS, values_node(query, rows), (1, 2, 3, 4), items_exprs(query), conflict, None)
    affected, _ = execute(query, node, "INSERT", txn)
    model.rows = now
    return written, affected


def update(rng: Random, model: Model, txn: ModelTxn) -> tuple[int, int]:
    query = Query()
    scan = query.scan(ITEMS)
    condition, test = where(query, scan, rng)
    kind = rng.choice(("b", "c", "d", "a"))
    hit = [row for row in model.rows if test(row)]
    k = rng.randrange(12)
    if kind == "a" and len(hit) > 1:
        kind = "c"
    new_value = {"a": k, "b": k, "c": "w", "d": None}[kind]
    at = "abcd".index(kind)
    sets: tuple[tuple[int, Expr], ...]
    if kind == "d":
        sets = ((4, op("+", query.col(scan, "d"), const(1))),)
    else:
        sets = ((at + 1, const(new_value, "text" if kind == "c" else "int8")),)
    rest = [row for row in model.rows if not test(row)]
    changed, model.refused = [], None
    for row in hit:
        new = list(row)
        new[at] = row[3] + 1 if kind == "d" else new_value
        changed.append(tuple(new))
    if any(model.fault(row) for row in changed):
        model.refused = "items_small"
    seen = list(rest)
    for row in changed:
        model.refused = model.refused or model.conflict(row, seen)
        seen.append(row)
    node = Update(ITEMS, Filter(scan, condition), scan.columns, sets, items_exprs(query), None)
    affected, _ = execute(query, node, "UPDATE", txn, fast=True)
    model.rows = rest + changed
    return len(changed), affected


def delete(rng: Random, model: Model, txn: ModelTxn) -> tuple[int, int]:
    query = Query()
    scan = query.scan(ITEMS)
    condition, test = where(query, scan, rng)
    rest = [row for row in model.rows if not test(row)]
    gone = len(model.rows) - len(rest)
    model.refused = None
    exprs = items_exprs(query)
    returning = ((query.fresh("r", INT8),), (query.col(scan, "a"),))
    node = Delete(ITEMS, Filter(scan, condition), scan.columns, exprs, returning)
    affected, returned = execute(query, node, "DELETE", txn, fast=True)
    assert sorted(row[0] for row in returned) == sorted(row[0] for row in model.rows if test(row))
    model.rows = rest
    return gone, affected


@pytest.mark.parametrize("seed", range(12))
def test_random_writes_keep_rows_and_indexes_together(seed: int) -> None:
    rng = Random(seed)
    model, txn = Model(), ModelTxn(page_rows=rng.choice((0, 2)), suspends=seed % 3 == 0)
    for _ in range(60):
        step(rng, model, txn)


# --- golden cases --------------------------------------------------------------------


def refused(query: Query, node: Node, command: str, txn: ModelTxn) -> MeridianError:
    with pytest.raises(MeridianError) as caught:
        execute(query, node, command, txn)
    return caught.value


def insert_node(query: Query, table: TableDesc, rows: list[tuple[Any, ...]]) -> Insert:
    types = [BY_NAME[name] for name in ("int8",) * len(table.columns)]
    from base.types import BY_OID

    types = [BY_OID[column.type_oid] for column in table.columns]
    exprs: list[tuple[Expr, ...]] = [tuple([const(value, t.name) for value, t in zip(row, types)]) for row in rows]
    values = Values(exprs, tuple([query.fresh("v", t) for t in types]))
    return Insert(table, values, tuple([column.id for column in table.columns]), query.row_exprs(table), None, None)


def test_errors_say_what_postgresql_says() -> None:
    txn = ModelTxn()
    fill(ITEMS, [(1, 5, None, 3)], txn)
    query = Query()
    error = refused(
        query,
        Insert(
            ITEMS, values_node(query, [(2, 5, "q", 1), (3, 6, "q", 1)]), (1, 2, 3, 4), items_exprs(query), None, None
        ),
        "INSERT",
        txn,
    )
    assert (error.sqlstate, error.message) == ("23505", 'duplicate key value violates unique constraint "items_b"')
    assert error.detail == "Key (b)=(5) already exists."
    query = Query()
    error = refused(
        query,
        Insert(ITEMS, values_node(query, [(2, None, "q", None)]), (1, 2, 3, 4), items_exprs(query), None, None),
        "INSERT",
        txn,
    )
    assert error.message == 'null value in column "d" of relation "items" violates not-null constraint'
    assert error.detail == "Failing row contains (2, null, q, null)."
    query = Query()
    error = refused(
        query,
        Insert(ITEMS, values_node(query, [(2, None, "q", 9)]), (1, 2, 3, 4), items_exprs(query), None, None),
        "INSERT",
        txn,
    )
    assert error.message == 'new row for relation "items" violates check constraint "items_small"'


def family(on_delete: str, on_update: str = "NO ACTION", indexed: bool = True) -> tuple[TableDesc, TableDesc]:
    """A parent and a child table with one foreign key."""
    number = 32000 + abs(hash_of(on_delete + on_update)) * 4 + 2 * indexed
    key = ForeignKeyDesc(
        name="child_p_fkey",
        columns=(2,),
        target_table=number,
        target_columns=(1,),
        target_index=1,
        on_delete=on_delete,
        on_update=on_update,
    )
    indexes = [make_index(2, "child_p", [2])] if indexed else []
    parent = make_table(number, "parent", "id int8, n text", "id", inbound=(number + 1,))
    child = make_table(number + 1, "child", "id int8, p int8", "id", indexes, [key])
    return parent, child


def hash_of(text: str) -> int:
    return sum(ord(c) * (i + 1) for i, c in enumerate(text)) % 5000


def with_family(query: Query, parent: TableDesc, child: TableDesc) -> None:
    query.tables[parent.id] = parent
    query.tables[child.id] = child


def delete_parent(parent: TableDesc, child: TableDesc, id: int) -> tuple[Query, Node]:
    query = Query()
    scan = query.scan(parent)
    with_family(query, parent, child)
    return query, Delete(
        parent, Filter(scan, op("=", query.col(scan, "id"), const(id))), scan.columns, query.row_exprs(parent), None
    )


def rows_of(table: TableDesc, txn: ModelTxn) -> list[tuple[Any, ...]]:
    query = Query()
    return sorted(run(plan(query.statement(query.scan(table))), txn), key=repr)


@pytest.mark.parametrize("indexed", [True, False])
def test_foreign_key_refuses_an_unknown_parent(indexed: bool) -> None:
    parent, child = family("NO ACTION", indexed=indexed)
    txn = ModelTxn()
    fill(parent, [(1, "a")], txn)
    query = Query()
    with_family(query, parent, child)
    assert execute(query, insert_node(query, child, [(10, 1), (11, None)]), "INSERT", txn)[0] == 2
    query = Query()
    with_family(query, parent, child)
    error = refused(query, insert_node(query, child, [(12, 7), (13, 1)]), "INSERT", txn)
    assert (error.sqlstate, error.message) == (
        "23503",
        'insert or update on table "child" violates foreign key constraint "child_p_fkey"',
    )
    assert error.detail == 'Key (p)=(7) is not present in table "parent".'
    query = Query()
    with_family(query, parent, child)
    planned = plan(query.statement(insert_node(query, child, [(14, 8)]), "INSERT"))
    assert planned.fast is not None
    with pytest.raises(MeridianError) as caught:
        planned.fast.run(txn, (), FixedContext())
    assert caught.value.detail == 'Key (p)=(8) is not present in table "parent".'


@pytest.mark.parametrize("action", ["NO ACTION", "RESTRICT"])
def test_foreign_key_keeps_a_referenced_parent(action: str) -> None:
    parent, child = family(action)
    txn = ModelTxn()
    fill(parent, [(1, "a"), (2, "b")], txn)
    fill(child, [(10, 1)], txn)
    error = refused(*delete_parent(parent, child, 1), "DELETE", txn)
    assert (
        error.message
        == 'update or delete on table "parent" violates foreign key constraint "child_p_fkey" on table "child"'
    )
    assert error.detail == 'Key (id)=(1) is still referenced from table "child".'
    assert execute(*delete_parent(parent, child, 2), "DELETE", txn)[0] == 1


@pytest.mark.parametrize("indexed", [True, False])
def test_cascade_and_set_null(indexed: bool) -> None:
    parent, child = family("CASCADE", indexed=indexed)
    txn = ModelTxn()
    fill(parent, [(1, "a"), (2, "b")], txn)
    fill(child, [(10, 1), (11, 2), (12, 1)], txn)
    assert execute(*delete_parent(parent, child, 1), "DELETE", txn)[0] == 1
    assert rows_of(child, txn) == [(11, 2)]
    parent, child = family("SET NULL", indexed=indexed)
    txn = ModelTxn()
    fill(parent, [(1, "a"), (2, "b")], txn)
    fill(child, [(10, 1), (11, 2)], txn)
    execute(*delete_parent(parent, child, 1), "DELETE", txn)
    assert rows_of(child, txn) == [(10, None), (11, 2)]


def test_update_cascades_to_children() -> None:
    parent, child = family("NO ACTION", "CASCADE")
    txn = ModelTxn()
    fill(parent, [(1, "a"), (2, "b")], txn)
    fill(child, [(10, 1), (11, 2)], txn)
    query = Query()
    scan = query.scan(parent)
    with_family(query, parent, child)
    found = Filter(scan, op("=", query.col(scan, "id"), const(1)))
    node = Update(parent, found, scan.columns, ((1, const(9)),), query.row_exprs(parent), None)
    assert execute(query, node, "UPDATE", txn)[0] == 1
    assert rows_of(child, txn) == [(10, 9), (11, 2)]


def test_self_reference_within_one_statement() -> None:
    key = ForeignKeyDesc(
        name="tree_up", columns=(2,), target_table=31500, target_columns=(1,), target_index=1, on_delete="CASCADE"
    )
    tree = make_table(31500, "tree", "id int8, up int8", "id", [make_index(2, "tree_up", [2])], [key], inbound=(31500,))
    txn = ModelTxn()
    query = Query()
    query.tables[tree.id] = tree
    assert execute(query, insert_node(query, tree, [(2, 1), (1, None), (3, 2), (4, 4)]), "INSERT", txn)[0] == 4
    query = Query()
    scan = query.scan(tree)
    node = Delete(
        tree, Filter(scan, op("=", query.col(scan, "id"), const(1))), scan.columns, query.row_exprs(tree), None
    )
    assert execute(query, node, "DELETE", txn)[0] == 1
    assert rows_of(tree, txn) == [(4, 4)]


def test_update_from_a_join_updates_each_row_once() -> None:
    left = make_table(31600, "l", "id int8, v int8", "id")
    right = make_table(31601, "rr", "k int8, w int8", "k")
    txn = ModelTxn()
    fill(left, [(1, 0), (2, 0)], txn)
    fill(right, [(1, 1), (2, 1), (3, 2)], txn)
    query = Query()
    a, b = query.scan(left), query.scan(right)
    joined = Join("inner", a, b, op("=", query.col(a, "id"), query.col(b, "w")))
    exprs = query.row_exprs(left)
    returning = ((query.fresh("x", INT8),), (Col(exprs.row[1], INT8),))
    node = Update(left, joined, a.columns, ((2, op("+", query.col(a, "v"), const(5))),), exprs, returning)
    affected, returned = execute(query, node, "UPDATE", txn)
    assert affected == 2
    assert returned == [(5,), (5,)]
    assert rows_of(left, txn) == [(1, 5), (2, 5)]


def test_insert_from_its_own_table_ends() -> None:
    table = make_table(31700, "grow", "id int8, v int8", "id")
    txn = ModelTxn()
    fill(table, [(i, i) for i in range(5)], txn)
    query = Query()
    scan = query.scan(table)
    ids = (query.fresh("i", INT8), query.fresh("v", INT8))
    more = Project(scan, ids, (op("+", query.col(scan, "id"), const(5)), query.col(scan, "v")))
    node = Insert(table, more, (1, 2), query.row_exprs(table), None, None)
    assert execute(query, node, "INSERT", txn)[0] == 5
    assert len(rows_of(table, txn)) == 10


def test_update_of_the_scanned_key_meets_no_row_twice() -> None:
    table = make_table(31710, "moving", "id int8, v int8", "id")
    txn = ModelTxn(page_rows=2)
    fill(table, [(i, 0) for i in range(6)], txn)
    query = Query()
    scan = query.scan(table)
    sets = ((1, op("+", query.col(scan, "id"), const(3))), (2, op("+", query.col(scan, "v"), const(1))))
    node = Update(table, scan, scan.columns, sets, query.row_exprs(table), None)
    assert execute(query, node, "UPDATE", txn)[0] == 6
    assert rows_of(table, txn) == [(i, 1) for i in range(3, 9)]


def test_expression_index_follows_its_row() -> None:
    from planner.schema import IndexColumn, IndexDesc

    lower = IndexDesc(id=2, name="names_lower", columns=(IndexColumn(expression="lower(n)"),), unique=True)
    table = make_table(31720, "names", "id int8, n text", "id", [lower])
    txn = ModelTxn()

    def exprs_of(query: Query) -> TableExprs:
        exprs = query.row_exprs(table)
        exprs.index_exprs[2] = (call("lower", Col(exprs.row[1], TEXT)),)
        return exprs

    query = Query()
    node = insert_node(query, table, [(1, "Ann"), (2, "Bob")])
    node.exprs = exprs_of(query)
    execute(query, node, "INSERT", txn)
    query = Query()
    node = insert_node(query, table, [(3, "aNN")])
    node.exprs = exprs_of(query)
    error = refused(query, node, "INSERT", txn)
    assert error.detail == "Key (lower(n))=(ann) already exists."
    query = Query()
    scan = query.scan(table)
    statement = query.statement(Filter(scan, op("=", call("lower", query.col(scan, "n")), const("bob", "text"))))
    statement.table_exprs[table.id] = exprs_of(query)
    planned = plan(statement)
    assert run(planned, txn) == [(2, "Bob")]
    assert planned.root.title() == "Index Scan using names_lower on names"
