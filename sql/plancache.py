"""Bound and planned statements, kept by what they depend on.

Key: SQL text (or its shape with the literals lifted out), parameter types, database, role and the
settings that planning reads.  An entry made under an older catalog generation is bound again: any
DDL may have changed what its names mean.  Least recently used entries go first.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from base.types import PgType
from planner.exec.fast import EncodingRun, FastPlan
from planner.nodes import Statement
from sql.api import ResultColumn, RowEncoder
from sql.parse.statements import SqlExpr

ENTRIES_MAX: Final = 5_000


class PlanEntry:
    """One statement, ready to run."""

    __slots__ = (
        "as_of", "columns", "command", "encoders", "fast", "generation", "modified_ts", "param_types", "parsers", "plan", "read_only", "runs",
        "sql", "statement", "tag", "write_tables",
    )  # fmt: skip

    def __init__(
        self,
        sql: str,
        statement: Statement,
        plan: Any,
        columns: tuple[ResultColumn, ...] | None,
        generation: int,
        write_tables: tuple[int, ...],
        modified_ts: int = 0,
        as_of: SqlExpr | None = None,
    ) -> None:
        self.sql = sql
        self.statement = statement
        self.plan = plan
        self.as_of = as_of
        """AS OF SYSTEM TIME: where the statement reads."""
        self.fast: FastPlan | None = plan.fast if as_of is None else None
        self.columns = columns
        self.param_types: tuple[PgType, ...] = statement.params
        self.generation = generation
        self.write_tables = write_tables
        self.command = statement.command
        self.tag = "INSERT 0 " if self.command == "INSERT" else self.command + " "
        """Of CommandComplete, up to the number of rows."""
        self.read_only: bool = plan.is_read_only
        self.modified_ts = modified_ts
        """Newest commit timestamp of the descriptors used: a snapshot must lie above it."""
        self.encoders: dict[tuple[int, ...], tuple[Any, RowEncoder]] = {}
        """By result formats: (settings, encoder)."""
        self.runs: dict[tuple[int, ...], tuple[Any, EncodingRun]] = {}
        """By result formats: (settings, the compiled plan with its rows encoded so)."""
        self.parsers: tuple[Any, list[Callable[[str], Any]]] | None = None
        """Readers of lifted literals: (settings, one per parameter)."""


class PlanCache:
    """All sessions' plans of one node."""

    def __init__(self) -> None:
        self._entries: dict[Any, PlanEntry] = {}

    def get(self, key: Any, generation: int) -> PlanEntry | None:
        """Returns a valid entry, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.generation != generation:
            if generation >= 0:  # Below it are states that few sessions see, and not for long.
                del self._entries[key]
            return None
        return entry

    def put(self, key: Any, entry: PlanEntry) -> None:
        entries = self._entries
        if len(entries) >= ENTRIES_MAX:
            # Dictionaries keep insertion order: the oldest tenth makes room.
            for old in list(entries)[: ENTRIES_MAX // 10]:
                del entries[old]
        entries[key] = entry

    def forget_table(self, table_id: int) -> None:
        """Drops the plans that read or write a table: its statistics changed."""
        for key in [key for key, entry in self._entries.items() if table_id in entry.statement.tables]:
            del self._entries[key]

    def clear(self) -> None:
        self._entries.clear()
