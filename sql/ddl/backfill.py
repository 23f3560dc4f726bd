"""Reading all rows of a table for DDL: filling indexes, rebuilding tables, validating constraints.

The table's exclusive lock is held, so nobody writes it meanwhile.  What is made goes under key prefixes that no
committed descriptor names yet (``sql.ddl.filling``), a chunk at a time, so that a table of any size needs little memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from base.errors import SqlError
from base.keys import index_span, prefix_end, table_span
from kvtier.messages import Lock, ScanResult, Wait
from planner.access import IndexAccess, TableAccess, check_keys, table_access
from planner.exec.datums import datum_text
from planner.exec.rewrite import Rewriter, entry_maker, row_rewriter
from planner.exec.runtime import Row, Rows, RowsFunction, Run, evaluate
from planner.exec.scan import get_many
from planner.exec.write import GETS_MAX, IndexWriter, TableWriter
from planner.schema import CheckDesc, ForeignKeyDesc, IndexDesc, TableDesc
from sql.ddl.columns import ROWID_DEFAULT
from sql.ddl.filling import Filling

if TYPE_CHECKING:
    from sql.session import Session

CHUNK_ROWS: Final = 2_000

Pages = AsyncIterator[tuple[list[bytes], list[bytes]]]
"""Keys and values of stored rows, in the order of the primary key."""


class IndexFilling:
    """Makes the entries of one new index out of stored rows and writes them."""

    def __init__(self, backfill: Backfill, access: TableAccess, writer: IndexWriter) -> None:
        self._backfill = backfill
        self._access = access
        self._writer = writer
        self._make: Rewriter | None = entry_maker(writer.index)
        self._filling = Filling(backfill.session, index_span(access.key_id, writer.index.desc.id))

    async def add(self, keys: list[bytes], values: list[bytes]) -> None:
        """Writes the entries of rows; raises 23505."""
        index = self._writer.index
        if self._make is not None:
            new_keys, new_values = self._make(keys, values)
            check_keys(new_keys, index)
            duplicate = await self._filling.put(new_keys, new_values, is_distinct=not index.is_unique)
            if duplicate is not None:
                at = new_keys.index(duplicate)
                raise await self._duplicate(keys[at], values[at])
            return
        decode = self._access.decode_row
        rows = [decode(key, value) for key, value in zip(keys, values)]
        entries = await self._writer.entries(rows, self._backfill.run())
        places = [i for i, entry in enumerate(entries) if entry is not None]
        made = [entry for entry in entries if entry is not None]
        new_keys = [entry[0] for entry in made]
        duplicate = await self._filling.put(new_keys, [entry[1] for entry in made], is_distinct=not index.is_unique)
        if duplicate is not None:
            at = places[new_keys.index(duplicate)]
            raise await self._duplicate(keys[at], values[at])

    async def finish(self) -> None:
        """Raises 23505 if two entries have the same values, which writing them cannot tell: in two regions, or of a
        deferrable key, which may have duplicates for a while."""
        index = self._writer.index
        rival = await self._backfill.rival(index)
        if rival is not None:
            primary = index.primary_key(*rival)
            raise await self._duplicate(primary, await self._backfill.stored(primary))
        if not index.desc.deferrable:
            return
        width = len(self._access.prefix)
        before = b""
        async for keys, values in self._backfill.pages(index.span()):
            for key, value in zip(keys, values):
                primary = index.primary_key(key, value)
                prefix = key[: len(key) - len(primary) + width]
                if prefix == before:
                    stored = await self._backfill.stored(primary)
                    shown = index.values(self._access.decode_row(primary, stored), ())
                    if index.desc.nulls_not_distinct or None not in shown:
                        raise await self._duplicate(primary, stored)
                before = prefix

    async def _duplicate(self, key: bytes, value: bytes) -> SqlError:
        """The 23505 of a row whose entry is there already."""
        writer, index = self._writer, self._writer.index
        row = self._access.decode_row(key, value)
        run = self._backfill.run()
        computed = (await evaluate(writer.computed, [row], run))[0] if writer.computed is not None else ()
        return self._backfill.duplicate(index, index.values(row, computed), writer.names)


class Backfill:
    """Work over the rows of one table, as its descriptor ``table`` says they are stored."""

    def __init__(self, session: Session, table: TableDesc) -> None:
        from sql.analyze import Analyzer

        self.session = session
        self.table = table
        self.analyzer = Analyzer(session)
        self.txn = session.block.ensure()
        self.access = table_access(table, session.state().type_by_oid)

    def run(self) -> Run:
        """Returns what evaluating expressions needs."""
        return Run(self.txn, [], self.session.context)

    async def pages(self, span: tuple[bytes, bytes] | None = None) -> Pages:
        """Yields every row, or all of another span, as it is stored, in chunks."""
        start, end = span or self.access.span()
        while True:
            page: Any = self.txn.scan(start, end, limit=CHUNK_ROWS)
            if not isinstance(page, ScanResult):
                page = await page
            if page.keys:
                yield page.keys, page.values
            await self.run().breathe()
            if page.resume is None:
                return
            start = page.resume

    async def rows(self) -> AsyncIterator[Rows]:
        """Yields every row (all columns, attnum order) in chunks."""
        decode = self.access.decode_row
        async for keys, values in self.pages():
            yield [decode(key, value) for key, value in zip(keys, values)]

    async def stored(self, key: bytes) -> bytes:
        """Returns a row that is known to be there."""
        found: Any = self.txn.get(key)
        if found is not None and not isinstance(found, bytes):
            found = await found
        assert isinstance(found, bytes), key.hex()
        return found

    async def has_rows(self, region: str = "") -> bool:
        """True if there is a row, or, of a REGIONAL BY ROW table, one in a region."""
        span = None
        if region:
            start = self.access.primary.codec.encode_prefix([region])
            span = start, prefix_end(start)
        async for _ in self.pages(span):
            return True
        return False

    async def rival(self, index: IndexAccess) -> tuple[bytes, bytes] | None:
        """Returns an entry of a unique index whose key is there in another region, too."""
        if not index.implicit or not index.is_unique:
            return None
        async for keys, values in self.pages(index.span()):
            others = len(index.heads) - 1
            siblings = [sibling for key in keys for sibling in index.siblings(key)]
            for at in range(0, len(siblings), GETS_MAX):
                found = await get_many(self.run(), siblings[at : at + GETS_MAX], Lock.NONE, Wait.BLOCK, b"")
                for i, value in enumerate(found, at):
                    if value is not None:
                        return keys[i // others], values[i // others]
        return None

    async def has_null(self, column_id: int) -> bool:
        """True if some row has NULL in a column."""
        decode = self.access.decoder((column_id,))
        async for keys, values in self.pages():
            if (None,) in map(decode, keys, values):
                return True
        return False

    # --- indexes ---------------------------------------------------------------

    async def fill(self, indexes: tuple[IndexDesc, ...]) -> int:
        """Writes the entries of new indexes for every row; returns the number of rows."""
        fillings = self._fillings(self.analyzer.writer(self.table), {index.id for index in indexes})
        count = 0
        async for keys, values in self.pages():
            count += len(keys)
            for filling in fillings:
                await filling.add(keys, values)
        for filling in fillings:
            await filling.finish()
        return count

    def _fillings(self, writer: TableWriter, wanted: set[int]) -> list[IndexFilling]:
        writers = [w for w in writer.indexes if w.index.desc.id in wanted]
        return [IndexFilling(self, writer.access, index_writer) for index_writer in writers]

    def duplicate(self, index: IndexAccess, values: Row, names: list[str]) -> SqlError:
        """The 23505 of an index that cannot be made, or of a primary key."""
        shown = [
            "null" if value is None else datum_text(value, column.type, self.session.context)
            for value, column in zip(values[index.implicit :], index.columns[index.implicit :])
        ]
        return SqlError(
            f'could not create unique index "{index.desc.name}"',
            sqlstate="23505",
            detail=f"Key ({', '.join(names[-len(shown) :])})=({', '.join(shown)}) is duplicated.",
            table=self.table.name,
            constraint=index.desc.name,
        )

    # --- rebuilding ------------------------------------------------------------

    async def rebuild(self, new: TableDesc, converted: Mapping[int, RowsFunction] | None = None) -> TableDesc:
        """Copies all rows into a new key prefix in the new descriptor's shape; returns the descriptor that names it.

        Columns keep their values by column id; ``converted`` gives functions over old rows for some; columns that are new
        get their default, computed for each row; generated columns are computed.
        """
        draft = self.session.block.ddl()
        prefix = await draft.new_id()
        new = await draft.update_table(new, key_prefix_table=prefix)
        writer = self.analyzer.writer(new)
        access = writer.access
        rows = Filling(self.session, access.span())
        fillings = self._fillings(writer, {index_writer.index.desc.id for index_writer in writer.indexes})
        rewrite = row_rewriter(self.access, access) if not converted else None
        sources = self._sources(new, dict(converted or {})) if rewrite is None else []
        async for old_keys, old_values in self.pages():
            if rewrite is not None:
                keys, values = rewrite(old_keys, old_values)
            else:
                keys, values = await self._converted(old_keys, old_values, sources, writer)
            check_keys(keys, access.primary)
            duplicate = await rows.put(keys, values)
            if duplicate is not None:
                row = access.decode_row(duplicate, values[keys.index(duplicate)])
                raise self.duplicate(access.primary, access.primary.values(row, ()), writer.key_names())
            for filling in fillings:
                await filling.add(keys, values)
        for filling in fillings:
            await filling.finish()
        defaults = [access.columns[attnum].default for attnum in access.primary.named]
        if writer.rivaled() and ROWID_DEFAULT not in defaults:
            rival = await self.rival(access.primary)
            if rival is not None:
                row = access.decode_row(*rival)
                raise self.duplicate(access.primary, access.primary.values(row, ()), writer.key_names())
        self.session.block.drop_span(*table_span(self.access.key_id))
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

    async def _converted(
        self, keys: list[bytes], values: list[bytes], sources: list[int | RowsFunction], writer: TableWriter
    ) -> tuple[list[bytes], list[bytes]]:
        """Returns the new rows of old ones, with what is computed for each."""
        decode = self.access.decode_row
        rows = [decode(key, value) for key, value in zip(keys, values)]
        columns: list[list[Any]] = []
        for source in sources:
            if isinstance(source, int):
                columns.append([row[source] for row in rows])
            else:
                columns.append([row[0] for row in await evaluate(source, rows, self.run())])
        made = await writer.complete(list(zip(*columns)), self.run())
        key_of_row, value_of_row = writer.access.key_of_row, writer.access.value_of_row
        return [key_of_row(row) for row in made], [value_of_row(row) for row in made]

    # --- constraints -----------------------------------------------------------

    async def validate_check(self, check: CheckDesc) -> None:
        """Raises 23514 if a row breaks a CHECK constraint."""
        function = self.analyzer.row_function(self.table, check.expression)
        async for rows in self.rows():
            for verdict in await evaluate(function, rows, self.run()):
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
