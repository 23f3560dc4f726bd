"""Latency histograms against a sorted list."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tpcc.histogram import PER_OCTAVE, VALUE_MAX, Histogram, bucket_of, middle_of
from tpcc.result import PERCENTILES

VALUES = st.integers(0, VALUE_MAX) | st.integers(0, 20_000)


def exact_percentile(values: list[int], percent: float) -> int:
    """Nearest rank."""
    return sorted(values)[max(math.ceil(percent * len(values) / 100), 1) - 1]


@given(st.lists(VALUES, min_size=1, max_size=200))
def test_percentiles_are_those_of_a_sorted_list(values: list[int]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    for percent, found in zip(PERCENTILES, histogram.percentiles(PERCENTILES)):
        exact = exact_percentile(values, percent)
        assert abs(found - exact) <= exact / PER_OCTAVE, f"{percent=} {found=} {exact=}"
    assert histogram.max_us == max(values)
    assert histogram.sum_us == sum(values)
    assert histogram.count == len(values)


@given(VALUES, VALUES)
def test_buckets_keep_order(a: int, b: int) -> None:
    low, high = sorted((a, b))
    assert bucket_of(low) <= bucket_of(high)
    assert bucket_of(middle_of(bucket_of(a))) == bucket_of(a)


@given(st.lists(VALUES), st.lists(VALUES))
def test_merging_is_recording_all(left: list[int], right: list[int]) -> None:
    merged, other, whole = Histogram(), Histogram(), Histogram()
    for value in left:
        merged.record(value)
    for value in right:
        other.record(value)
    for value in left + right:
        whole.record(value)
    merged.merge(other)
    assert merged == whole


def test_buckets_are_bounded() -> None:
    assert bucket_of(VALUE_MAX) == 3_839
    histogram = Histogram()
    histogram.record(10**15)
    histogram.record(-5)
    assert histogram.max_us == VALUE_MAX
    assert histogram.percentile(1) == 0


def test_nothing_recorded() -> None:
    assert Histogram().percentiles(PERCENTILES) == [0, 0, 0, 0]
    assert Histogram().mean_us == 0
