"""Names as one session sees them: its database, search path and role over a catalog state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from base import types
from base.errors import FeatureNotSupported, SqlError
from base.typeio import typmod_from_args
from base.types import PgType, array_of
from planner.schema import DatabaseDesc, SchemaDesc, TableDesc
from sql.binder.catalog_view import CatalogView
from sql.catalog.state import INFORMATION_SCHEMA_OID, PG_CATALOG_OID, CatalogState
from sql.parse.statements import Name, TypeName
from sql.pgcatalog import virtual_relation
from sql.pgcatalog.quoting import quote_identifier
from sql.settings import split_search_path
from sql.temporary import ALIAS, PREFIX, schema_name

if TYPE_CHECKING:
    from sql.session import Session

SYSTEM_SCHEMAS: Final = {"pg_catalog": PG_CATALOG_OID, "information_schema": INFORMATION_SCHEMA_OID}
SERIALS: Final = {
    "serial": types.INT4, "serial4": types.INT4, "bigserial": types.INT8, "serial8": types.INT8,
    "smallserial": types.INT2, "serial2": types.INT2,
}  # fmt: skip


class SessionView(CatalogView):
    """Immutable: made anew when the state, the path or the role changes."""

    def __init__(self, session: Session, state: CatalogState) -> None:
        self.session = session
        self.state = state
        self.database_id = session.database_id
        self.path = session.context.search_path
        self.temp_name = schema_name(session)
        self.has_temp = state.schema(self.database_id, self.temp_name) is not None

    # --- schemas ---------------------------------------------------------------

    def _real(self, name: str) -> str:
        """pg_temp is another name of the session's own temporary schema."""
        return self.temp_name if name == ALIAS else name

    def schema(self, name: str) -> SchemaDesc:
        """Raises 3F000."""
        name = self._real(name)
        desc = self.state.schema(self.database_id, name)
        if desc is None:
            if name in SYSTEM_SCHEMAS:
                raise SqlError(f"permission denied for schema {name}", sqlstate="42501")
            raise SqlError(f'schema "{name}" does not exist', sqlstate="3F000")
        return desc

    def schema_exists(self, name: str) -> bool:
        return name in SYSTEM_SCHEMAS or self.state.schema(self.database_id, self._real(name)) is not None

    def schema_oid(self, name: str) -> int | None:
        """Returns a schema's OID, system schemas included."""
        if name in SYSTEM_SCHEMAS:
            return SYSTEM_SCHEMAS[name]
        desc = self.state.schema(self.database_id, self._real(name))
        return desc.id if desc is not None else None

    def creation_schema(self, name: Name | None = None) -> SchemaDesc:
        """Returns the schema a new object goes to; raises 3F000 where the path names none."""
        if name is not None and name.schema is not None:
            return self.schema(name.schema)
        for candidate in self.path:
            desc = self.state.schema(self.database_id, candidate)
            if desc is not None:
                return desc
        raise SqlError("no schema has been selected to create in", sqlstate="3F000")

    def effective_path(self, with_implicit: bool = True) -> tuple[str, ...]:
        """current_schemas(): the schemas of the path that exist; before them, unless named, pg_temp and pg_catalog."""
        found = tuple(self._real(name) for name in self.path if self.schema_exists(name))
        if with_implicit and "pg_catalog" not in found:
            found = ("pg_catalog", *found)
        if with_implicit and self.has_temp and self.temp_name not in found:
            found = (self.temp_name, *found)
        return found

    def path_text(self) -> str:
        """The path as search_path would be set to it: what a view is bound under from now on."""
        return ", ".join(quote_identifier(name) for name in self.path)

    # --- relations -------------------------------------------------------------

    def find_relation(self, schema: str | None, name: str) -> TableDesc | Any | None:
        """Returns a TableDesc, a virtual relation of the catalog, or None."""
        if schema is not None:
            return self._relation_in(schema, name)
        for candidate in self.effective_path():
            found = self._relation_in(candidate, name)
            if found is not None:
                return found
        return None

    def _relation_in(self, schema: str, name: str) -> TableDesc | Any | None:
        if schema in SYSTEM_SCHEMAS:
            return virtual_relation(schema, name)
        desc = self.state.schema(self.database_id, self._real(schema))
        return None if desc is None else self.state.table(self.database_id, desc.id, name)

    def is_of_other_session(self, relation: TableDesc) -> bool:
        """True for a temporary relation of another session: it can be named, not used."""
        name = self.schema_name(relation.schema_id)
        return name.startswith(PREFIX) and name != self.temp_name

    def relation(self, name: Name, missing_ok: bool = False) -> TableDesc | None:
        """Returns a table, view or sequence of a user schema."""
        found = self.find_relation(name.schema, name.name)
        if isinstance(found, TableDesc):
            return found
        if found is not None:
            raise SqlError(f'permission denied: "{name.name}" is a system catalog', sqlstate="42501")
        if missing_ok:
            return None
        if name.schema is not None and not self.schema_exists(name.schema):
            raise SqlError(f'schema "{name.schema}" does not exist', sqlstate="3F000")
        raise SqlError(f'relation "{name}" does not exist', sqlstate="42P01")

    def table(
        self, name: Name, refusal: str = '"{name}" is not a table', hint: str | None = None, kinds: str = "r"
    ) -> TableDesc:
        """Returns a table; raises 42P01, or 42809 with the refusal's text for another kind of relation."""
        desc = self.relation(name)
        assert desc is not None
        if desc.kind not in kinds:
            kind = {"v": "view", "S": "sequence", "m": "materialized view"}.get(desc.kind, "relation")
            raise SqlError(
                refusal.format(kind=kind, name=desc.name), sqlstate="42809", hint=hint if desc.kind in "vm" else None
            )
        return desc

    def index(self, name: Name) -> tuple[TableDesc, int] | None:
        """Finds an index by its name: (table, position in table.indexes)."""
        schemas = [name.schema] if name.schema is not None else list(self.effective_path())
        for schema in schemas:
            desc = self.state.schema(self.database_id, self._real(schema))
            if desc is None:
                continue
            for table in self.state.tables(self.database_id):
                if table.schema_id == desc.id:
                    for i, index in enumerate(table.indexes):
                        if index.name == name.name and index.oid:
                            return table, i
        return None

    def schema_name(self, schema_id: int) -> str:
        for name, oid in SYSTEM_SCHEMAS.items():
            if oid == schema_id:
                return name
        desc = self.state.by_id.get(schema_id)
        return desc.name if isinstance(desc, SchemaDesc) else "?"

    def is_visible(self, table: TableDesc) -> bool:
        """pg_table_is_visible: the name alone finds this relation."""
        found = self.find_relation(None, table.name)
        return isinstance(found, TableDesc) and found.id == table.id

    def database(self, name: str) -> DatabaseDesc:
        desc = self.state.database(name)
        if desc is None:
            raise SqlError(f'database "{name}" does not exist', sqlstate="3D000")
        return desc

    def table_by_id(self, id: int) -> TableDesc | None:
        return self.state.table_by_id(id)

    def type_by_oid(self, oid: int) -> PgType | None:
        return self.state.type_by_oid(oid)

    def for_view(self, view: TableDesc) -> SessionView:
        """The same catalog under the search path a view was made with."""
        path = view.options.get("search_path")
        if path is None:
            return self
        other = SessionView(self.session, self.state)
        other.path = tuple(view.owner if name == "$user" else name for name in split_search_path(path))
        other.has_temp = other.has_temp and self.schema_name(view.schema_id) == self.temp_name
        return other

    # --- types -----------------------------------------------------------------

    def find_type(self, names: Sequence[str]) -> PgType | None:
        """Resolves a possibly qualified type name (pg_type spelling)."""
        if len(names) == 1:
            for schema in self.effective_path():
                found = self._type_in(schema, names[0])
                if found is not None:
                    return found
            return None
        if len(names) == 3 and names[0] != self.session.database:
            raise FeatureNotSupported(f"cross-database references are not implemented: {'.'.join(names)}")
        return self._type_in(names[-2], names[-1])

    def _type_in(self, schema: str, name: str) -> PgType | None:
        if schema == "pg_catalog":
            return types.BY_NAME.get(name)
        desc = self.state.schema(self.database_id, schema)
        if desc is None:
            return None
        found = self.state.type_named(self.database_id, desc.id, name)
        if found is None and name.startswith("_"):
            elem = self.state.type_named(self.database_id, desc.id, name[1:])
            return elem.array_type if elem is not None else None
        return found

    def type_named(self, written: TypeName) -> tuple[PgType, int]:
        """Returns (type, typmod) of a type as written; raises 42704."""
        names = written.names
        pg_type = SERIALS.get(names[0]) if len(names) == 1 else None
        if pg_type is None:
            pg_type = self.find_type(names)
        if pg_type is None:
            raise SqlError(f'type "{".".join(names)}" does not exist', sqlstate="42704")
        typmod = typmod_from_args(pg_type, written.typmods, written.interval_fields)
        for _ in range(min(written.dimensions, 1)):
            pg_type = array_of(pg_type)
        return pg_type, typmod

    # --- roles -----------------------------------------------------------------

    def is_superuser(self) -> bool:
        return self.state.is_superuser(self.session.user)

    def owns(self, owner: str) -> bool:
        """True if the session's role is the owner, a member of it, or a superuser."""
        return self.is_superuser() or owner in self.state.roles_of(self.session.user)

    def require_owner(self, kind: str, name: str, owner: str) -> None:
        if not self.owns(owner):
            raise SqlError(f"must be owner of {kind} {name}", sqlstate="42501")

    def has_privilege(self, owner: str, privileges: tuple[tuple[str, str], ...], letter: str, role: str = "") -> bool:
        """``letter`` as in aclitem: r select, a insert, w update, d delete, D truncate, U usage, C create, c connect."""
        checked = role or self.session.user
        if self.state.is_superuser(checked) or owner in self.state.roles_of(checked):
            return True
        granted = dict(privileges)
        if letter in granted.get("public", ""):
            return True
        return any(letter in granted.get(member, "") for member in self.state.roles_of(checked))

    def require(self, table: TableDesc, letter: str, role: str = "") -> None:
        """Raises 42501 if a role (the session's, or a view's owner) lacks a privilege on a relation."""
        if not self.has_privilege(table.owner, table.privileges, letter, role):
            kind = {"r": "table", "v": "view", "S": "sequence"}.get(table.kind, "relation")
            raise SqlError(f"permission denied for {kind} {table.name}", sqlstate="42501")
