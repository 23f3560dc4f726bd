"""Joining a replicated range with its right neighbour: two logs become one.

    left's leaseholder                      right's log                left's log
    latch left, latch right                      |                         |
    all replicas of right have its log  ------>  |                         |
    FREEZE  ---------------------------------->  f  nothing after this     |
    every replica of right holds f               |                         |
    MERGE (right, f)  ------------------------------------------------->   m
    each replica of left at m: right is here, applied up to f  ->  one batch: the joined range, no right

Both have replicas on the same nodes and of the same kinds, and one store holds both leases, so that locks and the
timestamp cache are the joined range's already.  A replica that comes to m before its right neighbour has
applied f waits: the log up to f is on its disk, and m says that it is committed.  One that gets a snapshot of the
joined range instead gives the right one up with it.  And one of the right range that nobody talks to any more asks
(``kvtier.replication.leaving``): it is told where the range was taken in, and goes once that has passed here.

A frozen range answers nothing but reads at or below what it had closed.  Whoever leads it, and finds it frozen
without a merge under way, asks the leaseholder of its left neighbour for a read: that waits for every merge
that is latched there, and whoever answers has applied, or outlived, all that were proposed before.  If the range that
answers ends at the frozen one, no merge will come: it is thawed, through its own log.

Invariants: after f no entry of right's log changes its data, unless it is thawed first, and it is thawed only
when no m that names f can be applied any more.  A merged range's id is used up on every store (``MERGED``), so that no
message makes it again.  The joined range closes no timestamp below what right had closed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import msgspec

from base.errors import KvError, MeridianError, NotLeaseholder, Overloaded, SqlError
from base.seams import CF_LOCAL
from kvtier.administration import RangeChange, merge, restated
from kvtier.change import Change
from kvtier.descriptors import KEY_MAX, META1, RangeDescriptor
from kvtier.engine.batch import OpBatch
from kvtier.latches import Latch, LatchSpan
from kvtier.messages import Batch, TransferLease
from kvtier.raft.storage import destroy
from kvtier.replica import RangeState, Replica
from kvtier.replication.envelope import Merged
from kvtier.replication.group import Group
from kvtier.replication.image import erase_rows_of
from kvtier.replication.removal import remove

if TYPE_CHECKING:
    from kvtier.engine.contract import StoreEngine
    from kvtier.replication.groups import Replication

MERGED: Final = (1 << 63) - 1
"""The least replica id of a range that was merged away: none comes again."""
END_PREFIX: Final = b"u"
"""Of the local family: range id 8 B -> id of the range that took it in 8 B, index of its log 8 B."""
FROZEN_SECONDS_MAX: Final = 2.0
"""How long a merge may wait for the replicas of the frozen range; then it is given up."""
POLL_SECONDS: Final = 0.01
LEASE_SECONDS_MAX: Final = 2.0
"""How long the right range's lease may take to come here."""


class Frozen(Overloaded):
    """An entry cannot be applied yet, because another range has not come so far here."""


def not_possible(why: str) -> SqlError:
    """Returns the error of a merge that cannot be made as things are."""
    return SqlError(f"the ranges cannot be merged: {why}", sqlstate="55000")


# --- the leaseholder --------------------------------------------------------------------------


async def merge_right(replication: Replication, group: Group, left: Replica, latch: Latch) -> RangeDescriptor:
    """Joins a range whose lease is here, all of it latched, with its right neighbour.  Takes the latch over."""
    is_latched = True
    try:
        right = await _neighbour(replication, left)
        other = replication.group_of(right)
        _check(replication, group, left, other, right)
        right_latch = right.latches.acquire([LatchSpan(right.start, right.end, True)])
        try:
            if right_latch.waiter is not None:
                await right_latch.waiter.wait()
            if replication.store.ranges.get(right.range_id) is not right:
                raise not_possible("the right one has just changed")
            _check(replication, group, left, other, right)
        except BaseException:
            right.latches.release(right_latch)
            raise
        frozen = await _freeze(replication, other, left, right, right_latch)
        try:
            index, term = await _wait_for_replicas(replication, other, frozen)
            change, joined = _evaluate(replication, group, left, other, frozen, (frozen.range_id, index, term))
        except BaseException:
            await _thaw_quietly(replication, other, frozen)
            raise
        is_latched = False
        try:
            await replication.proposals.propose(group, change.change, change, latch)
        except NotLeaseholder:
            # It certainly was not applied; another store leads now, and nothing of this one's will be.
            await _thaw_quietly(replication, other, frozen)
            raise
        return joined
    finally:
        if is_latched:
            left.latches.release(latch)


async def _neighbour(replication: Replication, left: Replica) -> Replica:
    """Returns the right neighbour, with its lease here."""
    store = replication.store
    if left.end >= KEY_MAX:
        raise SqlError("the last range has no right neighbour", sqlstate="22023")
    right = store.ranges.find(left.end)
    if right is None or right.start != left.end:
        raise not_possible("their replicas are on different nodes")
    if right.is_alone:
        raise not_possible("the right one has one replica")
    deadline_ns = store.clock.monotonic_ns() + int(LEASE_SECONDS_MAX * 1e9)
    if not replication.holds_lease(replication.group_of(right)):
        await _fetch_lease(replication, right)
        while not replication.holds_lease(replication.group_of(right)):
            if store.clock.monotonic_ns() > deadline_ns:
                raise not_possible("the lease of the right one does not come")
            await store.clock.sleep(POLL_SECONDS)
    found = store.ranges.find(left.end)
    if found is None or found.start != left.end:
        raise not_possible("the right one has just changed")
    return found


async def _fetch_lease(replication: Replication, right: Replica) -> None:
    """Asks the right range's leaseholder for its lease, without a look into the meta ranges: one of them may be latched here."""
    holder = replication.group_of(right).leader_node()
    if holder is None or holder == replication.node_id:
        raise not_possible("the right one has no leaseholder")
    deadline_ns = replication.store.clock.wall_ns() + int(LEASE_SECONDS_MAX * 1e9)
    op = TransferLease(max(right.start, META1), replication.node_id)
    batch = Batch([op], range_id=right.range_id, generation=right.generation, deadline_ns=deadline_ns)
    try:
        await replication.remote.ask(holder, batch)
    except KvError as problem:
        raise not_possible("the lease of the right one is elsewhere") from problem


def _check(replication: Replication, group: Group, left: Replica, other: Group, right: Replica) -> None:
    """Raises unless a merge can begin now."""
    if replication.store.ranges.get(left.range_id) is not left or not replication.holds_lease(group):
        raise NotLeaseholder(left.range_id, group.leader_node())
    if not replication.holds_lease(other) or other.raft.transferee:
        raise not_possible("the lease of the right one is elsewhere")
    if left.descriptor.leads != right.descriptor.leads:
        raise not_possible("their timestamps are not closed alike")
    if left.merging or right.merging:
        raise not_possible("one of them is being merged already")
    places = [
        sorted([(place.node_id, place.kind) for place in replica.descriptor.replicas]) for replica in (left, right)
    ]
    if places[0] != places[1]:
        raise not_possible("their replicas are on different nodes")
    last = other.raft.log.last_index()
    for place in right.descriptor.replicas:
        if place.replica_id != other.replica_id and other.raft.matches.get(place.replica_id, 0) < last:
            raise not_possible(f"the replica on node {place.node_id} lags")


async def _freeze(replication: Replication, other: Group, left: Replica, right: Replica, latch: Latch) -> Replica:
    """Ends the right range's log for everybody; returns its replica as it is then."""
    await replication.proposals.propose(other, *_frozen(right, max(left.start, META1)), latch)
    frozen = other.replica
    assert frozen is not None, right.range_id
    assert frozen.merging, right.range_id
    return frozen


def _frozen(replica: Replica, merging: bytes) -> tuple[Change, RangeChange]:
    """Returns the command that freezes a range, or thaws it (b"")."""
    change = restated(replica, msgspec.structs.replace(replica.state(), merging=merging))
    return change.change, change


async def _wait_for_replicas(replication: Replication, other: Group, frozen: Replica) -> tuple[int, int]:
    """Waits until every replica of the frozen range has its whole log; returns where that ends."""
    clock = replication.store.clock
    index = other.applied_index
    term = other.raft.log.term(index)
    deadline_ns = clock.monotonic_ns() + int(FROZEN_SECONDS_MAX * 1e9)
    followers = [place.replica_id for place in frozen.descriptor.replicas if place.replica_id != other.replica_id]
    while any(other.raft.matches.get(replica_id, 0) < index for replica_id in followers):
        if clock.monotonic_ns() > deadline_ns:
            raise not_possible("a replica of the right one does not answer")
        await clock.sleep(POLL_SECONDS)
        if not replication.holds_lease(other) or other.replica is not frozen:
            raise not_possible("the lease of the right one was lost")
    return index, term


def _evaluate(
    replication: Replication,
    group: Group,
    left: Replica,
    other: Group,
    frozen: Replica,
    subsumed: tuple[int, int, int],
) -> tuple[RangeChange, RangeDescriptor]:
    """Returns the merge as a command, and the joined range."""
    store = replication.store
    if not replication.holds_lease(group) or not replication.holds_lease(other) or other.replica is not frozen:
        raise not_possible("a lease was lost")
    change, joined = merge(store.state, left.start, store.now(), False)
    assert change is not None, left.descriptor
    change.subsumed = subsumed
    return change, joined


async def _thaw_quietly(replication: Replication, other: Group, frozen: Replica) -> None:
    """Thaws a range after a merge that was not proposed; if that fails its leaseholder will find it."""
    try:
        await thaw(replication, other, frozen)
    except MeridianError:
        pass


async def thaw(replication: Replication, other: Group, frozen: Replica) -> None:
    """Lets a frozen range go on; only for who knows that no merge of it can be applied any more."""
    if other.replica is not frozen or not replication.holds_lease(other):
        return
    latch = frozen.latches.acquire([LatchSpan(frozen.start, frozen.end, True)])
    if latch.waiter is not None:
        frozen.latches.release(latch)
        return  # It is being thawed.
    await replication.proposals.propose(other, *_frozen(frozen, b""), latch)


# --- what was left frozen ---------------------------------------------------------------------


class Thawing:
    """Looks after frozen ranges that are led here."""

    def __init__(self, replication: Replication) -> None:
        self._replication = replication
        self._asking: dict[int, None] = {}
        self._frozen: dict[int, None] = {}
        """Ranges that were frozen when they were last looked at."""

    def look(self, stirred: Iterable[int]) -> None:
        """Asks about every frozen range that is led here; told from time to time which groups have done something."""
        replication = self._replication
        for range_id in [*self._frozen, *[range_id for range_id in stirred if range_id not in self._frozen]]:
            group = replication.groups.get(range_id)
            replica = None if group is None else group.replica
            if group is None or replica is None or not replica.merging:
                self._frozen.pop(range_id, None)
                continue
            self._frozen[range_id] = None
            if range_id in self._asking or replica.latches.latches:
                continue
            if replication.holds_lease(group):
                self._asking[range_id] = None
                replication.store.scheduler.spawn(self._ask(group, replica), "ask about merge")

    async def _ask(self, group: Group, frozen: Replica) -> None:
        replication = self._replication
        try:
            left = await replication.confirm(frozen.merging)
            if left.end <= frozen.start:
                await thaw(replication, group, frozen)
        except MeridianError:
            pass  # Nobody can be asked now: again in a while.
        finally:
            del self._asking[group.range_id]


# --- every replica ----------------------------------------------------------------------------


def prepare(
    replication: Replication, batch: OpBatch, subsumed: tuple[int, int, int], left_id: int, place: int
) -> Group:
    """Adds the end of the right range to the batch of a merge, the entry at ``place`` of the left one's log.

    Raises Frozen (wait) while the right one has not applied its own log here.
    """
    range_id, index, term = subsumed
    group = replication.groups.get(range_id)
    if group is None or group.replica is None or replication.snapshots.is_installing(range_id):
        raise Frozen(f"range {range_id} is not here yet, to be merged")
    if group.applied_index < index:
        if group.raft.learn_committed(index, term):
            replication.activate(group)
            replication.pump_soon()
        raise Frozen(f"range {range_id} has still to apply its log, to be merged")
    assert group.replica.merging, range_id
    put_end(batch, range_id, left_id, place)
    return group


def joined(replication: Replication, group: Group, right: Group, is_leading: bool) -> None:
    """The merge has been applied: the right range's group is no more."""
    replica = right.replica
    assert replica is not None, right.range_id
    store = replication.store
    right.closed_here = replication.closing.closed_here(right)
    replication.forget(right)
    right.doubt_proposals(replication.node_id, "its range was merged")
    group.closed_ts = max(group.closed_ts, right.closed_ts)
    group.marked_ts = max(group.marked_ts, right.marked_ts)
    store.state.tscache.add_span(replica.start, replica.end, max(right.closed_ts, right.closed_here), b"")
    if not is_leading:
        store.state.locks.drop_span(replica.start, replica.end)


def put_end(batch: OpBatch, range_id: int, left_id: int, index: int) -> None:
    """Writes that a range is no more, whose replica's data stay; and where its left neighbour took it in."""
    erase_rows_of(batch, range_id)
    destroy(batch, range_id, MERGED)
    batch.put(CF_LOCAL, _end_key(range_id), left_id.to_bytes(8, "big") + index.to_bytes(8, "big"))


def end_of(engine: StoreEngine, range_id: int) -> Merged | None:
    """Returns where a range was merged away, None if that is not known here."""
    stored = engine.get(CF_LOCAL, _end_key(range_id))
    if stored is None:
        return None
    return Merged(range_id, int.from_bytes(stored[:8], "big"), int.from_bytes(stored[8:], "big"))


def _end_key(range_id: int) -> bytes:
    return END_PREFIX + range_id.to_bytes(8, "big")


def take_merged(replication: Replication, merged: Merged) -> None:
    """Removes a replica of a range that is no more, unless its left neighbour here has still to take it in."""
    group = replication.groups.get(merged.range_id)
    if group is None:
        return
    left = replication.groups.get(merged.left_id)
    if left is None or (left.replica is not None and left.applied_index >= merged.index):
        remove(replication, group)


def is_subsumed_by(replica: Replica, state: RangeState) -> bool:
    """True for a replica that a snapshot of its left neighbour, merged with it since, replaces.

    A right half that was split off after the snapshot was made has a later generation.
    """
    descriptor = state.descriptor
    is_inside = descriptor.start < replica.start and replica.end <= descriptor.end
    return is_inside and replica.generation < descriptor.generation
