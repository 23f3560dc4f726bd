"""Hash aggregation: GROUP BY, grouping sets, DISTINCT, ORDER BY and FILTER inside aggregates.

One fused projection computes, per row, everything the aggregates need (arguments, then
filters, then inner sort keys); one generated loop steps all states of a row.

    rows -> keys (per grouping set)  ->  groups: key -> [group values, state 0, state 1, ..]
         -> argument rows

A *plain* aggregate steps its state row by row.  One with DISTINCT or ORDER BY (or an
ordered-set aggregate) gathers its argument rows, and steps when the group is finished:
in order, without the repeated ones.  DISTINCT alone gives sorted input, as in PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from planner.context import ExecContext
from planner.exec.fold import contains_volatile
from planner.exec.order import equality_key, order_key, sort_positions
from planner.exec.runtime import BATCH_ROWS, Buffered, Operator, Row, Rows, RowsFunction, Run, Stream, account, evaluate
from planner.exec.scalar import KeyMaker
from planner.exec.scan import ScanOp, ScanStream
from planner.expr import AggCall, Case, Const, Expr

GROUP_BYTES: Final = 200
"""Estimated memory of a group beside its values, and of each state."""

FoldFunction = Callable[[list[bytes], list[Any], Any, ExecContext, list[Any]], list[Any]]
"""(keys, values, frame, ctx, states) -> states."""
StepFunction = Callable[[dict[Any, list[Any]], list[Any], Rows, Rows, ExecContext], None]


class AggPlan:
    """Where one aggregate finds its inputs in the argument row, and how it steps."""

    def __init__(self, call: AggCall, slots: dict[str, list[int]]) -> None:
        self.call = call
        self.aggregate = call.function
        self.args = slots["args"]
        self.filter = slots["filter"][0] if slots["filter"] else None
        self.sort = slots["sort"]
        self.is_gathered = call.distinct or bool(call.order_by)
        self.is_count = self.aggregate.name == "count" and not self.is_gathered
        self.with_ctx = bool(self.aggregate.needs_context)
        self.directions = [(key.descending, key.nulls_first) for key in call.order_by]
        self.transforms = [order_key(key.expr.type) for key in call.order_by]
        self.arg_orders = [order_key(arg.type) for arg in call.args]
        self.arg_equals = [equality_key(arg.type) for arg in call.args]

    def init(self) -> Any:
        if self.is_gathered:
            return []
        return 0 if self.is_count else self.aggregate.init()

    def finish(self, state: Any, ctx: ExecContext) -> Any:
        """The result of a group."""
        if self.is_count:
            return state
        lead = (ctx,) if self.with_ctx else ()
        if not self.is_gathered:
            return self.aggregate.final(*lead, state)
        return self._finish_gathered(state, lead)

    def _finish_gathered(self, gathered: Rows, lead: tuple[Any, ...]) -> Any:
        aggregate = self.aggregate
        values = self._ordered(gathered)
        if aggregate.ordered_set:
            count = aggregate.direct_args
            direct = gathered[0][:count] if gathered else (None,) * count
            values = [row[len(self.args) :] for row in values]
        else:
            direct = ()
            values = [row[: len(self.args)] for row in values]
        state = aggregate.init()
        for row in values:
            if not aggregate.strict or None not in row:
                state = aggregate.step(*lead, state, *row)
        return aggregate.final(*lead, state, *direct)

    def _ordered(self, gathered: Rows) -> Rows:
        rows = self._distinct(gathered) if self.call.distinct else gathered
        if self.directions and rows:
            start = len(self.args)
            columns = [[row[start + i] for row in rows] for i in range(len(self.directions))]
            return [rows[i] for i in sort_positions(columns, self.directions, self.transforms)]
        return rows

    def _distinct(self, gathered: Rows) -> Rows:
        width = len(self.args)
        seen: set[Any] = set()
        rows: Rows = []
        for row in gathered:
            key = tuple([v if v is None or f is None else f(v) for v, f in zip(row[:width], self.arg_equals)])
            if key not in seen:
                seen.add(key)
                rows.append(row)
        if self.directions or not rows or not width:
            return rows
        columns = [[row[i] for row in rows] for i in range(width)]
        return [rows[i] for i in sort_positions(columns, [(False, False)] * width, self.arg_orders)]


def argument_layout(aggs: Sequence[AggCall]) -> tuple[list[Expr], list[AggPlan]]:
    """Returns the expressions of the argument row, and each aggregate's places in it."""
    exprs: list[Expr] = []
    plans: list[AggPlan] = []
    for call in aggs:
        slots: dict[str, list[int]] = {"args": [], "filter": [], "sort": []}
        groups = (
            ("args", call.args),
            ("filter", (call.filter,) if call.filter is not None else ()),
            ("sort", [key.expr for key in call.order_by]),
        )
        for name, wanted in groups:
            for expr in wanted:
                slots[name].append(len(exprs))
                exprs.append(expr if name == "filter" else _guarded(expr, call.filter))
        plans.append(AggPlan(call, slots))
    return exprs, plans


def _guarded(expr: Expr, condition: Expr | None) -> Expr:
    """What FILTER leaves out is not even computed: it may be a division by zero."""
    if condition is None or not expr.children() or contains_volatile(condition):
        return expr
    return Case(((condition, expr),), Const(None, expr.type), expr.type, expr.typmod)


def compile_step(plans: Sequence[AggPlan]) -> StepFunction:
    """Generates the loop that steps every state of a row's group.

    Only our own names and positions enter the source; aggregates go in through the namespace.
    """
    lines = [
        "def step(groups, keys, group_rows, arg_rows, ctx):",
        "    get = groups.get",
        "    for key, group_row, a in zip(keys, group_rows, arg_rows):",
    ]
    lines += [
        "        s = get(key)",
        "        if s is None:",
        "            s = groups[key] = [group_row, " + ", ".join(f"init{i}()" for i in range(len(plans))) + "]",
    ]
    namespace: dict[str, Any] = {}
    for i, plan in enumerate(plans):
        namespace[f"init{i}"] = plan.init
        namespace[f"step{i}"] = plan.aggregate.step
        lines += ["        " + line for line in _step_lines(i, plan)]
    exec("\n".join(lines) + "\n", namespace)  # noqa: S102  # source built above from our own names
    step: StepFunction = namespace["step"]
    return step


def _step_lines(i: int, plan: AggPlan) -> list[str]:
    args = [f"a[{n}]" for n in plan.args]
    state = f"s[{i + 1}]"
    tests = [f"a[{plan.filter}]"] if plan.filter is not None else []
    if plan.is_gathered:
        action = f"{state}.append(({', '.join([*args, *[f'a[{n}]' for n in plan.sort]])},))"
    else:
        if plan.is_count or plan.aggregate.strict:
            tests += [f"{arg} is not None" for arg in args]
        lead = ["ctx"] if plan.with_ctx else []
        action = f"{state} += 1" if plan.is_count else f"{state} = step{i}({', '.join([*lead, state, *args])})"
    if not tests:
        return [action]
    return [f"if {' and '.join(tests)}:", f"    {action}"]


class GroupingSet:
    """One grouping set: how its key is made and what it shows."""

    def __init__(self, positions: tuple[int, ...], width: int, keys: KeyMaker) -> None:
        self.positions = positions
        self.keys = keys
        self.mask = 0
        for i in range(width):
            if i not in positions:
                self.mask |= 1 << (width - 1 - i)


class AggregateOp(Operator):
    """Hash aggregate; without group columns, one row always."""

    def __init__(
        self, input: Operator, columns: tuple[int, ...], group: tuple[int, ...], sets: list[GroupingSet], group_rows: RowsFunction,
        aggs: tuple[AggCall, ...], plans: list[AggPlan], arguments: RowsFunction, with_mask: bool,
    ) -> None:  # fmt: skip
        self.input = input
        self.columns = columns
        self.group = group
        self.sets = sets
        self.group_rows = group_rows
        self.aggs = aggs
        self.plans = plans
        self.arguments = arguments
        self.with_mask = with_mask
        self.step = compile_step(plans)
        self.group_exprs: list[Expr] = []
        """For EXPLAIN."""
        self.fold: FoldFunction | None = None
        """Steps the states of the one group over a page of ``fold_input``, in place of everything between."""
        self.fold_input: ScanOp | None = None

    def children(self) -> tuple[Operator, ...]:
        return (self.input,)

    def title(self) -> str:
        if not self.group:
            return "Aggregate"
        return "HashAggregate" if len(self.sets) == 1 else "MixedAggregate"

    def details(self) -> list[tuple[str, Any]]:
        return [("Group Key", self.group_exprs)] if self.group_exprs else []

    def open(self, run: Run) -> Stream:
        return AggregateStream(self, run)


class AggregateStream(Buffered):
    def __init__(self, operator: AggregateOp, run: Run) -> None:
        super().__init__()
        self.operator = operator
        self.run = run

    async def fill(self) -> Rows:
        operator, run = self.operator, self.run
        if operator.fold is not None and run.counters is None:
            return await self._fold(operator.fold)
        tables: list[dict[Any, list[Any]]] = [{} for _ in operator.sets]
        input = run.open(operator.input)
        width = GROUP_BYTES * (1 + len(operator.plans))
        while True:
            rows = await input.next()
            if not rows:
                break
            before = sum([len(table) for table in tables])
            await self._take(rows, tables)
            run.ctx.memory((sum([len(table) for table in tables]) - before) * width)
            run.ctx.check_interrupt()
        input.close()
        out: Rows = []
        for grouping, table in zip(operator.sets, tables):
            self._emit(grouping, table, out)
        return out

    async def _fold(self, fold: FoldFunction) -> Rows:
        """Aggregates a scan page by page; nothing is made per row."""
        operator, run = self.operator, self.run
        scan = operator.fold_input
        assert scan is not None, operator
        stream = ScanStream(scan, run)
        states = [plan.init() for plan in operator.plans]
        while (page := await stream.next_entries()) is not None:
            states = fold(page[0], page[1], run.frame, run.ctx, states)
            run.ctx.check_interrupt()
        return [tuple([plan.finish(state, run.ctx) for plan, state in zip(operator.plans, states)])]

    async def _take(self, rows: Rows, tables: list[dict[Any, list[Any]]]) -> None:
        operator, run = self.operator, self.run
        arguments = await evaluate(operator.arguments, rows, run)
        if any(plan.is_gathered for plan in operator.plans):
            account(run.ctx, arguments)
        group_rows = operator.group_rows(rows, run.frame, run.ctx)
        for grouping, table in zip(operator.sets, tables):
            keys = await grouping.keys.keys(rows, run) if grouping.positions else [()] * len(rows)
            operator.step(table, keys, group_rows, arguments, run.ctx)

    def _emit(self, grouping: GroupingSet, table: dict[Any, list[Any]], out: Rows) -> None:
        operator, ctx = self.operator, self.run.ctx
        if not grouping.positions and not table:
            table[()] = [(None,) * len(operator.group), *[plan.init() for plan in operator.plans]]
        is_partial = len(grouping.positions) < len(operator.group)
        tail: Row = (grouping.mask,) if operator.with_mask else ()
        for count, entry in enumerate(table.values()):
            head = entry[0]
            if is_partial:
                head = tuple([head[i] if i in grouping.positions else None for i in range(len(head))])
            out.append(head + tuple([plan.finish(state, ctx) for plan, state in zip(operator.plans, entry[1:])]) + tail)
            if count % BATCH_ROWS == 0:
                ctx.check_interrupt()
