"""PostgreSQL's advanced regular expressions (AREs), translated and matched by engines that cannot hang.

    ARE text --parse--> pieces --+--> re     literals, classes, anchors, at most one quantifier
                                 +--> RE2    everything regular (linear time; leftmost-longest as POSIX wants)
                                 +--> regex  back references, look-around, word constraints (with a time limit)

An ARE without non-greedy quantifiers matches leftmost-longest; with them the engines' leftmost-first
rule is used.  Classes are Unicode-aware.  PostgreSQL 15 manual: 9.7.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import re2
import regex

from base.errors import MeridianError, error

PATTERNS_MAX: Final = 512
"""Compiled patterns kept."""
REPEAT_MAX: Final = 255
"""Largest bound in {m,n} (POSIX DUPMAX)."""
MATCH_SECONDS_MAX: Final = 2.0
"""Time limit of one match by the backtracking engine."""
PATTERN_LENGTH_MAX: Final = 100_000
RE2_MEMORY_MAX: Final = 64 << 20
NESTING_MAX: Final = 100

END: Final = "\0end"
"""Piece that stands for the end of the text; each engine spells it its own way."""
_CLASSES: Final = {
    "alpha": r"\p{L}", "alnum": r"\p{L}\p{N}", "digit": "0-9", "upper": r"\p{Lu}", "lower": r"\p{Ll}", "space": r"\s\p{Z}", "blank": r" \t",
    "punct": r"\p{P}\p{S}", "cntrl": r"\x00-\x1f\x7f", "print": r"\p{L}\p{N}\p{P}\p{S}\p{M}\p{Zs}", "graph": r"\p{L}\p{N}\p{P}\p{S}\p{M}",
    "xdigit": "0-9A-Fa-f", "word": r"\p{L}\p{N}_",
}  # fmt: skip
_SHORTHANDS: Final = {"d": "0-9", "s": r"\s\p{Z}", "w": r"\p{L}\p{N}_"}
_CONTROLS: Final = {"a": 7, "b": 8, "e": 27, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "0": 0}
_NAMED: Final = {
    "NUL": 0, "tab": 9, "newline": 10, "space": 32, "hyphen": 45, "period": 46, "slash": 47, "backslash": 92, "underscore": 95,
    "left-square-bracket": 91, "right-square-bracket": 93, "circumflex": 94, "tilde": 126,
}  # fmt: skip


def invalid(reason: str) -> MeridianError:
    return error("2201B", f"invalid regular expression: {reason}")


class Flags:
    """Letters of the flags argument, and of ``(?..)`` at the start of a pattern."""

    __slots__ = ("expanded", "ignore_case", "literal", "newline_anchors", "newline_stops")

    def __init__(self) -> None:
        self.ignore_case = False
        self.newline_stops = False
        """``.`` and negated brackets do not match a newline."""
        self.newline_anchors = False
        """``^`` and ``$`` match at lines."""
        self.expanded = False
        self.literal = False

    def apply(self, letters: str) -> None:
        for letter in letters:
            if letter == "i":
                self.ignore_case = True
            elif letter == "c":
                self.ignore_case = False
            elif letter in "nmpws":
                self.newline_stops = letter in "nmp"
                self.newline_anchors = letter in "nmw"
            elif letter == "x":
                self.expanded = True
            elif letter == "t":
                self.expanded = False
            elif letter == "q":
                self.literal = True
            elif letter not in "abe":
                raise error("22023", f'invalid regular expression option: "{letter}"')


class Translator:
    """One pass over an ARE; fills ``pieces`` and what the choice of engine needs."""

    def __init__(self, pattern: str, flags: Flags) -> None:
        self.text = pattern
        self.at = 0
        self.flags = flags
        self.pieces: list[str] = []
        self.groups = 0
        self.depth = 0
        self.closed: list[bool] = []
        self.quantifiers = 0
        self.non_greedy = False
        self.branches = False
        self.unicode = False
        self.backtracks = False

    def run(self) -> None:
        self._director()
        if self.flags.literal:
            self.pieces.append(re.escape(self.text[self.at :]))
            return
        self._alternatives()
        if self.at < len(self.text):
            raise invalid("parentheses () not balanced")

    def _director(self) -> None:
        if self.text.startswith("***="):
            self.at = 4
            self.flags.literal = True
            return
        if self.text.startswith("***:"):
            self.at = 4
        match = re.compile(r"\(\?([a-z]+)\)").match(self.text, self.at)
        if match:
            try:
                self.flags.apply(match.group(1))
            except MeridianError:
                raise invalid("invalid embedded option") from None
            self.at = match.end()

    def _alternatives(self) -> None:
        self.depth += 1
        if self.depth > NESTING_MAX:
            raise invalid("regular expression is too complex")
        self._branch()
        while self.at < len(self.text) and self.text[self.at] == "|":
            self.at += 1
            self.branches = True
            self.pieces.append("|")
            self._branch()
        self.depth -= 1

    def _branch(self) -> None:
        while self.at < len(self.text):
            self._skip_ignored()
            if self.at >= len(self.text) or self.text[self.at] in "|)":
                if self.at < len(self.text) and self.text[self.at] == ")" and self.depth == 1:
                    raise invalid("parentheses () not balanced")
                return
            if self._atom():
                self._quantifier()

    def _skip_ignored(self) -> None:
        """Comments, and white space in expanded syntax."""
        while self.at < len(self.text):
            if self.text.startswith("(?#", self.at):
                end = self.text.find(")", self.at)
                if end < 0:
                    raise invalid("parentheses () not balanced")
                self.at = end + 1
            elif self.flags.expanded and self.text[self.at].isspace():
                self.at += 1
            elif self.flags.expanded and self.text[self.at] == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end + 1
            else:
                return

    def _atom(self) -> bool:
        """Translates one atom or constraint; False if a quantifier may not follow."""
        char = self.text[self.at]
        self.at += 1
        if char == "(":
            return self._group()
        if char == "[":
            return self._bracket()
        if char == "\\":
            return self._escape()
        if char == "^":
            self.pieces.append("(?m:^)" if self.flags.newline_anchors else r"\A")
            return self._no_quantifier()
        if char == "$":
            self.pieces.append("(?m:$)" if self.flags.newline_anchors else END)
            return self._no_quantifier()
        if char == ".":
            self.pieces.append(r"[^\n]" if self.flags.newline_stops else "(?s:.)")
        elif char in "*+?" or (char == "{" and self._bound_follows()):
            raise invalid("quantifier operand invalid")
        else:
            self.pieces.append(_literal(ord(char)))
        return True

    def _no_quantifier(self) -> bool:
        if self.at < len(self.text) and self.text[self.at] in "*+?":
            raise invalid("quantifier operand invalid")
        return False

    def _bound_follows(self) -> bool:
        return self.at < len(self.text) and self.text[self.at].isdigit()

    def _group(self) -> bool:
        look = re.compile(r"\?(?:<?[=!])").match(self.text, self.at)
        if look:
            self.pieces.append("(" + look.group())
            self.at = look.end()
            self.backtracks = True
        elif self.text.startswith("?:", self.at):
            self.pieces.append("(?:")
            self.at += 2
        elif self.text.startswith("?", self.at):
            raise invalid("quantifier operand invalid")
        else:
            self.groups += 1
            self.pieces.append("(")
        self.branches = True
        self._alternatives()
        if self.at >= len(self.text):
            raise invalid("parentheses () not balanced")
        self.at += 1
        self.pieces.append(")")
        return look is None

    # --- escapes ---------------------------------------------------------------

    def _escape(self) -> bool:
        if self.at >= len(self.text):
            raise invalid("invalid escape \\ sequence")
        char = self.text[self.at]
        self.at += 1
        if char in "dswDSW":
            self._class_escape(char)
            return True
        if char in "AZmMyY":
            self._constraint(char)
            return self._no_quantifier()
        if char in "123456789":
            return self._back_reference()
        self.pieces.append(_literal(self._character(char)))
        return True

    def _class_escape(self, char: str) -> None:
        self.unicode = self.unicode or char not in "dD"
        negated = char.isupper()
        stop = r"\n" if negated and self.flags.newline_stops else ""
        self.pieces.append(f"[{'^' if negated else ''}{_SHORTHANDS[char.lower()]}{stop}]")

    def _constraint(self, char: str) -> None:
        if char == "A":
            self.pieces.append(r"\A")
        elif char == "Z":
            self.pieces.append(END)
        else:
            self.backtracks = True
            self.pieces.append({"m": r"\m", "M": r"\M", "y": r"\b", "Y": r"\B"}[char])

    def _back_reference(self) -> bool:
        start = self.at - 1
        while self.at < len(self.text) and self.text[self.at].isdigit():
            self.at += 1
        number = int(self.text[start : self.at])
        if number > self.groups:
            raise invalid("invalid backreference number")
        self.backtracks = True
        self.pieces.append(f"(?:\\{number})")
        return True

    def _character(self, char: str) -> int:
        """The code point of a character escape whose letter was just read."""
        if char in _CONTROLS:
            if char == "0":
                return self._octal()
            return _CONTROLS[char]
        if char == "B":
            return ord("\\")
        if char == "c":
            if self.at >= len(self.text):
                raise invalid("invalid escape \\ sequence")
            self.at += 1
            return ord(self.text[self.at - 1]) & 31
        if char in "uUx":
            return self._hexadecimal(char)
        if char.isalnum():
            raise invalid("invalid escape \\ sequence")
        return ord(char)

    def _octal(self) -> int:
        start = self.at
        while self.at < len(self.text) and self.at - start < 2 and self.text[self.at] in "01234567":
            self.at += 1
        return int(self.text[start : self.at] or "0", 8)

    def _hexadecimal(self, char: str) -> int:
        width = {"u": 4, "U": 8, "x": 255}[char]
        start = self.at
        while self.at < len(self.text) and self.at - start < width and self.text[self.at] in "0123456789abcdefABCDEF":
            self.at += 1
        digits = self.text[start : self.at]
        if not digits or (char != "x" and len(digits) != width):
            raise invalid("invalid escape \\ sequence")
        code = int(digits, 16)
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise invalid("invalid escape \\ sequence")
        return code

    # --- brackets --------------------------------------------------------------

    def _bracket(self) -> bool:
        for word, piece in (("[:<:]]", r"\m"), ("[:>:]]", r"\M")):
            if self.text.startswith(word, self.at):
                self.at += len(word)
                self.backtracks = True
                self.pieces.append(piece)
                return self._no_quantifier()
        negated = self.text.startswith("^", self.at)
        if negated:
            self.at += 1
        members: list[str] = []
        first = True
        while True:
            if self.at >= len(self.text):
                raise invalid("brackets [] not balanced")
            if self.text[self.at] == "]" and not first:
                self.at += 1
                break
            first = False
            self._bracket_member(members)
        if negated and self.flags.newline_stops:
            members.append(r"\n")
        self.pieces.append(f"[{'^' if negated else ''}{''.join(members)}]")
        return True

    def _bracket_member(self, members: list[str]) -> None:
        """A character, a range or a class."""
        if self.text.startswith("[:", self.at):
            self._named_class(members)
            return
        low = self._bracket_character(members)
        if low is None:
            return
        if (
            self.text.startswith("-", self.at)
            and not self.text.startswith("-]", self.at)
            and self.at + 1 < len(self.text)
        ):
            self.at += 1
            high = self._bracket_character(members)
            if high is None or high < low:
                raise invalid("invalid character range")
            members.append(f"{_literal(low)}-{_literal(high)}")
            return
        members.append(_literal(low))

    def _named_class(self, members: list[str]) -> None:
        end = self.text.find(":]", self.at)
        name = self.text[self.at + 2 : end] if end >= 0 else ""
        if name not in _CLASSES:
            raise invalid("invalid character class")
        self.unicode = self.unicode or "p{" in _CLASSES[name]
        members.append(_CLASSES[name])
        self.at = end + 2

    def _bracket_character(self, members: list[str]) -> int | None:
        """The code point of the next member; None if it was a class and is already in ``members``."""
        for opening, closing in (("[.", ".]"), ("[=", "=]")):
            if self.text.startswith(opening, self.at):
                end = self.text.find(closing, self.at + 2)
                name = self.text[self.at + 2 : end] if end >= 0 else ""
                self.at = end + 2
                if len(name) == 1:
                    return ord(name)
                if name not in _NAMED:
                    raise invalid("invalid collating element")
                return _NAMED[name]
        char = self.text[self.at]
        self.at += 1
        if char != "\\":
            return ord(char)
        if self.at >= len(self.text):
            raise invalid("invalid escape \\ sequence")
        char = self.text[self.at]
        self.at += 1
        if char in "dsw":
            self.unicode = self.unicode or char != "d"
            members.append(_SHORTHANDS[char])
            return None
        return self._character(char)

    # --- quantifiers -----------------------------------------------------------

    def _quantifier(self) -> None:
        self._skip_ignored()
        if self.at >= len(self.text):
            return
        char = self.text[self.at]
        if char in "*+?":
            self.at += 1
            piece = char
        elif char == "{" and self.at + 1 < len(self.text) and self.text[self.at + 1].isdigit():
            piece = self._bound()
        else:
            return
        if self.at < len(self.text) and self.text[self.at] == "?":
            self.at += 1
            piece += "?"
            self.non_greedy = True
        self.quantifiers += 1
        self.pieces.append(piece)
        if self.at < len(self.text) and self.text[self.at] in "*+?":
            raise invalid("quantifier operand invalid")

    def _bound(self) -> str:
        match = re.compile(r"\{(\d+)(,(\d*))?\}").match(self.text, self.at)
        if not match:
            raise invalid("invalid repetition count(s)")
        low, comma, high = match.groups()
        if int(low) > REPEAT_MAX or (high and (int(high) > REPEAT_MAX or int(high) < int(low))):
            raise invalid("invalid repetition count(s)")
        self.at = match.end()
        return f"{{{int(low)}{',' if comma else ''}{int(high) if high else ''}}}"


def _literal(code: int) -> str:
    """A character as all three engines take it, in and outside brackets."""
    char = chr(code)
    if char.isalnum() and code < 128:
        return char
    if 32 < code < 127:
        return "\\" + char
    return f"\\x{code:02x}" if code < 128 else char


class Pattern:
    """A compiled ARE: ``find(text, start)`` gives the spans of the match and of its groups."""

    __slots__ = ("engine", "groups", "is_timed")

    def __init__(self, engine: Any, groups: int, is_timed: bool) -> None:
        self.engine = engine
        self.groups = groups
        self.is_timed = is_timed

    def find(self, text: str, start: int = 0) -> Any:
        """The leftmost match at or after ``start`` as a match object, or None."""
        if not self.is_timed:
            return self.engine.search(text, start)
        try:
            return self.engine.search(text, start, timeout=MATCH_SECONDS_MAX)
        except TimeoutError:
            raise error("54000", "regular expression match takes too long") from None

    def matches(self, text: str) -> bool:
        return self.find(text) is not None

    def find_all(self, text: str, start: int = 0) -> Iterator[Any]:
        """All matches, not overlapping; after an empty match the search goes on one character later."""
        while start <= len(text):
            match = self.find(text, start)
            if match is None:
                return
            yield match
            start = match.end() if match.end() > match.start() else match.end() + 1


def _join(pieces: list[str], end: str) -> str:
    return "".join([end if piece is END else piece for piece in pieces])


def _compile_re2(text: str, ignore_case: bool, longest: bool) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.longest_match = longest
    options.case_sensitive = not ignore_case
    options.max_mem = RE2_MEMORY_MAX
    return re2.compile(text, options)


@lru_cache(PATTERNS_MAX)
def compile_pattern(pattern: str, letters: str = "") -> Pattern:
    """Compiles an ARE with flag letters (without g)."""
    if len(pattern) > PATTERN_LENGTH_MAX:
        raise invalid("regular expression is too complex")
    flags = Flags()
    flags.apply(letters)
    translator = Translator(pattern, flags)
    translator.run()
    pieces = translator.pieces
    try:
        if translator.backtracks:
            found = regex.compile(_join(pieces, r"\Z"), regex.IGNORECASE if flags.ignore_case else 0)
            return Pattern(found, translator.groups, True)
        if not translator.branches and translator.quantifiers <= 1 and not translator.unicode:
            return Pattern(re.compile(_join(pieces, r"\Z"), re.IGNORECASE if flags.ignore_case else 0), 0, False)
        return Pattern(
            _compile_re2(_join(pieces, r"\z"), flags.ignore_case, not translator.non_greedy), translator.groups, False
        )
    except (re.error, re2.error, regex.error, OverflowError):
        raise invalid("regular expression is too complex") from None
