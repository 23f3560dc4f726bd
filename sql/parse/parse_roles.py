"""Roles and privileges."""

from __future__ import annotations

from typing import Final

from base.errors import error
from sql.parse.cursor import Cursor
from sql.parse.keywords import RESERVED
from sql.parse.parse_session import reset_variable, set_variable
from sql.parse.statements import (
    AlterDefaultPrivileges,
    AlterRole,
    AnyStatement,
    CreateRole,
    Grant,
    GrantRole,
    Name,
    RoleOptions,
)

_FLAGS: Final[dict[str, tuple[str, bool]]] = {
    "login": ("login", True), "nologin": ("login", False), "superuser": ("superuser", True), "nosuperuser": ("superuser", False),
    "createdb": ("create_db", True), "nocreatedb": ("create_db", False), "createrole": ("create_role", True),
    "nocreaterole": ("create_role", False), "inherit": ("inherit", True), "noinherit": ("inherit", False),
    "replication": ("replication", True), "noreplication": ("replication", False), "bypassrls": ("bypass_rls", True),
    "nobypassrls": ("bypass_rls", False),
}  # fmt: skip
_PRIVILEGES: Final = (
    "select", "insert", "update", "delete", "truncate", "references", "trigger", "usage", "create", "connect", "temporary", "temp",
    "execute", "set",
)  # fmt: skip
_OBJECTS: Final = ("table", "sequence", "database", "schema", "type", "domain", "language", "tablespace", "function", "procedure", "routine")  # fmt: skip


def role_name(cursor: Cursor) -> str:
    """A role: a name, or CURRENT_USER, SESSION_USER, CURRENT_ROLE."""
    if cursor.is_any(RESERVED) and not cursor.is_any(("current_user", "session_user", "current_role")):
        raise cursor.syntax_error()
    return cursor.any_label()


def role_names(cursor: Cursor) -> tuple[str, ...]:
    names = [role_name(cursor)]
    while cursor.accept_punct(","):
        names.append(role_name(cursor))
    return tuple(names)


# --- roles --------------------------------------------------------------------------------------


def parse_create_role(cursor: Cursor) -> CreateRole:
    """CREATE ROLE | USER name [WITH] options, from the word after CREATE."""
    is_user = cursor.advance().text == "user"
    exists = cursor.accept("if", "not", "exists")
    name = role_name(cursor)
    cursor.accept("with")
    return CreateRole(name, _options(cursor), is_user, exists)


def _options(cursor: Cursor) -> RoleOptions:
    found = RoleOptions()
    while not cursor.at_end:
        word = cursor.peek().text
        if word in _FLAGS:
            cursor.advance()
            name, value = _FLAGS[word]
            if getattr(found, name) is not None:
                raise error("42601", "conflicting or redundant options", position=cursor.peek(-1).start + 1)
            setattr(found, name, value)
        else:
            _option(cursor, found)
    return found


def _option(cursor: Cursor, found: RoleOptions) -> None:
    if cursor.is_word("encrypted", "password") or cursor.is_word("password"):
        cursor.accept("encrypted")
        cursor.advance()
        if cursor.accept("null"):
            found.password_null = True
        else:
            found.password = cursor.string()
    elif cursor.accept("connection", "limit"):
        found.connection_limit = cursor.number()
    elif cursor.accept("valid", "until"):
        found.valid_until = cursor.string()
    elif cursor.accept("in", "role") or cursor.accept("in", "group"):
        found.in_roles = role_names(cursor)
    elif cursor.accept("role") or cursor.accept("user"):
        found.roles = role_names(cursor)
    elif cursor.accept("admin"):
        found.admins = role_names(cursor)
    elif cursor.accept("sysid"):
        cursor.number()
    else:
        raise cursor.syntax_error()


def parse_alter_role(cursor: Cursor) -> AlterRole:
    """ALTER ROLE | USER, from the word after ALTER."""
    cursor.advance()
    cursor.accept("if", "exists")
    name = "" if cursor.accept("all") else role_name(cursor)
    if cursor.accept("rename", "to"):
        return AlterRole(name, new_name=role_name(cursor))
    database = cursor.name() if cursor.accept("in", "database") else None
    if cursor.accept("set"):
        return AlterRole(name, setting=set_variable(cursor, False), database=database)
    if cursor.is_word("reset"):
        return AlterRole(name, setting=reset_variable(cursor), database=database)
    cursor.accept("with")
    return AlterRole(name, _options(cursor))


# --- privileges ---------------------------------------------------------------------------------


def parse_grant(cursor: Cursor) -> AnyStatement:
    """GRANT or REVOKE, of privileges or of roles."""
    is_grant = cursor.advance().text == "grant"
    option = False
    if not is_grant:
        option = cursor.accept("grant", "option", "for")
        if not option and cursor.accept("admin", "option", "for"):
            return _grant_role(cursor, is_grant, True)
    if cursor.is_any((*_PRIVILEGES, "all")) and _is_privilege_list(cursor):
        return _grant_privileges(cursor, is_grant, option)
    return _grant_role(cursor, is_grant, False)


def _is_privilege_list(cursor: Cursor) -> bool:
    """Privileges are followed by ON before TO or FROM."""
    ahead = 0
    while not (cursor.peek(ahead).text in ("on", "to", "from") and cursor.peek(ahead).kind == 0):
        if cursor.index + ahead >= cursor.stop:
            return True
        ahead += 1
    return cursor.peek(ahead).text == "on"


def _grant_role(cursor: Cursor, is_grant: bool, admin: bool) -> GrantRole:
    roles = role_names(cursor)
    cursor.expect("to" if is_grant else "from")
    found = GrantRole(is_grant, roles, role_names(cursor), admin)
    if is_grant and cursor.accept("with", "admin", "option"):
        found.admin_option = True
    _granted_by(cursor)
    found.cascade = not is_grant and cursor.accept_any("cascade", "restrict") == "cascade"
    return found


def _granted_by(cursor: Cursor) -> None:
    if cursor.accept("granted", "by"):
        role_name(cursor)


def _grant_privileges(cursor: Cursor, is_grant: bool, option: bool) -> Grant:
    privileges = _privileges(cursor)
    cursor.expect("on")
    kind, names = _objects(cursor)
    found = Grant(is_grant, privileges, kind, names, (), option)
    _grantees(cursor, found)
    return found


def _grantees(cursor: Cursor, found: Grant) -> None:
    cursor.expect("to" if found.is_grant else "from")
    cursor.accept("group")
    found.grantees = role_names(cursor)
    if found.is_grant and cursor.accept("with", "grant", "option"):
        found.grant_option = True
    _granted_by(cursor)
    if not found.is_grant:
        found.cascade = cursor.accept_any("cascade", "restrict") == "cascade"


def _privileges(cursor: Cursor) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if cursor.accept("all"):
        cursor.accept("privileges")
        return (("all", cursor.wrapped_names()),) if cursor.is_punct("(") else ()
    found: list[tuple[str, tuple[str, ...]]] = []
    while True:
        word = cursor.accept_any(*_PRIVILEGES)
        if word is None:
            raise cursor.syntax_error()
        columns = cursor.wrapped_names() if cursor.is_punct("(") else ()
        found.append(("temporary" if word == "temp" else word, columns))
        if not cursor.accept_punct(","):
            return tuple(found)


def _objects(cursor: Cursor) -> tuple[str, tuple[Name, ...]]:
    if cursor.accept("all"):
        what = cursor.accept_any("tables", "sequences", "functions", "procedures", "routines")
        if what is None:
            raise cursor.syntax_error()
        cursor.expect("in", "schema")
        return f"all {what} in schema", tuple(Name(name) for name in cursor.name_list())
    if cursor.is_word("foreign") or cursor.is_word("large", "object") or cursor.is_word("parameter"):
        raise cursor.unsupported(f"privileges on {cursor.peek().text.upper()}")
    kind = cursor.accept_any(*_OBJECTS) or "table"
    if kind in ("function", "procedure", "routine"):
        names = [_function(cursor)]
        while cursor.accept_punct(","):
            names.append(_function(cursor))
        return kind, tuple(names)
    return kind, cursor.qualified_list()


def _function(cursor: Cursor) -> Name:
    name = cursor.qualified()
    if cursor.is_punct("("):
        cursor.skip_group()
    return name


def parse_alter_default_privileges(cursor: Cursor) -> AlterDefaultPrivileges:
    """ALTER DEFAULT PRIVILEGES [FOR ROLE ..] [IN SCHEMA ..] GRANT | REVOKE ..."""
    cursor.expect("default", "privileges")
    roles: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()
    while True:
        if cursor.accept("for", "role") or cursor.accept("for", "user"):
            roles = role_names(cursor)
        elif cursor.accept("in", "schema"):
            schemas = cursor.name_list()
        else:
            break
    word = cursor.accept_any("grant", "revoke")
    if word is None:
        raise cursor.syntax_error()
    option = word == "revoke" and cursor.accept("grant", "option", "for")
    privileges = _privileges(cursor)
    cursor.expect("on")
    kind = cursor.accept_any("tables", "sequences", "functions", "routines", "types", "schemas")
    if kind is None:
        raise cursor.syntax_error()
    grant = Grant(word == "grant", privileges, kind, (), (), option)
    _grantees(cursor, grant)
    return AlterDefaultPrivileges(roles, schemas, grant)
