"""Assignment to a part of a column: ``SET a[2] = .., a[3:4] = .., j['k'][0] = ..``; further parts of it build on the first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from base.errors import error
from base.typeio import type_name
from base.types import INT2, INT4, INT8, JSONB, TEXT, UNKNOWN
from planner.expr import Call, Const, Expr
from planner.functions import assignment
from planner.schema import ColumnDesc, TableDesc
from sql.binder.coerce import implicit, required
from sql.binder.from_clause import column_type
from sql.binder.table_exprs import assigned
from sql.binder.tree import form_of, position_of, text_of
from sql.parse import forms

if TYPE_CHECKING:
    from sql.binder.expressions import ExprBinder
    from sql.binder.queries import QueryBinder

_NOT_OF_TABLE = "View columns that are not columns of their base relation are not updatable."
Bounds = list[tuple[exp.Expr | None, exp.Expr | None, bool]]


def target_column(table: TableDesc, name: str, position: int) -> ColumnDesc:
    """A column named as a target; raises 42703."""
    for column in table.columns:
        if column.name == name:
            return column
    raise error("42703", f'column "{name}" of relation "{table.name}" does not exist', position=position + 1)


def require_column(column: ColumnDesc, names: TableDesc, verb: str) -> None:
    """Raises 0A000 for a view's column that is no column of a table."""
    if not column.id:
        raise error("0A000", f'cannot {verb} column "{column.name}" of view "{names.name}"', detail=_NOT_OF_TABLE)


def bind_part(
    queries: QueryBinder, binder: ExprBinder, table: TableDesc, call: exp.Expr, sets: list[tuple[int, Expr]]
) -> None:
    """Adds ``SET column[..] = value`` to the assignments, or to the one that its column has already."""
    position = position_of(call)
    column = target_column(table, text_of(call.expressions[1]), position)
    require_column(column, table, "update")
    if column.generated or column.identity == "a":
        raise error("428C9", f'column "{column.name}" can only be updated to DEFAULT')
    pg_type = column_type(queries, column.type_oid)
    before = next((i for i, (attnum, _) in enumerate(sets) if attnum == column.id), None)
    if before is not None and not _is_part(sets[before][1]):
        raise error("42601", f'multiple assignments to same column "{column.name}"')
    old: Expr = sets[before][1] if before is not None else _own(binder, column)
    value, bounds = call.expressions[0], _bounds(call.expressions[2:])
    if pg_type.oid == JSONB.oid:
        made = _json_part(queries, binder, column, old, value, bounds, position)
    elif pg_type.is_array:
        made = _array_part(queries, binder, column, old, value, bounds)
    else:
        text = f"cannot subscript type {type_name(pg_type)} because it does not support subscripting"
        raise error("42804", text, position=position + 1)
    if before is None:
        sets.append((column.id, made))
    else:
        sets[before] = (column.id, made)


def _is_part(value: Expr) -> bool:
    return isinstance(value, Call) and value.function.name in (
        "array_set_element",
        "array_set_slice",
        "jsonb_set_element",
    )


def _own(binder: ExprBinder, column: ColumnDesc) -> Expr:
    """The target's own column; it is the first item in scope, or the row found by ON CONFLICT."""
    found = binder.scope.items[0].find(column.name)
    return found[0].reference()


def _bounds(args: list[exp.Expr]) -> Bounds:
    found: Bounds = []
    i = 0
    while i < len(args):
        if text_of(args[i]) == "i":
            found.append((None, args[i + 1], False))
            i += 2
        else:
            low, high = args[i + 1], args[i + 2]
            found.append(
                (None if form_of(low) == forms.EMPTY else low, None if form_of(high) == forms.EMPTY else high, True)
            )
            i += 3
    return found


def _number(queries: QueryBinder, binder: ExprBinder, node: exp.Expr | None) -> Expr:
    if node is None:
        return Const(None, INT4)
    value = binder.bind(node)
    if value.type.oid not in (INT4.oid, INT2.oid, INT8.oid, UNKNOWN.oid):
        raise error("42804", "array subscript must have type integer", position=position_of(node) + 1)
    return required(queries.ctx, value, INT4, "array subscript", position_of(node))


def _array_part(
    queries: QueryBinder, binder: ExprBinder, column: ColumnDesc, old: Expr, node: exp.Expr, bounds: Bounds
) -> Expr:
    array = old.type
    is_slice = any(flag for _, _, flag in bounds)
    if is_slice and len(bounds) > 1:
        raise error("0A000", "assignment to a slice of an array of several dimensions is not supported")
    target = array if is_slice else array.elem
    assert target is not None, f"{array=}"
    value = assigned(queries, binder.bind(node), column, target, position_of(node))
    if is_slice:
        low, high = (_number(queries, binder, part) for part in bounds[0][:2])
        return Call(assignment.slice_assigner(array), (old, value, low, high), array, column.typmod)
    at = [_number(queries, binder, place) for _, place, _ in bounds]
    return Call(assignment.item_assigner(array, len(at)), (old, value, *at), array, column.typmod)


def _json_part(
    queries: QueryBinder,
    binder: ExprBinder,
    column: ColumnDesc,
    old: Expr,
    node: exp.Expr,
    bounds: Bounds,
    position: int,
) -> Expr:
    steps: list[Expr] = []
    for _, place, is_slice in bounds:
        if is_slice or place is None:
            raise error("0A000", "jsonb subscript does not support slices", position=position + 1)
        step = binder.bind(place)
        if step.type.oid in (INT2.oid, INT8.oid):
            step = implicit(queries.ctx, step, INT4)
        elif step.type.oid != INT4.oid:
            step = required(queries.ctx, step, TEXT, "jsonb subscript", position_of(place))
        steps.append(step)
    value = assigned(queries, binder.bind(node), column, JSONB, position_of(node))
    function = assignment.json_assigner(tuple([step.type for step in steps]))
    return Call(function, (old, value, *steps), JSONB)
