"""Pieces of the planner for schema changes: a table's writer, functions over its rows, outside any statement."""

from __future__ import annotations

from collections.abc import Sequence

from planner.access import TypeResolver
from planner.exec.datums import parse_stored
from planner.exec.runtime import RowsFunction
from planner.exec.write import TableWriter
from planner.expr import Expr
from planner.nodes import Metadata, Statement, TableExprs, Values
from planner.optimize.operators import Operators
from planner.optimize.physical import Builder
from planner.optimize.registry import builtin_operators
from planner.optimize.selectivity import Estimator
from planner.schema import TableDesc, TableStats


def _no_stats(table_id: int) -> TableStats | None:
    return None


def _builder(table: TableDesc, exprs: TableExprs, metadata: Metadata, types: TypeResolver) -> Builder:
    statement = Statement("INSERT", Values([], ()), metadata, (), (), {table.id: table})
    statement.table_exprs[table.id] = exprs
    operators: Operators = builtin_operators()
    return Builder(statement, _no_stats, operators, Estimator(operators, parse_stored), types, None)


def table_writer(table: TableDesc, exprs: TableExprs, metadata: Metadata, types: TypeResolver) -> TableWriter:
    """Returns the writer of a table given its bound expressions; ``table`` must have no foreign keys."""
    assert not table.foreign_keys, table.name
    assert not table.inbound, table.name
    return _builder(table, exprs, metadata, types).writes.writer(table, exprs)


def row_functions(
    table: TableDesc, exprs: TableExprs, metadata: Metadata, computed: Sequence[Expr], types: TypeResolver
) -> RowsFunction:
    """Returns a function from rows of a table (``exprs.row`` ids) to rows of the computed expressions."""
    return _builder(table, exprs, metadata, types).rows_function(computed, exprs.row)
