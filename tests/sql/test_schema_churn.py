"""Schemas that change all the time on three nodes, under crashes and partitions; what is left must be right everywhere."""

from __future__ import annotations

from random import Random

import pytest

from tests.sql.cluster import Client, Cluster
from tests.sql.test_schema_changes import check_stored

CHURN_SECONDS = 60.0
QUIET_SECONDS_MAX = 120.0
KEYS = 20


class Worker:
    """A client that goes to another node when its own dies."""

    def __init__(self, cluster: Cluster, name: str, seed: int) -> None:
        self.cluster = cluster
        self.rng = Random(f"{seed} {name}")
        self.name = name
        self.client: Client | None = None
        self.is_stopped = False
        self.done = 0
        self.task = cluster.loop.main.spawn(self._run(), name)

    async def _run(self) -> None:
        while not self.is_stopped:
            await self.step()
            await self.cluster.sleep(self.rng.random() * 0.2)

    async def step(self) -> None:
        raise NotImplementedError

    async def ask(self, sql: str) -> str:
        """Returns the first line of the answer; "" if it is not known what became of the statement."""
        if self.client is None:
            up = [
                id for id, running in sorted(self.cluster.nodes.items()) if running.scope.is_alive and running.is_open
            ]
            if not up:
                await self.cluster.sleep(0.5)
                return ""
            self.client = await self.cluster.connect(self.rng.choice(up))
        lines = await self.client.run(sql)
        if not lines or self.client.io.is_closed or not self.client.member.scope.is_alive:
            self.client = None
            return ""
        return lines[0]


class Writer(Worker):
    """Writes rows of its own and remembers what they are."""

    def __init__(self, cluster: Cluster, name: str, seed: int, base: int) -> None:
        super().__init__(cluster, name, seed)
        self.base = base
        self.rows: dict[int, int | None] = {}
        """Id -> value, None of a deleted row; what is in doubt is not here."""

    async def step(self) -> None:
        id, value = self.base + self.rng.randrange(KEYS), self.rng.randrange(5)
        if self.rng.random() < 0.3:
            answer, value_after = await self.ask(f"DELETE FROM t WHERE id = {id}"), None
        else:
            upsert = f"INSERT INTO t (id, v) VALUES ({id}, {value}) ON CONFLICT (id) DO UPDATE SET v = excluded.v"
            answer, value_after = await self.ask(upsert), value
        if answer.startswith("("):
            self.rows[id] = value_after
            self.done += 1
        elif not answer or answer.startswith(("ERROR 40003", "ERROR 57P03", "ERROR XX")):
            self.rows.pop(id, None)
            assert not answer.startswith("ERROR XX"), answer


class Changer(Worker):
    """Changes the schema."""

    async def step(self) -> None:
        n = self.rng.randrange(3)
        sql = self.rng.choice(
            [
                f"CREATE INDEX t_{n} ON t (v)",
                f"CREATE INDEX t_{n} ON t (v)",
                f"DROP INDEX t_{n}",
                f"ALTER TABLE t ADD COLUMN c{n} int DEFAULT {n}",
                f"ALTER TABLE t DROP COLUMN c{n}",
                "ALTER TABLE t ALTER COLUMN v TYPE bigint",
                "ALTER TABLE t ALTER COLUMN v TYPE int",
                f"CREATE TABLE u{n} (id serial PRIMARY KEY, n int)",
                f"DROP TABLE u{n}",
                f"BEGIN; CREATE INDEX t_{n} ON t (v); ALTER TABLE t ADD COLUMN c{n} int; ROLLBACK",
                f"INSERT INTO u{n} (n) VALUES (1), (2)",
            ]
        )
        answer = await self.ask(sql)
        assert not answer.startswith("ERROR XX"), (sql, answer)
        if sql.startswith("BEGIN"):
            # An error in the middle leaves the block, and what it has locked, to its client.
            await self.ask("ROLLBACK")
        if answer.startswith("("):
            self.done += 1


async def nemesis(cluster: Cluster, rng: Random) -> None:
    """Breaks one thing at a time, and mends it."""
    while cluster.seconds() < CHURN_SECONDS:
        await cluster.sleep(rng.uniform(1.0, 10.0))
        node_id = rng.randrange(1, 4)
        if rng.random() < 0.5:
            cluster.crash(node_id, is_silent=rng.random() < 0.3)
            cluster.nodes[node_id].is_open = False
            await cluster.sleep(rng.uniform(0.5, 12.0))
            await cluster.restart(node_id)
        else:
            for other in (1, 2, 3):
                if other != node_id:
                    cluster.network.conditions.partition(node_id, other)
            await cluster.sleep(rng.uniform(0.5, 20.0))
            cluster.network.conditions.heal_all()


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 3))])
def test_churn(seed: int) -> None:
    cluster = Cluster(seed)
    cluster.loop.steps_max = 40_000_000
    rng = Random(seed)

    async def main() -> None:
        await cluster.grow(3)
        cluster.offsets_ns.update({2: rng.randrange(-60, 60) * 1_000_000, 3: rng.randrange(-60, 60) * 1_000_000})
        for node_id in (2, 3):
            cluster.nodes[node_id].scope.clock.offset_ns = cluster.offsets_ns[node_id]
        client = await cluster.connect(1)
        await client.run("CREATE TABLE t (id int PRIMARY KEY, v int)")
        writers = [Writer(cluster, f"writer{n}", seed, n * 1_000) for n in range(3)]
        workers: list[Worker] = [*writers, *(Changer(cluster, f"changer{n}", seed) for n in range(2))]
        await nemesis(cluster, rng)
        for worker in workers:
            worker.is_stopped = True
        await cluster.until(lambda: all(worker.task.is_done() for worker in workers), QUIET_SECONDS_MAX)
        for worker in workers:
            await worker.task
        assert all(writer.done > 20 for writer in writers), [writer.done for writer in writers]
        assert sum(worker.done for worker in workers if isinstance(worker, Changer)) > 10
        await cluster.until(
            lambda: not any(running.node.sql.agreement.keeper.kept for running in cluster.nodes.values()),
            QUIET_SECONDS_MAX,
        )  # type: ignore[union-attr]
        await check_stored(cluster, "t")
        stored = await (await cluster.connect(2)).run("SELECT id, v FROM t")
        rows = dict(tuple(map(int, line.split("|"))) for line in stored[1:-1])
        for writer in writers:
            for id, value in writer.rows.items():
                assert rows.get(id) == value, (writer.name, id, rows.get(id), value)
        cluster.check_bugs()

    cluster.loop.run(main())
