"""INSERT, UPDATE and DELETE, emitted for sqlglot; see ``shape_query``."""

from __future__ import annotations

from sqlglot.tokens import TokenType

from sql.parse import forms
from sql.parse.lexer import IDENT, WORD, Lexeme
from sql.parse.shape_base import LPAREN, RPAREN
from sql.parse.shape_query import QueryShaper


class StatementShaper(QueryShaper):
    """Queries and DML, also inside WITH."""

    command = "SELECT"
    cursor_name = ""

    def statement(self) -> None:
        """[WITH] SELECT | INSERT | UPDATE | DELETE."""
        if self.is_word("with"):
            self.with_clause()
        word = self.peek().text if self.peek().kind == WORD else ""
        command = "SELECT"
        if word == "insert":
            command = "INSERT"
            self._insert()
        elif word == "update":
            command = "UPDATE"
            self._update()
        elif word == "delete":
            command = "DELETE"
            self._delete()
        elif word == "merge":
            command = "MERGE"
            self._merge()
        else:
            self.query()
        if self.depth == 0:
            self.command = command

    # --- INSERT -----------------------------------------------------------------------------

    def _insert(self) -> None:
        self.keyword(TokenType.INSERT, "insert")
        self.keyword(TokenType.INTO, "into")
        self._table_name()
        if self.accept("as"):
            at = self.peek()
            self.emit(TokenType.ALIAS, "AS", at)
            self.emit_name(self.name(), at)
        if self.is_punct("(") and not self._column_list_is_query():
            self._insert_columns()
        overriding = ""
        if self.accept("overriding"):
            overriding = self.accept_any("system", "user") or ""
            if not overriding:
                raise self.syntax_error()
            self.expect("value")
        self.overriding = overriding
        if self.is_word("default", "values"):
            self.keyword(TokenType.DEFAULT, "default")
            self.keyword(TokenType.VALUES, "values")
        elif self.is_word("values") and self._values_end():
            self.values()
        else:
            self.query()
        if self.is_word("on"):
            self._on_conflict()
        self._returning()

    def _column_list_is_query(self) -> bool:
        self.index += 1
        try:
            return self._query_follows()
        finally:
            self.index -= 1

    def _insert_columns(self) -> None:
        self.emit(LPAREN, "(", self.peek())
        self.expect_punct("(")
        while True:
            at = self.peek()
            self.emit_name(self.name(), at)
            if self.is_punct(".") or self.is_punct("["):
                raise self.unsupported("assignment to a part of a column")
            if not self.is_punct(","):
                break
            self.comma(self.advance())
        self.emit(RPAREN, ")", self.peek())
        self.expect_punct(")")

    def _values_end(self) -> bool:
        """True if the VALUES list is the whole source: no ORDER BY, LIMIT or set operation after it."""
        at = self.index + 1
        while at < self.stop and self.lexemes[at].text == "(" and self.lexemes[at].kind not in (IDENT, WORD):
            at = self._closing(at) + 1
            if at < self.stop and self.lexemes[at].text == ",":
                at += 1
        if at >= self.stop:
            return True
        lexeme = self.lexemes[at]
        return not (
            lexeme.kind == WORD
            and lexeme.text in ("order", "limit", "offset", "fetch", "union", "intersect", "except", "for")
        )

    def _on_conflict(self) -> None:
        self.keyword(TokenType.ON, "on")
        self.emit(TokenType.VAR, "CONFLICT", self.peek())
        self.expect("conflict")
        at = self.peek()
        if self.is_word("on"):
            self.keyword(TokenType.ON, "on")
            self.emit(TokenType.CONSTRAINT, "CONSTRAINT", self.peek())
            self.expect("constraint")
            at = self.peek()
            self.emit_name(self.name(), at)
        elif self.is_punct("("):
            self.emit(LPAREN, "(", self.advance())
            while True:
                self._conflict_element()
                if not self.is_punct(","):
                    break
                self.comma(self.advance())
            self.emit(RPAREN, ")", self.peek())
            self.expect_punct(")")
            self.where()
        self.emit(TokenType.VAR, "DO", self.peek())
        self.expect("do")
        if self.is_word("nothing"):
            self.emit(TokenType.VAR, "NOTHING", self.advance())
            return
        self.keyword(TokenType.UPDATE, "update")
        self._set_clause()
        self.where()

    def _conflict_element(self) -> None:
        """A column or expression, its collation and operator class passed over ("C" is the only order there is)."""
        self.b_expr(10)
        if self.accept("collate"):
            self.qualified()
        if self.is_name():
            self.qualified()

    # --- UPDATE, DELETE -----------------------------------------------------------------------

    def _update(self) -> None:
        self.keyword(TokenType.UPDATE, "update")
        self._target()
        self._set_clause()
        if self.is_word("from"):
            self.keyword(TokenType.FROM, "from")
            self.from_list()
        self._where_or_current()
        self._returning()

    def _delete(self) -> None:
        self.keyword(TokenType.DELETE, "delete")
        self.keyword(TokenType.FROM, "from")
        self._target()
        if self.is_word("using"):
            self.keyword(TokenType.USING, "using")
            self.from_list()
        self._where_or_current()
        self._returning()

    def _target(self, end: str = "set") -> None:
        """The table to change, with its alias; the word ``end`` begins the next clause."""
        self.accept("only")
        self._table_name()
        if self.is_op("*"):
            self.advance()
        self._reject_index_hint()
        at = self.peek()
        if self.accept("as") or (self._bare_alias_follows() and not self.is_word(end)):
            at = self.peek()
            self.emit(TokenType.ALIAS, "AS", at)
            self.emit_name(self.name(), at)

    # --- MERGE --------------------------------------------------------------------------------

    def _merge(self) -> None:
        """Becomes ``SELECT WHEN(..), WHEN(..) FROM target LEFT JOIN source ON ..``, which only the command tells apart."""
        at = self.peek()
        if self.depth:
            raise self.unsupported("MERGE in WITH")
        self.expect("merge", "into")
        self.emit(TokenType.SELECT, "SELECT", at)
        start = len(self.out)
        self.emit(TokenType.FROM, "FROM", at)
        self._target("using")
        self.emit(TokenType.LEFT, "LEFT", at)
        self.emit(TokenType.JOIN, "JOIN", at)
        self.expect("using")
        self.emit(LPAREN, "(", at)
        opened = len(self.out)
        self.table_ref()
        if not self._has_join(opened):
            del self.out[opened - 1]
        else:
            self.emit(RPAREN, ")", at)
        self.keyword(TokenType.ON, "on")
        self.a_expr()
        sources = self.out[start:]
        del self.out[start:]
        if not self.is_word("when"):
            raise self.syntax_error()
        self._when()
        while self.is_word("when"):
            self.comma(self.peek())
            self._when()
        self.out.extend(sources)

    def _has_join(self, opened: int) -> bool:
        """True if what was emitted since is a join, not one table or one parenthesis."""
        level = 0
        for token in self.out[opened:]:
            level += 1 if token.token_type == LPAREN else -1 if token.token_type == RPAREN else 0
            if token.token_type == TokenType.JOIN and not level:
                return True
        return False

    def _when(self) -> None:
        at = self.peek()
        self.expect("when")
        is_matched = not self.accept("not")
        self.expect("matched")
        self.open_form(forms.WHEN, at)
        self.emit_string("matched" if is_matched else "not matched", at)
        self.comma(at)
        if self.accept("and"):
            self.a_expr()
        else:
            self._form_without_arguments(forms.EMPTY, at)
        self.expect("then")
        self.comma(at)
        if self.accept("do"):
            self.expect("nothing")
            self.emit_string("nothing", at)
        elif is_matched:
            self._when_matched(at)
        else:
            self._when_not_matched(at)
        self.close(at)

    def _when_matched(self, at: Lexeme) -> None:
        if self.accept("delete"):
            self.emit_string("delete", at)
            return
        self.expect("update", "set")
        self.emit_string("update", at)
        while True:
            self.comma(at)
            self._assignment()
            if not self.accept_punct(","):
                return

    def _when_not_matched(self, at: Lexeme) -> None:
        self.expect("insert")
        self.emit_string("insert", at)
        columns = self.wrapped_names() if self.is_punct("(") else ()
        overriding = ""
        if self.accept("overriding"):
            overriding = self.accept_any("system", "user") or ""
            self.expect("value")
        for text in (overriding, str(len(columns)), *columns):
            self.comma(at)
            self.emit_string(text, at)
        if self.accept("default"):
            self.expect("values")
            return
        self.expect("values")
        self.expect_punct("(")
        self.comma(at)
        self.expr_list()
        self.expect_punct(")")

    # --- clauses ------------------------------------------------------------------------------

    def _where_or_current(self) -> None:
        if self.is_word("where", "current", "of"):
            if self.depth:
                raise self.unsupported("WHERE CURRENT OF here")
            self.index += 3
            self.cursor_name = self.name()
            return
        self.where()
        if self.is_any(("order", "limit")):
            raise self.unsupported(f"{self.peek().text.upper()} of UPDATE and DELETE")

    def _set_clause(self) -> None:
        """SET a = .., (b, c) = ..: each becomes the call ``SET(value, 'a')`` or ``SET(value, 'b', 'c', ROW)``."""
        self.keyword(TokenType.SET, "set")
        while True:
            at = self.peek()
            # sqlglot wants assignments; a dummy equality carries the target names and the value.
            self.emit_name(forms.SET_TARGET, at)
            self.emit(TokenType.EQ, "=", at)
            self._assignment()
            if not self.is_punct(","):
                return
            self.comma(self.advance())

    def _assignment(self) -> None:
        at = self.peek()
        if self.is_punct("("):
            names = self.wrapped_names()
            self._expect_equals()
            self._assign(names, True)
            return
        name = self.name()
        if self.is_punct("."):
            raise self.unsupported("assignment to a part of a column")
        if self.is_punct("["):
            self._assign_part(name, at)
            return
        self._expect_equals()
        self._assign((name,), False, at)

    def _assign_part(self, name: str, at: Lexeme) -> None:
        """``name[i] = value``: the value comes first, the subscripts' tokens behind it."""
        start = len(self.out)
        self.subscript_items(at)
        subscripts = self.out[start:]
        del self.out[start:]
        self._expect_equals()
        self.open_form(forms.SET_PART, at)
        self.a_expr()
        self.comma(at)
        self.emit_string(name, at)
        self.out.extend(subscripts)
        self.close(at)

    def _expect_equals(self) -> None:
        if not self.accept_op("="):
            raise self.syntax_error()

    def _assign(self, names: tuple[str, ...], is_row: bool, at=None) -> None:  # type: ignore[no-untyped-def]
        at = at or self.peek()
        self.open_form(forms.SET_ROW if is_row else forms.SET_ONE, at)
        self.a_expr()
        for name in names:
            self.comma(at)
            self.emit_string(name, at)
        self.close(at)

    def _returning(self) -> None:
        if not self.is_word("returning"):
            return
        self.keyword(TokenType.RETURNING, "returning")
        if self.is_word("nothing"):
            raise self.unsupported("RETURNING NOTHING")
        self.targets()

    overriding = ""


def check_finished(shaper: StatementShaper) -> None:
    """Nothing may follow the statement."""
    if not shaper.at_end:
        raise shaper.syntax_error()
