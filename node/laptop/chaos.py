"""``\\chaos SECONDS``: breaks one thing after the other at random, and mends each.

At most one node, or one link between two, is broken at a time, so that ranges with three replicas keep their quorum.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

from node.laptop.cluster import Laptop, LaptopNode

BROKEN_SECONDS: Final = (2.0, 8.0)
CALM_SECONDS: Final = (2.0, 6.0)
SKEW_MS_MAX: Final = 100.0
"""Within what nodes tolerate (80 % of max_offset)."""
SLOW_DISK_MS: Final = 100.0

Breakage = tuple[str, Callable[[], None], Callable[[], None]]
"""What is done, how, and how it is undone."""


class Chaos:
    """Draws from a seed what is broken."""

    def __init__(self, laptop: Laptop, seed: int, say: Callable[[str], None]) -> None:
        self._laptop = laptop
        self._rng = random.Random(seed)  # noqa: S311  # what to break, nothing secret
        self._say = say

    def draw(self) -> Breakage:
        """Returns the next thing to break."""
        laptop, rng = self._laptop, self._rng
        node = rng.choice(laptop.nodes)
        others = [other for other in laptop.nodes if other is not node]
        kinds = ["kill", "pause", "skew", "slow-disk"] + (["partition", "cut"] if others else [])
        match rng.choice(kinds):
            case "kill":
                return f"kill {_name(node)}", lambda: laptop.kill([node]), lambda: laptop.restart([node])
            case "pause":
                return f"pause {_name(node)}", lambda: laptop.pause([node]), lambda: laptop.resume([node])
            case "skew":
                ms = rng.uniform(-SKEW_MS_MAX, SKEW_MS_MAX)
                return (
                    f"skew {_name(node)} {ms:.0f} ms",
                    lambda: laptop.skew([node], ms),
                    lambda: laptop.skew([node], 0),
                )
            case "slow-disk":
                return (
                    f"slow disk {_name(node)}",
                    lambda: laptop.slow_disk([node], SLOW_DISK_MS),
                    lambda: laptop.slow_disk([node], 0),
                )
            case "partition":
                return f"partition {_name(node)}", lambda: laptop.partition([node], others), laptop.heal
            case _:
                other = rng.choice(others)
                return (
                    f"cut {_name(node)} from {_name(other)}, one way",
                    lambda: laptop.partition([node], [other], is_one_way=True),
                    laptop.heal,
                )

    def run(self, seconds: float) -> None:
        """Breaks and mends for so long; everything is mended when it returns or raises."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            what, breaks, mends = self.draw()
            self._say(what)
            try:
                breaks()
                time.sleep(self._rng.uniform(*BROKEN_SECONDS))
            finally:
                mends()
            time.sleep(self._rng.uniform(*CALM_SECONDS))


def _name(node: LaptopNode) -> str:
    return f"node {node.number} ({node.region})"
