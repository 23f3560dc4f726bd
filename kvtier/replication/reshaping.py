"""Borders of replicated ranges follow load and size: hot ranges are split, small cold neighbours are merged.

    split   more than ``split_requests`` batches a second in HOT_LOOKS looks one after the other, at the key that
            halves what was asked for lately
    merge   two neighbours that together are small, ask for the same placement and serve next to nothing, and have been
            found so for ``merge_after_seconds``

Hysteresis: what is merged stays below half of the size that splits, and below MERGE_LOAD_SHARE of the load that splits;
what was split by load is not merged before both halves have been cold for a while.  A border that was asked for by
hand stays (``RangeDescriptor.is_sticky``), and so does one that placement wants.

A merge needs both leases in one store: whoever holds the right one hands it over, where both are cold.

What is asked for is sampled: one batch in some leaves its span with its group, in the place of the oldest.  Ranges with one replica are not counted: they share one loop, so no border makes them faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from base.errors import MeridianError
from kvtier.descriptors import DATA_START, META1
from kvtier.messages import Batch, Merge, Split
from kvtier.meta import split_allowed
from kvtier.replica import Replica
from kvtier.replication.group import Group, Sample
from kvtier.replication.members import transfer_lease
from kvtier.replication.publishing import send

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvtier.replication.constraints import SpanConfigs
    from kvtier.replication.groups import Replication

SAMPLES_MIN: Final = 32
"""Fewer say too little about where the middle is."""
SIDE_SHARE_MIN: Final = 0.25
"""Of the samples, that each side of a border must have; a hot key cannot be divided."""
CROSSING_SHARE_MAX: Final = 0.25
"""Of the samples, that may lie across it: they will ask two ranges."""
INTERVAL_SECONDS: Final = 5.0
HOT_LOOKS: Final = 3
MERGE_LOAD_SHARE: Final = 0.25
SPLITS_PER_LOOK: Final = 4
MERGES_PER_LOOK: Final = 16
LOOKED_MIN: Final = 256
LOOKS: Final = 10
"""A look is at so many ranges that could be merged, or at this part of all."""


def split_key(samples: list[Sample], start: bytes) -> bytes | None:
    """Returns the key that best divides what was sampled of a range that begins at ``start``; None if none does well."""
    if len(samples) < SAMPLES_MIN:
        return None
    best: tuple[int, bytes] | None = None
    for key in sorted(dict.fromkeys([first for first, _ in samples])):
        left = sum([end <= key for _, end in samples])
        right = sum([first >= key for first, _ in samples])
        if key <= start or not split_allowed(key) or len(samples) - left - right > CROSSING_SHARE_MAX * len(samples):
            continue
        if best is None or min(left, right) > best[0]:
            best = (min(left, right), key)
    return best[1] if best is not None and best[0] >= SIDE_SHARE_MIN * len(samples) else None


class Reshaping:
    """One store's looks; see the module docstring."""

    def __init__(self, replication: Replication, is_well: Callable[[Replica], bool]) -> None:
        self._replication = replication
        self._is_well = is_well
        self._due_ns = 0
        self._hot: dict[int, int] = {}
        """Range -> looks at which it was too busy."""
        self._cold: dict[int, tuple[int, int]] = {}
        """Right range -> (left range, when the two were first found fit to be merged)."""
        self._turns: list[int] = []
        self.split = 0
        self.merged = 0

    async def round(self, spans: SpanConfigs) -> None:
        """Divides and joins what should be, every INTERVAL_SECONDS."""
        replication = self._replication
        now_ns = replication.store.clock.monotonic_ns()
        if now_ns < self._due_ns or replication.is_draining:
            return
        self._due_ns = now_ns + int(INTERVAL_SECONDS * 1e9)
        await self._split_hot()
        if replication.store.settings.merge_automatically:
            await self._merge_cold(spans, now_ns)

    # --- splits -------------------------------------------------------------------------

    async def _split_hot(self) -> None:
        limit = self._replication.store.settings.split_requests
        hot = [group for group in self._replication.led.values() if 0 < limit <= group.load]
        self._hot = {group.range_id: self._hot.get(group.range_id, 0) + 1 for group in hot}
        due = [group for group in hot if self._hot[group.range_id] >= HOT_LOOKS]
        for group in sorted(due, key=lambda group: (-group.load, group.range_id))[:SPLITS_PER_LOOK]:
            replica = group.replica
            key = None if replica is None or replica.merging else split_key(group.samples, replica.start)
            if replica is None or key is None or key >= replica.end:
                continue
            if await self._ask(Batch([Split(key)], admission=1)):
                self.split += 1
                group.samples.clear()
                self._hot.pop(group.range_id, None)

    # --- merges -------------------------------------------------------------------------

    async def _merge_cold(self, spans: SpanConfigs, now_ns: int) -> None:
        replication = self._replication
        due_ns = now_ns - int(replication.store.settings.merge_after_seconds * 1e9)
        for range_id in [range_id for range_id in self._cold if replication.store.ranges.get(range_id) is None]:
            del self._cold[range_id]
        merges = 0
        looked = self._next_led()
        for group in looked:
            left = group.replica
            right = None if left is None else self._fit(left, spans)
            if left is None or right is None or not self._is_well(left) or not replication.holds_lease(group):
                continue
            if not self._is_cold(group) or not self._is_cold(replication.group_of(right)):
                self._cold.pop(right.range_id, None)
                continue
            known = self._cold.get(right.range_id)
            if known is None or known[0] != left.range_id:
                known = self._cold[right.range_id] = (left.range_id, now_ns)
            if known[1] > due_ns or merges == MERGES_PER_LOOK:
                continue
            if not replication.holds_lease(replication.group_of(right)):
                continue  # Its leaseholder hands it over, if it is cold.
            merges += 1
            if await self._ask(Batch([Merge(max(left.start, META1))], admission=1)):
                self.merged += 1
                # What was cold together with the right one is so with the joined one.
                after = replication.store.ranges.find(right.end)
                if after is not None and after.range_id in self._cold:
                    self._cold[after.range_id] = (left.range_id, self._cold[after.range_id][1])
        self._hand_over(looked, spans, due_ns, now_ns)

    def _next_led(self) -> list[Group]:
        """Returns some of the groups that are led here, other ones at every look."""
        led = self._replication.led
        if not self._turns:
            self._turns = list(led)
        count = max(LOOKED_MIN, len(led) // LOOKS + 1)
        turns, self._turns = self._turns[:count], self._turns[count:]
        return [led[range_id] for range_id in turns if range_id in led]

    def _fit(self, left: Replica, spans: SpanConfigs) -> Replica | None:
        """Returns the right neighbour of a range, if its place, its size and what it asks for let the two be one."""
        store = self._replication.store
        right = store.ranges.find(left.end) if left.end > DATA_START else None
        if right is None or right.start != left.end or right.is_alone or left.merging or right.merging:
            return None
        if right.descriptor.is_sticky or not store.are_small(left, right):
            return None
        if spans.border(left.start, right.end) is not None:
            return None
        places = [[(place.node_id, place.kind) for place in replica.descriptor.replicas] for replica in (left, right)]
        return right if sorted(places[0]) == sorted(places[1]) and right.range_id in self._replication.groups else None

    def _is_cold(self, group: Group) -> bool:
        limit = self._replication.store.settings.split_requests
        return limit <= 0 or group.load <= MERGE_LOAD_SHARE * limit / 2

    def _hand_over(self, looked: list[Group], spans: SpanConfigs, due_ns: int, now_ns: int) -> None:
        """Gives the leases of cold ranges to whoever would merge them into their left neighbours."""
        replication = self._replication
        ranges = replication.store.ranges
        handed = 0
        for group in looked:
            right = group.replica
            if (
                right is None
                or not group.leased_term
                or right.descriptor.is_sticky
                or right.start <= DATA_START
                or handed == MERGES_PER_LOOK
            ):
                continue
            left = ranges.before(right.start)
            other = None if left is None else replication.groups.get(left.range_id)
            if left is None or other is None or other.leased_term or not self._is_cold(group):
                continue
            heir = other.leader_node()
            if heir is None or heir not in group.followers() or self._fit(left, spans) is not right:
                continue
            known = self._cold.setdefault(right.range_id, (left.range_id, now_ns))
            if known[1] <= due_ns and replication.holds_lease(group) and not group.raft.transferee:
                handed += 1
                try:
                    transfer_lease(replication, group, heir)
                except MeridianError:
                    continue

    async def _ask(self, batch: Batch) -> bool:
        try:
            await send(self._replication.store.kv, batch)
        except MeridianError:
            return False  # The ranges have changed, or cannot be asked now: looked at again.
        return True
