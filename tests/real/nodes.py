"""Several real nodes on loopback, for tests that kill them."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import psycopg

from tests.node.processes import NodeProcess

WAIT_SECONDS_MAX = 90.0


class Nodes:
    """Nodes 1..n; the first founds the cluster."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.running: dict[int, NodeProcess] = {}
        self.addresses: dict[int, str] = {}
        """Where each node listens for others: the same after a restart, as a configured node's."""

    def start(self, number: int) -> NodeProcess:
        """Starts a node, for the first time or again."""
        home = self.directory / f"n{number}"
        home.mkdir(exist_ok=True)
        arguments = [
            "--insecure",
            "--http",
            "",
            "--rpc",
            self.addresses.get(number, "127.0.0.1:0"),
            "--locality",
            f"region=r{number}",
        ]
        if number > 1 and not (home / "store").exists():
            arguments += ["--join", self.rpc(1)]
        self.running[number] = NodeProcess(home / "store", *arguments)
        self.addresses[number] = self.rpc(number)
        return self.running[number]

    def rpc(self, number: int) -> str:
        """Where a node listens for others."""
        found = re.search(r"nodes +([0-9.:]+), node", self.running[number].output())
        assert found is not None, self.running[number].output()
        return found[1]

    def connect(self, number: int) -> psycopg.Connection:
        return psycopg.connect(self.running[number].dsn, autocommit=True)

    def stop(self, number: int) -> None:
        """SIGTERM; the node drains."""
        process = self.running[number].process
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=WAIT_SECONDS_MAX) == 0, self.running[number].output()
        del self.running[number]

    def kill(self, number: int) -> None:
        """kill -9."""
        process = self.running.pop(number).process
        process.send_signal(signal.SIGKILL)
        process.wait()


def wait_for_replicas(nodes: Nodes, wanted: str) -> None:
    """Until every range has its replicas on these nodes."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    with nodes.connect(1) as connection:
        while time.monotonic() < deadline:
            cursor = connection.execute("SHOW RANGES FROM DATABASE defaultdb")
            assert cursor.description is not None
            place = [column.name for column in cursor.description].index("replicas")
            replicas = [row[place] for row in cursor.fetchall()]
            if replicas and all(found == wanted for found in replicas):
                return
            time.sleep(0.2)
    raise AssertionError(f"{replicas} instead of {wanted}")
