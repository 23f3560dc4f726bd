"""COMMENT ON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from base.errors import FeatureNotSupported, SqlError
from planner.schema import TableDesc
from sql.commands import handles
from sql.ddl.naming import constraint_names
from sql.ddl.roles import role_named
from sql.ddl.types import find_enum
from sql.parse import statements as ast

if TYPE_CHECKING:
    from sql.portals import QueryPortal
    from sql.session import Session


@handles(ast.CommentOn)
async def comment_on(session: Session, statement: ast.CommentOn, portal: QueryPortal) -> None:
    draft, view = session.block.ddl(), session.view()
    text, kind, name = statement.comment or "", statement.kind, statement.name
    if kind in ("table", "view", "sequence", "materialized view"):
        desc = view.relation(name)
        assert desc is not None
        await draft.update_table(desc, comment=text)
    elif kind == "column":
        await _on_column(session, name, statement.part, text)
    elif kind == "constraint":
        await _on_constraint(session, name, statement.part, text)
    elif kind == "index":
        await _on_index(session, name, text)
    elif kind == "role":
        await draft.put_role(msgspec.structs.replace(role_named(session, name.name), comment=text))
    elif kind in ("schema", "database", "type"):
        found: Any = (
            {"schema": view.schema, "database": view.database}[kind](name.name)
            if kind != "type"
            else find_enum(session, name)
        )
        await draft.put(msgspec.structs.replace(found, version=found.version + 1, comment=text))
    else:
        raise FeatureNotSupported(f"COMMENT ON {kind.upper()} is not supported")
    session.sink.complete("COMMENT")


def _relation(session: Session, name: ast.Name) -> TableDesc:
    desc = session.view().relation(name)
    assert desc is not None
    session.view().require_owner("table", desc.name, desc.owner)
    return desc


async def _on_column(session: Session, name: ast.Name, column_name: str | None, text: str) -> None:
    desc = _relation(session, name)
    if column_name not in [c.name for c in desc.columns]:
        raise SqlError(f'column "{column_name}" of relation "{desc.name}" does not exist', sqlstate="42703")
    columns = tuple(msgspec.structs.replace(c, comment=text) if c.name == column_name else c for c in desc.columns)
    await session.block.ddl().update_table(desc, columns=columns)


async def _on_constraint(session: Session, name: ast.Name, constraint: str | None, text: str) -> None:
    desc = _relation(session, name)
    if constraint is None or constraint not in constraint_names(desc):
        raise SqlError(f'constraint "{constraint}" for table "{desc.name}" does not exist', sqlstate="42704")
    kept = tuple(pair for pair in desc.constraint_comments if pair[0] != constraint)
    await session.block.ddl().update_table(desc, constraint_comments=(*kept, (constraint, text)) if text else kept)


async def _on_index(session: Session, name: ast.Name, text: str) -> None:
    found = session.view().index(name)
    if found is None:
        raise SqlError(f'relation "{name}" does not exist', sqlstate="42P01")
    table, at = found
    indexes = tuple(
        msgspec.structs.replace(index, comment=text) if i == at else index for i, index in enumerate(table.indexes)
    )
    await session.block.ddl().update_table(table, indexes=indexes)
