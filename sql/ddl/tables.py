"""CREATE TABLE and CREATE TABLE AS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from base.errors import FeatureNotSupported, SqlError
from planner.schema import ColumnDesc, IndexColumn, IndexDesc, LocalityDesc, SchemaDesc, TableDesc
from sql.commands import handles
from sql.ddl.columns import (
    build_column,
    check_unique_names,
    column_named,
    column_types,
    layout_columns,
    rowid_column,
    with_new_layout,
)
from sql.ddl.constraints import add_check, add_foreign_key, unique_index, validate_table_expressions
from sql.ddl.likes import add_likes, copied_columns, own_sequence
from sql.ddl.locality import checked_locality, partitioned, with_region_column
from sql.ddl.naming import choose
from sql.ddl.privileges import require_create
from sql.ddl.sequences import taken_names
from sql.parse import statements as ast
from sql.temporary import PREFIX, creation_schema, set_on_commit

if TYPE_CHECKING:
    from sql.portals import QueryPortal
    from sql.session import Session


@handles(ast.CreateTable)
async def create_table(session: Session, statement: ast.CreateTable, portal: QueryPortal) -> None:
    await create(session, statement)
    session.sink.complete("CREATE TABLE")


async def create(session: Session, statement: ast.CreateTable) -> TableDesc | None:
    """Creates a table with everything its statement names; None if it was there already (IF NOT EXISTS)."""
    _refuse(statement)
    schema = await creation_schema(session, statement.name, statement.is_temporary)
    require_create(session, schema)
    if statement.name.name in taken_names(session, schema):
        if not statement.if_not_exists:
            raise SqlError(f'relation "{statement.name.name}" already exists', sqlstate="42P07")
        session.notice(
            "NOTICE", SqlError(f'relation "{statement.name.name}" already exists, skipping', sqlstate="42P07")
        )
        return None
    statement = add_likes(session, statement)
    draft = session.block.ddl()
    table_id = await draft.new_id()
    # The table's row of its own lock: nobody else can know it yet, but DROP in this transaction will look for it.
    await session.block.lock_table(table_id, statement.name.name, exclusive=True)
    locality = await checked_locality(session, statement.locality, schema.name.startswith(PREFIX))
    table = await _build(session, schema, table_id, statement, locality)
    await draft.put(table)
    table = await _add_constraints(session, schema, table, statement)
    for index in statement.indexes:
        from sql.ddl.indexes import create_index_on

        table = await create_index_on(session, table, index)
    validate_table_expressions(session, table)
    return table


def _refuse(statement: ast.CreateTable) -> None:
    if statement.interleave is not None:
        raise FeatureNotSupported("INTERLEAVE IN PARENT is not supported yet")


def _defs_with_likes(session: Session, statement: ast.CreateTable) -> list[ast.ColumnDef | ColumnDesc]:
    """Column definitions in order, LIKE clauses replaced by the columns they stand for."""
    result: list[ast.ColumnDef | ColumnDesc] = list(statement.columns)
    for offset, like in reversed(statement.likes):
        result[offset:offset] = copied_columns(session, like)
    return result


async def _build(
    session: Session, schema: SchemaDesc, table_id: int, statement: ast.CreateTable, locality: LocalityDesc
) -> TableDesc:
    """Returns the table with its columns and primary key."""
    definitions = _defs_with_likes(session, statement)
    check_unique_names([d.name for d in definitions])
    primary_constraint, key_names = _primary_key(statement)
    columns: list[ColumnDesc] = []
    for id, definition in enumerate(definitions, 1):
        if isinstance(definition, ColumnDesc):
            column = msgspec.structs.replace(
                definition, id=id, nullable=definition.nullable and definition.name not in key_names
            )
            if column.identity:
                column = await own_sequence(session, schema, table_id, statement.name.name, column)
        else:
            nullable = definition.nullable is not False and definition.name not in key_names
            if definition.nullable is True and definition.name in key_names:
                raise SqlError(
                    f'conflicting NULL/NOT NULL declarations for column "{definition.name}" of table "{statement.name.name}"',
                    sqlstate="42601",
                )
            column = await build_column(session, table_id, statement.name.name, schema, definition, id, nullable)
        columns.append(column)
    if primary_constraint is not None and primary_constraint.deferrable:
        primary_constraint = None
    if locality.kind == "row":
        written = statement.locality.column if statement.locality is not None else None
        with_region, region = with_region_column(
            session, statement.name.name, tuple(columns), written, len(columns) + 1
        )
        columns = list(with_region)
        locality = msgspec.structs.replace(locality, column_id=region.id)
    if primary_constraint is None:
        columns.append(rowid_column(len(columns) + 1))
    made = (tuple(columns), primary_constraint, key_names)
    return await _with_primary(session, schema, table_id, statement, locality, *made)


def _primary_key(statement: ast.CreateTable) -> tuple[ast.Constraint | None, tuple[str, ...]]:
    found = [c for c in statement.constraints if c.kind == "primary key"]
    found += [c for column in statement.columns for c in column.constraints if c.kind == "primary key"]
    if len(found) > 1:
        raise SqlError(f'multiple primary keys for table "{statement.name.name}" are not allowed', sqlstate="42P16")
    return (found[0], found[0].columns) if found else (None, ())


async def _with_primary(
    session: Session, schema: SchemaDesc, table_id: int, statement: ast.CreateTable, locality: LocalityDesc, columns: tuple[ColumnDesc, ...],
    constraint: ast.Constraint | None, key_names: tuple[str, ...],
) -> TableDesc:  # fmt: skip
    name = statement.name.name
    draft = session.block.ddl()
    if constraint is None:
        primary = IndexDesc(id=1, name=f"{name}_rowid", columns=(IndexColumn(columns[-1].id),), unique=True)
    else:
        check_key_columns(key_names, "primary key constraint")
        key = tuple(IndexColumn(column_named(name, columns, key_name).id) for key_name in key_names)
        include = tuple(column_named(name, columns, included).id for included in constraint.include)
        key_label = constraint.name or choose(name, "", "pkey", taken_names(session, schema))
        primary = IndexDesc(
            id=1,
            name=key_label,
            columns=key,
            unique=True,
            include=include,
            constraint=key_label,
            oid=await draft.new_id(),
        )
    primary = partitioned(locality, primary)
    table = TableDesc(
        id=table_id, version=1, locality=locality, database_id=session.database_id, schema_id=schema.id, name=name, columns=columns, indexes=(primary,),
        next_column_id=len(columns) + 1, owner=session.user,
        options={**statement.options, **set_on_commit(session, statement.on_commit, schema.name.startswith(PREFIX))},
    )  # fmt: skip
    types = column_types(session, columns)
    for key_column in primary.columns:
        require_btree(types[key_column.column_id].name)
    layouts, next_layout = with_new_layout(table, columns, primary, types)
    assert layouts[-1].columns == layout_columns(columns, primary, types)
    return msgspec.structs.replace(table, layouts=layouts, next_layout_id=next_layout)


def require_btree(type_name: str) -> None:
    """Types without an ordering cannot be key columns."""
    if type_name in ("json", "xml"):
        raise SqlError(
            f'data type {type_name} has no default operator class for access method "btree"',
            sqlstate="42704",
            hint="You must specify an operator class for the index or define a default operator class for the data type.",
        )


def check_key_columns(names: tuple[str, ...], what: str) -> None:
    for i, name in enumerate(names):
        if name in names[:i]:
            raise SqlError(f'column "{name}" appears twice in {what}', sqlstate="42701")


async def _add_constraints(
    session: Session, schema: SchemaDesc, table: TableDesc, statement: ast.CreateTable
) -> TableDesc:
    """Adds UNIQUE, CHECK and FOREIGN KEY constraints, those of columns first, as PostgreSQL names them."""
    constraints = [c for column in statement.columns for c in column.constraints] + list(statement.constraints)
    for constraint in constraints:
        if constraint.kind == "unique" or (constraint.kind == "primary key" and constraint.deferrable):
            table = await unique_index(session, schema, table, constraint)
        elif constraint.kind == "check":
            table = await add_check(session, table, constraint)
        elif constraint.kind == "exclude":
            raise FeatureNotSupported("EXCLUDE constraints are not supported")
    for constraint in constraints:
        if constraint.kind == "foreign key":
            table = await add_foreign_key(session, table, constraint)
    return table


@handles(ast.CreateTableAs)
async def create_table_as(session: Session, statement: ast.CreateTableAs, portal: QueryPortal) -> None:
    """Plans the query, makes a table of its columns, and inserts its rows."""
    from sql.ddl.create_as import create_as

    await create_as(session, statement, portal)
