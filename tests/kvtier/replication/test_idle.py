"""Closed timestamps of idle ranges: what a follower believes is what its leaseholder promised, whatever is lost."""

from __future__ import annotations

from random import Random
from typing import Any, cast

from kvtier.raft.core import LEADER
from kvtier.replication.envelope import Envelope, decode_envelope, encode_envelope
from kvtier.replication.idle import Heard, Leading

PEERS = (2, 3)


class Machine:
    """As much of a raft machine as a bucket asks for."""

    def __init__(self) -> None:
        self.role = LEADER
        self.term = 5
        self.conf = cast(Any, type("Conf", (), {"voters": [1, 2, 3], "outgoing": []}))
        self.fortified = {1: 1, 2: 1, 3: 1}
        self.log = self
        self.index = 10

    def last_index(self) -> int:
        return self.index


class FakeGroup:
    """A range that is led here, with all that was ever written to it."""

    def __init__(self, range_id: int) -> None:
        self.range_id = range_id
        self.raft = Machine()
        self.nodes = {1: 1, 2: 2, 3: 3}
        self.bucket: Any = None
        self.closed_ts = 0
        self.writes: list[tuple[int, int]] = []

    def followers(self) -> list[int]:
        return list(PEERS)

    def is_leading(self) -> bool:
        return True

    def lease_end(self) -> int:
        return 1 << 62

    def closed(self) -> int:
        return max(self.closed_ts, self.bucket.closed_ts if self.bucket is not None else 0)


class Story:
    """One leaseholder, two followers, and messages that may be lost."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.leading = Leading(1, 7)
        self.groups = [FakeGroup(range_id) for range_id in range(1, 9)]
        self.heard = {peer: Heard() for peer in PEERS}
        self.clock = 100
        self.taken = 0
        self.missed = 0

    def write(self) -> None:
        group = self.rng.choice(self.groups)
        ts = max(self.rng.randint(self.clock - 30, self.clock), group.closed() + 1)
        self.leading.leave(cast(Any, group))
        assert ts > group.closed_ts
        group.raft.index += 1
        group.writes.append((group.raft.index, ts))

    def enter(self) -> None:
        group = self.rng.choice(self.groups)
        if group.bucket is None:
            group.raft.fortified = {1: 1, 2: 1, 3: self.rng.randint(1, 2)}
            assert self.leading.enter(cast(Any, group))

    def round(self) -> None:
        self.leading.close(self.clock - self.rng.randint(5, 10), self.clock)
        for peer in PEERS:
            message = self.leading.message(peer)
            if message is None or self.rng.random() < 0.2:
                continue
            carried = decode_envelope(encode_envelope(Envelope(0, idle=message))).idle
            assert carried is not None
            gone = self.heard[peer].take(carried, 0)
            if gone is None:
                self.missed += 1
                self.leading.tell_whole(peer)
                continue
            self.taken += 1
            for range_id, index, closed_ts in gone:
                self.believe(range_id, index, closed_ts)

    def believe(self, range_id: int, index: int, closed_ts: int) -> None:
        """Nothing after the index was written at or below what was closed."""
        late = [write for write in self.groups[range_id - 1].writes if write[0] > index and write[1] <= closed_ts]
        assert not late, (range_id, index, closed_ts, late)

    def check(self) -> None:
        self.leading.check()
        for heard in self.heard.values():
            for range_id, (bucket, index) in heard.members.items():
                self.believe(range_id, index, bucket.closed_ts)


def test_followers_believe_only_what_was_promised() -> None:
    taken = missed = 0
    for seed in range(60):
        story = Story(seed)
        for _ in range(200):
            story.clock += story.rng.randint(1, 3)
            story.rng.choice((story.write, story.enter, story.round, story.round))()
            story.check()
        taken += story.taken
        missed += story.missed
    assert taken > 2_000, taken
    assert missed > 100, missed


def test_a_quiet_round_says_one_timestamp() -> None:
    leading = Leading(1, 7)
    groups = [FakeGroup(range_id) for range_id in range(1, 101)]
    for group in groups:
        assert leading.enter(cast(Any, group))
    assert len(leading.close(50, 60)) == 1
    first = leading.message(2)
    assert first is not None
    assert (first.is_whole, len(first.entered), first.closings) == (True, 100, [(1, 50)])
    leading.close(51, 61)
    second = leading.message(2)
    assert second is not None
    assert (second.is_whole, second.entered, second.left, second.closings) == (False, [], [], [(1, 51)])
    leading.leave(cast(Any, groups[4]))
    assert groups[4].closed_ts == 51
    third = leading.message(2)
    assert third is not None
    assert third.left == [5]
