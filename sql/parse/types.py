"""Type names as written: ``timestamp(3) with time zone``, ``int[]``, ``pg_catalog.int4``, ``"char"``.

Gives a ``TypeName`` with the SQL spellings already turned into pg_type names; what the name means is
found later, in a catalog.
"""

from __future__ import annotations

from typing import Final

from sql.parse.cursor import Cursor
from sql.parse.keywords import NOT_FUNCTION
from sql.parse.lexer import IDENT, NUMBER, OP, STRING, WORD
from sql.parse.statements import TypeName

_SIMPLE: Final[dict[str, str]] = {
    "boolean": "bool", "smallint": "int2", "integer": "int4", "int": "int4", "bigint": "int8", "real": "float4",
    "string": "text", "bytes": "bytea", "smallserial": "serial2", "serial": "serial4", "bigserial": "serial8",
}  # fmt: skip
_WITH_PRECISION: Final[dict[str, str]] = {"decimal": "numeric", "dec": "numeric", "numeric": "numeric"}
_FIELDS: Final = ("year", "month", "day", "hour", "minute", "second")
FLOAT_SINGLE_BITS: Final = 24
FLOAT_DOUBLE_BITS: Final = 53


def parse_type(cursor: Cursor) -> TypeName:
    """Reads a type name with its modifiers and array bounds."""
    position = cursor.peek().start
    is_setof = cursor.accept("setof")
    found = _base_type(cursor)
    dimensions = _array_bounds(cursor)
    return found._replace(dimensions=dimensions, position=position, is_setof=is_setof)


def _base_type(cursor: Cursor) -> TypeName:
    lexeme = cursor.peek()
    if lexeme.kind == IDENT:
        return _named_type(cursor)
    if lexeme.kind != WORD:
        raise cursor.syntax_error()
    word = lexeme.text
    if cursor.peek(1).text == "." and cursor.peek(1).kind not in (STRING, IDENT):
        return _named_type(cursor)
    if word in _SIMPLE:
        cursor.advance()
        return TypeName((_SIMPLE[word],))
    if word in _WITH_PRECISION:
        cursor.advance()
        return TypeName((_WITH_PRECISION[word],), _modifiers(cursor))
    special = _SPECIAL.get(word)
    if special is not None:
        cursor.advance()
        return special(cursor, word)
    return _named_type(cursor)


def _named_type(cursor: Cursor) -> TypeName:
    if cursor.peek().kind == WORD and cursor.peek().text in NOT_FUNCTION:
        raise cursor.syntax_error()
    names = [cursor.any_label()]
    while cursor.accept_punct("."):
        names.append(cursor.any_label())
    return TypeName(tuple(names), _modifiers(cursor))


def _modifiers(cursor: Cursor) -> tuple[int, ...]:
    if not cursor.accept_punct("("):
        return ()
    numbers = [_signed(cursor)]
    while cursor.accept_punct(","):
        numbers.append(_signed(cursor))
    cursor.expect_punct(")")
    return tuple(numbers)


def _signed(cursor: Cursor) -> int:
    sign = 1
    if cursor.peek().kind == OP and cursor.peek().text == "-":
        cursor.advance()
        sign = -1
    if cursor.peek().kind != NUMBER or not cursor.peek().text.isdigit():
        raise cursor.syntax_error()
    return sign * int(cursor.advance().text)


def _float(cursor: Cursor, word: str) -> TypeName:
    from base.errors import error

    at = cursor.peek(1).start
    bits = _modifiers(cursor)
    if not bits:
        return TypeName(("float8",))
    if bits[0] < 1:
        raise error("22023", "precision for type float must be at least 1 bit", position=at + 1)
    if bits[0] > FLOAT_DOUBLE_BITS:
        raise error("22023", "precision for type float must be less than 54 bits", position=at + 1)
    return TypeName(("float4" if bits[0] <= FLOAT_SINGLE_BITS else "float8",))


def _double(cursor: Cursor, word: str) -> TypeName:
    cursor.expect("precision")
    return TypeName(("float8",))


def _character(cursor: Cursor, word: str) -> TypeName:
    if word == "national":
        if not (cursor.accept("character") or cursor.accept("char")):
            raise cursor.syntax_error()
    varying = word == "varchar" or cursor.accept("varying")
    modifiers = _modifiers(cursor)
    if varying:
        return TypeName(("varchar",), modifiers)
    # character without a length is character(1).
    return TypeName(("bpchar",), modifiers or (1,))


def _bit(cursor: Cursor, word: str) -> TypeName:
    if cursor.accept("varying"):
        return TypeName(("varbit",), _modifiers(cursor))
    return TypeName(("bit",), _modifiers(cursor) or (1,))


def _time(cursor: Cursor, word: str) -> TypeName:
    modifiers = _modifiers(cursor)
    zone = False
    if cursor.peek().text in ("with", "without") and cursor.peek(1).text == "time" and cursor.peek(2).text == "zone":
        zone = cursor.advance().text == "with"
        cursor.advance()
        cursor.advance()
    return TypeName((word + "tz" if zone else word,), modifiers)


def _interval(cursor: Cursor, word: str) -> TypeName:
    modifiers = _modifiers(cursor)
    fields, precision = interval_fields(cursor)
    return TypeName(("interval",), precision or modifiers, interval_fields=fields)


def interval_fields(cursor: Cursor) -> tuple[str, tuple[int, ...]]:
    """Reads ``day to second(3)`` after interval: the mask text, and the precision of seconds."""
    if cursor.peek().kind != WORD or cursor.peek().text not in _FIELDS:
        return "", ()
    first = cursor.advance().text
    precision = _modifiers(cursor) if first == "second" else ()
    if cursor.peek().text == "to" and cursor.peek(1).text in _FIELDS:
        cursor.advance()
        last = cursor.advance().text
        if last == "second":
            precision = _modifiers(cursor)
        return f"{first} to {last}", precision
    return first, precision


def _array_bounds(cursor: Cursor) -> int:
    dimensions = 0
    if cursor.accept("array"):
        dimensions = 1
        if cursor.accept_punct("["):
            cursor.number()
            cursor.expect_punct("]")
        return dimensions
    while cursor.peek().text == "[" and cursor.is_punct("["):
        cursor.advance()
        if not cursor.is_punct("]"):
            cursor.number()
        cursor.expect_punct("]")
        dimensions += 1
    return dimensions


_SPECIAL: Final = {
    "float": _float, "double": _double, "character": _character, "char": _character, "varchar": _character, "nchar": _character,
    "national": _character, "bit": _bit, "timestamp": _time, "time": _time, "interval": _interval,
}  # fmt: skip

MULTIWORD: Final = frozenset(_SPECIAL) | frozenset(_WITH_PRECISION)
"""Words that begin a type name of more than one word or with modifiers (before a string: a typed literal)."""
