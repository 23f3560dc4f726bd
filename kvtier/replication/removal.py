"""Taking a replica out of its store, for good: its data, its log, its group, in one batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvtier.engine.batch import OpBatch
from kvtier.raft.storage import destroy
from kvtier.replication.group import Group
from kvtier.replication.image import erase, erase_rows_of, forget

if TYPE_CHECKING:
    from kvtier.replication.groups import Replication

STALL_RETRY_SECONDS: Final = 0.005
"""Pause before it is tried again on an engine that takes no writes."""


def remove(replication: Replication, group: Group) -> None:
    """Takes a replica out of this store, for good (reliability 61)."""
    if replication.groups.get(group.range_id) is not group or not replication.is_running():
        return
    if replication.is_stalled or replication.snapshots.is_installing(group.range_id):
        # What is still to be written of it must not come after its end.
        replication.store.scheduler.call_later(STALL_RETRY_SECONDS, lambda: remove(replication, group))
        return
    store = replication.store
    replica = group.replica
    batch = OpBatch()
    least = group.replica_id + 1
    if replica is not None:
        least = max(least, replica.descriptor.next_replica_id)
        erase(batch, store.state, replica.start, replica.end)
        erase_rows_of(batch, group.range_id)
    destroy(batch, group.range_id, least)
    if not replication.write(batch):
        store.scheduler.call_later(STALL_RETRY_SECONDS, lambda: remove(replication, group))
        return
    replication.forget(group)
    group.doubt_proposals(replication.node_id, "its replica was removed")
    if replica is not None:
        store.ranges.remove(replica)
        forget(store.state, replica.start, replica.end)
        store.state.locks.drop_span(replica.start, replica.end)
        store.note_ranges()
