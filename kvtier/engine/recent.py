"""Which keys were written lately, so that a check for changes need not read what it checks.

A transaction that commits asks of everything it has read whether it changed since.  What was
written in the meantime is a handful of keys; what was read may be thousands::

    batches, oldest first    [a@3] [k@9 m@9] [b@7] [m@12]
    top: highest ts so far     3       9       9     12
    above 8:                 walk back from the end until top <= 8:  m@12, k@9, m@9  ->  [k, m]

Timestamps do not come in order, hence ``top``.  Only so many keys are kept: of what was dropped
the highest timestamp is known (``floor``), and questions from below it are answered with "perhaps".

Invariant: every version above ``floor`` that an engine's data family holds is in the batches.
It is the engine that notes them, so whoever writes versions, writes them here.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from typing import Final

from base.hlc import LOGICAL_BITS, TS_MAX
from base.seams import CF_DATA
from kvtier.engine.batch import DELETE, PUT, Operation
from kvtier.engine.newest import NewestVersions

KEYS_MAX: Final = 8192
"""Most keys kept; some seconds of writes."""
ASKED_MAX: Final = 1024
"""Above so many changes since a timestamp it is cheaper to look at what was read."""
SUFFIX: Final = 8


class RecentWrites:
    """The newest versions of one engine."""

    def __init__(self, keys_max: int = KEYS_MAX) -> None:
        self._keys_max = keys_max
        self.floor = TS_MAX
        """Of versions above it everything is known; TS_MAX until ``open``."""
        self._batches: deque[tuple[int, list[bytes]]] = deque()
        """(top, user keys) of each batch that wrote versions."""
        self._count = 0
        self._asked_ts = -1
        self._found: list[bytes] = []
        """What was written above ``_asked_ts``, sorted; good until the next write."""
        self._are_many = False
        """It was too much to be gathered."""
        self.newest = NewestVersions(max(keys_max, 1))
        """What the newest versions of some keys are."""

    def open(self, now: int, ahead_us: int) -> None:
        """Tells what a clock shows beyond which, by more than ``ahead_us``, no version is stored yet."""
        self._batches.clear()
        self._count = 0
        self._asked_ts = -1
        self.newest.clear()
        self.floor = now + (ahead_us << LOGICAL_BITS)

    def note(self, ops: list[Operation]) -> None:
        """Notes a batch that was written."""
        keys: list[bytes] = []
        newest = b"\xff" * SUFFIX
        versions = self.newest
        for kind, cf, key, value in ops:
            if cf != CF_DATA:
                continue
            if kind == PUT:
                user_key = key[:-SUFFIX]
                keys.append(user_key)
                suffix = key[-SUFFIX:]
                if suffix < newest:
                    newest = suffix
                versions.put(user_key, suffix, value)
            elif kind == DELETE:
                versions.forget(key[:-SUFFIX])
            else:
                versions.clear()
        if not keys:
            return
        self._asked_ts = -1
        batches = self._batches
        top = TS_MAX - int.from_bytes(newest, "big")
        if batches and batches[-1][0] > top:
            top = batches[-1][0]
        batches.append((top, keys))
        self._count += len(keys)
        while self._count > self._keys_max:
            dropped_top, dropped = batches.popleft()
            self._count -= len(dropped)
            if dropped_top > self.floor:
                self.floor = dropped_top

    def may_have(self, start: bytes, end: bytes, ts: int) -> bool:
        """False only if no key of [start, end) has a version above ``ts``; ``end`` b"" is unbounded."""
        if ts < self.floor:
            return True
        if ts != self._asked_ts:
            self._ask(ts)
        if self._are_many:
            return True
        found = self._found
        at = bisect_left(found, start)
        return at < len(found) and (not end or found[at] < end)

    def _ask(self, ts: int) -> None:
        """Gathers the keys that have versions above ``ts``, and perhaps some more."""
        found: list[bytes] = []
        for top, keys in reversed(self._batches):
            if top <= ts or len(found) > ASKED_MAX:
                break
            found += keys
        found.sort()
        self._asked_ts = ts
        self._found = found
        self._are_many = len(found) > ASKED_MAX
