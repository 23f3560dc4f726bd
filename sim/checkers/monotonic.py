"""Monotonic reads: values that only grow must not be seen to go back.

    {"f": "read", "value": 17}      {"f": "read", "value": {"x": 3, "y": 5}}      [["r", "x", 3], ..]

``check`` compares what one process reads, in its order; with ``across`` also what any
process reads after another's read ended (a table of the largest value known).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sim.checkers.verdict import Verdict
from sim.histories import OK, Op, Transaction, Value, pair

Seen = dict[Value, tuple[int, Transaction]]
"""key -> (largest value, who saw it)."""


def check(history: Iterable[Op], across: bool = False) -> Verdict:
    """Checks that no read goes back; null is below everything."""
    verdict = Verdict()
    paired = pair(history)
    own: dict[int | str, Seen] = {}
    known: Seen = {}
    floors: dict[int, Seen] = {}
    for event in paired.events:
        read = paired.transactions[event >> 1]
        if read.status != OK or read.f not in ("read", "txn"):
            continue
        if not event & 1:
            if across:
                floors[read.number] = dict(known)
            continue
        verdict.count("reads")
        _compare(read, own.setdefault(read.process, {}), "nonmonotonic-process", verdict)
        if across:
            _compare(read, floors.pop(read.number), "nonmonotonic", verdict)
            _raise(read, known)
    return verdict


def _values(read: Transaction) -> Iterator[tuple[Value, Value]]:
    value = read.value
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list | tuple):
        for f, key, seen in value:
            if f == "r":
                yield key, seen
    else:
        yield None, value


def _compare(read: Transaction, seen: Seen, name: str, verdict: Verdict) -> None:
    """Compares a read with the largest values seen before it, and raises them."""
    for key, value in _values(read):
        before = seen.get(key)
        if before is not None and (value is None or value < before[0]):
            place = "" if key is None else f" of {key}"
            verdict.add(
                name,
                f"{read} (process {read.process}) read {value}{place}; {before[1]} had read {before[0]}",
                (before[1].began, read.began),
            )
    _raise(read, seen)


def _raise(read: Transaction, seen: Seen) -> None:
    for key, value in _values(read):
        if value is not None and (key not in seen or value > seen[key][0]):
            seen[key] = (value, read)
