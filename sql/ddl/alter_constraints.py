"""ALTER TABLE: keys and other constraints, and where rows live.  See ``sql.ddl.alter``."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import msgspec

from base.errors import FeatureNotSupported, SqlError
from planner.schema import ColumnDesc, IndexColumn, IndexDesc, TableDesc, primary_key
from sql.ddl.actions import acts, replace_column, schema_of
from sql.ddl.backfill import Backfill
from sql.ddl.columns import (
    ROWID,
    column_named,
    column_types,
    with_new_layout,
)
from sql.ddl.constraints import (
    add_check,
    add_foreign_key,
    build_unique,
    forget_source,
    require_free_name,
    validate_table_expressions,
)
from sql.ddl.drop import drop_index
from sql.ddl.locality import partitioned, set_locality
from sql.ddl.naming import choose
from sql.ddl.sequences import taken_names
from sql.parse import statements as ast

if TYPE_CHECKING:
    from sql.session import Session


@acts(ast.AddConstraint)
async def add_constraint(session: Session, table: TableDesc, action: ast.AddConstraint) -> TableDesc:
    return await put_constraint(session, table, action.constraint)


async def put_constraint(session: Session, table: TableDesc, constraint: ast.Constraint) -> TableDesc:
    if constraint.kind == "primary key":
        return await _add_primary_key(session, table, constraint)
    if constraint.kind == "unique":
        return await _add_unique(session, table, constraint)
    if constraint.kind == "check":
        table = await add_check(session, table, constraint)
        validate_table_expressions(session, table)
        if not constraint.not_valid:
            await Backfill(session, table).validate_check(table.checks[-1])
        return table
    if constraint.kind == "foreign key":
        table = await add_foreign_key(session, table, constraint)
        if not constraint.not_valid:
            await Backfill(session, table).validate_foreign_key(table.foreign_keys[-1])
        return table
    raise FeatureNotSupported(f"{constraint.kind.upper()} constraints are not supported")


async def _add_unique(session: Session, table: TableDesc, constraint: ast.Constraint) -> TableDesc:
    draft = session.block.ddl()
    if constraint.using_index is not None:
        index = index_named(table, constraint.using_index)
        if not index.unique or index.predicate:
            raise SqlError(f'"{index.name}" is not a unique index', sqlstate="42809")
        name = constraint.name or index.name
        if name != index.name:
            text = f'ALTER TABLE / ADD CONSTRAINT USING INDEX will rename index "{index.name}" to "{name}"'
            session.notice("NOTICE", SqlError(text, sqlstate="00000"))
        if constraint.deferrable:
            # Its entries look different.
            by_id = {c.id: c.name for c in table.columns}
            names = tuple(by_id[c.column_id] for c in index.columns if c.column_id)
            table = await drop_index(session, table, index.id)
            return await _add_unique(
                session, table, dataclasses.replace(constraint, name=name, columns=names, using_index=None)
            )
        indexes = tuple(
            msgspec.structs.replace(i, name=name, constraint=name) if i.id == index.id else i for i in table.indexes
        )
        return await draft.update_table(table, indexes=indexes)
    index = await build_unique(session, schema_of(session, table), table, constraint)
    table = await draft.update_table(table, indexes=(*table.indexes, index), next_index_id=index.id + 1)
    await Backfill(session, table).fill((index,))
    return table


def index_named(table: TableDesc, name: str) -> IndexDesc:
    for index in table.indexes:
        if index.name == name:
            return index
    raise SqlError(f'index "{name}" does not exist', sqlstate="42704")


async def _add_primary_key(session: Session, table: TableDesc, constraint: ast.Constraint) -> TableDesc:
    if primary_key(table) is not None:
        raise SqlError(f'multiple primary keys for table "{table.name}" are not allowed', sqlstate="42P16")
    names = constraint.columns
    if constraint.using_index is not None:
        used = index_named(table, constraint.using_index)
        by_id = {c.id: c.name for c in table.columns}
        names = tuple(by_id[c.column_id] for c in used.columns)
        table = await drop_index(session, table, used.id)
    keys = [column_named(table.name, table.columns, name) for name in names]
    for column in keys:
        if column.nullable and await Backfill(session, table).has_null(column.id):
            raise SqlError(
                f'column "{column.name}" of relation "{table.name}" contains null values',
                sqlstate="23502",
                table=table.name,
                column=column.name,
            )
    if constraint.deferrable:
        for column in keys:
            table = await replace_column(session, table, msgspec.structs.replace(column, nullable=False))
        name = constraint.name or constraint.using_index
        return await _add_unique(
            session, table, dataclasses.replace(constraint, name=name, columns=names, using_index=None)
        )
    taken = taken_names(session, schema_of(session, table))
    label = constraint.name or constraint.using_index or choose(table.name, "", "pkey", taken)
    primary = IndexDesc(
        id=1,
        name=label,
        columns=tuple(IndexColumn(c.id) for c in keys),
        unique=True,
        constraint=label,
        oid=await session.block.ddl().new_id(),
    )
    ids = {c.id for c in keys}
    columns = tuple(
        msgspec.structs.replace(c, nullable=False) if c.id in ids else c for c in table.columns if c.name != ROWID
    )
    return await rekey(session, table, columns, primary)


async def without_primary_key(session: Session, table: TableDesc) -> TableDesc:
    """Drops the primary key: rows get a hidden rowid key instead."""
    from sql.ddl.columns import rowid_column

    column = rowid_column(table.next_column_id)
    primary = IndexDesc(id=1, name=f"{table.name}_rowid", columns=(IndexColumn(column.id),), unique=True)
    widened = msgspec.structs.replace(table, next_column_id=table.next_column_id + 1)
    return await rekey(session, widened, (*table.columns, column), primary)


async def rekey(session: Session, table: TableDesc, columns: tuple[ColumnDesc, ...], primary: IndexDesc) -> TableDesc:
    """Rebuilds the table under another primary key."""
    primary = partitioned(table.locality, primary)
    fresh = msgspec.structs.replace(table, layouts=())
    layouts, next_layout = with_new_layout(fresh, columns, primary, column_types(session, columns))
    old = session.state().table_by_id(table.id)
    assert old is not None
    updated = await session.block.ddl().update_table(
        old,
        columns=columns,
        indexes=(primary, *table.indexes[1:]),
        layouts=layouts,
        next_layout_id=next_layout,
        next_column_id=table.next_column_id,
    )
    return await Backfill(session, old).rebuild(updated)


@acts(ast.DropConstraint)
async def drop_constraint(session: Session, table: TableDesc, action: ast.DropConstraint) -> TableDesc:
    draft, name = session.block.ddl(), action.name
    if any(check.name == name for check in table.checks):
        return await draft.update_table(table, checks=tuple(c for c in table.checks if c.name != name))
    keys = [key for key in table.foreign_keys if key.name == name]
    if keys:
        await draft.update_table(table, foreign_keys=tuple(k for k in table.foreign_keys if k.name != name))
        await forget_source(session, keys[0].target_table, table.id)
        changed = session.state().table_by_id(table.id)
        assert changed is not None
        return changed
    for index in table.indexes:
        if index.constraint == name:
            return await _drop_key_constraint(session, table, index, action.cascade)
    message = f'constraint "{name}" of relation "{table.name}" does not exist'
    if not action.if_exists:
        raise SqlError(message, sqlstate="42704")
    session.notice("NOTICE", SqlError(message + ", skipping", sqlstate="00000"))
    return table


async def _drop_key_constraint(session: Session, table: TableDesc, index: IndexDesc, cascade: bool) -> TableDesc:
    for id in table.inbound:
        other = session.state().table_by_id(id)
        hit = (
            [k for k in other.foreign_keys if k.target_table == table.id and k.target_index == index.id]
            if other is not None
            else []
        )
        if other is not None and hit:
            if not cascade:
                raise SqlError(
                    f"cannot drop constraint {index.constraint} on table {table.name} because other objects depend on it",
                    sqlstate="2BP01",
                    detail="\n".join(
                        f"constraint {k.name} on table {other.name} depends on index {index.name}" for k in hit
                    ),
                    hint="Use DROP ... CASCADE to drop the dependent objects too.",
                )
            await session.block.ddl().update_table(
                other, foreign_keys=tuple(k for k in other.foreign_keys if k not in hit)
            )
            await forget_source(session, table.id, other.id)
    current = session.state().table_by_id(table.id)
    assert current is not None
    if index.id == 1:
        return await without_primary_key(session, current)
    return await drop_index(session, current, index.id)


@acts(ast.ValidateConstraint)
async def validate_constraint(session: Session, table: TableDesc, action: ast.ValidateConstraint) -> TableDesc:
    draft = session.block.ddl()
    for check in table.checks:
        if check.name == action.name:
            await Backfill(session, table).validate_check(check)
            checks = tuple(
                msgspec.structs.replace(c, validated=True) if c.name == action.name else c for c in table.checks
            )
            return await draft.update_table(table, checks=checks)
    for key in table.foreign_keys:
        if key.name == action.name:
            await Backfill(session, table).validate_foreign_key(key)
            keys = tuple(
                msgspec.structs.replace(k, validated=True) if k.name == action.name else k for k in table.foreign_keys
            )
            return await draft.update_table(table, foreign_keys=keys)
    raise SqlError(f'constraint "{action.name}" of relation "{table.name}" does not exist', sqlstate="42704")


@acts(ast.AlterConstraint)
async def alter_constraint(session: Session, table: TableDesc, action: Any) -> TableDesc:
    keys = tuple(
        msgspec.structs.replace(k, deferrable=action.deferrable, initially_deferred=action.initially_deferred)
        if k.name == action.name
        else k
        for k in table.foreign_keys
    )
    if any(label == action.name for label in (*(i.constraint for i in table.indexes), *(c.name for c in table.checks))):
        message = f'constraint "{action.name}" of relation "{table.name}" is not a foreign key constraint'
        raise SqlError(message, sqlstate="42809")
    if keys == table.foreign_keys and all(k.name != action.name for k in keys):
        raise SqlError(f'constraint "{action.name}" of relation "{table.name}" does not exist', sqlstate="42704")
    return await session.block.ddl().update_table(table, foreign_keys=keys)


@acts(ast.RenameConstraint)
async def rename_constraint(session: Session, table: TableDesc, action: ast.RenameConstraint) -> TableDesc:
    require_free_name(table, action.new_name)
    old, new = action.name, action.new_name
    checks = tuple(msgspec.structs.replace(c, name=new) if c.name == old else c for c in table.checks)
    keys = tuple(msgspec.structs.replace(k, name=new) if k.name == old else k for k in table.foreign_keys)
    indexes = tuple(
        msgspec.structs.replace(i, name=new, constraint=new) if i.constraint == old else i for i in table.indexes
    )
    if (checks, keys, indexes) == (table.checks, table.foreign_keys, table.indexes):
        raise SqlError(f'constraint "{old}" for table "{table.name}" does not exist', sqlstate="42704")
    return await session.block.ddl().update_table(table, checks=checks, foreign_keys=keys, indexes=indexes)


@acts(ast.SetLocality)
async def alter_locality(session: Session, table: TableDesc, action: ast.SetLocality) -> TableDesc:
    return await set_locality(session, table, action.locality)


@acts(ast.AlterPrimaryKey)
async def alter_primary_key(session: Session, table: TableDesc, action: ast.AlterPrimaryKey) -> TableDesc:
    names = tuple(element.column or "" for element in action.columns)
    key = primary_key(table)
    if key is not None and key.primary:
        table = await drop_index(session, table, key.id)
    elif key is not None:
        table = await without_primary_key(session, table)
    return await _add_primary_key(session, table, ast.Constraint("primary key", columns=names))
