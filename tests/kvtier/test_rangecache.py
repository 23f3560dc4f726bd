"""The range cache never holds two answers for a key, and the newer generation wins."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvtier.descriptors import DATA_START, KEY_MAX, META2, RangeDescriptor, decode_descriptor, encode_descriptor
from kvtier.meta import entry_keys, lookup_span, ordered, unordered
from kvtier.rangecache import RangeCache

LETTERS = [bytes([letter]) for letter in b"abcdefghij"]


@st.composite
def descriptors(draw):
    start, end = sorted(draw(st.lists(st.sampled_from(LETTERS), min_size=2, max_size=2, unique=True)))
    return RangeDescriptor(draw(st.integers(1, 9)), draw(st.integers(1, 5)), start, end, ())


@given(st.lists(descriptors(), max_size=30))
def test_newest_generation_wins(entries):
    cache = RangeCache()
    for count, entry in enumerate(entries, 1):
        cache.insert(entry)
        cache.check()
        newest = max(
            [other.generation for other in entries[:count] if other.start < entry.end and entry.start < other.end]
        )
        for key in LETTERS:
            found = cache.find(key)
            if found is not None:
                assert found.contains(key)
            if entry.contains(key) and entry.generation == newest:
                assert found == entry
            before = cache.find_before(key)
            assert before is None or before.start < key <= before.end


def test_evicts_only_what_it_was_shown():
    cache = RangeCache()
    old = RangeDescriptor(1, 1, b"a", b"m", ())
    new = RangeDescriptor(1, 2, b"a", b"c", ())
    cache.insert(old)
    cache.insert(new)
    cache.evict(old)
    assert cache.find(b"b") == new
    assert cache.find(b"d") is None


@given(st.binary(max_size=6), st.binary(max_size=6))
def test_meta_keys_sort_as_their_ends_and_are_prefix_free(one, other):
    assert (ordered(one) < ordered(other)) == (one < other)
    assert one == other or not ordered(other).startswith(ordered(one))
    assert unordered(ordered(one)) == one


@given(
    st.lists(st.binary(min_size=1, max_size=3).filter(lambda key: META2 < key < KEY_MAX), max_size=8),
    st.binary(max_size=3),
)
def test_lookup_finds_the_range_of_any_key(borders, key):
    """The first entry of the lookup span is the descriptor of the key's range."""
    if key >= KEY_MAX:
        return
    starts = sorted({b"", *borders})
    entries = {}
    for range_id, (start, end) in enumerate(zip(starts, [*starts[1:], KEY_MAX])):
        descriptor = RangeDescriptor(range_id, 1, start, end, ())
        for meta_key in entry_keys(descriptor):
            entries[meta_key] = descriptor
    lower, upper = lookup_span(key)
    found = min(stored for stored in entries if lower <= stored < upper)
    assert entries[found].contains(key)
    assert lower < DATA_START


def test_descriptor_round_trip():
    descriptor = RangeDescriptor(7, 3, b"a", b"b\x00", ())
    assert decode_descriptor(encode_descriptor(descriptor)) == descriptor
