"""CREATE VIEW."""

from __future__ import annotations

from typing import TYPE_CHECKING

from base.errors import FeatureNotSupported, SqlError
from planner.schema import ColumnDesc, SchemaDesc, TableDesc
from sql.analyze import Analyzer
from sql.commands import handles
from sql.ddl.privileges import require_create
from sql.ddl.sequences import taken_names
from sql.parse import statements as ast
from sql.temporary import PREFIX, creation_schema, is_temporary

if TYPE_CHECKING:
    from sql.portals import QueryPortal
    from sql.session import Session


@handles(ast.CreateView)
async def create_view(session: Session, statement: ast.CreateView, portal: QueryPortal) -> None:
    bound = Analyzer(session).view_query(statement.query)
    schema = await _schema(session, statement, bound.depends_on)
    require_create(session, schema)
    names = list(bound.names)
    if len(statement.columns) > len(names):
        raise SqlError("CREATE VIEW specifies more column names than columns", sqlstate="42601")
    names[: len(statement.columns)] = statement.columns
    for i, name in enumerate(names):
        if name in names[:i]:
            raise SqlError(f'column "{name}" specified more than once', sqlstate="42701")
    columns = tuple(
        ColumnDesc(id=i, name=name, type_oid=pg_type.oid, typmod=typmod)
        for i, (name, (pg_type, typmod)) in enumerate(zip(names, bound.types), 1)
    )
    old = session.state().table(session.database_id, schema.id, statement.name.name)
    draft = session.block.ddl()
    if old is not None:
        if not statement.or_replace:
            raise SqlError(f'relation "{old.name}" already exists', sqlstate="42P07")
        _check_replacement(old, columns)
        session.view().require_owner("view", old.name, old.owner)
        changed = await draft.update_table(
            old,
            columns=columns,
            view_query=statement.query.text,
            depends_on=bound.depends_on,
            options=_options(session, statement),
        )
        _require_updatable(session, changed)
    else:
        if statement.name.name in taken_names(session, schema):
            raise SqlError(f'relation "{statement.name.name}" already exists', sqlstate="42P07")
        made = TableDesc(
            id=await draft.new_id(), version=1, database_id=session.database_id, schema_id=schema.id, name=statement.name.name, kind="v",
            columns=columns, view_query=statement.query.text, depends_on=bound.depends_on, owner=session.user,
            options=_options(session, statement),
        )  # fmt: skip
        _require_updatable(session, made)
        await draft.put(made)
    session.sink.complete("CREATE VIEW")


def _options(session: Session, statement: ast.CreateView) -> dict[str, str]:
    options = dict(statement.options)
    if statement.check_option:
        options["check_option"] = statement.check_option
    if options.get("check_option", "local") not in ("local", "cascaded"):
        raise SqlError(
            'invalid value for enum option "check_option": ' + options["check_option"],
            sqlstate="22023",
            detail='Valid values are "local" and "cascaded".',
        )
    return {**options, "search_path": session.view().path_text()}


def _require_updatable(session: Session, view: TableDesc) -> None:
    """WITH CHECK OPTION is about new rows: raises 0A000 of a view that takes none."""
    problem = Analyzer(session).binder().view_problem(view) if "check_option" in view.options else ""
    if problem:
        text = "WITH CHECK OPTION is supported only on automatically updatable views"
        raise FeatureNotSupported(text, hint=problem)


async def _schema(session: Session, statement: ast.CreateView, depends_on: tuple[int, ...]) -> SchemaDesc:
    """Where the view goes: what reads something temporary is temporary itself."""
    name = statement.name
    read = [session.state().table_by_id(id) for id in depends_on]
    schema = await creation_schema(session, name, statement.is_temporary)
    if not schema.name.startswith(PREFIX) and any(t is not None and is_temporary(session, t) for t in read):
        session.notice("NOTICE", SqlError(f'view "{name.name}" will be a temporary view', sqlstate="00000"))
        schema = await creation_schema(session, name, True)
    return schema


def _check_replacement(old: TableDesc, columns: tuple[ColumnDesc, ...]) -> None:
    """CREATE OR REPLACE may only add columns at the end."""
    if old.kind != "v":
        raise SqlError(f'"{old.name}" is not a view', sqlstate="42809")
    if len(columns) < len(old.columns):
        raise SqlError("cannot drop columns from view", sqlstate="42P16")
    for before, after in zip(old.columns, columns):
        if before.name != after.name:
            raise SqlError(
                f'cannot change name of view column "{before.name}" to "{after.name}"',
                sqlstate="42P16",
                hint="Use ALTER VIEW ... RENAME COLUMN ... to change name of view column instead.",
            )
        if (before.type_oid, before.typmod) != (after.type_oid, after.typmod):
            raise SqlError(f'cannot change data type of view column "{before.name}"', sqlstate="42P16")
