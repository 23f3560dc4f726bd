"""Literals out of simple statements, so that statements which differ only in values share one plan.

    UPDATE t SET a = a + 17 WHERE id = 4711   ->   UPDATE t SET a = a + $1 WHERE id = $2,  [17, 4711]

One pass of a compiled pattern; anything unusual gives None and the statement is taken as it is.  A literal is
left in place where a parameter would not mean the same: ordinals of ORDER BY, ``date '..'``, patterns of
LIKE, a literal with a cast, everything behind ON CONFLICT.  GROUP BY, DISTINCT, windows and set operations
compare expressions or unify types over the whole query: those statements are not touched.

The lifted parameters' types are those the literals have (manual 4.1.2): int4, int8 or numeric by size,
numeric, or unknown for strings.  If a lifted statement does not bind (an unknown parameter in a place that a
literal may have), the caller binds the original.
"""

from __future__ import annotations

import re
from typing import Final

from sql.parse.keywords import words

LIFTED_CHARS_MAX: Final = 8192
LIFTED_VALUES_MAX: Final = 64
"""Longer lists have too many shapes to be worth caching."""
INT4_MAX: Final = 2**31 - 1
INT8_MAX: Final = 2**63 - 1
_NEGATED_LIMITS: Final = frozenset((str(2**31), str(2**63)))

_START: Final = re.compile(r"\s*(select|insert|update|delete)\s+", re.IGNORECASE)
_TOKEN: Final = re.compile(
    r"""(?:
      ([A-Za-z_][A-Za-z0-9_]*)
    | ([-+*<>=~!@\#%^&|`?(),.\[\]:/])
    | ([0-9]+(?![0-9A-Za-z_.]))
    | ('[^']*(?:''[^']*)*')
    | ((?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][+-]?[0-9]+)?(?![0-9A-Za-z_.]))
    | ("[^"]*")
    | (;\s*\Z)
    | ([\s\S])
    )\s*""",
    re.VERBOSE,
)
_WORD, _MARK, _INTEGER, _STRING, _NUMERIC, _IDENT, _LAST, _BAD = range(1, 9)
_CAST: Final = re.compile(r"\s*:\s*[A-Za-z_][\w.]*(?:\s*\([0-9,\s]*\))?(?:\[[0-9]*\])*")
_REFUSED: Final = words(
    """GROUP HAVING DISTINCT UNION INTERSECT EXCEPT OVER WINDOW WITH CAST FETCH GROUPING ROLLUP CUBE NEXTVAL CURRVAL SETVAL
    SET_CONFIG OVERRIDING UESCAPE FORMAT TREAT FILTER WITHIN TABLESAMPLE SYSTEM RECURSIVE ARRAY ROW"""
)
_KEPT_AFTER: Final = words("ORDER CONFLICT")
_LIFTED_AGAIN: Final = words("LIMIT OFFSET")
_BEFORE_STRING: Final = words("SELECT WHERE AND OR NOT THEN ELSE WHEN BETWEEN VALUES")
_BEFORE_NUMBER: Final = words("LIMIT OFFSET BY IN") | _BEFORE_STRING

Lifted = tuple[str, list[tuple[str, str]]]
Span = tuple[int, int, tuple[str, str]]


def lift_literals(sql: str) -> Lifted | None:
    """Returns (statement with parameters, [(type name, text)]), or None where that is not certain to be the same."""
    spans = literal_spans(sql)
    return lifted(sql, spans) if spans else None


def lifted(sql: str, spans: list[Span]) -> Lifted:
    """Returns the statement with parameters in the place of some literals."""
    parts: list[str] = []
    values: list[tuple[str, str]] = []
    copied = 0
    for start, end, value in spans:
        values.append(value)
        parts += (sql[copied:start], f"${len(values)}")
        copied = end
    parts.append(sql[copied:])
    return "".join(parts), values


def literal_spans(sql: str) -> list[Span] | None:
    """Returns (start, end, (type name, text)) of the literals that can be lifted; None if that is not certain."""
    if len(sql) > LIFTED_CHARS_MAX:
        return None
    first = _START.match(sql)
    if first is None or "--" in sql or "/*" in sql:
        return None
    spans: list[Span] = []
    cast_end = 0
    before, before_kind, before_end = first.group(1).upper(), _WORD, first.end(1)
    is_kept = False
    for found in _TOKEN.finditer(sql, first.end()):
        kind = found.lastindex or _BAD
        start, end = found.span(kind)
        if kind == _WORD:
            before = found.group(1).upper()
            if before in _REFUSED:
                return None
            if before in _KEPT_AFTER:
                is_kept = True
            elif is_kept and before in _LIFTED_AGAIN:
                is_kept = False
        elif kind == _MARK:
            mark = found.group(2)
            if mark == "&" and before_end == start and before == "U":
                # U&'..' and U&".." look like a bitwise and.
                return None
            if mark == ":" and sql.startswith(":", end):
                cast = _CAST.match(sql, end)
                if cast is None:
                    return None
                cast_end = cast.end()
            before = mark
        elif kind == _LAST:
            break
        elif kind == _BAD:
            return None
        elif kind != _IDENT and start >= cast_end:
            if before_kind == _WORD:
                # A word before a literal: a clause, or else the name of a type.
                lift = before in (_BEFORE_STRING if kind == _STRING else _BEFORE_NUMBER)
                if before_end == start or (kind != _STRING and not lift):
                    return None
            elif before_kind not in (0, _MARK) or (kind == _STRING and before in ")]"):
                return None
            else:
                lift = True
            text = found.group(kind)
            if text in _NEGATED_LIMITS:
                # -2147483648 is an int4 though 2147483648 is none.
                return None
            if lift and not is_kept and not sql.startswith("::", found.end()):
                spans.append((start, end, _value(kind, text)))
            before = ""
        before_kind, before_end = kind, end
    return spans if len(spans) <= LIFTED_VALUES_MAX else None


def _value(kind: int, text: str) -> tuple[str, str]:
    if kind == _STRING:
        body = text[1:-1]
        return "unknown", body.replace("''", "'") if "'" in body else body
    if kind == _NUMERIC:
        return "numeric", text
    if len(text) < 10:
        return "int4", text
    number = int(text)
    return ("int4" if number <= INT4_MAX else "int8" if number <= INT8_MAX else "numeric"), text
