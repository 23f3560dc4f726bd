"""A histogram of latencies with bounded size and bounded relative error.

Values below 128 us have a bucket each. Above, every power of two is cut into 128 buckets, so a bucket is narrower than 1/128 of
its values; its middle is reported, at most 0.4 % off. The largest value has an exact place of its own.

    value   0 .. 127   128 .. 255   256 .. 511   512 .. 1023   ...   2**35 .. 2**36-1
    width          1            1            2             4                    2**28
    bucket  0 .. 127   128 .. 255   256 .. 383   384 .. 511          3,712 .. 3,839

Counts are sparse: an interval of a second has a few dozen buckets, and travels as JSON.
"""

from __future__ import annotations

from typing import Final

import msgspec

BITS: Final = 7
PER_OCTAVE: Final = 1 << BITS
VALUE_MAX: Final = (1 << 36) - 1
"""19 hours in microseconds; longer ones count as this."""


def bucket_of(value: int) -> int:
    """Returns the bucket of a value in [0, VALUE_MAX]."""
    shift = max(value.bit_length() - BITS - 1, 0)
    return (shift << BITS) + (value >> shift)


def middle_of(bucket: int) -> int:
    """Returns the middle of a bucket's values."""
    if bucket < 2 * PER_OCTAVE:
        return bucket
    shift = (bucket >> BITS) - 1
    return (((bucket & (PER_OCTAVE - 1)) + PER_OCTAVE) << shift) + (1 << shift >> 1)


class Histogram(msgspec.Struct):
    """Invariant: count is the sum of counts."""

    counts: dict[int, int] = {}
    count: int = 0
    sum_us: int = 0
    max_us: int = 0

    def record(self, value_us: int) -> None:
        value = min(max(value_us, 0), VALUE_MAX)
        bucket = bucket_of(value)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.count += 1
        self.sum_us += value
        self.max_us = max(self.max_us, value)

    def merge(self, other: Histogram) -> None:
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.count += other.count
        self.sum_us += other.sum_us
        self.max_us = max(self.max_us, other.max_us)

    def percentile(self, percent: float) -> int:
        """Returns the smallest value that this share of values does not exceed (nearest rank), or 0 of none."""
        return self.percentiles((percent,))[0]

    def percentiles(self, percents: tuple[float, ...]) -> list[int]:
        """Returns several, which must ascend, in one pass."""
        if not self.count:
            return [0] * len(percents)
        found: list[int] = []
        seen = 0
        ranks = [max(-int(-percent * self.count // 100), 1) for percent in percents]
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            while len(found) < len(ranks) and seen >= ranks[len(found)]:
                # The last bucket's middle may lie above the largest value.
                found.append(min(middle_of(bucket), self.max_us))
        assert len(found) == len(ranks), f"{found=} {ranks=} {seen=} {self.count=}"
        return found

    @property
    def mean_us(self) -> float:
        return self.sum_us / self.count if self.count else 0.0
