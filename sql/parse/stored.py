"""Text that the catalog stores (view queries, defaults, checks), parsed once and kept."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from sql.parse.lexer import scan
from sql.parse.query import parse_expression, parse_query
from sql.parse.statements import Query, SqlExpr

STORED_CACHED_MAX: Final = 4096


@lru_cache(maxsize=STORED_CACHED_MAX)
def parse_stored_query(text: str) -> Query:
    """Parses a view's query; the result is shared and must not be changed."""
    lexemes = scan(text)
    return parse_query(text, lexemes, 0, len(lexemes))


@lru_cache(maxsize=STORED_CACHED_MAX)
def parse_stored_expression(text: str) -> SqlExpr:
    """Parses a default, a check, an index predicate; shared, not to be changed."""
    lexemes = scan(text)
    return parse_expression(text, lexemes, 0, len(lexemes))
