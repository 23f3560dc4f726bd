"""Column references."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlglot import exp

from base.errors import FeatureNotSupported, error
from base.types import OID
from planner.expr import Const, Expr, RowExpr
from sql.binder.scope import (
    RangeItem,
    Scope,
    ScopeColumn,
    find_column,
    find_item,
    missing_column,
    missing_item,
    table_oid_of,
)
from sql.binder.tree import position_of

if TYPE_CHECKING:
    from sql.binder.expressions import ExprBinder


SYSTEM_COLUMNS: Final = frozenset(("ctid", "xmin", "xmax", "cmin", "cmax"))


def bind_column(binder: ExprBinder, node: exp.Expr) -> Expr:
    """``a``, ``t.a``, ``s.t.a``, or a FROM item's name for its whole row."""
    position = position_of(node)
    name: str = node.name
    table = node.args.get("table")
    if isinstance(node.this, exp.Star):
        return _row_of(binder, node, position)
    if table is None:
        return _unqualified(binder, name, position)
    schema = node.args.get("db")
    found = find_item(binder.scope, schema.name if schema is not None else None, table.name, position)
    if found is None:
        raise _missing_item(binder, schema, table.name, position)
    item, level = found
    matches = item.find(name)
    if len(matches) > 1:
        raise error("42702", f'column reference "{name}" is ambiguous', position=position + 1)
    if matches:
        if level is not binder.scope and level.outer_refs is not None:
            level.outer_refs.append((matches[0].id, position, f"{item.alias}.{name}"))
        return _reference(binder, item, matches[0], position_of(node.this))
    if name in SYSTEM_COLUMNS and item.table is not None:
        raise FeatureNotSupported(f"system column {name} is not supported", position=position + 1)
    if name == "tableoid":
        system = table_oid_of(item)
        if system is not None:
            return system
    raise missing_column(binder.scope, table.name, name, position)


def _row_of(binder: ExprBinder, node: exp.Expr, position: int) -> Expr:
    """``t.*`` where one value is wanted, as an argument: the row."""
    schema = node.args.get("db")
    name = node.args["table"].name if node.args.get("table") is not None else ""
    found = find_item(binder.scope, schema.name if schema is not None else None, name, position)
    if found is None:
        raise _missing_item(binder, schema, name, position)
    return whole_row(found[0])


def _missing_item(binder: ExprBinder, schema: exp.Expr | None, name: str, position: int) -> Exception:
    if schema is not None and find_item(binder.scope, None, name, position) is not None:
        return error(
            "42P01", f'invalid reference to FROM-clause entry for table "{name}"', position=position + 1,
            hint=f'There is an entry for table "{name}", but it cannot be referenced from this part of the query.',
        )  # fmt: skip
    return missing_item(binder.scope, name, position)


def _unqualified(binder: ExprBinder, name: str, position: int) -> Expr:
    found = find_column(binder.scope, name, position)
    if found is not None:
        column, level = found
        if column.attnum and binder.source.is_top:
            for item in level.items:
                if item.table is not None and any(c is column or c.id == column.id for c in item.columns):
                    binder.ctx.usage.columns.append((position, item.table.id, column.attnum))
        return column.reference()
    row = find_item(binder.scope, None, name, position)
    if row is not None:
        return whole_row(row[0])
    if name in SYSTEM_COLUMNS and any(i.table is not None for i in binder.scope.items):
        raise FeatureNotSupported(f"system column {name} is not supported", position=position + 1)
    if name == "tableoid":
        items = [i for i in binder.scope.items if i.table_oid]
        if len(items) == 1:
            return Const(items[0].table_oid, OID)
    raise missing_column(binder.scope, None, name, position)


def _reference(binder: ExprBinder, item: RangeItem, column: ScopeColumn, position: int) -> Expr:
    if item.table is not None and column.attnum and binder.source.is_top:
        binder.ctx.usage.columns.append((position, item.table.id, column.attnum))
    return column.reference()


def whole_row(item: RangeItem) -> Expr:
    """A FROM item as a value: its only column if it is a scalar function, else a row."""
    from sql.binder.expressions import record_type

    if item.is_function_scalar:
        return item.columns[0].reference()
    row = record_type([(c.name, c.type) for c in item.columns])
    return RowExpr(tuple([c.reference() for c in item.columns]), row)


def star_columns(binder: ExprBinder, node: exp.Expr) -> list[ScopeColumn]:
    """``*`` or ``t.*``."""
    position = position_of(node)
    scope: Scope = binder.scope
    if isinstance(node, exp.Star):
        if not scope.items and not scope.columns:
            raise error("42601", "SELECT * with no tables specified is not valid", position=position + 1)
        return scope.columns
    schema = node.args.get("db")
    table = node.args["table"].name
    found = find_item(scope, schema.name if schema is not None else None, table, position)
    if found is None:
        raise _missing_item(binder, schema, table, position)
    return found[0].columns
