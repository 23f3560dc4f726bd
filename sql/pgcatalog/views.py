"""Builders of pg_catalog's views and of information_schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from base.typeio import type_name
from base.types import PgType
from planner.exec.deferral import Deferrable
from planner.schema import UNPOPULATED, TableDesc, is_primary_key
from sql.pgcatalog import builtin, deparse
from sql.pgcatalog.storedtext import condition_text, default_text, generated_text, updatable_names
from sql.pgcatalog.tables import check_columns, persistence, role_oid, shown_indexes, user_tables, visible_columns
from sql.settings import BY_NAME, PARAMETERS

if TYPE_CHECKING:
    from sql.view import SessionView

Row = dict[str, Any]


def pg_tables(view: SessionView) -> Iterator[Row]:
    for table in user_tables(view):
        if table.kind == "r":
            yield {
                "schemaname": view.schema_name(table.schema_id), "tablename": table.name, "tableowner": table.owner,
                "hasindexes": bool(shown_indexes(table)), "hasrules": False, "hastriggers": bool(table.foreign_keys or table.inbound),
                "rowsecurity": False,
            }  # fmt: skip


def pg_views(view: SessionView) -> Iterator[Row]:
    for table in user_tables(view):
        if table.kind == "v":
            yield {
                "schemaname": view.schema_name(table.schema_id), "viewname": table.name, "viewowner": table.owner,
                "definition": " " + table.view_query.strip() + ";",
            }  # fmt: skip


def pg_matviews(view: SessionView) -> Iterator[Row]:
    for table in user_tables(view):
        if table.kind == "m":
            yield {
                "schemaname": view.schema_name(table.schema_id), "matviewname": table.name, "matviewowner": table.owner,
                "hasindexes": bool(shown_indexes(table)), "ispopulated": UNPOPULATED not in table.options,
                "definition": " " + table.view_query.strip() + ";",
            }  # fmt: skip


def pg_indexes(view: SessionView) -> Iterator[Row]:
    for table in user_tables(view):
        for index in shown_indexes(table):
            yield {
                "schemaname": view.schema_name(table.schema_id), "tablename": table.name, "indexname": index.name,
                "indexdef": deparse.index_definition(view, table, index),
            }  # fmt: skip


def pg_sequences(view: SessionView) -> Iterator[Row]:
    for table in user_tables(view):
        if table.sequence is not None:
            s = table.sequence
            yield {
                "schemaname": view.schema_name(table.schema_id), "sequencename": table.name, "sequenceowner": table.owner,
                "data_type": s.type_oid, "start_value": s.start, "min_value": s.minimum, "max_value": s.maximum,
                "increment_by": s.increment, "cycle": s.cycle, "cache_size": s.cache,
                "last_value": view.session.server.sequences.last_known(table.id),
            }  # fmt: skip


def pg_settings(view: SessionView) -> Iterator[Row]:
    kinds = {"bool": "bool", "integer": "integer", "ms": "integer", "kb": "integer", "real": "real", "enum": "enum"}
    for name, value, note in view.session.settings.all():
        parameter = BY_NAME.get(name.lower())
        kind = kinds.get(parameter.kind, "string") if parameter is not None else "string"
        yield {
            "name": name, "setting": value, "category": "Meridian", "short_desc": note, "vartype": kind, "source": "default",
            "context": "internal" if parameter is not None and parameter.kind == "internal" else "user",
            "enumvals": parameter.choices if parameter is not None and parameter.choices else None,
            "boot_val": parameter.default if parameter is not None else None,
            "reset_val": view.session.settings.default(name), "pending_restart": False,
        }  # fmt: skip
    assert PARAMETERS


def pg_stat_activity(view: SessionView) -> Iterator[Row]:
    server = view.session.server
    for session in sorted(server.sessions.values(), key=lambda s: s.pid):
        status = session.transaction_status
        running = session.is_running()
        state = (
            "active"
            if running
            else {"I": "idle", "T": "idle in transaction", "E": "idle in transaction (aborted)"}[status]
        )
        yield {
            "datid": session.database_id, "datname": session.database, "pid": session.pid, "usesysid": role_oid(view, session.user),
            "usename": session.user, "application_name": session.settings["application_name"], "state": state,
            "backend_start": session.started_us - 946_684_800_000_000, "query": session.current_query[:1024],
            "query_start": session.context.statement_time or None, "xact_start": session.context.transaction_time or None,
            "backend_type": "client backend",
        }  # fmt: skip


def pg_prepared_statements(view: SessionView) -> Iterator[Row]:
    for name, prepared in view.session.statements.items():
        if name:
            yield {
                "name": name, "statement": prepared.sql, "prepare_time": prepared.prepared_us - 946_684_800_000_000,
                "parameter_types": tuple(t.oid for t in prepared.param_types), "from_sql": prepared.from_sql, "generic_plans": 0, "custom_plans": 0,
            }  # fmt: skip


UNIX_TO_PG_US = 946_684_800_000_000
"""2000-01-01 in microseconds since 1970."""


def pg_cursors(view: SessionView) -> Iterator[Row]:
    for name, portal in view.session.portals.items():
        if name:
            yield {
                "name": name, "statement": portal.sql, "is_holdable": portal.is_holdable, "is_binary": portal.formats == (1,),
                "is_scrollable": portal.is_scroll, "creation_time": portal.created_us - 946_684_800_000_000,
            }  # fmt: skip


def pg_stat_user_tables(view: SessionView) -> Iterator[Row]:
    for table in user_tables(view):
        if table.kind == "r":
            stats = view.session.server.catalog.stats.get(table.id)
            auto = view.session.server.autostats
            analyzed_us = auto.analyzed_us.get(table.id)
            yield {
                "relid": table.id, "schemaname": view.schema_name(table.schema_id), "relname": table.name,
                "n_live_tup": int(stats.rows) if stats is not None else 0, "n_dead_tup": 0,
                "n_mod_since_analyze": auto.changes.get(table.id, 0),
                "last_autoanalyze": analyzed_us - UNIX_TO_PG_US if analyzed_us is not None else None,
            }  # fmt: skip


def pg_stat_user_indexes(view: SessionView) -> Iterator[Row]:
    for table in user_tables(view):
        for index in shown_indexes(table):
            yield {
                "relid": table.id, "indexrelid": index.oid, "schemaname": view.schema_name(table.schema_id), "relname": table.name,
                "indexrelname": index.name,
            }  # fmt: skip


# --- information_schema ------------------------------------------------------------


def schemata(view: SessionView) -> Iterator[Row]:
    for name in ("pg_catalog", "information_schema"):
        yield {"catalog_name": view.session.database, "schema_name": name, "schema_owner": "root"}
    for schema in view.state.schemas(view.database_id):
        yield {"catalog_name": view.session.database, "schema_name": schema.name, "schema_owner": schema.owner}


def tables(view: SessionView) -> Iterator[Row]:
    for qualified in builtin.relation_names():
        schema, _, name = qualified.partition(".")
        kind = "BASE TABLE" if builtin.shape(qualified).kind == "r" else "VIEW"
        yield {
            "table_catalog": view.session.database,
            "table_schema": schema,
            "table_name": name,
            "table_type": kind,
            "is_insertable_into": "NO",
            "is_typed": "NO",
        }
    for table in user_tables(view):
        if table.kind in ("r", "v"):
            yield {
                "table_catalog": view.session.database, "table_schema": view.schema_name(table.schema_id), "table_name": table.name,
                "table_type": _table_type(view, table), "is_insertable_into": "YES" if updatable_names(view, table) else "NO", "is_typed": "NO",
            }  # fmt: skip


def _table_type(view: SessionView, table: TableDesc) -> str:
    if persistence(view, table) == "t":
        return "LOCAL TEMPORARY"
    return "BASE TABLE" if table.kind == "r" else "VIEW"


def _type_fields(pg_type: PgType, typmod: int) -> Row:
    """The columns of information_schema.columns that say the type."""
    fields: Row = {
        "data_type": "ARRAY" if pg_type.is_array else "USER-DEFINED" if pg_type.kind == "e" else type_name(pg_type, -1)
    }
    if pg_type.name in ("varchar", "bpchar") and typmod > 4:
        fields["character_maximum_length"] = typmod - 4
    if pg_type.category == "S" and pg_type.name != "name":
        fields["character_octet_length"] = (typmod - 4) * 4 if typmod > 4 else 1 << 30
    bits = {"int2": 16, "int4": 32, "int8": 64, "float4": 24, "float8": 53}.get(pg_type.name)
    if bits is not None:
        fields |= {"numeric_precision": bits, "numeric_precision_radix": 2}
        if pg_type.name.startswith("int"):
            fields["numeric_scale"] = 0
    if pg_type.name == "numeric":
        fields["numeric_precision_radix"] = 10
        if typmod >= 4:
            fields |= {"numeric_precision": (typmod - 4) >> 16 & 0xFFFF, "numeric_scale": (typmod - 4) & 0x7FF}
    if pg_type.category in ("D", "T"):
        fields["datetime_precision"] = 0 if pg_type.name == "date" else typmod if typmod >= 0 else 6
    return fields


def _catalog_columns(database: str) -> Iterator[Row]:
    """Columns of the catalogs themselves: clients look there for what a version has."""
    for qualified in builtin.relation_names():
        schema, _, name = qualified.partition(".")
        for number, (column, pg_type, typmod, not_null) in enumerate(builtin.shape(qualified).columns, 1):
            yield {
                "table_catalog": database, "table_schema": schema, "table_name": name, "column_name": column, "ordinal_position": number,
                "is_nullable": "NO" if not_null else "YES", "udt_catalog": database, "udt_schema": "pg_catalog", "udt_name": pg_type.name,
                "dtd_identifier": str(number), "is_self_referencing": "NO", "is_identity": "NO", "identity_cycle": "NO", "is_generated": "NEVER",
                "is_updatable": "NO", **_type_fields(pg_type, typmod),
            }  # fmt: skip


def columns(view: SessionView) -> Iterator[Row]:
    database = view.session.database
    yield from _catalog_columns(database)
    for table in user_tables(view):
        if table.kind in ("S", "m"):
            continue
        writable = updatable_names(view, table) if table.kind == "v" else ()
        for number, column in enumerate(visible_columns(table), 1):
            pg_type = view.state.type_by_oid(column.type_oid)
            assert pg_type is not None
            sequence = view.table_by_id(column.sequence_id) if column.identity else None
            options = sequence.sequence if sequence is not None else None
            yield {
                "table_catalog": database, "table_schema": view.schema_name(table.schema_id), "table_name": table.name,
                "column_name": column.name, "ordinal_position": number,
                "column_default": default_text(view, table, column, False) if column.default and not column.identity else None,
                "is_nullable": "YES" if column.nullable else "NO", "udt_catalog": database, "udt_schema": pg_type.namespace,
                "udt_name": pg_type.name, "dtd_identifier": str(column.id), "is_self_referencing": "NO",
                "is_identity": "YES" if column.identity else "NO",
                "identity_generation": {"a": "ALWAYS", "d": "BY DEFAULT"}.get(column.identity),
                "identity_start": str(options.start) if options else None, "identity_increment": str(options.increment) if options else None,
                "identity_maximum": str(options.maximum) if options else None, "identity_minimum": str(options.minimum) if options else None,
                "identity_cycle": "YES" if options and options.cycle else "NO",
                "is_generated": "ALWAYS" if column.generated else "NEVER", "generation_expression": generated_text(view, table, column, False) if column.generated else None,
                "is_updatable": "YES" if table.kind == "r" or column.name in writable else "NO", **_type_fields(pg_type, column.typmod),
            }  # fmt: skip


def _constraint_rows(view: SessionView) -> Iterator[tuple[TableDesc, str, str, tuple[int, ...]]]:
    """(table, constraint name, kind, columns)."""
    for table in user_tables(view):
        for index in table.indexes:
            if index.constraint:
                kind = "PRIMARY KEY" if is_primary_key(index) else "UNIQUE"
                yield table, index.constraint, kind, tuple(c.column_id for c in index.named)
        for key in table.foreign_keys:
            yield table, key.name, "FOREIGN KEY", key.columns
        for check in table.checks:
            yield table, check.name, "CHECK", check_columns(view, table, check.expression) or ()


def _place(view: SessionView, table: TableDesc, name: str) -> Row:
    schema, database = view.schema_name(table.schema_id), view.session.database
    return {
        "constraint_catalog": database, "constraint_schema": schema, "constraint_name": name, "table_catalog": database,
        "table_schema": schema, "table_name": table.name,
    }  # fmt: skip


def table_constraints(view: SessionView) -> Iterator[Row]:
    for table, name, kind, _ in _constraint_rows(view):
        keys: tuple[Deferrable, ...] = (*table.foreign_keys, *table.indexes)
        deferrable = next((k for k in keys if k.name == name and k.deferrable), None)
        yield {
            **_place(view, table, name), "constraint_type": kind, "is_deferrable": "YES" if deferrable else "NO",
            "initially_deferred": "YES" if deferrable and deferrable.initially_deferred else "NO", "enforced": "YES",
        }  # fmt: skip


def key_column_usage(view: SessionView) -> Iterator[Row]:
    for table, name, kind, ids in _constraint_rows(view):
        if kind == "CHECK":
            continue
        key = next((k for k in table.foreign_keys if k.name == name), None) if kind == "FOREIGN KEY" else None
        target = view.table_by_id(key.target_table) if key is not None else None
        for number, id in enumerate(ids, 1):
            position = None
            if key is not None and target is not None:
                index = next((i for i in target.indexes if i.id == key.target_index), None)
                order = [c.column_id for c in index.named] if index is not None else list(key.target_columns)
                position = order.index(key.target_columns[number - 1]) + 1
            yield {
                **_place(view, table, name), "column_name": deparse.column_name(table, id), "ordinal_position": number,
                "position_in_unique_constraint": position,
            }  # fmt: skip


def referential_constraints(view: SessionView) -> Iterator[Row]:
    for table in user_tables(view):
        for key in table.foreign_keys:
            target = view.table_by_id(key.target_table)
            index = next((i for i in target.indexes if i.id == key.target_index), None) if target is not None else None
            yield {
                "constraint_catalog": view.session.database, "constraint_schema": view.schema_name(table.schema_id),
                "constraint_name": key.name, "unique_constraint_catalog": view.session.database,
                "unique_constraint_schema": view.schema_name(target.schema_id) if target is not None else None,
                "unique_constraint_name": index.constraint or index.name if index is not None else None,
                "match_option": "FULL" if key.match == "FULL" else "NONE", "update_rule": key.on_update, "delete_rule": key.on_delete,
            }  # fmt: skip


def constraint_column_usage(view: SessionView) -> Iterator[Row]:
    for table, name, kind, ids in _constraint_rows(view):
        used, shown = table, ids
        if kind == "FOREIGN KEY":
            key = next(k for k in table.foreign_keys if k.name == name)
            target = view.table_by_id(key.target_table)
            if target is None:
                continue
            used, shown = target, key.target_columns
        for id in shown:
            yield {
                **_place(view, table, name), "table_schema": view.schema_name(used.schema_id), "table_name": used.name,
                "column_name": deparse.column_name(used, id),
            }  # fmt: skip


def check_constraints(view: SessionView) -> Iterator[Row]:
    for table in user_tables(view):
        schema = view.schema_name(table.schema_id)
        for check in table.checks:
            yield {
                "constraint_catalog": view.session.database, "constraint_schema": schema, "constraint_name": check.name,
                "check_clause": f"({condition_text(view, table, check.expression, False)})",
            }  # fmt: skip


def information_views(view: SessionView) -> Iterator[Row]:
    for table in user_tables(view):
        if table.kind == "v":
            writable = "YES" if updatable_names(view, table) else "NO"
            yield {
                "table_catalog": view.session.database, "table_schema": view.schema_name(table.schema_id), "table_name": table.name,
                "view_definition": " " + table.view_query.strip() + ";", "check_option": table.options.get("check_option", "none").upper(),
                "is_updatable": writable, "is_insertable_into": writable,
                "is_trigger_updatable": "NO", "is_trigger_deletable": "NO", "is_trigger_insertable_into": "NO",
            }  # fmt: skip


def information_sequences(view: SessionView) -> Iterator[Row]:
    for table in user_tables(view):
        if table.sequence is not None:
            s = table.sequence
            pg_type = view.state.type_by_oid(s.type_oid)
            assert pg_type is not None
            yield {
                "sequence_catalog": view.session.database, "sequence_schema": view.schema_name(table.schema_id), "sequence_name": table.name,
                "data_type": type_name(pg_type, -1), "numeric_precision": pg_type.length * 8, "numeric_precision_radix": 2, "numeric_scale": 0,
                "start_value": str(s.start), "minimum_value": str(s.minimum), "maximum_value": str(s.maximum), "increment": str(s.increment),
                "cycle_option": "YES" if s.cycle else "NO",
            }  # fmt: skip


def information_schema_catalog_name(view: SessionView) -> Iterator[Row]:
    yield {"catalog_name": view.session.database}


def table_privileges(view: SessionView) -> Iterator[Row]:
    words = {
        "a": "INSERT",
        "r": "SELECT",
        "w": "UPDATE",
        "d": "DELETE",
        "D": "TRUNCATE",
        "x": "REFERENCES",
        "t": "TRIGGER",
    }
    for table in user_tables(view):
        if table.kind not in ("r", "v"):
            continue
        for role, letters in ((table.owner, "arwdDxt"), *table.privileges):
            for letter in letters:
                if letter in words:
                    yield {
                        "grantor": table.owner, "grantee": "PUBLIC" if role == "public" else role, "table_catalog": view.session.database,
                        "table_schema": view.schema_name(table.schema_id), "table_name": table.name, "privilege_type": words[letter],
                        "is_grantable": "YES" if role == table.owner else "NO", "with_hierarchy": "YES" if letter == "r" else "NO",
                    }  # fmt: skip


def enabled_roles(view: SessionView) -> Iterator[Row]:
    for role in view.state.roles_of(view.session.user):
        yield {"role_name": role}
