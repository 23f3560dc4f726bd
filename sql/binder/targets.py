"""The target list: output expressions, their names, and set-returning functions below them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlglot import exp

from base.errors import error
from base.types import UNKNOWN
from planner.expr import Call, Col, Const, Expr
from planner.nodes import ColumnInfo, Node, Project, ProjectSet
from sql.binder.coerce import resolve_unknown
from sql.binder.columns import star_columns
from sql.binder.context import BindContext
from sql.binder.queries import OutColumn
from sql.binder.tree import form_of, output_name, position_of
from sql.parse import forms

if TYPE_CHECKING:
    from sql.binder.expressions import ExprBinder
    from sql.binder.query_state import QueryState

TARGETS_MAX = 1664
"""As PostgreSQL's MaxTupleAttributeNumber."""


class Target:
    """One output expression; hidden ones are computed for ORDER BY or DISTINCT ON only."""

    __slots__ = ("expr", "id", "is_hidden", "key_of", "name", "node", "position")

    def __init__(self, name: str, expr: Expr, node: exp.Expr, position: int, is_hidden: bool = False) -> None:
        self.name = name
        self.expr = expr
        self.node = node
        self.position = position
        self.is_hidden = is_hidden
        self.key_of = 0
        self.id = -1


def bind_targets(binder: ExprBinder, nodes: Sequence[exp.Expr]) -> list[Target]:
    """Binds a select list or RETURNING list, with ``*`` expanded."""
    targets: list[Target] = []
    for node in nodes:
        if isinstance(node, exp.Alias) and isinstance(node.this, exp.Column) and isinstance(node.this.this, exp.Star):
            # t.* AS x: the label means nothing, as in PostgreSQL.
            node = node.this
        if isinstance(node, exp.Star) or (isinstance(node, exp.Column) and isinstance(node.this, exp.Star)):
            for column in star_columns(binder, node):
                targets.append(Target(column.name, column.reference(), node, position_of(node)))
            continue
        form = form_of(node)
        if form == forms.NOTHING:
            continue
        if form == forms.STAR:
            targets.extend(_composite_star(binder, node))
            continue
        alias = None
        if isinstance(node, exp.Alias):
            alias, node = node.alias, node.this
        expr = binder.bind(node)
        targets.append(
            Target(
                alias if alias is not None else output_name(node, binder.source.types), expr, node, position_of(node)
            )
        )
    if len(targets) > TARGETS_MAX:
        raise error("54011", f"target lists can have at most {TARGETS_MAX} entries")
    return targets


def _composite_star(binder: ExprBinder, node: exp.Expr) -> list[Target]:
    """(composite).*"""
    base = binder.bind(node.expressions[0])
    if not base.type.fields:
        from base.typeio import type_name

        raise error(
            "42809", f"type {type_name(base.type)} is not composite", position=position_of(node.expressions[0]) + 1
        )
    position = position_of(node)
    return [Target(name, binder.field(base, name, position), node, position) for name, _ in base.type.fields]


def resolve_targets(ctx: BindContext, targets: Sequence[Target]) -> None:
    """Unknown outputs become text."""
    for target in targets:
        if target.expr.type.oid == UNKNOWN.oid:
            target.expr = resolve_unknown(ctx, target.expr, target.position)


def assign_ids(ctx: BindContext, targets: Sequence[Target], plan: Node | None = None) -> None:
    """Gives every target its column id: a plain column of the plan keeps its own, once.

    A column of a query around gets a new one: under its own id it would look as if it were made here.
    """
    used: set[int] = set()
    own = None if plan is None else set(plan.columns)
    for target in targets:
        expr = target.expr
        if isinstance(expr, Col) and expr.id not in used and (own is None or expr.id in own):
            target.id = expr.id
        elif isinstance(expr, Col):
            known = ctx.metadata[expr.id]
            target.id = ctx.metadata.add(
                ColumnInfo(target.name, expr.type, expr.typmod, known.table_oid, known.attnum, known.nullable)
            )
        else:
            nullable = not (isinstance(expr, Const) and expr.value is not None)
            target.id = ctx.add_column(target.name, expr.type, expr.typmod, nullable=nullable)
        used.add(target.id)


def project(node: Node, targets: Sequence[Target]) -> Node:
    """Computes the targets; nothing to do if the input gives exactly them."""
    ids = tuple([target.id for target in targets])
    if node.columns == ids and all(isinstance(target.expr, Col) and target.expr.id == target.id for target in targets):
        return node
    return Project(node, ids, tuple([target.expr for target in targets]))


def output_of(targets: Sequence[Target]) -> list[OutColumn]:
    found: list[OutColumn] = []
    for target in targets:
        if not target.is_hidden:
            column = OutColumn(target.name, target.id, target.expr.type, target.expr.typmod, target.position)
            column.key_of = target.key_of
            found.append(column)
    return found


def apply_sets(ctx: BindContext, node: Node, state: QueryState) -> Node:
    """Puts the set-returning calls of a select list below it, level by level."""
    for level in state.sets:
        passed = [Col(id, ctx.metadata[id].type, ctx.metadata[id].typmod, ctx.metadata[id].name) for id in node.columns]
        ids = node.columns + tuple([id for id, _ in level])
        exprs = (*passed, *[expr for _, expr in level])
        is_set = any(isinstance(expr, Call) and expr.function.returns_set for _, expr in level)
        node = ProjectSet(node, ids, exprs) if is_set else Project(node, ids, exprs)
    return node
