"""Which functions read and print a type: one table per direction, and the composition of arrays and records.

A ``parse`` takes str, a ``render`` gives str, ``encode`` gives the bytes of the text form, ``decode``
takes them; ``send`` and ``receive`` are the binary form.  NULL never comes here.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from base import types as t
from base.errors import MeridianError, error
from base.typeio import (
    arrays,
    bits,
    datetime,
    floats,
    integers,
    interval,
    json,
    jsonpath,
    misc,
    network,
    numeric,
    records,
    text,
)
from base.typeio.settings import IoSettings, NowUs, no_time
from base.typeio.typmods import apply_typmod, has_typmod, type_name
from base.types import BY_OID, PgType

Parse = Callable[[str], Any]
Render = Callable[[Any], str]
Encode = Callable[[Any], bytes]
Decode = Callable[[bytes], Any]

CODECS_CACHED_MAX: Final = 2048
_DEFAULTS: Final = IoSettings()

_STRINGS: Final = (t.TEXT, t.VARCHAR, t.BPCHAR, t.XML, t.PG_NODE_TREE, t.UNKNOWN, t.ACLITEM, t.REFCURSOR, t.CSTRING)
_REGS: Final = (
    t.REGPROC, t.REGPROCEDURE, t.REGOPER, t.REGOPERATOR, t.REGCLASS, t.REGTYPE, t.REGROLE, t.REGNAMESPACE,
    t.REGCOLLATION, t.REGCONFIG, t.REGDICTIONARY,
)  # fmt: skip
_REG_OIDS: Final = tuple([reg.oid for reg in _REGS])

_PARSE: Final[dict[int, Parse]] = {
    **{string.oid: text.same_text for string in _STRINGS},
    t.BOOL.oid: text.parse_bool, t.INT2.oid: integers.parse_int2, t.INT4.oid: integers.parse_int4, t.INT8.oid: integers.parse_int8,
    t.OID.oid: integers.parse_oid, t.XID.oid: integers.parse_xid, t.CID.oid: integers.parse_xid, t.XID8.oid: integers.parse_xid8,
    t.FLOAT4.oid: floats.parse_float4, t.FLOAT8.oid: floats.parse_float8, t.NUMERIC.oid: numeric.parse_numeric,
    t.NAME.oid: text.parse_name, t.CHAR.oid: text.parse_char, t.BYTEA.oid: text.parse_bytea, t.UUID.oid: misc.parse_uuid,
    t.MONEY.oid: misc.parse_money, t.PG_LSN.oid: misc.parse_lsn, t.TID.oid: misc.parse_tid, t.BIT.oid: bits.parse_bits,
    t.VARBIT.oid: bits.parse_bits, t.INET.oid: network.parse_inet, t.CIDR.oid: network.parse_cidr, t.JSON.oid: json.parse_json,
    t.JSONB.oid: json.parse_jsonb, t.JSONPATH.oid: jsonpath.parse_jsonpath, t.INT2VECTOR.oid: arrays.vector_parser(False), t.OIDVECTOR.oid: arrays.vector_parser(True),
}  # fmt: skip
_RENDER: Final[dict[int, Render]] = {
    **{string.oid: text.same_text for string in _STRINGS},
    **dict.fromkeys((t.INT2.oid, t.INT4.oid, t.INT8.oid, t.OID.oid, t.XID.oid, t.CID.oid, t.XID8.oid), str),
    t.BOOL.oid: text.render_bool, t.NUMERIC.oid: numeric.render_numeric, t.NAME.oid: text.same_text, t.CHAR.oid: text.render_char,
    t.UUID.oid: misc.render_uuid, t.MONEY.oid: misc.render_money, t.PG_LSN.oid: misc.render_lsn, t.TID.oid: text.same_text,
    t.BIT.oid: text.same_text, t.VARBIT.oid: text.same_text, t.INET.oid: text.same_text, t.CIDR.oid: text.same_text,
    t.JSON.oid: text.same_text, t.JSONB.oid: text.same_text, t.JSONPATH.oid: text.same_text, t.VOID.oid: text.same_text, t.INT2VECTOR.oid: arrays.render_vector,
    t.OIDVECTOR.oid: arrays.render_vector, t.TIME.oid: datetime.time_text, t.TIMETZ.oid: datetime.render_timetz,
}  # fmt: skip
_ENCODE: Final[dict[int, Encode]] = {
    **dict.fromkeys((t.INT2.oid, t.INT4.oid, t.INT8.oid, t.OID.oid, t.XID.oid, t.CID.oid, t.XID8.oid), integers.encode_int),
    **dict.fromkeys([string.oid for string in (*_STRINGS, t.NAME, t.JSON, t.JSONB, t.JSONPATH, t.VOID)], str.encode),
    t.BOOL.oid: text.encode_bool, t.NUMERIC.oid: numeric.encode_numeric,
}  # fmt: skip
_DECODE: Final[dict[int, Decode]] = {
    **{string.oid: text.decode_utf8 for string in _STRINGS},
    t.INT2.oid: integers.decode_int2, t.INT4.oid: integers.decode_int4, t.INT8.oid: integers.decode_int8,
}  # fmt: skip
_SEND: Final[dict[int, Encode]] = {
    **dict.fromkeys([string.oid for string in (*_STRINGS, t.NAME, t.JSON, t.VOID)], str.encode),
    **dict.fromkeys((t.OID.oid, t.XID.oid, t.CID.oid, *_REG_OIDS), integers.send_oid),
    **dict.fromkeys((t.INT8.oid, t.MONEY.oid, t.TIME.oid, t.TIMESTAMP.oid, t.TIMESTAMPTZ.oid), integers.send_int8),
    t.BOOL.oid: text.send_bool, t.INT2.oid: integers.send_int2, t.INT4.oid: integers.send_int4, t.DATE.oid: integers.send_int4,
    t.PG_LSN.oid: integers.send_uint8, t.XID8.oid: integers.send_uint8, t.FLOAT4.oid: floats.send_float4, t.FLOAT8.oid: floats.send_float8,
    t.NUMERIC.oid: numeric.send_numeric, t.CHAR.oid: text.send_char, t.BYTEA.oid: text.same_bytes, t.UUID.oid: text.same_bytes,
    t.TID.oid: misc.send_tid, t.BIT.oid: bits.send_bits, t.VARBIT.oid: bits.send_bits, t.INET.oid: network.send_inet,
    t.CIDR.oid: network.send_cidr, t.JSONB.oid: json.send_jsonb, t.JSONPATH.oid: json.send_jsonb, t.TIMETZ.oid: datetime.send_timetz,
    t.INTERVAL.oid: interval.send_interval,
    t.INT2VECTOR.oid: arrays.vector_sender(integers.send_int2, t.INT2), t.OIDVECTOR.oid: arrays.vector_sender(integers.send_oid, t.OID),
}  # fmt: skip


def _receive_name(data: bytes) -> str:
    return text.parse_name(text.decode_utf8(data))


def _receive_json(data: bytes) -> str:
    return json.parse_json(text.decode_utf8(data))


def _receive_jsonb(data: bytes) -> str:
    return json.receive_jsonb(text.decode_utf8(data[1:]), data)


def _receive_jsonpath(data: bytes) -> str:
    if data[:1] != b"\x01":
        raise error("XX000", f"unsupported jsonpath version number: {data[0] if data else 0}")
    return jsonpath.parse_jsonpath(text.decode_utf8(data[1:]))


_RECEIVE: Final[dict[int, Decode]] = {
    **{string.oid: text.decode_utf8 for string in _STRINGS},
    **dict.fromkeys((t.OID.oid, t.XID.oid, t.CID.oid, *_REG_OIDS), integers.receive_oid),
    **dict.fromkeys((t.INT8.oid, t.MONEY.oid), integers.receive_int8),
    **dict.fromkeys((t.TIMESTAMP.oid, t.TIMESTAMPTZ.oid), datetime.receive_timestamp),
    t.BOOL.oid: text.receive_bool, t.INT2.oid: integers.receive_int2, t.INT4.oid: integers.receive_int4, t.DATE.oid: datetime.receive_date,
    t.TIME.oid: datetime.receive_time, t.PG_LSN.oid: integers.receive_uint8, t.XID8.oid: integers.receive_uint8,
    t.FLOAT4.oid: floats.receive_float4, t.FLOAT8.oid: floats.receive_float8, t.NUMERIC.oid: numeric.receive_numeric,
    t.NAME.oid: _receive_name, t.CHAR.oid: text.receive_char, t.BYTEA.oid: text.same_bytes, t.UUID.oid: misc.receive_uuid,
    t.TID.oid: misc.receive_tid, t.BIT.oid: bits.receive_bits, t.VARBIT.oid: bits.receive_bits, t.INET.oid: network.receive_inet,
    t.CIDR.oid: network.receive_cidr, t.JSON.oid: _receive_json, t.JSONB.oid: _receive_jsonb, t.JSONPATH.oid: _receive_jsonpath, t.TIMETZ.oid: datetime.receive_timetz,
    t.INTERVAL.oid: interval.receive_interval,
    t.INT2VECTOR.oid: arrays.array_receiver(integers.receive_int2, t.INT2, "smallint", 0),
    t.OIDVECTOR.oid: arrays.array_receiver(integers.receive_oid, t.OID, "oid", 0),
}  # fmt: skip

_CLOCK_TYPES: Final = (t.DATE.oid, t.TIME.oid, t.TIMETZ.oid, t.TIMESTAMP.oid, t.TIMESTAMPTZ.oid)
_PLAIN_ITEMS: Final = frozenset(
    (t.INT2.oid, t.INT4.oid, t.INT8.oid, t.OID.oid, t.BOOL.oid, t.FLOAT4.oid, t.FLOAT8.oid, t.NUMERIC.oid, t.UUID.oid)
)
"""Types whose text never needs quotes in an array."""


def _is_builtin(pg_type: PgType) -> bool:
    """Types made by the catalog change (enum labels) and share OIDs (records): their codecs are never cached."""
    return BY_OID.get(pg_type.oid) is pg_type


def _reads_clock(pg_type: PgType) -> bool:
    """True for the types that know 'now', and arrays of them."""
    element = pg_type.elem if pg_type.elem is not None else pg_type
    return element.oid in _CLOCK_TYPES


def _no_input(pg_type: PgType) -> MeridianError:
    if pg_type.oid == t.RECORD.oid:
        return error("0A000", "input of anonymous composite types is not implemented")
    return error("0A000", f"cannot accept a value of type {type_name(pg_type)}")


def _no_output(pg_type: PgType) -> MeridianError:
    return error("0A000", f"cannot display a value of type {type_name(pg_type)}")


# --- text input -----------------------------------------------------------------------------


def text_parser(pg_type: PgType, typmod: int, settings: IoSettings, now_us: NowUs = no_time) -> Parse:
    """Returns the reader of a type's text; ``now_us`` gives 'now' and 'today' their time."""
    if _is_builtin(pg_type) and (now_us is no_time or not _reads_clock(pg_type)):
        return _cached_parser(pg_type, typmod, settings)
    return _build_parser(pg_type, typmod, settings, now_us)


@lru_cache(maxsize=CODECS_CACHED_MAX)
def _cached_parser(pg_type: PgType, typmod: int, settings: IoSettings) -> Parse:
    return _build_parser(pg_type, typmod, settings, no_time)


def _build_parser(pg_type: PgType, typmod: int, settings: IoSettings, now_us: NowUs) -> Parse:
    if pg_type.kind == "d" and pg_type.base is not None:
        return _build_parser(pg_type.base, typmod, settings, now_us)
    if pg_type.is_array and pg_type.elem is not None:
        element = pg_type.elem
        return arrays.array_parser(_build_parser(element, typmod, settings, now_us), element.delimiter)
    if pg_type.kind == "e":
        return _enum_parser(pg_type)
    if pg_type.kind == "c":
        return records.record_parser([_build_parser(field, -1, settings, now_us) for _, field in pg_type.fields])
    if pg_type.oid == t.NUMERIC.oid and typmod >= 0:
        return lambda value: numeric.parse_numeric(value, typmod)
    parse = _settings_parser(pg_type, typmod, settings, now_us) or _PARSE.get(pg_type.oid)
    if parse is None:
        raise _no_input(pg_type)
    return _with_typmod(parse, pg_type, typmod) if typmod >= 0 and has_typmod(pg_type) else parse


def _settings_parser(pg_type: PgType, typmod: int, settings: IoSettings, now_us: NowUs) -> Parse | None:
    oid = pg_type.oid
    if oid == t.TIMESTAMPTZ.oid or oid == t.TIMESTAMP.oid:
        return datetime.timestamp_parser(settings, now_us, oid == t.TIMESTAMPTZ.oid)
    if oid == t.DATE.oid:
        return datetime.date_parser(settings, now_us)
    if oid == t.TIME.oid:
        return datetime.time_parser(settings, now_us)
    if oid == t.TIMETZ.oid:
        return datetime.timetz_parser(settings, now_us)
    if oid == t.INTERVAL.oid:
        return interval.interval_parser(settings, typmod)
    if oid in _REG_OIDS:
        return misc.reg_parser(oid, pg_type.name, settings.regs)
    return None


def _with_typmod(parse: Parse, pg_type: PgType, typmod: int) -> Parse:
    def parse_and_fit(value: str) -> Any:
        return apply_typmod(pg_type, typmod, parse(value), False)

    return parse_and_fit


def _enum_parser(pg_type: PgType) -> Parse:
    labels = dict.fromkeys(pg_type.enum_labels)

    def parse(value: str) -> str:
        if value not in labels:
            raise error("22P02", f'invalid input value for enum {pg_type.name}: "{value}"')
        return value

    return parse


def text_decoder(pg_type: PgType, typmod: int, settings: IoSettings, now_us: NowUs = no_time) -> Decode:
    """Returns the reader of a type's text as bytes; raises 22021 for bytes that are no UTF-8."""
    if _is_builtin(pg_type) and (now_us is no_time or not _reads_clock(pg_type)):
        return _cached_decoder(pg_type, typmod, settings)
    return _build_decoder(pg_type, typmod, text_parser(pg_type, typmod, settings, now_us))


@lru_cache(maxsize=CODECS_CACHED_MAX)
def _cached_decoder(pg_type: PgType, typmod: int, settings: IoSettings) -> Decode:
    return _build_decoder(pg_type, typmod, text_parser(pg_type, typmod, settings))


def _build_decoder(pg_type: PgType, typmod: int, parse: Parse) -> Decode:
    if typmod < 0:
        direct = _DECODE.get(pg_type.oid)
        if direct is not None:
            return direct

    def decode(data: bytes) -> Any:
        return parse(text.decode_utf8(data))

    return decode


# --- text output ----------------------------------------------------------------------------


def text_renderer(pg_type: PgType, settings: IoSettings) -> Render:
    """Returns the printer of a type's text."""
    if _is_builtin(pg_type):
        return _cached_renderer(pg_type, settings)
    return _build_renderer(pg_type, settings)


@lru_cache(maxsize=CODECS_CACHED_MAX)
def _cached_renderer(pg_type: PgType, settings: IoSettings) -> Render:
    return _build_renderer(pg_type, settings)


def _build_renderer(pg_type: PgType, settings: IoSettings) -> Render:
    if pg_type.kind == "d" and pg_type.base is not None:
        return _build_renderer(pg_type.base, settings)
    if pg_type.is_array and pg_type.elem is not None:
        element = pg_type.elem
        return arrays.array_renderer(
            _build_renderer(element, settings), element, element.delimiter, element.oid in _PLAIN_ITEMS
        )
    if pg_type.kind == "e":
        return text.same_text
    if pg_type.kind == "c" or (pg_type.oid == t.RECORD.oid and pg_type.fields):
        return records.record_renderer([_build_renderer(field, settings) for _, field in pg_type.fields])
    if pg_type.oid == t.RECORD.oid:
        return lambda value: _render_untyped(value, settings)
    render = _RENDER.get(pg_type.oid) or _settings_renderer(pg_type, settings)
    if render is None:
        raise _no_output(pg_type)
    return render


def _settings_renderer(pg_type: PgType, settings: IoSettings) -> Render | None:
    oid = pg_type.oid
    if oid == t.TIMESTAMPTZ.oid or oid == t.TIMESTAMP.oid:
        return datetime.timestamp_printer(settings, oid == t.TIMESTAMPTZ.oid).render
    if oid == t.DATE.oid:
        return datetime.date_renderer(settings)
    if oid == t.FLOAT8.oid or oid == t.FLOAT4.oid:
        return floats.float_renderer(oid == t.FLOAT4.oid, settings.extra_float_digits)
    if oid == t.BYTEA.oid:
        return text.bytea_renderer(settings.bytea_output)
    if oid == t.INTERVAL.oid:
        return interval.interval_renderer(settings)
    if oid in _REG_OIDS:
        return misc.reg_renderer(oid, settings.regs)
    return None


def _render_untyped(value: tuple[Any, ...], settings: IoSettings) -> str:
    """A record whose field types nobody knows any more; each value is printed by its Python class."""
    parts: list[str] = []
    for item in value:
        if item is None:
            parts.append("")
            continue
        guessed = _GUESSES.get(item.__class__)
        shown = text_renderer(guessed, settings)(item) if guessed is not None else str(item)
        parts.append(records.quote_field(shown))
    return "(" + ",".join(parts) + ")"


_GUESSES: Final[dict[type, PgType]] = {
    bool: t.BOOL,
    float: t.FLOAT8,
    Decimal: t.NUMERIC,
    bytes: t.BYTEA,
    tuple: t.RECORD,
}


def text_encoder(pg_type: PgType, settings: IoSettings) -> Encode:
    """Returns the printer of a type's text as bytes: what a DataRow holds."""
    if _is_builtin(pg_type):
        return _cached_encoder(pg_type, settings)
    return _build_encoder(pg_type, settings)


@lru_cache(maxsize=CODECS_CACHED_MAX)
def _cached_encoder(pg_type: PgType, settings: IoSettings) -> Encode:
    return _build_encoder(pg_type, settings)


def _build_encoder(pg_type: PgType, settings: IoSettings) -> Encode:
    oid = pg_type.oid
    direct = _ENCODE.get(oid)
    if direct is not None:
        return direct
    if oid == t.TIMESTAMPTZ.oid or oid == t.TIMESTAMP.oid:
        return datetime.timestamp_printer(settings, oid == t.TIMESTAMPTZ.oid).encode
    if oid == t.BYTEA.oid and settings.bytea_output == "hex":
        return text.encode_bytea_hex
    if pg_type.kind == "e":
        return str.encode
    if oid == t.ANYARRAY.oid:
        return _refuse_anyarray
    render = text_renderer(pg_type, settings)

    def encode(value: Any) -> bytes:
        return render(value).encode()

    return encode


# --- binary ---------------------------------------------------------------------------------


def _refuse_anyarray(value: Any) -> bytes:
    """Catalog columns have this type (pg_attribute.attmissingval); only their NULLs can be shown."""
    raise _no_output(t.ANYARRAY)


def binary_encoder(pg_type: PgType) -> Encode:
    """Returns the sender of a type's binary form."""
    direct = _SEND.get(pg_type.oid)
    if direct is not None:
        return direct
    if pg_type.kind == "d" and pg_type.base is not None:
        return binary_encoder(pg_type.base)
    if pg_type.is_array and pg_type.elem is not None:
        return arrays.array_sender(binary_encoder(pg_type.elem), pg_type.elem)
    if pg_type.kind == "e":
        return str.encode
    if pg_type.kind == "c" or (pg_type.oid == t.RECORD.oid and pg_type.fields):
        return records.record_sender([(field.oid, binary_encoder(field)) for _, field in pg_type.fields])
    if pg_type.oid == t.RECORD.oid:
        return _send_untyped
    raise error("42883", f"no binary output function available for type {type_name(pg_type)}")


def _send_untyped(value: tuple[Any, ...]) -> bytes:
    """As ``_render_untyped``; what has no obvious class is sent as text."""
    fields: list[tuple[int, Encode]] = []
    for item in value:
        guessed = _GUESSES.get(item.__class__)
        if guessed is None:
            guessed = t.INT8 if item.__class__ is int else t.TEXT
        fields.append((guessed.oid, binary_encoder(guessed)))
    return records.record_sender(fields)(value)


def binary_decoder(pg_type: PgType, typmod: int = -1) -> Decode:
    """Returns the receiver of a type's binary form; it checks everything it is told by the client."""
    receive = _find_receiver(pg_type)
    if typmod < 0:
        return receive

    def receive_and_fit(data: bytes) -> Any:
        return apply_typmod(pg_type, typmod, receive(data), False)

    return receive_and_fit


def _find_receiver(pg_type: PgType) -> Decode:
    direct = _RECEIVE.get(pg_type.oid)
    if direct is not None:
        return direct
    if pg_type.kind == "d" and pg_type.base is not None:
        return _find_receiver(pg_type.base)
    if pg_type.is_array and pg_type.elem is not None:
        return arrays.array_receiver(_find_receiver(pg_type.elem), pg_type.elem, type_name(pg_type.elem))
    if pg_type.kind == "e":
        parse = _enum_parser(pg_type)
        return lambda data: parse(text.decode_utf8(data))
    if pg_type.kind == "c":
        return records.record_receiver(
            [(field.oid, type_name(field), _find_receiver(field)) for _, field in pg_type.fields]
        )
    if pg_type.oid == t.RECORD.oid:
        raise _no_input(pg_type)
    raise error("42883", f"no binary input function available for type {type_name(pg_type)}")


# --- one value ------------------------------------------------------------------------------


def text_in(pg_type: PgType, typmod: int, value: str, settings: IoSettings = _DEFAULTS, now_us: NowUs = no_time) -> Any:
    """Reads one value; a typmod is applied as an assignment does."""
    return text_parser(pg_type, typmod, settings, now_us)(value)


def text_out(pg_type: PgType, datum: Any, settings: IoSettings = _DEFAULTS) -> str:
    """Prints one value."""
    return text_renderer(pg_type, settings)(datum)
