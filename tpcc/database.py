"""What a loaded database says of itself."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec
import psycopg

from tpcc.population import Recipe
from tpcc.randomness import Constants
from tpcc.regions import REGIONS
from tpcc.scale import Scale

RECIPE: Final = "recipe"
STATE: Final = "state"
LOADED: Final = "loaded"
LOADING: Final = "loading"


class NotLoaded(Exception):
    """The database has no TPC-C population, or not all of it."""


class Population(msgspec.Struct, frozen=True):
    """What a run must know of the database."""

    warehouses: int
    scale: Scale
    last_name_constant: int
    regions: tuple[str, ...] = ()
    """What warehouses are spread over, in order."""


def read_config(connection: Any) -> dict[str, str] | None:
    """Returns our configuration table, or None if there is none."""
    try:
        return dict(connection.execute("SELECT name, value FROM tpcc_config").fetchall())
    except psycopg.errors.UndefinedTable:
        return None


def read_recipe(connection: Any) -> tuple[Recipe, str] | None:
    """Returns how the database was populated and how far that came, or None."""
    return _recipe_of(read_config(connection))


def _recipe_of(config: dict[str, str] | None) -> tuple[Recipe, str] | None:
    if config is None or RECIPE not in config:
        return None
    return msgspec.json.decode(config[RECIPE], type=Recipe), config.get(STATE, LOADING)


def read_population(connection: Any) -> Population:
    """Returns what was populated; a database loaded by another program is taken to be of full scale."""
    config = read_config(connection)
    found = _recipe_of(config)
    if found is None:
        try:
            ((warehouses,),) = connection.execute("SELECT count(*) FROM warehouse").fetchall()
        except psycopg.errors.UndefinedTable:
            raise NotLoaded("there is no table warehouse: run `meridian tpcc load` first") from None
        return Population(warehouses, Scale(), 0)
    recipe, state = found
    if state != LOADED:
        raise NotLoaded("the load did not finish: run `meridian tpcc load` again, it goes on where it stopped")
    regions = msgspec.json.decode((config or {}).get(REGIONS, "[]"), type=tuple[str, ...])
    return Population(recipe.warehouses, recipe.scale, recipe.constants.last_name, regions)


def read_versions(connection: Any) -> dict[str, str]:
    """Returns versions of server and client."""
    ((server,),) = connection.execute("SELECT version()").fetchall()
    return {"server": server, "psycopg": psycopg.__version__, "libpq": str(psycopg.pq.version())}


def new_recipe(seed: int, warehouses: int, loaded_at: datetime, constants: Constants, scale: Scale) -> Recipe:
    # A whole second: what the text form of every server gives back unchanged.
    return Recipe(seed, warehouses, loaded_at.replace(microsecond=0), constants, scale)
