"""Scans of spans that the engine's ``SpanCache`` knows, or should get to know.

The cache has the newest version of every key.  A read at or above all of them takes them as they are; of the
keys that are newer than the read, the engine is asked for what they were.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from base.seams import CF_DATA
from kvtier.engine.contract import StoreEngine
from kvtier.engine.spancache import FILL_BYTES_MAX, FILL_ROWS_MAX, SUFFIX, Page
from kvtier.messages import prefix_end
from kvtier.mvcc.reads import OLDER_STEPS_MAX, get_value
from kvtier.mvcc.scans import Rows
from kvtier.mvcc.versions import AFTER_VERSIONS, PLAIN_ABOVE, from_stored, suffix_of

BYTES_MAX: Final = 4 << 20
"""Pages with more in them together are not read at once."""


def scan_cached(engine: StoreEngine, start: bytes, end: bytes, ts: int, limit: int) -> Rows | None:
    """Returns what ``scan`` would, of a span without range tombstones; None if the cache has not got all of it."""
    cache = engine.spans
    visible = suffix_of(ts)
    keys: list[bytes] = []
    values: list[bytes] = []
    size = 0
    at = start
    while True:
        page = cache.page_over(at)
        if page is None:
            page = _fill(engine, at, end, limit - len(keys))
            if page is None:
                return None
        size += page.bytes
        if size > BYTES_MAX:
            return None
        last = page.end
        first = 0 if at == page.start else bisect_left(page.keys, at)
        upto = len(page.keys) if end >= last else bisect_left(page.keys, end, first)
        if first < upto:
            _take(engine, page, first, upto, ts, visible, keys, values)
            if len(keys) >= limit:
                resume = prefix_end(keys[limit - 1])
                return keys[:limit], values[:limit], resume if resume and resume < end else None
        if end <= last:
            return keys, values, None
        at = last


def _take(
    engine: StoreEngine,
    page: Page,
    first: int,
    upto: int,
    ts: int,
    visible: bytes,
    keys: list[bytes],
    values: list[bytes],
) -> None:
    """Appends what a read at ``ts`` sees of a page's rows."""
    part = page.stored[first:upto]
    is_newest = page.newest >= visible or min(page.suffixes[first:upto]) >= visible
    if is_newest and min(part) > PLAIN_ABOVE:
        keys += page.keys[first:upto]
        values += part
        return
    suffixes = page.suffixes
    for index in range(first, upto):
        key = page.keys[index]
        value = from_stored(page.stored[index]) if suffixes[index] >= visible else get_value(engine, key, ts)
        if value is not None:
            keys.append(key)
            values.append(value)


def _fill(engine: StoreEngine, start: bytes, end: bytes, limit: int) -> Page | None:
    """Reads what is not known of [start, end), or the first ``limit`` rows of it, into the cache."""
    cache = engine.spans
    if not cache.wants(start):
        return None
    end = cache.gap_end(start, end)
    keys: list[bytes] = []
    stored: list[bytes] = []
    suffixes: list[bytes] = []
    size = 0
    older = 0
    last = b""
    cursor = engine.point_iterator(CF_DATA)
    cursor.seek(start)
    step, key_of, value_of = cursor.next, cursor.key, cursor.value
    while True:
        found = key_of()
        if found is None:
            cursor.status()
            break
        user = found[:-SUFFIX]
        # Versions of a key that is a proper prefix of ``start`` may sort after it.
        if user == last or user < start:
            older += 1
            if older > OLDER_STEPS_MAX:
                cursor.seek(user + AFTER_VERSIONS)
                older = 0
            else:
                step()
            continue
        if user >= end:
            break
        if limit <= 0:
            end = user
            break
        value = value_of()
        assert value is not None, f"{found=}"
        last = user
        older = 0
        keys.append(user)
        stored.append(value)
        suffixes.append(found[-SUFFIX:])
        size += len(value)
        if value:
            limit -= 1
        if len(keys) > FILL_ROWS_MAX or size > FILL_BYTES_MAX:
            return None
        step()
    return cache.add(start, end, keys, stored, suffixes)
