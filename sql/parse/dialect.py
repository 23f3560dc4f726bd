"""The sqlglot dialect: what lets a pinned sqlglot build query trees for us, compiled or pure.

Compiled sqlglot classes refuse interpreted subclasses, so nothing is subclassed but the dialect and
the tokenizer:

1. ``MeridianTokenizer`` turns SQL into tokens by our own lexer and shaper (``lexer``, ``shape_*``).  The
   shaper knows PostgreSQL's grammar: precedence, special function syntax, type names and literals arrive in
   sqlglot's parser as plain function calls whose names begin with NUL (``forms``), which no SQL can spell, and
   every identifier arrives quoted and folded.
2. ``MaterializeParser``, a compiled parser class nobody else in the process uses, carries our tables: no known
   functions, no keywords-as-functions.  The stock Postgres dialect is untouched.
3. The parser is driven from outside (``drive``): it is given tokens and asked for a statement.

These are private methods of sqlglot: hence the exact pin, and the corpus test.
"""

from __future__ import annotations

from typing import Any, Final

from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import ErrorLevel, ParseError
from sqlglot.parsers.materialize import MaterializeParser
from sqlglot.tokens import Token, TokenType

from base.errors import error

MaterializeParser.FUNCTIONS = {}
MaterializeParser.FUNCTION_PARSERS = {}
MaterializeParser.NO_PAREN_FUNCTIONS = {}
MaterializeParser.NO_PAREN_FUNCTION_PARSERS = {}


class MeridianTokenizer(Postgres.Tokenizer):  # type: ignore[misc]  # sqlglot is untyped here
    """Tokenizes by our own lexer; see the module's docstring."""

    def tokenize(self, sql: str) -> list[Token]:
        from sql.parse.query import shape

        return shape(sql).out


class Meridian(Postgres):  # type: ignore[misc]  # sqlglot is untyped here
    """PostgreSQL as we read it.  Subscripts are not shifted."""

    INDEX_OFFSET = 0
    Tokenizer = MeridianTokenizer
    Parser = MaterializeParser


DIALECT: Final = Meridian()


def drive(sql: str, tokens: list[Token], method: str = "_parse_statement") -> exp.Expr:
    """Has sqlglot parse a whole token list with one of its methods."""
    parser: Any = DIALECT.parser(error_level=ErrorLevel.IMMEDIATE)
    parser.reset()
    parser.sql = sql
    parser._chunks = [tokens]
    parser._chunk_index = 0
    parser._advance_chunk()
    try:
        tree = getattr(parser, method)()
    except ParseError:
        tree = None
    rest = parser._curr
    if tree is None or rest:
        at = rest.start if rest else len(sql)
        near = f'at or near "{sql[rest.start : rest.end + 1]}"' if rest else "at end of input"
        raise error("42601", f"syntax error {near}", position=at + 1)
    assert isinstance(tree, exp.Expr), f"{tree=}"
    return tree


__all__ = ["DIALECT", "Meridian", "MeridianTokenizer", "TokenType", "drive"]
