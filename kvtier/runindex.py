"""The runs of a store's unfinished transactions, as an index in memory.

A run is a span that held nothing at all when its transaction took it, filled with rows by
bulk (``kvtier.runs``).  Runs never overlap, whoever they belong to, so they are kept by
start and found by bisection.

Invariant: sorted by start, without overlap.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from kvtier.messages import TxnMeta


class SpanIntent:
    """A span that a transaction has deleted and not yet committed."""

    __slots__ = ("end", "seq", "start", "txn", "write_ts")

    def __init__(self, txn: TxnMeta, start: bytes, end: bytes, write_ts: int, seq: int) -> None:
        self.txn = txn
        self.start = start
        self.end = end
        self.write_ts = write_ts
        self.seq = seq


class Run(SpanIntent):
    """A span that a transaction has filled; to all others an intent over the span.

    Invariant: every key of the span has at most one version, at ``write_ts`` .. ``top_ts``.
    """

    __slots__ = ("top_ts",)

    def __init__(self, txn: TxnMeta, start: bytes, end: bytes, write_ts: int, top_ts: int, seq: int) -> None:
        super().__init__(txn, start, end, write_ts, seq)
        self.top_ts = top_ts

    def is_visible_to(self, txn: TxnMeta) -> bool:
        """True if its own transaction sees its rows: not rolled back to a savepoint, not of an earlier attempt."""
        if self.txn.epoch != txn.epoch or self.seq > txn.seq:
            return False
        return not any([lower <= self.seq <= upper for lower, upper in txn.ignored])  # compiles to a plain loop


class RunIndex:
    """See the module docstring."""

    def __init__(self) -> None:
        self.starts: list[bytes] = []
        """Empty means there are no runs at all."""
        self._runs: list[Run] = []
        self._counts: dict[bytes, int] = {}
        """Transaction -> number of its runs."""

    def __len__(self) -> int:
        """Number of runs."""
        return len(self.starts)

    def at(self, key: bytes) -> Run | None:
        """Returns the run over a key."""
        place = bisect_right(self.starts, key) - 1
        if place < 0:
            return None
        run = self._runs[place]
        return run if key < run.end else None

    def over(self, start: bytes, end: bytes) -> list[Run]:
        """Returns the runs that overlap [start, end), in order."""
        first = bisect_right(self.starts, start) - 1
        if first < 0 or self._runs[first].end <= start:
            first += 1
        return self._runs[first : bisect_left(self.starts, end)]

    def end_of_neighbours(self, run: Run, limit: int) -> bytes:
        """Returns the end of the last of a run and those behind it that are of the same transaction."""
        place = bisect_left(self.starts, run.start)
        end = run.end
        for near in self._runs[place : place + limit]:
            if near.txn.id != run.txn.id:
                break
            end = near.end
        return end

    def own_over(self, start: bytes, end: bytes, txn_id: bytes) -> list[Run]:
        """Returns a transaction's runs that overlap [start, end), in order."""
        if not self.starts:
            return []
        return [run for run in self.over(start, end) if run.txn.id == txn_id]

    def of(self, txn_id: bytes) -> list[Run]:
        """Returns all runs of a transaction, in order."""
        return [run for run in self._runs if run.txn.id == txn_id]

    def has_any_of(self, txn_id: bytes) -> bool:
        """True if the transaction has a run here."""
        return txn_id in self._counts

    def add(self, run: Run) -> None:
        """Takes a run in, in place of those of the same transaction that it swallows."""
        first = bisect_left(self.starts, run.start)
        last = bisect_left(self.starts, run.end)
        for swallowed in self._runs[first:last]:
            assert swallowed.txn.id == run.txn.id, (run.start, run.end, swallowed.start)
            assert swallowed.end <= run.end, (run.start, run.end, swallowed.end)
        assert first == 0 or self._runs[first - 1].end <= run.start, (run.start, self._runs[first - 1].end)
        self.starts[first:last] = [run.start]
        self._runs[first:last] = [run]
        self._count(run.txn.id, 1 - (last - first))

    def remove(self, start: bytes, txn_id: bytes) -> None:
        """Forgets a run that is resolved."""
        place = bisect_left(self.starts, start)
        if place < len(self.starts) and self.starts[place] == start and self._runs[place].txn.id == txn_id:
            del self.starts[place]
            del self._runs[place]
            self._count(txn_id, -1)

    def _count(self, txn_id: bytes, change: int) -> None:
        count = self._counts.get(txn_id, 0) + change
        if count:
            self._counts[txn_id] = count
        else:
            self._counts.pop(txn_id, None)

    def all(self) -> list[Run]:
        """Returns all runs, in order."""
        return list(self._runs)

    def check(self) -> None:
        """Asserts the invariants; for tests."""
        assert self.starts == [run.start for run in self._runs], "starts"
        for run in self._runs:
            assert run.start < run.end, (run.start, run.end)
            assert run.write_ts <= run.top_ts, (run.start, run.write_ts, run.top_ts)
        for left, right in zip(self._runs, self._runs[1:]):
            assert left.end <= right.start, (left.start, left.end, right.start)
        assert sum(self._counts.values()) == len(self._runs), self._counts
