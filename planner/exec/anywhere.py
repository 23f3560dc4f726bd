"""Unique keys of partitioned indexes: each is in one region, and nobody knows in which.

Keys are looked for at home first; those that are not there, in all other regions at once.  What is there needs no
other region, because no two rows agree in the columns that the index names (``IndexDesc.named``).
"""

from __future__ import annotations

from typing import Any

from kvtier.messages import Lock, Wait
from planner.access import IndexAccess
from planner.exec.runtime import Run
from planner.exec.scan import get_many


async def get_anywhere(
    run: Run, index: IndexAccess, keys: list[bytes], lock: Lock, wait: Wait, projection: bytes
) -> tuple[list[bytes], list[Any]]:
    """Returns the keys as they were found, and their values, None for those that are nowhere."""
    found = await get_many(run, keys, lock, wait, projection)
    missing = [i for i, value in enumerate(found) if value is None]
    others = len(index.heads) - 1
    if not missing or not others:
        return keys, found
    places, values = list(keys), list(found)
    siblings = [sibling for i in missing for sibling in index.siblings(keys[i])]
    for at, value in enumerate(await get_many(run, siblings, lock, wait, projection)):
        if value is not None:
            places[missing[at // others]] = siblings[at]
            values[missing[at // others]] = value
    return places, values
