"""A store that is about to stop hands its leases away first, so that nobody waits for them to run out.

    begin    its heartbeats say so: others hand it no lease any more, and placement moves none there
    pass     every lease goes to a voter that lives and has the whole log, by turns where there are several
    again    until none is left that somebody could take, or the time is over

Invariant: a store that drains answers for a range until another one does; a batch that comes after is told
whom to ask (NotLeaseholder) and was not evaluated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from base.errors import NotLeaseholder, SqlError
from kvtier.replication.group import Group
from kvtier.replication.members import transfer_lease

if TYPE_CHECKING:
    from kvtier.replication.groups import Replication

DRAIN_SECONDS_MAX: Final = 10.0
"""How long leases may take to go: followers catch up in a moment, and an election is a round trip."""
PAUSE_SECONDS: Final = 0.05


async def drain(replication: Replication, is_live: Callable[[int], bool], seconds: float = DRAIN_SECONDS_MAX) -> int:
    """Hands the leases that are here to others; returns how many are left that nobody takes."""
    clock = replication.store.clock
    replication.is_draining = True
    replication.supporting.ask()
    given: dict[int, int] = {}
    deadline_ns = clock.monotonic_ns() + int(seconds * 1e9)
    while True:
        left = hand_away(replication, is_live, given)
        if not left or clock.monotonic_ns() > deadline_ns or not replication.is_running():
            return left
        await clock.sleep(PAUSE_SECONDS)


def hand_away(replication: Replication, is_live: Callable[[int], bool], given: dict[int, int]) -> int:
    """Begins to hand every lease away; ``given`` counts by node.  Returns how many are still here."""
    left = 0
    for group in list(replication.groups.values()):
        if not group.is_leading():
            continue
        node_id = heir_of(replication, group, is_live, given)
        if node_id is None:
            continue
        left += 1
        if not group.raft.transferee:
            try:
                transfer_lease(replication, group, node_id)
            except SqlError:
                continue  # Its members are changing; the next pass sees.
            given[node_id] = given.get(node_id, 0) + 1
    return left


def heir_of(
    replication: Replication, group: Group, is_live: Callable[[int], bool], given: dict[int, int]
) -> int | None:
    """Returns the node that should take a lease, None if there is none: alive, with most of the log, least burdened."""
    ranked: list[tuple[int, int, int]] = []
    for replica_id, node_id in group.nodes.items():
        if replica_id == group.replica_id or not group.raft.conf.is_voter(replica_id):
            continue
        if is_live(node_id) and node_id not in replication.draining:
            ranked.append((-group.raft.matches.get(replica_id, 0), given.get(node_id, 0), node_id))
    return min(ranked)[2] if ranked else None


def hand_over(replication: Replication, group: Group) -> None:
    """A leaseholder takes no replica of its own away: raises NotLeaseholder, naming who will, if any voter can.

    The lease goes to the voter that is best placed to take it, as when the store drains; asked again, it
    makes the change (``kvtier.raft.membership`` says why).
    """
    if len(group.raft.conf.all_voters()) == 1:
        return  # Refused for leaving no voter.
    heir = heir_of(replication, group, replication.stores.is_known, {})
    if heir is not None and not group.raft.transferee:
        transfer_lease(replication, group, heir)
    raise NotLeaseholder(group.range_id, heir)
