"""Closed timestamps: where nothing will be written any more, so that every replica may read.

    leaseholder   closes now - lag: from here on no command is evaluated that writes at or below
    follower      serves reads there once it has applied what was in the log at that moment

A command under way was evaluated before the promise and is in the log before it, so the promise
names the last index of the log (reliability 42).  Intents may lie below; a reader that
meets one asks the leaseholder (reliability 43, 44).

An idle range is closed in one round of IDLE_ROUNDS, each range in its own, so that what many of them
cost is little and evenly spread: nobody waits for what is new in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvtier.replication.envelope import Closed
from kvtier.replication.group import Group
from kvtier.replication.liveness import ticks_of
from kvtier.replication.stores import clock_reading

if TYPE_CHECKING:
    from kvtier.replication.groups import Replication


IDLE_ROUNDS: Final = 10
"""With rounds of 0.2 s, followers of idle ranges serve what is 3 to 5 s old."""


def close_timestamps(replication: Replication) -> list[tuple[Group, Closed]]:
    """Advances what the leaseholders here have closed; returns what to tell their followers."""
    now = clock_reading(replication.store)
    target = now - ticks_of(replication.settings.closed_lag_seconds)
    replication.closing_rounds += 1
    turn = replication.closing_rounds % IDLE_ROUNDS
    told: list[tuple[Group, Closed]] = []
    for range_id, group in replication.groups.items():
        if not group.leased_term or (group.raft.is_quiesced and range_id % IDLE_ROUNDS != turn):
            continue
        if group.replica is None or group.replica.merging:
            continue  # The range that takes it in will have to respect what it closed.
        if not group.is_leading() or target <= group.closed_ts or now >= group.lease_end():
            continue
        group.closed_ts = target
        index = group.raft.log.last_index()
        group.promise(index, target)
        told.append((group, Closed(group.range_id, group.raft.term, index, target)))
    return told
