"""The slow honest executor: evaluates a bound tree over Python lists, row by row, nothing clever.

Nested loops for joins, a list of groups for aggregates, three-valued logic spelled out.  It shares with the
real one only the functions' ``impl`` and the sort keys of types.
"""

from __future__ import annotations

from functools import cmp_to_key
from typing import Any

from planner.exec.order import order_key
from planner.expr import (
    AggCall,
    And,
    AnyAll,
    Call,
    Case,
    Coalesce,
    Col,
    Const,
    Expr,
    InList,
    IsBool,
    IsDistinct,
    IsNull,
    Not,
    Or,
    Param,
    Subquery,
)  # fmt: skip
from planner.nodes import (
    Aggregate,
    CteScan,
    Distinct,
    Filter,
    Join,
    Limit,
    Node,
    Project,
    Scan,
    SetOp,
    Sort,
    Values,
    With,
)

Env = dict[int, Any]
Tables = dict[int, list[tuple[Any, ...]]]


class Reference:
    """Evaluates trees against tables given as lists of complete rows."""

    def __init__(self, tables: Tables, params: tuple[Any, ...] = ()) -> None:
        self.tables = tables
        self.params = params
        self.working: dict[int, list[tuple[Any, ...]]] = {}

    def rows(self, node: Node, outer: Env | None = None) -> list[tuple[Any, ...]]:
        """Output rows, by the node's columns."""
        outer = outer or {}
        method = getattr(self, "_" + type(node).__name__.lower())
        found: list[tuple[Any, ...]] = method(node, outer)
        return found

    def _env(self, node: Node, row: tuple[Any, ...], outer: Env) -> Env:
        return {**outer, **dict(zip(node.columns, row))}

    # --- nodes

    def _scan(self, node: Scan, outer: Env) -> list[tuple[Any, ...]]:
        at = [i for attnum in node.attnums for i, column in enumerate(node.table.columns) if column.id == attnum]
        return [tuple([row[i] for i in at]) for row in self.tables[node.table.id]]

    def _values(self, node: Values, outer: Env) -> list[tuple[Any, ...]]:
        return [tuple([self.value(e, outer) for e in row]) for row in node.rows]

    def _filter(self, node: Filter, outer: Env) -> list[tuple[Any, ...]]:
        return [
            row
            for row in self.rows(node.input, outer)
            if self.value(node.condition, self._env(node.input, row, outer)) is True
        ]

    def _project(self, node: Project, outer: Env) -> list[tuple[Any, ...]]:
        return [
            tuple([self.value(e, self._env(node.input, row, outer)) for e in node.exprs])
            for row in self.rows(node.input, outer)
        ]

    def _join(self, node: Join, outer: Env) -> list[tuple[Any, ...]]:
        out: list[tuple[Any, ...]] = []
        right_rows = None if node.lateral else self.rows(node.right, outer)
        hit_right: set[int] = set()
        for left in self.rows(node.left, outer):
            env = self._env(node.left, left, outer)
            hit = False
            for i, right in enumerate(self.rows(node.right, env) if right_rows is None else right_rows):
                if node.on is None or self.value(node.on, self._env(node.right, right, env)) is True:
                    hit = True
                    hit_right.add(i)
                    if node.kind not in ("semi", "anti"):
                        out.append(left + right)
            if node.kind in ("left", "full") and not hit:
                out.append(left + (None,) * len(node.right.columns))
            if (node.kind == "semi" and hit) or (node.kind == "anti" and not hit):
                out.append(left)
        if node.kind in ("right", "full"):
            assert right_rows is not None
            out += [(None,) * len(node.left.columns) + row for i, row in enumerate(right_rows) if i not in hit_right]
        return out

    def _aggregate(self, node: Aggregate, outer: Env) -> list[tuple[Any, ...]]:
        rows = self.rows(node.input, outer)
        out: list[tuple[Any, ...]] = []
        for positions in node.grouping_sets if node.grouping_sets is not None else (tuple(range(len(node.group))),):
            groups: list[tuple[tuple[Any, ...], list[tuple[Any, ...]]]] = []
            for row in rows:
                env = self._env(node.input, row, outer)
                key = tuple([env[id] if i in positions else None for i, id in enumerate(node.group)])
                for known, members in groups:
                    if known == key:
                        members.append(row)
                        break
                else:
                    groups.append((key, [row]))
            if not positions and not groups:
                groups.append(((None,) * len(node.group), []))
            for key, members in groups:
                result = key + tuple([self._agg(call, members, node.input, outer) for call in node.aggs])
                if node.grouping_column is not None:
                    result += (
                        sum([1 << (len(node.group) - 1 - i) for i in range(len(node.group)) if i not in positions]),
                    )
                out.append(result)
        return out

    def _agg(self, call: AggCall, rows: list[tuple[Any, ...]], input: Node, outer: Env) -> Any:
        envs = [self._env(input, row, outer) for row in rows]
        envs = [env for env in envs if call.filter is None or self.value(call.filter, env) is True]
        if call.order_by:
            envs = self._ordered(envs, call.order_by)
        args = [tuple([self.value(arg, env) for arg in call.args]) for env in envs]
        if call.distinct:
            args = list(dict.fromkeys(args))
            if not call.order_by:
                args.sort(key=lambda row: [(value is None, 0 if value is None else value) for value in row])
        state = call.function.init()
        for row in args:
            if not call.function.strict or None not in row:
                state = call.function.step(state, *row)
        return call.function.final(state)

    def _ordered(self, envs: list[Env], keys: Any) -> list[Env]:
        def compare(a: Env, b: Env) -> int:
            for key in keys:
                x, y = self.value(key.expr, a), self.value(key.expr, b)
                if x is None or y is None:
                    if x is None and y is None:
                        continue
                    return -1 if (x is None) == key.nulls_first else 1
                transform = order_key(key.expr.type) or (lambda value: value)
                if transform(x) != transform(y):
                    return -1 if (transform(x) < transform(y)) != key.descending else 1
            return 0

        return sorted(envs, key=cmp_to_key(compare))

    def _sort(self, node: Sort, outer: Env) -> list[tuple[Any, ...]]:
        envs = [self._env(node.input, row, outer) for row in self.rows(node.input, outer)]
        return [tuple([env[id] for id in node.columns]) for env in self._ordered(envs, node.keys)]

    def _limit(self, node: Limit, outer: Env) -> list[tuple[Any, ...]]:
        count = None if node.limit is None else self.value(node.limit, outer)
        skip = 0 if node.offset is None else self.value(node.offset, outer) or 0
        rows = self.rows(node.input, outer)[skip:]
        return rows if count is None else rows[:count]

    def _distinct(self, node: Distinct, outer: Env) -> list[tuple[Any, ...]]:
        out: list[tuple[Any, ...]] = []
        seen: list[Any] = []
        for row in self.rows(node.input, outer):
            env = self._env(node.input, row, outer)
            key = row if node.on is None else tuple([env[id] for id in node.on])
            if key not in seen:
                seen.append(key)
                out.append(row)
        return out

    def _setop(self, node: SetOp, outer: Env) -> list[tuple[Any, ...]]:
        left, right = self.rows(node.left, outer), self.rows(node.right, outer)
        if node.kind == "union":
            both = left + right
            return both if node.all else list(dict.fromkeys(both))
        out: list[tuple[Any, ...]] = []
        rest = list(right)
        for row in left if node.all else list(dict.fromkeys(left)):
            found = row in rest
            if found and node.all:
                rest.remove(row)
            if found == (node.kind == "intersect"):
                out.append(row)
        return out

    def _with(self, node: With, outer: Env) -> list[tuple[Any, ...]]:
        for cte in node.ctes:
            assert cte.plan is not None
            rows = self.rows(cte.plan, outer)
            if cte.recursive and cte.step is not None:
                rows = rows if cte.union_all else list(dict.fromkeys(rows))
                fresh = rows
                while fresh:
                    self.working[id(cte)] = fresh
                    fresh = self.rows(cte.step, outer)
                    if not cte.union_all:
                        fresh = [row for row in dict.fromkeys(fresh) if row not in rows]
                    rows = rows + fresh
            self.working[id(cte)] = rows
        return self.rows(node.input, outer)

    def _ctescan(self, node: CteScan, outer: Env) -> list[tuple[Any, ...]]:
        return self.working[id(node.cte)]

    # --- expressions

    def value(self, expr: Expr, env: Env) -> Any:
        """The datum of an expression."""
        if isinstance(expr, Const):
            return expr.value
        if isinstance(expr, Param):
            return self.params[expr.index - 1]
        if isinstance(expr, Col):
            return env[expr.id]
        if isinstance(expr, Call):
            args = [self.value(arg, env) for arg in expr.args]
            return None if expr.function.strict and None in args else expr.function.impl(*args)
        if isinstance(expr, Or):
            return self._junction([self.value(arg, env) for arg in expr.args], True)
        if isinstance(expr, And):
            return self._junction([self.value(arg, env) for arg in expr.args], False)
        if isinstance(expr, Not):
            found = self.value(expr.arg, env)
            return None if found is None else not found
        if isinstance(expr, IsNull):
            return (self.value(expr.arg, env) is None) != expr.negated
        if isinstance(expr, IsBool):
            return (self.value(expr.arg, env) is expr.value) != expr.negated
        if isinstance(expr, Subquery):
            return self._subquery(expr, env)
        return self._rare(expr, env)

    def _junction(self, values: list[Any], decisive: bool) -> Any:
        if decisive in [value for value in values if value is not None]:
            return decisive
        return None if None in values else not decisive

    def _rare(self, expr: Expr, env: Env) -> Any:
        if isinstance(expr, Case):
            for condition, value in expr.whens:
                if self.value(condition, env) is True:
                    return self.value(value, env)
            return self.value(expr.default, env)
        if isinstance(expr, Coalesce):
            return next((v for v in [self.value(arg, env) for arg in expr.args] if v is not None), None)
        if isinstance(expr, InList):
            left = self.value(expr.left, env)
            tests = [
                None if left is None or (v := self.value(item, env)) is None else bool(expr.equal.impl(left, v))
                for item in expr.items
            ]
            found = self._junction(tests, True)
            return found if not expr.negated or found is None else not found
        if isinstance(expr, AnyAll):
            left, array = self.value(expr.left, env), self.value(expr.array, env)
            if array is None:
                return None
            return self._junction(
                [None if left is None or v is None else bool(expr.operator.impl(left, v)) for v in array],
                not expr.is_all,
            )
        assert isinstance(expr, IsDistinct), type(expr)
        a, b = self.value(expr.left, env), self.value(expr.right, env)
        return ((a != b) if a is not None and b is not None else a is not b) != expr.negated

    def _subquery(self, expr: Subquery, env: Env) -> Any:
        rows = self.rows(expr.plan, env)
        if expr.kind == "exists":
            return bool(rows)
        if expr.kind == "scalar":
            assert len(rows) <= 1, "more than one row"
            return rows[0][0] if rows else None
        if expr.kind == "array":
            return tuple([row[0] for row in rows])
        assert expr.test is not None
        return self._junction(
            [self.value(expr.test, self._env(expr.plan, row, env)) for row in rows], expr.kind == "any"
        )
