"""How bound expressions were written: what a typed tree does not tell and PostgreSQL's own text of it shows.

Kept only where an expression is bound to be printed (``sql.pgcatalog.exprtext``): which calls are operators, which
are casts and whether somebody asked for them, which CASE had an argument.  Forms and their parts:

    cast        operand, explicit            what the operand was before; not explicit: the binder's own doing
    literal     constant, explicit           an untyped literal read as a type, before its length was applied
    operator    symbol
    function    name, is variadic
    keyword     text                         CURRENT_DATE and the like
    zone                                     AT TIME ZONE
    case        argument
    nullif      left, right
    in          left, items, tests           as they were before the operator's types were applied; tests of columns
    any         symbol
    subscript   base, [(low, high, is slice)]
    collate     operand, name
    apart                                    an AND or OR that is not part of the one around it
"""

from __future__ import annotations

from typing import Any, NamedTuple

from planner.expr import Col, Expr, walk


class Form(NamedTuple):
    """How one expression was written."""

    kind: str
    parts: tuple[Any, ...]


PLAIN = Form("", ())
"""Of expressions that show it themselves."""


class Written:
    """Forms of the expressions of one statement, by identity."""

    def __init__(self) -> None:
        self._forms: dict[int, tuple[Expr, Form]] = {}

    def note(self, expr: Expr, kind: str, *parts: Any) -> None:
        """Says how an expression was written; the last word counts."""
        self._forms[id(expr)] = (expr, Form(kind, parts))

    def form(self, expr: Expr) -> Form:
        found = self._forms.get(id(expr))
        return PLAIN if found is None else found[1]


def has_column(expr: Expr) -> bool:
    """True if an expression depends on a row."""
    found: list[Expr] = []

    def visit(part: Expr) -> None:
        if isinstance(part, Col):
            found.append(part)

    walk(expr, visit)
    return bool(found)
