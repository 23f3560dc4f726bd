"""Where the replicas of a range should be, and the next step there: pure functions.

``allocate`` picks nodes one by one: first those that meet a count by region, then as far as possible from
what is picked already (region, then zone), and among equals those that have a replica, so that nothing
moves without a reason; then the least loaded, then by id, so that runs repeat.

``next_move`` compares with what is there:

    a wanted node has none       ADD a learner (all of them, before one is promoted: two voters are less
                                 available than one)
    a wanted voter is a learner  PROMOTE it once it has caught up; before that, where there are voters
                                 enough, one that is not wanted goes
    too many voters              REMOVE one, or DEMOTE it where a replica is wanted that does not vote: a dead
                                 one first; a live one only while none is silent: it might be the one that is needed
    the leaseholder must go      TRANSFER the lease first; its own replica is for its successor to remove
    the lease is elsewhere       TRANSFER it to the region where it should be

Add before remove (reliability 79).  A range that has a log keeps two replicas: one alone has none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from kvtier.messages import Members
from kvtier.replication.constraints import SpanConfig

LIVE: Final = 0
SILENT: Final = 1
"""Gives no sign of life, or is about to stop; may come back, and then keeps what it has."""
DEAD: Final = 2
"""Silent for so long that its replicas are replaced."""
LEAVING: Final = 3
"""Alive, and is being decommissioned: gets no replica, and what it has goes as soon as it is elsewhere."""


REPLICAS_MIN: Final = 2
"""Of a range that has a log."""


class NodeState(NamedTuple):
    """One node, as far as placement is concerned."""

    node_id: int
    region: str
    zone: str = ""
    liveness: int = LIVE


class Replicas(NamedTuple):
    """Nodes with a replica of a range."""

    voters: tuple[int, ...]
    learners: tuple[int, ...] = ()

    def all(self) -> tuple[int, ...]:
        return (*self.voters, *self.learners)


class Move(NamedTuple):
    """The next step; ``members`` None hands the lease to the node."""

    node_id: int
    members: Members | None


def voters_wanted(config: SpanConfig, nodes: Sequence[NodeState]) -> int:
    """Returns how many voters a range gets: an odd number, of nodes that may come back, too."""
    eligible = [node for node in nodes if not config.confined_to or node.region == config.confined_to]
    count = min(config.voters, len(eligible))
    if config.survives_region:
        regions: dict[str, int] = {}
        for node in eligible:
            regions[node.region] = regions.get(node.region, 0) + 1
        while count > 1 and sum(min(n, (count - 1) // 2) for n in regions.values()) < count:
            count -= 1
    return max(count - (1 - count % 2), 1)


def allocate(
    config: SpanConfig, nodes: Sequence[NodeState], current: Replicas, loads: Callable[[], dict[int, int]]
) -> Replicas:
    """Returns where the replicas should be; fewer than wanted where there are no nodes for more."""
    return _Allocation(config, nodes, current, loads).run()


class _Allocation:
    """See the module docstring."""

    def __init__(
        self, config: SpanConfig, nodes: Sequence[NodeState], current: Replicas, loads: Callable[[], dict[int, int]]
    ) -> None:
        self._config = config
        self._current = current
        held = current.all()
        self._nodes = [
            node
            for node in nodes
            if (node.liveness == LIVE or (node.liveness == SILENT and node.node_id in held))
            and (not config.confined_to or node.region == config.confined_to)
        ]
        self._count = voters_wanted(config, nodes)
        self._region_max = (self._count - 1) // 2 if config.survives_region else 0
        self._missing = dict(config.voter_regions)
        self._picked: list[NodeState] = []
        self._loads_of = loads
        self._loads: dict[int, int] | None = None

    def run(self) -> Replicas:
        while len(self._picked) < self._count and self._take(self._nodes, self._current.voters):
            pass
        voters = tuple(sorted([node.node_id for node in self._picked]))
        learners: list[int] = []
        for region in self._config.replica_regions:
            if all(node.region != region for node in self._picked):
                node = self._take([node for node in self._nodes if node.region == region], self._current.learners)
                if node is not None:
                    learners.append(node.node_id)
        return Replicas(voters, tuple(sorted(learners)))

    def _take(self, nodes: Sequence[NodeState], kin: tuple[int, ...]) -> NodeState | None:
        """Picks the best of some nodes; ``kin`` have a replica of the right kind already."""
        candidates = [node for node in nodes if node not in self._picked]
        if not candidates:
            return None
        held = self._current.all()
        ranked = [(self._rank(node), node.node_id not in kin, node.node_id not in held, node) for node in candidates]
        best = min([rank[:3] for rank in ranked])
        equals = [rank[3] for rank in ranked if rank[:3] == best]
        node = equals[0] if len(equals) == 1 else min(equals, key=lambda node: (self._load(node), node.node_id))
        self._picked.append(node)
        self._missing[node.region] = self._missing.get(node.region, 0) - 1
        return node

    def _rank(self, node: NodeState) -> tuple[bool, bool, int, int]:
        """What matters more than staying where a replica is."""
        there = [picked for picked in self._picked if picked.region == node.region]
        in_zone = sum(1 for picked in there if picked.zone == node.zone)
        is_over = bool(self._region_max) and len(there) >= self._region_max
        return (is_over, self._missing.get(node.region, 0) <= 0, len(there), in_zone)

    def _load(self, node: NodeState) -> int:
        if self._loads is None:
            self._loads = self._loads_of()
        return self._loads.get(node.node_id, 0)


def next_move(
    config: SpanConfig,
    nodes: Sequence[NodeState],
    current: Replicas,
    own: int,
    is_caught_up: Callable[[int], bool],
    loads: Callable[[], dict[int, int]],
    wanted: Replicas | None = None,
) -> tuple[Move | None, bool]:
    """Returns what the leaseholder, ``own``, does next, and whether the range is well as it is.

    ``wanted``: where the replicas should be, if that is decided already.
    """
    if wanted is None:
        wanted = allocate(config, nodes, current, loads)
    for node_id in wanted.all():
        if node_id not in current.all():
            return Move(node_id, Members.ADD), False
    goner = _goner(config, nodes, current, wanted, own)
    if goner is not None and goner.members == Members.REMOVE and len(current.all()) <= REPLICAS_MIN:
        goner = None
    for node_id in current.learners:
        if node_id in wanted.voters:
            if is_caught_up(node_id):
                if len(current.voters) > voters_wanted(config, nodes) and goner is not None:
                    return goner, False
                return Move(node_id, Members.PROMOTE), False
        elif node_id not in wanted.learners and len(current.all()) > REPLICAS_MIN:
            return Move(node_id, Members.REMOVE), False
    is_waiting = any(node_id in wanted.voters for node_id in current.learners)
    if not is_waiting and goner is not None:
        return goner, False
    if is_waiting:
        return None, False
    better = _better_homes(config, nodes, current, own)
    for node_id in better:
        if is_caught_up(node_id):
            return Move(node_id, None), False
    return None, not better and current == wanted


def _goner(
    config: SpanConfig, nodes: Sequence[NodeState], current: Replicas, wanted: Replicas, own: int
) -> Move | None:
    """Returns how the voter that is missed least goes, where there are too many."""
    if len(current.voters) <= voters_wanted(config, nodes):
        return None
    liveness = {node.node_id: node.liveness for node in nodes}
    unwanted = [node_id for node_id in current.voters if node_id not in wanted.voters]
    for node_id in unwanted:
        if liveness.get(node_id, DEAD) == DEAD:
            return Move(node_id, Members.REMOVE)
    if any(liveness.get(node_id, DEAD) not in (LIVE, LEAVING) for node_id in current.voters):
        return None
    others = [node_id for node_id in unwanted if node_id != own]
    if others:
        node_id = others[0]
        if node_id in wanted.learners:
            return Move(node_id, Members.DEMOTE)
        return Move(node_id, Members.REMOVE)
    if own in unwanted:
        heirs = [node_id for node_id in current.voters if node_id in wanted.voters]
        regions = {node.node_id: node.region for node in nodes}
        heirs.sort(key=lambda node_id: (lease_rank(config, regions.get(node_id, "")), node_id))
        return Move(heirs[0], None) if heirs else None
    return None


def lease_rank(config: SpanConfig, region: str) -> int:
    """Returns how well a lease is in a region: 0 is best."""
    return config.lease_regions.index(region) if region in config.lease_regions else len(config.lease_regions)


def _better_homes(config: SpanConfig, nodes: Sequence[NodeState], current: Replicas, own: int) -> list[int]:
    """Returns the voters where the lease should rather be, the best first."""
    if not config.lease_regions:
        return []
    ranks = {node.node_id: lease_rank(config, node.region) for node in nodes if node.liveness == LIVE}
    rank = ranks.get(own, len(config.lease_regions))
    better = [(ranks[node_id], node_id) for node_id in current.voters if ranks.get(node_id, rank) < rank]
    return [node_id for _, node_id in sorted(better)]
