"""Text of datums: for error details, as the session would print them; for statistics, in fixed settings."""

from __future__ import annotations

from typing import Any, Final

from base.typeio import IoSettings, text_in, text_out
from base.types import PgType
from planner.context import ExecContext

STORED: Final = IoSettings()
"""Settings of texts that are stored (statistics): always the same, whatever the session's."""


def session_settings(ctx: ExecContext) -> IoSettings:
    """How the session prints values."""
    found = getattr(ctx, "io", None)
    return found if isinstance(found, IoSettings) else STORED


def datum_text(value: Any, pg_type: PgType, ctx: ExecContext) -> str:
    """The output function's text of a value that is not NULL."""
    return text_out(pg_type, value, session_settings(ctx))


def stored_text(value: Any, pg_type: PgType) -> str:
    return text_out(pg_type, value, STORED)


def parse_stored(pg_type: PgType, text: str) -> Any:
    return text_in(pg_type, -1, text, STORED)
