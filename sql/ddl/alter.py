"""ALTER TABLE, and the forms of ALTER VIEW, INDEX, SEQUENCE, TYPE that change names, owners and schemas.

Each action is a function ``(session, table, action) -> table`` that puts the table's next version.  Actions that need no
new data only change the descriptor: ADD COLUMN gives rows a new layout (old rows give the recorded default), DROP COLUMN
forgets a column.  Others rebuild the table under a new key prefix (``sql.ddl.backfill``).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import msgspec

from base.errors import FeatureNotSupported, SqlError
from planner.schema import TableDesc, TypeDesc
from sql.commands import handles
from sql.ddl import alter_columns as _columns  # noqa: F401  # registers its actions
from sql.ddl.actions import ACTIONS, acts, schema_of
from sql.ddl.alter_constraints import index_named
from sql.ddl.locking import lock_exclusively
from sql.ddl.roles import role_named
from sql.ddl.sequences import taken_names
from sql.ddl.split import split_table
from sql.ddl.types import find_enum
from sql.parse import statements as ast

if TYPE_CHECKING:
    from sql.portals import QueryPortal
    from sql.session import Session


@handles(ast.AlterTable)
async def alter_table(session: Session, statement: ast.AlterTable, portal: QueryPortal) -> None:
    tag = f"ALTER {statement.kind.upper()}"
    if statement.kind == "index" and any([isinstance(action, ast.SplitAt) for action in statement.actions]):
        await _split_index(session, statement)
    elif statement.kind == "index":
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
        run = ACTIONS.get(type(action))
        if run is None:
            raise FeatureNotSupported(f"ALTER TABLE {type(action).__name__} is not supported yet")
        if current.kind != "r" and not isinstance(
            action, (ast.RenameRelation, ast.RenameColumn, ast.SetOwner, ast.SetSchema, ast.SetOptions)
        ):
            raise SqlError(f'"{current.name}" is not a table', sqlstate="42809")
        await run(session, current, action)


# --- the table itself -------------------------------------------------------------


@acts(ast.RenameRelation)
async def rename_relation(session: Session, table: TableDesc, action: ast.RenameRelation) -> TableDesc:
    if action.name in taken_names(session, schema_of(session, table)):
        raise SqlError(f'relation "{action.name}" already exists', sqlstate="42P07")
    views = [v.name for v in session.state().tables(session.database_id) if table.id in v.depends_on]
    if views:
        raise FeatureNotSupported(f'renaming a relation that view "{views[0]}" uses is not supported yet')
    return await session.block.ddl().update_table(table, name=action.name)


@acts(ast.SetOwner)
async def set_owner(session: Session, table: TableDesc, action: ast.SetOwner) -> TableDesc:
    return await session.block.ddl().update_table(table, owner=role_named(session, action.owner).name)


@acts(ast.SetSchema)
async def set_schema(session: Session, table: TableDesc, action: ast.SetSchema) -> TableDesc:
    schema = session.view().schema(action.schema)
    if table.name in taken_names(session, schema):
        raise SqlError(f'relation "{table.name}" already exists in schema "{schema.name}"', sqlstate="42P07")
    for other in session.state().tables(session.database_id):
        if other.sequence is not None and other.sequence.owner_table == table.id:
            await session.block.ddl().update_table(other, schema_id=schema.id)
    return await session.block.ddl().update_table(table, schema_id=schema.id)


@acts(ast.SetOptions)
async def set_options(session: Session, table: TableDesc, action: ast.SetOptions) -> TableDesc:
    options = dict(table.options)
    for name, value in action.options.items():
        if value is None:
            options.pop(name, None)
        else:
            options[name] = value
    return await session.block.ddl().update_table(table, options=options)


@acts(ast.SetPersistence)
async def set_persistence(session: Session, table: TableDesc, action: ast.SetPersistence) -> TableDesc:
    return table


@acts(ast.ClusterOn)
async def cluster_on(session: Session, table: TableDesc, action: ast.ClusterOn) -> TableDesc:
    if action.index is not None:
        index_named(table, action.index)
    return table


@acts(ast.SetTriggers)
async def set_triggers(session: Session, table: TableDesc, action: ast.SetTriggers) -> TableDesc:
    """There are no triggers but those that PostgreSQL keeps foreign keys with, which only ALL means."""
    if action.name:
        raise SqlError(f'trigger "{action.name}" for table "{table.name}" does not exist', sqlstate="42704")
    if action.which == "user":
        return table
    if not session.view().is_superuser() and (table.foreign_keys or table.inbound):
        raise SqlError('permission denied: "RI_ConstraintTrigger" is a system trigger', sqlstate="42501")
    return await session.block.ddl().update_table(table, keys_disabled=not action.is_enabled)


@acts(ast.ConfigureZone)
async def configure_zone(session: Session, table: TableDesc, action: ast.ConfigureZone) -> TableDesc:
    options = action.options or {}
    unknown = [name for name in options if name != "gc.ttlseconds"]
    if unknown:
        raise FeatureNotSupported(f"zone option {unknown[0]} is not supported")
    seconds = int(options.get("gc.ttlseconds", "14400"))
    if seconds < 1:
        raise SqlError("gc.ttlseconds must be positive", sqlstate="22023")
    return await session.block.ddl().update_table(table, gc_seconds=seconds)


@acts(ast.SplitAt)
async def split_at(session: Session, table: TableDesc, action: ast.SplitAt) -> TableDesc:
    await split_table(session, table, action)
    return table


# --- indexes and types ------------------------------------------------------------


async def _split_index(session: Session, statement: ast.AlterTable) -> None:
    """ALTER INDEX table@index, or index, SPLIT AT and its like: an action of the table that says which index it means."""
    for action in statement.actions:
        if not isinstance(action, ast.SplitAt):
            raise SqlError("SPLIT AT cannot be combined with other actions of ALTER INDEX", sqlstate="42601")
        if action.index:
            table = session.view().table(statement.name)
        else:
            found = session.view().index(statement.name)
            if found is None:
                raise SqlError(f'relation "{statement.name}" does not exist', sqlstate="42P01")
            table = found[0]
            action = dataclasses.replace(action, index=table.indexes[found[1]].name)
        session.view().require_owner("table", table.name, table.owner)
        await split_table(session, table, action)


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
            if action.name in taken_names(session, schema_of(session, table)):
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
