"""A virtual relation: columns as PostgreSQL declares them, rows computed when it is read.

A builder is ``(Session view) -> iterable of dicts`` from column name to datum.  A column it leaves out gets NULL, or, where
PostgreSQL declares it NOT NULL, the empty value of its type: builders only say what they know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from base.types import OID, PgType
from planner.context import ExecContext
from sql.pgcatalog import builtin

Builder = Callable[[Any], Iterable[Mapping[str, Any]]]
TABLEOID = "tableoid"


class VirtualRelation:
    """One relation of pg_catalog, information_schema or meridian_internal."""

    def __init__(
        self,
        schema: str,
        name: str,
        build: Builder | None,
        columns: tuple[tuple[str, PgType, int, bool], ...],
        oid: int,
        kind: str,
    ) -> None:
        self.schema = schema
        self.name = name
        self.oid = oid
        self.kind = kind
        self.columns = columns
        """(name, type, typmod, not null): what ``*`` gives."""
        self.hidden: tuple[tuple[str, PgType, int, bool], ...] = ((TABLEOID, OID, -1, True),) if kind == "r" else ()
        """Can be named, follow the columns in ``rows``."""
        self._build = build
        self._qualified = f"{schema}.{name}"
        self._empty = [(column[0], _empty(column[1]) if column[3] else None) for column in columns]

    def rows(self, ctx: ExecContext, wanted: Mapping[int, Any] | None = None) -> Iterable[tuple[Any, ...]]:
        """Yields tuples of all columns and the hidden ones; ``wanted`` may narrow by (position: value)."""
        result: list[tuple[Any, ...]] = []
        tail = (self.oid,) if self.hidden else ()
        for row in self.builtin_rows():
            result.append(row + tail)
        if self._build is not None:
            empty = self._empty
            for values in self._build(ctx.catalog()):
                get = values.get
                result.append(tuple([get(name, default) for name, default in empty]) + tail)
        return result

    def builtin_rows(self) -> tuple[tuple[Any, ...], ...]:
        return builtin.rows(self._qualified) if self.kind == "r" and self.schema == "pg_catalog" else ()


def _empty(pg_type: PgType) -> Any:
    if pg_type.category == "N":
        return 0
    if pg_type.category == "B":
        return False
    if pg_type.category == "A":
        return ()
    return ""
