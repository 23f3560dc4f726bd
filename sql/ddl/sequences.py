"""CREATE, ALTER SEQUENCE; sequences owned by columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from base.errors import SqlError
from base.types import INT2, INT4, INT8, PgType
from planner.schema import SchemaDesc, SequenceDesc, TableDesc
from sql.commands import handles
from sql.ddl.naming import choose
from sql.ddl.privileges import require_create
from sql.parse import statements as ast
from sql.temporary import creation_schema

if TYPE_CHECKING:
    from sql.portals import QueryPortal
    from sql.session import Session

_BITS = {INT2.oid: 15, INT4.oid: 31, INT8.oid: 63}


def build_sequence(
    options: ast.SequenceOptions, current: SequenceDesc | None, pg_type: PgType | None = None
) -> SequenceDesc:
    """Applies options to a new (``current`` None) or existing sequence; raises 22023 as PostgreSQL does."""
    base = current or SequenceDesc()
    type_oid = pg_type.oid if pg_type is not None else base.type_oid
    if type_oid not in _BITS:
        raise SqlError("sequence type must be smallint, integer, or bigint", sqlstate="22023")
    high, low = 2 ** _BITS[type_oid] - 1, -(2 ** _BITS[type_oid])
    increment = base.increment if options.increment is None else options.increment
    if increment == 0:
        raise SqlError("INCREMENT must not be zero", sqlstate="22023")
    fresh = current is None or (pg_type is not None and pg_type.oid != base.type_oid)
    default_min, default_max = (1, high) if increment > 0 else (low, -1)
    minimum = (
        options.minimum if options.minimum is not None else default_min if fresh or options.no_minimum else base.minimum
    )
    maximum = (
        options.maximum if options.maximum is not None else default_max if fresh or options.no_maximum else base.maximum
    )
    for word, value in (("MAXVALUE", maximum), ("MINVALUE", minimum)):
        if not low <= value <= high:
            name = {15: "smallint", 31: "integer", 63: "bigint"}[_BITS[type_oid]]
            raise SqlError(f"{word} ({value}) is out of range for sequence data type {name}", sqlstate="22023")
    if minimum >= maximum:
        raise SqlError(f"MINVALUE ({minimum}) must be less than MAXVALUE ({maximum})", sqlstate="22023")
    start = (
        options.start if options.start is not None else (minimum if increment > 0 else maximum) if fresh else base.start
    )
    if start < minimum:
        raise SqlError(f"START value ({start}) cannot be less than MINVALUE ({minimum})", sqlstate="22023")
    if start > maximum:
        raise SqlError(f"START value ({start}) cannot be greater than MAXVALUE ({maximum})", sqlstate="22023")
    if options.cache is not None and options.cache < 1:
        raise SqlError(f"CACHE ({options.cache}) must be greater than zero", sqlstate="22023")
    return SequenceDesc(
        start=start, increment=increment, minimum=minimum, maximum=maximum,
        cache=base.cache if options.cache is None else options.cache, cycle=base.cycle if options.cycle is None else options.cycle,
        type_oid=type_oid, owner_table=base.owner_table, owner_column=base.owner_column,
    )  # fmt: skip


async def put_sequence(session: Session, schema: SchemaDesc, name: str, sequence: SequenceDesc) -> TableDesc:
    """Creates a sequence's descriptor."""
    draft = session.block.ddl()
    desc = TableDesc(
        id=await draft.new_id(), version=1, database_id=session.database_id, schema_id=schema.id, name=name, kind="S",
        sequence=sequence, owner=session.user,
    )  # fmt: skip
    await draft.put(desc)
    return desc


def taken_names(session: Session, schema: SchemaDesc) -> set[str]:
    """Names of relations and indexes in a schema: they share one name space."""
    names: set[str] = set()
    for table in session.state().tables(session.database_id):
        if table.schema_id == schema.id:
            names.add(table.name)
            names.update(index.name for index in table.indexes if index.oid)
    return names


async def create_owned_sequence(
    session: Session, schema: SchemaDesc, table_id: int, table_name: str, column_id: int, column_name: str, pg_type: PgType,
    options: ast.SequenceOptions | None,
) -> TableDesc:  # fmt: skip
    """Makes the sequence of a serial or identity column."""
    written = options or ast.SequenceOptions()
    name = (
        written.sequence_name.name
        if written.sequence_name is not None
        else choose(table_name, column_name, "seq", taken_names(session, schema))
    )
    sequence = build_sequence(written, None, pg_type)
    return await put_sequence(
        session, schema, name, msgspec.structs.replace(sequence, owner_table=table_id, owner_column=column_id)
    )


@handles(ast.CreateSequence)
async def create_sequence(session: Session, statement: ast.CreateSequence, portal: QueryPortal) -> None:
    view = session.view()
    schema = await creation_schema(session, statement.name, statement.is_temporary)
    require_create(session, schema)
    if statement.name.name in taken_names(session, schema):
        if not statement.if_not_exists:
            raise SqlError(f'relation "{statement.name.name}" already exists', sqlstate="42P07")
        session.notice(
            "NOTICE", SqlError(f'relation "{statement.name.name}" already exists, skipping', sqlstate="42P07")
        )
        session.sink.complete("CREATE SEQUENCE")
        return
    options = statement.options
    pg_type = view.type_named(options.type_name)[0] if options.type_name is not None else None
    sequence = build_sequence(options, None, pg_type)
    sequence = _with_owner(session, sequence, options)
    await put_sequence(session, schema, statement.name.name, sequence)
    session.sink.complete("CREATE SEQUENCE")


def _with_owner(session: Session, sequence: SequenceDesc, options: ast.SequenceOptions) -> SequenceDesc:
    if options.owned_by_none:
        return msgspec.structs.replace(sequence, owner_table=0, owner_column=0)
    if options.owned_by is None:
        return sequence
    table = session.view().table(options.owned_by[0])
    for column in table.columns:
        if column.name == options.owned_by[1]:
            return msgspec.structs.replace(sequence, owner_table=table.id, owner_column=column.id)
    raise SqlError(f'column "{options.owned_by[1]}" of relation "{table.name}" does not exist', sqlstate="42703")


@handles(ast.AlterSequence)
async def alter_sequence(session: Session, statement: ast.AlterSequence, portal: QueryPortal) -> None:
    view = session.view()
    desc = view.relation(statement.name, statement.if_exists)
    if desc is None:
        session.notice("NOTICE", SqlError(f'relation "{statement.name}" does not exist, skipping', sqlstate="00000"))
        session.sink.complete("ALTER SEQUENCE")
        return
    await alter_options(session, desc, statement.options)
    session.sink.complete("ALTER SEQUENCE")


async def alter_options(session: Session, desc: TableDesc, options: ast.SequenceOptions) -> None:
    """Changes a sequence's options; RESTART takes effect at once, as setval does."""
    if desc.sequence is None:
        raise SqlError(f'"{desc.name}" is not a sequence', sqlstate="42809")
    session.view().require_owner("sequence", desc.name, desc.owner)
    pg_type = session.view().type_named(options.type_name)[0] if options.type_name is not None else None
    sequence = _with_owner(session, build_sequence(options, desc.sequence, pg_type), options)
    await session.block.ddl().update_table(desc, sequence=sequence)
    if options.restart is not None:
        value = sequence.start if options.restart is True else int(options.restart)
        await session.server.sequences.set_value(desc.id, value, False, sequence, desc.name)
