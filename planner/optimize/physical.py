"""Logical trees into operators: algorithms chosen by cost, expressions compiled.

The builder keeps the *scope*: a column that the node at hand does not get from its input is
an outer column, and becomes a parameter whose frame slot the enclosing apply or subplan fills.
``free`` gathers such columns while an inner tree is built.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from base.types import PgType
from planner.access import TableAccess, TypeResolver, table_access
from planner.exec.aggregate import AggregateOp, GroupingSet, argument_layout
from planner.exec.compile import compile_filter_batch, compile_projection_batch, compile_scalar, compile_set
from planner.exec.relational import (
    AppendOp,
    DistinctOp,
    FilterOp,
    LimitOp,
    ProjectOp,
    SetOpOp,
    SortOp,
    UnaryOperator,
    ValuesOp,
)
from planner.exec.runtime import Operator, RowsFunction, ScalarFunction
from planner.exec.scalar import KeyMaker, Lazy, LiteralRow, Sorter, column_positions, layout_of, pick_rows
from planner.exec.source import CteScanOp, FunctionScanOp, ProjectSetOp, RecursiveOp, VirtualScanOp, WithOp
from planner.exec.subplan import SubPlan
from planner.expr import Call, Col, Const, Expr, Param, SortKey, Subquery, transform
from planner.functions.registry import Function
from planner.nodes import (
    Aggregate,
    Cte,
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
    Node,
    Project,
    ProjectSet,
    Scan,
    SetOp,
    Sort,
    Statement,
    Update,
    Values,
    VirtualScan,
    Window,
    With,
)  # fmt: skip
from planner.optimize.build_blocks import use_fold
from planner.optimize.build_subquery import build_subquery
from planner.optimize.operators import Operators, strip_relabel
from planner.optimize.paths import PathFinder
from planner.optimize.selectivity import ROWS_DEFAULT, Estimator
from planner.optimize.tree import conjuncts, expr_columns, fingerprint, is_volatile, is_writer
from planner.schema import TableStats

LIMIT_DEFAULT: Final = 100.0
"""Rows a LIMIT of unknown value is taken to ask for."""
SET_ROWS: Final = 10.0
"""Rows a set-returning function is taken to give."""

Order = Sequence[SortKey]


class Builder:
    """Builds the operators of one statement."""

    def __init__(
        self,
        statement: Statement,
        stats: Callable[[int], TableStats | None],
        operators: Operators,
        estimator: Estimator,
        types: TypeResolver,
        settings: Any,
    ) -> None:
        self.statement = statement
        self.metadata = statement.metadata
        self.stats = stats
        self.operators = operators
        self.estimator = estimator
        self.types = types
        self.settings = settings
        self.paths = PathFinder(operators, estimator, statement.table_exprs)
        self.slots: dict[int, int] = {}
        """Frame slot by outer column id."""
        self.slot_count = len(statement.params)
        self.free: set[int] = set()
        self.subplans: list[SubPlan] = []
        self.recursive: dict[int, Cte] = {}
        self.cte_rows: dict[int, float] = {}
        self.cte_depth = 0
        from planner.optimize.build_join import JoinBuilder
        from planner.optimize.build_scan import ScanBuilder
        from planner.optimize.build_write import WriteBuilder

        self.scans = ScanBuilder(self)
        self.joins = JoinBuilder(self)
        self.writes = WriteBuilder(self)

    # --- expressions

    def new_slot(self) -> int:
        self.slot_count += 1
        return self.slot_count - 1

    def slot_of(self, column: int) -> int:
        """The frame slot of an outer column."""
        if column not in self.slots:
            self.slots[column] = self.new_slot()
        return self.slots[column]

    def lower(self, expr: Expr, columns: tuple[int, ...]) -> Expr:
        """The expression over these input columns only: outer columns and subqueries become parameters."""
        visible = set(columns)

        def rewrite(part: Expr) -> Expr:
            if isinstance(part, Col) and part.id not in visible:
                self.free.add(part.id)
                return Param(self.slot_of(part.id) + 1, part.type, part.typmod)
            if isinstance(part, Subquery):
                return build_subquery(self, part, columns)
            return part

        return transform(expr, rewrite)

    def rows_function(self, exprs: Sequence[Expr], columns: tuple[int, ...]) -> RowsFunction:
        """A compiled projection of batches."""
        positions = column_positions(exprs, columns)
        if positions is not None:
            return pick_rows(positions)
        lowered = [self.lower(expr, columns) for expr in exprs]
        return Lazy(lambda: compile_projection_batch(lowered, layout_of(columns)))

    def filter_function(self, terms: Sequence[Expr], columns: tuple[int, ...]) -> RowsFunction:
        """A compiled filter of batches: rows for which every term is true; cheap terms first."""
        from planner.optimize.tree import conjoin, has_subquery

        ordered = sorted(terms, key=has_subquery)
        condition = conjoin([self.lower(term, columns) for term in ordered])
        assert condition is not None
        return Lazy(lambda: compile_filter_batch(condition, layout_of(columns)))

    def scalar_function(self, expr: Expr, columns: tuple[int, ...] = ()) -> ScalarFunction:
        lowered = self.lower(expr, columns)
        return Lazy(lambda: compile_scalar(lowered, layout_of(columns)))

    def column(self, id: int) -> Col:
        info = self.metadata[id]
        return Col(id, info.type, info.typmod, info.name)

    def column_type(self, id: int) -> PgType:
        return self.metadata[id].type

    def keys_of(self, columns: Sequence[int], input_columns: tuple[int, ...], nulls_equal: bool) -> KeyMaker:
        exprs = [self.column(id) for id in columns]
        return KeyMaker(exprs, [expr.type for expr in exprs], input_columns, self.rows_function, nulls_equal)

    # --- trees

    def build(self, node: Node, order: Order = (), limit: float | None = None) -> Operator:
        """The operator of a node; ``order`` would be welcome, and about ``limit`` rows will be read."""
        method = _BUILDERS.get(type(node))
        assert method is not None, type(node)
        operator: Operator = method(self, node, order, limit)
        return operator

    def build_filter(self, node: Filter, order: Order, limit: float | None) -> Operator:
        terms = conjuncts(node.condition)
        input = node.input
        while isinstance(input, Filter):
            terms += conjuncts(input.condition)
            input = input.input
        if isinstance(input, Scan):
            return self.scans.scan(input, terms, order, limit)
        if isinstance(input, VirtualScan):
            return self._virtual(input, terms)
        return self.filter_over(self.build(input, order), terms)

    def filter_over(self, input: Operator, terms: Sequence[Expr]) -> Operator:
        """A filter, if there is anything to test."""
        if not terms:
            return input
        from planner.optimize.tree import conjoin

        condition = conjoin(list(terms))
        assert condition is not None
        operator = FilterOp(input, condition, self.filter_function(terms, input.columns))
        operator.is_single = input.is_single
        rows = max(1.0, input.rows * self.estimator.terms(terms))
        operator.estimate(rows, input.cost + 0.25 * input.rows * len(terms), input.startup_cost)
        return operator

    def build_project(self, node: Project, order: Order, limit: float | None) -> Operator:
        sources = {column: expr.id for column, expr in zip(node.columns, node.exprs) if isinstance(expr, Col)}
        wanted: list[SortKey] = []
        for key in order:
            if not isinstance(key.expr, Col) or key.expr.id not in sources:
                wanted = []
                break
            wanted.append(SortKey(self.column(sources[key.expr.id]), key.descending, key.nulls_first))
        input = self.build(node.input, wanted, limit)
        if node.columns == input.columns and all(
            isinstance(e, Col) and e.id == c for e, c in zip(node.exprs, node.columns)
        ):
            return input
        operator = ProjectOp(input, node.columns, node.exprs, self.rows_function(node.exprs, input.columns))
        operator.is_single = input.is_single
        back = {source: column for column, source in reversed(list(sources.items()))}
        kept = []
        for id, descending, nulls_first in input.order:
            if id not in back:
                break
            kept.append((back[id], descending, nulls_first))
        operator.order = tuple(kept)
        operator.estimate(input.rows, input.cost + 0.1 * input.rows, input.startup_cost)
        return operator

    def build_project_set(self, node: ProjectSet, order: Order, limit: float | None) -> Operator:
        input = self.build(node.input)
        is_set = [isinstance(e, Call) and e.function.returns_set for e in node.exprs]
        functions: list[ScalarFunction] = []
        layout = layout_of(input.columns)
        for expr, many in zip(node.exprs, is_set):
            lowered = self.lower(expr, input.columns)
            functions.append(
                compile_set(lowered, layout) if many and isinstance(lowered, Call) else compile_scalar(lowered, layout)
            )

        def compute(rows: Any, frame: Any, ctx: Any) -> Any:
            return [tuple([function(row, frame, ctx) for function in functions]) for row in rows]

        operator = ProjectSetOp(input, node.columns, node.exprs, compute, is_set)
        operator.estimate(input.rows * SET_ROWS, input.cost + input.rows * SET_ROWS)
        return operator

    def build_values(self, node: Values, order: Order, limit: float | None) -> Operator:
        operator = ValuesOp(node.columns, node.rows, [self._values_row(row) for row in node.rows])
        operator.estimate(float(len(node.rows)), 0.1 * len(node.rows))
        return operator

    def _values_row(self, row: tuple[Expr, ...]) -> RowsFunction:
        if all(isinstance(expr, Const) for expr in row):
            datums = tuple([expr.value for expr in row if isinstance(expr, Const)])
            return lambda rows, frame, ctx: [datums] * len(rows)
        if all(isinstance(expr, (Const, Param)) for expr in row):
            return LiteralRow(row)
        return self.rows_function(row, ())

    def build_function_scan(self, node: FunctionScan, order: Order, limit: float | None) -> Operator:
        functions: list[ScalarFunction] = []
        returns_set = []
        for call in node.calls:
            lowered = self.lower(call, ())
            function = getattr(call, "function", None)
            many = isinstance(function, Function) and function.returns_set
            returns_set.append(many)
            functions.append(
                compile_set(lowered, {}) if many and isinstance(lowered, Call) else compile_scalar(lowered, {})
            )
        operator = FunctionScanOp(node.columns, node.calls, functions, returns_set, node.widths, node.ordinality)
        rows = SET_ROWS if any(returns_set) else 1.0
        operator.estimate(rows, rows)
        return operator

    def build_virtual(self, node: VirtualScan, order: Order, limit: float | None) -> Operator:
        return self._virtual(node, [])

    def _virtual(self, node: VirtualScan, terms: list[Expr]) -> Operator:
        positions = dict(zip(node.columns, node.positions))
        filters = [(position, self.scalar_function(expr)) for position, expr in node.filters]
        for term in terms:
            compared = self.operators.comparison(term)
            if compared is None or compared[0] != "=":
                continue
            for a, b in ((compared[1], compared[2]), (compared[2], compared[1])):
                if (
                    isinstance(a, Col)
                    and a.id in positions
                    and not expr_columns(b) & set(node.columns)
                    and a.type == b.type
                    and not is_volatile(b)
                ):
                    filters.append((positions[a.id], self.scalar_function(b)))
        operator = VirtualScanOp(
            node.relation, node.alias, node.columns, node.positions, tuple(filters), pick_rows(node.positions)
        )
        operator.estimate(200.0 if not filters else 10.0, 500.0 if not filters else 50.0)
        return self.filter_over(operator, terms)

    def build_scan(self, node: Scan, order: Order, limit: float | None) -> Operator:
        return self.scans.scan(node, [], order, limit)

    def build_join(self, node: Join, order: Order, limit: float | None) -> Operator:
        return self.joins.build(node, order)

    # --- aggregation, windows, sorting

    def build_aggregate(self, node: Aggregate, order: Order, limit: float | None) -> Operator:
        input = self.build(node.input)
        exprs, plans = argument_layout(node.aggs)
        group_rows = pick_rows([input.columns.index(id) for id in node.group])
        sets = []
        for positions in node.grouping_sets if node.grouping_sets is not None else (tuple(range(len(node.group))),):
            keys = self.keys_of([node.group[i] for i in positions], input.columns, True)
            sets.append(GroupingSet(tuple(positions), len(node.group), keys))
        operator = AggregateOp(
            input, node.columns, node.group, sets, group_rows, node.aggs, plans,
            self.rows_function(exprs, input.columns), node.grouping_column is not None,
        )  # fmt: skip
        operator.group_exprs = [self.column(id) for id in node.group]
        operator.is_single = not node.group and node.grouping_sets is None
        groups = 1.0
        for id in node.group:
            groups *= self.estimator.distinct(self.column(id), input.rows)
        groups = min(groups, max(1.0, input.rows))
        operator.estimate(groups * len(sets), input.cost + input.rows * (0.5 + 0.3 * len(exprs)), input.cost)
        use_fold(self, operator)
        return operator

    def build_window(self, node: Window, order: Order, limit: float | None) -> Operator:
        from planner.optimize.build_window import build_window

        return build_window(self, node)

    def build_sort(self, node: Sort, order: Order, limit: float | None) -> Operator:
        input = self.build(node.input, node.keys, limit)
        if input.is_single or satisfies(input, node.keys):
            return input
        keys = _without_constants(node.keys)
        if not keys:
            return input
        operator = SortOp(input, Sorter(keys, input.columns, self.rows_function), keys)
        known = []
        for key in keys:
            if not isinstance(key.expr, Col):
                break
            known.append((key.expr.id, key.descending, key.nulls_first))
        operator.order = tuple(known)
        operator.estimate(input.rows, input.cost + input.rows * 2.0, input.cost + input.rows * 2.0)
        return operator

    def build_limit(self, node: Limit, order: Order, limit: float | None) -> Operator:
        wanted = self._limit_rows(node)
        input = self.build(node.input, order, wanted if not node.with_ties else None)
        limit_of = None if node.limit is None else self.scalar_function(node.limit)
        offset_of = None if node.offset is None else self.scalar_function(node.offset)
        ties = None
        if node.with_ties:
            keys = self._sort_keys(node.input)
            ties = Sorter(keys, input.columns, self.rows_function)
        elif node.limit is not None:
            exact = (
                int(wanted)
                if isinstance(node.limit, Const) and (node.offset is None or isinstance(node.offset, Const))
                else 0
            )
            hint_limit(input, exact, (limit_of, offset_of))
        operator = LimitOp(input, limit_of, offset_of, ties)
        operator.exprs = (node.limit, node.offset)
        operator.is_single = input.is_single
        rows = min(input.rows, wanted)
        operator.estimate(
            rows, input.startup_cost + (input.cost - input.startup_cost) * min(1.0, rows / max(input.rows, 1.0))
        )
        return operator

    def _sort_keys(self, node: Node) -> tuple[SortKey, ...]:
        while not isinstance(node, Sort):
            assert isinstance(node, (Project, LockRows)), type(node)
            node = node.input
        return node.keys

    def _limit_rows(self, node: Limit) -> float:
        total = 0.0
        for expr in (node.limit, node.offset):
            if isinstance(expr, Const):
                total += float(expr.value or 0) if expr.value is not None else ROWS_DEFAULT
            elif expr is not None:
                total += LIMIT_DEFAULT
        return total if node.limit is not None else 1e12

    def build_distinct(self, node: Distinct, order: Order, limit: float | None) -> Operator:
        input = self.build(node.input, order)
        if input.is_single:
            return input
        on = node.on if node.on is not None else input.columns
        operator = DistinctOp(input, self.keys_of(on, input.columns, True), node.on)
        rows = 1.0
        for id in on:
            rows *= self.estimator.distinct(self.column(id), input.rows)
        operator.estimate(min(rows, max(1.0, input.rows)), input.cost + input.rows)
        return operator

    def build_set(self, node: SetOp, order: Order, limit: float | None) -> Operator:
        left = self.aligned(self.build(node.left), node.left.columns)
        right = self.aligned(self.build(node.right), node.right.columns)
        if node.kind == "union":
            append = AppendOp((left, right), node.columns)
            append.estimate(left.rows + right.rows, left.cost + right.cost)
            if node.all:
                return append
            distinct = DistinctOp(append, self._set_keys(node.columns, node.columns), None)
            distinct.estimate(append.rows, append.cost + append.rows)
            return distinct
        keys = (self._set_keys(node.columns, left.columns), self._set_keys(node.columns, right.columns))
        operator = SetOpOp(node.kind, node.all, left, right, node.columns, keys)
        operator.estimate(left.rows, left.cost + right.cost + left.rows + right.rows)
        return operator

    def _set_keys(self, columns: tuple[int, ...], input_columns: tuple[int, ...]) -> KeyMaker:
        """Keys over all columns of a set operation's side, by the operation's types."""
        types = [self.column_type(id) for id in columns]
        exprs = [Col(id, pg_type) for id, pg_type in zip(input_columns, types)]
        return KeyMaker(exprs, types, input_columns, self.rows_function, True)

    # --- CTEs

    def build_with(self, node: With, order: Order, limit: float | None) -> Operator:
        ctes = []
        self.cte_depth += 1
        for cte in node.ctes:
            assert cte.plan is not None, cte.name
            plan = self._cte(cte)
            self.cte_rows[id(cte)] = plan.rows
            ctes.append((id(cte), plan, is_writer(cte.plan)))
        self.cte_depth -= 1
        input = self.build(node.input, order)
        operator = WithOp(input, tuple(ctes))
        operator.names = tuple([cte.name for cte in node.ctes])
        operator.estimate(input.rows, input.cost + sum([plan.cost for _, plan, _ in ctes]))
        return operator

    def _cte(self, cte: Cte) -> Operator:
        assert cte.plan is not None
        first = self.aligned(self.build(cte.plan), cte.plan.columns)
        if not cte.recursive or cte.step is None:
            return first
        self.cte_rows[id(cte)] = first.rows * 10
        step = self.aligned(self.build(cte.step), cte.step.columns)
        keys = None if cte.union_all else self._set_keys(cte.columns, first.columns)
        operator = RecursiveOp(id(cte), first, step, cte.columns, keys)
        operator.estimate(first.rows * 10, first.cost + 10 * step.cost)
        return operator

    def build_cte_scan(self, node: CteScan, order: Order, limit: float | None) -> Operator:
        operator = CteScanOp(id(node.cte), node.columns, node.alias, node.cte.name)
        rows = self.cte_rows.get(id(node.cte), ROWS_DEFAULT)
        operator.estimate(rows, rows * 0.5)
        return operator

    # --- the rest lives elsewhere

    def build_lock(self, node: LockRows, order: Order, limit: float | None) -> Operator:
        return self.scans.lock_rows(node, order, limit)

    def build_insert(self, node: Insert, order: Order, limit: float | None) -> Operator:
        return self.writes.insert(node)

    def build_update(self, node: Update, order: Order, limit: float | None) -> Operator:
        return self.writes.update(node)

    def build_delete(self, node: Delete, order: Order, limit: float | None) -> Operator:
        return self.writes.delete(node)

    def build_merge(self, node: Merge, order: Order, limit: float | None) -> Operator:
        return self.writes.merge(node)

    def aligned(self, operator: Operator, columns: tuple[int, ...]) -> Operator:
        """The operator with exactly these columns, in this order."""
        if operator.columns == columns:
            return operator
        exprs = tuple([self.column(id) for id in columns])
        result = ProjectOp(operator, columns, exprs, self.rows_function(exprs, operator.columns))
        result.order = operator.order
        result.is_single = operator.is_single
        result.estimate(operator.rows, operator.cost, operator.startup_cost)
        return result

    def access(self, scan_or_id: Scan | int) -> TableAccess:
        """Codecs of a table of the statement."""
        if isinstance(scan_or_id, Scan):
            desc = scan_or_id.table
        else:
            desc = self.statement.foreign.get(scan_or_id) or self.statement.tables[scan_or_id]
        return table_access(desc, self.types, self.statement.table_exprs.get(desc.id))


def _without_constants(keys: Sequence[SortKey]) -> tuple[SortKey, ...]:
    """Sort keys that matter: constants and repetitions order nothing."""
    kept: list[SortKey] = []
    seen: set[str] = set()
    for key in keys:
        text = fingerprint(key.expr)
        if isinstance(key.expr, Const) or text in seen:
            continue
        seen.add(text)
        kept.append(key)
    return tuple(kept)


def satisfies(operator: Operator, keys: Sequence[SortKey]) -> bool:
    """True if the operator's known order begins with the keys."""
    wanted = _without_constants(keys)
    if len(wanted) > len(operator.order):
        return False
    for key, (id, descending, nulls_first) in zip(wanted, operator.order):
        expr = strip_relabel(key.expr)
        if not isinstance(expr, Col) or expr.id != id or key.descending != descending or key.nulls_first != nulls_first:
            return False
    return True


def hint_limit(operator: Operator, rows: int, functions: tuple[ScalarFunction | None, ScalarFunction | None]) -> None:
    """Tells what is below a LIMIT that few rows will be read: sorts keep the top, scans read small pages."""
    from planner.exec.join import JoinOp
    from planner.exec.locking import LockRowsOp
    from planner.exec.scan import ScanOp

    while True:
        if isinstance(operator, SortOp):
            operator.top = functions
            return
        if isinstance(operator, ScanOp):
            operator.limit_hint = rows
            return
        if isinstance(operator, LockRowsOp):
            operator.limit = functions
            # Rows may be dropped under the lock: how many are read below is not known exactly.
            if not isinstance(operator.input, (ScanOp, ProjectOp)):
                return
            operator, rows = operator.input, 0
        elif isinstance(operator, ProjectOp):
            operator = operator.input
        elif isinstance(operator, JoinOp) and operator.kind in ("inner", "left", "semi", "anti"):
            operator, rows = operator.left, 0
            if isinstance(operator, SortOp):
                return
        elif isinstance(operator, FilterOp):
            operator, rows = operator.input, 0
            if isinstance(operator, SortOp):
                return
        else:
            return


_BUILDERS: Final[dict[type, Callable[..., Operator]]] = {
    Filter: Builder.build_filter, Project: Builder.build_project, ProjectSet: Builder.build_project_set, Values: Builder.build_values,
    FunctionScan: Builder.build_function_scan, VirtualScan: Builder.build_virtual, Scan: Builder.build_scan, Join: Builder.build_join,
    Aggregate: Builder.build_aggregate, Window: Builder.build_window, Sort: Builder.build_sort, Limit: Builder.build_limit,
    Distinct: Builder.build_distinct, SetOp: Builder.build_set, With: Builder.build_with, CteScan: Builder.build_cte_scan,
    LockRows: Builder.build_lock, Insert: Builder.build_insert, Update: Builder.build_update, Delete: Builder.build_delete,
    Merge: Builder.build_merge,
}  # fmt: skip

UnaryOperators = UnaryOperator
