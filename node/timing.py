"""A histogram of durations with fixed bounds, one addition per sample."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

BOUNDS_SECONDS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
)  # fmt: skip
"""From the sync of a fast disk to one that makes clients give up."""


class Timing:
    """Samples come from one thread; a reader in another may see the last one half counted.

    Invariant: ``counts`` has one more entry than ``bounds``, for what is above the last.
    """

    def __init__(self, bounds: tuple[float, ...] = BOUNDS_SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total_seconds = 0.0

    def note(self, seconds: float) -> None:
        """Counts one sample in the first bucket whose bound is not below it."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total_seconds += seconds

    def mean_seconds(self) -> float:
        """Returns the mean of all samples, 0 if there were none."""
        samples = sum(self.counts)
        return self.total_seconds / samples if samples else 0.0
