"""Who has a replica of a range: adding, promoting and removing one, a step at a time.

    ADD       a learner, that gets a snapshot and the log, and does not vote
    PROMOTE   the learner becomes a voter
    DEMOTE    and a learner again
    REMOVE    and its id never comes back (reliability 61)

Each step is a new descriptor, carried by the configuration change that makes it true: both are
applied by the same entry, so they cannot disagree (reliability 60).  Only one is
under way, because it latches the whole range; made from a descriptor that is not the range's any more
when it is applied it changes nothing, on every replica alike.

A range that never had more than one replica has no log.  Its first other replica is given to it in one batch
with the beginning of a log, at a place that no new replica has, so that the learner needs a snapshot.
The log stays for good: the last replica that is left of several goes on alone, in its group of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from base.errors import ProposalDropped, SqlError
from kvtier.change import Change
from kvtier.descriptors import LEARNER, VOTER, RangeDescriptor, ReplicaPlace, encode_descriptor
from kvtier.engine.batch import OpBatch
from kvtier.engine.contract import StoreEngine
from kvtier.messages import ChangeReplicas, Members
from kvtier.opening import put_range
from kvtier.raft import storage
from kvtier.raft.messages import ADD_LEARNER, ADD_VOTER, REMOVE, ConfChange, Step
from kvtier.replica import Replica
from kvtier.replication.applied import FIRST_INDEX, FIRST_TERM, put_applied
from kvtier.replication.closing import LEAD_SECONDS_MAX
from kvtier.replication.group import Group
from kvtier.replication.liveness import ticks_of
from kvtier.replication.removal import remove
from kvtier.replication.stores import clock_reading

if TYPE_CHECKING:
    from kvtier.replication.groups import Replication

STEPS = {Members.ADD: ADD_LEARNER, Members.PROMOTE: ADD_VOTER, Members.REMOVE: REMOVE, Members.DEMOTE: ADD_LEARNER}


def place_on(descriptor: RangeDescriptor, node_id: int) -> ReplicaPlace | None:
    """Returns the replica on a node."""
    for place in descriptor.replicas:
        if place.node_id == node_id:
            return place
    return None


def changed(descriptor: RangeDescriptor, node_id: int, members: Members) -> tuple[RangeDescriptor, int]:
    """Returns the next descriptor and the replica id concerned; raises SqlError for what makes no sense."""
    place = place_on(descriptor, node_id)
    replicas = list(descriptor.replicas)
    next_id = descriptor.next_replica_id
    if members == Members.ADD:
        if place is not None:
            raise SqlError(f"range {descriptor.range_id} has a replica on node {node_id} already", sqlstate="55000")
        place = ReplicaPlace(node_id, node_id, next_id, LEARNER)
        replicas.append(place)
        next_id += 1
    elif place is None:
        raise SqlError(f"range {descriptor.range_id} has no replica on node {node_id}", sqlstate="55000")
    elif members == Members.PROMOTE:
        replicas[replicas.index(place)] = msgspec.structs.replace(place, kind=VOTER)
    elif members == Members.DEMOTE:
        replicas[replicas.index(place)] = msgspec.structs.replace(place, kind=LEARNER)
    else:
        replicas.remove(place)
    if not any(other.kind == VOTER for other in replicas):
        raise SqlError(f"range {descriptor.range_id} would have no voter left", sqlstate="55000")
    after = msgspec.structs.replace(
        descriptor, generation=descriptor.generation + 1, replicas=tuple(replicas), next_replica_id=next_id
    )
    return after, place.replica_id


def conf_change(after: RangeDescriptor, replica_id: int, members: Members) -> ConfChange:
    """Returns the entry that makes a descriptor true."""
    return ConfChange([Step(STEPS[members], replica_id)], context=encode_descriptor(after))


def put_first_log(batch: OpBatch, engine: StoreEngine, replica: Replica, after: RangeDescriptor, own: int) -> None:
    """Gives a range that had one replica a log, and its new descriptor."""
    put_range(batch, msgspec.structs.replace(replica.state(), descriptor=after))
    put_fresh_log(batch, engine, after.range_id, own)


def put_fresh_log(batch: OpBatch, engine: StoreEngine, range_id: int, replica_id: int) -> None:
    """Begins the log of a replica whose data are here: a split's right half, a range that was alone."""
    storage.create(engine, batch, range_id, replica_id)
    storage.begin(engine, batch, range_id, FIRST_INDEX, FIRST_TERM)
    put_applied(batch, range_id, FIRST_INDEX, FIRST_TERM)


def transfer_lease(replication: Replication, group: Group, node_id: int) -> None:
    """Tells the replica on another node to take over; raises SqlError if there is none that votes."""
    if node_id in replication.draining:
        raise SqlError(f"node {node_id} is draining", sqlstate="55000")
    if not group.leads and group.marked_ts > clock_reading(replication.store):
        # Whoever is next begins at its clock: it must not be below what was promised here.
        raise SqlError(f"range {group.range_id} was read ahead of the clock", sqlstate="55000")
    for replica_id, home in group.nodes.items():
        if home == node_id:
            try:
                group.raft.transfer_leader(replica_id)
            except ProposalDropped as dropped:
                raise SqlError(f"the lease cannot go to node {node_id}: {dropped.reason}", sqlstate="55000") from None
            replication.activate(group)
            replication.pump_soon()
            return
    raise SqlError(f"range {group.range_id} has no replica on node {node_id}", sqlstate="55000")


def add_first_member(replication: Replication, replica: Replica, op: ChangeReplicas) -> RangeDescriptor:
    """Gives a range whose only replica is here a log and a second member."""
    if op.members != Members.ADD:
        raise SqlError(f"range {replica.range_id} has one replica", sqlstate="55000")
    after, _ = changed(replica.descriptor, op.node_id, op.members)
    own = place_on(after, replication.node_id)
    assert own is not None, after
    change = Change(OpBatch())
    put_first_log(change.batch, replication.store.engine, replica, after, own.replica_id)
    replication.store.apply(change)
    replica.set_descriptor(after)
    replication.store.note_ranges()
    group = replication.open_group(replica)
    # As long as it was alone nobody noted what was read ahead of the clock.
    group.marked_ts = clock_reading(replication.store) + ticks_of(LEAD_SECONDS_MAX)
    group.raft.campaign()
    replication.pump_soon()
    return after


def members_changed(replication: Replication, group: Group, is_leading: bool) -> None:
    """A change of the members has been applied: a removed replica goes, the others are told of."""
    replica = group.replica
    assert replica is not None, group.range_id
    if place_on(replica.descriptor, replication.node_id) is None:
        replication.store.scheduler.call_soon(lambda: remove(replication, group))
    elif is_leading:
        replication.publisher.enter(replica.descriptor)
