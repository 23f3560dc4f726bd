"""Nodes that were all started with --join wait until one of them is told to found the cluster."""

from __future__ import annotations

import functools
import random
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from base.errors import CallFailed, PeerUnavailable, SqlError
from kvtier.engine.memory import MemoryEngine
from kvtier.opening import is_fresh
from node.waiting import (
    CLAIM,
    FOUNDED,
    GRANTED,
    INIT,
    INIT_CHANNEL,
    JOIN_CHANNEL,
    MEMBER,
    PROMISE_SECONDS,
    RELEASE,
    Waiting,
    answer_as_member,
)
from sim.loop import Loop
from sim.streams import Streams
from tests.node.processes import ROOT, environment, meridian

SECONDS_MAX = 90.0


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Starting:
    """A ``meridian start`` that need not serve yet."""

    def __init__(self, directory: Path, number: int, ports: list[int]) -> None:
        self.log = directory / f"n{number}.log"
        self.rpc = f"127.0.0.1:{ports[number]}"
        join = ",".join([f"127.0.0.1:{port}" for port in ports])
        arguments = ["--insecure", "--store", str(directory / f"n{number}"), "--listen", "127.0.0.1:0", "--http", ""]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "node.cli", "start", *arguments, "--rpc", self.rpc, "--join", join],
                cwd=ROOT,
                env=environment(),
                stdout=log,
                stderr=log,
            )

    def printed(self, pattern: str) -> str:
        """Waits until the node has printed something."""
        deadline = time.monotonic() + SECONDS_MAX
        while True:
            found = re.search(pattern, self.log.read_text())
            if found:
                return found[0] if not found.groups() else found[1]
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)


def test_a_cluster_is_initialized_once_and_by_any_node(tmp_path: Path) -> None:
    ports = free_ports(3)
    nodes = [Starting(tmp_path, number, ports) for number in range(3)]
    try:
        for node in nodes:
            node.printed("waiting for a cluster")
        done = meridian("init", "--insecure", "--rpc", nodes[1].rpc)
        assert done.returncode == 0, done.stderr
        assert "the cluster is initialized" in done.stdout
        dsns = [node.printed(r'psql "([^"]+)"') for node in nodes]
        for node in nodes:
            again = meridian("init", "--insecure", "--rpc", node.rpc)
            assert again.returncode == 1
            assert "the cluster is initialized already" in again.stderr
        assert nodes[1].printed(r"nodes +\S+, node (\d+)") == "1"
        for dsn in dsns:
            with psycopg.connect(dsn, autocommit=True) as connection:
                rows = connection.execute("SHOW NODES").fetchall()
            assert [row[0] for row in rows] == [1, 2, 3], rows
    finally:
        for node in nodes:
            node.process.kill()
            node.process.wait()


def test_of_two_nodes_told_at_once_one_founds_the_cluster(tmp_path: Path) -> None:
    """Each founded one of its own before, and the third joined either."""
    ports = free_ports(3)
    nodes = [Starting(tmp_path, number, ports) for number in range(3)]
    try:
        for node in nodes:
            node.printed("waiting for a cluster")
        with ThreadPoolExecutor(2) as pool:
            told = [pool.submit(meridian, "init", "--insecure", "--rpc", node.rpc) for node in nodes[1:]]
        done = sorted([each.result() for each in told], key=lambda each: each.returncode)
        assert [each.returncode for each in done] == [0, 1], done
        # Refused, too late, or asked while the node that had waited became one of the cluster.
        reasons = ("less than a minute ago", "initialized already", "is unavailable")
        assert any([reason in done[1].stderr for reason in reasons]), done[1].stderr
        for dsn in [node.printed(r'psql "([^"]+)"') for node in nodes]:
            with psycopg.connect(dsn, autocommit=True) as connection:
                rows = connection.execute("SHOW NODES").fetchall()
            assert [row[0] for row in rows] == [1, 2, 3], rows
    finally:
        for node in nodes:
            node.process.kill()
            node.process.wait()


def test_a_node_that_waits_can_be_stopped_and_init_needs_a_node(tmp_path: Path) -> None:
    ports = free_ports(2)
    node = Starting(tmp_path, 0, ports)
    try:
        node.printed("waiting for a cluster")
        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(timeout=SECONDS_MAX) == 0, node.log.read_text()
    finally:
        node.process.kill()
        node.process.wait()
    done = meridian("init", "--insecure", "--rpc", node.rpc)
    assert done.returncode == 1
    assert "Is a node running there" in done.stderr
    assert meridian("init", "--rpc", node.rpc).returncode == 2


def waiting(answers: dict[tuple[str, str], bytes | Exception], notes: list[str]) -> tuple[Waiting, Loop, MemoryEngine]:
    """A node that waits among peers that answer by (address, channel)."""
    loop, engine = Loop(1), MemoryEngine()

    async def ask(address: str, channel: str, message: bytes) -> bytes:
        await loop.main.clock.sleep(0.1)
        answer = answers.get((address, channel), PeerUnavailable(0, f"{address} is down"))
        if isinstance(answer, Exception):
            raise answer
        return answer

    made = Waiting(engine, ["a", "b"], ask, loop.main.clock, Streams(1).stream("rng"), notes.append)
    return made, loop, engine


def test_it_says_why_it_waits_when_that_changes_and_founds_when_told() -> None:
    notes: list[str] = []
    answers: dict[tuple[str, str], bytes | Exception] = {}
    made, loop, engine = waiting(answers, notes)

    async def main() -> None:
        running = loop.main.spawn(made.run(lambda: False), "waiting")
        await loop.main.clock.sleep(10)
        assert notes == ["a: node 0 is unavailable: a is down; b: node 0 is unavailable: b is down"]
        answers["a", JOIN_CHANNEL] = CallFailed("waits, too", sqlstate="55000")
        await loop.main.clock.sleep(10)
        assert notes[1:] == ["a: waits, too; b: node 0 is unavailable: b is down"]
        handlers = made.handlers()
        assert await handlers[INIT_CHANNEL](CLAIM + b"ticket") == GRANTED
        with pytest.raises(SqlError, match="less than a minute ago"):
            await handlers[INIT_CHANNEL](INIT)
        await handlers[INIT_CHANNEL](RELEASE + b"ticket")
        assert await handlers[INIT_CHANNEL](INIT) == FOUNDED
        assert not is_fresh(engine)
        assert await running
        assert await handlers[INIT_CHANNEL](CLAIM + b"ticket") == MEMBER

    loop.run(main())


def test_it_founds_nothing_while_it_hears_of_a_cluster_or_was_told_before() -> None:
    answers: dict[tuple[str, str], bytes | Exception] = {("b", INIT_CHANNEL): MEMBER}
    made, loop, engine = waiting(answers, [])

    async def told() -> str:
        try:
            await made.handlers()[INIT_CHANNEL](INIT)
        except SqlError as failure:
            return failure.message
        return ""

    async def main() -> None:
        assert "b belongs to it" in await told()
        assert is_fresh(engine)
        answers["b", INIT_CHANNEL] = GRANTED
        assert await told() == ""
        assert "initialized already" in await told()

    loop.run(main())


class Crowd:
    """Nodes that wait for each other's cluster; what is asked takes a while, or is never delivered."""

    def __init__(self, seed: int, count: int, is_lossy: bool) -> None:
        self.rng = random.Random(seed)
        self.loop = Loop(seed)
        self.engines = [MemoryEngine() for _ in range(count)]
        self.nodes = []
        self.down = {
            (one, other): is_lossy and self.rng.random() < 0.3 for one in range(count) for other in range(count)
        }
        for number in range(count):
            addresses = [str(other) for other in range(count)]
            self.rng.shuffle(addresses)
            rng = Streams(seed * 10 + number).stream("rng")
            asking = functools.partial(self.ask, number)
            clock = self.loop.main.clock
            self.nodes.append(Waiting(self.engines[number], addresses, asking, clock, rng, lambda why: None))

    async def ask(self, asker: int, address: str, channel: str, message: bytes) -> bytes:
        sleep = self.loop.main.clock.sleep
        if self.down[asker, int(address)]:
            await sleep(self.rng.random())
            raise PeerUnavailable(0, f"{address} is down")
        await sleep(self.rng.random() * 0.1)
        try:
            if not is_fresh(self.engines[int(address)]):
                answer = await answer_as_member(message)
            else:
                answer = await self.nodes[int(address)].handlers()[channel](message)
        except SqlError as refusal:
            raise CallFailed(refusal.message, sqlstate=refusal.sqlstate) from None
        await sleep(self.rng.random() * 0.1)
        return answer

    async def tell(self, number: int) -> None:
        """``meridian init`` at a random moment."""
        await self.loop.main.clock.sleep(self.rng.random() * 0.3)
        try:
            await self.nodes[number].handlers()[INIT_CHANNEL](INIT)
        except SqlError:
            pass

    def founders(self) -> int:
        return sum([not is_fresh(engine) for engine in self.engines])


@pytest.mark.parametrize("seed", range(40))
def test_all_told_at_once_found_one_cluster(seed: int) -> None:
    crowd = Crowd(seed, 3, False)

    async def main() -> None:
        scope = crowd.loop.main
        for task in [scope.spawn(crowd.tell(number), "init") for number in range(3)]:
            await task
        assert crowd.founders() == 1

    crowd.loop.run(main())


@pytest.mark.parametrize("seed", range(40))
def test_where_some_hear_nothing_of_others_no_two_clusters_are_founded(seed: int) -> None:
    """All reach the last one, and themselves."""
    crowd = Crowd(seed, 5, True)
    for asker, other in crowd.down:
        if other in (asker, 4):
            crowd.down[asker, other] = False

    async def main() -> None:
        scope = crowd.loop.main
        for task in [scope.spawn(crowd.tell(number), "init") for number in range(5)]:
            await task
        assert crowd.founders() <= 1
        if not crowd.founders():
            await scope.clock.sleep(PROMISE_SECONDS)
            await crowd.tell(4)
            assert crowd.founders() == 1

    crowd.loop.run(main())
