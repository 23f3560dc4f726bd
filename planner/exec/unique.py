"""DEFERRABLE unique keys: duplicates may stand until the end of the statement, or until the commit.

The entries of such an index are those of an index that is not unique: index columns, then primary key, so
that two rows with one key have an entry each.  A check takes the values that were written and looks
for a second entry:

    | index prefix | values |                   locked EXCLUSIVE, never written
    | index prefix | values | primary key |     entry of a row

The lock orders transactions that bring the same values at every isolation level: whoever gets it later reads
what the other committed.  Under SERIALIZABLE the span that was read is refreshed as any other.
"""

from __future__ import annotations

from typing import Final

from base.keys import prefix_end
from kvtier.messages import Isolation, Lock, ScanResult, Wait
from planner.exec.deferral import check_later
from planner.exec.runtime import Row, Rows, Run
from planner.exec.scan import get_many
from planner.exec.write import Entry, IndexWriter, TableWriter

ENTRIES_READ: Final = 2
"""One may be there."""


class DeferrableKey:
    """The check of one DEFERRABLE UNIQUE or PRIMARY KEY constraint."""

    def __init__(self, writer: TableWriter, at: int) -> None:
        self.writer = writer
        self.at = at
        self.index_writer: IndexWriter = writer.indexes[at]

    def inserted(self, rows: Rows, entries: list[Entry | None], run: Run) -> None:
        """Has the keys of new rows checked."""
        self._claim([row for row, entry in zip(rows, entries) if entry is not None], run)

    def updated(self, new: Rows, before: list[Entry | None], after: list[Entry | None], run: Run) -> None:
        """Has those keys checked that a row did not have before."""
        claims = []
        for row, was, entry in zip(new, before, after):
            if entry is not None and (was is None or was[0] != entry[0]):
                claims.append(row)
        self._claim(claims, run)

    def _claim(self, rows: Rows, run: Run) -> None:
        """A deferrable key is over columns only, so a row tells its values."""
        index = self.index_writer.index
        claimed: dict[Row, Row] = {}
        for row in rows:
            values = index.values(row, ())
            if index.desc.nulls_not_distinct or None not in values:
                claimed.setdefault(values, row)
        if claimed:
            check_later(self.writer.access.desc.id, index.desc, lambda later: self._check(claimed, later), run)

    async def _check(self, claimed: dict[Row, Row], run: Run) -> None:
        index = self.index_writer.index
        starts = [index.unique_codec.encode(values) for values in claimed]
        await get_many(run, starts, Lock.EXCLUSIVE, Wait.BLOCK, b"")
        # Weaker isolation reads at an older snapshot: a locking read sees what was committed since.
        lock = Lock.NONE if run.txn.isolation == Isolation.SERIALIZABLE else Lock.SHARE
        for start, row in zip(starts, claimed.values()):
            run.trips += 1
            page = run.txn.scan(start, prefix_end(start), limit=ENTRIES_READ, lock=lock)
            if page.__class__ is not ScanResult:
                page = await page  # type: ignore[misc]
            assert isinstance(page, ScanResult)
            if len(page.keys) > 1:
                raise await self.writer.duplicate_of(row, self.at, run)
            run.ctx.check_interrupt()
