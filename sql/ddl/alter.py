"""ALTER TABLE, and the forms of ALTER VIEW, INDEX, SEQUENCE, TYPE that change names, owners and schemas.

Each action is a function ``(session, table, action) -> table`` that puts the table's next version.  Actions that need no
new data only change the descriptor: ADD COLUMN gives rows a new layout (old rows give the recorded default), DROP COLUMN
forgets a column.  Others rebuild the table under a new key prefix (``sql.ddl.backfill``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from base.errors import FeatureNotSupported, SqlError
from planner.schema import ColumnDesc, IndexColumn, IndexDesc, SchemaDesc, TableDesc, TypeDesc, primary_key
from sql.analyze import Analyzer
from sql.commands import handles
from sql.ddl.backfill import Backfill
from sql.ddl.columns import (
    INTEGERS,
    ROWID,
    build_column,
    column_named,
    column_types,
    next_value_text,
    stored_default,
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
from sql.ddl.drop import WORDS, dependents, drop_index, drop_relation
from sql.ddl.locality import partitioned, refuse_region_column, set_locality
from sql.ddl.locking import lock_exclusively
from sql.ddl.naming import choose
from sql.ddl.roles import role_named
from sql.ddl.sequences import alter_options, create_owned_sequence, taken_names
from sql.ddl.types import find_enum
from sql.parse import statements as ast

if TYPE_CHECKING:
    from sql.portals import QueryPortal
    from sql.session import Session

Action = Callable[["Session", TableDesc, Any], Awaitable[TableDesc]]
_actions: dict[type, Action] = {}


def _acts(kind: type) -> Callable[[Action], Action]:
    def register(action: Action) -> Action:
        _actions[kind] = action
        return action

    return register


@handles(ast.AlterTable)
async def alter_table(session: Session, statement: ast.AlterTable, portal: QueryPortal) -> None:
    tag = f"ALTER {statement.kind.upper()}"
    if statement.kind == "index":
        await _alter_index(session, statement)
    elif statement.kind == "type":
        await _alter_type(session, statement)
    else:
        table = session.view().relation(statement.name, missing_ok=statement.if_exists)
        if table is None:
            session.notice(
                "NOTICE", SqlError(f'relation "{statement.name}" does not exist, skipping', sqlstate="00000")
            )
        else:
            await _alter_relation(session, table, statement)
    session.sink.complete(tag)


async def _alter_relation(session: Session, table: TableDesc, statement: ast.AlterTable) -> None:
    session.view().require_owner("table", table.name, table.owner)
    needs_lock = not all(isinstance(action, ast.SplitAt) for action in statement.actions)
    if needs_lock:
        await lock_exclusively(session, table, "ALTER TABLE")
    for action in statement.actions:
        current = session.state().table_by_id(table.id)
        assert current is not None
        run = _actions.get(type(action))
        if run is None:
            raise FeatureNotSupported(f"ALTER TABLE {type(action).__name__} is not supported yet")
        if current.kind != "r" and not isinstance(
            action, (ast.RenameRelation, ast.RenameColumn, ast.SetOwner, ast.SetSchema, ast.SetOptions)
        ):
            raise SqlError(f'"{current.name}" is not a table', sqlstate="42809")
        await run(session, current, action)


def _schema(session: Session, table: TableDesc) -> SchemaDesc:
    desc = session.state().by_id[table.schema_id]
    assert isinstance(desc, SchemaDesc)
    return desc


def find_column(table: TableDesc, name: str) -> ColumnDesc:
    """Raises 42703."""
    for column in table.columns:
        if column.name == name and not (column.hidden and column.name == ROWID):
            return column
    raise SqlError(f'column "{name}" of relation "{table.name}" does not exist', sqlstate="42703")


async def _replace_column(session: Session, table: TableDesc, new: ColumnDesc) -> TableDesc:
    columns = tuple(new if column.id == new.id else column for column in table.columns)
    return await session.block.ddl().update_table(table, columns=columns)


# --- columns ----------------------------------------------------------------------


@_acts(ast.AddColumn)
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
        session, table.id, table.name, _schema(session, table), written, table.next_column_id, nullable
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
        table = await _add_constraint(session, table, constraint)
    return table


@_acts(ast.DropColumn)
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
        table = await _without_primary_key(session, table)
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


@_acts(ast.AlterColumnDefault)
async def alter_default(session: Session, table: TableDesc, action: ast.AlterColumnDefault) -> TableDesc:
    column = find_column(table, action.name)
    if column.identity or column.generated:
        kind = "an identity" if column.identity else "a generated"
        raise SqlError(f'column "{column.name}" of relation "{table.name}" is {kind} column', sqlstate="42601")
    default = stored_default(session, action.default.text) if action.default is not None else ""
    new = msgspec.structs.replace(column, default=default)
    table = await _replace_column(session, table, new)
    validate_table_expressions(session, table)
    return table


@_acts(ast.AlterColumnNotNull)
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
    return await _replace_column(session, table, msgspec.structs.replace(column, nullable=not action.not_null))


@_acts(ast.AlterColumnType)
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


@_acts(ast.AlterColumnIdentity)
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
        return await _replace_column(
            session, table, msgspec.structs.replace(column, identity="", default="", sequence_id=0)
        )
    if action.options is not None and sequence is not None:
        await alter_options(session, sequence, action.options)
    return await _replace_column(
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
    schema = _schema(session, table)
    sequence = await create_owned_sequence(
        session, schema, table.id, table.name, column.id, column.name, pg_type, action.options
    )
    new = msgspec.structs.replace(
        column, identity=action.identity, sequence_id=sequence.id, default=next_value_text(schema, sequence)
    )
    return await _replace_column(session, table, new)


@_acts(ast.AlterColumnDropExpression)
async def drop_expression(session: Session, table: TableDesc, action: ast.AlterColumnDropExpression) -> TableDesc:
    column = find_column(table, action.name)
    if not column.generated and not action.if_exists:
        raise SqlError(
            f'column "{column.name}" of relation "{table.name}" is not a stored generated column', sqlstate="55000"
        )
    return await _replace_column(session, table, msgspec.structs.replace(column, generated=""))


@_acts(ast.AlterColumnOptions)
async def alter_column_options(session: Session, table: TableDesc, action: ast.AlterColumnOptions) -> TableDesc:
    find_column(table, action.name)
    return table


@_acts(ast.AlterColumnVisible)
async def alter_visible(session: Session, table: TableDesc, action: ast.AlterColumnVisible) -> TableDesc:
    return await _replace_column(
        session, table, msgspec.structs.replace(find_column(table, action.name), hidden=not action.visible)
    )


@_acts(ast.RenameColumn)
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


# --- constraints ------------------------------------------------------------------


@_acts(ast.AddConstraint)
async def add_constraint(session: Session, table: TableDesc, action: ast.AddConstraint) -> TableDesc:
    return await _add_constraint(session, table, action.constraint)


async def _add_constraint(session: Session, table: TableDesc, constraint: ast.Constraint) -> TableDesc:
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
        index = _index_named(table, constraint.using_index)
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
    index = await build_unique(session, _schema(session, table), table, constraint)
    table = await draft.update_table(table, indexes=(*table.indexes, index), next_index_id=index.id + 1)
    await Backfill(session, table).fill((index,))
    return table


def _index_named(table: TableDesc, name: str) -> IndexDesc:
    for index in table.indexes:
        if index.name == name:
            return index
    raise SqlError(f'index "{name}" does not exist', sqlstate="42704")


async def _add_primary_key(session: Session, table: TableDesc, constraint: ast.Constraint) -> TableDesc:
    if primary_key(table) is not None:
        raise SqlError(f'multiple primary keys for table "{table.name}" are not allowed', sqlstate="42P16")
    names = constraint.columns
    if constraint.using_index is not None:
        used = _index_named(table, constraint.using_index)
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
            table = await _replace_column(session, table, msgspec.structs.replace(column, nullable=False))
        name = constraint.name or constraint.using_index
        return await _add_unique(
            session, table, dataclasses.replace(constraint, name=name, columns=names, using_index=None)
        )
    taken = taken_names(session, _schema(session, table))
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


async def _without_primary_key(session: Session, table: TableDesc) -> TableDesc:
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


@_acts(ast.DropConstraint)
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
        return await _without_primary_key(session, current)
    return await drop_index(session, current, index.id)


@_acts(ast.ValidateConstraint)
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


@_acts(ast.AlterConstraint)
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


@_acts(ast.RenameConstraint)
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


@_acts(ast.SetLocality)
async def alter_locality(session: Session, table: TableDesc, action: ast.SetLocality) -> TableDesc:
    return await set_locality(session, table, action.locality)


# --- the table itself -------------------------------------------------------------


@_acts(ast.RenameRelation)
async def rename_relation(session: Session, table: TableDesc, action: ast.RenameRelation) -> TableDesc:
    if action.name in taken_names(session, _schema(session, table)):
        raise SqlError(f'relation "{action.name}" already exists', sqlstate="42P07")
    views = [v.name for v in session.state().tables(session.database_id) if table.id in v.depends_on]
    if views:
        raise FeatureNotSupported(f'renaming a relation that view "{views[0]}" uses is not supported yet')
    return await session.block.ddl().update_table(table, name=action.name)


@_acts(ast.SetOwner)
async def set_owner(session: Session, table: TableDesc, action: ast.SetOwner) -> TableDesc:
    return await session.block.ddl().update_table(table, owner=role_named(session, action.owner).name)


@_acts(ast.SetSchema)
async def set_schema(session: Session, table: TableDesc, action: ast.SetSchema) -> TableDesc:
    schema = session.view().schema(action.schema)
    if table.name in taken_names(session, schema):
        raise SqlError(f'relation "{table.name}" already exists in schema "{schema.name}"', sqlstate="42P07")
    for other in session.state().tables(session.database_id):
        if other.sequence is not None and other.sequence.owner_table == table.id:
            await session.block.ddl().update_table(other, schema_id=schema.id)
    return await session.block.ddl().update_table(table, schema_id=schema.id)


@_acts(ast.SetOptions)
async def set_options(session: Session, table: TableDesc, action: ast.SetOptions) -> TableDesc:
    options = dict(table.options)
    for name, value in action.options.items():
        if value is None:
            options.pop(name, None)
        else:
            options[name] = value
    return await session.block.ddl().update_table(table, options=options)


@_acts(ast.SetPersistence)
async def set_persistence(session: Session, table: TableDesc, action: ast.SetPersistence) -> TableDesc:
    return table


@_acts(ast.ClusterOn)
async def cluster_on(session: Session, table: TableDesc, action: ast.ClusterOn) -> TableDesc:
    if action.index is not None:
        _index_named(table, action.index)
    return table


@_acts(ast.SetTriggers)
async def set_triggers(session: Session, table: TableDesc, action: ast.SetTriggers) -> TableDesc:
    """There are no triggers but those that PostgreSQL keeps foreign keys with, which only ALL means."""
    if action.name:
        raise SqlError(f'trigger "{action.name}" for table "{table.name}" does not exist', sqlstate="42704")
    if action.which == "user":
        return table
    if not session.view().is_superuser() and (table.foreign_keys or table.inbound):
        raise SqlError('permission denied: "RI_ConstraintTrigger" is a system trigger', sqlstate="42501")
    return await session.block.ddl().update_table(table, keys_disabled=not action.is_enabled)


@_acts(ast.ConfigureZone)
async def configure_zone(session: Session, table: TableDesc, action: ast.ConfigureZone) -> TableDesc:
    options = action.options or {}
    unknown = [name for name in options if name != "gc.ttlseconds"]
    if unknown:
        raise FeatureNotSupported(f"zone option {unknown[0]} is not supported")
    seconds = int(options.get("gc.ttlseconds", "14400"))
    if seconds < 1:
        raise SqlError("gc.ttlseconds must be positive", sqlstate="22023")
    return await session.block.ddl().update_table(table, gc_seconds=seconds)


@_acts(ast.SplitAt)
async def split_at(session: Session, table: TableDesc, action: ast.SplitAt) -> TableDesc:
    from sql.ddl.split import split_table

    await split_table(session, table, action)
    return table


@_acts(ast.AlterPrimaryKey)
async def alter_primary_key(session: Session, table: TableDesc, action: ast.AlterPrimaryKey) -> TableDesc:
    names = tuple(element.column or "" for element in action.columns)
    key = primary_key(table)
    if key is not None and key.primary:
        table = await drop_index(session, table, key.id)
    elif key is not None:
        table = await _without_primary_key(session, table)
    return await _add_primary_key(session, table, ast.Constraint("primary key", columns=names))


# --- indexes and types ------------------------------------------------------------


async def _alter_index(session: Session, statement: ast.AlterTable) -> None:
    found = session.view().index(statement.name)
    if found is None:
        if not statement.if_exists:
            raise SqlError(f'relation "{statement.name}" does not exist', sqlstate="42P01")
        session.notice("NOTICE", SqlError(f'relation "{statement.name}" does not exist, skipping', sqlstate="00000"))
        return
    table, at = found
    for action in statement.actions:
        if isinstance(action, ast.RenameRelation):
            if action.name in taken_names(session, _schema(session, table)):
                raise SqlError(f'relation "{action.name}" already exists', sqlstate="42P07")
            old = table.indexes[at]
            new = msgspec.structs.replace(old, name=action.name, constraint=action.name if old.constraint else "")
            indexes = tuple(new if i == at else index for i, index in enumerate(table.indexes))
            table = await session.block.ddl().update_table(table, indexes=indexes)
        elif not isinstance(action, ast.SetOptions):
            raise FeatureNotSupported(f"ALTER INDEX {type(action).__name__} is not supported")


async def _alter_type(session: Session, statement: ast.AlterTable) -> None:
    desc: TypeDesc = find_enum(session, statement.name)
    for action in statement.actions:
        if isinstance(action, ast.RenameRelation):
            desc = msgspec.structs.replace(desc, name=action.name)
        elif isinstance(action, ast.SetOwner):
            desc = msgspec.structs.replace(desc, owner=role_named(session, action.owner).name)
        elif isinstance(action, ast.SetSchema):
            desc = msgspec.structs.replace(desc, schema_id=session.view().schema(action.schema).id)
        else:
            raise FeatureNotSupported(f"ALTER TYPE {type(action).__name__} is not supported")
    await session.block.ddl().put(msgspec.structs.replace(desc, version=desc.version + 1))
