"""Short ways to write bound trees by hand: tables, columns, calls; and a way to run them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from base.eager import Suspended
from base.types import BOOL, BY_NAME, PgType
from planner.context import FixedContext
from planner.exec.physical_plan import PhysicalPlan
from planner.expr import AggCall, Call, Col, Const, Expr
from planner.functions.registry import Aggregate, Function
from planner.functions.resolve import resolve_aggregate, resolve_function, resolve_operator
from planner.nodes import ColumnInfo, Metadata, Node, Scan, Statement, TableExprs
from planner.optimize import plan
from planner.optimize.registry import builtin_registry
from planner.schema import ColumnDesc, ForeignKeyDesc, IndexColumn, IndexDesc, LayoutDesc, TableDesc, TableStats
from tests.planner.model_txn import ModelTxn

INT8 = BY_NAME["int8"]


def make_table(
    id: int,
    name: str,
    columns: str,
    primary: str,
    indexes: Sequence[IndexDesc] = (),
    foreign: Sequence[ForeignKeyDesc] = (),
    inbound: tuple[int, ...] = (),
) -> TableDesc:
    """``columns``: "a int8, b text not null"; ``primary``: "a, b desc"."""
    parsed = []
    for number, text in enumerate(columns.split(","), 1):
        words = text.split()
        parsed.append(ColumnDesc(id=number, name=words[0], type_oid=BY_NAME[words[1]].oid, nullable="not" not in words))
    by_name = {column.name: column for column in parsed}
    key = tuple([index_column(by_name, text) for text in primary.split(",")])
    key_ids = {column.column_id for column in key}
    parsed = [
        ColumnDesc(id=c.id, name=c.name, type_oid=c.type_oid, nullable=c.nullable and c.id not in key_ids)
        for c in parsed
    ]
    restorable = {
        oid
        for type_name in ("int2", "int4", "int8", "text", "date", "bool", "uuid", "varchar")
        for oid in [BY_NAME[type_name].oid]
    }
    stored = tuple([(c.id, c.type_oid) for c in parsed if c.id not in key_ids or c.type_oid not in restorable])
    return TableDesc(
        id=id, version=1, database_id=1, schema_id=1, name=name, columns=tuple(parsed),
        indexes=(IndexDesc(id=1, name=f"{name}_pkey", columns=key, unique=True), *indexes),
        layouts=(LayoutDesc(id=1, columns=stored),), foreign_keys=tuple(foreign), inbound=inbound,
    )  # fmt: skip


def index_column(by_name: dict[str, ColumnDesc], text: str) -> IndexColumn:
    words = text.split()
    descending = "desc" in words
    return IndexColumn(column_id=by_name[words[0]].id, descending=descending, nulls_first=descending)


def make_index(
    id: int,
    name: str,
    columns: Sequence[int],
    unique: bool = False,
    include: tuple[int, ...] = (),
    descending: bool = False,
    **more: Any,
) -> IndexDesc:
    keys = tuple([IndexColumn(column_id=c, descending=descending, nulls_first=descending) for c in columns])
    return IndexDesc(id=id, name=name, columns=keys, unique=unique, include=include, **more)


class Query:
    """One statement in the making."""

    def __init__(self, *params: str) -> None:
        self.metadata = Metadata()
        self.tables: dict[int, TableDesc] = {}
        self.params = tuple([BY_NAME[name] for name in params])

    def scan(self, table: TableDesc, alias: str = "", lock: int = 0, wait: int = 0) -> Scan:
        ids = []
        for column in table.columns:
            pg_type = _type(column.type_oid)
            ids.append(
                self.metadata.add(ColumnInfo(column.name, pg_type, column.typmod, table.id, column.id, column.nullable))
            )
        self.tables[table.id] = table
        return Scan(table, tuple(ids), tuple([column.id for column in table.columns]), alias or table.name, lock, wait)

    def fresh(self, name: str, pg_type: PgType) -> int:
        return self.metadata.add(ColumnInfo(name, pg_type))

    def col(self, node_or_id: Node | int, at: int | str = 0) -> Col:
        """A column by id, or by position or name of a node's output."""
        if isinstance(node_or_id, int):
            id = node_or_id
        elif isinstance(at, int):
            id = node_or_id.columns[at]
        else:
            id = next(id for id in node_or_id.columns if self.metadata[id].name == at)
        info = self.metadata[id]
        return Col(id, info.type, info.typmod, info.name)

    def row_exprs(self, table: TableDesc) -> TableExprs:
        return TableExprs(tuple([self.fresh(column.name, _type(column.type_oid)) for column in table.columns]))

    def statement(self, root: Node, command: str = "SELECT") -> Statement:
        names = tuple([self.metadata[id].name for id in root.columns])
        return Statement(command, root, self.metadata, names, self.params, self.tables)


def _type(oid: int) -> PgType:
    from base.types import BY_OID

    return BY_OID[oid]


def const(value: Any, type_name: str = "int8") -> Const:
    return Const(value, BY_NAME[type_name])


def op(symbol: str, left: Expr, right: Expr) -> Call:
    found = resolve_operator(builtin_registry(), symbol, left.type, right.type)
    return Call(found.function, (left, right), found.result)


def call(name: str, *args: Expr) -> Call:
    found = resolve_function(builtin_registry(), name, tuple([arg.type for arg in args]))
    return Call(found.function, args, found.result)


def agg(name: str, *args: Expr, **more: Any) -> AggCall:
    found = resolve_aggregate(builtin_registry(), name, tuple([arg.type for arg in args]))
    assert isinstance(found.function, Aggregate)
    return AggCall(found.function, args, found.result, **more)


def equal_of(pg_type: PgType) -> Function:
    found = resolve_operator(builtin_registry(), "=", pg_type, pg_type)
    assert found.result == BOOL
    return found.function


def settle(value: Any) -> Any:
    """The value of an Eager; drives what suspends."""
    if not isinstance(value, Suspended):
        return value
    steps = value.__await__()
    try:
        while True:
            next(steps)
    except StopIteration as stop:
        return stop.value


def run(planned: PhysicalPlan, txn: ModelTxn, params: tuple[Any, ...] = (), max_rows: int = 0) -> list[tuple[Any, ...]]:
    """All rows of a plan."""
    cursor = planned.open(txn, params, FixedContext())
    out: list[tuple[Any, ...]] = []
    while True:
        rows = settle(cursor.fetch(max_rows))
        if not rows:
            return out
        out += rows


def query(
    statement: Statement, txn: ModelTxn, params: tuple[Any, ...] = (), stats: dict[int, TableStats] | None = None
) -> list[tuple[Any, ...]]:
    """Plans and runs."""
    return run(plan(statement, (stats or {}).get), txn, params)


def fill(table: TableDesc, rows: Sequence[tuple[Any, ...]], txn: ModelTxn) -> None:
    """Stores rows and their index entries."""
    from planner.access import table_access

    access = table_access(table)
    for row in rows:
        txn.put(access.key_of_row(row), access.value_of_row(row))
        for index in access.secondary:
            if not index.desc.predicate:
                txn.put(*index.entry(row, ()))
