"""SQL types: identity, OIDs and how their values look in Python.

OIDs are PostgreSQL's (pg_type.dat); drivers hard-code them.  A *datum* is a plain
Python object; SQL NULL is ``None`` for every type:

| type | datum |
| --- | --- |
| bool | bool |
| int2 int4 int8 oid reg* xid cid | int |
| float4 float8 | float (float4: rounded to single precision) |
| numeric | decimal.Decimal, incl. NaN and Infinity; dscale is the exponent |
| text varchar bpchar name "char" json xml jsonpath | str (bpchar: padded with blanks to its length) |
| jsonb | str in canonical form (PostgreSQL's jsonb output text) |
| bytea | bytes |
| uuid | bytes, 16 of them |
| date | int, days since 2000-01-01; DATE_INFINITY, DATE_MINUS_INFINITY |
| time | int, microseconds since midnight |
| timetz | tuple (microseconds since midnight, seconds west of UTC) |
| timestamp timestamptz | int, microseconds since 2000-01-01 (timestamptz: UTC); TIMESTAMP_INFINITY, ... |
| interval | tuple (months, days, microseconds) |
| bit varbit | str of '0' and '1' |
| inet cidr | str, normalised |
| arrays | tuple of datums; nested tuples for more dimensions; lower bound 1 |
| int2vector oidvector | tuple of int; lower bound 0 |
| record, row types | tuple of datums |
| enums | str, the label |
| void | "" |

A ``PgType`` is immutable and compared by OID.  User-defined types (enums, their
arrays, row types of tables) are PgTypes made by the catalog.
"""

from __future__ import annotations

from typing import Final

NUMERIC_DIGITS_MAX: Final = 131_072
"""Digits before the decimal point, as in PostgreSQL; 16,383 after it."""
DATE_INFINITY: Final = 2**31 - 1
DATE_MINUS_INFINITY: Final = -(2**31)
TIMESTAMP_INFINITY: Final = 2**63 - 1
TIMESTAMP_MINUS_INFINITY: Final = -(2**63)


class PgType:
    """One row of pg_type, as far as planning and I/O need it."""

    __slots__ = ("array_oid", "array_type", "base", "category", "delimiter", "elem", "enum_labels", "enum_physical", "fields", "kind", "length",
                 "name", "namespace", "oid", "preferred")  # fmt: skip

    def __init__(
        self,
        oid: int,
        name: str,
        length: int,
        category: str,
        array_oid: int = 0,
        preferred: bool = False,
        elem: PgType | None = None,
        kind: str = "b",
        enum_labels: tuple[str, ...] = (),
        fields: tuple[tuple[str, PgType], ...] = (),
        namespace: str = "pg_catalog",
        base: PgType | None = None,
    ) -> None:
        self.oid = oid
        self.name = name
        self.length = length
        """typlen: bytes, or -1 variable, -2 C string."""
        self.category = category
        """typcategory: B bool, N number, S string, D date/time, T timespan, A array, E enum, U user, X unknown, P pseudo, V bit, I inet, C composite."""
        self.array_oid = array_oid
        self.preferred = preferred
        self.elem = elem
        """Element type of an array (and of int2vector, oidvector)."""
        self.kind = kind
        """typtype: b base, c composite, e enum, p pseudo, d domain."""
        self.enum_labels = enum_labels
        self.enum_physical: dict[str, int] = {}
        """Label to the 32-bit integer that orders enum values and stands for them in keys and rows."""
        self.fields = fields
        self.namespace = namespace
        self.base = base
        self.delimiter = ","
        self.array_type: PgType | None = None
        """The type of arrays of this; set by whoever makes that type."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PgType) and other.oid == self.oid

    def __hash__(self) -> int:
        return self.oid

    def __repr__(self) -> str:
        return self.name

    @property
    def is_array(self) -> bool:
        """True for real arrays (category A), not int2vector and oidvector."""
        return self.category == "A" and self.elem is not None and self.oid not in (22, 30)


BY_OID: dict[int, PgType] = {}
BY_NAME: dict[str, PgType] = {}
"""Built-in types by pg_type.typname."""


def _define(
    oid: int, name: str, length: int, category: str, array_oid: int = 0, preferred: bool = False, kind: str = "b"
) -> PgType:
    pg_type = PgType(oid, name, length, category, array_oid, preferred, kind=kind)
    BY_OID[oid] = BY_NAME[name] = pg_type
    if array_oid:
        array = PgType(array_oid, "_" + name, -1, "A", 0, False, pg_type)
        BY_OID[array_oid] = BY_NAME["_" + name] = array
        pg_type.array_type = array
    return pg_type


BOOL: Final = _define(16, "bool", 1, "B", 1000, True)
BYTEA: Final = _define(17, "bytea", -1, "U", 1001)
CHAR: Final = _define(18, "char", 1, "Z", 1002)
NAME: Final = _define(19, "name", 64, "S", 1003)
INT8: Final = _define(20, "int8", 8, "N", 1016)
INT2: Final = _define(21, "int2", 2, "N", 1005)
INT4: Final = _define(23, "int4", 4, "N", 1007)
REGPROC: Final = _define(24, "regproc", 4, "N", 1008)
TEXT: Final = _define(25, "text", -1, "S", 1009, True)
OID: Final = _define(26, "oid", 4, "N", 1028, True)
TID: Final = _define(27, "tid", 6, "U", 1010)
XID: Final = _define(28, "xid", 4, "U", 1011)
CID: Final = _define(29, "cid", 4, "U", 1012)
JSON: Final = _define(114, "json", -1, "U", 199)
XML: Final = _define(142, "xml", -1, "U", 143)
PG_NODE_TREE: Final = _define(194, "pg_node_tree", -1, "Z")
FLOAT4: Final = _define(700, "float4", 4, "N", 1021)
FLOAT8: Final = _define(701, "float8", 8, "N", 1022, True)
UNKNOWN: Final = _define(705, "unknown", -2, "X", kind="p")
MONEY: Final = _define(790, "money", 8, "N", 791)
INET: Final = _define(869, "inet", -1, "I", 1041, True)
CIDR: Final = _define(650, "cidr", -1, "I", 651)
ACLITEM: Final = _define(1033, "aclitem", 12, "U", 1034)
BPCHAR: Final = _define(1042, "bpchar", -1, "S", 1014)
VARCHAR: Final = _define(1043, "varchar", -1, "S", 1015)
DATE: Final = _define(1082, "date", 4, "D", 1182)
TIME: Final = _define(1083, "time", 8, "D", 1183)
TIMESTAMP: Final = _define(1114, "timestamp", 8, "D", 1115)
TIMESTAMPTZ: Final = _define(1184, "timestamptz", 8, "D", 1185, True)
INTERVAL: Final = _define(1186, "interval", 16, "T", 1187, True)
TIMETZ: Final = _define(1266, "timetz", 12, "D", 1270)
BIT: Final = _define(1560, "bit", -1, "V", 1561)
VARBIT: Final = _define(1562, "varbit", -1, "V", 1563, True)
NUMERIC: Final = _define(1700, "numeric", -1, "N", 1231)
REFCURSOR: Final = _define(1790, "refcursor", -1, "U", 2201)
REGPROCEDURE: Final = _define(2202, "regprocedure", 4, "N", 2207)
REGOPER: Final = _define(2203, "regoper", 4, "N", 2208)
REGOPERATOR: Final = _define(2204, "regoperator", 4, "N", 2209)
REGCLASS: Final = _define(2205, "regclass", 4, "N", 2210)
REGTYPE: Final = _define(2206, "regtype", 4, "N", 2211)
REGROLE: Final = _define(4096, "regrole", 4, "N", 4097)
REGNAMESPACE: Final = _define(4089, "regnamespace", 4, "N", 4090)
REGCOLLATION: Final = _define(4191, "regcollation", 4, "N", 4192)
REGCONFIG: Final = _define(3734, "regconfig", 4, "N", 3735)
REGDICTIONARY: Final = _define(3769, "regdictionary", 4, "N", 3770)
UUID: Final = _define(2950, "uuid", 16, "U", 2951)
PG_LSN: Final = _define(3220, "pg_lsn", 8, "U", 3221)
JSONB: Final = _define(3802, "jsonb", -1, "U", 3807)
JSONPATH: Final = _define(4072, "jsonpath", -1, "U", 4073)
XID8: Final = _define(5069, "xid8", 8, "U", 271)
RECORD: Final = _define(2249, "record", -1, "P", 2287, kind="p")
CSTRING: Final = _define(2275, "cstring", -2, "P", 1263, kind="p")
ANY: Final = _define(2276, "any", 4, "P", kind="p")
ANYARRAY: Final = _define(2277, "anyarray", -1, "P", kind="p")
VOID: Final = _define(2278, "void", 4, "P", kind="p")
TRIGGER: Final = _define(2279, "trigger", 4, "P", kind="p")
INTERNAL: Final = _define(2281, "internal", 8, "P", kind="p")
ANYELEMENT: Final = _define(2283, "anyelement", 4, "P", kind="p")
ANYNONARRAY: Final = _define(2776, "anynonarray", 4, "P", kind="p")
ANYENUM: Final = _define(3500, "anyenum", 4, "P", kind="p")
ANYCOMPATIBLE: Final = _define(5077, "anycompatible", 4, "P", kind="p")
ANYCOMPATIBLEARRAY: Final = _define(5078, "anycompatiblearray", -1, "P", kind="p")
ANYCOMPATIBLENONARRAY: Final = _define(5079, "anycompatiblenonarray", 4, "P", kind="p")


def _define_vector(oid: int, name: str, elem: PgType, array_oid: int) -> PgType:
    pg_type = PgType(oid, name, -1, "A", array_oid, False, elem)
    BY_OID[oid] = BY_NAME[name] = pg_type
    array = PgType(array_oid, "_" + name, -1, "A", 0, False, pg_type)
    BY_OID[array_oid] = BY_NAME["_" + name] = array
    pg_type.array_type = array
    return pg_type


INT2VECTOR: Final = _define_vector(22, "int2vector", INT2, 1006)
OIDVECTOR: Final = _define_vector(30, "oidvector", OID, 1013)

SQL_NAMES: Final[dict[str, str]] = {
    "boolean": "bool", "smallint": "int2", "integer": "int4", "int": "int4", "bigint": "int8", "real": "float4",
    "double precision": "float8", "decimal": "numeric", "dec": "numeric", "character varying": "varchar",
    "character": "bpchar", "char": "bpchar", "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz", "time without time zone": "time", "time with time zone": "timetz",
    "bit varying": "varbit", "string": "text", "bytes": "bytea",
}  # fmt: skip
"""SQL spellings to pg_type.typname (the bare ``"char"``, quoted, is CHAR)."""


def array_of(elem: PgType) -> PgType:
    """Returns the array type of an element type; raises KeyError if it has none."""
    if elem.array_type is None:
        raise KeyError(elem.name)
    return elem.array_type
