"""Reads of one key, and the check that a span still reads the same.

Every read is one seek: to (key, ts) for what was at ``ts``, to the key for its newest
version; or none, where the newest is known (``kvtier.engine.newest``).  ``get_value`` is the hot path of the whole database: 1.3 us over RocksDB's
memtable with everything in Python.

``tombstones`` are the store's range tombstones; see ``kvtier.mvcc`` for their rule.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

import struct
from typing import Final

from base.errors import Uncertain, WriteTooOld
from base.hlc import TS_MAX
from base.projection import projected_equal
from base.seams import CF_DATA
from kvtier.engine.contract import Cursor, StoreEngine
from kvtier.mvcc.tombstones import NO_TOMBSTONES, RangeTombstones
from kvtier.mvcc.versions import (
    AFTER_VERSIONS,
    PLAIN_ABOVE,
    SUFFIX,
    from_stored,
    suffix_of,
    ts_of,
)

_pack = struct.Struct(">Q").pack
OLDER_STEPS_MAX: Final = 4
"""Versions stepped over one by one before a seek past the rest: a step costs a quarter of a seek."""


def get_value(engine: StoreEngine, key: bytes, ts: int, tombstones: RangeTombstones = NO_TOMBSTONES) -> bytes | None:
    """Returns what a read at ``ts`` sees, or None."""
    wanted: bytes = _pack(TS_MAX - ts)
    known = engine.recent.newest.find(key)
    if known is not None and known[0] >= wanted:
        suffix, stored = known
    else:
        cursor = engine.point_iterator(CF_DATA)
        cursor.seek(key + wanted)
        found = cursor.key()
        if found is None:
            cursor.status()
            return None
        if found[:-8] != key:
            return None
        suffix = found[-8:]
        stored = cursor.value()  # type: ignore[assignment]  # a positioned cursor has a value
    if tombstones.starts and tombstones.covering(key, ts) > ts_of(suffix):
        return None
    if stored > PLAIN_ABOVE:
        return stored
    return from_stored(stored)


def get(
    engine: StoreEngine,
    key: bytes,
    ts: int,
    tombstones: RangeTombstones = NO_TOMBSTONES,
    uncertainty_limit: int = 0,
    fail_on_newer: bool = False,
) -> tuple[bytes | None, int]:
    """Returns (value, timestamp of the version or deletion it comes from, 0 if none).

    Raises Uncertain if something happened to the key in (ts, uncertainty_limit].  With
    ``fail_on_newer``, for reads that lock, raises WriteTooOld if anything happened after
    ``ts``; its ``existing_ts`` is the newest.
    """
    if fail_on_newer:
        value, newest_at = newest(engine, key, tombstones)
        if newest_at > ts:
            raise WriteTooOld(key, newest_at)
        return value, newest_at
    if uncertainty_limit > ts:
        value, version_ts = version_at(engine, key, uncertainty_limit, tombstones)
        if version_ts <= ts:
            return value, version_ts
        visible = version_at(engine, key, ts, tombstones)
        # A deleted span is no event of a key that was not there.
        if value is None and visible[0] is None and not _has_version_in(engine, key, ts, uncertainty_limit):
            return visible
        raise Uncertain(key, version_ts)
    return version_at(engine, key, ts, tombstones)


def version_at(engine: StoreEngine, key: bytes, ts: int, tombstones: RangeTombstones) -> tuple[bytes | None, int]:
    """Returns (value, timestamp) of what is at ``ts``, range tombstones included."""
    cover = tombstones.covering(key, ts) if tombstones.starts else 0
    cursor = engine.point_iterator(CF_DATA)
    cursor.seek(key + _pack(TS_MAX - ts))
    found = cursor.key()
    if found is None:
        cursor.status()
        return None, cover
    if found[:-SUFFIX] != key:
        return None, cover
    version_ts = ts_of(found[-SUFFIX:])
    if cover > version_ts:
        return None, cover
    stored = cursor.value()
    assert stored is not None, f"{found=}"
    return from_stored(stored), version_ts


def _has_version_in(engine: StoreEngine, key: bytes, from_ts: int, to_ts: int) -> bool:
    """True if the key has a version in (from_ts, to_ts]."""
    cursor = engine.point_iterator(CF_DATA)
    cursor.seek(key + _pack(TS_MAX - to_ts))
    found = cursor.key()
    if found is None:
        cursor.status()
        return False
    return found[:-SUFFIX] == key and ts_of(found[-SUFFIX:]) > from_ts


def newest(engine: StoreEngine, key: bytes, tombstones: RangeTombstones = NO_TOMBSTONES) -> tuple[bytes | None, int]:
    """Returns (newest committed value, its timestamp); a deletion is (None, when), nothing is (None, 0).

    What it finds is kept: whoever asks locks or writes the key, and is likely to ask again.
    """
    versions = engine.recent.newest
    known = versions.find(key)
    if known is None:
        cursor = engine.point_iterator(CF_DATA)
        cursor.seek(key)
        found = cursor.key()
        if found is None:
            cursor.status()
        if found is None or found[:-SUFFIX] != key:
            return None, tombstones.covering(key, TS_MAX) if tombstones.starts else 0
        stored = cursor.value()
        assert stored is not None, f"{found=}"
        known = (found[-SUFFIX:], stored)
        versions.note(key, known[0], stored)
    version_ts = ts_of(known[0])
    if tombstones.starts:
        cover = tombstones.covering(key, TS_MAX)
        if cover > version_ts:
            return None, cover
    return from_stored(known[1]), version_ts


def newest_ts(engine: StoreEngine, key: bytes, tombstones: RangeTombstones = NO_TOMBSTONES) -> int:
    """Returns when the key last changed, deletions included; 0 if never."""
    cover = tombstones.covering(key, TS_MAX) if tombstones.starts else 0
    cursor = engine.point_iterator(CF_DATA)
    cursor.seek(key)
    found = cursor.key()
    if found is None:
        cursor.status()
        return cover
    if found[:-SUFFIX] != key:
        return cover
    version_ts = ts_of(found[-SUFFIX:])
    return version_ts if version_ts > cover else cover


def find_conflict(
    engine: StoreEngine,
    start: bytes,
    end: bytes,
    from_ts: int,
    to_ts: int,
    projection: bytes = b"",
    tombstones: RangeTombstones = NO_TOMBSTONES,
) -> tuple[bytes, int] | None:
    """Returns (key, timestamp) of the first key of [start, end) that reads differently at ``to_ts``.

    Phantoms and deletions count (reliability 19); a version that leaves presence and the
    projected columns as they were does not.  ``end`` b"" is unbounded.
    """
    cuts = tombstones.overlap(start, end) and tombstones.newest_in(start, end) > from_ts
    if not cuts and not engine.recent.may_have(start, end, from_ts):
        return None
    upto = suffix_of(to_ts)
    since = suffix_of(from_ts)
    cursor = engine.point_iterator(CF_DATA)
    cursor.seek(start)
    found = cursor.key()
    decided = b""
    while found is not None:
        user = found[:-SUFFIX]
        if user == decided:
            found = _past_versions(cursor, user)
            continue
        if user >= end and end:
            return None
        if user < start:
            found = _past_versions(cursor, user)
            continue
        if found[-SUFFIX:] < upto:
            cursor.seek(user + upto)
            found = cursor.key()
            continue
        # ``found`` is the newest version that a read at to_ts can see.
        decided = user
        if found[-SUFFIX:] < since or (cuts and tombstones.covering(user, to_ts) > from_ts):
            changed = _changed_at(engine, user, from_ts, to_ts, projection, tombstones)
            if changed:
                return user, changed
            cursor.seek(found)
        cursor.next()
        found = cursor.key()
    cursor.status()
    return None


def _past_versions(cursor: Cursor, user: bytes) -> bytes | None:
    """Moves from a version of a key to the first version of the next key; returns it."""
    for _ in range(OLDER_STEPS_MAX):
        cursor.next()
        found = cursor.key()
        if found is None or found[:-SUFFIX] != user:
            return found
    cursor.seek(user + AFTER_VERSIONS)
    return cursor.key()


def find_newer(
    engine: StoreEngine, start: bytes, end: bytes, ts: int, tombstones: RangeTombstones = NO_TOMBSTONES
) -> tuple[bytes, int] | None:
    """Returns (key, timestamp) of a change of any kind in [start, end) after ``ts``, the first by key.

    What a span deletion must ask before it takes a timestamp: unlike ``find_conflict`` it
    counts a version that repeats the old value.  A range tombstone answers with the
    span's start.
    """
    stamp = tombstones.newest_in(start, end) if tombstones.starts else 0
    if stamp > ts:
        return start, stamp
    since = suffix_of(ts)
    cursor = engine.point_iterator(CF_DATA)
    cursor.seek(start)
    found = cursor.key()
    while found is not None:
        user = found[:-SUFFIX]
        if end and user >= end:
            return None
        if user >= start and found[-SUFFIX:] < since:
            return user, ts_of(found[-SUFFIX:])
        found = _past_versions(cursor, user)
    cursor.status()
    return None


def _changed_at(
    engine: StoreEngine, key: bytes, from_ts: int, to_ts: int, projection: bytes, tombstones: RangeTombstones
) -> int:
    """Returns when the key changed in (from_ts, to_ts], or 0 if it reads the same."""
    old, _ = version_at(engine, key, from_ts, tombstones)
    new, version_ts = version_at(engine, key, to_ts, tombstones)
    if projected_equal(old, new, projection):
        return 0
    return version_ts
