"""Closed timestamps: where nothing will be written any more, so that every replica may read.

    leaseholder   closes now - lag: from here on no command is evaluated that writes at or below
    follower      serves reads there once it has applied what was in the log at that moment

A command under way was evaluated before the promise and is in the log before it, so the promise
names the last index of the log (reliability 42).  Intents may lie below; a reader that
meets one asks the leaseholder (reliability 43, 44).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvtier.replication.envelope import Closed
from kvtier.replication.group import Group
from kvtier.replication.liveness import ticks_of
from kvtier.replication.stores import clock_reading

if TYPE_CHECKING:
    from kvtier.replication.groups import Replication


def close_timestamps(replication: Replication) -> list[tuple[Group, Closed]]:
    """Advances what the leaseholders here have closed; returns what to tell their followers."""
    target = clock_reading(replication.store) - ticks_of(replication.settings.closed_lag_seconds)
    told: list[tuple[Group, Closed]] = []
    for group in replication.groups.values():
        if not replication.holds_lease(group) or target <= group.closed_ts or target > group.lease_end():
            continue
        group.closed_ts = target
        index = group.raft.log.last_index()
        group.promise(index, target)
        told.append((group, Closed(group.range_id, group.raft.term, index, target)))
    return told
