"""What a leader knows of one follower's log, and how much it may send.

              snapshot needed               status reported, or caught up
    PROBE ----------------------> SNAPSHOT ------------------------------+
      |  ^                                                               |
      |  +------------------ rejected, unreachable <----+     <----------+ (back to PROBE)
      |  acknowledged                                   |
      +---------------------------------------------> REPLICATE

In PROBE one append is out at a time, to find where the logs agree.  In REPLICATE
``next`` runs ahead of ``match`` by what its ``Window`` holds: bounded in messages and in
bytes.  In SNAPSHOT nothing is sent until the snapshot is acknowledged, has failed or
has stalled.

Invariant: match < next; in SNAPSHOT, next == match + 1 or the snapshot is beyond match.
Invariant: match never goes back within a term.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from typing import Final

PROBE: Final = 0
REPLICATE: Final = 1
SNAPSHOT: Final = 2
STATE_NAMES: Final = ("probe", "replicate", "snapshot")
COMPACT_MIN: Final = 256
"""Freed places that a window keeps before it moves the rest down."""


class Window:
    """What is under way and not acknowledged: last indexes and sizes, oldest first."""

    def __init__(self, count_max: int, bytes_max: int) -> None:
        self.count_max = count_max
        self.bytes_max = bytes_max
        self.bytes = 0
        self._indexes: list[int] = []
        self._sizes: list[int] = []
        self._start = 0

    def count(self) -> int:
        return len(self._indexes) - self._start

    def is_full(self) -> bool:
        """True at either bound; the message that crosses the bound of bytes is still sent."""
        return len(self._indexes) - self._start >= self.count_max or self.bytes >= self.bytes_max

    def add(self, index: int, size: int) -> None:
        assert not self.is_full()
        self._indexes.append(index)
        self._sizes.append(size)
        self.bytes += size

    def free_to(self, index: int) -> None:
        """Frees what ends at or below ``index``."""
        indexes = self._indexes
        start = self._start
        end = len(indexes)
        while start < end and indexes[start] <= index:
            self.bytes -= self._sizes[start]
            start += 1
        if start == end:
            indexes.clear()
            self._sizes.clear()
            start = 0
        elif start > COMPACT_MIN and 2 * start > end:
            del indexes[:start]
            del self._sizes[:start]
            start = 0
        self._start = start

    def clear(self) -> None:
        self._indexes.clear()
        self._sizes.clear()
        self._start = 0
        self.bytes = 0


class Progress:
    """One follower (or the leader itself), as its leader sees it."""

    def __init__(self, id: int, next: int, is_learner: bool, inflight_max: int, inflight_bytes_max: int) -> None:
        self.id = id
        self.match = 0
        """Last index known to be durable there and equal to ours."""
        self.next = next
        self.state = PROBE
        self.is_learner = is_learner
        self.is_active = False
        """Heard from since the last check of the quorum."""
        self.is_paused = False
        """PROBE: the probe is out."""
        self.wants_ping = False
        """The next round sends an append even if it is empty or may not carry entries."""
        self.sent_commit = 0
        self.match_commit = 0
        """What the follower said it knows to be committed."""
        self.snapshot_index = 0
        self.snapshot_ticks = 0
        """Ticks since the snapshot was sent or was last seen to move."""
        self.rejects = 0
        """Probes refused in a row."""
        self.inflights = Window(inflight_max, inflight_bytes_max)

    def become(self, state: int) -> None:
        self.state = state
        self.is_paused = False
        self.wants_ping = False
        self.snapshot_index = 0
        self.snapshot_ticks = 0
        self.rejects = 0
        self.inflights.clear()

    def become_probe(self) -> None:
        """Finds the place to go on from; after a snapshot, the one behind it."""
        snapshot = self.snapshot_index if self.state == SNAPSHOT else 0
        self.become(PROBE)
        self._go_on_from((self.match if self.match > snapshot else snapshot) + 1)

    def become_replicate(self) -> None:
        self.become(REPLICATE)
        self._go_on_from(self.match + 1)

    def _go_on_from(self, next: int) -> None:
        self.next = next
        if self.sent_commit > next - 1:
            self.sent_commit = next - 1

    def become_snapshot(self, index: int) -> None:
        self.become(SNAPSHOT)
        self.snapshot_index = index
        self.next = index + 1
        self.sent_commit = index

    def can_send(self) -> bool:
        """True if an append may be sent now."""
        if self.state == PROBE:
            return not self.is_paused
        if self.state == REPLICATE:
            return not self.inflights.is_full()
        return False

    def acknowledge(self, index: int) -> bool:
        """Notes that everything up to ``index`` is durable there; False if that was known."""
        is_news = index > self.match
        if is_news:
            self.match = index
        if index + 1 > self.next:
            self.next = index + 1
        return is_news

    def refuse(self, rejected: int, hint: int) -> bool:
        """Notes that the append after ``rejected`` did not fit, and where it may; False if the news is old.

        The hint skips a whole term of disagreement at a time.  Logs that disagree in many
        short terms would still need one probe for each, so from the third refusal on the
        step doubles: at most twice the disagreement is sent again (reliability 55).
        """
        if self.state == REPLICATE:
            if rejected <= self.match:
                return False
            self._go_on_from(self.match + 1)
            return True
        if self.next - 1 != rejected:
            return False
        self.rejects += 1
        place = rejected if rejected < hint + 1 else hint + 1
        if self.rejects > 2:
            step: int = 1 << min(self.rejects - 2, 62)
            place -= step
        self._go_on_from(place if place > self.match + 1 else self.match + 1)
        self.is_paused = False
        return True

    def check(self) -> None:
        """Asserts the invariants."""
        assert 0 <= self.match < self.next, f"{self.id=} {self.match=} {self.next=}"
        assert self.sent_commit < self.next, f"{self.id=} {self.sent_commit=} {self.next=}"
        if self.state == SNAPSHOT:
            assert self.snapshot_index > 0, f"{self.id=}"
        if self.state != REPLICATE:
            assert self.inflights.count() == 0, f"{self.id=}"
