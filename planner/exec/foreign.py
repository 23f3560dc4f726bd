"""Foreign keys: checks of new references, and what happens to references of a row that goes.

    event            NO ACTION / RESTRICT            CASCADE          SET NULL / SET DEFAULT
    parent deleted   23503 if a child is left        delete children  update children
    parent's key     23503 if a child is left        update children  update children
    changes

New references read the parent's key with a SHARE lock; whoever deletes a parent holds it
EXCLUSIVE, so the two wait for each other at every isolation level (reliability 24).  References
missing when a row is written are looked at again at the end of the statement: the
statement itself may bring the parent.  Cascades are queued, not nested: a chain of any length
takes no stack.

Deferred constraints: ``planner.exec.deferral``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from base.errors import FeatureNotSupported, MeridianError, error
from base.keys import prefix_end
from kvtier.messages import Isolation, Lock, ScanResult, Wait
from planner.access import IndexAccess, TableAccess
from planner.context import ExecContext
from planner.exec.anywhere import get_anywhere
from planner.exec.datums import datum_text
from planner.exec.deferral import check_later
from planner.exec.runtime import BATCH_ROWS, Row, Rows, RowsFunction, Run, evaluate
from planner.exec.scan import get_many
from planner.exec.write import TableWriter
from planner.schema import ForeignKeyDesc, TableDesc

ROWS_PER_CASCADE: Final = 1024
"""Child rows changed at a time."""


def key_text(access: TableAccess, attnums: Sequence[int], row: Row, ctx: ExecContext) -> str:
    """``(a, b)=(1, 2)`` for error details."""
    names = [access.columns[attnum].name for attnum in attnums]
    values = []
    for attnum in attnums:
        value = row[access.position[attnum]]
        values.append("null" if value is None else datum_text(value, access.types[attnum], ctx))
    return f"({', '.join(names)})=({', '.join(values)})"


def unique_index(target: TableAccess, key: ForeignKeyDesc) -> IndexAccess:
    """The referenced index: the one named, or any unique one over those columns."""
    named = target.by_id.get(key.target_index)
    if named is not None and sorted(named.named) == sorted(key.target_columns):
        return named
    for index in target.indexes:
        if index.is_unique and not index.desc.predicate and sorted(index.named) == sorted(key.target_columns):
            return index
    raise AssertionError(f"foreign key {key.name} has no unique index on its target")


def home_of(index: IndexAccess, run: Run) -> list[str]:
    """The values that keys of an index begin with before those of the columns it names."""
    return [index.home(run.ctx.region)] if index.implicit else []


async def look_up(run: Run, index: IndexAccess, keys: list[bytes], lock: Lock, projection: bytes) -> list[Any]:
    """The values of unique keys, in whichever region they are."""
    if index.implicit:
        return (await get_anywhere(run, index, keys, lock, Wait.BLOCK, projection))[1]
    return await get_many(run, keys, lock, Wait.BLOCK, projection)


def parents_lock(target: TableDesc, isolation: Isolation) -> Lock:
    """Returns how parents are locked.

    A GLOBAL table's are read in the client's own region, where there are no locks: a SERIALIZABLE transaction commits only if
    they are still there.
    """
    if target.locality.kind == "global" and isolation == Isolation.SERIALIZABLE:
        return Lock.NONE
    return Lock.SHARE


class OutboundKey:
    """References from rows of ``child`` to ``target``."""

    def __init__(self, key: ForeignKeyDesc, child: TableAccess, target: TableAccess) -> None:
        self.key = key
        self.child = child
        self.target = target
        self.index = unique_index(target, key)
        order = [key.target_columns.index(attnum) for attnum in self.index.named]
        self.positions = [child.position[key.columns[i]] for i in order]
        """Of the referencing columns, in the index's order."""
        self.projection = target.projection(()) if self.index.is_primary else b""

    async def check(self, rows: Rows, run: Run) -> None:
        """Looks for the parents of new rows."""
        wanted: dict[bytes, Row] = {}
        encode = self.index.unique_codec.encode
        home = home_of(self.index, run)
        for row in rows:
            values = [row[position] for position in self.positions]
            if None in values:
                if self.key.match == "FULL" and any(value is not None for value in values):
                    raise self._mixed()
                continue
            wanted.setdefault(encode([*home, *values]), row)
        if wanted:
            await self._look(wanted, run)

    async def _look(self, wanted: dict[bytes, Row], run: Run) -> None:
        missing = await self._missing(wanted, run)
        if not missing:
            return
        check_later(self.child.desc.id, self.key, lambda later: self._require(missing, later), run)

    async def _missing(self, wanted: dict[bytes, Row], run: Run) -> dict[bytes, Row]:
        keys = list(wanted)
        lock = parents_lock(self.target.desc, run.txn.isolation)
        found = await look_up(run, self.index, keys, lock, self.projection)
        return {key: wanted[key] for key, value in zip(keys, found) if value is None}

    async def _require(self, wanted: dict[bytes, Row], run: Run) -> None:
        """The last look: a child that is gone by now needs no parent."""
        missing = await self._missing(wanted, run)
        if not missing:
            return
        keys = list(missing)
        rows = await get_many(run, [self.child.key_of_row(missing[key]) for key in keys], Lock.NONE, Wait.BLOCK, b"")
        for key, value in zip(keys, rows):
            if value is not None and self._still(missing[key], value):
                raise self.absent(missing[key], run.ctx)

    def _still(self, row: Row, value: bytes) -> bool:
        """True if the stored row still has the reference."""
        stored = self.child.decode_row(self.child.key_of_row(row), value)
        return all(stored[position] == row[position] for position in self.positions)

    def absent(self, row: Row, ctx: ExecContext) -> MeridianError:
        table = self.child.desc.name
        return error(
            "23503",
            f'insert or update on table "{table}" violates foreign key constraint "{self.key.name}"',
            detail=f'Key {key_text(self.child, self.key.columns, row, ctx)} is not present in table "{self.target.desc.name}".',
            schema=ctx.schema_name(self.child.desc.schema_id),
            table=table,
            constraint=self.key.name,
        )

    def _mixed(self) -> MeridianError:
        table = self.child.desc.name
        return error(
            "23503",
            f'insert or update on table "{table}" violates foreign key constraint "{self.key.name}"',
            detail="MATCH FULL does not allow mixing of null and nonnull key values.",
            table=table,
            constraint=self.key.name,
        )

    async def check_changed(self, old: Rows, new: Rows, run: Run) -> None:
        """Looks only for parents of rows whose reference changed."""
        positions = self.positions
        changed = [b for a, b in zip(old, new) if any(a[p] != b[p] for p in positions)]
        if changed:
            await self.check(changed, run)


class InboundKey:
    """References from rows of a child table to the table that owns this."""

    def __init__(
        self,
        key: ForeignKeyDesc,
        parent: TableAccess,
        child: TableAccess,
        writer: TableWriter | None,
        defaults: RowsFunction | None,
    ) -> None:
        self.key = key
        self.parent = parent
        self.child = child
        self.writer = writer
        """Of the child table; None if the actions only refuse."""
        self.defaults = defaults
        """SET DEFAULT: one row of the referencing columns' defaults; None if they are all NULL."""
        self.parent_positions = [parent.position[attnum] for attnum in key.target_columns]
        self.child_positions = [child.position[attnum] for attnum in key.columns]
        self.index = self._child_index(child)

    def _child_index(self, access: TableAccess) -> IndexAccess | None:
        """An index whose leading columns are the referencing ones."""
        count = len(self.key.columns)
        for index in access.indexes:
            if (
                index.is_readable
                and not index.desc.predicate
                and sorted(index.named[:count]) == sorted(self.key.columns)
            ):
                return index
        return None

    def _values(self, rows: Rows) -> dict[Row, Row]:
        """Parent key values (no NULLs) to the parent row they come from."""
        found: dict[Row, Row] = {}
        for row in rows:
            values = tuple([row[position] for position in self.parent_positions])
            if None not in values:
                found[values] = row
        return found

    async def deleted(self, rows: Rows, run: Run) -> None:
        gone = self._values(rows)
        await self._react(gone, {}, self.key.on_delete, "delete", run)

    async def updated(self, old: Rows, new: Rows, run: Run) -> None:
        gone: dict[Row, Row] = {}
        moved: dict[Row, Row] = {}
        for before, after in zip(old, new):
            a = tuple([before[position] for position in self.parent_positions])
            b = tuple([after[position] for position in self.parent_positions])
            if a != b and None not in a:
                gone[a] = before
                moved[a] = b
        await self._react(gone, moved, self.key.on_update, "update", run)

    async def _react(self, gone: dict[Row, Row], moved: dict[Row, Row], action: str, event: str, run: Run) -> None:
        if not gone:
            return
        if action == "RESTRICT":
            await self._refuse(gone, run, may_be_back=False)
        elif action == "NO ACTION":
            check_later(self.child.desc.id, self.key, lambda later: self._refuse(gone, later), run)
        elif action == "CASCADE" and event == "delete":
            run.at_end.append(lambda: self._cascade_delete(gone, run))
        else:
            run.at_end.append(lambda: self._cascade_update(gone, moved, action, run))

    # --- finding children

    async def _children(self, values: list[Row], run: Run, limit: int = 0, lock: Lock = Lock.NONE) -> Rows:
        """Child rows that reference any of the parent keys."""
        return await (
            self._scan_index(values, run, limit, lock)
            if self.index is not None
            else self._scan_table(values, run, limit, lock)
        )

    async def _scan_index(self, values: list[Row], run: Run, limit: int, lock: Lock) -> Rows:
        assert self.index is not None
        order = [self.key.columns.index(attnum) for attnum in self.index.named[: len(self.key.columns)]]
        home = home_of(self.index, run)
        out: Rows = []
        for row in values:
            first = self.index.codec.encode_prefix([*home, *[row[i] for i in order]])
            for start in [first, *self.index.siblings(first)] if home else [first]:
                out += await self._scan_span(start, prefix_end(start), self.index, {row}, run, limit, lock)
            if limit and out:
                break
        return out

    async def _scan_table(self, values: list[Row], run: Run, limit: int, lock: Lock) -> Rows:
        primary = self.child.primary
        start, end = primary.span()
        return await self._scan_span(start, end, primary, set(values), run, limit, lock)

    async def _scan_span(
        self, start: bytes, end: bytes, index: IndexAccess, wanted: set[Row], run: Run, limit: int, lock: Lock
    ) -> Rows:
        access = self.child
        # Weaker isolation reads at an older snapshot: a locking read sees what was committed since.
        scan_lock = Lock.NONE if run.txn.isolation == Isolation.SERIALIZABLE else Lock.SHARE
        out: Rows = []
        while True:
            run.trips += 1
            page = run.txn.scan(start, end, limit=BATCH_ROWS, lock=scan_lock)
            if page.__class__ is not ScanResult:
                page = await page  # type: ignore[misc]
            assert isinstance(page, ScanResult)
            keys = [index.primary_key(key, value) for key, value in zip(page.keys, page.values)]
            found: list[Any] = list(page.values)
            if lock != Lock.NONE or not index.is_primary:
                found = await self._rows_of(keys, index, page.values, wanted, run, lock)
            for key, value in zip(keys, found):
                row = access.decode_row(key, value) if value is not None else None
                if row is not None and tuple([row[position] for position in self.child_positions]) in wanted:
                    out.append(row)
                    if limit and len(out) >= limit:
                        return out
            if page.resume is None:
                return out
            start = page.resume
            run.ctx.check_interrupt()

    async def _rows_of(
        self, keys: list[bytes], index: IndexAccess, values: list[bytes], wanted: set[Row], run: Run, lock: Lock
    ) -> list[Any]:
        """The rows of entries; of a whole-table scan only those that match are locked."""
        if not index.is_primary:
            return await get_many(run, keys, lock, Wait.BLOCK, b"")
        access = self.child
        matching = []
        for i, (key, value) in enumerate(zip(keys, values)):
            row = access.decode_row(key, value)
            if tuple([row[position] for position in self.child_positions]) in wanted:
                matching.append(i)
        found: list[Any] = [None] * len(keys)
        for i, value in zip(matching, await get_many(run, [keys[i] for i in matching], lock, Wait.BLOCK, b"")):
            found[i] = value
        return found

    # --- actions

    async def _refuse(self, gone: dict[Row, Row], run: Run, may_be_back: bool = True) -> None:
        """23503 if a child still references a key that is gone for good."""
        left = await self._absent(gone, run) if may_be_back else gone
        for values, row in left.items():
            if await self._children([values], run, limit=1):
                raise self._referenced(row, run.ctx)

    async def _absent(self, gone: dict[Row, Row], run: Run) -> dict[Row, Row]:
        """Those keys that no parent row has (again)."""
        index = unique_index(self.parent, self.key)
        order = [self.key.target_columns.index(attnum) for attnum in index.named]
        found = list(gone)
        home = home_of(index, run)
        keys = [index.unique_codec.encode([*home, *[values[i] for i in order]]) for values in found]
        present = await look_up(run, index, keys, Lock.NONE, b"")
        return {values: gone[values] for values, value in zip(found, present) if value is None}

    def _referenced(self, row: Row, ctx: ExecContext) -> MeridianError:
        parent, child = self.parent.desc.name, self.child.desc.name
        return error(
            "23503",
            f'update or delete on table "{parent}" violates foreign key constraint "{self.key.name}" on table "{child}"',
            detail=f'Key {key_text(self.parent, self.key.target_columns, row, ctx)} is still referenced from table "{child}".',
            schema=ctx.schema_name(self.child.desc.schema_id),
            table=child,
            constraint=self.key.name,
        )

    async def _cascade_delete(self, gone: dict[Row, Row], run: Run) -> None:
        assert self.writer is not None, self.key.name
        rows = await self._children(list(gone), run, lock=Lock.EXCLUSIVE)
        for at in range(0, len(rows), ROWS_PER_CASCADE):
            await self.writer.delete(rows[at : at + ROWS_PER_CASCADE], run)

    async def _cascade_update(self, gone: dict[Row, Row], moved: dict[Row, Row], action: str, run: Run) -> None:
        assert self.writer is not None, self.key.name
        rows = await self._children(list(gone), run, lock=Lock.EXCLUSIVE)
        for at in range(0, len(rows), ROWS_PER_CASCADE):
            old = rows[at : at + ROWS_PER_CASCADE]
            new = [self._with(row, await self._replacement(row, moved, action, run)) for row in old]
            await self.writer.update(old, await self.writer.complete(new, run), run)

    async def _replacement(self, row: Row, moved: dict[Row, Row], action: str, run: Run) -> Row:
        if action == "CASCADE":
            return moved[tuple([row[position] for position in self.child_positions])]
        if action == "SET DEFAULT" and self.defaults is not None:
            return (await evaluate(self.defaults, [()], run))[0]
        return (None,) * len(self.child_positions)

    def _with(self, row: Row, values: Row) -> Row:
        new = list(row)
        for position, value in zip(self.child_positions, values):
            new[position] = value
        return tuple(new)


def unsupported_default(table: str, column: str) -> MeridianError:
    """SET DEFAULT needs the bound default expression of every referencing column."""
    return FeatureNotSupported(f'SET DEFAULT of column "{column}" of table "{table}" by a foreign key')
