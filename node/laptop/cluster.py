"""The processes of a cluster on this machine, and what can be done to them.

    node 1 founds the cluster, the others join it; every node is a ``meridian start`` of its own with
    a store, three free ports, a locality and a table of latencies

Network, clock and disk are broken through each node's POST /faults (``node.faults``), processes through
signals.  What a node was told is told again after its restart, so that a partition outlives a crash.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

START_SECONDS_MAX: Final = 120.0
STOP_SECONDS_MAX: Final = 30.0
HTTP_SECONDS_MAX: Final = 5.0
POLL_SECONDS: Final = 0.05
NODES_MAX: Final = 30
CACHE_MB: Final = 64
ZONES: Final = "abcdefghijklmnopqrstuvwxyzABCD"
"""Of a region, one a node: NODES_MAX of them."""

UP: Final = "up"
PAUSED: Final = "paused"
DEAD: Final = "dead"


class LaptopError(Exception):
    """A command that cannot be obeyed, or a process that does not start; says why."""


class LaptopNode:
    """One process."""

    def __init__(self, number: int, region: str, zone: str, directory: Path) -> None:
        self.number = number
        self.region = region
        self.zone = zone
        self.directory = directory
        self.node_id = 0
        self.dsn = ""
        self.http = ""
        self.rpc = ""
        self.state = DEAD
        self.process: subprocess.Popen[bytes] | None = None
        self.cut_from: dict[int, None] = {}
        self.told: dict[str, dict[str, Any]] = {}
        """Skew, slow disk, delays: to be told again after a restart."""

    @property
    def log(self) -> Path:
        return self.directory / "node.log"

    def printed(self, pattern: str) -> str | None:
        """Finds something in what the node has printed since it was started."""
        found = re.search(pattern, self.log.read_text(errors="replace"))
        return None if found is None else found[1]


class Laptop:
    """All nodes; raises LaptopError."""

    def __init__(self, directory: Path, regions: Sequence[str], nodes_per_region: int, latency: str) -> None:
        if not 1 <= len(regions) * nodes_per_region <= NODES_MAX:
            raise LaptopError(f"{len(regions) * nodes_per_region} nodes; 1 to {NODES_MAX} are possible")
        if len(dict.fromkeys(regions)) != len(regions):
            raise LaptopError("each region can be named once")
        self.regions = list(regions)
        self.latency = latency
        # Nodes of one zone of every region first: the first copies of everything are then far from each other.
        places = [(at, region) for at in range(nodes_per_region) for region in regions]
        self.nodes = [
            LaptopNode(number, region, f"{region}-{ZONES[at]}", directory / f"n{number}")
            for number, (at, region) in enumerate(places, 1)
        ]

    # --- processes -------------------------------------------------------------------

    def start(self) -> None:
        """Starts all nodes and waits until each answers."""
        for node in self.nodes:
            self._spawn(node)
            if node is self.nodes[0]:
                self._wait(node)
        for node in self.nodes[1:]:
            self._wait(node)

    def _spawn(self, node: LaptopNode) -> None:
        node.directory.mkdir(parents=True, exist_ok=True)
        arguments = [
            "--insecure", "--store", str(node.directory / "store"), "--cache-mb", str(CACHE_MB),
            "--listen", _address_of(node.dsn), "--http", node.http or "127.0.0.1:0", "--rpc", node.rpc or "127.0.0.1:0",
            "--locality", f"region={node.region},zone={node.zone}", "--allow-faults", "--log-format", "json",
        ]  # fmt: skip
        if self.latency:
            arguments += ["--latency", self.latency]
        if node is not self.nodes[0]:
            arguments += ["--join", self.nodes[0].rpc]
        with node.log.open("wb") as log:
            node.process = subprocess.Popen(
                [sys.executable, "-m", "node.cli", "start", *arguments],
                stdout=log,
                stderr=log,
                env={**os.environ, "MERIDIAN_LOG_LEVEL": "warning"},
                start_new_session=True,  # Ctrl-C is for the prompt.
            )

    def _wait(self, node: LaptopNode) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            dsn = node.printed(r'psql "([^"]+)"')
            if dsn is not None and node.printed(r"metrics +(http\S+)"):
                break
            assert node.process is not None, node.number
            if node.process.poll() is not None or time.monotonic() > deadline:
                raise LaptopError(f"node {node.number} does not start: {node.log.read_text(errors='replace')[-2000:]}")
            time.sleep(POLL_SECONDS)
        node.dsn = dsn
        node.http = node.printed(r"http://([0-9.:]+)/healthz") or ""
        node.rpc = node.printed(r"nodes +([0-9.:]+), node") or ""
        node.node_id = int(node.printed(r"nodes +\S+, node (\d+)") or 0)
        node.state = UP

    def stop(self) -> None:
        """Ends everything; never fails."""
        for node in self.nodes:
            if node.process is not None and node.process.poll() is None:
                node.process.send_signal(signal.SIGCONT)
                node.process.kill()
        for node in self.nodes:
            if node.process is not None:
                node.process.wait()

    def kill(self, nodes: Sequence[LaptopNode]) -> None:
        """kill -9."""
        for node in nodes:
            if node.process is not None and node.state != DEAD:
                node.process.kill()
                node.process.wait()
                node.state = DEAD

    def restart(self, nodes: Sequence[LaptopNode]) -> None:
        """Starts what is dead on the same store and ports."""
        dead = [node for node in nodes if node.state == DEAD]
        for node in dead:
            self._spawn(node)
        for node in dead:
            self._wait(node)
            for fault in node.told.values():
                self._tell(node, fault)
        self._tell_cuts()

    def pause(self, nodes: Sequence[LaptopNode]) -> None:
        """SIGSTOP: the process stands still and its clock goes on."""
        for node in nodes:
            if node.state == UP and node.process is not None:
                node.process.send_signal(signal.SIGSTOP)
                node.state = PAUSED

    def resume(self, nodes: Sequence[LaptopNode]) -> None:
        """Ends a pause."""
        for node in nodes:
            if node.state == PAUSED and node.process is not None:
                node.process.send_signal(signal.SIGCONT)
                node.state = UP

    # --- network, clock, disk --------------------------------------------------------

    def partition(self, ones: Sequence[LaptopNode], others: Sequence[LaptopNode], is_one_way: bool = False) -> None:
        """Nothing passes between the two sides; one way: nothing reaches ``others`` from ``ones``."""
        for one in ones:
            for other in others:
                if one is not other:
                    one.cut_from[other.node_id] = None
                    if not is_one_way:
                        other.cut_from[one.node_id] = None
        self._tell_cuts()

    def heal(self) -> None:
        """Ends every partition."""
        for node in self.nodes:
            node.cut_from.clear()
        self._tell_cuts()

    def _tell_cuts(self) -> None:
        for node in self.nodes:
            if node.state == UP:
                self._tell(node, {"do": "heal"})
                if node.cut_from:
                    self._tell(node, {"do": "cut", "to": list(node.cut_from)})

    def add_latency(self, ones: Sequence[LaptopNode], others: Sequence[LaptopNode], ms: float) -> None:
        """Adds to the round trip between two sides; half of it in each direction."""
        for side, far in ((ones, others), (others, ones)):
            to = [node.node_id for node in far]
            for node in side:
                self._tell_kept(node, f"delay {to}", {"do": "delay", "to": to, "ms": ms / 2})

    def set_latency(self, rtt_ms: dict[str, dict[str, float]] | None) -> None:
        """Another table of round trips for all; None for none."""
        for node in self.nodes:
            self._tell_kept(node, "latency", {"do": "latency", "rtt_ms": rtt_ms})

    def skew(self, nodes: Sequence[LaptopNode], ms: float) -> None:
        """Wall clocks are wrong by so much."""
        for node in nodes:
            self._tell_kept(node, "skew", {"do": "skew", "ms": ms})

    def slow_disk(self, nodes: Sequence[LaptopNode], ms: float) -> None:
        """Every sync takes so much longer."""
        for node in nodes:
            self._tell_kept(node, "slow-disk", {"do": "slow-disk", "ms": ms})

    def _tell_kept(self, node: LaptopNode, name: str, fault: dict[str, Any]) -> None:
        node.told[name] = fault
        if node.state == UP:
            self._tell(node, fault)

    def _tell(self, node: LaptopNode, fault: dict[str, Any]) -> None:
        request = urllib.request.Request(f"http://{node.http}/faults", json.dumps(fault).encode(), method="POST")
        try:
            with urllib.request.urlopen(request, timeout=HTTP_SECONDS_MAX):  # noqa: S310  # a node of ours
                pass
        except urllib.error.HTTPError as problem:
            raise LaptopError(f"node {node.number}: {problem.read().decode(errors='replace')}") from None
        except OSError as problem:
            raise LaptopError(f"node {node.number} does not answer: {problem}") from None

    # --- asking ------------------------------------------------------------------------

    def metrics(self, node: LaptopNode) -> dict[str, float]:
        """A node's Prometheus metrics without labels; empty if it does not answer."""
        if node.state != UP:
            return {}
        try:
            with urllib.request.urlopen(f"http://{node.http}/metrics", timeout=HTTP_SECONDS_MAX) as answer:
                text = answer.read().decode()
        except OSError:
            return {}
        lines = [line.split() for line in text.splitlines() if line and line[0] != "#" and "{" not in line]
        return {words[0]: float(words[1]) for words in lines if len(words) == 2}

    def find(self, name: str) -> list[LaptopNode]:
        """Returns the nodes of a region or zone, or the one of this number (``2`` or ``n2``)."""
        found = [node for node in self.nodes if name in (str(node.number), f"n{node.number}", node.region, node.zone)]
        if not found:
            raise LaptopError(
                f"{name} is no region, zone or node; regions: {', '.join(self.regions)}; nodes: 1..{len(self.nodes)}"
            )
        return found

    def first_up(self, region: str = "") -> LaptopNode:
        """Returns a node to talk to."""
        for node in self.nodes:
            if node.state == UP and region in ("", node.region):
                return node
        raise LaptopError(f"no node is up{' in ' + region if region else ''}")


def _address_of(dsn: str) -> str:
    """host:port of a connection string, any free port of none."""
    found = re.search(r"@([0-9.]+:\d+)/", dsn)
    return "127.0.0.1:0" if found is None else found[1]
