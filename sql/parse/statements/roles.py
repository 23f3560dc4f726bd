"""Roles and their privileges."""

from __future__ import annotations

from dataclasses import dataclass

from sql.parse.statements.names import Name
from sql.parse.statements.sessions import ResetVariable, SetVariable


@dataclass(slots=True)
class RoleOptions:
    """None means not given."""

    login: bool | None = None
    superuser: bool | None = None
    create_db: bool | None = None
    create_role: bool | None = None
    inherit: bool | None = None
    replication: bool | None = None
    bypass_rls: bool | None = None
    connection_limit: int | None = None
    password: str | None = None
    password_null: bool = False
    valid_until: str | None = None
    in_roles: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    admins: tuple[str, ...] = ()


@dataclass(slots=True)
class CreateRole:
    name: str
    options: RoleOptions
    is_user: bool = False
    if_not_exists: bool = False


@dataclass(slots=True)
class AlterRole:
    name: str
    """"" is ALL; current_user, session_user, current_role are kept as words."""
    options: RoleOptions | None = None
    new_name: str | None = None
    setting: SetVariable | ResetVariable | None = None
    database: str | None = None


@dataclass(slots=True)
class DropRole:
    names: tuple[str, ...]
    if_exists: bool = False


@dataclass(slots=True)
class GrantRole:
    """Role membership; ``is_grant`` False revokes."""

    is_grant: bool
    roles: tuple[str, ...]
    members: tuple[str, ...]
    admin_option: bool = False
    cascade: bool = False


@dataclass(slots=True)
class Grant:
    """Privileges on objects; ``is_grant`` False revokes.  ``privileges`` empty is ALL; each is (word, columns).

    ``kind``: table, sequence, schema, database, function, type, language..., or "all tables in schema" and so on.
    ``grantees``: "public" is PUBLIC.
    """

    is_grant: bool
    privileges: tuple[tuple[str, tuple[str, ...]], ...]
    kind: str
    names: tuple[Name, ...]
    grantees: tuple[str, ...]
    grant_option: bool = False
    cascade: bool = False


@dataclass(slots=True)
class AlterDefaultPrivileges:
    roles: tuple[str, ...]
    schemas: tuple[str, ...]
    grant: Grant


@dataclass(slots=True)
class ReassignOwned:
    """REASSIGN OWNED BY roles TO target; DROP OWNED BY roles with target None."""

    roles: tuple[str, ...]
    target: str | None
    cascade: bool = False
