"""Subqueries in conditions become joins where that is always right.

    EXISTS (q)                 semi join            NOT EXISTS (q)      anti join
    x IN (q), x = ANY (q)      semi join, or an inner join with DISTINCT q if q stands alone
    (SELECT agg(..) FROM r WHERE r.k = o.k ..)      left join with the aggregate grouped by r.k

The correlated conditions are pulled out of q through filters, projections and the row-preserving
sides of joins; if any hides elsewhere (below a limit, an aggregate, an outer join's other side)
the subquery stays and runs per row, memoised.  NOT IN stays too: NULLs make it no anti join.

An aggregate over nothing is NULL, as is the left join's missing row; only count gives 0 there, so it
is wrapped in COALESCE.  (Galindo-Legaria and Joshi, "Orthogonal Optimization of Subqueries and
Aggregation", SIGMOD 2001.)  The scalar rewrite computes every group at once and is taken only where
that is cheaper than one lookup per outer row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from base.types import INT8
from planner.expr import Coalesce, Col, Const, Expr, IsNull, Not, Subquery, transform
from planner.nodes import Aggregate, Distinct, Filter, Join, Limit, Node, Project, Sort
from planner.optimize.operators import strip_relabel
from planner.optimize.tree import (
    any_part,
    conjoin,
    conjuncts,
    expr_columns,
    filtered,
    free_columns,
    has_effects,
    has_subquery,
    is_volatile,
    map_exprs,
    map_tree,
    substitute,
)  # fmt: skip

if TYPE_CHECKING:
    from planner.optimize.cardinality import Cardinality
    from planner.optimize.physical import Builder


class Decorrelator:
    """Rewrites the subqueries of one statement."""

    def __init__(self, builder: Builder, cardinality: Cardinality) -> None:
        self.builder = builder
        self.operators = builder.operators
        self.cardinality = cardinality

    def tree(self, node: Node) -> Node:
        return map_tree(node, self._node)

    def _node(self, node: Node) -> Node:
        node = map_exprs(node, lambda expr: transform(expr, self._inner))
        if isinstance(node, Filter):
            return self._filter(node)
        if isinstance(node, Project):
            return self._project(node)
        return node

    def _inner(self, part: Expr) -> Expr:
        """Rewrites inside subqueries first."""
        if isinstance(part, Subquery):
            return Subquery(part.kind, self.tree(part.plan), part.type, part.typmod, part.test)
        return part

    # --- filters

    def _filter(self, node: Filter) -> Node:
        terms = conjuncts(node.condition)
        if not any(has_subquery(term) for term in terms):
            return node
        columns = node.columns
        plain = [term for term in terms if not has_subquery(term)]
        input: Node = filtered(node.input, plain)
        rest: list[Expr] = []
        for term in terms:
            if not has_subquery(term):
                continue
            joined = self._term(input, term)
            if joined is None:
                rest.append(term)
            else:
                input = joined
        scalar: list[Expr] = []
        for term in rest:
            input, replaced = self._scalars(input, term)
            scalar.append(replaced)
        result = filtered(input, scalar)
        return result if result.columns == columns else self._restrict(result, columns)

    def _restrict(self, node: Node, columns: tuple[int, ...]) -> Node:
        return Project(node, columns, tuple([self.builder.column(id) for id in columns]))

    def _term(self, input: Node, term: Expr) -> Node | None:
        """The input joined with what the term tests, or None."""
        if isinstance(term, Subquery):
            if term.kind == "exists":
                return self._exists(input, term, "semi")
            return self._in(input, term) if term.kind == "any" else None
        if isinstance(term, Not) and isinstance(term.arg, Subquery) and term.arg.kind == "exists":
            return self._exists(input, term.arg, "anti")
        return None

    def _exists(self, input: Node, subquery: Subquery, kind: str) -> Node | None:
        plan = bare_rows(subquery.plan)
        if plan is None or not free_columns(plan) & set(input.columns):
            return None
        pulled = pull(plan, set(input.columns))
        if pulled is None:
            return None
        inner, terms = pulled
        return self._attach(input, _all_columns(terms), lambda side: Join(kind, side, inner, conjoin(terms)))

    def _attach(self, input: Node, needed: set[int], make: Callable[[Node], Node]) -> Node:
        """Puts a semi or anti join where it sees the fewest rows: on top, or on the one side of a join that it reads."""
        if isinstance(input, Filter) and isinstance(input.input, Join):
            below = self._attach(input.input, needed, make)
            if not isinstance(below, Join) or below.kind == "inner":
                return Filter(below, input.condition)
        if isinstance(input, Join) and input.kind == "inner" and not input.lateral:
            rows = self.cardinality.of(input)[0]
            outer = needed & set(input.columns)
            for side, other in ((input.left, input.right), (input.right, input.left)):
                if outer <= set(side.columns) and self.cardinality.of(side)[0] < rows:
                    attached = self._attach(side, needed, make)
                    left, right = (attached, other) if side is input.left else (other, attached)
                    return Join("inner", left, right, input.on)
        return make(input)

    def _in(self, input: Node, subquery: Subquery) -> Node | None:
        test, plan = subquery.test, subquery.plan
        if test is None or has_effects(plan) or is_volatile(test) or has_subquery(test):
            return None
        outer = set(input.columns)
        if not expr_columns(test) & outer:
            return None
        if not free_columns(plan) & outer:
            return self._distinct_join(input, plan, test)
        pulled = pull(plan, outer)
        if pulled is None:
            return None
        inner, terms = pulled
        terms = [*terms, test]
        return self._attach(input, _all_columns(terms), lambda side: Join("semi", side, inner, conjoin(terms)))

    def _distinct_join(self, input: Node, plan: Node, test: Expr) -> Node:
        """An uncorrelated IN by plain equality may drive the join from either side."""
        compared = self.operators.comparison(test)
        if compared is not None and compared[0] == "=" and len(plan.columns) == 1:
            own = plan.columns[0]
            for column, value in ((compared[1], compared[2]), (compared[2], compared[1])):
                if (
                    isinstance(column, Col)
                    and column.id == own
                    and own not in expr_columns(value)
                    and column.type == value.type
                ):
                    # NULLs join nothing; dropping them early keeps the duplicate removal small.
                    present = filtered(plan, [IsNull(column, True)])
                    return Join("inner", input, Distinct(present), test)
        return Join("semi", input, plan, test)

    # --- scalar aggregates

    def _project(self, node: Project) -> Node:
        if not any(has_subquery(expr) for expr in node.exprs):
            return node
        input: Node = node.input
        exprs: list[Expr] = []
        for expr in node.exprs:
            input, replaced = self._scalars(input, expr)
            exprs.append(replaced)
        return Project(input, node.columns, tuple(exprs))

    def _scalars(self, input: Node, expr: Expr) -> tuple[Node, Expr]:
        """Joins every scalar aggregate subquery of an expression that is worth it."""
        state = [input]

        def rewrite(part: Expr) -> Expr:
            if isinstance(part, Subquery) and part.kind == "scalar":
                found = self._scalar(state[0], part)
                if found is not None:
                    state[0], value = found
                    return value
            return part

        if not has_subquery(expr):
            return input, expr
        replaced = transform(expr, rewrite)
        return state[0], replaced

    def _scalar(self, input: Node, subquery: Subquery) -> tuple[Node, Expr] | None:
        plan: Node = subquery.plan
        value: Expr = self.builder.column(plan.columns[0])
        while isinstance(plan, Project):
            value = substitute(value, dict(zip(plan.columns, plan.exprs)))
            plan = plan.input
        if not isinstance(plan, Aggregate) or plan.group or plan.grouping_sets is not None:
            return None
        outer = set(input.columns)
        if (
            not free_columns(plan.input) & outer
            or expr_columns(value) & outer
            or has_subquery(value)
            or is_volatile(value)
        ):
            return None
        if any(expr_columns(call) & outer for call in plan.aggs) or not all(
            self._is_null_on_empty(call) for call in plan.aggs
        ):
            return None
        pulled = pull(plan.input, outer)
        if pulled is None:
            return None
        inner, terms = pulled
        pairs = [self._equality(term, outer, set(inner.columns)) for term in terms]
        if not pairs or any(pair is None for pair in pairs) or not self._is_worth_it(input, subquery.plan, inner):
            return None
        group = tuple(dict.fromkeys([pair[0].id for pair in pairs if pair is not None]))
        grouped = Aggregate(inner, group, plan.agg_columns, plan.aggs)
        zero = {
            id: Coalesce((self.builder.column(id), Const(0, INT8)), INT8)
            for id, call in zip(plan.agg_columns, plan.aggs)
            if call.function.name == "count"
        }
        return Join("left", input, grouped, conjoin(terms)), substitute(value, dict(zero))

    def _is_null_on_empty(self, call: Expr) -> bool:
        """Whether the aggregate over no rows is NULL (or count's 0)."""
        function = getattr(call, "function")  # noqa: B009  # AggCall.function is typed Any
        return function.name in (
            "count",
            "sum",
            "avg",
            "min",
            "max",
            "bool_and",
            "bool_or",
            "every",
            "stddev",
            "variance",
            "string_agg",
            "array_agg",
        )

    def _equality(self, term: Expr, outer: set[int], inner: set[int]) -> tuple[Col, Expr] | None:
        """(inner column, outer expression) of an equality that can become a grouping key."""
        compared = self.operators.comparison(term)
        if compared is None or compared[0] != "=":
            return None
        for a, b in ((compared[1], compared[2]), (compared[2], compared[1])):
            column = strip_relabel(a)
            if (
                isinstance(column, Col)
                and column.id in inner
                and not expr_columns(b) & inner
                and expr_columns(b) & outer
            ):
                return column, b
        return None

    def _is_worth_it(self, input: Node, plan: Node, inner: Node) -> bool:
        rows = self.cardinality.of(input)[0]
        per_row = self.cardinality.of(plan)[1]
        return rows * per_row > self.cardinality.of(inner)[1] * 1.5


def _all_columns(terms: list[Expr]) -> set[int]:
    found: set[int] = set()
    for term in terms:
        found |= expr_columns(term)
    return found


def bare_rows(plan: Node) -> Node | None:
    """What EXISTS needs of a query: neither its columns nor its order; None if that is not plain."""
    while True:
        if isinstance(plan, Limit):
            if (
                plan.offset is not None
                or not isinstance(plan.limit, Const)
                or not plan.limit.value
                or plan.limit.value < 1
            ):
                return None
            plan = plan.input
        elif (
            isinstance(plan, (Sort, Distinct))
            or (isinstance(plan, Project) and not any(is_volatile(expr) for expr in plan.exprs))
            or (isinstance(plan, Aggregate) and plan.group and plan.grouping_sets is None and not has_effects(plan))
        ):
            plan = plan.input
        else:
            return None if has_effects(plan) else plan


def pull(node: Node, outer: set[int]) -> tuple[Node, list[Expr]] | None:
    """Takes the correlated conditions out of a tree: (tree without them, the conditions); None if impossible."""
    if not free_columns(node) & outer:
        return node, []
    if isinstance(node, Filter):
        return _pull_filter(node, outer)
    if isinstance(node, Project):
        return _pull_project(node, outer)
    if isinstance(node, Join):
        return _pull_join(node, outer)
    return None


def _split(terms: list[Expr], outer: set[int]) -> tuple[list[Expr], list[Expr]] | None:
    """(correlated, own) terms; None if a correlated one cannot move."""
    correlated = [term for term in terms if expr_columns(term) & outer]
    if any(has_subquery(term) or is_volatile(term) for term in correlated):
        return None
    return correlated, [term for term in terms if not expr_columns(term) & outer]


def _pull_filter(node: Filter, outer: set[int]) -> tuple[Node, list[Expr]] | None:
    split = _split(conjuncts(node.condition), outer)
    below = pull(node.input, outer)
    if split is None or below is None:
        return None
    return filtered(below[0], split[1]), below[1] + split[0]


def _pull_project(node: Project, outer: set[int]) -> tuple[Node, list[Expr]] | None:
    if any(expr_columns(expr) & outer for expr in node.exprs):
        return None
    below = pull(node.input, outer)
    if below is None:
        return None
    inner, terms = below
    needed: set[int] = set()
    for term in terms:
        needed |= expr_columns(term)
    extra = tuple([id for id in inner.columns if id in needed and id not in node.columns])
    types = {part.id: part for term in terms for part in _columns_of(term)}
    exprs = node.exprs + tuple([types[id] for id in extra])
    return Project(inner, node.columns + extra, exprs), terms


def _columns_of(expr: Expr) -> list[Col]:
    found: list[Col] = []

    def visit(part: Expr) -> bool:
        if isinstance(part, Col):
            found.append(part)
        return False

    any_part(expr, visit)
    return found


def _pull_join(node: Join, outer: set[int]) -> tuple[Node, list[Expr]] | None:
    if node.kind not in ("inner", "left", "semi", "anti") or node.lateral:
        return None
    split = _split(conjuncts(node.on), outer)
    left = pull(node.left, outer)
    right = pull(node.right, outer)
    if split is None or left is None or right is None:
        return None
    if node.kind != "inner" and (right[1] or split[0]):
        return None
    terms = left[1] + right[1] + split[0]
    return Join(node.kind, left[0], right[0], conjoin(split[1]), node.lateral), terms
