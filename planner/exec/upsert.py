"""INSERT .. ON CONFLICT.

Every unique key of a batch is read, and locked, at once.  Rows are then decided one after the
other against that picture and what the statement itself has written so far:

    arbiter key exists      DO NOTHING: skip          DO UPDATE: update that row, if WHERE holds
    .. written by us        DO NOTHING: skip          21000
    other unique key exists 23505
    else                    insert

Excluded and existing rows meet in one row (existing, then excluded) for SET and WHERE.
"""

from __future__ import annotations

from typing import Any

from base.errors import error
from kvtier.messages import Lock, Wait
from planner.exec.runtime import Row, Rows, RowsFunction, Run, evaluate
from planner.exec.scan import get_many
from planner.exec.write import Entry, TableWriter


class Upsert:
    """ON CONFLICT of one INSERT.

    ``arbiters``: index ids that may conflict; empty: all unique ones.  ``update``: complete new rows from
    (existing + excluded) rows, or None for DO NOTHING; ``where`` gives one-column rows of booleans.
    """

    def __init__(
        self, writer: TableWriter, arbiters: frozenset[int], update: RowsFunction | None, where: RowsFunction | None
    ) -> None:
        self.writer = writer
        self.arbiters = arbiters
        self.update = update
        self.where = where

    def _is_arbiter(self, index_id: int) -> bool:
        return not self.arbiters or index_id in self.arbiters

    async def apply(self, rows: Rows, run: Run) -> Rows:
        """Inserts or updates completed rows; returns the rows written, as they are now."""
        writer = self.writer
        keys = [writer.access.key_of_row(row) for row in rows]
        entries = await writer.entries(rows, run)
        wanted = list(keys)
        for part in entries:
            wanted += [entry[0] for entry in part if entry is not None and entry[2]]
        rivals = writer.all_rivals(keys, entries) if writer.is_partitioned else []
        taken = await writer.present(wanted, rivals, run)
        own = _own_keys(run, id(self))
        written: Rows = []
        for i, row in enumerate(rows):
            mine = [part[i] for part in entries]
            conflict = self._conflict(keys[i], mine, taken)
            if conflict is None:
                await self._insert(row, keys[i], mine, taken, own, run)
                written.append(row)
            elif self.update is not None:
                updated = await self._update(row, conflict, taken, own, run)
                if updated is not None:
                    written.append(updated)
        await run.flush()
        return written

    def _conflict(self, key: bytes, mine: list[Entry | None], taken: dict[bytes, Any]) -> tuple[int, bytes] | None:
        """(index number or -1, key) of the first arbiter that has the row's key already."""
        if self._is_arbiter(self.writer.access.primary.desc.id):
            for found in [key, *self.writer.rivals(key, -1)]:
                if found in taken:
                    return -1, found
        for at, entry in enumerate(mine):
            if entry is not None and entry[2] and self._is_arbiter(self.writer.indexes[at].index.desc.id):
                for found in [entry[0], *self.writer.rivals(entry[0], at)]:
                    if found in taken:
                        return at, found
        return None

    async def _insert(
        self, row: Row, key: bytes, mine: list[Entry | None], taken: dict[bytes, Any], own: set[bytes], run: Run
    ) -> None:
        writer = self.writer
        if any(found in taken for found in [key, *writer.rivals(key, -1)]):
            raise await writer.duplicate_of(row, -1, run)
        for at, entry in enumerate(mine):
            if entry is None or not entry[2]:
                continue
            if any(found in taken for found in [entry[0], *writer.rivals(entry[0], at)]):
                raise await writer.duplicate_of(row, at, run)
        writer.put_rows([row], [key], [[entry] for entry in mine], run)
        taken[key] = writer.access.value_of_row(row)
        own.add(key)
        for entry in mine:
            if entry is not None and entry[2]:
                taken[entry[0]] = entry[1]
        writer.check_later([row], [[entry] for entry in mine], run)
        for foreign in writer.outbound:
            await foreign.check([row], run)

    async def _update(
        self, row: Row, conflict: tuple[int, bytes], taken: dict[bytes, Any], own: set[bytes], run: Run
    ) -> Row | None:
        writer = self.writer
        assert self.update is not None
        at, found_key = conflict
        key = found_key if at < 0 else writer.indexes[at].index.primary_key(found_key, taken[found_key])
        if key in own:
            raise error(
                "21000",
                "ON CONFLICT DO UPDATE command cannot affect row a second time",
                hint="Ensure that no rows proposed for insertion within the same command have duplicate constrained values.",
            )
        existing = await self._existing(key, run)
        both = existing + row
        if self.where is not None and (await evaluate(self.where, [both], run))[0][0] is not True:
            return None
        new = (await writer.complete(await evaluate(self.update, [both], run), run))[0]
        before = [part[0] for part in await writer.entries([existing], run)]
        after = [part[0] for part in await writer.entries([new], run)]
        await writer.update([existing], [new], run)
        new_key = writer.access.key_of_row(new)
        own.update((key, new_key))
        taken.pop(key, None)
        for entry in before:
            if entry is not None:
                taken.pop(entry[0], None)
        taken[new_key] = writer.access.value_of_row(new)
        taken.update({entry[0]: entry[1] for entry in after if entry is not None and entry[2]})
        return new

    async def _existing(self, key: bytes, run: Run) -> Row:
        access = self.writer.access
        value = run.held.get(key) if run.held is not None and key in run.held else None
        if value is None:
            value = (await get_many(run, [key], Lock.EXCLUSIVE, Wait.BLOCK, b""))[0]
        if value is None:
            raise error(
                "XX002", f'a unique index of "{access.desc.name}" has an entry without a row at key {key.hex()}'
            )
        return access.decode_row(key, value)


def _own_keys(run: Run, key: int) -> set[bytes]:
    """Primary keys that this statement has written, kept over its batches."""
    found = run.ctes.get(-key)
    if found is None:
        found = run.ctes[-key] = set()
    return found
