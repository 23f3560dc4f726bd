"""The limits and times of messages between nodes, each with where it comes from."""

from __future__ import annotations

from msgspec import Struct


class RpcSettings(Struct):
    """What a transport is told at start; tests make the times shorter."""

    beat_seconds: float = 1.0
    """Between two signs of life on an idle stream, and two samples of the clocks."""
    silence_seconds: float = 3.0
    """A stream that brought nothing for this long is given up, and so is dialing: three lost beats."""
    backoff_seconds_min: float = 0.05
    backoff_seconds_max: float = 1.0
    """Longest wait before a peer is dialed again: longer, and a healed partition looks dead (reliability 130)."""
    queue_frames_max: int = 16_384
    """Messages of one peer and class that may wait to be sent."""
    queue_bytes_max: int = 64 << 20
    """Bytes of them: four of the largest messages."""
    calls_running_max: int = 4_096
    """Calls of one stream that may be under way at the node that answers."""
    answer_bytes_max: int = 64 << 20
    """Answers that may wait in a stream; above this its calls are not read."""
    snapshot_bytes_per_second: int = 64 << 20
    """Most that one stream of the snapshot class carries, so that others get the loop (reliability 124)."""
    max_offset_seconds: float = 0.25
    """How far clocks may differ; at 80% of it a node stops itself."""


STREAMS_GREETING_MAX = 256
"""Accepted streams that have not yet opened; more are refused."""
