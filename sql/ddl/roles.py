"""Roles and privileges: CREATE, ALTER, DROP ROLE; GRANT, REVOKE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from base.errors import FeatureNotSupported, SqlError
from planner.schema import DatabaseDesc, SchemaDesc, TableDesc, TypeDesc
from sql.catalog.state import RoleDesc
from sql.commands import handles
from sql.parse import statements as ast
from sql.passwords import scram_secret_of
from sql.privilegewords import ALL_LETTERS, LETTERS

if TYPE_CHECKING:
    from sql.portals import QueryPortal
    from sql.session import Session


def role_named(session: Session, name: str) -> RoleDesc:
    """Raises 42704."""
    if name in ("current_user", "current_role"):
        name = session.user
    elif name == "session_user":
        name = session.login_user
    role = session.state().roles.get(name)
    if role is None:
        raise SqlError(f'role "{name}" does not exist', sqlstate="42704")
    return role


def _require_create_role(session: Session, what: str) -> None:
    role = session.state().roles[session.user]
    if not (role.superuser or role.create_role):
        raise SqlError(f"permission denied to {what} role", sqlstate="42501")


def _with_options(session: Session, role: RoleDesc, options: ast.RoleOptions) -> RoleDesc:
    changes: dict[str, Any] = {}
    fields = {
        "can_login": options.login, "superuser": options.superuser, "create_db": options.create_db, "create_role": options.create_role,
        "inherit": options.inherit, "replication": options.replication, "bypass_rls": options.bypass_rls,
        "connection_limit": options.connection_limit, "valid_until": options.valid_until,
    }  # fmt: skip
    changes.update({name: value for name, value in fields.items() if value is not None})
    if (options.superuser or options.bypass_rls or options.replication) and not session.state().is_superuser(
        session.user
    ):
        raise SqlError("must be superuser to create superusers", sqlstate="42501")
    if options.password_null:
        changes["secret"] = ""
    elif options.password is not None:
        changes["secret"] = scram_secret_of(options.password, session.server.rng)
    return msgspec.structs.replace(role, **changes)


@handles(ast.CreateRole)
async def create_role(session: Session, statement: ast.CreateRole, portal: QueryPortal) -> None:
    _require_create_role(session, "create")
    name = statement.name
    if name in session.state().roles:
        if not statement.if_not_exists:
            raise SqlError(f'role "{name}" already exists', sqlstate="42710")
        session.notice("NOTICE", SqlError(f'role "{name}" already exists, skipping', sqlstate="42710"))
        session.sink.complete("CREATE ROLE")
        return
    if name in ("public", "none") or name.startswith("pg_"):
        raise SqlError(f'role name "{name}" is reserved', sqlstate="42939")
    draft = session.block.ddl()
    role = RoleDesc(name=name, oid=await draft.new_id(), can_login=statement.is_user)
    role = _with_options(session, role, statement.options)
    member_of = tuple(role_named(session, other).name for other in statement.options.in_roles)
    await draft.put_role(msgspec.structs.replace(role, member_of=member_of))
    for member in (*statement.options.roles, *statement.options.admins):
        await _add_member(session, name, member)
    session.sink.complete("CREATE ROLE")


@handles(ast.AlterRole)
async def alter_role(session: Session, statement: ast.AlterRole, portal: QueryPortal) -> None:
    from sql.ddl.databases import changed_settings

    if not statement.name or statement.database is not None:
        raise FeatureNotSupported("ALTER ROLE ALL and IN DATABASE are not supported")
    role = role_named(session, statement.name)
    own_password = (
        role.name == session.user and statement.options is not None and statement.options.password is not None
    )
    if not own_password:
        _require_create_role(session, "alter")
    if role.superuser and not session.state().is_superuser(session.user):
        raise SqlError("must be superuser to alter superuser roles or change superuser attribute", sqlstate="42501")
    draft = session.block.ddl()
    if statement.new_name is not None:
        if statement.new_name in session.state().roles:
            raise SqlError(f'role "{statement.new_name}" already exists', sqlstate="42710")
        await _rename_references(session, role.name, statement.new_name)
        await draft.drop_role(role.name)
        role = msgspec.structs.replace(role, name=statement.new_name)
    if statement.setting is not None:
        role = msgspec.structs.replace(role, settings=changed_settings(role.settings, statement.setting))
    if statement.options is not None:
        role = _with_options(session, role, statement.options)
    await draft.put_role(role)
    session.sink.complete("ALTER ROLE")


async def _rename_references(session: Session, old: str, new: str) -> None:
    """Owners, grantees and memberships name roles."""
    draft = session.block.ddl()
    for desc in list(session.state().by_id.values()):
        changes: dict[str, Any] = {"owner": new} if desc.owner == old else {}
        privileges = () if isinstance(desc, TypeDesc) else desc.privileges
        if old in dict(privileges):
            changes["privileges"] = tuple((new if name == old else name, letters) for name, letters in privileges)
        if changes:
            await draft.put(msgspec.structs.replace(desc, version=desc.version + 1, **changes))
    for role in list(session.state().roles.values()):
        if old in role.member_of:
            member_of = tuple(new if name == old else name for name in role.member_of)
            await draft.put_role(msgspec.structs.replace(role, member_of=member_of))


def _owned(session: Session, role: str) -> list[str]:
    lines = []
    for desc in session.state().by_id.values():
        if getattr(desc, "owner", None) == role:
            kind = {"DatabaseDesc": "database", "SchemaDesc": "schema", "TypeDesc": "type"}.get(
                type(desc).__name__, "table"
            )
            lines.append(f"owner of {kind} {desc.name}")
        elif role in dict(getattr(desc, "privileges", ())):
            lines.append(f"privileges for {desc.name}")
    return lines


@handles(ast.DropRole)
async def drop_role(session: Session, statement: ast.DropRole, portal: QueryPortal) -> None:
    _require_create_role(session, "drop")
    for name in statement.names:
        if name not in session.state().roles:
            if not statement.if_exists:
                raise SqlError(f'role "{name}" does not exist', sqlstate="42704")
            session.notice("NOTICE", SqlError(f'role "{name}" does not exist, skipping', sqlstate="00000"))
            continue
        if name in (session.user, session.login_user):
            raise SqlError("current user cannot be dropped", sqlstate="55006")
        owned = _owned(session, name)
        if owned:
            raise SqlError(
                f'role "{name}" cannot be dropped because some objects depend on it',
                sqlstate="2BP01",
                detail="\n".join(owned),
            )
        for other in list(session.state().roles.values()):
            if name in other.member_of:
                kept = tuple(r for r in other.member_of if r != name)
                await session.block.ddl().put_role(msgspec.structs.replace(other, member_of=kept))
        await session.block.ddl().drop_role(name)
    session.sink.complete("DROP ROLE")


async def _add_member(session: Session, role: str, member: str) -> None:
    desc = role_named(session, member)
    if desc.name in session.state().roles_of(role):
        raise SqlError(f'role "{role}" is a member of role "{desc.name}"', sqlstate="0LP01")
    if role not in desc.member_of:
        await session.block.ddl().put_role(msgspec.structs.replace(desc, member_of=(*desc.member_of, role)))


@handles(ast.GrantRole)
async def grant_role(session: Session, statement: ast.GrantRole, portal: QueryPortal) -> None:
    _require_create_role(session, "grant")
    for name in statement.roles:
        role = role_named(session, name)
        for member in statement.members:
            if statement.is_grant:
                await _add_member(session, role.name, member)
            else:
                desc = role_named(session, member)
                kept = tuple(r for r in desc.member_of if r != role.name)
                await session.block.ddl().put_role(msgspec.structs.replace(desc, member_of=kept))
    session.sink.complete("GRANT ROLE" if statement.is_grant else "REVOKE ROLE")


@handles(ast.Grant)
async def grant(session: Session, statement: ast.Grant, portal: QueryPortal) -> None:
    for desc, kind in _grant_targets(session, statement):
        session.view().require_owner(kind, desc.name, desc.owner)
        letters = _letters(statement, kind)
        granted = dict(desc.privileges)
        for grantee in statement.grantees:
            name = grantee if grantee == "public" else role_named(session, grantee).name
            have = granted.get(name, "")
            after = (
                "".join(dict.fromkeys(have + letters))
                if statement.is_grant
                else "".join(c for c in have if c not in letters)
            )
            if after:
                granted[name] = after
            else:
                granted.pop(name, None)
        changed = msgspec.structs.replace(desc, version=desc.version + 1, privileges=tuple(granted.items()))
        await session.block.ddl().put(changed)
    session.sink.complete("GRANT" if statement.is_grant else "REVOKE")


def _letters(statement: ast.Grant, kind: str) -> str:
    everything = ALL_LETTERS[kind]
    if not statement.privileges:
        return everything
    letters = ""
    for word, columns in statement.privileges:
        if columns:
            raise FeatureNotSupported("column privileges are not supported yet")
        letter = LETTERS.get(word.lower())
        if letter is None or letter not in everything:
            raise SqlError(f"invalid privilege type {word.upper()} for {kind}", sqlstate="0LP01")
        letters += letter
    return letters


def _grant_targets(session: Session, statement: ast.Grant) -> list[tuple[TableDesc | SchemaDesc | DatabaseDesc, str]]:
    view = session.view()
    if statement.kind == "schema":
        return [(view.schema(name.name), "schema") for name in statement.names]
    if statement.kind == "database":
        return [(view.database(name.name), "database") for name in statement.names]
    if statement.kind in ("table", "sequence"):
        targets = []
        for name in statement.names:
            desc = view.relation(name)
            assert desc is not None
            targets.append((desc, "sequence" if desc.kind == "S" else "table"))
        return targets  # type: ignore[return-value]  # list of the wider pair
    if statement.kind in ("all tables in schema", "all sequences in schema"):
        wanted = "S" if "sequences" in statement.kind else "rv"
        schemas = {view.schema(name.name).id for name in statement.names}
        tables = session.state().tables(session.database_id)
        return [
            (t, "sequence" if t.kind == "S" else "table") for t in tables if t.schema_id in schemas and t.kind in wanted
        ]
    if statement.kind in ("function", "type", "language", "all functions in schema", "procedure", "routine"):
        return []
    raise FeatureNotSupported(f"GRANT ON {statement.kind.upper()} is not supported")


@handles(ast.AlterDefaultPrivileges)
async def alter_default_privileges(
    session: Session, statement: ast.AlterDefaultPrivileges, portal: QueryPortal
) -> None:
    raise FeatureNotSupported("ALTER DEFAULT PRIVILEGES is not supported yet")


@handles(ast.ReassignOwned)
async def reassign_owned(session: Session, statement: ast.ReassignOwned, portal: QueryPortal) -> None:
    if statement.target is None:
        raise FeatureNotSupported("DROP OWNED is not supported yet")
    target = role_named(session, statement.target).name
    sources = {role_named(session, name).name for name in statement.roles}
    for desc in list(session.state().by_id.values()):
        if desc.owner in sources:
            await session.block.ddl().put(msgspec.structs.replace(desc, version=desc.version + 1, owner=target))
    session.sink.complete("REASSIGN OWNED")
