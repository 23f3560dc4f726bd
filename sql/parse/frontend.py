"""SQL text to statements: splits a query string, and dispatches on each statement's first word.

sqlglot parses queries and DML; every other statement is read here and in the ``parse_*`` modules by our
own code, because sqlglot takes many of them for expressions (SAVEPOINT s, LISTEN c: reliability 105).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from base.errors import FeatureNotSupported, MeridianError, error
from sql.parse.cursor import Cursor
from sql.parse.lexer import PUNCT, WORD, Lexeme, scan
from sql.parse.parse_alter import ALTER
from sql.parse.parse_copy import parse_copy
from sql.parse.parse_create import CREATE
from sql.parse.parse_materialized import REFRESH
from sql.parse.parse_objects import (
    parse_analyze,
    parse_comment,
    parse_drop,
    parse_maintenance,
    parse_reassign,
    parse_truncate,
)
from sql.parse.parse_roles import parse_grant
from sql.parse.parse_session import SESSION, parse_declare
from sql.parse.parse_txn import TRANSACTION
from sql.parse.query import parse_query
from sql.parse.rows import parse_long_insert
from sql.parse.statements import (
    AnyStatement,
    CreateTableAs,
    DeclareCursor,
    Execute,
    Explain,
    ParsedStatement,
    Prepare,
    Query,
)
from sql.parse.types import parse_type

STATEMENT_CHARS_MAX: Final = 64 * 1024 * 1024
"""A longer string is refused before it is read (54000)."""

_QUERY_WORDS: Final = frozenset(("select", "insert", "update", "delete", "merge", "with", "values", "table"))
_UNSUPPORTED: Final = {
    "do": "DO", "call": "CALL", "import": "IMPORT", "export": "EXPORT",
    "backup": "BACKUP", "restore": "RESTORE", "upsert": "UPSERT", "security": "SECURITY LABEL", "load": "LOAD",
}  # fmt: skip

Handler = Callable[[Cursor], AnyStatement]


def parse(sql: str) -> list[ParsedStatement]:
    """Parses a query string; an empty list is an empty query."""
    if len(sql) > STATEMENT_CHARS_MAX:
        raise error("54000", f"query string is longer than {STATEMENT_CHARS_MAX} characters")
    if "\0" in sql:
        raise error("22021", 'invalid byte sequence for encoding "UTF8": 0x00')
    fast = parse_long_insert(sql)
    if fast is not None:
        return [ParsedStatement(fast, sql, 0)]
    lexemes = scan(sql)
    found: list[ParsedStatement] = []
    for first, last in _split(lexemes):
        start, end = lexemes[first].start, lexemes[last - 1].end
        statement = _parse_statement(sql, lexemes, first, last)
        found.append(ParsedStatement(statement, sql[start:end], start))
    return found


def _split(lexemes: list[Lexeme]) -> list[tuple[int, int]]:
    """Index ranges between the semicolons, empty ones left out."""
    ranges: list[tuple[int, int]] = []
    first = 0
    for at, lexeme in enumerate(lexemes):
        if lexeme.kind == PUNCT and lexeme.text == ";":
            if at > first:
                ranges.append((first, at))
            first = at + 1
    if len(lexemes) > first:
        ranges.append((first, len(lexemes)))
    return ranges


def _parse_statement(sql: str, lexemes: list[Lexeme], first: int, last: int) -> AnyStatement:
    cursor = Cursor(sql, lexemes, first, last)
    if last == len(lexemes):
        cursor.end.start = cursor.end.end = len(sql)
    try:
        statement = parse_statement(cursor)
        cursor.finish()
    except RecursionError:
        raise error("54001", "stack depth limit exceeded") from None
    return statement


def parse_statement(cursor: Cursor) -> AnyStatement:
    """Parses the statement at the cursor, up to its end."""
    lexeme = cursor.peek()
    if lexeme.kind == PUNCT and lexeme.text == "(":
        return _query(cursor)
    if lexeme.kind != WORD:
        raise cursor.syntax_error()
    if lexeme.text in _QUERY_WORDS:
        return _query(cursor)
    handler = HANDLERS.get(lexeme.text)
    if handler is not None:
        return handler(cursor)
    feature = _UNSUPPORTED.get(lexeme.text)
    if feature is not None:
        raise FeatureNotSupported(f"{feature} is not supported", position=lexeme.start + 1)
    raise cursor.syntax_error()


def _query(cursor: Cursor) -> AnyStatement:
    first = cursor.index
    query = parse_query(cursor.sql, cursor.lexemes, first, cursor.stop)
    cursor.index = cursor.stop
    if query.into is None:
        return query
    target, query.into = query.into, None
    text, start = cursor.text_between(first, cursor.stop), cursor.lexemes[first].start
    cut, end = target.span[0] - start, target.span[1] - start
    text = text[:cut] + " " * (end - cut) + text[end:]
    return CreateTableAs(
        target.name,
        (),
        query,
        text,
        cursor.lexemes[first].start,
        is_temporary=target.is_temporary,
        is_unlogged=target.is_unlogged,
    )


def _explain(cursor: Cursor) -> Explain:
    """EXPLAIN [ANALYZE] [VERBOSE] statement, or EXPLAIN (option [value], ..) statement."""
    cursor.advance()
    options: dict[str, str] = {}
    if cursor.is_punct("(") and not cursor.is_punct("(", 1) and cursor.peek(1).text not in _QUERY_WORDS:
        cursor.advance()
        while True:
            name = cursor.any_label()
            value = "true"
            if not (cursor.is_punct(",") or cursor.is_punct(")")):
                value = cursor.string() if cursor.is_string() else cursor.advance().text.lower()
            options[name] = value
            if not cursor.accept_punct(","):
                break
        cursor.expect_punct(")")
        _check_options(options)
    else:
        if cursor.accept("analyze") or cursor.accept("analyse"):
            options["analyze"] = "true"
        if cursor.accept("verbose"):
            options["verbose"] = "true"
        if cursor.is_punct("(") and cursor.peek(1).text in ("debug", "distsql", "wan"):
            cursor.advance()
            options[cursor.any_label()] = "true"
            cursor.expect_punct(")")
    first = cursor.index
    statement = parse_statement(cursor)
    if not isinstance(statement, (Query, CreateTableAs, DeclareCursor, Execute)):
        lexeme = cursor.lexemes[first]
        raise error("42601", f'syntax error at or near "{lexeme.text}"', position=lexeme.start + 1)
    return Explain(statement, options, cursor.text_between(first, cursor.stop), cursor.lexemes[first].start)


_BOOLEAN_OPTIONS: Final = frozenset(("analyze", "verbose", "costs", "buffers", "timing", "summary", "settings", "wal", "wan", "distsql",
                                     "vec", "opt", "types", "memo", "generic_plan", "debug", "redact"))  # fmt: skip
_BOOLEANS: Final = {"true": "true", "on": "true", "1": "true", "false": "false", "off": "false", "0": "false"}


def _check_options(options: dict[str, str]) -> None:
    for name, value in options.items():
        if name in _BOOLEAN_OPTIONS:
            if value not in _BOOLEANS:
                raise error("22023", f"{name} requires a Boolean value")
            options[name] = _BOOLEANS[value]
        elif name == "gateway":
            pass
        elif name == "format":
            if value not in ("text", "json", "yaml", "xml"):
                raise error("22023", f'unrecognized value for EXPLAIN option "format": "{value}"')
        else:
            raise error("42601", f'unrecognized EXPLAIN option "{name}"')


def _prepare(cursor: Cursor) -> Prepare:
    cursor.advance()
    if cursor.is_word("transaction"):
        raise cursor.unsupported("PREPARE TRANSACTION")
    name = cursor.name()
    types = []
    if cursor.accept_punct("("):
        types.append(parse_type(cursor))
        while cursor.accept_punct(","):
            types.append(parse_type(cursor))
        cursor.expect_punct(")")
    cursor.expect("as")
    first = cursor.index
    statement = parse_statement(cursor)
    if not isinstance(statement, Query):
        raise error(
            "42601", f'syntax error at or near "{cursor.lexemes[first].text}"', position=cursor.lexemes[first].start + 1
        )
    return Prepare(name, tuple(types), statement, cursor.text_between(first, cursor.stop), cursor.lexemes[first].start)


HANDLERS: Final[dict[str, Handler]] = {
    **TRANSACTION,
    **SESSION,
    "explain": _explain,
    "prepare": _prepare,
    "declare": parse_declare,
    "copy": parse_copy,
    "create": CREATE,
    "refresh": REFRESH,
    "alter": ALTER,
    "drop": parse_drop,
    "truncate": parse_truncate,
    "comment": parse_comment,
    "grant": parse_grant,
    "revoke": parse_grant,
    "reassign": parse_reassign,
    "analyze": parse_analyze,
    "analyse": parse_analyze,
    "vacuum": parse_maintenance,
    "reindex": parse_maintenance,
    "cluster": parse_maintenance,
    "checkpoint": parse_maintenance,
}


def shift_position(found: MeridianError, offset: int) -> MeridianError:
    """Moves an error's position when the text it was found in begins at ``offset``."""
    if found.position is not None:
        found.position += offset
    return found
