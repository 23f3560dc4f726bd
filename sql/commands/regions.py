"""SHOW REGIONS, SHOW SURVIVAL GOAL and SHOW LOCALITY, with CockroachDB's columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from base.errors import SqlError
from base.types import BOOL, TEXT, array_of
from planner.schema import DatabaseDesc
from sql.api import ResultColumn
from sql.commands import handles, send_rows, text_columns
from sql.parse import statements as ast
from sql.regions.topology import zones_by_region

if TYPE_CHECKING:
    from sql.portals import QueryPortal
    from sql.session import Session

_LIST: Final = array_of(TEXT)
_ZONES: Final = ResultColumn("zones", _LIST)
_COLUMNS: Final = {
    "": (
        ResultColumn("region", TEXT), _ZONES, ResultColumn("database_names", _LIST), ResultColumn("primary_region_of", _LIST),
    ),
    "cluster": (ResultColumn("region", TEXT), _ZONES),
    "database": (ResultColumn("database", TEXT), ResultColumn("region", TEXT), ResultColumn("primary", BOOL), _ZONES),
    "all": (ResultColumn("database_name", TEXT), ResultColumn("regions", _LIST), ResultColumn("primary_region", TEXT)),
    "survival": text_columns("database", "survival_goal"),
}  # fmt: skip


def _region_columns(session: Session, statement: ast.ShowRegions) -> tuple[ResultColumn, ...]:
    return _COLUMNS[statement.source]


@handles(ast.ShowRegions, _region_columns)
async def show_regions(session: Session, statement: ast.ShowRegions, portal: QueryPortal) -> None:
    send_rows(session, portal, _COLUMNS[statement.source], _rows(session, statement))
    session.sink.complete("SHOW")


def _rows(session: Session, statement: ast.ShowRegions) -> list[tuple[Any, ...]]:
    zones = zones_by_region(session.server.topology())
    databases = session.state().databases()
    if statement.source == "cluster":
        return list(zones.items())
    if statement.source == "all":
        return [
            (desc.name, desc.regions.regions if desc.regions else (), desc.regions.primary if desc.regions else None)
            for desc in databases
        ]
    if statement.source == "":
        return [(region, names, *_uses(databases, region)) for region, names in zones.items()]
    desc = session.state().database(statement.database or session.database)
    if desc is None:
        raise SqlError(f'database "{statement.database}" does not exist', sqlstate="3D000")
    config = desc.regions
    if statement.source == "survival":
        return [(desc.name, config.survival if config is not None else None)]
    if config is None:
        return []
    return [
        (desc.name, region, region == config.primary, zones.get(region, ()))
        for region in sorted(config.regions, key=lambda region: (region != config.primary, region))
    ]


def _uses(databases: list[DatabaseDesc], region: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns which databases have a region, and as their primary one."""
    having = [desc for desc in databases if desc.regions is not None and region in desc.regions.regions]
    primary = [desc.name for desc in having if desc.regions is not None and desc.regions.primary == region]
    return tuple(sorted(desc.name for desc in having)), tuple(sorted(primary))
