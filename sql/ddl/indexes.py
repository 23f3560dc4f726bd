"""CREATE INDEX, and filling an index from the rows that are there.

The table's exclusive lock keeps writers away while entries are made.  Nobody reads the new index's key span before
the descriptor that names it commits, so the entries of a filled table are written directly, in batches, outside
the transaction: a million rows never sit in its buffer.  If the transaction rolls back, its session clears the span.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from base.errors import FeatureNotSupported, SqlError
from planner.schema import ColumnDesc, IndexColumn, IndexDesc, TableDesc
from sql.analyze import Analyzer
from sql.commands import handles
from sql.ddl.columns import column_named
from sql.ddl.locality import partitioned
from sql.ddl.locking import lock_exclusively, new_index_id
from sql.ddl.naming import choose
from sql.ddl.sequences import taken_names
from sql.parse import statements as ast

if TYPE_CHECKING:
    from sql.portals import QueryPortal
    from sql.session import Session

KEY_COLUMNS_MAX: Final = 32


@handles(ast.CreateIndex)
async def create_index(session: Session, statement: ast.CreateIndex, portal: QueryPortal) -> None:
    if statement.concurrently and session.is_in_block:
        raise SqlError("CREATE INDEX CONCURRENTLY cannot run inside a transaction block", sqlstate="25001")
    table = session.view().table(statement.table, kinds="rm")
    session.view().require_owner("table", table.name, table.owner)
    schema = session.state().by_id[table.schema_id]
    if statement.name is not None and statement.name in taken_names(session, schema):  # type: ignore[arg-type]  # a table's schema
        if not statement.if_not_exists:
            raise SqlError(f'relation "{statement.name}" already exists', sqlstate="42P07")
        session.notice("NOTICE", SqlError(f'relation "{statement.name}" already exists, skipping', sqlstate="42P07"))
        session.sink.complete("CREATE INDEX")
        return
    current = await lock_exclusively(session, table, "CREATE INDEX")
    await create_index_on(session, current, statement)
    session.sink.complete("CREATE INDEX")


async def create_index_on(session: Session, table: TableDesc, statement: ast.CreateIndex) -> TableDesc:
    """Adds the index to the table and fills it; the table's exclusive lock is held."""
    if statement.method not in ("btree", "prefix", ""):
        raise FeatureNotSupported(f'access method "{statement.method}" is not supported', hint="Use btree.")
    index = await _build(session, table, statement)
    draft = session.block.ddl()
    table = await draft.update_table(table, indexes=(*table.indexes, index), next_index_id=index.id + 1)
    Analyzer(session).check_table(table)
    await fill_indexes(session, table, (index,))
    return table


async def _build(session: Session, table: TableDesc, statement: ast.CreateIndex) -> IndexDesc:
    if len(statement.elements) > KEY_COLUMNS_MAX:
        raise SqlError(f"cannot use more than {KEY_COLUMNS_MAX} columns in an index", sqlstate="54011")
    columns = []
    for element in statement.elements:
        expression = element.expression.text if element.expression is not None else ""
        column_id = 0
        if element.column is not None:
            column_id = _column(table, element.column).id
        columns.append(IndexColumn(column_id, expression, element.descending, element.nulls_first))
    schema = session.state().by_id[table.schema_id]
    taken = taken_names(session, schema)  # type: ignore[arg-type]  # a table's schema
    label = _label(statement)
    index = IndexDesc(
        id=await new_index_id(session, table), name=statement.name or choose(table.name, label, "idx", taken), columns=tuple(columns),
        unique=statement.unique, include=tuple(_column(table, name).id for name in statement.include),
        predicate=statement.where.text if statement.where is not None else "", nulls_not_distinct=statement.nulls_not_distinct,
        oid=await session.block.ddl().new_id(),
    )  # fmt: skip
    return partitioned(table.locality, index)


def _label(statement: ast.CreateIndex) -> str:
    """The columns' part of a chosen name: names, those of INCLUDE too; of an expression the function's name or expr."""
    found: list[str] = []
    for element in statement.elements:
        name = element.column if element.column is not None else _expression_name(element.expression)
        number = 0
        while f"{name}{number or ''}" in found:
            number += 1
        found.append(f"{name}{number or ''}")
    return "_".join([*found, *statement.include])


def _expression_name(expression: ast.SqlExpr | None) -> str:
    """As a result column would be called (ChooseIndexColumnNames)."""
    from sql.binder.tree import output_name

    name = output_name(expression.tree, expression.types) if expression is not None else None
    return name if name and name != "?column?" else "expr"


def _column(table: TableDesc, name: str) -> ColumnDesc:
    try:
        return column_named(table.name, table.columns, name)
    except SqlError:
        raise SqlError(f'column "{name}" does not exist', sqlstate="42703") from None


async def fill_indexes(session: Session, table: TableDesc, indexes: tuple[IndexDesc, ...]) -> int:
    """Writes the entries of new indexes for every row of the table; returns the number of rows."""
    from sql.ddl.backfill import Backfill

    return await Backfill(session, table).fill(indexes)
