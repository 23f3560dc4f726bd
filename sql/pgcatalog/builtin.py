"""PostgreSQL 15's own catalog rows, from one generated data file (``tools/generate_pg_data.py``)."""

from __future__ import annotations

import zlib
from functools import cache
from importlib.resources import files
from typing import Any, Final, NamedTuple

import msgspec

from base import types
from base.types import PgType
from sql.pgcatalog.oids import BTREE_AM

_DATA: Final = "postgres15.msgpack"


class RelationShape(NamedTuple):
    """A catalog relation as PostgreSQL declares it."""

    oid: int
    kind: str
    """r table, v view."""
    columns: tuple[tuple[str, PgType, int, bool], ...]
    """(name, type, typmod, not null)."""
    row_type: int


@cache
def _payload() -> dict[str, Any]:
    packed = files("sql.pgcatalog").joinpath(_DATA).read_bytes()
    return msgspec.msgpack.decode(zlib.decompress(packed))  # type: ignore[no-any-return]  # a dict by construction


@cache
def relation_names() -> tuple[str, ...]:
    """``schema.name`` of every catalog relation."""
    return tuple(_payload()["relations"])


_DOMAINS: Final = {
    13221: types.INT4,
    13224: types.VARCHAR,
    13226: types.NAME,
    13232: types.TIMESTAMPTZ,
    13234: types.VARCHAR,
}
"""information_schema's domains: cardinal_number, character_data, sql_identifier, time_stamp, yes_or_no.

A result column of a domain is described by the domain's base type.
"""


@cache
def shape(qualified: str) -> RelationShape:
    """Returns the declaration of a relation; raises KeyError."""
    found = _payload()["relations"][qualified]
    columns = tuple(
        (name, types.BY_OID.get(oid) or _DOMAINS.get(oid, types.TEXT), typmod, not_null)
        for name, oid, typmod, not_null in found["columns"]
    )
    return RelationShape(found["oid"], found["kind"], columns, found["type"])


@cache
def rows(qualified: str) -> tuple[tuple[Any, ...], ...]:
    """Returns the built-in rows of a relation as datums."""
    raw = _payload()["relations"][qualified].get("rows", ())
    readers = [_reader(column[1]) for column in shape(qualified).columns]
    return tuple(tuple(None if text is None else read(text) for read, text in zip(readers, row)) for row in raw)


@cache
def by_oid(qualified: str) -> dict[int, tuple[Any, ...]]:
    """Returns the built-in rows of a relation by their first column."""
    return {row[0]: row for row in rows(qualified)}


@cache
def type_text(oid: int) -> str | None:
    """format_type of a built-in type that has no datums here (point, macaddr, tsvector..)."""
    row = by_oid("pg_catalog.pg_type").get(oid)
    if row is None:
        return None
    names = [column[0] for column in shape("pg_catalog.pg_type").columns]
    if row[names.index("typcategory")] == "A" and (element := type_text(row[names.index("typelem")])) is not None:
        return element + "[]"
    return str(row[names.index("typname")])


@cache
def row_types() -> dict[int, str]:
    """Names of the catalog relations' row types by OID."""
    found: dict[int, str] = {}
    for qualified in relation_names():
        row_type = shape(qualified).row_type
        if row_type:
            found[row_type] = qualified.removeprefix("pg_catalog.")
    return found


@cache
def default_opclass(type_oid: int, type_category: str) -> int:
    """Returns the OID of a type's default btree operator class, 0 if there is none."""
    names = [column[0] for column in shape("pg_catalog.pg_opclass").columns]
    taken, default = names.index("opcintype"), names.index("opcdefault")
    wanted = {1043: 25, 650: 869}.get(type_oid, type_oid)
    wanted = {"E": 3500, "A": 2277}.get(type_category, wanted)
    for row in rows("pg_catalog.pg_opclass"):
        if row[1] == BTREE_AM and row[taken] == wanted and row[default]:
            return int(row[0])
    return 0


@cache
def descriptions() -> dict[tuple[int, int], str]:
    """Comments on built-in objects by (OID, OID of the catalog it is in)."""
    return {(oid, catalog): str(text) for oid, catalog, sub, text in rows("pg_catalog.pg_description") if sub == 0}


@cache
def keywords() -> tuple[tuple[str, ...], ...]:
    """Rows of pg_get_keywords()."""
    return tuple(tuple(row) for row in _payload()["keywords"])


def _reader(pg_type: PgType) -> Any:
    name = pg_type.name
    if name in ("oid", "int2", "int4", "int8", "xid", "regproc", "regclass", "regtype", "regprocedure", "regoper"):
        return int
    if name in ("float4", "float8"):
        return float
    if name == "bool":
        return lambda text: text in ("t", "true")
    if name in ("oidvector", "int2vector"):
        return lambda text: tuple(int(part) for part in text.split())
    if pg_type.is_array:
        assert pg_type.elem is not None
        return _array_reader(_reader(pg_type.elem))
    return str


def _array_reader(element: Any) -> Any:
    def read(text: str) -> tuple[Any, ...]:
        inner = text[1:-1]
        if not inner:
            return ()
        parts: list[str] = []
        current, quoted, at = "", False, 0
        while at < len(inner):
            char = inner[at]
            if char == "\\":
                current += inner[at + 1]
                at += 1
            elif char == '"':
                quoted = not quoted
            elif char == "," and not quoted:
                parts.append(current)
                current = ""
            else:
                current += char
            at += 1
        parts.append(current)
        return tuple(element(part) for part in parts)

    return read
