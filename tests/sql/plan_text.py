"""Prints bound plans as indented text, for golden cases.

    Project [#1 a, #8 ?column? = (#1 + 1)]
      Filter (#1 = 5)
        Scan t [#1 a, #2 b]

``#n`` is a column id.  Identity projections and hidden columns are printed too: the binder's output as it is.
"""

from __future__ import annotations

from collections.abc import Callable

from planner import nodes as n
from planner.explain import expr_text
from planner.expr import AggCall, Col, Expr, SortKey, Subquery, transform


class PlanPrinter:
    """``rewrite`` is applied to every expression first (tests put constants in for parameters)."""

    def __init__(self, metadata: n.Metadata, rewrite: Callable[[Expr], Expr] | None = None) -> None:
        self.metadata = metadata
        self.rewrite = rewrite
        self.numbers: dict[int, int] = {}
        self.subplans: list[n.Node] = []

    def print(self, node: n.Node) -> str:
        """The plan, then the plans of its subqueries."""
        parts = ["\n".join(self._lines(node, 0))]
        done = 0
        while done < len(self.subplans):
            plan = self.subplans[done]
            done += 1
            parts.append(f"subquery {done}:\n" + "\n".join(self._lines(plan, 1)))
        return "\n".join(parts)

    # --- columns and expressions

    def id(self, id: int) -> str:
        """Ids are numbered in the order in which they are printed, so that goldens do not depend on unused ones."""
        number = self.numbers.setdefault(id, len(self.numbers) + 1)
        return f"#{number}"

    def named(self, id: int) -> str:
        return f"{self.id(id)} {self.metadata[id].name}"

    def columns(self, ids: tuple[int, ...]) -> str:
        return "[" + ", ".join(self.named(id) for id in ids) + "]"

    def expr(self, expr: Expr | None) -> str:
        if expr is None:
            return "-"
        if isinstance(expr, AggCall):
            return self._call(expr)

        def rename(part: Expr) -> Expr:
            if self.rewrite is not None:
                part = self.rewrite(part)
            if isinstance(part, Subquery):
                self.subplans.append(part.plan)
                test = "" if part.test is None else f" where {self.expr(part.test)}"
                return Col(-1, part.type, -1, f"{part.kind}(subquery {len(self.subplans)}{test})")
            if isinstance(part, Col) and part.id >= 0:
                return Col(-1, part.type, -1, self.id(part.id))
            return part

        return expr_text(transform(expr, rename))

    def _call(self, call: AggCall) -> str:
        distinct = "distinct " if call.distinct else ""
        order = f" order by {self.keys(call.order_by)}" if call.order_by else ""
        condition = f" filter {self.expr(call.filter)}" if call.filter is not None else ""
        return f"{call.function.name}({distinct}{', '.join(self.expr(arg) for arg in call.args)}{order}){condition}"

    def keys(self, keys: tuple[SortKey, ...]) -> str:
        words = []
        for key in keys:
            nulls = "" if key.nulls_first == key.descending else " nulls first" if key.nulls_first else " nulls last"
            words.append(self.expr(key.expr) + (" desc" if key.descending else "") + nulls)
        return ", ".join(words)

    def assigned(self, ids: tuple[int, ...], exprs: tuple[Expr, ...]) -> str:
        parts = []
        for id, expr in zip(ids, exprs):
            parts.append(
                self.named(id) if isinstance(expr, Col) and expr.id == id else f"{self.named(id)} = {self.expr(expr)}"
            )
        return "[" + ", ".join(parts) + "]"

    # --- nodes

    def _lines(self, node: n.Node, depth: int) -> list[str]:
        lines = ["  " * depth + self._title(node)]
        if isinstance(node, n.With):
            for cte in node.ctes:
                lines.append(
                    "  " * (depth + 1)
                    + f"cte {cte.name} {self.columns(cte.columns)}{' recursive' if cte.recursive else ''}"
                )
                assert cte.plan is not None
                lines += self._lines(cte.plan, depth + 2)
                if cte.step is not None:
                    lines += self._lines(cte.step, depth + 2)
        for child in node.inputs():
            lines += self._lines(child, depth + 1)
        return lines

    def _title(self, node: n.Node) -> str:
        match node:
            case n.Scan():
                lock = f" lock {node.lock} wait {node.wait}" if node.lock else ""
                return f"Scan {node.table.name} {self.columns(node.columns)}{lock}"
            case n.VirtualScan():
                return f"VirtualScan {node.relation.name} {self.columns(node.columns)}"
            case n.Values():
                rows = ", ".join("(" + ", ".join(self.expr(e) for e in row) + ")" for row in node.rows)
                return f"Values {self.columns(node.columns)} {rows}"
            case n.FunctionScan():
                ordinality = " with ordinality" if node.ordinality else ""
                return f"FunctionScan {self.columns(node.columns)} {', '.join(self.expr(c) for c in node.calls)}{ordinality}"
            case n.Filter():
                return f"Filter {self.expr(node.condition)}"
            case n.Project():
                return f"Project {self.assigned(node.columns, node.exprs)}"
            case n.ProjectSet():
                return f"ProjectSet {self.assigned(node.columns, node.exprs)}"
            case n.Join():
                return f"Join {node.kind}{' lateral' if node.lateral else ''} on {self.expr(node.on)}"
            case n.Aggregate():
                calls = ", ".join(
                    f"{self.named(id)} = {self._call(call)}" for id, call in zip(node.agg_columns, node.aggs)
                )
                sets = "" if node.grouping_sets is None else f" sets {node.grouping_sets}"
                mask = "" if node.grouping_column is None else f" mask {self.named(node.grouping_column)}"
                return f"Aggregate by {self.columns(node.group)}{sets}{mask} {calls}".rstrip()
            case n.Window():
                calls = ", ".join(
                    f"{self.named(id)} = {self._call(call)}" for id, call in zip(node.window_columns, node.calls)
                )
                return f"Window {calls}{self._window(node)}"
            case n.Sort():
                return f"Sort {self.keys(node.keys)}"
            case n.Limit():
                return f"Limit {self.expr(node.limit)} offset {self.expr(node.offset)}{' with ties' if node.with_ties else ''}"
            case n.Distinct():
                return "Distinct" + ("" if node.on is None else f" on {self.columns(node.on)}")
            case n.SetOp():
                return f"SetOp {node.kind}{' all' if node.all else ''} {self.columns(node.columns)}"
            case n.With():
                return "With"
            case n.CteScan():
                return f"CteScan {node.cte.name} {self.columns(node.columns)}"
            case n.LockRows():
                return "LockRows " + ", ".join(
                    f"{a} {self.columns(k)} lock {s} wait {w}" for a, _, k, s, w in node.targets
                )
            case _:
                return self._write_title(node)

    def _window(self, node: n.Window) -> str:
        text = ""
        if node.partition_by:
            text += " partition by " + ", ".join(self.expr(e) for e in node.partition_by)
        if node.order_by:
            text += " order by " + self.keys(node.order_by)
        frame = node.frame
        if (frame.mode, frame.start, frame.end, frame.exclude) == (
            "range",
            ("unbounded_preceding", None),
            ("current", None),
            "no others",
        ):
            return text
        bounds = " to ".join(
            kind if offset is None else f"{self.expr(offset)} {kind}" for kind, offset in (frame.start, frame.end)
        )
        return text + f" {frame.mode} {bounds}" + ("" if frame.exclude == "no others" else f" exclude {frame.exclude}")

    def _write_title(self, node: n.Node) -> str:
        assert isinstance(node, (n.Insert, n.Update, n.Delete)), f"{node=}"
        names = {column.id: column.name for column in node.table.columns}
        parts = [f"{type(node).__name__} {node.table.name}"]
        if isinstance(node, n.Insert):
            parts.append("(" + ", ".join(names[attnum] for attnum in node.attnums) + ")")
            if node.on_conflict is not None:
                parts.append(self._conflict(node.on_conflict, names))
        if isinstance(node, n.Update):
            parts.append("set " + ", ".join(f"{names[attnum]} = {self.expr(e)}" for attnum, e in node.sets))
        for name, check in node.exprs.checks:
            parts.append(f"check {name} {self.expr(check)}")
        for attnum, expr in node.exprs.generated.items():
            parts.append(f"generated {names[attnum]} = {self.expr(expr)}")
        if node.returning is not None:
            parts.append(f"returning {self.assigned(*node.returning)}")
        return " ".join(parts)

    def _conflict(self, conflict: n.OnConflict, names: dict[int, str]) -> str:
        arbiters = ", ".join(index.name for index in conflict.arbiters) or "any"
        if conflict.update is None:
            return f"on conflict {arbiters} nothing"
        sets = ", ".join(f"{names[attnum]} = {self.expr(e)}" for attnum, e in conflict.update)
        where = "" if conflict.where is None else f" where {self.expr(conflict.where)}"
        return f"on conflict {arbiters} update {sets}{where}"


def plan_text(statement: n.Statement, rewrite: Callable[[Expr], Expr] | None = None) -> str:
    """The text of a bound statement."""
    return PlanPrinter(statement.metadata, rewrite).print(statement.root)
