"""A write batch as a list of operations: what both engines take and what Raft carries.

An operation is a tuple ``(kind, cf, key, value)``:

    PUT           (0, cf, key, value)
    DELETE        (1, cf, key, b"")
    DELETE_RANGE  (2, cf, lower, upper)

The list is kept because a native RocksDB batch is consumed by the attempt to write it,
even a rejected one (reliability 122): after ``Overloaded`` the same OpBatch may be
written again.  Later operations win over earlier ones on the same key.
"""

from __future__ import annotations

from typing import Final

import msgspec

from base.seams import CF_LOCAL, WriteBatch

PUT: Final = 0
DELETE: Final = 1
DELETE_RANGE: Final = 2

RANGE_TOMBSTONE_PREFIX: Final = b"t\x00"
"""Keyspace of MVCC range tombstones in CF_LOCAL (kvtier.mvcc.tombstones)."""

Operation = tuple[int, int, bytes, bytes]

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Operation])


class OpBatch(WriteBatch):
    """An ordered list of operations over all families.

    ``touches_tombstones`` says that some operation changes an MVCC range tombstone, so
    whoever writes the batch must tell the in-memory list (``RangeTombstones.apply``).
    """

    __slots__ = ("ops", "touches_tombstones")

    def __init__(self) -> None:
        self.ops: list[Operation] = []
        self.touches_tombstones = False

    def put(self, cf: int, key: bytes, value: bytes) -> None:
        self.ops.append((PUT, cf, key, value))

    def delete(self, cf: int, key: bytes) -> None:
        self.ops.append((DELETE, cf, key, b""))

    def delete_range(self, cf: int, lower: bytes, upper: bytes) -> None:
        if lower < upper:
            self.ops.append((DELETE_RANGE, cf, lower, upper))

    def extend(self, other: OpBatch) -> None:
        """Appends another batch's operations after this one's."""
        self.ops.extend(other.ops)
        self.touches_tombstones = self.touches_tombstones or other.touches_tombstones

    def __len__(self) -> int:
        return len(self.ops)

    def encode(self) -> bytes:
        """Returns the bytes a Raft command carries; equal operations give equal bytes."""
        return _encoder.encode(self.ops)

    @staticmethod
    def decode(message: bytes) -> OpBatch:
        """Raises msgspec.ValidationError on anything that is not an encoded batch."""
        return OpBatch.of(_decoder.decode(message))

    @staticmethod
    def of(ops: list[Operation]) -> OpBatch:
        """Returns the batch of these operations."""
        batch = OpBatch()
        batch.ops = ops
        for kind, cf, key, value in ops:
            if cf == CF_LOCAL and _meets_tombstones(kind, key, value):
                batch.touches_tombstones = True
        return batch


def _meets_tombstones(kind: int, key: bytes, value: bytes) -> bool:
    if kind == DELETE_RANGE:
        return key < RANGE_TOMBSTONE_PREFIX + b"\xff" and value > RANGE_TOMBSTONE_PREFIX
    return key.startswith(RANGE_TOMBSTONE_PREFIX)
