"""Reading all rows of a table for DDL: filling indexes, rebuilding tables, validating constraints.

The table's exclusive lock is held, so nobody writes it meanwhile.  What is made lies under key prefixes that no committed
descriptor names yet; it is written directly, a chunk at a time, outside the transaction, so that a table of any size
needs little memory.  If the transaction rolls back the session clears those prefixes (``TransactionBlock.scrap``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from base.errors import ConditionFailed, SqlError
from base.keys import table_span
from kvtier.messages import Batch, ConditionalPut, DeleteSpan, Op, Put, Scan, ScanResult
from planner.access import TableAccess, table_access
from planner.exec.datums import datum_text
from planner.exec.runtime import Row, Rows, RowsFunction, Run, evaluate
from planner.exec.write import Entry, IndexWriter, TableWriter
from planner.schema import CheckDesc, ForeignKeyDesc, IndexDesc, TableDesc
from sql.catalog.cache import call

if TYPE_CHECKING:
    from sql.session import Session

CHUNK_ROWS: Final = 2_000


class Backfill:
    """Work over the rows of one table, as its descriptor ``table`` says they are stored."""

    def __init__(self, session: Session, table: TableDesc) -> None:
        from sql.analyze import Analyzer

        self.session = session
        self.table = table
        self.analyzer = Analyzer(session)
        self.kv = session.server.kv
        self.txn = session.block.ensure()
        self.access = self._access(table)

    def _access(self, table: TableDesc) -> TableAccess:
        return table_access(table, self.session.state().type_by_oid)

    def _run(self) -> Run:
        return Run(self.txn, [], self.session.context)

    async def rows(self) -> AsyncIterator[Rows]:
        """Yields every row (all columns, attnum order) in chunks."""
        start, end = self.access.span()
        decode = self.access.decode_row
        while True:
            page: Any = self.txn.scan(start, end, limit=CHUNK_ROWS)
            if not isinstance(page, ScanResult):
                page = await page
            if page.keys:
                yield [decode(key, value) for key, value in zip(page.keys, page.values)]
            self.session.context.check_interrupt()
            if page.resume is None:
                return
            start = page.resume

    async def has_rows(self) -> bool:
        async for _ in self.rows():
            return True
        return False

    async def has_null(self, column_id: int) -> bool:
        """True if some row has NULL in a column."""
        at = self.access.position[column_id]
        async for rows in self.rows():
            if any(row[at] is None for row in rows):
                return True
        return False

    # --- indexes ---------------------------------------------------------------

    async def fill(self, indexes: tuple[IndexDesc, ...]) -> int:
        """Writes the entries of new indexes for every row; returns the number of rows."""
        from base.keys import index_span

        writer = self.analyzer.writer(self.table)
        wanted = {index.id for index in indexes}
        writers = [w for w in writer.indexes if w.index.desc.id in wanted]
        prefix = self.table.key_prefix_table or self.table.id
        for index in indexes:
            span = index_span(prefix, index.id)
            self.session.block.scrap(*span)
            await self._clear(*span)
        count = 0
        async for rows in self.rows():
            count += len(rows)
            for index_writer in writers:
                entries = await index_writer.entries(rows, self._run())
                duplicate = await self._write(index_puts(entries))
                if duplicate is not None:
                    raise await self._duplicate(index_writer, rows, entries, duplicate)
        for index_writer in writers:
            if index_writer.index.desc.deferrable:
                await self._check_deferrable(index_writer)
        return count

    async def _check_deferrable(self, writer: IndexWriter) -> None:
        """Raises 23505 if two entries of a key that may have duplicates for a while have the same values."""
        index = writer.index
        start, end = index.span()
        before = b""
        while True:
            page: Any = self.txn.scan(start, end, limit=CHUNK_ROWS)
            if not isinstance(page, ScanResult):
                page = await page
            for key, value in zip(page.keys, page.values):
                primary = index.primary_key(key, value)
                values = key[: len(key) - len(primary) + len(self.access.prefix)]
                if values == before:
                    row = self.access.decode_row(primary, await self._stored(primary))
                    if index.desc.nulls_not_distinct or None not in index.values(row, ()):
                        raise await self._duplicate(writer, [row], [(key, b"", True)], key)
                before = values
            self.session.context.check_interrupt()
            if page.resume is None:
                return
            start = page.resume

    async def _stored(self, key: bytes) -> bytes:
        found: Any = self.txn.get(key)
        if found is not None and not isinstance(found, bytes):
            found = await found
        assert isinstance(found, bytes), key.hex()
        return found

    async def _clear(self, start: bytes, end: bytes) -> None:
        """Removes what an index of the same id left, whose transaction ended in a crash or went back to a savepoint."""
        if (await call(self.kv, Batch([Scan(start, end, limit=1)]))).results[0].keys:
            reply = await call(self.kv, Batch([DeleteSpan(start, end)]))
            await self.session.block.move_past(reply.write_ts)

    async def _duplicate(self, writer: IndexWriter, rows: Rows, entries: list[Entry | None], key: bytes) -> SqlError:
        """The 23505 of the last row with an entry."""
        row = next(
            row for row, entry in zip(reversed(rows), reversed(entries)) if entry is not None and entry[0] == key
        )
        index = writer.index
        computed = (await evaluate(writer.computed, [row], self._run()))[0] if writer.computed is not None else ()
        values = index.values(row, computed)
        shown = [
            "null" if value is None else datum_text(value, column.type, self.session.context)
            for value, column in zip(values, index.columns)
        ]
        name = index.desc.name
        return SqlError(
            f'could not create unique index "{name}"',
            sqlstate="23505",
            detail=f"Key ({', '.join(writer.names)})=({', '.join(shown)}) is duplicated.",
            table=self.table.name,
            constraint=name,
        )

    async def _write(self, puts: list[Op]) -> bytes | None:
        """Writes at the transaction's own snapshot, so that its later statements see it.

        Returns the key that must be the only one of its kind and is not.
        """
        if not puts:
            return None
        try:
            reply = await call(self.kv, Batch(puts, ts=self.txn.read_ts))
        except ConditionFailed as taken:
            return taken.key
        if self.txn.read_ts and reply.write_ts > self.txn.read_ts:
            await self.session.block.move_past(reply.write_ts)
        return None

    # --- rebuilding ------------------------------------------------------------

    async def rebuild(self, new: TableDesc, converted: Mapping[int, RowsFunction] | None = None) -> TableDesc:
        """Copies all rows into a new key prefix in the new descriptor's shape; returns the descriptor that names it.

        Columns keep their values by column id; ``converted`` gives functions over old rows for some; columns that are new
        get their default, computed for each row; generated columns are computed.
        """
        draft = self.session.block.ddl()
        prefix = await draft.new_id()
        self.session.block.scrap(*table_span(prefix))
        new = await draft.update_table(new, key_prefix_table=prefix)
        writer = self.analyzer.writer(new)
        sources = self._sources(new, dict(converted or {}))
        async for rows in self.rows():
            made = await self._converted(rows, sources)
            made = await writer.complete(made, self._run())
            await self._write_rows(writer, made)
        done = self.txn.delete_span(*table_span(self.table.key_prefix_table or self.table.id))
        if done is not None:
            await done
        return new

    def _sources(self, new: TableDesc, converted: dict[int, RowsFunction]) -> list[int | RowsFunction]:
        """Per new column: a position in old rows, or a function over them giving one-column rows."""
        sources: list[int | RowsFunction] = []
        for column in new.columns:
            if column.id in converted:
                sources.append(converted[column.id])
            elif column.id in self.access.position:
                sources.append(self.access.position[column.id])
            else:
                sources.append(self.analyzer.default_function(self.table, column))
        return sources

    async def _converted(self, rows: Rows, sources: list[int | RowsFunction]) -> Rows:
        columns: list[list[Any]] = []
        for source in sources:
            if isinstance(source, int):
                columns.append([row[source] for row in rows])
            else:
                columns.append([row[0] for row in await evaluate(source, rows, self._run())])
        return list(zip(*columns))

    async def _write_rows(self, writer: TableWriter, rows: Rows) -> None:
        access = writer.access
        puts: list[Op] = [ConditionalPut(access.key_of_row(row), access.value_of_row(row)) for row in rows]
        duplicate = await self._write(puts)
        if duplicate is not None:
            raise self._duplicate_key(
                access, next(row for row in reversed(rows) if access.key_of_row(row) == duplicate)
            )
        for index_writer in writer.indexes:
            entries = await index_writer.entries(rows, self._run())
            duplicate = await self._write(index_puts(entries))
            if duplicate is not None:
                raise await self._duplicate(index_writer, rows, entries, duplicate)

    def _duplicate_key(self, access: TableAccess, row: Row) -> SqlError:
        primary = access.desc.indexes[0]
        names = [access.columns[id].name for id in access.key_attnums]
        shown = [
            datum_text(row[access.position[id]], access.types[id], self.session.context) for id in access.key_attnums
        ]
        return SqlError(
            f'could not create unique index "{primary.name}"',
            sqlstate="23505",
            detail=f"Key ({', '.join(names)})=({', '.join(shown)}) is duplicated.",
            table=access.desc.name,
            constraint=primary.name,
        )

    # --- constraints -----------------------------------------------------------

    async def validate_check(self, check: CheckDesc) -> None:
        """Raises 23514 if a row breaks a CHECK constraint."""
        function = self.analyzer.row_function(self.table, check.expression)
        async for rows in self.rows():
            for verdict in await evaluate(function, rows, self._run()):
                if verdict[0] is False:
                    raise SqlError(
                        f'check constraint "{check.name}" of relation "{self.table.name}" is violated by some row',
                        sqlstate="23514", table=self.table.name, constraint=check.name,
                    )  # fmt: skip

    async def validate_foreign_key(self, key: ForeignKeyDesc) -> None:
        """Raises 23503 if a row refers to nothing."""
        view = self.session.view()
        target = view.table_by_id(key.target_table)
        assert target is not None
        await self.analyzer.check_foreign_key(self.table, target, key)


def with_no_keys(table: TableDesc) -> TableDesc:
    """Returns a descriptor without foreign keys: rebuilding neither breaks nor checks them."""
    return msgspec.structs.replace(table, foreign_keys=(), inbound=())


def index_puts(entries: list[Entry | None]) -> list[Op]:
    """Returns the writes of entries; those of unique keys succeed only where nothing is.

    No read comes before them: it would leave a timestamp that the writes, and with them the whole transaction, had to move above.
    """
    return [
        ConditionalPut(entry[0], entry[1]) if entry[2] else Put(entry[0], entry[1])
        for entry in entries
        if entry is not None
    ]
