"""DROP: tables, views, sequences, indexes, types, schemas; RESTRICT and CASCADE.

What depends on an object is found from descriptors: views by ``depends_on``, foreign keys by ``inbound``, columns by
their types and defaults.  With CASCADE dependents go too (a NOTICE names each, as PostgreSQL does); without, 2BP01 lists them.
A dropped table's rows go by one range tombstone per table, whatever its size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from base.errors import FeatureNotSupported, SqlError
from base.keys import index_span, table_span
from planner.schema import SchemaDesc, TableDesc, TypeDesc
from sql.commands import handles
from sql.ddl.locking import lock_exclusively
from sql.ddl.types import refuse_regions
from sql.parse import statements as ast
from sql.pgcatalog.deparse import relation_name

if TYPE_CHECKING:
    from sql.portals import QueryPortal
    from sql.session import Session

KINDS = {"table": "r", "view": "v", "sequence": "S", "materialized view": "m"}
WORDS = {"r": "table", "v": "view", "S": "sequence", "m": "materialized view"}


@handles(ast.Drop)
async def drop(session: Session, statement: ast.Drop, portal: QueryPortal) -> None:
    tag = f"DROP {statement.kind.upper()}"
    if statement.kind in KINDS:
        await _drop_relations(session, statement)
    elif statement.kind == "index":
        for name in statement.names:
            await _drop_index(session, name, statement)
    elif statement.kind == "type":
        for name in statement.names:
            await _drop_type(session, name, statement)
    elif statement.kind == "schema":
        for name in statement.names:
            await _drop_schema(session, name, statement)
    elif statement.if_exists:
        for name in statement.names:
            session.notice("NOTICE", SqlError(f'{statement.kind} "{name}" does not exist, skipping', sqlstate="00000"))
    else:
        raise FeatureNotSupported(f"{tag} is not supported")
    session.sink.complete(tag)


def _skip(session: Session, kind: str, name: ast.Name) -> None:
    session.notice("NOTICE", SqlError(f'{kind} "{name}" does not exist, skipping', sqlstate="00000"))


async def _drop_relations(session: Session, statement: ast.Drop) -> None:
    targets: list[TableDesc] = []
    for name in statement.names:
        desc = session.view().relation(name, missing_ok=True)
        if desc is None:
            if not statement.if_exists:
                raise SqlError(f'{statement.kind} "{name}" does not exist', sqlstate="42P01")
            _skip(session, statement.kind, name)
            continue
        if desc.kind != KINDS[statement.kind]:
            hint = f"Use DROP {WORDS[desc.kind].upper()} to remove a {WORDS[desc.kind]}."
            raise SqlError(f'"{desc.name}" is not a {statement.kind}', sqlstate="42809", hint=hint)
        session.view().require_owner(statement.kind, desc.name, desc.owner)
        targets.append(desc)
    await drop_relations(session, targets, statement.cascade)


async def drop_relations(session: Session, targets: list[TableDesc], cascade: bool) -> None:
    """Drops relations together: what depends only on each other needs no CASCADE."""
    ids = {desc.id for desc in targets}
    for desc in targets:
        current = session.state().table_by_id(desc.id)
        if current is None:
            continue
        current = await lock_exclusively(session, current, f"DROP {WORDS[current.kind].upper()}")
        _restrict(session, current, ids, cascade)
        await drop_relation(session, current)


def dependents(session: Session, desc: TableDesc, leaving: set[int]) -> list[str]:
    """Describes what depends on a relation, besides what is being dropped with it."""
    state = session.state()
    found = []
    for other in state.tables(session.database_id):
        if other.id in leaving or other.id == desc.id:
            continue
        if other.kind in ("v", "m") and desc.id in other.depends_on:
            found.append(f"{WORDS[other.kind]} {other.name} depends on {WORDS[desc.kind]} {desc.name}")
            found.extend(line for line in dependents(session, other, {*leaving, desc.id}) if line not in found)
        found.extend(
            f"constraint {key.name} on table {other.name} depends on {WORDS[desc.kind]} {desc.name}"
            for key in other.foreign_keys
            if key.target_table == desc.id
        )
        if desc.kind == "S":
            found.extend(
                f"default value for column {c.name} of table {other.name} depends on sequence {desc.name}"
                for c in other.columns
                if c.default and f"nextval({desc.id}::regclass)" in c.default
            )
    return found


def _restrict(session: Session, desc: TableDesc, leaving: set[int], cascade: bool) -> None:
    found = dependents(session, desc, leaving)
    if not found:
        return
    if not cascade:
        raise SqlError(
            f"cannot drop {WORDS[desc.kind]} {desc.name} because other objects depend on it",
            sqlstate="2BP01",
            detail="\n".join(found),
            hint="Use DROP ... CASCADE to drop the dependent objects too.",
        )
    notify_cascade(session, [line.split(" depends on ")[0] for line in found])


def notify_cascade(session: Session, objects: list[str]) -> None:
    """Says what CASCADE takes along: the object, or how many."""
    if len(objects) == 1:
        session.notice("NOTICE", SqlError(f"drop cascades to {objects[0]}", sqlstate="00000"))
    elif objects:
        detail = "\n".join(f"drop cascades to {name}" for name in objects)
        session.notice(
            "NOTICE", SqlError(f"drop cascades to {len(objects)} other objects", sqlstate="00000", detail=detail)
        )


async def drop_relation(session: Session, desc: TableDesc) -> None:
    """Removes a relation, its data and everything that depends on it."""
    desc = await lock_exclusively(session, desc, f"DROP {WORDS[desc.kind].upper()}")
    draft = session.block.ddl()
    for other in session.state().tables(session.database_id):
        current = session.state().table_by_id(other.id)
        if current is None or current.id == desc.id:
            continue
        if current.kind in ("v", "m") and desc.id in current.depends_on:
            await drop_relation(session, current)
        elif any(key.target_table == desc.id for key in current.foreign_keys):
            kept = tuple(key for key in current.foreign_keys if key.target_table != desc.id)
            await draft.update_table(current, foreign_keys=kept)
        elif current.sequence is not None and current.sequence.owner_table == desc.id:
            await draft.drop(current)
            session.server.sequences.forget(current.id)
        elif desc.kind == "S" and any(
            c.default and f"nextval({desc.id}::regclass)" in c.default for c in current.columns
        ):
            columns = tuple(
                msgspec.structs.replace(c, default="", sequence_id=0)
                if f"nextval({desc.id}::regclass)" in c.default
                else c
                for c in current.columns
            )
            await draft.update_table(current, columns=columns)
    for key in desc.foreign_keys:
        target = session.state().table_by_id(key.target_table)
        if target is not None and target.id != desc.id and desc.id in target.inbound:
            await draft.update_table(target, inbound=tuple(id for id in target.inbound if id != desc.id))
    current = session.state().table_by_id(desc.id)
    assert current is not None
    await draft.drop(current)
    if desc.kind in ("r", "m"):
        session.block.drop_span(*table_span(desc.key_prefix_table or desc.id))


async def delete_span(session: Session, start: bytes, end: bytes) -> None:
    """Removes a span of rows as part of the transaction."""
    done = session.block.ensure().delete_span(start, end)
    if done is not None:
        await done


async def _drop_index(session: Session, name: ast.Name, statement: ast.Drop) -> None:
    found = session.view().index(name)
    if found is None:
        if not statement.if_exists:
            raise SqlError(f'index "{name}" does not exist', sqlstate="42704")
        _skip(session, "index", name)
        return
    table, i = found
    index = table.indexes[i]
    session.view().require_owner("index", index.name, table.owner)
    if index.constraint:
        raise SqlError(
            f"cannot drop index {index.name} because constraint {index.constraint} on table {table.name} requires it",
            sqlstate="2BP01",
            hint=f"You can drop constraint {index.constraint} on table {table.name} instead.",
        )
    table = await lock_exclusively(session, table, "DROP INDEX")
    await drop_index(session, table, index.id)


async def drop_index(session: Session, table: TableDesc, index_id: int) -> TableDesc:
    """Removes a secondary index and its entries."""
    kept = tuple(index for index in table.indexes if index.id != index_id)
    table = await session.block.ddl().update_table(table, indexes=kept)
    session.block.drop_span(*index_span(table.key_prefix_table or table.id, index_id))
    return table


async def _drop_type(session: Session, name: ast.Name, statement: ast.Drop) -> None:
    names = (name.schema, name.name) if name.schema is not None else (name.name,)
    pg_type = session.view().find_type(names)
    desc = session.state().by_id.get(pg_type.oid) if pg_type is not None else None
    if not isinstance(desc, TypeDesc):
        if not statement.if_exists:
            raise SqlError(f'type "{name}" does not exist', sqlstate="42704")
        _skip(session, "type", name)
        return
    session.view().require_owner("type", desc.name, desc.owner)
    refuse_regions(desc, "drop")
    await drop_type(session, desc, statement.cascade)


async def drop_type(session: Session, desc: TypeDesc, cascade: bool) -> None:
    """Removes an enum; with ``cascade`` also the columns that have it."""
    users = [
        (table, column)
        for table in session.state().tables(session.database_id)
        for column in table.columns
        if column.type_oid in (desc.id, desc.array_oid)
    ]
    if users and not cascade:
        raise SqlError(
            f"cannot drop type {desc.name} because other objects depend on it",
            sqlstate="2BP01",
            detail="\n".join(f"column {c.name} of table {t.name} depends on type {desc.name}" for t, c in users),
            hint="Use DROP ... CASCADE to drop the dependent objects too.",
        )
    if users:
        from sql.ddl.alter_columns import drop_column

        for table, column in users:
            session.notice(
                "NOTICE", SqlError(f"drop cascades to column {column.name} of table {table.name}", sqlstate="00000")
            )
            current = await lock_exclusively(session, table, "ALTER TABLE")
            await drop_column(session, current, column.name, cascade=True)
    await _forget_type(session, (desc.id, desc.array_oid))
    await session.block.ddl().drop(desc)


async def _forget_type(session: Session, oids: tuple[int, int]) -> None:
    """Rebuilds tables whose stored rows still have values of a type in columns dropped since."""
    from sql.ddl.alter_constraints import rekey

    for table in session.state().tables(session.database_id):
        if any(oid in oids for layout in table.layouts for _, oid in layout.columns):
            current = await lock_exclusively(session, table, "ALTER TABLE")
            await rekey(session, current, current.columns, current.indexes[0])


async def _drop_schema(session: Session, name: ast.Name, statement: ast.Drop) -> None:
    state = session.state()
    desc = state.schema(session.database_id, name.name)
    if desc is None:
        if not statement.if_exists:
            raise SqlError(f'schema "{name.name}" does not exist', sqlstate="3F000")
        _skip(session, "schema", name)
        return
    session.view().require_owner("schema", desc.name, desc.owner)
    for enum in state.enums(session.database_id):
        if enum.schema_id == desc.id:
            refuse_regions(enum, "drop")
    await drop_schema(session, desc, statement.cascade)


async def drop_schema(session: Session, desc: SchemaDesc, cascade: bool) -> None:
    """Removes a schema, with ``cascade`` also what is in it."""
    state = session.state()
    tables = [t for t in state.tables(desc.database_id) if t.schema_id == desc.id]
    enums = [t for t in state.enums(desc.database_id) if t.schema_id == desc.id]
    shown = [t for t in tables if t.sequence is None or not t.sequence.owner_table]
    names = [f"{WORDS[t.kind]} {relation_name(session.view(), t)}" for t in shown]
    names += [
        f"type {t.name if desc.name in session.view().effective_path() else f'{desc.name}.{t.name}'}" for t in enums
    ]
    if names and not cascade:
        raise SqlError(
            f"cannot drop schema {desc.name} because other objects depend on it",
            sqlstate="2BP01",
            detail="\n".join(f"{name} depends on schema {desc.name}" for name in names),
            hint="Use DROP ... CASCADE to drop the dependent objects too.",
        )
    notify_cascade(session, names)
    await drop_relations(session, [t for t in tables if t.sequence is None or not t.sequence.owner_table], cascade=True)
    await drop_relations(
        session, [t for t in session.state().tables(desc.database_id) if t.schema_id == desc.id], cascade=True
    )
    for enum in enums:
        await drop_type(session, enum, cascade=True)
    await session.block.ddl().drop(desc)
