"""Counts and latencies per transaction type and second, gathered by the terminals of a process and sent on every now and then."""

from __future__ import annotations

from threading import Lock
from typing import Final

import msgspec

from tpcc.histogram import Histogram
from tpcc.inputs import Kind

ERROR_KINDS_MAX: Final = 50
"""Different errors remembered with their text; more are counted as one kind."""
ERROR_TEXT_MAX: Final = 300


class TypeCounts(msgspec.Struct, omit_defaults=True):
    """One transaction type. A transaction is counted once by its outcome, in the second it ended."""

    committed: int = 0
    rolled_back: int = 0
    """By the user: complete in the standard's sense (2.4.1.4)."""
    failed: int = 0
    """By an error that was not retried, a lost connection before COMMIT among them."""
    exhausted: int = 0
    """Given up after as many retries as are allowed."""
    ambiguous: int = 0
    """The COMMIT may or may not have happened; never run again."""
    serialization_failures: int = 0
    """Attempts that ended in 40001."""
    deadlocks: int = 0
    """Attempts that ended in 40P01."""
    met_40001: int = 0
    """Transactions with at least one 40001."""
    deliveries_skipped: int = 0
    latency: Histogram = msgspec.field(default_factory=Histogram)
    """Of completed transactions, from the first attempt's begin to the end, retries and their waits included."""

    @property
    def completed(self) -> int:
        return self.committed + self.rolled_back

    @property
    def finished(self) -> int:
        return self.completed + self.failed + self.exhausted + self.ambiguous

    def merge(self, other: TypeCounts) -> None:
        for name in COUNT_FIELDS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.latency.merge(other.latency)


COUNT_FIELDS: Final = tuple(name for name in TypeCounts.__struct_fields__ if name != "latency")

Second = dict[str, TypeCounts]
"""Transaction type to its counts in one second."""


class SeenError(msgspec.Struct):
    kind: str
    sqlstate: str
    text: str
    count: int = 1


class Delta(msgspec.Struct):
    """What happened since the last delta."""

    seconds: dict[int, Second] = {}
    errors: dict[str, SeenError] = {}
    regions: dict[str, Second] = {}
    """By region of the terminal, in the measured time alone."""

    def merge(self, other: Delta) -> None:
        merge_seconds(self.seconds, other.seconds)
        for region, types in other.regions.items():
            merge_types(self.regions.setdefault(region, {}), types)
        for key, error in other.errors.items():
            note_error(self.errors, key, error)


def merge_seconds(target: dict[int, Second], source: dict[int, Second]) -> None:
    for second, types in source.items():
        merge_types(target.setdefault(second, {}), types)


def merge_types(target: Second, source: Second) -> None:
    for kind, counts in source.items():
        target.setdefault(kind, TypeCounts()).merge(counts)


def note_error(errors: dict[str, SeenError], key: str, error: SeenError) -> None:
    if key not in errors and len(errors) >= ERROR_KINDS_MAX:
        key, error = "other", SeenError("any", "", "other errors", error.count)
    if key in errors:
        errors[key].count += error.count
    else:
        errors[key] = error


class Recorder:
    """Shared by the terminals (threads) of a process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._delta = Delta()

    def record(self, second: int, kind: Kind, counts: TypeCounts, region: str = "") -> None:
        """``region``: the terminal's, if it has one and this second is measured."""
        with self._lock:
            if region:
                merge_types(self._delta.regions.setdefault(region, {}), {kind.value: counts})
            self._delta.seconds.setdefault(second, {}).setdefault(kind.value, TypeCounts()).merge(counts)

    def record_error(self, kind: Kind, sqlstate: str, text: str) -> None:
        seen = SeenError(kind.value, sqlstate, " ".join(text.split())[:ERROR_TEXT_MAX])
        with self._lock:
            # The first text stands for all of its kind: details such as keys differ each time.
            note_error(self._delta.errors, f"{kind.value} {sqlstate or seen.text}", seen)

    def take(self) -> Delta:
        with self._lock:
            taken, self._delta = self._delta, Delta()
        return taken
