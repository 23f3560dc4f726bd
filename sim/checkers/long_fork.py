"""Long fork: two readers see two writes in opposite orders.

    T1: w x 1        T3: r x 1, r y null      x before y
    T2: w y 1        T4: r x null, r y 1      y before x

Parallel snapshot isolation allows it, snapshot isolation does not.  Every key is written
once, so a read is a set of keys that were there, and any two reads must be comparable on
the keys they share.  It is enough to look at pairs of keys that were read together.
"""

from __future__ import annotations

from collections.abc import Iterable

from sim.checkers.cycles import show
from sim.checkers.verdict import Verdict
from sim.histories import OK, Op, Transaction, Value, freeze, pair


def check(history: Iterable[Op]) -> Verdict:
    """Checks a history of single writes and group reads of registers."""
    verdict = Verdict()
    writers: dict[Value, Transaction] = {}
    values: dict[Value, Value] = {}
    first: dict[tuple[Value, Value], Transaction] = {}
    for transaction in pair(history).transactions:
        operations = transaction.value or []
        if any(f == "w" for f, _, _ in operations):
            for f, key, _ in operations:
                if f == "w" and key in writers:
                    verdict.doubt(
                        "multiple-writes",
                        f"{writers[key]} and {transaction} both write {key}",
                        (writers[key].began, transaction.began),
                    )
                writers.setdefault(key, transaction)
        elif transaction.status == OK:
            verdict.count("reads")
            _check_read(transaction, values, first, verdict)
    return verdict


def _check_read(
    read: Transaction, values: dict[Value, Value], first: dict[tuple[Value, Value], Transaction], verdict: Verdict
) -> None:
    """Compares one read with those before; ``first[x, y]`` saw x and not y."""
    present, absent = [], []
    for _, key, value in read.value:
        value = freeze(value)
        if value is None:
            absent.append(key)
            continue
        present.append(key)
        if values.setdefault(key, value) != value:
            verdict.doubt("distinct-values", f"{read} read {key} = {value}, another read {values[key]}", (read.began,))
    for one in present:
        for other in absent:
            first.setdefault((one, other), read)
            opposite = first.get((other, one))
            if opposite is not None:
                text = f"{opposite} saw {other} without {one}: {show(opposite.value)}\n{read} saw {one} without {other}: {show(read.value)}"
                verdict.add("long-fork", text, (opposite.began, read.began))
