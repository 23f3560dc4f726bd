"""How far a replica's log is applied; written in the batch of every command (reliability 52).

local family   b"a" + range id 8 B  ->  | index 8 B | term 8 B |
"""

from __future__ import annotations

import struct
from typing import Final

from base.seams import CF_LOCAL
from kvtier.engine.batch import OpBatch
from kvtier.engine.contract import StoreEngine

APPLIED_PREFIX: Final = b"a"
FIRST_INDEX: Final = 10
FIRST_TERM: Final = 5
"""Where the log of a new range stands: above 0, so that a replica without anything needs a snapshot."""
_ID = struct.Struct(">Q")
_PLACE = struct.Struct(">QQ")


def applied_key(range_id: int) -> bytes:
    """Returns the local key of a range's applied place."""
    return APPLIED_PREFIX + _ID.pack(range_id)


def put_applied(batch: OpBatch, range_id: int, index: int, term: int) -> None:
    """Writes that everything up to (index, term) is applied."""
    batch.put(CF_LOCAL, applied_key(range_id), _PLACE.pack(index, term))


def get_applied(engine: StoreEngine, range_id: int) -> tuple[int, int]:
    """Returns (index, term); (0, 0) if the range was never here."""
    stored = engine.get(CF_LOCAL, applied_key(range_id))
    if stored is None:
        return 0, 0
    index, term = _PLACE.unpack(stored)
    return index, term
