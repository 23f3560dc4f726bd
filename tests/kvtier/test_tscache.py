"""The timestamp cache never answers lower than a model that forgets nothing."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kvtier.tscache import NOTHING, Read, SpanSteps, TimestampCache, combine

KEYS = [bytes([letter]) for letter in b"abcdefgh"]
keys = st.sampled_from(KEYS)
owners = st.sampled_from([b"", b"t1", b"t2"])
stamps = st.integers(1, 12)
points = st.tuples(st.just("point"), keys, st.just(b""), stamps, owners)
spans = st.tuples(st.just("span"), keys, keys | st.just(b""), stamps, owners)


def covers(start: bytes, end: bytes, key: bytes) -> bool:
    return start <= key and (key < end or not end)


def model_read(steps: list[tuple[str, bytes, bytes, int, bytes]], key: bytes) -> Read:
    """Every read over the key, combined."""
    best = NOTHING
    for kind, start, end, ts, owner in steps:
        if (kind == "point" and start == key) or (kind == "span" and covers(start, end, key)):
            best = combine(best, (ts, owner))
    return best


@given(st.lists(points | spans, max_size=40))
def test_equals_the_model_while_nothing_rotates(steps):
    cache = TimestampCache()
    for kind, start, end, ts, owner in steps:
        if kind == "point":
            cache.add(start, ts, owner)
        else:
            cache.add_span(start, end, ts, owner)
        cache._spans.check()
    for key in KEYS:
        assert cache.get_max(key) == model_read(steps, key)


@settings(max_examples=200)
@given(st.lists(points | spans, max_size=60), st.integers(1, 4), st.integers(3, 6))
def test_is_never_lower_than_the_model_when_rotating(steps, points_max, spans_max):
    """Lower is a lost update; an owner where the model has none lets a write in under a read."""
    cache = TimestampCache(points_max=points_max, spans_max=spans_max)
    last = dict.fromkeys(KEYS, 0)
    for count, (kind, start, end, ts, owner) in enumerate(steps, 1):
        if kind == "point":
            cache.add(start, ts, owner)
        else:
            cache.add_span(start, end, ts, owner)
        assert len(cache._points) <= points_max
        for key in KEYS:
            ts, owner = cache.get_max(key)
            want = model_read(steps[:count], key)
            assert ts >= want[0]
            assert ts >= last[key], "an answer went back"
            last[key] = ts
            if ts == want[0] and owner:
                assert owner == want[1]


@given(st.lists(points | spans, max_size=40), keys, keys)
def test_span_answer_covers_every_key(steps, start, end):
    cache = TimestampCache(points_max=5, spans_max=5)
    for kind, lower, upper, ts, owner in steps:
        if kind == "point":
            cache.add(lower, ts, owner)
        else:
            cache.add_span(lower, upper, ts, owner)
    whole = cache.get_max_span(start, end)
    for key in KEYS:
        if covers(start, end, key) and start < end:
            assert whole[0] >= cache.get_max(key)[0]


def test_a_tie_of_two_transactions_has_no_owner():
    """reliability 5: equal timestamps kept an owner, and a write went in under a same-timestamp read."""
    cache = TimestampCache()
    cache.add(b"k", 7, b"t1")
    assert cache.get_max(b"k") == (7, b"t1")
    cache.add(b"k", 7, b"t2")
    assert cache.get_max(b"k") == (7, b"")
    cache.add(b"k", 7, b"t2")
    assert cache.get_max(b"k") == (7, b"")


def test_a_tie_of_point_and_span_has_no_owner():
    cache = TimestampCache()
    cache.add(b"k", 7, b"t1")
    cache.add_span(b"a", b"z", 7, b"t2")
    assert cache.get_max(b"k") == (7, b"")
    assert cache.get_max(b"l") == (7, b"t2")


def test_low_water_has_no_owner_even_on_a_tie():
    cache = TimestampCache(low_water=7)
    cache.add(b"k", 7, b"t1")
    assert cache.get_max(b"k") == (7, b"")


def test_repeated_scans_keep_one_step():
    """A hot scan must not make the cache grow."""
    cache = TimestampCache()
    for ts in range(1, 100):
        cache.add_span(b"b", b"d", ts, b"t")
    assert len(cache._spans.bounds) == 3


def test_steps_of_a_long_scan_swallow_the_short_ones():
    steps = SpanSteps()
    for letter in b"bdfh":
        steps.add(bytes([letter]), bytes([letter + 1]), (5, b""))
    steps.add(b"a", b"z", (6, b""))
    assert steps.bounds == [b"", b"a", b"z"]
