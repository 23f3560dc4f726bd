"""What operators do to a cluster while clients work: nodes are stopped in order, one after the other, or replaced.

restore    a node comes back with an earlier state of its disk; it must end, and is replaced
roll       every node drains, stops and comes back, each once the one before is open again
replace    a new node joins and an old one is decommissioned, in either order where there are nodes enough

Whatever else goes wrong meanwhile, an operator tries again; in the calm both must come to their end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from base.errors import MeridianError
from node.member import JoinFailed
from sim.invariants import Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sim.loop import Task
    from sim.process import Process
    from sim.world import World

PAUSE_SECONDS: Final = 0.5
"""Between two looks, and two attempts."""
ASK_SECONDS: Final = 30.0
"""After this an operator who has heard nothing asks another node."""
STOP_SECONDS: Final = 30.0
"""A node that has not stopped in time is left alone."""
NOTICE_SECONDS: Final = 60.0
"""Bound of the time until a node with an old disk is told so by another that hears of it."""
ENOUGH_NODES: Final = 4
"""With so many, ranges of three replicas can do without one before another has come."""


async def roll(world: World) -> None:
    """Restarts every node that is there now; stops where the calm begins."""
    for process in list(world.processes):
        if world.is_calm:
            return
        life = process.generation
        process.stop_soon()
        bound = world.now + STOP_SECONDS
        while world.now < bound and (process.generation == life or not process.is_ready) and not process.is_gone:
            await world.sleep(PAUSE_SECONDS)


async def replace(world: World, old: Process, leaves_first: bool) -> None:
    """Takes a node out of the cluster for good and puts a new one, with an empty disk, in its place."""
    if leaves_first:
        await _decommission(world, old)
        await _add(world, old)
    else:
        await _add(world, old)
        await _decommission(world, old)


async def restore(world: World, old: Process, seconds: float) -> None:
    """Gives a node its disk back as it was some time before; once that was noticed, it is replaced."""
    image = old.engine.image()
    await world.sleep(seconds)
    while not old.is_up and not world.is_calm:
        await world.sleep(PAUSE_SECONDS)
    heard = [other.member.replication.lives.heard(old.node_id) for other in world.running() if other.member]
    if world.is_calm or not old.is_up or all(told is None or told.durable <= image.opened_at() for told in heard):
        return  # What it has promised to anybody is in the image.
    old.restore(image)
    bound = world.now + NOTICE_SECONDS
    while not old.is_condemned:
        if world.now > bound:
            raise Violation("an old disk is noticed", old.name)
        await world.sleep(PAUSE_SECONDS)
    await replace(world, old, False)


async def _add(world: World, old: Process) -> None:
    """Lets a new node join in the region of the old one."""
    new = world.add_process(old.place)
    attempt = 0
    while not new.is_up:
        helpers = [process for process in world.processes if process.is_ready]
        if helpers:
            await _join(world, new, helpers[attempt % len(helpers)])
        await world.sleep(PAUSE_SECONDS)
        attempt += 1
    world.processes.append(new)
    world.note("operator", f"{new.name} has joined as node {new.node_id}")
    await new.open()


async def _join(world: World, new: Process, helper: Process) -> None:
    """Lets a node join by another, which may be lost over it."""

    async def run() -> None:
        try:
            await new.join(helper)
        except (MeridianError, JoinFailed) as problem:
            world.note("operator", f"{new.name} cannot join: {problem!r}")

    await _bounded(world, world.loop.main.spawn(run(), "join"), lambda: True)


async def _bounded(world: World, task: Task, is_useful: Callable[[], bool]) -> None:
    """Waits for a task, for as long as that is of use and an operator has patience."""
    bound = world.now + ASK_SECONDS
    while not task.is_done() and world.now < bound and is_useful():
        await world.sleep(PAUSE_SECONDS)
    task.cancel()


async def _decommission(world: World, old: Process) -> None:
    """Sends a node away and takes its machine, once the cluster says that it is gone."""
    attempt = 0
    left: list[int] = []

    async def ask(helper: Process) -> None:
        assert helper.member is not None, helper.name
        left.append(await helper.member.roster.decommission(old.node_id))
        world.note("operator", f"{old.name} has {left[-1]} replicas left")

    while not left or left[-1]:
        await _ask(world, ask, old, attempt)
        attempt += 1
    world.take_away(old)


async def _ask(
    world: World, what: Callable[[Process], Coroutine[None, None, None]], leaving: Process, attempt: int
) -> None:
    """Has a node that stays do something, each time the next one; returns after a pause, whatever became of it."""
    await world.sleep(PAUSE_SECONDS)
    helpers = [process for process in world.processes if process.is_ready and process is not leaving]
    if not helpers:
        return
    helper = helpers[attempt % len(helpers)]

    async def run() -> None:
        try:
            await what(helper)
        except MeridianError as problem:
            world.note("operator", f"{helper.name} cannot help: {problem!r}")

    life = helper.generation
    task = helper.scope.spawn(run(), "operator")
    await _bounded(world, task, lambda: helper.is_up and helper.generation == life)
