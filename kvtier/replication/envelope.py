"""What two stores tell each other outside of requests: one envelope a tick and pair.

    | HLC now | raft messages of many ranges | store liveness | closed timestamps | who was removed |

It travels on the transport's channel ``CHANNEL``; it may be lost, and so nothing here needs
an answer but what the protocols inside repeat by themselves.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from kvtier.replication.idle import Idle
from kvtier.replication.liveness import Heartbeat, Supported

CHANNEL: Final = "raft.envelope"
ITEMS_MAX: Final = 65_536
"""Messages of one envelope; the transport bounds its bytes."""


class RaftItem(Struct, array_like=True):
    """A raft message of one range, encoded (``kvtier.raft.messages``)."""

    range_id: int
    message: bytes


class Closed(Struct, array_like=True):
    """The leaseholder of ``term`` promises: nothing is written at or below ``ts`` by any entry after ``index``."""

    range_id: int
    term: int
    index: int
    ts: int


class Member(Struct, array_like=True):
    """A replica of a range, by its id: one that asks whether it still is one, or is told that it is none."""

    range_id: int
    replica_id: int


class Merged(Struct, array_like=True):
    """A range that is no more: the range ``left_id`` took it in at ``index`` of its log, or before."""

    range_id: int
    left_id: int
    index: int


class Figures(Struct, array_like=True, frozen=True):
    """What a store has and does, for others to weigh (``kvtier.replication.balancing``)."""

    leases: int = 0
    replicas: int = 0
    load: float = 0.0
    """Batches a second that its leaseholders answer."""


class Digest(Struct, array_like=True, frozen=True):
    """What a replica holds after an entry of its log (``kvtier.replication.consistency``)."""

    range_id: int
    index: int
    digest: bytes
    counts: tuple[int, int, int, int]
    """Live keys, live bytes, versions, total bytes."""


class Life(Struct, array_like=True, frozen=True):
    """How much of a store's disk there is (``kvtier.replication.lives``)."""

    id: int
    """Drawn when the store started."""
    began: int
    """``StoreEngine.opened_at``."""
    durable: int
    """``StoreEngine.durable``."""


class Heard(Struct, array_like=True):
    """The most that a store has told another of its disk, and in which life."""

    life: int
    durable: int


class Envelope(Struct, array_like=True, omit_defaults=True):
    """See the module docstring."""

    now: int
    items: Annotated[list[RaftItem], Meta(max_length=ITEMS_MAX)] = []
    heartbeat: Heartbeat | None = None
    supported: Supported | None = None
    closed: Annotated[list[Closed], Meta(max_length=ITEMS_MAX)] = []
    asking: Annotated[list[Member], Meta(max_length=ITEMS_MAX)] = []
    removed: Annotated[list[Member], Meta(max_length=ITEMS_MAX)] = []
    draining: bool = False
    """With a heartbeat: the store is about to stop and takes no lease."""
    figures: Figures | None = None
    """With a heartbeat."""
    merged: Annotated[list[Merged], Meta(max_length=ITEMS_MAX)] = []
    digests: Annotated[list[Digest], Meta(max_length=ITEMS_MAX)] = []
    idle: Idle | None = None
    """Closed timestamps of the sender's idle ranges."""
    has_missed: bool = False
    """The sender lacks one of the receiver's ``idle`` messages."""
    life: Life | None = None
    """The sender's."""
    heard: Heard | None = None
    """What the sender was told of the receiver's disk."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Envelope)


def encode_envelope(envelope: Envelope) -> bytes:
    """Returns the message between stores."""
    return _encoder.encode(envelope)


def decode_envelope(message: bytes) -> Envelope:
    """Raises msgspec.DecodeError on anything that is not a bounded envelope."""
    return _decoder.decode(message)
