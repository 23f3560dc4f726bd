"""Names, calls, and functions with a syntax of their own: extract, substring, trim..; windows and ORDER BY."""

from __future__ import annotations

from sqlglot.tokens import Token, TokenType

from base.errors import FeatureNotSupported, error
from sql.parse import forms
from sql.parse.keywords import NOT_COLUMN, NOT_FUNCTION
from sql.parse.lexer import IDENT, STRING, WORD, Lexeme
from sql.parse.shape_base import COMMA, LPAREN, RPAREN, ShapeBase


class CallShaper(ShapeBase):
    """Reads what begins with a name."""

    # --- functions with their own syntax --------------------------------------------------

    def _extract(self, lexeme: Lexeme) -> None:
        self.advance()
        self.expect_punct("(")
        self.open_form("extract", lexeme)
        at = self.peek()
        if at.kind not in (WORD, IDENT, STRING):
            raise self.syntax_error()
        self.emit_string(self.advance().text, at)
        self.expect("from")
        self.comma(lexeme)
        self.a_expr()
        self.expect_punct(")")
        self.close(lexeme)

    def _position(self, lexeme: Lexeme) -> None:
        """position(a in b) is position(b, a): the second argument's tokens come first."""
        self.advance()
        self.expect_punct("(")
        self.open_form("position", lexeme)
        start = len(self.out)
        self.b_expr(4)
        needle = self.out[start:]
        del self.out[start:]
        self.expect("in")
        self.b_expr(4)
        self.comma(lexeme)
        self.out.extend(needle)
        self.expect_punct(")")
        self.close(lexeme)

    def _substring(self, lexeme: Lexeme) -> None:
        self.advance()
        self.expect_punct("(")
        self.open_form("substring", lexeme)
        self.a_expr()
        if self.accept("similar"):
            self.comma(lexeme)
            self.a_expr()
            self.expect("escape")
            self.comma(lexeme)
            self.a_expr()
        elif self.accept("for"):
            self.comma(lexeme)
            start = len(self.out)
            self.a_expr()
            if self.accept("from"):
                length = self.out[start:]
                del self.out[start:]
                self.a_expr()
                self.comma(lexeme)
                self.out.extend(length)
            else:
                self.out[start:start] = [Token(TokenType.NUMBER, "1"), Token(COMMA, ",")]
        elif self.accept("from"):
            self.comma(lexeme)
            self.a_expr()
            if self.accept("for"):
                self.comma(lexeme)
                self.a_expr()
        else:
            while self.is_punct(","):
                self.comma(self.advance())
                self.a_expr()
        self.expect_punct(")")
        self.close(lexeme)

    def _overlay(self, lexeme: Lexeme) -> None:
        self.advance()
        self.expect_punct("(")
        self.open_form("overlay", lexeme)
        self.a_expr()
        if self.accept("placing"):
            self.comma(lexeme)
            self.a_expr()
            self.expect("from")
            self.comma(lexeme)
            self.a_expr()
            if self.accept("for"):
                self.comma(lexeme)
                self.a_expr()
        else:
            while self.is_punct(","):
                self.comma(self.advance())
                self.a_expr()
        self.expect_punct(")")
        self.close(lexeme)

    def _trim(self, lexeme: Lexeme) -> None:
        self.advance()
        self.expect_punct("(")
        side = self.accept_any("both", "leading", "trailing")
        self.open_form({"leading": "ltrim", "trailing": "rtrim"}.get(side or "both", "btrim"), lexeme)
        start = len(self.out)
        if not self.is_word("from"):
            self.expr_list()
        if self.accept("from"):
            characters = self.out[start:]
            del self.out[start:]
            self.expr_list()
            if characters:
                self.comma(lexeme)
                self.out.extend(characters)
        self.expect_punct(")")
        self.close(lexeme)

    def _collation(self, lexeme: Lexeme) -> None:
        self.advance()
        self.expect("for")
        self.expect_punct("(")
        self.open_form("pg_collation_for", lexeme)
        self.a_expr()
        self.expect_punct(")")
        self.close(lexeme)

    def _refused(self, lexeme: Lexeme) -> None:
        raise FeatureNotSupported(f"{lexeme.text} is not supported", position=lexeme.start + 1)

    # --- names and calls ------------------------------------------------------------------

    def _name_or_call(self) -> None:
        """``a``, ``a.b.c``, ``a.*``, or a function call."""
        first = self.peek()
        start = len(self.out)
        if first.kind == WORD:
            is_call = self.is_punct("(", 1)
            if first.text in (NOT_FUNCTION if is_call else NOT_COLUMN):
                raise self.syntax_error()
        self.emit_name(self.advance().text, first)
        parts = 1
        while self.is_punct("."):
            if self.is_op_at(1, "*"):
                self.emit(TokenType.DOT, ".", self.advance())
                self.emit(TokenType.STAR, "*", self.advance())
                return
            self.emit(TokenType.DOT, ".", self.advance())
            at = self.peek()
            self.emit_name(self.any_label(), at)
            parts += 1
        if self.is_punct("("):
            self._call(first)
        elif parts > 3:
            del start
            names = ".".join(t.text for t in self.out[-2 * parts + 1 :: 2])
            raise error("42601", f"improper qualified name (too many dotted names): {names}", position=first.start + 1)

    def _call(self, at: Lexeme) -> None:
        self.deeper()
        self.emit(LPAREN, "(", self.advance())
        if self.is_op("*"):
            self.emit(TokenType.STAR, "*", self.advance())
        elif not self.is_punct(")"):
            if self.accept("distinct"):
                self.emit(TokenType.DISTINCT, "DISTINCT", at)
            else:
                self.accept("all")
            self._argument()
            while self.is_punct(","):
                self.comma(self.advance())
                self._argument()
            if self.is_word("order"):
                self.order_by()
        self.emit(RPAREN, ")", self.peek())
        self.expect_punct(")")
        self.depth -= 1
        self._call_suffix()

    def _argument(self) -> None:
        lexeme = self.peek()
        if self.is_word("variadic"):
            self.advance()
            self.open_form(forms.VARIADIC, lexeme)
            self.a_expr()
            self.close(lexeme)
        elif lexeme.kind in (WORD, IDENT) and (self.is_op_at(1, "=>") or self.is_punct(":=", 1)):
            self.open_form(forms.NAMED, lexeme)
            self.emit_string(self.advance().text, lexeme)
            self.advance()
            self.comma(lexeme)
            self.a_expr()
            self.close(lexeme)
        else:
            self.a_expr()

    def _call_suffix(self) -> None:
        """WITHIN GROUP, FILTER, OVER."""
        if self.is_word("within", "group"):
            self.emit(TokenType.VAR, "WITHIN", self.advance())
            self.emit(TokenType.VAR, "GROUP", self.advance())
            self.emit(LPAREN, "(", self.peek())
            self.expect_punct("(")
            self.order_by()
            self.emit(RPAREN, ")", self.peek())
            self.expect_punct(")")
        if self.is_word("filter") and self.is_punct("(", 1):
            self.emit(TokenType.FILTER, "FILTER", self.advance())
            self.emit(LPAREN, "(", self.advance())
            self.emit(TokenType.WHERE, "WHERE", self.peek())
            self.expect("where")
            self.a_expr()
            self.emit(RPAREN, ")", self.peek())
            self.expect_punct(")")
        if self.is_word("over"):
            self.emit(TokenType.OVER, "OVER", self.advance())
            at = self.peek()
            if self.is_punct("("):
                self.window_definition()
            else:
                self.emit_name(self.name(), at)

    # --- ORDER BY and windows ---------------------------------------------------------------

    def order_by(self) -> None:
        """ORDER BY with its keys."""
        at = self.peek()
        self.expect("order", "by")
        self.emit(TokenType.ORDER_BY, "ORDER BY", at)
        while True:
            self.a_expr()
            if self.is_word("asc"):
                self.emit(TokenType.ASC, "ASC", self.advance())
            elif self.is_word("desc"):
                self.emit(TokenType.DESC, "DESC", self.advance())
            elif self.is_word("using"):
                raise self.unsupported("ORDER BY USING")
            if self.is_word("nulls"):
                self.emit(TokenType.VAR, "NULLS", self.advance())
                at = self.peek()
                if not self.is_any(("first", "last")):
                    raise self.syntax_error()
                self.emit(TokenType.VAR, self.advance().text.upper(), at)
            if not self.is_punct(","):
                return
            self.comma(self.advance())

    def window_definition(self) -> None:
        """``( [name] [PARTITION BY ..] [ORDER BY ..] [frame] )``."""
        opened = self.peek()
        self.emit(LPAREN, "(", opened)
        self.expect_punct("(")
        if self.is_word("groups") and self._frame_follows():
            raise error("42P20", "GROUPS mode requires an ORDER BY clause", position=opened.start + 1)
        if self.is_name() and not self._frame_follows() and not self.is_word("partition", "by"):
            self.emit_name(self.name(), opened)
        if self.is_word("partition"):
            at = self.peek()
            self.expect("partition", "by")
            self.emit(TokenType.PARTITION_BY, "PARTITION BY", at)
            self.expr_list()
        if self.is_word("order"):
            self.order_by()
        if self._frame_follows():
            self._frame()
        self.emit(RPAREN, ")", self.peek())
        self.expect_punct(")")

    def _frame_follows(self) -> bool:
        return self.is_any(("rows", "range", "groups")) and not self.is_punct(")", 1)

    def _frame(self) -> None:
        at = self.advance()
        kind = {"rows": TokenType.ROWS, "range": TokenType.RANGE}.get(at.text, TokenType.VAR)
        self.emit(kind, at.text.upper(), at)
        if self.is_word("between"):
            self.emit(TokenType.BETWEEN, "BETWEEN", self.advance())
            self._bound()
            self.emit(TokenType.AND, "AND", self.peek())
            self.expect("and")
            self._bound()
        else:
            self._bound()
        if self.is_word("exclude"):
            self.emit(TokenType.VAR, "EXCLUDE", self.advance())
            for words in (("current", "row"), ("group",), ("ties",), ("no", "others")):
                if self.is_word(*words):
                    for word in words:
                        self.emit(TokenType.ROW if word == "row" else TokenType.VAR, word.upper(), self.advance())
                    return
            raise self.syntax_error()

    def _bound(self) -> None:
        if self.is_word("unbounded"):
            self.emit(TokenType.VAR, "UNBOUNDED", self.advance())
        elif self.is_word("current"):
            self.emit(TokenType.VAR, "CURRENT", self.advance())
            self.emit(TokenType.ROW, "ROW", self.peek())
            self.expect("row")
            return
        else:
            self.a_expr()
        at = self.peek()
        if not self.is_any(("preceding", "following")):
            raise self.syntax_error()
        self.emit(TokenType.VAR, self.advance().text.upper(), at)
