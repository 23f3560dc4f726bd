"""SET, SHOW, RESET, DISCARD."""

from __future__ import annotations

from typing import TYPE_CHECKING

from base.errors import FeatureNotSupported, SqlError
from base.types import TEXT
from sql.api import ResultColumn
from sql.commands import handles, send_rows, text_columns
from sql.parse import statements as ast
from sql.settings import BY_NAME, canonical
from sql.temporary import drop_own

if TYPE_CHECKING:
    from sql.portals import QueryPortal
    from sql.session import Session

LIST_PARAMETERS = ("search_path", "datestyle", "temp_tablespaces", "session_preload_libraries")


def _quoted(value: str) -> str:
    if (
        value
        and value == value.lower()
        and value.replace("_", "a").replace("$", "a").isalnum()
        and not value[0].isdigit()
    ):
        return value
    return '"' + value.replace('"', '""') + '"'


def value_text(statement: ast.SetVariable) -> str:
    """Joins the parts of SET x TO a, b as the parameter stores them."""
    assert statement.values is not None
    name = canonical(statement.name)
    if name == "search_path":
        return ", ".join(_quoted(value) for value in statement.values)
    if len(statement.values) > 1 and name not in LIST_PARAMETERS:
        raise SqlError(f"SET {statement.name} takes only one argument", sqlstate="22023")
    return ", ".join(statement.values)


@handles(ast.SetVariable)
async def set_variable(session: Session, statement: ast.SetVariable, portal: QueryPortal) -> None:
    if statement.is_cluster:
        raise FeatureNotSupported("SET CLUSTER SETTING is not supported yet")
    name = canonical(statement.name)
    if statement.is_local and not session.is_in_block:
        session.notice("WARNING", SqlError("SET LOCAL can only be used in transaction blocks", sqlstate="25P01"))
        session.sink.complete("SET")
        return
    if name in ("role", "session_authorization"):
        _set_role(session, name, statement)
    elif statement.values is None:
        session.settings.reset(name)
        session.apply_settings()
    else:
        session.set_parameter(name, value_text(statement), statement.is_local)
    session.sink.complete("SET")


def _set_role(session: Session, name: str, statement: ast.SetVariable) -> None:
    role = statement.values[0] if statement.values else "none"
    if role in ("none", "default"):
        role = session.login_user
    state = session.state()
    if role not in state.roles:
        raise SqlError(f'role "{role}" does not exist', sqlstate="22023")
    allowed = state.is_superuser(session.login_user) or (name == "role" and role in state.roles_of(session.login_user))
    if not allowed:
        raise SqlError(
            f'permission denied to set {"role" if name == "role" else "session authorization"} "{role}"',
            sqlstate="42501",
        )
    session.user = session.context.user = role
    if name == "session_authorization":
        session.context.session_user = role
        session.settings.set("session_authorization", role, force=True)
    session.settings.set("role", "none" if role == session.login_user else role)
    session.settings.set("is_superuser", "on" if state.is_superuser(role) else "off", force=True)
    session.forget_view()


@handles(ast.ResetVariable)
async def reset_variable(session: Session, statement: ast.ResetVariable, portal: QueryPortal) -> None:
    name = canonical(statement.name)
    if name == "all":
        session.settings.reset_all()
    elif name in ("role", "session_authorization"):
        _set_role(session, name, ast.SetVariable(name, None))
    else:
        session.settings.reset(name)
    session.apply_settings()
    session.sink.complete("RESET")


def _show_columns(session: Session, statement: ast.ShowVariable) -> tuple[ResultColumn, ...]:
    if statement.name == "all":
        return text_columns("name", "setting", "description")
    parameter = BY_NAME.get(canonical(statement.name))
    return (ResultColumn(parameter.name if parameter is not None else statement.name, TEXT),)


@handles(ast.ShowVariable, _show_columns)
async def show_variable(session: Session, statement: ast.ShowVariable, portal: QueryPortal) -> None:
    columns = _show_columns(session, statement)
    if statement.name == "all":
        send_rows(session, portal, columns, list(session.settings.all()))
    else:
        value = session.setting(statement.name)
        if value is None:
            raise SqlError(f'unrecognized configuration parameter "{statement.name}"', sqlstate="42704")
        send_rows(session, portal, columns, [(value,)])
    session.sink.complete("SHOW")


@handles(ast.Discard)
async def discard(session: Session, statement: ast.Discard, portal: QueryPortal) -> None:
    what = statement.what
    if what in ("all", "temp", "temporary"):
        await drop_own(session)
    if what == "all":
        if session.is_in_block:
            raise SqlError("DISCARD ALL cannot run inside a transaction block", sqlstate="25001")
        for name in list(session.portals):
            if session.portals[name] is not portal:
                session.close_portal(name)
        session.statements.clear()
        session.settings.reset_all()
        session.apply_settings()
        session.server.notifications.unlisten(session, None)
        session.server.advisory_locks.release_session(session)
    if what in ("all", "sequences"):
        session.context.currvals.clear()
    session.sink.complete(f"DISCARD {what.upper()}")
