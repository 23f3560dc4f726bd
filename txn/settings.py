"""What can be set about transactions; handed in when a node is assembled."""

from __future__ import annotations

from msgspec import Struct


class TxnSettings(Struct):
    """Limits and intervals; every one has its unit in its name."""

    buffer_bytes_max: int = 32 << 20
    """Buffered keys and values above this are flushed as intents; a cluster sets it below BATCH_BYTES_MAX."""
    flush_bytes_max: int = 1 << 20
    """Most bytes of one batch of intents."""
    force_intents: bool = False
    """True commits every transaction by parallel commit, even where one batch would do; for tests."""
    heartbeat_seconds: float = 1.0
    """Interval of heartbeats once a record may exist; several fit into the expiry of a record."""
    refreshes_max: int = 16
    """Refreshes in place of one operation before its conflict goes to the caller."""
    commit_attempts_max: int = 8
    """Attempts of a commit batch, each at a higher timestamp."""
    restarts_max: int = 50
    """Attempts of a whole transaction on the server."""
    statement_retries_max: int = 50
    """Attempts of one READ COMMITTED statement on the server."""
    backoff_seconds: float = 0.001
    """First pause between restarts; doubles up to backoff_seconds_max, half of it drawn."""
    backoff_seconds_max: float = 0.1
    commit_key_prefix: bytes = b"\x03k"
    """Where the outcomes of named transactions are kept, one row each (``Coordinator.outcome``)."""
