"""Makes a failing run small: fewer faults first, then fewer operations.

Delta debugging (Zeller & Hildebrandt, TSE 2002) over the plan's list of faults, then halving of the clients'
operations.  A smaller plan counts if it breaks the same invariant; the rest of the run draws what it drew before.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sim.plan import Fault, Plan
from sim.run import Result, play

PLAYS_MAX: Final = 200
"""Runs one shrinking may take."""


def _invariant(failure: str) -> str:
    """The failure's kind: what stands before its first colon."""
    return failure.partition(":")[0]


class Shrinker:
    """Holds the smallest plan found so far that still fails the same way."""

    def __init__(self, plan: Plan, failure: str) -> None:
        self.wanted = _invariant(failure)
        self.plan = plan
        self.result: Result | None = None
        self.plays = 0

    def fails(self, plan: Plan) -> bool:
        """Plays a smaller plan; keeps it if it breaks the same invariant."""
        if self.plays >= PLAYS_MAX:
            return False
        self.plays += 1
        result = play(plan)
        if not result.failure or _invariant(result.failure) != self.wanted:
            return False
        self.plan, self.result = plan, result
        return True

    def with_faults(self, faults: list[Fault]) -> Plan:
        return msgspec.structs.replace(self.plan, faults=faults)

    def drop_faults(self) -> None:
        """Takes ever smaller parts of the faults away."""
        size = max(len(self.plan.faults) // 2, 1)
        while size:
            at = 0
            while at < len(self.plan.faults):
                faults = self.plan.faults
                if not self.fails(self.with_faults(faults[:at] + faults[at + size :])):
                    at += size
            size //= 2

    def cut_operations(self, operations: int) -> None:
        """Halves what every client may do while the failure stays."""
        while operations > 1 and self.fails(msgspec.structs.replace(self.plan, operations=operations // 2)):
            operations //= 2


def shrink(plan: Plan, failure: str) -> tuple[Plan, Result]:
    """Returns the smallest plan found that still breaks the same invariant, and how it ended."""
    shrinker = Shrinker(plan, failure)
    shrinker.drop_faults()
    result = shrinker.result if shrinker.result is not None else play(plan)
    shrinker.cut_operations(max(result.operations, 1))
    return shrinker.plan, shrinker.result if shrinker.result is not None else result
