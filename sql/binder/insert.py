"""INSERT, with ON CONFLICT.

The input of an Insert has every column of the table but generated ones, in the table's order, so
defaults are filled in here: each VALUES row becomes a complete row, a query gets a Project on top.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlglot import exp

from base.errors import error
from base.types import BOOL, UNKNOWN
from planner.expr import And, Col, Const, Expr
from planner.nodes import Insert, Node, OnConflict, Project, TableExprs, Values
from planner.schema import ColumnDesc, IndexDesc, TableDesc
from sql.binder.coerce import number
from sql.binder.context import Source
from sql.binder.dml import bind_returning, bind_sets, target_of
from sql.binder.equality import expr_key
from sql.binder.expressions import ExprBinder
from sql.binder.from_clause import alias_of, column_type
from sql.binder.parts import require_column, target_column
from sql.binder.queries import BoundQuery
from sql.binder.scope import RangeItem, Scope
from sql.binder.table_exprs import assigned, bind_table_exprs, default_value, row_ids, row_item
from sql.binder.tree import form_of, position_of
from sql.parse import forms
from sql.parse.statements import RawRows

if TYPE_CHECKING:
    from sql.binder.queries import QueryBinder


def bind_insert(
    queries: QueryBinder, node: exp.Expr, source: Source, raw_rows: RawRows | None = None, overriding: str = ""
) -> BoundQuery:
    """INSERT INTO t (..) source ON CONFLICT .. RETURNING .."""
    return InsertBinder(queries, node, source, raw_rows, overriding).bind()


class RowBinder:
    """Rows for a table: which columns are given values, and what the others get."""

    def __init__(
        self,
        queries: QueryBinder,
        table: TableDesc,
        columns: Sequence[exp.Expr] | None,
        source: Source,
        overriding: str,
        names: TableDesc | None = None,
    ) -> None:
        """``names``: the table as the statement sees it, through a view."""
        self.queries = queries
        self.ctx = queries.ctx
        self.table = table
        self.names = names or table
        self.column_nodes = columns
        self.source = source
        self.overriding = overriding
        self.defaults: dict[int, Expr] = {}

    def single_row(self, nodes: Sequence[exp.Expr], scope: Scope) -> tuple[tuple[int, Expr], ...]:
        """(attnum, value) of every column but generated ones, of one row over the columns of a scope."""
        binder = ExprBinder(self.ctx, self.source, scope, self.queries, "VALUES")
        targets = self._targets(len(nodes), nodes) if nodes else []
        given = self._given(binder, targets, nodes)
        written = [column for column in self.table.columns if not column.generated]
        return tuple([(c.id, given[c.id] if c.id in given else self._default(c)) for c in written])

    def _given(self, binder: ExprBinder, targets: Sequence[ColumnDesc], nodes: Sequence[exp.Expr]) -> dict[int, Expr]:
        """Values by column id, DEFAULT left out."""
        given: dict[int, Expr] = {}
        for column, node in zip(targets, nodes):
            if form_of(node) == forms.DEFAULT or self._refuse_generated(column):
                continue
            pg_type = column_type(self.queries, column.type_oid)
            given[column.id] = assigned(self.queries, binder.bind(node), column, pg_type, position_of(node))
        return given

    def _targets(self, count: int, nodes: Sequence[exp.Expr]) -> list[ColumnDesc]:
        """The columns that values are given for."""
        found = self._named(count, nodes)
        for column in found:
            require_column(column, self.names, "insert into")
        return found

    def _named(self, count: int, nodes: Sequence[exp.Expr]) -> list[ColumnDesc]:
        table = self.names
        if self.column_nodes is None:
            visible = [column for column in table.columns if not column.hidden]
            if count > len(visible):
                at = position_of(nodes[len(visible)]) if len(nodes) > len(visible) else -1
                raise error(
                    "42601", "INSERT has more expressions than target columns", position=at + 1 if at >= 0 else None
                )
            return visible[:count]
        found: list[ColumnDesc] = []
        for node in self.column_nodes:
            column = target_column(table, node.name, position_of(node))
            if column in found:
                raise error("42701", f'column "{column.name}" specified more than once', position=position_of(node) + 1)
            found.append(column)
        if count > len(found):
            at = position_of(nodes[len(found)]) if len(nodes) > len(found) else -1
            raise error(
                "42601", "INSERT has more expressions than target columns", position=at + 1 if at >= 0 else None
            )
        if count < len(found):
            raise error(
                "42601",
                "INSERT has more target columns than expressions",
                position=position_of(self.column_nodes[count]) + 1,
            )
        return found

    def _default(self, column: ColumnDesc) -> Expr:
        found = self.defaults.get(column.id)
        if found is None:
            found = self.defaults[column.id] = default_value(self.queries, column)
        return found

    def _refuse_generated(self, column: ColumnDesc) -> bool:
        """Checks a value given for a generated or identity column; True if it is to be ignored."""
        if column.generated:
            raise error(
                "428C9", f'cannot insert a non-DEFAULT value into column "{column.name}"',
                detail=f'Column "{column.name}" is a generated column.',
            )  # fmt: skip
        if column.identity and self.overriding == "user":
            return True
        if column.identity == "a" and self.overriding != "system":
            raise error(
                "428C9", f'cannot insert a non-DEFAULT value into column "{column.name}"',
                detail=f'Column "{column.name}" is an identity column defined as GENERATED ALWAYS.',
                hint="Use OVERRIDING SYSTEM VALUE to override.",
            )  # fmt: skip
        return False


class InsertBinder(RowBinder):
    def __init__(
        self, queries: QueryBinder, node: exp.Expr, source: Source, raw_rows: RawRows | None, overriding: str
    ) -> None:
        self.node = node
        self.raw_rows = raw_rows
        target, columns = node.this, None
        if isinstance(target, exp.Schema):
            columns, target = target.expressions, target.this
        self.target = target_of(queries, target, "a")
        super().__init__(queries, self.target.table, columns, source, overriding, self.target.names)
        self.alias: str = alias_of(target)[0] or self.names.name

    def bind(self) -> BoundQuery:
        table = self.table
        exprs, row = bind_table_exprs(self.queries, table, self.alias)
        new, conditions = self.target.through(self.queries, row, self.alias)
        plan, written = self._input()
        conflict = self._conflict(exprs, row, new)
        seen = Scope(None, [new], new.columns)
        returning, columns = bind_returning(self.queries, self.node, seen, self.source)
        if returning is not None:
            self.target.read(self.queries)
        insert = Insert(table, plan, tuple([column.id for column in written]), exprs, conflict, returning)
        insert.checks = self.target.checks(conditions)
        return BoundQuery(insert, columns)  # type: ignore[arg-type]  # output columns

    # --- source -----------------------------------------------------------------------------

    def _input(self) -> tuple[Node, list[ColumnDesc]]:
        """The rows to insert, complete; and the columns they hold."""
        written = [column for column in self.table.columns if not column.generated]
        if self.raw_rows is not None:
            return self._raw(written), written
        expression = self.node.args.get("expression")
        if expression is None or self.node.args.get("default"):
            return self._values([[]], [], written), written
        if isinstance(expression, exp.Values):
            rows = [_row_nodes(row) for row in expression.expressions]
            return self._values(rows, self._targets(len(rows[0]), rows[0]), written), written
        return self._query(expression, written), written

    def _values(self, rows: Sequence[Sequence[exp.Expr]], targets: list[ColumnDesc], written: list[ColumnDesc]) -> Node:
        binder = ExprBinder(self.ctx, self.source, Scope(None), self.queries, "VALUES")
        made: list[tuple[Expr, ...]] = []
        for row in rows:
            if len(row) != len(rows[0]):
                raise error(
                    "42601",
                    "VALUES lists must all be the same length",
                    position=position_of(row[0]) + 1 if row else None,
                )
            given = self._given(binder, targets, row)
            made.append(tuple([given[c.id] if c.id in given else self._default(c) for c in written]))
        return Values(made, self._row_columns(written))

    def _row_columns(self, written: list[ColumnDesc]) -> tuple[int, ...]:
        return tuple([self.ctx.add_column(c.name, column_type(self.queries, c.type_oid), c.typmod) for c in written])

    def _raw(self, written: list[ColumnDesc]) -> Node:
        """A long literal list: one constant per value, nothing else."""
        assert self.raw_rows is not None
        rows = self.raw_rows.rows
        targets = self._targets(len(rows[0]), ())
        places: dict[int, int] = {column.id: i for i, column in enumerate(targets)}
        readers = [
            (self._reader(column, places[column.id]) if column.id in places else None, column) for column in written
        ]
        for column in targets:
            if column.generated:
                self._refuse_generated(column)
        made: list[tuple[Expr, ...]] = []
        for row in rows:
            made.append(
                tuple([self._default(column) if reader is None else reader.read(row) for reader, column in readers])
            )
        return Values(made, self._row_columns(written))

    def _reader(self, column: ColumnDesc, at: int) -> _LiteralReader:
        return _LiteralReader(self, column, at)

    def _query(self, expression: exp.Expr, written: list[ColumnDesc]) -> Node:
        """INSERT .. SELECT: the query's columns assigned, the others defaulted."""
        found = self.queries.query(expression, None, self.source, False)
        targets = self._targets(len(found.columns), [])
        values: dict[int, Expr] = {}
        for i, column in enumerate(targets):
            ignored = self._refuse_generated(column)
            if ignored:
                continue
            pg_type = column_type(self.queries, column.type_oid)
            if found.columns[i].type.oid == UNKNOWN.oid:
                found = self.queries.retyped(found, i, pg_type, -1, "a")
            output = found.columns[i]
            value = Col(output.id, output.type, output.typmod, output.name)
            values[column.id] = assigned(self.queries, value, column, pg_type, output.position)
        exprs = tuple([values[c.id] if c.id in values else self._default(c) for c in written])
        return Project(found.node, self._row_columns(written), exprs)

    # --- ON CONFLICT --------------------------------------------------------------------------

    def _conflict(self, exprs: TableExprs, row: RangeItem, new: RangeItem) -> OnConflict | None:
        clause = self.node.args.get("conflict")
        if clause is None:
            return None
        arbiters = self._arbiters(clause, exprs, row, new)
        existing = row_item(self.queries, self.table, self.alias)
        excluded = row_item(self.queries, self.table, "excluded")
        ids = row_ids(existing), row_ids(excluded)
        if clause.args["action"].name.upper() == "DO NOTHING":
            return OnConflict(arbiters, None, None, *ids)
        if not arbiters:
            raise error(
                "42601", "ON CONFLICT DO UPDATE requires inference specification or constraint name",
                hint="For example, ON CONFLICT (column_name).",
            )  # fmt: skip
        self.ctx.use_table(self.target.views[0].view if self.target.views else self.table, "w")
        shown, _ = self.target.through(self.queries, existing, self.alias)
        proposed, _ = self.target.through(self.queries, excluded, "excluded")
        scope = Scope(None, [shown, proposed], shown.columns + proposed.columns)
        sets, _ = bind_sets(
            self.queries, clause.expressions, self.names, scope, self.source, Values([()], ()), "ON CONFLICT", False
        )
        where = clause.args.get("where")
        condition = None
        if where is not None:
            condition = ExprBinder(self.ctx, self.source, scope, self.queries, "ON CONFLICT").condition(
                where.this, "WHERE"
            )
        return OnConflict(arbiters, tuple(sets), condition, *ids)

    def _arbiters(self, clause: exp.Expr, exprs: TableExprs, row: RangeItem, new: RangeItem) -> tuple[IndexDesc, ...]:
        constraint = clause.args.get("constraint")
        if constraint is not None:
            for index in self.table.indexes:
                if index.unique and (index.constraint or index.name) == constraint.name:
                    return _immediate((index,))
            text = f'constraint "{constraint.name}" for table "{self.table.name}" does not exist'
            raise error("42704", text)
        keys = clause.args.get("conflict_keys")
        if not keys:
            _immediate(self.table.indexes)
            return ()
        scope = Scope(None, [new], new.columns)
        binder = ExprBinder(self.ctx, self.source, scope, self.queries, "ON CONFLICT")
        wanted = {expr_key(binder.bind(key.this)) for key in keys}
        predicate = clause.args.get("index_predicate")
        given = _conjuncts(binder.condition(predicate.this, "WHERE")) if predicate is not None else set()
        found = tuple([index for index in self.table.indexes if self._is_arbiter(index, exprs, row, wanted, given)])
        if not found:
            raise error("42P10", "there is no unique or exclusion constraint matching the ON CONFLICT specification")
        return _immediate(found)

    def _is_arbiter(
        self, index: IndexDesc, exprs: TableExprs, new: RangeItem, wanted: set[object], given: set[object]
    ) -> bool:
        """True if a unique index is over exactly these keys and its predicate is implied."""
        if not index.unique and index.id != self.table.indexes[0].id:
            return False
        ids = {c.attnum: c for c in (*new.columns, *new.hidden)}
        expressions = exprs.index_exprs.get(index.id, ())
        have: set[object] = set()
        for i, part in enumerate(index.columns):
            if i < index.implicit:
                continue
            expression = expressions[i] if expressions else None
            have.add(expr_key(expression if expression is not None else ids[part.column_id].reference()))
        if have != wanted:
            return False
        condition = exprs.index_predicates.get(index.id)
        return condition is None or _conjuncts(condition) <= given


def _immediate(arbiters: tuple[IndexDesc, ...]) -> tuple[IndexDesc, ...]:
    """Raises 55000 if a key that is checked later would have to tell now."""
    if any(index.deferrable for index in arbiters):
        text = "ON CONFLICT does not support deferrable unique constraints/exclusion constraints as arbiters"
        raise error("55000", text)
    return arbiters


class _LiteralReader:
    """Makes constants of one column of a raw VALUES list; equal texts share one."""

    __slots__ = ("at", "binder", "cache", "column", "insert", "type")

    CACHE_MAX = 4096

    def __init__(self, insert: InsertBinder, column: ColumnDesc, at: int) -> None:
        self.insert = insert
        self.column = column
        self.at = at
        self.type = column_type(insert.queries, column.type_oid)
        self.cache: dict[tuple[str, str], Expr] = {}

    def read(self, row: tuple[tuple[str, str, int], ...]) -> Expr:
        kind, text, position = row[self.at]
        found = self.cache.get((kind, text))
        if found is None:
            found = self._read(kind, text, position)
            if len(self.cache) < self.CACHE_MAX and not isinstance(found, Col):
                self.cache[kind, text] = found
        return found

    def _read(self, kind: str, text: str, position: int) -> Expr:
        insert, column = self.insert, self.column
        if kind == "d":
            return insert._default(column)
        if insert._refuse_generated(column):
            return insert._default(column)
        literal: Expr
        if kind == "s":
            literal = Const(text, UNKNOWN)
        elif kind == "u":
            literal = Const(None, UNKNOWN)
        elif kind == "b":
            literal = Const(text == "true", BOOL)
        else:
            literal = number(text)
        return assigned(insert.queries, literal, column, self.type, position)


def _row_nodes(row: exp.Expr) -> list[exp.Expr]:
    return list(row.expressions) if isinstance(row, exp.Tuple) else [row.this if isinstance(row, exp.Paren) else row]


def _conjuncts(condition: Expr) -> set[object]:
    """Keys of the terms of an AND."""
    if type(condition) is And:
        return {key for arg in condition.args for key in _conjuncts(arg)}
    return {expr_key(condition)}
