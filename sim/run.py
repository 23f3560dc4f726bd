"""One run: a plan in, a result out."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct, field

from base import faults
from sim.cluster import LOCKS_SECONDS, ClusterWatch, grow, settle, take_locks
from sim.invariants import Violation, check_any_time, check_rest, check_served
from sim.journal import Journal
from sim.loop import Stuck, TaskFailed
from sim.mutants import mutated
from sim.nemesis import Nemesis
from sim.plan import Plan
from sim.process import Process
from sim.streams import Streams
from sim.workloads.base import Client, Workload
from sim.workloads.registry import WORKLOADS, make_process
from sim.world import CHECK_SECONDS, World

CALM_SECONDS: Final = 5.0
"""After the storm every client must get something done within this, plus what its lock waits may take."""
CPU_SECONDS_MAX: Final = 40.0
CPU_SECONDS_PER_SECOND_MAX: Final = 2.0
"""A run takes one or two in all; a loop that never suspends is found by this alone."""
ELECTIONS_SECONDS: Final = 40.0
"""In a cluster, patience of senders, elections and repairs come on top of the calm."""
REST_SECONDS: Final = 120.0
"""Bound of the time until nothing is left of any transaction."""


class Result(Struct):
    """What a run found and counted."""

    seed: int
    workload: str
    failure: str = ""
    """The broken invariant, "" for none."""
    text: str = ""
    story: list[str] = field(default_factory=list)
    fingerprint: str = ""
    virtual_seconds: float = 0.0
    steps: int = 0
    operations: int = 0
    ok: int = 0
    info: int = 0
    crashes: int = 0
    served: int = 0
    compared: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    points: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


class Run:
    """One world from set-up to verdict."""

    def __init__(self, plan: Plan, echo: bool = False, detailed: bool = False) -> None:
        self.plan = plan
        self.journal = Journal(echo, detailed or echo)
        self.world = World(plan, self.journal, make_process(plan.workload))
        self.watch = ClusterWatch(self.world)
        self.workload: Workload = WORKLOADS[plan.workload](self.world)
        self.nemesis = Nemesis(self.world, self.workload.split_keys())
        self.clients: list[Client] = []
        self.compared = 0

    def play(self) -> Result:
        """Runs everything; a broken invariant ends it."""
        result = Result(self.plan.seed, self.plan.workload)
        self.world.arm_points()
        try:
            self.world.loop.run(self._main())
        except Violation as violation:
            self._fail(result, violation.invariant, violation.text, list(violation.words))
        except (Stuck, TaskFailed, AssertionError) as error:
            cause = error.__cause__
            if isinstance(cause, Violation):
                self._fail(result, cause.invariant, cause.text, list(cause.words))
            else:
                self._fail(result, _name_of(error), "".join(traceback.format_exception(error))[-6000:], [])
        except Exception as error:
            self._fail(
                result, f"unexpected {type(error).__name__}", "".join(traceback.format_exception(error))[-6000:], []
            )
        finally:
            faults.arm(None)
        self._count(result)
        return result

    def _fail(self, result: Result, invariant: str, text: str, words: list[str]) -> None:
        result.failure = invariant
        result.text = text
        result.story = self.journal.story(words)

    def _count(self, result: Result) -> None:
        world = self.world
        processes = [*world.processes, *world.gone]
        for process in processes:
            if process.is_up:
                process.collect_counts()
            for name, value in process.counts.items():
                result.counts[name] = result.counts.get(name, 0) + value
        result.fingerprint = world.fingerprint()
        result.virtual_seconds = world.now
        result.steps = world.loop.steps
        result.operations = sum([op.type == "invoke" for op in world.history.history])
        result.ok = sum([op.type == "ok" for op in world.history.history])
        result.info = sum([op.type == "info" for op in world.history.history])
        result.crashes = sum([process.crashes for process in processes])
        result.served = world.served_count
        result.compared = self.compared
        result.faults = world.faults_struck
        result.points = world.points_hit

    # --- the phases ------------------------------------------------------------------

    async def _main(self) -> None:
        world = self.world
        if not world.process.start():
            raise Violation("a fresh node starts", "it does not")
        await world.process.open()
        await self.workload.set_up()
        if world.nodes is not None:
            await grow(world)
        await self._storm()
        await self._calm()
        await self._rest()
        self.compared = await check_served(world)
        await self.workload.finish()
        self.workload.check()

    async def _storm(self) -> None:
        world = self.world
        world.note("phase", "storm")
        world.is_calm = False
        started = world.now
        for process in world.processes:
            process.begin_storm()
        self.watch.start()
        self.nemesis.start()
        tasks = []
        for number in range(self.plan.clients):
            client = Client(world, number)
            self.clients.append(client)
            tasks.append(world.loop.main.spawn(self._work(client), f"client{number}"))
        self.tasks = tasks
        while world.now < started + self.plan.seconds:
            await world.sleep(CHECK_SECONDS)
            self._check_now()

    def _check_now(self) -> None:
        """Invariants, and the digest's checkpoint."""
        world = self.world
        world.journal.checkpoints.append(world.journal.digest ^ world.loop.digest)
        if world.bugs:
            raise Violation("no internal errors", world.bugs[0][-3000:])
        for process in world.running():
            check_any_time(process)
        self.watch.check()

    async def _work(self, client: Client) -> None:
        """A client's life: operations with pauses, each with draws of its own."""
        world = self.world
        think = self.plan.knobs.think_seconds
        streams: Streams = world.streams
        for number in range(self.plan.operations):
            client.rng = streams.stream(f"client{client.number}/{number}")
            await world.sleep(think * client.rng.between(0.1, 2.0))
            if world.is_over:
                return
            client.doing = f"operation {number} since {world.now:.3f}"
            await self.workload.operate(client)

    async def _calm(self) -> None:
        """Faults end; the clients must get on."""
        world = self.world
        world.note("phase", "calm")
        world.is_calm = True
        self.nemesis.heal()
        healed = world.now
        patience = self.plan.knobs.timeout_seconds + 3 * self.plan.store.txn_expiry_seconds + 12.0
        if world.nodes is not None:
            patience += ELECTIONS_SECONDS
        bound = healed + patience + CALM_SECONDS
        while not self._all_got_on(healed):
            if world.now > bound:
                late = [
                    f"client{client.number} {client.doing}" for client in self.clients if client.last_success < healed
                ]
                raise Violation(
                    "clients get on in calm",
                    f"after {world.now - healed:.1f}s: {'; '.join(late)}",
                    tuple(late[0].split()[:1]),
                )
            await world.sleep(0.1)

    def _all_got_on(self, healed: float) -> bool:
        return all(client.last_success > healed or task.is_done() for client, task in zip(self.clients, self.tasks))

    async def _rest(self) -> None:
        """Clients stop; nothing of any transaction may stay."""
        world = self.world
        world.note("phase", "rest")
        world.is_over = True
        bound = world.now + REST_SECONDS
        while any(not task.is_done() for task in self.tasks):
            if world.now > bound:
                raise Violation("every operation ends", "; ".join([client.doing for client in self.clients]))
            await world.sleep(0.1)
        while any(not task.is_done() for task in world.operations):
            if world.now > bound:
                raise Violation(
                    "operators come to an end", ", ".join([str(process.name) for process in world.processes])
                )
            await world.sleep(0.1)
        while self._left(world.nodes is None):
            if world.now > bound:
                raise Violation("nothing is left at rest", self._left())
            await world.sleep(0.5)
        if world.nodes is not None:
            await take_locks(world)
            while self._left():
                if world.now > bound + LOCKS_SECONDS:
                    raise Violation("nothing is left at rest", self._left())
                await world.sleep(0.5)
            await settle(world, bound + LOCKS_SECONDS)
        self._check_now()

    def _left(self, with_locks: bool = True) -> str:
        """Returns what is left of transactions, and which nodes are not there."""
        for process in self.world.processes:
            left = check_rest(process, with_locks) if process.is_ready else f"{process.name} is not open"
            if left:
                return f"{process.name}: {left}"
        return ""


def _name_of(error: BaseException) -> str:
    cause = error.__cause__ if isinstance(error, TaskFailed) and error.__cause__ is not None else error
    return f"{type(cause).__name__}: {str(cause)[:120]}"


class Hang(Exception):
    """One step of the node runs on and on."""


def play(plan: Plan, echo: bool = False, detailed: bool = False) -> Result:
    """Runs a plan, with the bug of its mutant if it names one."""
    signal.signal(signal.SIGVTALRM, _on_alarm)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS_MAX + CPU_SECONDS_PER_SECOND_MAX * plan.seconds)
    try:
        with mutated(plan.mutant):
            return Run(plan, echo, detailed).play()
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _on_alarm(number: int, frame: object) -> None:
    raise Hang("no end after a minute of CPU")


def play_twice(plan: Plan) -> Result:
    """Runs a plan; a failure is run again with details, so that its story has them."""
    result = play(plan)
    if result.failure:
        detailed = play(plan, detailed=True)
        if detailed.failure == result.failure:
            result.story = detailed.story
        else:
            result.text += f"\nNOT REPEATED: the second run of this seed gave {detailed.failure!r}"
    return result


Player = Callable[[Plan], Any]

__all__ = ["Process", "Result", "play", "play_twice"]
