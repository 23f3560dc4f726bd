"""Unique keys of REGIONAL BY ROW tables that cannot be taken in another region, so that nobody needs to look there.

    the key says where it is      the region is among its columns, or computed from them alone
    the statement draws a value   gen_random_uuid(), or the hidden row id of a table without a PRIMARY KEY:
                                  nobody has had it before

Whoever gives such a column a value of its own has the key looked for as any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from planner.access import TableAccess
from planner.expr import Call, Col, Const, Expr, walk
from planner.nodes import Node, Project, TableExprs, Values

DRAWN: Final = "gen_random_uuid"
DRAWN_IF_HIDDEN: Final = "unique_rowid"
GATEWAY: Final = "gateway_region"


def placed_keys(access: TableAccess, exprs: TableExprs) -> frozenset[int]:
    """Returns the ids of partitioned indexes whose keys tell the region they are in."""
    if not access.primary.implicit:
        return frozenset()
    region = access.primary.attnums[0]
    computed = exprs.generated.get(region)
    sources: frozenset[int] | None = None
    if computed is not None:
        by_id = dict(zip(exprs.row, access.attnums))
        sources = frozenset([by_id[id] for id in _column_ids(computed)])
    return frozenset(
        [
            index.desc.id
            for index in access.indexes
            if region in index.named or (sources is not None and sources <= frozenset(index.named))
        ]
    )


def drawn_keys(access: TableAccess, attnums: Sequence[int], input: Node) -> frozenset[int]:
    """Returns the ids of unique indexes over a value that every row of an INSERT's input draws."""
    if not access.primary.implicit:
        return frozenset()
    wanted = {attnum for index in access.indexes if index.is_unique for attnum in index.named}
    drawn = frozenset(
        [
            attnum
            for at, attnum in enumerate(attnums)
            if attnum in wanted and all(_draws(expr, access.columns[attnum].hidden) for expr in _exprs(input, at))
        ]
    )
    return frozenset([index.desc.id for index in access.indexes if index.is_unique and drawn & frozenset(index.named)])


def named_homes(access: TableAccess, attnums: Sequence[int], input: Node) -> tuple[str, ...] | None:
    """Returns the regions that an INSERT names for its rows, "" for that of its client; None if it does not say."""
    region = access.columns.get(access.desc.locality.column_id)
    if region is None or region.id not in attnums:
        return None if region is not None else ()
    found: dict[str, None] = {}
    for expr in _exprs(input, attnums.index(region.id)):
        if isinstance(expr, Const) and isinstance(expr.value, str):
            found[expr.value] = None
        elif expr is not None and GATEWAY in _function_names(expr):
            found[""] = None
        else:
            return None
    return tuple(found)


def _exprs(input: Node, at: int) -> list[Expr | None]:
    """What a column of the input is; None where that is not written there."""
    if isinstance(input, Values):
        return [row[at] for row in input.rows]
    if isinstance(input, Project):
        return [input.exprs[at]]
    return [None]


def _draws(expr: Expr | None, is_hidden: bool) -> bool:
    if not isinstance(expr, Call):
        return False
    return expr.function.name == DRAWN or (is_hidden and expr.function.name == DRAWN_IF_HIDDEN)


def _function_names(expr: Expr) -> list[str]:
    found: list[str] = []
    walk(expr, lambda part: found.append(part.function.name) if isinstance(part, Call) else None)
    return found


def _column_ids(expr: Expr) -> list[int]:
    found: list[int] = []
    walk(expr, lambda part: found.append(part.id) if isinstance(part, Col) else None)
    return found
