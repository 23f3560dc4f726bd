"""Queries and DML by PostgreSQL's grammar (gram.y: SelectStmt, InsertStmt..), emitted for sqlglot.

What sqlglot would read differently is brought into one form on the way:

- VALUES as a query becomes ``SELECT * FROM (VALUES ..) AS VALUES_ALIAS``, TABLE t becomes ``SELECT * FROM t``;
- operands of set operations are parenthesised, by PostgreSQL's precedence (INTERSECT binds tighter);
- FETCH FIRST becomes LIMIT (WITH TIES: ``LIMIT TIES(n)``), OFFSET follows LIMIT;
- grouping sets, ROWS FROM, WITH ORDINALITY and column definitions become call forms;
- ``AS OF SYSTEM TIME e`` is taken out and remembered.
"""

from __future__ import annotations

from typing import Final

from sqlglot.tokens import TokenType

from base.errors import error
from sql.parse import forms
from sql.parse.keywords import NOT_BARE_LABEL, NOT_COLUMN, NOT_FUNCTION, words
from sql.parse.lexer import IDENT, WORD, Lexeme
from sql.parse.shape_base import LPAREN, RPAREN
from sql.parse.shape_expr import ExprShaper
from sql.parse.types import parse_type

_AFTER_SELECT: Final = frozenset(("union", "intersect", "except"))
_JOIN_WORDS: Final = frozenset(("join", "inner", "left", "right", "full", "cross", "natural"))
_SET_TOKENS: Final = {"union": TokenType.UNION, "intersect": TokenType.INTERSECT, "except": TokenType.EXCEPT}
_SELECT_END: Final = words(
    """from where group having window order limit offset fetch for union intersect except into on returning"""
)
SET_OPERATIONS_MAX: Final = 1000


class QueryShaper(ExprShaper):
    """SELECT and everything in it."""

    def __init__(self, sql: str, lexemes: list[Lexeme], index: int = 0, stop: int | None = None) -> None:
        super().__init__(sql, lexemes, index, stop)
        self.into: tuple[Lexeme, bool, bool, int] | None = None
        """INTO itself, whether TEMPORARY, whether UNLOGGED, and where the clause ends in the text."""
        self.into_name: object = None

    def keyword(self, kind: TokenType, *words: str) -> None:
        """Takes the words and emits one token for them."""
        at = self.peek()
        self.expect(*words)
        self.emit(kind, " ".join(words).upper(), at)

    # --- query ----------------------------------------------------------------------------

    def query(self) -> None:
        """[WITH] select [set operations] [ORDER BY] [LIMIT] [FOR ..]."""
        if self.is_word("with"):
            self.with_clause()
        start = len(self.out)
        at = self.peek()
        is_plain = self._set_operand(0)
        modifiers = len(self.out)
        self._modifiers()
        if len(self.out) > modifiers and not is_plain and not self._is_set_operation(start):
            # (SELECT ..) ORDER BY: the modifiers belong to the outer level.
            self.out[start:start] = [self._token(TokenType.SELECT, "SELECT", at), self._token(TokenType.STAR, "*", at),
                                     self._token(TokenType.FROM, "FROM", at)]  # fmt: skip
            self.out[modifiers + 3 : modifiers + 3] = [self._token(TokenType.ALIAS, "AS", at),
                                                       self._token(TokenType.IDENTIFIER, forms.VALUES_ALIAS, at)]  # fmt: skip

    def _token(self, kind: TokenType, text: str, at: Lexeme):  # type: ignore[no-untyped-def]  # sqlglot's Token
        from sqlglot.tokens import Token

        return Token(kind, text, 1, 1, at.start, at.end - 1)

    def _is_set_operation(self, start: int) -> bool:
        """True if what was emitted since ``start`` is a set operation at the top."""
        depth = 0
        for token in self.out[start:]:
            if token.token_type == LPAREN:
                depth += 1
            elif token.token_type == RPAREN:
                depth -= 1
            elif depth == 0 and token.token_type in (TokenType.UNION, TokenType.INTERSECT, TokenType.EXCEPT):
                return True
        return False

    def with_clause(self) -> None:
        self.keyword(TokenType.WITH, "with")
        if self.is_word("recursive"):
            self.keyword(TokenType.RECURSIVE, "recursive")
        while True:
            at = self.peek()
            self.emit_name(self.name(), at)
            if self.is_punct("("):
                self._emit_names()
            self.keyword(TokenType.ALIAS, "as")
            if self.is_word("not", "materialized"):
                self.emit(TokenType.NOT, "NOT", self.advance())
                self.emit(TokenType.VAR, "MATERIALIZED", self.advance())
            elif self.is_word("materialized"):
                self.emit(TokenType.VAR, "MATERIALIZED", self.advance())
            self.emit(LPAREN, "(", self.peek())
            self.expect_punct("(")
            self.deeper()
            self.statement()
            self.depth -= 1
            self.emit(RPAREN, ")", self.peek())
            self.expect_punct(")")
            if self.is_any(("search", "cycle")):
                raise self.unsupported(f"{self.peek().text.upper()} clause of WITH")
            if not self.is_punct(","):
                return
            self.comma(self.advance())

    def statement(self) -> None:
        """A query or DML; DML comes from the subclass."""
        self.query()

    def _emit_names(self, is_using: bool = False) -> None:
        """``(a, b)``; of USING also with ``AS alias``."""
        self.emit(LPAREN, "(", self.peek())
        self.expect_punct("(")
        while True:
            at = self.peek()
            self.emit_name(self.name(), at)
            if not self.is_punct(","):
                break
            self.comma(self.advance())
        closing = self.peek()
        self.expect_punct(")")
        if is_using and self.accept("as"):
            self.comma(closing)
            self.emit_name(forms.USING_ALIAS + self.name(), closing)
        self.emit(RPAREN, ")", closing)

    # --- set operations ---------------------------------------------------------------------

    def _set_operand(self, lowest: int) -> bool:
        """A chain of set operations at level ``lowest`` (0 UNION EXCEPT, 1 INTERSECT) or tighter.

        Returns True if there was only a plain SELECT.
        """
        start = len(self.out)
        at = self.peek()
        is_plain = self._simple_select()
        count = 0
        while self.is_any(_AFTER_SELECT):
            word = self.peek().text
            level = 1 if word == "intersect" else 0
            if level < lowest:
                break
            count += 1
            if count > SET_OPERATIONS_MAX:
                raise error("54001", "stack depth limit exceeded")
            if is_plain or count > 1:
                self.out.insert(start, self._token(LPAREN, "(", at))
                self.emit(RPAREN, ")", at)
            operator = self.advance()
            self.emit(_SET_TOKENS[word], word.upper(), operator)
            if self.is_word("all"):
                self.keyword(TokenType.ALL, "all")
            else:
                self.accept("distinct")
            right = len(self.out)
            first = self.peek()
            if self._set_operand(level + 1) or self._is_set_operation(right):
                self.out.insert(right, self._token(LPAREN, "(", first))
                self.emit(RPAREN, ")", first)
            is_plain = False
        return is_plain and count == 0

    def _simple_select(self) -> bool:
        """SELECT, VALUES, TABLE (True), or a query in parentheses (False: emitted with them)."""
        if self.is_word("select"):
            self._select()
            return True
        if self.is_word("values"):
            at = self.peek()
            for kind, text in (
                (TokenType.SELECT, "SELECT"),
                (TokenType.STAR, "*"),
                (TokenType.FROM, "FROM"),
                (LPAREN, "("),
            ):
                self.emit(kind, text, at)
            self.values()
            self.emit(RPAREN, ")", at)
            self.emit(TokenType.ALIAS, "AS", at)
            self.emit_name(forms.VALUES_ALIAS, at)
            return True
        if self.is_word("table"):
            at = self.advance()
            for kind, text in ((TokenType.SELECT, "SELECT"), (TokenType.STAR, "*"), (TokenType.FROM, "FROM")):
                self.emit(kind, text, at)
            self.accept("only")
            self._table_name()
            if self.is_op("*"):
                self.advance()
            return True
        if self.is_punct("("):
            self.deeper()
            self.emit(LPAREN, "(", self.advance())
            self.query()
            self.emit(RPAREN, ")", self.peek())
            self.expect_punct(")")
            self.depth -= 1
            return False
        raise self.syntax_error()

    def values(self) -> None:
        """VALUES (..), (..)."""
        self.keyword(TokenType.VALUES, "values")
        while True:
            self.emit(LPAREN, "(", self.peek())
            self.expect_punct("(")
            self.expr_list()
            self.emit(RPAREN, ")", self.peek())
            self.expect_punct(")")
            if not self.is_punct(","):
                return
            self.comma(self.advance())

    # --- SELECT -----------------------------------------------------------------------------

    def _select(self) -> None:
        start = self.peek()
        self.keyword(TokenType.SELECT, "select")
        distinct = self.is_word("distinct")
        if distinct:
            self.keyword(TokenType.DISTINCT, "distinct")
            if self.is_word("on"):
                self.keyword(TokenType.ON, "on")
                self.emit(LPAREN, "(", self.peek())
                self.expect_punct("(")
                self.expr_list()
                self.emit(RPAREN, ")", self.peek())
                self.expect_punct(")")
        else:
            self.accept("all")
        if not distinct and (self.at_end or self.is_any(_SELECT_END) or self.is_punct(")")):
            self.open_form(forms.NOTHING, start)
            self.close(start)
        else:
            self.targets()
        if self.is_word("into"):
            self._into()
        if self.is_word("from"):
            self.keyword(TokenType.FROM, "from")
            self.from_list()
        self.where()
        if self.is_word("group"):
            self._group_by()
        if self.is_word("having"):
            self.keyword(TokenType.HAVING, "having")
            self.a_expr()
        if self.is_word("window"):
            self._windows()

    def targets(self) -> None:
        """Output expressions with their names."""
        while True:
            if self.is_op("*"):
                self.emit(TokenType.STAR, "*", self.advance())
            else:
                self.a_expr()
                self._label()
            if not self.is_punct(","):
                return
            self.comma(self.advance())

    def _label(self) -> None:
        at = self.peek()
        if self.is_word("as"):
            self.keyword(TokenType.ALIAS, "as")
            at = self.peek()
            self.emit_name(self.any_label(), at)
        elif at.kind == IDENT or (at.kind == WORD and at.text not in NOT_BARE_LABEL and not self._ends_target(at.text)):
            self.emit(TokenType.ALIAS, "AS", at)
            self.emit_name(self.advance().text, at)

    def _ends_target(self, word: str) -> bool:
        return word in _SELECT_END

    def _into(self) -> None:
        at = self.advance()
        if self.depth or self.into is not None:
            raise error("42601", "SELECT ... INTO is not allowed here", position=at.start + 1)
        temporary = self.accept_any("temporary", "temp") is not None
        unlogged = self.accept("unlogged")
        self.accept("table")
        self.into_name = self.qualified()
        self.into = (at, temporary, unlogged, self.lexemes[self.index - 1].end)

    def where(self) -> None:
        if self.is_word("where"):
            self.keyword(TokenType.WHERE, "where")
            self.a_expr()

    def _group_by(self) -> None:
        self.keyword(TokenType.GROUP_BY, "group", "by")
        if self.accept("distinct"):
            raise self.unsupported("GROUP BY DISTINCT")
        self.accept("all")
        self._group_items()

    def _group_items(self) -> None:
        while True:
            self._group_item()
            if not self.is_punct(","):
                return
            self.comma(self.advance())

    def _group_item(self) -> None:
        at = self.peek()
        form = None
        if self.is_word("rollup") and self.is_punct("(", 1):
            form = forms.ROLLUP
        elif self.is_word("cube") and self.is_punct("(", 1):
            form = forms.CUBE
        elif self.is_word("grouping", "sets"):
            self.advance()
            form = forms.SETS
        if form is not None:
            self.advance()
            self.expect_punct("(")
            self.open_form(form, at)
            self._group_items()
            self.close(at)
            self.expect_punct(")")
        elif self.is_punct("(") and self.is_punct(")", 1):
            self.advance()
            self.advance()
            self.open_form(forms.EMPTY, at)
            self.close(at)
        else:
            self.a_expr()

    def _windows(self) -> None:
        self.keyword(TokenType.WINDOW, "window")
        while True:
            at = self.peek()
            self.emit_name(self.name(), at)
            self.keyword(TokenType.ALIAS, "as")
            self.window_definition()
            if not self.is_punct(","):
                return
            self.comma(self.advance())

    # --- ORDER BY, LIMIT, FOR -----------------------------------------------------------------

    def _modifiers(self) -> None:
        if self.is_word("order"):
            self.order_by()
        limit: list[object] | None = None
        offset: list[object] | None = None
        locks: list[object] = []
        while True:
            start = len(self.out)
            if self.is_any(("limit", "fetch")) and limit is None:
                self._limit()
                limit = self.out[start:]
            elif self.is_word("offset") and offset is None:
                self.keyword(TokenType.OFFSET, "offset")
                self.a_expr()
                self.accept_any("row", "rows")
                offset = self.out[start:]
            elif self.is_word("for") and not self.is_word("for", "read"):
                self._lock()
                locks += self.out[start:]
            else:
                break
            del self.out[start:]
        for part in (limit, offset, locks):
            if part:
                self.out.extend(part)

    def _limit(self) -> None:
        at = self.advance()
        if at.text == "limit":
            if self.accept("all"):
                return
            self.emit(TokenType.LIMIT, "LIMIT", at)
            self.a_expr()
            if self.is_punct(","):
                raise error("42601", "LIMIT #,# syntax is not supported", position=at.start + 1,
                            hint="Use separate LIMIT and OFFSET clauses.")  # fmt: skip
            return
        self.emit(TokenType.LIMIT, "LIMIT", at)
        if self.accept_any("first", "next") is None:
            raise self.syntax_error()
        start = len(self.out)
        if self.is_any(("row", "rows")):
            self.emit(TokenType.NUMBER, "1", at)
        else:
            self.b_expr(4)
        if self.accept_any("row", "rows") is None:
            raise self.syntax_error()
        if self.accept("with"):
            self.expect("ties")
            self.wrap(start, forms.TIES, at)
            self.close(at)
        else:
            self.expect("only")

    def _lock(self) -> None:
        at = self.advance()
        self.emit(TokenType.FOR, "FOR", at)
        for strength in (("update",), ("no", "key", "update"), ("share",), ("key", "share")):
            if self.is_word(*strength):
                for word in strength:
                    kind = TokenType.UPDATE if word == "update" else TokenType.VAR
                    self.emit(kind, word.upper(), self.advance())
                break
        else:
            raise self.syntax_error()
        if self.is_word("of"):
            self.emit(TokenType.VAR, "OF", self.advance())
            while True:
                at = self.peek()
                name = self.qualified()
                if name.schema is not None:
                    raise error(
                        "42601", "FOR UPDATE must specify unqualified relation names", position=name.position + 1
                    )
                self.emit_name(name.name, at)
                if not self.is_punct(","):
                    break
                self.comma(self.advance())
        if self.is_word("nowait"):
            self.emit(TokenType.VAR, "NOWAIT", self.advance())
        elif self.is_word("skip"):
            self.emit(TokenType.VAR, "SKIP", self.advance())
            self.emit(TokenType.VAR, "LOCKED", self.peek())
            self.expect("locked")

    # --- FROM -----------------------------------------------------------------------------

    def from_list(self) -> None:
        while True:
            self.table_ref()
            if not self.is_punct(","):
                break
            self.comma(self.advance())
        if self.is_word("as", "of", "system", "time"):
            self._as_of()

    def _as_of(self) -> None:
        self.index += 4
        start, first = len(self.out), self.index
        self.b_expr(1)
        del self.out[start:]
        self.as_of = (first, self.index)

    def table_ref(self) -> None:
        """A table with the joins that follow it."""
        self._table_primary()
        while self.is_any(_JOIN_WORDS):
            self._join()

    def _join(self) -> None:
        if self.is_word("cross"):
            self.keyword(TokenType.CROSS, "cross")
            self.keyword(TokenType.JOIN, "join")
            self._table_primary()
            return
        natural = self.is_word("natural")
        if natural:
            self.keyword(TokenType.NATURAL, "natural")
        at = self.peek()
        side = self.accept_any("inner", "left", "right", "full")
        if side is not None:
            kinds = {"inner": TokenType.INNER, "left": TokenType.LEFT, "right": TokenType.RIGHT, "full": TokenType.FULL}
            self.emit(kinds[side], side.upper(), at)
            if side != "inner":
                self.accept("outer")
        self.keyword(TokenType.JOIN, "join")
        start, at = len(self.out), self.peek()
        self._table_primary()
        if natural:
            return
        nested = False
        while self.is_any(_JOIN_WORDS):
            nested = True
            self._join()
        if nested:
            self.out.insert(start, self._token(LPAREN, "(", at))
            self.emit(RPAREN, ")", at)
        if self.is_word("on"):
            self.keyword(TokenType.ON, "on")
            self.a_expr()
        elif self.is_word("using"):
            self.keyword(TokenType.USING, "using")
            self._emit_names(True)
        else:
            raise self.syntax_error()

    def _table_primary(self) -> None:
        at = self.peek()
        lateral = self.is_word("lateral")
        if lateral:
            self.advance()
        if self.is_punct("("):
            self._parenthesised_table(at, lateral)
        elif self.is_word("rows") and self.is_word("rows", "from") and self.is_punct("(", 2):
            self._rows_from(at)
        elif self._function_follows():
            self._function_table(at)
        elif lateral:
            raise self.syntax_error()
        else:
            only = self.accept("only")
            if only and self.accept_punct("("):
                self._table_name()
                self.expect_punct(")")
            else:
                self._table_name()
            if self.is_op("*"):
                self.advance()
            self._reject_index_hint()
            self._table_alias(False)
            if self.is_word("tablesample"):
                raise self.unsupported("TABLESAMPLE")

    def _reject_index_hint(self) -> None:
        if self.is_op("@"):
            raise self.unsupported("index hints")

    def _parenthesised_table(self, at: Lexeme, lateral: bool) -> None:
        self.advance()
        if self._query_follows():
            if lateral:
                self.emit(TokenType.LATERAL, "LATERAL", at)
            self.emit(LPAREN, "(", at)
            self._subquery()
            self.emit(RPAREN, ")", self.peek())
            self.expect_punct(")")
            if not self._table_alias(True):
                raise error("42601", "subquery in FROM must have an alias", position=at.start + 1,
                            hint="For example, FROM (SELECT ...) [AS] foo.")  # fmt: skip
            return
        if lateral:
            raise self.syntax_error()
        self.deeper()
        self.emit(LPAREN, "(", at)
        self._table_primary()
        if not self.is_any(_JOIN_WORDS):
            raise self.syntax_error()
        while self.is_any(_JOIN_WORDS):
            self._join()
        self.emit(RPAREN, ")", self.peek())
        self.expect_punct(")")
        self.depth -= 1
        self._table_alias(True)

    def _table_name(self) -> None:
        at = self.peek()
        self.emit_name(self.name(), at)
        parts = 1
        while self.is_punct("."):
            self.emit(TokenType.DOT, ".", self.advance())
            at = self.peek()
            self.emit_name(self.any_label(), at)
            parts += 1
        if parts > 3:
            raise error("42601", "improper relation name (too many dotted names)", position=at.start + 1)

    def _function_follows(self) -> bool:
        ahead = 0
        first = self.peek()
        if first.kind not in (WORD, IDENT):
            return False
        while self.is_punct(".", ahead + 1) and self.peek(ahead + 2).kind in (WORD, IDENT):
            ahead += 2
        if self.is_punct("(", ahead + 1):
            return ahead > 0 or first.kind == IDENT or first.text not in NOT_FUNCTION or first.text in (
                "coalesce", "nullif", "greatest", "least", "substring", "position", "extract", "overlay", "trim", "cast")  # fmt: skip
        return first.kind == WORD and first.text in ("current_date", "current_timestamp", "current_user", "session_user", "current_schema",
                                                     "user", "localtimestamp", "current_catalog", "current_role")  # fmt: skip

    def _function_table(self, at: Lexeme) -> None:
        start = len(self.out)
        if self.peek().kind == WORD and not self.is_punct(".", 1):
            self._primary()
        else:
            self._name_or_call()
        self._function_suffix(start, at)

    def _rows_from(self, at: Lexeme) -> None:
        self.expect("rows", "from")
        self.expect_punct("(")
        start = len(self.out)
        self.open_form(forms.ROWS, at)
        while True:
            item = len(self.out)
            if not self._function_follows():
                raise self.syntax_error()
            self._primary()
            if self.accept("as"):
                self._column_definitions(item, at)
            if not self.is_punct(","):
                break
            self.comma(self.advance())
        self.close(at)
        self.expect_punct(")")
        self._function_suffix(start, at)

    def _function_suffix(self, start: int, at: Lexeme) -> None:
        if self.is_word("with", "ordinality"):
            self.advance()
            self.advance()
            self.wrap(start, forms.ORDINALITY, at)
            self.close(at)
        # f(..) AS (a int, ..) and f(..) AS x (a int, ..) carry column definitions.
        if self.is_word("as") and self.is_punct("(", 1):
            self.advance()
            self._column_definitions(start, at)
            return
        ahead = 1 if self.is_word("as") else 0
        if self.is_punct("(", ahead + 1) and self.is_name(ahead) and self.is_name(ahead + 2) and not self.is_punct(",", ahead + 3) and not self.is_punct(")", ahead + 3):  # fmt: skip
            self.accept("as")
            alias = self.advance()
            self._column_definitions(start, at)
            self.emit(TokenType.ALIAS, "AS", at)
            self.emit_name(alias.text, alias)
            return
        self._table_alias(True)

    def _column_definitions(self, start: int, at: Lexeme) -> None:
        """Wraps the call emitted since ``start`` with its ``(a int, b text)``."""
        self.wrap(start, forms.COLDEFS, at)
        self.expect_punct("(")
        while True:
            name = self.peek()
            label = self.name()
            self.types.append(parse_type(self))
            self.comma(at)
            self.emit_string(forms.column_with_type(label, len(self.types) - 1), name)
            if not self.accept_punct(","):
                break
        self.expect_punct(")")
        self.close(at)

    def _bare_alias_follows(self) -> bool:
        lexeme = self.peek()
        return lexeme.kind == IDENT or (lexeme.kind == WORD and lexeme.text not in NOT_COLUMN)

    def _table_alias(self, allow_columns_only: bool) -> bool:
        """[AS] alias [(columns)]; returns True if there was one."""
        if self.is_word("as") and not self.is_word("as", "of", "system", "time"):
            self.keyword(TokenType.ALIAS, "as")
        elif not self._bare_alias_follows():
            return False
        else:
            self.emit(TokenType.ALIAS, "AS", self.peek())
        at = self.peek()
        self.emit_name(self.name(), at)
        if self.is_punct("("):
            self._emit_names()
        return True
