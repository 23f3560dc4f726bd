"""MERGE: its tree is ``SELECT WHEN(..).. FROM target LEFT JOIN source ON ..`` (``sql.parse.shape_dml``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from base.errors import error
from planner.expr import Expr
from planner.nodes import Join, Merge, MergeAction, Values, With
from planner.schema import TableDesc
from sql.binder.coerce import boolean
from sql.binder.context import Source
from sql.binder.dml import bind_sets, old_ids, target_table
from sql.binder.expressions import ExprBinder
from sql.binder.from_clause import FromBinder, alias_of, table_scan
from sql.binder.insert import RowBinder
from sql.binder.queries import BoundQuery
from sql.binder.scope import RangeItem, Scope
from sql.binder.table_exprs import bind_table_exprs
from sql.binder.tree import form_of, position_of, text_of
from sql.parse import forms

if TYPE_CHECKING:
    from sql.binder.queries import QueryBinder

_LETTERS = {"update": "w", "delete": "d", "insert": "a"}


def bind_merge(queries: QueryBinder, node: exp.Expr, source: Source) -> BoundQuery:
    """Binds MERGE with its own WITH clause."""
    from sql.binder.queries import QueryBinder as Binder

    clause = node.args.get("with_")
    if clause is None:
        return MergeBinder(queries, node, source).bind()
    inner = Binder(queries.ctx, queries)
    inner.depth = queries.depth
    ctes = inner.with_clause(clause, None, source)
    found = MergeBinder(inner, node, source).bind()
    return BoundQuery(With(tuple(ctes), found.node), [])


class MergeBinder:
    """Binds target, source and condition, then clause by clause."""

    def __init__(self, queries: QueryBinder, node: exp.Expr, source: Source) -> None:
        self.queries = queries
        self.source = source
        self.node = node
        self.join = node.args["joins"][0]

    def bind(self) -> BoundQuery:
        queries, target_node = self.queries, self.node.args["from_"].this
        clauses = list(self.node.expressions)
        actions = {text_of(clause.expressions[2]) for clause in clauses}
        table = target_table(queries, target_node, "r")
        for action in sorted(actions - {"nothing"}):
            queries.ctx.use_table(table, _LETTERS[action])
        target = table_scan(FromBinder(queries, None, self.source), table, alias_of(target_node)[0] or table.name)
        own = target.items[0]
        other = FromBinder(queries, None, self.source).bind(self.join.this, ())
        for item in other.items:
            if item.alias == own.alias:
                raise error(
                    "42712", f'name "{item.alias}" specified more than once',
                    detail="The name is used both as MERGE target table and data source.",
                )  # fmt: skip
        both = Scope(None, target.items + other.items, target.columns + other.columns)
        only_source = Scope(None, other.items, other.columns)
        only_source.forbidden = list(target.items)
        binder = ExprBinder(queries.ctx, self.source, both, queries, "JOIN conditions")
        condition = binder.condition(self.join.args["on"], "JOIN/ON")
        kind = "left" if any(text_of(clause.expressions[0]) == "not matched" for clause in clauses) else "inner"
        plan = Join(kind, other.node, target.node, condition)
        self._check_reachable(clauses)
        bound = tuple([self._clause(clause, table, own, both, only_source) for clause in clauses])
        return BoundQuery(Merge(table, plan, old_ids(own), bound, bind_table_exprs(queries, table)[0]), [])

    def _check_reachable(self, clauses: list[exp.Expr]) -> None:
        final: set[str] = set()
        for clause in clauses:
            kind = text_of(clause.expressions[0])
            if kind in final:
                raise error("42601", "unreachable WHEN clause specified after unconditional WHEN clause")
            if form_of(clause.expressions[1]) == forms.EMPTY:
                final.add(kind)

    def _clause(
        self, clause: exp.Expr, table: TableDesc, own: RangeItem, both: Scope, only_source: Scope
    ) -> MergeAction:
        args = clause.expressions
        is_matched, kind = text_of(args[0]) == "matched", text_of(args[2])
        scope = both if is_matched else only_source
        condition: Expr | None = None
        if form_of(args[1]) != forms.EMPTY:
            binder = ExprBinder(self.queries.ctx, self.source, scope, self.queries, "MERGE WHEN conditions")
            condition = boolean(self.queries.ctx, binder.bind(args[1]), "WHEN", position_of(args[1]))
        values: tuple[tuple[int, Expr], ...] = ()
        if kind == "update":
            sets = [exp.EQ(this=exp.Null(), expression=item.copy()) for item in args[3:]]
            found, _ = bind_sets(self.queries, sets, table, scope, self.source, Values([()], ()), is_planned=False)
            values = tuple(found)
        elif kind == "insert":
            values = self._insert(args[3:], table, scope)
        return MergeAction(is_matched, condition, kind, values)

    def _insert(self, args: list[exp.Expr], table: TableDesc, scope: Scope) -> tuple[tuple[int, Expr], ...]:
        """INSERT [(columns)] VALUES (..): every column but generated ones, defaults filled in."""
        overriding, count = text_of(args[0]), int(text_of(args[1]))
        columns = [exp.to_identifier(text_of(name), quoted=True) for name in args[2 : 2 + count]] or None
        rows = RowBinder(self.queries, table, columns, self.source, overriding)
        return rows.single_row(args[2 + count :], scope)
