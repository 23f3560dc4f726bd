"""Statements that differ only in literals, recognized without scanning them.

    SELECT c FROM sbtest1 WHERE id = 4711 AND k = 'x'

    cut      SELECT c FROM sbtest | 1 |  WHERE id =  | 4711 |  AND k =  | 'x' |
    frame    the texts between, and for each run of digits or quoted string which of the two it is
    shape    for each literal: lifted, or kept as it is

The first statement of a frame is scanned (``sql.parse.lift``).  Any other of the same frame reads the same: the
scanner comes to each literal in the same state, and what it does with a literal that it lifted depends on
nothing but its kind.  Only the kept ones (the 1 of the table's name) must be the same to the letter.

What is lifted has at most INTEGER_DIGITS_MAX digits, so that its type is int4.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

import re
from typing import Final

from sql.parse.lift import LIFTED_CHARS_MAX, Span, lifted, literal_spans

INTEGER_DIGITS_MAX: Final = 9
FRAMES_MAX: Final = 5_000
SHAPES_MAX: Final = 1_000
"""Shapes of one frame: tables that differ in a number."""
_cut: Final = re.compile(r"('[^']*(?:''[^']*)*'|[0-9]+)").split


class Shape:
    """One statement up to its literals."""

    __slots__ = ("names", "text")

    def __init__(self, text: str, names: tuple[str, ...]) -> None:
        self.text = text
        """With parameters in the place of what was lifted."""
        self.names = names
        """Types of the parameters: int4 or unknown."""


class Frame:
    """The statements with the same texts between their literals."""

    __slots__ = ("kept", "lifted", "shapes")

    def __init__(self, kept: list[int], places: list[int]) -> None:
        self.kept = kept
        """Places in the cut statement of literals that belong to the shape."""
        self.lifted = places
        self.shapes: dict[str, Shape] = {}
        """By the kept literals."""


class Shapes:
    """The frames one node has seen; see the module docstring."""

    def __init__(self) -> None:
        self._frames: dict[str, Frame | None] = {}
        """None: cannot be recognized this way."""

    def find(self, sql: str) -> tuple[Shape, list[str]] | None:
        """Returns the shape of a statement and the texts of its parameters; None if it must be taken as it is."""
        if len(sql) > LIFTED_CHARS_MAX:
            return None
        parts: list[str] = _cut(sql)
        marks = parts[:]
        for i in range(1, len(parts), 2):
            literal = parts[i]
            if literal.startswith("'"):
                marks[i] = "''"
            elif len(literal) <= INTEGER_DIGITS_MAX:
                marks[i] = "0"
            else:
                return None
        key = "".join(marks)
        frame = self._frames.get(key)
        if frame is None:
            if key in self._frames:
                return None
            return self._learn(sql, parts, key)
        kept = "" if not frame.kept else "\0".join([parts[i] for i in frame.kept])
        shape = frame.shapes.get(kept)
        if shape is None:
            return self._learn(sql, parts, key)
        return shape, [_text(parts[i]) for i in frame.lifted]

    def _learn(self, sql: str, parts: list[str], key: str) -> tuple[Shape, list[str]] | None:
        if len(self._frames) >= FRAMES_MAX:
            self._frames.clear()
        spans = literal_spans(sql)
        frame = None if spans is None else _frame(parts, spans)
        if spans is None or frame is None:
            self._frames[key] = None
            return None
        known = self._frames.get(key)
        if known is not None:
            assert known.kept == frame.kept, sql
            assert known.lifted == frame.lifted, sql
            frame = known
        self._frames[key] = frame
        text, values = lifted(sql, spans)
        shape = Shape(text, tuple([name for name, _ in values]))
        if len(frame.shapes) >= SHAPES_MAX:
            frame.shapes.clear()
        frame.shapes["\0".join([parts[i] for i in frame.kept])] = shape
        return shape, [_text(parts[i]) for i in frame.lifted]


def _frame(parts: list[str], spans: list[Span]) -> Frame | None:
    """Finds the lifted literals among the parts of a cut statement; None if one is not a part of its own."""
    starts = {start: end for start, end, _ in spans}
    kept: list[int] = []
    places: list[int] = []
    at = 0
    for i, part in enumerate(parts):
        if i % 2:
            if starts.get(at) == at + len(part):
                places.append(i)
            else:
                kept.append(i)
        at += len(part)
    return Frame(kept, places) if len(places) == len(spans) else None


def _text(literal: str) -> str:
    """What a lifted literal says: digits, or the inside of a string."""
    if not literal.startswith("'"):
        return literal
    body = literal[1:-1]
    return body.replace("''", "'") if "'" in body else body
