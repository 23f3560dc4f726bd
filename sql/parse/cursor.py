"""A position in a list of lexemes, with the small questions every hand-written parser asks."""

from __future__ import annotations

from base.errors import FeatureNotSupported, SqlError
from sql.parse.keywords import NOT_COLUMN, RESERVED
from sql.parse.lexer import END, IDENT, NUMBER, OP, PARAM, PUNCT, STRING, WORD, Lexeme, syntax_error
from sql.parse.statements import Name


class Cursor:
    """Reads ``lexemes[index:stop]`` of ``sql``.  Words are compared in lower case; quoted identifiers are never words."""

    def __init__(self, sql: str, lexemes: list[Lexeme], index: int = 0, stop: int | None = None) -> None:
        self.sql = sql
        self.lexemes = lexemes
        self.index = index
        self.stop = len(lexemes) if stop is None else stop
        self.end = Lexeme(END, "", len(sql), len(sql))

    def peek(self, ahead: int = 0) -> Lexeme:
        at = self.index + ahead
        return self.lexemes[at] if at < self.stop else self.end

    def advance(self) -> Lexeme:
        lexeme = self.peek()
        self.index += 1
        return lexeme

    @property
    def at_end(self) -> bool:
        return self.index >= self.stop

    def syntax_error(self, ahead: int = 0) -> SqlError:
        """The error PostgreSQL gives when the next lexeme cannot follow."""
        return syntax_error(self.sql, self.peek(ahead))

    def unsupported(self, feature: str) -> FeatureNotSupported:
        return FeatureNotSupported(f"{feature} is not supported", position=self.peek().start + 1)

    def finish(self) -> None:
        """Nothing may be left."""
        if not self.at_end:
            raise self.syntax_error()

    # --- words ----------------------------------------------------------------------

    def is_word(self, *words: str) -> bool:
        """True if the next lexemes are exactly these words, one after the other."""
        at = self.index
        if at + len(words) > self.stop:
            return False
        for word in words:
            lexeme = self.lexemes[at]
            if lexeme.kind != WORD or lexeme.text != word:
                return False
            at += 1
        return True

    def is_any(self, words: frozenset[str] | tuple[str, ...]) -> bool:
        lexeme = self.peek()
        return lexeme.kind == WORD and lexeme.text in words

    def accept(self, *words: str) -> bool:
        if self.is_word(*words):
            self.index += len(words)
            return True
        return False

    def accept_any(self, *words: str) -> str | None:
        """Takes one of the words, and says which."""
        if self.is_any(words):
            return self.advance().text
        return None

    def expect(self, *words: str) -> None:
        for word in words:
            if not self.accept(word):
                raise self.syntax_error()

    # --- punctuation and operators ------------------------------------------------------

    def is_punct(self, text: str, ahead: int = 0) -> bool:
        lexeme = self.peek(ahead)
        return lexeme.kind == PUNCT and lexeme.text == text

    def accept_punct(self, text: str) -> bool:
        if self.is_punct(text):
            self.index += 1
            return True
        return False

    def expect_punct(self, text: str) -> None:
        if not self.accept_punct(text):
            raise self.syntax_error()

    def is_op(self, text: str) -> bool:
        lexeme = self.peek()
        return lexeme.kind == OP and lexeme.text == text

    def accept_op(self, text: str) -> bool:
        if self.is_op(text):
            self.index += 1
            return True
        return False

    # --- names --------------------------------------------------------------------------

    def is_name(self, ahead: int = 0) -> bool:
        """True if the next lexeme can be a column or table name."""
        lexeme = self.peek(ahead)
        return lexeme.kind == IDENT or (lexeme.kind == WORD and lexeme.text not in NOT_COLUMN)

    def name(self) -> str:
        """A column or table name (ColId)."""
        if not self.is_name():
            raise self.syntax_error()
        return self.advance().text

    def value_word(self) -> str:
        """A word as an option's value: unreserved, or TRUE, FALSE, ON."""
        lexeme = self.peek()
        if lexeme.kind == WORD and lexeme.text in RESERVED and lexeme.text not in ("true", "false", "on"):
            raise self.syntax_error()
        return self.any_label()

    def any_label(self) -> str:
        """Any identifier, reserved words included (ColLabel)."""
        if self.peek().kind not in (WORD, IDENT):
            raise self.syntax_error()
        return self.advance().text

    def qualified(self) -> Name:
        """``[[database.]schema.]name``."""
        position = self.peek().start
        parts = [self.name()]
        while self.is_punct("."):
            self.advance()
            parts.append(self.any_label())
        if len(parts) == 1:
            return Name(parts[0], None, position)
        if len(parts) == 2:
            return Name(parts[1], parts[0], position)
        if len(parts) == 3:
            return Name(parts[2], parts[1], position, parts[0])
        from base.errors import error

        raise error(
            "42601", f"improper qualified name (too many dotted names): {'.'.join(parts)}", position=position + 1
        )

    def qualified_list(self) -> tuple[Name, ...]:
        names = [self.qualified()]
        while self.accept_punct(","):
            names.append(self.qualified())
        return tuple(names)

    def name_list(self) -> tuple[str, ...]:
        names = [self.name()]
        while self.accept_punct(","):
            names.append(self.name())
        return tuple(names)

    def wrapped_names(self) -> tuple[str, ...]:
        """``(a, b)``."""
        self.expect_punct("(")
        names = self.name_list()
        self.expect_punct(")")
        return names

    # --- literals -----------------------------------------------------------------------

    def is_string(self) -> bool:
        return self.peek().kind == STRING

    def string(self) -> str:
        if self.peek().kind != STRING:
            raise self.syntax_error()
        return self.advance().text

    def number(self) -> int:
        """An integer, with an optional sign."""
        sign = 1
        if self.is_op("-") or self.is_op("+"):
            sign = -1 if self.advance().text == "-" else 1
        lexeme = self.peek()
        if lexeme.kind != NUMBER or not lexeme.text.isdigit():
            raise self.syntax_error()
        self.advance()
        return sign * int(lexeme.text)

    def is_param(self) -> bool:
        return self.peek().kind == PARAM

    # --- ranges of lexemes ----------------------------------------------------------------

    def skip_group(self) -> tuple[int, int]:
        """Passes a parenthesised group; returns the index range of its content."""
        self.expect_punct("(")
        first = self.index
        depth = 1
        while depth:
            lexeme = self.peek()
            if lexeme.kind == END:
                raise self.syntax_error()
            if lexeme.kind == PUNCT:
                if lexeme.text in "([":
                    depth += 1
                elif lexeme.text in ")]":
                    depth -= 1
            self.index += 1
        return first, self.index - 1

    def text_between(self, first: int, last: int) -> str:
        """Source text of lexemes ``first`` to ``last`` (exclusive)."""
        if first >= last:
            return ""
        return self.sql[self.lexemes[first].start : self.lexemes[last - 1].end]
