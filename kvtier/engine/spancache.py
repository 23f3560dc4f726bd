"""The newest versions of spans that are read again and again.

A scan of RocksDB pays for every row a step, a key and a value, and for every older version of it
another step; rows that are updated often have hundreds.  Here a span that was scanned twice keeps, of each of its
keys, the newest version: a scan is then two bisections and a slice::

    page [b, m)    keys       b1      d7      k2
                   stored     row     b""     row      b"": deleted
                   suffixes   @20     @31     @9       as in the version's key: newer sorts lower
                   newest     @31

Pages do not overlap; neighbours grow together up to PAGE_ROWS_MAX rows.  Who reads below the newest version of a
row asks the engine for it (``kvtier.mvcc.cached``): nothing older is kept.

Invariant: a page holds every key of its span of which the data family has a version, with the newest of them.
It is the engine that notes its writes here, as in ``recent``; what it cannot follow makes it forget pages.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

from base.seams import CF_DATA
from kvtier.engine.batch import DELETE, PUT, Operation

BYTES_MAX: Final = 32 << 20
"""Keys and values of all pages, with what Python adds; the pages not used for longest go first."""
ROW_BYTES: Final = 160
"""What a row costs beside its key and value: four objects and their places."""
PAGE_ROWS_MAX: Final = 256
"""Rows up to which neighbours become one page; twice as many are cut in two."""
FILL_ROWS_MAX: Final = 1_024
FILL_BYTES_MAX: Final = 256 << 10
"""Spans with more in them are not kept."""
ASKED_MAX: Final = 1_024
"""Places remembered of spans that were asked for once."""
SUFFIX: Final = 8
NO_VERSION: Final = b"\xff" * SUFFIX


class Page:
    """[start, end) with the newest version of each of its keys; the three lists are parallel."""

    def __init__(self, start: bytes, end: bytes, keys: list[bytes], stored: list[bytes], suffixes: list[bytes]) -> None:
        self.start = start
        self.end = end
        self.keys = keys
        self.stored = stored
        self.suffixes = suffixes
        self.newest = min(suffixes) if suffixes else NO_VERSION
        """A lower bound of the suffixes."""
        self.bytes = size_of(keys, stored)
        self.used = 0

    def put(self, key: bytes, suffix: bytes, stored: bytes) -> int:
        """Takes a version that was written; returns by how much the page grew."""
        keys = self.keys
        at = bisect_left(keys, key)
        if suffix < self.newest:
            self.newest = suffix
        if at < len(keys) and keys[at] == key:
            if suffix > self.suffixes[at]:
                return 0
            grown = len(stored) - len(self.stored[at])
            self.stored[at] = stored
            self.suffixes[at] = suffix
        else:
            grown = len(key) + len(stored) + ROW_BYTES
            keys.insert(at, key)
            self.stored.insert(at, stored)
            self.suffixes.insert(at, suffix)
        self.bytes += grown
        return grown

    def shows(self, key: bytes, suffix: bytes) -> bool:
        """True if this version is the newest of its key."""
        at = bisect_left(self.keys, key)
        return at < len(self.keys) and self.keys[at] == key and self.suffixes[at] == suffix


def size_of(keys: list[bytes], stored: list[bytes]) -> int:
    """Returns what rows cost."""
    return sum([len(key) for key in keys]) + sum([len(value) for value in stored]) + ROW_BYTES * len(keys)


class SpanCache:
    """See the module docstring."""

    def __init__(self, bytes_max: int = BYTES_MAX, page_rows_max: int = PAGE_ROWS_MAX) -> None:
        self.bytes = 0
        self.fills = 0
        self._bytes_max = bytes_max
        self._page_rows_max = page_rows_max
        self._starts: list[bytes] = []
        self._pages: list[Page] = []
        self._asked: dict[bytes, None] = {}
        self._is_closed = False

    # --- reading ----------------------------------------------------------------

    def page_over(self, key: bytes) -> Page | None:
        """Returns the page whose span holds a key."""
        at = bisect_right(self._starts, key) - 1
        if at < 0 or self._is_closed:
            return None
        page = self._pages[at]
        if key >= page.end:
            return None
        page.used = self.fills
        return page

    def wants(self, start: bytes) -> bool:
        """True if the span from here on was asked for before, not long ago."""
        if self._is_closed:
            return False
        place = start[:-1]
        asked = self._asked
        if place in asked:
            return True
        if len(asked) >= ASKED_MAX:
            del asked[next(iter(asked))]
        asked[place] = None
        return False

    def gap_end(self, start: bytes, end: bytes) -> bytes:
        """Returns up to where nothing is known from ``start`` on, at most ``end``."""
        at = bisect_right(self._starts, start)
        return min(end, self._starts[at]) if at < len(self._starts) else end

    def add(self, start: bytes, end: bytes, keys: list[bytes], stored: list[bytes], suffixes: list[bytes]) -> Page:
        """Keeps what was read of [start, end), which no page touches; returns the page it is in."""
        self.fills += 1
        starts, pages = self._starts, self._pages
        page = Page(start, end, keys, stored, suffixes)
        page.used = self.fills
        self.bytes += page.bytes
        at = bisect_left(starts, start)
        if at < len(pages) and pages[at].start == end and self._fits(page, pages[at]):
            _join(page, pages[at])
            pages[at] = page
            starts[at] = start
        else:
            pages.insert(at, page)
            starts.insert(at, start)
        if at and pages[at - 1].end == start and self._fits(pages[at - 1], page):
            _join(pages[at - 1], page)
            page = pages[at - 1]
            page.used = self.fills
            del pages[at]
            del starts[at]
        if self.bytes > self._bytes_max:
            self._evict()
        return page

    def _fits(self, left: Page, right: Page) -> bool:
        return len(left.keys) + len(right.keys) <= self._page_rows_max

    def _evict(self) -> None:
        """Drops the pages not used for longest until an eighth is free."""
        for page in sorted(self._pages, key=_used):
            if self.bytes <= self._bytes_max - self._bytes_max // 8:
                break
            self._drop(bisect_left(self._starts, page.start))

    def _drop(self, at: int) -> None:
        self.bytes -= self._pages[at].bytes
        del self._pages[at]
        del self._starts[at]

    # --- following the engine -----------------------------------------------------

    def note(self, ops: list[Operation]) -> None:
        """Follows a batch that was written."""
        starts = self._starts
        if not starts:
            return
        low = high = b""
        """What was written last was between two pages; so is all in [low, high)."""
        for kind, cf, key, value in ops:
            if cf != CF_DATA:
                continue
            if kind != PUT and kind != DELETE:
                self.clear()
                return
            user = key[:-SUFFIX]
            if low <= user and user < high:
                continue
            at = bisect_right(starts, user) - 1
            if at < 0 or user >= self._pages[at].end:
                low = user
                high = starts[at + 1] if at + 1 < len(starts) else user + b"\xff"
            elif kind == PUT:
                page = self._pages[at]
                self.bytes += page.put(user, key[-SUFFIX:], value)
                if len(page.keys) > 2 * self._page_rows_max or page.bytes > 2 * FILL_BYTES_MAX:
                    self._cut(at)
            elif self._pages[at].shows(user, key[-SUFFIX:]):
                self._drop(at)
                low = high = b""

    def _cut(self, at: int) -> None:
        """Makes two pages of one that has grown."""
        page = self._pages[at]
        half = len(page.keys) // 2
        if not half:
            self._drop(at)
            return
        border = page.keys[half]
        right = Page(border, page.end, page.keys[half:], page.stored[half:], page.suffixes[half:])
        left = Page(page.start, border, page.keys[:half], page.stored[:half], page.suffixes[:half])
        left.used = right.used = page.used
        self._pages[at : at + 1] = [left, right]
        self._starts[at : at + 1] = [page.start, border]
        if self.bytes > self._bytes_max:
            self._evict()

    def __len__(self) -> int:
        """Number of rows kept."""
        return sum([len(page.keys) for page in self._pages])

    def clear(self) -> None:
        """Forgets everything."""
        self._starts.clear()
        self._pages.clear()
        self.bytes = 0

    def close(self) -> None:
        """Knows nothing from now on: the engine failed or was closed.  May be called in the thread that syncs."""
        self._is_closed = True

    def check(self) -> None:
        """Asserts what holds of the pages whatever the engine has; for tests."""
        assert self._starts == [page.start for page in self._pages], self._starts
        assert self.bytes == sum([page.bytes for page in self._pages]), self.bytes
        for at, page in enumerate(self._pages):
            assert page.bytes == size_of(page.keys, page.stored), page.start
            assert page.start < page.end, page.start
            assert not at or self._pages[at - 1].end <= page.start, page.start
            assert page.keys == sorted(dict.fromkeys(page.keys)), page.keys
            assert all([page.start <= key and key < page.end for key in page.keys]), page.keys
            assert all([page.newest <= suffix for suffix in page.suffixes]), page.start


def _join(left: Page, right: Page) -> None:
    """Grows a page by its neighbour."""
    left.end = right.end
    left.keys += right.keys
    left.stored += right.stored
    left.suffixes += right.suffixes
    left.bytes += right.bytes
    if right.newest < left.newest:
        left.newest = right.newest


def _used(page: Page) -> int:
    return page.used
