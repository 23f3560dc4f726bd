"""OIDs of what has no descriptor of its own."""

from __future__ import annotations

from typing import Final

HEAP_AM: Final = 2
BTREE_AM: Final = 403
PG_CLASS: Final = 1259
PG_ATTRDEF: Final = 2604
PG_CONSTRAINT: Final = 2606
PG_NAMESPACE: Final = 2615
PG_TYPE: Final = 1247
PG_PROC: Final = 1255
PG_DATABASE: Final = 1262
PG_AUTHID: Final = 1260
PG_TABLESPACE: Final = 1213
DEFAULT_TABLESPACE: Final = 1663
DEFAULT_COLLATION: Final = 100
C_COLLATION: Final = 950
ROW_TYPE_BASE: Final = 1 << 30
"""pg_type.oid of a table's row type is its pg_class.oid plus this."""
ROW_ARRAY_BASE: Final = 3 << 29
ATTRDEF_BASE: Final = 1 << 31
"""pg_attrdef.oid: this, plus table OID * 1600 + attnum, folded to 31 bits."""


def attrdef_oid(table_id: int, attnum: int) -> int:
    return ATTRDEF_BASE + (table_id * 1601 + attnum) % (ATTRDEF_BASE - 1)


def check_oid(oid: int, table_id: int, number: int) -> int:
    """OID of a constraint that has none of its own."""
    return oid or attrdef_oid(table_id, 1600 - number)
