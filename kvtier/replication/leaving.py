"""How a replica that was removed while nobody could tell it learns of it.

    nothing heard of a range for SILENT_SECONDS  ->  every node is asked: is my replica still one?
    a node with a descriptor of the range        ->  "removed", if that shows it
    told so                                      ->  the replica is destroyed, for good

Replica ids only grow (reliability 61), and a descriptor names the next one.  So any descriptor that was
ever applied proves that a replica is gone if its id lies below the next one and is not listed: it
was added before, and has been removed since.  A descriptor from before its addition does not
know the id, so it proves nothing.  A range that was merged away has no replicas at all
(``kvtier.replication.merging``); no look into the meta ranges could be more certain (reliability 62, 63).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvtier.descriptors import RangeDescriptor
from kvtier.replication.envelope import Member, Merged
from kvtier.replication.merging import end_of

if TYPE_CHECKING:
    from kvtier.replication.groups import Replication

SILENT_SECONDS: Final = 10.0
"""Of an idle range one hears by its closed timestamps every few seconds."""
LOOKED_MIN: Final = 256
LOOKS: Final = 10
"""A look is at so many groups, or at this part of all of them: the next look goes on where it ended."""
ASKED_MAX: Final = 256
"""Replicas asked about in one round; the next ones in the next."""


def is_removed(descriptor: RangeDescriptor, replica_id: int) -> bool:
    """True if this replica was one of the range's once and is none any more."""
    return replica_id < descriptor.next_replica_id and all(
        place.replica_id != replica_id for place in descriptor.replicas
    )


def ask_about_silent(replication: Replication, silent_ticks: int) -> list[Member]:
    """Returns the replicas here of whose range nothing was heard for so long; each counts as heard of again."""
    asking: list[Member] = []
    tick = replication.ticks
    for group in replication.next_groups(LOOKED_MIN, LOOKS):
        if tick - group.heard_tick < silent_ticks or group.is_leading():
            continue
        if tick - replication.closing.heard_tick(group) >= silent_ticks:
            group.heard_tick = tick
            asking.append(Member(group.range_id, group.replica_id))
            if len(asking) == ASKED_MAX:
                break
    return asking


def removed_of(replication: Replication, asking: list[Member]) -> list[Member]:
    """Returns those who ask that are replicas no more, as far as this store knows."""
    removed: list[Member] = []
    for member in asking:
        replica = replication.store.ranges.get(member.range_id)
        if replica is not None and is_removed(replica.descriptor, member.replica_id):
            removed.append(member)
    return removed


def merged_of(replication: Replication, asking: list[Member]) -> list[Merged]:
    """Returns the ranges asked about that were merged away, as far as this store knows."""
    found = [end_of(replication.store.engine, member.range_id) for member in asking]
    return [merged for merged in found if merged is not None]
