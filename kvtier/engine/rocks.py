"""The production engine: RocksDB through rocksdict 0.3.29.

What the binding does wrong, or lets one do wrong, and what this module does about it
(reliability 2.H and 2.H2; each was verified):

    a synced write holds the GIL          writes are never synced; ``sync`` calls flush_wal(True),
                                          which releases it and covers every write before it
    a stalled write blocks, holding it    every write is ``no_slowdown``; a stall is Overloaded
    native batches are consumed           OpBatch keeps the operations and can be written again
    set_iterate_lower_bound sets upper    never called: the wrapper compares keys itself
    upper bound is a dangling pointer     the wrapper holds ReadOptions and the bound's bytes
    items(), keys() end on corruption     only ``iter`` is used, and its status checked
    default mode pickles                  raw_mode on every Options, batch and family
    flush_wal blocks its caller           most syncs go to the kernel (``kvtier.engine.logsync``)
    a failed sync leaves values readable  the engine is poisoned: every later call raises
    live iterators keep the files open    a registry of live iterators, released by close
    many range deletions slow iterators   a small delete_range becomes point deletions
    a torn log end may refuse to open     the logs are looked at first (``kvtier.engine.torn``); a
                                          watermark in them says what was synced
"""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any, Final

import rocksdict as rocks

from base.errors import Overloaded, StorageFailure
from base.seams import CF_NAMES, EngineIterator, WriteBatch
from kvtier.engine.batch import DELETE, PUT, OpBatch, Operation
from kvtier.engine.contract import Cursor, StoreEngine
from kvtier.engine.logsync import open_log_sync
from kvtier.engine.options import BLOCK_CACHE_BYTES, block_cache, database_options, family_options
from kvtier.engine.recent import RecentWrites
from kvtier.engine.spancache import SpanCache
from kvtier.engine.torn import mend
from kvtier.engine.wal import WATERMARK_KEY, watermark

DELETE_RANGE_KEYS_MIN: Final = 100
"""Below this many keys point deletions are cheaper for later readers (reliability 114)."""
_STALL_TEXT: Final = "Write stall"
_FAMILIES: Final = range(len(CF_NAMES))

# RocksDB property -> name in ``stats``; summed over the families.
_FAMILY_PROPERTIES: Final = (
    ("rocksdb.cur-size-all-mem-tables", "memtable_bytes"),
    ("rocksdb.total-sst-files-size", "sst_bytes"),
    ("rocksdb.num-files-at-level0", "level0_files"),
    ("rocksdb.estimate-pending-compaction-bytes", "pending_compaction_bytes"),
    ("rocksdb.estimate-table-readers-mem", "table_reader_bytes"),
)
_DATABASE_PROPERTIES: Final = (
    ("rocksdb.is-write-stopped", "write_stopped"),
    ("rocksdb.actual-delayed-write-rate", "delayed_write_rate"),
    ("rocksdb.background-errors", "background_errors"),
    ("rocksdb.num-running-compactions", "running_compactions"),
    ("rocksdb.num-running-flushes", "running_flushes"),
)


class RocksIterator(EngineIterator):
    """A bounded, point-in-time iterator of its own (see ``point_iterator`` for the shared one)."""

    __slots__ = ("_engine", "_key", "_lower", "_native", "_read_options", "_upper")

    def __init__(self, engine: RocksEngine, family: Any, lower: bytes, upper: bytes | None) -> None:
        self._engine = engine
        self._lower = lower
        # The native iterator points into these two: they live as long as it does.
        self._upper = upper
        self._read_options = rocks.ReadOptions()
        if upper is not None:
            self._read_options.set_iterate_upper_bound(upper)
        self._native: Any = family.iter(self._read_options)
        self._key: bytes | None = None

    def seek(self, key: bytes) -> None:
        native = self._native
        native.seek(key if key > self._lower else self._lower)
        self._key = native.key()

    def seek_for_prev(self, key: bytes) -> None:
        native = self._native
        native.seek_for_prev(key)
        self._take_if_above_lower(native.key())

    def next(self) -> None:
        assert self._key is not None, "next() past the end"
        native = self._native
        native.next()
        self._key = native.key()

    def prev(self) -> None:
        assert self._key is not None, "prev() past the end"
        native = self._native
        native.prev()
        self._take_if_above_lower(native.key())

    def _take_if_above_lower(self, key: bytes | None) -> None:
        self._key = key if key is not None and key >= self._lower else None

    def valid(self) -> bool:
        return self._key is not None

    def key(self) -> bytes:
        assert self._key is not None, "key() of an iterator that is not positioned"
        return self._key

    def value(self) -> bytes:
        assert self._key is not None, "value() of an iterator that is not positioned"
        value: bytes = self._native.value()
        return value

    def check(self) -> None:
        try:
            self._native.status()
        except StorageFailure:
            raise
        except Exception as error:
            raise self._engine.fail("read", error) from error

    def close(self) -> None:
        self._key = None
        self._native = _Refusing(StorageFailure(f"iterator of store {self._engine.path} is closed"))
        self._engine.forget_iterator(self)

    def refuse(self, failure: StorageFailure) -> object:
        """Makes every later call raise; returns the native iterator that was released."""
        native, self._native = self._native, _Refusing(failure)
        return native


class _Refusing:
    """Stands where a native object was; using it raises why there is none."""

    __slots__ = ("_failure",)

    def __init__(self, failure: StorageFailure) -> None:
        self._failure = failure

    def __getattr__(self, name: str) -> Any:
        raise self._failure


class RocksEngine(StoreEngine):
    """One RocksDB database in one directory; one process may hold it.

    ``sync`` may run in another thread while everything else is called from the loop's.
    """

    def __init__(self, path: str, block_cache_bytes: int = BLOCK_CACHE_BYTES) -> None:
        self.path = path
        self.recent = RecentWrites()
        self.spans = SpanCache()
        self._failure: StorageFailure | None = None
        self._write_seq = 0
        self._synced_seq = 0
        # RocksDB's own numbers: synced up to, and what the log says of it.
        self._durable = 0
        self._marked = 0
        self._cache = block_cache(block_cache_bytes)
        self._database: Any = _open(path, self._cache)
        self._opened_at: int = self._database.latest_sequence_number()
        self._families: list[Any] = [self._database.get_column_family(name) for name in CF_NAMES]
        self._handles: list[Any] = [self._database.get_column_family_handle(name) for name in CF_NAMES]
        self._write_options = rocks.WriteOptions()
        self._write_options.no_slowdown = True
        self._read_options = rocks.ReadOptions()
        self._cursors: list[Any] = [None] * len(CF_NAMES)
        self._iterators: weakref.WeakValueDictionary[int, RocksIterator] = weakref.WeakValueDictionary()
        self._retired: list[Any] = []
        self._log_sync = open_log_sync(path)
        self.sync_event = -1 if self._log_sync is None else self._log_sync.event
        # What the sync that is under way will have made durable.
        self._syncing = (0, 0)

    def batch(self) -> OpBatch:
        return OpBatch()

    def write(self, batch: WriteBatch) -> None:
        assert isinstance(batch, OpBatch), f"{batch!r}"
        if self._failure is not None:
            raise self._failure
        touched = self._write(batch.ops)
        self.recent.note(batch.ops)
        self.spans.note(batch.ops)
        self._write_seq += 1
        cursors = self._cursors
        for cf in _FAMILIES:
            if touched >> cf & 1:
                cursors[cf] = None

    def _write(self, ops: list[Operation]) -> int:
        durable = self._durable
        native, touched = self._into_native(ops, durable if durable != self._marked else 0)
        try:
            self._database.write(native, self._write_options)
        except Exception as error:
            # The binding has one exception class for everything: only its text tells.
            if _STALL_TEXT in str(error):
                raise Overloaded("the storage engine cannot take writes now") from error
            raise self.fail("write", error) from error
        self._marked = durable
        return touched

    def _into_native(self, ops: list[Operation], durable: int) -> tuple[Any, int]:
        """Returns a native batch, with a watermark in front if ``durable``, and the bit set of families it touches."""
        native = rocks.WriteBatch(raw_mode=True)
        put = native.put
        handles = self._handles
        touched = 0
        if durable:
            put(WATERMARK_KEY, watermark(durable))
        for index, (kind, cf, key, value) in enumerate(ops):
            touched |= 1 << cf
            if kind == PUT:
                put(key, value, handles[cf])
            elif kind == DELETE:
                native.delete(key, handles[cf])
            else:
                self._add_delete_range(native, ops[:index], cf, key, value)
        return native, touched

    def _add_delete_range(self, native: Any, before: list[Operation], cf: int, lower: bytes, upper: bytes) -> None:
        handle = self._handles[cf]
        keys = self._few_keys(cf, lower, upper)
        if keys is None:
            native.delete_range(lower, upper, handle)
            return
        # Keys written earlier in this batch are in the span too.
        keys.extend(op[2] for op in before if op[0] == PUT and op[1] == cf and lower <= op[2] < upper)
        for key in keys:
            native.delete(key, handle)

    def _few_keys(self, cf: int, lower: bytes, upper: bytes) -> list[bytes] | None:
        """Returns the keys in [lower, upper), or None if they are many."""
        keys: list[bytes] = []
        cursor = self.point_iterator(cf)
        cursor.seek(lower)
        key = cursor.key()
        while key is not None and key < upper:
            keys.append(key)
            if len(keys) >= DELETE_RANGE_KEYS_MIN:
                return None
            cursor.next()
            key = cursor.key()
        if key is None:
            self._check_cursor(cursor)
        return keys

    def _check_cursor(self, cursor: Cursor) -> None:
        try:
            cursor.status()
        except Exception as error:
            raise self.fail("read", error) from error

    def get(self, cf: int, key: bytes) -> bytes | None:
        if self._failure is not None:
            raise self._failure
        try:
            value: bytes | None = self._families[cf].get(key)
        except Exception as error:
            raise self.fail("read", error) from error
        return value

    def iterator(self, cf: int, lower: bytes = b"", upper: bytes | None = None) -> EngineIterator:
        if self._failure is not None:
            raise self._failure
        iterator = RocksIterator(self, self._families[cf], lower, upper)
        self._iterators[id(iterator)] = iterator
        return iterator

    def forget_iterator(self, iterator: RocksIterator) -> None:
        """Takes a closed iterator off the registry."""
        self._iterators.pop(id(iterator), None)

    def point_iterator(self, cf: int) -> Cursor:
        cursor: Cursor | None = self._cursors[cf]
        if cursor is not None:
            return cursor
        if self._failure is not None:
            raise self._failure
        fresh: Cursor = self._families[cf].iter(self._read_options)
        self._cursors[cf] = fresh
        return fresh

    def sync(self) -> None:
        if self._failure is not None:
            raise self._failure
        target = self._write_seq
        if target == self._synced_seq:
            return
        log_sync = self._log_sync
        try:
            durable = self._database.latest_sequence_number()
            if log_sync is not None:
                log_sync.look()
            self._database.flush_wal(True)
            if log_sync is not None:
                log_sync.adopt()
        except Exception as error:
            raise self.fail("sync", error) from error
        self._note_synced(target, durable)

    def begin_sync(self) -> bool:
        log_sync = self._log_sync
        if log_sync is None or self._failure is not None:
            return False
        try:
            self._syncing = (self._write_seq, self._database.latest_sequence_number())
            return log_sync.begin()
        except Exception as error:
            raise self.fail("sync", error) from error

    def end_sync(self) -> bool:
        if self._failure is not None:
            raise self._failure
        assert self._log_sync is not None, "no sync was begun"
        try:
            is_over = self._log_sync.end()
        except OSError as error:
            raise self.fail("sync", error) from error
        if is_over:
            self._note_synced(*self._syncing)
        return is_over

    def _note_synced(self, target: int, durable: int) -> None:
        self._durable = durable
        if target > self._synced_seq:
            self._synced_seq = target

    def mark_synced(self) -> None:
        if self._durable != self._marked and self._failure is None:
            self._write([])

    def write_seq(self) -> int:
        return self._write_seq

    def synced_seq(self) -> int:
        return self._synced_seq

    def opened_at(self) -> int:
        return self._opened_at

    def durable(self) -> int:
        return self._durable

    def compact(self) -> None:
        self._compact(_FAMILIES, None, None)

    def compact_span(self, cf: int, lower: bytes, upper: bytes) -> None:
        self._compact(range(cf, cf + 1), lower, upper)

    def _compact(self, families: range, lower: bytes | None, upper: bytes | None) -> None:
        if self._failure is not None:
            raise self._failure
        try:
            for cf in families:
                self._cursors[cf] = None
                self._families[cf].compact_range(lower, upper)
        except Exception as error:
            raise self.fail("compaction", error) from error

    def stats(self) -> dict[str, int]:
        """Adds to the contract's counters RocksDB's own, summed over the families."""
        if self._failure is not None:
            raise self._failure
        result = {
            "write_seq": self._write_seq,
            "synced_seq": self._synced_seq,
            "open_iterators": len(self._iterators),
            "block_cache_bytes": self._cache.get_usage(),
        }
        for name, label in _FAMILY_PROPERTIES:
            result[label] = sum(_property(family, name) for family in self._families)
        for name, label in _DATABASE_PROPERTIES:
            result[label] = _property(self._database, name)
        return result

    def fail(self, what: str, cause: BaseException) -> StorageFailure:
        """May run in the thread that syncs, so native iterators are kept, not destroyed, here."""
        if self._failure is None:
            self._failure = StorageFailure(f"{what} of store {self.path} failed: {cause}")
            self._retired = self._release_iterators(self._failure)
        return self._failure

    def _release_iterators(self, failure: StorageFailure) -> list[Any]:
        """Makes every iterator refuse; returns the native ones, which die with the list."""
        self.recent.newest.close()
        self.spans.close()
        natives = self._cursors
        self._cursors = [None] * len(CF_NAMES)
        natives.extend(iterator.refuse(failure) for iterator in list(self._iterators.values()))
        self._iterators.clear()
        return natives

    def close(self) -> None:
        """Syncs and closes; every live iterator is released first (reliability 121)."""
        if self._database is None:
            return
        try:
            if self._failure is None:
                self.sync()
                self.mark_synced()
        finally:
            self._failure = self._failure or StorageFailure(f"store {self.path} is closed")
            self._release_iterators(self._failure)
            self._retired.clear()
            self._handles.clear()
            if self._log_sync is not None:
                self._log_sync.close()
            for family in self._families:
                family.close()
            self._families.clear()
            self._database.close()
            self._database = None


def _open(path: str, cache: Any) -> Any:
    families = {name: family_options(name, cache) for name in CF_NAMES}
    mend(Path(path))
    try:
        return rocks.Rdict(path, database_options(), column_families=families)
    except Exception as error:
        text = str(error)
        if "lock" in text.lower() and "LOCK" in text:
            raise StorageFailure(f"store directory {path} is in use by another process") from error
        raise StorageFailure(f"could not open store directory {path}: {text}") from error


def _property(family: Any, name: str) -> int:
    return int(family.property_int_value(name) or 0)
