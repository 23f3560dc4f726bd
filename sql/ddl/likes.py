"""CREATE TABLE (LIKE t INCLUDING ..): what is copied from another table, as if it had been written out.

| always | name, type, collation, NOT NULL of each column |
| DEFAULTS, GENERATED, IDENTITY | defaults; generation expressions; a sequence of its own for each identity |
| CONSTRAINTS | CHECK constraints, under their names |
| INDEXES | primary key, UNIQUE constraints and indexes, under new names |
| COMMENTS | of columns and checks |
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import msgspec

from planner.schema import ColumnDesc, IndexDesc, SchemaDesc, TableDesc, is_primary_key
from sql.ddl.sequences import create_owned_sequence
from sql.parse import statements as ast
from sql.parse.stored import parse_stored_expression

if TYPE_CHECKING:
    from sql.session import Session


def copied_columns(session: Session, like: ast.LikeClause) -> list[ColumnDesc]:
    """The columns one LIKE stands for; ``identity`` stays only where its sequence is to be made anew."""
    source = _source(session, like)
    with_defaults, wanted = "defaults" in like.including, like.including
    return [
        msgspec.structs.replace(
            column,
            default=column.default if with_defaults and not column.identity else "",
            identity=column.identity if "identity" in wanted else "",
            sequence_id=column.sequence_id if "identity" in wanted and column.identity else 0,
            generated=column.generated if "generated" in wanted else "",
            comment=column.comment if "comments" in wanted else "",
            missing=b"",
        )
        for column in source.columns
        if not column.hidden
    ]


def add_likes(session: Session, statement: ast.CreateTable) -> ast.CreateTable:
    """Adds the constraints and indexes of every LIKE to those the statement writes itself."""
    statement = dataclasses.replace(statement)
    for _, like in statement.likes:
        source = _source(session, like)
        names = {column.id: column.name for column in source.columns}
        if "constraints" in like.including:
            checks = [
                ast.Constraint("check", check.name, check=parse_stored_expression(check.expression))
                for check in source.checks
            ]
            statement.constraints = (*statement.constraints, *checks)
        if "indexes" in like.including and source.kind == "r":
            for index in source.indexes:
                _add_index(statement, index, names)
    return statement


async def own_sequence(
    session: Session, schema: SchemaDesc, table_id: int, table_name: str, column: ColumnDesc
) -> ColumnDesc:
    """Gives a copied identity column a sequence with the options of the one it was copied with."""
    from sql.ddl.columns import next_value_text

    pg_type, source = session.state().type_by_oid(column.type_oid), session.state().table_by_id(column.sequence_id)
    assert pg_type is not None, f"{column=}"
    assert source is not None, f"{column=}"
    assert source.sequence is not None, f"{column=}"
    was = source.sequence
    options = ast.SequenceOptions(
        start=was.start, increment=was.increment, minimum=was.minimum, maximum=was.maximum, cache=was.cache, cycle=was.cycle
    )  # fmt: skip
    made = await create_owned_sequence(session, schema, table_id, table_name, column.id, column.name, pg_type, options)
    return msgspec.structs.replace(column, sequence_id=made.id, default=next_value_text(schema, made))


def _source(session: Session, like: ast.LikeClause) -> TableDesc:
    source = session.view().relation(like.table)
    assert source is not None, f"{like.table=}"
    return source


def _add_index(statement: ast.CreateTable, index: IndexDesc, names: dict[int, str]) -> None:
    """An index without an OID is the hidden key of a table that has no primary key."""
    if not index.oid:
        return
    include = tuple(names[id] for id in index.include)
    if index.constraint:
        kind = "primary key" if is_primary_key(index) else "unique"
        columns = tuple(names[part.column_id] for part in index.named)
        copied = ast.Constraint(
            kind, columns=columns, include=include, nulls_not_distinct=index.nulls_not_distinct,
            deferrable=index.deferrable, initially_deferred=index.initially_deferred,
        )  # fmt: skip
        statement.constraints = (*statement.constraints, copied)
        return
    elements = tuple(
        ast.IndexElement(
            names.get(part.column_id),
            parse_stored_expression(part.expression) if part.expression else None,
            descending=part.descending,
            nulls_first=part.nulls_first,
        )
        for part in index.named
    )
    where = parse_stored_expression(index.predicate) if index.predicate else None
    made = ast.CreateIndex(
        None, statement.name, elements, index.unique, include=include, nulls_not_distinct=index.nulls_not_distinct, where=where
    )  # fmt: skip
    statement.indexes = (*statement.indexes, made)
