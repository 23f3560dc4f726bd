"""Names, types and expressions as statements hold them."""

from __future__ import annotations

from typing import NamedTuple

from sqlglot import exp


class Name(NamedTuple):
    """A possibly qualified name: ``schema.name``.  ``database`` only where three parts were written."""

    name: str
    schema: str | None = None
    position: int = -1
    database: str | None = None

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema is not None else self.name


class TypeName(NamedTuple):
    """A type as written.  ``names`` is ("int4",), ("public", "mood")...; SQL spellings are already pg_type names.

    ``typmods`` are the numbers in parentheses; ``interval_fields`` the mask text of ``interval day to second``;
    ``dimensions`` counts array brackets.  ``serial`` types keep their names (serial4, serial8, serial2).
    """

    names: tuple[str, ...]
    typmods: tuple[int, ...] = ()
    dimensions: int = 0
    interval_fields: str = ""
    position: int = -1
    is_setof: bool = False


class SqlExpr(NamedTuple):
    """An expression or query inside DDL: its source text and its tree."""

    text: str
    tree: exp.Expr
    position: int = -1
    types: tuple[TypeName, ...] = ()
    """The types its CAST forms number."""
