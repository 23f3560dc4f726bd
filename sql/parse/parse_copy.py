"""COPY, in the syntax of PostgreSQL 15 and in the older ones psql, pg_dump and drivers still send."""

from __future__ import annotations

from typing import Any, Final

from base.errors import error
from sql.parse.cursor import Cursor
from sql.parse.keywords import words
from sql.parse.lexer import NUMBER, STRING
from sql.parse.query import parse_expression, parse_query
from sql.parse.statements import Copy, Name, Query

_OPTIONS: Final = words(
    """format freeze delimiter null header quote escape force_quote force_not_null force_null encoding"""
)
_BOOLEANS: Final = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}


def parse_copy(cursor: Cursor) -> Copy:
    """COPY {table [(columns)] | (query)} {FROM | TO} target [options] [WHERE condition]."""
    cursor.advance()
    old_binary = cursor.accept("binary")
    table: Name | None = None
    query: Query | None = None
    columns: tuple[str, ...] = ()
    text, position = "", 0
    if cursor.is_punct("("):
        first, last = cursor.skip_group()
        query = parse_query(cursor.sql, cursor.lexemes, first, last)
        text, position = cursor.text_between(first, last), cursor.lexemes[first].start
    else:
        table = cursor.qualified()
        if cursor.is_punct("("):
            columns = cursor.wrapped_names()
    direction = cursor.accept_any("from", "to")
    if direction is None or (query is not None and direction == "from"):
        if direction is not None:
            cursor.index -= 1
        raise cursor.syntax_error()
    target, is_program = _target(cursor)
    found = Copy(direction == "from", table, columns, query, text, position, target, is_program, {"format": "text"})
    if old_binary:
        found.options["format"] = "binary"
    _old_delimiters(cursor, found.options)
    cursor.accept("with")
    if cursor.is_punct("("):
        _new_options(cursor, found.options)
    else:
        _old_options(cursor, found.options)
    if cursor.accept("where"):
        if not found.is_from:
            cursor.index -= 1
            raise error("42601", "WHERE clause not allowed with COPY TO", position=cursor.peek().start + 1)
        found.where = parse_expression(cursor.sql, cursor.lexemes, cursor.index, cursor.stop)
        cursor.index = cursor.stop
    return found


def _target(cursor: Cursor) -> tuple[str | None, bool]:
    if cursor.accept_any("stdin", "stdout") is not None:
        return None, False
    if cursor.accept("program"):
        return cursor.string(), True
    return cursor.string(), False


def _old_delimiters(cursor: Cursor, options: dict[str, Any]) -> None:
    if cursor.is_word("using", "delimiters") or cursor.is_word("delimiters"):
        cursor.accept("using")
        cursor.advance()
        options["delimiter"] = cursor.string()


def _new_options(cursor: Cursor, options: dict[str, Any]) -> None:
    cursor.advance()
    seen: set[str] = set()
    while True:
        at = cursor.peek()
        name = cursor.any_label()
        if name not in _OPTIONS:
            raise error("42601", f'option "{name}" not recognized', position=at.start + 1)
        if name in seen:
            raise error("42601", "conflicting or redundant options", position=at.start + 1)
        seen.add(name)
        options[name] = _option_value(cursor, name)
        if not cursor.accept_punct(","):
            break
    cursor.expect_punct(")")


def _option_value(cursor: Cursor, name: str) -> Any:
    if name in ("force_quote", "force_not_null", "force_null"):
        if cursor.accept_op("*"):
            return ("*",)
        return cursor.wrapped_names()
    if name in ("header", "freeze"):
        if cursor.is_punct(",") or cursor.is_punct(")"):
            return True
        text = cursor.advance().text.lower()
        if name == "header" and text == "match":
            return "match"
        if text not in _BOOLEANS:
            raise error("42601", f"{name} requires a Boolean value" + (' or "match"' if name == "header" else ""))
        return _BOOLEANS[text]
    if cursor.peek().kind in (STRING, NUMBER):
        return cursor.advance().text
    at = cursor.peek()
    value = cursor.any_label()
    if name == "format" and value not in ("text", "csv", "binary"):
        raise error("22023", f'COPY format "{value}" not recognized', position=at.start + 1)
    return value


def _old_options(cursor: Cursor, options: dict[str, Any]) -> None:
    """BINARY, CSV, HEADER, [AS] 'x' for DELIMITER, NULL, QUOTE, ESCAPE; FORCE QUOTE.."""
    while not cursor.at_end and not cursor.is_word("where"):
        if cursor.accept_any("binary", "csv") is not None:
            options["format"] = cursor.lexemes[cursor.index - 1].text
        elif cursor.accept("header"):
            options["header"] = True
        elif cursor.accept("freeze"):
            options["freeze"] = True
        elif (word := cursor.accept_any("delimiter", "null", "quote", "escape")) is not None:
            cursor.accept("as")
            options[word] = cursor.string()
        elif cursor.accept("encoding"):
            options["encoding"] = cursor.string()
        elif cursor.accept("force", "quote"):
            options["force_quote"] = ("*",) if cursor.accept_op("*") else cursor.name_list()
        elif cursor.accept("force", "not", "null"):
            options["force_not_null"] = cursor.name_list()
        elif cursor.accept("force", "null"):
            options["force_null"] = cursor.name_list()
        else:
            raise cursor.syntax_error()
