"""CREATE SCHEMA, ALTER SCHEMA."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from base.errors import SqlError
from planner.schema import SchemaDesc
from sql import commands
from sql.commands import handles
from sql.ddl.roles import role_named
from sql.parse import statements as ast
from sql.view import SYSTEM_SCHEMAS

if TYPE_CHECKING:
    from sql.portals import QueryPortal
    from sql.session import Session


def _check_name(session: Session, name: str) -> None:
    if name.startswith("pg_"):
        raise SqlError(
            f'unacceptable schema name "{name}"',
            sqlstate="42939",
            detail='The prefix "pg_" is reserved for system schemas.',
        )
    if name in SYSTEM_SCHEMAS or session.state().schema(session.database_id, name) is not None:
        raise SqlError(f'schema "{name}" already exists', sqlstate="42P06")


@handles(ast.CreateSchema)
async def create_schema(session: Session, statement: ast.CreateSchema, portal: QueryPortal) -> None:
    database = session.state().by_id[session.database_id]
    if not session.view().has_privilege(database.owner, database.privileges, "C"):  # type: ignore[union-attr]  # a database
        raise SqlError(f"permission denied for database {session.database}", sqlstate="42501")
    name = statement.name
    if statement.if_not_exists and session.view().schema_exists(name):
        session.notice("NOTICE", SqlError(f'schema "{name}" already exists, skipping', sqlstate="42P06"))
        session.sink.complete("CREATE SCHEMA")
        return
    _check_name(session, name)
    draft = session.block.ddl()
    owner = role_named(session, statement.owner).name if statement.owner else session.user
    await draft.put(
        SchemaDesc(id=await draft.new_id(), version=1, database_id=session.database_id, name=name, owner=owner)
    )
    await _create_elements(session, statement, portal)
    session.sink.complete("CREATE SCHEMA")


async def _create_elements(session: Session, statement: ast.CreateSchema, portal: QueryPortal) -> None:
    """Creates what CREATE SCHEMA holds, with the new schema first in the path; only the whole has a tag."""
    path = session.context.search_path
    session.context.search_path = (statement.name, *path)
    try:
        for element in statement.elements:
            handler = commands.find(element)
            assert handler is not None
            position = session.sink.position()
            session.forget_view()
            await handler(session, element, portal)
            session.sink.rewind(position)
    finally:
        session.context.search_path = path
        session.forget_view()


@handles(ast.AlterSchema)
async def alter_schema(session: Session, statement: ast.AlterSchema, portal: QueryPortal) -> None:
    desc = session.view().schema(statement.name)
    session.view().require_owner("schema", desc.name, desc.owner)
    if statement.action == "rename":
        _check_name(session, statement.value)
        changed = msgspec.structs.replace(desc, version=desc.version + 1, name=statement.value)
    else:
        changed = msgspec.structs.replace(
            desc, version=desc.version + 1, owner=role_named(session, statement.value).name
        )
    await session.block.ddl().put(changed)
    session.sink.complete("ALTER SCHEMA")
