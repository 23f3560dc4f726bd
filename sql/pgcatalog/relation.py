"""A virtual relation: columns as PostgreSQL declares them, rows computed when it is read.

A builder is ``(Session view) -> iterable of dicts`` from column name to datum.  A column it leaves out gets NULL, or, where
PostgreSQL declares it NOT NULL, the empty value of its type: builders only say what they know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from base.types import OID, PgType
from planner.context import ExecContext
from sql.pgcatalog import builtin

Builder = Callable[[Any], Iterable[Mapping[str, Any]]]
Row = tuple[Any, ...]
Dependencies = Callable[[Any], Any]
TABLEOID = "tableoid"
SNAPSHOTS_MAX: Final = 4
"""Row sets one relation remembers: as many catalogs (databases, search paths) as are read in turn."""


class RowsSnapshot:
    """The rows of one catalog state, with hash indexes made as they are asked for."""

    def __init__(self, state: object, key: object, rows: list[Row]) -> None:
        self.state = state
        self.key = key
        self.rows = rows
        self._indexes: dict[int, dict[Any, list[Row]]] = {}

    def equal(self, position: int, value: Any) -> list[Row]:
        """Returns the rows that have the value at the position."""
        index = self._indexes.get(position)
        if index is None:
            index = self._indexes[position] = {}
            for row in self.rows:
                index.setdefault(row[position], []).append(row)
        return index.get(value, [])


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
        depends_on: Dependencies | None = None,
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
        self._depends_on = depends_on
        """What, besides the catalog state, the rows follow from; None: from the moment, nothing is remembered."""
        self._snapshots: list[RowsSnapshot] = []
        self._qualified = f"{schema}.{name}"
        self._empty = [(column[0], _empty(column[1]) if column[3] else None) for column in columns]

    def rows(self, ctx: ExecContext, wanted: Mapping[int, Any] | None = None) -> Iterable[Row]:
        """Returns tuples of all columns and the hidden ones; ``wanted`` may narrow by (position: value)."""
        view = ctx.catalog()
        if self._depends_on is None:
            return self._computed(view)
        snapshot = self._snapshot(view, self._depends_on(view))
        if wanted:
            # One equality narrows enough; the scan's filter checks the others.
            position = min(wanted)
            return snapshot.equal(position, wanted[position])
        return snapshot.rows

    def _snapshot(self, view: Any, key: Any) -> RowsSnapshot:
        snapshots = self._snapshots
        for i, kept in enumerate(snapshots):
            if kept.state is view.state and kept.key == key:
                if i:
                    snapshots.insert(0, snapshots.pop(i))
                return kept
        made = RowsSnapshot(view.state, key, self._computed(view))
        snapshots.insert(0, made)
        del snapshots[SNAPSHOTS_MAX:]
        return made

    def _computed(self, view: Any) -> list[Row]:
        tail = (self.oid,) if self.hidden else ()
        result = [row + tail for row in self.builtin_rows()]
        if self._build is not None:
            empty = self._empty
            for values in self._build(view):
                get = values.get
                result.append(tuple([get(name, default) for name, default in empty]) + tail)
        return result

    def builtin_rows(self) -> tuple[tuple[Any, ...], ...]:
        return builtin.rows(self._qualified) if self.kind == "r" and self.schema == "pg_catalog" else ()


def _empty(pg_type: PgType) -> Any:
    if pg_type.category == "N" or pg_type.name in ("xid", "cid", "xid8"):
        return 0
    if pg_type.category == "B":
        return False
    if pg_type.category == "A":
        return ()
    return ""
