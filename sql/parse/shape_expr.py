"""Expressions by PostgreSQL's grammar, emitted as tokens that sqlglot reads one way only.

An operator-precedence parser over lexemes (manual 4.1.6, gram.y's table).  Levels, from loose to tight::

    0 OR    AND    NOT
    1 IS ISNULL NOTNULL
    2 < > = <= >= <>            not associative
    3 BETWEEN IN LIKE ILIKE SIMILAR     not associative
    4 every other operator
    5 + -
    6 * / %
    7 ^
    8 AT TIME ZONE
    9 COLLATE
   10 unary + -
      then [ ], ::, .

What it emits are the call forms of ``sql.parse.forms``: ``a <-> b + c`` becomes
``OP('<->', a, OP('+', b, c))``, so no precedence is left for sqlglot to decide.  The name of each call carries the
position of the operator, which is what error messages point at.
"""

from __future__ import annotations

from typing import Final

from sqlglot.tokens import TokenType

from base.errors import error
from sql.parse import forms
from sql.parse.lexer import IDENT, NUMBER, OP, PUNCT, STRING, WORD, Lexeme
from sql.parse.shape_base import LPAREN, NESTING_MAX, RPAREN
from sql.parse.shape_operand import OperandShaper

RAW_LIST_MIN: Final = 64
"""IN lists of at least so many literals are kept out of the tree."""

_COMPARISONS: Final = frozenset(("<", ">", "=", "<=", ">=", "<>", "!="))
_OP_LEVELS: Final = {"+": 5, "-": 5, "*": 6, "/": 6, "%": 6, "^": 7, **dict.fromkeys(_COMPARISONS, 2)}
_WORD_LEVELS: Final = {
    "is": 1, "isnull": 1, "notnull": 1, "between": 3, "in": 3, "like": 3, "ilike": 3, "similar": 3, "overlaps": 3,
    "at": 8, "collate": 9, "operator": 4, "not": 3,
}  # fmt: skip
_IS_WORDS: Final = frozenset(("null", "true", "false", "unknown"))


class ExprShaper(OperandShaper):
    """Reads expressions."""

    # --- boolean level ------------------------------------------------------------------

    def a_expr(self) -> None:
        """Any expression."""
        start, at = len(self.out), self.peek()
        self._conjunction()
        if not self.is_word("or"):
            return
        self.wrap(start, forms.OR, at)
        while self.accept("or"):
            self.comma(at)
            self._conjunction()
        self.close(at)

    def _conjunction(self) -> None:
        start, at = len(self.out), self.peek()
        self._negation()
        if not self.is_word("and"):
            return
        self.wrap(start, forms.AND, at)
        while self.accept("and"):
            self.comma(at)
            self._negation()
        self.close(at)

    def _negation(self) -> None:
        negations: list[Lexeme] = []
        while self.is_word("not"):
            negations.append(self.advance())
        if len(negations) > NESTING_MAX:
            raise error("54001", "stack depth limit exceeded")
        for at in negations:
            self.open_form(forms.NOT, at)
        self.b_expr(1)
        for at in negations:
            self.close(at)

    # --- operators ----------------------------------------------------------------------

    def _level(self) -> int:
        """Level of the infix or postfix operator that comes next, or -1."""
        lexeme = self.peek()
        if lexeme.kind == OP:
            return _OP_LEVELS.get(lexeme.text, 4)
        if lexeme.kind != WORD:
            return -1
        level = _WORD_LEVELS.get(lexeme.text, -1)
        if level < 0:
            return -1
        word = lexeme.text
        if self.tight and self.depth <= 1 and word != "operator":
            return -1
        if word == "not":
            follows = self.peek(1)
            if follows.kind == WORD and follows.text in ("between", "in", "like", "ilike", "similar"):
                return 3
            return -1
        if word == "at":
            return 8 if self.peek(1).text == "time" and self.peek(2).text == "zone" else -1
        if word == "operator":
            return 4 if self.is_punct("(", 1) else -1
        return level

    def b_expr(self, lowest: int) -> None:
        """An expression of operators at ``lowest`` or tighter."""
        start = len(self.out)
        self._unary()
        compared = 0
        while True:
            level = self._level()
            if level < lowest:
                return
            if level in (2, 3):
                if compared == level:
                    raise self.syntax_error()
                compared = level
            self._infix(start, level)

    def _infix(self, start: int, level: int) -> None:
        lexeme = self.peek()
        if lexeme.kind == OP or lexeme.text == "operator":
            self._binary(start, level)
            return
        word = lexeme.text
        negated = word == "not"
        if negated:
            self.advance()
            word = self.peek().text
        self.advance()
        if word in ("is", "isnull", "notnull"):
            self._is(start, word, lexeme)
        elif word == "in":
            self._in(start, negated, lexeme)
        elif word == "between":
            self._between(start, negated, lexeme)
        elif word in ("like", "ilike", "similar"):
            self._like(start, word, negated, lexeme)
        elif word == "at":
            self.expect("time", "zone")
            self.wrap(start, forms.ZONE, lexeme)
            self.comma(lexeme)
            self.b_expr(9)
            self.close(lexeme)
        elif word == "collate":
            name = self.qualified()
            self.wrap(start, forms.COLLATE, lexeme)
            self.comma(lexeme)
            self.emit_string(name.name, lexeme)
            if name.schema is not None:
                self.comma(lexeme)
                self.emit_string(name.schema, lexeme)
            self.close(lexeme)
        else:
            assert word == "overlaps", f"{word=}"
            self.wrap(start, forms.OVERLAPS, lexeme)
            self.comma(lexeme)
            self.b_expr(4)
            self.close(lexeme)

    def _symbol(self) -> str:
        """Takes an operator, plain or as OPERATOR(schema.op)."""
        lexeme = self.advance()
        if lexeme.kind == OP:
            return "<>" if lexeme.text == "!=" else lexeme.text
        self.expect_punct("(")
        while self.peek().kind in (WORD, IDENT):
            schema = self.advance()
            if schema.text != "pg_catalog":
                raise error("3F000", f'schema "{schema.text}" does not exist', position=schema.start + 1)
            self.expect_punct(".")
        if self.peek().kind != OP:
            raise self.syntax_error()
        symbol = self.advance().text
        self.expect_punct(")")
        return "<>" if symbol == "!=" else symbol

    def _binary(self, start: int, level: int) -> None:
        at = self.peek()
        symbol = self._symbol()
        if self.is_any(("any", "some", "all")) and self.is_punct("(", 1):
            self._quantified(start, symbol, at)
            return
        self.wrap(start, forms.OP, at, symbol)
        self.comma(at)
        self.b_expr(level + 1)
        # A run of left-associative operators is one flat call, so that long chains do not nest.
        while level != 2 and self._level() == level and not self._quantifier_follows():
            at = self.peek()
            self.comma(at)
            self.emit_string(self._symbol(), at)
            self.comma(at)
            self.b_expr(level + 1)
        self.close(at)

    def _quantifier_follows(self) -> bool:
        return (
            self.peek().kind == OP
            and self.is_punct("(", 2)
            and self.peek(1).kind == WORD
            and self.peek(1).text in ("any", "some", "all")
        )

    def _quantified(self, start: int, symbol: str, at: Lexeme) -> None:
        kind = "all" if self.advance().text == "all" else "any"
        self.wrap(start, forms.QUANTIFIED, at, symbol, kind)
        self.comma(at)
        self.expect_punct("(")
        if self._query_follows():
            self.emit(LPAREN, "(", at)
            self._subquery()
            self.emit(RPAREN, ")", at)
        else:
            self.a_expr()
        self.expect_punct(")")
        self.close(at)

    def _is(self, start: int, word: str, at: Lexeme) -> None:
        if word != "is":
            self.wrap(start, forms.IS, at, "null" if word == "isnull" else "not null")
            self.close(at)
            return
        negation = "not " if self.accept("not") else ""
        if self.accept("distinct"):
            self.expect("from")
            self.wrap(start, forms.DISTINCT, at, negation + "distinct")
            self.comma(at)
            self.b_expr(2)
        elif self.is_any(_IS_WORDS):
            self.wrap(start, forms.IS, at, negation + self.advance().text)
        elif self.is_any(("document", "normalized", "json", "of", "nfc", "nfd", "nfkc", "nfkd")):
            raise self.unsupported(f"IS {self.peek().text.upper()}")
        else:
            raise self.syntax_error()
        self.close(at)

    def _in(self, start: int, negated: bool, at: Lexeme) -> None:
        mode = "not in" if negated else "in"
        if not self.is_punct("("):
            raise self.syntax_error()
        self.advance()
        if self._query_follows():
            self.wrap(start, forms.INSUB, at, mode)
            self.comma(at)
            self.emit(LPAREN, "(", at)
            self._subquery()
            self.emit(RPAREN, ")", at)
        else:
            raw = self._raw_list()
            if raw is not None:
                self.raw_lists.append(raw)
                self.wrap(start, forms.INRAW, at, mode)
                self.comma(at)
                self.emit(TokenType.NUMBER, str(len(self.raw_lists) - 1), at)
            else:
                self.wrap(start, forms.IN, at, mode)
                self.comma(at)
                self.expr_list()
        self.expect_punct(")")
        self.close(at)

    def _raw_list(self) -> list[tuple[str, str, int]] | None:
        """Takes a long list of plain literals up to its ``)``, or takes nothing."""
        lexemes, index, stop = self.lexemes, self.index, self.stop
        if index + 2 * RAW_LIST_MIN > stop:
            return None
        items: list[tuple[str, str, int]] = []
        while index + 1 < stop:
            literal, comma = lexemes[index], lexemes[index + 1]
            kind = literal.kind
            sign = ""
            if kind == OP and literal.text == "-" and comma.kind == NUMBER and index + 2 < stop:
                sign, literal, kind = "-", comma, NUMBER
                index += 1
                comma = lexemes[index + 1]
            if kind == NUMBER:
                items.append(("i" if literal.text.isdigit() else "n", sign + literal.text, literal.start))
            elif kind == STRING:
                items.append(("s", literal.text, literal.start))
            else:
                return None
            if comma.kind != PUNCT:
                return None
            if comma.text == ")":
                if len(items) < RAW_LIST_MIN:
                    return None
                self.index = index + 1
                return items
            if comma.text != ",":
                return None
            index += 2
        return None

    def _between(self, start: int, negated: bool, at: Lexeme) -> None:
        mode = "not between" if negated else "between"
        if self.accept("symmetric"):
            mode += " symmetric"
        else:
            self.accept("asymmetric")
        self.wrap(start, forms.BETWEEN, at, mode)
        self.comma(at)
        self.b_expr(4)
        self.expect("and")
        self.comma(at)
        self.b_expr(4)
        self.close(at)

    def _like(self, start: int, word: str, negated: bool, at: Lexeme) -> None:
        if word == "similar":
            self.expect("to")
        symbol = ("!" if negated else "") + {"like": "~~", "ilike": "~~*", "similar": "~"}[word]
        if word != "similar" and self.is_any(("any", "some", "all")) and self.is_punct("(", 1):
            self._quantified(start, symbol, at)
            return
        self.wrap(start, forms.OP, at, symbol)
        self.comma(at)
        pattern = len(self.out)
        self.b_expr(4)
        escape = self.accept("escape")
        if escape or word == "similar":
            self.wrap(pattern, forms.SIMILAR if word == "similar" else forms.LIKE_ESCAPE, at)
            if escape:
                self.comma(at)
                self.b_expr(4)
            self.close(at)
        self.close(at)

    def _unary(self) -> None:
        lexeme = self.peek()
        if lexeme.kind != OP or lexeme.text == "*":
            if lexeme.kind == WORD and lexeme.text == "operator" and self.is_punct("(", 1):
                self._prefix(4)
                return
            self._postfix()
            return
        self._prefix(10 if lexeme.text in "+-" else 4)

    def _prefix(self, level: int) -> None:
        at = self.peek()
        symbol = self._symbol()
        if symbol in _COMPARISONS or symbol in ("*", "/", "%", "^", "<>"):
            self.index -= 1
            raise self.syntax_error()
        self.deeper()
        self.open_form(forms.PREFIX, at)
        self.emit_string(symbol, at)
        self.comma(at)
        self.b_expr(level)
        self.close(at)
        self.depth -= 1
