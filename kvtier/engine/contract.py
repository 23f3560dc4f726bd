"""What the store may ask of an engine beyond the seam in ``base.seams``.

    write(batch) ----> visible at once, ``write_seq`` moves by one
    sync()       ----> everything written before the call is durable, ``synced_seq`` follows
    crash        ----> everything synced, and a prefix of the batches written after it

``point_iterator(cf)`` is the hot path.  Making an iterator costs three times as much as
seeking one, and an iterator sees only what was there when it was made; so the engine
keeps one unbounded cursor per family and hands out the same one until a write touches
that family.  The price is a rule:

Invariant: a cursor is used within one tick, by one function, and never across a write or
an await; whoever asks for it next moves it.  Scans and point reads both use it.

A cursor is the native RocksDB iterator itself (no wrapper, no object per read).  Its
``key`` and ``value`` are None when it is not positioned; ``status`` must be called then,
because an iterator that meets a corrupt block ends as if the family ended (reliability 119).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

from base.seams import Engine
from kvtier.engine.batch import OpBatch
from kvtier.engine.recent import RecentWrites
from kvtier.engine.spancache import SpanCache


class Cursor(Protocol):
    """An unbounded, shared, native iterator; see the module docstring."""

    def seek(self, key: bytes) -> None: ...
    def seek_for_prev(self, key: bytes) -> None: ...
    def seek_to_last(self) -> None: ...
    def next(self) -> None: ...
    def prev(self) -> None: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def status(self) -> None:
        """Raises if the iterator stopped for an error."""


class StoreEngine(Engine):
    """The engine contract the storage tier is written against.

    Every call after a failed write or sync raises StorageFailure: RocksDB goes on
    serving an unsynced value from its memtable after the disk refused it
    (reliability, section 0, item 5), and nothing may be told from such a state.
    """

    recent: RecentWrites
    """What was written lately; every write is noted there."""
    spans: SpanCache
    """The newest versions of spans that are read often; every write is noted there, too."""

    @abstractmethod
    def batch(self) -> OpBatch: ...

    @abstractmethod
    def point_iterator(self, cf: int) -> Cursor:
        """Returns the family's shared cursor, up to date, at no particular position."""

    @abstractmethod
    def synced_seq(self) -> int:
        """The ``write_seq`` up to which everything is durable."""

    @abstractmethod
    def opened_at(self) -> int:
        """How much there was on the disk when it was opened, in the count of ``durable``."""

    @abstractmethod
    def durable(self) -> int:
        """Counts what was ever written, up to what is durable for certain; 0 before the first sync since it was opened.

        A disk that is opened again has at least as much.
        """

    sync_event: int = -1
    """A file that is readable when a sync of ``begin_sync`` has ended; -1 if the engine has only ``sync``."""

    def begin_sync(self) -> bool:
        """Begins a sync of everything written before, without blocking; False: use ``sync`` this time.

        One at a time, also with ``sync``.  When ``sync_event`` is readable, ask ``end_sync``.
        """
        return False

    def end_sync(self) -> bool:
        """Ends a sync that ``begin_sync`` began; False if it is not over.  Raises StorageFailure as ``sync`` does."""
        raise NotImplementedError

    def mark_synced(self) -> None:  # an engine that needs no mark has none
        """Writes down, unsynced, up to where everything is durable, if no later write has said so."""

    @abstractmethod
    def compact_span(self, cf: int, lower: bytes, upper: bytes) -> None:
        """Blocking; reclaims the space of deleted keys in [lower, upper)."""

    @abstractmethod
    def fail(self, what: str, cause: BaseException) -> BaseException:
        """Poisons the engine; returns the StorageFailure to raise."""
