"""Making a failing run small: first its faults, then its clients and operations, then its time.

``ddmin`` (Zeller and Hildebrandt, 2002) over the faults of the plan.  A smaller plan counts if the
same invariant breaks.  Because every part of a run draws from a stream of its own, what is left
draws what it drew before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from sim.plan import Fault, Plan
from sim.run import Result, play, play_twice

RUNS_MAX: Final = 120
"""Runs one shrinking may take."""


class Shrinker:
    """Counts its runs, and remembers the smallest plan that still fails the same way."""

    def __init__(self, plan: Plan, failure: str) -> None:
        self.best = plan
        self.failure = failure
        self.runs = 0

    def fails(self, plan: Plan) -> bool:
        """True, and the new best, if a plan breaks the same invariant."""
        if self.runs >= RUNS_MAX:
            return False
        self.runs += 1
        if play(plan).failure != self.failure:
            return False
        self.best = plan
        return True

    def with_changes(self, **changes: object) -> Plan:
        return msgspec.structs.replace(self.best, **changes)


def ddmin(faults: list[Fault], fails: Callable[[list[Fault]], bool]) -> list[Fault]:
    """Returns a list from which no part can be left out."""
    parts = 2
    while faults:
        size = max(1, len(faults) // parts)
        for first in range(0, len(faults), size):
            rest = faults[:first] + faults[first + size :]
            if fails(rest):
                faults = rest
                parts = max(parts - 1, 2)
                break
        else:
            if size == 1:
                return faults
            parts = min(parts * 2, len(faults))
    return faults


def shrink(plan: Plan, failure: str) -> tuple[Plan, Result]:
    """Returns the smallest plan found and its run, with the story."""
    shrinker = Shrinker(plan, failure)
    ddmin(plan.faults, lambda faults: shrinker.fails(shrinker.with_changes(faults=faults)))
    shrinker.fails(shrinker.with_changes(knobs=msgspec.structs.replace(shrinker.best.knobs, points={})))
    shrinker.fails(
        shrinker.with_changes(knobs=msgspec.structs.replace(shrinker.best.knobs, hop_loss=0.0, hop_delay=0.0))
    )
    for clients in range(1, shrinker.best.clients):
        if shrinker.fails(shrinker.with_changes(clients=clients)):
            break
    _fewer_operations(shrinker)
    return shrinker.best, play_twice(shrinker.best)


def _fewer_operations(shrinker: Shrinker) -> None:
    """Halves the distance to the smallest count that still fails."""
    low, high = 0, 2_000
    if not shrinker.fails(shrinker.with_changes(operations=high)):
        return
    while high - low > 1:
        middle = (low + high) // 2
        if shrinker.fails(shrinker.with_changes(operations=middle)):
            high = middle
        else:
            low = middle
