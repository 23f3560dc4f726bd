"""What can be set about a store; handed in when it is opened."""

from __future__ import annotations

from msgspec import Struct


class StoreSettings(Struct):
    """Limits and intervals; every one has its unit in its name."""

    range_max_bytes: int = 512 << 20
    """A range larger than this is split (design.md section 6)."""
    range_min_bytes: int = 64 << 20
    """Neighbours that together are smaller than this, and than half of what is split, are merged."""
    merge_automatically: bool = True
    """What was split by hand stays split in any case."""
    merge_after_seconds: float = 300.0
    """How long two neighbours must have been fit to be merged, small and cold, before they are."""
    split_requests: float = 2_500.0
    """A range with several replicas that serves more batches a second than this for a while is split; 0: never."""
    gc_seconds: float = 4 * 3600.0
    """How long overwritten versions are kept for AS OF SYSTEM TIME and backups."""
    gc_interval_seconds: float = 60.0
    """Garbage is looked for this long after a write, never without one."""
    gc_min_bytes: int = 1 << 20
    """A range with less garbage than this is left alone."""
    txn_expiry_seconds: float = 5.0
    """A transaction without heartbeat for this long is abandoned; anyone may finish it."""
    outcome_seconds: float = 24 * 3600.0
    """How long the outcomes of named commits, and of transactions that lost their intents, are kept."""
    hlc_bound_seconds: float = 1.0
    """The persisted upper bound of the clock is kept between this and twice this ahead (reliability 28)."""
    locks_max: int = 1_000_000
    cache_points_max: int = 200_000
    cache_spans_max: int = 8_192
    route_always: bool = False
    """True sends every batch through range lookup and splitting, even where one store has everything; for tests."""
    resolve_delay_seconds: float = 0.0
    """Intents of finished transactions are resolved this long after; 0 is the next tick."""
