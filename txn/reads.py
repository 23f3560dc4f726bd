"""The reads of a transaction: buffer first, then the store, then the read set.

``get`` is the hot path of the whole database: for a transaction that has written nothing it
asks the store for one key (``Kv.get_now``), with no batch, no coroutine and no other object.
Everything else takes the slower methods.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from base.eager import Eager
from base.errors import Uncertain, WriteTooOld
from kvtier.client import NOT_NOW
from kvtier.messages import SKIPPED, Batch, Get, Isolation, Lock, Op, Reply, Scan, ScanResult, Wait
from txn.attempt import PRESENT, Attempt
from txn.spans import POINTS_MAX


class Reader(Attempt):
    """The reading half of ``Transaction``."""

    # --- points -----------------------------------------------------------------

    def get(
        self, key: bytes, lock: Lock = Lock.NONE, wait: Wait = Wait.BLOCK, projection: bytes = b""
    ) -> Eager[bytes | None]:
        if lock or not self._is_plain:
            return self._get_slowly(key, lock, wait, projection)
        return self._get_plainly(key, projection)

    def _get_plainly(self, key: bytes, projection: bytes) -> Eager[bytes | None]:
        """Reads without a batch where the store can answer so."""
        meta = self._meta
        value: Any = self._coordinator.kv.get_now(key, self.read_ts or self._start(), b"" if meta is None else meta.id)
        if value is NOT_NOW:
            return self._get_directly(key, Lock.NONE, Wait.BLOCK, projection)
        self._note_point(key, projection)
        return value  # type: ignore[no-any-return]  # bytes or None

    def _lock_plainly(self, key: bytes, lock: Lock, wait: Wait, projection: bytes) -> Eager[bytes | None]:
        """Locks and reads without a batch where the store can answer so; the lock was noted."""
        meta = self._meta
        assert meta is not None, "the holder of a lock has an identity"
        if not self.read_ts:
            self._start()
        try:
            value: Any = self._coordinator.kv.lock_now(key, meta, lock)
        except WriteTooOld as conflict:
            return self._finish_get(self._perform_again([Get(key, lock, wait)], conflict), key, lock, projection)
        if value is NOT_NOW:
            return self._get_directly(key, lock, wait, projection)
        self._note_point(key, projection)
        return value  # type: ignore[no-any-return]  # bytes or None

    def _note_point(self, key: bytes, projection: bytes) -> None:
        if self._tracks:
            points = self._points
            if points.setdefault(key, projection) != projection:
                points[key] = b""
            elif len(points) > POINTS_MAX:
                self._reads.condense()

    def _get_slowly(self, key: bytes, lock: Lock, wait: Wait, projection: bytes) -> Eager[bytes | None]:
        buffer = self._buffer
        if buffer is not None:
            entry = buffer.entries.get(key)
            if entry is None and buffer.spans:
                entry = buffer.lookup(key)
            if entry is not None:
                self._check_open()
                return entry[0]
        if self._is_direct:
            if not lock:
                return self._get_plainly(key, projection)
            if not self._is_locked:
                self._note_lock(key)
            return self._lock_plainly(key, lock, wait, projection)
        reply = self._perform([Get(key, lock, wait)], key, lock)
        if isinstance(reply, Reply):
            return self._note_get(reply, key, lock, projection)  # type: ignore[no-any-return]  # may be SKIPPED
        return self._finish_get(reply, key, lock, projection)

    def _get_directly(self, key: bytes, lock: Lock, wait: Wait, projection: bytes) -> Eager[bytes | None]:
        """``get`` that takes a batch: a lock, a transaction that has written, an answer that is not there at once."""
        ops: list[Op] = [Get(key, lock, wait)]
        try:
            reply = self._send(Batch(ops, self.read_ts or self._start(), self._meta, routing=PRESENT))
        except (WriteTooOld, Uncertain) as conflict:
            return self._finish_get(self._perform_again(ops, conflict), key, lock, projection)
        if not isinstance(reply, Reply):
            return self._finish_get(self._settle(reply, ops), key, lock, projection)
        value: Any = reply.results[0]
        if value is not SKIPPED:  # Wait.SKIP only
            self._note_point(key, projection)
        if reply.unsynced > self._unsynced:
            self._unsynced = reply.unsynced
        return value  # type: ignore[no-any-return]  # may be SKIPPED

    async def _finish_get(self, pending: Awaitable[Reply], key: bytes, lock: Lock, projection: bytes) -> Any:
        return self._note_get(await pending, key, lock, projection)

    def _note_get(self, reply: Reply, key: bytes, lock: Lock, projection: bytes) -> Any:
        """Returns the value, None or SKIPPED."""
        value = reply.results[0]
        self._note_reply(reply)
        if value is not SKIPPED:
            self._record(key, lock, projection)
        return value

    def _record(self, key: bytes, lock: Lock, projection: bytes) -> None:
        if self._tracks:
            self._reads.add_point(key, projection)
        if lock and not self.single_store:
            self._note_remote_lock(key)

    def _note_remote_lock(self, key: bytes) -> None:
        """A lock may be lost with its range's lease: weaker levels prove at commit that it was not needed (reliability 23)."""
        self._lock_keys[key] = None
        if self.isolation != Isolation.SERIALIZABLE:
            self._validations.setdefault(key, self.read_ts)

    def get_many(
        self, keys: list[bytes], lock: Lock = Lock.NONE, wait: Wait = Wait.BLOCK, projection: bytes = b""
    ) -> Eager[list[bytes | None]]:
        buffer = self._buffer
        if not keys:
            return []
        if buffer is not None and buffer:
            return self._get_many_merged(keys, lock, wait, projection)
        values = self._get_many_plainly(keys, lock, projection)
        if values is not None:
            return values
        ops: list[Op] = [Get(key, lock, wait) for key in keys]
        reply = self._perform(ops, keys[0], lock)
        if isinstance(reply, Reply):
            return self._note_gets(reply.results, keys, lock, projection)
        return self._finish_gets(reply, keys, lock, projection)

    def _get_many_plainly(self, keys: list[bytes], lock: Lock, projection: bytes) -> list[Any] | None:
        """Reads one by one without a batch; None where the store cannot answer so: a batch then does it all again."""
        if not self._is_direct:
            return None
        self._check_open()
        if lock:
            self._note_lock(keys[0])
        ts, kv, meta = self.read_ts or self._start(), self._coordinator.kv, self._meta
        values: list[Any] = []
        try:
            for key in keys:
                if lock:
                    assert meta is not None, "a lock was noted"
                    value = kv.lock_now(key, meta, lock)
                else:
                    value = kv.get_now(key, ts, b"" if meta is None else meta.id)
                if value is NOT_NOW:
                    return None
                values.append(value)
        except WriteTooOld:
            return None
        for key in keys:
            self._note_point(key, projection)
        return values

    async def _finish_gets(
        self, pending: Awaitable[Reply], keys: list[bytes], lock: Lock, projection: bytes
    ) -> list[bytes | None]:
        return self._note_gets((await pending).results, keys, lock, projection)

    def _note_gets(self, values: list[Any], keys: list[bytes], lock: Lock, projection: bytes) -> list[Any]:
        for key, value in zip(keys, values):
            if value is not SKIPPED:  # Wait.SKIP only
                self._record(key, lock, projection)
        return values

    def _get_many_merged(
        self, keys: list[bytes], lock: Lock, wait: Wait, projection: bytes
    ) -> Eager[list[bytes | None]]:
        """Asks the store only for what the buffer does not know."""
        values, places = self._buffered(keys)
        if not places:
            self._check_open()
            return values
        missing = [keys[place] for place in places]
        found = self._get_many_plainly(missing, lock, projection)
        if found is not None:
            return _place(values, places, found)
        ops: list[Op] = [Get(key, lock, wait) for key in missing]
        reply = self._perform(ops, missing[0], lock)
        if isinstance(reply, Reply):
            return _place(values, places, self._note_gets(reply.results, missing, lock, projection))
        return self._finish_merged(reply, values, places, missing, lock, projection)

    def _buffered(self, keys: list[bytes]) -> tuple[list[Any], list[int]]:
        """Returns what the buffer knows of keys, with gaps, and the places of these."""
        buffer = self._buffer
        values: list[Any] = [None] * len(keys)
        places: list[int] = []
        for place, key in enumerate(keys):
            entry = buffer.lookup(key) if buffer is not None else None
            if entry is None:
                places.append(place)
            else:
                values[place] = entry[0]
        return values, places

    async def _finish_merged(
        self,
        pending: Awaitable[Reply],
        values: list[Any],
        places: list[int],
        missing: list[bytes],
        lock: Lock,
        projection: bytes,
    ) -> list[bytes | None]:
        return _place(values, places, self._note_gets((await pending).results, missing, lock, projection))

    def claim(self, keys: list[bytes], rivals: list[bytes]) -> Eager[list[bytes | None]]:
        return self._claim(keys, rivals)

    async def _claim(self, keys: list[bytes], rivals: list[bytes]) -> list[bytes | None]:
        wanted = keys + rivals
        locked = len(keys) if self.isolation == Isolation.SERIALIZABLE else len(wanted)
        values, places = self._buffered(wanted)
        if not places:
            self._check_open()
            return values
        locks = [Lock.EXCLUSIVE if place < locked else Lock.NONE for place in places]
        ops: list[Op] = [Get(wanted[place], lock, Wait.BLOCK) for place, lock in zip(places, locks)]
        at_once = self.isolation != Isolation.SERIALIZABLE
        reply = self._perform(ops, wanted[places[0]], locks[0], at_once)
        if not isinstance(reply, Reply):
            reply = await reply
        for place, lock in zip(places, locks):
            self._record(wanted[place], lock, b"")
        return _place(values, places, reply.results)

    # --- spans ------------------------------------------------------------------

    def scan(
        self,
        start: bytes,
        end: bytes,
        *,
        reverse: bool = False,
        limit: int = 0,
        lock: Lock = Lock.NONE,
        wait: Wait = Wait.BLOCK,
        projection: bytes = b"",
    ) -> Eager[ScanResult]:
        buffer = self._buffer
        if buffer is not None and buffer.touches(start, end):
            return self._scan_merged(Scan(start, end, reverse, limit, lock, wait), projection)
        if self._is_direct and not lock:
            meta = self._meta
            ts = self.read_ts or self._start()
            found: Any = self._coordinator.kv.scan_now(start, end, reverse, limit, ts, b"" if meta is None else meta.id)
            if found is not NOT_NOW:
                return self._note_page(found, start, end, reverse, projection)
        op = Scan(start, end, reverse, limit, lock, wait)
        reply = self._perform([op], start, lock)
        if isinstance(reply, Reply):
            return self._note_scan(reply, op, projection)
        return self._finish_scan(reply, op, projection)

    def scan_many(
        self, spans: list[tuple[bytes, bytes]], limit: int, projection: bytes = b""
    ) -> Eager[list[ScanResult]]:
        if len(spans) == 1 or self._is_direct:
            return self._scan_each(spans, limit, projection)
        return self._scan_together(spans, limit, projection)

    async def _scan_together(self, spans: list[tuple[bytes, bytes]], limit: int, projection: bytes) -> list[ScanResult]:
        """Asks for a page of every span at once, and lays the buffer over them."""
        ops: list[Op] = [Scan(start, end, False, limit) for start, end in spans]
        reply = self._perform(ops, spans[0][0], Lock.NONE, True)
        if not isinstance(reply, Reply):
            reply = await reply
        buffer = self._buffer
        pages: list[ScanResult] = []
        for (start, end), page in zip(spans, reply.results):
            if self._tracks and page.resume != start:
                self._note_span(start, end, False, page.resume, projection)
            if buffer is not None and buffer.touches(start, end):
                page = buffer.merge_page(start, end, False, limit, page)
            pages.append(page)
        return pages

    def _note_page(
        self, found: tuple[ScanResult, int], start: bytes, end: bytes, reverse: bool, projection: bytes
    ) -> ScanResult:
        """Records what ``scan_now`` has read."""
        page, unsynced = found
        if unsynced > self._unsynced:
            self._unsynced = unsynced
        if self._tracks:
            self._note_span(start, end, reverse, page.resume, projection)
        return page

    def _note_span(self, start: bytes, end: bytes, reverse: bool, resume: bytes | None, projection: bytes) -> None:
        """Records what was really read: up to the resume key (reliability 18)."""
        if resume is not None:
            start, end = (resume, end) if reverse else (start, resume)
        if not self._is_held(start, end):
            self._reads.add_span(start, end, projection)

    async def _finish_scan(self, pending: Awaitable[Reply], op: Scan, projection: bytes) -> ScanResult:
        return self._note_scan(await pending, op, projection)

    def _note_scan(self, reply: Reply, op: Scan, projection: bytes) -> ScanResult:
        """Records what a Scan has read, and locked."""
        page: ScanResult = reply.results[0]
        if op.wait == Wait.SKIP:
            # What was skipped was not seen, and may change: a job queue's workers do not conflict.
            for key in page.keys:
                self._record(key, op.lock, projection)
        elif self._tracks:
            self._note_span(op.start, op.end, op.reverse, page.resume, projection)
        if op.lock and not self.single_store:
            self._lock_spans.append((op.start, op.end))
            for key in page.keys:
                self._note_remote_lock(key)
        return page

    def _scan_merged(self, op: Scan, projection: bytes) -> Eager[ScanResult]:
        """Lays the buffer over the store's pages; never an empty page before the end."""
        buffer = self._buffer
        assert buffer is not None, "nothing to merge"
        while True:
            if buffer.covers(op.start, op.end):
                self._check_open()
                return buffer.merge_page(op.start, op.end, op.reverse, op.limit, ScanResult([], []))
            reply = self._perform([op], op.start, op.lock)
            if not isinstance(reply, Reply):
                return self._finish_scan_merged(reply, op, projection)
            page = buffer.merge_page(op.start, op.end, op.reverse, op.limit, self._note_scan(reply, op, projection))
            if page.keys or page.resume is None:
                return page
            op = _rest(op, page.resume)

    async def _finish_scan_merged(self, pending: Awaitable[Reply], op: Scan, projection: bytes) -> ScanResult:
        buffer = self._buffer
        assert buffer is not None, "nothing to merge"
        page = self._note_scan(await pending, op, projection)
        page = buffer.merge_page(op.start, op.end, op.reverse, op.limit, page)
        if page.keys or page.resume is None:
            return page
        more: Any = self._scan_merged(_rest(op, page.resume), projection)
        return more if isinstance(more, ScanResult) else await more


def _place(values: list[Any], places: list[int], found: list[Any]) -> list[Any]:
    """Puts what the store found into the gaps the buffer left."""
    for place, value in zip(places, found):
        values[place] = value
    return values


def _rest(op: Scan, resume: bytes) -> Scan:
    """Returns the scan of what a page left."""
    if op.reverse:
        return Scan(op.start, resume, True, op.limit, op.lock, op.wait)
    return Scan(resume, op.end, False, op.limit, op.lock, op.wait)
