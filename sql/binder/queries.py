"""Queries: dispatch, WITH, set operations; one SELECT is ``select``.

A ``QueryBinder`` knows the common table expressions that are visible; subqueries are bound by the
same or by a child with more of them.
"""

from __future__ import annotations

from typing import Any

from sqlglot import exp

from base.errors import FeatureNotSupported, error
from base.typeio import type_name
from base.types import TEXT, UNKNOWN, PgType
from planner.expr import Col, Const, Expr, Param
from planner.nodes import Cte, CteScan, Distinct, Limit, LockRows, Node, Project, SetOp, Sort, With
from sql.binder.coerce import coerce, common
from sql.binder.context import BindContext, Source
from sql.binder.scope import Scope
from sql.binder.tree import position_of


class OutColumn:
    """One output column of a query."""

    __slots__ = ("id", "key_of", "name", "position", "type", "typmod")

    def __init__(self, name: str, id: int, type: PgType, typmod: int = -1, position: int = -1) -> None:
        self.name = name
        self.id = id
        self.type = type
        self.typmod = typmod
        self.position = position
        self.key_of = 0
        """Of a primary key column that only WHERE CURRENT OF wants: its table."""


class BoundQuery:
    """A query's plan and its output; ``node.columns`` begins with the columns' ids."""

    __slots__ = ("columns", "node")

    def __init__(self, node: Node, columns: list[OutColumn]) -> None:
        self.node = node
        self.columns = columns


class CteEntry:
    """A visible common table expression."""

    __slots__ = ("columns", "cte", "has_result", "is_open", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.cte: Cte | None = None
        self.columns: list[OutColumn] = []
        self.has_result = True
        self.is_open = False
        """A recursive one whose non-recursive term is being bound: it cannot be read yet."""


class QueryBinder:
    """Binds queries under a set of visible CTEs."""

    def __init__(self, ctx: BindContext, parent: QueryBinder | None = None) -> None:
        self.ctx = ctx
        self.ctes: dict[str, CteEntry] = {} if parent is None else dict(parent.ctes)
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.later: frozenset[str] = frozenset() if parent is None else parent.later
        """Names of CTEs that follow in the WITH clause being bound: for a hint."""

    # --- entry points -------------------------------------------------------------------

    def subquery(self, node: exp.Expr, scope: Scope | None, source: Source) -> BoundQuery:
        """A query in parentheses; ``scope`` is what it may be correlated with."""
        inner = QueryBinder(self.ctx, self)
        inner.depth = max(inner.depth, 1)
        return inner.query(node, scope, source)

    def query(self, node: exp.Expr, scope: Scope | None, source: Source, resolve: bool = True) -> BoundQuery:
        """Any query.  With ``resolve`` False, unknown literals in its output stay unknown."""
        clause = node.args.get("with_")
        if clause is None:
            return self._body(node, scope, source, resolve)
        binder = QueryBinder(self.ctx, self)
        binder.depth = self.depth
        ctes = binder.with_clause(clause, scope, source)
        found = binder._body(node, scope, source, resolve)
        return BoundQuery(With(tuple(ctes), found.node), found.columns)

    def _body(self, node: exp.Expr, scope: Scope | None, source: Source, resolve: bool) -> BoundQuery:
        from sql.binder.select import bind_select

        if isinstance(node, exp.Select):
            return bind_select(self, node, scope, source, resolve)
        if isinstance(node, exp.SetOperation):
            return self._set_operation(node, scope, source, resolve)
        if isinstance(node, exp.Subquery):
            for modifier in ("order", "limit", "offset", "joins", "alias"):
                if node.args.get(modifier):
                    raise FeatureNotSupported(f"{modifier} of a parenthesised query is not supported")
            return self.query(node.this, scope, source, resolve)
        raise FeatureNotSupported(f"{node.key.upper()} is not supported as a query")

    # --- set operations -----------------------------------------------------------------

    def _set_operation(self, node: exp.Expr, scope: Scope | None, source: Source, resolve: bool) -> BoundQuery:
        from sql.binder.ordering import limit_clause, order_set_operation

        kind = {exp.Union: "UNION", exp.Intersect: "INTERSECT", exp.Except: "EXCEPT"}[type(node)]
        if node.args.get("locks"):
            raise error("0A000", "FOR UPDATE is not allowed with UNION/INTERSECT/EXCEPT")
        left = self.query(node.this, scope, source, False)
        right = self.query(node.expression, scope, source, False)
        if len(left.columns) != len(right.columns):
            at = right.columns[0].position if right.columns else -1
            raise error(
                "42601", f"each {kind} query must have the same number of columns", position=at + 1 if at >= 0 else None
            )
        found = self.combine(kind, not node.args.get("distinct"), left, right, resolve)
        found = order_set_operation(self, found, node, source)
        return limit_clause(self, found, node, scope, source)

    def combine(self, kind: str, all: bool, left: BoundQuery, right: BoundQuery, resolve: bool = True) -> BoundQuery:
        """left UNION right, with common column types."""
        columns: list[OutColumn] = []
        for i, (a, b) in enumerate(zip(left.columns, right.columns)):
            chosen, typmod = self._common_type(kind, a, b)
            if chosen.oid == UNKNOWN.oid:
                chosen = TEXT
            left = self.retyped(left, i, chosen, typmod)
            right = self.retyped(right, i, chosen, typmod)
            id = self.ctx.add_column(a.name, chosen, typmod)
            columns.append(OutColumn(a.name, id, chosen, typmod, a.position))
        node = SetOp(kind.lower(), all, exact(left), exact(right), tuple([c.id for c in columns]))
        return BoundQuery(node, columns)

    def _common_type(self, kind: str, a: OutColumn, b: OutColumn) -> tuple[PgType, int]:
        # Only the types matter here: placeholders stand for the columns.
        sides: list[Expr] = [Col(c.id, c.type if c.type.oid != UNKNOWN.oid else UNKNOWN, c.typmod) for c in (a, b)]
        if a.type.oid == UNKNOWN.oid or b.type.oid == UNKNOWN.oid:
            other = b if a.type.oid == UNKNOWN.oid else a
            return (other.type if other.type.oid != UNKNOWN.oid else TEXT), -1
        _, chosen, typmod = common(self.ctx, sides, kind, [a.position, b.position])
        return chosen, typmod

    def retyped(
        self, query: BoundQuery, index: int, target: PgType, typmod: int = -1, context: str = "i"
    ) -> BoundQuery:
        """The query with one output column coerced; an unknown literal takes the type where it stands."""
        column = query.columns[index]
        if column.type.oid == target.oid:
            return query
        if column.type.oid == UNKNOWN.oid and self._retype_literal(query.node, column, target, context):
            column.type = target
            return query
        found = coerce(
            self.ctx, Col(column.id, column.type, column.typmod, column.name), target, context, -1, column.position
        )
        if found is None:
            text = f"could not convert type {type_name(column.type)} to {type_name(target)}"
            raise error("42846", f"UNION {text}", position=column.position + 1 if column.position >= 0 else None)
        id = self.ctx.add_column(column.name, target, typmod)
        columns = list(query.columns)
        columns[index] = OutColumn(column.name, id, target, typmod, column.position)
        exprs = [found if i == index else Col(c.id, c.type, c.typmod, c.name) for i, c in enumerate(query.columns)]
        return BoundQuery(Project(query.node, tuple([c.id for c in columns]), tuple(exprs)), columns)

    def _retype_literal(self, node: Node, column: OutColumn, target: PgType, context: str) -> bool:
        """Finds the projection that gives the column and coerces the literal there."""
        while True:
            if isinstance(node, Project):
                if column.id not in node.columns:
                    return False
                at = node.columns.index(column.id)
                literal = node.exprs[at]
                if isinstance(literal, (Const, Param)):
                    found = coerce(self.ctx, literal, target, context, -1, column.position)
                    assert found is not None, f"{literal=}"
                    node.exprs = (*node.exprs[:at], found, *node.exprs[at + 1 :])
                    self.ctx.metadata[column.id].type = target
                    return True
                if isinstance(literal, Col) and literal.id == column.id:
                    node = node.input
                    continue
                return False
            if isinstance(node, (Sort, Limit, Distinct, LockRows, With)):
                node = node.input
                continue
            return False

    def resolved(self, query: BoundQuery) -> BoundQuery:
        """The query with unknown outputs made text."""
        for i, column in enumerate(query.columns):
            if column.type.oid == UNKNOWN.oid:
                query = self.retyped(query, i, TEXT)
        return query

    # --- WITH -----------------------------------------------------------------------------

    def with_clause(self, clause: exp.Expr, scope: Scope | None, source: Source) -> list[Cte]:
        """Binds the CTEs in order, each visible to those after it."""
        found: list[Cte] = []
        names: set[str] = set()
        following = [node.alias for node in clause.expressions]
        for i, node in enumerate(clause.expressions):
            name = node.alias
            self.later = frozenset(following[i:])
            if name in names:
                raise error(
                    "42712",
                    f'WITH query name "{name}" specified more than once',
                    position=position_of(node.args["alias"]) + 1,
                )
            names.add(name)
            entry = self._cte(node, bool(clause.args.get("recursive")), scope, source)
            assert entry.cte is not None, f"{name=}"
            self.ctes[name] = entry
            found.append(entry.cte)
        self.later = frozenset()
        return found

    def _cte(self, node: exp.Expr, recursive: bool, scope: Scope | None, source: Source) -> CteEntry:
        name: str = node.alias
        body = node.this
        aliases = [column.name for column in node.args["alias"].args.get("columns") or []]
        entry = CteEntry(name)
        if isinstance(body, (exp.Insert, exp.Update, exp.Delete)):
            self._modifying(entry, node, source)
        elif recursive and _mentions(body, name):
            return self._recursive(entry, body, aliases, scope, source)
        else:
            query = self.subquery(body, scope, source)
            entry.columns = query.columns
            entry.cte = Cte(name, exact(query), tuple([c.id for c in query.columns]), node.args.get("materialized"))
        entry.columns = self._renamed(name, entry.columns, aliases, node)
        return entry

    def _renamed(self, name: str, columns: list[OutColumn], aliases: list[str], node: exp.Expr) -> list[OutColumn]:
        if len(aliases) > len(columns):
            raise error(
                "42P10", f'WITH query "{name}" has {len(columns)} columns available but {len(aliases)} columns specified',
                position=position_of(node.args["alias"]) + 1,
            )  # fmt: skip
        return [
            OutColumn(aliases[i] if i < len(aliases) else c.name, c.id, c.type, c.typmod, c.position)
            for i, c in enumerate(columns)
        ]

    def _modifying(self, entry: CteEntry, node: exp.Expr, source: Source) -> None:
        from sql.binder.dml import bind_dml

        body = node.this
        if self.depth > 0:
            text = "WITH clause containing a data-modifying statement must be at the top level"
            raise error("0A000", text, position=position_of(node.args["alias"]) + 1)
        inner = QueryBinder(self.ctx, self)
        bound = bind_dml(inner, body, source)
        entry.columns = bound.columns
        entry.has_result = bool(body.args.get("returning"))
        entry.cte = Cte(entry.name, bound.node, tuple([c.id for c in bound.columns]))

    def _recursive(
        self, entry: CteEntry, body: exp.Expr, aliases: list[str], scope: Scope | None, source: Source
    ) -> CteEntry:
        name = entry.name
        while isinstance(body, exp.Subquery) and not body.args.get("with_"):
            body = body.this
        if isinstance(body, exp.Union) and (early := _mention(body.this, name)) is not None:
            text = f'recursive reference to query "{name}" must not appear within its non-recursive term'
            raise error("42P19", text, position=position_of(early.this) + 1)
        if not isinstance(body, exp.Union):
            text = f'recursive query "{name}" does not have the form non-recursive-term UNION [ALL] recursive-term'
            raise error("42P19", text)
        for modifier in ("order", "limit", "offset"):
            if body.args.get(modifier):
                raise error(
                    "0A000",
                    f"{modifier.upper()}{' BY' if modifier == 'order' else ''} in a recursive query is not implemented",
                )
        binder = QueryBinder(self.ctx, self)
        binder.depth = max(binder.depth, 1)
        if body.args.get("with_"):
            raise FeatureNotSupported("WITH inside a recursive query is not supported")
        left = binder.resolved(binder.query(body.this, scope, source))
        columns = self._renamed(name, left.columns, aliases, _alias_holder(body, aliases))
        cte = Cte(name, exact(left), tuple([c.id for c in columns]))
        cte.recursive = True
        cte.union_all = not body.args.get("distinct")
        entry.cte, entry.columns = cte, columns
        binder.ctes[name] = entry
        right = binder.query(body.expression, scope, source, False)
        if len(right.columns) != len(columns):
            raise error("42601", "each UNION query must have the same number of columns")
        for i, column in enumerate(columns):
            right = self._recursive_column(binder, name, i, column, right)
        cte.step = exact(right)
        return entry

    def _recursive_column(
        self, binder: QueryBinder, name: str, index: int, column: OutColumn, right: BoundQuery
    ) -> BoundQuery:
        chosen, _ = self._common_type("UNION", column, right.columns[index])
        if chosen != column.type:
            raise error(
                "42804", f'recursive query "{name}" column {index + 1} has type {type_name(column.type)} in non-recursive term but type {type_name(chosen)} overall',
                hint="Cast the output of the non-recursive term to the correct type.", position=column.position + 1 or None,
            )  # fmt: skip
        return binder.retyped(right, index, column.type)

    def cte_scan(self, entry: CteEntry, alias: str, position: int) -> tuple[CteScan, list[OutColumn]]:
        """Reads a CTE under fresh column ids."""
        if not entry.has_result:
            raise error("0A000", f'WITH query "{entry.name}" does not have a RETURNING clause', position=position + 1)
        assert entry.cte is not None, f"{entry.name=}"
        columns = [
            OutColumn(c.name, self.ctx.add_column(c.name, c.type, c.typmod), c.type, c.typmod) for c in entry.columns
        ]
        return CteScan(entry.cte, tuple([c.id for c in columns]), alias), columns


def exact(query: BoundQuery) -> Node:
    """The plan with exactly the query's output columns."""
    ids = tuple([c.id for c in query.columns])
    if query.node.columns == ids and len(set(ids)) == len(ids):
        return query.node
    return Project(query.node, ids, tuple([Col(c.id, c.type, c.typmod, c.name) for c in query.columns]))


def _mention(node: exp.Expr, name: str) -> exp.Expr | None:
    for table in node.find_all(exp.Table):
        if table.name == name and not table.args.get("db") and not isinstance(table.this, exp.Anonymous):
            return table
    return None


def _mentions(node: exp.Expr, name: str) -> bool:
    """True if a query reads a table of this unqualified name (or a CTE of it)."""
    return any(
        table.name == name and not table.args.get("db")
        for table in node.find_all(exp.Table)
        if not isinstance(table.this, exp.Anonymous)
    )


def _alias_holder(body: exp.Expr, aliases: list[str]) -> exp.Expr:
    """A node with an alias, for error positions of a recursive CTE's column list."""
    found: Any = body.parent
    while not isinstance(found, exp.CTE):
        found = found.parent
    return found
