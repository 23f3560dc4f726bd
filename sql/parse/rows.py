"""Long INSERT .. VALUES lists without a tree node per value (reliability 104).

``INSERT INTO t (a, b) VALUES (1, 'x'), (2, 'y'), ...`` with nothing but plain literals is read by one
compiled pattern.  The head (up to VALUES) and the tail (ON CONFLICT, RETURNING) go the usual way with one
row in between; the rows themselves become ``RawRows``.
"""

from __future__ import annotations

import re
from typing import Final

from sql.parse.lexer import scan
from sql.parse.statements import Query, RawRows

RAW_INSERT_CHARS_MIN: Final = 4096
"""Shorter statements are cheap enough the usual way."""
RAW_ROWS_MIN: Final = 16

_HEAD: Final = re.compile(r"\s*insert\s+into\s+[\w.\"$]+\s*(?:\([\w\s,\"$]*\))?\s*values\s*(?=\()", re.IGNORECASE)
_VALUE: Final = re.compile(
    r"""\s*(?:
        (?P<integer>[+-]?[0-9]+)(?![0-9.eE\w])
      | (?P<numeric>[+-]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][+-]?[0-9]+)?)(?!\w)
      | '(?P<string>[^']*(?:''[^']*)*)'
      | (?P<word>null|true|false|default)(?!\w)
    )\s*([,)])""",
    re.VERBOSE | re.IGNORECASE,
)
_ROW_GAP: Final = re.compile(r"\s*,\s*\(")
_INTEGER, _NUMERIC, _STRING, _WORD, _END = 1, 2, 3, 4, 5
_WORDS: Final = {"null": ("u", ""), "true": ("b", "true"), "false": ("b", "false"), "default": ("d", "")}


def parse_long_insert(sql: str) -> Query | None:
    """Parses a long literal INSERT, or returns None: then the usual way decides."""
    if len(sql) < RAW_INSERT_CHARS_MIN:
        return None
    head = _HEAD.match(sql)
    if head is None or "--" in head.group() or "/*" in head.group():
        return None
    found = _rows(sql, head.end() + 1)
    if found is None:
        return None
    rows, end = found
    if len(rows) < RAW_ROWS_MIN:
        return None
    tail = sql[end:]
    lexemes = scan(tail)
    while lexemes and lexemes[-1].text == ";":
        lexemes.pop()
    if any(lexeme.text == ";" for lexeme in lexemes):
        return None
    if lexemes and lexemes[0].text not in ("on", "returning"):
        return None
    # One NULL row stands for all; blanks keep the tail's positions.
    from sql.parse.query import parse_query

    stand_in = "(" + ",".join(["null"] * len(rows[0])) + ")"
    text = sql[: head.end()] + stand_in + " " * (end - head.end() - len(stand_in)) + tail
    pieces = scan(text)
    while pieces and pieces[-1].text == ";":
        pieces.pop()
    query = parse_query(text, pieces, 0, len(pieces))
    query.raw_rows = RawRows(rows)
    return query


def _rows(sql: str, position: int) -> tuple[list[tuple[tuple[str, str, int], ...]], int] | None:
    """Reads rows from behind the first ``(``; None if anything but a literal is met."""
    rows: list[tuple[tuple[str, str, int], ...]] = []
    row: list[tuple[str, str, int]] = []
    match, gap = _VALUE.match, _ROW_GAP.match
    width = 0
    while True:
        found = match(sql, position)
        if found is None:
            return None
        kind = found.lastindex
        # lastindex is the closing mark's group; the value's is the one that matched.
        assert kind == _END, f"{kind=}"
        text = found.group(_INTEGER)
        if text is not None:
            row.append(("i", text, found.start(_INTEGER)))
        elif (text := found.group(_STRING)) is not None:
            row.append(("s", text.replace("''", "'") if "'" in text else text, found.start(_STRING) - 1))
        elif (text := found.group(_NUMERIC)) is not None:
            row.append(("n", text, found.start(_NUMERIC)))
        else:
            word, text = _WORDS[found.group(_WORD).lower()]
            row.append((word, text, found.start(_WORD)))
        position = found.end()
        if found.group(_END) == ",":
            continue
        if width and len(row) != width:
            return None
        width = len(row)
        rows.append(tuple(row))
        row = []
        following = gap(sql, position)
        if following is None:
            return rows, position
        position = following.end()
