"""Queue: what is enqueued is dequeued once.

    {"f": "enqueue", "value": 7}    {"f": "dequeue", "value": 7}    {"f": "drain", "value": [8, 9]}

A list may be enqueued, too: all of its elements together.  An invocation of drain may say
how many elements it takes at most; 1 is assumed.  An ok dequeue of nothing (null) found the queue empty.  ``drained`` says that the history
ends with dequeues until the queue was empty; only then is a missing element lost.

An enqueue of unknown outcome may turn up.  A dequeue of unknown outcome may have taken
one element, so up to as many missing elements as there are such dequeues are excused; of a
drain, as many as it could take.
"""

from __future__ import annotations

from collections.abc import Iterable

from sim.checkers.verdict import Verdict
from sim.histories import FAIL, INFO, OK, Op, Transaction, Value, freeze, pair


def check(history: Iterable[Op], drained: bool = True) -> Verdict:
    """Compares enqueues and dequeues as multisets, and times of each element."""
    verdict = Verdict()
    enqueues: dict[Value, list[Transaction]] = {}
    dequeues: dict[Value, list[Transaction]] = {}
    unsure = 0
    for operation in pair(history).transactions:
        if operation.f == "enqueue":
            for value in operation.asked if isinstance(operation.asked, list) else [operation.asked]:
                enqueues.setdefault(freeze(value), []).append(operation)
        elif operation.f in ("dequeue", "drain"):
            if operation.status == INFO:
                unsure += operation.asked if operation.f == "drain" and isinstance(operation.asked, int) else 1
            for value in _taken(operation):
                dequeues.setdefault(value, []).append(operation)
    for value, takers in dequeues.items():
        _check_element(value, enqueues.get(value, []), takers, verdict)
    missing = [
        (value, operation)
        for value, operations in enqueues.items()
        for operation in operations
        if operation.status == OK and value not in dequeues
    ]
    verdict.stats.update(enqueued=len(enqueues), dequeued=len(dequeues), missing=len(missing), unsure=unsure)
    if drained and len(missing) > unsure:
        for value, operation in missing:
            verdict.add("lost", f"{value}, enqueued by {operation}, was never dequeued", (operation.began,))
    return verdict


def _taken(operation: Transaction) -> list[Value]:
    if operation.status != OK or operation.value is None:
        return []
    if operation.f == "drain":
        return [freeze(value) for value in operation.value]
    return [freeze(operation.value)]


def _check_element(value: Value, enqueues: list[Transaction], takers: list[Transaction], verdict: Verdict) -> None:
    """Checks one value that was dequeued."""
    possible = [operation for operation in enqueues if operation.status != FAIL]
    if not possible:
        what = f"{enqueues[0]} failed to enqueue" if enqueues else "nobody enqueued"
        verdict.add("unexpected", f"{takers[0]} dequeued {value}, which {what}", (takers[0].began,))
        return
    if len(takers) > len(possible):
        names = ", ".join(map(repr, takers))
        verdict.add(
            "duplicated",
            f"{value} was dequeued {len(takers)} times, by {names}",
            tuple(taker.began for taker in takers),
        )
    if takers[0].ended < possible[0].began:
        verdict.add(
            "unexpected",
            f"{takers[0]} dequeued {value} before {possible[0]} began to enqueue it",
            (takers[0].began, possible[0].began),
        )
