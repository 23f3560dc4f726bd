"""``meridian demo``: a node, TPC-C loaded and run, its consistency checked, the report printed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psycopg

START_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 30.0
PORT: Final = 26256
"""Not a node's usual port: the demo runs beside a node of yours.  Any free one if it is taken."""
CONNECTIONS: Final = 8
EXIT_INTERRUPTED: Final = 130


def run(warehouses: int, seconds: int, keep: str | None) -> int:
    """Returns the exit code: 0 if every consistency condition holds."""
    # An orchestrator's SIGTERM must end the node too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="meridian-demo-") as scratch:
        store = Path(keep or scratch) / "store"
        output = Path(keep or "demo-data")
        port = _free_port()
        dsn = f"postgresql://root@127.0.0.1:{port}/defaultdb?sslmode=disable"
        print(f"Starting a node, store {store}", flush=True)
        try:
            with _node(store, port) as node:
                if not _wait(node, dsn):
                    return 1
                print(f'\nWhile it runs, look at it:  psql "{dsn}"\n', flush=True)
                code = _benchmark(dsn, warehouses, seconds, output)
        except KeyboardInterrupt:
            print("\nmeridian: demo interrupted", file=sys.stderr)
            return EXIT_INTERRUPTED
    if code == 0:
        print(f"\nReport: {output / 'report.html'}")
        if keep:
            print(f"Store kept; serve it with:  meridian start --insecure --store {store}")
    return code


def _free_port() -> int:
    for port in (PORT, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")


@contextlib.contextmanager
def _node(store: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A node in a process of its own, stopped at the end, whatever happens."""
    listen = ["--listen", f"127.0.0.1:{port}", "--http", ""]
    node = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "node.cli",
            "start",
            "--insecure",
            "--store",
            str(store),
            *listen,
            "--log-format",
            "json",
        ],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "MERIDIAN_LOG_LEVEL": "warning"},
        # Ctrl-C is for the demo, which then stops the node.
        start_new_session=True,
    )
    try:
        yield node
    finally:
        node.terminate()
        try:
            node.wait(timeout=STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            node.kill()
            node.wait()


def _wait(node: subprocess.Popen[bytes], dsn: str) -> bool:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if node.poll() is not None:
            return False
        try:
            psycopg.connect(dsn, connect_timeout=2).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
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
    return 0
