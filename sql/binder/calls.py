"""Calls: functions, aggregates, window functions, set-returning functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sqlglot import exp

from base.errors import FeatureNotSupported, MeridianError, error
from base.types import DATE, INT4, INT8, INTERVAL, OID, RECORD, TIME, TIMESTAMP, TIMESTAMPTZ, TIMETZ, UNKNOWN, PgType
from planner.expr import AggCall, Call, Col, Const, Expr, SortKey, Subquery, walk
from planner.functions.registry import Aggregate, Function
from planner.functions.resolve import resolve_aggregate, resolve_function, resolve_window
from planner.nodes import WindowFrame
from sql.binder.coerce import boolean, coerce, explicit_cast, implicit, is_unknown, required, resolve_unknown
from sql.binder.context import placed
from sql.binder.equality import expr_key, sort_keys_key
from sql.binder.query_state import QueryState, WindowDefinition
from sql.binder.scope import Scope
from sql.binder.tree import form_of, position_of, text_of
from sql.parse import forms

if TYPE_CHECKING:
    from sql.binder.expressions import ExprBinder

FUNCTION_SCHEMAS: Final = frozenset(("pg_catalog", "information_schema"))
NO_AGGREGATES: Final = frozenset(
    ("WHERE", "JOIN conditions", "GROUP BY", "UPDATE", "VALUES", "LIMIT", "OFFSET", "RETURNING", "DEFAULT expressions", "check constraints",
     "functions in FROM", "index expressions", "index predicates", "column generation expressions", "EXECUTE parameters", "ON CONFLICT")
)  # fmt: skip
_SETS_ALLOWED: Final = frozenset(("SELECT", "ORDER BY", "GROUP BY", "DISTINCT ON", "functions in FROM", "RETURNING_"))


# --- entry points -----------------------------------------------------------------------------


def bind_qualified(binder: ExprBinder, node: exp.Expr) -> Expr:
    """``schema.f(..)``, or a four-part name."""
    call = node.expression
    if not isinstance(call, exp.Anonymous):
        raise error("42601", "improper qualified name", position=position_of(node) + 1)
    check_schema(binder, node.this, call)
    return bind_call(binder, call, node)


def check_schema(binder: ExprBinder, schema: exp.Expr, call: exp.Expr) -> None:
    """Functions live in pg_catalog and information_schema."""
    name = schema.name
    if isinstance(schema, exp.Dot):
        name = schema.expression.name
    if name in FUNCTION_SCHEMAS:
        return
    position = position_of(schema) + 1
    if not binder.ctx.catalog.schema_exists(name):
        raise error("3F000", f'schema "{name}" does not exist', position=position)
    types = _type_list([resolve_unknown_type(arg) for arg in binder.bind_all(_plain_args(call))])
    raise error(
        "42883", f"function {name}.{call.name}({types}) does not exist", position=position,
        hint="No function matches the given name and argument types. You might need to add explicit type casts.",
    )  # fmt: skip


def resolve_unknown_type(expr: Expr) -> PgType:
    return expr.type


def _type_list(types: Sequence[PgType]) -> str:
    from base.typeio import type_name

    return ", ".join(type_name(t) for t in types)


def _plain_args(call: exp.Expr) -> list[exp.Expr]:
    return [arg for arg in call.expressions if not isinstance(arg, (exp.Star, exp.Order, exp.Distinct))]


class CallParts:
    """A call taken apart: f(DISTINCT a, b ORDER BY c) WITHIN GROUP (..) FILTER (..) OVER (..)."""

    __slots__ = (
        "args",
        "call",
        "distinct",
        "filter",
        "is_star",
        "name",
        "order",
        "position",
        "variadic",
        "window",
        "within",
    )

    def __init__(self, node: exp.Expr) -> None:
        self.window: exp.Window | None = None
        self.filter: exp.Expr | None = None
        self.within: exp.Expr | None = None
        if isinstance(node, exp.Window):
            self.window = node
            node = node.this
        if isinstance(node, exp.Filter):
            self.filter = node.expression.this
            node = node.this
        if isinstance(node, exp.WithinGroup):
            self.within = node.expression
            node = node.this
        self.position = position_of(node)
        self.call: exp.Expr = node.expression if isinstance(node, exp.Dot) else node
        self.name: str = self.call.name
        self.is_star = False
        self.distinct = False
        self.order: exp.Expr | None = None
        self.variadic = False
        self.args: list[exp.Expr] = []
        for arg in self.call.expressions:
            self._argument(arg)

    def _argument(self, arg: exp.Expr) -> None:
        if isinstance(arg, exp.Order):
            self.order = arg
            if arg.this is not None:
                self._argument(arg.this)
        elif isinstance(arg, exp.Distinct):
            self.distinct = True
            for inner in arg.expressions:
                self._argument(inner)
        elif isinstance(arg, exp.Star):
            self.is_star = True
        elif form_of(arg) == forms.VARIADIC:
            self.variadic = True
            self.args.append(arg.expressions[0])
        elif form_of(arg) == forms.NAMED:
            # Built-in functions have no argument names that could be used in another order.
            raise FeatureNotSupported("named arguments are not supported", position=position_of(arg) + 1)
        else:
            self.args.append(arg)


def bind_suffixed(binder: ExprBinder, node: exp.Expr) -> Expr:
    """A call with OVER, FILTER or WITHIN GROUP."""
    parts = CallParts(node)
    inner = node
    while isinstance(inner, (exp.Window, exp.Filter, exp.WithinGroup)):
        inner = inner.this
    if isinstance(inner, exp.Dot):
        check_schema(binder, inner.this, inner.expression)
    if not isinstance(parts.call, exp.Anonymous) or form_of(parts.call):
        raise error("42809", "FILTER, OVER and WITHIN GROUP need an aggregate function", position=parts.position + 1)
    if parts.window is not None:
        return _window_call(binder, parts)
    return _dispatch(binder, parts)


def bind_call(binder: ExprBinder, call: exp.Expr, node: exp.Expr) -> Expr:
    """A call without suffixes."""
    parts = CallParts(call)
    parts.position = position_of(node)
    return _dispatch(binder, parts)


def _dispatch(binder: ExprBinder, parts: CallParts) -> Expr:
    registry = binder.ctx.registry
    name = parts.name
    is_aggregate = name in registry.aggregates
    if is_aggregate and (
        name not in registry.functions or parts.is_star or parts.distinct or parts.order or parts.filter or parts.within
    ):
        return _aggregate(binder, parts)
    if is_aggregate and not _fits_function(binder, parts):
        return _aggregate(binder, parts)
    if name in registry.windows and name not in registry.functions:
        raise error("42809", f"window function {name} requires an OVER clause", position=parts.position + 1)
    for given, what in ((parts.distinct, "DISTINCT specified"), (parts.order, "ORDER BY specified"), (parts.filter, "FILTER specified"),
                        (parts.within, "WITHIN GROUP specified")):  # fmt: skip
        if given:
            raise error("42809", f"{what}, but {name} is not an aggregate function", position=parts.position + 1)
    if parts.is_star:
        raise error(
            "42809", f"{name}(*) specified, but {name} is not an aggregate function", position=parts.position + 1
        )
    return scalar_call(binder, parts)


def _fits_function(binder: ExprBinder, parts: CallParts) -> bool:
    """True if a plain function of an aggregate's name takes as many arguments."""
    return any(len(f.arg_types) == len(parts.args) for f in binder.ctx.registry.functions.get(parts.name, ()))


# --- functions ----------------------------------------------------------------------------------


def scalar_call(binder: ExprBinder, parts: CallParts) -> Expr:
    """A plain or set-returning function; a type's name as a function is a cast."""
    ctx = binder.ctx
    args = binder.bind_all(parts.args)
    places = [position_of(arg) for arg in parts.args]
    try:
        found = resolve_function(ctx.registry, parts.name, [arg.type for arg in args], parts.variadic)
    except MeridianError as failure:
        field = _functional_notation(binder, parts, args)
        if field is not None:
            return field
        raise placed(failure, parts.position) from None
    if (
        isinstance(found.function, Function)
        and len(args) == 1
        and is_unknown(args[0])
        and found.function.name == found.result.name == _pg_name(parts.name)
    ):
        return explicit_cast(ctx, args[0], found.result, -1, parts.position, places[0])
    call = binder.apply(found, args, places)
    if call.type.oid == RECORD.oid and found.function.out_fields:
        from sql.binder.expressions import record_type

        call.type = record_type(found.function.out_fields)
    if found.function.returns_set:
        return _set_call(binder, call, parts)
    return call


def _pg_name(name: str) -> str:
    from base.types import SQL_NAMES

    return SQL_NAMES.get(name, name)


def _functional_notation(binder: ExprBinder, parts: CallParts, args: list[Expr]) -> Expr | None:
    """f(row) as row.f, where there is no such function."""
    if len(args) == 1 and any(field == parts.name for field, _ in args[0].type.fields):
        return binder.field(args[0], parts.name, parts.position)
    return None


def _set_call(binder: ExprBinder, call: Call, parts: CallParts) -> Expr:
    """Takes a set-returning call out of its expression; its column stands for it."""
    if binder.clause == "functions in FROM":
        return call
    if binder.no_sets:
        raise error(
            "0A000", f"set-returning functions are not allowed in {binder.no_sets}", position=parts.position + 1,
            hint="You might be able to move the set-returning function into a LATERAL FROM item.",
        )  # fmt: skip
    state = binder.scope.state
    if state is None or binder.clause not in _SETS_ALLOWED:
        raise error("0A000", f"set-returning functions are not allowed in {binder.clause}", position=parts.position + 1)
    level = 0
    for id in _column_ids([call]):
        if id in state.set_ids:
            level = max(level, state.set_ids[id] + 1)
    while len(state.sets) <= level:
        state.sets.append([])
    id = binder.ctx.add_column(parts.name, call.type)
    state.sets[level].append((id, call))
    state.set_ids[id] = level
    return Col(id, call.type, -1, parts.name)


def _column_ids(exprs: Sequence[Expr]) -> list[int]:
    found: list[int] = []

    def visit(expr: Expr) -> None:
        if isinstance(expr, Col):
            found.append(expr.id)
        elif isinstance(expr, AggCall):
            for arg in expr.args:
                walk(arg, visit)

    for expr in exprs:
        walk(expr, visit)
    return found


# --- SQL value functions ------------------------------------------------------------------------

_PLAIN_NAMES: Final = {
    "current_role": "current_user", "user": "current_user", "current_catalog": "current_database", "current_user": "current_user",
    "session_user": "session_user", "current_schema": "current_schema",
}  # fmt: skip
_TIMES: Final[dict[str, PgType]] = {
    "current_date": DATE, "current_time": TIMETZ, "current_timestamp": TIMESTAMPTZ, "localtime": TIME, "localtimestamp": TIMESTAMP,
}  # fmt: skip


def keyword_value(binder: ExprBinder, node: exp.Expr) -> Expr:
    """CURRENT_TIMESTAMP(3), CURRENT_USER...: now() and the session's functions, cast."""
    word = text_of(node.expressions[0])
    position = position_of(node)
    target = _TIMES.get(word)
    if target is None:
        return binder.function(_PLAIN_NAMES[word], (), position)
    typmod = min(int(text_of(node.expressions[1])), 6) if len(node.expressions) > 1 else -1
    now = binder.function("now", (), position)
    return explicit_cast(binder.ctx, now, target, typmod, position, position)


# --- aggregates ---------------------------------------------------------------------------------


def _aggregate(binder: ExprBinder, parts: CallParts) -> Expr:
    inner = _inner(binder, "aggregate arguments")
    # What subqueries in the arguments take from this level need not be grouped.
    recording, binder.scope.outer_refs = binder.scope.outer_refs, None
    try:
        return _bound_aggregate(binder, inner, parts)
    finally:
        binder.scope.outer_refs = recording


def _bound_aggregate(binder: ExprBinder, inner: ExprBinder, parts: CallParts) -> Expr:
    ctx, name, position = binder.ctx, parts.name, parts.position
    args = inner.bind_all(parts.args)
    if not args and not parts.is_star and parts.within is None and name == "count":
        raise error("42809", "count(*) must be used to call a parameterless aggregate function", position=position + 1)
    if parts.variadic:
        raise FeatureNotSupported("VARIADIC arguments of aggregates are not supported", position=position + 1)
    places = [position_of(arg) for arg in parts.args]
    sorts = parts.within or parts.order
    keys = _sort_items(inner, sorts) if sorts is not None else []
    all_args = args + [expr for expr, _, _, _ in keys] if parts.within is not None else args
    try:
        found = resolve_aggregate(ctx.registry, name, [arg.type for arg in all_args])
    except MeridianError as failure:
        raise placed(failure, position) from None
    function: Aggregate = found.function
    if function.ordered_set and parts.within is None:
        raise error("42809", f"WITHIN GROUP is required for ordered-set aggregate {name}", position=position + 1)
    if parts.within is not None and not function.ordered_set:
        raise error(
            "42809", f"{name} is not an ordered-set aggregate, so it cannot have WITHIN GROUP", position=position + 1
        )
    coerced = [
        implicit(ctx, arg, target, places[i] if i < len(places) else -1)
        for i, (arg, target) in enumerate(zip(all_args, found.arg_types))
    ]
    order = _aggregate_order(binder, keys, coerced, parts, len(args))
    condition = (
        boolean(ctx, inner.bind(parts.filter), "FILTER", position_of(parts.filter))
        if parts.filter is not None
        else None
    )
    if parts.distinct:
        _check_distinct(binder, coerced, order, position)
    call = AggCall(function, tuple(coerced), found.result, -1, parts.distinct, condition, order)
    level = _aggregate_level(binder, call)
    state = level.state
    if (
        state is None
        or (level is binder.scope and binder.clause in NO_AGGREGATES)
        or (level is not binder.scope and state.clause in NO_AGGREGATES)
    ):
        clause = (
            binder.clause
            if level is binder.scope
            else (state.clause if state is not None else "FROM clause of their own query level")
        )
        raise error("42803", f"aggregate functions are not allowed in {clause}", position=position + 1)
    if level is binder.scope and binder.clause in ("aggregate arguments",):
        raise error("42803", "aggregate function calls cannot be nested", position=position + 1)
    return _register_aggregate(binder, state, call, name)


def _inner(binder: ExprBinder, clause: str) -> ExprBinder:
    from sql.binder.expressions import ExprBinder as Binder

    found = Binder(binder.ctx, binder.source, binder.scope, binder.queries, clause)
    found.no_sets = "aggregate function calls" if clause == "aggregate arguments" else ""
    return found


def _sort_items(binder: ExprBinder, order: exp.Expr) -> list[tuple[Expr, bool, bool, int]]:
    """(expression, descending, nulls first, position) of ORDER BY items that are expressions only."""
    items: list[tuple[Expr, bool, bool, int]] = []
    for ordered in order.expressions:
        position = position_of(ordered.this)
        items.append((binder.bind(ordered.this), *directions(ordered), position))
    return items


def directions(ordered: exp.Expr) -> tuple[bool, bool]:
    """(descending, nulls first) of an ORDER BY item."""
    descending = bool(ordered.args.get("desc"))
    nulls_first = bool(ordered.args.get("nulls_first"))
    return descending, nulls_first


def _aggregate_order(
    binder: ExprBinder, keys: list[tuple[Expr, bool, bool, int]], coerced: list[Expr], parts: CallParts, direct: int
) -> tuple[SortKey, ...]:
    order: list[SortKey] = []
    for i, (expr, descending, nulls_first, position) in enumerate(keys):
        if parts.within is not None:
            expr = coerced[direct + i]
        else:
            expr = resolve_unknown(binder.ctx, expr, position)
        require_sortable(binder, expr.type, position)
        order.append(SortKey(expr, descending, nulls_first))
    return tuple(order)


def require_sortable(binder: ExprBinder, pg_type: PgType, position: int) -> None:
    """Raises 42883 for types without an order (json, point..)."""
    from base.typeio import type_name
    from planner.functions.resolve import resolve_operator

    if pg_type.oid in (RECORD.oid, UNKNOWN.oid) or pg_type.kind in "ce":
        return
    try:
        resolve_operator(binder.ctx.registry, "<", pg_type, pg_type)
    except MeridianError:
        raise error(
            "42883", f"could not identify an ordering operator for type {type_name(pg_type)}", position=position + 1,
            hint="Use an explicit ordering operator or modify the query.",
        ) from None  # fmt: skip


def require_equality(binder: ExprBinder, pg_type: PgType, position: int) -> None:
    from base.typeio import type_name
    from planner.functions.resolve import resolve_operator

    if pg_type.oid in (RECORD.oid, UNKNOWN.oid) or pg_type.kind in "ce":
        return
    try:
        resolve_operator(binder.ctx.registry, "=", pg_type, pg_type)
    except MeridianError:
        text = f"could not identify an equality operator for type {type_name(pg_type)}"
        raise error("42883", text, position=position + 1) from None


def _check_distinct(binder: ExprBinder, args: list[Expr], order: tuple[SortKey, ...], position: int) -> None:
    if not args:
        raise error("42809", "DISTINCT specified, but there are no arguments", position=position + 1)
    for arg in args:
        require_equality(binder, arg.type, position)
    known = {expr_key(arg) for arg in args}
    for key in order:
        if expr_key(key.expr) not in known:
            text = "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument list"
            raise error("42P10", text, position=position + 1)


def _aggregate_level(binder: ExprBinder, call: AggCall) -> Scope:
    """The query level an aggregate belongs to: the innermost one whose columns it uses."""
    exprs = [*call.args, *[key.expr for key in call.order_by]]
    if call.filter is not None:
        exprs.append(call.filter)
    ids = _column_ids(exprs)
    if not ids:
        return binder.scope
    level: Scope | None = binder.scope
    while level is not None:
        state = level.state
        if any(level.owns(id) or (state is not None and (id in state.window_ids or id in state.set_ids)) for id in ids):
            break
        if state is not None and any(id in state.agg_ids for id in ids):
            raise error("42803", "aggregate function calls cannot be nested")
        level = level.parent
    if level is None:
        return binder.scope
    state = level.state
    if state is not None:
        if any(id in state.agg_ids for id in ids):
            raise error("42803", "aggregate function calls cannot be nested")
        if any(id in state.window_ids for id in ids):
            raise error("42803", "aggregate function calls cannot contain window function calls")
    return level


def _register_aggregate(binder: ExprBinder, state: QueryState, call: AggCall, name: str) -> Expr:
    key = expr_key(call)
    for id, known in zip(state.agg_columns, state.aggs):
        if expr_key(known) == key:
            return Col(id, call.type, call.typmod, name)
    id = binder.ctx.add_column(name, call.type, call.typmod)
    state.aggs.append(call)
    state.agg_columns.append(id)
    state.agg_ids.add(id)
    return Col(id, call.type, call.typmod, name)


def grouping(binder: ExprBinder, node: exp.Expr) -> Expr:
    """GROUPING(..): a column filled in when GROUP BY is known."""
    state = binder.scope.state
    position = position_of(node)
    if state is None or binder.clause in NO_AGGREGATES:
        raise error("42803", f"grouping operations are not allowed in {binder.clause}", position=position + 1)
    args = tuple([binder.bind_known(arg) for arg in node.expressions])
    id = binder.ctx.add_column("grouping", INT4)
    state.grouping_calls.append((id, args))
    state.agg_ids.add(id)
    return Col(id, INT4, -1, "grouping")


# --- windows ------------------------------------------------------------------------------------


def _window_call(binder: ExprBinder, parts: CallParts) -> Expr:
    ctx, name, position = binder.ctx, parts.name, parts.position
    state = binder.scope.state
    if binder.clause in ("aggregate arguments",):
        raise error("42803", "aggregate function calls cannot contain window function calls", position=position + 1)
    if binder.clause == "window definitions":
        raise error("42P20", "window function calls cannot be nested", position=position + 1)
    if state is None or binder.clause not in ("SELECT", "ORDER BY", "DISTINCT ON"):
        raise error("42P20", f"window functions are not allowed in {binder.clause}", position=position + 1)
    if parts.distinct:
        raise error("0A000", "DISTINCT is not implemented for window functions", position=position + 1)
    if parts.order is not None:
        raise error("0A000", "aggregate ORDER BY is not implemented for window functions", position=position + 1)
    inner = _inner(binder, "window definitions")
    args = inner.bind_all(parts.args)
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
        condition = boolean(ctx, inner.bind(parts.filter), "FILTER", position_of(parts.filter))
    if isinstance(found.function, Aggregate) and found.function.ordered_set:
        raise error("0A000", f"OVER is not supported for ordered-set aggregate {name}", position=position + 1)
    assert parts.window is not None
    definition = window_definition(inner, state, parts.window)
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
        for expr, descending, nulls_first, position in _sort_items(binder, order_node):
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
    _check_frame(start[0], end[0], position)
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
    if any(binder.scope.owns(id) for id in _column_ids([offset])):
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


assert OID is not None
assert Const is not Subquery
