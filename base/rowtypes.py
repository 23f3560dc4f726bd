"""How the values of each SQL type look inside a row value.

| type | bytes, little-endian |
| --- | --- |
| bool | 1 |
| int2; int4, oid, reg*, date; int8, time, timestamp(tz), money | 2; 4; 8 |
| enum | 4: the physical integer |
| float4, float8 | 4, 8 |
| uuid | 16 |
| interval | 16: months 4, days 4, microseconds 8 |
| timetz | 12: microseconds 8, seconds west 4 |
| text, json, jsonb, bit, inet and all else whose datum is text | UTF-8 |
| bytea | itself |
| numeric | its decimal text in ASCII, dscale and NaN and Infinity included |
| arrays, vectors | shape 1 (dimensions, 80 if NULLs), lengths 4 each, bitmap if NULLs, elements |
| row types | per field: length 4, bytes; length FFFFFFFF is NULL |

numeric is text because the C library parses and prints decimals faster (0.28 and 0.12
us) than Python makes them from an integer and a scale (0.5 and 0.5 us).

A form is *fixed* (struct codes) or *varying*.  ``store`` and ``load`` are expression
templates over a name; what they refer to is in ``NAMES`` or the form's own ``names``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from base import types as t
from base.arrays import flatten_array, holds_tuple, is_composite, nest_array, storage_type
from base.errors import FeatureNotSupported
from base.generated import define_function
from base.keyvalues import EnumLabels
from base.types import PgType

NAMES: Final[dict[str, Any]] = {"row_Decimal": Decimal}
"""What the templates of the built-in forms refer to."""

_TEXT_STORE: Final = "{0}.encode()"
_TEXT_LOAD: Final = "{0}.decode()"
_LENGTH = struct.Struct("<I")
_LENGTH_NULL: Final = 0xFFFF_FFFF
_HAS_NULLS: Final = 0x80


class ValueForm:
    """How one type is written in rows; see the module docstring."""

    __slots__ = ("_loader", "_storer", "arguments", "code", "load", "names", "parts", "store", "width", "zero")

    def __init__(
        self,
        code: str,
        store: str = "{0}",
        load: str = "{0}",
        zero: str = "0",
        parts: int = 1,
        names: dict[str, Any] | None = None,
    ) -> None:
        self.code = code
        """struct codes of a fixed form, "" of a varying one."""
        self.store = store
        """Template: what is packed (fixed) or the bytes (varying)."""
        self.load = load
        """Template over what was unpacked (``parts`` names in ``{0}``, ``{1}``..) or over the bytes."""
        self.zero = zero
        """Source of what stands for NULL in the place of ``store``'s result."""
        self.parts = parts
        """How many objects ``code`` unpacks to."""
        self.arguments = "{0}" if parts == 1 else ", ".join([f"{{0}}[{i}]" for i in range(parts)])
        """Template: the arguments of Struct.pack, over a name that holds ``store``'s result."""
        self.names = names or {}
        self.width = struct.calcsize("<" + code)
        self._storer: Callable[[Any], bytes] | None = None
        self._loader: Callable[[bytes], Any] | None = None

    @property
    def is_fixed(self) -> bool:
        return self.code != ""

    @property
    def is_integer(self) -> bool:
        """True if the stored bytes are the datum, an int."""
        return self.code in ("h", "i", "q") and self.load == "{0}" and self.store == "{0}"

    @property
    def is_text(self) -> bool:
        """True if the stored bytes are the datum, a str, in UTF-8."""
        return self.load == _TEXT_LOAD and self.store == _TEXT_STORE

    def storer(self) -> Callable[[Any], bytes]:
        """Returns the function from a datum to its bytes."""
        if self._storer is None:
            self._storer = self._define_storer()
        return self._storer

    def _define_storer(self) -> Callable[[Any], bytes]:
        names = NAMES | self.names
        if not self.is_fixed:
            return define_function("store", "value", [f"return {self.store.format('value')}"], names)
        names["pack"] = struct.Struct("<" + self.code).pack
        body = [f"value = {self.store.format('value')}", f"return pack({self.arguments.format('value')})"]
        return define_function("store", "value", body, names)

    def loader(self) -> Callable[[bytes], Any]:
        """Returns the function from exactly a datum's bytes to the datum."""
        if self._loader is None:
            self._loader = self._define_loader()
        return self._loader

    def _define_loader(self) -> Callable[[bytes], Any]:
        names = NAMES | self.names
        if not self.is_fixed:
            return define_function("load", "value", [f"return {self.load.format('value')}"], names)
        names["unpack"] = struct.Struct("<" + self.code).unpack
        parts = [f"part{i}" for i in range(self.parts)]
        body = [f"{', '.join(parts)}, = unpack(value)", f"return {self.load.format(*parts)}"]
        return define_function("load", "value", body, names)


class ArrayStore:
    """Arrays of one element type; NULL elements take a bit and no bytes."""

    __slots__ = ("_composite", "_load", "_scalar_tuple", "_store", "_width")

    def __init__(self, element: PgType) -> None:
        form = value_form(element)
        self._store = form.storer()
        self._load = form.loader()
        self._width = form.width
        self._scalar_tuple = holds_tuple(element)
        self._composite = is_composite(element)

    def store(self, value: tuple[Any, ...]) -> bytes:
        if self._composite:
            # An array of rows has one dimension: a row is a tuple of anything.
            elements, lengths = value, [len(value)] if value else []
        else:
            elements, lengths = flatten_array(value, self._scalar_tuple)
        present = [self._store(element) for element in elements if element is not None]
        has_nulls = len(present) < len(elements)
        parts = [bytes((len(lengths) | (_HAS_NULLS if has_nulls else 0),)), *map(_LENGTH.pack, lengths)]
        if has_nulls:
            bits = sum([1 << i for i, element in enumerate(elements) if element is None])
            parts.append(bits.to_bytes((len(elements) + 7) // 8, "little"))
        if not self._width:
            parts += [_LENGTH.pack(len(item)) for item in present]
        return b"".join(parts + present)

    def load(self, value: bytes) -> tuple[Any, ...]:
        dimensions = value[0] & ~_HAS_NULLS
        at = 1 + 4 * dimensions
        lengths = [length for (length,) in _LENGTH.iter_unpack(value[1:at])]
        count = 1 if lengths else 0
        for length in lengths:
            count *= length
        if count > len(value) * 8:
            raise ValueError(f"array of {count} elements in {len(value)} bytes")
        nulls = 0
        if value[0] & _HAS_NULLS:
            size = (count + 7) // 8
            nulls = int.from_bytes(value[at : at + size], "little")
            at += size
        items = iter(self._items(value, at, count - nulls.bit_count()))
        if nulls:
            return nest_array([None if nulls >> i & 1 else next(items) for i in range(count)], lengths)
        return nest_array(list(items), lengths)

    def _items(self, value: bytes, at: int, count: int) -> list[Any]:
        """Returns the elements that are not NULL."""
        load, width = self._load, self._width
        if width:
            sizes = [width] * count
        else:
            sizes = [size for (size,) in _LENGTH.iter_unpack(value[at : at + 4 * count])]
            at += 4 * count
        items = []
        for size in sizes:
            items.append(load(value[at : at + size]))
            at += size
        if at != len(value):
            raise ValueError(f"array ends at {at} of {len(value)} bytes")
        return items


class RowStore:
    """Row types, field by field."""

    __slots__ = ("_fields",)

    def __init__(self, pg_type: PgType) -> None:
        if not pg_type.fields:
            raise FeatureNotSupported(f"stored values of type {pg_type.name}")
        self._fields = [(form.storer(), form.loader()) for form in (value_form(field) for _, field in pg_type.fields)]

    def store(self, value: tuple[Any, ...]) -> bytes:
        assert len(value) == len(self._fields), f"{value!r} of {len(self._fields)} fields"
        parts = []
        for field, (store, _) in zip(value, self._fields):
            if field is None:
                parts.append(_LENGTH.pack(_LENGTH_NULL))
            else:
                item = store(field)
                parts.append(_LENGTH.pack(len(item)) + item)
        return b"".join(parts)

    def load(self, value: bytes) -> tuple[Any, ...]:
        fields: list[Any] = []
        at = 0
        for _, load in self._fields:
            size = _LENGTH.unpack_from(value, at)[0]
            at += 4
            if size == _LENGTH_NULL:
                fields.append(None)
                continue
            fields.append(load(value[at : at + size]))
            at += size
        if at != len(value):
            raise ValueError(f"row ends at {at} of {len(value)} bytes")
        return tuple(fields)


_INT4 = ValueForm("i")
_INT8 = ValueForm("q")
_UINT4 = ValueForm("I")
_UINT8 = ValueForm("Q")
_TEXT = ValueForm("", _TEXT_STORE, _TEXT_LOAD, "b''")

_FORMS: Final[dict[int, ValueForm]] = {
    t.BOOL.oid: ValueForm("?"),
    t.INT2.oid: ValueForm("h"),
    t.INT4.oid: _INT4,
    t.DATE.oid: _INT4,
    **{pg_type.oid: _UINT4 for pg_type in (t.OID, t.XID, t.CID)},
    **{pg_type.oid: _UINT4 for name, pg_type in t.BY_NAME.items() if name.startswith("reg")},
    **{pg_type.oid: _INT8 for pg_type in (t.INT8, t.MONEY, t.TIME, t.TIMESTAMP, t.TIMESTAMPTZ)},
    t.XID8.oid: _UINT8,
    t.PG_LSN.oid: _UINT8,
    t.FLOAT4.oid: ValueForm("f"),
    t.FLOAT8.oid: ValueForm("d"),
    t.UUID.oid: ValueForm("16s", zero="b''"),
    t.INTERVAL.oid: ValueForm("iiq", load="({0}, {1}, {2})", zero="(0, 0, 0)", parts=3),
    t.TIMETZ.oid: ValueForm("qi", load="({0}, {1})", zero="(0, 0)", parts=2),
    t.BYTEA.oid: ValueForm("", zero="b''"),
    t.NUMERIC.oid: ValueForm("", "str({0}).encode()", "row_Decimal({0}.decode())", "b''"),
    **{
        pg_type.oid: _TEXT
        for pg_type in (
            *(
                t.TEXT,
                t.VARCHAR,
                t.BPCHAR,
                t.NAME,
                t.CHAR,
                t.JSON,
                t.JSONB,
                t.JSONPATH,
                t.XML,
                t.BIT,
                t.VARBIT,
                t.INET,
                t.CIDR,
            ),
            *(t.REFCURSOR, t.PG_NODE_TREE, t.ACLITEM, t.UNKNOWN, t.CSTRING),
        )
    },
}


def value_form(pg_type: PgType) -> ValueForm:
    """Returns the form of a type; FeatureNotSupported if values of it cannot be stored."""
    pg_type = storage_type(pg_type)
    form = _FORMS.get(pg_type.oid)
    if form is not None:
        return form
    if pg_type.kind == "e":
        return _enum_form(pg_type)
    if pg_type.elem is not None:
        return _container_form(pg_type, ArrayStore(pg_type.elem))
    if is_composite(pg_type):
        return _container_form(pg_type, RowStore(pg_type))
    raise FeatureNotSupported(f"stored values of type {pg_type.name}")


def _enum_form(pg_type: PgType) -> ValueForm:
    physical, label = f"row_physical_{pg_type.oid}", f"row_label_{pg_type.oid}"
    names = {physical: pg_type.enum_physical, label: EnumLabels(pg_type).label}
    return ValueForm("i", f"{physical}[{{0}}]", f"{label}({{0}})", names=names)


def _container_form(pg_type: PgType, container: ArrayStore | RowStore) -> ValueForm:
    store, load = f"row_store_{pg_type.oid}", f"row_load_{pg_type.oid}"
    names = {store: container.store, load: container.load}
    return ValueForm("", f"{store}({{0}})", f"{load}({{0}})", "b''", names=names)
