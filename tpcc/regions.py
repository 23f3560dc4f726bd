"""Warehouses spread over the regions of a MeridianDB database, round robin, and terminals at home beside them.

    warehouse w     region (w - 1) modulo the number of regions
    its rows        REGIONAL BY ROW AS home, a column computed from the warehouse's number, so that the statements stay
                    what they are: whatever names a warehouse is looked for in one region
    items           read everywhere and never written: LOCALITY GLOBAL, where the server has it
    terminals       of a region's warehouses talk to the node of that region

The history has no key of its own; its rows are at home where the payment was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import psycopg

WAREHOUSE_COLUMNS: Final = {
    "warehouse": "w_id",
    "district": "d_w_id",
    "customer": "c_w_id",
    "history": "h_w_id",
    "orders": "o_w_id",
    "new_order": "no_w_id",
    "stock": "s_w_id",
    "order_line": "ol_w_id",
}
GLOBAL_ITEMS: Final = "ALTER TABLE item SET LOCALITY GLOBAL"
REGIONS: Final = "regions"
"""Of tpcc_config: their names, as a JSON list."""


class NoRegions(Exception):
    """The database or a server cannot do what was asked for."""


def region_of(warehouse: int, regions: Sequence[str]) -> str:
    """Returns where a warehouse is at home."""
    return regions[(warehouse - 1) % len(regions)]


def warehouses_of(region: str, regions: Sequence[str], warehouses: int) -> list[int]:
    """Returns the warehouses that are at home in a region."""
    return [number for number in range(1, warehouses + 1) if region_of(number, regions) == region]


def read_database_regions(connection: Any) -> tuple[str, ...]:
    """Returns the regions of the database, the primary one first; raises NoRegions if it has none."""
    try:
        rows = connection.execute("SHOW REGIONS FROM DATABASE").fetchall()
    except psycopg.Error as failure:
        raise NoRegions(f"the server knows no regions: {failure}") from failure
    if not rows:
        raise NoRegions(
            'the database has no regions: ALTER DATABASE .. PRIMARY REGION "<region>", then ADD REGION the others'
        )
    return tuple([row[1] for row in rows])


def read_gateway_region(connection: Any) -> str:
    """Returns the region of the node that a connection leads to."""
    try:
        ((region,),) = connection.execute("SELECT gateway_region()").fetchall()
    except psycopg.Error as failure:
        raise NoRegions(f"the server does not say in which region it is: {failure}") from failure
    return str(region)


def placed(table: str, columns: str, regions: Sequence[str]) -> str:
    """Returns the CREATE TABLE of one of the nine tables whose rows are at home where their warehouse is."""
    warehouse = WAREHOUSE_COLUMNS.get(table)
    if warehouse is None or not regions:
        return f"CREATE TABLE {table} ({columns})"
    names = ["'" + region.replace("'", "''") + "'::crdb_internal_region" for region in regions]
    cases = " ".join([f"WHEN {at} THEN {name}" for at, name in enumerate(names[1:], 1)])
    home = f"CASE ({warehouse} - 1) % {len(names)} {cases} ELSE {names[0]} END" if cases else names[0]
    return (
        f"CREATE TABLE {table} (home crdb_internal_region NOT NULL GENERATED ALWAYS AS ({home}) STORED, {columns})"
        " LOCALITY REGIONAL BY ROW AS home"
    )
