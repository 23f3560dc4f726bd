"""Transaction control."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sql.parse.cursor import Cursor
from sql.parse.query import parse_expression_prefix
from sql.parse.statements import (
    AnyStatement,
    Begin,
    Commit,
    LockTable,
    ReleaseSavepoint,
    Rollback,
    RollbackToSavepoint,
    Savepoint,
    SetConstraints,
    SqlExpr,
    TransactionModes,
)

_LEVELS: Final = (("serializable",), ("repeatable", "read"), ("read", "committed"), ("read", "uncommitted"))
_LOCK_MODES: Final = (
    "access share", "row share", "row exclusive", "share update exclusive", "share row exclusive", "share", "exclusive",
    "access exclusive",
)  # fmt: skip


def parse_modes(cursor: Cursor) -> TransactionModes:
    """Modes, with or without commas between them."""
    modes = TransactionModes()
    while not cursor.at_end:
        if not _mode(cursor, modes):
            raise cursor.syntax_error()
        cursor.accept_punct(",")
    return modes


def _mode(cursor: Cursor, modes: TransactionModes) -> bool:
    if cursor.accept("isolation", "level"):
        for words in _LEVELS:
            if cursor.accept(*words):
                modes.isolation = " ".join(words)
                return True
        raise cursor.syntax_error()
    if cursor.accept("read", "only"):
        modes.read_only = True
    elif cursor.accept("read", "write"):
        modes.read_only = False
    elif cursor.accept("deferrable"):
        modes.deferrable = True
    elif cursor.accept("not", "deferrable"):
        modes.deferrable = False
    elif cursor.accept("priority"):
        modes.priority = cursor.accept_any("low", "normal", "high")
        if modes.priority is None:
            raise cursor.syntax_error()
    elif cursor.is_word("as", "of", "system", "time"):
        modes.as_of = parse_as_of(cursor)
    else:
        return False
    return True


def parse_as_of(cursor: Cursor) -> SqlExpr:
    """AS OF SYSTEM TIME expression."""
    cursor.expect("as", "of", "system", "time")
    found, cursor.index = parse_expression_prefix(cursor.sql, cursor.lexemes, cursor.index, cursor.stop, tight=True)
    return found


def _begin(cursor: Cursor) -> Begin:
    cursor.advance()
    cursor.accept_any("work", "transaction")
    return Begin(parse_modes(cursor))


def _start(cursor: Cursor) -> Begin:
    cursor.advance()
    cursor.expect("transaction")
    return Begin(parse_modes(cursor), is_start=True)


def _chain(cursor: Cursor) -> bool:
    cursor.accept_any("work", "transaction")
    if not cursor.accept("and"):
        return False
    no = cursor.accept("no")
    cursor.expect("chain")
    return not no


def _commit(cursor: Cursor) -> Commit:
    word = cursor.advance().text
    if word == "commit" and cursor.is_word("prepared"):
        raise cursor.unsupported("COMMIT PREPARED")
    return Commit(_chain(cursor))


def _rollback(cursor: Cursor) -> Rollback | RollbackToSavepoint:
    word = cursor.advance().text
    if word == "rollback":
        if cursor.is_word("prepared"):
            raise cursor.unsupported("ROLLBACK PREPARED")
        cursor.accept_any("work", "transaction")
        if cursor.accept("to"):
            cursor.accept("savepoint")
            return RollbackToSavepoint(cursor.name())
    return Rollback(_chain(cursor))


def _savepoint(cursor: Cursor) -> Savepoint:
    cursor.advance()
    return Savepoint(cursor.name())


def _release(cursor: Cursor) -> ReleaseSavepoint:
    cursor.advance()
    cursor.accept("savepoint")
    return ReleaseSavepoint(cursor.name())


def parse_set_constraints(cursor: Cursor) -> SetConstraints:
    """After SET CONSTRAINTS."""
    names = () if cursor.accept("all") else cursor.qualified_list()
    when = cursor.accept_any("deferred", "immediate")
    if when is None:
        raise cursor.syntax_error()
    return SetConstraints(names, when == "deferred")


def _lock(cursor: Cursor) -> LockTable:
    cursor.advance()
    cursor.accept("table")
    tables = []
    while True:
        cursor.accept("only")
        tables.append(cursor.qualified())
        cursor.accept_op("*")
        if not cursor.accept_punct(","):
            break
    mode = "access exclusive"
    if cursor.accept("in"):
        for candidate in _LOCK_MODES:
            if cursor.accept(*candidate.split(), "mode"):
                mode = candidate
                break
        else:
            raise cursor.syntax_error()
    return LockTable(tuple(tables), mode.upper(), cursor.accept("nowait"))


TRANSACTION: Final[dict[str, Callable[[Cursor], AnyStatement]]] = {
    "begin": _begin, "start": _start, "commit": _commit, "end": _commit, "rollback": _rollback, "abort": _rollback,
    "savepoint": _savepoint, "release": _release, "lock": _lock,
}  # fmt: skip
