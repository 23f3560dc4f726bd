"""Transactions, session variables, prepared statements, cursors, COPY."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sql.parse.statements.names import Name, SqlExpr, TypeName
from sql.parse.statements.queries import Query

if TYPE_CHECKING:
    from sql.parse.statements import AnyStatement


@dataclass(slots=True)
class TransactionModes:
    """Modes of BEGIN and SET TRANSACTION; None means not given."""

    isolation: str | None = None
    """serializable, repeatable read, read committed, read uncommitted."""
    read_only: bool | None = None
    deferrable: bool | None = None
    priority: str | None = None
    """low, normal, high."""
    as_of: SqlExpr | None = None


@dataclass(slots=True)
class Begin:
    modes: TransactionModes
    is_start: bool = False
    """START TRANSACTION: the command tag differs."""


@dataclass(slots=True)
class Commit:
    chain: bool = False


@dataclass(slots=True)
class Rollback:
    chain: bool = False


@dataclass(slots=True)
class Savepoint:
    name: str


@dataclass(slots=True)
class ReleaseSavepoint:
    name: str


@dataclass(slots=True)
class RollbackToSavepoint:
    name: str


@dataclass(slots=True)
class SetTransaction:
    """SET TRANSACTION, or SET SESSION CHARACTERISTICS AS TRANSACTION with ``session``."""

    modes: TransactionModes
    session: bool = False
    snapshot: str | None = None


@dataclass(slots=True)
class SetConstraints:
    names: tuple[Name, ...]
    """Empty is ALL."""
    deferred: bool


@dataclass(slots=True)
class LockTable:
    tables: tuple[Name, ...]
    mode: str
    """ACCESS SHARE ... ACCESS EXCLUSIVE."""
    nowait: bool = False


@dataclass(slots=True)
class SetVariable:
    """SET x TO values.  ``values`` None is DEFAULT.  TIME ZONE, NAMES, ROLE, SESSION AUTHORIZATION, XML OPTION and
    SCHEMA arrive as timezone, client_encoding, role, session_authorization, xmloption, search_path.

    Values are texts; a list (search_path) keeps its parts: the session joins them with the setting's rule.
    ``is_identifier[i]``: part i was a bare word or a quoted identifier, not a string or number.
    """

    name: str
    values: tuple[str, ...] | None
    is_local: bool = False
    is_cluster: bool = False
    """SET CLUSTER SETTING."""


@dataclass(slots=True)
class ShowVariable:
    name: str
    """``all`` for SHOW ALL; ``transaction_isolation`` for SHOW TRANSACTION ISOLATION LEVEL; ``timezone``."""
    is_cluster: bool = False


@dataclass(slots=True)
class ResetVariable:
    name: str
    """``all`` for RESET ALL."""


@dataclass(slots=True)
class ShowRanges:
    table: Name | None
    index: str | None = None
    database: str | None = None


@dataclass(slots=True)
class ShowRegions:
    """SHOW REGIONS [FROM CLUSTER | DATABASE [d] | ALL DATABASES], SHOW SURVIVAL GOAL [FROM DATABASE d]."""

    source: str = ""
    """"", cluster, database, all, survival."""
    database: str | None = None


@dataclass(slots=True)
class ShowObjects:
    """SHOW TABLES, DATABASES, SCHEMAS, COLUMNS FROM t, INDEXES FROM t, CREATE TABLE t, REGIONS, JOBS..."""

    kind: str
    """tables, databases, schemas, columns, indexes, constraints, create table, create view, create, regions, sequences, users,
    roles, types, jobs, sessions, queries, statements, transactions, locality, grants, stats, nodes, ..."""
    target: Name | None = None


@dataclass(slots=True)
class Discard:
    what: str
    """all, plans, sequences, temp."""


@dataclass(slots=True)
class Prepare:
    name: str
    types: tuple[TypeName, ...]
    statement: AnyStatement
    text: str
    """Source text of the statement being prepared."""
    position: int = 0


@dataclass(slots=True)
class Execute:
    name: str
    args: tuple[SqlExpr, ...]


@dataclass(slots=True)
class Deallocate:
    name: str | None
    """None is ALL."""


@dataclass(slots=True)
class DeclareCursor:
    name: str
    query: Query
    text: str
    """Source text of the query."""
    position: int = 0
    binary: bool = False
    insensitive: bool = False
    scroll: bool | None = None
    """True SCROLL, False NO SCROLL, None unspecified."""
    hold: bool = False


@dataclass(slots=True)
class Fetch:
    """FETCH or MOVE.  ``direction``: forward, backward, absolute, relative; ``count`` None is ALL."""

    cursor: str
    direction: str
    count: int | None
    is_move: bool = False


@dataclass(slots=True)
class CloseCursor:
    name: str | None
    """None is ALL."""


@dataclass(slots=True)
class Listen:
    channel: str


@dataclass(slots=True)
class Unlisten:
    channel: str | None
    """None is *."""


@dataclass(slots=True)
class Notify:
    channel: str
    payload: str = ""


@dataclass(slots=True)
class Explain:
    """``options``: analyze, verbose, costs, buffers, timing, summary, settings, wal, wan, distsql: "true"/"false"; format: text, json, yaml, xml."""

    statement: AnyStatement
    options: dict[str, str]
    text: str
    """Source text of the statement explained."""
    position: int = 0


@dataclass(slots=True)
class Copy:
    """COPY table or query.  ``options`` keys are lower case; list options (force_quote..) are tuples ("*",) for all."""

    is_from: bool
    table: Name | None
    columns: tuple[str, ...]
    query: Query | None
    query_text: str
    query_position: int
    target: str | None
    """None: STDIN/STDOUT; else a file name, or a program's command line with ``is_program``."""
    is_program: bool
    options: dict[str, Any]
    """format text|csv|binary, delimiter, null, header (bool or "match"), quote, escape, force_quote, force_not_null, force_null, encoding, freeze."""
    where: SqlExpr | None = None
