"""What the machine reads of its log's durable part: an interface, and the honest one in memory.

    | truncated (index, term) | first ... last |

The machine never writes here.  It says in ``Ready`` what is to be written; whoever
drives it writes, and acknowledges.  What is read at or below the acknowledged index
must be what was written.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

from mypy_extensions import mypyc_attr

from kvtier.raft.messages import Entry, Snapshot

ENTRY_OVERHEAD: Final = 16
"""What an entry counts beside its data, so that a bound of bytes is a bound of entries too."""


@mypyc_attr(allow_interpreted_subclasses=True)
class LogStorage(ABC):
    """The stored part of one replica's log."""

    @abstractmethod
    def first_index(self) -> int:
        """The first index that entries() can give; truncated index + 1."""

    @abstractmethod
    def last_index(self) -> int:
        """The last stored index; the truncated one if there is no entry."""

    @abstractmethod
    def term(self, index: int) -> int:
        """The term at ``index``, from the truncated index to the last; -1 outside."""

    @abstractmethod
    def entries(self, lower: int, upper: int, bytes_max: int) -> list[Entry]:
        """Entries of [lower, upper), at least one, cut where their size exceeds ``bytes_max``."""

    @abstractmethod
    def snapshot(self) -> Snapshot | None:
        """A snapshot to send, at or above the truncated index; None while there is none."""


@mypyc_attr(allow_interpreted_subclasses=True)
class MemoryLog(LogStorage):
    """A log in a list."""

    def __init__(self) -> None:
        self.truncated_index = 0
        self.truncated_term = 0
        self.stored: list[Entry] = []
        self.image: Snapshot | None = None

    def first_index(self) -> int:
        return self.truncated_index + 1

    def last_index(self) -> int:
        return self.truncated_index + len(self.stored)

    def term(self, index: int) -> int:
        if index == self.truncated_index:
            return self.truncated_term
        place = index - self.truncated_index - 1
        if place < 0 or place >= len(self.stored):
            return -1
        return self.stored[place].term

    def entries(self, lower: int, upper: int, bytes_max: int) -> list[Entry]:
        start = lower - self.truncated_index - 1
        assert start >= 0, f"{lower=} {self.truncated_index=}"
        assert upper - 1 <= self.last_index(), f"{upper=} {self.last_index()=}"
        return cut(self.stored[start : start + upper - lower], bytes_max)

    def snapshot(self) -> Snapshot | None:
        return self.image

    def append(self, entries: list[Entry]) -> None:
        """Stores entries; what stood at their places and behind is gone."""
        if not entries:
            return
        start = entries[0].index - self.truncated_index - 1
        assert 0 <= start <= len(self.stored), f"{entries[0].index=} {self.last_index()=}"
        del self.stored[start:]
        self.stored.extend(entries)

    def install(self, snapshot: Snapshot) -> None:
        """Replaces everything by a snapshot."""
        self.stored = []
        self.truncated_index = snapshot.index
        self.truncated_term = snapshot.term
        self.image = snapshot

    def truncate(self, index: int) -> None:
        """Forgets the entries up to ``index``."""
        if index <= self.truncated_index:
            return
        term = self.term(index)
        assert term >= 0, f"{index=} {self.last_index()=}"
        del self.stored[: index - self.truncated_index]
        self.truncated_index = index
        self.truncated_term = term


def cut(entries: list[Entry], bytes_max: int) -> list[Entry]:
    """Returns the longest prefix that fits into ``bytes_max``, but at least one entry."""
    if len(entries) < 2:
        return entries
    size = 0
    for i in range(len(entries)):
        size += len(entries[i].data) + ENTRY_OVERHEAD
        if size > bytes_max and i > 0:
            return entries[:i]
    return entries
