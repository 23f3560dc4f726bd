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


def test_the_last_voter_learns_that_the_others_are_none() -> None:
    """Found by the schedules: all who knew of the end of a joint configuration were out of it, with longer logs."""
    world = World(2053, "reads")
    world.run(6000)
    world.heal()
