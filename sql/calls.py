"""Calls: Bind of a known prepared statement, Execute of all its rows, and the Sync after them, in one go.

Drivers send these together whenever they run a prepared statement.  A Query whose shape is known is a call, too.
What is the same in every call is found once (``KnownCall``).  A call is taken in one of these ways:

    answer      a SELECT of one key outside of any transaction: read at a fresh timestamp, no transaction, no
                portal; None where anything at all is unusual, with nothing done
    run_call    a compiled statement inside a block, or what begins or ends one; None as above
    bind_call   bind with less looking up; execute and sync follow as ever
    run_query   a Query, its literals as parameters

``bind``, ``execute``, ``sync`` and ``simple_query`` are the specification: tests compare the ways.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from base.eager import Eager
from base.errors import MeridianError, Retryable
from base.types import PgType
from planner.exec.fast import EncodedRows, EncodingRun, FastRun
from sql.api import Call, RowEncoder
from sql.fastpath import FastPath
from sql.parse.shapes import Shape
from sql.plancache import PlanEntry
from sql.portals import PreparedStatement, QueryPortal

TIMELESS: Final = frozenset(
    (
        "bool",
        "bpchar",
        "bytea",
        "float4",
        "float8",
        "int2",
        "int4",
        "int8",
        "name",
        "numeric",
        "oid",
        "text",
        "uuid",
        "varchar",
    )
)
"""Types whose input never means "now"."""
FORMATS: Final = ((), (0,), (1,))
"""Result formats that any statement takes."""
NOTHING: Final = EncodedRows(b"", 0)
QUERIES_MAX: Final = 1_000
"""Shapes of simple statements one session remembers; then it begins anew."""


class KnownCall(Call):
    """A compiled statement or a control, the formats it is called with, and what both make necessary."""

    def __init__(
        self,
        entry: PlanEntry | None,
        prepared: PreparedStatement | None,
        session: CallPath,
        formats: tuple[int, ...],
        decoders: list[Callable[[Any], Any]],
        encode: RowEncoder | None,
        run_encoded: EncodingRun | None = None,
    ) -> None:
        self.entry = entry
        self.prepared = prepared
        """None for a Query."""
        self.name = "" if prepared is None else prepared.name
        self.control = None if prepared is None else prepared.control
        self.io = session.io
        self.scope = session.plan_scope()
        self.formats = formats
        self.decoders = decoders
        self.encode = encode
        self.count = len(decoders)
        self.opening = b""
        self.completions: dict[int, bytes] = {}
        self.portal: QueryPortal | None = None
        """What the unnamed portal is after the call: the statement, run to its end."""
        self.is_point: bool = False
        """A SELECT of one key that locks nothing and asks nothing of its session, not even the time."""
        self.run: FastRun | None = None
        self.run_encoded = run_encoded
        """``run``, or its form that encodes its rows."""
        if entry is None:
            assert self.control is not None, self.name
            self.columns = None
            self.tag = self.control.tag
            self.counts = False
            return
        self.columns = entry.columns
        self.tag = entry.tag
        self.counts = True
        fast = entry.fast
        if fast is None:
            return
        self.run = fast.run
        self.is_point = (
            fast.kind == "point"
            and entry.read_only
            and not fast.uses_context
            and all([pg_type.name in TIMELESS for pg_type in entry.param_types])
        )
        if prepared is not None:
            self.portal = portal = QueryPortal("", prepared.parsed, entry, (), entry.columns, formats, prepared)
            portal.is_started = portal.is_done = True


class CallPath(FastPath):
    """The part of a Session that takes whole calls."""

    portals: dict[str, QueryPortal]
    queries: dict[Shape, KnownCall]
    """Of the simple protocol."""
    statements: dict[str, PreparedStatement]
    current_query: str

    @abstractmethod
    def _decoders(self, types: tuple[PgType, ...], formats: tuple[int, ...]) -> list[Callable[[bytes], Any]]: ...

    @abstractmethod
    def plan_of(self, shape: Shape, values: list[str]) -> PlanEntry | None:
        """Returns the plan of a simple statement's shape, its parsers made; None if it does not bind."""

    @abstractmethod
    def plan_scope(self) -> tuple[Any, ...]: ...

    def known_call(
        self, statement: str, param_formats: tuple[int, ...], param_count: int, formats: tuple[int, ...]
    ) -> KnownCall | None:
        prepared = self.statements.get(statement)
        if prepared is None:
            return None
        entry = prepared.entry
        if entry is None:
            is_plain = prepared.control is not None and not param_count and not param_formats and len(formats) <= 1
            return KnownCall(None, prepared, self, formats, [], None) if is_plain and formats in FORMATS else None
        if entry.fast is None or entry.generation != self.state().generation:
            return None
        columns = entry.columns
        if param_count != len(prepared.param_types) or len(param_formats) not in (0, 1, param_count):
            return None
        if len(formats) > 1 and len(formats) != len(columns or ()):
            return None
        if any([code not in (0, 1) for code in (*param_formats, *formats)]):
            return None
        decoders = self._decoders(prepared.param_types, param_formats)
        return self._make_call(entry, prepared, formats, decoders)

    def _make_call(
        self,
        entry: PlanEntry,
        prepared: PreparedStatement | None,
        formats: tuple[int, ...],
        decoders: list[Callable[[Any], Any]],
    ) -> KnownCall:
        encode: RowEncoder | None = None
        run: EncodingRun | None = None
        fast = entry.fast
        portal = QueryPortal("", None, entry, (), entry.columns, formats)
        if entry.columns is not None:
            encode = self._fast_encoder(portal, entry)
        if fast is not None:
            run = self._encoding_run(fast, portal, entry) if fast.encodes else fast.run
        return KnownCall(entry, prepared, self, formats, decoders, encode, run)

    def known_query(self, sql: str) -> tuple[Call, list[str]] | None:
        if self.block.status == "E":
            return None
        found = self.server.shapes.find(sql)
        if found is None:
            return None
        shape, values = found
        call = self.queries.get(shape)
        if call is None or not self.is_current(call):
            call = self._learn_query(shape, values)
            if call is None:
                return None
        self.current_query = sql
        return call, values

    def _learn_query(self, shape: Shape, values: list[str]) -> KnownCall | None:
        entry = self.plan_of(shape, values)
        if entry is None or entry.parsers is None:
            return None
        if len(self.queries) >= QUERIES_MAX:
            self.queries.clear()
        call = self._make_call(entry, None, (), entry.parsers[1])
        self.queries[shape] = call
        return call

    def run_query(self, known: Call, params: Sequence[str], sql: str) -> Eager[None]:
        call: KnownCall = known  # type: ignore[assignment]  # ours
        assert call.entry is not None, sql
        try:
            values = tuple([parse(text) for parse, text in zip(call.decoders, params)])
        except MeridianError:
            # Told with the position in the client's own text.
            return self._simple_text(sql)
        if call.run is not None and self._may_go_fast(call.entry):
            return self._simple_fast(call.entry, values)
        return self._simple_entry(call.entry, values)

    def is_current(self, known: Call) -> bool:
        call: KnownCall = known  # type: ignore[assignment]  # ours
        entry, prepared = call.entry, call.prepared
        if entry is None:
            assert call.control is not None, call.name
            is_bound = self.block.status != "E" or call.control.ends
            return is_bound and self.statements.get(call.name) is prepared
        return (
            self.block.status != "E"
            and entry.generation == self.state().generation
            and call.io is self.io
            and (
                call.scope == self.plan_scope()
                if prepared is None
                else prepared.entry is entry and self.statements.get(call.name) is prepared
            )
        )

    def answer(self, known: Call, params: Sequence[Any]) -> bytes | None:
        call: KnownCall = known  # type: ignore[assignment]  # ours
        block = self.block
        if (
            not call.is_point
            or block.txn is not None
            or block.status != "I"
            or self.portals
            or self.pipeline
            or block.locked_tables
            or self.settings.has_changes
            or self.server.catalog.moving
            or not self.is_current(call)
        ):
            return None
        encode, run = call.encode, call.run
        assert encode is not None and run is not None, call.name
        server = self.server
        reader = server.reader
        try:
            values = tuple([None if raw is None else decode(raw) for decode, raw in zip(call.decoders, params)])
            reader.begin()
            rows = run(reader, values, self.context)
            if rows.__class__ is not list:
                return None
            encoded = encode(rows[0]) if rows else b""
        except Exception:
            # Also ReadLater.  Nothing was done: the usual way meets the same error and tells of it.
            return None
        server.statements += 1
        return encoded

    def run_call(self, known: Call, params: Sequence[Any]) -> Eager[EncodedRows | None]:
        call: KnownCall = known  # type: ignore[assignment]  # ours
        entry = call.entry
        if entry is None:
            return self._run_control_call(call)
        block, run = self.block, call.run_encoded
        if run is None or block.is_implicit or not self._may_go_fast(entry):
            return None
        try:
            values = tuple([None if raw is None else decode(raw) for decode, raw in zip(call.decoders, params)])
        except Exception:
            # Nothing was done: the usual way meets the same error and tells of it.
            return None
        if call.portal is not None:
            self.portals[""] = call.portal
        txn = block.txn
        if txn is None:
            txn = block.start()
        self.server.statements += 1
        context = self.context
        context.begin_statement(self.statement_timeout_ms)
        txn.begin_statement()
        try:
            rows = run(txn, values, context)
        except Retryable as error:
            return self._call_again(call, entry, values, error)
        if rows.__class__ is EncodedRows:
            self.statements_done += 1
            return rows
        if rows.__class__ is not list:
            return self._call_later(call, entry, values, rows)
        self.statements_done += 1
        found: list[Any] = rows
        encode, count = call.encode, len(found)
        if encode is None or not count:
            return EncodedRows(b"", count)
        return EncodedRows(encode(found[0]) if count == 1 else b"".join([encode(row) for row in found]), count)

    def _bound(self, call: KnownCall, entry: PlanEntry, values: tuple[Any, ...]) -> QueryPortal:
        """The portal of a call that goes on in the usual way."""
        prepared = call.prepared
        if prepared is None:
            return QueryPortal("", None, entry, values, (), ())
        portal = QueryPortal("", prepared.parsed, entry, values, entry.columns, call.formats, prepared)
        self.portals[""] = portal
        return portal

    def _call_later(self, call: KnownCall, entry: PlanEntry, values: tuple[Any, ...], rows: Any) -> Awaitable[None]:
        portal = self._bound(call, entry, values)
        if call.prepared is None:
            return self._simple_slowly(portal, rows, self.sink.position())
        return self._execute_slowly(portal, rows)

    def _call_again(
        self, call: KnownCall, entry: PlanEntry, values: tuple[Any, ...], error: Retryable
    ) -> Awaitable[None]:
        portal = self._bound(call, entry, values)
        if call.prepared is None:
            return self._simple_retry(portal, self.sink.position(), error)
        return self._after_conflict(portal, error)

    def _run_control_call(self, call: KnownCall) -> Eager[EncodedRows | None]:
        control = call.control
        assert control is not None, call.name
        if self.pipeline or not self._may_control(control):
            return None
        if self.portals:
            self.portals.pop("", None)
        pending = self._run_control(control)
        return NOTHING if pending is None else self._finish_control(control, pending)

    def bind_call(self, known: Call, params: Sequence[bytes | None]) -> None:
        call: KnownCall = known  # type: ignore[assignment]  # ours
        prepared = call.prepared
        assert prepared is not None, call.name
        values = tuple([None if raw is None else decode(raw) for decode, raw in zip(call.decoders, params)])
        self.portals[""] = QueryPortal("", prepared.parsed, call.entry, values, call.columns, call.formats, prepared)
