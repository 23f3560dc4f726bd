"""Scans of a span at a timestamp, in both directions.

A forward scan meets the versions of a key newest first, takes the first one at or below
``ts`` and skips the rest; a backward scan meets them oldest first and keeps the last one
at or below ``ts``:

    forward    a@50 a@30 a@10 b@20 ...      ts 40:  skip, take, skip, take
    backward   ... b@20 a@10 a@30 a@50      ts 40:  take, (a@10), take a@30, skip

Versions to skip are stepped over; after OLDER_STEPS_MAX of them a seek jumps the rest, so a
key with a thousand versions costs two seeks.

``resume`` is where the rest begins: forward the smallest key above the last one returned,
``prefix_end``; backward the last one returned itself, as the new exclusive end.  None
means the span is exhausted.

Writes of the transaction that reads are not versions yet; ``scan_own`` merges them in.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from typing import Final, NoReturn

from base.errors import Uncertain, WriteTooOld
from base.hlc import TS_MAX
from base.seams import CF_DATA
from kvtier.engine.contract import Cursor, StoreEngine
from kvtier.messages import prefix_end
from kvtier.mvcc.reads import OLDER_STEPS_MAX, newest_ts, version_at
from kvtier.mvcc.tombstones import NO_TOMBSTONES, RangeTombstones
from kvtier.mvcc.versions import (
    AFTER_VERSIONS,
    OLDEST_SUFFIX,
    PLAIN_ABOVE,
    SUFFIX,
    from_stored,
    suffix_of,
    ts_of,
)

Rows = tuple[list[bytes], list[bytes], "bytes | None"]
"""(keys, values, resume)."""
_UNLIMITED: Final = 1 << 62


def scan(
    engine: StoreEngine,
    start: bytes,
    end: bytes,
    ts: int,
    reverse: bool = False,
    limit: int = 0,
    bytes_max: int = 0,
    tombstones: RangeTombstones = NO_TOMBSTONES,
    uncertainty_limit: int = 0,
    fail_on_newer: bool = False,
) -> Rows:
    """Returns the rows of [start, end) that a read at ``ts`` sees, in order.

    ``end`` b"" is unbounded.  Stops after ``limit`` rows, or once the keys and values
    reach ``bytes_max`` (at least one row); 0 is no limit.  Raises Uncertain and WriteTooOld
    as ``get`` does, for keys up to where it stops.
    """
    assert not end or start <= end, f"{start=} {end=}"
    horizon = TS_MAX if fail_on_newer else max(ts, uncertainty_limit)
    cuts = tombstones if tombstones.overlap(start, end) else None
    direction = _scan_backward if reverse else _scan_forward
    rows = direction(engine, start, end, ts, horizon, limit or _UNLIMITED, bytes_max or _UNLIMITED, cuts)
    if not isinstance(rows, bytes):
        return rows
    _refuse(engine, rows, horizon, tombstones, fail_on_newer)


def _refuse(
    engine: StoreEngine, key: bytes, horizon: int, tombstones: RangeTombstones, fail_on_newer: bool
) -> NoReturn:
    """Raises for a key that changed after the read timestamp."""
    if fail_on_newer:
        raise WriteTooOld(key, newest_ts(engine, key, tombstones))
    raise Uncertain(key, version_at(engine, key, horizon, tombstones)[1])


def _scan_forward(
    engine: StoreEngine,
    start: bytes,
    end: bytes,
    ts: int,
    horizon: int,
    limit: int,
    bytes_max: int,
    cuts: RangeTombstones | None,
) -> Rows | bytes:
    """Returns the rows, or the key that changed in (ts, horizon]."""
    visible = suffix_of(ts)
    watched = suffix_of(horizon)
    keys: list[bytes] = []
    values: list[bytes] = []
    size = 0
    skipped = 0
    decided = b""
    cursor = engine.point_iterator(CF_DATA)
    _seek_at_or_above(cursor, start)
    step, key_of, value_of = cursor.next, cursor.key, cursor.value
    found = key_of()
    while found is not None:
        user = found[:-8]
        if user == decided:
            skipped += 1
            if skipped > OLDER_STEPS_MAX:
                cursor.seek(user + AFTER_VERSIONS)
            else:
                step()
            found = key_of()
            continue
        if user >= end and end:
            return keys, values, None
        if found[-8:] < visible:
            if found[-8:] >= watched:
                return user
            skipped += 1
            if skipped > OLDER_STEPS_MAX:
                cursor.seek(user + watched)
                skipped = 0
            else:
                step()
            found = key_of()
            continue
        decided = user
        skipped = 0
        stored = value_of()
        if cuts is not None and stored:
            fate = _fate(cuts, found, ts, horizon)
            if fate == _CHANGED and from_stored(stored) is not None:
                return user
            if fate == _HIDDEN:
                stored = b""
        value = stored if stored > PLAIN_ABOVE else from_stored(stored)  # type: ignore[operator,arg-type]  # positioned
        if value is not None:
            keys.append(user)
            values.append(value)
            size += len(user) + len(value)
            limit -= 1
            if not limit or size >= bytes_max:
                return keys, values, _resume_above(user, end)
        step()
        found = key_of()
    cursor.status()
    return keys, values, None


def _scan_backward(
    engine: StoreEngine,
    start: bytes,
    end: bytes,
    ts: int,
    horizon: int,
    limit: int,
    bytes_max: int,
    cuts: RangeTombstones | None,
) -> Rows | bytes:
    """Returns the rows, or the key that changed in (ts, horizon]."""
    visible = suffix_of(ts)
    watched = suffix_of(horizon)
    keys: list[bytes] = []
    values: list[bytes] = []
    size = 0
    cursor = engine.point_iterator(CF_DATA)
    _seek_below(cursor, end)
    step, key_of, value_of = cursor.prev, cursor.key, cursor.value
    found = key_of()
    while found is not None:
        user = found[:-8]
        if user < start:
            return keys, values, None
        taken = b""
        stored: bytes | None = b""
        steps = 0
        while True:
            # Oldest first: the last one at or below ts wins.
            if found[-8:] >= visible:
                taken = found
                stored = value_of()
            elif found[-8:] >= watched:
                return user
            steps += 1
            if steps > OLDER_STEPS_MAX:
                cursor.seek(user + watched)
                found = key_of()
                if found is not None and found[:-8] == user:
                    if found[-8:] < visible:
                        return user
                    taken = found
                    stored = value_of()
                cursor.seek_for_prev(user)
                found = key_of()
                break
            step()
            found = key_of()
            if found is None or found[:-8] != user:
                break
        if cuts is not None and stored:
            fate = _fate(cuts, taken, ts, horizon)
            if fate == _CHANGED and from_stored(stored) is not None:
                return user
            if fate == _HIDDEN:
                stored = b""
        value = stored if stored > PLAIN_ABOVE else from_stored(stored)  # type: ignore[operator,arg-type]  # positioned
        if value is not None:
            keys.append(user)
            values.append(value)
            size += len(user) + len(value)
            limit -= 1
            if not limit or size >= bytes_max:
                return keys, values, (user if user > start else None)
    cursor.status()
    return keys, values, None


_SHOWN: Final = 0
_HIDDEN: Final = 1
_CHANGED: Final = 2


def _fate(cuts: RangeTombstones, found: bytes, ts: int, horizon: int) -> int:
    """Returns what range tombstones do to the version a read at ``ts`` would return."""
    version_ts = ts_of(found[-SUFFIX:])
    user = found[:-SUFFIX]
    if cuts.covering(user, ts) > version_ts:
        return _HIDDEN
    return _CHANGED if cuts.covering(user, horizon) > version_ts else _SHOWN


def _seek_at_or_above(cursor: Cursor, start: bytes) -> None:
    """Moves to the first version of the first key >= start."""
    cursor.seek(start)
    found = cursor.key()
    # Versions of a key that is a proper prefix of ``start`` may sort after it.
    while found is not None and found[:-SUFFIX] < start:
        cursor.seek(found[:-SUFFIX] + AFTER_VERSIONS)
        found = cursor.key()


def _seek_below(cursor: Cursor, end: bytes) -> None:
    """Moves to the last version of the last key < end; b"" is unbounded."""
    if not end:
        cursor.seek_to_last()
        return
    cursor.seek(end)
    found = cursor.key()
    if found is None:
        cursor.status()
        cursor.seek_to_last()
    elif found[:-SUFFIX] < end:
        # A key that is a proper prefix of ``end``: below it, though its versions sort above.
        cursor.seek_for_prev(found[:-SUFFIX] + OLDEST_SUFFIX)
    else:
        cursor.prev()


def _resume_above(user: bytes, end: bytes) -> bytes | None:
    """Returns the start of what follows a key, or None if nothing can."""
    following = prefix_end(user)
    if not following or (end and following >= end):
        return None
    return following


def scan_own(
    engine: StoreEngine,
    start: bytes,
    end: bytes,
    ts: int,
    own: dict[bytes, bytes | None],
    own_deleted: list[tuple[bytes, bytes]],
    reverse: bool = False,
    limit: int = 0,
    bytes_max: int = 0,
    tombstones: RangeTombstones = NO_TOMBSTONES,
    uncertainty_limit: int = 0,
    fail_on_newer: bool = False,
) -> Rows:
    """Returns what a transaction sees that has written here: as ``scan``, with its writes merged in.

    ``own`` holds the values of its point intents (``own_value``), None for deletions;
    ``own_deleted`` the spans it deleted, which hide everything but ``own``.  Limits count
    merged rows.
    """
    keys: list[bytes] = []
    values: list[bytes] = []
    size = 0
    lower, upper = start, end
    while True:
        wanted = limit - len(keys) if limit else 0
        stretch = scan(
            engine, lower, upper, ts, reverse, wanted, bytes_max, tombstones, uncertainty_limit, fail_on_newer
        )
        resume = stretch[2]
        decided = (resume or lower, upper) if reverse else (lower, resume or upper)
        rows = _merged(stretch, decided, own, own_deleted)
        for key in sorted(rows, reverse=reverse):
            keys.append(key)
            values.append(rows[key])
            size += len(key) + len(rows[key])
            if len(keys) == limit or (bytes_max and size >= bytes_max):
                rest = (key if key > start else None) if reverse else _resume_above(key, end)
                return keys, values, rest
        if resume is None:
            return keys, values, None
        lower, upper = (lower, resume) if reverse else (resume, upper)


def _merged(
    stretch: Rows,
    decided: tuple[bytes, bytes],
    own: dict[bytes, bytes | None],
    own_deleted: list[tuple[bytes, bytes]],
) -> dict[bytes, bytes]:
    """Returns the rows of a stretch after the transaction's own writes."""
    rows = dict(zip(stretch[0], stretch[1]))
    for start, end in own_deleted:
        for key in [key for key in rows if start <= key < end]:
            del rows[key]
    for key, value in own.items():
        if key >= decided[0] and (not decided[1] or key < decided[1]):
            if value is None:
                rows.pop(key, None)
            else:
                rows[key] = value
    return rows
