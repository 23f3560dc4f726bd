"""Commands: every statement that is not planned, by class.

A handler is ``async def handler(session, statement, portal) -> None``: it writes its rows and its command tag to
``session.sink``.  ``portal`` carries the parameters and result formats of the extended protocol.  A command that
returns rows also registers a function that tells its columns beforehand (RowDescription comes before rows).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from base.errors import FeatureNotSupported, SqlError
from base.types import TEXT
from sql.api import ResultColumn
from sql.parse import statements as ast

if TYPE_CHECKING:
    from sql.portals import QueryPortal
    from sql.session import Session

Handler = Callable[["Session", Any, "QueryPortal"], Awaitable[None]]
Columns = Callable[["Session", Any], "tuple[ResultColumn, ...] | None"]
_handlers: dict[type, Handler] = {}
_columns: dict[type, Columns] = {}


def handles(statement: type, columns: Columns | None = None) -> Callable[[Handler], Handler]:
    """Registers the handler of a statement class."""

    def register(handler: Handler) -> Handler:
        assert statement not in _handlers, statement
        _handlers[statement] = handler
        if columns is not None:
            _columns[statement] = columns
        return handler

    return register


def find(statement: Any) -> Handler | None:
    """Returns the handler of a command; None for a statement that is planned."""
    if isinstance(statement, ast.Query) and statement.into is None:
        return None
    handler = _handlers.get(type(statement))
    return _unsupported if handler is None else handler


def columns_of(session: Session, statement: Any) -> tuple[ResultColumn, ...] | None:
    """Returns a command's result columns, None if it returns no rows."""
    describe = _columns.get(type(statement))
    return None if describe is None else describe(session, statement)


def ends_transaction(statement: Any) -> bool:
    """True for what a failed transaction block still accepts."""
    return isinstance(statement, (ast.Rollback, ast.RollbackToSavepoint, ast.Commit))


_WRITING: Final = ("Create", "Alter", "Drop", "Comment", "Grant", "Revoke", "Truncate", "Reassign", "Import")
_TAGS: Final = {"Truncate": "TRUNCATE TABLE", "DropOwned": "DROP OWNED", "ReassignOwned": "REASSIGN OWNED"}


def refuse_if_read_only(session: Session, statement: Any) -> None:
    """Raises 25006 for a command that changes the catalog in a read-only transaction."""
    name = type(statement).__name__
    if not name.startswith(_WRITING) or not session.is_read_only:
        return
    tag = _TAGS.get(name)
    if tag is None:
        kind = getattr(statement, "kind", "")
        words = "".join(f" {c}" if c.isupper() else c for c in name).strip().upper()
        tag = f"{name.upper()} {kind.upper()}" if name == "Drop" else words
    raise SqlError(f"cannot execute {tag} in a read-only transaction", sqlstate="25006")


async def _unsupported(session: Session, statement: Any, portal: QueryPortal) -> None:
    raise FeatureNotSupported(f"{type(statement).__name__} is not supported yet")


def text_columns(*names: str) -> tuple[ResultColumn, ...]:
    """Result columns that are all of type text."""
    return tuple(ResultColumn(name, TEXT) for name in names)


def send_rows(
    session: Session, portal: QueryPortal, columns: tuple[ResultColumn, ...], rows: list[tuple[Any, ...]]
) -> None:
    """Writes a command's few rows."""
    if portal.must_describe:
        portal.must_describe = False
        session.sink.describe(columns, ())
    encode = session.sink.encoder(columns, portal.formats, session.output_io(columns))
    session.sink.rows(b"".join([encode(row) for row in rows]), len(rows))


def load() -> None:
    """Imports every module of handlers; called once by ``sql.session``."""
    from sql.commands import (  # noqa: F401
        copying,
        cursors,
        explain,
        maintenance,
        nodes,
        notify,
        prepared,
        settings,
        show,
        transactions,
    )
    from sql.commands import regions as _regions  # noqa: F401
    from sql.ddl import alter as _alter  # noqa: F401
    from sql.ddl import comments, databases, indexes, roles, schemas, sequences, tables, truncate, types, views  # noqa: F401
    from sql.ddl import drop as _drop  # noqa: F401
    from sql.ddl import materialized as _materialized  # noqa: F401
