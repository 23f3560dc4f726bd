"""CREATE TYPE .. AS ENUM, ALTER TYPE ADD VALUE / RENAME VALUE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from base.errors import SqlError
from planner.schema import TypeDesc
from sql.commands import handles
from sql.ddl.locking import lock_users
from sql.ddl.privileges import require_create
from sql.parse import statements as ast

if TYPE_CHECKING:
    from sql.portals import QueryPortal
    from sql.session import Session

LABEL_BYTES_MAX: Final = 63
PHYSICAL_STEP: Final = 1 << 16
"""Distance between the physical numbers of neighbours: room for sixteen halvings by ADD VALUE .. BEFORE."""


def _check_label(label: str) -> None:
    if len(label.encode()) > LABEL_BYTES_MAX:
        raise SqlError(
            f'invalid enum label "{label}"', sqlstate="42602", detail=f"Labels must be {LABEL_BYTES_MAX} bytes or less."
        )


@handles(ast.CreateEnum)
async def create_enum(session: Session, statement: ast.CreateEnum, portal: QueryPortal) -> None:
    view = session.view()
    schema = view.creation_schema(statement.name)
    require_create(session, schema)
    name = statement.name.name
    if session.state().type_named(session.database_id, schema.id, name) is not None:
        raise SqlError(f'type "{name}" already exists', sqlstate="42710")
    for i, label in enumerate(statement.labels):
        _check_label(label)
        if label in statement.labels[:i]:
            raise SqlError(f'enum label "{label}" used more than once', sqlstate="42710")
    draft = session.block.ddl()
    labels = tuple((label, i * PHYSICAL_STEP) for i, label in enumerate(statement.labels))
    await draft.put(
        TypeDesc(
            id=await draft.new_id(), version=1, database_id=session.database_id, schema_id=schema.id, name=name,
            array_oid=await draft.new_id(), labels=labels, owner=session.user,
        )
    )  # fmt: skip
    session.sink.complete("CREATE TYPE")


def find_enum(session: Session, name: ast.Name) -> TypeDesc:
    """Raises 42704 if it is no user-defined type."""
    names = (name.schema, name.name) if name.schema is not None else (name.name,)
    pg_type = session.view().find_type(names)
    desc = session.state().by_id.get(pg_type.oid) if pg_type is not None else None
    if not isinstance(desc, TypeDesc):
        raise SqlError(f'type "{name}" does not exist', sqlstate="42704")
    session.view().require_owner("type", desc.name, desc.owner)
    refuse_regions(desc, "alter")
    return desc


def refuse_regions(desc: TypeDesc, action: str) -> None:
    """Raises 42809 for the type of a database's regions."""
    if desc.is_regions:
        raise SqlError(
            f'cannot {action} type "{desc.name}": it is the type of the database\'s regions',
            sqlstate="42809",
            hint="Use ALTER DATABASE .. ADD REGION and DROP REGION.",
        )


@handles(ast.AlterTypeAddValue)
async def add_value(session: Session, statement: ast.AlterTypeAddValue, portal: QueryPortal) -> None:
    desc = find_enum(session, statement.name)
    _check_label(statement.label)
    names = [label for label, _ in desc.labels]
    if statement.label in names:
        if not statement.if_not_exists:
            raise SqlError(f'enum label "{statement.label}" already exists', sqlstate="42710")
        session.notice("NOTICE", SqlError(f'enum label "{statement.label}" already exists, skipping', sqlstate="42710"))
    else:
        await lock_users(session, desc)
        desc = find_enum(session, statement.name)
        names = [label for label, _ in desc.labels]
        at = _place(names, statement)
        labels = (*desc.labels[:at], (statement.label, label_number(desc, at)), *desc.labels[at:])
        await session.block.ddl().put(msgspec.structs.replace(desc, version=desc.version + 1, labels=labels))
    session.sink.complete("ALTER TYPE")


def _place(names: list[str], statement: ast.AlterTypeAddValue) -> int:
    neighbour = statement.before if statement.before is not None else statement.after
    if neighbour is None:
        return len(names)
    if neighbour not in names:
        raise SqlError(f'"{neighbour}" is not an existing enum label', sqlstate="22023")
    return names.index(neighbour) + (0 if statement.before is not None else 1)


def label_number(desc: TypeDesc, at: int) -> int:
    """Returns a number between the neighbours': rows that hold the others stay as they are."""
    if not desc.labels:
        return 0
    if at == len(desc.labels):
        return desc.labels[-1][1] + PHYSICAL_STEP
    if at == 0:
        return desc.labels[0][1] - PHYSICAL_STEP
    low, high = desc.labels[at - 1][1], desc.labels[at][1]
    if high - low < 2:
        raise SqlError(
            f'no room for another label between "{desc.labels[at - 1][0]}" and "{desc.labels[at][0]}"', sqlstate="54000"
        )
    return (low + high) // 2


@handles(ast.AlterTypeRenameValue)
async def rename_value(session: Session, statement: ast.AlterTypeRenameValue, portal: QueryPortal) -> None:
    desc = find_enum(session, statement.name)
    names = [label for label, _ in desc.labels]
    if statement.label not in names:
        raise SqlError(f'"{statement.label}" is not an existing enum label', sqlstate="22023")
    if statement.new_label in names:
        raise SqlError(f'enum label "{statement.new_label}" already exists', sqlstate="42710")
    _check_label(statement.new_label)
    labels = tuple(
        (statement.new_label if label == statement.label else label, number) for label, number in desc.labels
    )
    await session.block.ddl().put(msgspec.structs.replace(desc, version=desc.version + 1, labels=labels))
    session.sink.complete("ALTER TYPE")
