"""Reading many fields of one type at once: the columns of COPY's text.

Most fields look alike: digits, decimals with the scale of their column, strings that fit.  What looks so is read by a
C loop; a column with anything else in it is read field by field with the type's own parser, which alone knows the
grammar and the errors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

from base import types as t
from base.typeio.numeric import precision_and_scale
from base.types import PgType

ParseColumn = Callable[[Sequence[str | None]], list[Any]]
"""Fields, None for NULL, to datums; raises what the type's parser raises."""

_TYPMOD_OFFSET: Final = 4
_INTEGER_MAX: Final = {t.INT2.oid: 0x7FFF, t.INT4.oid: 0x7FFF_FFFF, t.INT8.oid: 0x7FFF_FFFF_FFFF_FFFF}
_DIGITS_MAX: Final = 30
"""Of a numeric without typmod, on either side of the point."""


def column_parser(pg_type: PgType, typmod: int, parse: Callable[[str], Any]) -> ParseColumn:
    """Returns the reader of a type's fields; ``parse`` is that of one of them, with the same typmod."""
    oid = pg_type.oid
    if oid in _INTEGER_MAX:
        return _Integers(parse, _INTEGER_MAX[oid])
    if oid == t.NUMERIC.oid:
        return _Numerics(parse, typmod)
    if oid == t.TEXT.oid or oid == t.VARCHAR.oid:
        return _Strings(parse, typmod - _TYPMOD_OFFSET if typmod >= 0 else -1)
    if oid == t.BPCHAR.oid and typmod >= 0:
        return _Padded(parse, typmod - _TYPMOD_OFFSET)
    return _Repeating(parse)


class _Repeating:
    """Fields of any type: where most of them repeat each other, each is read once."""

    def __init__(self, parse: Callable[[str], Any]) -> None:
        self._parse = parse

    def __call__(self, fields: Sequence[str | None]) -> list[Any]:
        parse = self._parse
        distinct = dict.fromkeys(fields)
        if 2 * len(distinct) > len(fields):
            return [None if field is None else parse(field) for field in fields]
        known = {field: None if field is None else parse(field) for field in distinct}
        return [known[field] for field in fields]


class _Integers(_Repeating):
    def __init__(self, parse: Callable[[str], Any], upper: int) -> None:
        super().__init__(parse)
        self._upper = upper

    def __call__(self, fields: Sequence[str | None]) -> list[Any]:
        present = present_in(fields)
        digits = "".join(present)
        if digits.isascii() and (digits.isdigit() or digits.replace("-", "").isdigit()):
            try:
                values = list(map(int, present))
            except ValueError:
                return super().__call__(fields)
            if max(values) <= self._upper and min(values) >= -self._upper:
                return values if len(present) == len(fields) else _with_nulls(fields, values)
        return super().__call__(fields)


class _Numerics(_Repeating):
    def __init__(self, parse: Callable[[str], Any], typmod: int) -> None:
        super().__init__(parse)
        whole, decimals = rf"[0-9]{{1,{_DIGITS_MAX}}}", rf"(?:\.[0-9]{{1,{_DIGITS_MAX}}})?"
        if typmod >= 0:
            precision, scale = precision_and_scale(typmod)
            whole = rf"[0-9]{{1,{precision - scale}}}" if precision > scale else "0"
            decimals = rf"\.[0-9]{{{scale}}}" if scale else ""
            if not 0 <= scale <= precision:
                whole = "(?!)"  # Every value is rounded, or has zeros that are not written.
        # Zero has no sign.
        self._fits = re.compile(rf"(?:-(?=[0-9.]*[1-9]))?{whole}{decimals}").fullmatch

    def __call__(self, fields: Sequence[str | None]) -> list[Any]:
        present = present_in(fields)
        if not all(map(self._fits, present)):
            return super().__call__(fields)
        values: list[Any] = list(map(Decimal, present))
        return values if len(present) == len(fields) else _with_nulls(fields, values)


class _Strings(_Repeating):
    """Text, and varchar where ``length`` is not negative."""

    def __init__(self, parse: Callable[[str], Any], length: int) -> None:
        super().__init__(parse)
        self._length = length

    def __call__(self, fields: Sequence[str | None]) -> list[Any]:
        if self._length < 0 or max(map(len, present_in(fields)), default=0) <= self._length:
            return list(fields)
        return super().__call__(fields)


class _Padded(_Repeating):
    """char(length)."""

    def __init__(self, parse: Callable[[str], Any], length: int) -> None:
        super().__init__(parse)
        self._length = length

    def __call__(self, fields: Sequence[str | None]) -> list[Any]:
        length = self._length
        sizes = list(map(len, present_in(fields)))
        if max(sizes, default=0) > length:
            return super().__call__(fields)
        if min(sizes, default=length) == length:
            return list(fields)
        return [None if field is None else field.ljust(length) for field in fields]


def present_in(fields: Sequence[str | None]) -> Sequence[str]:
    """Returns the fields that are not NULL."""
    if None in fields:
        return [field for field in fields if field is not None]
    return fields  # type: ignore[return-value]  # none is None


def _with_nulls(fields: Sequence[str | None], values: list[Any]) -> list[Any]:
    """Puts NULLs where they were."""
    rest = iter(values)
    return [None if field is None else next(rest) for field in fields]
