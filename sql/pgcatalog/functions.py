"""Functions that ask the catalog or the session: pg_get_*, *_is_visible, has_*_privilege, advisory locks..."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from base.errors import SqlError
from planner.context import ExecContext, NeedsAwait
from planner.functions.declare import define
from planner.functions.registry import STABLE, VOLATILE, Registry
from planner.schema import IndexDesc, TableDesc
from sql.pgcatalog import builtin, deparse, oids
from sql.pgcatalog.quoting import quote_identifier
from sql.pgcatalog.storedtext import pretty_text, updatable_names
from sql.pgcatalog.tables import constraint_oid
from sql.privilegewords import LETTERS
from sql.regions.topology import own_database, region_of
from sql.regnames import REGCLASS, REGNAMESPACE, REGPROC, REGROLE, REGTYPE
from sql.temporary import ALIAS, PREFIX

if TYPE_CHECKING:
    from sql.session import Session
    from sql.view import SessionView

WRITABLE: Final = 4 | 8 | 16
"""Bits of UPDATE, INSERT, DELETE by their numbers as commands."""
MERIDIAN_VERSION = "0.1.0"


def _session(ctx: ExecContext) -> Session:
    return ctx.session  # type: ignore[attr-defined, no-any-return]  # sessions hand in a SessionContext


def _index_by_oid(view: SessionView, oid: int) -> tuple[TableDesc, IndexDesc] | None:
    for table in view.state.tables(view.database_id):
        for index in table.indexes:
            if index.oid == oid and oid:
                return table, index
    return None


# --- definitions -------------------------------------------------------------------


def pg_get_indexdef(ctx: ExecContext, oid: int, column: int = 0, pretty: bool = False) -> str | None:
    view = ctx.catalog()
    found = _index_by_oid(view, oid)
    if found is None:
        return None
    table, index = found
    if column == 0:
        return deparse.index_definition(view, table, index, pretty)
    keys = [deparse.index_key(view, table, c, False, pretty) for c in index.named]
    keys += [quote_identifier(deparse.column_name(table, id)) for id in index.include]
    return keys[column - 1] if 0 < column <= len(keys) else ""


def pg_get_constraintdef(ctx: ExecContext, oid: int, pretty: bool = False) -> str | None:
    view = ctx.catalog()
    for table in view.state.tables(view.database_id):
        for index in table.indexes:
            if index.constraint and constraint_oid(index.oid) == oid:
                return deparse.key_definition(table, index)
        for check in table.checks:
            if check.oid == oid:
                return deparse.check_definition(view, table, check, pretty)
        for key in table.foreign_keys:
            if key.oid == oid:
                return deparse.foreign_key_definition(view, table, key)
    return None


def pg_get_expr(ctx: ExecContext, text: str, relation: int, pretty: bool = False) -> str:
    """The catalogs hold expressions as their plain text; pretty text is made of that."""
    view = ctx.catalog()
    table = view.table_by_id(relation) if pretty and relation else None
    return text if table is None else pretty_text(view, table, text)


def _view_text(ctx: ExecContext, table: TableDesc | None) -> str | None:
    if table is None or table.kind not in ("v", "m"):
        return None
    text = deparse.view_query(ctx.catalog(), _session(ctx).server.registry, table)
    return " " + text.strip().rstrip(";") + ";"


def pg_relation_is_updatable(ctx: ExecContext, oid: int, with_triggers: bool) -> int:
    """A bit for UPDATE, INSERT and DELETE each."""
    view = ctx.catalog()
    table = view.table_by_id(oid)
    return WRITABLE if table is not None and updatable_names(view, table) else 0


def pg_column_is_updatable(ctx: ExecContext, oid: int, attnum: int, with_triggers: bool) -> bool:
    view = ctx.catalog()
    table = view.table_by_id(oid)
    if table is None:
        return False
    names = updatable_names(view, table)
    return any(column.id == attnum and column.name in names for column in table.columns)


def pg_get_viewdef(ctx: ExecContext, oid: int, pretty: Any = False) -> str | None:
    return _view_text(ctx, ctx.catalog().table_by_id(oid))


def pg_get_viewdef_named(ctx: ExecContext, name: str, pretty: bool = False) -> str | None:
    oid = _session(ctx).regs.oid_of(REGCLASS, name)
    return _view_text(ctx, ctx.catalog().table_by_id(oid))


def pg_get_ruledef(ctx: ExecContext, oid: int, pretty: bool = False) -> str | None:
    return None


def pg_get_serial_sequence(ctx: ExecContext, relation: str, column: str) -> str | None:
    view = ctx.catalog()
    table = view.table_by_id(_session(ctx).regs.oid_of(REGCLASS, relation))
    for candidate in table.columns if table is not None else ():
        if candidate.name == column:
            sequence = view.table_by_id(candidate.sequence_id) if candidate.sequence_id else None
            return deparse.qualified_name(view, sequence) if sequence is not None else None
    raise SqlError(f'column "{column}" of relation "{relation}" does not exist', sqlstate="42703")


def pg_get_userbyid(ctx: ExecContext, oid: int) -> str:
    for role in ctx.catalog().state.roles.values():
        if role.oid == oid:
            return role.name  # type: ignore[no-any-return]  # a RoleDesc
    return f"unknown (OID={oid})"


def _proc(oid: int) -> dict[str, Any] | None:
    row = builtin.by_oid("pg_catalog.pg_proc").get(oid)
    names = [column[0] for column in builtin.shape("pg_catalog.pg_proc").columns]
    return None if row is None else dict(zip(names, row))


def pg_get_function_result(ctx: ExecContext, oid: int) -> str | None:
    proc = _proc(oid)
    if proc is None:
        return None
    prefix = "SETOF " if proc["proretset"] else ""
    return prefix + deparse.format_type(ctx.catalog(), proc["prorettype"], -1)


def pg_get_function_arguments(ctx: ExecContext, oid: int) -> str | None:
    proc = _proc(oid)
    if proc is None:
        return None
    view = ctx.catalog()
    types = proc["proallargtypes"] or proc["proargtypes"]
    names = proc["proargnames"] or ()
    modes = proc["proargmodes"] or ()
    words = {"o": "OUT ", "b": "INOUT ", "v": "VARIADIC "}
    parts = []
    for i, oid_of_type in enumerate(types):
        mode = modes[i] if i < len(modes) else "i"
        if mode == "t":
            continue
        name = f"{names[i]} " if i < len(names) and names[i] else ""
        parts.append(words.get(mode, "") + name + deparse.format_type(view, oid_of_type, -1))
    return ", ".join(parts)


def pg_get_functiondef(ctx: ExecContext, oid: int) -> str | None:
    return None


# --- comments ----------------------------------------------------------------------


def obj_description(ctx: ExecContext, oid: int, catalog: str = "pg_class") -> str | None:
    from sql.pgcatalog.tables import pg_description

    class_oid = builtin.shape(f"pg_catalog.{catalog}").oid if f"pg_catalog.{catalog}" in builtin.relation_names() else 0
    for row in pg_description(ctx.catalog()):
        if row["objoid"] == oid and row["classoid"] == class_oid and row["objsubid"] == 0:
            return str(row["description"])
    return builtin.descriptions().get((oid, class_oid))


def col_description(ctx: ExecContext, oid: int, column: int) -> str | None:
    table = ctx.catalog().table_by_id(oid)
    for candidate in table.columns if table is not None else ():
        if candidate.id == column:
            return candidate.comment or None
    return None


def shobj_description(ctx: ExecContext, oid: int, catalog: str) -> str | None:
    from sql.pgcatalog.tables import pg_shdescription

    class_oid = builtin.shape(f"pg_catalog.{catalog}").oid
    return next(
        (
            r["description"]
            for r in pg_shdescription(ctx.catalog())
            if r["objoid"] == oid and r["classoid"] == class_oid
        ),
        None,
    )


# --- visibility, names -------------------------------------------------------------


def pg_table_is_visible(ctx: ExecContext, oid: int) -> bool | None:
    view = ctx.catalog()
    table = view.table_by_id(oid)
    if table is not None:
        return bool(view.is_visible(table))
    found = _index_by_oid(view, oid)
    if found is not None:
        return view.schema_name(found[0].schema_id) in view.effective_path()
    for qualified in builtin.relation_names():
        if builtin.shape(qualified).oid == oid:
            return qualified.split(".")[0] in view.effective_path()
    return None


def pg_type_is_visible(ctx: ExecContext, oid: int) -> bool | None:
    view = ctx.catalog()
    pg_type = view.state.type_by_oid(oid)
    if pg_type is None:
        return _other_type_visible(view, oid)
    found = view.find_type((pg_type.name,))
    return found is not None and found.oid == oid


def _other_type_visible(view: SessionView, oid: int) -> bool | None:
    """Of row types, and of built-in types that have no datums here."""
    for base in (oids.ROW_ARRAY_BASE, oids.ROW_TYPE_BASE):
        table = view.table_by_id(oid - base) if oid > base else None
        if table is not None:
            return bool(view.is_visible(table))
    return True if builtin.type_text(oid) is not None else None


def _builtin_visible(ctx: ExecContext, oid: int) -> bool:
    return True


def to_reg(type_oid: int) -> Callable[[ExecContext, str], int | None]:
    def find(ctx: ExecContext, name: str) -> int | None:
        try:
            return _session(ctx).regs.find(type_oid, name)
        except SqlError:
            return None

    return find


def format_type(ctx: ExecContext, oid: int | None, typmod: int | None) -> str | None:
    return None if oid is None else deparse.format_type(ctx.catalog(), oid, -1 if typmod is None else typmod)


def current_schema(ctx: ExecContext) -> str | None:
    path = ctx.catalog().effective_path(with_implicit=False)
    return path[0] if path else None


def current_schemas(ctx: ExecContext, with_implicit: bool) -> tuple[str, ...]:
    return ctx.catalog().effective_path(with_implicit)  # type: ignore[no-any-return]  # names


def version(ctx: ExecContext) -> str:
    return f"PostgreSQL 15.8 (MeridianDB {MERIDIAN_VERSION}) on python"


def pg_get_keywords(ctx: ExecContext) -> Iterator[tuple[Any, ...]]:
    for word, code, description, bare, bare_description in builtin.keywords():
        yield word, code, bare in ("t", "true"), description, bare_description


def pg_expandarray(values: tuple[Any, ...]) -> Iterator[tuple[Any, int]]:
    for i, value in enumerate(values, 1):
        yield value, i


# --- privileges --------------------------------------------------------------------


def _wanted(privilege: str, kind: str) -> list[str]:
    letters = []
    for word in privilege.split(","):
        name = word.strip().lower().removesuffix(" with grant option")
        if name not in LETTERS:
            raise SqlError(f'unrecognized privilege type: "{word.strip()}"', sqlstate="22023")
        letters.append(LETTERS[name])
    return letters


def _as_role(ctx: ExecContext, role: str | None) -> SessionView:
    return ctx.catalog()  # type: ignore[no-any-return]  # a SessionView


def has_table_privilege(ctx: ExecContext, relation: Any, privilege: str) -> bool | None:
    view = ctx.catalog()
    oid = relation if isinstance(relation, int) else _session(ctx).regs.oid_of(REGCLASS, relation)
    table = view.table_by_id(oid)
    letters = _wanted(privilege, "table")
    if table is None:
        return all(letter == "r" for letter in letters)
    return any(view.has_privilege(table.owner, table.privileges, letter) for letter in letters)


def has_table_privilege_of(ctx: ExecContext, role: Any, relation: Any, privilege: str) -> bool | None:
    return has_table_privilege(ctx, relation, privilege)


def has_schema_privilege(ctx: ExecContext, schema: Any, privilege: str) -> bool:
    view = ctx.catalog()
    name = view.schema_name(schema) if isinstance(schema, int) else schema
    letters = _wanted(privilege, "schema")
    if name in ("pg_catalog", "information_schema"):
        return all(letter == "U" for letter in letters)
    desc = view.schema(name)
    return any(view.has_privilege(desc.owner, desc.privileges, letter) for letter in letters)


def has_schema_privilege_of(ctx: ExecContext, role: Any, schema: Any, privilege: str) -> bool:
    return has_schema_privilege(ctx, schema, privilege)


def has_database_privilege(ctx: ExecContext, database: Any, privilege: str) -> bool:
    view = ctx.catalog()
    desc = view.state.by_id.get(database) if isinstance(database, int) else view.database(database)
    letters = _wanted(privilege, "database")
    return desc is not None and any(
        letter in "cT" or view.has_privilege(desc.owner, desc.privileges, letter) for letter in letters
    )


def has_database_privilege_of(ctx: ExecContext, role: Any, database: Any, privilege: str) -> bool:
    return has_database_privilege(ctx, database, privilege)


def has_any(ctx: ExecContext, *args: Any) -> bool:
    return True


def _role_name(ctx: ExecContext, role: str | int) -> str:
    """A role given by name or OID; raises 42704."""
    roles = ctx.catalog().state.roles
    for name, desc in roles.items():
        if role in (name, desc.oid):
            return str(name)
    raise SqlError(f'role "{role}" does not exist', sqlstate="42704")


def pg_has_role(ctx: ExecContext, role: str | int, privilege: str) -> bool:
    return pg_has_role_of(ctx, _session(ctx).user, role, privilege)


def pg_has_role_of(ctx: ExecContext, user: str | int, role: str | int, privilege: str) -> bool:
    state, name = ctx.catalog().state, _role_name(ctx, user)
    return state.is_superuser(name) or _role_name(ctx, role) in state.roles_of(name)


# --- sizes, sessions ---------------------------------------------------------------


def pg_relation_size(ctx: ExecContext, oid: int) -> int:
    session = _session(ctx)
    stats = session.server.catalog.stats.get(oid)
    table = session.view().table_by_id(oid)
    if stats is None or table is None:
        return 0
    width = sum(stats.columns[c.id].width if c.id in stats.columns else 8 for c in table.columns)
    return int(stats.rows * (width + 24))


def pg_database_size(ctx: ExecContext, database: Any) -> int:
    return int(_session(ctx).server.kv_bytes())


def pg_backend_pid(ctx: ExecContext) -> int:
    return _session(ctx).pid


def pg_cancel_backend(ctx: ExecContext, pid: int) -> bool:
    session = _session(ctx)
    other = session.server.sessions.get(pid)
    if other is None:
        return False
    if other.login_user != session.user and not session.view().is_superuser():
        raise SqlError("permission denied to cancel query", sqlstate="42501")
    if other is session:
        session.context.canceled = True
    else:
        other.cancel()
    return True


def pg_postmaster_start_time(ctx: ExecContext) -> int:
    return _session(ctx).server.started_us - 946_684_800_000_000


def pg_encoding_to_char(encoding: int) -> str:
    return {0: "SQL_ASCII", 6: "UTF8"}.get(encoding, "")


def pg_char_to_encoding(name: str) -> int:
    return {"sql_ascii": 0, "utf8": 6, "utf-8": 6, "unicode": 6}.get(name.lower(), -1)


def pg_listening_channels(ctx: ExecContext) -> list[str]:
    session = _session(ctx)
    return session.server.notifications.channels(session)


def pg_notify(ctx: ExecContext, channel: str, payload: str) -> str:
    from sql.notify import queue

    queue(_session(ctx).pending_notifications, channel, payload)
    return ""


def unique_rowid(ctx: ExecContext) -> int:
    return _session(ctx).server.unique_rowid()


def cluster_logical_timestamp(ctx: ExecContext) -> int:
    txn = _session(ctx).block.ensure()
    return txn.read_ts or int(_session(ctx).server.kv.now())


def cluster_timestamp(ctx: ExecContext) -> Decimal:
    """The transaction's HLC timestamp, as CockroachDB prints it: a numeric."""
    return Decimal(cluster_logical_timestamp(ctx))


def txid_current(ctx: ExecContext) -> int:
    return cluster_logical_timestamp(ctx) >> 20


# --- advisory locks ----------------------------------------------------------------


def _advisory(exclusive: bool, for_txn: bool, is_try: bool) -> Callable[..., Any]:
    def lock(ctx: ExecContext, *key: int) -> Any:
        session = _session(ctx)
        locks = session.server.advisory_locks
        full = (session.database_id, *key)
        if session.granted.pop(full, None):
            return True if is_try else ""
        if locks.try_lock(session, full, exclusive, for_txn):
            if for_txn:
                session.has_txn_advisory = True
            return True if is_try else ""
        if is_try:
            return False
        raise NeedsAwait(_wait(session, full, exclusive, for_txn))

    return lock


async def _wait(session: Session, key: tuple[int, ...], exclusive: bool, for_txn: bool) -> None:
    await session.server.advisory_locks.lock(session, key, exclusive, for_txn)
    if for_txn:
        session.has_txn_advisory = True
    session.granted[key] = True


def _advisory_unlock(exclusive: bool) -> Callable[..., bool]:
    def unlock(ctx: ExecContext, *key: int) -> bool:
        session = _session(ctx)
        if session.server.advisory_locks.unlock(session, (session.database_id, *key), exclusive):
            return True
        word = "ExclusiveLock" if exclusive else "ShareLock"
        session.notice("WARNING", SqlError(f"you don't own a lock of type {word}", sqlstate="01000"))
        return False

    return unlock


def pg_advisory_unlock_all(ctx: ExecContext) -> str:
    session = _session(ctx)
    session.server.advisory_locks.release_session(session)
    return ""


def register(registry: Registry) -> None:
    """Adds them all."""

    def add(
        signature: str, impl: Callable[..., Any], volatility: str = STABLE, strict: bool = True, context: bool = True
    ) -> None:
        name = signature.split("(")[0]
        # A family may have a general form of the same signature; the catalog's answer replaces it.
        kept = [
            f
            for f in registry.functions.get(name, [])
            if str(f) != signature.rsplit(" ", 1)[0].replace(", ", ",").replace(",", ", ")
        ]
        if name in registry.functions:
            registry.functions[name] = kept
        define(registry, signature, impl, volatility=volatility, strict=strict, needs_context=context)

    for args, impl in (("oid", pg_get_indexdef), ("oid, int4, bool", pg_get_indexdef)):
        add(f"pg_get_indexdef({args}) text", impl)
    add("pg_get_constraintdef(oid) text", pg_get_constraintdef)
    add("pg_get_constraintdef(oid, bool) text", pg_get_constraintdef)
    add("pg_get_expr(pg_node_tree, oid) text", pg_get_expr)
    add("pg_get_expr(pg_node_tree, oid, bool) text", pg_get_expr)
    add("pg_get_viewdef(oid) text", pg_get_viewdef)
    add("pg_get_viewdef(oid, bool) text", pg_get_viewdef)
    add("pg_get_viewdef(oid, int4) text", pg_get_viewdef)
    add("pg_get_viewdef(text) text", pg_get_viewdef_named)
    add("pg_get_viewdef(text, bool) text", pg_get_viewdef_named)
    add("pg_get_ruledef(oid) text", pg_get_ruledef)
    add("pg_get_ruledef(oid, bool) text", pg_get_ruledef)
    add("pg_get_triggerdef(oid) text", pg_get_ruledef)
    add("pg_get_triggerdef(oid, bool) text", pg_get_ruledef)
    add("pg_get_partkeydef(oid) text", pg_get_functiondef)
    add("pg_get_statisticsobjdef(oid) text", pg_get_functiondef)
    add("pg_get_statisticsobjdef_columns(oid) text", pg_get_functiondef)
    add("pg_get_serial_sequence(text, text) text", pg_get_serial_sequence)
    add("pg_get_userbyid(oid) name", pg_get_userbyid)
    add("pg_get_function_result(oid) text", pg_get_function_result)
    add("pg_get_function_arguments(oid) text", pg_get_function_arguments)
    add("pg_get_function_identity_arguments(oid) text", pg_get_function_arguments)
    add("pg_get_functiondef(oid) text", pg_get_functiondef)
    add("pg_get_function_sqlbody(oid) text", pg_get_functiondef)
    add("obj_description(oid) text", obj_description)
    add("obj_description(oid, name) text", obj_description)
    add("col_description(oid, int4) text", col_description)
    add("shobj_description(oid, name) text", shobj_description)
    add("pg_table_is_visible(oid) bool", pg_table_is_visible)
    add("pg_type_is_visible(oid) bool", pg_type_is_visible)
    for kind in (
        "function",
        "operator",
        "opclass",
        "opfamily",
        "collation",
        "conversion",
        "statistics_obj",
        "ts_config",
        "ts_dict",
        "ts_parser",
        "ts_template",
    ):
        add(f"pg_{kind}_is_visible(oid) bool", _builtin_visible)
    for name, type_oid in (
        ("regclass", REGCLASS),
        ("regtype", REGTYPE),
        ("regnamespace", REGNAMESPACE),
        ("regrole", REGROLE),
        ("regproc", REGPROC),
    ):
        add(f"to_{name}(text) {name}", to_reg(type_oid))
    add("format_type(oid, int4) text", format_type, strict=False)
    add("current_schema() name", current_schema)
    add("current_schemas(bool) name[]", current_schemas)
    add("version() text", version)
    add(
        "pg_get_keywords() setof record(word text, catcode char, barelabel bool, catdesc text, baredesc text)",
        pg_get_keywords,
    )
    for element in ("int2", "int4", "int8", "oid", "text", "name"):
        signature = f"_pg_expandarray({element}[]) setof record(x {element}, n int4)"
        define(registry, signature, pg_expandarray)
    for vector, element in (("int2vector", "int2"), ("oidvector", "oid")):
        define(registry, f"_pg_expandarray({vector}) setof record(x {element}, n int4)", pg_expandarray)
    _register_privileges(add)
    _register_session(add)
    _register_advisory(add)


def _register_privileges(add: Callable[..., None]) -> None:
    for target in ("oid", "text"):
        add(f"has_table_privilege({target}, text) bool", has_table_privilege)
        add(f"has_schema_privilege({target}, text) bool", has_schema_privilege)
        add(f"has_database_privilege({target}, text) bool", has_database_privilege)
        for role in ("name", "oid"):
            add(f"has_table_privilege({role}, {target}, text) bool", has_table_privilege_of)
            add(f"has_schema_privilege({role}, {target}, text) bool", has_schema_privilege_of)
            add(f"has_database_privilege({role}, {target}, text) bool", has_database_privilege_of)
        add(f"has_sequence_privilege({target}, text) bool", has_table_privilege)
        add(f"has_any_column_privilege({target}, text) bool", has_table_privilege)
        add(f"has_function_privilege({target}, text) bool", has_any)
        add(f"has_type_privilege({target}, text) bool", has_any)
        add(
            f"has_column_privilege({target}, text, text) bool",
            lambda ctx, relation, column, privilege: has_table_privilege(ctx, relation, privilege),
        )
    add("pg_has_role(name, text) bool", pg_has_role)
    add("pg_has_role(oid, text) bool", pg_has_role)
    for user in ("name", "oid"):
        for role in ("name", "oid"):
            add(f"pg_has_role({user}, {role}, text) bool", pg_has_role_of)
    for target in ("oid", "text"):
        add(f"has_tablespace_privilege({target}, text) bool", has_any)
        add(f"has_language_privilege({target}, text) bool", has_any)


def pg_is_other_temp_schema(ctx: ExecContext, oid: int) -> bool:
    name = ctx.catalog().schema_name(oid)
    return bool(name.startswith(PREFIX)) and oid != ctx.catalog().schema_oid(ALIAS)


def _none(*args: Any) -> None:
    return None


def _register_session(add: Callable[..., None]) -> None:
    for name in ("pg_relation_size", "pg_table_size", "pg_total_relation_size", "pg_indexes_size"):
        add(f"{name}(regclass) int8", pg_relation_size, VOLATILE)
    add("pg_database_size(oid) int8", pg_database_size, VOLATILE)
    add("pg_database_size(name) int8", pg_database_size, VOLATILE)
    add("pg_tablespace_size(oid) int8", pg_database_size, VOLATILE)
    add("pg_tablespace_location(oid) text", lambda oid: "", context=False)
    add("pg_backend_pid() int4", pg_backend_pid)
    add("pg_cancel_backend(int4) bool", pg_cancel_backend, VOLATILE)
    add("pg_postmaster_start_time() timestamptz", pg_postmaster_start_time)
    add("pg_conf_load_time() timestamptz", pg_postmaster_start_time)
    add("pg_encoding_to_char(int4) name", pg_encoding_to_char, context=False)
    add("pg_char_to_encoding(name) int4", pg_char_to_encoding, context=False)
    add("getdatabaseencoding() name", lambda: "UTF8", context=False)
    add("pg_client_encoding() name", lambda: "UTF8", context=False)
    add("pg_is_in_recovery() bool", lambda: False, VOLATILE, context=False)
    add("pg_is_other_temp_schema(oid) bool", pg_is_other_temp_schema)
    add("pg_my_temp_schema() oid", lambda ctx: ctx.catalog().schema_oid(ALIAS) or 0)
    add("pg_relation_is_publishable(regclass) bool", lambda oid: True, context=False)
    add("pg_relation_is_updatable(regclass, bool) int4", pg_relation_is_updatable)
    add("pg_column_is_updatable(regclass, int2, bool) bool", pg_column_is_updatable)
    add("pg_listening_channels() setof text", pg_listening_channels)
    add("pg_notify(text, text) void", pg_notify, VOLATILE)
    add("pg_partition_ancestors(regclass) setof regclass", lambda oid: (), context=False)
    add(
        "pg_partition_tree(regclass) setof record(relid regclass, parentrelid regclass, isleaf bool, level int4)",
        lambda oid: (),
        context=False,
    )
    add(
        "pg_options_to_table(text[]) setof record(option_name text, option_value text)",
        lambda options: [tuple(o.split("=", 1)) for o in options],
        context=False,
    )
    add("unique_rowid() int8", unique_rowid, VOLATILE)
    add("gateway_region() text", gateway_region)
    add("gateway_region(bool) text", gateway_region)
    add("default_to_database_primary_region(text) text", default_to_database_primary_region, strict=False)
    _register_server(add)
    add("cluster_logical_timestamp() numeric", cluster_timestamp, STABLE)
    add("txid_current() int8", txid_current)
    add("pg_current_xact_id() xid8", txid_current)
    add("pg_stat_get_numscans(oid) int8", lambda oid: 0, context=False)
    add("pg_export_snapshot() text", _no_snapshot, VOLATILE, context=False)
    add("pg_describe_object(oid, oid, int4) text", _none, context=False)
    add("acldefault(char, oid) aclitem[]", acldefault)


def gateway_region(ctx: ExecContext, missing_ok: bool = False) -> str | None:
    """The region of the node that the client is connected to."""
    region = region_of(_session(ctx).server.locality)
    if not region:
        if missing_ok:
            return None
        raise SqlError(
            "this node is in no region", sqlstate="22023", hint="Start it with --locality region=<name>,zone=<name>."
        )
    return region


def default_to_database_primary_region(ctx: ExecContext, region: str | None) -> str | None:
    """A region of the current database: the one given if it is one, or else the primary one."""
    desc = own_database(_session(ctx))
    if desc.regions is None or region in desc.regions.regions:
        return region
    return desc.regions.primary


def pg_sequence_state(ctx: ExecContext, oid: int) -> list[tuple[int, int, bool]]:
    """What SELECT from a sequence gives; nothing is logged ahead of its time here."""
    session = _session(ctx)
    desc = session.state().table_by_id(oid)
    if desc is None or desc.sequence is None:
        raise SqlError(f"could not open relation with OID {oid}", sqlstate="42P01")
    state = session.server.sequences.known(oid)
    if state is None:
        raise NeedsAwait(session.server.sequences.load(oid, desc.sequence))
    return [(state[0], 0, state[1])]


def _register_server(add: Callable[..., None]) -> None:
    """What administrators' tools ask: addresses, sizes, what a node does not have."""
    add("current_query() text", lambda ctx: _session(ctx).current_query, VOLATILE)
    for side in ("client", "server"):
        add(f"inet_{side}_addr() inet", lambda ctx: None)
        add(f"inet_{side}_port() int4", lambda ctx: None)
    add("pg_relation_filenode(regclass) oid", lambda oid: oid, context=False)
    add("pg_sleep_for(interval) void", pg_sleep_for, VOLATILE)
    add("pg_sleep_until(timestamptz) void", pg_sleep_until, VOLATILE)
    add("pg_trigger_depth() int4", lambda: 0, context=False)
    add("pg_jit_available() bool", lambda: False, context=False)
    add("pg_reload_conf() bool", lambda: True, VOLATILE, context=False)
    add("pg_notification_queue_usage() float8", lambda: 0.0, context=False)
    add("row_security_active(regclass) bool", lambda oid: False, context=False)
    add("txid_current_if_assigned() int8", txid_current)
    add("pg_current_xact_id_if_assigned() xid8", txid_current)
    add("pg_sequence_last_value(regclass) int8", lambda ctx, oid: _session(ctx).server.sequences.last_known(oid))
    add("timeofday() text", timeofday, VOLATILE)
    signature = "pg_sequence_state(oid) setof record(last_value int8, log_cnt int8, is_called bool)"
    add(signature, pg_sequence_state, VOLATILE)


def timeofday(ctx: ExecContext) -> str:
    """The clock as text, in the session's zone: ``Wed Feb 26 09:29:50.123456 2020 UTC``."""
    from planner.functions.templates import timestamptz_to_char

    return timestamptz_to_char(ctx, ctx.clock_time(), "Dy Mon DD HH24:MI:SS.US YYYY TZ") or ""


def pg_sleep_for(ctx: ExecContext, length: tuple[int, int, int]) -> str:
    from planner.functions.system import pg_sleep

    months, days, us = length
    return pg_sleep(ctx, (months * 30 + days) * 86_400 + us / 1e6)


def pg_sleep_until(ctx: ExecContext, moment: int) -> str:
    from planner.functions.system import pg_sleep

    return pg_sleep(ctx, (moment - ctx.clock_time()) / 1e6)


_DEFAULT_RIGHTS: Final = {
    "c": ("", ""), "r": ("", "arwdDxt"), "s": ("", "rwU"), "d": ("Tc", "CTc"), "f": ("X", "X"), "l": ("U", "U"), "L": ("", "rw"),
    "n": ("", "UC"), "p": ("", "sA"), "t": ("", "C"), "F": ("", "U"), "S": ("", "U"), "T": ("U", "U"),
}  # fmt: skip
"""By kind of object: what everybody may do with it, and its owner, until something is granted (acldefault in acl.c)."""


def acldefault(ctx: ExecContext, kind: str, owner: int) -> tuple[str, ...]:
    if kind not in _DEFAULT_RIGHTS:
        raise SqlError(f"unrecognized object type abbreviation: {kind}", sqlstate="22023")
    public, own = _DEFAULT_RIGHTS[kind]
    roles = ctx.catalog().state.roles
    name = quote_identifier(next((role.name for role in roles.values() if role.oid == owner), str(owner)))
    found = [f"={public}/{name}"] if public else []
    return tuple([*found, f"{name}={own}/{name}"] if own else found)


def _no_snapshot() -> str:
    raise SqlError("pg_export_snapshot is not supported", sqlstate="0A000")


def _register_advisory(add: Callable[..., None]) -> None:
    for keys in ("int8", "int4, int4"):
        for shared in (False, True):
            suffix = "_shared" if shared else ""
            for scope in ("", "xact_"):
                add(
                    f"pg_advisory_{scope}lock{suffix}({keys}) void", _advisory(not shared, bool(scope), False), VOLATILE
                )
                add(
                    f"pg_try_advisory_{scope}lock{suffix}({keys}) bool",
                    _advisory(not shared, bool(scope), True),
                    VOLATILE,
                )
            add(f"pg_advisory_unlock{suffix}({keys}) bool", _advisory_unlock(not shared), VOLATILE)
    add("pg_advisory_unlock_all() void", pg_advisory_unlock_all, VOLATILE)
