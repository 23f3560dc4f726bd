"""What descriptors say of each other: what each refers to, and whether that is there.

Two schema changes of one object lock its row.  Two of objects that only refer to each other (a table made in a schema
that goes, of a type, over a sequence...) do not, so the later of the two looks, when it commits and all changes stand in
one line (``sql.catalog.changes``), at what has become of the catalog since it began:

    it refers to         must be there still, with the columns that a view reads
    it has removed       must not be referred to by what is new

``dangling`` walks the whole catalog, for tests and simulations: it finds nothing, ever.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Union

from planner.schema import DatabaseDesc, SchemaDesc, TableDesc, TypeDesc
from sql.catalog.state import CatalogState, Desc, RoleDesc

Reference = tuple[str, Union[int, str], Union[int, str]]
"""(kind, id or name, part): a part is a column, an index, the source of a foreign key, a region; "" is none."""

PUBLIC: Final = "public"
_NEXTVAL: Final = re.compile(r"nextval\((\d+)::regclass\)")


def references(desc: Desc | RoleDesc) -> Iterator[Reference]:
    """Yields what a descriptor refers to; some of it more than once."""
    if isinstance(desc, RoleDesc):
        for name in desc.member_of:
            yield "role", name, ""
        return
    yield "role", desc.owner, ""
    if not isinstance(desc, DatabaseDesc):
        yield "database", desc.database_id, ""
    if not isinstance(desc, TypeDesc):
        for name, _ in desc.privileges:
            if name != PUBLIC:
                yield "role", name, ""
    if isinstance(desc, (TableDesc, TypeDesc)):
        yield "schema", desc.schema_id, ""
    if isinstance(desc, TableDesc):
        yield from _of_table(desc)
    elif isinstance(desc, DatabaseDesc) and desc.regions is not None:
        yield "type", desc.regions.type_id, ""


def _of_table(table: TableDesc) -> Iterator[Reference]:
    for column in table.columns:
        yield "type", column.type_oid, ""
        if column.sequence_id:
            yield "relation", column.sequence_id, ""
        for found in _NEXTVAL.findall(column.default):
            yield "relation", int(found), ""
    for layout in table.layouts:
        for _, oid in layout.columns:
            yield "type", oid, ""
    for key in table.foreign_keys:
        yield "inbound", key.target_table, table.id
        yield "index", key.target_table, key.target_index
        for id in key.target_columns:
            yield "column", key.target_table, id
    for id in table.inbound:
        yield "foreign key", id, table.id
    for id in table.depends_on:
        yield "relation", id, ""
    if table.sequence is not None and table.sequence.owner_table:
        yield "column", table.sequence.owner_table, table.sequence.owner_column
    if table.locality.kind != "table" or table.locality.region:
        yield "region", table.database_id, table.locality.region


def is_there(state: CatalogState, reference: Reference) -> bool:
    """True if what is referred to exists."""
    kind, target, part = reference
    if kind == "role":
        return target in state.roles
    assert isinstance(target, int), reference
    if kind == "type":
        return state.type_by_oid(target) is not None
    desc = state.by_id.get(target)
    if kind == "database":
        return isinstance(desc, DatabaseDesc)
    if kind == "schema":
        return isinstance(desc, SchemaDesc)
    if kind == "region":
        regions = desc.regions if isinstance(desc, DatabaseDesc) else None
        return regions is not None and (part == "" or part in regions.regions)
    if not isinstance(desc, TableDesc):
        return False
    if kind == "column":
        return any([column.id == part for column in desc.columns])
    if kind == "index":
        return any([index.id == part for index in desc.indexes])
    if kind == "inbound":
        return part in desc.inbound
    if kind == "foreign key":
        return any([key.target_table == part for key in desc.foreign_keys])
    return True


def _label(desc: Desc | RoleDesc) -> str:
    word = {TableDesc: "relation", TypeDesc: "type", SchemaDesc: "schema", DatabaseDesc: "database"}.get(
        type(desc), "role"
    )
    return f'{word} "{desc.name}"'


def _described(desc: Desc | RoleDesc, reference: Reference) -> str:
    kind, target, part = reference
    return f"{_label(desc)} refers to {kind} {target}" + (f" ({part})" if part != "" else "") + ", which is not there"


def dangling(state: CatalogState) -> list[str]:
    """Describes every reference of the catalog to what is not there."""
    found: list[str] = []
    for desc in (*state.by_id.values(), *state.roles.values()):
        found += [_described(desc, ref) for ref in dict.fromkeys(references(desc)) if not is_there(state, ref)]
    return found


def conflict(base: CatalogState, draft: CatalogState, current: CatalogState, merged: CatalogState) -> str:
    """Says what keeps a schema change from being committed, "" if nothing does.

    ``base`` is the catalog when it began, ``draft`` that with the change as its transaction sees it, ``current`` what is
    committed now, and ``merged`` that with the change: its own descriptors are those where the last two differ.
    """
    own = _changed(current, merged)
    for desc in own:
        for ref in dict.fromkeys(references(desc)):
            if not is_there(merged, ref) and (is_there(draft, ref) or is_there(base, ref)):
                return _described(desc, ref)
        if isinstance(desc, TableDesc):
            for id in desc.depends_on:
                if current.by_id.get(id) is merged.by_id.get(id) and not _keeps(
                    base.by_id.get(id), current.by_id.get(id)
                ):
                    return f"what {_label(desc)} reads has other columns now"
    for desc in _changed(base, current):
        for ref in dict.fromkeys(references(desc)):
            if not is_there(merged, ref) and is_there(current, ref) and _is_in(merged, desc):
                return _described(desc, ref)
        if isinstance(desc, TableDesc) and _is_in(merged, desc):
            for id in desc.depends_on:
                if not _keeps(current.by_id.get(id), merged.by_id.get(id)):
                    return f"{_label(desc)} reads columns that are no longer as they were"
    return ""


def _changed(old: CatalogState, new: CatalogState) -> list[Desc | RoleDesc]:
    """Returns the descriptors and roles of a state that an older one has not, or has otherwise."""
    found: list[Desc | RoleDesc] = [desc for id, desc in new.by_id.items() if old.by_id.get(id) is not desc]
    found += [role for name, role in new.roles.items() if old.roles.get(name) is not role]
    return found


def _is_in(state: CatalogState, desc: Desc | RoleDesc) -> bool:
    if isinstance(desc, RoleDesc):
        return state.roles.get(desc.name) is desc
    return state.by_id.get(desc.id) is desc


def _keeps(old: Desc | None, new: Desc | None) -> bool:
    """True if what reads a relation, by names, goes on reading the same."""
    if old is new or not isinstance(old, TableDesc):
        return True
    if not isinstance(new, TableDesc) or (new.name, new.schema_id) != (old.name, old.schema_id):
        return False
    columns = {column.id: (column.name, column.type_oid, column.typmod) for column in new.columns}
    return all([columns.get(c.id) == (c.name, c.type_oid, c.typmod) for c in old.columns])
