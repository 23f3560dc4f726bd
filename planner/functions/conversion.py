"""Reading and printing datums inside expressions: text input and output under the session's settings.

    Printer(type)    (value) -> str, or (ctx, value) -> str where settings matter
    Reader(type)     (text) -> datum, likewise

Both keep the function made for the last settings; ``needs_context`` says which form to call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from base.typeio import IoSettings, text_parser, text_renderer
from base.types import PgType
from planner.context import ExecContext
from planner.functions.registry import IMMUTABLE, STABLE

_BY_SETTINGS: Final = frozenset(
    [
        "date", "timestamp", "timestamptz", "time", "timetz", "interval", "float4", "float8", "bytea", "regproc", "regprocedure", "regoper",
        "regoperator", "regclass", "regtype", "regrole", "regnamespace", "regcollation", "regconfig", "regdictionary", "record",
    ]
)  # fmt: skip
_IMMUTABLE_ANYWAY: Final = ("interval", "float4", "float8", "bytea", "time", "timetz")
"""Types whose text PostgreSQL calls immutable though a setting changes it."""
DEFAULT_SETTINGS: Final = IoSettings()


def uses_settings(pg_type: PgType) -> bool:
    """True if the text form depends on the session."""
    if pg_type.elem is not None and pg_type.is_array:
        return uses_settings(pg_type.elem)
    return pg_type.kind == "c" or pg_type.name in _BY_SETTINGS


def text_volatility(pg_type: PgType) -> str:
    """Volatility of the type's input and output."""
    element = pg_type.elem if pg_type.is_array and pg_type.elem is not None else pg_type
    return STABLE if uses_settings(element) and element.name not in _IMMUTABLE_ANYWAY else IMMUTABLE


class Printer:
    """text_out of one type."""

    __slots__ = ("needs_context", "render", "settings", "type")

    def __init__(self, pg_type: PgType) -> None:
        self.type = pg_type
        self.needs_context = uses_settings(pg_type)
        self.settings: IoSettings = DEFAULT_SETTINGS
        self.render: Callable[[Any], str] | None = None
        if not self.needs_context:
            self.render = text_renderer(pg_type, DEFAULT_SETTINGS)

    def __call__(self, ctx: ExecContext, value: Any) -> str:
        """Prints under the context's settings."""
        if not self.needs_context and self.render is not None:
            return self.render(value)
        settings = ctx.io
        render = self.render
        if render is None or settings != self.settings:
            render = self.render = text_renderer(self.type, settings)
            self.settings = settings
        return render(value)


def cast_printer(pg_type: PgType) -> Printer:
    """Prints as ``::text`` does, which differs from output for booleans."""
    printer = Printer(pg_type)
    if pg_type.name == "bool":
        printer.render = _bool_text
    return printer


def _bool_text(value: bool) -> str:
    return "true" if value else "false"


class Reader:
    """text_in of one type; 'now' is the start of the transaction."""

    __slots__ = ("ctx", "needs_context", "parse", "settings", "type")

    def __init__(self, pg_type: PgType) -> None:
        self.type = pg_type
        self.needs_context = uses_settings(pg_type)
        self.settings: IoSettings = DEFAULT_SETTINGS
        self.parse: Callable[[str], Any] | None = None
        self.ctx: ExecContext | None = None
        if not self.needs_context:
            self.parse = text_parser(pg_type, -1, DEFAULT_SETTINGS)

    def _now(self) -> int:
        assert self.ctx is not None
        return self.ctx.transaction_time

    def __call__(self, ctx: ExecContext, text: str) -> Any:
        """Reads under the context's settings."""
        if not self.needs_context and self.parse is not None:
            return self.parse(text)
        self.ctx = ctx
        settings = ctx.io
        parse = self.parse
        if parse is None or settings != self.settings:
            parse = self.parse = text_parser(self.type, -1, settings, self._now)
            self.settings = settings
        return parse(text)
