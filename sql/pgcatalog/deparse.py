"""Definitions as SQL text: pg_get_indexdef, pg_get_constraintdef, pg_get_expr..."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from base.errors import MeridianError
from base.typeio import type_name
from planner.schema import CheckDesc, ColumnDesc, ForeignKeyDesc, IndexColumn, IndexDesc, TableDesc, is_primary_key
from sql.pgcatalog import builtin, oids

if TYPE_CHECKING:
    from planner.functions.registry import Registry
    from sql.view import SessionView

_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")


def quote_identifier(name: str) -> str:
    """Quotes a name where PostgreSQL's quote_ident would."""
    if (
        name
        and name[0] in "abcdefghijklmnopqrstuvwxyz_"
        and all(char in _PLAIN for char in name)
        and name not in _reserved()
    ):
        return name
    return '"' + name.replace('"', '""') + '"'


_reserved_words: frozenset[str] | None = None


def _reserved() -> frozenset[str]:
    global _reserved_words
    if _reserved_words is None:
        _reserved_words = frozenset(row[0] for row in builtin.keywords() if row[1] != "U")
    return _reserved_words


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


def index_key(table: TableDesc, column: IndexColumn, with_order: bool) -> str:
    """One key of an index definition."""
    text = (
        quote_identifier(column_name(table, column.column_id))
        if column.column_id
        else shown_expression(column.expression)
    )
    if not with_order:
        return text
    if column.descending:
        return text + (" DESC" if column.nulls_first else " DESC NULLS LAST")
    return text + (" NULLS FIRST" if column.nulls_first else "")


def shown_expression(text: str) -> str:
    """Function calls stand alone, everything else in parentheses."""
    stripped = text.strip()
    if (
        stripped.endswith(")")
        and "(" in stripped
        and stripped.split("(", 1)[0].replace("_", "a").replace(".", "a").isalnum()
    ):
        depth = 0
        for i, char in enumerate(stripped):
            depth += (char == "(") - (char == ")")
            if depth == 0 and char == ")" and i < len(stripped) - 1:
                return f"({stripped})"
        return stripped
    return f"({stripped})"


def index_definition(view: SessionView, table: TableDesc, index: IndexDesc, is_pretty: bool = False) -> str:
    """CREATE INDEX, as pg_get_indexdef prints it."""
    name = relation_name(view, table) if is_pretty else qualified_name(view, table)
    unique = "UNIQUE " if index.unique else ""
    keys = ", ".join(index_key(table, column, True) for column in index.columns)
    text = f"CREATE {unique}INDEX {quote_identifier(index.name)} ON {name} USING btree ({keys})"
    if index.include:
        text += f" INCLUDE ({', '.join(quote_identifier(column_name(table, id)) for id in index.include)})"
    if index.nulls_not_distinct:
        text += " NULLS NOT DISTINCT"
    if index.predicate:
        text += f" WHERE {bare(index.predicate) if is_pretty else parenthesised(index.predicate)}"
    return text


def parenthesised(text: str) -> str:
    """Returns the expression in one pair of parentheses."""
    stripped = text.strip()
    if stripped.startswith("(") and stripped.endswith(")"):
        depth = 0
        for i, char in enumerate(stripped):
            depth += (char == "(") - (char == ")")
            if depth == 0:
                return stripped if i == len(stripped) - 1 else f"({stripped})"
    return f"({stripped})"


def bare(text: str) -> str:
    """Returns the expression without the pairs of parentheses around all of it."""
    inside = parenthesised(text)
    while (inner := inside[1:-1].strip()).startswith("(") and parenthesised(inner) == inner:
        inside = inner
    return inside[1:-1].strip()


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
    text = f"{word} ({_names(table, tuple(c.column_id for c in index.columns))})"
    return text + (f" INCLUDE ({_names(table, index.include)})" if index.include else "") + _deferral(index)


def _deferral(constraint: IndexDesc | ForeignKeyDesc) -> str:
    return (" DEFERRABLE" if constraint.deferrable else "") + (
        " INITIALLY DEFERRED" if constraint.initially_deferred else ""
    )


def check_definition(check: CheckDesc, is_pretty: bool = False) -> str:
    shown = bare(check.expression) if is_pretty else parenthesised(check.expression)
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


def default_text(view: SessionView, column: ColumnDesc) -> str:
    """A column's default as \\d shows it: a sequence by name, a string constant with its type."""
    default = column.default
    sequence = view.table_by_id(default_sequence(column))
    if sequence is not None:
        return f"nextval('{relation_name(view, sequence)}'::regclass)"
    if default.startswith("'") and default.endswith("'") and "'" not in default[1:-1].replace("''", ""):
        # PostgreSQL keeps the constant, and applies the typmod around it without saying so.
        return f"{default}::{format_type(view, column.type_oid, -1)}"
    return default


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
        if table is not None and table.kind in ("r", "v"):
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
