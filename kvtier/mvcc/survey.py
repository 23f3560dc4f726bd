"""Counting, halving and digesting a span by reading all of it.

A range of 512 MiB has millions of versions, about 0.6 us each, so the work comes in
steps: ``Survey.advance`` and ``SpanDigest.advance`` look at so many versions and return;
``stats``, ``split_key`` and ``checksum`` run them to the end, for small spans and tests.

A Survey that runs in steps sees writes that fall between the steps: its counts are then
estimates.  A SpanDigest keeps point-in-time iterators open, so it is exact, and must
not be kept long (reliability 112).

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

import hashlib
from typing import Final

from base.hlc import TS_MAX
from base.seams import CF_DATA, CF_LOCAL, CF_LOCK, EngineIterator
from kvtier.engine.contract import StoreEngine
from kvtier.mvcc.intents import POINT_PREFIX, SPAN_PREFIX
from kvtier.mvcc.runs import RUN_PREFIX
from kvtier.mvcc.tombstones import NO_TOMBSTONES, RangeTombstones, tombstone_span
from kvtier.mvcc.versions import SUFFIX, ts_of

STEP_VERSIONS: Final = 500
"""About a millisecond of work: what a background task may do in one tick."""
CANDIDATES_MAX: Final = 2_048
"""Split candidates kept; more are thinned to every second one."""


class SpanStats:
    """What a span holds.  Bytes count keys (of versions: with their timestamp) and stored values."""

    __slots__ = ("live_bytes", "live_count", "newest_ts", "total_bytes", "version_count")

    def __init__(self) -> None:
        self.live_count = 0
        """Keys whose newest version is a value."""
        self.live_bytes = 0
        """User keys and values of those."""
        self.version_count = 0
        self.total_bytes = 0
        self.newest_ts = 0

    def as_tuple(self) -> tuple[int, int, int, int]:
        """Returns (live_count, live_bytes, version_count, total_bytes)."""
        return self.live_count, self.live_bytes, self.version_count, self.total_bytes


class Survey:
    """One pass over [start, end), in steps; ``end`` b"" is unbounded."""

    def __init__(self, start: bytes, end: bytes, tombstones: RangeTombstones = NO_TOMBSTONES) -> None:
        self.stats = SpanStats()
        self._start = start
        self._end = end
        self._tombstones = tombstones
        self._position = start
        self._user = b""
        self._candidates: list[tuple[int, bytes]] = []
        """(bytes before the key, key), ascending; never the first key of the span."""
        self._spacing = 1

    def advance(self, engine: StoreEngine, versions_max: int = STEP_VERSIONS) -> bool:
        """Looks at the next versions; True when the span is exhausted."""
        cuts = self._tombstones if self._tombstones.overlap(self._start, self._end) else None
        cursor = engine.point_iterator(CF_DATA)
        cursor.seek(self._position)
        found = cursor.key()
        while found is not None:
            user = found[:-SUFFIX]
            if self._end and user >= self._end:
                return True
            if versions_max <= 0:
                self._position = found
                return False
            if user >= self._start:
                versions_max -= 1
                stored = cursor.value()
                assert stored is not None, f"{found=}"
                self._count(found, user, stored, cuts)
            cursor.next()
            found = cursor.key()
        cursor.status()
        return True

    def _count(self, found: bytes, user: bytes, stored: bytes, cuts: RangeTombstones | None) -> None:
        counted = self.stats
        version_ts = ts_of(found[-SUFFIX:])
        if user != self._user:
            if self._user:
                self._note_candidate(counted.total_bytes, user)
            self._user = user
            hidden = cuts is not None and cuts.covering(user, TS_MAX) > version_ts
            if stored and not hidden:
                counted.live_count += 1
                counted.live_bytes += len(user) + len(stored)
        counted.version_count += 1
        counted.total_bytes += len(found) + len(stored)
        if version_ts > counted.newest_ts:
            counted.newest_ts = version_ts

    def _note_candidate(self, before: int, user: bytes) -> None:
        candidates = self._candidates
        if candidates and before - candidates[-1][0] < self._spacing:
            return
        candidates.append((before, user))
        if len(candidates) > CANDIDATES_MAX:
            del candidates[1::2]
            self._spacing = max(self._spacing * 2, candidates[-1][0] // CANDIDATES_MAX)

    def middle(self) -> bytes | None:
        """Returns the user key that halves the bytes best, or None if the span has one key or none."""
        half = self.stats.total_bytes // 2
        best: bytes | None = None
        distance = 0
        for before, user in self._candidates:
            if best is None or abs(before - half) < distance:
                best = user
                distance = abs(before - half)
        return best


def stats(engine: StoreEngine, start: bytes, end: bytes, tombstones: RangeTombstones = NO_TOMBSTONES) -> SpanStats:
    """Counts [start, end) at once."""
    survey = Survey(start, end, tombstones)
    while not survey.advance(engine):
        pass
    return survey.stats


def split_key(engine: StoreEngine, start: bytes, end: bytes) -> bytes | None:
    """Returns a user key near the middle of [start, end) by bytes, or None if it cannot be split."""
    survey = Survey(start, end)
    while not survey.advance(engine):
        pass
    return survey.middle()


class SpanDigest:
    """A digest of everything replicated in [start, end): versions, intents, range tombstones.

    | family 1 B | key length 4 B | key | value length 4 B | value |  of every record, in order
    """

    def __init__(self, engine: StoreEngine, start: bytes, end: bytes) -> None:
        self._start = start
        self._end = end
        self._hash = hashlib.blake2b(digest_size=16)
        self._parts: list[tuple[int, EngineIterator]] = []
        # All in one tick: the iterators show one moment (reliability 2.H2).
        for cf, lower, upper in engine_spans(start, end):
            iterator = engine.iterator(cf, lower, upper)
            iterator.seek(lower)
            self._parts.append((cf, iterator))

    def advance(self, records_max: int = STEP_VERSIONS) -> bool:
        """Digests the next records; True when done."""
        while self._parts:
            cf, iterator = self._parts[0]
            while iterator.valid():
                if records_max <= 0:
                    return False
                records_max -= 1
                self._take(cf, iterator.key(), iterator.value())
                iterator.next()
            iterator.check()
            iterator.close()
            del self._parts[0]
        return True

    def _take(self, cf: int, key: bytes, value: bytes) -> None:
        if cf == CF_DATA and not self._holds(key[:-SUFFIX]):
            return
        size = len(key).to_bytes(4, "big")
        self._hash.update(b"".join((bytes((cf,)), size, key, len(value).to_bytes(4, "big"), value)))

    def _holds(self, user: bytes) -> bool:
        return user >= self._start and (not self._end or user < self._end)

    def digest(self) -> bytes:
        """Returns 16 bytes, once ``advance`` has returned True."""
        assert not self._parts, "digest of a part"
        return self._hash.digest()

    def close(self) -> None:
        """Gives up; releases the iterators."""
        for _, iterator in self._parts:
            iterator.close()
        self._parts.clear()


def engine_spans(start: bytes, end: bytes) -> list[tuple[int, bytes, bytes | None]]:
    """Returns (family, lower, upper) of all that is replicated of [start, end); ``end`` b"" is unbounded."""
    local_lower, local_upper = tombstone_span(start, end)
    return [
        (CF_DATA, start, end or None),
        (CF_LOCK, POINT_PREFIX + start, POINT_PREFIX + end if end else _following(POINT_PREFIX)),
        (CF_LOCK, RUN_PREFIX + start, RUN_PREFIX + end if end else _following(RUN_PREFIX)),
        (CF_LOCK, SPAN_PREFIX + start, SPAN_PREFIX + end if end else _following(SPAN_PREFIX)),
        (CF_LOCAL, local_lower, local_upper),
    ]


def _following(prefix: bytes) -> bytes:
    return prefix[:-1] + bytes((prefix[-1] + 1,))


def checksum(engine: StoreEngine, start: bytes, end: bytes) -> bytes:
    """Digests [start, end) at once."""
    whole = SpanDigest(engine, start, end)
    while not whole.advance():
        pass
    return whole.digest()
