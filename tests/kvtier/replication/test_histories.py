"""Transactions on a cluster that is broken all the while: list-append histories and bank totals.

Every run draws from its seed what breaks and when: power cuts, partitions (also one-way), pauses, lost
messages, clocks that disagree within their bound.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from base.errors import AmbiguousResult, KvError, MeridianError, Retryable
from kvtier.messages import Batch, Isolation, Lock, Op, Split, TransferLease
from sim.checkers import list_append
from sim.histories import Op as Event
from tests.kvtier.replication.cluster import MAX_OFFSET_US, Cluster, Node
from tests.kvtier.replication.test_cluster import settle
from txn.coordinator import Transaction

CLIENTS = 5
SECONDS = 40.0
ACCOUNTS = 6
START = 100


async def value_of(eager: Any) -> Any:
    return await eager if hasattr(eager, "__await__") else eager


class Client:
    """Runs transactions on one node after the other, and says how they ended: ok, fail or info."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        self.cluster = cluster
        self.number = number
        self.rng = Random(cluster.seed * 100 + number)

    async def transact(self, body: Callable[[Transaction], Any]) -> tuple[str, Any]:
        """Runs a body on some node that is up."""
        cluster = self.cluster
        up = [node for node in cluster.nodes.values() if node.is_up]
        if not up:
            return "fail", None
        node = self.rng.choice(up)
        done = cluster.loop.main.waiter()

        async def run() -> None:
            done.wake(await attempt(node, body))

        node.scope.spawn(run(), f"client{self.number}")
        generation = node.generation

        def watch() -> None:
            if not node.is_up or node.generation != generation:
                done.wake(("info", None))
            elif not done.is_done():
                cluster.loop.main.call_later(0.5, watch)

        cluster.loop.main.call_later(0.5, watch)
        outcome: tuple[str, Any] = await done.wait()
        return outcome


async def attempt(node: Node, body: Callable[[Transaction], Any]) -> tuple[str, Any]:
    """One transaction with its restarts."""
    txn = node.coordinator.begin(Isolation.SERIALIZABLE)
    while True:
        try:
            result = await body(txn)
            await value_of(txn.commit())
        except AmbiguousResult:
            return "info", None
        except Retryable as error:
            if await value_of(txn.restart(error)):
                continue
            await value_of(txn.rollback())
            return "fail", None
        except KvError:
            await value_of(txn.rollback())
            return "fail", None
        return "ok", result


class Breaker:
    """Draws faults and mends them."""

    def __init__(self, cluster: Cluster, rng: Random, split_keys: list[bytes]) -> None:
        self.cluster = cluster
        self.rng = rng
        self.split_keys = split_keys

    def strike(self) -> None:
        cluster, rng = self.cluster, self.rng
        node = rng.choice(list(cluster.nodes.values()))
        fault = rng.choice(
            ["crash", "crash", "partition", "one-way", "pause", "loss", "skew", "heal", "heal", "split", "transfer"]
        )
        if fault == "crash" and node.is_up:
            node.crash()
            cluster.loop.main.call_later(rng.uniform(0.1, 6.0), lambda: None if node.is_up else node.boot())
        elif fault == "partition":
            cluster.wires.partition(node.node_id)
        elif fault == "one-way":
            other = rng.choice([other for other in cluster.nodes if other != node.node_id])
            cluster.wires.cut[node.node_id, other] = None
        elif fault == "pause" and node.is_up:
            node.scope.pause()
            scope = node.scope
            cluster.loop.main.call_later(rng.uniform(0.1, 5.0), scope.resume)
        elif fault == "loss":
            cluster.wires.loss = rng.choice([0.0, 0.05, 0.3])
        elif fault == "skew":
            node.offset_ns = rng.randrange(-MAX_OFFSET_US // 2, MAX_OFFSET_US // 2) * 900
            node.scope.clock.offset_ns = node.offset_ns
        elif fault == "heal":
            self.mend()
        elif fault == "split" and node.is_up:
            self.command(node, Split(rng.choice(self.split_keys)))
        elif fault == "transfer" and node.is_up:
            other = rng.choice(list(cluster.nodes))
            self.command(node, TransferLease(rng.choice(self.split_keys), other))

    def command(self, node: Node, op: Op) -> None:
        """Sends an administrative command; nobody waits for it."""

        async def run() -> None:
            try:
                await value_of(node.router.send(Batch([op])))
            except MeridianError:
                pass  # No leaseholder, or it makes no sense any more.

        node.scope.spawn(run(), "command")

    def mend(self) -> None:
        self.cluster.wires.heal()
        self.cluster.wires.loss = 0.0


def run(cluster: Cluster, operate: Callable[[Client], Any], split_keys: list[bytes]) -> None:
    """Clients operate in a storm, then in a calm, until they are done."""
    rng = Random(cluster.seed)
    cluster.wait_for_leader()
    breaker = Breaker(cluster, rng, split_keys)
    over = False

    async def live(client: Client) -> None:
        while not over:
            await operate(client)
            await cluster.loop.main.clock.sleep(client.rng.uniform(0.0, 0.1))

    tasks = [cluster.loop.main.spawn(live(Client(cluster, number)), "client") for number in range(CLIENTS)]
    at = 0.0
    while at < SECONDS:
        pause = rng.uniform(0.2, 4.0)
        cluster.run_for(pause)
        at += pause
        breaker.strike()
    breaker.mend()
    for node in cluster.nodes.values():
        node.scope.resume()
        if not node.is_up:
            node.boot()
    over = True
    for _ in range(600):
        cluster.run_for(0.2)
        if all(task.is_done() for task in tasks):
            break
    assert all(task.is_done() for task in tasks), "clients wait in the calm"
    cluster.run_for(20.0)
    for node in cluster.nodes.values():
        assert not node.fatal, node.fatal
        assert not node.store.state.intents, (node.node_id, node.store.state.intents.transactions())
    settle(cluster)


def list_key(number: int) -> bytes:
    return b"\x03list/%03d" % number


@pytest.mark.parametrize("seed", range(1, 7))
def test_list_append(seed: int) -> None:
    cluster = Cluster(seed=seed)
    history: list[Event] = []
    appended = 0

    async def operate(client: Client) -> None:
        nonlocal appended
        micros: list[list[Any]] = []
        for _ in range(client.rng.randrange(1, 5)):
            key = appended // 40 + client.rng.randrange(4)
            if client.rng.random() < 0.5:
                micros.append(["r", key, None])
            else:
                appended += 1
                micros.append(["append", key, appended])
        locks = client.rng.random() < 0.5

        async def body(txn: Transaction) -> list[list[Any]]:
            done: list[list[Any]] = []
            for f, key, element in micros:
                lock = Lock.EXCLUSIVE if f == "append" and locks else Lock.NONE
                value = await value_of(txn.get(list_key(key), lock))
                items = [int(item) for item in value.split(b",")] if value else []
                if f == "r":
                    done.append(["r", key, items])
                else:
                    items.append(element)
                    txn.put(list_key(key), b",".join([b"%d" % item for item in items]))
                    done.append(["append", key, element])
            return done

        history.append(Event(len(history), "invoke", client.number, "txn", micros))
        status, result = await client.transact(body)
        history.append(Event(len(history), status, client.number, "txn", result if result is not None else micros))

    run(cluster, operate, [list_key(number) for number in range(30)])
    verdict = list_append.check(history, "serializable")
    assert verdict.valid is True, str(verdict)
    committed = sum(1 for op in history if op.type == "ok")
    assert committed > 100, committed


@pytest.mark.parametrize("seed", range(1, 7))
def test_bank(seed: int) -> None:
    cluster = Cluster(seed=100 + seed)
    keys = [b"\x03account/%d" % number for number in range(ACCOUNTS)]
    leader = cluster.wait_for_leader()
    node = cluster.nodes[leader]

    async def fill(txn: Transaction) -> None:
        for key in keys:
            txn.put(key, b"%d" % START)

    async def start() -> None:
        assert (await attempt(node, fill))[0] == "ok"

    task = node.scope.spawn(start(), "fill")
    cluster.run_for(3.0)
    assert task.is_done()
    totals: list[int] = []

    async def operate(client: Client) -> None:
        if client.rng.random() < 0.4:

            async def read(txn: Transaction) -> int:
                rows = await value_of(txn.scan(b"\x03account/", b"\x03account0"))
                assert len(rows.values) == ACCOUNTS, rows
                return sum(int(value) for value in rows.values)

            status, total = await client.transact(read)
            if status == "ok":
                totals.append(total)
            return
        source, target = client.rng.sample(keys, 2)

        async def move(txn: Transaction) -> None:
            lock = Lock.EXCLUSIVE if client.rng.random() < 0.5 else Lock.NONE
            one = int(await value_of(txn.get(source, lock)))
            other = int(await value_of(txn.get(target, lock)))
            amount = client.rng.randrange(1, 10)
            txn.put(source, b"%d" % (one - amount))
            txn.put(target, b"%d" % (other + amount))

        await client.transact(move)

    run(cluster, operate, keys)
    assert totals
    assert set(totals) == {ACCOUNTS * START}, sorted(set(totals))
