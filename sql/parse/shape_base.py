"""What all shapers share: emitting sqlglot tokens, wrapping what was emitted, counting depth."""

from __future__ import annotations

from typing import Final

from sqlglot.tokens import Token, TokenType

from base.errors import error
from sql.parse.cursor import Cursor
from sql.parse.lexer import OP, Lexeme
from sql.parse.statements import TypeName

NESTING_MAX: Final = 120
"""Levels of parentheses, calls and subqueries; beyond it 54001.  Each level costs this parser up to five stack frames."""

LPAREN, RPAREN, COMMA = TokenType.L_PAREN, TokenType.R_PAREN, TokenType.COMMA


class ShapeBase(Cursor):
    """Appends tokens to ``out``; ``types`` collects the type names that the expressions mention."""

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

    # --- what subclasses read -----------------------------------------------------------

    def a_expr(self) -> None:
        """Any expression."""
        raise NotImplementedError

    def b_expr(self, lowest: int) -> None:
        """An expression of operators at ``lowest`` or tighter."""
        raise NotImplementedError

    def is_op_at(self, ahead: int, text: str) -> bool:
        lexeme = self.peek(ahead)
        return lexeme.kind == OP and lexeme.text == text

    def expr_list(self) -> None:
        """Expressions separated by commas."""
        self.a_expr()
        while self.is_punct(","):
            self.comma(self.advance())
            self.a_expr()

    def _form_without_arguments(self, form: str, at: Lexeme) -> None:
        self.open_form(form, at)
        self.close(at)
