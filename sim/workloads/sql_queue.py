"""A queue in a table: workers take what nobody holds, by FOR UPDATE SKIP LOCKED, in the ways applications write it."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from sim.checkers import queue
from sim.invariants import Violation
from sim.sqlclient import SqlConnection
from sim.workloads.base import Client, Outcome
from sim.workloads.sql import SqlWorkload

FIRST_FREE: Final = "SELECT id FROM jobs WHERE state = 'new' ORDER BY id LIMIT {limit} FOR UPDATE SKIP LOCKED"
JOBS_MAX: Final = 4
"""Most jobs that one INSERT adds or one worker takes."""
REAPED_MAX: Final = 30
"""Most jobs that are cleared in one transaction: a statement each, and a client must get something done in the calm."""


class SqlQueue(SqlWorkload):
    """Jobs are taken once, none is lost, and what an unknown attempt took is told by the table itself.

    A job that is taken is deleted, or stays with the number of the attempt that took it.
    """

    name = "sql-queue"
    schema = (
        "CREATE TABLE jobs (id int PRIMARY KEY, state text NOT NULL DEFAULT 'new', taker int)",
        "CREATE INDEX jobs_new ON jobs (state, id)",
    )
    TAKE: ClassVar[tuple[str, ...]] = (
        "DELETE FROM jobs WHERE id IN ({free}) RETURNING id",
        "UPDATE jobs SET state = 'done', taker = {taker} WHERE id IN ({free}) RETURNING id",
        "WITH free AS ({free}) UPDATE jobs SET state = 'done', taker = {taker} FROM free WHERE jobs.id = free.id RETURNING jobs.id",
    )

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self.jobs = 0
        self.attempts = 0
        self.taken: dict[int, list[int]] = {}
        """Attempt -> the jobs it was told it took."""
        self.failed: dict[int, None] = {}
        """Attempts that were told they took nothing."""

    async def operate(self, client: Client) -> None:
        rng = client.rng
        if rng.chance(0.5):
            await self._enqueue(client)
            return
        if rng.chance(0.1):
            await self._reap(client)
            return
        style, limit = rng.below(4), 1 + rng.below(JOBS_MAX)
        await self._take(client, style, limit, rng.chance(0.6))

    async def _enqueue(self, client: Client) -> None:
        # One element of the history has one fate: a statement of several rows is several elements.
        count = 1 + client.rng.below(JOBS_MAX)
        first = self.jobs + 1
        self.jobs += count
        rows = ", ".join([f"({number})" for number in range(first, first + count)])

        async def body(connection: SqlConnection) -> None:
            await connection.run(f"INSERT INTO jobs (id) VALUES {rows}")

        await self.session(client).transact(
            "enqueue", list(range(first, first + count)), body, self.mixed(client) if client.rng.chance(0.5) else ""
        )

    async def _reap(self, client: Client) -> None:
        """Clears jobs that are done; who waits for nobody does not stop the workers."""

        async def body(connection: SqlConnection) -> list[Any]:
            rows = await connection.run(
                f"SELECT id, taker FROM jobs WHERE state = 'done' ORDER BY id LIMIT {REAPED_MAX} FOR UPDATE SKIP LOCKED"
            )
            for row in rows:
                await connection.run("DELETE FROM jobs WHERE id = $1::int", row[0])
            return [[int(row[0] or 0), int(row[1] or 0)] for row in rows]

        outcome = await self.session(client).transact("reap", None, body, self.mixed(client))
        if outcome.status == "ok":
            for job, taker in outcome.value:
                self._know(job, taker)

    def _know(self, job: int, taker: int) -> None:
        """A done job names its taker, whether or not the taker knows."""
        if taker in self.failed:
            raise Violation("a failed worker took nothing", f"job {job} by attempt {taker}", (f"taker = {taker}",))
        told = self.taken.get(taker)
        if told is not None and job not in told:
            raise Violation(
                "a worker knows what it took", f"job {job} is attempt {taker}'s, who has {told}", (f"taker = {taker}",)
            )

    async def _take(self, client: Client, style: int, limit: int, in_block: bool) -> Outcome:
        self.attempts += 1
        attempt = self.attempts
        free = FIRST_FREE.format(limit=limit)

        async def body(connection: SqlConnection) -> list[int]:
            if style < len(self.TAKE):
                rows = await connection.run(self.TAKE[style].format(free=free, taker=attempt))
            else:
                rows = await connection.run(free)
                for row in rows:
                    await connection.run(
                        "UPDATE jobs SET state = 'done', taker = $1::int WHERE id = $2::int", attempt, row[0]
                    )
            return sorted([int(row[0] or 0) for row in rows])

        level = self.mixed(client) if in_block or style == len(self.TAKE) else ""
        outcome = await self.session(client).transact("drain", limit, body, level)
        if outcome.status == "ok" and style:
            self.taken[attempt] = outcome.value
        elif outcome.status == "fail":
            self.failed[attempt] = None
        return outcome

    async def finish(self) -> None:
        async def look(connection: SqlConnection) -> list[Any]:
            rows = await connection.run("SELECT id, taker FROM jobs WHERE state = 'done'")
            return [[int(row[0] or 0), int(row[1] or 0)] for row in rows]

        for job, taker in await self.must_sql(look):
            self._know(job, taker)
        for _ in range(self.jobs + 1):
            outcome = await self._take(self.last, 1, JOBS_MAX, False)
            if outcome.status == "ok" and not outcome.value:
                return
        raise Violation("a queue ends", f"more than {self.jobs} jobs were taken")

    def check(self) -> None:
        self.judge(queue.check(self.world.history.history))
