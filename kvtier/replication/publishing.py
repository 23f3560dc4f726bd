"""Telling the meta ranges where a range is now, and drawing ids for new ones.

The meta entries are a directory, not the truth: the truth is every range's own descriptor, and a
replica answers a wrong address with it (RangeMismatch).  So the leaseholder writes them after the
fact, never over a newer generation, and whoever takes a lease writes its own once more, in case the
one before died in between.  A replica is removed only once the entries say where the others are.

    03 'c' 'r'   next range id, 8 B
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from base.errors import ConditionFailed, KvError
from kvtier.client import Kv
from kvtier.descriptors import RangeDescriptor, decode_descriptor, encode_descriptor
from kvtier.messages import Batch, ConditionalPut, Get, Op, Reply, Scan
from kvtier.meta import entry_keys, entry_spans

if TYPE_CHECKING:
    from kvtier.administration import RangeChange
    from kvtier.store import Store

NEXT_ID_KEY: Final = b"\x03cr"
FIRST_SHARED_ID: Final = 1 << 32
"""Ids below are drawn by the first store for itself, while it is alone."""
IDS_PER_DRAW: Final = 64
PUBLISH_PAUSE_SECONDS: Final = 0.5
WITHDRAWALS_MAX: Final = 20
STALE_MAX: Final = 16
"""Entries within one range, its own the first, that are looked at when it is entered."""
PUBLISHED_AT_ONCE: Final = 64
"""Descriptors that are entered by one batch."""
PUBLISHING_AT_ONCE: Final = 16
"""Batches under way: one that is stuck holds up nobody but its own."""


async def send(kv: Kv, batch: Batch) -> Reply:
    """Sends a batch and waits for its reply."""
    reply = kv.send(batch)
    return reply if isinstance(reply, Reply) else await reply


def is_told(found: RangeDescriptor, descriptor: RangeDescriptor) -> bool:
    """True if an entry is as new as a descriptor."""
    if found.range_id == descriptor.range_id:
        return found.generation >= descriptor.generation
    return found.generation > descriptor.generation


async def publish(kv: Kv, descriptor: RangeDescriptor) -> None:
    """Enters a descriptor, unless the meta ranges know a newer one."""
    while changes := await _changes(kv, [descriptor]):
        try:
            await send(kv, Batch(changes))
        except ConditionFailed:
            continue
        break


async def publish_all(kv: Kv, descriptors: list[RangeDescriptor]) -> None:
    """Enters several descriptors by two batches; one by one if anybody else enters one of them meanwhile."""
    changes = await _changes(kv, descriptors)
    if not changes:
        return
    try:
        await send(kv, Batch(changes))
    except ConditionFailed:
        for descriptor in descriptors:
            await publish(kv, descriptor)


async def _changes(kv: Kv, descriptors: list[RangeDescriptor]) -> list[Op]:
    """Returns what is to be done to the entries for these descriptors to be told.

    Where a range is now no other one ends: what says so is from before a merge, and whoever made that did not live
    to withdraw it.
    """
    wanted = [entry for descriptor in descriptors for entry in _entries(descriptor)]
    scans: list[Op] = [Scan(start, end, limit=STALE_MAX, reverse=True) for _, (start, end), _ in wanted]
    newest: dict[bytes, tuple[RangeDescriptor | None, bytes | None]] = {}
    for (key, _, descriptor), found in zip(wanted, (await send(kv, Batch(scans))).results):
        stored = dict(zip(found.keys, found.values))
        known = stored.pop(key, None)
        entered = newest[key][0] if key in newest else None if known is None else decode_descriptor(known)
        if entered is None or not is_told(entered, descriptor):
            newest[key] = (descriptor, known)
        for stale, value in stored.items():
            if decode_descriptor(value).generation < descriptor.generation:
                newest.setdefault(stale, (None, value))
    return [
        ConditionalPut(key, None if descriptor is None else encode_descriptor(descriptor), known)
        for key, (descriptor, known) in newest.items()
    ]


def _entries(descriptor: RangeDescriptor) -> list[tuple[bytes, tuple[bytes, bytes], RangeDescriptor]]:
    """Returns the keys of a descriptor's entries, each with the span of those that it replaces."""
    return [(key, span, descriptor) for key, span in zip(entry_keys(descriptor), entry_spans(descriptor))]


async def withdraw(kv: Kv, descriptor: RangeDescriptor) -> None:
    """Deletes the entries of a range as it was before it was merged, unless others have taken their place."""
    for key in entry_keys(descriptor):
        known: bytes | None = (await send(kv, Batch([Get(key)]))).results[0]
        if known is None:
            continue
        found = decode_descriptor(known)
        if found.end == descriptor.end and found.generation <= descriptor.generation:
            try:
                await send(kv, Batch([ConditionalPut(key, None, known)]))
            except ConditionFailed:
                continue  # A new range ends there.


class RangeIds:
    """Ids of new ranges, drawn some at a time from a counter that all nodes share."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._next = 0
        self._end = 0

    async def draw(self) -> int:
        """Returns an id that no range has or had."""
        while self._next >= self._end:
            stored: bytes | None = (await send(self._store.kv, Batch([Get(NEXT_ID_KEY)]))).results[0]
            first = FIRST_SHARED_ID if stored is None else int.from_bytes(stored, "big")
            try:
                after = (first + IDS_PER_DRAW).to_bytes(8, "big")
                await send(self._store.kv, Batch([ConditionalPut(NEXT_ID_KEY, after, stored)]))
            except ConditionFailed:
                continue
            self._next, self._end = first, first + IDS_PER_DRAW
        self._next += 1
        return self._next - 1


class Publisher:
    """Publishes descriptors in the background, until it has succeeded or they are out of date."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pending: dict[int, RangeDescriptor] = {}
        self._taken: dict[int, None] = {}
        """Ranges of which a descriptor is being entered."""
        self._runners = 0
        self._is_starting = False

    def enter(self, descriptor: RangeDescriptor) -> None:
        """Sees to it that the meta ranges learn of this."""
        self._pending[descriptor.range_id] = descriptor
        if not self._is_starting and self._runners < PUBLISHING_AT_ONCE:
            self._is_starting = True
            self._runners += 1
            self._store.scheduler.spawn(self._run(), "publish ranges")

    def enter_all(self, change: RangeChange) -> None:
        """Sees to it that the meta ranges learn what has become of ranges that were split or merged."""
        ends = [state.descriptor.end for state, _, _ in change.states]
        for replica in change.removed:
            if replica.end not in ends:
                self.drop(replica.descriptor)
        for state, _, _ in change.states:
            self.enter(state.descriptor)

    def drop(self, descriptor: RangeDescriptor) -> None:
        """Sees to it that nobody is told of a range's old end; a reader of what is left learns from the range itself."""
        self._store.scheduler.spawn(self._drop(descriptor), "withdraw range")

    async def _drop(self, descriptor: RangeDescriptor) -> None:
        for _ in range(WITHDRAWALS_MAX):
            try:
                await withdraw(self._store.kv, descriptor)
            except KvError:
                await self._store.clock.sleep(PUBLISH_PAUSE_SECONDS)
                continue
            return

    async def _run(self) -> None:
        """Enters what waits, until nothing does that nobody else is at."""
        self._is_starting = False
        while self._store.failure is None:
            batch = [self._pending[range_id] for range_id in self._waiting()]
            if not batch:
                break
            self._taken.update(dict.fromkeys([descriptor.range_id for descriptor in batch]))
            try:
                await publish_all(self._store.kv, batch)
            except KvError:
                await self._store.clock.sleep(PUBLISH_PAUSE_SECONDS)
                entered: list[RangeDescriptor] = []
            else:
                entered = batch
            for descriptor in batch:
                del self._taken[descriptor.range_id]
            for descriptor in entered:
                if self._pending[descriptor.range_id] is descriptor:
                    del self._pending[descriptor.range_id]
        self._runners -= 1

    def _waiting(self) -> list[int]:
        """Returns some ranges whose turn it is."""
        found = [range_id for range_id in self._pending if range_id not in self._taken]
        return found[:PUBLISHED_AT_ONCE]

    def is_settled(self, range_id: int) -> bool:
        """True if nothing of a range waits to be published here."""
        return range_id not in self._pending
