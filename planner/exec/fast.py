"""Compiled point plans: a statement on one row, or a short range, as one generated function.

    run(txn, params, ctx) -> rows            usual case: no cursor, no stream, no coroutine
                          -> EncodedRows     the same, of a run made by ``encoded``
                          -> awaitable       where the transaction must wait
                          -> None            it takes more than that (more rows than a page, an error to be
                                             told): nothing was written; open a cursor instead

``planner.optimize.fast_plan`` writes the functions.  How rows are put out is not the planner's
business: whoever wants a range's rows encoded hands in a ``RowFormat``, which writes its part of the source.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final

from mypy_extensions import mypyc_attr

from base.eager import Eager
from planner.context import ExecContext
from planner.exec.runtime import Row
from txn.transaction import Txn

FORMATS_MAX: Final = 16
"""Most forms of output a plan keeps its function for."""


class EncodedRows:
    """Rows of a result as they are sent."""

    __slots__ = ("count", "data")

    def __init__(self, data: bytes, count: int) -> None:
        self.data = data
        self.count = count


class FieldSource:
    """One field of a row, as the generated code has it."""

    __slots__ = ("is_stored", "nullable", "variable")

    def __init__(self, variable: str, is_stored: bool, nullable: bool) -> None:
        self.variable = variable
        self.is_stored = is_stored
        """It holds the UTF-8 bytes of a text instead of the datum."""
        self.nullable = nullable
        """It may hold None."""


@mypyc_attr(allow_interpreted_subclasses=True)
class RowFormat(ABC):
    """How the rows of one result are encoded, as source."""

    @abstractmethod
    def takes_stored(self, column: int) -> bool:
        """True if a column may be given as the UTF-8 bytes of its text."""

    @abstractmethod
    def source(self, fields: Sequence[FieldSource], namespace: dict[str, Any]) -> tuple[list[str], list[str]]:
        """Returns statements, then expressions of bytes that are the row one after the other.

        Variables that the statements assign, and names added to the namespace, start with ``w``.
        """


FastRun = Callable[[Txn, tuple[Any, ...], ExecContext], Eager["list[Row] | None"]]
EncodingRun = Callable[[Txn, tuple[Any, ...], ExecContext], Eager["list[Row] | EncodedRows | None"]]


class FastPlan:
    """A compiled statement."""

    __slots__ = ("_encoded", "_encoder", "kind", "returns_rows", "run", "uses_context")

    def __init__(
        self,
        kind: str,
        run: FastRun,
        returns_rows: bool,
        encoder: Callable[[RowFormat], EncodingRun] | None = None,
        uses_context: bool = True,
    ) -> None:
        self.kind = kind
        """point, range, insert, update, delete."""
        self.run = run
        """Rows of the result; for writes without RETURNING one empty tuple per row written."""
        self.returns_rows = returns_rows
        self.uses_context = uses_context
        """False if ``run`` never looks at its context."""
        self._encoder = encoder
        self._encoded: dict[int, tuple[RowFormat, EncodingRun]] = {}

    @property
    def encodes(self) -> bool:
        """True if ``encoded`` gives more than ``run``."""
        return self._encoder is not None

    def encoded(self, format: RowFormat) -> EncodingRun:
        """Returns the form of ``run`` that may answer with rows encoded so; it is made at its first use."""
        encoder = self._encoder
        if encoder is None:
            return self.run
        kept = self._encoded.get(id(format))
        if kept is not None and kept[0] is format:
            return kept[1]
        if len(self._encoded) >= FORMATS_MAX:
            self._encoded.clear()
        run = encoder(format)
        self._encoded[id(format)] = (format, run)
        return run

    def affected(self, rows: list[Row]) -> int:
        """Rows written, given the result of ``run`` of a write."""
        return len(rows)
