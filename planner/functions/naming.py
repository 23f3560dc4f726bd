"""SQL spellings of types for messages: ``integer``, ``timestamp with time zone``, ``text[]``."""

from __future__ import annotations

from typing import Final

from base.types import PgType

_SPELLINGS: Final = {
    "bool": "boolean", "int2": "smallint", "int4": "integer", "int8": "bigint", "float4": "real", "float8": "double precision",
    "varchar": "character varying", "bpchar": "character", "timestamp": "timestamp without time zone", "timestamptz": "timestamp with time zone",
    "time": "time without time zone", "timetz": "time with time zone", "varbit": "bit varying", "char": '"char"', "any": '"any"',
}  # fmt: skip


def type_name(pg_type: PgType) -> str:
    """The name format_type would print, without a typmod."""
    if pg_type.is_array and pg_type.elem is not None:
        return type_name(pg_type.elem) + "[]"
    if pg_type.namespace != "pg_catalog":
        return pg_type.name
    return _SPELLINGS.get(pg_type.name, pg_type.name)
