"""Framing: what goes in comes out, in order, in bounded bundles; what is no frame is refused."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from base.seams import MESSAGE_BYTES_MAX
from kvtier.rpc.frames import (
    BUNDLE_BYTES_MAX,
    BUNDLE_ENCODED_MAX,
    FRAME_OVERHEAD,
    Answer,
    BadPeer,
    Beat,
    Call,
    Cancel,
    Failure,
    Frame,
    Joiner,
    Message,
    Part,
    decode_bundle,
    encode_bundle,
    encode_frame,
)
from kvtier.rpc.outbox import Outbox

BIG = BUNDLE_BYTES_MAX
ids = st.integers(0, 2**64 - 1)
sizes = st.one_of(st.integers(0, 300), st.integers(BIG - 200, BIG + 200), st.integers(0, 5 * BIG))
payloads = st.builds(lambda size, byte: bytes([byte]) * size, sizes, st.integers(0, 255))
channels = st.sampled_from(["raft.msg", "kv.batch", "snapshot.chunk"])
data_frames = st.one_of(
    st.builds(Message, channels, payloads),
    st.builds(Call, ids, channels, st.integers(1, 10**6), payloads),
    st.builds(Answer, ids, payloads),
    st.builds(Failure, ids, st.integers(0, 2), st.just("40001"), st.text(max_size=1000)),
    st.builds(Cancel, ids),
)


def size_of(frame: Frame) -> int:
    return len(getattr(frame, "payload", b"")) + 4 * len(getattr(frame, "reason", ""))


def receive(bundles: list[bytes]) -> list[Frame]:
    """What the other end makes of bundles, beats left out."""
    joiner = Joiner()
    got: list[Frame] = []
    for number, bundle in enumerate(bundles):
        for frame in decode_bundle(bundle, number):
            if isinstance(frame, Part):
                whole = joiner.add(frame)
                if whole is not None:
                    got.append(whole)
            elif not isinstance(frame, Beat):
                assert not joiner.is_amid()
                got.append(frame)
    assert not joiner.is_amid()
    return got


@given(st.lists(data_frames, max_size=30))
@settings(max_examples=200)
def test_bundles_hold_every_frame_once_and_in_order(frames: list[Frame]) -> None:
    outbox = Outbox(100, 1 << 40, lambda frame: True)
    for frame in frames:
        assert outbox.put(frame, size_of(frame), 0)
        outbox.check()
    bundles = []
    while (bundle := outbox.take(0, True)) is not None:
        assert len(bundle) <= BUNDLE_ENCODED_MAX
        bundles.append(bundle)
        outbox.check()
        if len(bundles) % 3 == 0:
            outbox.put_control(Beat(1, 2, 3, 4), 0)
    assert receive(bundles) == frames
    assert outbox.bytes == 0
    assert outbox.next_due_ns(True) is None


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3)), max_size=40))
def test_what_is_due_later_leaves_later_in_the_same_order(steps: list[tuple[int, int]]) -> None:
    """A delay that shrinks does not let a message overtake; against a list sorted by hand."""
    outbox = Outbox(1000, 1 << 40, lambda frame: True)
    now = latest = 0
    taken_at = -1
    expected: list[tuple[int, int]] = []
    got: list[tuple[int, int]] = []
    bundles = 0
    for number, (delay, passes) in enumerate(steps):
        latest = max(latest, now + delay)
        outbox.put(Cancel(number), 0, now + delay)
        expected.append((latest, number))
        for _ in range(passes):
            now += 1
            taken_at = now
            bundle = outbox.take(now, True)
            if bundle is not None:
                got += [(now, frame.id) for frame in decode_bundle(bundle, bundles) if isinstance(frame, Cancel)]
                bundles += 1
            due = outbox.next_due_ns(True)
            assert due is None or due > now
    assert [number for _, number in got] == list(range(len(got)))
    for (due, _number), (left_at, _) in zip(expected, got):
        assert left_at >= due
    assert len(got) == len([due for due, _ in expected if due <= taken_at])


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2000)), max_size=60))
def test_an_outbox_is_bounded(steps: list[tuple[bool, int]]) -> None:
    """Frames and bytes stay below their limits, counted by a list beside it."""
    outbox = Outbox(10, 5000, lambda frame: True)
    model: list[int] = []
    for is_put, size in steps:
        if is_put:
            counted = size + FRAME_OVERHEAD
            fits = len(model) < 10 and (sum(model) + counted <= 5000 or not model)
            assert outbox.put(Message("kv.x", bytes(size)), size, 0) == fits
            if fits:
                model.append(counted)
        else:
            outbox.take(0, True)
            model.clear()
        assert outbox.bytes == sum(model)
        outbox.check()


def test_what_nobody_wants_does_not_leave() -> None:
    outbox = Outbox(10, 1 << 20, lambda frame: not (isinstance(frame, Call) and frame.id == 2))
    for call_id in (1, 2, 3):
        outbox.put(Call(call_id, "kv.x", 1, b""), 0, 0)
    (bundle,) = [outbox.take(0, True)]
    assert bundle is not None
    assert [frame.id for frame in decode_bundle(bundle, 0) if isinstance(frame, Call)] == [1, 3]
    assert outbox.bytes == 0


@given(st.binary(max_size=400))
@settings(max_examples=500)
def test_garbage_is_refused_or_is_a_bundle(garbage: bytes) -> None:
    try:
        frames = decode_bundle(garbage, 0)
    except BadPeer:
        return
    assert decode_bundle(encode_bundle(0, frames), 0) == frames


@given(st.lists(data_frames, min_size=1, max_size=3), st.data())
@settings(max_examples=200)
def test_a_flipped_byte_never_escapes_as_another_error(frames: list[Frame], data: st.DataObject) -> None:
    small = [frame for frame in frames if size_of(frame) < 2000]
    bundle = bytearray(encode_bundle(0, small))
    at = data.draw(st.integers(0, len(bundle) - 1))
    bundle[at] ^= data.draw(st.integers(1, 255))
    try:
        decode_bundle(bytes(bundle), 0)
    except BadPeer:
        pass


def test_limits() -> None:
    with pytest.raises(BadPeer, match="at most"):
        decode_bundle(bytes(BUNDLE_ENCODED_MAX + 1), 0)
    with pytest.raises(BadPeer, match="where 3 was due"):
        decode_bundle(encode_bundle(2, []), 3)
    joiner = Joiner()
    piece = memoryview(bytes(1 << 20))
    with pytest.raises(BadPeer, match="frame of more than"):
        for _ in range(MESSAGE_BYTES_MAX // (1 << 20) + 2):
            joiner.add(Part(False, piece))
    with pytest.raises(BadPeer, match="part of a part"):
        Joiner().add(Part(True, memoryview(encode_frame(Part(True, memoryview(b""))))))
    with pytest.raises(BadPeer, match="undecodable"):
        Joiner().add(Part(True, memoryview(b"\xc1")))


def test_the_schema_on_the_wire() -> None:
    """Written down, so that a change of it is seen: nodes of two versions must understand each other."""
    frames: list[Frame] = [
        Message("kv.x", b"m"),
        Call(1, "kv.x", 500, b"c"),
        Answer(1, b"a"),
        Cancel(2),
        Beat(1, 2, 3, 4),
    ]
    assert msgspec.msgpack.decode(encode_bundle(7, frames)) == [
        7,
        [[5, "kv.x", b"m"], [6, 1, "kv.x", 500, b"c"], [7, 1, b"a"], [9, 2], [4, 1, 2, 3, 4]],
    ]
