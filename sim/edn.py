"""A reader of EDN, the notation Jepsen's histories are printed in.

EDN (github.com/edn-format/edn) becomes plain Python::

    nil true false       None True False
    12 -3N 1.5M "text"   int, int, float, str
    :append x/y          "append", "x/y": keywords and symbols are both strings
    [..] (..)            list
    #{..}                list, in the order written (sets are never iterated here)
    {..}                 dict
    #tag form            the form alone: #jepsen.history.Op{..} is its map
    #_ form  ; ..        skipped

The reader keeps its own stack, so that depth is limited by ``DEPTH_MAX`` and not by Python.
"""

from __future__ import annotations

import re
from typing import Any, Final

DEPTH_MAX: Final = 200
"""Nesting of one form; a history needs five."""

BLANK: Final = re.compile(r"(?:[\s,]+|;[^\n]*)*")
TOKEN: Final = re.compile(
    r"""(?: (?P<string>"(?:[^"\\]|\\.)*")
      | (?P<open>\#\{|\[|\(|\{)
      | (?P<close>\]|\)|\})
      | (?P<discard>\#_)
      | (?P<tag>\#[A-Za-z][^\s,\[\](){}";]*)
      | (?P<char>\\(?:newline|space|tab|return|u[0-9a-fA-F]{4}|.))
      | (?P<atom>[^\s,\[\](){}";]+)
    )""",
    re.VERBOSE | re.DOTALL,
)
NUMBER: Final = re.compile(r"[+-]?\d+N?\Z|[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?M?\Z")
CLOSERS: Final = {"[": "]", "(": ")", "{": "}", "#{": "}"}
WORDS: Final = {"nil": None, "true": True, "false": False}
ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
CHARACTERS: Final = {"newline": "\n", "space": " ", "tab": "\t", "return": "\r"}
ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)


class EdnError(ValueError):
    """The text is not EDN; says where."""


class _Frame:
    """One open bracket: what closes it, what it holds, how many of its next forms to drop."""

    def __init__(self, opener: str) -> None:
        self.opener = opener
        self.items: list[Any] = []
        self.discards = 0

    def add(self, value: Any) -> None:
        if self.discards:
            self.discards -= 1
        else:
            self.items.append(value)

    def close(self) -> Any:
        if self.opener != "{":
            return self.items
        if len(self.items) % 2:
            raise EdnError("a map holds a key without a value")
        return {_hashable(key): value for key, value in zip(self.items[::2], self.items[1::2])}


def read_forms(text: str) -> list[Any]:
    """Returns all top-level forms of ``text``."""
    stack = [_Frame("")]
    position = _skip_blank(text, 0)
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None:
            raise EdnError(f"unreadable text at {position}: {text[position : position + 40]!r}")
        _take(stack, str(match.lastgroup), match.group(str(match.lastgroup)))
        position = _skip_blank(text, match.end())
    if len(stack) != 1:
        raise EdnError(f"the text ends inside {stack[-1].opener!r}")
    return stack[0].items


def _skip_blank(text: str, position: int) -> int:
    """Returns the start of the next token, past blanks, commas and comments."""
    match = BLANK.match(text, position)
    assert match is not None, f"a blank may be empty at {position=}"
    return match.end()


def _take(stack: list[_Frame], kind: str, token: str) -> None:
    """Adds one token to the innermost open form."""
    if kind == "open":
        if len(stack) > DEPTH_MAX:
            raise EdnError(f"nested deeper than {DEPTH_MAX}")
        stack.append(_Frame(token))
    elif kind == "close":
        if CLOSERS.get(stack[-1].opener) != token:
            raise EdnError(f"{token!r} closes {stack[-1].opener!r}")
        closed = stack.pop().close()
        stack[-1].add(closed)
    elif kind == "discard":
        stack[-1].discards += 1
    elif kind != "tag":
        stack[-1].add(_atom(kind, token))


def _atom(kind: str, token: str) -> Any:
    if kind == "string":
        return ESCAPE.sub(_unescape, token[1:-1])
    if kind == "char":
        name = token[1:]
        return chr(int(name[1:], 16)) if len(name) == 5 and name[0] == "u" else CHARACTERS.get(name, name)
    if token in WORDS:
        return WORDS[token]
    if NUMBER.match(token):
        digits = token.rstrip("NM")
        return int(digits) if digits.lstrip("+-").isdigit() and not token.endswith("M") else float(digits)
    return token.removeprefix(":")


def _unescape(match: re.Match[str]) -> str:
    name = match.group(1)
    return chr(int(name[1:], 16)) if len(name) == 5 else ESCAPES.get(name, name)


def _hashable(value: Any) -> Any:
    return tuple(_hashable(item) for item in value) if isinstance(value, list) else value
