"""Founding a cluster of several stores at once: every store begins with the same range.

A node that is started alone founds a cluster of one (``kvtier.opening.bootstrap``), and others join it.
Tests and simulations found one of any size; the stores must be given the same arguments
but for the node, so that they are equal where replicas must be.
"""

from __future__ import annotations

from kvtier.descriptors import KEY_MAX, RangeDescriptor, ReplicaPlace
from kvtier.engine.batch import OpBatch
from kvtier.engine.contract import StoreEngine
from kvtier.opening import StoreIdentity, put_first_range, put_identity
from kvtier.raft.storage import begin, create
from kvtier.replication.applied import FIRST_INDEX, FIRST_TERM, put_applied


def found(engine: StoreEngine, cluster_id: bytes, node_id: int, node_ids: list[int], now: int) -> None:
    """Writes a new store whose first range has a replica on every node; durable on return.

    ``now`` must be the same on all of them; it stamps the meta entries.
    """
    places = tuple([ReplicaPlace(node, node, place + 1) for place, node in enumerate(sorted(node_ids))])
    descriptor = RangeDescriptor(1, 1, b"", KEY_MAX, places, len(places) + 1)
    batch = OpBatch()
    put_identity(batch, StoreIdentity(cluster_id, node_id, node_id))
    put_first_range(batch, descriptor, now)
    if len(places) > 1:
        own = next(place.replica_id for place in places if place.node_id == node_id)
        create(engine, batch, descriptor.range_id, own)
        begin(engine, batch, descriptor.range_id, FIRST_INDEX, FIRST_TERM)
        put_applied(batch, descriptor.range_id, FIRST_INDEX, FIRST_TERM)
    engine.write(batch)
    engine.sync()


def join(engine: StoreEngine, cluster_id: bytes, node_id: int) -> None:
    """Writes a new store without ranges, for a node that joins a cluster; durable on return."""
    batch = OpBatch()
    put_identity(batch, StoreIdentity(cluster_id, node_id, node_id))
    engine.write(batch)
    engine.sync()
