"""Closed timestamps of idle ranges: one for many of them, once per pair of stores and round.

A range whose group sleeps enters a bucket: all ranges that are led here by the support of the same stores at the same
epochs, so that one lease's end is everybody's.  What a peer is told of it:

    entered   (range, bucket, index)      from now on the bucket's closed timestamp is the range's, from that index on
    left      range                       no more: it has woken, was merged, has moved, or is led by others
    closings  (bucket, timestamp)         all that is sent while nothing changes

    leaseholder   Leading: range --> bucket, and what each peer has still to be told
    follower      Heard, one a peer: range --> (bucket, index), good once the index is applied (reliability 42)

A range leaves its bucket before anything is put into its log (``Leading.leave`` runs with every activation), with
what the bucket has closed as its own; a peer hears of that in the message that next moves the bucket, or before.
So a message lost would be a lie: messages to a peer are numbered, and whoever misses one takes no more of them until it
has been told everything again.  What it knew stays true: a promise, once made, is never taken back.

The shape is that of CockroachDB's side transport (their RFC 20191108); reliability 42, 74.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Meta, Struct

from kvtier.raft.core import LEADER

if TYPE_CHECKING:
    from kvtier.replication.group import Group

CHANGES_MAX: Final = 10_000
"""Ranges that enter or leave by one message; the others follow with the next."""
BUCKETS_MAX: Final = 4_096
"""Of one store; a range that finds no place in one is closed by itself."""

Entered = tuple[int, int, int, int]
"""Range id, bucket id, term and index of its log."""


class Idle(Struct, array_like=True, frozen=True):
    """One message; ``life`` is the sender's epoch at its start, ``number`` counts the messages to this peer."""

    life: int
    number: int
    is_whole: bool
    """Everything told before is void."""
    closings: Annotated[list[tuple[int, int]], Meta(max_length=BUCKETS_MAX)]
    entered: Annotated[list[Entered], Meta(max_length=CHANGES_MAX)]
    left: Annotated[list[int], Meta(max_length=CHANGES_MAX)]


BucketKey = tuple[tuple[int, ...], tuple[tuple[int, int], ...]]
"""Voters' nodes; (node, epoch) of those that promised support."""


class Bucket:
    """Ranges that are closed together."""

    __slots__ = ("bucket_id", "closed_ts", "key", "members")

    def __init__(self, bucket_id: int, key: BucketKey) -> None:
        self.bucket_id = bucket_id
        self.key = key
        self.closed_ts = 0
        self.members: dict[int, Group] = {}


class Told:
    """What a peer has still to be told."""

    __slots__ = ("entered", "left", "number", "whole_due")

    def __init__(self) -> None:
        self.number = 0
        self.whole_due = True
        self.entered: dict[int, Group] = {}
        self.left: dict[int, None] = {}


class Leading:
    """The idle ranges that are led here.

    Invariant: a group's ``bucket`` is the one whose members it is among, and the group sleeps, or is about to leave.
    """

    def __init__(self, node_id: int, life: int) -> None:
        self._node_id = node_id
        self._life = life
        self._buckets: dict[BucketKey, Bucket] = {}
        self._next_id = 1
        self._told: dict[int, Told] = {}

    def __len__(self) -> int:
        """Number of ranges in buckets."""
        return sum([len(bucket.members) for bucket in self._buckets.values()])

    def enter(self, group: Group) -> bool:
        """Takes in a group that leads and sleeps; False if it must be closed by itself."""
        assert group.bucket is None, group.range_id
        key = bucket_key(group)
        if key is None:
            return False
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) == BUCKETS_MAX:
                return False
            bucket = self._buckets[key] = Bucket(self._next_id, key)
            self._next_id += 1
        bucket.members[group.range_id] = group
        group.bucket = bucket
        for node_id in group.followers():
            told = self._told.get(node_id)
            if told is None:
                told = self._told[node_id] = Told()
            told.left.pop(group.range_id, None)
            told.entered[group.range_id] = group
        return True

    def leave(self, group: Group) -> None:
        """The group is idle no more; what its bucket has closed stays closed."""
        bucket = group.bucket
        if bucket is None:
            return
        group.closed_ts = max(group.closed_ts, bucket.closed_ts)
        group.bucket = None
        del bucket.members[group.range_id]
        if not bucket.members:
            del self._buckets[bucket.key]
        for told in self._told.values():
            # Its members may have changed since it entered: whoever does not know it takes no harm.
            told.entered.pop(group.range_id, None)
            told.left[group.range_id] = None

    def close(self, target: int, now: int) -> list[Bucket]:
        """Closes at ``target`` what is led now for certain; returns those buckets."""
        closed: list[Bucket] = []
        for bucket in list(self._buckets.values()):
            first = next(iter(bucket.members.values()))
            if first.is_leading() and now < first.lease_end() and target > bucket.closed_ts:
                bucket.closed_ts = target
                closed.append(bucket)
        return closed

    def message(self, node_id: int) -> Idle | None:
        """Returns what to tell a peer now; None if there is nothing."""
        told = self._told.get(node_id)
        if told is None:
            return None
        is_whole = told.whole_due
        if is_whole:
            told.whole_due = False
            told.left.clear()
            for bucket in self._buckets.values():
                for range_id, group in bucket.members.items():
                    if node_id in group.followers():
                        told.entered[range_id] = group
        elif not self._buckets and not told.left:
            return None
        told.number += 1
        left = list(told.left)[:CHANGES_MAX]
        for range_id in left:
            del told.left[range_id]
        is_behind = bool(told.left)
        entered: list[Entered] = []
        for group in [told.entered[range_id] for range_id in list(told.entered)[:CHANGES_MAX]]:
            del told.entered[group.range_id]
            home = group.bucket
            assert home is not None, group.range_id
            entered.append((group.range_id, home.bucket_id, group.raft.term, group.raft.log.last_index()))
        # Who has not heard of all that left must not hear of what has been closed since.
        closings = [] if is_behind else [(bucket.bucket_id, bucket.closed_ts) for bucket in self._buckets.values()]
        return Idle(self._life, told.number, is_whole, closings, entered, left)

    def peers(self, known: list[int]) -> list[int]:
        """Returns the nodes that are to be told of something; forgets those that are not ``known``."""
        for node_id in [node_id for node_id in self._told if node_id not in known]:
            del self._told[node_id]
        return list(self._told)

    def tell_whole(self, node_id: int) -> None:
        """A peer has missed something."""
        told = self._told.get(node_id)
        if told is not None:
            told.whole_due = True

    def check(self) -> None:
        """Asserts the invariant; for tests."""
        for bucket in self._buckets.values():
            assert bucket.members, bucket.key
            for group in bucket.members.values():
                assert group.bucket is bucket, group.range_id


def bucket_key(group: Group) -> BucketKey | None:
    """Returns what a group's lease rests on; None unless it leads, by promises of stores that are known."""
    raft = group.raft
    if raft.role != LEADER or raft.conf.outgoing:
        return None
    nodes = group.nodes
    voters = [nodes.get(replica_id, 0) for replica_id in raft.conf.voters]
    promised = [(nodes.get(replica_id, 0), epoch) for replica_id, epoch in raft.fortified.items()]
    if 0 in voters:
        return None
    return tuple(sorted(voters)), tuple(sorted(promised))


Promise = tuple[int, int, int]
"""Range id, index of its log, closed timestamp: good once the index is applied."""


class HeardBucket:
    """A bucket as its leaseholder has told of it."""

    __slots__ = ("closed_ts",)

    def __init__(self) -> None:
        self.closed_ts = 0


class Heard:
    """What one peer has told of the idle ranges that it leads."""

    __slots__ = ("_buckets", "_life", "_number", "members", "tick")

    def __init__(self) -> None:
        self._life = 0
        self._number = -1
        """Of the last message taken; -1: a whole one is waited for."""
        self._buckets: dict[int, HeardBucket] = {}
        self.members: dict[int, tuple[HeardBucket, int]] = {}
        self.tick = 0
        """When a message was taken last."""

    def take(self, idle: Idle, tick: int) -> list[Promise] | None:
        """Takes a message; returns what was promised of ranges that left, until then; None if a message was missed."""
        if not idle.is_whole and (self._number < 0 or idle.life != self._life or idle.number != self._number + 1):
            self._number = -1
            return None
        gone: list[Promise] = []
        if idle.is_whole:
            gone = [(range_id, index, bucket.closed_ts) for range_id, (bucket, index) in self.members.items()]
            self.members, self._buckets = {}, {}
        self._life = idle.life
        self._number = idle.number
        self.tick = tick
        # In this order: what left, or has moved on, is not closed by what comes last.
        for range_id in idle.left:
            self._leave(range_id, gone)
        for range_id, bucket_id, _, index in idle.entered:
            self._leave(range_id, gone)
            self.members[range_id] = (self._bucket(bucket_id), index)
        if idle.closings:
            self._buckets = {bucket_id: self._bucket(bucket_id) for bucket_id, _ in idle.closings}
        for bucket_id, closed_ts in idle.closings:
            bucket = self._buckets[bucket_id]
            bucket.closed_ts = max(bucket.closed_ts, closed_ts)
        return gone

    def _leave(self, range_id: int, gone: list[Promise]) -> None:
        was = self.members.pop(range_id, None)
        if was is not None:
            gone.append((range_id, was[1], was[0].closed_ts))

    def _bucket(self, bucket_id: int) -> HeardBucket:
        found = self._buckets.get(bucket_id)
        if found is None:
            found = self._buckets[bucket_id] = HeardBucket()
        return found
