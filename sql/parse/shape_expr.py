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

from sqlglot.tokens import Token, TokenType

from base.errors import FeatureNotSupported, error
from sql.parse import forms
from sql.parse.cursor import Cursor
from sql.parse.keywords import COLUMN_NAME, NOT_COLUMN, NOT_FUNCTION, RESERVED, words
from sql.parse.lexer import BITS, END, IDENT, NUMBER, OP, PARAM, PUNCT, STRING, WORD, Lexeme
from sql.parse.statements import TypeName
from sql.parse.types import MULTIWORD, interval_fields, parse_type

NESTING_MAX: Final = 120
"""Levels of parentheses, calls and subqueries; beyond it 54001.  Each level costs this parser up to five stack frames."""
RAW_LIST_MIN: Final = 64
"""IN lists of at least so many literals are kept out of the tree."""

_COMPARISONS: Final = frozenset(("<", ">", "=", "<=", ">=", "<>", "!="))
_OP_LEVELS: Final = {"+": 5, "-": 5, "*": 6, "/": 6, "%": 6, "^": 7, **dict.fromkeys(_COMPARISONS, 2)}
_WORD_LEVELS: Final = {
    "is": 1, "isnull": 1, "notnull": 1, "between": 3, "in": 3, "like": 3, "ilike": 3, "similar": 3, "overlaps": 3,
    "at": 8, "collate": 9, "operator": 4, "not": 3,
}  # fmt: skip
_QUERY_WORDS: Final = frozenset(("select", "values", "with", "table"))
_KEYWORD_VALUES: Final = words("""current_date current_time current_timestamp localtime localtimestamp current_user current_role session_user user
    current_catalog current_schema""")
_RENAMED: Final = {
    "coalesce": forms.COALESCE, "nullif": forms.NULLIF, "greatest": forms.GREATEST, "least": forms.LEAST,
    "grouping": forms.GROUPING,
}  # fmt: skip
_IS_WORDS: Final = frozenset(("null", "true", "false", "unknown"))

LPAREN, RPAREN, COMMA = TokenType.L_PAREN, TokenType.R_PAREN, TokenType.COMMA


class ExprShaper(Cursor):
    """Reads expressions and appends tokens to ``out``; ``types`` collects the type names they mention."""

    def __init__(self, sql: str, lexemes: list[Lexeme], index: int = 0, stop: int | None = None) -> None:
        super().__init__(sql, lexemes, index, stop)
        self.out: list[Token] = []
        self.types: list[TypeName] = []
        self.raw_lists: list[list[tuple[str, str, int]]] = []
        self.param_count = 0
        self.depth = 0
        self.as_of: tuple[int, int] | None = None
        self.tight = False
        """gram.y's b_expr: no AND, OR, NOT, IS, IN, LIKE, BETWEEN, AT, COLLATE outside parentheses."""

    # --- emitting -----------------------------------------------------------------------

    def emit(self, kind: TokenType, text: str, at: Lexeme) -> None:
        self.out.append(Token(kind, text, 1, 1, at.start, at.end - 1))

    def emit_name(self, text: str, at: Lexeme) -> None:
        self.emit(TokenType.IDENTIFIER, text, at)

    def emit_string(self, text: str, at: Lexeme) -> None:
        self.emit(TokenType.STRING, text, at)

    def open_form(self, form: str, at: Lexeme) -> None:
        self.emit(TokenType.IDENTIFIER, form, at)
        self.emit(LPAREN, "(", at)

    def comma(self, at: Lexeme) -> None:
        self.emit(COMMA, ",", at)

    def close(self, at: Lexeme) -> None:
        self.emit(RPAREN, ")", at)

    def wrap(self, start: int, form: str, at: Lexeme, *strings: str) -> None:
        """Puts ``form('string', ..`` in front of what was emitted since ``start``."""
        head = [
            Token(TokenType.IDENTIFIER, form, 1, 1, at.start, at.end - 1),
            Token(LPAREN, "(", 1, 1, at.start, at.end - 1),
        ]
        for text in strings:
            head.append(Token(TokenType.STRING, text, 1, 1, at.start, at.end - 1))
            head.append(Token(COMMA, ",", 1, 1, at.start, at.end - 1))
        self.out[start:start] = head

    def type_number(self, found: TypeName, at: Lexeme) -> None:
        """Emits the number of a type in the type list."""
        self.types.append(found)
        self.emit(TokenType.NUMBER, str(len(self.types) - 1), at)

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > NESTING_MAX:
            raise error("54001", "stack depth limit exceeded", hint=f"Statements may nest {NESTING_MAX} levels deep.")

    def query(self) -> None:
        """A query without its parentheses; see QueryShaper."""
        raise NotImplementedError

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

    # --- operands -----------------------------------------------------------------------

    def _postfix(self) -> None:
        """A primary with its subscripts, field selections and casts."""
        start = len(self.out)
        self.deeper()
        self._primary()
        self.depth -= 1
        while True:
            lexeme = self.peek()
            if lexeme.kind != PUNCT:
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
        self.close(at)

    def _form_without_arguments(self, form: str, at: Lexeme) -> None:
        self.open_form(form, at)
        self.close(at)

    def _primary(self) -> None:
        lexeme = self.peek()
        kind = lexeme.kind
        if kind == WORD:
            self._word(lexeme)
        elif kind == IDENT:
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
            self.emit(LPAREN, "(", at)
            self._subquery()
            self.emit(RPAREN, ")", self.peek())
            self.expect_punct(")")
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

    def expr_list(self) -> None:
        """Expressions separated by commas."""
        self.a_expr()
        while self.is_punct(","):
            self.comma(self.advance())
            self.a_expr()

    # --- words --------------------------------------------------------------------------

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
        self.emit(TokenType.NULL, "NULL", lexeme)

    def _boolean(self, lexeme: Lexeme) -> None:
        self.advance()
        self.emit(TokenType.TRUE if lexeme.text == "true" else TokenType.FALSE, lexeme.text, lexeme)

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
        found = parse_type(self)
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
        from base.errors import SqlError

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

    def _label_required(self, lexeme: Lexeme) -> None:
        raise self.syntax_error()

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

    def is_op_at(self, ahead: int, text: str) -> bool:
        lexeme = self.peek(ahead)
        return lexeme.kind == OP and lexeme.text == text

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
        self.emit(LPAREN, "(", self.peek())
        self.expect_punct("(")
        if self.is_name() and not self._frame_follows() and not self.is_word("partition", "by"):
            at = self.peek()
            self.emit_name(self.name(), at)
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


_OPERAND_WORDS: Final = {
    "null": ExprShaper._null, "true": ExprShaper._boolean, "false": ExprShaper._boolean, "case": ExprShaper._case,
    "cast": ExprShaper._cast, "array": ExprShaper._array, "exists": ExprShaper._exists, "default": ExprShaper._default,
    "row": ExprShaper._row, "extract": ExprShaper._extract, "position": ExprShaper._position,
    "substring": ExprShaper._substring, "overlay": ExprShaper._overlay, "trim": ExprShaper._trim,
    "coalesce": ExprShaper._renamed, "nullif": ExprShaper._renamed, "greatest": ExprShaper._renamed,
    "least": ExprShaper._renamed, "grouping": ExprShaper._renamed, "collation": ExprShaper._collation,
    **dict.fromkeys(("normalize", "treat", "xmlconcat", "xmlelement", "xmlexists", "xmlforest", "xmlparse", "xmlpi", "xmlroot",
                     "xmlserialize", "xmltable"), ExprShaper._refused),
}  # fmt: skip
_CALL_WORDS: Final = COLUMN_NAME
"""Of the words above, those that are plain names unless a parenthesis follows."""

assert "case" not in _CALL_WORDS
assert END > PARAM
