"""A cluster of three nodes on this machine against one node, and what a cluster does besides.

    python -m bench.cluster [--seconds 10] [--rows 200000] [--only throughput,wan,failover,snapshots,growth] [--write]

    throughput   one node and three: updates of single rows and a small TPC-C; rate, and the processor time of all nodes
                 for each transaction, which a busy machine changes less
    wan          a commit at home in one of three regions, in round trips to the nearest other
    failover     the leaseholder is killed: seconds without a commit
    snapshots    two nodes join one with a large range: bytes a second of rows
    growth       two nodes join one with many ranges, then a fourth: replicas a second

``--write`` puts the table between the markers of bench/RESULTS.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg

from node.laptop.cluster import DEAD, Laptop, LaptopNode
from node.laptop.command import DEMO_RTT_MS, _matrix

RESULTS: Final = Path(__file__).parent / "RESULTS.md"
BEGIN: Final = "<!-- bench.cluster -->"
END: Final = "<!-- /bench.cluster -->"
CLIENTS: Final = 4
ACCOUNTS: Final = 1_000
TPCC_DIVISOR: Final = 20
SETTLE_SECONDS_MAX: Final = 300.0
RANGES: Final = 24
SHARE: Final = RANGES * 3 // 4 // 2
"""Replicas that are waited for: half of a fair share, because balancing ends where it stops to pay."""
ROW_BYTES: Final = 280
"""Key and value of a row that is loaded, about."""
FAILOVERS: Final = 3
REGIONS: Final = ("us-east", "eu-west", "ap-south")
PRIMARY_RTT_MS: Final = min(DEMO_RTT_MS["us-east"].values())
TICKS: Final = os.sysconf("SC_CLK_TCK")

Row = tuple[str, str]
"""What was measured, and the figure."""


@contextmanager
def running(regions: tuple[str, ...], per_region: int, count: int, latency: str = "off") -> Iterator[Laptop]:
    """The first ``count`` nodes of a cluster."""
    with tempfile.TemporaryDirectory(prefix="bench-cluster-") as scratch:
        directory = Path(scratch)
        _, source = _matrix(latency, regions, directory)
        laptop = Laptop(directory, regions, per_region, source)
        try:
            laptop.restart(laptop.nodes[:1])
            if count > 1:
                laptop.restart(laptop.nodes[1:count])
            yield laptop
        finally:
            laptop.stop()


def run(node: LaptopNode, *statements: str) -> list[tuple[Any, ...]]:
    """Returns the rows of the last statement."""
    rows: list[tuple[Any, ...]] = []
    with psycopg.connect(node.dsn, autocommit=True, prepare_threshold=None) as connection:
        for statement in statements:
            cursor = connection.execute(statement)  # type: ignore[call-overload]  # our own text
            rows = cursor.fetchall() if cursor.description is not None else []
    return rows


def until(what: str, condition: Callable[[], bool]) -> float:
    """Returns the seconds until something is so."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > SETTLE_SECONDS_MAX:
            raise TimeoutError(f"{what}: not within {SETTLE_SECONDS_MAX:g} s")
        time.sleep(0.2)
    return time.monotonic() - began


def voters(node: LaptopNode, table: str) -> list[list[int]]:
    """Returns the nodes with a voting replica, range by range of a table."""
    with psycopg.connect(node.dsn, autocommit=True, row_factory=psycopg.rows.dict_row) as connection:
        found = connection.execute(f"SHOW RANGES FROM TABLE {table}").fetchall()
    return [[int(node_id) for node_id in row["replicas"].split(",")] for row in found]


def cpu_seconds(laptop: Laptop) -> float:
    """Processor time of all nodes so far."""
    total = 0
    for node in laptop.nodes:
        if node.process is not None and node.process.poll() is None:
            words = Path(f"/proc/{node.process.pid}/stat").read_text().rpartition(")")[2].split()
            total += int(words[11]) + int(words[12])
    return total / TICKS


# --- throughput ------------------------------------------------------------------------


def updates(laptop: Laptop, count: int, seconds: float) -> tuple[float, float]:
    """Returns (transactions a second, milliseconds of processor time each) of single-row updates over all nodes."""
    done = [0] * CLIENTS
    stopped = threading.Event()

    def work(at: int) -> None:
        rng = random.Random(at)  # which accounts, nothing secret
        with psycopg.connect(laptop.nodes[at % count].dsn, autocommit=True, prepare_threshold=0) as connection:
            while not stopped.is_set():
                try:
                    connection.execute("UPDATE account SET n = n + 1 WHERE id = %s", (rng.randrange(ACCOUNTS),))
                except psycopg.errors.SerializationFailure:
                    continue
                done[at] += 1

    threads = [threading.Thread(target=work, args=(at,)) for at in range(CLIENTS)]
    before, began = cpu_seconds(laptop), time.monotonic()
    for thread in threads:
        thread.start()
    stopped.wait(seconds)
    stopped.set()
    for thread in threads:
        thread.join()
    taken, spent = time.monotonic() - began, cpu_seconds(laptop) - before
    return sum(done) / taken, 1000 * spent / max(sum(done), 1)


def tpcc(laptop: Laptop, count: int, seconds: int) -> tuple[float, float]:
    """Returns (tpmC, milliseconds of processor time a transaction) of a small TPC-C."""
    command = [sys.executable, "-m", "node.cli", "tpcc"]
    dsns = [word for node in laptop.nodes[:count] for word in ("--dsn", node.dsn)]
    load = ["load", *dsns[:2], "--processes", "1", "--non-compliant-scale-divisor", str(TPCC_DIVISOR)]
    subprocess.run([*command, *load], check=True, stdout=subprocess.DEVNULL)
    before = cpu_seconds(laptop)
    output = laptop.nodes[0].directory / "tpcc"
    arguments = [
        "run",
        *dsns,
        "--connections",
        str(CLIENTS),
        "--processes",
        "1",
        "--duration",
        str(seconds),
        "--ramp",
        "0",
    ]
    subprocess.run([*command, *arguments, "--no-check", "--output", str(output)], check=True, stdout=subprocess.DEVNULL)
    result = json.loads((output / "result.json").read_text())
    completed = sum(one["completed"] for one in result["types"])
    return result["tpmc"], 1000 * (cpu_seconds(laptop) - before) / max(completed, 1)


def loads(arguments: argparse.Namespace, count: int) -> list[tuple[float, float]]:
    """Returns what so many nodes make of the updates and of TPC-C."""
    with running(("local",), 3, count) as laptop:
        node = laptop.nodes[0]
        run(
            node,
            "CREATE TABLE account (id int PRIMARY KEY, n int NOT NULL)",
            f"INSERT INTO account SELECT g, 0 FROM generate_series(0, {ACCOUNTS - 1}) g",
        )
        until("replicas", lambda: all(len(each) == count for each in voters(node, "account")))
        updates(laptop, count, 2.0)
        return [updates(laptop, count, arguments.seconds), tpcc(laptop, count, arguments.seconds)]


def throughput(arguments: argparse.Namespace) -> list[Row]:
    found = {count: loads(arguments, count) for count in (1, 3)}
    rows: list[Row] = []
    for at, name in ((0, "updates of one row, a second"), (1, "TPC-C (small), tpmC")):
        (one, one_ms), (three, three_ms) = found[1][at], found[3][at]
        rows.append(
            (
                name,
                f"one node {one:,.0f} ({one_ms:.2f} ms CPU each), three {three:,.0f} ({three_ms:.2f} ms): {three / one:.2f} of the rate",
            )
        )
    return rows


# --- WAN -------------------------------------------------------------------------------


def wan(arguments: argparse.Namespace) -> list[Row]:
    with running(REGIONS, 1, 3, "demo") as laptop:
        node = laptop.nodes[0]
        until("regions", lambda: len(run(node, "SHOW REGIONS FROM CLUSTER")) == len(REGIONS))
        run(
            node,
            f'ALTER DATABASE defaultdb PRIMARY REGION "{REGIONS[0]}"',
            *[f'ALTER DATABASE defaultdb ADD REGION "{region}"' for region in REGIONS[1:]],
            "CREATE TABLE home (id int PRIMARY KEY, n int)",
            "INSERT INTO home SELECT g, 0 FROM generate_series(1, 10) g",
        )
        until("voters", lambda: all(len(each) == 3 for each in voters(node, "home")))
        time.sleep(5)
        times = []
        with psycopg.connect(node.dsn, autocommit=True, prepare_threshold=0) as connection:
            for number in range(60):
                began = time.monotonic()
                connection.execute("UPDATE home SET n = n + 1 WHERE id = %s", (1 + number % 10,))
                times.append((time.monotonic() - began) * 1000)
        median = statistics.median(times[10:])
    return [
        (
            "commit at home, votes elsewhere",
            f"{median:.0f} ms, {median / PRIMARY_RTT_MS:.2f} round trips of {PRIMARY_RTT_MS:.0f} ms",
        )
    ]


# --- failover --------------------------------------------------------------------------


def failover(arguments: argparse.Namespace) -> list[Row]:
    gaps = []
    with running(("local",), 3, 3) as laptop:
        first = laptop.nodes[0]
        run(first, "CREATE TABLE f (id int PRIMARY KEY, n int)", "INSERT INTO f VALUES (1, 0)")
        until("replicas", lambda: all(len(each) == 3 for each in voters(first, "f")))
        for _ in range(FAILOVERS):
            gaps.append(_failover(laptop))
    return [
        (
            "leaseholder killed, until the next commit",
            f"median {statistics.median(gaps):.1f} s of {', '.join([f'{gap:.1f}' for gap in gaps])}",
        )
    ]


def _failover(laptop: Laptop) -> float:
    with psycopg.connect(laptop.nodes[0].dsn, autocommit=True, row_factory=psycopg.rows.dict_row) as connection:
        holder = connection.execute("SHOW RANGES FROM TABLE f").fetchall()[0]["lease_holder"]
    victim = next(node for node in laptop.nodes if node.node_id == holder)
    witness = next(node for node in laptop.nodes if node is not victim)
    with psycopg.connect(witness.dsn, autocommit=True) as connection:
        connection.execute("UPDATE f SET n = n + 1 WHERE id = 1")
        began = time.monotonic()
        laptop.kill([victim])
        while True:
            try:
                connection.execute("UPDATE f SET n = n + 1 WHERE id = 1")
                break
            except psycopg.Error:
                if connection.closed or time.monotonic() - began > SETTLE_SECONDS_MAX:
                    raise
        gap = time.monotonic() - began
    laptop.restart([victim])
    until("the restarted node", lambda: all(len(each) == 3 for each in voters(witness, "f")))
    time.sleep(5)
    return gap


# --- growth ----------------------------------------------------------------------------


def _join_two(laptop: Laptop, rows: int, ranges: int) -> float:
    """Loads the first node and lets two join; returns the seconds until every range has three replicas."""
    node = laptop.nodes[0]
    step = rows // ranges
    run(
        node,
        "CREATE TABLE big (id int PRIMARY KEY, filler text NOT NULL)",
        f"INSERT INTO big SELECT g, repeat(md5(g::text), 8) FROM generate_series(1, {rows}) g",
        *[f"ALTER TABLE big SPLIT AT VALUES ({at * step})" for at in range(1, ranges)],
    )
    return grown(laptop, laptop.nodes[1:3], lambda: sum(len(each) - 1 for each in voters(node, "big")), 2 * ranges)


def grown(laptop: Laptop, nodes: list[LaptopNode], count: Callable[[], int], target: int) -> float:
    """Starts nodes; returns the seconds from when the first of them takes part to the target of replicas."""
    starting = threading.Thread(target=laptop.restart, args=(nodes,))
    starting.start()
    members = len(laptop.nodes) - len(nodes)
    until("a new node", lambda: len(run(laptop.nodes[0], "SHOW NODES")) > members - _unstarted(laptop, nodes))
    taken = until("replicas", lambda: count() >= target)
    starting.join()
    return taken


def _unstarted(laptop: Laptop, starting: list[LaptopNode]) -> int:
    """Returns how many nodes are neither up nor about to be."""
    return sum(1 for node in laptop.nodes if node.state == DEAD and node not in starting)


def snapshots(arguments: argparse.Namespace) -> list[Row]:
    size = arguments.rows * ROW_BYTES / 1e6
    with running(("local",), 3, 1) as laptop:
        taken = _join_two(laptop, arguments.rows, 1)
    return [
        (
            "two nodes join one with a range of " + f"{size:.0f} MB",
            f"{2 * size / taken:.1f} MB/s of snapshots, {taken:.0f} s",
        )
    ]


def growth(arguments: argparse.Namespace) -> list[Row]:
    with running(("local",), 4, 1) as laptop:
        taken = _join_two(laptop, arguments.rows // 4, RANGES)
        rows: list[Row] = [
            (
                f"two nodes join one with {RANGES} small ranges",
                f"{2 * RANGES / taken:.1f} replicas a second, {taken:.0f} s",
            )
        ]
        node, known = laptop.nodes[0], [other.node_id for other in laptop.nodes[:3]]
        taken = grown(
            laptop,
            laptop.nodes[3:],
            lambda: sum(node_id not in known for each in voters(node, "big") for node_id in each),
            SHARE,
        )
        rows.append(("a fourth joins", f"{SHARE} replicas moved to it in {taken:.0f} s, {SHARE / taken:.1f} a second"))
    return rows


PARTS: Final[dict[str, Callable[[argparse.Namespace], list[Row]]]] = {
    "throughput": throughput,
    "wan": wan,
    "failover": failover,
    "snapshots": snapshots,
    "growth": growth,
}


def markdown(rows: list[Row], arguments: argparse.Namespace) -> str:
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    load = os.getloadavg()[0]
    lines = [
        f"Clusters on one machine (`python -m bench.cluster`), {day}: {os.cpu_count()} cores for all nodes and clients, pure Python,"
        f" {arguments.seconds} s a run, {CLIENTS} clients; load average {load:.1f}{', the machine busy with other work' if arguments.busy else ''}.",
        "",
        "| what | figure |",
        "| --- | --- |",
        *[f"| {what} | {figure} |" for what, figure in rows],
    ]
    return "\n".join(lines)


def write(text: str) -> None:
    """Puts the text between the markers, at the end if there are none yet."""
    page = RESULTS.read_text()
    if BEGIN not in page:
        page = f"{page.rstrip()}\n\n{BEGIN}\n{END}\n"
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    RESULTS.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def section(page: Path) -> str:
    """Returns what stands between the markers of a page, with them; "" if nothing does."""
    text = page.read_text() if page.exists() else ""
    _, begin, rest = text.partition(BEGIN)
    return f"{begin}{rest.partition(END)[0]}{END}\n" if begin else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--busy", action="store_true", help="say that the machine had other work")
    arguments = parser.parse_args()
    rows: list[Row] = []
    for name in arguments.only.split(","):
        found = PARTS[name](arguments)
        for what, figure in found:
            print(f"{what}: {figure}", flush=True)
        rows += found
    text = markdown(rows, arguments)
    print(text)
    if arguments.write:
        write(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
