"""Calls: functions, aggregates, window functions, set-returning functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sqlglot import exp

from base.errors import FeatureNotSupported, MeridianError, error
from base.types import BOOL, DATE, FLOAT8, INT4, JSONB, RECORD, TIME, TIMESTAMP, TIMESTAMPTZ, TIMETZ, UNKNOWN, PgType
from planner.expr import AggCall, Call, Col, Const, Expr, SortKey, walk
from planner.functions.registry import Aggregate, Function
from planner.functions.resolve import resolve_aggregate, resolve_function
from sql.binder.coerce import boolean, explicit_cast, implicit, is_unknown, resolve_unknown
from sql.binder.context import placed
from sql.binder.equality import expr_key
from sql.binder.query_state import QueryState
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


_ZERO: Final = Const(0, INT4)
_TRUE, _FALSE = Const(True, BOOL), Const(False, BOOL)
_PATH_DEFAULTS: Final = (Const("{}", JSONB), _FALSE)
NAMED_ARGUMENTS: Final[dict[str, tuple[tuple[str, ...], tuple[Expr, ...]]]] = {
    "make_date": (("year", "month", "day"), ()),
    "make_interval": (("years", "months", "weeks", "days", "hours", "mins", "secs"), (*(_ZERO,) * 6, Const(0.0, FLOAT8))),
    "make_time": (("hour", "min", "sec"), ()),
    "make_timestamp": (("year", "month", "mday", "hour", "min", "sec"), ()),
    "jsonb_insert": (("jsonb_in", "path", "replacement", "insert_after"), (_FALSE,)),
    "jsonb_set": (("jsonb_in", "path", "replacement", "create_if_missing"), (_TRUE,)),
    "jsonb_path_exists": (("target", "path", "vars", "silent"), _PATH_DEFAULTS),
    "jsonb_path_match": (("target", "path", "vars", "silent"), _PATH_DEFAULTS),
    "jsonb_path_query": (("target", "path", "vars", "silent"), _PATH_DEFAULTS),
    "jsonb_path_query_array": (("target", "path", "vars", "silent"), _PATH_DEFAULTS),
    "jsonb_path_query_first": (("target", "path", "vars", "silent"), _PATH_DEFAULTS),
}  # fmt: skip
"""Names of the arguments of built-in functions that have any, and the defaults of the last ones (pg_proc.proargnames)."""


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
        "named",
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
        self.named: list[tuple[str, exp.Expr]] = []
        """Arguments written ``name => value``."""
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
            self.named.append((text_of(arg.expressions[0]), arg.expressions[1]))
        elif self.named:
            text = "positional argument cannot follow named argument"
            raise error("42601", text, position=position_of(arg) + 1)
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
        from sql.binder.windows import window_call

        return window_call(binder, parts)
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
    if name in registry.windows and parts.within is not None:
        raise FeatureNotSupported(f"hypothetical-set aggregate {name} is not supported", position=parts.position + 1)
    if name in registry.windows and name not in registry.functions:
        raise error("42809", f"window function {name} requires an OVER clause", position=parts.position + 1)
    for given, what in ((parts.distinct, "DISTINCT specified"), (parts.order, "ORDER BY specified"), (parts.filter, "FILTER specified"),
                        (parts.within, "WITHIN GROUP specified")):  # fmt: skip
        if given:
            raise error("42809", f"{what}, but {name} is not an aggregate function", position=parts.position + 1)
    if parts.is_star:
        try:
            resolve_function(registry, name, ())
        except MeridianError as failure:
            raise placed(failure, parts.position) from None
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
    args = _arguments(binder, parts)
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


def _arguments(binder: ExprBinder, parts: CallParts) -> list[Expr]:
    """The arguments in the function's order; what is named finds its place, what is left out its default."""
    args = binder.bind_all(parts.args)
    if not parts.named:
        return args
    names, defaults = NAMED_ARGUMENTS.get(parts.name, ((), ()))
    given: dict[str, Expr] = dict(zip(names, args))
    for name, node in parts.named:
        if name in given:
            raise error("42601", f'argument name "{name}" used more than once', position=position_of(node) + 1)
        given[name] = binder.bind(node)
    missing = [name for name in names[: len(names) - len(defaults)] if name not in given]
    if missing or any(name not in names for name in given) or len(args) > len(names):
        shown = [_type_list([arg.type]) for arg in args]
        shown += [f"{name} => {_type_list([given[name].type])}" for name, _ in parts.named]
        raise error(
            "42883", f"function {parts.name}({', '.join(shown)}) does not exist", position=parts.position + 1,
            hint="No function matches the given name and argument types. You might need to add explicit type casts.",
        )  # fmt: skip
    for name, default in zip(names[len(names) - len(defaults) :], defaults):
        if name not in given:
            given[name] = default
    return [given[name] for name in names]


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
        text = f"set-returning functions are not allowed in {binder.no_sets}"
        if binder.no_sets == "aggregate function calls":
            text = "aggregate function calls cannot contain set-returning function calls"
        raise error(
            "0A000", text, position=parts.position + 1,
            hint="You might be able to move the set-returning function into a LATERAL FROM item.",
        )  # fmt: skip
    state = binder.scope.state
    if state is None or binder.clause not in _SETS_ALLOWED:
        raise error("0A000", f"set-returning functions are not allowed in {binder.clause}", position=parts.position + 1)
    column = take_out(binder, parts.name, call)
    assert column is not None, f"{parts.name=}"
    return column


def take_out(binder: ExprBinder, name: str, expr: Expr) -> Col | None:
    """Has an expression computed below the select list; None where there is no such place."""
    state = binder.scope.state
    if state is None or binder.clause not in _SETS_ALLOWED:
        return None
    level = 0
    for id in column_ids([expr]):
        if id in state.set_ids:
            level = max(level, state.set_ids[id] + 1)
    while len(state.sets) <= level:
        state.sets.append([])
    id = binder.ctx.add_column(name, expr.type, expr.typmod)
    state.sets[level].append((id, expr))
    state.set_ids[id] = level
    return Col(id, expr.type, expr.typmod, name)


def column_ids(exprs: Sequence[Expr]) -> list[int]:
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
    typmod = min(int(text_of(node.expressions[1])), 6) if len(node.expressions) > 1 else -1
    if target is None:
        found: Expr = binder.function(_PLAIN_NAMES[word], (), position)
    else:
        now = binder.function("now", (), position)
        found = explicit_cast(binder.ctx, now, target, typmod, position, position)
    if binder.ctx.written is not None:
        binder.ctx.written.note(found, "keyword", word.upper() + (f"({typmod})" if typmod >= 0 else ""))
    return found


# --- aggregates ---------------------------------------------------------------------------------


def _aggregate(binder: ExprBinder, parts: CallParts) -> Expr:
    nested = nested_binder(binder, "aggregate arguments")
    # What subqueries in the arguments take from this level need not be grouped.
    recording, binder.scope.outer_refs = binder.scope.outer_refs, None
    try:
        return _bound_aggregate(binder, nested, parts)
    finally:
        binder.scope.outer_refs = recording


def _bound_aggregate(binder: ExprBinder, nested: ExprBinder, parts: CallParts) -> Expr:
    ctx, name, position = binder.ctx, parts.name, parts.position
    marks = _outer_marks(binder.scope)
    args = nested.bind_all(parts.args)
    if not args and not parts.is_star and parts.within is None and name == "count":
        raise error("42809", "count(*) must be used to call a parameterless aggregate function", position=position + 1)
    if parts.variadic:
        raise FeatureNotSupported("VARIADIC arguments of aggregates are not supported", position=position + 1)
    places = [position_of(arg) for arg in parts.args]
    sorts = parts.within or parts.order
    keys = sort_items(nested, sorts) if sorts is not None else []
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
        boolean(ctx, nested.bind(parts.filter), "FILTER", position_of(parts.filter))
        if parts.filter is not None
        else None
    )
    if parts.distinct:
        _check_distinct(binder, coerced, order, sorts.expressions if sorts is not None else (), position)
    call = AggCall(function, tuple(coerced), found.result, -1, parts.distinct, condition, order)
    level = _aggregate_level(binder, call)
    if level.outer_refs is not None:
        # What the aggregate's own arguments took from that level is aggregated, not grouped.
        del level.outer_refs[marks.get(id(level), 0) :]
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


def _outer_marks(scope: Scope) -> dict[int, int]:
    """How many references each level has recorded so far."""
    marks: dict[int, int] = {}
    level: Scope | None = scope
    while level is not None:
        marks[id(level)] = len(level.outer_refs or ())
        level = level.parent
    return marks


def nested_binder(binder: ExprBinder, clause: str) -> ExprBinder:
    """A binder of the same scope for what stands inside a call."""
    from sql.binder.expressions import ExprBinder as Binder

    found = Binder(binder.ctx, binder.source, binder.scope, binder.queries, clause)
    found.no_sets = "aggregate function calls" if clause == "aggregate arguments" else ""
    return found


def sort_items(binder: ExprBinder, order: exp.Expr) -> list[tuple[Expr, bool, bool, int]]:
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


def _check_distinct(
    binder: ExprBinder, args: list[Expr], order: tuple[SortKey, ...], nodes: Sequence[exp.Expr], position: int
) -> None:
    if not args:
        raise error("42809", "DISTINCT specified, but there are no arguments", position=position + 1)
    for arg in args:
        require_equality(binder, arg.type, position)
    known = {expr_key(arg) for arg in args}
    for key, node in zip(order, nodes):
        if expr_key(key.expr) not in known:
            text = "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument list"
            raise error("42P10", text, position=position_of(node.this) + 1)


def _aggregate_level(binder: ExprBinder, call: AggCall) -> Scope:
    """The query level an aggregate belongs to: the innermost one whose columns it uses."""
    exprs = [*call.args, *[key.expr for key in call.order_by]]
    if call.filter is not None:
        exprs.append(call.filter)
    ids = column_ids(exprs)
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
    state.grouping_calls.append((id, args, position_of(node.expressions[0])))
    state.agg_ids.add(id)
    return Col(id, INT4, -1, "grouping")
