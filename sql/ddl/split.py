"""ALTER TABLE .. SPLIT AT, UNSPLIT AT and UNSPLIT ALL: range borders where the user wants them, and as long as."""

from __future__ import annotations

from typing import TYPE_CHECKING

from base.errors import SqlError
from kvtier.messages import SPLIT_KEYS_MAX, Batch, Split, Unsplit
from kvtier.pace import Pace
from planner.access import table_access
from planner.schema import TableDesc
from sql.catalog.cache import call
from sql.parse import statements as ast

if TYPE_CHECKING:
    from sql.session import Session

SPLITS_MAX = 10_000
SHARE_INVERSE = 2
"""New ranges are made in one part in so many of the time."""


async def split_table(session: Session, table: TableDesc, action: ast.SplitAt) -> None:
    """Splits the range at each of the given keys (a prefix of the index's columns is enough), or gives the borders up."""
    if len(action.rows) > SPLITS_MAX:
        raise SqlError(f"cannot split at more than {SPLITS_MAX} keys in one statement", sqlstate="54000")
    access = table_access(table, session.state().type_by_oid)
    index = access.primary
    if action.index:
        found = [i for i in access.indexes if i.desc.name == action.index]
        if not found:
            raise SqlError(f'index "{action.index}" does not exist', sqlstate="42704")
        index = found[0]
    keys: list[bytes] = []
    for row in action.rows:
        if len(row) > len(index.columns):
            raise SqlError("too many columns in SPLIT AT data", sqlstate="42601")
        values = [await session.evaluate(value, column.type) for value, column in zip(row, index.columns)]
        keys.append(index.codec.encode_prefix(values))
    keys = sorted(dict.fromkeys(keys))
    if action.is_undone:
        if not action.rows:
            start, end = index.span()
            keys = [found.start for found in await session.server.describe_ranges(start, end) if found.start >= start]
        for key in keys:
            # Of a border that nobody asked for this changes nothing.
            await call(session.server.kv, Batch([Unsplit(key)]))
        return
    pace = Pace(session.server.clock, SHARE_INVERSE)
    while keys:
        first, *more = keys[:SPLIT_KEYS_MAX]
        split = Split(first, is_sticky=True, more=tuple([(key, 0) for key in more]))
        last = (await call(session.server.kv, Batch([split]))).results[0]
        keys = [key for key in keys if key > max(first, last.start)]
        if keys:
            # Every new range elects its leaseholder now: nodes get time for that, more if they are slow.
            await pace.rest()
