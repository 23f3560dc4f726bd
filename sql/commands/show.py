"""SHOW TABLES, SHOW RANGES and the like, as CockroachDB has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from base.errors import FeatureNotSupported
from base.keys import table_span
from base.types import INT8, TEXT, array_of
from sql.api import ResultColumn
from sql.commands import handles, send_rows, text_columns
from sql.parse import statements as ast
from sql.pgcatalog.storedtext import default_text
from sql.regions.topology import locality_text, own_database

if TYPE_CHECKING:
    from sql.portals import QueryPortal
    from sql.session import Session

_KINDS = {"r": "table", "v": "view", "S": "sequence"}
_COLUMNS = {
    "tables": ("schema_name", "table_name", "type", "owner", "locality"),
    "databases": ("database_name", "owner"),
    "schemas": ("schema_name", "owner"),
    "columns": ("column_name", "data_type", "is_nullable", "column_default"),
    "indexes": ("table_name", "index_name", "definition"),
    "sequences": ("sequence_schema", "sequence_name"),
    "users": ("username", "options"),
    "roles": ("username", "options"),
    "locality": ("locality",),
}


def _object_columns(session: Session, statement: ast.ShowObjects) -> tuple[ResultColumn, ...]:
    names = _COLUMNS.get(statement.kind)
    if names is None:
        raise FeatureNotSupported(f"SHOW {statement.kind.upper()} is not supported")
    return text_columns(*names)


@handles(ast.ShowObjects, _object_columns)
async def show_objects(session: Session, statement: ast.ShowObjects, portal: QueryPortal) -> None:
    columns = _object_columns(session, statement)
    send_rows(session, portal, columns, _rows(session, statement))
    session.sink.complete("SHOW")


def _rows(session: Session, statement: ast.ShowObjects) -> list[tuple[Any, ...]]:
    from sql.pgcatalog import deparse

    view, kind = session.view(), statement.kind
    tables = session.state().tables(session.database_id)
    if kind == "tables":
        database = own_database(session)
        return [
            (
                view.schema_name(t.schema_id),
                t.name,
                _KINDS[t.kind],
                t.owner,
                deparse.table_locality(t) if database.regions is not None and t.kind == "r" else None,
            )
            for t in tables
        ]
    if kind == "locality":
        return [(locality_text(session.server.locality),)]
    if kind == "databases":
        return [(d.name, d.owner) for d in session.state().databases()]
    if kind == "schemas":
        return [(s.name, s.owner) for s in session.state().schemas(session.database_id)] + [
            ("information_schema", None),
            ("pg_catalog", None),
        ]
    if kind == "sequences":
        return [(view.schema_name(t.schema_id), t.name) for t in tables if t.kind == "S"]
    if kind in ("users", "roles"):
        roles = sorted(session.state().roles.values(), key=lambda r: r.name)
        return [
            (r.name, ", ".join(w for w, on in (("SUPERUSER", r.superuser), ("NOLOGIN", not r.can_login)) if on))
            for r in roles
        ]
    assert statement.target is not None
    table = view.relation(statement.target)
    assert table is not None
    if kind == "columns":
        return [
            (
                c.name,
                deparse.format_type(view, c.type_oid, c.typmod),
                "YES" if c.nullable else "NO",
                default_text(view, table, c, False) or None,
            )
            for c in table.columns
            if not c.hidden
        ]
    return [(table.name, i.name, deparse.index_definition(view, table, i)) for i in table.indexes if i.oid]


_RANGE_COLUMNS = (
    ResultColumn("range_id", INT8), ResultColumn("start_key", TEXT), ResultColumn("end_key", TEXT), ResultColumn("range_bytes", INT8),
    ResultColumn("lease_holder", INT8), ResultColumn("lease_holder_locality", TEXT), ResultColumn("replicas", TEXT),
    ResultColumn("replica_localities", array_of(TEXT)), ResultColumn("non_voting_replicas", TEXT),
)  # fmt: skip


def _range_columns(session: Session, statement: ast.ShowRanges) -> tuple[ResultColumn, ...]:
    return _RANGE_COLUMNS


@handles(ast.ShowRanges, _range_columns)
async def show_ranges(session: Session, statement: ast.ShowRanges, portal: QueryPortal) -> None:
    start, end = b"", b""
    if statement.table is not None:
        table = session.view().table(statement.table)
        start, end = table_span(table.key_prefix_table or table.id)
    localities = {node.node_id: locality_text(node.locality) for node in session.server.topology()}
    rows: list[tuple[Any, ...]] = []
    for found in await session.server.describe_ranges(start, end):
        replicas = (*found.voters, *found.non_voters)
        rows.append(
            (
                found.range_id, found.start.hex(), found.end.hex(), found.size_bytes, found.leaseholder,
                localities.get(found.leaseholder or 0, ""), ",".join(map(str, sorted(found.voters))),
                tuple([localities.get(node_id, "") for node_id in sorted(replicas)]), ",".join(map(str, sorted(found.non_voters))),
            )
        )  # fmt: skip
    send_rows(session, portal, _RANGE_COLUMNS, rows)
    session.sink.complete("SHOW")
