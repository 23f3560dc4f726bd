"""Range descriptors: which range holds which keys, and where its replicas are.

    | range id | generation | start | end | replicas |

``generation`` rises with every change of bounds or replicas; of two descriptors over the
same key the one with the higher generation is right.  Ranges cover [b"", KEY_MAX)
without gap or overlap.

The key space, in order:

    b"\\x01" ...   META1: where the META2 ranges are
    b"\\x02" ...   META2: where all other ranges are
    b"\\x03" ...   everything else: system and user tables
    b"\\xff"       KEY_MAX, above every key

Kept in each store's local family by range id, and in the meta ranges by end key
(``kvtier.meta``).
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

META1: Final = b"\x01"
META2: Final = b"\x02"
DATA_START: Final = b"\x03"
KEY_MAX: Final = b"\xff"


VOTER: Final = 0
LEARNER: Final = 1
"""Gets the log and does not vote: a replica that is catching up."""


class ReplicaPlace(Struct, frozen=True, array_like=True):
    """One replica: ids only grow, never to be used again (reliability 61)."""

    node_id: int
    store_id: int
    replica_id: int
    kind: int = VOTER


class RangeDescriptor(Struct, frozen=True, array_like=True):
    """See the module docstring."""

    range_id: int
    generation: int
    start: bytes
    end: bytes
    replicas: tuple[ReplicaPlace, ...]
    next_replica_id: int = 2
    is_sticky: bool = False
    """Its start was made a border by hand: nothing merges it with its left neighbour of itself."""
    leads: bool = False
    """Its closed timestamps are ahead of the clock: every replica answers reads of now (``kvtier.replication.closing``)."""

    def contains(self, key: bytes) -> bool:
        """True if the key is in this range."""
        return self.start <= key < self.end

    def contains_span(self, start: bytes, end: bytes) -> bool:
        """True if all of [start, end) is in this range."""
        return self.start <= start and end <= self.end


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(RangeDescriptor)


def encode_descriptor(descriptor: RangeDescriptor) -> bytes:
    """Returns the stored form."""
    return _encoder.encode(descriptor)


def decode_descriptor(stored: bytes) -> RangeDescriptor:
    """Raises msgspec.ValidationError on anything else."""
    return _decoder.decode(stored)
