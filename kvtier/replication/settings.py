"""What replication is told at start."""

from __future__ import annotations

from msgspec import Struct


class ReplicationSettings(Struct):
    """Times in seconds; the defaults are a node's, simulations draw their own."""

    tick_seconds: float = 0.1
    election_ticks: int = 10
    heartbeat_ticks: int = 2
    support_seconds: float = 2.5
    """For how long a store's heartbeat asks for support: about how long a dead leaseholder blocks its ranges."""
    support_heartbeat_seconds: float = 0.7
    closed_lag_seconds: float = 3.0
    """How far closed timestamps trail the clock (design.md section 6)."""
    closed_lead_seconds: float = 0.7
    """How far closed timestamps of GLOBAL tables lead it: the offset of a reader's clock, the interval between two
    promises, the way through the log and to the follower, and some slack (reliability 46)."""
    closed_interval_seconds: float = 0.2
    log_entries_max: int = 2_000
    """Applied entries kept for followers that are behind; more behind than this needs a snapshot."""
    snapshot_bytes_per_second: int = 32 << 20
    """What a store sends of snapshots, all together, so that clients keep their share of disk and network."""
    consistency_seconds: float = 24 * 3600.0
    """How often the replicas of each range are compared; 0: never."""
    envelope_bytes_max: int = 1 << 20
