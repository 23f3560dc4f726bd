"""One client's session: statements in, results out (see ``sql.api``).

    simple_query --> parse --> for each statement: run --> end of the implicit block
    parse / bind / execute ... sync                    --> end of the implicit block

A statement that is a query or DML goes through the plan cache to a plan; everything else is a *command*, run by
the handler its class is registered with in ``sql.commands``.

Retries: a Retryable error never reaches the client while nothing of the transaction was told to it. A single
statement (with its commit, if the block is implicit) is taken back from the output buffer (``Sink.rewind``) and run
again; under READ COMMITTED that holds for every statement. Otherwise the client gets 40001.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from base.eager import Eager
from base.errors import Deadlock, MeridianError, QueryCanceled, Retryable, SqlError
from base.typeio import IoSettings, binary_decoder, text_decoder
from base.types import PgType
from kvtier.messages import Isolation
from kvtier.replication.crossings import UNLIMITED
from planner.exec.deferral import is_deferred
from planner.schema import DatabaseDesc
from sql import commands, temporary
from sql.analyze import Analyzer
from sql.api import Portal, Prepared, ResultColumn, RowEncoder, Sink
from sql.asof import as_of_timestamp, was_changed
from sql.calls import CallPath, KnownCall
from sql.catalog.state import CatalogState, RoleDesc
from sql.conflicts import explain as explain_conflict
from sql.context import SessionContext
from sql.controls import control_of
from sql.parse import ParsedStatement, lift_literals, parse
from sql.parse import statements as ast
from sql.parse.shapes import Shape
from sql.plancache import PlanEntry
from sql.portals import PreparedStatement, QueryPortal
from sql.regnames import SessionRegs
from sql.settings import Settings, into_bytes, into_ms, split_search_path
from sql.transactions import TransactionBlock
from sql.view import SessionView

if TYPE_CHECKING:
    from sql.server import SqlServer

UNLIFTABLE_MAX: Final = 1_000
RETRIES_MAX: Final = 50
MOVE_POLL_SECONDS: Final = 0.001
"""Times a statement or transaction is run again before the client is told of the conflict."""
STATEMENTS_MAX: Final = 10_000
"""Prepared statements (and portals) of one session."""


class Session(CallPath):
    """See the module docstring."""

    def __init__(
        self, server: SqlServer, pid: int, cancel_key: bytes, role: RoleDesc, database: DatabaseDesc, sink: Sink
    ) -> None:
        self.server = server
        self.pid = pid
        self.cancel_key = cancel_key
        self.interrupt: Callable[[MeridianError], None] | None = None
        self.login_user = role.name
        self.user = role.name
        self.database = database.name
        self.database_id = database.id
        self.sink = sink
        self.started_us = server.clock.wall_ns() // 1000
        self.settings = Settings(server.defaults, sink.parameter_status, self._zone_name)
        self.settings.set("is_superuser", "on" if role.superuser else "off", force=True)
        self.settings.set("session_authorization", role.name, force=True)
        self.context = SessionContext(self)
        self.regs = SessionRegs(self)
        self.io = self.named_io = IoSettings()
        self.lock_timeout_ms = 0
        self.max_wan_hops = UNLIMITED
        """Most round trips between regions that one statement may need."""
        self.has_idle_timeout = False
        self.statement_timeout_ms = 0
        self.block = TransactionBlock(self)
        self.statements: dict[str, PreparedStatement] = {}
        self.portals: dict[str, QueryPortal] = {}
        self.refilled: dict[int, int] = {}
        self.queries: dict[Shape, KnownCall] = {}
        self.unliftable: dict[Any, None] = {}
        """Shapes of simple statements that do not bind with their literals taken out."""
        self.granted: dict[tuple[int, ...], bool] = {}
        """Advisory locks that a running statement waited for and got."""
        self.has_txn_advisory = False
        self.has_holdable = False
        """A cursor WITH HOLD is open: a commit must read it to its end."""
        self.is_many = False
        """A Query of several statements runs: they share one implicit block."""
        self.has_on_commit = False
        """A temporary table was made whose ON COMMIT a commit must do."""
        self.temp_schema_id = 0
        """The schema of this session's temporary objects, if it ever made one: plans depend on it."""
        self.has_cursors = False
        """Portals may be open that have not given all their rows: a write must settle them first."""
        self.pending_listens: list[tuple[bool, str | None]] = []
        """LISTEN (True) and UNLISTEN of the transaction, in order; None is every channel."""
        self.pending_notifications: list[tuple[str, str]] = []
        self.is_committing = False
        """The end of a transaction, either way, waits: it is not to be interrupted."""
        self.statements_done = 0
        """Statements of the current transaction that ended well; the client may know their results."""
        self.pipeline: list[tuple[QueryPortal, int]] = []
        """Portals executed since the last Sync in an implicit block, to run them again after a 40001."""
        self.pipeline_start = 0
        self.current_query = ""
        self._view: SessionView | None = None
        self._settings_applied: tuple[str, ...] = ()
        self.apply_settings()

    def is_running(self) -> bool:
        """True while a statement of this session waits or runs."""
        return self.interrupt is not None

    # --- state -----------------------------------------------------------------

    @property
    def transaction_status(self) -> str:
        block = self.block
        return "I" if block.is_implicit and block.status != "E" else block.status

    @property
    def known_as(self) -> bytes:
        """The id of its transaction in the storage tier; b"" if it has none."""
        txn = self.block.txn
        return b"" if txn is None else txn.known_as

    @property
    def is_read_only(self) -> bool:
        """True if the transaction, or the one about to start, may not write."""
        block = self.block
        is_starting = block.txn is None and block.status == "I"
        return self.settings["default_transaction_read_only" if is_starting else "transaction_read_only"] == "on"

    @property
    def is_in_block(self) -> bool:
        """True in a transaction block, also the implicit one of a Query with several statements."""
        return self.is_many or self.transaction_status != "I"

    def state(self) -> CatalogState:
        """The catalog this session sees: with its own uncommitted DDL, or as it was where it reads the past."""
        block = self.block
        draft = block.draft
        if draft is not None:
            return draft.state
        past = block.past
        return self.server.catalog.state if past is None else past

    def view(self) -> SessionView:
        """Names resolved by this session's database, search path and role."""
        state = self.state()
        view = self._view
        if view is None or view.state is not state:
            view = self._view = SessionView(self, state)
        return view

    def setting(self, name: str) -> str | None:
        return self.settings.get(name)

    def set_parameter(self, name: str, value: str, is_local: bool = False) -> str:
        """SET, set_config(): checks, stores and applies."""
        lowered = name.lower()
        if lowered in ("transaction_isolation", "transaction_read_only", "transaction_deferrable"):
            key = {"transaction_isolation": "isolation", "transaction_read_only": "read_only"}.get(
                lowered, "deferrable"
            )
            self.block.set_modes({key: value.lower()})
            return value
        if lowered == "session_replication_role" and not self.view().is_superuser():
            raise SqlError(f'permission denied to set parameter "{lowered}"', sqlstate="42501")
        value = self.settings.set(name, value, is_local)
        self.apply_settings()
        return value

    def apply_settings(self) -> None:
        """Derives what the hot paths read from the parameters."""
        settings = self.settings
        self.lock_timeout_ms = into_ms(settings["lock_timeout"])
        self.statement_timeout_ms = into_ms(settings["statement_timeout"])
        self.max_wan_hops = int(settings["meridian.max_wan_hops"])
        self.has_idle_timeout = (
            settings["idle_session_timeout"] != "0" or settings["idle_in_transaction_session_timeout"] != "0"
        )
        self.context.memory_limit = into_bytes(settings["work_mem"]) * 16
        key = settings.plan_key
        if key == self._settings_applied:
            return
        self._settings_applied = key
        self._view = None
        self.context.timezone = settings["timezone"]
        path = split_search_path(settings["search_path"])
        self.context.search_path = tuple(self.user if name == "$user" else name for name in path)
        self.io = IoSettings(
            datestyle=settings["datestyle"],
            intervalstyle=settings["intervalstyle"],
            timezone=settings["timezone"],
            extra_float_digits=int(settings["extra_float_digits"]),
            bytea_output=settings["bytea_output"],
        )
        self.named_io = self.io._replace(regs=self.regs)

    def apply_startup_options(self, options: dict[str, str]) -> None:
        """Parameters of the startup packet, role and database; they become what RESET goes back to."""
        for name, value in options.items():
            self.settings.set_default(name, value)
        self.apply_settings()

    def plan_scope(self) -> tuple[Any, ...]:
        """What a plan depends on besides its text: database, role, settings."""
        return (self.database_id, self.user, self._settings_applied, self.temp_schema_id)

    def plan_settings(self) -> Settings:
        """Parameters the planner reads (enable_seqscan...)."""
        return self.settings

    def literal_io(self) -> IoSettings:
        """How literals are read: with names for the reg* types."""
        return self.named_io

    def output_io(self, columns: Sequence[ResultColumn]) -> IoSettings:
        """How a result is printed; only reg* columns need the catalog, and only they keep encoders per session."""
        if any([column.type.name.startswith("reg") or column.type.name.startswith("_reg") for column in columns]):
            return self.literal_io()
        return self.io

    def remember_unliftable(self, key: Any) -> None:
        if len(self.unliftable) >= UNLIFTABLE_MAX:
            self.unliftable.clear()
        self.unliftable[key] = None

    def notice(self, severity: str, error: MeridianError) -> None:
        if severity in ("NOTICE", "INFO") and self.settings["client_min_messages"] in ("warning", "error"):
            return
        if severity == "WARNING" and self.settings["client_min_messages"] == "error":
            return
        self.sink.notice(severity, error)

    def _zone_name(self, value: str) -> str | None:
        from base.typeio.datetime import canonical_zone

        return canonical_zone(value)

    # --- simple protocol -------------------------------------------------------

    def simple_query(self, sql: str, sink: Sink) -> Eager[None]:
        self.current_query = sql
        control = self.server.controls.get(sql)
        if control is not None and self._may_control(control):
            return self._control(control)
        entry, params = self._lifted(sql)
        if entry is None:
            return self._simple_text(sql)
        if entry.fast is not None and self._may_go_fast(entry):
            return self._simple_fast(entry, params)
        return self._simple_entry(entry, params)

    def _lifted(self, sql: str) -> tuple[PlanEntry | None, tuple[Any, ...]]:
        """Finds the plan of a statement whose shape (literals taken out) was planned before."""
        if self.block.status == "E":
            return None, ()
        lifted = lift_literals(sql)
        if lifted is None:
            return None, ()
        return Analyzer(self).lifted_entry(lifted)

    def plan_of(self, shape: Shape, values: list[str]) -> PlanEntry | None:
        return Analyzer(self).lifted_entry((shape.text, list(zip(shape.names, values))))[0]

    async def _simple_entry(self, entry: PlanEntry, params: tuple[Any, ...]) -> None:
        portal = QueryPortal("", None, entry, params, (), ())
        await self._run_unit(lambda: self._describe_and_run(portal), commit=self.block.is_implicit)

    async def _describe_and_run(self, portal: QueryPortal) -> None:
        portal.must_describe = portal.columns is not None
        await self._run_whole(portal, 0)

    async def _run_whole(self, portal: QueryPortal, max_rows: int) -> None:
        """Runs a portal from its beginning, whatever became of an earlier attempt."""
        if portal.is_started:
            portal.reset()
        await self.run_portal(portal, max_rows)

    async def _simple_text(self, sql: str) -> None:
        if self.server.agreement is not None:
            await self.server.agreement.before_names()
        statements = parse(sql)
        if not statements:
            self.sink.empty()
            return
        if len(statements) == 1:
            self.server.remember_control(sql, statements[0].statement)
        alone = len(statements) == 1
        self.is_many = not alone
        try:
            for statement in statements:
                await self._simple_statement(statement, alone)
        finally:
            self.is_many = False
        if self.block.is_implicit and self.block.has_something:
            await self.block.commit()

    async def _simple_statement(self, parsed: ParsedStatement, alone: bool) -> None:
        self._refuse_in_failed(parsed)
        handler = commands.find(parsed.statement)
        if handler is not None:
            await self._run_unit(lambda: self._run_command(handler, parsed), commit=alone and self.block.is_implicit)
            return

        async def plan_and_run() -> None:
            entry = await Analyzer(self).entry(parsed, ())
            if entry.param_types:
                raise SqlError("there is no parameter $1", sqlstate="42P02")
            await self._describe_and_run(QueryPortal("", parsed, entry, (), (), ()))

        await self._run_unit(plan_and_run, commit=alone and self.block.is_implicit)

    async def _run_command(self, handler: Any, parsed: ParsedStatement) -> None:
        self.begin_statement()
        commands.refuse_if_read_only(self, parsed.statement)
        columns = commands.columns_of(self, parsed.statement)
        portal = QueryPortal("", parsed, None, (), columns, ())
        portal.must_describe = columns is not None
        await handler(self, parsed.statement, portal)

    # --- running with retries --------------------------------------------------

    async def _run_unit(self, run: Callable[[], Awaitable[None]], commit: bool) -> None:
        """Runs one statement, and commits after it if asked, again and again while that is invisible to the client."""
        attempts = 0
        is_first = self.statements_done == 0
        while True:
            position = self.sink.position()
            at_commit = False
            try:
                await run()
                self.statements_done += 1
                if commit and self.block.is_implicit and self.block.has_something:
                    at_commit = True
                    await self._commit_alone(position)
                return
            except Retryable as error:
                attempts += 1
                if attempts > RETRIES_MAX or not await self._prepare_retry(error, position, is_first, at_commit):
                    raise

    async def _commit_alone(self, position: int) -> None:
        """Commits a statement that is its own transaction; its tag is not told before (a deferred check may fail)."""
        try:
            await self.block.commit()
        except Retryable:
            raise
        except MeridianError:
            self.sink.rewind(position)
            raise

    async def _prepare_retry(self, error: Retryable, position: int, is_first: bool, at_commit: bool) -> bool:
        """Makes the transaction ready to run again what failed; False if the client must be told.

        ``is_first``: what failed is all that the transaction did, so that the whole of it can start anew. Under READ
        COMMITTED a statement (not a commit) can be run again by itself, whatever came before it.
        """
        block = self.block
        txn = block.txn
        if txn is None or not self.sink.rewind(position):
            return False
        agreement = self.server.agreement
        if agreement is not None:
            await agreement.before_retry(error)
        is_victim = isinstance(error, Deadlock)
        is_over = is_first and (txn.is_lapsed() or (is_victim and block.is_implicit))
        if not is_over and txn.isolation is Isolation.READ_COMMITTED and not at_commit and block.draft is None:
            again = txn.retry_statement(error)
        elif is_first:
            if is_over or is_victim or error.reason == "fence_lost":
                block.unlock()
            again = txn.restart(error)
        else:
            return False
        if not isinstance(again, bool):
            again = await again
        if again:
            self.server.retries += 1
            if is_first:
                self.statements_done = 0
                block.draft = block.base = None
                block.past = None
        return again

    def may_run_again(self) -> bool:
        """True while a failed commit may still be run again with all that the transaction did."""
        return self.block.is_implicit

    def begin_statement(self) -> None:
        """Stamps the statement and starts it in the transaction, if one is open."""
        self.server.statements += 1
        self.context.begin_statement(self.statement_timeout_ms)
        txn = self.block.txn
        if txn is not None:
            txn.begin_statement()

    def _refuse_in_failed(self, parsed: ParsedStatement | None) -> None:
        if self.block.status == "E" and (parsed is None or not commands.ends_transaction(parsed.statement)):
            raise SqlError(
                "current transaction is aborted, commands ignored until end of transaction block", sqlstate="25P02"
            )

    # --- extended protocol -----------------------------------------------------

    def parse(self, name: str, sql: str, param_oids: Sequence[int]) -> Eager[None]:
        return self._parse(name, sql, tuple(param_oids))

    async def _parse(self, name: str, sql: str, param_oids: tuple[int, ...]) -> None:
        if name and name in self.statements:
            raise SqlError(f'prepared statement "{name}" already exists', sqlstate="42P05")
        if len(self.statements) >= STATEMENTS_MAX:
            raise SqlError("too many prepared statements", sqlstate="54000")
        if self.server.agreement is not None:
            await self.server.agreement.before_names()
        statements = parse(sql)
        if len(statements) > 1:
            raise SqlError("cannot insert multiple commands into a prepared statement", sqlstate="42601")
        parsed = statements[0] if statements else None
        if parsed is not None:
            self._refuse_in_failed(parsed)
            self.server.remember_control(parsed.text, parsed.statement)
        self.statements[name] = await self.prepare(name, sql, parsed, self._types(param_oids))

    def _types(self, oids: Sequence[int]) -> tuple[PgType | None, ...]:
        types: list[PgType | None] = []
        for oid in oids:
            pg_type = self.state().type_by_oid(oid) if oid not in (0, 705) else None
            if pg_type is None and oid not in (0, 705):
                raise SqlError(f"type with OID {oid} does not exist", sqlstate="42704")
            types.append(pg_type)
        return tuple(types)

    async def prepare(
        self, name: str, sql: str, parsed: ParsedStatement | None, types: tuple[PgType | None, ...]
    ) -> PreparedStatement:
        """Analyses a statement: parameter types and result columns (also for SQL-level PREPARE)."""
        if parsed is None:
            return PreparedStatement(name, sql, None, types, (), None, None)
        if commands.find(parsed.statement) is not None:
            params = tuple(t for t in types if t is not None)
            columns = commands.columns_of(self, parsed.statement)
            prepared = PreparedStatement(name, sql, parsed, types, params, columns, None)
            prepared.control = control_of(parsed.statement)
            return prepared
        entry = await Analyzer(self).entry(parsed, types)
        return PreparedStatement(name, sql, parsed, types, entry.param_types, entry.columns, entry)

    def bind(
        self,
        portal: str,
        statement: str,
        param_formats: Sequence[int],
        params: Sequence[bytes | None],
        result_formats: Sequence[int],
    ) -> Eager[None]:
        prepared = self.statements.get(statement)
        if prepared is None:
            raise SqlError(
                f'prepared statement "{statement}" does not exist'
                if statement
                else "unnamed prepared statement does not exist",
                sqlstate="26000",
            )
        if portal and portal in self.portals:
            raise SqlError(f'cursor "{portal}" already exists', sqlstate="42P03")
        if len(self.portals) >= STATEMENTS_MAX:
            raise SqlError("too many portals", sqlstate="54000")
        if self.block.status == "E":
            self._refuse_in_failed(prepared.parsed)
        entry = prepared.entry
        if entry is not None and entry.generation != self.state().generation:
            return self._rebind(portal, prepared, param_formats, params, result_formats)
        self._bind(portal, prepared, param_formats, params, result_formats)
        return None

    async def _rebind(
        self,
        portal: str,
        prepared: PreparedStatement,
        param_formats: Sequence[int],
        params: Sequence[bytes | None],
        result_formats: Sequence[int],
    ) -> None:
        """The catalog changed since Parse: plan again; the result must keep its shape (reliability 90)."""
        await self.current_entry(prepared)
        self._bind(portal, prepared, param_formats, params, result_formats)

    def _bind(
        self,
        portal: str,
        prepared: PreparedStatement,
        param_formats: Sequence[int],
        params: Sequence[bytes | None],
        result_formats: Sequence[int],
    ) -> None:
        types = prepared.param_types
        if len(params) != len(types):
            raise SqlError(
                f'bind message supplies {len(params)} parameters, but prepared statement "{prepared.name}" requires {len(types)}',
                sqlstate="08P01",
            )
        formats = tuple(param_formats)
        if len(formats) > 1 and len(formats) != len(params):
            raise SqlError(
                f"bind message has {len(formats)} parameter formats but {len(params)} parameters", sqlstate="08P01"
            )
        columns = prepared.columns
        if len(result_formats) > 1 and len(result_formats) != len(columns or ()):
            raise SqlError(
                f"bind message has {len(result_formats)} result formats but query has {len(columns or ())} columns",
                sqlstate="08P01",
            )
        decoders = prepared.decoders.get(formats)
        if decoders is None or prepared.decoder_settings is not self.io:
            decoders = self._decoders(types, formats)
            if prepared.decoder_settings is not self.io:
                prepared.decoders.clear()
                prepared.decoder_settings = self.io
            prepared.decoders[formats] = decoders
        values = tuple([None if raw is None else decode(raw) for decode, raw in zip(decoders, params)])
        self.portals[portal] = QueryPortal(
            portal, prepared.parsed, prepared.entry, values, columns, tuple(result_formats), prepared
        )

    def _decoders(self, types: tuple[PgType, ...], formats: tuple[int, ...]) -> list[Callable[[bytes], Any]]:
        decoders = []
        for i, pg_type in enumerate(types):
            code = formats[i] if len(formats) > 1 else formats[0] if formats else 0
            if code not in (0, 1):
                raise SqlError(f"unsupported format code: {code}", sqlstate="22023")
            io = self.named_io if pg_type.name.startswith(("reg", "_reg")) else self.io
            decoders.append(binary_decoder(pg_type) if code else text_decoder(pg_type, -1, io, self.context.now_us))
        return decoders

    def describe_statement(self, name: str) -> Eager[Prepared]:
        prepared = self.statements.get(name)
        if prepared is None:
            raise SqlError(
                f'prepared statement "{name}" does not exist' if name else "unnamed prepared statement does not exist",
                sqlstate="26000",
            )
        return prepared

    def describe_portal(self, name: str) -> Eager[Portal]:
        portal = self.portals.get(name)
        if portal is None:
            raise SqlError(f'portal "{name}" does not exist', sqlstate="34000")
        return portal

    def execute(self, name: str, max_rows: int, sink: Sink) -> Eager[None]:
        portal = self.portals.get(name)
        if portal is None:
            raise SqlError(f'portal "{name}" does not exist', sqlstate="34000")
        if not self.pipeline:
            self.pipeline_start = sink.position()
        entry = portal.entry
        if (
            entry is not None
            and entry.fast is not None
            and not max_rows
            and not portal.is_started
            and self._may_go_fast(entry)
        ):
            return self._execute_fast(portal, entry)
        if entry is None and portal.parsed is not None:
            control = self.server.controls.get(portal.parsed.text)
            if control is not None and self._may_control(control):
                return self._control(control)
        return self._execute(portal, max_rows)

    async def _execute(self, portal: QueryPortal, max_rows: int) -> None:
        parsed = portal.parsed
        if parsed is None and portal.entry is None:
            self.sink.empty()
            return
        self._refuse_in_failed(parsed)
        handler = commands.find(parsed.statement) if parsed is not None else None
        if handler is not None:
            await self._run_unit(lambda: self._run_handler(handler, portal), commit=False)
            return
        if portal.is_started:
            await self.run_portal(portal, max_rows)
            return
        if self.block.is_implicit:
            self.pipeline.append((portal, max_rows))
        self.current_query = portal.sql
        await self._run_unit(lambda: self._run_whole(portal, max_rows), commit=False)

    async def _run_handler(self, handler: Any, portal: QueryPortal) -> None:
        assert portal.parsed is not None
        self.begin_statement()
        commands.refuse_if_read_only(self, portal.parsed.statement)
        await handler(self, portal.parsed.statement, portal)

    def close_statement(self, name: str) -> None:
        self.statements.pop(name, None)

    def close_portal(self, name: str) -> None:
        portal = self.portals.pop(name, None)
        if portal is not None:
            portal.close()

    def sync(self) -> Eager[None]:
        block = self.block
        if not block.is_implicit or block.txn is None:
            if self.pipeline:
                self.pipeline.clear()
            if block.is_implicit and self.settings.has_changes:
                block.finish_commit(0)
            return None
        if block.can_commit_now():
            try:
                committed = block.txn.commit()
            except Retryable as error:
                return self._sync(error)
            if committed.__class__ is int:
                block.finish_commit(committed)
                self.pipeline.clear()
                return None
            return self._sync_pending(committed)  # type: ignore[arg-type]  # awaitable
        return self._sync()

    async def _sync_pending(self, pending: Awaitable[int]) -> None:
        """Waits for the commit of the implicit block."""
        self.is_committing = True
        try:
            committed = await pending
        except Retryable as error:
            self.is_committing = False
            await self._sync(error)
            return
        finally:
            self.is_committing = False
        self.block.finish_commit(committed)
        self.pipeline.clear()

    async def _sync(self, failed: Retryable | None = None) -> None:
        """Commits the implicit block; after a conflict runs the whole pipeline again if nothing left this node."""
        attempts = 0
        try:
            while True:
                try:
                    if failed is not None:
                        failure, failed = failed, None
                        raise failure
                    await self.block.commit()
                    return
                except Retryable as error:
                    attempts += 1
                    if attempts > RETRIES_MAX or not await self._replay(error):
                        if self.block.is_open:
                            await self.block.rollback()
                        raise
        finally:
            self.pipeline.clear()

    async def _replay(self, error: Retryable) -> bool:
        pipeline = self.pipeline
        if len(pipeline) != self.statements_done or not self.block.is_open:
            return False
        if not await self._prepare_retry(error, self.pipeline_start, is_first=True, at_commit=True):
            return False
        for portal, max_rows in pipeline:
            await self._run_unit(lambda p=portal, m=max_rows: self._run_whole(p, m), commit=False)  # type: ignore[misc]
        return True

    # --- portals ---------------------------------------------------------------

    async def run_portal(self, portal: QueryPortal, max_rows: int) -> None:
        """Runs a query portal to its end, or to ``max_rows``."""
        entry = portal.entry
        assert entry is not None
        if not portal.is_started:
            await self._start(portal, entry)
        sink = self.sink
        encode = self._encoder(portal) if portal.columns is not None else None
        limit = max_rows
        while True:
            rows = await portal.next_rows(limit - portal.sent_now if limit else 0)
            if portal.must_describe:
                self.announce(portal)
            if rows and encode is not None:
                sink.rows(b"".join([encode(row) for row in rows]), len(rows))
                portal.count(len(rows))
                if sink.full:
                    await sink.drain()
            if not rows:
                sink.complete(portal.tag())
                portal.finish()
                return
            if limit and portal.sent_now >= limit:
                portal.sent_now = 0
                await self._suspend(portal)
                sink.suspended()
                return
            self.context.check_interrupt()

    async def _suspend(self, portal: QueryPortal) -> None:
        """The client will ask for more rows later: other statements may come between."""
        self.has_cursors = True
        if self.block.ensure().isolation is Isolation.READ_COMMITTED:
            await portal.settle()

    def announce(self, portal: QueryPortal) -> None:
        """Sends the RowDescription a simple query owes, now that its first rows are there."""
        portal.must_describe = False
        self.sink.describe(portal.columns, ())

    def _encoder(self, portal: QueryPortal) -> RowEncoder:
        assert portal.columns is not None
        return self.sink.encoder(portal.columns, portal.formats, self.output_io(portal.columns))

    async def start_counted(self, portal: QueryPortal, clock: Callable[[], int]) -> None:
        """Opens a plan with counters on, for EXPLAIN ANALYZE."""
        entry = portal.entry
        assert entry is not None
        entry = await self._admitted(portal, entry)
        portal.is_started = True
        portal.cursor = entry.plan.open(self.block.ensure(), portal.params, self.context, clock)

    async def start_portal(self, portal: QueryPortal) -> None:
        """Opens a query portal's plan: locks, snapshot, cursor."""
        assert portal.entry is not None
        await self._start(portal, portal.entry)

    async def current_entry(self, prepared: PreparedStatement) -> PlanEntry:
        """Returns the plan of a prepared statement, made again if the catalog changed since."""
        entry = prepared.entry
        if entry is None or entry.generation != self.state().generation:
            assert prepared.parsed is not None
            entry = await Analyzer(self).entry(prepared.parsed, prepared.declared_types)
            if _shape(entry.columns) != _shape(prepared.columns):
                raise SqlError("cached plan must not change result type", sqlstate="0A000")
            prepared.use(entry)
        return entry

    async def _start(self, portal: QueryPortal, entry: PlanEntry) -> None:
        await self._admitted(portal, entry)
        await portal.open(self.block.ensure(), self.context)

    async def _admitted(self, portal: QueryPortal, entry: PlanEntry) -> PlanEntry:
        """Returns the plan to run, made again if the catalog changed since, perhaps while a lock was waited for."""
        await self._admit(entry)
        while entry.generation != self.state().generation:
            entry = await self._plan_again(portal, entry)
            await self._admit(entry)
        return entry

    async def _plan_again(self, portal: QueryPortal, entry: PlanEntry) -> PlanEntry:
        parsed = portal.parsed if portal.parsed is not None else parse(entry.sql)[0]
        again = await Analyzer(self).entry(parsed, entry.param_types)
        if not portal.must_describe and _shape(again.columns) != _shape(portal.columns):
            raise SqlError("cached plan must not change result type", sqlstate="0A000")
        portal.entry, portal.columns = again, again.columns
        return again

    async def _settle_cursors(self) -> None:
        """Open cursors do not see what their own transaction writes after them."""
        for portal in list(self.portals.values()):
            if portal.is_running:
                await portal.settle()

    def close_cursors_but(self, kept: Sequence[str]) -> None:
        """ROLLBACK TO SAVEPOINT: SQL cursors made since are gone."""
        for name in [n for n, portal in self.portals.items() if portal.created_us and n not in kept]:
            self.close_portal(name)

    async def _admit(self, entry: PlanEntry) -> None:
        """What a plan needs before it runs: permission to write, table locks, a snapshot new enough."""
        block = self.block
        block.entry = entry
        if entry.as_of is not None:
            block.read_as_of(as_of_timestamp(self, entry.as_of))
        if block.as_of_ts is not None and block.past is None and was_changed(self, entry, block.as_of_ts):
            block.past = await self.server.catalog.state_at(block.as_of_ts)
            return  # Its generation is another one: the statement is planned again.
        if self.server.catalog.moving:
            await self._await_moves(entry)
        if not entry.read_only:
            if self.is_read_only:
                command = "SELECT FOR UPDATE" if entry.command == "SELECT" else entry.command
                raise SqlError(f"cannot execute {command} in a read-only transaction", sqlstate="25006")
            if self.has_cursors:
                await self._settle_cursors()
            for table_id in entry.write_tables:
                if table_id not in block.locked_tables:
                    table = entry.statement.tables.get(table_id)
                    await block.lock_table(table_id, table.name if table is not None else str(table_id))
        txn = block.ensure()
        self.begin_statement()
        state = self.state()
        if txn.read_ts and block.as_of_ts is None:
            for table_id in entry.statement.tables:
                modified = state.modified.get(table_id, 0)
                if modified >= txn.read_ts:
                    if txn.isolation is Isolation.REPEATABLE_READ and self.is_read_only:
                        block.past = await self.server.catalog.state_at(txn.read_ts)
                        return
                    await block.move_past(modified)

    async def _await_moves(self, entry: PlanEntry) -> None:
        """Waits while a commit under way moves a table of the statement: until it is published its old place is empty."""
        moving = self.server.catalog.moving
        while any([table_id in moving for table_id in entry.statement.tables]):
            await self.server.clock.sleep(MOVE_POLL_SECONDS)
            self.context.check_interrupt()

    async def evaluate(self, expression: ast.SqlExpr, target: PgType) -> Any:
        """Computes an expression without columns, cast to a type (EXECUTE's arguments, AS OF...)."""
        return await Analyzer(self).evaluate(expression, target)

    def forget_view(self) -> None:
        """SET ROLE, a path of its own: names and privileges resolve anew."""
        self._view = None

    # --- ends ------------------------------------------------------------------

    async def run_deferred(self, is_commit: bool = True) -> None:
        """Runs the constraint checks put off until now; before the commit only of constraints that are immediate now.

        A check is forgotten once it has passed: after one that failed, a savepoint may bring the transaction back.
        """
        context = self.context
        pending, kept, at = context.deferred, [], 0
        try:
            while at < len(pending):
                check = pending[at]
                if not is_commit and is_deferred(check.table_id, check.constraint, context):
                    kept.append(check)
                else:
                    await check(self.block.ensure(), context)
                at += 1
        finally:
            # A new list: savepoints keep the old one.
            context.deferred = kept + pending[at:]

    async def before_commit(self) -> None:
        """Runs the deferred constraint checks, and materialises cursors WITH HOLD."""
        if self.context.deferred:
            await self.run_deferred()
        if self.has_on_commit:
            await temporary.before_commit(self)
        if not self.portals:
            return
        for portal in list(self.portals.values()):
            if portal.is_holdable and not portal.is_held:
                await portal.hold()

    def after_transaction(self, committed: bool) -> None:
        """Everything that ends with a transaction; the block is already idle again."""
        self.statements_done = 0
        self.context.transaction_time = 0
        if self.context.deferred:
            self.context.deferred = []
        if self.context.constraint_modes:
            self.context.constraint_modes = {}
        if self.settings.has_changes:
            self.settings.end_transaction(committed)
            self.apply_settings()
        self.has_cursors = False
        if self.portals:
            for name, portal in list(self.portals.items()):
                if not (portal.is_held and (committed or portal.held_before)):
                    portal.close()
                    del self.portals[name]
                else:
                    portal.held_before = True
        if self.has_txn_advisory:
            self.has_txn_advisory = False
            self.server.advisory_locks.release_txn(self)
        if self.pending_listens:
            listens, self.pending_listens = self.pending_listens, []
            if committed:
                self.server.notifications.change(self, listens)
        if self.pending_notifications:
            pending, self.pending_notifications = self.pending_notifications, []
            if committed:
                self.server.notifications.deliver(self, pending)

    def explain(self, error: MeridianError) -> None:
        if error.retryable:
            explain_conflict(self, error)

    def fail(self, error: MeridianError) -> Eager[None]:
        block = self.block
        self.pipeline.clear()
        if block.is_implicit:
            return block.rollback() if block.has_something or block.locked_tables else None
        if block.status == "T":
            block.fail()
        return None

    def suspended(self) -> None:
        context, clock = self.context, self.server.clock
        if context.deadline_ns and not self.is_committing:
            seconds = max(context.deadline_ns - clock.monotonic_ns(), 0) / 1e9
            self.server.scheduler.call_later(seconds, lambda deadline=context.deadline_ns: self._time_out(deadline))  # type: ignore[misc]

    def _time_out(self, deadline_ns: int) -> None:
        """statement_timeout passed while the statement of that deadline waits."""
        if self.context.deadline_ns == deadline_ns and self.interrupt is not None and not self.is_committing:
            self.context.deadline_ns = 0
            self.interrupt(QueryCanceled("canceling statement due to statement timeout"))

    def idle_timeout_seconds(self) -> float:
        if not self.has_idle_timeout:
            return 0.0
        name = "idle_session_timeout" if self.transaction_status == "I" else "idle_in_transaction_session_timeout"
        value = self.settings[name]
        return into_ms(value) / 1000 if value != "0" else 0.0

    def cancel(self) -> None:
        # One thread: a session that does not wait is idle, and its next statement is not what was to be canceled.
        if self.interrupt is not None and not self.is_committing:
            self.interrupt(QueryCanceled("canceling statement due to user request"))

    def close(self) -> Eager[None]:
        self.server.notifications.unlisten(self, None)
        for portal in self.portals.values():
            portal.close()
        self.portals.clear()
        self.server.advisory_locks.release_session(self)
        if self.temp_schema_id:
            return self._close_temporary()
        self.server.forget(self)
        return self.block.rollback() if self.block.is_open or self.block.locked_tables else None

    async def _close_temporary(self) -> None:
        """Ends the transaction, then drops what was temporary; until then the session counts."""
        try:
            await self.block.rollback()
            await temporary.drop_at_end(self)
        finally:
            self.server.forget(self)


def _shape(columns: tuple[ResultColumn, ...] | None) -> tuple[tuple[str, int], ...] | None:
    return None if columns is None else tuple((c.name, c.type.oid) for c in columns)
