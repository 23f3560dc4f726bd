"""Every leaseholder sees to its ranges: that they end where their spans do, and that their replicas are where
those spans ask for them (``kvtier.replication.constraints``).

One step a range at a time (``kvtier.replication.allocation`` says which).  A node is dead when no support of its
store was seen for ``dead_seconds``; until then it may come back, and does so cheaper than a copy is made.

A range that was found well is looked at again only when it, the nodes, or what is asked has changed: ten thousand
idle ranges cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from base.errors import MeridianError
from kvtier.descriptors import RangeDescriptor
from kvtier.messages import Batch, ChangeReplicas, ClosePolicy, Split, TransferLease
from kvtier.meta import split_allowed
from kvtier.raft.progress import REPLICATE
from kvtier.replica import Replica
from kvtier.replication.allocation import DEAD, LEAVING, LIVE, SILENT, NodeState, next_move
from kvtier.replication.balancing import Balancing, replicas_of
from kvtier.replication.constraints import SpanConfigs
from kvtier.replication.directory import Directory, Standing
from kvtier.replication.publishing import send
from kvtier.replication.reshaping import Reshaping

if TYPE_CHECKING:
    from kvtier.replication.groups import Replication

INTERVAL_SECONDS: Final = 1.0
BEHIND_MAX: Final = 100
"""Entries a learner may lack and still be promoted: it takes them in a moment."""
RANGES_AT_ONCE: Final = 20
"""Ranges looked at before others get their turn: some milliseconds."""

Step = ChangeReplicas | TransferLease | Split | ClosePolicy


class Placement:
    """See the module docstring."""

    def __init__(self, replication: Replication, directory: Directory, dead_seconds: float) -> None:
        self._replication = replication
        self._directory = directory
        self._dead_ns = int(dead_seconds * 1e9)
        self._seen_ns: dict[int, int] = {}
        self._is_stopped = False
        self.spans: Callable[[], SpanConfigs | None] = _anywhere
        """What the key space asks for; None as long as nobody knows: nothing moves until then."""
        self._nodes: list[NodeState] = []
        self._asked: SpanConfigs | None = None
        self._well: dict[int, RangeDescriptor] = {}
        """Ranges that were found well, as they were then."""
        self.balancing = Balancing(replication, self.is_well, self._is_caught_up)
        self.reshaping = Reshaping(replication, self.is_well)
        self.steps = 0

    async def run(self) -> None:
        """Looks at all ranges that are led here, again and again."""
        store = self._replication.store
        while not self._is_stopped and store.failure is None:
            for looked, replica in enumerate(self._to_see_to() if self._look_around() else []):
                if looked % RANGES_AT_ONCE == RANGES_AT_ONCE - 1:
                    await store.clock.sleep(0)
                while not self._is_stopped and self._is_here(replica) and await self._see_to(replica):
                    pass
            if self._asked is not None:
                self.balancing.round(self._nodes, self._asked)
                await self.reshaping.round(self._asked)
            await store.clock.sleep(INTERVAL_SECONDS)

    def stop(self) -> None:
        """Starts nothing more."""
        self._is_stopped = True

    def _to_see_to(self) -> list[Replica]:
        """Returns the ranges to look at, in key order: led here, or here alone, and not known to be well."""
        replication = self._replication
        led = [group.replica for group in replication.led.values() if group.replica is not None]
        led.extend([replica for replica in replication.store.ranges.all() if replica.is_alone])
        found = [replica for replica in led if not self.is_well(replica) or self.balancing.is_moving(replica)]
        return sorted(found, key=lambda replica: replica.start)

    # --- who lives ----------------------------------------------------------------------

    def _look_around(self) -> bool:
        """Notes which nodes live and what is asked, and whether what was well has to be looked at again."""
        replication = self._replication
        now_ns = replication.store.clock.monotonic_ns()
        for node_id in self._directory.nodes:
            if self.is_live(node_id):
                self._seen_ns[node_id] = now_ns
            else:
                self._seen_ns.setdefault(node_id, now_ns)
        nodes, asked = self.node_states(), self.spans()
        if nodes != self._nodes or asked is not self._asked or len(self._well) > 2 * len(replication.groups) + 1_000:
            self._nodes, self._asked = nodes, asked
            self._well.clear()
            self.balancing.give_up()
        return asked is not None

    def node_states(self) -> list[NodeState]:
        """Returns what placement knows of the nodes now."""
        found: list[NodeState] = []
        for node_id in sorted(self._directory.nodes):
            record = self._directory.nodes[node_id]
            liveness = LIVE if self.is_live(node_id) else DEAD if self.is_dead(node_id) else SILENT
            if liveness == LIVE and node_id in self._replication.draining:
                liveness = SILENT
            if liveness == LIVE and self._directory.standing.get(node_id) == Standing.LEAVING:
                liveness = LEAVING
            found.append(NodeState(node_id, record.region(), record.zone(), liveness))
        return found

    def is_live(self, node_id: int) -> bool:
        """True for a node that gives signs of life now."""
        return node_id == self._replication.node_id or self._replication.stores.is_known(node_id)

    def is_dead(self, node_id: int) -> bool:
        """True for a node that has been silent for so long that its replicas are replaced."""
        if self.is_live(node_id):
            return False
        silent_ns = self._replication.store.clock.monotonic_ns() - self._seen_ns.get(node_id, 0)
        return silent_ns > self._dead_ns

    def is_well(self, replica: Replica) -> bool:
        """True if nothing is to be done about a range as it is now."""
        return self._well.get(replica.range_id) is replica.descriptor

    def _is_here(self, replica: Replica) -> bool:
        """True while the replica is the range's, not one from before a split, and its lease is here."""
        store = self._replication.store
        return store.ranges.get(replica.range_id) is replica and store.sees_to(replica.start)

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
        return isinstance(op, ChangeReplicas)

    def next_step(self, replica: Replica) -> Step | None:
        """Returns what to do next about a range, None if it is well or has to wait."""
        descriptor = replica.descriptor
        spans = self._asked if self._asked is not None else self.spans()
        if spans is None:
            return None
        border = spans.border(replica.start, replica.end)
        if border is not None and split_allowed(border):
            return Split(border)
        leads = spans.config(replica.start).leads
        if leads != descriptor.leads and not replica.is_alone:
            return ClosePolicy(max(replica.start, b"\x01"), leads)
        move, is_well = next_move(
            spans.config(replica.start), self._nodes or self.node_states(), replicas_of(replica),
            self._replication.node_id, lambda node_id: self._is_caught_up(replica, node_id), self._loads,
            self.balancing.wanted(replica),
        )  # fmt: skip
        if is_well:
            self.balancing.arrived(replica)
            self._well[replica.range_id] = descriptor
        if move is None:
            return None
        key = max(replica.start, b"\x01")
        if move.members is None:
            return TransferLease(key, move.node_id)
        return ChangeReplicas(key, move.node_id, move.members)

    def _is_caught_up(self, replica: Replica, node_id: int) -> bool:
        """True if the replica on a node has nearly all of the log."""
        group = self._replication.groups.get(replica.range_id)
        if group is None:
            return False
        for place in replica.descriptor.replicas:
            if place.node_id == node_id:
                progress = group.raft.progress.get(place.replica_id)
                return (
                    progress is not None
                    and progress.state == REPLICATE
                    and progress.match + BEHIND_MAX >= group.raft.log.last_index()
                )
        return False

    def _loads(self) -> dict[int, int]:
        """Counts replicas by node: as the stores say, and at least those of the ranges that are here."""
        loads: dict[int, int] = {}
        for replica in self._replication.store.ranges.all():
            for place in replica.descriptor.replicas:
                loads[place.node_id] = loads.get(place.node_id, 0) + 1
        for node_id, told in self.balancing.counts().items():
            loads[node_id] = max(loads.get(node_id, 0), told)
        return loads


def _anywhere() -> SpanConfigs:
    return _ANYWHERE


_ANYWHERE: Final = SpanConfigs()
