"""Loops over blocks of stored entries, generated: decode what is used, test it, do something with it.

    for key, value in zip(keys, values):
        r2, r3 = ..                   columns of the entry, only those that are used
        if condition:
            body                      keep a row, write a DataRow, step an aggregate

No call and no tuple per row that the body does not make.  Text that is only passed on, compared or
sorted stays the UTF-8 bytes it is stored as: they order and equal as their code points do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from base.rows import corrupt_row
from planner.access import IndexAccess
from planner.exec.codegen import ExprCompiler
from planner.exec.fold import fold
from planner.exec.order import KeyFunction, equality_key, order_key
from planner.expr import Col, Expr, walk

PASSED_TYPES: Final = ("text", "varchar", "bpchar", "name")
"""Types whose stored bytes order and equal as their datums do (bpchar: without trailing blanks)."""


class EntryLoop:
    """Writes one loop.

    ``attnums`` maps the scan's column ids to its table's columns.  ``computed`` are the expressions that
    need datums; columns in ``passed`` that are in none of them may be stored bytes (``is_stored``).
    """

    def __init__(
        self,
        index: IndexAccess,
        attnums: Mapping[int, int],
        computed: Iterable[Expr],
        passed: Iterable[Expr],
        namespace: dict[str, Any],
        arguments: tuple[str, ...] = ("params", "ctx"),
    ) -> None:
        datums = _columns_of(computed)
        carried = _columns_of(passed)
        wanted = [id for id in attnums if id in datums or id in carried]
        columns = index.table.columns
        types = index.table.types
        stored = [attnums[id] for id in wanted if id not in datums and types[attnums[id]].name in PASSED_TYPES]
        self._source = index.entry_source([attnums[id] for id in wanted], stored)
        self._stored = [id for id in wanted if attnums[id] in self._source.stored]
        variables: dict[int, int | str] = {id: self._source.variables[attnums[id]] for id in wanted}
        not_null = frozenset([id for id in wanted if not columns[attnums[id]].nullable])
        self.namespace = namespace
        self.compiler = ExprCompiler(variables, namespace, arguments=arguments, not_null=not_null, has_prologue=True)
        namespace |= self._source.namespace | {"ENTRY_ERRORS": self._source.errors, "corrupt_row": corrupt_row}

    # --- expressions over the entry

    def is_stored(self, expr: Expr) -> bool:
        """True if the expression is a column that comes as its stored bytes."""
        return isinstance(expr, Col) and expr.id in self._stored

    def nullable(self, expr: Expr) -> bool:
        return self.compiler.nullable(expr)

    def datum(self, expr: Expr) -> str:
        """Source of an expression's datum, or of the stored bytes of a column that comes so."""
        return self.compiler.source(fold(expr))

    def row(self, exprs: Sequence[Expr]) -> str:
        """Source of a tuple of expressions."""
        return f"({''.join([f'{self.datum(expr)}, ' for expr in exprs])})"

    def order_key(self, expr: Expr) -> tuple[str, KeyFunction | None]:
        """Source of a value, and the function that makes of it what orders as the expression does (None: itself)."""
        return (self._stored_key(expr), None) if self.is_stored(expr) else (self.datum(expr), order_key(expr.type))

    def equality_key(self, expr: Expr) -> str:
        """Source of a hashable value that equals another's if and only if the datums are equal; NULL is None."""
        if self.is_stored(expr):
            return self._stored_key(expr)
        transform = equality_key(expr.type)
        if transform is None:
            return self.datum(expr)
        name = self.compiler.name(transform, "key")
        if not self.nullable(expr):
            return f"{name}({self.datum(expr)})"
        variable = self.compiler.temporary()
        return f"(None if ({variable} := {self.datum(expr)}) is None else {name}({variable}))"

    def _stored_key(self, expr: Expr) -> str:
        variable = self.datum(expr)
        if expr.type.name != "bpchar":
            return variable
        trimmed = f"{variable}.rstrip(b' ')"
        return f"(None if {variable} is None else {trimmed})" if self.nullable(expr) else trimmed

    # --- writing it out

    def lines(
        self,
        condition: Expr | None,
        body: Sequence[str],
        keys: str = "keys",
        values: str = "values",
        whole: Sequence[str] | None = None,
    ) -> list[str]:
        """The loop over two lists of one length, after what it needs once; ``body`` may end an entry with ``continue``.

        ``whole`` does the same as the loop where every variable is the list of its column.
        """
        test = "" if condition is None else self.compiler.truth(fold(condition))
        source = self._source
        inner: list[str] = []
        if source.lines:
            where = "key" if source.uses_key else f"{keys}[{values}.index(value)]"
            inner += ["try:", *_indented(source.lines)]
            inner += ["except ENTRY_ERRORS as problem:", f"    raise corrupt_row(value, {where}) from problem"]
        rest = [*([f"if not {test}:", "    continue"] if test else []), *body]
        head = f"for key, value in zip({keys}, {values}):" if source.uses_key else f"for value in {values}:"
        loop = [head, *_indented([*inner, *rest])]
        if source.taker is not None:
            loop = self._by_column(values, rest, None if test else whole, loop)
        return [*self.compiler.prologue, *loop]

    def _by_column(self, values: str, rest: list[str], whole: Sequence[str] | None, loop: list[str]) -> list[str]:
        """The loop over columns that are taken at once, and for pages that cannot be, the loop over values."""
        assert self._source.taker is not None, "nothing takes columns"
        self.namespace["take"] = self._source.taker.take
        variables = list(self._source.variables.values())
        if whole is not None:
            lines = [f"{', '.join(variables)}, = columns", *whole]
        elif len(variables) == 1:
            lines = [f"for {variables[0]} in columns[0]:", *_indented(rest)]
        else:
            lines = [f"for {', '.join(variables)} in zip(*columns):", *_indented(rest)]
        return [
            f"columns = take({values})",
            "if columns is not None:",
            *_indented(lines),
            "else:",
            *_indented(loop),
        ]


def _indented(lines: Iterable[str]) -> list[str]:
    return ["    " + line for line in lines]


def _columns_of(exprs: Iterable[Expr]) -> dict[int, None]:
    """Ids of the columns in expressions, in order of appearance."""
    found: dict[int, None] = {}

    def visit(node: Expr) -> None:
        if isinstance(node, Col):
            found[node.id] = None

    for expr in exprs:
        walk(expr, visit)
    return found
