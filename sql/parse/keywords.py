"""PostgreSQL 15's key words (manual appendix C): which of them cannot be plain names.

Unreserved words are in no list.
"""

from __future__ import annotations

from typing import Final


def words(text: str) -> frozenset[str]:
    """A set of words written with blanks between them."""
    return frozenset(text.split())


RESERVED: Final = words("""all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create
    current_catalog current_date current_role current_time current_timestamp current_user default deferrable desc distinct
    do else end except false fetch for foreign from grant group having in initially intersect into lateral leading limit
    localtime localtimestamp not null offset on only or order placing primary references returning select session_user some
    symmetric table then to trailing true union unique user using variadic when where window with""")
"""Never a column, table, function or type name unless quoted."""

TYPE_OR_FUNCTION: Final = words("""authorization binary collation concurrently cross current_schema freeze full ilike inner is isnull join left like
    natural notnull outer overlaps right similar tablesample verbose""")
"""Reserved, but may name a function or a type."""

COLUMN_NAME: Final = words("""between bigint bit boolean char character coalesce dec decimal exists extract float greatest grouping inout int
    integer interval least national nchar none normalize nullif numeric out overlay position precision real row setof
    smallint substring time timestamp treat trim values varchar xmlattributes xmlconcat xmlelement xmlexists xmlforest
    xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable""")
"""May name a column or table, but not a function or a type."""

NOT_BARE_LABEL: Final = words("""array as char character create day except fetch filter for from grant group having hour intersect into isnull limit
    minute month notnull offset on order over overlaps precision returning second to union varying where window with
    within without year""")
"""Need AS to be an output column's name."""

NOT_COLUMN: Final = RESERVED | TYPE_OR_FUNCTION
"""Not a column or table name (ColId)."""

NOT_FUNCTION: Final = RESERVED | COLUMN_NAME
"""Not a function or type name."""
