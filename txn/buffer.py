"""The write buffer: what a transaction has written and not yet sent.

    entries   key -> (value | None, seq)    newest write of a key; None deletes
    spans     (seq, start, end)             deleted spans, oldest first

A deleted span takes the buffered keys inside it away, so an entry is always newer than
every span around it: reading a key looks at the entry first, then at the spans, then at
the store.

Savepoints: a token is a sequence number, and the number after it is the first of the next
write (reliability 21).  From the first savepoint on every write leaves what it replaced
in an undo log; ``rollback_to`` plays it backwards.  A flush sends *all* versions, also those
replaced since, because a later rollback may uncover them (reliability 21, 32).

Scans see the buffer merged into the store's pages, in both directions: deletions hide rows,
LIMIT counts after the merge, and the resume key never skips a row of either side
(reliability 22).

``bytes`` is an upper bound of what entries and undo log hold; it falls only by ``clear``
(and by overwriting while nothing can be undone), so the bound on it bounds the memory.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import Final

from kvtier.messages import Delete, DeleteSpan, Op, Put, ScanResult
from txn.spans import point_end

ENTRY_BYTES: Final = 120
"""What an entry costs beside its key and value."""
INSORT_MAX: Final = 16
"""More new keys than this are sorted in at once rather than one by one."""

Entry = tuple[bytes | None, int]
"""(value or None, sequence number)."""


Undo = tuple[int, bytes | None, Entry | None]
"""One step back, (seq, key, previous): gives ``key`` its previous entry, or (key None) takes the newest span away."""


class WriteBuffer:
    """See the module docstring; sequence numbers come from the transaction and ascend."""

    def __init__(self) -> None:
        self.entries: dict[bytes, Entry] = {}
        self.spans: list[tuple[int, bytes, bytes]] = []
        self.bytes = 0
        self._undo: list[Undo] = []
        self._has_savepoint = False
        self._sorted: list[bytes] = []
        self._fresh: list[bytes] = []
        self._is_stale = False

    def __bool__(self) -> bool:
        return bool(self.entries) or bool(self.spans)

    # --- writing ----------------------------------------------------------------

    def write(self, key: bytes, value: bytes | None, seq: int) -> None:
        """Puts (or, with None, deletes) a key."""
        entries = self.entries
        previous = entries.get(key)
        if self._has_savepoint:
            self._undo.append((seq, key, previous))
        elif previous is not None and previous[0] is not None:
            self.bytes -= len(previous[0])
        if previous is None:
            self._fresh.append(key)
        if previous is None or self._has_savepoint:
            self.bytes += len(key) + ENTRY_BYTES
        if value is not None:
            self.bytes += len(value)
        entries[key] = (value, seq)

    def delete_span(self, start: bytes, end: bytes, seq: int) -> None:
        """Deletes every key of [start, end), buffered ones and the store's."""
        for key in self.keys_in(start, end):
            previous = self.entries.pop(key)
            self._is_stale = True
            if self._has_savepoint:
                self._undo.append((seq, key, previous))
        self.spans.append((seq, start, end))
        if self._has_savepoint:
            self._undo.append((seq, None, None))
        self.bytes += len(start) + len(end) + ENTRY_BYTES

    def mark_savepoint(self) -> None:
        """From now on every write can be undone."""
        self._has_savepoint = True

    def forget_undo(self) -> None:
        """No earlier savepoint will be asked for: what is here stays, or goes as a whole."""
        if self._undo:
            self._undo.clear()

    def rollback_to(self, seq: int) -> None:
        """Undoes every write numbered above ``seq``."""
        undo = self._undo
        while undo and undo[-1][0] > seq:
            _, key, previous = undo.pop()
            if key is None:
                self.spans.pop()
            elif previous is None:
                del self.entries[key]
                self._is_stale = True
            else:
                if key not in self.entries:
                    self._fresh.append(key)
                self.entries[key] = previous

    def clear(self) -> None:
        """Forgets everything: flushed, or rolled back.  Earlier savepoints stay valid."""
        self.entries.clear()
        self.spans.clear()
        self._undo.clear()
        self._sorted.clear()
        self._fresh.clear()
        self._is_stale = False
        self.bytes = 0

    # --- reading ----------------------------------------------------------------

    def lookup(self, key: bytes) -> Entry | None:
        """Returns the entry of a key, (None, seq) in a deleted span, or None: ask the store."""
        entry = self.entries.get(key)
        if entry is None and self.spans:
            for seq, start, end in self.spans:
                if start <= key < end:
                    return (None, seq)
        return entry

    def keys_in(self, start: bytes, end: bytes) -> list[bytes]:
        """Returns the buffered keys of [start, end), ascending."""
        if self._fresh or self._is_stale:
            self._sort()
        keys = self._sorted
        return keys[bisect_left(keys, start) : bisect_left(keys, end)]

    def _sort(self) -> None:
        if self._is_stale:
            self._sorted = sorted(self.entries)
            self._is_stale = False
        elif len(self._fresh) <= INSORT_MAX:
            for key in self._fresh:
                insort(self._sorted, key)
        else:
            self._sorted += self._fresh
            self._sorted.sort()
        self._fresh.clear()

    def covers(self, start: bytes, end: bytes) -> bool:
        """True if one deleted span hides everything the store has in [start, end)."""
        return any(lower <= start and end <= upper for _, lower, upper in self.spans)

    def touches(self, start: bytes, end: bytes) -> bool:
        """True if a buffered write may change what a scan of [start, end) sees."""
        return self.has_span_in(start, end) or bool(self.keys_in(start, end))

    def has_span_in(self, start: bytes, end: bytes) -> bool:
        """True if a deleted span overlaps [start, end)."""
        return bool(self.spans) and any(lower < end and start < upper for _, lower, upper in self.spans)

    def merge_page(self, start: bytes, end: bytes, reverse: bool, limit: int, page: ScanResult) -> ScanResult:
        """Returns a page of the store's [start, end) with this buffer laid over it.

        The store's page covers [start, resume) ascending, [resume, end) descending; only
        buffered keys of that part may appear, the others belong to later pages.
        """
        if page.resume is not None:
            if reverse:
                start = page.resume
            else:
                end = page.resume
        keys, values = self._without_hidden(page, start, end)
        buffered = self.keys_in(start, end)
        if buffered:
            keys, values = self._overlay(keys, values, buffered, reverse)
        if limit and len(keys) > limit:
            last = keys[limit - 1]
            return ScanResult(keys[:limit], values[:limit], last if reverse else point_end(last))
        return ScanResult(keys, values, page.resume)

    def _without_hidden(self, page: ScanResult, start: bytes, end: bytes) -> tuple[list[bytes], list[bytes]]:
        """Returns the store's rows that no deleted span hides."""
        hiding = _cover([(lower, upper) for _, lower, upper in self.spans if lower < end and start < upper])
        if not hiding:
            return page.keys, page.values
        lowers = [lower for lower, _ in hiding]
        keys: list[bytes] = []
        values: list[bytes] = []
        for key, value in zip(page.keys, page.values):
            index = bisect_right(lowers, key) - 1
            if index < 0 or key >= hiding[index][1]:
                keys.append(key)
                values.append(value)
        return keys, values

    def _overlay(
        self, keys: list[bytes], values: list[bytes], buffered: list[bytes], reverse: bool
    ) -> tuple[list[bytes], list[bytes]]:
        """Merges two sorted lists of keys; the buffer's value wins, its None takes the row away."""
        if reverse:
            buffered.reverse()
        entries = self.entries
        merged_keys: list[bytes] = []
        merged_values: list[bytes] = []
        i = 0
        count = len(keys)
        for key in buffered:
            while i < count and (keys[i] > key if reverse else keys[i] < key):
                merged_keys.append(keys[i])
                merged_values.append(values[i])
                i += 1
            if i < count and keys[i] == key:
                i += 1
            value = entries[key][0]
            if value is not None:
                merged_keys.append(key)
                merged_values.append(value)
        merged_keys += keys[i:]
        merged_values += values[i:]
        return merged_keys, merged_values

    # --- sending ----------------------------------------------------------------

    def into_commit_ops(self) -> list[Op]:
        """Returns the final writes: spans first, so that a put over a deleted span stands."""
        ops: list[Op] = []
        for seq, start, end in self.spans:
            ops.append(DeleteSpan(start, end, seq))
        for key, (value, seq) in self.entries.items():
            if value is None:
                ops.append(Delete(key, seq))
            else:
                ops.append(Put(key, value, seq))
        return ops

    def into_flush_ops(self) -> list[Op]:
        """Returns every version that a savepoint may still bring back, in order of writing."""
        versions: list[tuple[int, bytes, bytes | None]] = []
        for key, (value, seq) in self.entries.items():
            versions.append((seq, key, value))
        for _, undone, previous in self._undo:
            if undone is not None and previous is not None:
                versions.append((previous[1], undone, previous[0]))
        ops: list[tuple[int, Op]] = []
        for seq, key, value in dict.fromkeys(versions):
            ops.append((seq, Delete(key, seq) if value is None else Put(key, value, seq)))
        for seq, start, end in self.spans:
            ops.append((seq, DeleteSpan(start, end, seq)))
        ops.sort(key=_sequence)
        return [op for _, op in ops]


def _sequence(item: tuple[int, Op]) -> int:
    return item[0]


def _cover(spans: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Returns sorted disjoint spans that cover the given ones."""
    spans.sort()
    cover = spans[:1]
    for start, end in spans[1:]:
        if start <= cover[-1][1]:
            cover[-1] = (cover[-1][0], max(cover[-1][1], end))
        else:
            cover.append((start, end))
    return cover
