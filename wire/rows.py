"""DataRow encoders, generated for a result's types and formats.

    | 'D' | length 4 | columns 2 | for each: length 4 (-1 NULL), bytes |

One function per combination, unrolled over the columns: constants go in through the namespace.
A compiled plan writes the same into its own loop (``DataRowFormat``).

A field's source is either *framed*, its length included, or the bytes alone.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

from base.errors import SqlError
from base.generated import define_function
from base.typeio import IoSettings, binary_encoder, text_encoder
from base.types import PgType
from planner.exec.fast import FieldSource, RowFormat
from sql.api import RowEncoder
from wire.lengths import FIRST_FIELDS, LENGTHS

ENCODERS_MAX: Final = 10_000
Shape = tuple[tuple[int, ...], tuple[int, ...], IoSettings]
_cache: dict[Shape, tuple[tuple[PgType, ...], RowEncoder]] = {}
_formats: dict[Shape, tuple[tuple[PgType, ...], RowFormat]] = {}
NULL: Final = b"\xff\xff\xff\xff"
BOOL_TEXT: Final = (b"\0\0\0\x01f", b"\0\0\0\x01t")


def row_encoder(types: Sequence[PgType], formats: Sequence[int], settings: IoSettings) -> RowEncoder:
    """Returns the (cached) encoder; ``formats`` as in Bind."""
    codes = tuple(formats) if len(formats) == len(types) else (formats[0] if formats else 0,) * len(types)
    key = (tuple([t.oid for t in types]), codes, settings)
    found = _cache.get(key)
    # An OID alone does not tell a type: all records share one, and a type made by the catalog changes.
    if found is not None and all([made is pg_type for made, pg_type in zip(found[0], types)]):
        return found[1]
    if len(_cache) >= ENCODERS_MAX:
        _cache.clear()
    encoder = make_encoder(types, codes, settings)
    _cache[key] = (tuple(types), encoder)
    return encoder


def row_format(types: Sequence[PgType], formats: Sequence[int], settings: IoSettings) -> RowFormat:
    """Returns the (cached) form for compiled plans; ``formats`` as in Bind."""
    codes = tuple(formats) if len(formats) == len(types) else (formats[0] if formats else 0,) * len(types)
    key = (tuple([t.oid for t in types]), codes, settings)
    found = _formats.get(key)
    if found is not None and all([made is pg_type for made, pg_type in zip(found[0], types)]):
        return found[1]
    if len(_formats) >= ENCODERS_MAX:
        _formats.clear()
    made = DataRowFormat(types, codes, settings)
    _formats[key] = (tuple(types), made)
    return made


def make_encoder(types: Sequence[PgType], codes: Sequence[int], settings: IoSettings) -> RowEncoder:
    """Generates the encoder of one row shape."""
    namespace: dict[str, Any] = {
        "null": NULL,
        "length": struct.Struct("!i").pack,
        "head": struct.Struct("!cih").pack,
        "count": len(types),
    }
    lines = [f"{''.join(f'v{i}, ' for i in range(len(types)))} = row" if types else "pass"]
    parts = []
    for i, (pg_type, code) in enumerate(zip(types, codes)):
        source, is_framed = _field(f"v{i}", False, pg_type, code, settings, namespace, "")
        lines.append(f"if v{i} is None: v{i} = null")
        if is_framed:
            lines.append(f"else: v{i} = {source}")
        else:
            lines += ["else:", f"    v{i} = {source}", f"    v{i} = length(len(v{i})) + v{i}"]
        parts.append(f"v{i}")
    body = " + ".join(parts) if parts else "b''"
    lines.append(f"body = {body}")
    lines.append("return head(b'D', len(body) + 6, count) + body")
    return define_function("encode_row", "row", lines, namespace)


class DataRowFormat(RowFormat):
    """DataRow messages, for a plan's own loop."""

    def __init__(self, types: Sequence[PgType], codes: Sequence[int], settings: IoSettings) -> None:
        self._types = types
        self._codes = codes
        self._settings = settings

    def takes_stored(self, column: int) -> bool:
        return self._types[column].name in _TEXT_TYPES

    def source(self, fields: Sequence[FieldSource], namespace: dict[str, Any]) -> tuple[list[str], list[str]]:
        namespace["w_null"] = NULL
        namespace["w_lengths"] = LENGTHS
        lines: list[str] = []
        pieces: list[str] = []
        sizes = [6]
        lengths: list[str] = []
        for i, field in enumerate(fields):
            source, is_framed = _field(
                field.variable, field.is_stored, self._types[i], self._codes[i], self._settings, namespace, "w_"
            )
            is_framed = self._add_field(f"w{i}", field, source, is_framed, lines)
            if not is_framed:
                sizes[0] += 4
                pieces.append(f"w_lengths[len(w{i})]")
            pieces.append(f"w{i}")
            lengths.append(f"len(w{i})")
        return lines, self._with_head(pieces, f"{sizes[0]} + {' + '.join(lengths)}" if lengths else "6", namespace)

    def _add_field(self, name: str, field: FieldSource, source: str, is_framed: bool, lines: list[str]) -> bool:
        """Assigns a field to a variable, framed if it may be NULL; returns whether it is."""
        if not field.nullable:
            lines.append(f"{name} = {source}")
            return is_framed
        lines += [f"if {field.variable} is None:", f"    {name} = w_null", "else:", f"    {name} = {source}"]
        if not is_framed:
            lines.append(f"    {name} = w_lengths[len({name})] + {name}")
        return True

    def _with_head(self, pieces: list[str], size: str, namespace: dict[str, Any]) -> list[str]:
        if pieces == ["w_lengths[len(w0)]", "w0"]:
            # One text: what stands before it depends on its length alone.
            namespace["w_first"] = FIRST_FIELDS
            return ["w_first[len(w0)]", "w0"]
        namespace["w_head"] = struct.Struct("!cih").pack
        return [f"w_head(b'D', {size}, {len(self._types)})", *pieces]


def _field(
    variable: str,
    is_stored: bool,
    pg_type: PgType,
    code: int,
    settings: IoSettings,
    namespace: dict[str, Any],
    local: str,
) -> tuple[str, bool]:
    """Returns the source of a field that is not NULL, and whether it is framed."""
    if code not in (0, 1):
        raise SqlError(f"unsupported format code: {code}", sqlstate="22023")
    name = pg_type.name
    if code == 1 and name in _FIXED_BINARY:
        width, fmt = _FIXED_BINARY[name]
        namespace[f"{local}pack_{name}"] = struct.Struct(f"!i{fmt}").pack
        return f"{local}pack_{name}({width}, {variable})", True
    if code == 0 and name in ("int2", "int4", "int8", "oid"):
        return f"b'%d' % {variable}", False
    if code == 0 and name == "bool":
        namespace[f"{local}bools"] = BOOL_TEXT
        return f"{local}bools[{variable}]", True
    if name in _TEXT_TYPES:
        return (variable if is_stored else f"{variable}.encode()"), False
    encode: Callable[[Any], bytes] = binary_encoder(pg_type) if code else text_encoder(pg_type, settings)
    encoder = f"{local}encode{len(namespace)}"
    namespace[encoder] = encode
    return f"{encoder}({variable})", False


_TEXT_TYPES: Final = ("text", "varchar", "name", "bpchar")
"""Text and binary format are the bytes of the text."""
_FIXED_BINARY: Final = {
    "int2": (2, "h"), "int4": (4, "i"), "int8": (8, "q"), "oid": (4, "I"), "float8": (8, "d"), "float4": (4, "f"), "bool": (1, "?"),
    "date": (4, "i"), "timestamp": (8, "q"), "timestamptz": (8, "q"), "time": (8, "q"),
}  # fmt: skip
