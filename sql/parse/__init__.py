"""SQL text to statements: the sqlglot dialect, our own statement front end, literal lifting."""

from __future__ import annotations

from sql.parse.frontend import parse
from sql.parse.lift import lift_literals
from sql.parse.statements import ParsedStatement

__all__ = ["ParsedStatement", "lift_literals", "parse"]
