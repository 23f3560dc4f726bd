"""Three real nodes on loopback: they find each other, answer alike, and lose nothing when one is killed."""

from __future__ import annotations

import re
import threading
import time

import psycopg

from tests.node.processes import meridian
from tests.real.nodes import WAIT_SECONDS_MAX, Nodes, wait_for_replicas

ACCOUNTS = 8
START = 100
KILL_SECONDS_MAX = 60.0
"""How long a range may be without a leaseholder here: some seconds, and as many more as a loaded machine adds."""


def start_three(nodes: Nodes) -> None:
    """Starts three nodes with accounts that each has a copy of."""
    nodes.start(1)
    with nodes.connect(1) as connection:
        connection.execute("CREATE TABLE account (id int PRIMARY KEY, balance int)")
        connection.execute(f"INSERT INTO account SELECT g, {START} FROM generate_series(1, {ACCOUNTS}) g")
    nodes.start(2)
    nodes.start(3)
    wait_for_replicas(nodes, "1,2,3")


def total(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT sum(balance)::int FROM account").fetchone()
    assert row is not None
    return int(row[0])


def move(connection: psycopg.Connection, source: int, target: int) -> bool:
    """One transfer; False if it was refused or its outcome is unknown."""
    try:
        with connection.transaction():
            connection.execute("UPDATE account SET balance = balance - 1 WHERE id = %s", (source,))
            connection.execute("UPDATE account SET balance = balance + 1 WHERE id = %s", (target,))
    except psycopg.Error:
        return False
    return True


def test_any_node_answers_and_a_killed_one_is_not_missed(nodes: Nodes) -> None:
    nodes.start(1)
    with nodes.connect(1) as connection:
        connection.execute('ALTER DATABASE defaultdb PRIMARY REGION "r1"')
        connection.execute("CREATE TABLE account (id int PRIMARY KEY, balance int)")
        connection.execute("CREATE TABLE journal (id int PRIMARY KEY)")
        connection.execute(f"INSERT INTO account SELECT g, {START} FROM generate_series(1, {ACCOUNTS}) g")
    nodes.start(2)
    nodes.start(3)
    wait_for_replicas(nodes, "1,2,3")
    for number in (1, 2, 3):
        with nodes.connect(number) as connection:
            for row in connection.execute("SHOW RANGES FROM TABLE account").fetchall():
                assert row[4] == 1  # The lease stays where the database is at home.
                assert row[5:8] == (f"region=r{row[4]}", "1,2,3", ["region=r1", "region=r2", "region=r3"])
            assert connection.execute("SELECT gateway_region()").fetchall() == [(f"r{number}",)]
            assert total(connection) == ACCOUNTS * START
            assert move(connection, number, number + 1)
    with nodes.connect(2) as connection:
        connection.execute("CREATE TABLE late (id int)")
    with nodes.connect(3) as connection:
        connection.execute("INSERT INTO late VALUES (1)")

    acknowledged: list[int] = []
    with nodes.connect(2) as connection:
        for number in range(20):
            connection.execute("INSERT INTO journal VALUES (%s)", (number,))
            acknowledged.append(number)
        nodes.kill(1)
        deadline = time.monotonic() + KILL_SECONDS_MAX
        number = 20
        while len(acknowledged) < 40:
            assert time.monotonic() < deadline, f"{len(acknowledged)} rows"
            number += 1
            try:
                connection.execute("INSERT INTO journal VALUES (%s)", (number,))
            except psycopg.Error:
                continue
            acknowledged.append(number)
        assert total(connection) == ACCOUNTS * START
    with nodes.connect(3) as connection:
        rows = {row[0] for row in connection.execute("SELECT id FROM journal").fetchall()}
        assert set(acknowledged) <= rows
        assert move(connection, 1, 8)
        assert total(connection) == ACCOUNTS * START


class Transfers(threading.Thread):
    """Moves money through one of the nodes that serve, again and again, as an application behind a balancer does."""

    def __init__(self, nodes: Nodes, serving: dict[int, None], seed: int) -> None:
        super().__init__(daemon=True)
        self.nodes = nodes
        self.serving = serving
        self.seed = seed
        self.done = 0
        self.retries = 0
        self.slowest_seconds = 0.0
        self.failures: list[str] = []
        self.is_over = False

    def run(self) -> None:
        number = 0
        while not self.is_over:
            number += 1
            node = list(self.serving)[number % len(self.serving)]
            try:
                connection = self.nodes.connect(node)
            except psycopg.OperationalError:
                continue  # It closed its port in this moment: the balancer takes another.
            with connection:
                self.work(connection, node)

    def work(self, connection: psycopg.Connection, node: int) -> None:
        """As long as the node is among those that serve."""
        while not self.is_over and node in self.serving:
            source, target = self.seed, (self.seed + self.done) % ACCOUNTS + 1
            began = time.monotonic()
            try:
                with connection.transaction():
                    connection.execute("UPDATE account SET balance = balance - 1 WHERE id = %s", (source,))
                    connection.execute("UPDATE account SET balance = balance + 1 WHERE id = %s", (target,))
                self.done += 1
                self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)
            except psycopg.errors.SerializationFailure:
                self.retries += 1
            except psycopg.errors.DeadlockDetected:
                self.retries += 1  # These transactions lock in any order: theirs, not the restart's.
            except psycopg.Error as problem:
                self.failures.append(f"{problem.sqlstate} {problem}")
                return


def test_a_rolling_restart_fails_nothing(nodes: Nodes) -> None:
    start_three(nodes)
    serving = dict.fromkeys([1, 2, 3])
    threads = [Transfers(nodes, serving, seed) for seed in (1, 2, 3)]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    for number in (1, 2, 3):
        before = [thread.done for thread in threads]
        del serving[number]
        time.sleep(0.5)
        nodes.stop(number)
        nodes.start(number)
        serving[number] = None
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while any(thread.done < count + 5 for thread, count in zip(threads, before)):
            assert time.monotonic() < deadline, [thread.failures for thread in threads]
            time.sleep(0.05)
    for thread in threads:
        thread.is_over = True
        thread.join(WAIT_SECONDS_MAX)
    assert [thread.failures for thread in threads] == [[], [], []]
    with nodes.connect(2) as connection:
        assert total(connection) == ACCOUNTS * START


def test_a_node_is_drained_and_another_decommissioned(nodes: Nodes) -> None:
    start_three(nodes)
    dsn = nodes.running[1].dsn
    refused = meridian("node", "decommission", "3", "--dsn", dsn)
    assert refused.returncode == 1
    assert "3 nodes are needed and 2 would be left" in refused.stderr
    assert "does not exist" in meridian("node", "drain", "9", "--dsn", dsn).stderr

    assert meridian("node", "drain", "2", "--wait", "--dsn", dsn, seconds=WAIT_SECONDS_MAX).returncode == 0
    assert nodes.running[2].process.wait(timeout=WAIT_SECONDS_MAX) == 0
    lines = meridian("node", "status", "--dsn", dsn).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["id", "1", "2", "3"]
    assert " no " in lines[2]
    nodes.start(2)

    nodes.start(4)
    done = meridian("node", "decommission", "3", "--wait", "--dsn", dsn, seconds=2 * WAIT_SECONDS_MAX)
    assert done.returncode == 0, done.stderr
    assert "node 3 is decommissioned" in done.stdout
    wait_for_replicas(nodes, "1,2,4")
    nodes.stop(3)
    status = meridian("node", "status", "--dsn", dsn).stdout
    assert re.search(r"^3 .*decommissioned +0", status, re.MULTILINE), status
    with nodes.connect(4) as connection:
        assert total(connection) == ACCOUNTS * START
