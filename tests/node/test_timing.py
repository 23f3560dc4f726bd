"""The duration histogram."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node.timing import Timing


def test_a_sample_on_a_bound_belongs_below_it() -> None:
    timing = Timing((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.100001, 1.0, 5.0):
        timing.note(seconds)
    assert timing.counts == [2, 2, 1]


@given(st.lists(st.floats(0, 10)))
def test_against_counting(samples: list[float]) -> None:
    timing = Timing((0.01, 0.5, 2.0))
    for seconds in samples:
        timing.note(seconds)
    below = [sum(seconds <= bound for seconds in samples) for bound in timing.bounds]
    assert [sum(timing.counts[: i + 1]) for i in range(3)] == below
    assert sum(timing.counts) == len(samples)
    assert abs(timing.mean_seconds() - (sum(samples) / len(samples) if samples else 0)) < 1e-9
