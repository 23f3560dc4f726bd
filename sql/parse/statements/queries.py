"""Queries and DML: sqlglot's tree, and what is kept beside it."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlglot import exp

from sql.parse.statements.names import Name, SqlExpr, TypeName


@dataclass(slots=True)
class RawRows:
    """A long list of literal rows (INSERT .. VALUES) kept as tokens, not as tree nodes.

    ``rows[i][j]`` is a ``(kind, text, position)``: kind i integer, n numeric, s string, b boolean, u NULL, d DEFAULT.
    """

    rows: list[tuple[tuple[str, str, int], ...]]


@dataclass(slots=True)
class Query:
    """SELECT, VALUES, TABLE, INSERT, UPDATE, DELETE or WITH: the binder's input."""

    tree: exp.Expr
    command: str
    """SELECT, INSERT, UPDATE, DELETE, MERGE (whose tree is a SELECT of its WHEN clauses, see ``sql.parse.shape_dml``)."""
    as_of: SqlExpr | None = None
    """AS OF SYSTEM TIME expression, cut out of the statement."""
    raw_rows: RawRows | None = None
    """Long VALUES list of an INSERT; the tree then has an empty VALUES."""
    raw_lists: list[list[tuple[str, str, int]]] = field(default_factory=list)
    """Long literal IN lists, referred to by the tree by number; items as in RawRows."""
    types: list[TypeName] = field(default_factory=list)
    """The types that the tree's CAST forms number."""
    overriding: str = ""
    """OVERRIDING system | user VALUE."""
    param_count: int = 0
    into: SelectInto | None = None
    cursor: str = ""
    """WHERE CURRENT OF <cursor>."""


@dataclass(slots=True)
class SelectInto:
    """The target of SELECT .. INTO."""

    name: Name
    is_temporary: bool = False
    is_unlogged: bool = False
    span: tuple[int, int] = (0, 0)
    """Where the clause stands in the string that was parsed."""
