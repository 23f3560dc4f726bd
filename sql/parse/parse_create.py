"""CREATE: dispatch, schemas, databases, types, sequences, views, indexes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from base.errors import error
from sql.parse.cursor import Cursor
from sql.parse.keywords import words
from sql.parse.lexer import NUMBER, OP, STRING
from sql.parse.parse_materialized import parse_create_materialized
from sql.parse.parse_roles import parse_create_role
from sql.parse.parse_table import parse_create_table, parse_index_elements, storage_options
from sql.parse.query import parse_expression_prefix, parse_query_prefix
from sql.parse.statements import (
    AnyStatement,
    CreateDatabase,
    CreateEnum,
    CreateExtension,
    CreateIndex,
    CreateSchema,
    CreateSequence,
    CreateView,
    Name,
    SequenceOptions,
    SqlExpr,
)
from sql.parse.types import parse_type

_UNSUPPORTED: Final = words("""aggregate cast collation conversion domain event foreign function group language operator policy procedure publication rule
    server statistics subscription tablespace text transform trigger access changefeed inverted""")


def if_not_exists(cursor: Cursor) -> bool:
    return cursor.accept("if", "not", "exists")


def CREATE(cursor: Cursor) -> AnyStatement:  # an entry of the dispatch table
    """Any CREATE statement."""
    cursor.advance()
    replace = cursor.accept("or", "replace")
    temporary = False
    cursor.accept_any("global", "local")
    if cursor.accept_any("temporary", "temp") is not None:
        temporary = True
    unlogged = cursor.accept("unlogged")
    word = cursor.peek().text
    if word == "table" and not replace:
        return parse_create_table(cursor, temporary, unlogged)
    if word in ("view", "recursive"):
        return _view(cursor, replace, temporary)
    if word == "sequence" and not replace and not unlogged:
        return _sequence(cursor, temporary)
    if cursor.is_word("constraint", "trigger"):
        raise cursor.unsupported("CREATE TRIGGER")
    handler = _SIMPLE.get(word)
    if handler is not None and not (replace or temporary or unlogged):
        return handler(cursor)
    if cursor.is_word("materialized", "view"):
        return parse_create_materialized(cursor)
    if word in _UNSUPPORTED:
        raise cursor.unsupported(f"CREATE {word.upper()}")
    raise cursor.syntax_error()


# --- schemas, databases, types ---------------------------------------------------------------


def _schema(cursor: Cursor) -> CreateSchema:
    cursor.advance()
    exists = if_not_exists(cursor)
    name = owner = None
    if not cursor.is_word("authorization"):
        name = cursor.name()
    if cursor.accept("authorization"):
        owner = cursor.any_label()
    elements: list[AnyStatement] = []
    while cursor.is_word("create"):
        elements.append(CREATE(cursor))
    return CreateSchema(name or owner or "", exists, owner, tuple(elements))


def _database(cursor: Cursor) -> CreateDatabase:
    cursor.advance()
    exists = if_not_exists(cursor)
    found = CreateDatabase(cursor.name(), exists, {})
    cursor.accept("with")
    while not cursor.at_end:
        _database_option(cursor, found.options)
    return found


def _database_option(cursor: Cursor, options: dict[str, Any]) -> None:
    if cursor.accept("primary", "region"):
        cursor.accept_op("=")
        options["primary_region"] = _region(cursor)
    elif cursor.accept("regions"):
        cursor.accept_op("=")
        regions = [_region(cursor)]
        while cursor.accept_punct(","):
            regions.append(_region(cursor))
        options["regions"] = tuple(regions)
    elif cursor.accept("survive"):
        goal = cursor.accept_any("zone", "region")
        if goal is None:
            raise cursor.syntax_error()
        cursor.expect("failure")
        options["survive"] = goal
    elif cursor.accept("connection", "limit"):
        cursor.accept_op("=")
        options["connection_limit"] = cursor.number()
    else:
        name = cursor.any_label()
        cursor.accept_op("=")
        if not cursor.accept("default"):
            options[name] = _option_value(cursor)


def _option_value(cursor: Cursor) -> str:
    if cursor.peek().kind in (STRING, NUMBER):
        return cursor.advance().text
    return cursor.value_word()


def _region(cursor: Cursor) -> str:
    return cursor.string() if cursor.is_string() else cursor.name()


def _type(cursor: Cursor) -> CreateEnum:
    cursor.advance()
    name = cursor.qualified()
    if cursor.at_end:
        raise cursor.unsupported("CREATE TYPE without a definition")
    if not cursor.accept("as"):
        raise cursor.unsupported("CREATE TYPE of base types")
    if cursor.accept("enum"):
        cursor.expect_punct("(")
        labels: list[str] = []
        if not cursor.is_punct(")"):
            labels.append(cursor.string())
            while cursor.accept_punct(","):
                labels.append(cursor.string())
        cursor.expect_punct(")")
        return CreateEnum(name, tuple(labels))
    if cursor.is_word("range"):
        raise cursor.unsupported("CREATE TYPE AS RANGE")
    raise cursor.unsupported("CREATE TYPE of composite types")


def _extension(cursor: Cursor) -> CreateExtension:
    cursor.advance()
    exists = if_not_exists(cursor)
    found = CreateExtension(cursor.name(), exists)
    cursor.accept("with")
    while not cursor.at_end:
        if cursor.accept("schema"):
            found.schema = cursor.name()
        elif cursor.accept("version"):
            cursor.advance()
        elif not cursor.accept("cascade"):
            raise cursor.syntax_error()
    return found


# --- sequences ----------------------------------------------------------------------------


def _sequence(cursor: Cursor, temporary: bool) -> CreateSequence:
    cursor.advance()
    exists = if_not_exists(cursor)
    name = cursor.qualified()
    return CreateSequence(name, sequence_options(cursor), exists, temporary)


def sequence_options(cursor: Cursor) -> SequenceOptions:
    """Options of CREATE and ALTER SEQUENCE and of identity columns, as many as there are."""
    options = SequenceOptions()
    while not cursor.at_end and sequence_option(cursor, options):
        pass
    return options


def sequence_option(cursor: Cursor, options: SequenceOptions) -> bool:
    """Takes one option; False if the next word is none."""
    if cursor.accept("as"):
        options.type_name = parse_type(cursor)
    elif cursor.accept("start"):
        cursor.accept("with")
        options.start = cursor.number()
    elif cursor.accept("increment"):
        cursor.accept("by")
        options.increment = cursor.number()
    elif cursor.accept("minvalue"):
        options.minimum = cursor.number()
    elif cursor.accept("maxvalue"):
        options.maximum = cursor.number()
    elif cursor.accept("no", "minvalue"):
        options.no_minimum = True
    elif cursor.accept("no", "maxvalue"):
        options.no_maximum = True
    elif cursor.accept("no", "cycle"):
        options.cycle = False
    elif cursor.accept("cycle"):
        options.cycle = True
    elif cursor.accept("cache"):
        options.cache = cursor.number()
    elif cursor.accept("owned", "by", "none"):
        options.owned_by_none = True
    elif cursor.accept("owned", "by"):
        options.owned_by = _owner(cursor.qualified())
    elif cursor.accept("sequence", "name"):
        options.sequence_name = cursor.qualified()
    elif cursor.accept("restart"):
        required = cursor.accept("with")
        options.restart = cursor.number() if required or cursor.peek().kind in (NUMBER, OP) else True
    else:
        return False
    return True


def _owner(name: Name) -> tuple[Name, str]:
    if name.schema is None:
        raise error("42601", "invalid OWNED BY option", hint="Specify OWNED BY table.column or OWNED BY NONE.")
    return Name(name.schema, name.database, name.position), name.name


# --- views, indexes -------------------------------------------------------------------------


def _view(cursor: Cursor, replace: bool, temporary: bool) -> CreateView:
    if cursor.accept("recursive"):
        raise cursor.unsupported("CREATE RECURSIVE VIEW")
    cursor.expect("view")
    if cursor.is_word("if", "not", "exists"):
        raise cursor.unsupported("CREATE VIEW IF NOT EXISTS")
    name = cursor.qualified()
    columns = cursor.wrapped_names() if cursor.is_punct("(") else ()
    options = storage_options(cursor) if cursor.accept("with") else {}
    cursor.expect("as")
    first = cursor.index
    query, cursor.index = parse_query_prefix(cursor.sql, cursor.lexemes, first, cursor.stop)
    if query.command != "SELECT":
        raise error(
            "42601", f'syntax error at or near "{cursor.lexemes[first].text}"', position=cursor.lexemes[first].start + 1
        )
    if query.into is not None:
        raise error("42P10", "views must not contain SELECT INTO")
    text = cursor.text_between(first, cursor.index)
    body = SqlExpr(text, query.tree, cursor.lexemes[first].start, tuple(query.types))
    found = CreateView(name, columns, body, query, replace, temporary, options)
    if cursor.accept("with"):
        found.check_option = cursor.accept_any("local", "cascaded") or "cascaded"
        cursor.expect("check", "option")
    return found


def parse_create_index(cursor: Cursor) -> CreateIndex:
    """[UNIQUE] INDEX .., from the word after CREATE."""
    unique = cursor.accept("unique")
    cursor.expect("index")
    concurrently = cursor.accept("concurrently")
    exists = if_not_exists(cursor)
    name = None if cursor.is_word("on") else cursor.name()
    cursor.expect("on")
    cursor.accept("only")
    found = CreateIndex(name, cursor.qualified(), (), unique, concurrently, exists)
    if cursor.accept("using"):
        found.method = cursor.name()
    found.elements = parse_index_elements(cursor)
    index_suffix(cursor, found)
    return found


def index_suffix(cursor: Cursor, found: CreateIndex) -> None:
    """INCLUDE (STORING, COVERING), NULLS NOT DISTINCT, WITH, TABLESPACE, WHERE."""
    if cursor.accept_any("include", "storing", "covering") is not None:
        found.include = cursor.wrapped_names()
    if cursor.accept("nulls"):
        found.nulls_not_distinct = cursor.accept("not")
        cursor.expect("distinct")
    if cursor.is_word("using", "hash"):
        raise cursor.unsupported("hash-sharded indexes")
    if cursor.accept("with"):
        found.options = storage_options(cursor)
    if cursor.accept("tablespace"):
        found.tablespace = cursor.name()
    if cursor.accept("where"):
        found.where, cursor.index = parse_expression_prefix(cursor.sql, cursor.lexemes, cursor.index, cursor.stop)


_SIMPLE: Final[dict[str, Callable[[Cursor], AnyStatement]]] = {
    "schema": _schema, "database": _database, "type": _type, "extension": _extension, "index": parse_create_index,
    "unique": parse_create_index, "role": parse_create_role, "user": parse_create_role,
}  # fmt: skip
