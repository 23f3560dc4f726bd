"""What can be set about a store; handed in when it is opened."""

from __future__ import annotations

from msgspec import Struct


class StoreSettings(Struct):
    """Limits and intervals; every one has its unit in its name."""

    range_max_bytes: int = 512 << 20
    """A range larger than this is split (design.md section 6)."""
    range_min_bytes: int = 64 << 20
    """Neighbours that together are smaller than this are merged."""
    merge_automatically: bool = False
    """Merging what was split by hand would surprise; the queue turns it on."""
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
