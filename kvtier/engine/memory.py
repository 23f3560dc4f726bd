"""The simulator's engine: the same contract in memory, with a disk that forgets.

Durability model, that of a write-ahead log: batches are numbered as they are written;
``sync`` moves the durable number up to the last written; ``crash`` keeps every durable
batch and, of the rest, a prefix whose length is drawn from the Rng.  A torn last batch
vanishes whole, because a log record is taken whole or not at all.

    write   1   2   3   4   5   6
                    ^ synced        crash keeps 1..3, and perhaps 4, 4-5 or 4-6

To go back, every batch written since the last sync keeps what it replaced (its undo).

Point in time: an iterator does not copy.  A write first hands every open iterator of
its family the value it replaces (``MemoryIterator.old``), and keys deleted while an
iterator is open stay in the key list until the last one closes.
"""

from __future__ import annotations

import weakref
from typing import Final

from base.errors import Overloaded, StorageFailure
from base.seams import CF_NAMES, EngineIterator, Rng, WriteBatch
from kvtier.engine.batch import DELETE_RANGE, PUT, OpBatch
from kvtier.engine.contract import Cursor, StoreEngine
from kvtier.engine.keylist import KeyList
from kvtier.engine.recent import RecentWrites
from kvtier.engine.spancache import SpanCache

_FAMILIES: Final = range(len(CF_NAMES))

Undo = list[tuple[int, bytes, "bytes | None"]]


class Faults:
    """Switches a simulation flips; each names what the next calls do."""

    __slots__ = ("disk_full", "sync_fails", "write_stalls")

    def __init__(self) -> None:
        self.sync_fails = False
        self.disk_full = False
        self.write_stalls = False


class Family:
    """One column family: the values, their keys in order, and who is looking."""

    __slots__ = ("doomed", "iterators", "keys", "values")

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.keys = KeyList()
        self.doomed: dict[bytes, None] = {}
        """Deleted keys kept in ``keys`` for the open iterators."""
        self.iterators: weakref.WeakValueDictionary[int, MemoryIterator] = weakref.WeakValueDictionary()

    def set(self, key: bytes, value: bytes | None) -> bytes | None:
        """Stores or (None) deletes; returns what was there."""
        old = self.values.get(key)
        if self.iterators:
            for iterator in list(self.iterators.values()):
                iterator.remember(key, old)
        elif self.doomed:
            self._purge()
        if value is not None:
            if old is None and self.doomed.pop(key, self) is self:
                self.keys.add(key)
            self.values[key] = value
        elif old is not None:
            del self.values[key]
            if self.iterators:
                self.doomed[key] = None
            else:
                self.keys.remove(key)
        return old

    def settle(self) -> None:
        """Removes doomed keys if nobody looks at them any more."""
        if self.doomed and not self.iterators:
            self._purge()

    def _purge(self) -> None:
        for key in self.doomed:
            self.keys.remove(key)
        self.doomed.clear()


class MemoryCursor:
    """The shared cursor of a family: key list positions, no history; dies at the next write."""

    __slots__ = ("_at", "_block", "_changes", "_family", "_key", "_offset")

    def __init__(self, family: Family) -> None:
        family.settle()
        self._family = family
        self._changes = family.keys.changes
        self._at = 0
        self._block: list[bytes] = []
        self._offset = 0
        self._key: bytes | None = None

    def _take(self, position: tuple[int, int] | None) -> None:
        assert self._changes == self._family.keys.changes, "cursor used across a write"
        if position is None:
            self._key = None
            return
        self._at, self._offset = position
        self._block = self._family.keys.blocks[self._at]
        self._key = self._block[self._offset]

    def seek(self, key: bytes) -> None:
        self._take(self._family.keys.first_at_or_above(key))
        if self._key is not None and self._family.doomed:
            self._skip_doomed(1)

    def seek_for_prev(self, key: bytes) -> None:
        self._take(self._family.keys.last_at_or_below(key))
        if self._key is not None and self._family.doomed:
            self._skip_doomed(-1)

    def seek_to_last(self) -> None:
        self._take(self._family.keys.last())
        if self._key is not None and self._family.doomed:
            self._skip_doomed(-1)

    def next(self) -> None:
        family = self._family
        assert self._key is not None, "step from nowhere"
        assert self._changes == family.keys.changes, "cursor used across a write"
        offset = self._offset + 1
        block = self._block
        if offset < len(block):
            self._offset = offset
            self._key = block[offset]
        else:
            self._step(1)
        if family.doomed and self._key is not None:
            self._skip_doomed(1)

    def prev(self) -> None:
        family = self._family
        assert self._key is not None, "step from nowhere"
        assert self._changes == family.keys.changes, "cursor used across a write"
        offset = self._offset
        if offset:
            self._offset = offset = offset - 1
            self._key = self._block[offset]
        else:
            self._step(-1)
        if family.doomed and self._key is not None:
            self._skip_doomed(-1)

    def _skip_doomed(self, direction: int) -> None:
        while self._key is not None and self._key not in self._family.values:
            self._step(direction)

    def _step(self, direction: int) -> None:
        keys = self._family.keys
        assert self._key is not None, "step from nowhere"
        assert self._changes == keys.changes, "cursor used across a write"
        offset = self._offset + direction
        if 0 <= offset < len(self._block):
            self._offset = offset
            self._key = self._block[offset]
            return
        at = self._at + direction
        if not 0 <= at < len(keys.blocks):
            self._key = None
            return
        self._take((at, 0 if direction > 0 else len(keys.blocks[at]) - 1))

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return None if self._key is None else self._family.values[self._key]

    def status(self) -> None:
        """Memory has no read errors."""


class MemoryIterator(EngineIterator):
    """A bounded, point-in-time iterator; see the module docstring."""

    __slots__ = ("_engine", "_family", "_key", "_lower", "_upper", "_value", "old")

    def __init__(self, engine: MemoryEngine, family: Family, lower: bytes, upper: bytes | None) -> None:
        self._engine = engine
        self._family = family
        self._lower = lower
        self._upper = upper
        self._key: bytes | None = None
        self._value = b""
        self.old: dict[bytes, bytes | None] = {}
        """What keys changed since held when this iterator was made; None: nothing."""

    def remember(self, key: bytes, value: bytes | None) -> None:
        """Takes the value a write replaces, if this iterator has not an older one."""
        self.old.setdefault(key, value)

    def seek(self, key: bytes) -> None:
        self._walk(self._family.keys.first_at_or_above(max(key, self._lower)), 1)

    def seek_for_prev(self, key: bytes) -> None:
        keys = self._family.keys
        if self._upper is None or key < self._upper:
            self._walk(keys.last_at_or_below(key), -1)
            return
        above = keys.first_at_or_above(self._upper)
        self._walk(keys.last() if above is None else self._shifted(above, -1), -1)

    def next(self) -> None:
        assert self._key is not None, "next() past the end"
        found = self._family.keys.first_at_or_above(self._key)
        assert found is not None, f"{self._key=}"
        self._walk(self._shifted(found, 1), 1)

    def prev(self) -> None:
        assert self._key is not None, "prev() past the end"
        found = self._family.keys.first_at_or_above(self._key)
        assert found is not None, f"{self._key=}"
        self._walk(self._shifted(found, -1), -1)

    def _shifted(self, position: tuple[int, int], direction: int) -> tuple[int, int] | None:
        blocks = self._family.keys.blocks
        at, offset = position
        offset += direction
        if 0 <= offset < len(blocks[at]):
            return at, offset
        at += direction
        if not 0 <= at < len(blocks):
            return None
        return at, 0 if direction > 0 else len(blocks[at]) - 1

    def _walk(self, position: tuple[int, int] | None, direction: int) -> None:
        """Stops at the first key from ``position`` on that existed when this was made."""
        self._engine.require_usable()
        self._key = None
        blocks = self._family.keys.blocks
        values = self._family.values
        while position is not None:
            key = blocks[position[0]][position[1]]
            if key < self._lower or (self._upper is not None and key >= self._upper):
                return
            value = self.old[key] if key in self.old else values.get(key)
            if value is not None:
                self._key = key
                self._value = value
                return
            position = self._shifted(position, direction)

    def valid(self) -> bool:
        return self._key is not None

    def key(self) -> bytes:
        assert self._key is not None, "key() of an iterator that is not positioned"
        return self._key

    def value(self) -> bytes:
        assert self._key is not None, "value() of an iterator that is not positioned"
        return self._value

    def check(self) -> None:
        self._engine.require_usable()

    def close(self) -> None:
        self._key = None
        self._family.iterators.pop(id(self), None)
        changes = self._family.keys.changes
        self._family.settle()
        if changes != self._family.keys.changes:
            self._engine.forget_cursors()


class MemoryEngine(StoreEngine):
    """The engine contract in memory; see the module docstring for the disk it models."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.recent = RecentWrites()
        self.spans = SpanCache()
        self._failure: StorageFailure | None = None
        self._families = [Family() for _ in _FAMILIES]
        self._cursors: list[MemoryCursor | None] = [None for _ in _FAMILIES]
        self._write_seq = 0
        self._synced_seq = 0
        self._opened_at = 0
        """Batches of engines that had this disk before."""
        self._unsynced: list[Undo] = []
        """Undo of each batch after ``_synced_seq``, oldest first."""

    def require_usable(self) -> None:
        """Raises the failure that poisoned the engine, if any."""
        if self._failure is not None:
            raise self._failure

    def batch(self) -> OpBatch:
        return OpBatch()

    def write(self, batch: WriteBatch) -> None:
        assert isinstance(batch, OpBatch), f"{batch!r}"
        self.require_usable()
        if self.faults.write_stalls:
            raise Overloaded("the storage engine cannot take writes now")
        if self.faults.disk_full:
            raise self.fail("write", OSError("No space left on device"))
        undo: Undo = []
        touched = 0
        for kind, cf, key, value in batch.ops:
            assert key.__class__ is bytes, f"{key!r}"
            assert value.__class__ is bytes, f"{value!r}"
            touched |= 1 << cf
            family = self._families[cf]
            if kind == PUT:
                undo.append((cf, key, family.set(key, value)))
            elif kind == DELETE_RANGE:
                undo.extend((cf, gone, family.set(gone, None)) for gone in family.keys.between(key, value))
            else:
                undo.append((cf, key, family.set(key, None)))
        self.recent.note(batch.ops)
        self.spans.note(batch.ops)
        self._write_seq += 1
        self._unsynced.append(undo)
        for cf in _FAMILIES:
            if touched >> cf & 1:
                self._cursors[cf] = None

    def get(self, cf: int, key: bytes) -> bytes | None:
        self.require_usable()
        return self._families[cf].values.get(key)

    def iterator(self, cf: int, lower: bytes = b"", upper: bytes | None = None) -> EngineIterator:
        self.require_usable()
        family = self._families[cf]
        iterator = MemoryIterator(self, family, lower, upper)
        family.iterators[id(iterator)] = iterator
        return iterator

    def point_iterator(self, cf: int) -> Cursor:
        cursor = self._cursors[cf]
        if cursor is None:
            self.require_usable()
            cursor = self._cursors[cf] = MemoryCursor(self._families[cf])
        return cursor

    def forget_cursors(self) -> None:
        """Key lists changed under the cursors; the next user gets fresh ones."""
        self._cursors = [None for _ in _FAMILIES]

    def sync(self) -> None:
        self.require_usable()
        if self.faults.sync_fails:
            raise self.fail("sync", OSError("Input/output error"))
        if self.faults.disk_full and self._unsynced:
            raise self.fail("sync", OSError("No space left on device"))
        self._unsynced.clear()
        self._synced_seq = self._write_seq

    def write_seq(self) -> int:
        return self._write_seq

    def synced_seq(self) -> int:
        return self._synced_seq

    def opened_at(self) -> int:
        return self._opened_at

    def durable(self) -> int:
        return self._opened_at + self._synced_seq

    def compact(self) -> None:
        self.require_usable()

    def compact_span(self, cf: int, lower: bytes, upper: bytes) -> None:
        self.require_usable()

    def stats(self) -> dict[str, int]:
        self.require_usable()
        return {
            "write_seq": self._write_seq,
            "synced_seq": self._synced_seq,
            "open_iterators": sum(len(family.iterators) for family in self._families),
            "keys": sum(len(family.values) for family in self._families),
        }

    def fail(self, what: str, cause: BaseException) -> StorageFailure:
        if self._failure is None:
            self._failure = StorageFailure(f"{what} of memory store failed: {cause}")
            self.recent.newest.close()
            self.forget_cursors()
            self.spans.close()
        return self._failure

    def close(self) -> None:
        """Syncs (if still usable) and refuses further use; ``reopen`` gives the same disk again."""
        if self._failure is None:
            self.sync()
            self.fail("use", StorageFailure("store is closed"))

    def crash(self, rng: Rng) -> MemoryEngine:
        """Cuts the power: returns the engine that finds the disk again; this one is dead.

        Of the unsynced batches a drawn prefix survives.  Everything that still holds
        the old engine gets StorageFailure.
        """
        kept = rng.below(len(self._unsynced) + 1)
        for undo in reversed(self._unsynced[kept:]):
            for cf, key, value in reversed(undo):
                self._families[cf].set(key, value)
        self._write_seq = self._synced_seq + kept
        if self._failure is None:
            self.fail("use", StorageFailure("power was cut"))
        return self.reopen()

    def image(self) -> MemoryEngine:
        """Returns an engine over a copy of what is durable now, as a snapshot of a virtual machine's disk is."""
        copy = MemoryEngine()
        copy._opened_at = self.durable()
        for family, copied in zip(self._families, copy._families):
            for key, value in family.values.items():
                copied.set(key, value)
        for undo in reversed(self._unsynced):
            for cf, key, before in reversed(undo):
                copy._families[cf].set(key, before)
        return copy

    def reopen(self) -> MemoryEngine:
        """Returns a fresh engine over the same disk after ``close`` or ``crash``."""
        assert self._failure is not None, "reopen of an engine in use"
        fresh = MemoryEngine()
        for family in self._families:
            family.iterators.clear()
            family.settle()
        fresh._opened_at = self._opened_at + self._write_seq
        fresh._families = self._families
        self._families = [Family() for _ in _FAMILIES]
        return fresh
