"""Nodes as processes, for tests of the command line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
START_SECONDS_MAX = 60.0


def environment() -> dict[str, str]:
    """Ours without what would configure a node."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MERIDIAN_", "PG"))}


def meridian(*arguments: str, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "node.cli", *arguments],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=seconds,
    )


class NodeProcess:
    """A running ``meridian start``; ``dsn`` is what it printed, ``within`` what its command line begins with."""

    def __init__(self, store: Path, *arguments: str, within: tuple[str, ...] = ()) -> None:
        self.log = store.parent / "node.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *within,
                    sys.executable,
                    "-m",
                    "node.cli",
                    "start",
                    "--store",
                    str(store),
                    "--listen",
                    "127.0.0.1:0",
                    *arguments,
                ],
                cwd=ROOT,
                env=environment(),
                stdout=log,
                stderr=log,
            )
        self.dsn = self._printed(r'psql "([^"]+)"')

    def _printed(self, pattern: str) -> str:
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            found = re.search(pattern, self.output())
            if found:
                return found[1]
            assert self.process.poll() is None, self.output()
            time.sleep(0.02)
        raise AssertionError(f"the node did not start: {self.output()}")

    def output(self) -> str:
        return self.log.read_text()

    def http(self) -> str:
        return self._printed(r"http://([0-9.:]+)/healthz")

    def rpc(self) -> str:
        """Where it listens for other nodes."""
        return self._printed(r"nodes +([0-9.:]+), node")

    def wait(self, seconds: float = 30.0) -> int:
        return self.process.wait(timeout=seconds)


@contextmanager
def running(store: Path, *arguments: str) -> Iterator[NodeProcess]:
    """A node that is dead afterwards, whatever the test did."""
    node = NodeProcess(store, *arguments)
    try:
        yield node
    finally:
        if node.process.poll() is None:
            node.process.kill()
        node.process.wait()
