"""CREATE, ALTER, DROP DATABASE."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from base.errors import SqlError
from planner.schema import DatabaseDesc, SchemaDesc
from sql.commands import handles
from sql.commands.settings import value_text
from sql.ddl.drop import drop_schema
from sql.ddl.regions import alter_regions, create_regions, has_region_options
from sql.ddl.roles import role_named
from sql.parse import statements as ast
from sql.settings import canonical

if TYPE_CHECKING:
    from sql.portals import QueryPortal
    from sql.session import Session


def _outside_block(session: Session, command: str) -> None:
    if session.is_in_block:
        raise SqlError(f"{command} cannot run inside a transaction block", sqlstate="25001")


@handles(ast.CreateDatabase)
async def create_database(session: Session, statement: ast.CreateDatabase, portal: QueryPortal) -> None:
    _outside_block(session, "CREATE DATABASE")
    role = session.state().roles[session.user]
    if not (role.superuser or role.create_db):
        raise SqlError("permission denied to create database", sqlstate="42501")
    if session.state().database(statement.name) is not None:
        if not statement.if_not_exists:
            raise SqlError(f'database "{statement.name}" already exists', sqlstate="42P04")
        session.notice("NOTICE", SqlError(f'database "{statement.name}" already exists, skipping', sqlstate="42P04"))
        session.sink.complete("CREATE DATABASE")
        return
    draft = session.block.ddl()
    owner = statement.options.get("owner") or session.user
    owner = role_named(session, owner).name if owner != "default" else session.user
    id = await draft.new_id()
    desc = DatabaseDesc(id=id, version=1, name=statement.name, owner=owner)
    await draft.put(desc)
    await draft.put(
        SchemaDesc(
            id=await draft.new_id(),
            version=1,
            database_id=id,
            name="public",
            owner=owner,
            privileges=(("public", "UC"),),
        )
    )
    if has_region_options(statement):
        desc = await create_regions(session, desc, statement)
        await draft.put(msgspec.structs.replace(desc, version=2))
    session.sink.complete("CREATE DATABASE")


@handles(ast.DropDatabase)
async def drop_database(session: Session, statement: ast.DropDatabase, portal: QueryPortal) -> None:
    _outside_block(session, "DROP DATABASE")
    desc = session.state().database(statement.name)
    if desc is None:
        if not statement.if_exists:
            raise SqlError(f'database "{statement.name}" does not exist', sqlstate="3D000")
        session.notice("NOTICE", SqlError(f'database "{statement.name}" does not exist, skipping', sqlstate="00000"))
        session.sink.complete("DROP DATABASE")
        return
    session.view().require_owner("database", desc.name, desc.owner)
    if desc.id == session.database_id:
        raise SqlError("cannot drop the currently open database", sqlstate="55006")
    users = len([s for s in session.server.sessions.values() if s.database_id == desc.id])
    if session.server.agreement is not None:
        users += await session.server.agreement.sessions_elsewhere(desc.id)
    if users:
        detail = (
            f"There {'is' if users == 1 else 'are'} {users} other session{'s' if users > 1 else ''} using the database."
        )
        raise SqlError(f'database "{desc.name}" is being accessed by other users', sqlstate="55006", detail=detail)
    for schema in session.state().schemas(desc.id):
        await _drop_contents(session, schema)
    await session.block.ddl().drop(desc)
    session.sink.complete("DROP DATABASE")


async def _drop_contents(session: Session, schema: SchemaDesc) -> None:
    """Drops a schema of another database: what is looked up by database must look there."""
    own = session.database_id
    session.database_id = schema.database_id
    try:
        await drop_schema(session, schema, cascade=True)
    finally:
        session.database_id = own


@handles(ast.AlterDatabase)
async def alter_database(session: Session, statement: ast.AlterDatabase, portal: QueryPortal) -> None:
    desc = session.view().database(statement.name)
    session.view().require_owner("database", desc.name, desc.owner)
    if statement.action == "rename":
        if session.state().database(statement.value) is not None:
            raise SqlError(f'database "{statement.value}" already exists', sqlstate="42P04")
        if desc.id == session.database_id:
            raise SqlError("current database cannot be renamed", sqlstate="0A000")
        desc = msgspec.structs.replace(desc, name=statement.value)
    elif statement.action == "owner":
        desc = msgspec.structs.replace(desc, owner=role_named(session, statement.value).name)
    elif statement.action in ("set", "reset"):
        desc = msgspec.structs.replace(desc, settings=changed_settings(desc.settings, statement.setting))
    else:
        desc = await alter_regions(session, desc, statement)
    await session.block.ddl().put(msgspec.structs.replace(desc, version=desc.version + 1))
    session.sink.complete("ALTER DATABASE")


def changed_settings(settings: dict[str, str], change: ast.SetVariable | ast.ResetVariable | None) -> dict[str, str]:
    """Returns a role's or database's stored parameters after ALTER .. SET or RESET."""
    assert change is not None
    if change.name == "all":
        return {}
    kept = {name: value for name, value in settings.items() if name != canonical(change.name)}
    if isinstance(change, ast.SetVariable) and change.values is not None:
        kept[canonical(change.name)] = value_text(change)
    return kept
