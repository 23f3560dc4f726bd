"""The actions of ALTER TABLE: functions ``(session, table, action) -> table`` that put the table's next version."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from base.errors import SqlError
from planner.schema import ColumnDesc, SchemaDesc, TableDesc
from sql.ddl.columns import (
    ROWID,
)

if TYPE_CHECKING:
    from sql.session import Session

Action = Callable[["Session", TableDesc, Any], Awaitable[TableDesc]]
ACTIONS: dict[type, Action] = {}


def acts(kind: type) -> Callable[[Action], Action]:
    """Registers the function of one kind of action."""

    def register(action: Action) -> Action:
        ACTIONS[kind] = action
        return action

    return register


def schema_of(session: Session, table: TableDesc) -> SchemaDesc:
    desc = session.state().by_id[table.schema_id]
    assert isinstance(desc, SchemaDesc)
    return desc


def find_column(table: TableDesc, name: str) -> ColumnDesc:
    """Raises 42703."""
    for column in table.columns:
        if column.name == name and not (column.hidden and column.name == ROWID):
            return column
    raise SqlError(f'column "{name}" of relation "{table.name}" does not exist', sqlstate="42703")


async def replace_column(session: Session, table: TableDesc, new: ColumnDesc) -> TableDesc:
    columns = tuple(new if column.id == new.id else column for column in table.columns)
    return await session.block.ddl().update_table(table, columns=columns)
