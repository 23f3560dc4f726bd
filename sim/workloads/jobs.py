"""A job queue with SKIP LOCKED, and transactions that have names."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from kvtier.messages import SKIPPED, Isolation, Lock, Wait
from sim.checkers import queue
from sim.invariants import Violation
from sim.workloads.base import Client, Outcome, Work, Workload, value_of

PAUSE_SECONDS: Final = 0.01
"""Between two attempts at a named commit; twice as long each time, as what was given up still queues for its locks."""
PAUSE_SECONDS_MAX: Final = 2.0


class Queue(Workload):
    """Workers take the first job nobody holds; a job is taken once, and none is lost."""

    name = "queue"
    isolations: ClassVar[tuple[str, ...]] = ("serializable", "read committed")

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self.jobs = 0

    def split_keys(self) -> list[bytes]:
        return [b"job/%06d" % number for number in range(0, 400, 10)]

    async def operate(self, client: Client) -> None:
        if client.rng.chance(0.5):
            self.jobs += 1
            job = self.jobs

            async def enqueue(work: Work) -> None:
                work.put(b"job/%06d" % job, b"%d" % job)
                await work.flush_if_full()

            await client.transact("enqueue", job, enqueue, self.level_of(client))
        else:
            await self._dequeue(client, client.rng.chance(0.5))

    async def _dequeue(self, client: Client, by_scan: bool) -> Outcome:
        async def dequeue(work: Work) -> int | None:
            return await work.statement(lambda: _take(work, by_scan))

        return await client.transact("dequeue", None, dequeue, self.level_of(client))

    async def finish(self) -> None:
        client = Client(self.world, self.world.plan.clients)
        for _ in range(self.jobs + 1):
            outcome = await self._dequeue(client, True)
            if outcome.status == "ok" and outcome.value is None:
                return
        raise Violation("a queue ends", f"more than {self.jobs} jobs were taken")

    def check(self) -> None:
        self.judge(queue.check(self.world.history.history))


async def _take(work: Work, by_scan: bool) -> int | None:
    """Locks the first row that is free, and deletes it."""
    if by_scan:
        rows = await work.scan(b"job/", b"job0", Lock.EXCLUSIVE, Wait.SKIP, limit=1)
        if not rows:
            return None
        key, value = rows[0]
    else:
        # A join feeds keys one by one to locking point reads.
        candidates = await work.scan(b"job/", b"job0", limit=5)
        for key, _ in candidates:
            value = await work.get(key, Lock.EXCLUSIVE, Wait.SKIP)
            if value is not SKIPPED and value is not None:
                break
        else:
            return None
    await work.pause()
    work.delete(key)
    return int(value)


class NamedCommits(Workload):
    """Increments under a name, repeated until the client knows: each counts exactly once."""

    name = "named-commits"
    isolations: ClassVar[tuple[str, ...]] = ("serializable", "read committed")

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self.names = 0
        self.certain: dict[str, bool] = {}
        """Name -> did it commit; what is not here was never known."""

    def split_keys(self) -> list[bytes]:
        return [b"count/%d" % number for number in range(4)]

    async def set_up(self) -> None:
        await self.load({b"count/%d" % number: b"0" for number in range(4)})

    async def operate(self, client: Client) -> None:
        self.names += 1
        name = f"name{self.names}"
        first, second = client.rng.below(4), client.rng.below(4)

        async def increment(work: Work) -> None:
            for number in (first, second):
                await work.statement(lambda number=number: _increment(work, b"count/%d" % number))  # type: ignore[misc]  # bound
                await work.pause()

        asks = client.rng.chance(0.3)
        pause = PAUSE_SECONDS
        while not self.world.is_over:
            outcome = await client.transact("increment", name, increment, self.isolation, name)
            if outcome.status == "ok":
                self._know(name, True)
                return
            if outcome.status == "fail" and outcome.error != "refused":
                if client.rng.chance(0.5):
                    break  # Given up: an earlier attempt may have committed all the same.
                continue
            if asks:
                answer = await self._ask(client, name)
                if answer:
                    self._know(name, answer == "committed")
                    return
            await self.world.sleep(pause)
            pause = min(2 * pause, PAUSE_SECONDS_MAX)

    def _know(self, name: str, is_committed: bool) -> None:
        if self.certain.setdefault(name, is_committed) != is_committed:
            raise Violation(
                "a named commit has one outcome", f"{name} was {not is_committed}, is {is_committed}", (name,)
            )

    async def _ask(self, client: Client, name: str) -> str:
        async def serve(node: Any) -> Outcome:
            return Outcome("ok", await node.coordinator.outcome(name))

        outcome = await client.request(guarded(serve))
        self.world.note(f"client{client.process}", f"asked for {name}: {outcome.status} {outcome.value}")
        return outcome.value if outcome.status == "ok" else ""

    async def finish(self) -> None:
        async def read(work: Work) -> int:
            return sum([int(await work.get(b"count/%d" % number)) for number in range(4)])

        for name in [f"name{number + 1}" for number in range(self.names)]:
            if name not in self.certain:
                answer = await value_of(self.world.choose(self.rng).coordinator.outcome(name))
                self.certain[name] = answer == "committed"
        self.total = await self.must(read)

    def check(self) -> None:
        committed = sum(self.certain.values())
        if self.total != 2 * committed:
            raise Violation(
                "a named commit counts once", f"{committed} names committed, but the counters say {self.total / 2:g}"
            )


def guarded(serve: Any) -> Any:
    """Turns errors of a request on the node into an outcome."""

    async def run(node: Any) -> Outcome:
        from base.errors import MeridianError

        try:
            outcome: Outcome = await serve(node)
        except MeridianError as error:
            return Outcome("fail", error=str(error))
        return outcome

    return run


async def _increment(work: Work, key: bytes) -> None:
    value = int(await work.get(key, Lock.EXCLUSIVE))
    work.put(key, b"%d" % (value + 1))


__all__ = ["Isolation", "NamedCommits", "Queue"]
