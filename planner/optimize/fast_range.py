"""Compiled SELECTs of one short span: read one page, then one loop over its entries.

    [Limit] [Project] [Sort] [Distinct] [Project]  Scan of one span
    [Project] Aggregate without groups  [Project]  Scan of one span

The operators above the scan become parts of the loop or lines after it.  There are two forms of
the function, each made when it is first needed: one answers with rows, the other with rows
encoded as a ``RowFormat`` says, made from the stored bytes where that is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from kvtier.messages import Lock, Wait
from planner.access import IndexAccess
from planner.exec.aggregate import AggregateOp
from planner.exec.blocks import EntryLoop
from planner.exec.fast import EncodedRows, FastPlan, FieldSource, RowFormat
from planner.exec.fold import fold
from planner.exec.folding import Steps, split_arguments
from planner.exec.order import sort_positions
from planner.exec.relational import DistinctOp, LimitOp, ProjectOp, SortOp
from planner.exec.runtime import Operator, int_argument
from planner.exec.scan import ScanOp
from planner.expr import Col, Expr, SortKey
from planner.optimize.fast_source import Script, value_sources
from planner.optimize.tree import conjoin, is_volatile, substitute

if TYPE_CHECKING:
    pass

RANGE_ROWS_MAX: Final = 1024
"""Most entries a compiled range reads; more goes through a cursor."""


class Shape:
    """What is above a scan, with every expression over the scan's own columns (``exprs`` of an aggregate: over its results)."""

    def __init__(self, columns: Sequence[int], column: Callable[[int], Col]) -> None:
        self.exprs: list[Expr] = [column(id) for id in columns]
        self._column = column
        self.limit: LimitOp | None = None
        self.sort: list[SortKey] = []
        self.distinct: list[Expr] | None = None
        self.aggregate: AggregateOp | None = None
        self.arguments: list[list[Expr]] = []
        """Of each aggregate."""
        self.filters: list[Expr | None] = []

    def add(self, operator: Operator) -> bool:
        """Takes the next operator down; False if it does not fit."""
        if isinstance(operator, ProjectOp):
            self._project(dict(zip(operator.columns, operator.exprs)))
            return True
        if isinstance(operator, LimitOp):
            is_first = self.limit is None and not self.sort and self.distinct is None and self.aggregate is None
            self.limit = operator
            return is_first and operator.ties is None
        if isinstance(operator, SortOp):
            is_first = not self.sort and self.distinct is None and self.aggregate is None
            self.sort = list(operator.keys)
            # What is above is computed for the rows that LIMIT leaves: columns cannot fail for the others.
            return is_first and (self.limit is None or all([isinstance(expr, Col) for expr in self.exprs]))
        if isinstance(operator, DistinctOp):
            is_first = self.distinct is None and self.aggregate is None
            self.distinct = [self._column(id) for id in (operator.columns if operator.on is None else operator.on)]
            return is_first
        if isinstance(operator, AggregateOp):
            return self._add_aggregate(operator)
        return False

    def _project(self, mapping: dict[int, Expr]) -> None:
        def over(expr: Expr) -> Expr:
            return substitute(expr, mapping)

        if self.aggregate is None:
            self.exprs = [over(expr) for expr in self.exprs]
        self.sort = [SortKey(over(key.expr), key.descending, key.nulls_first) for key in self.sort]
        if self.distinct is not None:
            self.distinct = [over(expr) for expr in self.distinct]
        self.arguments = [[over(expr) for expr in exprs] for exprs in self.arguments]
        self.filters = [None if expr is None else over(expr) for expr in self.filters]

    def _add_aggregate(self, operator: AggregateOp) -> bool:
        if self.aggregate is not None or self.sort or self.distinct is not None or self.limit is not None:
            return False
        self.aggregate = operator
        self.arguments = [list(call.args) for call in operator.aggs]
        self.filters = [call.filter for call in operator.aggs]
        has_groups = bool(operator.group) or len(operator.sets) != 1 or operator.with_mask
        return not has_groups and not any([plan.is_gathered for plan in operator.plans])

    def all_exprs(self) -> list[Expr]:
        """Every expression, for the checks that concern all of them."""
        found = [*self.exprs, *[key.expr for key in self.sort], *(self.distinct or [])]
        for exprs in self.arguments:
            found += exprs
        return found + [expr for expr in self.filters if expr is not None]


def compile_range(operator: ScanOp, shape: Shape) -> FastPlan | None:
    """The plan of what ``shape`` says over one span of an index: leading equalities, then perhaps a range."""
    path = operator.path
    if path is None or operator.lock != Lock.NONE or operator.spans.is_point or not path.positions:
        return None
    if any(position.kind not in ("value", "range") for position in path.positions):
        return None
    if any(is_volatile(expr) for expr in [*shape.all_exprs(), *operator.conditions[1]]):
        return None

    def write(format: RowFormat | None) -> Callable[..., Any]:
        is_aggregate = shape.aggregate is not None
        writer = _AggregateWriter(operator, shape) if is_aggregate else _RowWriter(operator, shape, format)
        return writer.define()

    def first(txn: Any, params: Any, ctx: Any) -> Any:
        """Stands for the plan's function until it is needed: compiling costs more than planning."""
        if plan.run is first:
            plan.run = write(None)
        return plan.run(txn, params, ctx)

    plan = FastPlan("range", first, True, None if shape.aggregate is not None else write)
    return plan


class RangeWriter:
    """What the kinds share: the span, the page, the lookup of rows."""

    empty = "return []"
    """Statement that answers where nothing can match."""

    def __init__(self, operator: ScanOp, shape: Shape) -> None:
        self.operator = operator
        self.shape = shape
        self.residual = conjoin(list(operator.conditions[1]))
        self.script = Script()
        self.script.namespace |= {
            "NO_LOCK": Lock.NONE,
            "BLOCK": Wait.BLOCK,
            "ENTRY": operator.fetcher.entry_projection,
            "PROJECTION": operator.fetcher.projection,
            "int_argument": int_argument,
        }

    def loop(self, computed: Sequence[Expr], passed: Sequence[Expr]) -> EntryLoop:
        """The loop over the entries, or over the rows they lead to."""
        operator = self.operator
        index = operator.index if operator.fetcher.covering else operator.index.table.primary
        attnums = dict(zip(operator.path.scan.columns, operator.path.scan.attnums))
        residual = [] if self.residual is None else [self.residual]
        loop = EntryLoop(index, attnums, [*computed, *residual], passed, self.script.namespace)
        self.script.adopt(loop.compiler)
        return loop

    def read(self, most: str, must_be_whole: bool) -> None:
        """Reads the page: ``keys`` and ``values`` of at most ``most`` entries, or of the rows they lead to."""
        script, operator = self.script, self.operator
        self._add_span()
        script.read(f"txn.scan(start, end, reverse={operator.reverse!r}, limit={most}, projection=ENTRY)", "ScanResult")
        if must_be_whole:
            script.add("if value.resume is not None:", "    return None")
        elif most != str(RANGE_ROWS_MAX):
            script.add(f"if value.resume is not None and len(value.keys) < {most}:", "    return None")
        script.let("keys", "value.keys")
        script.add("values = value.values")
        if not operator.fetcher.covering:
            _add_lookup(script, operator.index, self.empty)

    def _add_span(self) -> None:
        path, codec = self.operator.path, self.operator.index.codec
        script, empty = self.script, self.empty
        compiler = script.compiler({})
        equal = [position.values[0] for position in path.positions if position.kind == "value"]
        names = value_sources(script, equal, "k", compiler, empty)
        last = path.positions[-1] if path.positions[-1].kind == "range" else None
        if last is None:
            source, namespace = codec.encode_source(names)
            if len(names) == len(codec.columns):
                # The suffix of interleaved rows is no part of a span over them.
                source, namespace = "encode_prefix((" + ", ".join(names) + ",))", {"encode_prefix": codec.encode_prefix}
            script.namespace.update(namespace)
            script.add(
                "try:", f"    start = {source}", "except RANGE_ERRORS:", f"    {empty}", "end = prefix_end(start)"
            )
            return
        bounds: list[str | None] = []
        for name, expr in (("lower", last.lower), ("upper", last.upper)):
            if expr is not None:
                script.add(f"{name} = {compiler.source(expr)}", f"if {name} is None:", f"    {empty}")
            bounds.append(name if expr is not None else None)
        lines, namespace = codec.range_source(names, bounds[0], last.lower_inclusive, bounds[1], last.upper_inclusive)
        script.namespace |= namespace | {"range_span": codec.range_span}
        values = "".join([f"{name}, " for name in names])
        slow = f"range_span(({values}), {bounds[0]}, {last.lower_inclusive!r}, {bounds[1]}, {last.upper_inclusive!r})"
        script.block("try:", lines)
        script.add("except RANGE_ERRORS:", "    try:", f"        start, end = {slow}")
        script.add("    except RANGE_ERRORS:", f"        {empty}")
        script.add("if start >= end:", f"    {empty}")


def _add_lookup(script: Script, index: IndexAccess, empty: str) -> None:
    """Rows of a secondary index's entries."""
    script.namespace["primary_key"] = index.primary_key
    script.namespace["missing_row"] = _missing_row(index)
    script.add("if not keys:", f"    {empty}")
    script.let("keys", "[primary_key(key, row) for key, row in zip(keys, values)]")
    script.read("txn.get_many(keys, NO_LOCK, BLOCK, PROJECTION)", "list")
    script.add("if None in value:", "    raise missing_row(keys[value.index(None)])")
    script.add("values = value")


def _missing_row(index: IndexAccess) -> Callable[[bytes], Exception]:
    from base.errors import error

    return lambda key: error("XX002", f'index "{index.desc.name}" has an entry without a row at key {key.hex()}')


class _RowWriter(RangeWriter):
    """A range whose rows are the answer."""

    def __init__(self, operator: ScanOp, shape: Shape, format: RowFormat | None) -> None:
        super().__init__(operator, shape)
        self.format = format
        self.is_cut_first = shape.limit is not None and self.residual is None and shape.distinct is None
        self.is_cut_first = self.is_cut_first and not shape.sort
        """LIMIT counts entries: they can be left out before the loop."""

    def define(self) -> Callable[..., Any]:
        script, shape = self.script, self.shape
        most = self._add_limit()
        self.read(most, shape.limit is None or not self.is_cut_first)
        if self.is_cut_first and shape.limit is not None and shape.limit.exprs[1] is not None:
            script.add("keys = keys[offset:]", "values = values[offset:]")
        is_whole = self.is_cut_first or (shape.limit is None and not shape.sort)
        loop = self._loop()
        before, lines, result = self._body(loop, is_whole)
        script.add(*before, *loop.lines(self.residual, lines))
        if not is_whole:
            self._add_order()
            if shape.limit is not None:
                script.add(f"rows = rows[{_slice(shape.limit)}]")
        script.add(f"return {result}")
        return script.define(False)

    def _loop(self) -> EntryLoop:
        shape, format = self.shape, self.format
        computed = [expr for i, expr in enumerate(shape.exprs) if format is None or not format.takes_stored(i)]
        passed = [expr for i, expr in enumerate(shape.exprs) if format is not None and format.takes_stored(i)]
        keys = [*[key.expr for key in shape.sort], *(shape.distinct or [])]
        computed += [expr for expr in [*passed, *keys] if not isinstance(expr, Col)]
        return self.loop(computed, [*passed, *keys])

    def _add_limit(self) -> str:
        """Evaluates LIMIT and OFFSET; returns the source of the page's length."""
        limit, script = self.shape.limit, self.script
        if limit is None:
            return str(RANGE_ROWS_MAX)
        writer = script.compiler({})
        count, skip = limit.exprs
        script.let("limit", "None" if count is None else f"int_argument({writer.source(count)}, 'LIMIT', '2201W')")
        script.let("offset", "0" if skip is None else f"int_argument({writer.source(skip)}, 'OFFSET', '2201X') or 0")
        script.add("if limit == 0:", "    return []")
        if not self.is_cut_first:
            script.let("upto", "None if limit is None else limit + offset")
            return str(RANGE_ROWS_MAX)
        script.add(f"if limit is None or limit + offset > {RANGE_ROWS_MAX}:", "    return None")
        script.let("upto", "limit + offset")
        return "upto"

    def _body(self, loop: EntryLoop, is_whole: bool) -> tuple[list[str], list[str], str]:
        """Returns lines before the loop, its body, and the result."""
        before: list[str] = []
        lines = self._distinct_lines(loop, before)
        lines += self._key_lines(loop, before)
        if self.format is None:
            before += ["rows = []", "put = rows.append"]
            return before, [*lines, f"put({loop.row(self.shape.exprs)})"], "rows"
        more, pieces = self._pieces(loop, self.format)
        before += ["rows = []", "put = rows.append"]
        self.script.namespace["EncodedRows"] = EncodedRows
        lines += more
        if not is_whole:
            return before, [*lines, f"put({_joined(pieces)})"], "EncodedRows(b''.join(rows), len(rows))"
        count = (
            "len(values)" if self.residual is None and self.shape.distinct is None else f"len(rows) // {len(pieces)}"
        )
        return before, [*lines, *[f"put({piece})" for piece in pieces]], f"EncodedRows(b''.join(rows), {count})"

    def _pieces(self, loop: EntryLoop, format: RowFormat) -> tuple[list[str], list[str]]:
        lines, fields = [], []
        for i, expr in enumerate(self.shape.exprs):
            variable = loop.datum(expr)
            if not variable.isidentifier():
                lines.append(f"o{i} = {variable}")
                variable = f"o{i}"
            fields.append(FieldSource(variable, loop.is_stored(expr), loop.nullable(expr)))
        more, pieces = format.source(fields, self.script.namespace)
        return [*lines, *more], pieces

    def _distinct_lines(self, loop: EntryLoop, before: list[str]) -> list[str]:
        """Leaves out entries whose key was seen."""
        distinct = self.shape.distinct
        if distinct is None:
            return []
        before += ["seen = set()", "add_seen = seen.add"]
        keys = [loop.equality_key(expr) for expr in distinct]
        key = keys[0] if len(keys) == 1 else f"({''.join([source + ', ' for source in keys])})"
        return [f"distinct = {key}", "if distinct in seen:", "    continue", "add_seen(distinct)"]

    def _key_lines(self, loop: EntryLoop, before: list[str]) -> list[str]:
        """Gathers the sort keys, a column each."""
        lines, transforms = [], []
        for i, key in enumerate(self.shape.sort):
            source, transform = loop.order_key(key.expr)
            transforms.append(transform)
            before += [f"order{i} = []", f"put_order{i} = order{i}.append"]
            lines.append(f"put_order{i}({source})")
        self.script.namespace["TRANSFORMS"] = transforms
        self.script.namespace["DIRECTIONS"] = [(key.descending, key.nulls_first) for key in self.shape.sort]
        return lines

    def _add_order(self) -> None:
        if self.shape.sort:
            self.script.namespace["sort_positions"] = sort_positions
            columns = ", ".join([f"order{i}" for i in range(len(self.shape.sort))])
            self.script.add(f"rows = [rows[i] for i in sort_positions([{columns}], DIRECTIONS, TRANSFORMS)]")


def _slice(limit: LimitOp | None) -> str:
    assert limit is not None
    return ":upto" if limit.exprs[1] is None else "offset:upto"


def _joined(pieces: list[str]) -> str:
    return " + ".join(pieces) if len(pieces) <= 3 else f"b''.join(({', '.join(pieces)}))"


class _AggregateWriter(RangeWriter):
    """A range that becomes one row."""

    empty = "return no_rows(params, ctx)"

    def define(self) -> Callable[..., Any]:
        script, shape = self.script, self.shape
        operator = shape.aggregate
        assert operator is not None
        self._add_result(operator)
        self.read(str(RANGE_ROWS_MAX), True)
        computed, passed = split_arguments(operator.plans, shape.arguments, shape.filters)
        loop = self.loop(computed, passed)
        steps = Steps(operator.plans, shape.arguments, shape.filters, loop, self.residual is None)
        script.namespace |= steps.namespace
        script.add(*steps.before)
        body, states = steps.body, steps.states
        if body:
            script.add(*loop.lines(self.residual, body, whole=steps.whole))
        script.add(f"return result(params, ctx, {', '.join(states)})" if states else "return result(params, ctx)")
        return script.define(False)

    def _add_result(self, operator: AggregateOp) -> None:
        """Functions for the one row of finished states, and for that of no rows."""
        script = self.script
        layout: dict[int, int | str] = {id: f"g{i}" for i, id in enumerate(operator.columns)}
        compiler = script.compiler(layout)
        row = "".join([f"{compiler.source(fold(expr))}, " for expr in self.shape.exprs])
        states = [f"s{i}" for i in range(len(operator.plans))]
        finished = [f"    g{i} = finish{i}(s{i}, ctx)" for i in range(len(states))]
        arguments = ", ".join(["params", "ctx", *states])
        initial = ", ".join(["params", "ctx", *[f"init{i}()" for i in range(len(states))]])
        script.functions.append("\n".join([f"def result({arguments}):", *finished, f"    return [({row})]", ""]))
        script.functions.append(f"def no_rows(params, ctx):\n    return result({initial})\n")
        for i, plan in enumerate(operator.plans):
            script.namespace |= {f"finish{i}": plan.finish, f"init{i}": plan.init}
