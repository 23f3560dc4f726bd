"""Writing rows of one table: constraints, unique checks, index entries, then foreign keys.

    rows -> generated columns -> NOT NULL -> CHECK -> keys and entries
         -> one locking get of every unique key of the batch -> 23505 or puts and deletes -> foreign keys

Old and new index entries of a row are always computed from the same two row versions
(reliability 89), the old one being the version that was read under the lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from base.errors import MeridianError, error
from base.faults import fault
from base.keys import is_ascending
from planner.access import IndexAccess, TableAccess, check_key, check_keys
from planner.context import ExecContext
from planner.exec.datums import datum_text
from planner.exec.rivals import placed_keys
from planner.exec.runtime import Row, Rows, RowsFunction, Run, evaluate
from planner.exec.scan import claim
from planner.nodes import TableExprs

Entry = tuple[bytes, bytes, bool]
"""Key, value, and whether the key must be the only one of its kind."""
GETS_MAX: Final = 4096
"""Keys per batch of unique checks."""
RUN_ROWS_MIN: Final = 500
"""Rows from which on bulk is tried: a run has a record and a resolution of its own."""
RUN_ROWS_DOUBTFUL: Final = 8
"""Rows from which on a simulation may have it tried, so that runs meet each other in small tables."""


class Written(NamedTuple):
    """Keys and values to write, and the places of their rows in the batch."""

    places: Sequence[int]
    keys: list[bytes]
    values: list[bytes]


def _is_bulk(count: int) -> bool:
    """True for a batch that is worth a run."""
    return count >= RUN_ROWS_MIN or (count >= RUN_ROWS_DOUBTFUL and fault("planner.run.early"))


async def put_sorted(written: Written, is_distinct: bool, run: Run) -> Written:
    """Writes by bulk what can be; returns the rest, in the order of the batch."""
    places, keys, values = written
    if not is_ascending(keys):
        order = sorted(range(len(keys)), key=keys.__getitem__)
        places = [places[i] for i in order]
        keys = [keys[i] for i in order]
        values = [values[i] for i in order]
        if not is_ascending(keys):
            return written  # A key is there twice: which row is to blame is found one by one.
    done = await run.put_run(keys, values, is_distinct)
    if not done:
        return written
    if done == len(keys):
        return Written((), [], [])
    rest = sorted(zip(places[done:], keys[done:], values[done:]))
    return Written([i for i, _, _ in rest], [key for _, key, _ in rest], [value for _, _, value in rest])


def failing_row(row: Row, access: TableAccess, ctx: ExecContext) -> str:
    """PostgreSQL's detail of a row that breaks a constraint; long values are cut at 64 characters as there."""
    shown = []
    for attnum, value in zip(access.attnums, row):
        if access.columns[attnum].hidden:
            continue
        text = "null" if value is None else datum_text(value, access.types[attnum], ctx)
        shown.append(text if len(text) <= 64 else text[:64] + "...")
    return f"Failing row contains ({', '.join(shown)})."


class IndexWriter:
    """Makes the entries of one secondary index."""

    def __init__(
        self, index: IndexAccess, predicate: RowsFunction | None, computed: RowsFunction | None, names: list[str]
    ) -> None:
        self.index = index
        self.predicate = predicate
        """Partial index: rows for which the predicate is true, as one-column rows of booleans."""
        self.computed = computed
        """Values of expression columns."""
        self.names = names
        """Column names, or expression texts, for error details."""

    async def entries(self, rows: Rows, run: Run) -> list[Entry | None]:
        """One entry per row; None for rows outside a partial index."""
        index = self.index
        computed = await evaluate(self.computed, rows, run) if self.computed is not None else [()] * len(rows)
        members = await evaluate(self.predicate, rows, run) if self.predicate is not None else None
        out: list[Entry | None] = []
        for i, row in enumerate(rows):
            if members is not None and members[i][0] is not True:
                out.append(None)
                continue
            key, value = index.entry(row, computed[i])
            check_key(key, index)
            out.append((key, value, index.is_unique and index.is_checked(index.values(row, computed[i]))))
        return out


class TableWriter:
    """Writes complete rows (every column, attnum order) of one table."""

    def __init__(self, access: TableAccess, exprs: TableExprs) -> None:
        self.access = access
        self.exprs = exprs
        self.generated: list[tuple[int, RowsFunction]] = []
        """(position, function giving one-column rows)."""
        self.required = [(access.position[c.id], c.name) for c in access.desc.columns if not c.nullable]
        self.checks: list[tuple[str, RowsFunction]] = []
        """(name, function giving one-column rows): FALSE breaks the constraint."""
        self.indexes: list[IndexWriter] = []
        self.outbound: list[Any] = []
        """foreign.OutboundKey of this table's foreign keys."""
        self.inbound: list[Any] = []
        """foreign.InboundKey of keys that reference this table."""
        self.deferrable: list[Any] = []
        """(number of the index, unique.DeferrableKey) of keys whose duplicates are looked for later."""
        self.presence = access.projection(())
        self.is_partitioned = bool(access.primary.implicit)
        """Unique keys may be in any region: they are looked for in all."""
        self.placed = placed_keys(access, exprs)
        """Ids of indexes whose keys tell their region."""

    # --- rows

    async def complete(self, rows: Rows, run: Run) -> Rows:
        """Computes generated columns, then tests NOT NULL and CHECK."""
        for position, function in self.generated:
            values = await evaluate(function, rows, run)
            rows = [(*row[:position], value[0], *row[position + 1 :]) for row, value in zip(rows, values)]
        for position, _ in self.required:
            for row in rows:
                if row[position] is None:
                    raise await self._first_broken(rows, run)
        for _, function in self.checks:
            for verdict in await evaluate(function, rows, run):
                if verdict[0] is False:
                    raise await self._first_broken(rows, run)
        return rows

    async def _first_broken(self, rows: Rows, run: Run) -> MeridianError:
        """The error of the first row that breaks a constraint: of its NOT NULLs, then of its CHECKs by name."""
        for i, row in enumerate(rows):
            problem = await self._broken(row, run)
            if problem is not None:
                problem.row = i
                return problem
        raise AssertionError("no row breaks a constraint")

    async def _broken(self, row: Row, run: Run) -> MeridianError | None:
        for position, name in self.required:
            if row[position] is None:
                return self.null_error(row, name, run.ctx)
        for name, function in self.checks:
            if (await evaluate(function, [row], run))[0][0] is False:
                return self.check_error(row, name, run.ctx)
        return None

    def null_error(self, row: Row, column: str, ctx: ExecContext) -> MeridianError:
        table = self.access.desc.name
        message = f'null value in column "{column}" of relation "{table}" violates not-null constraint'
        schema = ctx.schema_name(self.access.desc.schema_id)
        return error(
            "23502", message, detail=failing_row(row, self.access, ctx), schema=schema, table=table, column=column
        )

    def check_error(self, row: Row, name: str, ctx: ExecContext) -> MeridianError:
        table = self.access.desc.name
        message = f'new row for relation "{table}" violates check constraint "{name}"'
        schema = ctx.schema_name(self.access.desc.schema_id)
        return error(
            "23514", message, detail=failing_row(row, self.access, ctx), schema=schema, table=table, constraint=name
        )

    async def entries(self, rows: Rows, run: Run) -> list[list[Entry | None]]:
        """Entries by index, then by row."""
        return [await index.entries(rows, run) for index in self.indexes]

    # --- unique keys

    async def present(self, keys: Sequence[bytes], rivals: Sequence[bytes], run: Run) -> dict[bytes, Any]:
        """Locks the keys; the values of those that exist, and of their rivals, writes held back included."""
        found: dict[bytes, Any] = {}
        distinct = dict.fromkeys(keys)
        mine = list(distinct)
        others = [key for key in dict.fromkeys(rivals) if key not in distinct]
        for at in range(0, max(len(mine), len(others)), GETS_MAX):
            part, beside = mine[at : at + GETS_MAX], others[at : at + GETS_MAX]
            values = await claim(run, part, beside)
            found.update({key: value for key, value in zip(part + beside, values) if value is not None})
        if run.held:
            for key in mine + others:
                if key in run.held:
                    value = run.held[key]
                    found.pop(key, None)
                    if value is not None:
                        found[key] = value
        return found

    def rivaled(self, drawn: frozenset[int] = frozenset()) -> list[IndexAccess]:
        """The unique indexes whose new keys may be taken in another region; ``drawn`` as in ``insert``."""
        return [index for index in self.access.indexes if index.is_unique and self._has_rivals(index, drawn)]

    def _has_rivals(self, index: IndexAccess, drawn: frozenset[int]) -> bool:
        return bool(index.implicit) and index.desc.id not in self.placed and index.desc.id not in drawn

    def rivals(self, key: bytes, at: int, drawn: frozenset[int] = frozenset()) -> list[bytes]:
        """The same unique key in other regions; ``at`` as in ``duplicate_of``."""
        if not self.is_partitioned:
            return []
        index = self.access.primary if at < 0 else self.indexes[at].index
        return index.siblings(key) if self._has_rivals(index, drawn) else []

    def is_rivaled(self, key: bytes, at: int, taken: dict[bytes, Any]) -> bool:
        """True if the key is taken in another region."""
        return any(rival in taken for rival in self.rivals(key, at))

    def duplicate(
        self, row: Row, index: IndexAccess, computed: Row, names: list[str], ctx: ExecContext
    ) -> MeridianError:
        """The 23505 of a row."""
        values = index.values(row, computed)
        values, names = values[index.implicit :], names[-len(index.named) :]
        types = [index.columns[i].type for i in range(index.implicit, index.width)]
        texts = ["null" if v is None else datum_text(v, t, ctx) for v, t in zip(values, types)]
        table = self.access.desc.name
        return error(
            "23505",
            f'duplicate key value violates unique constraint "{index.desc.name}"',
            detail=f"Key ({', '.join(names)})=({', '.join(texts)}) already exists.",
            schema=ctx.schema_name(self.access.desc.schema_id),
            table=table,
            constraint=index.desc.name,
        )

    def key_names(self) -> list[str]:
        return [self.access.columns[attnum].name for attnum in self.access.key_attnums]

    async def duplicate_of(self, row: Row, at: int, run: Run) -> MeridianError:
        """The 23505 of a row at index number ``at`` of ``indexes``; -1 is the primary key."""
        if at < 0:
            return self.duplicate(row, self.access.primary, (), self.key_names(), run.ctx)
        writer = self.indexes[at]
        computed = (await evaluate(writer.computed, [row], run))[0] if writer.computed is not None else ()
        return self.duplicate(row, writer.index, computed, writer.names, run.ctx)

    async def _duplicate_row(self, row: Row, place: int, at: int, run: Run) -> MeridianError:
        problem = await self.duplicate_of(row, at, run)
        problem.row = place
        return problem

    # --- changes

    async def insert(self, rows: Rows, run: Run, drawn: frozenset[int] = frozenset()) -> None:
        """Inserts completed rows; 23505 if a unique key exists already.

        ``drawn``: ids of indexes whose keys nobody else can have (``planner.exec.rivals``).
        """
        key_of_row, value_of_row = self.access.key_of_row, self.access.value_of_row
        keys = [key_of_row(row) for row in rows]
        check_keys(keys, self.access.primary)
        values = [value_of_row(row) for row in rows]
        entries = await self.entries(rows, run)
        fresh = list(entries)
        if _is_bulk(len(rows)) and not self.is_partitioned:
            await self._insert_by_bulk(rows, keys, values, entries, run)
        else:
            await self._insert_one_by_one(rows, Written(range(len(rows)), keys, values), entries, run, drawn)
        await run.flush()
        self.check_later(rows, fresh, run)
        for foreign in self.outbound:
            await foreign.check(rows, run)

    def check_later(self, rows: Rows, entries: list[list[Entry | None]], run: Run) -> None:
        """Has the deferrable keys of new rows checked."""
        for at, key in self.deferrable:
            key.inserted(rows, entries[at], run)

    async def _insert_by_bulk(
        self, rows: Rows, keys: list[bytes], values: list[bytes], entries: list[list[Entry | None]], run: Run
    ) -> None:
        """Writes runs (kvtier.runs) where the store takes them, the rest one by one."""
        left = await put_sorted(Written(range(len(rows)), keys, values), False, run)
        for at, writer in enumerate(self.indexes):
            part = entries[at]
            places = [i for i, entry in enumerate(part) if entry is not None]
            if not writer.index.takes_puts or not places:
                continue
            written = Written(places, [part[i][0] for i in places], [part[i][1] for i in places])  # type: ignore[index]  # not None
            # Entries of an index that is not unique hold the primary key, which is new.
            rest = await put_sorted(written, not writer.index.is_unique, run)
            if not rest.places:
                entries[at] = []
            elif len(rest.places) < len(places):
                kept = {i: part[i] for i in rest.places}
                entries[at] = [kept.get(i) for i in range(len(rows))]
        if left.places or any(entries):
            await self._insert_one_by_one(rows, left, [part or [None] * len(rows) for part in entries], run)

    async def _insert_one_by_one(
        self, rows: Rows, primary: Written, entries: list[list[Entry | None]], run: Run,
        drawn: frozenset[int] = frozenset(),
    ) -> None:  # fmt: skip
        """Locks and looks at every unique key, then puts; ``primary`` and ``entries`` are what is still to be written."""
        wanted = list(primary.keys)
        for part in entries:
            wanted += [entry[0] for entry in part if entry is not None and entry[2]]
        rivals = self.all_rivals(primary.keys, entries, drawn) if self.is_partitioned else []
        taken: Any = await self.present(wanted, rivals, run)
        key_of = dict(zip(primary.places, primary.keys))
        for i, row in enumerate(rows):
            key = key_of.get(i)
            if key is not None:
                if key in taken or (self.is_partitioned and self.is_rivaled(key, -1, taken)):
                    raise await self._duplicate_row(row, i, -1, run)
                taken[key] = b""
            for at, part in enumerate(entries):
                entry = part[i]
                if entry is not None and entry[2]:
                    if entry[0] in taken or (self.is_partitioned and self.is_rivaled(entry[0], at, taken)):
                        raise await self._duplicate_row(row, i, at, run)
                    taken[entry[0]] = b""
        for key, value in zip(primary.keys, primary.values):
            run.put(key, value)
        self.put_entries(entries, run)

    def all_rivals(
        self, keys: Sequence[bytes], entries: list[list[Entry | None]], drawn: frozenset[int] = frozenset()
    ) -> list[bytes]:
        """The rivals of primary keys and of checked entries."""
        found = [rival for key in keys for rival in self.rivals(key, -1, drawn)]
        for at, part in enumerate(entries):
            checked = [entry[0] for entry in part if entry is not None and entry[2]]
            found += [rival for key in checked for rival in self.rivals(key, at, drawn)]
        return found

    def put_rows(self, rows: Rows, keys: list[bytes], entries: list[list[Entry | None]], run: Run) -> None:
        """Puts rows and their entries."""
        value_of_row = self.access.value_of_row
        for key, row in zip(keys, rows):
            run.put(key, value_of_row(row))
        self.put_entries(entries, run)

    def put_entries(self, entries: list[list[Entry | None]], run: Run) -> None:
        """Puts index entries."""
        for writer, part in zip(self.indexes, entries):
            if writer.index.takes_puts:
                for entry in part:
                    if entry is not None:
                        run.put(entry[0], entry[1])

    async def delete(self, rows: Rows, run: Run) -> None:
        """Deletes rows that were read under a lock."""
        access = self.access
        entries = await self.entries(rows, run)
        for row in rows:
            run.delete(access.key_of_row(row))
        for part in entries:
            for entry in part:
                if entry is not None:
                    run.delete(entry[0])
        await run.flush()
        for inbound in self.inbound:
            await inbound.deleted(rows, run)

    async def update(self, old: Rows, new: Rows, run: Run) -> None:
        """Replaces rows, read under a lock, by completed new versions."""
        access = self.access
        old_keys = [access.key_of_row(row) for row in old]
        new_keys = [access.key_of_row(row) for row in new]
        before = await self.entries(old, run)
        after = await self.entries(new, run)
        self._delete_old(old_keys, new_keys, before, after, run)
        await self._check_new(old_keys, new_keys, before, after, new, run)
        self._put_new(new, new_keys, before, after, run)
        await run.flush()
        for at, key in self.deferrable:
            key.updated(new, before[at], after[at], run)
        for foreign in self.outbound:
            await foreign.check_changed(old, new, run)
        for inbound in self.inbound:
            await inbound.updated(old, new, run)

    def _delete_old(
        self,
        old_keys: list[bytes],
        new_keys: list[bytes],
        before: list[list[Entry | None]],
        after: list[list[Entry | None]],
        run: Run,
    ) -> None:
        for old_key, new_key in zip(old_keys, new_keys):
            if old_key != new_key:
                run.delete(old_key)
        for old_part, new_part in zip(before, after):
            for old_entry, new_entry in zip(old_part, new_part):
                if old_entry is not None and (new_entry is None or new_entry[0] != old_entry[0]):
                    run.delete(old_entry[0])

    async def _check_new(
        self,
        old_keys: list[bytes],
        new_keys: list[bytes],
        before: list[list[Entry | None]],
        after: list[list[Entry | None]],
        new: Rows,
        run: Run,
    ) -> None:
        claims: list[tuple[bytes, int, int]] = []
        """(key, row number, index number) of every key a row did not have before."""
        for i in range(len(new)):
            if old_keys[i] != new_keys[i]:
                check_key(new_keys[i], self.access.primary)
                claims.append((new_keys[i], i, -1))
            for at, part in enumerate(after):
                entry, was = part[i], before[at][i]
                if entry is not None and entry[2] and (was is None or was[0] != entry[0]):
                    claims.append((entry[0], i, at))
        if not claims:
            return
        rivals: list[list[bytes]] = []
        if self.is_partitioned:
            rivals = [self._rivals_of_claim(key, at, old_keys[i] if at < 0 else before[at][i]) for key, i, at in claims]
        taken = await self.present([key for key, _, _ in claims], [key for keys in rivals for key in keys], run)
        for number, (key, i, at) in enumerate(claims):
            if key in taken or (rivals and any(other in taken for other in rivals[number])):
                raise await self.duplicate_of(new[i], at, run)
            taken[key] = b""

    def _rivals_of_claim(self, key: bytes, at: int, was: bytes | Entry | None) -> list[bytes]:
        """None for a row that only moves to another region: nobody else has its key."""
        rivals = self.rivals(key, at)
        return [] if was is not None and (was if isinstance(was, bytes) else was[0]) in rivals else rivals

    def _put_new(
        self,
        new: Rows,
        new_keys: list[bytes],
        before: list[list[Entry | None]],
        after: list[list[Entry | None]],
        run: Run,
    ) -> None:
        value_of_row = self.access.value_of_row
        for key, row in zip(new_keys, new):
            run.put(key, value_of_row(row))
        for at, writer in enumerate(self.indexes):
            if not writer.index.takes_puts:
                continue
            for old_entry, new_entry in zip(before[at], after[at]):
                if new_entry is not None and (old_entry is None or old_entry[:2] != new_entry[:2]):
                    run.put(new_entry[0], new_entry[1])
