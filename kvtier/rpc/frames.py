"""What travels on a stream between two nodes, as bytes.

One message of the network is a *bundle*, msgpack of ``[number, frame, frame...]``, and holds what
was queued since the last one.  Bundles of one direction are numbered from 0 without a gap.
A frame is an array whose first element is its tag::

    handshake   dialing end                     accepting end
                Hello(cluster, from, to) -->
                                           <--  Welcome(cluster, from, epoch) | Refusal(reason)
                Open(epoch)              -->    from here on the stream counts

    then        Message, Call, Cancel    -->
                                           <--  Answer, Failure
                Beat                     <->    Beat

A frame above ``BUNDLE_BYTES_MAX`` is encoded once and travels as ``Part``s, one per bundle; no other
data frame comes between them, so nothing is reordered.

Decoding is bounded: a bundle has a fixed schema and no nesting, its size is checked before it is
decoded, and parts add up to ``MESSAGE_BYTES_MAX`` at most (reliability 125, and 4.2 (56)).
"""

from __future__ import annotations

from typing import Any, Final, Union

import msgspec
from msgspec import Struct

from base.seams import MESSAGE_BYTES_MAX

PROTOCOL_VERSION: Final = 1
BUNDLE_BYTES_MAX: Final = 128 << 10
"""Data of one bundle; more would hold up heartbeats (reliability 124)."""
FRAME_OVERHEAD: Final = 48
"""At least what a frame adds to its payload, without its channel's name."""
BUNDLE_ENCODED_MAX: Final = BUNDLE_BYTES_MAX + (16 << 10)
"""Largest encoded bundle: the data, and the control frames that may stand before it."""
FRAME_ENCODED_MAX: Final = MESSAGE_BYTES_MAX + 1024
REASON_CHARS_MAX: Final = 1000
"""Longest text of a refusal or failure; more is cut off."""
CALL_MS_MAX: Final = 3_600_000
"""Longest deadline of a call that is honoured: an hour."""


class BadPeer(Exception):
    """The other end does not keep to the protocol; the stream is closed."""


class Hello(Struct, tag=0, array_like=True, frozen=True):
    """The dialing end says who it is and whom it wants."""

    version: int
    cluster_id: bytes
    source: int
    target: int
    channel_class: str


class Welcome(Struct, tag=1, array_like=True, frozen=True):
    """The accepting end agrees; ``epoch`` orders the streams it has welcomed."""

    version: int
    cluster_id: bytes
    source: int
    epoch: int


class Open(Struct, tag=2, array_like=True, frozen=True):
    """The dialing end has seen the welcome: this stream replaces all before it."""

    epoch: int


class Refusal(Struct, tag=3, array_like=True, frozen=True):
    """The accepting end does not agree; the stream ends."""

    reason: str


class Beat(Struct, tag=4, array_like=True, frozen=True):
    """Sign of life, and a sample of the clocks (``kvtier.rpc.clocks``)."""

    sent_ns: int
    """Monotonic clock of the sender."""
    wall_ns: int
    echo_ns: int
    """``sent_ns`` of the last beat that came from the other end; 0 if none did."""
    held_ns: int
    """How long ago that one came."""


class Message(Struct, tag=5, array_like=True, gc=False):
    channel: str
    payload: bytes


class Call(Struct, tag=6, array_like=True, gc=False):
    id: int
    channel: str
    timeout_ms: int
    payload: bytes


class Answer(Struct, tag=7, array_like=True, gc=False):
    id: int
    payload: bytes


class Failure(Struct, tag=8, array_like=True, gc=False):
    """A call that was not begun (``kind`` below), or whose handler raised."""

    id: int
    kind: int
    sqlstate: str
    reason: str


RAISED: Final = 0
NOT_BEGUN: Final = 1
OVERLOADED: Final = 2


class Cancel(Struct, tag=9, array_like=True, gc=False):
    """Nobody waits for this call any more."""

    id: int


class Part(Struct, tag=10, array_like=True, gc=False):
    """The next piece of an encoded frame that is too large for one bundle."""

    is_last: bool
    piece: memoryview


Frame = Union[Hello, Welcome, Open, Refusal, Beat, Message, Call, Answer, Failure, Cancel, Part]


class Bundle(Struct, array_like=True):
    number: int
    frames: list[Frame]


_encoder: Final = msgspec.msgpack.Encoder()
_bundle_decoder: Final = msgspec.msgpack.Decoder(Bundle)
_frame_decoder: Final[msgspec.msgpack.Decoder[Frame]] = msgspec.msgpack.Decoder(Frame)
_UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises about bytes that are no message; text that is not UTF-8 is no error of its own."""


def encode_bundle(number: int, frames: list[Frame]) -> bytes:
    """Returns the message of the network."""
    encoded = _encoder.encode(Bundle(number, frames))
    assert len(encoded) <= BUNDLE_ENCODED_MAX, f"{len(encoded)=}"
    return encoded


def decode_bundle(encoded: bytes, number: int) -> list[Frame]:
    """Returns the frames of the bundle with this number; raises BadPeer."""
    if len(encoded) > BUNDLE_ENCODED_MAX:
        raise BadPeer(f"bundle of {len(encoded)} bytes, at most {BUNDLE_ENCODED_MAX} are allowed")
    try:
        bundle = _bundle_decoder.decode(encoded)
    except _UNDECODABLE as error:
        raise BadPeer(f"undecodable bundle: {error}") from None
    if bundle.number != number:
        raise BadPeer(f"bundle {bundle.number} where {number} was due")
    return bundle.frames


def encode_frame(frame: Frame) -> bytes:
    """Returns a frame that is to travel in parts."""
    return _encoder.encode(frame)


class Joiner:
    """Puts the parts of large frames together again."""

    __slots__ = ("_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: list[Any] = []
        self._size = 0

    def is_amid(self) -> bool:
        """True between the first part of a frame and its last."""
        return bool(self._pieces)

    def add(self, part: Part) -> Frame | None:
        """Takes the next part; returns the frame if it was the last, and raises BadPeer."""
        self._size += len(part.piece)
        if self._size > FRAME_ENCODED_MAX:
            raise BadPeer(f"frame of more than {FRAME_ENCODED_MAX} bytes")
        self._pieces.append(part.piece)
        if not part.is_last:
            return None
        encoded = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        try:
            frame: Frame = _frame_decoder.decode(encoded)
        except _UNDECODABLE as error:
            raise BadPeer(f"undecodable frame: {error}") from None
        if isinstance(frame, Part):
            raise BadPeer("part of a part")
        return frame
