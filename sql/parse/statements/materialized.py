"""CREATE and REFRESH MATERIALIZED VIEW: their statements."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sql.parse.statements.names import Name, SqlExpr


@dataclass(slots=True)
class CreateMaterializedView:
    name: Name
    columns: tuple[str, ...]
    query: SqlExpr
    """Text and tree of the query."""
    with_data: bool = True
    if_not_exists: bool = False
    options: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class RefreshMaterializedView:
    name: Name
    concurrently: bool = False
    with_data: bool = True
