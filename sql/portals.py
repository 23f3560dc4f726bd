"""Prepared statements and portals.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from base.typeio import IoSettings
from base.types import PgType
from planner.context import ExecContext
from sql.api import Portal, Prepared, ResultColumn
from sql.controls import Control
from sql.parse import ParsedStatement
from sql.plancache import PlanEntry
from txn.transaction import Txn

BATCH_ROWS: Final = 1024
NO_ROWS: Final[list[tuple[Any, ...]]] = []
"""What a portal's lists are at first; they are replaced, never changed."""


class PreparedStatement(Prepared):
    """A statement given to Parse or PREPARE."""

    def __init__(
        self,
        name: str,
        sql: str,
        parsed: ParsedStatement | None,
        declared_types: tuple[PgType | None, ...],
        param_types: tuple[PgType, ...],
        columns: tuple[ResultColumn, ...] | None,
        entry: PlanEntry | None,
    ) -> None:
        self.name = name
        self.sql = sql
        self.parsed = parsed
        self.declared_types = declared_types
        self.param_types = param_types
        self.columns = columns
        self.entry = entry
        self.decoders: dict[tuple[int, ...], list[Callable[[bytes], Any]]] = {}
        """Parameter decoders by the format codes of Bind."""
        self.decoder_settings: IoSettings | None = None
        self.from_sql = False
        """Made by PREPARE rather than by Parse (pg_prepared_statements.from_sql)."""
        self.prepared_us = 0
        self.control: Control | None = None

    def use(self, entry: PlanEntry) -> None:
        """Takes a newer plan of the same shape."""
        self.entry = entry
        self.param_types = entry.param_types
        self.decoders.clear()


class QueryPortal(Portal):
    """A statement with its parameters; while it runs, its cursor."""

    def __init__(
        self,
        name: str,
        parsed: ParsedStatement | None,
        entry: PlanEntry | None,
        params: tuple[Any, ...],
        columns: tuple[ResultColumn, ...] | None,
        formats: tuple[int, ...],
        prepared: Prepared | None = None,
    ) -> None:
        self.name = name
        self.parsed = parsed
        self.entry = entry
        self.params = params
        self.columns = entry.columns if entry is not None else columns
        self.formats = formats
        self.pending: list[tuple[Any, ...]] = NO_ROWS
        """Rows produced and not yet asked for."""
        self.seen: list[tuple[Any, ...]] = NO_ROWS
        """Rows already fetched from a cursor that may still be scrolled back."""
        if prepared is not None:
            self.prepared = prepared

    is_started = False
    is_done = False
    must_describe = False
    """Simple protocol: RowDescription is still to be sent, before the first row or the tag."""
    sent_now = 0
    """Rows given by the current Execute."""
    cursor: Any = None
    affected = 0
    # DECLARE CURSOR only:
    is_holdable = False
    is_held = False
    held_before = False
    is_scroll = False
    rows: list[tuple[Any, ...]] | None = None
    """All rows, once a scrollable or held cursor was read through."""
    position = 0
    """The row a cursor stands on, from 1; 0 is before the first."""
    current: tuple[Any, ...] | None = None
    """The row an SQL cursor stands on, with its keys (``Statement.keys``): what WHERE CURRENT OF means."""
    created_us = 0

    @property
    def sql(self) -> str:
        """The statement's text."""
        return self.parsed.text if self.parsed is not None else self.entry.sql if self.entry is not None else ""

    async def open(self, txn: Txn, context: ExecContext) -> None:
        """Starts the plan."""
        assert self.entry is not None
        self.is_started = True
        fast = self.entry.fast
        rows: Any = None
        if fast is not None:
            rows = fast.run(txn, self.params, context)
            if rows is not None and rows.__class__ is not list:
                rows = await rows
        if fast is not None and rows is not None:
            self.affected = fast.affected(rows) if not self.entry.read_only else 0
            self.pending = rows if self.columns is not None else []
            self.is_done = True
            return
        self.cursor = self.entry.plan.open(txn, self.params, context)

    async def next_rows(self, max_rows: int) -> list[tuple[Any, ...]]:
        """Returns at most ``max_rows`` rows (0: a batch); [] at the end."""
        if self.pending:
            rows = self.pending
            if max_rows and len(rows) > max_rows:
                self.pending = rows[max_rows:]
                return rows[:max_rows]
            self.pending = []
            return rows
        if self.is_done:
            return []
        fetched = self.cursor.fetch(max_rows)
        rows = fetched if fetched.__class__ is list else await fetched
        if not rows:
            self.is_done = True
            self.affected = self.cursor.affected
        elif max_rows and len(rows) > max_rows:
            self.pending = rows[max_rows:]
            rows = rows[:max_rows]
        return rows

    def count(self, rows: int) -> None:
        self.sent_now += rows

    def tag(self) -> str:
        """The command tag (protocol chapter 55.7, CommandComplete)."""
        assert self.entry is not None
        command = self.entry.command
        if command == "SELECT":
            return f"SELECT {self.sent_now}"
        if command == "INSERT":
            return f"INSERT 0 {self.affected}"
        return f"{command} {self.affected}"

    def finish(self) -> None:
        """The end was reached."""
        self.sent_now = 0
        if self.cursor is not None:
            self.cursor.close()

    def reset(self) -> None:
        """Makes the portal run from its beginning again."""
        self.close()
        self.is_started = self.is_done = False
        self.sent_now = self.affected = 0
        self.pending = []

    def close(self) -> None:
        if self.cursor is not None:
            self.cursor.close()
            self.cursor = None

    # --- SQL cursors -----------------------------------------------------------

    def is_open_on(self, table_id: int) -> bool:
        """True while the portal may read more rows of a table; an SQL cursor counts until it is closed."""
        if self.is_held or self.entry is None or not (self.created_us or self.is_running):
            return False
        return table_id in self.entry.statement.tables

    @property
    def is_running(self) -> bool:
        """True between the plan's start and its end."""
        return self.cursor is not None and not self.is_done

    async def settle(self) -> None:
        """Reads the rest before something changes what would be read."""
        rows = list(self.pending)
        self.pending = []
        while not self.is_done:
            rows.extend(await self.next_rows(0))
        self.pending = rows

    async def hold(self) -> None:
        """Reads the rest, so that the cursor outlives its transaction."""
        await self.materialise()
        self.is_held = True
        self.close()

    async def materialise(self) -> None:
        """Keeps all rows, for backward fetches and for WITH HOLD."""
        if self.rows is not None:
            return
        rows = list(self.seen)
        if not self.is_scroll:
            # Not scrollable: what was fetched is forgotten.
            self.position = 0
        self.seen = []
        while True:
            batch = await self.next_rows(0)
            if not batch:
                break
            rows.extend(batch)
        self.rows = rows
