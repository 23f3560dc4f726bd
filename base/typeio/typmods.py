"""Type modifiers: ``varchar(10)`` from numbers to typmod and back, names of types, and what a typmod does to a value.

The numbers are PostgreSQL's (pg_attribute.atttypmod): drivers read them from RowDescription.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from base import types as t
from base.errors import error
from base.typeio import bits, datetime, interval, numeric, text
from base.types import PgType

_FULL_NAMES: Final = {
    t.BOOL.oid: "boolean", t.INT2.oid: "smallint", t.INT4.oid: "integer", t.INT8.oid: "bigint", t.FLOAT4.oid: "real",
    t.FLOAT8.oid: "double precision", t.VARCHAR.oid: "character varying", t.BPCHAR.oid: "character", t.CHAR.oid: '"char"',
    t.TIME.oid: "time without time zone", t.TIMETZ.oid: "time with time zone", t.TIMESTAMP.oid: "timestamp without time zone",
    t.TIMESTAMPTZ.oid: "timestamp with time zone", t.VARBIT.oid: "bit varying", t.ANY.oid: '"any"',
}  # fmt: skip
_TIMES: Final = {t.TIME.oid: ("TIME", ""), t.TIMETZ.oid: ("TIME", " WITH TIME ZONE"), t.TIMESTAMP.oid: ("TIMESTAMP", ""),
                 t.TIMESTAMPTZ.oid: ("TIMESTAMP", " WITH TIME ZONE")}  # fmt: skip
PRECISION_MAX: Final = 6
_NUMERIC: Final = t.NUMERIC.oid
_VARCHAR: Final = t.VARCHAR.oid
_BPCHAR: Final = t.BPCHAR.oid
_INTERVAL: Final = t.INTERVAL.oid
_BIT: Final = t.BIT.oid
_VARBIT: Final = t.VARBIT.oid


def has_typmod(pg_type: PgType) -> bool:
    """True for the types that take modifiers."""
    return pg_type.oid in (_NUMERIC, _VARCHAR, _BPCHAR, _INTERVAL, _BIT, _VARBIT) or pg_type.oid in _TIMES


# --- names ----------------------------------------------------------------------------------


def type_name(pg_type: PgType, typmod: int = -1) -> str:
    """The name in messages, format_type(oid, NULL): ``character varying(10)``, ``timestamp(3) with time zone``, ``integer[]``."""
    if pg_type.is_array and pg_type.elem is not None:
        return type_name(pg_type.elem, typmod) + "[]"
    oid = pg_type.oid
    name = _FULL_NAMES.get(oid)
    if name is None:
        name = quote_name(pg_type.name)
    return name if typmod < 0 else _with_typmod(oid, name, typmod)


def column_type_name(pg_type: PgType, typmod: int) -> str:
    """format_type(oid, typmod) of a column: a bare ``character`` would declare character(1), so it is bpchar."""
    if typmod < 0:
        if pg_type.is_array and pg_type.elem is not None:
            return column_type_name(pg_type.elem, typmod) + "[]"
        if pg_type.oid in (_BPCHAR, _BIT):
            return "bpchar" if pg_type.oid == _BPCHAR else '"bit"'
    return type_name(pg_type, typmod)


def _with_typmod(oid: int, name: str, typmod: int) -> str:
    if oid == _NUMERIC:
        precision, scale = numeric.precision_and_scale(typmod)
        return f"numeric({precision},{scale})"
    if oid in (_VARCHAR, _BPCHAR):
        return f"{name}({typmod - 4})" if typmod > 4 else name
    if oid in (_BIT, _VARBIT):
        return f"{name}({typmod})"
    if oid in _TIMES:
        word, _, rest = name.partition(" ")
        return f"{word}({typmod}) {rest}"
    if oid == _INTERVAL:
        return "interval" + interval_suffix(typmod)
    return name


def interval_suffix(typmod: int) -> str:
    """`` day to second(3)``; empty if the typmod says nothing."""
    field_range, precision = (typmod >> 16) & 0x7FFF, typmod & 0xFFFF
    name = interval.RANGE_NAMES.get(field_range, "")
    return (f" {name}" if name else "") + (f"({precision})" if precision != interval.FULL_PRECISION else "")


def quote_name(name: str) -> str:
    """Quotes a user-defined type's name where it needs it."""
    first = name[:1]
    if (
        name
        and (first == "_" or first.islower())
        and all(c == "_" or c == "$" or c.isdigit() or c.islower() for c in name)
    ):
        return name
    return '"' + name.replace('"', '""') + '"'


# --- from what was written ----------------------------------------------------------------


def typmod_from_args(pg_type: PgType, args: Sequence[int], interval_fields: str = "") -> int:
    """Returns the typmod of a type written with numbers in parentheses; raises 22023.

    ``interval_fields`` is the restriction as written, ``day to second``.  ``char`` without a number
    is char(1), ``bit`` bit(1): the parser that saw the word passes that number.
    """
    if not args and not interval_fields:
        return -1
    oid = pg_type.oid
    if pg_type.is_array and pg_type.elem is not None:
        return typmod_from_args(pg_type.elem, args, interval_fields)
    if oid == _INTERVAL:
        return _interval_typmod(args, interval_fields)
    if oid == _NUMERIC:
        if len(args) > 2:
            raise error("22023", "invalid NUMERIC type modifier")
        return numeric.numeric_typmod(args[0], args[1] if len(args) == 2 else 0)
    if not has_typmod(pg_type):
        raise error("42601", f'type modifier is not allowed for type "{type_name(pg_type)}"')
    if len(args) != 1:
        raise error("22023", "invalid type modifier")
    if oid == _VARCHAR:
        return text.length_typmod(args[0], "varchar")
    if oid == _BPCHAR:
        return text.length_typmod(args[0], "char")
    if oid in (_BIT, _VARBIT):
        return bits.bits_typmod(args[0], "bit" if oid == _BIT else "varbit")
    return _precision(args[0], *_TIMES[oid])


def _precision(precision: int, word: str, zone: str) -> int:
    """More than 6 decimals are reduced to 6, as PostgreSQL does with a warning."""
    if precision < 0:
        raise error("22023", f"{word}({precision}){zone} precision must not be negative")
    return min(precision, PRECISION_MAX)


def _interval_typmod(args: Sequence[int], interval_fields: str) -> int:
    if len(args) > 1:
        raise error("22023", "invalid INTERVAL type modifier")
    words = " ".join(interval_fields.lower().split())
    field_range = interval.RANGES.get(words) if words else interval.FULL_RANGE_MASK
    if field_range is None:
        raise error("22023", "invalid INTERVAL type modifier")
    if not args:
        return interval.pack_typmod(field_range, interval.FULL_PRECISION)
    if args[0] < 0:
        raise error("22023", f"INTERVAL({args[0]}) precision must not be negative")
    return interval.pack_typmod(field_range, min(args[0], PRECISION_MAX))


# --- application ----------------------------------------------------------------------------


def apply_typmod(pg_type: PgType, typmod: int, datum: Any, explicit: bool = False) -> Any:
    """Fits a value to a typmod: rounds, pads, cuts (only blanks unless ``explicit``), or raises."""
    if typmod < 0 or datum is None:
        return datum
    oid = pg_type.oid
    if oid == _VARCHAR:
        return text.apply_varchar_typmod(datum, typmod, explicit)
    if oid == _NUMERIC:
        return numeric.apply_typmod(datum, typmod)
    if oid == _BPCHAR:
        return text.apply_bpchar_typmod(datum, typmod, explicit)
    if oid in _TIMES:
        return _apply_precision(oid, typmod, datum)
    if oid == _INTERVAL:
        return interval.apply_interval_typmod(datum, typmod)
    if oid == _BIT:
        return bits.apply_bit_typmod(datum, typmod, explicit)
    if oid == _VARBIT:
        return bits.apply_varbit_typmod(datum, typmod, explicit)
    if pg_type.is_array and pg_type.elem is not None and has_typmod(pg_type.elem):
        return _apply_to_items(pg_type.elem, typmod, datum, explicit)
    return datum


def _apply_precision(oid: int, typmod: int, datum: Any) -> Any:
    if oid == t.TIME.oid:
        return datetime.round_time(datum, typmod)
    if oid == t.TIMETZ.oid:
        return datetime.apply_timetz_typmod(datum, typmod)
    return datetime.round_timestamp(datum, typmod)


def _apply_to_items(element: PgType, typmod: int, items: tuple[Any, ...], explicit: bool) -> tuple[Any, ...]:
    """Elements may be nested; a tuple of integers is an element of interval or timetz."""
    is_item = element.oid in (_INTERVAL, t.TIMETZ.oid)
    found: list[Any] = []
    for item in items:
        if item.__class__ is tuple and not (is_item and isinstance(item[0], int)):
            found.append(_apply_to_items(element, typmod, item, explicit))
        else:
            found.append(apply_typmod(element, typmod, item, explicit))
    return tuple(found)
