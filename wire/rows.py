"""DataRow encoders, generated for a result's types and formats.

    | 'D' | length 4 | columns 2 | for each: length 4 (-1 NULL), bytes |

One function per combination, unrolled over the columns: constants go in through the namespace.

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
from sql.api import RowEncoder

ENCODERS_MAX: Final = 10_000
_cache: dict[tuple[tuple[int, ...], tuple[int, ...], IoSettings], tuple[tuple[PgType, ...], RowEncoder]] = {}
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
        if code not in (0, 1):
            raise SqlError(f"unsupported format code: {code}", sqlstate="22023")
        lines.append(f"if v{i} is None: v{i} = null")
        lines.extend(_value_lines(i, pg_type, code, settings, namespace))
        parts.append(f"v{i}")
    body = " + ".join(parts) if parts else "b''"
    lines.append(f"body = {body}")
    lines.append("return head(b'D', len(body) + 6, count) + body")
    return define_function("encode_row", "row", lines, namespace)


def _value_lines(i: int, pg_type: PgType, code: int, settings: IoSettings, namespace: dict[str, Any]) -> list[str]:
    if code == 1 and pg_type.name in _FIXED_BINARY:
        width, fmt = _FIXED_BINARY[pg_type.name]
        namespace[f"pack_{pg_type.name}"] = struct.Struct(f"!i{fmt}").pack
        return [f"else: v{i} = pack_{pg_type.name}({width}, v{i})"]
    if code == 0 and pg_type.name in ("int2", "int4", "int8", "oid"):
        return ["else:", f"    v{i} = b'%d' % v{i}", f"    v{i} = length(len(v{i})) + v{i}"]
    if code == 0 and pg_type.name == "bool":
        namespace["bools"] = BOOL_TEXT
        return [f"else: v{i} = bools[v{i}]"]
    if pg_type.name in ("text", "varchar", "name", "bpchar"):
        return ["else:", f"    v{i} = v{i}.encode()", f"    v{i} = length(len(v{i})) + v{i}"]
    encode: Callable[[Any], bytes] = binary_encoder(pg_type) if code else text_encoder(pg_type, settings)
    namespace[f"encode{i}"] = encode
    return ["else:", f"    v{i} = encode{i}(v{i})", f"    v{i} = length(len(v{i})) + v{i}"]


_FIXED_BINARY: Final = {
    "int2": (2, "h"), "int4": (4, "i"), "int8": (8, "q"), "oid": (4, "I"), "float8": (8, "d"), "float4": (4, "f"), "bool": (1, "?"),
    "date": (4, "i"), "timestamp": (8, "q"), "timestamptz": (8, "q"), "time": (8, "q"),
}  # fmt: skip
