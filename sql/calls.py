"""Calls: Bind of a known prepared statement, Execute of all its rows, and the Sync after them, in one go.

Drivers send these together whenever they run a prepared statement.  A Query whose shape is known is a call, too.
What is the same in every call is found once (``KnownCall``).  A call is taken in one of these ways:

    answer      a SELECT of one key outside of any transaction: read at a fresh timestamp, no transaction, no
                portal; None where anything at all is unusual, with nothing done
    bind_call   bind with less looking up; execute and sync follow as ever
    run_query   a Query, its literals as parameters

``bind``, ``execute``, ``sync`` and ``simple_query`` are the specification: tests compare the ways.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final

from base.eager import Eager
from base.errors import MeridianError
from base.types import PgType
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
QUERIES_MAX: Final = 1_000
"""Shapes of simple statements one session remembers; then it begins anew."""


class KnownCall(Call):
    """A compiled statement, the formats it is called with, and what both make necessary."""

    def __init__(
        self,
        entry: PlanEntry,
        prepared: PreparedStatement | None,
        session: CallPath,
        formats: tuple[int, ...],
        decoders: list[Callable[[Any], Any]],
        encode: RowEncoder | None,
    ) -> None:
        self.entry = entry
        self.prepared = prepared
        """None for a Query."""
        self.name = "" if prepared is None else prepared.name
        self.columns = entry.columns
        self.io = session.io
        self.scope = session.plan_scope()
        self.formats = formats
        self.decoders = decoders
        self.encode = encode
        self.count = len(decoders)
        self.opening = b""
        fast = entry.fast
        self.run = None if fast is None else fast.run
        self.is_point: bool = (
            fast is not None
            and fast.kind == "point"
            and entry.read_only
            and not fast.uses_context
            and all([pg_type.name in TIMELESS for pg_type in entry.param_types])
        )
        """A SELECT of one key that locks nothing and asks nothing of its session, not even the time."""


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
        entry = None if prepared is None else prepared.entry
        if prepared is None or entry is None or entry.fast is None or entry.generation != self.state().generation:
            return None
        columns = entry.columns
        if param_count != len(prepared.param_types) or len(param_formats) not in (0, 1, param_count):
            return None
        if len(formats) > 1 and len(formats) != len(columns or ()):
            return None
        if any([code not in (0, 1) for code in (*param_formats, *formats)]):
            return None
        decoders = self._decoders(prepared.param_types, param_formats)
        return KnownCall(entry, prepared, self, formats, decoders, self._call_encoder(entry, formats))

    def _call_encoder(self, entry: PlanEntry, formats: tuple[int, ...]) -> RowEncoder | None:
        if entry.columns is None:
            return None
        return self._fast_encoder(QueryPortal("", None, entry, (), entry.columns, formats), entry)

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
        call = KnownCall(entry, None, self, (), entry.parsers[1], self._call_encoder(entry, ()))
        self.queries[shape] = call
        return call

    def run_query(self, known: Call, params: Sequence[str], sql: str) -> Eager[None]:
        call: KnownCall = known  # type: ignore[assignment]  # ours
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
            or not self.is_current(call)
        ):
            return None
        encode, run = call.encode, call.run
        assert encode is not None, call.entry.sql
        assert run is not None, call.entry.sql
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

    def bind_call(self, known: Call, params: Sequence[bytes | None]) -> None:
        call: KnownCall = known  # type: ignore[assignment]  # ours
        entry, prepared = call.entry, call.prepared
        assert prepared is not None, entry.sql
        values = tuple([None if raw is None else decode(raw) for decode, raw in zip(call.decoders, params)])
        self.portals[""] = QueryPortal("", prepared.parsed, entry, values, entry.columns, call.formats, prepared)
