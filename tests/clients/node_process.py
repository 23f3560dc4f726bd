"""A node in a process of its own, for clients that speak over sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import psycopg

START_SECONDS_MAX: Final = 60
REPOSITORY: Final = Path(__file__).parents[2]


class RunningNode(NamedTuple):
    """Where a node listens and what it printed."""

    port: int
    store: Path
    log: Path

    def dsn(self, database: str = "defaultdb", user: str = "root") -> str:
        return f"host=127.0.0.1 port={self.port} user={user} dbname={database}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_node(directory: Path, *options: str) -> Iterator[RunningNode]:
    """Starts a node on an empty store, waits until it accepts connections, stops it at the end."""
    node = RunningNode(free_port(), directory / "store", directory / "log")
    command = [sys.executable, "-m", "node.cli", "start", "--store", str(node.store), "--http", ""]
    command += ["--listen", f"127.0.0.1:{node.port}", *options]
    with node.log.open("wb") as log:
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_until_open(process, node)
        yield node
    finally:
        process.terminate()
        process.wait(30)


def _wait_until_open(process: subprocess.Popen[bytes], node: RunningNode) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        assert process.poll() is None, node.log.read_text()
        try:
            socket.create_connection(("127.0.0.1", node.port), 1).close()
            if "started" in node.log.read_text():
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"not open after {START_SECONDS_MAX} s: {node.log.read_text()}")


def fresh_database(node: RunningNode, name: str) -> str:
    """Makes an empty database and returns its DSN."""
    with psycopg.connect(node.dsn(), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name}".encode())
        admin.execute(f"CREATE DATABASE {name}".encode())
    return node.dsn(name)


def run_program(
    node: RunningNode, *arguments: str, database: str = "defaultdb", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs a client program with libpq's environment set for the node."""
    known = {"PGHOST": "127.0.0.1", "PGPORT": str(node.port), "PGUSER": "root", "PGDATABASE": database}
    return subprocess.run(
        arguments, env={**os.environ, **known, **environment}, capture_output=True, text=True, timeout=120, check=False
    )
