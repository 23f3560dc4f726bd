"""From parsed statements to plans, and everything else that needs the binder: defaults, checks, view queries.

An Analyzer is made per use: it holds the session and the catalog view of that moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from base.errors import FeatureNotSupported, MeridianError, SqlError
from base.typeio import text_parser, type_name
from base.types import BY_NAME, TEXT, UNKNOWN, PgType
from planner.exec import plan
from planner.exec.compile import compile_scalar
from planner.exec.runtime import RowsFunction
from planner.exec.write import TableWriter
from planner.expr import Expr
from planner.nodes import Statement, TableExprs
from planner.optimize.writers import row_functions, table_writer
from planner.schema import ColumnDesc, ForeignKeyDesc, IndexDesc, TableDesc
from sql.binder import Binder, Scalar, result_columns
from sql.parse import ParsedStatement, parse
from sql.parse.cursor import Cursor
from sql.parse.lexer import scan
from sql.parse.statements import Query, SqlExpr
from sql.parse.stored import parse_stored_expression, parse_stored_query
from sql.parse.types import parse_type
from sql.plancache import PlanEntry

if TYPE_CHECKING:
    from sql.session import Session


class ViewColumns(NamedTuple):
    """What CREATE VIEW stores."""

    names: tuple[str, ...]
    types: tuple[tuple[PgType, int], ...]
    depends_on: tuple[int, ...]


class Analyzer:
    """See the module docstring."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.view = session.view()
        self.state = session.state()

    def binder(self) -> Binder:
        return Binder(self.view, self.session.server.registry, self.session.literal_io())

    # --- plans -----------------------------------------------------------------

    async def entry(self, parsed: ParsedStatement, types: tuple[PgType | None, ...]) -> PlanEntry:
        """Returns the plan of a query or DML statement, from the cache if it is there."""
        session = self.session
        key = (parsed.text, tuple(0 if t is None else t.oid for t in types), session.plan_scope())
        plans = session.server.plans
        found = plans.get(key, self.state.generation)
        if found is None:
            found = self._make(parsed, types)
            if self.state.generation >= 0:
                plans.put(key, found)
        return found

    async def cursor_entry(self, parsed: ParsedStatement) -> PlanEntry:
        """The plan of DECLARE CURSOR: it gives primary keys too; not kept, for few cursors are declared twice."""
        assert isinstance(parsed.statement, Query), parsed.statement
        return self._entry_of(parsed.text, self.bind(parsed, (), with_keys=True), parsed.statement.as_of)

    def bind(self, parsed: ParsedStatement, types: tuple[PgType | None, ...], with_keys: bool = False) -> Statement:
        """Binds and checks privileges."""
        statement = parsed.statement
        assert isinstance(statement, Query), statement
        binder = self.binder()
        try:
            bound = binder.bind(statement, types, with_keys)
        except MeridianError as error:
            if error.position is not None:
                error.position += parsed.offset
            raise
        for relation, letter, role in binder.usage.privileges:
            self.view.require(relation, letter, role)
        return bound

    def _make(self, parsed: ParsedStatement, types: tuple[PgType | None, ...]) -> PlanEntry:
        statement = self.bind(parsed, types)
        assert isinstance(parsed.statement, Query), parsed.statement
        return self._entry_of(parsed.text, statement, parsed.statement.as_of)

    def _entry_of(self, text: str, statement: Statement, as_of: SqlExpr | None) -> PlanEntry:
        session = self.session
        physical = plan(statement, session.server.catalog.stats.get, session.plan_settings(), self.state.type_by_oid)
        columns = result_columns(statement)
        if columns is not None:
            columns = tuple(c._replace(type=TEXT) if c.type == UNKNOWN else c for c in columns)
        modified = max([self.state.modified.get(id, 0) for id in statement.tables], default=0)
        return PlanEntry(
            text, statement, physical, columns, self.state.generation, written_tables(statement), modified, as_of
        )

    def lifted_entry(self, lifted: tuple[str, list[tuple[str, str]]]) -> tuple[PlanEntry | None, tuple[Any, ...]]:
        """Returns (plan of the shape, parameter values), planning it at first; None if the shape does not bind."""
        shape, values = lifted
        session = self.session
        names = tuple([kind for kind, _ in values])
        key = (shape, names, session.plan_scope())
        plans = session.server.plans
        entry = plans.get(key, self.state.generation)
        if entry is None:
            if key in session.unliftable:
                return None, ()
            entry = self._lift(key, shape, names)
            if entry is None:
                return None, ()
        try:
            parsers = entry.parsers
            if parsers is None or parsers[0] is not session.io:
                io = session.literal_io() if any(t.name.startswith("reg") for t in entry.param_types) else session.io
                parsers = entry.parsers = (session.io, [text_parser(t, -1, io) for t in entry.param_types])
            return entry, tuple([parse_value(text) for parse_value, (_, text) in zip(parsers[1], values)])
        except MeridianError:
            # Told with the position in the client's own text.
            return None, ()

    def _lift(self, key: Any, shape: str, names: tuple[str, ...]) -> PlanEntry | None:
        session = self.session
        types = tuple(None if name == "unknown" else BY_NAME[name] for name in names)
        try:
            parsed = parse(shape)
            if len(parsed) != 1 or not isinstance(parsed[0].statement, Query) or parsed[0].statement.as_of is not None:
                raise SqlError("not one query", sqlstate="42601")
            entry = self._make(parsed[0], types)
        except MeridianError:
            session.remember_unliftable(key)
            return None
        if self.state.generation >= 0:
            session.server.plans.put(key, entry)
        return entry

    # --- values ----------------------------------------------------------------

    async def evaluate(self, expression: SqlExpr, target: PgType) -> Any:
        """Computes an expression without columns as a value of a type."""
        return self.constant(expression, target)

    def constant(self, expression: SqlExpr, target: PgType) -> Any:
        """The same, of an expression that waits for nothing."""
        return self._constant(self.binder().bind_scalar(expression, None, target).expr)

    def _constant(self, expr: Expr) -> Any:
        return compile_scalar(expr, {})((), (), self.session.context)

    def type_from_text(self, text: str) -> PgType | None:
        """Parses a type name such as ``character varying(10)[]``; None if there is no such type."""
        try:
            cursor = Cursor(text, scan(text))
            written = parse_type(cursor)
            cursor.finish()
            return self.view.type_named(written)[0]
        except SqlError:
            return None

    # --- tables ----------------------------------------------------------------

    def table_exprs(self, table: TableDesc) -> tuple[TableExprs, Any]:
        """Returns (bound expressions of a table, their metadata)."""
        return self.binder().bind_table_exprs(table)

    def check_table(self, table: TableDesc) -> None:
        """Raises what is wrong with a default, check, generated column, index expression or predicate."""
        self.table_exprs(table)
        for column in table.columns:
            if column.default and not column.identity:
                self._default_expr(table, column)

    def writer(self, table: TableDesc) -> TableWriter:
        """Returns the writer of a table's rows, without its foreign keys."""
        bare = msgspec.structs.replace(table, foreign_keys=(), inbound=())
        exprs, metadata = self.table_exprs(bare)
        return table_writer(bare, exprs, metadata, self.state.type_by_oid)

    def _default_expr(self, table: TableDesc, column: ColumnDesc) -> Expr:
        return self.binder().bind_default(column).expr

    async def constant_default(self, table: TableDesc, column: ColumnDesc) -> tuple[bytes, bool]:
        """Returns (msgpack of the default's datum, True), or (b"", False) where each row needs its own."""
        from planner.exec.compile import contains_volatile

        expr = self._default_expr(table, column)
        if contains_volatile(expr):
            return b"", False
        value = self._constant(expr)
        return (b"" if value is None else msgspec.msgpack.encode(_plain(value))), True

    def default_function(self, table: TableDesc, column: ColumnDesc) -> RowsFunction:
        """A function over rows giving a new column's value for each."""
        if column.default:
            return self._compiled(table, self.binder().bind_default(column))
        return self._compiled(table, self.binder().bind_scalar("NULL"))

    def _compiled(self, table: TableDesc, bound: Scalar) -> RowsFunction:
        """Compiles a scalar over a table's rows (attnum order)."""
        bare = msgspec.structs.replace(table, foreign_keys=(), inbound=(), indexes=table.indexes[:1], checks=())
        row = bound.row or tuple(-1 - column.id for column in table.columns)
        return row_functions(bare, TableExprs(row), bound.metadata, [bound.expr], self.state.type_by_oid)

    def row_function(self, table: TableDesc, text: str) -> RowsFunction:
        """Compiles a condition over a table's rows (CHECK)."""
        return self._compiled(table, self.binder().bind_condition(text, table, "check constraints"))

    def conversion(
        self, table: TableDesc, column: ColumnDesc, target: PgType, typmod: int, using: SqlExpr | None
    ) -> RowsFunction:
        """ALTER COLUMN TYPE: a function over old rows giving the new value."""
        from sql.pgcatalog.quoting import quote_identifier

        binder = self.binder()
        if using is not None:
            bound = binder.bind_scalar(using, table, target, typmod, "USING expressions", "a")
        else:
            try:
                bound = binder.bind_scalar(quote_identifier(column.name), table, target, typmod, "column", "a")
            except SqlError:
                raise SqlError(
                    f'column "{column.name}" cannot be cast automatically to type {type_name(target, -1)}',
                    sqlstate="42804",
                    hint=f'You might need to specify "USING {column.name}::{type_name(target, typmod)}".',
                ) from None
        return self._compiled(table, bound)

    async def check_foreign_key(self, table: TableDesc, target: TableDesc, key: ForeignKeyDesc) -> None:
        """Raises 23503 if some row of ``table`` refers to no row of ``target``: one anti-join."""
        from sql.commands.copying import quoted
        from sql.portals import QueryPortal

        names = {c.id: quoted(c.name) for c in table.columns}
        others = {c.id: quoted(c.name) for c in target.columns}
        pairs = [(names[a], others[b]) for a, b in zip(key.columns, key.target_columns)]
        left = f"{quoted(self.view.schema_name(table.schema_id))}.{quoted(table.name)}"
        right = f"{quoted(self.view.schema_name(target.schema_id))}.{quoted(target.name)}"
        matched = " AND ".join(f"b.{b} = a.{a}" for a, b in pairs)
        present = " AND ".join(f"a.{a} IS NOT NULL" for a, _ in pairs)
        shown = ", ".join(f"a.{a}::text" for a, _ in pairs)
        text = f"SELECT {shown} FROM {left} a WHERE {present} AND NOT EXISTS (SELECT 1 FROM {right} b WHERE {matched}) LIMIT 1"
        probe = QueryPortal("", None, await self.entry(parse(text)[0], ()), (), (), ())
        await self.session.start_portal(probe)
        rows = await probe.next_rows(0)
        probe.close()
        if rows:
            own = ", ".join(c.name for id in key.columns for c in table.columns if c.id == id)
            raise SqlError(
                f'insert or update on table "{table.name}" violates foreign key constraint "{key.name}"',
                sqlstate="23503",
                detail=f'Key ({own})=({", ".join(rows[0])}) is not present in table "{target.name}".',
                table=table.name,
                constraint=key.name,
            )

    def require_comparable(self, own: ColumnDesc, other: ColumnDesc, name: str) -> None:
        """A foreign key's columns must have an equality between them."""
        from planner.functions.resolve import resolve_operator

        left, right = self.state.type_by_oid(own.type_oid), self.state.type_by_oid(other.type_oid)
        assert left is not None
        assert right is not None
        try:
            resolve_operator(self.session.server.registry, "=", left, right)
        except SqlError:
            raise SqlError(
                f'foreign key constraint "{name}" cannot be implemented',
                sqlstate="42804",
                detail=f'Key columns "{own.name}" and "{other.name}" are of incompatible types: {left.name} and {right.name}.',
            ) from None

    # --- views, names ----------------------------------------------------------

    def view_query(self, query: SqlExpr) -> ViewColumns:
        """Binds a view's query."""
        if parse_stored_query(query.text).as_of is not None:
            raise FeatureNotSupported("AS OF SYSTEM TIME is not supported in views")
        binder = self.binder()
        bound = binder.bind_view(query.text)
        types = tuple((TEXT if c.type == UNKNOWN else c.type, c.typmod) for c in bound.columns)
        used = tuple(sorted(id for id in binder.usage.relations if self.view.table_by_id(id) is not None))
        return ViewColumns(tuple(c.name for c in bound.columns), types, used)

    def columns_used(self, table: TableDesc, expression: SqlExpr) -> tuple[str, ...]:
        """Names of the table's columns in an expression, in order of first use."""
        return self.names_in(table, expression.text)

    def names_in(self, table: TableDesc, text: str) -> tuple[str, ...]:
        """Names of the table's columns in a stored expression."""
        by_id = {column.id: column.name for column in table.columns}
        return tuple(dict.fromkeys(by_id[attnum] for _, attnum in self._uses(table, text) if attnum in by_id))

    def _uses(self, table: TableDesc, text: str) -> list[tuple[int, int]]:
        """(position in the text, attnum) of every reference to the table's columns."""
        binder = self.binder()
        parsed = parse_stored_expression(text)
        binder.bind_scalar(parsed._replace(position=0), table)
        return [(position, attnum) for position, table_id, attnum in binder.usage.columns if table_id == table.id]

    def text_uses(self, table: TableDesc, text: str, column: ColumnDesc) -> bool:
        return bool(text) and column.name in self.names_in(table, text)

    def index_uses(self, table: TableDesc, index: IndexDesc, column: ColumnDesc) -> bool:
        texts = [index.predicate, *(c.expression for c in index.columns)]
        return any(self.text_uses(table, text, column) for text in texts if text)

    def view_uses(self, view: TableDesc, table: TableDesc, column: ColumnDesc) -> bool:
        binder = self.binder()
        binder.bind_view(view.view_query)
        return any(table_id == table.id and attnum == column.id for _, table_id, attnum in binder.usage.columns)

    def renamer(self, table: TableDesc, column: ColumnDesc, new_name: str) -> Any:
        """Returns a function that renames a column inside an expression's text."""
        from sql.pgcatalog.quoting import quote_identifier

        def rename(text: str) -> str:
            if not text:
                return text
            places = sorted(
                {position for position, attnum in self._uses(table, text) if attnum == column.id}, reverse=True
            )
            for position in places:
                end = position + 1
                if text[position] == '"':
                    end = text.index('"', position + 1) + 1
                else:
                    while end < len(text) and (text[end].isalnum() or text[end] in "_$"):
                        end += 1
                text = text[:position] + quote_identifier(new_name) + text[end:]
            return text

        return rename


def written_tables(statement: Statement) -> tuple[int, ...]:
    """Ids of the tables a statement may write, cascades included."""
    from planner.optimize.tree import WRITERS, walk_nodes

    found: dict[int, None] = {}
    for node in walk_nodes(statement.root):
        if isinstance(node, WRITERS):
            found[node.table.id] = None
    if found:
        for id in statement.foreign:
            found[id] = None
    return tuple(found)


def _plain(value: Any) -> Any:
    """msgpack form of a datum, read back by ``planner.access.missing_datum``."""
    from decimal import Decimal

    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
