"""How often one statement had to wait for another region.

    gateway ---- batch ----> leaseholder elsewhere          one round trip
                             leaseholder -- entry --> its
                             quorum needs other regions     another

Batches that are on their way at the same time cost one round trip together: what counts is what the client waits
for.  Who watches a transaction hands a meter to its coordinator; batches of others cost one look at an empty map.
Ending a transaction that failed, and what is cleaned up after one, is nobody's wait and is never refused.
"""

from __future__ import annotations

from collections.abc import Callable

from base.errors import SqlError
from kvtier.descriptors import VOTER, RangeDescriptor
from kvtier.messages import Batch, ConditionalPut, Delete, DeleteSpan, EndTxn, Put, PutRun

UNLIMITED = -1


class Meter:
    """What a statement has cost; see the module docstring."""

    def __init__(self, monotonic_ns: Callable[[], int], limit: int = UNLIMITED) -> None:
        self._monotonic_ns = monotonic_ns
        self.limit = limit
        """Most round trips; one more is refused."""
        self.round_trips = 0
        self.waited_ns = 0
        """While at least one batch was on its way to another region."""
        self.regions: dict[str, int] = {}
        """Batches by the region that they went to, or whose votes they waited for."""
        self._under_way = 0
        self._round = 0
        """Round trips of the batches under way, which count together."""
        self._begun_ns = 0

    def restart(self, limit: int) -> None:
        """Another statement begins."""
        self.limit = limit
        self.round_trips = self.waited_ns = 0
        self.regions = {}

    def enter(self, cost: int, regions: list[str]) -> None:
        """A batch is about to be sent; raises 54000 if that is too far."""
        more = max(cost - self._round, 0) if self._under_way else cost
        if 0 <= self.limit < self.round_trips + more:
            raise SqlError(
                f"the statement needs more than {self.limit} round trips between regions",
                sqlstate="54000",
                detail=f"It has made {self.round_trips}, and would go on to {' and '.join(regions)}.",
                hint="EXPLAIN (WAN) tells what they are for; meridian.max_wan_hops is how many may be.",
            )
        self.round_trips += more
        for region in regions:
            self.regions[region] = self.regions.get(region, 0) + 1
        if not self._under_way:
            self._begun_ns = self._monotonic_ns()
            self._round = 0
        self._under_way += 1
        self._round = max(self._round, cost)

    def leave(self) -> None:
        """A batch was answered, or never will be."""
        self._under_way -= 1
        if not self._under_way:
            self.waited_ns += self._monotonic_ns() - self._begun_ns


class Crossings:
    """The meters of one node, and what its batches cost."""

    def __init__(self, region: str, region_of: Callable[[int], str]) -> None:
        self._region = region
        self._region_of = region_of
        self.meters: dict[bytes, Meter] = {}
        """By transaction; the coordinator's."""

    def enter(self, descriptor: RangeDescriptor, node_id: int, batch: Batch) -> Meter | None:
        """Notes a batch that is about to be sent to a node; None if nobody watches, or it crosses nothing."""
        meter = self.meters.get(batch.txn.id) if batch.txn is not None else None
        if meter is None or not is_waited_for(batch):
            return None
        there = self._region_of(node_id)
        regions = [there] if there != self._region else []
        if waits_for_quorum(batch):
            voting = quorum_region(descriptor, there, self._region_of)
            if voting:
                regions.append(voting)
        if not regions:
            return None
        meter.enter(len(regions), regions)
        return meter


def quorum_region(descriptor: RangeDescriptor, home: str, region_of: Callable[[int], str]) -> str:
    """Returns a region without whose votes a leaseholder at home commits nothing; "" if there is none."""
    voters = [region_of(place.node_id) for place in descriptor.replicas if place.kind == VOTER]
    if voters.count(home) > len(voters) // 2:
        return ""
    return min([region for region in voters if region != home], default="")


def waits_for_quorum(batch: Batch) -> bool:
    """True if a batch writes, so that its answer waits for a quorum of its range."""
    return any(
        isinstance(op, Put | Delete | ConditionalPut | DeleteSpan | PutRun)
        or (isinstance(op, EndTxn) and bool(op.in_flight or op.intents or op.intent_spans))
        for op in batch.ops
    )


def is_waited_for(batch: Batch) -> bool:
    """False for the end of a transaction that failed."""
    last = batch.ops[-1]
    return not isinstance(last, EndTxn) or last.commit
