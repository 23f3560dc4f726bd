"""How the values of each SQL type look inside a key.

Bytes compare as the values do under PostgreSQL's btree operators.  Every form is
prefix-free: fixed-width, or ended by something no continuation can start with.

| type | bytes | restorable |
| --- | --- | --- |
| bool | 1: 00 or 01 | yes |
| int2, int4, int8, date, time, timestamp(tz), money | 2, 4, 8 big-endian, sign bit flipped | yes |
| oid, reg*, xid, cid; xid8, pg_lsn | 4; 8 unsigned big-endian | yes |
| enum | 4: the physical integer, as int4 | yes |
| float4, float8 | 4, 8: sign bit flipped, or all bits if negative; NaN above +Infinity | no: -0 becomes 0 |
| uuid | 16 | yes |
| interval | 12: microseconds with 30-day months and 24-hour days, sign flipped | no |
| timetz | 12: microseconds of the UTC time, then seconds west, signs flipped | yes |
| text varchar name "char" bytea | bytes, 00 as 00 FF; ended by 00 01 | yes |
| bpchar | as text, without trailing blanks | no: the padding |
| bit, varbit | as text, of '0' and '1' | yes |
| inet, cidr | family, network bits, mask length, address | no: the spelling |
| numeric | lead byte, (exponent 3), digit pairs, 00; see ``encode_numeric`` | no: dscale |
| arrays | per element 02 value or 03 (NULL); 01; dimensions 1; lengths 4 each | if the element is |
| int2vector, oidvector | length 4, elements 5 each | yes |
| row types | per field 02 value or 03 (NULL) | if all fields are |
| jsonb | type tag, count 4 of containers, members; see ``encode_jsonb`` | no: dscale |

"Not restorable" means decoding gives a value that compares equal, but may print
differently: the row value must hold the column too.

A form is either *fixed* (a struct code and an expression that makes its argument, so
that neighbours share one ``Struct.pack``) or *varying* (an expression that makes
bytes).  Expressions are templates over the argument's name; the names they use are in
``NAMES``, or in the form's own ``names``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

from base import keyvalues as v
from base import types as t
from base.arrays import flatten_array, holds_tuple, is_composite, nest_array, storage_type
from base.errors import FeatureNotSupported, error
from base.generated import define_function
from base.keyjsonb import decode_jsonb, encode_jsonb
from base.types import PgType

VALUE: Final = b"\x02"
"""Tag before a value of something that can be NULL."""
ELEMENT_NULL: Final = b"\x03"
"""Tag of NULL inside arrays and rows, where NULL is above every value."""
ARRAY_END: Final = b"\x01"

Encoder = Callable[[Any], bytes]
Decoder = Callable[[bytes, int], "tuple[Any, int]"]
"""(buffer, position) to (value, position after it)."""

_UINT32 = struct.Struct(">I")


class ArrayForm:
    """Arrays of one element type: elements in storage order, then the shape, as array_cmp compares."""

    __slots__ = ("_decode_element", "_encode_element", "_scalar_tuple")

    def __init__(self, element: PgType) -> None:
        form = key_form(element)
        self._encode_element = form.encoder()
        self._decode_element = form.decoder()
        self._scalar_tuple = holds_tuple(element)

    def encode(self, value: tuple[Any, ...]) -> bytes:
        elements, lengths = flatten_array(value, self._scalar_tuple)
        encode = self._encode_element
        parts = [ELEMENT_NULL if element is None else VALUE + encode(element) for element in elements]
        return b"".join((*parts, ARRAY_END, bytes((len(lengths),)), *map(_UINT32.pack, lengths)))

    def decode(self, key: bytes, start: int) -> tuple[tuple[Any, ...], int]:
        elements: list[Any] = []
        while key[start] != ARRAY_END[0]:
            if key[start] == ELEMENT_NULL[0]:
                elements.append(None)
                start += 1
            else:
                element, start = self._decode_element(key, start + 1)
                elements.append(element)
        end = start + 2 + 4 * key[start + 1]
        lengths = [number for (number,) in _UINT32.iter_unpack(key[start + 2 : end])]
        return nest_array(elements, lengths), end


class CompositeArrayForm(ArrayForm):
    """Arrays of rows: always of one dimension, because a row is a tuple of anything."""

    __slots__ = ()

    def encode(self, value: tuple[Any, ...]) -> bytes:
        encode = self._encode_element
        parts = [ELEMENT_NULL if element is None else VALUE + encode(element) for element in value]
        shape = b"\x01" + _UINT32.pack(len(value)) if value else b"\x00"
        return b"".join((*parts, ARRAY_END, shape))


class RowForm:
    """Row types: field by field, NULL above every value (record_cmp)."""

    __slots__ = ("_forms",)

    def __init__(self, pg_type: PgType) -> None:
        if not pg_type.fields:
            raise FeatureNotSupported(f"index keys of type {pg_type.name}")
        self._forms = [(form.encoder(), form.decoder()) for form in (key_form(field) for _, field in pg_type.fields)]

    def encode(self, value: tuple[Any, ...]) -> bytes:
        assert len(value) == len(self._forms), f"{value!r} of {len(self._forms)} fields"
        forms = zip(value, self._forms)
        return b"".join([ELEMENT_NULL if field is None else VALUE + form[0](field) for field, form in forms])

    def decode(self, key: bytes, start: int) -> tuple[tuple[Any, ...], int]:
        fields: list[Any] = []
        for _, decode in self._forms:
            if key[start] == ELEMENT_NULL[0]:
                fields.append(None)
                start += 1
            else:
                field, start = decode(key, start + 1)
                fields.append(field)
        return tuple(fields), start


# --- the table of forms ----------------------------------------------------------


class KeyForm:
    """How one type is written in keys; see the module docstring."""

    __slots__ = (
        "_decoder",
        "_encoder",
        "ascending",
        "code",
        "descending",
        "names",
        "restorable",
        "restore",
        "restore_descending",
        "skip",
        "width",
    )

    def __init__(
        self,
        code: str,
        ascending: str,
        restore: str,
        restorable: bool = True,
        maximum: int | None = None,
        names: dict[str, Any] | None = None,
        skip: bool = False,
    ) -> None:
        self.code = code
        """struct code of a fixed form, "" of a varying one."""
        self.ascending = ascending
        """Template: argument of Struct.pack, or bytes."""
        self.restore = restore
        """Fixed: template over the unpacked object.  Varying: name of a Decoder."""
        self.restorable = restorable
        self.names = names or {}
        self.skip = skip
        """True if the form ends at the first TERMINATOR, so that skipping is a search."""
        self.width = struct.calcsize(">" + code)
        self._encoder: Encoder | None = None
        self._decoder: Decoder | None = None
        if maximum is None:
            self.descending = f"({ascending}).translate(key_INVERT)"
            self.restore_descending = restore.format("{0}.translate(key_INVERT)")
        else:
            self.descending = f"{maximum} - {ascending}"
            self.restore_descending = restore.format(f"({maximum} - {{0}})")

    @property
    def is_fixed(self) -> bool:
        return self.code != ""

    def encoder(self) -> Encoder:
        """Returns the function from a value to its ascending bytes."""
        if self._encoder is None:
            self._encoder = self._define_encoder()
        return self._encoder

    def _define_encoder(self) -> Encoder:
        names = NAMES | self.names
        if not self.is_fixed:
            return define_function("encode", "value", [f"return {self.ascending.format('value')}"], names)
        names["pack"] = struct.Struct(">" + self.code).pack
        return define_function("encode", "value", [f"return pack({self.ascending.format('value')})"], names)

    def decoder(self) -> Decoder:
        """Returns the function from ascending bytes to the value."""
        if self._decoder is None:
            self._decoder = self._define_decoder()
        return self._decoder

    def _define_decoder(self) -> Decoder:
        names = NAMES | self.names
        if not self.is_fixed:
            decode: Decoder = names[self.restore]
            return decode
        names["unpack"] = struct.Struct(">" + self.code).unpack_from
        body = ["raw, = unpack(key, start)", f"return {self.restore.format('raw')}, start + {self.width}"]
        return define_function("decode", "key, start", body, names)


def _signed(code: str, bits: int, restorable: bool = True) -> KeyForm:
    """Adding half the range flips the sign bit; struct refuses what is out of range."""
    form = KeyForm(code, f"{{0}} + {1 << bits - 1}", f"{{0}} - {1 << bits - 1}", restorable, (1 << bits) - 1)
    form.descending = f"{(1 << bits - 1) - 1} - {{0}}"
    form.restore_descending = f"{(1 << bits - 1) - 1} - {{0}}"
    return form


def _unsigned(code: str, bits: int) -> KeyForm:
    return KeyForm(code, "{0}", "{0}", maximum=(1 << bits) - 1)


def _terminated(expression: str, decoder: str, restorable: bool = True) -> KeyForm:
    ascending = expression + r".replace(b'\0', b'\0\xff') + b'\0\1'"
    return KeyForm("", ascending, decoder, restorable, skip=True)


_BOOL = KeyForm("B", "{0}", "{0} == 1", maximum=255)
_TEXT = _terminated("{0}.encode()", "key_decode_text")
_UINT4 = _unsigned("I", 32)
_UINT8 = _unsigned("Q", 64)
_INT8 = _signed("Q", 64)
_BITS = _terminated("{0}.encode()", "key_decode_text")

NAMES: Final[dict[str, Any]] = {
    "key_INVERT": v.INVERT,
    "key_float8_bits": v.float8_bits,
    "key_bits_float8": v.bits_float8,
    "key_float4_bits": v.float4_bits,
    "key_bits_float4": v.bits_float4,
    "key_interval_bytes": v.interval_bytes,
    "key_bytes_interval": v.bytes_interval,
    "key_timetz_bytes": v.timetz_bytes,
    "key_bytes_timetz": v.bytes_timetz,
    "key_decode_text": v.decode_text,
    "key_decode_bytes": v.decode_bytes,
    "key_encode_numeric": v.encode_numeric,
    "key_decode_numeric": v.decode_numeric,
    "key_encode_inet": v.encode_inet,
    "key_decode_inet": v.decode_inet,
    "key_decode_cidr": v.decode_cidr,
    "key_encode_vector": v.encode_vector,
    "key_decode_vector": v.decode_vector,
    "key_encode_jsonb": encode_jsonb,
    "key_decode_jsonb": decode_jsonb,
}
"""What the templates of the built-in forms refer to."""

_FORMS: Final[dict[int, KeyForm]] = {
    t.BOOL.oid: _BOOL,
    t.INT2.oid: _signed("H", 16),
    t.INT4.oid: _signed("I", 32),
    t.DATE.oid: _signed("I", 32),
    t.OID.oid: _UINT4,
    t.XID.oid: _UINT4,
    t.CID.oid: _UINT4,
    t.REGPROC.oid: _UINT4,
    t.REGPROCEDURE.oid: _UINT4,
    t.REGOPER.oid: _UINT4,
    t.REGOPERATOR.oid: _UINT4,
    t.REGCLASS.oid: _UINT4,
    t.REGTYPE.oid: _UINT4,
    t.REGROLE.oid: _UINT4,
    t.REGNAMESPACE.oid: _UINT4,
    t.REGCOLLATION.oid: _UINT4,
    t.REGCONFIG.oid: _UINT4,
    t.REGDICTIONARY.oid: _UINT4,
    t.INT8.oid: _INT8,
    t.MONEY.oid: _INT8,
    t.TIME.oid: _INT8,
    t.TIMESTAMP.oid: _INT8,
    t.TIMESTAMPTZ.oid: _INT8,
    t.XID8.oid: _UINT8,
    t.PG_LSN.oid: _UINT8,
    t.FLOAT4.oid: KeyForm("I", "key_float4_bits({0})", "key_bits_float4({0})", False, (1 << 32) - 1),
    t.FLOAT8.oid: KeyForm("Q", "key_float8_bits({0})", "key_bits_float8({0})", False, (1 << 64) - 1),
    t.UUID.oid: KeyForm("16s", "{0}", "{0}"),
    t.INTERVAL.oid: KeyForm("12s", "key_interval_bytes({0})", "key_bytes_interval({0})", False),
    t.TIMETZ.oid: KeyForm("12s", "key_timetz_bytes({0})", "key_bytes_timetz({0})"),
    t.TEXT.oid: _TEXT,
    t.VARCHAR.oid: _TEXT,
    t.NAME.oid: _TEXT,
    t.CHAR.oid: _TEXT,
    t.BPCHAR.oid: _terminated("{0}.rstrip(' ').encode()", "key_decode_text", False),
    t.BYTEA.oid: _terminated("{0}", "key_decode_bytes"),
    t.BIT.oid: _BITS,
    t.VARBIT.oid: _BITS,
    t.NUMERIC.oid: KeyForm("", "key_encode_numeric({0})", "key_decode_numeric", False),
    t.INET.oid: KeyForm("", "key_encode_inet({0})", "key_decode_inet", False),
    t.CIDR.oid: KeyForm("", "key_encode_inet({0})", "key_decode_cidr", False),
    t.OIDVECTOR.oid: KeyForm("", "key_encode_vector({0})", "key_decode_vector"),
    t.INT2VECTOR.oid: KeyForm("", "key_encode_vector({0})", "key_decode_vector"),
    t.JSONB.oid: KeyForm("", "key_encode_jsonb({0})", "key_decode_jsonb", False),
}


def key_form(pg_type: PgType) -> KeyForm:
    """Returns the form of a type; SqlError 42704 if PostgreSQL does not order it."""
    pg_type = storage_type(pg_type)
    form = _FORMS.get(pg_type.oid)
    if form is not None:
        return form
    if pg_type.kind == "e":
        return _enum_form(pg_type)
    if pg_type.is_array and pg_type.elem is not None:
        return _array_form(pg_type, pg_type.elem)
    if is_composite(pg_type):
        return _row_form(pg_type)
    raise error(
        "42704",
        f'data type {pg_type.name} has no default operator class for access method "btree"',
        hint="You must specify an operator class for the index or define a default operator class for the data type.",
    )


def _enum_form(pg_type: PgType) -> KeyForm:
    physical, label = f"key_physical_{pg_type.oid}", f"key_label_{pg_type.oid}"
    form = _signed("I", 32)
    names = {physical: pg_type.enum_physical, label: v.EnumLabels(pg_type).label}
    enum = KeyForm("I", form.ascending.format(f"{physical}[{{0}}]"), f"{label}({form.restore})", names=names)
    enum.descending = form.descending.format(f"{physical}[{{0}}]")
    enum.restore_descending = f"{label}({form.restore_descending})"
    return enum


def _array_form(pg_type: PgType, element: PgType) -> KeyForm:
    codec = CompositeArrayForm(element) if is_composite(element) else ArrayForm(element)
    encode, decode = f"key_encode_{pg_type.oid}", f"key_decode_{pg_type.oid}"
    names = {encode: codec.encode, decode: codec.decode}
    return KeyForm("", f"{encode}({{0}})", decode, key_form(element).restorable, names=names)


def _row_form(pg_type: PgType) -> KeyForm:
    codec = RowForm(pg_type)
    encode, decode = f"key_encode_{pg_type.oid}", f"key_decode_{pg_type.oid}"
    restorable = all(key_form(field).restorable for _, field in pg_type.fields)
    return KeyForm("", f"{encode}({{0}})", decode, restorable, names={encode: codec.encode, decode: codec.decode})
