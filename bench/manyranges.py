"""What many ranges cost: three ``meridian start --join`` on this machine.

    python -m bench.manyranges idle --ranges 10000 --seconds 60 --port 21600 --directory DIR

Makes the ranges by ALTER TABLE .. SPLIT AT on a replicated table, waits until the cluster is at rest, and prints,
per node, the share of one core it uses and its resident memory; splits and up-replication are timed on the way.
Before and after, the same transactions are timed: UPDATE of one row, over all ranges and over few of them.
CPU times are user and system time of the processes, so what else the machine does changes them little.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg

ROOT = Path(__file__).parents[1]
NODES = 3
SPLITS_PER_STATEMENT = 1_000
REST_SECONDS_MAX = 1_800.0
TRANSACTIONS = 2_000


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.manyranges")
    parser.add_argument("what", choices=["idle"])
    parser.add_argument("--ranges", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--port", type=int, default=26_300)
    parser.add_argument("--directory", type=Path, required=True)
    options = parser.parse_args()
    cluster = Cluster(options.directory, options.port)
    try:
        idle(cluster, options.ranges, options.seconds)
    finally:
        cluster.stop()


class Cluster:
    """Three nodes as processes."""

    def __init__(self, directory: Path, port: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.ports = [port + 10 * i for i in range(NODES)]
        self.processes: list[subprocess.Popen[bytes]] = []
        for i, own in enumerate(self.ports):
            arguments = ["--store", str(directory / f"n{i + 1}"), "--listen", f"127.0.0.1:{own}", "--insecure"]
            arguments += ["--http", f"127.0.0.1:{own + 1}", "--rpc", f"127.0.0.1:{own + 2}", "--cache-mb", "32"]
            arguments += ["--join", f"127.0.0.1:{port + 2}"] if i else []
            log = (directory / f"n{i + 1}.log").open("wb")
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "node.cli", "start", *arguments], cwd=ROOT, stdout=log, stderr=log
                )
            )
            self.connect(i).close()

    def connect(self, node: int) -> psycopg.Connection[Any]:
        """Returns a connection to a node, once it answers."""
        deadline = time.monotonic() + 60.0
        while True:
            try:
                return psycopg.connect(
                    f"postgresql://root@127.0.0.1:{self.ports[node]}/defaultdb?sslmode=disable", autocommit=True
                )
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def cpu_seconds(self) -> list[float]:
        """Returns user and system time of every node so far."""
        ticks = os.sysconf("SC_CLK_TCK")
        found = []
        for process in self.processes:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            found.append((int(fields[11]) + int(fields[12])) / ticks)
        return found

    def memory_mib(self) -> list[float]:
        """Returns the resident memory of every node."""
        page = os.sysconf("SC_PAGE_SIZE")
        return [
            int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * page / 2**20 for process in self.processes
        ]

    def stop(self) -> None:
        """Ends the processes that were started here."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(30.0)
            except subprocess.TimeoutExpired:
                process.kill()


def idle(cluster: Cluster, ranges: int, seconds: float) -> None:
    """Prints what ranges that nobody uses cost."""
    with cluster.connect(0) as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
        connection.execute(f"INSERT INTO t SELECT i * 10, 'x' FROM generate_series(0, {ranges - 1}) i")
        rest(cluster, 3)
        report(cluster, "few ranges", min(seconds, 20.0))
        cost(cluster, connection, ranges)
        before = cluster.cpu_seconds()
        began = time.monotonic()
        for first in range(1, ranges, SPLITS_PER_STATEMENT):
            keys = ", ".join([f"({i * 10})" for i in range(first, min(first + SPLITS_PER_STATEMENT, ranges))])
            connection.execute(f"ALTER TABLE t SPLIT AT VALUES {keys}")
            print(f"{first + SPLITS_PER_STATEMENT - 1} splits, {time.monotonic() - began:.1f} s", flush=True)
        spent = [after - old for after, old in zip(cluster.cpu_seconds(), before)]
        print("split cpu s", [round(x, 1) for x in spent], "per split ms", [round(1e3 * x / ranges, 2) for x in spent])
        rest(cluster, 3)
        report(cluster, f"{ranges} ranges", seconds)
        cost(cluster, connection, ranges)


def cost(cluster: Cluster, connection: psycopg.Connection[Any], ranges: int) -> None:
    """Prints the processor time of all nodes for a transaction."""
    update = "UPDATE t SET v = 'y' WHERE id = %s"
    for what, places in (("over all", ranges), ("over ten", 10)):
        for i in range(places):
            connection.execute("SELECT v FROM t WHERE id = %s", (i * 10,))  # Routes are known then.
        before = cluster.cpu_seconds()
        for i in range(TRANSACTIONS):
            connection.execute(update, (i * 7919 % places * 10,))
        used = [1e6 * (after - old) / TRANSACTIONS for after, old in zip(cluster.cpu_seconds(), before)]
        print(f"UPDATE {what}: {sum(used):.0f} us a transaction", [round(x) for x in used], flush=True)


def rest(cluster: Cluster, looks: int) -> None:
    """Waits until the nodes' use of the processors no longer falls."""
    began = time.monotonic()
    before = cluster.cpu_seconds()
    least, steady = 1e9, 0
    while steady < looks and time.monotonic() - began < REST_SECONDS_MAX:
        time.sleep(5.0)
        after = cluster.cpu_seconds()
        used = sum(after) - sum(before)
        before = after
        steady = steady + 1 if used > 0.9 * least else 0
        least = min(least, used)
    print(f"at rest after {time.monotonic() - began:.0f} s", flush=True)


def report(cluster: Cluster, what: str, seconds: float) -> None:
    """Prints the share of a core and the memory of each node over a while."""
    before = cluster.cpu_seconds()
    began = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    used = [100 * (after - old) / took for after, old in zip(cluster.cpu_seconds(), before)]
    print(what, "cpu %", [round(x, 2) for x in used], "MiB", [round(x) for x in cluster.memory_mib()], flush=True)


if __name__ == "__main__":
    main()
