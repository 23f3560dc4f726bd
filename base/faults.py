"""Named fault points: places where the simulator may bend what the code does.

``fault(name)`` is False unless somebody armed the points, which only a simulation does; it costs
one test of a module variable.  A point may only do what the world could do at that place: give
up early, leave work to others, take the slow path.  None stands on the path of a statement that
meets no conflict.
"""

from __future__ import annotations

from collections.abc import Callable

Decide = Callable[[str], bool]

_decide: Decide | None = None


def fault(name: str) -> bool:
    """True if the named point is to misbehave now."""
    return _decide is not None and _decide(name)


def arm(decide: Decide | None) -> None:
    """Sets who decides for every point of this process; None disarms all."""
    global _decide
    _decide = decide
