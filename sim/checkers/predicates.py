"""G2 over predicates: of several inserts that each found nothing only one may commit.

    {"f": "insert", "value": [key, id]}

Every transaction reads two predicates over ``key`` and inserts a row that the other's
predicate covers only if both were empty.  Two commits for one key are a cycle of two
anti-dependencies (Adya's G2), for neither saw the other's row.
"""

from __future__ import annotations

from collections.abc import Iterable

from sim.checkers.verdict import Verdict
from sim.histories import Op, Transaction, Value, completions, freeze


def check(history: Iterable[Op]) -> Verdict:
    """Counts committed inserts per key."""
    verdict = Verdict()
    committed: dict[Value, Transaction] = {}
    for insert in completions(history, "insert"):
        verdict.count("inserts")
        key = freeze(insert.value[0])
        other = committed.setdefault(key, insert)
        if other is not insert:
            text = (
                f"{other} and {insert} both found no row of {key} and inserted {other.value[1]} and {insert.value[1]}"
            )
            verdict.add("G2", text, (other.began, insert.began))
    return verdict
