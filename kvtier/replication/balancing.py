"""Leases and replicas are spread over the nodes: by load, by count, where constraints leave a choice.

    figures        leases, replicas and batches a second of every store; they travel with its heartbeats
    by load        the busiest store hands the lease of a hot range to the least busy one that has a replica
    by count       a store with many leases hands those of its coldest ranges to one with few
    replicas       a leaseholder moves a replica from a full node to an empty one, one range at a time

All of it concerns ranges that are well placed (``kvtier.replication.placement``); a lease stays in the regions
that its range prefers, and a replica goes only where the allocation would leave it
(``kvtier.replication.allocation``), so that nothing goes back.

Invariant (hysteresis): a move leaves the gap between the two stores smaller than it was and on the same side, and
is made only where the gap is beyond its tolerance; moves by count leave loads within theirs; of all stores
only the one that has most hands leases over; a lease is kept for LEASE_SECONDS_MIN by whoever got it.
So figures that are a few seconds old cannot make a range go back and forth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from base.errors import MeridianError
from kvtier.descriptors import LEARNER
from kvtier.replica import Replica
from kvtier.replication.allocation import LIVE, NodeState, Replicas, allocate, lease_rank
from kvtier.replication.constraints import SpanConfigs
from kvtier.replication.envelope import Figures
from kvtier.replication.group import Group
from kvtier.replication.liveness import ticks_of
from kvtier.replication.members import transfer_lease
from kvtier.replication.stores import clock_reading

if TYPE_CHECKING:
    from kvtier.replication.groups import Replication

INTERVAL_SECONDS: Final = 5.0
"""Between two looks at the leases; several heartbeats, so that figures have arrived."""
HALF_LIFE_LOOKS: Final = 2.0
"""A range's load is forgotten by half after so many looks."""
GAP_MIN: Final = 4
"""Leases, or replicas, that two stores may differ by; below it nothing moves."""
GAP_SHARE: Final = 0.1
"""And this share of the mean, where that is more."""
LOAD_GAP_MIN: Final = 50.0
"""Batches a second that two stores may differ by."""
LOAD_GAP_SHARE: Final = 0.25
LEASES_PER_LOOK: Final = 100
COLD_SHARE: Final = 0.01
"""A range with less than this share of a store's load is cold: it goes anywhere."""
LEASE_SECONDS_MIN: Final = 10.0
SWAP_SECONDS_MAX: Final = 300.0
"""A move of a replica that takes longer is given up."""


class LeaseHere(NamedTuple):
    """A lease that could go: to which nodes, and how busy its range is."""

    range_id: int
    load: float
    heirs: tuple[int, ...]


def tolerance(mean: float) -> float:
    """Returns by how much two counts may differ."""
    return max(GAP_MIN, GAP_SHARE * mean)


def leases_to_hand(
    own: int, figures: Mapping[int, Figures], leases: Sequence[LeaseHere], limit: int = LEASES_PER_LOOK
) -> list[tuple[int, int]]:
    """Returns (range, node) of the leases that ``own`` should hand over now: hot ones by load, cold ones by count."""
    counts = {node_id: found.leases for node_id, found in figures.items()}
    loads = {node_id: found.load for node_id, found in figures.items()}
    moved: dict[int, int] = {}

    def move(lease: LeaseHere, heir: int) -> None:
        moved[lease.range_id] = heir
        counts[own] -= 1
        counts[heir] += 1
        loads[own] -= lease.load
        loads[heir] += lease.load

    mean = sum(loads.values()) / len(loads)
    load_gap = max(LOAD_GAP_MIN, LOAD_GAP_SHARE * mean)
    by_heat = sorted(leases, key=lambda lease: (-lease.load, lease.range_id))
    for lease in by_heat if _is_first(own, loads) else []:
        heirs = [node_id for node_id in lease.heirs if node_id in loads]
        if len(moved) == limit or loads[own] - min(loads.values()) <= load_gap:
            break
        if heirs:
            heir = min(heirs, key=lambda node_id: (loads[node_id], node_id))
            gap = loads[own] - loads[heir]
            if gap > load_gap and 0 < 2 * lease.load <= gap:
                move(lease, heir)
    count_gap = tolerance(sum(counts.values()) / len(counts))
    for lease in reversed(by_heat) if _is_first(own, counts) else []:
        heirs = [node_id for node_id in lease.heirs if node_id in counts]
        if len(moved) == limit or counts[own] - min(counts.values()) < count_gap:
            break
        if lease.range_id not in moved and heirs:
            heir = min(heirs, key=lambda node_id: (counts[node_id], node_id))
            is_cold = lease.load <= COLD_SHARE * mean
            if counts[own] - counts[heir] >= count_gap and (
                is_cold or loads[heir] + lease.load - min(loads.values()) <= load_gap
            ):
                move(lease, heir)
    return list(moved.items())


def may_hand(own: int, figures: Mapping[int, Figures]) -> bool:
    """True if ``leases_to_hand`` could find one at all; looks at no lease."""
    counts = {node_id: found.leases for node_id, found in figures.items()}
    loads = {node_id: found.load for node_id, found in figures.items()}
    load_gap = max(LOAD_GAP_MIN, LOAD_GAP_SHARE * sum(loads.values()) / len(loads))
    if _is_first(own, loads) and loads[own] - min(loads.values()) > load_gap:
        return True
    return _is_first(own, counts) and counts[own] - min(counts.values()) >= tolerance(
        sum(counts.values()) / len(counts)
    )


def _is_first(own: int, amounts: Mapping[int, float]) -> bool:
    """True for the store that has most: only one gives at a time, or all would give to the same one."""
    return max(amounts, key=lambda node_id: (amounts[node_id], -node_id)) == own


def swap_of(
    counts: Mapping[int, int],
    current: Replicas,
    own: int,
    nodes: Sequence[NodeState],
    fits: Callable[[Replicas], bool],
) -> Replicas | None:
    """Returns where a range's replicas should rather be, one of them on an emptier node; None for where they are.

    The leaseholder's own replica stays: others see to its node.
    """
    if not counts:
        return None
    gap_min = tolerance(sum(counts.values()) / len(counts))
    sources = sorted(
        [node_id for node_id in current.voters if node_id != own and node_id in counts],
        key=lambda node_id: (-counts[node_id], node_id),
    )
    targets = sorted(
        [
            node.node_id
            for node in nodes
            if node.liveness == LIVE and node.node_id not in current.all() and node.node_id in counts
        ],
        key=lambda node_id: (counts[node_id], node_id),
    )
    for source in sources:
        for target in targets:
            if counts[source] - counts[target] < gap_min:
                break
            voters = tuple(sorted([target if node_id == source else node_id for node_id in current.voters]))
            swapped = Replicas(voters, current.learners)
            if fits(swapped):
                return swapped
    return None


class Balancing:
    """One store's rounds; see the module docstring."""

    def __init__(
        self,
        replication: Replication,
        is_well: Callable[[Replica], bool],
        is_caught_up: Callable[[Replica, int], bool],
    ) -> None:
        self._replication = replication
        self._is_well = is_well
        self._is_caught_up = is_caught_up
        self._due_ns = 0
        self._swaps: dict[int, tuple[Replicas, int]] = {}
        """Range -> where its replicas are to be, and until when."""
        self.handed = 0
        self.swapped = 0

    # --- figures -----------------------------------------------------------------------

    def figures(self) -> dict[int, Figures]:
        """Returns what is known of the stores that live, this one included."""
        replication = self._replication
        found = {
            node_id: figures
            for node_id, figures in replication.figures.items()
            if replication.stores.is_known(node_id) and node_id not in replication.draining
        }
        found[replication.node_id] = replication.own_figures
        return found

    def counts(self) -> dict[int, int]:
        """Counts replicas by node, as their stores say."""
        return {node_id: figures.replicas for node_id, figures in self.figures().items()}

    def _count(self) -> list[Group]:
        """Takes this store's figures anew; returns the groups whose lease is here."""
        replication = self._replication
        fade = 0.5 ** (1.0 / HALF_LIFE_LOOKS)
        led: list[Group] = []
        total = 0.0
        for group in replication.led.values():
            if group.load or group.batches:
                group.load = group.load * fade + group.batches / INTERVAL_SECONDS * (1.0 - fade)
                group.batches = 0
                if group.load < 0.01:
                    group.load = 0.0
            if replication.holds_lease(group):
                led.append(group)
                total += group.load
        replication.own_figures = Figures(len(led), len(replication.store.ranges), total)
        return led

    # --- rounds ------------------------------------------------------------------------

    def round(self, nodes: Sequence[NodeState], spans: SpanConfigs) -> None:
        """Moves what should move: leases every INTERVAL_SECONDS, replicas one after the other."""
        replication = self._replication
        now_ns = replication.store.clock.monotonic_ns()
        own = replication.own_figures
        replication.own_figures = Figures(own.leases, len(replication.store.ranges), own.load)
        self._forget_late(now_ns)
        is_due = now_ns >= self._due_ns
        if is_due:
            self._due_ns = now_ns + int(INTERVAL_SECONDS * 1e9)
            led = self._count()
        if replication.is_draining or len(self.figures()) < 2:
            return
        if is_due:
            self._hand_leases(led, nodes, spans)
        self._begin_swap(nodes, spans, now_ns)

    def _hand_leases(self, led: list[Group], nodes: Sequence[NodeState], spans: SpanConfigs) -> None:
        replication = self._replication
        if not may_hand(replication.node_id, self.figures()):
            return
        regions = {node.node_id: node.region for node in nodes if node.liveness == LIVE}
        own = replication.node_id
        started_before = clock_reading(replication.store) - ticks_of(LEASE_SECONDS_MIN)
        leases: list[LeaseHere] = []
        for group in led:
            replica = group.replica
            assert replica is not None, group.range_id
            if group.lease_start > started_before or group.raft.transferee or not self._is_well(replica):
                continue
            config = spans.config(replica.start)
            rank = lease_rank(config, regions.get(own, ""))
            heirs = [
                place.node_id
                for place in replica.descriptor.replicas
                if place.kind != LEARNER
                and place.node_id != own
                and place.node_id in regions
                and lease_rank(config, regions[place.node_id]) <= rank
            ]
            leases.append(LeaseHere(group.range_id, group.load, tuple(heirs)))
        for range_id, node_id in leases_to_hand(own, self.figures(), leases):
            group = replication.groups[range_id]
            if group.replica is not None and self._is_caught_up(group.replica, node_id):
                try:
                    transfer_lease(replication, group, node_id)
                except MeridianError:
                    continue  # Its members are changing: another time.
                self.handed += 1
                self._note_handed(node_id, group.load)

    def _note_handed(self, node_id: int, load: float) -> None:
        """Until the next figures arrive the two stores' are what they will be."""
        replication = self._replication
        for place, sign in ((replication.node_id, -1), (node_id, 1)):
            old = replication.own_figures if sign < 0 else replication.figures[place]
            new = Figures(old.leases + sign, old.replicas, old.load + sign * load)
            if sign < 0:
                replication.own_figures = new
            else:
                replication.figures[place] = new

    # --- replicas ----------------------------------------------------------------------

    def _begin_swap(self, nodes: Sequence[NodeState], spans: SpanConfigs, now_ns: int) -> None:
        """Chooses one range whose replicas should be spread better; placement makes the steps."""
        if self._swaps or any(node.liveness != LIVE for node in nodes):
            return
        counts = self.counts()
        if max(counts.values()) - min(counts.values()) < tolerance(sum(counts.values()) / len(counts)):
            return
        for group in self._replication.led.values():
            replica = group.replica
            if replica is None or not self._is_well(replica):
                continue
            if not self._replication.holds_lease(group):
                continue
            config = spans.config(replica.start)
            fits = lambda swapped: allocate(config, nodes, swapped, lambda: counts) == swapped  # noqa: B023, E731  # used at once
            found = swap_of(counts, replicas_of(replica), self._replication.node_id, nodes, fits)
            if found is not None:
                self._swaps[group.range_id] = (found, now_ns + int(SWAP_SECONDS_MAX * 1e9))
                return

    def wanted(self, replica: Replica) -> Replicas | None:
        """Returns where a range's replicas are to be while one of them moves; None if none does."""
        swap = self._swaps.get(replica.range_id)
        return None if swap is None else swap[0]

    def is_moving(self, replica: Replica) -> bool:
        """True while a replica of the range is being moved."""
        return replica.range_id in self._swaps

    def arrived(self, replica: Replica) -> None:
        """The replicas of a range are where they were to be."""
        if self._swaps.pop(replica.range_id, None) is not None:
            self.swapped += 1

    def give_up(self) -> None:
        """The nodes, or what is asked of them, have changed: what was planned may be wrong now."""
        self._swaps.clear()

    def _forget_late(self, now_ns: int) -> None:
        replication = self._replication
        for range_id, (_, until_ns) in list(self._swaps.items()):
            group = replication.groups.get(range_id)
            if now_ns > until_ns or group is None or not replication.holds_lease(group):
                del self._swaps[range_id]


def replicas_of(replica: Replica) -> Replicas:
    """Returns the nodes that have a replica of a range."""
    places = replica.descriptor.replicas
    voters = tuple(sorted([place.node_id for place in places if place.kind != LEARNER]))
    return Replicas(voters, tuple(sorted([place.node_id for place in places if place.kind == LEARNER])))
