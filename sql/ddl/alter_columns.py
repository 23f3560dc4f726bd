"""ALTER TABLE: columns.  See ``sql.ddl.alter``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from base.errors import FeatureNotSupported, SqlError
from planner.schema import ColumnDesc, TableDesc, primary_key
from sql.analyze import Analyzer
from sql.ddl.actions import acts, find_column, replace_column, schema_of
from sql.ddl.alter_constraints import put_constraint, without_primary_key
from sql.ddl.backfill import Backfill
from sql.ddl.columns import (
    INTEGERS,
    build_column,
    column_types,
    next_value_text,
    stored_default,
    with_new_layout,
)
from sql.ddl.constraints import (
    forget_source,
    validate_table_expressions,
)
from sql.ddl.drop import WORDS, dependents, drop_index, drop_relation
from sql.ddl.locality import refuse_region_column
from sql.ddl.sequences import alter_options, create_owned_sequence
from sql.parse import statements as ast

if TYPE_CHECKING:
    from sql.session import Session


@acts(ast.AddColumn)
async def add_column(session: Session, table: TableDesc, action: ast.AddColumn) -> TableDesc:
    written = action.column
    if any(column.name == written.name for column in table.columns):
        message = f'column "{written.name}" of relation "{table.name}" already exists'
        if not action.if_not_exists:
            raise SqlError(message, sqlstate="42701")
        session.notice("NOTICE", SqlError(message + ", skipping", sqlstate="42701"))
        return table
    primary = [c for c in written.constraints if c.kind == "primary key"]
    nullable = written.nullable is not False and not primary
    column = await build_column(
        session, table.id, table.name, schema_of(session, table), written, table.next_column_id, nullable
    )
    analyzer = Analyzer(session)
    missing, is_constant = b"", True
    if column.default and not column.generated:
        missing, is_constant = await analyzer.constant_default(table, column)
        column = msgspec.structs.replace(column, missing=missing)
    needs_rows = not is_constant or bool(column.generated)
    if (
        not column.nullable
        and not column.default
        and not column.generated
        and await Backfill(session, table).has_rows()
    ):
        raise SqlError(
            f'column "{column.name}" of relation "{table.name}" contains null values',
            sqlstate="23502",
            table=table.name,
            column=column.name,
        )
    old = table
    columns = (*table.columns, column)
    layouts, next_layout = with_new_layout(table, columns, table.indexes[0], column_types(session, columns))
    table = await session.block.ddl().update_table(
        table, columns=columns, layouts=layouts, next_layout_id=next_layout, next_column_id=table.next_column_id + 1
    )
    validate_table_expressions(session, table)
    if needs_rows:
        table = await Backfill(session, old).rebuild(table)
    for constraint in written.constraints:
        table = await put_constraint(session, table, constraint)
    return table


@acts(ast.DropColumn)
async def _drop_column(session: Session, table: TableDesc, action: ast.DropColumn) -> TableDesc:
    if action.if_exists and all(column.name != action.name for column in table.columns):
        message = f'column "{action.name}" of relation "{table.name}" does not exist, skipping'
        session.notice("NOTICE", SqlError(message, sqlstate="00000"))
        return table
    return await drop_column(session, table, action.name, action.cascade)


async def drop_column(session: Session, table: TableDesc, name: str, cascade: bool) -> TableDesc:
    """Removes a column with its indexes and constraints; its stored values are left behind and never read."""
    column = find_column(table, name)
    refuse_region_column(table, column, "drop")
    primary = table.indexes[0]
    if any(c.column_id == column.id for c in primary.columns):
        table = await without_primary_key(session, table)
        column = find_column(table, name)
    await _drop_views_on(session, table, column, cascade)
    analyzer = Analyzer(session)
    for index in table.indexes[1:]:
        if (
            any(c.column_id == column.id for c in index.columns)
            or column.id in index.include
            or analyzer.index_uses(table, index, column)
        ):
            table = await drop_index(session, table, index.id)
    table = await _drop_keys_on(session, table, column, cascade)
    checks = tuple(check for check in table.checks if not analyzer.text_uses(table, check.expression, column))
    if column.sequence_id:
        sequence = session.state().table_by_id(column.sequence_id)
        if sequence is not None:
            await session.block.ddl().drop(sequence)
    columns = tuple(c for c in table.columns if c.id != column.id)
    layouts, next_layout = with_new_layout(table, columns, table.indexes[0], column_types(session, columns))
    return await session.block.ddl().update_table(
        table, columns=columns, checks=checks, layouts=layouts, next_layout_id=next_layout
    )


async def _drop_views_on(session: Session, table: TableDesc, column: ColumnDesc, cascade: bool) -> None:
    views = [
        v for v in session.state().tables(session.database_id) if v.kind in ("v", "m") and table.id in v.depends_on
    ]
    used = [view for view in views if Analyzer(session).view_uses(view, table, column)]
    if used and not cascade:
        lines: list[str] = []
        for view in used:
            lines.append(f"{WORDS[view.kind]} {view.name} depends on column {column.name} of table {table.name}")
            lines += dependents(session, view, {table.id})
        raise SqlError(
            f"cannot drop column {column.name} of table {table.name} because other objects depend on it",
            sqlstate="2BP01",
            detail="\n".join(lines),
            hint="Use DROP ... CASCADE to drop the dependent objects too.",
        )
    for view in used:
        await drop_relation(session, view)


async def _drop_keys_on(session: Session, table: TableDesc, column: ColumnDesc, cascade: bool) -> TableDesc:
    draft = session.block.ddl()
    for id in table.inbound:
        other = session.state().table_by_id(id)
        if other is None:
            continue
        hit = [k for k in other.foreign_keys if k.target_table == table.id and column.id in k.target_columns]
        if hit and not cascade:
            raise SqlError(
                f"cannot drop column {column.name} of table {table.name} because other objects depend on it",
                sqlstate="2BP01",
                detail="\n".join(
                    f"constraint {k.name} on table {other.name} depends on column {column.name} of table {table.name}"
                    for k in hit
                ),
                hint="Use DROP ... CASCADE to drop the dependent objects too.",
            )
        if hit:
            await draft.update_table(other, foreign_keys=tuple(k for k in other.foreign_keys if k not in hit))
            await forget_source(session, table.id, other.id)
    current = session.state().table_by_id(table.id)
    assert current is not None
    lost = [key for key in current.foreign_keys if column.id in key.columns]
    if lost:
        await draft.update_table(current, foreign_keys=tuple(k for k in current.foreign_keys if k not in lost))
    for key in lost:
        await forget_source(session, key.target_table, table.id)
    current = session.state().table_by_id(table.id)
    assert current is not None
    return current


@acts(ast.AlterColumnDefault)
async def alter_default(session: Session, table: TableDesc, action: ast.AlterColumnDefault) -> TableDesc:
    column = find_column(table, action.name)
    if column.identity or column.generated:
        kind = "an identity" if column.identity else "a generated"
        raise SqlError(f'column "{column.name}" of relation "{table.name}" is {kind} column', sqlstate="42601")
    default = stored_default(session, action.default.text) if action.default is not None else ""
    new = msgspec.structs.replace(column, default=default)
    table = await replace_column(session, table, new)
    validate_table_expressions(session, table)
    return table


@acts(ast.AlterColumnNotNull)
async def alter_not_null(session: Session, table: TableDesc, action: ast.AlterColumnNotNull) -> TableDesc:
    column = find_column(table, action.name)
    if not action.not_null:
        refuse_region_column(table, column, "drop NOT NULL of")
        key = primary_key(table)
        if key is not None and any(c.column_id == column.id for c in key.columns):
            raise SqlError(f'column "{column.name}" is in a primary key', sqlstate="42P16")
        if column.identity:
            raise SqlError(f'column "{column.name}" of relation "{table.name}" is an identity column', sqlstate="42601")
    elif column.nullable and await Backfill(session, table).has_null(column.id):
        raise SqlError(
            f'column "{column.name}" of relation "{table.name}" contains null values',
            sqlstate="23502",
            table=table.name,
            column=column.name,
        )
    return await replace_column(session, table, msgspec.structs.replace(column, nullable=not action.not_null))


@acts(ast.AlterColumnType)
async def alter_type(session: Session, table: TableDesc, action: ast.AlterColumnType) -> TableDesc:
    column = find_column(table, action.name)
    pg_type, typmod = session.view().type_named(action.type)
    if pg_type.oid == column.type_oid and typmod == column.typmod and action.using is None:
        return table
    refuse_region_column(table, column, "alter the type of")
    views = [
        v
        for v in session.state().tables(session.database_id)
        if v.kind in ("v", "m") and Analyzer(session).view_uses(v, table, column)
    ]
    if views:
        detail = f'rule _RETURN on view {views[0].name} depends on column "{column.name}"'
        raise SqlError("cannot alter type of a column used by a view or rule", sqlstate="0A000", detail=detail)
    # The new column takes the old one's place and id; rows are converted into a rebuilt table.
    new = msgspec.structs.replace(column, type_oid=pg_type.oid, typmod=typmod, missing=b"")
    convert = Analyzer(session).conversion(table, column, pg_type, typmod, action.using)
    columns = tuple(new if c.id == column.id else c for c in table.columns)
    changed = msgspec.structs.replace(table, columns=columns, layouts=())
    layouts, next_layout = with_new_layout(changed, columns, table.indexes[0], column_types(session, columns))
    updated = await session.block.ddl().update_table(
        table, columns=columns, layouts=layouts, next_layout_id=next_layout
    )
    validate_table_expressions(session, updated)
    return await Backfill(session, table).rebuild(updated, {column.id: convert})


@acts(ast.AlterColumnIdentity)
async def alter_identity(session: Session, table: TableDesc, action: ast.AlterColumnIdentity) -> TableDesc:
    column = find_column(table, action.name)
    if action.action == "add":
        return await _add_identity(session, table, column, action)
    if not column.identity:
        message = f'column "{column.name}" of relation "{table.name}" is not an identity column'
        if not action.if_exists:
            raise SqlError(message, sqlstate="55000")
        session.notice("NOTICE", SqlError(message + ", skipping", sqlstate="00000"))
        return table
    sequence = session.state().table_by_id(column.sequence_id)
    if action.action == "drop":
        if sequence is not None:
            await session.block.ddl().drop(sequence)
        return await replace_column(
            session, table, msgspec.structs.replace(column, identity="", default="", sequence_id=0)
        )
    if action.options is not None and sequence is not None:
        await alter_options(session, sequence, action.options)
    return await replace_column(
        session, table, msgspec.structs.replace(column, identity=action.identity or column.identity)
    )


async def _add_identity(
    session: Session, table: TableDesc, column: ColumnDesc, action: ast.AlterColumnIdentity
) -> TableDesc:
    if column.identity:
        raise SqlError(
            f'column "{column.name}" of relation "{table.name}" is already an identity column', sqlstate="55000"
        )
    if column.nullable:
        raise SqlError(
            f'column "{column.name}" of relation "{table.name}" must be declared NOT NULL before identity can be added',
            sqlstate="55000",
        )
    if column.default:
        raise SqlError(
            f'column "{column.name}" of relation "{table.name}" already has a default value', sqlstate="55000"
        )
    pg_type = session.state().type_by_oid(column.type_oid)
    if pg_type is None or pg_type not in INTEGERS:
        raise SqlError("identity column type must be smallint, integer, or bigint", sqlstate="22023")
    schema = schema_of(session, table)
    sequence = await create_owned_sequence(
        session, schema, table.id, table.name, column.id, column.name, pg_type, action.options
    )
    new = msgspec.structs.replace(
        column, identity=action.identity, sequence_id=sequence.id, default=next_value_text(schema, sequence)
    )
    return await replace_column(session, table, new)


@acts(ast.AlterColumnDropExpression)
async def drop_expression(session: Session, table: TableDesc, action: ast.AlterColumnDropExpression) -> TableDesc:
    column = find_column(table, action.name)
    if not column.generated and not action.if_exists:
        raise SqlError(
            f'column "{column.name}" of relation "{table.name}" is not a stored generated column', sqlstate="55000"
        )
    return await replace_column(session, table, msgspec.structs.replace(column, generated=""))


@acts(ast.AlterColumnOptions)
async def alter_column_options(session: Session, table: TableDesc, action: ast.AlterColumnOptions) -> TableDesc:
    find_column(table, action.name)
    return table


@acts(ast.AlterColumnVisible)
async def alter_visible(session: Session, table: TableDesc, action: ast.AlterColumnVisible) -> TableDesc:
    return await replace_column(
        session, table, msgspec.structs.replace(find_column(table, action.name), hidden=not action.visible)
    )


@acts(ast.RenameColumn)
async def rename_column(session: Session, table: TableDesc, action: ast.RenameColumn) -> TableDesc:
    column = find_column(table, action.name)
    if any(c.name == action.new_name for c in table.columns):
        raise SqlError(f'column "{action.new_name}" of relation "{table.name}" already exists', sqlstate="42701")
    rename = Analyzer(session).renamer(table, column, action.new_name)
    columns = tuple(
        msgspec.structs.replace(c, name=action.new_name if c.id == column.id else c.name, generated=rename(c.generated))
        for c in table.columns
    )
    checks = tuple(msgspec.structs.replace(check, expression=rename(check.expression)) for check in table.checks)
    indexes = tuple(
        msgspec.structs.replace(
            index, predicate=rename(index.predicate),
            columns=tuple(msgspec.structs.replace(c, expression=rename(c.expression)) if c.expression else c for c in index.columns),
        )
        for index in table.indexes
    )  # fmt: skip
    views = [
        v
        for v in session.state().tables(session.database_id)
        if v.kind in ("v", "m") and Analyzer(session).view_uses(v, table, column)
    ]
    if views:
        raise FeatureNotSupported(f'renaming a column that view "{views[0].name}" uses is not supported yet')
    return await session.block.ddl().update_table(table, columns=columns, checks=checks, indexes=indexes)
