"""Hybrid logical clock: one unsigned 64-bit integer.

    63                              12 11         0
    | microseconds since 2020-01-01Z | logical     |

Kulkarni et al., "Logical Physical Clocks" (2014).  The physical part covers 142
years; printed as 16 hex digits a timestamp sorts as text, and serves as bookmark,
token and AS OF SYSTEM TIME value.

The clock is pure: wall time is handed in (style.md 4).  ``Hlc`` keeps the one
mutable fact, the largest timestamp issued or seen.

Invariant: ``now`` never returns the same timestamp twice and never goes back.
A timestamp further than ``max_offset`` ahead of the wall clock is refused
(reliability.md 28), so one bad clock cannot ratchet a cluster.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from typing import Final

from base.errors import ClockTooFar

LOGICAL_BITS: Final = 12
LOGICAL_MASK: Final = (1 << LOGICAL_BITS) - 1
EPOCH_UNIX_US: Final = 1_577_836_800_000_000
"""2020-01-01T00:00:00Z in microseconds since 1970."""
TS_MAX: Final = (1 << 64) - 1


def from_unix_us(unix_us: int) -> int:
    """Returns the smallest timestamp of that microsecond."""
    us = unix_us - EPOCH_UNIX_US
    return us << LOGICAL_BITS if us > 0 else 0


def into_unix_us(ts: int) -> int:
    """Returns the microsecond since 1970 of a timestamp's physical part."""
    return (ts >> LOGICAL_BITS) + EPOCH_UNIX_US


class Hlc:
    """Issues timestamps; ``wall_ns`` is handed in by the caller, who owns the Clock seam."""

    def __init__(self, max_offset_us: int = 0) -> None:
        self.latest: int = 0
        self.max_offset_us = max_offset_us

    def now(self, wall_ns: int) -> int:
        """Returns a timestamp above every one issued or seen before."""
        ts = (wall_ns // 1000 - EPOCH_UNIX_US) << LOGICAL_BITS
        if ts <= self.latest:
            ts = self.latest + 1
        self.latest = ts
        return ts

    def observe(self, ts: int, wall_ns: int) -> None:
        """Takes another node's timestamp into account; refuses one too far ahead."""
        if ts <= self.latest:
            return
        limit = from_unix_us(wall_ns // 1000 + self.max_offset_us) | LOGICAL_MASK
        if ts > limit and self.max_offset_us:
            raise ClockTooFar(ts, limit)
        self.latest = ts

    def forward(self, ts: int) -> None:
        """Raises the clock to a timestamp this node itself produced or recovered."""
        if ts > self.latest:
            self.latest = ts
