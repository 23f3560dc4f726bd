"""The fast path of a session: BEGIN, COMMIT and their like, and compiled statements, with nothing awaited.

What has to wait, or meets a conflict, goes on in full dress in ``sql.session``.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any

from base.eager import Eager
from base.errors import MeridianError, Retryable
from base.typeio import IoSettings
from planner.exec.fast import FORMATS_MAX, EncodedRows, EncodingRun, FastPlan
from sql.api import ResultColumn, RowEncoder, SessionApi, Sink
from sql.catalog.state import CatalogState
from sql.context import SessionContext
from sql.controls import BEGIN, COMMIT, RELEASE, ROLLBACK, ROLLBACK_TO, SAVEPOINT, Control
from sql.plancache import PlanEntry
from sql.portals import QueryPortal
from sql.settings import Settings
from sql.transactions import TransactionBlock

if TYPE_CHECKING:
    from sql.server import SqlServer


class FastPath(SessionApi):
    """The part of a Session that answers at once; the attributes are the session's own."""

    block: TransactionBlock
    context: SessionContext
    has_cursors: bool
    io: IoSettings
    is_committing: bool
    pipeline: list[tuple[QueryPortal, int]]
    server: SqlServer
    settings: Settings
    sink: Sink
    statement_timeout_ms: int
    statements_done: int

    @property
    @abstractmethod
    def is_read_only(self) -> bool: ...

    @abstractmethod
    def state(self) -> CatalogState: ...

    @abstractmethod
    async def _execute(self, portal: QueryPortal, max_rows: int) -> None: ...

    @abstractmethod
    async def _simple_entry(self, entry: PlanEntry, params: tuple[Any, ...]) -> None: ...

    @abstractmethod
    async def _simple_text(self, sql: str) -> None: ...

    @abstractmethod
    async def _prepare_retry(self, error: Retryable, position: int, is_first: bool, at_commit: bool) -> bool: ...

    @abstractmethod
    def _encoder(self, portal: QueryPortal) -> RowEncoder: ...

    @abstractmethod
    def output_io(self, columns: Sequence[ResultColumn]) -> IoSettings: ...

    # --- controls, simple statements -------------------------------------------------

    def _may_control(self, control: Control) -> bool:
        """True where a control needs nothing but itself: neither a warning nor an error, no hooks of the commit."""
        block = self.block
        kind = control.kind
        if kind == BEGIN:
            return block.status == "I" and block.txn is None
        if block.is_implicit:
            return False
        if kind == ROLLBACK:
            return block.can_roll_back_now()
        if kind == ROLLBACK_TO:
            return True
        return block.status == "T" and (kind != COMMIT or block.txn is None or block.can_commit_now())

    def _control(self, control: Control) -> Eager[None]:
        """BEGIN, COMMIT and the like without ceremony: every transaction has some."""
        pending = self._run_control(control)
        if pending is None:
            self.sink.complete(control.tag)
            return None
        return self._finish_control(control, pending)

    async def _finish_control(self, control: Control, pending: Awaitable[None]) -> None:
        await pending
        self.sink.complete(control.tag)

    def _run_control(self, control: Control) -> Eager[None]:
        block = self.block
        self.server.statements += 1
        self.context.begin_statement(0)
        kind = control.kind
        if kind == BEGIN:
            block.begin(control.modes)
            return None
        if kind == COMMIT:
            return self._commit_block()
        if kind == ROLLBACK:
            released = None if block.txn is None else block.txn.rollback()
            if released is not None:
                return self._rollback_pending(released)
            block.finish_rollback()
            return None
        if kind == SAVEPOINT:
            block.savepoint(control.name)
        elif kind == RELEASE:
            block.release(control.name)
        else:
            block.rollback_to(control.name)
        self.statements_done += 1
        return None

    def _commit_block(self) -> Eager[None]:
        block = self.block
        if block.txn is None:
            block.finish_commit(0)
            return None
        try:
            committed = block.txn.commit()
        except MeridianError as error:
            return self._control_failed(error)
        if committed.__class__ is int:
            block.finish_commit(committed)
            return None
        return self._control_pending(committed)  # type: ignore[arg-type]  # awaitable

    async def _rollback_pending(self, released: Awaitable[None]) -> None:
        """A cancel request that comes now must not leave locks behind."""
        self.is_committing = True
        try:
            await released
        finally:
            self.is_committing = False
        self.block.finish_rollback()

    async def _control_pending(self, pending: Awaitable[int]) -> None:
        self.is_committing = True
        try:
            committed = await pending
        except MeridianError:
            await self.block.rollback()
            raise
        finally:
            self.is_committing = False
        self.block.finish_commit(committed)

    async def _control_failed(self, error: MeridianError) -> None:
        """The commit failed at once: the client knows results of the block, so it is told, and the block is over."""
        await self.block.rollback()
        raise error

    def _simple_fast(self, entry: PlanEntry, params: tuple[Any, ...]) -> Eager[None]:
        """A compiled statement of the simple protocol, with its commit outside a block."""
        position = self.sink.position()
        portal = QueryPortal("", None, entry, params, (), ())
        try:
            rows = self._run_fast(portal, entry)
            if rows.__class__ is not list and rows.__class__ is not EncodedRows:
                return self._simple_slowly(portal, rows, position)
            if entry.columns is not None:
                self.sink.describe(entry.columns, ())
            self._send_fast(portal, entry, rows)
            self.statements_done += 1
            block = self.block
            if not block.is_implicit:
                return None
            if not block.can_commit_now():
                return self._simple_commit(portal, position, None)
            assert block.txn is not None
            committed = block.txn.commit()
        except Retryable as error:
            return self._simple_retry(portal, position, error)
        if committed.__class__ is int:
            block.finish_commit(committed)
            return None
        return self._simple_commit(portal, position, committed)  # type: ignore[arg-type]  # awaitable

    async def _simple_slowly(self, portal: QueryPortal, pending: Any, position: int) -> None:
        entry = portal.entry
        assert entry is not None
        try:
            rows = None if pending is None else await pending
        except Retryable as error:
            await self._simple_retry(portal, position, error)
            return
        if rows is None:
            await self._simple_entry(entry, portal.params)
            return
        if entry.columns is not None:
            self.sink.describe(entry.columns, ())
        self._send_fast(portal, entry, rows)
        self.statements_done += 1
        if self.block.is_implicit:
            await self._simple_commit(portal, position, None)

    async def _simple_commit(self, portal: QueryPortal, position: int, pending: Awaitable[int] | None) -> None:
        try:
            if pending is None:
                await self.block.commit()
                return
            self.is_committing = True
            try:
                committed = await pending
            finally:
                self.is_committing = False
            self.block.finish_commit(committed)
        except Retryable as error:
            await self._simple_retry(portal, position, error)

    async def _simple_retry(self, portal: QueryPortal, position: int, error: Retryable) -> None:
        entry = portal.entry
        assert entry is not None
        # Outside a block the statement, and the commit that may have failed, are all there is.
        at_commit = self.block.is_implicit and self.statements_done > 0
        is_first = self.block.is_implicit or self.statements_done == 0
        if not await self._prepare_retry(error, position, is_first, at_commit):
            if self.block.is_implicit and self.block.is_open:
                await self.block.rollback()
            raise error
        await self._simple_entry(entry, portal.params)

    # --- compiled statements -----------------------------------------------------

    def _may_go_fast(self, entry: PlanEntry) -> bool:
        """True where a compiled statement needs no lock, no newer snapshot and no waiting before it runs."""
        block = self.block
        if block.status == "E" or entry.generation != self.state().generation or self.server.catalog.moving:
            return False
        if not entry.read_only:
            if self.has_cursors or self.is_read_only:
                return False
            locked = block.locked_tables
            for table_id in entry.write_tables:
                if table_id not in locked:
                    if not self.server.table_locks.try_write(self, table_id):
                        return False
                    locked[table_id] = None
        txn = block.txn
        return txn is None or not txn.read_ts or entry.modified_ts < txn.read_ts

    def _run_fast(self, portal: QueryPortal, entry: PlanEntry) -> Any:
        """Runs a compiled statement: its rows, encoded or not, None, or an awaitable."""
        fast = entry.fast
        assert fast is not None, entry.sql
        run = self._encoding_run(fast, portal, entry) if fast.encodes else fast.run
        block = self.block
        block.entry = entry
        txn = block.txn
        if txn is None:
            txn = block.start()
        self.server.statements += 1
        context = self.context
        context.begin_statement(self.statement_timeout_ms)
        txn.begin_statement()
        return run(txn, portal.params, context)

    def _encoding_run(self, fast: FastPlan, portal: QueryPortal, entry: PlanEntry) -> EncodingRun:
        """The plan's form that encodes its rows, kept on the entry while the session prints the same way."""
        kept = entry.runs.get(portal.formats)
        if kept is not None and kept[0] is self.io:
            return kept[1]
        columns = entry.columns
        assert columns is not None, entry.sql
        format = self.sink.row_format(columns, portal.formats, self.output_io(columns))
        if format is None:
            return fast.run
        run = fast.encoded(format)
        if len(entry.runs) >= FORMATS_MAX:
            entry.runs.clear()
        entry.runs[portal.formats] = (self.io, run)
        return run

    def _execute_fast(self, portal: QueryPortal, entry: PlanEntry) -> Eager[None]:
        try:
            rows = self._run_fast(portal, entry)
        except Retryable as error:
            return self._after_conflict(portal, error)
        if rows.__class__ is not list and rows.__class__ is not EncodedRows:
            return self._execute_slowly(portal, rows)
        self._send_fast(portal, entry, rows)
        self.statements_done += 1
        if self.block.is_implicit:
            self.pipeline.append((portal, 0))
        return None

    def _send_fast(self, portal: QueryPortal, entry: PlanEntry, rows: list[tuple[Any, ...]] | EncodedRows) -> None:
        """Puts out a compiled statement's rows and tag."""
        portal.is_started = portal.is_done = True
        sink = self.sink
        if isinstance(rows, EncodedRows):
            if rows.count:
                sink.rows(rows.data, rows.count)
            sink.complete(f"{entry.command} {rows.count}")
            return
        count = len(rows)
        if entry.columns is None:
            sink.complete(entry.tag + str(count))
            return
        if count:
            encode = self._fast_encoder(portal, entry)
            sink.rows(encode(rows[0]) if count == 1 else b"".join([encode(row) for row in rows]), count)
        sink.complete(entry.tag + str(count))

    def _fast_encoder(self, portal: QueryPortal, entry: PlanEntry) -> RowEncoder:
        """The encoder of a plan's result, kept on the plan while the session prints the same way."""
        kept = entry.encoders.get(portal.formats)
        if kept is not None and kept[0] is self.io:
            return kept[1]
        encode = self._encoder(portal)
        entry.encoders[portal.formats] = (self.io, encode)
        return encode

    async def _execute_slowly(self, portal: QueryPortal, pending: Any) -> None:
        """A compiled statement that has to wait, or cannot answer in one page."""
        try:
            rows = None if pending is None else await pending
        except Retryable as error:
            await self._after_conflict(portal, error)
            return
        if rows is None:
            await self._execute(portal, 0)
            return
        entry = portal.entry
        assert entry is not None
        self._send_fast(portal, entry, rows)
        self.statements_done += 1
        if self.block.is_implicit:
            self.pipeline.append((portal, 0))

    async def _after_conflict(self, portal: QueryPortal, error: Retryable) -> None:
        """A compiled statement met a conflict: prepares the transaction and runs it again in full dress."""
        if not await self._prepare_retry(error, self.sink.position(), self.statements_done == 0, at_commit=False):
            raise error
        await self._execute(portal, 0)
