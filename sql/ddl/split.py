"""ALTER TABLE .. SPLIT AT: range borders where the user wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from base.errors import SqlError
from kvtier.messages import Batch, Split
from planner.access import table_access
from planner.schema import TableDesc
from sql.catalog.cache import call
from sql.parse import statements as ast

if TYPE_CHECKING:
    from sql.session import Session

SPLITS_MAX = 10_000


async def split_table(session: Session, table: TableDesc, action: ast.SplitAt) -> None:
    """Splits the range at each of the given keys (a prefix of the index's columns is enough)."""
    if len(action.rows) > SPLITS_MAX:
        raise SqlError(f"cannot split at more than {SPLITS_MAX} keys in one statement", sqlstate="54000")
    access = table_access(table, session.state().type_by_oid)
    index = access.primary
    if action.index:
        found = [i for i in access.indexes if i.desc.name == action.index]
        if not found:
            raise SqlError(f'index "{action.index}" does not exist', sqlstate="42704")
        index = found[0]
    for row in action.rows:
        if len(row) > len(index.columns):
            raise SqlError("too many columns in SPLIT AT data", sqlstate="42601")
        values = [await session.evaluate(value, column.type) for value, column in zip(row, index.columns)]
        await call(session.server.kv, Batch([Split(index.codec.encode_prefix(values))]))
