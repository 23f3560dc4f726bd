"""A sorted list of distinct byte strings, in blocks, for the memory engine.

    blocks   [ [a b c] [d e] [f g h] ]      each non-empty, at most BLOCK_KEYS_MAX long
    maxima   [      c     e       h  ]      the last key of each block

Every operation bisects ``maxima`` and then one block.  Measured against
sortedcontainers: a seek 0.4 us (``irange`` 2.4 us), a step 0.1 us, an insertion 0.7 us
at 100k keys (the same), because a position is two integers and no generator.

Invariant: keys ascend strictly, inside and across blocks; ``maxima`` agrees.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import Final

BLOCK_KEYS_MAX: Final = 512

Position = tuple[int, int]


class KeyList:
    """Sorted distinct keys; positions are (block, offset) and die at the next change.

    ``changes`` counts insertions and removals, so a holder of a position can tell.
    """

    __slots__ = ("blocks", "changes", "maxima")

    def __init__(self) -> None:
        self.blocks: list[list[bytes]] = []
        self.maxima: list[bytes] = []
        self.changes = 0

    def add(self, key: bytes) -> None:
        """Inserts a key that must not be there."""
        self.changes += 1
        if not self.blocks:
            self.blocks.append([key])
            self.maxima.append(key)
            return
        at = min(bisect_left(self.maxima, key), len(self.blocks) - 1)
        block = self.blocks[at]
        insort(block, key)
        self.maxima[at] = block[-1]
        if len(block) > BLOCK_KEYS_MAX:
            self._divide(at)

    def _divide(self, at: int) -> None:
        block = self.blocks[at]
        half = len(block) // 2
        self.blocks[at : at + 1] = [block[:half], block[half:]]
        self.maxima[at : at + 1] = [block[half - 1], block[-1]]

    def remove(self, key: bytes) -> None:
        """Removes a key that must be there."""
        self.changes += 1
        at = bisect_left(self.maxima, key)
        block = self.blocks[at]
        offset = bisect_left(block, key)
        assert block[offset] == key, f"{key=}"
        del block[offset]
        if block:
            self.maxima[at] = block[-1]
        else:
            del self.blocks[at]
            del self.maxima[at]

    def first_at_or_above(self, key: bytes) -> Position | None:
        at = bisect_left(self.maxima, key)
        if at == len(self.blocks):
            return None
        return at, bisect_left(self.blocks[at], key)

    def last_at_or_below(self, key: bytes) -> Position | None:
        at = bisect_left(self.maxima, key)
        if at == len(self.blocks):
            return self.last()
        offset = bisect_right(self.blocks[at], key) - 1
        if offset >= 0:
            return at, offset
        return (at - 1, len(self.blocks[at - 1]) - 1) if at else None

    def last(self) -> Position | None:
        return (len(self.blocks) - 1, len(self.blocks[-1]) - 1) if self.blocks else None

    def between(self, lower: bytes, upper: bytes) -> list[bytes]:
        """Returns the keys in [lower, upper)."""
        keys: list[bytes] = []
        start = self.first_at_or_above(lower)
        if start is None:
            return keys
        at, offset = start
        while at < len(self.blocks):
            block = self.blocks[at]
            stop = bisect_left(block, upper)
            keys.extend(block[offset:stop])
            if stop < len(block):
                break
            at += 1
            offset = 0
        return keys

    def check(self) -> None:
        """Asserts the invariants."""
        keys = [key for block in self.blocks for key in block]
        assert keys == sorted(set(keys)), "keys do not ascend"
        assert all(self.blocks), "empty block"
        assert self.maxima == [block[-1] for block in self.blocks], f"{self.maxima=}"
        assert all(len(block) <= BLOCK_KEYS_MAX for block in self.blocks), "block too long"
