"""Which ranges there are, where their replicas are, and who holds their leases: for people.

The descriptors come from the meta ranges in pages; a leaseholder is whoever answers a read of the range's first key.
A range that nobody answers for in time has none, as far as anybody here can tell.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from base.errors import KvError
from kvtier.descriptors import DATA_START, KEY_MAX, META1, META2, RangeDescriptor, decode_descriptor
from kvtier.messages import Batch, Get, Scan, ScanResult
from kvtier.meta import lookup_span
from kvtier.replication.publishing import send
from kvtier.replication.sender import RangeSender
from kvtier.router import Router
from kvtier.store import Store

PAGE_RANGES: Final = 1_000
ANSWER_SECONDS_MAX: Final = 1.0
"""How long a leaseholder may take to say that it is one."""


class RangeOverview(NamedTuple):
    """One range as it is now."""

    descriptor: RangeDescriptor
    leaseholder: int | None
    size_bytes: int | None
    """None where no replica is here to count."""


async def ranges_over(
    store: Store, router: Router, sender: RangeSender, start: bytes, end: bytes
) -> list[RangeOverview]:
    """Returns the ranges that overlap [start, end), in key order; ``end`` b"" is the end of all keys."""
    found: list[RangeOverview] = []
    for descriptor in await _descriptors(router, start, end or KEY_MAX):
        here = store.ranges.get(descriptor.range_id)
        holder = await _leaseholder(store, router, sender, descriptor)
        found.append(RangeOverview(descriptor, holder, None if here is None else here.total_bytes))
    return found


async def replicas_by_node(router: Router) -> dict[int, int]:
    """Counts the replicas of all ranges by their nodes, as the meta ranges tell."""
    counts: dict[int, int] = {}
    found = await _descriptors(router, b"", KEY_MAX)
    # Ranges of meta entries alone are told of one level above.
    above: ScanResult = (await send(router, Batch([Scan(META1, META2, limit=PAGE_RANGES)]))).results[0]
    found.extend([meta for meta in map(decode_descriptor, above.values) if meta.end <= DATA_START])
    for descriptor in found:
        for place in descriptor.replicas:
            counts[place.node_id] = counts.get(place.node_id, 0) + 1
    return counts


async def _descriptors(router: Router, start: bytes, end: bytes) -> list[RangeDescriptor]:
    at = lookup_span(max(start, DATA_START))[0]
    found: list[RangeDescriptor] = []
    while True:
        page: ScanResult = (await send(router, Batch([Scan(at, DATA_START, limit=PAGE_RANGES)]))).results[0]
        for value in page.values:
            descriptor = decode_descriptor(value)
            if descriptor.start >= end:
                return found
            while found and found[-1].start >= descriptor.start:
                found.pop()  # It was merged, and its entry has not been withdrawn yet.
            found.append(descriptor)
        if page.resume is None:
            return found
        at = page.resume
        assert at > META2, at


async def _leaseholder(store: Store, router: Router, sender: RangeSender, descriptor: RangeDescriptor) -> int | None:
    if len(descriptor.replicas) == 1:
        return descriptor.replicas[0].node_id
    deadline_ns = store.clock.wall_ns() + int(ANSWER_SECONDS_MAX * 1e9)
    try:
        await send(router, Batch([Get(max(descriptor.start, DATA_START))], deadline_ns=deadline_ns, admission=1))
    except KvError:
        return None
    return sender.leaseholder(descriptor.range_id)
