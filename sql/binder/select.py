"""One SELECT: FROM, WHERE, GROUP BY, windows, select list, DISTINCT, ORDER BY, LIMIT.

The clauses are bound in PostgreSQL's order (it decides which use gives a parameter its type) and
stacked::

    Limit  Sort  Distinct  Project  ProjectSet  Window  Filter(HAVING)  Aggregate  Filter(WHERE)  FROM

Without DISTINCT the Sort stands below the Project, so that the select list is computed only for rows that
are given, unless a sort key is an output that calls a volatile function.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlglot import exp

from base.errors import error
from planner.expr import Expr
from planner.nodes import Distinct, Filter, Limit, Node, Sort, Values, Window
from sql.binder.calls import require_equality
from sql.binder.context import Source
from sql.binder.expressions import ExprBinder
from sql.binder.from_clause import FromBinder
from sql.binder.grouping import Grouping, Regrouper, bind_group, build_aggregate, rewrite_state
from sql.binder.ordering import (
    OrderItem,
    bind_limits,
    bind_order,
    find_target,
    lock_name,
    lock_rows,
    lock_targets,
    sort_keys,
)
from sql.binder.queries import BoundQuery
from sql.binder.query_state import QueryState
from sql.binder.scope import Scope
from sql.binder.subqueries import is_volatile
from sql.binder.targets import Target, apply_sets, assign_ids, bind_targets, output_of, project, resolve_targets
from sql.binder.tree import position_of

if TYPE_CHECKING:
    from sql.binder.queries import QueryBinder


def bind_select(
    queries: QueryBinder, node: exp.Expr, parent: Scope | None, source: Source, resolve: bool
) -> BoundQuery:
    """Binds a SELECT; see ``QueryBinder.query``."""
    return SelectBinder(queries, node, parent, source).bind(resolve)


class SelectBinder:
    """Gathers the clauses, then builds the plan."""

    def __init__(self, queries: QueryBinder, node: exp.Expr, parent: Scope | None, source: Source) -> None:
        self.queries = queries
        self.ctx = queries.ctx
        self.node = node
        self.parent = parent
        self.source = source
        self.scope = Scope(parent)
        self.state = QueryState()
        self.grouping = Grouping()
        self.targets: list[Target] = []
        self.order: list[OrderItem] = []
        self.distinct_on: list[Target] | None = None
        self.having: Expr | None = None
        self.gives_keys, self.ctx.wants_keys = self.ctx.wants_keys, False

    def binder(self, clause: str) -> ExprBinder:
        self.state.clause = clause
        return ExprBinder(self.ctx, self.source, self.scope, self.queries, clause)

    def bind(self, resolve: bool) -> BoundQuery:
        node = self.node
        plan = self._from()
        self.scope.state = self.state
        for window in node.args.get("windows") or ():
            self.state.named_windows[window.name] = window
        self.scope.outer_refs = []
        self.targets = bind_targets(self.binder("SELECT"), node.expressions)
        plan = self._where(plan)
        self._clauses(resolve)
        if self.gives_keys:
            self._add_keys()
        plan = self._aggregate(plan)
        plan = self._windows(plan)
        plan = apply_sets(self.ctx, plan, self.state)
        limits = bind_limits(self.queries, node, self.parent, self.source)
        locks = node.args.get("locks")
        if locks:
            return self._locked(plan, locks, limits)
        return self._finish(plan, limits)

    # --- clauses --------------------------------------------------------------------------

    def _from(self) -> Node:
        clause = self.node.args.get("from_")
        if clause is None:
            return Values([()], ())
        tree = FromBinder(self.queries, self.parent, self.source).bind(clause.this, self.node.args.get("joins") or ())
        self.scope.add(tree)
        return tree.node

    def _where(self, plan: Node) -> Node:
        where = self.node.args.get("where")
        if where is None:
            return plan
        recording, self.scope.outer_refs = self.scope.outer_refs, None
        condition = self.binder("WHERE").condition(where.this, "WHERE")
        self.scope.outer_refs = recording
        return Filter(plan, condition)

    def _clauses(self, resolve: bool) -> None:
        """HAVING, ORDER BY, GROUP BY, DISTINCT, in the order in which PostgreSQL transforms them."""
        node = self.node
        having = node.args.get("having")
        if having is not None:
            self.having = self.binder("HAVING").condition(having.this, "HAVING")
        self.order = bind_order(self.binder("ORDER BY"), node.args.get("order"), self.targets)
        group = node.args.get("group")
        if group is not None:
            recording, self.scope.outer_refs = self.scope.outer_refs, None
            self.grouping = bind_group(
                self.binder("GROUP BY"), group.expressions, [t for t in self.targets if not t.is_hidden]
            )
            self.scope.outer_refs = recording
        self.state.has_group = group is not None
        distinct = node.args.get("distinct")
        if distinct is not None:
            self._distinct(distinct)
        if resolve:
            resolve_targets(self.ctx, self.targets)

    def _add_keys(self) -> None:
        """Adds the primary keys of the tables, where every row of the result still is one row of each."""
        state, node = self.state, self.node
        is_simple = not (state.aggs or state.has_group or self.having is not None or state.windows or state.sets)
        if not is_simple or node.args.get("distinct") is not None:
            return
        tables = [item.table.id for item in self.scope.items if item.table is not None and item.scan is not None]
        for item in self.scope.items:
            if item.table is None or item.scan is None or tables.count(item.table.id) > 1:
                continue
            columns = {column.attnum: column for column in (*item.columns, *item.hidden)}
            for part in item.table.indexes[0].columns:
                column = columns[part.column_id]
                target = Target(column.name, column.reference(), node, -1)
                target.key_of = item.table.id
                self.targets.append(target)

    def _distinct(self, distinct: exp.Expr) -> None:
        resolve_targets(self.ctx, self.targets)
        on = distinct.args.get("on")
        if on is None:
            for target in self.targets:
                if target.is_hidden:
                    text = "for SELECT DISTINCT, ORDER BY expressions must appear in select list"
                    raise error("42P10", text, position=target.position + 1)
                require_equality(self.binder("SELECT"), target.expr.type, target.position)
            return
        binder = self.binder("DISTINCT ON")
        nodes = on.expressions if isinstance(on, exp.Tuple) else [on.this if isinstance(on, exp.Paren) else on]
        self.distinct_on = []
        places: list[int] = []
        for item in nodes:
            places.append(position_of(item))
            target = find_target(binder, item, self.targets, "DISTINCT ON")
            if target not in self.distinct_on:
                self.distinct_on.append(target)
        leading = [item.target for item in self.order[: len(self.distinct_on)]]
        if self.order and any(target not in self.distinct_on for target in leading):
            text = "SELECT DISTINCT ON expressions must match initial ORDER BY expressions"
            raise error("42P10", text, position=places[0] + 1)

    # --- plan -----------------------------------------------------------------------------

    def _aggregate(self, plan: Node) -> Node:
        state = self.state
        if not (state.aggs or state.has_group or self.having is not None or state.grouping_calls):
            return plan
        plan = build_aggregate(self.ctx, plan, self.scope, state, self.grouping)
        inner = [*state.window_ids, *state.set_ids]
        regrouper = Regrouper(
            self.ctx, self.binder("SELECT"), self.scope, state, self.grouping, [*plan.columns, *inner]
        )
        regrouper.check_outer(self.scope.outer_refs or ())
        for target in self.targets:
            target.expr = regrouper.rewrite(target.expr, target.node)
        rewrite_state(state, regrouper)
        if self.having is None:
            return plan
        having = self.node.args["having"].this
        return Filter(plan, regrouper.rewrite(self.having, having))

    def _windows(self, plan: Node) -> Node:
        for window in self.state.windows:
            plan = Window(
                plan, tuple(window.columns), tuple(window.calls), window.partition_by, window.order_by, window.frame
            )
        return plan

    def _finish(self, plan: Node, limits: tuple[Expr | None, Expr | None, bool]) -> BoundQuery:
        assign_ids(self.ctx, self.targets, plan)
        visible = [target for target in self.targets if not target.is_hidden]
        if self.node.args.get("distinct") is not None:
            plan = self._distinct_plan(project(plan, self.targets), limits)
            return BoundQuery(self._visible(plan, visible), output_of(visible))
        if any(is_volatile(item.target.expr) for item in self.order):
            plan = project(plan, self.targets)
            plan = _limited(Sort(plan, sort_keys(self.order, True)), limits)
            return BoundQuery(self._visible(plan, visible), output_of(visible))
        if self.order:
            plan = Sort(plan, sort_keys(self.order, False))
        plan = _limited(plan, limits)
        return BoundQuery(project(plan, visible), output_of(visible))

    def _distinct_plan(self, plan: Node, limits: tuple[Expr | None, Expr | None, bool]) -> Node:
        if self.distinct_on is None:
            plan = Distinct(plan)
            if self.order:
                plan = Sort(plan, sort_keys(self.order, True))
        else:
            if self.order:
                plan = Sort(plan, sort_keys(self.order, True))
            plan = Distinct(plan, tuple([target.id for target in self.distinct_on]))
        return _limited(plan, limits)

    def _visible(self, plan: Node, visible: Sequence[Target]) -> Node:
        """Drops the hidden columns again."""
        if len(visible) == len(self.targets):
            return plan
        from planner.expr import Col
        from planner.nodes import Project

        exprs = tuple([Col(t.id, t.expr.type, t.expr.typmod, t.name) for t in visible])
        return Project(plan, tuple([t.id for t in visible]), exprs)

    def _locked(
        self, plan: Node, locks: Sequence[exp.Expr], limits: tuple[Expr | None, Expr | None, bool]
    ) -> BoundQuery:
        """FOR UPDATE: rows are locked after sorting and before LIMIT, while they still are table rows."""
        name = lock_name(locks[0])
        for present, clause in (
            (self.node.args.get("distinct"), "DISTINCT clause"), (self.node.args.get("group"), "GROUP BY clause"),
            (self.having is not None, "HAVING clause"), (self.state.aggs, "aggregate functions"),
            (self.state.windows, "window functions"), (self.state.sets, "set-returning functions in the target list"),
        ):  # fmt: skip
            if present:
                raise error("0A000", f"{name} is not allowed with {clause}")
        if limits[2] and any(lock.args.get("wait") is False for lock in locks):
            raise error("42601", "SKIP LOCKED and WITH TIES options cannot be used together")
        targets = lock_targets(self.scope, plan, locks)
        for _, table, _, _, _ in targets:
            self.ctx.use_table(table, "w")
        if self.order:
            plan = Sort(plan, sort_keys(self.order, False))
        plan = _limited(lock_rows(plan, targets), limits)
        visible = [target for target in self.targets if not target.is_hidden]
        assign_ids(self.ctx, visible, plan)
        return BoundQuery(project(plan, visible), output_of(visible))


def _limited(plan: Node, limits: tuple[Expr | None, Expr | None, bool]) -> Node:
    limit, offset, ties = limits
    return plan if limit is None and offset is None else Limit(plan, limit, offset, ties)
