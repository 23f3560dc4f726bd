"""LOCALITY of tables: which region their rows are at home in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from base.errors import FeatureNotSupported, SqlError
from planner.schema import LocalityDesc, TableDesc
from sql.ddl.regions import require_regions
from sql.regions.topology import own_database

if TYPE_CHECKING:
    from sql.parse import statements as ast
    from sql.session import Session


async def checked_locality(session: Session, written: ast.Locality | None, temporary: bool = False) -> LocalityDesc:
    """Returns the locality a statement names, once it is sure that the database's regions stay as they are."""
    if written is None:
        return LocalityDesc()
    database = own_database(session)
    config = require_regions(database, "tables cannot have a locality")
    if temporary:
        raise SqlError("temporary tables cannot have a locality", sqlstate="42P16")
    if written.kind != "table":
        names = {"global": "LOCALITY GLOBAL", "row": "REGIONAL BY ROW", "parent": "REGIONAL BY PARENT"}
        raise FeatureNotSupported(f"{names[written.kind]} is not supported yet")
    if written.region and written.region not in config.regions:
        raise SqlError(
            f'region "{written.region}" has not been added to database "{database.name}"',
            sqlstate="42P12",
            hint=f"Regions of the database: {', '.join(config.regions)}.",
        )
    await session.block.ddl().hold(database)
    return LocalityDesc(region=written.region)


async def set_locality(session: Session, table: TableDesc, written: ast.Locality) -> TableDesc:
    """ALTER TABLE .. SET LOCALITY; the replicas follow by themselves."""
    locality = await checked_locality(session, written)
    return await session.block.ddl().update_table(table, locality=locality)
