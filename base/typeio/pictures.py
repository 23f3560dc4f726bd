"""The templates of to_char, to_timestamp, to_date and to_number, cut into nodes (PostgreSQL 15 manual, 9.8).

A template is keywords (``YYYY``), text in double quotes, and other characters.  A keyword may have the
prefixes FM and TM and the suffixes TH and th.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

KEYWORD: Final = 0
TEXT: Final = 1
SEPARATOR: Final = 2
SPACE: Final = 3
PICTURES_CACHED_MAX: Final = 512

_DATE_WORDS: Final = (
    "A.D. A.M. AD AM B.C. BC CC DAY DDD DD DY D FF1 FF2 FF3 FF4 FF5 FF6 FX HH24 HH12 HH IDDD ID IW IYYY IYY IY I J MI MM MONTH MON MS OF "
    "P.M. PM Q RM SSSSS SSSS SS TZH TZM TZ US WW W Y,YYY YYYY YYY YY Y"
)
_NUMBER_WORDS: Final = ", . 0 9 B C D EEEE FM G L MI PL PR RN SG SP S TH V"


def _spellings(words: str, *more: str) -> list[str]:
    """All capitals and all small; longest first, so that HH24 is not HH and 24."""
    names = {spelling: None for word in words.split() for spelling in (word, word.lower())}
    return sorted([*names, *more], key=len, reverse=True)


_DATE_KEYWORDS: Final = _spellings(_DATE_WORDS, "Day", "Dy", "Month", "Mon")
_NUMBER_KEYWORDS: Final = _spellings(_NUMBER_WORDS)
NO_DIGITS: Final = frozenset(
    ("A.D.", "A.M.", "AD", "AM", "B.C.", "BC", "DAY", "DY", "FX", "MONTH", "MON", "OF", "P.M.", "PM", "RM", "TZH", "TZ")
)
"""Date keywords that do not begin with a digit in the input."""


class Node:
    """One keyword or one character."""

    __slots__ = ("fill", "kind", "localized", "name", "ordinal", "text")

    def __init__(self, kind: int, text: str, fill: bool = False, localized: bool = False) -> None:
        self.kind = kind
        self.text = text
        """As written."""
        self.name = text.upper()
        self.fill = fill
        """FM: no padding."""
        self.localized = localized
        """TM: names without padding."""
        self.ordinal = ""
        """TH or th."""


def is_separator(c: str) -> bool:
    return "\x20" < c < "\x7f" and not c.isalnum()


@lru_cache(maxsize=PICTURES_CACHED_MAX)
def parse_date_picture(template: str) -> tuple[Node, ...]:
    nodes: list[Node] = []
    at = 0
    while at < len(template):
        prefix = template[at : at + 2].upper() if template[at : at + 2] in ("FM", "fm", "TM", "tm") else ""
        at += len(prefix)
        if at >= len(template):
            break
        word = _keyword_at(template, at, _DATE_KEYWORDS)
        if word:
            at += len(word)
            node = Node(KEYWORD, word, prefix == "FM", prefix == "TM")
            if template[at : at + 2] in ("TH", "th"):
                node.ordinal = template[at : at + 2]
                at += 2
            elif template[at : at + 2] == "SP":
                at += 2
            nodes.append(node)
        else:
            at = _literal(template, at, nodes, True)
    return tuple(nodes)


def _keyword_at(template: str, at: int, keywords: list[str]) -> str:
    for word in keywords:
        if template.startswith(word, at):
            return word
    return ""


def _literal(template: str, at: int, nodes: list[Node], is_date: bool) -> int:
    """Appends a quoted text or one character; returns the position after it."""
    if template[at] == '"':
        at += 1
        while at < len(template):
            c = template[at]
            at += 1
            if c == '"':
                break
            if c == "\\" and at < len(template):
                c = template[at]
                at += 1
            nodes.append(Node(TEXT, c))
        return at
    if template[at] == "\\" and template[at + 1 : at + 2] == '"':
        at += 1
    c = template[at]
    kind = SEPARATOR if is_date and is_separator(c) else SPACE if c in " \t\n\v\f\r" else TEXT
    nodes.append(Node(kind, c))
    return at + 1


@lru_cache(maxsize=PICTURES_CACHED_MAX)
def split_number_picture(template: str) -> tuple[Node, ...]:
    nodes: list[Node] = []
    at = 0
    while at < len(template):
        word = _keyword_at(template, at, _NUMBER_KEYWORDS)
        if word:
            nodes.append(Node(KEYWORD, word))
            at += len(word)
        else:
            at = _literal(template, at, nodes, False)
    return tuple(nodes)


_ENDINGS: Final = {"1": "st", "2": "nd", "3": "rd"}


def ordinal_ending(number: str, case: str) -> str:
    """st, nd, rd or th, in the case of TH or th."""
    ending = "th" if number[-2:-1] == "1" else _ENDINGS.get(number[-1:], "th")
    return ending.upper() if case == "TH" else ending


ROMAN_MAX: Final = 3999
_ROMANS: Final = ((1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))  # fmt: skip


def roman(number: int) -> str:
    """Capital Roman numerals; number signs where there are none."""
    if not 1 <= number <= ROMAN_MAX:
        return "#" * 15
    parts: list[str] = []
    for value, letters in _ROMANS:
        count, number = divmod(number, value)
        parts.append(letters * count)
    return "".join(parts)
