"""Writers and row functions without a statement: what schema changes need to fill and check tables."""

from __future__ import annotations

from collections.abc import Sequence

from planner.access import TypeResolver
from planner.exec.datums import parse_stored
from planner.exec.runtime import RowsFunction
from planner.exec.write import TableWriter
from planner.expr import Expr
from planner.nodes import Metadata, Statement, TableExprs, Values
from planner.optimize.physical import Builder
from planner.optimize.registry import builtin_operators
from planner.optimize.selectivity import Estimator
from planner.schema import TableDesc, TableStats


def _builder(table: TableDesc, exprs: TableExprs, metadata: Metadata, types: TypeResolver) -> Builder:
    statement = Statement("SELECT", Values([()], ()), metadata, (), (), {table.id: table})
    statement.table_exprs[table.id] = exprs
    operators = builtin_operators()
    return Builder(statement, _no_stats, operators, Estimator(operators, parse_stored), types, None)


def _no_stats(table_id: int) -> TableStats | None:
    return None


def table_writer(table: TableDesc, exprs: TableExprs, metadata: Metadata, types: TypeResolver) -> TableWriter:
    """The writer of a table, its foreign keys included if the descriptor lists them."""
    return _builder(table, exprs, metadata, types).writes.writer(table, exprs)


def row_functions(
    table: TableDesc, exprs: TableExprs, metadata: Metadata, wanted: Sequence[Expr], types: TypeResolver
) -> RowsFunction:
    """A function from complete rows of a table to rows of the wanted expressions over ``exprs.row``."""
    builder = _builder(table, exprs, metadata, types)
    function = builder.rows_function(wanted, exprs.row)
    assert not builder.subplans, "a stored expression with a subquery"
    return function
