"""DROP, TRUNCATE, COMMENT, ANALYZE and the maintenance commands."""

from __future__ import annotations

from typing import Final

from base.errors import error
from sql.parse.cursor import Cursor
from sql.parse.keywords import words
from sql.parse.lexer import NUMBER, STRING
from sql.parse.statements import (
    Analyze,
    AnyStatement,
    CommentOn,
    Drop,
    DropDatabase,
    DropRole,
    Maintenance,
    Name,
    ReassignOwned,
    Truncate,
)

_DROPPED: Final = ("table", "view", "index", "sequence", "type", "schema", "domain", "extension")
_NOT_DROPPED: Final = words("""access aggregate cast collation conversion event foreign function group language operator policy procedure publication routine
    rule server statistics subscription tablespace text transform trigger""")


def parse_drop(cursor: Cursor) -> AnyStatement:
    """Any DROP statement."""
    cursor.advance()
    if cursor.accept("owned", "by"):
        roles = _roles(cursor)
        return ReassignOwned(roles, None, cursor.accept_any("cascade", "restrict") == "cascade")
    if cursor.accept("database"):
        return _drop_database(cursor)
    if cursor.accept_any("role", "user") is not None:
        exists = cursor.accept("if", "exists")
        return DropRole(_roles(cursor), exists)
    if cursor.accept("materialized", "view"):
        return _drop_names(cursor, "materialized view")
    kind = cursor.accept_any(*_DROPPED)
    if kind is not None:
        return _drop_names(cursor, kind)
    if cursor.is_any(_NOT_DROPPED):
        raise cursor.unsupported(f"DROP {cursor.peek().text.upper()}")
    raise cursor.syntax_error()


def _drop_database(cursor: Cursor) -> DropDatabase:
    exists = cursor.accept("if", "exists")
    found = DropDatabase(cursor.name(), exists)
    cursor.accept("with")
    if cursor.accept_punct("("):
        cursor.expect("force")
        cursor.expect_punct(")")
        found.force = True
    word = cursor.accept_any("cascade", "restrict")
    found.cascade = None if word is None else word == "cascade"
    return found


def _drop_names(cursor: Cursor, kind: str) -> Drop:
    concurrently = kind == "index" and cursor.accept("concurrently")
    exists = cursor.accept("if", "exists")
    names: list[Name] = []
    tables: list[Name | None] = []
    while True:
        name = cursor.qualified()
        table = None
        if kind == "index" and cursor.accept_op("@"):
            table, name = name, Name(cursor.name(), name.schema, name.position)
        names.append(name)
        tables.append(table)
        if not cursor.accept_punct(","):
            break
    cascade = cursor.accept_any("cascade", "restrict") == "cascade"
    return Drop(kind, tuple(names), exists, cascade, concurrently, tuple(tables))


def _roles(cursor: Cursor) -> tuple[str, ...]:
    roles = [cursor.any_label()]
    while cursor.accept_punct(","):
        roles.append(cursor.any_label())
    return tuple(roles)


def parse_reassign(cursor: Cursor) -> ReassignOwned:
    """REASSIGN OWNED BY a, b TO c."""
    cursor.advance()
    cursor.expect("owned", "by")
    roles = _roles(cursor)
    cursor.expect("to")
    return ReassignOwned(roles, cursor.any_label())


def parse_truncate(cursor: Cursor) -> Truncate:
    """TRUNCATE [TABLE] a, b [RESTART IDENTITY] [CASCADE]."""
    cursor.advance()
    cursor.accept("table")
    tables: list[Name] = []
    while True:
        cursor.accept("only")
        tables.append(cursor.qualified())
        cursor.accept_op("*")
        if not cursor.accept_punct(","):
            break
    restart = cursor.accept("restart", "identity")
    if not restart:
        cursor.accept("continue", "identity")
    return Truncate(tuple(tables), restart, cursor.accept_any("cascade", "restrict") == "cascade")


# --- COMMENT ----------------------------------------------------------------------------------

_COMMENTED: Final = ("table", "view", "index", "schema", "database", "sequence", "type", "role", "extension", "domain")
_NOT_COMMENTED: Final = words("""access aggregate cast collation conversion event foreign function language large operator policy procedure
    procedural publication routine rule server statistics subscription tablespace text transform trigger""")


def parse_comment(cursor: Cursor) -> CommentOn:
    """COMMENT ON kind name IS text."""
    cursor.advance()
    cursor.expect("on")
    if cursor.accept("column"):
        full = cursor.qualified()
        if full.schema is None:
            raise error("42601", "column name must be qualified", position=full.position + 1)
        found = CommentOn("column", Name(full.schema, full.database, full.position), full.name, None)
    elif cursor.accept("constraint"):
        part = cursor.name()
        cursor.expect("on")
        if cursor.is_word("domain"):
            raise cursor.unsupported("COMMENT ON CONSTRAINT of domains")
        cursor.accept("table")
        found = CommentOn("constraint", cursor.qualified(), part, None)
    elif cursor.accept("materialized", "view"):
        found = CommentOn("materialized view", cursor.qualified(), None, None)
    elif (kind := cursor.accept_any(*_COMMENTED)) is not None:
        found = CommentOn(kind, cursor.qualified(), None, None)
    elif cursor.is_any(_NOT_COMMENTED):
        raise cursor.unsupported(f"COMMENT ON {cursor.peek().text.upper()}")
    else:
        raise cursor.syntax_error()
    cursor.expect("is")
    if not cursor.accept("null"):
        found.comment = cursor.string()
    return found


# --- ANALYZE, VACUUM.. --------------------------------------------------------------------------


def parse_analyze(cursor: Cursor) -> Analyze:
    """ANALYZE [(options) | VERBOSE] [table [(columns)], ..]."""
    cursor.advance()
    verbose = False
    if cursor.is_punct("("):
        verbose = "verbose" in _utility_options(cursor)
    elif cursor.accept("verbose"):
        verbose = True
    return Analyze(_analyzed(cursor), verbose)


def _utility_options(cursor: Cursor) -> set[str]:
    """``(FULL, ANALYZE true)``: the options that are switched on."""
    cursor.expect_punct("(")
    chosen: set[str] = set()
    while True:
        if (
            not cursor.is_any(("analyze", "analyse"))
            and not cursor.is_name()
            and not cursor.is_any(("full", "freeze", "verbose", "concurrently"))
        ):
            raise cursor.syntax_error()
        name = cursor.any_label()
        value = "true"
        if not (cursor.is_punct(",") or cursor.is_punct(")")):
            value = cursor.advance().text if cursor.peek().kind in (NUMBER, STRING) else cursor.value_word()
        if value not in ("false", "off", "0"):
            chosen.add(name)
        if not cursor.accept_punct(","):
            break
    cursor.expect_punct(")")
    return chosen


def _analyzed(cursor: Cursor) -> tuple[tuple[Name, tuple[str, ...]], ...]:
    tables: list[tuple[Name, tuple[str, ...]]] = []
    if cursor.at_end:
        return ()
    while True:
        name = cursor.qualified()
        tables.append((name, cursor.wrapped_names() if cursor.is_punct("(") else ()))
        if not cursor.accept_punct(","):
            return tuple(tables)


def parse_maintenance(cursor: Cursor) -> Maintenance:
    """VACUUM, REINDEX, CLUSTER, CHECKPOINT: read, and accepted."""
    command = cursor.advance().text
    found = Maintenance(command.upper())
    if command == "checkpoint":
        return found
    if cursor.is_punct("("):
        found.analyze = not {"analyze", "analyse"}.isdisjoint(_utility_options(cursor))
    if command == "reindex":
        found.kind = cursor.accept_any("index", "table", "schema", "database", "system") or ""
        if not found.kind:
            raise cursor.syntax_error()
        cursor.accept("concurrently")
        found.tables = (cursor.qualified(),)
        return found
    while (word := cursor.accept_any("full", "freeze", "verbose", "analyze", "analyse")) is not None:
        found.analyze = found.analyze or word.startswith("analy")
    if command == "cluster":
        if not cursor.at_end:
            found.tables = (cursor.qualified(),)
            if cursor.accept("using"):
                cursor.name()
        return found
    found.tables = tuple(name for name, _ in _analyzed(cursor))
    return found
