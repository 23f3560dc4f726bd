"""Messages through their bytes, and bytes that are no message."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvtier.raft.messages import (
    NUMBER_MAX,
    Append,
    AppendReply,
    ConfChange,
    ConfState,
    Defortify,
    Entry,
    Fortify,
    FortifyReply,
    HardState,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    ReadIndex,
    ReadIndexReply,
    Snapshot,
    Step,
    TimeoutNow,
    Vote,
    VoteReply,
    decode_conf_change,
    decode_conf_state,
    decode_entry,
    decode_hard_state,
    decode_message,
    decode_term,
    encode,
)

number = st.integers(0, NUMBER_MAX)
flag = st.booleans()
data = st.binary(max_size=40)
ids = st.lists(number, max_size=5)
entry = st.builds(Entry, number, number, data, st.integers(0, 1))
conf = st.builds(ConfState, ids, ids, ids, ids, flag)
snapshot = st.builds(Snapshot, number, number, conf, data)
head = (number, number, number)
message = st.one_of(
    st.builds(AppendReply, *head, number, number, flag, number, number),
    st.builds(Heartbeat, *head, number, number),
    st.builds(HeartbeatReply, *head, number, number),
    st.builds(Vote, *head, number, number, flag, flag),
    st.builds(VoteReply, *head, flag, flag, number, number),
    st.builds(InstallSnapshot, *head, snapshot),
    st.builds(TimeoutNow, *head),
    st.builds(ReadIndex, *head, data),
    st.builds(ReadIndexReply, *head, number, data),
    st.builds(Fortify, *head),
    st.builds(FortifyReply, *head, number),
    st.builds(Defortify, *head),
)


@given(message)
def test_messages_come_back(one: Message) -> None:
    back = decode_message(encode(one))
    assert back == one
    assert type(back) is type(one)


@given(entry, st.builds(HardState, number, number, number, number, number), conf)
def test_what_is_stored_comes_back(one: Entry, state: HardState, configuration: ConfState) -> None:
    assert decode_entry(encode(one)) == one
    assert decode_term(encode(one)) == one.term
    assert decode_hard_state(encode(state)) == state
    assert decode_conf_state(encode(configuration)) == configuration


@given(st.lists(st.builds(Step, st.integers(0, 3), number), max_size=5), st.integers(0, 2), data)
def test_changes_come_back(steps: list[Step], transition: int, context: bytes) -> None:
    change = ConfChange(steps, transition, context)
    assert decode_conf_change(encode(change)) == change


def test_an_append_has_its_entries_in_line() -> None:
    good = Append(1, 2, 5, 7, 3, 7, [Entry(4, 8, b"a"), Entry(5, 9)])
    assert decode_message(encode(good)) == good
    for entries in ([Entry(4, 9)], [Entry(4, 8), Entry(4, 10)], [Entry(6, 8)]):
        with pytest.raises(msgspec.ValidationError):
            decode_message(encode(Append(1, 2, 5, 7, 3, 7, entries)))


@pytest.mark.parametrize(
    "bad", [b"", b"\xc1", b"\x90", b"\x91\x63", b"\x94\x08\x01\x02", b"\x94\x08\xff\x02\x03", b"\xdc\xff\xff\x01"]
)
def test_what_is_no_message_is_refused(bad: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_message(bad)


def test_damaged_messages_are_refused_or_are_other_messages() -> None:
    """Whatever bytes arrive: a bounded message, or DecodeError, never anything else."""
    rng = random.Random(5)
    seeds = [
        Append(1, 2, 5, 7, 3, 7, [Entry(4, 8, b"a" * 30), Entry(5, 9)]),
        InstallSnapshot(1, 2, 3, Snapshot(9, 3, ConfState([1, 2], [3], [4], [], True), b"data")),
        Vote(1, 2, 3, 4, 5, True, False),
    ]
    refused = 0
    for _ in range(20_000):
        raw = bytearray(encode(rng.choice(seeds)))
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(raw))
            if rng.random() < 0.3:
                del raw[place:]
                raw += rng.randbytes(1)
            else:
                raw[place] = rng.randrange(256)
        try:
            assert isinstance(decode_message(bytes(raw)), Message)
        except msgspec.DecodeError:
            refused += 1
    assert refused > 1_000
