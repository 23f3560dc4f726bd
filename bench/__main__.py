"""Runs everything and writes bench/RESULTS.md.

python -m bench [--seconds 15] [--rounds 3] [--warehouses 10] [--scale 10] [--only pgbench,sysbench,tpcc]
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from bench import clients
from bench.cluster import section
from bench.servers import Meridian, Missing, Postgres, Server, require_tools

RESULTS = Path(__file__).parent / "RESULTS.md"
GOALS = {
    "pgbench select-only, prepared": 0.7,
    "pgbench select-only, simple": 0.5,
    "pgbench tpcb-like, prepared": 0.7,
    "sysbench oltp_read_write": 0.5,
    "TPC-C tpmC, serializable": 0.6,
}


class Table:
    """Rates by test and server, round by round."""

    def __init__(self) -> None:
        self.rates: dict[str, dict[str, list[float]]] = {}
        self.notes: dict[str, str] = {}

    def measure(self, name: str, servers: list[Server], rounds: int, run: Callable[[Server], float]) -> None:
        """Alternates between the servers, so that both see the same noise."""
        for _ in range(rounds):
            for server in servers:
                rate = run(server)
                self.rates.setdefault(name, {}).setdefault(server.name, []).append(rate)
                print(f"{name:45} {server.name:11} {rate:12,.1f}", flush=True)

    def markdown(self) -> str:
        lines = ["| test | PostgreSQL 15 | Meridian | ratio | goal |", "| --- | --- | --- | --- | --- |"]
        for name, by_server in self.rates.items():
            pg, ours = (statistics.median(by_server.get(s, [0.0])) for s in ("postgresql", "meridian"))
            ratio = ours / pg if pg else 0.0
            goal = GOALS.get(name)
            reached = "" if goal is None else f"{goal} {'reached' if ratio >= goal else 'not reached'}"
            lines.append(f"| {name} | {pg:,.0f} | {ours:,.0f} | {ratio:.2f} | {reached} |")
        return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warehouses", type=int, default=10)
    parser.add_argument("--scale", type=int, default=10)
    parser.add_argument("--only", default="pgbench,sysbench,tpcc")
    parser.add_argument("--output", default=str(RESULTS))
    arguments = parser.parse_args()
    try:
        require_tools()
    except Missing as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 2
    compiled = Path("build/compiled/.done").exists()
    servers: list[Server] = [Postgres(54321), Meridian(54322, compiled)]
    table = Table()
    try:
        for server in servers:
            for database in ("bench", "tpcc"):
                server.sql(f"CREATE DATABASE {database}")
        only = arguments.only.split(",")
        if "pgbench" in only:
            run_pgbench(table, servers, arguments)
        if "sysbench" in only:
            run_sysbench(table, servers, arguments)
        if "tpcc" in only:
            run_tpcc(table, servers, arguments)
    finally:
        for server in servers:
            server.stop()
        write(table, arguments, compiled)
    return 0


def run_pgbench(table: Table, servers: list[Server], arguments: argparse.Namespace) -> None:
    for server in servers:
        clients.pgbench_init(server, arguments.scale)
    for script in ("select-only", "simple-update", "tpcb-like"):
        for mode in ("prepared", "simple"):
            table.measure(
                f"pgbench {script}, {mode}",
                servers,
                arguments.rounds,
                lambda s, x=script, m=mode: clients.pgbench(s, x, m, arguments.seconds),  # type: ignore[misc]
            )


def run_sysbench(table: Table, servers: list[Server], arguments: argparse.Namespace) -> None:
    for server in servers:
        clients.sysbench_prepare(server, 4, 10_000)
    for test in ("oltp_point_select", "oltp_read_write", "oltp_write_only"):
        table.measure(
            f"sysbench {test}",
            servers,
            arguments.rounds,
            lambda s, t=test: clients.sysbench(s, t, 4, 10_000, arguments.seconds),
        )  # type: ignore[misc]


def run_tpcc(table: Table, servers: list[Server], arguments: argparse.Namespace) -> None:
    for server in servers:
        clients.tpcc_load(server, arguments.warehouses)
    for isolation in ("serializable", "read committed"):
        name = f"TPC-C tpmC, {isolation}"

        def rate(server: Server, isolation: str = isolation, name: str = name) -> float:
            result = clients.tpcc(server, arguments.seconds * 2, isolation)
            table.notes[f"{name}, {server.name}"] = f"{result['new_order_40001_percent']} % of New-Orders met 40001"
            return float(result["tpmc"])  # type: ignore[arg-type]

        table.measure(name, servers, arguments.rounds, rate)


def write(table: Table, arguments: argparse.Namespace, compiled: bool) -> None:
    """Writes what was measured, reached or not."""
    lines = [
        "# Results",
        "",
        f"{datetime.datetime.now(datetime.UTC).date().isoformat()}: medians of {arguments.rounds} alternating runs of {arguments.seconds} s, {clients.CLIENTS} connections, "
        f"2 cores shared by client and server, fsync on for both; Meridian {'compiled' if compiled else 'pure Python'}.",
        "Written by `make bench`.",
        "",
        table.markdown(),
        "",
        *[f"- {name}: {note}" for name, note in table.notes.items()],
        "",
    ]
    page = Path(arguments.output)
    page.write_text("\n".join([*lines, section(page)]))
    print("\n".join(lines))


if __name__ == "__main__":
    raise SystemExit(main())
