"""A replica's log as the machine sees it: the stored part, and the tail that is in memory.

      first                        stable      handed            last
        |                             |           |                |
    ----+-----------------------------+-----------+----------------+
        |<---------- storage -------->|                            |
                       |<------------ tail (memory) -------------->|
                                      | being     | not yet in
                                      | synced    | any Ready

    applied <= applying <= min(commit, stable),  commit <= last

``tail`` holds at least everything above ``stable``, and keeps some of what is stored, so
that a follower that is not far behind and the application of a fresh entry do not read
the engine.

Acknowledgements and the ABA race.  A tail may be cut and grown again while its old
entries are on their way to the disk; the late acknowledgement "index 5 is durable" must
then not count for the new entry 5.  Terms of entries do not help: the same leader's
entry may come, go and come back.  So the log remembers the term of the leader whose log
it is known to be a prefix of (``accepted_term``).  Within one such term the log only
grows.  A Ready's mark is (accepted_term, last index), and an acknowledgement of another
accepted term is ignored: the write that follows it will be acknowledged too.

Invariant: what a mark says is durable in order: writes reach the disk in the order of the Readys.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from typing import Final

from kvtier.raft.logstorage import LogStorage, cut
from kvtier.raft.messages import Entry, Snapshot

TAIL_KEPT_MIN: Final = 64
"""Entries of the tail that are kept whatever their size, before it is cut at all."""


class RaftLog:
    """Entries, and how far they are handed out, durable, committed and applied."""

    def __init__(self, storage: LogStorage, commit: int, applied: int, tail_bytes_max: int) -> None:
        self.storage = storage
        self.tail_bytes_max = tail_bytes_max
        last = storage.last_index()
        self.tail: list[Entry] = []
        self.tail_first = last + 1
        self.tail_bytes = 0
        self.stable = last
        self.handed = last
        self.accepted_term = storage.term(last)
        self.snapshot: Snapshot | None = None
        """To be installed: everything of the log before it is void."""
        self.is_snapshot_handed = False
        self.applied = applied
        self.applying = applied
        self.commit = commit if commit > applied else applied
        assert self.commit <= last, f"{self.commit=} {last=}"
        assert applied >= storage.first_index() - 1, f"{applied=} {storage.first_index()=}"

    # --- reading -----------------------------------------------------------------

    def first_index(self) -> int:
        if self.snapshot is not None:
            return self.snapshot.index + 1
        return self.storage.first_index()

    def last_index(self) -> int:
        return self.tail_first + len(self.tail) - 1

    def last_term(self) -> int:
        if self.tail:
            return self.tail[-1].term
        return self.term(self.tail_first - 1)

    def term(self, index: int) -> int:
        """Returns the term at ``index``; -1 where it is not known."""
        place = index - self.tail_first
        if place >= 0:
            return self.tail[place].term if place < len(self.tail) else -1
        if self.snapshot is not None:
            return self.snapshot.term if index == self.snapshot.index else -1
        return self.storage.term(index)

    def has(self, index: int, term: int) -> bool:
        return term >= 0 and self.term(index) == term

    def is_up_to_date(self, last_index: int, last_term: int) -> bool:
        """True if a log ending there holds everything that ours may have committed (Raft paper 5.4.1)."""
        term = self.last_term()
        return last_term > term or (last_term == term and last_index >= self.last_index())

    def entries(self, lower: int, upper: int, bytes_max: int) -> list[Entry]:
        """Returns entries of [lower, upper), at least one, cut where their data exceeds ``bytes_max``."""
        if lower >= upper:
            return []
        assert lower >= self.first_index(), f"{lower=} {self.first_index()=}"
        assert upper <= self.last_index() + 1, f"{upper=} {self.last_index()=}"
        if lower >= self.tail_first:
            return cut(self.tail[lower - self.tail_first : upper - self.tail_first], bytes_max)
        found = self.storage.entries(lower, min(upper, self.tail_first), bytes_max)
        if lower + len(found) < min(upper, self.tail_first):
            return found
        if upper <= self.tail_first:
            return found
        return cut(found + self.tail[: upper - self.tail_first], bytes_max)

    def last_at_or_below(self, index: int, term: int) -> int:
        """Returns the last place at or below ``index`` whose term does not exceed ``term``.

        Terms ascend along a log, so this halves: a divergent tail of n entries is
        read log n times.  Where terms are not known any more, the place before.
        """
        upper = min(index, self.last_index())
        lower = self.first_index() - 1
        while lower < upper:
            middle = (lower + upper + 1) // 2
            if self.term(middle) <= term:
                lower = middle
            else:
                upper = middle - 1
        return lower

    # --- growing -----------------------------------------------------------------

    def append(self, entries: list[Entry]) -> None:
        """Adds entries of our own term, as leader."""
        assert entries[0].index == self.last_index() + 1, f"{entries[0].index=} {self.last_index()=}"
        self.tail.extend(entries)
        for entry in entries:
            self.tail_bytes += len(entry.data)

    def accept(self, term: int, prev_index: int, prev_term: int, entries: list[Entry]) -> int:
        """Takes what the leader of ``term`` sent; returns the last index that now agrees, or -1 if it does not fit."""
        if not self.has(prev_index, prev_term):
            return -1
        if prev_index == self.last_index() and entries:
            # What nearly every append is.
            self.append(entries)
            self.accepted_term = term
            return entries[-1].index
        agreed = prev_index
        place = 0
        for entry in entries:
            if self.term(entry.index) != entry.term:
                break
            agreed = entry.index
            place += 1
        if place < len(entries):
            rest = entries[place:] if place else entries
            assert rest[0].index > self.commit, f"{rest[0].index=} {self.commit=}"
            self._cut_from(rest[0].index)
            self.append(rest)
            agreed = rest[-1].index
        # Beyond what agrees an old tail may stand, that this leader may yet replace: not a prefix of its log.
        if agreed == self.last_index():
            self.accepted_term = term
        return agreed

    def _cut_from(self, index: int) -> None:
        """Forgets the entries from ``index`` on."""
        last = self.last_index()
        if index > last:
            return
        if index <= self.tail_first:
            self.tail.clear()
            self.tail_first = index
            self.tail_bytes = 0
        else:
            place = index - self.tail_first
            for entry in self.tail[place:]:
                self.tail_bytes -= len(entry.data)
            del self.tail[place:]
        if self.handed >= index:
            self.handed = index - 1
        if self.stable >= index:
            self.stable = index - 1

    def restore(self, snapshot: Snapshot, term: int) -> None:
        """Replaces the log by a snapshot that the leader of ``term`` sent."""
        assert snapshot.index > self.commit, f"{snapshot.index=} {self.commit=}"
        self.tail.clear()
        self.tail_bytes = 0
        self.tail_first = snapshot.index + 1
        self.handed = snapshot.index
        self.stable = snapshot.index
        self.snapshot = snapshot
        self.is_snapshot_handed = False
        self.commit = snapshot.index
        self.accepted_term = term

    # --- commit, storage, application -----------------------------------------------

    def commit_to(self, index: int) -> bool:
        """Commits up to ``index``; False if that was known."""
        if index <= self.commit:
            return False
        assert index <= self.last_index(), f"{index=} {self.last_index()=}"
        self.commit = index
        return True

    def take_unhanded(self) -> list[Entry]:
        """Returns the entries no Ready has held yet, and notes that one does."""
        last = self.last_index()
        if self.handed == last:
            return []
        found = self.tail[self.handed + 1 - self.tail_first :]
        self.handed = last
        return found

    def take_snapshot(self) -> Snapshot | None:
        if self.snapshot is None or self.is_snapshot_handed:
            return None
        self.is_snapshot_handed = True
        return self.snapshot

    def acknowledge(self, accepted_term: int, index: int, snapshot_index: int) -> bool:
        """Notes that a Ready's write is durable; False if the log has been cut since."""
        if self.snapshot is not None and snapshot_index == self.snapshot.index and self.is_snapshot_handed:
            self.snapshot = None
            self.applied_to(snapshot_index)
        if accepted_term != self.accepted_term or index <= self.stable:
            return False
        assert index <= self.handed, f"{index=} {self.handed=}"
        self.stable = index
        return True

    def acknowledge_all(self) -> bool:
        """Notes that every Ready's write is durable; False if that was known."""
        if self.snapshot is not None and self.is_snapshot_handed:
            index = self.snapshot.index
            self.snapshot = None
            self.applied_to(index)
        is_news = self.stable < self.handed
        self.stable = self.handed
        return is_news

    def has_committed(self) -> bool:
        """True if there is something to apply."""
        return self.applying < self.commit and self.applying < self.stable and self.snapshot is None

    def take_committed(self, bytes_max: int) -> list[Entry]:
        """Returns the next entries to apply: committed, and durable here."""
        if not self.has_committed():
            return []
        found = self.entries(self.applying + 1, min(self.commit, self.stable) + 1, bytes_max)
        self.applying = found[-1].index
        return found

    def applied_to(self, index: int) -> None:
        """Notes that the state machine holds everything up to ``index``."""
        if index <= self.applied:
            return
        assert index <= self.commit, f"{index=} {self.commit=}"
        self.applied = index
        if self.applying < index:
            self.applying = index
        if self.tail_bytes > self.tail_bytes_max or len(self.tail) > 2 * TAIL_KEPT_MIN:
            self.trim(TAIL_KEPT_MIN if self.tail_bytes <= self.tail_bytes_max else 0)

    def trim(self, kept: int) -> None:
        """Drops from memory what is stored and applied, all but ``kept`` entries."""
        if self.snapshot is not None:
            return
        count = min(self.stable, self.applied) + 1 - self.tail_first
        count = min(count, len(self.tail) - kept)
        if count <= 0:
            return
        for entry in self.tail[:count]:
            self.tail_bytes -= len(entry.data)
        del self.tail[:count]
        self.tail_first += count

    def check(self) -> None:
        """Asserts the invariants."""
        last = self.last_index()
        assert self.applied <= self.applying <= self.commit <= last, (
            f"{self.applied=} {self.applying=} {self.commit=} {last=}"
        )
        assert self.tail_first - 1 <= self.stable <= self.handed <= last, (
            f"{self.tail_first=} {self.stable=} {self.handed=} {last=}"
        )
        index = self.tail_first
        size = 0
        term = self.term(index - 1)
        for entry in self.tail:
            assert entry.index == index, f"{entry.index=} {index=}"
            assert entry.term >= term, f"{entry.term=} {term=} {index=}"
            term = entry.term
            size += len(entry.data)
            index += 1
        assert size == self.tail_bytes, f"{size=} {self.tail_bytes=}"
