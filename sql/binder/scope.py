"""Names in scope: FROM items, their columns, and the queries around.

A ``Scope`` is one query level.  Its ``columns`` are what an unqualified name and ``*`` see, in
order: where JOIN USING merges two columns, the merged one stands there once.  Its ``items`` are what qualified
names see, each with all its own columns.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from base.errors import MeridianError, error
from base.types import OID, PgType
from planner.expr import Col, Const, Expr
from planner.nodes import Node, Scan
from planner.schema import TableDesc

if TYPE_CHECKING:
    from sql.binder.query_state import QueryState

FUZZY_DISTANCE_MAX: Final = 3
"""As PostgreSQL's MAX_FUZZY_DISTANCE: hints name columns at most so many letters away."""


class ScopeColumn:
    """One column that a name can mean.  ``expr``: of a merged FULL JOIN column, else None."""

    __slots__ = ("attnum", "expr", "id", "name", "type", "typmod")

    def __init__(
        self, name: str, id: int, type: PgType, typmod: int = -1, attnum: int = 0, expr: Expr | None = None
    ) -> None:
        self.name = name
        self.id = id
        self.type = type
        self.typmod = typmod
        self.attnum = attnum
        self.expr = expr

    def reference(self) -> Expr:
        if self.expr is not None:
            return self.expr
        return Col(self.id, self.type, self.typmod, self.name)


class RangeItem:
    """A FROM item: a name and its columns."""

    __slots__ = (
        "alias",
        "columns",
        "hidden",
        "is_function_scalar",
        "is_lateral_only",
        "scan",
        "schema",
        "table",
        "table_oid",
    )

    def __init__(self, alias: str, columns: list[ScopeColumn]) -> None:
        self.alias = alias
        self.columns = columns
        self.hidden: list[ScopeColumn] = []
        """Columns that can be named but are not part of ``*``."""
        self.schema: str | None = None
        """Set where the table was written without an alias: schema.table.column then works."""
        self.table: TableDesc | None = None
        self.table_oid = 0
        self.scan: Scan | None = None
        self.is_function_scalar = False
        """A function of one column: the item's name as a value is that column."""
        self.is_lateral_only = False

    def find(self, name: str) -> list[ScopeColumn]:
        found = [c for c in self.columns if c.name == name]
        return found or [c for c in self.hidden if c.name == name]


class FromTree:
    """What binding FROM (or a part of it) gives."""

    __slots__ = ("columns", "is_lateral", "items", "node")

    def __init__(
        self, node: Node, items: list[RangeItem], columns: list[ScopeColumn], is_lateral: bool = False
    ) -> None:
        self.node = node
        self.items = items
        self.columns = columns
        self.is_lateral = is_lateral
        """True if it uses columns of FROM items before it."""


class Scope:
    """One query level of names."""

    def __init__(
        self, parent: Scope | None, items: Iterable[RangeItem] = (), columns: Iterable[ScopeColumn] = ()
    ) -> None:
        self.parent = parent
        self.items = list(items)
        self.columns = list(columns)
        self.state: QueryState | None = None
        """Aggregates and windows of the query; None where they cannot be (FROM, DML targets)."""
        self.ids: set[int] | None = None
        self.is_referenced = False
        """Set when a name was found at this level: tells whether a lateral item uses its siblings."""
        self.outer_refs: list[tuple[int, int, str]] | None = None
        """While grouped clauses are bound: (column id, position, name) that subqueries took from this level."""
        self.forbidden: list[RangeItem] = []
        """Items that exist here but cannot be referenced (siblings of a subquery in FROM): for hints."""

    def owns(self, id: int) -> bool:
        """True if a column id belongs to this level."""
        if self.ids is None:
            self.ids = {c.id for item in self.items for c in (*item.columns, *item.hidden)}
            self.ids.update(c.id for c in self.columns)
        return id in self.ids

    def add(self, tree: FromTree) -> None:
        self.items.extend(tree.items)
        self.columns.extend(tree.columns)
        self.ids = None


def find_column(scope: Scope, name: str, position: int) -> tuple[ScopeColumn, Scope] | None:
    """Finds an unqualified column at the nearest level that has it; raises 42702 if it is ambiguous there."""
    level: Scope | None = scope
    while level is not None:
        found = [c for c in level.columns if c.name == name]
        if not found:
            found = [c for item in level.items for c in item.hidden if c.name == name]
        if len(found) > 1:
            raise error("42702", f'column reference "{name}" is ambiguous', position=position + 1)
        if found:
            level.is_referenced = True
            if level is not scope and level.outer_refs is not None:
                level.outer_refs.append((found[0].id, position, name))
            return found[0], level
        level = level.parent
    return None


def find_item(scope: Scope, schema: str | None, name: str, position: int) -> tuple[RangeItem, Scope] | None:
    """Finds a FROM item by its name; raises 42P09 if the name is ambiguous."""
    level: Scope | None = scope
    while level is not None:
        found = [item for item in level.items if item.alias == name and (schema is None or item.schema == schema)]
        if len(found) > 1:
            raise error("42P09", f'table reference "{name}" is ambiguous', position=position + 1)
        if found:
            level.is_referenced = True
            return found[0], level
        level = level.parent
    return None


def table_oid_of(item: RangeItem) -> Expr | None:
    """The system column ``tableoid``."""
    return Const(item.table_oid, OID) if item.table_oid else None


# --- errors -------------------------------------------------------------------------------


def missing_column(scope: Scope, table: str | None, name: str, position: int) -> MeridianError:
    """42703, with PostgreSQL's hints."""
    text = f"column {table}.{name} does not exist" if table is not None else f'column "{name}" does not exist'
    return error("42703", text, hint=_hint(scope, table, name), position=position + 1)


def missing_item(scope: Scope, name: str, position: int) -> MeridianError:
    """42P01 for a qualified reference to a FROM item that is not there."""
    level: Scope | None = scope
    while level is not None:
        for item in level.forbidden:
            if item.alias == name:
                return error(
                    "42P01", f'invalid reference to FROM-clause entry for table "{name}"', position=position + 1,
                    hint=f'There is an entry for table "{name}", but it cannot be referenced from this part of the query.',
                )  # fmt: skip
        for item in level.items:
            if item.table is not None and item.table.name == name:
                return error(
                    "42P01", f'invalid reference to FROM-clause entry for table "{name}"', position=position + 1,
                    hint=f'Perhaps you meant to reference the table alias "{item.alias}".',
                )  # fmt: skip
        level = level.parent
    return error("42P01", f'missing FROM-clause entry for table "{name}"', position=position + 1)


def _hint(scope: Scope, table: str | None, name: str) -> str | None:
    level: Scope | None = scope
    while level is not None:
        for item in level.forbidden:
            if (table is None or item.alias == table) and item.find(name):
                return f'There is a column named "{name}" in table "{item.alias}", but it cannot be referenced from this part of the query.'
        level = level.parent
    best: list[tuple[str, str]] = []
    distance = FUZZY_DISTANCE_MAX + 1
    level = scope
    while level is not None:
        for item in level.items:
            penalty = 0 if table is None else levenshtein(table, item.alias, FUZZY_DISTANCE_MAX + 1)
            for column in item.columns:
                found = levenshtein(name, column.name, distance + 1)
                if found > len(name) / 2:
                    continue
                found += penalty
                if found < distance:
                    best, distance = [(item.alias, column.name)], found
                elif found == distance and found <= FUZZY_DISTANCE_MAX:
                    best.append((item.alias, column.name))
        level = level.parent
    if len(best) == 1:
        return f'Perhaps you meant to reference the column "{best[0][0]}.{best[0][1]}".'
    if len(best) == 2:
        return f'Perhaps you meant to reference the column "{best[0][0]}.{best[0][1]}" or the column "{best[1][0]}.{best[1][1]}".'
    return None


def levenshtein(left: str, right: str, limit: int) -> int:
    """Edit distance; anything above ``limit`` comes back as ``limit``."""
    if abs(len(left) - len(right)) >= limit:
        return limit
    previous = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        current = [i]
        for j, b in enumerate(right, 1):
            current.append(min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (a != b)))
        previous = current
    return min(previous[-1], limit)
