"""What is left: comments, statistics, extensions, jobs."""

from __future__ import annotations

from dataclasses import dataclass

from sql.parse.statements.names import Name, SqlExpr


@dataclass(slots=True)
class CommentOn:
    """``kind``: table, view, column, index, schema, database, constraint, sequence, type, role, extension..."""

    kind: str
    name: Name
    """The relation for column (see ``part``) and constraint."""
    part: str | None
    """Column or constraint name."""
    comment: str | None


@dataclass(slots=True)
class Analyze:
    tables: tuple[tuple[Name, tuple[str, ...]], ...]
    """(table, columns); empty is every table."""
    verbose: bool = False


@dataclass(slots=True)
class Maintenance:
    """VACUUM, REINDEX, CLUSTER, CHECKPOINT, LOAD: accepted.  ``analyze`` of VACUUM ANALYZE."""

    command: str
    """The command tag."""
    tables: tuple[Name, ...] = ()
    analyze: bool = False
    kind: str = "table"
    """Of REINDEX: index, table, schema, database, system."""


@dataclass(slots=True)
class CreateExtension:
    name: str
    if_not_exists: bool = False
    schema: str | None = None


@dataclass(slots=True)
class CancelJob:
    """CANCEL/PAUSE/RESUME QUERY|SESSION|JOB id."""

    action: str
    kind: str
    target: SqlExpr


@dataclass(slots=True)
class Empty:
    """Only blanks and comments between semicolons: EmptyQueryResponse (only if nothing else is in the string)."""
