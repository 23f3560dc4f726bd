"""A JSON scanner with PostgreSQL's errors: every document that msgspec refuses comes here.

Errors are 22P02 ``invalid input syntax for type json`` with PostgreSQL's DETAIL.  With ``for_jsonb``
strings are decoded (an escape that is no character is an error, \\u0000 is 22P05) and numbers
must fit numeric.
"""

from __future__ import annotations

import re
from typing import Any, Final

from base.errors import MeridianError, error
from base.typeio.numeric import parse_numeric

DEPTH_MAX: Final = 300
"""Nesting of arrays and objects; every level is two frames here and in whoever walks the value."""
_BLANKS: Final = " \t\n\r"
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_NUMBER_BEGIN: Final = re.compile(r"-?(?:0|[1-9][0-9]*)?(?:(?<=[0-9])\.[0-9]*)?(?:(?<=[0-9])[eE][+-]?[0-9]*)?")
"""As much as a number goes on, complete or not."""
_WORD: Final = re.compile(r"[0-9A-Za-z_\x80-\U0010ffff]*")
_PLAIN: Final = re.compile(r'[^"\\\x00-\x1f]*')
_HEX4: Final = re.compile(r"[0-9a-fA-F]{4}")
_ESCAPES: Final = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_WORDS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}


def depth_exceeded() -> MeridianError:
    hint = f"JSON documents may be nested at most {DEPTH_MAX} levels deep."
    return error("54001", "stack depth limit exceeded", hint=hint)


def _invalid(detail: str) -> MeridianError:
    return error("22P02", "invalid input syntax for type json", detail=detail)


class JsonScanner:
    """Recursive descent over one text."""

    __slots__ = ("at", "for_jsonb", "text")

    def __init__(self, text: str, for_jsonb: bool) -> None:
        self.text = text
        self.for_jsonb = for_jsonb
        self.at = 0

    def check(self) -> Any:
        """As ``document``; a stack that is nearly full already counts as too deep."""
        try:
            return self.document()
        except RecursionError:
            raise depth_exceeded() from None

    def document(self) -> Any:
        """Returns the value of the whole text; strings are empty without ``for_jsonb``."""
        value = self._value(0)
        self._skip()
        if self.at < len(self.text):
            raise _invalid(f'Expected end of input, but found "{self._token()}".')
        return value

    def _skip(self) -> None:
        text = self.text
        at = self.at
        while at < len(text) and text[at] in _BLANKS:
            at += 1
        self.at = at

    def _peek(self) -> str:
        self._skip()
        return self.text[self.at] if self.at < len(self.text) else ""

    def _token(self) -> str:
        """The text of the token at the position, for messages; raises if it is no token at all."""
        c = self._peek()
        if c in "[]{}:," or not c:
            return c
        start = self.at
        if c == '"':
            self._string()
        else:
            self._scalar()
        return self.text[start : self.at]

    def _expected(self, what: str) -> MeridianError:
        token = self._token()
        if not token:
            return _invalid("The input string ended unexpectedly.")
        return _invalid(f'Expected {what}, but found "{token}".')

    def _value(self, depth: int) -> Any:
        c = self._peek()
        if c == "{":
            return self._object(depth + 1)
        if c == "[":
            return self._array(depth + 1)
        if c == '"':
            return self._string()
        if not c or c in "]}:,":
            raise self._expected("JSON value")
        return self._scalar()

    def _object(self, depth: int) -> dict[str, Any]:
        if depth > DEPTH_MAX:
            raise depth_exceeded()
        self.at += 1
        found: dict[str, Any] = {}
        if self._peek() == "}":
            self.at += 1
            return found
        what = 'string or "}"'
        while True:
            if self._peek() != '"':
                raise self._expected(what)
            key = self._string()
            if self._peek() != ":":
                raise self._expected('":"')
            self.at += 1
            found[key] = self._value(depth)
            c = self._peek()
            if c == "}":
                self.at += 1
                return found
            if c != ",":
                raise self._expected('"," or "}"')
            self.at += 1
            what = "string"

    def _array(self, depth: int) -> list[Any]:
        if depth > DEPTH_MAX:
            raise depth_exceeded()
        self.at += 1
        found: list[Any] = []
        if self._peek() == "]":
            self.at += 1
            return found
        while True:
            found.append(self._value(depth))
            c = self._peek()
            if c == "]":
                self.at += 1
                return found
            if c != ",":
                raise self._expected('"," or "]"')
            self.at += 1

    def _scalar(self) -> Any:
        """A number, true, false or null; anything else is an invalid token up to its end."""
        start = self.at
        text = self.text
        c = text[start]
        if c == "-" or "0" <= c <= "9":
            return self._number()
        match = _WORD.match(text, start)
        assert match is not None, start
        word = match.group()
        if word not in _WORDS:
            raise _invalid(f'Token "{word or c}" is invalid.')
        self.at = match.end()
        return _WORDS[word]

    def _number(self) -> Any:
        """An invalid number goes as far as it could be one, and on to the end of the word."""
        start = self.at
        match = _NUMBER_BEGIN.match(self.text, start)
        assert match is not None, start
        end = match.end()
        rest = _WORD.match(self.text, end)
        assert rest is not None, end
        written = match.group()
        if rest.group() or _NUMBER.fullmatch(written) is None:
            raise _invalid(f'Token "{written}{rest.group()}" is invalid.')
        self.at = end
        return parse_numeric(written) if self.for_jsonb else 0

    # --- strings -------------------------------------------------------------------------

    def _string(self) -> str:
        text = self.text
        at = self.at + 1
        parts: list[str] = []
        while True:
            match = _PLAIN.match(text, at)
            assert match is not None, at
            parts.append(match.group())
            at = match.end()
            if at >= len(text):
                raise _invalid(f'Token "{text[self.at :]}" is invalid.')
            c = text[at]
            if c == '"':
                self.at = at + 1
                return "".join(parts)
            if c != "\\":
                raise _invalid(f"Character with value 0x{ord(c):02x} must be escaped.")
            at = self._escape(at + 1, parts)

    def _escape(self, at: int, parts: list[str]) -> int:
        """Reads what follows a backslash; returns the position after it."""
        text = self.text
        if at >= len(text):
            raise _invalid(f'Token "{text[self.at :]}" is invalid.')
        c = text[at]
        if c != "u":
            if c not in _ESCAPES:
                raise _invalid(f'Escape sequence "\\{c}" is invalid.')
            parts.append(_ESCAPES[c])
            return at + 1
        code = self._code(at + 1)
        at += 5
        if not self.for_jsonb:
            return at
        if code == 0:
            raise error("22P05", "unsupported Unicode escape sequence", detail="\\u0000 cannot be converted to text.")
        if 0xDC00 <= code <= 0xDFFF:
            raise _invalid("Unicode low surrogate must follow a high surrogate.")
        if 0xD800 <= code <= 0xDBFF:
            if text[at : at + 2] != "\\u":
                raise _invalid("Unicode low surrogate must follow a high surrogate.")
            low = self._code(at + 2)
            if 0xD800 <= low <= 0xDBFF:
                raise _invalid("Unicode high surrogate must not follow a high surrogate.")
            if not 0xDC00 <= low <= 0xDFFF:
                raise _invalid("Unicode low surrogate must follow a high surrogate.")
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
            at += 6
        parts.append(chr(code))
        return at

    def _code(self, at: int) -> int:
        match = _HEX4.match(self.text, at)
        if match is None:
            raise _invalid('"\\u" must be followed by four hexadecimal digits.')
        return int(match.group(), 16)
