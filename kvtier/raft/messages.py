"""What replicas of a range tell each other, and what they keep: entries, messages, hard state, snapshots.

    entry      | term | index | data | kind |
    message    | tag | sender | to | term | fields of its class |          msgpack arrays, bounded at decoding
    hard state | term | vote | commit | lead | lead_epoch |                one record, written whole (reliability 49)

Replica ids are positive and never reused (reliability 61); 0 is "nobody".  Index 0 and
term 0 stand before the log begins.  A message names only the replica it goes to; which
range it belongs to is the envelope's business (one envelope carries those of many ranges).

Two messages of a pair may be lost, doubled and overtake each other: nothing here relies on order.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Union

import msgspec
from msgspec import Meta, Struct

NUMBER_MAX: Final = (1 << 63) - 1
ENTRY_BYTES_MAX: Final = 8 << 20
"""Largest data of one entry (reliability 56)."""
MESSAGE_BYTES_MAX: Final = 16 << 20
"""Largest encoded message; an append carries at most one entry beyond its byte target."""
MEMBERS_MAX: Final = 1 << 10

Number = Annotated[int, Meta(ge=0, le=NUMBER_MAX)]
Id = Annotated[int, Meta(ge=0, le=NUMBER_MAX)]
Ids = Annotated[list[Id], Meta(max_length=MEMBERS_MAX)]
Data = Annotated[bytes, Meta(max_length=ENTRY_BYTES_MAX)]
Kind = Annotated[int, Meta(ge=0, le=1)]

NORMAL: Final = 0
"""An entry's data is the caller's; b"" is the entry with which a leader begins its term."""
CONF: Final = 1
"""An entry's data is an encoded ConfChange."""


class Entry(Struct, array_like=True, gc=False):
    """One place of the log."""

    term: Number
    index: Number
    data: Data = b""
    kind: Kind = NORMAL


class EntryTerm(Struct, array_like=True, gc=False):
    """The beginning of an encoded Entry; the rest is skipped, not copied."""

    term: Number


class HardState(Struct, array_like=True, gc=False):
    """What a replica must never forget."""

    term: Number = 0
    vote: Id = 0
    commit: Number = 0
    lead: Id = 0
    """The leader promised support in this term; 0 without ``lead_epoch``."""
    lead_epoch: Number = 0
    """The epoch of store liveness at which we promised it (reliability 38: a restart keeps the promise)."""


class ConfState(Struct, array_like=True):
    """A configuration as data; part of the applied state and of every snapshot.  Ids ascend."""

    voters: Ids = []
    """The incoming half of a joint configuration, or all voters."""
    outgoing: Ids = []
    """The outgoing half; not empty while joint."""
    learners: Ids = []
    learners_next: Ids = []
    """Voters of the outgoing half that become learners when the joint configuration is left."""
    auto_leave: bool = False


class Truncated(Struct, array_like=True, gc=False):
    """The last place that the stored log does not hold any more."""

    index: Number = 0
    term: Number = 0


class Snapshot(Struct, array_like=True):
    """The state of the range at an index.

    ``data`` is the store's own: a token of the bulk data that travels beside the
    message, or in tests the state itself.
    """

    index: Number
    term: Number
    conf: ConfState
    data: Data = b""


# --- configuration changes -------------------------------------------------------

ADD_VOTER: Final = 0
ADD_LEARNER: Final = 1
REMOVE: Final = 2
UPDATE: Final = 3
"""Changes nothing here; lets the caller order something with configuration changes."""

AUTO: Final = 0
"""Joint, left by itself, if more than one voter changes; else simple."""
IMPLICIT: Final = 1
"""Joint, left by itself as soon as possible."""
EXPLICIT: Final = 2
"""Joint until an empty change is proposed."""


class Step(Struct, array_like=True, gc=False):
    """One replica's part of a change."""

    kind: Annotated[int, Meta(ge=0, le=3)]
    id: Id


class ConfChange(Struct, array_like=True):
    """A change of the replicas; one with neither steps nor transition leaves a joint configuration."""

    steps: Annotated[list[Step], Meta(max_length=MEMBERS_MAX)] = []
    transition: Annotated[int, Meta(ge=0, le=2)] = AUTO
    context: Data = b""
    """The caller's: what else the command does (the new range descriptor)."""


# --- messages --------------------------------------------------------------------

TAG_APPEND: Final = 1
TAG_APPEND_REPLY: Final = 2
TAG_HEARTBEAT: Final = 3
TAG_HEARTBEAT_REPLY: Final = 4
TAG_VOTE: Final = 5
TAG_VOTE_REPLY: Final = 6
TAG_SNAPSHOT: Final = 7
TAG_TIMEOUT_NOW: Final = 8
TAG_READ_INDEX: Final = 9
TAG_READ_INDEX_REPLY: Final = 10
TAG_FORTIFY: Final = 11
TAG_FORTIFY_REPLY: Final = 12
TAG_DEFORTIFY: Final = 13


class Message(Struct, array_like=True):
    """What every message says; ``kind`` of its class tells which it is."""

    KIND: ClassVar[int] = 0
    sender: Id
    to: Id
    term: Number


class Append(Message, tag=TAG_APPEND):
    """The leader's log after (prev_index, prev_term); also a probe when it has no entries."""

    KIND: ClassVar[int] = TAG_APPEND
    prev_index: Number
    prev_term: Number
    commit: Number
    entries: list[Entry] = []
    is_quiet: bool = False
    """Only what is committed is news: nobody waits for an answer, if the logs agree."""


class AppendReply(Message, tag=TAG_APPEND_REPLY):
    """To Append and InstallSnapshot: durable and equal to the leader's log up to ``index``.

    Rejected, ``index`` is the append's prev_index, and (hint_index, hint_term) the last
    place of the follower's log that may agree with the leader's.
    """

    KIND: ClassVar[int] = TAG_APPEND_REPLY
    index: Number
    commit: Number = 0
    """What the follower knows to be committed."""
    reject: bool = False
    hint_index: Number = 0
    hint_term: Number = 0


class Heartbeat(Message, tag=TAG_HEARTBEAT):
    """The leader lives; ``commit`` never exceeds what the follower is known to hold."""

    KIND: ClassVar[int] = TAG_HEARTBEAT
    commit: Number
    context: Number = 0
    """Number of the newest read that waits for this round; 0: none."""


class HeartbeatReply(Message, tag=TAG_HEARTBEAT_REPLY):
    KIND: ClassVar[int] = TAG_HEARTBEAT_REPLY
    commit: Number = 0
    context: Number = 0


class Vote(Message, tag=TAG_VOTE):
    """Asks for a vote, or (pre) whether it would be given; ``term`` is the one to be elected for."""

    KIND: ClassVar[int] = TAG_VOTE
    last_index: Number
    last_term: Number
    pre: bool = False
    transfer: bool = False
    """The leader itself told us to; leases do not stand in the way."""


class VoteReply(Message, tag=TAG_VOTE_REPLY):
    """A refusal tells what we know to be committed: a candidate may be the last to learn of its own promotion."""

    KIND: ClassVar[int] = TAG_VOTE_REPLY
    pre: bool = False
    reject: bool = False
    commit: Number = 0
    commit_term: Number = 0


class InstallSnapshot(Message, tag=TAG_SNAPSHOT):
    """Replaces a log that begins too late to be caught up by entries; answered by AppendReply."""

    KIND: ClassVar[int] = TAG_SNAPSHOT
    snapshot: Snapshot


class TimeoutNow(Message, tag=TAG_TIMEOUT_NOW):
    """The leader hands over: campaign at once."""

    KIND: ClassVar[int] = TAG_TIMEOUT_NOW


class ReadIndex(Message, tag=TAG_READ_INDEX):
    """A follower asks for the index a read has to wait for."""

    KIND: ClassVar[int] = TAG_READ_INDEX
    context: Annotated[bytes, Meta(max_length=1024)]


class ReadIndexReply(Message, tag=TAG_READ_INDEX_REPLY):
    KIND: ClassVar[int] = TAG_READ_INDEX_REPLY
    index: Number
    context: Annotated[bytes, Meta(max_length=1024)]


class Fortify(Message, tag=TAG_FORTIFY):
    """The leader asks for the promise of support that its lease rests on."""

    KIND: ClassVar[int] = TAG_FORTIFY


class FortifyReply(Message, tag=TAG_FORTIFY_REPLY):
    """``epoch`` is the epoch of store liveness promised; 0: we do not support the leader's store."""

    KIND: ClassVar[int] = TAG_FORTIFY_REPLY
    epoch: Number = 0


class Defortify(Message, tag=TAG_DEFORTIFY):
    """One who led in ``term`` frees its followers from their promise."""

    KIND: ClassVar[int] = TAG_DEFORTIFY


AnyMessage = Union[
    Append, AppendReply, Heartbeat, HeartbeatReply, Vote, VoteReply, InstallSnapshot, TimeoutNow, ReadIndex,
    ReadIndexReply, Fortify, FortifyReply, Defortify,
]  # fmt: skip

_encoder = msgspec.msgpack.Encoder()
_message_decoder = msgspec.msgpack.Decoder(AnyMessage)
_term_decoder = msgspec.msgpack.Decoder(EntryTerm)
_entry_decoder = msgspec.msgpack.Decoder(Entry)
_state_decoder = msgspec.msgpack.Decoder(HardState)
_truncated_decoder = msgspec.msgpack.Decoder(Truncated)
_change_decoder = msgspec.msgpack.Decoder(ConfChange)
_conf_decoder = msgspec.msgpack.Decoder(ConfState)


def encode(thing: Message | Entry | HardState | Truncated | ConfChange | ConfState) -> bytes:
    """Returns the bytes of anything here."""
    return _encoder.encode(thing)


def decode_message(encoded: bytes) -> Message:
    """Raises msgspec.DecodeError (ValidationError is one) on anything that is not a bounded message."""
    if len(encoded) > MESSAGE_BYTES_MAX:
        raise msgspec.ValidationError(f"raft message of {len(encoded)} bytes")
    message: Message = _message_decoder.decode(encoded)
    if isinstance(message, Append):
        index = message.prev_index
        for entry in message.entries:
            index += 1
            if entry.index != index or entry.term > message.term:
                raise msgspec.ValidationError(f"append: entry ({entry.term}, {entry.index}) where {index} belongs")
    return message


def decode_entry(encoded: bytes) -> Entry:
    return _entry_decoder.decode(encoded)


def decode_term(encoded: bytes) -> int:
    """Returns the term of an encoded entry."""
    return _term_decoder.decode(encoded).term


def decode_hard_state(encoded: bytes) -> HardState:
    return _state_decoder.decode(encoded)


def decode_truncated(encoded: bytes) -> Truncated:
    return _truncated_decoder.decode(encoded)


def decode_conf_change(encoded: bytes) -> ConfChange:
    return _change_decoder.decode(encoded)


def decode_conf_state(encoded: bytes) -> ConfState:
    return _conf_decoder.decode(encoded)
