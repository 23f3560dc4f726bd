"""Order of independent writes as readers see it.

``check``: one client writes the subkeys of a key in order, k_0, k_1, ..; readers ask for
them in the opposite order and so must not miss an older one after a newer one::

    {"f": "read", "value": ["k", ["k_2", "k_1", "k_0"]]}      good
    {"f": "read", "value": ["k", ["k_2", null, "k_0"]]}       trailing null: bad

``check_comments``: values are inserted once each, readers read all of them.  A value
that is seen without one whose insert ended before its own began is a causal reverse:
allowed by serializability, forbidden by strict serializability::

    {"f": "write", "value": 425}    {"f": "read", "value": [2, 10, .., 425]}
"""

from __future__ import annotations

from collections.abc import Iterable

from sim.checkers.verdict import Verdict
from sim.histories import OK, Op, Transaction, Value, completions, freeze, pair


def check(history: Iterable[Op]) -> Verdict:
    """Finds reads that have null after something."""
    verdict = Verdict()
    for read in completions(history, "read"):
        verdict.count("reads")
        if not isinstance(read.value, list | tuple) or len(read.value) != 2:
            verdict.doubt("malformed", f"{read} read {read.value}, not [key, subkeys]")
            continue
        key, subkeys = read.value
        subkeys = list(subkeys or [])
        while subkeys and subkeys[0] is None:
            subkeys.pop(0)
        if None in subkeys:
            verdict.add(
                "trailing-null",
                f"{read} of {key} saw a newer write but not an older one: {read.value[1]}",
                (read.began,),
            )
    return verdict


def check_comments(history: Iterable[Op]) -> Verdict:
    """Finds reads that have a value without one that was complete before it began.

    A read that sees v must see everything complete when v began: of all values seen, the
    one that began last asks for the most, so one comparison a read is enough.
    """
    verdict = Verdict()
    paired = pair(history)
    complete: list[tuple[Value, Transaction]] = []
    expected: dict[Value, int] = {}
    writers: dict[Value, Transaction] = {}
    for event in paired.events:
        operation = paired.transactions[event >> 1]
        if operation.f == "write":
            value = freeze(operation.asked)
            if not event & 1:
                # Everything complete so far is a prefix of ``complete``.
                expected[value] = len(complete)
                writers[value] = operation
            elif operation.status == OK:
                complete.append((value, operation))
        elif operation.f == "read" and event & 1 and operation.status == OK:
            verdict.count("reads")
            _check_read(operation, complete, expected, writers, verdict)
    return verdict


def _check_read(
    read: Transaction,
    complete: list[tuple[Value, Transaction]],
    expected: dict[Value, int],
    writers: dict[Value, Transaction],
    verdict: Verdict,
) -> None:
    seen = frozenset(freeze(value) for value in read.value or [])
    newest = max((freeze(value) for value in read.value or []), key=lambda value: expected.get(value, 0), default=None)
    for value, writer in complete[: expected.get(newest, 0)]:
        if value not in seen:
            text = f"{read} saw {newest} of {writers[newest]} but not {value} of {writer}, which had ended before"
            verdict.add("causal-reverse", text, (writer.began, writers[newest].began, read.began))
            return
