"""Operands: literals, parentheses, CASE, ARRAY, typed literals, and what may follow them ([ ], ::, .)."""

from __future__ import annotations

from typing import Final

from sqlglot.tokens import Token, TokenType

from base.errors import SqlError, error
from sql.parse import forms
from sql.parse.keywords import COLUMN_NAME, RESERVED, words
from sql.parse.lexer import BITS, IDENT, NUMBER, PARAM, PUNCT, STRING, WORD, Lexeme
from sql.parse.shape_base import COMMA, LPAREN, RPAREN
from sql.parse.shape_call import CallShaper
from sql.parse.types import MULTIWORD, interval_fields, parse_type

_QUERY_WORDS: Final = frozenset(("select", "values", "with", "table"))
_KEYWORD_VALUES: Final = words(
    """current_date current_time current_timestamp localtime localtimestamp current_user current_role session_user user
    current_catalog current_schema"""
)
_RENAMED: Final = {
    "coalesce": forms.COALESCE, "nullif": forms.NULLIF, "greatest": forms.GREATEST, "least": forms.LEAST,
    "grouping": forms.GROUPING,
}  # fmt: skip


class OperandShaper(CallShaper):
    """Reads one operand."""

    def _postfix(self) -> None:
        """A primary with its subscripts, field selections and casts."""
        start = len(self.out)
        self.deeper()
        lexeme = self.peek()
        # gram.y allows indirection after a column, a parameter and a parenthesis only.
        has_parts = (
            lexeme.kind in (IDENT, PARAM) or (lexeme.kind == PUNCT and lexeme.text == "(") or lexeme.kind == WORD
        )
        self._primary()
        self.depth -= 1
        if has_parts and lexeme.kind in (IDENT, WORD):
            has_parts = self.out[start].token_type == TokenType.IDENTIFIER and self.out[-1].token_type in (
                TokenType.IDENTIFIER,
                TokenType.STAR,
            )
        while True:
            lexeme = self.peek()
            if lexeme.kind != PUNCT:
                return
            if lexeme.text in "[." and not has_parts:
                return
            if lexeme.text == "::":
                self.advance()
                self.wrap(start, forms.CAST, lexeme)
                found = parse_type(self)
                self.types.append(found)
                self.comma(lexeme)
                self.emit(TokenType.NUMBER, str(len(self.types) - 1), lexeme)
                self.close(lexeme)
            elif lexeme.text == "[":
                self._subscripts(start)
            elif lexeme.text == ".":
                self.advance()
                if self.is_op("*"):
                    self.advance()
                    self.wrap(start, forms.STAR, lexeme)
                else:
                    at = self.peek()
                    self.wrap(start, forms.FIELD, lexeme)
                    self.comma(at)
                    self.emit_string(self.any_label(), at)
                self.close(lexeme)
            else:
                return

    def _subscripts(self, start: int) -> None:
        at = self.peek()
        self.wrap(start, forms.SUBSCRIPT, at)
        self.subscript_items(at)
        self.close(at)

    def subscript_items(self, at: Lexeme) -> None:
        """``[i]`` and ``[l:u]``, as many as there are, each behind a comma."""
        while self.accept_punct("["):
            self.comma(at)
            mark = len(self.out)
            if self.is_punct(":"):
                self._form_without_arguments(forms.EMPTY, at)
            else:
                self.a_expr()
            if self.accept_punct(":"):
                self.out[mark:mark] = [Token(TokenType.STRING, "s"), Token(COMMA, ",")]
                self.comma(at)
                if self.is_punct("]"):
                    self._form_without_arguments(forms.EMPTY, at)
                else:
                    self.a_expr()
            else:
                self.out[mark:mark] = [Token(TokenType.STRING, "i"), Token(COMMA, ",")]
            self.expect_punct("]")

    def _primary(self) -> None:
        lexeme = self.peek()
        kind = lexeme.kind
        if kind == WORD:
            self._word(lexeme)
        elif kind == IDENT:
            if not (self.peek(1).kind == STRING and self._typed_literal(lexeme)):
                self._name_or_call()
        elif kind == NUMBER:
            self.emit(TokenType.NUMBER, self.advance().text, lexeme)
        elif kind == STRING:
            self.emit_string(self.advance().text, lexeme)
            if self.peek().kind == STRING:
                raise self.syntax_error()
        elif kind == PARAM:
            self._param()
        elif kind == BITS:
            self.advance()
            self.open_form(forms.BITS, lexeme)
            self.emit_string(lexeme.text, lexeme)
            self.close(lexeme)
        elif kind == PUNCT and lexeme.text == "(":
            self._parenthesis()
        else:
            raise self.syntax_error()

    def _param(self) -> None:
        lexeme = self.advance()
        number = int(lexeme.text)
        if not 1 <= number <= 65535:
            raise error("42P02", f"there is no parameter ${number}", position=lexeme.start + 1)
        self.param_count = max(self.param_count, number)
        self.emit(TokenType.PARAMETER, "$", lexeme)
        self.emit(TokenType.NUMBER, str(number), lexeme)

    def _parenthesis(self) -> None:
        at = self.advance()
        if self._query_follows():
            self.open_form(forms.SCALAR, at)
            self.emit(LPAREN, "(", at)
            self._subquery()
            self.emit(RPAREN, ")", self.peek())
            self.expect_punct(")")
            self.close(at)
            return
        start = len(self.out)
        self.a_expr()
        if self.is_punct(","):
            self.wrap(start, forms.ROW, at)
            while self.accept_punct(","):
                self.comma(at)
                self.a_expr()
            self.close(at)
        self.expect_punct(")")

    def _query_follows(self) -> bool:
        """True if a query begins here (after an opening parenthesis that was taken).

        ``((select 1) union select 2)`` is a query, ``((select 1) + 2)`` is not: what follows the inner
        parenthesis tells.
        """
        at = self.index
        while at < self.stop and self.lexemes[at].kind == PUNCT and self.lexemes[at].text == "(":
            at += 1
        if at >= self.stop or self.lexemes[at].kind != WORD or self.lexemes[at].text not in _QUERY_WORDS:
            return False
        for opened in range(at - 1, self.index - 1, -1):
            closed = self._closing(opened)
            following = self.lexemes[closed + 1] if closed + 1 < self.stop else self.end
            if following.kind == PUNCT and following.text == ")":
                continue
            if following.kind != WORD or following.text not in (
                "union",
                "intersect",
                "except",
                "order",
                "limit",
                "offset",
                "fetch",
                "for",
            ):
                return False
        return True

    def _closing(self, opened: int) -> int:
        depth = 0
        for at in range(opened, self.stop):
            lexeme = self.lexemes[at]
            if lexeme.kind == PUNCT:
                if lexeme.text == "(":
                    depth += 1
                elif lexeme.text == ")":
                    depth -= 1
                    if depth == 0:
                        return at
        return self.stop

    def _subquery(self) -> None:
        self.deeper()
        self.query()
        self.depth -= 1

    def _word(self, lexeme: Lexeme) -> None:
        word = lexeme.text
        method = _OPERAND_WORDS.get(word)
        if method is not None and (word not in _CALL_WORDS or self.is_punct("(", 1)):
            method(self, lexeme)
            return
        if word in _KEYWORD_VALUES:
            self._keyword_value(lexeme)
            return
        if self._typed_literal(lexeme):
            return
        if word in RESERVED:
            raise self.syntax_error()
        self._name_or_call()

    def _null(self, lexeme: Lexeme) -> None:
        self.advance()
        self._form_without_arguments(forms.NULL, lexeme)

    def _boolean(self, lexeme: Lexeme) -> None:
        self.advance()
        self._form_without_arguments(forms.TRUE if lexeme.text == "true" else forms.FALSE, lexeme)

    def _keyword_value(self, lexeme: Lexeme) -> None:
        if lexeme.text == "current_schema" and self.is_punct("(", 1):
            self._name_or_call()
            return
        self.advance()
        self.open_form(forms.KEYWORD, lexeme)
        self.emit_string(lexeme.text, lexeme)
        if lexeme.text in ("current_time", "current_timestamp", "localtime", "localtimestamp") and self.accept_punct(
            "("
        ):
            self.comma(lexeme)
            self.emit(TokenType.NUMBER, str(self.number()), lexeme)
            self.expect_punct(")")
        self.close(lexeme)

    def _default(self, lexeme: Lexeme) -> None:
        self.advance()
        self._form_without_arguments(forms.DEFAULT, lexeme)

    def _typed_literal(self, lexeme: Lexeme) -> bool:
        """Takes ``date '2020-01-01'`` and the like."""
        word = lexeme.text
        if self.peek(1).kind == STRING:
            if word in RESERVED or word in ("between", "in", "like", "ilike", "is", "isnull", "notnull"):
                return False
        elif word not in MULTIWORD:
            # A qualified type name: pg_catalog.int4 '5'.
            if not (self.is_punct(".", 1) and self.peek(2).kind in (WORD, IDENT) and self.peek(3).kind == STRING):
                return False
        elif not self._multiword_literal():
            return False
        self.open_form(forms.CAST, lexeme)
        is_plain = self.peek(1).kind == STRING
        found = parse_type(self)
        if is_plain and found.names in (("bit",), ("bpchar",)):
            # A length of 1 goes without saying everywhere but here (ConstTypename in gram.y).
            found = found._replace(typmods=())
        string = self.peek()
        self.emit_string(self.string(), string)
        if found.names == ("interval",) and not found.interval_fields:
            fields, precision = interval_fields(self)
            found = found._replace(interval_fields=fields, typmods=precision or found.typmods)
        self.comma(lexeme)
        self.types.append(found)
        self.emit(TokenType.NUMBER, str(len(self.types) - 1), lexeme)
        self.comma(lexeme)
        self.emit_string("literal", lexeme)
        self.close(lexeme)
        return True

    def _multiword_literal(self) -> bool:
        """Looks whether a type of several words is followed by a string."""
        index = self.index
        try:
            parse_type(self)
            return self.peek().kind == STRING
        except SqlError:
            return False
        finally:
            self.index = index

    def _cast(self, lexeme: Lexeme) -> None:
        self.advance()
        self.expect_punct("(")
        self.open_form(forms.CAST, lexeme)
        self.a_expr()
        self.expect("as")
        found = parse_type(self)
        self.types.append(found)
        self.comma(lexeme)
        self.emit(TokenType.NUMBER, str(len(self.types) - 1), lexeme)
        self.close(lexeme)
        self.expect_punct(")")

    def _case(self, lexeme: Lexeme) -> None:
        self.advance()
        self.deeper()
        self.open_form(forms.CASE, lexeme)
        flags = len(self.out)
        self.emit_string("", lexeme)
        text = ""
        if not self.is_word("when"):
            text = "s"
            self.comma(lexeme)
            self.a_expr()
        if not self.is_word("when"):
            raise self.syntax_error()
        while self.accept("when"):
            self.comma(lexeme)
            self.a_expr()
            self.expect("then")
            self.comma(lexeme)
            self.a_expr()
        if self.accept("else"):
            text += "e"
            self.comma(lexeme)
            self.a_expr()
        self.expect("end")
        self.out[flags] = Token(TokenType.STRING, text, 1, 1, lexeme.start, lexeme.end - 1)
        self.close(lexeme)
        self.depth -= 1

    def _array(self, lexeme: Lexeme) -> None:
        self.advance()
        if self.is_punct("("):
            self.advance()
            self._query_form(forms.ARRAYSUB, lexeme)
        elif self.is_punct("["):
            self._array_items(lexeme)
        else:
            raise self.syntax_error()

    def _array_items(self, lexeme: Lexeme) -> None:
        self.deeper()
        self.expect_punct("[")
        self.open_form(forms.ARRAY, lexeme)
        if not self.is_punct("]"):
            self._array_item(lexeme)
            while self.accept_punct(","):
                self.comma(lexeme)
                self._array_item(lexeme)
        self.expect_punct("]")
        self.close(lexeme)
        self.depth -= 1

    def _array_item(self, lexeme: Lexeme) -> None:
        if self.is_punct("["):
            self._array_items(self.peek())
        else:
            self.a_expr()

    def _row(self, lexeme: Lexeme) -> None:
        self.advance()
        self.expect_punct("(")
        self.open_form(forms.ROW, lexeme)
        if not self.is_punct(")"):
            self.expr_list()
        self.expect_punct(")")
        self.close(lexeme)

    def _exists(self, lexeme: Lexeme) -> None:
        self.advance()
        self.expect_punct("(")
        self._query_form(forms.EXISTS, lexeme)

    def _query_form(self, form: str, lexeme: Lexeme) -> None:
        """``form((query))``, after the opening parenthesis."""
        if not self._query_follows():
            raise self.syntax_error()
        self.open_form(form, lexeme)
        self.emit(LPAREN, "(", lexeme)
        self._subquery()
        self.emit(RPAREN, ")", lexeme)
        self.expect_punct(")")
        self.close(lexeme)

    def _renamed(self, lexeme: Lexeme) -> None:
        self.advance()
        self.expect_punct("(")
        self.open_form(_RENAMED[lexeme.text], lexeme)
        self.expr_list()
        self.expect_punct(")")
        self.close(lexeme)


_OPERAND_WORDS: Final = {
    "null": OperandShaper._null, "true": OperandShaper._boolean, "false": OperandShaper._boolean, "case": OperandShaper._case,
    "cast": OperandShaper._cast, "array": OperandShaper._array, "exists": OperandShaper._exists, "default": OperandShaper._default,
    "row": OperandShaper._row, "extract": OperandShaper._extract, "position": OperandShaper._position,
    "substring": OperandShaper._substring, "overlay": OperandShaper._overlay, "trim": OperandShaper._trim,
    "coalesce": OperandShaper._renamed, "nullif": OperandShaper._renamed, "greatest": OperandShaper._renamed,
    "least": OperandShaper._renamed, "grouping": OperandShaper._renamed, "collation": OperandShaper._collation,
    **dict.fromkeys(("normalize", "treat", "xmlconcat", "xmlelement", "xmlexists", "xmlforest", "xmlparse", "xmlpi", "xmlroot",
                     "xmlserialize", "xmltable"), OperandShaper._refused),
}  # fmt: skip
_CALL_WORDS: Final = COLUMN_NAME
"""Of the words above, those that are plain names unless a parenthesis follows."""
