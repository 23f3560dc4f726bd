"""Definitions as SQL text: pg_get_indexdef, pg_get_constraintdef, pg_get_expr..."""

from __future__ import annotations

from typing import TYPE_CHECKING

from base.errors import MeridianError
from base.typeio import type_name
from planner.schema import CheckDesc, ColumnDesc, ForeignKeyDesc, IndexColumn, IndexDesc, TableDesc, is_primary_key
from sql.pgcatalog import builtin, oids
from sql.pgcatalog.quoting import quote_identifier
from sql.pgcatalog.storedtext import condition_text, index_text

if TYPE_CHECKING:
    from planner.functions.registry import Registry
    from sql.view import SessionView


def column_name(table: TableDesc, id: int) -> str:
    for column in table.columns:
        if column.id == id:
            return column.name
    return "?"


def relation_name(view: SessionView, table: TableDesc) -> str:
    """Returns the name, qualified only where the search path does not find it."""
    name = quote_identifier(table.name)
    return name if view.is_visible(table) else f"{quote_identifier(view.schema_name(table.schema_id))}.{name}"


def qualified_name(view: SessionView, table: TableDesc) -> str:
    return f"{quote_identifier(view.schema_name(table.schema_id))}.{quote_identifier(table.name)}"


def index_key(
    view: SessionView, table: TableDesc, column: IndexColumn, with_order: bool, is_pretty: bool = False
) -> str:
    """One key of an index definition."""
    text = (
        quote_identifier(column_name(table, column.column_id))
        if column.column_id
        else index_text(view, table, column.expression, is_pretty)
    )
    if not with_order:
        return text
    if column.descending:
        return text + (" DESC" if column.nulls_first else " DESC NULLS LAST")
    return text + (" NULLS FIRST" if column.nulls_first else "")


def index_definition(view: SessionView, table: TableDesc, index: IndexDesc, is_pretty: bool = False) -> str:
    """CREATE INDEX, as pg_get_indexdef prints it."""
    name = relation_name(view, table) if is_pretty else qualified_name(view, table)
    unique = "UNIQUE " if index.unique else ""
    keys = ", ".join(index_key(view, table, column, True, is_pretty) for column in index.named)
    text = f"CREATE {unique}INDEX {quote_identifier(index.name)} ON {name} USING btree ({keys})"
    if index.include:
        text += f" INCLUDE ({', '.join(quote_identifier(column_name(table, id)) for id in index.include)})"
    if index.nulls_not_distinct:
        text += " NULLS NOT DISTINCT"
    if index.predicate:
        text += f" WHERE {condition_text(view, table, index.predicate, is_pretty)}"
    return text


def _names(table: TableDesc, ids: tuple[int, ...]) -> str:
    return ", ".join(quote_identifier(column_name(table, id)) for id in ids)


def key_definition(table: TableDesc, index: IndexDesc) -> str:
    """PRIMARY KEY (..) or UNIQUE (..)."""
    word = (
        "PRIMARY KEY"
        if is_primary_key(index)
        else "UNIQUE NULLS NOT DISTINCT"
        if index.nulls_not_distinct
        else "UNIQUE"
    )
    text = f"{word} ({_names(table, tuple(c.column_id for c in index.named))})"
    return text + (f" INCLUDE ({_names(table, index.include)})" if index.include else "") + _deferral(index)


def _deferral(constraint: IndexDesc | ForeignKeyDesc) -> str:
    return (" DEFERRABLE" if constraint.deferrable else "") + (
        " INITIALLY DEFERRED" if constraint.initially_deferred else ""
    )


def check_definition(view: SessionView, table: TableDesc, check: CheckDesc, is_pretty: bool = False) -> str:
    shown = condition_text(view, table, check.expression, is_pretty)
    return f"CHECK ({shown})" + ("" if check.validated else " NOT VALID")


def foreign_key_definition(view: SessionView, table: TableDesc, key: ForeignKeyDesc) -> str:
    target = view.table_by_id(key.target_table)
    name = relation_name(view, target) if target is not None else "?"
    columns = _names(target, key.target_columns) if target is not None else "?"
    text = f"FOREIGN KEY ({_names(table, key.columns)}) REFERENCES {name}({columns})"
    if key.match == "FULL":
        text += " MATCH FULL"
    if key.on_update != "NO ACTION":
        text += f" ON UPDATE {key.on_update}"
    if key.on_delete != "NO ACTION":
        text += f" ON DELETE {key.on_delete}"
    return text + _deferral(key) + ("" if key.validated else " NOT VALID")


def view_query(view: SessionView, registry: Registry, table: TableDesc) -> str:
    """A view's query; relations get their schema where the name alone would not find them now."""
    from sql.binder import Binder

    text = table.view_query
    binder = Binder(view.for_view(table), registry)
    try:
        binder.bind_view(text)
    except MeridianError:
        # What it reads has changed under it; the text is all there is.
        return text
    for position, relation in sorted(binder.usage.places, key=lambda place: -place[0]):
        if not view.is_visible(relation):
            text = f"{text[:position]}{quote_identifier(view.schema_name(relation.schema_id))}.{text[position:]}"
    return text


def default_sequence(column: ColumnDesc) -> int:
    """OID of the sequence that a column's default takes values of, or 0."""
    default = column.default
    if not (default.startswith("nextval(") and default.endswith("::regclass)")):
        return 0
    id = default[len("nextval(") : -len("::regclass)")]
    return int(id) if id.isdigit() else 0


def format_type(view: SessionView, oid: int, typmod: int) -> str:
    """Returns a type's name as format_type prints it; ``???`` for an unknown OID."""
    if oid == 0:
        return "-"
    pg_type = view.state.type_by_oid(oid)
    if pg_type is not None:
        own = pg_type.elem if pg_type.is_array and pg_type.elem is not None else pg_type
        is_hidden = own.namespace != "pg_catalog" and view.find_type((own.name,)) != own
        return (f"{quote_identifier(own.namespace)}." if is_hidden else "") + type_name(pg_type, typmod)
    return builtin.type_text(oid) or row_type_text(view, oid) or "???"


def row_type_text(view: SessionView, oid: int) -> str | None:
    """Returns the name of a table's row type, or of its array; None for another OID."""
    for base, suffix in ((oids.ROW_ARRAY_BASE, "[]"), (oids.ROW_TYPE_BASE, "")):
        table = view.table_by_id(oid - base) if oid > base else None
        if table is not None and table.kind in ("r", "v", "m"):
            return relation_name(view, table) + suffix
    return builtin.row_types().get(oid)


def table_locality(table: TableDesc) -> str:
    """Returns where a table's rows are at home, as LOCALITY spells it."""
    locality = table.locality
    if locality.kind == "global":
        return "GLOBAL"
    if locality.kind == "row":
        names = [column.name for column in table.columns if column.id == locality.column_id and not column.hidden]
        return "REGIONAL BY ROW" + (f" AS {quote_identifier(names[0])}" if names else "")
    return f"REGIONAL BY TABLE IN {quote_identifier(locality.region) if locality.region else 'PRIMARY REGION'}"
