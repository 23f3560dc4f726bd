"""Regions of databases: ALTER DATABASE .. PRIMARY REGION, ADD and DROP REGION, SURVIVE, PLACEMENT.

A database with regions has an enum of their names, ``public.crdb_internal_region``; the name is CockroachDB's, whose
tools and applications look for it.  What cannot be is refused here, before anything is moved for it:

    a region that no node is in
    surviving the failure of a region with fewer than three of them (two leave no majority)
    restricted placement and surviving a region: the one forbids the copies that the other needs
    dropping a region that a table, or a row, is at home in
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from base.errors import FeatureNotSupported, SqlError
from planner.schema import DatabaseDesc, RegionConfig, TableDesc, TypeDesc
from sql.ddl.locking import lock_exclusively, lock_users
from sql.ddl.types import PHYSICAL_STEP, label_number
from sql.pgcatalog.deparse import table_locality
from sql.regions.spans import ZONE_VOTERS
from sql.regions.topology import region_of, require_region

if TYPE_CHECKING:
    from sql.parse import statements as ast
    from sql.session import Session

TYPE_NAME: Final = "crdb_internal_region"
REGIONS_MAX: Final = 100
"""Regions of one database."""
SURVIVABLE_REGIONS_MIN: Final = 3
"""With two, losing one may be losing the majority."""


def has_region_options(statement: ast.CreateDatabase) -> bool:
    """True for CREATE DATABASE with regions."""
    return any(name in statement.options for name in ("primary_region", "regions", "survive"))


async def create_regions(session: Session, desc: DatabaseDesc, statement: ast.CreateDatabase) -> DatabaseDesc:
    """Gives a new database the regions of its CREATE DATABASE."""
    primary = statement.options.get("primary_region")
    if primary is None:
        raise SqlError(
            "a database with regions needs a primary region", sqlstate="42P12", hint="Add PRIMARY REGION <region>."
        )
    desc = await _set_primary(session, desc, primary)
    for region in statement.options.get("regions", ()):
        if region != primary:
            desc = await _add_region(session, desc, region, False)
    if "survive" in statement.options:
        desc = await _survive(session, desc, statement.options["survive"])
    return desc


async def alter_regions(session: Session, desc: DatabaseDesc, statement: ast.AlterDatabase) -> DatabaseDesc:
    """Returns the database with what ALTER DATABASE changes of its regions."""
    if statement.action == "primary region":
        return await _set_primary(session, desc, statement.value)
    if statement.action == "add region":
        return await _add_region(session, desc, statement.value, statement.if_exists)
    if statement.action == "drop region":
        return await _drop_region(session, desc, statement.value, statement.if_exists)
    if statement.action == "survive":
        return await _survive(session, desc, statement.value)
    if statement.action == "placement":
        return _place(session, desc, statement.value)
    raise FeatureNotSupported(f"ALTER DATABASE .. {statement.action.upper()} is not supported")


def require_regions(desc: DatabaseDesc, purpose: str) -> RegionConfig:
    """Returns a database's regions; raises 42P12 if it has none."""
    if desc.regions is None:
        raise SqlError(
            f'database "{desc.name}" has no regions: {purpose}',
            sqlstate="42P12",
            hint=f"Give it one first: ALTER DATABASE {desc.name} PRIMARY REGION <region>.",
        )
    return desc.regions


def _with(desc: DatabaseDesc, **changes: object) -> DatabaseDesc:
    assert desc.regions is not None
    return msgspec.structs.replace(desc, regions=msgspec.structs.replace(desc.regions, **changes))


# --- which regions ------------------------------------------------------------------


async def _set_primary(session: Session, desc: DatabaseDesc, region: str) -> DatabaseDesc:
    config = desc.regions
    if config is not None:
        if region not in config.regions:
            raise SqlError(
                f'region "{region}" has not been added to database "{desc.name}"',
                sqlstate="42P12",
                hint=f'Add it first: ALTER DATABASE {desc.name} ADD REGION "{region}".',
            )
        return _with(desc, primary=region)
    require_region(session.server.topology(), region)
    type_id = await _create_type(session, desc, region)
    return msgspec.structs.replace(desc, regions=RegionConfig(region, (region,), type_id))


async def _create_type(session: Session, desc: DatabaseDesc, region: str) -> int:
    state, draft = session.state(), session.block.ddl()
    schema = state.schema(desc.id, "public")
    if schema is None:
        raise SqlError(
            'schema "public" does not exist', sqlstate="3F000", detail="The type of the regions lives there."
        )
    if state.type_named(desc.id, schema.id, TYPE_NAME) is not None:
        raise SqlError(f'type "{TYPE_NAME}" already exists', sqlstate="42710")
    type_id = await draft.new_id()
    await draft.put(
        TypeDesc(
            id=type_id, version=1, database_id=desc.id, schema_id=schema.id, name=TYPE_NAME, array_oid=await draft.new_id(),
            labels=((region, PHYSICAL_STEP),), owner=desc.owner, is_regions=True,
        )
    )  # fmt: skip
    return type_id


def _type(session: Session, config: RegionConfig) -> TypeDesc:
    desc = session.state().by_id[config.type_id]
    assert isinstance(desc, TypeDesc), desc
    return desc


async def _add_region(session: Session, desc: DatabaseDesc, region: str, if_not_exists: bool) -> DatabaseDesc:
    config = require_regions(desc, "the first to be added is the primary region")
    if region in config.regions:
        message = f'region "{region}" is a region of database "{desc.name}" already'
        if not if_not_exists:
            raise SqlError(message, sqlstate="42710")
        session.notice("NOTICE", SqlError(message + ", skipping", sqlstate="42710"))
        return desc
    require_region(session.server.topology(), region)
    if len(config.regions) >= REGIONS_MAX:
        raise SqlError(f"a database can have at most {REGIONS_MAX} regions", sqlstate="54000")
    regions = tuple(sorted((*config.regions, region)))
    if config.placement == "restricted":
        _require_nodes(session, msgspec.structs.replace(config, regions=regions))
    await lock_users(session, _type(session, config))
    type_desc = _type(session, config)
    at = regions.index(region)
    labels = (*type_desc.labels[:at], (region, label_number(type_desc, at)), *type_desc.labels[at:])
    await session.block.ddl().put(msgspec.structs.replace(type_desc, version=type_desc.version + 1, labels=labels))
    await _renew_partitioned(session, desc)
    return _with(desc, regions=regions)


async def _renew_partitioned(session: Session, desc: DatabaseDesc, leaving: str = "") -> None:
    """Has every statement look into other regions than before; raises 2BP01 if a row is in one that is ``leaving``.

    The exclusive locks matter: of two writers that look into different regions for one key, neither would see the
    other's row.
    """
    from sql.ddl.backfill import Backfill

    for table in session.state().tables(desc.id):
        if table.locality.kind != "row":
            continue
        current = await lock_exclusively(session, table, "ALTER DATABASE")
        if leaving and await Backfill(session, current).has_rows(leaving):
            raise SqlError(
                f'cannot drop region "{leaving}" because rows are at home there',
                sqlstate="2BP01",
                detail=f'Table "{current.name}" has such rows.',
                hint="Move them first: UPDATE .. SET crdb_region = '<region>'.",
            )
        await session.block.ddl().update_table(current)


async def _drop_region(session: Session, desc: DatabaseDesc, region: str, if_exists: bool) -> DatabaseDesc:
    config = desc.regions
    if config is None or region not in config.regions:
        message = f'region "{region}" has not been added to database "{desc.name}"'
        if not if_exists:
            raise SqlError(message, sqlstate="42704")
        session.notice("NOTICE", SqlError(message + ", skipping", sqlstate="00000"))
        return desc
    if region == config.primary and len(config.regions) > 1:
        raise SqlError(
            f'cannot drop the primary region "{region}"',
            sqlstate="42P12",
            hint=f"Make another region the primary one (ALTER DATABASE {desc.name} PRIMARY REGION <region>), or drop the others first.",
        )
    if config.survival == "region" and len(config.regions) <= SURVIVABLE_REGIONS_MIN:
        raise SqlError(
            f'cannot drop region "{region}": database "{desc.name}" is to survive the failure of a region, for which it needs'
            f" {SURVIVABLE_REGIONS_MIN}",
            sqlstate="42P12",
            hint=f"Add another region first, or ALTER DATABASE {desc.name} SURVIVE ZONE FAILURE.",
        )
    await lock_users(session, _type(session, config))
    _require_no_home(session, desc, region)
    await _renew_partitioned(session, desc, region)
    type_desc = _type(session, config)
    draft = session.block.ddl()
    if len(config.regions) == 1:
        from sql.ddl.drop import drop_type

        await drop_type(session, type_desc, cascade=False)
        return msgspec.structs.replace(desc, regions=None)
    labels = tuple(label for label in type_desc.labels if label[0] != region)
    await draft.put(msgspec.structs.replace(type_desc, version=type_desc.version + 1, labels=labels))
    return _with(desc, regions=tuple(name for name in config.regions if name != region))


def _require_no_home(session: Session, desc: DatabaseDesc, region: str) -> None:
    """Raises 2BP01 if something is at home in a region, which is to go."""
    is_last = desc.regions is not None and len(desc.regions.regions) == 1
    homed = [table for table in session.state().tables(desc.id) if is_homed(table, region, is_last)]
    if homed:
        raise SqlError(
            f'cannot drop region "{region}" because other objects depend on it',
            sqlstate="2BP01",
            detail="\n".join(f"table {table.name} is {table_locality(table)}" for table in homed),
            hint="Give the tables another locality first: ALTER TABLE .. SET LOCALITY.",
        )


def is_homed(table: TableDesc, region: str, is_last: bool) -> bool:
    """True if a table cannot be without a region, or, ``is_last``, without any."""
    return table.locality.region == region or (is_last and table.locality.kind != "table")


# --- what is survived, and where copies are -----------------------------------------------


async def _survive(session: Session, desc: DatabaseDesc, goal: str) -> DatabaseDesc:
    config = require_regions(desc, "it cannot survive the failure of one")
    if goal == "region":
        if len(config.regions) < SURVIVABLE_REGIONS_MIN:
            raise SqlError(
                f"at least {SURVIVABLE_REGIONS_MIN} regions are required to survive the failure of one",
                sqlstate="42P12",
                detail=f'Database "{desc.name}" has {len(config.regions)}; of two, either may be half of the voters.',
                hint=f"Add regions: ALTER DATABASE {desc.name} ADD REGION <region>.",
            )
        if config.placement == "restricted":
            raise SqlError(
                "a database with restricted placement cannot survive the failure of a region",
                sqlstate="42P12",
                detail="Its data may not leave their home region, so they go down with it.",
                hint=f"ALTER DATABASE {desc.name} PLACEMENT DEFAULT.",
            )
    return _with(desc, survival=goal)


def _place(session: Session, desc: DatabaseDesc, placement: str) -> DatabaseDesc:
    config = require_regions(desc, "there is nothing to restrict placement to")
    if placement == "restricted" and config.survival == "region":
        raise SqlError(
            "a database that survives the failure of a region cannot have restricted placement",
            sqlstate="42P12",
            detail="Surviving a region takes voters in other regions.",
            hint=f"ALTER DATABASE {desc.name} SURVIVE ZONE FAILURE.",
        )
    if placement == "restricted":
        _require_nodes(session, config)
    return _with(desc, placement=placement)


def _require_nodes(session: Session, config: RegionConfig) -> None:
    """Raises 42P12 if a region has too few nodes to keep its data alone."""
    nodes = session.server.topology()
    if len(nodes) == 1:
        return
    for region in config.regions:
        count = sum(1 for node in nodes if region_of(node.locality) == region)
        if count < ZONE_VOTERS:
            raise SqlError(
                f"restricted placement needs {ZONE_VOTERS} nodes in each region",
                sqlstate="42P12",
                detail=f'Region "{region}" has {count}, and its data may be nowhere else.',
            )
