"""What a group is told once: its own id, its timeouts in ticks, its bounds, its options.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from typing import Final

from kvtier.raft.messages import ENTRY_BYTES_MAX

ELECTION_TICKS: Final = 10
HEARTBEAT_TICKS: Final = 2
INFLIGHT_MAX: Final = 256
"""Appends on their way to one follower."""
INFLIGHT_BYTES_MAX: Final = 16 << 20
APPEND_BYTES_MAX: Final = 64 << 10
"""Target size of one append; a larger single entry goes alone."""
APPLY_BYTES_MAX: Final = 1 << 20
"""Target size of what one Ready gives to apply."""
UNCOMMITTED_BYTES_MAX: Final = 16 << 20
"""Data a leader accepts while its quorum does not commit (reliability 55)."""
TAIL_BYTES_MAX: Final = 64 << 10
"""Applied entries kept in memory for followers that are a little behind."""
SNAPSHOT_TICKS_MAX: Final = 100
"""A snapshot that nobody saw moving for so long is given up (reliability 68)."""
QUIESCE_TICKS: Final = 6
READS_MAX: Final = 4096
"""Reads that wait for a round of heartbeats."""


class Config:
    """One replica's parameters; defaults are what the node uses."""

    def __init__(
        self,
        id: int,
        *,
        election_ticks: int = ELECTION_TICKS,
        heartbeat_ticks: int = HEARTBEAT_TICKS,
        prevote: bool = True,
        check_quorum: bool = True,
        lease_reads: bool = False,
        step_down_on_removal: bool = True,
        validates_changes: bool = True,
        inflight_max: int = INFLIGHT_MAX,
        inflight_bytes_max: int = INFLIGHT_BYTES_MAX,
        append_bytes_max: int = APPEND_BYTES_MAX,
        apply_bytes_max: int = APPLY_BYTES_MAX,
        uncommitted_bytes_max: int = UNCOMMITTED_BYTES_MAX,
        entry_bytes_max: int = ENTRY_BYTES_MAX,
        tail_bytes_max: int = TAIL_BYTES_MAX,
        snapshot_ticks_max: int = SNAPSHOT_TICKS_MAX,
        quiesce_ticks: int = QUIESCE_TICKS,
        quiet_commits: bool = True,
    ) -> None:
        assert id > 0, f"{id=}"
        assert 0 < heartbeat_ticks < election_ticks, f"{heartbeat_ticks=} {election_ticks=}"
        assert inflight_max > 0, f"{inflight_max=}"
        assert entry_bytes_max <= ENTRY_BYTES_MAX, f"{entry_bytes_max=}"
        self.id = id
        self.election_ticks = election_ticks
        """Silence after which a follower campaigns: between this and twice this."""
        self.heartbeat_ticks = heartbeat_ticks
        self.prevote = prevote
        """Ask before raising the term, so that a node that was cut off deposes nobody (thesis 9.6)."""
        self.check_quorum = check_quorum
        """A leader that hears from no quorum for an election timeout steps down, and until then
        its followers ignore candidates (thesis 6.2)."""
        self.lease_reads = lease_reads
        """read_index answers without a round while the lease by store liveness surely lasts (``Liveness.is_certain``)."""
        self.step_down_on_removal = step_down_on_removal
        """A leader that is no voter any more steps down when that is applied."""
        self.validates_changes = validates_changes
        """False leaves it to the caller that configuration changes make sense one after another."""
        self.inflight_max = inflight_max
        self.inflight_bytes_max = inflight_bytes_max
        self.append_bytes_max = append_bytes_max
        self.apply_bytes_max = apply_bytes_max
        self.uncommitted_bytes_max = uncommitted_bytes_max
        self.entry_bytes_max = entry_bytes_max
        self.tail_bytes_max = tail_bytes_max
        self.snapshot_ticks_max = snapshot_ticks_max
        self.quiesce_ticks = quiesce_ticks
        """Idle ticks after which a replica may fall asleep."""
        self.quiet_commits = quiet_commits
        """Followers do not answer what only tells them that entries are committed; heartbeats ask who knows it,
        before a leader falls asleep."""
