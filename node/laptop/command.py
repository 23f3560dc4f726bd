"""``meridian demo --regions ..``: starts the cluster, says where everything is, opens the prompt, ends the cluster."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psycopg
from rich.console import Console
from rich.table import Table

from kvtier.rpc.wan import LatencyMatrix
from node.laptop.cluster import Laptop, LaptopError
from node.laptop.load import Bank
from node.laptop.prompt import Prompt
from node.laptop.tpcc import TpccLoad
from node.transport.wan import WanError, load

DEMO_RTT_MS: Final = {"us-east": {"eu-west": 80.0, "ap-south": 140.0}, "eu-west": {"ap-south": 60.0}}
"""Round numbers for three regions of no cloud in particular; ``builtin`` has measured ones for ten of one."""
EXIT_INTERRUPTED: Final = 130


def run(
    regions: Sequence[str], nodes_per_region: int, latency: str, lines: Sequence[str], loads: str, keep: str | None
) -> int:
    """Returns the exit code: 0 if every line of a script, or nothing of a conversation, failed."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    console = Console()
    with tempfile.TemporaryDirectory(prefix="meridian-demo-") as scratch:
        directory = Path(keep or scratch)
        try:
            matrix, source = _matrix(latency, regions, directory)
            laptop = Laptop(directory, regions, nodes_per_region, source)
        except (LaptopError, WanError, OSError) as problem:
            print(f"meridian: {problem}", file=sys.stderr)
            return 2
        try:
            return _serve(laptop, matrix, lines, loads, console, directory)
        except (LaptopError, psycopg.Error) as problem:
            print(f"meridian: {problem}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED
        finally:
            laptop.stop()


def _matrix(latency: str, regions: Sequence[str], directory: Path) -> tuple[LatencyMatrix | None, str]:
    """Returns the table, and what to tell the nodes; raises WanError if it lacks a region."""
    if latency == "off":
        return None, ""
    if latency == "demo":
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / "latency.toml"
        rows = [
            f"[rtt_ms.{one}]\n" + "".join(f"{two} = {ms}\n" for two, ms in row.items())
            for one, row in DEMO_RTT_MS.items()
        ]
        file.write_text("\n".join(rows))
        latency = str(file)
    matrix = load(latency)
    missing = [region for region in regions if region not in matrix.regions]
    if missing and len(regions) > 1:
        raise WanError(
            f"no latency is known for region {missing[0]}; known are {', '.join(matrix.regions)}.  "
            "--latency builtin has ten regions, --latency FILE your own, --latency off none"
        )
    return matrix, latency


def _serve(
    laptop: Laptop, matrix: LatencyMatrix | None, lines: Sequence[str], loads: str, console: Console, directory: Path
) -> int:
    began = time.monotonic()
    with console.status(f"starting {len(laptop.nodes)} nodes"):
        laptop.start()
    console.print(
        f"started {len(laptop.nodes)} nodes in {len(laptop.regions)} regions in {time.monotonic() - began:.1f} s"
    )
    _announce(laptop, matrix, console)
    bank, tpcc = None, None
    if loads == "bank":
        bank = Bank(laptop)
        bank.create()
        bank.start()
        console.print("the bank is open: one teller in each region moves money between 60 accounts")
    if loads == "tpcc":
        tpcc = TpccLoad(laptop, directory)
        with console.status("loading TPC-C, a small warehouse for each region"):
            tpcc.create()
        tpcc.start()
        console.print(
            "TPC-C runs: terminals in each region, at home in its warehouse; \\check looks at its conditions",
            markup=False,
        )
    prompt = Prompt(laptop, bank, console, tpcc)
    try:
        if lines:
            return 0 if prompt.run(lines) else 1
        console.print("SQL ends with a semicolon; \\help lists what can be broken, \\tour shows around", markup=False)
        prompt.talk()
        return 0
    finally:
        if bank is not None:
            bank.stop()
        if tpcc is not None:
            console.print(tpcc.stop(), markup=False, soft_wrap=True)


def _announce(laptop: Laptop, matrix: LatencyMatrix | None, console: Console) -> None:
    for region in laptop.regions:
        node = laptop.first_up(region)
        console.print(f'  psql "{node.dsn}"   # {region}', markup=False, soft_wrap=True)
    for node in laptop.nodes:
        console.print(f"  node {node.number} {node.zone:<14} http://{node.http}/metrics", markup=False)
    if matrix is not None and len(laptop.regions) > 1:
        table = Table(title="round trips, ms")
        for name in ("", *laptop.regions):
            table.add_column(name)
        for one in laptop.regions:
            table.add_row(one, *[f"{matrix.rtt_ms(one, two):g}" for two in laptop.regions])
        console.print(table)
