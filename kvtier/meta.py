"""The meta ranges: from a key to the descriptor of its range, in two hops.

    META1 + ordered(end of a META2 range)  -> its descriptor
    META2 + ordered(end of any range)      -> its descriptor

Entries are keyed by the range's *end*, so the entry of a key is the first one whose end
lies above it: one seek.  ``ordered`` escapes and terminates the end key, so that meta keys
are prefix-free like all keys that hold data (``kvtier.messages``):

    byte 0x00 -> 00 ff      end -> 00 01

The META1 range is the first range; everybody knows its descriptor from the store or
from gossip.  An entry is an ordinary versioned value, changed in the same engine batch
as the split or merge it tells of.
"""

from __future__ import annotations

from kvtier.descriptors import DATA_START, KEY_MAX, META1, META2, RangeDescriptor
from kvtier.messages import prefix_end


def ordered(key: bytes) -> bytes:
    """Returns a prefix-free form of a key that sorts as the key does."""
    return key.replace(b"\x00", b"\x00\xff") + b"\x00\x01"


def unordered(stored: bytes) -> bytes:
    """Inverse of ``ordered``."""
    assert stored.endswith(b"\x00\x01"), stored
    return stored[:-2].replace(b"\x00\xff", b"\x00")


def lookup_span(key: bytes) -> tuple[bytes, bytes]:
    """Returns the meta span whose first entry describes the range of ``key``.

    Keys of META2 are looked up in META1, everything else in META2.
    """
    assert key < KEY_MAX, key
    if key < META2:
        return prefix_end(META1 + ordered(b"")), META2
    if key < DATA_START:
        return prefix_end(META1 + ordered(key)), META2
    return prefix_end(META2 + ordered(key)), DATA_START


def entry_keys(descriptor: RangeDescriptor) -> list[bytes]:
    """Returns the meta keys that hold this descriptor: one, or two if it covers part of META2."""
    keys = []
    if descriptor.start < DATA_START:
        keys.append(META1 + ordered(descriptor.end))
    if descriptor.end > DATA_START:
        keys.append(META2 + ordered(descriptor.end))
    return keys


def entry_spans(descriptor: RangeDescriptor) -> list[tuple[bytes, bytes]]:
    """Returns the meta spans of all entries of ranges that end within this one: its own, the last, and stale ones."""
    return [
        (prefix_end(key[: len(META2)] + ordered(descriptor.start)), prefix_end(key)) for key in entry_keys(descriptor)
    ]


def split_allowed(key: bytes) -> bool:
    """True if a range may begin at this key: never inside META1, which must stay one range."""
    return META2 <= key < KEY_MAX
