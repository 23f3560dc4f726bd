"""The binder: a parsed query to a typed plan.

    binder = Binder(catalog_view, registry, io_settings)
    statement = binder.bind(query, param_types)      # planner.nodes.Statement
    columns = result_columns(statement)              # RowDescription

One binder serves one session's view of the catalog; each call starts afresh.  What the last call
read and wrote is in ``usage`` (privileges to check, relations and columns referred to).
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from base.errors import MeridianError, error
from base.typeio import IoSettings
from base.types import PgType
from planner.expr import Expr
from planner.functions.registry import Registry
from planner.nodes import Metadata, Statement, TableExprs
from planner.schema import ColumnDesc, TableDesc, computes_region
from sql.api import ResultColumn
from sql.binder.catalog_view import CatalogView
from sql.binder.coerce import boolean, coerce, resolve_unknown
from sql.binder.context import BindContext, Source, Usage
from sql.binder.dml import bind_dml
from sql.binder.from_clause import column_type
from sql.binder.merge import bind_merge
from sql.binder.queries import BoundQuery, QueryBinder, exact
from sql.binder.scope import Scope
from sql.binder.table_exprs import assigned, bind_table_exprs, bind_text, default_value, row_ids, row_item
from sql.binder.types import resolve_type
from sql.binder.updatable import updatable_columns, view_problem
from sql.binder.written import Written
from sql.parse.statements import Query, SqlExpr, TypeName
from sql.parse.stored import parse_stored_expression, parse_stored_query

FOREIGN_TABLES_MAX = 10_000
"""Tables reached over foreign keys from one written table."""


class Scalar:
    """A bound expression of DDL or a command's argument, with what its columns are."""

    __slots__ = ("expr", "metadata", "params", "row", "usage", "volatile", "written")

    def __init__(self, expr: Expr, ctx: BindContext, row: tuple[int, ...], params: tuple[PgType, ...]) -> None:
        self.expr = expr
        self.metadata: Metadata = ctx.metadata
        self.row = row
        """Ids of the table's columns, in its order, if it was bound over one."""
        self.params = params
        self.usage = ctx.usage
        self.volatile = ctx.volatile
        self.written = ctx.written


class Binder:
    """Binds statements under one catalog view."""

    def __init__(
        self, catalog: CatalogView, registry: Registry, io: IoSettings | None = None, keeps_forms: bool = False
    ) -> None:
        """``keeps_forms``: what is bound is to be printed (``sql.binder.written``)."""
        self.keeps_forms = keeps_forms
        self.catalog = catalog
        self.registry = registry
        self.io = io or IoSettings()
        self.usage = Usage()

    def _context(self, param_types: Sequence[PgType | None] = ()) -> BindContext:
        ctx = BindContext(self.catalog, self.registry, self.io, param_types)
        self.usage = ctx.usage
        if self.keeps_forms:
            ctx.written = Written()
        return ctx

    # --- statements -----------------------------------------------------------------------

    def bind(self, query: Query, param_types: Sequence[PgType | None] = (), with_keys: bool = False) -> Statement:
        """Binds a query or DML; types that ``param_types`` leaves out are found from their use.

        ``with_keys``: a simple SELECT also gives the primary keys of its tables (``Statement.keys``): a cursor's query.
        """
        try:
            return self._bind(query, param_types, with_keys)
        except RecursionError:
            raise error("54001", "stack depth limit exceeded") from None

    def _bind(self, query: Query, param_types: Sequence[PgType | None], with_keys: bool) -> Statement:
        ctx = self._context(param_types)
        ctx.current_of = query.cursor
        ctx.wants_keys = with_keys and isinstance(query.tree, exp.Select)
        queries = QueryBinder(ctx)
        source = Source(query.types, query.raw_lists)
        tree = query.tree
        if isinstance(tree, (exp.Insert, exp.Update, exp.Delete)):
            found = bind_dml(queries, tree, source, query.raw_rows, query.overriding)
            root = found.node
        elif query.command == "MERGE":
            found = bind_merge(queries, tree, source)
            root = found.node
        else:
            found = queries.resolved(queries.query(tree, None, source))
            root = exact(found)
        params = ctx.finish_params()
        names = tuple([column.name for column in found.columns if not column.key_of])
        statement = Statement(query.command, root, ctx.metadata, names, params, ctx.tables)
        statement.volatile = ctx.volatile
        for at, column in enumerate(found.columns):
            if column.key_of:
                statement.keys[column.key_of] = (*statement.keys.get(column.key_of, ()), at)
        self._add_foreign(ctx, queries, statement, tree)
        for table in list(ctx.tables.values()):
            if computes_region(table) and table.id not in statement.table_exprs:
                statement.table_exprs[table.id] = bind_table_exprs(queries, table)[0]
        return statement

    # --- foreign keys ---------------------------------------------------------------------

    def _add_foreign(self, ctx: BindContext, queries: QueryBinder, statement: Statement, tree: exp.Expr) -> None:
        """Gathers the tables that foreign keys of written tables lead to."""
        written = [table for table, letter, _ in ctx.usage.privileges if letter in "awd"]
        for table in written:
            if table.foreign_keys or table.inbound:
                self._follow(ctx, queries, statement, table)

    def _follow(self, ctx: BindContext, queries: QueryBinder, statement: Statement, table: TableDesc) -> None:
        foreign = statement.foreign
        pending = [table]
        followed: set[int] = set()
        while pending:
            current = pending.pop()
            if current.id in followed:
                continue
            followed.add(current.id)
            foreign[current.id] = current
            if len(foreign) > FOREIGN_TABLES_MAX:
                raise error("54000", "too many tables are connected by foreign keys")
            for key in current.foreign_keys:
                self._reach(ctx, statement, key.target_table)
            for child_id in current.inbound:
                child = self._reach(ctx, statement, child_id)
                if child is None:
                    continue
                keys = [key for key in child.foreign_keys if key.target_table == current.id]
                if any(_acts(key.on_delete) or _acts(key.on_update) for key in keys):
                    self._cascade_exprs(queries, statement, child)
                    pending.append(child)

    def _reach(self, ctx: BindContext, statement: Statement, id: int) -> TableDesc | None:
        found = statement.foreign.get(id) or self.catalog.table_by_id(id)
        if found is not None:
            statement.foreign[id] = found
            ctx.tables.setdefault(id, found)
        return found

    def _cascade_exprs(self, queries: QueryBinder, statement: Statement, child: TableDesc) -> None:
        if child.id in statement.table_exprs:
            return
        exprs = bind_table_exprs(queries, child)[0]
        columns = {column.id: column for column in child.columns}
        for key in child.foreign_keys:
            if "SET DEFAULT" in (key.on_delete, key.on_update):
                for attnum in key.columns:
                    exprs.defaults[attnum] = default_value(queries, columns[attnum])
        statement.table_exprs[child.id] = exprs

    # --- DDL ------------------------------------------------------------------------------

    def bind_table_exprs(self, table: TableDesc) -> tuple[TableExprs, Metadata]:
        """All expressions stored with a table (raises if one does not bind)."""
        ctx = self._context()
        exprs, _ = bind_table_exprs(QueryBinder(ctx), table)
        return exprs, ctx.metadata

    def bind_scalar(
        self,
        text: str | SqlExpr,
        table: TableDesc | None = None,
        target: PgType | None = None,
        typmod: int = -1,
        clause: str = "DEFAULT expressions",
        context: str = "a",
        param_types: Sequence[PgType | None] = (),
    ) -> Scalar:
        """Binds an expression over a row of ``table`` (or nothing), cast to ``target`` in a cast context."""
        parsed = text if isinstance(text, SqlExpr) else parse_stored_expression(text)
        is_top = isinstance(text, SqlExpr)
        ctx = self._context(param_types)
        queries = QueryBinder(ctx)
        scope, row = Scope(None), ()
        if table is not None:
            item = row_item(queries, table, table.name)
            scope, row = Scope(None, [item], item.columns), row_ids(item)  # type: ignore[assignment]  # ids
        found = bind_text(queries, parsed, scope, clause, is_top)
        position = parsed.position if is_top else -1
        if target is None:
            found = resolve_unknown(ctx, found, position)
        else:
            cast = coerce(ctx, found, target, context, typmod, position)
            if cast is None:
                raise self._bad_type(found, target, clause, position)
            found = cast
        return Scalar(found, ctx, row, ctx.finish_params())

    def _bad_type(self, found: Expr, target: PgType, clause: str, position: int) -> MeridianError:
        from base.typeio import type_name

        return error(
            "42804", f"{clause} are of type {type_name(target)} but expression is of type {type_name(found.type)}",
            position=position + 1 if position >= 0 else None, hint="You will need to rewrite or cast the expression.",
        )  # fmt: skip

    def bind_condition(self, text: str | SqlExpr, table: TableDesc, clause: str) -> Scalar:
        """A boolean expression over a table's row: a check, an index predicate, COPY .. WHERE."""
        parsed = text if isinstance(text, SqlExpr) else parse_stored_expression(text)
        ctx = self._context()
        queries = QueryBinder(ctx)
        item = row_item(queries, table, table.name)
        found = bind_text(queries, parsed, Scope(None, [item], item.columns), clause, isinstance(text, SqlExpr))
        return Scalar(boolean(ctx, found, clause, parsed.position), ctx, row_ids(item), ())

    def bind_default(self, column: ColumnDesc) -> Scalar:
        """What a column gets that is not given a value, as stored."""
        ctx = self._context()
        return Scalar(default_value(QueryBinder(ctx), column), ctx, (), ())

    def bind_assignment(self, text: str | SqlExpr, table: TableDesc | None, column: ColumnDesc, clause: str) -> Scalar:
        """An expression assigned to a column: a DEFAULT, a generation expression, ALTER TYPE .. USING.  Raises 42804."""
        parsed = text if isinstance(text, SqlExpr) else parse_stored_expression(text)
        ctx = self._context()
        queries = QueryBinder(ctx)
        scope, row = Scope(None), ()
        if table is not None:
            item = row_item(queries, table, table.name)
            scope, row = Scope(None, [item], item.columns), row_ids(item)  # type: ignore[assignment]  # ids
        is_top = isinstance(text, SqlExpr)
        found = bind_text(queries, parsed, scope, clause, is_top)
        value = assigned(
            queries, found, column, column_type(queries, column.type_oid), parsed.position if is_top else -1
        )
        return Scalar(value, ctx, row, ())

    def bind_view(self, text: str) -> BoundQuery:
        """A view's query: its columns (usage tells what it reads)."""
        ctx = self._context()
        queries = QueryBinder(ctx)
        query = parse_stored_query(text)
        found = queries.resolved(queries.query(query.tree, None, Source(query.types, query.raw_lists)))
        if ctx.params:
            raise error("42P02", "there is no parameter $1")
        return found

    def updatable_columns(self, view: TableDesc) -> tuple[str, ...]:
        """Names of a view's columns that can be written; none if the view is not updatable."""
        return updatable_columns(QueryBinder(self._context()), view)

    def view_problem(self, view: TableDesc) -> str:
        """Why a view is not updatable, or ""."""
        return view_problem(QueryBinder(self._context()), view)

    def resolve_type(self, written: TypeName) -> tuple[PgType, int]:
        """(type, typmod) of a type as written."""
        return resolve_type(self._context(), written)


def _acts(action: str) -> bool:
    return action in ("CASCADE", "SET NULL", "SET DEFAULT")


def result_columns(statement: Statement) -> tuple[ResultColumn, ...] | None:
    """RowDescription of a statement; None if it returns no rows (INSERT without RETURNING..)."""
    if statement.command != "SELECT" and not statement.output_names:
        return None
    columns: list[ResultColumn] = []
    for name, id in zip(statement.output_names, statement.root.columns):
        known = statement.metadata[id]
        columns.append(ResultColumn(name, known.type, known.typmod, known.table_oid, known.attnum))
    return tuple(columns)
