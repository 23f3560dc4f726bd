"""Temporary tables, views and sequences: ordinary ones in a schema of their session.

    session 7 ── pg_temp_7 ── searched first, also under the name pg_temp; seen by nobody else without its name

They are rows of the catalog like any others, so that everything works on them and rolls back with them.  What makes them
temporary: ON COMMIT runs before each commit, the session drops them at its end, and a node that starts drops those of its
own sessions that a crash ended.  A node gives its sessions their numbers; from node 2 on its own stands before them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from base.errors import MeridianError, Retryable, SqlError
from base.keys import table_span
from planner.schema import SchemaDesc, TableDesc
from sql.parse.statements import Name

if TYPE_CHECKING:
    from sql.server import SqlServer
    from sql.session import Session

PREFIX: Final = "pg_temp_"
FOUNDER: Final = 1
"""The first node, or the only one."""
ALIAS: Final = "pg_temp"
ON_COMMIT: Final = "on_commit"
"""Key of ``TableDesc.options``: delete rows, drop."""
DROP_ATTEMPTS_MAX: Final = 5
"""Tries to drop a session's tables at its end; what then is left goes at the node's next start."""


def schema_name(session: Session) -> str:
    """Name of the session's schema of temporary objects, made or not."""
    return f"{_prefix(session.server)}{session.pid}"


def _prefix(server: SqlServer) -> str:
    """How the names of this node's temporary schemas begin; a number follows."""
    node_id = server.agreement.node_id if server.agreement is not None else FOUNDER
    return PREFIX if node_id == FOUNDER else f"{PREFIX}{node_id}_"


def is_temporary(session: Session, table: TableDesc) -> bool:
    """True for an object of any session's temporary schema."""
    return session.view().schema_name(table.schema_id).startswith(PREFIX)


async def creation_schema(session: Session, name: Name, temporary: bool) -> SchemaDesc:
    """Returns the schema a new relation goes to; makes the session's temporary one when it is first needed."""
    view = session.view()
    own = (ALIAS, schema_name(session))
    if temporary and name.schema is not None and name.schema not in own:
        raise SqlError("cannot create temporary relation in non-temporary schema", sqlstate="42P16")
    if temporary or name.schema in own or (name.schema is None and view.path[:1] == (ALIAS,)):
        return await _ensure_schema(session)
    return view.creation_schema(name)


async def _ensure_schema(session: Session) -> SchemaDesc:
    name = schema_name(session)
    desc = session.state().schema(session.database_id, name)
    if desc is None:
        draft = session.block.ddl()
        desc = SchemaDesc(
            id=await draft.new_id(), version=1, database_id=session.database_id, name=name, owner=session.user
        )
        await draft.put(desc)
        session.temp_schema_id = desc.id
    return desc


def own_relations(session: Session) -> list[TableDesc]:
    """The session's temporary relations, in the order they were made."""
    desc = session.state().schema(session.database_id, schema_name(session))
    if desc is None:
        return []
    return [table for table in session.state().tables(session.database_id) if table.schema_id == desc.id]


def set_on_commit(session: Session, what: str, temporary: bool) -> dict[str, str]:
    """The table options that hold ON COMMIT."""
    if what and not temporary:
        raise SqlError("ON COMMIT can only be used on temporary tables", sqlstate="42P16")
    if what in ("", "preserve rows"):
        return {}
    session.has_on_commit = True
    return {ON_COMMIT: what}


async def before_commit(session: Session) -> None:
    """Does what ON COMMIT says, as part of the transaction that commits."""
    from sql.ddl.drop import delete_span, drop_relations

    tables = own_relations(session)
    leaving = [table for table in tables if table.options.get(ON_COMMIT) == "drop"]
    if leaving:
        await drop_relations(session, leaving, cascade=True)
    for table in tables:
        # It was empty after the last commit: there is something to delete only if this transaction wrote.
        if table.options.get(ON_COMMIT) == "delete rows" and table.id in session.block.locked_tables:
            await delete_span(session, *table_span(table.key_prefix_table or table.id))


async def drop_own(session: Session) -> None:
    """Drops everything temporary of the session, as part of its transaction."""
    from sql.ddl.drop import drop_relations, drop_schema

    desc = session.state().schema(session.database_id, schema_name(session))
    if desc is not None:
        # Together, so that nothing cascades and no notice says so.
        await drop_relations(session, own_relations(session), cascade=True)
        await drop_schema(session, desc, cascade=True)


async def drop_at_end(session: Session) -> None:
    """Drops everything temporary of a session that ends."""
    session.settings.set("client_min_messages", "error")
    for _ in range(DROP_ATTEMPTS_MAX):
        try:
            await drop_own(session)
            await session.block.commit()
            return
        except Retryable:
            await session.block.rollback()
        except MeridianError:
            await session.block.rollback()
            return


async def drop_leftovers(server: SqlServer) -> None:
    """At start: drops the temporary objects of sessions that a crash ended."""
    from sql.ddl.drop import drop_schema
    from sql.internal import internal_session

    state = server.catalog.state
    for database in state.databases():
        for schema in state.schemas(database.id):
            own = _prefix(server)
            if not (schema.name.startswith(own) and schema.name[len(own) :].isdigit()):
                continue
            session = internal_session(server, database)
            try:
                await drop_schema(session, schema, cascade=True)
                await session.block.commit()
            except MeridianError:
                # A store that refuses writes at its start: the next start tries again.
                await session.block.rollback()
