"""Window functions: OVER, WINDOW, frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlglot import exp

from base.errors import MeridianError, error
from base.types import INT8, INTERVAL, PgType
from planner.expr import AggCall, Col, Expr, SortKey
from planner.functions.registry import Aggregate
from planner.functions.resolve import resolve_function, resolve_window
from planner.nodes import WindowFrame
from sql.binder.calls import CallParts, column_ids, nested_binder, require_equality, require_sortable, sort_items
from sql.binder.coerce import boolean, coerce, implicit, required, resolve_unknown
from sql.binder.context import placed
from sql.binder.equality import expr_key, sort_keys_key
from sql.binder.query_state import QueryState, WindowDefinition
from sql.binder.tree import position_of

if TYPE_CHECKING:
    from sql.binder.expressions import ExprBinder


def window_call(binder: ExprBinder, parts: CallParts) -> Expr:
    ctx, name, position = binder.ctx, parts.name, parts.position
    state = binder.scope.state
    if binder.clause in ("aggregate arguments",):
        raise error("42803", "aggregate function calls cannot contain window function calls", position=position + 1)
    if binder.clause == "window arguments":
        raise error("42P20", "window function calls cannot be nested", position=position + 1)
    if state is None or binder.clause not in ("SELECT", "ORDER BY", "DISTINCT ON"):
        raise error("42P20", f"window functions are not allowed in {binder.clause}", position=position + 1)
    if parts.distinct:
        raise error("0A000", "DISTINCT is not implemented for window functions", position=position + 1)
    if parts.order is not None:
        raise error("0A000", "aggregate ORDER BY is not implemented for window functions", position=position + 1)
    args = nested_binder(binder, "window arguments").bind_all(parts.args)
    nested = nested_binder(binder, "window definitions")
    registry = ctx.registry
    if name not in registry.windows and name not in registry.aggregates:
        resolve_function(registry, name, [arg.type for arg in args])
        raise error(
            "42809",
            f"OVER specified, but {name} is not a window function nor an aggregate function",
            position=position + 1,
        )
    try:
        found = resolve_window(registry, name, [arg.type for arg in args])
    except MeridianError as failure:
        raise placed(failure, position) from None
    places = [position_of(arg) for arg in parts.args]
    coerced = [implicit(ctx, arg, target, at) for arg, target, at in zip(args, found.arg_types, places)]
    condition = None
    if parts.filter is not None:
        if not isinstance(found.function, Aggregate):
            raise error("0A000", "FILTER is not implemented for non-aggregate window functions", position=position + 1)
        condition = boolean(ctx, nested.bind(parts.filter), "FILTER", position_of(parts.filter))
    if isinstance(found.function, Aggregate) and found.function.ordered_set:
        raise error("0A000", f"OVER is not supported for ordered-set aggregate {name}", position=position + 1)
    assert parts.window is not None
    definition = window_definition(nested, state, parts.window)
    call = AggCall(found.function, tuple(coerced), found.result, -1, False, condition)
    return _register_window(binder, state, definition, call, name)


def _register_window(
    binder: ExprBinder, state: QueryState, definition: WindowDefinition, call: AggCall, name: str
) -> Expr:
    key = _definition_key(definition)
    for known in state.windows:
        if _definition_key(known) == key:
            definition = known
            break
    else:
        state.windows.append(definition)
    id = binder.ctx.add_column(name, call.type, call.typmod)
    definition.calls.append(call)
    definition.columns.append(id)
    state.window_ids.add(id)
    return Col(id, call.type, call.typmod, name)


def _definition_key(definition: WindowDefinition) -> object:
    frame = definition.frame
    bounds = tuple([(kind, None if offset is None else expr_key(offset)) for kind, offset in (frame.start, frame.end)])
    return (
        tuple([expr_key(e) for e in definition.partition_by]),
        sort_keys_key(definition.order_by),
        frame.mode,
        bounds,
        frame.exclude,
    )


def window_definition(binder: ExprBinder, state: QueryState, node: exp.Expr) -> WindowDefinition:
    """The window of an OVER clause: named, inline, or inline over a named one."""
    alias = node.args.get("alias")
    partition_nodes = node.args.get("partition_by") or []
    order_node, spec = node.args.get("order"), node.args.get("spec")
    base: WindowDefinition | None = None
    if alias is not None:
        base = _named(binder, state, alias)
        if node.args.get("over") == "OVER" and not _is_inline(node):
            return base
        base = _extended(base, alias.name, bool(partition_nodes), order_node is not None, position_of(alias))
    partition = tuple([_grouped(binder, part) for part in partition_nodes]) if base is None else base.partition_by
    order = base.order_by if base is not None else ()
    if order_node is not None:
        keys: list[SortKey] = []
        for expr, descending, nulls_first, position in sort_items(binder, order_node):
            expr = resolve_unknown(binder.ctx, expr, position)
            require_sortable(binder, expr.type, position)
            keys.append(SortKey(expr, descending, nulls_first))
        order = tuple(keys)
    return WindowDefinition(partition, order, _frame(binder, spec, order, position_of(node)))


def _is_inline(node: exp.Expr) -> bool:
    """True for ``OVER (w ..)``, False for ``OVER w``."""
    return bool(
        node.args.get("partition_by")
        or node.args.get("order")
        or node.args.get("spec")
        or node.args.get("first") is not None
    )


def _grouped(binder: ExprBinder, node: exp.Expr) -> Expr:
    found = binder.bind_known(node)
    require_equality(binder, found.type, position_of(node))
    return found


def _named(binder: ExprBinder, state: QueryState, alias: exp.Expr) -> WindowDefinition:
    node = state.named_windows.get(alias.name)
    if node is None:
        raise error("42704", f'window "{alias.name}" does not exist', position=position_of(alias) + 1)
    assert isinstance(node, exp.Window), f"{node=}"
    return window_definition(binder, state, node)


def _extended(base: WindowDefinition, name: str, partitions: bool, orders: bool, position: int) -> WindowDefinition:
    if partitions:
        raise error("42P20", f'cannot override PARTITION BY clause of window "{name}"', position=position + 1)
    if orders and base.order_by:
        raise error("42P20", f'cannot override ORDER BY clause of window "{name}"', position=position + 1)
    if (
        base.frame.mode != "range"
        or base.frame.start[0] != "unbounded_preceding"
        or base.frame.end[0] != "current"
        or base.frame.exclude != "no others"
    ):
        raise error("42P20", f'cannot copy window "{name}" because it has a frame clause', position=position + 1)
    return base


_EXCLUSIONS: Final = {"CURRENT ROW": "current row", "GROUP": "group", "TIES": "ties", "NO OTHERS": "no others"}


def _frame(binder: ExprBinder, spec: exp.Expr | None, order: tuple[SortKey, ...], position: int) -> WindowFrame:
    if spec is None:
        return WindowFrame("range", ("unbounded_preceding", None), ("current", None))
    mode = str(spec.args["kind"]).lower()
    start = _bound(binder, spec.args.get("start"), spec.args.get("start_side"), mode, order, position)
    end: tuple[str, Expr | None] = ("current", None)
    if spec.args.get("end") is not None:
        end = _bound(binder, spec.args.get("end"), spec.args.get("end_side"), mode, order, position)
    bound = spec.args.get("end")
    _check_frame(start[0], end[0], position_of(bound) if isinstance(bound, exp.Expr) else position)
    if mode == "groups" and not order:
        raise error("42P20", "GROUPS mode requires an ORDER BY clause", position=position + 1)
    exclude = spec.args.get("exclude")
    words = exclude.name if isinstance(exclude, exp.Expr) else exclude
    return WindowFrame(mode, start, end, _EXCLUSIONS[str(words).upper()] if words else "no others")


def _check_frame(start: str, end: str, position: int) -> None:
    if start == "unbounded_following":
        raise error("42P20", "frame start cannot be UNBOUNDED FOLLOWING", position=position + 1)
    if end == "unbounded_preceding":
        raise error("42P20", "frame end cannot be UNBOUNDED PRECEDING", position=position + 1)
    if start == "current" and end == "preceding":
        raise error("42P20", "frame starting from current row cannot have preceding rows", position=position + 1)
    if start == "following" and end in ("preceding", "current"):
        raise error("42P20", "frame starting from following row cannot have preceding rows", position=position + 1)


def _bound(
    binder: ExprBinder, bound: object, side: object, mode: str, order: tuple[SortKey, ...], position: int
) -> tuple[str, Expr | None]:
    if bound == "CURRENT ROW":
        return "current", None
    direction = str(side).lower()
    if bound == "UNBOUNDED":
        return f"unbounded_{direction}", None
    assert isinstance(bound, exp.Expr), f"{bound=}"
    at = position_of(bound)
    offset = binder.bind(bound)
    if any(binder.scope.owns(id) for id in column_ids([offset])):
        raise error("42P10", f"argument of {mode.upper()} must not contain variables", position=at + 1)
    if mode in ("rows", "groups"):
        return direction, required(binder.ctx, offset, INT8, mode.upper(), at)
    if len(order) != 1:
        raise error(
            "42P20", "RANGE with offset PRECEDING/FOLLOWING requires exactly one ORDER BY column", position=position + 1
        )
    return direction, _range_offset(binder, offset, order[0].expr.type, at)


def _range_offset(binder: ExprBinder, offset: Expr, column: PgType, position: int) -> Expr:
    """The offset of RANGE: an interval over times, else of the column's own type."""
    from base.typeio import type_name

    if column.category == "D":
        target = INTERVAL
    elif column.category in "NT":
        target = column
    else:
        raise error(
            "0A000",
            f"RANGE with offset PRECEDING/FOLLOWING is not supported for column type {type_name(column)}",
            position=position + 1,
        )
    found = coerce(binder.ctx, offset, target, "i", -1, position)
    if found is None:
        raise error(
            "0A000", f"RANGE with offset PRECEDING/FOLLOWING is not supported for column type {type_name(column)} and offset type {type_name(offset.type)}",
            position=position + 1, hint="Cast the offset value to an appropriate type.",
        )  # fmt: skip
    return found
