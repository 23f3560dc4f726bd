"""``meridian demo``: a node, TPC-C loaded and run, its consistency checked, the report printed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import psycopg

START_SECONDS_MAX: Final = 30.0
PORT: Final = 26256
CONNECTIONS: Final = 8


def run(warehouses: int, seconds: int, keep: str | None) -> int:
    """Returns the exit code: 0 if every consistency condition holds."""
    with tempfile.TemporaryDirectory(prefix="meridian-demo-") as scratch:
        store = Path(keep or scratch) / "store"
        output = Path(keep or "demo-data")
        dsn = f"postgresql://root@127.0.0.1:{PORT}/defaultdb?sslmode=disable"
        node = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "node.cli",
                "start",
                "--insecure",
                "--store",
                str(store),
                "--listen",
                f"127.0.0.1:{PORT}",
                "--http",
                "",
            ]
        )
        try:
            if not _wait(node, dsn):
                return 1
            print(f"\nA psql prompt on this node:  psql '{dsn}'\n", flush=True)
            return _benchmark(dsn, warehouses, seconds, output)
        finally:
            node.terminate()
            node.wait(timeout=30)


def _wait(node: subprocess.Popen[bytes], dsn: str) -> bool:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if node.poll() is not None:
            return False
        try:
            psycopg.connect(dsn, connect_timeout=2).close()
        except psycopg.OperationalError:
            time.sleep(0.1)
            continue
        return True
    print("meridian: the node did not answer in time", file=sys.stderr)
    return False


def _benchmark(dsn: str, warehouses: int, seconds: int, output: Path) -> int:
    steps = (
        ["load", "--dsn", dsn, "--warehouses", str(warehouses), "--drop"],
        ["run", "--dsn", dsn, "--connections", str(CONNECTIONS), "--duration", str(seconds), "--output", str(output)],
        ["check", "--dsn", dsn],
    )
    for step in steps:
        code = subprocess.run([sys.executable, "-m", "node.cli", "tpcc", *step], check=False).returncode
        if code:
            return code
    print(f"\nReport: {output / 'report.html'}")
    return 0
