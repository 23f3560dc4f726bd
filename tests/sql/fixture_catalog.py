"""A small catalog in memory for binder tests: tables written as CREATE TABLE statements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from base import types
from base.types import BY_NAME, BY_OID, PgType, array_of
from planner.schema import CheckDesc, ColumnDesc, ForeignKeyDesc, IndexColumn, IndexDesc, TableDesc
from sql.binder.catalog_view import CatalogView
from sql.parse import parse
from sql.parse import statements as ast

SERIALS = {"serial4": "int4", "serial8": "int8", "serial2": "int2", "serial": "int4", "bigserial": "int8"}
MOOD = PgType(90_001, "mood", 4, "E", 90_002, kind="e", enum_labels=("sad", "ok", "happy"), namespace="public")
MOOD.array_type = PgType(90_002, "_mood", -1, "A", elem=MOOD, namespace="public")


class Catalog(CatalogView):
    """Everything is in schema public; ``pg_`` relations are virtual ones given by the test."""

    def __init__(self) -> None:
        self.tables: dict[str, TableDesc] = {}
        self.virtual: dict[str, Any] = {}
        self.next_id = 20_000

    # --- CatalogView

    def find_relation(self, schema: str | None, name: str) -> Any:
        if schema in (None, "public") and name in self.tables:
            return self.tables[name]
        if schema in (None, "pg_catalog"):
            return self.virtual.get(name)
        return None

    def schema_exists(self, name: str) -> bool:
        return name in ("public", "pg_catalog", "information_schema")

    def find_type(self, names: Sequence[str]) -> PgType | None:
        if len(names) > 1 and names[-2] not in ("pg_catalog", "public"):
            return None
        return {"mood": MOOD, "_mood": MOOD.array_type}.get(names[-1]) or BY_NAME.get(names[-1])

    def type_by_oid(self, oid: int) -> PgType | None:
        return {MOOD.oid: MOOD, 90_002: MOOD.array_type}.get(oid) or BY_OID.get(oid)

    def table_by_id(self, id: int) -> TableDesc | None:
        return next((t for t in self.tables.values() if t.id == id), None)

    def for_view(self, view: TableDesc) -> CatalogView:
        return self

    def schema_name(self, schema_id: int) -> str | None:
        return "public"

    # --- making tables

    def create(self, sql: str) -> None:
        """Runs CREATE TABLE, CREATE UNIQUE INDEX and CREATE VIEW statements."""
        for parsed in parse(sql):
            statement = parsed.statement
            if isinstance(statement, ast.CreateTable):
                self._table(statement)
            elif isinstance(statement, ast.CreateIndex):
                self._index(statement)
            else:
                assert isinstance(statement, ast.CreateView)
                self._view(statement)

    def _type(self, written: ast.TypeName) -> PgType:
        name = SERIALS.get(written.names[-1], written.names[-1])
        found = self.find_type((name,))
        assert found is not None, f"{written=}"
        return array_of(found) if written.dimensions else found

    def _table(self, statement: ast.CreateTable) -> None:
        from base.typeio import typmod_from_args

        columns: list[ColumnDesc] = []
        checks: list[CheckDesc] = []
        constraints = list(statement.constraints)
        self.next_id += 10
        id = self.next_id
        for number, column in enumerate(statement.columns, 1):
            constraints += column.constraints
            pg_type = self._type(column.type)
            is_serial = column.type.names[-1] in SERIALS
            columns.append(
                ColumnDesc(
                    id=number,
                    name=column.name,
                    type_oid=pg_type.oid,
                    typmod=typmod_from_args(pg_type, column.type.typmods) if column.type.typmods else -1,
                    nullable=column.nullable is not False,
                    default=f"nextval({id + 5}::regclass)"
                    if is_serial
                    else column.default.text
                    if column.default
                    else "",
                    identity=column.identity,
                    generated=column.generated.text if column.generated else "",
                    sequence_id=id + 5 if column.identity or is_serial else 0,
                )
            )
        numbers = {column.name: column.id for column in columns}
        indexes: list[IndexDesc] = []
        keys: list[ForeignKeyDesc] = []
        for constraint in constraints:
            if constraint.kind in ("primary key", "unique"):
                key = tuple([IndexColumn(column_id=numbers[name]) for name in constraint.columns])
                primary = constraint.kind == "primary key"
                name = (
                    constraint.name
                    or f"{statement.name.name}_{'pkey' if primary else '_'.join(constraint.columns) + '_key'}"
                )
                index = IndexDesc(
                    id=1 if primary else 10 + len(indexes), name=name, columns=key, unique=True, constraint=name
                )
                indexes.insert(0, index) if primary else indexes.append(index)
            elif constraint.kind == "check":
                assert constraint.check is not None
                checks.append(CheckDesc(constraint.name or "check", constraint.check.text))
            elif constraint.kind == "foreign key":
                assert constraint.target is not None
                target = self.tables[constraint.target.table.name]
                keys.append(
                    ForeignKeyDesc(
                        name=constraint.name or "fk", columns=tuple(numbers[c] for c in constraint.columns), target_table=target.id,
                        target_columns=(1,), target_index=1, on_delete=constraint.target.on_delete, on_update=constraint.target.on_update,
                    )
                )  # fmt: skip
                from msgspec.structs import replace

                self.tables[target.name] = replace(target, inbound=(*target.inbound, id))
        if not any(index.id == 1 for index in indexes):
            columns.append(
                ColumnDesc(
                    id=len(columns) + 1, name="rowid", type_oid=types.INT8.oid, nullable=False, default="1", hidden=True
                )
            )
            indexes.insert(
                0, IndexDesc(id=1, name="rowid", columns=(IndexColumn(column_id=len(columns)),), unique=True)
            )
        self.tables[statement.name.name] = TableDesc(
            id=id, version=1, database_id=1, schema_id=2200, name=statement.name.name, columns=tuple(columns), indexes=tuple(indexes),
            checks=tuple(checks), foreign_keys=tuple(keys),
        )  # fmt: skip

    def _index(self, statement: ast.CreateIndex) -> None:
        from msgspec.structs import replace

        table = self.tables[statement.table.name]
        numbers = {column.name: column.id for column in table.columns}
        key = tuple(
            [
                IndexColumn(column_id=numbers[e.column])
                if e.column
                else IndexColumn(expression=e.expression.text if e.expression else "")
                for e in statement.elements
            ]
        )
        index = IndexDesc(
            id=20 + len(table.indexes), name=statement.name or "i", columns=key, unique=statement.unique,
            predicate=statement.where.text if statement.where else "",
        )  # fmt: skip
        self.tables[table.name] = replace(table, indexes=(*table.indexes, index))

    def _view(self, statement: ast.CreateView) -> None:
        from planner.functions import builtin_registry
        from sql.binder import Binder

        bound = Binder(self, builtin_registry()).bind_view(statement.query.text)
        self.next_id += 10
        names = [*statement.columns, *[c.name for c in bound.columns][len(statement.columns) :]]
        columns = tuple(
            [
                ColumnDesc(id=i, name=n, type_oid=c.type.oid, typmod=c.typmod)
                for i, (n, c) in enumerate(zip(names, bound.columns), 1)
            ]
        )
        self.tables[statement.name.name] = TableDesc(
            id=self.next_id, version=1, database_id=1, schema_id=2200, name=statement.name.name, kind="v", columns=columns,
            view_query=statement.query.text,
        )  # fmt: skip


class Virtual:
    """A catalog relation."""

    def __init__(self, name: str, columns: Sequence[tuple[str, PgType]], oid: int) -> None:
        self.schema = "pg_catalog"
        self.name = name
        self.oid = oid
        self.columns = tuple([(name, pg_type, -1, False) for name, pg_type in columns])
        self.hidden = (("tableoid", types.OID, -1, True),)


SCHEMA = """
CREATE TABLE t (a int PRIMARY KEY, b text, c numeric(10,2), d timestamptz, e int[], j jsonb, m mood);
CREATE TABLE u (x int, y varchar(10), a int);
CREATE TABLE g (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int NOT NULL DEFAULT 7 CHECK (v > 0), w int GENERATED ALWAYS AS (v * 2) STORED);
CREATE TABLE p (id serial PRIMARY KEY, code text UNIQUE, kind int, live bool);
CREATE UNIQUE INDEX p_live ON p (kind) WHERE live;
CREATE UNIQUE INDEX p_lower ON p (lower(code));
CREATE TABLE k (id int PRIMARY KEY, pid int REFERENCES p (id) ON DELETE CASCADE);
CREATE VIEW v (aa, bb) AS SELECT a, upper(b) FROM t WHERE a > 0;
"""


def sample() -> Catalog:
    """The tables most tests use."""
    catalog = Catalog()
    catalog.create(SCHEMA)
    catalog.virtual["pg_class"] = Virtual(
        "pg_class", [("oid", types.OID), ("relname", types.NAME), ("relkind", types.CHAR)], 1259
    )
    return catalog
