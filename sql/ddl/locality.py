"""LOCALITY of tables: which region their rows are at home in.

A REGIONAL BY ROW table has a column that names each row's region, and the keys of all its indexes begin with it, so
that the rows of one region are contiguous:

    | index prefix | region | columns that the index names |

A GLOBAL table's rows are at home in the primary region and read in all (``kvtier.replication.closing``).

Unless a column is named (AS c), it is ``crdb_region``, hidden, which new rows fill with the region of the node that
inserts them.  Rows of a table that becomes one get the primary region.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from base.errors import FeatureNotSupported, SqlError
from planner.schema import ColumnDesc, IndexColumn, IndexDesc, LocalityDesc, TableDesc
from sql.ddl.regions import require_regions
from sql.regions.topology import own_database

if TYPE_CHECKING:
    from sql.parse import statements as ast
    from sql.session import Session

REGION_COLUMN: Final = "crdb_region"


async def checked_locality(session: Session, written: ast.Locality | None, temporary: bool = False) -> LocalityDesc:
    """Returns the locality a statement names, once it is sure that the database's regions stay as they are."""
    if written is None:
        return LocalityDesc()
    database = own_database(session)
    config = require_regions(database, "tables cannot have a locality")
    if temporary:
        raise SqlError("temporary tables cannot have a locality", sqlstate="42P16")
    if written.kind == "parent":
        raise FeatureNotSupported("REGIONAL BY PARENT is not supported yet")
    if written.region and written.region not in config.regions:
        raise SqlError(
            f'region "{written.region}" has not been added to database "{database.name}"',
            sqlstate="42P12",
            hint=f"Regions of the database: {', '.join(config.regions)}.",
        )
    await session.block.ddl().hold(database)
    return LocalityDesc(written.kind, written.region)


def region_type(session: Session) -> int:
    """Returns the OID of the type of the database's regions."""
    config = own_database(session).regions
    assert config is not None
    return config.type_id


def with_region_column(
    session: Session, table_name: str, columns: tuple[ColumnDesc, ...], name: str | None, next_id: int
) -> tuple[tuple[ColumnDesc, ...], ColumnDesc]:
    """Returns a table's columns with the one that names its rows' regions, which is new if it is not there."""
    found = [column for column in columns if column.name == (name or REGION_COLUMN)]
    if found:
        column = found[0]
        if column.type_oid != region_type(session):
            raise SqlError(
                f'column "{column.name}" of table "{table_name}" cannot name the region of its rows',
                sqlstate="42804",
                detail="Its type must be crdb_internal_region.",
            )
        if column.nullable:
            raise SqlError(
                f'column "{column.name}" of table "{table_name}" cannot name the region of its rows',
                sqlstate="42P16",
                detail="It must be NOT NULL.",
            )
        return columns, column
    if name is not None:
        raise SqlError(f'column "{name}" does not exist', sqlstate="42703")
    column = ColumnDesc(
        id=next_id, name=REGION_COLUMN, type_oid=region_type(session), nullable=False, hidden=True,
        default="default_to_database_primary_region(gateway_region(true))::public.crdb_internal_region",
    )  # fmt: skip
    return (*columns, column), column


def partitioned(locality: LocalityDesc, index: IndexDesc) -> IndexDesc:
    """Returns an index whose keys begin with the region of the row, if the table is REGIONAL BY ROW."""
    named = index.named
    if locality.kind != "row" or (named and named[0].column_id == locality.column_id):
        return msgspec.structs.replace(index, columns=named, implicit=0)
    if index.deferrable:
        raise FeatureNotSupported("deferrable keys of REGIONAL BY ROW tables are not supported yet")
    return msgspec.structs.replace(index, columns=(IndexColumn(locality.column_id), *named), implicit=1)


async def set_locality(session: Session, table: TableDesc, written: ast.Locality) -> TableDesc:
    """ALTER TABLE .. SET LOCALITY; the replicas follow by themselves."""
    locality = await checked_locality(session, written)
    if "row" not in (table.locality.kind, locality.kind):
        return await session.block.ddl().update_table(table, locality=locality)
    return await _repartition(session, table, locality, written.column)


async def _repartition(
    session: Session, table: TableDesc, locality: LocalityDesc, column_name: str | None
) -> TableDesc:
    """Rebuilds a table that becomes REGIONAL BY ROW, or is so no more."""
    from sql.ddl.backfill import Backfill
    from sql.ddl.columns import column_types, with_new_layout

    columns, next_id = table.columns, table.next_column_id
    column: ColumnDesc | None = None
    if locality.kind == "row":
        columns, column = with_region_column(session, table.name, columns, column_name, next_id)
        locality = msgspec.structs.replace(locality, column_id=column.id)
        next_id = max(next_id, column.id + 1)
    indexes = tuple([partitioned(locality, index) for index in table.indexes])
    fresh = msgspec.structs.replace(table, layouts=())
    layouts, next_layout = with_new_layout(fresh, columns, indexes[0], column_types(session, columns))
    updated = await session.block.ddl().update_table(
        table, columns=columns, indexes=indexes, layouts=layouts, next_layout_id=next_layout, next_column_id=next_id, locality=locality,
    )  # fmt: skip
    if column is None or any(old.id == column.id for old in table.columns):
        return await Backfill(session, table).rebuild(updated)
    home = rows_region(session, table)
    return await Backfill(session, table).rebuild(updated, {column.id: lambda rows, frame, ctx: [(home,)] * len(rows)})


def refuse_region_column(table: TableDesc, column: ColumnDesc, action: str) -> None:
    """Raises 42P16 for the column that names the regions of a table's rows."""
    if table.locality.kind == "row" and table.locality.column_id == column.id:
        raise SqlError(
            f'cannot {action} column "{column.name}" of table "{table.name}": it names the region of its rows',
            sqlstate="42P16",
            hint="Give the table another locality first: ALTER TABLE .. SET LOCALITY.",
        )


def rows_region(session: Session, table: TableDesc) -> str:
    """Returns the region of rows that were there before the table was REGIONAL BY ROW."""
    config = own_database(session).regions
    assert config is not None
    return table.locality.region or config.primary
