"""The intents of a store, as an index in memory.

The intents themselves, with their values, are in the lock family (``kvtier.mvcc``); a
deleted span that is not yet committed is in the local family.  What a request must know
to see whether one is in its way, and whose it is, is kept here: loaded when the store
opens, changed only when a batch is applied.  Empty on a store that only sees one-phase
commits, and then it costs one test.

    key  -> Intent(transaction, write_ts, seq)
    [start, end) -> SpanIntent(transaction, write_ts, seq)     few, in a list
    [start, end) -> Run(transaction, write_ts, top_ts, seq)    disjoint, in order (kvtier.runindex)

``write_ts`` is where the value would appear.  A push raises it here only: the record
remembers the push (``TxnRecord.write_ts``), and after a restart one is pushed again.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from typing import Final

from sortedcontainers import SortedList

from kvtier.messages import TxnMeta
from kvtier.runindex import RunIndex, SpanIntent

SPAN_INTENTS_MAX: Final = 1_024
"""Deleted spans under way in one store; they are searched one by one."""


class Intent:
    """One key's intent."""

    __slots__ = ("seq", "txn", "write_ts")

    def __init__(self, txn: TxnMeta, write_ts: int, seq: int) -> None:
        self.txn = txn
        """A copy shared by all intents of the transaction."""
        self.write_ts = write_ts
        self.seq = seq
        """Of the latest write."""


class IntentIndex:
    """See the module docstring."""

    def __init__(self) -> None:
        self.points: dict[bytes, Intent] = {}
        self.spans: list[SpanIntent] = []
        self.runs = RunIndex()
        self._keys: SortedList = SortedList()
        self._by_txn: dict[bytes, dict[bytes, None]] = {}

    def __bool__(self) -> bool:
        return bool(self.points) or bool(self.spans) or bool(self.runs.starts)

    def add(self, key: bytes, txn: TxnMeta, write_ts: int, seq: int) -> None:
        """Notes an intent, new or written again."""
        found = self.points.get(key)
        if found is not None:
            assert found.txn.id == txn.id, (key, found.txn.id, txn.id)
            found.write_ts = max(write_ts, found.write_ts)
            found.seq = seq
            found.txn = txn
            return
        self.points[key] = Intent(txn, write_ts, seq)
        self._keys.add(key)
        self._by_txn.setdefault(txn.id, {})[key] = None

    def remove(self, key: bytes, txn_id: bytes) -> bool:
        """Forgets a resolved intent; False if there was none of that transaction."""
        found = self.points.get(key)
        if found is None or found.txn.id != txn_id:
            return False
        del self.points[key]
        self._keys.remove(key)
        keys = self._by_txn[txn_id]
        del keys[key]
        if not keys:
            del self._by_txn[txn_id]
        return True

    def add_span(self, intent: SpanIntent) -> None:
        """Notes a span deletion under way."""
        self.spans.append(intent)

    def remove_spans(self, start: bytes, end: bytes, txn_id: bytes) -> None:
        """Forgets the resolved span deletions of a transaction that start in [start, end), as on disk."""
        self.spans = [span for span in self.spans if not (span.txn.id == txn_id and start <= span.start < end)]

    def other_at(self, key: bytes, txn_id: bytes) -> Intent | SpanIntent | None:
        """Returns another transaction's intent over a key."""
        found = self.points.get(key)
        if found is not None and found.txn.id != txn_id:
            return found
        for span in self.spans:
            if span.txn.id != txn_id and span.start <= key < span.end:
                return span
        if self.runs.starts:
            run = self.runs.at(key)
            if run is not None and run.txn.id != txn_id:
                return run
        return None

    def keys_in(self, start: bytes, end: bytes, reverse: bool = False) -> list[bytes]:
        """Returns the keys with point intents in [start, end), in order."""
        return list(self._keys.irange(start, end, (True, False), reverse))

    def neighbours(self, key: bytes, end: bytes, txn: TxnMeta, limit: int) -> list[bytes]:
        """Returns the key and those that follow it below ``end`` whose intents are of the same attempt of a transaction."""
        found = [key]
        points = self.points
        for near in self._keys.irange(key, end, (False, False)):
            intent = points[near]
            if len(found) == limit or intent.txn.id != txn.id or intent.txn.epoch != txn.epoch:
                break
            found.append(near)
        return found

    def others_in(
        self, start: bytes, end: bytes, txn_id: bytes, upto_ts: int
    ) -> list[tuple[bytes, Intent | SpanIntent]]:
        """Returns (key, intent) of other transactions in [start, end) that would appear at or below ``upto_ts``."""
        found: list[tuple[bytes, Intent | SpanIntent]] = []
        points = self.points
        for key in self._keys.irange(start, end, (True, False)):
            intent = points[key]
            if intent.txn.id != txn_id and intent.write_ts <= upto_ts:
                found.append((key, intent))
        found.extend(
            [
                (max(span.start, start), span)
                for span in self.spans
                if span.txn.id != txn_id and span.write_ts <= upto_ts and span.start < end and start < span.end
            ]
        )
        if self.runs.starts:
            for run in self.runs.over(start, end):
                if run.txn.id != txn_id and run.write_ts <= upto_ts:
                    found.append((max(run.start, start), run))
        return found

    def own_spans(self, txn: TxnMeta) -> list[SpanIntent]:
        """Returns the transaction's own span deletions that its reads see, oldest first."""
        return [
            span
            for span in self.spans
            if span.txn.id == txn.id and span.seq <= txn.seq and not is_ignored(span.seq, txn.ignored)
        ]

    def keys_of(self, txn_id: bytes) -> list[bytes]:
        """Returns the keys of a transaction's point intents, in the order they were written."""
        return list(self._by_txn.get(txn_id, ()))

    def spans_of(self, txn_id: bytes) -> list[tuple[bytes, bytes]]:
        """Returns the spans a transaction has deleted or filled."""
        spans = [(span.start, span.end) for span in self.spans if span.txn.id == txn_id]
        return spans + [(run.start, run.end) for run in self.runs.of(txn_id)]

    def transactions(self) -> list[TxnMeta]:
        """Returns the transactions that have intents here, one entry each."""
        found = {}
        for keys in self._by_txn.values():
            intent = self.points[next(iter(keys))]
            found[intent.txn.id] = intent.txn
        for span in self.spans:
            found.setdefault(span.txn.id, span.txn)
        for run in self.runs.all():
            found.setdefault(run.txn.id, run.txn)
        return list(found.values())

    def has_any_of(self, txn_id: bytes) -> bool:
        """True if the transaction has an intent of any kind here."""
        if txn_id in self._by_txn or any(span.txn.id == txn_id for span in self.spans):
            return True
        return bool(self.runs.starts) and self.runs.has_any_of(txn_id)

    def check(self) -> None:
        """Asserts that the views agree; for tests."""
        assert list(self._keys) == sorted(self.points), "sorted keys"
        listed = sorted([key for keys in self._by_txn.values() for key in keys])
        assert listed == list(self._keys), "keys by transaction"
        self.runs.check()


def is_ignored(seq: int, ignored: tuple[tuple[int, int], ...]) -> bool:
    """True if a savepoint rolled this sequence number back."""
    return any(lower <= seq <= upper for lower, upper in ignored)
