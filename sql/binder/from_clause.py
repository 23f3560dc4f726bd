"""FROM: tables, views, functions, subqueries, joins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlglot import exp

from base.errors import MeridianError, error
from base.types import INT8, OID, RECORD, PgType
from planner.expr import And, Call, Coalesce, Col, Const, Expr
from planner.functions.registry import Function
from planner.functions.resolve import resolve_operator
from planner.nodes import FunctionScan, Join, Node, Scan, Values, VirtualScan
from planner.schema import REFRESHING, UNPOPULATED, TableDesc
from sql.binder.coerce import common, resolve_unknown
from sql.binder.context import VIEW_DEPTH_MAX, Source, placed
from sql.binder.expressions import ExprBinder, record_type
from sql.binder.queries import BoundQuery, OutColumn, QueryBinder
from sql.binder.scope import FromTree, RangeItem, Scope, ScopeColumn
from sql.binder.tree import form_of, output_name, position_of, text_of
from sql.binder.types import resolve_type
from sql.parse import forms
from sql.parse.stored import parse_stored_query

if TYPE_CHECKING:
    from collections.abc import Sequence


class FromBinder:
    """Binds one FROM clause.

    ``outer`` is the scope of the query around.  ``visible`` is what LATERAL items see besides: ``outer``, or, inside a
    parenthesised join, the items before the parenthesis.
    """

    def __init__(self, queries: QueryBinder, outer: Scope | None, source: Source, visible: Scope | None = None) -> None:
        self.queries = queries
        self.ctx = queries.ctx
        self.outer = outer
        self.visible = visible or outer
        self.source = source
        self.before: list[FromTree] = []
        """Comma-separated trees already bound: LATERAL items see them."""

    def bind(self, first: exp.Expr, joins: Sequence[exp.Expr]) -> FromTree:
        """``first`` and what is joined to it; a comma starts a new tree."""
        tree = self._tree(first, None)
        for join in joins:
            if _is_comma(join):
                self.before.append(tree)
                tree = self._tree(join.this, None)
            else:
                tree = self._join(tree, join)
        self.before.append(tree)
        found = self.before[0]
        for other in self.before[1:]:
            node = Join("inner", found.node, other.node, None, other.is_lateral)
            found = FromTree(node, found.items + other.items, found.columns + other.columns)
        _check_names(found.items)
        return found

    # --- joins --------------------------------------------------------------------------

    def _tree(self, node: exp.Expr, left: FromTree | None) -> FromTree:
        """A FROM item with the joins that sqlglot hung on it."""
        outside = Scope(self.visible)
        for tree in self.before:
            outside.add(tree)
        scope = outside
        if left is not None:
            scope = Scope(outside)
            scope.add(left)
        tree = self._item(node, scope)
        for join in node.args.get("joins") or ():
            tree = self._join(tree, join)
        if left is not None:
            tree.is_lateral = scope.is_referenced
            left.is_lateral = left.is_lateral or outside.is_referenced
        else:
            tree.is_lateral = tree.is_lateral or outside.is_referenced
        return tree

    def _join(self, left: FromTree, join: exp.Expr) -> FromTree:
        right = self._tree(join.this, left)
        kind = str(join.args.get("side") or "").lower() or "inner"
        if right.is_lateral and kind in ("right", "full"):
            text = "The combining JOIN type must be INNER or LEFT for a LATERAL reference."
            raise error("42P10", "invalid reference to FROM-clause entry", detail=text)
        names = [column.name for column in join.args.get("using") or ()]
        alias = names.pop().removeprefix(forms.USING_ALIAS) if names and names[-1].startswith(forms.USING_ALIAS) else ""
        if join.args.get("method") == "NATURAL":
            names = _common_names(left, right)
        elif not names:
            return self._join_on(kind, left, right, join.args.get("on"))
        tree = self._join_using(kind, left, right, names, join)
        if alias:
            # It names the merged columns only, and hides nothing.
            tree.items = [*tree.items, RangeItem(alias, tree.columns[: len(names)])]
        return tree

    def _join_on(self, kind: str, left: FromTree, right: FromTree, on: exp.Expr | None) -> FromTree:
        items, columns = left.items + right.items, left.columns + right.columns
        condition = None
        if on is not None:
            scope = Scope(self.visible, items, columns)
            binder = ExprBinder(self.ctx, self.source, scope, self.queries, "JOIN conditions")
            condition = binder.condition(on, "JOIN/ON")
        return FromTree(Join(kind, left.node, right.node, condition, right.is_lateral), items, columns, left.is_lateral)

    def _join_using(self, kind: str, left: FromTree, right: FromTree, names: list[str], join: exp.Expr) -> FromTree:
        places = {column.name: position_of(column) for column in join.args.get("using") or ()}
        terms: list[Expr] = []
        merged: list[ScopeColumn] = []
        used: set[int] = set()
        for name in names:
            position = places.get(name, -1)
            a, b = _using_column(left, name, "left"), _using_column(right, name, "right")
            used.update((id(a), id(b)))
            term, column = self._merge(kind, name, a, b, position)
            terms.append(term)
            merged.append(column)
        condition = None if not terms else terms[0] if len(terms) == 1 else And(tuple(terms))
        node = Join(kind, left.node, right.node, condition, right.is_lateral)
        rest = [c for c in left.columns + right.columns if id(c) not in used]
        return FromTree(node, left.items + right.items, merged + rest, left.is_lateral)

    def _merge(self, kind: str, name: str, a: ScopeColumn, b: ScopeColumn, position: int) -> tuple[Expr, ScopeColumn]:
        """The equality of two columns, and the column they become."""
        left, right = a.reference(), b.reference()
        try:
            found = resolve_operator(self.ctx.registry, "=", left.type, right.type)
        except MeridianError as failure:
            raise placed(failure, position) from None
        binder = ExprBinder(self.ctx, self.source, Scope(None), self.queries)
        term = binder.apply(found, (left, right))
        (left, right), chosen, typmod = common(self.ctx, [left, right], "JOIN/USING", [position, position])
        value: Expr = right if kind == "right" else left
        if kind == "full":
            value = Coalesce((left, right), chosen, typmod)
        if isinstance(value, Col):
            source = b if kind == "right" else a
            return term, ScopeColumn(name, value.id, value.type, value.typmod, source.attnum)
        return term, ScopeColumn(name, a.id, chosen, typmod, 0, value)

    # --- items --------------------------------------------------------------------------

    def _item(self, node: exp.Expr, scope: Scope) -> FromTree:
        if isinstance(node, exp.Table):
            if isinstance(node.this, exp.Anonymous):
                return self._function(node, node.this, scope)
            if isinstance(node.this, exp.Dot):
                return self._function(node, node.this, scope)
            return self._relation(node)
        if isinstance(node, exp.Subquery):
            if isinstance(node.this, exp.Table):
                inner = FromBinder(self.queries, self.outer, self.source, scope).bind(node.this, ())
                return _as_one(inner, node) if node.args.get("alias") is not None else inner
            hidden = Scope(self.outer)
            hidden.forbidden = [
                item
                for level in (scope, scope.parent)
                if level is not None and level is not self.outer
                for item in level.items
            ]
            return self._derived(node.this, node, hidden)
        if isinstance(node, exp.Lateral):
            return self._derived(node.this, node, scope)
        if isinstance(node, exp.Values):
            return self._values(node, scope)
        raise error("0A000", f"{node.key.upper()} is not supported in FROM")

    def _derived(self, query: exp.Expr, node: exp.Expr, scope: Scope) -> FromTree:
        """(SELECT ..) AS x; ``scope`` is what it may be correlated with."""
        while isinstance(query, exp.Subquery) and not query.args.get("with_"):
            query = query.this
        return self._named(self.queries.subquery(query, scope, self.source), node)

    def _named(self, found: BoundQuery, node: exp.Expr) -> FromTree:
        alias, columns = alias_of(node)
        item = RangeItem(alias, [ScopeColumn(c.name, c.id, c.type, c.typmod) for c in found.columns])
        if alias == forms.VALUES_ALIAS:
            item.alias = ""
        rename_columns(item, columns, position_of(node.args.get("alias")))
        return FromTree(found.node, [item], list(item.columns))

    # --- relations ----------------------------------------------------------------------

    def _relation(self, node: exp.Expr) -> FromTree:
        name: str = node.name
        schema_node, catalog_node = node.args.get("db"), node.args.get("catalog")
        schema = schema_node.name if schema_node is not None else None
        position = position_of(catalog_node or schema_node or node.this)
        alias, columns = alias_of(node)
        if schema is None and name in self.queries.ctes:
            entry = self.queries.ctes[name]
            scan, out = self.queries.cte_scan(entry, alias or name, position)
            item = RangeItem(alias or name, [ScopeColumn(c.name, c.id, c.type, c.typmod) for c in out])
            rename_columns(item, columns, position)
            return FromTree(scan, [item], list(item.columns))
        relation = self.find(schema, name, position)
        if isinstance(relation, TableDesc):
            self.ctx.use_table(relation, "r")
            if schema is None and self.source.is_top:
                self.ctx.usage.places.append((position, relation))
            if relation.kind == "S":
                tree = self._sequence(relation)
            elif relation.kind == "v" or REFRESHING in relation.options:
                tree = self._view(relation, position)
            else:
                if UNPOPULATED in relation.options:
                    text = f'materialized view "{relation.name}" has not been populated'
                    raise error("55000", text, hint="Use the REFRESH MATERIALIZED VIEW command.")
                tree = table_scan(self, relation, alias or name)
        else:
            tree = virtual_scan(self, relation, alias or name)
        item = tree.items[0]
        item.alias = alias or name
        if not alias:
            item.schema = schema or self._schema_of(relation)
        rename_columns(item, columns, position)
        return FromTree(tree.node, [item], list(item.columns))

    def _schema_of(self, relation: Any) -> str | None:
        if isinstance(relation, TableDesc):
            return self.ctx.catalog.schema_name(relation.schema_id)
        schema: str = relation.schema
        return schema

    def find(self, schema: str | None, name: str, position: int) -> Any:
        """A relation that can be read; raises 42P01."""
        relation = self.ctx.catalog.find_relation(schema, name)
        if relation is None:
            full = name if schema is None else f"{schema}.{name}"
            hint = None
            if schema is None and name in self.queries.later:
                hint = "Use WITH RECURSIVE, or re-order the WITH items to remove forward references."
            raise error("42P01", f'relation "{full}" does not exist', position=position + 1, hint=hint)
        if isinstance(relation, TableDesc) and self.ctx.catalog.is_of_other_session(relation):
            raise error("0A000", "cannot access temporary tables of other sessions", position=position + 1)
        return relation

    def _sequence(self, sequence: TableDesc) -> FromTree:
        """A sequence read as a table: one row of its state."""
        binder = ExprBinder(self.ctx, self.source, Scope(None), self.queries, "functions in FROM")
        call = binder.function("pg_sequence_state", (Const(sequence.id, OID),))
        columns = [
            ScopeColumn(field, self.ctx.add_column(field, pg_type, -1, sequence.id, number), pg_type, -1, number)
            for number, (field, pg_type) in enumerate(call.function.out_fields, 1)
        ]
        item = RangeItem(sequence.name, columns)
        item.table_oid = sequence.id
        scan = FunctionScan((call,), (len(columns),), tuple([c.id for c in columns]), False)
        return FromTree(scan, [item], list(columns))

    def _view(self, view: TableDesc, position: int) -> FromTree:
        """Binds the view's own query in place, under its creator's names."""
        ctx = self.ctx
        if ctx.view_depth >= VIEW_DEPTH_MAX:
            raise error("54001", "stack depth limit exceeded", position=position + 1)
        catalog, check_as = ctx.catalog, ctx.check_as
        ctx.catalog, ctx.check_as = catalog.for_view(view), view.owner
        ctx.view_depth += 1
        try:
            query = parse_stored_query(view.view_query)
            source = Source(query.types, query.raw_lists, False)
            found = QueryBinder(ctx).subquery(query.tree, None, source)
        except MeridianError as failure:
            failure.position = None
            raise
        finally:
            ctx.view_depth -= 1
            ctx.catalog, ctx.check_as = catalog, check_as
        columns: list[ScopeColumn] = []
        for described, column in zip(view.columns, found.columns):
            info = ctx.metadata[column.id]
            info.table_oid, info.attnum = view.id, described.id
            columns.append(ScopeColumn(described.name, column.id, column.type, column.typmod, described.id))
        item = RangeItem(view.name, columns)
        item.table, item.table_oid = view, view.id
        return FromTree(found.node, [item], columns)

    # --- VALUES ---------------------------------------------------------------------------

    def _values(self, node: exp.Expr, scope: Scope) -> FromTree:
        binder = ExprBinder(self.ctx, self.source, scope, self.queries, "VALUES")
        rows = [_row_nodes(row) for row in node.expressions]
        width = len(rows[0])
        for row in rows:
            if len(row) != width:
                raise error(
                    "42601",
                    "VALUES lists must all be the same length",
                    position=position_of(row[0]) + 1 if row else None,
                )
        bound = [binder.bind_all(row) for row in rows]
        columns: list[OutColumn] = []
        for i in range(width):
            places = [position_of(row[i]) for row in rows]
            items, chosen, typmod = common(self.ctx, [row[i] for row in bound], "VALUES", places)
            for row_exprs, item in zip(bound, items):
                row_exprs[i] = resolve_unknown(self.ctx, item)
            name = f"column{i + 1}"
            columns.append(OutColumn(name, self.ctx.add_column(name, chosen, typmod), chosen, typmod, places[0]))
        plan: Node = Values([tuple(row) for row in bound], tuple([c.id for c in columns]))
        return self._named(BoundQuery(plan, columns), node)

    # --- functions --------------------------------------------------------------------------

    def _function(self, node: exp.Expr, call: exp.Expr, scope: Scope) -> FromTree:
        binder = ExprBinder(self.ctx, self.source, scope, self.queries, "functions in FROM")
        ordinality = form_of(call) == forms.ORDINALITY
        if ordinality:
            call = call.expressions[0]
        nodes = list(call.expressions) if form_of(call) == forms.ROWS else [call]
        nodes = [part for item in nodes for part in _unnested(item)]
        calls: list[Expr] = []
        widths: list[int] = []
        columns: list[ScopeColumn] = []
        alias, names = alias_of(node)
        for item in nodes:
            self._one_function(binder, item, alias if len(nodes) == 1 else "", calls, widths, columns)
        scalar = len(columns) == 1
        if ordinality:
            columns.append(ScopeColumn("ordinality", self.ctx.add_column("ordinality", INT8), INT8))
        item_name = alias or _call_name(nodes[0], self.source)
        found = RangeItem(item_name, columns)
        found.is_function_scalar = scalar and not ordinality and len(nodes) == 1
        rename_columns(found, names, position_of(node))
        plan = FunctionScan(tuple(calls), tuple(widths), tuple([c.id for c in columns]), ordinality)
        return FromTree(plan, [found], list(found.columns))

    def _one_function(
        self,
        binder: ExprBinder,
        node: exp.Expr,
        alias: str,
        calls: list[Expr],
        widths: list[int],
        columns: list[ScopeColumn],
    ) -> None:
        """Binds one call and adds its result columns."""
        definitions = None
        if form_of(node) == forms.COLDEFS:
            definitions = [self._definition(item) for item in node.expressions[1:]]
            node = node.expressions[0]
        call = resolve_unknown(self.ctx, binder.bind(node), position_of(node))
        if definitions is not None:
            if call.type.oid != RECORD.oid or call.type.fields:
                raise error(
                    "42601",
                    'a column definition list is only allowed for functions returning "record"',
                    position=position_of(node) + 1,
                )
            call = _described(call, definitions)
        fields: Sequence[tuple[str, PgType]] = call.type.fields
        if call.type.oid == RECORD.oid and not fields:
            raise error(
                "42601",
                'a column definition list is required for functions returning "record"',
                position=position_of(node) + 1,
            )
        if not fields:
            name = _call_name(node, self.source)
            fields = ((_OUT_NAMES.get(name) or alias or name, call.type),)
        for name, pg_type in fields:
            columns.append(ScopeColumn(name, self.ctx.add_column(name, pg_type), pg_type))
        calls.append(call)
        widths.append(len(fields))

    def _definition(self, node: exp.Expr) -> tuple[str, PgType]:
        name, number = forms.split_column(text_of(node))
        assert number is not None, f"{name=}"
        return name, resolve_type(self.ctx, self.source.types[number])[0]


_OUT_NAMES = {
    **dict.fromkeys(
        ("json_array_elements", "jsonb_array_elements", "json_array_elements_text", "jsonb_array_elements_text"),
        "value",
    ),
    "pg_partition_ancestors": "relid",
}
"""Functions of one OUT parameter: its name stays the column's, whatever the alias."""


def _described(call: Expr, fields: Sequence[tuple[str, PgType]]) -> Expr:
    """A call of a function returning record, told its columns."""
    described = record_type(fields)
    if not isinstance(call, Call):
        return call
    function = call.function
    entry = function.generic or function
    if entry.name.removeprefix("jsonb").removeprefix("json") in ("_to_record", "_to_recordset"):
        from planner.functions.jsonrecord import to_record_function

        return Call(to_record_function(entry.name, tuple(fields)), call.args, described)
    if entry.specialize is not None:
        types = tuple([arg.type for arg in call.args])
        impl, inline = entry.specialize(types, described)
        function = Function(
            entry.name, types, described, impl, oid=entry.oid, strict=entry.strict, volatility=entry.volatility,
            returns_set=entry.returns_set, needs_context=entry.needs_context, inline=inline, out_fields=tuple(fields), cost=entry.cost,
        )  # fmt: skip
    return Call(function, call.args, described)


def _unnested(node: exp.Expr) -> list[exp.Expr]:
    """unnest(a, b) stands for ROWS FROM (unnest(a), unnest(b))."""
    if isinstance(node, exp.Anonymous) and node.name == "unnest" and len(node.expressions) > 1:
        calls: list[exp.Expr] = []
        for arg in list(node.expressions):
            call = exp.Anonymous(this="unnest", expressions=[arg.copy()])
            call.meta.update(node.meta)
            calls.append(call)
        return calls
    return [node]


def _call_name(node: exp.Expr, source: Source) -> str:
    return output_name(node, source.types)


def _row_nodes(row: exp.Expr) -> list[exp.Expr]:
    if isinstance(row, exp.Tuple):
        return list(row.expressions)
    return [row.this if isinstance(row, exp.Paren) else row]


def _is_comma(join: exp.Expr) -> bool:
    return not any(join.args.get(name) for name in ("method", "side", "kind", "on", "using"))


def _common_names(left: FromTree, right: FromTree) -> list[str]:
    names = {c.name for c in right.columns}
    found: list[str] = []
    for column in left.columns:
        if column.name in names and column.name not in found:
            found.append(column.name)
    return found


def _using_column(tree: FromTree, name: str, side: str) -> ScopeColumn:
    found = [c for c in tree.columns if c.name == name]
    if not found:
        raise error("42703", f'column "{name}" specified in USING clause does not exist in {side} table')
    if len(found) > 1:
        raise error("42702", f'common column name "{name}" appears more than once in {side} table')
    return found[0]


def _check_names(items: list[RangeItem]) -> None:
    seen: set[tuple[str, str | None]] = set()
    for item in items:
        if not item.alias:
            continue
        key = (item.alias, item.schema)
        if key in seen:
            raise error("42712", f'table name "{item.alias}" specified more than once')
        seen.add(key)


def _as_one(tree: FromTree, node: exp.Expr) -> FromTree:
    """(a JOIN b ..) AS j: one item with all columns; the names inside are hidden."""
    alias, names = alias_of(node)
    item = RangeItem(alias, list(tree.columns))
    rename_columns(item, names, position_of(node.args.get("alias")))
    return FromTree(tree.node, [item], list(item.columns), tree.is_lateral)


def alias_of(node: exp.Expr) -> tuple[str, list[str]]:
    """(alias or "", column aliases) of a FROM item."""
    found = node.args.get("alias")
    if found is None:
        return "", []
    if isinstance(found, exp.TableAlias):
        name = found.this.name if found.this is not None else ""
        return name, [column.name for column in found.args.get("columns") or ()]
    return found.name, []


def rename_columns(item: RangeItem, names: list[str], position: int = -1) -> None:
    """Gives the first columns the aliases of ``AS t (a, b)``."""
    if len(names) > len(item.columns):
        raise error(
            "42P10",
            f'table "{item.alias}" has {len(item.columns)} columns available but {len(names)} columns specified',
        )
    if names:
        item.columns = [
            ScopeColumn(names[i], c.id, c.type, c.typmod, c.attnum, c.expr) if i < len(names) else c
            for i, c in enumerate(item.columns)
        ]


def column_type(queries: QueryBinder, oid: int) -> PgType:
    """Type of a stored column."""
    found = queries.ctx.catalog.type_by_oid(oid)
    assert found is not None, f"type {oid} of a column is gone"
    return found


def table_scan(binder: FromBinder, table: TableDesc, alias: str) -> FromTree:
    """All columns of a base table under fresh ids."""
    queries, ctx = binder.queries, binder.ctx
    columns: list[ScopeColumn] = []
    hidden: list[ScopeColumn] = []
    ids: list[int] = []
    for column in table.columns:
        pg_type = column_type(queries, column.type_oid)
        id = ctx.add_column(column.name, pg_type, column.typmod, table.id, column.id, column.nullable)
        ids.append(id)
        (hidden if column.hidden else columns).append(ScopeColumn(column.name, id, pg_type, column.typmod, column.id))
    item = RangeItem(alias, columns)
    item.hidden = hidden
    item.table, item.table_oid = table, table.id
    item.scan = Scan(table, tuple(ids), tuple([c.id for c in table.columns]), alias)
    return FromTree(item.scan, [item], columns)


def virtual_scan(binder: FromBinder, relation: Any, alias: str) -> FromTree:
    """A catalog relation: its columns, then the hidden ones."""
    ctx = binder.ctx
    made: list[ScopeColumn] = []
    for name, pg_type, typmod, not_null in (*relation.columns, *relation.hidden):
        position = len(made)
        id = ctx.add_column(
            name, pg_type, typmod, relation.oid, position + 1 if position < len(relation.columns) else 0, not not_null
        )
        made.append(ScopeColumn(name, id, pg_type, typmod))
    count = len(relation.columns)
    item = RangeItem(alias, made[:count])
    item.hidden = made[count:]
    item.table_oid = relation.oid
    plan = VirtualScan(relation, tuple([c.id for c in made]), tuple(range(len(made))), alias)
    return FromTree(plan, [item], made[:count])
