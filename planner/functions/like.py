"""LIKE, ILIKE and SIMILAR TO.

    %  any sequence      _  any one character      escape character (\\ by default) before either: itself

The common shapes become string methods (equal, prefix, suffix, infix); the rest becomes a
regular expression over the literal parts matched leftmost-first part by part, which is
linear in text times parts: no pattern can make it backtrack.
SIMILAR TO is translated to an advanced regular expression (``regex``).

PostgreSQL 15 manual: 9.7.1, 9.7.2.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from base.errors import error
from planner.functions.declare import define, define_operator
from planner.functions.registry import Registry

PATTERNS_MAX: Final = 1024
"""Compiled patterns kept."""
ANY_ONE: Final = None
"""Stands for ``_`` in a part."""

Matcher = Callable[[str], bool]
Part = tuple[Any, ...]
"""Characters (or ANY_ONE) that must follow each other."""


def parse_pattern(pattern: str, escape: str = "\\") -> list[Part]:
    """Splits a LIKE pattern at its ``%``s into parts; n wildcards give n + 1 parts."""
    parts: list[Part] = []
    part: list[Any] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == escape and escape:
            part.append(pattern[at])
            at += 1
        elif char == "%":
            parts.append(tuple(part))
            part = []
        elif char == "_":
            part.append(ANY_ONE)
        else:
            part.append(char)
    parts.append(tuple(part))
    return parts


class PartsMatcher:
    """Matches literal parts with ``_`` in them, leftmost part by part."""

    def __init__(self, parts: list[Part]) -> None:
        self.first = parts[0]
        self.last = parts[-1]
        self.middle = [part for part in parts[1:-1] if part]
        self.whole = len(parts) == 1

    def __call__(self, text: str) -> bool:
        if self.whole:
            return len(text) == len(self.first) and _matches_at(self.first, text, 0)
        end = len(text) - len(self.last)
        if end < len(self.first) or not _matches_at(self.first, text, 0) or not _matches_at(self.last, text, end):
            return False
        at = len(self.first)
        for part in self.middle:
            at = _find(part, text, at, end)
            if at < 0:
                return False
            at += len(part)
        return True


def _matches_at(part: Part, text: str, at: int) -> bool:
    for char in part:
        if char is not ANY_ONE and text[at] != char:
            return False
        at += 1
    return True


def _find(part: Part, text: str, start: int, end: int) -> int:
    if ANY_ONE not in part:
        return text.find("".join(part), start, end)
    for at in range(start, end - len(part) + 1):
        if _matches_at(part, text, at):
            return at
    return -1


def _literal_matcher(parts: list[Part]) -> Matcher | None:
    """String methods for patterns without ``_`` and with at most two ``%``."""
    if any(ANY_ONE in part for part in parts):
        return None
    texts = ["".join(part) for part in parts]
    if len(texts) == 1:
        return texts[0].__eq__
    if len(texts) == 2:
        prefix, suffix = texts
        if not suffix:
            return lambda text: text.startswith(prefix)
        if not prefix:
            return lambda text: text.endswith(suffix)
        least = len(prefix) + len(suffix)
        return lambda text: len(text) >= least and text.startswith(prefix) and text.endswith(suffix)
    if len(texts) == 3 and not texts[0] and not texts[2]:
        infix = texts[1]
        return lambda text: infix in text
    return None


@lru_cache(PATTERNS_MAX)
def like_matcher(pattern: str) -> Matcher:
    """Compiles a LIKE pattern."""
    if _ends_with_escape(pattern):
        return _unfinished(pattern)
    parts = parse_pattern(pattern)
    return _literal_matcher(parts) or PartsMatcher(parts)


def _ends_with_escape(pattern: str) -> bool:
    return (len(pattern) - len(pattern.rstrip("\\"))) % 2 == 1


def _unfinished(pattern: str) -> Matcher:
    """A lone escape at the end is an error only for texts that reach it."""
    reaches = like_matcher(pattern[:-1] + "_%")

    def match(text: str) -> bool:
        if reaches(text):
            raise error("22025", "LIKE pattern must not end with escape character")
        return False

    return match


@lru_cache(PATTERNS_MAX)
def ilike_matcher(pattern: str) -> Matcher:
    """Compiles an ILIKE pattern: both sides in lower case."""
    return like_matcher(pattern.lower())


def like(text: str, pattern: str) -> bool:
    return like_matcher(pattern)(text)


def not_like(text: str, pattern: str) -> bool:
    return not like_matcher(pattern)(text)


def ilike(text: str, pattern: str) -> bool:
    return ilike_matcher(pattern)(text.lower())


def not_ilike(text: str, pattern: str) -> bool:
    return not ilike_matcher(pattern)(text.lower())


def bytea_like(text: bytes, pattern: bytes) -> bool:
    """LIKE on bytes, by way of Latin-1."""
    return like(text.decode("latin-1"), pattern.decode("latin-1"))


def not_bytea_like(text: bytes, pattern: bytes) -> bool:
    return not bytea_like(text, pattern)


def like_escape(pattern: str, escape: str) -> str:
    """Rewrites a pattern with another escape character to one with a backslash."""
    if len(escape) > 1:
        raise error("22019", "invalid escape string", hint="Escape string must be empty or one character.")
    if not escape:
        return pattern.replace("\\", "\\\\")
    if escape == "\\":
        return pattern
    out: list[str] = []
    escaped = False
    for char in pattern:
        if char == escape and not escaped:
            out.append("\\")
            escaped = True
        elif char == "\\":
            # A backslash is an ordinary character now; after the escape it already has one.
            out.append("\\" if escaped else "\\\\")
            escaped = False
        else:
            out.append(char)
            escaped = False
    return "".join(out)


def bytea_like_escape(pattern: bytes, escape: bytes) -> bytes:
    return like_escape(pattern.decode("latin-1"), escape.decode("latin-1")).encode("latin-1")


def similar_to_regex(pattern: str, escape: str | None = "\\") -> str:
    """Translates a SIMILAR TO pattern to an ARE anchored at both ends (similar_to_escape)."""
    if escape is not None and len(escape) > 1:
        raise error("22019", "invalid escape string", hint="Escape string must be empty or one character.")
    body = _SimilarTranslation(pattern, escape or "").run()
    return "^(?:" + body + ")$"


class _SimilarTranslation:
    """One pass over a SIMILAR TO pattern."""

    def __init__(self, pattern: str, escape: str) -> None:
        self.pattern = pattern
        self.escape = escape
        self.out: list[str] = []
        self.separators = 0
        self.bracket = 0
        """0 outside brackets, else characters seen since ``[``."""

    def run(self) -> str:
        at, pattern = 0, self.pattern
        while at < len(pattern):
            char = pattern[at]
            at += 1
            if self.escape and char == self.escape:
                if at < len(pattern):
                    self._escaped(pattern[at])
                    at += 1
            elif self.bracket:
                self._in_bracket(char)
            else:
                self._plain(char)
        return "".join(self.out)

    def _escaped(self, char: str) -> None:
        if char == '"' and not self.bracket:
            # SQL's substring(text from pattern): the part between two escape-quotes is the result.
            if self.separators == 0:
                self.out.append("){1,1}?(")
            elif self.separators == 1:
                self.out.append("){1,1}(?:")
            else:
                raise error(
                    "2200C", "SQL regular expression may not contain more than two escape-double-quote separators"
                )
            self.separators += 1
            return
        self.out.append("\\" + char)

    def _in_bracket(self, char: str) -> None:
        if char == "\\":
            self.out.append("\\")
        self.out.append(char)
        self.bracket = 0 if char == "]" and self.bracket > 1 else self.bracket + 1
        if char == "^" and self.bracket == 2:
            self.bracket = 1

    def _plain(self, char: str) -> None:
        if char == "[":
            self.bracket = 1
            self.out.append("[")
        elif char == "%":
            self.out.append(".*")
        elif char == "_":
            self.out.append(".")
        elif char == "(":
            self.out.append("(?:")
        elif char in "\\.^$":
            self.out.append("\\" + char)
        else:
            self.out.append(char)


def register(registry: Registry) -> None:
    """Adds this family."""
    for left, name in (("text", "text"), ("name", "name"), ("bpchar", "bpchar")):
        define_operator(registry, "~~", f"{name}like({left}, text) bool", like)
        define_operator(registry, "!~~", f"{name}nlike({left}, text) bool", not_like)
        define_operator(registry, "~~*", f"{name}iclike({left}, text) bool", ilike)
        define_operator(registry, "!~~*", f"{name}icnlike({left}, text) bool", not_ilike)
    define_operator(registry, "~~", "bytealike(bytea, bytea) bool", bytea_like)
    define_operator(registry, "!~~", "byteanlike(bytea, bytea) bool", not_bytea_like)
    define(registry, "like(text, text) bool", like)
    define(registry, "notlike(text, text) bool", not_like)
    define(registry, "like(bytea, bytea) bool", bytea_like)
    define(registry, "notlike(bytea, bytea) bool", not_bytea_like)
    define(registry, "like_escape(text, text) text", like_escape)
    define(registry, "like_escape(bytea, bytea) bytea", bytea_like_escape)
    define(registry, "similar_to_escape(text) text", similar_to_regex)
    define(registry, "similar_to_escape(text, text) text", similar_to_regex)
    define(registry, "similar_escape(text, text) text", similar_to_regex, strict=False)
