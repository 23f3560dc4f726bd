"""The random schedules find bugs: each of these, put into the machine, within a few worlds (reliability 3.3)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kvtier.raft import machine
from tests.kvtier.raft.chaos import World
from tests.kvtier.raft.mutants import BY_HAND, MUTANTS, RARE, Patch, mutated
from tests.kvtier.raft.test_details import check_old_tail
from tests.kvtier.raft.test_scripts import SCRIPTS, seen

pytestmark = pytest.mark.skipif(
    machine.__file__.endswith(".so"), reason="compiled callers do not see a replaced function"
)

STEPS = 3000
SEEDS = 40


def is_found(patches: list[Patch]) -> bool:
    with mutated(patches):
        for seed in range(SEEDS):
            for mood in ("elections", "members", "leases", "reads"):
                world = World(seed, mood)
                try:
                    world.run(STEPS)
                    world.heal()
                except (AssertionError, IndexError, KeyError):
                    return True
    return False


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.__name__ for mutant in MUTANTS])
def test_the_schedules_find(mutant: Callable[[], list[Patch]]) -> None:
    assert is_found(mutant())


@pytest.mark.parametrize("mutant", RARE, ids=[mutant.__name__ for mutant in RARE])
def test_the_scripts_find(mutant: Callable[[], list[Patch]]) -> None:
    """What only a long chain of events shows is a script."""
    with mutated(mutant()):
        found = []
        for path in SCRIPTS:
            try:
                if seen(path) != path.read_text():
                    found.append(path.name)
            except AssertionError:
                found.append(path.name)
    assert found


@pytest.mark.parametrize("mutant", BY_HAND, ids=[mutant.__name__ for mutant in BY_HAND])
def test_a_hand_made_message_finds(mutant: Callable[[], list[Patch]]) -> None:
    with mutated(mutant()), pytest.raises(AssertionError):
        check_old_tail()
