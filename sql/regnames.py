"""Names of catalog objects for regclass, regtype, regproc, regnamespace, regrole and their kin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from base.errors import SqlError
from base.typeio import RegResolver, type_name
from sql.parse.identifiers import split_name
from sql.pgcatalog import builtin, oids
from sql.pgcatalog.deparse import relation_name, row_type_text
from sql.pgcatalog.quoting import quote_identifier
from sql.pgcatalog.relation import VirtualRelation

if TYPE_CHECKING:
    from planner.schema import TableDesc
    from sql.session import Session

REGPROC, REGPROCEDURE, REGOPER, REGOPERATOR = 24, 2202, 2203, 2204
REGCLASS, REGTYPE, REGROLE, REGNAMESPACE, REGCOLLATION = 2205, 2206, 4096, 4089, 4191
REGCONFIG, REGDICTIONARY = 3734, 3769


class SessionRegs(RegResolver):
    """Resolves by a session's search path; see PostgreSQL chapter 8.19."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def name_of(self, type_oid: int, oid: int) -> str | None:
        view = self.session.view()
        if type_oid == REGCLASS:
            return self._class_name(oid)
        if type_oid == REGTYPE:
            pg_type = view.state.type_by_oid(oid)
            if pg_type is not None:
                return type_name(pg_type, -1)
            return builtin.type_text(oid) or row_type_text(view, oid)
        if type_oid == REGNAMESPACE:
            name = view.schema_name(oid)
            return quote_identifier(name) if name != "?" else None
        if type_oid == REGROLE:
            role = next((r for r in view.state.roles.values() if r.oid == oid), None)
            return quote_identifier(role.name) if role is not None else None
        return _builtin_name(type_oid, oid)

    def _class_name(self, oid: int) -> str | None:
        view = self.session.view()
        table = view.table_by_id(oid)
        if table is not None:
            return relation_name(view, table)
        for other in view.state.tables(view.database_id):
            for index in other.indexes:
                if index.oid == oid:
                    name = quote_identifier(index.name)
                    return name if view.is_visible(other) else f"{view.schema_name(other.schema_id)}.{name}"
        for qualified in builtin.relation_names():
            if builtin.shape(qualified).oid == oid:
                schema, _, name = qualified.partition(".")
                return name if schema == "pg_catalog" else qualified
        return None

    def oid_of(self, type_oid: int, name: str) -> int:
        found = self.find(type_oid, name)
        if found is None:
            raise _missing(type_oid, name)
        return found

    def find(self, type_oid: int, name: str) -> int | None:
        """Returns an object's OID or None: to_regclass and its kin."""
        view = self.session.view()
        if type_oid == REGTYPE:
            from sql.analyze import Analyzer

            pg_type = Analyzer(self.session).type_from_text(name)
            return pg_type.oid if pg_type is not None else self._row_type(name)
        parts = split_name(name)
        if type_oid == REGNAMESPACE:
            return view.schema_oid(parts[-1])
        if type_oid == REGROLE:
            role = view.state.roles.get(parts[-1])
            return role.oid if role is not None else None
        if type_oid == REGCLASS:
            return self.relation_oid(parts)
        return _builtin_oid(type_oid, name)

    def _row_type(self, name: str) -> int | None:
        """Every table and view names a type: its rows'."""
        element = name.strip().removesuffix("[]")
        try:
            parts = split_name(element)
        except SqlError:
            return None
        found = self.session.view().find_relation(parts[-2] if len(parts) > 1 else None, parts[-1])
        if found is None or isinstance(found, VirtualRelation) or found.kind not in ("r", "v", "m"):
            return None
        return int(found.id) + (oids.ROW_TYPE_BASE if element == name.strip() else oids.ROW_ARRAY_BASE)

    def relation_oid(self, parts: tuple[str, ...]) -> int | None:
        """Returns the OID of a table, view, sequence, index or catalog relation."""
        view = self.session.view()
        schema = parts[-2] if len(parts) > 1 else None
        found: TableDesc | VirtualRelation | None = view.find_relation(schema, parts[-1])
        if isinstance(found, VirtualRelation):
            return found.oid
        if found is not None:
            return found.id
        from sql.parse.statements import Name

        index = view.index(Name(parts[-1], schema))
        return index[0].indexes[index[1]].oid if index is not None else None


def _missing(type_oid: int, name: str) -> SqlError:
    what, sqlstate = {
        REGCLASS: ("relation", "42P01"), REGTYPE: ("type", "42704"), REGNAMESPACE: ("schema", "3F000"), REGROLE: ("role", "42704"),
        REGPROC: ("function", "42883"), REGPROCEDURE: ("function", "42883"), REGOPER: ("operator", "42883"), REGOPERATOR: ("operator", "42883"),
        REGCOLLATION: ("collation", "42704"), REGCONFIG: ("text search configuration", "42704"), REGDICTIONARY: ("text search dictionary", "42704"),
    }.get(type_oid, ("object", "42704"))  # fmt: skip
    quoted = f"{what}: {name}" if what == "operator" else f'{what} "{name}"'
    return SqlError(f"{quoted} does not exist", sqlstate=sqlstate)


_CATALOGS = {
    REGPROC: ("pg_proc", 1), REGPROCEDURE: ("pg_proc", 1), REGOPER: ("pg_operator", 1), REGOPERATOR: ("pg_operator", 1),
    REGCOLLATION: ("pg_collation", 1), REGCONFIG: ("pg_ts_config", 1), REGDICTIONARY: ("pg_ts_dict", 1),
}  # fmt: skip


def _builtin_name(type_oid: int, oid: int) -> str | None:
    catalog = _CATALOGS.get(type_oid)
    if catalog is None:
        return None
    row = builtin.by_oid(f"pg_catalog.{catalog[0]}").get(oid)
    return None if row is None else str(row[catalog[1]])


def _builtin_oid(type_oid: int, name: str) -> int | None:
    catalog = _CATALOGS.get(type_oid)
    if catalog is None:
        return None
    wanted = name.split("(")[0].removeprefix("pg_catalog.")
    found = [row[0] for row in builtin.rows(f"pg_catalog.{catalog[0]}") if row[catalog[1]] == wanted]
    if len(found) > 1 and type_oid in (REGPROC, REGOPER):
        what = "function" if type_oid == REGPROC else "operator"
        raise SqlError(f'more than one {what} named "{name}"', sqlstate="42725")
    return found[0] if found else None
