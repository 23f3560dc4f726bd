"""What an evaluated command does: one engine batch and one change of what is in memory.

    evaluate(batch, state) -> results + Change        decides everything, changes nothing
    apply(Change)                                      does it, decides nothing

No await lies inside or between the two on a range with one replica; on others the Change
is what its log carries.  ``Conflict`` is how evaluation says that it must be tried
again later; it never leaves the store.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from kvtier.engine.batch import OpBatch
from kvtier.intents import Intent
from kvtier.messages import TxnMeta
from kvtier.records import TxnRecord
from kvtier.replica import Replica
from kvtier.runindex import Run, SpanIntent


class Conflict(Exception):
    """Evaluation met another transaction's lock or intent."""

    def __init__(self, key: bytes, strength: int, intent: Intent | SpanIntent | None = None, read_ts: int = 0) -> None:
        super().__init__(key)
        self.key = key
        self.strength = strength
        """What to wait for in the key's queue; Lock.NONE for a plain read."""
        self.intent = intent
        """Set if an intent is in the way: its record is asked before anybody waits."""
        self.read_ts = read_ts
        """Where a plain read wants to read: the intent may be pushed above it."""


class Change:
    """See the module docstring; filled by evaluation, consumed by ``Store.apply``."""

    __slots__ = (
        "batch",
        "commit_ts",
        "counted",
        "counted_from",
        "deltas",
        "finished",
        "forgotten",
        "intents",
        "is_check",
        "is_transactional",
        "keys",
        "poisoned",
        "records",
        "records_dropped",
        "release",
        "resolved",
        "resolved_spans",
        "runs",
        "runs_gone",
        "span_intents",
        "spans",
    )

    def __init__(self, batch: OpBatch) -> None:
        self.batch = batch
        self.commit_ts = 0
        self.is_check = False
        """Replicas that apply it digest what they hold (``kvtier.replication.consistency``)."""
        self.is_transactional = False
        """False if only ``keys``, ``spans``, ``deltas``, ``counted`` and ``release`` are used."""
        self.keys: list[bytes] = []
        """Keys whose committed value changes."""
        self.spans: list[tuple[bytes, bytes]] = []
        """Spans deleted by range tombstones."""
        self.deltas: list[tuple[Replica, list[int]]] = []
        """What to add to the statistics of the replicas; whoever applies writes the sums."""
        self.counted: list[Replica] = []
        """Replicas whose statistics are exact again."""
        self.counted_from = 0
        """``Replica.guesses`` when counting began: by more of them, before this is proposed, they are not exact."""
        self.intents: list[tuple[bytes, TxnMeta, int, int]] = []
        """(key, transaction, write_ts, seq) of intents written."""
        self.span_intents: list[SpanIntent] = []
        self.resolved: list[tuple[bytes, bytes]] = []
        """(key, transaction) of intents that are gone."""
        self.resolved_spans: list[tuple[bytes, bytes, bytes]] = []
        """(start, end, transaction) of span intents that are gone."""
        self.runs: list[Run] = []
        """Runs written, grown or moved."""
        self.runs_gone: list[tuple[bytes, bytes, bytes]] = []
        """(start, end, transaction) of runs that are committed or removed."""
        self.records: list[TxnRecord] = []
        """Records as they are now."""
        self.records_dropped: list[bytes] = []
        self.finished: list[tuple[bytes, int]] = []
        """(transaction, commit timestamp or 0) to remember."""
        self.poisoned: list[bytes] = []
        """Aborted transactions whose intents were removed (reliability 15)."""
        self.forgotten: list[bytes] = []
        """Poisoned transactions that nobody will speak of again."""
        self.release: list[bytes] = []
        """Transactions whose locks are freed."""
