"""Counter: a read lies between what was surely added before it and what may have been added by its end.

{"f": "add", "value": 1}        {"f": "read", "value": 17}
"""

from __future__ import annotations

from collections.abc import Iterable

from sim.checkers.verdict import Verdict
from sim.histories import FAIL, OK, Op, pair


def check(history: Iterable[Op], initial: int = 0) -> Verdict:
    """Checks every read against its bounds; additions may be negative."""
    verdict = Verdict()
    paired = pair(history)
    lower = upper = initial
    begun: dict[int, int] = {}
    for event in paired.events:
        operation = paired.transactions[event >> 1]
        is_end = event & 1
        if operation.f == "add" and operation.status != FAIL:
            amount = int(operation.asked or 0)
            # An addition may count from its begin on, and surely counts from its end on.
            if (amount > 0) is not bool(is_end):
                upper += amount
            else:
                lower += amount
        elif operation.f == "read" and operation.status == OK:
            if not is_end:
                begun[operation.number] = lower
                continue
            verdict.count("reads")
            floor = begun.pop(operation.number)
            if operation.value is None or not floor <= operation.value <= upper:
                verdict.add(
                    "out-of-bounds",
                    f"{operation} read {operation.value}, not within {floor} .. {upper}",
                    (operation.began,),
                )
    return verdict
