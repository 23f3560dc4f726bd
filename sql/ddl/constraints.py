"""CHECK, UNIQUE and FOREIGN KEY constraints: their descriptors, and checking rows that are there already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from base.errors import SqlError
from planner.schema import (
    CheckDesc,
    ColumnDesc,
    ForeignKeyDesc,
    IndexColumn,
    IndexDesc,
    SchemaDesc,
    TableDesc,
    primary_key,
)
from sql.analyze import Analyzer
from sql.ddl.columns import column_named
from sql.ddl.locality import partitioned
from sql.ddl.locking import new_index_id
from sql.ddl.naming import choose, constraint_names
from sql.ddl.sequences import taken_names
from sql.parse import statements as ast
from sql.temporary import is_temporary

if TYPE_CHECKING:
    from sql.session import Session


def validate_table_expressions(session: Session, table: TableDesc) -> None:
    """Binds every default, check, generated column, index expression and predicate; raises what is wrong with one."""
    Analyzer(session).check_table(table)


def require_free_name(table: TableDesc, name: str) -> None:
    if name in constraint_names(table):
        raise SqlError(f'constraint "{name}" for relation "{table.name}" already exists', sqlstate="42710")


async def unique_index(session: Session, schema: SchemaDesc, table: TableDesc, constraint: ast.Constraint) -> TableDesc:
    """Adds the index of a UNIQUE constraint to a table that is still empty."""
    index = await build_unique(session, schema, table, constraint)
    return await session.block.ddl().update_table(table, indexes=(*table.indexes, index), next_index_id=index.id + 1)


async def build_unique(session: Session, schema: SchemaDesc, table: TableDesc, constraint: ast.Constraint) -> IndexDesc:
    """Returns the descriptor of the index of a UNIQUE constraint, or of a PRIMARY KEY that is not the rows' key."""
    from sql.ddl.tables import check_key_columns, require_btree

    is_primary = constraint.kind == "primary key"
    check_key_columns(constraint.columns, "primary key constraint" if is_primary else "unique constraint")
    columns = [column_named(table.name, table.columns, name) for name in constraint.columns]
    for column in columns:
        pg_type = session.state().type_by_oid(column.type_oid)
        require_btree(pg_type.name if pg_type is not None else "?")
    taken = taken_names(session, schema)
    name = constraint.name or (
        choose(table.name, "", "pkey", taken)
        if is_primary
        else choose(table.name, "_".join(constraint.columns), "key", taken)
    )
    if name in taken:
        raise SqlError(f'relation "{name}" already exists', sqlstate="42P07")
    index = IndexDesc(
        id=await new_index_id(session, table), name=name, columns=tuple(IndexColumn(c.id) for c in columns), unique=True, constraint=name,
        include=tuple(column_named(table.name, table.columns, n).id for n in constraint.include),
        nulls_not_distinct=constraint.nulls_not_distinct, deferrable=constraint.deferrable,
        initially_deferred=constraint.initially_deferred, primary=is_primary, oid=await session.block.ddl().new_id(),
    )  # fmt: skip
    return partitioned(table.locality, index)


async def add_check(session: Session, table: TableDesc, constraint: ast.Constraint) -> TableDesc:
    """Adds a CHECK constraint; the caller validates existing rows."""
    assert constraint.check is not None
    analyzer = Analyzer(session)
    used = analyzer.columns_used(table, constraint.check)
    label = used[0] if len(used) == 1 else ""
    name = constraint.name or choose(table.name, label, "check", constraint_names(table))
    require_free_name(table, name)
    check = CheckDesc(
        name=name,
        expression=constraint.check.text,
        validated=not constraint.not_valid,
        oid=await session.block.ddl().new_id(),
    )
    return await session.block.ddl().update_table(table, checks=(*table.checks, check))


async def add_foreign_key(session: Session, table: TableDesc, constraint: ast.Constraint) -> TableDesc:
    """Adds a FOREIGN KEY constraint and tells the referenced table of it."""
    assert constraint.target is not None
    draft = session.block.ddl()
    target = (
        table if _is_self(session, table, constraint.target.table) else session.view().table(constraint.target.table)
    )
    _require_same_persistence(session, table, target)
    if target.id != table.id:
        await session.block.lock_table(target.id, target.name, exclusive=True)
    key = await _build_key(session, table, target, constraint)
    table = await draft.update_table(table, foreign_keys=(*table.foreign_keys, key))
    if target.id == table.id:
        target = table
    if table.id not in target.inbound:
        updated = await draft.update_table(target, inbound=(*target.inbound, table.id))
        if updated.id == table.id:
            table = updated
    return table


def _require_same_persistence(session: Session, table: TableDesc, target: TableDesc) -> None:
    own, other = is_temporary(session, table), is_temporary(session, target)
    if own != other:
        kind = "temporary" if own else "permanent"
        raise SqlError(
            f"constraints on {kind} tables may reference only {kind} tables", sqlstate="42P16", table=table.name
        )


def _is_self(session: Session, table: TableDesc, name: ast.Name) -> bool:
    return name.name == table.name and (
        name.schema is None or session.view().schema_name(table.schema_id) == name.schema
    )


async def _build_key(
    session: Session, table: TableDesc, target: TableDesc, constraint: ast.Constraint
) -> ForeignKeyDesc:
    written = constraint.target
    assert written is not None
    columns = [_own_column(table, name) for name in constraint.columns]
    if written.columns:
        referenced = [_own_column(target, name) for name in written.columns]
    else:
        primary = primary_key(target)
        if primary is None:
            raise SqlError(f'there is no primary key for referenced table "{target.name}"', sqlstate="42704")
        if primary.deferrable:
            text = f'cannot use a deferrable primary key for referenced table "{target.name}"'
            raise SqlError(text, sqlstate="55000")
        by_id = {c.id: c for c in target.columns}
        referenced = [by_id[c.column_id] for c in primary.named]
    if len(columns) != len(referenced):
        raise SqlError("number of referencing and referenced columns for foreign key disagree", sqlstate="42830")
    index, order = _target_index(target, tuple(c.id for c in referenced))
    for own, other in zip(columns, referenced):
        Analyzer(session).require_comparable(own, other, constraint.name or "foreign key")
    name = constraint.name or choose(table.name, "_".join(constraint.columns), "fkey", constraint_names(table))
    require_free_name(table, name)
    return ForeignKeyDesc(
        name=name, columns=tuple(columns[i].id for i in order), target_table=target.id, target_columns=tuple(referenced[i].id for i in order),
        target_index=index.id, on_delete=written.on_delete, on_update=written.on_update, match=written.match,
        deferrable=constraint.deferrable, initially_deferred=constraint.initially_deferred, validated=not constraint.not_valid,
        oid=await session.block.ddl().new_id(),
    )  # fmt: skip


def _own_column(table: TableDesc, name: str) -> ColumnDesc:
    for column in table.columns:
        if column.name == name and not column.hidden:
            return column
    raise SqlError(f'column "{name}" referenced in foreign key constraint does not exist', sqlstate="42703")


def _target_index(target: TableDesc, wanted: tuple[int, ...]) -> tuple[IndexDesc, tuple[int, ...]]:
    """Finds the unique index over exactly these columns; returns it and their order in it."""
    is_deferrable = False
    for index in target.indexes:
        ids = tuple(c.column_id for c in index.named)
        if (
            index.unique
            and not index.predicate
            and index.state == "public"
            and sorted(ids) == sorted(wanted)
            and 0 not in ids
        ):
            if index.deferrable:
                is_deferrable = True
                continue
            return index, tuple(wanted.index(id) for id in ids)
    if is_deferrable:
        text = f'cannot use a deferrable unique constraint for referenced table "{target.name}"'
        raise SqlError(text, sqlstate="55000")
    raise SqlError(
        f'there is no unique constraint matching given keys for referenced table "{target.name}"', sqlstate="42830"
    )


async def forget_source(session: Session, target_id: int, source_id: int) -> None:
    """Has a referenced table forget a referencing one that has no foreign key to it any more."""
    state = session.state()
    target, source = state.table_by_id(target_id), state.table_by_id(source_id)
    if target is None or source_id not in target.inbound:
        return
    if source is None or all([key.target_table != target_id for key in source.foreign_keys]):
        inbound = tuple([id for id in target.inbound if id != source_id])
        await session.block.ddl().update_table(target, inbound=inbound)
