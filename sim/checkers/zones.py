"""Linearizability of a register whose writes are unique, without search (Gibbons & Korach, "Testing shared memories", 1997).

A value's write and its reads must come together, with nothing of another value between them.
They need the time from the first end among them to the last begin, if that comes later: a
forward zone; else they fit anywhere between, a backward zone::

    write 1  [----]                         first end f, last begin s
    read 1            [----]                f < s: forward zone [f, s], where the register holds 1
    write 2    [--------------]             its only operation: backward zone [begin, end]

A history is linearizable if and only if every read's value was written, by a write that began
before the read ended; no two forward zones overlap; and none of them contains a backward zone.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise

from sim.histories import Transaction, Value, freeze


class Zone:
    """One value: when its operations can at the earliest be over, and when the last of them begins."""

    __slots__ = ("ended", "first", "last", "latest", "writer")

    def __init__(self, writer: Transaction | None, began: int, ended: int) -> None:
        self.writer = writer
        self.latest = began
        self.ended = ended
        self.first: Transaction | None = writer
        """Who ended first."""
        self.last: Transaction | None = writer
        """Who began last."""

    def add(self, read: Transaction) -> None:
        if read.began > self.latest:
            self.latest, self.last = read.began, read
        if read.ended < self.ended:
            self.ended, self.first = read.ended, read


def find_conflict(operations: list[Transaction], initial: Value) -> tuple[str, list[Transaction]] | None:
    """Returns what cannot be ordered and whose operations it is, or None; the operations are reads and unique writes."""
    zones: dict[Value, Zone] = {freeze(initial): Zone(None, -1, -1)}
    for operation in operations:
        if operation.f == "write":
            zones[freeze(operation.value)] = Zone(operation, operation.began, operation.ended)
    for operation in operations:
        if operation.f == "read":
            zone = zones.get(freeze(operation.value))
            if zone is None:
                return f"{operation} read {operation.value}, which nobody wrote", [operation]
            if zone.writer is not None and operation.ended < zone.writer.began:
                return f"{operation} read {operation.value} before {zone.writer} began to write it", [operation]
            zone.add(operation)
    return _find_overlap(list(zones.values()))


def _find_overlap(zones: list[Zone]) -> tuple[str, list[Transaction]] | None:
    forward = sorted([zone for zone in zones if zone.ended < zone.latest], key=lambda zone: zone.ended)
    for one, other in pairwise(forward):
        if other.ended < one.latest:
            return _describe(one, other)
    begins = [zone.ended for zone in forward]
    for zone in zones:
        if zone.ended < zone.latest:
            continue
        at = bisect_left(begins, zone.latest) - 1
        if at >= 0 and zone.ended < forward[at].latest:
            return _describe(forward[at], zone)
    return None


def _describe(one: Zone, other: Zone) -> tuple[str, list[Transaction]]:
    involved = [found for found in (other.first, other.last, one.first, one.last) if found is not None]
    names = ", ".join(dict.fromkeys([f"{found} {found.f} {found.value}" for found in involved]))
    return f"two values were in the register at once: {names}", involved
