"""PostgreSQL's lexical structure (manual chapter 4.1; scan.l) as one compiled pattern.

``scan(sql)`` gives the lexemes of a string with their offsets.  What is decided here, for good:

- unquoted identifiers are folded to lower case (ASCII letters only) and all are cut at 63 bytes;
- ``'a' <newline> 'b'`` is one string, ``'a' 'b'`` on one line is two (the parser then refuses them);
- E'', U&'', N'', B'', X'' and dollar-quoted strings are decoded;
- comments nest; operators are the longest run of operator characters, cut by PostgreSQL's rules;
- ``1_000``, ``0x1F``, ``1a`` are "trailing junk after numeric literal", as in PostgreSQL 15.

Offsets count characters of ``sql``, from 0; ``end`` is exclusive.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

import re
from typing import Final

from base.errors import SqlError, error

WORD: Final = 0
"""Unquoted identifier or keyword, folded."""
IDENT: Final = 1
"""Quoted identifier."""
STRING: Final = 2
BITS: Final = 3
"""B'..' or X'..': text is b or x and the digits, as in bit input."""
NUMBER: Final = 4
PARAM: Final = 5
"""$n; text is the digits."""
OP: Final = 6
PUNCT: Final = 7
"""( ) [ ] , ; : . :: := .. =>"""
END: Final = 8

IDENTIFIER_BYTES_MAX: Final = 63
"""NAMEDATALEN - 1."""


class Lexeme:
    """One token: ``text`` is its meaning (folded, decoded), ``sql[start:end]`` its spelling."""

    __slots__ = ("end", "kind", "start", "text")

    def __init__(self, kind: int, text: str, start: int, end: int) -> None:
        self.kind = kind
        self.text = text
        self.start = start
        self.end = end

    def __repr__(self) -> str:
        return f"{self.text!r}@{self.start}"


# Letters, "_" and everything beyond ASCII are spelt as what they are not: sets that reach
# U+10FFFF take a tenth of a second to compile, at every start.
_MASTER: Final = re.compile(
    r"""
      (?P<space>[ \t\n\r\f\v]+|--[^\n\r]*)
    | (?P<word>[^\x00-@\[-\^`{-\x7f][^\x00-\x23\x25-/:-@\[-\^`{-\x7f]*)
    | (?P<number>(?:[0-9]+(?:\.(?!\.)[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    | (?P<punct>::|:=|\.\.|[(),;\[\].:])
    | (?P<string>'[^']*(?:''[^']*)*')
    | (?P<param>\$[0-9]+)
    | (?P<ident>"[^"]*(?:""[^"]*)*")
    | (?P<comment>/\*)
    | (?P<op>[~!@\#^&|`?+\-*/%<>=]+)
    | (?P<dollar>\$(?:[^\x00-@\[-\^`{-\x7f][^\x00-/:-@\[-\^`{-\x7f]*)?\$)
    """,
    re.VERBOSE,
)
_SPACE, _WORD, _NUMBER, _PUNCT, _STRING, _PARAM, _IDENT, _COMMENT, _OP, _DOLLAR = range(1, 11)
_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")
_CONTINUATION: Final = re.compile(r"(?:[ \t\f\v]|--[^\n\r]*(?=[\n\r]))*[\n\r](?:[ \t\n\r\f\v]|--[^\n\r]*(?=[\n\r]))*'")
_STRING_BODY: Final = re.compile(r"[^']*(?:''[^']*)*'")
_ESCAPED_BODY: Final = re.compile(r"[^'\\]*(?:(?:''|\\.)[^'\\]*)*'", re.DOTALL)
_ESCAPE: Final = re.compile(
    r"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL
)
_JUNK: Final = re.compile(r"[^\x00-@\[-\^`{-\x7f]")
_UESCAPE: Final = re.compile(r"[ \t\n\r\f\v]+[uU][eE][sS][cC][aA][pP][eE][ \t\n\r\f\v]*'([^'])'")
_SIMPLE_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_ASCII_LOWER: Final = {i: i + 32 for i in range(65, 91)}
_OP_SPECIAL: Final = frozenset("~!@#%^&|`?")


def fold(text: str) -> str:
    """Folds an unquoted identifier as PostgreSQL does: ASCII only."""
    return text.lower() if text.isascii() else text.translate(_ASCII_LOWER)


def truncate(text: str) -> str:
    """Cuts an identifier at 63 bytes, never inside a character."""
    if len(text) <= IDENTIFIER_BYTES_MAX // 4:
        return text
    encoded = text.encode()
    if len(encoded) <= IDENTIFIER_BYTES_MAX:
        return text
    return encoded[:IDENTIFIER_BYTES_MAX].decode(errors="ignore")


def syntax_error(sql: str, lexeme: Lexeme | None) -> SqlError:
    """``syntax error at or near "x"``, or ``at end of input``."""
    if lexeme is None or lexeme.kind == END:
        return _error("syntax error at end of input", len(sql))
    return _error(f'syntax error at or near "{sql[lexeme.start : lexeme.end]}"', lexeme.start)


def _error(message: str, start: int) -> SqlError:
    found = error("42601", message, position=start + 1)
    assert isinstance(found, SqlError)
    return found


def scan(sql: str) -> list[Lexeme]:
    """Returns the lexemes of ``sql``; raises 42601 with a position for what cannot be read."""
    lexemes: list[Lexeme] = []
    append = lexemes.append
    match = _MASTER.match
    position, size = 0, len(sql)
    while position < size:
        found = match(sql, position)
        if found is None:
            raise _bad_character(sql, position)
        group = found.lastindex
        end = found.end()
        if group == _SPACE:
            pass
        elif group == _WORD:
            if end < size and sql[end] in "'&":
                special = _prefixed(sql, position, end)
                if special is not None:
                    append(special)
                    position = special.end
                    continue
            append(Lexeme(WORD, truncate(fold(found.group())), position, end))
        elif group == _PUNCT:
            append(Lexeme(PUNCT, found.group(), position, end))
        elif group == _NUMBER:
            end = _number(sql, position, end)
            append(Lexeme(NUMBER, sql[position:end], position, end))
        elif group == _STRING:
            lexeme = _string(sql, position, position + 1, _STRING_BODY, False)
            append(lexeme)
            end = lexeme.end
        elif group == _PARAM:
            if end < size and _JUNK.match(sql, end):
                raise _error(f'trailing junk after parameter at or near "{sql[position : end + 1]}"', position)
            append(Lexeme(PARAM, sql[position + 1 : end], position, end))
        elif group == _OP:
            end = _operator(sql, position, end)
            append(Lexeme(OP, sql[position:end], position, end))
        elif group == _IDENT:
            append(_quoted(sql, position, position, end))
        elif group == _COMMENT:
            end = _comment(sql, position)
        else:
            append(_dollar(sql, position, end))
            end = lexemes[-1].end
        position = end
    return lexemes


def _bad_character(sql: str, position: int) -> SqlError:
    char = sql[position]
    if char == "'":
        return _error(f'unterminated quoted string at or near "{sql[position:]}"', position)
    if char == '"':
        return _error(f'unterminated quoted identifier at or near "{sql[position:]}"', position)
    return _error(f'syntax error at or near "{char}"', position)


def _number(sql: str, start: int, end: int) -> int:
    if end < len(sql) and _JUNK.match(sql, end):
        raise _error(f'trailing junk after numeric literal at or near "{sql[start : end + 1]}"', start)
    return end


def _operator(sql: str, start: int, end: int) -> int:
    """Where the operator that begins at ``start`` ends: comments cut it, and a trailing + or - needs a special character."""
    text = sql[start:end]
    for mark in ("/*", "--"):
        at = text.find(mark, 1)
        if text.startswith(mark):
            at = 0
        if at > 0:
            text = text[:at]
    if len(text) > 1 and text[-1] in "+-" and not _OP_SPECIAL.intersection(text):
        while len(text) > 1 and text[-1] in "+-":
            text = text[:-1]
    return start + len(text)


def _comment(sql: str, start: int) -> int:
    depth, position = 0, start
    while True:
        found = _COMMENT_EDGE.search(sql, position)
        if found is None:
            raise _error(f'unterminated /* comment at or near "{sql[start:]}"', start)
        depth += 1 if found.group() == "/*" else -1
        position = found.end()
        if depth == 0:
            return position


def _prefixed(sql: str, start: int, end: int) -> Lexeme | None:
    """A string or identifier with a prefix (e' b' x' n' u&' u&"), or None if the word is just a word."""
    word = sql[start:end].lower()
    if sql[end] == "'":
        if word == "e":
            return _string(sql, start, end + 1, _ESCAPED_BODY, True)
        if word == "n":
            return _string(sql, start, end + 1, _STRING_BODY, False)
        if word in ("b", "x"):
            lexeme = _string(sql, start, end + 1, _STRING_BODY, False)
            return Lexeme(BITS, word + lexeme.text, start, lexeme.end)
    elif word == "u" and sql[end + 1 : end + 2] == "'":
        lexeme = _string(sql, start, end + 2, _STRING_BODY, False)
        return _unicode(sql, lexeme, STRING)
    elif word == "u" and sql[end + 1 : end + 2] == '"':
        found = re.compile(r'"[^"]*(?:""[^"]*)*"').match(sql, end + 1)
        if found is None:
            raise _error(f'unterminated quoted identifier at or near "{sql[start:]}"', start)
        return _unicode(sql, _quoted(sql, start, end + 1, found.end()), IDENT)
    return None


def _string(sql: str, start: int, body: int, pattern: re.Pattern[str], escaped: bool) -> Lexeme:
    """Reads a string whose body begins at ``body``, with its continuations on later lines."""
    parts: list[str] = []
    while True:
        found = pattern.match(sql, body)
        if found is None:
            raise _error(f'unterminated quoted string at or near "{sql[start:]}"', start)
        text = found.group()[:-1]
        parts.append(text)
        following = _CONTINUATION.match(sql, found.end())
        if following is None:
            break
        body = following.end()
    text = "".join(parts)
    text = _unescape(text, start) if escaped else text.replace("''", "'")
    return Lexeme(STRING, text, start, found.end())


def _unescape(text: str, start: int) -> str:
    """Decodes the body of E'': octal and hexadecimal escapes are bytes of UTF-8."""
    out = bytearray()
    position, size = 0, len(text)
    while position < size:
        char = text[position]
        if char == "'":
            out += b"'"
            position += 2
        elif char != "\\":
            following = min(x for x in (text.find("'", position), text.find("\\", position), size) if x >= 0)
            out += text[position:following].encode(errors="surrogatepass")
            position = following
        else:
            position = _escape(text, position, out, start)
    try:
        decoded = out.decode(errors="surrogatepass")
        return decoded.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError as bad:
        if bad.encoding.startswith("utf-16") or bad.encoding.startswith("utf_16"):
            raise _error("invalid Unicode surrogate pair", start) from None
        byte = out[bad.start]
        raise error("22021", f'invalid byte sequence for encoding "UTF8": 0x{byte:02x}', position=start + 1) from None


def _escape(text: str, position: int, out: bytearray, start: int) -> int:
    found = _ESCAPE.match(text, position)
    assert found is not None, f"{text=} {position=}"
    octal, hexadecimal, short, long, other = found.groups()
    if octal is not None:
        out.append(int(octal, 8) & 0xFF)
    elif hexadecimal is not None:
        out.append(int(hexadecimal, 16))
    elif short is not None or long is not None:
        code = int(short or long, 16)
        if code == 0 or code > 0x10FFFF:
            raise _error("invalid Unicode escape value", start)
        out += chr(code).encode(errors="surrogatepass")
    elif other in "uU":
        raise _error("invalid Unicode escape", start)
    else:
        out += _SIMPLE_ESCAPES.get(other, other).encode()
    if out and out[-1] == 0:
        raise error("22021", 'invalid byte sequence for encoding "UTF8": 0x00', position=start + 1)
    return found.end()


def _quoted(sql: str, start: int, quote: int, end: int) -> Lexeme:
    text = sql[quote + 1 : end - 1].replace('""', '"')
    if not text:
        raise _error(f'zero-length delimited identifier at or near "{sql[start:end]}"', start)
    return Lexeme(IDENT, truncate(text), start, end)


def _unicode(sql: str, lexeme: Lexeme, kind: int) -> Lexeme:
    """Decodes U&'' and U&"", with the UESCAPE clause that may follow."""
    escape, end = "\\", lexeme.end
    clause = _UESCAPE.match(sql, lexeme.end)
    if clause is not None:
        escape, end = clause.group(1), clause.end()
        if escape in "+\"'" or escape.isspace() or escape in "0123456789abcdefABCDEF":
            raise _error(f"invalid Unicode escape character at or near \"'{escape}'\"", clause.start(1) - 1)
    quoted = re.escape(escape)
    pattern = re.compile(rf"{quoted}(?:({quoted})|\+([0-9A-Fa-f]{{6}})|([0-9A-Fa-f]{{4}})|())")

    def decode(found: re.Match[str]) -> str:
        if found.group(1):
            return escape
        digits = found.group(2) or found.group(3)
        if not digits:
            raise _error("invalid Unicode escape", lexeme.start)
        code = int(digits, 16)
        if code == 0 or code > 0x10FFFF:
            raise _error("invalid Unicode escape value", lexeme.start)
        return chr(code)

    text = pattern.sub(decode, lexeme.text)
    try:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise _error("invalid Unicode surrogate pair", lexeme.start) from None
    return Lexeme(kind, truncate(text) if kind == IDENT else text, lexeme.start, end)


def _dollar(sql: str, start: int, end: int) -> Lexeme:
    tag = sql[start:end]
    close = sql.find(tag, end)
    if close < 0:
        raise _error(f'unterminated dollar-quoted string at or near "{sql[start:]}"', start)
    return Lexeme(STRING, sql[end:close], start, close + len(tag))
