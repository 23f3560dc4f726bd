"""Groups under random schedules; a failure names its seed, and the seed replays it."""

from __future__ import annotations

import pytest

from tests.kvtier.raft.chaos import World

STEPS = 3000


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_random_schedules(first: int) -> None:
    for seed in range(first, first + 10):
        world = World(seed, with_codec=seed % 5 == 0)
        world.run(STEPS)
        world.heal()
