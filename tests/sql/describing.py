"""What Parse and Describe say of a statement, by the binder and by PostgreSQL, as one line each."""

from __future__ import annotations

import functools
from typing import Any

from base.errors import MeridianError
from base.types import BY_OID
from planner.functions import builtin_registry
from sql.binder import Binder, result_columns
from sql.parse import parse
from tests.sql.fixture_catalog import MOOD, sample

HERE_MARK = "here: "


@functools.cache
def binder() -> Binder:
    return Binder(sample(), builtin_registry())


def type_text(oid: int, typmod: int = -1) -> str:
    name = {MOOD.oid: "mood", MOOD.oid + 1: "_mood"}.get(oid) or (BY_OID[oid].name if oid in BY_OID else "row")
    return name if typmod < 0 else f"{name}({typmod})"


def answer_text(columns: list[tuple[str, str]], params: list[str]) -> str:
    text = ", ".join(f"{name} {pg_type}" for name, pg_type in columns)
    return (text or "no rows") + (f" | {', '.join(params)}" if params else "")


def error_text(sqlstate: str, message: str, position: int | None, hint: str | None) -> str:
    at = "" if position is None else f" at {position}"
    return f"{sqlstate} {message}{at}" + (f" | {hint}" if hint else "")


def describe(sql: str) -> str:
    """Our answer."""
    try:
        statement = binder().bind(parse(sql)[0].statement)  # type: ignore[arg-type]
    except MeridianError as failure:
        return error_text(failure.sqlstate, failure.message, failure.position, failure.hint)
    columns = [
        (c.name, "row" if c.type.name == "record" else type_text(c.type.oid, c.typmod))
        for c in result_columns(statement) or ()
    ]
    return answer_text(columns, [type_text(t.oid) for t in statement.params])


def describe_postgres(connection: Any, sql: str) -> str:
    """PostgreSQL's answer, over a psycopg connection to a database with the sample schema."""
    from psycopg.pq import DiagnosticField, ExecStatus

    raw = connection.pgconn
    result = raw.prepare(b"", sql.encode())
    if result.status != ExecStatus.COMMAND_OK:

        def field(code: DiagnosticField) -> str:
            return (result.error_field(code) or b"").decode()

        position = field(DiagnosticField.STATEMENT_POSITION)
        return error_text(
            field(DiagnosticField.SQLSTATE), field(DiagnosticField.MESSAGE_PRIMARY), int(position) if position else None,
            field(DiagnosticField.MESSAGE_HINT) or None,
        )  # fmt: skip
    result = raw.describe_prepared(b"")
    moods = dict(
        connection.execute("SELECT oid::int, typname FROM pg_type WHERE typname IN ('mood', '_mood')").fetchall()
    )

    def name(oid: int, typmod: int = -1) -> str:
        return moods.get(oid) or ("row" if oid not in BY_OID or oid == 2249 else type_text(oid, typmod))

    columns = [(result.fname(i).decode(), name(result.ftype(i), result.fmod(i))) for i in range(result.nfields)]
    return answer_text(columns, [name(result.param_type(i)) for i in range(result.nparams)])
