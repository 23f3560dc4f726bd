"""Every leaseholder sees to the replicas of its ranges: enough of them, on nodes that live, far apart.

    too few voters          add learners on the best nodes; promote each once it has caught up (first
                            all are added, since two voters are less available than one)
    a voter's node is dead  the same, and then remove the dead one (reliability 79: add before remove)
    too many                remove the one that is missed least, never the leaseholder's own, and
                            never while one of them is silent: it might be the one that is needed

One step a range at a time.  A node is dead when no support of its store was seen for
``dead_seconds``; until then it may come back, and does so cheaper than a copy is made.

"Best": a region that has no replica yet, then the node with the fewest replicas among the ranges led
here; ties by node id, so that runs repeat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from base.errors import MeridianError
from kvtier.descriptors import LEARNER, RangeDescriptor
from kvtier.messages import Batch, ChangeReplicas, Members
from kvtier.raft.progress import REPLICATE
from kvtier.replica import Replica
from kvtier.replication.directory import Directory
from kvtier.replication.group import Group
from kvtier.replication.publishing import send

if TYPE_CHECKING:
    from kvtier.replication.groups import Replication

VOTERS: Final = 3
"""Replicas of a range, where there are nodes enough."""
INTERVAL_SECONDS: Final = 1.0
BEHIND_MAX: Final = 100
"""Entries a learner may lack and still be promoted: it takes them in a moment."""


class Placement:
    """See the module docstring."""

    def __init__(self, replication: Replication, directory: Directory, dead_seconds: float) -> None:
        self._replication = replication
        self._directory = directory
        self._dead_ns = int(dead_seconds * 1e9)
        self._seen_ns: dict[int, int] = {}
        self._is_stopped = False
        self.steps = 0

    async def run(self) -> None:
        """Looks at all ranges that are led here, again and again."""
        store = self._replication.store
        while not self._is_stopped and store.failure is None:
            self._look_around()
            for replica in store.ranges.all():
                while store.sees_to(replica.start) and await self._see_to(replica):
                    pass
            await store.clock.sleep(INTERVAL_SECONDS)

    def stop(self) -> None:
        """Starts nothing more."""
        self._is_stopped = True

    # --- who lives ----------------------------------------------------------------------

    def _look_around(self) -> None:
        """Notes which nodes give signs of life."""
        replication = self._replication
        now_ns = replication.store.clock.monotonic_ns()
        for node_id in self._directory.nodes:
            if node_id == replication.node_id or replication.stores.is_known(node_id):
                self._seen_ns[node_id] = now_ns
            else:
                self._seen_ns.setdefault(node_id, now_ns)

    def is_live(self, node_id: int) -> bool:
        """True for a node that gives signs of life now."""
        return node_id == self._replication.node_id or self._replication.stores.is_known(node_id)

    def is_dead(self, node_id: int) -> bool:
        """True for a node that has been silent for so long that its replicas are replaced."""
        if self.is_live(node_id):
            return False
        silent_ns = self._replication.store.clock.monotonic_ns() - self._seen_ns.get(node_id, 0)
        return silent_ns > self._dead_ns

    # --- one range -------------------------------------------------------------------------

    async def _see_to(self, replica: Replica) -> bool:
        """Makes the next step; True if there may be another one at once."""
        op = self.next_step(replica)
        if op is None:
            return False
        try:
            await send(self._replication.store.kv, Batch([op], admission=1))
        except MeridianError:
            return False  # The range has changed or cannot be asked now; looked at again.
        self.steps += 1
        return True

    def next_step(self, replica: Replica) -> ChangeReplicas | None:
        """Returns what to do next about a range's replicas, None if it is well."""
        descriptor = replica.descriptor
        key = max(replica.start, b"\x01")
        target = self._target()
        voters = [place.node_id for place in descriptor.replicas if place.kind != LEARNER]
        learners = [place for place in descriptor.replicas if place.kind == LEARNER]
        dead = [node_id for node_id in voters if self.is_dead(node_id)]
        if len(voters) - len(dead) + len(learners) < target:
            node_id = self._best(descriptor)
            if node_id is not None:
                return ChangeReplicas(key, node_id, Members.ADD)
        for place in learners:
            step = self._about_learner(replica, key, place.node_id, place.replica_id)
            if step is not None:
                return step
        if learners or len(voters) <= target:
            return None
        if dead:
            return ChangeReplicas(key, dead[0], Members.REMOVE)
        if all(self.is_live(node_id) for node_id in voters):
            return ChangeReplicas(key, self._least_missed(voters), Members.REMOVE)
        return None

    def _about_learner(self, replica: Replica, key: bytes, node_id: int, replica_id: int) -> ChangeReplicas | None:
        if self.is_dead(node_id):
            return ChangeReplicas(key, node_id, Members.REMOVE)
        group: Group | None = self._replication.groups.get(replica.range_id)
        progress = None if group is None else group.raft.progress.get(replica_id)
        if group is None or progress is None or progress.state != REPLICATE:
            return None
        if progress.match + BEHIND_MAX < group.raft.log.last_index():
            return None
        return ChangeReplicas(key, node_id, Members.PROMOTE)

    def _target(self) -> int:
        """Three where the cluster has three nodes, whether they live now or not; two voters are less available than one."""
        return VOTERS if len(self._directory.nodes) >= VOTERS else 1

    def _best(self, descriptor: RangeDescriptor) -> int | None:
        """Returns the node for another replica."""
        taken = [place.node_id for place in descriptor.replicas]
        regions = [self._directory.region(node_id) for node_id in taken]
        candidates = [
            node_id for node_id in sorted(self._directory.nodes) if node_id not in taken and self.is_live(node_id)
        ]
        if not candidates:
            return None
        loads = self._loads()
        return min(candidates, key=lambda node_id: (regions.count(self._directory.region(node_id)), loads.get(node_id, 0), node_id))  # fmt: skip

    def _loads(self) -> dict[int, int]:
        """Counts replicas by node, over the ranges that are here."""
        loads: dict[int, int] = {}
        for replica in self._replication.store.ranges.all():
            for place in replica.descriptor.replicas:
                loads[place.node_id] = loads.get(place.node_id, 0) + 1
        return loads

    def _least_missed(self, voters: list[int]) -> int:
        """Returns whose replica goes where there are too many."""
        regions = [self._directory.region(node_id) for node_id in voters]
        loads = self._loads()
        others = [node_id for node_id in voters if node_id != self._replication.node_id]
        return max(others, key=lambda node_id: (regions.count(self._directory.region(node_id)), loads.get(node_id, 0), node_id))  # fmt: skip
