"""Randomness by name: every part of a run draws from a stream of its own.

A stream depends on the seed and its name alone, so leaving a fault or an operation out of a
run (``sim.shrink``) does not change what the others draw.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, TypeVar

from sim.loop import SeededRng

T = TypeVar("T")

ODDS_PARTS: Final = 1_000_000


class Draws(SeededRng):
    """A stream with the distributions a simulation needs."""

    def between(self, lower: float, upper: float) -> float:
        """Returns a uniform float."""
        return lower + (upper - lower) * self.random()

    def spread(self, lower: float, upper: float) -> float:
        """Returns a float whose order of magnitude is uniform."""
        return float(lower * (upper / lower) ** self.random())

    def chance(self, odds: float) -> bool:
        """True with this probability."""
        return self.below(ODDS_PARTS) < odds * ODDS_PARTS

    def pick(self, choices: list[T] | tuple[T, ...]) -> T:
        """Returns one of several."""
        return choices[self.below(len(choices))]


class Streams:
    """All streams of a seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def stream(self, name: str) -> Draws:
        """Returns a fresh stream, always the same for a name."""
        digest = blake2b(f"{self.seed}/{name}".encode(), digest_size=8).digest()
        return Draws(int.from_bytes(digest, "big"))
