"""CREATE TABLE: columns, constraints, clauses."""

from __future__ import annotations

from typing import Final

from base.errors import error
from sql.parse.cursor import Cursor
from sql.parse.lexer import IDENT, WORD
from sql.parse.parse_session import parse_execute
from sql.parse.query import parse_expression_prefix, parse_query_prefix
from sql.parse.statements import (
    ColumnDef,
    Constraint,
    CreateIndex,
    CreateTable,
    CreateTableAs,
    ForeignKeyTarget,
    IndexElement,
    Interleave,
    LikeClause,
    Locality,
    Name,
    Query,
    SequenceOptions,
    SqlExpr,
)
from sql.parse.types import parse_type

COLUMNS_MAX: Final = 1600
"""As PostgreSQL's MaxHeapAttributeNumber."""
_LIKE_WORDS: Final = (
    "comments",
    "compression",
    "constraints",
    "defaults",
    "generated",
    "identity",
    "indexes",
    "statistics",
    "storage",
)
_ACTIONS: Final = (("no", "action"), ("restrict",), ("cascade",), ("set", "null"), ("set", "default"))


def expression(cursor: Cursor, tight: bool = False) -> SqlExpr:
    """Takes an expression."""
    found, cursor.index = parse_expression_prefix(cursor.sql, cursor.lexemes, cursor.index, cursor.stop, tight)
    return found


def wrapped_expression(cursor: Cursor) -> SqlExpr:
    """``(expression)``: the text is without the parentheses."""
    cursor.expect_punct("(")
    found = expression(cursor)
    cursor.expect_punct(")")
    return found


def storage_options(cursor: Cursor) -> dict[str, str]:
    """``(fillfactor = 70, autovacuum_enabled)``."""
    cursor.expect_punct("(")
    options: dict[str, str] = {}
    while True:
        name = cursor.any_label()
        while cursor.accept_punct("."):
            name += "." + cursor.any_label()
        value = "true"
        if cursor.accept_op("="):
            sign = cursor.advance().text if cursor.is_op("-") else ""
            if cursor.is_punct(",") or cursor.is_punct(")") or cursor.at_end:
                raise cursor.syntax_error()
            value = sign + cursor.advance().text
        options[name] = value
        if not cursor.accept_punct(","):
            break
    cursor.expect_punct(")")
    return options


def parse_create_table(cursor: Cursor, temporary: bool, unlogged: bool) -> CreateTable | CreateTableAs:
    """CREATE TABLE, from the word TABLE."""
    cursor.advance()
    exists = cursor.accept("if", "not", "exists")
    name = cursor.qualified()
    if cursor.is_word("of"):
        raise cursor.unsupported("CREATE TABLE OF a type")
    if cursor.is_word("partition"):
        raise cursor.unsupported("CREATE TABLE PARTITION OF")
    if not cursor.is_punct("(") or _is_column_name_list(cursor):
        return _table_as(cursor, name, exists, temporary, unlogged)
    found = CreateTable(name, (), (), if_not_exists=exists, is_temporary=temporary, is_unlogged=unlogged)
    _table_elements(cursor, found)
    _table_clauses(cursor, found)
    return found


# --- CREATE TABLE AS ------------------------------------------------------------------------


def _is_column_name_list(cursor: Cursor) -> bool:
    """``(a, b) AS``: only names, then AS or one of the clauses before it."""
    index = cursor.index
    try:
        cursor.advance()
        if not cursor.is_name():
            return False
        cursor.advance()
        while cursor.accept_punct(","):
            if not cursor.is_name():
                return False
            cursor.advance()
        return cursor.accept_punct(")")
    finally:
        cursor.index = index


def _table_as(cursor: Cursor, name: Name, exists: bool, temporary: bool, unlogged: bool) -> CreateTableAs:
    columns = cursor.wrapped_names() if cursor.is_punct("(") else ()
    options: dict[str, str] = {}
    on_commit = ""
    while not cursor.is_word("as"):
        if cursor.accept("with"):
            options = storage_options(cursor)
        elif cursor.accept("on", "commit"):
            on_commit = _on_commit(cursor)
        elif cursor.accept("tablespace"):
            cursor.name()
        elif cursor.is_word("using"):
            cursor.advance()
            cursor.name()
        else:
            raise cursor.syntax_error()
    cursor.advance()
    first = cursor.index
    query: Query
    if cursor.is_word("execute"):
        execute = parse_execute(cursor)
        found = CreateTableAs(
            name, columns, execute, cursor.text_between(first, cursor.index), cursor.lexemes[first].start
        )
    else:
        query, cursor.index = parse_query_prefix(cursor.sql, cursor.lexemes, first, cursor.stop)
        if query.command != "SELECT":
            raise error(
                "42601",
                f'syntax error at or near "{cursor.lexemes[first].text}"',
                position=cursor.lexemes[first].start + 1,
            )
        found = CreateTableAs(
            name, columns, query, cursor.text_between(first, cursor.index), cursor.lexemes[first].start
        )
    found.if_not_exists, found.is_temporary, found.is_unlogged = exists, temporary, unlogged
    found.options, found.on_commit = options, on_commit
    if cursor.accept("with"):
        found.with_data = not cursor.accept("no")
        cursor.expect("data")
    return found


# --- elements -------------------------------------------------------------------------------


def _table_elements(cursor: Cursor, found: CreateTable) -> None:
    columns: list[ColumnDef] = []
    constraints: list[Constraint] = []
    likes: list[tuple[int, LikeClause]] = []
    indexes: list[CreateIndex] = []
    cursor.expect_punct("(")
    if not cursor.is_punct(")"):
        while True:
            if cursor.is_word("like"):
                likes.append((len(columns), _like(cursor)))
            elif _is_inline_index(cursor):
                indexes.append(_inline_index(cursor, found.name))
            elif cursor.is_word("family") and (cursor.is_punct("(", 1) or cursor.is_punct("(", 2)):
                cursor.advance()
                if not cursor.is_punct("("):
                    cursor.name()
                cursor.wrapped_names()
            elif is_table_constraint(cursor):
                constraints.append(table_constraint(cursor))
            else:
                columns.append(column_definition(cursor))
            if not cursor.accept_punct(","):
                break
    cursor.expect_punct(")")
    if len(columns) > COLUMNS_MAX:
        raise error("54011", f"tables can have at most {COLUMNS_MAX} columns")
    found.columns, found.constraints, found.likes, found.indexes = (
        tuple(columns),
        tuple(constraints),
        tuple(likes),
        tuple(indexes),
    )


def _is_inline_index(cursor: Cursor) -> bool:
    at = 1 if cursor.is_word("unique") else 0
    if cursor.peek(at).text in ("inverted", "vector") and cursor.peek(at + 1).text == "index":
        raise cursor.unsupported(f"{cursor.peek(at).text.upper()} INDEX")
    if cursor.peek(at).text != "index" or cursor.peek(at).kind != WORD:
        return False
    return cursor.is_punct("(", at + 1) or (cursor.is_name(at + 1) and cursor.is_punct("(", at + 2))


def _inline_index(cursor: Cursor, table: Name) -> CreateIndex:
    from sql.parse.parse_create import index_suffix

    unique = cursor.accept("unique")
    cursor.expect("index")
    name = None if cursor.is_punct("(") else cursor.name()
    found = CreateIndex(name, table, parse_index_elements(cursor), unique)
    index_suffix(cursor, found)
    return found


def _like(cursor: Cursor) -> LikeClause:
    cursor.advance()
    table = cursor.qualified()
    chosen: dict[str, bool] = {}
    while (word := cursor.accept_any("including", "excluding")) is not None:
        what = cursor.accept_any("all", *_LIKE_WORDS)
        if what is None:
            raise cursor.syntax_error()
        for name in _LIKE_WORDS if what == "all" else (what,):
            chosen[name] = word == "including"
    return LikeClause(table, frozenset(name for name, included in chosen.items() if included))


def column_definition(cursor: Cursor) -> ColumnDef:
    """name type [constraints]."""
    position = cursor.peek().start
    found = ColumnDef(cursor.name(), parse_type(cursor), position=position)
    while _column_clause(cursor, found):
        pass
    return found


def _column_clause(cursor: Cursor, found: ColumnDef) -> bool:
    """Takes one column constraint or clause; False at the end of the column."""
    if cursor.at_end or cursor.is_punct(",") or cursor.is_punct(")"):
        return False
    name = cursor.name() if cursor.accept("constraint") else None
    if cursor.accept("not", "null"):
        if found.nullable is True:
            raise _conflict(cursor, found)
        found.nullable, found.not_null_name = False, name
    elif cursor.accept("null"):
        if found.nullable is False:
            raise _conflict(cursor, found)
        found.nullable = True
    elif cursor.accept("default"):
        if found.default is not None:
            raise error(
                "42601", f'multiple default values specified for column "{found.name}"', position=found.position + 1
            )
        found.default = expression(cursor, tight=True)
    elif cursor.accept("generated"):
        _generated(cursor, found)
    elif cursor.is_any(("unique", "primary", "check", "references")):
        found.constraints.append(_column_constraint(cursor, found.name, name))
    elif name is not None:
        raise cursor.syntax_error()
    elif cursor.accept("collate"):
        found.collation = cursor.qualified()
    elif _deferral_follows(cursor) and found.constraints:
        index = cursor.index
        _deferral(cursor, found.constraints[-1])
        if cursor.index == index:
            raise cursor.syntax_error(1)
    else:
        return _physical_clause(cursor, found)
    return True


def _deferral_follows(cursor: Cursor) -> bool:
    return (
        cursor.is_any(("deferrable", "initially"))
        or cursor.is_word("not", "deferrable")
        or cursor.is_word("not", "valid")
    )


def _conflict(cursor: Cursor, found: ColumnDef) -> Exception:
    return error(
        "42601", f'conflicting NULL/NOT NULL declarations for column "{found.name}"', position=found.position + 1
    )


def _physical_clause(cursor: Cursor, found: ColumnDef) -> bool:
    if cursor.accept("storage") or cursor.accept("compression"):
        cursor.any_label()
    elif cursor.accept("not", "visible"):
        found.hidden = True
    elif cursor.accept("visible"):
        found.hidden = False
    elif cursor.is_word("on", "update"):
        raise cursor.unsupported("ON UPDATE expressions of columns")
    elif cursor.is_word("as") and cursor.is_punct("(", 1):
        cursor.advance()
        found.generated = wrapped_expression(cursor)
        if not cursor.accept("stored"):
            raise cursor.unsupported("virtual generated columns")
    elif cursor.accept("family"):
        cursor.name()
    else:
        raise cursor.syntax_error()
    return True


def _generated(cursor: Cursor, found: ColumnDef) -> None:
    """After GENERATED."""
    always = cursor.accept("always")
    if not always:
        cursor.expect("by", "default")
    cursor.expect("as")
    if cursor.accept("identity"):
        if found.identity:
            raise error(
                "42601", f'multiple identity specifications for column "{found.name}"', position=found.position + 1
            )
        found.identity = "a" if always else "d"
        found.identity_options = parenthesised_sequence_options(cursor)
        return
    if not always:
        raise error(
            "42601", "for a generated column, GENERATED ALWAYS must be specified", position=cursor.peek().start + 1
        )
    found.generated = wrapped_expression(cursor)
    if cursor.is_word("virtual"):
        raise cursor.unsupported("virtual generated columns")
    cursor.expect("stored")


def parenthesised_sequence_options(cursor: Cursor) -> SequenceOptions:
    """``(START 10 INCREMENT 2)`` if it is there."""
    from sql.parse.parse_create import sequence_option

    options = SequenceOptions()
    if cursor.accept_punct("("):
        while not cursor.is_punct(")"):
            if not sequence_option(cursor, options):
                raise cursor.syntax_error()
        cursor.advance()
    return options


# --- constraints ------------------------------------------------------------------------------


def _column_constraint(cursor: Cursor, column: str, name: str | None) -> Constraint:
    position = cursor.peek().start
    if cursor.accept("unique"):
        found = Constraint("unique", name, (column,), position=position)
        _unique_options(cursor, found)
    elif cursor.accept("primary", "key"):
        found = Constraint("primary key", name, (column,), position=position)
        if cursor.is_word("using", "hash"):
            raise cursor.unsupported("hash-sharded primary keys")
        _unique_options(cursor, found)
    elif cursor.accept("check"):
        found = Constraint("check", name, (column,), check=wrapped_expression(cursor), position=position)
        if cursor.accept("no", "inherit"):
            found.no_inherit = True
    elif cursor.accept("references"):
        found = Constraint("foreign key", name, (column,), target=foreign_key_target(cursor), position=position)
        _deferral(cursor, found)
    else:
        raise cursor.syntax_error()
    return found


def is_table_constraint(cursor: Cursor) -> bool:
    """True if the next word begins a table constraint rather than a column."""
    if cursor.peek().kind != WORD:
        return False
    if cursor.is_any(("constraint", "check", "unique", "primary", "foreign")):
        return True
    return cursor.is_word("exclude") and (cursor.peek(1).text in ("using",) or cursor.is_punct("(", 1))


def table_constraint(cursor: Cursor) -> Constraint:
    """[CONSTRAINT name] and what follows."""
    position = cursor.peek().start
    name = cursor.name() if cursor.accept("constraint") else None
    if cursor.accept("check"):
        found = Constraint("check", name, check=wrapped_expression(cursor))
    elif cursor.accept("unique"):
        found = Constraint("unique", name)
        _key_columns(cursor, found)
    elif cursor.accept("primary", "key"):
        found = Constraint("primary key", name)
        _key_columns(cursor, found)
    elif cursor.accept("foreign", "key"):
        found = Constraint("foreign key", name, cursor.wrapped_names())
        cursor.expect("references")
        found.target = foreign_key_target(cursor)
        if len(found.target.columns) not in (0, len(found.columns)):
            raise error("42830", "number of referencing and referenced columns for foreign key disagree")
    elif cursor.is_word("exclude"):
        raise cursor.unsupported("EXCLUDE constraints")
    else:
        raise cursor.syntax_error()
    found.position = position
    _deferral(cursor, found)
    return found


def _key_columns(cursor: Cursor, found: Constraint) -> None:
    if cursor.accept("using", "index"):
        found.using_index = cursor.name()
        return
    if cursor.accept("nulls"):
        found.nulls_not_distinct = cursor.accept("not")
        cursor.expect("distinct")
    names: list[str] = []
    cursor.expect_punct("(")
    while True:
        names.append(cursor.name())
        if cursor.accept_any("asc", "desc") == "desc":
            found.descending = (*found.descending, names[-1])
        if not cursor.accept_punct(","):
            break
    cursor.expect_punct(")")
    found.columns = tuple(names)
    _unique_options(cursor, found)


def _unique_options(cursor: Cursor, found: Constraint) -> None:
    if cursor.accept("nulls"):
        found.nulls_not_distinct = cursor.accept("not")
        cursor.expect("distinct")
    if cursor.accept_any("include", "storing") is not None:
        found.include = cursor.wrapped_names()
    if cursor.is_word("with") and cursor.is_punct("(", 1):
        cursor.advance()
        found.options.update(storage_options(cursor))
    if cursor.accept("using", "index", "tablespace"):
        cursor.name()
    _deferral(cursor, found)


def _deferral(cursor: Cursor, found: Constraint) -> None:
    """[NOT] DEFERRABLE, INITIALLY .., NOT VALID, NO INHERIT."""
    deferrable: bool | None = None
    while True:
        if cursor.accept("deferrable"):
            deferrable = found.deferrable = True
        elif cursor.accept("not", "deferrable"):
            deferrable = False
        elif cursor.accept("initially", "deferred"):
            if deferrable is False:
                raise error("42601", "constraint declared INITIALLY DEFERRED must be DEFERRABLE")
            found.deferrable = found.initially_deferred = True
        elif cursor.accept("initially", "immediate"):
            pass
        elif cursor.accept("not", "valid"):
            found.not_valid = True
        elif cursor.accept("no", "inherit"):
            found.no_inherit = True
        else:
            break
    if found.deferrable and found.kind == "check":
        raise error("0A000", "CHECK constraints cannot be marked DEFERRABLE", position=found.position + 1)


def foreign_key_target(cursor: Cursor) -> ForeignKeyTarget:
    """After REFERENCES."""
    found = ForeignKeyTarget(cursor.qualified())
    if cursor.is_punct("("):
        found.columns = cursor.wrapped_names()
    while True:
        if cursor.accept("match"):
            match = cursor.accept_any("full", "partial", "simple")
            if match is None:
                raise cursor.syntax_error()
            if match == "partial":
                raise error("0A000", "MATCH PARTIAL not yet implemented")
            found.match = match.upper()
        elif cursor.accept("on", "delete"):
            found.on_delete = _action(cursor)
            if found.on_delete.startswith("SET") and cursor.is_punct("("):
                found.on_delete_columns = cursor.wrapped_names()
        elif cursor.accept("on", "update"):
            found.on_update = _action(cursor)
        else:
            return found


def _action(cursor: Cursor) -> str:
    for words in _ACTIONS:
        if cursor.accept(*words):
            return " ".join(words).upper()
    raise cursor.syntax_error()


def parse_index_elements(cursor: Cursor) -> tuple[IndexElement, ...]:
    """``(a DESC, lower(b) COLLATE "C" text_ops, (a + b))``."""
    cursor.expect_punct("(")
    elements = [_index_element(cursor)]
    while cursor.accept_punct(","):
        elements.append(_index_element(cursor))
    cursor.expect_punct(")")
    return tuple(elements)


def _index_element(cursor: Cursor) -> IndexElement:
    position = cursor.peek().start
    if cursor.is_punct("("):
        found = IndexElement(None, wrapped_expression(cursor), position=position)
    elif cursor.is_name() and not cursor.is_punct("(", 1) and not cursor.is_punct(".", 1):
        found = IndexElement(cursor.name(), None, position=position)
    elif cursor.peek().kind in (WORD, IDENT) and (cursor.is_punct("(", 1) or cursor.is_punct(".", 1)):
        found = IndexElement(None, expression(cursor, tight=True), position=position)
    else:
        raise cursor.syntax_error()
    if cursor.accept("collate"):
        found.collation = cursor.qualified()
    if cursor.is_name() and not cursor.is_any(("nulls", "asc", "desc")):
        found.opclass = cursor.qualified()
        if cursor.is_punct("("):
            storage_options(cursor)
    found.descending = cursor.accept_any("asc", "desc") == "desc"
    found.nulls_first = found.descending
    if cursor.accept("nulls"):
        where = cursor.accept_any("first", "last")
        if where is None:
            raise cursor.syntax_error()
        found.nulls_first = where == "first"
    return found


# --- clauses after the parentheses --------------------------------------------------------------


def _table_clauses(cursor: Cursor, found: CreateTable) -> None:
    while not cursor.at_end:
        if cursor.is_word("inherits"):
            raise cursor.unsupported("INHERITS")
        if cursor.is_word("partition"):
            raise cursor.unsupported("PARTITION BY")
        if cursor.accept("with"):
            found.options = storage_options(cursor)
        elif cursor.accept("without", "oids"):
            pass
        elif cursor.accept("on", "commit"):
            found.on_commit = _on_commit(cursor)
        elif cursor.accept("tablespace"):
            found.tablespace = cursor.name()
        elif cursor.accept("using"):
            cursor.name()
        elif cursor.is_word("locality"):
            found.locality = parse_locality(cursor)
        elif cursor.accept("interleave", "in", "parent"):
            found.interleave = Interleave(cursor.qualified(), cursor.wrapped_names())
        elif cursor.is_word("create") or cursor.is_any(("grant",)):
            return
        else:
            raise cursor.syntax_error()


def _on_commit(cursor: Cursor) -> str:
    for words in (("preserve", "rows"), ("delete", "rows"), ("drop",)):
        if cursor.accept(*words):
            return " ".join(words)
    raise cursor.syntax_error()


def parse_locality(cursor: Cursor) -> Locality:
    """LOCALITY GLOBAL | REGIONAL [BY TABLE [IN r]] | REGIONAL BY ROW [AS c] | REGIONAL BY PARENT."""
    cursor.expect("locality")
    if cursor.accept("global"):
        return Locality("global")
    cursor.expect("regional")
    if cursor.accept("by", "row"):
        return Locality("row", column=cursor.name() if cursor.accept("as") else None)
    if cursor.accept("by", "parent"):
        return Locality("parent")
    cursor.accept("by", "table")
    if cursor.accept("in"):
        if cursor.accept("primary", "region"):
            return Locality("table")
        return Locality("table", cursor.string() if cursor.is_string() else cursor.name())
    return Locality("table")
