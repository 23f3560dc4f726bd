"""A split's right half: its log is in the batch that makes it, its group begins at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvtier.engine.batch import OpBatch
from kvtier.replica import RangeState
from kvtier.replication.members import place_on, put_fresh_log

if TYPE_CHECKING:
    from kvtier.replication.groups import Replication


def put_right_half(replication: Replication, batch: OpBatch, state: RangeState) -> None:
    """Adds the log of a split's right half to the batch that makes it."""
    place = place_on(state.descriptor, replication.node_id)
    assert place is not None, state
    put_fresh_log(batch, replication.store.engine, state.descriptor.range_id, place.replica_id)


def open_right_half(replication: Replication, range_id: int, is_leading: bool) -> None:
    """Begins the group of a split's right half; what was created for early messages goes (reliability 65)."""
    replication.groups.pop(range_id, None)
    replication.ticker.remove(range_id)
    replica = replication.store.ranges.get(range_id)
    assert replica is not None, range_id
    group = replication.open_group(replica)
    if is_leading:
        # Whoever led the whole range leads its half, so that nobody waits for an election timeout.
        group.raft.campaign()
    replication.pump_soon()
