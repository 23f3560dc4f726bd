"""Microseconds of server CPU per statement, without sockets, on the pure and the compiled tree.

    python -m bench.inprocess [--tree pure|compiled|both] [--profile TEST] [--seconds 1] [--engine memory|rocks]

A whole node runs in this process and messages are handed to its connection as the socket would.
A number is the least of ROUNDS: the machine can only add to it.  Transactions that write wait
for their sync, so the CPU time of the process is counted there, with all its threads.

    select      Bind, Describe, Execute, Sync of a prepared point SELECT
    simple      the same as a Query message, each with another constant
    update      BEGIN, a prepared UPDATE of one row, COMMIT
    new-order   BEGIN, 3 reads (one FOR UPDATE), an update, 2 inserts,
                10 times 2 reads (one FOR UPDATE), an update and an insert, COMMIT

and those of ``bench.ranges``.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import pstats
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
ROUNDS = 10
ROWS = 10_000
LINES_PER_ORDER = 10

SCHEMA = (
    "CREATE TABLE accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84))",
    f"INSERT INTO accounts SELECT i, 1, 0, '' FROM generate_series(1, {ROWS}) i",
    "CREATE TABLE district (d_id int PRIMARY KEY, d_tax numeric(4,4), d_next_o_id int)",
    "INSERT INTO district SELECT i, 0.05, 1 FROM generate_series(1, 10) i",
    "CREATE TABLE stock (s_i_id int PRIMARY KEY, s_quantity int, s_ytd int, s_dist text)",
    f"INSERT INTO stock SELECT i, 50, 0, 'abcdefghijklmnopqrstuvwx' FROM generate_series(1, {ROWS}) i",
    "CREATE TABLE item (i_id int PRIMARY KEY, i_name text, i_price numeric(5,2))",
    f"INSERT INTO item SELECT i, 'item', 9.99 FROM generate_series(1, {ROWS}) i",
    "CREATE TABLE orders (o_d_id int, o_id int, o_c_id int, o_ol_cnt int, PRIMARY KEY (o_d_id, o_id))",
    "CREATE TABLE new_order (no_d_id int, no_o_id int, PRIMARY KEY (no_d_id, no_o_id))",
    "CREATE TABLE order_line (ol_d_id int, ol_o_id int, ol_number int, ol_i_id int, ol_quantity int, ol_amount numeric(6,2),"
    " PRIMARY KEY (ol_d_id, ol_o_id, ol_number))",
)
STATEMENTS = {
    b"begin": b"BEGIN",
    b"commit": b"COMMIT",
    b"rollback": b"ROLLBACK",
    b"select": b"SELECT abalance FROM accounts WHERE aid = $1",
    b"update": b"UPDATE accounts SET abalance = abalance + $1 WHERE aid = $2",
    b"tax": b"SELECT d_tax FROM district WHERE d_id = $1",
    b"next": b"SELECT d_next_o_id FROM district WHERE d_id = $1 FOR UPDATE",
    b"bump": b"UPDATE district SET d_next_o_id = d_next_o_id + 1 WHERE d_id = $1",
    b"order": b"INSERT INTO orders VALUES ($1, $2, $3, 10)",
    b"new": b"INSERT INTO new_order VALUES ($1, $2)",
    b"item": b"SELECT i_price, i_name FROM item WHERE i_id = $1",
    b"stock": b"SELECT s_quantity, s_dist FROM stock WHERE s_i_id = $1 FOR UPDATE",
    b"take": b"UPDATE stock SET s_quantity = $1, s_ytd = s_ytd + 5 WHERE s_i_id = $2",
    b"line": b"INSERT INTO order_line VALUES ($1, $2, $3, $4, 5, 49.95)",
}


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def parse(name: bytes, sql: bytes) -> bytes:
    return message(b"P", name + b"\0" + sql + b"\0\0\0")


TAIL = message(b"D", b"P\0") + message(b"E", b"\0\0\0\0\0") + message(b"S", b"")


def call(name: bytes, *parameters: int) -> bytes:
    """Bind, Describe, Execute and Sync of a prepared statement, parameters as text."""
    body = b"\0" + name + b"\0\0\0" + struct.pack("!H", len(parameters))
    for parameter in parameters:
        text = b"%d" % parameter
        body += struct.pack("!i", len(text)) + text
    return message(b"B", body + b"\0\0") + TAIL


class Driver:
    """One client of the node in this process; a server error ends the run."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._connection = client.connection
        self._received = client.io.received
        self._order = 0
        keys = [1 + i * 7 % ROWS for i in range(ROWS)]
        self._selects = [call(b"select", key) for key in keys]
        self._simples = [message(b"Q", b"SELECT abalance FROM accounts WHERE aid = %d\0" % key) for key in keys]

    def now(self, sent: bytes) -> None:
        """A message whose answer is there when the call returns."""
        self._connection.data_received(sent)
        received = self._received
        assert received[-6:-1] == b"Z\0\0\0\5", bytes(received)
        received.clear()

    async def later(self, sent: bytes) -> None:
        """A message whose answer may wait for a sync."""
        self._connection.data_received(sent)
        answers = await self._client.until_ready()
        assert all(kind != "E" for kind, _ in answers), answers

    async def select(self, i: int) -> None:
        self.now(self._selects[i % ROWS])

    async def simple(self, i: int) -> None:
        self.now(self._simples[i % ROWS])

    async def update(self, i: int) -> None:
        self.now(call(b"begin"))
        self.now(call(b"update", i, 1 + i * 7 % ROWS))
        await self.later(call(b"commit"))

    async def new_order(self, i: int) -> None:
        self._order += 1
        district, order = 1 + i % 10, self._order
        self.now(call(b"begin"))
        self.now(call(b"tax", district))
        self.now(call(b"select", 1 + i % ROWS))
        self.now(call(b"next", district))
        self.now(call(b"bump", district))
        self.now(call(b"order", district, order, i))
        self.now(call(b"new", district, order))
        for number in range(LINES_PER_ORDER):
            item = 1 + (i * 31 + number * 977) % ROWS
            self.now(call(b"item", item))
            self.now(call(b"stock", item))
            self.now(call(b"take", 10 + number, item))
            self.now(call(b"line", district, order, number, item))
        await self.later(call(b"commit"))


async def per_call_us(run: Callable[[int], Awaitable[None]], seconds: float) -> float:
    """Returns the least CPU time of one call, over rounds of about ``seconds`` / ROUNDS."""
    done, started = 0, time.process_time()
    while time.process_time() - started < seconds / ROUNDS:
        await run(done)
        done += 1
    best = float("inf")
    for round_number in range(1, ROUNDS + 1):
        started = time.process_time()
        for i in range(round_number * done, (round_number + 1) * done):
            await run(i)
        best = min(best, (time.process_time() - started) / done)
    return best * 1e6


async def measure(scheduler: Any, arguments: argparse.Namespace, directory: str) -> None:
    from bench import ranges
    from kvtier.engine.memory import MemoryEngine
    from kvtier.engine.rocks import RocksEngine
    from node.process import Node, NodeSettings
    from node.world import SystemClock, SystemRng
    from tests.inprocess import Client

    engine = MemoryEngine() if arguments.engine == "memory" else RocksEngine(directory + "/store")
    bugs: list[str] = []
    node = Node(
        engine,
        SystemClock(),
        SystemRng(),
        scheduler,
        NodeSettings(insecure=True),
        log_bug=lambda _, text: bugs.append(text),
    )
    await node.open()
    client = Client(node)
    await client.until_ready()
    for sql in SCHEMA:
        await client.run(sql)
    driver = Driver(client)
    for name, sql_bytes in STATEMENTS.items():
        await driver.later(parse(name, sql_bytes) + message(b"S", b""))
    tests = {"select": driver.select, "simple": driver.simple, "update": driver.update, "new-order": driver.new_order}
    wanted = [name for name in (arguments.only or arguments.profile).split(",") if name]
    if not wanted or any(name not in tests for name in wanted):
        tests |= await ranges.prepare(client, driver)
    if arguments.profile:
        profile = cProfile.Profile()
        profile.enable()
        await per_call_us(tests[arguments.profile], arguments.seconds)
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(50)
    else:
        for test, run in tests.items():
            if wanted and test not in wanted:
                continue
            print(f"{test} {await per_call_us(run, arguments.seconds):.1f}", flush=True)
    assert not bugs, bugs[0]
    await asyncio.sleep(0)


def run_here(arguments: argparse.Namespace) -> None:
    """Measures the tree this interpreter imports."""
    from node.world import run

    with tempfile.TemporaryDirectory() as directory:
        run(lambda scheduler: measure(scheduler, arguments, directory))


def run_tree(tree: str, argv: list[str]) -> dict[str, float]:
    """Measures one tree in an interpreter of its own."""
    path = f"{ROOT}/build/compiled:{ROOT}" if tree == "compiled" else str(ROOT)
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": path, "MERIDIAN_BENCH_CHILD": "1"}
    command = [sys.executable, "-m", "bench.inprocess", *argv]
    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    if "--profile" in " ".join(argv):
        print(output)
        return {}
    return {name: float(us) for name, us in (line.split() for line in output.splitlines())}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tree", choices=("pure", "compiled", "both"), default="both")
    parser.add_argument("--profile", default="", help="one test: a profile instead of numbers")
    parser.add_argument("--only", default="", help="tests to run, with commas between; all of them otherwise")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--engine", choices=("memory", "rocks"), default="rocks")
    arguments = parser.parse_args()
    if os.environ.get("MERIDIAN_BENCH_CHILD"):
        run_here(arguments)
        return 0
    trees = ["pure", "compiled"] if arguments.tree == "both" else [arguments.tree]
    found = {tree: run_tree(tree, sys.argv[1:]) for tree in trees}
    for test in found[trees[0]]:
        print(f"{test:12}", *(f"{tree} {found[tree][test]:8.1f} us" for tree in trees))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
