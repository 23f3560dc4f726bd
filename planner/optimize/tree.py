"""Looking at and rebuilding plan trees: column use, substitution, expressions of nodes.

Column ids are unique within a statement, so rewrites never rename; "free" columns of a tree
are those it reads but does not make: references to outer queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from planner.expr import AggCall, And, Col, Const, Expr, Or, Param, SortKey, Subquery, transform
from planner.functions.registry import VOLATILE, Function
from planner.nodes import (
    Aggregate,
    CteScan,
    Delete,
    Distinct,
    Filter,
    FunctionScan,
    Insert,
    Join,
    Limit,
    LockRows,
    Merge,
    MergeAction,
    Node,
    Project,
    ProjectSet,
    Scan,
    SetOp,
    Sort,
    Update,
    Values,
    VirtualScan,
    Window,
    WindowFrame,
    With,
)  # fmt: skip

Rewrite = Callable[[Expr], Expr]
WRITERS = (Insert, Update, Delete, Merge)


# --- expressions -----------------------------------------------------------------


def expr_columns(expr: Expr) -> set[int]:
    """Ids of every column an expression reads, outer references of its subqueries included."""
    found: set[int] = set()
    add_columns(expr, found)
    return found


def add_columns(expr: Expr, found: set[int]) -> None:
    """Adds what ``expr_columns`` finds to a set."""
    if isinstance(expr, Col):
        found.add(expr.id)
    elif isinstance(expr, Subquery):
        found |= free_columns(expr.plan)
        if expr.test is not None:
            found |= expr_columns(expr.test) - set(expr.plan.columns)
    elif isinstance(expr, AggCall):
        for child in agg_exprs(expr):
            add_columns(child, found)
    else:
        for child in expr.children():
            add_columns(child, found)


def agg_exprs(call: AggCall) -> list[Expr]:
    """Arguments, filter and sort keys of an aggregate."""
    out = list(call.args)
    if call.filter is not None:
        out.append(call.filter)
    return out + [key.expr for key in call.order_by]


def map_agg(call: AggCall, rewrite: Rewrite) -> AggCall:
    """The aggregate with each of its expressions rewritten."""
    order_by = tuple([SortKey(rewrite(key.expr), key.descending, key.nulls_first) for key in call.order_by])
    found = None if call.filter is None else rewrite(call.filter)
    return AggCall(
        call.function,
        tuple([rewrite(arg) for arg in call.args]),
        call.type,
        call.typmod,
        call.distinct,
        found,
        order_by,
    )


def any_part(expr: Expr, test: Callable[[Expr], bool]) -> bool:
    """True if the test holds for the expression or anything below it (not inside subquery plans)."""
    if test(expr):
        return True
    parts: Sequence[Expr] = agg_exprs(expr) if isinstance(expr, AggCall) else expr.children()
    return any(any_part(part, test) for part in parts)


def _is_volatile_part(expr: Expr) -> bool:
    function = getattr(expr, "function", None)
    if isinstance(function, Function):
        return function.volatility == VOLATILE
    if isinstance(expr, Subquery):
        return any(is_volatile(e) for node in walk_nodes(expr.plan) for e in node_exprs(node))
    return False


def is_volatile(expr: Expr) -> bool:
    """True if evaluating it twice may differ, or has effects."""
    return any_part(expr, _is_volatile_part)


def has_subquery(expr: Expr) -> bool:
    return any_part(expr, lambda part: isinstance(part, Subquery))


def conjuncts(expr: Expr | None) -> list[Expr]:
    """The terms of a top-level AND, flattened."""
    if expr is None:
        return []
    if isinstance(expr, And) and not isinstance(expr, Or):
        return [term for arg in expr.args for term in conjuncts(arg)]
    return [expr]


def conjoin(terms: Sequence[Expr]) -> Expr | None:
    """AND of the terms; None if there are none."""
    if not terms:
        return None
    return terms[0] if len(terms) == 1 else And(tuple(terms))


def disjuncts(expr: Expr) -> list[Expr]:
    """The terms of a top-level OR, flattened."""
    if isinstance(expr, Or):
        return [term for arg in expr.args for term in disjuncts(arg)]
    return [expr]


def filtered(node: Node, terms: Sequence[Expr]) -> Node:
    """The node under a filter of the terms, if any."""
    condition = conjoin(terms)
    return node if condition is None else Filter(node, condition)


def substitute(expr: Expr, mapping: dict[int, Expr]) -> Expr:
    """Replaces columns by expressions, inside subqueries too."""
    if not mapping or not (expr_columns(expr) & mapping.keys()):
        return expr

    def rewrite(part: Expr) -> Expr:
        if isinstance(part, Col):
            return mapping.get(part.id, part)
        if isinstance(part, Subquery):
            return substitute_subquery(part, mapping)
        return part

    return transform(expr, rewrite)


def substitute_subquery(part: Subquery, mapping: dict[int, Expr]) -> Subquery:
    plan = map_tree(part.plan, lambda node: map_exprs(node, lambda e: substitute(e, mapping)))
    test = None if part.test is None else substitute(part.test, mapping)
    return Subquery(part.kind, plan, part.type, part.typmod, test)


def fingerprint(expr: Expr) -> str:
    """Text that is equal for expressions that are the same computation over the same columns."""
    if isinstance(expr, Col):
        return f"c{expr.id}"
    if isinstance(expr, Const):
        return f"k{expr.type.oid}:{expr.value!r}"
    if isinstance(expr, Param):
        return f"p{expr.index}"
    if isinstance(expr, Subquery):
        return f"q{id(expr)}"
    own = [getattr(expr, slot) for slot in ("negated", "value", "index", "is_all") if hasattr(expr, slot)]
    function = getattr(expr, "function", None) or getattr(expr, "operator", None) or getattr(expr, "equal", None)
    name = f"{function.name}/{function.oid}" if function is not None else ""
    return f"{type(expr).__name__}[{name}{own}:{expr.type.oid}]({','.join([fingerprint(child) for child in expr.children()])})"


def is_true(expr: Expr) -> bool:
    return isinstance(expr, Const) and expr.value is True


# --- nodes -----------------------------------------------------------------------


def node_exprs(node: Node) -> list[Expr]:
    """Every expression a node itself evaluates."""
    out: list[Expr] = []

    def collect(expr: Expr) -> Expr:
        out.append(expr)
        return expr

    map_exprs(node, collect)
    return out


def _map_keys(keys: tuple[SortKey, ...], rewrite: Rewrite) -> tuple[SortKey, ...]:
    return tuple([SortKey(rewrite(key.expr), key.descending, key.nulls_first) for key in keys])


def map_exprs(node: Node, rewrite: Rewrite) -> Node:
    """The node with each of its own expressions rewritten; inputs stay."""
    if isinstance(node, Filter):
        return Filter(node.input, rewrite(node.condition))
    if isinstance(node, Project):
        return Project(node.input, node.columns, tuple([rewrite(e) for e in node.exprs]))
    if isinstance(node, ProjectSet):
        return ProjectSet(node.input, node.columns, tuple([rewrite(e) for e in node.exprs]))
    if isinstance(node, Join):
        return node if node.on is None else Join(node.kind, node.left, node.right, rewrite(node.on), node.lateral)
    if isinstance(node, Aggregate):
        aggs = tuple([map_agg(call, rewrite) for call in node.aggs])
        return Aggregate(node.input, node.group, node.agg_columns, aggs, node.grouping_sets, node.grouping_column)
    if isinstance(node, Sort):
        return Sort(node.input, _map_keys(node.keys, rewrite))
    if isinstance(node, Limit):
        limit = None if node.limit is None else rewrite(node.limit)
        offset = None if node.offset is None else rewrite(node.offset)
        return Limit(node.input, limit, offset, node.with_ties)
    if isinstance(node, Values):
        return Values([tuple([rewrite(e) for e in row]) for row in node.rows], node.columns)
    return _map_rare(node, rewrite)


def _map_rare(node: Node, rewrite: Rewrite) -> Node:
    if isinstance(node, FunctionScan):
        return FunctionScan(tuple([rewrite(e) for e in node.calls]), node.widths, node.columns, node.ordinality)
    if isinstance(node, VirtualScan):
        filters = tuple([(position, rewrite(e)) for position, e in node.filters])
        return VirtualScan(node.relation, node.columns, node.positions, node.alias, filters)
    if isinstance(node, Window):
        return _map_window(node, rewrite)
    if isinstance(node, Insert):
        insert = Insert(
            node.table, node.input, node.attnums, node.exprs, node.on_conflict, _map_returning(node.returning, rewrite)
        )
        insert.checks = _map_checks(node.checks, rewrite)
        return insert
    if isinstance(node, Update):
        sets = tuple([(attnum, rewrite(e)) for attnum, e in node.sets])
        update = Update(node.table, node.input, node.old, sets, node.exprs, _map_returning(node.returning, rewrite))
        update.checks = _map_checks(node.checks, rewrite)
        return update
    if isinstance(node, Delete):
        return Delete(node.table, node.input, node.old, node.exprs, _map_returning(node.returning, rewrite))
    if isinstance(node, Merge):
        actions = tuple([_map_action(action, rewrite) for action in node.actions])
        return Merge(node.table, node.input, node.old, actions, node.exprs)
    return node


Returning = tuple[tuple[int, ...], tuple[Expr, ...]] | None


def _map_checks(checks: tuple[tuple[str, Expr], ...], rewrite: Callable[[Expr], Expr]) -> tuple[tuple[str, Expr], ...]:
    return tuple([(view, rewrite(condition)) for view, condition in checks])


def _map_returning(returning: Returning, rewrite: Rewrite) -> Returning:
    return None if returning is None else (returning[0], tuple([rewrite(e) for e in returning[1]]))


def _map_action(action: MergeAction, rewrite: Rewrite) -> MergeAction:
    condition = None if action.condition is None else rewrite(action.condition)
    values = tuple([(attnum, rewrite(e)) for attnum, e in action.values])
    return MergeAction(action.is_matched, condition, action.kind, values)


def _map_window(node: Window, rewrite: Rewrite) -> Window:
    calls = tuple([map_agg(call, rewrite) for call in node.calls])
    frame = node.frame
    start = (frame.start[0], None if frame.start[1] is None else rewrite(frame.start[1]))
    end = (frame.end[0], None if frame.end[1] is None else rewrite(frame.end[1]))
    new_frame = WindowFrame(frame.mode, start, end, frame.exclude)
    partition = tuple([rewrite(e) for e in node.partition_by])
    return Window(node.input, node.window_columns, calls, partition, _map_keys(node.order_by, rewrite), new_frame)


def with_inputs(node: Node, inputs: tuple[Node, ...]) -> Node:
    """Like Node.with_inputs, but output columns that follow the input are followed again."""
    new = node.with_inputs(inputs)
    if isinstance(node, (Filter, Sort, Limit, Distinct, LockRows, With)):
        new.columns = inputs[0].columns
    elif isinstance(node, Window):
        new.columns = inputs[0].columns + node.window_columns
    return new


def map_tree(node: Node, rewrite: Callable[[Node], Node]) -> Node:
    """Rewrites bottom-up; CTE definitions are visited too (and changed in place, being shared)."""
    if isinstance(node, With):
        for cte in node.ctes:
            if cte.plan is not None:
                cte.plan = map_tree(cte.plan, rewrite)
            if cte.step is not None:
                cte.step = map_tree(cte.step, rewrite)
    inputs = node.inputs()
    if inputs:
        new = tuple([map_tree(child, rewrite) for child in inputs])
        if any(a is not b for a, b in zip(inputs, new)):
            node = with_inputs(node, new)
    return rewrite(node)


def walk_nodes(node: Node) -> Iterable[Node]:
    """Every node of the tree, CTE definitions included, not into subquery expressions."""
    yield node
    if isinstance(node, With):
        for cte in node.ctes:
            for plan in (cte.plan, cte.step):
                if plan is not None:
                    yield from walk_nodes(plan)
    for child in node.inputs():
        yield from walk_nodes(child)


def made_columns(node: Node) -> set[int]:
    """Ids that the tree computes or reads from tables, anywhere in it."""
    made: set[int] = set()
    for part in walk_nodes(node):
        if not part.inputs() or isinstance(part, (Project, ProjectSet, Aggregate, Window, SetOp)):
            made.update(part.columns)
        if isinstance(part, With):
            for cte in part.ctes:
                made.update(cte.columns)
        if isinstance(part, WRITERS):
            made.update(part.exprs.row)
            made.update(part.columns)
            if isinstance(part, Insert) and part.on_conflict is not None:
                made.update(part.on_conflict.existing)
                made.update(part.on_conflict.excluded)
    return made


def read_columns(node: Node) -> set[int]:
    """Ids that expressions of the tree read."""
    found: set[int] = set()
    for part in walk_nodes(node):
        for expr in node_exprs(part):
            add_columns(expr, found)
        if isinstance(part, Aggregate):
            found.update(part.group)
    return found


def free_columns(node: Node) -> set[int]:
    """Ids of outer columns the tree reads."""
    return read_columns(node) - made_columns(node)


def is_writer(node: Node) -> bool:
    """True if the tree changes data."""
    return any(isinstance(part, WRITERS) for part in walk_nodes(node))


def has_effects(node: Node) -> bool:
    """True if evaluating the tree once, twice or never can be told apart."""
    return any(
        isinstance(part, (*WRITERS, LockRows))
        or getattr(part, "lock", 0)
        or any(is_volatile(e) for e in node_exprs(part))
        for part in walk_nodes(node)
    )


def cte_uses(node: Node) -> dict[int, int]:
    """How often each CTE (by id()) is read anywhere below, subqueries included."""
    uses: dict[int, int] = {}
    _count_uses(node, uses)
    return uses


def _count_uses(node: Node, uses: dict[int, int]) -> None:
    for part in walk_nodes(node):
        if isinstance(part, CteScan):
            uses[id(part.cte)] = uses.get(id(part.cte), 0) + 1
        for expr in node_exprs(part):
            _count_expr_uses(expr, uses)


def _count_expr_uses(expr: Expr, uses: dict[int, int]) -> None:
    if isinstance(expr, Subquery):
        _count_uses(expr.plan, uses)
    parts: Sequence[Expr] = agg_exprs(expr) if isinstance(expr, AggCall) else expr.children()
    for part in parts:
        _count_expr_uses(part, uses)


def base_scan(node: Node) -> Scan | None:
    """The table scan under filters, if that is all there is."""
    while isinstance(node, Filter):
        node = node.input
    return node if isinstance(node, Scan) else None
