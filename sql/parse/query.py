"""Queries and DML: shape the lexemes, have sqlglot parse them, check what came out."""

from __future__ import annotations

from sqlglot import exp

from base.errors import error
from sql.parse import dialect
from sql.parse.lexer import Lexeme, scan
from sql.parse.shape_dml import StatementShaper
from sql.parse.statements import Name, Query, SelectInto, SqlExpr
from sql.parse.whitelist import check


def shape(sql: str) -> StatementShaper:
    """Shapes a string that holds exactly one query."""
    shaper = StatementShaper(sql, scan(sql))
    shaper.statement()
    shaper.finish()
    return shaper


def parse_query(sql: str, lexemes: list[Lexeme], first: int, last: int) -> Query:
    """Parses ``lexemes[first:last]``, all of which must belong to the query."""
    query, stopped = parse_query_prefix(sql, lexemes, first, last)
    if stopped < last:
        shaper = StatementShaper(sql, lexemes, stopped, last)
        raise shaper.syntax_error()
    return query


def parse_query_prefix(sql: str, lexemes: list[Lexeme], first: int, last: int) -> tuple[Query, int]:
    """Parses a query that begins at ``first``; returns it and where it stopped."""
    shaper = StatementShaper(sql, lexemes, first, last)
    try:
        shaper.statement()
        tree = dialect.drive(sql, shaper.out)
        check(tree)
    except RecursionError:
        raise error("54001", "stack depth limit exceeded") from None
    query = Query(tree, shaper.command, param_count=shaper.param_count)
    query.types = shaper.types
    query.raw_lists = shaper.raw_lists
    query.overriding = shaper.overriding
    query.cursor = shaper.cursor_name
    if shaper.into is not None:
        assert isinstance(shaper.into_name, Name), f"{shaper.into_name=}"
        query.into = SelectInto(
            shaper.into_name, shaper.into[1], shaper.into[2], (shaper.into[0].start, shaper.into[3])
        )
    if shaper.as_of is not None:
        start, stop = shaper.as_of
        query.as_of = parse_expression(sql, lexemes, start, stop)
    return query, shaper.index


def parse_expression(sql: str, lexemes: list[Lexeme], first: int, last: int) -> SqlExpr:
    """Parses ``lexemes[first:last]`` as one expression."""
    found, stopped = parse_expression_prefix(sql, lexemes, first, last)
    if stopped < last:
        raise StatementShaper(sql, lexemes, stopped, last).syntax_error()
    return found


def parse_expression_prefix(
    sql: str, lexemes: list[Lexeme], first: int, last: int, tight: bool = False
) -> tuple[SqlExpr, int]:
    """Parses an expression that begins at ``first``; ``tight`` leaves out AND, OR, NOT, IS, IN (gram.y's b_expr)."""
    shaper = StatementShaper(sql, lexemes, first, last)
    shaper.depth = 1
    try:
        if tight:
            shaper.tight = True
            shaper.b_expr(2)
        else:
            shaper.a_expr()
        tree: exp.Expr = dialect.drive(sql, shaper.out, "_parse_assignment")
        check(tree)
    except RecursionError:
        raise error("54001", "stack depth limit exceeded") from None
    start, end = lexemes[first].start, lexemes[shaper.index - 1].end
    return SqlExpr(sql[start:end], tree, start, tuple(shaper.types)), shaper.index
