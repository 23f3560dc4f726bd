"""SET, SHOW, RESET, DISCARD, prepared statements, cursors, notifications."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from base.errors import error
from sql.parse.cursor import Cursor
from sql.parse.lexer import IDENT, NUMBER, OP, STRING, WORD
from sql.parse.parse_txn import parse_modes, parse_set_constraints
from sql.parse.query import parse_expression, parse_expression_prefix, parse_query
from sql.parse.statements import (
    AnyStatement,
    CancelJob,
    CloseCursor,
    Deallocate,
    DeclareCursor,
    Discard,
    Execute,
    Fetch,
    Listen,
    NodeCommand,
    Notify,
    ResetVariable,
    SetTransaction,
    SetVariable,
    ShowObjects,
    ShowRanges,
    ShowRegions,
    ShowVariable,
    TransactionModes,
    Unlisten,
)

FETCH_COUNT_MAX: Final = 2**31 - 1


# --- SET --------------------------------------------------------------------------------


def _set(cursor: Cursor) -> AnyStatement:
    cursor.advance()
    if cursor.accept("constraints"):
        return parse_set_constraints(cursor)
    if cursor.accept("cluster", "setting"):
        found = set_variable(cursor, False)
        found.is_cluster = True
        return found
    if cursor.accept("session", "characteristics", "as", "transaction"):
        return SetTransaction(parse_modes(cursor), session=True)
    if cursor.is_word("transaction") and not cursor.is_punct(".", 1):
        return _set_transaction(cursor)
    is_local = cursor.accept("local")
    if is_local and cursor.is_word("transaction"):
        return _set_transaction(cursor)
    if not is_local and cursor.is_word("session") and not cursor.is_word("session", "authorization"):
        cursor.advance()
        if cursor.is_word("transaction"):
            return _set_transaction(cursor)
    return set_variable(cursor, is_local)


def _set_transaction(cursor: Cursor) -> SetTransaction:
    cursor.advance()
    if cursor.accept("snapshot"):
        return SetTransaction(TransactionModes(), snapshot=cursor.string())
    return SetTransaction(parse_modes(cursor))


def set_variable(cursor: Cursor, is_local: bool) -> SetVariable:
    """What follows SET: a setting and its value, in all the spellings."""
    special = _special_setting(cursor, is_local)
    if special is not None:
        return special
    name = _setting_name(cursor)
    if not (cursor.accept("to") or cursor.accept_op("=")):
        if cursor.accept("from", "current"):
            raise cursor.unsupported("SET FROM CURRENT")
        raise cursor.syntax_error()
    return SetVariable(name, _values(cursor), is_local)


def _special_setting(cursor: Cursor, is_local: bool) -> SetVariable | None:
    if cursor.accept("time", "zone"):
        return SetVariable("timezone", _zone(cursor), is_local)
    if cursor.accept("names"):
        values = None if cursor.at_end or cursor.accept("default") else (_value(cursor),)
        return SetVariable("client_encoding", values, is_local)
    if (
        cursor.is_word("role")
        and not cursor.is_punct(".", 1)
        and not cursor.is_word("role", "to")
        and cursor.peek(1).kind != OP
    ):
        cursor.advance()
        return SetVariable("role", (_value(cursor),), is_local)
    if cursor.accept("session", "authorization"):
        values = None if cursor.accept("default") else (_value(cursor),)
        return SetVariable("session_authorization", values, is_local)
    if cursor.is_word("schema") and cursor.peek(1).kind == STRING:
        cursor.advance()
        return SetVariable("search_path", (cursor.string(),), is_local)
    if cursor.accept("xml", "option"):
        return SetVariable("xmloption", (_value(cursor),), is_local)
    return None


def _zone(cursor: Cursor) -> tuple[str, ...] | None:
    if cursor.accept("default") or cursor.accept("local"):
        return None
    if cursor.accept("interval"):
        # INTERVAL '+00:00' HOUR TO MINUTE: the offset's text is a zone of its own.
        text = cursor.string()
        for words in (("hour", "to", "minute"), ("hour",)):
            if cursor.accept(*words):
                break
        return (text,)
    return (_value(cursor),)


def _setting_name(cursor: Cursor) -> str:
    parts = [cursor.name()]
    while cursor.accept_punct("."):
        parts.append(cursor.name())
    return ".".join(parts)


def _values(cursor: Cursor) -> tuple[str, ...] | None:
    if cursor.accept("default"):
        return None
    values = [_value(cursor)]
    while cursor.accept_punct(","):
        values.append(_value(cursor))
    return tuple(values)


def _value(cursor: Cursor) -> str:
    lexeme = cursor.peek()
    sign = ""
    if lexeme.kind == OP and lexeme.text in "+-" and cursor.peek(1).kind == NUMBER:
        sign = "-" if lexeme.text == "-" else ""
        cursor.advance()
        lexeme = cursor.peek()
    if lexeme.kind in (WORD, IDENT):
        return cursor.value_word()
    if lexeme.kind not in (STRING, NUMBER):
        raise cursor.syntax_error()
    cursor.advance()
    return sign + lexeme.text


# --- SHOW, RESET, DISCARD -----------------------------------------------------------------

_SHOWN: Final = (
    "tables", "databases", "schemas", "sequences", "users", "roles", "types", "jobs", "sessions", "queries",
    "statements", "transactions", "locality", "grants", "enums", "functions",
)  # fmt: skip
_SHOWN_FROM: Final = ("columns", "indexes", "index", "keys", "constraints")


def _show(cursor: Cursor) -> AnyStatement:
    cursor.advance()
    if cursor.accept("transaction", "isolation", "level"):
        return ShowVariable("transaction_isolation")
    if cursor.accept("time", "zone"):
        return ShowVariable("timezone")
    if cursor.accept("session", "authorization"):
        return ShowVariable("session_authorization")
    if cursor.accept("cluster", "setting"):
        return ShowVariable(_setting_name(cursor), is_cluster=True)
    if cursor.accept("all"):
        return ShowVariable("all")
    if cursor.accept("transaction", "status"):
        return ShowVariable("transaction_status")
    if cursor.is_any(("ranges", "range")) and cursor.peek(1).kind == WORD:
        return _show_ranges(cursor)
    if cursor.accept("regions"):
        return _show_regions(cursor)
    if cursor.is_word("nodes") and cursor.peek(1).kind != OP:
        cursor.advance()
        return NodeCommand("show")
    if cursor.accept("survival", "goal"):
        database = cursor.name() if cursor.accept("from", "database") and cursor.is_name() else None
        return ShowRegions("survival", database)
    if cursor.accept("create"):
        kind = cursor.accept_any("table", "view", "sequence", "schema", "database", "all")
        return ShowObjects(f"create {kind}" if kind else "create", cursor.qualified())
    if cursor.is_any(("zone", "backup", "partitions", "changefeed", "experimental_ranges")):
        raise cursor.unsupported(f"SHOW {cursor.peek().text.upper()}")
    if cursor.is_any(_SHOWN_FROM) and cursor.is_any(_SHOWN_FROM) and cursor.peek(1).text in ("from", "in", "on"):
        kind = cursor.advance().text
        cursor.advance()
        return ShowObjects("indexes" if kind in ("index", "keys") else kind, cursor.qualified())
    if cursor.is_any(_SHOWN) and (cursor.peek(1).kind != WORD or cursor.peek(1).text in ("from", "on", "in")):
        kind = cursor.advance().text
        target = None
        if cursor.accept_any("from", "on", "in") is not None:
            cursor.accept_any("database", "schema", "table")
            target = cursor.qualified()
        return ShowObjects(kind, target)
    return ShowVariable(_setting_name(cursor))


def _show_regions(cursor: Cursor) -> ShowRegions:
    if not cursor.accept("from"):
        return ShowRegions()
    if cursor.accept("cluster"):
        return ShowRegions("cluster")
    if cursor.accept("all", "databases"):
        return ShowRegions("all")
    cursor.expect("database")
    return ShowRegions("database", cursor.name() if cursor.is_name() else None)


def _show_ranges(cursor: Cursor) -> ShowRanges:
    cursor.advance()
    if cursor.accept("from") is False:
        raise cursor.syntax_error()
    if cursor.accept("database"):
        return ShowRanges(None, database=cursor.name())
    if cursor.accept("index"):
        table = cursor.qualified()
        if cursor.accept_op("@"):
            return ShowRanges(table, cursor.name())
        return ShowRanges(None, table.name)
    cursor.accept("table")
    return ShowRanges(cursor.qualified())


def reset_variable(cursor: Cursor) -> ResetVariable:
    """RESET name."""
    cursor.advance()
    if cursor.accept("all"):
        return ResetVariable("all")
    if cursor.accept("time", "zone"):
        return ResetVariable("timezone")
    if cursor.accept("transaction", "isolation", "level"):
        return ResetVariable("transaction_isolation")
    if cursor.accept("session", "authorization"):
        return ResetVariable("session_authorization")
    return ResetVariable(_setting_name(cursor))


def _discard(cursor: Cursor) -> Discard:
    cursor.advance()
    what = cursor.accept_any("all", "plans", "sequences", "temp", "temporary")
    if what is None:
        raise cursor.syntax_error()
    return Discard("temp" if what == "temporary" else what)


# --- prepared statements, cursors -----------------------------------------------------------


def parse_execute(cursor: Cursor) -> Execute:
    """EXECUTE name [(args)]."""
    cursor.advance()
    name = cursor.name()
    args = []
    if cursor.accept_punct("("):
        while True:
            found, cursor.index = parse_expression_prefix(cursor.sql, cursor.lexemes, cursor.index, cursor.stop)
            args.append(found)
            if not cursor.accept_punct(","):
                break
        cursor.expect_punct(")")
    return Execute(name, tuple(args))


def _deallocate(cursor: Cursor) -> Deallocate:
    cursor.advance()
    if cursor.is_word("prepare") and cursor.peek(1).kind in (WORD, IDENT):
        cursor.advance()
    return Deallocate(None if cursor.accept("all") else cursor.name())


def parse_declare(cursor: Cursor) -> DeclareCursor:
    """DECLARE name [options] CURSOR [WITH HOLD] FOR query."""
    cursor.advance()
    found = DeclareCursor(cursor.name(), None, "")  # type: ignore[arg-type]  # the query is set below
    while not cursor.is_word("cursor"):
        if cursor.accept("binary"):
            found.binary = True
        elif cursor.accept("insensitive"):
            found.insensitive = True
        elif cursor.accept("asensitive"):
            pass
        elif cursor.accept("no", "scroll"):
            found.scroll = False
        elif cursor.accept("scroll"):
            found.scroll = True
        else:
            raise cursor.syntax_error()
    cursor.advance()
    if cursor.accept("with", "hold"):
        found.hold = True
    else:
        cursor.accept("without", "hold")
    cursor.expect("for")
    first = cursor.index
    found.query = parse_query(cursor.sql, cursor.lexemes, first, cursor.stop)
    if found.query.command != "SELECT":
        raise error(
            "42601", f'syntax error at or near "{cursor.lexemes[first].text}"', position=cursor.lexemes[first].start + 1
        )
    cursor.index = cursor.stop
    found.text = cursor.text_between(first, cursor.stop)
    found.position = cursor.lexemes[first].start
    return found


def _fetch(cursor: Cursor) -> Fetch:
    is_move = cursor.advance().text == "move"
    direction, count = _direction(cursor)
    cursor.accept_any("from", "in")
    return Fetch(cursor.name(), direction, count, is_move)


def _direction(cursor: Cursor) -> tuple[str, int | None]:
    if cursor.accept("next"):
        return "forward", 1
    if cursor.accept("prior"):
        return "backward", 1
    if cursor.accept("first"):
        return "absolute", 1
    if cursor.accept("last"):
        return "absolute", -1
    word = cursor.accept_any("absolute", "relative")
    if word is not None:
        return word, _count(cursor)
    if cursor.accept("all"):
        return "forward", None
    word = cursor.accept_any("forward", "backward")
    if word is not None:
        if cursor.accept("all"):
            return word, None
        return word, _count(cursor) if _count_follows(cursor) else 1
    if _count_follows(cursor):
        return "forward", _count(cursor)
    return "forward", 1


def _count_follows(cursor: Cursor) -> bool:
    return cursor.peek().kind == NUMBER or (cursor.peek().kind == OP and cursor.peek(1).kind == NUMBER)


def _count(cursor: Cursor) -> int:
    at = cursor.peek()
    count = cursor.number()
    if abs(count) > FETCH_COUNT_MAX:
        raise error("42601", f'syntax error at or near "{at.text}"', position=at.start + 1)
    return count


def _close(cursor: Cursor) -> CloseCursor:
    cursor.advance()
    return CloseCursor(None if cursor.accept("all") else cursor.name())


# --- notifications, jobs --------------------------------------------------------------------


def _listen(cursor: Cursor) -> Listen:
    cursor.advance()
    return Listen(cursor.name())


def _unlisten(cursor: Cursor) -> Unlisten:
    cursor.advance()
    return Unlisten(None if cursor.accept_op("*") else cursor.name())


def _notify(cursor: Cursor) -> Notify:
    cursor.advance()
    channel = cursor.name()
    return Notify(channel, cursor.string() if cursor.accept_punct(",") else "")


def _job(cursor: Cursor) -> CancelJob:
    action = cursor.advance().text
    kind = cursor.accept_any("query", "session", "job", "jobs", "queries", "sessions")
    if kind is None:
        raise cursor.syntax_error()
    target = parse_expression(cursor.sql, cursor.lexemes, cursor.index, cursor.stop)
    cursor.index = cursor.stop
    return CancelJob(action, kind, target)


SESSION: Final[dict[str, Callable[[Cursor], AnyStatement]]] = {
    "set": _set, "show": _show, "reset": reset_variable, "discard": _discard, "execute": parse_execute,
    "deallocate": _deallocate, "fetch": _fetch, "move": _fetch, "close": _close, "listen": _listen, "unlisten": _unlisten,
    "notify": _notify, "cancel": _job, "pause": _job, "resume": _job,
}  # fmt: skip
