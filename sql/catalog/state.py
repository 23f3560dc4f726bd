"""The catalog in memory: an immutable snapshot of all descriptors, with lookups by name.

A ``CatalogState`` never changes; DDL derives a new one with ``replace``.  The node holds the newest
committed state (``sql.catalog.cache``); a transaction that has done DDL holds its own, derived one, which
replaces the shared one when it commits.

``modified`` remembers the commit timestamp of each descriptor's version: a transaction whose read
timestamp lies below it must move forward before it plans with it, because data written under the
new version (an index's entries, say) is not visible to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Union

import msgspec
from msgspec import Struct, field

from base import types
from base.keys import index_span, table_span
from base.types import PgType
from planner.schema import DatabaseDesc, SchemaDesc, TableDesc, TypeDesc

PG_CATALOG_OID = 11
INFORMATION_SCHEMA_OID = 13_207
SUPERUSER = "root"


class RoleDesc(Struct, frozen=True, omit_defaults=True):
    """A role; ``secret`` is the SCRAM verifier, never the password."""

    name: str
    oid: int
    can_login: bool = False
    superuser: bool = False
    create_db: bool = False
    create_role: bool = False
    inherit: bool = True
    bypass_rls: bool = False
    replication: bool = False
    connection_limit: int = -1
    secret: str = ""
    member_of: tuple[str, ...] = ()
    valid_until: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    comment: str = ""


class StoredDatabase(Struct, tag="db", array_like=True):
    desc: DatabaseDesc


class StoredSchema(Struct, tag="schema", array_like=True):
    desc: SchemaDesc


class StoredTable(Struct, tag="table", array_like=True):
    desc: TableDesc


class StoredType(Struct, tag="type", array_like=True):
    desc: TypeDesc


Stored = Union[StoredDatabase, StoredSchema, StoredTable, StoredType]
Desc = Union[DatabaseDesc, SchemaDesc, TableDesc, TypeDesc]
_decoder: msgspec.msgpack.Decoder[Stored] = msgspec.msgpack.Decoder(Stored)
_encoder = msgspec.msgpack.Encoder()
_WRAPPERS = {DatabaseDesc: StoredDatabase, SchemaDesc: StoredSchema, TableDesc: StoredTable, TypeDesc: StoredType}


def encode_descriptor(desc: Desc) -> bytes:
    """Returns the stored form."""
    return _encoder.encode(_WRAPPERS[type(desc)](desc))


def decode_descriptor(data: bytes) -> Desc:
    """Raises msgspec.ValidationError on anything else."""
    return _decoder.decode(data).desc


def name_of(desc: Desc) -> tuple[str, int, int, str]:
    """Returns (kind, database id, schema id, name): what must be unique; see ``sql.catalog.keys.name_key``."""
    if isinstance(desc, TableDesc):
        return "r", desc.database_id, desc.schema_id, desc.name
    if isinstance(desc, TypeDesc):
        return "t", desc.database_id, desc.schema_id, desc.name
    if isinstance(desc, SchemaDesc):
        return "s", desc.database_id, 0, desc.name
    return "d", 0, 0, desc.name


def spans_gone(state: CatalogState, descs: Mapping[int, Desc | None]) -> list[tuple[int, bytes, bytes]]:
    """Returns (table id, start, end) of what tables and indexes have now and will not have with these descriptors."""
    gone: list[tuple[int, bytes, bytes]] = []
    for id, new in descs.items():
        old = state.by_id.get(id)
        if not isinstance(old, TableDesc) or old.kind != "r":
            continue
        prefix = old.key_prefix_table or old.id
        if not isinstance(new, TableDesc) or (new.key_prefix_table or new.id) != prefix:
            gone.append((id, *table_span(prefix)))
            continue
        kept = {index.id for index in new.indexes}
        gone += [(id, *index_span(prefix, index.id)) for index in old.indexes if index.id not in kept]
    return gone


def enum_type(desc: TypeDesc, namespace: str) -> PgType:
    """Returns the PgType of an enum, with its array type linked."""
    pg_type = PgType(
        desc.id,
        desc.name,
        4,
        "E",
        desc.array_oid,
        kind="e",
        enum_labels=tuple(label for label, _ in desc.labels),
        namespace=namespace,
    )
    pg_type.enum_physical = dict(desc.labels)
    array = PgType(desc.array_oid, "_" + desc.name, -1, "A", 0, False, pg_type, namespace=namespace)
    pg_type.array_type = array
    return pg_type


class CatalogState:
    """One immutable snapshot."""

    __slots__ = ("by_id", "by_name", "generation", "modified", "roles", "types")

    def __init__(
        self,
        by_id: dict[int, Desc],
        by_name: dict[tuple[str, int, int, str], int],
        roles: dict[str, RoleDesc],
        types_by_oid: dict[int, PgType],
        modified: dict[int, int],
        generation: int,
    ) -> None:
        self.by_id = by_id
        self.by_name = by_name
        self.roles = roles
        self.types = types_by_oid
        """User-defined types (and their arrays) by OID."""
        self.modified = modified
        self.generation = generation
        """Grows with every change; two states with equal generation of one node are the same."""

    @classmethod
    def empty(cls) -> CatalogState:
        return cls({}, {}, {}, {}, {}, 0)

    def replace(
        self,
        descs: Mapping[int, Desc | None],
        roles: Mapping[str, RoleDesc | None] | None = None,
        ts: int = 0,
        generation: int | None = None,
    ) -> CatalogState:
        """Returns a new state with these descriptors put (or, None, removed); ``ts`` stamps them."""
        by_id, by_name, modified, types_by_oid = dict(self.by_id), dict(self.by_name), dict(self.modified), self.types
        for id, desc in descs.items():
            old = by_id.pop(id, None)
            if old is not None and by_name.get(name_of(old)) == id:
                del by_name[name_of(old)]
            if isinstance(old, TypeDesc) or isinstance(desc, TypeDesc):
                types_by_oid = _replace_type(types_by_oid, old, desc, self)
            if desc is not None:
                by_id[id] = desc
                modified[id] = ts
        for id, desc in descs.items():
            if desc is not None:
                by_name[name_of(desc)] = id
        new_roles = self.roles
        if roles:
            new_roles = {name: role for name, role in {**self.roles, **roles}.items() if role is not None}
        return CatalogState(
            by_id, by_name, new_roles, types_by_oid, modified, self.generation + 1 if generation is None else generation
        )

    # --- lookups ---------------------------------------------------------------

    def database(self, name: str) -> DatabaseDesc | None:
        id = self.by_name.get(("d", 0, 0, name))
        return None if id is None else self.by_id[id]  # type: ignore[return-value]  # kind d

    def schema(self, database_id: int, name: str) -> SchemaDesc | None:
        id = self.by_name.get(("s", database_id, 0, name))
        return None if id is None else self.by_id[id]  # type: ignore[return-value]  # kind s

    def table(self, database_id: int, schema_id: int, name: str) -> TableDesc | None:
        """Returns a relation (table, view or sequence)."""
        id = self.by_name.get(("r", database_id, schema_id, name))
        return None if id is None else self.by_id[id]  # type: ignore[return-value]  # kind r

    def type_named(self, database_id: int, schema_id: int, name: str) -> PgType | None:
        id = self.by_name.get(("t", database_id, schema_id, name))
        return None if id is None else self.types[id]

    def table_by_id(self, id: int) -> TableDesc | None:
        desc = self.by_id.get(id)
        return desc if isinstance(desc, TableDesc) else None

    def type_by_oid(self, oid: int) -> PgType | None:
        """Returns a built-in or user-defined type."""
        return types.BY_OID.get(oid) or self.types.get(oid)

    def schemas(self, database_id: int) -> list[SchemaDesc]:
        return sorted(
            (d for d in self.by_id.values() if isinstance(d, SchemaDesc) and d.database_id == database_id),
            key=lambda d: d.id,
        )

    def tables(self, database_id: int) -> list[TableDesc]:
        return sorted(
            (d for d in self.by_id.values() if isinstance(d, TableDesc) and d.database_id == database_id),
            key=lambda d: d.id,
        )

    def enums(self, database_id: int) -> list[TypeDesc]:
        return sorted(
            (d for d in self.by_id.values() if isinstance(d, TypeDesc) and d.database_id == database_id),
            key=lambda d: d.id,
        )

    def databases(self) -> list[DatabaseDesc]:
        return sorted((d for d in self.by_id.values() if isinstance(d, DatabaseDesc)), key=lambda d: d.id)

    def roles_of(self, name: str) -> Iterable[str]:
        """Yields the role and every role it is a member of, directly or not, in a stable order."""
        seen: dict[str, None] = {}
        pending = [name]
        while pending:
            role = pending.pop()
            if role in seen:
                continue
            seen[role] = None
            desc = self.roles.get(role)
            if desc is not None:
                pending.extend(reversed(desc.member_of))
        return seen

    def is_superuser(self, role: str) -> bool:
        desc = self.roles.get(role)
        return desc is not None and desc.superuser


def _replace_type(
    current: dict[int, PgType], old: Desc | None, new: Desc | None, state: CatalogState
) -> dict[int, PgType]:
    result = dict(current)
    if isinstance(old, TypeDesc):
        result.pop(old.id, None)
        result.pop(old.array_oid, None)
    if isinstance(new, TypeDesc):
        schema = state.by_id.get(new.schema_id)
        pg_type = enum_type(new, schema.name if isinstance(schema, SchemaDesc) else "public")
        assert pg_type.array_type is not None
        result[new.id] = pg_type
        result[new.array_oid] = pg_type.array_type
    return result
