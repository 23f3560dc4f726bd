"""ALTER of everything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from sql.parse.cursor import Cursor
from sql.parse.keywords import words
from sql.parse.lexer import NUMBER, WORD
from sql.parse.parse_create import sequence_option, sequence_options
from sql.parse.parse_roles import parse_alter_default_privileges, parse_alter_role
from sql.parse.parse_session import reset_variable, set_variable
from sql.parse.parse_table import (
    column_definition,
    expression,
    parenthesised_sequence_options,
    parse_index_elements,
    parse_locality,
    storage_options,
    table_constraint,
)
from sql.parse.statements import (
    AddColumn,
    AddConstraint,
    AlterColumnDefault,
    AlterColumnDropExpression,
    AlterColumnIdentity,
    AlterColumnNotNull,
    AlterColumnOptions,
    AlterColumnType,
    AlterColumnVisible,
    AlterConstraint,
    AlterDatabase,
    AlterPrimaryKey,
    AlterSchema,
    AlterSequence,
    AlterTable,
    AlterTypeAddValue,
    AlterTypeRenameValue,
    AnyStatement,
    ClusterOn,
    ConfigureZone,
    DropColumn,
    DropConstraint,
    NodeCommand,
    RenameColumn,
    RenameConstraint,
    RenameRelation,
    SequenceOptions,
    SetLocality,
    SetOptions,
    SetOwner,
    SetPersistence,
    SetSchema,
    SetTriggers,
    SplitAt,
    SqlExpr,
    TableAction,
    ValidateConstraint,
)
from sql.parse.types import parse_type

_UNSUPPORTED: Final = words("""aggregate collation conversion domain event extension foreign function group language large operator policy
    procedure publication routine rule server statistics subscription system tablespace text trigger range""")
_UNSUPPORTED_ACTIONS: Final = {
    "enable": "ENABLE", "disable": "DISABLE", "force": "FORCE ROW LEVEL SECURITY", "inherit": "INHERIT", "attach": "ATTACH PARTITION",
    "detach": "DETACH PARTITION", "of": "OF", "unsplit": "UNSPLIT", "scatter": "SCATTER", "partition": "PARTITION BY",
    "experimental_relocate": "EXPERIMENTAL_RELOCATE", "depends": "DEPENDS ON EXTENSION",
}  # fmt: skip


def ALTER(cursor: Cursor) -> AnyStatement:  # an entry of the dispatch table
    """Any ALTER statement."""
    cursor.advance()
    handler = _KINDS.get(cursor.peek().text)
    if handler is not None and cursor.peek().kind == WORD:
        return handler(cursor)
    if cursor.is_any(_UNSUPPORTED):
        raise cursor.unsupported(f"ALTER {cursor.peek().text.upper()}")
    raise cursor.syntax_error()


# --- tables ---------------------------------------------------------------------------------


def _relation(cursor: Cursor) -> AlterTable:
    """ALTER TABLE, VIEW, MATERIALIZED VIEW, INDEX: name and actions."""
    kind = cursor.advance().text
    if kind == "materialized":
        cursor.expect("view")
        kind = "materialized view"
    if cursor.is_word("all", "in", "tablespace"):
        raise cursor.unsupported("ALTER ALL IN TABLESPACE")
    exists = cursor.accept("if", "exists")
    cursor.accept("only")
    name = cursor.qualified()
    index = ""
    if kind == "index" and cursor.accept_op("@"):
        index = cursor.name()
    cursor.accept_op("*")
    found = AlterTable(kind, name, (), exists)
    actions = [_action(cursor, kind, index)]
    while cursor.accept_punct(","):
        actions.append(_action(cursor, kind, index))
    found.actions = tuple(actions)
    return found


def _triggers(cursor: Cursor) -> SetTriggers | None:
    """ENABLE [REPLICA | ALWAYS] or DISABLE TRIGGER; None if something else is enabled."""
    is_enabled = cursor.is_word("enable")
    ahead = 2 if is_enabled and cursor.peek(1).text in ("replica", "always") else 1
    if cursor.peek(ahead).text != "trigger":
        return None
    for _ in range(ahead + 1):
        cursor.advance()
    which = cursor.accept_any("all", "user") if ahead == 1 else None
    return SetTriggers(is_enabled, "" if which is not None else cursor.name(), which or "")


def _action(cursor: Cursor, kind: str, index: str) -> TableAction:
    if cursor.accept("rename"):
        return _rename(cursor)
    if cursor.accept("add"):
        return _add(cursor)
    if cursor.accept("drop"):
        return _drop(cursor)
    if cursor.is_word("alter", "primary", "key"):
        return _primary_key(cursor)
    if cursor.accept("alter", "constraint"):
        return _alter_constraint(cursor)
    if cursor.accept("alter"):
        cursor.accept("column")
        return _column(cursor, cursor.name())
    if cursor.accept("validate", "constraint"):
        return ValidateConstraint(cursor.name())
    if cursor.accept("owner", "to"):
        return SetOwner(cursor.any_label())
    if cursor.accept("split", "at"):
        return _split(cursor, index)
    if cursor.accept("unsplit", "all"):
        return SplitAt((), index, is_undone=True)
    if cursor.accept("unsplit", "at"):
        return replace(_split(cursor, index), is_undone=True)
    if cursor.accept("cluster", "on"):
        return ClusterOn(cursor.name())
    if cursor.is_word("enable") or cursor.is_word("disable"):
        triggers = _triggers(cursor)
        if triggers is not None:
            return triggers
    if cursor.accept("configure", "zone"):
        return _zone(cursor)
    if cursor.accept("replica", "identity"):
        return _replica_identity(cursor)
    if cursor.accept("set"):
        return _set(cursor)
    if cursor.accept("reset"):
        return SetOptions(dict.fromkeys(storage_options(cursor)))
    if cursor.is_word("no"):
        raise cursor.unsupported("ALTER TABLE NO INHERIT")
    word = cursor.peek().text
    if word in _UNSUPPORTED_ACTIONS and cursor.peek().kind == WORD:
        following = cursor.peek(1).text.upper() if word in ("enable", "disable") else ""
        raise cursor.unsupported(f"ALTER TABLE {_UNSUPPORTED_ACTIONS[word]} {following}".strip())
    raise cursor.syntax_error()


def _rename(cursor: Cursor) -> TableAction:
    if cursor.accept("to"):
        return RenameRelation(cursor.name())
    is_constraint = cursor.accept("constraint")
    if not is_constraint:
        cursor.accept("column")
    name = cursor.name()
    cursor.expect("to")
    return RenameConstraint(name, cursor.name()) if is_constraint else RenameColumn(name, cursor.name())


def _add(cursor: Cursor) -> TableAction:
    if cursor.is_any(("constraint", "primary", "unique", "check", "foreign", "exclude")):
        return AddConstraint(table_constraint(cursor))
    cursor.accept("column")
    exists = cursor.accept("if", "not", "exists")
    return AddColumn(column_definition(cursor), exists)


def _drop(cursor: Cursor) -> TableAction:
    is_constraint = cursor.accept("constraint")
    if not is_constraint:
        cursor.accept("column")
    exists = cursor.accept("if", "exists")
    name = cursor.name()
    cascade = cursor.accept_any("cascade", "restrict") == "cascade"
    return DropConstraint(name, exists, cascade) if is_constraint else DropColumn(name, exists, cascade)


def _primary_key(cursor: Cursor) -> AlterPrimaryKey:
    cursor.expect("alter", "primary", "key", "using", "columns")
    found = AlterPrimaryKey(parse_index_elements(cursor))
    if cursor.is_word("using"):
        raise cursor.unsupported("hash-sharded primary keys")
    return found


def _alter_constraint(cursor: Cursor) -> AlterConstraint:
    name = cursor.name()
    found = AlterConstraint(name, False, False)
    while True:
        if cursor.accept("deferrable"):
            found.deferrable = True
        elif cursor.accept("not", "deferrable") or cursor.accept("initially", "immediate"):
            pass
        elif cursor.accept("initially", "deferred"):
            found.deferrable = found.initially_deferred = True
        else:
            return found


def _column(cursor: Cursor, name: str) -> TableAction:
    """After ALTER [COLUMN] name."""
    if cursor.accept("type") or cursor.accept("set", "data", "type"):
        found = AlterColumnType(name, parse_type(cursor))
        if cursor.accept("collate"):
            found.collation = cursor.qualified()
        if cursor.accept("using"):
            found.using = expression(cursor)
        return found
    if cursor.accept("set", "default"):
        return AlterColumnDefault(name, expression(cursor))
    if cursor.accept("drop", "default"):
        return AlterColumnDefault(name, None)
    if cursor.accept("set", "not", "null"):
        return AlterColumnNotNull(name, True)
    if cursor.accept("drop", "not", "null"):
        return AlterColumnNotNull(name, False)
    if cursor.accept("drop", "expression"):
        return AlterColumnDropExpression(name, cursor.accept("if", "exists"))
    if cursor.accept("drop", "stored"):
        return AlterColumnDropExpression(name)
    if cursor.accept("drop", "identity"):
        return AlterColumnIdentity(name, "drop", if_exists=cursor.accept("if", "exists"))
    if cursor.accept("add", "generated"):
        identity = _identity_kind(cursor)
        cursor.expect("as", "identity")
        return AlterColumnIdentity(name, "add", identity, parenthesised_sequence_options(cursor))
    if cursor.is_any(("set", "reset", "restart")):
        return _column_set(cursor, name)
    raise cursor.syntax_error()


def _identity_kind(cursor: Cursor) -> str:
    if cursor.accept("always"):
        return "a"
    cursor.expect("by", "default")
    return "d"


def _column_set(cursor: Cursor, name: str) -> TableAction:
    if cursor.accept("set", "statistics"):
        cursor.number()
        return AlterColumnOptions(name, "statistics")
    for what in ("storage", "compression"):
        if cursor.accept("set", what):
            cursor.any_label()
            return AlterColumnOptions(name, what)
    if cursor.accept("set", "visible"):
        return AlterColumnVisible(name, True)
    if cursor.accept("set", "not", "visible"):
        return AlterColumnVisible(name, False)
    if cursor.peek(1).text == "(" or cursor.is_word("reset"):
        cursor.advance()
        storage_options(cursor)
        return AlterColumnOptions(name, "options")
    found = AlterColumnIdentity(name, "set", options=SequenceOptions())
    assert found.options is not None
    while True:
        if cursor.accept("set", "generated"):
            found.identity = _identity_kind(cursor)
        elif cursor.is_word("restart") or cursor.accept("set"):
            if not sequence_option(cursor, found.options):
                raise cursor.syntax_error()
        else:
            return found


def _set(cursor: Cursor) -> TableAction:
    """After SET."""
    if cursor.is_punct("("):
        return SetOptions(dict(storage_options(cursor)))
    if cursor.accept("schema"):
        return SetSchema(cursor.name())
    if cursor.is_word("locality"):
        return SetLocality(parse_locality(cursor))
    if cursor.accept("tablespace"):
        return SetOptions({"tablespace": cursor.name()})
    if cursor.accept("logged"):
        return SetPersistence(True)
    if cursor.accept("unlogged"):
        return SetPersistence(False)
    if cursor.accept("without", "cluster"):
        return ClusterOn(None)
    if cursor.accept("without", "oids"):
        return SetOptions({})
    if cursor.accept("access", "method"):
        return SetOptions({"access_method": cursor.name()})
    raise cursor.syntax_error()


def _replica_identity(cursor: Cursor) -> SetOptions:
    if cursor.accept("using", "index"):
        return SetOptions({"replica_identity": cursor.name()})
    word = cursor.accept_any("default", "full", "nothing")
    if word is None:
        raise cursor.syntax_error()
    return SetOptions({"replica_identity": word})


def _split(cursor: Cursor, index: str) -> SplitAt:
    """After SPLIT AT: VALUES (..), (..)."""
    cursor.expect("values")
    rows: list[tuple[SqlExpr, ...]] = []
    while True:
        cursor.expect_punct("(")
        row = [expression(cursor)]
        while cursor.accept_punct(","):
            row.append(expression(cursor))
        cursor.expect_punct(")")
        rows.append(tuple(row))
        if not cursor.accept_punct(","):
            break
    if cursor.accept("with", "expiration"):
        expression(cursor)
    return SplitAt(tuple(rows), index)


def _zone(cursor: Cursor) -> ConfigureZone:
    if cursor.accept("discard"):
        return ConfigureZone(None)
    cursor.expect("using")
    options: dict[str, str] = {}
    while True:
        name = cursor.any_label()
        while cursor.accept_punct("."):
            name += "." + cursor.any_label()
        if not cursor.accept_op("="):
            raise cursor.syntax_error()
        options[name] = cursor.advance().text
        if not cursor.accept_punct(","):
            return ConfigureZone(options)


# --- other kinds ------------------------------------------------------------------------------


def _sequence(cursor: Cursor) -> AnyStatement:
    cursor.advance()
    exists = cursor.accept("if", "exists")
    name = cursor.qualified()
    if (cursor.is_any(("rename", "owner")) and not cursor.is_word("owned")) or cursor.is_word("set", "schema"):
        return AlterTable("sequence", name, (_action(cursor, "sequence", ""),), exists)
    if cursor.is_word("set") and cursor.peek(1).text in ("logged", "unlogged"):
        return AlterTable("sequence", name, (_action(cursor, "sequence", ""),), exists)
    return AlterSequence(name, sequence_options(cursor), exists)


def _type(cursor: Cursor) -> AnyStatement:
    cursor.advance()
    name = cursor.qualified()
    if cursor.accept("add", "value"):
        exists = cursor.accept("if", "not", "exists")
        found = AlterTypeAddValue(name, cursor.string(), exists)
        if cursor.accept("before"):
            found.before = cursor.string()
        elif cursor.accept("after"):
            found.after = cursor.string()
        return found
    if cursor.accept("rename", "value"):
        label = cursor.string()
        cursor.expect("to")
        return AlterTypeRenameValue(name, label, cursor.string())
    if cursor.is_any(("rename", "owner", "set")):
        if cursor.is_word("rename", "attribute"):
            raise cursor.unsupported("ALTER TYPE RENAME ATTRIBUTE")
        return AlterTable("type", name, (_action(cursor, "type", ""),))
    raise cursor.unsupported("ALTER TYPE of composite types")


def _schema(cursor: Cursor) -> AlterSchema:
    cursor.advance()
    name = cursor.name()
    if cursor.accept("rename", "to"):
        return AlterSchema(name, "rename", cursor.name())
    cursor.expect("owner", "to")
    return AlterSchema(name, "owner", cursor.any_label())


def _database(cursor: Cursor) -> AlterDatabase:
    cursor.advance()
    name = cursor.name()
    if cursor.accept("rename", "to"):
        return AlterDatabase(name, "rename", cursor.name())
    if cursor.accept("owner", "to"):
        return AlterDatabase(name, "owner", cursor.any_label())
    if cursor.accept("add", "super", "region"):
        raise cursor.unsupported("super regions")
    if cursor.accept("add", "region"):
        exists = cursor.accept("if", "not", "exists")
        return AlterDatabase(name, "add region", _region(cursor), if_exists=exists)
    if cursor.accept("drop", "region"):
        exists = cursor.accept("if", "exists")
        return AlterDatabase(name, "drop region", _region(cursor), if_exists=exists)
    if cursor.accept("set", "primary", "region") or cursor.accept("primary", "region"):
        cursor.accept_op("=")
        return AlterDatabase(name, "primary region", _region(cursor))
    if cursor.accept("survive"):
        cursor.accept_op("=")
        goal = cursor.accept_any("zone", "region")
        if goal is None:
            raise cursor.syntax_error()
        cursor.expect("failure")
        return AlterDatabase(name, "survive", goal)
    if cursor.accept("placement"):
        where = cursor.accept_any("restricted", "default")
        if where is None:
            raise cursor.syntax_error()
        return AlterDatabase(name, "placement", where)
    if cursor.accept("set"):
        return AlterDatabase(name, "set", setting=set_variable(cursor, False))
    if cursor.is_word("reset"):
        return AlterDatabase(name, "reset", setting=reset_variable(cursor))
    cursor.accept("with")
    if cursor.accept("connection", "limit"):
        return AlterDatabase(name, "connection limit", str(cursor.number()))
    if cursor.is_any(("allow_connections", "is_template")):
        what = cursor.advance().text
        cursor.accept_op("=")
        return AlterDatabase(name, what, cursor.advance().text)
    if cursor.accept("configure", "zone"):
        raise cursor.unsupported("CONFIGURE ZONE of databases")
    raise cursor.syntax_error()


def _node(cursor: Cursor) -> NodeCommand:
    cursor.advance()
    lexeme = cursor.peek()
    if lexeme.kind != NUMBER or not lexeme.text.isdigit():
        raise cursor.syntax_error()
    cursor.advance()
    node_id = int(lexeme.text)
    action = cursor.accept_any("drain", "decommission", "recommission")
    if action is None:
        raise cursor.syntax_error()
    return NodeCommand(action, node_id)


def _region(cursor: Cursor) -> str:
    return cursor.string() if cursor.is_string() else cursor.name()


_KINDS: Final[dict[str, Callable[[Cursor], AnyStatement]]] = {
    "table": _relation, "view": _relation, "materialized": _relation, "index": _relation, "sequence": _sequence, "type": _type, "schema": _schema,
    "database": _database, "role": parse_alter_role, "user": parse_alter_role, "default": parse_alter_default_privileges,
    "node": _node,
}  # fmt: skip
