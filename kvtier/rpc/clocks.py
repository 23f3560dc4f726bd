"""How far the clocks of the peers are from ours, measured with every sign of life.

A beat carries the sender's wall clock, and back what we need for the round trip (NTP's exchange, RFC 5905
section 8, with one message each way per interval)::

    we      sent_ns ----.                        .---> arrives_ns      rtt = arrives - echo - held
                         \\      held_ns         /
    peer                  `--> [..........] ----'  wall_ns              offset = wall + rtt/2 - our wall

The peer's wall clock was read somewhere within the round trip, so the offset is known to within rtt/2.
Of the last samples of a peer the one with the shortest round trip counts.

A node whose clock strays from more than half of its peers is the one that is wrong, and stops
itself (design.md section 5): its timestamps would break the uncertainty intervals of everybody.
With one peer both stop, since neither can know.  Where nothing was measured nothing is said;
``Offset.measured_ns`` tells how old a figure is (reliability 47).
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from kvtier.rpc.frames import Beat

SAMPLES_MAX: Final = 8
"""Of each peer; older ones are forgotten."""
SAMPLE_AGE_MAX_NS: Final = 20_000_000_000
RTT_NS_MAX: Final = 10_000_000_000
"""A round trip above this says nothing about a clock."""
STRAY_PERCENT: Final = 80
"""Of max_offset: what is left covers the drift until the next sample."""


class Offset(NamedTuple):
    """One measurement of a peer's wall clock against ours."""

    offset_ns: int
    """Positive: the peer is ahead."""
    error_ns: int
    """The truth lies within offset_ns +- error_ns."""
    measured_ns: int
    """Monotonic."""


def measure(beat: Beat, monotonic_ns: int, wall_ns: int) -> Offset | None:
    """Returns what a beat that just arrived says; None if it echoes nothing, or nonsense."""
    if beat.echo_ns == 0:
        return None
    rtt_ns = monotonic_ns - beat.echo_ns - beat.held_ns
    if not 0 <= rtt_ns <= RTT_NS_MAX or beat.held_ns < 0:
        return None
    return Offset(beat.wall_ns + rtt_ns // 2 - wall_ns, (rtt_ns + 1) // 2, monotonic_ns)


class ClockMonitor:
    """Offsets of all peers, and the verdict about our own clock."""

    def __init__(self, max_offset_ns: int) -> None:
        self.limit_ns = max_offset_ns * STRAY_PERCENT // 100
        self._samples: dict[int, deque[Offset]] = {}

    def note(self, node_id: int, sample: Offset) -> None:
        """Adds a measurement of a peer."""
        self._samples.setdefault(node_id, deque(maxlen=SAMPLES_MAX)).append(sample)

    def forget(self, node_id: int) -> None:
        """A peer left the cluster."""
        self._samples.pop(node_id, None)

    def offset(self, node_id: int, now_ns: int) -> Offset | None:
        """Returns the most exact of the recent measurements of a peer."""
        recent = [
            sample for sample in self._samples.get(node_id, ()) if now_ns - sample.measured_ns <= SAMPLE_AGE_MAX_NS
        ]
        return min(recent, key=lambda sample: sample.error_ns, default=None)

    def offsets(self, now_ns: int) -> dict[int, Offset]:
        """Returns the offset of every peer that was measured recently."""
        found = {node_id: self.offset(node_id, now_ns) for node_id in sorted(self._samples)}
        return {node_id: offset for node_id, offset in found.items() if offset is not None}

    def strays(self, offset: Offset) -> bool:
        """True if the two clocks are certainly further apart than the limit."""
        return abs(offset.offset_ns) - offset.error_ns > self.limit_ns

    def verdict(self, now_ns: int) -> str | None:
        """Returns why this node must stop, or None."""
        offsets = self.offsets(now_ns)
        astray = [node_id for node_id, offset in offsets.items() if self.strays(offset)]
        if 2 * len(astray) <= len(offsets):
            return None
        shown = ", ".join([f"node {node_id} {offsets[node_id].offset_ns / 1e6:+.1f} ms" for node_id in astray])
        return (
            f"the clock of this node is more than {self.limit_ns / 1e6:g} ms away from those of "
            f"{len(astray)} of {len(offsets)} peers: {shown}"
        )
